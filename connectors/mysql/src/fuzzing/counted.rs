//! What a row costs in this connector, for `scripts/bench-guard`: logs of real servers, read over and over, and rows made into
//! statements.

use pontoon_core::{
    Row, Value,
    node::{TableBatch, UpdateGroup},
};
use pontoon_corpus::{counted, input};

use super::*;
use crate::statement::tests::items;

/// So often a log is read: what is done once counts for nothing.
const TIMES: usize = 100;

/// Rows to write.
const ROWS: i128 = 2_000;

fn read_over_and_over(name: &str) {
    let log = input("binlog", name);
    let (flavour, events) = log.split_first().unwrap();
    let (log, mut changes) = ([&[*flavour], &events.repeat(TIMES)[..]].concat(), 0);
    let mut look = |event: &LogEvent, _: &mut Read, _: &Tables| {
        if let LogEvent::Fragment(fragment) = event {
            changes += fragment.changes.len();
        }
    };
    counted(&mut || {
        read_with(&log, &mut look).unwrap();
    });
    assert!(changes >= 4 * TIMES, "{changes} changes");
}

#[test]
fn a_log_of_mariadb_is_read() {
    read_over_and_over("mariadb-rows");
}

#[test]
fn a_log_of_mysql_is_read() {
    read_over_and_over("mysql-rows");
}

#[test]
fn rows_are_made_into_statements() {
    let row = |id: i128, name: &str| {
        Row(vec![Value::Integer(id), Value::Text(format!("{name} of the {id}'th").into()), Value::Null])
    };
    let updates = (0..ROWS).map(|id| (row(id, "the name"), row(id, "another name"))).collect();
    let batch = TableBatch {
        updates: vec![UpdateGroup { changed: vec![1], rows: updates, ..UpdateGroup::default() }],
        inserts: (ROWS..2 * ROWS).map(|id| row(id, "the name")).collect(),
        deletes: Vec::new(),
    };
    let (table, mut bytes) = (items(Flavour::Mariadb), 0);
    counted(&mut || {
        bytes = table
            .changes(&batch)
            .chain(table.inserted(&batch.inserts))
            .map(|statement| statement.unwrap().sql.len())
            .sum()
    });
    assert!(bytes > 50 * ROWS as usize, "{bytes} bytes");
}
