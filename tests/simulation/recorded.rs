//! The model and the engine on the same schedules: what `tests/model/record.py` has taken the model through, the engine is
//! taken through here, and after every step both nodes hold the same rows as the model's, and the same side has won each
//! conflict.
//!
//! The applications' transactions are committed as they are recorded, commit times included. Between them one direction is
//! brought to the end of its log, while the other is kept from every write by a lock that it does not get; both logs are
//! read all the time. What a process does in which order, and how it cuts logs into runs, is left to its dice.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use pontoon::{
    bridge::{self, Plan},
    conflict::policy::{ColumnRule, Policy, RowRule},
    rules::{Rule, Rules},
    side::{Pair, Side},
};
use pontoon_core::{Row, Value};
use pontoon_faulty::Sites;
use pontoon_memory::{Database, Dice, Faults, database::Clock};
use serde::Deserialize;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    checkers,
    columns::{self, COUNTER},
    link::Link,
    schedule::{Topology, Workload},
    trace::{Trace, Watcher},
    world::place,
};

/// Virtual time in which a direction comes to the end of its log: much more than it ever needs.
const STEP_MAX: Duration = Duration::from_secs(300);

/// How often it is looked, in virtual time, whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The engine is taken through each schedule with so many other dice, one for as many seeds of each shape: two where the
/// environment does not say otherwise.
fn times() -> u64 {
    crate::seeds(Topology::Pair).div_ceil(50)
}

/// A row as the model writes it, its columns with slashes between.
type Text = Option<String>;

#[derive(Deserialize)]
struct Recorded {
    schedule: String,
    mode: String,
    /// What both nodes hold at the beginning, by key.
    first: Vec<Text>,
    steps: Vec<Step>,
}

/// An application's transaction, or the bridge's turn.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    write: Option<String>,
    #[serde(default)]
    time: i64,
    #[serde(default)]
    rows: BTreeMap<i64, Text>,
    apply: Option<String>,
    #[serde(default)]
    restarted: bool,
    #[serde(default)]
    dies: bool,
    #[serde(default)]
    a: Vec<Text>,
    b: Option<Vec<Text>>,
    #[serde(default)]
    settled: Settled,
}

/// Of each key that was settled and not the same on both sides, whose row stands, and the plain columns of it.
type Settled = BTreeMap<i64, (String, Text)>;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/recorded.jsonl")
}

fn recorded() -> Vec<Recorded> {
    let text = std::fs::read_to_string(file()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn row(key: i64, text: &Text) -> Option<Row> {
    let columns: Vec<&str> = text.as_ref()?.split('/').collect();
    let mut row = columns::row(Workload::Columns, key, columns[0], columns[1]);
    row.0[COUNTER] = Value::Integer(columns[2].parse().unwrap());
    Some(row)
}

fn plain(row: &Row) -> String {
    let text = |at: usize| match &row.0[at] {
        Value::Text(text) => text.to_string(),
        other => panic!("{other:?} is no text"),
    };
    format!("{}/{}", text(1), text(2))
}

fn policy(mode: &str) -> Policy {
    match mode {
        "lww" => Policy::of_rows(RowRule::LastWriterWins),
        "merge" => Policy::of_rows(RowRule::ColumnMerge),
        "additive" => {
            let mut columns = vec![None; COUNTER];
            columns.push(Some(ColumnRule::Additive { floor: None }));
            Policy { columns, ..Policy::of_rows(RowRule::ColumnMerge) }
        }
        other => panic!("{other} is no mode of the model"),
    }
}

/// The engine, in the middle of a schedule.
struct Replay<'a> {
    recorded: &'a Recorded,
    rules: Rules,
    seed: u64,
    link: Link,
    sites: Arc<Sites>,
    trace: Arc<Trace>,
    started: Instant,
    process: Option<JoinHandle<pontoon_core::Result<()>>>,
}

impl Replay<'_> {
    fn new(recorded: &Recorded, rules: Rules, seed: u64) -> Replay<'_> {
        let dice = Dice::new(seed, Faults::default());
        let node = |name| Database::new(name, dice.clone(), Clock::Skewed(0));
        let link = Link::new(Pair::new(node("a"), node("b")));
        for (key, text) in (0..).zip(&recorded.first) {
            let row = row(key, text);
            row.into_iter().for_each(|row| link.nodes.iter().for_each(|node| node.seed_row(place(key), row.clone())));
        }
        let sites = Arc::new(Sites::default());
        link.nodes.iter().for_each(|node| sites.hold(&node.name));
        Replay { recorded, rules, seed, link, sites, trace: Arc::default(), started: Instant::now(), process: None }
    }

    fn side(name: &str) -> Side {
        if name == "a" { Side::A } else { Side::B }
    }

    async fn run(mut self) -> Result<(), String> {
        for (number, step) in self.recorded.steps.iter().enumerate() {
            let done = match (&step.write, &step.apply) {
                (Some(node), None) => self.write(Self::side(node), step).await,
                (None, Some(source)) => self.apply(Self::side(source), step).await,
                _ => Err("neither a write nor the bridge's turn".into()),
            };
            done.map_err(|what| {
                let trace = self.trace.lines.lock().unwrap().join("\n");
                format!("{}, step {number}: {what}\n{trace}", self.recorded.schedule)
            })?;
            self.trace.note(self.started, format!("step {number} is done"));
        }
        self.kill().await;
        Ok(())
    }

    async fn write(&mut self, side: Side, step: &Step) -> Result<(), String> {
        self.quiet().await?;
        self.link.nodes[side].write_at(step.time, step.rows.iter().map(|(key, text)| (place(*key), row(*key, text))));
        Ok(())
    }

    async fn apply(&mut self, source: Side, step: &Step) -> Result<(), String> {
        if step.restarted {
            self.kill().await;
        }
        self.start();
        let before = self.link.nodes[Side::A].resolutions(&self.link.name).len();
        if !checkers::half_done(&self.link).is_empty() {
            // A process of its own, since both directions ask at once for what is half done to be settled: the second
            // to be heard would have settled what is written after this step.
            self.until(|replay| checkers::half_done(&replay.link).is_empty()).await?;
            self.kill().await;
            self.start();
        }
        self.sites.stop_at(step.dies.then_some("b"));
        self.sites.let_go(&self.link.nodes[source.other()].name);
        self.until(|replay| replay.sites.has_stopped() || !step.dies && replay.link.is_applied(source)).await?;
        if step.dies {
            self.kill().await;
        }
        self.quiet().await?;
        self.sites.hold(&self.link.nodes[source.other()].name);
        self.compare(before, step)
    }

    /// Waits until nobody has a row locked: a server ends what a killed process had begun only after a while.
    async fn quiet(&self) -> Result<(), String> {
        self.until(|replay| replay.link.nodes.iter().all(|node| node.is_quiet())).await
    }

    /// Waits until something has come about.
    async fn until(&self, reached: impl Fn(&Replay<'_>) -> bool) -> Result<(), String> {
        let reached = async {
            while !reached(self) {
                sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(STEP_MAX, reached).await.map_err(|_| "it never came to its end".to_owned())
    }

    fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        let (bridge, trace, started) = (self.link.name.clone(), self.trace.clone(), self.started);
        let watcher = Arc::new(Watcher { bridge, trace, started });
        let plan = self.link.plan(&self.sites, Workload::Columns, policy(&self.recorded.mode), self.rules, watcher);
        let plan = Plan { seed: Some(self.seed), ..plan };
        self.process = Some(tokio::spawn(bridge::run(plan, std::future::pending())));
    }

    async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.abort();
            let _ = process.await;
        }
    }

    fn compare(&self, before: usize, step: &Step) -> Result<(), String> {
        let expected = Pair::new(&step.a, step.b.as_ref().unwrap_or(&step.a));
        for side in Side::BOTH {
            let node = &self.link.nodes[side];
            let texts = (0..).zip(expected[side]);
            let rows: BTreeMap<_, _> = texts.filter_map(|(key, text)| Some((place(key), row(key, text)?))).collect();
            if node.rows() != rows {
                return Err(format!("{} holds {:?}, and the model's {rows:?}", node.name, node.rows()));
            }
        }
        let settled = self.settled(before);
        if settled != step.settled {
            return Err(format!("{settled:?} was settled, and by the model {:?}", step.settled));
        }
        Ok(())
    }

    /// What was settled since A had so many records.
    fn settled(&self, before: usize) -> Settled {
        let mut settled = Settled::new();
        for (record, _) in self.link.nodes[Side::A].resolutions(&self.link.name).into_iter().skip(before) {
            let Value::Integer(key) = record.key.0[0] else { continue };
            let [a, b, stands] =
                [&record.own_row, &record.other_row, &record.verdict].map(|row| row.as_ref().map(plain));
            if a != b {
                let winner = if stands == a {
                    "a"
                } else if stands == b {
                    "b"
                } else {
                    "both"
                };
                settled.insert(i64::try_from(key).unwrap(), (winner.to_owned(), stands));
            }
        }
        settled
    }
}

/// Takes the engine through a schedule.
fn replay(recorded: &Recorded, rules: Rules, seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { Replay::new(recorded, rules, seed).run().await })
}

#[test]
fn the_engine_comes_out_as_the_model() {
    let all = recorded();
    let failures: Vec<String> = all
        .iter()
        .flat_map(|recorded| (0..times()).filter_map(|seed| replay(recorded, Rules::ALL, seed).err()))
        .collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), all.len(), failures.join("\n"));
    let settled = all.iter().flat_map(|recorded| &recorded.steps).map(|step| step.settled.len()).sum::<usize>();
    println!("{} schedules, {settled} conflicts", all.len());
}

/// What the schedules are about is what the rules keep.
#[test]
fn without_its_rules_the_engine_comes_out_otherwise() {
    let all = recorded();
    for rule in [Rule::Seen, Rule::Skip, Rule::Delete, Rule::Complete] {
        let differs = all.iter().find_map(|recorded| replay(recorded, Rules::without(rule), 0).err());
        println!(
            "without {rule:?}: {}",
            differs.unwrap_or_else(|| panic!("{rule:?} can be taken out and nothing differs"))
        );
    }
}

#[test]
fn what_is_recorded_is_what_the_model_does() {
    let program = file().with_file_name("record.py");
    let output = Command::new("python3").arg("-B").arg(program).output();
    let output = output.unwrap_or_else(|error| panic!("python3 runs the model; make install installs it: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_same = output.stdout == std::fs::read(file()).unwrap();
    assert!(is_same, "the model has changed: python3 -B tests/model/record.py > tests/model/recorded.jsonl");
}
