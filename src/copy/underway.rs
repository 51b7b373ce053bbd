//! Which tables are being copied.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pontoon_core::{CopyState, TableId};

/// The tables of which a copy is underway, in either direction.
#[derive(Default)]
pub(crate) struct Underway(Mutex<BTreeSet<TableId>>);

impl Underway {
    fn tables(&self) -> MutexGuard<'_, BTreeSet<TableId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how far a copy is.
    pub(crate) fn note(&self, copy: &CopyState) {
        if copy.done {
            self.tables().remove(&copy.table);
        } else {
            self.tables().insert(copy.table);
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables().is_empty()
    }

    /// Whether a table is among them.
    pub(crate) fn has(&self, table: TableId) -> bool {
        self.tables().contains(&table)
    }
}
