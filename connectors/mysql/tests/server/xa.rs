//! Transactions in two phases, on real servers: read as the log has them, with restarts of the reader at every
//! place between the phases.

use std::{collections::HashMap, sync::Arc, time::Instant};

use pontoon_core::{
    Change, Checkpoint, Code, Fragment, Held, LogEvent, Origin, Position, TableName, Value,
    change::Obstacle,
    node::{Admin, LogReader, Node, PassedOver, Severity, Tables},
};
use pontoon_mysql::MysqlNode;
use pontoon_servers::{Kind, Server};

use crate::support::{DEADLINE, map, next, node, plan, root, run, set_up, start_with};

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
async fn mysql_compressed() {
    all(Kind::Mysql, &[("binlog_transaction_compression", "ON")]).await;
}

async fn all(kind: Kind, settings: &[(&str, &str)]) {
    let mut server = start_with(kind, settings).await;
    let mut conn = root(&server).await;
    run(
        &mut conn,
        &[
            "CREATE DATABASE shop",
            "CREATE TABLE shop.items (id int PRIMARY KEY, note longtext)",
            "CREATE TABLE shop.unmapped (id int PRIMARY KEY)",
        ],
    )
    .await;
    drop(conn);
    let node = node(&server, "xa", "shop");
    let tables = map(&node, &[TableName { schema: None, name: "items".into() }]).await;
    let it = Two { node, tables };
    it.rows_wait_for_their_decision(&server).await;
    it.every_restart_comes_to_the_same(&server).await;
    it.obstacles_wait_too(&server).await;
    it.origins_are_told(&server).await;
    it.large_ones_come_in_pieces(&server).await;
    it.setup_sees_what_is_prepared(&server).await;
    it.what_is_purged_is_missed(&server).await;
    it.a_server_may_restart_in_between(&mut server).await;
}

/// What an event comes to, for comparison: a transaction with the keys that it inserts.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    ids: Vec<i128>,
    position: Position,
    origin: Origin,
    commit_time: i64,
}

/// A reader, and the pieces that it has yielded.
struct Log {
    reader: Box<dyn LogReader>,
    pieces: HashMap<Arc<str>, Vec<Change>>,
}

impl Log {
    fn new(reader: Box<dyn LogReader>) -> Log {
        Log { reader, pieces: HashMap::new() }
    }

    /// The next whole transaction; an obstacle as an error.
    async fn next(&mut self) -> Result<Seen, Obstacle> {
        let began = Instant::now();
        let mut changes = Vec::new();
        loop {
            assert!(began.elapsed() < DEADLINE, "nothing in time");
            match next(&mut self.reader).await {
                LogEvent::Fragment(fragment) => {
                    changes.extend(fragment.changes.iter().cloned());
                    if fragment.position.is_some() {
                        return Ok(seen(&fragment, &changes));
                    }
                }
                LogEvent::Held(Held::Piece { id, part, changes }) => {
                    assert_eq!(part, 0);
                    self.pieces.entry(id).or_default().extend(changes);
                }
                LogEvent::Held(Held::Undone { id, part }) => {
                    assert_eq!(part, None);
                    assert!(self.pieces.remove(&id).is_some(), "{id} has no pieces");
                }
                LogEvent::Held(Held::Decided { id, fragment }) => {
                    assert!(fragment.first && fragment.changes.is_empty());
                    return Ok(seen(&fragment, &self.pieces.remove(&id).expect("pieces")));
                }
                LogEvent::Progress(_) => {}
                LogEvent::Obstacle(obstacle) => return Err(obstacle),
            }
        }
    }

    /// Reads on until the log is idle.
    async fn idle(&mut self) {
        loop {
            match next(&mut self.reader).await {
                LogEvent::Progress(progress) if progress.time.is_some() && !progress.barrier => return,
                LogEvent::Held(Held::Piece { id, changes, .. }) => self.pieces.entry(id).or_default().extend(changes),
                LogEvent::Held(Held::Undone { id, .. }) => {
                    self.pieces.remove(&id).unwrap();
                }
                LogEvent::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn seen(fragment: &Fragment, changes: &[Change]) -> Seen {
    let id = |change: &Change| match change.after().or(change.before()).unwrap().0[0] {
        Value::Integer(id) => id,
        ref other => panic!("{other:?}"),
    };
    Seen {
        ids: changes.iter().map(id).collect(),
        position: fragment.position.clone().unwrap(),
        origin: fragment.origin.clone(),
        commit_time: fragment.commit_time,
    }
}

/// Prepares, in a session of its own, the insertion of rows.
async fn prepare(server: &Server, xid: &str, ids: &[i128]) {
    let mut conn = root(server).await;
    run(&mut conn, &[&format!("XA START {xid}")]).await;
    for id in ids {
        run(&mut conn, &[&format!("INSERT INTO shop.items VALUES ({id}, 'in two phases')")]).await;
    }
    run(&mut conn, &[&format!("XA END {xid}"), &format!("XA PREPARE {xid}")]).await;
}

async fn decide(server: &Server, word: &str, xid: &str) {
    let mut conn = root(server).await;
    // A prepared transaction is free for others only when its session has ended.
    let began = Instant::now();
    use mysql_async::prelude::Queryable;
    while let Err(error) = conn.query_drop(format!("XA {word} {xid}")).await {
        assert!(began.elapsed() < DEADLINE, "{error}");
    }
}

async fn insert(server: &Server, id: i128) {
    run(&mut root(server).await, &[&format!("INSERT INTO shop.items VALUES ({id}, 'at once')")]).await;
}

struct Two {
    node: Arc<MysqlNode>,
    tables: Tables,
}

impl Two {
    async fn log(&self) -> Log {
        Log::new(set_up(&self.node, &self.tables).await)
    }

    /// Opened where a position was kept.
    async fn open(&self, position: &Position) -> Result<Log, pontoon_core::Error> {
        let position = position.durable().parse().unwrap();
        let at = Checkpoint { position, log: self.node.identity().await.unwrap() };
        Ok(Log::new(self.node.open_reader(&at, &self.tables, &PassedOver::default()).await?))
    }

    async fn rows_wait_for_their_decision(&self, server: &Server) {
        let mut log = self.log().await;
        insert(server, 1).await;
        prepare(server, "'a', 'branch', 5", &[2, 3]).await;
        prepare(server, "'b'", &[4]).await;
        insert(server, 5).await;
        let before = log.next().await.unwrap();
        assert!(!before.position.durable().contains('<'), "{}", before.position.durable());
        let between = log.next().await.unwrap();
        assert_eq!((before.ids, between.ids), (vec![1], vec![5]));
        assert!(between.position.durable().contains('<'), "{}", between.position.durable());
        assert_eq!(between.position.since(), before.position, "from the end of the one before");
        assert_eq!(log.pieces.len(), 2);

        decide(server, "ROLLBACK", "'b'").await;
        insert(server, 6).await;
        let after = log.next().await.unwrap();
        assert_eq!((after.ids, log.pieces.len()), (vec![6], 1));
        let now = self.node.log_status(None).await.unwrap().clock;
        decide(server, "COMMIT", "'a', 'branch', 5").await;
        let decided = log.next().await.unwrap();
        assert_eq!((decided.ids, decided.origin), (vec![2, 3], Origin::Local));
        assert_eq!(decided.position, self.node.log_status(None).await.unwrap().end);
        assert!(!decided.position.durable().contains('<'), "{}", decided.position.durable());
        // MariaDB's log has whole seconds.
        assert!(decided.commit_time >= now - 1_000_000, "{} {now}", decided.commit_time);

        // In one phase; with nothing mapped in it; and with nothing of it logged.
        let mut conn = root(server).await;
        run(
            &mut conn,
            &[
                "XA START 'c'",
                "INSERT INTO shop.items VALUES (7, 'one phase')",
                "XA END 'c'",
                "XA COMMIT 'c' ONE PHASE",
                "XA START 'd'",
                "INSERT INTO shop.items VALUES (8, 'undone at once')",
                "XA END 'd'",
                "XA ROLLBACK 'd'",
                "XA START 'e'",
                "INSERT INTO shop.unmapped VALUES (1)",
                "XA END 'e'",
                "XA PREPARE 'e'",
            ],
        )
        .await;
        drop(conn);
        insert(server, 9).await;
        assert_eq!(log.next().await.unwrap().ids, [7]);
        let last = log.next().await.unwrap();
        assert_eq!(last.ids, [9]);
        assert!(!last.position.durable().contains('<'), "what is not mapped is not waited for");
        decide(server, "COMMIT", "'e'").await;
        log.idle().await;
        assert!(log.pieces.is_empty());
    }

    /// Of a log with transactions in two phases in all orders, a reader opened at any position yields what follows it.
    async fn every_restart_comes_to_the_same(&self, server: &Server) {
        let mut log = self.log().await;
        let start = self.node.log_status(None).await.unwrap().end;
        run(&mut root(server).await, &["DELETE FROM shop.items"]).await;
        prepare(server, "'a'", &[10]).await;
        insert(server, 11).await;
        prepare(server, "'b'", &[12]).await;
        prepare(server, "'c'", &[13]).await;
        insert(server, 14).await;
        run(&mut root(server).await, &["FLUSH BINARY LOGS"]).await;
        decide(server, "COMMIT", "'a'").await;
        insert(server, 15).await;
        prepare(server, "'a'", &[16]).await;
        decide(server, "ROLLBACK", "'b'").await;
        insert(server, 17).await;
        decide(server, "COMMIT", "'a'").await;
        insert(server, 18).await;
        decide(server, "COMMIT", "'c'").await;
        insert(server, 19).await;
        let mut all = Vec::new();
        while all.last().is_none_or(|seen: &Seen| seen.ids != [19]) {
            all.push(log.next().await.unwrap());
        }
        let ids: Vec<i128> = all[1..].iter().flat_map(|seen| seen.ids.clone()).collect();
        assert_eq!(ids, [11, 14, 10, 15, 17, 16, 18, 13, 19]);
        assert!(log.pieces.is_empty());
        assert!(all[0].position.covers(&start));
        for (at, seen) in all.iter().enumerate() {
            let mut again = self.open(&seen.position).await.unwrap();
            for expected in &all[at + 1..] {
                assert_eq!(again.next().await.unwrap(), *expected, "from {}", seen.position.durable());
            }
            again.idle().await;
            assert!(again.pieces.is_empty(), "from {}: {:?}", seen.position.durable(), again.pieces);
        }
    }

    async fn obstacles_wait_too(&self, server: &Server) {
        for word in ["ROLLBACK", "COMMIT"] {
            let mut log = self.log().await;
            let start = self.node.log_status(None).await.unwrap().end;
            let mut conn = root(server).await;
            run(
                &mut conn,
                &[
                    "DELETE FROM shop.items",
                    "INSERT INTO shop.items VALUES (20, 'there')",
                    "SET SESSION binlog_row_image = MINIMAL",
                    "XA START 'x'",
                    "INSERT INTO shop.items VALUES (21, 'whole')",
                    "UPDATE shop.items SET note = 'in part' WHERE id = 20",
                    "XA END 'x'",
                    "XA PREPARE 'x'",
                ],
            )
            .await;
            drop(conn);
            insert(server, 22).await;
            while log.next().await.unwrap().ids != [22] {}
            decide(server, word, "'x'").await;
            insert(server, 23).await;
            if word == "ROLLBACK" {
                assert_eq!(log.next().await.unwrap().ids, [23]);
                assert!(log.pieces.is_empty());
                continue;
            }
            let met = log.next().await.unwrap_err();
            assert_eq!(met.error.code(), Code::RowImagePartial, "{}", met.error);
            // Passed over by the name that it was given, which is its decision's.
            let at = Checkpoint { position: start, log: self.node.identity().await.unwrap() };
            let reader = self
                .node
                .open_reader(&at, &self.tables, &PassedOver::skips(std::slice::from_ref(&met.position)))
                .await
                .unwrap();
            let mut log = Log::new(reader);
            while log.next().await.unwrap().ids != [23] {}
            assert!(log.pieces.is_empty());
        }
    }

    /// Who made it is told by the first row, as ever; and when, by a tag.
    async fn origins_are_told(&self, server: &Server) {
        let mut log = self.log().await;
        let mut conn = root(server).await;
        for bridge in ["xa", "another"] {
            run(
                &mut conn,
                &[
                    &format!("REPLACE INTO pontoon.checkpoint (bridge, applier, source, commit_time) VALUES ('{bridge}', 7, 'shop', 1)"),
                    "XA START 'tagged'",
                    &format!("UPDATE pontoon.checkpoint SET commit_time = 1234567 WHERE bridge = '{bridge}' AND applier = 7"),
                    &format!("INSERT INTO shop.items VALUES ({}, 'tagged')", 30 + bridge.len()),
                    "XA END 'tagged'",
                    "XA PREPARE 'tagged'",
                    "XA COMMIT 'tagged'",
                ],
            )
            .await;
            let seen = log.next().await.unwrap();
            let origin = if bridge == "xa" { Origin::Own } else { Origin::Bridge(bridge.into()) };
            assert_eq!((seen.origin, seen.commit_time, seen.ids.len()), (origin, 1_234_567, 1));
        }
        run(&mut conn, &["DELETE FROM pontoon.checkpoint WHERE applier = 7"]).await;
    }

    async fn large_ones_come_in_pieces(&self, server: &Server) {
        let mut log = self.log().await;
        let mut conn = root(server).await;
        run(&mut conn, &["XA START 'l'"]).await;
        for id in 100..150 {
            run(&mut conn, &[&format!("INSERT INTO shop.items VALUES ({id}, REPEAT('x', 100000))")]).await;
        }
        run(&mut conn, &["XA END 'l'", "XA PREPARE 'l'", "XA COMMIT 'l'"]).await;
        let mut pieces = 0;
        loop {
            match next(&mut log.reader).await {
                LogEvent::Held(Held::Piece { changes, .. }) => {
                    let bytes: usize = changes.iter().map(Change::memory_bytes).sum();
                    assert!(bytes < 2 * pontoon_core::change::FRAGMENT_BYTES, "{bytes}");
                    pieces += 1;
                }
                LogEvent::Held(Held::Decided { .. }) => break,
                LogEvent::Progress(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(pieces > 5, "{pieces}");
    }

    /// What was prepared before the bridge was set up and is committed after it crosses; and `check` tells of it.
    async fn setup_sees_what_is_prepared(&self, server: &Server) {
        prepare(server, "'early'", &[200]).await;
        let found = self.node.findings(&plan(&self.tables)).await.unwrap();
        let finding = found.iter().find(|finding| finding.code == "xa-undecided").unwrap();
        assert_eq!((finding.severity, finding.actual.starts_with("1 ")), (Severity::Warning, true), "{finding:?}");
        let mut log = self.log().await;
        insert(server, 201).await;
        decide(server, "COMMIT", "'early'").await;
        assert_eq!(log.next().await.unwrap().ids, [201]);
        assert_eq!(log.next().await.unwrap().ids, [200]);
        let found = self.node.findings(&plan(&self.tables)).await.unwrap();
        let finding = found.iter().find(|finding| finding.code == "xa-undecided").unwrap();
        assert_eq!(finding.severity, Severity::Ok, "{finding:?}");
    }

    async fn what_is_purged_is_missed(&self, server: &Server) {
        let mut log = self.log().await;
        prepare(server, "'never'", &[210]).await;
        let mut conn = root(server).await;
        run(&mut conn, &["FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
        insert(server, 211).await;
        let here = log.next().await.unwrap().position;
        drop(log);
        self.open(&here).await.unwrap();
        let end = self.node.log_status(None).await.unwrap().end;
        // The server keeps a file that a reader still reads.
        let began = Instant::now();
        loop {
            run(&mut conn, &[&format!("PURGE BINARY LOGS TO '{}'", end.binlog_file().unwrap())]).await;
            match self.open(&here).await {
                Ok(_) => assert!(began.elapsed() < DEADLINE),
                Err(error) => {
                    assert_eq!(error.code(), Code::LogLost, "{error}");
                    assert!(
                        error.message().contains("XA") && error.remedy().unwrap().contains("XA RECOVER"),
                        "{error}"
                    );
                    break;
                }
            }
        }
        decide(server, "ROLLBACK", "'never'").await;
    }

    async fn a_server_may_restart_in_between(&self, server: &mut Server) {
        let mut log = self.log().await;
        prepare(server, "'long'", &[220, 221]).await;
        insert(server, 222).await;
        let here = log.next().await.unwrap().position;
        drop(log);
        server.stop().await.unwrap();
        server.restart().await.unwrap();
        decide(server, "COMMIT", "'long'").await;
        let mut log = self.open(&here).await.unwrap();
        assert_eq!(log.next().await.unwrap().ids, [220, 221]);
    }
}
