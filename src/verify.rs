//! Compares the rows of a pair of tables while both are written.
//!
//! Rows are read in chunks in A's own key order and looked up by key on B, then B's keys are looked up on
//! A, so that no order has to be the same on two servers. A row that differs may only be on its way: it
//! is looked at again after a pause, and reported only if it still differs, in the same way, when
//! nothing that was on its way then can be any more.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Key, MappedTable, Result, Row, TableId,
    node::{Node, Scan, Tables},
};
use tokio::time::sleep;

use crate::side::{Pair, Side};

/// Rows of a chunk: one statement on each side.
const CHUNK_ROWS: usize = 1_000;

/// How often a differing row is looked at again, and the pause between: together longer than rows are on
/// their way on a link that keeps up.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Differing rows that are remembered for another look at a time.
const SUSPECTS_MAX: usize = 5_000;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The row's key.
    pub key: Key,
    /// How it differs.
    pub kind: Kind,
    /// The columns that differ, by their place, where both sides have the row.
    pub columns: Vec<usize>,
}

/// What a comparison of one pair of tables found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// Rows read on each side.
    pub rows: Pair<u64>,
    /// Rows that differ and stay so, up to [`DIFFERENCES_MAX`] of them or as many as were wanted.
    pub differences: Vec<Difference>,
    /// How many there are in all.
    pub different: u64,
}

/// Differences that are kept to be shown; beyond it they are only counted.
pub const DIFFERENCES_MAX: usize = 1_000;

/// Compares tables on two nodes.
pub struct Comparison {
    scans: Pair<Box<dyn Scan>>,
    /// Differences of a table that are kept.
    keep: usize,
}

impl Comparison {
    /// Opens a reading session on each node.
    pub async fn open(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<Self> {
        let open =
            async |side: Side| nodes[side].open_scan(&tables[side]).await.map_err(|error| error.at(nodes[side].name()));
        let scans = Pair::new(open(Side::A).await?, open(Side::B).await?);
        Ok(Comparison { scans, keep: DIFFERENCES_MAX })
    }

    /// The same, and so many differences of a table are kept.
    pub fn keeping(self, keep: usize) -> Self {
        Comparison { keep, ..self }
    }

    /// Compares one pair of tables.
    pub async fn table(&mut self, table: &MappedTable) -> Result<Compared> {
        let mut compared = Compared::default();
        for side in Side::BOTH {
            let (mut after, mut suspects): (Option<Key>, Vec<Key>) = (None, Vec::new());
            loop {
                let rows = self.scans[side].chunk(table.id, after.as_ref(), CHUNK_ROWS).await?;
                compared.rows[side] += rows.len() as u64;
                let keys: Vec<Key> = rows.iter().map(|row| table.key_of(row)).collect();
                let others = self.scans[side.other()].rows(table.id, &keys).await?;
                // What both sides have is compared once, on the way through A.
                let suspect = |(row, other): (&Row, &Option<Row>)| match other {
                    Some(other) => side == Side::A && row != other,
                    None => true,
                };
                let differing = keys.iter().zip(rows.iter().zip(&others)).filter(|(_, pair)| suspect(*pair));
                suspects.extend(differing.map(|(key, _)| key.clone()));
                after = keys.into_iter().last();
                if suspects.len() >= SUSPECTS_MAX || after.is_none() {
                    self.look_again(table.id, std::mem::take(&mut suspects), &mut compared).await?;
                }
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(compared)
    }

    /// Looks at differing rows until they agree, or stay as they are for all looks.
    async fn look_again(&mut self, table: TableId, keys: Vec<Key>, compared: &mut Compared) -> Result<()> {
        let mut suspects: Vec<(Key, Pair<Option<Row>>, u32)> = Vec::new();
        for (key, rows) in self.both(table, keys).await? {
            suspects.push((key, rows, 0));
        }
        let mut looks = 0;
        while !suspects.is_empty() {
            looks += 1;
            suspects.retain(|(_, rows, _)| rows[Side::A] != rows[Side::B]);
            // A row that is written all the time never stays; it is given up on after as many looks again.
            let (settled, open): (Vec<_>, Vec<_>) =
                suspects.into_iter().partition(|(_, _, same)| *same >= LOOKS || looks > 10 * LOOKS);
            for (key, rows, _) in settled {
                compared.add(key, &rows, self.keep);
            }
            if open.is_empty() {
                return Ok(());
            }
            sleep(PAUSE).await;
            let keys = open.iter().map(|(key, _, _)| key.clone()).collect();
            let again = self.both(table, keys).await?;
            suspects = open
                .into_iter()
                .zip(again)
                .map(|((key, before, same), (_, now))| {
                    let same = if before == now { same + 1 } else { 0 };
                    (key, now, same)
                })
                .collect();
        }
        Ok(())
    }

    async fn both(&mut self, table: TableId, keys: Vec<Key>) -> Result<Vec<(Key, Pair<Option<Row>>)>> {
        let mut found = Vec::new();
        for keys in keys.chunks(CHUNK_ROWS) {
            let a = self.scans[Side::A].rows(table, keys).await?;
            let b = self.scans[Side::B].rows(table, keys).await?;
            found.extend(keys.iter().cloned().zip(a.into_iter().zip(b).map(|(a, b)| Pair::new(a, b))));
        }
        Ok(found)
    }
}

impl Compared {
    fn add(&mut self, key: Key, rows: &Pair<Option<Row>>, keep: usize) {
        let (kind, columns) = match (&rows[Side::A], &rows[Side::B]) {
            (Some(a), Some(b)) => (Kind::Different, (0..a.0.len()).filter(|&at| a.0[at] != b.0[at]).collect()),
            (Some(_), None) => (Kind::OnlyA, Vec::new()),
            _ => (Kind::OnlyB, Vec::new()),
        };
        self.different += 1;
        if self.differences.len() < keep {
            self.differences.push(Difference { key, kind, columns });
        }
    }
}
