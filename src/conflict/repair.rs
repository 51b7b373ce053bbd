//! Keys that an operator wants equal, since a comparison has found that the two sides differ and neither log tells why: a
//! write that was not logged, a cascade that no log shows, rows that were there before the bridge.
//!
//! Each is a rendezvous like any other, with the locks, fences and the record that it has: the asking node's row stands where
//! under the locks the rows still differ and no write of either side explains it. Where one does, its table's rule
//! decides, as it would have by itself in a moment. So a request that is old by the time that it is carried out, or is
//! carried out twice since a crash came before it was removed, takes nothing back that was written since
//! ([`pontoon_core::repair`]). A row that the other node refuses goes into quarantine, and what is in quarantine is left to
//! it.

use std::collections::BTreeSet;

use pontoon_core::{Result, Tag, repair::Repair};

use super::settle::{Cause, Settler, outcome_unknown};
use crate::{
    direction::plan::{self, Place},
    side::Side,
};

impl Settler {
    /// Makes keys equal.
    pub(super) async fn repair(&mut self, requests: Vec<Repair>) -> Result<()> {
        for request in requests {
            match self.source(&request)? {
                Some(side) => {
                    let keys = request.keys.iter().map(|key| (request.table, key.clone()));
                    let keys: BTreeSet<Place> = keys.filter(|place| !self.shared.quarantine.holds(place)).collect();
                    self.settle(keys, Cause::Repair(side)).await?;
                }
                None => {
                    tracing::warn!(from = request.from, "a repair was asked for from a node that no rows come from")
                }
            }
            self.repaired(&request).await?;
        }
        Ok(())
    }

    /// The side whose rows stand; `None` where the table does not go from there to the other.
    fn source(&self, request: &Repair) -> Result<Option<Side>> {
        let shared = &self.shared;
        let named = Side::BOTH.into_iter().find(|side| shared.names[*side] == request.from);
        let Some(side) = named else { return Ok(None) };
        Ok(plan::table(&shared.tables[side], request.table)?.followed.then_some(side))
    }

    /// Removes a request, in a transaction of its own. Where a lock is not to be had it is looked at again.
    async fn repaired(&mut self, request: &Repair) -> Result<()> {
        self.open().await?;
        let session = self.session(Side::A)?;
        let removed = async {
            session.begin(Some(&Tag::ALONE)).await?;
            session.repaired(request).await?;
            session.commit().await.map_err(outcome_unknown)
        };
        let removed = removed.await;
        self.unless_contended(Side::A, removed).await?;
        Ok(())
    }
}
