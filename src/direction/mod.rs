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
//! | `net` | what a run does to one key, and which rows it takes: additive columns; pure |
//! | `ahead` | the next run of a backlog, planned while the server works on the one before |
//! | `beside` | the next run of a backlog, written by a second session before its turn |
//! | `early` | a large transaction, written before its commit is read |
//! | `apply` | the task that applies runs, with tag and checkpoint in the same transaction |
//! | `attempt` | one attempt at a run: one transaction on the target |
//! | `throttle` | how fast, where an operator has set a limit; and not at all while something else holds back |
//! | `unexpected` | the keys of a run that are not as it expects, and having them settled |
//! | `one_by_one` | the changes of a refused transaction one by one, to find the one that is |
//! | `stored` | the changes that are stored in quarantine instead of applied |

mod ahead;
pub(crate) mod apply;
mod attempt;
mod beside;
mod block;
#[cfg(test)]
mod counted;
mod early;
pub(crate) mod gather;
mod hold;
pub(crate) mod look;
mod net;
mod one_by_one;
pub(crate) mod plan;
pub mod queue;
pub(crate) mod read;
mod spill;
pub(crate) mod stored;
mod throttle;
mod unexpected;

pub(crate) use unexpected::close_over;
