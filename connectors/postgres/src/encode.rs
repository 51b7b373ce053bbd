//! Values to what is sent to the server: each column of a statement is one array in binary form, from
//! which the statement makes rows with `unnest`.
//!
//! Binary, because it is exact: a moment is a number of microseconds and no text, a float is its bits.
//! Only exact numbers, documents and enum labels go as text, with a cast in the statement. An array's
//! element type is always one of the server's own (never a domain or an enum), so no type has to be
//! looked up, and never one with a modifier, which would round.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use pontoon_core::{Kind, MappedColumn, Value, value::format_uuid};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::log::stream::EPOCH_MICROS;

/// Days between 1970 and 2000.
const EPOCH_DAYS: i32 = 10_957;

/// A value that this column can never hold. In a before image or a key it means that no row is like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit;

/// The element type of the array that carries a column's values.
pub(crate) fn element_type(kind: &Kind) -> Type {
    match kind {
        Kind::Boolean => Type::BOOL,
        Kind::Integer { .. } => Type::INT8,
        Kind::Float32 { .. } => Type::FLOAT4,
        Kind::Float64 { .. } => Type::FLOAT8,
        Kind::Bytes { .. } => Type::BYTEA,
        Kind::Date { .. } => Type::DATE,
        Kind::Time { .. } => Type::TIME,
        Kind::DateTime { .. } => Type::TIMESTAMP,
        Kind::Instant { .. } => Type::TIMESTAMPTZ,
        Kind::Uuid => Type::UUID,
        Kind::Decimal { .. } | Kind::Text { .. } | Kind::Json { .. } | Kind::Enum { .. } => Type::TEXT,
        Kind::Bits { .. } | Kind::Spelled { .. } => Type::TEXT,
        // No column of this server has them.
        Kind::Set { .. } | Kind::Year => Type::TEXT,
    }
}

/// An array in binary form, growing by one value after the other.
pub(crate) struct Array {
    element: Type,
    count: i32,
    body: BytesMut,
    /// Large values, and before which byte of the body each belongs: they are copied once, where they are sent from.
    large: Vec<(usize, Bytes)>,
}

/// From how many bytes on a value is not copied without need.
const LARGE_BYTES: usize = 1 << 20;

/// Values never appear in a log, and the driver logs its parameters.
impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} values)", self.count)
    }
}

impl Array {
    /// An empty array for a column.
    pub(crate) fn new(column: &MappedColumn) -> Array {
        Array { element: element_type(&column.kind), count: 0, body: BytesMut::new(), large: Vec::new() }
    }

    /// An empty array of exact numbers as text.
    pub(crate) fn of_numbers() -> Array {
        Array { element: Type::TEXT, count: 0, body: BytesMut::new(), large: Vec::new() }
    }

    /// Appends an exact number as text.
    pub(crate) fn push_number(&mut self, value: &Value) -> Result<(), Misfit> {
        let text = value.exact_text().ok_or(Misfit)?;
        field(&mut self.body, value, |out| {
            out.put_slice(text.as_bytes());
            Ok(())
        })?;
        self.count += 1;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.body.len() + self.large.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// Appends a value of the column.
    pub(crate) fn push(&mut self, column: &MappedColumn, value: &Value) -> Result<(), Misfit> {
        match (&column.kind, value) {
            (Kind::Bytes { .. }, Value::Bytes(bytes)) if bytes.len() >= LARGE_BYTES => {
                self.body.put_i32(i32::try_from(bytes.len()).map_err(|_| Misfit)?);
                self.large.push((self.body.len(), bytes.clone()));
                self.count += 1;
                return Ok(());
            }
            _ => {}
        }
        field(&mut self.body, value, |out| element(out, &column.kind, value))?;
        self.count += 1;
        Ok(())
    }
}

/// Writes a value behind its length, or that it is null; nothing of one that is a misfit.
pub(crate) fn field(
    out: &mut BytesMut,
    value: &Value,
    write: impl FnOnce(&mut BytesMut) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    let whole = out.len();
    out.put_i32(-1);
    if *value == Value::Null {
        return Ok(());
    }
    let start = out.len();
    let written = write(out).and_then(|()| i32::try_from(out.len() - start).map_err(|_| Misfit));
    match written {
        Ok(length) => out[whole..start].copy_from_slice(&length.to_be_bytes()),
        Err(_) => out.truncate(whole),
    }
    written.map(|_| ())
}

/// Writes a value that is not null, in the binary form of its column's element type.
pub(crate) fn element(out: &mut BytesMut, kind: &Kind, value: &Value) -> Result<(), Misfit> {
    match (kind, value) {
        (Kind::Boolean, Value::Boolean(b)) => out.put_u8((*b).into()),
        (Kind::Integer { .. }, value) => out.put_i64(integer(value)?),
        (Kind::Decimal { .. }, Value::Integer(n)) => out.put_slice(n.to_string().as_bytes()),
        (Kind::Decimal { .. }, Value::Decimal(text)) => out.put_slice(text.as_bytes()),
        (Kind::Float32 { .. }, Value::Float32(x)) => out.put_f32(*x),
        (Kind::Float64 { .. }, Value::Float32(x)) => out.put_f64((*x).into()),
        (Kind::Float64 { .. }, Value::Float64(x)) => out.put_f64(*x),
        (Kind::Text { .. }, Value::Text(text)) => put_text(out, text)?,
        (Kind::Bits { .. } | Kind::Spelled { .. }, Value::Text(text)) => put_text(out, text)?,
        (Kind::Text { .. }, Value::Uuid(bytes)) => out.put_slice(format_uuid(bytes).as_bytes()),
        (Kind::Enum { labels }, Value::Text(text)) if labels.iter().any(|label| **label == **text) => {
            put_text(out, text)?
        }
        // The server's jsonb refuses this escape; whoever looks for such a document finds none.
        (Kind::Json { .. }, Value::Json(text)) if !text.contains("\\u0000") => put_text(out, text)?,
        (Kind::Bytes { .. }, Value::Bytes(bytes)) => out.put_slice(bytes),
        (Kind::Date { .. }, Value::Date(days)) => out.put_i32(days.checked_sub(EPOCH_DAYS).ok_or(Misfit)?),
        (Kind::Time { .. }, Value::Time(micros)) if (0..=86_400_000_000).contains(micros) => out.put_i64(*micros),
        (Kind::DateTime { .. }, Value::DateTime(micros)) | (Kind::Instant { .. }, Value::Instant(micros)) => {
            out.put_i64(micros.checked_sub(EPOCH_MICROS).ok_or(Misfit)?);
        }
        (Kind::Uuid, Value::Uuid(bytes)) => out.put_slice(bytes),
        _ => return Err(Misfit),
    }
    Ok(())
}

/// An integer, as far as this server has any.
pub(crate) fn integer(value: &Value) -> Result<i64, Misfit> {
    match value {
        Value::Integer(n) => i64::try_from(*n).map_err(|_| Misfit),
        Value::Decimal(text) => text.parse().map_err(|_| Misfit),
        _ => Err(Misfit),
    }
}

fn put_text(out: &mut BytesMut, text: &str) -> Result<(), Misfit> {
    if text.contains('\0') {
        return Err(Misfit);
    }
    out.put_slice(text.as_bytes());
    Ok(())
}

/// The binary form of an array (`array_send` of the server's arrayfuncs.c).
impl ToSql for Array {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.reserve(self.bytes() + 20);
        out.put_i32(i32::from(self.count > 0));
        // The server takes this flag from the values themselves.
        out.put_i32(1);
        out.put_u32(self.element.oid());
        if self.count > 0 {
            out.put_i32(self.count);
            out.put_i32(1);
            let mut from = 0;
            for (at, bytes) in &self.large {
                out.put_slice(&self.body[from..*at]);
                out.put_slice(bytes);
                from = *at;
            }
            out.put_slice(&self.body[from..]);
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        // The statement's own casts say the type; see `statement`.
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
pub(crate) mod tests {
    use pontoon_core::{Column, Form};

    use super::*;

    pub(crate) fn column(kind: Kind, native: &str, form: Form) -> MappedColumn {
        let column = Column::plain("c", native, kind.clone());
        MappedColumn::new(column, kind, form)
    }

    #[test]
    fn an_array_is_as_the_server_writes_it() {
        let column = column(Kind::Integer { min: 0, max: 9 }, "x", Form::Integer);
        let mut array = Array::new(&column);
        array.push(&column, &Value::Integer(5)).unwrap();
        array.push(&column, &Value::Null).unwrap();
        assert_eq!(array.push(&column, &Value::Integer(i128::MAX)), Err(Misfit));
        assert_eq!(array.push(&column, &Value::Unmapped("x".into())), Err(Misfit));
        let mut out = BytesMut::new();
        array.to_sql(&Type::INT8_ARRAY, &mut out).unwrap();
        let expected = [1, 1, 20, 2, 1, 8, 0, 5, -1].map(|n: i32| n.to_be_bytes()).concat();
        assert_eq!(out.as_ref(), expected);
        assert!(!format!("{array:?}").contains('5'));
    }

    #[test]
    fn large_values_are_in_their_places() {
        let column = column(Kind::Bytes { bytes_max: None, fixed: false }, "x", Form::Bytes);
        let values = [3, LARGE_BYTES, 0, LARGE_BYTES + 1, 2].map(|length| Bytes::from(vec![length as u8; length]));
        let mut array = Array::new(&column);
        let mut expected = [1, 1, 17, values.len() as i32, 1].map(|n: i32| n.to_be_bytes()).concat();
        for value in &values {
            array.push(&column, &Value::Bytes(value.clone())).unwrap();
            expected.extend((value.len() as i32).to_be_bytes());
            expected.extend(&value[..]);
        }
        let mut out = BytesMut::new();
        array.to_sql(&Type::BYTEA_ARRAY, &mut out).unwrap();
        assert!(out == expected, "the values are too large to be shown");
        assert_eq!(array.bytes(), expected.len() - 20);
    }

    #[test]
    fn what_the_server_cannot_hold_is_a_misfit() {
        let text = column(
            Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false },
            "x",
            Form::Text { padded: false },
        );
        assert_eq!(Array::new(&text).push(&text, &Value::Text("a\0b".into())), Err(Misfit));
        let mood = column(Kind::Enum { labels: vec!["good".into()].into() }, "x", Form::Text { padded: false });
        assert_eq!(Array::new(&mood).push(&mood, &Value::Text("bad".into())), Err(Misfit));
        assert_eq!(Array::new(&mood).push(&mood, &Value::Text("good".into())), Ok(()));
    }
}
