//! What a node keeps of keys in quarantine.
//!
//! A key is in quarantine while either node holds an entry of it. An entry is a change of the other node's log
//! that this node refused, or that came behind such a one; or a settlement that this node refused. Together with
//! what is still in the logs, the entries of a key are all that the two nodes have not got of each other's writes
//! of it, in the order of each log.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    change::{Key, Row},
    error::Error,
    position::Position,
    schema::TableId,
};

/// Stored changes of one key that are read at a time: a key that is written without end must not fill the memory.
pub const STORED_READ_MAX: usize = 1_000;

/// An entry to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Rises with every entry and every resolution of the bridge, whichever node it is on; never given again.
    pub id: i64,
    /// The pair of tables.
    pub table: TableId,
    /// The row's key.
    pub key: Key,
    /// What is stored.
    pub what: What,
    /// Where the source's transaction ends in its log; `None` for a settlement.
    pub position: Option<Position>,
    /// The source server's own name of the transaction.
    pub transaction: Option<Arc<str>>,
    /// When the write was made, in microseconds since 1970 UTC.
    pub commit_time: i64,
    /// Why this node does not have it; `None` where it only waits behind another entry of its key.
    pub refusal: Option<Error>,
    /// When it is tried again.
    pub due_in: Duration,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What a change of the source's log does to the key.
    Change {
        /// The row before.
        before: Option<Row>,
        /// The row after.
        after: Option<Row>,
        /// The other key, where the change moved the row from key to key.
        moved: Option<Key>,
    },
    /// The bridge's own write of the key in the source's log: what was stored before it had been seen.
    Own,
    /// What both nodes were to hold, and this one refused.
    Settlement {
        /// The row that this node holds.
        before: Option<Row>,
        /// The row that both were to hold.
        after: Option<Row>,
    },
}

impl What {
    /// Its name in the table's column `operation`.
    pub fn operation(&self) -> &'static str {
        match self {
            What::Change { before: None, .. } => "insert",
            What::Change { after: None, .. } => "delete",
            What::Change { .. } => "update",
            What::Own => OWN,
            What::Settlement { .. } => SETTLEMENT,
        }
    }

    /// The rows before and after.
    pub fn rows(&self) -> (Option<&Row>, Option<&Row>) {
        match self {
            What::Change { before, after, .. } | What::Settlement { before, after } => {
                (before.as_ref(), after.as_ref())
            }
            What::Own => (None, None),
        }
    }
}

/// The operation of the bridge's own write.
pub const OWN: &str = "own";

/// The operation of a refused settlement.
pub const SETTLEMENT: &str = "settlement";

/// What a settlement asks of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWrite {
    /// Its entry.
    pub id: i64,
    /// Where its transaction ends in the source's log.
    pub position: Position,
    /// When it was made, in microseconds since 1970 UTC.
    pub commit_time: i64,
    /// It is the bridge's own write.
    pub own: bool,
    /// The row before.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// An operator had looked at it when they decided about its key.
    pub looked: bool,
}

/// A key in quarantine, as far as one node's entries tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedKey {
    /// The pair of tables.
    pub table: TableId,
    /// The row's key.
    pub key: Key,
    /// The first entry that this node refused; `None` where all of them only wait.
    pub head: Option<i64>,
    /// There are entries that are no settlement.
    pub has_changes: bool,
    /// It was put here because it seems to go round.
    pub suspected: bool,
    /// How often it has been tried.
    pub attempts: u32,
    /// When it is tried again.
    pub due_in: Duration,
    /// How long the first entry has been here.
    pub age: Duration,
    /// Keys of the same table that changes joined to it.
    pub ties: Vec<Key>,
}

/// What an operator asked for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The pair of tables.
    pub table: TableId,
    /// The row's key.
    pub key: Key,
    /// What.
    pub ask: Ask,
}

/// What an operator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Try it now.
    Retry,
    /// Drop what is stored; each node keeps its row.
    Discard,
    /// The row of the node that has the entry stands on both.
    TakeOwn,
    /// The other node's row stands on both.
    TakeOther,
    /// As [`Ask::TakeOwn`], and the other node's row stands on both under another key ([`crate::new_key`]).
    TakeOwnApart,
    /// As [`Ask::TakeOther`], and this node's row stands on both under another key.
    TakeOtherApart,
}

impl Ask {
    /// All of them.
    pub const ALL: [Ask; 6] =
        [Ask::Retry, Ask::Discard, Ask::TakeOwn, Ask::TakeOther, Ask::TakeOwnApart, Ask::TakeOtherApart];

    /// Its name in the table's column `request`.
    pub fn as_str(self) -> &'static str {
        match self {
            Ask::Retry => "retry",
            Ask::Discard => "discard",
            Ask::TakeOwn => "take own",
            Ask::TakeOther => "take other",
            Ask::TakeOwnApart => "take own, new key",
            Ask::TakeOtherApart => "take other, new key",
        }
    }

    /// Whether the row that is not taken is to have another key.
    pub fn is_apart(self) -> bool {
        matches!(self, Ask::TakeOwnApart | Ask::TakeOtherApart)
    }

    /// What a text in that column asks for.
    pub fn of(text: &str) -> Option<Ask> {
        Ask::ALL.into_iter().find(|ask| ask.as_str() == text)
    }
}

/// An entry for people: as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Entry {
    /// What names it.
    pub id: i64,
    /// The pair of tables.
    pub table: String,
    /// The key, a JSON array.
    pub key: String,
    /// `insert`, `update`, `delete`, `own`, `settlement`.
    pub operation: String,
    /// The other key of a row that moved, a JSON array.
    pub moved_key: Option<String>,
    /// The row before, a JSON object.
    pub before: Option<String>,
    /// The row after, a JSON object.
    pub after: Option<String>,
    /// Where its transaction ends in the source's log.
    pub position: Option<String>,
    /// The source server's own name of the transaction.
    pub transaction: Option<String>,
    /// When it was made, in microseconds since 1970 UTC.
    pub commit_time: i64,
    /// The code of the refusal; `None` where it waits behind another entry.
    pub code: Option<String>,
    /// The refusal in words.
    pub message: Option<String>,
    /// The constraint that the server named.
    pub constraint: Option<String>,
    /// Since when it is here, in microseconds since 1970 UTC.
    pub since: i64,
    /// How often it has been tried.
    pub attempts: i64,
    /// When it is tried again, in microseconds since 1970 UTC.
    pub next_attempt: Option<i64>,
    /// What an operator has asked for, and the bridge not yet done.
    pub request: Option<String>,
}

/// How many keys and entries there are, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys with an entry that the node refused.
    pub keys: u64,
    /// Entries, those that wait included.
    pub entries: u64,
    /// Since when the oldest is here, in microseconds since 1970 UTC.
    pub oldest: Option<i64>,
}
