//! A node of which any one call can be made to fail, counted from the first: every place at which the engine asks a
//! database for something is a call site here, on the way in and on the way back from a failure alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, Key, LogEvent, LogIdentity, MappedTable, Position, Resolution, Result, Row,
    TableId, TableName, TableSchema, Tag,
    history::Retention,
    new_key::{Answer, NewKey},
    node::{
        Applied, Applier, Lease, LeaseAttempt, LogReader, LogStatus, Mark, Node, Peer, Scan, Session, TableBatch,
        Tables, Tried,
    },
    quarantine::{Asked, Stored, StoredWrite},
    repair::Repair,
    requests::Requests,
    state::NodeState,
};

/// When a commit happens that outlives its connection: after the next session has begun to take the lease, which has to
/// wait for it.
const LATER: Duration = Duration::from_secs(3);

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is gone before anything has happened.
    Before,
    /// It has happened, and the answer is lost with the connection.
    After,
    /// The connection is lost, and it happens a while later: of commits.
    Later,
    /// Something cannot be had in time. The connection stays, and the transaction, if there is one, has to be rolled back.
    Contention,
}

impl Fault {
    /// How a call of this method can fail.
    pub(crate) fn of(method: &str) -> &'static [Fault] {
        match method {
            "commit" => &[Fault::Before, Fault::After, Fault::Later, Fault::Contention],
            // It only ends what a server would end by itself: there is nothing to wait for.
            "rollback" => &[Fault::Before, Fault::After],
            // A reader that failed is of no more use, however it did, and all is read again from what is durable.
            "next" => &[Fault::Before],
            _ => &[Fault::Before, Fault::After, Fault::Contention],
        }
    }
}

/// A call: which method of which node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    node: String,
    pub(crate) method: &'static str,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.method, self.node)
    }
}

/// The calls of one run, in their order, and those that fail.
#[derive(Default)]
pub(crate) struct Sites {
    met: Mutex<Vec<Site>>,
    failing: BTreeMap<usize, Fault>,
    closed: AtomicBool,
    /// Nodes to which directions write nothing for now.
    held: Mutex<BTreeSet<String>>,
    stop: Mutex<Stop>,
}

/// Where a process is to stop for good.
#[derive(Default, PartialEq, Eq)]
enum Stop {
    #[default]
    Never,
    /// Before a settlement is committed on this node.
    At(String),
    /// There it has.
    Stopped,
}

impl Sites {
    /// The calls with these numbers fail.
    pub(crate) fn failing(calls: impl IntoIterator<Item = (usize, Fault)>) -> Arc<Sites> {
        Arc::new(Sites { failing: calls.into_iter().collect(), ..Sites::default() })
    }

    /// From here on no call is counted, and none fails.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// From here on a direction that writes to this node gets no lock there.
    pub(crate) fn hold(&self, node: &str) {
        self.held.lock().unwrap().insert(node.to_owned());
    }

    /// From here on it does.
    pub(crate) fn let_go(&self, node: &str) {
        self.held.lock().unwrap().remove(node);
    }

    /// The process stops for good before the next settlement is committed on this node; or on none.
    pub(crate) fn stop_at(&self, node: Option<&str>) {
        *self.stop.lock().unwrap() = node.map_or(Stop::Never, |node| Stop::At(node.to_owned()));
    }

    /// Whether it has stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        *self.stop.lock().unwrap() == Stop::Stopped
    }

    fn stops_at(&self, node: &str) -> bool {
        let mut stop = self.stop.lock().unwrap();
        let stops = matches!(&*stop, Stop::At(at) if at == node);
        if stops {
            *stop = Stop::Stopped;
        }
        stops
    }

    /// The calls so far.
    pub(crate) fn met(&self) -> Vec<Site> {
        self.met.lock().unwrap().clone()
    }

    fn call(&self, node: &str, method: &'static str) -> Option<Fault> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let mut met = self.met.lock().unwrap();
        let number = met.len();
        met.push(Site { node: node.to_owned(), method });
        self.failing.get(&number).copied()
    }
}

fn lost() -> Error {
    Error::new(Code::ConnectionLost, "the connection was cut at this call")
}

fn contended() -> Error {
    Error::new(Code::Contention, "a lock could not be had in time at this call")
}

/// Who is called, and what has become of the connection.
struct Caller {
    node: String,
    sites: Arc<Sites>,
    cut: bool,
}

impl Caller {
    fn other(&self) -> Caller {
        Caller { node: self.node.clone(), sites: self.sites.clone(), cut: false }
    }

    /// Fails before the call, or returns whether its answer is to be lost.
    fn before(&mut self, method: &'static str) -> Result<bool> {
        if self.cut {
            return Err(lost());
        }
        match self.sites.call(&self.node, method) {
            None => Ok(false),
            Some(Fault::After) => Ok(true),
            Some(Fault::Contention) => Err(contended()),
            Some(Fault::Before | Fault::Later) => {
                self.cut = true;
                Err(lost())
            }
        }
    }

    fn after<T>(&mut self, answer: T, lose: bool) -> Result<T> {
        if lose {
            self.cut = true;
            return Err(lost());
        }
        Ok(answer)
    }
}

/// A call that fails where it is its turn.
macro_rules! call {
    ($caller:expr, $method:literal, $call:expr) => {{
        let lose = $caller.before($method)?;
        let answer = $call.await?;
        $caller.after(answer, lose)
    }};
}

/// A node whose calls are counted.
pub(crate) struct FaultyNode {
    node: Arc<dyn Node>,
    caller: Caller,
}

impl FaultyNode {
    pub(crate) fn new(node: Arc<dyn Node>, sites: Arc<Sites>) -> FaultyNode {
        let caller = Caller { node: node.name().to_owned(), sites, cut: false };
        FaultyNode { node, caller }
    }
}

#[async_trait]
impl Node for FaultyNode {
    fn name(&self) -> &str {
        self.node.name()
    }

    async fn connect(&self) -> Result<Peer> {
        call!(self.caller.other(), "connect", self.node.connect())
    }

    async fn identity(&self) -> Result<LogIdentity> {
        call!(self.caller.other(), "identity", self.node.identity())
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        self.node.list_tables().await
    }

    async fn describe(&self, names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        self.node.describe(names).await
    }

    async fn is_as_mapped(&self, table: &MappedTable) -> Result<bool> {
        call!(self.caller.other(), "is_as_mapped", self.node.is_as_mapped(table))
    }

    async fn state(&self, tables: &Tables) -> Result<NodeState> {
        call!(self.caller.other(), "state", self.node.state(tables))
    }

    async fn copies(&self, tables: &Tables) -> Result<Vec<CopyState>> {
        call!(self.caller.other(), "copies", self.node.copies(tables))
    }

    async fn estimate(&self, table: &TableName) -> Result<Option<u64>> {
        call!(self.caller.other(), "estimate", self.node.estimate(table))
    }

    async fn try_lease(&self) -> Result<LeaseAttempt> {
        Ok(match call!(self.caller.other(), "try_lease", self.node.try_lease())? {
            LeaseAttempt::Ours(lease) => {
                LeaseAttempt::Ours(Box::new(FaultyLease { lease, caller: self.caller.other() }))
            }
            held => held,
        })
    }

    async fn open_reader(&self, start: &Checkpoint, tables: &Tables, skips: &[Position]) -> Result<Box<dyn LogReader>> {
        let reader = call!(self.caller.other(), "open_reader", self.node.open_reader(start, tables, skips))?;
        Ok(Box::new(FaultyReader { reader, caller: self.caller.other() }))
    }

    async fn open_tail(&self, start: Option<&Position>, tables: &Tables) -> Result<Box<dyn LogReader>> {
        self.node.open_tail(start, tables).await
    }

    async fn open_session(&self, applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        let session = call!(self.caller.other(), "open_session", self.node.open_session(applier, token, tables))?;
        let caller = self.caller.other();
        Ok(Box::new(FaultySession { session: Some(session), caller, applier, settles: false, failed: false }))
    }

    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>> {
        let scan = call!(self.caller.other(), "open_scan", self.node.open_scan(tables))?;
        Ok(Box::new(FaultyScan { scan, caller: self.caller.other() }))
    }

    async fn mark(&self, mark: Mark) -> Result<()> {
        call!(self.caller.other(), "mark", self.node.mark(mark))
    }

    async fn asked(&self, tables: &Tables) -> Result<Vec<Asked>> {
        call!(self.caller.other(), "asked", self.node.asked(tables))
    }

    async fn requests(&self, tables: &Tables) -> Result<Requests> {
        call!(self.caller.other(), "requests", self.node.requests(tables))
    }

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        call!(self.caller.other(), "log_status", self.node.log_status(since))
    }
}

struct FaultyLease {
    lease: Box<dyn Lease>,
    caller: Caller,
}

#[async_trait]
impl Lease for FaultyLease {
    async fn take_over(&mut self, holder: &str) -> Result<i64> {
        call!(self.caller, "take_over", self.lease.take_over(holder))
    }

    async fn renew(&mut self) -> Result<()> {
        call!(self.caller, "renew", self.lease.renew())
    }

    async fn raise_epoch(&mut self) -> Result<i64> {
        call!(self.caller, "raise_epoch", self.lease.raise_epoch())
    }

    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()> {
        call!(self.caller, "note_other_epoch", self.lease.note_other_epoch(epoch))
    }
}

struct FaultyReader {
    reader: Box<dyn LogReader>,
    caller: Caller,
}

#[async_trait]
impl LogReader for FaultyReader {
    async fn next(&mut self) -> Result<LogEvent> {
        call!(self.caller, "next", self.reader.next())
    }

    fn confirm(&mut self, durable: &Position) {
        self.reader.confirm(durable);
    }
}

struct FaultySession {
    /// `None` once its commit goes on without it.
    session: Option<Box<dyn Session>>,
    caller: Caller,
    applier: Applier,
    /// The transaction holds records of settlements.
    settles: bool,
    /// A statement failed: there is only a rollback.
    failed: bool,
}

impl FaultySession {
    /// The session, and whether the answer is to be lost.
    fn statement(&mut self, method: &'static str) -> Result<(&mut Box<dyn Session>, bool)> {
        if self.failed {
            return Err(Error::new(Code::Internal, format!("{method} in a transaction that failed")));
        }
        let lose = self.caller.before(method).inspect_err(|_| self.failed = true)?;
        Ok((self.session.as_mut().ok_or_else(lost)?, lose))
    }
}

/// A statement within a transaction.
macro_rules! statement {
    ($faulty:expr, $method:literal, |$session:ident| $call:expr) => {{
        let ($session, lose) = $faulty.statement($method)?;
        let answer = $call.await?;
        $faulty.caller.after(answer, lose)
    }};
}

#[async_trait]
impl Session for FaultySession {
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()> {
        self.settles = false;
        if self.applier == Applier::Direction && self.caller.sites.held.lock().unwrap().contains(&self.caller.node) {
            self.failed = true;
            return Err(contended());
        }
        statement!(self, "begin", |session| session.begin(tag))
    }

    async fn tag(&mut self, tag: &Tag) -> Result<()> {
        statement!(self, "tag", |session| session.tag(tag))
    }

    async fn apply(&mut self, table: TableId, batch: &TableBatch) -> Result<Applied> {
        statement!(self, "apply", |session| session.apply(table, batch))
    }

    async fn lock(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        statement!(self, "lock", |session| session.lock(table, keys))
    }

    async fn read(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        statement!(self, "read", |session| session.read(table, keys))
    }

    async fn holders(&mut self, table: TableId, unique: usize, rows: &[Row]) -> Result<Vec<Option<Key>>> {
        statement!(self, "holders", |session| session.holders(table, unique, rows))
    }

    async fn orphans(&mut self, table: TableId, reference: usize, keys: &[Key]) -> Result<Vec<Key>> {
        statement!(self, "orphans", |session| session.orphans(table, reference, keys))
    }

    async fn children(&mut self, table: TableId, reference: usize, parents: &[Row], limit: usize) -> Result<Vec<Key>> {
        statement!(self, "children", |session| session.children(table, reference, parents, limit))
    }

    async fn fence(&mut self) -> Result<Position> {
        statement!(self, "fence", |session| session.fence())
    }

    async fn savepoint(&mut self) -> Result<()> {
        statement!(self, "savepoint", |session| session.savepoint())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        statement!(self, "rollback_to_savepoint", |session| session.rollback_to_savepoint())
    }

    async fn store(&mut self, entries: &[Stored]) -> Result<()> {
        statement!(self, "store", |session| session.store(entries))
    }

    async fn stored(&mut self, table: TableId, key: &Key, after: i64) -> Result<Vec<StoredWrite>> {
        statement!(self, "stored", |session| session.stored(table, key, after))
    }

    async fn release(&mut self, table: TableId, keys: &[Key]) -> Result<()> {
        statement!(self, "release", |session| session.release(table, keys))
    }

    async fn tried(&mut self, table: TableId, key: &Key, tried: &Tried) -> Result<()> {
        statement!(self, "tried", |session| session.tried(table, key, tried))
    }

    async fn highest_id(&mut self) -> Result<i64> {
        statement!(self, "highest_id", |session| session.highest_id())
    }

    async fn recorded(&mut self, id: i64) -> Result<Option<Resolution>> {
        statement!(self, "recorded", |session| session.recorded(id))
    }

    async fn answer_new_key(&mut self, request: &NewKey, answer: &Answer) -> Result<bool> {
        statement!(self, "answer_new_key", |session| session.answer_new_key(request, answer))
    }

    async fn repaired(&mut self, request: &Repair) -> Result<()> {
        statement!(self, "repaired", |session| session.repaired(request))
    }

    async fn record(&mut self, resolutions: &[Resolution]) -> Result<()> {
        self.settles = true;
        statement!(self, "record", |session| session.record(resolutions))
    }

    async fn load(&mut self, table: TableId, rows: &[&Row]) -> Result<Applied> {
        statement!(self, "load", |session| session.load(table, rows))
    }

    async fn note_copy(&mut self, copy: &CopyState) -> Result<()> {
        statement!(self, "note_copy", |session| session.note_copy(copy))
    }

    async fn retire(&mut self, ids: &[i64]) -> Result<()> {
        statement!(self, "retire", |session| session.retire(ids))
    }

    async fn forget(&mut self, keep: &Retention, limit: usize) -> Result<u64> {
        statement!(self, "forget", |session| session.forget(keep, limit))
    }

    async fn commit(&mut self) -> Result<()> {
        if self.failed {
            return Err(Error::new(Code::Internal, "commit of a transaction that failed"));
        }
        if self.settles && self.caller.sites.stops_at(&self.caller.node) {
            return std::future::pending().await;
        }
        match self.caller.sites.call(&self.caller.node, "commit") {
            Some(Fault::Later) => {
                let session = self.session.take();
                self.caller.cut = true;
                tokio::spawn(async move {
                    tokio::time::sleep(LATER).await;
                    if let Some(mut session) = session {
                        // Nobody hears of it.
                        let _ = session.commit().await;
                    }
                });
                Err(lost())
            }
            Some(Fault::Before) => {
                (self.caller.cut, self.failed) = (true, true);
                Err(lost())
            }
            Some(Fault::Contention) => {
                self.failed = true;
                Err(contended())
            }
            fault @ (Some(Fault::After) | None) => {
                let session = self.session.as_mut().ok_or_else(lost)?;
                session.commit().await?;
                self.caller.after((), fault.is_some())
            }
        }
    }

    async fn rollback(&mut self) -> Result<()> {
        let lose = self.caller.before("rollback")?;
        self.session.as_mut().ok_or_else(lost)?.rollback().await?;
        self.failed = false;
        self.caller.after((), lose)
    }
}

struct FaultyScan {
    scan: Box<dyn Scan>,
    caller: Caller,
}

#[async_trait]
impl Scan for FaultyScan {
    async fn chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        call!(self.caller, "chunk", self.scan.chunk(table, after, limit))
    }

    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        call!(self.caller, "settled_chunk", self.scan.settled_chunk(table, after, limit))
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        call!(self.caller, "rows", self.scan.rows(table, keys))
    }
}
