//! What a bridge is to do, as it was made of a configuration and of what both databases are.

use std::{num::NonZeroU64, path::PathBuf, sync::Arc};

use pontoon_core::{
    history::Retention,
    node::{Node, Tables},
};

use crate::{
    conflict::{policy::Policy, quarantine::OnError},
    direction::queue::Limits,
    event::Observer,
    held_back::Restraints,
    rules::Rules,
    side::{Pair, Side},
};

/// When a bridge ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When both logs are applied up to where they stood at the start.
    CaughtUp,
}

/// Everything that a bridge needs to know.
pub struct Plan {
    /// The nodes; A is the first by name.
    pub nodes: Pair<Arc<dyn Node>>,
    /// The mapped tables as each side sees them.
    pub tables: Pair<Tables>,
    /// Tables that are set up and not among them, by label: they are set aside.
    pub aside: Vec<Arc<str>>,
    /// How the conflicts of each table are settled, by its number.
    pub policies: Vec<Policy>,
    /// What becomes of rows of each table that the target refuses.
    pub on_error: Vec<OnError>,
    /// Keys that may be in quarantine.
    pub quarantined_max: usize,
    /// How long records of settled conflicts are kept.
    pub retention: Retention,
    /// The node of the higher priority.
    pub preferred: Side,
    /// Whose log is followed.
    pub reads: Pair<bool>,
    /// The queue's limits, of each direction.
    pub limits: Limits,
    /// Where queues spill to.
    pub spill_folder: PathBuf,
    /// This process, for people: host and process id.
    pub holder: String,
    /// When to end by itself.
    pub until: Until,
    /// Rows of a source's log that are applied in a second, where no operator has said otherwise; `None` for as many as can be.
    pub rows_per_second: Option<NonZeroU64>,
    /// When nothing is to be applied.
    pub restraints: Restraints,
    /// Rows of a chunk of a copy; `None` for as many as fit its aim in bytes.
    pub chunk_rows: Option<usize>,
    /// The seed of random pauses; `None` for one of the system's.
    pub seed: Option<u64>,
    /// The rules in force: [`Rules::ALL`] but in a simulation.
    pub rules: Rules,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}
