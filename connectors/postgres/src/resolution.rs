//! Resolutions as text: rows as JSON objects with the names of this side's columns, keys as JSON arrays
//! in key order.
//!
//! A null is left out of an object where the column holds documents, since there `null` is a document.

use pontoon_core::{Form, Key, MappedTable, Row, Value};
use serde_json::{Map, Value as Json};

/// A row as text.
pub(crate) fn row_to_text(table: &MappedTable, row: &Row) -> String {
    let mut object = Map::new();
    for (column, value) in table.columns.iter().zip(&row.0) {
        if !(*value == Value::Null && column.form == Form::Json) {
            object.insert(column.column.name.to_string(), value.to_json());
        }
    }
    Json::Object(object).to_string()
}

/// Reads back what [`row_to_text`] wrote; `None` where it is not that. What is not of the column's form
/// was a value without one.
pub(crate) fn row_from_text(table: &MappedTable, text: &str) -> Option<Row> {
    let Json::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let value = |(name, form): (&str, Form)| match object.get(name) {
        None => Value::Null,
        Some(json) => value_from_json(json, form),
    };
    Some(Row(table.columns.iter().map(|column| value((&column.column.name, column.form))).collect()))
}

/// A key as text: equal keys have equal texts.
pub(crate) fn key_to_text(key: &Key) -> String {
    Json::Array(key.0.iter().map(Value::to_json).collect()).to_string()
}

/// Reads back what [`key_to_text`] wrote.
pub(crate) fn key_from_text(table: &MappedTable, text: &str) -> Option<Key> {
    let Json::Array(values) = serde_json::from_str(text).ok()? else { return None };
    if values.len() != table.key.len() {
        return None;
    }
    let forms = table.key.iter().map(|&at| table.columns[at].form);
    Some(Key(values.iter().zip(forms).map(|(json, form)| value_from_json(json, form)).collect()))
}

fn value_from_json(json: &Json, form: Form) -> Value {
    Value::from_json(json, form)
        .unwrap_or_else(|| Value::Unmapped(json.as_str().map_or_else(|| json.to_string(), Into::into).into()))
}
