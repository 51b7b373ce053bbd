//! Nothing is applied while the target's replicas are behind, while it has much to do, and at other hours than may be; and it is said why.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use pontoon_servers::{Kind, Options, Server};
use serde_json::Value as Json;

use crate::{
    commands::{get, with_page},
    privileges::run_shipped,
    rings::replicate,
    support::{Database, Link, LinkOptions, eventually, first_pairing, link::write_configuration, pairings},
};

pairings!(while_a_replica_is_behind, while_it_has_much_to_do);
first_pairing!(at_other_hours, who_does_not_say_is_left_alone);

const COUNT: &str = "SELECT count(*) FROM items";
const TABLES: &str = "[[tables]]\nname = \"customers\"\n[[tables]]\nname = \"items\"\n";

/// A bridge by the roles of `deploy/sql`, whose page has an address, set up; `prepare` is done with each server before there is a table.
async fn ready(kinds: [Kind; 2], limits: &str, prepare: impl AsyncFn(&Database)) -> (Link, String) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    for node in link.nodes() {
        prepare(node).await;
    }
    for table in ["customers", "items"] {
        link.create(table, "id int PRIMARY KEY, name varchar(40)").await;
    }
    for node in link.nodes() {
        run_shipped(node, "of the role").await;
    }
    let (_, address) = with_page();
    let spill = link.folder.path().join("spill");
    let rest =
        format!("{TABLES}[server]\nlisten = \"{address}\"\n[limits]\nspill_dir = \"{}\"\n{limits}", spill.display());
    let nodes = [("a", &link.a), ("b", &link.b)];
    write_configuration(link.folder.path(), "shop-stock", nodes, [("pontoon", "of the role"); 2], &rest);
    link.succeed(&["setup"]).await;
    (link, address)
}

/// Lets the role see what the limits go by: what docs/operations.md says that it takes.
async fn grant(node: &Database) {
    if node.is_postgres() {
        node.run("GRANT pg_read_all_stats TO pontoon").await;
    }
}

/// What holds back each direction, and its state.
async fn held_back(link: &Link) -> [(Option<String>, String); 2] {
    let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    [0, 1].map(|at| {
        let direction = &status["directions"][at];
        (direction["held_back"].as_str().map(str::to_owned), direction["state"].as_str().unwrap().to_owned())
    })
}

/// Waits until what comes from a node is held back, for a reason that holds some words.
async fn is_held_back(link: &Link, at: usize, words: &str) {
    let mut found = Default::default();
    eventually(&format!("direction {at} is held back: {words}"), async || {
        found = held_back(link).await;
        found[at].0.as_ref().is_some_and(|why| why.contains(words)) && found[at].1 == "throttled"
    })
    .await;
}

/// Writes on one node cross to the other, and nothing crosses back: it has that many of the other's rows, which are written now, and no transaction is left open.
async fn crosses_one_way(link: &Link, from: usize, number: u32) {
    let [source, target] = [from, 1 - from].map(|at| link.nodes()[at]);
    let before = source.value(COUNT).await;
    target.run(&format!("INSERT INTO items VALUES ({number}, 'waits')")).await;
    source.run(&format!("INSERT INTO items VALUES ({}, 'crosses')", number + 1)).await;
    eventually("the other direction goes on", async || {
        target.value(&format!("{COUNT} WHERE id = {}", number + 1)).await == "1"
    })
    .await;
    let now: u32 = source.value(COUNT).await.parse().unwrap();
    assert_eq!(now, before.parse::<u32>().unwrap() + 1, "what comes back is held back");
    if source.is_postgres() {
        let open =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'pontoon' AND state LIKE 'idle in transaction%'";
        eventually("no transaction is left open", async || source.value(open).await == "0").await;
    }
}

/// A standby of PostgreSQL, or a replica.
async fn replica_of(node: &Database) -> Database {
    if !node.is_postgres() {
        let replica = Database::start(node.kind, Options::default()).await;
        replicate(&replica, node).await;
        return replica;
    }
    let mut server = Server::start(Kind::Postgres, Options::default()).await.unwrap();
    server.stop().await.unwrap();
    copy_base(node, &server.data()).await;
    server.restart().await.unwrap();
    let streams =
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = 'walreceiver'";
    eventually("the standby streams", async || node.value(streams).await == "1").await;
    Database { kind: Kind::Postgres, server }
}

async fn copy_base(node: &Database, data: &Path) {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(data).unwrap();
    std::fs::remove_dir_all(data).unwrap();
    let mut command = tokio::process::Command::new("pg_basebackup");
    command.args([
        "--checkpoint=fast",
        "--write-recovery-conf",
        "--dbname",
        &node.server.url(node.server.superuser(), "postgres"),
    ]);
    let ended = command.arg("--pgdata").arg(data).env("PGPASSWORD", node.server.password()).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let owner = format!("{}:{}", owner.uid(), owner.gid());
    let ended = tokio::process::Command::new("chown").args(["-R", &owner]).arg(data).status().await.unwrap();
    assert!(ended.success());
}

async fn stop_replay(replica: &Database) {
    replica.run(if replica.is_postgres() { "SELECT pg_wal_replay_pause()" } else { "STOP REPLICA SQL_THREAD" }).await;
}

async fn go_on_with_replay(replica: &Database) {
    replica.run(if replica.is_postgres() { "SELECT pg_wal_replay_resume()" } else { "START REPLICA SQL_THREAD" }).await;
}

async fn while_a_replica_is_behind(kinds: [Kind; 2]) {
    let replicas = tokio::sync::Mutex::new(Vec::new());
    let prepare = async |node: &Database| {
        if !node.is_postgres() {
            replicas.lock().await.push(replica_of(node).await);
        }
    };
    let (link, _) = ready(kinds, "target_replica_lag = 3\n", prepare).await;
    // A standby has the roles and tables from the copy, a replica by replicating them.
    let mut of_each = Vec::new();
    for (name, node) in ["a", "b"].into_iter().zip(link.nodes()) {
        grant(node).await;
        of_each.push(match node.is_postgres() {
            true => replica_of(node).await,
            false => {
                let replica = replicas.lock().await.remove(0);
                let line = format!("[nodes.{name}]\n");
                link.edit(&line, &format!("{line}replicas = [\"127.0.0.1:{}\"]\n", replica.server.port()));
                replica
            }
        });
    }
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (1, 'of a')").await;
    link.b.run("INSERT INTO items VALUES (2, 'of b')").await;
    link.settle().await;
    for (at, replica) in of_each.iter().enumerate() {
        eventually("the replica has it", async || replica.value(COUNT).await == link.a.value(COUNT).await).await;
        stop_replay(replica).await;
        let (from, words) = match replica.is_postgres() {
            true => (at, "its replicas are "),
            false => (at, "does not replicate"),
        };
        is_held_back(&link, 1 - from, words).await;
        // A replica that is to be started is none that a bridge cannot begin with; how far one is behind is what it tells.
        let (exit, found) = checked(&link, ["a", "b"][at]).await;
        let severity = if replica.is_postgres() { "ok" } else { "warning" };
        assert_eq!((exit, &found["severity"]), (0, &severity.into()), "{found}");
        crosses_one_way(&link, from, 100 * (1 + u32::try_from(at).unwrap())).await;
        go_on_with_replay(replica).await;
        eventually("it goes on", async || held_back(&link).await[1 - from].0.is_none()).await;
        link.settle().await;
    }
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 6);
    assert_eq!(bridge.log().matches("active: this process holds the lease").count(), 1, "no session has ended");
    assert_eq!(bridge.stop().await, 0);
}

/// More than the bridge, its questions and what a server does by itself ever make.
const LOAD: usize = 12;

async fn while_it_has_much_to_do(kinds: [Kind; 2]) {
    let (link, _) = ready(kinds, &format!("target_load = {LOAD}\n"), async |_| {}).await;
    for node in link.nodes() {
        grant(node).await;
    }
    let bridge = link.run();
    bridge.works().await;
    for (at, node) in link.nodes().into_iter().enumerate() {
        let stop = Arc::new(AtomicBool::new(false));
        let sleep = if node.is_postgres() { "SELECT pg_sleep(2)" } else { "SELECT sleep(2)" };
        let asleep: Vec<_> =
            (0..2 * LOAD).map(|_| node.application(&stop, Duration::ZERO, move |_| vec![sleep.to_owned()])).collect();
        is_held_back(&link, 1 - at, " statements, more than 12").await;
        crosses_one_way(&link, at, 100 * (1 + u32::try_from(at).unwrap())).await;
        stop.store(true, Ordering::Relaxed);
        for application in asleep {
            application.await.unwrap();
        }
        link.settle().await;
        eventually("it goes on", async || held_back(&link).await[1 - at].0.is_none()).await;
    }
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 4);
    assert_eq!(bridge.stop().await, 0);
}

/// What `check` finds of a node's limits, and how it ends.
async fn checked(link: &Link, name: &str) -> (i32, Json) {
    let (exit, found) = link.check().await;
    let of_node = |finding: &&Json| finding["code"] == "target-pressure" && finding["subject"] == name;
    let found: Vec<_> = found.iter().filter(of_node).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    (exit, found[0].clone())
}

/// Without the right to see it the direction waits, and says for which; the bridge goes on.
async fn who_does_not_say_is_left_alone(kinds: [Kind; 2]) {
    let (link, _) = ready(kinds, "target_load = 100\n", async |_| {}).await;
    // MySQL tells anybody.
    let (postgres, name, goes_on) = if link.a.is_postgres() { (&link.a, "a", 0) } else { (&link.b, "b", 1) };
    let (exit, found) = checked(&link, name).await;
    assert_eq!((exit, &found["severity"]), (1, &"blocking".into()), "{found}");
    assert!(found["remedy"].as_str().unwrap().starts_with("GRANT pg_read_all_stats"), "{found}");
    assert_eq!(checked(&link, ["b", "a"][goes_on]).await.1["severity"], "ok");
    let bridge = link.run();
    bridge.works().await;
    let why = format!("it is not known how busy the target is: {name}: may not see");
    is_held_back(&link, 1 - goes_on, &why).await;
    bridge.logged("hint=\"GRANT pg_read_all_stats").await;
    crosses_one_way(&link, goes_on, 100).await;
    grant(postgres).await;
    let (exit, found) = checked(&link, name).await;
    assert_eq!((exit, &found["severity"]), (0, &"ok".into()), "{found}");
    link.settle().await;
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 2);
    assert_eq!(bridge.log().matches("active: this process holds the lease").count(), 1, "no session has ended");
    assert_eq!(bridge.stop().await, 0);
}

/// `windows = ["10:00-12:00"]`, of hours from now on.
fn window(from: u64, to: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() / 3600;
    format!("windows = [\"{:02}:00-{:02}:00\"]\n", (now + from) % 24, (now + to) % 24)
}

async fn at_other_hours(kinds: [Kind; 2]) {
    // From two hours on, in which no test goes on for so long.
    let (closed, open) = (window(2, 4), window(22, 4));
    let (link, address) = ready(kinds, &closed, async |_| {}).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (1, 'of a')").await;
    link.b.run("INSERT INTO items VALUES (2, 'of b')").await;
    for at in [0, 1] {
        is_held_back(&link, at, "the next window opens at ").await;
    }
    // The logs are read meanwhile.
    let read = async |at: usize| {
        let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
        status["directions"][at]["rows_received"] == 1
    };
    eventually("both logs are read", async || read(0).await && read(1).await).await;
    for node in link.nodes() {
        assert_eq!(node.value(COUNT).await, "1");
    }

    let why = "a->b is held back: the next window opens at ";
    let (code, ready) = get(&address, "/readyz").await.unwrap();
    assert!(code == 503 && ready.contains(why), "{ready}");
    assert!(link.command(&["health", "--ready"]).await.err.contains(why));
    assert_eq!(link.succeed(&["health"]).await, "alive\n", "it is well");
    assert_eq!(get(&address, "/livez").await.unwrap().0, 200);
    assert!(link.succeed(&["status"]).await.contains("a -> b is held back: the next window opens at "));
    let (_, page) = get(&address, "/").await.unwrap();
    assert!(page.contains("held back: the next window opens at "), "{page}");
    let (_, page) = get(&address, "/metrics").await.unwrap();
    let gauge = |reason: &str| {
        let series = format!("pontoon_direction_held_back{{bridge=\"shop-stock\",reason=\"{reason}\",source=\"a\",");
        page.lines().find(|line| line.starts_with(&series)).unwrap().ends_with(" 1")
    };
    assert!(gauge("window") && !gauge("load") && !gauge("replica_lag") && !gauge("not_known"), "{page}");
    assert_eq!(bridge.log().matches(" held back ").count(), 2, "once for each direction: {}", bridge.log());

    link.edit(&closed, &open);
    assert_eq!(link.succeed(&["reload"]).await, "taken up: limits.windows\n");
    link.settle().await;
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 2);
    eventually("it is ready", async || link.command(&["health", "--ready"]).await.code == 0).await;
    assert_eq!(bridge.stop().await, 0);
}
