//! Rules of single columns, on both sides at once: counters add up, each column goes to whoever changed it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde_json::{Value as Json, json};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    at_rest::metric,
    support::{
        Database, Link, LinkOptions, a_second_later, pairings,
        workload::{dice, kills},
    },
};

const CONFIGURATION: &str = r#"
[[tables]]
name = "goods"
conflict = "column_merge"
columns = { stock = { rule = "additive", floor = 0 }, lowest = "min", latest = "max", note = "prefer:a" }
[[tables]]
name = "offers"
columns = { stock = "additive" }
[server]
listen = "127.0.0.1:0"
"#;

const GOODS: &str = "id bigint PRIMARY KEY, name varchar(60), colour varchar(60), stock smallint NOT NULL, \
                     lowest decimal(10,2), latest date, note varchar(60)";

const SELECT: &str = "SELECT name, colour, stock, lowest, latest, note FROM";

/// What each side writes, and what becomes of it. The late write is later by a second at least.
struct Case {
    what: &'static str,
    table: &'static str,
    early: (char, &'static str),
    late: (char, &'static str),
    /// Name, colour, stock, lowest, latest and note, on both sides; `None` for no row.
    stands: Option<[&'static str; 6]>,
    /// The rule of the record and its columns; `None` for no record.
    record: Option<(&'static str, &'static str)>,
}

const CASES: &[Case] = &[
    Case {
        what: "two columns",
        table: "goods",
        early: ('a', "SET name = 'of a'"),
        late: ('b', "SET colour = 'of b'"),
        stands: Some(["of a", "of b", "5", "5.00", "2026-01-05", "first"]),
        record: Some(("column_merge, last writer: b", r#"{"a":["name"],"b":["colour"]}"#)),
    },
    Case {
        what: "one column, and another of the earlier",
        table: "goods",
        early: ('b', "SET name = 'of b', colour = 'of b'"),
        late: ('a', "SET name = 'of a'"),
        stands: Some(["of a", "of b", "5", "5.00", "2026-01-05", "first"]),
        record: Some(("column_merge, last writer: a", r#"{"a":["name"],"b":["colour"]}"#)),
    },
    Case {
        what: "the least and the greatest",
        table: "goods",
        early: ('a', "SET lowest = 3.5, latest = '2026-01-20'"),
        late: ('b', "SET lowest = 10.25, latest = '2026-01-07'"),
        stands: Some(["first", "first", "5", "3.50", "2026-01-20", "first"]),
        record: Some(("column_merge, last writer: b", r#"{"a":["lowest","latest"]}"#)),
    },
    Case {
        what: "the least, where one side changed it",
        table: "goods",
        early: ('a', "SET lowest = 9"),
        late: ('b', "SET name = 'of b'"),
        stands: Some(["of b", "first", "5", "9.00", "2026-01-05", "first"]),
        record: Some(("column_merge, last writer: b", r#"{"a":["lowest"],"b":["name"]}"#)),
    },
    Case {
        what: "a column of the preferred node",
        table: "goods",
        early: ('a', "SET note = 'of a'"),
        late: ('b', "SET note = 'of b'"),
        stands: Some(["first", "first", "5", "5.00", "2026-01-05", "of a"]),
        record: Some(("column_merge, last writer: b", r#"{"a":["note"]}"#)),
    },
    Case {
        what: "a counter from both sides",
        table: "goods",
        early: ('a', "SET stock = stock + 2"),
        late: ('b', "SET stock = stock - 3"),
        stands: Some(["first", "first", "4", "5.00", "2026-01-05", "first"]),
        record: None,
    },
    Case {
        what: "a counter beside a conflict",
        table: "goods",
        early: ('a', "SET stock = stock + 2, name = 'of a'"),
        late: ('b', "SET stock = stock - 3, name = 'of b'"),
        stands: Some(["of b", "first", "4", "5.00", "2026-01-05", "first"]),
        record: Some(("column_merge, last writer: b", r#"{"+":["stock"],"b":["name"]}"#)),
    },
    Case {
        what: "a counter below its floor",
        table: "goods",
        early: ('a', "SET stock = stock - 4"),
        late: ('b', "SET stock = stock - 3"),
        stands: Some(["first", "first", "-2", "5.00", "2026-01-05", "first"]),
        record: Some(("additive; floor_crossed: stock", r#"{"+":["stock"]}"#)),
    },
    Case {
        what: "a counter against a delete",
        table: "goods",
        early: ('a', "SET stock = stock + 1"),
        late: ('b', "DELETE"),
        stands: None,
        record: Some(("last_writer_wins: b", "null")),
    },
    Case {
        what: "a delete against a counter",
        table: "goods",
        early: ('b', "DELETE"),
        late: ('a', "SET stock = stock + 1"),
        stands: Some(["first", "first", "6", "5.00", "2026-01-05", "first"]),
        record: Some(("last_writer_wins: a", "null")),
    },
    Case {
        what: "a counter beside a row of the last writer",
        table: "offers",
        early: ('a', "SET stock = stock + 2, name = 'of a'"),
        late: ('b', "SET stock = stock - 3, colour = 'of b'"),
        stands: Some(["first", "of b", "4", "5.00", "2026-01-05", "first"]),
        record: Some(("last_writer_wins: b", r#"{"+":["stock"],"b":["name","colour"]}"#)),
    },
    Case {
        what: "a later counter against the rest of the row",
        table: "offers",
        early: ('a', "SET name = 'of a'"),
        late: ('b', "SET stock = stock - 3"),
        stands: Some(["of a", "first", "2", "5.00", "2026-01-05", "first"]),
        record: None,
    },
];

fn id_of(case: &Case) -> usize {
    1 + CASES.iter().position(|other| other.what == case.what).unwrap()
}

async fn write(link: &Link, case: &Case, (side, sql): (char, &str)) {
    let (node, table, id) = (if side == 'a' { &link.a } else { &link.b }, case.table, id_of(case));
    match sql {
        "DELETE" => node.run(&format!("DELETE FROM {table} WHERE id = {id}")).await,
        set => node.run(&format!("UPDATE {table} {set} WHERE id = {id}")).await,
    }
}

async fn is_settled(link: &Link, case: &Case) {
    let id = id_of(case);
    let row = link.same(&format!("{SELECT} {} WHERE id = {id}", case.table)).await;
    let expected: Option<Vec<_>> = case.stands.map(|row| row.iter().map(|text| Some((*text).to_owned())).collect());
    assert_eq!(row.into_iter().next(), expected, "{}", case.what);
    let sql = format!(
        "SELECT rule, taken, ancestor FROM pontoon.resolution WHERE table_name = '{}' AND row_key = '[{id}]'",
        case.table
    );
    let records = link.same(&sql).await;
    assert_eq!(records.len(), usize::from(case.record.is_some()), "{}: {records:?}", case.what);
    for (record, (rule, taken)) in records.iter().zip(case.record) {
        let json = |text: &Option<String>| serde_json::from_str::<Json>(text.as_deref().unwrap_or("null")).unwrap();
        assert_eq!(record[0].as_deref(), Some(rule), "{}", case.what);
        assert_eq!(json(&record[1]), serde_json::from_str::<Json>(taken).unwrap(), "{}", case.what);
        let ancestor = json(&record[2]);
        assert_eq!((&ancestor["stock"], &ancestor["lowest"]), (&json!(5), &json!("5")), "{}", case.what);
    }
}

async fn each_column_goes_where_it_belongs(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() }).await;
    for table in ["goods", "offers"] {
        link.create(table, GOODS).await;
        let row = |id| format!("({id}, 'first', 'first', 5, 5, '2026-01-05', 'first')");
        let rows: Vec<String> = (1..=CASES.len()).map(row).collect();
        link.both(&format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
    }
    link.succeed(&["setup"]).await;
    for case in CASES {
        write(&link, case, case.early).await;
    }
    a_second_later().await;
    for case in CASES {
        write(&link, case, case.late).await;
    }
    let bridge = link.run();
    link.settle().await;
    for case in CASES {
        is_settled(&link, case).await;
    }
    link.succeed(&["verify"]).await;
    let (_, metrics) = crate::commands::get(&bridge.page().await, "/metrics").await.unwrap();
    let crossed = metrics.lines().filter(|line| line.starts_with("pontoon_conflicts_total"));
    let crossed = crossed.filter(|line| line.contains("floor_crossed") && !line.ends_with(" 0"));
    assert_eq!(crossed.count(), 1, "the crossed floor is counted once");
    let merged = CASES.iter().filter(|case| case.record.is_some_and(|(_, taken)| taken != "null")).count() as f64;
    assert_eq!(metric(&bridge, "pontoon_conflicts_total", "outcome=\"merged\"").await, merged);
    assert!(metric(&bridge, "pontoon_apply_retries_total", "reason=\"conflict\"").await >= 1.0);
    assert_eq!(bridge.stop().await, 0);
    a_sum_that_is_too_large_waits(&link).await;
    rules_that_no_column_can_keep_are_refused(&link).await;
}

/// Each side holds its sum, and both together come to more than the column: nothing is clipped, and it heals when
/// there is room.
async fn a_sum_that_is_too_large_waits(link: &Link) {
    let stock = async |node: &Database| node.value("SELECT stock FROM goods WHERE id = 1").await;
    let quarantined = async || {
        let count = "SELECT count(*) FROM pontoon.quarantine";
        [link.a.value(count).await, link.b.value(count).await] != ["0", "0"].map(str::to_owned)
    };
    link.both("UPDATE goods SET stock = stock + 20000 WHERE id = 1").await;
    let bridge = link.run();
    crate::support::eventually("the sum is refused", async || quarantined().await).await;
    assert_eq!([stock(&link.a).await, stock(&link.b).await], ["20005", "20005"].map(str::to_owned));
    link.a.run("UPDATE goods SET stock = stock - 15000 WHERE id = 1").await;
    crate::support::eventually("the sum fits", async || !quarantined().await).await;
    link.settle().await;
    assert_eq!([stock(&link.a).await, stock(&link.b).await], ["25005", "25005"].map(str::to_owned));
    assert_eq!(bridge.stop().await, 0);
}

async fn rules_that_no_column_can_keep_are_refused(link: &Link) {
    let refused = [
        ("{ name = \"additive\" }", "goods column name", "an exact number on both sides for additive"),
        ("{ name = \"min\" }", "goods column name", "min and max of a number, a date or a time"),
        ("{ nam = \"min\" }", "goods column nam", "a column of both tables"),
        ("{ id = \"additive\" }", "goods column id", "rules for columns beside the key"),
        ("{ stock = { rule = \"additive\", floor = 0.5 } }", "goods column stock", "a whole number"),
    ];
    for (columns, subject, expected) in refused {
        link.configure(&format!("[[tables]]\nname = \"goods\"\ncolumns = {columns}\n"));
        let (code, findings) = link.check().await;
        let found = findings.iter().find(|finding| finding["code"] == "column-rule-unfit");
        let found = found.unwrap_or_else(|| panic!("{columns}: {findings:?}"));
        assert_eq!((&found["subject"], &found["expected"]), (&json!(subject), &json!(expected)));
        assert_ne!(code, 0, "{columns}");
        let refusal = link.command(&["run"]).await.refused(4, "table-unfit");
        assert!(refusal.message.contains(expected), "{refusal:?}");
    }
    link.configure("[[tables]]\nname = \"goods\"\ndirection = \"a->b\"\ncolumns = { stock = \"additive\" }\n");
    let (_, findings) = link.check().await;
    assert!(findings.iter().any(|finding| finding["code"] == "column-rule-unfit"), "{findings:?}");
}

/// Adds to counters until it is told to stop; what it added to each.
fn counting(node: &Database, name: char, mut dice: SmallRng, stop: &Arc<AtomicBool>) -> JoinHandle<[i64; 3]> {
    let (kind, url, stop) = (node.kind, node.url(), stop.clone());
    tokio::spawn(async move {
        let mut client = crate::support::database::Client::connect(kind, &url).await;
        let mut added = [0; 3];
        while !stop.load(Ordering::Relaxed) {
            let (id, n) = (dice.random_range(0..3), dice.random_range(-5..=9));
            // Now and then beside a column that both sides overwrite.
            let note = if dice.random_bool(0.6) { format!(", note = '{name}{n}'") } else { String::new() };
            let sql = format!("UPDATE counters SET n = n + {n}, exact = exact + {n}.125{note} WHERE id = {id}");
            if client.try_run(&sql).await.is_ok() {
                added[id] += n;
            }
            let pause = dice.random_range(1..20);
            sleep(Duration::from_millis(pause)).await;
        }
        added
    })
}

async fn counters_add_up_while_the_bridge_is_killed(kinds: [Kind; 2]) {
    let mut dice = dice();
    let configuration =
        "[[tables]]\nname = \"counters\"\ncolumns = { n = \"additive\", exact = \"additive\" }\n".to_owned();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    let columns = "id int PRIMARY KEY, n bigint NOT NULL, exact decimal(20,3) NOT NULL, note varchar(20)";
    link.create("counters", columns).await;
    link.both("INSERT INTO counters VALUES (0, 100, 0, ''), (1, 100, 0, ''), (2, 100, 0, '')").await;
    link.succeed(&["setup"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut seed = || SmallRng::seed_from_u64(dice.random());
    let writers = [
        counting(&link.a, 'a', seed(), &stop),
        counting(&link.a, 'c', seed(), &stop),
        counting(&link.b, 'b', seed(), &stop),
        counting(&link.b, 'd', seed(), &stop),
    ];
    let mut bridge = link.run();
    for _ in 0..kills() {
        bridge.works().await;
        sleep(Duration::from_millis(dice.random_range(0..1_200))).await;
        bridge.kill();
        bridge = link.run();
    }
    stop.store(true, Ordering::Relaxed);
    let mut added = [0; 3];
    for writer in writers {
        let of_one = writer.await.unwrap();
        (0..3).for_each(|id| added[id] += of_one[id]);
    }
    link.settle().await;
    let rows = link.same("SELECT n, exact FROM counters ORDER BY id").await;
    let counted: Vec<i64> = rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(counted, added.map(|n| 100 + n), "what was added, each once");
    link.succeed(&["verify"]).await;
    let records = link.a.value("SELECT count(*) FROM pontoon.resolution").await;
    println!("added {added:?}, {records} keys settled");
    assert_ne!(records, "0", "settlements are part of what is tried here");
    assert_eq!(bridge.stop().await, 0);
}

pairings!(each_column_goes_where_it_belongs, counters_add_up_while_the_bridge_is_killed);
