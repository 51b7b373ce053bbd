//! Tables that are set aside: both sides do not agree on them, and the rest goes on.
//!
//! A table is set aside where the two checkpoints stand, at the beginning of a session, as if the bridge had been paused there: all of either log up to its
//! checkpoint is applied of it, and nothing behind. Each node notes that place of the other's log, as it keeps the checkpoint itself. While it is set aside
//! nobody reads the table, writes it, settles a key of it or forgets a record of it: it is not among the session's tables. No server is told that
//! its log is no longer needed from there on (`Shared::needed`).
//!
//! It is taken back by going back: the checkpoint becomes the place that was noted, so that the log is read again from there; and of every other
//! table, which was applied further, it is noted up to where ([`NodeState::since`], as for a table that was added while the log had held
//! changes of it already). What the log holds of those up to there is settled, for appliers and rendezvous alike. So the table goes on from
//! just where it stood, on both nodes, as after a crash.
//!
//! A node notes only tables that come to it: of the others nothing is read from the other node's log.
//!
//! Each node is arranged by itself, in one transaction, under both leases and their tokens, and before anything is applied: whatever was done on one node and not on
//! the other when a crash came between is done by the next session, which does nothing else before. What is wanted and missing is noted with the
//! checkpoint as it is then. That is right also where the crash cut a taking back in two and the table is to be set aside again: the
//! checkpoint is then the place that had been noted.
//!
//! Tables that foreign keys tie to one that is set aside are set aside with it (`Survey::tied`): the rows of one could not be written without
//! those of the other.

use std::sync::Arc;

use pontoon_core::{
    Code, Error, Position, Result,
    node::{Lease, Tables},
    state::{Arrangement, NodeState},
};

use crate::{
    bridge::Plan,
    rules::{Rule, Rules},
    side::{Pair, Side},
};

/// What has to be written on each node so that just `aside` of the tables are set aside; the states become what they are after it.
pub(crate) fn arrangements(
    aside: &[Arc<str>],
    tables: &Pair<Tables>,
    rules: Rules,
    states: &mut Pair<NodeState>,
) -> Pair<Option<Arrangement>> {
    let notes_since = rules.has(Rule::Aside);
    let made = Pair::from_fn(|side| arrangement(aside, &tables[side], &states[side], notes_since));
    for side in Side::BOTH {
        let Some(Arrangement { checkpoint, since, aside }) = made[side].clone() else { continue };
        let state = &mut states[side];
        (state.checkpoint, state.aside) = (Some(checkpoint), aside);
        for (label, position) in since {
            let Some(table) = tables[side].iter().find(|table| table.label == label) else { continue };
            state.since.retain(|(id, _)| *id != table.id);
            state.since.push((table.id, position));
        }
    }
    made
}

/// The same of one node; `None` where it is as it is to be, or keeps no checkpoint.
fn arrangement(wanted: &[Arc<str>], tables: &Tables, state: &NodeState, notes_since: bool) -> Option<Arrangement> {
    let comes_here = |label: &Arc<str>| state.tables.iter().all(|(known, arrives)| known != label || *arrives);
    let wanted: Vec<&Arc<str>> = wanted.iter().filter(|label| comes_here(label)).collect();
    let noted = |label: &Arc<str>| {
        let found = state.aside.iter().find(|(other, _)| other == label && comes_here(label));
        found.map(|(_, place)| place)
    };
    if state.aside.iter().all(|(label, _)| wanted.contains(&label)) && wanted.iter().all(|label| noted(label).is_some())
    {
        return None;
    }
    let mut checkpoint = state.checkpoint.clone()?;
    let here = &checkpoint.position;
    // Of a table that is no longer bridged nothing is read again.
    let start = needed(here, tables.iter().filter_map(|table| noted(&table.label)));
    let mut since = Vec::new();
    for table in tables.iter().filter(|_| notes_since) {
        let known = state.since.iter().find(|(id, _)| *id == table.id).map(|(_, place)| place);
        let place = noted(&table.label).unwrap_or(here);
        let applied = known.filter(|known| known.covers(place)).unwrap_or(place);
        if known != Some(applied) && !start.covers(applied) {
            since.push((table.label.clone(), applied.clone()));
        }
    }
    let aside = wanted.into_iter().map(|label| (label.clone(), noted(label).unwrap_or(here).clone())).collect();
    checkpoint.position = start;
    Some(Arrangement { checkpoint, since, aside })
}

/// Writes it, on A and then on B.
pub(crate) async fn write(
    plan: &Plan,
    leases: &mut [Box<dyn Lease>],
    arrangements: &Pair<Option<Arrangement>>,
) -> Result<()> {
    for (side, lease) in Side::BOTH.into_iter().zip(leases) {
        if let Some(arrangement) = &arrangements[side] {
            lease.arrange(arrangement).await.map_err(|error| error.at(plan.nodes[side].name()))?;
        }
    }
    Ok(())
}

/// The error of a node's log that cannot be taken up, where that is for tables which were set aside: what is lost of them then is lost of no other.
pub(crate) fn cannot_go_back(error: Error, node: &str, taken_back: &[Arc<str>]) -> Error {
    if taken_back.is_empty() || error.code() != Code::LogLost {
        return error;
    }
    let tables: Vec<String> = taken_back.iter().map(|label| format!("--table {label}")).collect();
    let hint = format!(
        "only what was set aside needs the log from there on: `pontoon resync --from {node} {} --execute` passes over what is lost, and brings the rows",
        tables.join(" ")
    );
    error.hint(hint).of_table(&taken_back[0])
}

/// From where on a log is needed: what is durable, or what was noted of a table that is set aside.
pub(crate) fn needed<'a>(durable: &'a Position, aside: impl IntoIterator<Item = &'a Position>) -> Position {
    aside.into_iter().fold(durable, |first, place| if first.covers(place) { place } else { first }).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rings::tests::tables;
    use pontoon_core::{Checkpoint, LogIdentity, TableId};

    fn places(list: &[(&str, u64)]) -> Vec<(Arc<str>, Position)> {
        list.iter().map(|(label, index)| ((*label).into(), Position::Index(*index))).collect()
    }

    fn state(checkpoint: u64, since: &[(u32, u64)], aside: &[(&str, u64)]) -> NodeState {
        let since = since.iter().map(|(id, index)| (TableId(*id), Position::Index(*index))).collect();
        let checkpoint = Checkpoint { position: Position::Index(checkpoint), log: LogIdentity("b".into()) };
        NodeState { checkpoint: Some(checkpoint), since, aside: places(aside), ..NodeState::default() }
    }

    /// Checkpoint, since, aside.
    type Made = Option<(u64, Vec<(Arc<str>, Position)>, Vec<(Arc<str>, Position)>)>;

    fn made(wanted: &[&str], mapped: &[&str], state: &NodeState) -> Made {
        let wanted: Vec<Arc<str>> = wanted.iter().map(|label| (*label).into()).collect();
        let Arrangement { checkpoint, since, aside } = arrangement(&wanted, &tables(mapped), state, true)?;
        let Position::Index(index) = checkpoint.position else { unreachable!() };
        Some((index, since, aside))
    }

    #[test]
    fn a_table_is_set_aside_where_the_checkpoint_stands() {
        assert_eq!(made(&[], &["t", "u"], &state(30, &[], &[])), None);
        assert_eq!(made(&["t"], &["u"], &state(30, &[], &[])), Some((30, vec![], places(&[("t", 30)]))));
        assert_eq!(made(&["t"], &["u"], &state(40, &[], &[("t", 30)])), None);
        let both = places(&[("t", 30), ("u", 40)]);
        assert_eq!(made(&["t", "u"], &["v"], &state(40, &[], &[("t", 30)])), Some((40, vec![], both)));
    }

    #[test]
    fn it_goes_on_from_there_and_the_others_are_passed_over_up_to_where_they_stood() {
        let back = made(&[], &["t", "u", "v"], &state(40, &[], &[("t", 30)]));
        assert_eq!(back, Some((30, places(&[("u", 40), ("v", 40)]), vec![])));
        // One that was added, or passed over before, beyond the checkpoint; and one that is below it by now.
        let back = made(&[], &["t", "u", "v"], &state(40, &[(1, 50), (2, 35)], &[("t", 30)]));
        assert_eq!(back, Some((30, places(&[("v", 40)]), vec![])));
        // The table itself may have been added beyond the place.
        let back = made(&[], &["t", "u"], &state(40, &[(0, 33)], &[("t", 30)]));
        assert_eq!(back, Some((30, places(&[("u", 40)]), vec![])));
    }

    #[test]
    fn a_table_that_does_not_come_here_is_neither_noted_nor_gone_back_for() {
        let mut there = state(40, &[], &[]);
        there.tables = vec![("t".into(), false), ("u".into(), true)];
        assert_eq!(made(&["t"], &["u"], &there), None);
        // It came here when it was set aside.
        there.aside = places(&[("t", 30)]);
        assert_eq!(made(&["t"], &["u"], &there), Some((40, vec![], vec![])));
        assert_eq!(made(&[], &["t", "u"], &there), Some((40, vec![], vec![])));
    }

    #[test]
    fn several_come_back_one_after_the_other_or_at_once() {
        let at_once = made(&[], &["t", "u", "v"], &state(40, &[], &[("t", 30), ("u", 20)]));
        assert_eq!(at_once, Some((20, places(&[("t", 30), ("v", 40)]), vec![])));
        let one = made(&["u"], &["t", "v"], &state(40, &[], &[("t", 30), ("u", 35)]));
        assert_eq!(one, Some((30, places(&[("v", 40)]), places(&[("u", 35)]))));
        // The other is applied further than the checkpoint is by now.
        let other = made(&[], &["t", "u", "v"], &state(32, &[(2, 40)], &[("u", 35)]));
        assert_eq!(other, Some((32, places(&[("u", 35)]), vec![])));
    }

    #[test]
    fn of_a_table_that_is_no_longer_bridged_nothing_is_read_again() {
        assert_eq!(made(&[], &["u"], &state(40, &[], &[("t", 30)])), Some((40, vec![], vec![])));
        assert_eq!(made(&["t"], &["u"], &NodeState::default()), None);
    }

    #[test]
    fn a_log_is_needed_from_the_first_place_on() {
        let at = Position::Index;
        assert_eq!(needed(&at(40), []), at(40));
        assert_eq!(needed(&at(40), &[at(30), at(35)]), at(30));
        assert_eq!(needed(&at(20), &[at(30)]), at(20));
    }
}
