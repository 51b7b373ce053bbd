//! Transactions that the log hands over in pieces before their commit, as PostgreSQL streams large ones and as
//! MySQL and MariaDB log what XA prepared: between other transactions, with subtransactions that are rolled back,
//! and not always to the end.

use std::{collections::BTreeMap, time::Duration};

use crate::database::{Database, Inner, LoggedChange};

/// The longest pause between two pieces: several transactions' time, and well below a lock time-out.
const BETWEEN_PIECES: Duration = Duration::from_millis(300);

/// What the log says of a transaction before its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Early {
    /// Entries in the log when it was written: it stands before the next.
    pub(crate) at: u64,
    /// The transaction, by a number that is never used again.
    pub(crate) transaction: u64,
    /// The same by the smallest number that was free when it began.
    pub(crate) name: u64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Piece { part: u32, changes: Vec<LoggedChange> },
    Undone { part: Option<u32> },
}

/// An undecided transaction of which pieces are in the log.
#[derive(Debug, Clone)]
pub(crate) struct Undecided {
    name: u64,
    /// How many of its changes are.
    changes: usize,
    /// A subtransaction that is to be rolled back, and is not yet.
    open: Option<u32>,
}

/// How often it came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Met {
    /// Transactions that committed after pieces of them were in the log.
    pub decided: usize,
    /// Of these, such with another commit between the first piece and their own.
    pub straddling: usize,
    /// Transactions rolled back after pieces of them were in the log.
    pub undone: usize,
    /// Subtransactions rolled back.
    pub parts_undone: usize,
    /// Readers that were opened between the first piece of a transaction and its end.
    pub reopened: usize,
}

impl std::ops::Add for Met {
    type Output = Met;

    fn add(self, other: Met) -> Met {
        Met {
            decided: self.decided + other.decided,
            straddling: self.straddling + other.straddling,
            undone: self.undone + other.undone,
            parts_undone: self.parts_undone + other.parts_undone,
            reopened: self.reopened + other.reopened,
        }
    }
}

impl Database {
    /// Writes pieces of a transaction to the log, at chance; what is left comes with its commit.
    pub(crate) async fn write_early(&self, transaction: u64, changes: &[LoggedChange]) {
        let chance = self.dice.faults().early;
        // The dice are not thrown where it never happens: older schedules stay what they were.
        if chance == 0.0 || changes.is_empty() || !self.dice.chance(chance) {
            return;
        }
        let (mut rest, mut part) = (changes, 0);
        while !rest.is_empty() && !self.dice.chance(0.1) {
            if self.dice.chance(0.3) {
                part += 1;
                self.inner().write_piece(transaction, part, opposite(changes));
                if let Some(undecided) = self.inner().undecided.get_mut(&transaction) {
                    undecided.open = Some(part);
                }
                self.pass().await;
                self.inner().undo_open(transaction);
            }
            let mut length = usize::try_from(self.dice.between(1, rest.len() as i64)).unwrap_or(1);
            // A row that moved from key to key is one change.
            length += usize::from(rest.get(length).is_some_and(|next| next.moved_from.is_some()));
            let (piece, more) = rest.split_at(length);
            part += 1;
            let own = if self.dice.chance(0.5) { part } else { 0 };
            self.inner().write_piece(transaction, own, piece.to_vec());
            if let Some(undecided) = self.inner().undecided.get_mut(&transaction) {
                undecided.changes += piece.len();
            }
            rest = more;
            self.pass().await;
        }
    }

    /// Lets others go first, and sometimes long enough for them to commit.
    async fn pass(&self) {
        self.changed.notify_waiters();
        let max = if self.dice.chance(0.2) { BETWEEN_PIECES } else { self.dice.faults().pause_max };
        tokio::time::sleep(self.dice.duration(max)).await;
    }

    /// What this log has had of transactions in pieces.
    pub fn met(&self) -> Met {
        let inner = self.inner();
        let first: BTreeMap<u64, u64> = inner.early.iter().rev().map(|early| (early.transaction, early.at)).collect();
        let decided = inner.log.iter().zip(0..).filter_map(|(entry, at)| Some((*first.get(&entry.early?)?, at)));
        let decided: Vec<(u64, u64)> = decided.collect();
        let undone = |part: fn(&Option<u32>) -> bool| {
            inner.early.iter().filter(|early| matches!(&early.what, What::Undone { part: of } if part(of))).count()
        };
        Met {
            decided: decided.len(),
            straddling: decided.iter().filter(|(first, at)| first < at).count(),
            undone: undone(Option::is_none),
            parts_undone: undone(Option::is_some),
            reopened: inner.reopened,
        }
    }
}

impl Inner {
    /// Writes a piece of an undecided transaction to the log.
    fn write_piece(&mut self, transaction: u64, part: u32, changes: Vec<LoggedChange>) {
        let free = (1..).find(|name| self.undecided.values().all(|undecided| undecided.name != *name));
        let new = Undecided { name: free.unwrap_or_default(), changes: 0, open: None };
        self.undecided.entry(transaction).or_insert(new);
        self.write_early(transaction, What::Piece { part, changes });
    }

    fn write_early(&mut self, transaction: u64, what: What) {
        let Some(undecided) = self.undecided.get(&transaction) else { return };
        self.early.push(Early { at: self.log.len() as u64, transaction, name: undecided.name, what });
    }

    /// Rolls back the subtransaction that is to be.
    fn undo_open(&mut self, transaction: u64) {
        if let Some(part) = self.undecided.get_mut(&transaction).and_then(|undecided| undecided.open.take()) {
            self.write_early(transaction, What::Undone { part: Some(part) });
        }
    }

    /// The transaction commits now: writes what is left of it. Returns its number, if it is one of these. Its client may
    /// have been killed in the midst of a subtransaction.
    pub(crate) fn decide_early(&mut self, transaction: u64, changes: &[LoggedChange]) -> Option<u64> {
        self.undo_open(transaction);
        let written = self.undecided.get(&transaction)?.changes;
        if let Some(rest) = changes.get(written..).filter(|rest| !rest.is_empty()) {
            self.write_piece(transaction, 0, rest.to_vec());
        }
        self.undecided.remove(&transaction);
        Some(transaction)
    }

    /// The transaction is over; rolled back, if it has not committed.
    pub(crate) fn undo_early(&mut self, transaction: u64) {
        self.write_early(transaction, What::Undone { part: None });
        self.undecided.remove(&transaction);
    }
}

/// Changes that must never be applied: they take back what the transaction does.
fn opposite(changes: &[LoggedChange]) -> Vec<LoggedChange> {
    let plain = changes.iter().filter(|change| change.moved_from.is_none());
    plain
        .map(|change| LoggedChange { before: change.after.clone(), after: change.before.clone(), ..change.clone() })
        .collect()
}
