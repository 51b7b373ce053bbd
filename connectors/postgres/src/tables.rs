//! The bridge's own tables in the schema `pontoon`: the same in every database that a bridge joins.
//!
//! All statements can be repeated. Another format version than this binary's is refused by
//! [`format_check`], before anything else of the schema is believed; an older one is brought up to it by [`migration`].

use pontoon_core::{
    Code, Error, Result,
    state::{FORMAT_VERSION, check_format},
};
use tokio_postgres::Client;

use crate::{catalog::get, error, quote::Literal};

/// A time or a length of time of these tables in microseconds, since 1970 UTC. (`extract` is exact: it gives a numeric
/// since PostgreSQL 14.)
pub(crate) fn micros(expression: &str) -> String {
    format!("(extract(epoch FROM {expression}) * 1000000)::bigint")
}

/// Creates the schema's tables. `fillfactor`: the rows of `checkpoint` and `control` are updated in
/// place all the time, and with room on their page no index entry is written.
const TABLES: &[&str] = &[
    "CREATE SCHEMA IF NOT EXISTS pontoon",
    "CREATE TABLE IF NOT EXISTS pontoon.checkpoint (
    bridge text NOT NULL,
    applier integer NOT NULL,
    source text,
    position text,
    log text,
    sequence bigint NOT NULL DEFAULT 0,
    commit_time bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, applier)
) WITH (fillfactor = 30)",
    "CREATE TABLE IF NOT EXISTS pontoon.resolution (
    bridge text NOT NULL,
    id bigint NOT NULL,
    group_id bigint NOT NULL,
    table_name text NOT NULL,
    row_key text NOT NULL,
    in_force boolean NOT NULL,
    own_fence text,
    other_fence text,
    own_row text,
    other_row text,
    verdict text,
    ancestor text,
    taken text,
    commit_time bigint NOT NULL,
    rule text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, id)
)",
    "CREATE INDEX IF NOT EXISTS resolution_in_force ON pontoon.resolution (bridge, table_name, row_key) WHERE in_force",
    "CREATE TABLE IF NOT EXISTS pontoon.quarantine (
    bridge text NOT NULL,
    id bigint NOT NULL,
    table_name text NOT NULL,
    row_key text NOT NULL,
    operation text NOT NULL,
    before_row text,
    after_row text,
    moved_key text,
    position text,
    source_transaction text,
    commit_time bigint NOT NULL,
    code text,
    message text,
    constraint_name text,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    request text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, id)
)",
    "CREATE INDEX IF NOT EXISTS quarantine_key ON pontoon.quarantine (bridge, table_name, left(row_key, 200))",
    "CREATE TABLE IF NOT EXISTS pontoon.control (
    bridge text NOT NULL,
    name text NOT NULL,
    number bigint,
    value text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bridge, name)
) WITH (fillfactor = 30)",
];

/// What the tables and columns are for, kept beside them.
const COMMENTS: &[(&str, &str)] = &[
    ("SCHEMA pontoon", "What pontoon's bridges keep in this database, committed with the rows that it describes"),
    (
        "TABLE pontoon.checkpoint",
        "Up to where this database has the other node's log applied; one row per bridge and session that writes",
    ),
    ("COLUMN pontoon.checkpoint.bridge", "The bridge's name"),
    (
        "COLUMN pontoon.checkpoint.applier",
        "0 applies the other node's log, 1 settles conflicts, 2 works beside the first",
    ),
    ("COLUMN pontoon.checkpoint.source", "The other node's name in the configuration"),
    ("COLUMN pontoon.checkpoint.position", "All of the other node's log up to here is applied"),
    ("COLUMN pontoon.checkpoint.log", "The identity of the log that the position is in"),
    ("COLUMN pontoon.checkpoint.sequence", "Raised by every transaction of the bridge"),
    (
        "COLUMN pontoon.checkpoint.commit_time",
        "When the writes of the last transaction were made, in microseconds since 1970 UTC",
    ),
    ("COLUMN pontoon.checkpoint.updated_at", "When the row was last written"),
    ("TABLE pontoon.resolution", "Every conflict that was settled: what each side held, who won and why"),
    ("COLUMN pontoon.resolution.bridge", "The bridge's name"),
    ("COLUMN pontoon.resolution.id", "The same on both nodes"),
    ("COLUMN pontoon.resolution.group_id", "Keys that were decided as one share it"),
    ("COLUMN pontoon.resolution.table_name", "The pair of tables"),
    ("COLUMN pontoon.resolution.row_key", "The row's key, a JSON array in key order"),
    ("COLUMN pontoon.resolution.in_force", "Changes before the fences are still to be left out; later it is history"),
    ("COLUMN pontoon.resolution.own_fence", "Where this database's log stood when it was settled"),
    ("COLUMN pontoon.resolution.other_fence", "Where the other node's log stood"),
    ("COLUMN pontoon.resolution.own_row", "The row that this database held, a JSON object; null for none"),
    ("COLUMN pontoon.resolution.other_row", "The row that the other node held, with this database's column names"),
    ("COLUMN pontoon.resolution.verdict", "The row that both hold since; null for none"),
    ("COLUMN pontoon.resolution.ancestor", "The row on which the first of the writes settled was made; null for none"),
    (
        "COLUMN pontoon.resolution.taken",
        "Which of its columns each node gave and which were added up, a JSON object; null where it is one node's row",
    ),
    (
        "COLUMN pontoon.resolution.commit_time",
        "The latest commit time of the writes settled, in microseconds since 1970 UTC",
    ),
    ("COLUMN pontoon.resolution.rule", "Which rule decided, and for whom"),
    ("COLUMN pontoon.resolution.created_at", "When it was settled"),
    (
        "TABLE pontoon.quarantine",
        "Changes of the other node's log that were refused here, and those of the same rows that wait behind them",
    ),
    ("COLUMN pontoon.quarantine.bridge", "The bridge's name"),
    ("COLUMN pontoon.quarantine.id", "Rises with every entry of the bridge, on either node; never given again"),
    ("COLUMN pontoon.quarantine.table_name", "The pair of tables"),
    ("COLUMN pontoon.quarantine.row_key", "The row's key, a JSON array in key order"),
    (
        "COLUMN pontoon.quarantine.operation",
        "insert, update, delete; own: the bridge's own write, which superseded what is stored before it; settlement: what was decided in a conflict",
    ),
    (
        "COLUMN pontoon.quarantine.before_row",
        "The row before, a JSON object with this database's column names; null for none",
    ),
    ("COLUMN pontoon.quarantine.after_row", "The row after; null for none"),
    ("COLUMN pontoon.quarantine.moved_key", "The other key of a row that moved from key to key"),
    ("COLUMN pontoon.quarantine.position", "The end of its transaction in the other node's log"),
    ("COLUMN pontoon.quarantine.source_transaction", "The other server's name of that transaction"),
    ("COLUMN pontoon.quarantine.commit_time", "When it was made, in microseconds since 1970 UTC"),
    ("COLUMN pontoon.quarantine.code", "Why it was refused; null where it only waits behind another entry of its key"),
    ("COLUMN pontoon.quarantine.message", "The same in words"),
    ("COLUMN pontoon.quarantine.constraint_name", "The constraint that the server named"),
    ("COLUMN pontoon.quarantine.attempts", "How often it was tried"),
    ("COLUMN pontoon.quarantine.next_attempt_at", "When it is tried again, at the latest"),
    (
        "COLUMN pontoon.quarantine.request",
        "What an operator asked for and is not yet done: retry, discard, take own or take other; with a new key for the other",
    ),
    ("COLUMN pontoon.quarantine.created_at", "Since when it is here"),
    ("TABLE pontoon.control", "What the bridge and its operator tell each other"),
    ("COLUMN pontoon.control.bridge", "The bridge's name; empty for what belongs to all of them"),
    (
        "COLUMN pontoon.control.name",
        "format: the version of these tables; lease: whose turn it is; pair: which databases are joined; table:TABLE: a table that is carried; epoch, other_epoch: by which older files of this server or the other are known; pause: nothing is to be applied here; throttle: how fast; reload: that the configuration is to be taken up anew, and what came of that; since:TABLE: up to where the other node's log is passed over for a table; aside:TABLE: up to where it is applied for a table that waits until both sides agree on it; skip:POSITION: a transaction of this log to pass over; key:entry:ID, key:record:ID: the key that a row is to have; repair:ID: keys that are to be made equal; verified: what the last comparison of both sides came to",
    ),
    (
        "COLUMN pontoon.control.number",
        "format: the version; lease: the token; epoch: raised while the bridge works; other_epoch: the other node's as last seen; pause: when it ends, in microseconds since 1970 UTC, or 0; throttle: rows in a second, or 0 for no limit; reload: a count of requests; verified: when both sides were last found equal, likewise",
    ),
    (
        "COLUMN pontoon.control.value",
        "lease: host and process of the holder; pair: names and logs, JSON; table: its name on both nodes, JSON; verified: how many rows differed, JSON",
    ),
    ("COLUMN pontoon.control.updated_at", "When the row was last written"),
];

/// Everything that creates the tables and notes their format.
pub(crate) fn create() -> Vec<String> {
    let tables = TABLES.iter().map(|sql| (*sql).to_string());
    let format = format!(
        "INSERT INTO pontoon.control (bridge, name, number) VALUES ('', 'format', {FORMAT_VERSION}) \
         ON CONFLICT (bridge, name) DO NOTHING"
    );
    tables.chain(comments()).chain([format]).collect()
}

/// What the tables and columns are for, as statements.
pub(crate) fn comments() -> impl Iterator<Item = String> {
    COMMENTS.iter().map(|(what, text)| format!("COMMENT ON {what} IS {}", Literal(text)))
}

/// What each format has that the one before has not, the first excepted. These statements can be repeated as well.
const STEPS: [(i32, &[&str]); 2] = [
    // What is new is a kind of rows.
    (2, &[]),
    // And a column that counts in one more row.
    (3, &[]),
];

/// What brings tables of an older format up to this one, in one transaction, and shuts out whoever works with the older one: each holds the lease row of its
/// bridge shared in all that it writes, and looks at the format before it takes the lease again. Nothing where they are of this one.
pub(crate) async fn migration(client: &Client) -> Result<Vec<String>> {
    let Some(found) = format(client).await?.filter(|found| *found < i64::from(FORMAT_VERSION)) else {
        return Ok(Vec::new());
    };
    let later = STEPS.iter().filter(|(version, _)| i64::from(*version) > found);
    let raise = "UPDATE pontoon.control SET number = number + 1 WHERE name = 'lease'";
    let note = format!(
        "UPDATE pontoon.control SET number = {FORMAT_VERSION} \
         WHERE bridge = '' AND name = 'format' AND number < {FORMAT_VERSION}"
    );
    let steps = later.flat_map(|(_, statements)| statements.iter().map(|sql| (*sql).to_owned()));
    let begin = ["BEGIN", raise].map(str::to_owned);
    Ok(begin.into_iter().chain(steps).chain([note, "COMMIT".to_owned()]).collect())
}

/// Whether the schema is there and of this binary's format. Errors: not set up, format unknown, format old.
pub(crate) async fn format_check(client: &Client) -> Result<()> {
    check_format(format(client).await?)
}

/// The format of the tables; `None` where they do not say. Errors: among others, they are not there.
async fn format(client: &Client) -> Result<Option<i64>> {
    const SQL: &str = "SELECT number FROM pontoon.control WHERE bridge = '' AND name = 'format'";
    let row = client.query_opt(SQL, &[]).await.map_err(|error| match error::of_statement(&error) {
        error if error.code() == Code::NotSetUp => not_set_up(),
        error => error,
    })?;
    Ok(row.as_ref().map(|row| get(row, 0)).transpose()?.flatten())
}

/// What is missing without `setup`.
pub(crate) fn not_set_up() -> Error {
    Error::new(Code::NotSetUp, "the bridge is not set up in this database")
        .hint("run `pontoon setup`; it is safe to repeat")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_step() {
        assert!(STEPS.iter().map(|(version, _)| *version).eq(2..=FORMAT_VERSION));
    }

    #[test]
    fn every_column_is_explained() {
        let mut table = "";
        for sql in TABLES {
            if let Some(rest) = sql.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
                table = rest.split(' ').next().unwrap();
                assert!(COMMENTS.iter().any(|(what, _)| *what == format!("TABLE {table}")), "{table}");
            }
            for line in sql.lines().filter(|line| line.starts_with("    ") && !line.contains("PRIMARY KEY")) {
                let column = line.trim().split(' ').next().unwrap();
                let what = format!("COLUMN {table}.{column}");
                assert!(COMMENTS.iter().any(|(known, _)| *known == what), "{what}");
            }
        }
    }
}
