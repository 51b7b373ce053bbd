//! A transaction much larger than the memory that the bridge may use: it crosses as one, and holds nobody up.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pontoon_servers::Kind;
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{Bridge, DEADLINE, Database, Link, LinkOptions, database::Client, pairings};

const ROWS: u64 = 300_000;

/// Of the process as a whole, debug build and its allocator's habits included; the queues alone may have
/// 16 MiB. It is half of this, and more than this were the rows kept in memory.
const MEMORY_MAX: u64 = 100 << 20;

/// Rows that a reader looks at: some of every part of the transaction.
const PROBES: u64 = 24;

fn probes() -> String {
    let ids: Vec<String> = (0..PROBES).map(|at| (1 + at * (ROWS - 1) / (PROBES - 1)).to_string()).collect();
    ids.join(", ")
}

/// Somebody who looks at the target all the time, and notes every state that is seen.
struct Reader {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<BTreeSet<String>>,
}

impl Reader {
    fn start(node: &Database, sql: String) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let (kind, url, stopped) = (node.kind, node.url(), stop.clone());
        let seen = tokio::spawn(async move {
            let mut client = Client::connect(kind, &url).await;
            let mut seen = BTreeSet::new();
            loop {
                // Told to stop, it looks once more: what is there by then is seen.
                let last = stopped.load(Ordering::Relaxed);
                seen.insert(client.rows(&sql).await[0][0].clone().unwrap());
                if last {
                    return seen;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        Reader { stop, seen }
    }

    async fn seen(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.seen.await.unwrap().into_iter().collect()
    }
}

fn insert_all(kind: Kind) -> String {
    let select = |n: &str| format!("SELECT {n}, concat('row number ', {n}), 0");
    match kind {
        Kind::Postgres => format!("INSERT INTO items {} FROM generate_series(1, {ROWS}) AS n", select("n")),
        Kind::Mariadb => format!("INSERT INTO items {} FROM seq_1_to_{ROWS}", select("seq")),
        Kind::Mysql => format!(
            "SET SESSION cte_max_recursion_depth = {ROWS}; INSERT INTO items \
             WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {ROWS}) {} FROM r",
            select("n")
        ),
    }
}

/// Waits until the bridge has an unfinished transaction with many rows on a node.
async fn in_the_middle(node: &Database) {
    let sql = match node.kind {
        Kind::Postgres => "SELECT pg_relation_size('items') / 60",
        Kind::Mariadb | Kind::Mysql => "SELECT coalesce(max(trx_rows_modified), 0) FROM information_schema.innodb_trx",
    };
    let mut client = node.client().await;
    let began = Instant::now();
    loop {
        let rows: u64 = client.rows(sql).await[0][0].as_deref().unwrap().parse().unwrap();
        if rows > ROWS / 10 {
            return;
        }
        assert!(began.elapsed() < DEADLINE * 2, "no large transaction is under way");
        // InnoDB shows those who ask again within 100 ms what it had shown them before.
        sleep(Duration::from_millis(150)).await;
    }
}

/// Sends rows the other way until the large transaction is visible; how many arrived before.
async fn meanwhile(link: &Link) -> u64 {
    let (mut from, mut to) = (link.b.client().await, link.a.client().await);
    let began = Instant::now();
    for id in ROWS + 1.. {
        from.run(&format!("INSERT INTO items VALUES ({id}, 'meanwhile', 0)")).await;
        while to.rows(&format!("SELECT id FROM items WHERE id = {id}")).await.is_empty() {
            assert!(began.elapsed() < DEADLINE * 2, "the other way is held up");
            sleep(Duration::from_millis(10)).await;
        }
        if !from.rows(&format!("SELECT id FROM items WHERE id = {ROWS}")).await.is_empty() {
            return id - ROWS - 1;
        }
    }
    unreachable!("the ids do not end")
}

fn within_memory(bridge: &Bridge, what: &str) {
    let peak = bridge.peak_memory();
    println!("{what}: at most {} MiB", peak >> 20);
    assert!(peak < MEMORY_MAX, "{what}: the bridge took {} MiB", peak >> 20);
}

async fn there_and_back(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    let spill = link.folder.path().join("spill");
    link.configure(&format!(
        "[[tables]]\nname = \"items\"\n[limits]\nmemory_mib = 16\nspill_dir = \"{}\"\n",
        spill.display()
    ));
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;

    let reader = Reader::start(&link.b, format!("SELECT count(*) FROM items WHERE id IN ({})", probes()));
    let began = Instant::now();
    link.a.run(&insert_all(link.a.kind)).await;
    println!("{ROWS} rows inserted on {}: {:?}", link.a.kind, began.elapsed());
    in_the_middle(&link.b).await;
    println!("in the middle after {:?}", began.elapsed());
    within_memory(&bridge, "until it was killed");
    bridge.kill();
    let again = Instant::now();
    let bridge = link.run();
    let arrived = meanwhile(&link).await;
    println!("visible on {} {:?} after the restart; {arrived} rows went the other way", link.b.kind, again.elapsed());
    assert!(arrived > 0, "the other way waited for the large transaction");
    link.settle().await;
    assert_eq!(reader.seen().await, ["0".to_owned(), PROBES.to_string()], "all of it or nothing");
    within_memory(&bridge, "insert");

    let reader = Reader::start(
        &link.a,
        format!("SELECT concat(min(quantity), ' to ', max(quantity)) FROM items WHERE id IN ({})", probes()),
    );
    let began = Instant::now();
    link.b.run("UPDATE items SET quantity = quantity + 1").await;
    println!("all updated on {}: {:?}", link.b.kind, began.elapsed());
    link.settle().await;
    println!("there on {} after {:?}", link.a.kind, began.elapsed());
    assert_eq!(reader.seen().await, ["0 to 0", "1 to 1"], "all of it or nothing");
    within_memory(&bridge, "update");

    let sums = link.same("SELECT count(*), sum(id), sum(quantity), sum(length(name)) FROM items").await;
    assert_eq!(sums[0][2], sums[0][0], "every row once");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    let began = Instant::now();
    link.succeed(&["verify"]).await;
    println!("verified in {:?}", began.elapsed());
    assert_eq!(bridge.stop().await, 0);
}

pairings!(there_and_back);
