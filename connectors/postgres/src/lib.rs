//! Pontoon's connector to PostgreSQL, 14 to 18.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | `connect`, `socket` | from a URL to a connection: TLS, login, pinned settings, time-outs |
//! | `version` | what differs from version to version: nothing else compares versions |
//! | `error` | what an SQLSTATE means |
//! | `names`, `quote` | what the bridge's things are called; how a name becomes SQL |
//! | `catalog` | tables and their columns, as the server describes them |
//! | `node` | [`PostgresNode`]: the node, its state, marks, looks at the log |
//! | `slot`, `reader`, `shape` | what must be true before the log is read; the reader; shapes of tables |
//! | `start` | whether the log can be taken up at a place that an operator names |
//! | `log` | the replication connection and its formats, decoded without I/O |
//! | `session`, `statement`, `encode` | the session that writes; its statements; its parameters |
//! | `login` | no password in the clear where others can read it |
//! | `pause` | an operator's word that nothing is to be applied |
//! | `throttle` | an operator's word on how fast |
//! | `pressure` | how busy the server is with what is not the bridge's |
//! | `reload` | an operator's word that the configuration is to be taken up anew, and the answer |
//! | `leeway` | what stands for values that the other side cannot hold, as an expression |
//! | `decode` | the server's text to values |
//! | `lease`, `admin`, `findings`, `sequences` | who works; set-up and teardown; what `check` looks at; generators of keys |
//! | `scan`, `digest` | reading tables; their spans and checksums |
//! | `surroundings` | what else moves rows |
//! | `fuzzing` | the decoders as functions of bytes, for tests |
//! | `definition`, `create`, `types` | what a table is in whole; how its like is made, and of which types |
//! | `tables`, `resolution` | the bridge's own tables; conflicts as text |
//! | `verified` | what the last comparison of both sides came to |
//!
//! # What it relies on
//!
//! Each was tried, by a test of this crate where one is named, or read where the source is named.
//!
//! * Row locks go after the commit record is in the log, so `pg_current_wal_insert_lsn()` under a lock is a
//!   fence (`a_fence_covers_the_last_write_of_the_locked_row`).
//! * A slot sends from the first transaction whose commit record begins at the position asked for
//!   (`SnapBuildXactNeedsSkip` in snapbuild.c), and `end_lsn` of the one before is that position.
//! * A keepalive's position is how far the server has decoded, `sentPtr` in walsender.c.
//! * The frames of Relation messages carry no position (`WalSndPrepareWrite`, `last_write`), so the
//!   transaction's commit stands for it, which a streamed one tells last.
//! * A transaction is streamed once all that is decoded and undecided passes `logical_decoding_work_mem`; what a
//!   PREPARE TRANSACTION ended counts, without `two_phase`, when it commits (`what_is_prepared_counts_when_it_commits`).
//! * pgoutput marks a row before as whole or as key by the *root's* replica identity where it publishes
//!   by the root: a partitioned table needs FULL on itself and on each partition
//!   (`partitions_are_their_root`). A new partition does not inherit it: of one that has it not each heartbeat tells
//!   (`a_partition_that_logs_partial_rows_is_noticed`).
//! * A table that is dropped falls out of the publication without an error; made anew it is not in it. One that is
//!   renamed stays in it, and another that takes its name does not come in.
//!   So each heartbeat names the publication's tables
//!   (`a_table_that_falls_out_of_the_publication_is_noticed`, `a_table_that_takes_a_mapped_ones_name_is_noticed`).
//! * A session with an origin commits with time zero in the log unless
//!   `pg_replication_origin_xact_setup` gave one (`echoes_and_other_origins_are_told_apart`).
//! * `session_replication_role = replica` also keeps off the server's own triggers that check deferrable
//!   constraints: duplicates get in, so `check` refuses them
//!   (`a_deferrable_key_lets_duplicates_in_and_is_refused`).
//! * A domain over an enum has no `=` of its own; char(n) cast to text loses its padding; a double beyond
//!   real's range is an error in a cast (`a_richer_value_compares_in_the_common_form`).
//! * COMMIT of a failed transaction is answered as success, with the word ROLLBACK.
//! * The least rights are REPLICATION, EXECUTE on four functions of replication origins, SET on
//!   `session_replication_role` (15 and later; before, only a superuser can), USAGE on the schemas, and
//!   SELECT, INSERT, UPDATE, DELETE on the tables. Only a table's owner can publish it. All tests run so.

use std::sync::Arc;

use pontoon_core::{Result, node::NodeOptions};

mod admin;
mod catalog;
mod connect;
mod create;
mod decode;
mod definition;
mod digest;
mod encode;
mod error;
mod findings;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod history;
mod lease;
mod leeway;
mod load;
mod log;
mod login;
mod names;
mod node;
mod pause;
mod pressure;
mod quarantine;
mod quote;
mod reader;
mod record;
mod reload;
mod requests;
mod scan;
mod sequences;
mod session;
mod shape;
mod slot;
mod socket;
mod start;
mod state;
mod statement;
mod surroundings;
mod tables;
mod throttle;
mod ties;
mod timeline;
mod types;
mod verified;
mod version;
mod watch;

pub use node::PostgresNode;

/// A node at a URL. Connects to nothing yet. Errors: configuration.
pub fn node(options: NodeOptions) -> Result<Arc<PostgresNode>> {
    PostgresNode::new(options).map(Arc::new)
}
