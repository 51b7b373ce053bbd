//! The replication log: the connection it comes by, and its format.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] | the replication connection: login, commands, the stream in both directions |
//! | [`stream`] | what lies within the stream: log data, keepalives, status |
//! | [`pgoutput`] | the messages of the output plugin, decoded without any I/O |

pub(crate) mod pgoutput;
pub(crate) mod stream;
pub(crate) mod wire;
