//! Which keys the source's log has touched since a chunk was begun to be read.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pontoon_core::{Fragment, Key, Result, TableId, node::Tables};

use crate::direction::plan;

/// Keys that a window keeps. A chunk is read within milliseconds; where so many are written meanwhile, all of the
/// chunk's keys are taken to be in doubt.
const KEYS_MAX: usize = 100_000;

#[derive(Default)]
struct Touched {
    keys: HashSet<Key>,
    too_many: bool,
}

/// A window on one table, open until it is dropped.
pub(crate) struct Window {
    table: TableId,
    touched: Mutex<Touched>,
}

impl Window {
    fn touched(&self) -> MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key was touched, or may have been.
    pub(crate) fn has(&self, key: &Key) -> bool {
        let touched = self.touched();
        touched.too_many || touched.keys.contains(key)
    }

    fn note(&self, key: Key) {
        let mut touched = self.touched();
        if touched.keys.len() < KEYS_MAX {
            touched.keys.insert(key);
        } else {
            touched.too_many = true;
        }
    }
}

/// The open windows of one direction. They are noted into by the task that applies, from the events that it carries.
#[derive(Default)]
pub(crate) struct Windows {
    open: Mutex<Vec<Arc<Window>>>,
}

impl Windows {
    fn open_now(&self) -> MutexGuard<'_, Vec<Arc<Window>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a window: everything that is read of the log from now on is noted in it when it is carried.
    pub(crate) fn open(&self, table: TableId) -> Arc<Window> {
        let window = Arc::new(Window { table, touched: Mutex::default() });
        self.open_now().push(window.clone());
        window
    }

    /// Closes one.
    pub(crate) fn close(&self, window: &Arc<Window>) {
        self.open_now().retain(|open| !Arc::ptr_eq(open, window));
    }

    /// Whether there is none, as there is but during a copy.
    pub(crate) fn are_closed(&self) -> bool {
        self.open_now().is_empty()
    }

    /// Notes the keys of a fragment, echoes included.
    pub(crate) fn note(&self, tables: &Tables, fragment: &Fragment) -> Result<()> {
        let open = self.open_now();
        for change in &fragment.changes {
            for window in open.iter().filter(|window| window.table == change.table) {
                for (_, key) in plan::places(plan::table(tables, change.table)?, change) {
                    window.note(key);
                }
            }
        }
        Ok(())
    }
}
