//! What a row costs between reader and writer, for `scripts/bench-guard`: a backlog is queued, in memory or through the spill file,
//! and gathered and planned run by run.

use pontoon_core::{
    Change, Column, Error, Form, Fragment, Kind, LogEvent, MappedColumn, MappedTable, Operation, Origin, Position,
    Result, Row, TableId, TableName, Value, node::Tables,
};
use pontoon_corpus::counted;

use super::{
    gather::{Gathered, Gathering, gather},
    plan::{Hold, InLog, Net, Place, Planner},
    queue::{Limits, Queue},
};

/// Transactions of one row: inserts, and updates of a hundred hot rows.
const TRANSACTIONS: u64 = 4_000;
const HOT: u64 = 100;

fn tables() -> Tables {
    let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false };
    let number = Kind::Integer { min: i64::MIN.into(), max: i64::MAX.into() };
    let column = |name: &str, kind: &Kind, form: Form| {
        MappedColumn::new(Column::plain(name, "", kind.clone()), kind.clone(), form)
    };
    Tables::from([MappedTable {
        id: TableId(0),
        label: "items".into(),
        name: TableName::new("shop", "items"),
        columns: vec![
            column("id", &number, Form::Integer),
            column("name", &text, Form::Text { padded: false }),
            column("quantity", &number, Form::Integer),
            column("note", &text, Form::Text { padded: false }),
        ],
        key: vec![0],
        followed: true,
        uniques: Vec::new(),
        left: Vec::new(),
        references: Vec::new(),
        by_columns: false,
    }])
}

fn row(id: u64, quantity: u64) -> Row {
    Row(vec![
        Value::Integer(id.into()),
        Value::Text(format!("a thing of the kind number {id}").into()),
        Value::Integer(quantity.into()),
        Value::Text(format!("what somebody wrote about the thing with the number {id} in passing").into()),
    ])
}

/// The transaction of a number: inserts and updates in turn.
fn transaction(number: u64) -> LogEvent {
    let (hot, before) = (number % HOT, number / HOT);
    let operation = match number % 2 {
        0 => Operation::Insert { after: row(HOT + number, 0) },
        _ => Operation::update(row(hot, before), row(hot, before + 1), Vec::new()),
    };
    LogEvent::Fragment(Fragment {
        transaction: number.to_string().into(),
        origin: Origin::Local,
        commit_time: 0,
        first: true,
        changes: vec![Change { table: TableId(0), operation, reshaped: false }],
        position: Some(Position::Index(number)),
    })
}

/// Nothing is in quarantine.
struct Nothing;

impl Hold for Nothing {
    fn holds(&self, _: &Place) -> bool {
        false
    }

    fn store(&mut self, _: &Change, _: Vec<(Place, Net)>, _: InLog<'_>, _: Option<&Error>) -> Result<()> {
        unreachable!("nothing is held")
    }
}

/// Takes the backlog through a queue that may have so much in memory; how many rows come out of it.
fn through_queue(events: Vec<LogEvent>, memory_max: usize) -> usize {
    let (folder, tables) = (tempfile::tempdir().unwrap(), tables());
    let queue = Queue::new(Position::Index(0), Limits::new(memory_max, 1 << 30), folder.path());
    for event in events {
        queue.push(event).unwrap();
    }
    assert_eq!(queue.bytes().1 > 0, memory_max == 0, "what is spilled");
    let planner = Planner { target: &tables, policies: &[], settled: &|_, _| false };
    let how = Gathering { by_time: false, echoes: true, rows_max: usize::MAX, skips: &[] };
    let (mut at, mut rows) = (0, 0);
    while let Gathered::Run(run) = gather(&queue, at, how).unwrap() {
        let (pieces, next) = run.chunk(&queue, at).unwrap();
        let plan = planner.plan(&pieces, &mut Nothing).unwrap();
        for batch in plan.batches(&[]).iter().flat_map(|batches| batches.tables.values()) {
            rows += batch.inserts.len() + batch.updates.iter().map(|group| group.rows.len()).sum::<usize>();
        }
        at = next;
        queue.release(at);
    }
    rows
}

fn counted_through_queue(memory_max: usize) {
    let (mut events, mut rows): (Vec<LogEvent>, _) = ((0..TRANSACTIONS).map(transaction).collect(), 0);
    counted(&mut || rows = through_queue(std::mem::take(&mut events), memory_max));
    // Of each run every hot row is written once.
    let inserted = TRANSACTIONS as usize / 2;
    assert!(rows > inserted && rows < inserted + 10 * HOT as usize, "{rows} rows");
}

#[test]
fn a_backlog_is_planned() {
    counted_through_queue(64 << 20);
}

#[test]
fn a_backlog_is_spilled_and_planned() {
    counted_through_queue(0);
}
