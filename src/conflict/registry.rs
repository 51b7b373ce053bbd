//! Which keys are in whose hands, within this bridge.
//!
//! An absent row has no lock on a real server, and a commit whose answer is outstanding has released
//! its locks already. So an applier claims the keys of its run until its commit is known, and a
//! rendezvous claims its keys on both sides and waits for the appliers that have them (rule
//! `Registry`). A rendezvous that waits keeps new claims of its keys away: it cannot starve. Runs that are written beside each
//! other have no key in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pontoon_core::TableId;
use tokio::sync::Notify;

use crate::{
    direction::plan::Place,
    side::{Pair, Side},
};

/// What an applier has in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// These keys.
    Keys(Arc<BTreeSet<Place>>),
    /// Every key of these tables: a transaction too large to list its keys.
    Tables(BTreeSet<TableId>),
}

impl Claim {
    /// Whether a key is among what is claimed.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        match self {
            Claim::Keys(keys) => keys.contains(place),
            Claim::Tables(tables) => tables.contains(&place.0),
        }
    }

    fn touches(&self, keys: &BTreeSet<Place>) -> bool {
        match self {
            Claim::Keys(own) if own.len() < keys.len() => own.iter().any(|place| keys.contains(place)),
            Claim::Keys(own) => keys.iter().any(|place| own.contains(place)),
            Claim::Tables(tables) => keys.iter().any(|(table, _)| tables.contains(table)),
        }
    }
}

#[derive(Default)]
struct Inner {
    /// Of the runs that are being written to each side, by a number of each.
    runs: Pair<BTreeMap<u64, Claim>>,
    next: u64,
    settling: BTreeSet<Place>,
}

impl Inner {
    fn take(&mut self, registry: &Arc<Registry>, target: Side, claim: Claim) -> InHand {
        let number = self.next;
        self.next += 1;
        self.runs[target].insert(number, claim);
        InHand { registry: registry.clone(), target, number }
    }
}

/// The registry of keys of one bridge.
#[derive(Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Registry {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes keys into the hands of the applier that writes to `target`, once no rendezvous wants them.
    pub(crate) async fn claim(self: &Arc<Self>, target: Side, claim: Claim) -> InHand {
        loop {
            let changed = self.changed.notified();
            {
                let mut inner = self.inner();
                if !claim.touches(&inner.settling) {
                    return inner.take(self, target, claim);
                }
            }
            changed.await;
        }
    }

    /// Takes keys into the hands of an applier that writes to `target` beside another: at once, or not at all where somebody has one of them or wants it.
    pub(crate) fn claim_beside(self: &Arc<Self>, target: Side, keys: Arc<BTreeSet<Place>>) -> Option<InHand> {
        let mut inner = self.inner();
        let claim = Claim::Keys(keys.clone());
        let is_free = !claim.touches(&inner.settling) && !inner.runs[target].values().any(|run| run.touches(&keys));
        is_free.then(|| inner.take(self, target, claim))
    }

    /// Takes keys for a rendezvous, once no applier has them in hand.
    pub(crate) async fn settle(self: &Arc<Self>, keys: &BTreeSet<Place>, wait: bool) -> Settling {
        self.inner().settling.clone_from(keys);
        let settling = Settling { registry: self.clone() };
        loop {
            let changed = self.changed.notified();
            if !wait || !self.inner().runs.iter().flat_map(BTreeMap::values).any(|claim| claim.touches(keys)) {
                break;
            }
            changed.await;
        }
        settling
    }
}

/// Keys in an applier's hands until this is dropped.
pub(crate) struct InHand {
    registry: Arc<Registry>,
    target: Side,
    number: u64,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.registry.inner().runs[self.target].remove(&self.number);
        self.registry.changed.notify_waiters();
    }
}

/// Keys under rendezvous until this is dropped.
pub(crate) struct Settling {
    registry: Arc<Registry>,
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.registry.inner().settling.clear();
        self.registry.changed.notify_waiters();
    }
}
