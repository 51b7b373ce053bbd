//! What the bridge shows of itself: metrics, log lines, a status, and the pages that serve them.
//!
//! # Layout
//!
//! | file | holds |
//! | --- | --- |
//! | `metrics/` | every series of `/metrics`, with typed access |
//! | `events.rs` | what happens, one struct each: the log line and the metric come from the same place |
//! | `engine.rs` | the engine's observer: what it tells becomes these |
//! | `status.rs` | the status as a document, and what keeps a bridge from being ready |
//! | `rate.rs` | how much per second, lately |
//! | `poll.rs` | the task that asks both nodes where their logs and clocks stand, and what was compared last |
//! | `manager.rs` | what a service manager is told: ready, alive, stopping |
//! | `hour.rs` | what each direction did in the last hour |
//! | `server.rs` | the HTTP server: connections, TLS, limits |
//! | `guard.rs` | who may ask the page what |
//! | `site.rs` | what is answered, by path |
//! | `desk.rs` | what the page asks of the databases, and what an operator does from it |
//! | `page/` | the page for people |
//! | `ask.rs` | asking that of another process |
//!
//! No row's value is ever shown here, but for keys, and on the page the rows of a conflict or an entry in quarantine, one at a time and to who has the token.

mod ask;
mod desk;
mod engine;
pub mod events;
mod guard;
mod hour;
mod manager;
mod metrics;
mod page;
mod poll;
mod rate;
mod server;
mod site;
mod status;

pub(crate) use self::ask::{Answer, ask};
pub use self::{
    manager::{Manager, tell},
    metrics::{
        ApplyStage, ConflictKind, ConnectResult, ConversionReason, DirectionMetrics, DirectionState, HoldReason,
        Metrics, NodeMetrics, Outcome, QuarantineReason, RetryReason, RowCounts, SkipReason, Stage,
    },
    poll::poll,
    server::{StatusServer, serve_when_free},
    site::Site,
    status::{DirectionStatus, NodeStatus, Positions, Rates, SetAsideStatus, StatusError, StatusSnapshot},
};

/// The wall clock of this host, in microseconds since 1970 UTC.
pub(crate) fn now_micros() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
