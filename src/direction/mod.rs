//! One way across: a log is read, queued, gathered, planned and applied on the other node.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | `read` | the task that reads the source's log into the queue, and never waits for the target |
//! | [`queue`] · `block` · `spill` | what is read and not yet applied: in memory, and beyond its limit on disk |
//! | `hold` | what is read of transactions that are not decided yet |
//! | `look` | a log read only to be looked at, through a queue of its own |
//! | `gather` | neighbouring transactions that become one target commit |
//! | `plan` | changes to batches: collapse, skip, fit; pure |
//! | `apply` | the task that applies runs, with tag and checkpoint in the same transaction |

pub(crate) mod apply;
mod block;
pub(crate) mod gather;
mod hold;
pub(crate) mod look;
pub(crate) mod plan;
pub mod queue;
pub(crate) mod read;
mod spill;
