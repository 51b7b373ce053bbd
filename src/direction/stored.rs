//! What an attempt does not apply but stores: changes of keys in quarantine, and those that the target refuses.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{
    Change, Error, Fragment, Key, Result, Tag,
    node::Tables,
    quarantine::{Stored, What},
};

use super::{
    apply::Direction,
    gather::{OwnWrite, Run},
    plan::{self, Hold, InLog, Net, Place, Plan},
};
use crate::{
    bridge::Shared,
    conflict::{quarantine, settle},
    event::{EngineEvent, LeftOut, Rows},
    rules::Rule,
    side::Side,
};

/// The changes of one attempt that are stored on its target.
pub(crate) struct Holding<'a> {
    shared: &'a Shared,
    target: Side,
    /// Keys that this attempt puts into quarantine.
    new: BTreeSet<Place>,
    /// Not stored yet, in the order of the log.
    entries: Vec<Stored>,
    /// Changes that are not applied.
    pub(crate) rows: Rows,
    /// Changes that are neither applied nor stored: a resolution covers them, or they change nothing.
    pub(super) settled: u64,
    pub(super) unchanged: u64,
    /// Keys that cross with it, as the watchdog knows them.
    pub(super) crossing: Vec<u64>,
}

impl<'a> Holding<'a> {
    pub(crate) fn new(shared: &'a Shared, target: Side) -> Self {
        Holding {
            shared,
            target,
            new: BTreeSet::new(),
            entries: Vec::new(),
            rows: Rows::default(),
            settled: 0,
            unchanged: 0,
            crossing: Vec::new(),
        }
    }

    /// The bridge's own write of a held key in the source's log.
    pub(crate) fn own(&mut self, write: OwnWrite) {
        let OwnWrite { place: (table, key), position, transaction, commit_time } = write;
        let (position, transaction) = (Some(position), Some(transaction));
        let due_in = quarantine::backoff(1);
        let entry =
            Stored { id: 0, table, key, what: What::Own, position, transaction, commit_time, refusal: None, due_in };
        self.entries.push(entry);
    }

    /// The entries so far, in the order of the log and numbered. The bridge's own write tells only of what is stored
    /// before it.
    pub(crate) fn take(&mut self) -> Vec<Stored> {
        let mut entries = std::mem::take(&mut self.entries);
        // Stable: changes of one transaction stay as they came. Positions of one log compare.
        entries.sort_by(|a, b| a.position.partial_cmp(&b.position).unwrap_or(std::cmp::Ordering::Equal));
        let mut changed: BTreeSet<Place> = BTreeSet::new();
        entries.retain(|entry| {
            let place = (entry.table, entry.key.clone());
            if entry.what != What::Own {
                changed.insert(place);
                return true;
            }
            changed.contains(&place) || self.shared.quarantine.has_changes(self.target, &place)
        });
        for entry in &mut entries {
            entry.id = self.shared.quarantine.next_id();
        }
        entries
    }

    /// Whether this attempt puts keys into quarantine that are not there yet.
    pub(super) fn has_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// What a plan leaves out.
    pub(super) fn leaves_out(&mut self, plan: &Plan) {
        self.settled += plan.skipped;
        self.unchanged += plan.unchanged;
    }

    /// What a plan says is written.
    pub(super) fn wrote(&mut self, plan: &Plan) {
        self.shared.watchdog.note(&mut self.crossing, plan.stages.iter().flat_map(BTreeMap::keys));
    }

    /// Why a key that is not held yet is not to cross.
    fn suspicion(&self, place: &Place, at: InLog<'_>) -> Option<Error> {
        let is_held = self.new.contains(place) || self.shared.quarantine.holds(place);
        let error = self.shared.watchdog.goes_round(place).filter(|_| !is_held)?;
        Some(error.at(format!("{} key ({}) at {}", self.shared.label(place.0), place.1, at.position)))
    }

    /// The keys alone, for another look at the same changes.
    pub(crate) fn forget(&mut self) {
        self.entries.clear();
    }
}

impl Hold for Holding<'_> {
    fn holds(&self, place: &Place) -> bool {
        self.new.contains(place) || is_held(self.shared, place)
    }

    fn store(
        &mut self,
        change: &Change,
        parts: Vec<(Place, Net)>,
        at: InLog<'_>,
        refusal: Option<&Error>,
    ) -> Result<()> {
        self.rows.count(change);
        let keys: Vec<Place> = parts.iter().map(|(place, _)| place.clone()).collect();
        for (place, net) in parts {
            let refusal = refusal.cloned().or_else(|| self.suspicion(&place, at));
            if !self.shared.quarantine.holds(&place) && self.new.insert(place.clone()) {
                self.shared.quarantine.room_for(&self.new)?;
            }
            let moved = keys.iter().find(|other| **other != place).map(|other| other.1.clone());
            let what = What::Change { before: net.before, after: net.after, moved };
            self.entries.push(entry(place, what, at, refusal));
        }
        Ok(())
    }
}

impl Direction {
    /// Stores entries on the target, and adds to `stored` what is to be known of them here. Errors: as those of the rows;
    /// an entry that the target cannot store stops the bridge.
    pub(super) async fn store(&mut self, entries: Vec<Stored>, stored: &mut StoredHere) -> Result<()> {
        if self.shared.rules.has(Rule::Quarantine) {
            if !entries.is_empty() {
                self.session()?.store(&entries).await?;
            }
            stored.add(entries.into_iter().map(without_rows));
        } else {
            stored.entries.extend(entries);
        }
        Ok(())
    }

    /// What the rule `Quarantine` rules out.
    pub(super) async fn store_apart(&mut self, entries: &[Stored]) -> Result<()> {
        let session = self.begin(Some(&Tag::ALONE)).await?;
        session.store(entries).await?;
        session.commit().await.map_err(settle::outcome_unknown)
    }

    /// The entries are committed, and their keys held from now on.
    pub(super) fn held(&self, entries: &[Stored], changes: Rows) {
        if entries.is_empty() {
            return;
        }
        self.shared.quarantine.stored(self.target(), entries);
        self.shared.observe(&EngineEvent::Stored { source: self.source, changes: changes.all() });
        self.shared.quarantined(self.target(), entries);
    }

    /// Tells of changes that are left out, if there are any.
    pub(super) fn left_out(&self, why: LeftOut, changes: u64) {
        if changes > 0 {
            self.shared.observe(&EngineEvent::Skipped { source: self.source, why, changes });
        }
    }

    /// The bridge's own writes in the run of keys in quarantine: what they superseded has to be told from what they did
    /// not, also when they are behind the checkpoint.
    pub(super) fn own_writes(&self, run: &Run, held: &dyn Fn(&Place) -> bool) -> Result<Vec<OwnWrite>> {
        if self.shared.quarantine.is_empty() || !self.shared.rules.has(Rule::Hold) {
            return Ok(Vec::new());
        }
        let mut own = run.own(&self.shared.queues[self.source], &|fragment| self.told_of(fragment), held)?;
        // Where the log is read again they are stored already, in their place before what came later.
        let passed_over = |table| self.shared.resolutions.passed_over(self.source, table);
        own.retain(|write| passed_over(write.place.0).is_none_or(|up_to| !up_to.covers(&write.position)));
        Ok(own)
    }

    pub(super) fn held_own_writes(&self, run: &Run) -> Result<Vec<OwnWrite>> {
        self.own_writes(run, &|place| self.shared.quarantine.holds(place))
    }

    /// The keys of which the bridge's own write tells what had been seen.
    pub(super) fn told_of(&self, fragment: &Fragment) -> Result<Vec<Place>> {
        let tables = &self.shared.tables[self.target()];
        let mut places = Vec::new();
        for change in &fragment.changes {
            let policy = self.shared.policies.get(change.table.index());
            let parts = plan::parts(plan::table(tables, change.table)?, change).into_iter();
            places.extend(parts.filter(|(_, net)| !net.only_adds(policy)).map(|(place, _)| place));
        }
        Ok(places)
    }
}

/// Whether changes of a key are stored and not applied (rule `Hold`).
pub(super) fn is_held(shared: &Shared, place: &Place) -> bool {
    (shared.rules.has(Rule::Hold) && shared.quarantine.holds(place)) || shared.watchdog.goes_round(place).is_some()
}

/// The keys that a fragment's changes touch.
pub(super) fn places_of(tables: &Tables, fragment: &Fragment) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    for change in &fragment.changes {
        places.extend(plan::places(plan::table(tables, change.table)?, change));
    }
    Ok(places)
}

/// What is kept in memory of an attempt's entries until its commit is known: of a large transaction its keys, and not
/// each of their changes.
#[derive(Default)]
pub(super) struct StoredHere {
    pub(super) entries: Vec<Stored>,
    met: BTreeSet<(Place, Option<Key>)>,
}

impl StoredHere {
    fn add(&mut self, entries: impl Iterator<Item = Stored>) {
        for entry in entries {
            let moved = match &entry.what {
                What::Change { moved, .. } => moved.clone(),
                What::Own | What::Settlement { .. } => None,
            };
            if self.met.insert(((entry.table, entry.key.clone()), moved)) || entry.refusal.is_some() {
                self.entries.push(entry);
            }
        }
    }
}

/// An entry as far as the keys in quarantine are concerned.
fn without_rows(entry: Stored) -> Stored {
    let what = match entry.what {
        What::Change { moved, .. } => What::Change { before: None, after: None, moved },
        other => other,
    };
    Stored { what, ..entry }
}

fn entry(place: Place, what: What, at: InLog<'_>, refusal: Option<Error>) -> Stored {
    let due_in = refusal.as_ref().map_or(quarantine::backoff(1), |error| quarantine::pause(error.code(), 1));
    Stored {
        id: 0,
        table: place.0,
        key: place.1,
        what,
        position: Some(at.position.clone()),
        transaction: Some(at.fragment.transaction.clone()),
        commit_time: at.fragment.commit_time,
        refusal,
        due_in,
    }
}
