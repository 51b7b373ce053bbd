//! The values that labels take: all known beforehand, so that every series exists from the start.

use std::fmt;

use pontoon_core::{Code, pressure::Exceeded};

use crate::held_back::HeldBack;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The label's value.
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text),* } }

            pub(super) const TEXTS: &[&str] = &[$($text),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

labels! {
    /// What a direction is doing.
    DirectionState {
        /// Not running: before the start, after the end, or not used at all.
        Stopped = "stopped",
        /// The initial load is under way.
        Copying = "copying",
        /// Nothing is waiting but what was just read.
        Streaming = "streaming",
        /// Behind, and working on it.
        CatchingUp = "catching_up",
        /// An operator said so.
        Paused = "paused",
        /// Slowed down on an operator's word, or held back.
        Throttled = "throttled",
    }
}

labels! {
    /// What holds a direction back.
    HoldReason {
        /// The limit on its rows.
        RowsPerSecond = "rows_per_second",
        /// The hour.
        Window = "window",
        /// The lag of the target's replicas.
        ReplicaLag = "replica_lag",
        /// What the target carries out for others.
        Load = "load",
        /// A target that does not say how busy it is.
        NotKnown = "not_known",
    }
}

impl From<&HeldBack> for HoldReason {
    fn from(why: &HeldBack) -> Self {
        match why {
            HeldBack::Window { .. } => HoldReason::Window,
            HeldBack::Pressure(_, Exceeded::ReplicaLag(..)) => HoldReason::ReplicaLag,
            HeldBack::Pressure(_, Exceeded::Load(..)) => HoldReason::Load,
            HeldBack::NotKnown(_) => HoldReason::NotKnown,
        }
    }
}

labels! {
    /// Where an error happened.
    Stage {
        /// Connecting, taking the lease, reading what is durable.
        Connect = "connect",
        /// Reading the source's log.
        Read = "read",
        /// Keeping what is read: the spill.
        Queue = "queue",
        /// Writing to the target.
        Apply = "apply",
        /// Settling a conflict.
        Rendezvous = "rendezvous",
    }
}

labels! {
    /// What a part of applying took its time for.
    ApplyStage {
        /// Statements, from the first to the last.
        Write = "write",
        /// The commit.
        Commit = "commit",
        /// All of it.
        Total = "total",
    }
}

labels! {
    /// Why a transaction was rolled back and tried again.
    RetryReason {
        /// A row was not as expected: a conflict is settled first.
        Conflict = "conflict",
        /// A lock, a deadlock, a serialization failure.
        Contention = "contention",
        /// The connection broke.
        ConnectionLost = "connection_lost",
        /// The server starts, stops or is full.
        ServerBusy = "server_busy",
        /// Anything else that goes away by itself.
        Other = "other",
    }
}

impl From<Code> for RetryReason {
    fn from(code: Code) -> Self {
        match code {
            Code::Contention => RetryReason::Contention,
            Code::ConnectionLost | Code::Unreachable => RetryReason::ConnectionLost,
            Code::ServerBusy => RetryReason::ServerBusy,
            _ => RetryReason::Other,
        }
    }
}

labels! {
    /// Why rows that were read are not applied.
    SkipReason {
        /// A resolution covers them.
        Settled = "settled",
        /// Their key is in quarantine: they are stored there.
        Quarantined = "quarantined",
        /// An operator said to pass over the transaction.
        Operator = "operator",
        /// An update that changes nothing.
        Unchanged = "unchanged",
    }
}

labels! {
    /// Why another value stands for one on the other side: the column's rule of this name.
    ConversionReason {
        /// A date with a year, month or day of zero, or one that no calendar has.
        ZeroDate = "zero_date",
        /// Infinity, and what is no number.
        Infinity = "infinity",
        /// A NUL character in a text.
        NulByte = "nul_byte",
        /// A number, date or time beyond what one side can hold.
        OutOfRange = "out_of_range",
        /// A text of more characters than one side can hold.
        TooLong = "too_long",
    }
}

labels! {
    /// Why a key went into quarantine.
    QuarantineReason {
        /// The target refused a change: a constraint, a trigger, a row too large.
        RowRefused = "row_refused",
        /// A value that the target's column cannot hold.
        ValueMisfit = "value_misfit",
        /// A node refused what was decided in a conflict.
        Settlement = "settlement",
        /// Both sides wrote a row, and its table leaves the decision to a person.
        ConflictHeld = "conflict_held",
        /// It refers to a row that is not there, or others refer to what was to go.
        ReferenceBroken = "reference_broken",
        /// It seems to go round without end.
        LoopSuspected = "loop_suspected",
    }
}

labels! {
    /// How an attempt to connect ended.
    ConnectResult {
        /// It works.
        Connected = "connected",
        /// No answer.
        Unreachable = "unreachable",
        /// User, password or database refused.
        LoginRefused = "login_refused",
        /// No trusted encrypted connection.
        TlsFailed = "tls_failed",
        /// Anything else.
        Failed = "failed",
    }
}

impl From<Code> for ConnectResult {
    fn from(code: Code) -> Self {
        match code {
            Code::Unreachable => ConnectResult::Unreachable,
            Code::LoginRefused => ConnectResult::LoginRefused,
            Code::TlsFailed => ConnectResult::TlsFailed,
            _ => ConnectResult::Failed,
        }
    }
}

labels! {
    /// What met what, in the words of PostgreSQL's `pg_stat_subscription_stats`.
    ConflictKind {
        /// A row to insert is there already.
        InsertExists = "insert_exists",
        /// A row to update was changed by someone else.
        UpdateOriginDiffers = "update_origin_differs",
        /// A row to update is not there.
        UpdateMissing = "update_missing",
        /// A row to update was deleted by someone else.
        UpdateDeleted = "update_deleted",
        /// A row to delete was changed by someone else.
        DeleteOriginDiffers = "delete_origin_differs",
        /// A row to delete is not there.
        DeleteMissing = "delete_missing",
        /// An additive column came below its floor.
        FloorCrossed = "floor_crossed",
        /// A row refers to one that the other side removed.
        ReferenceBroken = "reference_broken",
        /// A row violates unique constraints beside its key.
        MultipleUniqueConflicts = "multiple_unique_conflicts",
    }
}

labels! {
    /// Whose row a conflict left.
    Outcome {
        /// The source's.
        Source = "source",
        /// The target's.
        Target = "target",
        /// One made of both.
        Merged = "merged",
        /// Neither: it waits for a person.
        Quarantined = "quarantined",
    }
}

/// User rows by what happened to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Inserted.
    pub insert: u64,
    /// Updated.
    pub update: u64,
    /// Deleted.
    pub delete: u64,
}

impl RowCounts {
    pub(super) const OPERATIONS: &[&str] = &["insert", "update", "delete"];

    /// Counts changes.
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a pontoon_core::Change>) -> Self {
        let mut counts = RowCounts::default();
        for change in changes {
            match change.operation {
                pontoon_core::Operation::Insert { .. } => counts.insert += 1,
                pontoon_core::Operation::Update { .. } => counts.update += 1,
                pontoon_core::Operation::Delete { .. } => counts.delete += 1,
            }
        }
        counts
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.insert + self.update + self.delete
    }
}
