//! Text of the server to values. The log and every query of this crate give a value's text as the
//! type's output function writes it under the pinned settings (queries by a cast to `text`, which differs for `boolean` and
//! `char(n)`, and for types of which [`crate::statement`] takes the output instead), so there is one decoder.
//!
//! What the bridge has no form for becomes [`Value::Unmapped`] with the server's own text: infinity, NaN
//! where an exact number is, a year beyond the calendar. It is never an error and never null.

use bytes::Bytes;
use pontoon_core::{Kind, MappedColumn, Value, calendar, value::parse_uuid};

/// A value in the common form of its column, from the server's text.
pub(crate) fn common(column: &MappedColumn, text: &[u8]) -> Value {
    column.common(value(&column.kind, text))
}

/// The same of a value that is to be written to the other side.
pub(crate) fn crossing(column: &MappedColumn, text: &[u8]) -> Value {
    column.crossing(value(&column.kind, text))
}

/// [`common`] or [`crossing`].
pub(crate) type Decode = fn(&MappedColumn, &[u8]) -> Value;

/// A value as the column has it.
pub(crate) fn value(kind: &Kind, raw: &[u8]) -> Value {
    let Ok(text) = std::str::from_utf8(raw) else {
        return Value::Unmapped(String::from_utf8_lossy(raw).into());
    };
    decode(kind, text).unwrap_or_else(|| Value::Unmapped(text.into()))
}

fn decode(kind: &Kind, text: &str) -> Option<Value> {
    Some(match kind {
        Kind::Boolean => Value::Boolean(match text {
            "t" | "true" => true,
            "f" | "false" => false,
            _ => return None,
        }),
        // i64 first: it parses at twice the speed of i128, and all of this server's integers are one.
        Kind::Integer { .. } => Value::Integer(text.parse::<i64>().ok()?.into()),
        Kind::Decimal { .. } if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) => {
            Value::Decimal(text.into())
        }
        Kind::Decimal { .. } => return None,
        Kind::Float32 { .. } => Value::Float32(text.parse().ok()?),
        Kind::Float64 { .. } => Value::Float64(text.parse().ok()?),
        Kind::Text { .. } | Kind::Enum { .. } | Kind::Bits { .. } | Kind::Spelled { .. } => Value::Text(text.into()),
        // No column of this server has them.
        Kind::Set { .. } | Kind::Year => return None,
        Kind::Bytes { .. } => Value::Bytes(hex(text)?),
        Kind::Date { .. } => Value::Date(date(era(text))?),
        Kind::Time { .. } => Value::Time(time(text.as_bytes())?),
        Kind::DateTime { .. } => Value::DateTime(moment(text)?),
        Kind::Instant { .. } => {
            let (text, era) = era(text);
            // The session's zone is UTC, so there is no other offset.
            Value::Instant(moment_of(text.strip_suffix("+00")?, era)?)
        }
        Kind::Json { .. } => Value::Json(text.into()),
        Kind::Uuid => Value::Uuid(parse_uuid(text)?),
    })
}

/// `\x0a1b`.
fn hex(text: &str) -> Option<Bytes> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    // Of its final size from the start: it may be large.
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    Some(bytes.into())
}

/// Before or after Christ; the server writes the former behind the rest.
#[derive(Clone, Copy)]
enum Era {
    Before,
    After,
}

fn era(text: &str) -> (&str, Era) {
    match text.strip_suffix(" BC") {
        Some(rest) => (rest, Era::Before),
        None => (text, Era::After),
    }
}

/// `2026-11-23`, the year with four digits or more. There is no year 0: 1 BC is the calendar's.
fn date((text, era): (&str, Era)) -> Option<i32> {
    let mut parts = text.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    let year = match era {
        Era::After => year,
        Era::Before => 1 - year,
    };
    calendar::days(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
}

fn moment(text: &str) -> Option<i64> {
    let (text, era) = era(text);
    moment_of(text, era)
}

fn moment_of(text: &str, era: Era) -> Option<i64> {
    let (day, clock) = text.split_once(' ')?;
    // 24:00:00 and beyond is a time, but none of any day: behind the calendar's last it would be no moment at all.
    let time = time(clock.as_bytes()).filter(|time| *time < calendar::MICROS_PER_DAY)?;
    Some(calendar::micros(date((day, era))?, time))
}

/// `10:00:00` with up to six digits of a fraction; 24:00:00 is a time of day here.
fn time(text: &[u8]) -> Option<i64> {
    let (clock, fraction) = text.split_at_checked(8)?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let two = |at: usize| {
        let (tens, ones) = (clock[at].wrapping_sub(b'0'), clock[at + 1].wrapping_sub(b'0'));
        (tens < 10 && ones < 10).then(|| i64::from(tens) * 10 + i64::from(ones))
    };
    let seconds = two(0)? * 3600 + two(3)? * 60 + two(6)?;
    let mut micros = 0;
    if let Some((point, digits)) = fraction.split_first() {
        if *point != b'.' || digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let value = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        micros = value * 10_i64.pow(6 - digits.len() as u32);
    }
    Some(seconds * 1_000_000 + micros)
}

fn number(text: &str) -> Option<i32> {
    // Ten digits are no number of a calendar, and a sign is none of the server's.
    let digits = !text.is_empty() && text.len() < 10 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [Kind; 10] = [
        Kind::Boolean,
        Kind::Integer { min: 0, max: 1 },
        Kind::Decimal { digits: None },
        Kind::Float32 { special: true },
        Kind::Bytes { bytes_max: None, fixed: false },
        Kind::Date { days: (0, 0) },
        Kind::Time { precision: 6, span: false },
        Kind::DateTime { precision: 6, micros: (0, 0) },
        Kind::Instant { precision: 6, micros: (0, 0) },
        Kind::Uuid,
    ];

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..30), text in "[-0-9:. +BCxt\\\\]{0,30}") {
            for kind in &KINDS {
                let _ = (value(kind, &raw), value(kind, text.as_bytes()));
            }
        }

        #[test]
        fn moments_are_read(micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
            let text = calendar::format_datetime(micros).replace('T', " ");
            prop_assert_eq!(value(&KINDS[7], text.as_bytes()), Value::DateTime(micros));
            prop_assert_eq!(value(&KINDS[8], format!("{text}+00").as_bytes()), Value::Instant(micros));
        }
    }

    #[test]
    fn what_has_no_form_keeps_its_text() {
        for (kind, text) in [
            (&KINDS[5], "infinity"),
            (&KINDS[7], "-infinity"),
            (&KINDS[8], "12026-01-01 00:00:00+00"),
            (&KINDS[7], "9999-12-31 24:00:00"),
            (&KINDS[2], "NaN"),
            (&KINDS[2], "Infinity"),
            (&KINDS[8], "2026-01-01 00:00:00+01"),
        ] {
            assert_eq!(value(kind, text.as_bytes()), Value::Unmapped(text.into()), "{text}");
        }
    }

    #[test]
    fn edges_are_read() {
        assert_eq!(value(&KINDS[5], b"0001-01-01 BC"), Value::Date(calendar::days(0, 1, 1).unwrap()));
        assert_eq!(value(&KINDS[5], b"4713-01-01 BC"), Value::Date(calendar::days(-4712, 1, 1).unwrap()));
        assert_eq!(value(&KINDS[6], b"24:00:00"), Value::Time(86_400_000_000));
        assert_eq!(value(&KINDS[6], b"23:59:59.5"), Value::Time(86_399_500_000));
        assert_eq!(value(&KINDS[3], b"-Infinity"), Value::Float32(f32::NEG_INFINITY));
        assert_eq!(value(&KINDS[4], b"\\x00ff"), Value::Bytes(vec![0, 255].into()));
        assert_eq!(value(&KINDS[0], b"t"), Value::Boolean(true));
    }
}
