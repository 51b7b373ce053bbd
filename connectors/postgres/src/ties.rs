//! Unique constraints and foreign keys: what the catalogs say of them, and who is tied to whom.
//!
//! The server checks no foreign key of what the bridge writes (`session_replication_role = replica`; manual, "Client
//! Connection Defaults"), so the bridge looks itself, in the transaction that has written:
//!
//! * A row that refers to another takes that one's lock FOR KEY SHARE, as the server's own check does (manual,
//!   "Row-Level Locks"): who removes it waits until this transaction has ended, and then sees the row that refers.
//! * Who has removed a row looks in a new statement for rows that refer to it. One that was inserted meanwhile held that
//!   lock, so the removal waited for it, and at READ COMMITTED the new statement sees it.
//!
//! A unique index over an expression, over some of the rows, or whose nulls meet is no constraint here, nor is one WITHOUT OVERLAPS (18 and
//! later; manual, "CREATE TABLE"): what they refuse is refused like by any other constraint.
//!
//! A foreign key that is NOT ENFORCED (18 and later, `pg_constraint.conenforced`) is none: the server lets rows refer to nothing, so nothing is
//! broken by one that does. One over a PERIOD (18, `conperiod`) is told with that word: rows of the parent cover its span together, which is more
//! than the bridge looks at.

use std::collections::HashMap;

use pontoon_core::{
    Code, Error, Key, MappedTable, Result, Row, TableId, TableName, TableSchema,
    node::Tables,
    schema::{ForeignKey, Reference, Ties, Unique, UniqueKey},
};
use tokio_postgres::Client;

use crate::{
    catalog::{get, split, text},
    error,
    quote::{Ident, Table},
    scan::{arrays_of, numbered_rows, of_table, rows_by},
    statement::{self, Locking},
};

const UNIQUES: &str = "SELECT n.nspname::text, c.relname::text, ic.relname::text,
        ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
            WHERE k.place <= i.indnkeyatts ORDER BY k.place)
    FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
    JOIN pg_index i ON i.indrelid = c.oid
    JOIN pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indisunique AND NOT i.indisprimary AND NOT i.indisexclusion AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
        AND NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)
    ORDER BY 1, 2, 3";

const REFERENCES: &str = "WITH want AS (
        SELECT c.oid FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
        JOIN pg_namespace n ON n.nspname = want.nspname
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname
    )
    SELECT n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, k.conname::text,
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum ORDER BY u.place),
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(attnum, place)
            JOIN pg_attribute a ON a.attrelid = p.oid AND a.attnum = u.attnum ORDER BY u.place),
        coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false)
    FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
    WHERE k.contype = 'f' AND k.conparentid = 0 AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)
        AND (k.conrelid IN (SELECT oid FROM want) OR k.confrelid IN (SELECT oid FROM want))
    ORDER BY 1, 2, 5";

/// Adds to tables what ties their rows.
pub(crate) async fn add(client: &Client, tables: &mut [Option<TableSchema>]) -> Result<()> {
    let names: Vec<TableName> = tables.iter().flatten().map(|table| table.name.clone()).collect();
    let mut ties = load(client, split(&names)).await?;
    for table in tables.iter_mut().flatten() {
        table.ties = ties.remove(&table.name).unwrap_or_default();
    }
    Ok(())
}

async fn load(client: &Client, (schemas, tables): (Vec<&str>, Vec<&str>)) -> Result<HashMap<TableName, Ties>> {
    let failed = |error| error::of_statement(&error);
    let mut found: HashMap<TableName, Ties> = HashMap::new();
    for row in client.query(UNIQUES, &[&schemas, &tables]).await.map_err(failed)? {
        let unique = UniqueKey { name: text(&row, 2)?.into(), columns: names(&row, 3)? };
        found.entry(TableName::new(text(&row, 0)?, text(&row, 1)?)).or_default().uniques.push(unique);
    }
    for row in client.query(REFERENCES, &[&schemas, &tables]).await.map_err(failed)? {
        let child = TableName::new(text(&row, 0)?, text(&row, 1)?);
        let parent = TableName::new(text(&row, 2)?, text(&row, 3)?);
        let (name, columns, parent_columns): (Box<str>, _, _) =
            (text(&row, 4)?.into(), names(&row, 5)?, names(&row, 6)?);
        found.entry(parent.clone()).or_default().referrers.push((child.clone(), name.clone()));
        let foreign = ForeignKey { name, columns, parent, parent_columns, over_period: get(&row, 7)? };
        found.entry(child).or_default().references.push(foreign);
    }
    Ok(found)
}

fn names(row: &tokio_postgres::Row, at: usize) -> Result<Vec<Box<str>>> {
    Ok(get::<Vec<String>>(row, at)?.into_iter().map(Into::into).collect())
}

/// A table and the one that its reference is to, and the reference.
pub(crate) fn tied(
    tables: &Tables,
    table: TableId,
    reference: usize,
) -> Result<((&MappedTable, &MappedTable), &Reference)> {
    let table = &tables[table.index()];
    let found = table.references.get(reference).ok_or_else(|| no_such_tie(table))?;
    let parent = tables.get(found.parent.index()).ok_or_else(|| no_such_tie(table))?;
    Ok(((table, parent), found))
}

/// A unique constraint of a table.
pub(crate) fn unique(table: &MappedTable, unique: usize) -> Result<&Unique> {
    table.uniques.get(unique).ok_or_else(|| no_such_tie(table))
}

fn no_such_tie(table: &MappedTable) -> Error {
    Error::new(Code::Internal, format!("table {}: no such constraint", table.name))
}

/// For each row, the key of the one that has its values in a unique constraint's columns.
pub(crate) async fn holders(
    client: &Client,
    table: &MappedTable,
    unique: &Unique,
    rows: &[Row],
) -> Result<Vec<Option<Key>>> {
    let sql = statement::by_columns(table, &unique.columns, Locking::No);
    let statement = client.prepare(&sql).await.map_err(|error| of_table(&error, table))?;
    let values = |row: &Row| Key(unique.columns.iter().map(|&at| row.0[at].clone()).collect());
    let values: Vec<Key> = rows.iter().map(values).collect();
    let found = rows_by(client, &statement, table, &unique.columns, &values).await?;
    Ok(found.into_iter().map(|row| row.map(|row| table.key_of(&row))).collect())
}

/// Which rows of these keys refer to one that is not there; the others' are locked.
pub(crate) async fn orphans(
    client: &Client,
    (table, parent): (&MappedTable, &MappedTable),
    reference: &Reference,
    keys: &[Key],
) -> Result<Vec<Key>> {
    let (listed, found_by) = (statement::listed_columns(table, &table.key), statement::found_by(table, &table.key));
    let (child_name, parent_name) = (Table(&table.name), Table(&parent.name));
    let refers = refers(table, parent, reference);
    let hold = format!(
        "SELECT s.n, {} FROM {listed} JOIN {child_name} AS t ON {found_by} JOIN {parent_name} AS p ON {refers} \
         FOR KEY SHARE OF p",
        statement::texts(table)
    );
    let statement = client.prepare(&hold).await.map_err(|error| of_table(&error, parent))?;
    rows_by(client, &statement, table, &table.key, keys).await?;
    let nulls = reference.columns.iter().map(|&at| format!("t.{} IS NOT NULL", Ident(&table.columns[at].column.name)));
    let look = format!(
        "SELECT s.n, {} FROM {listed} JOIN {child_name} AS t ON {found_by} WHERE {} \
         AND NOT EXISTS (SELECT FROM {parent_name} AS p WHERE {refers})",
        statement::texts(table),
        nulls.collect::<Vec<_>>().join(" AND ")
    );
    let statement = client.prepare(&look).await.map_err(|error| of_table(&error, table))?;
    let rows = rows_by(client, &statement, table, &table.key, keys).await?;
    Ok(rows.into_iter().flatten().map(|row| table.key_of(&row)).collect())
}

/// Rows that refer to what these rows of the parent were, where none is that any more.
pub(crate) async fn children(
    client: &Client,
    (table, parent): (&MappedTable, &MappedTable),
    reference: &Reference,
    parents: &[Row],
    limit: usize,
) -> Result<Vec<Key>> {
    let refers = refers(table, parent, reference);
    let meets = reference.columns.iter().zip(&reference.parent_columns).map(|(&at, &parent_at)| {
        let sought = statement::sought(&parent.columns[parent_at], &format!("s.k{parent_at}"));
        format!("t.{} = {sought}", Ident(&table.columns[at].column.name))
    });
    let sql = format!(
        "SELECT s.n, {} FROM {} JOIN {} AS t ON {} WHERE NOT EXISTS (SELECT FROM {} AS p WHERE {refers}) LIMIT {limit}",
        statement::texts(table),
        statement::listed_columns(parent, &reference.parent_columns),
        Table(&table.name),
        meets.collect::<Vec<_>>().join(" AND "),
        Table(&parent.name)
    );
    let statement = client.prepare(&sql).await.map_err(|error| of_table(&error, table))?;
    let values = |row: &Row| Key(reference.parent_columns.iter().map(|&at| row.0[at].clone()).collect());
    let values: Vec<Key> = parents.iter().map(values).collect();
    let (arrays, _) = arrays_of(parent, &reference.parent_columns, &values);
    let rows = numbered_rows(client, &statement, table, &arrays).await?;
    Ok(rows.into_iter().map(|(_, row)| table.key_of(&row)).collect())
}

/// The row `t` refers to `p`.
fn refers(table: &MappedTable, parent: &MappedTable, reference: &Reference) -> String {
    let pairs = reference.columns.iter().zip(&reference.parent_columns).map(|(&at, &parent_at)| {
        let (own, other) = (&table.columns[at].column.name, &parent.columns[parent_at].column.name);
        format!("p.{} = t.{}", Ident(other), Ident(own))
    });
    pairs.collect::<Vec<_>>().join(" AND ")
}
