//! The log as the reader yields it.

use pontoon_core::{
    LogEvent, Operation, Origin, Row, Span, TableName, Value, calendar,
    node::{Mark, Node, PassedOver, TableBatch, UpdateGroup},
};

use crate::support::{Bench, next, tag, without_rules};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text, big text);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
    ALTER TABLE items REPLICA IDENTITY FULL;
    CREATE TABLE unmapped (id int PRIMARY KEY)";

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[tokio::test]
async fn changes_come_with_full_images() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    let big = "x".repeat(20_000);
    bench.run(&format!("INSERT INTO items VALUES (1, NULL, '{big}')")).await;
    bench.run("UPDATE items SET note = 'a' WHERE id = 1").await;
    bench.run("UPDATE items SET id = 2 WHERE id = 1").await;
    bench.run("BEGIN; INSERT INTO unmapped VALUES (1); DELETE FROM items; COMMIT").await;
    bench.run("INSERT INTO unmapped VALUES (2)").await;
    let fragments = bench.fragments(&mut reader).await;
    let row = |id, note: &Value| Row(vec![Value::Integer(id), note.clone(), text(&big)]);
    let operations: Vec<_> =
        fragments.iter().flat_map(|fragment| fragment.changes.iter().map(|change| change.operation.clone())).collect();
    assert_eq!(
        operations,
        [
            Operation::Insert { after: row(1, &Value::Null) },
            Operation::Update { before: row(1, &Value::Null), after: row(1, &text("a")), unchanged: vec![2] },
            Operation::Update { before: row(1, &text("a")), after: row(2, &text("a")), unchanged: vec![2] },
            Operation::Delete { before: row(2, &text("a")) },
        ]
    );
    let now = bench.node.log_status(None).await.unwrap().clock;
    for fragment in &fragments {
        assert_eq!(fragment.origin, Origin::Local);
        assert!(fragment.first && fragment.position.is_some());
        assert!(
            (now - 60_000_000..=now).contains(&fragment.commit_time),
            "{}",
            calendar::format_instant(fragment.commit_time)
        );
    }
}

#[tokio::test]
async fn large_transactions_come_in_pieces_and_a_restart_goes_on_after_what_is_confirmed() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    bench.run("INSERT INTO items SELECT n, repeat('y', 100) FROM generate_series(1, 5000) n").await;
    bench.run("INSERT INTO items VALUES (0)").await;
    let fragments = bench.fragments(&mut reader).await;
    assert!(fragments.len() > 5, "{}", fragments.len());
    assert_eq!(fragments.iter().map(|fragment| fragment.changes.len()).sum::<usize>(), 5001);
    assert_eq!(fragments.iter().filter(|fragment| fragment.first).count(), 2);
    assert_eq!(fragments.iter().filter(|fragment| fragment.position.is_some()).count(), 2);
    let first = fragments.iter().find_map(|fragment| fragment.position.clone()).unwrap();
    reader.confirm(&first);
    // At the reader's leisure, but while it is polled; and no more than that.
    let confirmed = async || -> String {
        bench.sql.query_one("SELECT confirmed_flush_lsn::text FROM pg_replication_slots", &[]).await.unwrap().get(0)
    };
    while confirmed().await != first.to_string() {
        assert_eq!(confirmed().await, bench.start.position.to_string());
        next(&mut reader).await;
    }
    next(&mut reader).await;
    assert_eq!(confirmed().await, first.to_string());
    drop(reader);
    bench.start.position = first;
    let mut reader = bench.reader().await;
    let fragments = bench.fragments(&mut reader).await;
    assert_eq!(fragments.len(), 1);
    assert_eq!(fragments[0].changes.len(), 1);
}

#[tokio::test]
async fn hostile_names_are_names() {
    let schema = "we\"ird.s\\chema";
    let table = "Select \"from\" 'wh.ere' ünï";
    let columns = ["Order", "a\"b", "c'd", "e.f g", "ключ", "группа\n"];
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let list: Vec<_> = columns.iter().map(|name| format!("{} text", quote(name))).collect();
    let full = format!("{}.{}", quote(schema), quote(table));
    let ddl = format!(
        "CREATE SCHEMA {}; CREATE TABLE {full} ({}, PRIMARY KEY ({}, {})); ALTER TABLE {full} REPLICA IDENTITY FULL",
        quote(schema),
        list.join(", "),
        quote(columns[1]),
        quote(columns[4])
    );
    let bench = Bench::start_with(&ddl, &[TableName::new(schema, table)], &[]).await;
    assert!(bench.node.list_tables().await.unwrap().contains(&TableName::new(schema, table)));
    let mut reader = bench.reader().await;
    let row = |last: &str| Row(["1", "2", "3", "4", "5", last].map(text).to_vec());
    let mut session = bench.session().await;
    let id = bench.tables()[0].id;
    for batch in [
        TableBatch { inserts: vec![row("6")], ..TableBatch::default() },
        TableBatch {
            updates: vec![UpdateGroup { changed: vec![5], rows: vec![(row("6"), row("7"))], ..UpdateGroup::default() }],
            ..TableBatch::default()
        },
        TableBatch { deletes: vec![row("7")], ..TableBatch::default() },
    ] {
        session.begin(Some(&tag(5, 7))).await.unwrap();
        assert_eq!(session.apply(id, &batch).await.unwrap(), pontoon_core::node::Applied::All);
        let key = bench.tables()[0].key_of(&row(""));
        session.lock(id, std::slice::from_ref(&key)).await.unwrap();
        session.commit().await.unwrap();
    }
    let fragments = bench.fragments(&mut reader).await;
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[1].changes[0].after(), Some(&row("7")));
    let mut scan = bench.node.open_scan(bench.tables()).await.unwrap();
    assert_eq!(scan.chunk(id, Span::default(), 10).await.unwrap(), []);
}

#[tokio::test]
async fn echoes_and_other_origins_are_told_apart() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    bench.plan.tables = without_rules(bench.tables());
    let mut reader = bench.reader().await;
    let mut session = bench.session().await;
    let time = calendar::parse_instant("2001-02-03T04:05:06.789012Z").unwrap();
    let row = Row(vec![Value::Integer(1), text("ours"), Value::Null]);
    session.begin(Some(&tag(10, time))).await.unwrap();
    let batch = TableBatch { inserts: vec![row], ..TableBatch::default() };
    session.apply(bench.tables()[0].id, &batch).await.unwrap();
    session.commit().await.unwrap();
    // Only the tag: nothing to yield but progress.
    session.begin(Some(&tag(11, time))).await.unwrap();
    session.commit().await.unwrap();
    for (name, id) in [("pontoon:other-bridge:0", 2), ("native:x:0", 3), ("pontoon:shop-stock2:0", 4)] {
        bench
            .run(&format!(
                "SELECT pg_replication_origin_create('{name}'); SELECT pg_replication_origin_session_setup('{name}');
                 BEGIN; SELECT pg_replication_origin_xact_setup('0/1', '2001-02-03 04:05:06.789012+00');
                 INSERT INTO items VALUES ({id}); COMMIT; SELECT pg_replication_origin_session_reset()"
            ))
            .await;
    }
    bench.run("INSERT INTO items VALUES (5)").await;
    let fragments = bench.fragments(&mut reader).await;
    let origins: Vec<_> = fragments.iter().map(|fragment| fragment.origin.clone()).collect();
    let bridge = |name: &str| Origin::Bridge(name.into());
    assert_eq!(origins, [Origin::Own, bridge("other-bridge"), Origin::Local, bridge("shop-stock2"), Origin::Local]);
    assert_eq!(fragments[0].commit_time, time);
    assert_eq!(fragments[1].commit_time, time);
    // Of its own the key is enough.
    let key = Row(vec![Value::Integer(1), Value::Unchanged, Value::Unchanged]);
    assert_eq!(fragments[0].changes[0].after(), Some(&key));
    assert!(fragments[4].commit_time > time);
}

#[tokio::test]
async fn an_idle_log_shows_progress_and_barriers() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    let started = std::time::Instant::now();
    for _ in 0..4 {
        let LogEvent::Progress(progress) = next(&mut reader).await else { panic!("nothing was written") };
        assert!(!progress.barrier);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    // Foreign tables alone: progress too.
    bench.run("INSERT INTO unmapped VALUES (1)").await;
    let end = bench.node.log_status(None).await.unwrap().end;
    let before = bench.node.log_status(None).await.unwrap().clock;
    bench.node.mark(Mark::Barrier).await.unwrap();
    let after = bench.node.log_status(None).await.unwrap().clock;
    loop {
        let LogEvent::Progress(progress) = next(&mut reader).await else { panic!("nothing mapped was written") };
        if progress.barrier {
            assert!(progress.position.covers(&end));
            assert!((before..=after).contains(&progress.time.unwrap()));
            break;
        }
    }
    reader.confirm(&end);
    let status = loop {
        next(&mut reader).await;
        let status = bench.node.log_status(Some(&bench.start.position)).await.unwrap();
        let confirmed: bool = bench
            .sql
            .query_one("SELECT confirmed_flush_lsn::text = $1 FROM pg_replication_slots", &[&end.to_string()])
            .await
            .unwrap()
            .get(0);
        if confirmed {
            break status;
        }
    };
    assert!(status.behind_bytes.unwrap() > 0);
    assert!(status.retained_bytes.is_some() && status.headroom_bytes.is_some());
}

#[tokio::test]
async fn a_tail_takes_nothing_from_the_bridge() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1)").await;
    let mut reader = bench.reader().await;
    let mut old =
        bench.node.open_tail(Some(&bench.start.position), bench.tables(), &PassedOver::default()).await.unwrap();
    let mut new = bench.node.open_tail(None, bench.tables(), &PassedOver::default()).await.unwrap();
    bench.run("INSERT INTO items VALUES (2)").await;
    assert_eq!(bench.fragments(&mut old).await.len(), 2);
    assert_eq!(bench.fragments(&mut new).await.len(), 1);
    assert_eq!(bench.fragments(&mut reader).await.len(), 2);
    drop((old, new));
    let left =
        async || -> i64 { bench.sql.query_one("SELECT count(*) FROM pg_replication_slots", &[]).await.unwrap().get(0) };
    while left().await != 1 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn partitions_are_their_root() {
    let bench = Bench::start(
        "CREATE TABLE items (id int, part int, note text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
         CREATE TABLE items_1 PARTITION OF items FOR VALUES IN (1);
         CREATE TABLE items_2 (note text, part int NOT NULL, id int NOT NULL);
         ALTER TABLE items ATTACH PARTITION items_2 FOR VALUES IN (2);
         ALTER TABLE items REPLICA IDENTITY FULL; ALTER TABLE items_1 REPLICA IDENTITY FULL; ALTER TABLE items_2 REPLICA IDENTITY FULL",
        &["items"],
    )
    .await;
    assert_eq!(bench.node.list_tables().await.unwrap().len(), 1);
    let mut reader = bench.reader().await;
    bench.run("INSERT INTO items VALUES (1, 1, 'a'), (2, 2, 'b'); UPDATE items SET note = 'c' WHERE id = 2").await;
    let fragments = bench.fragments(&mut reader).await;
    let row = |id, part, note| Row(vec![Value::Integer(id), Value::Integer(part), text(note)]);
    let last = &fragments.last().unwrap().changes;
    assert_eq!(last.last().unwrap().before(), Some(&row(2, 2, "b")));
    assert_eq!(last.last().unwrap().after(), Some(&row(2, 2, "c")));
}
