//! One attempt at a run: one transaction on the target, from the claim on its keys until its outcome is known.
//!
//! Why nothing is overwritten unseen: every write is conditional on its before image, under the target's
//! own row locks. A single miss rolls the whole run back; the keys whose rows are not as expected are
//! settled by a rendezvous, and the run is planned again with what is settled left out ([`super::apply`]).
//!
//! The keys of a run are in the registry from before its first statement until its commit is known.
//!
//! What the target refuses, and what is in quarantine already, is stored on the target in the same transaction: see
//! [`crate::conflict::quarantine`] for why, [`super::one_by_one`] for how a refused change is found.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pontoon_core::{
    Result, Tag,
    node::{Applied, Applier},
};
use tokio::time::Instant;

use super::{
    ahead::{self, Ahead, AheadChunk, Planned, UnderWay},
    apply::Direction,
    gather::{Piece, Run},
    plan::{self, Batches, Hold, Net, Place, Plan, Planner},
    stored::{Holding, StoredHere},
    unexpected::close_over,
};
use crate::{
    conflict::{
        policy::Policy,
        registry::{Claim, InHand},
        settle,
    },
    event::{EngineEvent, LeftOut, Rows, Took},
    rules::Rule,
};
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

pub(super) enum Attempt {
    /// Done, but for these changes, which are stored; and what it took, but for the total.
    Committed(Rows, Took),
    /// These keys are not as the run expects.
    Conflicts(BTreeSet<Place>),
    /// Rows were not as expected, and then they were. These were tried.
    Fruitless(BTreeSet<Place>),
}

impl Direction {
    /// One transaction on the target. The claim ends with it: when this returns, the outcome is known.
    pub(super) async fn attempt(&mut self, run: &Run, way: Way) -> Result<Attempt> {
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
            self.all_keys()
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
        Ok(self.claimed(claim).await)
    }

    /// What a transaction claims that is too large to list its keys.
    pub(super) fn all_keys(&self) -> Claim {
        Claim::Tables(self.shared.tables[self.target()].iter().map(|table| table.id).collect())
    }

    /// Takes what a run needs in hand, as [`Direction::claim_keys`] does.
    pub(super) async fn claimed(&mut self, claim: Claim) -> Result<Claimed, BTreeSet<Place>> {
        self.claim_keys(claim.clone()).await.map(|in_hand| Claimed { claim, _in_hand: in_hand })
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
