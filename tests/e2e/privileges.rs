//! The whole main way with users that have what `setup --print-sql` prints and nothing else.

use std::time::Duration;

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions, pairings};

pairings!(least_privileges);

const PASSWORD: &str = "it's \"plain\" \\ enough";
const TABLES: &str = "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"Other items\"\n";

/// The statements that were printed for a node.
fn printed(out: &str, node: &str) -> Vec<String> {
    let (_, rest) = out.split_once(&format!("-- on {node}\n")).unwrap();
    let of_node = rest.split("\n-- on ").next().unwrap();
    let statements = of_node.split(";\n").map(|statement| {
        let lines = statement.lines().filter(|line| !line.starts_with("--"));
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    });
    statements.filter(|statement| !statement.is_empty()).collect()
}

async fn create_user(node: &Database) {
    let password = PASSWORD.replace('\'', "''");
    match node.kind {
        Kind::Postgres => node.run(&format!("CREATE ROLE plain LOGIN PASSWORD '{password}'")).await,
        _ => node.run(&format!("CREATE USER plain IDENTIFIED BY '{}'", password.replace('\\', "\\\\"))).await,
    }
}

/// What the user may do beside what was printed: nothing.
async fn ensure_nothing_more(node: &Database, statements: &[String]) {
    if node.is_postgres() {
        let row = node
            .rows("SELECT rolsuper::int, rolcreatedb::int, rolcreaterole::int, rolbypassrls::int FROM pg_roles WHERE rolname = 'plain'")
            .await;
        assert!(row[0].iter().all(|value| value.as_deref() == Some("0")), "{row:?}");
        let member = node.value("SELECT count(*) FROM pg_auth_members WHERE member = 'plain'::regrole").await;
        assert_eq!(member, "0");
        let owns = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
                    WHERE relowner = 'plain'::regrole AND nspname <> 'pontoon' AND nspname NOT LIKE 'pg_toast%'";
        assert_eq!(node.value(owns).await, "0");
        assert!(statements.iter().all(|statement| !statement.contains("SUPERUSER")), "{statements:#?}");
        return;
    }
    let granted = node.rows("SHOW GRANTS FOR plain").await;
    for grant in granted.into_iter().map(|row| row[0].clone().unwrap()) {
        assert!(!grant.contains("ALL PRIVILEGES") && !grant.contains("SUPER"), "{grant}");
        if grant.contains(" ON *.* ") {
            let rights = grant.trim_start_matches("GRANT ").split(" ON ").next().unwrap().to_owned();
            let known = ["USAGE", "REPLICATION SLAVE", "REPLICATION CLIENT", "BINLOG MONITOR", "XA_RECOVER_ADMIN"];
            assert!(rights.split(", ").all(|right| known.contains(&right)), "{grant}");
        }
    }
}

async fn least_privileges(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    for name in ["items", "Other items"] {
        for node in link.nodes() {
            let name = if node.is_postgres() { format!("\"{name}\"") } else { format!("`{name}`") };
            node.run(&format!("CREATE TABLE {name} (id bigint PRIMARY KEY, name varchar(60), quantity int)")).await;
            if node.is_postgres() {
                node.run(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL")).await;
            }
            create_user_once(node, &name).await;
        }
    }
    // The administrator prints for the user what it needs, and runs it.
    let out = print_sql(&link).await;
    link.configure_for([("plain", PASSWORD); 2], TABLES);
    for (name, node) in [("a", &link.a), ("b", &link.b)] {
        let statements = printed(&out, name);
        assert!(statements.iter().any(|statement| statement.contains("plain")), "{statements:#?}");
        let mut client = node.client().await;
        for statement in &statements {
            client.run(statement).await;
        }
        ensure_nothing_more(node, &statements).await;
    }

    // All that follows is done by the plain user.
    let (exit, found) = link.check().await;
    let blocking: Vec<_> = found.iter().filter(|finding| finding["severity"] != "ok").collect();
    assert_eq!(exit, 0, "{blocking:#?}");
    assert!(
        !blocking.iter().any(|finding| finding["code"].as_str().unwrap().starts_with("privilege")),
        "{blocking:#?}"
    );
    link.succeed(&["setup"]).await;
    link.succeed(&["setup"]).await;
    link.succeed(&["setup", "--print-sql"]).await;
    let bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (1, 'from a', 1), (2, 'from a', 2)").await;
    link.b.run("INSERT INTO items VALUES (3, 'from b', 3)").await;
    link.settle().await;
    link.b.run("UPDATE items SET quantity = 10 WHERE id = 1").await;
    link.a.run("DELETE FROM items WHERE id = 3").await;
    link.a.run("UPDATE items SET id = 4 WHERE id = 2").await;
    link.settle().await;
    assert_eq!(link.same("SELECT id, quantity FROM items ORDER BY id").await.len(), 2);
    link.succeed(&["status"]).await;
    assert_eq!(bridge.stop().await, 0);
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 1").await;
    // MariaDB's log tells the second of a commit: only a second later is later.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 1").await;
    link.catch_up().await;
    let rows = link.same("SELECT name FROM items WHERE id = 1").await;
    assert_eq!(rows[0][0].as_deref(), Some("of b"));
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "1");
    link.succeed(&["verify"]).await;
    for node in ["a", "b"] {
        let position = applied_position(&link, node).await;
        link.a.run(&format!("UPDATE items SET quantity = quantity + 1, name = '{node}' WHERE id = 1")).await;
        link.b.run(&format!("UPDATE items SET quantity = quantity + 1, name = '{node}' WHERE id = 4")).await;
        let out = link.succeed(&["tail", node, "--from", &position, "--limit", "1"]).await;
        assert_eq!(out.lines().count(), 1, "{out}");
        link.catch_up().await;
        // A skip needs no more than a look at the log.
        let ended = link.command(&["skip", node, &position]).await;
        assert_eq!(ended.code, 1, "{ended:?}");
    }
    link.succeed(&["status", "--json"]).await;
    link.succeed(&["teardown"]).await;
    link.succeed(&["teardown", "--execute"]).await;
    for node in link.nodes() {
        let left = node.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'pontoon'").await;
        assert_eq!(left, "0");
    }
}

/// Up to where a node's log is applied on the other.
async fn applied_position(link: &Link, node: &str) -> String {
    let other = if node == "a" { &link.b } else { &link.a };
    other.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await
}

async fn create_user_once(node: &Database, name: &str) {
    if name.contains("items") && !name.contains("Other") {
        create_user(node).await;
    }
}

async fn print_sql(link: &Link) -> String {
    link.configure_for([("plain", PASSWORD); 2], TABLES);
    link.succeed(&["setup", "--print-sql"]).await
}
