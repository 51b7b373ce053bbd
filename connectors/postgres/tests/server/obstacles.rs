//! What stops a reader: before its first event, and in the middle of the log.

use pontoon_core::{
    Change, Checkpoint, Code, LogEvent, LogIdentity, Position, Value,
    change::Obstacle,
    node::{Mark, Node, PassedOver},
};

use crate::support::{Bench, map, names, next};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL";

async fn refusal(bench: &Bench, start: &Checkpoint) -> pontoon_core::Error {
    match bench.node.open_reader(start, bench.tables(), &PassedOver::default()).await {
        Ok(_) => panic!("the reader was opened"),
        Err(error) => error,
    }
}

async fn obstacle(bench: &Bench) -> Obstacle {
    let mut reader = bench.reader().await;
    match bench.read(&mut reader).await.pop() {
        Some(LogEvent::Obstacle(obstacle)) => {
            assert!(reader.next().await.is_err());
            obstacle
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_or_moved_slot_is_said_with_the_gap() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1)").await;
    let end = bench.node.log_status(None).await.unwrap().end;
    bench.run(&format!("SELECT pg_replication_slot_advance('pontoon_shop_stock', '{end}')")).await;
    let error = refusal(&bench, &bench.start).await;
    assert_eq!(error.code(), Code::LogLost);
    assert!(
        error.message().contains(&end.to_string()) && error.message().contains(&bench.start.position.to_string()),
        "{error}"
    );

    bench.run("SELECT pg_drop_replication_slot('pontoon_shop_stock')").await;
    assert_eq!(refusal(&bench, &bench.start).await.code(), Code::LogLost);
    // Made anew by somebody: it looks well, and has a gap.
    bench.run("SELECT pg_create_logical_replication_slot('pontoon_shop_stock', 'pgoutput')").await;
    assert_eq!(refusal(&bench, &bench.start).await.code(), Code::LogLost);
    bench.run("SELECT pg_drop_replication_slot('pontoon_shop_stock')").await;
    bench.run("SELECT pg_create_logical_replication_slot('pontoon_shop_stock', 'test_decoding')").await;
    assert_eq!(refusal(&bench, &bench.start).await.code(), Code::LogLost);
}

#[tokio::test]
async fn a_slot_beyond_the_servers_limit_is_lost() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    for _ in 0..6 {
        bench.run("INSERT INTO items SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 15000) n; DELETE FROM items; SELECT pg_switch_wal()").await;
    }
    bench.run("CHECKPOINT").await;
    let error = refusal(&bench, &bench.start).await;
    assert_eq!(error.code(), Code::LogLost, "{error}");
    assert!(error.message().contains("invalidated"), "{error}");
}

#[tokio::test]
async fn another_log_is_never_compared() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let other = Checkpoint { log: LogIdentity("postgres:1:1".into()), ..bench.start.clone() };
    assert_eq!(refusal(&bench, &other).await.code(), Code::LogIdentityChanged);
    let ahead = Checkpoint { position: Position::Lsn(u64::MAX / 2), ..bench.start.clone() };
    assert_eq!(refusal(&bench, &ahead).await.code(), Code::LogBehind);
    let binlog = Checkpoint { position: "b.000001:4".parse().unwrap(), ..bench.start.clone() };
    assert_eq!(refusal(&bench, &binlog).await.code(), Code::LogIdentityChanged);
}

#[tokio::test]
async fn a_publication_without_its_tables_is_not_read() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("ALTER PUBLICATION pontoon_shop_stock SET (publish = 'insert')").await;
    assert_eq!(refusal(&bench, &bench.start).await.code(), Code::NotSetUp);
    bench.run("ALTER PUBLICATION pontoon_shop_stock SET (publish = 'insert, update, delete, truncate')").await;
    bench.run("ALTER PUBLICATION pontoon_shop_stock DROP TABLE items").await;
    let error = refusal(&bench, &bench.start).await;
    assert_eq!(error.code(), Code::NotSetUp);
    assert!(error.message().contains("public.items"));
    bench.run("DROP PUBLICATION pontoon_shop_stock").await;
    assert_eq!(refusal(&bench, &bench.start).await.code(), Code::NotSetUp);
}

#[tokio::test]
async fn a_table_that_falls_out_of_the_publication_is_noticed() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    bench.run("CREATE TABLE more (id int PRIMARY KEY); ALTER PUBLICATION pontoon_shop_stock ADD TABLE more").await;
    bench.fragments(&mut reader).await;
    bench.run("DROP TABLE items").await;
    bench.run(ITEMS).await;
    bench.run("INSERT INTO items VALUES (1)").await;
    // The next mark says so.
    bench.node.mark(Mark::Heartbeat).await.unwrap();
    let obstacle = loop {
        match next(&mut reader).await {
            LogEvent::Obstacle(obstacle) => break obstacle,
            LogEvent::Fragment(fragment) => panic!("{fragment:?}"),
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
        }
    };
    assert_eq!(obstacle.error.code(), Code::SchemaChanged);
}

#[tokio::test]
async fn a_partial_image_stops_and_can_be_skipped() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1, 'a')").await;
    bench.run("ALTER TABLE items REPLICA IDENTITY DEFAULT").await;
    bench.run("UPDATE items SET note = 'b'").await;
    let found = obstacle(&bench).await;
    assert_eq!(found.error.code(), Code::RowImagePartial);
    assert!(found.error.remedy().unwrap().contains("ALTER TABLE \"public\".\"items\" REPLICA IDENTITY FULL"));
    let behind = bench.node.log_status(None).await.unwrap().end;
    bench.run("ALTER TABLE items REPLICA IDENTITY FULL; INSERT INTO items VALUES (2, 'c')").await;
    let skips = [found.position.clone()];
    let mut reader = bench.node.open_reader(&bench.start, bench.tables(), &PassedOver::skips(&skips)).await.unwrap();
    assert_eq!(bench.fragments(&mut reader).await.len(), 2);
    drop(reader);
    // As it is where the table counts from behind it, or from a place before.
    let table = bench.tables()[0].id;
    let passed = |up_to: &Position| PassedOver { since: vec![(table, up_to.clone())], ..PassedOver::default() };
    let mut reader = bench.node.open_reader(&bench.start, bench.tables(), &passed(&behind)).await.unwrap();
    assert_eq!(bench.fragments(&mut reader).await.len(), 2);
    drop(reader);
    let before = passed(&bench.start.position);
    let mut reader = bench.node.open_reader(&bench.start, bench.tables(), &before).await.unwrap();
    while !matches!(reader.next().await.unwrap(), LogEvent::Obstacle(_)) {}
    drop(reader);
    use pontoon_core::node::Admin;
    bench.node.skip(&found.position).await.unwrap();
    bench.node.skip(&found.position).await.unwrap();
    assert_eq!(bench.node.state(bench.tables()).await.unwrap().skips, skips);
}

#[tokio::test]
async fn a_delete_by_key_alone_stops() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("ALTER TABLE items REPLICA IDENTITY DEFAULT; INSERT INTO items VALUES (1, 'a')").await;
    bench.run("DELETE FROM items").await;
    assert_eq!(obstacle(&bench).await.error.code(), Code::RowImagePartial);
}

#[tokio::test]
async fn a_truncate_stops() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1, 'a')").await;
    bench.run("TRUNCATE items").await;
    let found = obstacle(&bench).await;
    assert_eq!(found.error.code(), Code::TruncateSeen);
    assert!(found.error.message().contains("public.items"));
}

#[tokio::test]
async fn a_schema_change_stops_the_running_reader_and_passes_after_a_restart() {
    const CHANGES: [&str; 5] =
        ["ADD more int", "ALTER id TYPE bigint", "DROP note", "RENAME note TO notes", "RENAME TO other"];
    let tables: Vec<_> = (0..CHANGES.len()).map(|at| format!("t{at}")).collect();
    let ddl: Vec<_> = tables.iter().map(|table| ITEMS.replace("items", table)).collect();
    let mut bench = Bench::start(&ddl.join(";"), &tables.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for (table, change) in tables.iter().zip(CHANGES) {
        bench.plan.tables = map(&bench.node, &names(&[table]), &[]).await;
        bench.start.position = bench.node.log_status(None).await.unwrap().end;
        let mut reader = bench.reader().await;
        bench.run(&format!("INSERT INTO {table} VALUES (1, 'a')")).await;
        bench.run(&format!("ALTER TABLE {table} {change}")).await;
        let name = if change.starts_with("RENAME TO") { "other" } else { table };
        bench.run(&format!("INSERT INTO {name} (id) VALUES (2)")).await;
        let events = bench.read(&mut reader).await;
        assert!(events.iter().any(|event| matches!(event, LogEvent::Fragment(_))), "{change}");
        let Some(LogEvent::Obstacle(found)) = events.last() else { panic!("{change}: {events:?}") };
        assert_eq!(found.error.code(), Code::SchemaChanged, "{change}");
        drop(reader);
        // With the old schema still loaded, the change is seen before the first event.
        let old = bench.node.open_reader(&bench.start, bench.tables(), &PassedOver::default()).await;
        assert_eq!(old.err().unwrap().code(), Code::SchemaChanged, "{change}");
    }
}

#[tokio::test]
async fn a_change_of_type_before_the_schema_was_loaded_passes() {
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    bench.run("INSERT INTO items VALUES (1, 'a')").await;
    bench.run("ALTER TABLE items ALTER id TYPE bigint, ALTER note TYPE varchar(10)").await;
    bench.run("INSERT INTO items VALUES (2, 'b')").await;
    bench.plan.tables = map(&bench.node, &names(&["items"]), &[]).await;
    let mut reader = bench.reader().await;
    assert_eq!(bench.fragments(&mut reader).await.len(), 2);
}

/// What rows that were logged before hold in a column that was added: known, or to be asked of the row itself.
#[tokio::test]
async fn a_column_that_was_added_before_the_schema_was_loaded() {
    const CHANGES: [(&[&str], Option<Value>); 6] = [
        (&["ADD more int"], Some(Value::Null)),
        (&["ADD more int NOT NULL DEFAULT 5"], Some(Value::Integer(5))),
        // The constant is the one that it was added with, whatever is given now.
        (&["ADD more int DEFAULT 5", "ALTER more SET DEFAULT 6"], Some(Value::Integer(5))),
        (&["ADD more int DEFAULT 5", "ALTER more DROP DEFAULT"], Some(Value::Integer(5))),
        (&["ADD more int DEFAULT (random() * 9)::int"], None),
        // Written anew: each row has the constant, and nothing tells it any more.
        (&["ADD more int DEFAULT 5", "ALTER more DROP DEFAULT", "ALTER note TYPE char(3)"], None),
    ];
    let mut bench = Bench::start(ITEMS, &["items"]).await;
    for (changes, holds) in CHANGES {
        bench.run("INSERT INTO items VALUES (1, 'a')").await;
        for change in changes {
            bench.run(&format!("ALTER TABLE items {change}")).await;
        }
        bench.run("INSERT INTO items VALUES (2, 'b', 7)").await;
        bench.plan.tables = map(&bench.node, &names(&["items"]), &[]).await;
        let mut reader = bench.reader().await;
        let read: Vec<_> = bench.fragments(&mut reader).await.into_iter().flat_map(|read| read.changes).collect();
        let [old, new] = &read[..] else { panic!("{changes:?}: {read:?}") };
        assert_eq!((old.reshaped, new.reshaped), (holds.is_none(), false), "{changes:?}");
        let after = |change: &Change| change.after().unwrap().0[2].clone();
        assert_eq!((after(old), after(new)), (holds.unwrap_or(Value::Null), Value::Integer(7)), "{changes:?}");
        drop(reader);
        bench.run("DROP TABLE items").await;
        bench.run(ITEMS).await;
        bench.run("ALTER PUBLICATION pontoon_shop_stock ADD TABLE items").await;
        bench.start.position = bench.node.log_status(None).await.unwrap().end;
    }
}
