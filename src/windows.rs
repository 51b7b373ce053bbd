//! Maintenance windows: the hours of the week, in UTC, in which a bridge applies; pure.
//!
//! UTC alone, since an hour of another zone comes twice in a year, or never, and the rules for that change.

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY_MINUTES: i64 = 24 * 60;
const MINUTE_MICROS: i64 = 60_000_000;

/// How one is written, for who wrote it otherwise.
pub(crate) const FORM: &str = "\"22:00-06:00\", \"Mon-Fri 22:00-06:00\" or \"Sun 00:00-24:00\", in UTC";

/// When it applies; without any, always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

/// On some days from a minute on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// On which it begins, from Monday on.
    days: [bool; 7],
    /// The minute of the day.
    from: i64,
    /// At most a day; it may reach into the next one.
    minutes: i64,
}

impl Windows {
    /// Adds what a text says. Whether it is a window.
    #[must_use]
    pub fn add(&mut self, text: &str) -> bool {
        let window = window(text);
        let is_one = window.is_some();
        self.0.extend(window);
        is_one
    }

    /// Whether there is none, so that it is always open.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next one opens, in microseconds since 1970 UTC as `now` is; `None` within one.
    pub fn opens(&self, now: i64) -> Option<i64> {
        if self.is_none() {
            return None;
        }
        let (minute, today) = (now.div_euclid(MINUTE_MICROS), now.div_euclid(DAY_MINUTES * MINUTE_MICROS));
        // From yesterday's, which may not be over, to those of today in a week.
        let begin = |window: &Window, day: i64| window.is_on(day).then_some(day * DAY_MINUTES + window.from);
        let begins = || (today - 1..=today + 7).flat_map(|day| self.0.iter().map(move |window| (window, day)));
        let mut next = None;
        for (window, day) in begins() {
            match begin(window, day) {
                Some(begin) if begin <= minute && minute < begin + window.minutes => return None,
                Some(begin) if begin > minute => next = Some(next.map_or(begin, |next: i64| next.min(begin))),
                _ => {}
            }
        }
        next.map(|minute| minute * MINUTE_MICROS)
    }
}

impl Window {
    fn is_on(&self, day: i64) -> bool {
        // 1970 began on a Thursday.
        usize::try_from((day + 3).rem_euclid(7)).is_ok_and(|weekday| self.days[weekday])
    }
}

fn window(text: &str) -> Option<Window> {
    let (days, hours) = text.trim().rsplit_once(' ').unwrap_or(("Mon-Sun", text.trim()));
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    let minutes = if to > from { to - from } else { to + DAY_MINUTES - from };
    let is_one = from < DAY_MINUTES && from != to;
    is_one.then_some(Window { days: weekdays(days.trim())?, from, minutes })
}

/// From `00:00` to `24:00`.
fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<i64>().ok());
    let (hour, minute) = (number(hour)??, number(minute)??);
    (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
}

fn weekdays(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| DAYS.iter().position(|day| *day == text);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    Some(std::array::from_fn(|day| (day + 7 - first) % 7 <= (last + 7 - first) % 7))
}

#[cfg(test)]
mod tests {
    use pontoon_core::calendar::format_instant;
    use proptest::prelude::*;

    use super::*;

    fn windows(texts: &[&str]) -> Windows {
        let mut windows = Windows::default();
        assert!(texts.iter().all(|text| windows.add(text)), "{texts:?}");
        windows
    }

    /// Monday 2026-11-30 00:00 UTC.
    const MONDAY: i64 = 1_795_996_800_000_000;

    fn at(day: i64, hour: i64, minute: i64) -> i64 {
        MONDAY + ((day * 24 + hour) * 60 + minute) * MINUTE_MICROS
    }

    #[test]
    fn the_hours_of_the_week() {
        assert_eq!(format_instant(MONDAY), "2026-11-30T00:00:00Z");
        let nights = windows(&["Mon-Fri 22:00-06:00", "Sun 00:00-24:00"]);
        for (now, opens) in [
            // Sunday's are over, and Monday's have not begun.
            (at(0, 0, 0), Some(at(0, 22, 0))),
            (at(0, 21, 59) + 59_999_999, Some(at(0, 22, 0))),
            (at(0, 22, 0), None),
            (at(1, 5, 59) + 59_999_999, None),
            (at(1, 6, 0), Some(at(1, 22, 0))),
            // That of Friday goes on into Saturday, which has none.
            (at(5, 5, 59), None),
            (at(5, 6, 0), Some(at(6, 0, 0))),
            (at(6, 23, 59), None),
            (at(7, 0, 0), Some(at(7, 22, 0))),
        ] {
            assert_eq!(nights.opens(now), opens, "{}", format_instant(now));
        }
        assert_eq!(windows(&["Wed 10:00-10:01"]).opens(at(2, 10, 1)), Some(at(9, 10, 0)), "in a week");
        assert_eq!(windows(&["Sat-Mon 10:00-11:00"]).opens(at(1, 0, 0)), Some(at(5, 10, 0)));
        assert_eq!(windows(&["06:00-05:59"]).opens(at(3, 5, 59)), Some(at(3, 6, 0)));
        assert_eq!(Windows::default().opens(MONDAY), None);
        assert!(windows(&["00:00-24:00"]).opens(at(3, 23, 59)).is_none());
    }

    #[test]
    fn what_is_no_window() {
        for text in [
            "",
            "22:00",
            "22:00-",
            "22-06",
            "2:00-6:00",
            "22:00-22:00",
            "24:00-06:00",
            "22:00-24:01",
            "22:60-23:00",
            "mon 22:00-23:00",
            "Mon-Fry 22:00-23:00",
            "Mon,Tue 22:00-23:00",
            "22:00-06:00 Europe/Berlin",
            "+2:00-06:00",
        ] {
            assert!(!Windows::default().add(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_opens_when_it_says(from in 0i64..1440, to in 0i64..=1440, day in 0usize..7, now in 0i64..20_000) {
            prop_assume!(from != to);
            let clock = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
            let windows = windows(&[&format!("{} {}-{}", DAYS[day], clock(from), clock(to))]);
            if let Some(opens) = windows.opens(MONDAY + now * MINUTE_MICROS) {
                prop_assert!(windows.opens(opens).is_none());
                prop_assert!(windows.opens(opens - 1) == Some(opens));
            }
        }
    }
}
