//! A large transaction that is applied while its log is still being read, before it is known to commit.
//!
//! PostgreSQL hands over what takes more than `logical_decoding_work_mem` while it decodes it (manual, "Streaming of Large Transactions for Logical Decoding"),
//! and its server needs as long for that as the target for writing it. Read first and applied then, such a transaction takes the sum of both. It is
//! written as it comes, in a transaction of the target that is left open, and committed when the log says so.
//!
//! Only while there is nothing else to do, and rolled back where there is: it is read and applied in its turn then, as if nothing had been.
//!
//! Why nothing is applied that should not be, or in another order:
//!
//! 1. *All before it is applied.* It is begun when everything that has been read is applied. If anything else is decided before it, it is given up: its own first
//!    event has to be the next in the queue but for progress, which has nothing to apply ([`Direction::keep_early`]). The tag with the checkpoint is written last.
//! 2. *It is just this transaction.* Its pieces are known by a number that is used once, and counted. Where a part of it is rolled back, or all of it, or others
//!    are decided in between, it is given up.
//! 3. *The plan* is the one that would be made in its turn. All tables are in hand from the beginning, so that nobody settles a key in the meantime. What was settled
//!    before up to a place that is read is settled before the transaction, which commits behind it; where it was up to a later one, which an earlier session had
//!    read, it may be covered, and is given up. Nothing is in quarantine, under suspicion or being copied, when a chunk is planned and when it goes on.
//! 4. *A crash* leaves a transaction that was not committed, which is rolled back before the next session reads what is durable, like any other.
//!
//! Locks of the target are held for as long as the source needs to send it, and not only for as long as the target needs to write it. So it is given up where the
//! source pauses ([`PATIENCE`]), and where it is the slow one of both ([`WAITED_MAX`]).

use std::{sync::Arc, time::Duration};

use pontoon_core::{Fragment, Held, LogEvent, Origin, Position, Result, Tag, node::Applied};
use tokio::time::{Instant, sleep};

use super::{
    ahead::{Planned, UnderWay},
    apply::Direction,
    attempt::Claimed,
    gather::{Gathered, Piece, Run},
    hold::Taken,
    queue::{ReadUpTo, Undecided},
    stored::Holding,
};
use crate::{bridge::Shared, event::EngineEvent, level::Receiver, rules::Rules, side::Side};

/// How long the source may pause within a transaction. It sends what it has without one.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long it may be waited for altogether. Where the target is the slower one it hardly is.
const WAITED_MAX: Duration = Duration::from_secs(10);

/// A transaction that is written as far as it was read, in the session's open transaction.
pub(super) struct Early {
    taken: Taken,
    /// The number of its first event.
    first: u64,
    claimed: Claimed,
    /// Changes that change nothing.
    unchanged: u64,
    crossing: Vec<u64>,
}

impl Direction {
    /// Writes what comes of a large undecided transaction, where there is one and nothing else to do; returns when it is decided, or given up. Errors: none of the target, which
    /// is met again in its turn.
    pub(super) async fn apply_early(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let queue = &shared.queues[self.source];
        // It is larger than a run for certain.
        let bytes_min = queue.limits().run_bytes as u64;
        if !self.may_begin_early() {
            return Ok(());
        }
        let Some(number) = queue.largest_undecided(bytes_min, self.tried_early) else { return Ok(()) };
        self.tried_early = number;
        self.alone().await;
        match self.write_while_read(number).await {
            Ok(Some(early)) => {
                tracing::debug!(pieces = early.taken.pieces, "a transaction was applied while it was read");
                self.early = Some(early);
            }
            Ok(None) => self.undo_early("it is not alone, not whole, or not as expected").await,
            Err(error) => self.undo_early(&error.to_string()).await,
        }
        Ok(())
    }

    fn may_begin_early(&self) -> bool {
        let other = self.early.is_some() || self.following.is_some() || self.beside.is_some() || self.chunk.is_some();
        // A transaction that other bridges read carries its commit time in front.
        let read_on = self.shared.read_by_others[self.target()];
        !other && !read_on && self.shared.rules == Rules::ALL && self.is_quiet()
    }

    /// Whether a plan depends on the log alone.
    fn is_quiet(&self) -> bool {
        let shared = &self.shared;
        !self.is_slowed()
            && !shared.stopping.get()
            && shared.quarantine.is_empty()
            && shared.underway.is_empty()
            && shared.watchdog.is_quiet()
    }

    /// `None`: it is to be given up.
    async fn write_while_read(&mut self, number: u64) -> Result<Option<Early>> {
        let shared = self.shared.clone();
        let queue = &shared.queues[self.source];
        let Ok(claimed) = self.claimed(self.all_keys()).await else { return Ok(None) };
        let mut early = Early { taken: Taken::default(), first: 0, claimed, unchanged: 0, crossing: Vec::new() };
        self.begin(Some(&Tag::ALONE)).await?;
        let mut waited = Duration::ZERO;
        while self.is_quiet() {
            let (read, held) = (queue.read_up_to(), queue.held_so_far());
            // While it is undecided behind that, it commits behind it.
            let position = read.get().position;
            let is_next = !self.something_is_due()?;
            match queue.undecided(number, early.taken, queue.limits().run_bytes as u64)? {
                Undecided::Decided(first) => return Ok(Some(Early { first, ..early })),
                Undecided::Open(pieces) if is_next && !pieces.is_empty() => {
                    if !self.write_pieces(pieces, position, &mut early).await? {
                        return Ok(None);
                    }
                }
                Undecided::Open(_) if is_next => {
                    let began = Instant::now();
                    if !self.more_comes(read, held).await {
                        return Ok(None);
                    }
                    waited += began.elapsed();
                    if waited > WAITED_MAX {
                        return Ok(None);
                    }
                }
                Undecided::Open(_) | Undecided::Gone => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether anything is to be applied or to be made durable.
    fn something_is_due(&self) -> Result<bool> {
        let queue = &self.shared.queues[self.source];
        let events = queue.events(self.at, queue.limits().run_bytes)?;
        Ok(events.iter().any(|event| !matches!(&**event, LogEvent::Progress(progress) if !progress.barrier)))
    }

    /// Waits until more was read; `false` where that takes too long, or something else is to be done.
    async fn more_comes(&mut self, mut read: Receiver<ReadUpTo>, mut held: Receiver<u64>) -> bool {
        let mut stopping = self.shared.stopping.clone();
        let mut limit = self.shared.throttles[self.source].subscribe();
        let mut held_back = self.shared.held_back[self.source].subscribe();
        tokio::select! {
            biased;
            () = stopping.changed() => false,
            () = limit.changed() => false,
            () = held_back.changed() => false,
            () = read.changed() => true,
            () = held.changed() => true,
            () = sleep(PATIENCE) => false,
        }
    }

    /// `false` where a row is not as expected, or more is to be done for it than to write it.
    async fn write_pieces(
        &mut self,
        pieces: Vec<Arc<LogEvent>>,
        position: Position,
        early: &mut Early,
    ) -> Result<bool> {
        pieces.iter().for_each(|piece| early.taken.add(piece));
        let fragments = pieces.into_iter().map(move |piece| Piece::new(Arc::new(fragment(piece)), position.clone()));
        let planned = UnderWay::begin_pieces(&self.shared, self.source, fragments).done().await?;
        let is_plain = |planned: &Planned| planned.plan.skipped == 0 && planned.is_plain(&self.shared, self.target());
        let Some(Planned { plan, batches, .. }) = planned.filter(is_plain) else { return Ok(false) };
        if self.write(&plan, &batches).await? == Applied::Missed {
            return Ok(false);
        }
        early.unchanged += plan.unchanged;
        self.shared.watchdog.note(&mut early.crossing, plan.stages.iter().flat_map(|stage| stage.keys()));
        Ok(true)
    }

    /// Gives it up unless what comes next is the transaction itself, or nothing that is to be applied before it.
    pub(super) async fn keep_early(&mut self, next: &Gathered, goes_on: bool) {
        let Some(early) = &self.early else { return };
        let is_kept = match next {
            Gathered::Nothing => true,
            Gathered::Run(run) if run.changes == 0 => !run.barrier && run.events.1 <= early.first,
            Gathered::Run(run) => is_just(run, early.first),
            Gathered::Obstacle(_) => false,
        };
        if !(is_kept && goes_on && self.is_quiet()) {
            self.give_up_early().await;
        }
    }

    pub(super) async fn give_up_early(&mut self) {
        if self.early.is_some() {
            self.undo_early("something else came before it").await;
            self.early = None;
        }
    }

    async fn undo_early(&mut self, why: &str) {
        tracing::debug!(why, "what was applied of a transaction while it was read is rolled back");
        self.shared.observe(&EngineEvent::Early { source: self.source, goes_on: false });
        if self.roll_back().await.is_err() {
            self.session = None;
        }
    }
}

/// Whether a run is the large transaction that begins with this event, and nothing else.
fn is_just(run: &Run, first: u64) -> bool {
    run.is_large() && run.events.0 == first && run.transactions == 1
}

impl Early {
    /// What an attempt goes on with that has the rest to write, and from which event on.
    pub(super) fn go_on(self, run: &Run, holding: &mut Holding<'_>, shared: &Shared, source: Side) -> (Claimed, u64) {
        shared.observe(&EngineEvent::Early { source, goes_on: true });
        holding.unchanged += self.unchanged;
        holding.crossing.extend(self.crossing);
        // The first has no changes.
        (self.claimed, run.events.0 + 1 + self.taken.pieces)
    }
}

/// A piece as a fragment of a transaction of which no more is known.
fn fragment(piece: Arc<LogEvent>) -> LogEvent {
    match Arc::unwrap_or_clone(piece) {
        LogEvent::Held(Held::Piece { id, changes, .. }) => LogEvent::Fragment(Fragment {
            transaction: id,
            origin: Origin::Local,
            commit_time: 0,
            first: false,
            changes,
            position: None,
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Change, Operation, Row, TableId, Value};

    use super::{
        super::{
            gather::{Gathering, gather},
            queue::{Limits, Queue},
        },
        *,
    };

    fn transaction(position: u64, rows: i128) -> LogEvent {
        let change = |number| Change {
            table: TableId(0),
            operation: Operation::Insert { after: Row(vec![Value::Integer(number)]) },
            reshaped: false,
        };
        LogEvent::Fragment(Fragment {
            transaction: format!("t{position}").into(),
            origin: Origin::Local,
            commit_time: 0,
            first: true,
            changes: (0..rows).map(change).collect(),
            position: Some(Position::Index(position)),
        })
    }

    fn held(rows: i128) -> LogEvent {
        let LogEvent::Fragment(fragment) = transaction(0, rows) else { unreachable!() };
        LogEvent::Held(Held::Piece { id: "x".into(), part: 0, changes: fragment.changes })
    }

    fn decided(position: u64) -> LogEvent {
        let LogEvent::Fragment(fragment) = transaction(position, 0) else { unreachable!() };
        LogEvent::Held(Held::Decided { id: "x".into(), fragment })
    }

    /// What comes of a queue in turn: how many rows, and whether it is taken for what begins with the event.
    fn taken_for(events: Vec<LogEvent>, first: u64) -> Vec<(usize, bool)> {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { run_bytes: 1_000, run_changes: 1_000, ..Limits::new(1 << 20, u64::MAX) };
        let queue = Queue::new(Position::Index(0), limits, folder.path());
        events.into_iter().for_each(|event| queue.push(event).unwrap());
        let (mut at, mut runs) = (0, Vec::new());
        let how = Gathering { by_time: false, echoes: true, rows_max: usize::MAX, skips: &[] };
        while let Gathered::Run(run) = gather(&queue, at, how).unwrap() {
            at = run.events.1;
            runs.push((run.changes, is_just(&run, first)));
        }
        runs
    }

    /// The reader goes on while it is looked whether anything comes first.
    #[test]
    fn what_was_committed_before_it_is_something_else() {
        let (first, second) = (vec![transaction(1, 1)], vec![held(50), held(50), decided(2)]);
        assert_eq!(taken_for([first, second].concat(), 1), [(1, false), (100, true)]);
    }

    #[test]
    fn another_large_one_is_something_else() {
        let large = || vec![held(50), held(50), decided(1)];
        assert_eq!(taken_for([large(), large()].concat(), 4), [(100, false), (100, true)]);
    }

    /// It became smaller: a part of it was undone, and it is applied together with others.
    #[test]
    fn a_run_that_begins_with_it_is_not_it() {
        assert_eq!(taken_for(vec![held(1), decided(1), transaction(2, 1)], 0), [(2, false)]);
    }
}
