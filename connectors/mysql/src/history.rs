//! The table `resolution`, read for people and cut to what is to be kept.
//!
//! Its primary key is the order in which conflicts were settled, so the newest and the oldest are found without a sort,
//! whatever the history has grown to. A statement may not read the table that it deletes from, nor limit a list for
//! `IN`, but for a derived table, which is made before (manual, "Subquery Errors" and "DELETE Statement").

use pontoon_core::{
    Position, Result,
    history::{Count, Filter, Record, Retention},
};

use crate::{
    connect::{Client, Field, number, text},
    encode, tables,
};

/// When a record was settled.
fn settled_at() -> String {
    tables::micros("created_at")
}

/// The records that the filter picks, the newest first, at most `limit`.
pub(crate) async fn records(client: &mut Client, bridge: &str, filter: &Filter, limit: usize) -> Result<Vec<Record>> {
    let rows = client
        .rows(format!(
            "SELECT id, group_id, table_name, row_key, in_force, own_fence, other_fence, own_row, other_row, verdict, \
             ancestor, taken, commit_time, rule, {} FROM `pontoon`.`resolution` WHERE {} ORDER BY id DESC LIMIT {limit}",
            settled_at(),
            condition(bridge, filter)
        ))
        .await?;
    Ok(rows.iter().map(|row| record(row)).collect())
}

fn condition(bridge: &str, filter: &Filter) -> String {
    let Filter { id, group, table, key, rule, since, until } = filter;
    let mut all = vec![format!("bridge = {}", encode::text(bridge))];
    all.extend(id.map(|id| format!("id = {id}")));
    all.extend(group.map(|group| format!("group_id = {group}")));
    all.extend(table.as_deref().map(|table| format!("table_name = {}", encode::text(table))));
    all.extend(key.as_deref().map(|key| format!("row_key = {}", encode::text(key))));
    all.extend(rule.as_deref().map(|rule| {
        let rule = encode::text(rule);
        format!("LEFT(rule, CHAR_LENGTH({rule})) = {rule}")
    }));
    all.extend(since.map(|since| format!("{} >= {since}", settled_at())));
    all.extend(until.map(|until| format!("{} < {until}", settled_at())));
    all.join(" AND ")
}

fn record(row: &[Field]) -> Record {
    let fence = |at| text(row, at).as_deref().map(Position::shown);
    Record {
        id: number(row, 0).unwrap_or_default(),
        group: number(row, 1).unwrap_or_default(),
        table: text(row, 2).unwrap_or_default(),
        key: text(row, 3).unwrap_or_default(),
        in_force: number(row, 4) == Some(1),
        own_fence: fence(5),
        other_fence: fence(6),
        own_row: text(row, 7),
        other_row: text(row, 8),
        verdict: text(row, 9),
        ancestor: text(row, 10),
        taken: text(row, 11),
        commit_time: number(row, 12).unwrap_or_default(),
        rule: text(row, 13).unwrap_or_default(),
        settled_at: number(row, 14).unwrap_or_default(),
    }
}

/// How many there are, by table and rule.
pub(crate) async fn counts(client: &mut Client, bridge: &str) -> Result<Vec<Count>> {
    let rows = client
        .rows(format!(
            "SELECT table_name, rule, COUNT(*), {}, {} FROM `pontoon`.`resolution` \
             WHERE bridge = {} GROUP BY table_name, rule ORDER BY table_name, COUNT(*) DESC, rule",
            tables::micros("MIN(created_at)"),
            tables::micros("MAX(created_at)"),
            encode::text(bridge)
        ))
        .await?;
    let count = |row: &Vec<Field>| Count {
        table: text(row, 0).unwrap_or_default(),
        rule: text(row, 1).unwrap_or_default(),
        records: number(row, 2).unwrap_or_default(),
        between: (number(row, 3).unwrap_or_default(), number(row, 4).unwrap_or_default()),
    };
    Ok(rows.iter().map(count).collect())
}

/// The statement that removes records that need not be kept, the oldest first, at most `limit`.
pub(crate) fn forget(bridge: &str, keep: &Retention, limit: usize) -> String {
    let bridge = encode::text(bridge);
    let mut old = Vec::new();
    old.extend(keep.age.map(|age| format!("created_at < NOW(6) - INTERVAL {} MICROSECOND", age.as_micros())));
    old.extend(keep.records.map(|records| {
        format!(
            "id <= (SELECT id FROM `pontoon`.`resolution` WHERE bridge = {bridge} ORDER BY id DESC LIMIT 1 OFFSET {records})"
        )
    }));
    let old = if old.is_empty() { "FALSE".to_owned() } else { old.join(" OR ") };
    format!(
        "DELETE FROM `pontoon`.`resolution` WHERE bridge = {bridge} AND id IN (SELECT id FROM (SELECT id FROM \
         (SELECT id, created_at FROM `pontoon`.`resolution` WHERE bridge = {bridge} AND in_force = 0 AND id < \
         (SELECT MAX(id) FROM `pontoon`.`resolution` WHERE bridge = {bridge}) ORDER BY id LIMIT {limit}) oldest \
         WHERE {old}) chosen)"
    )
}
