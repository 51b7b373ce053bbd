//! The whole main way with users that have what `setup --print-sql` prints and nothing else; and with those of `deploy/sql`.

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions, a_second_later, link::write_configuration, pairings};

pairings!(least_privileges, least_of_one_way, the_roles_that_are_shipped);

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
async fn ensure_nothing_more(node: &Database, user: &str) {
    if node.is_postgres() {
        let may = "SELECT rolsuper::int, rolcreatedb::int, rolcreaterole::int, rolbypassrls::int FROM pg_roles";
        let row = node.rows(&format!("{may} WHERE rolname = '{user}'")).await;
        assert!(row[0].iter().all(|value| value.as_deref() == Some("0")), "{row:?}");
        let member =
            node.value(&format!("SELECT count(*) FROM pg_auth_members WHERE member = '{user}'::regrole")).await;
        assert_eq!(member, "0");
        let owns = format!(
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
             WHERE relowner = '{user}'::regrole AND nspname <> 'pontoon' AND nspname NOT LIKE 'pg_toast%'"
        );
        assert_eq!(node.value(&owns).await, "0");
        return;
    }
    let granted = node.rows(&format!("SHOW GRANTS FOR {user}")).await;
    for grant in granted.into_iter().map(|row| row[0].clone().unwrap()) {
        assert!(!grant.contains("ALL PRIVILEGES") && !grant.contains("SUPER"), "{grant}");
        if grant.contains(" ON *.* ") {
            let rights = grant.trim_start_matches("GRANT ").split(" ON ").next().unwrap().to_owned();
            let known = [
                "USAGE",
                "REPLICATION SLAVE",
                "REPLICATION CLIENT",
                "BINLOG MONITOR",
                "SLAVE MONITOR",
                "REPLICA MONITOR",
                "XA_RECOVER_ADMIN",
            ];
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
    let printed = run_printed(&link, TABLES).await;
    assert!(printed.iter().flatten().all(|statement| !statement.contains("SUPERUSER")), "{printed:#?}");
    everything_works(&link).await;
}

/// A file of `deploy/sql` is run as its head says, and the account gets its password.
pub(crate) async fn run_shipped(node: &Database, password: &str) {
    let file = match node.kind {
        Kind::Postgres => "postgres.sql",
        Kind::Mariadb => "mariadb.sql",
        Kind::Mysql => "mysql.sql",
    };
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/sql").join(file);
    if !node.is_postgres() {
        node.run(&std::fs::read_to_string(file).unwrap()).await;
        return node.run(&format!("ALTER USER pontoon@'%' IDENTIFIED BY '{password}' ACCOUNT UNLOCK")).await;
    }
    // It asks psql which version the server has.
    let mut psql = tokio::process::Command::new("psql");
    psql.args(["--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-d", &node.server.url(node.server.superuser(), "shop"), "-f"]);
    let ran = psql.arg(file).env("PGPASSWORD", node.server.password()).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    node.run(&format!("ALTER ROLE pontoon PASSWORD '{password}'")).await;
}

async fn the_roles_that_are_shipped(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    for table in ["customers", "items"] {
        link.create(table, "id bigint PRIMARY KEY, name varchar(60), quantity int").await;
    }
    for node in link.nodes() {
        run_shipped(node, "of the role").await;
        ensure_nothing_more(node, "pontoon").await;
    }
    let tables = "[[tables]]\nname = \"customers\"\n[[tables]]\nname = \"items\"\n";
    let nodes = [("a", &link.a), ("b", &link.b)];
    write_configuration(link.folder.path(), "shop-stock", nodes, [("pontoon", "of the role"); 2], tables);
    link.a.run("INSERT INTO customers VALUES (1, 'there before', 1)").await;
    everything_works(&link).await;
}

/// What a bridge does from `check` to `teardown`, by the user of the configuration.
async fn everything_works(link: &Link) {
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
    link.succeed(&["copy", "--from", "a", "--merge"]).await;
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
    a_second_later().await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 1").await;
    link.catch_up().await;
    let rows = link.same("SELECT name FROM items WHERE id = 1").await;
    assert_eq!(rows[0][0].as_deref(), Some("of b"));
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "1");
    for arguments in [&["verify"][..], &["conflicts", "list"], &["quarantine", "list"], &["pause"], &["resume"]] {
        link.succeed(arguments).await;
    }
    for node in ["a", "b"] {
        let position = applied_position(link, node).await;
        link.a.run(&format!("UPDATE items SET quantity = quantity + 1, name = '{node}' WHERE id = 1")).await;
        link.b.run(&format!("UPDATE items SET quantity = quantity + 1, name = '{node}' WHERE id = 4")).await;
        let out = link.succeed(&["tail", node, "--from", &position, "--limit", "1"]).await;
        assert_eq!(out.lines().count(), 1, "{out}");
        link.succeed(&["run", "--dry-run"]).await;
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

/// The administrator prints for the user what it needs, and runs it. What was printed, by node.
async fn run_printed(link: &Link, configuration: &str) -> [Vec<String>; 2] {
    link.configure_for([("plain", PASSWORD); 2], configuration);
    let out = link.succeed(&["setup", "--print-sql"]).await;
    let both = ["a", "b"].map(|name| printed(&out, name));
    for (node, statements) in link.nodes().into_iter().zip(&both) {
        assert!(statements.iter().any(|statement| statement.contains("plain")), "{statements:#?}");
        let mut client = node.client().await;
        for statement in statements {
            client.run(statement).await;
        }
        ensure_nothing_more(node, "plain").await;
    }
    both
}

/// A bridge that only goes from a to b: on a its user may read rows and lock them, and writes nothing.
async fn least_of_one_way(kinds: [Kind; 2]) {
    let one_way = "[[tables]]\nname = \"items\"\ndirection = \"a->b\"\n";
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id bigint PRIMARY KEY, name varchar(60), quantity int").await;
    for node in link.nodes() {
        create_user(node).await;
    }
    link.a.run("INSERT INTO items VALUES (1, 'from a', 1), (2, 'from a', 2)").await;
    link.b.run("INSERT INTO items VALUES (2, 'from b', 20)").await;
    // The user sees no table yet, and then sees all that it needs: the columns of the key do.
    let [first, _] = run_printed(&link, one_way).await;
    let of_items = |statements: &[String]| -> String {
        statements.iter().find(|statement| statement.contains("items")).unwrap().clone()
    };
    assert!(!of_items(&first).contains("INSERT") && !of_items(&first).contains("DELETE"), "{first:#?}");
    link.a.run("REVOKE UPDATE ON items FROM plain").await;
    let (exit, found) = link.check().await;
    let codes: Vec<_> = found.iter().filter(|finding| finding["severity"] == "blocking").collect();
    assert!(exit == 1 && codes.len() == 1 && codes[0]["code"] == "privilege-table", "{codes:#?}");
    let again = printed(&link.succeed(&["setup", "--print-sql"]).await, "a");
    assert!(of_items(&again).contains("UPDATE ("), "{again:#?}");
    link.a.run(&of_items(&again)).await;
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{found:#?}");

    link.succeed(&["setup"]).await;
    // Somebody has locked a row: PostgreSQL shows it for ever, and the copy reads it again under a lock.
    let mut holder = link.a.client().await;
    holder.run("BEGIN").await;
    holder.rows("SELECT id FROM items WHERE id = 1 FOR UPDATE").await;
    holder.run("COMMIT").await;
    link.succeed(&["copy", "--from", "a", "--merge"]).await;
    assert_eq!(link.same("SELECT * FROM items ORDER BY id").await.len(), 2);
    link.b.run("UPDATE items SET quantity = 7 WHERE id = 1").await;
    link.a.run("UPDATE items SET quantity = 8 WHERE id = 1").await;
    link.catch_up().await;
    link.same("SELECT * FROM items ORDER BY id").await;
    let settled = link.b.rows("SELECT row_key FROM pontoon.resolution ORDER BY id").await;
    assert_eq!(settled, [[Some("[2]".to_owned())], [Some("[1]".to_owned())]], "both were conflicts");
    link.succeed(&["verify"]).await;
    link.succeed(&["teardown", "--execute"]).await;
}
