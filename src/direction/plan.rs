//! From changes in the order of the log to batches of one table each: pure, and the place where a
//! change meets the rules before any statement is made.
//!
//! Several changes of one key collapse into one by linking after image to before image, so a batch
//! writes each key once. Where two do not link (a deferrable key that moved), the later one goes into a
//! further stage, after the earlier. A change of the key is a delete of the old one and an insert of the
//! new one; the pair is remembered as a link, since the two are one conflict if any.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pontoon_core::{
    Change, Code, Error, Fragment, Key, MappedTable, Position, Result, Row, TableId, Value,
    node::{TableBatch, Tables, UpdateGroup},
};

pub(crate) use super::net::Net;
use super::{gather::Piece, net::Shape};
use crate::conflict::policy::Policy;

/// A row's place: its table and its key.
pub(crate) type Place = (TableId, Key);

/// Where a change stands in the source's log.
#[derive(Clone, Copy)]
pub(crate) struct InLog<'a> {
    pub(crate) fragment: &'a Fragment,
    /// The end of its transaction.
    pub(crate) position: &'a Position,
}

/// Who takes the changes that are stored and not applied.
pub(crate) trait Hold {
    /// Whether changes of a key are stored.
    fn holds(&self, place: &Place) -> bool;

    /// Stores what a change does to its keys, all of which are held from now on; and, where that is why, the refusal.
    /// Errors: more keys than can be held.
    fn store(
        &mut self,
        change: &Change,
        parts: Vec<(Place, Net)>,
        at: InLog<'_>,
        refusal: Option<&Error>,
    ) -> Result<()>;
}

/// What a run does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Stages to carry out one after the other; within one, each key once.
    pub(crate) stages: Vec<BTreeMap<Place, Net>>,
    /// Keys that one change joined.
    pub(crate) links: Vec<(Place, Place)>,
    /// Keys whose changes do not link: what the log has between them is our own write, or a key that
    /// was moved onto before it was moved away. If the run misses, they are among the suspects.
    pub(crate) unlinked: BTreeSet<Place>,
    /// Keys whose row before has a value that the target cannot hold, so that it is another there: conflicts
    /// for certain. And those of which the log does not tell all: a settlement reads the rows themselves.
    pub(crate) incomparable: BTreeSet<Place>,
    /// Changes left out because a resolution covers them.
    pub(crate) skipped: u64,
    /// Those left out because they change nothing in the common form.
    pub(crate) unchanged: u64,
    /// The first value that the target cannot hold.
    pub(crate) misfit: Option<Error>,
}

/// How changes are planned.
pub(crate) struct Planner<'a> {
    /// The tables on the target.
    pub(crate) target: &'a Tables,
    /// How the conflicts of each are settled.
    pub(crate) policies: &'a [Policy],
    /// Whether a resolution covers a key at a position (rule `Skip`).
    pub(crate) settled: &'a dyn Fn(&Place, &Position) -> bool,
}

impl Planner<'_> {
    /// Plans the changes of a chunk. Of changes that collapse, what counts is what comes out: a row that was mended
    /// since is no obstacle any more.
    pub(crate) fn plan(&self, pieces: &[Piece], hold: &mut dyn Hold) -> Result<Plan> {
        let mut plan = Plan::default();
        for piece in pieces {
            for change in piece.fragment().into_iter().flat_map(|fragment| &fragment.changes) {
                self.add(&mut plan, change, piece, hold)?;
            }
        }
        if let Some(last) = pieces.last() {
            self.look_at(&mut plan, &last.position)?;
        }
        Ok(plan)
    }

    /// Plans one change by itself.
    pub(crate) fn plan_one(&self, change: &Change, piece: &Piece, hold: &mut dyn Hold) -> Result<Plan> {
        let mut plan = Plan::default();
        self.add(&mut plan, change, piece, hold)?;
        self.look_at(&mut plan, &piece.position)?;
        Ok(plan)
    }

    /// Whether the target can hold what the plan writes, and can have held what it expects.
    fn look_at(&self, plan: &mut Plan, position: &Position) -> Result<()> {
        let mut met = BTreeSet::new();
        for (place, net) in plan.stages.iter().flatten() {
            let table = table(self.target, place.0)?;
            if met.insert(place) && net.before.iter().any(|row| row.0.iter().any(is_unmapped)) {
                plan.incomparable.insert(place.clone());
            }
            if plan.misfit.is_none() {
                let policy = self.policies.get(place.0.index());
                plan.misfit = net.fits(table, policy, &place.1, position).err();
            }
        }
        Ok(())
    }

    fn add(&self, plan: &mut Plan, change: &Change, piece: &Piece, hold: &mut dyn Hold) -> Result<()> {
        let table = table(self.target, change.table)?;
        let mut parts = parts(table, change);
        let link = match &parts[..] {
            [(old, _), (new, _)] => Some((old.clone(), new.clone())),
            _ => None,
        };
        let all = parts.len();
        parts.retain(|(place, _)| !(self.settled)(place, &piece.position));
        plan.skipped += (all - parts.len()) as u64;
        // An update that changes nothing in the common form is no change. It cannot be told from one that
        // matters later, when several have collapsed into nothing. (Values without a form are not comparable, and of a
        // change that was logged in another shape it is not known what it changes.)
        let changes = |net: &Net| net.before != net.after || net.after.iter().any(|row| row.0.iter().any(is_unmapped));
        let told = parts.len();
        parts.retain(|(_, net)| change.reshaped || changes(net));
        plan.unchanged += (told - parts.len()) as u64;
        if parts.iter().any(|(place, _)| hold.holds(place))
            && let Some(fragment) = piece.fragment()
        {
            return hold.store(change, parts, InLog { fragment, position: &piece.position }, None);
        }
        plan.links.extend(link);
        let policy = self.policies.get(change.table.index());
        for (place, net) in parts {
            if change.reshaped {
                plan.incomparable.insert(place.clone());
            }
            plan.put(place, net, policy);
        }
        Ok(())
    }
}

impl Plan {
    /// Puts a change into the last stage, linked to what is there of its key, or else into a new one.
    fn put(&mut self, place: Place, net: Net, policy: Option<&Policy>) {
        if self.stages.is_empty() {
            self.stages.push(BTreeMap::new());
        }
        let last = self.stages.len() - 1;
        match self.stages[last].get_mut(&place) {
            Some(earlier) => {
                if let Err(net) = earlier.link(net, policy) {
                    self.unlinked.insert(place.clone());
                    self.stages.push(BTreeMap::from([(place, net)]));
                }
            }
            None => {
                self.stages[last].insert(place, net);
            }
        }
    }

    /// Batches of each stage.
    pub(crate) fn batches(&self, policies: &[Policy]) -> Vec<Batches> {
        self.stages.iter().map(|stage| batches(stage, policies)).collect()
    }

    /// The same, where unique values that rows take from each other are given up first: a row that gets others is
    /// removed, and added when all that was given up is free. Not in tables with additive columns, whose rows nobody can
    /// remove without knowing what was added.
    pub(crate) fn vacated(mut self, tables: &Tables, policies: &[Policy]) -> Plan {
        let by_value =
            |table: TableId| policies.get(table.index()).is_none_or(|policy| policy.additive().next().is_none());
        let stages = std::mem::take(&mut self.stages);
        self.stages = stages.into_iter().flat_map(|stage| vacated(stage, tables, by_value)).collect();
        self
    }

    /// What is done to each key from the first stage to the last: the row before, and the row after.
    pub(crate) fn in_all(&self) -> BTreeMap<&Place, (Option<&Row>, Option<&Row>)> {
        let mut in_all: BTreeMap<&Place, (Option<&Row>, Option<&Row>)> = BTreeMap::new();
        for (place, net) in self.stages.iter().flatten() {
            let after = net.after.as_ref();
            in_all.entry(place).and_modify(|(_, last)| *last = after).or_insert((net.before.as_ref(), after));
        }
        in_all
    }

    /// The keys of tables that are being copied.
    pub(crate) fn underway(&self, is: impl Fn(TableId) -> bool) -> BTreeSet<Place> {
        self.stages.iter().flat_map(BTreeMap::keys).filter(|(table, _)| is(*table)).cloned().collect()
    }

    /// Every key with the first that is done to it.
    pub(crate) fn expected(&self) -> BTreeMap<&Place, &Net> {
        let mut expected = BTreeMap::new();
        for (place, net) in self.stages.iter().flatten() {
            expected.entry(place).or_insert(net);
        }
        expected
    }
}

/// A stage in two, where rows get other unique values: they go in the first and come in the second.
pub(crate) fn vacated(
    mut stage: BTreeMap<Place, Net>,
    tables: &Tables,
    of: impl Fn(TableId) -> bool,
) -> Vec<BTreeMap<Place, Net>> {
    let mut coming = BTreeMap::new();
    for (place, net) in &mut stage {
        let uniques = tables.get(place.0.index()).map_or(&[][..], |table| &table.uniques);
        let (Some(before), Some(after)) = (&net.before, &net.after) else { continue };
        let changed = |at: &usize| before.0[*at] != after.0[*at];
        if of(place.0) && uniques.iter().any(|unique| unique.columns.iter().any(changed)) {
            coming.insert(place.clone(), Net::new(None, net.after.clone()));
            net.after = None;
        }
    }
    let stages = [stage, coming].into_iter();
    stages.filter(|stage| !stage.is_empty()).collect()
}

/// What a change does to each key that it touches: one, or two where it moves a row.
pub(crate) fn parts(table: &MappedTable, change: &Change) -> Vec<(Place, Net)> {
    let (before, after) = (change.before().cloned(), change.after().cloned());
    let place = |row: &Row| (table.id, table.key_of(row));
    match (&before, &after) {
        (Some(old), Some(new)) if !table.same_key(old, new) => {
            let (from, to) = (place(old), place(new));
            vec![(from, Net::new(before, None)), (to, Net::new(None, after))]
        }
        (Some(row), _) | (None, Some(row)) => vec![(place(row), Net::new(before, after))],
        (None, None) => Vec::new(),
    }
}

/// The keys that a change touches.
pub(crate) fn places(table: &MappedTable, change: &Change) -> Vec<Place> {
    let place = |row: &Row| (table.id, table.key_of(row));
    match (change.before(), change.after()) {
        (Some(old), Some(new)) if !table.same_key(old, new) => vec![place(old), place(new)],
        (Some(row), _) | (None, Some(row)) => vec![place(row)],
        (None, None) => Vec::new(),
    }
}

/// What a stage comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batches {
    /// One for each table, in table order.
    pub(crate) tables: BTreeMap<TableId, TableBatch>,
    /// What is not written because the changes of the key came back to where they began. Such a row has to be there all
    /// the same, or the source made its changes on top of another one: a conflict like any other.
    pub(crate) unwritten: Vec<(Place, Net)>,
}

/// Batches of a stage. Where there are no policies, no column is additive.
pub(crate) fn batches(stage: &BTreeMap<Place, Net>, policies: &[Policy]) -> Batches {
    let Batches { tables: mut batches, mut unwritten } = Batches::default();
    let mut groups: HashMap<(TableId, Shape), usize> = HashMap::new();
    for (place, net) in stage {
        let (table, _) = place;
        match (&net.before, &net.after) {
            (Some(before), Some(_)) => {
                let Some((shape, after)) = net.update(policies.get(table.index())) else {
                    unwritten.push((place.clone(), net.clone()));
                    continue;
                };
                let updates = &mut batches.entry(*table).or_default().updates;
                let group = *groups.entry((*table, shape)).or_insert_with_key(|(_, Shape { changed, sums })| {
                    updates.push(UpdateGroup { changed: changed.clone(), sums: sums.clone(), rows: Vec::new() });
                    updates.len() - 1
                });
                updates[group].rows.push((before.clone(), after));
            }
            (Some(before), None) => batches.entry(*table).or_default().deletes.push(before.clone()),
            (None, Some(after)) => batches.entry(*table).or_default().inserts.push(after.clone()),
            (None, None) => unwritten.push((place.clone(), net.clone())),
        }
    }
    Batches { tables: batches, unwritten }
}

/// The table of this number.
pub(crate) fn table(tables: &Tables, id: TableId) -> Result<&MappedTable> {
    tables.get(id.index()).ok_or_else(|| Error::new(Code::Internal, format!("no table number {}", id.0)))
}

pub(crate) fn is_unmapped(value: &Value) -> bool {
    matches!(value, Value::Unmapped(_))
}

/// Whether the target can hold the row, asked before the server is, since a server may round in silence.
/// `place` says where the row comes from.
pub(crate) fn fits(
    table: &MappedTable,
    key: &Key,
    (before, after): (Option<&Row>, Option<&Row>),
    place: &impl std::fmt::Display,
) -> Result<()> {
    for (at, column) in table.columns.iter().enumerate() {
        let before = before.map(|row| &row.0[at]);
        let after = after.map(|row| &row.0[at]);
        // What the target cannot have held it has not got: it is not spared as unchanged.
        let unknown = before.filter(|value| matches!(value, Value::Unchanged));
        let written = after.filter(|after| Some(*after) != before || is_unmapped(after));
        for value in unknown.into_iter().chain(written) {
            column.kind.fits(value).map_err(|why| {
                let name = &column.column.name;
                let message =
                    format!("{} key ({key}) column {name} at {place}: {why} ({})", table.label, column.column.native);
                Error::new(Code::ValueMisfit, message).hint(
                    "widen the column or mend the row on the source, then start again; or pass over the transaction with pontoon skip",
                )
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pontoon_core::{Column, Form, Fragment, Kind, LogEvent, MappedColumn, Operation, Origin, TableName};
    use proptest::prelude::*;

    use super::*;

    fn tables() -> Tables {
        let kind = Kind::Integer { min: 0, max: 99 };
        let column =
            |name: &str| MappedColumn::new(Column::plain(name, "smallint", kind.clone()), kind.clone(), Form::Integer);
        Tables::from([MappedTable::plain(TableName::new("main", "items"), vec![column("id"), column("v")])])
    }

    fn row(key: i128, v: i128) -> Row {
        Row(vec![Value::Integer(key), Value::Integer(v)])
    }

    fn piece(changes: Vec<Change>) -> Piece {
        let fragment = Fragment {
            transaction: "1".into(),
            origin: Origin::Local,
            commit_time: 0,
            first: true,
            changes,
            position: Some(Position::Index(1)),
        };
        Piece::new(Arc::new(LogEvent::Fragment(fragment)), Position::Index(1))
    }

    /// Holds one key at the most, and all that changes join to it.
    #[derive(Default)]
    struct Held {
        keys: BTreeSet<i128>,
        stored: Vec<i128>,
    }

    fn number_of(place: &Place) -> i128 {
        let Value::Integer(key) = place.1.0[0] else { unreachable!() };
        key
    }

    impl Hold for Held {
        fn holds(&self, place: &Place) -> bool {
            self.keys.contains(&number_of(place))
        }

        fn store(&mut self, _: &Change, parts: Vec<(Place, Net)>, _: InLog<'_>, _: Option<&Error>) -> Result<()> {
            for (place, _) in parts {
                self.keys.insert(number_of(&place));
                self.stored.push(number_of(&place));
            }
            Ok(())
        }
    }

    fn plan_holding(changes: Vec<Change>, held: &mut Held) -> Plan {
        Planner { target: &tables(), policies: &[], settled: &|_, _| false }.plan(&[piece(changes)], held).unwrap()
    }

    /// Plans of all changes together, or of each by itself.
    fn plans(changes: Vec<Change>, one_by_one: bool) -> Vec<Plan> {
        if !one_by_one {
            return vec![plan(changes)];
        }
        let planner = |change: &Change| {
            let piece = piece(vec![change.clone()]);
            Planner { target: &tables(), policies: &[], settled: &|_, _| false }
                .plan_one(change, &piece, &mut Held::default())
                .unwrap()
        };
        changes.iter().map(planner).collect()
    }

    fn plan(changes: Vec<Change>) -> Plan {
        plan_holding(changes, &mut Held::default())
    }

    /// What a target does with a plan: every condition is looked at.
    fn carry_out(plan: &Plan, rows: &mut BTreeMap<i128, i128>) -> bool {
        let number = |row: &Row, at: usize| match row.0[at] {
            Value::Integer(n) => n,
            _ => -1,
        };
        for stage in &plan.stages {
            let Batches { tables, unwritten } = batches(stage, &[]);
            for (place, net) in unwritten {
                let Value::Integer(key) = place.1.0[0] else { unreachable!() };
                if rows.get(&key).copied() != net.before.as_ref().map(|row| number(row, 1)) {
                    return false;
                }
            }
            for batch in tables.values() {
                let deletes = batch.deletes.iter().map(|before| (Some(before), None));
                let updates = batch.updates.iter().flat_map(|group| &group.rows).map(|(b, a)| (Some(b), Some(a)));
                let inserts = batch.inserts.iter().map(|after| (None, Some(after)));
                for (before, after) in deletes.chain(updates).chain(inserts) {
                    let key = number(before.or(after).unwrap(), 0);
                    if rows.get(&key).copied() != before.map(|row| number(row, 1)) {
                        return false;
                    }
                    match after {
                        Some(row) => rows.insert(key, number(row, 1)),
                        None => rows.remove(&key),
                    };
                }
            }
        }
        true
    }

    /// A history of a few keys as a source logs it, from no rows on, and what the rows are then.
    fn history(steps: &[(u8, i128, i128, i128)]) -> (Vec<Change>, BTreeMap<i128, i128>) {
        let mut rows: BTreeMap<i128, i128> = BTreeMap::new();
        let mut changes = Vec::new();
        for &(what, key, other, v) in steps {
            let operation = match (rows.get(&key).copied(), what % 3) {
                (None, _) => Operation::Insert { after: row(key, v) },
                (Some(old), 0) => Operation::Delete { before: row(key, old) },
                (Some(old), 1) if !rows.contains_key(&other) => {
                    Operation::Update { before: row(key, old), after: row(other, v), unchanged: vec![] }
                }
                (Some(old), _) => Operation::Update { before: row(key, old), after: row(key, v), unchanged: vec![] },
            };
            let change = Change { table: TableId(0), operation, reshaped: false };
            if change.before().is_some() {
                rows.remove(&key);
            }
            if let Some(after) = change.after() {
                let Value::Integer(key) = after.0[0] else { unreachable!() };
                rows.insert(key, v);
            }
            changes.push(change);
        }
        (changes, rows)
    }

    proptest! {
        #[test]
        fn a_plan_does_what_the_changes_did(
            steps in proptest::collection::vec((any::<u8>(), 0i128..4, 0i128..4, 0i128..9), 0..24),
            one_by_one in any::<bool>(),
        ) {
            let (changes, expected) = history(&steps);
            let mut rows = BTreeMap::new();
            for plan in plans(changes, one_by_one) {
                prop_assert!(carry_out(&plan, &mut rows), "{plan:?}");
                prop_assert!(plan.stages.len() <= 1, "a history of one node always links");
            }
            prop_assert_eq!(rows, expected);
        }

        /// What is held goes away whole, with all that changes join to it, and everything else is done.
        #[test]
        fn a_plan_leaves_held_keys_alone_and_does_the_rest(
            steps in proptest::collection::vec((any::<u8>(), 0i128..4, 0i128..4, 0i128..9), 0..24),
            key in 0i128..4,
        ) {
            let (changes, expected) = history(&steps);
            let mut held = Held { keys: BTreeSet::from([key]), ..Held::default() };
            let plan = plan_holding(changes.clone(), &mut held);
            let mut rows = BTreeMap::new();
            prop_assert!(carry_out(&plan, &mut rows), "{plan:?}");
            prop_assert!(!rows.contains_key(&key));
            for other in (0..4).filter(|other| !held.keys.contains(other)) {
                prop_assert_eq!(rows.get(&other), expected.get(&other));
            }
            let touched = changes.iter().filter(|change| change.before() != change.after());
            let touched = touched.map(|change| places(&tables()[0], change));
            let touched = touched.filter(|places| places.iter().any(|place| number_of(place) == key));
            prop_assert!(held.stored.len() >= touched.count());
        }

        #[test]
        fn a_plan_misses_where_a_row_is_another(
            steps in proptest::collection::vec((any::<u8>(), 0i128..4, 0i128..4, 0i128..9), 1..24),
        ) {
            let (changes, expected) = history(&steps);
            let plan = plan(changes);
            // Whatever comes of a key's changes: that another row is there is seen.
            for (_, key) in plan.stages.iter().flat_map(BTreeMap::keys) {
                let Value::Integer(key) = key.0[0] else { unreachable!() };
                let mut rows = BTreeMap::from([(key, 77)]);
                prop_assert!(!carry_out(&plan, &mut rows), "{expected:?}");
            }
        }
    }

    #[test]
    fn what_the_target_cannot_hold_is_named_before_it_is_asked() {
        let insert = Operation::Insert { after: row(7, 100) };
        let error = plan(vec![Change { table: TableId(0), operation: insert, reshaped: false }]).misfit.unwrap();
        assert_eq!(error.code(), Code::ValueMisfit);
        assert_eq!(error.message(), "items key (7) column v at #1: outside 0 to 99 (smallint)");
    }

    #[test]
    fn what_was_mended_since_is_no_obstacle_and_a_row_that_the_target_cannot_have_is_a_conflict() {
        let change = |operation| Change { table: TableId(0), operation, reshaped: false };
        let update = |before, after| change(Operation::Update { before, after, unchanged: vec![] });
        let mended = vec![change(Operation::Insert { after: row(7, 100) }), update(row(7, 100), row(7, 9))];
        assert_eq!(plans(mended.clone(), true)[0].misfit.as_ref().unwrap().code(), Code::ValueMisfit);
        let plan_of = plan(mended);
        assert_eq!(plan_of.misfit, None);
        assert_eq!(plan_of.stages[0].values().next().unwrap().after, Some(row(7, 9)));
        assert!(plan_of.incomparable.is_empty());
        let strange = Row(vec![Value::Integer(7), Value::Unmapped("infinity".into())]);
        let met = plan(vec![update(strange.clone(), row(7, 9))]);
        assert_eq!(met.incomparable.len(), 1);
        assert!(plan(vec![update(strange.clone(), strange)]).misfit.is_some());
    }

    #[test]
    fn a_moved_row_is_two_keys_with_a_link() {
        let operation = Operation::Update { before: row(1, 5), after: row(2, 5), unchanged: vec![] };
        let plan = plan(vec![Change { table: TableId(0), operation, reshaped: false }]);
        assert_eq!(plan.stages[0].len(), 2);
        assert_eq!(plan.links.len(), 1);
    }
}
