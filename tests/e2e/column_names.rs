//! Columns that have another name on each side, and columns that only one side has.

use std::time::Duration;

use pontoon_servers::Kind;
use serde_json::Value as Json;

use crate::{
    quarantine::entries,
    support::{Database, Link, LinkOptions, first_pairing},
};

first_pairing!(each_value_finds_its_column, a_table_is_made_with_its_names, references_and_keys, what_is_in_the_way);

/// Three of the columns change places by name, and each side has something that the other lacks.
const POSTGRES: &str = "id int PRIMARY KEY, email varchar(60) NOT NULL, one int, two int, three int, stock int NOT NULL, \
     tags int[] NOT NULL DEFAULT '{1}', note varchar(60) DEFAULT 'ours'";
const MYSQL: &str = "stock_level int NOT NULL, two int, three int, `one` int, legacy int NOT NULL DEFAULT 7, \
     `e-mail` varchar(60) NOT NULL, note varchar(60) DEFAULT 'theirs', id int PRIMARY KEY";

/// The configuration; `MYSQL` stands for the node's name.
const COLUMNS: &str = r#"
[[tables]]
name = "people"
[tables.columns]
email = { MYSQL = "e-mail" }
one = { MYSQL = "two" }
two = { MYSQL = "three" }
three = { MYSQL = "one" }
stock = { MYSQL = "stock_level", rule = "additive" }
tags = "ignore"
legacy = "ignore"
note = "ignore"
"#;

async fn start(kinds: [Kind; 2], columns: &str) -> Link {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.configure(&columns.replace("MYSQL", link.mysql().1));
    link
}

async fn ready(kinds: [Kind; 2]) -> Link {
    let link = start(kinds, COLUMNS).await;
    link.postgres().0.create("people", POSTGRES).await;
    link.mysql().0.create("people", MYSQL).await;
    link
}

/// What is bridged, in the order of PostgreSQL's columns.
async fn bridged(node: &Database) -> Vec<Vec<Option<String>>> {
    let columns = if node.is_postgres() {
        "id, email, one, two, three, stock"
    } else {
        "id, `e-mail`, two, three, `one`, stock_level"
    };
    node.rows(&format!("SELECT {columns} FROM people ORDER BY id")).await
}

async fn equal(link: &Link) -> Vec<Vec<Option<String>>> {
    let rows = bridged(&link.a).await;
    assert_eq!(rows, bridged(&link.b).await);
    rows
}

async fn each_value_finds_its_column(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let ((postgres, in_postgres), (mysql, _)) = (link.postgres(), link.mysql());
    postgres.run("INSERT INTO people VALUES (1, 'copied', 1, 2, 3, 10, '{5}', 'kept')").await;
    link.succeed(&["setup"]).await;
    link.succeed(&["copy", "--from", in_postgres]).await;
    link.catch_up().await;
    assert_eq!(
        mysql.rows("SELECT id, `e-mail`, `one`, two, three, stock_level, legacy, note FROM people").await,
        [["1", "copied", "3", "1", "2", "10", "7", "theirs"].map(|text| Some(text.to_owned()))]
    );

    let bridge = link.run();
    bridge.works().await;
    mysql.run("INSERT INTO people (id, `e-mail`, `one`, two, three, stock_level) VALUES (2, 'b', 30, 10, 20, 5)").await;
    // What is ignored crosses in neither direction, and stays where it is when the rest of its row is written.
    postgres.run("UPDATE people SET tags = '{6,7}', note = 'still kept' WHERE id = 1").await;
    mysql.run("UPDATE people SET legacy = 8, note = 'here too', `one` = 33 WHERE id = 1").await;
    link.settle().await;
    assert_eq!(equal(&link).await[1], ["2", "b", "10", "20", "30", "5"].map(|text| Some(text.to_owned())));
    let ours = postgres.rows("SELECT three, tags::text, note FROM people WHERE id = 1").await;
    assert_eq!(ours, [["33", "{6,7}", "still kept"].map(|text| Some(text.to_owned()))]);
    let theirs = mysql.rows("SELECT legacy, note FROM people ORDER BY id").await;
    assert_eq!(theirs[0], ["8", "here too"].map(|text| Some(text.to_owned())));
    // Its own defaults where the row has come from the other side, and what was given where it was made.
    assert_eq!(postgres.value("SELECT tags::text || note FROM people WHERE id = 2").await, "{1}ours");

    both_write(&link).await;
    assert!(entries(&link).await.is_empty());
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);

    // A conflict: each node's record has its own names.
    postgres.run("UPDATE people SET email = 'first', stock = stock + 1 WHERE id = 1").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    mysql.run("UPDATE people SET `e-mail` = 'second', stock_level = stock_level + 2 WHERE id = 1").await;
    let before: i64 = stock(postgres, "stock").await - 1;
    link.catch_up().await;
    let rows = equal(&link).await;
    assert_eq!(rows[0][1].as_deref(), Some("second"));
    assert_eq!(rows[0][5].as_deref(), Some(&*(before + 3).to_string()));
    for (node, name) in [(postgres, "email"), (mysql, "e-mail")] {
        let verdict = node.value("SELECT verdict FROM pontoon.resolution ORDER BY id DESC LIMIT 1").await;
        let verdict: Json = serde_json::from_str(&verdict).unwrap();
        assert_eq!(verdict[name], "second", "{verdict}");
    }
    // A row removed, and a difference that no log has, mended by the names of each side.
    mysql.run("SET sql_log_bin = 0; UPDATE people SET three = -1 WHERE id = 2").await;
    postgres.run("DELETE FROM people WHERE id = 1").await;
    link.catch_up().await;
    let found = link.command(&["verify"]).await;
    assert_eq!(found.code, 1, "{found:?}");
    link.succeed(&["repair", "--from", in_postgres, "--execute"]).await;
    link.catch_up().await;
    assert!(equal(&link).await.len() > 1);
    link.succeed(&["verify"]).await;

    // What was ignored is bridged from now on.
    let bridge = link.run();
    bridge.works().await;
    link.succeed(&["wait"]).await;
    assert_eq!(bridge.stop().await, 0);
    link.edit("note = \"ignore\"\n", "");
    let bridge = link.run();
    bridge.works().await;
    mysql.run("UPDATE people SET note = 'crosses' WHERE id = 2").await;
    link.settle().await;
    assert_eq!(link.command(&["verify"]).await.code, 1, "what was there before is not");
    link.succeed(&["repair", "--from", in_postgres, "--execute"]).await;
    link.settle().await;
    link.succeed(&["verify"]).await;
    for node in link.nodes() {
        let notes = node.rows("SELECT note, count(*) FROM people GROUP BY note ORDER BY note").await;
        assert_eq!(notes, [["crosses", "1"], ["ours", "120"]].map(|row| row.map(|text| Some(text.to_owned()))));
    }
    assert_eq!(bridge.stop().await, 0);
}

/// What the counter of the first row has come to.
async fn stock(node: &Database, column: &str) -> i64 {
    node.value(&format!("SELECT {column} FROM people WHERE id = 1")).await.parse().unwrap()
}

/// Writers on both sides at once, with conflicts; the additions count.
async fn both_write(link: &Link) {
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    let before = stock(postgres, "stock").await;
    let (mut ours, mut theirs) = (postgres.client().await, mysql.client().await);
    for n in 0..60 {
        let (odd, even) = (1001 + 2 * n, 1000 + 2 * n);
        let (a, b) = (
            format!(
                "INSERT INTO people (id, email, one, two, three, stock) VALUES ({odd}, 'p', {n}, 2, 3, 4); \
                 UPDATE people SET stock = stock + 1, one = {n}, tags = tags || {n} WHERE id = 1"
            ),
            format!(
                "INSERT INTO people (id, `e-mail`, two, stock_level, legacy) VALUES ({even}, 'm', {n}, 4, {n}); \
                 UPDATE people SET stock_level = stock_level + 2, `one` = {n}, legacy = {n} WHERE id = 1"
            ),
        );
        tokio::join!(ours.run(&a), theirs.run(&b));
    }
    link.settle().await;
    assert_eq!(equal(link).await.len(), 122);
    assert_eq!(stock(postgres, "stock").await, before + 60 * 3);
    assert_eq!(mysql.value("SELECT legacy FROM people WHERE id = 1").await, "59");
    assert_eq!(postgres.value("SELECT cardinality(tags) FROM people WHERE id = 1").await, "62");
}

async fn a_table_is_made_with_its_names(kinds: [Kind; 2]) {
    for made_in_postgres in [true, false] {
        let link = start(kinds, COLUMNS).await;
        let (postgres, mysql) = (link.postgres().0, link.mysql().0);
        if made_in_postgres {
            mysql.create("people", MYSQL).await;
            mysql.run("ALTER TABLE people ADD UNIQUE KEY by_mail (`e-mail`), ADD KEY by_legacy (legacy)").await;
        } else {
            postgres.create("people", POSTGRES).await;
            postgres.run("CREATE UNIQUE INDEX by_mail ON people (email); CREATE INDEX by_note ON people (note)").await;
        }
        let told = link.succeed(&["setup", "--create-tables"]).await;
        assert!(told.contains("over a column that is not bridged"), "{told}");
        let insert = "INSERT INTO people (id, email, one, two, three, stock) VALUES (1, 'x', 1, 2, 3, 4)";
        postgres.run(insert).await;
        link.catch_up().await;
        assert_eq!(equal(&link).await.len(), 1);
        let names = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'people'";
        let made = if made_in_postgres { postgres } else { mysql };
        assert_eq!(made.value(names).await, "6", "what is ignored is not made");
        let twice = if made_in_postgres {
            "INSERT INTO people (id, email, stock) VALUES (2, 'x', 1)"
        } else {
            "INSERT INTO people (id, `e-mail`, stock_level) VALUES (2, 'x', 1)"
        };
        assert!(made.client().await.try_run(twice).await.is_err(), "the unique index came along");
    }
}

/// Names of keys, of unique constraints' columns and of references' differ too.
async fn references_and_keys(kinds: [Kind; 2]) {
    let columns = r#"
[[tables]]
name = "parents"
columns = { id = { MYSQL = "parent_id" }, code = { MYSQL = "short" } }
[[tables]]
name = "children"
columns = { id = { MYSQL = "child_id" }, parent = { MYSQL = "of" } }
foreign_key = "restore_parent"
"#;
    let link = start(kinds, columns).await;
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    postgres.create("parents", "id int PRIMARY KEY, code varchar(20) UNIQUE").await;
    mysql.create("parents", "parent_id int PRIMARY KEY, short varchar(20) UNIQUE").await;
    postgres.create("children", "id int PRIMARY KEY, parent int REFERENCES parents (id)").await;
    mysql
        .create("children", "child_id int PRIMARY KEY, `of` int, FOREIGN KEY (`of`) REFERENCES parents (parent_id)")
        .await;
    link.succeed(&["setup"]).await;
    postgres.run("INSERT INTO parents VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    link.catch_up().await;
    // A swap of unique values, a parent removed under a new child, and a key given to a row.
    postgres.run("UPDATE parents SET code = 'x' WHERE id = 1; UPDATE parents SET code = 'a' WHERE id = 2").await;
    mysql.run("INSERT INTO children VALUES (10, 3)").await;
    postgres.run("DELETE FROM parents WHERE id = 3").await;
    link.catch_up().await;
    mysql.run("UPDATE children SET child_id = 11 WHERE child_id = 10").await;
    link.catch_up().await;
    let rows = postgres.rows("SELECT id, code FROM parents ORDER BY id").await;
    assert_eq!(rows, mysql.rows("SELECT parent_id, short FROM parents ORDER BY parent_id").await);
    let expected = [["1", "x"], ["2", "a"], ["3", "c"]].map(|row| row.map(|text| Some(text.to_owned())));
    assert_eq!(rows, expected);
    let children = [["11", "3"].map(|text| Some(text.to_owned()))];
    assert_eq!(postgres.rows("SELECT id, parent FROM children").await, children);
    assert_eq!(mysql.rows("SELECT child_id, `of` FROM children").await, children);
    assert!(entries(&link).await.is_empty());
    link.succeed(&["verify"]).await;
}

async fn what_is_in_the_way(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let ((postgres, in_postgres), (mysql, in_mysql)) = (link.postgres(), link.mysql());
    let of_severity = async |severity: &str| {
        let (_, findings) = link.check().await;
        let blocks = |finding: &&Json| finding["severity"] == severity;
        let text = |finding: &Json| {
            let part = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            [part("code"), part("subject"), part("actual"), part("remedy")].join(" | ")
        };
        findings.iter().filter(blocks).map(text).filter(|text| text.contains("people")).collect::<Vec<_>>()
    };
    let found = async || of_severity("blocking").await;
    let is_one = |found: Vec<String>, parts: &[&str]| {
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(parts.iter().all(|part| found[0].contains(part)), "{found:#?}");
    };
    // Without a word about it: named, and the ways out.
    link.edit("legacy = \"ignore\"\n", "");
    let only = format!("only on {in_mysql}");
    is_one(found().await, &["column-missing", "people column legacy", &only, "columns = { \"legacy\" = \"ignore\" }"]);
    link.edit("tags = \"ignore\"\n", "tags = \"ignore\"\nlegacy = \"ignore\"\n");
    // Rows that arrive would have nothing to put there.
    mysql.run("ALTER TABLE people MODIFY legacy int NOT NULL").await;
    is_one(found().await, &["column-default-missing", "people column legacy", in_mysql, "ALTER"]);
    mysql.run("ALTER TABLE people MODIFY legacy int NULL").await;
    postgres.run("ALTER TABLE people ALTER tags DROP DEFAULT").await;
    is_one(found().await, &["column-default-missing", "people column tags", in_postgres, "ALTER"]);
    postgres.run("ALTER TABLE people ALTER tags SET DEFAULT '{}'").await;
    assert_eq!(found().await, Vec::<String>::new());
    // A name that is no column's, on either node; and a key that is left out.
    link.edit("\"e-mail\"", "\"e_mail\"");
    let texts = found().await;
    assert!(texts.iter().any(|text| text.contains("column-missing | people column email")), "{texts:#?}");
    assert!(texts.iter().any(|text| text.contains("column-missing | people column e-mail")), "{texts:#?}");
    link.edit("\"e_mail\"", "\"e-mail\"");
    link.edit("note = \"ignore\"", "note = \"ignore\"\nnotes = \"ignore\"");
    assert_eq!(found().await, Vec::<String>::new());
    let warned = of_severity("warning").await.into_iter().filter(|text| text.contains("column-rule-unfit")).collect();
    is_one(warned, &["people column notes", "neither side", "did you mean note?"]);
    link.edit("notes = \"ignore\"", "id = \"ignore\"");
    is_one(found().await, &["column-rule-unfit", "people key column id", "ignored"]);
    link.edit("id = \"ignore\"\n", "");
    // A reference over a column that stays behind cannot be watched.
    for node in link.nodes() {
        node.create("places", "id int PRIMARY KEY").await;
    }
    let name = |node: &Database| if node.is_postgres() { "note" } else { "legacy" };
    for node in link.nodes() {
        let column = name(node);
        if node.is_postgres() {
            node.run("ALTER TABLE people ALTER note DROP DEFAULT; ALTER TABLE people ALTER note TYPE int USING NULL")
                .await;
        }
        node.run(&format!("ALTER TABLE people ADD CONSTRAINT of_place FOREIGN KEY ({column}) REFERENCES places (id)"))
            .await;
    }
    link.edit("[[tables]]\nname = \"people\"", "[[tables]]\nname = \"places\"\n[[tables]]\nname = \"people\"");
    let texts = found().await;
    let outside =
        |text: &&String| text.starts_with("foreign-key-outside") && text.contains("over a column that is not bridged");
    assert_eq!(texts.iter().filter(outside).count(), 2, "one on each side: {texts:#?}");
    assert_eq!(texts.len(), 2, "{texts:#?}");
}
