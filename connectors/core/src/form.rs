//! The common form of a pair of columns, in which alone values are compared.
//!
//! Two columns are a pair; each pair has one form. A value is equal on both sides when its common
//! forms are equal. Where one side holds less precision, the common form is the poorer one: it is
//! cut here, explicitly, since MySQL would round.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    calendar::MICROS_PER_DAY,
    decimal, json,
    kind::Kind,
    value::{Value, parse_uuid},
};

/// The common form of a pair of columns. Precision is digits of the second's fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// True or false.
    Boolean,
    /// An integer.
    Integer,
    /// An exact number.
    Decimal,
    /// A single-precision number.
    Float32,
    /// A double-precision number.
    Float64,
    /// Text.
    Text {
        /// One side is `char(n)`: trailing blanks are no part of the value.
        padded: bool,
    },
    /// Bytes.
    Bytes,
    /// A day.
    Date,
    /// A time of day.
    Time {
        /// Digits of the second's fraction.
        precision: u8,
    },
    /// Date and time without zone.
    DateTime {
        /// Digits of the second's fraction.
        precision: u8,
    },
    /// A moment.
    Instant {
        /// Digits of the second's fraction.
        precision: u8,
    },
    /// A document.
    Json,
    /// A UUID.
    Uuid,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Boolean => f.write_str("boolean"),
            Form::Integer => f.write_str("integer"),
            Form::Decimal => f.write_str("decimal"),
            Form::Float32 => f.write_str("float32"),
            Form::Float64 => f.write_str("float64"),
            Form::Text { .. } => f.write_str("text"),
            Form::Bytes => f.write_str("bytes"),
            Form::Date => f.write_str("date"),
            Form::Time { precision } => write!(f, "time({precision})"),
            Form::DateTime { precision } => write!(f, "datetime({precision})"),
            Form::Instant { precision } => write!(f, "instant({precision})"),
            Form::Json => f.write_str("json"),
            Form::Uuid => f.write_str("uuid"),
        }
    }
}

impl Form {
    /// The form of a pair, the same in either order; `None` where the two have nothing in common.
    pub fn of_pair(a: &Kind, b: &Kind) -> Option<Form> {
        Form::of_ordered(a, b).or_else(|| Form::of_ordered(b, a))
    }

    fn of_ordered(a: &Kind, b: &Kind) -> Option<Form> {
        Some(match (a, b) {
            (Kind::Boolean, Kind::Boolean) => Form::Boolean,
            (Kind::Boolean, Kind::Integer { min: -128, max: 127 } | Kind::Integer { min: 0, max: 255 }) => {
                Form::Boolean
            }
            (Kind::Integer { .. }, Kind::Integer { .. } | Kind::Decimal { digits: Some((_, 0)) }) => Form::Integer,
            (Kind::Integer { .. } | Kind::Decimal { .. }, Kind::Decimal { .. }) => Form::Decimal,
            (Kind::Float32 { .. }, Kind::Float32 { .. } | Kind::Float64 { .. }) => Form::Float32,
            (Kind::Float64 { .. }, Kind::Float64 { .. }) => Form::Float64,
            (Kind::Text { padded: x, .. }, Kind::Text { padded: y, .. }) => Form::Text { padded: *x || *y },
            (Kind::Enum { .. }, Kind::Enum { .. }) => Form::Text { padded: false },
            (Kind::Enum { .. }, Kind::Text { padded, .. }) => Form::Text { padded: *padded },
            (Kind::Set { .. }, Kind::Set { .. }) => Form::Text { padded: false },
            (Kind::Set { .. }, Kind::Text { padded, .. }) => Form::Text { padded: *padded },
            (Kind::Year, Kind::Year | Kind::Integer { .. }) => Form::Integer,
            (Kind::Bits { length: x }, Kind::Bits { length: y }) if x == y => Form::Text { padded: false },
            (Kind::Spelled { native: x }, Kind::Spelled { native: y }) if x == y => Form::Text { padded: false },
            // Blanks at the end may be part of the spelling.
            (Kind::Bits { .. } | Kind::Spelled { .. }, Kind::Text { padded: false, .. }) => {
                Form::Text { padded: false }
            }
            (Kind::Bytes { .. }, Kind::Bytes { .. }) => Form::Bytes,
            (Kind::Date { .. }, Kind::Date { .. }) => Form::Date,
            (Kind::Time { precision: x, .. }, Kind::Time { precision: y, .. }) => Form::Time { precision: *x.min(y) },
            (Kind::DateTime { precision: x, .. }, Kind::DateTime { precision: y, .. }) => {
                Form::DateTime { precision: *x.min(y) }
            }
            (Kind::Instant { precision: x, .. }, Kind::Instant { precision: y, .. }) => {
                Form::Instant { precision: *x.min(y) }
            }
            (Kind::Json { .. }, Kind::Json { .. }) => Form::Json,
            (Kind::Uuid, Kind::Uuid) => Form::Uuid,
            (Kind::Uuid, Kind::Text { chars_max: Some(36), .. } | Kind::Bytes { bytes_max: Some(16), .. }) => {
                Form::Uuid
            }
            _ => return None,
        })
    }

    /// A server's value in this form. What has none becomes [`Value::Unmapped`], which the applier
    /// refuses by name: nothing is coerced on the way.
    pub fn convert(self, value: Value) -> Value {
        if self.has(&value) {
            return value;
        }
        self.try_convert(&value).unwrap_or_else(|| Value::Unmapped(describe(&value).into()))
    }

    /// Whether the value is in this form as it is, or has none. Of a document and a floating point number that is not looked at.
    pub fn has(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null | Value::Unchanged | Value::Unmapped(_))
            | (Form::Boolean, Value::Boolean(_))
            | (Form::Integer, Value::Integer(_))
            | (Form::Text { padded: false }, Value::Text(_))
            | (Form::Bytes, Value::Bytes(_))
            | (Form::Date, Value::Date(_))
            | (Form::Uuid, Value::Uuid(_)) => true,
            (Form::Decimal, Value::Decimal(text)) => decimal::is_canonical(text),
            (Form::Text { padded: true }, Value::Text(text)) => !text.ends_with(' '),
            (Form::Time { precision }, Value::Time(t))
            | (Form::DateTime { precision }, Value::DateTime(t))
            | (Form::Instant { precision }, Value::Instant(t)) => cut(*t, precision) == *t,
            _ => false,
        }
    }

    fn try_convert(self, value: &Value) -> Option<Value> {
        Some(match (self, value) {
            (Form::Boolean, Value::Integer(n @ (0 | 1))) => Value::Boolean(*n == 1),
            (Form::Integer, Value::Decimal(text)) => Value::Integer(text.parse().ok()?),
            (Form::Decimal, Value::Decimal(text)) => Value::Decimal(decimal::canonical(text)?.into()),
            (Form::Decimal, Value::Integer(n)) => Value::Decimal(n.to_string().into()),
            (Form::Float32, Value::Float32(x)) => Value::Float32(x + 0.0),
            (Form::Float32, Value::Float64(x)) => Value::Float32(*x as f32 + 0.0),
            (Form::Float64, Value::Float64(x)) => Value::Float64(x + 0.0),
            (Form::Text { padded: true }, Value::Text(text)) => Value::Text(text.trim_end_matches(' ').into()),
            (Form::Time { precision }, Value::Time(t)) => Value::Time(cut(*t, precision)),
            (Form::DateTime { precision }, Value::DateTime(t)) => Value::DateTime(cut(*t, precision)),
            (Form::Instant { precision }, Value::Instant(t)) => Value::Instant(cut(*t, precision)),
            (Form::Json, Value::Json(text)) => Value::Json(json::canonical(text)?.into()),
            (Form::Uuid, Value::Text(text)) => Value::Uuid(parse_uuid(text)?),
            (Form::Uuid, Value::Bytes(bytes)) => Value::Uuid(bytes.as_ref().try_into().ok()?),
            _ => return None,
        })
    }
}

/// Cuts a fraction down to its first digits, towards the past, as `date_trunc` does.
fn cut(micros: i64, precision: u8) -> i64 {
    let unit = 10_i64.pow(6 - u32::from(precision.min(6)));
    micros.div_euclid(unit) * unit
}

/// What is said of a value without a form. Values are row data and do not belong into logs, so only
/// numbers and moments are named, whose text an operator needs to find the row.
fn describe(value: &Value) -> String {
    match value {
        Value::Integer(n) => format!("integer {n}"),
        Value::Decimal(text) => format!("number {text}"),
        Value::Text(_) => "the text".into(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Time(t) if !(0..MICROS_PER_DAY).contains(t) => "a time beyond the day".into(),
        _ => "the value".into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::tests::formed;

    const TEXT: Kind = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
    const CHAR: Kind = Kind::Text { chars_max: Some(8), bytes_max: None, padded: true, nul: true };
    const BIGINT: Kind = Kind::Integer { min: i64::MIN as i128, max: i64::MAX as i128 };

    #[test]
    fn pairs_have_the_poorer_form_in_either_order() {
        let micro = Kind::DateTime { precision: 6, micros: (i64::MIN, i64::MAX) };
        let second = Kind::DateTime { precision: 0, micros: (i64::MIN, i64::MAX) };
        for (a, b, form) in [
            (&micro, &second, Some(Form::DateTime { precision: 0 })),
            (&TEXT, &CHAR, Some(Form::Text { padded: true })),
            (&Kind::Boolean, &Kind::Integer { min: -128, max: 127 }, Some(Form::Boolean)),
            (&BIGINT, &Kind::Decimal { digits: Some((20, 0)) }, Some(Form::Integer)),
            (&BIGINT, &Kind::Decimal { digits: Some((20, 2)) }, Some(Form::Decimal)),
            (&Kind::Float32 { special: true }, &Kind::Float64 { special: false }, Some(Form::Float32)),
            (&BIGINT, &TEXT, None),
            (&Kind::Year, &BIGINT, Some(Form::Integer)),
            (&Kind::Set { labels: ["a"].map(Box::from).into() }, &TEXT, Some(Form::Text { padded: false })),
            (&Kind::Bits { length: 3 }, &Kind::Bits { length: 3 }, Some(Form::Text { padded: false })),
            (&Kind::Bits { length: 3 }, &Kind::Bits { length: 4 }, None),
            (&Kind::Spelled { native: "inet".into() }, &TEXT, Some(Form::Text { padded: false })),
            (&Kind::Spelled { native: "inet".into() }, &CHAR, None),
            (&Kind::Spelled { native: "inet".into() }, &Kind::Spelled { native: "cidr".into() }, None),
            (&Kind::Boolean, &BIGINT, None),
        ] {
            assert_eq!(Form::of_pair(a, b), form, "{a:?} {b:?}");
            assert_eq!(Form::of_pair(b, a), form, "{b:?} {a:?}");
        }
    }

    #[test]
    fn conversion_never_invents() {
        assert_eq!(Form::Boolean.convert(Value::Integer(2)), Value::Unmapped("integer 2".into()));
        assert_eq!(Form::Integer.convert(Value::Decimal("1.5".into())), Value::Unmapped("number 1.5".into()));
        assert_eq!(Form::DateTime { precision: 0 }.convert(Value::DateTime(-1)), Value::DateTime(-1_000_000));
        assert_eq!(Form::Text { padded: true }.convert(Value::Text("ab  ".into())), Value::Text("ab".into()));
        assert_eq!(Form::Float64.convert(Value::Float64(-0.0)), Value::Float64(0.0));
        assert_eq!(Form::Integer.convert(Value::Null), Value::Null);
        assert_eq!(Form::Integer.convert(Value::Unchanged), Value::Unchanged);
    }

    proptest! {
        #[test]
        fn conversion_is_a_fixed_point((form, value) in formed()) {
            let once = form.convert(value);
            prop_assert_eq!(form.convert(once.clone()), once);
        }
    }
}
