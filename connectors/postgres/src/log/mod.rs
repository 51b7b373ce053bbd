//! The replication log: the connection it comes by, its format, and what becomes of it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] | the replication connection: login, commands, the stream in both directions |
//! | [`stream`] | what lies within the stream: log data, keepalives, status |
//! | [`assemble`] · `transaction` | messages to what the engine reads: fragments, pieces, progress, obstacles; pure |
//! | [`pgoutput`] | the messages of the output plugin, decoded without any I/O |

pub(crate) mod assemble;
pub(crate) mod pgoutput;
pub(crate) mod stream;
mod transaction;
pub(crate) mod wire;
