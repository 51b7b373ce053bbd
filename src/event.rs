//! What the engine tells the outside while it works. The observer turns each event into a metric and,
//! where a person would want to read it, a log line; it never sees a row's values beyond its key.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use pontoon_core::{Change, CopyState, Error, Fault, Fragment, Key, LogEvent, LogIdentity, Operation, Position};

use crate::{
    direction::queue::Limits,
    held_back::HeldBack,
    side::{Pair, Side},
};

/// Something that happened. `source` names the direction: from that side to the other.
pub enum EngineEvent<'a> {
    /// The process stands by: another one holds the lease.
    StandingBy {
        /// Who holds it.
        holder: &'a str,
    },
    /// A session begins to read a log, told before anything of it is read.
    Begins {
        /// The direction.
        source: Side,
        /// Everything up to here is applied.
        position: &'a Position,
    },
    /// The server of a side was promoted since its log was last read, which goes on from there.
    Promoted {
        /// The direction.
        source: Side,
        /// Whose log was read.
        was: &'a LogIdentity,
        /// Whose log it is now.
        is: &'a LogIdentity,
        /// Up to where the two are the same.
        fork: &'a Position,
    },
    /// Both nodes are connected and the lease is held.
    Active,
    /// Nothing is applied in a direction: an operator has paused it, or no table is a pair.
    Paused {
        /// The direction.
        source: Side,
        /// When it goes on by itself, in microseconds since 1970 UTC, where that is known.
        until: Option<i64>,
    },
    /// A direction is held back by the limit on its rows, or is not any more.
    Throttled {
        /// The direction.
        source: Side,
        /// The limit; `None`: it is not held back.
        rows_per_second: Option<NonZeroU64>,
    },
    /// A direction is held back by the hour or by its target, or is not any more. Told again and again while it is.
    HeldBack {
        /// The direction.
        source: Side,
        /// By what; `None`: it is not held back.
        why: Option<&'a HeldBack>,
    },
    /// A direction that was paused goes on.
    Resumed {
        /// The direction.
        source: Side,
    },
    /// Which tables are bridged from now on, told each time before the bridge begins.
    Tables {
        /// How many are.
        bridged: usize,
        /// Those that are set aside.
        aside: &'a [SetAside],
    },
    /// The session ended with an error that goes away by itself; it starts again after a pause.
    Interrupted {
        /// What was being done.
        stage: Stage,
        /// The direction that it was done for; `None` for both.
        source: Option<Side>,
        /// Why.
        error: &'a Error,
        /// The pause before the next attempt.
        pause: Duration,
    },
    /// The session ended with an error that does not go away by itself.
    Failed {
        /// What was being done.
        stage: Stage,
        /// The direction that it was done for; `None` for both.
        source: Option<Side>,
        /// Why.
        error: &'a Error,
    },
    /// An event was read that is no part of an undecided transaction.
    Received {
        /// The direction.
        source: Side,
        /// The event.
        event: &'a LogEvent,
    },
    /// The commit of a transaction was read of which pieces had been read before.
    Decided {
        /// The direction.
        source: Side,
        /// Its last fragment.
        fragment: &'a Fragment,
        /// What it did.
        rows: Rows,
        /// The size of its rows in memory.
        bytes: u64,
    },
    /// The spill has reached its limit, and the reader has stopped.
    SpillFull {
        /// The direction.
        source: Side,
    },
    /// What is in the queues, every other second.
    Queued {
        /// Bytes in memory, of the direction from each side.
        memory_bytes: Pair<usize>,
        /// Bytes in the spill files of both.
        spill_bytes: u64,
        /// What may be, of each direction.
        limits: Limits,
    },
    /// A run was committed on the target.
    Applied {
        /// The direction.
        source: Side,
        /// Source transactions in it.
        transactions: u64,
        /// Rows inserted, updated and deleted by them.
        rows: Rows,
        /// The size of their rows in memory.
        bytes: u64,
        /// Where it ends in the source's log.
        position: &'a Position,
        /// The latest commit time in it, in microseconds since 1970 UTC.
        commit_time: i64,
        /// What it took.
        took: Took,
    },
    /// Everything up to the end of a run is behind us, applied or nothing to apply.
    Passed {
        /// The direction.
        source: Side,
        /// Where the run ends in the source's log.
        position: &'a Position,
        /// The source's clock at that position, where known, in microseconds since 1970 UTC.
        time: Option<i64>,
        /// Echoes of our own writes in it.
        echoes: u64,
    },
    /// Changes were left out.
    Skipped {
        /// The direction.
        source: Side,
        /// Why.
        why: LeftOut,
        /// How many.
        changes: u64,
    },
    /// Values were read that other values stand for on the other side, by a rule of their column.
    Converted {
        /// The direction.
        source: Side,
        /// What was the matter with them.
        fault: Fault,
        /// How many.
        values: u64,
    },
    /// A large transaction that was applied while it was read is decided, and what is left of it is applied now; or what was written of it is rolled back, since something
    /// else came first or it is not to be applied.
    Early {
        /// The direction.
        source: Side,
        /// It goes on.
        goes_on: bool,
    },
    /// A transaction was rolled back since rows were not as it expects; what is to be settled is, and it is tried again.
    Missed {
        /// The direction.
        source: Side,
    },
    /// Changes of keys in quarantine were stored instead of applied.
    Stored {
        /// The direction.
        source: Side,
        /// How many.
        changes: u64,
    },
    /// The target refuses a row: its key is in quarantine from now on.
    Quarantined {
        /// The direction.
        source: Side,
        /// The pair of tables.
        table: &'a str,
        /// What was refused.
        what: Refused,
        /// Why.
        error: &'a Error,
    },
    /// A key is out of quarantine.
    Released {
        /// The direction whose target had refused it.
        source: Side,
        /// The pair of tables.
        table: &'a str,
        /// An operator had what was stored dropped.
        discarded: bool,
    },
    /// What is in quarantine, when it changes and every other second.
    Quarantine {
        /// Keys that the target of the direction from each side refuses.
        keys: Pair<usize>,
        /// For how long the oldest has been there.
        oldest: Option<Duration>,
    },
    /// A transaction was rolled back and is tried again.
    Retried {
        /// The direction.
        source: Side,
        /// Why.
        error: &'a Error,
    },
    /// A rendezvous was rolled back and is tried again.
    RendezvousRetried {
        /// The direction that asked for it; `None` for a completion.
        source: Option<Side>,
        /// Why.
        error: &'a Error,
    },
    /// A conflict was settled, or what a crash had left half done was completed.
    Conflict {
        /// The direction that met it; `None` for a completion.
        source: Option<Side>,
        /// What was settled.
        conflict: &'a Conflict<'a>,
    },
    /// A conflict was met whose settlement a side refuses: it waits in quarantine.
    ConflictHeld {
        /// The direction that met it.
        source: Side,
        /// The pair of tables.
        table: &'a str,
        /// What it met.
        kind: ConflictKind,
    },
    /// A chunk of a first load has arrived and is durable.
    Copied {
        /// The direction.
        source: Side,
        /// The pair of tables.
        table: &'a str,
        /// Rows of the chunk.
        rows: u64,
        /// How far the copy has come.
        state: &'a CopyState,
        /// From when it was taken to the commit's answer, settlements included.
        took: Duration,
    },
    /// A rendezvous is over.
    Rendezvous {
        /// The direction that asked for it; `None` for a completion.
        source: Option<Side>,
        /// From the request to both commits.
        took: Duration,
    },
}

/// A table on which both sides do not agree, or which is tied to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The pair of tables.
    pub label: Arc<str>,
    /// Why.
    pub why: Error,
}

/// What a target refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A change of the source's log.
    Change,
    /// What a settlement gave it.
    Settlement,
}

/// What is being done when an error happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Connecting, taking the lease, reading what is durable.
    Connect,
    /// Reading the source's log.
    Read,
    /// Keeping what is read: the spill.
    Queue,
    /// Writing to the target.
    Apply,
    /// Settling a conflict.
    Rendezvous,
}

/// Why changes that were read are not applied, and not stored either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// A resolution covers them.
    Settled,
    /// They change nothing in the common form of the tables.
    Unchanged,
    /// An operator said to pass over their transaction.
    PassedOver,
}

/// What a run took that was committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// The statements of the attempt that was committed.
    pub write: Duration,
    /// Its commit, to the answer.
    pub commit: Duration,
    /// From the first statement of the first attempt to the commit's answer, settlements included.
    pub total: Duration,
}

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Inserted.
    pub inserts: u64,
    /// Updated.
    pub updates: u64,
    /// Deleted.
    pub deletes: u64,
}

impl Rows {
    /// Counts a change.
    pub(crate) fn count(&mut self, change: &Change) {
        match change.operation {
            Operation::Insert { .. } => self.inserts += 1,
            Operation::Update { .. } => self.updates += 1,
            Operation::Delete { .. } => self.deletes += 1,
        }
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    /// These without those.
    #[must_use]
    pub(crate) fn without(self, other: Rows) -> Rows {
        Rows {
            inserts: self.inserts.saturating_sub(other.inserts),
            updates: self.updates.saturating_sub(other.updates),
            deletes: self.deletes.saturating_sub(other.deletes),
        }
    }
}

/// A conflict by the names of PostgreSQL's `pg_stat_subscription_stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Inserted where a row is.
    InsertExists,
    /// Updated where the row is another.
    UpdateOriginDiffers,
    /// Updated where no row is.
    UpdateMissing,
    /// Updated where the row was deleted meanwhile.
    UpdateDeleted,
    /// Deleted where the row is another.
    DeleteOriginDiffers,
    /// Deleted where no row is.
    DeleteMissing,
    /// Another row has the same unique values.
    MultipleUniqueConflicts,
    /// A row refers to one that the other side removed.
    ReferenceBroken,
    /// An additive column came below its floor, by what both sides took away together.
    FloorCrossed,
}

/// A settled conflict.
pub struct Conflict<'a> {
    /// The pair of tables.
    pub table: &'a str,
    /// The row's key.
    pub key: &'a Key,
    /// What the direction met.
    pub kind: ConflictKind,
    /// Whose row stands.
    pub winner: Side,
    /// The winner's name.
    pub winner_name: &'a str,
    /// The rule that decided, in the words of the record.
    pub rule: &'a str,
    /// It is neither side's row as it was, but made of both.
    pub merged: bool,
    /// Both sides had writes that the other had not got.
    pub contended: bool,
    /// The clocks were equal; priority decided.
    pub tie: bool,
}

/// Takes what the engine tells.
pub trait Observer: Send + Sync {
    /// Something happened. Must not block.
    fn observe(&self, event: &EngineEvent<'_>);
}
