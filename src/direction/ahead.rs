//! The next run of a backlog, gathered and planned while the server works on the one before it, and the next chunk of a large
//! transaction: what the bridge and what the server have to do for a row takes about as long, and need not be done one after the other.
//!
//! A run only where the one before was as large as a run may be: at rest nothing is at hand that would not be more a moment later.
//!
//! Why the plan is the one that would be made in its turn: besides the log, which does not change, a plan depends on what is
//! settled, on what is in quarantine, and on what the watchdog suspects. It is taken only if none of that has changed when its keys
//! are in hand, from when on nobody else changes it for them (rule `Ahead`). Of a chunk they are in hand all the while, and the attempt itself may
//! put further keys into quarantine: then what follows is planned in its turn.

use std::{collections::BTreeSet, sync::Arc};

use pontoon_core::{Change, Error, Result};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::JoinHandle,
};

use super::{
    gather::{self, Gathered, Piece, Run},
    plan::{Batches, Hold, InLog, Net, Place, Plan},
    stored,
};
use crate::{bridge::Shared, rules::Rule, side::Side};

/// A run of a backlog and what it does.
pub(super) struct Ahead {
    pub(super) run: Run,
    /// The keys of its changes.
    pub(super) keys: Arc<BTreeSet<Place>>,
    pub(super) planned: Planned,
}

/// A chunk of a large run.
pub(super) struct AheadChunk {
    /// The number of the event behind it.
    pub(super) next: u64,
    pub(super) planned: Planned,
}

/// What a run or a chunk of one does.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Of each stage of the plan.
    pub(super) batches: Vec<Batches>,
    basis: Basis,
}

/// What the plan was made on.
#[derive(PartialEq, Eq)]
struct Basis {
    resolutions: u64,
    quarantine: u64,
    /// The watchdog suspects nothing.
    quiet: bool,
}

impl Basis {
    fn now(shared: &Shared) -> Basis {
        let (resolutions, quarantine) = (shared.resolutions.version(), shared.quarantine.version());
        Basis { resolutions, quarantine, quiet: shared.watchdog.is_quiet() }
    }
}

impl Planned {
    /// Whether the plan would be the same if it were made now.
    pub(super) fn is_current(&self, shared: &Shared) -> bool {
        !shared.rules.has(Rule::Ahead) || self.basis.quiet && self.basis == Basis::now(shared)
    }

    /// Whether its statements are all that there is to do.
    pub(super) fn is_plain(&self, shared: &Shared, target: Side) -> bool {
        let is_tied = |place: &(_, _)| shared.is_tied(target, place.0);
        self.plan.misfit.is_none()
            && self.plan.incomparable.is_empty()
            && self.batches.iter().all(|stage| stage.unwritten.is_empty())
            && !self.plan.stages.iter().flat_map(|stage| stage.keys()).any(is_tied)
            && shared.quarantine.is_empty()
            && shared.underway.is_empty()
            && [Rule::Delete, Rule::Checkpoint].into_iter().all(|rule| shared.rules.has(rule))
    }
}

/// A plan that is under way beside the applier. It is given up with it.
pub(super) struct UnderWay<T>(JoinHandle<Result<Option<T>>>);

impl UnderWay<Ahead> {
    /// Begins with event number `at` of a direction.
    pub(super) fn begin(shared: &Arc<Shared>, source: Side, at: u64) -> UnderWay<Ahead> {
        let shared = shared.clone();
        UnderWay(on_another_thread(move || plan(&shared, source, at)))
    }
}

impl UnderWay<AheadChunk> {
    /// The chunk of a large run that begins with event number `at`.
    pub(super) fn begin_chunk(shared: &Arc<Shared>, source: Side, run: &Run, at: u64) -> UnderWay<AheadChunk> {
        let (shared, run) = (shared.clone(), run.clone());
        UnderWay(on_another_thread(move || {
            let basis = Basis::now(&shared);
            let (pieces, next) = run.chunk(&shared.queues[source], at)?;
            let planned = planned(&shared, source, &pieces, basis)?;
            Ok(planned.map(|planned| AheadChunk { next, planned }))
        }))
    }
}

impl UnderWay<Planned> {
    /// These pieces.
    pub(super) fn begin_pieces(
        shared: &Arc<Shared>,
        source: Side,
        pieces: impl Iterator<Item = Piece> + Send + 'static,
    ) -> UnderWay<Planned> {
        let shared = shared.clone();
        UnderWay(on_another_thread(move || {
            let pieces: Vec<Piece> = pieces.collect();
            planned(&shared, source, &pieces, Basis::now(&shared))
        }))
    }
}

impl<T> UnderWay<T> {
    /// What came of it: `None` where it has to be made in its turn.
    pub(super) async fn done(mut self) -> Result<Option<T>> {
        match (&mut self.0).await {
            Ok(planned) => planned,
            // It is made again in the applier's own task, where a fault is that of the direction.
            Err(_) => Ok(None),
        }
    }
}

/// Works for some milliseconds on a thread where nobody waits for a server's answer: on one that does, the answer would lie there until the work is done.
fn on_another_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Handle::current().runtime_flavor() {
        // The simulation has one thread, and its time stands still for no other.
        RuntimeFlavor::CurrentThread => tokio::spawn(async { work() }),
        _ => tokio::task::spawn_blocking(work),
    }
}

impl<T> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn plan(shared: &Shared, source: Side, at: u64) -> Result<Option<Ahead>> {
    let basis = Basis::now(shared);
    let queue = &shared.queues[source];
    let Gathered::Run(run) = gather::gather(queue, at, shared.gathering(source, usize::MAX))? else { return Ok(None) };
    if run.is_large() || run.changes == 0 {
        return Ok(None);
    }
    let (pieces, _) = run.chunk(queue, at)?;
    let keys = keys_of(shared, source, &pieces)?;
    let planned = planned(shared, source, &pieces, basis)?;
    Ok(planned.map(|planned| Ahead { run, keys: Arc::new(keys), planned }))
}

fn planned(shared: &Shared, source: Side, pieces: &[Piece], basis: Basis) -> Result<Option<Planned>> {
    let mut hold = Unheld { shared, met: false };
    let plan = shared.planner(source.other(), |planner| planner.plan(pieces, &mut hold))?;
    if hold.met {
        return Ok(None);
    }
    let batches = plan.batches(&shared.policies);
    Ok(Some(Planned { plan, batches, basis }))
}

/// The keys that changes touch.
pub(super) fn keys_of(shared: &Shared, source: Side, pieces: &[Piece]) -> Result<BTreeSet<Place>> {
    let mut keys = BTreeSet::new();
    for fragment in pieces.iter().filter_map(Piece::fragment) {
        keys.extend(stored::places_of(&shared.tables[source.other()], fragment)?);
    }
    Ok(keys)
}

/// What has changes that are stored is planned in its turn.
struct Unheld<'a> {
    shared: &'a Shared,
    met: bool,
}

impl Hold for Unheld<'_> {
    fn holds(&self, place: &Place) -> bool {
        stored::is_held(self.shared, place)
    }

    fn store(&mut self, _: &Change, _: Vec<(Place, Net)>, _: InLog<'_>, _: Option<&Error>) -> Result<()> {
        self.met = true;
        Ok(())
    }
}
