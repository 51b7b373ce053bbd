//! The node before a node, and what it opens.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Digest, Error, Key, LogEvent, LogIdentity, MappedTable, Position, Resolution, Result,
    Row, Span, TableId, TableName, TableSchema, Tag,
    history::Retention,
    new_key::{Answer, NewKey},
    node::{
        Applied, Applier, CarriedOver, Lease, LeaseAttempt, LogReader, LogStatus, Mark, Node, PassedOver, Peer, Scan,
        Session, Settled, TableBatch, Tables, Tried,
    },
    pressure::{Pressure, PressureLimits},
    quarantine::{Asked, Stored, StoredWrite},
    repair::Repair,
    requests::Requests,
    state::{Arrangement, NodeState, NotedLogs, Pause, Throttle},
    verified::Verified,
};

use crate::sites::{Due, Fault, Sites};

/// When a commit happens that outlives its connection: after the next session has begun to take the lease, which has to
/// wait for it.
const LATER: Duration = Duration::from_secs(3);

/// How long a slow call takes.
const SLOW: Duration = Duration::from_secs(45);

fn lost() -> Error {
    Error::new(Code::ConnectionLost, "the connection was cut at this call")
}

fn contended() -> Error {
    Error::new(Code::Contention, "a lock could not be had in time at this call")
}

/// Who is called.
#[derive(Clone)]
struct Caller {
    node: String,
    sites: Arc<Sites>,
}

impl Caller {
    /// Fails before the call, or says that its answer is to be lost.
    fn before(&self, method: &'static str) -> Result<Option<Due>> {
        match self.sites.call(&self.node, method) {
            None => Ok(None),
            Some(due) => match due.fault {
                Fault::After | Fault::Slow => Ok(Some(due)),
                Fault::Contention => Err(contended()),
                Fault::Before | Fault::Later => Err(lost()),
            },
        }
    }

    /// What is opened on this node.
    fn opened<T: ?Sized>(&self, inner: Box<T>) -> Connection<T> {
        Connection { inner: Some(inner), caller: self.clone() }
    }
}

/// A connection that can be cut.
struct Connection<T: ?Sized> {
    /// `None` once it is.
    inner: Option<Box<T>>,
    caller: Caller,
}

impl<T: ?Sized> Connection<T> {
    /// What is called; or fails, or says that the answer is to be lost.
    fn before(&mut self, method: &'static str) -> Result<(&mut T, Option<Due>)> {
        if self.inner.is_none() {
            return Err(lost());
        }
        let lose = self.caller.before(method).inspect_err(|error| self.cut_by(error))?;
        Ok((self.inner.as_deref_mut().ok_or_else(lost)?, lose))
    }

    async fn after<A>(&mut self, answer: A, due: Option<Due>) -> Result<A> {
        match due.map(|due| due.fault) {
            None => Ok(answer),
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW).await;
                Ok(answer)
            }
            Some(_) => {
                self.inner = None;
                Err(lost())
            }
        }
    }

    fn cut_by(&mut self, error: &Error) {
        if error.code() == Code::ConnectionLost {
            self.inner = None;
        }
    }
}

/// A call of a node that fails where it is its turn. What the call has opened is closed again where its answer is lost.
macro_rules! call {
    ($caller:expr, $method:literal, $call:expr) => {{
        let lose = $caller.before($method)?;
        let answer = $call.await?;
        if lose.is_some() { Err(lost()) } else { Ok(answer) }
    }};
}

/// A call over a connection that fails where it is its turn.
macro_rules! over {
    ($connection:expr, $method:literal, |$inner:ident| $call:expr) => {{
        let ($inner, lose) = $connection.before($method)?;
        let answer = $call.await?;
        $connection.after(answer, lose).await
    }};
}

/// A node whose calls are counted.
pub struct FaultyNode {
    node: Arc<dyn Node>,
    caller: Caller,
}

impl FaultyNode {
    /// Stands before a node.
    pub fn new(node: Arc<dyn Node>, sites: Arc<Sites>) -> FaultyNode {
        let caller = Caller { node: node.name().to_owned(), sites };
        FaultyNode { node, caller }
    }
}

#[async_trait]
impl Node for FaultyNode {
    fn name(&self) -> &str {
        self.node.name()
    }

    async fn connect(&self) -> Result<Peer> {
        call!(self.caller, "connect", self.node.connect())
    }

    async fn identity(&self) -> Result<LogIdentity> {
        call!(self.caller, "identity", self.node.identity())
    }

    async fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Result<Option<CarriedOver>> {
        call!(self.caller, "carried_over", self.node.carried_over(log, places))
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        self.node.list_tables().await
    }

    async fn describe(&self, names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        self.node.describe(names).await
    }

    async fn is_as_mapped(&self, table: &MappedTable) -> Result<bool> {
        call!(self.caller, "is_as_mapped", self.node.is_as_mapped(table))
    }

    async fn state(&self, tables: &Tables) -> Result<NodeState> {
        call!(self.caller, "state", self.node.state(tables))
    }

    async fn copies(&self, tables: &Tables) -> Result<Vec<CopyState>> {
        call!(self.caller, "copies", self.node.copies(tables))
    }

    async fn estimate(&self, table: &TableName) -> Result<Option<u64>> {
        call!(self.caller, "estimate", self.node.estimate(table))
    }

    async fn try_lease(&self) -> Result<LeaseAttempt> {
        Ok(match call!(self.caller, "try_lease", self.node.try_lease())? {
            LeaseAttempt::Ours(lease) => LeaseAttempt::Ours(Box::new(FaultyLease(self.caller.opened(lease)))),
            held => held,
        })
    }

    async fn open_reader(
        &self,
        start: &Checkpoint,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        let reader = call!(self.caller, "open_reader", self.node.open_reader(start, tables, passed))?;
        Ok(Box::new(FaultyReader(self.caller.opened(reader))))
    }

    async fn open_tail(
        &self,
        start: Option<&Position>,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        self.node.open_tail(start, tables, passed).await
    }

    async fn open_session(&self, applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        let session = call!(self.caller, "open_session", self.node.open_session(applier, token, tables))?;
        let session = self.caller.opened(session);
        Ok(Box::new(FaultySession { session, applier, settles: false, failed: false }))
    }

    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>> {
        let scan = call!(self.caller, "open_scan", self.node.open_scan(tables))?;
        Ok(Box::new(FaultyScan(self.caller.opened(scan))))
    }

    async fn mark(&self, mark: Mark) -> Result<()> {
        call!(self.caller, "mark", self.node.mark(mark))
    }

    async fn asked(&self, tables: &Tables) -> Result<Vec<Asked>> {
        call!(self.caller, "asked", self.node.asked(tables))
    }

    async fn requests(&self, tables: &Tables) -> Result<Requests> {
        call!(self.caller, "requests", self.node.requests(tables))
    }

    async fn paused(&self) -> Result<Option<Pause>> {
        call!(self.caller, "paused", self.node.paused())
    }

    async fn verified(&self) -> Result<Option<Verified>> {
        call!(self.caller, "verified", self.node.verified())
    }

    async fn throttled(&self) -> Result<Option<Throttle>> {
        call!(self.caller, "throttled", self.node.throttled())
    }

    async fn pressure(&self, limits: &PressureLimits) -> Result<Pressure> {
        call!(self.caller, "pressure", self.node.pressure(limits))
    }

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        call!(self.caller, "log_status", self.node.log_status(since))
    }
}

struct FaultyLease(Connection<dyn Lease>);

#[async_trait]
impl Lease for FaultyLease {
    async fn take_over(&mut self, holder: &str) -> Result<i64> {
        over!(self.0, "take_over", |lease| lease.take_over(holder))
    }

    async fn renew(&mut self) -> Result<()> {
        over!(self.0, "renew", |lease| lease.renew())
    }

    async fn raise_epoch(&mut self) -> Result<i64> {
        over!(self.0, "raise_epoch", |lease| lease.raise_epoch())
    }

    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()> {
        over!(self.0, "note_other_epoch", |lease| lease.note_other_epoch(epoch))
    }

    async fn set_checkpoint(&mut self, other: &Checkpoint) -> Result<()> {
        over!(self.0, "set_checkpoint", |lease| lease.set_checkpoint(other))
    }

    async fn arrange(&mut self, arrangement: &Arrangement) -> Result<()> {
        over!(self.0, "arrange", |lease| lease.arrange(arrangement))
    }

    async fn note_logs(&mut self, noted: &NotedLogs) -> Result<()> {
        over!(self.0, "note_logs", |lease| lease.note_logs(noted))
    }
}

struct FaultyReader(Connection<dyn LogReader>);

#[async_trait]
impl LogReader for FaultyReader {
    async fn next(&mut self) -> Result<LogEvent> {
        over!(self.0, "next", |reader| reader.next())
    }

    fn confirm(&mut self, durable: &Position) {
        if let Some(reader) = &mut self.0.inner {
            reader.confirm(durable);
        }
    }
}

struct FaultySession {
    session: Connection<dyn Session>,
    applier: Applier,
    /// The transaction holds records of settlements.
    settles: bool,
    /// A statement failed: there is only a rollback.
    failed: bool,
}

impl FaultySession {
    /// As [`Connection::before`], in a transaction that is whole.
    fn statement(&mut self, method: &'static str) -> Result<(&mut (dyn Session + 'static), Option<Due>)> {
        if self.failed {
            return Err(Error::new(Code::Internal, format!("{method} in a transaction that failed")));
        }
        self.session.before(method).inspect_err(|_| self.failed = true)
    }
}

/// A statement within a transaction.
macro_rules! statement {
    ($faulty:expr, $method:literal, |$session:ident| $call:expr) => {{
        let ($session, lose) = $faulty.statement($method)?;
        let answer = $call.await?;
        $faulty.session.after(answer, lose).await
    }};
}

#[async_trait]
impl Session for FaultySession {
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()> {
        self.settles = false;
        let caller = &self.session.caller;
        if self.applier == Applier::Direction && caller.sites.holds(&caller.node) {
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
        let Caller { node, sites } = &self.session.caller;
        if self.settles && sites.stops_at(node) {
            return std::future::pending().await;
        }
        let due = sites.call(node, "commit");
        match due.as_ref().map(|due| due.fault) {
            Some(Fault::Later) => {
                let session = self.session.inner.take();
                tokio::spawn(async move {
                    let _due = due;
                    tokio::time::sleep(LATER).await;
                    if let Some(mut session) = session {
                        // Nobody hears of it.
                        let _ = session.commit().await;
                    }
                });
                Err(lost())
            }
            Some(Fault::Before) => {
                (self.session.inner, self.failed) = (None, true);
                Err(lost())
            }
            Some(Fault::Contention) => {
                self.failed = true;
                Err(contended())
            }
            Some(Fault::After | Fault::Slow) | None => {
                self.session.inner.as_mut().ok_or_else(lost)?.commit().await?;
                self.session.after((), due).await
            }
        }
    }

    async fn rollback(&mut self) -> Result<()> {
        over!(self.session, "rollback", |session| session.rollback())?;
        self.failed = false;
        Ok(())
    }
}

struct FaultyScan(Connection<dyn Scan>);

#[async_trait]
impl Scan for FaultyScan {
    async fn chunk(&mut self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<Row>> {
        over!(self.0, "chunk", |scan| scan.chunk(table, span, limit))
    }

    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Settled> {
        over!(self.0, "settled_chunk", |scan| scan.settled_chunk(table, after, limit))
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        over!(self.0, "rows", |scan| scan.rows(table, keys))
    }

    fn keeps_common_order(&self, table: TableId) -> bool {
        self.0.inner.as_ref().is_some_and(|scan| scan.keeps_common_order(table))
    }

    async fn nth_key(&mut self, table: TableId, span: Span<'_>, number: usize) -> Result<Option<Key>> {
        over!(self.0, "nth_key", |scan| scan.nth_key(table, span, number))
    }

    async fn digest(&mut self, table: TableId, span: Span<'_>) -> Result<Digest> {
        over!(self.0, "digest", |scan| scan.digest(table, span))
    }
}
