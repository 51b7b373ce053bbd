//! A large transaction that PostgreSQL hands over while it is open: the bridge keeps it on disk until it is decided,
//! in bounded memory, and forgets it with a crash or a roll-back.

use std::time::Duration;

use pontoon_servers::{Kind, Options};

use crate::{
    commands::{get, sample},
    support::{Bridge, Link, LinkOptions, eventually, first_pairing},
};

pub(crate) const ROWS: u64 = 300_000;

/// As in `large`: of the process as a whole, debug build and allocator included.
const MEMORY_MAX: u64 = 100 << 20;

/// Of the open transaction in the spill file at the least: its rows are some 25 bytes each there, and less than a tenth
/// of them stays in memory.
const SPILL_MIN: f64 = 2e6;

/// Longer than it takes until the metrics tell of what is in the spill file.
const TOLD_WITHIN: Duration = Duration::from_secs(3);

pub(crate) fn insert(from: u64, count: u64) -> String {
    let to = from + count - 1;
    format!("INSERT INTO items SELECT n, concat('row number ', n), 0 FROM generate_series({from}, {to}) AS n")
}

async fn spilled(address: &str) -> f64 {
    let Some((_, page)) = get(address, "/metrics").await else { return 0.0 };
    sample(&page, "pontoon_spill_bytes", &[]).unwrap_or(0.0)
}

async fn until_held(address: &str) {
    eventually("what is undecided is in the spill file", async || spilled(address).await > SPILL_MIN).await;
}

/// What is in the spill file once no more of it comes.
async fn at_rest(address: &str) -> f64 {
    let mut last = -1.0;
    eventually("what is undecided has been read", async || {
        let before = std::mem::replace(&mut last, spilled(address).await);
        tokio::time::sleep(TOLD_WITHIN).await;
        before == last
    })
    .await;
    last
}

fn within_memory(bridge: &Bridge, what: &str) {
    let peak = bridge.peak_memory();
    println!("{what}: at most {} MiB", peak >> 20);
    assert!(peak < MEMORY_MAX, "{what}: the bridge took {} MiB", peak >> 20);
}

async fn before_its_commit(kinds: [Kind; 2]) {
    let servers = kinds.map(|kind| match kind {
        Kind::Postgres => Options::default().setting("logical_decoding_work_mem", "64kB"),
        Kind::Mysql | Kind::Mariadb => Options::default(),
    });
    let link = Link::start(kinds, LinkOptions { servers, ..LinkOptions::default() }).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let spill = link.folder.path().join("spill");
    link.configure(&format!(
        "[[tables]]\nname = \"items\"\n[server]\nlisten = \"{address}\"\n[limits]\nmemory_mib = 16\nspill_dir = \"{}\"\n",
        spill.display()
    ));
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.succeed(&["setup"]).await;
    let (source, _) = link.postgres();
    let (target, _) = link.mysql();
    let bridge = link.run();
    bridge.works().await;

    let mut open = source.client().await;
    open.run("BEGIN").await;
    open.run(&insert(1, ROWS / 2)).await;
    until_held(&address).await;
    assert_eq!(target.value("SELECT count(*) FROM items").await, "0", "nothing of it is applied");
    within_memory(&bridge, "until it was killed");
    bridge.kill();
    let bridge = link.run();
    bridge.works().await;
    // What was read before a restart the server hands over again only when more of it comes.
    open.run(&insert(1 + ROWS / 2, ROWS / 2)).await;
    until_held(&address).await;
    // Others pass by it, both ways; and one that is as large is rolled back.
    source.run("INSERT INTO items VALUES (-1, 'from PostgreSQL', 1)").await;
    target.run("INSERT INTO items VALUES (-2, 'to PostgreSQL', 1)").await;
    link.settle().await;
    let held = at_rest(&address).await;
    let mut never = source.client().await;
    never.run("BEGIN").await;
    never.run(&insert(10 * ROWS, ROWS)).await;
    eventually("both are in the spill file", async || spilled(&address).await > 1.6 * held).await;
    never.run("ROLLBACK").await;
    eventually("one is dropped", async || spilled(&address).await < 1.2 * held).await;

    assert_eq!(link.same("SELECT id FROM items WHERE id < 0 ORDER BY id").await.len(), 2);
    open.run("COMMIT").await;
    link.settle().await;
    let sums = link.same("SELECT count(*), sum(id), sum(length(name)), max(id) FROM items").await;
    assert_eq!(sums[0][0].as_deref().unwrap(), (ROWS + 2).to_string());
    eventually("nothing is left of it", async || spilled(&address).await == 0.0).await;
    within_memory(&bridge, "to the end");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");
    assert_eq!(bridge.stop().await, 0);
}

first_pairing!(before_its_commit);
