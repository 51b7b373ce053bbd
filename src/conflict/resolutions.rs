//! The resolutions in force on both nodes, as the databases hold them: read at the start, kept in step
//! with every commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use pontoon_core::{Position, Resolution, TableId, state::NodeState};

use crate::{
    direction::plan::Place,
    side::{Pair, Side},
};

type InForce = BTreeMap<Place, Resolution>;

#[derive(Default)]
struct Inner {
    in_force: Pair<InForce>,
    /// On record on A, where it is committed first, and not on B.
    half_done: BTreeSet<Place>,
    /// Grows with each change of what is in force.
    version: u64,
    /// The highest number of a record.
    last: i64,
}

/// The table of resolutions of one bridge.
pub(crate) struct Resolutions {
    /// Tables that were added later: up to here the other side's log is settled for all of their keys, on each side.
    since: Pair<BTreeMap<TableId, Position>>,
    inner: Mutex<Inner>,
}

/// A resolution in force on either side, as far as pruning is concerned.
pub(crate) struct Prunable {
    /// Ids on A that both checkpoints have passed.
    pub(crate) a: Vec<i64>,
    /// Ids on B that both have passed, and whose record on A is gone already.
    pub(crate) b: Vec<i64>,
}

impl Resolutions {
    /// From what the two nodes hold.
    pub(crate) fn new(states: &Pair<NodeState>, heeds_since: bool) -> Self {
        let index = |list: &[Resolution]| -> InForce {
            let mut in_force = InForce::new();
            for resolution in list.iter().cloned() {
                let place = (resolution.table, resolution.key.clone());
                if in_force.get(&place).is_none_or(|other| other.id < resolution.id) {
                    in_force.insert(place, resolution);
                }
            }
            in_force
        };
        let in_force = Pair::from_fn(|side| index(&states[side].resolutions));
        let half_done = in_force[Side::A]
            .iter()
            .filter(|(place, on_a)| in_force[Side::B].get(place).is_none_or(|on_b| on_b.id < on_a.id))
            .map(|(place, _)| place.clone())
            .collect();
        let since_on = |side: Side| states[side].since.iter().filter(|_| heeds_since).cloned().collect();
        let since = Pair::from_fn(since_on);
        let last =
            Side::BOTH.into_iter().flat_map(|side| in_force[side].values()).map(|resolution| resolution.id).max();
        Resolutions { since, inner: Mutex::new(Inner { in_force, half_done, version: 0, last: last.unwrap_or(0) }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a resolution on `target` covers this position of the other node's log, or the table was added behind it.
    pub(crate) fn settled(&self, target: Side, place: &Place, position: &Position) -> bool {
        let inner = self.inner();
        let fence = inner.in_force[target].get(place).and_then(|resolution| resolution.other_fence.as_ref());
        let since = self.since[target].get(&place.0);
        fence.into_iter().chain(since).any(|settled| settled.covers(position))
    }

    /// What was asked of this is still so where the number is.
    pub(crate) fn version(&self) -> u64 {
        self.inner().version
    }

    /// The number of the last record: one that is made from now on has a higher one.
    pub(crate) fn last(&self) -> i64 {
        self.inner().last
    }

    /// Whether each of these keys was settled after the record of this number.
    pub(crate) fn are_settled_since(&self, keys: &BTreeSet<Place>, last: i64) -> bool {
        let inner = self.inner();
        keys.iter().all(|place| {
            Side::BOTH
                .into_iter()
                .all(|side| inner.in_force[side].get(place).is_some_and(|resolution| resolution.id > last))
        })
    }

    /// Up to where a side's log is passed over for a table, whatever it holds of it.
    pub(crate) fn passed_over(&self, source: Side, table: TableId) -> Option<&Position> {
        self.since[source.other()].get(&table)
    }

    /// Up to where writes of a key in a side's log are settled. Of a key that is half done A's record tells, as B has
    /// none.
    pub(crate) fn settled_up_to(&self, source: Side, place: &Place) -> Option<Position> {
        let inner = self.inner();
        let on_a = inner.in_force[Side::A].get(place);
        let fence = match source {
            Side::A if inner.half_done.contains(place) => on_a.and_then(|resolution| resolution.own_fence.as_ref()),
            Side::A => inner.in_force[Side::B].get(place).and_then(|resolution| resolution.other_fence.as_ref()),
            Side::B => on_a.and_then(|resolution| resolution.other_fence.as_ref()),
        };
        let since = self.since[source.other()].get(&place.0);
        match (fence, since) {
            (Some(fence), Some(since)) if since.covers(fence) => Some(since),
            (fence, since) => fence.or(since),
        }
        .cloned()
    }

    /// The keys that are half done, of those that `of` picks.
    pub(crate) fn half_done(&self, of: impl Fn(&Place) -> bool) -> BTreeSet<Place> {
        self.inner().half_done.iter().filter(|place| of(place)).cloned().collect()
    }

    /// The resolution of a key on a side.
    pub(crate) fn get(&self, side: Side, place: &Place) -> Option<Resolution> {
        self.inner().in_force[side].get(place).cloned()
    }

    /// Keys that were decided together with this one, and are half done too.
    pub(crate) fn half_done_with(&self, place: &Place) -> BTreeSet<Place> {
        let inner = self.inner();
        let group = inner.in_force[Side::A].get(place).map(|resolution| resolution.group);
        let same = |other: &&Place| {
            group.is_some() && inner.in_force[Side::A].get(*other).map(|resolution| resolution.group) == group
        };
        inner.half_done.iter().filter(same).cloned().collect()
    }

    /// Marks keys half done, before A's commit is sent.
    pub(crate) fn begin(&self, keys: &BTreeSet<Place>) {
        self.inner().half_done.extend(keys.iter().cloned());
    }

    /// Both commits are known.
    pub(crate) fn done(&self, records: &Pair<Vec<Resolution>>) {
        let mut inner = self.inner();
        inner.version += 1;
        for side in Side::BOTH {
            for resolution in &records[side] {
                let place = (resolution.table, resolution.key.clone());
                inner.half_done.remove(&place);
                inner.last = inner.last.max(resolution.id);
                inner.in_force[side].insert(place, resolution.clone());
            }
        }
    }

    /// What may be taken out of force now: on A where the durable checkpoints have passed both fences,
    /// and then on B, so that a record on B alone never looks half done (rule `Prune`). That A's is gone does not say that B's fences are behind: where B's server was
    /// promoted, its checkpoint has gone back.
    pub(crate) fn prunable(&self, durable: &Pair<Position>, ordered: bool) -> Prunable {
        let inner = self.inner();
        let passed = |place: &Place, own: Side, resolution: &Resolution| {
            let fence_passed =
                |side: Side, fence: &Option<Position>| fence.as_ref().is_none_or(|fence| durable[side].covers(fence));
            let half_done = inner.half_done.contains(place);
            !half_done && fence_passed(own, &resolution.own_fence) && fence_passed(own.other(), &resolution.other_fence)
        };
        if !ordered {
            let any = |side: Side| inner.in_force[side].values().map(|resolution| resolution.id).collect();
            return Prunable { a: Vec::new(), b: any(Side::B) };
        }
        let a = inner.in_force[Side::A].iter().filter(|(place, r)| passed(place, Side::A, r)).map(|(_, r)| r.id);
        let is_gone = |place: &Place| !inner.in_force[Side::A].contains_key(place);
        let b = inner.in_force[Side::B].iter().filter(|(place, r)| is_gone(place) && passed(place, Side::B, r));
        Prunable { a: a.collect(), b: b.map(|(_, r)| r.id).collect() }
    }

    /// These are out of force on a side.
    pub(crate) fn retired(&self, side: Side, ids: &[i64]) {
        let mut inner = self.inner();
        inner.version += 1;
        inner.in_force[side].retain(|_, resolution| !ids.contains(&resolution.id));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pontoon_core::{Key, Value};

    use super::*;

    fn place(number: i128) -> Place {
        (TableId(0), Key(vec![Value::Integer(number)]))
    }

    /// A record without fences.
    pub(crate) fn record(id: i64, key: i128) -> Resolution {
        Resolution {
            id,
            group: id,
            table: TableId(0),
            key: place(key).1,
            own_fence: None,
            other_fence: None,
            own_row: None,
            other_row: None,
            verdict: None,
            ancestor: None,
            columns: None,
            commit_time: 0,
            rule: "equal".into(),
        }
    }

    #[test]
    fn what_was_settled_since_is_told_from_what_was_before() {
        let states = Pair::from_fn(|_| NodeState { resolutions: vec![record(7, 1)], ..NodeState::default() });
        let resolutions = Resolutions::new(&states, true);
        let is_settled_since =
            |keys: &[i128], last| resolutions.are_settled_since(&keys.iter().map(|key| place(*key)).collect(), last);
        let last = resolutions.last();
        assert_eq!(last, 7);
        assert!(!is_settled_since(&[1], last), "by an earlier session");
        resolutions.begin(&BTreeSet::from([place(1)]));
        assert!(!is_settled_since(&[1], last), "half done");
        resolutions.done(&Pair::from_fn(|_| vec![record(8, 1)]));
        assert!(is_settled_since(&[1], last));
        assert!(!is_settled_since(&[1, 2], last), "the other is not");
        assert!(!is_settled_since(&[1], resolutions.last()), "met once more");
    }
}
