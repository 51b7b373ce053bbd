//! The bridge's own tables as earlier versions have left them in databases: `setup` makes of each stored form what it makes where there is nothing,
//! and a bridge runs on it. A table that gets another shape gets a format of its own and a way to it from those that are stored here.

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions, database::Rows, first_pairing};

first_pairing!(what_is_stored_is_fit, who_runs_with_an_older_one_is_shut_out);

/// A stored form: its number, as SQL of PostgreSQL and of the other two.
const FORMS: &[(u32, [&str; 2])] =
    &[(1, [include_str!("formats/1/postgres.sql"), include_str!("formats/1/mysql.sql")])];

/// Everything about the tables that a statement may depend on.
async fn shape(node: &Database) -> [Rows; 2] {
    let columns = "SELECT table_name, column_name, data_type, is_nullable, column_default, character_maximum_length, collation_name \
         FROM information_schema.columns WHERE table_schema = 'pontoon' ORDER BY table_name, column_name";
    let indexes = match node.kind {
        Kind::Postgres => "SELECT indexdef FROM pg_indexes WHERE schemaname = 'pontoon' ORDER BY 1",
        Kind::Mariadb | Kind::Mysql => {
            "SELECT table_name, index_name, seq_in_index, column_name, sub_part FROM information_schema.statistics \
             WHERE table_schema = 'pontoon' ORDER BY 1, 2, 3"
        }
    };
    [node.rows(columns).await, node.rows(indexes).await]
}

async fn what_is_stored_is_fit(kinds: [Kind; 2]) {
    let link = Link::start(
        kinds,
        LinkOptions { configuration: "[[tables]]\nname = \"items\"\n".into(), ..LinkOptions::default() },
    )
    .await;
    link.create("items", "id bigint PRIMARY KEY, note varchar(60)").await;
    link.succeed(&["setup"]).await;
    let fresh = [shape(&link.a).await, shape(&link.b).await];
    link.succeed(&["teardown", "--execute"]).await;
    for (number, form) in FORMS {
        for node in link.nodes() {
            let (drop, form) = match node.kind {
                Kind::Postgres => ("DROP SCHEMA IF EXISTS pontoon CASCADE", form[0]),
                Kind::Mariadb | Kind::Mysql => ("DROP DATABASE IF EXISTS pontoon", form[1]),
            };
            let mut client = node.client().await;
            client.run(drop).await;
            // No statement in these files has a semicolon within.
            for statement in form.split(';').filter(|statement| !statement.trim().is_empty()) {
                client.run(statement).await;
            }
        }
        for command in ["run", "status"] {
            let refused = link.command(&[command]).await.refused(4, "format-old");
            assert!(refused.message.contains(&format!("have format {number},")), "{refused:?}");
            assert!(refused.hint.contains("pontoon setup"), "{refused:?}");
        }
        link.succeed(&["setup"]).await;
        assert_eq!([shape(&link.a).await, shape(&link.b).await], fresh, "format {number}");
        link.a.run(&format!("INSERT INTO items VALUES ({number}, 'on tables of format {number}')")).await;
        link.catch_up().await;
        assert_eq!(
            link.same("SELECT id, note FROM items WHERE note LIKE 'on tables%'").await.len(),
            1,
            "format {number}"
        );
        link.succeed(&["teardown", "--execute"]).await;
        link.both("DELETE FROM items").await;
    }
}

/// The tables of a bridge that runs are brought up to another format under its hands: it takes its turn anew, and what was kept is kept.
async fn who_runs_with_an_older_one_is_shut_out(kinds: [Kind; 2]) {
    let configuration = "[[tables]]\nname = \"items\"\n".into();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    link.create("items", "id bigint PRIMARY KEY, note varchar(60)").await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (1, 'before')").await;
    link.settle().await;
    link.both("UPDATE pontoon.control SET number = 1 WHERE name = 'format'").await;
    let kept = "SELECT bridge, applier, source, log FROM pontoon.checkpoint ORDER BY applier";
    let before = [link.a.rows(kept).await, link.b.rows(kept).await];
    link.succeed(&["setup"]).await;
    bridge.logged("[lease-lost]").await;
    link.a.run("INSERT INTO items VALUES (2, 'behind')").await;
    link.settle().await;
    assert_eq!(link.same("SELECT note FROM items ORDER BY id").await.len(), 2);
    assert_eq!([link.a.rows(kept).await, link.b.rows(kept).await], before);
    // Nothing is left to be done.
    let token = async || [link.a.value(TOKEN).await, link.b.value(TOKEN).await];
    let now = token().await;
    link.succeed(&["setup"]).await;
    assert_eq!(token().await, now);
    assert_eq!(bridge.stop().await, 0);
}

const TOKEN: &str = "SELECT number FROM pontoon.control WHERE name = 'lease'";
