//! From messages to what the engine reads: transactions in fragments, progress, obstacles. Pure.
//!
//! Why what it yields is right:
//!
//! * A slot sends each transaction whole and in commit order, once its commit record is flushed (manual,
//!   "Logical Decoding Concepts"); each whose commit record begins at or after the position that
//!   START_REPLICATION names. A transaction's position is the end of its commit record, so the next to
//!   come after position `p` is the first whose record begins at `p` or later: no gap, no duplicate.
//! * With `streaming` it sends changes of one that outgrows `logical_decoding_work_mem` before: in blocks from Stream
//!   Start to Stream Stop, never within another transaction. Stream Commit stands at its place in commit order (manual,
//!   "Streaming of Large Transactions for Logical Decoding"). After a restart it streams nothing that was decoded
//!   before the position named, and the rest again from its first change (`ReorderBufferCanStartStreaming` of
//!   reorderbuffer.c).
//! * Each message within a block carries the number of its subtransaction. A rolled back one is told by Stream Abort,
//!   those nested in it each by another (`DecodeAbort` of decode.c), and so is a transaction's own roll-back.
//! * A keepalive tells how far the server has decoded (`sentPtr` of walsender.c): what was committed
//!   before has been sent before. It counts as progress only between two transactions, since while one
//!   is sent it may tell a place within. One whose commit has not been decoded ends beyond it.
//! * The commit time of a transaction with an origin is the one that its session set up with
//!   `pg_replication_origin_xact_setup`; hence it is no reading of this server's clock.
//! * The origin follows Begin, or the first Stream Start of a transaction: there it is the one of its first change
//!   (`ReorderBufferProcessTXN`; `pgoutput_stream_start`). That of the bridge's own transactions is the tag's, which
//!   is a row of `pontoon.checkpoint` and carries the session's origin like all that follow: an echo is known as one
//!   from its first block on.
//! * A Relation told within a block counts for that transaction alone, and for all once it commits: then the server
//!   takes it for sent (`cleanup_rel_sync_cache` of pgoutput.c, the same since version 14).
//!
//! A heartbeat carries the publication's tables: a table that falls out of it (dropped
//! and made anew) or is renamed would else be silence, not an error.

use std::collections::{HashMap, VecDeque};

use pontoon_core::{
    Change, Code, Error, LogEvent, MappedColumn, MappedTable, Operation, Origin, Position, Progress, Result, Row,
    TableId, Value,
    change::Obstacle,
    node::{PassedOver, Tables},
};

use super::{
    pgoutput::{self, Datum, Message, Old, Relation},
    stream::{EPOCH_MICROS, Frame},
    transaction::{Commit, Transaction},
};
use crate::{
    decode::{self, Decode},
    error,
    names::Names,
    quote::Table,
    shape::{Layout, Shapes, Told},
    slot::{Fault, Members},
};

/// What is read and for whom.
pub(crate) struct Reading {
    pub(crate) names: Names,
    pub(crate) tables: Tables,
    pub(crate) shapes: Shapes,
    /// The publication's tables when it was opened.
    pub(crate) members: Members,
    pub(crate) start: u64,
    /// What is passed over if something is in its way.
    pub(crate) passed: PassedOver,
    /// Changes of tables that are not followed are yielded too.
    pub(crate) everything: bool,
}

/// Makes messages into transactions.
pub(crate) struct Assembler {
    reading: Reading,
    flow: Flow,
    out: VecDeque<LogEvent>,
    /// All before is read.
    received: u64,
    ended: bool,
}

/// What is known of relations, by their number; nothing of those that are not mapped.
type Relations = HashMap<u32, Told>;

/// The transactions under way.
#[derive(Default)]
struct Flow {
    /// The one that is sent whole now, and where it commits.
    whole: Option<(Transaction, Commit)>,
    /// Those that are streamed, by their number, with what was told of relations within.
    streamed: HashMap<u32, (Transaction, Relations)>,
    /// Whose block it is now.
    block: Option<u32>,
    relations: Relations,
}

impl Flow {
    /// The transaction that messages belong to now, what counts for it, and its commit time where that is known.
    fn current(&mut self) -> Result<(&mut Transaction, &mut Relations, i64)> {
        let outside = || error::protocol("a change outside of a transaction in the log");
        match self.block {
            Some(xid) => {
                let (transaction, relations) = self.streamed.get_mut(&xid).ok_or_else(outside)?;
                Ok((transaction, relations, 0))
            }
            None => {
                let (transaction, commit) = self.whole.as_mut().ok_or_else(outside)?;
                Ok((transaction, &mut self.relations, commit.time))
            }
        }
    }

    /// Counts a change that is not wanted, where that is since its transaction is skipped.
    fn passes_over(&mut self, relation: u32) {
        if let Some((transaction, _)) = self.whole.as_mut().filter(|(transaction, _)| transaction.skipped)
            && self.relations.contains_key(&relation)
        {
            transaction.rows += 1;
        }
    }

    fn wants(&self, relation: u32) -> bool {
        match self.block.and_then(|xid| self.streamed.get(&xid)) {
            Some((_, relations)) => relations.contains_key(&relation),
            None => {
                self.whole.as_ref().is_some_and(|(transaction, _)| !transaction.skipped)
                    && self.relations.contains_key(&relation)
            }
        }
    }
}

impl Assembler {
    pub(crate) fn new(reading: Reading) -> Assembler {
        let received = reading.start;
        Assembler { reading, flow: Flow::default(), out: VecDeque::new(), received, ended: false }
    }

    /// The next event that is ready.
    pub(crate) fn take(&mut self) -> Option<LogEvent> {
        self.out.pop_front()
    }

    /// Whether an obstacle has come, behind which nothing is read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// All before is read.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Takes one message of the stream. Whether the server wants to be answered.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) -> Result<bool> {
        match *frame {
            Frame::Keepalive { end, reply_wanted } => {
                if self.flow.whole.is_none() && self.flow.block.is_none() {
                    self.progress(end, None, false, 0);
                }
                Ok(reply_wanted)
            }
            Frame::Data { payload } => {
                let decoded = pgoutput::decode(payload, self.flow.block.is_some(), |id| self.flow.wants(id));
                let (part, message) = decoded.map_err(pgoutput::Malformed::into_error)?;
                self.message(part, message).map(|()| false)
            }
        }
    }

    fn message(&mut self, part: u32, message: Message<'_>) -> Result<()> {
        match message {
            Message::Begin { final_lsn, commit_time, xid } => {
                let mut transaction = Transaction::new(xid, false);
                transaction.skipped = self.reading.passed.skips.contains(&Position::Lsn(final_lsn));
                let commit = Commit { lsn: final_lsn, end: final_lsn, time: since_1970(commit_time) };
                self.flow.whole = Some((transaction, commit));
            }
            Message::Commit { end_lsn } => {
                let Some((transaction, commit)) = self.flow.whole.take() else {
                    return Err(error::protocol("a commit without its beginning in the log"));
                };
                self.commit(transaction, Commit { end: end_lsn, ..commit });
            }
            Message::StreamStart { xid, first } => {
                if first {
                    let new = (Transaction::new(xid, true), Relations::new());
                    if let Some((former, _)) = self.flow.streamed.insert(xid, new) {
                        former.undo(&mut self.out);
                    }
                }
                self.flow.block = Some(xid);
                self.flow.current()?;
            }
            Message::StreamStop => {
                // What is in hand goes out: there may be many transactions of which no block is open.
                let (transaction, ..) = self.flow.current()?;
                transaction.flush(0, &mut self.out);
                self.flow.block = None;
            }
            Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => {
                let (transaction, relations) = self.streamed(xid)?;
                self.flow.relations.extend(relations);
                self.commit(transaction, Commit { lsn: commit_lsn, end: end_lsn, time: since_1970(commit_time) });
            }
            Message::StreamAbort { xid, part } if xid == part => self.streamed(xid)?.0.undo(&mut self.out),
            Message::StreamAbort { xid, part } => {
                if let Some((transaction, _)) = self.flow.streamed.get_mut(&xid) {
                    transaction.undo_part(part, &mut self.out);
                }
            }
            Message::Origin { name } => self.flow.current()?.0.origin = self.reading.names.origin_of(name),
            Message::Logical { transactional: true, prefix, content } => self.logical(prefix, content)?,
            Message::Logical { .. } | Message::Other => {}
            Message::Unwanted { relation } => self.flow.passes_over(relation),
            Message::Relation(relation) => self.relation(&relation)?,
            Message::Insert { relation, new } => self.insert(part, relation, &new)?,
            Message::Update { relation, old, new } => self.update(part, relation, &old, &new)?,
            Message::Delete { relation, old } => self.delete(part, relation, &old)?,
            Message::Truncate { relations } => self.truncate(part, &relations)?,
        }
        Ok(())
    }

    fn streamed(&mut self, xid: u32) -> Result<(Transaction, Relations)> {
        let unknown = || error::protocol("the end of a transaction of which nothing was streamed");
        self.flow.streamed.remove(&xid).ok_or_else(unknown)
    }

    fn commit(&mut self, transaction: Transaction, commit: Commit) {
        // Never sent by a server that starts where it is told to; a duplicate must not get through.
        if commit.end <= self.reading.start {
            return transaction.undo(&mut self.out);
        }
        let skipped = self.reading.passed.skips.contains(&Position::Lsn(commit.lsn));
        if let Some(error) = self.in_the_way(&transaction, commit).filter(|_| !skipped) {
            let position = Position::Lsn(commit.lsn);
            self.ended = true;
            let error = error.at(format!("the transaction at {position}"));
            self.out.push_back(LogEvent::Obstacle(Obstacle { position, error }));
            return;
        }
        if skipped || transaction.is_empty() {
            let time = (transaction.origin == Origin::Local).then_some(commit.time);
            let (barrier, passed_over) = (transaction.barrier, transaction.rows);
            transaction.undo(&mut self.out);
            return self.progress(commit.end, time, barrier, passed_over);
        }
        self.received = commit.end;
        transaction.commit(commit, &mut self.out);
    }

    /// Why a transaction cannot be passed on that commits at `lsn`. A change of a table's shape waits for all that
    /// have written to it: one that commits after the shapes were loaded has met them.
    fn in_the_way(&self, transaction: &Transaction, commit: Commit) -> Option<Error> {
        let Reading { shapes, passed, tables, .. } = &self.reading;
        let settled = commit.lsn >= shapes.loaded_at;
        let end = Position::Lsn(commit.end);
        let told = || self.told(transaction.members.as_ref().filter(|_| settled)?);
        let mut obstacles = transaction.obstacles(settled).filter(|error| !passed.covers(tables, error, &end));
        obstacles.next().cloned().or_else(told)
    }

    /// What a heartbeat says against a table.
    fn told(&self, members: &str) -> Option<Error> {
        let name = |at: usize| &self.reading.tables[at].name;
        Some(match self.reading.members.fault(members)? {
            Fault::Gone(table) => {
                let table = table.map_or_else(|| "a mapped table".into(), |at| format!("table {}", name(at)));
                let text = format!("{table} is not in the publication {:?} any more", self.reading.names.slot);
                Error::new(Code::SchemaChanged, text).hint(
                    "it was dropped, renamed, or taken out of it; what was written to it since is not in the log: \
                     run `pontoon setup`, then `pontoon verify`",
                )
            }
            Fault::Partial(at) => {
                let text = format!("table {}: a partition does not log whole rows as they were before", name(at));
                Error::new(Code::RowImagePartial, text)
                    .hint("ALTER TABLE ... REPLICA IDENTITY FULL on each partition (`pontoon check` names them), then start again")
                    .of_table(&self.reading.tables[at].label)
            }
        })
    }

    fn progress(&mut self, position: u64, time: Option<i64>, barrier: bool, passed_over: u64) {
        self.received = self.received.max(position);
        let position = Position::Lsn(self.received);
        self.out.push_back(LogEvent::Progress(Progress { position, time, barrier, passed_over }));
    }

    fn logical(&mut self, prefix: &str, content: &[u8]) -> Result<()> {
        if prefix != self.reading.names.message_prefix {
            return Ok(());
        }
        let content = String::from_utf8_lossy(content);
        let (kind, members) = content.split_once(' ').unwrap_or((&content, ""));
        let (transaction, ..) = self.flow.current()?;
        transaction.barrier |= kind == "barrier";
        transaction.members = Some(members.to_owned());
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>) -> Result<()> {
        let (_, relations, _) = self.flow.current()?;
        relations.remove(&relation.id);
        let Reading { shapes, tables, everything, .. } = &self.reading;
        if let Some(told) = shapes.told(relation, tables).filter(|told| *everything || tables[told.table].followed) {
            relations.insert(relation.id, told);
        }
        Ok(())
    }

    fn insert(&mut self, part: u32, relation: u32, new: &[Datum<'_>]) -> Result<()> {
        let Some((table, row)) = self.row(part, relation, new, decode::crossing, None)? else { return Ok(()) };
        match row {
            Image::Full(after) => self.push(part, relation, table, Operation::Insert { after }),
            Image::Partial(_) => self.partial(part, table),
        }
    }

    fn update(&mut self, part: u32, relation: u32, old: &Old<'_>, new: &[Datum<'_>]) -> Result<()> {
        let Some((table, before)) = self.old_row(part, relation, old)? else { return Ok(()) };
        let Image::Full(before) = before else { return self.partial(part, table) };
        let was = match old {
            Old::Full(log) => Some(Was { log, row: &before }),
            Old::Key | Old::Absent => None,
        };
        let Some((_, after)) = self.row(part, relation, new, decode::crossing, was)? else { return Ok(()) };
        let mut after = after.into_row();
        let mut unchanged = Vec::new();
        for (place, (value, was)) in after.0.iter_mut().zip(&before.0).enumerate() {
            if *value == Value::Unchanged && *was != Value::Unchanged {
                value.clone_from(was);
                unchanged.push(u16::try_from(place).map_err(|_| error::protocol("a row of too many columns"))?);
            }
        }
        self.push(part, relation, table, Operation::update(before, after, unchanged))
    }

    fn delete(&mut self, part: u32, relation: u32, old: &Old<'_>) -> Result<()> {
        let Some((table, before)) = self.old_row(part, relation, old)? else { return Ok(()) };
        match before {
            Image::Full(before) => self.push(part, relation, table, Operation::Delete { before }),
            Image::Partial(_) => self.partial(part, table),
        }
    }

    /// The row before, as far as the log has it.
    fn old_row(&mut self, part: u32, relation: u32, old: &Old<'_>) -> Result<Option<(usize, Image)>> {
        if let Old::Full(values) = old {
            return self.row(part, relation, values, decode::common, None);
        }
        let (_, relations, _) = self.flow.current()?;
        Ok(relations.get(&relation).map(|told| (told.table, Image::Partial(Row(Vec::new())))))
    }

    /// A row in the pair's order and form; `None` for one that is not wanted, or cannot be read.
    fn row(
        &mut self,
        part: u32,
        relation: u32,
        values: &[Datum<'_>],
        decode: Decode,
        was: Option<Was<'_>>,
    ) -> Result<Option<(usize, Image)>> {
        let (transaction, relations, _) = self.flow.current()?;
        let Some(told) = relations.get(&relation) else { return Ok(None) };
        if let Some((error, settled)) = &told.changed {
            transaction.meet(part, error, *settled);
        }
        let Some(layout) = &told.layout else { return Ok(None) };
        if let Some(former) = layout.former.as_ref().filter(|_| transaction.origin != Origin::Own) {
            transaction.meet(part, former, false);
            return Ok(None);
        }
        let table = &self.reading.tables[told.table];
        // Of our own rows nobody asks for more.
        let only_key = transaction.origin == Origin::Own
            && (layout.former.is_some() || !self.reading.everything && !table.by_columns);
        let row = image(table, layout, values, only_key, decode, was)?;
        Ok(Some((told.table, row)))
    }

    fn push(&mut self, part: u32, relation: u32, table: usize, operation: Operation) -> Result<()> {
        // One that is streamed commits behind all that has been received.
        let commits_at = self.flow.whole.as_ref().map_or(self.received, |(_, commit)| commit.lsn);
        let (transaction, relations, time) = self.flow.current()?;
        let layout = relations.get(&relation).and_then(|told| told.layout.as_ref());
        let reshaped =
            layout.is_some_and(|layout| layout.reshaped) || self.reading.shapes.are_of_before(table, commits_at);
        let table = TableId(u32::try_from(table).map_err(|_| error::protocol("too many tables"))?);
        transaction.push(part, Change { table, operation, reshaped }, time, &mut self.out);
        Ok(())
    }

    fn partial(&mut self, part: u32, table: usize) -> Result<()> {
        let name = &self.reading.tables[table].name;
        let text = format!("table {name}: a change was logged without the whole row as it was before");
        let remedy =
            format!("ALTER TABLE {} REPLICA IDENTITY FULL; then `pontoon skip` or `pontoon verify`", Table(name));
        let error = Error::new(Code::RowImagePartial, text).hint(remedy).of_table(&self.reading.tables[table].label);
        self.flow.current()?.0.meet(part, &error, false);
        Ok(())
    }

    fn truncate(&mut self, part: u32, truncated: &[u32]) -> Result<()> {
        let (transaction, relations, _) = self.flow.current()?;
        for told in truncated.iter().filter_map(|relation| relations.get(relation)) {
            if let Some((error, settled)) = &told.changed {
                transaction.meet(part, error, *settled);
            }
            if told.layout.is_some() {
                let table = &self.reading.tables[told.table];
                let error = Error::new(Code::TruncateSeen, format!("table {} was truncated", table.name));
                let error = error.hint(pontoon_core::error::TRUNCATE_HINT).of_table(&table.label);
                transaction.meet(part, &error, false);
            }
        }
        Ok(())
    }
}

/// A row, and whether the log has all of it.
enum Image {
    Full(Row),
    Partial(Row),
}

impl Image {
    fn into_row(self) -> Row {
        match self {
            Image::Full(row) | Image::Partial(row) => row,
        }
    }
}

/// The row before, for the row after.
#[derive(Clone, Copy)]
struct Was<'a> {
    log: &'a [Datum<'a>],
    row: &'a Row,
}

impl Was<'_> {
    /// A value that stands in the log as it did before, which is not made twice: most of an update is. With leeway it is made anew, since that
    /// counts what crosses.
    fn value(self, at: usize, datum: &Datum<'_>, place: usize, column: &MappedColumn) -> Option<Value> {
        let is_same = column.leeway.is_none() && self.log.get(at) == Some(datum);
        self.row.0.get(place).filter(|_| is_same).cloned()
    }
}

fn image(
    table: &MappedTable,
    layout: &Layout,
    values: &[Datum<'_>],
    only_key: bool,
    decode: Decode,
    was: Option<Was<'_>>,
) -> Result<Image> {
    if values.len() != layout.places.len() {
        return Err(error::protocol("a row in the log has not the columns of its table"));
    }
    let mut row = vec![Value::Unchanged; table.columns.len()];
    for (place, value) in &layout.added {
        row[*place] = value.clone();
    }
    for (at, (datum, place)) in values.iter().zip(&layout.places).enumerate() {
        let Some(place) = place.map(usize::from).filter(|place| !only_key || table.key.contains(place)) else {
            continue;
        };
        row[place] = match datum {
            Datum::Null => Value::Null,
            Datum::Unchanged => Value::Unchanged,
            Datum::Text(text) => {
                let column = &table.columns[place];
                let same = was.and_then(|was| was.value(at, datum, place, column));
                same.unwrap_or_else(|| decode(column, text))
            }
        };
    }
    let partial = !only_key && row.contains(&Value::Unchanged);
    Ok(if partial { Image::Partial(Row(row)) } else { Image::Full(Row(row)) })
}

fn since_1970(micros: i64) -> i64 {
    micros.saturating_add(EPOCH_MICROS)
}
