//! The task that reads the chunks of a direction's copies ahead of the one who writes them.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    CopyState, Position, Result, Row, TableId,
    node::{Mark, Scan, Settled},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::window::Window;
use crate::{bridge::Shared, side::Side};

/// How often is looked whether a copy was asked for: soon enough for somebody who waits for it to begin, at the cost
/// of one statement.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of rows that a chunk aims at: what is written in some tens of milliseconds, while the log waits. With more of them three in memory, and what
/// is made of them on their way, come near to the 100 MB that a copy is to keep within.
const CHUNK_BYTES: usize = 3 << 20;

/// Rows of a chunk, however small they are: their keys are kept in several sets while it is written.
const CHUNK_ROWS_MAX: usize = 20_000;

/// Rows of the first chunk of a table, of which it is not known how wide its rows are.
const FIRST_ROWS: usize = 500;

/// How much more a chunk may ask for than the one before, lest some wide rows after many small ones fill the memory.
const GROWTH: usize = 4;

/// Bytes of log that wait to be applied, beyond which no chunk is read: it would wait for them, and more of its keys
/// would have been touched.
const BACKLOG_MAX: u64 = 1 << 20;

/// How often is looked whether they have been.
const BACKLOG_EVERY: Duration = Duration::from_millis(20);

/// Chunks that are read and not yet taken. With the one being written and the one being read there are three in
/// memory.
pub(crate) const AHEAD_MAX: usize = 1;

/// Rows of one table that have been read on the source.
pub(crate) struct Chunk {
    pub(super) table: TableId,
    /// In the source's own key order.
    pub(super) rows: Vec<Row>,
    /// Where the source's log ended when they had been read.
    pub(super) end: Position,
    /// Open since before they were.
    pub(super) window: Arc<Window>,
    /// How far the copy is once they have arrived.
    pub(super) then: CopyState,
    /// Somebody waits for the last one to arrive.
    pub(super) arrived: Option<oneshot::Sender<()>>,
}

impl Chunk {
    /// How many there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Where the source's log has to be applied up to before the rows may be written.
    pub(crate) fn end(&self) -> &Position {
        &self.end
    }
}

/// Feeds the copies from `source` until something fails.
pub(crate) async fn run(shared: Arc<Shared>, source: Side, chunks: mpsc::Sender<Chunk>) -> Result<()> {
    let target = source.other();
    loop {
        let copies = shared.nodes[target].copies(&shared.tables[target]).await?;
        let followed = |copy: &&CopyState| {
            !copy.done && shared.tables[source].get(copy.table.index()).is_some_and(|table| table.followed)
        };
        if let Some(copy) = copies.iter().find(followed) {
            shared.underway.note(copy);
            let scan = shared.nodes[source].open_scan(&shared.tables[source]).await?;
            let feed = Feed { shared: shared.clone(), source, scan, limit: shared.chunk_rows.unwrap_or(FIRST_ROWS) };
            feed.table(copy.clone(), &chunks).await?;
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
}

struct Feed {
    shared: Arc<Shared>,
    source: Side,
    scan: Box<dyn Scan>,
    limit: usize,
}

impl Feed {
    /// Reads a table to its end. Returns when its last chunk has arrived.
    async fn table(mut self, mut at: CopyState, chunks: &mpsc::Sender<Chunk>) -> Result<()> {
        loop {
            let mut chunk = self.chunk(&at).await?;
            at = chunk.then.clone();
            let (arrived, last) = oneshot::channel();
            chunk.arrived = at.done.then_some(arrived);
            // Where nobody takes it any more, or it never arrives, the session is at its end.
            if chunks.send(chunk).await.is_err() || at.done && last.await.is_err() {
                return std::future::pending().await;
            }
            if at.done {
                return Ok(());
            }
        }
    }

    async fn chunk(&mut self, at: &CopyState) -> Result<Chunk> {
        let node = &self.shared.nodes[self.source];
        let waiting = || self.shared.queues[self.source].bytes();
        while waiting().0 as u64 + waiting().1 > BACKLOG_MAX {
            sleep(BACKLOG_EVERY).await;
        }
        let window = self.shared.windows[self.source].open(at.table);
        let Settled { rows, up_to } = self.scan.settled_chunk(at.table, at.after.as_ref(), self.limit).await?;
        let end = node.log_status(None).await?.end;
        node.mark(Mark::Heartbeat).await?;
        let table = &self.shared.tables[self.source][at.table.index()];
        let then = CopyState {
            done: up_to.is_none(),
            after: up_to.or_else(|| rows.last().map(|row| table.key_of(row))).or_else(|| at.after.clone()),
            rows: at.rows + rows.len() as u64,
            ..at.clone()
        };
        self.adapt(&rows);
        Ok(Chunk { table: at.table, rows, end, window, then, arrived: None })
    }

    /// Asks for as many rows as fit the aim, as wide as those that came.
    fn adapt(&mut self, rows: &[Row]) {
        if rows.is_empty() || self.shared.chunk_rows.is_some() {
            return;
        }
        let bytes: usize = rows.iter().map(Row::memory_bytes).sum();
        let fitting = CHUNK_BYTES / (bytes / rows.len()).max(1);
        self.limit = fitting.clamp(1, (self.limit * GROWTH).min(CHUNK_ROWS_MAX));
    }
}
