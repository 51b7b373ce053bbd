//! One checker for each promise of the protocol.

use std::collections::{BTreeMap, BTreeSet};

use pontoon::side::Side;
use pontoon_core::Row;
use pontoon_memory::{Database, database::Place};

use crate::{
    schedule::Workload,
    world::{Link, World},
};

/// Checks every promise at rest.
pub(crate) fn check(world: &World) -> Result<(), String> {
    they_meet(world)?;
    a_write_on_top_of_another_survives_it(world)?;
    every_choice_is_on_record(world)?;
    nothing_twice_nothing_lost(world)
}

/// Promise 2: when writing stops, all nodes hold the same rows.
fn they_meet(world: &World) -> Result<(), String> {
    let rows: Vec<BTreeMap<Place, Row>> = world.nodes.iter().map(|node| node.rows()).collect();
    for (node, own) in world.nodes.iter().zip(&rows) {
        if own != &rows[0] {
            return Err(format!("diverged: {} holds {own:?}, {} holds {:?}", node.name, world.nodes[0].name, rows[0]));
        }
    }
    Ok(())
}

/// Promise 3: a version that was overwritten locally never is the one that stands in the end. (A row that
/// moved from key to key is back where it was if its move loses.)
fn a_write_on_top_of_another_survives_it(world: &World) -> Result<(), String> {
    if !world.unique || world.schedule.workload == Workload::Moves {
        return Ok(());
    }
    let standing = world.nodes[0].rows();
    for node in &world.nodes {
        for entry in node.log().iter().filter(|entry| entry.origin.is_none()) {
            for change in &entry.changes {
                if change.before.is_some() && change.before.as_ref() == standing.get(&change.place) {
                    return Err(format!("a later write was lost: {:?}", change.place));
                }
            }
        }
    }
    Ok(())
}

/// Promise 5: where the bridge overwrote a row that the other node never held, a record says so, on that
/// node and with that row.
fn every_choice_is_on_record(world: &World) -> Result<(), String> {
    if !world.unique {
        return Ok(());
    }
    for link in &world.links {
        for side in Side::BOTH {
            let (node, other) = (&link.nodes[side], &link.nodes[side.other()]);
            let known = versions(world, other);
            let records = node.resolutions(&link.name);
            for entry in node.log().iter().filter(|entry| entry.origin.as_deref() == Some(&link.name)) {
                for change in &entry.changes {
                    let Some(before) = &change.before else { continue };
                    let recorded = records.iter().any(|(record, _)| {
                        (record.table, &record.key) == (change.place.0, &change.place.1)
                            && record.own_row.as_ref() == Some(before)
                            && record.verdict == change.after
                    });
                    if !recorded && !known.contains(&(change.place.clone(), before.clone())) {
                        return Err(format!("{} lost {before:?} without a record", node.name));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Every version of every row that a node ever held.
fn versions(world: &World, node: &Database) -> BTreeSet<(Place, Row)> {
    let log = node.log();
    let logged = log.iter().flat_map(|entry| &entry.changes);
    let after = logged.filter_map(|change| Some((change.place.clone(), change.after.clone()?)));
    after.chain(world.initial[&node.name].iter().cloned()).collect()
}

/// Promise 1: each row of a ledger is on each node once, written there once. A register's version that a
/// bridge brings is written at most once on each node, unless it lost in between and won again.
fn nothing_twice_nothing_lost(world: &World) -> Result<(), String> {
    if world.schedule.workload != Workload::Ledger {
        return Ok(());
    }
    let mut inserted = BTreeSet::new();
    for node in &world.nodes {
        for entry in node.log().iter().filter(|entry| entry.origin.is_none()) {
            inserted.extend(entry.changes.iter().map(|change| change.place.clone()));
        }
    }
    for node in &world.nodes {
        let mut written: BTreeMap<Place, usize> = BTreeMap::new();
        for change in node.log().iter().flat_map(|entry| &entry.changes) {
            *written.entry(change.place.clone()).or_default() += 1;
        }
        if let Some((place, count)) = written.iter().find(|(_, count)| **count != 1) {
            return Err(format!("{}: {place:?} was written {count} times", node.name));
        }
        if written.keys().cloned().collect::<BTreeSet<_>>() != inserted {
            return Err(format!("{} holds {} of {} entries", node.name, written.len(), inserted.len()));
        }
    }
    Ok(())
}

/// Keys whose settlement is on record on A only.
pub(crate) fn half_done(link: &Link) -> Vec<Place> {
    let latest = |side: Side| {
        let mut latest: BTreeMap<Place, i64> = BTreeMap::new();
        for (record, in_force) in link.nodes[side].resolutions(&link.name) {
            if in_force {
                let id = latest.entry((record.table, record.key.clone())).or_default();
                *id = record.id.max(*id);
            }
        }
        latest
    };
    let (a, b) = (latest(Side::A), latest(Side::B));
    a.into_iter().filter(|(place, id)| b.get(place).is_none_or(|other| other < id)).map(|(place, _)| place).collect()
}
