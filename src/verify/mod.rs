//! Compares the rows of a pair of tables while both are written.
//!
//! # What is looked at
//!
//! Both servers are asked for the checksum of a *span* of keys ([`pontoon_core::digest`]); only spans that differ are
//! divided, and at last read row by row. Spans are cut by the keys that A has, the first begins before every key and the last
//! ends behind every one, so that no row of either side is outside of all. Two things have to be so, and where one is
//! not, a table is compared in another [`Way`]:
//!
//! | the tables' | is | and the table is compared |
//! | --- | --- | --- |
//! | columns | all of kinds with a canonical text: no floating point number, no document, and no fraction of a second that is cut but to whole seconds or to milliseconds | by checksums, [`Way::Databases`] |
//! | | else | by reading both sides span by span, [`Way::Bridge`] |
//! | key | of kinds that sort alike on both servers: whole and exact numbers, booleans, bytes, days, times, moments, UUIDs but MariaDB's own type | in one of these ways |
//! | | else: texts and labels, which sort by a collation or a declaration, and what is cut to the common form | by reading each side in its own order and looking its keys up on the other, [`Way::Keys`] |
//!
//! A key with a value that the other side cannot hold is no bound: a span goes on to the next key that can be one.
//!
//! # What counts
//!
//! A row that differs may only be on its way. So it is a suspect, and when it has been seen a *fence* is taken: the ends of
//! both logs, which both directions have to pass (`barrier`). All that made the two rows what they were was in the logs
//! by then. If they are still the same two rows behind the fence, nothing that was on its way has changed that, and nothing that
//! is on its way now was then: the difference stays. A row that has changed meanwhile gets another fence. Since a row may change
//! and change back, it has to be the same behind several fences (`STAYS`). One that is written all the time never is: it
//! is told as such, and is no difference.
//!
//! Where nobody works for the bridge no fence can be passed. Then a difference counts that stays over a pause, what is on its
//! way with it. A fence that is not passed in time ends the comparison, with no answer.
//!
//! # Bounds
//!
//! A server has `SESSIONS` statements at a time, each over a span of at most `SPAN_ROWS` rows of A; the bridge holds rows for
//! no longer than a statement's answer, and of as many as fit into `WIDTH_BYTES`; what is kept of a row is its key and a hash.

mod keys;
mod spans;
mod suspects;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Code, Error, Key, MappedTable, Result, Row, TableId,
    digest::is_digestible,
    node::{Node, Scan, Tables},
};
use tokio::time::{Instant, sleep_until};

use self::suspects::Suspect;
use crate::{
    mapping::Mapping,
    side::{Pair, Side},
};

/// Pairs of sessions, each of which works on a span of its own: a server and the other one seldom need the same time for
/// a span, and so neither waits.
const SESSIONS: usize = 2;

/// Differing rows that are remembered until a fence is passed; some more where several spans came back with them.
const SUSPECTS_MAX: usize = 5_000;

/// How often a row has to be found as it was, each time behind another fence. Once would do for rows that do not come
/// back to what they were.
const STAYS: u32 = 3;

/// Rows of a statement that reads, where they are narrow.
const READ_ROWS: usize = 1_000;

/// Rows of the first such statement: what a table of large rows may have in memory before its width is known.
const FIRST_ROWS: usize = 100;

/// Bytes that the rows of a statement are to have, on each side of each pair of sessions. Four times as much is a part of
/// the memory that a comparison may take.
const WIDTH_BYTES: usize = 4 << 20;

/// Differences that are kept to be shown; beyond it they are only counted.
pub const DIFFERENCES_MAX: usize = 1_000;

/// A session on each node.
type Scans = Pair<Box<dyn Scan>>;

/// How two rows of one key differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Only A has it.
    OnlyA,
    /// Only B has it.
    OnlyB,
    /// Both have it, with different values.
    Different,
}

/// A difference that stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The row's key.
    pub key: Key,
    /// How it differs.
    pub kind: Kind,
    /// The columns that differ, by their place, where both sides have the row.
    pub columns: Vec<usize>,
}

/// How a table is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By checksums that the databases compute.
    Databases,
    /// By reading both sides in the same order.
    Bridge,
    /// By reading each side and looking up its keys on the other.
    Keys,
}

/// What a comparison of one pair of tables found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// How it was compared.
    pub way: Way,
    /// Rows on each side.
    pub rows: Pair<u64>,
    /// Rows that differ and stay so, in the order of their keys, up to [`DIFFERENCES_MAX`] of them or as many as were wanted.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub different: u64,
    /// How many of these only one side has.
    pub only: Pair<u64>,
    /// Rows that were never twice the same while they were looked at.
    pub still_written: u64,
    /// No fence was taken, since nobody works for the bridge: what is on its way counts as different.
    pub unfenced: bool,
}

/// What a comparison may ask of the servers and of whoever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a fence is waited for.
    pub timeout: Duration,
    /// Rows of a side that are looked at in a second; `None` for as many as they can.
    pub rows_per_second: Option<NonZeroU64>,
}

/// Compares tables on two nodes.
pub struct Comparison {
    nodes: Pair<Arc<dyn Node>>,
    tables: Pair<Tables>,
    reads: Pair<bool>,
    limits: Limits,
    /// Differences of a table that are kept.
    keep: usize,
    /// Those that nothing is asked of now.
    idle: Vec<Scans>,
}

impl Comparison {
    /// Opens sessions that read on each node.
    pub async fn open(nodes: &Pair<Arc<dyn Node>>, mapping: &Mapping, limits: Limits) -> Result<Self> {
        let tables = Pair::from_fn(|side| mapping.tables[side].clone());
        let mut idle = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            let open = async |side: Side| {
                let node = &nodes[side];
                node.open_scan(&tables[side]).await.map_err(|error| error.at(node.name()))
            };
            let (a, b) = tokio::try_join!(open(Side::A), open(Side::B))?;
            idle.push(Pair::new(a, b));
        }
        let (nodes, reads) = (Pair::from_fn(|side| nodes[side].clone()), mapping.reads);
        Ok(Comparison { nodes, tables, reads, limits, keep: DIFFERENCES_MAX, idle })
    }

    /// The same, and so many differences of a table are kept.
    pub fn keeping(self, keep: usize) -> Self {
        Comparison { keep, ..self }
    }

    /// Compares one pair of tables; `None` where a fence was not passed in time. After an error it is of no more use.
    pub async fn table(&mut self, table: TableId) -> Result<Option<Compared>> {
        let way = self.way(table);
        let mut found = Found::new(way, self.limits.rows_per_second);
        let done = match way {
            Way::Databases | Way::Bridge => self.by_spans(table, &mut found).await?,
            Way::Keys => self.by_keys(table, &mut found).await?,
        };
        found.compared.differences.sort();
        Ok(done.then_some(found.compared))
    }

    /// Decided of both sides alike, by what they say of themselves.
    fn way(&self, table: TableId) -> Way {
        let ordered = |scans: &Scans| scans.iter().all(|scan| scan.keeps_common_order(table));
        let is_digestible = Side::BOTH.into_iter().all(|side| is_digestible(self.of(side, table)));
        match self.idle.first() {
            Some(scans) if ordered(scans) && is_digestible => Way::Databases,
            Some(scans) if ordered(scans) => Way::Bridge,
            _ => Way::Keys,
        }
    }

    fn of(&self, side: Side, table: TableId) -> &MappedTable {
        &self.tables[side][table.index()]
    }
}

/// What is found while a table is gone through.
struct Found {
    compared: Compared,
    suspects: Vec<Suspect>,
    width: Width,
    pace: Pace,
}

impl Found {
    fn new(way: Way, rows_per_second: Option<NonZeroU64>) -> Found {
        let compared = Compared {
            way,
            rows: Pair::default(),
            differences: Vec::new(),
            different: 0,
            only: Pair::default(),
            still_written: 0,
            unfenced: false,
        };
        Found { compared, suspects: Vec::new(), width: Width(FIRST_ROWS), pace: Pace::new(rows_per_second) }
    }

    /// Rows of each side that have been gone through.
    fn passed(&mut self, rows: Pair<u64>) {
        for side in Side::BOTH {
            self.compared.rows[side] += rows[side];
        }
        self.pace.rows += rows.iter().copied().max().unwrap_or_default();
    }
}

impl Compared {
    fn add(&mut self, key: Key, kind: Kind, columns: Vec<usize>, keep: usize) {
        match kind {
            Kind::OnlyA => self.only[Side::A] += 1,
            Kind::OnlyB => self.only[Side::B] += 1,
            Kind::Different => {}
        }
        self.different += 1;
        if self.differences.len() < keep {
            self.differences.push(Difference { key, kind, columns });
        }
    }
}

/// How many rows a statement reads, by the width of those that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Width(usize);

impl Width {
    fn saw<'a>(&mut self, rows: impl IntoIterator<Item = &'a Row>) {
        let (mut count, mut bytes) = (0_usize, 0);
        for row in rows {
            (count, bytes) = (count + 1, bytes + row.memory_bytes());
        }
        if let Some(each) = bytes.checked_div(count) {
            self.0 = (WIDTH_BYTES / each.max(1)).clamp(1, READ_ROWS);
        }
    }
}

/// Waits where rows are looked at faster than is wanted.
struct Pace {
    per_second: Option<NonZeroU64>,
    began: Instant,
    rows: u64,
}

impl Pace {
    fn new(per_second: Option<NonZeroU64>) -> Pace {
        Pace { per_second, began: Instant::now(), rows: 0 }
    }

    async fn keep(&self) {
        if let Some(per_second) = self.per_second {
            sleep_until(self.began + Duration::from_secs_f64(self.rows as f64 / per_second.get() as f64)).await;
        }
    }
}

/// A pair of sessions of which nothing is asked now.
fn first(idle: &mut [Scans]) -> Result<&mut Scans> {
    idle.first_mut().ok_or_else(|| Error::new(Code::Internal, "every session is at work"))
}

/// What is kept of a row to tell whether it is still the same.
fn fingerprint(row: &Row) -> u64 {
    let mut hasher = DefaultHasher::new();
    row.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;

    use super::*;

    #[test]
    fn the_width_is_that_of_the_rows() {
        let rows = |bytes: usize| vec![Row(vec![Value::Text("x".repeat(bytes).into())]); 3];
        let mut width = Width(FIRST_ROWS);
        for (bytes, expected) in [(10, READ_ROWS), (1 << 20, 3), (100 << 20, 1)] {
            width.saw(&rows(bytes));
            assert_eq!(width.0, expected, "{bytes}");
        }
        width.saw(&rows(1)[..0]);
        assert_eq!(width.0, 1, "nothing says nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept() {
        let mut pace = Pace::new(NonZeroU64::new(1_000));
        pace.rows = 2_500;
        pace.keep().await;
        assert_eq!(pace.began.elapsed().as_millis(), 2_500);
        Pace::new(None).keep().await;
    }
}
