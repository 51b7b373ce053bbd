//! One of several tables is altered on one side while a bridge runs and both sides are written: it waits alone, through kills too, and goes on
//! from where it stood when both sides agree; what the others did meanwhile is not done again. (`docs/operations.md`, "A change of a table".)

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
    altered::{nobody_lost, written_at},
    at_rest::metric,
    refusals::position_in,
    support::{Bridge, Database, Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(
    one_waits_and_the_others_go_on,
    what_is_tied_to_it_waits_with_it,
    its_log_is_lost_meanwhile,
    a_truncated_one_waits_until_that_is_passed_over,
    a_truncate_is_carried_over,
    a_name_of_before_where_columns_have_rules,
    a_type_of_before_where_columns_have_rules,
    one_that_is_dropped,
);

/// Keys below are written on a, from here on on b.
const OF_B: u32 = 1_000_000;

/// Numbers that both sides add to: so many that none looks as if it went round.
const SHARED: u32 = 40;

const ITEMS: &str = "[[tables]]\nname = \"items\"\n";
const ORDERS: &str = "[[tables]]\nname = \"orders\"\ncolumns = { n = \"additive\" }\n";

const PAGE: &str = "[server]\nlisten = \"127.0.0.1:0\"\n";

/// What the bridge says when it sets a table aside.
const ASIDE: &str = "set aside: the other tables go on";

async fn ready(kinds: [Kind; 2]) -> Link {
    let options = LinkOptions { configuration: format!("{ITEMS}{ORDERS}{PAGE}"), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    link.create("items", "id int PRIMARY KEY, name varchar(40), n int").await;
    link.create("orders", "id int PRIMARY KEY, n bigint NOT NULL").await;
    let all: Vec<String> = (0..SHARED).map(|id| format!("({}, 0)", 500 + id)).collect();
    link.both(&format!("INSERT INTO orders VALUES {}", all.join(", "))).await;
    link.succeed(&["setup"]).await;
    link
}

/// An application that inserts and changes rows of its own in `items`, and adds to the numbers that all share in `orders`, until told to
/// stop; how often.
fn writer(node: &Database, first: u32, stop: &Arc<AtomicBool>) -> JoinHandle<u32> {
    node.application(stop, Duration::from_millis(4), move |time| {
        let mut statements = written_at(first, time);
        statements.insert(1, format!("UPDATE orders SET n = n + 1 WHERE id = {}", 500 + time % SHARED));
        statements
    })
}

/// Waits until a row that is written on each side now is on the other.
async fn orders_cross(link: &Link, key: u32) {
    let insert = |key: u32| format!("INSERT INTO orders VALUES ({key}, 0)");
    link.a.run(&insert(key)).await;
    link.b.run(&insert(key + OF_B)).await;
    eventually("orders cross", async || {
        let there = |key: u32| format!("SELECT count(*) FROM orders WHERE id = {key}");
        link.b.value(&there(key)).await == "1" && link.a.value(&there(key + OF_B)).await == "1"
    })
    .await;
}

/// How many rows each node has that the other one's application wrote.
async fn crossed(link: &Link) -> [String; 2] {
    let on_a = link.a.value("SELECT count(*) FROM items WHERE id >= 1000000").await;
    [on_a, link.b.value("SELECT count(*) FROM items WHERE id < 1000000").await]
}

/// Waits until the bridge has said something so often.
async fn said(bridge: &Bridge, what: &str, times: usize) {
    eventually(what, async || bridge.log().matches(what).count() >= times).await;
}

async fn one_waits_and_the_others_go_on(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let mut bridge = link.run();
    bridge.works().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(&link.a, 0, &stop), writer(&link.b, OF_B, &stop)];
    orders_cross(&link, 10).await;
    for (round, (first, second)) in [(&link.a, &link.b), (&link.b, &link.a)].into_iter().enumerate() {
        let alter = format!("ALTER TABLE items ADD COLUMN extra{round} int NOT NULL DEFAULT 5");
        let before = bridge.log().matches(ASIDE).count();
        first.run(&alter).await;
        said(&bridge, ASIDE, before + 1).await;
        let log = bridge.log();
        let told = log.lines().rfind(|line| line.contains(ASIDE)).unwrap();
        let lacking = if round == 0 { "on b: ALTER TABLE " } else { "on a: ALTER TABLE " };
        assert!(told.contains("table=\"items\"") && told.contains(lacking), "{told}");
        orders_cross(&link, 20 + 100 * round as u32).await;
        let waiting = crossed(&link).await;
        let status: serde_json::Value = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
        assert_eq!(status["tables_set_aside"][0]["table"], "items", "{status}");
        link.command(&["run", "--until-caught-up"]).await.refused(4, "table-unfit");
        // It is kept that it waits, and where.
        bridge.kill();
        let again = link.run();
        again.works().await;
        orders_cross(&link, 30 + 100 * round as u32).await;
        assert_eq!(crossed(&link).await, waiting, "nothing of the table crosses");
        second.run(&alter).await;
        again.logged("no longer set aside").await;
        eventually("the table goes on", async || {
            let now = crossed(&link).await;
            now[0] != waiting[0] && now[1] != waiting[1]
        })
        .await;
        bridge = again;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    link.settle().await;
    let rows = link.same("SELECT id, name, n, extra0, extra1 FROM items ORDER BY id").await;
    assert_eq!(rows.len(), written as usize);
    assert!(rows.iter().all(|row| row[3].as_deref() == Some("5") && row[4].as_deref() == Some("5")));
    let added = link.same("SELECT sum(n) FROM orders").await;
    assert_eq!(added[0][0].as_deref(), Some(written.to_string().as_str()), "each addition counts once");
    link.same("SELECT * FROM orders ORDER BY id").await;
    nobody_lost(&link).await;
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

async fn what_is_tied_to_it_waits_with_it(kinds: [Kind; 2]) {
    let configuration = format!("{ORDERS}[[tables]]\nname = \"parents\"\n[[tables]]\nname = \"children\"\n");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("orders", "id int PRIMARY KEY, n bigint NOT NULL").await;
    link.create("parents", "id int PRIMARY KEY, name varchar(40)").await;
    link.create("children", "id int PRIMARY KEY, parent int NOT NULL, FOREIGN KEY (parent) REFERENCES parents (id)")
        .await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("ALTER TABLE parents ADD COLUMN extra int").await;
    link.a.run("INSERT INTO parents (id, name) VALUES (1, 'new')").await;
    said(&bridge, ASIDE, 2).await;
    assert!(bridge.log().contains("children: a foreign key ties it to parents"), "{}", bridge.log());
    link.a.run("INSERT INTO children VALUES (1, 1)").await;
    orders_cross(&link, 10).await;
    assert_eq!(link.b.value("SELECT count(*) FROM children").await, "0");
    link.b.run("ALTER TABLE parents ADD COLUMN extra int").await;
    link.settle().await;
    link.same("SELECT * FROM children").await;
    assert_eq!(link.b.value("SELECT count(*) FROM children").await, "1");
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// It stays aside while the others go on, and is made equal.
async fn its_log_is_lost_meanwhile(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let ((mysql, name), (postgres, _)) = (link.mysql(), link.postgres());
    link.a.run("INSERT INTO items VALUES (1, 'is changed', 1), (2, 'is removed', 2), (3, 'stays', 3)").await;
    let mut bridge = link.run();
    bridge.works().await;
    link.settle().await;
    let alter = "ALTER TABLE items ADD COLUMN extra int NOT NULL DEFAULT 5";
    mysql.run(alter).await;
    for lost in [
        "INSERT INTO items (id, name, n) VALUES (4, 'is new', 4)",
        "UPDATE items SET n = 7 WHERE id = 1",
        "DELETE FROM items WHERE id = 2",
    ] {
        mysql.run(lost).await;
    }
    said(&bridge, ASIDE, 1).await;
    orders_cross(&link, 10).await;
    mysql.purge_logs().await;
    orders_cross(&link, 15).await;
    postgres.run(alter).await;
    // It is tried, and set aside again.
    bridge.logged("[log-lost]").await;
    assert!(bridge.log().contains(&format!("pontoon resync --from {name} --table items --execute")));
    orders_cross(&link, 20).await;
    assert!(bridge.is_running());
    // What the other side wrote meanwhile is in its log, and is not passed over.
    postgres.run("INSERT INTO items (id, name, n) VALUES (5, 'of the other', 5)").await;
    postgres.run("UPDATE items SET n = 8 WHERE id = 3").await;
    assert_eq!(link.command(&["resync", "--from", name, "--table", "items"]).await.code, 1, "nothing is done yet");
    link.succeed(&["resync", "--from", name, "--table", "items", "--execute"]).await;
    link.settle().await;
    let rows = link.same("SELECT id, n FROM items ORDER BY id").await;
    let rows: Vec<String> =
        rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows, ["1 7", "3 8", "4 4", "5 5"]);
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);

    // Where no bridge runs it works itself, and what is on its way is not taken back.
    mysql.run("UPDATE items SET n = 9 WHERE id = 4").await;
    postgres.run("UPDATE items SET n = 6 WHERE id = 5").await;
    link.succeed(&["resync", "--from", name, "--table", "items", "--execute"]).await;
    let rows = link.same("SELECT n FROM items WHERE id IN (4, 5) ORDER BY id").await;
    assert_eq!(rows, [[Some("9".to_owned())], [Some("6".to_owned())]]);
}

async fn a_truncated_one_waits_until_that_is_passed_over(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let mut bridge = link.run();
    bridge.works().await;
    for (round, (name, node, other)) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)].into_iter().enumerate() {
        let first = 10 * (1 + round as u32);
        node.run(&format!("INSERT INTO items VALUES ({first}, 'before', 1)")).await;
        node.run("TRUNCATE TABLE items").await;
        node.run(&format!("INSERT INTO items VALUES ({}, 'behind', 1)", first + 1)).await;
        said(&bridge, ASIDE, 1 + round).await;
        let log = bridge.log();
        let told = log.lines().rfind(|line| line.contains(ASIDE)).unwrap();
        assert!(told.contains("[truncate-seen]") && told.contains("pontoon skip"), "{told}");
        let position = position_in(told);
        orders_cross(&link, first).await;
        assert!(bridge.is_running());
        let count = |id: u32| format!("SELECT count(*) FROM items WHERE id = {id}");
        assert_eq!(other.value(&count(first)).await, "1", "what was before it has crossed");
        assert_eq!(other.value(&count(first + 1)).await, "0", "what is behind it waits");
        other.run("DELETE FROM items").await;
        link.succeed(&["skip", name, &position, "--execute"]).await;
        said(&bridge, "no longer set aside", 1 + round).await;
        link.settle().await;
        assert_eq!(link.same("SELECT id FROM items").await, [[Some((first + 1).to_string())]]);
        link.a.run("DELETE FROM items").await;
        link.settle().await;
    }
    link.succeed(&["verify"]).await;
    let errors = metric(&bridge, "pontoon_errors_total", "class=\"definite\"").await;
    assert_eq!(errors, 2.0, "one for each side, and none for how it comes to know that tables are others");
    assert_eq!(bridge.stop().await, 0);
}

/// The other side is emptied too, but for what was written there since.
async fn a_truncate_is_carried_over(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let mut bridge = link.run();
    bridge.works().await;
    for (round, (name, node, other)) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)].into_iter().enumerate() {
        let first = 10 * (1 + round as u32);
        let insert = |id: u32, text: &str| format!("INSERT INTO items VALUES ({id}, '{text}', 1)");
        node.run(&insert(first, "goes")).await;
        node.run(&insert(first + 1, "is changed since")).await;
        link.settle().await;
        node.run("TRUNCATE TABLE items").await;
        node.run(&insert(first + 2, "behind")).await;
        said(&bridge, ASIDE, 1 + round).await;
        other.run(&format!("UPDATE items SET n = 7 WHERE id = {}", first + 1)).await;
        other.run(&insert(first + 3, "of the other")).await;
        orders_cross(&link, first).await;
        // While a bridge runs, and where the command is the one that works.
        let resync = ["resync", "--from", name, "--table", "items", "--execute"];
        bridge = if round == 0 {
            link.succeed(&resync).await;
            said(&bridge, "no longer set aside", 1).await;
            bridge
        } else {
            assert_eq!(bridge.stop().await, 0);
            link.succeed(&resync).await;
            link.run()
        };
        link.settle().await;
        let ids = link.same("SELECT id FROM items ORDER BY id").await;
        assert_eq!(ids, [1, 2, 3].map(|at| [Some((first + at).to_string())]), "round {round}");
        link.succeed(&["verify"]).await;
        link.a.run("DELETE FROM items").await;
        link.settle().await;
    }
    // Both logs hold one: where one is passed over, the other is met, by the bridge that runs or by the command.
    let resync = async |from| link.command(&["resync", "--from", from, "--table", "items", "--execute"]).await;
    let both = async || {
        let ended = resync("a").await;
        assert!(ended.code == 1 && ended.err.contains("items: set aside again: the log of b holds"), "{ended:?}");
        assert_eq!(resync("b").await.code, 0);
    };
    for is_beside in [true, false] {
        let before = bridge.log().matches(ASIDE).count();
        for (id, node) in [(91, &link.a), (92, &link.b)] {
            node.run("TRUNCATE TABLE items").await;
            node.run(&format!("INSERT INTO items VALUES ({id}, 'behind', 1)")).await;
        }
        said(&bridge, ASIDE, before + 1).await;
        bridge = if is_beside {
            both().await;
            bridge
        } else {
            assert_eq!(bridge.stop().await, 0);
            both().await;
            link.run()
        };
        link.settle().await;
        assert_eq!(link.same("SELECT id FROM items").await, [[Some("92".to_owned())]]);
    }
    assert_eq!(bridge.stop().await, 0);
}

/// A column is renamed on both sides while rows under its name of before are still to be read.
async fn a_name_of_before_where_columns_have_rules(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    link.edit(ITEMS, &format!("{ITEMS}conflict = \"column_merge\"\n"));
    link.a.run("INSERT INTO items VALUES (1, 'of before', 1)").await;
    let rename = |from: &str, to: &str| format!("ALTER TABLE items RENAME COLUMN {from} TO {to}");
    link.both(&rename("name", "title")).await;
    let mut bridge = link.run();
    bridge.logged(ASIDE).await;
    let log = bridge.log();
    let told = log.lines().rfind(|line| line.contains(ASIDE)).unwrap();
    assert!(told.contains("[schema-changed]"), "{told}");
    orders_cross(&link, 10).await;
    assert!(bridge.is_running());
    assert_eq!(link.b.value("SELECT count(*) FROM items").await, "0");
    link.both(&rename("title", "name")).await;
    bridge.logged("no longer set aside").await;
    link.settle().await;
    assert_eq!(link.same("SELECT name FROM items").await, [[Some("of before".to_owned())]]);
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// A column has another type on both sides while rows of that of before are still to be read, and what they added to it counts.
async fn a_type_of_before_where_columns_have_rules(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    link.both("UPDATE orders SET n = n + 7 WHERE id = 500").await;
    let of_type = async |name: &str| {
        for node in link.nodes() {
            let change = if node.is_postgres() { "ALTER COLUMN n TYPE" } else { "MODIFY COLUMN n" };
            let rest = if node.is_postgres() { "" } else { " NOT NULL" };
            node.run(&format!("ALTER TABLE orders {change} {name}{rest}")).await;
        }
    };
    of_type("decimal(20,0)").await;
    let mut bridge = link.run();
    bridge.logged(ASIDE).await;
    let log = bridge.log();
    let told = log.lines().rfind(|line| line.contains(ASIDE)).unwrap();
    assert!(told.contains("[schema-changed]") && told.contains("another type"), "{told}");
    link.a.run("INSERT INTO items VALUES (1, 'the others go on', 1)").await;
    eventually("the others go on", async || link.b.value("SELECT count(*) FROM items").await == "1").await;
    assert!(bridge.is_running());
    // Of a column with a rule PostgreSQL's log is read as text; what the other's holds is not guessed.
    assert_eq!(link.postgres().0.value("SELECT n FROM orders WHERE id = 500").await, "7");
    of_type("bigint").await;
    bridge.logged("no longer set aside").await;
    link.settle().await;
    assert_eq!(link.same("SELECT n FROM orders WHERE id = 500").await, [[Some("14".to_owned())]]);
    nobody_lost(&link).await;
    assert_eq!(bridge.stop().await, 0);
}

/// The others go on, also when the bridge is started anew.
async fn one_that_is_dropped(kinds: [Kind; 2]) {
    for dropped_on in 0..2 {
        let link = ready(kinds).await;
        let bridge = link.run();
        bridge.works().await;
        orders_cross(&link, 10).await;
        link.nodes()[dropped_on].run("DROP TABLE items").await;
        bridge.logged(ASIDE).await;
        orders_cross(&link, 20).await;
        bridge.kill();
        let bridge = link.run();
        bridge.logged(ASIDE).await;
        orders_cross(&link, 30).await;
        assert_eq!(bridge.stop().await, 0);
    }
}
