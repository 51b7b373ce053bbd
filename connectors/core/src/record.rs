//! Rows and keys as text, for the tables that the bridge keeps: a person can read it, and it reads back exactly.
//!
//! A row is a JSON object with the names of one side's columns, a key a JSON array in key order. What JSON cannot
//! tell apart is told by the member without a name, which no column can have (PostgreSQL: "zero-length delimited
//! identifier", MySQL and MariaDB: error 1166): which values have no common form and stand there as their server
//! writes them, and which the log left out as unchanged. A null is left out of the object where the column holds
//! documents, since there `null` is a document.

use serde_json::{Map, Value as Json};

use crate::{
    change::{Key, Row},
    error::{Error, Result},
    form::Form,
    schema::MappedTable,
    value::Value,
};

/// The member that is no column.
const APART: &str = "";
/// In it: columns whose value has no common form.
const UNMAPPED: &str = "unmapped";
/// In it: columns that the log left out.
const UNCHANGED: &str = "unchanged";

/// A row as text.
pub fn row_to_text(table: &MappedTable, row: &Row) -> String {
    let mut object = Map::new();
    let (mut unmapped, mut unchanged) = (Vec::new(), Vec::new());
    for (column, value) in table.columns.iter().zip(&row.0) {
        let name = column.column.name.to_string();
        match value {
            Value::Null if column.form == Form::Json => continue,
            Value::Unmapped(_) => unmapped.push(Json::String(name.clone())),
            Value::Unchanged => {
                unchanged.push(Json::String(name));
                continue;
            }
            _ => {}
        }
        object.insert(name, value.to_json());
    }
    let lists = [(UNMAPPED, unmapped), (UNCHANGED, unchanged)].into_iter().filter(|(_, names)| !names.is_empty());
    let apart: Map<String, Json> = lists.map(|(what, names)| (what.to_owned(), Json::Array(names))).collect();
    if !apart.is_empty() {
        object.insert(APART.to_owned(), Json::Object(apart));
    }
    Json::Object(object).to_string()
}

/// Reads back what [`row_to_text`] wrote; `None` where it is not that.
pub fn row_from_text(table: &MappedTable, text: &str) -> Option<Row> {
    let Json::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let listed = |what: &str, name: &str| {
        let names = object.get(APART).and_then(|apart| apart.get(what)).and_then(Json::as_array);
        names.is_some_and(|names| names.iter().any(|other| other.as_str() == Some(name)))
    };
    let value = |name: &str, form: Form| {
        if listed(UNCHANGED, name) {
            return Some(Value::Unchanged);
        }
        match object.get(name) {
            None => Some(Value::Null),
            Some(json) if listed(UNMAPPED, name) => Some(Value::Unmapped(json.as_str()?.into())),
            Some(json) => Value::from_json(json, form),
        }
    };
    table.columns.iter().map(|column| value(&column.column.name, column.form)).collect::<Option<_>>().map(Row)
}

/// The same of a text that may be absent, for no row. Errors: `unreadable`, where it is not that.
pub fn stored_row(table: &MappedTable, text: Option<&str>, unreadable: impl FnOnce() -> Error) -> Result<Option<Row>> {
    text.map(|text| row_from_text(table, text).ok_or_else(unreadable)).transpose()
}

/// A key as text: equal keys have equal texts.
pub fn key_to_text(key: &Key) -> String {
    Json::Array(key.0.iter().map(Value::to_json).collect()).to_string()
}

/// Reads back what [`key_to_text`] wrote. What is not of the column's form was a value without one.
pub fn key_from_text(table: &MappedTable, text: &str) -> Option<Key> {
    let Json::Array(values) = serde_json::from_str(text).ok()? else { return None };
    if values.len() != table.key.len() {
        return None;
    }
    let forms = table.key.iter().map(|&at| table.columns[at].form);
    let value = |(json, form): (&Json, Form)| {
        Value::from_json(json, form)
            .unwrap_or_else(|| Value::Unmapped(json.as_str().map_or_else(|| json.to_string(), Into::into).into()))
    };
    Some(Key(values.iter().zip(forms).map(value).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        kind::Kind,
        schema::{Column, MappedColumn, TableName},
        value::tests::formed,
    };

    /// A table with a column of each form, the first of which is its key.
    pub(crate) fn table(forms: &[Form]) -> MappedTable {
        let kind = Kind::Boolean;
        let column = |(at, &form): (usize, &Form)| {
            MappedColumn::new(Column::plain(format!("c{at}"), "any", kind.clone()), kind.clone(), form)
        };
        MappedTable::plain(TableName::new("public", "t"), forms.iter().enumerate().map(column).collect())
    }

    /// What a column can hold, and what is no value of it.
    fn any_value() -> impl Strategy<Value = (Form, Value)> {
        (formed(), 0u8..6, ".{0,12}").prop_map(|((form, value), what, text)| match what {
            0 => (form, Value::Null),
            1 => (form, Value::Unchanged),
            2 => (form, Value::Unmapped(text.into())),
            _ => (form, value),
        })
    }

    proptest! {
        #[test]
        fn rows_read_back_exactly(values in proptest::collection::vec(any_value(), 1..6)) {
            let forms: Vec<Form> = values.iter().map(|(form, _)| *form).collect();
            let row = Row(values.into_iter().map(|(_, value)| value).collect());
            let text = row_to_text(&table(&forms), &row);
            prop_assert_eq!(row_from_text(&table(&forms), &text), Some(row), "{}", text);
        }

        #[test]
        fn keys_read_back((form, value) in formed()) {
            let key = Key(vec![value]);
            prop_assert_eq!(key_from_text(&table(&[form]), &key_to_text(&key)), Some(key));
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}|\\{\"\":\\{\"unmapped\":.{0,9}\\}\\}", (form, _) in formed()) {
            let _ = row_from_text(&table(&[form]), &text);
            let _ = key_from_text(&table(&[form]), &text);
        }
    }

    #[test]
    fn a_person_can_read_it() {
        let table = table(&[Form::Integer, Form::Instant { precision: 6 }, Form::Json, Form::Json]);
        let document = Value::Json("null".into());
        let row = Row(vec![Value::Integer(7), Value::Unmapped("infinity".into()), Value::Null, document]);
        let text = r#"{"":{"unmapped":["c1"]},"c0":7,"c1":"infinity","c3":null}"#;
        assert_eq!(row_to_text(&table, &row), text);
        assert_eq!(row_from_text(&table, text), Some(row));
    }
}
