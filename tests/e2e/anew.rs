//! A log is lost while applications write on both sides: nothing of the other log is lost, and what the lost one held is found by comparing.
//! (`docs/operations.md`, "A log that is lost".)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::task::JoinHandle;

use crate::support::{Database, Link, LinkOptions, eventually, first_pairing, workload};

first_pairing!(logs_are_lost_while_both_sides_write);

const ITEMS: &str = "[[tables]]\nname = \"items\"\n";

/// Rows of one side's application begin here, those of the other's that much later.
const APART: u32 = 1_000_000;

/// An application that inserts, changes and removes rows of its own.
fn writer(node: &Database, first: u32, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let mut dice = SmallRng::seed_from_u64(seed);
    node.application(stop, Duration::from_millis(5), move |times| {
        let (new, old) = (first + times, first + dice.random_range(0..=times));
        let mut statements = vec![
            format!("INSERT INTO items VALUES ({new}, 'new')"),
            format!("UPDATE items SET note = 'changed by {times}' WHERE id = {old}"),
        ];
        if times % 7 == 0 {
            statements.push(format!("DELETE FROM items WHERE id = {}", first + dice.random_range(0..=times)));
        }
        statements
    })
}

async fn rows(node: &Database, first: u32) -> i64 {
    let own = format!("SELECT count(*) FROM items WHERE id BETWEEN {first} AND {}", first + APART - 1);
    node.value(&own).await.parse().unwrap()
}

/// What the node's log has that is not read yet goes. A slot is dropped, or given up by its server.
async fn lose(node: &Database, name: &str) {
    match (node.kind, name) {
        (Kind::Postgres, "a") => {
            node.slots_are_free().await;
            node.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await;
        }
        (Kind::Postgres, _) => node.outgrow_slot().await,
        (Kind::Mariadb | Kind::Mysql, _) => node.purge_logs().await,
    }
}

async fn logs_are_lost_while_both_sides_write(kinds: [Kind; 2]) {
    let mut dice = workload::dice();
    let link = Link::start(kinds, LinkOptions { configuration: ITEMS.into(), ..LinkOptions::default() }).await;
    link.create("items", "id int PRIMARY KEY, note varchar(40)").await;
    link.succeed(&["setup"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let firsts = [1, 1 + APART];
    let writers = [writer(&link.a, firsts[0], dice.random(), &stop), writer(&link.b, firsts[1], dice.random(), &stop)];
    for (lost, name, other, first) in [(&link.a, "a", "b", firsts[0]), (&link.b, "b", "a", firsts[1])] {
        let bridge = link.run();
        bridge.works().await;
        assert_eq!(bridge.stop().await, 0);
        let had = rows(lost, first).await;
        eventually("it is written meanwhile", async || rows(lost, first).await > had + 20).await;
        lose(lost, name).await;
        link.command(&["run", "--until-caught-up"]).await.refused(4, "log-lost");

        // One way: the lost log is let go, and all that the other one has crosses.
        link.configure(&format!("{ITEMS}direction = \"{other}->{name}\"\n"));
        link.succeed(&["setup"]).await;
        link.catch_up().await;
        // Both ways again, from now on; and what the lost log held is found by comparing.
        link.configure(ITEMS);
        link.succeed(&["setup"]).await;
        let bridge = link.run();
        bridge.works().await;
        assert_eq!(link.command(&["verify"]).await.code, 1, "something was lost, or this test shows nothing");
        link.succeed(&["repair", "--from", name, "--execute"]).await;
        link.succeed(&["verify"]).await;
        assert_eq!(bridge.stop().await, 0);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 100);
    }
    link.catch_up().await;
    link.same("SELECT id, note FROM items ORDER BY id").await;
    link.succeed(&["verify"]).await;
}
