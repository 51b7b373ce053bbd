//! What the engine needs of a database. PostgreSQL, MySQL and MariaDB implement these traits, and so
//! does a node in memory, on which the simulation runs the same engine.
//!
//! Every method is required: a default that does nothing would drop rows. All may fail with a
//! transient error at any time; the caller then drops what it holds, opens it anew and reads back
//! what is durable. Dropping any of these values closes its connection without waiting; what the
//! server had under way may go on for a while.

use std::{cmp::Ordering, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    change::{Key, LogEvent, Row},
    definition::{TableDefinition, TableDraft},
    digest::{Digest, Span},
    error::{Error, Result},
    history::{self, Filter, Record, Retention},
    neighbours::Surroundings,
    new_key::{Answer, NewKey, Of, Request},
    position::{LogIdentity, Position},
    pressure::{Pressure, PressureLimits},
    quarantine::{Ask, Asked, Counts, Entry, Stored, StoredWrite},
    repair::Repair,
    requests::Requests,
    schema::{MappedTable, TableId, TableName, TableSchema},
    sequences::{GeneratedKey, Standing},
    state::{Arrangement, Checkpoint, CopyState, NodeState, NotedLogs, Pause, Reload, Resolution, Tag, Throttle},
    value::Value,
    verified::Verified,
};

/// The tables of a bridge as one side sees them; [`TableId`] is an index into it.
pub type Tables = Arc<[MappedTable]>;

/// A password: never printed, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the login alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a connector needs to know to reach its server.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The node's name in the configuration.
    pub name: String,
    /// The bridge's name: the origin tag.
    pub bridge: String,
    /// The URL, in the engine's own words, without password.
    pub url: String,
    /// The password, where there is one.
    pub password: Option<Secret>,
}

/// What answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// `PostgreSQL 15.18`, `MariaDB 10.11.19`.
    pub server: String,
    /// When its certificate ends, in seconds since 1970 UTC; `None` without TLS.
    pub certificate_expiry: Option<i64>,
    /// The bytes that a statement may have, and so a row that is written; `None` where a row meets other limits first.
    pub statement_bytes_max: Option<u64>,
}

/// What the log of a server that was promoted has of its primary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedOver {
    /// Where they part, in the log of the one that was promoted: before it stands all that it has of the other.
    pub fork: Position,
    /// Of each place the same one in this log. `None`: not all that stood before it is there.
    pub places: Vec<Option<Position>>,
}

/// One database.
///
/// Cheap to share; opens connections as its methods need them and pins the session settings on each.
#[async_trait]
pub trait Node: Send + Sync {
    /// The node's name in the configuration.
    fn name(&self) -> &str;

    /// Connects, and says what answered. Errors: unreachable, login refused, TLS failed.
    async fn connect(&self) -> Result<Peer>;

    /// Which log this is, now.
    async fn identity(&self) -> Result<LogIdentity>;

    /// Where this node's log has what `log` had before each of these places, which it goes on from: the server was promoted, and the other one was its
    /// primary. `None` where it does not go on from that log, or nothing tells.
    async fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Result<Option<CarriedOver>>;

    /// All user tables, the bridge's own left out, in name order.
    async fn list_tables(&self) -> Result<Vec<TableName>>;

    /// The tables' descriptions in the order asked for; `None` where there is no such table. A name
    /// without schema is looked for in the node's default schema.
    async fn describe(&self, names: &[TableName]) -> Result<Vec<Option<TableSchema>>>;

    /// Whether a mapped table is described as it was when it was mapped.
    async fn is_as_mapped(&self, table: &MappedTable) -> Result<bool>;

    /// What the bridge keeps here. Errors: not set up, format unknown.
    async fn state(&self, tables: &Tables) -> Result<NodeState>;

    /// The first loads of mapped tables that were asked for on this node, done or not.
    async fn copies(&self, tables: &Tables) -> Result<Vec<CopyState>>;

    /// About how many rows a table holds, as the server's statistics say; `None` where they say nothing.
    async fn estimate(&self, table: &TableName) -> Result<Option<u64>>;

    /// Tries to become the one process that works for the bridge, as far as this node is concerned.
    async fn try_lease(&self) -> Result<LeaseAttempt>;

    /// Opens the log after `start`. Before the first event it has made sure that the log is the one
    /// named, and that nothing between `start` and what the server still has is missing. What is in the way of the log is
    /// passed over where `passed` says so. Errors: log lost, identity changed, log behind, setting wrong, privilege missing.
    async fn open_reader(&self, start: &Checkpoint, tables: &Tables, passed: &PassedOver)
    -> Result<Box<dyn LogReader>>;

    /// Opens the log for looking only: takes nothing from a running bridge. From the log's present end
    /// where no position is given. Tables that are not followed are read too; `passed` as of [`Node::open_reader`].
    async fn open_tail(
        &self,
        start: Option<&Position>,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>>;

    /// Opens a session that writes, as applier `applier` of the bridge, under the lease's token.
    async fn open_session(&self, applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>>;

    /// Opens a session that reads tables.
    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>>;

    /// Sees to it that a reader soon yields a position at or after the log's present end, even if
    /// nothing else is written; with [`Mark::Barrier`], as a [`crate::change::Progress`] whose `barrier`
    /// is set.
    async fn mark(&self, mark: Mark) -> Result<()>;

    /// What operators have asked for keys in quarantine and the bridge has not yet done, by this node's entries; a
    /// a decision by those alone that this node refused.
    async fn asked(&self, tables: &Tables) -> Result<Vec<Asked>>;

    /// What else operators have asked for and the bridge has not yet done.
    async fn requests(&self, tables: &Tables) -> Result<Requests>;

    /// Whether an operator has said that nothing is to be applied on this node. To be asked after [`Lease::take_over`]: a word that is
    /// given later ends the token.
    async fn paused(&self) -> Result<Option<Pause>>;

    /// What the last comparison came to, where one is noted on this node.
    async fn verified(&self) -> Result<Option<Verified>>;

    /// How fast an operator has said that is to be applied on this node; `None` where they have not, and the configuration counts.
    async fn throttled(&self) -> Result<Option<Throttle>>;

    /// How busy the server is, as far as there are limits. Errors: among others, the user may not ask it.
    async fn pressure(&self, limits: &PressureLimits) -> Result<Pressure>;

    /// Where the log stands, seen from `since`.
    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus>;
}

/// What may be in the way of a log and is passed over all the same.
#[derive(Debug, Clone, Default)]
pub struct PassedOver {
    /// Transactions: each whole, as [`crate::change::Progress`].
    pub skips: Vec<Position>,
    /// What concerns a table alone, up to a position: that is known of it already, or is not wanted. The rest of a transaction is read.
    pub since: Vec<(TableId, Position)>,
}

impl PassedOver {
    /// Transactions alone.
    pub fn skips(skips: &[Position]) -> PassedOver {
        PassedOver { skips: skips.to_vec(), ..PassedOver::default() }
    }

    /// Whether what an error says of a table, at a position, is of no matter.
    pub fn covers(&self, tables: &Tables, error: &Error, position: &Position) -> bool {
        let table = error.table().and_then(|label| tables.iter().find(|table| *table.label == *label));
        let since = table.and_then(|table| self.since.iter().find(|(id, _)| *id == table.id));
        since.is_some_and(|(_, up_to)| up_to.covers(position))
    }
}

/// Which of the bridge's sessions on a node this is. Each has its own row in `checkpoint` and, on
/// PostgreSQL, its own replication origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applier {
    /// The one that applies the other node's log.
    Direction,
    /// The one that settles conflicts.
    Rendezvous,
    /// The one that works beside the first: on the run that follows in a backlog, or on rows of a copy. Their runs are
    /// committed one after the other, so the later of both positions is the checkpoint.
    Beside,
}

impl Applier {
    /// The number in the `checkpoint` table and in the origin's name.
    pub const fn number(self) -> i32 {
        match self {
            Applier::Direction => 0,
            Applier::Rendezvous => 1,
            Applier::Beside => 2,
        }
    }
}

/// Why a mark is written to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The reader shall pass a fence, or measure its lag.
    Heartbeat,
    /// Somebody waits until this point is durable on the other side.
    Barrier,
}

/// Where a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// The log's end.
    pub end: Position,
    /// Bytes of log between the position asked about and the end; `None` where it cannot be told.
    pub behind_bytes: Option<u64>,
    /// Bytes of log that the server keeps for the bridge (PostgreSQL), or keeps at all from the oldest
    /// file on (MySQL, MariaDB).
    pub retained_bytes: Option<u64>,
    /// Bytes that can still be written before the server may take away log that is needed.
    pub headroom_bytes: Option<u64>,
    /// The server's clock, in microseconds since 1970 UTC.
    pub clock: i64,
}

/// The outcome of [`Node::try_lease`].
pub enum LeaseAttempt {
    /// This process works; for as long as the lease lives.
    Ours(Box<dyn Lease>),
    /// Another one does; its host and process id, where known.
    HeldBy(String),
}

/// The right to work, bound to a connection: it ends when the connection does. It is for liveness
/// only; that nobody writes who lost it is the token's doing, which every transaction checks.
#[async_trait]
pub trait Lease: Send {
    /// Waits until no transaction of an earlier holder is under way any more (each holds the lease
    /// row shared to its end), and raises the token, so that none can begin. Returns the new token.
    /// `holder` is left in the row for people to read.
    async fn take_over(&mut self, holder: &str) -> Result<i64>;

    /// Shows the server that the holder lives. Errors: the lease may be lost; somebody has raised the token since, which a bridge that has nothing to write
    /// notices by this.
    async fn renew(&mut self) -> Result<()>;

    /// Raises this node's epoch by one, durably, and returns it.
    async fn raise_epoch(&mut self) -> Result<i64>;

    /// Notes durably on this node how far the other one's epoch has been raised.
    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()>;

    /// Sets the checkpoint that this node keeps, whatever it was. Nobody else works meanwhile: it is the lease's own
    /// connection that writes.
    async fn set_checkpoint(&mut self, other: &Checkpoint) -> Result<()>;

    /// Sets tables aside or takes them back, in one transaction under the token; see [`crate::state::NodeState::aside`]. Errors: lease lost, where
    /// somebody has raised the token since it was taken over; not set up.
    async fn arrange(&mut self, arrangement: &Arrangement) -> Result<()>;

    /// Notes which logs the two nodes have now, where one goes on from that of before, and where in it the places are that are kept here. In one
    /// transaction under the token. Errors: lease lost; not set up.
    async fn note_logs(&mut self, noted: &NotedLogs) -> Result<()>;
}

/// Reads one log, in commit order, without gap or duplicate after its start. Pieces of a transaction may come before
/// its commit, under the contract of [`crate::change::Held`].
#[async_trait]
pub trait LogReader: Send {
    /// The next event. Never waits for the target. While the log is idle it yields
    /// [`LogEvent::Progress`] at least every few seconds. After an error or an obstacle the reader is
    /// of no more use. Cancel safe: when the future is dropped, no event is lost.
    async fn next(&mut self) -> Result<LogEvent>;

    /// Takes the position behind which the log is still needed: what is durable on the other side, or less. Only that is ever
    /// confirmed to the server, at the reader's leisure.
    fn confirm(&mut self, durable: &Position);
}

/// The rows of one table to write, all in common form. A key stands in one of the three lists at most
/// once. They are carried out in the order deletes, updates, inserts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableBatch {
    /// Rows that must be there exactly like this and are removed.
    pub deletes: Vec<Row>,
    /// Rows that must be there exactly as before and are changed. The key is the same before and after.
    pub updates: Vec<UpdateGroup>,
    /// Rows whose key must be absent.
    pub inserts: Vec<Row>,
}

impl TableBatch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.updates.is_empty() && self.inserts.is_empty()
    }
}

/// Updates that change the same columns, so that one statement serves them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpdateGroup {
    /// The columns to set, by their place; no key column among them. Never empty, but where a column is added to.
    pub changed: Vec<usize>,
    /// Columns that take no part in the comparison with the row before, none of them among `changed`. The key does all the
    /// same: the row is found by it.
    pub sums: Vec<Sum>,
    /// Each row before and after; of a column that is added to, what is added stands for what it is after.
    pub rows: Vec<(Row, Row)>,
}

impl UpdateGroup {
    /// The columns that are added to.
    pub fn added(&self) -> impl Iterator<Item = &Sum> {
        self.sums.iter().filter(|sum| sum.added)
    }
}

/// A column that an update does not compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sum {
    /// Its place.
    pub at: usize,
    /// It is added to, whatever its value is, but for null: then the row is not as expected. Else it is left as it is.
    pub added: bool,
    /// A row that has at least this much must not come below it, or it is not as expected.
    pub floor: Option<Value>,
}

impl Sum {
    /// Whether a column is compared with the row before, since it is none of these.
    pub fn spare(sums: &[Sum], column: usize) -> bool {
        sums.iter().all(|sum| sum.at != column)
    }

    /// What a value comes to; `None` where the row is not as expected: it has no sum, or comes below the floor.
    pub fn total(&self, value: &Value, added: &Value) -> Option<Value> {
        let total = value.plus(added)?;
        let below = |value: &Value, floor: &Value| value.compare(floor) == Some(Ordering::Less);
        let crosses = |floor: &Value| !below(value, floor) && below(&total, floor);
        if self.floor.as_ref().is_some_and(crosses) { None } else { Some(total) }
    }
}

/// What a conditional write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Every row was as expected and is written.
    All,
    /// Some row was not as expected. The transaction is of no more use and must be rolled back.
    Missed,
}

/// A session that writes: one transaction at a time, at READ COMMITTED.
///
/// Errors of class definite name the table and, where the server says so, the constraint. After any
/// error [`Session::rollback`] or a drop must follow; a transaction that failed is never committed.
#[async_trait]
pub trait Session: Send {
    /// Begins a transaction: holds the lease row shared to its end and checks the token; then, where a
    /// tag is given, as [`Session::tag`]. It may be done with what comes first in the transaction, which then tells what is wrong.
    /// Errors: lease lost.
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()>;

    /// Writes the tag and moves the checkpoint. Once per transaction, after locks and reads at will and
    /// before the first write, so that it leads the transaction in the log.
    async fn tag(&mut self, tag: &Tag) -> Result<()>;

    /// Writes rows, each on condition that the row was as expected. Nothing is overwritten that was not
    /// expected.
    async fn apply(&mut self, table: TableId, batch: &TableBatch) -> Result<Applied>;

    /// Locks rows for update and returns them as they are now, in the order of the keys. The keys are
    /// in ascending order. An absent row cannot be locked and is `None`.
    async fn lock(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>>;

    /// Reads rows without locking, in a new statement, in the order of the keys.
    async fn read(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>>;

    /// For each row, the key of the row of the table that has the same values in a unique constraint's columns; itself,
    /// where it is there. `unique` is the constraint's place in [`MappedTable::uniques`].
    async fn holders(&mut self, table: TableId, unique: usize, rows: &[Row]) -> Result<Vec<Option<Key>>>;

    /// Which of the rows of these keys, as this transaction sees them, refer to a row that is not there. Those that are
    /// referred to cannot be removed by others until the transaction has ended. `reference` is the foreign key's place in
    /// [`MappedTable::references`].
    async fn orphans(&mut self, table: TableId, reference: usize, keys: &[Key]) -> Result<Vec<Key>>;

    /// The rows that refer to what these rows of the parent were, where no row is that any more; at most `limit`, by
    /// their keys. The table is the one that refers, and `reference` its foreign key.
    async fn children(&mut self, table: TableId, reference: usize, parents: &[Row], limit: usize) -> Result<Vec<Key>>;

    /// The end of the log, now: every transaction that released a lock that this session was granted
    /// is at or before it.
    async fn fence(&mut self) -> Result<Position>;

    /// Marks a place within the transaction to come back to; one at a time, a later one takes its place.
    async fn savepoint(&mut self) -> Result<()>;

    /// Undoes what was written since the savepoint, after an error of a row: the transaction is fit for use again,
    /// and the savepoint stands.
    async fn rollback_to_savepoint(&mut self) -> Result<()>;

    /// Stores entries in quarantine. Errors: an entry that is too large for this server.
    async fn store(&mut self, entries: &[Stored]) -> Result<()>;

    /// The stored changes of a key with an id above `after`, in order, at most
    /// [`STORED_READ_MAX`](crate::quarantine::STORED_READ_MAX); settlements are none.
    async fn stored(&mut self, table: TableId, key: &Key, after: i64) -> Result<Vec<StoredWrite>>;

    /// Removes all entries of these keys.
    async fn release(&mut self, table: TableId, keys: &[Key]) -> Result<()>;

    /// A key was tried and refused again: counts it at the entry `head`, and takes back what operators asked for the
    /// key.
    async fn tried(&mut self, table: TableId, key: &Key, tried: &Tried) -> Result<()>;

    /// The highest id of any resolution or entry in quarantine of the bridge on this node, in force or not; 0 for
    /// none.
    async fn highest_id(&mut self) -> Result<i64>;

    /// The resolution of this id, in force or not; `None` where there is none, or of a table that is not mapped.
    async fn recorded(&mut self, id: i64) -> Result<Option<Resolution>>;

    /// Answers a request: one of a record stays with its answer, one of an entry is removed. `false`: it is no longer
    /// what it was.
    async fn answer_new_key(&mut self, request: &NewKey, answer: &Answer) -> Result<bool>;

    /// Removes a request whose keys are all settled.
    async fn repaired(&mut self, request: &Repair) -> Result<()>;

    /// Writes resolutions, and takes older ones of the same keys out of force.
    async fn record(&mut self, resolutions: &[Resolution]) -> Result<()>;

    /// Writes many rows whose keys must be absent, as [`Session::apply`] does with inserts, in whatever way is
    /// fastest for many. The rows are in ascending order of their keys. [`Applied::Missed`] may also mean another unique
    /// constraint than the key's, or a value that this way has no form for: [`Session::apply`] tells.
    async fn load(&mut self, table: TableId, rows: &[&Row]) -> Result<Applied>;

    /// Writes how far a copy to this node has come.
    async fn note_copy(&mut self, copy: &CopyState) -> Result<()>;

    /// Takes resolutions out of force; they stay as history.
    async fn retire(&mut self, ids: &[i64]) -> Result<()>;

    /// Removes resolutions that are history alone and need not be kept, the oldest first, of at most `limit` that are
    /// looked at. Returns how many it removed.
    async fn forget(&mut self, keep: &Retention, limit: usize) -> Result<u64>;

    /// Commits durably, whatever the server's default is. A transient error leaves the outcome unknown;
    /// it is known again once [`Lease::take_over`] has waited for the old session and
    /// [`Node::state`] is read.
    async fn commit(&mut self) -> Result<()>;

    /// Commits as [`Session::commit`] does, but waits for no disk where the server can leave that out for a transaction. A crash of
    /// the server may undo it, and then all that was committed there behind it: once a later commit is durable, so is this one.
    async fn commit_in_order(&mut self) -> Result<()> {
        self.commit().await
    }

    /// Rolls back, explicitly. An error means that the connection is gone, and with it the transaction.
    async fn rollback(&mut self) -> Result<()>;

    /// Whether its driver keeps buffers as large as a value that went through it: between two transactions a new session is had at less cost.
    fn is_bloated(&self) -> bool {
        false
    }
}

/// What came of another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The entry that is counted at, where this node has it.
    pub head: Option<i64>,
    /// How often it has been tried.
    pub attempts: u32,
    /// Why it is refused now.
    pub refusal: Error,
    /// When it is tried again.
    pub due_in: Duration,
    /// It was tried for an operator's decision, which is taken back. Else only a request to try it is done.
    pub decided: bool,
}

/// A chunk of settled rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The rows. They may be fewer than were asked for, or none, also before the table's end: some may have been removed
    /// while they were read.
    pub rows: Vec<Row>,
    /// The key up to which the table was read; `None`: to its end.
    pub up_to: Option<Key>,
}

/// A session that reads tables whole.
#[async_trait]
pub trait Scan: Send {
    /// The first rows of a span in this server's own key order, at most `limit`. Errors: a bound that this server has
    /// no value for.
    async fn chunk(&mut self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<Row>>;

    /// As [`Scan::chunk`] of what is behind a key, and with the effect of every transaction that ends at or before where the log ended
    /// when this was called: a statement alone may miss one whose commit is in the log and not visible yet.
    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Settled>;

    /// The rows of these keys, in their order.
    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>>;

    /// Whether this server keeps the rows in the order of [`crate::digest::has_common_order`], so that a span of them is
    /// one on every other server that does.
    fn keeps_common_order(&self, table: TableId) -> bool;

    /// The key of the row that is the `number`th of a span, from 1 on, found by the index alone; `None` where the span
    /// has fewer. Errors as of [`Scan::chunk`].
    async fn nth_key(&mut self, table: TableId, span: Span<'_>, number: usize) -> Result<Option<Key>>;

    /// What a span of a table comes to that is [`crate::digest::is_digestible`], computed in the server. Errors as of
    /// [`Scan::chunk`].
    async fn digest(&mut self, table: TableId, span: Span<'_>) -> Result<Digest>;
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The bridge will not work, or would lose something.
    Blocking,
    /// It will work; the operator should know.
    Warning,
    /// As it should be.
    Ok,
}

/// One thing that `check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// A stable code: `binlog-row-image`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The node, or the pair of tables.
    pub subject: String,
    /// What was found.
    pub actual: String,
    /// What is needed.
    pub expected: String,
    /// The statement or step that mends it.
    pub remedy: Option<String>,
}

/// What an operator does to a node beside the running bridge.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Looks at settings, privileges and what of the set-up is there; changes nothing. Errors only where
    /// it could not look.
    async fn findings(&self, plan: &SetupPlan) -> Result<Vec<Finding>>;

    /// What else moves rows to or from this node; changes nothing. What the bridge's user may not see is told, and no
    /// error.
    async fn surroundings(&self, tables: &Tables) -> Result<Surroundings>;

    /// What [`Admin::setup`] does, as SQL to read or to run by a superuser: the user's grants first.
    async fn setup_sql(&self, plan: &SetupPlan) -> Result<Vec<String>>;

    /// Whole definitions of tables that are there, in the order asked for; `None` where there is no such table.
    async fn define_tables(&self, names: &[TableName]) -> Result<Vec<Option<TableDefinition>>>;

    /// How tables that are not there would be made here; changes nothing. Schemas or databases that are
    /// missing are made with the first table in them.
    async fn draft_tables(&self, definitions: &[TableDefinition]) -> Result<Vec<TableDraft>>;

    /// Makes tables, all or none, and returns once they are there. Errors: privilege missing, and whatever the
    /// server refuses, naming the table.
    async fn create_tables(&self, drafts: &[TableDraft]) -> Result<()>;

    /// Takes back what [`Admin::create_tables`] made just now. A table in which somebody has written since stays;
    /// returns what is left.
    async fn remove_new_tables(&self, drafts: &[TableDraft]) -> Result<Vec<String>>;

    /// Creates schema, tables, publication, slot and origins where they are missing, and says where the
    /// log stands: what is committed after it returns is after that position. Safe to repeat.
    async fn setup(&self, plan: &SetupPlan) -> Result<Checkpoint>;

    /// The checkpoint at a place of this node's log that an operator names, behind which the log is there, whole
    /// transactions of it; changes nothing. Errors: position unfit; not set up, where a place can only be read by what
    /// was there before; and those of [`Node::open_reader`].
    async fn start_at(&self, plan: &SetupPlan, position: &Position) -> Result<Checkpoint>;

    /// Writes the first checkpoint (of the other node's log) if there is none yet, the names and
    /// identities of both nodes, and the tables as they are now. Errors: bridge name taken.
    async fn install_checkpoint(&self, plan: &SetupPlan, other: &Checkpoint) -> Result<()>;

    /// Removes what only reading this node's log takes, where the plan does not follow it: a slot that nobody reads would keep the log for ever. Safe to
    /// repeat. Errors: contention, while a bridge still reads it.
    async fn let_go(&self, plan: &SetupPlan) -> Result<()>;

    /// What [`Admin::teardown`] does, as SQL.
    async fn teardown_sql(&self, plan: &SetupPlan) -> Result<Vec<String>>;

    /// Removes everything of this bridge, and the `pontoon` schema with the last one. Returns what is
    /// left of it, which should be nothing.
    async fn teardown(&self, plan: &SetupPlan) -> Result<Vec<String>>;

    /// Asks durably for the first load of tables to this node. What is underway goes on where it is; what is
    /// done is begun anew.
    async fn request_copies(&self, tables: &Tables, copies: &[CopyState]) -> Result<()>;

    /// Where the generator of a key column stands; changes nothing. Errors: privilege missing, one that counts down.
    async fn sequence(&self, key: &GeneratedKey) -> Result<Standing>;

    /// Moves a generator past the values that are there, never back; where it stands then. Values that applications take meanwhile
    /// are not given twice. Errors: as before; the user does not own it.
    async fn advance_sequence(&self, key: &GeneratedKey) -> Result<Standing>;

    /// Notes durably that nothing is to be applied on this node, for a time or until it is taken back, and raises the lease's token,
    /// which waits for every transaction of the bridge that is under way: when it returns, nothing more is applied. An
    /// earlier word is replaced. Errors: contention, where a transaction takes long; not set up.
    async fn pause(&self, length: Option<Duration>) -> Result<()>;

    /// Takes that back. Whether there was anything to take back.
    async fn resume(&self) -> Result<bool>;

    /// Notes durably what a comparison came to, in the place of what was noted before; when both sides were last equal stays where they are not
    /// now. Errors: not set up.
    async fn note_verified(&self, verified: &Verified) -> Result<()>;

    /// Notes durably how fast is to be applied on this node, in the place of an earlier word; `None` takes that back. A running bridge
    /// looks with each heartbeat. Errors: not set up.
    async fn throttle(&self, word: Option<Throttle>) -> Result<()>;

    /// Asks durably whoever works for the bridge to take up its configuration anew; the request's number. Processes of the bridge look at it on A, every
    /// other second. Errors: not set up.
    async fn ask_reload(&self) -> Result<i64>;

    /// The latest such request, where there is one.
    async fn reload_asked(&self) -> Result<Option<Reload>>;

    /// Notes durably what came of a request, if it is still the latest.
    async fn answer_reload(&self, number: i64, answer: &str) -> Result<()>;

    /// Remembers durably that the transaction that ends at `position` of this node's log is passed over.
    async fn skip(&self, position: &Position) -> Result<()>;

    /// The entries in quarantine here in the order of their ids, at most `limit`.
    async fn quarantine(&self, limit: usize) -> Result<Vec<Entry>>;

    /// How much is in quarantine here.
    async fn quarantine_counts(&self) -> Result<Counts>;

    /// Remembers durably what is asked for entries of the quarantine here; a running bridge looks every second.
    async fn ask(&self, ids: &[i64], ask: Ask) -> Result<()>;

    /// Remembers durably that a row is to have another key, in the place of what was asked for it before; but for a
    /// request of which the answer is that it was given.
    async fn ask_new_key(&self, request: &Request) -> Result<()>;

    /// Asks for keys to be made equal; all of it, or on an error nothing. `tables` are this node's.
    async fn ask_repairs(&self, tables: &Tables, requests: &[Repair]) -> Result<()>;

    /// What was asked of a row's key, and what became of it.
    async fn new_key(&self, of: Of) -> Result<Option<Request>>;

    /// The settled conflicts that the filter picks, the newest first, at most `limit`.
    async fn records(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>>;

    /// How many settled conflicts are kept here, by table and rule.
    async fn record_counts(&self) -> Result<Vec<history::Count>>;
}

/// What a node has to be prepared for.
#[derive(Debug, Clone)]
pub struct SetupPlan {
    /// The mapped tables on this node.
    pub tables: Tables,
    /// The same on the other node, in the same order.
    pub other_tables: Vec<TableName>,
    /// Whether the changes of each come here from the other node.
    pub arrives: Vec<bool>,
    /// Those, by label, whose changes come here as if for the first time, though they are set up.
    pub anew: Vec<Arc<str>>,
    /// The log of this node is followed.
    pub followed: bool,
    /// The other node writes here.
    pub written: bool,
    /// The database on this node, as its URL names it.
    pub database: String,
    /// The other node's name in the configuration.
    pub other_name: String,
    /// The database there.
    pub other_database: String,
    /// The other node's log.
    pub other_log: LogIdentity,
}

/// A table that a bridge is set up for on a node: what the configuration calls it, and whether its changes come here from the other node.
pub type SetUp = (Arc<str>, bool);

/// In which tables a set-up is another than the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangedTables {
    /// There is any.
    pub any: bool,
    /// Those whose changes come here for the first time: they count from where the other node's log stands.
    pub begin: Vec<Arc<str>>,
    /// Those whose changes come here no longer.
    pub end: Vec<Arc<str>>,
    /// Nothing came here before: the other node's log is followed from where it stands.
    pub from_nothing: bool,
}

impl SetupPlan {
    /// The tables, each with whether its changes come here, in alphabetical order.
    pub fn set_up(&self) -> Vec<SetUp> {
        let mut tables: Vec<SetUp> =
            self.tables.iter().zip(&self.arrives).map(|(table, arrives)| (table.label.clone(), *arrives)).collect();
        tables.sort();
        tables
    }

    /// In which tables it differs from what a bridge is set up for; in none where it is not set up for any.
    pub fn changed_tables(&self, known: &[SetUp]) -> ChangedTables {
        let planned = self.set_up();
        if known.is_empty() || planned == known && self.anew.is_empty() {
            return ChangedTables::default();
        }
        let arriving = |tables: &[SetUp]| -> Vec<Arc<str>> {
            tables.iter().filter(|(_, arrives)| *arrives).map(|(label, _)| label.clone()).collect()
        };
        let (mut before, now) = (arriving(known), arriving(&planned));
        before.retain(|label| !self.anew.contains(label));
        ChangedTables {
            any: true,
            begin: now.iter().filter(|label| !before.contains(label)).cloned().collect(),
            end: before.iter().filter(|label| !now.contains(label)).cloned().collect(),
            from_nothing: before.is_empty() && !now.is_empty(),
        }
    }
}
