//! The columns of a row that both sides have: which side each is taken from, or what it adds up to. Pure.
//!
//! * A column with a rule of its own (in a table that is merged by columns: every one) is that side's which changed it,
//!   and where both did, the rule decides. What one of many writes changed and a later one changed back, is no change.
//! * The others are one side's together: the winner's of the row.
//! * An additive column is A's value and what is pending on B; equally B's and what is pending on A, since each side's
//!   value is the common one and what it has of both sides' additions. All that is pending counts, whether it was seen
//!   or not: what the bridge itself added does not undo what an application had added before.
//! * A null has no sum. Where one is on either side, or among the writes, the column is the side's that changed it last.

use std::cmp::Ordering;

use pontoon_core::{Row, Value};

use super::{
    chain::Chain,
    decide::{HalfDone, KeyState, later},
    policy::{ColumnRule, Policy},
};
use crate::side::{Pair, Side};

/// What both nodes shall hold of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The row.
    pub(crate) row: Option<Row>,
    /// Where the columns come from in which the two rows differed, or to which both added; none where it is one side's
    /// row whole.
    pub(crate) taken: Vec<(usize, Taken)>,
    /// The additive columns that came below their floor by being added up.
    pub(crate) crossed: Vec<usize>,
}

/// Where a column's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is this side's.
    From(Side),
    /// Both sides added to it.
    Added,
}

impl Outcome {
    /// A row as it is.
    pub(crate) fn whole(row: Option<Row>) -> Outcome {
        Outcome { row, taken: Vec::new(), crossed: Vec::new() }
    }
}

/// Both sides have the row, and among their writes it neither came nor went: else it is decided as a row.
pub(super) fn is_merged(rows: &Pair<Option<Row>>, chains: &Pair<Chain>) -> bool {
    rows.iter().all(Option::is_some) && !chains.iter().any(Chain::came_or_went)
}

/// Both sides have added to a column, so that equal rows are not what both shall hold.
pub(super) fn both_added(key: &KeyState, policy: &Policy) -> bool {
    is_summed(key)
        && policy.additive().any(|(at, _)| key.pending.iter().all(|of| matches!(of.all.sum(at), Some(Some(_)))))
}

/// Whether additive columns are added up for a key, whatever comes of the rest.
fn is_summed(key: &KeyState) -> bool {
    key.rows.iter().all(Option::is_some) && !key.pending.iter().any(|history| history.all.came_or_went())
}

/// The rows agree in all that is not additive.
pub(super) fn differ_in_sums_alone(rows: &Pair<Option<Row>>, policy: &Policy) -> bool {
    match (&rows[Side::A], &rows[Side::B]) {
        (Some(a), Some(b)) => (0..a.0.len()).all(|at| a.0[at] == b.0[at] || policy.is_additive(at)),
        (a, b) => a == b,
    }
}

/// When a column without a rule of its own was last changed, if any was when all is told.
pub(super) fn rest_changed(chain: &Chain, policy: &Policy) -> Option<i64> {
    let columns = chain.ancestor().map_or(0, |row| row.0.len());
    (0..columns).filter(|at| policy.column(*at).is_none()).filter_map(|at| chain.last_change(at)).max()
}

/// The same of a side of a key that is half done: A has changed what differs from the row that B had.
pub(super) fn rest_since(key: &HalfDone, side: Side, policy: &Policy) -> Option<i64> {
    let changed = rest_changed(&key.since[side], policy);
    match (side, &key.rows[Side::A], &key.base) {
        (Side::A, Some(row), Some(base)) => {
            let mut rest = (0..row.0.len()).filter(|at| policy.column(*at).is_none());
            rest.any(|at| row.0[at] != base.0[at]).then(|| changed.unwrap_or(key.settled_time))
        }
        _ => changed,
    }
}

/// Takes each column of a row from where it belongs.
pub(super) struct Merge<'a> {
    pub(super) policy: &'a Policy,
    /// The side of the higher priority.
    pub(super) preferred: Side,
    /// Whose row stands where no column has a rule.
    pub(super) winner: Side,
    /// Columns are decided each by itself.
    pub(super) contended: bool,
}

/// What is known of one column.
struct Column<'a> {
    at: usize,
    values: Pair<&'a Value>,
    /// When each side changed it, where it did.
    changed: Pair<Option<i64>>,
    /// A's value with what is to be added, and whether both sides add something; `None` where there is no sum.
    total: Option<(Value, bool)>,
}

impl Merge<'_> {
    /// A key of a settlement, of which `chains` contend.
    pub(super) fn decided(&self, key: &KeyState, chains: &Pair<Chain>) -> Outcome {
        let summed = is_summed(key);
        self.outcome(&key.rows, |at, values| {
            let sums = Pair::from_fn(|side| key.pending[side].all.sum(at));
            let changed = Pair::from_fn(|side| chains[side].last_change(at));
            let total = || total(values, sums[Side::B]?, sums[Side::A]?.is_some());
            (changed, if summed { total() } else { None })
        })
    }

    /// A key that is half done: A has changed what differs from the row that B had.
    pub(super) fn completed(&self, key: &HalfDone) -> Outcome {
        let summed = is_merged(&key.rows, &key.since);
        self.outcome(&key.rows, |at, values| {
            let base = key.base.as_ref().and_then(|row| row.0.get(at));
            let own = Some(values[Side::A]) != base;
            let time = key.since[Side::A].last_change(at).unwrap_or(key.settled_time);
            let changed = Pair::new(own.then_some(time), key.since[Side::B].last_change(at));
            let total = || {
                key.since[Side::A].sum(at)?;
                total(values, key.since[Side::B].sum(at)?, own)
            };
            (changed, if summed { total() } else { None })
        })
    }

    fn outcome(
        &self,
        rows: &Pair<Option<Row>>,
        known: impl Fn(usize, Pair<&Value>) -> (Pair<Option<i64>>, Option<(Value, bool)>),
    ) -> Outcome {
        let (Some(a), Some(b)) = (&rows[Side::A], &rows[Side::B]) else {
            return Outcome::whole(rows[self.winner].clone());
        };
        let (mut row, mut taken, mut crossed) = (Vec::with_capacity(a.0.len()), Vec::new(), Vec::new());
        for at in 0..a.0.len() {
            let values = Pair::new(&a.0[at], &b.0[at]);
            let (changed, total) = known(at, values);
            let (value, from) = self.column(&Column { at, values, changed, total });
            if a.0[at] != b.0[at] || from == Taken::Added {
                taken.push((at, from));
            }
            if self.crosses(at, values, &value) {
                crossed.push(at);
            }
            row.push(value);
        }
        let whole = taken.iter().all(|(_, from)| *from == Taken::From(self.winner));
        Outcome { row: Some(Row(row)), taken: if whole { Vec::new() } else { taken }, crossed }
    }

    fn column(&self, column: &Column<'_>) -> (Value, Taken) {
        let from = |side: Side| (column.values[side].clone(), Taken::From(side));
        let rule = self.policy.column(column.at);
        if let (Some(ColumnRule::Additive { .. }), Some((total, both))) = (rule, &column.total) {
            let same = |side: &Side| column.values[*side] == total;
            return match Side::BOTH.into_iter().find(same) {
                Some(side) if !both => from(side),
                _ => (total.clone(), Taken::Added),
            };
        }
        let Some(rule) = rule.filter(|_| self.contended) else { return from(self.winner) };
        match (column.changed[Side::A], column.changed[Side::B]) {
            (None, None) => from(self.winner),
            (Some(_), None) => from(Side::A),
            (None, Some(_)) => from(Side::B),
            (Some(a), Some(b)) => {
                let last = later(a, b, self.preferred).winner();
                from(match rule {
                    ColumnRule::Prefer(side) => *side,
                    ColumnRule::Min => extreme(column.values, Ordering::Less).unwrap_or(last),
                    ColumnRule::Max => extreme(column.values, Ordering::Greater).unwrap_or(last),
                    ColumnRule::LastWriterWins | ColumnRule::Additive { .. } => last,
                })
            }
        }
    }

    /// A sum is below the floor, and neither of the two values was.
    fn crosses(&self, at: usize, values: Pair<&Value>, total: &Value) -> bool {
        let Some(Some(ColumnRule::Additive { floor: Some(floor) })) = self.policy.columns.get(at) else { return false };
        let below = |value: &Value| value.compare(floor) == Some(Ordering::Less);
        below(total) && !below(values[Side::A]) && !below(values[Side::B])
    }
}

/// A's value and what B has added.
fn total(values: Pair<&Value>, theirs: Option<&Value>, ours: bool) -> Option<(Value, bool)> {
    let has_no_sum = |value: &Value| value.exact_text().is_none();
    if values.iter().any(|value| has_no_sum(value)) {
        return None;
    }
    match theirs {
        Some(theirs) => Some((values[Side::A].plus(theirs)?, ours)),
        None => Some((values[Side::A].clone(), false)),
    }
}

/// The side of the lesser or the greater value; a null is none. `None` where neither is.
fn extreme(values: Pair<&Value>, wanted: Ordering) -> Option<Side> {
    match (values[Side::A], values[Side::B]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, _) => Some(Side::B),
        (_, Value::Null) => Some(Side::A),
        (a, b) => match a.compare(b)? {
            Ordering::Equal => None,
            order if order == wanted => Some(Side::A),
            _ => Some(Side::B),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            decide::{Decision, Reason, complete, decide},
            pending::History,
            policy::RowRule,
        },
        *,
    };

    fn values(of: &[i128]) -> Row {
        Row(of.iter().map(|n| Value::Integer(*n)).collect())
    }

    /// A side's writes: each sets columns to values, or adds to the additive ones; from the ancestor on.
    fn written(ancestor: &Row, writes: &[(i64, usize, i128)], policy: &Policy) -> (Row, Chain) {
        let (mut row, mut chain) = (ancestor.clone(), Chain::default());
        for &(time, at, n) in writes {
            let before = row.clone();
            row.0[at] = match policy.is_additive(at) {
                true => row.0[at].plus(&Value::Integer(n)).unwrap(),
                false => Value::Integer(n),
            };
            chain.append(Chain::of(time, Some(before), Some(row.clone()), Some(policy)));
        }
        (row, chain)
    }

    fn state(policy: &Policy, ancestor: &Row, a: &[(i64, usize, i128)], b: &[(i64, usize, i128)]) -> KeyState {
        let ((row_a, a), (row_b, b)) = (written(ancestor, a, policy), written(ancestor, b, policy));
        let history = |chain: Chain| History { all: chain.clone(), unseen: chain, ..History::default() };
        KeyState { rows: Pair::new(Some(row_a), Some(row_b)), pending: Pair::new(history(a), history(b)) }
    }

    /// Column 0 by the row's rule, 1 additive with floor 0, 2 min, 3 max, 4 A's, 5 by its last writer.
    fn policy(row: RowRule) -> Policy {
        let floor = Some(Value::Integer(0));
        let columns = vec![
            None,
            Some(ColumnRule::Additive { floor }),
            Some(ColumnRule::Min),
            Some(ColumnRule::Max),
            Some(ColumnRule::Prefer(Side::A)),
            Some(ColumnRule::LastWriterWins),
        ];
        Policy { columns, ..Policy::of_rows(row) }
    }

    const ANCESTOR: [i128; 6] = [10; 6];

    fn settled(row: RowRule, a: &[(i64, usize, i128)], b: &[(i64, usize, i128)]) -> Decision {
        let policy = policy(row);
        decide(&[state(&policy, &values(&ANCESTOR), a, b)], &policy, Side::A, None)
    }

    #[test]
    fn each_column_goes_to_whoever_changed_it() {
        let merged = settled(RowRule::ColumnMerge, &[(1, 0, 1)], &[(9, 5, 2)]);
        assert_eq!(merged.reason, Reason::Merged(Side::B));
        assert_eq!(merged.keys[0].row, Some(values(&[1, 10, 10, 10, 10, 2])));
        assert_eq!(merged.keys[0].taken, [(0, Taken::From(Side::A)), (5, Taken::From(Side::B))]);
        // The row's rule holds for the first column, the last one has its own.
        let later = settled(RowRule::LastWriterWins, &[(1, 0, 1), (1, 5, 1)], &[(9, 0, 2)]);
        assert_eq!(later.keys[0].row, Some(values(&[2, 10, 10, 10, 10, 1])));
        // Who changed only columns with a rule has no say in the rest.
        for rule in [RowRule::LastWriterWins, RowRule::Prefer(Side::B)] {
            let rest = settled(rule, &[(1, 0, 1)], &[(9, 1, 2)]);
            assert_eq!(
                (rest.reason, &rest.keys[0].row),
                (Reason::OnlyWriter(Side::A), &Some(values(&[1, 12, 10, 10, 10, 10])))
            );
        }
        let preferred = settled(RowRule::Prefer(Side::A), &[(1, 0, 1)], &[(9, 0, 2), (9, 5, 2)]);
        assert_eq!(preferred.keys[0].row, Some(values(&[1, 10, 10, 10, 10, 2])));
    }

    #[test]
    fn where_both_changed_it_the_rule_decides() {
        let all = |time, n: i128| (2..6).map(move |at| (time, at, n)).collect::<Vec<_>>();
        let both = settled(RowRule::ColumnMerge, &all(1, 3), &all(9, 7));
        assert_eq!(both.keys[0].row, Some(values(&[10, 10, 3, 7, 3, 7])));
        let other = settled(RowRule::ColumnMerge, &all(9, 7), &all(1, 3));
        assert_eq!(other.keys[0].row, Some(values(&[10, 10, 3, 7, 7, 7])));
        // What was changed back is no change, and the time of each column is its own.
        let back = settled(RowRule::ColumnMerge, &[(1, 0, 1), (1, 5, 1), (9, 0, 10)], &[(5, 0, 2), (5, 5, 2)]);
        assert_eq!(back.keys[0].row, Some(values(&[2, 10, 10, 10, 10, 2])));
    }

    #[test]
    fn sums_count_whoever_wins_and_say_when_they_cross_the_floor() {
        for rule in [RowRule::LastWriterWins, RowRule::ColumnMerge, RowRule::Prefer(Side::B)] {
            let sum = settled(rule, &[(1, 1, -8), (1, 0, 1)], &[(9, 1, -7), (9, 0, 2)]);
            assert_eq!(sum.keys[0].row, Some(values(&[2, -5, 10, 10, 10, 10])), "{rule:?}");
            assert_eq!(sum.keys[0].crossed, [1]);
            assert!(sum.keys[0].taken.contains(&(1, Taken::Added)));
        }
        let alone = settled(RowRule::LastWriterWins, &[(1, 1, -11)], &[(9, 1, -1)]);
        assert_eq!((alone.reason, alone.keys[0].crossed.len()), (Reason::Added(Side::B), 0));
        let equal = settled(RowRule::LastWriterWins, &[(1, 1, 1)], &[(9, 1, 1)]);
        assert_eq!(equal.keys[0].row, Some(values(&[10, 12, 10, 10, 10, 10])));
    }

    #[test]
    fn columns_with_a_rule_of_their_own_wait_for_no_person() {
        let own = settled(RowRule::Quarantine, &[(1, 2, 3), (1, 5, 1)], &[(9, 2, 7), (9, 5, 2)]);
        assert_eq!(own.reason, Reason::LaterWrite(Side::B));
        assert_eq!(own.keys[0].row, Some(values(&[10, 10, 3, 10, 10, 2])));
        let sums = settled(RowRule::Quarantine, &[(1, 1, 5)], &[(9, 1, 6)]);
        assert_eq!(
            (sums.reason, &sums.keys[0].row),
            (Reason::Added(Side::B), &Some(values(&[10, 21, 10, 10, 10, 10])))
        );
        let rest = settled(RowRule::Quarantine, &[(1, 0, 1)], &[(9, 2, 7)]);
        assert_eq!(
            (rest.reason, &rest.keys[0].row),
            (Reason::OnlyWriter(Side::A), &Some(values(&[1, 10, 7, 10, 10, 10])))
        );
        assert_eq!(settled(RowRule::Quarantine, &[(1, 0, 1)], &[(9, 0, 2)]).reason, Reason::Held);
    }

    #[test]
    fn a_null_is_the_later_writers_and_a_delete_is_decided_as_a_row() {
        let policy = policy(RowRule::LastWriterWins);
        let mut with_null = state(&policy, &values(&ANCESTOR), &[(1, 1, 5)], &[]);
        let mut null = values(&ANCESTOR);
        null.0[1] = Value::Null;
        let chain = Chain::of(9, Some(values(&ANCESTOR)), Some(null.clone()), Some(&policy));
        with_null.pending[Side::B] = History { all: chain.clone(), unseen: chain, ..History::default() };
        with_null.rows[Side::B] = Some(null.clone());
        assert_eq!(decide(&[with_null.clone()], &policy, Side::A, None).keys[0].row, Some(null));
        let gone = Chain::of(9, Some(values(&ANCESTOR)), None, Some(&policy));
        with_null.pending[Side::B] = History { all: gone.clone(), unseen: gone, ..History::default() };
        with_null.rows[Side::B] = None;
        let decision = decide(&[with_null], &policy, Side::A, None);
        assert_eq!((decision.reason, &decision.keys[0].row), (Reason::LaterWrite(Side::B), &None));
    }

    #[test]
    fn a_completion_adds_what_was_written_since() {
        let policy = policy(RowRule::ColumnMerge);
        // B had 10 everywhere; the settlement made 1 of the first column and 12 of the second on A.
        let settled = values(&[1, 12, 10, 10, 10, 10]);
        let (row_b, since_b) = written(&values(&ANCESTOR), &[(5, 1, 4), (5, 5, 3)], &policy);
        let half = HalfDone {
            rows: Pair::new(Some(settled), Some(row_b)),
            since: Pair::new(Chain::default(), since_b),
            base: Some(values(&ANCESTOR)),
            settled_time: 100,
        };
        let done = complete(&[half], &policy, Side::A);
        assert_eq!(done.keys[0].row, Some(values(&[1, 16, 10, 10, 10, 3])));
    }

    proptest! {
        /// Whichever side is called A, both come to the same row; and no addition is lost, whoever wins.
        #[test]
        fn both_sides_merge_alike(
            a in proptest::collection::vec((0i64..5, 0usize..6, -9i128..9), 0..5),
            b in proptest::collection::vec((0i64..5, 0usize..6, -9i128..9), 0..5),
            rule in prop_oneof![Just(RowRule::LastWriterWins), Just(RowRule::ColumnMerge)],
        ) {
            let mut policy = policy(rule);
            policy.columns[4] = None;
            let one = decide(&[state(&policy, &values(&ANCESTOR), &a, &b)], &policy, Side::A, None);
            let other = decide(&[state(&policy, &values(&ANCESTOR), &b, &a)], &policy, Side::B, None);
            prop_assert_eq!(&one.keys[0].row, &other.keys[0].row);
            let added: i128 = a.iter().chain(&b).filter(|(_, at, _)| *at == 1).map(|(_, _, n)| n).sum();
            prop_assert_eq!(&one.keys[0].row.as_ref().unwrap().0[1], &Value::Integer(10 + added));
        }
    }
}
