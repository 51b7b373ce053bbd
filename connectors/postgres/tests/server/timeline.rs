//! Servers that are promoted in the place of their primary.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Code, LogIdentity, Position,
    node::{Applier, LeaseAttempt, Mark, Node},
    state::NotedLogs,
};
use pontoon_postgres::PostgresNode;
use pontoon_servers::Server;
use tokio::time::{Instant, sleep};

use crate::support::{BRIDGE, Bench, DATABASE, PATIENCE, connect, options, other};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL";

/// A standby of a server, and the bridge's node there.
async fn standby(primary: &Server) -> (Server, Arc<PostgresNode>) {
    let standby = primary.standby(&[]).await.unwrap();
    let node = pontoon_postgres::node(options(&standby, BRIDGE)).unwrap();
    (standby, node)
}

/// Waits until a query on a server's database yields true.
async fn until(server: &Server, sql: &str) {
    let (client, give_up) = (connect(server, DATABASE).await, Instant::now() + PATIENCE);
    while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(Instant::now() < give_up, "{sql}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn in_step(primary: &Server) {
    let sql = "SELECT count(*) = 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()";
    until(primary, sql).await;
}

async fn promote(standby: &Server) {
    until(standby, "SELECT pg_promote()").await;
    until(standby, "SELECT NOT pg_is_in_recovery()").await;
}

/// Where a log ends, all of which is written to disk and sent.
async fn end(node: &PostgresNode) -> Position {
    let end = node.log_status(None).await.unwrap().end;
    node.mark(Mark::Heartbeat).await.unwrap();
    end
}

/// Up to where a node's log is that of another one.
async fn forked_from(node: &PostgresNode, log: &LogIdentity) -> Option<Position> {
    node.carried_over(log, &[]).await.unwrap().map(|carried| carried.fork)
}

#[tokio::test]
async fn a_promoted_server_tells_up_to_where_its_log_is_that_of_each_primary() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    let first = bench.node.identity().await.unwrap();
    let later = LogIdentity(first.0.replace(":1", ":2").into());
    assert_eq!(forked_from(&bench.node, &later).await, None, "it was never promoted");
    let (mut server, node) = standby(&bench.server).await;
    assert_eq!(node.identity().await.unwrap_err().code(), Code::ServerBusy);
    bench.run("INSERT INTO items VALUES (1, 'there')").await;
    let there = end(&bench.node).await;
    in_step(&bench.server).await;
    server.kill().await.unwrap();
    bench.run("INSERT INTO items VALUES (2, 'lost')").await;
    let lost = end(&bench.node).await;
    bench.server.kill().await.unwrap();
    server.restart().await.unwrap();
    promote(&server).await;
    let second = node.identity().await.unwrap();
    let carried = node.carried_over(&first, &[there.clone(), lost.clone()]).await.unwrap().unwrap();
    let fork = carried.fork;
    assert_eq!(carried.places, [Some(there.clone()), None]);
    assert!(fork.covers(&there) && !fork.covers(&lost), "{there} {fork} {lost}");

    // A promotion later each of the two was left at a place of its own.
    let sql = connect(&server, DATABASE).await;
    sql.batch_execute("INSERT INTO items VALUES (3, 'after the promotion')").await.unwrap();
    let there = end(&node).await;
    let (last, third) = standby(&server).await;
    in_step(&server).await;
    promote(&last).await;
    assert_eq!(forked_from(&third, &first).await, Some(fork));
    assert!(forked_from(&third, &second).await.unwrap().covers(&there));
    // What it does not go on from: itself, what comes later, and other servers.
    assert_eq!(forked_from(&third, &third.identity().await.unwrap()).await, None);
    assert_eq!(forked_from(&node, &third.identity().await.unwrap()).await, None);
    for log in ["postgres:1:1", "mysql:1", "postgres:1"] {
        assert_eq!(forked_from(&third, &LogIdentity(log.into())).await, None, "{log}");
    }
}

/// A process that has not noticed yet that its server is gone has the token that the standby has too.
#[tokio::test]
async fn nothing_is_written_on_a_promoted_server_before_its_log_is_noted() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    let token = bench.token().await;
    let (server, node) = standby(&bench.server).await;
    in_step(&bench.server).await;
    bench.server.kill().await.unwrap();
    promote(&server).await;
    let late = node.open_session(Applier::Direction, token, bench.tables()).await;
    let error = late.err().expect("it is another server");
    assert_eq!(error.code(), Code::ConnectionLost, "{error}");

    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("free") };
    let token = lease.take_over("after the promotion").await.unwrap();
    lease.note_logs(&NotedLogs::new(node.identity().await.unwrap(), other().log)).await.unwrap();
    let mut session = node.open_session(Applier::Direction, token, bench.tables()).await.unwrap();
    session.begin(None).await.unwrap();
    session.rollback().await.unwrap();
}
