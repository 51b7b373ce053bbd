//! A database in memory: rows, row locks, a log, and whatever can go wrong.
//!
//! It implements the same traits as the real connectors, so that the simulation runs the very engine
//! that runs in production, on paused time and with one seed for every choice. It is faithful in what
//! the protocol leans on, and only there:
//!
//! * a commit enters the log before its locks are released, in the order of commits, so that a
//!   position taken under a lock is a fence;
//! * locking a row that is absent locks nothing, and an insert under way is neither seen nor waited for
//!   by a lock, only by another insert (both servers at READ COMMITTED);
//! * a session whose client died lives on for a while with its locks, and a commit that was under way
//!   may still happen;
//! * a row that breaks a constraint is an error of the statement, and the transaction goes on only from a savepoint; of
//!   what a bridge writes, no foreign key is checked;
//! * a server can be lost, and a standby of it that lags behind be promoted in its place;
//! * a commit's answer can be lost, a connection can be cut at any call, a lock wait ends with an error.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | [`dice`] | the seed: delays and faults |
//! | [`database`] | rows, locks, log, and what each bridge keeps |
//! | [`early`] | transactions that are in the log, in pieces, before they commit |
//! | [`application`] | transactions that are not the bridge's |
//! | [`standby`] | a server that is lost, and another one in its place |
//! | [`ties`] | unique constraints and foreign keys |
//! | [`node`] · [`reader`] · [`session`] · [`lease`] · [`scan`] | the traits, under the file names of the real connectors |

pub mod application;
pub mod database;
pub mod dice;
pub mod early;
pub mod lease;
pub mod node;
pub mod reader;
pub mod scan;
pub mod session;
pub mod standby;
pub mod ties;

pub use database::{Database, Entry};
pub use dice::{Dice, Faults};
pub use node::MemoryNode;
pub use standby::{Standby, entries};
