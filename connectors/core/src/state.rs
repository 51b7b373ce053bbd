//! What is durable: it lives inside the two databases, committed with the rows it describes.

use std::{cmp::Ordering, num::NonZeroU64, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::{
    change::{Key, Row},
    error::{Code, Error, Result},
    node::SetUp,
    position::{LogIdentity, Position},
    quarantine::QuarantinedKey,
    schema::{MappedTable, TableId},
    value::Value,
};

/// The version of the layout of the `pontoon` tables, and of what their rows mean. A binary refuses a higher one, and a lower one until `setup` has
/// made it its own, in one transaction where the server's DDL is part of one.
///
/// | version | since |
/// | --- | --- |
/// | 1 | the first |
/// | 2 | tables that are set aside (`aside:TABLE` of `control`): whoever does not know of them passes over what they wait for |
/// | 3 | two sessions that apply one log in turn (`position` of `checkpoint` where `applier` is 2): whoever does not know of the second applies again what it applied |
pub const FORMAT_VERSION: i32 = 3;

/// Whether tables of a format can be worked with. Errors: they are of a newer binary, or of an older one; there is none.
pub fn check_format(found: Option<i64>) -> Result<()> {
    let found = found.ok_or_else(|| Error::new(Code::NotSetUp, "the bridge is not set up in this database"));
    let found = found.map_err(|error| error.hint("run `pontoon setup`; it is safe to repeat"))?;
    let text = |knows: &str| {
        format!("the pontoon tables have format {found}, and this version of pontoon {knows} {FORMAT_VERSION}")
    };
    match found.cmp(&FORMAT_VERSION.into()) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(Error::new(Code::FormatUnknown, text("knows up to"))
            .hint("use the version of pontoon that wrote them, or a later one")),
        Ordering::Less => Err(Error::new(Code::FormatOld, text("works with"))
            .hint("run `pontoon setup` with this version: it brings them up to it; whoever still runs an older one is shut out")),
    }
}

/// Up to where a node has applied the *other* node's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// All of the other node's log up to here is applied on this node.
    pub position: Position,
    /// The log that the position is in.
    pub log: LogIdentity,
}

impl Checkpoint {
    /// Of the two appliers that apply one log in turn. Their transactions are committed in the order of the log, so the later position is the one up to
    /// which all is applied.
    pub fn later(first: Position, beside: Option<Position>, log: LogIdentity) -> Checkpoint {
        let position = beside.filter(|beside| beside.covers(&first)).unwrap_or(first);
        Checkpoint { position, log }
    }
}

/// What marks a transaction as the bridge's own. It is written at the beginning of every transaction,
/// so that the row event of the checkpoint leads it in a binary log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Where the checkpoint moves to with this transaction; `None` where it stays (a rendezvous).
    pub position: Option<Position>,
    /// When the writes that the transaction brings were made: the latest of them, in microseconds since
    /// 1970 UTC. Other bridges that read this node decide by it.
    pub commit_time: i64,
}

impl Tag {
    /// A tag and no more: the checkpoint stays, and when what the transaction brings was written nobody knows, so it is
    /// older than anything that is in a log.
    pub const ALONE: Tag = Tag { position: None, commit_time: 0 };
}

/// An operator's word that a bridge is to apply nothing on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it ends by itself, by the node's clock, in microseconds since 1970 UTC; `None`: not before it is taken back.
    pub until: Option<i64>,
}

/// An operator's word on how fast a bridge is to apply on a node, in the place of what its configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Rows of the source's log in a second; `None`: as many as it can.
    pub rows_per_second: Option<NonZeroU64>,
}

impl Throttle {
    /// As it is kept: 0 for no limit. What cannot have been written counts as that.
    pub fn from_number(number: i64) -> Throttle {
        Throttle { rows_per_second: u64::try_from(number).ok().and_then(NonZeroU64::new) }
    }

    /// The number that is kept.
    pub fn number(self) -> i64 {
        self.rows_per_second.map_or(0, |rows| i64::try_from(rows.get()).unwrap_or(i64::MAX))
    }
}

/// An operator's word that whoever works for the bridge is to take up its configuration anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Above that of every earlier request.
    pub number: i64,
    /// What came of it, in the words of the process that works; `None` before that.
    pub answer: Option<String>,
}

/// The record of a settled conflict. It is committed on both nodes, first on A and then on B, each
/// time with the row that it settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Above that of every earlier resolution and entry in quarantine, on either node.
    pub id: i64,
    /// Keys that were decided as one (a row that moved from one key to another) share this number, the
    /// lowest id among them.
    pub group: i64,
    /// The pair of tables.
    pub table: TableId,
    /// The row's key.
    pub key: Key,
    /// Changes of the other node's log up to here are settled on this node for this key. `None` where
    /// the other node's log is not followed.
    pub other_fence: Option<Position>,
    /// Where this node's own log stood. `None` where it is not followed.
    pub own_fence: Option<Position>,
    /// The row that this node held at the fence.
    pub own_row: Option<Row>,
    /// The row that the other node held at its fence.
    pub other_row: Option<Row>,
    /// The row that both shall hold.
    pub verdict: Option<Row>,
    /// The row on which the first of the writes was made that were settled; `None` where there was none, or no write.
    pub ancestor: Option<Row>,
    /// Which columns of the verdict were taken from which side, a JSON object of column names by node, and of those
    /// that were added up; `None` where it is one side's row as it was.
    pub columns: Option<Box<str>>,
    /// The latest commit time of the writes that were settled, in microseconds since 1970 UTC.
    pub commit_time: i64,
    /// Which rule decided, and for whom: `last_writer_wins: shop, 10:00:02 after 10:00:01`.
    pub rule: String,
}

/// How far the first load of a table has come, kept on the node that it is copied to. It moves in the
/// transaction that holds the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyState {
    /// The pair of tables.
    pub table: TableId,
    /// All rows up to this key, in the order of the node that they come from, have been brought; `None` for
    /// none yet.
    pub after: Option<Key>,
    /// Rows that have been looked at so far.
    pub rows: u64,
    /// Rows that the source thought it had when the copy was asked for.
    pub estimated: Option<u64>,
    /// There are no more.
    pub done: bool,
}

impl CopyState {
    /// The text that is kept.
    pub fn to_text(&self) -> String {
        let after = self.after.as_ref().map(|key| key.0.iter().map(Value::to_json).collect::<Vec<_>>());
        json!({"after": after, "rows": self.rows, "estimated": self.estimated, "done": self.done}).to_string()
    }

    /// Reads back what [`CopyState::to_text`] wrote for this table; `None` where it is not that.
    pub fn from_text(text: &str, table: &MappedTable) -> Option<CopyState> {
        let json: Json = serde_json::from_str(text).ok()?;
        let after = match json.get("after")? {
            Json::Null => None,
            Json::Array(values) if values.len() == table.key.len() => {
                let forms = table.key.iter().map(|&at| table.columns[at].form);
                Some(Key(values
                    .iter()
                    .zip(forms)
                    .map(|(json, form)| Value::from_json(json, form))
                    .collect::<Option<_>>()?))
            }
            _ => return None,
        };
        Some(CopyState {
            table: table.id,
            after,
            rows: json.get("rows")?.as_u64()?,
            estimated: json.get("estimated")?.as_u64(),
            done: json.get("done")?.as_bool()?,
        })
    }
}

/// Which tables are set aside, and up to where the others are applied: written whole, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// From where on the other node's log is read for all that is not set aside.
    pub checkpoint: Checkpoint,
    /// Those that are applied further than that, by label: [`NodeState::since`] of each from now on. That of others stays.
    pub since: Vec<(Arc<str>, Position)>,
    /// All that are set aside from now on: [`NodeState::aside`].
    pub aside: Vec<(Arc<str>, Position)>,
}

/// Which logs two nodes have, where a server was promoted since, for one of them to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedLogs {
    /// Its own log.
    pub own: LogIdentity,
    /// The other one's.
    pub other: LogIdentity,
    /// What it keeps of the other node's log, where that is another one now.
    pub arrangement: Option<Arrangement>,
    /// The fences in its own log that stand elsewhere now, by the ids of its resolutions in force.
    pub own_fences: Vec<(i64, Position)>,
    /// The same of those in the other node's.
    pub other_fences: Vec<(i64, Position)>,
    /// Where the checkpoint is in the other node's log, where that has other places now: what is in quarantine of it stands before.
    pub stored_before: Option<Position>,
    /// What its operator said to pass over is named by places that are others now. It is met again, and named by where it is.
    pub forget_skips: bool,
}

impl NotedLogs {
    /// The names of the logs, and nothing that is kept moves.
    pub fn new(own: LogIdentity, other: LogIdentity) -> NotedLogs {
        NotedLogs {
            own,
            other,
            arrangement: None,
            own_fences: Vec::new(),
            other_fences: Vec::new(),
            stored_before: None,
            forget_skips: false,
        }
    }
}

/// The error of a session on a server whose log is not the one that is noted there. Connection lost: the next session looks at the server again.
pub fn another_server(log: &LogIdentity) -> Error {
    let text = format!("another server answers than the one that the session began with: its log is {log}");
    Error::new(Code::ConnectionLost, text)
}

/// What a node keeps of tables that a session does not have, since they are set aside. Nothing is decided by it; its places move with all others where a
/// server is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unmapped {
    /// [`NodeState::since`], by label.
    pub since: Vec<(Arc<str>, Position)>,
    /// The resolutions in force.
    pub resolutions: Vec<UnmappedResolution>,
}

/// A [`Resolution`] whose rows cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmappedResolution {
    /// As [`Resolution::id`].
    pub id: i64,
    /// The label of the pair of tables.
    pub label: Arc<str>,
    /// The row's key, as it is kept.
    pub key: String,
    /// As [`Resolution::own_fence`].
    pub own_fence: Option<Position>,
    /// As [`Resolution::other_fence`].
    pub other_fence: Option<Position>,
}

/// Everything of one bridge that a node keeps, read at the start under the exclusive lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeState {
    /// `None` before `setup`.
    pub checkpoint: Option<Checkpoint>,
    /// A transaction of the bridge has been committed on this node. Until then its checkpoint is as `setup` left it.
    pub applied: bool,
    /// The resolutions in force.
    pub resolutions: Vec<Resolution>,
    /// The keys of which it holds entries in quarantine.
    pub quarantine: Vec<QuarantinedKey>,
    /// The highest id of any resolution or entry in quarantine, in force or not; 0 for none.
    pub highest_id: i64,
    /// The highest id of a resolution alone, in force or not, of a mapped table or not; 0 for none.
    pub last_record: i64,
    /// Positions of this node's log whose transaction the operator said to pass over.
    pub skips: Vec<Position>,
    /// The tables that it is set up for on this node, in alphabetical order; empty where a version did it that did not tell.
    pub tables: Vec<SetUp>,
    /// Tables that came to this direction while the bridge had a checkpoint already: what the *other* node's log holds of each up to this place was
    /// there before, and is not applied on this node.
    pub since: Vec<(TableId, Position)>,
    /// Tables that are set aside, mapped or not: up to where the *other* node's log is applied of each on this node, while the rest went on.
    pub aside: Vec<(Arc<str>, Position)>,
    /// What is kept of those that are not mapped.
    pub unmapped: Unmapped,
    /// The names of the other bridges that are set up on this node and may read what this one writes.
    pub other_bridges: Vec<String>,
    /// How often [`Lease::raise_epoch`](crate::node::Lease::raise_epoch) has raised this node's epoch.
    pub epoch: i64,
    /// The other node's epoch, as it was last noted here.
    pub other_epoch: i64,
}
