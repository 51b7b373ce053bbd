//! Three and four databases, joined by bridges in a chain and in a star. A bridge leaves out its own writes alone, so what is
//! written on one node reaches all; and each change has the time of the write that it brings, so every bridge decides as
//! if it had seen the write itself.

use std::time::Duration;

use pontoon_servers::Kind::{self, Mariadb, Mysql, Postgres};
use rand::Rng;
use serde_json::Value as Json;
use tokio::time::sleep;

use crate::support::{
    Bridge, Database, Tail, Tree, a_second_later, eventually,
    workload::{CONFIGURATION_OF_TREES, DUMP_COUNTER, DUMP_LEDGER, DUMP_REGISTERS, Workload, dice, kills},
};

/// Databases in a row: a and b are joined, and b and c.
const CHAIN: &[[usize; 2]] = &[[0, 1], [1, 2]];

/// The bridges of a chain.
const AB: usize = 0;
const BC: usize = 1;

/// One database, a, in the middle of three others.
const STAR: &[[usize; 2]] = &[[0, 1], [0, 2], [0, 3]];

const STAR_KINDS: &[Kind] = &[Postgres, Mariadb, Mysql, Postgres];

/// How long is looked whether something is still written.
const REST: Duration = Duration::from_secs(3);

const CONFIGURATION: &str = r#"
[[tables]]
name = "items"
columns = { stock = "additive" }
[[tables]]
name = "parts"
"#;

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), stock int NOT NULL";

const ALL: &str = "SELECT id, name, stock FROM items ORDER BY id";

/// A test of a body for each of the two chains that are tested in full.
macro_rules! chains {
    ($($body:ident),+ $(,)?) => { $(
        mod $body {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres_mariadb_postgres() {
                super::$body(&[Postgres, Mariadb, Postgres]).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mysql_postgres_mariadb() {
                super::$body(&[Mysql, Postgres, Mariadb]).await;
            }
        }
    )+ };
}

async fn set_up(kinds: &[Kind], joins: &[[usize; 2]]) -> Tree {
    let tree = Tree::start(kinds, joins, CONFIGURATION).await;
    tree.create("items", COLUMNS).await;
    tree.create("parts", "id bigint PRIMARY KEY").await;
    tree
}

async fn stop(bridges: Vec<Bridge>) {
    for bridge in bridges {
        assert_eq!(bridge.stop().await, 0);
    }
}

/// How many changes of `items` are in a log by whom: the name of a bridge, or null.
fn logged(tail: &Tail, origin: Option<&str>) -> usize {
    tail.events("items").iter().filter(|event| event["origin"] == origin.map_or(Json::Null, Json::from)).count()
}

/// Waits until a tail has passed what is written now. Logs are in order: whatever was written before has been seen then.
async fn passes(tail: &Tail, node: &Database, key: usize) {
    let seen = tail.events("parts").len();
    node.run(&format!("INSERT INTO parts (id) VALUES ({key}); DELETE FROM parts WHERE id = {key}")).await;
    eventually("the log is followed", async || tail.events("parts").len() >= seen + 2).await;
}

/// Waits until each log holds so many changes of `items` as were made on each node; then looks that no more come.
async fn each_crosses_once(tree: &Tree, tails: &[Tail], made: &[usize]) {
    let total: usize = made.iter().sum();
    eventually("all is in all logs", async || tails.iter().all(|tail| tail.events("items").len() >= total)).await;
    sleep(REST).await;
    for (number, (node, tail)) in tree.nodes.iter().zip(tails).enumerate() {
        passes(tail, node, 90 + number).await;
        assert_eq!(tail.events("items").len(), total, "{}: changes of all", node.kind);
        assert_eq!(logged(tail, None), made[number], "{}: changes of its own", node.kind);
        for origin in (0..made.len()).filter_map(|from| tree.origin(from, number)) {
            let through = (0..made.len()).filter(|from| tree.origin(*from, number) == Some(origin));
            let expected: usize = through.map(|from| made[from]).sum();
            assert_eq!(logged(tail, Some(origin)), expected, "{}: changes brought by {origin}", node.kind);
        }
    }
}

async fn every_write_crosses_once(kinds: &[Kind], joins: &[[usize; 2]]) {
    let tree = set_up(kinds, joins).await;
    tree.set_up().await;
    let bridges = tree.run_all().await;
    let tails = tree.tails("parts").await;
    let mut made = vec![0; kinds.len()];
    // Between them all is to have crossed: neighbouring changes of one row become one.
    for round in 0..3 {
        for (number, node) in tree.nodes.iter().enumerate() {
            let first = number * 100;
            let rows: Vec<String> = (first..first + 12).map(|id| format!("({id}, 'row {id}', 1)")).collect();
            let (sql, changes) = match round {
                0 => (format!("INSERT INTO items VALUES {}", rows.join(", ")), 12),
                1 => (format!("UPDATE items SET stock = 2 WHERE id BETWEEN {first} AND {}", first + 4), 5),
                _ => (format!("DELETE FROM items WHERE id = {first}"), 1),
            };
            node.run(&sql).await;
            made[number] += changes;
        }
        tree.meet(&[ALL]).await;
    }
    // On rows that came from elsewhere, by every node in turn.
    for (number, node) in tree.nodes.iter().enumerate() {
        node.run(&format!("UPDATE items SET name = 'of {number}', stock = stock + 1 WHERE id % 100 IN (1, 2)")).await;
        made[number] += 2 * kinds.len();
        tree.meet(&[ALL]).await;
    }
    each_crosses_once(&tree, &tails, &made).await;
    let rows = tree.same(ALL).await;
    assert_eq!(rows.len(), 11 * kinds.len());
    for node in &tree.nodes {
        assert_eq!(node.value("SELECT count(*) FROM pontoon.resolution").await, "0", "{}: conflicts", node.kind);
    }
    tree.verify().await;
    stop(bridges).await;
}

async fn chain_crosses_once(kinds: &[Kind]) {
    every_write_crosses_once(kinds, CHAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn star_crosses_once() {
    every_write_crosses_once(STAR_KINDS, STAR).await;
}

/// What is written on nodes that have not seen each other, each a second after the one before it, and what stands on all.
struct Case {
    what: &'static str,
    writes: &'static [(usize, &'static str)],
    /// The name and the stock.
    stands: Option<(&'static str, &'static str)>,
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Every case has a row of its own, `?`, with the name `first` and a stock of 10; or none, where it is inserted.
const CASES: &[Case] = &[
    Case {
        what: "update at one end, later at the other",
        writes: &[
            (A, "UPDATE items SET name = 'of a' WHERE id = ?"),
            (C, "UPDATE items SET name = 'of c' WHERE id = ?"),
        ],
        stands: Some(("of c", "10")),
    },
    Case {
        what: "the same the other way",
        writes: &[
            (C, "UPDATE items SET name = 'of c' WHERE id = ?"),
            (A, "UPDATE items SET name = 'of a' WHERE id = ?"),
        ],
        stands: Some(("of a", "10")),
    },
    Case {
        what: "update at one end, later deleted at the other",
        writes: &[(A, "UPDATE items SET name = 'of a' WHERE id = ?"), (C, "DELETE FROM items WHERE id = ?")],
        stands: None,
    },
    Case {
        what: "deleted at one end, later updated at the other",
        writes: &[(A, "DELETE FROM items WHERE id = ?"), (C, "UPDATE items SET name = 'of c' WHERE id = ?")],
        stands: Some(("of c", "10")),
    },
    Case {
        what: "deleted and inserted again at one end, later updated at the other",
        writes: &[
            (A, "DELETE FROM items WHERE id = ?; INSERT INTO items VALUES (?, 'again', 10)"),
            (C, "UPDATE items SET name = 'of c' WHERE id = ?"),
        ],
        stands: Some(("of c", "10")),
    },
    Case {
        what: "deleted at both ends",
        writes: &[(C, "DELETE FROM items WHERE id = ?"), (A, "DELETE FROM items WHERE id = ?")],
        stands: None,
    },
    Case {
        what: "all three, the last one in the middle",
        writes: &[
            (A, "UPDATE items SET name = 'of a' WHERE id = ?"),
            (C, "UPDATE items SET name = 'of c' WHERE id = ?"),
            (B, "UPDATE items SET name = 'of b' WHERE id = ?"),
        ],
        stands: Some(("of b", "10")),
    },
    Case {
        what: "all three, the last one at an end",
        writes: &[
            (C, "UPDATE items SET name = 'of c' WHERE id = ?"),
            (B, "UPDATE items SET name = 'of b' WHERE id = ?"),
            (A, "UPDATE items SET name = 'of a' WHERE id = ?"),
        ],
        stands: Some(("of a", "10")),
    },
    Case {
        what: "all three add",
        writes: &[
            (A, "UPDATE items SET stock = stock + 5 WHERE id = ?"),
            (B, "UPDATE items SET stock = stock - 3 WHERE id = ?"),
            (C, "UPDATE items SET stock = stock + 70 WHERE id = ?"),
        ],
        stands: Some(("first", "82")),
    },
    Case {
        what: "all three add beside what they overwrite",
        writes: &[
            (C, "UPDATE items SET stock = stock + 5, name = 'of c' WHERE id = ?"),
            (B, "UPDATE items SET stock = stock - 3, name = 'of b' WHERE id = ?"),
            (A, "UPDATE items SET stock = stock + 70, name = 'of a' WHERE id = ?"),
        ],
        stands: Some(("of a", "82")),
    },
    Case {
        what: "inserted at both ends",
        writes: &[(A, "INSERT INTO items VALUES (?, 'of a', 1)"), (C, "INSERT INTO items VALUES (?, 'of c', 2)")],
        stands: Some(("of c", "2")),
    },
];

impl Case {
    fn is_inserted(&self) -> bool {
        self.writes[0].1.starts_with("INSERT")
    }
}

/// How many rows the two ends of a chain write within one second.
const WITHIN_A_SECOND: i64 = 10;

/// Conflicts of both ends, made while no bridge runs, and brought by one bridge before the other begins: if the time of
/// arrival in the middle decided, the earlier write would win.
async fn conflicts_at_both_ends(kinds: &[Kind]) {
    let tree = set_up(kinds, CHAIN).await;
    let orders = [(0, [AB, BC, AB]), (1_000, [BC, AB, BC])];
    for (base, _) in orders {
        for (id, case) in (base..).zip(CASES) {
            if !case.is_inserted() {
                tree.all(&format!("INSERT INTO items VALUES ({id}, 'first', 10)")).await;
            }
        }
        let rows: Vec<String> = (0..WITHIN_A_SECOND).map(|id| format!("({}, 'first', 10)", base + 500 + id)).collect();
        tree.all(&format!("INSERT INTO items VALUES {}", rows.join(", "))).await;
    }
    tree.set_up().await;
    // A second is as fine as MariaDB's own log tells time: what others have written keeps its microseconds on its way.
    let is_fine = kinds[A] != Mariadb && kinds[C] != Mariadb;
    for (base, order) in orders {
        for round in 0..3 {
            for (id, case) in (base..).zip(CASES) {
                if let Some((node, sql)) = case.writes.get(round) {
                    tree.nodes[*node].run(&sql.replace('?', &id.to_string())).await;
                }
            }
            a_second_later().await;
        }
        for id in (0..WITHIN_A_SECOND).filter(|_| is_fine) {
            let ends = if id % 2 == 0 { [(A, "of a"), (C, "of c")] } else { [(C, "of c"), (A, "of a")] };
            for (node, name) in ends {
                let id = base + 500 + id;
                tree.nodes[node].run(&format!("UPDATE items SET name = '{name}' WHERE id = {id}")).await;
            }
        }
        for join in order {
            tree.catch_up(join).await;
        }
        let rows = tree.same(ALL).await;
        let row = |id: i64| rows.iter().find(|row| row[0] == Some(id.to_string()));
        for (id, case) in (base..).zip(CASES) {
            let found = row(id).map(|row| (row[1].as_deref().unwrap(), row[2].as_deref().unwrap()));
            assert_eq!(found, case.stands, "{}, {order:?}", case.what);
        }
        for id in (0..WITHIN_A_SECOND).filter(|_| is_fine) {
            let later = if id % 2 == 0 { "of c" } else { "of a" };
            assert_eq!(row(base + 500 + id).unwrap()[1].as_deref(), Some(later), "of one second, {order:?}");
        }
    }
    tree.verify().await;
}

/// One bridge of a chain is killed and stays away, while all nodes are written and the other one works.
async fn a_bridge_is_down(kinds: &[Kind]) {
    let tree = set_up(kinds, CHAIN).await;
    let rows: Vec<String> = (0..20).map(|id| format!("({id}, 'first', 100)")).collect();
    tree.all(&format!("INSERT INTO items VALUES {}", rows.join(", "))).await;
    tree.set_up().await;
    let mut bridges = tree.run_all().await;
    tree.nodes[A].run("UPDATE items SET stock = stock + 1").await;
    tree.meet(&[ALL]).await;

    bridges.pop().unwrap().kill();
    // Each node adds to all of them; then each names its third of the rows, and the next third after that, on top of what
    // it has seen or not: the last writer of each row is known.
    for round in 0..3 {
        for (number, node) in tree.nodes.iter().enumerate() {
            let third = (number + round) % 3;
            if round == 0 {
                node.run("UPDATE items SET stock = stock + 10 WHERE id < 15").await;
            } else {
                let name = format!("of {number} in {round}");
                node.run(&format!("UPDATE items SET name = '{name}' WHERE id % 3 = {third} AND id < 15")).await;
            }
            node.run("UPDATE items SET stock = stock + 1 WHERE id > 16").await;
        }
        a_second_later().await;
    }
    tree.nodes[A].run("DELETE FROM items WHERE id = 15; INSERT INTO items VALUES (30, 'of a', 3)").await;
    tree.nodes[C].run("DELETE FROM items WHERE id = 16; INSERT INTO items VALUES (31, 'of c', 4)").await;
    tree.settle(AB).await;
    let [a, b] = [&tree.nodes[A], &tree.nodes[B]];
    assert_eq!(a.rows(ALL).await, b.rows(ALL).await, "the bridge that is there goes on");
    assert_ne!(b.rows(ALL).await, tree.nodes[C].rows(ALL).await);

    bridges.push(tree.run(BC));
    tree.meet(&[ALL]).await;
    let rows = tree.same(ALL).await;
    let row = |id: usize| rows.iter().find(|row| row[0] == Some(id.to_string()));
    for id in 0..15 {
        let last = (id % 3 + 1) % 3;
        let expected = [Some(id.to_string()), Some(format!("of {last} in 2")), Some("131".to_owned())];
        assert_eq!(row(id).unwrap()[..], expected, "{id}");
    }
    for id in 17..20 {
        assert_eq!(row(id).unwrap()[2].as_deref(), Some("110"), "{id}");
    }
    assert_eq!([15, 16].map(row), [None, None]);
    assert_eq!([30, 31].map(|id| row(id).unwrap()[1].as_deref()), [Some("of a"), Some("of c")]);
    tree.verify().await;
    stop(bridges).await;
}

/// Writers on every node, and bridges that are killed in any order.
async fn bridges_are_killed(kinds: &[Kind], joins: &[[usize; 2]]) {
    let mut dice = dice();
    let tree = Tree::start(kinds, joins, CONFIGURATION_OF_TREES).await;
    for node in &tree.nodes {
        Workload::create(node).await;
        node.create("parts", "id bigint PRIMARY KEY").await;
    }
    tree.set_up().await;
    let mut bridges = tree.run_all().await;
    let writers: Vec<_> = tree.nodes.iter().map(|node| (node, true)).collect();
    let workload = Workload::of(&writers, &mut dice);
    let (mut at_work, kills) = (0, kills());
    for _ in 0..kills {
        let join = dice.random_range(tree.joins());
        if dice.random_bool(0.6) {
            bridges[join].logged("applied").await;
        }
        sleep(Duration::from_millis(dice.random_range(0..1_200))).await;
        at_work += usize::from(bridges[join].log().contains("applied"));
        let bridge = tree.run(join);
        std::mem::replace(&mut bridges[join], bridge).kill();
    }
    let acked = workload.stop().await;
    let queries = [DUMP_LEDGER, DUMP_REGISTERS, DUMP_COUNTER];
    tree.meet(&queries).await;
    acked.is_on(&tree.nodes).await;
    nothing_is_written(&tree).await;
    tree.verify().await;
    let mut settled = 0;
    for node in &tree.nodes {
        let unexplained =
            "SELECT count(*) FROM pontoon.resolution WHERE rule LIKE 'drift%' OR table_name LIKE '%ledger%'";
        assert_eq!(node.value(unexplained).await, "0", "{}: records without a conflict", node.kind);
        settled += node.value("SELECT count(*) FROM pontoon.resolution").await.parse::<u64>().unwrap();
    }
    println!("{kills} kills, {at_work} of them at work; {acked}; {settled} records");
    assert!(at_work > 0, "none was ever killed at work");
    assert_ne!(settled, 0, "conflicts are part of what is tried here");
    stop(bridges).await;
}

/// At rest no row of the workload is written on any node.
async fn nothing_is_written(tree: &Tree) {
    let tails = tree.tails("parts").await;
    sleep(REST).await;
    for (number, (node, tail)) in tree.nodes.iter().zip(&tails).enumerate() {
        passes(tail, node, 90 + number).await;
        for table in ["ledger", "registers", "counter"] {
            assert_eq!(tail.events(table).len(), 0, "{}: {table} is written at rest", node.kind);
        }
    }
}

async fn chain_is_killed(kinds: &[Kind]) {
    bridges_are_killed(kinds, CHAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn star_is_killed() {
    bridges_are_killed(STAR_KINDS, STAR).await;
}

chains!(chain_crosses_once, conflicts_at_both_ends, a_bridge_is_down, chain_is_killed);
