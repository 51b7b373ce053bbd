//! `conflict = "quarantine"`: where both sides wrote a row, neither is touched until a person has chosen; and a choice about
//! rows that wait for other reasons.

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};

use crate::{
    quarantine::{entries, id, is_healed, refusing},
    support::{Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(a_person_chooses, a_refused_row_is_chosen);

const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

/// The entry of a row that says why it waits.
async fn entry(link: &Link, key: i64) -> Json {
    let of_key = |entry: &Json| entry["key"] == json!([key]) && !entry["code"].is_null();
    entries(link).await.into_iter().find(of_key).unwrap_or_else(|| panic!("{key} is not in quarantine"))
}

async fn is_out(link: &Link, key: i64) {
    eventually("it is out of quarantine", async || {
        entries(link).await.iter().all(|entry| entry["key"] != json!([key]))
    })
    .await;
}

/// The name on each side.
async fn names(link: &Link, key: i64) -> [String; 2] {
    let sql = format!("SELECT name FROM items WHERE id = {key}");
    [link.a.value(&sql).await, link.b.value(&sql).await]
}

/// The last record of a row, the same on both sides.
async fn last_rule(link: &Link, key: i64) -> String {
    let records = link.conflicts(&["--key", &key.to_string()]).await;
    let last =
        records.iter().max_by_key(|record| record["id"].as_i64()).unwrap_or_else(|| panic!("no record of {key}"));
    last["rule"].as_str().unwrap().to_owned()
}

async fn a_person_chooses(kinds: [Kind; 2]) {
    // What waits for a person is not refused: it does not stop the bridge either.
    let configuration = "[[tables]]\nname = \"items\"\nconflict = \"quarantine\"\non_error = \"stop\"\n".to_owned();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.both("INSERT INTO items VALUES (1, 'first', 1), (2, 'first', 1), (3, 'first', 1), (4, 'first', 1)").await;
    link.succeed(&["setup"]).await;
    for (node, name) in [(&link.a, "of a"), (&link.b, "of b")] {
        node.run(&format!("UPDATE items SET name = '{name}' WHERE id IN (1, 2)")).await;
        node.run(&format!("INSERT INTO items VALUES (5, '{name}', 1)")).await;
    }
    link.a.run("DELETE FROM items WHERE id = 3").await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 3").await;
    link.a.run("UPDATE items SET name = 'only of a' WHERE id = 4").await;
    let bridge = link.run();
    link.settle().await;
    for key in [1, 2, 5] {
        assert_eq!(names(&link, key).await, ["of a", "of b"], "{key} is not touched");
        assert_eq!(entry(&link, key).await["code"], "conflict-held");
    }
    assert_eq!(names(&link, 4).await, ["only of a", "only of a"], "what only one side wrote crosses");
    let shown = link.succeed(&["quarantine", "show", &id(&entry(&link, 1).await)]).await;
    assert!(shown.contains("of a") && shown.contains("of b") && shown.contains("--take a, or --take b"), "{shown}");

    // Later changes wait as well, and the row that is chosen is the one with them.
    link.a.run("UPDATE items SET quantity = 7 WHERE id = 1").await;
    link.settle().await;
    assert_eq!(names(&link, 1).await, ["of a", "of b"]);
    let first = id(&entry(&link, 1).await);
    assert_eq!(link.command(&["quarantine", "retry", &first, "--take", "nobody"]).await.code, 2);
    let said = link.succeed(&["quarantine", "retry", &first, "--take", "a"]).await;
    assert!(said.contains("to be as on a: 1 row by the running bridge"), "{said}");
    is_out(&link, 1).await;
    assert_eq!(link.b.value("SELECT concat(name, quantity) FROM items WHERE id = 1").await, "of a7");
    assert_eq!(last_rule(&link, 1).await, "decided by an operator: a");
    link.succeed(&["quarantine", "retry", &id(&entry(&link, 5).await), "--take", "b"]).await;
    is_out(&link, 5).await;
    assert_eq!(names(&link, 5).await, ["of b", "of b"]);
    // An absent row is a row to choose, too.
    link.succeed(&["quarantine", "retry", &id(&entry(&link, 3).await), "--take", "a"]).await;
    is_out(&link, 3).await;
    assert_eq!(link.b.value("SELECT count(*) FROM items WHERE id = 3").await, "0");

    // Where both have come to the same row, nobody needs to choose.
    link.both("UPDATE items SET name = 'the same' WHERE id = 2").await;
    is_healed(&link).await;
    assert_eq!(last_rule(&link, 2).await, "equal");

    // What was written since the operator looked is not chosen over: the request is taken back.
    assert_eq!(bridge.stop().await, 0);
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 4").await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 4").await;
    link.catch_up().await;
    let fourth = id(&entry(&link, 4).await);
    let said = link.succeed(&["quarantine", "retry", &fourth, "--take", "a"]).await;
    assert!(said.contains("when the bridge is started"), "{said}");
    assert_eq!(entry(&link, 4).await["request"], "take a");
    link.b.run("UPDATE items SET name = 'newer' WHERE id = 4").await;
    let bridge = link.run();
    eventually("the request is taken back", async || entry(&link, 4).await["request"].is_null()).await;
    link.settle().await;
    let message = entry(&link, 4).await["message"].clone();
    assert!(message.as_str().unwrap().contains("since an operator decided"), "{message}");
    assert_eq!(names(&link, 4).await, ["of a", "newer"]);
    link.succeed(&["quarantine", "retry", &fourth, "--take", "b"]).await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(names(&link, 4).await, ["newer", "newer"]);
    assert_eq!(link.same(ALL).await.len(), 4);
    assert_eq!(bridge.stop().await, 0);
}

async fn a_refused_row_is_chosen(kinds: [Kind; 2]) {
    let link = refusing(kinds, "").await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("UPDATE items SET quantity = -4 WHERE id = 1").await;
    link.settle().await;
    // The row that is refused is refused again.
    let attempts = async || entry(&link, 1).await["attempts"].as_i64().unwrap();
    let before = attempts().await;
    link.succeed(&["quarantine", "retry", &id(&entry(&link, 1).await), "--take", "a"]).await;
    eventually("it was tried", async || attempts().await > before).await;
    assert_eq!(entry(&link, 1).await["request"], json!(null));
    assert_eq!(entry(&link, 1).await["code"], "row-refused");
    // The other one is not.
    link.succeed(&["quarantine", "retry", &id(&entry(&link, 1).await), "--take", "b"]).await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.a.value("SELECT quantity FROM items WHERE id = 1").await, "4");
    assert_eq!(last_rule(&link, 1).await, "decided by an operator: b");
    assert_eq!(link.same(ALL).await.len(), 2);
    assert_eq!(bridge.stop().await, 0);
}
