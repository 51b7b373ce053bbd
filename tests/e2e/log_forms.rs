//! What MySQL and MariaDB log otherwise than as plain rows, across to PostgreSQL: compressed, in part, and in two
//! phases, with the bridge killed between them.

use pontoon_servers::{Kind, Release};

use crate::support::{Link, LinkOptions, eventually, pairings};

const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";
const DOCUMENTS: &str = "SELECT id FROM docs ORDER BY id";

pairings!(compressed_and_in_part, in_two_phases);

async fn ready(kinds: [impl Into<Release>; 2]) -> Link {
    let configuration = "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"docs\"\n".into();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL").await;
    link.create("docs", "id bigint PRIMARY KEY, doc json").await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4), (2, 'bolt', 9)").await;
    link.succeed(&["setup"]).await;
    link
}

pub(crate) async fn compressed_and_in_part(kinds: [impl Into<Release>; 2]) {
    let link = ready(kinds).await;
    let (mysql, _) = link.mysql();
    let settings: &[&str] = match mysql.kind {
        Kind::Mariadb => &["SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10"],
        _ => {
            &["SET GLOBAL binlog_transaction_compression = ON", "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'"]
        }
    };
    for setting in settings {
        mysql.run(setting).await;
    }
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{found:#?}");
    let bridge = link.run();
    bridge.works().await;
    let mut session = mysql.client().await;
    for id in 10..20 {
        session.run(&format!("INSERT INTO items VALUES ({id}, REPEAT('n', 60), {id})")).await;
        let long = "x".repeat(3000);
        session
            .run(&format!("INSERT INTO docs VALUES ({id}, '{{\"a\": {id}, \"b\": [1, 2], \"c\": \"{long}\"}}')"))
            .await;
    }
    session.run("UPDATE items SET quantity = quantity + 1").await;
    session
        .run("UPDATE docs SET doc = JSON_REMOVE(JSON_SET(doc, '$.a', 'é', '$.b[0]', 7.5), '$.c') WHERE id < 15")
        .await;
    session.run("UPDATE docs SET doc = JSON_SET(doc, '$.b[9]', 'more') WHERE id >= 15").await;
    // The bridge's own writes come back in that form too, and are known.
    let (postgres, _) = link.postgres();
    postgres.run("UPDATE items SET name = 'from the other side' WHERE id = 2").await;
    link.settle().await;
    assert_eq!(link.same(ALL).await.len(), 12);
    assert_eq!(link.same(DOCUMENTS).await.len(), 10);
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}

pub(crate) async fn in_two_phases(kinds: [impl Into<Release>; 2]) {
    let link = ready(kinds).await;
    let (mysql, _) = link.mysql();
    let (postgres, _) = link.postgres();
    let count = async |id: u32| postgres.value(&format!("SELECT count(*) FROM items WHERE id = {id}")).await;
    let mut bridge = link.run();
    bridge.works().await;
    for (round, (word, killed)) in
        [("COMMIT", "before"), ("COMMIT", "after"), ("ROLLBACK", "before"), ("ROLLBACK", "after"), ("COMMIT", "never")]
            .into_iter()
            .enumerate()
    {
        let round = round as u32 * 10 + 100;
        let xid = format!("'round', '{round}'");
        let mut session = mysql.client().await;
        session.run(&format!("INSERT INTO items VALUES ({round}, 'at once', 1)")).await;
        session.run(&format!("XA START {xid}")).await;
        session.run(&format!("INSERT INTO items VALUES ({}, 'in two phases', 1)", round + 1)).await;
        session.run(&format!("UPDATE items SET quantity = {round} WHERE id = {round}")).await;
        session.run(&format!("XA END {xid}")).await;
        session.run(&format!("XA PREPARE {xid}")).await;
        drop(session);
        // Others go on, and are applied, so that the checkpoint is behind what was prepared.
        mysql.run(&format!("INSERT INTO items VALUES ({}, 'in between', 1)", round + 2)).await;
        eventually("what came in between crosses", async || count(round + 2).await == "1").await;
        assert_eq!(count(round + 1).await, "0", "it is not decided");
        let decide = async || {
            eventually("it is decided", async || {
                mysql.client().await.try_run(&format!("XA {word} {xid}")).await.is_ok()
            })
            .await;
        };
        match killed {
            "before" => {
                bridge.kill();
                decide().await;
                bridge = link.run();
            }
            "after" => {
                bridge.kill();
                bridge = link.run();
                bridge.works().await;
                decide().await;
            }
            _ => decide().await,
        }
        bridge.works().await;
        link.settle().await;
        assert_eq!(count(round + 1).await, if word == "COMMIT" { "1" } else { "0" }, "{word}, killed {killed}");
        link.same(ALL).await;
    }
    link.succeed(&["verify"]).await;
    assert_eq!(bridge.stop().await, 0);
}
