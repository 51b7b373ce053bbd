//! `repair`: what differs though no log tells why is made equal from one side, with a record, and nothing else is touched.

use pontoon_servers::Kind;

use crate::{
    commands::unseen,
    support::{Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(made_equal, while_both_sides_write, a_repair_is_refused);

const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

async fn ready(kinds: [Kind; 2]) -> Link {
    let configuration = "[[tables]]\nname = \"items\"\n".into();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 1), (2, 'bolt', 2), (3, 'chain', 3), (4, 'drill', 4)").await;
    link.succeed(&["setup"]).await;
    link
}

/// Differences of every kind, on both sides.
async fn plant(link: &Link) {
    let mut on_b = unseen(&link.b).await;
    on_b.run("UPDATE items SET name = 'changed' WHERE id = 1").await;
    on_b.run("DELETE FROM items WHERE id = 2").await;
    on_b.run("INSERT INTO items VALUES (9, 'alone', 9)").await;
    unseen(&link.a).await.run("UPDATE items SET quantity = 33 WHERE id = 3").await;
}

async fn made_equal(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    plant(&link).await;
    // Without a bridge, this process is one.
    let shown = link.command(&["repair", "--from", "a"]).await;
    assert_eq!(shown.code, 1, "{shown:?}");
    for line in [
        r#"items {"id":1}: changed on b in name"#,
        r#"items {"id":2}: added on b"#,
        r#"items {"id":3}: changed on b in quantity"#,
        r#"items {"id":9}: removed on b"#,
    ] {
        assert!(shown.out.contains(line), "{line} is not in {}", shown.out);
    }
    assert_eq!(link.b.value("SELECT count(*) FROM items").await, "4", "nothing is done yet");
    let done = link.succeed(&["repair", "--from", "a", "--execute"]).await;
    assert!(done.contains("repaired: 4 of 4"), "{done}");
    let rows = link.same(ALL).await;
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[2][2].as_deref(), Some("33"), "the rows of a stand");
    let records = link.conflicts(&[]).await;
    assert_eq!(records.len(), 4);
    assert!(records.iter().all(|record| record["rule"] == "repaired from a"), "{records:#?}");
    assert!(link.succeed(&["repair", "--from", "b", "--execute"]).await.contains("nothing to repair"));

    // Beside a bridge that runs, from the other side; and what is written comes back from nowhere.
    let bridge = link.run();
    bridge.works().await;
    plant(&link).await;
    let done = link.succeed(&["repair", "--from", "b", "--execute"]).await;
    assert!(done.contains("repaired: "), "{done}");
    link.settle().await;
    let rows = link.same("SELECT id, name FROM items ORDER BY id").await;
    let ids: Vec<_> = rows.iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(ids, ["1", "3", "4", "9"]);
    assert_eq!(rows[0][1].as_deref(), Some("changed"));
    link.succeed(&["verify"]).await;
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.control WHERE name LIKE 'repair:%'").await, "0");
    assert_eq!(bridge.stop().await, 0);
}

/// A row that is written while it waits to be made equal is settled by its table's rule.
async fn while_both_sides_write(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    plant(&link).await;
    link.a.run("UPDATE items SET name = 'written later' WHERE id = 3").await;
    link.b.run("UPDATE items SET name = 'written on b' WHERE id = 1").await;
    let done = link.succeed(&["repair", "--from", "a", "--execute"]).await;
    assert!(done.contains("repaired: 4 of 4"), "{done}");
    let rows = link.same(ALL).await;
    assert_eq!(rows[0][1].as_deref(), Some("written on b"), "what b wrote is not taken back: {rows:?}");
    assert_eq!(rows[2][1..], [Some("written later".to_owned()), Some("33".to_owned())]);
    assert_eq!(last_rule(&link, "1").await, "only_writer: b");
    assert_eq!(last_rule(&link, "2").await, "repaired from a");
}

async fn last_rule(link: &Link, key: &str) -> String {
    link.conflicts(&["--key", key]).await[0]["rule"].as_str().unwrap().to_owned()
}

/// The other node refuses a row: it waits in quarantine, and the rest is made equal.
async fn a_repair_is_refused(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    plant(&link).await;
    link.b.run("ALTER TABLE items ADD CONSTRAINT small CHECK (quantity < 30)").await;
    let bridge = link.run();
    bridge.works().await;
    let done = link.command(&["repair", "--from", "a", "--execute"]).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.out.contains("repaired: 3 of 4"), "{done:?}");
    assert!(link.succeed(&["quarantine", "list"]).await.contains("small"));
    link.b.run("ALTER TABLE items DROP CONSTRAINT small").await;
    link.succeed(&["quarantine", "retry", &first_id(&link).await]).await;
    eventually("it heals", async || link.succeed(&["quarantine", "list"]).await.contains("nothing is in quarantine"))
        .await;
    link.same(ALL).await;
    assert_eq!(bridge.stop().await, 0);
}

async fn first_id(link: &Link) -> String {
    crate::quarantine::entries(link).await[0]["id"].to_string()
}
