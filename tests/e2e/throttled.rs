//! `throttle`: no more rows are applied than an operator has said, by whichever process works, and a bridge that runs heeds another word.

use std::time::Instant;

use pontoon_servers::Kind;
use serde_json::Value as Json;

use crate::{
    commands::{get, with_page},
    support::{Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(held_back_and_let_go, as_the_configuration_says);

const COUNT: &str = "SELECT count(*) FROM items";

/// Rows in a second.
const LIMIT: u32 = 20;

async fn ready(kinds: [Kind; 2]) -> (Link, String) {
    let (configuration, address) = with_page();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40)").await;
    link.succeed(&["setup"]).await;
    (link, address)
}

/// The document's part about each direction, by its source.
async fn directions(link: &Link) -> [Json; 2] {
    let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    [0, 1].map(|at| status["directions"][at].clone())
}

async fn is_throttled(link: &Link) -> [bool; 2] {
    directions(link).await.map(|direction| direction["state"] == "throttled")
}

/// How many rows have come from a to b since there were `before`, which are not to be more than `LIMIT` allows. By the time from
/// before anything was written until after it was counted, so that a slow machine makes no more of it.
async fn keeps_to_the_limit(link: &Link, began: Instant, before: u32) -> u32 {
    let rows: u32 = link.b.value(COUNT).await.parse().unwrap();
    // A second's worth may have been saved up, and the last run be owed.
    let allowed = (began.elapsed().as_secs_f64() + 1.0) * f64::from(LIMIT) + f64::from(LIMIT) / 10.0;
    assert!(f64::from(rows - before) <= allowed, "{rows} less {before} rows are more than {allowed}");
    rows
}

async fn held_back_and_let_go(kinds: [Kind; 2]) {
    let (link, address) = ready(kinds).await;
    link.command(&["throttle", "a->c", "--off"]).await.refused(2, "config-invalid");
    assert_eq!(link.command(&["throttle", "a->b"]).await.code, 2);
    let said = link.succeed(&["throttle", "a->b", "--rows-per-second", &LIMIT.to_string()]).await;
    assert_eq!(said, "a -> b: at most 20 rows in a second\n");

    let bridge = link.run();
    bridge.works().await;
    let began = Instant::now();
    let (mut on_a, mut on_b) = (link.a.client().await, link.b.client().await);
    for id in 0..400 {
        on_a.run(&format!("INSERT INTO items VALUES ({id}, 'of a')")).await;
        on_b.run(&format!("INSERT INTO items VALUES ({}, 'of b')", 1000 + id)).await;
    }
    eventually("the other direction is as fast as ever", async || {
        keeps_to_the_limit(&link, began, 400).await;
        link.a.value(COUNT).await == "800"
    })
    .await;
    eventually("it is held back", async || is_throttled(&link).await == [true, false]).await;
    assert_eq!(directions(&link).await[0]["throttled_rows_per_second"], LIMIT);
    assert!(link.succeed(&["status"]).await.contains("throttled to 20 rows/s"));
    let (_, page) = get(&address, "/metrics").await.unwrap();
    let gauge = |state: &str| {
        let series = "pontoon_direction_state{bridge=\"e2e\",source=\"a\",";
        let is_it = |line: &&str| line.starts_with(series) && line.contains(&format!("state=\"{state}\""));
        page.lines().find(is_it).unwrap().ends_with(" 1")
    };
    assert!(gauge("throttled") && !gauge("streaming") && !gauge("catching_up"), "{page}");
    let before = keeps_to_the_limit(&link, began, 400).await;
    eventually("and goes on", async || keeps_to_the_limit(&link, began, 400).await > before + 10).await;

    // Whatever becomes of the process.
    bridge.kill();
    let (before, began) = (link.b.value(COUNT).await.parse().unwrap(), Instant::now());
    let bridge = link.run();
    eventually("it goes on, held back", async || {
        let rows = keeps_to_the_limit(&link, began, before).await;
        rows > before + 10 && is_throttled(&link).await == [true, false]
    })
    .await;

    // At this pace it would take hours.
    link.a.run("INSERT INTO items SELECT id + 10000, name FROM items").await;
    assert_eq!(
        link.succeed(&["throttle", "a->b", "--rows-per-second", "1"]).await,
        "a -> b: at most 1 rows in a second\n"
    );
    eventually("another limit is taken up", async || directions(&link).await[0]["throttled_rows_per_second"] == 1)
        .await;
    assert_eq!(link.succeed(&["throttle", "--off"]).await, "a -> b: as fast as it can\nb -> a: as fast as it can\n");
    link.settle().await;
    assert_eq!(link.same("SELECT id, name FROM items ORDER BY id").await.len(), 1600);
    eventually("nothing is held back", async || is_throttled(&link).await == [false, false]).await;
    assert!(link.conflicts(&[]).await.is_empty());
    assert_eq!(bridge.stop().await, 0);
}

/// The configuration's limit counts until an operator says otherwise, and again when they take that back. A transaction crosses
/// as one, whatever the limit.
async fn as_the_configuration_says(kinds: [Kind; 2]) {
    let (link, _) = ready(kinds).await;
    link.edit("[limits]\n", "[limits]\nrows_per_second = 1\n");
    let bridge = link.run();
    bridge.works().await;
    let mut client = link.a.client().await;
    client.run("BEGIN").await;
    for id in 0..300 {
        client.run(&format!("INSERT INTO items VALUES ({id}, 'together')")).await;
    }
    client.run("COMMIT").await;
    client.run("INSERT INTO items VALUES (300, 'behind')").await;
    eventually("the transaction has crossed, and what is behind it waits", async || {
        let rows = link.b.value(COUNT).await;
        assert!(rows == "0" || rows == "300", "{rows}");
        rows == "300" && is_throttled(&link).await[0]
    })
    .await;

    let said = link.succeed(&["throttle", "a->b", "--off"]).await;
    assert_eq!(said, "a -> b: as fast as it can\n");
    link.settle().await;
    assert_eq!(link.b.value(COUNT).await, "301");
    let said = link.succeed(&["throttle", "a->b", "--default"]).await;
    assert_eq!(said, "a -> b: at most 1 rows in a second, as the configuration has it\n");
    let mut id = 1000;
    eventually("it is held back again", async || {
        for _ in 0..10 {
            id += 1;
            client.run(&format!("INSERT INTO items VALUES ({id}, 'once more')")).await;
        }
        is_throttled(&link).await[0]
    })
    .await;
    assert_eq!(bridge.stop().await, 0, "it ends when it is told to");
}
