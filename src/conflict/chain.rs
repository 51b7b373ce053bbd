//! What one side's writes of a key come to: pure, and no larger for a thousand writes than for one.
//!
//! A settlement asks of a side's writes when the last was made, which columns they changed when all is told and when,
//! and what they added to additive columns. None of that needs the writes themselves, so they are folded one after
//! the other, and a row that is written without end does not fill the memory.

use std::collections::BTreeMap;

use pontoon_core::{Row, Value};

use super::policy::Policy;
use crate::direction::plan::is_unmapped;

/// Writes of one key, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    ends: Option<Ends>,
    /// When each column was last changed, where it was.
    changed: Vec<Option<i64>>,
    /// What was added to the additive columns that were changed; `None` where a null was in the way.
    sums: BTreeMap<usize, Option<Value>>,
    came_or_went: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ends {
    /// The row before the first write.
    before: Option<Row>,
    last: Last,
    /// The row after the last write.
    after: Option<Row>,
}

/// The last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    /// In microseconds since 1970 UTC, by the clock of the server where it was first made.
    pub(crate) commit_time: i64,
    /// There was a row before.
    pub(crate) before: bool,
    /// There is one after.
    pub(crate) after: bool,
}

impl Chain {
    /// One write.
    pub(crate) fn of(commit_time: i64, before: Option<Row>, after: Option<Row>, policy: Option<&Policy>) -> Chain {
        let (mut changed, mut sums) = (Vec::new(), BTreeMap::new());
        if let (Some(before), Some(after)) = (&before, &after) {
            let pairs = before.0.iter().zip(&after.0);
            changed = pairs.map(|(before, after)| differ(before, after).then_some(commit_time)).collect();
            for (at, _) in policy.into_iter().flat_map(Policy::additive) {
                if before.0[at] != after.0[at] {
                    sums.insert(at, after.0[at].minus(&before.0[at]));
                }
            }
        }
        let came_or_went = before.is_none() || after.is_none();
        let last = Last { commit_time, before: before.is_some(), after: after.is_some() };
        Chain { ends: Some(Ends { before, last, after }), changed, sums, came_or_went }
    }

    /// Adds writes that came after these.
    pub(crate) fn append(&mut self, later: Chain) {
        let Some(ends) = &mut self.ends else {
            *self = later;
            return;
        };
        let Some(more) = later.ends else { return };
        (ends.last, ends.after) = (more.last, more.after);
        self.changed.resize(self.changed.len().max(later.changed.len()), None);
        for (at, time) in later.changed.iter().enumerate() {
            self.changed[at] = self.changed[at].max(*time);
        }
        for (at, sum) in later.sums {
            let earlier = self.sums.remove(&at);
            let total = match earlier {
                None => sum,
                Some(earlier) => earlier.zip(sum).and_then(|(earlier, sum)| earlier.plus(&sum)),
            };
            self.sums.insert(at, total);
        }
        self.came_or_went |= later.came_or_went;
    }

    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Option<Last> {
        self.ends.as_ref().map(|ends| ends.last)
    }

    /// When the last of them was made.
    pub(crate) fn time(&self) -> Option<i64> {
        self.last().map(|last| last.commit_time)
    }

    /// The row on which the first of them was made.
    pub(crate) fn ancestor(&self) -> Option<&Row> {
        self.ends.as_ref().and_then(|ends| ends.before.as_ref())
    }

    /// Whether the first of them may have been made on top of this row: a value that the log does not have may be any.
    pub(crate) fn was_made_on(&self, row: Option<&Row>) -> bool {
        match (self.ends.as_ref().and_then(|ends| ends.before.as_ref()), row) {
            (Some(before), Some(row)) => {
                before.0.iter().zip(&row.0).all(|(before, value)| *before == Value::Unchanged || before == value)
            }
            (before, row) => before.is_none() && row.is_none(),
        }
    }

    /// The row came or went on the way.
    pub(crate) fn came_or_went(&self) -> bool {
        self.came_or_went
    }

    /// When a column was last changed; `None` where in the end it is what it was.
    pub(crate) fn last_change(&self, at: usize) -> Option<i64> {
        let ends = self.ends.as_ref()?;
        let (before, after) = (ends.before.as_ref()?, ends.after.as_ref()?);
        if differ(before.0.get(at)?, after.0.get(at)?) { self.changed.get(at).copied().flatten() } else { None }
    }

    /// What was added to an additive column: nothing (`Some(None)`), so much, or `None` where a null was in the way.
    pub(crate) fn sum(&self, at: usize) -> Option<Option<&Value>> {
        match self.sums.get(&at) {
            None => Some(None),
            Some(None) => None,
            Some(Some(sum)) => Some((!sum.is_zero()).then_some(sum)),
        }
    }
}

/// Whether a write changed a value: also where it cannot be told.
fn differ(before: &Value, after: &Value) -> bool {
    before != after || is_unmapped(after)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::policy::{ColumnRule, RowRule},
        *,
    };

    /// A policy whose column 1 is additive.
    pub(in crate::conflict) fn additive() -> Policy {
        let rule = ColumnRule::Additive { floor: None };
        Policy { columns: vec![None, Some(rule)], ..Policy::of_rows(RowRule::ColumnMerge) }
    }

    pub(in crate::conflict) fn row(v: i128, n: i128) -> Row {
        Row(vec![Value::Integer(v), Value::Integer(n)])
    }

    fn chain(rows: &[Option<Row>]) -> Chain {
        let mut chain = Chain::default();
        for (time, pair) in rows.windows(2).enumerate() {
            chain.append(Chain::of(time as i64, pair[0].clone(), pair[1].clone(), Some(&additive())));
        }
        chain
    }

    #[test]
    fn the_net_change_counts_and_its_last_time() {
        let there_and_back = chain(&[Some(row(1, 5)), Some(row(2, 5)), Some(row(1, 7)), Some(row(1, 8))]);
        assert_eq!((there_and_back.last_change(0), there_and_back.last_change(1)), (None, Some(2)));
        assert_eq!(there_and_back.sum(1), Some(Some(&Value::Integer(3))));
        assert_eq!(there_and_back.ancestor(), Some(&row(1, 5)));
        assert!(!there_and_back.came_or_went());
        assert_eq!(there_and_back.last(), Some(Last { commit_time: 2, before: true, after: true }));
    }

    #[test]
    fn writes_are_made_on_the_row_before_them() {
        let writes = chain(&[Some(row(1, 5)), Some(row(2, 5)), Some(row(1, 7))]);
        for (found, made_on) in [(Some(row(1, 5)), true), (Some(row(2, 5)), false), (None, false)] {
            assert_eq!(writes.was_made_on(found.as_ref()), made_on, "{found:?}");
        }
        let partly = Row(vec![Value::Integer(1), Value::Unchanged]);
        assert!(chain(&[Some(partly), None]).was_made_on(Some(&row(1, 5))), "the log does not have it");
        let came = chain(&[None, Some(row(1, 5))]);
        assert!(came.was_made_on(None) && !came.was_made_on(Some(&row(1, 5))));
    }

    #[test]
    fn a_null_has_no_sum_and_a_row_that_came_is_no_change() {
        let null = Row(vec![Value::Integer(1), Value::Null]);
        assert_eq!(chain(&[Some(row(1, 5)), Some(null.clone()), Some(row(1, 7))]).sum(1), None);
        assert_eq!(chain(&[Some(null.clone()), Some(null)]).sum(1), Some(None));
        let came = chain(&[None, Some(row(1, 5)), Some(row(2, 6))]);
        assert!(came.came_or_went() && came.last_change(0).is_none());
        assert_eq!(Chain::default().sum(1), Some(None));
    }
}
