//! The log as a reader yields it, on real servers.

use pontoon_core::{
    Checkpoint, Code, LogEvent, Operation, Origin, Position, Row, TableName, Tag,
    node::{Admin, Applier, LeaseAttempt, Mark, Node, PassedOver, Tables},
};
use pontoon_servers::{Kind, Server};

use crate::support::{
    int, map, next, node, obstacle, plan, read_to, root, run, set_up, start_with, text, transaction, without_rules,
};

#[tokio::test]
async fn mariadb() {
    all(Kind::Mariadb, &[]).await;
}

#[tokio::test]
async fn mysql() {
    all(Kind::Mysql, &[]).await;
}

/// In another form throughout: every event compressed, no checksums, identifiers of another domain.
#[tokio::test]
async fn mariadb_compressed() {
    let settings = [
        ("log_bin_compress", "ON"),
        ("log_bin_compress_min_len", "10"),
        ("binlog_checksum", "NONE"),
        ("gtid_domain_id", "7"),
        ("gtid_strict_mode", "ON"),
    ];
    all(Kind::Mariadb, &settings).await;
}

/// In another form throughout: every transaction compressed, no checksums, no identifiers.
#[tokio::test]
async fn mysql_compressed() {
    let settings = [
        ("binlog_transaction_compression", "ON"),
        ("binlog_checksum", "NONE"),
        ("gtid_mode", "OFF"),
        ("enforce_gtid_consistency", "OFF"),
    ];
    all(Kind::Mysql, &settings).await;
}

async fn all(kind: Kind, settings: &[(&str, &str)]) {
    let server = start_with(kind, settings).await;
    let steps = std::time::Instant::now();
    let say = |what: &str| eprintln!("{kind} {what}: {:?}", steps.elapsed());
    changes_are_whole(&server).await;
    say("changes");
    bridges_are_told_apart(&server).await;
    say("bridges");
    fences_are_passed_at_once(&server).await;
    say("fences");
    places_are_found_or_refused(&server).await;
    say("places");
    obstacles_stop_before_their_transaction(&server).await;
    say("obstacles");
    definitions_are_watched(&server).await;
    say("definitions");
    large_transactions_come_in_pieces(&server).await;
    say("large");
    if kind == Kind::Mysql && settings.is_empty() {
        tagged_identifiers_are_read(&server).await;
    }
    another_log_of_the_same_server_is_noticed(server).await;
}

const HOSTILE: &str = "we`ird \"t'a.b\\le\" ßé SELECT";

async fn items(server: &Server, database: &str) -> (std::sync::Arc<pontoon_mysql::MysqlNode>, Tables) {
    let mut root = root(server).await;
    let quoted = HOSTILE.replace('`', "``");
    run(
        &mut root,
        &[
            &format!("CREATE DATABASE `{database}`"),
            &format!("CREATE TABLE `{database}`.`{quoted}` (`i``d` int PRIMARY KEY, `Näme` varchar(60) CHARACTER SET latin1, twice int AS (`i``d` * 2) VIRTUAL, thrice int AS (`i``d` * 3) STORED, note text CHARACTER SET utf8mb4, hidden int INVISIBLE)"),
            &format!("CREATE TABLE `{database}`.other (id int PRIMARY KEY)"),
        ],
    )
    .await;
    let node = node(server, &database.replace('.', "-"), database);
    let tables = map(&node, &[TableName { schema: None, name: HOSTILE.into() }]).await;
    (node, tables)
}

fn quoted(database: &str) -> String {
    format!("`{database}`.`{}`", HOSTILE.replace('`', "``"))
}

fn row(id: i128, name: &str) -> Row {
    Row(vec![int(id), text(name), pontoon_core::Value::Null, pontoon_core::Value::Null])
}

async fn changes_are_whole(server: &Server) {
    let (node, tables) = items(server, "log.one").await;
    let table = quoted("log.one");
    let mut reader = set_up(&node, &tables).await;
    let mut root = root(server).await;
    run(
        &mut root,
        &[
            "BEGIN",
            &format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES (1, 'é€'), (2, 'b')"),
            "INSERT INTO `log.one`.other VALUES (1)",
            &format!("UPDATE {table} SET `Näme` = 'c' WHERE `i``d` = 1"),
            &format!("UPDATE {table} SET `i``d` = 3 WHERE `i``d` = 2"),
            &format!("DELETE FROM {table} WHERE `i``d` = 3"),
            "COMMIT",
            "INSERT INTO `log.one`.other VALUES (2)",
            &format!("DELETE FROM {table}"),
        ],
    )
    .await;
    let first = transaction(&mut reader).await;
    assert_eq!(first.origin, Origin::Local);
    let operations: Vec<Operation> = first.changes.into_iter().map(|change| change.operation).collect();
    assert_eq!(
        operations,
        [
            Operation::Insert { after: row(1, "é€") },
            Operation::Insert { after: row(2, "b") },
            Operation::Update { before: row(1, "é€"), after: row(1, "c"), unchanged: vec![] },
            Operation::Update { before: row(2, "b"), after: row(3, "b"), unchanged: vec![] },
            Operation::Delete { before: row(3, "b") },
        ]
    );
    let now = node.log_status(None).await.unwrap().clock;
    assert!((now - first.commit_time).abs() < 30_000_000, "{} {now}", first.commit_time);
    let second = transaction(&mut reader).await;
    assert_eq!(second.changes.len(), 1);
    assert!(second.position.clone().unwrap().covers(&first.position.clone().unwrap()));

    // From a transaction's position the next one follows, and nothing twice.
    let here = Checkpoint { position: first.position.unwrap(), log: node.identity().await.unwrap() };
    let mut again = node.open_reader(&here, &tables, &PassedOver::default()).await.unwrap();
    assert_eq!(transaction(&mut again).await, second);
    // A tail without position begins at the end, beside the reader.
    let mut tail = node.open_tail(None, &tables, &PassedOver::default()).await.unwrap();
    run(&mut root, &[&format!("INSERT INTO {table} (`i``d`) VALUES (9)")]).await;
    let third = transaction(&mut reader).await;
    assert_eq!(transaction(&mut tail).await, third);
    assert_eq!(transaction(&mut again).await, third);
}

async fn bridges_are_told_apart(server: &Server) {
    let (one, tables) = items(server, "log.two").await;
    let tables = without_rules(&tables);
    let other = node(server, "another", "log.two");
    let mut reader = set_up(&one, &tables).await;
    let mut other_reader = set_up(&other, &tables).await;
    for bridge in [&one, &other] {
        let LeaseAttempt::Ours(mut lease) = bridge.try_lease().await.unwrap() else { panic!() };
        let token = lease.take_over("test").await.unwrap();
        let mut session = bridge.open_session(Applier::Direction, token, &tables).await.unwrap();
        let id = if bridge.name() == one.name() && std::sync::Arc::ptr_eq(bridge, &one) { 1 } else { 2 };
        session.begin(Some(&Tag { position: Some(Position::Lsn(77)), commit_time: 1_234_567 })).await.unwrap();
        let batch = pontoon_core::node::TableBatch { inserts: vec![row(id, "x")], ..Default::default() };
        assert_eq!(session.apply(tables[0].id, &batch).await.unwrap(), pontoon_core::node::Applied::All);
        session.commit().await.unwrap();
        // A tag alone is no transaction of interest.
        session.begin(Some(&Tag { position: None, commit_time: 5 })).await.unwrap();
        session.commit().await.unwrap();
    }
    for (reader, own, name) in [(&mut reader, 1, "another"), (&mut other_reader, 2, "log-two")] {
        for id in [1, 2] {
            let seen = transaction(reader).await;
            assert_eq!(seen.changes.len(), 1);
            // Of its own the key is enough.
            let key = Row(vec![
                int(id),
                pontoon_core::Value::Unchanged,
                pontoon_core::Value::Unchanged,
                pontoon_core::Value::Unchanged,
            ]);
            assert_eq!(seen.changes[0].after(), Some(&if id == own { key } else { row(id, "x") }));
            assert_eq!(seen.commit_time, 1_234_567);
            assert_eq!(seen.origin, if id == own { Origin::Own } else { Origin::Bridge(name.into()) });
        }
    }
    // The checkpoint moved with the first and stayed with the second transaction.
    assert_eq!(one.state(&tables).await.unwrap().checkpoint.unwrap().position, Position::Lsn(77));
    assert!(one.state(&tables).await.unwrap().other_bridges.contains(&"another".to_owned()));
}

/// How long a reader may take to a fence: less than the heartbeat.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(700);

async fn fences_are_passed_at_once(server: &Server) {
    let (node, tables) = items(server, "log.three").await;
    let table = quoted("log.three");
    let mut reader = set_up(&node, &tables).await;
    let mut root = root(server).await;
    run(&mut root, &[&format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES (1, '0')")]).await;
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!() };
    let token = lease.take_over("test").await.unwrap();
    let mut session = node.open_session(Applier::Rendezvous, token, &tables).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (url, table, stopped) = (server.superuser_url(""), table.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut conn = mysql_async::Conn::from_url(url).await.unwrap();
                while !*stopped.borrow() {
                    run(&mut conn, &[&format!("UPDATE {table} SET `Näme` = `Näme` + 1 WHERE `i``d` = 1")]).await;
                }
            })
        })
        .collect();
    let key = [tables[0].key_of(&row(1, ""))];
    let mut last = None;
    let mut passed = None::<Position>;
    for _ in 0..30 {
        session.begin(None).await.unwrap();
        let locked = session.lock(tables[0].id, &key).await.unwrap().remove(0).unwrap();
        let fence = session.fence().await.unwrap();
        let read = session.read(tables[0].id, &key).await.unwrap().remove(0).unwrap();
        assert_eq!(locked, read);
        // The last write before the fence is the row that was read under the lock.
        let began = std::time::Instant::now();
        // No writer may have come in between: a place that was told of is not told of again.
        if !passed.is_some_and(|passed| passed.covers(&fence))
            && let Some(change) = read_to(&mut reader, &fence).await.last()
        {
            last = change.after().cloned();
        }
        assert!(began.elapsed() < AT_ONCE, "{:?} {fence}", began.elapsed());
        assert_eq!(last, Some(locked));
        passed = Some(fence);
        session.rollback().await.unwrap();
    }
    stop.send(true).unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = node.log_status(None).await.unwrap().end;
    read_to(&mut reader, &end).await;
    // Whatever the end of the log consists of.
    let ends = [
        "FLUSH BINARY LOGS",
        "INSERT INTO `log.three`.other VALUES (1)",
        "CREATE TABLE `log.three`.copy (PRIMARY KEY (id)) SELECT id FROM `log.three`.other",
        "CREATE USER someone",
        "DROP TABLE `log.three`.copy",
        "FLUSH BINARY LOGS",
        "FLUSH TABLES",
        "ANALYZE TABLE `log.three`.other",
    ];
    for statement in ends {
        run(&mut root, &[statement]).await;
        node.mark(Mark::Heartbeat).await.unwrap();
        let end = node.log_status(None).await.unwrap().end;
        let began = std::time::Instant::now();
        read_to(&mut reader, &end).await;
        assert!(began.elapsed() < AT_ONCE, "{statement}: {:?}", began.elapsed());
    }
    // A barrier is seen as such, and an idle log tells the time.
    node.mark(Mark::Barrier).await.unwrap();
    loop {
        if let LogEvent::Progress(progress) = next(&mut reader).await
            && progress.barrier
        {
            break;
        }
    }
    loop {
        let LogEvent::Progress(progress) = next(&mut reader).await else { panic!() };
        assert!(!progress.barrier);
        if let Some(time) = progress.time {
            assert!((time - node.log_status(None).await.unwrap().clock).abs() < 2_000_000);
            break;
        }
    }
}

async fn places_are_found_or_refused(server: &Server) {
    let (node, tables) = items(server, "log.four").await;
    let log = node.identity().await.unwrap();
    let mut root = root(server).await;
    let refused = async |position: Position, log: &pontoon_core::LogIdentity| {
        let at = Checkpoint { position, log: log.clone() };
        match node.open_reader(&at, &tables, &PassedOver::default()).await {
            Ok(_) => panic!("opened at {at:?}"),
            Err(error) => error.code(),
        }
    };
    let end = node.log_status(None).await.unwrap().end;
    let Position::Binlog { base, file, offset, beside } = end.clone() else { panic!() };
    let at = |file, offset| Position::Binlog { base: base.clone(), file, offset, beside };
    assert_eq!(refused(at(file, offset + 1), &log).await, Code::LogBehind);
    assert_eq!(refused(at(file + 1, 4), &log).await, Code::LogBehind);
    assert_eq!(refused(end.clone(), &pontoon_core::LogIdentity("mysql:x".into())).await, Code::LogIdentityChanged);
    run(&mut root, &["FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
    assert_eq!(refused(at(file, offset + 100_000), &log).await, Code::LogBehind);
    let status = node.log_status(Some(&end)).await.unwrap();
    assert!(status.behind_bytes.unwrap() > 0 && status.retained_bytes > status.behind_bytes);
    let newest = status.end.binlog_file().unwrap();
    // The server keeps a file that a reader still reads.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        run(&mut root, &[&format!("PURGE BINARY LOGS TO '{newest}'")]).await;
        let at = Checkpoint { position: end.clone(), log: log.clone() };
        match node.open_reader(&at, &tables, &PassedOver::default()).await {
            Err(error) => return assert_eq!(error.code(), Code::LogLost),
            Ok(_) => assert!(std::time::Instant::now() < deadline, "the file is still there"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The log after the place is another one although the server is the same and has the place: it was reset and has
/// grown again, or the server goes on from an older copy of its files.
async fn another_log_of_the_same_server_is_noticed(mut server: Server) {
    let (node, tables) = items(&server, "log.nine").await;
    let log = node.identity().await.unwrap();
    let mut conn = root(&server).await;
    let reset = match server.kind() {
        Kind::Mysql => "RESET BINARY LOGS AND GTIDS",
        _ => "RESET MASTER",
    };
    run(&mut conn, &[reset]).await;
    let here = node.setup(&plan(&tables)).await.unwrap();
    assert!(here.position.durable().contains('@'), "{here:?}");
    let after_a_row = async |id: u32| {
        let at = Checkpoint { position: here.position.clone(), log: log.clone() };
        let mut reader = node.open_reader(&at, &tables, &PassedOver::default()).await.unwrap();
        run(&mut root(&server).await, &[&format!("INSERT INTO {} (`i``d`) VALUES ({id})", quoted("log.nine"))]).await;
        let position = transaction(&mut reader).await.position.unwrap();
        // As it is kept, and read back.
        Checkpoint { position: position.durable().parse().unwrap(), log: log.clone() }
    };
    let read = after_a_row(1).await;
    node.open_reader(&read, &tables, &PassedOver::default()).await.unwrap().next().await.unwrap();
    second_passes(&mut conn).await;
    run(&mut conn, &[reset]).await;
    grow(&mut conn, &node, &read.position).await;
    refused_at(&node, &tables, &here).await;
    refused_at(&node, &tables, &read).await;

    // A restored copy: it begins a file of its own when it starts, of the name that the lost one had.
    drop(conn);
    server.stop().await.unwrap();
    let copy = server.folder().join("copy");
    let status = std::process::Command::new("cp").arg("-a").arg(server.data()).arg(&copy).status().unwrap();
    assert!(status.success());
    server.restart().await.unwrap();
    let here = Checkpoint { position: node.log_status(None).await.unwrap().end, log: log.clone() };
    let mut reader = node.open_reader(&here, &tables, &PassedOver::default()).await.unwrap();
    let mut conn = root(&server).await;
    run(&mut conn, &[&format!("INSERT INTO {} (`i``d`) VALUES (2)", quoted("log.nine"))]).await;
    let lost = transaction(&mut reader).await.position.unwrap();
    second_passes(&mut conn).await;
    drop((conn, reader));
    server.stop().await.unwrap();
    std::fs::remove_dir_all(server.data()).unwrap();
    std::fs::rename(&copy, server.data()).unwrap();
    server.restart().await.unwrap();
    grow(&mut root(&server).await, &node, &lost).await;
    refused_at(&node, &tables, &Checkpoint { position: lost, log }).await;
}

/// Files are told apart by the second in which they were begun.
async fn second_passes(conn: &mut mysql_async::Conn) {
    run(conn, &["DO SLEEP(1.1)"]).await;
}

/// Writes until the log has the place again.
async fn grow(conn: &mut mysql_async::Conn, node: &pontoon_mysql::MysqlNode, to: &Position) {
    while !node.log_status(None).await.unwrap().end.covers(to) {
        run(
            conn,
            &["CREATE TABLE IF NOT EXISTS `log.nine`.filler (a int)", "INSERT INTO `log.nine`.filler VALUES (1)"],
        )
        .await;
    }
}

async fn refused_at(node: &pontoon_mysql::MysqlNode, tables: &Tables, at: &Checkpoint) {
    let refused = match node.open_reader(at, tables, &PassedOver::default()).await {
        Ok(mut reader) => reader.next().await.expect_err("it reads on in another log"),
        Err(refused) => refused,
    };
    assert_eq!(refused.code(), Code::LogIdentityChanged, "{refused}");
    assert!(refused.message().contains("was begun at"), "{refused}");
}

async fn obstacles_stop_before_their_transaction(server: &Server) {
    let (node, tables) = items(server, "log.five").await;
    let table = quoted("log.five");
    let here = node.setup(&plan(&tables)).await.unwrap();
    let mut conn = root(server).await;
    let mut from = here;
    let insert = |id: u32| format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES ({id}, 'a')");
    let cases = [
        ("SET SESSION binlog_row_image = MINIMAL", "SET SESSION binlog_row_image = DEFAULT", Code::RowImagePartial),
        ("SET GLOBAL binlog_row_metadata = MINIMAL", "SET GLOBAL binlog_row_metadata = FULL", Code::SettingWrong),
        ("SET SESSION binlog_format = STATEMENT", "SET SESSION binlog_format = ROW", Code::EventUnsupported),
    ];
    for (index, (before, after, code)) in cases.into_iter().enumerate() {
        let id = index as u32 * 10;
        let mut reader = node.open_reader(&from, &tables, &PassedOver::default()).await.unwrap();
        run(&mut conn, &[&insert(id)]).await;
        assert_eq!(transaction(&mut reader).await.changes.len(), 1);
        run(&mut conn, &[before]).await;
        let update = format!("UPDATE {table} SET `Näme` = REPEAT('b', 50) WHERE `i``d` = {id}");
        run(&mut conn, &[&update]).await;
        let behind = node.log_status(None).await.unwrap().end;
        run(&mut conn, &[after, &insert(id + 1)]).await;
        let met = obstacle(&mut reader).await;
        assert_eq!(met.error.code(), code, "{before}: {}", met.error);
        assert!(met.error.remedy().is_some());
        // Where the table counts from behind it, it is nothing.
        if met.error.table().is_some() {
            let passed = PassedOver { since: vec![(tables[0].id, behind)], ..PassedOver::default() };
            let mut reader = node.open_reader(&from, &tables, &passed).await.unwrap();
            for inserted in [id, id + 1] {
                assert_eq!(transaction(&mut reader).await.changes[0].after(), Some(&row(inserted.into(), "a")));
            }
        }
        // Passed over, what follows it comes.
        let mut reader = node.open_reader(&from, &tables, &PassedOver::skips(&[met.position])).await.unwrap();
        assert_eq!(transaction(&mut reader).await.changes[0].after(), Some(&row(id.into(), "a")));
        let next = transaction(&mut reader).await;
        assert_eq!(next.changes[0].after(), Some(&row((id + 1).into(), "a")), "{before}");
        from.position = next.position.unwrap();
    }
    // What does not concern the bridge does not stop it.
    let mut reader = node.open_reader(&from, &tables, &PassedOver::default()).await.unwrap();
    run(
        &mut conn,
        &[
            "SET SESSION binlog_row_image = MINIMAL",
            "INSERT INTO `log.five`.other VALUES (1)",
            "UPDATE `log.five`.other SET id = 2",
            "SET SESSION binlog_row_image = DEFAULT",
            "XA START 'b'",
            "DELETE FROM `log.five`.other",
            "XA END 'b'",
            "XA PREPARE 'b'",
            "XA ROLLBACK 'b'",
            &insert(90),
        ],
    )
    .await;
    assert_eq!(transaction(&mut reader).await.changes[0].after(), Some(&row(90, "a")));
}

async fn definitions_are_watched(server: &Server) {
    let (node, tables) = items(server, "log.six").await;
    let table = quoted("log.six");
    let mut from = node.setup(&plan(&tables)).await.unwrap();
    let mut conn = root(server).await;
    let mut reader = node.open_reader(&from, &tables, &PassedOver::default()).await.unwrap();
    // A change that leaves the rows as they are passes.
    run(
        &mut conn,
        &[
            &format!("CREATE INDEX some ON {table} (`Näme`)"),
            &format!("ALTER TABLE {table} COMMENT 'x'"),
            "TRUNCATE `log.six`.other",
            "ALTER TABLE `log.six`.other ADD more int",
            &format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES (1, 'a')"),
            &format!("ALTER TABLE {table} ADD more int"),
            &format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES (2, 'a')"),
        ],
    )
    .await;
    let begin = from.clone();
    from.position = transaction(&mut reader).await.position.unwrap();
    let met = obstacle(&mut reader).await;
    assert_eq!(met.error.code(), Code::SchemaChanged, "{}", met.error);
    assert!(met.position.covers(&from.position));
    let refused = node.open_reader(&from, &tables, &PassedOver::default()).await.err().unwrap();
    assert_eq!(refused.code(), Code::SchemaChanged, "a column that nobody has mapped");
    // With the definition loaded anew it passes; what the row of before holds in the new column, the row itself is asked.
    let tables = map(&node, &[tables[0].name.clone()]).await;
    let mut reader = node.open_reader(&begin, &tables, &PassedOver::default()).await.unwrap();
    let first = transaction(&mut reader).await;
    assert!(first.changes[0].reshaped);
    assert_eq!(first.changes[0].after().unwrap().0.len(), 5);
    let second = transaction(&mut reader).await;
    assert!(!second.changes[0].reshaped);
    assert_eq!(second.changes[0].after().unwrap().0.len(), 5);
    from.position = second.position.unwrap();
    for statement in [format!("TRUNCATE TABLE {table}"), format!("/* from a tool */ truncate {table}")] {
        run(&mut conn, &[&statement, &format!("INSERT INTO {table} (`i``d`) VALUES (7)")]).await;
        let met = obstacle(&mut reader).await;
        assert_eq!(met.error.code(), Code::TruncateSeen, "{}", met.error);
        reader = node.open_reader(&from, &tables, &PassedOver::skips(&[met.position])).await.unwrap();
        from.position = transaction(&mut reader).await.position.unwrap();
    }
    run(&mut conn, &[&format!("DROP TABLE {table}")]).await;
    assert_eq!(obstacle(&mut reader).await.error.code(), Code::TruncateSeen);
}

/// MySQL 8.3 and later: a GTID may have a tag, and is another event then.
async fn tagged_identifiers_are_read(server: &Server) {
    let (node, tables) = items(server, "log.eight").await;
    let table = quoted("log.eight");
    let mut reader = set_up(&node, &tables).await;
    let mut conn = root(server).await;
    run(
        &mut conn,
        &["SET gtid_next = 'AUTOMATIC:some_tag'", &format!("INSERT INTO {table} (`i``d`, `Näme`) VALUES (1, 'a')")],
    )
    .await;
    let seen = transaction(&mut reader).await;
    assert!(seen.transaction.contains(":some_tag:"), "{}", seen.transaction);
    assert_eq!(seen.changes[0].after(), Some(&row(1, "a")));
    let now = node.log_status(None).await.unwrap().clock;
    assert!((now - seen.commit_time).abs() < 30_000_000);
}

async fn large_transactions_come_in_pieces(server: &Server) {
    let (node, tables) = items(server, "log.seven").await;
    let table = quoted("log.seven");
    let mut reader = set_up(&node, &tables).await;
    let mut conn = root(server).await;
    run(
        &mut conn,
        &[
            "SET SESSION cte_max_recursion_depth = 100000".replace("cte_max_recursion_depth", if server.kind() == Kind::Mysql { "cte_max_recursion_depth" } else { "max_recursive_iterations" }).as_str(),
            &format!(
                "INSERT INTO {table} (`i``d`, note) WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 20000) SELECT n, REPEAT('x', 100) FROM s"
            ),
        ],
    )
    .await;
    let mut pieces = 0;
    let mut rows = 0;
    loop {
        match next(&mut reader).await {
            LogEvent::Fragment(fragment) => {
                assert_eq!(fragment.first, pieces == 0);
                let bytes: usize = fragment.changes.iter().map(pontoon_core::Change::memory_bytes).sum();
                assert!(bytes < 2 * pontoon_core::change::FRAGMENT_BYTES, "{bytes}");
                pieces += 1;
                rows += fragment.changes.len();
                if fragment.position.is_some() {
                    break;
                }
            }
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
        }
    }
    assert_eq!(rows, 20_000);
    assert!(pieces > 20, "{pieces}");
}
