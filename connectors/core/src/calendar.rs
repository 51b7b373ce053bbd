//! Days and microseconds to and from text, by the proleptic Gregorian calendar.
//!
//! Kept as integers because that is what both logs and all comparisons need; jiff does the
//! arithmetic. The range is years -9999 to 9999, which covers MySQL's and is narrower than
//! PostgreSQL's: what lies outside has no common form.

use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime},
};

/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

const SECONDS_PER_DAY: i64 = 86_400;

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// Days since 1970-01-01 of a date; `None` for a date that does not exist.
pub fn days(year: i16, month: i8, day: i8) -> Option<i32> {
    let date = Date::new(year, month, day).ok()?;
    Some(days_of(date))
}

fn days_of(date: Date) -> i32 {
    // The calendar's range in days is far within both types.
    (date.duration_since(EPOCH).as_secs() / SECONDS_PER_DAY) as i32
}

/// Microseconds of a civil date and time since 1970-01-01 00:00:00 of the same calendar.
pub fn micros(date_days: i32, time_micros: i64) -> i64 {
    i64::from(date_days) * MICROS_PER_DAY + time_micros
}

/// Not by way of jiff's `Timestamp`, which ends a day before the year 9999 does.
fn date(days: i64) -> Option<Date> {
    EPOCH.checked_add(Span::new().try_days(days).ok()?).ok()
}

fn micros_of(datetime: DateTime) -> i64 {
    let time = datetime.time();
    let seconds = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
    micros(days_of(datetime.date()), seconds * 1_000_000 + i64::from(time.subsec_nanosecond() / 1000))
}

/// `2026-11-23`.
pub fn format_date(days: i32) -> String {
    match date(days.into()) {
        Some(date) => date.to_string(),
        None => format!("day {days}"),
    }
}

/// `10:00:00.123456`; the fraction is left out where it is zero. Beyond a day the hours count on.
pub fn format_time(micros: i64) -> String {
    let (sign, rest) = if micros < 0 { ("-", micros.unsigned_abs()) } else { ("", micros.unsigned_abs()) };
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let clock = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { clock } else { format!("{clock}.{fraction:06}") }
}

/// `2026-11-23T10:00:00.123456`; the fraction is left out where it is zero.
pub fn format_datetime(micros: i64) -> String {
    let days = micros.div_euclid(MICROS_PER_DAY);
    let date = i32::try_from(days).map_or_else(|_| format!("day {days}"), format_date);
    format!("{date}T{}", format_time(micros.rem_euclid(MICROS_PER_DAY)))
}

/// `2026-11-23T10:00:00.123456Z`.
pub fn format_instant(micros: i64) -> String {
    format!("{}Z", format_datetime(micros))
}

/// Reads what [`format_date`] writes.
pub fn parse_date(text: &str) -> Option<i32> {
    text.parse::<Date>().ok().map(days_of)
}

/// Reads `HH:MM:SS[.ffffff]`, also negative and beyond a day, as MySQL's TIME writes it.
pub fn parse_time(text: &str) -> Option<i64> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (clock, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut parts = clock.split(':').map(|part| {
        (part.len() >= 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i64>().ok()).flatten()
    });
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hours > 1_000_000 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + parse_fraction(fraction)?;
    Some(if negative { -micros } else { micros })
}

fn parse_fraction(text: &str) -> Option<i64> {
    if text.len() > 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{text:0<6}").parse().ok()
}

/// Reads a civil date and time with `T` or a blank between.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let time = parse_time(time)?;
    (0..MICROS_PER_DAY).contains(&time).then_some(())?;
    let at = parse_date(date)?;
    Some(micros(at, time))
}

/// Reads what [`format_instant`] writes, and RFC 3339 with an offset.
pub fn parse_instant(text: &str) -> Option<i64> {
    match text.strip_suffix('Z') {
        Some(civil) => parse_datetime(civil),
        None => text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond),
    }
}

/// Splits a civil date and time into year, month, day, hour, minute, second, microsecond.
pub fn civil_parts(micros: i64) -> Option<(i16, i8, i8, i8, i8, i8, i32)> {
    let date = date(micros.div_euclid(MICROS_PER_DAY))?;
    let clock = micros.rem_euclid(MICROS_PER_DAY);
    let (seconds, micros) = (clock / 1_000_000, (clock % 1_000_000) as i32);
    let (hour, minute, second) = ((seconds / 3600) as i8, (seconds / 60 % 60) as i8, (seconds % 60) as i8);
    Some((date.year(), date.month(), date.day(), hour, minute, second, micros))
}

/// The civil microseconds of its parts; `None` where no such moment exists (a zero date).
#[allow(clippy::too_many_arguments, reason = "a calendar has that many fields")]
pub fn from_civil_parts(year: i16, month: i8, day: i8, hour: i8, minute: i8, second: i8, micros: i32) -> Option<i64> {
    Some(micros_of(DateTime::new(year, month, day, hour, minute, second, micros.checked_mul(1000)?).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn instants_round_trip(micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
            prop_assert_eq!(parse_instant(&format_instant(micros)), Some(micros));
            prop_assert_eq!(parse_datetime(&format_datetime(micros)), Some(micros));
            let (y, mo, d, h, mi, s, us) = civil_parts(micros).unwrap();
            prop_assert_eq!(from_civil_parts(y, mo, d, h, mi, s, us), Some(micros));
        }

        #[test]
        fn times_round_trip(micros in -3_020_399_000_000_i64..3_020_399_000_000) {
            prop_assert_eq!(parse_time(&format_time(micros)), Some(micros));
        }

        #[test]
        fn dates_round_trip(day in -719_162_i32..2_932_896) {
            prop_assert_eq!(parse_date(&format_date(day)), Some(day));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,30}") {
            let _ = (parse_date(&text), parse_time(&text), parse_datetime(&text), parse_instant(&text));
        }
    }

    #[test]
    fn the_last_day_of_9999_exists() {
        let last = parse_datetime("9999-12-31 23:59:59.999999").unwrap();
        assert_eq!(from_civil_parts(9999, 12, 31, 23, 59, 59, 999_999), Some(last));
        assert_eq!(format_instant(last), "9999-12-31T23:59:59.999999Z");
        assert_eq!(parse_instant(&format_instant(last)), Some(last));
        assert_eq!(civil_parts(last).map(|parts| parts.0), Some(9999));
        assert_eq!(civil_parts(i64::MAX), None);
    }

    #[test]
    fn zero_dates_do_not_exist() {
        assert_eq!(days(0, 0, 0), None);
        assert_eq!(from_civil_parts(2026, 2, 30, 0, 0, 0, 0), None);
        assert_eq!(days(1970, 1, 2), Some(1));
    }
}
