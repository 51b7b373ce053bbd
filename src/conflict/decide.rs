//! Which row both nodes shall hold: pure functions over what the two logs and the two rows say.
//!
//! No clock is asked where causality decides: where the rows agree, or where only one side has writes
//! that the other has not seen. Clocks break the tie between writes that truly did not see each other,
//! and node priority breaks the tie between equal clocks, so both sides always decide alike.
//!
//! Where the table leaves it to a person, what clock or preference would decide is held, and nothing is written.
//!
//! A decision is of a row first: whose row stands, and why. Where the row is on both sides, and neither came nor went
//! among the writes, columns with a rule of their own are decided each by itself ([`super::merge`]).

use std::fmt;

use pontoon_core::Row;

use super::{
    chain::Chain,
    lost::DISCARDED,
    merge::{self, Outcome},
    pending::History,
    policy::{Policy, RowRule},
};
use crate::side::{Pair, Side};

/// What is known of one key under its locks.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyState {
    /// The rows at the fences.
    pub(crate) rows: Pair<Option<Row>>,
    /// Local writes that the other node has not got and no resolution covers.
    pub(crate) pending: Pair<History>,
}

/// What both nodes shall hold of keys that stand or fall together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Whose rows stand, and why.
    pub(crate) reason: Reason,
    /// What becomes of each key.
    pub(crate) keys: Vec<Outcome>,
}

impl Decision {
    /// One side's rows, whole.
    fn whole(reason: Reason, rows: impl Iterator<Item = Option<Row>>) -> Decision {
        Decision { reason, keys: rows.map(Outcome::whole).collect() }
    }
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
    /// Column by column; this side's row is that of the later write, and so counts as the winner.
    Merged(Side),
    /// The rows differ in what was added up alone; this side wrote last.
    Added(Side),
    /// The rows differ and no write in either log explains it; the preferred side's stands.
    Drift(Side),
    /// A copy brought this side's row, and the other had none.
    Copied(Side),
    /// An operator had both be as this side is, since no write explained why they differ.
    Repaired(Side),
    /// A settlement that a crash had cut in two was completed; this side's row stands.
    Completed(Side),
    /// An operator had what this side refuses dropped; each side keeps its row.
    Discarded(Side),
    /// An operator chose this side's row.
    Chosen(Side),
    /// A person is to decide: neither row is touched.
    Held,
}

impl Reason {
    /// Whose row is the verdict.
    pub(crate) fn winner(self) -> Side {
        match self {
            Reason::Equal | Reason::Held => Side::A,
            Reason::OnlyWriter(side)
            | Reason::LaterWrite(side)
            | Reason::Priority(side)
            | Reason::Preferred(side)
            | Reason::Merged(side)
            | Reason::Added(side)
            | Reason::Drift(side)
            | Reason::Copied(side)
            | Reason::Repaired(side)
            | Reason::Completed(side)
            | Reason::Discarded(side)
            | Reason::Chosen(side) => side,
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
            Reason::Merged(_) => format!("column_merge, last writer: {name}"),
            Reason::Added(_) => "additive".to_owned(),
            Reason::Drift(_) => format!("drift, no write explains it: {name}"),
            Reason::Copied(_) => format!("copied from {name}"),
            Reason::Repaired(_) => format!("repaired from {name}"),
            Reason::Completed(_) => format!("completed after an interruption: {name}"),
            Reason::Discarded(_) => format!("{DISCARDED}{name} keeps its row"),
            Reason::Chosen(_) => format!("decided by an operator: {name}"),
            Reason::Held => "held".to_owned(),
        }
    }
}

/// Who brings rows that no write in either log explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brought {
    /// A copy, from this side.
    Copy(Side),
    /// An operator who has found that the sides differ and wants both as this one is.
    Repair(Side),
}

/// Decides for keys that stand or fall together: usually one, more where a write moved a row from one
/// key to another. `preferred` is the side with the higher priority; `brought` says where the rows are to come from if no
/// write explains them.
///
/// Where both sides have writes, and on both the bridge's own came after them all, two versions that were each written
/// on top of an absence have crossed on their way. Then a side's row is a version of the other side's, which that side
/// may have deleted since: of the winner it is its own last write that stands, where that was a delete.
pub(crate) fn decide(group: &[KeyState], policy: &Policy, preferred: Side, brought: Option<Brought>) -> Decision {
    let whole = |reason: Reason| Decision::whole(reason, group.iter().map(|key| key.rows[reason.winner()].clone()));
    let equal = group.iter().all(|key| key.rows[Side::A] == key.rows[Side::B]);
    if equal && !group.iter().any(|key| merge::both_added(key, policy)) {
        return whole(Reason::Equal);
    }
    let anything_unseen = group.iter().any(|key| key.pending.iter().any(|history| !history.unseen.is_empty()));
    let chains = |key: &KeyState| {
        Pair::from_fn(|side| {
            let history = &key.pending[side];
            if anything_unseen { history.unseen.clone() } else { history.all.clone() }
        })
    };
    let chains: Vec<Pair<Chain>> = group.iter().map(chains).collect();
    let latest = |side: Side| chains.iter().filter_map(|chains| chains[side].time()).max();
    let as_a_row = group.iter().zip(&chains).any(|(key, chains)| !merge::is_merged(&key.rows, chains));
    let reason = match (latest(Side::A), latest(Side::B)) {
        (None, None) => {
            return whole(match brought {
                Some(Brought::Copy(source)) => arrived(group, policy, preferred, source),
                Some(Brought::Repair(source)) => Reason::Repaired(source),
                None if policy.row == RowRule::Quarantine => Reason::Held,
                None => Reason::Drift(preferred),
            });
        }
        (Some(_), None) => Reason::OnlyWriter(Side::A),
        (None, Some(_)) => Reason::OnlyWriter(Side::B),
        (Some(a), Some(b)) if as_a_row => by_row(a, b, policy, preferred),
        (Some(a), Some(b)) if group.iter().all(|key| merge::differ_in_sums_alone(&key.rows, policy)) => {
            Reason::Added(later(a, b, preferred).winner())
        }
        (Some(a), Some(b)) if policy.row == RowRule::ColumnMerge => Reason::Merged(later(a, b, preferred).winner()),
        (Some(a), Some(b)) => {
            let rest = |side: Side| chains.iter().filter_map(|chains| merge::rest_changed(&chains[side], policy)).max();
            by_rest((a, b), (rest(Side::A), rest(Side::B)), policy, preferred)
        }
    };
    if reason == Reason::Held {
        return whole(reason);
    }
    let both = latest(Side::A).is_some() && latest(Side::B).is_some();
    let (contended, crossed) = (both && !as_a_row, both && !anything_unseen);
    let merge = merge::Merge { policy, preferred, winner: reason.winner(), contended };
    let keys = group.iter().zip(&chains).map(|(key, chains)| match chains[reason.winner()].last() {
        Some(last) if crossed && !last.after => Outcome::whole(None),
        _ => merge.decided(key, chains),
    });
    Decision { reason, keys: keys.collect() }
}

/// Both have written, and one side's row is to stand.
fn by_row(a: i64, b: i64, policy: &Policy, preferred: Side) -> Reason {
    match policy.row {
        RowRule::Prefer(side) => Reason::Preferred(side),
        RowRule::LastWriterWins | RowRule::ColumnMerge => later(a, b, preferred),
        RowRule::Quarantine => Reason::Held,
    }
}

/// Both have written. Columns with a rule of their own are none of the row's rule, and who has changed nothing else has
/// no say in the rest.
fn by_rest((a, b): (i64, i64), rest: (Option<i64>, Option<i64>), policy: &Policy, preferred: Side) -> Reason {
    match rest {
        _ if !policy.is_divided() => by_row(a, b, policy, preferred),
        (None, None) if policy.row == RowRule::Quarantine => later(a, b, preferred),
        (None, None) => by_row(a, b, policy, preferred),
        (Some(_), None) => Reason::OnlyWriter(Side::A),
        (None, Some(_)) => Reason::OnlyWriter(Side::B),
        (Some(a), Some(b)) => by_row(a, b, policy, preferred),
    }
}

/// No write explains why the rows differ: they did before there was a bridge. A copy brings rows that are not
/// there, lets the table's rule choose between two (neither has a time), and takes none away.
fn arrived(group: &[KeyState], policy: &Policy, preferred: Side, source: Side) -> Reason {
    if group.iter().all(|key| key.rows[source].is_none()) {
        return Reason::Equal;
    }
    if group.iter().all(|key| key.rows[source.other()].is_none()) {
        return Reason::Copied(source);
    }
    match policy.row {
        RowRule::Prefer(side) => Reason::Preferred(side),
        RowRule::LastWriterWins | RowRule::ColumnMerge => Reason::Priority(preferred),
        RowRule::Quarantine => Reason::Held,
    }
}

/// Which of two writes counts as the later.
pub(super) fn later(a: i64, b: i64, preferred: Side) -> Reason {
    match a.cmp(&b) {
        std::cmp::Ordering::Greater => Reason::LaterWrite(Side::A),
        std::cmp::Ordering::Less => Reason::LaterWrite(Side::B),
        std::cmp::Ordering::Equal => Reason::Priority(preferred),
    }
}

/// One key of a settlement that is on record on A only.
#[derive(Debug, Clone, Default)]
pub(crate) struct HalfDone {
    /// The rows at the new fences: A's is the settled row or what was made of it.
    pub(crate) rows: Pair<Option<Row>>,
    /// Local writes since the old fences, those after the bridge's own last write.
    pub(crate) since: Pair<Chain>,
    /// B's row at the old fence, from the record on A.
    pub(crate) base: Option<Row>,
    /// The latest commit time of the writes that had been settled.
    pub(crate) settled_time: i64,
}

/// Completes a settlement: A's settled row, with what B wrote since its old fence.
pub(crate) fn complete(group: &[HalfDone], policy: &Policy, preferred: Side) -> Decision {
    let whole = |side: Side| Decision::whole(Reason::Completed(side), group.iter().map(|key| key.rows[side].clone()));
    let last = |side: Side| group.iter().filter_map(|key| key.since[side].time()).max();
    let Some(theirs) = last(Side::B) else { return whole(Side::A) };
    let mine = last(Side::A);
    if mine.is_none() && group.iter().all(|key| key.rows[Side::A] == key.base) {
        // What B wrote was written on top of the settled row.
        return whole(Side::B);
    }
    let mine = mine.or_else(|| group.iter().map(|key| key.settled_time).max()).unwrap_or(i64::MIN);
    let contended = group.iter().all(|key| key.base.is_some() && merge::is_merged(&key.rows, &key.since));
    let winner = if contended {
        let rest = Pair::from_fn(|side| group.iter().filter_map(|key| merge::rest_since(key, side, policy)).max());
        by_rest((mine, theirs), (rest[Side::A], rest[Side::B]), policy, preferred)
    } else {
        by_row(mine, theirs, policy, preferred)
    };
    if winner == Reason::Held {
        // Both have come to the same row: there is nothing to decide.
        let equal = group.iter().all(|key| key.rows[Side::A] == key.rows[Side::B]);
        if equal && policy.additive().next().is_none() {
            return whole(Side::A);
        }
        return Decision::whole(winner, group.iter().map(|key| key.rows[Side::A].clone()));
    }
    let winner = winner.winner();
    let merge = merge::Merge { policy, preferred, winner, contended };
    Decision { reason: Reason::Completed(winner), keys: group.iter().map(|key| merge.completed(key)).collect() }
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;
    use proptest::prelude::*;

    use super::*;

    fn row(n: i64) -> Option<Row> {
        Some(Row(vec![Value::Integer(n.into())]))
    }

    /// Writes at these times that come to the row `n`.
    fn chain(n: i64, times: &[i64]) -> Chain {
        let mut chain = Chain::default();
        for &time in times {
            chain.append(Chain::of(time, row(0), row(n), None));
        }
        chain
    }

    fn history(n: i64, times: &[i64], seen: usize) -> History {
        History { all: chain(n, times), unseen: chain(n, &times[seen..]), ..History::default() }
    }

    fn key_with(a: i64, b: i64, times_a: &[i64], times_b: &[i64], seen: (usize, usize)) -> KeyState {
        let pending = Pair::new(history(a, times_a, seen.0), history(b, times_b, seen.1));
        KeyState { rows: Pair::new(row(a), row(b)), pending }
    }

    fn key(a: i64, b: i64, times_a: &[i64], times_b: &[i64]) -> KeyState {
        key_with(a, b, times_a, times_b, (0, 0))
    }

    fn lww() -> Policy {
        Policy::of_rows(RowRule::LastWriterWins)
    }

    fn reason(group: &[KeyState], preferred: Side) -> Reason {
        decide(group, &lww(), preferred, None).reason
    }

    #[test]
    fn causality_decides_before_clocks() {
        assert_eq!(reason(&[key(1, 1, &[5], &[9])], Side::A), Reason::Equal);
        assert_eq!(reason(&[key(1, 2, &[5], &[])], Side::B), Reason::OnlyWriter(Side::A));
        assert_eq!(reason(&[key_with(1, 2, &[99], &[5], (1, 0))], Side::A), Reason::OnlyWriter(Side::B));
    }

    #[test]
    fn clocks_then_priority_break_ties() {
        assert_eq!(reason(&[key(1, 2, &[5], &[9])], Side::A), Reason::LaterWrite(Side::B));
        assert_eq!(reason(&[key(1, 2, &[9], &[9])], Side::B), Reason::Priority(Side::B));
        let preferring = Policy::of_rows(RowRule::Prefer(Side::B));
        let preferred = decide(&[key(1, 2, &[9], &[1])], &preferring, Side::A, None);
        assert_eq!((preferred.reason, &preferred.keys[0].row), (Reason::Preferred(Side::B), &row(2)));
        assert_eq!(reason(&[key(1, 2, &[], &[])], Side::B), Reason::Drift(Side::B));
    }

    #[test]
    fn a_repair_takes_nothing_back_that_was_written() {
        let repair = |key: KeyState| decide(&[key], &lww(), Side::A, Some(Brought::Repair(Side::B)));
        let none = KeyState { rows: Pair::new(row(1), None), ..KeyState::default() };
        for (key, reason, stands) in [
            (key(1, 2, &[], &[]), Reason::Repaired(Side::B), row(2)),
            (none, Reason::Repaired(Side::B), None),
            (key(1, 2, &[5], &[]), Reason::OnlyWriter(Side::A), row(1)),
            (key(1, 2, &[9], &[5]), Reason::LaterWrite(Side::A), row(1)),
            (key(1, 1, &[], &[]), Reason::Equal, row(1)),
        ] {
            let decided = repair(key);
            assert_eq!((decided.reason, &decided.keys[0].row), (reason, &stands));
        }
    }

    #[test]
    fn what_clock_or_preference_would_decide_is_held_for_a_person() {
        let policy = Policy::of_rows(RowRule::Quarantine);
        let reason = |key: KeyState, arriving| decide(&[key], &policy, Side::A, arriving).reason;
        assert_eq!(reason(key(1, 2, &[5], &[9]), None), Reason::Held);
        assert_eq!(reason(key_with(1, 2, &[7], &[5], (1, 1)), None), Reason::Held);
        assert_eq!(reason(key(1, 2, &[], &[]), None), Reason::Held);
        assert_eq!(reason(key(1, 2, &[], &[]), Some(Brought::Copy(Side::A))), Reason::Held);
        // What is no contention is settled as ever.
        assert_eq!(reason(key(1, 1, &[5], &[9]), None), Reason::Equal);
        assert_eq!(reason(key(1, 2, &[5], &[]), None), Reason::OnlyWriter(Side::A));
        assert_eq!(reason(key_with(1, 2, &[99], &[5], (1, 0)), None), Reason::OnlyWriter(Side::B));
        let arrives = KeyState { rows: Pair::new(row(1), None), ..KeyState::default() };
        assert_eq!(reason(arrives, Some(Brought::Copy(Side::A))), Reason::Copied(Side::A));
        // Nor is anything decided by clocks in completing what a crash had cut in two.
        let half = |since_b: &[i64], base: i64| HalfDone {
            rows: Pair::new(row(1), row(2)),
            since: Pair::new(Chain::default(), chain(2, since_b)),
            base: row(base),
            settled_time: 7,
        };
        let completed = |half: HalfDone| complete(&[half], &policy, Side::A).reason;
        assert_eq!(completed(half(&[], 0)), Reason::Completed(Side::A));
        assert_eq!(completed(half(&[9], 1)), Reason::Completed(Side::B));
        assert_eq!(completed(half(&[9], 0)), Reason::Held);
    }

    #[test]
    fn all_seen_on_both_sides_contend_again() {
        assert_eq!(reason(&[key_with(1, 2, &[7], &[5], (1, 1))], Side::B), Reason::LaterWrite(Side::A));
    }

    #[test]
    fn of_versions_that_crossed_none_stands_that_its_side_has_deleted() {
        let crossed = |deleted: Pair<bool>, seen: usize| {
            let mut both = key_with(1, 2, &[7], &[5], (1, 1));
            for (side, time) in [(Side::A, 7), (Side::B, 5)] {
                let after = both.rows[side].clone().filter(|_| !deleted[side]);
                both.pending[side].all = Chain::of(time, row(0), after, None);
            }
            if seen == 0 {
                both.pending[Side::A].unseen = both.pending[Side::A].all.clone();
            }
            decide(&[both], &lww(), Side::A, None)
        };
        assert_eq!(crossed(Pair::new(false, false), 1).keys[0].row, row(1));
        assert_eq!(crossed(Pair::new(true, false), 1).keys[0].row, None);
        assert_eq!(crossed(Pair::new(false, true), 1).keys[0].row, row(1));
        let one_is_new = crossed(Pair::new(true, true), 0);
        assert_eq!((one_is_new.reason, &one_is_new.keys[0].row), (Reason::OnlyWriter(Side::A), &row(1)));
    }

    #[test]
    fn a_moved_row_stands_or_falls_as_one() {
        let gone = |time| Chain::of(time, row(0), None, None);
        let old = KeyState {
            rows: Pair::new(None, row(2)),
            pending: Pair::new(History { all: gone(5), unseen: gone(5), ..History::default() }, history(2, &[9], 0)),
        };
        let new =
            KeyState { rows: Pair::new(row(1), None), pending: Pair::new(history(1, &[5], 0), History::default()) };
        for policy in [lww(), Policy::of_rows(RowRule::ColumnMerge)] {
            let decision = decide(&[old.clone(), new.clone()], &policy, Side::A, None);
            assert_eq!(decision.reason, Reason::LaterWrite(Side::B));
            assert_eq!(decision.keys.iter().map(|key| key.row.clone()).collect::<Vec<_>>(), [row(2), None]);
        }
    }

    #[test]
    fn completion_keeps_what_was_written_on_top() {
        let half = |a, since_b: &[i64], base| HalfDone {
            rows: Pair::new(row(a), row(9)),
            since: Pair::new(Chain::default(), chain(9, since_b)),
            base: row(base),
            settled_time: 100,
        };
        let winner = |half: HalfDone, preferred| complete(&[half], &lww(), preferred).reason.winner();
        assert_eq!(winner(half(1, &[], 2), Side::A), Side::A);
        assert_eq!(winner(half(2, &[1], 2), Side::A), Side::B);
        assert_eq!(winner(half(1, &[50], 2), Side::B), Side::A);
        assert_eq!(winner(half(1, &[150], 2), Side::A), Side::B);
    }

    proptest! {
        #[test]
        fn both_sides_decide_alike(
            a in 0i64..3, b in 0i64..3,
            times_a in proptest::collection::vec(0i64..5, 0..4), times_b in proptest::collection::vec(0i64..5, 0..4),
            seen_a in 0usize..4, seen_b in 0usize..4,
        ) {
            let seen = (seen_a.min(times_a.len()), seen_b.min(times_b.len()));
            let state = key_with(a, b, &times_a, &times_b, seen);
            let mirrored = key_with(b, a, &times_b, &times_a, (seen.1, seen.0));
            let one = decide(&[state], &lww(), Side::A, None);
            let other = decide(&[mirrored], &lww(), Side::B, None);
            prop_assert_eq!(&one.keys[0].row, &other.keys[0].row);
        }
    }
}
