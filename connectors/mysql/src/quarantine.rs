//! The table `quarantine`, read and written.
//!
//! A key's entries are found by the first letters of its text, which an index holds, and then by all of it.

use std::{collections::BTreeMap, time::Duration};

use pontoon_core::{
    Code, Error, Key, MappedTable, Position, Result, Row, TableId, Value,
    node::{Tables, Tried},
    quarantine::{Ask, Asked, Counts, Entry, OWN, QuarantinedKey, STORED_READ_MAX, Stored, StoredWrite, What},
    record::{key_from_text, key_to_text, row_to_text, stored_row},
};

use crate::{
    connect::{Client, Field, number, text},
    encode, tables,
};

/// The most microseconds that an interval is given in: what is due later than in a day is due in a day.
const DUE_MICROS_MAX: u128 = 86_400_000_000;

fn optional(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".into(), encode::text)
}

fn due(after: Duration) -> String {
    format!("CURRENT_TIMESTAMP(6) + INTERVAL {} MICROSECOND", after.as_micros().min(DUE_MICROS_MAX))
}

fn duration(row: &[Field], at: usize) -> Duration {
    Duration::from_micros(number::<u64>(row, at).unwrap_or(0))
}

/// The condition of the entries of a key.
fn of_key(bridge: &str, table: &MappedTable, key: &Key) -> String {
    let (bridge, label, key) = (encode::text(bridge), encode::text(&table.label), encode::text(&key_to_text(key)));
    format!("bridge = {bridge} AND table_name = {label} AND row_key = {key}")
}

/// The statement that stores an entry.
pub(crate) fn store(bridge: &str, table: &MappedTable, entry: &Stored) -> String {
    let (before, after) = entry.what.rows();
    let row = |row: Option<&Row>| optional(row.map(|row| row_to_text(table, row)).as_deref());
    let moved = match &entry.what {
        What::Change { moved: Some(key), .. } => encode::text(&key_to_text(key)),
        _ => "NULL".into(),
    };
    let refusal = entry.refusal.as_ref();
    format!(
        "INSERT INTO `pontoon`.`quarantine` (bridge, id, table_name, row_key, operation, before_row, after_row, moved_key, \
         `position`, source_transaction, commit_time, code, message, constraint_name, attempts, next_attempt_at) \
         VALUES ({}, {}, {}, {}, '{}', {}, {}, {moved}, {}, {}, {}, {}, {}, {}, {}, {})",
        encode::text(bridge),
        entry.id,
        encode::text(&table.label),
        encode::text(&key_to_text(&entry.key)),
        entry.what.operation(),
        row(before),
        row(after),
        optional(entry.position.as_ref().map(Position::durable).as_deref()),
        optional(entry.transaction.as_deref()),
        entry.commit_time,
        optional(refusal.map(|error| error.code().as_str())),
        optional(refusal.map(Error::message)),
        optional(refusal.and_then(Error::constraint)),
        u8::from(refusal.is_some()),
        refusal.map_or_else(|| "NULL".into(), |_| due(entry.due_in)),
    )
}

/// Values that are longer stay out of an entry that the server does not take whole: few enough remain that the rest
/// fits, and a person still sees which row it is.
const VALUE_BYTES_MAX: usize = 1024;

/// The entry without the values that make it too large for a statement; each says in its place how long it was. The
/// rows are there to be looked at: what is settled is settled by the rows as the nodes hold them.
pub(crate) fn without_large_values(entry: &Stored) -> Stored {
    let cut = |row: &Option<Row>| {
        row.as_ref().map(|Row(values)| {
            Row(values
                .iter()
                .map(|value| match value.to_json().to_string().len() {
                    bytes if bytes > VALUE_BYTES_MAX => Value::Unmapped(format!("left out: {bytes} bytes").into()),
                    _ => value.clone(),
                })
                .collect())
        })
    };
    let what = match &entry.what {
        What::Change { before, after, moved } => {
            What::Change { before: cut(before), after: cut(after), moved: moved.clone() }
        }
        What::Settlement { before, after } => What::Settlement { before: cut(before), after: cut(after) },
        What::Own => What::Own,
    };
    Stored { what, ..entry.clone() }
}

pub(crate) async fn stored(
    client: &mut Client,
    bridge: &str,
    table: &MappedTable,
    key: &Key,
    after: i64,
) -> Result<Vec<StoredWrite>> {
    let rows = client
        .rows(format!(
            "SELECT `position`, commit_time, operation, before_row, after_row, COALESCE(request <> 'retry', 0), id \
             FROM `pontoon`.`quarantine` WHERE {} AND `position` IS NOT NULL AND id > {after} \
             ORDER BY id LIMIT {STORED_READ_MAX}",
            of_key(bridge, table, key)
        ))
        .await?;
    let write = |row: &Vec<Field>| {
        let id: i64 = number(row, 6).unwrap_or_default();
        let broken = || {
            let message = format!("the quarantine's entry {id} of {} cannot be read back", table.label);
            Error::new(Code::Protocol, message)
        };
        let row_at = |at| stored_row(table, text(row, at).as_deref(), broken);
        Ok(StoredWrite {
            id,
            position: text(row, 0).unwrap_or_default().parse()?,
            commit_time: number(row, 1).unwrap_or_default(),
            own: text(row, 2).is_some_and(|operation| operation == OWN),
            before: row_at(3)?,
            after: row_at(4)?,
            looked: number(row, 5) == Some(1),
        })
    };
    rows.iter().map(write).collect()
}

/// The statement that removes a key's entries.
pub(crate) fn release(bridge: &str, table: &MappedTable, key: &Key) -> String {
    format!("DELETE FROM `pontoon`.`quarantine` WHERE {}", of_key(bridge, table, key))
}

/// The statements that count an attempt and take back what was asked for.
pub(crate) fn tried(bridge: &str, table: &MappedTable, key: &Key, tried: &Tried) -> Vec<String> {
    let mut statements = vec![format!(
        "UPDATE `pontoon`.`quarantine` SET request = NULL WHERE {} AND {}",
        of_key(bridge, table, key),
        if tried.decided { "request IS NOT NULL" } else { "request = 'retry'" }
    )];
    if let Some(head) = tried.head {
        statements.push(format!(
            "UPDATE `pontoon`.`quarantine` SET attempts = {}, code = {}, message = {}, constraint_name = {}, \
             next_attempt_at = {} WHERE bridge = {} AND id = {head}",
            tried.attempts,
            encode::text(tried.refusal.code().as_str()),
            encode::text(tried.refusal.message()),
            optional(tried.refusal.constraint()),
            due(tried.due_in),
            encode::text(bridge),
        ));
    }
    statements
}

/// The statement that tells the highest id of a record or an entry.
pub(crate) fn highest_id(bridge: &str) -> String {
    let bridge = encode::text(bridge);
    format!(
        "SELECT GREATEST((SELECT COALESCE(MAX(id), 0) FROM `pontoon`.`resolution` WHERE bridge = {bridge}), \
         (SELECT COALESCE(MAX(id), 0) FROM `pontoon`.`quarantine` WHERE bridge = {bridge}))"
    )
}

/// The statements that tell the keys that have entries, and which of them are tied.
pub(crate) fn keys_statements(bridge: &str) -> [String; 2] {
    let bridge = encode::text(bridge);
    [
        format!(
            "SELECT table_name, row_key, MIN(CASE WHEN code IS NOT NULL THEN id END), MAX(`position` IS NOT NULL), \
             MAX(attempts), TIMESTAMPDIFF(MICROSECOND, CURRENT_TIMESTAMP(6), MAX(next_attempt_at)), \
             TIMESTAMPDIFF(MICROSECOND, MIN(created_at), CURRENT_TIMESTAMP(6)), MAX(COALESCE(code = {}, 0)) \
             FROM `pontoon`.`quarantine` WHERE bridge = {bridge} GROUP BY table_name, row_key",
            encode::text(Code::LoopSuspected.as_str())
        ),
        format!(
            "SELECT DISTINCT table_name, row_key, moved_key FROM `pontoon`.`quarantine` \
             WHERE bridge = {bridge} AND moved_key IS NOT NULL"
        ),
    ]
}

/// The keys of mapped tables that have entries.
pub(crate) fn keys(found: &[Vec<Field>], ties: &[Vec<Field>], tables: &Tables) -> Result<Vec<QuarantinedKey>> {
    let mut keys: BTreeMap<(TableId, Key), QuarantinedKey> = BTreeMap::new();
    for row in found {
        let Some((table, key)) = place(tables, row, 1)? else { continue };
        let held = QuarantinedKey {
            table,
            key: key.clone(),
            head: number(row, 2),
            has_changes: number(row, 3) == Some(1),
            suspected: number(row, 7) == Some(1),
            attempts: number(row, 4).unwrap_or(0),
            due_in: duration(row, 5),
            age: duration(row, 6),
            ties: Vec::new(),
        };
        keys.insert((table, key), held);
    }
    for row in ties {
        let (Some(of), Some((_, other))) = (place(tables, row, 1)?, place(tables, row, 2)?) else { continue };
        if let Some(held) = keys.get_mut(&of) {
            held.ties.push(other);
        }
    }
    Ok(keys.into_values().collect())
}

/// The place that an entry names, its key in column `at`; `None` for a table that is no longer mapped.
fn place(tables: &Tables, row: &[Field], at: usize) -> Result<Option<(TableId, Key)>> {
    let label = text(row, 0).unwrap_or_default();
    let Some(table) = tables.iter().find(|table| *table.label == *label) else { return Ok(None) };
    let key = text(row, at).and_then(|key| key_from_text(table, &key));
    let unreadable = || Error::new(Code::Protocol, format!("pontoon.quarantine: a key of {label} cannot be read back"));
    Ok(Some((table.id, key.ok_or_else(unreadable)?)))
}

pub(crate) async fn asked(client: &mut Client, bridge: &str, tables: &Tables) -> Result<Vec<Asked>> {
    let rows = client
        .rows(format!(
            "SELECT DISTINCT table_name, row_key, request FROM `pontoon`.`quarantine` \
             WHERE bridge = {} AND (request = 'retry' OR request IS NOT NULL AND code IS NOT NULL)",
            encode::text(bridge)
        ))
        .await?;
    let mut asked = Vec::new();
    for row in &rows {
        let ask = text(row, 2).and_then(|request| Ask::of(&request));
        if let (Some((table, key)), Some(ask)) = (place(tables, row, 1)?, ask) {
            asked.push(Asked { table, key, ask });
        }
    }
    Ok(asked)
}

/// The first entries.
pub(crate) async fn entries(client: &mut Client, bridge: &str, limit: usize) -> Result<Vec<Entry>> {
    let rows = client
        .rows(format!(
            "SELECT id, table_name, row_key, operation, moved_key, before_row, after_row, `position`, \
             source_transaction, commit_time, code, message, constraint_name, {}, attempts, {}, request \
             FROM `pontoon`.`quarantine` WHERE bridge = {} ORDER BY id LIMIT {limit}",
            tables::micros("created_at"),
            tables::micros("next_attempt_at"),
            encode::text(bridge)
        ))
        .await?;
    let entry = |row: &Vec<Field>| Entry {
        id: number(row, 0).unwrap_or_default(),
        table: text(row, 1).unwrap_or_default(),
        key: text(row, 2).unwrap_or_default(),
        operation: text(row, 3).unwrap_or_default(),
        moved_key: text(row, 4),
        before: text(row, 5),
        after: text(row, 6),
        position: text(row, 7),
        transaction: text(row, 8),
        commit_time: number(row, 9).unwrap_or_default(),
        code: text(row, 10),
        message: text(row, 11),
        constraint: text(row, 12),
        since: number(row, 13).unwrap_or_default(),
        attempts: number(row, 14).unwrap_or_default(),
        next_attempt: number(row, 15),
        request: text(row, 16),
    };
    Ok(rows.iter().map(entry).collect())
}

pub(crate) async fn counts(client: &mut Client, bridge: &str) -> Result<Counts> {
    let rows = client
        .rows(format!(
            "SELECT COUNT(DISTINCT CASE WHEN code IS NOT NULL THEN CONCAT(table_name, ' ', row_key) END), COUNT(*), {} \
             FROM `pontoon`.`quarantine` WHERE bridge = {}",
            tables::micros("MIN(created_at)"),
            encode::text(bridge)
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(Counts::default()) };
    Ok(Counts { keys: number(row, 0).unwrap_or(0), entries: number(row, 1).unwrap_or(0), oldest: number(row, 2) })
}

pub(crate) async fn ask(client: &mut Client, bridge: &str, ids: &[i64], ask: Ask) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = ids.iter().map(i64::to_string).collect();
    let statement = format!(
        "UPDATE `pontoon`.`quarantine` SET request = '{}' WHERE bridge = {} AND id IN ({})",
        ask.as_str(),
        encode::text(bridge),
        list.join(", ")
    );
    client.run(statement).await?;
    Ok(())
}
