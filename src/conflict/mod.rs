//! Conflicts: whose row stands, and how both nodes come to hold it.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | [`decide`] | pure rules: last writer wins, preference, completion of what is half done |
//! | `pending` | a node's writes that the other has not got, found in the queue |
//! | `settle` | the rendezvous: locks, fences, verdict, record, on both nodes |
//! | `verdict` | under the locks: what both nodes shall hold of each key, and its records |
//! | `registry` | which keys are in whose hands |
//! | `resolutions` | the records in force |

pub mod decide;
pub(crate) mod pending;
pub(crate) mod registry;
pub(crate) mod resolutions;
pub(crate) mod settle;
pub(crate) mod verdict;
