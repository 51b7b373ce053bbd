//! Tables are altered on one side and then on the other while a bridge runs and both sides are written: it waits in between, goes on by
//! itself, and no value is lost or lands in another column.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use tokio::task::JoinHandle;

use crate::{
    quarantine::entries,
    support::{Bridge, Database, Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(
    columns_come_and_go,
    a_table_is_swapped_for_another,
    a_column_is_dropped_and_another_added_under_its_name,
    the_last_column_is_dropped_and_another_added_under_its_name,
    so_is_one_of_columns_with_rules,
    a_column_gets_another_name_and_one_another_type,
);

/// Keys below are written on a, from here on on b.
const OF_B: u32 = 1_000_000;

/// What the bridge says when one side is not what the other is.
const WAITS: &str = "waiting until both sides agree on the tables";

async fn ready(kinds: [Kind; 2], rules: &str) -> Link {
    let configuration = format!("[[tables]]\nname = \"items\"\n{rules}");
    let options = LinkOptions { configuration, ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40), n int").await;
    link.succeed(&["setup"]).await;
    link
}

/// An application that inserts rows and changes those of the moment before, some hundred a second, until told to stop; how many rows
/// it has. It names the columns that it knows.
fn writer(node: &Database, first: u32, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    node.application(stop, Duration::from_millis(4), move |time| written_at(first, time))
}

/// What it writes each time.
pub(crate) fn written_at(first: u32, time: u32) -> Vec<String> {
    let (next, before) = (first + time, first + time.saturating_sub(3));
    vec![
        format!("INSERT INTO items (id, name, n) VALUES ({next}, 'of {next}', {next})"),
        format!("UPDATE items SET n = n + 1 WHERE id = {before}"),
    ]
}

/// A bridge that runs, and writers on both sides that have written.
async fn written_on_both_sides(link: &Link) -> (Bridge, Arc<AtomicBool>, [JoinHandle<u32>; 2]) {
    let bridge = link.run();
    bridge.works().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(&link.a, 0, &stop), writer(&link.b, OF_B, &stop)];
    eventually("a has rows", async || link.a.value("SELECT count(*) FROM items WHERE id < 1000000").await != "0").await;
    eventually("b has rows", async || link.b.value("SELECT count(*) FROM items WHERE id >= 1000000").await != "0")
        .await;
    (bridge, stop, writers)
}

/// A change of `items`, as each kind of server wants it.
struct Step {
    postgres: &'static str,
    mysql: &'static str,
    /// The tables are no pair until both have it.
    waits: bool,
}

impl Step {
    const fn alike(statement: &'static str) -> Step {
        Step { postgres: statement, mysql: statement, waits: true }
    }

    async fn on(&self, node: &Database) {
        let what = if node.is_postgres() { self.postgres } else { self.mysql };
        node.run(&format!("ALTER TABLE items {what}")).await;
    }
}

const STEPS: [Step; 7] = [
    Step::alike("ADD COLUMN extra int NOT NULL DEFAULT 5"),
    Step::alike("ADD COLUMN note varchar(20)"),
    Step { postgres: "ALTER COLUMN name TYPE varchar(80)", mysql: "MODIFY COLUMN name varchar(80)", waits: false },
    Step::alike("DROP COLUMN note"),
    // The columns of MySQL's table in another order.
    Step { postgres: "ALTER COLUMN n SET DEFAULT 3", mysql: "MODIFY COLUMN n int DEFAULT 3 FIRST", waits: false },
    Step::alike("ADD COLUMN later int DEFAULT 6"),
    Step::alike("RENAME COLUMN extra TO surplus"),
];

/// How often the bridge has said so.
fn waited(bridge: &Bridge) -> usize {
    bridge.log().matches(WAITS).count()
}

/// Waits until what was written just now on each side is on the other.
async fn cross(link: &Link) {
    let last = ["id < 1000000", "id >= 1000000"];
    let marks = [
        link.a.value(&format!("SELECT max(id) FROM items WHERE {}", last[0])).await,
        link.b.value(&format!("SELECT max(id) FROM items WHERE {}", last[1])).await,
    ];
    eventually("what was written on each side is on the other", async || {
        let on_b = link.b.value(&format!("SELECT count(*) FROM items WHERE id = {}", marks[0])).await;
        let on_a = link.a.value(&format!("SELECT count(*) FROM items WHERE id = {}", marks[1])).await;
        on_a == "1" && on_b == "1"
    })
    .await;
}

async fn columns_come_and_go(kinds: [Kind; 2]) {
    let link = ready(kinds, "").await;
    let (mut bridge, stop, writers) = written_on_both_sides(&link).await;
    for (at, step) in STEPS.iter().enumerate() {
        cross(&link).await;
        let nodes = if at % 2 == 0 { [&link.a, &link.b] } else { [&link.b, &link.a] };
        let before = waited(&bridge);
        step.on(nodes[0]).await;
        if step.waits {
            eventually("the bridge waits", async || waited(&bridge) > before).await;
            let log = bridge.log();
            let told = log.lines().rfind(|line| line.contains(WAITS)).unwrap();
            // What one side has dropped could be added again.
            let added_to = if step.mysql.starts_with("DROP") { at % 2 } else { 1 - at % 2 };
            let name = ["a", "b"][added_to];
            assert!(told.contains(&format!("on {name}: ALTER TABLE ")) && told.contains(" ADD COLUMN "), "{told}");
        }
        step.on(nodes[1]).await;
    }
    cross(&link).await;
    assert!(bridge.is_running());
    let written = written(stop, writers).await;
    link.settle().await;
    let rows = link.same("SELECT id, name, n, surplus, later FROM items ORDER BY id").await;
    assert_eq!(rows.len(), written as usize);
    for row in &rows {
        let [id, name, n, extra, later] = &row[..] else { panic!("{row:?}") };
        assert_eq!(*name, id.as_ref().map(|id| format!("of {id}")), "{row:?}");
        let (id, n) = [id, n].map(|text| text.as_ref().unwrap().parse::<u32>().unwrap()).into();
        assert!((id..id + 6).contains(&n), "{row:?}");
        assert_eq!((extra.as_deref(), later.as_deref()), (Some("5"), Some("6")), "{row:?}");
    }
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// What a log holds of the former does not become a value of the latter, even where it was made on what the latter holds.
async fn a_column_is_dropped_and_another_added_under_its_name(kinds: [Kind; 2]) {
    let link = written_before_it_is_altered(kinds, "").await;
    link.both("ALTER TABLE items DROP COLUMN name").await;
    link.both("ALTER TABLE items ADD COLUMN name varchar(40) DEFAULT 'none'").await;
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 10").await;
    let expected = ["1 1 none", "2 1 none", "3 2 none", "10 1 of a", "20 1 none"];
    crosses(&link, "SELECT id, n, name FROM items ORDER BY id", expected).await;
}

/// It stands where it stood, and in the logs rows of before look like those of now.
async fn the_last_column_is_dropped_and_another_added_under_its_name(kinds: [Kind; 2]) {
    let link = written_before_it_is_altered(kinds, "").await;
    for node in link.nodes() {
        another_last_column(node).await;
    }
    link.a.run("UPDATE items SET n = 8 WHERE id = 10").await;
    let expected = ["1 of before 7", "2 of before 7", "3 of before 7", "10 of before 8", "20 of before 7"];
    crosses(&link, "SELECT id, name, n FROM items ORDER BY id", expected).await;
}

/// One step a side, and a later change that takes no column away.
pub(crate) async fn another_last_column(node: &Database) {
    if node.is_postgres() {
        node.run("ALTER TABLE items DROP COLUMN n").await;
        node.run("ALTER TABLE items ADD COLUMN n int DEFAULT 7").await;
    } else {
        node.run("ALTER TABLE items DROP COLUMN n, ADD COLUMN n int DEFAULT 7").await;
    }
    node.run("CREATE INDEX items_n ON items (n)").await;
}

/// What was changed in the former is no change of the latter.
async fn so_is_one_of_columns_with_rules(kinds: [Kind; 2]) {
    let link = written_before_it_is_altered(kinds, "conflict = \"column_merge\"\n").await;
    for node in link.nodes() {
        another_last_column(node).await;
    }
    let expected = ["1 of before 7", "2 of before 7", "3 of before 7", "10 of before 7", "20 of before 7"];
    crosses(&link, "SELECT id, name, n FROM items ORDER BY id", expected).await;
}

/// Rows under the name and of the type of before, which the log tells and no table does any more.
async fn a_column_gets_another_name_and_one_another_type(kinds: [Kind; 2]) {
    let link = written_before_it_is_altered(kinds, "").await;
    link.both("ALTER TABLE items RENAME COLUMN name TO title").await;
    for node in link.nodes() {
        let change = if node.is_postgres() { "ALTER COLUMN n TYPE" } else { "MODIFY COLUMN n" };
        node.run(&format!("ALTER TABLE items {change} decimal(12,0)")).await;
    }
    link.a.run("UPDATE items SET title = 'of a' WHERE id = 10").await;
    let expected = ["1 1 of before", "2 1 of before", "3 2 of before", "10 1 of a", "20 1 of before"];
    crosses(&link, "SELECT id, n, title FROM items ORDER BY id", expected).await;
}

/// Rows that are on both sides, and what either side writes while no bridge runs: an update of one column, of two, a row that
/// comes, and one that goes.
async fn written_before_it_is_altered(kinds: [Kind; 2], rules: &str) -> Link {
    let link = ready(kinds, rules).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (1, 'none', 1), (2, 'none', 1), (3, 'none', 1), (4, 'none', 1)").await;
    link.settle().await;
    assert_eq!(bridge.stop().await, 0);
    for (node, id) in [(&link.a, 1), (&link.b, 2)] {
        node.run(&format!("UPDATE items SET name = 'of before' WHERE id = {id}")).await;
        node.run(&format!("INSERT INTO items VALUES ({id}0, 'of before', 1)")).await;
    }
    link.a.run("UPDATE items SET name = 'of before', n = n + 1 WHERE id = 3").await;
    link.b.run("DELETE FROM items WHERE id = 4").await;
    link
}

/// It does when the bridge runs, and nobody loses by it.
async fn crosses<const N: usize>(link: &Link, query: &str, expected: [&str; N]) {
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    let rows = link.same(query).await;
    let told: Vec<_> = rows.iter().map(|row| row.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(told, expected);
    link.succeed(&["verify"]).await;
    nobody_lost(link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// As the tools do that alter a table of MySQL beside its writers: a new table is filled by triggers and by a copy, and takes the
/// old one's name.
async fn a_table_is_swapped_for_another(kinds: [Kind; 2]) {
    let link = ready(kinds, "").await;
    let (mut bridge, stop, writers) = written_on_both_sides(&link).await;
    cross(&link).await;
    let (mysql, _) = link.mysql();
    let copied = "REPLACE INTO items_new (id, name, n) VALUES (NEW.id, NEW.name, NEW.n)";
    for statement in [
        "CREATE TABLE items_new LIKE items".to_owned(),
        "ALTER TABLE items_new ADD COLUMN extra int NOT NULL DEFAULT 5 AFTER id".to_owned(),
        // The updates first: an update of a row that was copied by its insert would be lost.
        format!("CREATE TRIGGER copies_updates AFTER UPDATE ON items FOR EACH ROW {copied}"),
        format!("CREATE TRIGGER copies_inserts AFTER INSERT ON items FOR EACH ROW {copied}"),
        "INSERT IGNORE INTO items_new (id, name, n) SELECT id, name, n FROM items LOCK IN SHARE MODE".to_owned(),
        "RENAME TABLE items TO items_old, items_new TO items".to_owned(),
    ] {
        mysql.run(&statement).await;
    }
    bridge.logged(WAITS).await;
    link.postgres().0.run("ALTER TABLE items ADD COLUMN extra int NOT NULL DEFAULT 5").await;
    cross(&link).await;
    mysql.run("DROP TABLE items_old").await;
    cross(&link).await;
    assert!(bridge.is_running());
    let written = written(stop, writers).await;
    link.both("UPDATE items SET extra = 7 WHERE id IN (1, 1000001)").await;
    link.settle().await;
    let rows = link.same("SELECT id, name, n, extra FROM items ORDER BY id").await;
    assert_eq!(rows.len(), written as usize);
    assert_eq!(rows.iter().filter(|row| row[3].as_deref() == Some("5")).count(), rows.len() - 2);
    assert!(rows.iter().all(|row| row[1] == row[0].as_ref().map(|id| format!("of {id}"))));
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// Nothing is in quarantine, and each record is of a row that one side alone had written: what it held in a new column was asked.
pub(crate) async fn nobody_lost(link: &Link) {
    assert!(entries(link).await.is_empty());
    let lost = |rule: &str| rule != "equal" && !rule.starts_with("only_writer: ");
    let records = link.conflicts(&[]).await;
    let record = records.iter().find(|record| record["rule"].as_str().is_none_or(lost));
    assert!(record.is_none(), "{record:?}");
}

/// Stops the writers; how many rows they have written.
async fn written(stop: Arc<AtomicBool>, writers: [JoinHandle<u32>; 2]) -> u32 {
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    written
}
