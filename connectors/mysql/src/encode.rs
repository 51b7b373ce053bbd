//! Values as literals of the text protocol. The one encoder.
//!
//! Text stands between single quotes with backslash, quote and NUL escaped, which is all that can end or
//! change it: the connection's charset is utf8mb4, in which no character contains those bytes, and
//! `sql_mode` is pinned without NO_BACKSLASH_ESCAPES (MySQL manual, "String Literals"). Bytes are
//! hexadecimal, and many of them in base 64. Floating point numbers carry an exponent, since a literal without one is an exact
//! number, and a single-precision value is written as the double that it is (`f <=> 0.1` is false for
//! a FLOAT that holds 0.1). Dates and times are typed literals.

use std::fmt::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use pontoon_core::{Kind, Value, calendar, decimal};

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
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\\' | b'\'' | 0)) {
        // All three are characters of one byte.
        let (plain, special) = rest.split_at(at);
        sql.push_str(plain);
        sql.push_str(match special.as_bytes()[0] {
            b'\\' => "\\\\",
            b'\'' => "\\'",
            _ => "\\0",
        });
        rest = &special[1..];
    }
    sql.push_str(rest);
    sql.push('\'');
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
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    sql.reserve(bytes.len() * 2 + REST_BYTES);
    sql.push_str("x'");
    for byte in bytes {
        sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
        sql.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    sql.push('\'');
}

/// Writes a value in common form for a column of this kind. `false` where the server has no literal for
/// it, and so no row can hold it; nothing is written then.
#[must_use]
pub(crate) fn push(sql: &mut String, value: &Value, kind: &Kind) -> bool {
    match value {
        Value::Null => sql.push_str("NULL"),
        Value::Unchanged | Value::Unmapped(_) => return false,
        Value::Boolean(b) => sql.push(if *b { '1' } else { '0' }),
        Value::Integer(n) => written(sql, format_args!("{n}")),
        Value::Decimal(number) => {
            let (whole, scale) = (decimal::integer_digits(number), decimal::scale(number));
            if whole + scale > DECIMAL_DIGITS_MAX || scale > DECIMAL_SCALE_MAX {
                return false;
            }
            sql.push_str(number);
        }
        Value::Float32(x) if x.is_finite() => written(sql, format_args!("{:e}", f64::from(*x))),
        Value::Float64(x) if x.is_finite() => written(sql, format_args!("{x:e}")),
        Value::Float32(_) | Value::Float64(_) => return false,
        // As a number: in a list of rows, bits of a literal would be bytes.
        Value::Text(text) if matches!(kind, Kind::Bits { .. }) => match u64::from_str_radix(text, 2) {
            Ok(bits) => written(sql, format_args!("{bits}")),
            Err(_) => return false,
        },
        Value::Text(text) | Value::Json(text) => push_text(sql, text),
        Value::Bytes(bytes) => push_bytes(sql, bytes),
        Value::Uuid(bytes) if matches!(kind, Kind::Bytes { .. }) => push_bytes(sql, bytes),
        Value::Uuid(bytes) => push_text(sql, &pontoon_core::value::format_uuid(bytes)),
        Value::Date(days) => match calendar::format_date(*days) {
            date if date.len() == 10 => written(sql, format_args!("DATE'{date}'")),
            _ => return false,
        },
        Value::Time(micros) if micros.abs() <= TIME_MICROS_MAX => {
            written(sql, format_args!("TIME'{}'", calendar::format_time(*micros)));
        }
        Value::Time(_) => return false,
        Value::DateTime(micros) | Value::Instant(micros) => match datetime(*micros) {
            Some(text) => written(sql, format_args!("TIMESTAMP'{text}'")),
            None => return false,
        },
    }
    true
}

/// Writing into a text cannot fail.
fn written(sql: &mut String, text: fmt::Arguments<'_>) {
    let _ = sql.write_fmt(text);
}

/// `2026-11-23 10:00:00.123456`, always with six digits; `None` outside of years 0 to 9999.
pub(crate) fn datetime(micros: i64) -> Option<String> {
    let (year, month, day, hour, minute, second, micros) = calendar::civil_parts(micros)?;
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}"))
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
    fn unquote(sql: &str) -> Option<String> {
        let mut chars = sql.strip_prefix('\'')?.chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                '\\' => text.push(match chars.next()? {
                    '0' => '\0',
                    c => c,
                }),
                '\'' => return chars.next().is_none().then_some(text),
                c => text.push(c),
            }
        }
    }

    proptest! {
        #[test]
        fn text_cannot_end_its_quotes(value in "[\\\\'\"\\x00;a%_😀-]{0,20}|.{0,20}") {
            prop_assert_eq!(unquote(&text(&value)), Some(value));
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
        assert_eq!(literal(&Value::Instant(1)), "TIMESTAMP'1970-01-01 00:00:00.000001'");
        assert_eq!(literal(&Value::Integer(u64::MAX.into())), "18446744073709551615");
        let mut sql = String::new();
        for none in
            [Value::Unchanged, Value::Float64(f64::NAN), Value::Decimal("9".repeat(66).into()), Value::Date(9_000_000)]
        {
            assert!(!push(&mut sql, &none, &ANY), "{none:?}");
        }
        assert!(sql.is_empty());
    }
}
