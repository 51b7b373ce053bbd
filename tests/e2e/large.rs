//! A transaction much larger than the memory that the bridge may use: it crosses as one, and holds nobody up.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pontoon_servers::{Kind, Options};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    commands::{get, sample},
    support::{
        Bridge, DEADLINE, Database, Link, LinkOptions,
        database::{Client, insert_numbered},
        each_way, first_pairing,
    },
};

const ROWS: u64 = 300_000;

/// Of the process as a whole, debug build and its allocator's habits included; the queues alone may have
/// 16 MiB. It is half of this, and more than this were the rows kept in memory.
const MEMORY_MAX: u64 = 100 << 20;

/// Rows that a reader looks at: some of every part of the transaction.
const PROBES: u64 = 24;

fn probes(rows: u64) -> String {
    let ids: Vec<String> = (0..PROBES).map(|at| (1 + at * (rows - 1) / (PROBES - 1)).to_string()).collect();
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

/// Inserts so many rows in one statement; `more` are the values of other columns, by the number of the row.
fn insert_all(kind: Kind, rows: u64, more: impl Fn(&str) -> String) -> String {
    insert_numbered(kind, "items", rows, |n| format!("{n}, concat('row number ', {n}), 0{}", more(n)))
}

/// Waits until the bridge has an unfinished transaction with many rows, of about so many bytes each, on a node.
async fn in_the_middle(node: &Database, rows: u64, row_bytes: u64) {
    let sql = match node.kind {
        Kind::Postgres => format!("SELECT pg_total_relation_size('items') / {row_bytes}"),
        Kind::Mariadb | Kind::Mysql => {
            "SELECT coalesce(max(trx_rows_modified), 0) FROM information_schema.innodb_trx".into()
        }
    };
    let mut client = node.client().await;
    let began = Instant::now();
    loop {
        let there: u64 = client.rows(&sql).await[0][0].as_deref().unwrap().parse().unwrap();
        if there > rows / 10 {
            return;
        }
        assert!(began.elapsed() < DEADLINE * 2, "no large transaction is under way");
        // InnoDB shows those who ask again within 100 ms what it had shown them before.
        sleep(Duration::from_millis(150)).await;
    }
}

/// Sends rows the other way until the large transaction is visible; how many arrived before.
async fn meanwhile(link: &Link, rows: u64, within: Duration) -> u64 {
    let (mut from, mut to) = (link.b.client().await, link.a.client().await);
    let began = Instant::now();
    for id in rows + 1.. {
        from.run(&format!("INSERT INTO items (id, name, quantity) VALUES ({id}, 'meanwhile', 0)")).await;
        while to.rows(&format!("SELECT id FROM items WHERE id = {id}")).await.is_empty() {
            assert!(began.elapsed() < within, "the other way is held up");
            sleep(Duration::from_millis(10)).await;
        }
        if !from.rows(&format!("SELECT id FROM items WHERE id = {rows}")).await.is_empty() {
            return id - rows - 1;
        }
    }
    unreachable!("the ids do not end")
}

fn within_memory(bridge: &Bridge, max: u64, what: &str) {
    let peak = bridge.peak_memory();
    println!("{what}: at most {} MiB", peak >> 20);
    assert!(peak < max, "{what}: the bridge took {} MiB", peak >> 20);
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
    for (name, value) in pontoon::nodes::ENVIRONMENT {
        assert!(bridge.environment().contains(&format!("{name}={value}")), "{name} keeps a driver within bounds");
    }

    let reader = Reader::start(&link.b, format!("SELECT count(*) FROM items WHERE id IN ({})", probes(ROWS)));
    let began = Instant::now();
    link.a.run(&insert_all(link.a.kind, ROWS, |_| String::new())).await;
    println!("{ROWS} rows inserted on {}: {:?}", link.a.kind, began.elapsed());
    in_the_middle(&link.b, ROWS, 60).await;
    println!("in the middle after {:?}", began.elapsed());
    within_memory(&bridge, MEMORY_MAX, "until it was killed");
    bridge.kill();
    let again = Instant::now();
    let bridge = link.run();
    let arrived = meanwhile(&link, ROWS, DEADLINE * 2).await;
    println!("visible on {} {:?} after the restart; {arrived} rows went the other way", link.b.kind, again.elapsed());
    assert!(arrived > 0, "the other way waited for the large transaction");
    link.settle().await;
    assert_eq!(reader.seen().await, ["0".to_owned(), PROBES.to_string()], "all of it or nothing");
    within_memory(&bridge, MEMORY_MAX, "insert");

    let reader = Reader::start(
        &link.a,
        format!("SELECT concat(min(quantity), ' to ', max(quantity)) FROM items WHERE id IN ({})", probes(ROWS)),
    );
    let began = Instant::now();
    link.b.run("UPDATE items SET quantity = quantity + 1").await;
    println!("all updated on {}: {:?}", link.b.kind, began.elapsed());
    link.settle().await;
    println!("there on {} after {:?}", link.a.kind, began.elapsed());
    assert_eq!(reader.seen().await, ["0 to 0", "1 to 1"], "all of it or nothing");
    within_memory(&bridge, MEMORY_MAX, "update");

    let sums = link.same("SELECT count(*), sum(id), sum(quantity), sum(length(name)) FROM items").await;
    assert_eq!(sums[0][2], sums[0][0], "every row once");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    let began = Instant::now();
    link.succeed(&["verify"]).await;
    println!("verified in {:?}", began.elapsed());
    assert_eq!(bridge.stop().await, 0);
}

first_pairing!(there_and_back);

/// Wide rows make a gigabyte of few: 16 KiB each, and every thousandth is of 1 MiB.
const WIDE_ROWS: u64 = 62_000;
const WIDE_BYTES: u64 = 16 << 10;
const WIDEST_BYTES: u64 = 1 << 20;

/// What a transaction of a gigabyte may take, whatever its rows.
const WIDE_MEMORY_MAX: u64 = 160 << 20;

/// The spill file holds the values as they are, beside little; and once more where the echo of what was applied is read
/// before its transaction is done with.
const SPILL_RATIO_MAX: f64 = 2.1;

/// What it takes of the disk: the rows in two tables, in two logs, in the log's cache of the target and in the spill file, and what a server undoes of them.
const DISK_MIN: u64 = 8 << 30;

/// Where there is no room a server waits for it, and the test until it is ended, without a word of why.
fn has_room(folder: &Path) {
    let output = Command::new("df").args(["--block-size=1", "--output=avail"]).arg(folder).output().unwrap();
    let available = String::from_utf8(output.stdout).unwrap();
    let available: u64 = available.lines().last().unwrap().trim().parse().unwrap();
    assert!(available >= DISK_MIN, "{} has {available} bytes left, and {DISK_MIN} are needed", folder.display());
}

/// How long each step may take in a debug build beside another test.
const STEP: Duration = Duration::from_secs(420);

/// The column that makes a row wide, by its id: every row has another one. (MySQL 9.6 and later have no `md5`.)
fn wide(kind: Kind, id: &str) -> String {
    let digits = match kind {
        Kind::Postgres => format!("encode(sha256(concat({id})::bytea), 'hex')"),
        Kind::Mariadb | Kind::Mysql => format!("sha2(concat({id}), 256)"),
    };
    let (few, many) = (WIDE_BYTES / 64, WIDEST_BYTES / 64);
    format!("repeat({digits}, CASE WHEN {id} % 1000 = 0 THEN {many} ELSE {few} END)")
}

/// The most that the metrics said was in the spill file.
fn watch_spill(address: String) -> Arc<std::sync::Mutex<f64>> {
    let most = Arc::new(std::sync::Mutex::new(0.0));
    let seen = Arc::downgrade(&most);
    tokio::spawn(async move {
        while let Some(seen) = seen.upgrade() {
            if let Some((_, page)) = get(&address, "/metrics").await {
                let now = sample(&page, "pontoon_spill_bytes", &[]).unwrap_or(0.0);
                let mut most = seen.lock().unwrap();
                *most = now.max(*most);
            }
            drop(seen);
            sleep(Duration::from_millis(500)).await;
        }
    });
    most
}

/// A gigabyte in one transaction: in bounded memory, through the spill file, applied whole, with a kill in its middle.
async fn a_gigabyte(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.nodes().into_iter().for_each(|node| has_room(node.server.folder()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    link.configure(&format!("[[tables]]\nname = \"items\"\n[server]\nlisten = \"127.0.0.1:{port}\"\n"));
    for node in link.nodes() {
        let (text, rest) = match node.kind {
            // What is compressed would be less than a gigabyte.
            Kind::Postgres => ("text", "; ALTER TABLE items ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL"),
            Kind::Mariadb | Kind::Mysql => ("longtext", ""),
        };
        let columns = format!("id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL, body {text}");
        node.run(&format!("CREATE TABLE items ({columns}){rest}")).await;
    }
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let spilled = watch_spill(format!("127.0.0.1:{port}"));

    let reader = Reader::start(&link.b, format!("SELECT count(*) FROM items WHERE id IN ({})", probes(WIDE_ROWS)));
    let began = Instant::now();
    link.a.run(&insert_all(link.a.kind, WIDE_ROWS, |n| format!(", {}", wide(link.a.kind, n)))).await;
    let bytes: f64 = link.a.value("SELECT sum(length(body)) FROM items").await.parse().unwrap();
    println!("{:.0} MiB inserted on {} within {:?}", bytes / 1_048_576.0, link.a.kind, began.elapsed());
    assert!(bytes >= 1_073_741_824.0);
    in_the_middle(&link.b, WIDE_ROWS, WIDE_BYTES).await;
    println!("in the middle after {:?}", began.elapsed());
    within_memory(&bridge, WIDE_MEMORY_MAX, "until it was killed");
    bridge.kill();
    let again = Instant::now();
    let bridge = link.run();
    let arrived = meanwhile(&link, WIDE_ROWS, STEP).await;
    println!("visible on {} {:?} after the restart; {arrived} rows went the other way", link.b.kind, again.elapsed());
    assert!(arrived > 0, "the other way waited for the large transaction");
    link.settle_within(STEP).await;
    assert_eq!(reader.seen().await, ["0".to_owned(), PROBES.to_string()], "all of it or nothing");
    within_memory(&bridge, WIDE_MEMORY_MAX, "to the end");
    let most = *spilled.lock().unwrap();
    println!("at most {:.0} MiB in the spill file, {:.2} of the data", most / 1_048_576.0, most / bytes);
    assert!(most > 0.1 * bytes && most < SPILL_RATIO_MAX * bytes, "{most} bytes of {bytes} were in the spill file");

    link.same("SELECT count(*), sum(id), sum(quantity), sum(length(body)) FROM items").await;
    let other = format!("SELECT count(*) FROM items WHERE id <= {WIDE_ROWS} AND body <> {}", wide(link.b.kind, "id"));
    assert_eq!(link.b.value(&other).await, "0", "every row is its own");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    assert_eq!(bridge.stop().await, 0);
}

each_way!("full: a minute or two and some gigabytes of disk each": a_gigabyte);

/// What a row may take, as a multiple of its size: PostgreSQL hands a row over in hexadecimal and with the row before it, a binary log has both rows
/// of an update, each log hands the bridge's own write back, and drivers copy. (Measured: a row that is inserted takes 3.4 times as much, one that is changed
/// 5.4 to 5.7.)
const LARGE_ROW_FACTOR: u64 = 6;

/// A row of so many bytes crosses, and is changed from the side that it came to. `beside`: what the process may take without it.
async fn a_large_row(kinds: [Kind; 2], bytes: u64, beside: u64) {
    let memory_max = LARGE_ROW_FACTOR * bytes + beside;
    let options = |kind: Kind| match kind {
        Kind::Postgres => Options::default(),
        Kind::Mariadb | Kind::Mysql => Options::default().setting("max_allowed_packet", "1073741824"),
    };
    let configuration = "[[tables]]\nname = \"items\"\n".into();
    let link = Link::start(kinds, LinkOptions { servers: kinds.map(options), configuration }).await;
    for node in link.nodes() {
        let (body, rest) = match node.kind {
            Kind::Postgres => ("bytea", "; ALTER TABLE items ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL"),
            Kind::Mariadb | Kind::Mysql => ("longblob", ""),
        };
        node.run(&format!("CREATE TABLE items (id bigint PRIMARY KEY, note varchar(60), body {body}){rest}")).await;
    }
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let began = Instant::now();
    let body = match link.a.kind {
        Kind::Postgres => format!("convert_to(repeat('0123456789abcdef', {}), 'UTF8')", bytes / 16),
        Kind::Mariadb | Kind::Mysql => format!("repeat('0123456789abcdef', {})", bytes / 16),
    };
    link.a.run(&format!("INSERT INTO items VALUES (1, 'from a', {body})")).await;
    link.settle_within(STEP).await;
    println!("{} MiB crossed within {:?}", bytes >> 20, began.elapsed());
    within_memory(&bridge, memory_max, "to the other side");
    link.b.run("UPDATE items SET note = 'from b' WHERE id = 1").await;
    link.settle_within(STEP).await;
    println!("and back within {:?}", began.elapsed());
    within_memory(&bridge, memory_max, "and back");
    link.same("SELECT id, note, length(body) FROM items").await;
    let mut hashes = Vec::new();
    for node in link.nodes() {
        let hash = match node.kind {
            Kind::Postgres => "SELECT encode(sha256(body), 'hex') FROM items",
            Kind::Mariadb | Kind::Mysql => "SELECT sha2(body, 256) FROM items",
        };
        hashes.push(node.value(hash).await);
    }
    assert_eq!(hashes[0], hashes[1], "every byte");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    assert_eq!(bridge.stop().await, 0);
}

async fn sixteen_mebibytes(kinds: [Kind; 2]) {
    a_large_row(kinds, 16 << 20, MEMORY_MAX).await;
}

async fn hundred_megabytes(kinds: [Kind; 2]) {
    a_large_row(kinds, 100_000_000, 0).await;
}

first_pairing!(sixteen_mebibytes);
each_way!("full: a minute and a gigabyte of memory each": hundred_megabytes);
