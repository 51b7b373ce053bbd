//! Transactions that the server hands over before they are decided: with `logical_decoding_work_mem` at its least it
//! streams whatever is a little larger.

use std::time::Instant;

use pontoon_core::{
    Change, Code, Held, LogEvent, Operation, Origin, Position, Row, Value,
    node::{LogReader, Mark, Node, PassedOver, TableBatch},
};
use tokio_postgres::Client;

use crate::support::{Bench, DATABASE, PATIENCE, Putting, Whole, connect, map, names, next, position_of, tag};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL";

/// Rows of an open transaction, as the first and last id: some 200 kB of log.
fn insert(ids: std::ops::RangeInclusive<i32>) -> String {
    format!("INSERT INTO items SELECT n, repeat('y', 60) FROM generate_series({}, {}) n", ids.start(), ids.end())
}

async fn bench() -> Bench {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("ALTER DATABASE \"shop \"\"db'\" SET logical_decoding_work_mem = '64kB'").await;
    bench
}

/// Another session of an application.
async fn other(bench: &Bench) -> Client {
    connect(&bench.server, DATABASE).await
}

/// What commits up to the log's present end, put together.
async fn wholes(bench: &Bench, reader: &mut Box<dyn LogReader>, putting: &mut Putting) -> Vec<Whole> {
    bench.read(reader).await.into_iter().filter_map(|event| putting.take(event)).collect()
}

fn ids(whole: &Whole) -> Vec<i128> {
    whole.fragment.changes.iter().map(id_of).collect()
}

/// Reads until pieces of an open transaction are there.
async fn until_held(reader: &mut Box<dyn LogReader>, putting: &mut Putting) {
    until_held_from(reader, putting, 0).await;
}

/// Reads until a row from `id` on is there of an open transaction.
async fn until_held_from(reader: &mut Box<dyn LogReader>, putting: &mut Putting, id: i128) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "nothing is handed over");
        let event = next(reader).await;
        let reached = match &event {
            LogEvent::Held(Held::Piece { changes, .. }) => changes.iter().any(|change| id_of(change) >= id),
            _ => false,
        };
        assert!(putting.take(event).is_none(), "nothing has committed");
        if reached {
            return;
        }
    }
}

fn id_of(change: &Change) -> i128 {
    match change.after().map(|row| &row.0[0]) {
        Some(Value::Integer(id)) => *id,
        other => panic!("{other:?}"),
    }
}

async fn confirmed(bench: &Bench) -> String {
    bench.sql.query_one("SELECT confirmed_flush_lsn::text FROM pg_replication_slots", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn pieces_come_before_the_commit_and_again_after_a_restart() {
    let mut bench = bench().await;
    let mut reader = bench.reader().await;
    let writer = other(&bench).await;
    writer.batch_execute(&format!("BEGIN; {}", insert(1..=3000))).await.unwrap();
    let mut putting = Putting::default();
    until_held(&mut reader, &mut putting).await;
    // Others commit meanwhile, and what they are durable up to is let go of, but nothing of the open one.
    bench.run("INSERT INTO items VALUES (0, 'meanwhile')").await;
    let meanwhile = wholes(&bench, &mut reader, &mut putting).await;
    assert_eq!(meanwhile.iter().map(ids).collect::<Vec<_>>(), [[0]]);
    let durable = meanwhile[0].fragment.position.clone().unwrap();
    reader.confirm(&durable);
    while confirmed(&bench).await != durable.to_string() {
        next(&mut reader).await;
    }
    drop(reader);
    bench.start.position = durable;
    let mut reader = bench.reader().await;
    let mut putting = Putting::default();
    writer.batch_execute(&insert(3001..=4000)).await.unwrap();
    until_held(&mut reader, &mut putting).await;
    let before = bench.node.log_status(None).await.unwrap();
    writer.batch_execute("COMMIT").await.unwrap();
    let found = wholes(&bench, &mut reader, &mut putting).await;
    let [whole] = &found[..] else { panic!("{found:?}") };
    assert_eq!(ids(whole), (1..=4000).collect::<Vec<_>>());
    assert!(whole.pieces > 3, "{}", whole.pieces);
    let fragment = &whole.fragment;
    assert_eq!((&fragment.origin, fragment.first), (&Origin::Local, true));
    let position = fragment.position.as_ref().unwrap();
    assert!(position.covers(&before.end), "{position} is where it began");
    assert!((before.clock..before.clock + 60_000_000).contains(&fragment.commit_time));
    // The position is the decision's: what comes after it begins behind it.
    bench.start.position = position.clone();
    drop(reader);
    bench.run("INSERT INTO items VALUES (-1, 'after')").await;
    let mut reader = bench.reader().await;
    let after = wholes(&bench, &mut reader, &mut Putting::default()).await;
    assert_eq!(after.iter().map(ids).collect::<Vec<_>>(), [[-1]]);
}

#[tokio::test]
async fn what_is_rolled_back_leaves_nothing() {
    let bench = bench().await;
    let mut reader = bench.reader().await;
    let writer = other(&bench).await;
    let mut putting = Putting::default();
    writer.batch_execute(&format!("BEGIN; {}", insert(1..=3000))).await.unwrap();
    until_held(&mut reader, &mut putting).await;
    writer.batch_execute("ROLLBACK").await.unwrap();
    assert!(wholes(&bench, &mut reader, &mut putting).await.is_empty());
    assert_eq!(putting.undecided(), 0, "the server says when a transaction is rolled back");

    let parts = [
        "BEGIN".to_owned(),
        insert(1..=1500),
        "SAVEPOINT a".into(),
        insert(10_001..=11_500),
        "SAVEPOINT nested".into(),
        insert(20_001..=21_500),
        "RELEASE nested; ROLLBACK TO a".into(),
        insert(1501..=3000),
        "SAVEPOINT kept".into(),
        insert(3001..=4500),
        "RELEASE kept; SAVEPOINT b".into(),
        "UPDATE items SET note = 'never' WHERE id < 900; ROLLBACK TO b".into(),
        insert(4501..=6000),
    ];
    for part in parts {
        writer.batch_execute(&part).await.unwrap();
    }
    until_held(&mut reader, &mut putting).await;
    writer.batch_execute("COMMIT").await.unwrap();
    let found = wholes(&bench, &mut reader, &mut putting).await;
    let [whole] = &found[..] else { panic!("{}", found.len()) };
    assert_eq!(ids(whole), (1..=6000).collect::<Vec<_>>());
    let inserts = whole.fragment.changes.iter();
    assert!(inserts.map(|change| &change.operation).all(|operation| matches!(operation, Operation::Insert { .. })));
    // What the server has told of the table within a streamed transaction it does not tell again.
    bench.run("INSERT INTO items VALUES (0, 'small')").await;
    let small = wholes(&bench, &mut reader, &mut putting).await;
    assert_eq!(small.iter().map(|whole| (ids(whole), whole.pieces)).collect::<Vec<_>>(), [(vec![0], 0)]);
}

#[tokio::test]
async fn a_streamed_echo_is_known_as_one() {
    let bench = bench().await;
    let mut reader = bench.reader().await;
    let mut session = bench.session().await;
    let mut putting = Putting::default();
    let rows = (1..=3000).map(|id| Row(vec![Value::Integer(id), Value::Text("y".repeat(60).into())]));
    let batch = TableBatch { inserts: rows.collect(), ..TableBatch::default() };
    session.begin(Some(&tag(10, 1_000_000))).await.unwrap();
    session.apply(bench.tables()[0].id, &batch).await.unwrap();
    until_held(&mut reader, &mut putting).await;
    session.commit().await.unwrap();
    for (name, first) in [("pontoon:other-bridge:0", 10_000), ("native:x:0", 20_000)] {
        // The session has its origin before the transaction begins, as a bridge's has.
        bench.run(&format!("SELECT pg_replication_origin_create('{name}')")).await;
        bench.run(&format!("SELECT pg_replication_origin_session_setup('{name}')")).await;
        let sql = format!(
            "BEGIN; SELECT pg_replication_origin_xact_setup('0/1', '2001-02-03 04:05:06.789012+00'); {}; COMMIT;
             SELECT pg_replication_origin_session_reset()",
            insert(first..=first + 2999)
        );
        bench.run(&sql).await;
    }
    let found = wholes(&bench, &mut reader, &mut putting).await;
    let origins: Vec<_> = found.iter().map(|whole| whole.fragment.origin.clone()).collect();
    assert_eq!(origins, [Origin::Own, Origin::Bridge("other-bridge".into()), Origin::Local]);
    assert_eq!(found[0].fragment.commit_time, 1_000_000);
    assert!(found.iter().all(|whole| whole.pieces > 0 && whole.fragment.changes.len() == 3000));
}

/// Begins a transaction with a statement that cannot be passed on in it, in a subtransaction; both are streamed.
async fn with_a_bad_part(bench: &Bench, bad: &str, reader: &mut Box<dyn LogReader>, putting: &mut Putting) -> Client {
    let writer = other(bench).await;
    writer.batch_execute(&format!("BEGIN; {}", insert(1..=3000))).await.unwrap();
    writer.batch_execute(&format!("SAVEPOINT s; {bad}; {}", insert(5001..=8000))).await.unwrap();
    // Else the server would know of the roll-back before it sends any of it.
    until_held_from(reader, putting, 5001).await;
    writer
}

#[tokio::test]
async fn what_cannot_be_passed_on_stops_only_before_a_commit() {
    let (truncate, alter) = ("TRUNCATE items", "ALTER TABLE items ADD more int");
    for (bad, code) in [(truncate, Code::TruncateSeen), (alter, Code::SchemaChanged)] {
        let mut bench = bench().await;
        let mut reader = bench.reader().await;
        let mut putting = Putting::default();
        let writer = with_a_bad_part(&bench, bad, &mut reader, &mut putting).await;
        writer.batch_execute("ROLLBACK").await.unwrap();
        wholes(&bench, &mut reader, &mut putting).await;
        let writer = with_a_bad_part(&bench, bad, &mut reader, &mut putting).await;
        writer.batch_execute(&format!("ROLLBACK TO s; {}; COMMIT", insert(3001..=4000))).await.unwrap();
        bench.run("INSERT INTO items VALUES (0, 'small')").await;
        let found = wholes(&bench, &mut reader, &mut putting).await;
        let held: Vec<_> = found.iter().map(|whole| (ids(whole).len(), whole.pieces > 0)).collect();
        assert_eq!(held, [(4000, true), (1, false)], "{bad}");
        bench.run("DELETE FROM items").await;
        bench.read(&mut reader).await;

        let writer = with_a_bad_part(&bench, bad, &mut reader, &mut putting).await;
        writer.batch_execute("COMMIT").await.unwrap();
        let events = bench.read(&mut reader).await;
        let Some(LogEvent::Obstacle(obstacle)) = events.last() else { panic!("{bad}: {:?}", events.last()) };
        assert_eq!(obstacle.error.code(), code, "{bad}");
        assert!(!events.iter().any(|event| matches!(event, LogEvent::Held(Held::Decided { .. }))), "{bad}");
        // By the position that the obstacle names it is passed over.
        let skips = [obstacle.position.clone()];
        drop(reader);
        bench.plan.tables = map(&bench.node, &names(&["items"]), &[]).await;
        let mut reader =
            bench.node.open_reader(&bench.start, bench.tables(), &PassedOver::skips(&skips)).await.unwrap();
        let again = wholes(&bench, &mut reader, &mut Putting::default()).await;
        assert_eq!(again.len(), 3, "{bad}");
    }
}

#[tokio::test]
async fn what_is_prepared_counts_when_it_commits() {
    let mut bench = bench().await;
    let mut reader = bench.reader().await;
    let mut putting = Putting::default();
    let prepare =
        async |name: &str, rows: &str| bench.run(&format!("BEGIN; {rows}; PREPARE TRANSACTION '{name}'")).await;
    prepare("small", "INSERT INTO items VALUES (-1, 'small')").await;
    prepare("large", &insert(1..=3000)).await;
    prepare("never", &insert(5001..=8000)).await;
    until_held(&mut reader, &mut putting).await;
    bench.run("INSERT INTO items VALUES (0, 'meanwhile')").await;
    let found = wholes(&bench, &mut reader, &mut putting).await;
    assert_eq!(found.iter().map(ids).collect::<Vec<_>>(), [[0]]);
    // They outlive a restart of the reader.
    bench.start.position = found[0].fragment.position.clone().unwrap();
    reader.confirm(&bench.start.position);
    while confirmed(&bench).await != bench.start.position.to_string() {
        next(&mut reader).await;
    }
    drop(reader);
    let mut reader = bench.reader().await;
    let mut putting = Putting::default();
    let before = bench.node.log_status(None).await.unwrap();
    bench.run("ROLLBACK PREPARED 'never'").await;
    bench.run("COMMIT PREPARED 'large'").await;
    bench.run("COMMIT PREPARED 'small'").await;
    let found = wholes(&bench, &mut reader, &mut putting).await;
    assert_eq!(found.iter().map(ids).collect::<Vec<_>>(), [(1..=3000).collect(), vec![-1]]);
    for whole in &found {
        assert!(whole.fragment.position.as_ref().unwrap().covers(&before.end));
        assert!(whole.fragment.commit_time >= before.clock - 1_000_000, "the time of the decision");
    }
    assert_eq!(putting.undecided(), 0);
}

#[tokio::test]
async fn messages_of_others_are_passed_over() {
    let bench = bench().await;
    let mut reader = bench.reader().await;
    let say = "SELECT pg_logical_emit_message(true, 'somebody', 'barrier x'),
        pg_logical_emit_message(true, 'pontoon:another', 'barrier 1:x'), pg_logical_emit_message(false, 'at once', 'x')";
    bench.run(say).await;
    for (rows, end) in [(insert(1..=3000), "COMMIT"), (insert(3001..=6000), "ROLLBACK")] {
        for statement in ["BEGIN", say, &rows, say, end] {
            bench.run(statement).await;
        }
    }
    let events = bench.read(&mut reader).await;
    assert!(events.iter().all(|event| !matches!(event, LogEvent::Progress(progress) if progress.barrier)));
    let mut putting = Putting::default();
    let found: Vec<_> = events.into_iter().filter_map(|event| putting.take(event)).collect();
    assert_eq!(found.iter().map(ids).collect::<Vec<_>>(), [(1..=3000).collect::<Vec<_>>()]);
    // The bridge's own mark is read for what it is, also where the server streams it.
    bench.run("ALTER DATABASE \"shop \"\"db'\" RESET logical_decoding_work_mem").await;
    bench.node.mark(Mark::Barrier).await.unwrap();
    let barrier =
        async { while !matches!(next(&mut reader).await, LogEvent::Progress(progress) if progress.barrier) {} };
    tokio::time::timeout(PATIENCE, barrier).await.expect("the barrier is read");
}

#[tokio::test]
async fn progress_stays_before_what_is_undecided() {
    let bench = bench().await;
    let mut reader = bench.reader().await;
    let writer = other(&bench).await;
    writer.batch_execute("BEGIN").await.unwrap();
    let (mut putting, mut latest) = (Putting::default(), Position::Lsn(0));
    for round in 0..4 {
        writer.batch_execute(&insert(round * 3000 + 1..=round * 3000 + 3000)).await.unwrap();
        bench.node.mark(Mark::Heartbeat).await.unwrap();
        for event in bench.read(&mut reader).await {
            if let Some(position) = position_of(&event) {
                assert!(position.covers(&latest), "{position} after {latest}");
                latest = position;
            }
            assert!(putting.take(event).is_none());
        }
    }
    assert_eq!(putting.undecided(), 1);
    writer.batch_execute("COMMIT").await.unwrap();
    let found = wholes(&bench, &mut reader, &mut putting).await;
    let position = found[0].fragment.position.clone().unwrap();
    assert!(position != latest && position.covers(&latest), "{position} after {latest}");
    assert_eq!(ids(&found[0]).len(), 12_000);
}
