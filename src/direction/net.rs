//! What a run does to one key, and which rows of the target it takes: pure.
//!
//! A row that is not as the change was made on is a conflict. An additive column takes no part in that: what an update
//! added to it is added to whatever the target has, so that both sides may add at once and none waits for the other.
//!
//! * An update that adds nothing to such a column leaves it alone. One that makes a null of it, or a number of a null,
//!   has no sum: the column is compared and set like any other.
//! * An update that does nothing but add compares nothing but the key: what it adds counts whatever else was written
//!   meanwhile. So it tells nothing of the rest either: the bridge's own write of one supersedes nothing (rule `Seen`).
//! * Several updates of a key link also where the other side's additions lie between them, as long as all else is as the
//!   one left it and the next found it; then it is their sums that count, and not the first row and the last.
//! * A delete takes the whole row along, with all that was ever added: it compares every column (rule `Delete`).
//! * Where an addition brings the target below the column's floor and the source had not come below it, both sides
//!   together have: that is left to a settlement, which puts it on record.

use std::{borrow::Cow, cmp::Ordering};

use pontoon_core::{Code, Error, Key, MappedTable, Result, Row, Value, decimal, node::Sum};

use super::plan;
use crate::conflict::policy::Policy;

/// From the row that must be there to the row that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
    /// What was added to additive columns, where it is not what the two rows differ by.
    sums: Vec<(usize, Value)>,
}

/// Which columns an update writes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) changed: Vec<usize>,
    pub(crate) sums: Vec<Sum>,
}

impl Net {
    /// One change.
    pub(crate) fn new(before: Option<Row>, after: Option<Row>) -> Net {
        Net { before, after, sums: Vec::new() }
    }

    /// Adds what is done to the key next, or gives it back: it was not done on top of this.
    pub(crate) fn link(&mut self, next: Net, policy: Option<&Policy>) -> Result<(), Net> {
        let sums = match self.after == next.before && self.sums.is_empty() {
            true => Vec::new(),
            false => match policy.and_then(|policy| self.summed(&next, policy)) {
                Some(sums) => sums,
                None => return Err(next),
            },
        };
        (self.after, self.sums) = (next.after, sums);
        Ok(())
    }

    /// What this update and the next one add, where they agree on all that is not additive.
    fn summed(&self, next: &Net, policy: &Policy) -> Option<Vec<(usize, Value)>> {
        let (left, found) = (self.after.as_ref()?, next.before.as_ref()?);
        if self.before.is_none() || next.after.is_none() {
            return None;
        }
        let agree = |at: usize| left.0[at] == found.0[at] || policy.is_additive(at);
        if !(0..left.0.len()).all(agree) {
            return None;
        }
        policy.additive().map(|(at, _)| Some((at, self.sum(at)?.plus(&next.sum(at)?)?))).collect()
    }

    /// What an update adds to a column; `None` where there is no sum.
    fn sum(&self, at: usize) -> Option<Value> {
        if let Some((_, sum)) = self.sums.iter().find(|(column, _)| *column == at) {
            return Some(sum.clone());
        }
        self.after.as_ref()?.0[at].minus(&self.before.as_ref()?.0[at])
    }

    /// The additive columns of an update, but for those that have no sum.
    fn sums(&self, before: &Row, after: &Row, policy: Option<&Policy>) -> Vec<Sum> {
        let mut sums = Vec::new();
        for (at, floor) in policy.into_iter().flat_map(Policy::additive) {
            let sum = self.sum(at);
            let added = sum.as_ref().is_some_and(|sum| !sum.is_zero());
            if sum.is_some() || before.0[at] == after.0[at] {
                let floor = floor.filter(|floor| added && self.may_cross(after, at, floor)).cloned();
                sums.push(Sum { at, added, floor });
            }
        }
        sums
    }

    /// Which columns an update writes.
    fn shape(&self, before: &Row, after: &Row, policy: Option<&Policy>) -> Shape {
        let mut sums = self.sums(before, after, policy);
        let changed = (0..after.0.len()).filter(|&at| before.0[at] != after.0[at] && Sum::spare(&sums, at));
        let changed: Vec<usize> = changed.collect();
        if changed.is_empty() && sums.iter().any(|sum| sum.added) {
            let rest: Vec<usize> = (0..after.0.len()).filter(|&at| Sum::spare(&sums, at)).collect();
            sums.extend(rest.into_iter().map(|at| Sum { at, added: false, floor: None }));
        }
        Shape { changed, sums }
    }

    /// Something is taken away from a column that its own side has not below the floor by that.
    fn may_cross(&self, after: &Row, at: usize, floor: &Value) -> bool {
        let is_less = |sum: Value| sum.exact_text().is_some_and(|text| text.starts_with('-'));
        self.sum(at).is_some_and(is_less) && after.0[at].compare(floor) != Some(Ordering::Less)
    }

    /// Nothing but additive columns is written.
    pub(crate) fn only_adds(&self, policy: Option<&Policy>) -> bool {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return false };
        let shape = self.shape(before, after, policy);
        shape.changed.is_empty() && shape.sums.iter().any(|sum| sum.added)
    }

    /// An update as a statement has it: what it writes, and the row after with what is added in the place of what there
    /// is. `None` where nothing is written.
    pub(crate) fn update(&self, policy: Option<&Policy>) -> Option<(Shape, Row)> {
        let (before, after) = (self.before.as_ref()?, self.after.as_ref()?);
        let shape = self.shape(before, after, policy);
        let added = shape.sums.iter().filter(|sum| sum.added);
        if shape.changed.is_empty() && added.clone().next().is_none() {
            return None;
        }
        let mut after = after.clone();
        for sum in added {
            after.0[sum.at] = self.sum(sum.at)?;
        }
        Some((shape, after))
    }

    /// Whether a row of the target is one that this can be done to: what the statements of a session look at too.
    pub(crate) fn takes(&self, row: Option<&Row>, policy: Option<&Policy>) -> bool {
        let (Some(before), Some(after), Some(row)) = (&self.before, &self.after, row) else {
            return self.before.as_ref() == row;
        };
        let shape = self.shape(before, after, policy);
        let adds = |sum: &Sum| self.sum(sum.at).and_then(|added| sum.total(&row.0[sum.at], &added)).is_some();
        (0..row.0.len()).filter(|&at| Sum::spare(&shape.sums, at)).all(|at| row.0[at] == before.0[at])
            && shape.sums.iter().filter(|sum| sum.added).all(adds)
    }

    /// Whether the target can hold what is written, asked before the server is, since a server may round in silence.
    pub(crate) fn fits(
        &self,
        table: &MappedTable,
        policy: Option<&Policy>,
        key: &Key,
        place: &impl std::fmt::Display,
    ) -> Result<()> {
        let mut after = self.after.as_ref().map(Cow::Borrowed);
        if let (Some(before), Some(row)) = (&self.before, &mut after) {
            for sum in self.sums(before, row, policy) {
                let column = &table.columns[sum.at];
                let added = self.sum(sum.at).filter(|_| sum.added);
                if let Some(why) = added.and_then(|sum| column.kind.fits(&fraction(&sum)).err()) {
                    let name = &column.column.name;
                    let message =
                        format!("{} key ({key}) column {name} at {place}: what is added has {why}", table.label);
                    return Err(Error::new(Code::ValueMisfit, message).hint("widen the column on the target"));
                }
                // What it comes to there only the target knows; what is left alone is what it is.
                row.to_mut().0[sum.at] = before.0[sum.at].clone();
            }
        }
        plan::fits(table, key, (self.before.as_ref(), after.as_deref()), place)
    }
}

/// What a number has behind the point.
fn fraction(number: &Value) -> Value {
    match number {
        Value::Decimal(text) if decimal::scale(text) > 0 => {
            let digits = text.split_once('.').map_or("0", |(_, digits)| digits);
            Value::Decimal(format!("0.{digits}").into())
        }
        Value::Decimal(_) => Value::Decimal("0".into()),
        _ => Value::Integer(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conflict::policy::{ColumnRule, RowRule};

    fn policy(floor: Option<i128>) -> Policy {
        let rule = ColumnRule::Additive { floor: floor.map(Value::Integer) };
        Policy { columns: vec![None, None, Some(rule)], ..Policy::of_rows(RowRule::LastWriterWins) }
    }

    fn row(v: i128, n: i128) -> Row {
        Row([1, v, n].map(Value::Integer).to_vec())
    }

    fn null(v: i128) -> Row {
        Row(vec![Value::Integer(1), Value::Integer(v), Value::Null])
    }

    fn update(before: Row, after: Row) -> Net {
        Net::new(Some(before), Some(after))
    }

    fn takes(net: &Net, row: Row, floor: Option<i128>) -> bool {
        net.takes(Some(&row), Some(&policy(floor)))
    }

    #[test]
    fn what_was_added_is_added_to_whatever_there_is() {
        let net = update(row(1, 5), row(2, 3));
        let (shape, after) = net.update(Some(&policy(None))).unwrap();
        assert_eq!((shape.changed, after), (vec![1], row(2, -2)));
        assert!(!net.only_adds(Some(&policy(None))));
        assert!(takes(&net, row(1, 99), None) && !takes(&net, row(3, 5), None) && !takes(&net, null(1), None));
        let other = update(row(1, 5), row(2, 5));
        assert!(takes(&other, row(1, 99), None) && takes(&other, null(1), None));
        assert!(update(row(1, 5), row(1, 5)).update(Some(&policy(None))).is_none());
        let adds = update(row(1, 5), row(1, 6));
        assert!(adds.only_adds(Some(&policy(None))) && takes(&adds, row(7, 7), None) && !takes(&adds, null(7), None));
        assert!(!adds.takes(None, Some(&policy(None))));
        // Without a policy it is a column like any other.
        assert!(!net.takes(Some(&row(1, 99)), None));
    }

    #[test]
    fn a_null_is_compared_and_so_is_a_row_that_goes() {
        for net in [update(row(1, 5), null(1)), Net::new(Some(row(1, 5)), None)] {
            assert!(takes(&net, row(1, 5), None) && !takes(&net, row(1, 6), None));
        }
        let net = update(null(1), row(1, 5));
        assert_eq!(net.update(Some(&policy(None))).unwrap().0.changed, [2]);
        assert!(takes(&net, null(1), None) && !takes(&net, row(1, 5), None));
    }

    #[test]
    fn updates_link_across_what_the_other_side_added() {
        let policy = policy(None);
        let mut net = update(row(1, 5), row(2, 6));
        // The other side added 10 between.
        net.link(update(row(2, 16), row(3, 18)), Some(&policy)).unwrap();
        net.link(update(row(3, 18), row(3, 17)), Some(&policy)).unwrap();
        assert_eq!(net.update(Some(&policy)).unwrap().1, row(3, 2));
        let elsewhere = update(row(9, 17), row(4, 17));
        assert_eq!(net.link(elsewhere.clone(), Some(&policy)), Err(elsewhere));
        let gone = Net::new(Some(row(3, 17)), None);
        assert_eq!(net.link(gone.clone(), Some(&policy)), Err(gone));
        let mut back = update(row(1, 5), row(1, 6));
        back.link(update(row(1, 16), row(1, 15)), Some(&policy)).unwrap();
        assert!(back.update(Some(&policy)).is_none());
        let mut plain = update(row(1, 5), row(1, 6));
        assert!(plain.link(update(row(1, 16), row(1, 17)), None).is_err());
    }

    #[test]
    fn a_floor_is_left_to_a_settlement_where_both_cross_it_together() {
        let less = update(row(1, 5), row(1, 2));
        assert!(takes(&less, row(1, 3), Some(0)) && !takes(&less, row(1, 2), Some(0)));
        assert!(takes(&less, row(1, -1), Some(0)), "it was below already");
        let alone = update(row(1, 5), row(1, -1));
        assert!(takes(&alone, row(1, 5), Some(0)), "the source alone came below it");
        let more = update(row(1, -9), row(1, -8));
        assert!(takes(&more, row(1, -9), Some(0)));
    }

    #[test]
    fn a_fraction_that_the_target_would_round_is_refused() {
        assert_eq!(fraction(&Value::Decimal("-12.345".into())), Value::Decimal("0.345".into()));
        assert_eq!(fraction(&Value::Decimal("-12".into())), Value::Decimal("0".into()));
        assert_eq!(fraction(&Value::Integer(-12)), Value::Integer(0));
    }

    proptest! {
        /// However a history is cut into runs, and whatever the other side added between, what arrives is what was added.
        #[test]
        fn nothing_that_was_added_is_lost_or_doubled(steps in proptest::collection::vec((any::<bool>(), 0i128..3, -5i128..5), 0..20)) {
            let policy = policy(None);
            let (mut source, mut nets): (Row, Vec<Net>) = (row(0, 100), Vec::new());
            let (mut added, mut other) = (0, 0);
            for (own, v, n) in steps {
                let Value::Integer(counter) = source.0[2] else { unreachable!() };
                if own {
                    other += n;
                    source = Row(vec![Value::Integer(1), source.0[1].clone(), Value::Integer(counter + n)]);
                    continue;
                }
                added += n;
                let after = row(v, counter + n);
                let net = update(std::mem::replace(&mut source, after.clone()), after);
                match nets.last_mut() {
                    Some(last) => last.link(net, Some(&policy)).unwrap(),
                    None => nets.push(net),
                }
            }
            let mut target = row(0, 100 + other);
            for net in nets {
                prop_assert!(net.takes(Some(&target), Some(&policy)));
                let Some((shape, after)) = net.update(Some(&policy)) else { continue };
                for at in shape.changed {
                    target.0[at] = after.0[at].clone();
                }
                for sum in shape.sums.iter().filter(|sum| sum.added) {
                    target.0[sum.at] = target.0[sum.at].plus(&after.0[sum.at]).unwrap();
                }
            }
            prop_assert_eq!(&target.0[2], &Value::Integer(100 + other + added));
            prop_assert_eq!(target.0[1].clone(), source.0[1].clone());
        }
    }
}
