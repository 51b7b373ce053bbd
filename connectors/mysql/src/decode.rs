//! What a query answered, as values by the column's kind.
//!
//! The text protocol brings every field as text in utf8mb4, bytes as they are. What the server would
//! print with loss is selected as something else ([`crate::statement`]): FLOAT as the double that it
//! is, BIT as a number.

use pontoon_core::{Kind, Value, calendar, value::parse_uuid};

/// A field of a row of a mapped table.
pub(crate) fn value(field: Option<Vec<u8>>, kind: &Kind) -> Value {
    let Some(bytes) = field else { return Value::Null };
    if let Kind::Bytes { .. } = kind {
        return Value::Bytes(bytes.into());
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => of_text(text, kind).unwrap_or_else(|| unmapped(text, kind)),
        Err(_) => Value::Unmapped("text that is not UTF-8".into()),
    }
}

fn of_text(text: &str, kind: &Kind) -> Option<Value> {
    Some(match kind {
        Kind::Boolean => Value::Boolean(text.parse::<u64>().ok()? != 0),
        Kind::Integer { .. } => Value::Integer(text.parse().ok()?),
        Kind::Decimal { .. } => Value::Decimal(text.into()),
        Kind::Float32 { .. } => Value::Float32(text.parse::<f64>().ok()? as f32),
        Kind::Float64 { .. } => Value::Float64(text.parse().ok()?),
        Kind::Enum { labels } => labels.iter().any(|label| **label == *text).then(|| Value::Text(text.into()))?,
        Kind::Set { .. } => Some(Value::Text(text.into())).filter(|value| kind.fits(value).is_ok())?,
        Kind::Year => Value::Integer(text.parse().ok()?),
        Kind::Text { .. } | Kind::Bits { .. } => Value::Text(text.into()),
        Kind::Date { .. } => Value::Date(calendar::parse_date(text)?),
        Kind::Time { .. } => Value::Time(calendar::parse_time(text)?),
        Kind::DateTime { .. } => Value::DateTime(calendar::parse_datetime(text)?),
        Kind::Instant { .. } => Value::Instant(calendar::parse_datetime(text)?),
        Kind::Json { .. } => Value::Json(text.into()),
        Kind::Uuid => Value::Uuid(parse_uuid(text)?),
        // No column of these servers has the one, and the other is no text.
        Kind::Spelled { .. } | Kind::Bytes { .. } => return None,
    })
}

/// Zero dates and the error value of an enum, as the log's decoder says them too.
fn unmapped(text: &str, kind: &Kind) -> Value {
    match kind {
        Kind::Enum { .. } => Value::Unmapped("the error value of an enum".into()),
        Kind::Date { .. } => Value::Unmapped(text.into()),
        Kind::DateTime { .. } | Kind::Instant { .. } => {
            Value::Unmapped(text.split_once('.').map_or(text, |(whole, _)| whole).into())
        }
        _ => Value::Unmapped("the value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, kind: &Kind) -> Value {
        value(Some(text.as_bytes().to_vec()), kind)
    }

    #[test]
    fn fields_are_read_by_kind() {
        let datetime = Kind::DateTime { precision: 6, micros: (i64::MIN, i64::MAX) };
        assert_eq!(read("1970-01-01 00:00:00.000001", &datetime), Value::DateTime(1));
        assert_eq!(read("0000-00-00 00:00:00.000000", &datetime), Value::Unmapped("0000-00-00 00:00:00".into()));
        assert_eq!(read("2026-00-10", &Kind::Date { days: (0, 1) }), Value::Unmapped("2026-00-10".into()));
        assert_eq!(read("-838:59:59", &Kind::Time { precision: 0, span: true }), Value::Time(-3_020_399_000_000));
        assert_eq!(read("0.10000000149011612", &Kind::Float32 { special: false }), Value::Float32(0.1));
        assert_eq!(value(None, &Kind::Uuid), Value::Null);
        let choice = Kind::Enum { labels: vec!["a".into()].into() };
        assert_eq!(read("", &choice), Value::Unmapped("the error value of an enum".into()));
        assert_eq!(
            value(Some(vec![0xff]), &Kind::Bytes { bytes_max: None, fixed: false }),
            Value::Bytes(vec![0xff].into())
        );
    }
}
