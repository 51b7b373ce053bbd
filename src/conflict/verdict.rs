//! Under the locks: from rows, fences and pending writes to what both nodes shall hold, and its records.
//!
//! Pure but for looking up the records in force. Keys that one write joined (a row that moved from key to
//! key) are one group, decided as one; so are those whose earlier settlement is half done. What a constraint ties is
//! decided each by itself, and then brought into agreement ([`super::ties`]).

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{
    Position, Resolution, Row, TableId,
    new_key::NewKey,
    node::{TableBatch, Tables},
};
use serde_json::{Map, Value as Json};

use super::{
    chain::Chain,
    decide::{self, Brought, Decision, HalfDone, KeyState, Reason},
    merge::{Outcome, Taken},
    pending::{History, Pending},
    ties::{Adjusted, Standing, Ties, Undecided},
};
use crate::{
    bridge::Shared,
    direction::plan::{self, Net, Place},
    event::ConflictKind,
    rules::Rule,
    side::{Pair, Side},
};

/// Stands in a record where a node's name would, for columns to which both sides added. No node can be called so.
const ADDED: &str = "+";

/// The rows of keys on one side.
pub(super) type Rows = BTreeMap<Place, Option<Row>>;

/// Keys that writes joined to those under rendezvous, and that are not among them.
pub(super) fn linked(pending: &Pair<Pending>, keys: &BTreeSet<Place>) -> BTreeSet<Place> {
    let links = pending.iter().flat_map(|pending| &pending.links);
    links.flat_map(|(from, to)| [from, to]).filter(|place| !keys.contains(*place)).cloned().collect()
}

/// What both nodes shall hold of one key, and the record of it for each.
pub(crate) struct Verdict {
    pub(crate) place: Place,
    pub(crate) reason: Reason,
    /// What each node shall hold: the same, but for a discard.
    pub(crate) rows: Pair<Option<Row>>,
    /// Both sides had writes that the other had not got.
    pub(crate) contended: bool,
    /// The rows differ, and nothing that was written says why.
    pub(super) unexplained: bool,
    /// There are pending writes that the record covers.
    pub(super) covers_something: bool,
    /// What the direction from each side met.
    pub(crate) kinds: Pair<ConflictKind>,
    /// What became of it for another row's sake.
    pub(super) adjusted: Option<Adjusted>,
    pub(super) group: usize,
    pub(super) records: Pair<Resolution>,
    /// What an operator asked for and is done with it.
    pub(super) answers: Option<NewKey>,
}

impl Verdict {
    /// The rule that decided, in the words of the record.
    pub(crate) fn rule(&self) -> &str {
        &self.records[Side::A].rule
    }

    /// Whether its row is neither side's as it was, but made of both.
    pub(crate) fn is_merged(&self) -> bool {
        self.records[Side::A].columns.is_some()
    }
}

/// What a direction met: its last write of the key, by whether it found and left a row, against the row on the other side, by whether there is one.
pub(crate) fn kind((before, after): (bool, bool), target: bool, target_deleted: bool) -> ConflictKind {
    match (before, after, target) {
        (false, _, _) => ConflictKind::InsertExists,
        (true, true, true) => ConflictKind::UpdateOriginDiffers,
        (true, true, false) if target_deleted => ConflictKind::UpdateDeleted,
        (true, true, false) => ConflictKind::UpdateMissing,
        (true, false, true) => ConflictKind::DeleteOriginDiffers,
        (true, false, false) => ConflictKind::DeleteMissing,
    }
}

/// Whether rows differ, and the pending writes do not say why: there are none, or those of one side alone, which were not made on
/// top of what the other side has.
fn is_unexplained(rows: &Pair<Option<Row>>, histories: &Pair<History>) -> bool {
    let mut writing = Side::BOTH.into_iter().filter(|side| !histories[*side].all.is_empty());
    let explained = match (writing.next(), writing.next()) {
        (None, _) => false,
        (Some(writer), None) => {
            // The latter, where a write of the bridge has superseded the first of them.
            let chains = [&histories[writer].all, &histories[writer].unseen];
            let other = rows[writer.other()].as_ref();
            chains.into_iter().any(|chain| !chain.is_empty() && chain.was_made_on(other))
        }
        (Some(_), Some(_)) => true,
    };
    rows[Side::A] != rows[Side::B] && !explained
}

/// Everything known under the locks.
pub(super) struct Case<'a> {
    pub(super) shared: &'a Shared,
    pub(super) keys: &'a BTreeSet<Place>,
    /// Those of them that the settlement is about. The others are there since a constraint ties them to one.
    pub(super) own: &'a BTreeSet<Place>,
    pub(super) rows: &'a Pair<Rows>,
    pub(super) fences: &'a Pair<Option<Position>>,
    pub(super) pending: &'a Pair<Pending>,
    /// Where their rows are to come from if no write explains them.
    pub(super) brought: Option<Brought>,
    /// What an operator decided of the former, where nothing was written since they looked.
    pub(super) by_hand: Option<Reason>,
}

/// What was decided of one key.
pub(super) struct Decided {
    pub(super) reason: Reason,
    pub(super) outcome: Outcome,
    /// The group of keys that it is one of.
    pub(super) group: usize,
    pub(super) adjusted: Option<Adjusted>,
}

impl Case<'_> {
    /// What is decided of each key; and whether it cannot stand side by side, so that a person is to decide.
    pub(super) fn verdicts(&self) -> (Vec<Verdict>, Option<Undecided>) {
        let groups = groups(self.keys, self.pending, |place| self.shared.resolutions.half_done_with(place));
        let mut decided: BTreeMap<Place, Decided> = BTreeMap::new();
        for (number, group) in groups.iter().enumerate() {
            let Decision { reason, keys } = self.decision(group);
            let of = |outcome| Decided { reason, outcome, group: number, adjusted: None };
            decided.extend(group.iter().cloned().zip(keys.into_iter().map(of)));
        }
        let undecided = self.agree(&mut decided).err();
        (decided.into_iter().map(|(place, decided)| self.verdict(&place, decided)).collect(), undecided)
    }

    /// What ties keys to each other decides once more, but not over what a person decided.
    fn agree(&self, decided: &mut BTreeMap<Place, Decided>) -> Result<(), Undecided> {
        let shared = self.shared;
        let held = decided.values().any(|decided| decided.reason == Reason::Held);
        if held || !shared.rules.has(Rule::Tied) {
            return Ok(());
        }
        let standing = |(place, decided): (&Place, &Decided)| {
            let times = Side::BOTH.into_iter().filter_map(|side| self.history(side, place).all.time());
            let (row, winner) = (decided.outcome.row.clone(), decided.reason.winner());
            let fixed = matches!(decided.reason, Reason::Chosen(_));
            (place.clone(), Standing { row, winner, time: times.max(), fixed, adjusted: None })
        };
        // What is discarded stays on each side as it is.
        let one = |(_, decided): &(&Place, &Decided)| !matches!(decided.reason, Reason::Discarded(_));
        let mut standings: BTreeMap<Place, Standing> = decided.iter().filter(one).map(standing).collect();
        let tables = Pair::from_fn(|side| &shared.tables[side]);
        let ties = Ties { tables, policies: &shared.policies, preferred: shared.preferred, rows: self.rows };
        ties.agree(&mut standings)?;
        for (place, standing) in standings {
            if let (Some(adjusted), Some(decided)) = (standing.adjusted, decided.get_mut(&place)) {
                (decided.outcome, decided.adjusted) = (Outcome::whole(standing.row), Some(adjusted));
            }
        }
        Ok(())
    }

    fn decision(&self, group: &BTreeSet<Place>) -> Decision {
        let Some((table, _)) = group.first() else { return Decision { reason: Reason::Equal, keys: Vec::new() } };
        let (policy, preferred) = (&self.shared.policies[table.index()], self.shared.preferred);
        let by_hand = |reason: Reason| {
            let keys = group.iter().map(|place| Outcome::whole(self.row(reason.winner(), place)));
            Decision { reason, keys: keys.collect() }
        };
        let half_done = self.shared.rules.has(Rule::Complete)
            && !self.shared.resolutions.half_done(|place| group.contains(place)).is_empty();
        if let Some(reason) = self.decided_by_hand(group) {
            return by_hand(reason);
        }
        if half_done {
            let kept = group.iter().find_map(|place| self.discarded(place));
            let keys: Vec<HalfDone> = group.iter().map(|place| self.half_done(place)).collect();
            match kept {
                // Nothing was written since: it was said of what was there, and stands.
                Some(side) if keys.iter().all(|key| key.since.iter().all(Chain::is_empty)) => {
                    by_hand(Reason::Discarded(side))
                }
                _ => decide::complete(&keys, policy, preferred),
            }
        } else {
            let keys: Vec<KeyState> = group.iter().map(|place| self.state(place)).collect();
            let arrived = || self.refused_from(group).or_else(|| self.alone(group)).map(Brought::Copy);
            let brought = match self.brought {
                // An operator has asked for others, and not for what a constraint brought in.
                Some(Brought::Repair(_)) if self.own.is_disjoint(group) => None,
                brought => brought,
            };
            decide::decide(&keys, policy, preferred, brought.or_else(arrived))
        }
    }

    /// What an operator decided of keys that stand or fall together.
    fn decided_by_hand(&self, group: &BTreeSet<Place>) -> Option<Reason> {
        self.by_hand.filter(|_| !self.own.is_disjoint(group))
    }

    /// The side that has the row of a key which the other lacks, where only a constraint has brought the key in, or into
    /// quarantine: without a write that explains it nothing is taken away for another row's sake.
    fn alone(&self, group: &BTreeSet<Place>) -> Option<Side> {
        let has = |side: &Side| group.iter().any(|place| self.row(*side, place).is_some());
        let mut having = Side::BOTH.into_iter().filter(has);
        let brought_in = self.own.is_disjoint(group) || group.iter().any(|place| self.shared.quarantine.holds(place));
        let one = having.next().filter(|_| brought_in)?;
        having.next().is_none().then_some(one)
    }

    /// The side that has a row which the other one refused: without a write that explains why they differ, it is as if
    /// that row arrived again.
    fn refused_from(&self, group: &BTreeSet<Place>) -> Option<Side> {
        let (refused_by, ..) = group.iter().find_map(|place| self.shared.quarantine.head(place))?;
        let source = refused_by.other();
        group.iter().any(|place| self.row(source, place).is_some()).then_some(source)
    }

    fn row(&self, side: Side, place: &Place) -> Option<Row> {
        self.rows[side].get(place).cloned().flatten()
    }

    /// The writes that are pending.
    fn history(&self, side: Side, place: &Place) -> History {
        self.pending[side].histories.get(place).cloned().unwrap_or_default()
    }

    fn state(&self, place: &Place) -> KeyState {
        KeyState {
            rows: Pair::from_fn(|side| self.row(side, place)),
            pending: Pair::from_fn(|side| self.history(side, place)),
        }
    }

    fn half_done(&self, place: &Place) -> HalfDone {
        let record = self.shared.resolutions.get(Side::A, place);
        HalfDone {
            rows: Pair::from_fn(|side| self.row(side, place)),
            since: Pair::from_fn(|side| self.history(side, place).unseen),
            base: record.as_ref().and_then(|record| record.other_row.clone()),
            settled_time: record.as_ref().map_or(i64::MIN, |record| record.commit_time),
        }
    }

    /// Whose row an operator kept, by the record of a key that is half done.
    fn discarded(&self, place: &Place) -> Option<Side> {
        let record = self.shared.resolutions.get(Side::A, place)?;
        let keeps = |side: &Side| Reason::Discarded(*side).text(&self.shared.names).to_string() == record.rule;
        Side::BOTH.into_iter().find(keeps)
    }

    pub(super) fn verdict(&self, place: &Place, Decided { reason, outcome, group, adjusted }: Decided) -> Verdict {
        let discarded = matches!(reason, Reason::Discarded(_));
        let rows = Pair::from_fn(|side| if discarded { self.row(side, place) } else { outcome.row.clone() });
        let histories = Pair::from_fn(|side| self.history(side, place));
        let times = histories.iter().filter_map(|history| history.all.time());
        let earlier = self.shared.resolutions.get(Side::A, place).map(|record| record.commit_time);
        let completed = matches!(reason, Reason::Completed(_)).then_some(earlier).flatten();
        let commit_time = times.chain(completed).max().unwrap_or(0);
        let record = |side: Side| Resolution {
            id: 0,
            group: 0,
            table: place.0,
            key: place.1.clone(),
            other_fence: self.fences[side.other()].clone(),
            own_fence: self.fences[side].clone(),
            own_row: self.row(side, place),
            other_row: self.row(side.other(), place),
            verdict: rows[side].clone(),
            ancestor: histories.iter().find_map(|history| history.all.ancestor()).cloned(),
            columns: self.columns_taken(place, &outcome),
            commit_time,
            rule: self.rule(place, reason, &outcome, adjusted.as_ref()),
        };
        let met = |source: Side| {
            let (own, other) = (histories[source].all.last(), histories[source.other()].all.last());
            let deleted = other.is_some_and(|write| !write.after);
            match &adjusted {
                Some(Adjusted::GaveWay { .. }) => ConflictKind::MultipleUniqueConflicts,
                Some(Adjusted::Restored { .. } | Adjusted::Removed { .. }) => ConflictKind::ReferenceBroken,
                None if !outcome.crossed.is_empty() => ConflictKind::FloorCrossed,
                None => {
                    let last = own.map_or((true, true), |write| (write.before, write.after));
                    kind(last, self.row(source.other(), place).is_some(), deleted)
                }
            }
        };
        Verdict {
            place: place.clone(),
            reason,
            kinds: Pair::from_fn(met),
            contended: adjusted.is_some() || histories.iter().all(|history| !history.all.is_empty()),
            unexplained: is_unexplained(&Pair::from_fn(|side| self.row(side, place)), &histories),
            covers_something: histories.iter().any(|history| !history.all.is_empty()),
            group,
            records: Pair::from_fn(record),
            rows,
            adjusted,
            answers: None,
        }
    }

    /// The rule that decided, in the words of the record.
    fn rule(&self, place: &Place, reason: Reason, outcome: &Outcome, adjusted: Option<&Adjusted>) -> String {
        let mut rule = reason.text(&self.shared.names).to_string();
        let crossed: Vec<&str> = outcome.crossed.iter().map(|at| self.column(place, *at)).collect();
        if !crossed.is_empty() {
            rule = format!("{rule}; floor_crossed: {}", crossed.join(", "));
        }
        match adjusted {
            Some(adjusted) => format!("{rule}; {}", adjusted.text()),
            None => rule,
        }
    }

    /// Which columns are whose, as the record has it.
    fn columns_taken(&self, place: &Place, outcome: &Outcome) -> Option<Box<str>> {
        let mut taken = Map::new();
        for (at, from) in &outcome.taken {
            let from = match from {
                Taken::From(side) => &*self.shared.names[*side],
                Taken::Added => ADDED,
            };
            let columns = taken.entry(from).or_insert_with(|| Json::Array(Vec::new()));
            if let Json::Array(columns) = columns {
                columns.push(self.column(place, *at).into());
            }
        }
        (!taken.is_empty()).then(|| Json::Object(taken).to_string().into())
    }

    fn column(&self, (table, _): &Place, at: usize) -> &str {
        let table = self.shared.tables[Side::A].get(table.index());
        table.and_then(|table| table.columns.get(at)).map_or("?", |column| &*column.column.name)
    }
}

/// Cuts keys into groups that stand or fall together.
fn groups(
    keys: &BTreeSet<Place>,
    pending: &Pair<Pending>,
    half_done_with: impl Fn(&Place) -> BTreeSet<Place>,
) -> Vec<BTreeSet<Place>> {
    let mut groups: Vec<BTreeSet<Place>> = keys.iter().map(|place| BTreeSet::from([place.clone()])).collect();
    let mut join = |from: &Place, to: &Place| {
        let Some(target) = groups.iter().position(|group| group.contains(from)) else { return };
        let Some(source) = groups.iter().position(|group| group.contains(to)) else { return };
        if source != target {
            let joined = groups.swap_remove(source.max(target));
            groups[source.min(target)].extend(joined);
        }
    };
    for (from, to) in pending.iter().flat_map(|pending| &pending.links) {
        join(from, to);
    }
    for place in keys {
        for other in half_done_with(place) {
            join(place, &other);
        }
    }
    groups
}

/// What makes a side's rows into verdicts, one step after the other: unique values are given up before others take them.
pub(super) fn batches(
    side: Side,
    tables: &Tables,
    rows: &Rows,
    verdicts: &[Verdict],
) -> Vec<BTreeMap<TableId, TableBatch>> {
    let stage = verdicts.iter().map(|verdict| {
        let before = rows.get(&verdict.place).cloned().flatten();
        (verdict.place.clone(), Net::new(before, verdict.rows[side].clone()))
    });
    let stage = stage.filter(|(_, net)| net.before != net.after).collect();
    // What a settlement writes is written as it is, on condition that the whole row is as it was at the fence.
    let stages = plan::vacated(stage, tables, |_| true);
    stages.iter().map(|stage| plan::batches(stage, &[]).tables).collect()
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;

    use super::*;

    fn row(n: i128) -> Option<Row> {
        Some(Row(vec![Value::Integer(n)]))
    }

    /// A write from one row to another, which no write of the bridge came after.
    fn wrote(from: Option<Row>, to: Option<Row>) -> History {
        let write = Chain::of(1, from, to, None);
        History { all: write.clone(), unseen: write, ..History::default() }
    }

    #[test]
    fn what_was_written_on_top_of_the_other_row_is_explained() {
        let none = History::default;
        for (rows, histories, unexplained) in [
            ((row(2), row(1)), (wrote(row(1), row(2)), none()), false),
            ((row(2), row(9)), (wrote(row(1), row(2)), none()), true),
            ((row(9), row(2)), (none(), wrote(row(1), row(2))), true),
            ((row(2), None), (wrote(None, row(2)), none()), false),
            ((row(2), None), (wrote(row(1), row(2)), none()), true),
            ((row(2), row(2)), (wrote(row(1), row(2)), none()), false),
            ((row(2), row(1)), (none(), none()), true),
            ((row(2), row(9)), (wrote(row(1), row(2)), wrote(row(1), row(9))), false),
        ] {
            let (rows, histories) = (Pair::new(rows.0, rows.1), Pair::new(histories.0, histories.1));
            assert_eq!(is_unexplained(&rows, &histories), unexplained, "{rows:?} {histories:?}");
        }
        // The bridge brought 5 between the two writes.
        let mut twice = wrote(row(5), row(6));
        twice.all = Chain::of(1, row(1), row(2), None);
        twice.all.append(Chain::of(2, row(5), row(6), None));
        assert!(!is_unexplained(&Pair::new(row(6), row(5)), &Pair::new(twice, none())));
    }
}
