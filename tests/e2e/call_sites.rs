//! A failure at every call of a database in turn, on real servers: the bridge runs in this process, its nodes made to fail at
//! one call, and whatever it is, both sides come to the same rows, counters to their sum, and nothing is left in quarantine
//! or on record that no write explains. (`tests/simulation/sites.rs` does the same in memory, where a seed gives every
//! call again; here a call is the next of its method, or the one after it.)
//!
//! First each part of the workload runs without a failure, which tells the calls that it comes to. Then each of them fails in
//! each way that it can while that part runs, on keys of its own. `PONTOON_KILLS` says how many are tried; from
//! [`ALL_FROM`] on it is all of them. `PONTOON_SEED` repeats a choice; `PONTOON_SITE="commit on b"` takes those
//! whose name it is a part of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pontoon::{
    bridge::Until,
    config::Config,
    event::{EngineEvent, Observer},
    mapping,
    nodes::{self, Nodes},
    service,
    side::{Pair, Side},
};
use pontoon_core::{
    Result,
    node::{Node, Tables},
};
use pontoon_faulty::{Armed, Fault, FaultyNode, Site, Sites};
use pontoon_servers::Kind;
use rand::seq::SliceRandom;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::support::{
    DEADLINE, Link, first_pairing,
    rounds::{Part, Rounds},
    workload::{dice, kills},
};

first_pairing!(every_call_fails_once);

/// From so many kills on, all calls fail; below, two for each.
const ALL_FROM: usize = 50;
const FOR_EACH_KILL: usize = 2;

/// Of the calls of a site in one round so many fail, one at a time: the later ones are mostly like them.
const OCCURRENCES_MAX: usize = 2;

/// Of so many cases one may be of a call that only chance had brought about (a rollback, since somebody else had a lock a moment
/// longer) and that does not come again.
const BY_CHANCE: usize = 50;

/// How long rounds are written until the call has failed: what is done every few seconds comes several times.
const MET_WITHIN: Duration = Duration::from_secs(60);

/// How long is waited for it in one session: what is done every few seconds has come.
const ONCE_WITHIN: Duration = Duration::from_secs(12);

/// What is done on both nodes every so often.
const PERIODIC: [&str; 3] = ["retire", "forget", "renew"];

/// The first connection of a process has to succeed, and the answer of a process that looks at its servers for their
/// metrics is no part of the bridge's work.
const APART: [&str; 2] = ["connect", "verified"];

/// In which order the parts are done, and whether with a session that has just been lost, for what a session begins with.
const PARTS: [(Part, bool); 5] = [
    (Part::Contended, false),
    (Part::Tied, false),
    (Part::Refused, false),
    (Part::Loaded, false),
    (Part::Contended, true),
];

/// A call that fails.
struct Case {
    part: (Part, bool),
    site: Site,
    occurrence: usize,
    fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, anew) = self.part;
        let anew = if anew { " in a new session" } else { "" };
        write!(f, "{:?} of call {} of {}, {part:?}{anew}", self.fault, self.occurrence, self.site)
    }
}

/// What the engine told.
struct Told {
    active: watch::Sender<bool>,
    interrupted: AtomicUsize,
    said: Mutex<Vec<String>>,
}

impl Observer for Told {
    fn observe(&self, event: &EngineEvent<'_>) {
        let said = match event {
            EngineEvent::Active => {
                self.active.send_replace(true);
                "active".to_owned()
            }
            EngineEvent::Interrupted { stage, error, .. } => {
                self.interrupted.fetch_add(1, Ordering::Relaxed);
                format!("interrupted: {stage:?}: {error}")
            }
            EngineEvent::Retried { error, .. } | EngineEvent::RendezvousRetried { error, .. } => {
                format!("tried again: {error}")
            }
            EngineEvent::Quarantined { error, .. } => format!("in quarantine: {error}"),
            EngineEvent::Conflict { conflict, .. } => {
                format!("settled: {} {:?}: {}", conflict.table, conflict.key, conflict.rule)
            }
            _ => return,
        };
        self.said.lock().unwrap().push(said);
    }
}

/// The bridge in this process.
struct Running {
    sites: Arc<Sites>,
    told: Arc<Told>,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<()>>,
}

impl Running {
    async fn start(config: &Config, opened: &Nodes, sites: Arc<Sites>) -> Running {
        let faulty =
            |side: Side| -> Arc<dyn Node> { Arc::new(FaultyNode::new(opened.nodes[side].clone(), sites.clone())) };
        let nodes = Nodes { nodes: Pair::from_fn(faulty), admins: opened.admins.clone() };
        let (active, mut is_active) = watch::channel(false);
        let told = Arc::new(Told { active, interrupted: AtomicUsize::new(0), said: Mutex::default() });
        let (stop, mut stopped) = watch::channel(false);
        let (config, observer) = (config.clone(), told.clone());
        let task = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            service::run(&config, &nodes, Until::Stopped, Some(observer), None, None, shutdown).await
        });
        let mut running = Running { sites, told, stop, task };
        tokio::select! {
            ended = &mut running.task => panic!("the bridge ended: {ended:?}"),
            active = timeout(DEADLINE, is_active.wait_for(|active| *active)) => drop(active.unwrap().unwrap()),
        }
        running
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// Two servers, the applications, and the bridge between them.
struct Probe {
    link: Link,
    config: Config,
    nodes: Nodes,
    tables: Tables,
    rounds: Rounds,
    /// Goes on with the next case, unless its session was lost: then the next one would wait longer and longer.
    running: Option<Running>,
}

impl Probe {
    async fn new(kinds: [Kind; 2]) -> Probe {
        let link = Rounds::link(kinds).await;
        let config = Config::load(Some(&link.config())).unwrap();
        let nodes = nodes::open(&config).unwrap();
        let mapping = mapping::map(&config, &nodes.nodes).await.unwrap().require().unwrap();
        let rounds = Rounds::new(&link).await;
        Probe { link, config, nodes, tables: mapping.tables[Side::B].clone(), rounds, running: None }
    }

    async fn running(&mut self) -> Running {
        match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.config, &self.nodes, Arc::default()).await,
        }
    }

    /// Writes a round and waits until it has crossed.
    async fn round(&mut self, (part, anew): (Part, bool), sites: &Sites) -> Result<(), String> {
        // Whatever a session begins with comes after it.
        let mut cut = anew.then(|| sites.arm(Site { node: "a".into(), method: "next" }, 1, Fault::Before));
        self.rounds.write(part, &self.link, &self.nodes, &self.tables).await?;
        if let Some(cut) = &mut cut {
            is_hit(cut).await?;
        }
        self.rounds.settle(&self.link).await
    }

    /// The calls that a part comes to, and how often.
    async fn met(&mut self, part: (Part, bool)) -> BTreeMap<Site, usize> {
        let running = self.running().await;
        let before = running.sites.met().len();
        let round = self.round(part, &running.sites).await;
        let began = Instant::now();
        let met = loop {
            let met = running.sites.met().split_off(before);
            let came: BTreeSet<&Site> = met.iter().filter(|site| PERIODIC.contains(&site.method)).collect();
            if part != PARTS[0] || came.len() == Side::BOTH.len() * PERIODIC.len() {
                break met;
            }
            assert!(began.elapsed() < DEADLINE, "not all of {PERIODIC:?} came");
            sleep(Duration::from_millis(100)).await;
        };
        round.unwrap_or_else(|what| panic!("{part:?} without a failure: {what}"));
        self.rounds.compare().await.unwrap_or_else(|what| panic!("{part:?} without a failure: {what}"));
        running.stop().await;
        let mut counts = BTreeMap::new();
        met.into_iter().for_each(|site| *counts.entry(site).or_default() += 1);
        counts
    }

    /// Lets a call fail while its part runs, and compares what came of it. `false`: it did not come again.
    async fn fails(&mut self, case: &Case) -> bool {
        let arm = |sites: &Sites| sites.arm(case.site.clone(), case.occurrence, case.fault);
        let (mut running, armed) = if case.site.method.starts_with("open_") {
            // What is open is kept: a bridge that starts comes to it, and may before anything is written.
            if let Some(running) = self.running.take() {
                running.stop().await;
            }
            let sites = Arc::new(Sites::default());
            let armed = arm(&sites);
            (Running::start(&self.config, &self.nodes, sites).await, armed)
        } else {
            let running = self.running().await;
            let armed = arm(&running.sites);
            (running, armed)
        };
        let before = running.told.interrupted.load(Ordering::Relaxed);
        let (sites, told) = (running.sites.clone(), running.told.clone());
        let outcome = tokio::select! {
            ended = &mut running.task => Err(format!("the bridge ended: {ended:?}")),
            outcome = self.fails_in(case, &armed, &sites) => outcome,
        };
        let hit = match outcome {
            Ok(hit) => hit,
            Err(what) => panic!("{case}: {what}\n{}", told.said.lock().unwrap().join("\n")),
        };
        if told.interrupted.load(Ordering::Relaxed) == before {
            told.said.lock().unwrap().clear();
            self.running = Some(running);
        } else {
            running.stop().await;
        }
        hit
    }

    async fn fails_in(&mut self, case: &Case, armed: &Armed, sites: &Sites) -> Result<bool, String> {
        let (began, mut session) = (Instant::now(), Instant::now());
        let mut anew = case.part.1;
        loop {
            self.round((case.part.0, anew), sites).await?;
            if armed.is_hit() {
                break;
            }
            if began.elapsed() > MET_WITHIN {
                return self.rounds.compare().await.map(|()| false);
            }
            // What a session does once it may have done before.
            anew = case.part.1 || session.elapsed() > ONCE_WITHIN;
            if anew {
                session = Instant::now();
            }
        }
        // It may have been hit when all had crossed.
        self.rounds.settle(&self.link).await?;
        self.rounds.compare().await.map(|()| true)
    }
}

async fn is_hit(armed: &mut Armed) -> Result<(), String> {
    timeout(DEADLINE, armed.hit()).await.map_err(|_| "the reader was not cut".to_owned())
}

/// All cases. What the beginning of a session comes to anyway is done in the other parts.
async fn cases(probe: &mut Probe) -> Vec<Case> {
    let (mut cases, mut met) = (Vec::new(), BTreeSet::new());
    for part in PARTS {
        for (site, count) in probe.met(part).await {
            let is_new = met.insert(site.clone());
            if APART.contains(&site.method) || part.1 && !is_new {
                continue;
            }
            for occurrence in 1..=count.min(OCCURRENCES_MAX) {
                let fails = |&fault| Case { part, site: site.clone(), occurrence, fault };
                cases.extend(Fault::of(site.method).iter().map(fails));
            }
        }
    }
    cases
}

async fn every_call_fails_once(kinds: [Kind; 2]) {
    let mut dice = dice();
    let mut probe = Probe::new(kinds).await;
    let all = cases(&mut probe).await;
    let (count, sites) = (all.len(), all.iter().map(|case| &case.site).collect::<BTreeSet<_>>().len());
    let mut chosen = all;
    if let Ok(named) = std::env::var("PONTOON_SITE") {
        chosen.retain(|case| case.to_string().contains(&named));
        assert!(!chosen.is_empty(), "no case is named {named}");
    } else if kills() < ALL_FROM {
        chosen.retain(|case| case.occurrence == 1);
        chosen.shuffle(&mut dice);
        chosen.truncate(kills() * FOR_EACH_KILL);
    }
    let (began, mut missed) = (Instant::now(), Vec::new());
    for case in &chosen {
        let at = Instant::now();
        if probe.fails(case).await {
            println!("{case}: equal after {:?}", at.elapsed());
        } else {
            println!("{case}: the call did not come again");
            missed.push(case.to_string());
        }
    }
    assert!(missed.len() <= chosen.len().div_ceil(BY_CHANCE), "calls that did not come again: {missed:#?}");
    if let Some(running) = probe.running.take() {
        running.stop().await;
    }
    probe.rounds.compare_all(&probe.link).await;
    println!(
        "{} failures of {count}, at {} sites of {sites}; {} transactions compared, in {:?}",
        chosen.len(),
        chosen.iter().map(|case| &case.site).collect::<BTreeSet<_>>().len(),
        probe.rounds.transactions(),
        began.elapsed()
    );
}
