//! One checker for each promise of the protocol.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeBounds,
};

use pontoon::{
    conflict::policy::RowRule,
    side::{Pair, Side},
};
use pontoon_core::{Code, Position, Resolution, Row, Value, quarantine::What};
use pontoon_memory::{
    Database,
    database::{Entry, LoggedChange, Place},
    entries,
};

use crate::{
    columns::{self, COUNTER, GREATEST, LEAST},
    link::Link,
    new_keys,
    schedule::Workload,
    tied,
    world::World,
};

/// Checks every promise at rest.
pub(crate) fn check(world: &World) -> Result<(), String> {
    they_meet(world)?;
    if world.schedule.workload == Workload::Tied {
        world.nodes.iter().try_for_each(|node| tied::nothing_dangles(&node.rows()))?;
        nothing_vanishes(world)?;
    }
    nothing_unseen_is_decided(world)?;
    a_write_on_top_of_another_survives_it(world)?;
    every_choice_is_on_record(world)?;
    new_keys::rows_have_their_keys(world)?;
    counters_add_up(world)?;
    the_extremes_stand(world)?;
    nothing_twice_nothing_lost(world)
}

/// While some rows are refused, at rest: every other one is the same on both nodes of each bridge.
pub(crate) fn every_other_key_went_on(world: &World) -> Result<(), String> {
    for link in &world.links {
        let held = quarantined(link);
        if let Some(place) = different(link).into_iter().find(|place| !held.contains(place)) {
            return Err(format!("{}: {place:?} differs and is not in quarantine", link.name));
        }
    }
    Ok(())
}

/// When every row in quarantine has been tried again, those that are still there are refused or wait for a person, or are
/// tied to one that is.
pub(crate) fn nothing_waits_without_cause(world: &World) -> Result<(), String> {
    for link in &world.links {
        let held = held(link);
        let refused = |place: &Place| {
            held.contains(place)
                || Side::BOTH.into_iter().any(|side| {
                    let offered = link.nodes[side.other()].rows().get(place).cloned();
                    offered.is_some_and(|row| link.nodes[side].refuses(place, &row))
                })
        };
        for place in quarantined(link) {
            if !tied(link, &place).iter().any(refused) {
                return Err(format!("{}: {place:?} waits without a cause", link.name));
            }
        }
    }
    Ok(())
}

/// A row that moved from key to key waits as one: never is it gone from the one and not there under the other.
pub(crate) fn moved_rows_are_not_torn(world: &World) -> Result<(), String> {
    for link in &world.links {
        let held = quarantined(link);
        for entry in Side::BOTH.into_iter().flat_map(|side| link.nodes[side].quarantine(&link.name)) {
            let What::Change { moved: Some(other), .. } = entry.stored.what else { continue };
            if !held.contains(&(entry.stored.table, other.clone())) {
                return Err(format!(
                    "{}: {} waits without {other}, which it moved from or to",
                    link.name, entry.stored.key
                ));
            }
        }
    }
    Ok(())
}

/// The keys that a bridge has in quarantine.
pub(crate) fn quarantined(link: &Link) -> BTreeSet<Place> {
    let entries = Side::BOTH.into_iter().flat_map(|side| link.nodes[side].quarantine(&link.name));
    entries.map(|entry| (entry.stored.table, entry.stored.key)).collect()
}

/// Those of which a person is to decide, and that differ, or of which one differs that is tied to them: they are decided
/// together. A row that one side has moved and the other one has removed is gone from its key on both.
fn held(link: &Link) -> BTreeSet<Place> {
    let different = different(link);
    let entries = Side::BOTH.into_iter().flat_map(|side| link.nodes[side].quarantine(&link.name));
    let held = entries
        .filter(|entry| entry.stored.refusal.as_ref().is_some_and(|refusal| refusal.code() == Code::ConflictHeld));
    let differs = |place: &Place| tied(link, place).iter().any(|place| different.contains(place));
    held.map(|entry| (entry.stored.table, entry.stored.key)).filter(differs).collect()
}

/// The keys of which the nodes of a bridge hold different rows, but for those that an operator left so.
fn different(link: &Link) -> BTreeSet<Place> {
    let rows = Pair::from_fn(|side| link.nodes[side].rows());
    let places = rows.iter().flat_map(BTreeMap::keys).cloned();
    let differ = places.filter(|place| rows[Side::A].get(place) != rows[Side::B].get(place));
    differ.filter(|place| !is_left_as_it_is(link, place)).collect()
}

/// Whether the last that was settled of a key is that an operator had its changes dropped, and neither side has written
/// it since.
fn is_left_as_it_is(link: &Link, place: &Place) -> bool {
    let last = Pair::from_fn(|side| {
        let of_key = |record: &Resolution| (record.table, &record.key) == (place.0, &place.1);
        let records = link.nodes[side].resolutions(&link.name).into_iter().map(|(record, _)| record);
        records.filter(of_key).max_by_key(|record| record.id)
    });
    match [&last[Side::A], &last[Side::B]] {
        [Some(a), Some(b)] => {
            let fences = Pair::new(index(&a.own_fence), index(&b.own_fence));
            a.id == b.id
                && is_discard(a)
                && Side::BOTH.into_iter().all(|side| !writes(link, side, place, fences[side]..))
        }
        _ => false,
    }
}

fn is_discard(record: &Resolution) -> bool {
    record.rule.starts_with("discarded by an operator")
}

fn is_choice(record: &Resolution) -> bool {
    record.rule.starts_with("decided by an operator")
}

/// The place in a log, as the number of entries before it.
fn index(position: &Option<Position>) -> usize {
    position.as_ref().map_or(0, |position| usize::try_from(entries(position)).unwrap())
}

/// Whether anybody but the bridge wrote a key in a part of a node's log.
fn writes(link: &Link, side: Side, place: &Place, part: impl RangeBounds<usize>) -> bool {
    let log = link.nodes[side].log();
    let mut entries = log.iter().enumerate().filter(|(at, _)| part.contains(at)).map(|(_, entry)| entry);
    let foreign = |entry: &Entry| entry.origin.as_deref() != Some(&link.name);
    entries.any(|entry| foreign(entry) && entry.changes.iter().any(|change| change.place == *place))
}

/// What an operator decides about they have looked at: of each record of such a decision all writes that it covers had been
/// made then.
fn nothing_unseen_is_decided(world: &World) -> Result<(), String> {
    let looked = world.looked.lock().unwrap();
    for link in &world.links {
        let records = link.nodes[Side::A].resolutions(&link.name);
        // A key that a row was given was free, whatever had been there before.
        let decided = records.iter().map(|(record, _)| record).filter(|record| !new_keys::is_given(record));
        for record in decided.filter(|record| is_discard(record) || is_choice(record)) {
            let place = (record.table, record.key.clone());
            let fences = Pair::new(index(&record.own_fence), index(&record.other_fence));
            let of_key = looked.iter().filter(|looked| looked.link == link.name && looked.places.contains(&place));
            let mut had_seen = of_key.filter(|looked| {
                Side::BOTH.into_iter().all(|side| !writes(link, side, &place, looked.logs[side]..fences[side]))
            });
            if had_seen.next().is_none() {
                return Err(format!("{}: writes of {place:?} were decided about that nobody had looked at", link.name));
            }
        }
    }
    Ok(())
}

/// A row that is gone in the end was removed by somebody, or gave way by a rule that says so.
fn nothing_vanishes(world: &World) -> Result<(), String> {
    let standing = world.nodes[0].rows();
    let removed: BTreeSet<Place> =
        local(world).into_iter().filter(|change| change.after.is_none()).map(|change| change.place).collect();
    let known = world.nodes.iter().flat_map(|node| versions(world, node)).map(|(place, _)| place);
    let mut gone = known.filter(|place| !standing.contains_key(place) && !removed.contains(place));
    match gone.find(|place| !was_adjusted(world, place)) {
        Some(place) => Err(format!("{place:?} is gone, and nobody removed it")),
        None => Ok(()),
    }
}

/// Whether a row ever gave way to another one, was put back or went for another one's sake, or a person chose it.
fn was_adjusted(world: &World, place: &Place) -> bool {
    let words = ["unique_conflict", "restore_parent", "delete_child", "decided by an operator"];
    let says = |record: &Resolution| words.iter().any(|word| record.rule.contains(word));
    let records = world.links.iter().flat_map(|link| link.nodes[Side::A].resolutions(&link.name));
    let mut of_key = records.filter(|(record, _)| (record.table, &record.key) == (place.0, &place.1));
    world.schedule.workload == Workload::Tied && of_key.any(|(record, _)| says(&record))
}

/// Whether an operator ever had changes of a key dropped, or chose a row that is older than another: of one that is refused
/// the later write waits on the other side.
fn was_discarded(world: &World, place: &Place) -> bool {
    world.schedule.refuses && world.looked.lock().unwrap().iter().any(|looked| looked.places.contains(place))
}

/// A key and those that stand or fall with it: stored changes moved a row between them, or a settlement of them all is
/// half done.
pub(crate) fn tied(link: &Link, place: &Place) -> BTreeSet<Place> {
    let mut ties: Vec<(Place, Place)> = Vec::new();
    for entry in Side::BOTH.into_iter().flat_map(|side| link.nodes[side].quarantine(&link.name)) {
        if let What::Change { moved: Some(other), .. } = entry.stored.what {
            ties.push(((entry.stored.table, entry.stored.key), (entry.stored.table, other)));
        }
    }
    let half_done = half_done(link);
    let mut groups: BTreeMap<i64, Place> = BTreeMap::new();
    for (record, in_force) in link.nodes[Side::A].resolutions(&link.name) {
        let place = (record.table, record.key);
        if in_force && half_done.contains(&place) {
            let first = groups.entry(record.group).or_insert_with(|| place.clone());
            ties.push((first.clone(), place));
        }
    }
    let mut tied = BTreeSet::from([place.clone()]);
    loop {
        let before = tied.len();
        for (from, to) in &ties {
            if tied.contains(from) || tied.contains(to) {
                tied.extend([from.clone(), to.clone()]);
            }
        }
        if tied.len() == before {
            return tied;
        }
    }
}

/// Promise 2: when writing stops, all nodes hold the same rows, but for those that an operator left as they were.
fn they_meet(world: &World) -> Result<(), String> {
    for link in &world.links {
        let different = different(link);
        if !different.is_empty() {
            let [a, b] = Side::BOTH.map(|side| (&link.nodes[side].name, link.nodes[side].rows()));
            return Err(format!("diverged in {different:?}: {} holds {:?}, {} holds {:?}", a.0, a.1, b.0, b.1));
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
    let parts = stand_together(world);
    for node in &world.nodes {
        for entry in node.log().iter().filter(|entry| entry.origin.is_none()) {
            for change in &entry.changes {
                let (Some(before), Some(stands)) = (&change.before, standing.get(&change.place)) else { continue };
                let is_back = |part: &Vec<usize>| {
                    let was_changed =
                        change.after.as_ref().is_none_or(|after| part_of(after, part) != part_of(before, part));
                    was_changed && part_of(before, part) == part_of(stands, part)
                };
                let by_hand = was_discarded(world, &change.place) || new_keys::was_given(world, &change.place);
                if parts.iter().any(is_back) && !by_hand && !was_adjusted(world, &change.place) {
                    return Err(format!("a later write was lost: {:?}", change.place));
                }
            }
        }
    }
    Ok(())
}

/// The columns that are one side's or the other's together. Where rows with columns of their own come and go, a write
/// of one column contends with a delete, which takes the others along: nothing can be said of either then.
fn stand_together(world: &World) -> Vec<Vec<usize>> {
    match (world.schedule.workload, world.policy.row) {
        (Workload::Counters | Workload::Added | Workload::Columns, _) if world.schedule.deletes => Vec::new(),
        // What each node had of its own at the beginning nobody wrote.
        (Workload::Stock, _) => Vec::new(),
        (Workload::Counters | Workload::Added | Workload::Columns, RowRule::ColumnMerge) => vec![vec![1], vec![2]],
        (Workload::Counters | Workload::Added, _) => vec![vec![1, 2]],
        _ => vec![vec![0, 1, 2]],
    }
}

fn part_of<'a>(row: &'a Row, part: &[usize]) -> Vec<&'a Value> {
    part.iter().map(|at| &row.0[*at]).collect()
}

/// Promise 4: a counter ends at its first value and all that was added on any node, each once.
fn counters_add_up(world: &World) -> Result<(), String> {
    if !columns::has_rules(world.schedule.workload) || world.schedule.deletes {
        return Ok(());
    }
    for (place, row) in world.nodes[0].rows().into_iter().filter(|(place, _)| !was_discarded(world, place)) {
        let added = |change: &LoggedChange| match (&change.before, &change.after) {
            (Some(before), Some(after)) => columns::number(after, COUNTER) - columns::number(before, COUNTER),
            _ => 0,
        };
        let sum: i128 = local(world).iter().filter(|change| change.place == place).map(added).sum();
        let counted = columns::number(&row, COUNTER);
        if counted != columns::FIRST + sum {
            return Err(format!("{place:?} counts {counted}, and {sum} was added to {}", columns::FIRST));
        }
    }
    Ok(())
}

/// Of a column for the least or the greatest value, which applications only lower or raise, the extreme stands.
fn the_extremes_stand(world: &World) -> Result<(), String> {
    if world.schedule.workload != Workload::Columns || world.schedule.deletes {
        return Ok(());
    }
    for (place, row) in world.nodes[0].rows().into_iter().filter(|(place, _)| !was_discarded(world, place)) {
        let written: Vec<Row> =
            local(world).into_iter().filter(|change| change.place == place).filter_map(|change| change.after).collect();
        let least = written.iter().map(|row| columns::number(row, LEAST)).min().unwrap_or(0);
        let greatest = written.iter().map(|row| columns::number(row, GREATEST)).max().unwrap_or(0);
        if (columns::number(&row, LEAST), columns::number(&row, GREATEST)) != (least, greatest) {
            return Err(format!("{place:?} is {row:?}, and {least} and {greatest} were written"));
        }
    }
    Ok(())
}

/// What applications have changed, on any node.
fn local(world: &World) -> Vec<LoggedChange> {
    let entries = world.nodes.iter().flat_map(|node| node.log()).filter(|entry| entry.origin.is_none());
    entries.flat_map(|entry| entry.changes).collect()
}

/// Promise 5: where the bridge overwrote a row that the other node never held, a record says so, on that
/// node and with that row.
fn every_choice_is_on_record(world: &World) -> Result<(), String> {
    if !world.unique || world.retention.records.is_some() {
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
                    // What is added to is not overwritten.
                    let rest = without_counter(world, before.clone());
                    if change.after.as_ref().is_some_and(|after| without_counter(world, after.clone()) == rest) {
                        continue;
                    }
                    let recorded = records.iter().any(|(record, _)| {
                        (record.table, &record.key) == (change.place.0, &change.place.1)
                            && record.own_row.as_ref() == Some(before)
                            && record.verdict == change.after
                            && (!world.is_left_to_a_person() || is_by_a_person(link, record))
                    });
                    if !recorded && !known.contains(&(change.place.clone(), rest)) {
                        return Err(format!("{} lost {before:?} without a record", node.name));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Where a person is to decide, nothing else ever overwrites what the other node has not seen; but what they decided may be
/// completed after a crash.
fn is_by_a_person(link: &Link, record: &Resolution) -> bool {
    let chosen = |earlier: &Resolution| {
        is_choice(earlier) && (earlier.table, &earlier.key) == (record.table, &record.key) && earlier.id < record.id
    };
    let completed = record.rule.starts_with("completed after an interruption");
    is_choice(record)
        || completed && link.nodes[Side::A].resolutions(&link.name).iter().any(|(earlier, _)| chosen(earlier))
}

/// Every version of every row that a node ever held.
fn versions(world: &World, node: &Database) -> BTreeSet<(Place, Row)> {
    let log = node.log();
    let logged = log.iter().flat_map(|entry| &entry.changes);
    let after = logged.filter_map(|change| Some((change.place.clone(), change.after.clone()?)));
    let all = after.chain(world.initial[&node.name].iter().cloned());
    all.map(|(place, row)| (place, without_counter(world, row))).collect()
}

fn without_counter(world: &World, mut row: Row) -> Row {
    if columns::has_rules(world.schedule.workload) {
        row.0[COUNTER] = Value::Null;
    }
    row
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
pub(crate) fn half_done(link: &Link) -> BTreeSet<Place> {
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
