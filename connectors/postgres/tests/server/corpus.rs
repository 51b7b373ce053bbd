//! Writes the logs of the fuzz targets' corpus, by a real server: `PONTOON_WRITE_CORPUS=1 cargo test -p pontoon-postgres
//! --test server corpus`. The table is the one that `src/fuzzing.rs` reads. A file holds frames of the stream, each behind
//! its length.

use tokio_postgres::{Client, types::PgLsn};

use crate::support;

const TABLE: &str =
    "CREATE TABLE fuzzed (id int PRIMARY KEY, b boolean, i2 smallint, i8 bigint, n numeric(14,4), nn numeric,
        f real, g double precision, t text, v varchar(300), c char(10), o bytea, da date, ti time(3), dt timestamp,
        ts timestamptz, j json, jb jsonb, u uuid, bb bit(12), big text);
    ALTER TABLE fuzzed ALTER big SET STORAGE EXTERNAL;
    ALTER TABLE fuzzed REPLICA IDENTITY FULL;
    CREATE TABLE other (id int PRIMARY KEY);
    CREATE TABLE noise (text text);
    CREATE PUBLICATION fuzz FOR TABLE fuzzed, other;
    SELECT pg_replication_origin_create('pontoon:fuzz:1'), pg_replication_origin_create('pontoon:another:1')";

const ROWS: &str = r#"
    INSERT INTO fuzzed VALUES (1, true, -32768, 9223372036854775807, -1234567890.1234, 1e20, 0.1, '-Infinity', 'ß', 'é', 'pad',
        '\x00ff', '4713-01-01 BC', '23:59:59.999', '9999-12-31 23:59:59.999999', '2026-11-28 10:00:00.25+00',
        '{"b": [1.50, 1e3], "a": null}', '{"c": true}', '123e4567-e89b-12d3-a456-426614174000', B'101010101010', repeat('x', 2500)),
        (2, NULL, NULL, NULL, NULL, 'NaN', 'NaN', 1.5e300, NULL, NULL, NULL, NULL, 'infinity', '24:00:00', '-infinity', NULL,
        NULL, NULL, NULL, NULL, NULL)
    UPDATE fuzzed SET n = 0.5, t = '' WHERE id = 1
    UPDATE fuzzed SET id = 3 WHERE id = 2
    DELETE FROM fuzzed"#;

const BRIDGES: &str = "
    SELECT pg_replication_origin_session_setup('pontoon:fuzz:1')
    INSERT INTO fuzzed (id) VALUES (1)
    SELECT pg_replication_origin_session_reset()
    SELECT pg_replication_origin_session_setup('pontoon:another:1')
    BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', '2026-11-28 10:00:00+00'); UPDATE fuzzed SET id = 2; COMMIT
    SELECT pg_replication_origin_session_reset()
    SELECT pg_logical_emit_message(true, 'pontoon:fuzz', 'barrier 16384:00000000')
    SELECT pg_logical_emit_message(false, 'another', 'text')
    BEGIN; INSERT INTO other VALUES (1); DELETE FROM fuzzed; COMMIT";

const PARTS: &str = "
    BEGIN; INSERT INTO fuzzed (id) VALUES (1); NOISE; SAVEPOINT one; INSERT INTO fuzzed (id) VALUES (2); NOISE; SAVEPOINT two;
        UPDATE fuzzed SET t = 'x'; NOISE; ROLLBACK TO two; INSERT INTO fuzzed (id) VALUES (3); COMMIT
    BEGIN; INSERT INTO fuzzed (id) VALUES (4); NOISE; ROLLBACK
    BEGIN; DELETE FROM fuzzed; SAVEPOINT one; INSERT INTO fuzzed (id) VALUES (5); NOISE; ROLLBACK TO one; COMMIT";

/// In a table that is not published: what is decoded of it counts for whether a transaction is streamed, and no byte of it
/// is sent.
const NOISE: &str = "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 100)";

async fn capture(sql: &Client, name: &str, statements: &str) {
    sql.batch_execute("SELECT pg_create_logical_replication_slot('fuzz', 'pgoutput')").await.unwrap();
    // What goes on over several lines is indented further.
    let whole = statements.replace("\n        ", " ");
    for statement in whole.lines().map(str::trim).filter(|line| !line.is_empty()) {
        sql.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    let changes = "SELECT lsn, data FROM pg_logical_slot_get_binary_changes('fuzz', NULL, NULL, 'proto_version', '2',
        'publication_names', 'fuzz', 'streaming', 'on', 'messages', 'true')";
    let mut file = Vec::new();
    let mut push = |frame: &[u8]| {
        file.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        file.extend(frame);
    };
    let mut end = 0;
    for row in sql.query(changes, &[]).await.unwrap() {
        let lsn: PgLsn = row.get(0);
        end = end.max(u64::from(lsn));
        let at = u64::from(lsn).to_be_bytes();
        push(&[b"w", &at[..], &at, &[0; 8], row.get(1)].concat());
    }
    push(&[b"k", &end.to_be_bytes()[..], &[0; 8], &[1]].concat());
    pontoon_corpus::write("pgoutput", name, &file);
    sql.batch_execute("SELECT pg_drop_replication_slot('fuzz'); DELETE FROM fuzzed").await.unwrap();
}

#[tokio::test]
async fn logs_are_written() {
    if !pontoon_corpus::is_writing() {
        return;
    }
    let (_server, sql) = support::server(TABLE).await;
    sql.batch_execute("SET timezone = 'UTC'").await.unwrap();
    capture(&sql, "rows", ROWS).await;
    capture(&sql, "bridges", BRIDGES).await;
    capture(&sql, "parts", &PARTS.replace("NOISE;", "")).await;
    capture(&sql, "truncated", "INSERT INTO fuzzed (id) VALUES (1)\nTRUNCATE fuzzed, other").await;
    sql.batch_execute("SET logical_decoding_work_mem = '64kB'").await.unwrap();
    capture(&sql, "rows-streamed", &format!("BEGIN\n{ROWS}\nNOISE\nCOMMIT").replace("NOISE", NOISE)).await;
    capture(&sql, "parts-streamed", &PARTS.replace("NOISE", NOISE)).await;
}
