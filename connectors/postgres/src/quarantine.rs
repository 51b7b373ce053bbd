//! The table `quarantine`, read and written.
//!
//! A key's entries are found by the first letters of its text, which an index holds, and then by all of it: a key can
//! be longer than an index entry (a third of a page; `btree.h`, `BTMaxItemSize`).

use std::{collections::BTreeMap, time::Duration};

use pontoon_core::{
    Code, Error, Key, MappedTable, Position, Result, TableId,
    node::{Tables, Tried},
    quarantine::{Ask, Asked, Counts, Entry, OWN, QuarantinedKey, STORED_READ_MAX, Stored, StoredWrite, What},
    record::{key_from_text, key_to_text, row_to_text, stored_row},
};
use tokio_postgres::{Client, Row, types::ToSql};

use crate::{
    catalog::{get, text},
    error::failed,
    tables,
};

/// Entries that one statement carries: enough that its round trip costs nothing beside them.
const STATEMENT_ENTRIES_MAX: usize = 500;

/// Of the rows of a key.
const OF_KEY: &str = "bridge = $1 AND table_name = $2 AND left(row_key, 200) = left($3, 200) AND row_key = $3";

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn duration(micros: Option<i64>) -> Duration {
    Duration::from_micros(micros.and_then(|micros| u64::try_from(micros).ok()).unwrap_or(0))
}

/// The columns of some entries.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    labels: Vec<String>,
    keys: Vec<String>,
    operations: Vec<&'static str>,
    before: Vec<Option<String>>,
    after: Vec<Option<String>>,
    moved: Vec<Option<String>>,
    positions: Vec<Option<String>>,
    transactions: Vec<Option<String>>,
    commit_times: Vec<i64>,
    codes: Vec<Option<&'static str>>,
    messages: Vec<Option<String>>,
    constraints: Vec<Option<String>>,
    attempts: Vec<i32>,
    due: Vec<Option<i64>>,
}

impl Columns {
    fn push(&mut self, table: &MappedTable, entry: &Stored) {
        let (before, after) = entry.what.rows();
        let row = |row: Option<&pontoon_core::Row>| row.map(|row| row_to_text(table, row));
        self.ids.push(entry.id);
        self.labels.push(table.label.to_string());
        self.keys.push(key_to_text(&entry.key));
        self.operations.push(entry.what.operation());
        self.before.push(row(before));
        self.after.push(row(after));
        self.moved.push(match &entry.what {
            What::Change { moved, .. } => moved.as_ref().map(key_to_text),
            What::Own | What::Settlement { .. } => None,
        });
        self.positions.push(entry.position.as_ref().map(Position::durable));
        self.transactions.push(entry.transaction.as_deref().map(Into::into));
        self.commit_times.push(entry.commit_time);
        self.codes.push(entry.refusal.as_ref().map(|error| error.code().as_str()));
        self.messages.push(entry.refusal.as_ref().map(|error| error.message().to_owned()));
        self.constraints.push(entry.refusal.as_ref().and_then(|error| error.constraint().map(Into::into)));
        self.attempts.push(entry.refusal.is_some().into());
        self.due.push(entry.refusal.is_some().then(|| micros(entry.due_in)));
    }
}

pub(crate) async fn store(client: &Client, bridge: &str, tables: &Tables, entries: &[Stored]) -> Result<()> {
    const SQL: &str = "INSERT INTO pontoon.quarantine (bridge, id, table_name, row_key, operation, before_row, after_row,
            moved_key, position, source_transaction, commit_time, code, message, constraint_name, attempts, next_attempt_at)
        SELECT $1, id, table_name, row_key, operation, before_row, after_row, moved_key, position, source_transaction,
            commit_time, code, message, constraint_name, attempts, now() + due * interval '1 microsecond'
        FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::int[], $16::bigint[])
            AS e (id, table_name, row_key, operation, before_row, after_row, moved_key, position, source_transaction,
                commit_time, code, message, constraint_name, attempts, due)";
    for entries in entries.chunks(STATEMENT_ENTRIES_MAX) {
        let mut c = Columns::default();
        for entry in entries {
            c.push(table_of(tables, entry.table)?, entry);
        }
        let parameters: [&(dyn ToSql + Sync); 16] = [
            &bridge,
            &c.ids,
            &c.labels,
            &c.keys,
            &c.operations,
            &c.before,
            &c.after,
            &c.moved,
            &c.positions,
            &c.transactions,
            &c.commit_times,
            &c.codes,
            &c.messages,
            &c.constraints,
            &c.attempts,
            &c.due,
        ];
        client.execute(SQL, &parameters).await.map_err(failed)?;
    }
    Ok(())
}

fn table_of(tables: &Tables, id: TableId) -> Result<&MappedTable> {
    tables.get(id.index()).ok_or_else(|| Error::new(Code::Internal, "a table that is not mapped"))
}

pub(crate) async fn stored(
    client: &Client,
    bridge: &str,
    table: &MappedTable,
    key: &Key,
    after: i64,
) -> Result<Vec<StoredWrite>> {
    let sql = format!(
        "SELECT position, commit_time, operation, before_row, after_row, coalesce(request <> 'retry', false), id
        FROM pontoon.quarantine WHERE {OF_KEY} AND position IS NOT NULL AND id > $4 ORDER BY id LIMIT {STORED_READ_MAX}"
    );
    let rows = client.query(&sql, &[&bridge, &&*table.label, &key_to_text(key), &after]).await.map_err(failed)?;
    let write = |row: &Row| {
        let id: i64 = get(row, 6)?;
        let unreadable =
            || Error::new(Code::Internal, format!("pontoon.quarantine: entry {id} of {} cannot be read", table.label));
        let row_at = |at| stored_row(table, get::<Option<String>>(row, at)?.as_deref(), unreadable);
        Ok(StoredWrite {
            id,
            position: position(&text(row, 0)?)?,
            commit_time: get(row, 1)?,
            own: text(row, 2)? == OWN,
            before: row_at(3)?,
            after: row_at(4)?,
            looked: get(row, 5)?,
        })
    };
    rows.iter().map(write).collect()
}

fn position(text: &str) -> Result<Position> {
    text.parse().map_err(|_| Error::new(Code::Internal, format!("{text:?} in pontoon.quarantine is no position")))
}

pub(crate) async fn release(client: &Client, bridge: &str, table: &MappedTable, keys: &[Key]) -> Result<()> {
    let sql = format!("DELETE FROM pontoon.quarantine WHERE {OF_KEY}");
    for key in keys {
        client.execute(&sql, &[&bridge, &&*table.label, &key_to_text(key)]).await.map_err(failed)?;
    }
    Ok(())
}

pub(crate) async fn tried(client: &Client, bridge: &str, table: &MappedTable, key: &Key, tried: &Tried) -> Result<()> {
    const COUNT: &str = "UPDATE pontoon.quarantine SET attempts = $3, code = $4, message = $5, constraint_name = $6,
        next_attempt_at = now() + $7::bigint * interval '1 microsecond' WHERE bridge = $1 AND id = $2";
    let done = format!(
        "UPDATE pontoon.quarantine SET request = NULL WHERE {OF_KEY} AND (request = 'retry' OR $4 AND request IS NOT NULL)"
    );
    client.execute(&done, &[&bridge, &&*table.label, &key_to_text(key), &tried.decided]).await.map_err(failed)?;
    let Some(head) = tried.head else { return Ok(()) };
    let attempts = i32::try_from(tried.attempts).unwrap_or(i32::MAX);
    let (code, message, constraint) =
        (tried.refusal.code().as_str(), tried.refusal.message(), tried.refusal.constraint());
    let parameters: [&(dyn ToSql + Sync); 7] =
        [&bridge, &head, &attempts, &code, &message, &constraint, &micros(tried.due_in)];
    client.execute(COUNT, &parameters).await.map_err(failed)?;
    Ok(())
}

pub(crate) async fn highest_id(client: &Client, bridge: &str) -> Result<i64> {
    const SQL: &str = "SELECT greatest((SELECT coalesce(max(id), 0) FROM pontoon.resolution WHERE bridge = $1),
        (SELECT coalesce(max(id), 0) FROM pontoon.quarantine WHERE bridge = $1))";
    get(&client.query_one(SQL, &[&bridge]).await.map_err(failed)?, 0)
}

/// The keys of mapped tables that have entries.
pub(crate) async fn keys(client: &Client, bridge: &str, tables: &Tables) -> Result<Vec<QuarantinedKey>> {
    let sql = format!(
        "SELECT table_name, row_key, min(id) FILTER (WHERE code IS NOT NULL), bool_or(position IS NOT NULL),
            max(attempts), {}, {}, coalesce(bool_or(code = $2), false)
        FROM pontoon.quarantine WHERE bridge = $1 GROUP BY table_name, row_key",
        tables::micros("max(next_attempt_at) - clock_timestamp()"),
        tables::micros("clock_timestamp() - min(created_at)")
    );
    const TIES: &str = "SELECT DISTINCT table_name, row_key, moved_key FROM pontoon.quarantine
        WHERE bridge = $1 AND moved_key IS NOT NULL";
    let mut found: BTreeMap<(TableId, Key), QuarantinedKey> = BTreeMap::new();
    for row in client.query(&sql, &[&bridge, &Code::LoopSuspected.as_str()]).await.map_err(failed)? {
        let Some((table, key)) = place(tables, &text(&row, 0)?, &text(&row, 1)?)? else { continue };
        let held = QuarantinedKey {
            table: table.id,
            key: key.clone(),
            head: get(&row, 2)?,
            has_changes: get(&row, 3)?,
            suspected: get(&row, 7)?,
            attempts: u32::try_from(get::<i32>(&row, 4)?).unwrap_or(0),
            due_in: duration(get(&row, 5)?),
            age: duration(get(&row, 6)?),
            ties: Vec::new(),
        };
        found.insert((table.id, key), held);
    }
    for row in client.query(TIES, &[&bridge]).await.map_err(failed)? {
        let label = text(&row, 0)?;
        let (Some((table, key)), Some((_, other))) =
            (place(tables, &label, &text(&row, 1)?)?, place(tables, &label, &text(&row, 2)?)?)
        else {
            continue;
        };
        if let Some(held) = found.get_mut(&(table.id, key)) {
            held.ties.push(other);
        }
    }
    Ok(found.into_values().collect())
}

/// The place that an entry names; `None` for a table that is no longer mapped.
fn place<'a>(tables: &'a Tables, label: &str, key: &str) -> Result<Option<(&'a MappedTable, Key)>> {
    let Some(table) = tables.iter().find(|table| *table.label == *label) else { return Ok(None) };
    let unreadable = || Error::new(Code::Internal, format!("pontoon.quarantine: a key of {label} cannot be read"));
    Ok(Some((table, key_from_text(table, key).ok_or_else(unreadable)?)))
}

pub(crate) async fn asked(client: &Client, bridge: &str, tables: &Tables) -> Result<Vec<Asked>> {
    const SQL: &str = "SELECT DISTINCT table_name, row_key, request FROM pontoon.quarantine
        WHERE bridge = $1 AND (request = 'retry' OR request IS NOT NULL AND code IS NOT NULL)";
    let mut asked = Vec::new();
    for row in client.query(SQL, &[&bridge]).await.map_err(failed)? {
        let found = place(tables, &text(&row, 0)?, &text(&row, 1)?)?;
        if let (Some((table, key)), Some(ask)) = (found, Ask::of(&text(&row, 2)?)) {
            asked.push(Asked { table: table.id, key, ask });
        }
    }
    Ok(asked)
}

/// The first entries.
pub(crate) async fn entries(client: &Client, bridge: &str, limit: usize) -> Result<Vec<Entry>> {
    let sql = format!(
        "SELECT id, table_name, row_key, operation, moved_key, before_row, after_row, position,
            source_transaction, commit_time, code, message, constraint_name, {}, attempts::bigint, {}, request
        FROM pontoon.quarantine WHERE bridge = $1 ORDER BY id LIMIT $2",
        tables::micros("created_at"),
        tables::micros("next_attempt_at")
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = client.query(&sql, &[&bridge, &limit]).await.map_err(failed)?;
    let entry = |row: &Row| {
        Ok(Entry {
            id: get(row, 0)?,
            table: get(row, 1)?,
            key: get(row, 2)?,
            operation: get(row, 3)?,
            moved_key: get(row, 4)?,
            before: get(row, 5)?,
            after: get(row, 6)?,
            position: get(row, 7)?,
            transaction: get(row, 8)?,
            commit_time: get(row, 9)?,
            code: get(row, 10)?,
            message: get(row, 11)?,
            constraint: get(row, 12)?,
            since: get(row, 13)?,
            attempts: get(row, 14)?,
            next_attempt: get(row, 15)?,
            request: get(row, 16)?,
        })
    };
    rows.iter().map(entry).collect()
}

pub(crate) async fn counts(client: &Client, bridge: &str) -> Result<Counts> {
    let sql = format!(
        "SELECT count(DISTINCT (table_name, row_key)) FILTER (WHERE code IS NOT NULL), count(*), {}
        FROM pontoon.quarantine WHERE bridge = $1",
        tables::micros("min(created_at)")
    );
    let row = client.query_one(&sql, &[&bridge]).await.map_err(failed)?;
    let count = |at| Ok::<_, Error>(u64::try_from(get::<i64>(&row, at)?).unwrap_or(0));
    Ok(Counts { keys: count(0)?, entries: count(1)?, oldest: get(&row, 2)? })
}

pub(crate) async fn ask(client: &Client, bridge: &str, ids: &[i64], ask: Ask) -> Result<()> {
    const SQL: &str = "UPDATE pontoon.quarantine SET request = $3 WHERE bridge = $1 AND id = ANY ($2)";
    client.execute(SQL, &[&bridge, &ids, &ask.as_str()]).await.map_err(failed)?;
    Ok(())
}
