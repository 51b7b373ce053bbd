//! Two databases that already live are joined: what one holds is loaded to the other while both are written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::{Kind, Release};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{
    Bridge, Database, Link, LinkOptions,
    database::{Client, insert_numbered},
    eventually, pairings, workload,
};

const COLUMNS: &str = "id int PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL";

/// Rows that are there before: several chunks' worth.
const ROWS: i64 = 100_000;

/// How many of them are loaded in a second where kills are to find some still to come, however fast the machine is.
const ROWS_PER_SECOND: u32 = 20_000;

/// How often whoever loads is killed.
const KILLS_MAX: u32 = 5;

/// How long after a chunk at most: a small part of what all of them take, so that several kills find some still to come.
const KILL_WITHIN: Duration = Duration::from_millis(100);

/// Rows after which a server is killed: by then they come in chunks that are shared out.
const ROWS_BETWEEN: i64 = 15_000;

const DUMP: &str = "SELECT id, name, quantity FROM items ORDER BY id";

/// The last write of each row and no other is what must be there: who prefers what matters nothing then.
const CONFIGURATION: &str = "[[tables]]\nname = \"items\"\n";

fn fill(kind: Kind) -> String {
    insert_numbered(kind, "items", ROWS as u64, |n| format!("{n}, concat('row number ', {n}), 0"))
}

/// An application that updates, removes and adds rows, among those that are being loaded and others. Each side has its
/// own keys, so that what must be there at the end is known: what it wrote itself.
fn writer(node: &Database, first: i64, seed: u64, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (kind, url, stop) = (node.kind, node.url(), stop.clone());
    tokio::spawn(async move {
        let mut client = Client::connect(kind, &url).await;
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut writes = 0;
        while !stop.load(Ordering::Relaxed) {
            let id = first + 2 * dice.random_range(0..ROWS * 6 / 10);
            let sql = match dice.random_range(0..4) {
                0 => format!("DELETE FROM items WHERE id = {id}"),
                1 if kind == Kind::Postgres => {
                    format!("INSERT INTO items VALUES ({id}, 'new', {writes}) ON CONFLICT (id) DO NOTHING")
                }
                1 => format!("INSERT IGNORE INTO items VALUES ({id}, 'new', {writes})"),
                _ => format!("UPDATE items SET quantity = quantity + 1, name = 'written {writes}' WHERE id = {id}"),
            };
            client.run(&sql).await;
            writes += 1;
            sleep(Duration::from_millis(20)).await;
        }
        writes
    })
}

async fn filled(kinds: [impl Into<Release>; 2], configuration: &str) -> Link {
    let link = Link::start(kinds, LinkOptions { configuration: configuration.into(), ..LinkOptions::default() }).await;
    link.create("items", COLUMNS).await;
    link.a.run(&fill(link.a.kind)).await;
    link.succeed(&["setup"]).await;
    link
}

/// Has the rows come slowly.
fn slowed(link: &Link) {
    link.edit("[limits]\n", &format!("[limits]\nrows_per_second = {ROWS_PER_SECOND}\n"));
}

fn copy(link: &Link) -> Bridge {
    Bridge::command(&link.config(), link.folder.path(), &["copy", "--from", "a"])
}

async fn state(link: &Link) -> serde_json::Value {
    let text = link.b.value("SELECT value FROM pontoon.control WHERE name = 'copy:items'").await;
    serde_json::from_str(&text).unwrap()
}

/// Both sides are written, and whoever loads is killed again and again.
pub(crate) async fn while_both_sides_write(kinds: [impl Into<Release>; 2]) {
    let mut dice = workload::dice();
    let link = filled(kinds, CONFIGURATION).await;
    slowed(&link);
    let stop = Arc::new(AtomicBool::new(false));
    let mut process = Some(copy(&link));
    // Until it is asked for, the target has to be empty.
    eventually("it is asked for", async || {
        !link.b.rows("SELECT 1 FROM pontoon.control WHERE name = 'copy:items'").await.is_empty()
    })
    .await;
    // Rows with odd keys are a's to write, those with even ones b's; all of them are there on a alone.
    let writers = [writer(&link.a, 1, dice.random(), &stop), writer(&link.b, 2, dice.random(), &stop)];
    let mut kills = 0;
    loop {
        let process = process.take().unwrap_or_else(|| copy(&link));
        if kills == KILLS_MAX {
            let ended = process.end().await;
            assert_eq!(ended.code, 0, "{ended:#?}");
            break;
        }
        let rows = state(&link).await["rows"].clone();
        eventually("another chunk arrives", async || state(&link).await["rows"] != rows).await;
        sleep(dice.random_range(Duration::ZERO..KILL_WITHIN)).await;
        process.kill();
        kills += 1;
        if state(&link).await["done"] == true {
            break;
        }
    }
    println!("killed {kills} times: {}", state(&link).await);
    assert!(kills > 1, "it was not cut off");
    stop.store(true, Ordering::Relaxed);
    let mut writes = Vec::new();
    for writer in writers {
        writes.push(writer.await.unwrap());
    }
    link.catch_up().await;
    let rows = link.same(DUMP).await;
    println!("{} rows on both sides after {writes:?} writes", rows.len());
    assert_eq!(state(&link).await["done"], true);
    link.succeed(&["verify"]).await;
    // Nothing that only arrived is a conflict between two writers.
    let contended = link.a.value("SELECT count(*) FROM pontoon.resolution WHERE rule LIKE 'last_writer_wins%'").await;
    assert_eq!(contended, "0", "each row has one writer");
}

/// The server that it goes to is killed again and again, and once more when all is said to be there. What says how far it has come is never there without the
/// rows, though their transactions do not wait for the disk where nobody follows its log.
async fn while_its_target_is_killed(kinds: [Kind; 2]) {
    let mut dice = workload::dice();
    let mut link = filled(kinds, &format!("{CONFIGURATION}direction = \"a->b\"\n")).await;
    slowed(&link);
    let process = copy(&link);
    let asked = "SELECT 1 FROM pontoon.control WHERE name = 'copy:items'";
    eventually("it is asked for", async || !link.b.rows(asked).await.is_empty()).await;
    let mut kills = 0;
    loop {
        let rows = noted(&link).await;
        eventually("chunks arrive", async || noted(&link).await >= (rows + ROWS_BETWEEN).min(ROWS)).await;
        sleep(dice.random_range(Duration::ZERO..KILL_WITHIN)).await;
        if noted(&link).await == ROWS {
            break;
        }
        link.b.server.kill().await.unwrap();
        kills += 1;
        link.b.server.restart().await.unwrap();
        noted_is_there(&link).await;
    }
    println!("killed {kills} times");
    assert!(kills > 1, "it was not cut off");
    let ended = process.end().await;
    link.b.server.kill().await.unwrap();
    assert_eq!(ended.code, 0, "{ended:#?}");
    link.b.server.restart().await.unwrap();
    assert_eq!(state(&link).await["done"], true, "what was said to be done is");
    noted_is_there(&link).await;
    assert_eq!(link.same(DUMP).await.len() as i64, ROWS);
    link.succeed(&["verify"]).await;
}

/// How many rows have arrived, by the word of what is noted.
async fn noted(link: &Link) -> i64 {
    state(link).await["rows"].as_i64().unwrap()
}

async fn noted_is_there(link: &Link) {
    let noted = noted(link).await;
    let there: i64 = link.b.value("SELECT count(*) FROM items").await.parse().unwrap();
    assert!(there >= noted, "{noted} rows are noted, {there} are there");
}

/// Beside a bridge that runs, which does the work; and none of the rows comes back.
async fn beside_run(kinds: [Kind; 2]) {
    let link = filled(kinds, CONFIGURATION).await;
    let bridge = link.run();
    bridge.works().await;
    let said = link.succeed(&["copy", "--from", "a", "--table", "items"]).await;
    assert!(said.contains("items") && said.contains("100,000") && said.contains("copied"), "{said}");
    assert!(bridge.log().contains("copied"), "the one that runs has done it");
    assert_eq!(link.same(DUMP).await.len() as i64, ROWS);
    let noise = "SELECT count(*) FROM pontoon.resolution";
    assert_eq!((link.a.value(noise).await, link.b.value(noise).await), ("0".into(), "0".into()));
    // What is written afterwards crosses as ever, both ways.
    link.a.run("UPDATE items SET quantity = 7 WHERE id = 1").await;
    link.b.run("DELETE FROM items WHERE id = 2").await;
    link.settle().await;
    assert_eq!(link.same(DUMP).await.len() as i64, ROWS - 1);
    eventually("the bridge's rows are no changes", async || bridge.log().contains("echo suppressed")).await;
    assert_eq!(bridge.stop().await, 0);
}

/// Into a table that holds rows already.
async fn into_rows(kinds: [Kind; 2]) {
    let link = filled(kinds, &format!("{CONFIGURATION}conflict = \"prefer:b\"\n")).await;
    // Before there was a bridge: one that is the same, one that is another, one that only b has.
    link.b.run("INSERT INTO items VALUES (1, 'row number 1', 0)").await;
    link.b.run("INSERT INTO items VALUES (2, 'b has another', 5)").await;
    link.succeed(&["teardown", "--execute"]).await;
    link.succeed(&["setup"]).await;
    let refused = link.command(&["copy", "--from", "a"]).await.refused(4, "target-not-empty");
    assert!(refused.message.contains("b: items holds rows already"), "{refused:?}");
    assert!(refused.hint.contains("--merge"), "{refused:?}");
    assert_eq!(link.b.value("SELECT count(*) FROM items").await, "2", "nothing was changed");
    link.succeed(&["copy", "--from", "a", "--merge"]).await;
    link.catch_up().await;
    assert_eq!(link.same(DUMP).await.len() as i64, ROWS);
    assert_eq!(link.a.value("SELECT name FROM items WHERE id = 2").await, "b has another");
    let records = link.b.rows("SELECT row_key, rule FROM pontoon.resolution").await;
    assert_eq!(records, [[Some("[2]".to_owned()), Some("prefer: b".to_owned())]], "what was chosen is on record");
    // Asked for again it is begun anew, and finds nothing to do.
    link.succeed(&["copy", "--from", "a", "--merge"]).await;
    assert_eq!(link.b.value("SELECT count(*) FROM pontoon.resolution").await, "1");
}

pairings!(while_both_sides_write, while_its_target_is_killed, beside_run, into_rows);

/// What cannot be loaded is said with its row, and nothing of its chunk is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_named() {
    let link = filled([Kind::Postgres, Kind::Mariadb], &format!("{CONFIGURATION}on_error = \"stop\"\n")).await;
    link.b.run("ALTER TABLE items ADD CONSTRAINT small CHECK (id <> 20000)").await;
    let refused = link.command(&["copy", "--from", "a"]).await.refused(4, "row-refused");
    assert!(refused.message.contains("the copy of items, rows up to key ("), "{refused:?}");
    assert!(refused.message.contains("small"), "{refused:?}");
    let there: i64 = link.b.value("SELECT count(*) FROM items").await.parse().unwrap();
    assert!((1..20_000).contains(&there), "{there} rows: whole chunks before it");
    assert_eq!(state(&link).await["rows"], there);
    link.b.run("ALTER TABLE items DROP CONSTRAINT small").await;
    link.succeed(&["copy", "--from", "a"]).await;
    link.same(DUMP).await;
}

/// The rest is copied, and what was refused comes when the obstacle is gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_goes_into_quarantine() {
    let link = filled([Kind::Postgres, Kind::Mariadb], CONFIGURATION).await;
    link.b.run("ALTER TABLE items ADD CONSTRAINT small CHECK (id NOT IN (7, 20000))").await;
    let all: i64 = link.a.value("SELECT count(*) FROM items").await.parse().unwrap();
    link.succeed(&["copy", "--from", "a"]).await;
    assert_eq!(link.b.value("SELECT count(*) FROM items").await, (all - 2).to_string());
    let listed = link.succeed(&["quarantine", "list"]).await;
    assert!(listed.contains("[7]") && listed.contains("[20000]") && listed.contains("settlement"), "{listed}");
    link.b.run("ALTER TABLE items DROP CONSTRAINT small").await;
    let bridge = link.run();
    eventually("they are there", async || link.b.value("SELECT count(*) FROM items").await == all.to_string()).await;
    link.same(DUMP).await;
    assert_eq!(bridge.stop().await, 0);
}

/// A direction that the table has not.
#[tokio::test(flavor = "multi_thread")]
async fn only_where_its_rows_go() {
    let link = filled([Kind::Postgres, Kind::Mariadb], &format!("{CONFIGURATION}direction = \"b->a\"\n")).await;
    let refused = link.command(&["copy", "--from", "a"]).await.refused(2, "config-invalid");
    assert!(refused.message.contains("items: its direction is not from a"), "{refused:?}");
    link.command(&["copy", "--from", "c"]).await.refused(2, "config-invalid");
    link.command(&["copy", "--from", "a", "--table", "item"]).await.refused(2, "config-invalid");
}
