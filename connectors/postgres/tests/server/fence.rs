//! The fence: taken under a row's lock, it covers the last write of that row, and a mark makes the
//! reader pass it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pontoon_core::{
    Key, LogEvent, Position, Row, Value,
    node::{Mark, Node},
};

use crate::support::{Bench, DATABASE, connect, next, position_of};

/// Fences taken; the writers make some hundred transactions a second meanwhile.
const FENCES: usize = 100;

const WRITERS: i32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_covers_the_last_write_of_the_locked_row() {
    let bench = Bench::start(
        "CREATE TABLE items (id int PRIMARY KEY, note text); ALTER TABLE items REPLICA IDENTITY FULL; INSERT INTO items VALUES (1, '')",
        &["items"],
    )
    .await;
    let mut reader = bench.reader().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (sql, over) = (connect(&bench.server, DATABASE).await, over.clone());
        writers.push(tokio::spawn(async move {
            // Some without a flush of their own: the mark has to see to it.
            sql.batch_execute(if writer % 2 == 0 {
                "SET synchronous_commit = off"
            } else {
                "SET synchronous_commit = on"
            })
            .await
            .unwrap();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                sql.batch_execute(&format!("UPDATE items SET note = '{writer}.{number}' WHERE id = 1")).await.unwrap();
            }
        }));
    }
    let mut session = bench.session().await;
    let table = bench.tables()[0].id;
    let key = [Key(vec![Value::Integer(1)])];
    let mut fences: Vec<(Position, Row)> = Vec::new();
    let taking = async {
        while fences.len() < FENCES {
            session.begin(None).await.unwrap();
            match session.lock(table, &key).await {
                Ok(rows) => {
                    let fence = session.fence().await.unwrap();
                    assert_eq!(session.read(table, &key).await.unwrap(), rows);
                    fences.push((fence, rows[0].clone().unwrap()));
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            session.rollback().await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        // The last fence alone is covered by nothing that is written after it, but by this.
        bench.node.mark(Mark::Heartbeat).await.unwrap();
        fences
    };
    // The reader is never made to wait, as the engine never does.
    let (enough, mut stop) = tokio::sync::oneshot::channel::<Position>();
    let reading = async {
        let mut events = Vec::new();
        let mut until: Option<Position> = None;
        loop {
            let event = next(&mut reader).await;
            let position = position_of(&event);
            events.push(event);
            if until.is_none() {
                until = stop.try_recv().ok();
            }
            if let (Some(until), Some(position)) = (&until, position)
                && position.covers(until)
            {
                return events;
            }
        }
    };
    let taking = async {
        let fences: Vec<(Position, Row)> = taking.await;
        enough.send(fences.last().unwrap().0.clone()).unwrap();
        fences
    };
    let (fences, events) = tokio::join!(taking, reading);
    for writer in writers {
        writer.await.unwrap();
    }
    let mut writes: Vec<(Position, Row)> = Vec::new();
    for event in events {
        if let LogEvent::Fragment(fragment) = event {
            let row = fragment.changes.last().unwrap().after().unwrap().clone();
            writes.push((fragment.position.unwrap(), row));
        }
    }
    assert!(writes.windows(2).all(|pair| pair[1].0.covers(&pair[0].0)));
    for (fence, row) in fences {
        let last = writes.iter().rev().find(|(position, _)| fence.covers(position));
        let expected = last.map_or(&Value::Text("".into()), |(_, row)| &row.0[1]).clone();
        assert_eq!(expected, row.0[1], "fence {fence}");
    }
}
