//! What stood in a row's way is taken away while the bridge runs: it sees that, and the row heals.

use pontoon_servers::{Kind, Options};

use crate::{
    quarantine::{entries, entries_of, id, is_healed},
    support::{Link, LinkOptions, a_second_later, eventually, first_pairing},
};

first_pairing!(a_wider_column, larger_than_a_packet);

/// Makes the column `v` of a table wider.
fn widen(kind: Kind, table: &str) -> String {
    match kind {
        Kind::Postgres => format!("ALTER TABLE {table} ALTER v TYPE varchar(20)"),
        Kind::Mariadb | Kind::Mysql => format!("ALTER TABLE {table} MODIFY v varchar(20)"),
    }
}

/// A table whose log is read on the side where it is widened, and two where it is not: there nothing but a look at the
/// table itself tells.
async fn a_wider_column(kinds: [Kind; 2]) {
    const TABLES: [&str; 3] = ["two_ways", "asked", "unasked"];
    let configuration = TABLES.map(|table| {
        let direction = if table == "two_ways" { "" } else { "direction = \"a->b\"\n" };
        format!("[[tables]]\nname = \"{table}\"\n{direction}")
    });
    let link =
        Link::start(kinds, LinkOptions { configuration: configuration.concat(), ..LinkOptions::default() }).await;
    for table in TABLES {
        link.create(table, "id int PRIMARY KEY, v varchar(5)").await;
        link.a.run(&widen(link.a.kind, table)).await;
    }
    link.succeed(&["setup"]).await;
    let mut bridge = link.run();
    bridge.works().await;
    for table in TABLES {
        link.a.run(&format!("INSERT INTO {table} VALUES (1, 'too long'), (2, 'short')")).await;
    }
    link.settle().await;
    assert_eq!(entries(&link).await.len(), 3);
    for table in ["asked", "unasked"] {
        link.b.run(&widen(link.b.kind, table)).await;
    }
    let asked = id(&entries_of(&link, "asked").await[0]);
    link.succeed(&["quarantine", "retry", &asked]).await;
    for table in ["asked", "unasked"] {
        eventually("it is healed", async || entries_of(&link, table).await.is_empty()).await;
    }
    assert_eq!(entries_of(&link, "two_ways").await.len(), 1, "there it is still too long");
    // The log of b tells of this one, by the statement itself or by the next row.
    link.b.run(&widen(link.b.kind, "two_ways")).await;
    link.b.run("INSERT INTO two_ways VALUES (3, 'from the other')").await;
    is_healed(&link).await;
    link.a.run("INSERT INTO asked VALUES (4, 'long as well')").await;
    link.settle().await;
    assert_eq!(link.same("SELECT id FROM asked ORDER BY id").await.len(), 3);
    assert_eq!(link.same("SELECT id FROM two_ways ORDER BY id").await.len(), 3);
    link.succeed(&["verify"]).await;
    assert!(bridge.is_running(), "it never stopped");
    assert_eq!(bridge.stop().await, 0);
}

/// Rows that the MySQL or MariaDB node does not take in one statement.
async fn larger_than_a_packet(kinds: [Kind; 2]) {
    const LARGE: usize = 2 << 20;
    const HALF: usize = 600 << 10;
    let servers = kinds.map(|kind| match kind {
        Kind::Postgres => Options::default(),
        Kind::Mysql | Kind::Mariadb => Options::default().setting("max_allowed_packet", "1M"),
    });
    let configuration = "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"strict\"\non_error = \"stop\"\n".to_owned();
    let link = Link::start(kinds, LinkOptions { servers, configuration }).await;
    let ((postgres, _), (mysql, named)) = (link.postgres(), link.mysql());
    for table in ["items", "strict"] {
        for (node, body) in [(postgres, "text"), (mysql, "longtext")] {
            node.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, name varchar(20), body {body})")).await;
        }
        postgres.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
    }
    link.succeed(&["setup"]).await;
    let (exit, found) = link.check().await;
    let warned = found.iter().find(|finding| finding["code"] == "max-allowed-packet").unwrap();
    assert!(exit == 0 && warned["severity"] == "warning" && warned["subject"] == named, "{warned}");
    let bridge = link.run();
    bridge.works().await;
    let large = format!("repeat('x', {LARGE})");
    postgres.run(&format!("INSERT INTO items VALUES (1, 'one', 'x'), (2, 'two', {large}), (3, 'three', 'x')")).await;
    postgres.run(&format!("INSERT INTO items VALUES (4, 'four', repeat('y', {HALF}))")).await;
    link.settle().await;
    assert_eq!(mysql.value("SELECT count(*) FROM items").await, "3", "the others are there");
    let [entry] = &entries(&link).await[..] else { panic!("one is refused") };
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("items key (2)") && message.contains("4194304 would do"), "{message}");
    assert_eq!((&entry["key"], &entry["code"]), (&serde_json::json!([2]), &serde_json::json!("row-refused")));
    assert_eq!(entry["after"]["name"], "two");
    assert_eq!(entry["after"]["body"], format!("left out: {} bytes", LARGE + 2));

    // The row fits, its record, which holds it four times, does not.
    assert_eq!(bridge.stop().await, 0);
    mysql.run("UPDATE items SET name = 'of mysql' WHERE id = 4").await;
    a_second_later().await;
    postgres.run("UPDATE items SET name = 'of postgres' WHERE id = 4").await;
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    let conflict = entries(&link).await.into_iter().find(|entry| entry["key"] == serde_json::json!([4])).unwrap();
    let message = conflict["message"].as_str().unwrap();
    // Tried again when the change itself is stored, the record has one row less: what was stored of it is not whole.
    let would_do = ["4194304 would do", "2097152 would do"].iter().any(|size| message.contains(size));
    assert!(message.contains("the record of a conflict") && would_do, "{message}");

    mysql.run("SET GLOBAL max_allowed_packet = 16777216").await;
    link.succeed(&["quarantine", "retry", &id(entry), &id(&conflict)]).await;
    is_healed(&link).await;
    link.settle().await;
    assert_eq!(link.same("SELECT id, name, length(body) FROM items ORDER BY id").await.len(), 4);
    assert_eq!(link.a.value("SELECT name FROM items WHERE id = 4").await, "of postgres");
    assert_eq!(bridge.stop().await, 0);

    mysql.run("SET GLOBAL max_allowed_packet = 1048576").await;
    postgres.run(&format!("INSERT INTO strict VALUES (7, 'seven', {large})")).await;
    let refusal = link.command(&["run", "--until-caught-up"]).await.refused(4, "row-refused");
    assert!(
        refusal.message.contains("strict key (7) at ") && refusal.message.contains("max_allowed_packet"),
        "{refusal:?}"
    );
    assert!(refusal.hint.contains("SET GLOBAL max_allowed_packet = 4194304"), "{refusal:?}");
    mysql.run("SET GLOBAL max_allowed_packet = 4194304").await;
    link.catch_up().await;
    link.same("SELECT id, name, length(body) FROM strict").await;
}
