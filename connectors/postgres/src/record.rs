//! The records of settled conflicts, written as many at a time as come: a backlog on both sides may have met in thousands of rows, and a statement for
//! each would take longer than all else that settles them.

use pontoon_core::{
    Position, Resolution, Result, Row,
    node::Tables,
    record::{key_to_text, row_to_text},
};
use tokio_postgres::Client;

use crate::{error, session::STATEMENT_BYTES};

/// Each key is looked up by the index, whatever the planner expects: it takes the rows of one bridge for few where it has no statistics of them, and as a join would compare
/// each record in force with each key (`OFFSET 0` keeps it from becoming one; PostgreSQL 15, where that was nine tenths of the time of settling 20,000 conflicts).
const RETIRE: &str = "UPDATE pontoon.resolution SET in_force = false WHERE ctid = ANY (ARRAY(
    SELECT old.ctid FROM unnest($2::text[], $3::text[]) AS new (table_name, row_key) CROSS JOIN LATERAL (
        SELECT ctid FROM pontoon.resolution
        WHERE bridge = $1 AND in_force AND table_name = new.table_name AND row_key = new.row_key OFFSET 0) AS old))";

const RECORD: &str =
    "INSERT INTO pontoon.resolution (bridge, in_force, id, group_id, table_name, row_key, own_fence, other_fence,
        own_row, other_row, verdict, ancestor, taken, commit_time, rule)
    SELECT $1::text, true, new.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[]) AS new";

/// Records column by column, as parameters of one statement.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<i64>,
    groups: Vec<i64>,
    labels: Vec<&'a str>,
    keys: Vec<String>,
    own_fences: Vec<Option<String>>,
    other_fences: Vec<Option<String>>,
    own_rows: Vec<Option<String>>,
    other_rows: Vec<Option<String>>,
    verdicts: Vec<Option<String>>,
    ancestors: Vec<Option<String>>,
    taken: Vec<Option<&'a str>>,
    commit_times: Vec<i64>,
    rules: Vec<&'a str>,
    /// Of their rows.
    bytes: usize,
}

impl<'a> Columns<'a> {
    fn push(&mut self, record: &'a Resolution, tables: &'a Tables) {
        let table = &tables[record.table.index()];
        let fence = |position: &Option<Position>| position.as_ref().map(Position::durable);
        let mut row = |row: &Option<Row>| {
            let text = row.as_ref().map(|row| row_to_text(table, row));
            self.bytes += text.as_ref().map_or(0, String::len);
            text
        };
        self.own_rows.push(row(&record.own_row));
        self.other_rows.push(row(&record.other_row));
        self.verdicts.push(row(&record.verdict));
        self.ancestors.push(row(&record.ancestor));
        self.ids.push(record.id);
        self.groups.push(record.group);
        self.labels.push(&table.label);
        self.keys.push(key_to_text(&record.key));
        self.own_fences.push(fence(&record.own_fence));
        self.other_fences.push(fence(&record.other_fence));
        self.taken.push(record.columns.as_deref());
        self.commit_times.push(record.commit_time);
        self.rules.push(&record.rule);
    }

    /// Older records of their keys go out of force.
    async fn write(&self, client: &Client, bridge: &str) -> Result<(), tokio_postgres::Error> {
        client.execute(RETIRE, &[&bridge, &self.labels, &self.keys]).await?;
        let Columns { ids, groups, labels, keys, own_fences, other_fences, .. } = self;
        let Columns { own_rows, other_rows, verdicts, ancestors, taken, commit_times, rules, .. } = self;
        client
            .execute(
                RECORD,
                &[
                    &bridge,
                    ids,
                    groups,
                    labels,
                    keys,
                    own_fences,
                    other_fences,
                    own_rows,
                    other_rows,
                    verdicts,
                    ancestors,
                    taken,
                    commit_times,
                    rules,
                ],
            )
            .await?;
        Ok(())
    }
}

/// Writes records in force, each of another key.
pub(crate) async fn write(client: &Client, bridge: &str, tables: &Tables, records: &[Resolution]) -> Result<()> {
    let mut records = records.iter().peekable();
    while records.peek().is_some() {
        let mut columns = Columns::default();
        while columns.bytes < STATEMENT_BYTES
            && let Some(record) = records.next()
        {
            columns.push(record, tables);
        }
        columns.write(client, bridge).await.map_err(|error| error::of_statement(&error))?;
    }
    Ok(())
}
