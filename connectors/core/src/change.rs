//! What a log reader yields: transactions in commit order, in fragments, what lies between them, and pieces of
//! those whose commit is not known yet.

use std::sync::Arc;

use serde::{Deserialize, Serialize, ser::SerializeMap};

use crate::{
    calendar,
    error::Error,
    position::Position,
    schema::{MappedTable, TableId},
    value::Value,
};

/// One row in common form, its values in the order of the pair's columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// Bytes of memory that the row takes.
    pub fn memory_bytes(&self) -> usize {
        self.0.len() * size_of::<Value>() + self.0.iter().map(Value::heap_bytes).sum::<usize>() + size_of::<Row>()
    }
}

/// The values of a row's key, in key order. Ordered, since locks are taken in key order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub Vec<Value>);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", value.to_json())?;
        }
        Ok(())
    }
}

/// What happened to one row. Images are full: a reader that finds a partial one yields an
/// [`LogEvent::Obstacle`] instead. Of the bridge's own writes they may hold the key alone, and
/// [`Value::Unchanged`] beside it ([`crate::MappedTable::by_columns`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new row.
    Insert {
        /// The row.
        after: Row,
    },
    /// A row overwritten; its key may have changed too.
    Update {
        /// The row as it was.
        before: Row,
        /// The row as it became.
        after: Row,
        /// Columns that the log left out because they did not change, by their place. Their value in
        /// `after` has been taken from `before`.
        unchanged: Vec<u16>,
    },
    /// A row removed.
    Delete {
        /// The row as it was.
        before: Row,
    },
}

impl Operation {
    /// A row overwritten. Readers share what the log has alike in both rows; a large value that is the same here alone (made of other
    /// bytes, or converted row by row) is kept once, too.
    pub fn update(before: Row, mut after: Row, unchanged: Vec<u16>) -> Operation {
        for (value, was) in after.0.iter_mut().zip(&before.0) {
            if value.heap_bytes() >= SHARED_BYTES && value == was {
                value.clone_from(was);
            }
        }
        Operation::Update { before, after, unchanged }
    }
}

/// From how many bytes on a value is worth a look at whether it is kept already.
const SHARED_BYTES: usize = 64 << 10;

/// How an operation is written where it does not stay in memory: what an update left as it was is there once.
#[derive(Serialize)]
enum Written<'a> {
    Insert(&'a Row),
    Update(&'a Row, Vec<Option<&'a Value>>, &'a [u16]),
    Delete(&'a Row),
}

#[derive(Deserialize)]
enum Read {
    Insert(Row),
    Update(Row, Vec<Option<Value>>, Vec<u16>),
    Delete(Row),
}

impl Serialize for Operation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self {
            Operation::Insert { after } => Written::Insert(after),
            Operation::Update { before, after, unchanged } => {
                let changed = |(at, value)| (before.0.get(at) != Some(value)).then_some(value);
                Written::Update(before, after.0.iter().enumerate().map(changed).collect(), unchanged)
            }
            Operation::Delete { before } => Written::Delete(before),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Operation, D::Error> {
        Ok(match Read::deserialize(deserializer)? {
            Read::Insert(after) => Operation::Insert { after },
            Read::Update(before, changed, unchanged) => {
                let value = |(at, value): (usize, Option<Value>)| value.or_else(|| before.0.get(at).cloned());
                let after: Option<_> = changed.into_iter().enumerate().map(value).collect();
                let after = Row(after.ok_or_else(|| serde::de::Error::custom("a row is shorter than it was"))?);
                Operation::Update { before, after, unchanged }
            }
            Read::Delete(before) => Operation::Delete { before },
        })
    }
}

/// A change of one row of a mapped table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which table.
    pub table: TableId,
    /// What happened.
    pub operation: Operation,
    /// It was logged in the shape that the table had before a column was added, renamed or given another type, and what the row came to hold in
    /// that column the log does not tell: what stands there is a guess, the same before and after, so that nothing may seem to be
    /// changed. Or its columns stood in another order, and one of them may have been dropped and another added under its name.
    /// Whoever writes the row asks the source for it.
    pub reshaped: bool,
}

impl Change {
    /// The row before, where there was one.
    pub fn before(&self) -> Option<&Row> {
        match &self.operation {
            Operation::Insert { .. } => None,
            Operation::Update { before, .. } | Operation::Delete { before } => Some(before),
        }
    }

    /// The row after, where there is one.
    pub fn after(&self) -> Option<&Row> {
        match &self.operation {
            Operation::Delete { .. } => None,
            Operation::Update { after, .. } | Operation::Insert { after } => Some(after),
        }
    }

    /// Bytes of memory that the change takes, for the accounting of queues. What both rows share counts twice.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Change>() + self.before().map_or(0, Row::memory_bytes) + self.after().map_or(0, Row::memory_bytes)
    }
}

/// Who made a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// An application, or another replication that is none of ours.
    Local,
    /// Another bridge of this name: a local write to us, and passed on.
    Bridge(Box<str>),
    /// This bridge: the echo of its own write. Nothing to apply.
    Own,
}

/// A transaction, or a piece of one. All fragments of a transaction follow each other; the last one
/// carries the position. A reader keeps fragments below [`FRAGMENT_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The server's own name of the transaction (xid, GTID), for people.
    pub transaction: Arc<str>,
    /// Who made it.
    pub origin: Origin,
    /// When the write was made, in microseconds since 1970 UTC by the clock of the server where it was
    /// first made: for another bridge's transaction the time that its tag carries.
    pub commit_time: i64,
    /// This is the transaction's first fragment.
    pub first: bool,
    /// The changes of mapped tables, in the order of the log. May be empty.
    pub changes: Vec<Change>,
    /// Where the commit ends; `None` while more fragments follow.
    pub position: Option<Position>,
}

/// A fragment is closed when its changes pass this many bytes: small enough that a queue of a few MiB
/// holds many, large enough that a fragment costs nothing beside its rows.
pub const FRAGMENT_BYTES: usize = 64 * 1024;

/// All of the log up to a position is read, and there is nothing to apply in what was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where the reader stands.
    pub position: Position,
    /// The server's clock at that position in microseconds since 1970 UTC, where the log says it. All
    /// that was committed before it has been read.
    pub time: Option<i64>,
    /// Somebody waits for this position (`pontoon wait`): it is to become durable soon.
    pub barrier: bool,
    /// Rows that were read of transactions that the operator said to pass over, and that the reader has passed over.
    pub passed_over: u64,
}

/// Of a transaction that the log hands over before it is decided: PostgreSQL streams one that is too large for
/// the server's memory while it is still open, MySQL and MariaDB log what XA prepared long before its decision.
///
/// * Pieces come in the order of the log, between whole transactions: before, after and between pieces of other
///   undecided transactions, never between the fragments of one that is whole. They move no position.
/// * Nothing of it counts before [`Held::Decided`]. That stands at its place in commit order, like the last fragment
///   of any other transaction, and from there on the transaction is as if all its fragments came there.
/// * An obstacle within is yielded only where the transaction is known to commit, in place of the decision.
/// * Nothing about pieces is durable. A restart forgets them; a reader that is opened at a position yields again the
///   pieces of every transaction that is decided after it, wherever in the log they lie. It is for the reader to
///   see to it that the server keeps them: what `confirm` is given says nothing about undecided transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// More of it, and perhaps the first of it. A reader keeps pieces below [`FRAGMENT_BYTES`].
    Piece {
        /// Names the transaction among all that are undecided; free for another one after the decision.
        id: Arc<str>,
        /// The subtransaction that made the changes, by a number that is used once in the transaction.
        part: u32,
        /// The changes of mapped tables, in the order of the log.
        changes: Vec<Change>,
    },
    /// Rolled back: all of it, or the changes of one subtransaction (those nested in it are undone each by its own
    /// number). May name what no piece was yielded of.
    Undone {
        /// The transaction.
        id: Arc<str>,
        /// The subtransaction; `None` for the whole transaction.
        part: Option<u32>,
    },
    /// It commits now, here. Its pieces have all been yielded, if it has any.
    Decided {
        /// The transaction.
        id: Arc<str>,
        /// The first and last fragment in one, without changes: name, origin, commit time and position.
        fragment: Fragment,
    },
}

/// What a log reader yields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEvent {
    /// A transaction or a piece of one.
    Fragment(Fragment),
    /// Nothing to apply up to here. Also yielded while a link is idle.
    Progress(Progress),
    /// The next transaction cannot be passed on. What was yielded of it is void: its commit never
    /// comes, and the reader yields nothing more.
    Obstacle(Obstacle),
    /// Of a transaction that is not decided yet, or its decision.
    Held(Held),
}

/// Why the bridge has to stop before a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What names the transaction before its end is known (PostgreSQL: the commit's LSN as Begin tells it;
    /// MySQL, MariaDB: the end of its GTID event). No transaction's position, so that it names no other one.
    /// `pontoon skip` takes it.
    pub position: Position,
    /// What is in the way, and the remedy.
    pub error: Error,
}

/// One change with everything about it: the common event that `pontoon tail` prints.
pub struct Event<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The name of the bridge that reads, which is the origin of an echo.
    pub bridge: &'a str,
    /// The transaction's position, or where its piece was met.
    pub position: &'a Position,
    /// The fragment that holds the change.
    pub fragment: &'a Fragment,
    /// The table on this node.
    pub table: &'a MappedTable,
    /// The change.
    pub change: &'a Change,
}

impl Serialize for Event<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let operation = &self.change.operation;
        let (name, unchanged) = match operation {
            Operation::Insert { .. } => ("insert", &[][..]),
            Operation::Update { unchanged, .. } => ("update", &unchanged[..]),
            Operation::Delete { .. } => ("delete", &[][..]),
        };
        let origin = match &self.fragment.origin {
            Origin::Local => None,
            Origin::Bridge(name) => Some(&**name),
            Origin::Own => Some(self.bridge),
        };
        let columns = |row: &'_ Row, places: &mut dyn Iterator<Item = usize>| {
            places
                .filter(|&at| row.0[at] != Value::Unchanged)
                .map(|at| (self.table.columns[at].column.name.to_string(), row.0[at].to_json()))
                .collect::<serde_json::Map<_, _>>()
        };
        let whole = |row: Option<&Row>| row.map(|row| columns(row, &mut (0..row.0.len())));
        let keyed = self.change.after().or(self.change.before());
        let mut map = serializer.serialize_map(Some(11))?;
        map.serialize_entry("node", self.node)?;
        map.serialize_entry("position", &self.position.to_string())?;
        map.serialize_entry("transaction", &self.fragment.transaction)?;
        map.serialize_entry("commit_time", &calendar::format_instant(self.fragment.commit_time))?;
        map.serialize_entry("origin", &origin)?;
        map.serialize_entry("table", &self.table.name.to_string())?;
        map.serialize_entry("op", name)?;
        map.serialize_entry("key", &keyed.map(|row| columns(row, &mut self.table.key.iter().copied())))?;
        map.serialize_entry("before", &whole(self.change.before()))?;
        map.serialize_entry("after", &whole(self.change.after()))?;
        let names: Vec<&str> = unchanged.iter().map(|&at| &*self.table.columns[usize::from(at)].column.name).collect();
        map.serialize_entry("unchanged", &names)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        form::Form,
        kind::Kind,
        schema::{Column, MappedColumn, TableName},
    };

    fn items() -> MappedTable {
        let kind = Kind::Integer { min: 0, max: 100 };
        let column = |name: &str| {
            MappedColumn::new(
                Column { nullable: false, ..Column::plain(name, "integer", kind.clone()) },
                kind.clone(),
                Form::Integer,
            )
        };
        MappedTable::plain(TableName::new("public", "items"), vec![column("id"), column("quantity")])
    }

    #[test]
    fn what_an_update_left_as_it_was_is_there_once() {
        let large = || Value::Bytes(vec![7; SHARED_BYTES].into());
        let document = || Value::Json(format!("{:?}", "x".repeat(SHARED_BYTES)).into());
        let row = |note: &str, real: f64| {
            Row(vec![Value::Integer(1), large(), Value::Text(note.into()), Value::Float64(real), document()])
        };
        let operation = Operation::update(row("a", 0.0), row("b", -0.0), vec![1]);
        let Operation::Update { before, after, .. } = &operation else { panic!() };
        let (Value::Bytes(was), Value::Bytes(is)) = (&before.0[1], &after.0[1]) else { panic!() };
        assert_eq!(was.as_ptr(), is.as_ptr());
        let (Value::Json(was), Value::Json(is)) = (&before.0[4], &after.0[4]) else { panic!() };
        assert_eq!(was.as_ptr(), is.as_ptr());
        let insert = Operation::Insert { after: row("a", 1.0) };
        let delete = Operation::Delete { before: row("a", 1.0) };
        for operation in [operation, insert, delete] {
            let written = postcard::to_stdvec(&operation).unwrap();
            assert!(written.len() < 2 * SHARED_BYTES + 100);
            assert_eq!(postcard::from_bytes::<Operation>(&written).unwrap(), operation);
        }
    }

    #[test]
    fn the_common_event_is_as_documented() {
        let row = |quantity| Row(vec![Value::Integer(7), Value::Integer(quantity)]);
        let operation = Operation::Update { before: row(4), after: row(3), unchanged: vec![] };
        let change = Change { table: TableId(0), operation, reshaped: false };
        let fragment = Fragment {
            transaction: "761".into(),
            origin: Origin::Local,
            commit_time: calendar::parse_instant("2026-11-23T10:00:00.123456Z").unwrap(),
            first: true,
            changes: vec![],
            position: None,
        };
        let position = Position::Lsn(0x16B_3748);
        let table = items();
        let event = Event {
            node: "shop",
            bridge: "b",
            position: &position,
            fragment: &fragment,
            table: &table,
            change: &change,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"node":"shop","position":"0/16B3748","transaction":"761","commit_time":"2026-11-23T10:00:00.123456Z","origin":null,"table":"public.items","op":"update","key":{"id":7},"before":{"id":7,"quantity":4},"after":{"id":7,"quantity":3},"unchanged":[]}"#
        );
    }
}
