//! Rings are refused before they turn: a second bridge over the same tables, a third side of a triangle, and the servers' own
//! replication beside the bridge. Each by what the two databases tell.

use std::path::{Path, PathBuf};

use pontoon_servers::{Kind, Options};
use serde_json::Value as Json;

use crate::support::{Database, Link, LinkOptions, bridge::pontoon, eventually, first_pairing};

first_pairing!(a_second_bridge, a_triangle);

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60)";

/// Creates a table on a node as a bridge needs it.
async fn create(node: &Database, table: &str) {
    node.run(&format!("CREATE TABLE {table} ({COLUMNS})")).await;
    if node.is_postgres() {
        node.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
    }
}

/// Writes the configuration of another bridge; of a table the name on each of the two nodes.
fn configuration(folder: &Path, bridge: &str, nodes: [(&str, &Database); 2], tables: &[[&str; 2]]) -> PathBuf {
    let mut text = format!(
        "bridge = \"{bridge}\"\n[server]\nlisten = \"off\"\n[limits]\nspill_dir = \"{}\"\n",
        folder.join(bridge).display()
    );
    for (name, node) in nodes {
        let file = folder.join(format!("password-{bridge}-{name}"));
        std::fs::write(&file, node.server.password()).unwrap();
        let url = node.server.url(node.server.superuser(), "shop");
        text += &format!("[nodes.{name}]\nurl = \"{url}\"\npassword_file = \"{}\"\n", file.display());
    }
    for [one, two] in tables {
        text += &format!("[[tables]]\nname = {{ {} = \"{one}\", {} = \"{two}\" }}\n", nodes[0].0, nodes[1].0);
    }
    let path = folder.join(format!("{bridge}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

async fn succeed(config: &Path, arguments: &[&str]) {
    let ended = pontoon(config, arguments).await;
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:#?}");
}

/// What `check` finds that is not as it should be, by code.
async fn found(config: &Path, code: &str) -> Vec<Json> {
    let ended = pontoon(config, &["check", "--json"]).await;
    let document: Json = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:#?}"));
    let findings = document["findings"].as_array().unwrap().iter();
    let findings: Vec<Json> = findings.filter(|found| found["code"] == code).cloned().collect();
    let blocks = findings.iter().any(|found| found["severity"] == "blocking");
    assert!(!blocks || ended.code == 1, "{ended:#?}");
    findings
}

/// Neither `setup` nor `run` will have it, and both say so alike; `check` says it as well.
async fn refused(config: &Path, code: &str, names: &[&str]) {
    let told = found(config, code).await;
    assert!(told.len() == 1 && told[0]["severity"] == "blocking", "{told:#?}");
    for command in [&["setup"][..], &["run", "--until-caught-up"]] {
        let refusal = pontoon(config, command).await.refused(4, "ring-closed");
        for name in names {
            assert!(refusal.message.contains(name), "{name}: {refusal:?}");
        }
        assert!(refusal.message.contains(told[0]["actual"].as_str().unwrap()), "{refusal:?}");
        assert_eq!(refusal.hint, told[0]["remedy"].as_str().unwrap());
    }
}

/// What a bridge has left on a node.
async fn left(node: &Database, bridge: &str) -> String {
    node.value(&format!("SELECT count(*) FROM pontoon.control WHERE bridge = '{bridge}'")).await
}

async fn a_second_bridge(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    for table in ["items", "others"] {
        link.create(table, COLUMNS).await;
    }
    link.succeed(&["setup"]).await;
    let nodes = [("x", &link.b), ("y", &link.a)];
    let second = configuration(link.folder.path(), "second", nodes, &[["items", "items"], ["others", "others"]]);
    refused(&second, "bridge-overlap", &["\"e2e\"", "items"]).await;
    for node in link.nodes() {
        assert_eq!(left(node, "second").await, "0", "it has left something");
    }
    // The first one goes on, and so does a second one of other tables.
    link.a.run("INSERT INTO items VALUES (1, 'of a')").await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id, name FROM items").await.len(), 1);
    let second = configuration(link.folder.path(), "second", nodes, &[["others", "others"]]);
    assert!(found(&second, "bridge-overlap").await.is_empty());
    succeed(&second, &["setup"]).await;
    link.b.run("INSERT INTO others VALUES (1, 'of b')").await;
    succeed(&second, &["run", "--until-caught-up"]).await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id, name FROM others").await.len(), 1);

    // It is noticed by either node alone, and when it takes a table in later.
    let second = configuration(link.folder.path(), "second", nodes, &[["items", "items"]]);
    for node in link.nodes() {
        let mut client = node.client().await;
        client.run("CREATE TABLE kept AS SELECT name, value FROM pontoon.control WHERE bridge = 'e2e' AND (name = 'pair' OR name LIKE 'table:%')").await;
        client.run("DELETE FROM pontoon.control WHERE bridge = 'e2e' AND (name = 'pair' OR name LIKE 'table:%')").await;
        refused(&second, "bridge-overlap", &["\"e2e\"", "items"]).await;
        client.run("INSERT INTO pontoon.control (bridge, name, value) SELECT 'e2e', name, value FROM kept").await;
        client.run("DROP TABLE kept").await;
    }
    // Of a bridge whose tables nobody noted there is only a word, until its setup is repeated.
    link.both("DELETE FROM pontoon.control WHERE bridge = 'e2e' AND name LIKE 'table:%'").await;
    let told = found(&second, "bridge-tables").await;
    assert!(told.len() == 1 && told[0]["severity"] == "warning", "{told:#?}");
    link.succeed(&["setup"]).await;
    refused(&second, "bridge-overlap", &["\"e2e\"", "items"]).await;
    // Once the first is gone, the tables are free.
    link.succeed(&["teardown", "--execute"]).await;
    assert!(found(&second, "bridge-overlap").await.is_empty());
    succeed(&second, &["setup"]).await;
}

async fn a_triangle(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    let third = Database::start(kinds[1], Options::default()).await;
    link.create("items", COLUMNS).await;
    create(&third, "things").await;
    create(&third, "odds").await;
    let folder = link.folder.path();
    let one = configuration(folder, "one", [("a", &link.a), ("c", &third)], &[["items", "things"]]);
    let two = configuration(folder, "two", [("b", &link.b), ("c", &third)], &[["items", "things"]]);
    let elsewhere = configuration(folder, "elsewhere", [("b", &link.b), ("c", &third)], &[["items", "odds"]]);
    succeed(&one, &["setup"]).await;
    succeed(&elsewhere, &["setup"]).await;
    // Rows that end in different tables do not go round.
    assert!(found(&link.config(), "bridge-ring").await.is_empty());
    succeed(&elsewhere, &["teardown", "--execute"]).await;
    succeed(&two, &["setup"]).await;
    refused(&link.config(), "bridge-ring", &["\"one\"", "\"two\"", "items", "by way of c"]).await;
    for node in link.nodes() {
        assert_eq!(left(node, "e2e").await, "0", "it has left something");
    }
    // The chain that there is works.
    link.a.run("INSERT INTO items VALUES (1, 'of a')").await;
    succeed(&one, &["run", "--until-caught-up"]).await;
    succeed(&two, &["run", "--until-caught-up"]).await;
    assert_eq!(link.same("SELECT id, name FROM items").await.len(), 1);
}

/// Makes a server a replica of another one, from now on, and waits until it reads.
pub(crate) async fn replicate(replica: &Database, source: &Database) {
    let status = if source.kind == Kind::Mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let at = source.rows(status).await;
    let [file, position] = [0, 1].map(|field| at[0][field].clone().unwrap());
    let (port, user, password) = (source.server.port(), source.server.superuser(), source.server.password());
    let (change, prefix, more) = match replica.kind {
        Kind::Mysql => ("CHANGE REPLICATION SOURCE TO", "SOURCE", ", GET_SOURCE_PUBLIC_KEY = 1"),
        _ => ("CHANGE MASTER TO", "MASTER", ", MASTER_USE_GTID = no"),
    };
    replica
        .run(&format!(
            "{change} {prefix}_HOST = '127.0.0.1', {prefix}_PORT = {port}, {prefix}_USER = '{user}', \
             {prefix}_PASSWORD = '{password}', {prefix}_LOG_FILE = '{file}', {prefix}_LOG_POS = {position}{more}"
        ))
        .await;
    replica.run("START REPLICA").await;
    let marked = format!("seen_{port}_by_{}", replica.server.port());
    source.run(&format!("CREATE TABLE {marked} (id int PRIMARY KEY)")).await;
    eventually("it replicates", async || {
        let there = format!("SELECT count(*) FROM information_schema.tables WHERE table_name = '{marked}'");
        replica.value(&there).await == "1"
    })
    .await;
}

async fn native_replication(kind: Kind) {
    let link = Link::start([kind, kind], LinkOptions::default()).await;
    link.create("items", COLUMNS).await;
    link.succeed(&["setup"]).await;
    let third = Database::start(kind, Options::default()).await;
    for (name, node, other) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)] {
        // A replica of a third server is one more writer.
        replicate(node, &third).await;
        let told = found(&link.config(), "native-replication").await;
        assert!(told.len() == 1 && told[0]["severity"] == "warning" && told[0]["subject"] == name, "{told:#?}");
        link.catch_up().await;
        stop(node, &told[0]).await;
        assert!(found(&link.config(), "native-replication").await.is_empty());
        // One of the other node is a ring.
        replicate(node, other).await;
        let port = other.server.port().to_string();
        refused(&link.config(), "replication-ring", &[&format!("{name}: "), &port, "the other node"]).await;
        let told = found(&link.config(), "replication-ring").await;
        node.run("STOP REPLICA").await;
        let stands = found(&link.config(), "replication-ring").await;
        assert!(stands.len() == 1 && stands[0]["severity"] == "warning", "{stands:#?}");
        stop(node, &told[0]).await;
        assert!(found(&link.config(), "replication-ring").await.is_empty());
    }
    link.catch_up().await;
}

/// Does what a finding says.
async fn stop(node: &Database, finding: &Json) {
    let mut client = node.client().await;
    for statement in finding["remedy"].as_str().unwrap().split("; ") {
        client.run(statement).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_between_two_mysql() {
    native_replication(Kind::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_between_two_mariadb() {
    native_replication(Kind::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_between_two_postgres() {
    let link = Link::start([Kind::Postgres; 2], LinkOptions::default()).await;
    let third = Database::start(Kind::Postgres, Options::default()).await;
    link.create("items", COLUMNS).await;
    link.create("others", COLUMNS).await;
    link.succeed(&["setup"]).await;
    for node in [&link.b, &third] {
        node.run("CREATE TABLE IF NOT EXISTS items (id bigint PRIMARY KEY, name varchar(60))").await;
        node.run("CREATE TABLE IF NOT EXISTS others (id bigint PRIMARY KEY, name varchar(60))").await;
        node.run("CREATE PUBLICATION sent FOR TABLE items").await;
        node.run("CREATE PUBLICATION other_sent FOR TABLE others").await;
    }
    let subscribe = async |publisher: &Database, name: &str, publication: &str| {
        let server = &publisher.server;
        let (port, user, password) = (server.port(), server.superuser(), server.password());
        link.a
            .run(&format!(
                "CREATE SUBSCRIPTION {name} CONNECTION \
                 'host=127.0.0.1 port={port} dbname=shop user={user} password={password}' \
                 PUBLICATION {publication} WITH (copy_data = false)"
            ))
            .await;
    };
    // Of another table it is nobody's business, of a third server's it is one more writer.
    subscribe(&link.b, "of_others", "other_sent").await;
    subscribe(&third, "of_third", "sent").await;
    let told = found(&link.config(), "native-replication").await;
    assert!(told.len() == 1 && told[0]["severity"] == "warning" && told[0]["subject"] == "a", "{told:#?}");
    assert!(told[0]["actual"].as_str().unwrap().contains("of_third"), "{told:#?}");
    assert!(found(&link.config(), "replication-ring").await.is_empty());
    link.catch_up().await;
    // And a user who may not see where it connects to sees the ring all the same.
    link.a.run("CREATE ROLE plain LOGIN PASSWORD 'plain' REPLICATION").await;
    subscribe(&link.b, "of_items", "sent").await;
    let told = found(&link.config(), "replication-ring").await;
    refused(&link.config(), "replication-ring", &["of_items", "the other node"]).await;
    let plain = std::fs::read_to_string(link.config()).unwrap();
    let plain = plain.replacen(&format!("{}@", link.a.server.superuser()), "plain@", 1);
    let path = link.folder.path().join("plain.toml");
    std::fs::write(&path, plain).unwrap();
    std::fs::write(link.folder.path().join("password-a"), "plain").unwrap();
    assert_eq!(found(&path, "replication-ring").await, told);
    std::fs::write(link.folder.path().join("password-a"), link.a.server.password()).unwrap();
    link.a.run("ALTER SUBSCRIPTION of_items DISABLE").await;
    let disabled = found(&link.config(), "replication-ring").await;
    assert!(disabled.len() == 1 && disabled[0]["severity"] == "warning", "{disabled:#?}");
    stop(&link.a, &told[0]).await;
    assert!(found(&link.config(), "replication-ring").await.is_empty());
    link.catch_up().await;
}
