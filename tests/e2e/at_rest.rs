//! Nothing is written that need not be: every write of an application crosses once, nothing comes back, and two
//! idle nodes stay idle while their logs are still confirmed.

use std::time::Duration;

use pontoon_servers::Kind;
use tokio::time::sleep;

use crate::{
    commands::get,
    support::{Bridge, Database, Link, LinkOptions, Tail, eventually, first_pairing},
};

/// How long is looked whether something is still written.
const REST: Duration = Duration::from_secs(4);

/// What two idle nodes may log within [`REST`]: a few heartbeats and what the servers write by themselves.
const IDLE_LOG_MAX: u64 = 64 << 10;

/// How much log may be left to read again after a restart, on an idle link: what is made durable at once, and
/// room for what is on its way.
const UNCONFIRMED_MAX: u64 = 4 << 20;

/// What an unrelated table writes.
const NOISE: u64 = 24 << 20;

const CONFIGURATION: &str =
    "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"parts\"\n[server]\nlisten = \"127.0.0.1:0\"\n";

/// The sum of a metric's series with a label.
pub(crate) async fn metric(bridge: &Bridge, name: &str, label: &str) -> f64 {
    let (_, answer) = get(&bridge.page().await, "/metrics").await.unwrap();
    let series = answer
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(label));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// What the bridge counted of one direction.
#[derive(Debug, Clone, Copy)]
struct Direction {
    received: f64,
    applied: f64,
    echoes: f64,
    loops: f64,
}

struct Counted([Direction; 2]);

impl Counted {
    async fn of(bridge: &Bridge) -> Counted {
        let mut directions = Vec::new();
        for source in ["source=\"a\"", "source=\"b\""] {
            directions.push(Direction {
                received: metric(bridge, "pontoon_rows_received_total", source).await,
                applied: metric(bridge, "pontoon_rows_applied_total", source).await,
                echoes: metric(bridge, "pontoon_echo_transactions_total", source).await,
                loops: metric(bridge, "pontoon_loop_guard_trips_total", source).await,
            });
        }
        Counted([directions[0], directions[1]])
    }

    fn since(&self, before: &Counted) -> [Direction; 2] {
        [0, 1].map(|at| {
            let (now, before) = (self.0[at], before.0[at]);
            Direction {
                received: now.received - before.received,
                applied: now.applied - before.applied,
                echoes: now.echoes - before.echoes,
                loops: now.loops - before.loops,
            }
        })
    }
}

/// How many row events of `items` a log holds: of applications, and of the bridge.
fn written(tail: &Tail) -> [usize; 2] {
    let events = tail.events("items");
    let local = events.iter().filter(|event| event["origin"].is_null()).count();
    assert!(events.iter().all(|event| event["origin"].is_null() || event["origin"] == "e2e"));
    [local, events.len() - local]
}

/// Bytes of log that a node has written.
async fn log_end(node: &Database) -> u64 {
    match node.kind {
        Kind::Postgres => {
            node.value("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").await.parse().unwrap()
        }
        Kind::Mariadb | Kind::Mysql => {
            let files = node.rows("SHOW BINARY LOGS").await;
            files.iter().map(|file| file[1].as_ref().unwrap().parse::<u64>().unwrap()).sum()
        }
    }
}

async fn nothing_comes_back(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() }).await;
    for table in ["items", "parts"] {
        link.create(table, "id bigint PRIMARY KEY, name varchar(60), quantity int").await;
    }
    link.both("CREATE TABLE noise (id bigint, payload varchar(1000))").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let tails = [link.tail("a", "parts", 1).await, link.tail("b", "parts", 2).await];

    link.settle().await;
    let counted = Counted::of(&bridge).await;

    // 30 inserts, 20 updates, 10 deletes on a; 15, 15, 15 on b; one transaction each, or all of one kind in one.
    let insert = |ids: std::ops::Range<i64>| {
        let rows: Vec<String> = ids.map(|id| format!("({id}, 'row {id}', 0)")).collect();
        format!("INSERT INTO items VALUES {}", rows.join(", "))
    };
    for id in 0..10 {
        link.a.run(&insert(id..id + 1)).await;
    }
    link.a.run(&insert(10..30)).await;
    link.b.run(&insert(100..115)).await;
    link.settle().await;
    link.a.run("UPDATE items SET quantity = 1 WHERE id BETWEEN 0 AND 19").await;
    link.a.run("DELETE FROM items WHERE id BETWEEN 20 AND 29").await;
    // On rows that came from the other side, too.
    link.b.run("UPDATE items SET quantity = quantity + 1 WHERE id BETWEEN 100 AND 109").await;
    link.b.run("UPDATE items SET id = id + 1000 WHERE id BETWEEN 110 AND 114").await;
    link.settle().await;
    link.b.run("DELETE FROM items WHERE id BETWEEN 0 AND 14").await;
    link.settle().await;
    // A write that changes nothing is none, on the other side at least.
    let on_a = 30 + 20 + 10;
    let on_b = 15 + 10 + 5 + 15;
    let expected = |tail: usize| match tail {
        0 => [on_a, on_b + 5],
        _ => [on_b, on_a],
    };
    // A row that moves is a delete and an insert on the other side.
    eventually("all is in both logs", async || [0, 1].iter().all(|&at| written(&tails[at]) == expected(at))).await;

    let before = [log_end(&link.a).await, log_end(&link.b).await];
    sleep(REST).await;
    for (node, before) in link.nodes().into_iter().zip(before) {
        let more = log_end(node).await - before;
        println!("{}: {more} bytes of log at rest", node.kind);
        assert!(more < IDLE_LOG_MAX, "{}: {more} bytes of log at rest", node.kind);
    }
    // Logs are in order: what was written while all rested would be seen before this.
    for (at, node) in link.nodes().into_iter().enumerate() {
        let seen = tails[at].events("parts").len();
        node.run("INSERT INTO parts (id) VALUES (3); DELETE FROM parts WHERE id = 3").await;
        eventually("the log is followed", async || tails[at].events("parts").len() > seen).await;
        assert_eq!(written(&tails[at]), expected(at), "{}: written at rest", node.kind);
    }
    // The one row of `parts` that was inserted and deleted again on each side counts, too, once it has crossed.
    let (rows_a, rows_b) = (on_a + 2, on_b + 2);
    eventually("every row is counted", async || {
        let [from_a, from_b] = Counted::of(&bridge).await.since(&counted);
        from_a.applied >= rows_a as f64 && from_b.applied >= rows_b as f64
    })
    .await;
    let [from_a, from_b] = Counted::of(&bridge).await.since(&counted);
    println!("from a: {from_a:?}; from b: {from_b:?}");
    for (counted, rows) in [(from_a, rows_a), (from_b, rows_b)] {
        assert_eq!([counted.received, counted.applied], [rows as f64; 2]);
        assert!(counted.echoes >= 3.0, "{counted:?}");
        assert_eq!(counted.loops, 0.0);
    }
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

/// How much of a node's log the bridge would read again.
async fn unconfirmed(link: &Link, node: &Database) -> u64 {
    let other = if std::ptr::eq(node, &link.a) { &link.b } else { &link.a };
    let position = other.value("SELECT position FROM pontoon.checkpoint WHERE bridge = 'e2e' AND applier = 0").await;
    match node.kind {
        Kind::Postgres => {
            let sql = format!(
                "SELECT greatest(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{position}'), \
                 pg_wal_lsn_diff(pg_current_wal_insert_lsn(), confirmed_flush_lsn), \
                 pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)) \
                 FROM pg_replication_slots WHERE NOT temporary"
            );
            node.value(&sql).await.parse().unwrap()
        }
        Kind::Mariadb | Kind::Mysql => {
            // After it stands when the file was begun.
            let (file, offset) = position.split_once('@').unwrap().0.split_once(':').unwrap();
            let files = node.rows("SHOW BINARY LOGS").await;
            let from = files.iter().position(|row| row[0].as_deref() == Some(file)).expect("the log is still there");
            let size = |row: &Vec<Option<String>>| row[1].as_ref().unwrap().parse::<u64>().unwrap();
            files[from..].iter().map(size).sum::<u64>() - offset.parse::<u64>().unwrap()
        }
    }
}

async fn noisy_neighbour(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int").await;
    link.both("CREATE TABLE noise (id bigint, payload varchar(1000))").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let rows: Vec<String> = (0..1_000).map(|id| format!("({id}, '{}')", "x".repeat(1_000))).collect();
    let insert = format!("INSERT INTO noise VALUES {}", rows.join(", "));
    for node in link.nodes() {
        let before = log_end(node).await;
        while log_end(node).await < before + NOISE {
            node.run(&insert).await;
        }
    }
    for node in link.nodes() {
        eventually("the log is confirmed although nothing crosses", async || {
            if unconfirmed(&link, node).await < UNCONFIRMED_MAX {
                return true;
            }
            // A slot's restart position moves from one point that the server makes to another, when what lies
            // behind that is confirmed: such points come every 15 seconds, and now.
            if node.is_postgres() {
                node.run("CHECKPOINT").await;
            }
            node.run(&insert).await;
            sleep(Duration::from_millis(500)).await;
            false
        })
        .await;
        println!("{}: {} bytes unconfirmed of {NOISE}", node.kind, unconfirmed(&link, node).await);
    }
    assert_eq!(bridge.stop().await, 0);
}

first_pairing!(nothing_comes_back, noisy_neighbour);
