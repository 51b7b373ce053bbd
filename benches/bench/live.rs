//! A bridge at work: how long a write takes to the other side at rest, what lag it has while both sides write and conflict, and how many conflicts it
//! settles when they come in bulk.
//!
//! Rates are set by the writers here, so what is told is time: of single rows, each from its commit's answer until it can be read on the other side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    Plan,
    bridge::Bridge,
    database::{Client, Database, insert_numbered},
    measure::Watch,
    peers,
    report::{Figures, Times},
    servers::options,
    table,
};

/// The pairs whose latency is told; the first of PostgreSQL alone has a peer.
const PAIRS: [[Kind; 2]; 6] = [
    [Kind::Postgres, Kind::Postgres],
    [Kind::Mariadb, Kind::Mariadb],
    [Kind::Postgres, Kind::Mariadb],
    [Kind::Mariadb, Kind::Postgres],
    [Kind::Postgres, Kind::Mysql],
    [Kind::Mysql, Kind::Postgres],
];

/// The pairs that are written on both sides.
const LIVE: [[Kind; 2]; 3] =
    [[Kind::Postgres, Kind::Mariadb], [Kind::Postgres, Kind::Postgres], [Kind::Postgres, Kind::Mysql]];

/// Single writes at rest.
const WRITES: usize = 400;

/// The pause between two of them, at least and at most: never in step with anything.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];

/// How long both sides are written; a fifth of it for a quick look.
const LIVE_FOR: Duration = Duration::from_secs(300);

/// Transactions a second on each side.
const RATE: u32 = 1_000;

/// Applications that share them out: enough for servers to put their commits together.
const WRITERS: u32 = 8;

/// One in so many writes goes to a row that the other side writes at the same moment.
const SHARED_ONE_IN: u32 = 100;

/// Of the writes that are made at the same moment at least this part are conflicts: now and then one side's commit waits until the other's write has come.
const CONFLICTS_AT_LEAST: f64 = 0.7;

/// Rows of each writer, and those that both sides write.
const ROWS: u64 = 20_000;
const SHARED: u64 = 2_000;

/// The pause between two marks while both sides are written.
const MARK_EVERY: Duration = Duration::from_millis(50);

/// Keys that both sides have written while nobody looked.
const CONFLICTS: u64 = 20_000;

/// What has not arrived by then will not.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(120);

/// Above all keys that are written otherwise.
const MARKS: u64 = 1_000_000_000;

/// Measures what was asked for.
pub(crate) async fn measure(plan: &Plan) -> Vec<Figures> {
    let mut figures = Vec::new();
    for kinds in PAIRS {
        let name = format!("latency {} to {}", kinds[0], kinds[1]);
        if plan.wants(&name) {
            figures.extend(latency(plan, kinds, &name).await);
        }
    }
    for kinds in LIVE {
        let name = format!("live {} and {}, W4", kinds[0], kinds[1]);
        if plan.wants(&name) {
            figures.extend(live(plan, kinds, &name).await);
        }
        let name = format!("conflicts {} and {}", kinds[0], kinds[1]);
        if plan.wants(&name) {
            figures.push(conflicts(plan, kinds, &name).await);
        }
    }
    figures
}

/// Two nodes with a bridge that is set up for both ways, and the same rows.
async fn field(kinds: [Kind; 2], rows: u64) -> (Database, Database, Bridge) {
    let (a, b) =
        tokio::join!(Database::start(kinds[0], options(kinds[0])), Database::start(kinds[1], options(kinds[1])));
    for node in [&a, &b] {
        table::create(node).await;
        if rows > 0 {
            node.run(&insert_numbered(node.kind, table::NAME, rows, |n| table::values(node.kind, n))).await;
        }
    }
    let bridge = Bridge::new([&a, &b], "both");
    bridge.succeed(&["setup"]).await;
    (a, b, bridge)
}

/// At rest: one row, and when it has come the next.
async fn latency(plan: &Plan, kinds: [Kind; 2], name: &str) -> Vec<Figures> {
    let (a, b, bridge) = field(kinds, 0).await;
    let writes = WRITES / plan.part.min(4) as usize;
    let process = Process::start(&bridge);
    let mut figures = vec![Figures::new(name, "pontoon", single_writes(&a, &b, writes, MARKS).await)];
    process.end().await;
    if kinds == [Kind::Postgres, Kind::Postgres] {
        bridge.succeed(&["teardown", "--execute"]).await;
        b.run(&format!("TRUNCATE {}", table::NAME)).await;
        peers::subscribe(&a, &b, "on").await;
        b.run(&format!("ALTER SUBSCRIPTION {} ENABLE", peers::NAME)).await;
        figures.push(Figures::new(name, "subscription, durable", single_writes(&a, &b, writes, 2 * MARKS).await));
        b.run(&format!("DROP SUBSCRIPTION {}", peers::NAME)).await;
    }
    eprintln!("{name}: done");
    figures
}

/// The first few, in which connections are made, do not count.
async fn single_writes(a: &Database, b: &Database, writes: usize, first: u64) -> Times {
    const WARM: usize = 20;
    let (mut source, mut target) = (a.client().await, b.client().await);
    let mut dice = SmallRng::seed_from_u64(1);
    let mut times = Vec::new();
    for at in 0..writes + WARM {
        sleep(dice.random_range(PAUSE[0]..PAUSE[1])).await;
        times.push(crosses(&mut source, a.kind, &mut target, first + at as u64).await);
    }
    Times(times.split_off(WARM))
}

/// How long a new row takes from its commit's answer until it can be read on the other side.
async fn crosses(source: &mut Client, kind: Kind, target: &mut Client, id: u64) -> Duration {
    // As a number of eight bytes, which PostgreSQL takes a small one not for.
    let number = if kind == Kind::Postgres { format!("bigint '{id}'") } else { id.to_string() };
    source.run(&format!("INSERT INTO {} VALUES ({})", table::NAME, table::values(kind, &number))).await;
    let (written, look) = (Instant::now(), format!("SELECT 1 FROM {} WHERE id = {id}", table::NAME));
    while target.rows(&look).await.is_empty() {
        assert!(written.elapsed() < GIVEN_UP_AFTER, "row {id} has not come");
    }
    written.elapsed()
}

/// Both sides are written at a steady rate, and marks cross both ways meanwhile.
async fn live(plan: &Plan, kinds: [Kind; 2], name: &str) -> Vec<Figures> {
    let (a, b, bridge) = field(kinds, SHARED + 2 * u64::from(WRITERS) * ROWS).await;
    let process = Process::start(&bridge);
    let watch = Watch::start(process.0.id().unwrap());
    sleep(Duration::from_secs(2)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for (side, node) in [&a, &b].into_iter().enumerate() {
        writers.extend((0..WRITERS).map(|number| writer(node, side as u64, u64::from(number), &stop)));
    }
    let collisions = collisions(&a, &b, &stop);
    let (there, back) = (marks(&a, &b, 2 * MARKS, &stop), marks(&b, &a, 3 * MARKS, &stop));
    let for_time = LIVE_FOR / if plan.part > 1 { 5 } else { 1 };
    sleep(for_time).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let meant = collisions.await.unwrap();
    written += 2 * meant;
    let (there, back) = (there.await.unwrap(), back.await.unwrap());
    bridge.succeed(&["wait", "--timeout", "120s"]).await;
    let (seconds, peak) = watch.end();
    process.end().await;
    assert_eq!(table::digest(&a).await, table::digest(&b).await, "both sides hold the same in the end");
    let settled: u64 = a.value("SELECT count(*) FROM pontoon.resolution").await.parse().unwrap();
    let likely = (meant as f64 * CONFLICTS_AT_LEAST) as u64..=meant;
    assert!(
        likely.contains(&settled),
        "{settled} conflicts on record, of {meant} rows that were written at the same moment"
    );
    for node in [&a, &b] {
        let kept = node.value("SELECT count(*) FROM pontoon.quarantine").await;
        assert_eq!(kept, "0", "every conflict is settled");
    }
    let what = format!(
        "{:.0} transactions/s on both together, {settled} conflicts settled of {meant} rows written at the same moment; bridge {seconds:.0} s of processor in {:.0} s, {:.0} MiB",
        written as f64 / for_time.as_secs_f64(),
        for_time.as_secs_f64(),
        peak as f64 / f64::from(1 << 20)
    );
    eprintln!("{name}: {what}");
    vec![
        Figures::new(&format!("{name}, {} to {}", kinds[0], kinds[1]), "pontoon", there).with(&what),
        Figures::new(&format!("{name}, {} to {}", kinds[1], kinds[0]), "pontoon", back).with(&what),
    ]
}

/// An application that updates rows of its own at a steady rate; how often it wrote.
fn writer(node: &Database, side: u64, number: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (kind, url, stop) = (node.kind, node.url(), stop.clone());
    let first = SHARED + (side * u64::from(WRITERS) + number) * ROWS;
    tokio::spawn(async move {
        let mut client = Client::connect(kind, &url).await;
        let mut dice = SmallRng::seed_from_u64(first);
        let (began, every) = (Instant::now(), Duration::from_secs(1) * WRITERS / (RATE - RATE / SHARED_ONE_IN));
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            client.run(&update(first + dice.random_range(1..=ROWS), side)).await;
            written += 1;
            // Behind time it writes at once.
            sleep((every * written).saturating_sub(began.elapsed())).await;
        }
        u64::from(written)
    })
}

fn update(id: u64, side: u64) -> String {
    format!("UPDATE {} SET quantity = quantity + 1, note = 'by {side}' WHERE id = {id}", table::NAME)
}

/// The same row is written on both sides at the same moment, one after the other of those that are shared: neither write can have seen the other. How
/// many were.
fn collisions(a: &Database, b: &Database, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (kinds, urls, stop) = ([a.kind, b.kind], [a.url(), b.url()], stop.clone());
    tokio::spawn(async move {
        let mut here = Client::connect(kinds[0], &urls[0]).await;
        let mut there = Client::connect(kinds[1], &urls[1]).await;
        let (began, every) = (Instant::now(), Duration::from_secs(1) * SHARED_ONE_IN / RATE);
        let mut made = 0;
        while !stop.load(Ordering::Relaxed) {
            let id = 1 + u64::from(made) % SHARED;
            let statements = [0, 1].map(|side| update(id, side));
            tokio::join!(here.run(&statements[0]), there.run(&statements[1]));
            made += 1;
            sleep((every * made).saturating_sub(began.elapsed())).await;
        }
        u64::from(made)
    })
}

/// Rows that cross one way until told to stop.
fn marks(from: &Database, to: &Database, first: u64, stop: &Arc<AtomicBool>) -> JoinHandle<Times> {
    let (kinds, urls, stop) = ([from.kind, to.kind], [from.url(), to.url()], stop.clone());
    tokio::spawn(async move {
        let mut source = Client::connect(kinds[0], &urls[0]).await;
        let mut target = Client::connect(kinds[1], &urls[1]).await;
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            times.push(crosses(&mut source, kinds[0], &mut target, first + times.len() as u64).await);
            sleep(MARK_EVERY).await;
        }
        Times(times)
    })
}

/// Both sides have written the same rows while no bridge was there.
async fn conflicts(plan: &Plan, kinds: [Kind; 2], name: &str) -> Figures {
    let count = CONFLICTS / plan.part;
    let (a, b, bridge) = field(kinds, count).await;
    for (node, what) in [(&a, "here"), (&b, "there")] {
        node.run(&format!("UPDATE {} SET note = '{what}'", table::NAME)).await;
    }
    let began = Instant::now();
    bridge.succeed(&["run", "--until-caught-up"]).await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(table::digest(&a).await, table::digest(&b).await, "both sides hold the same in the end");
    let settled = a.value("SELECT count(*) FROM pontoon.resolution").await;
    assert_eq!(settled, count.to_string(), "each is on record");
    let what = format!("{:.0} conflicts settled a second", count as f64 / seconds);
    eprintln!("{name}: {what}");
    Figures::new(name, "pontoon", Times(Vec::new())).with(&what)
}

/// `pontoon run`, until it is told to end.
struct Process(tokio::process::Child);

impl Process {
    fn start(bridge: &Bridge) -> Process {
        let mut command = bridge.command(&["run"]);
        Process(command.kill_on_drop(true).spawn().unwrap())
    }

    async fn end(mut self) {
        let id = self.0.id().unwrap().to_string();
        assert!(tokio::process::Command::new("kill").arg(&id).status().await.unwrap().success());
        assert!(self.0.wait().await.unwrap().success(), "the bridge ends well");
    }
}
