//! A column's type as the bridge understands it, and what fits into it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{decimal, json, value::Value};

/// What a column of one server can hold. Only types of which the bridge has a tried rule are here; a
/// connector answers `None` for any other and `check` refuses it by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `boolean`, `bit(1)`.
    Boolean,
    /// An integer type, signed or not.
    Integer {
        /// The least value.
        min: i128,
        /// The greatest value.
        max: i128,
    },
    /// An exact number. `None`: unbounded (PostgreSQL's bare `numeric`).
    Decimal {
        /// Digits in all, and of these after the point.
        digits: Option<(u16, u16)>,
    },
    /// `real`, `float`.
    Float32 {
        /// NaN and the infinities can be stored.
        special: bool,
    },
    /// `double precision`, `double`.
    Float64 {
        /// NaN and the infinities can be stored.
        special: bool,
    },
    /// Text of any length or charset.
    Text {
        /// The declared length in characters.
        chars_max: Option<u32>,
        /// The greatest length in bytes (MySQL's text types).
        bytes_max: Option<u64>,
        /// `char(n)`: trailing blanks are padding and no part of the value.
        padded: bool,
        /// A NUL character can be stored (not by PostgreSQL).
        nul: bool,
    },
    /// Bytes.
    Bytes {
        /// The greatest length in bytes.
        bytes_max: Option<u64>,
        /// `binary(n)`: filled up with zero bytes to this length.
        fixed: bool,
    },
    /// A day.
    Date {
        /// The range of days since 1970-01-01 that can be stored.
        days: (i32, i32),
    },
    /// A time of day, or MySQL's longer span.
    Time {
        /// Digits of the second's fraction.
        precision: u8,
        /// Negative times and such beyond 24 hours can be stored.
        span: bool,
    },
    /// Date and time without a zone.
    DateTime {
        /// Digits of the second's fraction.
        precision: u8,
        /// The range of microseconds since 1970-01-01 00:00:00 that can be stored.
        micros: (i64, i64),
    },
    /// A moment.
    Instant {
        /// Digits of the second's fraction.
        precision: u8,
        /// The range of microseconds since 1970-01-01 00:00:00 UTC that can be stored.
        micros: (i64, i64),
    },
    /// A document.
    Json {
        /// Numbers are kept exactly (jsonb, and documents stored as text), not as doubles.
        exact_numbers: bool,
        /// A `\u0000` in a string can be stored (not by PostgreSQL's jsonb).
        nul: bool,
    },
    /// A UUID type of its own.
    Uuid,
    /// One of a list of labels.
    Enum {
        /// The labels in the order of their declaration.
        labels: Arc<[Box<str>]>,
    },
    /// Some of a list of labels: their text is the labels in the order of their declaration, with commas between them.
    Set {
        /// The labels in the order of their declaration.
        labels: Arc<[Box<str>]>,
    },
    /// MySQL's `year`: 1901 to 2155, and 0. It would take a number below 100 for a year of this century or the last.
    Year,
    /// So many bits, as a text of zeros and ones.
    Bits {
        /// How many.
        length: u32,
    },
    /// A type that is known by the text in which its server writes a value, as addresses, arrays and ranges are: no two values
    /// have the same. What is written in another spelling is refused, since it would come back as another text.
    Spelled {
        /// The type, by its server's name.
        native: Box<str>,
    },
}

/// Why a value does not fit into a column, in words that name the limit and not the value.
pub type Misfit = String;

impl Kind {
    /// Whether a value in common form can be stored without loss. A server would round some of these
    /// in silence (a scale, a fraction of a second), so this is asked before the server is.
    pub fn fits(&self, value: &Value) -> Result<(), Misfit> {
        match (self, value) {
            (_, Value::Unmapped(text)) => Err(format!("{text} has no form on the other side")),
            (_, Value::Unchanged) => Err("the value is not in the log".into()),
            (Kind::Integer { min, max }, Value::Integer(n)) if n < min || n > max => {
                Err(format!("outside {min} to {max}"))
            }
            (Kind::Integer { min, max }, Value::Decimal(text)) => match text.parse::<i128>() {
                Ok(n) if n >= *min && n <= *max => Ok(()),
                _ => Err(format!("no integer from {min} to {max}")),
            },
            (Kind::Decimal { digits: Some(digits) }, Value::Decimal(text)) => decimal_fits(text, *digits),
            (Kind::Decimal { digits: Some(digits) }, Value::Integer(n)) => decimal_fits(&n.to_string(), *digits),
            (Kind::Float32 { special: false }, Value::Float32(x)) if !x.is_finite() => {
                Err("not a finite number".into())
            }
            (Kind::Float64 { special: false }, Value::Float64(x)) if !x.is_finite() => {
                Err("not a finite number".into())
            }
            (Kind::Text { chars_max, bytes_max, nul, .. }, Value::Text(text)) => {
                text_fits(text, *chars_max, *bytes_max, *nul)
            }
            (Kind::Enum { labels }, Value::Text(text)) if !labels.iter().any(|label| **label == **text) => {
                Err("not one of the column's labels".into())
            }
            (Kind::Set { labels }, Value::Text(text)) if !is_set_of(labels, text) => {
                Err("not some of the column's labels in their order".into())
            }
            (Kind::Year, Value::Integer(n)) if *n != 0 && !(1901..=2155).contains(n) => {
                Err("no year from 1901 to 2155".into())
            }
            (Kind::Bits { length }, Value::Text(text))
                if text.len() != *length as usize || !text.bytes().all(|digit| matches!(digit, b'0' | b'1')) =>
            {
                Err(format!("not {length} bits"))
            }
            (Kind::Spelled { .. }, Value::Text(text)) => text_fits(text, None, None, false),
            (Kind::Bytes { bytes_max, fixed }, Value::Bytes(bytes)) => {
                let most = bytes_max.unwrap_or(u64::MAX);
                let length = bytes.len() as u64;
                if length > most {
                    Err(format!("{length} bytes, at most {most}"))
                } else if *fixed && length < most {
                    Err(format!("{length} bytes, and the column fills up to {most}"))
                } else {
                    Ok(())
                }
            }
            (Kind::Date { days }, Value::Date(day)) if *day < days.0 || *day > days.1 => {
                Err("date out of range".into())
            }
            (Kind::Time { span: false, .. }, Value::Time(t)) if !(0..86_400_000_000).contains(t) => {
                Err("not a time of day".into())
            }
            (Kind::DateTime { micros, .. }, Value::DateTime(t)) | (Kind::Instant { micros, .. }, Value::Instant(t))
                if *t < micros.0 || *t > micros.1 =>
            {
                Err("date and time out of range".into())
            }
            (Kind::Json { exact_numbers: false, .. }, Value::Json(text)) if !json::fits_double(text) => {
                Err("a number in the document is longer than a double".into())
            }
            (Kind::Json { nul: false, .. }, Value::Json(text)) if text.contains("\\u0000") => {
                Err("the document holds a NUL character".into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text is some of the labels, each at most once and in their order.
fn is_set_of(labels: &[Box<str>], text: &str) -> bool {
    let mut labels = labels.iter();
    text.is_empty() || text.split(',').all(|part| labels.any(|label| **label == *part))
}

fn decimal_fits(canonical: &str, (precision, scale): (u16, u16)) -> Result<(), Misfit> {
    let whole_max = usize::from(precision.saturating_sub(scale));
    if decimal::scale(canonical) > usize::from(scale) || decimal::integer_digits(canonical) > whole_max {
        return Err(format!("more digits than decimal({precision},{scale}) holds"));
    }
    Ok(())
}

fn text_fits(text: &str, chars_max: Option<u32>, bytes_max: Option<u64>, nul: bool) -> Result<(), Misfit> {
    if !nul && text.contains('\0') {
        return Err("the text holds a NUL character".into());
    }
    if let Some(most) = chars_max {
        let length = text.chars().count();
        if length > most as usize {
            return Err(format!("{length} characters, at most {most}"));
        }
    }
    match bytes_max {
        Some(most) if text.len() as u64 > most => Err(format!("{} bytes, at most {most}", text.len())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Value {
        Value::Decimal(text.into())
    }

    #[test]
    fn limits_are_kept() {
        let small = Kind::Integer { min: -128, max: 127 };
        assert!(small.fits(&Value::Integer(127)).is_ok());
        assert!(small.fits(&Value::Integer(128)).is_err());
        let money = Kind::Decimal { digits: Some((5, 2)) };
        assert!(money.fits(&decimal("999.99")).is_ok());
        assert!(money.fits(&decimal("1000")).is_err());
        assert!(money.fits(&decimal("0.001")).is_err());
        let name = Kind::Text { chars_max: Some(3), bytes_max: None, padded: false, nul: false };
        assert!(name.fits(&Value::Text("äöü".into())).is_ok());
        assert!(name.fits(&Value::Text("abcd".into())).is_err());
        assert!(name.fits(&Value::Text("a\0".into())).is_err());
        let binary = Kind::Bytes { bytes_max: Some(2), fixed: true };
        assert!(binary.fits(&Value::Bytes(vec![1].into())).is_err());
        assert!(Kind::Float64 { special: false }.fits(&Value::Float64(f64::NAN)).is_err());
        let days = Kind::Set { labels: ["mon", "tue", "wed"].map(Box::from).into() };
        for (text, fits) in
            [("", true), ("mon,wed", true), ("tue", true), ("wed,mon", false), ("mon,mon", false), ("x", false)]
        {
            assert_eq!(days.fits(&Value::Text(text.into())).is_ok(), fits, "{text}");
        }
        for (year, fits) in [(0, true), (1901, true), (2155, true), (26, false), (1900, false), (2156, false)] {
            assert_eq!(Kind::Year.fits(&Value::Integer(year)).is_ok(), fits, "{year}");
        }
        for (bits, fits) in [("010", true), ("10", false), ("012", false)] {
            assert_eq!(Kind::Bits { length: 3 }.fits(&Value::Text(bits.into())).is_ok(), fits, "{bits}");
        }
        assert!(Kind::Spelled { native: "inet".into() }.fits(&Value::Text("a\0".into())).is_err());
        assert!(Kind::Uuid.fits(&Value::Unmapped("0000-00-00".into())).is_err());
        assert!(small.fits(&Value::Null).is_ok());
    }
}
