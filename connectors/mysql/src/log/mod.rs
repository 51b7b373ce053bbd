//! The binary log: the connection that it comes by, and its format, decoded.
//!
//! Sources: MySQL's `libs/mysql/binlog/event/*.h` (its comments are the format's reference), the manual's
//! "Binary Log" pages, MariaDB's "Replication Protocol" pages and `sql/log_event.h`; and what the two servers
//! were seen to write. All but [`wire`] and [`stream`] is pure: bytes in, messages out.
//!
//! | module | holds |
//! | --- | --- |
//! | [`wire`] · [`stream`] | login and packets; events out of them, checksums verified |
//! | [`payload`] | a compressed transaction to the events in it |
//! | [`compressed`] | MariaDB's compressed events to ordinary ones |
//! | [`event`] | what an event is, as a [`event::Message`] |
//! | [`table_map`] | a table's columns as the log describes them, with full metadata |
//! | [`rows`] | row events: images, and which columns they hold |
//! | [`values`] | one column's value by its type |
//! | [`jsonb`] · [`json_diff`] | MySQL's binary JSON to text; a partial update applied to the document before |
//! | [`statement`] | what kind of statement a text is, as far as a bridge must know |
//! | [`target`] | what a table of the log is to the bridge |
//! | [`transaction`] · [`changes`] · [`queries`] · [`xa`] · [`place`] · [`assemble`] | events to transactions: fragments, progress, obstacles |

pub(crate) mod assemble;
pub(crate) mod changes;
pub(crate) mod compressed;
pub(crate) mod cursor;
pub(crate) mod event;
pub(crate) mod json_diff;
pub(crate) mod jsonb;
pub(crate) mod payload;
pub(crate) mod place;
pub(crate) mod queries;
pub(crate) mod rows;
pub(crate) mod statement;
pub(crate) mod stream;
pub(crate) mod table_map;
pub(crate) mod target;
pub(crate) mod transaction;
pub(crate) mod values;
pub(crate) mod wire;
pub(crate) mod xa;

/// Bytes that are not what the format says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Short for the error.
pub(crate) fn malformed(what: &'static str) -> Malformed {
    Malformed(what)
}

impl Malformed {
    /// As the error that the engine sees.
    pub(crate) fn at(self, position: &pontoon_core::Position) -> pontoon_core::Error {
        pontoon_core::Error::new(
            pontoon_core::Code::Protocol,
            format!("the log at {position} cannot be decoded: {}", self.0),
        )
    }
}
