//! Writes the logs of the fuzz targets' corpus, by real servers: `PONTOON_WRITE_CORPUS=1 cargo test -p pontoon-mysql
//! --test server corpus`, and then `cargo test -p pontoon-mysql --lib corpus`, which cuts the rest out of them. The table is the one
//! that `src/fuzzing.rs` reads, and each file holds what one connection did, in as few bytes as that takes.

use mysql_async::{Conn, prelude::Queryable};
use pontoon_servers::{Kind, Server};

use crate::support::{root, run, start};

/// What stands before the events of a log: its flavour, as `src/fuzzing.rs` reads it.
const MYSQL: u8 = 0;
const MARIADB: u8 = 1;

/// What a file of the log begins with.
const MAGIC: &[u8] = b"\xfebin";

const COLUMNS: &str = "id int PRIMARY KEY, i1 tinyint, i2 smallint unsigned, i3 mediumint, i8 bigint unsigned, d decimal(14,4),
    f float, g double, b1 bit(1), b12 bit(12), y year, s set('a','b','ü'), e enum('x','ü'),
    c char(10) CHARACTER SET latin1 COLLATE latin1_swedish_ci, v varchar(300), w varbinary(20), x binary(8), t text, o blob,
    da date, ti time(3), ts timestamp(6) NULL, dt datetime(2), j json";

const FULL: &str = "1, -128, 65535, -8388608, 18446744073709551615, -1234567890.1234, 0.1, -1.5e300, b'1', b'101010101010',
    2155, 'a,ü', 'ü', 'café', REPEAT('ß', 3), x'00ff', x'0102', 'text', x'deadbeef', '9999-12-31', '-838:59:58.999',
    '2038-01-19 03:14:07.999999', '2026-11-28 10:00:00.25', '{\"a\": [1, true, null, 1.5, \"x\"], \"b\": {\"c\": -70000}}'";

/// Rows of all kinds, inserted, changed and removed.
fn rows(uuid: &str) -> Vec<String> {
    vec![
        format!(
            "INSERT INTO fuzzed VALUES ({FULL}{uuid}), (2{})",
            ", NULL".repeat(if uuid.is_empty() { 23 } else { 24 })
        ),
        "UPDATE fuzzed SET d = 0.5, ti = '10:00:00', j = '[]', dt = NULL WHERE id = 1".into(),
        "DELETE FROM fuzzed WHERE id = 2".into(),
    ]
}

async fn capture(server: &Server, conn: &mut Conn, name: &str, flavour: u8, statements: &[String]) {
    run(conn, &["DELETE FROM fuzzed", "FLUSH BINARY LOGS"]).await;
    let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.unwrap();
    let file: String = files.last().unwrap().get(0).unwrap();
    for statement in statements {
        run(conn, &[statement]).await;
    }
    run(conn, &["FLUSH BINARY LOGS"]).await;
    let log = std::fs::read(server.data().join(file)).unwrap();
    let events = log.strip_prefix(MAGIC).unwrap();
    pontoon_corpus::write("binlog", name, &[&[flavour], events].concat());
}

async fn prepare(conn: &mut Conn, columns: &str) {
    let table = format!("CREATE TABLE fuzzed ({columns}) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
    let own = "CREATE TABLE pontoon.checkpoint (bridge varchar(64) PRIMARY KEY, commit_time bigint) CHARACTER SET utf8mb4 \
               COLLATE utf8mb4_general_ci";
    let control = "CREATE TABLE pontoon.control (bridge varchar(64), name varchar(64), PRIMARY KEY (bridge, name)) \
                   CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci";
    run(
        conn,
        &[
            "SET time_zone = '+00:00'",
            "CREATE DATABASE pontoon",
            "CREATE DATABASE fuzz",
            "USE fuzz",
            &table,
            own,
            control,
        ],
    )
    .await;
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Who made what, what is no change of rows, and what waits for its decision.
const BRIDGES: &str = "
    BEGIN
    REPLACE INTO pontoon.checkpoint VALUES ('fuzz', 1234567)
    INSERT INTO fuzzed (id) VALUES (1), (2)
    COMMIT
    BEGIN
    REPLACE INTO pontoon.checkpoint VALUES ('another', 7)
    UPDATE fuzzed SET id = 3 WHERE id = 1
    SAVEPOINT one
    DELETE FROM fuzzed WHERE id = 2
    ROLLBACK TO one
    COMMIT
    REPLACE INTO pontoon.control VALUES ('fuzz', 'barrier')
    CREATE TABLE other (id int)
    ALTER TABLE other ADD COLUMN note text
    DROP TABLE other";

const PHASES: &str = "
    XA START 'one', 'branch', 7
    INSERT INTO fuzzed (id) VALUES (1)
    XA END 'one', 'branch', 7
    XA PREPARE 'one', 'branch', 7
    XA COMMIT 'one', 'branch', 7
    XA START 'two'
    INSERT INTO fuzzed (id) VALUES (2)
    XA END 'two'
    XA PREPARE 'two'
    XA ROLLBACK 'two'
    XA START 'three'
    INSERT INTO fuzzed (id) VALUES (3)
    XA END 'three'
    XA COMMIT 'three' ONE PHASE";

#[tokio::test]
async fn mysql() {
    if !pontoon_corpus::is_writing() {
        return;
    }
    let server = start(Kind::Mysql).await;
    let mut conn = root(&server).await;
    prepare(&mut conn, COLUMNS).await;
    capture(&server, &mut conn, "mysql-rows", MYSQL, &rows("")).await;
    capture(&server, &mut conn, "mysql-bridges", MYSQL, &lines(BRIDGES)).await;
    capture(&server, &mut conn, "mysql-phases", MYSQL, &lines(PHASES)).await;
    run(&mut conn, &["SET binlog_transaction_compression = ON"]).await;
    capture(&server, &mut conn, "mysql-compressed", MYSQL, &rows("")).await;
    run(&mut conn, &["SET binlog_transaction_compression = OFF", "SET gtid_next = 'AUTOMATIC:tagged'"]).await;
    let documents = r#"
        SET binlog_row_value_options = PARTIAL_JSON
        INSERT INTO fuzzed (id, j) VALUES (1, '{"a": [1, 2, 3], "b": "text", "c": {"d": 1.25}, "e": "a longer text, so that parts are worth it"}')
        UPDATE fuzzed SET j = JSON_SET(j, '$.a[1]', 7) WHERE id = 1
        UPDATE fuzzed SET j = JSON_REMOVE(j, '$.b') WHERE id = 1
        UPDATE fuzzed SET j = JSON_ARRAY_INSERT(j, '$.a[0]', CAST('{"n": [1]}' AS JSON)) WHERE id = 1
        UPDATE fuzzed SET j = JSON_SET(j, '$.c.new', CAST('2026-11-28 10:00:00.5' AS DATETIME(6))) WHERE id = 1
        UPDATE fuzzed SET j = JSON_SET(j, '$.c.exact', 12345678901234567890.123) WHERE id = 1"#;
    capture(&server, &mut conn, "mysql-documents", MYSQL, &lines(documents)).await;
    let statements = "
        SET binlog_format = STATEMENT
        UPDATE fuzzed SET v = 'logged as a statement'
        SET binlog_format = ROW
        TRUNCATE TABLE fuzzed";
    capture(&server, &mut conn, "mysql-statements", MYSQL, &lines(statements)).await;
}

#[tokio::test]
async fn mariadb() {
    if !pontoon_corpus::is_writing() {
        return;
    }
    let server = start(Kind::Mariadb).await;
    let mut conn = root(&server).await;
    prepare(&mut conn, &format!("{COLUMNS}, u uuid")).await;
    let with_uuid = rows(", '123e4567-e89b-12d3-a456-426614174000'");
    capture(&server, &mut conn, "mariadb-rows", MARIADB, &with_uuid).await;
    capture(&server, &mut conn, "mariadb-bridges", MARIADB, &lines(BRIDGES)).await;
    capture(&server, &mut conn, "mariadb-phases", MARIADB, &lines(PHASES)).await;
    let statements = "
        SET STATEMENT sort_buffer_size = 100000 FOR CREATE TABLE other (id int)
        SET binlog_format = STATEMENT
        UPDATE fuzzed SET v = 'logged as a statement'
        SET binlog_format = ROW
        TRUNCATE TABLE fuzzed";
    capture(&server, &mut conn, "mariadb-statements", MARIADB, &lines(statements)).await;
    run(&mut conn, &["SET GLOBAL log_bin_compress = ON", "SET GLOBAL log_bin_compress_min_len = 10"]).await;
    let mut compressed = with_uuid;
    compressed.push("CREATE TABLE compressed_as_well (id int, a_column_with_a_long_name int, another_one int)".into());
    capture(&server, &mut conn, "mariadb-compressed", MARIADB, &compressed).await;
}
