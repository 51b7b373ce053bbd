//! The forms that a change can have in the log, on real servers: documents in part, large and compressed.

use mysql_async::prelude::Queryable;
use pontoon_core::{Operation, TableName, Value, json, node::Node};
use pontoon_servers::Kind;

use crate::support::{map, node, root, run, set_up, start_with, transaction};

/// Statements of the test of documents; each is one update.
const UPDATES: usize = 600;

/// Numbers from a seed (xorshift).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn pick(&mut self, from: &[&str]) -> String {
        from[self.below(from.len())].to_owned()
    }

    /// A value as SQL.
    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => self.pick(&[
                "1",
                "-7",
                "70000",
                "-3000000000",
                "18446744073709551615",
                "1e300",
                "0.1e0",
                "-2.5e0",
                "0e0",
            ]),
            1 => self.pick(&[
                "'x'",
                "''",
                "'é€𝄞 \"quoted\" \\\\ \\n'",
                "REPEAT('long ', 60)",
                "CONCAT('nul ', CHAR(0 USING utf8mb4))",
            ]),
            2 => self.pick(&[
                "CAST('null' AS JSON)",
                "true",
                "false",
                "CAST('[]' AS JSON)",
                "CAST('{}' AS JSON)",
                "CAST('[1, [2, {\"a\": null}], \"z\"]' AS JSON)",
            ]),
            3 => self.pick(&[
                "CAST(1.10 AS DECIMAL(10,2))",
                "CAST('2026-11-24' AS DATE)",
                "CAST('2026-11-24 12:00:00.25' AS DATETIME(6))",
                "CAST('-10:00:01' AS TIME)",
                "X'00ff'",
            ]),
            4 => format!("JSON_ARRAY({}, {}, {})", self.value(depth - 1), self.value(depth - 1), self.value(depth - 1)),
            _ => {
                let (one, other) = (self.key(), self.key());
                format!("JSON_OBJECT({one}, {}, {other}, {})", self.value(depth - 1), self.value(depth - 1))
            }
        }
    }

    fn key(&mut self) -> String {
        self.pick(&["'a'", "'b'", "'c d'", "'é'", "''", "'x.y'", "'[0]'", "'\"'", "'last'", "'$'", "'\\\\'", "'1'"])
    }

    fn path(&mut self) -> String {
        let mut path = "$".to_owned();
        for _ in 0..1 + self.below(3) {
            path += &self.pick(&[
                ".a",
                ".a",
                ".b",
                ".\"c d\"",
                ".é",
                ".\"\"",
                ".\"x.y\"",
                ".\"[0]\"",
                ".\"\\\\\"\"",
                ".last",
                ".$",
                ".\"\\\\\\\\\"",
                ".\"1\"",
                "[0]",
                "[0]",
                "[1]",
                "[2]",
                "[9]",
                "[last]",
                "[last-1]",
            ]);
        }
        format!("'{path}'")
    }

    /// What a column becomes: changed in one to three places.
    fn expression(&mut self, column: &str) -> String {
        let mut expression = column.to_owned();
        for _ in 0..1 + self.below(3) {
            expression = match self.below(4) {
                0 | 1 => format!("JSON_SET({expression}, {}, {})", self.path(), self.value(1)),
                2 => format!("JSON_REPLACE({expression}, {}, {})", self.path(), self.value(2)),
                _ => format!("JSON_REMOVE({expression}, {})", self.path()),
            };
        }
        expression
    }
}

#[tokio::test]
async fn documents_in_part_are_whole_again() {
    let server = start_with(Kind::Mysql, &[("binlog_row_value_options", "PARTIAL_JSON")]).await;
    let mut conn = root(&server).await;
    run(
        &mut conn,
        &[
            "CREATE DATABASE forms",
            "CREATE TABLE forms.docs (id int PRIMARY KEY, unseen json AS (doc) STORED, doc json, note varchar(20), other json)",
        ],
    )
    .await;
    let node = node(&server, "forms", "forms");
    let tables = map(&node, &[TableName { schema: None, name: "docs".into() }]).await;
    let mut reader = set_up(&node, &tables).await;
    let seed = std::env::var("PONTOON_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    let mut seeded = Seeded(seed);
    let mut rows = Vec::new();
    for id in 0..12 {
        let (doc, other) = (seeded.value(3), seeded.value(2));
        run(
            &mut conn,
            &[&format!(
                "INSERT INTO forms.docs (id, doc, other) VALUES ({id}, JSON_ARRAY({doc}), JSON_OBJECT('a', {other}))"
            )],
        )
        .await;
        rows.push(id);
        transaction(&mut reader).await;
    }
    let mut written = 0;
    for _ in 0..UPDATES {
        let id = seeded.below(rows.len());
        let mut sets = vec![format!("doc = {}", seeded.expression("doc"))];
        if seeded.below(3) == 0 {
            sets.push(format!("other = {}", seeded.expression("other")));
        }
        if seeded.below(4) == 0 {
            sets.push(format!("note = '{}'", seeded.below(100)));
        }
        let statement = format!("UPDATE forms.docs SET {} WHERE id = {id}", sets.join(", "));
        // Some paths cannot be removed, some documents become too deep.
        if conn.query_drop(&statement).await.is_err() || conn.affected_rows() == 0 {
            continue;
        }
        written += 1;
        let seen = transaction(&mut reader).await;
        let Operation::Update { after, .. } = &seen.changes[0].operation else { panic!("{seen:?}") };
        let row: (Option<String>, Option<String>) = conn
            .query_first(format!("SELECT CAST(doc AS CHAR), CAST(other AS CHAR) FROM forms.docs WHERE id = {id}"))
            .await
            .unwrap()
            .unwrap();
        let common = |text: Option<String>| Value::Json(json::canonical(&text.unwrap()).unwrap().into());
        assert_eq!((&after.0[1], &after.0[3]), (&common(row.0), &common(row.1)), "seed {seed}: {statement}");
        if conn
            .query_first::<u64, _>(format!("SELECT JSON_STORAGE_SIZE(doc) > 4000 FROM forms.docs WHERE id = {id}"))
            .await
            .unwrap()
            == Some(1)
        {
            run(&mut conn, &[&format!("UPDATE forms.docs SET doc = JSON_ARRAY({}) WHERE id = {id}", seeded.value(3))])
                .await;
            transaction(&mut reader).await;
        }
    }
    let partial = partial_events(&mut conn).await;
    eprintln!("{written} updates, {partial} of them in part");
    assert!(written > UPDATES / 3 && partial > written / 2, "{written} {partial}");
}

/// An event beyond 16 MiB comes in several packets; so does a compressed transaction that does not get smaller.
#[tokio::test]
async fn events_of_several_packets_are_whole() {
    for kind in [Kind::Mariadb, Kind::Mysql] {
        let server = start_with(kind, &[("max_allowed_packet", "256M")]).await;
        let mut conn = root(&server).await;
        run(&mut conn, &["CREATE DATABASE forms", "CREATE TABLE forms.blobs (id int PRIMARY KEY, blob_ longblob)"])
            .await;
        let node = node(&server, "forms", "forms");
        let tables = map(&node, &[TableName { schema: None, name: "blobs".into() }]).await;
        let mut reader = set_up(&node, &tables).await;
        // Around the length of one packet and of two, less what else is in the event.
        for bytes in [PACKET - 36, PACKET, 2 * PACKET] {
            run(&mut conn, &[&format!("INSERT INTO forms.blobs VALUES ({bytes}, REPEAT('b', {bytes}))")]).await;
            let seen = transaction(&mut reader).await;
            let Some(Value::Bytes(found)) = seen.changes[0].after().map(|row| &row.0[1]) else { panic!("{kind}") };
            assert!(found.len() == bytes && found.iter().all(|&byte| byte == b'b'), "{kind} {bytes}");
        }
        if kind == Kind::Mysql {
            run(
                &mut conn,
                &[
                    "SET SESSION binlog_transaction_compression = ON, cte_max_recursion_depth = 100000",
                    "DELETE FROM forms.blobs",
                ],
            )
            .await;
            while transaction(&mut reader).await.changes.len() != 3 {}
            let numbers = "WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 25000)";
            run(&mut conn, &[&format!("INSERT INTO forms.blobs {numbers} SELECT n, RANDOM_BYTES(1000) FROM s")]).await;
            let seen = transaction(&mut reader).await;
            assert_eq!(seen.changes.len(), 25_000);
            assert_eq!(seen.position, Some(node.log_status(None).await.unwrap().end));
            run(&mut conn, &["DELETE FROM forms.blobs WHERE id = 7"]).await;
            assert_eq!(transaction(&mut reader).await.changes.len(), 1);
        }
    }
}

/// The longest packet.
const PACKET: usize = (1 << 24) - 1;

/// How many events of the log are updates of documents in part.
async fn partial_events(conn: &mut mysql_async::Conn) -> usize {
    let mut events = 0;
    let files: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.unwrap();
    for file in files {
        let name: String = file.get(0).unwrap();
        let rows: Vec<mysql_async::Row> = conn.query(format!("SHOW BINLOG EVENTS IN '{name}'")).await.unwrap();
        events += rows.iter().filter(|row| row.get::<String, _>(2).unwrap() == "Update_rows_partial").count();
    }
    events
}
