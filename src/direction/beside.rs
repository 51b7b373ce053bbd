//! The run of a backlog that comes next, written in a second session beside the run in hand: a server has more than one processor, and
//! writes while another session waits for the disk.
//!
//! Why that changes nothing:
//!
//! 1. *Order.* It is committed only when the run before it is (rule `Turn`). What is applied is always the beginning of the log, and the checkpoint one
//!    position: the later of what both sessions have noted. Where the run before it comes to anything but its commit, this one is rolled back first.
//! 2. *Keys.* It has no key in common with the run before it, so each finds the rows that it expects whichever is written first. It has them in hand in the
//!    registry like any run, from before its first statement.
//! 3. *The plan* is that of [`super::ahead`], and is looked at when the keys are in hand.
//! 4. *Waiting.* A run that waits for a lock of the next one, which waits for its turn, ends that with its lock time-out: the next one is rolled back, and
//!    for a while none is begun. Tables that are tied by foreign keys, where that would be the rule, are left out; as is all that is not plain: what is in
//!    quarantine, what is being copied, what needs another look than that of its own statements.
//! 5. *A rendezvous* that wants its keys waits for two commits instead of one. Neither waits for a rendezvous: both have their keys.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Result, Tag,
    node::{Applied, Applier, Session},
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{
    ahead::{Ahead, UnderWay},
    apply::Direction,
    attempt::Attempt,
    gather::Run,
    stored::{Holding, StoredHere},
};
use crate::{
    bridge::{Shared, is_at_hand},
    conflict::{registry::InHand, settle},
    event::Took,
    rules::Rule,
    side::Side,
};

/// After one that was written in vain, so many runs are written by themselves: what was in its way is likely to be there still. Twice as many
/// each time, up to the second figure, until one is committed: where a trigger has all writers meet in one row, each attempt costs a lock time-out.
const REST: (u32, u32) = (16, 4096);

/// What follows the run in hand.
pub(super) enum Following {
    /// It is being planned.
    Planned(UnderWay<Ahead>),
    /// And written.
    Written(Beside),
}

/// A run that is being planned, and written where it can be. It is given up with it.
pub(super) struct Beside {
    applier: Applier,
    told: oneshot::Receiver<Told>,
    work: JoinHandle<Done>,
}

/// What is known of it before it is written.
struct Told {
    run: Run,
    /// It has its keys in hand.
    in_hand: bool,
    /// The plan of what follows it.
    after: Option<UnderWay<Ahead>>,
}

/// What came of it.
#[derive(Default)]
struct Done {
    session: Option<Box<dyn Session>>,
    ahead: Option<Box<Ahead>>,
    /// It waits for its turn.
    written: Option<InTurn>,
}

struct InTurn {
    _in_hand: InHand,
    took: Duration,
}

/// A run that only has to be committed.
struct Ready {
    session: Box<dyn Session>,
    ahead: Box<Ahead>,
    in_turn: InTurn,
}

impl Done {
    /// What is to be committed, if it is written and nothing has changed that concerns it: keys in quarantine concern all.
    fn ready(self, shared: &Shared) -> Result<Ready, Done> {
        match self {
            Done { session: Some(session), ahead: Some(ahead), written: Some(in_turn) }
                if shared.quarantine.is_empty() =>
            {
                Ok(Ready { session, ahead, in_turn })
            }
            done => Err(done),
        }
    }
}

impl Beside {
    fn begin(
        shared: &Arc<Shared>,
        source: Side,
        planned: UnderWay<Ahead>,
        (applier, session): (Applier, Option<Box<dyn Session>>),
    ) -> Beside {
        let (tell, told) = oneshot::channel();
        let shared = shared.clone();
        let work = async move {
            let mut done = Done { session, ..Done::default() };
            // What is in its way is met again in its turn.
            let Ok(Some(ahead)) = planned.done().await else { return done };
            let in_hand = ahead.in_hand(&shared, source.other());
            let after = ahead.run.is_full(shared.queues[source].limits());
            let after = after.then(|| UnderWay::begin(&shared, source, ahead.run.events.1));
            let _ = tell.send(Told { run: ahead.run.clone(), in_hand: in_hand.is_some(), after });
            if let Some(in_hand) = in_hand {
                done.written = write(&shared, source.other(), applier, &mut done.session, &ahead, in_hand).await;
            }
            done.ahead = Some(Box::new(ahead));
            done
        };
        Beside { applier, told, work: tokio::spawn(work) }
    }

    async fn done(mut self) -> Done {
        // A fault is one of the run, which is then planned and written by itself.
        (&mut self.work).await.unwrap_or_default()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// Writes a plan in a transaction that is left open. `None`: it is rolled back, and will be written in its turn.
async fn write(
    shared: &Shared,
    target: Side,
    applier: Applier,
    session: &mut Option<Box<dyn Session>>,
    ahead: &Ahead,
    in_hand: InHand,
) -> Option<InTurn> {
    let began = Instant::now();
    match try_write(shared, target, applier, session, ahead).await {
        Ok(Applied::All) => return Some(InTurn { _in_hand: in_hand, took: began.elapsed() }),
        Ok(Applied::Missed) => tracing::debug!("rows beside are not as expected; written in their turn"),
        Err(error) => tracing::debug!(%error, "rows beside cannot be written; in their turn"),
    }
    roll_back(session).await;
    None
}

async fn try_write(
    shared: &Shared,
    target: Side,
    applier: Applier,
    session: &mut Option<Box<dyn Session>>,
    ahead: &Ahead,
) -> Result<Applied> {
    let session = match session {
        Some(session) => session,
        None => session.insert(shared.open_session(target, applier).await?),
    };
    let Run { position, commit_time, .. } = &ahead.run;
    session.begin(Some(&Tag { position: Some(position.clone()), commit_time: *commit_time })).await?;
    for (table, batch) in ahead.planned.batches.iter().flat_map(|stage| &stage.tables) {
        if session.apply(*table, batch).await? == Applied::Missed {
            return Ok(Applied::Missed);
        }
    }
    if !shared.rules.has(Rule::Turn) {
        session.commit().await?;
    }
    Ok(Applied::All)
}

/// Rolls back, or lets go of a session that cannot.
async fn roll_back(session: &mut Option<Box<dyn Session>>) {
    if let Some(mut open) = session.take()
        && open.rollback().await.is_ok()
    {
        *session = Some(open);
    }
}

impl Ahead {
    /// Takes its keys in hand, if it can be written beside another run.
    fn in_hand(&self, shared: &Shared, target: Side) -> Option<InHand> {
        if !self.planned.is_plain(shared, target) {
            return None;
        }
        let in_hand = shared.registry.claim_beside(target, self.keys.clone())?;
        let is_whole = shared.resolutions.half_done(|place| self.keys.contains(place)).is_empty();
        (is_whole && self.planned.is_current(shared)).then_some(in_hand)
    }
}

impl Direction {
    /// Plans what follows a run beside it, where there is a backlog that is to be applied as fast as can be.
    pub(super) fn plan_ahead(&mut self, run: &Run) {
        let wanted = run.is_full(self.shared.queues[self.source].limits()) && !self.is_slowed();
        if wanted && self.following.is_none() {
            self.following = Some(Following::Planned(UnderWay::begin(&self.shared, self.source, run.events.1)));
        }
    }

    /// The run that was planned ahead, if it is the next one. What came of it so far is kept for the first attempt at it.
    pub(super) async fn planned_ahead(&mut self) -> Result<Option<Run>> {
        if self.is_slowed() {
            self.alone().await;
            self.following = None;
        }
        match self.following.take() {
            None => Ok(None),
            Some(Following::Planned(planned)) => {
                self.ahead = planned.done().await?.filter(|ahead| ahead.run.events.0 == self.at);
                Ok(self.ahead.as_ref().map(|ahead| ahead.run.clone()))
            }
            Some(Following::Written(mut beside)) => {
                let told = (&mut beside.told).await.ok().filter(|told| told.run.events.0 == self.at);
                let Some(Told { run, in_hand, after }) = told else {
                    self.given_up(beside).await;
                    return Ok(None);
                };
                self.following = after.map(Following::Planned);
                self.beside = Some((beside, in_hand));
                Ok(Some(run))
            }
        }
    }

    /// Has what follows written beside a run that the applier `taken` writes.
    pub(super) fn follow(&mut self, taken: Applier) {
        if !matches!(self.following, Some(Following::Planned(_))) {
            return;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if let Some(Following::Planned(planned)) = self.following.take() {
            let applier = if taken == Applier::Direction { Applier::Beside } else { Applier::Direction };
            let session = self.free(applier);
            let beside = Beside::begin(&self.shared, self.source, planned, (applier, session));
            self.following = Some(Following::Written(beside));
        }
    }

    /// Commits a run that is written, now that it is its turn. `None`: it is to be written like any other.
    pub(super) async fn in_turn(&mut self, run: &Run) -> Result<Option<Attempt>> {
        let Some((beside, in_hand)) = self.beside.take() else { return Ok(None) };
        let applier = beside.applier;
        if in_hand {
            self.follow(applier);
        }
        let Ready { mut session, ahead, in_turn } = match beside.done().await.ready(&self.shared) {
            Ok(ready) => ready,
            Err(done) => {
                self.written_in_vain(applier, done, in_hand).await;
                return Ok(None);
            }
        };
        let shared = self.shared.clone();
        let committing = Instant::now();
        if shared.rules.has(Rule::Turn) {
            session.commit().await.map_err(settle::outcome_unknown)?;
        }
        let took = Took { write: in_turn.took, commit: committing.elapsed(), ..Took::default() };
        self.keep(applier, session);
        self.last_rest = None;
        let mut holding = Holding::new(&shared, self.target());
        holding.leaves_out(&ahead.planned.plan);
        holding.wrote(&ahead.planned.plan);
        self.committed(run, holding, StoredHere::default(), took).await.map(Some)
    }

    /// What is planned is used all the same.
    async fn written_in_vain(&mut self, applier: Applier, mut done: Done, in_hand: bool) {
        self.ahead = done.ahead.take().map(|ahead| *ahead);
        self.undo(applier, done).await;
        self.alone().await;
        if in_hand {
            self.take_rest();
        }
    }

    /// Gives up what was begun beside the run in hand.
    pub(super) async fn alone(&mut self) {
        if let Some((beside, _)) = self.beside.take() {
            self.given_up(beside).await;
        }
        if let Some(Following::Written(beside)) = self.following.take_if(|next| matches!(next, Following::Written(_))) {
            self.given_up(beside).await;
        }
    }

    async fn given_up(&mut self, beside: Beside) {
        let applier = beside.applier;
        self.undo(applier, beside.done().await).await;
        self.take_rest();
    }

    /// Nothing of it is to be committed.
    async fn undo(&mut self, applier: Applier, mut done: Done) {
        if done.written.is_some() {
            roll_back(&mut done.session).await;
        }
        if let Some(session) = done.session {
            self.keep(applier, session);
        }
    }

    fn take_rest(&mut self) {
        let (least, most) = REST;
        self.rest = self.last_rest.map_or(least, |last| (2 * last).min(most));
        self.last_rest = Some(self.rest);
    }

    /// A session of an applier that is not in use, if there is one.
    fn free(&mut self, applier: Applier) -> Option<Box<dyn Session>> {
        let kept = match applier {
            Applier::Direction => self.session.take().map(|session| (session, self.used)),
            _ => self.second.take(),
        };
        kept.filter(|(_, used)| is_at_hand(*used)).map(|(session, _)| session)
    }

    fn keep(&mut self, applier: Applier, session: Box<dyn Session>) {
        let now = Instant::now();
        if session.is_bloated() {
            return;
        }
        if applier == Applier::Direction {
            (self.session, self.used) = (Some(session), now);
        } else {
            self.second = Some((session, now));
        }
    }
}
