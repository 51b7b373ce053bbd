//! Whole definitions of tables, for making their like on another server.
//!
//! The two servers tell a default in two ways (both manuals, "The INFORMATION_SCHEMA COLUMNS Table"): MySQL a
//! constant's bare text, and `DEFAULT_GENERATED` in `extra` beside an expression; MariaDB a literal or an
//! expression as SQL, and `NULL` where a nullable column has none. Neither tells the bytes of a binary default: of
//! x'00ff' MySQL 9.7 tells `0x` and MariaDB 10.11 a question mark for what is no text, so those are no constants.

use std::collections::HashMap;

use pontoon_core::{
    Kind, Result, TableDefinition, TableName,
    definition::{ColumnDetail, DefaultValue, Index, IndexColumn},
};

use crate::{
    catalog::{self, among, portions, table_name},
    connect::{Client, Field, Flavour, number, text},
    decode,
};

/// The definitions of tables, each name with its database, in the order asked for.
pub(crate) async fn load(client: &mut Client, names: &[TableName]) -> Result<Vec<Option<TableDefinition>>> {
    let natives = catalog::load(client, names).await?;
    let mut tables: Vec<Option<TableDefinition>> = natives
        .iter()
        .map(|native| {
            let schema = native.as_ref()?.schema();
            let details = vec![ColumnDetail::default(); schema.columns.len()];
            Some(TableDefinition { details, indexes: Vec::new(), comment: None, others: Vec::new(), schema })
        })
        .collect();
    // As the server writes the names, which may differ in case from what was asked for.
    let places: HashMap<TableName, usize> =
        tables.iter().enumerate().filter_map(|(at, table)| Some((table.as_ref()?.schema.name.clone(), at))).collect();
    let found: Vec<TableName> = places.keys().cloned().collect();
    for names in portions(&found) {
        for (query, add) in queries(client.server.flavour, names) {
            for row in client.rows(query).await? {
                let place = table_name(&row).and_then(|name| places.get(&name));
                if let Some(table) = place.and_then(|&at| tables.get_mut(at)?.as_mut()) {
                    add(table, &row, client.server.flavour);
                }
            }
        }
    }
    Ok(tables)
}

type Add = fn(&mut TableDefinition, &[Field], Flavour);

/// What is asked, and what becomes of each row.
fn queries(flavour: Flavour, names: &[TableName]) -> [(String, Add); 4] {
    let wanted = among("table_schema", "table_name", names);
    let triggers = among("event_object_schema", "event_object_table", names);
    // Only MySQL has indexes over expressions, and a column of this view for them; a part without name is one.
    let index_order = "ORDER BY table_schema, table_name, index_name, seq_in_index";
    let checks = match flavour {
        Flavour::Mysql => "('FOREIGN KEY', 'CHECK')",
        // A check of one column has its name; that of a document is part of its type.
        Flavour::Mariadb => {
            "('FOREIGN KEY', 'CHECK') AND NOT EXISTS (SELECT 1 FROM information_schema.check_constraints k \
             WHERE k.constraint_schema = o.table_schema AND k.table_name = o.table_name \
             AND k.constraint_name = o.constraint_name AND k.check_clause LIKE 'json_valid(%')"
        }
    };
    [
        (
            format!(
                "SELECT table_schema, table_name, table_comment, create_options FROM information_schema.tables \
                 WHERE {wanted}"
            ),
            add_comment,
        ),
        (
            format!(
                "SELECT table_schema, table_name, column_name, column_default, extra, column_comment \
                 FROM information_schema.columns WHERE {wanted}"
            ),
            add_detail,
        ),
        (
            format!(
                "SELECT table_schema, table_name, index_name, non_unique, column_name, sub_part, collation, index_type \
                 FROM information_schema.statistics \
                 WHERE index_name <> 'PRIMARY' AND {wanted} {index_order}"
            ),
            add_index_part,
        ),
        (
            format!(
                "SELECT o.table_schema, o.table_name, o.constraint_type, o.constraint_name \
                 FROM information_schema.table_constraints o WHERE {wanted} \
                 AND o.constraint_type IN {checks} UNION ALL \
                 SELECT event_object_schema, event_object_table, 'TRIGGER', trigger_name FROM information_schema.triggers \
                 WHERE {triggers} ORDER BY 1, 2, 3, 4"
            ),
            add_other,
        ),
    ]
}

fn add_comment(table: &mut TableDefinition, row: &[Field], _: Flavour) {
    table.comment = text(row, 2).filter(|comment| !comment.is_empty()).map(Into::into);
    if text(row, 3).is_some_and(|options| options.contains("partitioned")) {
        table.others.push("partitioning".into());
    }
}

fn add_detail(table: &mut TableDefinition, row: &[Field], flavour: Flavour) {
    let name = text(row, 2).unwrap_or_default();
    let Some(at) = table.schema.columns.iter().position(|column| *column.name == *name) else { return };
    let column = &table.schema.columns[at];
    let extra = text(row, 4).unwrap_or_default().to_lowercase();
    let given = text(row, 3).filter(|_| !column.generated && column.generator.is_none());
    let default = given.and_then(|text| match flavour {
        Flavour::Mysql => mysql_default(&text, extra.contains("default_generated"), column.kind.as_ref()),
        Flavour::Mariadb => expression(&text, column.kind.as_ref()),
    });
    let comment = text(row, 5).filter(|comment| !comment.is_empty()).map(Into::into);
    table.details[at] = ColumnDetail { default, on_update: extra.contains("on update"), comment };
}

/// A part of an index; what is no index over whole columns ends up among the rest, by its name.
fn add_index_part(table: &mut TableDefinition, row: &[Field], _: Flavour) {
    let name = text(row, 2).unwrap_or_default();
    let index = Index { name: name.as_str().into(), unique: text(row, 3).as_deref() == Some("0"), columns: Vec::new() };
    let column = text(row, 4).and_then(|name| table.schema.columns.iter().position(|column| *column.name == *name));
    let kind = text(row, 7).unwrap_or_default();
    let why = match column {
        _ if !matches!(kind.as_str(), "BTREE" | "HASH") => Some(format!("of kind {kind}")),
        None => Some("over an expression".into()),
        Some(_) => number::<u32>(row, 5).map(|_| "over the beginning of a column".into()),
    };
    if let Some(why) = why {
        table.indexes.retain(|known| *known.name != *name);
        let words = format!("{}, {why}", index.words());
        let known = format!("{}, ", index.words());
        if !table.others.iter().any(|other| other.starts_with(&known)) {
            table.others.push(words);
        }
        return;
    }
    let refused = format!("{}, ", index.words());
    if table.others.iter().any(|other| other.starts_with(&refused)) {
        return;
    }
    if table.indexes.last().is_none_or(|last| *last.name != *name) {
        table.indexes.push(index);
    }
    let descending = text(row, 6).as_deref() == Some("D");
    if let (Some(index), Some(column)) = (table.indexes.last_mut(), column) {
        index.columns.push(IndexColumn { column, descending });
    }
}

fn add_other(table: &mut TableDefinition, row: &[Field], _: Flavour) {
    let (kind, name) = (text(row, 2).unwrap_or_default(), text(row, 3).unwrap_or_default());
    let word = match kind.as_str() {
        "CHECK" => "check constraint".to_owned(),
        kind => kind.to_lowercase(),
    };
    table.others.push(format!("{word} {name}"));
}

/// MySQL's: a constant is told as its value is printed.
fn mysql_default(given: &str, generated: bool, kind: Option<&Kind>) -> Option<DefaultValue> {
    let (false, Some(known)) = (generated, kind) else { return expression(given, kind) };
    if is_now(given, known) {
        return Some(DefaultValue::Now);
    }
    let bare = if *known == Kind::Boolean { literal(given) } else { Some(given.to_owned()) };
    Some(constant(known, bare, given))
}

/// An expression of SQL; `None` where it gives null.
fn expression(given: &str, kind: Option<&Kind>) -> Option<DefaultValue> {
    if given.eq_ignore_ascii_case("null") {
        return None;
    }
    let Some(kind) = kind else { return Some(DefaultValue::Other(given.into())) };
    if is_now(given, kind) {
        return Some(DefaultValue::Now);
    }
    Some(constant(kind, literal(given), given))
}

fn constant(kind: &Kind, literal: Option<String>, given: &str) -> DefaultValue {
    match (kind, literal) {
        (Kind::Bytes { .. }, _) | (_, None) => DefaultValue::Other(given.into()),
        (_, Some(text)) => DefaultValue::constant(kind, decode::value(Some(text.into_bytes()), kind), given),
    }
}

fn is_now(given: &str, kind: &Kind) -> bool {
    let word = given.split('(').next().unwrap_or_default();
    let bare = given[word.len()..].bytes().all(|b| b"()0123456".contains(&b));
    let word = word.to_lowercase();
    match kind {
        Kind::DateTime { .. } | Kind::Instant { .. } => bare && matches!(word.as_str(), "current_timestamp" | "now"),
        Kind::Date { .. } => bare && matches!(word.as_str(), "curdate" | "current_date"),
        _ => false,
    }
}

/// The text of a number, of a bit, or of what stands between quotes; `None` for anything else.
fn literal(given: &str) -> Option<String> {
    if let Some(bits) = given.strip_prefix("b'") {
        return Some(bits.strip_suffix('\'')?.to_owned());
    }
    // MySQL prints a text within an expression as _utf8mb4\'abc\'.
    let bare = given.strip_prefix("_utf8mb4").map_or_else(|| given.to_owned(), |rest| rest.replace("\\'", "'"));
    let Some(quoted) = bare.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) else {
        let number = bare.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && bare.bytes().all(|b| b.is_ascii_digit() || b"-+.eE".contains(&b));
        return number.then_some(bare);
    };
    let (mut text, mut chars) = (String::new(), quoted.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\'' => chars.next_if_eq(&'\'').map(|quote| text.push(quote))?,
            // What a backslash means depends on a setting of who made the table.
            '\\' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;
    use proptest::prelude::*;

    use super::*;

    const NUMBER: Kind = Kind::Integer { min: -128, max: 127 };
    const TEXT: Kind = Kind::Text { chars_max: Some(4), bytes_max: None, padded: false, nul: true };
    const MOMENT: Kind = Kind::DateTime { precision: 6, micros: (i64::MIN, i64::MAX) };

    fn of(value: Value) -> Option<DefaultValue> {
        Some(DefaultValue::Constant(value))
    }

    fn other(text: &str) -> Option<DefaultValue> {
        Some(DefaultValue::Other(text.into()))
    }

    #[test]
    fn mysql_tells_bare_texts() {
        let plain = |text: &str, kind: &Kind| mysql_default(text, false, Some(kind));
        assert_eq!(plain("-5", &NUMBER), of(Value::Integer(-5)));
        assert_eq!(plain("NULL", &TEXT), of(Value::Text("NULL".into())));
        assert_eq!(plain("'\\'", &TEXT), of(Value::Text("'\\'".into())));
        assert_eq!(plain("", &TEXT), of(Value::Text("".into())));
        assert_eq!(plain("b'1'", &Kind::Boolean), of(Value::Boolean(true)));
        assert_eq!(plain("too long", &TEXT), other("too long"));
        assert_eq!(plain("0x61", &Kind::Bytes { bytes_max: Some(4), fixed: true }), other("0x61"));
        assert_eq!(plain("0000-00-00 00:00:00", &MOMENT), other("0000-00-00 00:00:00"));
        let made = |text: &str, kind: &Kind| mysql_default(text, true, Some(kind));
        assert_eq!(made("CURRENT_TIMESTAMP(6)", &MOMENT), Some(DefaultValue::Now));
        assert_eq!(made("_utf8mb4\\'abc\\'", &TEXT), of(Value::Text("abc".into())));
        assert_eq!(made("uuid()", &TEXT), other("uuid()"));
    }

    #[test]
    fn mariadb_tells_sql() {
        let read = |text: &str, kind: &Kind| expression(text, Some(kind));
        assert_eq!(read("NULL", &TEXT), None);
        assert_eq!(read("'NULL'", &TEXT), of(Value::Text("NULL".into())));
        assert_eq!(read("'it''s'", &TEXT), of(Value::Text("it's".into())));
        assert_eq!(read("'a\\nb'", &TEXT), other("'a\\nb'"));
        assert_eq!(read("'a' + 'b'", &TEXT), other("'a' + 'b'"));
        assert_eq!(read("127", &NUMBER), of(Value::Integer(127)));
        assert_eq!(read("b'0'", &Kind::Boolean), of(Value::Boolean(false)));
        assert_eq!(read("current_timestamp()", &MOMENT), Some(DefaultValue::Now));
        assert_eq!(
            read("current_timestamp() + interval 1 day", &MOMENT),
            other("current_timestamp() + interval 1 day")
        );
        assert_eq!(read("curdate()", &Kind::Date { days: (0, 1) }), Some(DefaultValue::Now));
        assert_eq!(read("curdate()", &TEXT), other("curdate()"));
    }

    proptest! {
        #[test]
        fn any_default_is_read_or_kept(text in "[()'\\\\a0_utf8mb4 ]{0,20}|.{0,20}") {
            for kind in [&TEXT, &NUMBER, &MOMENT, &Kind::Boolean] {
                let _ = (mysql_default(&text, false, Some(kind)), expression(&text, Some(kind)));
            }
        }
    }
}
