//! Applications that write to both sides at once, and what must hold of their rows afterwards.
//!
//! Three workloads at once, in shared transactions:
//!
//! | table | who writes | what must hold at the end |
//! | --- | --- | --- |
//! | `ledger` | all, unique keys | exactly the rows that were acknowledged, on both sides |
//! | `registers` | all, the same few keys: conflicts | the same rows on both sides |
//! | `counter` | one writer, `n = n + 1` (all where it is additive) | exactly as many as were acknowledged, on both sides |
//!
//! Every ledger row that came is the witness of its transaction: where an answer is lost with its server,
//! the writer asks the same server for the witness, and so knows what became of the increment beside it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pontoon_servers::{Kind, Options, Release};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::sleep};

use super::{Bridge, Database, Link, LinkOptions, database::Client, eventually};

/// Keys that all writers contend for.
const REGISTERS: i64 = 40;

const CONFIGURATION: &str =
    "[[tables]]\nname = \"ledger\"\n[[tables]]\nname = \"registers\"\n[[tables]]\nname = \"counter\"\n";

/// The same where all writers count, and a table beside.
pub(crate) const CONFIGURATION_OF_TREES: &str = r#"
[[tables]]
name = "ledger"
[[tables]]
name = "registers"
[[tables]]
name = "counter"
columns = { n = "additive" }
[[tables]]
name = "parts"
"#;

/// Its tables, and their columns.
const TABLES: [(&str, &str); 3] = [
    ("ledger", "id bigint PRIMARY KEY, writer int NOT NULL, note varchar(60)"),
    ("registers", "id bigint PRIMARY KEY, content bigint NOT NULL, writer int NOT NULL"),
    ("counter", "id int PRIMARY KEY, n bigint NOT NULL"),
];

pub(crate) const DUMP_LEDGER: &str = "SELECT id, writer, note FROM ledger ORDER BY id";
pub(crate) const DUMP_REGISTERS: &str = "SELECT id, content, writer FROM registers ORDER BY id";
pub(crate) const DUMP_COUNTER: &str = "SELECT id, n FROM counter ORDER BY id";

/// How often a test kills.
pub(crate) fn kills() -> usize {
    std::env::var("PONTOON_KILLS").map_or(8, |text| text.parse().expect("PONTOON_KILLS is a number"))
}

/// Every choice of a test, from one seed.
pub(crate) fn dice() -> SmallRng {
    let seed = std::env::var("PONTOON_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |text| text.parse().expect("PONTOON_SEED is a number"),
    );
    println!("PONTOON_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}

/// Waits until something written now has crossed both ways, by a bridge that lives through whatever is done to it.
pub(crate) async fn crosses_both_ways(link: &Link, bridge: &mut Bridge) {
    static NEXT: AtomicI64 = AtomicI64::new(8_000_000);
    for (from, to) in [(&link.a, &link.b), (&link.b, &link.a)] {
        assert!(bridge.is_running(), "the bridge lives on");
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        from.run(&format!("INSERT INTO registers VALUES ({id}, 0, 0)")).await;
        eventually("what is written now crosses", async || {
            to.value(&format!("SELECT count(*) FROM registers WHERE id = {id}")).await == "1"
        })
        .await;
    }
}

/// What a writer was told that it is done.
#[derive(Default)]
pub(crate) struct Acked {
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

/// Writers on both sides.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Acked>>,
}

impl Workload {
    /// Two servers with the tables of the workload, set up.
    pub(crate) async fn link(kinds: [impl Into<Release>; 2]) -> Link {
        Workload::link_of(kinds, Default::default()).await
    }

    /// The same with servers that are started otherwise.
    pub(crate) async fn link_of(kinds: [impl Into<Release>; 2], servers: [Options; 2]) -> Link {
        let options = LinkOptions { configuration: CONFIGURATION.into(), servers };
        let link = Link::start(kinds, options).await;
        tokio::join!(Workload::create(&link.a), Workload::create(&link.b));
        link.succeed(&["setup"]).await;
        link
    }

    /// The tables of the workload on a node, and the rows that they begin with.
    pub(crate) async fn create(node: &Database) {
        for (name, columns) in TABLES {
            node.create(name, columns).await;
        }
        node.run("INSERT INTO counter VALUES (1, 0)").await;
        let rows: Vec<String> = (0..REGISTERS / 2).map(|id| format!("({id}, 0, 0)")).collect();
        node.run(&format!("INSERT INTO registers VALUES {}", rows.join(", "))).await;
    }

    /// Two writers on each side.
    pub(crate) fn start(link: &Link, dice: &mut SmallRng) -> Workload {
        Workload::of(&[(&link.a, true), (&link.a, false), (&link.b, false), (&link.b, false)], dice)
    }

    /// A writer on each of these nodes, which counts or does not.
    pub(crate) fn of(nodes: &[(&Database, bool)], dice: &mut SmallRng) -> Workload {
        let stop = Arc::new(AtomicBool::new(false));
        let writer =
            |(number, (node, counts)): (i64, &(&Database, bool))| Writer::start(node, number, *counts, dice, &stop);
        let writers = (1..).zip(nodes).map(writer).collect();
        Workload { stop, writers }
    }

    /// Stops the writers; what they were told.
    pub(crate) async fn stop(self) -> Acked {
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
        acked
    }

    /// Stops the writers, waits until all has crossed, and holds what is there against what was acknowledged.
    pub(crate) async fn check(self, link: &Link, what: &str) {
        let acked = self.stop().await;
        let stopped = Instant::now();
        link.settle().await;
        println!("{what}; equal {:?} after the last write", stopped.elapsed());
        acked.is_on_both_sides(link).await;
    }
}

impl Acked {
    /// Whether nodes hold what was acknowledged, and no more.
    pub(crate) async fn is_on(&self, nodes: impl IntoIterator<Item = &Database>) {
        for node in nodes {
            let rows = node.rows(DUMP_LEDGER).await;
            let found: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
            let lost: Vec<_> = self.ledger.iter().filter(|id| found.binary_search(id).is_err()).collect();
            let more: Vec<_> = found.iter().filter(|id| !self.ledger.contains(id)).collect();
            assert!(lost.is_empty() && more.is_empty(), "{}: lost {lost:?}, not acknowledged {more:?}", node.kind);
            let n: i64 = node.value("SELECT n FROM counter").await.parse().unwrap();
            assert_eq!(n, self.increments, "{}: increments applied and acknowledged", node.kind);
        }
    }

    pub(crate) async fn is_on_both_sides(&self, link: &Link) {
        self.is_on(link.nodes()).await;
        link.same(DUMP_LEDGER).await;
        link.same(DUMP_REGISTERS).await;
        link.same(DUMP_COUNTER).await;
        link.succeed(&["verify"]).await;
        // Every record has two writes behind it: none says that no write explains the difference, none is of a table
        // in which no two writers meet.
        let unexplained = "SELECT count(*) FROM pontoon.resolution \
                           WHERE rule LIKE 'drift%' OR table_name LIKE '%ledger%' OR table_name LIKE '%counter%'";
        assert_eq!(link.same(unexplained).await[0][0].as_deref(), Some("0"), "records without a conflict");
        let records = link.a.value("SELECT count(*) FROM pontoon.resolution").await;
        println!("{self}, {records} keys settled");
        // Conflicts are part of what is tried here.
        assert_ne!(records, "0");
    }
}

impl fmt::Display for Acked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Acked { ledger, increments, transactions, refused, reconnects } = self;
        let rows = ledger.len();
        write!(
            f,
            "{transactions} transactions with {rows} ledger rows and {increments} increments ({refused} refused, {reconnects} sessions lost)"
        )
    }
}
