//! An operator who gives rows another key, and what holds then: each is under its key once, as it was when it lost, and
//! what was asked for is answered truly.

use std::{collections::BTreeMap, time::Duration};

use pontoon::side::{Pair, Side};
use pontoon_core::{
    Resolution, Row, Value,
    new_key::{Answer, NewKey, Of},
};
use pontoon_memory::database::{Kept, Place};
use tokio::time::sleep;

use crate::{
    link::Link,
    schedule::Workload,
    world::{World, place},
};

/// Keys beyond those at the beginning that are given, and of which applications write some too: so few that some are taken.
pub(crate) const MORE_KEYS: i64 = 8;

impl World {
    /// Whether an operator gives rows another key.
    pub(crate) fn gives_keys(&self) -> bool {
        self.schedule.workload == Workload::NewKeys
    }

    fn some_key(&self) -> Place {
        place(self.dice.between(0, self.keys + MORE_KEYS - 1))
    }

    /// As the command does before it marks the entries of a key: remembers which key the other row is to have.
    pub(crate) async fn ask_apart(&self, link: &Link, entries: &Pair<Vec<Kept>>) {
        let heads = entries.iter().flatten().filter(|kept| kept.stored.refusal.is_some());
        let Some(head) = heads.map(|kept| kept.stored.id).min() else { return };
        let (table, key) = self.some_key();
        self.note(format!("{} the other row is to have ({key}), entry {head}", link.name));
        link.nodes[Side::A].ask_new_key(&link.name, NewKey { of: Of::Entry(head), table, key });
        sleep(self.dice.duration(Duration::from_millis(500))).await;
    }

    /// An operator wants a row that lost, or what they take for one, to have a key.
    pub(crate) fn ask_for_one_that_lost(&self) {
        let Some(link) = self.dice.pick(&self.links) else { return };
        let records: Vec<Resolution> = records(link);
        let Some(record) = self.dice.pick(&records) else { return };
        // The command looks at this.
        let together = records.iter().filter(|other| other.group == record.group).count() > 1;
        if together && record.rule.starts_with("completed") {
            return;
        }
        let (table, key) = self.some_key();
        self.note(format!("{} what lost in record {} is to have ({key})", link.name, record.id));
        link.nodes[Side::A].ask_new_key(&link.name, NewKey { of: Of::Record(record.id), table, key });
    }

    /// Whether every request about a record is answered.
    pub(crate) fn all_is_answered(&self) -> bool {
        let asked = self.links.iter().flat_map(|link| link.nodes[Side::A].new_keys(&link.name));
        asked.into_iter().all(|(request, answer)| answer.is_some() || matches!(request.of, Of::Entry(_)))
    }

    /// How many rows were given a key.
    pub(crate) fn keys_given(&self) -> usize {
        self.links.iter().flat_map(records).filter(is_given).count()
    }
}

fn records(link: &Link) -> Vec<Resolution> {
    link.nodes[Side::A].resolutions(&link.name).into_iter().map(|(record, _)| record).collect()
}

/// Whether a record is of a key that a row was given.
pub(crate) fn is_given(record: &Resolution) -> bool {
    let by_hand = record.rule.starts_with("decided by an operator: the row that lost in record ")
        || record.rule.starts_with("decided by an operator: ") && record.rule.contains(", the other row under key (");
    by_hand && record.own_row.is_none() && record.other_row.is_none()
}

/// Whether a row was ever given a key.
pub(crate) fn was_given(world: &World, place: &Place) -> bool {
    let mut given = world.links.iter().flat_map(records).filter(is_given);
    given.any(|record| (record.table, &record.key) == (place.0, &place.1))
}

/// The row that does not stand, of the two that a record has.
fn loser(record: &Resolution) -> Option<&Row> {
    let rows = [&record.own_row, &record.other_row];
    rows.into_iter().find(|row| **row != record.verdict)?.as_ref()
}

/// The row of a key but for the key.
fn rest(row: Option<&Row>) -> Option<&[Value]> {
    row.map(|row| &row.0[1..])
}

/// Each row that was given a key is what had lost, once, under that key; and each request is answered by what was done.
pub(crate) fn rows_have_their_keys(world: &World) -> Result<(), String> {
    for link in world.links.iter().filter(|_| world.gives_keys()) {
        let records = records(link);
        let mut given: BTreeMap<i64, usize> = BTreeMap::new();
        for record in records.iter().filter(|record| is_given(record)) {
            let of = record.rule.strip_prefix("decided by an operator: the row that lost in record ");
            let from = match of.and_then(|id| id.parse().ok()) {
                Some(id) => {
                    *given.entry(id).or_default() += 1;
                    records.iter().find(|other| other.id == id)
                }
                None => records.iter().find(|other| other.group == record.group && other.id != record.id),
            };
            let lost = from.and_then(loser);
            let is_under_it = record.verdict.as_ref().is_some_and(|row| vec![row.0[0].clone()] == record.key.0);
            if lost.is_none() || rest(record.verdict.as_ref()) != rest(lost) || !is_under_it {
                return Err(format!("{}: {record:?} is not what lost in {from:?}", link.name));
            }
        }
        if let Some((id, _)) = given.iter().find(|(_, times)| **times > 1) {
            return Err(format!("{}: what lost in record {id} was given a key more than once", link.name));
        }
        for (request, answer) in link.nodes[Side::A].new_keys(&link.name) {
            let is_true = match (request.of, &answer) {
                (Of::Record(id), Some(Answer::Given)) => given.contains_key(&id),
                (Of::Record(id), Some(Answer::Refused(_))) => !given.contains_key(&id),
                (Of::Record(_) | Of::Entry(_), _) => false,
            };
            if !is_true {
                return Err(format!("{}: {request:?} is answered with {answer:?}", link.name));
            }
        }
    }
    Ok(())
}
