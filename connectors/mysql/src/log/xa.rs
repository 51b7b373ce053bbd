//! Transactions in two phases: rows at XA PREPARE, the decision later, or never.
//!
//! What the servers log, as seen: both write a prepared transaction as a group of its own, from its GTID to an
//! XA_PREPARE event that holds its identifier (XID). MySQL has the statement XA START before the rows,
//! MariaDB a flag of the GTID. The decision is another group: a GTID and the statement XA COMMIT or XA
//! ROLLBACK, with the XID as the server prints it. In one phase, MySQL's XA_PREPARE event says so and is
//! the commit; MariaDB logs an ordinary transaction.
//!
//! So the rows of a prepared transaction are yielded as pieces, and count only by their decision: it has
//! position and commit time. What stands in their way is told at the decision, and only by a commit.
//!
//! While a transaction with mapped rows is undecided, every position says that the log has to be read again
//! from where the oldest of them begins ([`pontoon_core::Beside::since`]). A reader that begins there passes over
//! everything up to the position that it was opened at: whole transactions unread, and what was decided by
//! then as undone.
//!
//! No definition of a table changes between the two phases: a prepared transaction keeps its metadata locks.

use std::sync::Arc;

use pontoon_core::{Error, Fragment, Held, LogEvent, Origin, change::Obstacle};

use super::{Malformed, assemble::Assembler, cursor::Cursor, malformed, transaction::Transaction};

/// The number by which pieces tell subtransactions apart, which there are none of.
const PART: u32 = 0;

/// The identifier of a transaction as the server prints it in the log, in small letters: `x'61',x'',1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Xid(String);

impl Xid {
    /// Out of a statement, behind `XA COMMIT`.
    pub(crate) fn of_statement(text: &str) -> Xid {
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_ascii_lowercase();
        match plain.rsplit_once(',').and_then(|(names, format)| Some((names, format.parse::<u64>().ok()?))) {
            // The event holds 32 bits of it.
            Some((names, format)) => Xid(format!("{names},{}", format as u32)),
            None => Xid(plain),
        }
    }

    /// Out of an XA_PREPARE event: format, two lengths, and both parts.
    fn of_event(cursor: &mut Cursor<'_>) -> Result<Xid, Malformed> {
        let (format, global, branch) = (cursor.little(4)?, cursor.little(4)? as usize, cursor.little(4)? as usize);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (global, branch) = (hex(cursor.take(global)?), hex(cursor.take(branch)?));
        Ok(Xid(format!("x'{global}',x'{branch}',{format}")))
    }
}

/// How a transaction of the log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It commits.
    Commit,
    /// It is prepared, and decided later.
    Prepare(Xid),
    /// It is the decision of another one.
    Decide { xid: Xid, commits: bool },
}

/// An XA_PREPARE event: whether it is the commit, and the identifier.
pub(crate) fn prepare(body: &[u8]) -> Result<End, Malformed> {
    let mut cursor = Cursor(body);
    match cursor.byte()? {
        0 => Ok(End::Prepare(Xid::of_event(&mut cursor)?)),
        1 => Ok(End::Commit),
        _ => Err(malformed("a transaction is prepared in an unknown number of phases")),
    }
}

/// What follows XA in a statement.
pub(crate) enum Word {
    /// The rows of a transaction.
    Start,
    /// A decision.
    Decide(End),
}

/// What an XA statement does, of what servers log.
pub(crate) fn statement(sql: &str) -> Option<Word> {
    let mut words = sql.trim_start().splitn(3, char::is_whitespace).skip(1);
    let word = words.next()?.to_ascii_uppercase();
    let xid = Xid::of_statement(words.next().unwrap_or_default());
    match word.as_str() {
        "START" | "BEGIN" => Some(Word::Start),
        "COMMIT" | "ROLLBACK" => Some(Word::Decide(End::Decide { xid, commits: word == "COMMIT" })),
        _ => None,
    }
}

/// A prepared transaction.
pub(crate) struct Undecided {
    /// Names its pieces.
    id: Arc<str>,
    /// Number of the file and offset at which it begins.
    pub(super) begins: (u64, u64),
    origin: Origin,
    /// When the write was made, if another bridge's tag says so.
    tagged_time: Option<i64>,
    pieces: bool,
    barrier: bool,
    error: Option<Error>,
}

impl Undecided {
    fn new(transaction: &mut Transaction) -> Undecided {
        Undecided {
            id: transaction.name.clone(),
            begins: transaction.begins,
            tagged_time: (transaction.origin != Origin::Local).then_some(transaction.commit_time),
            origin: transaction.origin.clone(),
            pieces: transaction.begun,
            barrier: transaction.barrier,
            error: transaction.hindrance.take(),
        }
    }
}

impl Assembler {
    /// A compressed transaction has ended only when all of the event that holds it has come, and it ends where that
    /// does.
    pub(super) fn end(&mut self, end: End) {
        if self.inner {
            self.open().ended = Some(end);
            return;
        }
        match end {
            End::Commit if self.transaction.as_ref().is_some_and(|transaction| transaction.xa) => self.one_phase(),
            End::Commit => self.commit(),
            End::Prepare(xid) => self.prepared(xid),
            End::Decide { xid, commits } => self.decided(&xid, commits),
        }
    }

    /// Yields what has been read of a prepared transaction since its last piece.
    pub(super) fn piece(&mut self) {
        let Some(transaction) = &mut self.transaction else { return };
        if transaction.changes.is_empty() {
            return;
        }
        (transaction.begun, transaction.bytes) = (true, 0);
        let (id, changes) = (transaction.name.clone(), std::mem::take(&mut transaction.changes));
        self.push(LogEvent::Held(Held::Piece { id, part: PART, changes }));
    }

    fn prepared(&mut self, xid: Xid) {
        self.piece();
        let Some(mut transaction) = self.transaction.take() else { return };
        if transaction.begun || transaction.barrier || transaction.hindrance.is_some() {
            self.undecided.insert(xid, Undecided::new(&mut transaction));
            self.since = self.oldest();
        }
        self.progress(None);
    }

    fn one_phase(&mut self) {
        self.piece();
        let Some(mut transaction) = self.transaction.take() else { return };
        self.settle(Undecided::new(&mut transaction), &transaction, true);
    }

    fn decided(&mut self, xid: &Xid, commits: bool) {
        self.open();
        match (self.undecided.remove(xid), self.transaction.take()) {
            (Some(undecided), Some(decision)) => {
                self.since = self.oldest();
                self.settle(undecided, &decision, commits);
            }
            (_, decision) => {
                self.transaction = decision;
                self.commit();
            }
        }
    }

    fn oldest(&self) -> Option<(u64, u64)> {
        self.undecided.values().map(|undecided| undecided.begins).min()
    }

    /// What was prepared, and the group that decides.
    fn settle(&mut self, undecided: Undecided, decision: &Transaction, commits: bool) {
        let Undecided { id, error, .. } = undecided;
        let skipped = error.is_some() && decision.held.is_some();
        if !commits || decision.behind || skipped {
            self.push_if(undecided.pieces, LogEvent::Held(Held::Undone { id, part: None }));
            return self.progress(decision.logged_time);
        }
        let first = decision.first.clone();
        if let Some(error) = error {
            let error = error.at(format!("the transaction at {first} (decided before {})", self.position()));
            return self.push(LogEvent::Obstacle(Obstacle { position: first, error }));
        }
        if undecided.pieces {
            let fragment = Fragment {
                transaction: decision.name.clone(),
                origin: undecided.origin,
                commit_time: undecided.tagged_time.unwrap_or(decision.commit_time),
                first: true,
                changes: Vec::new(),
                position: Some(self.position()),
            };
            return self.push(LogEvent::Held(Held::Decided { id, fragment }));
        }
        self.progress(decision.logged_time);
        if let Some(progress) = &mut self.pending {
            progress.barrier |= undecided.barrier;
        }
    }

    fn push_if(&mut self, wanted: bool, event: LogEvent) {
        if wanted {
            self.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn identifiers_are_the_same_in_both_forms() {
        let mut body = vec![0];
        body.extend(7_u32.to_le_bytes());
        body.extend(2_u32.to_le_bytes());
        body.extend(1_u32.to_le_bytes());
        body.extend(b"aZb");
        let End::Prepare(xid) = prepare(&body).unwrap() else { panic!() };
        assert_eq!(xid, Xid::of_statement(" X'615A',X'62',7"));
        assert_ne!(xid, Xid::of_statement("X'615A',X'62',8"));
        body[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
        let End::Prepare(xid) = prepare(&body).unwrap() else { panic!() };
        assert_eq!(xid, Xid::of_statement("X'615a', X'62', 18446744073709551615"));
        assert_eq!(prepare(&[1]), Ok(End::Commit));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..60), text in ".{0,40}") {
            let _ = (prepare(&body), Xid::of_statement(&text));
        }
    }
}
