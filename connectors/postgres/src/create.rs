//! How the like of another server's table is made here: from its definition to statements. Pure, but for the
//! functions at the end that run them.
//!
//! One of a list of labels is a text with a check, for a type of its own would outlive the table. Names of more than 63 bytes
//! the server would cut (manual, 4.1.1), so they are refused. Indexes get the names that the server gives by
//! itself: on other servers these are of one table, here of a whole schema.
//!
//! Statements that make a table are one transaction with those of all others, so there is never a part of them.

use pontoon_core::{
    Column, Error, Form, Kind, Result, TableDefinition, TableDraft, TableName, TableSchema, Value, calendar,
    definition::{ColumnDetail, DefaultValue, Index},
    schema::{TextEquality, Ties},
    value::format_uuid,
};
use tokio_postgres::Client;

use crate::{
    catalog::{get, kind_of},
    error,
    quote::{Ident, List, Literal, Table},
    types::type_of,
};

/// The longest name in bytes (`NAMEDATALEN` less one).
const NAME_BYTES_MAX: usize = 63;

/// How a table would be made. `schema_missing`: its schema has to be made first.
pub(crate) fn draft(definition: &TableDefinition, schema_missing: bool) -> TableDraft {
    let (definition, left_out) = definition.clone().portable();
    let name = definition.schema.name.clone();
    let schema = TableSchema {
        name: name.clone(),
        columns: Vec::new(),
        key: definition.schema.key.clone(),
        ties: Ties::default(),
    };
    let mut draft = TableDraft {
        schema,
        new_schema: schema_missing,
        statements: Vec::new(),
        additions: Vec::new(),
        refusals: Vec::new(),
        left_out,
    };
    check_name(&mut draft, "", &name.name);
    let mut lines = Vec::new();
    for (column, detail) in definition.schema.columns.iter().zip(&definition.details) {
        let Some(line) = self::column(&mut draft, column, detail) else { continue };
        draft.additions.push((column.name.clone(), format!("ALTER TABLE {} ADD COLUMN {line}", Table(&name))));
        lines.push(line);
    }
    let columns = |places: &mut dyn Iterator<Item = usize>| -> Vec<String> {
        places.filter_map(|at| definition.schema.columns.get(at)).map(|c| Ident(&c.name).to_string()).collect()
    };
    if !draft.schema.key.is_empty() {
        let key = columns(&mut draft.schema.key.iter().copied());
        lines.push(format!("PRIMARY KEY ({})", List(&key)));
    }
    let table = Table(&name);
    if let Some(schema) = name.schema.as_deref().filter(|_| schema_missing) {
        draft.statements.push(format!("CREATE SCHEMA {}", Ident(schema)));
    }
    draft.statements.push(format!("CREATE TABLE {table} (\n  {}\n)", lines.join(",\n  ")));
    // Without it the log has no whole row before a change.
    draft.statements.push(format!("ALTER TABLE {table} REPLICA IDENTITY FULL"));
    for index in &definition.indexes {
        index_statement(&mut draft, &definition, index);
    }
    comments(&mut draft, &definition);
    draft
}

fn check_name(draft: &mut TableDraft, what: &str, name: &str) {
    if name.len() > NAME_BYTES_MAX {
        let remedy = "give it a shorter name on the other side, or map the table by another name";
        let actual = format!("a name of {} bytes", name.len());
        draft.refuse("name-not-portable", what, actual, "at most 63 bytes, which PostgreSQL takes", remedy);
    }
}

/// The column's line; none where it is refused.
fn column(draft: &mut TableDraft, column: &Column, detail: &ColumnDetail) -> Option<String> {
    let what = format!("column {}", column.name);
    check_name(draft, &what, &column.name);
    let Some(kind) = &column.kind else {
        let remedy = "leave the table out, or give the column another type on the other side";
        let expected = "a type that this version has a rule for";
        draft.refuse("column-type-unsupported", &what, column.native.to_string(), expected, remedy);
        return None;
    };
    let (native, oid, modifier) = type_of(kind);
    let mut line = format!("{} {native}", Ident(&column.name));
    // Every column of a key is filled, whatever is said of it.
    if !column.nullable {
        line += " NOT NULL";
    }
    let held = match kind {
        Kind::Spelled { .. } => kind.clone(),
        _ => kind_of(oid, modifier)?,
    };
    let mut has_default = false;
    if let Some(default) = &detail.default {
        match default_text(default, kind, &held) {
            Some(text) => {
                line += &format!(" DEFAULT {text}");
                has_default = true;
            }
            None => draft.left_out.push(format!("the default of {what}, which this server could not hold")),
        }
    }
    if let Kind::Enum { labels } = kind {
        let labels: Vec<_> = labels.iter().map(|label| Literal(label)).collect();
        line += &format!(" CHECK ({} IN ({}))", Ident(&column.name), List(&labels));
    }
    if detail.on_update {
        draft.left_out.push(format!("ON UPDATE CURRENT_TIMESTAMP of {what}, which PostgreSQL has not"));
    }
    if matches!(kind, Kind::Time { span: true, .. }) {
        draft
            .left_out
            .push(format!("what is no time of day in {what}: the bridge stops before a change with such a value"));
    }
    draft.schema.columns.push(Column {
        nullable: column.nullable,
        optional: column.nullable || has_default,
        ..Column::plain(column.name.clone(), native, held)
    });
    Some(line)
}

/// A default of a column of kind `from` for the column here; `None` where that could not hold it.
fn default_text(default: &DefaultValue, from: &Kind, held: &Kind) -> Option<String> {
    Some(match (default, held) {
        (DefaultValue::Now, Kind::Date { .. }) => "CURRENT_DATE".into(),
        (DefaultValue::Now, _) => "CURRENT_TIMESTAMP".into(),
        (DefaultValue::Other(_), _) => return None,
        (DefaultValue::Constant(value), _) => {
            let value = Form::of_pair(from, held)?.convert(value.clone());
            held.fits(&value).ok()?;
            match value {
                Value::Boolean(_) | Value::Integer(_) => text_of(&value)?,
                _ => Literal(&text_of(&value)?).to_string(),
            }
        }
    })
}

/// A value as the type's input function reads it.
fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null | Value::Unchanged | Value::Unmapped(_) => return None,
        Value::Boolean(b) => b.to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Float32(x) => format!("{x:?}"),
        Value::Float64(x) => format!("{x:?}"),
        Value::Decimal(text) | Value::Text(text) | Value::Json(text) => text.to_string(),
        Value::Bytes(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
        Value::Date(days) => calendar::format_date(*days),
        Value::Time(micros) => calendar::format_time(*micros),
        Value::DateTime(micros) => calendar::format_datetime(*micros),
        Value::Instant(micros) => calendar::format_instant(*micros),
        Value::Uuid(bytes) => format_uuid(bytes),
    })
}

fn index_statement(draft: &mut TableDraft, definition: &TableDefinition, index: &Index) {
    let mut parts = Vec::new();
    for part in &index.columns {
        let Some(column) = definition.schema.columns.get(part.column) else { return };
        if let (true, TextEquality::Folding(collation)) = (index.unique, &column.text_equality) {
            let text =
                format!("{}: equality of column {} by {collation}; here it is by bytes", index.words(), column.name);
            draft.left_out.push(text);
        }
        parts.push(format!("{}{}", Ident(&column.name), if part.descending { " DESC" } else { "" }));
    }
    let unique = if index.unique { "UNIQUE " } else { "" };
    let table = definition.schema.name.clone();
    draft.statements.push(format!("CREATE {unique}INDEX ON {} ({})", Table(&table), List(&parts)));
}

fn comments(draft: &mut TableDraft, definition: &TableDefinition) {
    let table = Table(&definition.schema.name);
    if let Some(comment) = &definition.comment {
        draft.statements.push(format!("COMMENT ON TABLE {table} IS {}", Literal(comment)));
    }
    for (column, detail) in definition.schema.columns.iter().zip(&definition.details) {
        if let Some(comment) = &detail.comment {
            let column = Ident(&column.name);
            draft.statements.push(format!("COMMENT ON COLUMN {table}.{column} IS {}", Literal(comment)));
        }
    }
}

/// Drafts of all, a missing schema with the first table in it.
pub(crate) async fn drafts(client: &Client, definitions: &[TableDefinition]) -> Result<Vec<TableDraft>> {
    let failed = |error| error::of_statement(&error);
    let rows = client.query("SELECT nspname::text FROM pg_namespace", &[]).await.map_err(failed)?;
    let mut schemas = rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<Vec<_>>>()?;
    let mut drafts = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let schema = definition.schema.name.schema.as_deref().unwrap_or_default();
        let missing = !schemas.iter().any(|known| known == schema);
        drafts.push(draft(definition, missing));
        schemas.extend(missing.then(|| schema.to_owned()));
    }
    Ok(drafts)
}

/// Makes all tables or none.
pub(crate) async fn make(client: &mut Client, user: &str, drafts: &[TableDraft]) -> Result<()> {
    let transaction = client.transaction().await.map_err(|error| error::of_statement(&error))?;
    for draft in drafts {
        for statement in &draft.statements {
            let done = transaction.batch_execute(statement).await;
            done.map_err(|error| refused(&error, user, &draft.schema.name))?;
        }
    }
    transaction.commit().await.map_err(|error| error::of_statement(&error))
}

fn refused(error: &tokio_postgres::Error, user: &str, name: &TableName) -> Error {
    let said = error::of_statement(error);
    let code = said.code();
    let made = Error::new(code, format!("table {name} cannot be made: {}", said.message()));
    if code != pontoon_core::Code::PrivilegeMissing {
        return made.hint("nothing was made; make the table by hand, or leave it out of the configuration");
    }
    let schema = Ident(name.schema.as_deref().unwrap_or_default());
    made.hint(format!(
        "GRANT CREATE ON SCHEMA {schema} TO {} (where there is no such schema: on the database), or let an administrator run what `pontoon setup --create-tables --print-sql` prints; nothing was made",
        Ident(user)
    ))
}

/// Takes tables back that were just made; returns those that hold rows by now.
pub(crate) async fn unmake(client: &mut Client, drafts: &[TableDraft]) -> Result<Vec<String>> {
    let failed = |error| error::of_statement(&error);
    let mut left = Vec::new();
    // The schema goes last, if nothing else is in it by now.
    for draft in drafts.iter().rev() {
        let table = Table(&draft.schema.name);
        let transaction = client.transaction().await.map_err(failed)?;
        transaction.batch_execute(&format!("LOCK TABLE {table}")).await.map_err(failed)?;
        let row = transaction.query_one(&format!("SELECT EXISTS (SELECT FROM {table})"), &[]).await.map_err(failed)?;
        if get(&row, 0)? {
            left.push(draft.schema.name.to_string());
            continue;
        }
        transaction.batch_execute(&format!("DROP TABLE {table}")).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        if let Some(schema) = draft.schema.name.schema.as_deref().filter(|_| draft.new_schema) {
            // Refused where it is not empty, which is as it should be.
            let _ = client.batch_execute(&format!("DROP SCHEMA {}", Ident(schema))).await;
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use pontoon_core::{TableSchema, definition::IndexColumn};

    use super::*;

    fn column(name: &str, kind: Option<Kind>) -> Column {
        Column {
            name: name.into(),
            native: "as it was".into(),
            kind,
            nullable: name == "note",
            generated: false,
            generator: None,
            optional: true,
            text_equality: TextEquality::Exact,
        }
    }

    fn text(chars_max: Option<u32>) -> Option<Kind> {
        Some(Kind::Text { chars_max, bytes_max: None, padded: false, nul: true })
    }

    /// Columns `id`, `note` and one more, the first two the key the other way round.
    fn definition(more: Column) -> TableDefinition {
        let columns = vec![column("id", Some(Kind::Integer { min: 0, max: 9 })), column("note", text(Some(40))), more];
        let mut details = vec![ColumnDetail::default(); 3];
        details[0].default = Some(DefaultValue::Constant(Value::Integer(7)));
        details[1].comment = Some("it's".into());
        let parts = vec![IndexColumn { column: 1, descending: true }, IndexColumn { column: 0, descending: false }];
        TableDefinition {
            schema: TableSchema { name: TableName::new("s", "t"), columns, key: vec![1, 0], ties: Ties::default() },
            details,
            indexes: vec![Index { name: "i".into(), unique: true, columns: parts }],
            comment: None,
            others: vec!["trigger t".into()],
        }
    }

    #[test]
    fn a_table_is_several_statements() {
        let mood = Kind::Enum { labels: vec!["it's".into(), "so".into()].into() };
        let draft = draft(&definition(column("mood", Some(mood))), true);
        assert_eq!(
            draft.statements,
            [
                "CREATE SCHEMA \"s\"",
                "CREATE TABLE \"s\".\"t\" (\n  \"id\" smallint NOT NULL DEFAULT 7,\n  \"note\" varchar(40),\n  \
                 \"mood\" text NOT NULL CHECK (\"mood\" IN ('it''s', 'so')),\n  PRIMARY KEY (\"note\", \"id\")\n)",
                "ALTER TABLE \"s\".\"t\" REPLICA IDENTITY FULL",
                "CREATE UNIQUE INDEX ON \"s\".\"t\" (\"note\" DESC, \"id\")",
                "COMMENT ON COLUMN \"s\".\"t\".\"note\" IS 'it''s'",
            ]
        );
        assert_eq!(draft.schema.key, [1, 0]);
        assert!(draft.refusals.is_empty());
        assert_eq!(draft.left_out, ["trigger t"]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refusals = |definition: &TableDefinition| {
            let draft = draft(definition, false);
            draft.refusals.iter().map(|finding| format!("{} {}", finding.code, finding.subject)).collect::<Vec<_>>()
        };
        assert_eq!(refusals(&definition(column("place", None))), ["column-type-unsupported s.t column place"]);
        let long = "ä".repeat(32);
        let expected = format!("name-not-portable s.t column {long}");
        assert_eq!(refusals(&definition(column(&long, text(None)))), [expected]);
        let mut folding = definition(column("c", text(None)));
        folding.schema.columns[1].text_equality = TextEquality::Folding("utf8mb4_general_ci".into());
        folding.details[2].on_update = true;
        let left_out = draft(&folding, false).left_out;
        assert!(left_out[1].starts_with("ON UPDATE CURRENT_TIMESTAMP of column c"), "{left_out:?}");
        assert!(
            left_out[2].starts_with("unique index i: equality of column note by utf8mb4_general_ci"),
            "{left_out:?}"
        );
    }

    #[test]
    fn defaults_are_texts_that_the_type_reads() {
        let of = |value: Value, kind: Kind| default_text(&DefaultValue::Constant(value), &kind, &kind);
        let datetime = Kind::DateTime { precision: 6, micros: (i64::MIN, i64::MAX) };
        assert_eq!(of(Value::DateTime(1), datetime).as_deref(), Some("'1970-01-01T00:00:00.000001'"));
        let bytes = Kind::Bytes { bytes_max: None, fixed: false };
        assert_eq!(of(Value::Bytes(vec![0, 255].into()), bytes).as_deref(), Some("'\\x00ff'"));
        assert_eq!(of(Value::Boolean(true), Kind::Boolean).as_deref(), Some("true"));
        assert_eq!(of(Value::Integer(-1), Kind::Integer { min: -5, max: 5 }).as_deref(), Some("-1"));
        assert_eq!(
            of(Value::Text("\0".into()), Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false }),
            None
        );
    }
}
