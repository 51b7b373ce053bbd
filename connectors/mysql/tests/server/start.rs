//! Where an operator may say that the log is taken up, on real servers: every offset of some transactions, and what was
//! prepared before the place.

use std::{collections::BTreeSet, sync::Arc};

use mysql_async::{Conn, prelude::Queryable};
use pontoon_core::{
    Code, LogEvent, Position, TableName,
    node::{Admin, Node, PassedOver, Tables},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind, Server};

use crate::support::{map, next, node, plan, root, run, start_with};

#[tokio::test]
async fn mariadb() {
    all(Kind::Mariadb, &[]).await;
}

#[tokio::test]
async fn mysql() {
    all(Kind::Mysql, &[]).await;
}

#[tokio::test]
#[ignore = "full: the other form of the log"]
async fn mariadb_compressed() {
    all(Kind::Mariadb, &[("log_bin_compress", "ON"), ("log_bin_compress_min_len", "10")]).await;
}

#[tokio::test]
#[ignore = "full: the other form of the log"]
async fn mysql_compressed() {
    all(Kind::Mysql, &[("binlog_transaction_compression", "ON")]).await;
}

async fn all(kind: Kind, settings: &[(&str, &str)]) {
    let server = start_with(kind, settings).await;
    let mut conn = root(&server).await;
    run(&mut conn, &["CREATE DATABASE shop", "CREATE TABLE shop.items (id int PRIMARY KEY, note varchar(200))"]).await;
    let node = node(&server, "start", "shop");
    let tables = map(&node, &[TableName { schema: None, name: "items".into() }]).await;
    for checksum in ["CRC32", "NONE"] {
        run(&mut conn, &[&format!("SET GLOBAL binlog_checksum = {checksum}"), "FLUSH BINARY LOGS"]).await;
        every_offset(&node, &tables, &mut conn).await;
    }
    what_was_prepared_before(&server, &node, &tables).await;
}

async fn end(node: &MysqlNode) -> Position {
    node.log_status(None).await.unwrap().end
}

fn offset(position: &Position) -> u64 {
    let Position::Binlog { offset, .. } = position else { panic!("{position}") };
    *offset
}

fn at(position: &Position, offset: u64) -> Position {
    format!("{}:{offset}", position.binlog_file().unwrap()).parse().unwrap()
}

/// Of some transactions, the ends are places, and nothing else is.
async fn every_offset(node: &Arc<MysqlNode>, tables: &Tables, conn: &mut Conn) {
    let first = end(node).await;
    let mut ends = BTreeSet::from([offset(&first)]);
    for statement in [
        "INSERT INTO shop.items VALUES (1, 'one'), (2, 'two')",
        "BEGIN; UPDATE shop.items SET note = REPEAT('x', 100) WHERE id = 1; DELETE FROM shop.items; COMMIT",
        "ALTER TABLE shop.items COMMENT 'another'",
    ] {
        run(conn, &[statement]).await;
        ends.insert(offset(&end(node).await));
    }
    // MariaDB notes by itself, a moment after a file was begun, which files a recovery needs.
    let events = format!("SHOW BINLOG EVENTS IN '{}' FROM {}", first.binlog_file().unwrap(), offset(&first));
    for event in conn.query::<mysql_async::Row, _>(events).await.unwrap() {
        if event.get::<String, _>(2).unwrap() == "Binlog_checkpoint" {
            ends.insert(event.get(4).unwrap());
        }
    }
    let last = *ends.last().unwrap();
    let mut found = BTreeSet::new();
    for place in offset(&first)..=last {
        match node.start_at(&plan(tables), &at(&first, place)).await {
            Ok(start) => {
                assert!(
                    start.position.durable().contains('@'),
                    "{}: when its file was begun",
                    start.position.durable()
                );
                assert!(!start.position.durable().contains('<'), "{}", start.position.durable());
                found.insert(place);
            }
            Err(error) => {
                assert_eq!(error.code(), Code::PositionUnfit, "{place}: {error}");
                assert!(error.message().contains(&at(&first, place).to_string()), "{error}");
            }
        }
    }
    assert_eq!(found, ends);
    // The beginning of a file, also by offset 0, and the end of one that is closed.
    for offset in [0, 4] {
        assert!(node.start_at(&plan(tables), &at(&first, offset)).await.is_ok());
    }
    run(conn, &["FLUSH BINARY LOGS"]).await;
    let sizes: Vec<(String, u64)> = conn
        .query::<mysql_async::Row, _>("SHOW BINARY LOGS")
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0).unwrap(), row.get(1).unwrap()))
        .collect();
    let (_, size) = sizes.iter().find(|(name, _)| Some(name) == first.binlog_file().as_ref()).unwrap();
    assert!(node.start_at(&plan(tables), &at(&first, *size)).await.is_ok());
    let beyond = node.start_at(&plan(tables), &at(&first, size + 1)).await.unwrap_err();
    assert_eq!(beyond.code(), Code::PositionUnfit);
}

/// Its rows are before the place, its commit behind it.
async fn what_was_prepared_before(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let prepare = |xid: &str, id: i32| {
        [
            format!("XA START '{xid}'"),
            format!("INSERT INTO shop.items VALUES ({id}, 'prepared')"),
            format!("XA END '{xid}'"),
            format!("XA PREPARE '{xid}'"),
        ]
        .join("; ")
    };
    let earlier = async |place: &Position| {
        let start = node.start_at(&plan(tables), place).await.unwrap();
        (start.position.durable().contains('<'), start)
    };
    // One for each session: MariaDB keeps it there until it ends.
    let (mut one, mut other, mut third) = (root(server).await, root(server).await, root(server).await);
    run(&mut one, &[&prepare("one", 10)]).await;
    let place = end(node).await;
    assert!(earlier(&place).await.0, "it may be committed yet");
    run(&mut one, &["XA COMMIT 'one'"]).await;
    run(&mut other, &[&prepare("other", 11), "XA COMMIT 'other'"]).await;
    let (read_again, start) = earlier(&place).await;
    assert!(read_again, "it was committed");
    let mut reader = node.open_reader(&start, tables, &PassedOver::default()).await.unwrap();
    let mut committed = 0;
    while committed < 2 {
        committed += u32::from(matches!(next(&mut reader).await, LogEvent::Held(held) if is_commit(&held)));
    }
    drop(reader);
    // Behind its commit there is nothing of the kind, nor where all of it is behind the place, nor where it is undone.
    assert!(!earlier(&end(node).await).await.0);
    let place = end(node).await;
    run(&mut other, &[&prepare("again", 12), "XA COMMIT 'again'"]).await;
    assert!(!earlier(&place).await.0);
    run(&mut third, &[&prepare("third", 13)]).await;
    let place = end(node).await;
    run(&mut third, &["XA ROLLBACK 'third'"]).await;
    assert!(!earlier(&place).await.0);
}

fn is_commit(held: &pontoon_core::Held) -> bool {
    matches!(held, pontoon_core::Held::Decided { .. })
}
