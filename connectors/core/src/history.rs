//! The settled conflicts that a node keeps, for people: as they stand in the table `resolution`.

use std::time::Duration;

/// A record of a settled conflict: texts, as they stand in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// What names it, the same on both nodes; a later one has a higher number.
    pub id: i64,
    /// Keys that were decided as one share it.
    pub group: i64,
    /// The pair of tables.
    pub table: String,
    /// The key, a JSON array.
    pub key: String,
    /// Changes before the fences are still to be left out; later it is history alone.
    pub in_force: bool,
    /// Where this node's log stood when it was settled.
    pub own_fence: Option<String>,
    /// Where the other node's log stood.
    pub other_fence: Option<String>,
    /// The row that this node held, a JSON object; `None` for no row.
    pub own_row: Option<String>,
    /// The row that the other node held.
    pub other_row: Option<String>,
    /// The row that both hold since.
    pub verdict: Option<String>,
    /// The row on which the first of the writes was made that were settled.
    pub ancestor: Option<String>,
    /// Which columns were taken from which node and which were added up, a JSON object; `None` where it is one row as it
    /// was.
    pub taken: Option<String>,
    /// The latest write that was settled, in microseconds since 1970 UTC; 0 for none.
    pub commit_time: i64,
    /// Which rule decided, and for whom.
    pub rule: String,
    /// When it was settled, in microseconds since 1970 UTC, by this node's clock.
    pub settled_at: i64,
}

/// Which records are asked for: those to which all that is given applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// This one.
    pub id: Option<i64>,
    /// Those that were decided with the one of this number.
    pub group: Option<i64>,
    /// Of this pair of tables.
    pub table: Option<String>,
    /// Of this key, a JSON array as [`key_to_text`](crate::record::key_to_text) writes it.
    pub key: Option<String>,
    /// Whose rule begins so.
    pub rule: Option<String>,
    /// Settled at this time or later, in microseconds since 1970 UTC.
    pub since: Option<i64>,
    /// Settled before this time.
    pub until: Option<i64>,
}

/// How many conflicts of a table one rule settled for one side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Count {
    /// The pair of tables.
    pub table: String,
    /// Which rule decided, and for whom.
    pub rule: String,
    /// How many.
    pub records: u64,
    /// When the first and the last were settled, in microseconds since 1970 UTC.
    pub between: (i64, i64),
}

/// How long records are kept that are history alone; what is in force is kept whatever this says, and so is the last
/// record, whose number is not to be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Older ones are removed; `None` for never.
    pub age: Option<Duration>,
    /// So many are kept of all, the last ones; `None` for any number.
    pub records: Option<u64>,
}
