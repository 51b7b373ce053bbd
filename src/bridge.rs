//! A bridge at work: two directions and what they share.
//!
//! There is one way back from everything. Whatever is lost — a connection, a server, this process —
//! ends the whole session; the next one takes the lease, waits until no transaction of an earlier
//! session is under way on either node, reads what is durable there, and goes on from that. So the way
//! taken after a crash is the way taken after every broken connection, and there is one place that
//! decides about retry: [`run`]. (A lock time-out loses nothing and is tried again in place.)

use std::{
    future::Future,
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use pontoon_core::{
    Checkpoint, Class, Code, Error, Fault, Position, Result, TableId,
    history::Retention,
    node::{Applier, Lease, LeaseAttempt, LogReader, Mark, Node, PassedOver, Session, SetUp, Tables},
    quarantine::Stored,
    state::{NodeState, Pause},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    aside,
    conflict::{
        broken::{Looking, referring},
        decide::Reason,
        policy::Policy,
        quarantine::{OnError, Quarantine},
        registry::Registry,
        resolutions::Resolutions,
        settle::Settler,
        verdict::Verdict,
        watchdog::Watchdog,
    },
    copy::{self, Underway, Windows},
    direction::{
        apply::Direction,
        queue::{Limits, Queue},
        read,
    },
    epoch,
    event::{Conflict, EngineEvent, Observer, Refused, Stage},
    held_back::{self, Restraints},
    level,
    promoted::{self, Promoted},
    rules::{Rule, Rules},
    side::{Pair, Side},
};

/// How often a process that stands by looks whether the lease is free: a take-over within seconds, at
/// the cost of one statement.
const STAND_BY: Duration = Duration::from_secs(1);

/// How often the holder shows that it lives; a third of the shortest of the servers' idle time-outs.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How often an idle log is marked: what the lag of an idle link is measured by.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);

/// The first and the longest pause after a session ended, before half of it is added and the rest left to
/// chance. A server that is up again is met within three seconds, and is at work within five; asking one that
/// stays away so often costs nothing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The pause where a server refuses the login, or is not the one that it should be; up to half of it is added. Somebody
/// has to mend that, and until then each attempt is one more that the server counts against the user.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// How often it is looked whether what is paused goes on: somebody waits for that.
const LOOK_FOR_RESUME_EVERY: Duration = Duration::from_secs(1);

/// A session that was idle this long is opened anew: the server, or what lies between, may have given it up.
pub(crate) const SESSION_IDLE_MAX: Duration = Duration::from_secs(30);

/// A session that lived this long was a good one: the backoff begins anew.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// How long a shutdown waits for what is in hand. Below the ten seconds that a service manager is
/// promised, with room for the process to end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(8);

/// Requests for a rendezvous that can wait: one for each direction.
const REQUESTS_MAX: usize = 2;

/// When a bridge ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When both logs are applied up to where they stood at the start.
    CaughtUp,
}

/// Everything that a bridge needs to know.
pub struct Plan {
    /// The nodes; A is the first by name.
    pub nodes: Pair<Arc<dyn Node>>,
    /// The mapped tables as each side sees them.
    pub tables: Pair<Tables>,
    /// Tables that are set up and not among them, by label: they are set aside.
    pub aside: Vec<Arc<str>>,
    /// How the conflicts of each table are settled, by its number.
    pub policies: Vec<Policy>,
    /// What becomes of rows of each table that the target refuses.
    pub on_error: Vec<OnError>,
    /// Keys that may be in quarantine.
    pub quarantined_max: usize,
    /// How long records of settled conflicts are kept.
    pub retention: Retention,
    /// The node of the higher priority.
    pub preferred: Side,
    /// Whose log is followed.
    pub reads: Pair<bool>,
    /// The queue's limits, of each direction.
    pub limits: Limits,
    /// Where queues spill to.
    pub spill_folder: PathBuf,
    /// This process, for people: host and process id.
    pub holder: String,
    /// When to end by itself.
    pub until: Until,
    /// Rows of a source's log that are applied in a second, where no operator has said otherwise; `None` for as many as can be.
    pub rows_per_second: Option<NonZeroU64>,
    /// When nothing is to be applied.
    pub restraints: Restraints,
    /// Rows of a chunk of a copy; `None` for as many as fit its aim in bytes.
    pub chunk_rows: Option<usize>,
    /// The seed of random pauses; `None` for one of the system's.
    pub seed: Option<u64>,
    /// The rules in force: [`Rules::ALL`] but in a simulation.
    pub rules: Rules,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

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

fn random(dice: &Mutex<SmallRng>, max: Duration) -> Duration {
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
        leases = leases(plan) => leases?,
    };
    let (tokens, mut states) = take_over(plan, &mut leases).await?;
    are_set_up(&plan.nodes, &plan.tables, &plan.aside, &states)?;
    epoch::check(&plan.nodes, &states)?;
    let promoted = promoted::look(&plan.nodes, &plan.tables, plan.rules, &mut states).await?;
    epoch::raise(&plan.nodes, &mut leases).await?;
    let before = Pair::from_fn(|side| states[side].aside.clone());
    let arrangements = aside::arrangements(&plan.aside, &plan.tables, plan.rules, &mut states);
    let paused = pauses(plan).await?;
    let shared = Arc::new(Shared::new(plan, tokens, &states, paused, stopping, dice)?);
    heed_throttles(&shared).await?;
    held_back::look(&shared).await;
    // Both logs are found to be whole before anything of either is applied. With many tables that takes longer than a server waits for a word of who has
    // its lease.
    let readers = tokio::select! {
        biased;
        readers = readers(plan, &shared, &states, &promoted, &before) => readers?,
        lost = renewing(&mut leases) => return Err(lost.into()),
    };
    promoted::note(&plan.nodes, &mut leases, &promoted, &states).await?;
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
    tasks.spawn(within(Stage::Connect, None, failing(keep(shared.clone(), leases))));
    tasks.spawn(within(Stage::Read, None, failing(heartbeat(shared.clone()))));
    tasks.spawn(within(Stage::Apply, None, failing(held_back::watch(shared.clone()))));
    plan.observer.observe(&EngineEvent::Active);
    let resuming = wait_for_resume(&shared);
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
        let start = checkpoint(&plan.nodes, states, source)?;
        let passed = passed_over(states, source);
        let reader = plan.nodes[source].open_reader(start, &plan.tables[source], &passed).await;
        let name = plan.nodes[source].name();
        let taken_back = set_aside_before[source.other()].iter().map(|(label, _)| label.clone());
        let taken_back: Vec<_> = taken_back.filter(|label| !plan.aside.contains(label)).collect();
        match reader {
            Ok(reader) => readers.push((source, reader)),
            Err(error) => {
                let error = promoted::since_then(error, &*plan.nodes[source], &start.log).await.at(name);
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

/// Waits until this process is the one that works, on A and then on B.
async fn leases(plan: &Plan) -> Result<Vec<Box<dyn Lease>>> {
    let mut leases = Vec::new();
    for side in Side::BOTH {
        let mut told = false;
        loop {
            match plan.nodes[side].try_lease().await.map_err(|error| error.at(plan.nodes[side].name()))? {
                LeaseAttempt::Ours(lease) => {
                    leases.push(lease);
                    break;
                }
                LeaseAttempt::HeldBy(holder) => {
                    if !told {
                        plan.observer.observe(&EngineEvent::StandingBy { holder: &holder });
                        told = true;
                    }
                    renew(&mut leases).await?;
                    sleep(STAND_BY).await;
                }
            }
        }
    }
    Ok(leases)
}

async fn renew(leases: &mut [Box<dyn Lease>]) -> Result<()> {
    for lease in leases {
        lease.renew().await?;
    }
    Ok(())
}

/// Renews leases until that fails.
pub(crate) async fn renewing(leases: &mut [Box<dyn Lease>]) -> Error {
    loop {
        sleep(RENEW_EVERY).await;
        if let Err(error) = renew(leases).await {
            return error;
        }
    }
}

/// Shuts earlier processes out of both nodes, and only then reads what they left (rule `TakeOver`).
async fn take_over(plan: &Plan, leases: &mut [Box<dyn Lease>]) -> Result<(Pair<i64>, Pair<NodeState>)> {
    let mut states = Pair::default();
    if !plan.rules.has(Rule::TakeOver) {
        states = read_states(&plan.nodes, &plan.tables).await?;
    }
    let mut tokens = Pair::default();
    for (side, lease) in Side::BOTH.into_iter().zip(leases) {
        let token = lease.take_over(&plan.holder).await;
        tokens[side] = token.map_err(|error| error.at(plan.nodes[side].name()))?;
    }
    if plan.rules.has(Rule::TakeOver) {
        states = read_states(&plan.nodes, &plan.tables).await?;
    }
    Ok((tokens, states))
}

/// What both nodes keep.
pub(crate) async fn read_states(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<Pair<NodeState>> {
    let mut states = Pair::default();
    for side in Side::BOTH {
        let node = &nodes[side];
        states[side] = node.state(&tables[side]).await.map_err(|error| error.at(node.name()))?;
    }
    Ok(states)
}

/// Whether the bridge is set up for just these tables, and those that are set aside. Errors: tables changed, where it is for others: some of them would lose what their logs hold.
pub(crate) fn are_set_up(
    nodes: &Pair<Arc<dyn Node>>,
    tables: &Pair<Tables>,
    aside: &[Arc<str>],
    states: &Pair<NodeState>,
) -> Result<()> {
    for side in Side::BOTH {
        let (known, name) = (&states[side].tables, nodes[side].name());
        let arriving = tables[side.other()].iter().map(|table| (table.label.clone(), table.followed));
        // Which way one goes that is set aside is looked at when it is taken back.
        let as_known = |label: &Arc<str>| known.iter().find(|(found, _)| found == label).cloned();
        let set_aside = aside.iter().map(|label| as_known(label).unwrap_or_else(|| (label.clone(), true)));
        let mut wanted: Vec<SetUp> = arriving.chain(set_aside).collect();
        wanted.sort();
        if known.is_empty() || wanted == *known {
            continue;
        }
        let has = |tables: &[SetUp], label: &Arc<str>| tables.iter().any(|(found, _)| found == label);
        let new = wanted.iter().find(|(label, _)| !has(known, label));
        let gone = known.iter().find(|(label, _)| !has(&wanted, label));
        let what = match (new, gone) {
            (Some((label, _)), _) => format!("is not set up for the table {label}, which is configured"),
            (None, Some((label, _))) => format!("is set up for the table {label}, which is not configured"),
            (None, None) => "is set up for other directions than are configured".to_owned(),
        };
        return Err(Error::new(Code::TablesChanged, format!("{name} {what}"))
            .hint("run pontoon setup, with the configuration that is meant; what is set up already stays as it is"));
    }
    Ok(())
}

/// What of the log of `source` is passed over, by operators and since it is applied already or was there before.
pub(crate) fn passed_over(states: &Pair<NodeState>, source: Side) -> PassedOver {
    PassedOver { skips: states[source].skips.clone(), since: states[source.other()].since.clone() }
}

/// Up to where the log of `source` is applied: the checkpoint is on the other node.
pub(crate) fn checkpoint<'a>(
    nodes: &Pair<Arc<dyn Node>>,
    states: &'a Pair<NodeState>,
    source: Side,
) -> Result<&'a Checkpoint> {
    states[source.other()].checkpoint.as_ref().ok_or_else(|| {
        Error::new(Code::NotSetUp, format!("{} has no checkpoint of this bridge", nodes[source.other()].name()))
            .hint("run pontoon setup")
    })
}

async fn keep(shared: Arc<Shared>, mut leases: Vec<Box<dyn Lease>>) -> Result<()> {
    let (mut raised, mut durable) = (Instant::now(), shared.durable());
    loop {
        sleep(RENEW_EVERY).await;
        renew(&mut leases).await?;
        let now = shared.durable();
        if now != durable && raised.elapsed() >= epoch::RAISE_EVERY {
            epoch::raise(&shared.nodes, &mut leases).await?;
            (raised, durable) = (Instant::now(), now);
        }
    }
}

/// Reads which nodes nothing is to be applied on. What is paused from now on ends this session's tokens. Errors: paused, where
/// the bridge is to end by itself, which it could not.
async fn pauses(plan: &Plan) -> Result<Pair<Option<Pause>>> {
    let mut pauses = Pair::default();
    for source in Side::BOTH.into_iter().filter(|side| plan.reads[*side] && plan.rules.has(Rule::Pause)) {
        let Some(pause) = pause_of(&plan.nodes, source).await? else { continue };
        if plan.until != Until::Stopped {
            return Err(paused(&plan.nodes, source));
        }
        pauses[source.other()] = Some(pause);
    }
    Ok(pauses)
}

/// An operator's word that nothing is to be applied in the direction from a side, if there is one.
pub(crate) async fn pause_of(nodes: &Pair<Arc<dyn Node>>, source: Side) -> Result<Option<Pause>> {
    let target = &nodes[source.other()];
    target.paused().await.map_err(|error| error.at(target.name()))
}

/// Errors: a direction is paused, for which whoever waits for it would wait for ever.
pub(crate) async fn refuse_paused(nodes: &Pair<Arc<dyn Node>>, reads: Pair<bool>) -> Result<()> {
    for source in Side::BOTH.into_iter().filter(|side| reads[*side]) {
        if pause_of(nodes, source).await?.is_some() {
            return Err(paused(nodes, source));
        }
    }
    Ok(())
}

/// What an operator has paused does not get done.
fn paused(nodes: &Pair<Arc<dyn Node>>, source: Side) -> Error {
    let text = format!("{} -> {} is paused", nodes[source].name(), nodes[source.other()].name());
    Error::new(Code::Paused, text).hint("pontoon resume ends that")
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

/// Tells what is paused, and returns when some of it goes on; never where nothing is paused.
async fn wait_for_resume(shared: &Shared) -> Result<()> {
    let paused = || Side::BOTH.into_iter().filter_map(|side| Some((side.other(), shared.paused[side]?)));
    for (source, pause) in paused() {
        shared.observe(&EngineEvent::Paused { source, until: pause.until });
    }
    if paused().next().is_none() {
        return std::future::pending().await;
    }
    loop {
        sleep(LOOK_FOR_RESUME_EVERY).await;
        let mut goes_on = false;
        for (source, _) in paused() {
            if pause_of(&shared.nodes, source).await?.is_none() {
                shared.observe(&EngineEvent::Resumed { source });
                goes_on = true;
            }
        }
        if goes_on {
            return Ok(());
        }
    }
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
    paused: Pair<Option<Pause>>,
    /// How many rows of a side's log are applied in a second, by the configuration and where nobody has said otherwise.
    rows_per_second: Option<NonZeroU64>,
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
    fn new(
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
    fn tell_converted(&self) {
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
