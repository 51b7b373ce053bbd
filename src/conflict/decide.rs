//! Which row both nodes shall hold: pure functions over what the two logs and the two rows say.
//!
//! No clock is asked where causality decides: where the rows agree, or where only one side has writes
//! that the other has not seen. Clocks break the tie between writes that truly did not see each other,
//! and node priority breaks the tie between equal clocks, so both sides always decide alike.

use std::fmt;

use pontoon_core::Row;

use super::pending::{History, Write};
use crate::side::{Pair, Side};

/// The rule that settles a table's conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The later write wins, by its commit time; of equal times, that of the preferred node.
    LastWriterWins,
    /// This node's write wins.
    Prefer(Side),
}

/// What is known of one key under its locks.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyState {
    /// The rows at the fences.
    pub(crate) rows: Pair<Option<Row>>,
    /// Local writes that the other node has not got and no resolution covers.
    pub(crate) pending: Pair<History>,
}

/// Why a verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Both nodes hold the same row already.
    Equal,
    /// Only this side has writes that the other has not seen.
    OnlyWriter(Side),
    /// This side wrote last.
    LaterWrite(Side),
    /// Both wrote at the same time; this side has the higher priority.
    Priority(Side),
    /// The table prefers this side.
    Preferred(Side),
    /// The rows differ and no write in either log explains it; the preferred side's stands.
    Drift(Side),
    /// A copy brought this side's row, and the other had none.
    Copied(Side),
    /// A settlement that a crash had cut in two was completed; this side's row stands.
    Completed(Side),
    /// An operator had what this side refuses dropped; each side keeps its row.
    Discarded(Side),
}

impl Reason {
    /// Whose row is the verdict.
    pub(crate) fn winner(self) -> Side {
        match self {
            Reason::Equal => Side::A,
            Reason::OnlyWriter(side)
            | Reason::LaterWrite(side)
            | Reason::Priority(side)
            | Reason::Preferred(side)
            | Reason::Drift(side)
            | Reason::Copied(side)
            | Reason::Completed(side)
            | Reason::Discarded(side) => side,
        }
    }

    /// The reason in the words of the record.
    pub(crate) fn text(self, names: &Pair<String>) -> impl fmt::Display {
        let name = &names[self.winner()];
        match self {
            Reason::Equal => "equal".to_owned(),
            Reason::OnlyWriter(_) => format!("only_writer: {name}"),
            Reason::LaterWrite(_) => format!("last_writer_wins: {name}"),
            Reason::Priority(_) => format!("last_writer_wins, equal times, priority: {name}"),
            Reason::Preferred(_) => format!("prefer: {name}"),
            Reason::Drift(_) => format!("drift, no write explains it: {name}"),
            Reason::Copied(_) => format!("copied from {name}"),
            Reason::Completed(_) => format!("completed after an interruption: {name}"),
            Reason::Discarded(_) => format!("discarded by an operator: {name} keeps its row"),
        }
    }
}

/// Whether both sides have writes, and on both the bridge's own came after them all: two versions that were each
/// written on top of an absence crossed on their way. Then a side's row is a version of the other side's, which that
/// side may have deleted since: of the winner it is its own last write that stands, where that was a delete.
pub(crate) fn have_crossed(group: &[KeyState]) -> bool {
    Side::BOTH.into_iter().all(|side| last_time(group, side, true).is_none() && last_time(group, side, false).is_some())
}

/// The row of the winner's side: as it is at the fence, or as it was made by its last write.
pub(crate) fn row_of(key: &KeyState, winner: Side, crossed: bool) -> Option<Row> {
    let deleted = key.pending[winner].writes.last().is_some_and(|write| !write.after);
    if crossed && deleted { None } else { key.rows[winner].clone() }
}

/// Decides for keys that stand or fall together: usually one, more where a write moved a row from one
/// key to another. `preferred` is the side with the higher priority; `arriving` the one that a copy brings the
/// rows from.
pub(crate) fn decide(group: &[KeyState], policy: Policy, preferred: Side, arriving: Option<Side>) -> Reason {
    if group.iter().all(|key| key.rows[Side::A] == key.rows[Side::B]) {
        return Reason::Equal;
    }
    let unseen = Pair::from_fn(|side| last_time(group, side, true));
    let latest = match (unseen[Side::A], unseen[Side::B]) {
        (None, None) => Pair::from_fn(|side| last_time(group, side, false)),
        _ => unseen,
    };
    match (latest[Side::A], latest[Side::B]) {
        (None, None) => arriving.map_or(Reason::Drift(preferred), |source| arrived(group, policy, preferred, source)),
        (Some(_), None) => Reason::OnlyWriter(Side::A),
        (None, Some(_)) => Reason::OnlyWriter(Side::B),
        (Some(a), Some(b)) => match policy {
            Policy::Prefer(side) => Reason::Preferred(side),
            Policy::LastWriterWins => later(a, b, preferred),
        },
    }
}

/// No write explains why the rows differ: they did before there was a bridge. A copy brings rows that are not
/// there, lets the table's rule choose between two (neither has a time), and takes none away.
fn arrived(group: &[KeyState], policy: Policy, preferred: Side, source: Side) -> Reason {
    if group.iter().all(|key| key.rows[source].is_none()) {
        return Reason::Equal;
    }
    if group.iter().all(|key| key.rows[source.other()].is_none()) {
        return Reason::Copied(source);
    }
    match policy {
        Policy::Prefer(side) => Reason::Preferred(side),
        Policy::LastWriterWins => Reason::Priority(preferred),
    }
}

fn later(a: i64, b: i64, preferred: Side) -> Reason {
    match a.cmp(&b) {
        std::cmp::Ordering::Greater => Reason::LaterWrite(Side::A),
        std::cmp::Ordering::Less => Reason::LaterWrite(Side::B),
        std::cmp::Ordering::Equal => Reason::Priority(preferred),
    }
}

fn last_time(group: &[KeyState], side: Side, unseen: bool) -> Option<i64> {
    let last = |key: &KeyState| {
        let history = &key.pending[side];
        let from = if unseen { history.seen } else { 0 };
        history.writes[from..].last().map(|write| write.commit_time)
    };
    group.iter().filter_map(last).max()
}

/// One key of a settlement that is on record on A only.
#[derive(Debug, Clone, Default)]
pub(crate) struct HalfDone {
    /// The rows at the new fences: A's is the settled row or what was made of it.
    pub(crate) rows: Pair<Option<Row>>,
    /// Local writes since the old fences, those after the bridge's own last write.
    pub(crate) since: Pair<Vec<Write>>,
    /// B's row at the old fence, from the record on A.
    pub(crate) base: Option<Row>,
    /// The latest commit time of the writes that had been settled.
    pub(crate) settled_time: i64,
}

/// Completes a settlement: A's settled row, or what B wrote since its old fence.
pub(crate) fn complete(group: &[HalfDone], policy: Policy, preferred: Side) -> Reason {
    let last = |side: Side| group.iter().filter_map(|key| key.since[side].last()).map(|write| write.commit_time).max();
    let Some(theirs) = last(Side::B) else { return Reason::Completed(Side::A) };
    let mine = last(Side::A);
    if mine.is_none() && group.iter().all(|key| key.rows[Side::A] == key.base) {
        // What B wrote was written on top of the settled row.
        return Reason::Completed(Side::B);
    }
    let mine = mine.or_else(|| group.iter().map(|key| key.settled_time).max()).unwrap_or(i64::MIN);
    let winner = match policy {
        Policy::Prefer(side) => side,
        Policy::LastWriterWins => later(mine, theirs, preferred).winner(),
    };
    Reason::Completed(winner)
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Position, Value};
    use proptest::prelude::*;

    use super::*;

    fn row(n: i64) -> Option<Row> {
        Some(Row(vec![Value::Integer(n.into())]))
    }

    fn history(times: &[i64], seen: usize) -> History {
        let write =
            |&commit_time: &i64| Write { position: Position::Index(0), commit_time, before: false, after: true };
        History { writes: times.iter().map(write).collect(), seen, own: None }
    }

    fn key(a: i64, b: i64, times_a: &[i64], times_b: &[i64]) -> KeyState {
        KeyState { rows: Pair::new(row(a), row(b)), pending: Pair::new(history(times_a, 0), history(times_b, 0)) }
    }

    const LWW: Policy = Policy::LastWriterWins;

    #[test]
    fn causality_decides_before_clocks() {
        assert_eq!(decide(&[key(1, 1, &[5], &[9])], LWW, Side::A, None), Reason::Equal);
        assert_eq!(decide(&[key(1, 2, &[5], &[])], LWW, Side::B, None), Reason::OnlyWriter(Side::A));
        let mut seen = key(1, 2, &[99], &[5]);
        seen.pending[Side::A].seen = 1;
        assert_eq!(decide(&[seen], LWW, Side::A, None), Reason::OnlyWriter(Side::B));
    }

    #[test]
    fn clocks_then_priority_break_ties() {
        assert_eq!(decide(&[key(1, 2, &[5], &[9])], LWW, Side::A, None), Reason::LaterWrite(Side::B));
        assert_eq!(decide(&[key(1, 2, &[9], &[9])], LWW, Side::B, None), Reason::Priority(Side::B));
        assert_eq!(
            decide(&[key(1, 2, &[9], &[1])], Policy::Prefer(Side::B), Side::A, None),
            Reason::Preferred(Side::B)
        );
        assert_eq!(decide(&[key(1, 2, &[], &[])], LWW, Side::B, None), Reason::Drift(Side::B));
    }

    #[test]
    fn all_seen_on_both_sides_contend_again() {
        let mut both = key(1, 2, &[7], &[5]);
        both.pending[Side::A].seen = 1;
        both.pending[Side::B].seen = 1;
        assert_eq!(decide(&[both], LWW, Side::B, None), Reason::LaterWrite(Side::A));
    }

    #[test]
    fn of_versions_that_crossed_none_stands_that_its_side_has_deleted() {
        let crossed = |deleted: Pair<bool>| {
            let mut both = key(1, 2, &[7], &[5]);
            for side in Side::BOTH {
                both.pending[side].seen = 1;
                both.pending[side].writes[0].after = !deleted[side];
            }
            both
        };
        let neither = crossed(Pair::new(false, false));
        assert!(have_crossed(std::slice::from_ref(&neither)));
        assert_eq!(row_of(&neither, Side::A, true), row(1));
        assert_eq!(row_of(&crossed(Pair::new(true, false)), Side::A, true), None);
        assert_eq!(row_of(&crossed(Pair::new(false, true)), Side::A, true), row(1));
        let mut one_is_new = crossed(Pair::new(true, true));
        one_is_new.pending[Side::B].seen = 0;
        assert!(!have_crossed(std::slice::from_ref(&one_is_new)));
        assert_eq!(row_of(&one_is_new, Side::A, false), row(1));
        assert!(!have_crossed(&[key(1, 2, &[], &[])]));
    }

    #[test]
    fn a_moved_row_stands_or_falls_as_one() {
        let old = KeyState { rows: Pair::new(None, row(2)), pending: Pair::new(history(&[5], 0), history(&[9], 0)) };
        let new = KeyState { rows: Pair::new(row(1), None), pending: Pair::new(history(&[5], 0), history(&[], 0)) };
        assert_eq!(decide(&[old, new], LWW, Side::A, None), Reason::LaterWrite(Side::B));
    }

    #[test]
    fn completion_keeps_what_was_written_on_top() {
        let half = |a, since_b: &[i64], base| HalfDone {
            rows: Pair::new(row(a), row(9)),
            since: Pair::new(Vec::new(), history(since_b, 0).writes),
            base: row(base),
            settled_time: 100,
        };
        assert_eq!(complete(&[half(1, &[], 2)], LWW, Side::A).winner(), Side::A);
        assert_eq!(complete(&[half(2, &[1], 2)], LWW, Side::A).winner(), Side::B);
        assert_eq!(complete(&[half(1, &[50], 2)], LWW, Side::B).winner(), Side::A);
        assert_eq!(complete(&[half(1, &[150], 2)], LWW, Side::A).winner(), Side::B);
    }

    proptest! {
        #[test]
        fn both_sides_decide_alike(
            a in 0i64..3, b in 0i64..3,
            times_a in proptest::collection::vec(0i64..5, 0..4), times_b in proptest::collection::vec(0i64..5, 0..4),
            seen_a in 0usize..4, seen_b in 0usize..4,
        ) {
            let mut state = key(a, b, &times_a, &times_b);
            state.pending[Side::A].seen = seen_a.min(times_a.len());
            state.pending[Side::B].seen = seen_b.min(times_b.len());
            let mirrored = KeyState {
                rows: Pair::new(state.rows[Side::B].clone(), state.rows[Side::A].clone()),
                pending: Pair::new(state.pending[Side::B].clone(), state.pending[Side::A].clone()),
            };
            let one = decide(&[state.clone()], LWW, Side::A, None);
            let other = decide(std::slice::from_ref(&mirrored), LWW, Side::B, None);
            prop_assert_eq!(&state.rows[one.winner()], &mirrored.rows[other.winner()]);
        }
    }
}
