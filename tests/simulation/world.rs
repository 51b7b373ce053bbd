//! The nodes, the applications that write to them, the bridges between them, and the dice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon::{
    bridge::{self, Plan},
    conflict::policy::{Policy, RowRule},
    direction::queue::Limits,
    rules::Rule,
    side::{Pair, Side},
};
use pontoon_core::{Code, Key, Position, Row, TableId, Value, history::Retention};
use pontoon_faulty::Sites;
use pontoon_memory::{
    Database, Dice, Faults,
    database::{Clock, Constraint, Kept, LoggedChange, Place},
    early::Met,
};
use tokio::time::{Instant, sleep};

use crate::{
    checkers,
    columns::{self, COUNTER},
    link::Link,
    new_keys,
    operator::Looked,
    promoted::REFUSED,
    repaired, rewriting,
    schedule::{Schedule, Workload},
    tied,
    trace::{Failure, Outcome, Trace, Watcher},
};

/// Virtual time that writing may take, and after it, coming to rest.
const WRITING_MAX: Duration = Duration::from_secs(600);
pub(crate) const REST_MAX: Duration = Duration::from_secs(300);

/// Virtual time in which every row in quarantine has been tried again, and in which all are out of it once nothing is
/// refused any more: more than the longest pause between two attempts.
const RETRIED: Duration = Duration::from_secs(400);
pub(crate) const HEAL_MAX: Duration = Duration::from_secs(900);

/// Virtual time in which a bridge that is left alone does what it was asked for.
const ASKED_MAX: Duration = Duration::from_secs(30);

/// What nodes may refuse: one of four values of any key.
const CONSTRAINTS: [Constraint; 4] =
    [|p, r| odds(p, r) == 0, |p, r| odds(p, r) == 1, |p, r| odds(p, r) == 2, |p, r| odds(p, r) == 3];

fn odds(place: &Place, row: &Row) -> i128 {
    let Value::Integer(key) = place.1.0[0] else { unreachable!() };
    let Value::Text(v) = &row.0[1] else { unreachable!() };
    (key + i128::from(v.bytes().last().unwrap_or(0))).rem_euclid(4)
}

/// Runs a schedule to its end.
pub(crate) fn run(schedule: &Schedule) -> Result<Outcome, Failure> {
    run_with(schedule, &Arc::default())
}

/// Runs a schedule in which some calls fail.
pub(crate) fn run_with(schedule: &Schedule, sites: &Arc<Sites>) -> Result<Outcome, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let trace = Arc::new(Trace::default());
    let world = World::new(schedule, trace.clone(), sites.clone(), &runtime);
    let held = runtime.block_on(world.run());
    let mut lines = trace.lines.lock().unwrap().clone();
    lines.extend(world.describe());
    let counts = trace.counts.lock().unwrap().clone();
    let refused = matches!(&held, Err(why) if why.contains(REFUSED)) && counts.lagged > 0;
    match held {
        Err(what) if !refused => Err(Failure { what, trace: lines }),
        _ => Ok(Outcome {
            transactions: counts.transactions,
            conflicts: counts.conflicts,
            crashes: counts.crashes,
            interruptions: counts.interruptions,
            held: world.nodes.iter().map(|node| node.met()).fold(Met::default(), std::ops::Add::add),
            quarantined: counts.quarantined,
            suspected: counts.suspected,
            discarded: counts.discarded,
            keys_given: world.keys_given(),
            promotions: counts.promotions,
            lost: counts.lost,
            early: (counts.early, counts.early_given_up),
            refused,
            trace: lines,
        }),
    }
}

/// A simulated world.
pub(crate) struct World {
    pub(crate) schedule: Schedule,
    pub(crate) nodes: Vec<Arc<Database>>,
    pub(crate) links: Vec<Link>,
    /// Values are unique, so that a row tells which write it is.
    pub(crate) unique: bool,
    /// What each node held at the beginning.
    pub(crate) initial: BTreeMap<String, Vec<(Place, Row)>>,
    pub(crate) looked: Mutex<Vec<Looked>>,
    /// How conflicts are settled.
    pub(crate) policy: Policy,
    pub(crate) keys: i64,
    writes: i64,
    limits: Limits,
    /// How long bridges keep records of what they settled.
    pub(crate) retention: Retention,
    pub(crate) dice: Dice,
    pub(crate) trace: Arc<Trace>,
    /// The bridges' calls, of which some may be to fail.
    sites: Arc<Sites>,
    /// The applications have ended.
    written: Arc<AtomicBool>,
    started: Instant,
}

pub(crate) const TABLE: TableId = TableId(0);

pub(crate) fn place(key: i64) -> Place {
    (TABLE, Key(vec![Value::Integer(key.into())]))
}

/// Where a row is: every other one in another table, where there are two.
fn place_in(workload: Workload, key: i64) -> Place {
    let place = place(key);
    if workload == Workload::Aside && key % 2 == 1 { (columns::MORE, place.1) } else { place }
}

/// What led to the rows that a node has at the beginning, as its log may hold it.
fn write_before(node: &Database, rows: &[(Place, Row)], dice: &Dice) {
    let was = |row: &Row, step: i64| {
        let mut was = row.clone();
        was.0[1] = Value::Text(format!("before {step}").into());
        was.0[COUNTER] = Value::Integer(i128::from(step));
        was
    };
    for step in 0..dice.between(0, 4) {
        let Some((place, row)) = dice.pick(rows) else { return };
        let before = dice.chance(0.7).then(|| was(row, step));
        let after = (before.is_none() || dice.chance(0.7)).then(|| was(row, step + 1));
        node.log_of_before(vec![LoggedChange { place: place.clone(), before, after, moved_from: None }]);
    }
}

impl World {
    fn new(schedule: &Schedule, trace: Arc<Trace>, sites: Arc<Sites>, runtime: &tokio::runtime::Runtime) -> World {
        let _inside = runtime.enter();
        let patient = Faults { lock_wait: None, ..Faults::default() };
        let kind = if schedule.rules.has(Rule::Timeout) { Faults::default() } else { patient };
        // Every other schedule has transactions that are in the log before they are decided.
        let early = if schedule.seed.is_multiple_of(2) { 0.5 } else { 0.0 };
        let faults = Faults { cut: schedule.crashes * 0.01, lost_answer: schedule.crashes * 0.1, early, ..kind };
        let dice = Dice::new(schedule.seed, faults);
        let odd_clock = dice.chance(0.3);
        let names: BTreeSet<&str> = schedule.topology.links().iter().flat_map(|(a, b)| [*a, *b]).collect();
        let nodes: Vec<Arc<Database>> = names
            .into_iter()
            .map(|name| {
                let skew = dice.between(-2_000_000, 2_000_000);
                Database::new(name, dice.clone(), if odd_clock { Clock::Odd } else { Clock::Skewed(skew) })
            })
            .collect();
        if schedule.promotes {
            // Of some the standbys' positions are others.
            let relocating = nodes.iter().enumerate().filter(|(number, _)| schedule.seed >> number & 1 == 1);
            relocating.for_each(|(_, node)| node.relocates());
        }
        let node = |name: &str| nodes.iter().find(|node| node.name == name).unwrap().clone();
        let links = schedule.topology.links().iter();
        let links: Vec<Link> = links.map(|(a, b)| Link::new(Pair::new(node(a), node(b)))).collect();
        let toggles = schedule.workload == Workload::Toggle;
        let loads = schedule.workload == Workload::Load;
        let tied_and_copied = schedule.workload == Workload::Tied && schedule.seed % 3 == 2;
        let copies = loads || tied_and_copied || matches!(schedule.workload, Workload::Copy | Workload::Stock);
        let keys = match schedule.workload {
            Workload::Toggle => 1,
            Workload::Copy | Workload::Stock => dice.between(1, 12),
            Workload::Load => dice.between(12, 24),
            Workload::Rewritten => dice.between(2, 4),
            Workload::Aside => dice.between(2, 6),
            _ => dice.between(1, 4),
        };
        let mut initial = Vec::new();
        for key in 0..keys {
            if schedule.workload != Workload::Ledger && (loads || !schedule.deletes || dice.chance(0.5)) {
                initial.push((place_in(schedule.workload, key), columns::row(schedule.workload, key, "x", "x")));
            }
        }
        if schedule.workload == Workload::Tied {
            initial = tied::initial(keys, &dice);
            nodes.iter().for_each(|node| node.declare(tied::tables()));
        }
        let mut on_each = BTreeMap::new();
        let mut own = initial;
        for (number, node) in nodes.iter().enumerate() {
            if loads && number > 0 {
                own.clear();
            } else if copies && number > 0 {
                // Of the keys that the node has that they are copied from: a copy has nothing to say of others.
                own.retain(|_| dice.chance(0.4));
                if tied_and_copied {
                    tied::retain_whole(&mut own);
                }
                own.iter_mut()
                    .filter(|_| !tied_and_copied)
                    .filter(|_| dice.chance(0.5))
                    .for_each(|(_, row)| row.0[1] = Value::Text("other".into()));
            }
            if schedule.workload == Workload::Repaired && number > 0 {
                own = repaired::other_rows(keys, &dice);
            }
            own.iter().for_each(|(place, row)| node.seed_row(place.clone(), row.clone()));
            on_each.insert(node.name.clone(), own.clone());
        }
        if copies {
            let tables = columns::tables(schedule.workload);
            for (link, table) in links.iter().flat_map(|link| tables.iter().map(move |table| (link, table.id))) {
                link.nodes[Side::B].request_copy(&link.name, table);
            }
        }
        if schedule.workload == Workload::Added {
            nodes.iter().for_each(|node| write_before(node, &on_each[&node.name], &dice));
            for (link, side) in links.iter().flat_map(|link| Side::BOTH.map(|side| (link, side))) {
                let since = link.nodes[side].end();
                link.nodes[side.other()].add_table(&link.name, columns::LABEL, since);
            }
        }
        if schedule.workload == Workload::Reshaped {
            let is_renamed = dice.chance(0.5);
            for node in &nodes {
                let until = dice.between(0, 40).unsigned_abs();
                // The one that nobody writes, or the one that all do.
                if is_renamed { node.rename_column(until, 1) } else { node.add_column(until, 2) }
            }
        }
        if schedule.refuses {
            for node in &nodes {
                node.constrain(if dice.chance(0.7) { dice.pick(&CONSTRAINTS).copied() } else { None });
            }
        }
        let mut limits = Limits::new(1 << 20, 1 << 30);
        if dice.chance(0.3) {
            // So small that queues spill, and that two changes are a large transaction.
            limits = Limits { memory_max: 2_000, spill_max: 1 << 30, block_bytes: 800, run_bytes: 700, run_changes: 2 };
        }
        let policy = columns::policy(schedule, &dice);
        let is_decided_by_hand = schedule.refuses
            || policy.row == RowRule::Quarantine
            || matches!(schedule.workload, Workload::Tied | Workload::NewKeys);
        World {
            policy,
            schedule: *schedule,
            unique: !toggles && (dice.chance(0.6) || schedule.workload == Workload::Ledger),
            writes: match schedule.workload {
                Workload::Toggle => 80,
                Workload::Load => dice.between(1, 8),
                _ => dice.between(6, 30),
            },
            nodes,
            links,
            initial: on_each,
            looked: Mutex::default(),
            keys,
            limits,
            // What an operator decided is told by its record, so these are kept then.
            retention: Retention { records: (schedule.seed % 10 == 7 && !is_decided_by_hand).then_some(2), age: None },
            dice,
            trace,
            sites,
            written: Arc::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn note(&self, line: String) {
        self.trace.note(self.started, line);
    }

    async fn run(&self) -> Result<(), String> {
        let mut processes = tokio::task::JoinSet::new();
        for link in 0..self.links.len() {
            processes.spawn(self.process(link));
            if self.schedule.crashes > 0.0 && self.dice.chance(0.2) {
                processes.spawn(self.process(link));
            }
        }
        let mut jobs = rewriting::jobs(self, &self.dice);
        let mut writers = Vec::new();
        for node in &self.nodes {
            writers.push(self.write(node));
            writers.push(self.write(node));
        }
        let operating = futures_util::future::join(self.operate(), self.pause_now_and_then());
        let operating = futures_util::future::join(operating, self.promote_now_and_then());
        let writing = futures_util::future::join(futures_util::future::join_all(writers), operating);
        let ended = async {
            match processes.join_next().await {
                Some(Ok(why)) => why,
                other => format!("a process ended: {other:?}"),
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            biased;
            why = &mut ended => return Err(why),
            done = tokio::time::timeout(WRITING_MAX, writing) => {
                let (_, (((), paused), ())) = done.map_err(|_| "writing never came to its end".to_owned())?;
                paused?;
            }
        }
        self.dice.set_faults(Faults { cut: 0.0, lost_answer: 0.0, ..self.dice.faults() });
        self.written.store(true, Ordering::Relaxed);
        self.note("all is written".into());
        if self.schedule.workload == Workload::Rewritten {
            rewriting::runs_its_course(self, &mut ended, &mut jobs).await?;
        }
        if self.repairs() {
            self.ask_for_all_repairs();
        }
        or_ended(&mut ended, REST_MAX, "it never came to rest", self.rest()).await?;
        if self.schedule.refuses || self.decides() {
            checkers::every_other_key_went_on(self)?;
        }
        if self.schedule.refuses {
            if self.decides() && self.dice.chance(0.5) {
                self.decide().await;
                sleep(ASKED_MAX).await;
                or_ended(&mut ended, REST_MAX, "it never came to rest after a decision", self.rest()).await?;
                checkers::every_other_key_went_on(self)?;
            }
            if self.dice.chance(0.3) {
                sleep(RETRIED).await;
                or_ended(&mut ended, REST_MAX, "it never came to rest again", self.rest()).await?;
                checkers::every_other_key_went_on(self)?;
                checkers::nothing_waits_without_cause(self)?;
                checkers::moved_rows_are_not_torn(self)?;
            }
            self.note("nothing is refused any more".into());
            self.nodes.iter().for_each(|node| node.constrain(None));
        }
        if self.schedule.refuses || self.chooses() || self.schedule.workload == Workload::Tied {
            or_ended(&mut ended, HEAL_MAX, "what was refused never healed", self.healed()).await?;
            or_ended(&mut ended, REST_MAX, "it never came to rest in the end", self.rest()).await?;
        }
        self.sites.close();
        let before: Vec<usize> = self.nodes.iter().map(|node| rows_logged(node)).collect();
        sleep(Duration::from_secs(30)).await;
        let after: Vec<usize> = self.nodes.iter().map(|node| rows_logged(node)).collect();
        if before != after {
            return Err("rows are written although nobody writes".into());
        }
        checkers::check(self)
    }

    /// Whether a person alone overwrites what the other side had not seen. Of rows that were different before there was a
    /// bridge, which a copy meets, the one that is written is that side's.
    pub(crate) fn is_left_to_a_person(&self) -> bool {
        self.policy.row == RowRule::Quarantine && self.schedule.workload != Workload::Copy
    }

    /// Waits until everything is applied everywhere.
    pub(crate) async fn rest(&self) {
        loop {
            let applied = self.links.iter().all(|link| {
                Side::BOTH.into_iter().all(|side| link.is_applied(side))
                    && checkers::half_done(link).is_subset(&checkers::quarantined(link))
                    && link.nodes[Side::B].is_copied(&link.name)
            });
            if applied
                && self.all_is_answered()
                && self.all_is_repaired()
                && self.nodes.iter().all(|node| node.is_quiet())
            {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// A process of a bridge, killed and started again at chance until all is written.
    fn process(&self, link: usize) -> impl Future<Output = String> + Send + 'static {
        let link = self.links[link].clone();
        let name = link.name.clone();
        let (dice, trace, started) = (self.dice.clone(), self.trace.clone(), self.started);
        let (schedule, limits, sites) = (self.schedule, self.limits, self.sites.clone());
        let retention = self.retention;
        let policy = self.policy.clone();
        let chunk_rows = usize::try_from(self.dice.between(1, 4)).unwrap_or(1);
        let written = self.written.clone();
        async move {
            loop {
                let sets_aside = schedule.workload == Workload::Aside;
                let aside = sets_aside && !written.load(Ordering::Relaxed) && dice.chance(0.5);
                let observer = Arc::new(Watcher { bridge: name.clone(), trace: trace.clone(), started });
                let plan = Plan {
                    preferred: if schedule.workload == Workload::Tied && schedule.seed % 4 > 1 {
                        Side::B
                    } else {
                        Side::A
                    },
                    retention,
                    limits,
                    chunk_rows: Some(chunk_rows),
                    seed: Some(u64::try_from(dice.between(0, i64::MAX)).unwrap()),
                    ..link.plan(&sites, schedule.workload, policy.clone(), schedule.rules, observer)
                };
                let plan = if aside { set_aside(plan, columns::MORE) } else { plan };
                let mut run = tokio::spawn(bridge::run(plan, std::future::pending()));
                let mean = match schedule.crashes {
                    _ if sets_aside => 0.6,
                    crashes if crashes > 0.0 => 0.3 / crashes,
                    _ => 1e6,
                };
                let life = Duration::from_secs_f64(mean * dice.between(1, 2_000) as f64 / 1_000.0);
                tokio::select! {
                    biased;
                    ended = &mut run => match ended {
                        Ok(Err(error)) if schedule.promotes && error.code() == Code::LogBehind => {
                            return format!("{name} {REFUSED}: {error}");
                        }
                        Ok(Err(error)) if error.is_transient() => trace.note(started, format!("{name} could not start: {error}")),
                        other => return format!("{name} ended: {other:?}"),
                    },
                    () = sleep(life) => {
                        let is_left = if sets_aside { !aside && written.load(Ordering::Relaxed) } else { dice.faults().cut == 0.0 };
                        if is_left {
                            // Writing is over; from here on it is left alone.
                            return match run.await {
                                Ok(Err(error)) if schedule.promotes && error.code() == Code::LogBehind => {
                                    format!("{name} {REFUSED}: {error}")
                                }
                                Ok(Err(error)) => format!("{name} ended: {error}"),
                                other => format!("{name} ended: {other:?}"),
                            };
                        }
                        run.abort();
                        let _ = run.await;
                        trace.counts.lock().unwrap().crashes += 1;
                        trace.note(started, format!("{name} is killed"));
                    }
                }
                sleep(dice.duration(Duration::from_millis(300))).await;
            }
        }
    }

    /// An application: transactions with pauses between.
    async fn write(&self, node: &Arc<Database>) {
        let count = self.writes / (2 * self.nodes.len() as i64) + 1;
        for _ in 0..count {
            let pause = if self.dice.chance(0.1) { 3_000 } else { 150 };
            sleep(self.dice.duration(Duration::from_millis(pause))).await;
            let written = match self.schedule.workload {
                Workload::Ledger => self.insert(node).await,
                Workload::Tied => tied::write(self, node).await,
                Workload::Moves if self.dice.chance(0.3) => self.move_row(node).await,
                workload if columns::has_rules(workload) => self.change_columns(node).await,
                _ => self.overwrite(node).await,
            };
            // A lock time-out is the application's to live with.
            if let Ok(changes) = written
                && !changes.is_empty()
            {
                self.trace.counts.lock().unwrap().transactions += 1;
                self.note(format!("{} local @{}", node.name, node.log().len()));
            }
        }
    }

    /// A row as it is at the beginning.
    pub(crate) fn first_row(&self, key: i64) -> Row {
        columns::row(self.schedule.workload, key, "x", "x")
    }

    pub(crate) fn value(&self, node: &Database) -> String {
        if self.unique {
            format!("{}{}", node.name, self.dice.between(0, i64::MAX))
        } else if self.schedule.workload == Workload::Toggle {
            "x".into()
        } else {
            (*self.dice.pick(&["x", "y", "z"]).unwrap()).to_owned()
        }
    }

    /// A few keys, in order.
    fn some_keys(&self, most: i64) -> Vec<i64> {
        let mut keys = BTreeSet::new();
        let last = self.keys - 1 + if self.gives_keys() { new_keys::MORE_KEYS / 4 } else { 0 };
        for _ in 0..self.dice.between(1, most) {
            keys.insert(self.dice.between(0, last));
        }
        keys.into_iter().collect()
    }

    async fn overwrite(
        &self,
        node: &Arc<Database>,
    ) -> pontoon_core::Result<Vec<pontoon_memory::database::LoggedChange>> {
        let keys = self.some_keys(3);
        let deleted = if self.schedule.workload == Workload::Toggle { 0.9 } else { 0.3 };
        let places: Vec<Place> = keys.iter().map(|key| place_in(self.schedule.workload, *key)).collect();
        node.transact(&places, |rows| {
            let after = keys.iter().zip(rows).map(|(key, before)| match before {
                Some(_) if self.schedule.deletes && self.dice.chance(deleted) => None,
                Some(before) if self.schedule.workload == Workload::Reshaped || self.dice.chance(0.5) => {
                    let mut after = before.clone();
                    after.0[1] = Value::Text(self.value(node).into());
                    Some(after)
                }
                _ => Some(columns::row(self.schedule.workload, *key, &self.value(node), &self.value(node))),
            });
            after.collect()
        })
        .await
    }

    /// Changes some columns of a row or two.
    async fn change_columns(
        &self,
        node: &Arc<Database>,
    ) -> pontoon_core::Result<Vec<pontoon_memory::database::LoggedChange>> {
        let keys = self.some_keys(2);
        let places: Vec<Place> = keys.iter().map(|key| place(*key)).collect();
        let workload = self.schedule.workload;
        node.transact(&places, |rows| {
            let after = keys.iter().zip(rows).map(|(key, before)| match before {
                None if !self.schedule.deletes => None,
                None => Some(columns::row(workload, *key, &self.value(node), &self.value(node))),
                Some(_) if self.schedule.deletes && self.dice.chance(0.3) => None,
                Some(before) => Some(columns::changed(before, &self.dice, || self.value(node))),
            });
            after.collect()
        })
        .await
    }

    async fn move_row(
        &self,
        node: &Arc<Database>,
    ) -> pontoon_core::Result<Vec<pontoon_memory::database::LoggedChange>> {
        let from = self.dice.between(0, self.keys - 1);
        let to = self.dice.between(0, self.keys + 1);
        if from == to {
            return Ok(Vec::new());
        }
        node.move_row(&place(from), &place(to), |before| {
            let mut after = before.clone();
            after.0[0] = Value::Integer(to.into());
            after
        })
        .await
    }

    async fn insert(&self, node: &Arc<Database>) -> pontoon_core::Result<Vec<pontoon_memory::database::LoggedChange>> {
        let key = self.dice.between(0, 1 << 40);
        node.transact(&[place(key)], |_| vec![Some(columns::row(Workload::Ledger, key, &node.name, "entry"))]).await
    }

    /// The logs and records, for the trace.
    fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for node in &self.nodes {
            for (at, entry) in node.log().iter().enumerate() {
                let origin = entry.origin.as_deref().unwrap_or("local");
                let changes = entry.changes.iter().map(|change| {
                    let text = |row: &Option<Row>| {
                        let values =
                            |row: &Row| row.0[1..].iter().map(|value| value.to_json().to_string()).collect::<Vec<_>>();
                        row.as_ref().map_or("-".into(), |row| values(row).join("/"))
                    };
                    let of = if change.place.0 == TABLE { "" } else { "other " };
                    format!("{of}{}: {} -> {}", change.place.1, text(&change.before), text(&change.after))
                });
                let changes = changes.collect::<Vec<_>>().join(", ");
                lines.push(format!("log {} @{} {origin} time={} {changes}", node.name, at + 1, entry.commit_time));
            }
        }
        for link in &self.links {
            for side in Side::BOTH {
                for Kept { stored, attempts, .. } in link.nodes[side].quarantine(&link.name) {
                    let node = &link.nodes[side].name;
                    lines.push(format!("quarantine {} on {node}, tried {attempts} times: {stored:?}", link.name));
                }
                for (r, in_force) in link.nodes[side].resolutions(&link.name) {
                    let fence = |fence: &Option<Position>| fence.as_ref().map_or("-".into(), ToString::to_string);
                    lines.push(format!(
                        "record {} on {} {} {}({}) own<={} other<={} {}{}",
                        link.name,
                        link.nodes[side].name,
                        r.id,
                        if r.table == TABLE { "" } else { "other " },
                        r.key,
                        fence(&r.own_fence),
                        fence(&r.other_fence),
                        r.rule,
                        if in_force { "" } else { " (history)" }
                    ));
                }
            }
        }
        lines
    }
}

/// Waits for something that has to come, unless a process ends before.
pub(crate) async fn or_ended<T>(
    mut ended: impl Future<Output = String> + Unpin,
    max: Duration,
    otherwise: &str,
    done: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        biased;
        why = &mut ended => Err(why),
        done = tokio::time::timeout(max, done) => done.map_err(|_| otherwise.to_owned()),
    }
}

/// What a process does that is to set a table aside, the last one.
fn set_aside(plan: Plan, table: TableId) -> Plan {
    let label = plan.tables[Side::A][table.index()].label.clone();
    let tables = Pair::from_fn(|side| plan.tables[side][..table.index()].into());
    Plan { aside: vec![label], tables, ..plan }
}

fn rows_logged(node: &Database) -> usize {
    node.log().iter().map(|entry| entry.changes.len()).sum()
}
