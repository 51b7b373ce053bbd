//! A server in the place of another one, whose log goes on from that one's: a standby that was promoted.
//!
//! A standby holds what its primary had committed up to some place of the log, of everything: the tables, the log, and what the bridge keeps there. There the two
//! logs part (the fork). What the primary committed behind it is lost. In PostgreSQL's log places up to the fork are the same ones, and the new log has other
//! things at the positions behind it; a replica of MySQL or MariaDB writes files of its own, and the name of the last transaction before a place
//! (its GTID) tells where in them that is. So whatever either node keeps by a place of the log is kept by where it is now, from before anything is read.
//!
//! # Why the bridge may go on
//!
//! Take the one node as it was at the fork, and the other as it is. That is a state that a crash of the bridge could have left just so, if whatever
//! the one has of the other's making, the other still has: events that did not know of each other may have happened in any order, so some course
//! of things leads there in which the bridge was killed at that moment (a consistent cut). From there every session begins, and reads what is
//! durable; so what makes it right after a crash makes it right here. The rest of the new log is what applications write after that.
//!
//! One node knows of another by the bridge alone, so what has to be there still is told by what the bridge writes on one of them after it has read or written on the
//! other. Let X be the node whose server was promoted, and Y the other one:
//!
//! * What Y has applied or stored in quarantine comes from X's log up to the checkpoint on Y, the places from which tables count (`since`) and those
//!   where they were set aside: all of these have to lie at or before the fork (rule `Fork`). What X has of Y's log goes back with
//!   X's own checkpoint, rows and entries together, and is applied again.
//! * A settlement has read X's row and log up to its fence there: where it is on record on Y, that has to lie at or before the fork (`ForkFence`).
//! * It commits on A and then on B, one settlement after the other. Where X is A, each record on B has to be on A as well: else A has lost a part that
//!   nothing would complete, since a record on B alone never looks half done. Where X is B, a record on A alone is half done, and completed as it is
//!   after a crash, if it is in force; it is not, if it was taken out of force before B lost it (`ForkRecord`). By their numbers, which only
//!   grow: the last record is never forgotten. Where B has lost more than one, `ForkFence` tells: the fence of the next one lies behind the commit of the one before.
//! * A record goes out of force on A and then on B. Where A has lost the first and B has done the second, it would look half done; then a settlement that was
//!   done long ago would be weighed against what was written on top of it (`Check::retired`). One that is half done since B refuses to complete it looks the same, and is
//!   refused with it. The other way round B's record covers what its checkpoint has yet to pass, and stays until it has (`src/conflict/prune.rs`).
//! * A key in quarantine is held where either node has an entry. An attempt that ends it leaves a record. Both nodes' entries are of changes before
//!   their own checkpoints, and where places are others now, that is all that is kept of where they stood.
//! * What operators asked for is answered on A with the record; what they asked in the moments that are lost they have to ask again.
//! * Y's server was told that its log is no longer needed up to X's checkpoint. Where X lost some of that, the log may be gone: then it is lost, and opening it
//!   says so.
//!
//! Of a settlement that left no record (both rows were equal, and nothing was pending) neither side relies on anything. A copy brings rows as
//! they were at a place that is in the checkpoint of the same transaction; if a crash had come between the two halves of a chunk just before, rows of one half may
//! be there that X lost, which a comparison shows.
//!
//! An epoch that is behind what Y has noted is refused before, as ever ([`crate::epoch`]): the files may be older than the timeline tells, if they were put back
//! first. So within the moment in which the epoch is raised a promotion is refused that could have gone on.
//!
//! What is noted last is the checkpoint's log on Y, so that a crash in between begins all of this again.

use std::{collections::HashMap, sync::Arc};

use pontoon_core::{
    Checkpoint, Code, Error, Key, LogIdentity, Position, Result, TableId,
    error::first_few,
    node::{CarriedOver, Lease, Node, Tables},
    state::{Arrangement, NodeState, NotedLogs},
};

use crate::{
    rules::{Rule, Rules},
    side::{Pair, Side},
};

/// Records that a message names.
const NAMED_MAX: usize = 5;

const HINT: &str = "compare the tables (`pontoon verify`) and make them equal, then `pontoon teardown` and `pontoon setup`; docs/operations.md, \
                    \"A server is replaced by its standby\"";

/// A node whose server was promoted since the other side last read its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promoted {
    /// Whose log was read.
    pub(crate) was: LogIdentity,
    /// Whose log it is now.
    pub(crate) is: LogIdentity,
    /// In the new log: all that it has of the other stands before it.
    pub(crate) fork: Position,
    /// Where in the new log the places are that either node keeps; `None` for what is lost.
    places: HashMap<Position, Option<Position>>,
}

impl Promoted {
    fn has(&self, place: &Position) -> bool {
        self.places.get(place).is_some_and(Option::is_some)
    }

    /// Moves a place to where it is now.
    fn carry(&self, place: &mut Position) {
        if let Some(Some(now)) = self.places.get(place) {
            *place = now.clone();
        }
    }

    /// Places are others in the new log.
    fn relocates(&self) -> bool {
        self.places.iter().any(|(was, is)| is.as_ref().is_some_and(|is| is != was))
    }
}

/// Finds which nodes' servers were promoted, and makes sure that both sides go together; then the states speak of the new logs. Changes nothing on the nodes. Of a
/// log that is another one altogether it says nothing: whoever opens it does. Errors: log behind, where a side relies on what is lost.
pub(crate) async fn look(
    nodes: &Pair<Arc<dyn Node>>,
    tables: &Pair<Tables>,
    rules: Rules,
    states: &mut Pair<NodeState>,
) -> Result<Pair<Option<Promoted>>> {
    let mut found = Pair::<Option<Promoted>>::default();
    for side in Side::BOTH {
        let Some(checkpoint) = &states[side.other()].checkpoint else { continue };
        let promoted = promoted(&*nodes[side], &checkpoint.log, places(states, side)).await;
        found[side] = promoted.map_err(|error| error.at(nodes[side].name()))?;
    }
    for side in Side::BOTH {
        let Some(promoted) = &found[side] else { continue };
        Check { names: Pair::from_fn(|side| nodes[side].name()), tables, states, side, promoted, rules }.run()?;
    }
    for side in Side::BOTH {
        if let Some(promoted) = &found[side] {
            carry_over(promoted, side, states);
        }
    }
    Ok(found)
}

async fn promoted(node: &dyn Node, was: &LogIdentity, places: Vec<Position>) -> Result<Option<Promoted>> {
    let is = node.identity().await?;
    if is == *was {
        return Ok(None);
    }
    let carried = node.carried_over(was, &places).await?;
    Ok(carried.map(|CarriedOver { fork, places: now }| Promoted {
        was: was.clone(),
        is,
        fork,
        places: places.into_iter().zip(now).collect(),
    }))
}

/// The places of a side's log that either node keeps.
fn places(states: &Pair<NodeState>, side: Side) -> Vec<Position> {
    let (own, keeper) = (&states[side], &states[side.other()]);
    let own_fences = records(own).filter_map(|record| record.own_fence);
    let other_fences = records(keeper).filter_map(|record| record.other_fence);
    applied(keeper).chain(other_fences).chain(own_fences).cloned().collect()
}

/// Those up to which a node has applied the other's log.
fn applied(keeper: &NodeState) -> impl Iterator<Item = &Position> {
    let checkpoint = keeper.checkpoint.iter().map(|checkpoint| &checkpoint.position);
    let since = keeper.since.iter().map(|(_, place)| place);
    let by_label = keeper.unmapped.since.iter().chain(&keeper.aside).map(|(_, place)| place);
    checkpoint.chain(since).chain(by_label)
}

/// Has the states speak of the new log.
fn carry_over(promoted: &Promoted, side: Side, states: &mut Pair<NodeState>) {
    let own = &mut states[side];
    let own_fences = own.resolutions.iter_mut().map(|record| &mut record.own_fence);
    let own_fences = own_fences.chain(own.unmapped.resolutions.iter_mut().map(|record| &mut record.own_fence));
    own_fences.flatten().for_each(|fence| promoted.carry(fence));
    if promoted.relocates() {
        own.skips.clear();
    }
    let keeper = &mut states[side.other()];
    let fences = keeper.resolutions.iter_mut().map(|record| &mut record.other_fence);
    let fences = fences.chain(keeper.unmapped.resolutions.iter_mut().map(|record| &mut record.other_fence));
    let since = keeper.since.iter_mut().map(|(_, place)| place);
    let by_label = keeper.unmapped.since.iter_mut().chain(&mut keeper.aside).map(|(_, place)| place);
    fences.flatten().chain(since).chain(by_label).for_each(|place| promoted.carry(place));
    if let Some(checkpoint) = &mut keeper.checkpoint {
        promoted.carry(&mut checkpoint.position);
        checkpoint.log = promoted.is.clone();
    }
}

/// Notes it on both nodes: on the one that was promoted, and then on the one whose checkpoint is of its log.
pub(crate) async fn note(
    nodes: &Pair<Arc<dyn Node>>,
    leases: &mut [Box<dyn Lease>],
    promoted: &Pair<Option<Promoted>>,
    (states, tables): (&Pair<NodeState>, &Pair<Tables>),
) -> Result<()> {
    let order = match (&promoted[Side::A], &promoted[Side::B]) {
        (None, None) => return Ok(()),
        (None, Some(_)) => [Side::B, Side::A],
        (Some(_), _) => [Side::A, Side::B],
    };
    let mut logs = Pair::<LogIdentity>::from_fn(|_| LogIdentity("".into()));
    for side in Side::BOTH {
        logs[side] = match &states[side.other()].checkpoint {
            Some(checkpoint) => checkpoint.log.clone(),
            None => nodes[side].identity().await.map_err(|error| error.at(nodes[side].name()))?,
        };
    }
    for side in order {
        let Some(lease) = leases.get_mut(side as usize) else { continue };
        let noted = noted(side, &logs, promoted, &states[side], &tables[side]);
        lease.note_logs(&noted).await.map_err(|error| error.at(nodes[side].name()))?;
    }
    Ok(())
}

/// What one of them is to keep.
fn noted(
    side: Side,
    logs: &Pair<LogIdentity>,
    promoted: &Pair<Option<Promoted>>,
    state: &NodeState,
    tables: &Tables,
) -> NotedLogs {
    let relocates = |side: Side| promoted[side].as_ref().is_some_and(Promoted::relocates);
    let fences = |moved: bool, of: fn(&Record<'_>) -> Option<Position>| {
        let fences = records(state).filter(|_| moved);
        fences.filter_map(|record| Some((record.id, of(&record)?))).collect()
    };
    let label = |id: &TableId| tables.get(id.index()).map(|table| table.label.clone());
    let since = state.since.iter().filter_map(|(id, place)| Some((label(id)?, place.clone())));
    let since = since.chain(state.unmapped.since.iter().cloned());
    let checkpoint = state.checkpoint.as_ref().map(|checkpoint| checkpoint.position.clone());
    let arrangement = state.checkpoint.clone().filter(|_| promoted[side.other()].is_some());
    NotedLogs {
        own: logs[side].clone(),
        other: logs[side.other()].clone(),
        arrangement: arrangement.map(|checkpoint| Arrangement {
            checkpoint,
            since: since.collect(),
            aside: state.aside.clone(),
        }),
        own_fences: fences(relocates(side), |record| record.own_fence.cloned()),
        other_fences: fences(relocates(side.other()), |record| record.other_fence.cloned()),
        stored_before: checkpoint.filter(|_| relocates(side.other())),
        forget_skips: relocates(side),
    }
}

/// The error of a log that is another one than was looked at, where its server was promoted since: then the next session looks again.
pub(crate) async fn since_then(error: Error, node: &dyn Node, start: &Checkpoint) -> Error {
    if error.code() != Code::LogIdentityChanged {
        return error;
    }
    match node.carried_over(&start.log, std::slice::from_ref(&start.position)).await {
        Ok(Some(_)) => Error::new(Code::ConnectionLost, "the server was promoted while the session began"),
        Ok(None) => error,
        Err(unknown) => unknown,
    }
}

/// Whether a checkpoint is of the log that its node has, for whoever is to compare its position with others of that log. Errors: log identity changed.
pub(crate) fn is_of(node: &str, checkpoint: &Checkpoint, log: &LogIdentity) -> Result<()> {
    if checkpoint.log == *log {
        return Ok(());
    }
    let text = format!("{node}: the checkpoint is of the log {}, the server has {log}", checkpoint.log);
    Err(Error::new(Code::LogIdentityChanged, text).hint(
        "where the server is a standby that was promoted, `pontoon run` finds out whether it may go on, and notes it; else connect to the one \
         that the bridge was set up with, or compare the tables and set up anew",
    ))
}

/// The error of a log that cannot be opened, where its server was promoted: what the primary kept it by did not come along.
pub(crate) fn cannot_be_opened(error: Error, node: &str, promoted: Option<&Promoted>, tables: &Tables) -> Error {
    let Some(Promoted { was, is, fork, .. }) = promoted.filter(|_| error.code() == Code::LogLost) else { return error };
    let tables: Vec<String> =
        tables.iter().filter(|table| table.followed).map(|table| format!("--table {}", table.label)).collect();
    let text = format!(
        "{node}: the server was promoted at {fork} (its log was {was} and is {is}), and what its primary kept the log by did not come \
         along: {}",
        error.message()
    );
    Error::new(Code::LogLost, text).hint(format!(
        "`pontoon resync --from {node} {} --execute` passes over what is lost, and brings the rows; docs/operations.md, \"A server is \
         replaced by its standby\"",
        tables.join(" ")
    ))
}

/// A resolution in force.
struct Record<'a> {
    id: i64,
    of: Of<'a>,
    own_fence: Option<&'a Position>,
    other_fence: Option<&'a Position>,
}

/// Which row it settled.
#[derive(PartialEq)]
enum Of<'a> {
    Mapped(TableId, &'a Key),
    /// Of a table that is set aside: its label, and the key as it is kept.
    Unmapped(&'a str, &'a str),
}

/// Those of all tables, also of those that are set aside: it goes on from where it stands when a table is taken back.
fn records(state: &NodeState) -> impl Iterator<Item = Record<'_>> {
    let mapped = state.resolutions.iter().map(|record| Record {
        id: record.id,
        of: Of::Mapped(record.table, &record.key),
        own_fence: record.own_fence.as_ref(),
        other_fence: record.other_fence.as_ref(),
    });
    let is_set_up = |label: &str| state.tables.is_empty() || state.tables.iter().any(|(known, _)| **known == *label);
    let unmapped = state.unmapped.resolutions.iter().filter(move |record| is_set_up(&record.label));
    mapped.chain(unmapped.map(|record| Record {
        id: record.id,
        of: Of::Unmapped(&record.label, &record.key),
        own_fence: record.own_fence.as_ref(),
        other_fence: record.other_fence.as_ref(),
    }))
}

/// Whether what one side has of the other's is there still.
struct Check<'a> {
    names: Pair<&'a str>,
    tables: &'a Pair<Tables>,
    states: &'a Pair<NodeState>,
    /// Whose server was promoted.
    side: Side,
    promoted: &'a Promoted,
    rules: Rules,
}

impl Check<'_> {
    fn run(&self) -> Result<()> {
        if self.rules.has(Rule::Fork) {
            self.places()?;
        }
        if self.rules.has(Rule::ForkFence) {
            self.fences()?;
        }
        if self.rules.has(Rule::ForkRecord) {
            self.records()?;
        }
        if self.side == Side::A {
            self.retired()?;
        }
        Ok(())
    }

    /// The node that keeps the checkpoint.
    fn keeper(&self) -> &NodeState {
        &self.states[self.side.other()]
    }

    fn places(&self) -> Result<()> {
        let lost = applied(self.keeper()).find(|place| !self.promoted.has(place));
        lost.map_or(Ok(()), |place| Err(self.behind(&format!("its log is applied up to {place} there"))))
    }

    fn fences(&self) -> Result<()> {
        let is_lost = |record: &Record<'_>| record.other_fence.is_some_and(|at| !self.promoted.has(at));
        let lost: Vec<_> = records(self.keeper()).filter(is_lost).collect();
        let Some(at) = lost.first().and_then(|record| record.other_fence) else { return Ok(()) };
        Err(self.behind(&format!("{} settled there by what it held at {at}", self.named(&lost))))
    }

    fn records(&self) -> Result<()> {
        let (own, keeper) = (&self.states[self.side], self.keeper());
        let lost: Vec<_> = records(keeper).filter(|record| record.id > own.last_record).collect();
        let is_last_in_force = lost.iter().any(|record| record.id == keeper.last_record);
        if keeper.last_record <= own.last_record || self.side == Side::B && is_last_in_force {
            return Ok(());
        }
        let what = if lost.is_empty() { format!("the record {} is", keeper.last_record) } else { self.named(&lost) };
        Err(self.behind(&format!("{what} settled there, and its own part of that is lost")))
    }

    /// What B never had is behind its last record, which is never forgotten. Else nothing tells a record that B has done with from one that it refused.
    /// It is no rule that can be taken out: the simulation comes to it in no schedule, since A's standby would have to lag for longer than B waits after A.
    fn retired(&self) -> Result<()> {
        let (a, b) = (&self.states[Side::A], &self.states[Side::B]);
        let on_b = |record: &Record<'_>| records(b).any(|other| other.of == record.of && other.id >= record.id);
        let in_doubt = |record: &Record<'_>| record.id <= b.last_record && !on_b(record);
        let lost: Vec<_> = records(a).filter(in_doubt).collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(self.behind(&format!("{} settled and done with there, which it does not know", self.named(&lost))))
    }

    /// Records, by their keys.
    fn named(&self, records: &[Record<'_>]) -> String {
        let key = |record: &Record<'_>| match record.of {
            Of::Mapped(table, key) => {
                let label = self.tables[self.side].get(table.index()).map_or("?", |table| &*table.label);
                format!("{label} key ({key})")
            }
            Of::Unmapped(label, key) => format!("{label} key {key}"),
        };
        format!("{} {}", first_few(records.iter().map(key), NAMED_MAX), if records.len() == 1 { "is" } else { "are" })
    }

    fn behind(&self, what: &str) -> Error {
        let Promoted { was, is, fork, .. } = self.promoted;
        let (name, other) = (self.names[self.side], self.names[self.side.other()]);
        let text = format!(
            "{name}: the server was promoted at {fork} (its log was {was} and is {is}), and {other} has seen what is lost: {what}"
        );
        Error::new(Code::LogBehind, text).hint(HINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conflict::resolutions, rings::tests::tables};
    use pontoon_core::{Resolution, TableId, state::UnmappedResolution};
    use pontoon_memory::{Database, Dice, Faults, MemoryNode, database::Clock};

    /// Entries of the log when the standby was promoted.
    const FORK: u64 = 5;

    fn state(checkpoint: u64, of: &str, last_record: i64) -> NodeState {
        let checkpoint =
            Checkpoint { position: Position::Index(checkpoint), log: LogIdentity(format!("memory:{of}").into()) };
        NodeState { checkpoint: Some(checkpoint), last_record, ..NodeState::default() }
    }

    fn record(id: i64, key: i128, other_fence: u64) -> Resolution {
        let (own_fence, other_fence) = (Some(Position::Index(1)), Some(Position::Index(other_fence)));
        Resolution { own_fence, other_fence, ..resolutions::tests::record(id, key) }
    }

    /// What is said where the server of a side was promoted; the states afterwards.
    fn looked(side: Side, a: NodeState, b: NodeState) -> Result<(Pair<Option<Promoted>>, Pair<NodeState>)> {
        let dice = Dice::new(1, Faults::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let databases = ["a", "b"].map(|name| Database::new(name, dice.clone(), Clock::Skewed(0)));
        let promoted = &databases[side as usize];
        (0..FORK).for_each(|_| promoted.log_of_before(Vec::new()));
        promoted.promote(promoted.standby());
        let nodes = Pair::from_fn(|side| -> Arc<dyn Node> {
            Arc::new(MemoryNode::new(databases[side as usize].clone(), "ab"))
        });
        let mut states = Pair::new(a, b);
        let mapped = Pair::from_fn(|_| tables(&["t"]));
        let found = runtime.block_on(look(&nodes, &mapped, Rules::ALL, &mut states))?;
        Ok((found, states))
    }

    fn refused(side: Side, a: NodeState, b: NodeState, what: &str) {
        let error = looked(side, a, b).unwrap_err();
        assert_eq!(error.code(), Code::LogBehind);
        let begin =
            if side == Side::A { "a: the server was promoted at #5" } else { "b: the server was promoted at #5" };
        assert!(error.message().starts_with(begin) && error.message().contains(what), "{error}");
    }

    #[test]
    fn a_log_that_goes_on_gets_its_new_name() {
        let mut b = state(5, "a", 3);
        b.resolutions = vec![record(3, 1, 5)];
        let mut a = state(9, "b", 3);
        a.resolutions = vec![record(3, 1, 9)];
        let (found, states) = looked(Side::A, a, b).unwrap();
        let promoted = found[Side::A].as_ref().unwrap();
        assert_eq!(
            (&*promoted.was.0, &*promoted.is.0, &promoted.fork),
            ("memory:a", "memory:a:1", &Position::Index(5))
        );
        assert_eq!(found[Side::B], None);
        let log = |side: Side| states[side].checkpoint.as_ref().unwrap().log.to_string();
        assert_eq!((log(Side::A), log(Side::B)), ("memory:b".into(), "memory:a:1".into()));
    }

    #[test]
    fn whoever_relies_on_what_is_lost_is_refused() {
        refused(Side::A, state(9, "b", 0), state(6, "a", 0), "applied up to #6");
        let mut b = state(4, "a", 0);
        b.since = vec![(TableId(0), Position::Index(7))];
        refused(Side::A, state(9, "b", 0), b, "applied up to #7");
        let mut b = state(4, "a", 0);
        b.aside = vec![("t".into(), Position::Index(8))];
        refused(Side::A, state(9, "b", 0), b, "applied up to #8");
        let mut a = state(4, "b", 3);
        a.resolutions = vec![record(3, 17, 6)];
        refused(Side::B, a, state(9, "a", 3), "t key (17) is settled there by what it held at #6");
        let mut b = state(4, "a", 0);
        b.unmapped.since = vec![("u".into(), Position::Index(9))];
        refused(Side::A, state(9, "b", 0), b, "applied up to #9");
        let mut a = state(4, "b", 3);
        a.unmapped.resolutions = vec![unmapped(3, 6)];
        refused(Side::B, a, state(9, "a", 3), "u key [18] is settled there by what it held at #6");
    }

    fn unmapped(id: i64, other_fence: u64) -> UnmappedResolution {
        UnmappedResolution {
            id,
            label: "u".into(),
            key: "[18]".into(),
            other_fence: Some(Position::Index(other_fence)),
            own_fence: Some(Position::Index(1)),
        }
    }

    #[test]
    fn a_part_of_a_settlement_that_is_lost_is_completed_or_refused() {
        // A's, which commits first: nothing would complete it.
        let mut b = state(5, "a", 4);
        b.resolutions = vec![record(4, 17, 5)];
        refused(Side::A, state(9, "b", 3), b, "t key (17) is settled there");
        refused(Side::A, state(9, "b", 3), state(5, "a", 4), "the record 4 is settled there");
        // B's: it is half done.
        let mut a = state(5, "b", 4);
        a.resolutions = vec![record(4, 17, 5)];
        assert!(looked(Side::B, a, state(9, "a", 3)).is_ok());
        refused(Side::B, state(5, "b", 4), state(9, "a", 3), "the record 4 is settled there");
    }

    #[test]
    fn what_was_done_with_is_not_taken_for_half_done() {
        let mut a = state(9, "b", 3);
        a.resolutions = vec![record(2, 17, 5), record(3, 18, 5)];
        refused(Side::A, a.clone(), state(5, "a", 3), "t key (17), t key (18) are settled and done with there");
        // It is half done, and the last.
        assert!(looked(Side::A, a.clone(), state(5, "a", 1)).is_ok());
        let mut b = state(5, "a", 3);
        b.resolutions = vec![record(2, 17, 5), record(3, 18, 5)];
        assert!(looked(Side::A, a, b).is_ok());
        // Of a table that is set aside; where it is bridged no longer nothing is gone on with.
        let mut a = state(9, "b", 3);
        a.unmapped.resolutions = vec![unmapped(3, 5)];
        refused(Side::A, a.clone(), state(5, "a", 3), "u key [18] is settled and done with there");
        a.tables = vec![("t".into(), true)];
        assert!(looked(Side::A, a, state(5, "a", 3)).is_ok());
    }

    #[test]
    fn a_log_that_cannot_be_opened_says_why() {
        let promoted = Promoted {
            was: LogIdentity("postgres:7:1".into()),
            is: LogIdentity("postgres:7:2".into()),
            fork: Position::Lsn(0x5000),
            places: HashMap::new(),
        };
        let lost = || Error::new(Code::LogLost, "the slot is not there");
        let told = cannot_be_opened(lost(), "shop", Some(&promoted), &tables(&["t", "u"]));
        assert!(
            told.message().starts_with("shop: the server was promoted at 0/5000 (its log was postgres:7:1 and"),
            "{told}"
        );
        assert!(
            told.remedy().unwrap().contains("pontoon resync --from shop --table t --table u --execute"),
            "{told:?}"
        );
        assert_eq!(cannot_be_opened(lost(), "shop", None, &tables(&["t"])).message(), "the slot is not there");
    }
}
