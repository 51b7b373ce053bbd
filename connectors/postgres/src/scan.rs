//! Reads tables whole, in chunks by key, and rows by key.
//!
//! A transaction is in the log before it is visible: the commit record is written, flushed, and with a synchronous
//! standby waited for, and only then does it leave the list of those in progress (`CommitTransaction` of xact.c).
//! A statement in between sees the rows as they were. But whoever overwrites, removes or locks a row leaves its
//! number in the row's `xmax` (manual, "System Columns"), so that such a row is known; read again under a
//! lock it waits until that transaction is over. A row that such a transaction adds is not seen; its insert is in the log.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use pontoon_core::{
    Code, Digest, Error, Key, MappedTable, Result, Row, Span, TableId, Value,
    digest::has_common_order,
    node::{Scan, Settled, Tables},
};
use tokio_postgres::{Client, Statement, types::ToSql};

use crate::{
    catalog::get,
    connect::{Link, Role},
    decode::{self, Decode},
    digest,
    encode::Array,
    error,
    statement::{self, Bounds, Locking},
};

/// The settings of a session that reads. Each statement is planned for its own bounds, and by an index where there is one:
/// of bounds over several columns the planner looks at the first alone (`rowcomparesel` of selfuncs.c), and where
/// that is the same in most rows it takes a few of them for most of the table. No more of the server's processors
/// are used than the session's own.
pub(crate) fn role(role: Role) -> Role {
    role.set("plan_cache_mode", "force_custom_plan")
        .set("enable_seqscan", "off")
        .set("max_parallel_workers_per_gather", "0")
        .set("jit", "off")
}

/// Reads at READ COMMITTED, each chunk in a statement of its own.
pub(crate) struct PostgresScan {
    link: Link,
    tables: Tables,
    statements: HashMap<String, Statement>,
}

impl PostgresScan {
    pub(crate) fn new(link: Link, tables: &Tables) -> PostgresScan {
        PostgresScan { link, tables: tables.clone(), statements: HashMap::new() }
    }

    /// The next rows, each with whether somebody has locked or overwritten it.
    async fn look(&self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<(Row, bool)>> {
        let table = &self.tables[table.index()];
        let bounds = bounds_of(table, span)?;
        let limit = as_int8(limit);
        let sql = statement::chunk(table, Bounds::of(span));
        let rows = self.link.client.query_raw(&sql, parameters(&bounds, &limit)).await;
        let rows = rows.map_err(|error| of_table(&error, table))?;
        let mut rows = std::pin::pin!(rows);
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(|error| of_table(&error, table))? {
            found.push((row_of(table, &row, 0, decode::crossing)?, get::<bool>(&row, table.columns.len())?));
        }
        Ok(found)
    }

    /// A statement that is run for one span after the other.
    async fn prepared(&mut self, table: TableId, sql: String) -> Result<Statement> {
        if let Some(statement) = self.statements.get(&sql) {
            return Ok(statement.clone());
        }
        let statement = self.link.client.prepare(&sql).await;
        let statement = statement.map_err(|error| of_table(&error, &self.tables[table.index()]))?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

#[async_trait]
impl Scan for PostgresScan {
    async fn chunk(&mut self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<Row>> {
        Ok(self.look(table, span, limit).await?.into_iter().map(|(row, _)| row).collect())
    }

    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Settled> {
        let found = self.look(table, Span::behind(after), limit).await?;
        let table = &self.tables[table.index()];
        let last = found.last().filter(|_| found.len() == limit);
        let up_to = last.map(|(row, _)| table.key_of(row));
        let touched: Vec<Key> =
            found.iter().filter(|(_, touched)| *touched).map(|(row, _)| table.key_of(row)).collect();
        let sql = statement::by_key(table, Locking::ForShare);
        let statement = self.link.client.prepare(&sql).await.map_err(|error| of_table(&error, table))?;
        let again = rows_of_keys(&self.link.client, &statement, table, &touched).await?;
        let mut again = again.into_iter();
        // What was removed meanwhile is left out.
        let settled = found.into_iter().filter_map(|(row, touched)| if touched { again.next()? } else { Some(row) });
        Ok(Settled { rows: settled.collect(), up_to })
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let table = &self.tables[table.index()];
        let sql = statement::by_key(table, Locking::No);
        let statement = self.link.client.prepare(&sql).await.map_err(|error| of_table(&error, table))?;
        rows_of_keys(&self.link.client, &statement, table, keys).await
    }

    fn keeps_common_order(&self, table: TableId) -> bool {
        has_common_order(&self.tables[table.index()])
    }

    async fn nth_key(&mut self, table: TableId, span: Span<'_>, number: usize) -> Result<Option<Key>> {
        let statement = self.prepared(table, digest::nth_key(&self.tables[table.index()], Bounds::of(span))).await?;
        let table = &self.tables[table.index()];
        let (bounds, before) = (bounds_of(table, span)?, as_int8(number.saturating_sub(1)));
        let row = self.link.client.query_opt(&statement, &parameters(&bounds, &before)).await;
        let Some(row) = row.map_err(|error| of_table(&error, table))? else { return Ok(None) };
        let columns = table.key.iter().map(|&at| &table.columns[at]).enumerate();
        let values = columns.map(|(place, column)| Ok(decode::common(column, get::<&str>(&row, place)?.as_bytes())));
        Ok(Some(Key(values.collect::<Result<_>>()?)))
    }

    async fn digest(&mut self, table: TableId, span: Span<'_>) -> Result<Digest> {
        let statement = self.prepared(table, digest::digest(&self.tables[table.index()], Bounds::of(span))).await?;
        let table = &self.tables[table.index()];
        let bounds = bounds_of(table, span)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = bounds.iter().map(|array| array as _).collect();
        let row = self.link.client.query_one(&statement, &parameters).await;
        let row = row.map_err(|error| of_table(&error, table))?;
        let rows = u64::try_from(get::<i64>(&row, 0)?).unwrap_or_default();
        Ok(Digest { rows, sum: get::<i64>(&row, 1)?.cast_unsigned() })
    }
}

fn as_int8(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The bounds of a span, and behind them a number.
fn parameters<'a>(bounds: &'a [Array], number: &'a i64) -> Vec<&'a (dyn ToSql + Sync)> {
    let last: &(dyn ToSql + Sync) = number;
    bounds.iter().map(|array| array as _).chain([last]).collect()
}

/// The bounds of a span as arrays of one. Errors: a key that no row here can have, and so none can be behind.
fn bounds_of(table: &MappedTable, span: Span<'_>) -> Result<Vec<Array>> {
    let mut bounds = Vec::new();
    for key in [span.after, span.up_to].into_iter().flatten() {
        let (arrays, places) = arrays_of(table, &table.key, std::slice::from_ref(key));
        if places.is_empty() {
            let text = format!("{} key ({key}): the key has no form in which the next row could be found", table.label);
            return Err(Error::new(Code::ValueMisfit, text)
                .hint("give the row a key that both sides can hold, then start again"));
        }
        bounds.extend(arrays);
    }
    Ok(bounds)
}

/// Runs a statement of [`statement::by_key`].
pub(crate) async fn rows_of_keys(
    client: &Client,
    statement: &Statement,
    table: &MappedTable,
    keys: &[Key],
) -> Result<Vec<Option<Row>>> {
    rows_by(client, statement, table, &table.key, keys).await
}

/// Runs a statement of [`statement::by_columns`].
pub(crate) async fn rows_by(
    client: &Client,
    statement: &Statement,
    table: &MappedTable,
    columns: &[usize],
    values: &[Key],
) -> Result<Vec<Option<Row>>> {
    let (arrays, places) = arrays_of(table, columns, values);
    let mut found = vec![None; values.len()];
    for (number, row) in numbered_rows(client, statement, table, &arrays).await? {
        if let Some(&place) = number.checked_sub(1).and_then(|at| places.get(at)) {
            found[place] = Some(row);
        }
    }
    Ok(found)
}

/// The rows of a statement that takes such arrays, each with the number of the values that found it.
pub(crate) async fn numbered_rows(
    client: &Client,
    statement: &Statement,
    table: &MappedTable,
    arrays: &[Array],
) -> Result<Vec<(usize, Row)>> {
    let parameters: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let rows = client.query(statement, &parameters).await.map_err(|error| of_table(&error, table))?;
    let numbered =
        |row| Ok((usize::try_from(get::<i64>(row, 0)?).unwrap_or_default(), row_of(table, row, 1, decode::common)?));
    rows.iter().map(numbered).collect()
}

/// Values of columns as arrays, one per column, and the place of each that is in them: one that no row here can
/// have is left out.
pub(crate) fn arrays_of(table: &MappedTable, columns: &[usize], values: &[Key]) -> (Vec<Array>, Vec<usize>) {
    let columns: Vec<_> = columns.iter().map(|&at| &table.columns[at]).collect();
    let mut arrays: Vec<_> = columns.iter().map(|column| Array::new(column)).collect();
    let mut places = Vec::with_capacity(values.len());
    for (place, key) in values.iter().enumerate() {
        let fits = key.0.iter().zip(&columns).all(|(value, column)| Array::new(column).push(column, value).is_ok());
        if fits {
            for ((array, column), value) in arrays.iter_mut().zip(&columns).zip(&key.0) {
                // It has just been tried.
                let _ = array.push(column, value);
            }
            places.push(place);
        }
    }
    (arrays, places)
}

/// A row of texts in common form.
fn row_of(table: &MappedTable, row: &tokio_postgres::Row, first: usize, decode: Decode) -> Result<Row> {
    let value = |(at, column)| {
        let text = get::<Option<&str>>(row, first + at)?;
        Ok(text.map_or(Value::Null, |text| decode(column, text.as_bytes())))
    };
    Ok(Row(table.columns.iter().enumerate().map(value).collect::<Result<_>>()?))
}

/// An error of a statement on a user's table.
pub(crate) fn of_table(error: &tokio_postgres::Error, table: &MappedTable) -> Error {
    let shape = matches!(
        error::sqlstate(error),
        Some(("42P01" | "3F000" | "42703" | "42704" | "42804" | "42883" | "42846", _))
    );
    let mut said = error::of_statement(error);
    if shape {
        said = Error::new(Code::SchemaChanged, said.message())
            .hint("make the same change on the other side and start pontoon again: it goes on where it stopped");
    }
    said.at(format_args!("table {}", table.name))
}
