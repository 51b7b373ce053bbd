//! Numbers for people: sizes, rates, times; and times from people. Texts that may hold anything, made fit to be shown.

use std::time::Duration;

/// `12 B`, `3.4 KiB`, `16 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be rounded up to 1024 is one of the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{} {}", short(value), UNITS[unit]) }
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234 rows/s`, `0.4 rows/s`.
pub fn rate(per_second: f64, what: &str) -> String {
    let number = match per_second {
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    };
    format!("{number} {what}/s")
}

/// `0 s`, `12 ms`, `3.4 s`, `5 min 10 s`, `2 h 5 min`, `3 d 4 h`; with a minus where it is negative.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let magnitude = seconds.abs();
    let whole = magnitude.round() as u64;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    let text = match whole {
        _ if magnitude < 0.0005 => return "0 s".to_owned(),
        _ if magnitude < 0.9995 => format!("{:.0} ms", magnitude * 1000.0),
        0..60 => format!("{} s", short(magnitude)),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    };
    format!("{sign}{text}")
}

/// One digit after the point below ten, unless it is a zero.
fn short(value: f64) -> String {
    let text = if value < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Reads `60s`, `2h`, `1h30m`, `500ms`, `1.5d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no time; write 500ms, 60s, 5m, 2h, 1d or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let unit_seconds = match unit {
            "ms" => 0.001,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(refuse()),
        };
        total = Duration::try_from_secs_f64(number * unit_seconds)
            .ok()
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("{text:?} is too long a time"))?;
        rest = after.trim_start();
    }
    Ok(total)
}

/// The text as [`printable`], or what stands for none.
pub fn printable_or(text: &Option<String>, none: &str) -> String {
    text.as_deref().map_or_else(|| none.to_owned(), printable)
}

/// The text with everything escaped that would move the cursor, change colours, or turn the direction of
/// what follows: a table's name can hold all of that.
pub fn printable(text: &str) -> String {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
    };
    if !text.contains(bad) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shown = [0, 999, 1023, 1024, 1536, 10_000, 1_048_575, 16 << 20, 10 << 30, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            ["0 B", "999 B", "1023 B", "1 KiB", "1.5 KiB", "9.8 KiB", "1 MiB", "16 MiB", "10 GiB", "16 EiB"]
        );
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(count), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!(rate(0.4, "rows"), "0.4 rows/s");
        assert_eq!(rate(12_345.6, "rows"), "12,346 rows/s");
    }

    #[test]
    fn times() {
        let shown = [0.0, 0.012, 0.9999, 3.44, 59.6, 60.0, 310.0, 7500.0, 273_600.0, -0.25, f64::NAN].map(seconds);
        assert_eq!(
            shown,
            [
                "0 s",
                "12 ms",
                "1 s",
                "3.4 s",
                "1 min",
                "1 min",
                "5 min 10 s",
                "2 h 5 min",
                "3 d 4 h",
                "-250 ms",
                "unknown"
            ]
        );
    }

    #[test]
    fn times_from_people() {
        let millis = |text: &str| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("60s"), Ok(60_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2h"), Ok(7_200_000));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("1h 30min"), Ok(5_400_000));
        assert_eq!(millis("0.5s"), Ok(500));
        assert_eq!(millis("0s"), Ok(0));
        for bad in ["", "60", "s", "-5s", "5 fortnights", "1..5s", "1e3s", "99999999999999999999999d"] {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }
}
