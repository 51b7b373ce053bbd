//! From events to what the engine reads: transactions in fragments, progress, obstacles. Pure.
//!
//! A transaction is what lies between its GTID event and its XID or COMMIT. Its position is the end of
//! that last event. An obstacle names it by the end of the first: that is known before the last is, and no
//! other transaction ends there.
//!
//! Who made it is told by its first row event: the bridge's own writes, and those of other bridges,
//! begin with a row of `pontoon.checkpoint`, whose `bridge` column names them and whose `commit_time`
//! is when the write that they bring was made. Nobody else writes that table.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use pontoon_core::{
    Code, Error, Gtid, LogEvent, Position, Progress, Result,
    change::Obstacle,
    node::{PassedOver, Tables},
};

use super::{
    event::{Begin, FLAG_ARTIFICIAL, Frame, Message},
    malformed,
    target::Target,
    transaction::Transaction,
    xa::{End, Undecided, Xid},
};
use crate::{charset::Charsets, connect::Flavour};

/// What is read and for whom.
pub(crate) struct Reading {
    /// The bridge's name.
    pub(crate) bridge: String,
    /// The mapped tables.
    pub(crate) tables: Tables,
    /// Tables whose direction goes the other way are read too.
    pub(crate) all: bool,
    /// Which server it is.
    pub(crate) flavour: Flavour,
    /// The names of all columns of each table, as they were loaded.
    pub(crate) shapes: Vec<Vec<Box<str>>>,
    /// Its charsets.
    pub(crate) charsets: Arc<Charsets>,
    /// What is passed over if something is in its way: of a transaction the name is where its first event ends.
    pub(crate) passed: PassedOver,
}

/// Makes events into transactions.
pub(crate) struct Assembler {
    pub(super) reading: Reading,
    pub(super) wanted: HashMap<(String, String), usize>,
    pub(super) base: Box<str>,
    pub(super) file: u64,
    pub(super) offset: u64,
    /// When the file was begun, once that is known.
    pub(super) birth: Option<u32>,
    /// Where the oldest undecided transaction begins.
    pub(super) since: Option<(u64, u64)>,
    /// The last transaction that has begun, and the one before it, where they have a name.
    pub(super) gtids: [Option<Gtid>; 2],
    pub(super) undecided: HashMap<Xid, Undecided>,
    /// The place up to which all is known, in the file that was begun then.
    pub(super) until: ((u64, u64), Option<u32>),
    pub(super) maps: HashMap<u64, (Vec<u8>, Arc<Target>)>,
    pub(super) transaction: Option<Transaction>,
    pub(super) out: VecDeque<LogEvent>,
    pub(super) pending: Option<Progress>,
    /// When the last transaction that was yielded was logged, by the server's clock, until that is told.
    logged_time: Option<i64>,
    /// Tables that a statement may have changed, by their places.
    pub(super) check: Vec<usize>,
    pub(super) doubts: HashMap<usize, (Position, Error)>,
    /// Where a table was last given columns that may have the names of others ([`crate::redefined`]).
    pub(super) redefined: HashMap<usize, (u64, u64)>,
    /// Where the present event begins.
    pub(super) begins: (u64, u64),
    /// The present event came out of a compressed transaction.
    pub(super) inner: bool,
}

impl Assembler {
    /// Begins at a place of the log, and yields what follows `start`.
    pub(crate) fn new(reading: Reading, base: &str, file: u64, offset: u64, start: &Position) -> Assembler {
        let wanted = reading.tables.iter().enumerate().filter(|(_, table)| reading.all || table.followed);
        let wanted = wanted.map(|(index, table)| {
            let schema = table.name.schema.as_deref().unwrap_or_default();
            ((schema.to_owned(), table.name.name.to_string()), index)
        });
        let until = match start {
            Position::Binlog { file, offset, beside, .. } => ((*file, *offset), beside.birth),
            _ => ((file, offset), None),
        };
        Assembler {
            wanted: wanted.collect(),
            reading,
            base: base.into(),
            file,
            offset,
            birth: until.1.filter(|_| until.0.0 == file),
            since: None,
            gtids: [start.gtid(), None],
            undecided: HashMap::new(),
            until,
            maps: HashMap::new(),
            transaction: None,
            out: VecDeque::new(),
            pending: None,
            logged_time: None,
            check: Vec::new(),
            doubts: HashMap::new(),
            redefined: HashMap::new(),
            begins: (file, offset),
            inner: false,
        }
    }

    /// Which server is read.
    pub(crate) fn flavour(&self) -> Flavour {
        self.reading.flavour
    }

    /// Where tables, by their places, were last given columns that may have the names of others.
    pub(crate) fn redefined(&mut self, places: Vec<(usize, (u64, u64))>) {
        self.redefined.extend(places);
    }

    /// The next event that is ready.
    pub(crate) fn take(&mut self) -> Option<LogEvent> {
        self.out.pop_front()
    }

    /// What has been passed over since the last event, to be told when nothing else is at hand.
    pub(crate) fn take_progress(&mut self) -> Option<Progress> {
        self.pending.take()
    }

    /// Up to when the log has been read, between two transactions: what is told of a log that is never idle.
    pub(crate) fn take_time(&mut self) -> Option<Progress> {
        if self.transaction.is_some() || self.is_behind() {
            return None;
        }
        let time = self.logged_time.take()?;
        Some(self.pending.take().map_or_else(
            || Progress { position: self.position(), time: Some(time), barrier: false, passed_over: 0 },
            |pending| Progress { time: pending.time.or(Some(time)), ..pending },
        ))
    }

    /// A definition was changed: whether these tables, by their places, are still what they were has to be looked up, and
    /// told to [`Assembler::checked`], before anything else is read.
    pub(crate) fn to_check(&self) -> &[usize] {
        &self.check
    }

    /// Goes on after a change of definitions; `changed` are the tables that are now something else.
    ///
    /// Where the reader lags, a later statement may have made the difference, and rows of the known shape lie
    /// between. So it is left in doubt until the log decides: by the next rows of the table, or by its end.
    pub(crate) fn checked(&mut self, changed: Vec<(usize, Error)>) {
        self.check.clear();
        if let Some(transaction) = self.transaction.as_ref().filter(|transaction| transaction.held.is_none()) {
            let first = transaction.first.clone();
            let tables = &self.reading.tables;
            let named = |index: usize, error: Error| match tables.get(index) {
                Some(table) => error.of_table(&table.label),
                None => error,
            };
            let doubts = changed.into_iter().map(|(index, error)| (index, (first.clone(), named(index, error))));
            self.doubts.extend(doubts);
        }
        self.end_of_statement();
    }

    /// Some table may have changed its shape: at the end of the log this is decided.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.doubts.is_empty() && self.transaction.is_none() && self.out.is_empty()
    }

    /// The log has no more rows: the change stands.
    pub(crate) fn settle_doubt(&mut self) {
        if let Some((_, (position, error))) = self.doubts.drain().next() {
            self.pending = None;
            let error = error.at(format!("the transaction at {position}"));
            self.out.push_back(LogEvent::Obstacle(Obstacle { position, error }));
        }
    }

    /// Takes an event; `now` is the server's clock.
    pub(crate) fn feed(&mut self, frame: Frame<'_>, message: Message<'_>, now: i64) -> Result<()> {
        self.inner = frame.inner;
        if frame.inner
            && matches!(
                message,
                Message::Begin(_)
                    | Message::Payload
                    | Message::Head
                    | Message::Rotate { .. }
                    | Message::Heartbeat { .. }
            )
        {
            return Err(malformed("a compressed transaction holds what is none of its events").at(&self.position()));
        }
        self.advance(frame, &message);
        match message {
            Message::Begin(begin) => {
                self.gtids = [begin.gtid, self.gtids[0]];
                self.transaction = Some(self.new_transaction(begin));
            }
            Message::Query(query) => self.query(&query),
            Message::Xid => self.end(End::Commit),
            Message::XaPrepare(end) => self.end(end),
            Message::TableMap => self.table_map(frame.body)?,
            Message::Rows(rows) => self.rows(rows)?,
            Message::Payload => match self.transaction.as_mut().and_then(|transaction| transaction.ended.take()) {
                Some(end) => self.end(end),
                None => return Err(malformed("a compressed transaction does not end").at(&self.position())),
            },
            Message::Rotate { file, offset } => {
                self.rotate(&file, offset, frame.end == 0 || frame.flags & FLAG_ARTIFICIAL != 0)?
            }
            Message::Heartbeat { file, offset } => self.heartbeat(&file, offset, now),
            Message::Incident => {
                return Err(Error::new(
                    Code::LogLost,
                    format!("the server lost events of its log before {}", self.position()),
                )
                .hint("compare the tables and make them equal, then set the bridge up anew"));
            }
            Message::Head => self.head(frame.seconds)?,
            Message::Other => self.progress(None),
        }
        Ok(())
    }

    /// The transaction, begun here if none is.
    pub(super) fn open(&mut self) -> &mut Transaction {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.new_transaction(Begin::default()),
        };
        self.transaction.insert(transaction)
    }

    fn new_transaction(&self, begin: Begin) -> Transaction {
        let behind = (self.file, self.offset) <= self.until.0;
        Transaction::new(self.position(), self.begins, behind, begin, &self.reading)
    }

    /// The end of the transaction, or of what was not even one.
    pub(super) fn commit(&mut self) {
        let Some(mut transaction) = self.transaction.take() else {
            return self.progress(None);
        };
        let position = self.position();
        let nothing = transaction.passed || !transaction.begun && transaction.changes.is_empty();
        if nothing && transaction.held.as_ref().is_none_or(Vec::is_empty) {
            self.progress(transaction.logged_time.filter(|_| self.reading.flavour == Flavour::Mysql));
            if let Some(progress) = &mut self.pending {
                progress.barrier |= transaction.barrier;
                progress.passed_over += transaction.passed_over;
            }
            return;
        }
        self.logged_time = transaction.logged_time;
        let last = transaction.fragment(Some(position));
        for fragment in transaction.held.take().into_iter().flatten() {
            self.push(LogEvent::Fragment(fragment));
        }
        self.push(LogEvent::Fragment(last));
    }

    pub(super) fn push(&mut self, event: LogEvent) {
        if let Some(progress) = self.pending.take() {
            self.out.push_back(LogEvent::Progress(progress));
        }
        self.out.push_back(event);
    }

    /// Something is in the way of the transaction: it is passed over if the operator said so.
    pub(super) fn obstacle(&mut self, error: Error) {
        let position = self.position();
        let Some(transaction) = &mut self.transaction else { return };
        // Of one that is decided later it is not known yet where it will stand.
        let is_known = !transaction.xa && self.reading.passed.covers(&self.reading.tables, &error, &position);
        if is_known || transaction.is_passed_over() {
            return;
        }
        transaction.passed = true;
        if let Some(held) = &transaction.held {
            let before = held.iter().map(|fragment| fragment.changes.len()).sum::<usize>();
            transaction.passed_over = (before + transaction.changes.len()) as u64;
        }
        transaction.changes.clear();
        if transaction.xa {
            transaction.hindrance = Some(error);
            return;
        }
        match &mut transaction.held {
            Some(held) => held.clear(),
            None => {
                let first = transaction.first.clone();
                let error = error.at(format!("the transaction at {first} (met at {position})"));
                self.push(LogEvent::Obstacle(Obstacle { position: first, error }));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        charset::sample,
        log::event::{self, Query},
    };

    pub(in crate::log) fn assembler(flavour: Flavour, skips: &[Position]) -> Assembler {
        let reading = Reading {
            bridge: "b".into(),
            tables: Vec::new().into(),
            all: false,
            flavour,
            shapes: Vec::new(),
            charsets: Arc::new(sample()),
            passed: PassedOver::skips(skips),
        };
        Assembler::new(reading, "bin", 1, 100, &"bin.000001:100".parse().unwrap())
    }

    pub(in crate::log) fn frame(kind: u8, end: u32, body: &[u8]) -> Frame<'_> {
        Frame { kind, seconds: 1, server: 1, end, flags: 0, inner: false, body }
    }

    fn query(sql: &str) -> Message<'static> {
        Message::Query(Query { schema: "d".into(), updated: None, sql: sql.into() })
    }

    #[test]
    fn foreign_transactions_are_progress_up_to_their_end() {
        let mut log = assembler(Flavour::Mysql, &[]);
        let begin = Begin { commit_time: Some(7), ..Begin::default() };
        log.feed(frame(33, 120, &[]), Message::Begin(begin), 0).unwrap();
        log.feed(frame(2, 140, &[]), query("BEGIN"), 0).unwrap();
        assert_eq!(log.take_progress(), None);
        log.feed(frame(16, 160, &[]), Message::Xid, 0).unwrap();
        let progress = log.take_progress().unwrap();
        assert_eq!((progress.position.to_string().as_str(), progress.time), ("bin.000001:160", Some(7)));
        // A statement of its own ends where it ends; a heartbeat further on tells the time.
        log.feed(frame(34, 180, &[]), Message::Begin(Begin::default()), 0).unwrap();
        log.feed(frame(2, 200, &[]), query("CREATE USER x"), 0).unwrap();
        assert_eq!(log.take_progress().unwrap().position.to_string(), "bin.000001:200");
        log.feed(frame(27, 0, &[]), Message::Heartbeat { file: "bin.000001".into(), offset: 230 }, 99).unwrap();
        let progress = log.take_progress().unwrap();
        assert_eq!((progress.position.to_string().as_str(), progress.time), ("bin.000001:230", Some(99)));
    }

    #[test]
    fn what_creates_a_table_from_rows_is_one_transaction() {
        let mut log = assembler(Flavour::Mysql, &[]);
        log.feed(frame(34, 120, &[]), Message::Begin(Begin::default()), 0).unwrap();
        log.feed(frame(2, 140, &[]), query("CREATE TABLE `a` (`b` int) START TRANSACTION"), 0).unwrap();
        assert_eq!(log.take_progress(), None);
        log.feed(frame(16, 160, &[]), Message::Xid, 0).unwrap();
        assert_eq!(log.take_progress().unwrap().position.to_string(), "bin.000001:160");
    }

    #[test]
    fn a_compressed_transaction_ends_where_its_event_does() {
        let mut log = assembler(Flavour::Mysql, &[]);
        let inner = |kind| Frame { inner: true, ..frame(kind, 7, &[]) };
        log.feed(frame(33, 120, &[]), Message::Begin(Begin::default()), 0).unwrap();
        log.feed(inner(2), query("BEGIN"), 0).unwrap();
        log.feed(inner(16), Message::Xid, 0).unwrap();
        assert_eq!((log.take_progress(), log.position().to_string().as_str()), (None, "bin.000001:120"));
        log.feed(frame(40, 200, &[]), Message::Payload, 0).unwrap();
        assert_eq!(log.take_progress().unwrap().position.to_string(), "bin.000001:200");
        // One that does not end is none, and no other event is within one.
        log.feed(frame(33, 220, &[]), Message::Begin(Begin::default()), 0).unwrap();
        log.feed(inner(2), query("BEGIN"), 0).unwrap();
        assert_eq!(log.feed(frame(40, 300, &[]), Message::Payload, 0).unwrap_err().code(), Code::Protocol);
        for message in [Message::Payload, Message::Head, Message::Begin(Begin::default())] {
            assert_eq!(log.feed(inner(40), message, 0).unwrap_err().code(), Code::Protocol);
        }
    }

    #[test]
    fn another_file_begins_anew() {
        let mut log = assembler(Flavour::Mysql, &[]);
        log.feed(frame(4, 150, &[]), Message::Rotate { file: "bin.000002".into(), offset: 4 }, 0).unwrap();
        assert_eq!(log.position().to_string(), "bin.000002:4");
        log.feed(frame(15, 126, &[]), Message::Head, 0).unwrap();
        assert_eq!(log.take_progress().unwrap().position.durable(), "bin.000002:126@1");
    }

    proptest! {
        #[test]
        fn arbitrary_events_never_panic(
            mariadb: bool,
            events in proptest::collection::vec((any::<u8>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..40),
        ) {
            let flavour = if mariadb { Flavour::Mariadb } else { Flavour::Mysql };
            let mut log = assembler(flavour, &[]);
            for (kind, end, body) in &events {
                let frame = frame(*kind, *end, body);
                if let Ok(message) = event::parse(frame, flavour) {
                    let _ = log.feed(frame, message, 0);
                    if !log.to_check().is_empty() {
                        log.checked(Vec::new());
                    }
                    while log.take().is_some() {}
                }
            }
        }
    }
}
