//! A transaction larger than what a bridge may hold, compressed into little, on a real server. By itself in
//! its file, since it measures the memory of its whole process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by it")]

#[path = "server/support.rs"]
mod support;

use pontoon_core::{LogEvent, TableName, node::Node};
use pontoon_servers::Kind;
use support::{map, next, node, root, run, set_up, start_with};

/// Rows, and what each takes: 128 MiB.
const ROWS: usize = 2048;
const ROW_BYTES: usize = 64 << 10;

/// What the process may grow by meanwhile: fragments, buffers, a window of zstd.
const MEMORY_KIB_MAX: u64 = 16 << 10;

#[tokio::test]
async fn a_compressed_transaction_is_never_held_whole() {
    let server = start_with(Kind::Mysql, &[("binlog_transaction_compression", "ON")]).await;
    let mut conn = root(&server).await;
    run(&mut conn, &["CREATE DATABASE large", "CREATE TABLE large.items (id int PRIMARY KEY, note longtext)"]).await;
    let node = node(&server, "large", "large");
    let tables = map(&node, &[TableName { schema: None, name: "items".into() }]).await;
    let mut reader = set_up(&node, &tables).await;
    let before = node.log_status(None).await.unwrap().end;
    run(
        &mut conn,
        &[
            "SET SESSION cte_max_recursion_depth = 100000",
            &format!(
                "INSERT INTO large.items WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS}) \
                 SELECT n, REPEAT(CHAR(65 + n % 26), {ROW_BYTES}) FROM s"
            ),
        ],
    )
    .await;
    let after = node.log_status(None).await.unwrap().end;
    assert!(after.bytes_since(&before).unwrap() < (ROWS * ROW_BYTES / 100) as u64, "it was not compressed");
    let memory = peak_kib();
    let mut rows = 0;
    let position = loop {
        if let LogEvent::Fragment(fragment) = next(&mut reader).await {
            rows += fragment.changes.len();
            if let Some(position) = fragment.position {
                break position;
            }
        }
    };
    assert_eq!((rows, position), (ROWS, after));
    let grown = peak_kib() - memory;
    eprintln!("{} MiB in {grown} KiB", (ROWS * ROW_BYTES) >> 20);
    assert!(grown < MEMORY_KIB_MAX, "{grown} KiB");
}

/// The most that this process has held.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
