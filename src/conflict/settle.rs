//! The rendezvous: settles keys on both nodes at once.
//!
//! Why it is right (`decide` holds the rules, this the order):
//!
//! 1. The keys are claimed in the registry, so neither applier has them in hand, and no commit that
//!    wrote them is outstanding. Both readers are near the ends of their logs before any lock is taken.
//! 2. The rows are locked on A, then on B, in key order. A position taken at the end of a log under the
//!    lock is a fence: every write of the row that ever committed is at or before it.
//! 3. The rows are read again in a new statement after the fence. An absent row cannot be locked, so
//!    an insert may have slipped in: then all starts again (`Reread`).
//! 4. When both readers have passed their fences, the queues hold every write of the keys that the
//!    other side has not got: all that can be known is known (`Fence`, `Seen`).
//! 5. Both nodes get the verdict and the record in one transaction each; the statements run on both before
//!    either commits, conditional on the row read at the fence, so an insert that slips in even now makes
//!    a miss or a unique violation and all starts again. A commits first: a node with the record has the
//!    settled row, and what is on record on A alone is completed before anything else (`Complete`).
//!
//! A verdict that a side refuses does not end the bridge: everything is rolled back, and the key goes into quarantine
//! ([`super::refused`]). So does one that a person is to decide: nothing of it is written. For a key in quarantine
//! already, what is stored of it is pending beside what the queues hold (`Stored`), and is removed in the two
//! transactions (`Release`).
//!
//! Both directions meet a conflict at about the same time, and each asks for it to be settled. What was settled since the one that comes second
//! began its attempt is not settled again: that attempt is made anew, as after a rendezvous, and what the record covers is left out of it. Should it
//! meet the keys once more, it asks with the number of a later record.
//!
//! Every wait ends: locks by the servers' time-outs, the fence by [`FENCE_WAIT`]. Then all is rolled
//! back and tried again after a random pause, since two bridges that share a node can wait for each
//! other where no database sees it. A lost connection ends the whole bridge's session; it starts again
//! from what is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Code, Error, Result, TableId, Tag,
    node::{Applied, Applier, Mark, Session},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    decide::{Brought, Reason},
    prune,
    refused::{self, Refusal},
    registry::Settling,
    retry,
    ties::Undecided,
    verdict::{self, Case, Rows, Verdict},
    view::View,
};
use crate::{
    bridge::{Shared, is_at_hand},
    direction::plan::Place,
    event::EngineEvent,
    rules::Rule,
    side::{Pair, Side},
};

/// How long a rendezvous holds its locks for the readers to pass the fences. Normally milliseconds; a
/// reader that needs longer is behind, and then the locks are better given back.
pub(crate) const FENCE_WAIT: Duration = Duration::from_secs(5);

/// How long readers may be behind before the locks are taken all the same.
const CLOSE_WAIT: Duration = Duration::from_secs(30);

/// The longest random pause before another attempt.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Keys that are settled under one set of locks: more would hold locks longer, fewer would make a run
/// with many conflicts wait for many fences.
pub(crate) const KEYS_MAX: usize = 500;

/// Keys that are settled together at the most, with those that constraints tie to them.
pub(super) const TIED_MAX: usize = 2 * KEYS_MAX;

/// How often it is looked whether a row that lost is to have a key, or keys are to be repaired: an operator waits for it, and
/// nothing else does.
const OTHERS_EVERY: Duration = Duration::from_secs(5);

/// Asks for keys to be settled.
pub(crate) struct Request {
    pub(crate) keys: BTreeSet<Place>,
    /// Who saw the conflict: the direction from this side.
    pub(crate) source: Side,
    /// The number of the last record before a run met them, as the head of the module says; `None`: they are those of rows that a copy brings from there.
    pub(crate) met_after: Option<i64>,
    pub(crate) settled: oneshot::Sender<()>,
}

/// Why keys are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The direction from this side met a conflict.
    Conflict(Side),
    /// They are of rows that a copy brings from this side.
    Arrival(Side),
    /// An operator wants both as this side is, where no write explains why they differ.
    Repair(Side),
    /// A settlement is half done.
    Completion,
    /// They are in quarantine, and due.
    Retry,
    /// They are in quarantine, and an operator wants what is stored dropped.
    Discard,
    /// They are in quarantine, and an operator wants this side's row on both.
    Take(Side),
}

pub(super) enum Attempt {
    Settled,
    /// Something moved; all is to be taken again.
    Again(&'static str),
    /// These keys belong to the conflict as well.
    Widen(BTreeSet<Place>),
    /// A side cannot hold a verdict.
    Refused(Box<Refusal>),
}

/// What came of keys that were settled together.
enum Outcome {
    Settled,
    /// One of several is refused: each is to be settled by itself.
    Split,
}

/// The one task of a bridge that settles: one rendezvous at a time.
pub(crate) struct Settler {
    pub(super) shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    pub(super) sessions: Pair<Option<Box<dyn Session>>>,
    pub(super) used: Instant,
    /// When records were last removed that need not be kept.
    pub(super) forgot: Option<Instant>,
    /// When the shape of a table with keys in quarantine was last looked at.
    pub(super) looked: BTreeMap<TableId, Instant>,
    /// What an operator decided of the key that is being tried is not done, and to be taken back.
    pub(super) declines: bool,
}

impl Settler {
    pub(crate) fn new(shared: Arc<Shared>, requests: mpsc::Receiver<Request>) -> Self {
        Settler {
            shared,
            requests,
            sessions: Pair::default(),
            used: Instant::now(),
            forgot: None,
            looked: BTreeMap::new(),
            declines: false,
        }
    }

    /// Does what operators have asked for, beside what is in quarantine.
    async fn look_for_other_requests(&mut self) -> Result<()> {
        let node = &self.shared.nodes[Side::A];
        let requests = node.requests(&self.shared.tables[Side::A]).await.map_err(|error| error.at(node.name()))?;
        self.give_new_keys(requests.new_keys).await?;
        self.repair(requests.repairs).await
    }

    /// Completes what is half done, then settles what it is asked to, until it fails. Keys in quarantine are tried
    /// when nothing else is asked.
    pub(crate) async fn run(mut self) -> Result<()> {
        let shared = self.shared.clone();
        // A settlement writes on both.
        if Side::BOTH.into_iter().any(|side| shared.is_paused(side)) {
            return std::future::pending().await;
        }
        self.complete_all().await?;
        self.look_for_requests().await?;
        self.look_for_other_requests().await?;
        shared.begun.set(true);
        let ticks = |every| {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        };
        let (mut prune, mut ask) = (ticks(prune::PRUNE_EVERY), ticks(retry::ASK_EVERY));
        let mut requests = ticks(OTHERS_EVERY);
        loop {
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => {
                        let cause = if request.met_after.is_some() { Cause::Conflict } else { Cause::Arrival };
                        if !self.is_done(&request) {
                            self.settle(request.keys, cause(request.source)).await?;
                        }
                        // An applier that is gone no longer wants to know.
                        let _ = request.settled.send(());
                    }
                    None => return Ok(()),
                },
                _ = prune.tick() => self.prune().await?,
                _ = ask.tick(), if !shared.quarantine.is_empty() => self.look_for_requests().await?,
                _ = requests.tick() => self.look_for_other_requests().await?,
                () = shared.quarantine.wait_for_due() => self.retry().await?,
            }
        }
    }

    /// Whether the keys of a run were settled since it met them.
    fn is_done(&self, request: &Request) -> bool {
        request.met_after.is_some_and(|last| self.shared.resolutions.are_settled_since(&request.keys, last))
    }

    async fn complete_all(&mut self) -> Result<()> {
        if !self.shared.rules.has(Rule::Complete) {
            return Ok(());
        }
        let half_done: Vec<Place> = self.shared.resolutions.half_done(|_| true).into_iter().collect();
        for keys in half_done.chunks(KEYS_MAX) {
            self.settle(keys.iter().cloned().collect(), Cause::Completion).await?;
        }
        Ok(())
    }

    /// Settles keys; those whose verdict a side refuses are in quarantine afterwards. Which these are is found by
    /// halves.
    pub(super) async fn settle(&mut self, keys: BTreeSet<Place>, cause: Cause) -> Result<()> {
        let mut rest = vec![keys];
        while let Some(mut keys) = rest.pop() {
            if matches!(cause, Cause::Retry | Cause::Discard | Cause::Take(_)) {
                // One that is tied to it may have taken a key along: what was written since nobody has decided about.
                keys.retain(|place| self.shared.quarantine.holds(place));
            }
            if keys.is_empty() {
                continue;
            }
            if let Outcome::Split = self.settle_together(&keys, cause).await? {
                let half: BTreeSet<Place> = keys.iter().take(keys.len() / 2).cloned().collect();
                rest.push(keys.difference(&half).cloned().collect());
                rest.push(half);
            }
        }
        Ok(())
    }

    async fn settle_together(&mut self, asked: &BTreeSet<Place>, cause: Cause) -> Result<Outcome> {
        let started = Instant::now();
        let mut keys = asked.clone();
        self.widen(&mut keys);
        let patient = !matches!(cause, Cause::Retry | Cause::Discard | Cause::Take(_));
        loop {
            if !self.readers_are_close(if patient { CLOSE_WAIT } else { retry::CLOSE_WAIT }).await? && !patient {
                self.shared.quarantine.postpone(&keys);
                return Ok(Outcome::Settled);
            }
            let registry = self.shared.registry.clone();
            let settling = registry.settle(&keys, self.shared.rules.has(Rule::Registry)).await;
            let outcome = self.attempt((asked, &keys), cause, &settling).await;
            self.used = Instant::now();
            match outcome {
                Ok(Attempt::Settled) => {
                    drop(settling);
                    self.shared.observe(&EngineEvent::Rendezvous { source: source(cause), took: started.elapsed() });
                    return Ok(Outcome::Settled);
                }
                Ok(Attempt::Widen(more)) => {
                    self.roll_back().await?;
                    keys.extend(more);
                    self.widen(&mut keys);
                    continue;
                }
                Ok(Attempt::Refused(refusal)) => {
                    self.roll_back().await?;
                    if let Some(more) = self.tied(&keys, &refusal).await? {
                        keys.extend(more);
                        self.widen(&mut keys);
                        continue;
                    }
                    if asked.len() > 1 {
                        return Ok(Outcome::Split);
                    }
                    keys.retain(|place| {
                        asked.contains(place) || refusal.is_about(place) || self.shared.quarantine.holds(place)
                    });
                    self.refused(&keys, *refusal, cause).await?;
                    drop(settling);
                    return Ok(Outcome::Settled);
                }
                Ok(Attempt::Again(why)) => tracing::debug!(why, "rendezvous starts again"),
                Err(error) if error.code() == Code::Contention => {
                    self.shared.observe(&EngineEvent::RendezvousRetried { source: source(cause), error: &error });
                }
                Err(error) => return Err(error),
            }
            self.roll_back().await?;
            drop(settling);
            if !patient {
                self.shared.quarantine.postpone(&keys);
                return Ok(Outcome::Settled);
            }
            self.shared.pause(PAUSE_MAX).await;
        }
    }

    /// Adds the keys that stand or fall with these.
    pub(super) fn widen(&self, keys: &mut BTreeSet<Place>) {
        self.widen_half_done(keys);
        *keys = self.shared.quarantine.tied(keys).0;
        self.widen_half_done(keys);
    }

    fn widen_half_done(&self, keys: &mut BTreeSet<Place>) {
        if self.shared.rules.has(Rule::Complete) {
            let more: Vec<Place> =
                keys.iter().flat_map(|place| self.shared.resolutions.half_done_with(place)).collect();
            keys.extend(more);
        }
    }

    pub(super) async fn roll_back(&mut self) -> Result<()> {
        for side in Side::BOTH {
            if let Some(session) = &mut self.sessions[side] {
                session.rollback().await?;
            }
        }
        Ok(())
    }

    /// Waits, without locks, until both readers have read what is in their logs now. `false`: it took too long. Errors: of whoever is to
    /// wait for long, what a reader has stopped at.
    pub(super) async fn readers_are_close(&mut self, wait: Duration) -> Result<bool> {
        let mut close = true;
        for side in self.shared.read_sides() {
            let node = &self.shared.nodes[side];
            let end = node.log_status(None).await?.end;
            node.mark(Mark::Heartbeat).await?;
            match timeout(wait, self.shared.has_read(side, &end)).await {
                Ok(Ok(())) => {}
                Ok(Err(obstacle)) if wait == CLOSE_WAIT => return Err(obstacle),
                Ok(Err(_)) => close = false,
                Err(_) => {
                    if wait == CLOSE_WAIT {
                        tracing::warn!(
                            node = node.name(),
                            "the reader is far behind; a conflict is settled all the same"
                        );
                    }
                    close = false;
                }
            }
        }
        Ok(close)
    }

    pub(super) async fn open(&mut self) -> Result<()> {
        if !is_at_hand(self.used) {
            self.sessions = Pair::default();
        }
        for side in Side::BOTH {
            if self.sessions[side].is_none() {
                self.sessions[side] = Some(self.shared.open_session(side, Applier::Rendezvous).await?);
            }
        }
        Ok(())
    }

    pub(super) fn session(&mut self, side: Side) -> Result<&mut Box<dyn Session>> {
        self.sessions[side].as_mut().ok_or_else(|| Error::new(Code::Internal, "the rendezvous has no session"))
    }

    /// One attempt on `keys`, which are those that were asked for and what stands or falls with them.
    async fn attempt(
        &mut self,
        (asked, keys): (&BTreeSet<Place>, &BTreeSet<Place>),
        cause: Cause,
        _: &Settling,
    ) -> Result<Attempt> {
        let View { rows, fences, mut pending } = match self.view(keys).await? {
            Ok(view) => view,
            Err(why) => return Ok(Attempt::Again(why)),
        };
        let own = self.own(asked, keys, &mut pending);
        let by_hand = self.decided_by_hand(&own, &pending, cause);
        let more = verdict::linked(&pending, keys);
        if !more.is_empty() {
            return Ok(Attempt::Widen(more));
        }
        let brought = match cause {
            Cause::Arrival(source) => Some(Brought::Copy(source)),
            Cause::Repair(source) => Some(Brought::Repair(source)),
            _ => None,
        };
        let shared = &self.shared;
        let own = &own;
        let case = Case { shared, keys, own, rows: &rows, fences: &fences, pending: &pending, brought, by_hand };
        let (mut verdicts, undecided) = case.verdicts();
        if let Some(Undecided { keys: tied, error }) = undecided {
            verdicts.retain(|verdict| tied.contains(&verdict.place));
            return Ok(Attempt::Refused(Box::new(self.held(error, &rows, &verdicts, cause))));
        }
        // What the other direction met and had settled a moment ago needs no second record. What is in quarantine has
        // entries to be removed, and its record keeps their numbers from being given again.
        verdicts.retain(|verdict| {
            verdict.reason != Reason::Equal
                || verdict.covers_something
                || verdict.adjusted.is_some()
                || self.shared.quarantine.holds(&verdict.place)
        });
        if verdicts.is_empty() {
            self.roll_back().await?;
            return Ok(Attempt::Settled);
        }
        if verdicts.iter().any(|verdict| verdict.reason == Reason::Held) {
            return Ok(Attempt::Refused(Box::new(self.held(refused::for_a_person(cause), &rows, &verdicts, cause))));
        }
        if let Some(refusal) = self.suspected(&rows, &verdicts, cause) {
            return Ok(Attempt::Refused(Box::new(refusal)));
        }
        self.number(&mut verdicts).await?;
        if !self.shared.rules.has(Rule::Release) {
            self.release_apart(&verdicts).await?;
        }
        self.write(&rows, &verdicts, cause).await
    }

    /// Numbers the records: above the highest on either node, read under the locks of both, and above every entry in
    /// quarantine that has a number and is not stored yet, so that a number names one thing.
    pub(super) async fn number(&mut self, verdicts: &mut [Verdict]) -> Result<()> {
        let mut highest = 0;
        for side in Side::BOTH {
            highest = highest.max(self.session(side)?.highest_id().await?);
        }
        let mut groups: BTreeMap<usize, i64> = BTreeMap::new();
        for verdict in verdicts {
            let id = self.shared.quarantine.id_above(highest);
            let group = *groups.entry(verdict.group).or_insert(id);
            for side in Side::BOTH {
                verdict.records[side].id = id;
                verdict.records[side].group = group;
            }
        }
        Ok(())
    }

    /// Writes rows and records on both nodes and removes what is stored of the keys, then commits A, then B.
    pub(super) async fn write(&mut self, rows: &Pair<Rows>, verdicts: &[Verdict], cause: Cause) -> Result<Attempt> {
        let records = Pair::from_fn(|side| verdicts.iter().map(|v| v.records[side].clone()).collect::<Vec<_>>());
        let commit_time = records[Side::A].iter().map(|record| record.commit_time).max().unwrap_or(0);
        for side in Side::BOTH {
            match self.write_side(side, &rows[side], verdicts, commit_time).await {
                Ok(Applied::All) => {}
                Ok(Applied::Missed) => return Ok(Attempt::Again("a row slipped in after the fence")),
                Err(error) if error.is_of_a_row() => {
                    return Ok(Attempt::Refused(Box::new(Refusal::new(side, error, &rows[side], verdicts))));
                }
                Err(error) => return Err(error),
            }
            match self.session(side)?.record(&records[side]).await {
                Ok(()) => {}
                // The record holds the row up to four times, and so may be what is too large.
                Err(error) if error.is_of_a_row() => {
                    return Ok(Attempt::Refused(Box::new(Refusal::new(side, error, &rows[side], verdicts))));
                }
                Err(error) => return Err(error),
            }
            if self.shared.rules.has(Rule::Release) {
                self.release(side, verdicts).await?;
            }
            if side == Side::A && self.shared.rules.has(Rule::Answer) {
                self.answer_with(verdicts).await?;
            }
        }
        if let Some(attempt) = self.references(rows, verdicts).await? {
            return Ok(attempt);
        }
        // Marked before the commit is sent: whatever becomes of its answer, nobody touches them before
        // it is known.
        let keys: BTreeSet<Place> = verdicts.iter().map(|verdict| verdict.place.clone()).collect();
        self.shared.resolutions.begin(&keys);
        for side in Side::BOTH {
            self.session(side)?.commit().await.map_err(outcome_unknown)?;
        }
        self.shared.resolutions.done(&records);
        self.tell(verdicts, cause);
        self.released(verdicts);
        Ok(Attempt::Settled)
    }

    /// A conflict counts when it is met: one that went into quarantine does not count again when it heals, and what
    /// only healed is none.
    fn tell(&self, verdicts: &[Verdict], cause: Cause) {
        let met = self.met(verdicts.iter().map(|verdict| &verdict.place), cause);
        let is_new = |verdict: &&Verdict| match cause {
            Cause::Retry | Cause::Discard | Cause::Take(_) => {
                let dropped = matches!(verdict.reason, Reason::Discarded(_));
                verdict.contended && !dropped && !self.shared.quarantine.is_counted(&verdict.place)
            }
            Cause::Conflict(_) | Cause::Arrival(_) | Cause::Repair(_) | Cause::Completion => true,
        };
        for verdict in verdicts.iter().filter(is_new) {
            self.shared.settled(met, verdict);
            if verdict.contended {
                self.shared.watchdog.met(&verdict.place);
            } else if verdict.unexplained && matches!(cause, Cause::Conflict(_)) {
                self.shared.watchdog.settled_in_vain(&verdict.place);
            }
        }
    }

    /// The direction that met what is settled; `None` for a completion. Of what is tried again it is the one whose
    /// target refused it.
    pub(super) fn met<'a>(&self, mut places: impl Iterator<Item = &'a Place>, cause: Cause) -> Option<Side> {
        let mut refused_by = || places.find_map(|place| self.shared.quarantine.head(place));
        match cause {
            Cause::Retry | Cause::Discard | Cause::Take(_) => refused_by().map(|(side, ..)| side.other()),
            Cause::Conflict(_) | Cause::Arrival(_) | Cause::Repair(_) | Cause::Completion => source(cause),
        }
    }

    async fn write_side(&mut self, side: Side, rows: &Rows, verdicts: &[Verdict], commit_time: i64) -> Result<Applied> {
        refused::verdicts_fit(&self.shared, side, rows, verdicts)?;
        let tables = self.shared.tables[side].clone();
        let session = self.session(side)?;
        session.tag(&Tag { position: None, commit_time }).await?;
        for (table, batch) in verdict::batches(side, &tables, rows, verdicts).into_iter().flatten() {
            if session.apply(table, &batch).await? == Applied::Missed {
                return Ok(Applied::Missed);
            }
        }
        Ok(Applied::All)
    }
}

fn source(cause: Cause) -> Option<Side> {
    match cause {
        Cause::Conflict(source) | Cause::Arrival(source) | Cause::Repair(source) => Some(source),
        Cause::Completion | Cause::Retry | Cause::Discard | Cause::Take(_) => None,
    }
}

/// A commit that failed is neither done nor undone until the lease has been taken anew, whatever the
/// server said: it never is a matter of trying again in place.
pub(crate) fn outcome_unknown(error: Error) -> Error {
    match error.code() {
        Code::Contention => Error::new(Code::ConnectionLost, format!("a commit failed: {error}")),
        _ => error,
    }
}
