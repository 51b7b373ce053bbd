//! From changes in the order of the log to batches of one table each: pure, and the place where a
//! change meets the rules before any statement is made.
//!
//! Several changes of one key collapse into one by linking after image to before image, so a batch
//! writes each key once. Where two do not link (a deferrable key that moved), the later one goes into a
//! further stage, after the earlier. A change of the key is a delete of the old one and an insert of the
//! new one; the pair is remembered as a link, since the two are one conflict if any.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pontoon_core::{
    Change, Code, Error, Key, MappedTable, Position, Result, Row, TableId, Value,
    node::{TableBatch, Tables, UpdateGroup},
};

use super::gather::Piece;

/// A row's place: its table and its key.
pub(crate) type Place = (TableId, Key);

/// What a run does to one key: from the row that must be there to the row that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    pub(crate) before: Option<Row>,
    pub(crate) after: Option<Row>,
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
    /// Changes left out because a resolution covers them.
    pub(crate) skipped: u64,
}

/// How changes are planned.
pub(crate) struct Planner<'a> {
    /// The tables on the target.
    pub(crate) target: &'a Tables,
    /// Whether a resolution covers a key at a position (rule `Skip`).
    pub(crate) settled: &'a dyn Fn(&Place, &Position) -> bool,
    /// Each change is a stage of its own: slow, and it names the change that fails.
    pub(crate) one_by_one: bool,
}

impl Planner<'_> {
    /// Plans the changes of a chunk. Errors: a value that the target's column cannot hold.
    pub(crate) fn plan(&self, pieces: &[Piece]) -> Result<Plan> {
        let mut plan = Plan::default();
        for piece in pieces {
            for change in piece.fragment().into_iter().flat_map(|fragment| &fragment.changes) {
                self.add(&mut plan, change, &piece.position)?;
            }
        }
        Ok(plan)
    }

    fn add(&self, plan: &mut Plan, change: &Change, position: &Position) -> Result<()> {
        let table = table(self.target, change.table)?;
        let parts = parts(table, change);
        if let [(old, _), (new, _)] = &parts[..] {
            plan.links.push((old.clone(), new.clone()));
        }
        if self.one_by_one {
            plan.stages.push(BTreeMap::new());
        }
        for (place, net) in parts {
            if (self.settled)(&place, position) {
                plan.skipped += 1;
                continue;
            }
            fits(table, &place.1, &net, position)?;
            plan.put(place, net);
        }
        Ok(())
    }
}

impl Plan {
    /// Puts a change into the last stage, linked to what is there of its key, or else into a new one.
    fn put(&mut self, place: Place, net: Net) {
        if self.stages.is_empty() {
            self.stages.push(BTreeMap::new());
        }
        let last = self.stages.len() - 1;
        match self.stages[last].get_mut(&place) {
            Some(earlier) if earlier.after == net.before => earlier.after = net.after,
            Some(_) => {
                self.unlinked.insert(place.clone());
                self.stages.push(BTreeMap::from([(place, net)]));
            }
            None => {
                self.stages[last].insert(place, net);
            }
        }
    }

    /// Every key with the row that must be there before anything is written.
    pub(crate) fn expected(&self) -> BTreeMap<&Place, Option<&Row>> {
        let mut expected = BTreeMap::new();
        for (place, net) in self.stages.iter().flatten() {
            expected.entry(place).or_insert(net.before.as_ref());
        }
        expected
    }
}

/// What a change does to each key that it touches: one, or two where it moves a row.
pub(crate) fn parts(table: &MappedTable, change: &Change) -> Vec<(Place, Net)> {
    let (before, after) = (change.before().cloned(), change.after().cloned());
    let place = |row: &Row| (table.id, table.key_of(row));
    match (&before, &after) {
        (Some(old), Some(new)) if !table.same_key(old, new) => {
            let (from, to) = (place(old), place(new));
            vec![(from, Net { before, after: None }), (to, Net { before: None, after })]
        }
        (Some(row), _) | (None, Some(row)) => vec![(place(row), Net { before, after })],
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

/// Batches of a stage, one for each table, in table order. What changes nothing is left out.
pub(crate) fn batches(stage: &BTreeMap<Place, Net>) -> Vec<(TableId, TableBatch)> {
    let mut batches: BTreeMap<TableId, TableBatch> = BTreeMap::new();
    let mut groups: HashMap<(TableId, Vec<usize>), usize> = HashMap::new();
    for ((table, _), net) in stage {
        match (&net.before, &net.after) {
            (Some(before), Some(after)) => {
                let changed: Vec<usize> = (0..after.0.len()).filter(|&at| before.0[at] != after.0[at]).collect();
                if changed.is_empty() {
                    continue;
                }
                let updates = &mut batches.entry(*table).or_default().updates;
                let group = *groups.entry((*table, changed)).or_insert_with_key(|(_, changed)| {
                    updates.push(UpdateGroup { changed: changed.clone(), rows: Vec::new() });
                    updates.len() - 1
                });
                updates[group].rows.push((before.clone(), after.clone()));
            }
            (Some(before), None) => batches.entry(*table).or_default().deletes.push(before.clone()),
            (None, Some(after)) => batches.entry(*table).or_default().inserts.push(after.clone()),
            (None, None) => {}
        }
    }
    batches.into_iter().collect()
}

/// The table of this number.
pub(crate) fn table(tables: &Tables, id: TableId) -> Result<&MappedTable> {
    tables.get(id.index()).ok_or_else(|| Error::new(Code::Internal, format!("no table number {}", id.0)))
}

/// Whether the target can hold the row, asked before the server is, since a server may round in silence.
fn fits(table: &MappedTable, key: &Key, net: &Net, position: &Position) -> Result<()> {
    for (at, column) in table.columns.iter().enumerate() {
        let before = net.before.as_ref().map(|row| &row.0[at]);
        let after = net.after.as_ref().map(|row| &row.0[at]);
        let unmapped = before.filter(|value| matches!(value, Value::Unmapped(_) | Value::Unchanged));
        let written = after.filter(|after| Some(*after) != before);
        for value in unmapped.into_iter().chain(written) {
            column.kind.fits(value).map_err(|why| {
                let name = &column.column.name;
                let message =
                    format!("{} key ({key}) column {name} at {position}: {why} ({})", table.label, column.column.native);
                Error::new(Code::ValueMisfit, message).hint(
                    "widen the column or mend the row on the source, then start again; or pass over the transaction with pontoon skip",
                )
            })?;
        }
    }
    Ok(())
}
