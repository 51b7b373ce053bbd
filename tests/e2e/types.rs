//! Every type crosses both ways, exactly, and a row that crossed is never mistaken for a conflict.

use std::time::Duration;

use pontoon_servers::Kind;

use crate::support::{Database, Link, LinkOptions};

/// A column: its type on PostgreSQL, on MariaDB, on MySQL, and values as each side's literals.
struct Column {
    name: &'static str,
    postgres: &'static str,
    mariadb: &'static str,
    mysql: &'static str,
    /// Pairs of literals of one value: PostgreSQL's, MySQL's.
    values: &'static [(&'static str, &'static str)],
}

const fn column(
    name: &'static str,
    types: (&'static str, &'static str, &'static str),
    values: &'static [(&'static str, &'static str)],
) -> Column {
    Column { name, postgres: types.0, mariadb: types.1, mysql: types.2, values }
}

const COLUMNS: &[Column] = &[
    column("c_small", ("smallint", "smallint", "smallint"), &[("-32768", "-32768"), ("32767", "32767")]),
    column("c_int", ("integer", "int", "int"), &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    column(
        "c_big",
        ("bigint", "bigint", "bigint"),
        &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")],
    ),
    column(
        "c_ubig",
        ("numeric(20)", "bigint unsigned", "bigint unsigned"),
        &[("0", "0"), ("18446744073709551615", "18446744073709551615"), ("9223372036854775808", "9223372036854775808")],
    ),
    column("c_uint", ("bigint", "int unsigned", "int unsigned"), &[("4294967295", "4294967295")]),
    column("c_bool", ("boolean", "tinyint(1)", "tinyint(1)"), &[("true", "1"), ("false", "0")]),
    column(
        "c_decimal",
        ("numeric(30,10)", "decimal(30,10)", "decimal(30,10)"),
        &[("1.50", "1.5"), ("-99999999999999999999.9999999999", "-99999999999999999999.9999999999"), ("0", "0")],
    ),
    column(
        "c_real",
        ("real", "float", "float"),
        &[("'0.1'", "0.1"), ("'3.4028234e38'", "3.4028234e38"), ("'-1.5e-30'", "-1.5e-30")],
    ),
    column(
        "c_double",
        ("double precision", "double", "double"),
        &[
            ("'0.1'", "0.1"),
            ("'1.7976931348623157e308'", "1.7976931348623157e308"),
            ("'2.2250738585072014e-308'", "2.2250738585072014e-308"),
        ],
    ),
    column(
        "c_varchar",
        ("varchar(60)", "varchar(60)", "varchar(60)"),
        &[
            ("'trailing '", "'trailing '"),
            ("E'quote \\' back\\\\slash'", "'quote '' back\\\\slash'"),
            ("'Straße 😀'", "'Straße 😀'"),
            ("''", "''"),
        ],
    ),
    column(
        "c_latin",
        ("text", "varchar(60) CHARACTER SET latin1", "varchar(60) CHARACTER SET latin1"),
        &[("'Übergröße €'", "'Übergröße €'")],
    ),
    column(
        "c_utf8mb3",
        ("text", "varchar(60) CHARACTER SET utf8mb3", "varchar(60) CHARACTER SET utf8mb3"),
        &[("'данные'", "'данные'")],
    ),
    column("c_text", ("text", "longtext", "longtext"), &[("repeat('long ä ', 20000)", "repeat('long ä ', 20000)")]),
    column("c_char", ("char(8)", "char(8)", "char(8)"), &[("'ab'", "'ab'"), ("'äöü'", "'äöü'")]),
    column(
        "c_bytes",
        ("bytea", "longblob", "longblob"),
        &[("decode('00ff1027225c0a', 'hex')", "x'00ff1027225c0a'"), ("decode('', 'hex')", "x''")],
    ),
    column(
        "c_date",
        ("date", "date", "date"),
        &[("'1000-01-01'", "'1000-01-01'"), ("'9999-12-31'", "'9999-12-31'"), ("'2024-02-29'", "'2024-02-29'")],
    ),
    column(
        "c_time",
        ("time", "time(6)", "time(6)"),
        &[("'00:00:00'", "'00:00:00'"), ("'23:59:59.999999'", "'23:59:59.999999'")],
    ),
    column(
        "c_timestamp",
        ("timestamp", "datetime(6)", "datetime(6)"),
        &[
            ("'1000-01-01 00:00:00'", "'1000-01-01 00:00:00'"),
            ("'9999-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.999999'"),
        ],
    ),
    column("c_second", ("timestamp", "datetime", "datetime"), &[("'2026-03-29 02:30:00'", "'2026-03-29 02:30:00'")]),
    column(
        "c_instant",
        ("timestamptz", "timestamp(6) NULL", "timestamp(6) NULL"),
        &[
            ("'2026-10-25 00:30:00.123456+00'", "'2026-10-25 00:30:00.123456'"),
            ("'1970-01-01 00:00:01+00'", "'1970-01-01 00:00:01'"),
        ],
    ),
    column(
        "c_json",
        ("jsonb", "json", "json"),
        &[
            (
                r#"'{"b": [1, 2.50, null, true], "a": {"ä": "\"q\""}}'"#,
                r#"'{"a": {"ä": "\\"q\\""}, "b": [1, 2.5, null, true]}'"#,
            ),
            ("'null'", "'null'"),
            ("'\"text\"'", "'\"text\"'"),
        ],
    ),
    column(
        "c_uuid",
        ("uuid", "uuid", "char(36) CHARACTER SET ascii"),
        &[("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'")],
    ),
    column(
        "c_uuid_bytes",
        ("uuid", "binary(16)", "binary(16)"),
        &[("'00112233-4455-6677-8899-aabbccddeeff'", "x'00112233445566778899aabbccddeeff'")],
    ),
    column(
        "c_enum",
        ("mood", "enum('sad','so so','ÜBER')", "enum('sad','so so','ÜBER')"),
        &[("'so so'", "'so so'"), ("'ÜBER'", "'ÜBER'")],
    ),
];

async fn create(node: &Database) {
    let of = |column: &Column| match node.kind {
        Kind::Postgres => column.postgres,
        Kind::Mariadb => column.mariadb,
        Kind::Mysql => column.mysql,
    };
    let columns: Vec<String> = COLUMNS.iter().map(|column| format!("{} {}", column.name, of(column))).collect();
    if node.is_postgres() {
        node.run("CREATE TYPE mood AS ENUM ('sad', 'so so', 'ÜBER')").await;
    }
    node.run(&format!("CREATE TABLE items (id bigint PRIMARY KEY, {})", columns.join(", "))).await;
    if node.is_postgres() {
        node.run("ALTER TABLE items REPLICA IDENTITY FULL").await;
    }
}

/// The literal of a column's n-th value on a node.
fn literal(node: &Database, column: &Column, number: usize) -> &'static str {
    let (postgres, mysql) = column.values[number % column.values.len()];
    if node.is_postgres() { postgres } else { mysql }
}

/// Rows of which together every value of every column is one.
fn rows() -> usize {
    COLUMNS.iter().map(|column| column.values.len()).max().unwrap_or(0)
}

async fn insert(node: &Database, first: usize) {
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let mut client = node.client().await;
    if !node.is_postgres() {
        client.run("SET time_zone = '+00:00'").await;
    }
    for number in 0..rows() {
        let values: Vec<&str> = COLUMNS.iter().map(|column| literal(node, column, number)).collect();
        let (id, names, values) = (first + number, names.join(", "), values.join(", "));
        client.run(&format!("INSERT INTO items (id, {names}) VALUES ({id}, {values})")).await;
    }
    // A row of nulls.
    client.run(&format!("INSERT INTO items (id) VALUES ({})", first + rows())).await;
}

/// Every row of a node holds what was written on the other: asked with this node's own literals.
async fn holds(node: &Database, first: usize) {
    let mut client = node.client().await;
    if !node.is_postgres() {
        client.run("SET time_zone = '+00:00'").await;
    }
    for number in 0..rows() {
        for column in COLUMNS {
            let literal = literal(node, column, number);
            let (name, id) = (column.name, first + number);
            let same = match (node.kind, name) {
                (Kind::Postgres, "c_real") => format!("{name} = {literal}::real"),
                (Kind::Postgres, "c_json") => format!("{name} = {literal}::jsonb"),
                (Kind::Postgres, _) => format!("{name} = {literal}"),
                (_, "c_real") => format!("{name} = CAST({literal} AS FLOAT)"),
                (Kind::Mysql, "c_json") => format!("{name} = CAST({literal} AS JSON)"),
                (_, "c_json") => format!("JSON_EQUALS({name}, {literal})"),
                (_, "c_varchar" | "c_text" | "c_char") => format!("CAST({name} AS BINARY) = CAST({literal} AS BINARY)"),
                _ => format!("{name} = {literal}"),
            };
            let found = client.rows(&format!("SELECT count(*) FROM items WHERE id = {id} AND {same}")).await;
            assert_eq!(found[0][0].as_deref(), Some("1"), "{:?}: {name} of row {id} is not {literal}", node.kind);
        }
    }
    let nulls: Vec<String> = COLUMNS.iter().map(|column| format!("{} IS NULL", column.name)).collect();
    let (id, nulls) = (first + rows(), nulls.join(" AND "));
    let found = client.rows(&format!("SELECT count(*) FROM items WHERE id = {id} AND {nulls}")).await;
    assert_eq!(found[0][0].as_deref(), Some("1"), "{:?}: the row of nulls", node.kind);
}

async fn records(link: &Link) -> String {
    link.a.value("SELECT count(*) FROM pontoon.resolution").await
}

async fn every_type(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    tokio::join!(create(&link.a), create(&link.b));
    let check = link.command(&["check"]).await;
    assert_eq!(check.code, 0, "{check:?}");
    link.succeed(&["setup"]).await;
    let bridge = link.run();

    // Inserted on each side.
    insert(&link.a, 100).await;
    insert(&link.b, 200).await;
    link.settle().await;
    for node in [&link.a, &link.b] {
        holds(node, 100).await;
        holds(node, 200).await;
    }

    // Each column by itself is updated, on the side where the row did not come from: the before image is what
    // crossed, and it must be found.
    for (node, first) in [(&link.b, 100), (&link.a, 200)] {
        let mut client = node.client().await;
        for (number, column) in COLUMNS.iter().enumerate() {
            let id = first + number % rows();
            client.run(&format!("UPDATE items SET {} = NULL WHERE id = {id}", column.name)).await;
        }
    }
    link.settle().await;
    assert_eq!(records(&link).await, "0", "a row that crossed was taken for a conflict");
    link.succeed(&["verify"]).await;

    // The rows cross again as before images of deletes.
    link.a.run("DELETE FROM items WHERE id >= 200").await;
    link.b.run("DELETE FROM items WHERE id < 200 AND id > 100").await;
    link.settle().await;
    assert_eq!(records(&link).await, "0", "a row that crossed was taken for a conflict");
    assert_eq!(link.same("SELECT id FROM items").await.len(), 1);

    // A conflict over a row of every type.
    assert_eq!(bridge.stop().await, 0);
    link.a.run("UPDATE items SET c_small = 1, c_text = 'a' WHERE id = 100").await;
    // MariaDB's log tells the second of a commit: only a second later is later.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    link.b.run("UPDATE items SET c_small = 2, c_varchar = 'b' WHERE id = 100").await;
    link.succeed(&["run", "--until-caught-up"]).await;
    assert_eq!(records(&link).await, "1");
    assert_eq!(link.same("SELECT c_small, c_varchar FROM items").await[0][0].as_deref(), Some("2"));
    link.succeed(&["verify"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_mariadb() {
    every_type([Kind::Postgres, Kind::Mariadb]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_mysql() {
    every_type([Kind::Postgres, Kind::Mysql]).await;
}
