//! A transaction on its way from the log's messages to what the engine reads. Pure.

use std::{collections::VecDeque, sync::Arc};

use pontoon_core::{Change, Error, Fragment, Held, LogEvent, Origin, Position, change::FRAGMENT_BYTES};

/// A transaction of which the commit has not come yet.
pub(super) struct Transaction {
    name: Arc<str>,
    pub(super) origin: Origin,
    /// It is handed over before it is decided: its changes go out as pieces.
    held: bool,
    /// The operator said to pass over it. Of one that is held that is known at its commit only.
    pub(super) skipped: bool,
    /// Its rows so far.
    pub(super) rows: u64,
    /// Somebody waits for it to be read.
    pub(super) barrier: bool,
    /// The publication's tables, where a mark tells them.
    pub(super) members: Option<String>,
    /// The subtransaction of the changes that follow.
    part: u32,
    changes: Vec<Change>,
    bytes: usize,
    yielded: bool,
    obstacles: Vec<Met>,
}

/// What is in the way of a transaction, should it commit.
struct Met {
    part: u32,
    error: Error,
    /// It is none if the transaction commits before the shapes were loaded.
    settled: bool,
}

/// Where and when a transaction commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    /// Where its record begins.
    pub(super) lsn: u64,
    /// Where it ends: the transaction's position.
    pub(super) end: u64,
    /// In microseconds since 1970 UTC.
    pub(super) time: i64,
}

impl Transaction {
    pub(super) fn new(xid: u32, held: bool) -> Self {
        Transaction {
            name: xid.to_string().into(),
            origin: Origin::Local,
            held,
            skipped: false,
            rows: 0,
            barrier: false,
            members: None,
            part: 0,
            changes: Vec::new(),
            bytes: 0,
            yielded: false,
            obstacles: Vec::new(),
        }
    }

    /// Adds a change; pieces that are full go out.
    pub(super) fn push(&mut self, part: u32, change: Change, time: i64, out: &mut VecDeque<LogEvent>) {
        if self.part != part {
            self.flush(time, out);
            self.part = part;
        }
        self.rows += 1;
        self.bytes += change.memory_bytes();
        self.changes.push(change);
        if self.bytes >= FRAGMENT_BYTES {
            self.flush(time, out);
        }
    }

    /// What has come since the last piece goes out.
    pub(super) fn flush(&mut self, time: i64, out: &mut VecDeque<LogEvent>) {
        if self.changes.is_empty() {
            return;
        }
        let fragment = self.fragment(time, None);
        out.push_back(if self.held {
            LogEvent::Held(Held::Piece { id: self.name.clone(), part: self.part, changes: fragment.changes })
        } else {
            LogEvent::Fragment(fragment)
        });
    }

    fn fragment(&mut self, commit_time: i64, position: Option<Position>) -> Fragment {
        let first = !std::mem::replace(&mut self.yielded, true);
        self.bytes = 0;
        Fragment {
            transaction: self.name.clone(),
            origin: self.origin.clone(),
            commit_time,
            first,
            changes: std::mem::take(&mut self.changes),
            position,
        }
    }

    /// Whether there is nothing to apply in it.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.yielded
    }

    /// It commits: its end goes out.
    pub(super) fn commit(mut self, commit: Commit, out: &mut VecDeque<LogEvent>) {
        let position = Some(Position::Lsn(commit.end));
        if !self.held {
            let last = self.fragment(commit.time, position);
            out.push_back(LogEvent::Fragment(last));
            return;
        }
        self.flush(commit.time, out);
        let fragment = Fragment { first: true, ..self.fragment(commit.time, position) };
        out.push_back(LogEvent::Held(Held::Decided { id: self.name, fragment }));
    }

    /// It is as if it had never been: rolled back, or passed over.
    pub(super) fn undo(self, out: &mut VecDeque<LogEvent>) {
        if self.held && self.yielded {
            out.push_back(LogEvent::Held(Held::Undone { id: self.name, part: None }));
        }
    }

    /// A subtransaction is rolled back. That is told between blocks, when nothing is in hand.
    pub(super) fn undo_part(&mut self, part: u32, out: &mut VecDeque<LogEvent>) {
        self.obstacles.retain(|met| met.part != part);
        if self.yielded {
            out.push_back(LogEvent::Held(Held::Undone { id: self.name.clone(), part: Some(part) }));
        }
    }

    /// Something cannot be passed on. What more is met of that subtransaction and table says nothing new; but what is none if
    /// the transaction is old does not hide what is one.
    pub(super) fn meet(&mut self, part: u32, error: &Error, settled: bool) {
        let is_known = |met: &Met| met.part == part && met.error.table() == error.table() && (settled || !met.settled);
        if !self.obstacles.iter().any(is_known) {
            self.obstacles.push(Met { part, error: error.clone(), settled });
        }
    }

    /// What is in its way; `settled` says that it commits after the shapes were loaded.
    pub(super) fn obstacles(&self, settled: bool) -> impl Iterator<Item = &Error> {
        self.obstacles.iter().filter(move |met| settled || !met.settled).map(|met| &met.error)
    }
}
