//! Names as they occur in real schemas, and worse: quotes, dots, reserved words, Unicode, mixed case, length.

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions};

/// Tables, and how the configuration writes each.
const TABLES: &[(&str, &str)] = &[
    ("Select", "Select"),
    ("quote\"s `and` 'more'", "quote\"s `and` 'more'"),
    ("dotted.name", "dotted\\.name"),
    ("star*", "star\\*"),
    ("back\\slash %s %d", "back\\\\slash %s %d"),
    ("Größe 表 ключ; DROP TABLE x; --", "Größe 表 ключ; DROP TABLE x; --"),
    (LONG, LONG),
];

/// 63 bytes, all that PostgreSQL takes.
const LONG: &str = "a_table_with_a_name_as_long_as_a_name_may_be_in_PostgreSQL_63_b";

/// Columns beside the key. PostgreSQL folds nothing that is quoted.
const KEY: &str = "Order \"id\"";
const COLUMNS: &[&str] = &["group", "Mixed Case", "it's", "back`tick", "per%cent", "ключ", "new\nline"];

fn quoted(node: &Database, name: &str) -> String {
    match node.kind {
        Kind::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        Kind::Mariadb | Kind::Mysql => format!("`{}`", name.replace('`', "``")),
    }
}

fn names(node: &Database) -> Vec<String> {
    COLUMNS.iter().map(|name| quoted(node, name)).collect()
}

async fn create(node: &Database, table: &str) {
    let (table, key) = (quoted(node, table), quoted(node, KEY));
    let columns: Vec<String> = names(node).iter().map(|name| format!("{name} varchar(200)")).collect();
    node.run(&format!("CREATE TABLE {table} ({key} bigint PRIMARY KEY, {})", columns.join(", "))).await;
    if node.is_postgres() {
        node.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
    }
}

async fn insert(node: &Database, table: &str, id: u32, value: &str) {
    let (table, key) = (quoted(node, table), quoted(node, KEY));
    let values = vec![format!("'{value}'"); COLUMNS.len()].join(", ");
    node.run(&format!("INSERT INTO {table} ({key}, {}) VALUES ({id}, {values})", names(node).join(", "))).await;
}

/// Sets one column of one row.
async fn update(node: &Database, table: &str, id: u32, column: &str, value: &str) {
    let (table, key, column) = (quoted(node, table), quoted(node, KEY), quoted(node, column));
    node.run(&format!("UPDATE {table} SET {column} = '{value}' WHERE {key} = {id}")).await;
}

async fn rows(node: &Database, table: &str) -> Vec<Vec<Option<String>>> {
    let (table, key) = (quoted(node, table), quoted(node, KEY));
    node.rows(&format!("SELECT {key}, {} FROM {table} ORDER BY {key}", names(node).join(", "))).await
}

async fn same(link: &Link, table: &str) -> Vec<Vec<Option<String>>> {
    let a = rows(&link.a, table).await;
    assert_eq!(a, rows(&link.b, table).await, "{table}");
    a
}

async fn hostile_names(kinds: [Kind; 2]) {
    let literal = |text: &str| serde_json::to_string(text).unwrap();
    let entries = TABLES.iter().map(|(_, written)| format!("[[tables]]\nname = {}\n", literal(written)));
    let options = LinkOptions { configuration: entries.collect(), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    for (table, _) in TABLES {
        tokio::join!(create(&link.a, table), create(&link.b, table));
    }
    let check = link.command(&["check"]).await;
    assert_eq!(check.code, 0, "{check:?}");
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    for (table, _) in TABLES {
        insert(&link.a, table, 1, "from a").await;
        insert(&link.b, table, 2, "from b").await;
    }
    link.settle().await;
    for (table, _) in TABLES {
        assert_eq!(same(&link, table).await.len(), 2, "{table}");
        for (number, column) in COLUMNS.iter().enumerate() {
            update(&link.b, table, 1, column, &format!("changed {number}")).await;
        }
        let node = &link.a;
        node.run(&format!("DELETE FROM {} WHERE {} = 2", quoted(node, table), quoted(node, KEY))).await;
    }
    link.settle().await;
    for (table, _) in TABLES {
        let rows = same(&link, table).await;
        assert_eq!(rows.len(), 1, "{table}");
        for (number, value) in rows[0][1..].iter().enumerate() {
            assert_eq!(value.as_deref(), Some(&*format!("changed {number}")), "{table}");
        }
    }
    assert_eq!(bridge.stop().await, 0);
    // A conflict on each, whose record names the key by its column.
    for (table, _) in TABLES {
        update(&link.a, table, 1, "group", "a").await;
        update(&link.b, table, 1, "it's", "b").await;
    }
    link.succeed(&["run", "--until-caught-up"]).await;
    for (table, _) in TABLES {
        same(&link, table).await;
    }
    let records = link.b.value("SELECT count(*) FROM pontoon.resolution").await;
    assert_eq!(records, TABLES.len().to_string());
    link.succeed(&["verify"]).await;
    link.succeed(&["teardown", "--execute"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_mariadb() {
    hostile_names([Kind::Postgres, Kind::Mariadb]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_and_postgres() {
    hostile_names([Kind::Mysql, Kind::Postgres]).await;
}
