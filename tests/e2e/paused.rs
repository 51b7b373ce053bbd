//! `pause` and `resume`: nothing is applied from the moment on that the command returns, across restarts, and everything
//! afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use serde_json::Value as Json;
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    altered::{another_last_column, nobody_lost},
    at_rest::metric,
    support::{Bridge, Database, Link, LinkOptions, a_second_later, eventually, first_pairing},
};

first_pairing!(
    both_ways_across_restarts,
    one_way_and_a_conflict,
    by_itself_after_a_time,
    both_tables_are_changed_meanwhile,
    the_last_column_is_another_afterwards,
);

const ALL: &str = "SELECT id, name, n FROM items ORDER BY id";

/// Keys below are written on a, from here on on b.
const OF_B: u32 = 1_000_000;

async fn ready(kinds: [Kind; 2]) -> Link {
    let options = LinkOptions {
        configuration: "[[tables]]\nname = \"items\"\n[server]\nlisten = \"127.0.0.1:0\"\n".into(),
        ..LinkOptions::default()
    };
    let link = Link::start(kinds, options).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40), n int").await;
    link.succeed(&["setup"]).await;
    link
}

/// What each direction is doing, by its source.
async fn states(link: &Link) -> [String; 2] {
    let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    [0, 1].map(|at| status["directions"][at]["state"].as_str().unwrap().to_owned())
}

/// Until when each direction is paused; empty where no end is told.
async fn paused_until(link: &Link) -> [String; 2] {
    let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    [0, 1].map(|at| status["directions"][at]["paused_until"].as_str().unwrap_or_default().to_owned())
}

/// An application that inserts rows, some hundred a second, until told to stop; how many it has.
fn writer(node: &Database, first: u32, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    node.application(stop, Duration::from_millis(4), move |time| {
        vec![format!("INSERT INTO items (id, name) VALUES ({}, 'written')", first + time)]
    })
}

/// How many rows have come to each node.
async fn arrived(link: &Link) -> [String; 2] {
    let on_a = link.a.value(&format!("SELECT count(*) FROM items WHERE id >= {OF_B}")).await;
    [on_a, link.b.value(&format!("SELECT count(*) FROM items WHERE id < {OF_B}")).await]
}

/// A bridge that runs, and writers on both sides whose rows cross.
async fn crossing_both_ways(link: &Link) -> (Bridge, Arc<AtomicBool>, [JoinHandle<u32>; 2]) {
    let bridge = link.run();
    bridge.works().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(&link.a, 0, &stop), writer(&link.b, OF_B, &stop)];
    eventually("rows cross both ways", async || arrived(link).await.iter().all(|count| count != "0")).await;
    (bridge, stop, writers)
}

/// How many transactions a bridge has read of each log.
fn received(bridge: &Bridge) -> [usize; 2] {
    ["a", "b"].map(|source| bridge.log().matches(&format!("transaction received source=\"{source}\"")).count())
}

/// Waits until it has read so many more than `before` of both.
async fn has_read(bridge: &Bridge, before: [usize; 2], more: usize) {
    eventually("both logs are read", async || {
        received(bridge).iter().zip(before).all(|(received, before)| *received >= before + more)
    })
    .await;
}

/// Waits until a bridge has read so much more of both logs that some of it would be applied, if anything were.
async fn reads_on(bridge: &Bridge) {
    has_read(bridge, received(bridge), 100).await;
}

async fn both_ways_across_restarts(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (bridge, stop, writers) = crossing_both_ways(&link).await;

    let said = link.succeed(&["pause"]).await;
    let at_once = arrived(&link).await;
    assert!(said.contains("a -> b: nothing is applied, until pontoon resume"), "{said}");
    assert!(said.contains("b -> a: "), "{said}");
    bridge.logged("state=paused").await;
    reads_on(&bridge).await;
    assert_eq!(arrived(&link).await, at_once, "nothing is applied any more");
    eventually("it says so", async || states(&link).await == ["paused", "paused"]).await;
    let waited = link.command(&["wait"]).await;
    waited.refused(1, "paused");

    // Whatever becomes of the process.
    bridge.kill();
    assert_eq!(states(&link).await, ["paused", "paused"], "the databases say so too");
    link.command(&["run", "--until-caught-up"]).await.refused(1, "paused");
    let bridge = link.run();
    bridge.logged("state=paused").await;
    reads_on(&bridge).await;
    assert_eq!(bridge.stop().await, 0, "it ends when it is told to");
    let bridge = link.run();
    bridge.logged("state=paused").await;
    eventually("how much is not applied is known, though nothing was since the start", async || {
        let behind =
            async |node: &str| metric(&bridge, "pontoon_source_log_lag_bytes", &format!("node=\"{node}\"")).await;
        behind("a").await > 0.0 && behind("b").await > 0.0
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    assert_eq!(arrived(&link).await, at_once, "nor by those that came");

    let said = link.succeed(&["resume"]).await;
    assert_eq!(said.matches("goes on").count(), 2, "{said}");
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), written.iter().sum::<u32>() as usize);
    assert!(link.conflicts(&[]).await.is_empty());
    let said = link.succeed(&["resume"]).await;
    assert_eq!(said.matches("was not paused").count(), 2, "{said}");
    assert_eq!(bridge.stop().await, 0);
}

/// The other direction goes on, but for a conflict, which is settled on both nodes.
async fn one_way_and_a_conflict(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    link.a.run("INSERT INTO items VALUES (1, 'first', 0)").await;
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    let ended = link.command(&["pause", "a->c"]).await;
    ended.refused(2, "config-invalid");
    link.command(&["pause", "a"]).await.refused(2, "config-invalid");
    link.succeed(&["pause", "a->b"]).await;
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 1").await;
    link.a.run("INSERT INTO items VALUES (2, 'waits', 0)").await;
    link.b.run(&format!("INSERT INTO items VALUES ({OF_B}, 'goes on', 0)")).await;
    eventually("the other direction goes on", async || arrived(&link).await[0] == "1").await;
    assert_eq!(states(&link).await[0], "paused");
    assert_ne!(states(&link).await[1], "paused");

    a_second_later().await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 1").await;
    sleep(Duration::from_secs(2)).await;
    let name = "SELECT name FROM items WHERE id = 1";
    assert_eq!((link.a.value(name).await, link.b.value(name).await), ("of a".into(), "of b".into()), "it waits");
    assert_eq!(link.b.value("SELECT count(*) FROM items WHERE id = 2").await, "0");
    assert!(link.conflicts(&[]).await.is_empty());
    link.succeed(&["resume", "a->b"]).await;
    link.settle().await;
    let rows = link.same(ALL).await;
    assert_eq!((rows.len(), rows[0][1].as_deref()), (3, Some("of b")));
    assert_eq!(link.conflicts(&[]).await.len(), 1);
    assert_eq!(bridge.stop().await, 0);
}

async fn by_itself_after_a_time(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    link.succeed(&["pause", "--for", "1h"]).await;
    let until = paused_until(&link).await;
    assert!(until.iter().all(|until| until.starts_with("2")), "the databases tell until when: {until:?}");
    let bridge = link.run();
    bridge.logged("state=paused").await;
    eventually("the bridge tells until when", async || paused_until(&link).await == until).await;
    assert_eq!(link.succeed(&["status"]).await.matches("paused until 2").count(), 2);
    // Taken together: the later word counts.
    link.succeed(&["pause"]).await;
    eventually("it has no end", async || paused_until(&link).await == ["", ""]).await;
    let said = link.succeed(&["pause", "--for", "3s"]).await;
    assert!(said.contains("for 3s"), "{said}");
    for (node, id) in [(&link.a, 1), (&link.b, OF_B)] {
        node.run(&format!("INSERT INTO items VALUES ({id}, 'x', 0)")).await;
    }
    assert_eq!(arrived(&link).await, ["0", "0"]);
    eventually("it goes on by itself", async || arrived(&link).await == ["1", "1"]).await;
    link.succeed(&["wait"]).await;
    assert!(!states(&link).await.contains(&"paused".to_owned()));
    assert_eq!(bridge.stop().await, 0);
}

/// `pause`, ALTER on both sides in any order, `resume`: rows of the old shape and of the new one cross, each value in its
/// column, while both sides are written.
async fn both_tables_are_changed_meanwhile(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (bridge, stop, writers) = crossing_both_ways(&link).await;
    for (round, nodes) in [[&link.a, &link.b], [&link.b, &link.a]].into_iter().enumerate() {
        link.succeed(&["pause"]).await;
        sleep(Duration::from_millis(300)).await;
        for node in nodes {
            node.run(&format!("ALTER TABLE items ADD COLUMN extra{round} int NOT NULL DEFAULT 5")).await;
            sleep(Duration::from_millis(200)).await;
        }
        link.succeed(&["resume"]).await;
        for (node, id) in [(&link.a, 500_000), (&link.b, 2 * OF_B)] {
            let id = id + round as u32;
            node.run(&format!("INSERT INTO items (id, n, extra{round}) VALUES ({id}, 8, 9)")).await;
        }
        link.settle().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 4;
    for writer in writers {
        written += writer.await.unwrap();
    }
    link.settle().await;
    let rows = link.same("SELECT id, name, n, extra0, extra1 FROM items ORDER BY id").await;
    assert_eq!(rows.len(), written as usize);
    let of = |wanted: [&str; 3]| {
        let is = |row: &&Vec<Option<String>>| row[2..].iter().map(|text| text.as_deref().unwrap_or("-")).eq(wanted);
        rows.iter().filter(is).count()
    };
    assert_eq!((of(["8", "9", "5"]), of(["8", "5", "9"]), of(["-", "5", "5"])), (2, 2, rows.len() - 4));
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// What was read of the former before the change does not become a value of the latter.
async fn the_last_column_is_another_afterwards(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let bridge = link.run();
    bridge.works().await;
    link.succeed(&["pause"]).await;
    bridge.logged("state=paused").await;
    let before = received(&bridge);
    link.a.run("INSERT INTO items VALUES (1, 'of a', 1)").await;
    link.b.run("INSERT INTO items VALUES (2, 'of b', 1)").await;
    has_read(&bridge, before, 1).await;
    for node in link.nodes() {
        another_last_column(node).await;
    }
    link.succeed(&["resume"]).await;
    link.settle().await;
    let rows = link.same("SELECT id, n FROM items ORDER BY id").await;
    let row = |id: &str| vec![Some(id.to_owned()), Some("7".to_owned())];
    assert_eq!(rows, [row("1"), row("2")]);
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}
