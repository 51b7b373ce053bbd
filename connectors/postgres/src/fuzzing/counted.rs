//! What a row costs in this connector, for `scripts/bench-guard`: a log of a real server, read over and over, and its rows made into the
//! parameters of statements.

use bytes::BytesMut;
use pontoon_core::Row;
use pontoon_corpus::{counted, input};
use tokio_postgres::types::{ToSql, Type};

use super::*;

/// So often the log is read: what is done once counts for nothing.
const TIMES: usize = 100;

fn log() -> Vec<u8> {
    input("pgoutput", "rows").repeat(TIMES)
}

/// The rows of the log, before and after.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut look = |event: &LogEvent, _: &mut Read, _: &Tables| {
        let LogEvent::Fragment(fragment) = event else { return };
        rows.extend(fragment.changes.iter().flat_map(|change| [change.before(), change.after()]).flatten().cloned());
    };
    read_with(&log(), &mut look).unwrap();
    rows
}

#[test]
fn a_log_is_read() {
    let (log, mut changes) = (log(), 0);
    let mut look = |event: &LogEvent, _: &mut Read, _: &Tables| {
        if let LogEvent::Fragment(fragment) = event {
            changes += fragment.changes.len();
        }
    };
    counted(&mut || {
        read_with(&log, &mut look).unwrap();
    });
    assert!(changes >= 5 * TIMES, "{changes} changes");
}

#[test]
fn rows_are_made_into_parameters() {
    let (tables, rows) = (tables(), rows());
    let mut sent = BytesMut::new();
    counted(&mut || {
        for (at, column) in tables[0].columns.iter().enumerate() {
            let mut array = Array::new(column);
            for row in &rows {
                // Some of what the log holds fits into no column.
                let _ = array.push(column, &row.0[at]);
            }
            array.to_sql(&Type::TEXT_ARRAY, &mut sent).unwrap();
        }
    });
    assert!(sent.len() > 100 * rows.len(), "{} bytes of {} rows", sent.len(), rows.len());
}
