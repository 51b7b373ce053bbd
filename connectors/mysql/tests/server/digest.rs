//! Checksums and spans of keys on real servers: what the server says of a row is what the canonical text of the row says
//! that is read from it.

use mysql_async::Conn;
use pontoon_core::{
    Digest, Form, Key, MappedTable, Span, TableId, TableName, Value,
    digest::is_digestible,
    node::{Node, Scan, Tables},
};
use pontoon_servers::{Kind as ServerKind, Server};

use crate::support::{int, map, node, root, run, start_with};

#[tokio::test]
async fn mariadb() {
    all(ServerKind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    all(ServerKind::Mysql).await;
}

async fn all(kind: ServerKind) {
    let server = start_with(kind, &[("max_allowed_packet", "1M")]).await;
    let mut root = root(&server).await;
    run(&mut root, &["CREATE DATABASE d CHARACTER SET utf8mb4", "USE d", "SET sql_mode = '', time_zone = '+00:00'"])
        .await;
    every_kind(&server, &mut root).await;
    spans(&server, &mut root).await;
    what_is_too_large_is_equal_to_nothing(&server, &mut root).await;
}

/// A type, the form of its pair where that is not its own, and values.
fn columns(kind: ServerKind) -> Vec<(&'static str, Option<Form>, Vec<&'static str>)> {
    let texts = || vec!["''", "'~'", "'|'", "'1|x'", "'ä€😀 '", "'it''s \\\\'"];
    let uuids = || vec!["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"];
    let micros = || vec!["'1000-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'", "'9999-12-31 23:59:59.120000'"];
    let instants = || vec!["'1970-01-01 00:00:01.9'", "'2038-01-19 03:14:07.123456'"];
    let mut columns = vec![
        ("tinyint", None, vec!["-128", "0"]),
        ("bigint unsigned", None, vec!["18446744073709551615", "0"]),
        ("int unsigned zerofill", None, vec!["4294967295", "7"]),
        ("int", Some(Form::Decimal), vec!["-7", "0", "100"]),
        ("decimal(10,2)", None, vec!["0", "-0.01", "1.50", "100", "99999999.99"]),
        ("decimal(20,0)", Some(Form::Integer), vec!["0", "-10", "18446744073709551615"]),
        ("decimal(9,2) unsigned zerofill", None, vec!["1.50", "0", "100"]),
        ("decimal(30,30)", None, vec!["0.000000000000000000000000000001", "-0.5"]),
        ("bit(1)", None, vec!["b'0'", "b'1'"]),
        ("tinyint(1)", Some(Form::Boolean), vec!["0", "1"]),
        ("char(10)", None, vec!["'ab  '", "''", "' |'"]),
        ("varchar(60)", None, texts()),
        ("varchar(60)", Some(Form::Text { padded: true }), vec!["'ab  '", "'  '", "'~ '"]),
        ("varchar(60) COLLATE utf8mb4_unicode_ci", None, texts()),
        ("varchar(60) CHARACTER SET latin1", None, vec!["'é€|'", "''"]),
        ("varchar(60) CHARACTER SET utf16", None, vec!["'é😀|'", "''"]),
        ("text CHARACTER SET utf8mb3", Some(Form::Text { padded: true }), vec!["'é  '", "''"]),
        ("longtext", None, vec!["repeat('ä', 100000)"]),
        ("binary(4)", None, vec!["x'00'", "x'01020304'"]),
        ("varbinary(300)", None, vec!["x'00ff5c27'", "''", "'|~'"]),
        ("longblob", None, vec!["repeat('a', 300000)"]),
        ("date", None, vec!["'1000-01-01'", "'9999-12-31'"]),
        ("time", None, vec!["'-838:59:59'", "'00:00:00'", "'10:00:10'"]),
        ("time(6)", None, vec!["'-00:00:00.000001'", "'23:59:59.5'", "'100:00:00'"]),
        ("datetime", None, vec!["'1000-01-01 00:00:00'", "'2026-11-23 10:00:10'"]),
        ("datetime(6)", None, micros()),
        ("datetime(6)", Some(Form::DateTime { precision: 0 }), micros()),
        ("datetime(6)", Some(Form::DateTime { precision: 3 }), micros()),
        ("datetime(3)", None, vec!["'2026-11-23 10:00:00.120'"]),
        ("timestamp(6) null", None, instants()),
        ("timestamp(6) null", Some(Form::Instant { precision: 0 }), instants()),
        ("timestamp null", None, vec!["'1970-01-01 00:00:01'"]),
        ("char(36)", Some(Form::Uuid), uuids()),
        ("varchar(36) CHARACTER SET latin1", Some(Form::Uuid), uuids()),
        ("binary(16)", Some(Form::Uuid), vec!["x'a0eebc999c0b4ef8bb6d6bb9bd380a11'", "x'00'"]),
        ("enum('a','it''s','','ä|')", None, vec!["'a'", "'it''s'", "3", "'ä|'"]),
        ("enum('é','x') CHARACTER SET latin1", None, vec!["'é'"]),
    ];
    if kind == ServerKind::Mariadb {
        columns.push(("uuid", None, uuids()));
    }
    columns
}

/// Each column in a table of its own, since the limit of a packet is one of the row.
async fn every_kind(server: &Server, root: &mut Conn) {
    let columns = columns(server.kind());
    let mut names = Vec::new();
    for (at, (native, _, values)) in columns.iter().enumerate() {
        run(root, &[&format!("CREATE TABLE c{at} (id int PRIMARY KEY, v {native}, after varchar(9))")]).await;
        for (id, value) in values.iter().chain(&["NULL"]).enumerate() {
            run(root, &[&format!("INSERT INTO c{at} VALUES ({id}, {value}, '|')")]).await;
        }
        names.push(TableName::new("d", format!("c{at}")));
    }
    let node = node(server, "digest", "d");
    let mut tables: Vec<MappedTable> = map(&node, &names).await.to_vec();
    for (table, (_, form, _)) in tables.iter_mut().zip(&columns) {
        let column = &mut table.columns[1];
        column.form = form.unwrap_or(column.form);
    }
    let mut scan = node.open_scan(&tables.clone().into()).await.unwrap();
    for (table, (native, form, values)) in tables.iter().zip(&columns) {
        assert!(is_digestible(table), "{native} {form:?}");
        let rows = scan.chunk(table.id, Span::default(), 100).await.unwrap();
        assert_eq!(rows.len(), values.len() + 1, "{native}");
        for row in rows {
            let key = table.key_of(&row);
            let Value::Integer(id) = key.0[0] else { panic!() };
            let before = Key(vec![int(id - 1)]);
            let span = Span { after: Some(&before), up_to: Some(&key) };
            let mut expected = Digest::default();
            assert!(expected.add(&row), "{native} {form:?} {row:?}");
            assert_eq!(scan.digest(table.id, span).await.unwrap(), expected, "{native} {form:?} {row:?}");
        }
    }
    // The error value of an enum is not the label that is empty.
    let at = columns.iter().position(|(native, ..)| native.starts_with("enum('a'")).unwrap();
    run(root, &[&format!("INSERT INTO c{at} VALUES (100, 3, '|'), (101, 0, '|')")]).await;
    let mut of = async |id: i128| {
        let (before, key) = (Key(vec![int(id - 1)]), Key(vec![int(id)]));
        scan.digest(TableId(at as u32), Span { after: Some(&before), up_to: Some(&key) }).await.unwrap()
    };
    assert_eq!(of(101).await.rows, 1);
    // The keys differ as well, so the same row is looked at twice.
    run(root, &[&format!("UPDATE c{at} SET v = 0 WHERE id = 100")]).await;
    let wrong = of(100).await;
    run(root, &[&format!("UPDATE c{at} SET v = 3 WHERE id = 100")]).await;
    assert_ne!(of(100).await, wrong);
}

/// Spans of a key of one column and of three divide the rows: none is in two of them, and none in none.
async fn spans(server: &Server, root: &mut Conn) {
    run(
        root,
        &[
            "CREATE TABLE one (id bigint PRIMARY KEY, v int)",
            "CREATE TABLE three (a int, b decimal(5,2), c binary(2), v int, PRIMARY KEY (a, b, c))",
        ],
    )
    .await;
    for n in 0..200 {
        let statement =
            format!("INSERT INTO three VALUES ({} DIV 50, {} MOD 7 + 0.5, UNHEX(LPAD(HEX({n}), 4, '0')), {n})", n, n);
        run(root, &[&format!("INSERT INTO one VALUES ({n} * 3 - 100, {n})"), &statement]).await;
    }
    let node = node(server, "digest", "d");
    let tables: Tables = map(&node, &["one", "three"].map(|name| TableName::new("d", name))).await;
    let mut scan = node.open_scan(&tables).await.unwrap();
    for table in tables.iter() {
        assert!(scan.keeps_common_order(table.id));
        divided(&mut scan, table, 200).await;
    }
}

async fn divided(scan: &mut Box<dyn Scan>, table: &MappedTable, count: usize) {
    let all = scan.chunk(table.id, Span::default(), 1_000).await.unwrap();
    assert_eq!(all.len(), count);
    for length in [1, 7, 50, count, count + 1] {
        let (mut after, mut rows, mut sum): (Option<Key>, Vec<_>, _) = (None, Vec::new(), Digest::default());
        loop {
            let up_to = scan.nth_key(table.id, Span::behind(after.as_ref()), length).await.unwrap();
            let span = Span { after: after.as_ref(), up_to: up_to.as_ref() };
            let digest = scan.digest(table.id, span).await.unwrap();
            sum = Digest { rows: sum.rows + digest.rows, sum: sum.sum ^ digest.sum };
            rows.extend(scan.chunk(table.id, span, 1_000).await.unwrap());
            assert_eq!(digest.rows == length as u64, up_to.is_some(), "{span:?}");
            if up_to.is_none() {
                break;
            }
            after = up_to;
        }
        assert_eq!(rows, all, "{length}");
        assert_eq!(sum, scan.digest(table.id, Span::default()).await.unwrap(), "{length}");
    }
}

/// The server makes null of a text that is longer than a packet, which must not be the same everywhere.
async fn what_is_too_large_is_equal_to_nothing(server: &Server, root: &mut Conn) {
    run(
        root,
        &[
            "CREATE TABLE large (id int PRIMARY KEY, a longtext, b longtext)",
            "INSERT INTO large VALUES (1, repeat('x', 600000), repeat('y', 600000))",
        ],
    )
    .await;
    let node = node(server, "digest", "d");
    let tables = map(&node, &[TableName::new("d", "large")]).await;
    let mut scan = node.open_scan(&tables).await.unwrap();
    let first = scan.digest(TableId(0), Span::default()).await.unwrap();
    let second = scan.digest(TableId(0), Span::default()).await.unwrap();
    assert_eq!((first.rows, second.rows), (1, 1));
    assert_ne!(first, second);
}
