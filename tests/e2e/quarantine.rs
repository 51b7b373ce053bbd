//! Rows that a target refuses: their neighbours are applied, their later changes wait behind them, everything else goes
//! on, and they heal when the row or the obstacle is mended, whatever is killed in between.

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};

use crate::support::{
    Database, Link, LinkOptions, a_second_later, database::insert_numbered, eventually, first_pairing,
};

first_pairing!(
    each_refusal_heals,
    both_sides_write_it,
    moved_and_written_again,
    killed_in_between,
    discarded,
    a_refused_settlement,
    unique_on_both_sides
);

/// What is in quarantine, by id.
pub(crate) async fn entries(link: &Link) -> Vec<Json> {
    let document: Json = serde_json::from_str(&link.succeed(&["quarantine", "list", "--json"]).await).unwrap();
    assert_eq!(document["schema_version"], 1);
    document["entries"].as_array().unwrap().clone()
}

/// Those of a table.
pub(crate) async fn entries_of(link: &Link, table: &str) -> Vec<Json> {
    entries(link).await.into_iter().filter(|entry| entry["table"] == table).collect()
}

pub(crate) async fn is_healed(link: &Link) {
    eventually("nothing is in quarantine", async || entries(link).await.is_empty()).await;
}

pub(crate) fn id(entry: &Json) -> String {
    entry["id"].as_i64().unwrap().to_string()
}

async fn ids(node: &Database, table: &str) -> Vec<String> {
    let rows = node.rows(&format!("SELECT id FROM {table} ORDER BY id")).await;
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

async fn records(link: &Link, table: &str) -> String {
    let sql = format!("SELECT rule FROM pontoon.resolution WHERE table_name = '{table}' ORDER BY id");
    let mut rules = Vec::new();
    for node in link.nodes() {
        rules.push(node.rows(&sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(rules[0], rules[1]);
    rules.remove(0).join("; ")
}

/// A row that the target refuses.
struct Case {
    table: &'static str,
    from_postgres: bool,
    /// The column `v` and what may follow it: on PostgreSQL, on the other.
    columns: [&'static str; 2],
    /// A value that both can hold, and the one that is refused: as SQL of the source.
    good: &'static str,
    bad: &'static str,
    code: &'static str,
    /// What the server calls the constraint.
    constraint: Option<&'static str>,
    mend: Mend,
}

enum Mend {
    /// The row gets this value on the source.
    Source(&'static str),
    /// The obstacle is taken away on the target.
    Target(&'static str),
}

const CASES: &[Case] = &[
    Case {
        table: "check_there",
        from_postgres: true,
        columns: ["int", "int, CONSTRAINT positive CHECK (v > 0)"],
        good: "1",
        bad: "-1",
        code: "row-refused",
        constraint: Some("positive"),
        mend: Mend::Target("ALTER TABLE check_there DROP CONSTRAINT positive"),
    },
    Case {
        table: "check_back",
        from_postgres: false,
        columns: ["int, CONSTRAINT positive CHECK (v > 0)", "int"],
        good: "1",
        bad: "-1",
        code: "row-refused",
        constraint: Some("positive"),
        mend: Mend::Source("7"),
    },
    Case {
        table: "unique_there",
        from_postgres: true,
        columns: ["varchar(20)", "varchar(20), CONSTRAINT only_one UNIQUE (v)"],
        good: "'good'",
        bad: "'good'",
        code: "row-refused",
        constraint: Some("only_one"),
        mend: Mend::Source("'another'"),
    },
    Case {
        table: "unique_back",
        from_postgres: false,
        columns: ["varchar(20), CONSTRAINT one_back UNIQUE (v)", "varchar(20)"],
        good: "'good'",
        bad: "'good'",
        code: "row-refused",
        constraint: Some("one_back"),
        mend: Mend::Target("ALTER TABLE unique_back DROP CONSTRAINT one_back"),
    },
    Case {
        table: "null_there",
        from_postgres: true,
        columns: ["int", "int NOT NULL"],
        good: "1",
        bad: "NULL",
        code: "row-refused",
        constraint: None,
        mend: Mend::Source("3"),
    },
    Case {
        table: "big_there",
        from_postgres: true,
        columns: ["numeric(20,0)", "bigint unsigned"],
        good: "18446744073709551615",
        bad: "18446744073709551616",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("5"),
    },
    Case {
        table: "long_back",
        from_postgres: false,
        columns: ["varchar(5)", "varchar(20)"],
        good: "'good'",
        bad: "'too long'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'short'"),
    },
    Case {
        table: "charset_there",
        from_postgres: true,
        columns: ["varchar(20)", "varchar(20) CHARACTER SET latin1"],
        good: "'good'",
        bad: "'中'",
        code: "",
        constraint: None,
        mend: Mend::Source("'mended'"),
    },
    Case {
        table: "infinite_there",
        from_postgres: true,
        columns: ["timestamp", "datetime(6)"],
        good: "'2026-01-01'",
        bad: "'infinity'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'2026-01-02'"),
    },
    Case {
        table: "zero_date_back",
        from_postgres: false,
        columns: ["date", "date"],
        good: "'2026-01-01'",
        bad: "'0000-00-00'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'2026-01-02'"),
    },
    Case {
        table: "nul_back",
        from_postgres: false,
        columns: ["varchar(20)", "varchar(20)"],
        good: "'good'",
        bad: "'n\\0ul'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'mended'"),
    },
    Case {
        table: "address_back",
        from_postgres: false,
        columns: ["inet", "varchar(60)"],
        good: "'10.0.0.1'",
        // The same address, but PostgreSQL would write it without the mask.
        bad: "'10.0.0.2/32'",
        code: "row-refused",
        constraint: None,
        mend: Mend::Source("'10.0.0.2'"),
    },
    Case {
        table: "list_back",
        from_postgres: false,
        columns: ["integer[]", "varchar(60)"],
        good: "'{1,2}'",
        bad: "'{1, 2}'",
        code: "row-refused",
        constraint: None,
        mend: Mend::Source("'{1,3}'"),
    },
    Case {
        table: "markup_back",
        from_postgres: false,
        columns: ["xml", "text"],
        good: "'<a/>'",
        bad: "'<a>'",
        code: "row-refused",
        constraint: None,
        mend: Mend::Source("'<a></a>'"),
    },
    Case {
        table: "bits_back",
        from_postgres: false,
        columns: ["bit(4)", "varchar(60)"],
        good: "'0101'",
        bad: "'01011'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'0111'"),
    },
    Case {
        table: "year_there",
        from_postgres: true,
        columns: ["smallint", "year"],
        good: "2025",
        // MySQL would make 2026 of it.
        bad: "26",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("2027"),
    },
    Case {
        table: "set_there",
        from_postgres: true,
        columns: ["text", "set('mon','tue')"],
        good: "'mon,tue'",
        // MySQL would put them into its own order.
        bad: "'tue,mon'",
        code: "value-misfit",
        constraint: None,
        mend: Mend::Source("'tue'"),
    },
];

impl Case {
    /// Whether the bridge was asked to try it, and had not tried it by itself a moment before.
    async fn heals(&self, link: &Link) -> bool {
        let (postgres, mysql) = (link.postgres(), link.mysql());
        let ((source, name), (target, by)) = if self.from_postgres { (postgres, mysql) } else { (mysql, postgres) };
        let table = self.table;
        let insert = |id: i32, v: &str| format!("INSERT INTO {table} (id, v) VALUES ({id}, {v})");
        let mut session = source.client().await;
        if source.kind != Kind::Postgres {
            session.run("SET sql_mode = ''").await;
        }
        session.run(&insert(1, self.good)).await;
        session.run("BEGIN").await;
        session.run(&insert(2, &self.good.replace("good", "fine"))).await;
        session.run(&insert(3, self.bad)).await;
        session.run(&insert(4, &self.good.replace("good", "well"))).await;
        session.run("COMMIT").await;
        link.settle().await;
        assert_eq!(ids(target, table).await, ["1", "2", "4"], "{table}: its neighbours are applied");

        let found = entries_of(link, table).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        let entry = &found[0];
        assert_eq!((&entry["node"], &entry["source"]), (&json!(by), &json!(name)));
        assert_eq!(
            (&entry["key"], &entry["operation"], &entry["before"]),
            (&json!([3]), &json!("insert"), &json!(null))
        );
        assert_eq!(entry["after"]["id"], 3, "{entry}");
        assert!(self.code.is_empty() || entry["code"] == self.code, "{entry}");
        assert!(entry["message"].as_str().unwrap().contains(&format!("{table} key (3)")), "{entry}");
        if let Some(constraint) = self.constraint {
            assert!(entry["constraint"].as_str().unwrap().contains(constraint), "{entry}");
        }
        for known in ["position", "transaction", "commit_time", "since", "next_attempt"] {
            assert!(entry[known].as_str().is_some_and(|text| !text.is_empty()), "{known}: {entry}");
        }
        let shown = link.succeed(&["quarantine", "show", &id(entry)]).await;
        assert!(shown.contains(&format!("kept by {by}")) && shown.contains("next attempt"), "{shown}");
        assert!(shown.contains(&format!("mend the row on {name} or what is in its way on {by}")), "{shown}");

        // Later changes of it wait behind it, others go on.
        session.run(&format!("UPDATE {table} SET w = 1 WHERE id IN (2, 3)")).await;
        link.settle().await;
        let (waits, tied): (Vec<_>, Vec<_>) =
            entries_of(link, table).await.into_iter().partition(|entry| entry["key"] == json!([3]));
        assert_eq!(waits.len(), 2, "{waits:#?}");
        // On a busy machine it was tried again by now, and what a constraint ties it to waits with it.
        let is_tied = |entry: &Json| self.constraint.is_some() && entry["operation"] == "settlement";
        assert!(tied.len() <= 1 && tied.iter().all(is_tied), "{tied:#?}");
        assert_eq!((&waits[1]["operation"], &waits[1]["code"]), (&json!("update"), &json!(null)));
        assert_eq!((&waits[1]["before"]["w"], &waits[1]["after"]["w"]), (&json!(0), &json!(1)));
        assert_eq!(target.value(&format!("SELECT w FROM {table} WHERE id = 2")).await, "1");

        let mut asked = false;
        match self.mend {
            Mend::Source(value) => session.run(&format!("UPDATE {table} SET v = {value} WHERE id = 3")).await,
            Mend::Target(sql) => {
                target.run(sql).await;
                let said = link.command(&["quarantine", "retry", &id(entry)]).await;
                // On a busy machine it was tried, and healed, before it could be asked for.
                asked = said.code == 0;
                let expected = if asked {
                    said.out.contains("by the running bridge")
                } else {
                    said.err.contains("it may have healed")
                };
                assert!(expected, "{said:?}");
            }
        }
        eventually("it is healed", async || entries_of(link, table).await.is_empty()).await;
        link.settle().await;
        assert_eq!(ids(target, table).await, ["1", "2", "3", "4"], "{table}");
        assert_eq!(target.value(&format!("SELECT w FROM {table} WHERE id = 3")).await, "1");
        asked
    }
}

async fn each_refusal_heals(kinds: [Kind; 2]) {
    let configuration = CASES.iter().map(|case| format!("[[tables]]\nname = \"{}\"\n", case.table)).collect();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    let [postgres, mysql] = [link.postgres().0, link.mysql().0];
    let rest = "w int NOT NULL DEFAULT 0, v";
    for Case { table, columns: [on_postgres, on_mysql], .. } in CASES {
        postgres.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, {rest} {on_postgres})")).await;
        postgres.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
        mysql.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, {rest} {on_mysql})")).await;
    }
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let mut asked = 0;
    for case in CASES {
        asked += u32::from(case.heals(&link).await);
    }
    assert!(asked > 0, "none was tried because it was asked for");
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
    for case in CASES {
        assert!(records(&link, case.table).await.starts_with("only_writer"), "{}", case.table);
    }
}

/// A link with the table `items`, of which node b refuses rows with a quantity below zero.
pub(crate) async fn refusing(kinds: [Kind; 2], more: &str) -> Link {
    let configuration = format!("{more}[[tables]]\nname = \"items\"\n");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4), (2, 'bolt', 9)").await;
    link.b.run("ALTER TABLE items ADD CONSTRAINT positive CHECK (quantity >= 0)").await;
    link.succeed(&["setup"]).await;
    link
}

const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

async fn both_sides_write_it(kinds: [Kind; 2]) {
    let link = refusing(kinds, "[server]\nlisten = \"127.0.0.1:0\"\n").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    link.edit("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let bridge = link.run();
    bridge.works().await;
    link.a.run("UPDATE items SET quantity = -4 WHERE id = 1").await;
    link.settle().await;
    // A row that moves ties both of its keys.
    link.a.run("UPDATE items SET id = 5, quantity = -9 WHERE id = 2").await;
    link.settle().await;
    let found = entries(&link).await;
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!((&found[1]["key"], &found[1]["moved_key"]), (&json!([2]), &json!([5])));
    assert_eq!((&found[2]["key"], &found[2]["moved_key"]), (&json!([5]), &json!([2])));

    let status: Json = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    assert_eq!(status["directions"][0]["quarantined"], 3, "{status:#}");
    assert_eq!(status["directions"][1]["quarantined"], 0);
    assert!(status["quarantined_since"].is_string());
    assert!(link.succeed(&["status"]).await.contains("pontoon quarantine list"));
    let page = get(port, "/metrics").await;
    let series = |line: &str| assert!(page.contains(line), "no {line} in {page}");
    series("pontoon_quarantined{bridge=\"e2e\",source=\"a\",target=\"b\"} 3");
    series("pontoon_quarantined_total{bridge=\"e2e\",reason=\"row_refused\",source=\"a\",target=\"b\"} 3");
    series("pontoon_rows_skipped_total{bridge=\"e2e\",reason=\"quarantined\",source=\"a\",target=\"b\"} 2");
    assert!(bridge.log().contains("a row is in quarantine"));

    // The other side's later write of it is stored behind it, and settles it by the rule.
    a_second_later().await;
    link.b.run("UPDATE items SET name = 'of b', quantity = 6 WHERE id = 1").await;
    eventually("the later write settles it", async || entries(&link).await.len() == 2).await;
    assert_eq!(conflicts(port).await.iter().map(|(_, count)| count).sum::<u32>(), 1, "a conflict since both wrote it");
    link.settle().await;
    assert_eq!(link.a.value("SELECT name FROM items WHERE id = 1").await, "of b");
    assert_eq!(records(&link, "items").await, "last_writer_wins: b");
    // The moved row heals under its new key.
    link.a.run("UPDATE items SET quantity = 8 WHERE id = 5").await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 2);
    assert_eq!(ids(&link.b, "items").await, ["1", "5"]);
    assert!(get(port, "/metrics").await.contains("pontoon_quarantined{bridge=\"e2e\",source=\"a\",target=\"b\"} 0"));
    assert_eq!(bridge.stop().await, 0);
}

/// Rows that a transaction writes between two changes of one, so that they are applied in different parts of it.
const BETWEEN: u64 = 30_000;

/// A large transaction gives a row that is in quarantine another key, and changes it there, many rows later.
async fn moved_and_written_again(kinds: [Kind; 2]) {
    let link = refusing(kinds, "").await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("UPDATE items SET quantity = -4 WHERE id = 1").await;
    link.settle().await;
    let mut client = link.a.client().await;
    client.run("BEGIN").await;
    client.run("UPDATE items SET id = 5 WHERE id = 1").await;
    let values = |n: &str| format!("100 + {n}, concat('row number ', {n}, ', which is as long as rows are'), 0");
    client.run(&insert_numbered(kinds[0], "items", BETWEEN, values)).await;
    client.run("UPDATE items SET name = 'again' WHERE id = 5").await;
    client.run("COMMIT").await;
    link.settle().await;
    let keys: Vec<Json> = entries(&link).await.into_iter().map(|entry| entry["key"][0].clone()).collect();
    assert_eq!(keys, [1, 1, 5, 5]);
    assert_eq!(records(&link, "items").await, "");

    link.a.run("UPDATE items SET quantity = 8 WHERE id = 5").await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len() as u64, 2 + BETWEEN);
    assert_eq!(bridge.stop().await, 0);
}

async fn get(port: u16, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Rows by the hundred, every third of them refused, on both sides, with the bridge killed again and again.
async fn killed_in_between(kinds: [Kind; 2]) {
    let link = refusing(kinds, "").await;
    let mut bridge = link.run();
    bridge.works().await;
    for round in 0..3 {
        for at in 0..12 {
            let base = 1_000 * round + 3 * at + 10;
            let rows = |name: &str, offset: i32| {
                let row = |n: i32| format!("({}, '{name}', {})", base + offset + n, if n == 1 { -n } else { n });
                (0..3).map(row).collect::<Vec<_>>().join(", ")
            };
            link.a.run(&format!("INSERT INTO items VALUES {}", rows("of a", 0))).await;
            link.b.run(&format!("INSERT INTO items VALUES {}", rows("of b", 500).replace("-1)", "1)"))).await;
            link.a.run(&format!("UPDATE items SET name = 'again' WHERE id IN ({}, {})", base, base + 1)).await;
        }
        bridge.kill();
        // Both sides write a row that waits.
        link.b.run(&format!("UPDATE items SET name = 'late' WHERE id = {}", 1_000 * round + 510)).await;
        bridge = link.run();
    }
    bridge.works().await;
    link.settle().await;
    let found = entries(&link).await;
    let refused: Vec<&Json> = found.iter().filter(|entry| !entry["code"].is_null()).collect();
    assert_eq!(refused.len(), 3 * 12, "every third row of a: {refused:#?}");
    let missing = "SELECT count(*) FROM items WHERE quantity >= 0";
    assert_eq!(link.a.value(missing).await, link.b.value(missing).await, "everything else is there");
    link.b.run("ALTER TABLE items DROP CONSTRAINT positive").await;
    bridge.kill();
    bridge = link.run();
    let all: Vec<String> = refused.iter().map(|entry| id(entry)).collect();
    let retry: Vec<&str> = ["quarantine", "retry"].into_iter().chain(all.iter().map(String::as_str)).collect();
    // Some of them may have healed already.
    let ended = link.command(&retry).await;
    assert!(ended.code <= 1, "{ended:?}");
    eventually("something heals", async || entries(&link).await.len() < found.len() / 2).await;
    bridge.kill();
    bridge = link.run();
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(bridge.stop().await, 0);
    assert_eq!(link.same(ALL).await.len(), 2 + 3 * 12 * 6);
    link.succeed(&["verify"]).await;
}

async fn discarded(kinds: [Kind; 2]) {
    let link = refusing(kinds, "").await;
    link.a.run("UPDATE items SET quantity = -4 WHERE id = 1").await;
    link.a.run("UPDATE items SET quantity = -9 WHERE id = 2").await;
    // Refused rows are no reason to fail.
    link.catch_up().await;
    let found = entries(&link).await;
    let (first, second) = (id(&found[0]), id(&found[1]));
    assert_eq!(link.command(&["quarantine", "show", "99999"]).await.code, 1);
    assert_eq!(link.command(&["quarantine", "discard", "99999", "--execute"]).await.code, 1);
    let listed = link.succeed(&["quarantine", "list"]).await;
    assert!(listed.contains("row-refused") && listed.lines().count() == 3, "{listed}");

    // Not without --execute; and without a bridge, when one starts.
    let ended = link.command(&["quarantine", "discard", &first]).await;
    assert!(ended.code == 0 && ended.err.contains("--execute") && ended.out.contains("-4"), "{ended:?}");
    link.catch_up().await;
    assert_eq!(entries(&link).await.len(), 2);
    let said = link.succeed(&["quarantine", "discard", &first, "--execute"]).await;
    assert!(said.contains("when the bridge is started"), "{said}");
    assert_eq!(entries(&link).await[0]["request"], "discard");
    let bridge = link.run();
    eventually("it is dropped", async || entries(&link).await.len() == 1).await;
    let quantity = "SELECT quantity FROM items WHERE id = 1";
    assert_eq!((link.a.value(quantity).await, link.b.value(quantity).await), ("-4".into(), "4".into()));
    assert_eq!(records(&link, "items").await, "discarded by an operator: b keeps its row");
    // Again without a bridge, by one that only catches up.
    assert_eq!(bridge.stop().await, 0);
    link.a.run("UPDATE items SET quantity = -5 WHERE id = 1").await;
    link.catch_up().await;
    let again = id(entries(&link).await.iter().find(|entry| entry["key"] == json!([1])).unwrap());
    assert_ne!(again, first, "no number is given twice");
    link.succeed(&["quarantine", "discard", &again, "--execute"]).await;
    link.catch_up().await;
    assert_eq!(entries(&link).await.len(), 1);
    let bridge = link.run();
    // What is written later crosses again.
    link.a.run("UPDATE items SET quantity = 7 WHERE id = 1").await;
    link.settle().await;
    assert_eq!(link.b.value(quantity).await, "7");

    // What was written since the operator looked is not dropped with the rest: the row is tried instead.
    bridge.works().await;
    bridge.kill();
    link.succeed(&["quarantine", "discard", &second, "--execute"]).await;
    link.a.run("UPDATE items SET quantity = 3 WHERE id = 2").await;
    let bridge = link.run();
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 2);
    assert_eq!(link.b.value("SELECT quantity FROM items WHERE id = 2").await, "3");
    assert!(records(&link, "items").await.ends_with("only_writer: a"));
    assert_eq!(bridge.stop().await, 0);
}

/// Both sides write a row while the bridge is down, and the one that wins is refused by the other.
async fn a_refused_settlement(kinds: [Kind; 2]) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let link = refusing(kinds, &format!("[server]\nlisten = \"127.0.0.1:{port}\"\n")).await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 1").await;
    a_second_later().await;
    link.a.run("UPDATE items SET quantity = -1 WHERE id = 1").await;
    link.a.run("UPDATE items SET quantity = 5 WHERE id = 2").await;
    let bridge = link.run();
    link.settle().await;
    assert_eq!(link.b.value("SELECT quantity FROM items WHERE id = 2").await, "5");
    let found = entries(&link).await;
    let refused = found.iter().find(|entry| !entry["code"].is_null()).unwrap();
    assert!(refused["message"].as_str().unwrap().contains("items key (1)"), "{refused}");
    let settlement = found.iter().any(|entry| entry["operation"] == "settlement");
    assert!(settlement || refused["operation"] == "update", "{found:#?}");
    assert_eq!(link.a.value("SELECT name FROM items WHERE id = 1").await, "anvil", "nothing of it is done");
    assert_eq!(conflicts(port).await, [("quarantined".to_owned(), 1)], "it is a conflict, and was met once");
    link.b.run("ALTER TABLE items DROP CONSTRAINT positive").await;
    // By itself.
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await[0][2].as_deref(), Some("-1"));
    assert_eq!(conflicts(port).await, [("quarantined".to_owned(), 1)], "that it healed is no other one");
    assert_eq!(bridge.stop().await, 0);
}

/// The conflicts of both directions, by outcome.
async fn conflicts(port: u16) -> Vec<(String, u32)> {
    let page = get(port, "/metrics").await;
    let lines = page.lines().filter(|line| line.starts_with("pontoon_conflicts_total{"));
    let mut counts = std::collections::BTreeMap::new();
    for (labels, count) in lines.map(|line| line.rsplit_once(' ').unwrap()) {
        let outcome = labels.split("outcome=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        *counts.entry(outcome).or_default() += count.parse::<u32>().unwrap();
    }
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Two rows that agree on a second unique column: neither side takes the other's, until one of them is taken away.
async fn unique_on_both_sides(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60) UNIQUE, quantity int NOT NULL").await;
    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (3, 'the same', 1)").await;
    link.b.run("INSERT INTO items VALUES (4, 'the same', 2)").await;
    link.b.run("INSERT INTO items VALUES (5, 'after', 1)").await;
    let bridge = link.run();
    link.settle().await;
    let mut nodes: Vec<Json> = entries(&link).await.iter().map(|entry| entry["node"].clone()).collect();
    nodes.sort_by_key(Json::to_string);
    assert_eq!(nodes, ["a", "b"]);
    assert_eq!(ids(&link.a, "items").await, ["3", "5"]);
    assert_eq!(ids(&link.b, "items").await, ["4", "5"]);
    link.b.run("DELETE FROM items WHERE id = 4").await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 2);
    assert_eq!(ids(&link.a, "items").await, ["3", "5"]);
    assert_eq!(bridge.stop().await, 0);
}
