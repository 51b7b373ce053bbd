//! What is said of settled conflicts, and for how long they are kept.

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};

use crate::support::{Link, LinkOptions, eventually, first_pairing};

/// Two tables, one of which prefers a node, with a row each that both sides overwrite.
async fn conflicts(link: &Link, names: [&str; 2]) {
    for (node, name) in link.nodes().into_iter().zip(names) {
        node.run(&format!("UPDATE items SET name = '{name}' WHERE id = 7")).await;
        node.run(&format!("UPDATE favoured SET name = '{name}' WHERE id = 9")).await;
    }
    link.catch_up().await;
}

async fn prepared(kinds: [Kind; 2], limits: &str) -> Link {
    let configuration =
        format!("[[tables]]\nname = \"items\"\n[[tables]]\nname = \"favoured\"\nconflict = \"prefer:b\"\n{limits}");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for (table, id) in [("items", 7), ("favoured", 9)] {
        link.create(table, "id bigint PRIMARY KEY, name varchar(60)").await;
        link.both(&format!("INSERT INTO {table} VALUES ({id}, 'at first')")).await;
    }
    link.succeed(&["setup"]).await;
    link
}

async fn on_record(kinds: [Kind; 2]) {
    let link = prepared(kinds, "").await;
    assert_eq!(link.succeed(&["conflicts", "list"]).await, "no conflict is on record\n");
    conflicts(&link, ["of a", "of b"]).await;

    let all = link.conflicts(&[]).await;
    assert_eq!(all.len(), 2, "{all:#?}");
    let ids: Vec<i64> = all.iter().map(|record| record["id"].as_i64().unwrap()).collect();
    assert!(ids[0] > ids[1], "the newest first: {all:#?}");
    let favoured = all.iter().find(|record| record["table"] == "favoured").unwrap();
    let row = |name: &str| json!({"id": 9, "name": name});
    assert_eq!(favoured["key"], json!([9]));
    assert_eq!(favoured["rule"], "prefer: b");
    assert_eq!(favoured["rows"], json!({"a": row("of a"), "b": row("of b")}));
    assert_eq!((&favoured["ancestor"], &favoured["verdict"]), (&row("at first"), &row("of b")));

    let item = all.iter().find(|record| record["table"] == "items").unwrap();
    let rule = item["rule"].as_str().unwrap();
    let settled = item["settled"].as_str().unwrap();
    for (filter, found) in [
        (["--table", "items"], vec![item]),
        (["--table", "other"], vec![]),
        (["--key", "9"], vec![favoured]),
        (["--key", "[7]"], vec![item]),
        (["--rule", "prefer"], vec![favoured]),
        (["--rule", rule], vec![item]),
        (["--since", "1h"], all.iter().collect()),
        (["--since", "2999-01-01T00:00:00Z"], vec![]),
        (["--until", "1h"], vec![]),
        (["--until", "2999-01-01T00:00:00Z"], all.iter().collect()),
    ] {
        let records = link.conflicts(&filter).await;
        assert_eq!(records.iter().collect::<Vec<_>>(), found, "{filter:?}");
    }
    assert!(link.conflicts(&["--since", settled]).await.contains(item), "the time of a record is in");
    assert!(!link.conflicts(&["--until", settled]).await.contains(item), "and is not before itself");
    let shown = link.succeed(&["conflicts", "list", "--limit", "1"]).await;
    assert_eq!(shown.lines().count(), 2, "a header and the newest: {shown}");

    let id = favoured["id"].to_string();
    let shown = link.succeed(&["conflicts", "show", &id]).await;
    for line in ["rule             prefer: b", "a held           {\"id\":9,\"name\":\"of a\"}"] {
        assert!(shown.lines().any(|found| found == line), "{line:?} in {shown}");
    }
    let document: Json = serde_json::from_str(&link.succeed(&["conflicts", "show", &id, "--json"]).await).unwrap();
    assert_eq!(document["conflicts"], json!([favoured]));
    let missing = link.command(&["conflicts", "show", "999"]).await;
    assert_eq!((missing.code, missing.out.as_str()), (1, ""), "{missing:?}");

    let stats: Json = serde_json::from_str(&link.succeed(&["conflicts", "stats", "--json"]).await).unwrap();
    let counted = |record: &Json| {
        let entries = stats["conflicts"].as_array().unwrap();
        let of = |entry: &&Json| entry["table"] == record["table"] && entry["rule"] == record["rule"];
        entries.iter().find(of).map(|entry| (entry["conflicts"].clone(), entry["first"].clone()))
    };
    for record in [favoured, item] {
        assert_eq!(counted(record), Some((json!(1), record["settled"].clone())), "{stats:#}");
    }
    assert_eq!(link.succeed(&["conflicts", "stats"]).await.lines().count(), 3);
}

async fn forgotten(kinds: [Kind; 2]) {
    let spill = tempfile::tempdir().unwrap();
    let limits = format!("[limits]\nspill_dir = \"{}\"\nhistory_records = 3\n", spill.path().display());
    let link = prepared(kinds, &limits).await;
    for round in 0..4 {
        conflicts(&link, [&format!("a{round}"), &format!("b{round}")]).await;
    }
    let count = "SELECT count(*) FROM pontoon.resolution WHERE bridge = 'e2e'";
    let last = link.conflicts(&[]).await[0]["id"].clone();
    let bridge = link.run();
    for node in link.nodes() {
        eventually("what need not be kept is removed", async || node.value(count).await == "3").await;
    }
    assert_eq!(link.conflicts(&[]).await[0]["id"], last, "the last ones are kept");
    assert_eq!(bridge.stop().await, 0);

    // By age: a year has passed, but the last record is kept for its number.
    link.edit("history_records = 3", "history_days = 1");
    for node in link.nodes() {
        let ago = if node.is_postgres() { "interval '2 days'" } else { "INTERVAL 2 DAY" };
        node.run(&format!("UPDATE pontoon.resolution SET created_at = created_at - {ago}")).await;
    }
    let bridge = link.run();
    for node in link.nodes() {
        eventually("what is too old is removed", async || node.value(count).await == "1").await;
    }
    assert_eq!(link.conflicts(&[]).await[0]["id"], last);
    assert_eq!(bridge.stop().await, 0);
    conflicts(&link, ["a9", "b9"]).await;
    let next = link.conflicts(&[]).await;
    assert!(next[0]["id"].as_i64() > last.as_i64(), "no number is given again: {next:#?}");
}

first_pairing! { on_record, forgotten }
