//! What is known of keys under their locks, on both nodes: the rows, the fences, and what is pending up to there. Steps
//! 2 to 4 of a rendezvous; why they are in this order, the head of [`super::settle`] says.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{Key, Position, Result, TableId, node::Mark};
use tokio::time::timeout;

use super::{
    pending::{self, History, Pending, Search},
    settle::{FENCE_WAIT, Settler},
    verdict::Rows,
};
use crate::{
    direction::plan::Place,
    rules::Rule,
    side::{Pair, Side},
};

/// What is known of keys under their locks.
pub(super) struct View {
    pub(super) rows: Pair<Rows>,
    pub(super) fences: Pair<Option<Position>>,
    pub(super) pending: Pair<Pending>,
}

impl Settler {
    /// Locks keys and finds what is known of them. Errors: an inner one, what moved, so that all is to be taken again.
    pub(super) async fn view(&mut self, keys: &BTreeSet<Place>) -> Result<Result<View, &'static str>> {
        self.open().await?;
        for side in Side::BOTH {
            self.session(side)?.begin(None).await?;
        }
        let mut locked = Pair::<Rows>::default();
        for side in Side::BOTH {
            locked[side] = self.rows(side, keys, true).await?;
        }
        let mut fences = Pair::<Option<Position>>::default();
        let mut rows = Pair::<Rows>::default();
        for side in Side::BOTH {
            if self.shared.reads[side] {
                fences[side] = Some(self.session(side)?.fence().await?);
            }
            rows[side] = self.rows(side, keys, false).await?;
        }
        if self.shared.rules.has(Rule::Reread) {
            if rows != locked {
                return Ok(Err("a row appeared between lock and fence"));
            }
        } else {
            rows = locked;
        }
        if self.shared.rules.has(Rule::Fence) && !self.pass(&fences).await? {
            return Ok(Err("a reader did not pass its fence in time"));
        }
        for side in Side::BOTH {
            // By it a fence is found in the log of a standby.
            fences[side] = fences[side].take().map(|fence| self.shared.queues[side].with_name(fence));
        }
        let mut stored = self.stored(keys).await?;
        let mut pending = Pair::<Pending>::default();
        for side in Side::BOTH {
            pending[side] = self.pending(side, keys, fences[side].as_ref(), std::mem::take(&mut stored[side]))?;
        }
        Ok(Ok(View { rows, fences, pending }))
    }

    /// What a side has written and the other has not got, up to a fence; `stored` is what is in quarantine of it.
    fn pending(
        &self,
        side: Side,
        keys: &BTreeSet<Place>,
        fence: Option<&Position>,
        stored: BTreeMap<Place, History>,
    ) -> Result<Pending> {
        let Some(fence) = fence else { return Ok(Pending { histories: stored, links: Vec::new() }) };
        let shared = &self.shared;
        let settled = |place: &Place| shared.resolutions.settled_up_to(side, place).map(|at| (place.clone(), at));
        let passed_over = |(table, _): &Place| Some((*table, shared.resolutions.passed_over(side, *table)?.clone()));
        let search = Search {
            tables: &shared.tables[side],
            policies: &shared.policies,
            keys,
            fence,
            // Under the claim of the keys: what an applier has written of them is durable by now, and known to be.
            applied: shared.durable[side].get(),
            settled: keys.iter().filter_map(settled).collect(),
            passed_over: keys.iter().filter_map(passed_over).collect(),
            supersedes: shared.rules.has(Rule::Seen),
        };
        pending::scan(&shared.queues[side], search, stored)
    }

    /// The rows of keys on a side, table by table, in key order.
    async fn rows(&mut self, side: Side, keys: &BTreeSet<Place>, lock: bool) -> Result<Rows> {
        let mut by_table: BTreeMap<TableId, Vec<Key>> = BTreeMap::new();
        for (table, key) in keys {
            by_table.entry(*table).or_default().push(key.clone());
        }
        let session = self.session(side)?;
        let mut rows = Rows::new();
        for (table, keys) in by_table {
            let found = if lock { session.lock(table, &keys).await? } else { session.read(table, &keys).await? };
            rows.extend(keys.into_iter().map(|key| (table, key)).zip(found));
        }
        Ok(rows)
    }

    /// Waits till the readers have passed their fences. A reader does not wait for a full spill meanwhile.
    async fn pass(&mut self, fences: &Pair<Option<Position>>) -> Result<bool> {
        let _urgent = self.shared.urgent();
        let passed = async {
            for side in Side::BOTH {
                if let Some(fence) = &fences[side] {
                    self.shared.nodes[side].mark(Mark::Heartbeat).await?;
                    self.shared.has_read(side, fence).await?;
                }
            }
            Ok(())
        };
        if !self.shared.rules.has(Rule::Timeout) {
            return passed.await.map(|()| true);
        }
        match timeout(FENCE_WAIT, passed).await {
            Ok(passed) => passed.map(|()| true),
            Err(_) => Ok(false),
        }
    }
}
