//! One value of one column.
//!
//! A connector's reader decodes bytes of the log into a `Value` and at once converts it to the
//! *common form* of its pair of columns ([`crate::form`]). From then on equality of values is
//! equality of rows, whichever server they came from.

use std::cmp::Ordering;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value as Json};
use smol_str::SmolStr;

use crate::{calendar, decimal, form::Form};

/// A value, or one of two things that are no value: [`Value::Unchanged`] and [`Value::Unmapped`]. To clone one costs next to
/// nothing: a short text stands in the value itself, and a long one, as bytes do, in memory that all its clones share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Value {
    /// SQL's null.
    Null,
    /// The column is not in the log because it did not change (an unchanged TOAST value without full
    /// replica identity). Never to be read as null.
    Unchanged,
    /// True or false.
    Boolean(bool),
    /// Any integer type of either database.
    Integer(i128),
    /// An exact number in canonical text ([`crate::decimal`]).
    Decimal(SmolStr),
    /// A single-precision number.
    Float32(f32),
    /// A double-precision number.
    Float64(f64),
    /// Text, whatever charset it was stored in.
    Text(SmolStr),
    /// Bytes.
    Bytes(Bytes),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight; negative and beyond a day where MySQL's TIME is.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00:00 by the calendar, without a zone.
    DateTime(i64),
    /// Microseconds since 1970-01-01 00:00:00 UTC.
    Instant(i64),
    /// A document in canonical text ([`crate::json`]).
    Json(SmolStr),
    /// An identifier of 16 bytes.
    Uuid([u8; 16]),
    /// A value that has no common form (a zero date, NaN where no NaN can be), as its server writes
    /// it. It travels to the applier, which refuses it by name; it is never applied.
    Unmapped(SmolStr),
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Unchanged => 1,
            Value::Boolean(_) => 2,
            Value::Integer(_) => 3,
            Value::Decimal(_) => 4,
            Value::Float32(_) => 5,
            Value::Float64(_) => 6,
            Value::Text(_) => 7,
            Value::Bytes(_) => 8,
            Value::Date(_) => 9,
            Value::Time(_) => 10,
            Value::DateTime(_) => 11,
            Value::Instant(_) => 12,
            Value::Json(_) => 13,
            Value::Uuid(_) => 14,
            Value::Unmapped(_) => 15,
        }
    }

    /// Bytes of memory beyond the value's own slot, for the accounting of queues; those that another value shares as well.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) | Value::Unmapped(text)
                if text.is_heap_allocated() =>
            {
                text.len()
            }
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// The value in the common event: integers and doubles are numbers, exact decimals and moments are
    /// text, bytes are base64, documents are documents.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null | Value::Unchanged => Json::Null,
            Value::Boolean(b) => Json::Bool(*b),
            Value::Integer(n) => n.to_string().parse::<Number>().map_or(Json::Null, Json::Number),
            Value::Float32(x) => float_json(f64::from(*x), format!("{x:?}")),
            Value::Float64(x) => float_json(*x, format!("{x:?}")),
            Value::Decimal(text) | Value::Text(text) | Value::Unmapped(text) => Json::String(text.to_string()),
            Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
            Value::Date(days) => Json::String(calendar::format_date(*days)),
            Value::Time(micros) => Json::String(calendar::format_time(*micros)),
            Value::DateTime(micros) => Json::String(calendar::format_datetime(*micros)),
            Value::Instant(micros) => Json::String(calendar::format_instant(*micros)),
            Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_string())),
            Value::Uuid(bytes) => Json::String(format_uuid(bytes)),
        }
    }

    /// Reads back what [`Value::to_json`] wrote for a column of this form; `None` where it is not that.
    pub fn from_json(json: &Json, form: Form) -> Option<Value> {
        if json.is_null() && form != Form::Json {
            return Some(Value::Null);
        }
        let text = || json.as_str();
        Some(match form {
            Form::Boolean => Value::Boolean(json.as_bool()?),
            Form::Integer => Value::Integer(json.as_number()?.as_str().parse().ok()?),
            Form::Decimal => Value::Decimal(text()?.into()),
            Form::Float32 => Value::Float32(number_text(json)?.parse().ok()?),
            Form::Float64 => Value::Float64(number_text(json)?.parse().ok()?),
            Form::Text { .. } => Value::Text(text()?.into()),
            Form::Bytes => Value::Bytes(STANDARD.decode(text()?).ok()?.into()),
            Form::Date => Value::Date(calendar::parse_date(text()?)?),
            Form::Time { .. } => Value::Time(calendar::parse_time(text()?)?),
            Form::DateTime { .. } => Value::DateTime(calendar::parse_datetime(text()?)?),
            Form::Instant { .. } => Value::Instant(calendar::parse_instant(text()?)?),
            Form::Json => Value::Json(serde_json::to_string(json).ok()?.into()),
            Form::Uuid => Value::Uuid(parse_uuid(text()?)?),
        })
    }
}

/// Exact numbers.
impl Value {
    /// The sum of two exact numbers of one form. `None` where one is no exact number; [`Value::Unmapped`], which
    /// nobody applies, where the sum is beyond all that a column can hold.
    pub fn plus(&self, other: &Value) -> Option<Value> {
        match (self, other) {
            (Value::Integer(a), Value::Integer(b)) => {
                let beyond = || Value::Unmapped("a sum of more digits than any column has".into());
                Some(a.checked_add(*b).map_or_else(beyond, Value::Integer))
            }
            (Value::Decimal(a), Value::Decimal(b)) => Some(Value::Decimal(decimal::sum(a, b)?.into())),
            _ => None,
        }
    }

    /// What has to be added to the other number to come to this one.
    pub fn minus(&self, other: &Value) -> Option<Value> {
        let negated = match other {
            Value::Integer(n) => Value::Integer(n.checked_neg()?),
            Value::Decimal(text) => Value::Decimal(decimal::negated(text).into()),
            _ => return None,
        };
        self.plus(&negated)
    }

    /// The text of an exact number: digits, a point and a sign, and nothing else that a statement could mistake.
    pub fn exact_text(&self) -> Option<String> {
        match self {
            Value::Integer(n) => Some(n.to_string()),
            Value::Decimal(text) => decimal::is_canonical(text).then(|| text.to_string()),
            _ => None,
        }
    }

    /// Whether it is the number nought.
    pub fn is_zero(&self) -> bool {
        matches!(self, Value::Integer(0)) || matches!(self, Value::Decimal(text) if &**text == "0")
    }

    /// Which of two numbers is the greater, or of two moments the later; `None` for what has no such order.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Decimal(a), Value::Decimal(b)) => decimal::compare(a, b),
            (Value::Integer(_), Value::Integer(_))
            | (Value::Float32(_), Value::Float32(_))
            | (Value::Float64(_), Value::Float64(_))
            | (Value::Date(_), Value::Date(_))
            | (Value::Time(_), Value::Time(_))
            | (Value::DateTime(_), Value::DateTime(_))
            | (Value::Instant(_), Value::Instant(_)) => Some(self.cmp(other)),
            _ => None,
        }
    }
}

fn float_json(value: f64, shortest: String) -> Json {
    if value.is_finite() { shortest.parse::<Number>().map_or(Json::Null, Json::Number) } else { Json::String(shortest) }
}

fn number_text(json: &Json) -> Option<&str> {
    json.as_str().or_else(|| json.as_number().map(Number::as_str))
}

/// `123e4567-e89b-12d3-a456-426614174000`.
pub fn format_uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads a UUID in the 8-4-4-4-12 form, in either case.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let raw = text.as_bytes();
    if raw.len() != 36 || !raw.is_ascii() || [8, 13, 18, 23].iter().any(|&at| raw[at] != b'-') {
        return None;
    }
    let digits: String = text.chars().filter(|&c| c != '-').collect();
    if digits.len() != 32 || digits.contains('+') {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

/// Total: floats by their bits' order, so that equality is the equality that is stored. The common
/// form has no negative zero, see [`crate::form`].
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        use Value::{
            Boolean, Bytes, Date, DateTime, Decimal, Float32, Float64, Instant, Integer, Json, Text, Time, Unmapped,
            Uuid,
        };
        match (self, other) {
            (Boolean(a), Boolean(b)) => a.cmp(b),
            (Integer(a), Integer(b)) => a.cmp(b),
            (Float32(a), Float32(b)) => a.total_cmp(b),
            (Float64(a), Float64(b)) => a.total_cmp(b),
            (Decimal(a), Decimal(b)) | (Text(a), Text(b)) | (Json(a), Json(b)) | (Unmapped(a), Unmapped(b)) => a.cmp(b),
            (Bytes(a), Bytes(b)) => a.cmp(b),
            (Date(a), Date(b)) => a.cmp(b),
            (Time(a), Time(b)) | (DateTime(a), DateTime(b)) | (Instant(a), Instant(b)) => a.cmp(b),
            (Uuid(a), Uuid(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Value::Null | Value::Unchanged => {}
            Value::Boolean(b) => b.hash(state),
            Value::Integer(n) => n.hash(state),
            Value::Float32(x) => x.to_bits().hash(state),
            Value::Float64(x) => x.to_bits().hash(state),
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) | Value::Unmapped(text) => text.hash(state),
            Value::Bytes(bytes) => bytes.hash(state),
            Value::Date(days) => days.hash(state),
            Value::Time(t) | Value::DateTime(t) | Value::Instant(t) => t.hash(state),
            Value::Uuid(bytes) => bytes.hash(state),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A form and a value in it.
    pub(crate) fn formed() -> impl Strategy<Value = (Form, Value)> {
        prop_oneof![
            any::<bool>().prop_map(|b| (Form::Boolean, Value::Boolean(b))),
            any::<i128>().prop_map(|n| (Form::Integer, Value::Integer(n))),
            (any::<i64>(), 0u32..9).prop_map(|(n, scale)| {
                let text = crate::decimal::canonical(&format!("{n}e-{scale}")).unwrap();
                (Form::Decimal, Value::Decimal(text.into()))
            }),
            any::<f32>().prop_map(|x| (Form::Float32, Value::Float32(if x == 0.0 || x.is_nan() { 0.0 } else { x }))),
            any::<f64>().prop_map(|x| (Form::Float64, Value::Float64(if x == 0.0 || x.is_nan() { 0.0 } else { x }))),
            ".{0,20}".prop_map(|s| (Form::Text { padded: false }, Value::Text(s.into()))),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| (Form::Bytes, Value::Bytes(b.into()))),
            (-700_000_i32..2_900_000).prop_map(|d| (Form::Date, Value::Date(d))),
            (0_i64..86_400_000_000).prop_map(|t| (Form::Time { precision: 6 }, Value::Time(t))),
            (-60_000_000_000_000_000_i64..250_000_000_000_000_000)
                .prop_map(|t| (Form::DateTime { precision: 6 }, Value::DateTime(t))),
            (-60_000_000_000_000_000_i64..250_000_000_000_000_000)
                .prop_map(|t| (Form::Instant { precision: 6 }, Value::Instant(t))),
            any::<[u8; 16]>().prop_map(|b| (Form::Uuid, Value::Uuid(b))),
            "[a-z]{0,5}".prop_map(|s| (Form::Json, Value::Json(format!("[1,{{\"a\":\"{s}\"}}]").into()))),
        ]
    }

    proptest! {
        #[test]
        fn json_round_trips((form, value) in formed()) {
            prop_assert_eq!(Value::from_json(&value.to_json(), form), Some(value));
        }
    }

    #[test]
    fn a_value_is_small_and_tells_what_it_has_beside_itself() {
        assert_eq!(size_of::<Value>(), 48);
        let (short, long) = ("x".repeat(23), "x".repeat(24));
        for make in [Value::Text, Value::Decimal, Value::Json, Value::Unmapped] {
            assert_eq!(make(short.as_str().into()).heap_bytes(), 0);
            assert_eq!(make(long.as_str().into()).heap_bytes(), 24);
            let written = postcard::to_stdvec(&make(long.as_str().into())).unwrap();
            assert_eq!(written[1..], postcard::to_stdvec(&long).unwrap());
        }
        let text = Value::Text(long.into());
        let (Value::Text(one), Value::Text(other)) = (&text, text.clone()) else { panic!() };
        assert_eq!(one.as_ptr(), other.as_ptr());
    }

    #[test]
    fn null_is_not_unchanged() {
        assert_ne!(Value::Null, Value::Unchanged);
    }

    #[test]
    fn uuids_are_read_in_either_case() {
        let upper = parse_uuid("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11").unwrap();
        assert_eq!(format_uuid(&upper), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        for wrong in ["", "a0eebc999c0b4ef8bb6d6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g", "é"] {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }
}
