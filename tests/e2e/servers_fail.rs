//! What servers do to a bridge short of dying, while applications write to both sides: they refuse writes, have no
//! connection left, or a client of theirs is rude; the bridge's own disk is full; their clocks are hours apart. The
//! bridge waits, says so, and goes on by itself.

use std::time::{Duration, Instant};

use pontoon_servers::{Kind, Options};
use tokio::time::sleep;

use crate::support::{
    Bridge, Database, Link, LinkOptions,
    database::Client,
    eventually, is_ready, pairings,
    proxy::{Cut, Line},
    workload::{Workload, crosses_both_ways, dice},
};

fn with_page(link: &Link) {
    link.edit("listen = \"off\"", "listen = \"127.0.0.1:0\"");
}

/// A user of MySQL or MariaDB whom `read_only` binds.
async fn plain_user(node: &Database) -> &'static str {
    if node.is_postgres() {
        return node.server.superuser();
    }
    node.run(&format!("CREATE USER plain IDENTIFIED BY '{}'", node.server.password())).await;
    node.run("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO plain").await;
    node.run("GRANT ALL ON shop.* TO plain").await;
    node.run("GRANT ALL ON pontoon.* TO plain").await;
    "plain"
}

async fn writes_are_refused(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    with_page(&link);
    for node in link.nodes() {
        let user = plain_user(node).await;
        link.edit(
            &format!("{}@127.0.0.1:{}/", node.server.superuser(), node.server.port()),
            &format!("{user}@127.0.0.1:{}/", node.server.port()),
        );
    }
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    crosses_both_ways(&link, &mut bridge).await;
    for node in link.nodes() {
        is_ready(&bridge, true).await;
        match node.kind {
            // A default of the server's, over which each session of the bridge goes.
            Kind::Postgres => {
                node.run("ALTER SYSTEM SET default_transaction_read_only = on").await;
                node.run("SELECT pg_reload_conf()").await;
                let count = async || node.value("SELECT count(*) FROM ledger").await;
                let before = count().await;
                eventually("writes cross", async || count().await != before).await;
                node.run("ALTER SYSTEM RESET default_transaction_read_only").await;
                node.run("SELECT pg_reload_conf()").await;
            }
            Kind::Mariadb | Kind::Mysql => {
                let name = if node.kind == Kind::Mysql { "super_read_only" } else { "read_only" };
                node.run(&format!("SET GLOBAL {name} = 1")).await;
                is_ready(&bridge, false).await;
                node.run("SET GLOBAL read_only = 0").await;
            }
        }
        let began = Instant::now();
        crosses_both_ways(&link, &mut bridge).await;
        println!("{} takes writes again: they cross after {:?}", node.kind, began.elapsed());
    }
    workload.check(&link, "writes refused on either side").await;
    assert_eq!(bridge.stop().await, 0);
}

async fn connections_run_out(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    with_page(&link);
    let ways = link.by_proxies().await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    crosses_both_ways(&link, &mut bridge).await;
    for (node, way) in link.nodes().into_iter().zip(&ways) {
        is_ready(&bridge, true).await;
        if !node.is_postgres() {
            node.run("SET GLOBAL max_connections = 30").await;
        }
        let mut clients = Vec::new();
        // What the bridge has to let go is taken at once by the next in line.
        way.cut(&Line::ALL, Cut::Rst);
        loop {
            match Client::try_connect(node.kind, &node.url()).await {
                Ok(client) => clients.push(client),
                Err(_) if clients.len() > 10 => break,
                Err(error) => panic!("{error}"),
            }
        }
        way.cut(&Line::ALL, Cut::Rst);
        is_ready(&bridge, false).await;
        while let Ok(client) = Client::try_connect(node.kind, &node.url()).await {
            clients.push(client);
        }
        let taken = clients.len();
        drop(clients);
        let began = Instant::now();
        eventually("there is room again", async || Client::try_connect(node.kind, &node.url()).await.is_ok()).await;
        crosses_both_ways(&link, &mut bridge).await;
        println!("{taken} connections of {} given back: writes cross after {:?}", node.kind, began.elapsed());
    }
    workload.check(&link, "no connection left on either side").await;
    assert_eq!(bridge.stop().await, 0);
}

/// Longer than the bridge waits for a lock.
const RUDE: Duration = Duration::from_millis(6_500);

async fn clients_are_rude(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    crosses_both_ways(&link, &mut bridge).await;
    let locks = async |node: &Database| {
        let mut client = node.client().await;
        client.run("BEGIN").await;
        client.run("SELECT id FROM registers FOR UPDATE").await;
        sleep(RUDE).await;
        client.run("COMMIT").await;
        let (lock, unlock) = match node.kind {
            Kind::Postgres => ("BEGIN; LOCK TABLE registers IN ACCESS EXCLUSIVE MODE", "COMMIT"),
            Kind::Mariadb | Kind::Mysql => ("LOCK TABLES registers WRITE", "UNLOCK TABLES"),
        };
        client.run(lock).await;
        sleep(RUDE).await;
        client.run(unlock).await;
    };
    tokio::join!(locks(&link.a), locks(&link.b));
    // Everybody else takes the rows in ascending order.
    let crosses_others = async |node: &Database| {
        let (mut client, mut refused) = (node.client().await, 0);
        for round in 0..60 {
            client.run("BEGIN").await;
            for id in (0..20).rev() {
                if client
                    .try_run(&format!("UPDATE registers SET content = {round}, writer = 9 WHERE id = {id}"))
                    .await
                    .is_err()
                {
                    refused += 1;
                    break;
                }
            }
            // A server that ended the transaction has nothing left of it.
            if client.try_run("COMMIT").await.is_err() {
                client.run("ROLLBACK").await;
            }
        }
        println!("{}: {refused} of 60 transactions refused", node.kind);
    };
    tokio::join!(crosses_others(&link.a), crosses_others(&link.b));
    // Where a run was refused, and where a rendezvous was: after the first of them the other may be all that is under way.
    let log = bridge.log();
    let retries = log.matches("rolled back, tried again").count() + log.matches("rendezvous starts again").count();
    println!("{retries} times the bridge rolled back and tried again");
    assert!(retries > 0, "nothing was in the bridge's way");
    assert_eq!(bridge.log().matches("interrupted").count(), 0, "a lock that cannot be had loses nothing");
    workload.check(&link, "rude clients").await;
    assert_eq!(bridge.stop().await, 0);
}

async fn clocks_are_apart(kinds: [Kind; 2]) {
    let mut dice = dice();
    let servers = [Options::default().clock_ahead(-1_800), Options::default().clock_ahead(1_800)];
    let link = Workload::link_of(kinds, servers).await;
    let seconds = async |node: &Database| -> i64 {
        let now = match node.kind {
            Kind::Postgres => "SELECT extract(epoch FROM clock_timestamp())::bigint",
            Kind::Mariadb | Kind::Mysql => "SELECT UNIX_TIMESTAMP()",
        };
        node.value(now).await.parse().unwrap()
    };
    let apart = seconds(&link.b).await - seconds(&link.a).await;
    assert!((3_500..3_700).contains(&apart), "the clocks are {apart} s apart");
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    for _ in 0..3 {
        crosses_both_ways(&link, &mut bridge).await;
    }
    // Who has seen the other's write is not undone by it, whatever its clock says.
    link.b.run("INSERT INTO registers VALUES (7000000, 1, 3)").await;
    eventually("it crosses", async || link.a.value("SELECT count(*) FROM registers WHERE id = 7000000").await == "1")
        .await;
    link.a.run("UPDATE registers SET content = 2 WHERE id = 7000000").await;
    crosses_both_ways(&link, &mut bridge).await;
    workload.check(&link, "clocks one hour apart").await;
    assert_eq!(link.same("SELECT content FROM registers WHERE id = 7000000").await[0][0].as_deref(), Some("2"));
    assert_eq!(bridge.stop().await, 0);
}

/// Of the disk on which the bridge may spill, and what has to wait meanwhile: several times as much.
const DISK_BYTES: usize = 1 << 20;
const WAITING_ROWS: usize = 15_000;

/// The process as a whole, a debug build's habits included; it may keep 1 MiB of rows in memory.
const MEMORY_MAX: u64 = 100 << 20;

async fn spill_disk_is_full(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(200)").await;
    link.both("INSERT INTO items VALUES (1, 'first')").await;
    link.succeed(&["setup"]).await;
    let spill = link.folder.path().join("disk");
    std::fs::create_dir(&spill).unwrap();
    // What an earlier bridge, or anybody else, has left there is no part of it.
    link.edit("[limits]\nspill_dir = \"", "[limits]\nmemory_mib = 1\nspill_dir = \"");
    link.edit(&link.folder.path().join("spill").display().to_string(), &spill.display().to_string());
    let mut bridge = Bridge::start_on_disk(&link.config(), link.folder.path(), &spill, DISK_BYTES);
    bridge.works().await;

    // Nothing can be applied, since somebody has the first row.
    let mut rude = link.b.client().await;
    rude.run("BEGIN").await;
    rude.run("UPDATE items SET name = 'mine' WHERE id = 1").await;
    link.a.run("UPDATE items SET name = 'second' WHERE id = 1").await;
    let mut client = link.a.client().await;
    for first in (10..WAITING_ROWS).step_by(100) {
        let rows: Vec<String> = (first..first + 100).map(|id| format!("({id}, '{}')", "x".repeat(150))).collect();
        client.run(&format!("INSERT INTO items VALUES {}", rows.join(", "))).await;
    }
    bridge.logged("No space left on device").await;
    sleep(Duration::from_secs(2)).await;
    assert!(bridge.is_running());
    rude.run("ROLLBACK").await;
    let began = Instant::now();
    link.settle().await;
    println!("all has crossed {:?} after the way was free", began.elapsed());
    assert_eq!(bridge.log().matches("interrupted").count(), 0, "who has no room waits for it");
    link.same("SELECT count(*), sum(id), max(name) FROM items").await;
    link.succeed(&["verify"]).await;
    let peak = bridge.peak_memory();
    assert!(peak < MEMORY_MAX, "{peak} bytes of memory");
    assert_eq!(bridge.stop().await, 0);
}

pairings!(
    spill_disk_is_full,
    #[ignore = "full: takes half a minute"]
    writes_are_refused,
    #[ignore = "full: takes half a minute"]
    connections_run_out,
    #[ignore = "full: takes half a minute"]
    clients_are_rude,
    #[ignore = "full: takes half a minute"]
    clocks_are_apart,
);
