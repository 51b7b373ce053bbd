//! Tables that come, go and change under a running reader.

use std::time::Instant;

use pontoon_core::{
    Code, LogEvent, Operation, Row, Value,
    change::Obstacle,
    node::{Admin, LogReader, Mark, Node, Severity},
};

use crate::support::{Bench, PATIENCE, names, next};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text, big text);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL; ALTER TABLE items REPLICA IDENTITY FULL";

const PARTED: &str =
    "CREATE TABLE items (id int, part int, note text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
    CREATE TABLE items_1 PARTITION OF items FOR VALUES IN (1);
    CREATE TABLE items_2 (note text, part int NOT NULL, id int NOT NULL);
    ALTER TABLE items ATTACH PARTITION items_2 FOR VALUES IN (2);
    ALTER TABLE items REPLICA IDENTITY FULL; ALTER TABLE items_1 REPLICA IDENTITY FULL;
    ALTER TABLE items_2 REPLICA IDENTITY FULL";

async fn operations(bench: &Bench, reader: &mut Box<dyn LogReader>) -> Vec<Operation> {
    let fragments = bench.fragments(reader).await.into_iter();
    fragments.flat_map(|fragment| fragment.changes).map(|change| change.operation).collect()
}

/// The next obstacle, which a mark brings if nothing else does.
async fn obstacle(bench: &Bench, reader: &mut Box<dyn LogReader>) -> Obstacle {
    bench.node.mark(Mark::Heartbeat).await.unwrap();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "no obstacle in time");
        match next(reader).await {
            LogEvent::Obstacle(obstacle) => return obstacle,
            LogEvent::Fragment(fragment) => panic!("{fragment:?}"),
            LogEvent::Progress(_) | LogEvent::Held(_) => {}
        }
    }
}

fn row(id: i128, part: i128, note: &str) -> Row {
    Row(vec![Value::Integer(id), Value::Integer(part), Value::Text(note.into())])
}

#[tokio::test]
async fn a_row_that_moves_to_another_partition_leaves_one_and_enters_the_other() {
    let bench = Bench::start(PARTED, &["items"]).await;
    let mut reader = bench.reader().await;
    bench.run("INSERT INTO items VALUES (1, 1, 'a'); UPDATE items SET part = 2").await;
    bench.run("UPDATE items_2 SET note = 'b'; DELETE FROM items_2").await;
    assert_eq!(
        operations(&bench, &mut reader).await,
        [
            Operation::Insert { after: row(1, 1, "a") },
            Operation::Delete { before: row(1, 1, "a") },
            Operation::Insert { after: row(1, 2, "a") },
            Operation::Update { before: row(1, 2, "a"), after: row(1, 2, "b"), unchanged: vec![] },
            Operation::Delete { before: row(1, 2, "b") },
        ]
    );
}

#[tokio::test]
async fn check_and_setup_see_a_partitioned_table_as_one() {
    let bench = Bench::start(PARTED, &["items"]).await;
    let schema = bench.node.describe(&names(&["items"])).await.unwrap().remove(0).unwrap();
    assert_eq!(schema.key, [0, 1], "the root's primary key");
    let blocking = async || -> Vec<(&str, String)> {
        let found = bench.node.findings(&bench.plan).await.unwrap().into_iter();
        let blocking = found.filter(|finding| finding.severity == Severity::Blocking);
        blocking.map(|finding| (finding.code, finding.subject)).collect()
    };
    assert_eq!(blocking().await, []);
    let warned = bench.node.findings(&bench.plan).await.unwrap();
    assert!(warned.iter().any(|finding| finding.code == "partitioned" && finding.subject.contains("public.items")));
    bench.run("CREATE TABLE items_3 PARTITION OF items FOR VALUES IN (3)").await;
    let found = blocking().await;
    assert!(found.len() == 1 && found[0].0 == "replica-identity" && found[0].1.contains("items_3"), "{found:?}");
    let published: i64 = bench.sql.query_one("SELECT count(*) FROM pg_publication_rel", &[]).await.unwrap().get(0);
    assert_eq!(published, 1, "the root stands for its partitions");
}

#[tokio::test]
async fn a_partition_that_logs_partial_rows_is_noticed() {
    let bench = Bench::start(PARTED, &["items"]).await;
    let mut reader = bench.reader().await;
    bench
        .run("CREATE TABLE items_3 PARTITION OF items FOR VALUES IN (3); ALTER TABLE items_3 REPLICA IDENTITY FULL")
        .await;
    bench.run("INSERT INTO items VALUES (1, 3, 'a')").await;
    bench.node.mark(Mark::Heartbeat).await.unwrap();
    assert_eq!(operations(&bench, &mut reader).await.len(), 1, "a partition may come");
    bench.run("CREATE TABLE items_4 PARTITION OF items FOR VALUES IN (4)").await;
    let found = obstacle(&bench, &mut reader).await;
    assert_eq!(found.error.code(), Code::RowImagePartial);
    assert!(found.error.message().contains("public.items"), "{}", found.error);
    bench.run("ALTER TABLE items_4 REPLICA IDENTITY FULL; INSERT INTO items VALUES (2, 4, 'a')").await;
    let mut reader = bench.reader().await;
    bench.node.mark(Mark::Heartbeat).await.unwrap();
    assert_eq!(operations(&bench, &mut reader).await.len(), 2);
}

#[tokio::test]
async fn a_value_that_the_log_left_out_is_never_null() {
    for statement in ["UPDATE items SET note = 'b'", "UPDATE items SET id = 2", "DELETE FROM items"] {
        let bench = Bench::start(ITEMS, &["items"]).await;
        let mut reader = bench.reader().await;
        bench.run("INSERT INTO items VALUES (1, 'a', repeat('x', 20000))").await;
        assert_eq!(operations(&bench, &mut reader).await.len(), 1);
        bench.run("ALTER TABLE items REPLICA IDENTITY DEFAULT").await;
        bench.run(statement).await;
        let found = obstacle(&bench, &mut reader).await;
        assert_eq!(found.error.code(), Code::RowImagePartial, "{statement}");
        assert!(found.error.message().contains("public.items"), "{}", found.error);
    }
}

#[tokio::test]
async fn tables_that_are_not_mapped_come_and_go() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    bench
        .run("CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1); ALTER TABLE more ADD note text")
        .await;
    bench
        .run(
            "BEGIN; ALTER TABLE more RENAME TO most; INSERT INTO most VALUES (2); INSERT INTO items VALUES (1); COMMIT",
        )
        .await;
    bench.run("CREATE TEMP TABLE passing AS SELECT * FROM items; TRUNCATE most; DROP TABLE most").await;
    bench.run("CREATE TABLE more (other text); INSERT INTO more VALUES ('x'); INSERT INTO items VALUES (2)").await;
    bench.run("ALTER PUBLICATION pontoon_shop_stock ADD TABLE more; INSERT INTO more VALUES ('y')").await;
    bench.run("ALTER TABLE more RENAME TO most; INSERT INTO most VALUES ('z'); DROP TABLE most").await;
    bench.node.mark(Mark::Heartbeat).await.unwrap();
    bench.run("INSERT INTO items VALUES (3)").await;
    assert_eq!(operations(&bench, &mut reader).await.len(), 3);
}

#[tokio::test]
async fn a_table_that_takes_a_mapped_ones_name_is_noticed() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    bench.run("CREATE TABLE items_new (LIKE items INCLUDING ALL); BEGIN; ALTER TABLE items RENAME TO items_old; ALTER TABLE items_new RENAME TO items; COMMIT").await;
    bench.run("INSERT INTO items VALUES (1)").await;
    let found = obstacle(&bench, &mut reader).await;
    assert_eq!(found.error.code(), Code::SchemaChanged);
    assert!(found.error.message().contains("public.items "), "{}", found.error);
}

#[tokio::test]
async fn a_mapped_table_that_is_dropped_is_named() {
    let bench = Bench::start(ITEMS, &["items"]).await;
    let mut reader = bench.reader().await;
    bench.run("DROP TABLE items").await;
    let found = obstacle(&bench, &mut reader).await;
    assert_eq!(found.error.code(), Code::SchemaChanged);
    assert!(found.error.message().contains("public.items "), "{}", found.error);
}
