//! What holds of every value that a decoder gives, whatever bytes it was made of.

use pontoon_core::{Form, Kind, MappedTable, Row, Value};

/// Every kind of column, in an order that inputs of a corpus count on.
pub fn kinds() -> Vec<Kind> {
    let labels = ["a", "b,c", "ü"].map(Box::from);
    vec![
        Kind::Boolean,
        Kind::Integer { min: i64::MIN.into(), max: i64::MAX.into() },
        Kind::Decimal { digits: None },
        Kind::Float32 { special: true },
        Kind::Float64 { special: false },
        Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true },
        Kind::Text { chars_max: Some(20), bytes_max: None, padded: true, nul: false },
        Kind::Bytes { bytes_max: None, fixed: false },
        Kind::Bytes { bytes_max: Some(20), fixed: true },
        Kind::Date { days: (i32::MIN, i32::MAX) },
        Kind::Time { precision: 3, span: true },
        Kind::DateTime { precision: 6, micros: (i64::MIN, i64::MAX) },
        Kind::Instant { precision: 6, micros: (i64::MIN, i64::MAX) },
        Kind::Json { exact_numbers: true, nul: true },
        Kind::Uuid,
        Kind::Enum { labels: labels.clone().into() },
        Kind::Set { labels: labels.into() },
        Kind::Year,
        Kind::Bits { length: 12 },
        Kind::Spelled { native: "inet".into() },
    ]
}

/// Makes sure that a value is what the engine takes it for: in the form of its column, so that equal values are equal
/// rows, and one that comes back as it was out of what is stored of it.
///
/// # Panics
///
/// Where that does not hold.
pub fn sound(kind: &Kind, form: Form, value: &Value) {
    assert!(same(&form.convert(value.clone()), value), "{value:?} is not in its form {form}");
    let _ = kind.fits(value);
    if matches!(value, Value::Null | Value::Unchanged | Value::Unmapped(_)) {
        return;
    }
    let stored = value.to_json();
    let back = Value::from_json(&stored, form);
    assert!(back.as_ref().is_some_and(|back| same(back, value)), "{value:?} comes back as {back:?} from {stored}");
}

/// Makes sure that all of a row's values are, and that none is missing.
///
/// # Panics
///
/// Where that does not hold.
pub fn sound_row(table: &MappedTable, row: &Row) {
    assert_eq!(row.0.len(), table.columns.len(), "a row has not the columns of its table");
    for (value, column) in row.0.iter().zip(&table.columns) {
        assert_ne!(*value, Value::Unchanged, "{}: a value that is not there was passed on", column.column.name);
        sound(&column.kind, column.form, value);
    }
}

/// Equal, or neither a number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float32(a), Value::Float32(b)) if a.is_nan() && b.is_nan() => true,
        (Value::Float64(a), Value::Float64(b)) if a.is_nan() && b.is_nan() => true,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "not in its form")]
    fn what_is_not_in_its_form_is_seen() {
        sound(&Kind::Decimal { digits: None }, Form::Decimal, &Value::Decimal("1.50".into()));
    }

    #[test]
    #[should_panic(expected = "comes back as")]
    fn what_does_not_come_back_is_seen() {
        sound(&kinds()[11], Form::DateTime { precision: 6 }, &Value::DateTime(i64::MAX));
    }
}
