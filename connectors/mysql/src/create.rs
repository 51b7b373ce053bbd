//! How the like of another server's table is made here: from its definition to statements. Pure, but for the
//! functions at the end that run them.
//!
//! Texts of the whole table compare by bytes, as everywhere a bridge looks at them, so a key means the same on both
//! sides: `utf8mb4_0900_bin` and `utf8mb4_nopad_bin` are the collations that do not pad. Documents and long texts and bytes have a default only as an expression in parentheses,
//! and no index. A key has at most 3072 bytes and 16 columns (MySQL manual, "InnoDB Limits"; MariaDB the same), its
//! texts counted with four bytes for a character. Indexes get the names that the server gives by itself.
//!
//! A statement that defines something commits by itself here. So all that can be known is looked at before the
//! first of them, and tables that were made are taken back where a later one is refused.

use pontoon_core::{
    Code, Column, Error, Form, Kind, Result, TableDefinition, TableDraft, TableName, TableSchema, Value, calendar,
    definition::{ColumnDetail, DefaultValue, Index},
    schema::{TextEquality, Ties},
};

use crate::{
    admin,
    connect::{Client, Flavour, text},
    encode,
    quote::{Ident, Table},
    types::{Type, type_of},
    version::Server,
};

/// The longest name in characters.
const NAME_CHARS_MAX: usize = 64;
/// The most that a key has (`MAX_KEY_LENGTH`).
const KEY_BYTES_MAX: u32 = 3072;
/// The most columns of a key on MySQL (`MAX_REF_PARTS`); MariaDB takes more.
const KEY_COLUMNS_MAX: usize = 16;
/// The longest comments (MySQL manual, "CREATE TABLE Statement").
const TABLE_COMMENT_CHARS_MAX: usize = 2048;
const COLUMN_COMMENT_CHARS_MAX: usize = 1024;

/// What a draft depends on.
pub(crate) struct Facts {
    pub(crate) server: Server,
    /// Without it the first timestamp of a table that may not be null gets defaults of the server's own.
    pub(crate) explicit_timestamps: bool,
}

/// How a table would be made. `database_missing`: its database has to be made first.
pub(crate) fn draft(definition: &TableDefinition, facts: &Facts, database_missing: bool) -> TableDraft {
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
        new_schema: database_missing,
        statements: Vec::new(),
        additions: Vec::new(),
        refusals: Vec::new(),
        left_out,
    };
    check_name(&mut draft, "", &name.name);
    let mut lines = Vec::new();
    let mut key_bytes = Vec::new();
    for (column, detail) in definition.schema.columns.iter().zip(&definition.details) {
        let line = self::column(&mut draft, facts, column, detail);
        key_bytes.push(line.as_ref().and_then(|(_, bytes)| *bytes));
        let Some((line, _)) = line else { continue };
        draft.additions.push((column.name.clone(), format!("ALTER TABLE {} ADD COLUMN {line}", Table(&name))));
        lines.push(line);
    }
    if !draft.refusals.is_empty() {
        return draft;
    }
    let key: Vec<usize> = draft.schema.key.clone();
    if !key.is_empty() {
        if let Some((what, actual)) = unfit(&definition, &key, &key_bytes) {
            refuse_key(&mut draft, &what, actual);
        }
        let names: Vec<_> = key.iter().map(|&at| Ident(&definition.schema.columns[at].name).to_string()).collect();
        lines.push(format!("PRIMARY KEY ({})", names.join(", ")));
    }
    for index in &definition.indexes {
        lines.extend(index_line(&mut draft, &definition, index, &key_bytes));
    }
    if let Some(database) = name.schema.as_deref().filter(|_| database_missing) {
        draft.statements.push(format!("CREATE DATABASE {} CHARACTER SET utf8mb4", Ident(database)));
    }
    let collation = match facts.server.flavour {
        Flavour::Mysql => "utf8mb4_0900_bin",
        Flavour::Mariadb => "utf8mb4_nopad_bin",
    };
    let comment = comment(&mut draft, "table", definition.comment.as_deref(), TABLE_COMMENT_CHARS_MAX);
    draft.statements.push(format!(
        "CREATE TABLE {} (\n  {}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE={collation}{comment}",
        Table(&name),
        lines.join(",\n  ")
    ));
    draft
}

fn check_name(draft: &mut TableDraft, what: &str, name: &str) {
    let fits = name.chars().count() <= NAME_CHARS_MAX && !name.ends_with(' ') && name.chars().all(|c| c <= '\u{ffff}');
    if !fits {
        let remedy = "give it another name on the other side, or map the table by another name";
        let expected = "at most 64 characters of the Basic Multilingual Plane, the last one no blank";
        draft.refuse("name-not-portable", what, format!("{name:?}"), expected, remedy);
    }
}

/// The column's line and its bytes in a key; none where it is refused.
fn column(
    draft: &mut TableDraft,
    facts: &Facts,
    column: &Column,
    detail: &ColumnDetail,
) -> Option<(String, Option<u32>)> {
    let what = format!("column {}", column.name);
    check_name(draft, &what, &column.name);
    if draft.schema.columns.iter().any(|other| other.name.to_lowercase() == column.name.to_lowercase()) {
        let remedy = "give one of the two another name on the other side";
        draft.refuse(
            "name-not-portable",
            &what,
            "differs from another column in case alone".into(),
            "names that differ",
            remedy,
        );
    }
    let Some(kind) = &column.kind else {
        let remedy = "leave the table out, or give the column another type on the other side";
        let expected = "a type that this version has a rule for";
        draft.refuse("column-type-unsupported", &what, column.native.to_string(), expected, remedy);
        return None;
    };
    let chosen = match type_of(kind, &facts.server) {
        Ok(chosen) => chosen,
        Err((expected, remedy)) => {
            draft.refuse("column-not-portable", &what, column.native.to_string(), expected, remedy);
            return None;
        }
    };
    let is_moment = matches!(chosen.held, Kind::Instant { .. });
    let mut line = format!("{} {}", Ident(&column.name), chosen.native);
    // A timestamp of which nothing is said cannot be null on some servers.
    line += if !column.nullable {
        " NOT NULL"
    } else if is_moment {
        " NULL"
    } else {
        ""
    };
    let mut has_default = false;
    match &detail.default {
        Some(default) => match default_text(default, kind, &chosen) {
            Some(text) => {
                line += &format!(" DEFAULT {text}");
                has_default = true;
            }
            None => draft.left_out.push(format!("the default of {what}, which this server could not hold")),
        },
        None if is_moment && !column.nullable && !facts.explicit_timestamps => {
            let remedy = "SET GLOBAL explicit_defaults_for_timestamp = ON";
            let actual = "explicit_defaults_for_timestamp = OFF, which gives it a default that it has not".into();
            draft.refuse("timestamp-defaults", &what, actual, "explicit_defaults_for_timestamp = ON", remedy);
        }
        None => {}
    }
    if detail.on_update {
        line += &format!(" ON UPDATE {}", now(&chosen.held));
    }
    line += &comment(draft, &what, detail.comment.as_deref(), COLUMN_COMMENT_CHARS_MAX);
    narrower(draft, &what, kind, &chosen.held);
    draft.schema.columns.push(Column {
        nullable: column.nullable,
        optional: column.nullable || has_default,
        ..Column::plain(column.name.clone(), chosen.native, chosen.held)
    });
    Some((line, chosen.key_bytes))
}

/// Says where the only type that goes with the other side's holds less.
fn narrower(draft: &mut TableDraft, what: &str, from: &Kind, held: &Kind) {
    if let (Kind::Instant { micros: theirs, .. }, Kind::Instant { micros: ours, .. }) = (from, held)
        && (theirs.0 < ours.0 || theirs.1 > ours.1)
    {
        let last = encode::datetime(ours.1).unwrap_or_default();
        draft.left_out.push(format!(
            "moments in {what} before 1970 or after {last} UTC: the bridge stops before a change with one"
        ));
    }
}

fn now(held: &Kind) -> String {
    match held {
        Kind::DateTime { precision: digits @ 1.., .. } | Kind::Instant { precision: digits @ 1.., .. } => {
            format!("CURRENT_TIMESTAMP({digits})")
        }
        Kind::Date { .. } => "(CURRENT_DATE)".into(),
        _ => "CURRENT_TIMESTAMP".into(),
    }
}

/// A default of a column of kind `from` for the column here; `None` where that could not hold it.
fn default_text(default: &DefaultValue, from: &Kind, chosen: &Type) -> Option<String> {
    let held = &chosen.held;
    let value = match default {
        DefaultValue::Now => return Some(now(held)),
        DefaultValue::Other(_) => return None,
        DefaultValue::Constant(value) => Form::of_pair(from, held)?.convert(value.clone()),
    };
    held.fits(&value).ok()?;
    let mut sql = match (&value, held) {
        // MySQL takes no typed literal with more digits than the column as its default (error 1067).
        (Value::Date(days), _) => encode::text(&calendar::format_date(*days)),
        (Value::Time(micros), Kind::Time { precision, .. }) => {
            encode::text(&cut(&calendar::format_time(*micros), *precision))
        }
        (Value::DateTime(micros), Kind::DateTime { precision, .. }) => {
            encode::text(&cut(&encode::datetime(*micros)?, *precision))
        }
        // It would be read in the zone of whoever runs the statement.
        (Value::Instant(_), _) => return None,
        _ => String::new(),
    };
    if sql.is_empty() && !encode::push(&mut sql, &value, held) {
        return None;
    }
    Some(if chosen.key_bytes.is_some() { sql } else { format!("({sql})") })
}

/// A time with as many digits of the fraction as its column has.
fn cut(text: &str, precision: u8) -> String {
    match text.split_once('.') {
        Some((whole, _)) if precision == 0 => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{}", &fraction[..fraction.len().min(precision.into())]),
        None => text.to_owned(),
    }
}

fn comment(draft: &mut TableDraft, what: &str, comment: Option<&str>, most: usize) -> String {
    match comment {
        Some(comment) if comment.chars().count() <= most => format!(" COMMENT {}", encode::text(comment)),
        Some(_) => {
            draft.left_out.push(format!("the comment of {what}, which is longer than {most} characters"));
            String::new()
        }
        None => String::new(),
    }
}

/// What keeps these columns from being a key: the part that is meant, and why.
fn unfit(definition: &TableDefinition, places: &[usize], key_bytes: &[Option<u32>]) -> Option<(String, String)> {
    let mut sum = 0_u32;
    for &at in places {
        let column = &definition.schema.columns[at];
        let Some(bytes) = key_bytes.get(at).copied().flatten() else {
            return Some((format!("column {}", column.name), format!("{}, which has no length", column.native)));
        };
        sum = sum.saturating_add(bytes);
    }
    let names: Vec<_> = places.iter().map(|&at| &*definition.schema.columns[at].name).collect();
    let what = format!("columns {}", names.join(", "));
    if sum > KEY_BYTES_MAX {
        Some((what, format!("a key of {sum} bytes")))
    } else if places.len() > KEY_COLUMNS_MAX {
        Some((what, format!("a key of {} columns", places.len())))
    } else {
        None
    }
}

fn refuse_key(draft: &mut TableDraft, what: &str, actual: String) {
    let expected = "a key of at most 3072 bytes and 16 columns, four bytes for each character of a text";
    let remedy = "give its texts a length on the other side: ALTER TABLE ... ALTER COLUMN ... TYPE varchar(100)";
    draft.refuse("key-not-portable", what, actual, expected, remedy);
}

/// The line of an index. One that cannot be is left out, but for a unique one: without it rows could get in that
/// the other side refuses.
fn index_line(
    draft: &mut TableDraft,
    definition: &TableDefinition,
    index: &Index,
    key_bytes: &[Option<u32>],
) -> Option<String> {
    let places: Vec<usize> = index.columns.iter().map(|part| part.column).collect();
    if let Some((what, actual)) = unfit(definition, &places, key_bytes) {
        if index.unique {
            refuse_key(draft, &format!("{}, {what}", index.words()), actual);
        } else {
            draft.left_out.push(format!("{}: {what}, {actual}", index.words()));
        }
        return None;
    }
    let mut parts = Vec::new();
    for part in &index.columns {
        let column = &definition.schema.columns[part.column];
        if let (true, TextEquality::Folding(collation)) = (index.unique, &column.text_equality) {
            let text =
                format!("{}: equality of column {} by {collation}; here it is by bytes", index.words(), column.name);
            draft.left_out.push(text);
        }
        parts.push(format!("{}{}", Ident(&column.name), if part.descending { " DESC" } else { "" }));
    }
    Some(format!("{}KEY ({})", if index.unique { "UNIQUE " } else { "" }, parts.join(", ")))
}

/// Drafts of all, a missing database with the first table in it.
pub(crate) async fn drafts(client: &mut Client, definitions: &[TableDefinition]) -> Result<Vec<TableDraft>> {
    let rows = client.rows("SELECT schema_name FROM information_schema.schemata").await?;
    let mut databases: Vec<String> = rows.iter().filter_map(|row| text(row, 0)).collect();
    let explicit = client.scalar("SELECT @@explicit_defaults_for_timestamp").await?;
    let facts = Facts { server: (*client.server).clone(), explicit_timestamps: explicit.as_deref() != Some("0") };
    let mut drafts = Vec::with_capacity(definitions.len());
    for definition in definitions {
        let database = definition.schema.name.schema.as_deref().unwrap_or_default();
        let missing = !databases.iter().any(|known| known == database);
        drafts.push(draft(definition, &facts, missing));
        databases.extend(missing.then(|| database.to_owned()));
    }
    Ok(drafts)
}

/// Makes all tables or none.
pub(crate) async fn make(client: &mut Client, drafts: &[TableDraft]) -> Result<()> {
    for (at, draft) in drafts.iter().enumerate() {
        for (number, statement) in draft.statements.iter().enumerate() {
            if let Err(error) = client.run(statement.as_str()).await {
                let mut left = unmake(client, &drafts[..at]).await;
                left.extend((draft.new_schema && number > 0).then(|| empty_database(draft)));
                let account = admin::account(client).await.unwrap_or_else(|_| "the bridge's user".into());
                return Err(refused(&error, &draft.schema.name, &account, &left));
            }
        }
    }
    Ok(())
}

/// A database stays: to drop one would take along whatever is in it by now.
fn empty_database(draft: &TableDraft) -> String {
    format!("the empty database {}", draft.schema.name.schema.as_deref().unwrap_or_default())
}

fn refused(error: &Error, name: &TableName, account: &str, left: &[String]) -> Error {
    let made = Error::new(error.code(), format!("table {name} cannot be made: {}", error.message()));
    let left = if left.is_empty() { "nothing was made".into() } else { format!("left there is {}", left.join(", ")) };
    if error.code() != Code::PrivilegeMissing {
        return made.hint(format!("{left}; make the table by hand, or leave it out of the configuration"));
    }
    let database = Ident(name.schema.as_deref().unwrap_or_default());
    made.hint(format!(
        "GRANT CREATE ON {database}.* TO {account}, or let an administrator run what `pontoon setup --create-tables --print-sql` prints; {left}"
    ))
}

/// Takes tables back that were just made; returns those that hold rows by now, or that the user may not drop.
/// Under the lock nobody can write between the look and the end.
pub(crate) async fn unmake(client: &mut Client, drafts: &[TableDraft]) -> Vec<String> {
    let mut left = Vec::new();
    for draft in drafts {
        let table = Table(&draft.schema.name);
        let dropped = async {
            client.run(format!("LOCK TABLES {table} WRITE")).await?;
            let empty = client.rows(format!("SELECT 1 FROM {table} LIMIT 1")).await?.is_empty();
            if empty {
                client.run(format!("DROP TABLE {table}")).await?;
            }
            Ok::<bool, Error>(empty)
        };
        if !matches!(dropped.await, Ok(true)) {
            left.push(draft.schema.name.to_string());
        } else if draft.new_schema {
            left.push(empty_database(draft));
        }
        // The session ends soon, and with it a lock that could not be given up.
        let _ = client.run("UNLOCK TABLES").await;
    }
    left
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

    fn facts(flavour: Flavour, explicit_timestamps: bool) -> Facts {
        Facts { server: Server::sample(flavour, 1), explicit_timestamps }
    }

    fn moment() -> Option<Kind> {
        Some(Kind::Instant { precision: 3, micros: (0, i64::MAX) })
    }

    #[test]
    fn a_table_is_one_statement() {
        let draft = draft(&definition(column("at", moment())), &facts(Flavour::Mariadb, true), true);
        assert_eq!(
            draft.statements,
            [
                "CREATE DATABASE `s` CHARACTER SET utf8mb4",
                "CREATE TABLE `s`.`t` (\n  `id` tinyint NOT NULL DEFAULT 7,\n  `note` varchar(40) COMMENT 'it''s',\n  \
                 `at` timestamp(3) NOT NULL,\n  PRIMARY KEY (`note`, `id`),\n  UNIQUE KEY (`note` DESC, `id`)\n) \
                 ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin",
            ]
        );
        assert_eq!(draft.schema.key, [1, 0]);
        assert!(draft.refusals.is_empty());
        assert_eq!(draft.left_out.len(), 2, "{:?}", draft.left_out);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refusals = |definition: &TableDefinition, explicit: bool| {
            let draft = draft(definition, &facts(Flavour::Mysql, explicit), false);
            draft.refusals.iter().map(|finding| format!("{} {}", finding.code, finding.subject)).collect::<Vec<_>>()
        };
        let of = |more: Column| refusals(&definition(more), true);
        assert_eq!(of(column("place", None)), ["column-type-unsupported s.t column place"]);
        assert_eq!(of(column("n", Some(Kind::Decimal { digits: None }))), ["column-not-portable s.t column n"]);
        assert_eq!(of(column("ID", text(Some(1)))), ["name-not-portable s.t column ID"]);
        assert_eq!(of(column("blank ", text(Some(1)))), ["name-not-portable s.t column blank "]);
        assert_eq!(refusals(&definition(column("at", moment())), false), ["timestamp-defaults s.t column at"]);
        let key_of = |kind, unique| {
            let mut definition = definition(column("c", kind));
            definition.indexes[0].unique = unique;
            definition.indexes[0].columns[0].column = 2;
            definition
        };
        assert!(refusals(&key_of(text(Some(767)), true), true).is_empty());
        assert_eq!(
            refusals(&key_of(text(Some(768)), true), true),
            ["key-not-portable s.t unique index i, columns c, id"]
        );
        assert_eq!(refusals(&key_of(text(None), true), true), ["key-not-portable s.t unique index i, column c"]);
        // Without one that is not unique nothing gets in that does not belong there.
        let draft = draft(&key_of(text(None), false), &facts(Flavour::Mysql, true), false);
        assert!(draft.refusals.is_empty() && draft.left_out[1].starts_with("index i: column c, "), "{draft:#?}");
        let mut keyed = definition(column("c", text(None)));
        keyed.schema.key = vec![2];
        assert_eq!(refusals(&keyed, true), ["key-not-portable s.t column c"]);
    }

    #[test]
    fn defaults_have_the_digits_of_their_column() {
        let of = |value: Value, kind: Kind| {
            let chosen = type_of(&kind, &facts(Flavour::Mysql, true).server).ok()?;
            default_text(&DefaultValue::Constant(value), &kind, &chosen)
        };
        let datetime = |precision| Kind::DateTime { precision, micros: (i64::MIN, i64::MAX) };
        assert_eq!(of(Value::DateTime(1_500_000), datetime(0)).as_deref(), Some("'1970-01-01 00:00:01'"));
        assert_eq!(of(Value::DateTime(1_500_000), datetime(3)).as_deref(), Some("'1970-01-01 00:00:01.500'"));
        assert_eq!(of(Value::Time(1), Kind::Time { precision: 6, span: true }).as_deref(), Some("'00:00:00.000001'"));
        assert_eq!(of(Value::Text("it's".into()), text(None).unwrap()).as_deref(), Some("('it''s')"));
        assert_eq!(of(Value::Instant(1), moment().unwrap()), None);
        assert_eq!(of(Value::Float64(f64::NAN), Kind::Float64 { special: true }), None);
    }
}
