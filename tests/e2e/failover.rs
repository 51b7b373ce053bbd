//! A server is lost, and its standby promoted in its place. (`docs/operations.md`, "A server is replaced by its standby".)

use pontoon_servers::{Kind, Options, Release, Server};

use crate::support::{
    Database, Link, LinkOptions,
    bridge::Refusal,
    eventually, first_pairing,
    workload::{Workload, crosses_both_ways, dice},
};

first_pairing!(without_its_slot, behind_the_checkpoint);

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
