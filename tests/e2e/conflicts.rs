//! Writes that did not see each other: who wins, what both sides hold afterwards, and what is on record.
//!
//! Most conflicts are made while the bridge is down, in two rounds: early writes, then late ones, with a second
//! between them, since that is as fine as MariaDB's log tells time. Clocks that differ are made on PostgreSQL,
//! where a session with a replication origin of its own gives its commits any time.

use pontoon_servers::Release;
use serde_json::{Value as Json, json};

use crate::support::{Database, Link, LinkOptions, Tail, a_second_later, eventually, pairings};

const CONFIGURATION: &str = r#"
[[tables]]
name = "items"
[[tables]]
name = "parts"
[[tables]]
name = "favoured"
conflict = "prefer:a"
[[tables]]
name = "feed"
direction = "a->b"
"#;

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), quantity int";

/// The two sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    A,
    B,
}

use At::{A, B};

impl At {
    fn of(self, link: &Link) -> &Database {
        match self {
            A => &link.a,
            B => &link.b,
        }
    }

    fn name(self) -> &'static str {
        match self {
            A => "a",
            B => "b",
        }
    }

    fn other(self) -> At {
        match self {
            A => B,
            B => A,
        }
    }
}

/// One conflict: what is written where, and what shall become of it.
struct Case {
    what: &'static str,
    table: &'static str,
    /// What each side writes. The late ones are later by a second at least.
    early: (At, &'static str),
    late: (At, &'static str),
    winner: At,
    rule: &'static str,
    keys: &'static [Key],
}

/// A name that a row has; `None` where there is no row.
type Name = Option<&'static str>;

/// A key of a conflict: what each side held, and what stands.
struct Key {
    id: i64,
    held: [Name; 2],
    stands: Name,
}

const fn key(id: i64, held: [Name; 2], stands: Name) -> Key {
    Key { id, held, stands }
}

const LAST_WRITER: &str = "last_writer_wins";

const CASES: &[Case] = &[
    Case {
        what: "update against a later update on b",
        table: "items",
        early: (A, "UPDATE items SET name = 'of a' WHERE id = 10"),
        late: (B, "UPDATE items SET name = 'of b' WHERE id = 10"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(10, [Some("of a"), Some("of b")], Some("of b"))],
    },
    Case {
        what: "update against a later update on a",
        table: "items",
        early: (B, "UPDATE items SET name = 'of b' WHERE id = 20"),
        late: (A, "UPDATE items SET name = 'of a', quantity = 21 WHERE id = 20"),
        winner: A,
        rule: LAST_WRITER,
        keys: &[key(20, [Some("of a"), Some("of b")], Some("of a"))],
    },
    Case {
        what: "update against a later delete",
        table: "items",
        early: (A, "UPDATE items SET name = 'of a' WHERE id = 30"),
        late: (B, "DELETE FROM items WHERE id = 30"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(30, [Some("of a"), None], None)],
    },
    Case {
        what: "delete against a later update",
        table: "items",
        early: (B, "DELETE FROM items WHERE id = 40"),
        late: (A, "UPDATE items SET name = 'of a' WHERE id = 40"),
        winner: A,
        rule: LAST_WRITER,
        keys: &[key(40, [Some("of a"), None], Some("of a"))],
    },
    Case {
        what: "insert against a later insert",
        table: "items",
        early: (A, "INSERT INTO items VALUES (50, 'of a', 1)"),
        late: (B, "INSERT INTO items VALUES (50, 'of b', 2)"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(50, [Some("of a"), Some("of b")], Some("of b"))],
    },
    Case {
        what: "a row moved to another key against a later update",
        table: "items",
        early: (A, "UPDATE items SET id = 71, name = 'moved' WHERE id = 70"),
        late: (B, "UPDATE items SET name = 'of b' WHERE id = 70"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(70, [None, Some("of b")], Some("of b")), key(71, [Some("moved"), None], None)],
    },
    Case {
        what: "update against a later move of the row to another key",
        table: "items",
        early: (A, "UPDATE items SET name = 'of a' WHERE id = 80"),
        late: (B, "UPDATE items SET id = 81, name = 'moved' WHERE id = 80"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(80, [Some("of a"), None], None), key(81, [None, Some("moved")], Some("moved"))],
    },
    Case {
        what: "the preferred node against a later update",
        table: "favoured",
        early: (A, "UPDATE favoured SET name = 'of a' WHERE id = 10"),
        late: (B, "UPDATE favoured SET name = 'of b' WHERE id = 10"),
        winner: A,
        rule: "prefer",
        keys: &[key(10, [Some("of a"), Some("of b")], Some("of a"))],
    },
    Case {
        what: "a transaction of several rows, one of which loses",
        table: "items",
        early: (
            A,
            "BEGIN; UPDATE items SET name = 'of a' WHERE id IN (101, 102, 103); \
             INSERT INTO parts VALUES (1, 'of a', 1); COMMIT",
        ),
        late: (B, "UPDATE items SET name = 'of b' WHERE id = 102"),
        winner: B,
        rule: LAST_WRITER,
        keys: &[key(102, [Some("of a"), Some("of b")], Some("of b"))],
    },
    Case {
        what: "a transaction of several rows, one of which wins",
        table: "items",
        early: (B, "UPDATE items SET name = 'of b' WHERE id = 112"),
        late: (
            A,
            "BEGIN; UPDATE items SET name = 'of a' WHERE id IN (111, 112, 113); \
             INSERT INTO parts VALUES (2, 'of a', 1); COMMIT",
        ),
        winner: A,
        rule: LAST_WRITER,
        keys: &[key(112, [Some("of a"), Some("of b")], Some("of a"))],
    },
];

/// The side that is PostgreSQL.
fn postgres(link: &Link) -> At {
    if link.a.is_postgres() { A } else { B }
}

/// Writes at any time, on PostgreSQL.
async fn write_at(node: &Database, time: &str, sql: &str) {
    let mut client = node.client().await;
    client.run("SELECT pg_replication_origin_session_setup('wrong_clock')").await;
    client.run(&format!("BEGIN; SELECT pg_replication_origin_xact_setup('0/1', {time}); {sql}; COMMIT")).await;
}

/// The name of a row, on a side.
async fn name(node: &Database, table: &str, id: i64) -> Option<String> {
    let rows = node.rows(&format!("SELECT name FROM {table} WHERE id = {id}")).await;
    rows.into_iter().next().map(|row| row[0].clone().unwrap())
}

async fn both_hold(link: &Link, what: &str, table: &str, id: i64, expected: Option<&str>) {
    for node in link.nodes() {
        assert_eq!(name(node, table, id).await.as_deref(), expected, "{what}: {table} {id} on {}", node.kind);
    }
}

/// A record of a settled key.
#[derive(Debug)]
struct Record {
    id: String,
    group: String,
    own: Json,
    other: Json,
    verdict: Json,
    rule: String,
}

/// The records of a key on a side, the oldest first.
async fn records(node: &Database, table: &str, id: i64) -> Vec<Record> {
    let sql = format!(
        "SELECT id, group_id, own_row, other_row, verdict, rule FROM pontoon.resolution \
         WHERE table_name = '{table}' AND row_key = '[{id}]' ORDER BY id"
    );
    let json = |text: &Option<String>| text.as_ref().map_or(Json::Null, |text| serde_json::from_str(text).unwrap());
    let record = |row: Vec<Option<String>>| Record {
        id: row[0].clone().unwrap(),
        group: row[1].clone().unwrap(),
        own: json(&row[2]),
        other: json(&row[3]),
        verdict: json(&row[4]),
        rule: row[5].clone().unwrap(),
    };
    node.rows(&sql).await.into_iter().map(record).collect()
}

async fn is_settled(link: &Link, case: &Case) {
    let mut groups = Vec::new();
    for Key { id, held, stands } in case.keys {
        both_hold(link, case.what, case.table, *id, *stands).await;
        let mut ids = Vec::new();
        for (at, side) in [A, B].into_iter().enumerate() {
            let records = records(side.of(link), case.table, *id).await;
            let [record] = &records[..] else { panic!("{}: {records:?}", case.what) };
            let name = |row: &Json| row["name"].as_str().map(str::to_owned);
            assert_eq!(name(&record.own).as_deref(), held[at], "{}: own row on {side:?}", case.what);
            assert_eq!(name(&record.other).as_deref(), held[1 - at], "{}: other row on {side:?}", case.what);
            assert_eq!(name(&record.verdict).as_deref(), *stands, "{}: verdict on {side:?}", case.what);
            assert_eq!(record.rule, format!("{}: {}", case.rule, case.winner.name()), "{}: {side:?}", case.what);
            let whole = [&record.own, &record.other].into_iter().all(|row| row.is_null() || row["id"] == json!(id));
            assert!(whole, "{}: {record:?}", case.what);
            ids.push(record.id.clone());
            groups.push(record.group.clone());
        }
        assert_eq!(ids[0], ids[1], "{}: a record has one id on both sides", case.what);
    }
    groups.dedup();
    assert_eq!(groups.len(), 1, "{}: keys of one conflict are one group", case.what);
}

/// What of a transaction of several rows does not conflict arrives as one transaction.
fn is_atomic(tail: &Tail, items: [i64; 2], part: i64) {
    let applied = |table: &str, id: i64| {
        let events = tail.events(table);
        let own = events.iter().filter(|event| event["key"]["id"] == json!(id) && event["origin"] == json!("e2e"));
        let transactions: Vec<String> = own.map(|event| event["transaction"].to_string()).collect();
        let [transaction] = &transactions[..] else { panic!("{table} {id}: {transactions:?}") };
        transaction.clone()
    };
    let part = applied("parts", part);
    assert_eq!(items.map(|id| applied("items", id)), [part.clone(), part]);
}

pub(crate) async fn settled(kinds: [impl Into<Release>; 2]) {
    let link = Link::start(kinds, LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() }).await;
    for table in ["items", "parts", "favoured", "feed"] {
        link.create(table, COLUMNS).await;
    }
    let keys = [10, 20, 30, 40, 70, 80, 90, 91, 92, 101, 102, 103, 111, 112, 113];
    let rows: Vec<String> = keys.iter().map(|id| format!("({id}, 'first', {id})")).collect();
    for table in ["items", "favoured", "feed"] {
        link.both(&format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
    }
    // The node whose clock can be set has the priority.
    let (clock, other) = (postgres(&link), postgres(&link).other());
    let text = std::fs::read_to_string(link.config()).unwrap();
    let section = format!("[nodes.{}]\n", clock.name());
    std::fs::write(link.config(), text.replace(&section, &format!("{section}priority = 10\n"))).unwrap();
    clock.of(&link).run("SELECT pg_replication_origin_create('wrong_clock')").await;
    link.succeed(&["setup"]).await;
    let (tail_a, tail_b) = (link.tail("a", "parts", 999).await, link.tail("b", "parts", 998).await);

    for case in CASES {
        case.early.0.of(&link).run(case.early.1).await;
    }
    link.b.run("INSERT INTO items VALUES (60, 'of b', 1); DELETE FROM items WHERE id = 60").await;
    // One way: what b writes into it stays, what a writes overwrites.
    link.b.run("UPDATE feed SET name = 'of b' WHERE id IN (10, 20)").await;
    link.b.run("DELETE FROM feed WHERE id = 30").await;
    link.b.run("INSERT INTO feed VALUES (1, 'of b', 1)").await;
    link.b.run("INSERT INTO feed VALUES (2, 'of b', 2)").await;
    link.a.run("UPDATE feed SET name = 'of a' WHERE id IN (10, 30, 40)").await;
    link.a.run("INSERT INTO feed VALUES (2, 'of a', 2), (3, 'of a', 3)").await;
    a_second_later().await;
    for case in CASES {
        case.late.0.of(&link).run(case.late.1).await;
    }
    link.a.run("INSERT INTO items VALUES (60, 'of a', 2)").await;
    equal_times(&link, clock, if clock == A { &tail_b } else { &tail_a }).await;

    let bridge = link.run();
    link.settle().await;
    for case in CASES {
        is_settled(&link, case).await;
    }
    // No conflict, or one that is settled: that depends on who is first.
    both_hold(&link, "what came and went against a later insert", "items", 60, Some("of a")).await;
    is_atomic(&tail_b, [101, 103], 1);
    is_atomic(&tail_b, [111, 113], 2);
    feed_went_one_way(&link, &tail_a).await;

    both_hold(&link, "equal times", "items", 90, Some("of the preferred")).await;
    for side in [A, B] {
        let found = records(side.of(&link), "items", 90).await;
        assert_eq!(found.len(), 1, "{found:?}");
        let rule = format!("last_writer_wins, equal times, priority: {}", clock.name());
        assert_eq!(found[0].rule, rule);
    }

    written_on_top_survives(&link, clock, other).await;
    for table in ["items", "parts", "favoured"] {
        link.succeed(&["verify", "--table", table]).await;
    }
    assert_eq!(bridge.stop().await, 0);
}

/// Two writes at the very same time, as the other side's log told it.
async fn equal_times(link: &Link, clock: At, tail: &Tail) {
    clock.other().of(link).run("UPDATE items SET name = 'of the other' WHERE id = 90").await;
    let mut time = String::new();
    eventually("the write is in the log", async || {
        let events = tail.events("items");
        let found = events.iter().find(|event| event["key"]["id"] == json!(90));
        time = found.map_or(String::new(), |event| event["commit_time"].as_str().unwrap().to_owned());
        !time.is_empty()
    })
    .await;
    let sql = "UPDATE items SET name = 'of the preferred' WHERE id = 90";
    write_at(clock.of(link), &format!("timestamptz '{time}'"), sql).await;
}

/// A table that goes from a to b only.
async fn feed_went_one_way(link: &Link, tail_a: &Tail) {
    let held = async |id| [name(&link.a, "feed", id).await, name(&link.b, "feed", id).await];
    let both = |text: &str| [Some(text.to_owned()), Some(text.to_owned())];
    assert_eq!(held(10).await, both("of a"), "what conflicts is overwritten");
    assert_eq!(held(30).await, both("of a"), "what is missing comes back");
    assert_eq!(held(40).await, both("of a"), "what changes crosses");
    assert_eq!(held(2).await, both("of a"), "an insert overwrites what is there");
    assert_eq!(held(3).await, both("of a"), "an insert crosses");
    assert_eq!(held(20).await, [Some("first".into()), Some("of b".into())], "an update on b stays there");
    assert_eq!(held(1).await, [None, Some("of b".into())], "an insert on b stays there");
    let crossed: Vec<_> = tail_a.events("feed").into_iter().filter(|event| !event["origin"].is_null()).collect();
    assert!(crossed.is_empty(), "nothing of a one-way table is written to its source: {crossed:?}");
    for id in [10, 30, 2] {
        for (at, side) in [A, B].into_iter().enumerate() {
            let found = records(side.of(link), "feed", id).await;
            let [record] = &found[..] else { panic!("feed {id} on {side:?}: {found:?}") };
            assert_eq!(record.rule, "only_writer: a");
            let of_a = if at == 0 { &record.own } else { &record.other };
            assert_eq!(of_a["name"], json!("of a"));
        }
    }
}

/// What was written after it saw the other side's write stands, although that one's clock is an hour ahead and
/// its node has the priority.
async fn written_on_top_survives(link: &Link, clock: At, other: At) {
    const HOUR_AHEAD: &str = "clock_timestamp() + interval '1 hour'";
    // Without a conflict before.
    write_at(clock.of(link), HOUR_AHEAD, "UPDATE items SET name = 'an hour ahead' WHERE id = 91").await;
    // With one, which the clock decides.
    other.of(link).run("UPDATE items SET name = 'unseen' WHERE id = 92").await;
    write_at(clock.of(link), HOUR_AHEAD, "UPDATE items SET name = 'an hour ahead' WHERE id = 92").await;
    link.settle().await;
    both_hold(link, "an hour ahead", "items", 91, Some("an hour ahead")).await;
    both_hold(link, "an hour ahead", "items", 92, Some("an hour ahead")).await;
    let before = records(&link.a, "items", 92).await.len();
    other.of(link).run("UPDATE items SET name = 'on top' WHERE id IN (91, 92)").await;
    link.settle().await;
    both_hold(link, "on top", "items", 91, Some("on top")).await;
    both_hold(link, "on top", "items", 92, Some("on top")).await;
    assert!(records(&link.a, "items", 91).await.is_empty(), "what was seen is no conflict");
    assert_eq!(records(&link.a, "items", 92).await.len(), before, "what was seen is no conflict");
}

pairings!(settled);
