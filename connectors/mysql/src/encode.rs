//! Values as literals of the text protocol. The one encoder.
//!
//! Text stands between single quotes, with backslash and NUL escaped and quotes doubled, which is all that can end or
//! change it: the connection's charset is utf8mb4, in which no character contains those bytes, and
//! `sql_mode` is pinned without NO_BACKSLASH_ESCAPES (MySQL manual, "String Literals"). Bytes are
//! hexadecimal, and many of them in base 64. Floating point numbers carry an exponent, since a literal without one is an exact
//! number, and a single-precision value is written as the double that it is (`f <=> 0.1` is false for
//! a FLOAT that holds 0.1). Dates and times are typed literals.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use pontoon_core::{
    Kind, Value,
    calendar::{self, MICROS_PER_DAY},
    decimal,
};

/// Digits that DECIMAL holds on both servers.
const DECIMAL_DIGITS_MAX: usize = 65;
/// Digits after the point that DECIMAL holds on both servers (MySQL 30, MariaDB 38).
const DECIMAL_SCALE_MAX: usize = 30;
/// The longest TIME, 838:59:59, in microseconds.
const TIME_MICROS_MAX: i64 = 3_020_399_999_999;

/// A text literal.
pub(crate) fn text(value: &str) -> String {
    let mut sql = String::with_capacity(value.len() + 2);
    push_text(&mut sql, value);
    sql
}

fn push_text(sql: &mut String, value: &str) {
    sql.reserve(value.len() + REST_BYTES);
    sql.push('\'');
    push_escaped(sql, value, |byte| match byte {
        b'\\' => Some("\\\\"),
        // Doubled it is one whether or not a backslash is: a text of SQL that is printed for an administrator is read in a session of theirs.
        b'\'' => Some("''"),
        0 => Some("\\0"),
        _ => None,
    });
    sql.push('\'');
}

/// Writes a text, and what stands for some of its characters, which are all of one byte.
pub(crate) fn push_escaped(out: &mut impl Write, value: &str, escape: impl Fn(u8) -> Option<&'static str>) {
    let mut rest = value;
    while let Some((at, special)) = rest.bytes().enumerate().find_map(|(at, byte)| Some((at, escape(byte)?))) {
        // Into memory it cannot fail.
        let _ = out.write_str(&rest[..at]).and_then(|()| out.write_str(special));
        rest = &rest[at + 1..];
    }
    let _ = out.write_str(rest);
}

/// Room behind a value for what usually follows it in its statement, so that a large one is not moved for it.
const REST_BYTES: usize = 4 << 10;

/// The most that a BLOB with a length of two bytes holds.
const SHORT_BLOB_BYTES: usize = 65_535;

fn push_bytes(sql: &mut String, bytes: &[u8]) {
    if bytes.len() >= SHORT_BLOB_BYTES {
        // To MariaDB 10.11 a longer literal in a row list has a length of two bytes all the same: of 70,000 bytes it
        // writes 4,464 without a word (tried), and beside one of exactly that length its temporary table is corrupt
        // (error 127). An expression has the length that it has, and this one takes a third less room than digits.
        sql.reserve(bytes.len() / 3 * 4 + REST_BYTES);
        sql.push_str("FROM_BASE64('");
        STANDARD.encode_string(bytes, sql);
        sql.push_str("')");
        return;
    }
    sql.reserve(bytes.len() * 2 + REST_BYTES);
    sql.push_str("x'");
    push_hex(sql, bytes);
    sql.push('\'');
}

/// Writes bytes as digits to the base 16.
pub(crate) fn push_hex(out: &mut impl Write, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            // Into memory it cannot fail.
            let _ = out.write_char(char::from(DIGITS[usize::from(digit)]));
        }
    }
}

/// Writes a value in common form for a column of this kind. `false` where the server has no literal for
/// it, and so no row can hold it; nothing is written then.
#[must_use]
pub(crate) fn push(sql: &mut String, value: &Value, kind: &Kind) -> bool {
    let open = match value {
        Value::Null => {
            sql.push_str("NULL");
            return true;
        }
        // As a number: in a list of rows, bits of a literal would be bytes.
        Value::Text(_) if matches!(kind, Kind::Bits { .. }) => "",
        Value::Text(text) | Value::Json(text) => {
            push_text(sql, text);
            return true;
        }
        Value::Bytes(bytes) => {
            push_bytes(sql, bytes);
            return true;
        }
        Value::Uuid(bytes) => {
            match kind {
                Kind::Bytes { .. } => push_bytes(sql, bytes),
                _ => push_text(sql, &pontoon_core::value::format_uuid(bytes)),
            }
            return true;
        }
        Value::Date(_) => "DATE'",
        Value::Time(_) => "TIME'",
        Value::DateTime(_) | Value::Instant(_) => "TIMESTAMP'",
        _ => "",
    };
    let before = sql.len();
    sql.push_str(open);
    let has_form = push_plain(sql, value, kind);
    match has_form {
        true if !open.is_empty() => sql.push('\''),
        true => {}
        false => sql.truncate(before),
    }
    has_form
}

/// Writes the characters of a number, a date or a time, which need no quoting. `false`, and perhaps a part of them, where
/// the server has none.
#[must_use]
pub(crate) fn push_plain(out: &mut impl Write, value: &Value, kind: &Kind) -> bool {
    let written = match value {
        Value::Boolean(b) => out.write_char(if *b { '1' } else { '0' }),
        // The wider type takes several times as long to divide.
        Value::Integer(n) => match i64::try_from(*n) {
            Ok(n) => write!(out, "{n}"),
            Err(_) => write!(out, "{n}"),
        },
        Value::Decimal(number) => {
            let (whole, scale) = (decimal::integer_digits(number), decimal::scale(number));
            if whole + scale > DECIMAL_DIGITS_MAX || scale > DECIMAL_SCALE_MAX {
                return false;
            }
            out.write_str(number)
        }
        Value::Float32(x) if x.is_finite() => write!(out, "{:e}", f64::from(*x)),
        Value::Float64(x) if x.is_finite() => write!(out, "{x:e}"),
        Value::Text(text) if matches!(kind, Kind::Bits { .. }) => match u64::from_str_radix(text, 2) {
            Ok(bits) => write!(out, "{bits}"),
            Err(_) => return false,
        },
        Value::Date(days) => match i64::from(*days).checked_mul(MICROS_PER_DAY).and_then(moment) {
            Some(moment) => out.write_str(as_text(&moment[..DATE_CHARS])),
            None => return false,
        },
        Value::Time(micros) if micros.abs() <= TIME_MICROS_MAX => out.write_str(&calendar::format_time(*micros)),
        Value::DateTime(micros) | Value::Instant(micros) => match moment(*micros) {
            Some(moment) => out.write_str(as_text(&moment)),
            None => return false,
        },
        _ => return false,
    };
    // Into memory it cannot fail.
    written.is_ok()
}

/// `2026-11-23 10:00:00.123456`, always with six digits; `None` outside of years 0 to 9999.
pub(crate) fn datetime(micros: i64) -> Option<String> {
    moment(micros).map(|moment| as_text(&moment).to_owned())
}

/// Of these a date has so many.
const DATE_CHARS: usize = 10;

/// The characters of [`datetime`].
fn moment(micros: i64) -> Option<[u8; 26]> {
    let mut chars = *b"0000-00-00 00:00:00.000000";
    let (year, month, day, hour, minute, second, micros) = calendar::civil_parts(micros)?;
    let year = u32::try_from(year).ok().filter(|year| *year <= 9999)?;
    let mut put = |at: usize, digits: usize, mut number: u32| {
        for digit in chars[at..at + digits].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, year);
    for (at, part) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
        put(at, 2, part as u32);
    }
    put(20, 6, micros as u32);
    Some(chars)
}

/// ASCII as a text.
fn as_text(chars: &[u8]) -> &str {
    std::str::from_utf8(chars).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANY: Kind = Kind::Uuid;

    fn literal(value: &Value) -> String {
        let mut sql = String::new();
        assert!(push(&mut sql, value, &ANY));
        sql
    }

    /// What the servers' lexer makes of a quoted text.
    fn unquote(sql: &str, backslash: char) -> Option<String> {
        let mut chars = sql.strip_prefix('\'')?.chars().peekable();
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == backslash => text.push(match chars.next()? {
                    '0' => '\0',
                    c => c,
                }),
                '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
                '\'' => return chars.next().is_none().then_some(text),
                c => text.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn text_cannot_end_its_quotes(value in "[\\\\'\"\\x00;a%_😀-]{0,20}|.{0,20}") {
            let literal = text(&value);
            prop_assert_eq!(unquote(&literal, '\\'), Some(value));
            // Nor in a session with NO_BACKSLASH_ESCAPES.
            prop_assert!(unquote(&literal, '\0').is_some());
        }

        #[test]
        fn floats_are_written_exactly(single in any::<f32>(), double in any::<f64>()) {
            if single.is_finite() {
                let sql = literal(&Value::Float32(single));
                prop_assert!(sql.contains('e'));
                prop_assert_eq!(sql.parse::<f64>().unwrap() as f32, single);
            }
            if double.is_finite() {
                prop_assert_eq!(literal(&Value::Float64(double)).parse::<f64>().unwrap(), double);
            }
        }
    }

    #[test]
    fn literals_are_typed() {
        assert_eq!(literal(&Value::Bytes(vec![0, 255].into())), "x'00ff'");
        assert!(literal(&Value::Bytes(vec![7; 65_535].into())).starts_with("FROM_BASE64('BwcH"));
        assert!(literal(&Value::Bytes(vec![7; 65_534].into())).starts_with("x'0707"));
        assert_eq!(literal(&Value::Date(0)), "DATE'1970-01-01'");
        assert_eq!(literal(&Value::Time(-36_000_500_000)), "TIME'-10:00:00.500000'");
        assert_eq!(literal(&Value::Date(-719_528)), "DATE'0000-01-01'");
        assert_eq!(literal(&Value::DateTime(253_402_300_799_999_999)), "TIMESTAMP'9999-12-31 23:59:59.999999'");
        assert_eq!(literal(&Value::Instant(1)), "TIMESTAMP'1970-01-01 00:00:00.000001'");
        assert_eq!(literal(&Value::Integer(u64::MAX.into())), "18446744073709551615");
        let mut sql = String::new();
        for none in [
            Value::Unchanged,
            Value::Float64(f64::NAN),
            Value::Decimal("9".repeat(66).into()),
            Value::Date(9_000_000),
            Value::Date(-719_529),
            Value::Date(i32::MAX),
        ] {
            assert!(!push(&mut sql, &none, &ANY), "{none:?}");
        }
        assert!(sql.is_empty());
    }
}
