//! Every supported type, with its limits: what a client wrote is what the log, a scan and a session say,
//! and what a session writes is what a client reads.

use std::sync::Arc;

use mysql_async::{Conn, prelude::Queryable};
use pontoon_core::{
    Code, Form, Kind, Row, Span, TableId, TableName, Tag, Value,
    node::{Applied, Applier, Lease, LeaseAttempt, Node, Session, TableBatch, Tables, UpdateGroup},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind as ServerKind, Server};

use crate::support::{int, map, node, root, run, set_up, start, start_with, text, transaction};

#[tokio::test]
async fn mariadb() {
    all(ServerKind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    all(ServerKind::Mysql).await;
}

async fn all(kind: ServerKind) {
    let server = start(kind).await;
    values_round_trip(&server).await;
    poorer_forms_are_cut(&server).await;
    charsets_are_exact(&server).await;
}

#[tokio::test]
async fn large_values_on_mariadb() {
    large_values_are_exact(ServerKind::Mariadb).await;
}

#[tokio::test]
async fn large_values_on_mysql() {
    large_values_are_exact(ServerKind::Mysql).await;
}

/// The places of rows and of their columns where what was found is not what was to be; the values are too large to be shown.
fn differing<'a>(found: &[Option<Row>], expected: impl Iterator<Item = &'a Row>) -> Vec<(usize, usize)> {
    let rows = found.iter().zip(expected).enumerate();
    let places = rows.flat_map(|(row, (found, expected))| {
        let found = found.as_ref().map(|found| &found.0);
        (0..expected.0.len())
            .filter(move |&at| found.is_none_or(|found| found[at] != expected.0[at]))
            .map(move |at| (row, at))
    });
    places.collect()
}

/// Values that are no literals, in one packet and in several: written, found as they were, changed, removed; and what is more than the server takes.
async fn large_values_are_exact(kind: ServerKind) {
    let server = start_with(kind, &[("max_allowed_packet", "67108864")]).await;
    let columns = "id int PRIMARY KEY, bytes longblob, words longtext CHARACTER SET utf16, document json, note text";
    let (mut root, node, tables, (_lease, token)) = table(&server, "large", columns).await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
    // Every byte beside every other, in no character set's order.
    let bytes =
        |length: usize, seed: usize| Value::Bytes((0..length).map(|at| (at * 7 + at / 251 + seed) as u8).collect());
    let words = |length: usize| text(&"ä€😀'\\\0x".repeat(length / 14));
    let document = |length: usize| Value::Json(format!("{{\"a\":\"{}\"}}", "ä😀'".repeat(length / 7)).into());
    let row = |id: i128, length: usize, seed: usize| {
        Row(vec![int(id), bytes(length, seed), words(length), document(length), text("as it is")])
    };
    let rows = [row(1, 2 << 20, 0), row(2, 20 << 20, 1), row(3, 300, 2)];
    begin(&mut session).await;
    let inserts = TableBatch { inserts: rows.to_vec(), ..TableBatch::default() };
    assert_eq!(session.apply(TableId(0), &inserts).await.unwrap(), Applied::All);
    let keys: Vec<_> = rows.iter().map(|row| tables[0].key_of(row)).collect();
    let found = session.read(TableId(0), &keys).await.unwrap();
    assert_eq!(differing(&found, rows.iter()), [], "rows and columns that are not as they were");
    let changed = |row: &Row, seed: usize| {
        let mut after = row.clone();
        after.0[1] = bytes(18 << 20, seed);
        (row.clone(), after)
    };
    let update = |pairs: Vec<(Row, Row)>| {
        let group = UpdateGroup { changed: vec![1], rows: pairs, ..UpdateGroup::default() };
        TableBatch { updates: vec![group], ..TableBatch::default() }
    };
    let other = [row(1, 2 << 20, 5), rows[1].clone()].map(|row| changed(&row, 9)).to_vec();
    assert_eq!(session.apply(TableId(0), &update(other)).await.unwrap(), Applied::Missed, "one is another");
    session.rollback().await.unwrap();

    begin(&mut session).await;
    assert_eq!(session.apply(TableId(0), &inserts).await.unwrap(), Applied::All);
    let pairs: Vec<_> = rows.iter().map(|row| changed(row, 9)).collect();
    assert_eq!(session.apply(TableId(0), &update(pairs.clone())).await.unwrap(), Applied::All);
    let found = session.read(TableId(0), &keys).await.unwrap();
    assert_eq!(
        differing(&found, pairs.iter().map(|(_, after)| after)),
        [],
        "rows and columns that are not as they were set"
    );
    let deletes = TableBatch { deletes: pairs.into_iter().map(|(_, after)| after).collect(), ..TableBatch::default() };
    assert_eq!(session.apply(TableId(0), &deletes).await.unwrap(), Applied::All);
    let beyond = TableBatch { inserts: vec![row(4, 65 << 20, 0)], ..TableBatch::default() };
    let refused = session.apply(TableId(0), &beyond).await.unwrap_err();
    assert!(refused.to_string().contains("max_allowed_packet"), "{refused}");
    session.rollback().await.unwrap();
    let kept: Option<String> = root.query_first("SELECT COUNT(*) FROM large.t").await.unwrap();
    assert_eq!(kept.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_value_at_the_limit_of_a_packet() {
    const PACKET: usize = 2 << 20;
    for kind in [ServerKind::Mariadb, ServerKind::Mysql] {
        let server = start_with(kind, &[("max_allowed_packet", &PACKET.to_string())]).await;
        let (_root, node, tables, (_lease, token)) =
            table(&server, "limits", "id int PRIMARY KEY, bytes longblob").await;
        let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
        begin(&mut session).await;
        let mut taken = 0;
        for short in 0..100 {
            let row = Row(vec![int(short as i128), Value::Bytes(vec![7; PACKET - short].into())]);
            let batch = TableBatch { inserts: vec![row], ..TableBatch::default() };
            match session.apply(TableId(0), &batch).await {
                Ok(applied) => {
                    assert_eq!(applied, Applied::All);
                    taken += 1;
                }
                Err(error) => assert!(error.to_string().contains("max_allowed_packet"), "{kind} {short}: {error}"),
            }
        }
        assert!(taken > 0, "{kind}");
        session.rollback().await.unwrap();
    }
}

/// A column's type and literals for it; the first row is null in all of them.
fn columns(kind: ServerKind) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut columns = vec![
        ("tinyint", vec!["-128", "127"]),
        ("tinyint unsigned", vec!["0", "255"]),
        ("smallint", vec!["-32768", "32767"]),
        ("smallint unsigned", vec!["65535"]),
        ("mediumint", vec!["-8388608", "8388607"]),
        ("mediumint unsigned", vec!["16777215"]),
        ("int", vec!["-2147483648", "2147483647"]),
        ("int unsigned zerofill", vec!["4294967295", "7"]),
        ("bigint", vec!["-9223372036854775808", "9223372036854775807"]),
        ("bigint unsigned", vec!["18446744073709551615", "0"]),
        (
            "decimal(65,30)",
            vec![
                "-99999999999999999999999999999999999.999999999999999999999999999999",
                "0.1",
                "-0.000000000000000000000000000001",
            ],
        ),
        ("decimal(10,0) unsigned", vec!["9999999999", "0"]),
        ("decimal(30,30)", vec!["0.123456789012345678901234567891", "-0.5"]),
        ("float", vec!["0.1", "-3.4028234e38", "1e-45", "16777217"]),
        ("double", vec!["0.1", "-1.7976931348623157e308", "5e-324", "123456789.123456789"]),
        ("bit(1)", vec!["b'0'", "b'1'"]),
        ("tinyint(1)", vec!["0", "1", "2"]),
        ("char(10)", vec!["'ab  '", "''", "'ä€😀'"]),
        ("varchar(60)", vec!["'B'", "'b '", "'it''s \\\\ \\0 \\n'"]),
        ("varchar(300) character set latin1", vec!["'é€Ž'", "repeat('ß', 300)"]),
        ("varchar(20) character set ucs2", vec!["'é€'"]),
        ("char(20) character set utf16", vec!["'é€😀'"]),
        ("text character set utf32", vec!["'é€😀'"]),
        ("varchar(20) character set cp1251", vec!["'Привет'"]),
        ("varchar(20) character set koi8r", vec!["'Привет'"]),
        ("varchar(20) character set cp850", vec!["'ÄÖß'"]),
        ("tinytext", vec!["'a'"]),
        ("mediumtext", vec!["repeat('ä', 70000)"]),
        ("longtext", vec!["'x'"]),
        ("binary(4)", vec!["x'00'", "x'01020304'", "'a'"]),
        ("varbinary(300)", vec!["x'00ff5c27'", "''"]),
        ("blob", vec!["repeat('a', 65535)", "x'80'"]),
        ("date", vec!["'1000-01-01'", "'9999-12-31'", "'1969-12-31'"]),
        ("time", vec!["'-838:59:59'", "'838:59:59'", "'00:00:00'"]),
        ("time(6)", vec!["'-00:00:00.000001'", "'23:59:59.999999'", "'-10:00:00.5'"]),
        ("time(3)", vec!["'-01:02:03.999'"]),
        ("datetime", vec!["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'"]),
        ("datetime(1)", vec!["'2026-11-23 10:00:00.9'"]),
        ("datetime(6)", vec!["'1969-12-31 23:59:59.999999'"]),
        ("timestamp null", vec!["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
        ("timestamp(6) null", vec!["'2026-03-29 01:30:00.123456'"]),
        ("timestamp(3) null", vec!["'2026-03-29 01:30:00.123'"]),
        (
            "json",
            vec![
                "'null'",
                "'{\"b\":[1,-2.5,\"x\\\\u00e9\\\\n\",true,null,1e300],\"a\":{}}'",
                "'18446744073709551615'",
                "'\"\\\\\\\\\"'",
                "'[123456, -40000, 3000000000, -3000000000]'",
            ],
        ),
        ("enum('a','B','it''s','','ä€')", vec!["'a'", "'it''s'", "''", "'ä€'"]),
        ("enum('é','x') character set latin1", vec!["'é'"]),
    ];
    if kind == ServerKind::Mariadb {
        columns.push((
            "uuid",
            vec![
                "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'",
                "'c232ab00-9414-11ec-b3c8-9f6bdeced846'",
                "'12345678-1234-8234-1234-123456789012'",
            ],
        ));
    }
    columns
}

async fn token(node: &MysqlNode) -> (Box<dyn Lease>, i64) {
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!() };
    let token = lease.take_over("test").await.unwrap();
    (lease, token)
}

/// A bridge on one table `t` of a database, and the lease of it.
async fn table(
    server: &Server,
    database: &str,
    columns: &str,
) -> (Conn, Arc<MysqlNode>, Tables, (Box<dyn Lease>, i64)) {
    let mut root = root(server).await;
    run(&mut root, &[&format!("CREATE DATABASE {database}"), &format!("CREATE TABLE {database}.t ({columns})")]).await;
    let node = node(server, database, database);
    let tables = map(&node, &[TableName::new(database, "t")]).await;
    set_up(&node, &tables).await;
    let lease = token(&node).await;
    (root, node, tables, lease)
}

async fn begin(session: &mut Box<dyn Session>) {
    session.begin(Some(&Tag { position: None, commit_time: 1 })).await.unwrap();
}

async fn values_round_trip(server: &Server) {
    let mut root = root(server).await;
    let columns = columns(server.kind());
    let list: Vec<String> = columns.iter().enumerate().map(|(at, (native, _))| format!("c{at} {native}")).collect();
    let create =
        |table: &str| format!("CREATE TABLE d.{table} (id int PRIMARY KEY, {}) CHARACTER SET utf8mb4", list.join(", "));
    run(
        &mut root,
        &["CREATE DATABASE d", "SET time_zone = '+00:00', NAMES utf8mb4", &create("source"), &create("target")],
    )
    .await;
    let node = node(server, "values", "d");
    let names = ["source", "target"].map(|name| TableName::new("d", name));
    let tables = map(&node, &names).await;
    let mut reader = set_up(&node, &tables).await;
    let most = columns.iter().map(|(_, values)| values.len()).max().unwrap();
    run(&mut root, &["SET sql_mode = ''", "INSERT INTO d.source (id) VALUES (0)"]).await;
    for at in 0..most {
        let values: Vec<&str> = columns.iter().map(|(_, values)| values[at % values.len()]).collect();
        run(&mut root, &[&format!("INSERT INTO d.source VALUES ({}, {})", at + 1, values.join(", "))]).await;
    }
    let mut logged = Vec::new();
    for _ in 0..=most {
        logged.push(transaction(&mut reader).await.changes[0].after().unwrap().clone());
    }
    // The log and a query say the same.
    let mut scan = node.open_scan(&tables).await.unwrap();
    let read = scan.chunk(TableId(0), Span::default(), 100).await.unwrap();
    same_rows(&logged, &read, &tables);
    known_values(&logged, server.kind());

    // What a session writes is what was read; all of it in one batch, each row with its whole image.
    let (_lease, token) = token(&node).await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
    begin(&mut session).await;
    let batch = TableBatch { inserts: logged.clone(), ..Default::default() };
    assert_eq!(session.apply(TableId(1), &batch).await.unwrap(), Applied::All);
    session.commit().await.unwrap();
    same_rows(&scan.chunk(TableId(1), Span::default(), 100).await.unwrap(), &logged, &tables);
    assert_eq!(equal_rows(&mut root, &tables).await, logged.len());
    let echo = transaction(&mut reader).await;
    same_rows(&echo.changes.iter().map(|change| change.after().unwrap().clone()).collect::<Vec<_>>(), &logged, &tables);

    // Keys are found, in the order asked for.
    let keys: Vec<_> = [3, 99, 1].map(|id| pontoon_core::Key(vec![int(id)])).into();
    let found = scan.rows(TableId(1), &keys).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);

    each_column_counts(&mut session, &tables, &logged).await;
    every_column_can_be_set(&mut session, &tables, &logged).await;

    // And removed, by their whole images.
    begin(&mut session).await;
    let batch = TableBatch { deletes: logged.clone(), ..Default::default() };
    assert_eq!(session.apply(TableId(1), &batch).await.unwrap(), Applied::All);
    session.commit().await.unwrap();
    assert_eq!(scan.chunk(TableId(1), Span::default(), 100).await.unwrap(), []);

    // And written by the rows' own way of many at once, which is another than a statement's where the server takes a file.
    for by_file in [true, false] {
        run(&mut root, &[&format!("SET GLOBAL local_infile = {by_file}")]).await;
        let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
        let before = files_loaded(&mut root).await;
        begin(&mut session).await;
        let rows: Vec<&Row> = logged.iter().collect();
        assert_eq!(session.load(TableId(1), &rows).await.unwrap(), Applied::All, "none goes another way");
        session.commit().await.unwrap();
        assert_eq!(files_loaded(&mut root).await - before, u64::from(by_file));
        same_rows(&scan.chunk(TableId(1), Span::default(), 100).await.unwrap(), &logged, &tables);
        assert_eq!(equal_rows(&mut root, &tables).await, logged.len());
        // A key that is there is one that was not expected, and then nothing of the rest is there either.
        begin(&mut session).await;
        assert_eq!(session.load(TableId(1), &rows[..1]).await.unwrap(), Applied::Missed);
        session.rollback().await.unwrap();
        run(&mut root, &["DELETE FROM d.target"]).await;
    }
}

/// Rows that are as large as a packet of the server, or larger than what is sent of a file at a time.
#[tokio::test]
async fn rows_are_loaded_within_packets() {
    for kind in [ServerKind::Mariadb, ServerKind::Mysql] {
        let server = start_with(kind, &[("local_infile", "ON"), ("max_allowed_packet", "1048576")]).await;
        let (mut root, node, tables, (_lease, token)) =
            table(&server, "wide", "id int PRIMARY KEY, bytes longblob").await;
        let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
        let bytes =
            |id: i128, length: usize| Row(vec![int(id), Value::Bytes((0..length).map(|at| at as u8).collect())]);
        for (lengths, by_file) in [(vec![200_000, 3, 131_072, 250_000, 0], 1), (vec![700_000, 3], 0)] {
            let rows: Vec<Row> = (1..).zip(&lengths).map(|(id, length)| bytes(id, *length)).collect();
            let before = files_loaded(&mut root).await;
            begin(&mut session).await;
            assert_eq!(
                session.load(TableId(0), &rows.iter().collect::<Vec<_>>()).await.unwrap(),
                Applied::All,
                "{kind}"
            );
            let keys: Vec<_> = rows.iter().map(|row| tables[0].key_of(row)).collect();
            assert_eq!(differing(&session.read(TableId(0), &keys).await.unwrap(), rows.iter()), [], "{kind}");
            session.rollback().await.unwrap();
            assert_eq!(files_loaded(&mut root).await - before, by_file, "{kind} {lengths:?}");
        }
        let beyond = bytes(1, 1_040_000);
        begin(&mut session).await;
        let refused = session.load(TableId(0), &[&beyond]).await.unwrap_err();
        assert!(refused.to_string().contains("max_allowed_packet"), "{kind} {refused}");
        session.rollback().await.unwrap();
    }
}

/// What a transaction adds goes by a file where it is more than a statement has, behind what it changes, and tells the same as statements do.
#[tokio::test]
async fn many_inserts_are_applied_by_a_file() {
    const MANY: i128 = 501;
    for kind in [ServerKind::Mariadb, ServerKind::Mysql] {
        let server = start_with(kind, &[("local_infile", "ON")]).await;
        let (mut root, node, tables, (_lease, token)) =
            table(&server, "many", "id int PRIMARY KEY, one int UNIQUE").await;
        let row = |id: i128, one: i128| Row(vec![int(id), int(one)]);
        let all = |first: i128, count: i128| (first..first + count).map(|id| row(id, id)).collect::<Vec<_>>();
        let open = || node.open_session(Applier::Direction, token, &tables);
        let (mut session, before) = (open().await.unwrap(), files_loaded(&mut root).await);
        // The first row is there from the second time on, and is changed in passing.
        let changes = [vec![], vec![(row(1, 1), row(1, 0))], vec![(row(1, 0), row(1, -1))]];
        let times = [(1, MANY, 1), (1_001, MANY - 1, 1), (2_001, MANY, 2)];
        for ((first, count, files), rows) in times.into_iter().zip(changes) {
            begin(&mut session).await;
            let updates = vec![UpdateGroup { changed: vec![1], rows, ..UpdateGroup::default() }];
            let batch = TableBatch { updates, inserts: all(first, count), ..TableBatch::default() };
            assert_eq!(session.apply(TableId(0), &batch).await.unwrap(), Applied::All, "{kind} {first}");
            session.commit().await.unwrap();
            assert_eq!(files_loaded(&mut root).await - before, files, "{kind} {first}");
        }
        let there: Option<(u64, i64)> = root.query_first("SELECT COUNT(*), MIN(one) FROM many.t").await.unwrap();
        assert_eq!(there, Some((1_502, -1)), "{kind}");

        // A row that is there, or that the table refuses: nothing is there of the rest, and statements say which of the two it is.
        for (another, refused) in [(row(2_001, 9_000), false), (row(9_000, 2), true)] {
            let (mut session, before) = (open().await.unwrap(), files_loaded(&mut root).await);
            let batch = TableBatch { inserts: [all(10_000, MANY), vec![another]].concat(), ..TableBatch::default() };
            for files in [1, 0] {
                begin(&mut session).await;
                let applied = session.apply(TableId(0), &batch).await;
                match applied {
                    Ok(applied) => assert!(applied == Applied::Missed && (files == 1 || !refused), "{kind}"),
                    Err(error) => assert!(error.code() == Code::RowRefused && files == 0 && refused, "{kind} {error}"),
                }
                session.rollback().await.unwrap();
                assert_eq!(files_loaded(&mut root).await - before, 1, "{kind}");
            }
        }
        let kept: Option<u64> = root.query_first("SELECT COUNT(*) FROM many.t").await.unwrap();
        assert_eq!(kept, Some(1_502), "{kind}");
    }
}

/// Files that sessions have written from.
async fn files_loaded(root: &mut Conn) -> u64 {
    let (_, count): (String, u64) = root.query_first("SHOW GLOBAL STATUS LIKE 'Com_load'").await.unwrap().unwrap();
    count
}

/// Rows that source and target have alike, by the server's own comparison.
async fn equal_rows(root: &mut Conn, tables: &Tables) -> usize {
    let columns: Vec<String> = tables[0].columns[1..]
        .iter()
        .map(|mapped| match (&mapped.kind, &mapped.column.name) {
            (Kind::Json { .. }, name) => format!("(s.{name} IS NULL) = (t.{name} IS NULL)"),
            (_, name) => format!("s.{name} <=> t.{name}"),
        })
        .collect();
    let joined = format!("SELECT COUNT(*) FROM d.source s JOIN d.target t USING (id) WHERE {}", columns.join(" AND "));
    root.query_first(joined).await.unwrap().unwrap()
}

/// A file is never refused in its middle: what does not fit is told all the same, beside rows that do.
#[tokio::test]
async fn misfits_are_never_loaded() {
    for kind in [ServerKind::Mariadb, ServerKind::Mysql] {
        let server = start_with(kind, &[("local_infile", "ON")]).await;
        let columns = "id int PRIMARY KEY, small tinyint, short varchar(3), latin varchar(9) CHARACTER SET latin1, \
                       exact decimal(5,2), single float, day date, moment datetime, stamp timestamp NULL, span time, \
                       word enum('a','b'), words set('a','b'), document json, bytes binary(2), flag bit(1), \
                       bits bit(9), born year, one int UNIQUE, must int NOT NULL, CHECK (must > 0)";
        let (mut root, node, tables, (_lease, token)) = table(&server, "misfits", columns).await;
        let place = |name: &str| tables[0].columns.iter().position(|mapped| &*mapped.column.name == name).unwrap();
        let row = |id: i128, name: &str, value: Value| {
            let mut row = Row(vec![Value::Null; tables[0].columns.len()]);
            (row.0[0], row.0[place("must")], row.0[place("one")]) = (int(id), int(1), int(id));
            row.0[place(name)] = value;
            row
        };
        let micros = |year: i64| (year - 1970) * 31_556_952_000_000;
        let misfits = [
            ("small", int(128)),
            ("short", text("four")),
            ("latin", text("☃")),
            ("exact", Value::Decimal("1000.5".into())),
            ("single", Value::Float64(1e300)),
            ("single", Value::Float64(f64::NAN)),
            ("day", Value::Date(9_000_000)),
            ("moment", Value::DateTime(micros(20_000))),
            ("stamp", Value::Instant(micros(2_500))),
            ("span", Value::Time(1 << 50)),
            ("word", text("c")),
            ("words", text("a,c")),
            ("document", Value::Json("{".into())),
            ("bytes", Value::Bytes(vec![1, 2, 3].into())),
            ("flag", int(2)),
            ("bits", text("1000000000")),
            ("born", int(1800)),
            ("one", int(1)),
            ("id", int(1)),
            ("must", int(-1)),
            ("must", Value::Null),
        ];
        for (name, value) in misfits {
            let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
            let before = files_loaded(&mut root).await;
            let rows = [row(1, "one", int(1)), row(2, name, value.clone()), row(3, "one", int(3))];
            begin(&mut session).await;
            let loaded = session.load(TableId(0), &rows.each_ref()).await;
            assert!(!matches!(loaded, Ok(Applied::All)), "{kind} {name} {value:?}");
            session.rollback().await.unwrap();
            // Null for a column that takes none is found before; all else was in a file.
            assert_eq!(files_loaded(&mut root).await - before, u64::from(value != Value::Null), "{kind} {name}");
            // Whatever it was, the rest can be written, by statements where the file gave warnings.
            begin(&mut session).await;
            let rest = [&rows[0], &rows[2]];
            assert_eq!(session.load(TableId(0), &rest).await.unwrap(), Applied::All, "{kind} {name}");
            session.rollback().await.unwrap();
        }
        // The server comes to take no files.
        let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
        let first = row(1, "one", int(1));
        for (setting, expected) in [("ON", Applied::All), ("OFF", Applied::Missed), ("OFF", Applied::All)] {
            run(&mut root, &[&format!("SET GLOBAL local_infile = {setting}")]).await;
            begin(&mut session).await;
            assert_eq!(session.load(TableId(0), &[&first]).await.unwrap(), expected, "{kind} {setting}");
            session.rollback().await.unwrap();
        }
        let kept: Option<u64> = root.query_first("SELECT COUNT(*) FROM misfits.t").await.unwrap();
        assert_eq!(kept, Some(0));
    }
}

fn same_rows(a: &[Row], b: &[Row], tables: &Tables) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        for ((a, b), column) in a.0.iter().zip(&b.0).zip(&tables[0].columns) {
            assert_eq!(a, b, "{} {}", column.column.name, column.column.native);
        }
    }
}

/// What the rows must hold, by the calendar and not by either decoder.
fn known_values(rows: &[Row], kind: ServerKind) {
    let of = |native: &str, at: usize| {
        let place = columns(kind).iter().position(|(declared, _)| declared.starts_with(native));
        rows[at].0[place.unwrap_or_else(|| panic!("{native}")) + 1].clone()
    };
    assert!(rows[0].0[1..].iter().all(|value| *value == Value::Null));
    assert_eq!(of("bigint unsigned", 1), int(u64::MAX.into()));
    assert_eq!(of("decimal(65,30)", 3), Value::Decimal("-0.000000000000000000000000000001".into()));
    assert_eq!(of("float", 1), Value::Float32(0.1));
    assert_eq!(of("double", 1), Value::Float64(0.1));
    assert_eq!(of("char(10)", 1), text("ab"));
    assert_eq!(of("varchar(60)", 2), text("b "));
    assert_eq!(of("varchar(60)", 3), text("it's \\ \0 \n"));
    assert_eq!(of("varchar(20) character set koi8r", 1), text("Привет"));
    assert_eq!(of("binary(4)", 1), Value::Bytes(vec![0; 4].into()));
    assert_eq!(of("time(6)", 1), Value::Time(-1));
    assert_eq!(of("time(6)", 3), Value::Time(-36_000_500_000));
    assert_eq!(of("datetime(6)", 1), Value::DateTime(-1));
    assert_eq!(of("timestamp", 1), Value::Instant(1_000_000));
    assert_eq!(of("json", 1), Value::Json("null".into()));
    assert_eq!(of("json", 2), Value::Json("{\"a\":{},\"b\":[1,-2.5,\"xé\\n\",true,null,1e+300]}".into()));
    assert_eq!(of("enum('a'", 3), text(""));
    if kind == ServerKind::Mariadb {
        for (at, uuid) in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(of("uuid", at + 1), Value::Uuid(pontoon_core::value::parse_uuid(uuid).unwrap()));
        }
    }
}

/// A before image that differs in one column alone is not found.
async fn each_column_counts(session: &mut Box<dyn Session>, tables: &Tables, rows: &[Row]) {
    for place in 1..tables[1].columns.len() {
        let different = rows.iter().find(|row| row.0[place] != rows[1].0[place]).unwrap();
        let mut before = rows[1].clone();
        before.0[place] = different.0[place].clone();
        begin(session).await;
        let batch = TableBatch { deletes: vec![before], ..Default::default() };
        let native = &tables[1].columns[place].column.native;
        assert_eq!(session.apply(TableId(1), &batch).await.unwrap(), Applied::Missed, "{native}");
        session.rollback().await.unwrap();
    }
}

/// Each row in turn takes the values of the next, all columns but the key, on condition of its image.
async fn every_column_can_be_set(session: &mut Box<dyn Session>, tables: &Tables, rows: &[Row]) {
    let changed: Vec<usize> = (1..tables[1].columns.len()).collect();
    let moved: Vec<Row> = (0..rows.len())
        .map(|at| {
            let mut row = rows[(at + 1) % rows.len()].clone();
            row.0[0] = rows[at].0[0].clone();
            row
        })
        .collect();
    for (from, to) in [(rows, &moved[..]), (&moved[..], rows)] {
        begin(session).await;
        let pairs = from.iter().cloned().zip(to.iter().cloned()).collect();
        let batch = TableBatch {
            updates: vec![UpdateGroup { changed: changed.clone(), rows: pairs, ..UpdateGroup::default() }],
            ..Default::default()
        };
        assert_eq!(session.apply(TableId(1), &batch).await.unwrap(), Applied::All);
        let keys: Vec<_> = to.iter().map(|row| tables[1].key_of(row)).collect();
        let found: Vec<Row> = session.read(TableId(1), &keys).await.unwrap().into_iter().flatten().collect();
        session.commit().await.unwrap();
        same_rows(&found, to, tables);
    }
}

/// Columns whose pair is poorer are compared as the pair is, and set to what the pair holds.
async fn poorer_forms_are_cut(server: &Server) {
    let mut root = root(server).await;
    run(
        &mut root,
        &[
            "SET time_zone = '+00:00', NAMES utf8mb4",
            "CREATE DATABASE poor",
            "CREATE TABLE poor.t (id int PRIMARY KEY, a datetime(6), b time(6), c timestamp(6) null, d double, e varchar(20), f tinyint(1), g char(36), h binary(16), n int) CHARACTER SET utf8mb4",
            "INSERT INTO poor.t VALUES (1, '1960-01-01 00:00:00.7', '-00:00:01.7', '2026-01-01 00:00:00.999999', 0.1, 'a  ', 1, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', x'a0eebc999c0b4ef8bb6d6bb9bd380a11', 1)",
            "INSERT INTO poor.t VALUES (2, null, null, null, null, null, null, null, null, 1)",
        ],
    )
    .await;
    let node = node(server, "poor", "");
    let mut mapped = map(&node, &[TableName::new("poor", "t")]).await[0].clone();
    let forms = [
        Form::Integer,
        Form::DateTime { precision: 0 },
        Form::Time { precision: 0 },
        Form::Instant { precision: 2 },
        Form::Float32,
        Form::Text { padded: true },
        Form::Boolean,
        Form::Uuid,
        Form::Uuid,
        Form::Integer,
    ];
    for (column, form) in mapped.columns.iter_mut().zip(forms) {
        column.form = form;
    }
    let tables: Tables = vec![mapped].into();
    set_up(&node, &tables).await;
    let mut scan = node.open_scan(&tables).await.unwrap();
    let rows = scan.chunk(TableId(0), Span::default(), 10).await.unwrap();
    assert_eq!(rows[0].0[2], Value::Time(-2_000_000));
    assert_eq!(rows[0].0[4], Value::Float32(0.1));
    assert_eq!(rows[0].0[5], text("a"));
    assert_eq!(rows[0].0[6], Value::Boolean(true));
    assert_eq!(rows[0].0[7], rows[0].0[8]);
    let (_lease, token) = token(&node).await;
    let mut session = node.open_session(Applier::Direction, token, &tables).await.unwrap();
    begin(&mut session).await;
    let change = |row: &Row| {
        let mut after = row.clone();
        after.0[9] = int(2);
        (row.clone(), after)
    };
    let pairs = rows.iter().map(change).collect();
    let batch = TableBatch {
        updates: vec![UpdateGroup { changed: vec![9], rows: pairs, ..UpdateGroup::default() }],
        ..Default::default()
    };
    assert_eq!(session.apply(TableId(0), &batch).await.unwrap(), Applied::All);
    session.commit().await.unwrap();
    // The richer values stay where nothing was set.
    let kept: Option<String> =
        root.query_first("SELECT CONCAT_WS('|', a, b, c, e, g) FROM poor.t WHERE id = 1").await.unwrap();
    assert_eq!(
        kept.as_deref(),
        Some(
            "1960-01-01 00:00:00.700000|-00:00:01.700000|2026-01-01 00:00:00.999999|a  |A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"
        )
    );
}

/// Every character set that a column may have: each of its characters is read from the log as the server
/// itself converts it.
async fn charsets_are_exact(server: &Server) {
    let mut root = root(server).await;
    run(&mut root, &["SET NAMES utf8mb4", "CREATE DATABASE cs", "SET sql_mode = ''"]).await;
    let sets: Vec<(String, u32)> =
        root.query("SELECT character_set_name, maxlen FROM information_schema.character_sets WHERE character_set_name <> 'binary' ORDER BY 1").await.unwrap();
    for (set, _) in &sets {
        run(&mut root, &[&format!("CREATE TABLE cs.`{set}` (id int PRIMARY KEY, v varchar(200) CHARACTER SET {set})")])
            .await;
    }
    let node = node(server, "charsets", "cs");
    let names: Vec<TableName> = sets.iter().map(|(set, _)| TableName::new("cs", set.as_str())).collect();
    let described = node.describe(&names).await.unwrap();
    let (fit, unfit): (Vec<TableName>, Vec<TableName>) = names
        .into_iter()
        .zip(&described)
        .map(|(name, schema)| (name, schema.as_ref().unwrap().columns[1].kind.is_some()))
        .fold((vec![], vec![]), |(mut fit, mut unfit), (name, is_fit)| {
            if is_fit {
                fit.push(name)
            } else {
                unfit.push(name)
            }
            (fit, unfit)
        });
    eprintln!(
        "{} character sets read, refused: {:?}",
        fit.len(),
        unfit.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    assert!(fit.len() >= 30);
    let tables = map(&node, &fit).await;
    let mut reader = set_up(&node, &tables).await;
    let mut checked = 0;
    for table in tables.iter() {
        let set = &*table.name.name;
        let rows = fill(&mut root, set, sets.iter().find(|(name, _)| name == set).unwrap().1).await;
        if rows == 0 {
            continue;
        }
        let expected: Vec<Option<String>> = root.query(format!("SELECT v FROM cs.`{set}` ORDER BY id")).await.unwrap();
        let mut read = transaction(&mut reader).await.changes;
        read.sort_by(|a, b| a.after().unwrap().0[0].cmp(&b.after().unwrap().0[0]));
        assert_eq!(read.len(), expected.len(), "{set}");
        for (change, expected) in read.iter().zip(expected) {
            let Some(expected) = expected else { continue };
            match &change.after().unwrap().0[1] {
                // What the server shows as a question mark stands for nothing.
                Value::Unmapped(_) => assert!(expected.contains('?'), "{set} {expected:?}"),
                Value::Text(found) => {
                    assert_eq!(**found, *expected, "{set}");
                    checked += 1;
                }
                other => panic!("{set}: {other:?}"),
            }
        }
    }
    eprintln!("{checked} texts");
}

/// Fills a table with all characters of its set, and returns how many rows there are.
async fn fill(root: &mut Conn, set: &str, maxlen: u32) -> u32 {
    let mut rows: Vec<String> = Vec::new();
    if maxlen == 1 {
        rows.extend((0..=255_u32).map(|byte| format!("({byte}, _binary x'{byte:02x}')")));
    } else {
        // By way of Unicode: what the set has not becomes a question mark.
        let step = 97;
        rows.extend((0x21..0x1f700_u32).step_by(step).filter(|code| !(0xd700..0xe000).contains(code)).enumerate().map(
            |(id, code)| {
                let chars: String =
                    (code..code + 97).filter_map(char::from_u32).filter(|c| *c != '\\' && *c != '\'').collect();
                format!("({id}, '{chars}')")
            },
        ));
    }
    run(root, &[&format!("INSERT IGNORE INTO cs.`{set}` VALUES {}", rows.join(","))]).await;
    root.query_first(format!("SELECT COUNT(*) FROM cs.`{set}`")).await.unwrap().unwrap()
}
