//! The seam between the engine and the databases: what a change is, what a value is, where a log
//! stands, and what a node must be able to do. No I/O happens here.
//!
//! # Layout
//!
//! | module | holds |
//! | --- | --- |
//! | [`change`] | rows, changes, fragments of transactions: what a log reader yields, and its JSON form |
//! | [`value`] | one value in canonical form; how it is written in JSON |
//! | [`kind`] | a column's type as the bridge understands it, and what fits into it |
//! | [`form`] | the common form of a pair of columns, in which alone values are compared |
//! | [`leeway`] | what an operator lets become of values that one side alone can hold |
//! | [`calendar`] | days and microseconds to and from text |
//! | [`decimal`] · [`json`] | canonical text of exact numbers and of documents |
//! | [`schema`] | tables as a server describes them, and as a bridge maps them |
//! | [`sequences`] | where generators of keys stand, and where they have to |
//! | [`digest`] | checksums of rows that two servers compute alike |
//! | [`definition`] | a table as it is to be made on another server |
//! | [`position`] | a place in a log, and which log that is |
//! | [`state`] | what is durable: tag, checkpoint, resolution, copy |
//! | [`history`] | settled conflicts as a node keeps them, for people |
//! | [`quarantine`] | what is durable of keys that could not be applied |
//! | [`new_key`] | what an operator asked of rows that are to have another key |
//! | [`verified`] | what the last comparison of both sides came to |
//! | [`record`] | rows and keys as text that reads back exactly |
//! | [`neighbours`] | what else moves rows to or from a node: other bridges, native replication |
//! | [`node`] | the traits: `Node`, `LogReader`, `Session`, `Lease`, `Scan`, `Admin` |
//! | [`error`] | every error's code, class, message and hint |

pub mod calendar;
pub mod change;
pub mod decimal;
pub mod definition;
pub mod digest;
pub mod error;
pub mod form;
pub mod gtid;
pub mod history;
pub mod json;
pub mod kind;
pub mod leeway;
pub mod neighbours;
pub mod new_key;
pub mod node;
pub mod position;
pub mod pressure;
pub mod quarantine;
pub mod record;
pub mod repair;
pub mod requests;
pub mod schema;
pub mod sequences;
pub mod state;
pub mod value;
pub mod verified;

pub use change::{Change, Fragment, Held, Key, LogEvent, Operation, Origin, Progress, Row};
pub use definition::{TableDefinition, TableDraft};
pub use digest::{Digest, Span};
pub use error::{Class, Code, Error, Result};
pub use form::Form;
pub use gtid::Gtid;
pub use kind::Kind;
pub use leeway::{Fault, Instead, Leeway, ValueRules};
pub use position::{Beside, LogIdentity, Position};
pub use schema::{Column, MappedColumn, MappedTable, TableId, TableName, TableSchema};
pub use state::{Checkpoint, CopyState, Resolution, Tag};
pub use value::Value;
