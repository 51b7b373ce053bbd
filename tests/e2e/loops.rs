//! Rows that go round: jobs on both sides that answer each other through the bridge, and a trigger that rewrites what it
//! writes. The row is stopped and named, everything else goes on, and an operator ends it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};

use crate::{
    at_rest::metric,
    quarantine::{entries, id, is_healed},
    support::{Database, Link, LinkOptions, database::Client, eventually, first_pairing},
};

first_pairing!(jobs_that_answer_each_other, a_trigger_that_rewrites);

const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

const CONFIGURATION: &str =
    "[[tables]]\nname = \"items\"\non_error = \"stop\"\naccept = [\"trigger\"]\n[server]\nlisten = \"127.0.0.1:0\"\n";

async fn ready(kinds: [Kind; 2]) -> Link {
    let configuration = CONFIGURATION.to_owned();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(200) NOT NULL, quantity bigint NOT NULL").await;
    link.both("INSERT INTO items VALUES (1, 'first', 0), (2, 'first', 0)").await;
    link.succeed(&["setup"]).await;
    link
}

/// The entry that says why the row waits; `None` where it is not in quarantine.
async fn suspected(link: &Link) -> Option<Json> {
    entries(link).await.into_iter().find(|entry| entry["code"] == "loop-suspected")
}

async fn is_stopped(link: &Link) -> Json {
    eventually("the row is in quarantine", async || suspected(link).await.is_some()).await;
    let entry = suspected(link).await.unwrap();
    assert_eq!((&entry["table"], &entry["key"]), (&json!("items"), &json!([1])), "{entry:#}");
    entry
}

/// A job that answers the other one's word in the row 1, until it is told to end.
async fn answer(mut client: Client, word: &'static str, to: &'static str, ends: Arc<AtomicBool>) {
    while !ends.load(Ordering::Relaxed) {
        let answer =
            format!("UPDATE items SET name = '{word}', quantity = quantity + 1 WHERE id = 1 AND name = '{to}'");
        client.run(&answer).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn jobs_that_answer_each_other(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let bridge = link.run();
    bridge.works().await;
    let ends = Arc::new(AtomicBool::new(false));
    let jobs = [
        tokio::spawn(answer(link.a.client().await, "of a", "of b", ends.clone())),
        tokio::spawn(answer(link.b.client().await, "of b", "of a", ends.clone())),
    ];
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 1").await;
    let entry = is_stopped(&link).await;
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("items key (1)") && message.contains("answered each other's writes"), "{message}");
    let trips = async || {
        metric(&bridge, "pontoon_loop_guard_trips_total", "source=\"a\"").await
            + metric(&bridge, "pontoon_loop_guard_trips_total", "source=\"b\"").await
    };
    assert_eq!(trips().await, 1.0);
    bridge.logged("items key (1)").await;
    let shown = link.succeed(&["quarantine", "show", &id(&entry)]).await;
    assert!(shown.contains("stop what rewrites the row") && shown.contains("--take a, or --take b"), "{shown}");

    // It is at rest, and everything else goes on.
    link.settle().await;
    let answers = async || [counted(&link.a).await, counted(&link.b).await];
    let before = answers().await;
    link.a.run("UPDATE items SET name = 'goes on' WHERE id = 2").await;
    link.b.run("INSERT INTO items VALUES (3, 'goes on', 0)").await;
    link.settle().await;
    assert_eq!(link.same("SELECT id FROM items WHERE name = 'goes on' ORDER BY id").await.len(), 2);
    assert_eq!(answers().await, before, "it goes round although it is in quarantine");
    assert_eq!(entries(&link).await.len(), 1);

    // So it is after a restart.
    assert_eq!(bridge.stop().await, 0);
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    assert_eq!(answers().await, before);
    // Who has it go on while both jobs are there finds it here again.
    link.succeed(&["quarantine", "retry", &id(&entry)]).await;
    eventually("it is stopped again", async || suspected(&link).await.is_some_and(|again| again["id"] != entry["id"]))
        .await;

    ends.store(true, Ordering::Relaxed);
    for job in jobs {
        job.await.unwrap();
    }
    link.settle().await;
    let entry = is_stopped(&link).await;
    link.succeed(&["quarantine", "retry", &id(&entry), "--take", "a"]).await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 3);
    assert_eq!(bridge.stop().await, 0);
}

async fn counted(node: &Database) -> String {
    node.value("SELECT quantity FROM items WHERE id = 1").await
}

async fn a_trigger_that_rewrites(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (rewriting, name) = link.mysql();
    let (writing, _) = link.postgres();
    rewriting
        .run("CREATE TRIGGER shout BEFORE UPDATE ON items FOR EACH ROW SET NEW.name = CONCAT(NEW.name, '!')")
        .await;
    let bridge = link.run();
    bridge.works().await;
    // Each write finds another row than the last one left.
    for n in 1..=21 {
        writing.run(&format!("UPDATE items SET name = 'written {n}', quantity = {n} WHERE id = 1")).await;
        link.settle().await;
        assert!(suspected(&link).await.is_none(), "{n}");
    }
    writing.run("UPDATE items SET quantity = 22 WHERE id = 1").await;
    let entry = is_stopped(&link).await;
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("items key (1)") && message.contains("without a write that explains it"), "{message}");
    writing.run("UPDATE items SET name = 'goes on' WHERE id = 2").await;
    link.settle().await;
    assert_eq!(rewriting.value("SELECT name FROM items WHERE id = 2").await, "goes on!");
    // Without the trigger it goes on.
    rewriting.run("DROP TRIGGER shout").await;
    writing.run("UPDATE items SET quantity = 23 WHERE id = 1").await;
    link.settle().await;
    link.succeed(&["quarantine", "retry", &id(&entry), "--take", if name == "a" { "b" } else { "a" }]).await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same("SELECT name, quantity FROM items WHERE id = 1").await.len(), 1);
    assert_eq!(bridge.stop().await, 0);
}
