//! Conflicts: whose row stands, and how both nodes come to hold it.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | [`policy`] | the rules of a table, and of its columns |
//! | `decide` | whose row stands: last writer wins, preference, completion of what is half done; pure |
//! | `merge` | the columns of a row that both sides have: by their own rules, and what adds up; pure |
//! | `chain` | what one side's writes of a key come to |
//! | `cases` | every case with its outcome: the tables of `docs/conflicts.md` |
//! | `ties` | rows that a unique constraint or a foreign key ties to each other: which of them stand; pure |
//! | `holders` | who has the unique values of a row that is refused, asked of the databases |
//! | `broken` | the references that what was written has broken, asked of the databases |
//! | `pending` | a node's writes that the other has not got, found in the queue |
//! | `settle` | the rendezvous: locks, fences, verdict, record, on both nodes |
//! | `view` | what is known of keys under their locks, on both nodes |
//! | `verdict` | under the locks: what both nodes shall hold of each key, and its records |
//! | `registry` | which keys are in whose hands |
//! | `resolutions` | the records in force |
//! | [`quarantine`] | the keys in quarantine |
//! | `refused` | what comes of a settlement that a side refuses |
//! | `retry` | what ends a quarantine: another attempt, or an operator |
//! | `new_key` | a row that an operator gives another key |
//! | `repair` | keys that an operator wants equal |
//! | `lost` | the row that lost, as a record has it; pure |
//! | `watchdog` | rows that go round without end, told from rows that are merely hot |
//! | `prune` | records that no log can reach any more: out of force, and forgotten |

pub(crate) mod broken;
#[cfg(test)]
mod cases;
mod chain;
pub(crate) mod decide;
pub(crate) mod holders;
pub(crate) mod lost;
mod merge;
mod new_key;
pub(crate) mod pending;
pub mod policy;
mod prune;
pub mod quarantine;
mod refused;
pub(crate) mod registry;
mod repair;
pub(crate) mod resolutions;
mod retry;
pub(crate) mod settle;
mod ties;
pub(crate) mod verdict;
mod view;
pub(crate) mod watchdog;
