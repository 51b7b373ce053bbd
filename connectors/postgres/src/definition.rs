//! Whole definitions of tables, for making their like on another server.
//!
//! A default is taken as a constant where `pg_get_expr` prints one: a number, a word or a quoted text, within
//! parentheses and with casts behind it. The server prints a quoted text by `standard_conforming_strings`, which
//! is pinned, and never with `E''` (`simple_quote_literal` in ruleutils.c). All else is an expression, of which
//! only the present moment has a twin on other servers.

use std::collections::HashMap;

use pontoon_core::{
    Kind, Result, TableDefinition, TableName,
    definition::{ColumnDetail, DefaultValue, Index, IndexColumn},
};
use tokio_postgres::{Client, Row};

use crate::{
    catalog::{self, get, text},
    decode, error,
};

const WANTED: &str = "FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')";

const DETAILS: &str = "SELECT n.nspname::text, c.relname::text, a.attname::text,
        CASE WHEN a.attgenerated = '' THEN coalesce(pg_get_expr(d.adbin, d.adrelid), t.typdefault) END,
        col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class')";

const INDEXES: &str = "SELECT n.nspname::text, c.relname::text, ic.relname::text, i.indisunique,
        CASE WHEN i.indexprs IS NOT NULL THEN 'over an expression'
            WHEN i.indpred IS NOT NULL THEN 'over a part of the rows'
            WHEN (to_jsonb(i) ->> 'indnullsnotdistinct')::bool THEN 'in which null equals null'
            WHEN am.amname NOT IN ('btree', 'hash') THEN 'of kind ' || am.amname END,
        ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE k.place <= i.indnkeyatts ORDER BY k.place),
        ARRAY(SELECT (o.flags & 1) = 1 FROM unnest(i.indoption::int2[]) WITH ORDINALITY AS o(flags, place)
            ORDER BY o.place)";

const OTHERS: &str =
    "SELECT want.nspname, want.relname, other.what FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')
    CROSS JOIN LATERAL (
        SELECT 'partitioning' AS what WHERE c.relkind = 'p'
        UNION ALL SELECT CASE contype WHEN 'f' THEN 'foreign key ' ELSE 'check constraint ' END || conname
            FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('c', 'f')
        UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
    ) other ORDER BY 1, 2, 3";

/// The definitions in the order asked for.
pub(crate) async fn load(client: &Client, names: &[TableName]) -> Result<Vec<Option<TableDefinition>>> {
    let names: Vec<_> = names.iter().map(catalog::with_schema).collect();
    let (schemas, tables) = catalog::split(&names);
    let rows =
        async |sql: String| client.query(&sql, &[&schemas, &tables]).await.map_err(|error| error::of_statement(&error));
    let described = catalog::describe(client, &names).await?;
    let mut found: HashMap<TableName, TableDefinition> = HashMap::new();
    for schema in described.into_iter().flatten() {
        let details = vec![ColumnDetail::default(); schema.columns.len()];
        let empty = TableDefinition { details, indexes: Vec::new(), comment: None, others: Vec::new(), schema };
        found.insert(empty.schema.name.clone(), empty);
    }
    let columns = rows(format!(
        "{DETAILS} {WANTED} JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum ORDER BY c.oid, a.attnum"
    ));
    for row in &columns.await? {
        if let Some(table) = found.get_mut(&name_of(row)?) {
            add_detail(table, row)?;
        }
    }
    let indexes = rows(format!(
        "{INDEXES} {WANTED} JOIN pg_index i ON i.indrelid = c.oid AND NOT i.indisprimary AND i.indisvalid
        JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam ORDER BY c.oid, ic.relname"
    ));
    for row in &indexes.await? {
        if let Some(table) = found.get_mut(&name_of(row)?) {
            add_index(table, row)?;
        }
    }
    for row in &rows(OTHERS.into()).await? {
        if let Some(table) = found.get_mut(&name_of(row)?) {
            table.others.push(text(row, 2)?);
        }
    }
    Ok(names.iter().map(|name| found.remove(name)).collect())
}

fn name_of(row: &Row) -> Result<TableName> {
    Ok(TableName::new(text(row, 0)?, text(row, 1)?))
}

fn add_detail(table: &mut TableDefinition, row: &Row) -> Result<()> {
    let name = text(row, 2)?;
    let Some(at) = table.schema.columns.iter().position(|column| *column.name == *name) else { return Ok(()) };
    let column = &table.schema.columns[at];
    let expression = get::<Option<String>>(row, 3)?.filter(|_| column.generator.is_none());
    table.details[at] = ColumnDetail {
        default: expression.and_then(|text| default(&text, column.kind.as_ref())),
        on_update: false,
        comment: get::<Option<String>>(row, 4)?.map(Into::into),
    };
    table.comment = get::<Option<String>>(row, 5)?.map(Into::into);
    Ok(())
}

fn add_index(table: &mut TableDefinition, row: &Row) -> Result<()> {
    let (name, unique) = (text(row, 2)?, get::<bool>(row, 3)?);
    if let Some(why) = get::<Option<String>>(row, 4)? {
        let word = if unique { "unique index" } else { "index" };
        table.others.push(format!("{word} {name}, {why}"));
        return Ok(());
    }
    let (names, descending): (Vec<String>, Vec<bool>) = (get(row, 5)?, get(row, 6)?);
    let place = |name: &String| table.schema.columns.iter().position(|column| *column.name == **name);
    let columns = names.iter().zip(descending);
    let columns = columns.filter_map(|(name, descending)| Some(IndexColumn { column: place(name)?, descending }));
    let columns = columns.collect();
    table.indexes.push(Index { name: name.into(), unique, columns });
    Ok(())
}

/// What an expression gives; `None` where that is null.
fn default(expression: &str, kind: Option<&Kind>) -> Option<DefaultValue> {
    let other = || Some(DefaultValue::Other(expression.into()));
    let Some(kind) = kind else { return other() };
    match literal(expression) {
        Some(Literal::Null) => None,
        Some(Literal::Text(text)) => {
            Some(DefaultValue::constant(kind, decode::value(kind, text.as_bytes()), expression))
        }
        None if is_now(expression, kind) => Some(DefaultValue::Now),
        None => other(),
    }
}

fn is_now(expression: &str, kind: &Kind) -> bool {
    let word = expression.split('(').next().unwrap_or_default();
    let bare = expression.strip_prefix(word).is_some_and(|rest| rest.bytes().all(|b| b"()0123456".contains(&b)));
    match kind {
        Kind::DateTime { .. } => bare && matches!(word, "now" | "CURRENT_TIMESTAMP" | "LOCALTIMESTAMP"),
        Kind::Instant { .. } => bare && matches!(word, "now" | "CURRENT_TIMESTAMP"),
        Kind::Date { .. } => expression == "CURRENT_DATE",
        _ => false,
    }
}

#[derive(Debug, PartialEq)]
enum Literal {
    Null,
    Text(String),
}

/// A constant within any parentheses and casts; `None` for anything else.
fn literal(expression: &str) -> Option<Literal> {
    let (token, rest) = if let Some(quoted) = expression.strip_prefix('\'') {
        let (token, rest) = unquote(quoted)?;
        (Literal::Text(token), rest)
    } else if expression.starts_with('(') {
        let close = closing(expression)?;
        (literal(&expression[1..close])?, &expression[close + 1..])
    } else {
        let end = expression.find("::").unwrap_or(expression.len());
        let (word, rest) = expression.split_at(end);
        let number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && word.bytes().all(|b| b.is_ascii_digit() || b"-+.eE".contains(&b));
        match word {
            "NULL" => (Literal::Null, rest),
            "true" | "false" => (Literal::Text(word.into()), rest),
            _ if number => (Literal::Text(word.into()), rest),
            _ => return None,
        }
    };
    // What follows may be casts and nothing else: of what an expression goes on with, a name of a type has nothing.
    let casts = rest.is_empty() || rest.starts_with("::") && !rest.bytes().any(|b| b"'+-*/<>=~!@#%^&|`?".contains(&b));
    casts.then_some(token)
}

/// The text up to its closing quote, and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let (mut text, mut rest) = (String::new(), quoted);
    loop {
        let at = rest.find('\'')?;
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                text.push('\'');
                rest = more;
            }
            None => return Some((text, rest)),
        }
    }
}

/// Where the parenthesis at the start is closed.
fn closing(expression: &str) -> Option<usize> {
    let (mut depth, mut quoted) = (0_usize, false);
    for (at, c) in expression.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;
    use proptest::prelude::*;

    use super::*;

    const INTEGER: Kind = Kind::Integer { min: -10, max: 10 };
    const TEXT: Kind = Kind::Text { chars_max: Some(3), bytes_max: None, padded: false, nul: false };
    const MOMENT: Kind = Kind::Instant { precision: 6, micros: (i64::MIN, i64::MAX) };

    fn constant(expression: &str, kind: &Kind) -> Option<Value> {
        match default(expression, Some(kind))? {
            DefaultValue::Constant(value) => Some(value),
            other => panic!("{expression}: {other:?}"),
        }
    }

    #[test]
    fn constants_are_read_through_casts() {
        assert_eq!(constant("0", &INTEGER), Some(Value::Integer(0)));
        assert_eq!(constant("'-1'::integer", &INTEGER), Some(Value::Integer(-1)));
        assert_eq!(constant("('-1'::integer)::smallint", &INTEGER), Some(Value::Integer(-1)));
        assert_eq!(
            constant(
                "'it''s'::character varying",
                &Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false }
            ),
            Some(Value::Text("it's".into()))
        );
        assert_eq!(constant("')('::text", &TEXT), Some(Value::Text(")(".into())));
        assert_eq!(constant("true", &Kind::Boolean), Some(Value::Boolean(true)));
        assert_eq!(constant("(0)::numeric", &Kind::Decimal { digits: Some((4, 2)) }), Some(Value::Decimal("0".into())));
        assert_eq!(constant("NULL::character varying", &TEXT), None);
        let zero = constant("'1970-01-01 00:00:00+00'::timestamp with time zone", &MOMENT);
        assert_eq!(zero, Some(Value::Instant(0)));
    }

    #[test]
    fn the_present_is_known_and_the_rest_kept_in_its_words() {
        for now in ["now()", "CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP(3)"] {
            assert_eq!(default(now, Some(&MOMENT)), Some(DefaultValue::Now), "{now}");
        }
        for (other, kind) in [
            ("(now() + '1 day'::interval)", &MOMENT),
            ("timezone('utc'::text, now())", &MOMENT),
            ("('a'::text || 'b'::text)", &TEXT),
            ("((1)::numeric + (2)::numeric)", &INTEGER),
            ("gen_random_uuid()", &Kind::Uuid),
            // The server would round or refuse it when it is taken.
            ("(1.5)::integer", &INTEGER),
            ("11", &INTEGER),
            ("'long text'::text", &TEXT),
            ("now()", &TEXT),
        ] {
            assert_eq!(default(other, Some(kind)), Some(DefaultValue::Other(other.into())), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_expression_is_read_or_kept(text in "[()':a0+| ]{0,20}|.{0,20}") {
            let _ = default(&text, Some(&TEXT));
        }
    }
}
