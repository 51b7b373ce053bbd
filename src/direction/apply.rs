//! The task that applies one log to the other node.
//!
//! Why nothing is applied twice or lost: a run of whole source transactions is one target transaction,
//! which also moves the checkpoint to the run's end and carries our tag. Whatever ends the bridge, the
//! next start reads the checkpoint after every earlier transaction has ended (the lease), and reads the
//! log from there.
//!
//! Why nothing is overwritten unseen: every write is conditional on its before image, under the target's
//! own row locks. A single miss rolls the whole run back; the keys whose rows are not as expected are
//! settled by a rendezvous, and the run is planned again with what is settled left out.
//!
//! The keys of a run are in the registry from before its first statement until its commit is known.
//!
//! What the target refuses, and what is in quarantine already, is stored on the target in the same transaction: see
//! [`crate::conflict::quarantine`] for why, [`super::one_by_one`] for how a refused change is found.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Class, Code, CopyState, Error, LogEvent, Position, Result, Tag,
    node::{Applied, Applier, Session},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    ahead::{self, Ahead, AheadChunk, Planned, UnderWay},
    beside::{Beside, Following},
    early::Early,
    gather::{self, Gathered, Gathering, Piece, Run},
    plan::{self, Batches, Hold, Net, Place, Plan, Planner},
    stored::{Holding, StoredHere},
    throttle::Throttle,
    unexpected::close_over,
};
use crate::{
    bridge::{SESSION_IDLE_MAX, Shared},
    conflict::{
        policy::Policy,
        registry::{Claim, InHand},
        settle::{self, Request},
    },
    copy::{Chunk, Lane},
    event::{EngineEvent, LeftOut, Rows, Took},
    rules::Rule,
    side::Side,
};

/// Log passed over without anything to apply is made durable when it comes to this many bytes, so that
/// the server need not keep it. Much more than the few hundred bytes that doing so adds to the other
/// node's log: or two idle nodes would keep each other busy.
const IDLE_BYTES: u64 = 1 << 20;

/// The longest random pause before a run is tried again.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// A run that misses this often although every row is as expected has met a server that compares
/// otherwise than we do.
const FRUITLESS_MAX: u32 = 50;

/// After so many fruitless attempts all keys that were tried are settled: some of them changes in a way
/// that only the run as a whole shows.
const SUSPECT_EVERY: u32 = 5;

/// How a run is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Set-based, each key once.
    Collapsed,
    /// The same, but unique values that rows take from each other are given up first.
    Vacated,
    /// Each change by itself, as it came: to get past states that only the collapsed way goes through, and
    /// to find the change that cannot be applied.
    OneByOne,
}

/// What writing a chunk came to.
pub(super) enum Written {
    All,
    /// Some row was not as expected; these were tried.
    Missed(BTreeSet<Place>),
    /// These are to be settled first: their rows cannot be as expected, or the target has written them itself.
    Conflicts(BTreeSet<Place>),
    /// Whether the target has written these itself could not be told in time.
    Fruitless(BTreeSet<Place>),
}

/// What a run has in hand until its commit is known.
pub(super) struct Claimed {
    claim: Claim,
    _in_hand: InHand,
}

impl Claimed {
    pub(super) fn new(claim: Claim, in_hand: InHand) -> Claimed {
        Claimed { claim, _in_hand: in_hand }
    }
}

pub(super) enum Attempt {
    /// Done, but for these changes, which are stored; and what it took, but for the total.
    Committed(Rows, Took),
    /// These keys are not as the run expects.
    Conflicts(BTreeSet<Place>),
    /// Rows were not as expected, and then they were. These were tried.
    Fruitless(BTreeSet<Place>),
}

/// Applies the log of `source` to the other side.
pub(crate) struct Direction {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Side,
    pub(super) settler: mpsc::Sender<Request>,
    /// Chunks of a copy that have been read.
    chunks: mpsc::Receiver<Chunk>,
    /// The next of them, until the log is applied up to where it was read.
    pub(super) chunk: Option<Chunk>,
    pub(super) session: Option<Box<dyn Session>>,
    pub(super) used: Instant,
    /// The other session, that of [`Applier::Beside`], while it has nothing to do, and when it was used last.
    pub(super) second: Option<(Box<dyn Session>, Instant)>,
    /// Beside the session, for what a copy brings.
    pub(crate) lane: Option<Lane>,
    /// How far a copy has come, where that is not yet noted durably.
    pub(crate) unnoted: Option<CopyState>,
    /// The number of the next event of the queue.
    pub(super) at: u64,
    pub(super) throttle: Throttle,
    /// Since when the limit has held something back, without a moment in which there was nothing.
    pub(super) held_back: Option<Instant>,
    /// From this event on, what follows has been waited for.
    pub(super) read_on: Option<u64>,
    /// What comes next, planned and written as far as it can be before its turn.
    pub(super) following: Option<Following>,
    /// The run in hand where it was that, and whether it has its keys in hand; and its plan, where it is to be written yet.
    pub(super) beside: Option<(Beside, bool)>,
    pub(super) ahead: Option<Ahead>,
    /// A large transaction that is written already as far as it was read; and the number of the last that was begun so.
    pub(super) early: Option<Early>,
    pub(super) tried_early: u64,
    /// How many runs are to be written by themselves; and how many were, the last time.
    pub(super) rest: u32,
    pub(super) last_rest: Option<u32>,
}

impl Shared {
    /// How a side's log is gathered.
    pub(crate) fn gathering(&self, source: Side, rows_max: usize) -> Gathering<'_> {
        Gathering {
            by_time: self.read_by_others[source.other()],
            echoes: self.rules.has(Rule::Echo),
            rows_max,
            skips: &self.skips[source],
        }
    }

    /// How changes are planned on a side.
    pub(crate) fn planner<T>(&self, target: Side, plan: impl FnOnce(&Planner<'_>) -> T) -> T {
        let settled = |place: &Place, position: &Position| {
            self.rules.has(Rule::Skip) && self.resolutions.settled(target, place, position)
        };
        plan(&Planner { target: &self.tables[target], policies: &self.policies, settled: &settled })
    }
}

impl Direction {
    pub(crate) fn new(
        shared: Arc<Shared>,
        source: Side,
        settler: mpsc::Sender<Request>,
        chunks: mpsc::Receiver<Chunk>,
    ) -> Self {
        let used = Instant::now();
        let throttle = Throttle::new(shared.throttles[source].get(), used);
        Direction {
            shared,
            source,
            settler,
            chunks,
            chunk: None,
            session: None,
            used,
            second: None,
            lane: None,
            unnoted: None,
            at: 0,
            throttle,
            held_back: None,
            read_on: None,
            following: None,
            beside: None,
            ahead: None,
            early: None,
            tried_early: 0,
            rest: 0,
            last_rest: None,
        }
    }

    pub(crate) fn target(&self) -> Side {
        self.source.other()
    }

    /// Applies until told to stop; then makes durable how far it came, and ends. Errors: anything that
    /// ends the bridge's session, and obstacles, before which everything is applied and durable.
    pub(crate) async fn run(mut self) -> Result<()> {
        let shared = self.shared.clone();
        let mut read = shared.queues[self.source].read_up_to();
        let mut stopping = shared.stopping.clone();
        let mut limit = shared.throttles[self.source].subscribe();
        let mut held = shared.held_back[self.source].subscribe();
        let mut held_so_far = shared.queues[self.source].held_so_far();
        if shared.is_paused(self.target()) {
            stopping.wait_for(|stop| *stop).await;
        }
        loop {
            if stopping.get() {
                return self.finish().await;
            }
            read.see();
            limit.see();
            held_so_far.see();
            let wait = self.heed(limit.get());
            let is_held = held.see();
            if wait.is_zero()
                && !is_held
                && let Some(chunk) = self.due_chunk()
            {
                let rows = chunk.rows();
                self.give_up_early().await;
                self.alone().await;
                self.second = None;
                self.arrive(chunk).await?;
                self.throttle.applied(rows, Instant::now());
                continue;
            }
            let gathered = match self.planned_ahead().await? {
                Some(run) => Gathered::Run(run),
                None => gather::gather(
                    &shared.queues[self.source],
                    self.at,
                    shared.gathering(self.source, self.throttle.rows_at_once()),
                )?,
            };
            self.keep_early(&gathered, wait.is_zero() && !is_held).await;
            match gathered {
                Gathered::Run(run) if run.changes > 0 && is_held => {
                    self.hold_nothing_back();
                    tokio::select! {
                        biased;
                        () = stopping.changed() => {}
                        () = held.changed() => {}
                    }
                }
                Gathered::Run(run) if run.changes > 0 && !wait.is_zero() => {
                    self.hold_back(wait);
                    tokio::select! {
                        biased;
                        () = stopping.changed() => {}
                        () = limit.changed() => {}
                        () = held.changed() => {}
                        () = sleep(wait) => {}
                    }
                }
                Gathered::Run(run) => {
                    self.carry(&run).await?;
                    self.throttle.applied(run.changes, Instant::now());
                }
                Gathered::Obstacle(obstacle) => {
                    self.finish().await?;
                    return Err(obstacle.error.at(&shared.names[self.source]));
                }
                Gathered::Nothing => {
                    self.hold_nothing_back();
                    self.apply_early().await?;
                    tokio::select! {
                        biased;
                        () = stopping.changed() => {}
                        () = limit.changed() => {}
                        // A chunk may be due by then.
                        () = held.changed() => {}
                        () = sleep(wait), if !wait.is_zero() => {}
                        () = read.changed() => {}
                        () = held_so_far.changed() => {}
                        chunk = self.chunks.recv(), if self.chunk.is_none() && !self.chunks.is_closed() => self.chunk = chunk,
                    }
                }
            }
        }
    }

    /// The next chunk of a copy, once the log is applied up to where it was read.
    fn due_chunk(&mut self) -> Option<Chunk> {
        if self.chunk.is_none() {
            self.chunk = self.chunks.try_recv().ok();
        }
        let passed = self.shared.passed[self.source].get();
        self.chunk.take_if(|chunk| passed.covers(chunk.end()))
    }

    async fn finish(&mut self) -> Result<()> {
        self.give_up_early().await;
        self.alone().await;
        self.note_arrived().await?;
        let passed = self.shared.passed[self.source].get();
        if passed == self.shared.durable[self.source].get() {
            return Ok(());
        }
        self.checkpoint(&passed).await
    }

    async fn carry(&mut self, run: &Run) -> Result<()> {
        self.note_windows(run)?;
        self.plan_ahead(run);
        if (run.changes > 0 || !self.held_own_writes(run)?.is_empty()) && !self.apply(run).await? {
            return Ok(());
        }
        self.left_out(LeftOut::PassedOver, run.passed_over);
        self.at = run.events.1;
        self.shared.queues[self.source].release(self.at);
        self.shared.passed[self.source].set(run.position.clone());
        self.shared.observe(&EngineEvent::Passed {
            source: self.source,
            position: &run.position,
            time: run.time,
            echoes: run.echoes,
        });
        let durable = self.shared.durable[self.source].get();
        let idle = run.position.bytes_since(&durable).is_none_or(|bytes| bytes >= IDLE_BYTES);
        // It comes next, and moves the checkpoint.
        let is_coming = self.early.is_some();
        if run.position != durable && (run.barrier || idle) && !is_coming {
            self.checkpoint(&run.position).await?;
        }
        Ok(())
    }

    /// What a copy has to know of the events of a run, echoes included.
    fn note_windows(&self, run: &Run) -> Result<()> {
        let (shared, mut at) = (&self.shared, self.at);
        while at < run.events.1 && !shared.windows[self.source].are_closed() {
            let queue = &shared.queues[self.source];
            for event in queue.events(at, queue.limits().run_bytes)?.iter().take((run.events.1 - at) as usize) {
                if let LogEvent::Fragment(fragment) = &**event {
                    shared.windows[self.source].note(&shared.tables[self.source], fragment)?;
                }
                at += 1;
            }
        }
        Ok(())
    }

    /// Moves the checkpoint in a transaction of its own.
    async fn checkpoint(&mut self, position: &Position) -> Result<()> {
        loop {
            match self.try_checkpoint(position).await {
                Ok(()) => break,
                Err(error) if error.code() == Code::Contention => self.back_off(&error).await?,
                Err(error) => return Err(error),
            }
        }
        self.shared.durable[self.source].set(position.clone());
        Ok(())
    }

    async fn try_checkpoint(&mut self, position: &Position) -> Result<()> {
        let session = self.begin(Some(&Tag { position: Some(position.clone()), commit_time: 0 })).await?;
        session.commit().await.map_err(settle::outcome_unknown)
    }

    /// Begins a transaction. The session is a new one where the last was not used for long; within a transaction it stays the one that has begun
    /// it, however long a statement takes: another one would know nothing of what is written.
    pub(crate) async fn begin(&mut self, tag: Option<&Tag>) -> Result<&mut Box<dyn Session>> {
        let kept = self.session.take().filter(|_| self.used.elapsed() <= SESSION_IDLE_MAX);
        self.used = Instant::now();
        let session = match kept {
            Some(session) => session,
            None => self.shared.open_session(self.target(), Applier::Direction).await?,
        };
        let session = self.session.insert(session);
        session.begin(tag).await?;
        Ok(session)
    }

    /// The session of the transaction that has begun.
    pub(crate) fn session(&mut self) -> Result<&mut Box<dyn Session>> {
        self.used = Instant::now();
        self.session
            .as_mut()
            .ok_or_else(|| Error::new(Code::Internal, "a statement of the applier before its transaction"))
    }

    /// After any error the transaction is rolled back explicitly, and others get a chance.
    pub(crate) async fn back_off(&mut self, error: &Error) -> Result<()> {
        tracing::debug!(%error, "rolled back, tried again");
        self.shared.observe(&EngineEvent::Retried { source: self.source, error });
        self.roll_back().await?;
        self.shared.pause(PAUSE_MAX).await;
        Ok(())
    }

    pub(crate) async fn roll_back(&mut self) -> Result<()> {
        if let Some(lane) = self.lane.take() {
            self.lane = lane.rolled_back().await;
        }
        match &mut self.session {
            Some(session) => session.rollback().await,
            None => Ok(()),
        }
    }

    pub(super) async fn apply_way(&mut self, run: &Run, way: Way) -> Result<()> {
        let started = Instant::now();
        let mut fruitless = 0;
        let (held, took) = loop {
            match self.attempt(run, way).await {
                Ok(Attempt::Committed(held, took)) => break (held, took),
                Ok(Attempt::Conflicts(keys)) => {
                    self.alone().await;
                    self.settle(keys, false).await;
                }
                Ok(Attempt::Fruitless(tried)) => {
                    self.alone().await;
                    fruitless += 1;
                    if fruitless == FRUITLESS_MAX {
                        return Err(self.incomparable(run));
                    }
                    self.shared.pause(PAUSE_MAX).await;
                    if fruitless % SUSPECT_EVERY == 0 {
                        self.settle(tried, false).await;
                    }
                }
                Err(error) if error.code() == Code::Contention => {
                    self.back_off(&error).await?;
                    self.alone().await;
                }
                Err(error) if error.class() == Class::Definite => {
                    self.roll_back().await?;
                    self.alone().await;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        };
        if !self.shared.rules.has(Rule::Checkpoint) {
            self.checkpoint(&run.position).await?;
        }
        self.shared.observe(&EngineEvent::Applied {
            source: self.source,
            transactions: run.transactions,
            rows: run.rows.without(held),
            bytes: run.bytes,
            position: &run.position,
            commit_time: run.commit_time,
            took: Took { total: started.elapsed(), ..took },
        });
        Ok(())
    }

    fn incomparable(&self, run: &Run) -> Error {
        let target = &self.shared.names[self.target()];
        let message = format!("{target}: rows of the run up to {} compare as equal here and not there", run.position);
        Error::new(Code::Internal, message)
    }

    /// One transaction on the target. The claim ends with it: when this returns, the outcome is known.
    async fn attempt(&mut self, run: &Run, way: Way) -> Result<Attempt> {
        if let Some(committed) = self.in_turn(run).await? {
            return Ok(committed);
        }
        let shared = self.shared.clone();
        let mut holding = Holding::new(&shared, self.target());
        let ahead = self.ahead.take().filter(|ahead| way == Way::Collapsed && ahead.run.events == run.events);
        let early = self.early.take().map(|early| early.go_on(run, &mut holding, &shared, self.source));
        let is_early = early.is_some();
        let (claimed, mut at) = match early {
            Some(early) => early,
            None => match self.claim(run, ahead.as_ref()).await? {
                Ok(claimed) => (claimed, run.events.0),
                Err(half_done) => return Ok(Attempt::Conflicts(half_done)),
            },
        };
        let mut planned = ahead.map(|ahead| ahead.planned).filter(|planned| planned.is_current(&shared));
        let mut following: Option<UnderWay<AheadChunk>> = None;
        let mut stored = StoredHere::default();
        let position = shared.rules.has(Rule::Checkpoint).then(|| run.position.clone());
        let tag = Tag { position, commit_time: run.commit_time };
        let began = Instant::now();
        if !is_early {
            self.begin(Some(&tag)).await?;
        }
        self.follow(Applier::Direction);
        while at < run.events.1 || !run.is_large() {
            let (pieces, next, ahead) = self.chunk(run, at, following.take(), &holding).await?;
            if run.is_large() && way == Way::Collapsed && next < run.events.1 {
                following = Some(UnderWay::begin_chunk(&shared, self.source, run, next));
            }
            let written = match way {
                Way::Collapsed | Way::Vacated => {
                    let planned = ahead.or(planned.take());
                    self.write_collapsed(&pieces, (way, planned), &mut holding).await?
                }
                Way::OneByOne => self.write_one_by_one(&pieces, &mut holding).await?,
            };
            match written {
                Written::All => {}
                Written::Missed(tried) => {
                    self.miss().await?;
                    return self.conflicts(run, tried, &mut holding).await;
                }
                Written::Conflicts(keys) => {
                    self.miss().await?;
                    return Ok(Attempt::Conflicts(keys));
                }
                Written::Fruitless(tried) => {
                    self.miss().await?;
                    return Ok(Attempt::Fruitless(tried));
                }
            }
            for write in self.own_writes(run, &|place| claimed.claim.holds(place) && holding.holds(place))? {
                holding.own(write);
            }
            self.store(holding.take(), &mut stored).await?;
            at = next;
            if !run.is_large() {
                break;
            }
        }
        let (write, committing) = (began.elapsed(), Instant::now());
        let session = self.session()?;
        if is_early {
            session.tag(&tag).await?;
        }
        session.commit().await.map_err(settle::outcome_unknown)?;
        let took = Took { write, commit: committing.elapsed(), ..Took::default() };
        if session.is_bloated() {
            self.session = None;
        }
        self.committed(run, holding, stored, took).await
    }

    /// What comes next of a run, from event number `at` on, and the number to go on from: its pieces, or what was planned of them ahead.
    async fn chunk(
        &mut self,
        run: &Run,
        at: u64,
        ahead: Option<UnderWay<AheadChunk>>,
        holding: &Holding<'_>,
    ) -> Result<(Vec<Piece>, u64, Option<Planned>)> {
        let ahead = match ahead {
            Some(ahead) => ahead.done().await?,
            None => None,
        };
        match ahead.filter(|ahead| ahead.planned.is_current(&self.shared) && !holding.has_new()) {
            Some(AheadChunk { next, planned }) => Ok((Vec::new(), next, Some(planned))),
            None => run.chunk(&self.shared.queues[self.source], at).map(|(pieces, next)| (pieces, next, None)),
        }
    }

    /// What is known once a run is committed.
    pub(super) async fn committed(
        &mut self,
        run: &Run,
        holding: Holding<'_>,
        stored: StoredHere,
        took: Took,
    ) -> Result<Attempt> {
        let shared = self.shared.clone();
        // Before the claim is given up: a rendezvous must not take for pending what is applied.
        shared.durable[self.source].set(run.position.clone());
        if !shared.rules.has(Rule::Quarantine) {
            self.store_apart(&stored.entries).await?;
        }
        shared.watchdog.crossed(self.source, &holding.crossing);
        self.held(&stored.entries, holding.rows);
        self.left_out(LeftOut::Settled, holding.settled);
        self.left_out(LeftOut::Unchanged, holding.unchanged);
        Ok(Attempt::Committed(holding.rows, took))
    }

    /// Rows were not as the run expects.
    async fn miss(&mut self) -> Result<()> {
        self.shared.observe(&EngineEvent::Missed { source: self.source });
        self.roll_back().await
    }

    /// What keeps a run from being committed although its rows were as expected.
    pub(super) async fn written(&mut self, plan: &Plan) -> Result<Written> {
        match self.apart(plan).await? {
            Written::All => self.references(plan).await,
            other => Ok(other),
        }
    }

    /// Keys of tables that are being copied, which the target has written itself; see [`crate::copy`].
    async fn apart(&mut self, plan: &Plan) -> Result<Written> {
        let keys = plan.underway(|table| self.shared.underway.has(table));
        if keys.is_empty() || !self.shared.rules.has(Rule::Apart) {
            return Ok(Written::All);
        }
        Ok(match self.unseen(&keys).await? {
            Some(unseen) if unseen.is_empty() => Written::All,
            Some(unseen) => Written::Conflicts(unseen),
            None => Written::Fruitless(keys),
        })
    }

    /// Takes the run's keys in hand; or the keys among them that are half done, which come first: but for those in
    /// quarantine, which are only stored.
    async fn claim(&mut self, run: &Run, ahead: Option<&Ahead>) -> Result<Result<Claimed, BTreeSet<Place>>> {
        let shared = self.shared.clone();
        let claim = if run.is_large() {
            Claim::Tables(shared.tables[self.target()].iter().map(|table| table.id).collect())
        } else {
            let mut keys = match ahead {
                Some(ahead) => ahead.keys.clone(),
                None => {
                    let (pieces, _) = run.chunk(&shared.queues[self.source], run.events.0)?;
                    Arc::new(ahead::keys_of(&shared, self.source, &pieces)?)
                }
            };
            let own = self.held_own_writes(run)?;
            if !own.is_empty() {
                Arc::make_mut(&mut keys).extend(own.into_iter().map(|write| write.place));
            }
            Claim::Keys(keys)
        };
        Ok(self.claim_keys(claim.clone()).await.map(|in_hand| Claimed::new(claim, in_hand)))
    }

    /// Takes keys in hand; or the keys among them that are half done, but for those in quarantine, which are only stored.
    pub(crate) async fn claim_keys(&mut self, claim: Claim) -> Result<InHand, BTreeSet<Place>> {
        let shared = self.shared.clone();
        let in_hand = shared.registry.claim(self.target(), claim.clone()).await;
        if shared.rules.has(Rule::Complete) {
            let half_done = shared.resolutions.half_done(|place| claim.holds(place) && !shared.quarantine.holds(place));
            if !half_done.is_empty() {
                return Err(half_done);
            }
        }
        Ok(in_hand)
    }

    /// How changes are planned here.
    pub(super) fn planned(&self, plan: impl FnOnce(&Planner<'_>) -> Result<Plan>) -> Result<Plan> {
        self.shared.planner(self.target(), plan)
    }

    async fn write_collapsed(
        &mut self,
        pieces: &[Piece],
        (way, planned): (Way, Option<Planned>),
        holding: &mut Holding<'_>,
    ) -> Result<Written> {
        let (mut plan, batches) = match planned {
            Some(Planned { plan, batches, .. }) => (plan, batches),
            None => (self.planned(|planner| planner.plan(pieces, holding))?, Vec::new()),
        };
        holding.leaves_out(&plan);
        if let Some(misfit) = plan.misfit {
            return Err(misfit);
        }
        if way == Way::Vacated {
            plan = plan.vacated(&self.shared.tables[self.target()], &self.shared.policies);
        }
        if !plan.incomparable.is_empty() {
            let mut keys = plan.incomparable;
            close_over(&mut keys, &plan.links);
            return Ok(Written::Conflicts(keys));
        }
        match self.write(&plan, &batches).await? {
            Applied::All => {
                holding.wrote(&plan);
                self.written(&plan).await
            }
            Applied::Missed => Ok(Written::Missed(plan.stages.into_iter().flatten().map(|(place, _)| place).collect())),
        }
    }

    /// Writes the stages of a plan; `made` are their batches as far as they are made already.
    pub(super) async fn write(&mut self, plan: &Plan, made: &[Batches]) -> Result<Applied> {
        let shared = self.shared.clone();
        for (at, stage) in plan.stages.iter().enumerate() {
            let made = made.get(at).filter(|_| shared.rules.has(Rule::Delete)).map(Cow::Borrowed);
            let batches = match made {
                Some(batches) => batches,
                None => Cow::Owned(self.batches_of(stage).await?),
            };
            let unwritten: Vec<_> = batches.unwritten.iter().map(|(place, net)| (place, net)).collect();
            if !self.differing(&unwritten).await?.is_empty() {
                return Ok(Applied::Missed);
            }
            for (table, batch) in &batches.tables {
                if self.session()?.apply(*table, batch).await? == Applied::Missed {
                    return Ok(Applied::Missed);
                }
            }
        }
        Ok(Applied::All)
    }

    async fn batches_of(&mut self, stage: &BTreeMap<Place, Net>) -> Result<Batches> {
        let shared = self.shared.clone();
        let mut stage = Cow::Borrowed(stage);
        if !shared.rules.has(Rule::Delete) {
            self.delete_as_it_is(stage.to_mut()).await?;
        }
        Ok(plan::batches(&stage, &shared.policies))
    }

    /// What the rule `Delete` rules out.
    async fn delete_as_it_is(&mut self, stage: &mut BTreeMap<Place, Net>) -> Result<()> {
        let shared = self.shared.clone();
        for ((table, key), net) in stage.iter_mut().filter(|(_, net)| net.after.is_none()) {
            let policy = shared.policies.get(table.index());
            let row = self.session()?.lock(*table, std::slice::from_ref(key)).await?.pop().flatten();
            for (at, _) in policy.into_iter().flat_map(Policy::additive) {
                if let (Some(before), Some(row)) = (&mut net.before, &row) {
                    before.0[at] = row.0[at].clone();
                }
            }
        }
        Ok(())
    }
}
