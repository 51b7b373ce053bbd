//! MySQL and MariaDB as a node of a bridge.
//!
//! The twin of `pontoon-postgres`: the same file name has the same role in both.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | `connect` · `inspect` | URL, TLS and login to a connection with pinned settings; a second look at a refused certificate |
//! | `version` | what differs from version to version: nothing else compares versions |
//! | `error` | what server and driver say, as an error with a code |
//! | `quote` · `encode` · `decode` | identifiers; values as literals; fields of a result as values |
//! | `charset` | text in any character set |
//! | `catalog` | tables and columns: native type to kind, key, counters, collations |
//! | `tables` · `state` | the bridge's own tables, and what is read from them |
//! | `node` | the node itself |
//! | `reader` · `files` · `log` · `socket` | the binary log: reading it; its files; the connection and its format; the socket below |
//! | `start` | whether the log can be taken up at a place that an operator names |
//! | `lease` · `session` · `statement` | the right to work; conditional writes and their SQL |
//! | `pause` | an operator's word that nothing is to be applied |
//! | `throttle` | an operator's word on how fast |
//! | `pressure` | how busy the server is with what is not the bridge's |
//! | `reload` | an operator's word that the configuration is to be taken up anew, and the answer |
//! | `leeway` | what stands for values that the other side cannot hold, as an expression |
//! | `load` | many rows at once |
//! | `scan` · `digest` | whole tables; their spans and checksums |
//! | `definition` · `create` · `types` | what a table is in whole; how its like is made, and of which types |
//! | `admin` · `findings` · `surroundings` · `sequences` | setup, teardown, grants, skip; what check looks at; what else moves rows; generators of keys |
//! | `fuzzing` | the decoders as functions of bytes, for tests |
//! | `verified` | what the last comparison of both sides came to |
//!
//! # Facts about the servers that this rests on
//!
//! See the head of each module. Tried on MySQL 9.7, MariaDB 10.11 and 11.8, in `tests/` and by the binary's end-to-end tests.

mod admin;
mod catalog;
mod charset;
mod connect;
mod create;
mod decode;
mod definition;
mod digest;
mod encode;
mod error;
mod files;
mod findings;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gtids;
mod history;
mod inspect;
mod lease;
mod leeway;
mod load;
mod log;
mod node;
mod pause;
mod pressure;
mod quarantine;
mod quote;
mod reader;
mod record;
mod redefined;
mod reload;
mod requests;
mod row_list;
mod scan;
mod sequences;
mod session;
mod socket;
mod start;
mod state;
mod statement;
mod surroundings;
mod tables;
mod throttle;
mod ties;
mod types;
mod verified;
mod version;
mod watch;

use std::sync::Arc;

pub use connect::{BUFFERS_KEPT, Flavour};
pub use node::MysqlNode;
use pontoon_core::{Result, node::NodeOptions};

/// A node of this kind. Nothing is connected yet. Errors: the URL cannot be used.
pub fn node(options: NodeOptions) -> Result<Arc<MysqlNode>> {
    MysqlNode::new(options)
}
