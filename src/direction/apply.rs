//! The task that applies one log to the other node.
//!
//! Why nothing is applied twice or lost: a run of whole source transactions is one target transaction,
//! which also moves the checkpoint to the run's end and carries our tag. Whatever ends the bridge, the
//! next start reads the checkpoint after every earlier transaction has ended (the lease), and reads the
//! log from there.
//!
//! Why nothing is overwritten unseen: [`super::attempt`].

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Class, Code, CopyState, Error, LogEvent, Position, Result, Tag,
    node::{Applier, Session},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    ahead::Ahead,
    attempt::{Attempt, Way},
    beside::{Beside, Following},
    early::Early,
    gather::{self, Gathered, Gathering, Run},
    plan::{Place, Planner},
    throttle::Throttle,
};
use crate::{
    bridge::{Shared, is_at_hand},
    conflict::settle::{self, Request},
    copy::{Chunk, Lane},
    event::{EngineEvent, LeftOut, Took},
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
        let kept = self.session.take().filter(|_| is_at_hand(self.used));
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
            let last = self.shared.resolutions.last();
            match self.attempt(run, way).await {
                Ok(Attempt::Committed(held, took)) => break (held, took),
                Ok(Attempt::Conflicts(keys)) => {
                    self.alone().await;
                    self.settle(keys, Some(last)).await;
                }
                Ok(Attempt::Fruitless(tried)) => {
                    self.alone().await;
                    fruitless += 1;
                    if fruitless == FRUITLESS_MAX {
                        return Err(self.incomparable(run));
                    }
                    self.shared.pause(PAUSE_MAX).await;
                    if fruitless % SUSPECT_EVERY == 0 {
                        self.settle(tried, Some(last)).await;
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
}
