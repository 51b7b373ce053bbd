//! Killing what works, while applications write to both sides: nothing is lost, nothing comes twice.
//!
//! Three workloads at once, in shared transactions:
//!
//! | table | who writes | what must hold at the end |
//! | --- | --- | --- |
//! | `ledger` | all, unique keys | exactly the rows that were acknowledged, on both sides |
//! | `registers` | all, the same few keys: conflicts | the same rows on both sides |
//! | `counter` | one writer, `n = n + 1` | exactly as many as were acknowledged, on both sides |
//!
//! Every ledger row that came is the witness of its transaction: where an answer is lost with its server,
//! the writer asks the same server for the witness, and so knows what became of the increment beside it.
//!
//! `PONTOON_KILLS` says how often is killed, `PONTOON_SEED` repeats the choices of a run.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{Bridge, Database, Link, LinkOptions, database::Client, eventually};

/// Keys that all writers contend for.
const REGISTERS: i64 = 40;

const CONFIGURATION: &str =
    "[[tables]]\nname = \"ledger\"\n[[tables]]\nname = \"registers\"\n[[tables]]\nname = \"counter\"\n";

const DUMP_LEDGER: &str = "SELECT id, writer, note FROM ledger ORDER BY id";
const DUMP_REGISTERS: &str = "SELECT id, content, writer FROM registers ORDER BY id";
const DUMP_COUNTER: &str = "SELECT id, n FROM counter ORDER BY id";

fn kills() -> usize {
    std::env::var("PONTOON_KILLS").map_or(8, |text| text.parse().expect("PONTOON_KILLS is a number"))
}

/// Every choice of a test, from one seed.
fn dice() -> SmallRng {
    let seed = std::env::var("PONTOON_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |text| text.parse().expect("PONTOON_SEED is a number"),
    );
    println!("PONTOON_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// What a writer was told that it is done.
#[derive(Default)]
struct Acked {
    ledger: BTreeSet<i64>,
    increments: i64,
    transactions: u64,
    refused: u64,
    reconnects: u64,
}

/// One application's session, which lives through everything.
struct Writer {
    kind: Kind,
    url: String,
    number: i64,
    counts: bool,
    dice: SmallRng,
    stop: Arc<AtomicBool>,
    client: Option<Client>,
    next: i64,
    acked: Acked,
}

impl Writer {
    fn start(
        node: &Database,
        number: i64,
        counts: bool,
        dice: &mut SmallRng,
        stop: &Arc<AtomicBool>,
    ) -> JoinHandle<Acked> {
        let writer = Writer {
            kind: node.kind,
            url: node.url(),
            number,
            counts,
            dice: SmallRng::seed_from_u64(dice.random()),
            stop: stop.clone(),
            client: None,
            next: number * 1_000_000,
            acked: Acked::default(),
        };
        tokio::spawn(writer.run())
    }

    async fn run(mut self) -> Acked {
        while !self.stop.load(Ordering::Relaxed) {
            let pace = self.dice.random_range(2..25);
            sleep(Duration::from_millis(pace)).await;
            match self.dice.random_range(0..10) {
                0 => self.reinsert().await,
                _ => self.transaction().await,
            }
        }
        self.acked
    }

    async fn client(&mut self) -> &mut Client {
        while self.client.is_none() {
            match Client::try_connect(self.kind, &self.url).await {
                Ok(client) => self.client = Some(client),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
        self.client.as_mut().unwrap()
    }

    /// Runs a transaction. Where it fails, the next one begins in a session that is fit for it.
    async fn attempt(&mut self, statements: &[String]) -> bool {
        let sql = format!("BEGIN; {}; COMMIT", statements.join("; "));
        if self.client().await.try_run(&sql).await.is_ok() {
            return true;
        }
        if self.client().await.try_run("ROLLBACK").await.is_err() {
            self.client = None;
            self.acked.reconnects += 1;
        }
        false
    }

    /// Whether a row that this writer inserted is there, on its own side.
    async fn is_there(&mut self, id: i64) -> bool {
        loop {
            match self.client().await.try_rows(&format!("SELECT count(*) FROM ledger WHERE id = {id}")).await {
                Ok(rows) => return rows[0][0].as_deref() == Some("1"),
                Err(_) => self.client = None,
            }
        }
    }

    /// A register that is there goes or moves; one that is not comes. What is refused is no matter here.
    async fn reinsert(&mut self) {
        let (from, to) = (self.dice.random_range(0..REGISTERS), self.dice.random_range(0..REGISTERS));
        let (next, number) = (self.next, self.number);
        self.next += 1;
        let statement = match self.dice.random_range(0..3) {
            0 => format!("DELETE FROM registers WHERE id = {from}"),
            1 => format!("INSERT INTO registers VALUES ({from}, {next}, {number})"),
            _ => format!("UPDATE registers SET id = {to}, content = {next} WHERE id = {from}"),
        };
        if !self.attempt(&[statement]).await {
            self.acked.refused += 1;
        }
    }

    async fn transaction(&mut self) {
        let rows = self.dice.random_range(1..=4);
        let ids: Vec<i64> = (self.next..self.next + rows).collect();
        self.next += rows;
        let number = self.number;
        let mut statements: Vec<String> =
            ids.iter().map(|id| format!("INSERT INTO ledger VALUES ({id}, {number}, 'of {number}: {id}')")).collect();
        if self.counts {
            statements.push("UPDATE counter SET n = n + 1 WHERE id = 1".into());
        }
        let first = ids[0];
        let mut registers = BTreeSet::new();
        for _ in 0..self.dice.random_range(0..3) {
            registers.insert(self.dice.random_range(0..REGISTERS));
        }
        // In ascending order, so that writers of one side do not lock each other out all the time.
        statements.extend(registers.iter().map(|register| {
            format!("UPDATE registers SET content = {first}, writer = {number} WHERE id = {register}")
        }));
        if self.attempt(&statements).await || self.is_there(first).await {
            self.acked.ledger.extend(ids);
            self.acked.increments += i64::from(self.counts);
            self.acked.transactions += 1;
        } else {
            self.acked.refused += 1;
        }
    }
}

/// Writers on both sides of a link that is set up.
struct Workload {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Acked>>,
}

impl Workload {
    async fn link(kinds: [Kind; 2]) -> Link {
        let options = LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() };
        let link = Link::start(kinds, options).await;
        link.create("ledger", "id bigint PRIMARY KEY, writer int NOT NULL, note varchar(60)").await;
        link.create("registers", "id bigint PRIMARY KEY, content bigint NOT NULL, writer int NOT NULL").await;
        link.create("counter", "id int PRIMARY KEY, n bigint NOT NULL").await;
        link.both("INSERT INTO counter VALUES (1, 0)").await;
        let rows: Vec<String> = (0..REGISTERS / 2).map(|id| format!("({id}, 0, 0)")).collect();
        link.both(&format!("INSERT INTO registers VALUES {}", rows.join(", "))).await;
        link.succeed(&["setup"]).await;
        link
    }

    fn start(link: &Link, dice: &mut SmallRng) -> Workload {
        let stop = Arc::new(AtomicBool::new(false));
        let mut writer = |node, number, counts| Writer::start(node, number, counts, dice, &stop);
        let writers = vec![
            writer(&link.a, 1, true),
            writer(&link.a, 2, false),
            writer(&link.b, 3, false),
            writer(&link.b, 4, false),
        ];
        Workload { stop, writers }
    }

    /// Stops the writers, waits until all has crossed, and holds what is there against what was acknowledged.
    async fn check(self, link: &Link, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let mut acked = Acked::default();
        for writer in self.writers {
            let of_one = writer.await.unwrap();
            acked.ledger.extend(of_one.ledger);
            acked.increments += of_one.increments;
            acked.transactions += of_one.transactions;
            acked.refused += of_one.refused;
            acked.reconnects += of_one.reconnects;
        }
        let stopped = std::time::Instant::now();
        link.settle().await;
        let settled = stopped.elapsed();
        for node in link.nodes() {
            let rows = node.rows(DUMP_LEDGER).await;
            let found: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
            let lost: Vec<_> = acked.ledger.iter().filter(|id| found.binary_search(id).is_err()).collect();
            let more: Vec<_> = found.iter().filter(|id| !acked.ledger.contains(id)).collect();
            assert!(lost.is_empty() && more.is_empty(), "{}: lost {lost:?}, not acknowledged {more:?}", node.kind);
            let n: i64 = node.value("SELECT n FROM counter").await.parse().unwrap();
            assert_eq!(n, acked.increments, "{}: increments applied and acknowledged", node.kind);
        }
        link.same(DUMP_LEDGER).await;
        link.same(DUMP_REGISTERS).await;
        link.same(DUMP_COUNTER).await;
        link.succeed(&["verify"]).await;
        let records = link.a.value("SELECT count(*) FROM pontoon.resolution").await;
        println!(
            "{what}: {} transactions with {} ledger rows and {} increments ({} refused, {} sessions lost), \
             {records} keys settled, equal {settled:?} after the last write",
            acked.transactions,
            acked.ledger.len(),
            acked.increments,
            acked.refused,
            acked.reconnects,
        );
        // Conflicts are part of what is tried here.
        assert_ne!(records, "0");
    }
}

async fn bridge_is_killed(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    let (mut at_work, kills) = (0, kills());
    for _ in 0..kills {
        // At any moment of a start, or of work.
        let (started, pause) = (dice.random_bool(0.6), dice.random_range(0..1_200));
        if started {
            bridge.logged("applied").await;
        }
        sleep(Duration::from_millis(pause)).await;
        at_work += usize::from(bridge.log().contains("applied"));
        bridge.kill();
        bridge = link.run();
    }
    bridge.works().await;
    workload.check(&link, &format!("{kills} kills of the bridge, {at_work} of them while it applied")).await;
    assert!(at_work > 0, "it was never killed at work");
    assert_eq!(bridge.stop().await, 0);
}

async fn databases_are_killed(kinds: [Kind; 2]) {
    let mut dice = dice();
    let mut link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    bridge.works().await;
    let kills = kills().div_ceil(2);
    for number in 0..kills {
        let (before, pause, down) = (dice.random_range(0..1_500), dice.random_bool(0.5), dice.random_range(0..500));
        sleep(Duration::from_millis(before)).await;
        let database = if (number % 2 == 0) == pause { &mut link.a } else { &mut link.b };
        database.server.kill().await.unwrap();
        sleep(Duration::from_millis(down)).await;
        database.server.restart().await.unwrap();
        crosses_again(&link, &mut bridge, number).await;
    }
    assert!(bridge.is_running(), "the bridge outlives its databases");
    workload.check(&link, &format!("{kills} kills of a database")).await;
    assert!(bridge.is_running(), "the bridge outlives its databases");
    assert_eq!(bridge.stop().await, 0);
}

/// Waits until something written after a restart has crossed both ways.
async fn crosses_again(link: &Link, bridge: &mut Bridge, number: usize) {
    for (from, to, base) in [(&link.a, &link.b, 8), (&link.b, &link.a, 9)] {
        assert!(bridge.is_running(), "the bridge outlives its databases");
        let id = base * 1_000_000 + number;
        from.run(&format!("INSERT INTO registers VALUES ({id}, 0, 0)")).await;
        eventually("what is written after a restart crosses", async || {
            to.value(&format!("SELECT count(*) FROM registers WHERE id = {id}")).await == "1"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_between_postgres_and_mariadb_is_killed() {
    bridge_is_killed([Kind::Postgres, Kind::Mariadb]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bridge_between_mysql_and_postgres_is_killed() {
    bridge_is_killed([Kind::Mysql, Kind::Postgres]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_postgres_and_mariadb_are_killed() {
    databases_are_killed([Kind::Postgres, Kind::Mariadb]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_mysql_and_postgres_are_killed() {
    databases_are_killed([Kind::Mysql, Kind::Postgres]).await;
}
