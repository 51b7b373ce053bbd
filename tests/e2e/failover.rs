//! A server is lost, and its standby promoted in its place. (`docs/operations.md`, "A server is replaced by its standby".)

use pontoon_servers::{Kind, Options, Release, Server};

use crate::support::{
    Database, Link, LinkOptions,
    bridge::Refusal,
    eventually, first_pairing, pairings,
    workload::{Workload, crosses_both_ways, dice},
};

first_pairing!(without_its_slot, behind_the_checkpoint);
pairings!(by_gtid, behind_the_checkpoint_by_gtid, errant);

const ALL: &str = "SELECT id, name FROM items ORDER BY id";

/// A bridge between two servers with a table, caught up.
async fn ready(kinds: [Kind; 2]) -> Link {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40)").await;
    link.both("INSERT INTO items VALUES (1, 'anvil')").await;
    link.succeed(&["setup"]).await;
    link.catch_up().await;
    link
}

/// The PostgreSQL node of a link.
fn postgres(link: &mut Link) -> &mut Database {
    if link.a.is_postgres() { &mut link.a } else { &mut link.b }
}

async fn in_step(primary: &Database) {
    let sql = "SELECT count(*) FROM pg_stat_replication \
               WHERE application_name = 'standby' AND replay_lsn >= pg_current_wal_flush_lsn()";
    eventually("the standby has it all", async || primary.value(sql).await == "1").await;
}

/// Puts a standby in the place of a node's server, which is killed.
async fn replace(node: &mut Database, mut standby: Server) {
    standby.take_the_place_of(&mut node.server).await.unwrap();
    node.server = standby;
}

async fn promote(node: &Database) {
    node.run("SELECT pg_promote()").await;
    eventually("it is promoted", async || node.value("SELECT pg_is_in_recovery()::int").await == "0").await;
}

/// The position that stands behind some words of a message.
fn place_behind(message: &str, words: &str) -> u64 {
    let text = message.split(words).nth(1).unwrap_or_else(|| panic!("no {words:?} in {message}"));
    let text = text.split([' ', ',', ':', ')']).next().unwrap();
    let (high, low) = text.split_once('/').unwrap_or_else(|| panic!("no place behind {words:?} in {message}"));
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

/// PostgreSQL before 17: the standby has no slot. What the log held from the checkpoint on is lost, which is said, and what was written meanwhile is found by
/// comparing.
async fn without_its_slot(kinds: [Kind; 2]) {
    let mut link = ready(kinds).await;
    let name = link.postgres().1;
    let standby = link.postgres().0.server.standby(&[]).await.unwrap();
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (2, 'of a')").await;
    link.b.run("INSERT INTO items VALUES (3, 'of b')").await;
    link.settle().await;
    in_step(link.postgres().0).await;

    // As long as it is a standby it is waited for.
    replace(postgres(&mut link), standby).await;
    bridge.logged("server-busy").await;
    promote(link.postgres().0).await;
    let refusal: Refusal = bridge.end().await.refused(4, "log-lost");
    assert!(refusal.message.starts_with(&format!("{name}: the server was promoted at ")), "{refusal:?}");
    let (fork, applied) =
        (place_behind(&refusal.message, "promoted at "), place_behind(&refusal.message, "log after "));
    assert!(applied <= fork && refusal.message.contains("pontoon_e2e"), "{refusal:?}");
    let resync = format!("pontoon resync --from {name} --table items --execute");
    assert!(refusal.hint.contains(&resync), "{refusal:?}");
    let refused = link.command(&["run", "--dry-run"]).await.refused(4, "log-lost");
    assert!(refused.message.contains("the server was promoted at "), "{refused:?}");

    // Both sides are written meanwhile.
    let (promoted, other) = if name == "a" { (&link.a, &link.b) } else { (&link.b, &link.a) };
    promoted.run("INSERT INTO items VALUES (4, 'after the promotion')").await;
    promoted.run("UPDATE items SET name = 'changed' WHERE id = 2").await;
    promoted.run("DELETE FROM items WHERE id = 1").await;
    other.run("INSERT INTO items VALUES (5, 'of the other side')").await;
    let words: Vec<&str> = resync.split(' ').skip(1).collect();
    link.succeed(&words).await;
    let rows = link.same(ALL).await;
    let names: Vec<&str> = rows.iter().map(|row| row[1].as_deref().unwrap()).collect();
    assert_eq!(names, ["changed", "of b", "after the promotion", "of the other side"]);
    link.a.run("INSERT INTO items VALUES (6, 'of a again')").await;
    link.b.run("INSERT INTO items VALUES (7, 'of b again')").await;
    link.catch_up().await;
    assert_eq!(link.same(ALL).await.len(), 6);
    link.succeed(&["setup"]).await;
}

/// A standby that has not got what the bridge has applied on the other side.
async fn behind_the_checkpoint(kinds: [Kind; 2]) {
    let mut link = ready(kinds).await;
    let name = link.postgres().1;
    let mut standby = link.postgres().0.server.standby(&[]).await.unwrap();
    in_step(link.postgres().0).await;
    standby.kill().await.unwrap();
    link.postgres().0.run("INSERT INTO items VALUES (2, 'lost with the server')").await;
    link.catch_up().await;
    let applied = link.mysql().0.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await;

    replace(postgres(&mut link), standby).await;
    promote(link.postgres().0).await;
    link.mysql().0.run("INSERT INTO items VALUES (3, 'of the other side')").await;
    let before = (link.a.rows(ALL).await, link.b.rows(ALL).await);
    for arguments in [&["run"][..], &["run", "--dry-run"], &["setup"]] {
        let refusal = link.command(arguments).await.refused(4, "log-behind");
        assert!(refusal.message.starts_with(&format!("{name}: ")), "{arguments:?} {refusal:?}");
        assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
    }
    assert_eq!((link.a.rows(ALL).await, link.b.rows(ALL).await), before, "nothing was applied");
    // The epoch of the last session is lost as well. Where it is not, the places tell.
    let noted = link.mysql().0.value("SELECT number FROM pontoon.control WHERE name = 'other_epoch'").await;
    link.postgres().0.run(&format!("UPDATE pontoon.control SET number = {noted} WHERE name = 'epoch'")).await;
    let refusal = link.command(&["run"]).await.refused(4, "log-behind");
    let (fork, told) =
        (place_behind(&refusal.message, "promoted at "), place_behind(&refusal.message, "applied up to "));
    assert!(told > fork, "{refusal:?}");
    assert_eq!(told, place_behind(&format!("applied up to {applied} "), "applied up to "), "{refusal:?}");
    assert_eq!((link.a.rows(ALL).await, link.b.rows(ALL).await), before, "nothing was applied");
    // What the documentation says then.
    link.succeed(&["teardown", "--execute"]).await;
    link.succeed(&["setup"]).await;
    for node in ["a", "b"] {
        link.succeed(&["copy", "--from", node, "--table", "items", "--merge"]).await;
    }
    assert_eq!(link.same(ALL).await.len(), 3);
}

fn severity<'a>(found: &'a [serde_json::Value], code: &str) -> &'a str {
    found.iter().find(|finding| finding["code"] == code).unwrap()["severity"].as_str().unwrap()
}

/// PostgreSQL 17 and later: the standby keeps the slot, and the bridge goes on, while both sides write.
pub(crate) async fn with_its_slot(servers: [Release; 2]) {
    let mut dice = dice();
    let mut link = Workload::link_of(servers, [Options::default(), Options::default()]).await;
    let standby = {
        let (primary, _) = link.postgres();
        let settings = [("hot_standby_feedback", "on"), ("sync_replication_slots", "on")];
        let standby = primary.server.standby(&settings).await.unwrap();
        let (_, found) = link.check().await;
        assert_eq!(severity(&found, "standby-slots"), "warning", "nothing waits for it: {found:#?}");
        for (name, value) in [("synchronized_standby_slots", "standby"), ("synchronous_standby_names", "standby")] {
            primary.run(&format!("ALTER SYSTEM SET {name} = '{value}'")).await;
        }
        primary.run("SELECT pg_reload_conf()").await;
        Database { kind: Kind::Postgres, server: standby }
    };
    let (exit, found) = link.check().await;
    assert_eq!(
        (exit, severity(&found, "slot-failover"), severity(&found, "standby-slots")),
        (0, "ok", "ok"),
        "{found:#?}"
    );
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    bridge.logged("applied").await;
    let synced =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pontoon_e2e' AND synced AND NOT temporary";
    eventually("the standby keeps the slot", async || standby.value(synced).await == "1").await;

    let node = postgres(&mut link);
    node.server.kill().await.unwrap();
    promote(&standby).await;
    replace(node, standby.server).await;
    bridge.logged("the server was promoted; its log goes on").await;
    crosses_both_ways(&link, &mut bridge).await;
    workload.check(&link, "the standby was promoted").await;
    assert_eq!(bridge.stop().await, 0);
    // It is the bridge's server now.
    link.succeed(&["setup"]).await;
    link.succeed(&["run", "--until-caught-up"]).await;
}

/// A bridge between two servers with a table, caught up, and a replica of the MySQL or MariaDB node that has all of it.
async fn replicated(kinds: [Kind; 2]) -> (Link, Database) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    let replica = link.mysql().0.replica().await;
    link.create("items", "id int PRIMARY KEY, name varchar(40)").await;
    link.both("INSERT INTO items VALUES (1, 'anvil')").await;
    link.succeed(&["setup"]).await;
    link.catch_up().await;
    (link, replica)
}

/// Waits until a replica has all that its source has.
async fn has_it_all(replica: &Database, source: &Database) {
    let (have, wait) = match source.kind {
        Kind::Mysql => ("SELECT @@global.gtid_executed", "SELECT 1 - WAIT_FOR_EXECUTED_GTID_SET"),
        _ => ("SELECT @@gtid_binlog_pos", "SELECT 1 + MASTER_GTID_WAIT"),
    };
    let have = source.value(have).await.replace('\n', "");
    assert_eq!(replica.value(&format!("{wait}('{have}', 60)")).await, "1", "{have}");
}

/// The source is lost, and its replica goes on in its place.
async fn goes_on(link: &mut Link, replica: Database) {
    let node = link.mysql_mut();
    node.server.kill().await.unwrap();
    replica.run("STOP REPLICA").await;
    replica.run("RESET REPLICA ALL").await;
    if node.kind == Kind::Mariadb {
        // What MariaDB calls itself by is made of its machine and port: at the same port of this machine it would be the same server.
        node.server = replica.server;
        link.configure(&LinkOptions::default().configuration);
    } else {
        replace(node, replica.server).await;
    }
}

/// MySQL and MariaDB: the replica's files are its own, and the names of transactions tell which place is which.
async fn by_gtid(kinds: [Kind; 2]) {
    let (mut link, replica) = replicated(kinds).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (2, 'of a')").await;
    link.b.run("INSERT INTO items VALUES (3, 'of b')").await;
    link.settle().await;
    assert_eq!(bridge.stop().await, 0);
    // What the bridge has not seen yet is in the replica's files as in its source's.
    link.mysql().0.run("INSERT INTO items VALUES (4, 'not seen yet')").await;
    replica.run("FLUSH BINARY LOGS").await;
    link.mysql().0.run("UPDATE items SET name = 'nor that' WHERE id = 2").await;
    has_it_all(&replica, link.mysql().0).await;
    goes_on(&mut link, replica).await;
    let (promoted, other) = (link.mysql().0, link.postgres().0);
    promoted.run("INSERT INTO items VALUES (5, 'after the promotion')").await;
    other.run("INSERT INTO items VALUES (6, 'of the other side')").await;

    let bridge = link.run();
    bridge.logged("the server was promoted; its log goes on").await;
    bridge.works().await;
    link.settle().await;
    let names: Vec<String> = link.same(ALL).await.into_iter().map(|row| row[1].clone().unwrap()).collect();
    assert_eq!(names, ["anvil", "nor that", "of b", "not seen yet", "after the promotion", "of the other side"]);
    promoted.run("DELETE FROM items WHERE id = 1").await;
    other.run("UPDATE items SET name = 'crosses' WHERE id = 3").await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 5);
    assert_eq!(bridge.stop().await, 0);
    // It is the bridge's server now.
    link.succeed(&["setup"]).await;
    link.succeed(&["run", "--until-caught-up"]).await;
}

/// A replica that has not got what the bridge has applied on the other side.
async fn behind_the_checkpoint_by_gtid(kinds: [Kind; 2]) {
    let (mut link, replica) = replicated(kinds).await;
    let name = link.mysql().1;
    has_it_all(&replica, link.mysql().0).await;
    replica.run("STOP REPLICA").await;
    link.mysql().0.run("INSERT INTO items VALUES (2, 'lost with the server')").await;
    link.catch_up().await;
    goes_on(&mut link, replica).await;
    link.postgres().0.run("INSERT INTO items VALUES (3, 'of the other side')").await;
    let before = (link.a.rows(ALL).await, link.b.rows(ALL).await);
    let refusal = link.command(&["run"]).await.refused(4, "log-behind");
    assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
    // The epoch of the last session is lost as well. Where it is not, the places tell.
    let noted = link.postgres().0.value("SELECT number FROM pontoon.control WHERE name = 'other_epoch'").await;
    link.mysql().0.run(&format!("UPDATE pontoon.control SET number = {noted} WHERE name = 'epoch'")).await;
    let refusal = link.command(&["run"]).await.refused(4, "log-behind");
    assert!(refusal.message.contains("has seen what is lost: its log is applied up to "), "{refusal:?}");
    assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
    assert_eq!((link.a.rows(ALL).await, link.b.rows(ALL).await), before, "nothing was applied");
}

/// A replica that was written to before it was promoted.
async fn errant(kinds: [Kind; 2]) {
    let (mut link, replica) = replicated(kinds).await;
    has_it_all(&replica, link.mysql().0).await;
    replica.run("INSERT INTO items VALUES (8, 'of nobody')").await;
    let executed = if replica.kind == Kind::Mysql {
        format!("{}:", replica.value("SELECT @@server_uuid").await)
    } else {
        format!("0-{}-", replica.value("SELECT @@server_id").await)
    };
    link.mysql().0.run("INSERT INTO items VALUES (2, 'of the source')").await;
    link.catch_up().await;
    has_it_all(&replica, link.mysql().0).await;
    goes_on(&mut link, replica).await;
    let before = link.postgres().0.rows(ALL).await;
    for arguments in [&["run"][..], &["run", "--dry-run"], &["setup"]] {
        let refusal = link.command(arguments).await.refused(4, "log-behind");
        let told = format!("was written to while it was a replica: {executed}");
        assert!(refusal.message.contains(&told), "{arguments:?} {refusal:?}");
    }
    assert_eq!(link.postgres().0.rows(ALL).await, before, "nothing was applied");
}
