//! Who may work, and that nobody else can write.

use std::time::{Duration, Instant};

use pontoon_core::{
    Checkpoint, Code, Key, LogIdentity, Position, Resolution, Row, Value,
    node::{Admin, Applied, Applier, LeaseAttempt, Node, SetupPlan, TableBatch, Tables},
    quarantine::{Stored, What},
    state::{Arrangement, NotedLogs},
};

use crate::support::{Bench, plan_of, record_of, tag};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL";

fn insert(id: i128) -> TableBatch {
    TableBatch { inserts: vec![Row(vec![Value::Integer(id), Value::Null])], ..TableBatch::default() }
}

async fn position(bench: &Bench) -> Position {
    bench.node.state(bench.tables()).await.unwrap().checkpoint.unwrap().position
}

#[tokio::test]
async fn one_process_works_and_its_name_is_known() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let LeaseAttempt::Ours(mut lease) = bench.node.try_lease().await.unwrap() else { panic!("free") };
    let first = lease.take_over("host 1, process 2").await.unwrap();
    lease.renew().await.unwrap();
    match bench.node.try_lease().await.unwrap() {
        LeaseAttempt::HeldBy(who) => assert_eq!(who, "host 1, process 2"),
        LeaseAttempt::Ours(_) => panic!("two have it"),
    }
    drop(lease);
    let mut next = loop {
        match bench.node.try_lease().await.unwrap() {
            LeaseAttempt::Ours(lease) => break lease,
            LeaseAttempt::HeldBy(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(next.take_over("host 2").await.unwrap(), first + 1);
}

#[tokio::test]
async fn tables_are_set_aside_under_the_token() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let (node, tables) = (&bench.node, bench.tables());
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("free") };
    lease.take_over("first").await.unwrap();
    let at = |place: &str| -> Position { place.parse().unwrap() };
    let checkpoint = node.state(tables).await.unwrap().checkpoint.unwrap();
    let noted = Arrangement {
        checkpoint: Checkpoint { position: at("binlog.000001:100"), ..checkpoint },
        since: vec![(tables[0].label.clone(), at("binlog.000001:200"))],
        aside: vec![("other".into(), at("binlog.000001:50")), ("third".into(), at("binlog.000001:51"))],
    };
    lease.arrange(&noted).await.unwrap();
    let state = node.state(tables).await.unwrap();
    assert_eq!(state.checkpoint, Some(noted.checkpoint.clone()));
    assert_eq!((state.since, state.aside), (vec![(tables[0].id, at("binlog.000001:200"))], noted.aside.clone()));
    let taken_back = Arrangement { aside: vec![("third".into(), at("binlog.000001:51"))], since: Vec::new(), ..noted };
    lease.arrange(&taken_back).await.unwrap();
    assert_eq!(node.state(tables).await.unwrap().aside, taken_back.aside);
    // Somebody has raised the token since.
    node.pause(None).await.unwrap();
    let checkpoint = Checkpoint { position: at("binlog.000001:4"), ..taken_back.checkpoint.clone() };
    let late = Arrangement { checkpoint, aside: Vec::new(), since: Vec::new() };
    assert_eq!(lease.arrange(&late).await.unwrap_err().code(), Code::LeaseLost);
    let state = node.state(tables).await.unwrap();
    assert_eq!((state.checkpoint, state.aside), (Some(taken_back.checkpoint), taken_back.aside));
}

/// That the logs have these names now; the checkpoint is of the other one's.
fn named(own: &LogIdentity, other: &LogIdentity, checkpoint: &Checkpoint) -> NotedLogs {
    let checkpoint = Checkpoint { log: other.clone(), ..checkpoint.clone() };
    let arrangement = Some(Arrangement { checkpoint, since: Vec::new(), aside: Vec::new() });
    NotedLogs { arrangement, ..NotedLogs::new(own.clone(), other.clone()) }
}

#[tokio::test]
async fn logs_get_their_new_names_under_the_token() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let (node, tables) = (&bench.node, bench.tables());
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("free") };
    lease.take_over("first").await.unwrap();
    let checkpoint = node.state(tables).await.unwrap().checkpoint.unwrap();
    let (own, other) = (LogIdentity("postgres:7:2".into()), LogIdentity("mysql:promoted".into()));
    lease.note_logs(&named(&own, &other, &checkpoint)).await.unwrap();
    let noted = Checkpoint { log: other.clone(), ..checkpoint.clone() };
    assert_eq!(node.state(tables).await.unwrap().checkpoint, Some(noted.clone()));
    // What set-up is then for.
    let promoted = SetupPlan { other_log: other, ..plan_of(tables.clone()) };
    assert_eq!(node.install_checkpoint(&promoted, &noted).await.unwrap_err().code(), Code::BridgeNameTaken);
    lease.note_logs(&named(&node.identity().await.unwrap(), &noted.log, &checkpoint)).await.unwrap();
    node.install_checkpoint(&promoted, &noted).await.unwrap();
    node.pause(None).await.unwrap();
    let late = LogIdentity("mysql:late".into());
    assert_eq!(lease.note_logs(&named(&own, &late, &checkpoint)).await.unwrap_err().code(), Code::LeaseLost);
    assert_eq!(node.state(tables).await.unwrap().checkpoint, Some(noted));
}

#[tokio::test]
async fn a_promotion_moves_every_place_that_is_kept() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let (node, tables) = (&bench.node, bench.tables());
    let LeaseAttempt::Ours(mut lease) = node.try_lease().await.unwrap() else { panic!("free") };
    let token = lease.take_over("x").await.unwrap();
    let mut session = node.open_session(Applier::Direction, token, tables).await.unwrap();
    let at = |place: &str| -> Position { place.parse().unwrap() };
    let record = |id: i64| Resolution {
        group: 1,
        other_fence: Some(at("binlog.000001:9")),
        own_fence: Some(Position::Lsn(99)),
        ..record_of(tables[0].id, id, id)
    };
    let entry = |id: i64, position| Stored {
        id,
        table: tables[0].id,
        key: Key(vec![Value::Integer(9)]),
        what: What::Own,
        position,
        transaction: None,
        commit_time: 5,
        refusal: None,
        due_in: Duration::from_secs(60),
    };
    session.begin(Some(&tag(5, 6))).await.unwrap();
    session.record(&[record(1), record(2)]).await.unwrap();
    session.store(&[entry(3, Some(at("binlog.000001:8"))), entry(4, None)]).await.unwrap();
    session.commit().await.unwrap();
    node.skip(&Position::Lsn(1)).await.unwrap();

    let checkpoint = node.state(tables).await.unwrap().checkpoint.unwrap();
    let noted = NotedLogs {
        arrangement: Some(Arrangement {
            checkpoint: Checkpoint { position: at("bin.000007:50"), ..checkpoint.clone() },
            since: vec![(tables[0].label.clone(), at("bin.000007:60"))],
            aside: vec![("third".into(), at("bin.000007:51"))],
        }),
        own_fences: vec![(1, Position::Lsn(100))],
        other_fences: vec![(2, at("bin.000007:70"))],
        stored_before: Some(at("bin.000007:50")),
        forget_skips: true,
        ..named(&node.identity().await.unwrap(), &checkpoint.log, &checkpoint)
    };
    lease.note_logs(&noted).await.unwrap();
    let state = node.state(tables).await.unwrap();
    let first = Resolution { own_fence: Some(Position::Lsn(100)), ..record(1) };
    assert_eq!(state.resolutions, [first, Resolution { other_fence: Some(at("bin.000007:70")), ..record(2) }]);
    assert_eq!(state.checkpoint.unwrap().position, at("bin.000007:50"));
    assert_eq!(state.since, [(tables[0].id, at("bin.000007:60"))]);
    assert_eq!((state.aside, state.skips), (vec![("third".into(), at("bin.000007:51"))], vec![]));
    // A session that has the table set aside is told of its places.
    let unmapped = node.state(&Tables::default()).await.unwrap().unmapped;
    assert_eq!(unmapped.since, [(tables[0].label.clone(), at("bin.000007:60"))]);
    let fences =
        unmapped.resolutions.iter().map(|record| (record.id, record.own_fence.clone(), record.other_fence.clone()));
    assert_eq!(
        fences.collect::<Vec<_>>(),
        [(1, Some(Position::Lsn(100)), record(1).other_fence), (2, record(2).own_fence, Some(at("bin.000007:70")))]
    );
    let of = unmapped.resolutions.first().map(|record| (&*record.label, &*record.key));
    assert_eq!(of, Some((&*tables[0].label, "[1]")));
    let shown = node.quarantine(9).await.unwrap();
    let places: Vec<_> = shown.iter().map(|entry| entry.position.clone()).collect();
    assert_eq!(places, [Some("bin.000007:50".into()), None]);
}

#[tokio::test]
async fn a_loser_cannot_begin_and_what_it_began_is_waited_for() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let mut old = bench.session().await;
    old.begin(Some(&tag(100, 1))).await.unwrap();
    assert_eq!(old.apply(table, &insert(1)).await.unwrap(), Applied::All);

    let started = Instant::now();
    let taking = async {
        let LeaseAttempt::Ours(mut lease) = bench.node.try_lease().await.unwrap() else { panic!("free") };
        let token = lease.take_over("the new one").await.unwrap();
        (token, started.elapsed(), position(&bench).await)
    };
    let finishing = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        old.commit().await.unwrap();
    };
    let ((token, waited, found), ()) = tokio::join!(taking, finishing);
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    assert_eq!(found, tag(100, 1).position.unwrap());

    old.begin(Some(&tag(200, 1))).await.unwrap();
    let lost = old.apply(table, &insert(2)).await.unwrap_err();
    assert_eq!(lost.code(), Code::LeaseLost);
    old.rollback().await.unwrap();
    old.begin(None).await.unwrap();
    assert_eq!(old.fence().await.unwrap_err().code(), Code::LeaseLost);

    // The old session still has the origin; the new one ends it.
    let mut new = bench.node.open_session(Applier::Direction, token, bench.tables()).await.unwrap();
    new.begin(Some(&tag(300, 1))).await.unwrap();
    new.apply(table, &insert(2)).await.unwrap();
    new.commit().await.unwrap();
    assert_eq!(position(&bench).await, tag(300, 1).position.unwrap());
    let ended = old.rollback().await.unwrap_err();
    assert!(ended.is_transient(), "{ended}");
}

#[tokio::test]
async fn a_dead_session_in_the_middle_of_a_transaction_leaves_nothing() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let before = position(&bench).await;
    let mut dead = bench.session().await;
    dead.begin(Some(&tag(100, 1))).await.unwrap();
    dead.apply(table, &insert(1)).await.unwrap();
    drop(dead);
    let mut new = bench.session().await;
    assert_eq!(position(&bench).await, before);
    new.begin(Some(&tag(100, 1))).await.unwrap();
    assert_eq!(new.apply(table, &insert(1)).await.unwrap(), Applied::All);
    new.commit().await.unwrap();
}

/// What goes with BEGIN is sent before BEGIN is answered, and the server would commit it by itself.
#[tokio::test]
async fn a_cancel_that_meets_the_beginning_leaves_nothing() {
    const TRANSACTIONS: u64 = 3000;
    let bench = Bench::start(ITEMS, &["items"]).await;
    let (table, before) = (bench.tables()[0].id, position(&bench).await);
    let mut session = bench.session().await;
    let pid: i32 = bench
        .sql
        .query_one("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pontoon%applier 0'", &[])
        .await
        .unwrap()
        .get(0);
    let cancelling = async {
        loop {
            bench.sql.execute("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
        }
    };
    let working = async {
        let mut refused = 0;
        for n in 1..=TRANSACTIONS {
            session.begin(Some(&tag(n, 1))).await.unwrap();
            refused += u64::from(session.apply(table, &insert(n.into())).await.is_err());
            while session.rollback().await.is_err() {}
        }
        refused
    };
    let refused = tokio::select! {
        refused = working => refused,
        () = cancelling => unreachable!(),
    };
    assert!(refused > 0 && refused < TRANSACTIONS, "{refused}");
    let count: i64 = bench.sql.query_one("SELECT count(*) FROM items", &[]).await.unwrap().get(0);
    assert_eq!((count, position(&bench).await), (0, before), "{refused} were refused");
}

#[tokio::test]
async fn a_killed_server_is_a_transient_error_and_keeps_what_was_committed() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let mut session = bench.session().await;
    let mut reader = bench.reader().await;
    session.begin(Some(&tag(100, 1))).await.unwrap();
    session.apply(table, &insert(1)).await.unwrap();
    session.commit().await.unwrap();
    session.begin(Some(&tag(200, 1))).await.unwrap();
    session.apply(table, &insert(2)).await.unwrap();
    bench.server.kill().await.unwrap();
    assert!(session.commit().await.unwrap_err().is_transient());
    loop {
        if let Err(error) = reader.next().await {
            assert!(error.is_transient(), "{error}");
            break;
        }
    }
    assert_eq!(bench.node.mark(pontoon_core::node::Mark::Heartbeat).await.unwrap_err().code(), Code::Unreachable);
    bench.server.restart().await.unwrap();
    bench.node.mark(pontoon_core::node::Mark::Heartbeat).await.unwrap();
    assert_eq!(position(&bench).await, tag(100, 1).position.unwrap());
    let mut reader = bench.reader().await;
    assert_eq!(bench.fragments(&mut reader).await.len(), 1);
}

#[tokio::test]
async fn misuse_is_an_error_and_a_failed_transaction_is_not_committed() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let table = bench.tables()[0].id;
    let mut session = bench.session().await;
    assert_eq!(session.commit().await.unwrap_err().code(), Code::Internal);
    session.rollback().await.unwrap();
    session.begin(Some(&tag(100, 1))).await.unwrap();
    session.apply(table, &insert(1)).await.unwrap();
    assert_eq!(session.apply(table, &insert(1)).await.unwrap(), Applied::Missed);
    assert_eq!(session.commit().await.unwrap_err().code(), Code::Internal);
    session.rollback().await.unwrap();
    let count: i64 = bench.sql.query_one("SELECT count(*) FROM items", &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_lock_wait_ends() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1)").await;
    bench.run("BEGIN; UPDATE items SET note = 'x'").await;
    let mut session = bench.session().await;
    session.begin(None).await.unwrap();
    let keys = [pontoon_core::Key(vec![Value::Integer(1)])];
    let started = Instant::now();
    assert_eq!(session.lock(bench.tables()[0].id, &keys).await.unwrap_err().code(), Code::Contention);
    assert!(started.elapsed() < Duration::from_secs(15));
    session.rollback().await.unwrap();
    bench.run("ROLLBACK").await;
    session.begin(None).await.unwrap();
    assert!(session.lock(bench.tables()[0].id, &keys).await.unwrap()[0].is_some());
}
