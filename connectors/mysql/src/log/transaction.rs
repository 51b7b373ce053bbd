//! A transaction of the log while it is being read.

use std::sync::Arc;

use pontoon_core::{Change, Error, Fragment, Origin, Position};

use super::{assemble::Reading, event::Begin, xa::End};

/// A transaction, or a statement that is one.
pub(crate) struct Transaction {
    /// Where its first event ends, which an obstacle names.
    pub(crate) first: Position,
    /// For people.
    pub(crate) name: Arc<str>,
    /// The commit time of its first event.
    pub(crate) logged_time: Option<i64>,
    /// When the write was made: of a bridge, by its tag.
    pub(crate) commit_time: i64,
    /// Who made it.
    pub(crate) origin: Origin,
    /// The first row event has been seen, and so the origin.
    pub(crate) decided: bool,
    /// Between BEGIN and COMMIT.
    pub(crate) open: bool,
    /// It is one statement and has no commit.
    pub(crate) standalone: bool,
    /// It is a part of a transaction in two phases: of which it has the rows.
    pub(crate) xa: bool,
    /// What stands in the way of those rows, if they are committed.
    pub(crate) hindrance: Option<Error>,
    /// Number of the file and offset at which its first event begins.
    pub(crate) begins: (u64, u64),
    /// It ended before the place that the log was opened at, and is passed over; unless it is prepared.
    pub(crate) behind: bool,
    /// It came compressed and its last event has come, but not all of the event that holds it.
    pub(crate) ended: Option<End>,
    /// It marks a barrier.
    pub(crate) barrier: bool,
    /// A mapped row has been met.
    pub(crate) mapped: bool,
    /// Changes since the last piece.
    pub(crate) changes: Vec<Change>,
    /// What they take.
    pub(crate) bytes: usize,
    /// Fragments have been made.
    pub(crate) begun: bool,
    /// It is one of the skips: kept back until its end shows whether anything is in its way.
    pub(crate) held: Option<Vec<Fragment>>,
    /// Something was in its way and it is passed over.
    pub(crate) passed: bool,
    /// Its rows before that, where the operator said to pass over it.
    pub(crate) passed_over: u64,
}

impl Transaction {
    /// Begun with the event that ends at `first`, with nothing read yet.
    pub(crate) fn new(
        first: Position,
        begins: (u64, u64),
        behind: bool,
        begin: Begin,
        reading: &Reading,
    ) -> Transaction {
        let name = if begin.name.is_empty() { first.to_string() } else { begin.name };
        Transaction {
            name: name.into(),
            logged_time: begin.commit_time,
            commit_time: begin.commit_time.unwrap_or_default(),
            origin: Origin::Local,
            decided: false,
            open: false,
            standalone: begin.standalone,
            xa: begin.prepared,
            ended: None,
            hindrance: None,
            barrier: false,
            mapped: false,
            changes: Vec::new(),
            bytes: 0,
            begun: false,
            held: reading.passed.skips.contains(&first).then(Vec::new),
            passed: false,
            passed_over: 0,
            first,
            begins,
            behind,
        }
    }

    /// Whether nothing of it is to be told.
    pub(crate) fn is_passed_over(&self) -> bool {
        self.passed || self.behind && !self.xa
    }

    /// What has been read of it since the last piece.
    pub(crate) fn fragment(&mut self, position: Option<Position>) -> Fragment {
        self.bytes = 0;
        Fragment {
            transaction: self.name.clone(),
            origin: self.origin.clone(),
            commit_time: self.commit_time,
            first: !std::mem::replace(&mut self.begun, true),
            changes: std::mem::take(&mut self.changes),
            position,
        }
    }
}
