//! From a configuration to a running bridge: nodes, mapping, metrics, status page, engine.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_core::{
    Code, Error, MappedTable, Position, Result, TableId,
    node::{Node, Tables},
    pressure::PressureLimits,
    state::NodeState,
};
use tokio::{signal::unix::Signal, sync::watch, time::sleep};

use crate::{
    bridge::{self, Plan, Until},
    config::{Absent, Config},
    conflict::quarantine,
    direction::queue::Limits,
    event::{EngineEvent, Observer, SetAside},
    held_back::Restraints,
    mapping::{self, Mapping, Survey, Surveyed},
    nodes::Nodes,
    observe::{self, Manager, Metrics, Site},
    reload::{self, Answer, Reloads},
    rings,
    rules::Rules,
    setup,
    side::{Pair, Side},
};

/// How often tables are looked at on which both sides, or the configuration and what is set up, do not agree: whoever changes the other one
/// waits for that, and each look costs some queries.
const LOOK_AT_TABLES_EVERY: Duration = Duration::from_secs(2);

/// Runs the bridge of a configuration between its opened nodes until `shutdown` completes, or until it is done with what is
/// asked. `also` is told what happens beside the metrics, `manager` how it is; at each of `hangups` the configuration's file is taken up anew. Errors: as [`bridge::run`], whose first connections are those of the look at the
/// tables; and pairs of tables that are unfit.
pub async fn run(
    config: &Config,
    opened: &Nodes,
    until: Until,
    also: Option<Arc<dyn Observer>>,
    manager: Option<Manager>,
    hangups: Option<Signal>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let nodes = opened.nodes.clone();
    let metrics = Arc::new(Metrics::of(config)?);
    let bridged = prepare(config, opened, until).await?;
    for note in &bridged.mapping.notes {
        tracing::warn!("{note}");
    }
    let observer = Arc::new(Both { metrics: metrics.clone(), also });
    let (stop, stopped) = watch::channel(false);
    let ended = |mut stopped: watch::Receiver<bool>| async move {
        // The sender lives until both have ended.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let page = async {
        if let Some(listen) = &config.server.listen {
            let site = Arc::new(Site::page(config, opened, metrics.clone()));
            observe::serve_when_free(listen, site, ended(stopped.clone())).await;
        }
    };
    let numbers = async {
        if let Some(listen) = &config.server.metrics_listen {
            let site = Arc::new(Site::metrics(metrics.clone()));
            observe::serve_when_free(listen, site, ended(stopped.clone())).await;
        }
    };
    let poll = observe::poll(nodes.clone(), metrics.clone(), ended(stopped.clone()));
    let (stop_told, stopping) = watch::channel(false);
    let shutdown = async {
        shutdown.await;
        stop_told.send_replace(true);
    };
    let tell = async {
        if let Some(manager) = &manager {
            observe::tell(manager, &metrics, ended(stopping), ended(stopped.clone())).await;
        }
    };
    let work = async {
        let reloads = Reloads::new(hangups, opened.admins[Side::A].clone());
        let done = in_every_shape(config, opened, bridged, until, &observer, reloads, shutdown).await;
        stop.send_replace(true);
        done
    };
    let ((), (), (), (), done) = tokio::join!(page, numbers, poll, tell, work);
    done
}

/// Runs the bridge; and again, as if somebody had started it, where it stopped because a table has another shape or others are set up, as soon as
/// the pairs are fit as they are then, or some of them are; where one that was set aside is fit again; and where another configuration is taken up.
async fn in_every_shape(
    config: &Config,
    opened: &Nodes,
    mut bridged: Bridged,
    until: Until,
    observer: &Arc<Both>,
    mut reloads: Reloads,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let told = AtomicBool::new(false);
    let shutdown = async {
        shutdown.await;
        told.store(true, Ordering::Relaxed);
    };
    tokio::pin!(shutdown);
    let mut met = BTreeSet::new();
    let mut stuck = Vec::new();
    let mut config = Cow::Borrowed(config);
    loop {
        let Bridged { mapping, aside, said } = bridged;
        for side in Side::BOTH {
            observer.metrics.direction(side).set_used(mapping.reads[side]);
        }
        observer.observe(&EngineEvent::Tables { bridged: mapping.tables[Side::A].len(), aside: &aside });
        let before = Before { tables: mapping.tables.clone(), aside: labels(&aside), said };
        let plan = plan(&config, opened.nodes.clone(), mapping, &aside, until, observer.clone());
        let mut found = None;
        let ended = async {
            tokio::select! {
                biased;
                () = shutdown.as_mut() => {}
                now = others_are_fit(&config, opened, &before, &stuck) => found = Some(now),
                now = reloaded(&config, opened, &before, &stuck, &mut reloads, observer), if until == Until::Stopped => found = Some(now),
            }
        };
        let done = bridge::go_on(plan, ended).await;
        let is_told = told.load(Ordering::Relaxed);
        let error = match (done, found) {
            (Ok(()), Some((read, now))) if !is_told => {
                stuck.retain(|table: &Stuck| labels(&now.aside).contains(&table.label));
                (config, bridged) = (Cow::Owned(read), now);
                continue;
            }
            (Err(error), _) if !is_told && is_of_tables(&error) => error,
            (done, _) => return done,
        };
        let is_new = met.insert(error.to_string());
        tokio::select! {
            biased;
            () = shutdown.as_mut() => return Ok(()),
            agreed = agreed(&config, opened, &before, &mut stuck, is_new, error, until, observer) => {
                let (read, now) = agreed?;
                (config, bridged) = (Cow::Owned(read), now);
            }
        }
        if bridged.mapping.tables != before.tables {
            met.clear();
        }
    }
}

/// Whether other tables, or fewer, may be the remedy.
fn is_of_tables(error: &Error) -> bool {
    matches!(error.code(), Code::SchemaChanged | Code::TablesChanged) || error.table().is_some()
}

/// The tables that are bridged, and those that are not although they are set up.
struct Bridged {
    mapping: Mapping,
    aside: Vec<SetAside>,
    said: Said,
}

/// What operators have said of the logs: which transactions to pass over, and up to where for a table.
#[derive(Clone, PartialEq)]
struct Said {
    skips: Pair<Vec<Position>>,
    since: Pair<BTreeMap<Arc<str>, Position>>,
}

impl Said {
    fn by(states: &Pair<NodeState>, tables: &Pair<Tables>) -> Said {
        let label = |side: Side, table: TableId| Some(tables[side].get(table.index())?.label.clone());
        let since = |side: Side| {
            let places = states[side].since.iter();
            places.filter_map(|(table, place)| Some((label(side, *table)?, place.clone()))).collect()
        };
        Said { skips: Pair::from_fn(|side| states[side].skips.clone()), since: Pair::from_fn(since) }
    }

    /// Whether nothing is said anew that is of a table.
    fn is_still(&self, now: &Said, label: &str) -> bool {
        self.skips == now.skips
            && Side::BOTH.into_iter().all(|side| self.since[side].get(label) == now.since[side].get(label))
    }
}

fn labels(aside: &[SetAside]) -> BTreeSet<Arc<str>> {
    aside.iter().map(|table| table.label.clone()).collect()
}

/// What the bridge was run with when it stopped.
struct Before {
    tables: Pair<Tables>,
    aside: BTreeSet<Arc<str>>,
    said: Said,
}

impl Before {
    fn table(&self, label: &str) -> Option<Pair<MappedTable>> {
        let of = |side: Side| self.tables[side].iter().find(|table| &*table.label == label).cloned();
        Some(Pair::new(of(Side::A)?, of(Side::B)?))
    }
}

/// A table that is fit as it is described, and of which a log holds something that cannot be read or applied.
struct Stuck {
    label: Arc<str>,
    why: Error,
    /// As it was then, and what was said of it: once either is another, it is tried again.
    tables: Pair<MappedTable>,
    said: Said,
}

impl Stuck {
    fn is_still(&self, mapping: &Mapping, said: &Said) -> bool {
        let is_same = |side: Side| {
            let found = mapping.tables[side].iter().find(|table| table.label == self.label);
            found
                .is_some_and(|found| found.columns == self.tables[side].columns && found.name == self.tables[side].name)
        };
        Side::BOTH.into_iter().all(is_same) && self.said.is_still(said, &self.label)
    }
}

/// Ends when other tables have to be set aside than are, and how they are then; never where none is. Whoever cannot look waits: the bridge
/// that runs beside meets the same.
async fn others_are_fit(config: &Config, opened: &Nodes, before: &Before, stuck: &[Stuck]) -> (Config, Bridged) {
    if before.aside.is_empty() {
        return std::future::pending().await;
    }
    loop {
        sleep(LOOK_AT_TABLES_EVERY).await;
        match looked(config, opened, Until::Stopped, stuck).await {
            Ok(now) if labels(&now.1.aside) != before.aside => return now,
            Ok(_) => {}
            Err(why) => tracing::debug!(%why, "whether tables are fit again cannot be seen"),
        }
    }
}

/// Ends when another configuration is to be taken up, with it and its tables.
async fn reloaded(
    config: &Config,
    opened: &Nodes,
    before: &Before,
    stuck: &[Stuck],
    reloads: &mut Reloads,
    observer: &Both,
) -> (Config, Bridged) {
    loop {
        reloads.asked().await;
        let found = read_anew(config, opened, before, stuck).await;
        let (answer, now) = match found {
            Ok((keys, now)) => (Answer::Taken(keys), now),
            Err(error) => (Answer::Refused(error), None),
        };
        reloads.answer(&answer, observer.works()).await;
        if let Some(now) = now {
            return now;
        }
    }
}

/// The keys that are different in the file now, and what the bridge is to go on with where there are any. Errors: it is to be left as it is: among others, since a table would have to be
/// set aside that is not.
async fn read_anew(
    config: &Config,
    opened: &Nodes,
    before: &Before,
    stuck: &[Stuck],
) -> Result<(Vec<String>, Option<(Config, Bridged)>)> {
    let (now, keys) = reload::read(config)?;
    if keys.is_empty() {
        return Ok((keys, None));
    }
    let survey = surveyed(&now, &opened.nodes, Until::Stopped).await?;
    let bridged = bridged(&now, opened, &survey, Until::Stopped, stuck).await?;
    if let Some(table) = bridged.aside.iter().find(|table| !before.aside.contains(&table.label)) {
        return Err(table.why.clone());
    }
    for note in now.warnings.iter().chain(&bridged.mapping.notes) {
        tracing::warn!("{note}");
    }
    Ok((keys, Some((now, bridged))))
}

/// The configuration and the tables as they are now, once both sides agree on some of them. `is_new`: it has not stopped for this with these tables
/// before. What a log is held against beside the mapped columns (their order) is looked at anew with each start; where that was no remedy, the table is
/// set aside that is in the way. Errors: the one that ended the bridge, where no other table is left, and where nobody waits for a change.
#[allow(clippy::too_many_arguments, reason = "what one turn of the loop has")]
async fn agreed(
    config: &Config,
    opened: &Nodes,
    before: &Before,
    stuck: &mut Vec<Stuck>,
    is_new: bool,
    error: Error,
    until: Until,
    observer: &Arc<Both>,
) -> Result<(Config, Bridged)> {
    let may_be_new = is_new && matches!(error.code(), Code::SchemaChanged | Code::TablesChanged);
    let mut waited = false;
    loop {
        match looked(config, opened, until, stuck).await {
            Ok(now)
                if waited
                    || may_be_new
                    || now.1.mapping.tables != before.tables
                    || labels(&now.1.aside) != before.aside =>
            {
                tracing::warn!(%error, "the tables are fit to be bridged; going on with what they are now");
                return Ok(now);
            }
            Ok(now) => {
                let tables = error.table().and_then(|label| Some((Arc::<str>::from(label), before.table(label)?)));
                let Some((label, tables)) = tables.filter(|_| until == Until::Stopped) else { return Err(error) };
                if !before.said.is_still(&now.1.said, &label) {
                    // Said meanwhile: it may be what is wanted.
                    return Ok(now);
                }
                if stuck.iter().any(|table| table.label == label && table.why == error) {
                    return Err(error);
                }
                stuck.retain(|table| table.label != label);
                stuck.push(Stuck { label, why: error.clone(), tables, said: before.said.clone() });
                // Whatever is without it.
                continue;
            }
            Err(why) if until == Until::Stopped && may_come(&why) => {
                if !waited {
                    tracing::error!(%error, %why, hint = why.remedy(), "waiting until both sides agree on the tables");
                    for source in Side::BOTH.into_iter().filter(|source| observer.metrics.direction(*source).is_used())
                    {
                        observer.observe(&EngineEvent::Paused { source, until: None });
                    }
                    waited = true;
                }
            }
            Err(why) => {
                tracing::error!(%why, hint = why.remedy(), "the tables are no pair");
                return Err(error);
            }
        }
        sleep(LOOK_AT_TABLES_EVERY).await;
    }
}

/// Whether somebody is about to make it right.
fn may_come(why: &Error) -> bool {
    why.is_transient() || matches!(why.code(), Code::TableUnfit | Code::TablesChanged | Code::Config)
}

/// The configuration as its file is now, and the tables that are set up for it. What it says of nodes, limits and the page is heeded by who is started
/// anew. Errors: among others, it is no configuration.
async fn looked(config: &Config, opened: &Nodes, until: Until, stuck: &[Stuck]) -> Result<(Config, Bridged)> {
    let config = match config.file.as_str() {
        "" => config.clone(),
        file => {
            let Config { defaults, tables, .. } = Config::load(Some(Path::new(file))).map_err(Error::from)?;
            Config { defaults, tables, ..config.clone() }
        }
    };
    let survey = surveyed(&config, &opened.nodes, until).await?;
    let bridged = bridged(&config, opened, &survey, until, stuck).await?;
    Ok((config, bridged))
}

/// Pairs the tables. Where the bridge is to go on for ever, those that are unfit or stuck are set aside, and what is tied to them; not all. Errors: among
/// others, the bridge is not set up for just these tables.
async fn bridged(config: &Config, opened: &Nodes, survey: &Survey, until: Until, stuck: &[Stuck]) -> Result<Bridged> {
    let nodes = &opened.nodes;
    let mut mapping = survey.map(config).with_statements(opened).await;
    let states = bridge::states::read(nodes, &mapping.tables).await?;
    let said = Said::by(&states, &mapping.tables);
    let mut aside = Vec::new();
    if until == Until::Stopped {
        aside.extend(mapping.unfit().into_iter().map(|(label, why)| SetAside { label, why }));
        let stuck = stuck.iter().filter(|table| table.is_still(&mapping, &said));
        aside.extend(stuck.map(|table| SetAside { label: table.label.clone(), why: table.why.clone() }));
        let tied = survey.tied(&labels(&aside));
        aside.extend(tied.into_iter().map(|(label, to)| SetAside { why: is_tied(&label, &to), label }));
    }
    if !aside.is_empty() {
        let rest = survey.map_without(config, &labels(&aside));
        if rest.tables[Side::A].is_empty() {
            aside.clear();
        } else {
            mapping = rest;
        }
    }
    let mapping = mapping.require()?;
    let names: Vec<Arc<str>> = aside.iter().map(|table| table.label.clone()).collect();
    bridge::states::are_set_up(nodes, &mapping.tables, &names, &states)?;
    Ok(Bridged { mapping, aside, said })
}

/// What the nodes have of the tables. Of a bridge that is to go on for ever one that is set up and gone from a side is unfit like any other.
async fn surveyed(config: &Config, nodes: &Pair<Arc<dyn Node>>, until: Until) -> Result<Survey> {
    let error = match mapping::survey(config, nodes, Absent::Refused).await {
        Err(error) if error.code() == Code::Config && until == Until::Stopped => error,
        survey => return survey,
    };
    let Ok(survey) = mapping::survey(config, nodes, Absent::Chosen).await else { return Err(error) };
    let Ok(states) = bridge::states::read(nodes, &Pair::from_fn(|_| Tables::from([]))).await else { return Err(error) };
    let is_set_up = |label: &str| states.iter().any(|state| state.tables.iter().any(|(known, _)| **known == *label));
    let is_known = |pair: &Surveyed| pair.choice.absent.is_none() || is_set_up(&pair.choice.label);
    if survey.pairs.iter().all(is_known) { Ok(survey) } else { Err(error) }
}

fn is_tied(label: &str, to: &str) -> Error {
    Error::new(Code::TableUnfit, format!("{label}: a foreign key ties it to {to}, which is set aside"))
}

/// The pairs of tables as a bridge would begin with them that waits for no change. Errors: as of [`run`].
pub(crate) async fn paired(config: &Config, opened: &Nodes) -> Result<Mapping> {
    Ok(prepare(config, opened, Until::CaughtUp).await?.mapping)
}

/// Connects to both nodes and pairs their tables. Errors: among others, tables go round another way.
async fn prepare(config: &Config, opened: &Nodes, until: Until) -> Result<Bridged> {
    let Nodes { nodes, admins } = opened;
    for side in Side::BOTH {
        let at = |error: Error| error.at(nodes[side].name());
        let peer = nodes[side].connect().await.map_err(at)?;
        tracing::info!(node = nodes[side].name(), server = peer.server, "connected");
    }
    let survey = surveyed(config, nodes, until).await?;
    let plans = setup::plans(config, nodes, &survey.map(config)).await?;
    rings::look(setup::names(nodes), &plans, admins).await?.refuse()?;
    bridged(config, opened, &survey, until, &[]).await
}

fn plan(
    config: &Config,
    nodes: Pair<Arc<dyn Node>>,
    mapping: Mapping,
    aside: &[SetAside],
    until: Until,
    observer: Arc<dyn Observer>,
) -> Plan {
    // Each direction gets half of what the configuration gives both.
    let memory = usize::try_from(config.limits.memory_bytes / 2).unwrap_or(usize::MAX);
    Plan {
        nodes,
        tables: mapping.tables,
        aside: aside.iter().map(|table| table.label.clone()).collect(),
        policies: mapping.policies,
        on_error: mapping.on_error,
        quarantined_max: quarantine::KEYS_MAX,
        retention: config.limits.retention,
        preferred: config.tie_winner(),
        reads: mapping.reads,
        limits: Limits::new(memory, config.limits.spill_bytes / 2),
        spill_folder: config.limits.spill_dir.clone(),
        holder: holder(),
        until,
        rows_per_second: config.limits.rows_per_second,
        restraints: restraints(config),
        chunk_rows: None,
        seed: None,
        rules: Rules::ALL,
        observer,
    }
}

fn restraints(config: &Config) -> Restraints {
    Restraints {
        windows: config.limits.windows.clone(),
        pressure: Pair::from_fn(|side| pressure_limits(config, side)),
        clock: Arc::new(observe::now_micros),
    }
}

/// What a node may bear to be written to.
pub(crate) fn pressure_limits(config: &Config, side: Side) -> PressureLimits {
    PressureLimits {
        replica_lag: config.limits.target_replica_lag,
        load: config.limits.target_load,
        replicas: config.node(side).replicas.clone(),
    }
}

/// This process for people: its host and its process id.
pub(crate) fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}, process {}", if host.is_empty() { "this host" } else { host }, std::process::id())
}

struct Both {
    metrics: Arc<Metrics>,
    also: Option<Arc<dyn Observer>>,
}

impl Both {
    /// Whether this process works or stands by, once it is known.
    async fn works(&self) -> bool {
        loop {
            match self.metrics.works() {
                Some(works) => return works,
                None => sleep(LOOK_AT_TABLES_EVERY).await,
            }
        }
    }
}

impl Observer for Both {
    fn observe(&self, event: &EngineEvent<'_>) {
        self.metrics.observe(event);
        if let Some(also) = &self.also {
            also.observe(event);
        }
    }
}
