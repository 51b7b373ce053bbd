//! Errors: a stable code, a class that decides about retry, a message, a hint.
//!
//! The class is a property of the code and of nothing else, so that one table (`Code::class`)
//! decides what is retried. The engine's supervisor is the only place that retries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The result of everything that can fail in a connector or in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the engine does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// Goes away by itself: retried with backoff, for ever, and never reported as data loss.
    Transient,
    /// Of the data: the transaction that it names cannot be applied as things are. The bridge stops
    /// before that transaction.
    Definite,
    /// Of the set-up: nothing will help but a person.
    Fatal,
}

/// What to do about [`Code::TruncateSeen`].
pub const TRUNCATE_HINT: &str = "to empty the other side too, but for what was written there since: `pontoon resync`, from this node; to leave \
                                 its rows: pass over the transaction with `pontoon skip`";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident, exit $exit:literal, $explanation:literal;)*) => {
        /// The stable code of an error: what an operator searches for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code there is, in the order of the reference page.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code as it is printed and documented.
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $text),* } }

            /// What the engine does about it.
            pub fn class(self) -> Class { match self { $(Code::$name => Class::$class),* } }

            /// The exit code of a command that ends with it.
            pub fn exit(self) -> u8 { match self { $(Code::$name => $exit),* } }

            /// One paragraph for `pontoon explain`.
            pub fn explanation(self) -> &'static str { match self { $(Code::$name => $explanation),* } }
        }
    };
}

codes! {
    /// The configuration or the command line is wrong.
    Config = "config-invalid", Fatal, exit 2,
        "The configuration file or the command line cannot be used as it is. The message names file, line, column and key. Nothing was connected to.";
    /// No connection can be made.
    Unreachable = "unreachable", Transient, exit 3,
        "The server's address does not answer. At the first connection the process ends with exit code 3; later it reconnects for ever, with backoff.";
    /// The server answered and refused the login.
    LoginRefused = "login-refused", Transient, exit 3,
        "The server refused the user, the password or the database. At the first connection the process ends with exit code 3; later it tries again every 30 to 45 seconds, since passwords are rotated.";
    /// The TLS handshake failed.
    TlsFailed = "tls-failed", Transient, exit 3,
        "No trusted encrypted connection could be made: an expired certificate, another host's, an unknown authority, a client certificate that the server does not accept, or a server without TLS. There is no fallback to plain text. At the first connection the process ends with exit code 3; later it tries again every 30 to 45 seconds.";
    /// A connection broke; the outcome of what was under way is unknown until read back.
    ConnectionLost = "connection-lost", Transient, exit 3,
        "An established connection broke. Pontoon reconnects, reads back what is durable and goes on from there.";
    /// Someone else holds what is wanted: a row, a key, a snapshot.
    Contention = "contention", Transient, exit 3,
        "A lock time-out, a deadlock, a serialization failure, or a row that moved under our hands. Everything was rolled back and is tried again.";
    /// The server is starting, stopping, full or out of connections.
    ServerBusy = "server-busy", Transient, exit 3,
        "The server cannot serve now: it starts or stops, has no free connection, memory or disk. It is tried again with backoff.";
    /// Another process holds the bridge's lease now.
    LeaseLost = "lease-lost", Transient, exit 4,
        "Another process of the same bridge has taken over, or an operator has paused what is applied on a node. This process writes nothing any more under the lease that it had, and asks for it anew.";
    /// An operator has paused the bridge.
    Paused = "paused", Definite, exit 1,
        "An operator has paused what is asked for. `pontoon status` tells which direction, `pontoon resume` ends it; nothing is lost meanwhile, as long as the servers keep their logs.";
    /// The login lacks a privilege.
    PrivilegeMissing = "privilege-missing", Fatal, exit 4,
        "The bridge's user may not do something that is needed. `pontoon setup --print-sql` prints the least grants that everything works with.";
    /// A first load was asked for into a table that holds rows.
    TargetNotEmpty = "target-not-empty", Fatal, exit 4,
        "`pontoon copy` was asked to load a table that already holds rows on the other side. With `--merge` rows that are missing there are added, and where both sides hold different rows of one key the table's conflict rule decides; rows that only the other side has stay as they are. Nothing was changed.";
    /// A server setting does not permit a bridge.
    SettingWrong = "setting-wrong", Fatal, exit 4,
        "A server setting makes its log unfit as a source. The message names the setting, what is needed and what was found.";
    /// The bridge's own tables, slot or publication are not there.
    NotSetUp = "not-set-up", Fatal, exit 4,
        "What `pontoon setup` creates is missing on a node. Run it; it is safe to repeat.";
    /// The state in the database was written by a newer version.
    FormatUnknown = "format-unknown", Fatal, exit 4,
        "The `pontoon` tables carry a format version that this binary does not know. Use the version that wrote them, or a later one.";
    /// The state in the database was written by an older version.
    FormatOld = "format-old", Fatal, exit 4,
        "The `pontoon` tables carry the format version of an older pontoon. `pontoon setup` of this version brings them up to its own, and keeps what is in them; from then on processes of the older version are refused. Nothing was changed.";
    /// An operator named a place at which the log cannot be taken up.
    PositionUnfit = "position-unfit", Fatal, exit 4,
        "`pontoon setup --at` named a position at which the node's log cannot be taken up: in the middle of a transaction, behind the log's end, in a file that is purged, or before the place from which the slot has the log. The message says which. Nothing was set up by it. Take the dump again with its position, on PostgreSQL after `pontoon setup`, and name that: `docs/operations.md` has the steps.";
    /// The bridge has worked already: its checkpoint is its own.
    AlreadyApplied = "already-applied", Fatal, exit 4,
        "`pontoon setup --at` may name another position only while the bridge has applied nothing yet: from then on the checkpoint says what is applied, and another one would pass over writes or bring them twice. Nothing was changed. `pontoon teardown` and `pontoon setup --at` begin anew; `pontoon verify` shows what differs, and `pontoon copy --merge` brings what is missing.";
    /// The log from the position on is not there any more.
    LogLost = "log-lost", Fatal, exit 4,
        "The replication slot is gone or invalid, or the binary log was purged: changes after the checkpoint can no longer be read. Nothing was applied over the gap. `docs/operations.md` has the steps (\"A log that is lost\"): the other log crosses to its end, this one is followed from now on, and what it held is found by comparing, while both sides are written.";
    /// A part of the log is not what the server wrote.
    LogDamaged = "log-damaged", Fatal, exit 4,
        "An event of the binary log does not match its checksum: the server's disk or memory lost a part of it. Nothing of the damaged transaction was applied, nor anything after it. The tables have to be compared and made equal, then the bridge set up anew.";
    /// The log is another one than the checkpoint speaks of.
    LogIdentityChanged = "log-identity-changed", Fatal, exit 4,
        "The server's log is not the one that the checkpoint belongs to, and does not go on from it: another server, a restored copy, or a promoted replica of MySQL or MariaDB. Positions of different logs are never compared. (A promoted standby of PostgreSQL goes on from its primary's log: docs/operations.md, \"A server is replaced by its standby\".)";
    /// The log ends before the position that was already applied.
    LogBehind = "log-behind", Fatal, exit 4,
        "The server's log ends before a position that is already applied on the other side, or the bridge's epoch on it is older than the one that the other side has noted, or a standby was promoted in its place that had not got what the other side relies on: the server lost its last transactions, or was restored. The other side holds rows that this one does not. Nothing was applied. The tables have to be compared and made equal, then the bridge set up anew.";
    /// A change in the log lacks part of its row.
    RowImagePartial = "row-image-partial", Definite, exit 4,
        "A change was logged without its full before image (binlog_row_image other than FULL in some session, or a replica identity other than FULL). Without it conflicts cannot be seen. The table is set aside before that transaction and the others go on; where it is the only one the bridge stops. It is tried again when the bridge is started, when the table is altered, and when the transaction is passed over with `pontoon skip`.";
    /// A change in the log that is not there as rows.
    EventUnsupported = "event-unsupported", Definite, exit 4,
        "The log holds a change that cannot be read as rows: it was logged as a statement, or a part of its transaction was undone afterwards. The message names the table or the database, and the setting to change. The bridge stops before that transaction.";
    /// A mapped table was truncated.
    TruncateSeen = "truncate-seen", Definite, exit 4,
        "A mapped table was truncated. A truncate names no rows that could be held against those that the other side writes, so it is not applied by itself. The table is set aside before it and the others go on; where it is the only one the bridge stops. To empty the other side too, but for what was written there since: `pontoon resync --from NODE --table TABLE --execute`. To leave the other side's rows: pass over the transaction with `pontoon skip`. The table goes on then.";
    /// Others are set up than are configured.
    TablesChanged = "tables-changed", Definite, exit 4,
        "The tables that the bridge is set up for are not those of the configuration: one was added to the file, or taken out, and `pontoon setup` has not been run since; or it was run with another file than this process has. `pontoon setup` takes up what is new from where the logs stand then, and leaves the rest as it is. A bridge that runs reads its file anew and goes on when the two agree (docs/operations.md, \"Tables come and go\").";
    /// A mapped table changed its shape.
    SchemaChanged = "schema-changed", Definite, exit 4,
        "A mapped table is not what it was when the bridge started. Where the pair of tables is fit as it is now (a wider column), the bridge goes on by itself. Else it has applied everything before the change and sets the table aside, with a line in its log that names the difference, until both sides agree: make the same change on the other side, and it goes on where it was; the other tables go on meanwhile. With `--until-caught-up` it stops instead. Where columns of the table have rules, and the log holds rows in which one had another name or type, it stays aside until that is taken back (docs/operations.md, \"A change of a table\").";
    /// The target refuses a row.
    RowRefused = "row-refused", Definite, exit 4,
        "The target server refuses a row: a constraint, a value out of range. Its key goes into quarantine with the change, and everything else goes on: `pontoon quarantine list`. Mend the row on the source or the obstacle on the target, and it heals by itself. With `on_error = \"stop\"` the bridge stops before the transaction, which is neither lost nor half applied: mend the obstacle and start again, or pass over it with `pontoon skip`.";
    /// A value has no form on the other side.
    ValueMisfit = "value-misfit", Definite, exit 4,
        "A value cannot be held by the column on the other side: out of range, too long, a zero date, a NUL byte. It is never cut or replaced. Its key goes into quarantine: write another value on the source and it heals by itself; so it does in a wider column, at once with `pontoon quarantine retry`. With `on_error = \"stop\"` the bridge stops before the transaction: mend the column or the row and start again, or pass over it with `pontoon skip`.";
    /// A row would refer to one that is not there.
    ReferenceBroken = "reference-broken", Definite, exit 4,
        "One side removed a row to which the other side made a row refer, or a row refers to one that its own target has refused. Foreign keys are not checked by the servers for what a bridge writes, so it looks itself. The table that refers has `foreign_key = \"quarantine\"`, or its rule cannot be carried out: the key goes into quarantine, and out of it when the other row is there, or nothing refers to it any more. `restore_parent` and `delete_child` decide without a person.";
    /// Both sides wrote a row, and its table leaves the decision to a person.
    ConflictHeld = "conflict-held", Definite, exit 4,
        "Both sides wrote a row without seeing each other, and its table has `conflict = \"quarantine\"`: neither side's row is touched, later changes of it wait, and everything else goes on. `pontoon quarantine show ID` shows both rows; `pontoon quarantine retry ID --take NODE` has that node's row stand on both, and `--key NEW` keeps both, one under another key. It also ends when both sides have come to the same row.";
    /// A row goes round: each side answers what the bridge brings of it.
    LoopSuspected = "loop-suspected", Definite, exit 4,
        "A row seems to be rewritten without end by what answers the bridge's own writes: a trigger, a job that rewrites what arrives, another replication. Its key is in quarantine, where its changes wait for a person, and everything else goes on. Find what rewrites it and stop it; then `pontoon quarantine retry ID` goes on, and with `--take NODE` that node's row stands on both. It also ends when both sides have come to the same row, and by itself where both sides write the row at will, which nothing that goes round does. `docs/conflicts.md` says what is looked for.";
    /// More keys are in quarantine than the bridge holds.
    QuarantineFull = "quarantine-full", Fatal, exit 4,
        "So many rows are refused by a target that it can hardly be the rows: a constraint, a column or a trigger is in the way of all of them. The bridge stopped before the next one rather than grow. `pontoon quarantine list` shows the reasons; mend what they have in common, and start it again.";
    /// A table pair cannot be bridged.
    TableUnfit = "table-unfit", Fatal, exit 4,
        "A pair of tables cannot be bridged as configured. `pontoon check` lists every reason with its remedy.";
    /// The name of the bridge is taken by another pair of databases.
    BridgeNameTaken = "bridge-name-taken", Fatal, exit 4,
        "A bridge of this name joins other databases. Two bridges need two names, or each would take the other's writes for its own echo.";
    /// What the bridge writes would come back to it another way.
    RingClosed = "ring-closed", Fatal, exit 4,
        "Another bridge, or the servers' own replication, carries the same tables between the two databases, directly or by way of a third one. A write would come round again without end, or be taken for another one. Bridges form a tree. Nothing was applied. `pontoon check` lists every reason with its remedy.";
    /// Another replica uses the server id.
    ServerIdTaken = "server-id-taken", Transient, exit 4,
        "Another replica of the server connected with the same server id, and the server ended one of the two.";
    /// Bytes from a server that cannot be understood.
    Protocol = "protocol", Fatal, exit 4,
        "A server sent something that this version cannot decode. Nothing after it was applied. Please report it with the position.";
    /// The spill file cannot be written or read.
    SpillFailed = "spill-failed", Transient, exit 4,
        "The spill folder cannot be used: missing, not writable, or its disk is full. Nothing is lost: the log is read again from the checkpoint.";
    /// Several attempts at the same work failed.
    Internal = "internal", Fatal, exit 4,
        "Pontoon found itself in a state that its design rules out. Nothing was applied in that state. Please report it with the log.";
}

impl Code {
    /// Whether what it says of a row is for a person to decide, and nothing that a table's `on_error` is about.
    pub fn is_for_a_person(self) -> bool {
        matches!(self, Code::ConflictHeld | Code::LoopSuspected)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with what an operator needs: code, what happened, what to do.
///
/// Serializable, because an obstacle in a log waits its turn in the queue, which may spill to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    code: Code,
    message: String,
    hint: Option<String>,
    constraint: Option<String>,
    table: Option<Box<str>>,
}

impl Error {
    /// An error without a hint. The message is one line, names what, where and why, and holds no
    /// password and no row value beyond keys.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), hint: None, constraint: None, table: None }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the constraint that the server refused a row by.
    #[must_use]
    pub fn by_constraint(mut self, constraint: Option<String>) -> Self {
        self.constraint = constraint;
        self
    }

    /// Names the one pair of tables, by label, that is in the way: without it everything else could go on.
    #[must_use]
    pub fn of_table(mut self, label: &str) -> Self {
        self.table = Some(label.into());
        self
    }

    /// Puts where it happened before the message: `shop: ...`. A place that stands there already is not said twice.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        let place = format!("{place}: ");
        if !self.message.starts_with(&place) {
            self.message.insert_str(0, &place);
        }
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What the engine does about it.
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// Whether it is retried.
    pub fn is_transient(&self) -> bool {
        self.class() == Class::Transient
    }

    /// What happened, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The constraint that the server refused a row by, where it said so.
    pub fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    /// The pair of tables that alone is in the way, where it is one.
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Whether it is about one row that the target cannot have, and about nothing else.
    pub fn is_of_a_row(&self) -> bool {
        matches!(self.code, Code::RowRefused | Code::ValueMisfit | Code::ReferenceBroken)
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}

impl std::error::Error for Error {}

/// The first of many things, for a message, and how many more there are.
pub fn first_few<T: fmt::Display>(things: impl ExactSizeIterator<Item = T>, most: usize) -> String {
    let more = things.len().saturating_sub(most);
    let named: Vec<String> = things.take(most).map(|thing| thing.to_string()).collect();
    match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_explained() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.explanation().len() > 40, "{code} is not explained");
            // 1: the answer is no, as of what an operator has paused.
            assert!((1..=4).contains(&code.exit()));
        }
    }

    #[test]
    fn place_stands_before_the_message() {
        let error = Error::new(Code::Unreachable, "no answer").at("shop").at("shop").hint("start it");
        assert_eq!(error.to_string(), "shop: no answer [unreachable]");
        assert_eq!(error.remedy(), Some("start it"));
    }
}
