//! What the tasks of one session share.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex},
    time::Duration,
};

use pontoon_core::{
    Error, Fault, Position, Result, TableId,
    history::Retention,
    node::{Applier, Node, Session, Tables},
    quarantine::Stored,
    state::{NodeState, Pause},
};
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep};

use super::{Plan, random, states::checkpoint};
use crate::{
    aside,
    conflict::{
        broken::{Looking, referring},
        decide::Reason,
        policy::Policy,
        quarantine::{OnError, Quarantine},
        registry::Registry,
        resolutions::Resolutions,
        verdict::Verdict,
        watchdog::Watchdog,
    },
    copy::{Underway, Windows},
    direction::queue::Queue,
    event::{Conflict, EngineEvent, Observer, Refused},
    held_back::Restraints,
    level,
    rules::{Rule, Rules},
    side::{Pair, Side},
};

/// A session that was idle this long is opened anew: the server, or what lies between, may have given it up.
const SESSION_IDLE_MAX: Duration = Duration::from_secs(30);

/// Whether a session that was used then may begin another transaction.
pub(crate) fn is_at_hand(used: Instant) -> bool {
    used.elapsed() <= SESSION_IDLE_MAX
}

/// What the tasks of one session share.
pub(crate) struct Shared {
    pub(crate) nodes: Pair<Arc<dyn Node>>,
    pub(crate) names: Pair<String>,
    pub(crate) tables: Pair<Tables>,
    pub(crate) policies: Vec<Policy>,
    /// Of each side, by table: the tables that refer to it, and by which foreign key.
    referring: Pair<Vec<Vec<(TableId, usize)>>>,
    pub(crate) on_error: Vec<OnError>,
    pub(crate) preferred: Side,
    pub(crate) reads: Pair<bool>,
    /// Other bridges read what is written on a side.
    pub(crate) read_by_others: Pair<bool>,
    /// Transactions of a side's log that the operator said to pass over.
    pub(crate) skips: Pair<Vec<Position>>,
    pub(crate) rules: Rules,
    /// What is read of a side's log and not yet applied on the other.
    pub(crate) queues: Pair<Arc<Queue>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) resolutions: Resolutions,
    pub(crate) quarantine: Quarantine,
    pub(crate) watchdog: Watchdog,
    pub(crate) retention: Retention,
    /// Up to where a side's log is behind us, applied or nothing to apply.
    pub(crate) passed: Pair<level::Sender<Position>>,
    /// Up to where the other side's checkpoint says so.
    pub(crate) durable: Pair<level::Sender<Position>>,
    /// Up to where a side's log is applied of tables that are set aside.
    aside: Pair<Vec<Position>>,
    /// What the reader of a side's log has stopped at.
    pub(crate) obstacles: Pair<level::Sender<Option<Error>>>,
    /// What a copy from a side has to know of that side's log.
    pub(crate) windows: Pair<Windows>,
    pub(crate) chunk_rows: Option<usize>,
    /// The tables that are being copied.
    pub(crate) underway: Underway,
    /// The word that nothing is to be applied on a side. When it ends, so does the session.
    pub(crate) paused: Pair<Option<Pause>>,
    /// How many rows of a side's log are applied in a second, by the configuration and where nobody has said otherwise.
    pub(crate) rows_per_second: Option<NonZeroU64>,
    /// The same as it is now.
    pub(crate) throttles: Pair<level::Sender<Option<NonZeroU64>>>,
    pub(crate) restraints: Restraints,
    /// Whether they hold back what comes from a side.
    pub(crate) held_back: Pair<level::Sender<bool>>,
    /// What earlier sessions and operators left to be settled is settled.
    pub(crate) begun: level::Sender<bool>,
    /// How many rendezvous wait for a reader.
    pub(crate) urgent: level::Sender<usize>,
    pub(crate) stopping: level::Receiver<bool>,
    tokens: Pair<i64>,
    dice: Arc<Mutex<SmallRng>>,
    observer: Arc<dyn Observer>,
}

impl Shared {
    pub(crate) fn new(
        plan: &Plan,
        tokens: Pair<i64>,
        states: &Pair<NodeState>,
        paused: Pair<Option<Pause>>,
        stopping: level::Receiver<bool>,
        dice: Arc<Mutex<SmallRng>>,
    ) -> Result<Self> {
        let starts = Pair::new(checkpoint(&plan.nodes, states, Side::A), checkpoint(&plan.nodes, states, Side::B));
        let start = |side: Side| match &starts[side] {
            Ok(checkpoint) => Ok(checkpoint.position.clone()),
            Err(_) if !plan.reads[side] => Ok(Position::Index(0)),
            Err(error) => Err(error.clone()),
        };
        let starts = Pair::new(start(Side::A)?, start(Side::B)?);
        let queue = |side: Side| Arc::new(Queue::new(starts[side].clone(), plan.limits, &plan.spill_folder));
        Ok(Shared {
            nodes: plan.nodes.clone(),
            names: Pair::from_fn(|side| plan.nodes[side].name().to_owned()),
            tables: plan.tables.clone(),
            policies: plan.policies.clone(),
            referring: Pair::from_fn(|side| referring(&plan.tables[side])),
            on_error: plan.on_error.clone(),
            preferred: plan.preferred,
            reads: plan.reads,
            read_by_others: Pair::from_fn(|side| !states[side].other_bridges.is_empty()),
            skips: Pair::from_fn(|side| states[side].skips.clone()),
            rules: plan.rules,
            queues: Pair::from_fn(queue),
            registry: Arc::default(),
            resolutions: Resolutions::new(states, plan.rules.has(Rule::Since)),
            quarantine: Quarantine::new(states, plan.quarantined_max)?,
            watchdog: Watchdog::new(),
            retention: plan.retention,
            passed: Pair::from_fn(|side| level::Sender::new(starts[side].clone())),
            durable: Pair::from_fn(|side| level::Sender::new(starts[side].clone())),
            aside: Pair::from_fn(|side| states[side.other()].aside.iter().map(|(_, place)| place.clone()).collect()),
            obstacles: Pair::from_fn(|_| level::Sender::new(None)),
            windows: Pair::default(),
            chunk_rows: plan.chunk_rows,
            underway: Underway::default(),
            paused,
            rows_per_second: plan.rows_per_second,
            throttles: Pair::from_fn(|_| level::Sender::new(plan.rows_per_second)),
            restraints: plan.restraints.clone(),
            held_back: Pair::from_fn(|_| level::Sender::new(false)),
            begun: level::Sender::new(false),
            urgent: level::Sender::new(0),
            stopping,
            tokens,
            dice,
            observer: plan.observer.clone(),
        })
    }

    /// The sides whose log is followed.
    pub(crate) fn read_sides(&self) -> impl Iterator<Item = Side> + use<> {
        let reads = self.reads;
        Side::BOTH.into_iter().filter(move |side| reads[*side])
    }

    /// Waits until the reader of a side's log has passed a position. Errors: what it has met before, behind which it reads nothing. Whoever waits for that
    /// position may hold up the applier that would tell.
    pub(crate) async fn has_read(&self, side: Side, position: &Position) -> Result<()> {
        let mut read = self.queues[side].read_up_to();
        let mut obstacle = self.obstacles[side].subscribe();
        tokio::select! {
            biased;
            () = read.wait_for(|read| read.position.covers(position)) => Ok(()),
            () = obstacle.wait_for(Option::is_some) => {
                self.obstacles[side].get().map_or(Ok(()), |error| Err(error.at(&self.names[side])))
            }
        }
    }

    /// Whether nothing is to be applied on a side for as long as this session lasts.
    pub(crate) fn is_paused(&self, side: Side) -> bool {
        self.paused[side].is_some()
    }

    /// Keeps readers from stopping at a full spill, until dropped.
    pub(crate) fn urgent(&self) -> Urgent<'_> {
        self.urgent.modify(|count| *count += 1);
        Urgent(&self.urgent)
    }

    /// The positions that are durable.
    pub(crate) fn durable(&self) -> Pair<Position> {
        Pair::from_fn(|side| self.durable[side].get())
    }

    /// From where on a side's log is still needed: its server may be told.
    pub(crate) fn needed(&self, side: Side) -> Position {
        aside::needed(&self.durable[side].get(), &self.aside[side])
    }

    /// Opens a session on a side, under its token.
    pub(crate) async fn open_session(&self, side: Side, applier: Applier) -> Result<Box<dyn Session>> {
        let opened = self.nodes[side].open_session(applier, self.tokens[side], &self.tables[side]).await;
        opened.map_err(|error| error.at(&self.names[side]))
    }

    /// A random pause.
    pub(crate) async fn pause(&self, max: Duration) {
        sleep(random(&self.dice, max)).await;
    }

    /// Tells the observer.
    pub(crate) fn observe(&self, event: &EngineEvent<'_>) {
        self.observer.observe(event);
    }

    /// Tells the observer how much is in quarantine.
    pub(crate) fn tell_quarantine(&self) {
        let (keys, oldest) = self.quarantine.counts();
        // What one side refuses is the other's direction.
        let keys = Pair::from_fn(|source| keys[source.other()]);
        self.observe(&EngineEvent::Quarantine { keys, oldest });
    }

    /// Tells the observer which values were read since the last time that other values stand for.
    pub(crate) fn tell_converted(&self) {
        for source in self.read_sides() {
            let columns = self.tables[source].iter().flat_map(|table| &table.columns);
            for leeway in columns.filter_map(|column| column.leeway.as_ref()) {
                for (fault, values) in
                    Fault::ALL.into_iter().zip(leeway.counts.take()).filter(|(_, values)| *values > 0)
                {
                    self.observe(&EngineEvent::Converted { source, fault, values });
                }
            }
        }
    }

    /// Tells the observer of entries that were stored on a side.
    pub(crate) fn quarantined(&self, side: Side, entries: &[Stored]) {
        for entry in entries {
            let Some(error) = &entry.refusal else { continue };
            let what = if entry.position.is_some() { Refused::Change } else { Refused::Settlement };
            let table = self.label(entry.table);
            self.observe(&EngineEvent::Quarantined { source: side.other(), table, what, error });
        }
        self.tell_quarantine();
    }

    /// The name of a pair of tables.
    pub(crate) fn label(&self, table: TableId) -> &str {
        self.tables[Side::A].get(table.index()).map_or("?", |table| &*table.label)
    }

    /// Whether foreign keys tie a table of a side to mapped ones.
    pub(crate) fn is_tied(&self, side: Side, table: TableId) -> bool {
        let refers = self.tables[side].get(table.index()).is_none_or(|table| !table.references.is_empty());
        refers || self.referring[side].get(table.index()).is_none_or(|referring| !referring.is_empty())
    }

    /// What is looked at for references that are broken on a side.
    pub(crate) fn looking(&self, side: Side) -> Looking<'_> {
        Looking { tables: &self.tables[side], referring: &self.referring[side], policies: &self.policies }
    }

    /// Tells the observer of a verdict.
    pub(crate) fn settled(&self, source: Option<Side>, verdict: &Verdict) {
        let winner = verdict.reason.winner();
        let conflict = Conflict {
            table: self.label(verdict.place.0),
            key: &verdict.place.1,
            kind: verdict.kinds[source.unwrap_or(Side::A)],
            winner,
            winner_name: &self.names[winner],
            rule: verdict.rule(),
            merged: verdict.is_merged(),
            contended: verdict.contended,
            tie: matches!(verdict.reason, Reason::Priority(_)),
        };
        self.observe(&EngineEvent::Conflict { source, conflict: &conflict });
    }
}

/// See [`Shared::urgent`].
pub(crate) struct Urgent<'a>(&'a level::Sender<usize>);

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.modify(|count| *count -= 1);
    }
}
