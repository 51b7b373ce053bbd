//! What a run does to one key, and which rows of the target it takes: pure.
//!
//! A row that is not as the change was made on is a conflict. An additive column takes no part in that: what an update
//! added to it is added to whatever the target has, so that both sides may add at once and none waits for the other.
//!
//! * An update that adds nothing to such a column leaves it alone. One that makes a null of it, or a number of a null,
//!   has no sum: the column is compared and set like any other.
//! * Several updates of a key link also where the other side's additions lie between them, as long as all else is as the
//!   one left it and the next found it; then it is their sums that count, and not the first row and the last.
//! * A delete takes the whole row along, with all that was ever added: it compares every column (rule `Delete`).
//! * Where an addition brings the target below the column's floor and the source had not come below it, both sides
//!   together have: that is left to a settlement, which puts it on record.

use std::cmp::Ordering;

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

    /// Which columns an update writes.
    fn shape(&self, before: &Row, after: &Row, policy: Option<&Policy>) -> Shape {
        let mut shape = Shape { changed: Vec::new(), sums: Vec::new() };
        for (at, floor) in policy.into_iter().flat_map(Policy::additive) {
            let sum = self.sum(at);
            let added = sum.as_ref().is_some_and(|sum| !sum.is_zero());
            if sum.is_some() || before.0[at] == after.0[at] {
                let floor = floor.filter(|floor| added && self.may_cross(after, at, floor)).cloned();
                shape.sums.push(Sum { at, added, floor });
            }
        }
        let is_summed = |at: usize| shape.sums.iter().any(|sum| sum.at == at);
        let changed = (0..after.0.len()).filter(|&at| before.0[at] != after.0[at] && !is_summed(at));
        shape.changed = changed.collect();
        shape
    }

    /// Something is taken away from a column that its own side has not below the floor by that.
    fn may_cross(&self, after: &Row, at: usize, floor: &Value) -> bool {
        let is_less = |sum: Value| sum.exact_text().is_some_and(|text| text.starts_with('-'));
        self.sum(at).is_some_and(is_less) && after.0[at].compare(floor) != Some(Ordering::Less)
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

    /// It comes to nothing.
    pub(crate) fn is_idle(&self, policy: Option<&Policy>) -> bool {
        match (&self.before, &self.after) {
            (Some(_), Some(_)) => self.update(policy).is_none(),
            (before, after) => before == after,
        }
    }

    /// Whether a row of the target is one that this can be done to: what the statements of a session look at too.
    pub(crate) fn takes(&self, row: Option<&Row>, policy: Option<&Policy>) -> bool {
        let (Some(before), Some(after), Some(row)) = (&self.before, &self.after, row) else {
            return self.before.as_ref() == row;
        };
        let shape = self.shape(before, after, policy);
        let compared = |at: &usize| shape.sums.iter().all(|sum| sum.at != *at);
        (0..row.0.len()).filter(compared).all(|at| row.0[at] == before.0[at])
            && shape.sums.iter().filter(|sum| sum.added).all(|sum| self.adds(sum, &row.0[sum.at]))
    }

    fn adds(&self, sum: &Sum, value: &Value) -> bool {
        let total = self.sum(sum.at).and_then(|added| value.plus(&added));
        let below = |value: &Value, floor: &Value| value.compare(floor) == Some(Ordering::Less);
        match (&total, &sum.floor) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(total), Some(floor)) => below(value, floor) || !below(total, floor),
        }
    }

    /// Whether the target can hold what is written, asked before the server is, since a server may round in silence.
    pub(crate) fn fits(
        &self,
        table: &MappedTable,
        policy: Option<&Policy>,
        key: &Key,
        place: &impl std::fmt::Display,
    ) -> Result<()> {
        let (before, mut after) = (self.before.as_ref(), self.after.clone());
        if let (Some(before), Some(row)) = (before, &mut after) {
            for sum in self.shape(before, &row.clone(), policy).sums {
                let column = &table.columns[sum.at];
                if let Some(why) = self.sum(sum.at).and_then(|sum| column.kind.fits(&fraction(&sum)).err()) {
                    let name = &column.column.name;
                    let message =
                        format!("{} key ({key}) column {name} at {place}: what is added has {why}", table.label);
                    return Err(Error::new(Code::ValueMisfit, message).hint("widen the column on the target"));
                }
                // What it comes to there only the target knows.
                row.0[sum.at] = before.0[sum.at].clone();
            }
        }
        plan::fits(table, key, (before, after.as_ref()), place)
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
