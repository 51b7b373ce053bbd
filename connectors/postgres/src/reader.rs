//! Reads the log of one slot.
//!
//! Why what it yields is right:
//!
//! * A slot sends each transaction whole and in commit order, once its commit record is flushed (manual,
//!   "Logical Decoding Concepts"); each whose commit record begins at or after the position that
//!   START_REPLICATION names. A transaction's position is the end of its commit record, so the next to
//!   come after position `p` is the first whose record begins at `p` or later: no gap, no duplicate.
//! * A keepalive tells how far the server has decoded (`sentPtr` of walsender.c): what was committed
//!   before has been sent before. It counts as progress only between two transactions, since while one
//!   is sent it may tell a place within.
//! * Only what `confirm` was given is reported as flushed, so the slot never lets go of more.
//! * The commit time of a transaction with an origin is the one that its session set up with
//!   `pg_replication_origin_xact_setup`; hence it is no reading of this server's clock.
//!
//! A heartbeat carries the publication's tables: a table that falls out of it (dropped
//! and made anew) would else be silence, not an error.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pontoon_core::{
    Change, Code, Error, Fragment, LogEvent, MappedTable, Operation, Origin, Position, Progress, Result, Row, TableId,
    Value,
    change::{FRAGMENT_BYTES, Obstacle},
    node::{LogReader, Tables},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    decode, error,
    log::{
        pgoutput::{self, Datum, Message, Old, Relation},
        stream::{self, EPOCH_MICROS, Frame, Status},
        wire::Wire,
    },
    names::Names,
    quote::Table,
    shape::{Layout, Shapes},
    slot::Members,
};

/// How often the server is told what is durable, and asked how far it is. Once a second costs nothing,
/// and an idle link shows progress well within the few seconds that the engine counts on.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Questions in a row that a server may leave unanswered; they are a second apart. More than anything
/// takes that keeps a server from answering, such as reading a large transaction back from its disk.
const UNANSWERED_MAX: u32 = 60;

/// What a reader is opened with.
pub(crate) struct Opened {
    pub(crate) wire: Wire,
    pub(crate) names: Names,
    pub(crate) tables: Tables,
    pub(crate) shapes: Shapes,
    /// The publication's tables when it was opened.
    pub(crate) members: Members,
    pub(crate) start: u64,
    pub(crate) skips: Vec<u64>,
    /// Changes of tables that are not followed are yielded too.
    pub(crate) everything: bool,
}

/// A reader of one slot.
pub(crate) struct Reader {
    opened: Opened,
    layouts: HashMap<u32, Layout>,
    transaction: Option<Transaction>,
    ready: VecDeque<LogEvent>,
    /// All before is read.
    received: u64,
    /// All before is durable on the other side.
    durable: u64,
    next_status: Instant,
    /// Questions since the server was last heard of.
    unanswered: u32,
    ended: bool,
}

/// A transaction of which the commit has not come yet.
struct Transaction {
    begin: u64,
    commit_time: i64,
    name: Arc<str>,
    origin: Origin,
    changes: Vec<Change>,
    bytes: usize,
    yielded: bool,
    skipped: bool,
    barrier: bool,
}

impl Reader {
    pub(crate) fn new(opened: Opened) -> Reader {
        let start = opened.start;
        Reader {
            opened,
            layouts: HashMap::new(),
            transaction: None,
            ready: VecDeque::new(),
            received: start,
            durable: start,
            next_status: Instant::now(),
            unanswered: 0,
            ended: false,
        }
    }

    fn queue_status(&mut self) -> Result<()> {
        self.next_status = Instant::now() + STATUS_INTERVAL;
        self.unanswered += 1;
        if self.unanswered > UNANSWERED_MAX {
            let text = format!("the server has answered none of {UNANSWERED_MAX} questions, a second apart");
            return Err(Error::new(Code::ConnectionLost, text));
        }
        let status = Status { received: self.received, durable: self.durable, reply_wanted: true };
        self.opened.wire.send(&status.encode())
    }

    fn take_frame(&mut self, bytes: &[u8]) -> Result<()> {
        let malformed = |error: pgoutput::Malformed| error::protocol(format!("the replication stream: {}", error.0));
        match stream::decode(bytes).map_err(malformed)? {
            Frame::Keepalive { end, reply_wanted } => {
                if reply_wanted {
                    self.next_status = Instant::now();
                }
                if self.transaction.is_none() {
                    self.progress(end, None, false);
                }
                Ok(())
            }
            Frame::Data { payload } => {
                let wanted = |relation| self.layouts.contains_key(&relation) && !self.skipping();
                let message = pgoutput::decode(payload, wanted).map_err(malformed)?;
                self.take_message(message)
            }
        }
    }

    fn skipping(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.skipped)
    }

    fn take_message(&mut self, message: Message<'_>) -> Result<()> {
        if let Message::Insert { relation, .. } | Message::Update { relation, .. } | Message::Delete { relation, .. } =
            &message
            && let Some(error) = self.former(*relation)?
        {
            return self.obstacle(error);
        }
        match message {
            Message::Begin { final_lsn, commit_time, xid } => {
                self.transaction = Some(Transaction {
                    begin: final_lsn,
                    commit_time: commit_time.saturating_add(EPOCH_MICROS),
                    name: xid.to_string().into(),
                    origin: Origin::Local,
                    changes: Vec::new(),
                    bytes: 0,
                    yielded: false,
                    skipped: self.opened.skips.contains(&final_lsn),
                    barrier: false,
                });
            }
            Message::Origin { name } => self.transaction()?.origin = self.opened.names.origin_of(name),
            Message::Commit { end_lsn } => self.commit(end_lsn)?,
            Message::Logical { transactional: true, prefix, content } => self.logical(prefix, content)?,
            Message::Logical { .. } | Message::Other => {}
            Message::Relation(relation) => self.relation(&relation)?,
            _ if self.skipping() => {}
            Message::Insert { relation, new } => {
                let Some((table, after)) = self.row(relation, &new)? else { return Ok(()) };
                if has_unchanged(&after) {
                    return self.partial(&table);
                }
                self.push(&table, Operation::Insert { after })?;
            }
            Message::Update { relation, old, new } => self.update(relation, &old, &new)?,
            Message::Delete { relation, old } => {
                let Some((table, before)) = self.old_row(relation, &old)? else { return Ok(()) };
                let Some(before) = before else { return self.partial(&table) };
                self.push(&table, Operation::Delete { before })?;
            }
            Message::Truncate { relations } => self.truncate(&relations)?,
        }
        Ok(())
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        self.transaction.as_mut().ok_or_else(|| error::protocol("a change outside of a transaction in the log"))
    }

    fn commit(&mut self, end_lsn: u64) -> Result<()> {
        let Some(transaction) = self.transaction.take() else {
            return Err(error::protocol("a commit without its beginning in the log"));
        };
        // Never sent by a server that starts where it is told to; a duplicate must not get through.
        if end_lsn <= self.opened.start {
            return Ok(());
        }
        if transaction.skipped || (transaction.changes.is_empty() && !transaction.yielded) {
            let time = (transaction.origin == Origin::Local).then_some(transaction.commit_time);
            self.progress(end_lsn, time, transaction.barrier);
            return Ok(());
        }
        self.received = end_lsn;
        let fragment = transaction.into_fragment(Some(Position::Lsn(end_lsn)));
        self.ready.push_back(LogEvent::Fragment(fragment));
        Ok(())
    }

    fn progress(&mut self, position: u64, time: Option<i64>, barrier: bool) {
        self.received = self.received.max(position);
        let position = Position::Lsn(self.received);
        self.ready.push_back(LogEvent::Progress(Progress { position, time, barrier }));
    }

    fn logical(&mut self, prefix: &str, content: &[u8]) -> Result<()> {
        if prefix != self.opened.names.message_prefix {
            return Ok(());
        }
        let content = String::from_utf8_lossy(content);
        let (kind, members) = content.split_once(' ').unwrap_or((&content, ""));
        if kind == "barrier" {
            self.transaction()?.barrier = true;
        }
        if self.transaction()?.begin >= self.opened.shapes.loaded_at && !self.opened.members.still_hold(members) {
            let text = format!("the publication {:?} no longer holds the tables that it held", self.opened.names.slot);
            return self.obstacle(Error::new(Code::SchemaChanged, text).hint(
                "a mapped table was dropped, or taken out of it; what was written to it since is not in the log: \
                 run `pontoon setup`, then `pontoon verify`",
            ));
        }
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>) -> Result<()> {
        self.layouts.remove(&relation.id);
        // The frame of a Relation has no place of its own (walsender.c sends zero); its transaction's
        // commit will do, since a change of a table's shape waits for all that have written to it.
        let lsn = self.transaction()?.begin;
        match self.opened.shapes.layout(relation, lsn, &self.opened.tables) {
            Ok(Some(layout)) if self.opened.everything || self.opened.tables[layout.table].followed => {
                self.layouts.insert(relation.id, layout);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(_) if self.skipping() => Ok(()),
            Err(error) => self.obstacle(error),
        }
    }

    /// Why a row of this relation cannot be read, if it is not one of the bridge's own.
    fn former(&mut self, relation: u32) -> Result<Option<Error>> {
        let transaction = self.transaction()?;
        if transaction.origin == Origin::Own || transaction.skipped {
            return Ok(None);
        }
        Ok(self.layouts.get(&relation).and_then(|layout| layout.former.clone()))
    }

    /// The rest of the transaction cannot be passed on; the log is at its end here.
    fn obstacle(&mut self, error: Error) -> Result<()> {
        let position = Position::Lsn(self.transaction()?.begin);
        self.ended = true;
        let error = error.at(format!("the transaction at {position}"));
        self.ready.push_back(LogEvent::Obstacle(Obstacle { position, error }));
        Ok(())
    }

    fn partial(&mut self, table: &TableAt) -> Result<()> {
        let name = &table.of(&self.opened.tables).name;
        let text = format!("table {name}: a change was logged without the whole row as it was before");
        let remedy =
            format!("ALTER TABLE {} REPLICA IDENTITY FULL; then `pontoon skip` or `pontoon verify`", Table(name));
        self.obstacle(Error::new(Code::RowImagePartial, text).hint(remedy))
    }

    fn truncate(&mut self, relations: &[u32]) -> Result<()> {
        let mapped = relations.iter().find_map(|relation| self.layouts.get(relation));
        let Some(layout) = mapped else { return Ok(()) };
        let text = format!("table {} was truncated", self.opened.tables[layout.table].name);
        self.obstacle(Error::new(Code::TruncateSeen, text).hint(
            "truncate the other side by hand if that is meant, then pass over the transaction with `pontoon skip`",
        ))
    }

    fn update(&mut self, relation: u32, old: &Old<'_>, new: &[Datum<'_>]) -> Result<()> {
        let Some((table, before)) = self.old_row(relation, old)? else { return Ok(()) };
        let Some(before) = before else { return self.partial(&table) };
        let Some((_, mut after)) = self.row(relation, new)? else { return Ok(()) };
        let mut unchanged = Vec::new();
        for (place, (value, was)) in after.0.iter_mut().zip(&before.0).enumerate() {
            if *value == Value::Unchanged {
                value.clone_from(was);
                unchanged.push(u16::try_from(place).map_err(|_| error::protocol("a row of too many columns"))?);
            }
        }
        self.push(&table, Operation::Update { before, after, unchanged })
    }

    /// The row before, if the log has all of it.
    fn old_row(&self, relation: u32, old: &Old<'_>) -> Result<Option<(TableAt, Option<Row>)>> {
        let Old::Full(values) = old else {
            return Ok(self.layouts.get(&relation).map(|layout| (TableAt(layout.table), None)));
        };
        let row = self.row(relation, values)?;
        Ok(row.map(|(table, row)| if has_unchanged(&row) { (table, None) } else { (table, Some(row)) }))
    }

    /// A row in the pair's order and form; `None` for a table that is not wanted.
    fn row(&self, relation: u32, values: &[Datum<'_>]) -> Result<Option<(TableAt, Row)>> {
        let Some(layout) = self.layouts.get(&relation) else { return Ok(None) };
        if values.len() != layout.places.len() {
            return Err(error::protocol("a row in the log has not the columns of its table"));
        }
        let columns = &self.opened.tables[layout.table].columns;
        let absent = if layout.former.is_some() { Value::Null } else { Value::Unchanged };
        let mut row = vec![absent; columns.len()];
        for (datum, place) in values.iter().zip(&layout.places) {
            let Some(place) = place.map(usize::from) else { continue };
            row[place] = match datum {
                Datum::Null => Value::Null,
                Datum::Unchanged => Value::Unchanged,
                Datum::Text(text) => decode::common(&columns[place], text),
            };
        }
        Ok(Some((TableAt(layout.table), Row(row))))
    }

    fn push(&mut self, table: &TableAt, operation: Operation) -> Result<()> {
        let change = Change { table: TableId(table.0 as u32), operation };
        let transaction = self.transaction()?;
        transaction.bytes += change.memory_bytes();
        transaction.changes.push(change);
        if transaction.bytes >= FRAGMENT_BYTES {
            let fragment = transaction.piece();
            self.ready.push_back(LogEvent::Fragment(fragment));
        }
        Ok(())
    }
}

/// A table by its place.
struct TableAt(usize);

impl TableAt {
    fn of<'a>(&self, tables: &'a Tables) -> &'a MappedTable {
        &tables[self.0]
    }
}

fn has_unchanged(row: &Row) -> bool {
    row.0.contains(&Value::Unchanged)
}

impl Transaction {
    fn piece(&mut self) -> Fragment {
        let first = !std::mem::replace(&mut self.yielded, true);
        self.bytes = 0;
        Fragment {
            transaction: self.name.clone(),
            origin: self.origin.clone(),
            commit_time: self.commit_time,
            first,
            changes: std::mem::take(&mut self.changes),
            position: None,
        }
    }

    fn into_fragment(mut self, position: Option<Position>) -> Fragment {
        Fragment { position, ..self.piece() }
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<LogEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            if self.ended {
                return Err(Error::new(Code::Internal, "the log was read on after an obstacle"));
            }
            if Instant::now() >= self.next_status {
                self.queue_status()?;
            }
            self.opened.wire.flush().await?;
            let frame = tokio::select! {
                biased;
                frame = self.opened.wire.receive() => frame?,
                () = sleep_until(self.next_status) => continue,
            };
            self.unanswered = 0;
            self.take_frame(&frame)?;
        }
    }

    fn confirm(&mut self, durable: &Position) {
        if let Position::Lsn(lsn) = durable {
            self.durable = self.durable.max(*lsn);
        }
    }
}
