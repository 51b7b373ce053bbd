//! A backlog, of which neighbouring runs are written beside each other, is caught up with by a bridge that is killed again and again: every count counts
//! once.

use std::time::Duration;

use pontoon_servers::Kind;
use rand::Rng;
use tokio::time::sleep;

use crate::support::{
    Bridge, Database, Link, LinkOptions, database::insert_numbered, eventually, first_pairing, workload,
};

first_pairing!(is_caught_up_with_under_kills);

/// Rows, all of which both sides count up.
const ROWS: u64 = 20_000;

/// Rows of a transaction, some of which make a run.
const ROWS_AT_ONCE: u64 = 250;

/// How often each side counts each row up: with the rows, some tens of runs.
const TIMES: u64 = 3;

/// How often the bridge is killed.
const KILLS: u32 = 6;

/// How long after it has begun to apply, at most: a part of what all of it takes.
const KILL_WITHIN: Duration = Duration::from_millis(200);

/// Where it has come to, by the word of both sessions.
const NOTED: &str = "SELECT sum(sequence) FROM pontoon.checkpoint WHERE applier IN (0, 2)";

/// What the second session has noted, if it ever has.
const BESIDE: &str = "SELECT count(position) FROM pontoon.checkpoint WHERE applier = 2";

async fn is_caught_up_with_under_kills(kinds: [Kind; 2]) {
    let mut dice = workload::dice();
    let configuration = "[[tables]]\nname = \"items\"\ncolumns = { n = \"additive\" }\n".into();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id int PRIMARY KEY, name varchar(60) NOT NULL, n bigint NOT NULL").await;
    for node in link.nodes() {
        node.run(&insert_numbered(node.kind, "items", ROWS, |n| format!("{n}, concat('row number ', {n}), 0"))).await;
    }
    link.succeed(&["setup"]).await;
    tokio::join!(counts(&link.a, TIMES), counts(&link.b, TIMES));
    for _ in 0..KILLS {
        let bridge = Bridge::start(&link.config(), link.folder.path());
        let before = noted(&link).await;
        eventually("it applies", async || noted(&link).await > before).await;
        sleep(dice.random_range(Duration::ZERO..KILL_WITHIN)).await;
        bridge.kill();
        // What it was about to commit is behind the next one, too.
        counts(&link.a, 1).await;
    }
    link.catch_up().await;
    let all = (2 * TIMES + u64::from(KILLS)).to_string();
    for node in link.nodes() {
        let others = node.rows(&format!("SELECT id, n FROM items WHERE n <> {all} LIMIT 3")).await;
        assert!(others.is_empty(), "{} holds {others:?}, and each row was counted up {all} times", node.kind);
    }
    // Where a reader is slower than its target there is no second run at hand; on neither side that would be no backlog.
    let beside = [link.a.value(BESIDE).await, link.b.value(BESIDE).await];
    assert!(beside.contains(&"1".to_owned()), "two sessions took turns: {beside:?}");
    assert!(link.conflicts(&[]).await.is_empty());
    link.succeed(&["verify"]).await;
}

/// Counts each row up.
async fn counts(node: &Database, times: u64) {
    let mut client = node.client().await;
    for _ in 0..times {
        for first in (1..=ROWS).step_by(ROWS_AT_ONCE as usize) {
            let last = first + ROWS_AT_ONCE - 1;
            client.run(&format!("UPDATE items SET n = n + 1 WHERE id BETWEEN {first} AND {last}")).await;
        }
    }
}

async fn noted(link: &Link) -> u64 {
    link.b.value(NOTED).await.parse().unwrap()
}
