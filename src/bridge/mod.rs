//! A bridge at work: its sessions, one after the other.
//!
//! There is one way back from everything. Whatever is lost — a connection, a server, this process —
//! ends the whole session; the next one takes the lease, waits until no transaction of an earlier
//! session is under way on either node, reads what is durable there, and goes on from that. So the way
//! taken after a crash is the way taken after every broken connection, and there is one place that
//! decides about retry: [`run`]. (A lock time-out loses nothing and is tried again in place.)

pub(crate) mod lease;
pub(crate) mod pauses;
mod plan;
mod shared;
pub(crate) mod states;

pub use plan::{Plan, Until};
pub(crate) use shared::{Shared, is_at_hand};

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pontoon_core::{
    Class, Code, Error, Position, Result,
    node::{LogReader, Mark},
    state::NodeState,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    aside,
    conflict::settle::Settler,
    copy,
    direction::{apply::Direction, read},
    epoch,
    event::{EngineEvent, Stage},
    held_back, level,
    promoted::{self, Promoted},
    side::{Pair, Side},
};

/// How often an idle log is marked: what the lag of an idle link is measured by.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);

/// The first and the longest pause after a session ended, before half of it is added and the rest left to
/// chance. A server that is up again is met within three seconds, and is at work within five; asking one that
/// stays away so often costs nothing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The pause where a server refuses the login, or is not the one that it should be; up to half of it is added. Somebody
/// has to mend that, and until then each attempt is one more that the server counts against the user.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A session that lived this long was a good one: the backoff begins anew.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// How long a shutdown waits for what is in hand. Below the ten seconds that a service manager is
/// promised, with room for the process to end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(8);

/// Requests for a rendezvous that can wait: one for each direction.
const REQUESTS_MAX: usize = 2;

/// Runs a bridge until `shutdown` completes, or until it is done with what the plan says, or until something needs a person. What is in hand is finished first.
/// The first connections have to succeed; after them, they are made anew for ever.
pub async fn run(plan: Plan, shutdown: impl Future<Output = ()>) -> Result<()> {
    for side in Side::BOTH {
        plan.nodes[side].connect().await.map_err(|error| error.at(plan.nodes[side].name()))?;
    }
    go_on(plan, shutdown).await
}

/// The same where the first connections may fail like any other.
pub(crate) async fn go_on(plan: Plan, shutdown: impl Future<Output = ()>) -> Result<()> {
    let (stop, stopping) = level::channel(false);
    let dice = Arc::new(Mutex::new(plan.seed.map_or_else(SmallRng::from_os_rng, SmallRng::seed_from_u64)));
    let sessions = sessions(&plan, &stop, stopping, dice);
    tokio::pin!(sessions, shutdown);
    tokio::select! {
        biased;
        ended = &mut sessions => return ended,
        () = &mut shutdown => {}
    }
    stop.set(true);
    match tokio::time::timeout(SHUTDOWN_WAIT, sessions).await {
        Ok(ended) => ended,
        // Nothing is lost: what was in hand is rolled back, and done by the next process.
        Err(_) => Ok(()),
    }
}

/// One session after the other.
async fn sessions(
    plan: &Plan,
    stop: &level::Sender<bool>,
    mut stopping: level::Receiver<bool>,
    dice: Arc<Mutex<SmallRng>>,
) -> Result<()> {
    let mut backoff = BACKOFF.0;
    loop {
        let started = Instant::now();
        let Failure { stage, source, error } = match session(plan, stop, stopping.clone(), dice.clone()).await {
            Ok(Ended::Done) => return Ok(()),
            Ok(Ended::Resumed) => continue,
            Err(failure) if failure.error.class() == Class::Transient => failure,
            Err(Failure { stage, source, error }) => {
                plan.observer.observe(&EngineEvent::Failed { stage, source, error: &error });
                return Err(error);
            }
        };
        if stopping.get() {
            return Ok(());
        }
        if started.elapsed() > GOOD_SESSION {
            backoff = BACKOFF.0;
        }
        let pause = match error.code() {
            Code::LoginRefused | Code::TlsFailed => REFUSED_PAUSE + random(&dice, REFUSED_PAUSE / 2),
            _ => random(&dice, backoff) + backoff / 2,
        };
        plan.observer.observe(&EngineEvent::Interrupted { stage, source, error: &error, pause });
        backoff = (backoff * 2).min(BACKOFF.1);
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

pub(crate) fn random(dice: &Mutex<SmallRng>, max: Duration) -> Duration {
    let millis = u64::try_from(max.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(dice.lock().unwrap_or_else(PoisonError::into_inner).random_range(1..=millis))
}

/// How a session ends well.
enum Ended {
    /// As was asked for.
    Done,
    /// What was paused goes on: in another session, since tables may be others than they were when the logs were opened.
    Resumed,
}

/// What ended a session, and what was being done.
struct Failure {
    stage: Stage,
    source: Option<Side>,
    error: Error,
}

impl From<Error> for Failure {
    /// Before the tasks run.
    fn from(error: Error) -> Self {
        Failure { stage: Stage::Connect, source: None, error }
    }
}

/// A task of a session, whose error is one of its stage.
async fn within(stage: Stage, source: Option<Side>, task: impl Future<Output = Result<()>>) -> Result<(), Failure> {
    task.await.map_err(|error| {
        // The spill is behind whoever reads and whoever applies.
        let stage = if error.code() == Code::SpillFailed { Stage::Queue } else { stage };
        Failure { stage, source, error }
    })
}

/// One session: from the lease to the first thing that fails, or to the end that was asked for.
async fn session(
    plan: &Plan,
    stop: &level::Sender<bool>,
    mut stopping: level::Receiver<bool>,
    dice: Arc<Mutex<SmallRng>>,
) -> Result<Ended, Failure> {
    let mut leases = tokio::select! {
        biased;
        _ = stopping.wait_for(|stop| *stop) => return Ok(Ended::Done),
        leases = lease::take(plan) => leases?,
    };
    let (tokens, mut states) = lease::take_over(plan, &mut leases).await?;
    states::are_set_up(&plan.nodes, &plan.tables, &plan.aside, &states)?;
    epoch::check(&plan.nodes, &states)?;
    let promoted = promoted::look(&plan.nodes, &plan.tables, plan.rules, &mut states).await?;
    epoch::raise(&plan.nodes, &mut leases).await?;
    let before = Pair::from_fn(|side| states[side].aside.clone());
    let arrangements = aside::arrangements(&plan.aside, &plan.tables, plan.rules, &mut states);
    let paused = pauses::read(plan).await?;
    let shared = Arc::new(Shared::new(plan, tokens, &states, paused, stopping, dice)?);
    heed_throttles(&shared).await?;
    held_back::look(&shared).await;
    // Both logs are found to be whole before anything of either is applied. With many tables that takes longer than a server waits for a word of who has
    // its lease.
    let readers = tokio::select! {
        biased;
        readers = readers(plan, &shared, &states, &promoted, &before) => readers?,
        lost = lease::renewing(&mut leases) => return Err(lost.into()),
    };
    promoted::note(&plan.nodes, &mut leases, &promoted, (&states, &plan.tables)).await?;
    for (source, promoted) in Side::BOTH.into_iter().filter_map(|side| Some((side, promoted[side].as_ref()?))) {
        plan.observer.observe(&EngineEvent::Promoted {
            source,
            was: &promoted.was,
            is: &promoted.is,
            fork: &promoted.fork,
        });
    }
    aside::write(plan, &mut leases, &arrangements).await?;
    for side in Side::BOTH {
        let copies = plan.nodes[side].copies(&plan.tables[side]).await;
        copies.map_err(|error| error.at(plan.nodes[side].name()))?.iter().for_each(|copy| shared.underway.note(copy));
    }
    for source in shared.read_sides() {
        plan.observer.observe(&EngineEvent::Begins { source, position: &shared.passed[source].get() });
    }
    let mut tasks = JoinSet::new();
    let (requests, requested) = mpsc::channel(REQUESTS_MAX);
    for (source, reader) in readers {
        let (chunks, arriving) = mpsc::channel(copy::AHEAD_MAX);
        let reading = failing(read::run(shared.clone(), source, reader));
        tasks.spawn(within(Stage::Read, Some(source), reading));
        let applying = Direction::new(shared.clone(), source, requests.clone(), arriving).run();
        tasks.spawn(within(Stage::Apply, Some(source), applying));
        tasks.spawn(within(Stage::Read, Some(source), failing(copy::feed(shared.clone(), source, chunks))));
    }
    drop(requests);
    tasks.spawn(within(Stage::Rendezvous, None, failing(Settler::new(shared.clone(), requested).run())));
    tasks.spawn(within(Stage::Connect, None, failing(lease::keep(shared.clone(), leases))));
    tasks.spawn(within(Stage::Read, None, failing(heartbeat(shared.clone()))));
    tasks.spawn(within(Stage::Apply, None, failing(held_back::watch(shared.clone()))));
    plan.observer.observe(&EngineEvent::Active);
    let resuming = pauses::wait_for_end(&shared);
    let ending = async {
        match plan.until {
            Until::Stopped => std::future::pending().await,
            Until::CaughtUp => caught_up(&shared).await,
        }
    };
    tokio::pin!(ending, resuming);
    let mut directions = shared.read_sides().count();
    while directions > 0 {
        tokio::select! {
            biased;
            ended = tasks.join_next() => match ended {
                Some(Ok(Ok(()))) => directions -= 1,
                Some(Ok(Err(failure))) => return Err(failure),
                Some(Err(error)) => return Err(Error::new(Code::Internal, format!("a task ended: {error}")).into()),
                None => return Ok(Ended::Done),
            },
            resumed = &mut resuming, if !stop.get() => return Ok(resumed.map(|()| Ended::Resumed)?),
            done = &mut ending, if !stop.get() => {
                done?;
                stop.set(true);
            }
        }
    }
    Ok(Ended::Done)
}

/// Opens the logs that are read, each from its checkpoint.
async fn readers(
    plan: &Plan,
    shared: &Shared,
    states: &Pair<NodeState>,
    promoted: &Pair<Option<Promoted>>,
    set_aside_before: &Pair<Vec<(Arc<str>, Position)>>,
) -> Result<Vec<(Side, Box<dyn LogReader>)>> {
    let mut readers = Vec::new();
    for source in shared.read_sides() {
        let start = states::checkpoint(&plan.nodes, states, source)?;
        let passed = states::passed_over(states, source);
        let reader = plan.nodes[source].open_reader(start, &plan.tables[source], &passed).await;
        let name = plan.nodes[source].name();
        let taken_back = set_aside_before[source.other()].iter().map(|(label, _)| label.clone());
        let taken_back: Vec<_> = taken_back.filter(|label| !plan.aside.contains(label)).collect();
        match reader {
            Ok(reader) => readers.push((source, reader)),
            Err(error) => {
                let error = promoted::since_then(error, &*plan.nodes[source], start).await.at(name);
                let error = promoted::cannot_be_opened(error, name, promoted[source].as_ref(), &plan.tables[source]);
                return Err(aside::cannot_go_back(error, name, &taken_back));
            }
        }
    }
    Ok(readers)
}

/// A task that never ends well: only the two directions do, when told to stop.
async fn failing(task: impl Future<Output = Result<()>>) -> Result<()> {
    task.await?;
    std::future::pending().await
}

/// Reads how fast is to be applied on each node.
async fn heed_throttles(shared: &Shared) -> Result<()> {
    for source in shared.read_sides() {
        let target = source.other();
        let word = shared.nodes[target].throttled().await.map_err(|error| error.at(&shared.names[target]))?;
        let limit = word.map_or(shared.rows_per_second, |word| word.rows_per_second);
        if shared.throttles[source].get() != limit {
            shared.throttles[source].set(limit);
        }
    }
    Ok(())
}

async fn heartbeat(shared: Arc<Shared>) -> Result<()> {
    loop {
        for side in shared.read_sides() {
            shared.nodes[side].mark(Mark::Heartbeat).await?;
        }
        let bytes = Pair::from_fn(|side| shared.queues[side].bytes());
        shared.observe(&EngineEvent::Queued {
            memory_bytes: Pair::from_fn(|side| bytes[side].0),
            spill_bytes: bytes.iter().map(|(_, spilled)| spilled).sum(),
            limits: shared.queues[Side::A].limits(),
        });
        shared.tell_quarantine();
        shared.tell_converted();
        heed_throttles(&shared).await?;
        sleep(HEARTBEAT_EVERY).await;
    }
}

/// Returns when what was left half done and what operators asked for is done, and both logs are behind us up to where
/// they stand now.
async fn caught_up(shared: &Shared) -> Result<()> {
    let mut begun = shared.begun.subscribe();
    begun.wait_for(|begun| *begun).await;
    for side in shared.read_sides() {
        let end = shared.nodes[side].log_status(None).await?.end;
        let mut passed = shared.passed[side].subscribe();
        passed.wait_for(|passed| passed.covers(&end)).await;
    }
    Ok(())
}
