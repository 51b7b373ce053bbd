//! Tables whose keys do not sort alike on both servers: each side is read in its own order, and its keys are looked up on the
//! other.

use pontoon_core::{Key, Result, Row, Span, TableId};

use super::{Comparison, Found, SUSPECTS_MAX, Scans, fingerprint, suspects::Suspect};
use crate::side::{Pair, Side};

impl Comparison {
    /// `false` where a fence was not passed in time.
    pub(super) async fn by_keys(&mut self, table: TableId, found: &mut Found) -> Result<bool> {
        for side in Side::BOTH {
            let mut rows = Vec::new();
            let mut after = None;
            loop {
                let (looked, next) = self.step(table, side, &rows, after.as_ref(), found.width.0).await?;
                found.width.saw(&next);
                found.suspects.extend(looked);
                let mut passed = Pair::default();
                passed[side] = next.len() as u64;
                found.passed(passed);
                found.pace.keep().await;
                if (next.is_empty() || found.suspects.len() >= SUSPECTS_MAX) && !self.settle(table, found).await? {
                    return Ok(false);
                }
                if next.is_empty() {
                    break;
                }
                after = next.last().map(|row| self.of(side, table).key_of(row));
                rows = next;
            }
        }
        Ok(true)
    }

    /// Looks up the rows of a side on the other, and reads the next ones at the same time.
    async fn step(
        &mut self,
        table: TableId,
        side: Side,
        rows: &[Row],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<(Vec<Suspect>, Vec<Row>)> {
        let keys: Vec<Key> = rows.iter().map(|row| self.of(side, table).key_of(row)).collect();
        let names = Pair::from_fn(|side| self.nodes[side].name());
        let scans: &mut Scans = super::first(&mut self.idle)?;
        let [a, b] = scans.each_mut();
        let (own, other) = if side == Side::A { (a, b) } else { (b, a) };
        let (next, others) = tokio::join!(own.chunk(table, Span::behind(after), limit), async {
            if keys.is_empty() { Ok(Vec::new()) } else { other.rows(table, &keys).await }
        });
        let next = next.map_err(|error| error.at(names[side]))?;
        let others = others.map_err(|error| error.at(names[side.other()]))?;
        let suspects = keys.into_iter().zip(rows.iter().zip(others)).filter_map(|(key, (row, other))| {
            // What both sides have is compared once, on the way through A.
            if other.as_ref().is_some_and(|other| side == Side::B || other == row) {
                return None;
            }
            let mut rows = Pair::default();
            (rows[side], rows[side.other()]) = (Some(fingerprint(row)), other.as_ref().map(fingerprint));
            Some(Suspect::new(key, rows))
        });
        Ok((suspects.collect(), next))
    }
}
