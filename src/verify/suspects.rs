//! Rows that differed when they were looked at, and whether that stays.

use std::time::Duration;

use pontoon_core::{Code, Key, MappedTable, Result, Row, TableId, Value};
use tokio::time::{sleep, timeout};

use super::{Compared, Comparison, Found, Kind, STAYS, Width, fingerprint};
use crate::{
    barrier,
    side::{Pair, Side},
};

/// How often a row is looked at again that never stays the same.
const LOOKS_MAX: u32 = 20;

/// What a difference has to stay over where no fence can be passed.
const PAUSE: Duration = Duration::from_millis(500);

/// A row that differs, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) key: Key,
    /// What the rows were.
    seen: Pair<Option<u64>>,
    /// How often they were found so again.
    stayed: u32,
}

/// What another look at it says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    Equal,
    Stays,
    Open(Suspect),
}

impl Suspect {
    pub(super) fn new(key: Key, seen: Pair<Option<u64>>) -> Suspect {
        Suspect { key, seen, stayed: 0 }
    }

    /// What has no form cannot be looked for on any server.
    fn is_beyond_looks(&self) -> bool {
        self.key.0.iter().any(|value| matches!(value, Value::Unmapped(_)))
    }

    fn look(self, now: Pair<Option<u64>>, stays: u32) -> Look {
        if now[Side::A] == now[Side::B] {
            return Look::Equal;
        }
        let stayed = if now == self.seen { self.stayed + 1 } else { 0 };
        if stayed >= stays { Look::Stays } else { Look::Open(Suspect { key: self.key, seen: now, stayed }) }
    }
}

impl Comparison {
    /// Looks at the suspects again, each time behind a fence, until they agree or stay as they are. `false` where a fence was not
    /// passed in time.
    pub(super) async fn settle(&mut self, table: TableId, found: &mut Found) -> Result<bool> {
        let (beyond, mut open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut found.suspects).into_iter().partition(Suspect::is_beyond_looks);
        for suspect in beyond {
            let kind = kind(suspect.seen[Side::A].is_some(), suspect.seen[Side::B].is_some());
            found.compared.add(suspect.key, kind, Vec::new(), self.keep);
        }
        if open.is_empty() {
            return Ok(true);
        }
        tracing::debug!(table = %self.of(Side::A, table).label, rows = open.len(), "rows differ for now");
        let fenced = self.is_running().await?;
        found.compared.unfenced |= !fenced;
        for _ in 0..LOOKS_MAX {
            if open.is_empty() {
                return Ok(true);
            }
            if !fenced {
                sleep(PAUSE).await;
            } else if !self.pass_fence().await? {
                return Ok(false);
            }
            let stays = if fenced { STAYS } else { 1 };
            open = self.look(table, open, stays, &mut found.width, &mut found.compared).await?;
        }
        found.compared.still_written += open.len() as u64;
        Ok(true)
    }

    /// A bridge that is not set up does not run.
    async fn is_running(&self) -> Result<bool> {
        match barrier::is_running(&self.nodes).await {
            Err(error) if error.code() == Code::NotSetUp => Ok(false),
            other => other,
        }
    }

    async fn pass_fence(&self) -> Result<bool> {
        let passing = barrier::all_applied(&self.nodes, &self.tables, self.reads);
        match timeout(self.limits.timeout, passing).await {
            Ok(passed) => passed.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Looks once; those that are still open.
    async fn look(
        &mut self,
        table: TableId,
        suspects: Vec<Suspect>,
        stays: u32,
        width: &mut Width,
        compared: &mut Compared,
    ) -> Result<Vec<Suspect>> {
        let mut open = Vec::new();
        let mut suspects = suspects.into_iter();
        loop {
            let some: Vec<Suspect> = suspects.by_ref().take(width.0).collect();
            if some.is_empty() {
                return Ok(open);
            }
            let keys: Vec<Key> = some.iter().map(|suspect| suspect.key.clone()).collect();
            let names = Pair::from_fn(|side| self.nodes[side].name());
            let [a, b] = super::first(&mut self.idle)?.each_mut();
            let (on_a, on_b) = tokio::join!(a.rows(table, &keys), b.rows(table, &keys));
            let on_a = on_a.map_err(|error| error.at(names[Side::A]))?;
            let on_b = on_b.map_err(|error| error.at(names[Side::B]))?;
            width.saw(on_a.iter().chain(&on_b).flatten());
            for (suspect, rows) in some.into_iter().zip(on_a.into_iter().zip(on_b)) {
                let now = Pair::new(rows.0.as_ref().map(fingerprint), rows.1.as_ref().map(fingerprint));
                let key = suspect.key.clone();
                match suspect.look(now, stays) {
                    Look::Equal => {}
                    Look::Open(suspect) => open.push(suspect),
                    Look::Stays => {
                        let kind = kind(rows.0.is_some(), rows.1.is_some());
                        compared.add(key, kind, columns(self.of(Side::A, table), &rows), self.keep);
                    }
                }
            }
        }
    }
}

fn kind(on_a: bool, on_b: bool) -> Kind {
    match (on_a, on_b) {
        (true, true) => Kind::Different,
        (true, false) => Kind::OnlyA,
        _ => Kind::OnlyB,
    }
}

/// The columns in which two rows differ.
fn columns(table: &MappedTable, rows: &(Option<Row>, Option<Row>)) -> Vec<usize> {
    match rows {
        (Some(a), Some(b)) => (0..table.columns.len()).filter(|&at| a.0[at] != b.0[at]).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_once_it_stays() {
        let seen = |a: u64, b: u64| Pair::new(Some(a), Some(b));
        let suspect = || Suspect::new(Key(vec![Value::Integer(1)]), seen(1, 2));
        assert_eq!(suspect().look(seen(3, 3), 2), Look::Equal);
        let Look::Open(again) = suspect().look(seen(1, 2), 2) else { panic!("once is not enough") };
        assert_eq!(again.clone().look(seen(1, 2), 2), Look::Stays);
        let Look::Open(changed) = again.look(seen(1, 4), 2) else { panic!("it has changed") };
        assert_eq!(changed, Suspect::new(Key(vec![Value::Integer(1)]), seen(1, 4)), "and is looked at anew");
        assert_eq!(suspect().look(Pair::default(), 2), Look::Equal, "gone from both");
    }
}
