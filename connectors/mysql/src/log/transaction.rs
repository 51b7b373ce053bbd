//! A transaction of the log while it is being read.

use std::sync::Arc;

use pontoon_core::{Change, Fragment, Origin, Position};

use super::{assemble::Reading, event::Begin};

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
    /// It is an XA transaction.
    pub(crate) xa: bool,
    /// It came compressed and its last event has come, but not all of the event that holds it.
    pub(crate) ended: bool,
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
}

impl Transaction {
    /// Begun with the event that ends at `first`, with nothing read yet.
    pub(crate) fn new(first: Position, begin: Begin, reading: &Reading) -> Transaction {
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
            ended: false,
            barrier: false,
            mapped: false,
            changes: Vec::new(),
            bytes: 0,
            begun: false,
            held: reading.skips.contains(&first).then(Vec::new),
            passed: false,
            first,
        }
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
