//! Tables come and go while a bridge runs: the file is edited, `setup` is run again, and the bridge takes it up by itself. What the logs hold of
//! a new table from before is not applied; what is written from then on is, on both sides.

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

use crate::support::{Bridge, Database, Link, LinkOptions, bridge::pontoon, eventually, first_pairing, workload};

first_pairing!(come_and_go, is_loaded_while_both_sides_write, one_way_and_both_ways);

const ITEMS: &str = "[[tables]]\nname = \"items\"\n";
const ORDERS: &str = "[[tables]]\nname = \"orders\"\ncolumns = { n = \"additive\" }\n";

const ROWS: i64 = 50;

/// An application that adds to the numbers of `orders` until told to stop; how often.
fn writer(node: &Database, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    let mut dice = SmallRng::seed_from_u64(seed);
    node.application(stop, Duration::ZERO, move |_| {
        vec![format!("UPDATE orders SET n = n + 1 WHERE id = {}", dice.random_range(1..=ROWS))]
    })
}

async fn ready(kinds: [Kind; 2]) -> Link {
    let options = LinkOptions { configuration: ITEMS.into(), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40)").await;
    link.create("orders", "id int PRIMARY KEY, n bigint NOT NULL").await;
    link.succeed(&["setup"]).await;
    link
}

/// What the numbers of `orders` come to on a node.
async fn sum(node: &Database) -> i64 {
    node.value("SELECT coalesce(sum(n), 0) FROM orders").await.parse().unwrap()
}

/// Waits until the bridge has taken the configuration up once more.
async fn taken_up(bridge: &Bridge, times: usize) {
    let said = "the tables are fit to be bridged; going on";
    eventually("the bridge has other tables", async || bridge.log().matches(said).count() >= times).await;
}

/// A row that is written on each node now has crossed.
async fn crosses(link: &Link, table: &str, column: &str, first: i64) {
    link.a.run(&format!("INSERT INTO {table} (id, {column}) VALUES ({first}, 1)")).await;
    link.b.run(&format!("INSERT INTO {table} (id, {column}) VALUES ({}, 1)", first + 1)).await;
    link.settle().await;
    let there = format!("SELECT count(*) FROM {table} WHERE id IN ({first}, {})", first + 1);
    assert_eq!(link.same(&there).await[0][0].as_deref(), Some("2"), "{table}");
}

async fn come_and_go(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let fill = |from: i64| (from..from + ROWS).map(|id| format!("({id}, 1)")).collect::<Vec<_>>().join(", ");
    link.both(&format!("INSERT INTO orders VALUES {}", fill(1))).await;
    let bridge = link.run();
    bridge.works().await;
    crosses(&link, "items", "name", 1).await;
    let early = link.folder.path().join("early");
    std::fs::create_dir(&early).unwrap();
    std::fs::copy(link.config(), early.join("pontoon.toml")).unwrap();

    // Both logs hold changes of `orders` that the bridge has not come to when it is added. Both sides had them already.
    link.succeed(&["pause"]).await;
    for _ in 0..5 {
        link.both("UPDATE orders SET n = n + 1").await;
    }
    link.configure(&format!("{ITEMS}{ORDERS}"));
    let refused = link.command(&["run", "--until-caught-up"]).await.refused(4, "tables-changed");
    assert!(refused.message.contains("orders") && refused.hint.contains("pontoon setup"), "{refused:?}");
    let added = link.succeed(&["setup"]).await;
    assert!(added.contains("orders"), "{added}");
    // A process with the file of before would pass over what is written of it.
    let refused =
        pontoon(&early.join("pontoon.toml"), &["run", "--until-caught-up"]).await.refused(4, "tables-changed");
    assert!(refused.message.contains("orders"), "{refused:?}");
    let before = 6 * ROWS;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(&link.a, 1, &stop), writer(&link.b, 2, &stop)];
    taken_up(&bridge, 1).await;
    link.succeed(&["resume"]).await;
    crosses(&link, "items", "name", 11).await;
    eventually("additions cross", async || sum(&link.a).await > before && sum(&link.b).await > before).await;
    stop.store(true, Ordering::Relaxed);
    let mut after = before;
    for writer in writers {
        after += i64::from(writer.await.unwrap());
    }
    link.settle().await;
    assert_eq!((sum(&link.a).await, sum(&link.b).await), (after, after), "each addition counts once on both sides");
    link.same("SELECT id, n FROM orders ORDER BY id").await;
    assert!(link.conflicts(&[]).await.is_empty());

    // Taken out again: the rest goes on, and what is written of it stays where it is.
    link.configure(ITEMS);
    link.succeed(&["setup"]).await;
    taken_up(&bridge, 2).await;
    link.a.run("UPDATE orders SET n = n + 100 WHERE id = 1").await;
    crosses(&link, "items", "name", 21).await;
    assert_eq!((sum(&link.a).await, sum(&link.b).await), (after + 100, after));

    // And put back, as if it were new: what it was meanwhile is brought by a copy.
    link.configure(&format!("{ITEMS}{ORDERS}"));
    link.succeed(&["setup"]).await;
    taken_up(&bridge, 3).await;
    crosses(&link, "items", "name", 31).await;
    assert_eq!((sum(&link.a).await, sum(&link.b).await), (after + 100, after), "nothing of before is applied");
    link.succeed(&["verify", "--table", "items"]).await;
    assert_eq!(
        link.command(&["verify", "--table", "orders"]).await.code,
        1,
        "it differs, and nothing was said of that"
    );
    link.succeed(&["copy", "--from", "a", "--table", "orders", "--merge"]).await;
    crosses(&link, "orders", "n", 1000).await;
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

/// A table that one side alone has rows of, added to a bridge that runs, while both sides write it: it is set up and copied, and each addition
/// counts once.
async fn is_loaded_while_both_sides_write(kinds: [Kind; 2]) {
    let mut dice = workload::dice();
    let link = ready(kinds).await;
    for id in 1..=ROWS {
        link.a.run(&format!("INSERT INTO orders VALUES ({id}, 1)")).await;
    }
    let bridge = link.run();
    bridge.works().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(&link.a, dice.random(), &stop), writer(&link.b, dice.random(), &stop)];
    eventually("a writes", async || sum(&link.a).await > ROWS).await;
    link.configure(&format!("{ITEMS}{ORDERS}"));
    link.succeed(&["setup"]).await;
    link.succeed(&["copy", "--from", "a", "--table", "orders", "--merge"]).await;
    let copied = sum(&link.b).await;
    eventually("additions cross", async || sum(&link.a).await > copied + 50 && sum(&link.b).await > copied + 50).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    link.settle().await;
    assert_eq!(link.same("SELECT id, n FROM orders ORDER BY id").await.len() as i64, ROWS);
    link.succeed(&["verify"]).await;
    crosses(&link, "items", "name", 1).await;
    assert_eq!(bridge.stop().await, 0);
}

/// A bridge that goes one way goes both ways, and one way again, without a copy: what was written on b before stays there.
async fn one_way_and_both_ways(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let one_way = format!("{ITEMS}direction = \"a->b\"\n");
    link.configure(&one_way);
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    for round in 0..2 {
        let id = 1 + 10 * round;
        link.a.run(&format!("INSERT INTO items VALUES ({id}, 'of a')")).await;
        link.b.run(&format!("INSERT INTO items VALUES ({}, 'stays on b')", id + 1)).await;
        link.settle().await;
        assert_eq!(on(&link.b, id).await, "1");
        assert_eq!(on(&link.a, id + 1).await, "0", "one way");
        if link.b.is_postgres() {
            assert_eq!(link.b.value("SELECT count(*) FROM pg_replication_slots").await, "0", "nobody reads its log");
        }

        link.configure(ITEMS);
        link.succeed(&["setup"]).await;
        taken_up(&bridge, 2 * round as usize + 1).await;
        crosses(&link, "items", "name", i64::from(id + 4)).await;
        assert_eq!(on(&link.a, id + 1).await, "0", "what was written before stays there");

        link.configure(&one_way);
        link.succeed(&["setup"]).await;
        taken_up(&bridge, 2 * round as usize + 2).await;
    }
    assert!(link.conflicts(&[]).await.is_empty());
    assert_eq!(bridge.stop().await, 0);
}

/// How many rows of `items` a node has of a key.
async fn on(node: &Database, id: i32) -> String {
    node.value(&format!("SELECT count(*) FROM items WHERE id = {id}")).await
}
