//! What becomes of the log while it is read, on real servers: rotated, reset, damaged, with and without
//! checksums; and what a session logs otherwise than as rows.

use std::{
    fs::OpenOptions,
    io::{Read, Seek, SeekFrom, Write},
    sync::Arc,
};

use pontoon_core::{
    Checkpoint, Code, LogEvent, TableName,
    node::{LogReader, Node, PassedOver, Tables},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind, Server};

use crate::support::{DEADLINE, int, map, next, node, obstacle, root, run, set_up, start, transaction};

#[tokio::test]
async fn mariadb() {
    all(Kind::Mariadb).await;
}

#[tokio::test]
async fn mysql() {
    all(Kind::Mysql).await;
}

async fn all(kind: Kind) {
    let server = start(kind).await;
    let mut conn = root(&server).await;
    run(
        &mut conn,
        &[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.items (id int PRIMARY KEY, note varchar(200))",
            "CREATE TABLE shop.unmapped (id int PRIMARY KEY)",
            "CREATE DATABASE elsewhere",
            "CREATE TABLE elsewhere.items (id int PRIMARY KEY)",
            "CREATE TABLE elsewhere.plain (id int PRIMARY KEY)",
        ],
    )
    .await;
    let node = node(&server, "places", "shop");
    let tables = map(&node, &[TableName { schema: None, name: "items".into() }]).await;
    files_follow_each_other(&server, &node, &tables).await;
    checksums_come_and_go(&server, &node, &tables).await;
    statements_are_named(&server, &node, &tables).await;
    damage_is_seen(&server, &node, &tables).await;
    a_reset_ends_the_reader(&server, &node, &tables).await;
}

async fn reads(reader: &mut Box<dyn LogReader>, ids: std::ops::Range<i128>) {
    for id in ids {
        let seen = transaction(reader).await;
        let [change] = &seen.changes[..] else { panic!("{seen:?}") };
        assert_eq!(change.after().unwrap().0[0], int(id));
    }
}

fn insert(id: i128) -> String {
    format!("INSERT INTO shop.items VALUES ({id}, 'written once')")
}

async fn files_follow_each_other(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let mut reader = set_up(node, tables).await;
    let mut conn = root(server).await;
    // In a backlog.
    for id in 0..40 {
        run(&mut conn, &[&insert(id)]).await;
        match id % 4 {
            0 => run(&mut conn, &["FLUSH BINARY LOGS"]).await,
            1 => run(&mut conn, &["FLUSH LOGS", "FLUSH BINARY LOGS"]).await,
            _ => {}
        }
    }
    reads(&mut reader, 0..40).await;
    // At the end, and by size: the least that a file may have is 4 KiB.
    run(&mut conn, &["SET GLOBAL max_binlog_size = 4096"]).await;
    for id in 40..80 {
        if id % 10 == 0 {
            run(&mut conn, &["FLUSH LOGS"]).await;
        }
        run(&mut conn, &[&insert(id)]).await;
        reads(&mut reader, id..id + 1).await;
    }
    run(&mut conn, &["SET GLOBAL max_binlog_size = 1073741824"]).await;
}

async fn checksums_come_and_go(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let mut reader = set_up(node, tables).await;
    let mut conn = root(server).await;
    let toggle = ["NONE", "CRC32", "NONE", "NONE", "CRC32"];
    for (round, checksum) in toggle.iter().enumerate() {
        let id = 100 + round as i128 * 10;
        run(&mut conn, &[&insert(id), &format!("SET GLOBAL binlog_checksum = {checksum}"), &insert(id + 1)]).await;
        reads(&mut reader, id..id + 2).await;
        // An idle log tells the time in either form.
        loop {
            let LogEvent::Progress(progress) = next(&mut reader).await else { panic!() };
            if progress.time.is_some() {
                break;
            }
        }
        let other = node.open_tail(None, tables, &PassedOver::default()).await.unwrap();
        drop(other);
    }
    // All of it once more, as a backlog.
    let mut reader = set_up(node, tables).await;
    for (round, checksum) in toggle.iter().enumerate() {
        let id = 200 + round as i128;
        run(&mut conn, &[&insert(id), &format!("SET GLOBAL binlog_checksum = {checksum}")]).await;
    }
    reads(&mut reader, 200..205).await;
}

/// A change of mapped rows that was logged as a statement is an obstacle that names the table, or the database.
async fn statements_are_named(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let mysql = server.kind() == Kind::Mysql;
    let file = server.data().join("rows.txt");
    std::fs::write(&file, "301\tloaded\n").unwrap();
    let load = format!("LOAD DATA INFILE '{}' INTO TABLE shop.items", file.display());
    let mut cases = vec![
        ("MIXED", "UPDATE shop.items SET note = 'x' WHERE id = 1", "items"),
        ("STATEMENT", "DELETE FROM `shop` . `items` WHERE id = 2", "items"),
        ("STATEMENT", load.as_str(), "items"),
        ("MIXED", "/* of a tool */ insert into shop.seen values (300, 'by a view')", "shop"),
    ];
    let mut conn = root(server).await;
    run(&mut conn, &["CREATE VIEW shop.seen AS SELECT * FROM shop.items"]).await;
    if mysql {
        // The server says what a trigger writes to.
        cases.push(("STATEMENT", "INSERT INTO elsewhere.plain VALUES (1)", "shop"));
    } else {
        cases.push((
            "ROW",
            "SET STATEMENT binlog_format = 'STATEMENT' FOR UPDATE shop.items SET note = 'z' WHERE id = 3",
            "items",
        ));
    }
    for (format, statement, named) in cases {
        let trigger = statement.contains("elsewhere.plain");
        if trigger {
            let body = "INSERT INTO shop.items VALUES (NEW.id + 400, 'by a trigger')";
            run(
                &mut conn,
                &[&format!("CREATE TRIGGER elsewhere.t BEFORE INSERT ON elsewhere.plain FOR EACH ROW {body}")],
            )
            .await;
        }
        let mut reader = set_up(node, tables).await;
        let mut session = root(server).await;
        run(&mut session, &["USE shop", &format!("SET SESSION binlog_format = '{format}'"), statement]).await;
        let met = obstacle(&mut reader).await;
        assert_eq!(met.error.code(), Code::EventUnsupported, "{statement}: {}", met.error);
        assert!(met.error.message().contains(named), "{statement}: {}", met.error);
        assert!(met.error.remedy().unwrap().contains("binlog_format = ROW"), "{:?}", met.error);
        if trigger {
            run(&mut conn, &["DROP TRIGGER elsewhere.t"]).await;
        }
    }
    // Other databases' statements pass, and what MIXED logs as rows.
    let mut reader = set_up(node, tables).await;
    let mut session = root(server).await;
    let mut passing = vec![
        "SET SESSION binlog_format = 'MIXED'",
        "USE elsewhere",
        "INSERT INTO items VALUES (70)",
        "UPDATE elsewhere.items SET id = 71 WHERE id = 70",
        "BEGIN",
        "DELETE FROM items",
        "COMMIT",
    ];
    if mysql {
        passing.extend(["USE shop", "INSERT INTO elsewhere.items VALUES (8)", "DELETE FROM elsewhere.items"]);
    }
    passing.push("UPDATE shop.items SET note = UUID() WHERE id = 5");
    run(&mut session, &passing).await;
    let seen = transaction(&mut reader).await;
    assert_eq!((seen.changes.len(), seen.changes[0].after().unwrap().0[0].clone()), (1, int(5)));
}

/// A byte of the file that is not what the server wrote.
async fn damage_is_seen(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let compress = match server.kind() {
        Kind::Mysql => "SET SESSION binlog_transaction_compression = ON",
        _ => "SET GLOBAL log_bin_compress = ON, log_bin_compress_min_len = 10",
    };
    for setting in ["DO 1", compress] {
        let mut conn = root(server).await;
        run(&mut conn, &[setting, "FLUSH BINARY LOGS", "DELETE FROM shop.items"]).await;
        let mut reader = set_up(node, tables).await;
        let here = node.log_status(None).await.unwrap().end;
        let before = Checkpoint { position: here.clone(), log: node.identity().await.unwrap() };
        run(&mut conn, &[&insert(500)]).await;
        let whole = transaction(&mut reader).await.position.unwrap();
        run(&mut conn, &["INSERT INTO shop.items VALUES (501, REPEAT('a damaged value ', 10))", &insert(502)]).await;
        let end = transaction(&mut reader).await.position.unwrap();
        reads(&mut reader, 502..503).await;
        drop(reader);
        let path = server.data().join(here.binlog_file().unwrap());
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (from, length) = (offset(&whole), end.bytes_since(&whole).unwrap());
        // Within the last event, and in the rows or the payload: what stands before them, MariaDB need not send.
        for place in [length - 2, length - 9, length - 40, length - 55] {
            let mut byte = [0];
            file.seek(SeekFrom::Start(from + place)).unwrap();
            file.read_exact(&mut byte).unwrap();
            let flip = |file: &mut std::fs::File, byte: u8| {
                file.seek(SeekFrom::Start(from + place)).unwrap();
                file.write_all(&[byte]).unwrap();
            };
            flip(&mut file, byte[0] ^ 0x20);
            let mut reader = node.open_reader(&before, tables, &PassedOver::default()).await.unwrap();
            reads(&mut reader, 500..501).await;
            let error = loop {
                match tokio::time::timeout(DEADLINE, reader.next()).await.unwrap() {
                    Ok(LogEvent::Progress(_)) => {}
                    Ok(event) => panic!("{setting} {place}: {event:?}"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.code(), Code::LogDamaged, "{setting} {place}: {error}");
            assert!(error.message().contains(&here.binlog_file().unwrap()), "{error}");
            flip(&mut file, byte[0]);
        }
        let mut reader = node.open_reader(&before, tables, &PassedOver::default()).await.unwrap();
        reads(&mut reader, 500..503).await;
    }
    run(&mut root(server).await, &["DO 1"]).await;
}

fn offset(position: &pontoon_core::Position) -> u64 {
    let pontoon_core::Position::Binlog { offset, .. } = position else { panic!() };
    *offset
}

/// A log that is taken away under its reader: what is written afterwards is not read, and the reader says so.
async fn a_reset_ends_the_reader(server: &Server, node: &Arc<MysqlNode>, tables: &Tables) {
    let reset = match server.kind() {
        Kind::Mysql => "RESET BINARY LOGS AND GTIDS",
        _ => "RESET MASTER",
    };
    let mut conn = root(server).await;
    // In a later file, and in the first, whose name the log after it has as well.
    for (before, rows) in [("FLUSH BINARY LOGS", 1), (reset, 1), (reset, 40)] {
        run(&mut conn, &[before]).await;
        let mut reader = set_up(node, tables).await;
        run(&mut conn, &["DELETE FROM shop.items", &insert(600), &insert(601)]).await;
        let here = loop {
            let seen = transaction(&mut reader).await;
            if seen.changes[0].after().is_some_and(|row| row.0[0] == int(601)) {
                break Checkpoint { position: seen.position.unwrap(), log: node.identity().await.unwrap() };
            }
        };
        // Files of one name are told apart by the second in which they were begun.
        run(&mut conn, &["DO SLEEP(1.1)", reset]).await;
        for id in 0..rows {
            run(&mut conn, &[&insert(602 + id)]).await;
        }
        let began = std::time::Instant::now();
        let error = loop {
            assert!(began.elapsed() < DEADLINE, "the reader reads on, in a log that is gone");
            match tokio::time::timeout(DEADLINE, reader.next()).await.unwrap() {
                Ok(LogEvent::Progress(_)) => {}
                Ok(event) => panic!("{event:?}"),
                Err(error) => break error,
            }
        };
        eprintln!("{}: {error} after {:?}", server.kind(), began.elapsed());
        let error = match node.open_reader(&here, tables, &PassedOver::default()).await {
            Ok(mut reader) => reader.next().await.expect_err("it reads on in another log"),
            Err(error) => error,
        };
        assert!(matches!(error.code(), Code::LogLost | Code::LogBehind | Code::LogIdentityChanged), "{error}");
    }
}
