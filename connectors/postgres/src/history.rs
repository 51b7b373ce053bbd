//! The table `resolution`, read for people and cut to what is to be kept.
//!
//! Its primary key is the order in which conflicts were settled, so the newest and the oldest are found without a sort,
//! whatever the history has grown to.

use pontoon_core::{
    Position, Result,
    history::{Count, Filter, Record, Retention},
};
use tokio_postgres::{Client, Row};

use crate::{catalog::get, error::failed, tables};

/// When a record was settled.
fn settled_at() -> String {
    tables::micros("created_at")
}

/// The records that the filter picks, the newest first, at most `limit`.
pub(crate) async fn records(client: &Client, bridge: &str, filter: &Filter, limit: usize) -> Result<Vec<Record>> {
    let settled_at = settled_at();
    let sql = format!(
        "SELECT id, group_id, table_name, row_key, in_force, own_fence, other_fence, own_row, other_row, verdict,
            ancestor, taken, commit_time, rule, {settled_at}
        FROM pontoon.resolution
        WHERE bridge = $1 AND ($2::bigint IS NULL OR id = $2) AND ($3::bigint IS NULL OR group_id = $3)
            AND ($4::text IS NULL OR table_name = $4) AND ($5::text IS NULL OR row_key = $5)
            AND ($6::text IS NULL OR starts_with(rule, $6))
            AND ($7::bigint IS NULL OR {settled_at} >= $7) AND ($8::bigint IS NULL OR {settled_at} < $8)
        ORDER BY id DESC LIMIT $9"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let Filter { id, group, table, key, rule, since, until } = filter;
    let rows = client.query(&sql, &[&bridge, id, group, table, key, rule, since, until, &limit]).await;
    rows.map_err(failed)?.iter().map(record).collect()
}

fn record(row: &Row) -> Result<Record> {
    let fence = |at| get::<Option<String>>(row, at).map(|fence| fence.as_deref().map(Position::shown));
    Ok(Record {
        id: get(row, 0)?,
        group: get(row, 1)?,
        table: get(row, 2)?,
        key: get(row, 3)?,
        in_force: get(row, 4)?,
        own_fence: fence(5)?,
        other_fence: fence(6)?,
        own_row: get(row, 7)?,
        other_row: get(row, 8)?,
        verdict: get(row, 9)?,
        ancestor: get(row, 10)?,
        taken: get(row, 11)?,
        commit_time: get(row, 12)?,
        rule: get(row, 13)?,
        settled_at: get(row, 14)?,
    })
}

/// How many there are, by table and rule.
pub(crate) async fn counts(client: &Client, bridge: &str) -> Result<Vec<Count>> {
    let settled_at = settled_at();
    let sql = format!(
        "SELECT table_name, rule, count(*), min({settled_at}), max({settled_at}) FROM pontoon.resolution
        WHERE bridge = $1 GROUP BY table_name, rule ORDER BY table_name, count(*) DESC, rule"
    );
    let count = |row: &Row| {
        Ok(Count {
            table: get(row, 0)?,
            rule: get(row, 1)?,
            records: u64::try_from(get::<i64>(row, 2)?).unwrap_or(0),
            between: (get(row, 3)?, get(row, 4)?),
        })
    };
    client.query(&sql, &[&bridge]).await.map_err(failed)?.iter().map(count).collect()
}

/// Removes records that need not be kept, the oldest first, at most `limit`; how many these were.
pub(crate) async fn forget(client: &Client, bridge: &str, keep: &Retention, limit: usize) -> Result<u64> {
    const SQL: &str = "DELETE FROM pontoon.resolution WHERE bridge = $1 AND id IN (
            SELECT id FROM (
                SELECT id, created_at FROM pontoon.resolution
                WHERE bridge = $1 AND NOT in_force
                    AND id < (SELECT max(id) FROM pontoon.resolution WHERE bridge = $1)
                ORDER BY id LIMIT $2
            ) oldest
            WHERE created_at < now() - $3::bigint * interval '1 microsecond'
                OR id <= (SELECT id FROM pontoon.resolution WHERE bridge = $1 ORDER BY id DESC OFFSET $4 LIMIT 1))";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let age = keep.age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
    let records = keep.records.map_or(i64::MAX, |records| i64::try_from(records).unwrap_or(i64::MAX));
    client.execute(SQL, &[&bridge, &limit, &age, &records]).await.map_err(failed)
}
