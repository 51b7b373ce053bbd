//! Two rows under one key, as generated keys that collide make them: `quarantine retry --key` gives one of them another, of a
//! key that waits for a person and of one that a rule has decided.

use pontoon_servers::Kind;
use serde_json::{Value as Json, json};

use crate::{
    quarantine::{entries, id, is_healed},
    support::{Ended, Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(both_rows_of_a_key_in_quarantine_are_kept, a_row_that_lost_is_given_a_key, killed_while_keys_are_given);

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), quantity smallint";

/// A link with tables `items`, which has rows 50 and 60, and `parts`, which have this rule, set up.
async fn start(kinds: [Kind; 2], rule: &str) -> Link {
    let table = |name: &str| format!("[[tables]]\nname = \"{name}\"\nconflict = \"{rule}\"\n");
    let configuration = table("items") + &table("parts");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", COLUMNS).await;
    link.create("parts", "shelf int, day date, name varchar(60), PRIMARY KEY (shelf, day)").await;
    link.both("INSERT INTO items VALUES (50, 'there', 1), (60, 'there', 1)").await;
    link.succeed(&["setup"]).await;
    link
}

/// Both sides insert a row of each key before they have seen the other's.
async fn collide(link: &Link, keys: &[i64]) {
    for (node, name) in [(&link.a, "of a"), (&link.b, "of b")] {
        for key in keys {
            node.run(&format!("INSERT INTO items VALUES ({key}, '{name} {key}', 1)")).await;
        }
    }
}

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

/// What both hold but under key 0, as `key name`.
async fn rows(link: &Link) -> Vec<String> {
    let text = |row: Vec<Option<String>>| format!("{} {}", row[0].clone().unwrap(), row[1].clone().unwrap());
    link.same("SELECT id, name FROM items WHERE id <> 0 ORDER BY id").await.into_iter().map(text).collect()
}

/// The last record of a row of a table.
async fn last(link: &Link, table: &str, key: &str) -> Json {
    let records = link.conflicts(&["--table", table, "--key", key]).await;
    records.into_iter().max_by_key(|record| record["id"].as_i64()).unwrap_or_else(|| panic!("no record of {key}"))
}

/// A command that says no, and why.
async fn refused(link: &Link, arguments: &[&str], code: i32, why: &str) {
    let ended: Ended = link.command(&[&["quarantine", "retry"], arguments].concat()).await;
    assert!(ended.code == code && ended.err.contains(why), "{arguments:?}: {ended:?}");
}

async fn both_rows_of_a_key_in_quarantine_are_kept(kinds: [Kind; 2]) {
    let link = start(kinds, "quarantine").await;
    collide(&link, &[1, 2, 3, 0]).await;
    link.a.run("INSERT INTO parts VALUES (1, '2026-11-28', 'of a')").await;
    link.b.run("INSERT INTO parts VALUES (1, '2026-11-28', 'of b')").await;
    let bridge = link.run();
    link.settle().await;
    let of_key = async |key: i64| id(&entry(&link, key).await);
    let first = entry(&link, 1).await;
    let (keeps, other) = (first["node"].as_str().unwrap().to_owned(), first["source"].as_str().unwrap().to_owned());
    let shown = link.succeed(&["quarantine", "show", &id(&first)]).await;
    assert!(shown.contains(&format!("--key NEW keeps both, that of {other} under another key")), "{shown}");

    // What is no key, or not free, is said at once.
    refused(&link, &[&id(&first), "--key", "x"], 2, "id is of the form integer").await;
    refused(&link, &[&id(&first), "--key", "[1, 2]"], 2, "2 in number, for 1").await;
    refused(&link, &[&id(&first), "--key", "99999999999999999999"], 2, "does not hold it").await;
    refused(&link, &[&id(&first), &of_key(2).await, "--key", "9"], 2, "several ids").await;
    refused(&link, &[&id(&first), "--key", "50"], 1, "has a row under the key [50]").await;
    refused(&link, &["999999", "--key", "9"], 1, "no entry 999999 in quarantine and no record 999999").await;
    refused(&link, &[&id(&first), "--key", "9", "--take", "nobody"], 2, "no node").await;

    // The other node's row goes where it is told, and with --take that of the node that is not named.
    let said = link.succeed(&["quarantine", "retry", &id(&first), "--key", "101"]).await;
    let told =
        format!("the row of {keeps} is to keep the key [1], that of {other} to have [101]: by the running bridge");
    assert!(said.contains(&told), "{said}");
    is_out(&link, 1).await;
    link.succeed(&["quarantine", "retry", &of_key(2).await, "--take", "a", "--key", "102"]).await;
    is_out(&link, 2).await;
    link.succeed(&["quarantine", "retry", &of_key(3).await, "--take", "b", "--key", "103"]).await;
    is_out(&link, 3).await;
    let now = rows(&link).await;
    let expected = [
        format!("1 of {keeps} 1"),
        "2 of a 2".into(),
        "3 of b 3".into(),
        format!("101 of {other} 1"),
        "102 of b 2".into(),
        "103 of a 3".into(),
    ];
    assert!(expected.iter().all(|row| now.contains(row)), "{now:?}");
    for key in ["2", "102"] {
        let record = last(&link, "items", key).await;
        assert_eq!(record["rule"], "decided by an operator: a, the other row under key (102)");
        assert_eq!(record["verdict"]["id"].to_string(), key);
        assert_eq!(record["group"], last(&link, "items", "2").await["group"], "they were decided as one");
    }
    // The row that was not chosen is not lost.
    let again = last(&link, "items", "2").await["id"].to_string();
    refused(&link, &[&again, "--key", "9"], 1, "the row that lost was given a key then").await;

    // Of several columns.
    let parts = entries(&link).await.into_iter().find(|entry| entry["table"] == "parts" && !entry["code"].is_null());
    let parts = id(&parts.unwrap());
    refused(&link, &[&parts, "--key", "7"], 2, "1 in number, for 2").await;
    link.succeed(&["quarantine", "retry", &parts, "--take", "b", "--key", "[7, \"2026-11-29\"]"]).await;
    eventually("it is out of quarantine", async || entries(&link).await.iter().all(|entry| entry["table"] == "items"))
        .await;
    let parts = link.same("SELECT name FROM parts ORDER BY shelf").await;
    assert_eq!(parts, [[Some("of b".to_owned())], [Some("of a".to_owned())]]);

    what_is_no_longer_so_is_taken_back(&link, bridge).await;
}

/// What is said of key 0 when the request is taken back.
async fn taken_back(link: &Link) -> String {
    eventually("the request is taken back", async || entry(link, 0).await["request"].is_null()).await;
    entry(link, 0).await["message"].as_str().unwrap().to_owned()
}

/// Between the command and the bridge the key is taken, or the row written.
async fn what_is_no_longer_so_is_taken_back(link: &Link, bridge: crate::support::Bridge) {
    assert_eq!(bridge.stop().await, 0);
    let fourth = id(&entry(link, 0).await);
    let said = link.succeed(&["quarantine", "retry", &fourth, "--take", "a", "--key", "104"]).await;
    assert!(said.contains("when the bridge is started"), "{said}");
    assert_eq!(entry(link, 0).await["request"], "take a, the other row under a new key");
    link.b.run("INSERT INTO items VALUES (104, 'just now', 1)").await;
    let bridge = link.run();
    let why = taken_back(link).await;
    assert!(why.contains("the other row was not given the key (104): "), "{why}");
    assert_eq!(entry(link, 0).await["code"], "conflict-held");
    for (node, name) in [(&link.a, "of a 0"), (&link.b, "of b 0")] {
        assert_eq!(node.value("SELECT name FROM items WHERE id = 0").await, name, "neither row is touched");
    }
    assert_eq!(bridge.stop().await, 0);
    link.succeed(&["quarantine", "retry", &fourth, "--take", "a", "--key", "105"]).await;
    link.a.run("UPDATE items SET name = 'newer' WHERE id = 0").await;
    let bridge = link.run();
    let why = taken_back(link).await;
    assert!(why.contains("(105): it was written since that was asked for"), "{why}");
    link.settle().await;
    for (node, name) in [(&link.a, "newer"), (&link.b, "of b 0")] {
        assert_eq!(node.value("SELECT name FROM items WHERE id = 0").await, name, "neither row is touched");
    }
    link.succeed(&["quarantine", "retry", &fourth, "--take", "a", "--key", "105"]).await;
    is_healed(link).await;
    link.settle().await;
    let now = rows(link).await;
    assert!(["104 just now", "105 of b 0"].iter().all(|row| now.contains(&(*row).to_owned())), "{now:?}");
    assert_eq!(link.same("SELECT name FROM items WHERE id = 0").await, [[Some("newer".to_owned())]]);
    let left = "SELECT count(*) FROM pontoon.control WHERE name LIKE 'key:%'";
    for node in link.nodes() {
        assert_eq!(node.value(left).await, "0", "requests of entries are done");
    }
    assert_eq!(bridge.stop().await, 0);
}

async fn a_row_that_lost_is_given_a_key(kinds: [Kind; 2]) {
    let link = start(kinds, "prefer:a").await;
    collide(&link, &[1, 2, 3]).await;
    link.a.run("DELETE FROM items WHERE id = 60").await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 60").await;
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 50").await;
    link.b.run("DELETE FROM items WHERE id = 50").await;
    let bridge = link.run();
    link.settle().await;
    assert_eq!(rows(&link).await, ["1 of a 1", "2 of a 2", "3 of a 3", "50 of a"]);
    let record = async |key: &str| last(&link, "items", key).await["id"].to_string();
    let (first, second, third) = (record("1").await, record("2").await, record("3").await);
    let show = async |id: &str| link.succeed(&["conflicts", "show", id]).await;
    assert!(show(&first).await.contains(&format!("quarantine retry {first} --key NEW")));
    assert!(!show(&record("60").await).await.contains("--key NEW"), "no two rows collided");
    refused(&link, &[&record("50").await, "--key", "9"], 1, "what lost is no row").await;
    refused(&link, &[&first, "--key", "2"], 1, "a has a row under the key [2]").await;
    refused(&link, &[&first, "--key", "nine"], 2, "id is of the form integer").await;
    refused(&link, &[&first, "--key", "9", "--take", "b"], 2, "--take is for entries").await;

    let said = link.succeed(&["quarantine", "retry", &first, "--key", "101"]).await;
    assert!(said.contains(&format!("the row of b that lost in record {first} is to have the key [101]")), "{said}");
    let given = async |id: &str| show(id).await.contains("was given to the row that lost");
    eventually("it has its key", async || given(&first).await).await;
    link.settle().await;
    assert_eq!(rows(&link).await, ["1 of a 1", "2 of a 2", "3 of a 3", "50 of a", "101 of b 1"]);
    let record = last(&link, "items", "101").await;
    assert_eq!(record["rule"], format!("decided by an operator: the row that lost in record {first}"));
    assert_eq!((&record["rows"]["a"], &record["verdict"]["id"]), (&Json::Null, &json!(101)));

    // Once: also where the row is gone since.
    link.a.run("DELETE FROM items WHERE id = 101").await;
    link.settle().await;
    let already =
        format!("the row that lost in record {first} was given the key [101] already, record {}", record["id"]);
    refused(&link, &[&first, "--key", "102"], 1, &already).await;
    refused(&link, &[&first, "--key", "101"], 1, &already).await;

    // The key is taken before the bridge comes to it: that is said, and another one can be asked for.
    assert_eq!(bridge.stop().await, 0);
    link.succeed(&["quarantine", "retry", &second, "--key", "202"]).await;
    assert!(show(&second).await.contains("[202] is asked for the row that lost"));
    link.b.run("INSERT INTO items VALUES (202, 'just now', 1)").await;
    link.catch_up().await;
    let why = show(&second).await;
    assert!(why.contains("[202] was not given to the row that lost: "), "{why}");
    // The last that was asked for counts.
    link.succeed(&["quarantine", "retry", &second, "--key", "203"]).await;
    link.succeed(&["quarantine", "retry", &second, "--key", "204"]).await;
    // A side refuses it.
    link.b.run("ALTER TABLE items ADD CONSTRAINT small CHECK (id < 300)").await;
    link.succeed(&["quarantine", "retry", &third, "--key", "303"]).await;
    link.catch_up().await;
    let why = show(&third).await;
    assert!(why.contains("[303] was not given to the row that lost: ") && why.contains("small"), "{why}");
    assert!(given(&second).await);
    assert_eq!(rows(&link).await, ["1 of a 1", "2 of a 2", "3 of a 3", "50 of a", "202 just now", "204 of b 2"]);
    assert!(entries(&link).await.is_empty(), "what is not given is not in quarantine either");
    link.succeed(&["verify", "--table", "items"]).await;
}

/// However often the bridge is killed meanwhile, each row comes to stand once under its key and under no other.
async fn killed_while_keys_are_given(kinds: [Kind; 2]) {
    const KEYS: std::ops::RangeInclusive<i64> = 1..=12;
    let link = start(kinds, "prefer:b").await;
    let keys: Vec<i64> = KEYS.collect();
    collide(&link, &keys).await;
    link.catch_up().await;
    let mut bridge = link.run();
    for key in KEYS {
        let record = last(&link, "items", &key.to_string()).await["id"].to_string();
        link.succeed(&["quarantine", "retry", &record, "--key", &(100 + key).to_string()]).await;
        if key % 3 == 0 {
            bridge.kill();
            bridge = link.run();
        }
    }
    eventually("each has its key", async || link.a.value("SELECT count(*) FROM items WHERE id > 100").await == "12")
        .await;
    assert_eq!(bridge.stop().await, 0);
    link.catch_up().await;
    let expected: Vec<String> = KEYS
        .map(|key| format!("{key} of b {key}"))
        .chain([50, 60].map(|key| format!("{key} there")))
        .chain(KEYS.map(|key| format!("{} of a {key}", 100 + key)))
        .collect();
    assert_eq!(rows(&link).await, expected);
    let asked = "SELECT count(*) FROM pontoon.control WHERE name LIKE 'key:record:%' AND number = 2";
    assert_eq!(link.a.value(asked).await, "12", "each is answered");
}
