//! `pontoon verify`: what it finds, what it does not take for a difference, and how tables are compared.

use pontoon_servers::{Kind, Release};
use serde_json::{Value, json};

use crate::{
    commands::{get, sample, time, unseen},
    support::{
        Bridge, Database, Ended, Link, LinkOptions, database::insert_numbered, eventually, first_pairing, workload,
    },
};

first_pairing!(planted_in_tables_of_all_keys, running_writers, no_bridge_and_a_slow_one, a_cascade_that_is_not_logged);

/// More than two spans of the first length.
const MANY: u64 = 25_000;

/// A table and how it is compared between PostgreSQL and another server.
struct Planted {
    name: &'static str,
    /// Its columns on PostgreSQL, MariaDB and MySQL.
    columns: [&'static str; 3],
    compared: [&'static str; 2],
    /// What is selected for the row of a number.
    row: fn(Kind, &str) -> String,
    /// What is only on A, only on B, and what each side makes another of the same row.
    only: [&'static str; 2],
    changes: &'static [[&'static str; 2]],
    /// The keys of all of these, and in which columns those differ that are on both.
    keys: fn() -> Vec<(Value, &'static str, Value)>,
}

fn tables() -> Vec<Planted> {
    vec![
        Planted {
            name: "numbers",
            columns: ["id bigint PRIMARY KEY, a varchar(60), b varchar(60), n int"; 3],
            compared: ["in the databases"; 2],
            row: |_, n| format!("{n}, concat('a ', {n}), concat('b ', {n}), 7"),
            // Before every key of the other side, and behind all of them.
            only: ["INSERT INTO numbers VALUES (-5, '', '', 1)", "INSERT INTO numbers VALUES (99999, '', '', 1)"],
            changes: &[
                ["UPDATE numbers SET a = NULL WHERE id = 3", "UPDATE numbers SET a = '' WHERE id = 3"],
                ["UPDATE numbers SET a = NULL WHERE id = 4", "UPDATE numbers SET a = '~' WHERE id = 4"],
                // One text, divided in two places.
                [
                    "UPDATE numbers SET a = 'p', b = '1|q' WHERE id = 20000",
                    "UPDATE numbers SET a = 'p|1', b = 'q' WHERE id = 20000",
                ],
                ["UPDATE numbers SET n = NULL WHERE id = 20001", "UPDATE numbers SET n = 0 WHERE id = 20001"],
                ["UPDATE numbers SET n = 8 WHERE id = 24999", "UPDATE numbers SET n = 7 WHERE id = 24999"],
            ],
            keys: || {
                vec![
                    (json!({"id": -5}), "only on a", json!([])),
                    (json!({"id": 3}), "different", json!(["a"])),
                    (json!({"id": 4}), "different", json!(["a"])),
                    (json!({"id": 20000}), "different", json!(["a", "b"])),
                    (json!({"id": 20001}), "different", json!(["n"])),
                    (json!({"id": 24999}), "different", json!(["n"])),
                    (json!({"id": 99999}), "only on b", json!([])),
                ]
            },
        },
        Planted {
            name: "words",
            columns: [
                "id varchar(40) PRIMARY KEY, a int",
                "id varchar(40) COLLATE utf8mb4_nopad_bin PRIMARY KEY, a int",
                "id varchar(40) COLLATE utf8mb4_0900_bin PRIMARY KEY, a int",
            ],
            compared: ["key by key"; 2],
            row: |_, n| format!("concat('w', {n}), 1"),
            only: ["INSERT INTO words VALUES ('A', 1)", "INSERT INTO words VALUES ('ä', 1)"],
            changes: &[["UPDATE words SET a = 2 WHERE id = 'w77'", "UPDATE words SET a = NULL WHERE id = 'w77'"]],
            keys: || {
                vec![
                    (json!({"id": "A"}), "only on a", json!([])),
                    (json!({"id": "w77"}), "different", json!(["a"])),
                    (json!({"id": "ä"}), "only on b", json!([])),
                ]
            },
        },
        Planted {
            name: "sixteen",
            columns: ["id uuid PRIMARY KEY, a int", "id uuid PRIMARY KEY, a int", "id binary(16) PRIMARY KEY, a int"],
            compared: ["key by key", "in the databases"],
            row: |kind, n| match kind {
                Kind::Postgres => format!("lpad({n}::text, 32, '0')::uuid, 1"),
                Kind::Mariadb => {
                    format!("concat('00000000-0000-0000-0000-', lpad({n}, 12, '0')), 1")
                }
                Kind::Mysql => format!("unhex(lpad({n}, 32, '0')), 1"),
            },
            only: ["", ""],
            changes: &[["UPDATE sixteen SET a = 2", "UPDATE sixteen SET a = 1"]],
            keys: Vec::new,
        },
        Planted {
            name: "octets",
            columns: [
                "id bytea PRIMARY KEY, a int",
                "id varbinary(20) PRIMARY KEY, a int",
                "id varbinary(20) PRIMARY KEY, a int",
            ],
            compared: ["in the databases"; 2],
            row: |kind, n| match kind {
                Kind::Postgres => format!("convert_to({n}::text, 'UTF8'), 1"),
                _ => format!("{n}, 1"),
            },
            only: ["INSERT INTO octets VALUES ('', 1)", "INSERT INTO octets VALUES ('~', 1)"],
            changes: &[["UPDATE octets SET a = 2 WHERE id = '12'", "UPDATE octets SET a = 1 WHERE id = '12'"]],
            keys: || {
                vec![
                    (json!({"id": ""}), "only on a", json!([])),
                    (json!({"id": "MTI="}), "different", json!(["a"])),
                    (json!({"id": "fg=="}), "only on b", json!([])),
                ]
            },
        },
        Planted {
            name: "pairs",
            columns: ["x int, y date, a varchar(9), PRIMARY KEY (x, y)"; 3],
            compared: ["in the databases"; 2],
            row: |kind, n| match kind {
                Kind::Postgres => format!("{n} / 500, date '2020-01-01' + ({n} % 500)::int, 'x'"),
                _ => format!("{n} DIV 500, date '2020-01-01' + INTERVAL {n} % 500 DAY, 'x'"),
            },
            only: [
                "INSERT INTO pairs VALUES (1, '2019-12-31', 'x')",
                "INSERT INTO pairs VALUES (1, '2029-12-31', 'x'), (-1, '2020-01-01', 'x')",
            ],
            changes: &[[
                "UPDATE pairs SET a = 'y' WHERE x = 2 AND y = '2020-01-31'",
                "UPDATE pairs SET a = 'z' WHERE x = 2 AND y = '2020-01-31'",
            ]],
            keys: || {
                vec![
                    (json!({"x": -1, "y": "2020-01-01"}), "only on b", json!([])),
                    (json!({"x": 1, "y": "2019-12-31"}), "only on a", json!([])),
                    (json!({"x": 1, "y": "2029-12-31"}), "only on b", json!([])),
                    (json!({"x": 2, "y": "2020-01-31"}), "different", json!(["a"])),
                ]
            },
        },
        Planted {
            name: "measures",
            columns: [
                "id int PRIMARY KEY, x double precision",
                "id int PRIMARY KEY, x double",
                "id int PRIMARY KEY, x double",
            ],
            compared: ["in the bridge"; 2],
            row: |_, n| format!("{n}, {n} + 0.5"),
            only: ["INSERT INTO measures VALUES (0, 1)", "INSERT INTO measures VALUES (3001, 1), (3002, 1)"],
            changes: &[["UPDATE measures SET x = 0 WHERE id = 2100", "UPDATE measures SET x = NULL WHERE id = 2100"]],
            keys: || {
                vec![
                    (json!({"id": 0}), "only on a", json!([])),
                    (json!({"id": 2100}), "different", json!(["x"])),
                    (json!({"id": 3001}), "only on b", json!([])),
                    (json!({"id": 3002}), "only on b", json!([])),
                ]
            },
        },
    ]
}

fn at(kind: Kind) -> usize {
    match kind {
        Kind::Postgres => 0,
        Kind::Mariadb => 1,
        Kind::Mysql => 2,
    }
}

fn document(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:#?}"))
}

pub(crate) async fn planted_in_tables_of_all_keys(kinds: [impl Into<Release>; 2]) {
    let tables = tables();
    let mut configuration: String =
        tables.iter().map(|table| format!("[[tables]]\nname = \"{}\"\n", table.name)).collect();
    configuration += "[server]\nlisten = \"127.0.0.1:0\"\n";
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for node in link.nodes() {
        for table in &tables {
            node.create(table.name, table.columns[at(node.kind)]).await;
            let rows = if table.name == "numbers" { MANY } else { 3_000 };
            node.run(&insert_numbered(node.kind, table.name, rows, |n| (table.row)(node.kind, n))).await;
        }
    }
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let before = document(&link.command(&["verify", "--json"]).await);
    assert_eq!((&before["equal"], &before["fenced"]), (&true.into(), &true.into()), "{before:#}");
    shown(&bridge, [0; 3]).await;

    // While it is away, as by somebody whose writes are in no log.
    assert_eq!(bridge.stop().await, 0);
    let mut sessions = [unseen(&link.a).await, unseen(&link.b).await];
    for table in &tables {
        for (side, session) in sessions.iter_mut().enumerate() {
            for statement in table.changes.iter().map(|pair| pair[side]).chain([table.only[side]]) {
                if !statement.is_empty() {
                    session.run(statement).await;
                }
            }
        }
    }
    drop(sessions);
    let bridge = link.run();
    bridge.works().await;
    let ended = link.command(&["verify", "--json"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let found = document(&ended);
    assert_eq!(found["fenced"], true);
    let mysql = link.mysql().0.kind;
    let mut different = 0;
    for table in &tables {
        let of = |document: &Value| {
            let tables = document["tables"].as_array().unwrap();
            tables.iter().find(|found| found["table"] == table.name).unwrap().clone()
        };
        let (before, found) = (of(&before), of(&found));
        let compared = table.compared[at(mysql) - 1];
        assert_eq!((&before["compared"], &found["compared"]), (&compared.into(), &compared.into()), "{}", table.name);
        different += found["rows_different"].as_u64().unwrap();
        if table.name == "sixteen" {
            // All of them, of which a part is shown.
            assert_eq!(found["rows_different"], 3_000, "{found:#}");
            assert_eq!(found["differences"].as_array().unwrap().len(), 1_000);
            continue;
        }
        let expected = (table.keys)();
        let differences = found["differences"].as_array().unwrap();
        let shown: Vec<(Value, &str, Value)> = differences
            .iter()
            .map(|one| (one["key"].clone(), one["kind"].as_str().unwrap(), one["columns"].clone()))
            .collect();
        assert_eq!(shown, expected, "{}", table.name);
        assert_eq!(found["rows_different"], expected.len(), "{}", table.name);
        for node in ["a", "b"] {
            let only = expected.iter().filter(|(_, kind, _)| *kind == format!("only on {node}")).count() as u64;
            assert_eq!(found["rows_only_on"][node], only, "{} {node}", table.name);
            let rows = before["rows"][node].as_u64().unwrap() + only;
            assert_eq!(found["rows"][node], rows, "{} {node}", table.name);
        }
    }
    assert_eq!(found["rows_different"], different);
    let only = |node: &str| {
        let tables = found["tables"].as_array().unwrap();
        tables.iter().map(|table| table["rows_only_on"][node].as_u64().unwrap()).sum::<u64>()
    };
    let rows = [different - only("a") - only("b"), only("a"), only("b")];
    let equal_at = shown(&bridge, rows).await;
    assert!((equal_at - time::now() as f64).abs() < 600.0, "when they were equal stays: {equal_at}");
    let ended = link.command(&["verify", "--table", "pairs"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("pairs {\"x\":2,\"y\":\"2020-01-31\"}: different in a\n"), "{ended:?}");
    assert_eq!(bridge.stop().await, 0);
}

/// Waits until the bridge shows so many rows that differ, only on a and only on b; and when both sides were last equal.
async fn shown(bridge: &Bridge, rows: [u64; 3]) -> f64 {
    let mut equal_at = f64::NAN;
    eventually(&format!("the bridge shows {rows:?}"), async || {
        let page = get(&bridge.page().await, "/metrics").await.unwrap().1;
        let of = |kind| sample(&page, "pontoon_verify_rows_different", &[("kind", kind)]).unwrap();
        equal_at = sample(&page, "pontoon_verify_last_success_timestamp_seconds", &[]).unwrap();
        ["different", "only on a", "only on b"].map(of) == rows.map(|rows| rows as f64)
    })
    .await;
    equal_at
}

/// Writers on both sides, of whom some write the same rows: what is on its way is no difference.
async fn running_writers(kinds: [Kind; 2]) {
    let link = workload::Workload::link(kinds).await;
    let bridge = link.run();
    bridge.works().await;
    let writers = workload::Workload::start(&link, &mut workload::dice());
    let mut looks = 0;
    // Until some was seen on its way and some was settled, and a few times at least.
    eventually("rows are seen on their way, and a conflict is settled", async || {
        let ended = link.command(&["--log", "debug", "verify", "--json"]).await;
        assert_eq!((ended.code, &document(&ended)["equal"]), (0, &true.into()), "{ended:#?}");
        looks += 1;
        let settled = link.a.value("SELECT count(*) FROM pontoon.resolution").await;
        looks >= 5 && ended.err.contains("differ for now") && settled != "0"
    })
    .await;
    writers.check(&link, "verified meanwhile").await;
    assert_eq!(bridge.stop().await, 0);
}

async fn no_bridge_and_a_slow_one(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, a varchar(60), b varchar(60), n int").await;
    // Nothing has to be set up to compare.
    link.a.run("INSERT INTO items VALUES (1, 'a', 'b', 0)").await;
    let ended = link.command(&["verify"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("items {\"id\":1}: only on a"), "{ended:?}");
    link.b.run("INSERT INTO items VALUES (1, 'a', 'b', 0)").await;
    link.succeed(&["verify"]).await;
    link.succeed(&["setup"]).await;

    // A backlog, and nobody who works.
    for id in 2..100 {
        link.a.run(&format!("INSERT INTO items VALUES ({id}, 'a', 'b', 0)")).await;
    }
    let ended = link.command(&["verify", "--json"]).await;
    assert_eq!((ended.code, &document(&ended)["fenced"]), (1, &false.into()), "{ended:?}");
    assert_eq!(document(&ended)["rows_different"], 98, "{ended:?}");
    assert!(ended.err.contains("the bridge does not run"), "{ended:?}");
    // In the middle of it.
    let bridge = link.run();
    bridge.works().await;
    let out = link.succeed(&["verify"]).await;
    assert!(out.ends_with("equal: yes\n"), "{out}");

    // A bridge that lives and does not get on: no answer, and none that is a difference.
    bridge.signal("STOP");
    link.b.run("UPDATE items SET a = 'later' WHERE id = 7").await;
    let ended = link.command(&["verify", "--timeout", "1s"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{ended:?}");
    assert!(ended.err.contains("had not crossed within 1s"), "{ended:?}");
    bridge.signal("CONT");
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

/// The rows that a server removes for a foreign key are in no log of MariaDB, and in one of MySQL 9.6 and later.
async fn a_cascade_that_is_not_logged(kinds: [Kind; 2]) {
    let configuration =
        "[[tables]]\nname = \"parents\"\n[[tables]]\nname = \"children\"\naccept = [\"foreign-key-cascade\"]\n";
    let link = Link::start(kinds, LinkOptions { configuration: configuration.into(), ..LinkOptions::default() }).await;
    link.create("parents", "id int PRIMARY KEY").await;
    link.create(
        "children",
        "id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE",
    )
    .await;
    link.both("INSERT INTO parents VALUES (1), (2)").await;
    link.both("INSERT INTO children VALUES (10, 1), (11, 1), (20, 2)").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let (mysql, name) = link.mysql();
    let rows = async |node: &Database| node.value("SELECT count(*) FROM children").await;
    mysql.run("DELETE FROM parents WHERE id = 1").await;
    link.settle().await;
    assert_eq!(rows(mysql).await, "1");
    let ended = link.command(&["verify", "--json"]).await;
    let found = document(&ended);
    if mysql.kind == Kind::Mysql {
        assert_eq!((ended.code, &found["equal"]), (0, &true.into()), "{found:#}");
        return;
    }
    let other = if name == "a" { "b" } else { "a" };
    let only = json!(format!("only on {other}"));
    let of = |table: &str| {
        let tables = found["tables"].as_array().unwrap();
        let table = tables.iter().find(|found| found["table"] == table).unwrap();
        table["differences"].as_array().unwrap().clone()
    };
    let children = of("children");
    assert_eq!((ended.code, children.len()), (1, 2), "{found:#}");
    assert!(children.iter().all(|one| one["kind"] == only), "{found:#}");
    // The removal of the row that they refer to waits for them.
    let parents = of("parents");
    assert_eq!((parents.len(), &parents[0]["in_quarantine"]), (1, &true.into()), "{found:#}");
    assert_eq!(bridge.stop().await, 0);
}
