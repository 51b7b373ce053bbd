//! The status as a document: what `/api/status` serves, and what keeps a bridge from being ready.

use std::num::NonZeroU64;

use pontoon_core::Error;
use serde::{Deserialize, Serialize};

use super::{DirectionState, Metrics, metrics::known, now_micros};
use crate::{event::SetAside, side::Side};

/// The version of the document's form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

/// Everything that is known of a bridge at one moment. `null` is what is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusSnapshot {
    /// Of the document's form.
    pub schema_version: u32,
    /// When, in UTC.
    pub time: String,
    /// The bridge.
    pub bridge: String,
    /// The version of pontoon.
    pub version: String,
    /// This process holds the lease.
    pub active: bool,
    /// Who holds it, while this one stands by.
    pub standing_by_for: Option<String>,
    /// Nothing keeps the bridge from being relied on.
    pub ready: bool,
    /// What does.
    pub not_ready: Vec<String>,
    /// The nodes, A first.
    pub nodes: [NodeStatus; 2],
    /// From A to B, from B to A.
    pub directions: [DirectionStatus; 2],
    /// Tables that wait until both sides agree on them, while the others go on.
    #[serde(default)]
    pub tables_set_aside: Vec<SetAsideStatus>,
    /// Since when the oldest row in quarantine is there.
    #[serde(default)]
    pub quarantined_since: Option<String>,
    /// Read and not yet applied, in spill files.
    pub spill_bytes: Option<u64>,
    /// What may be.
    pub spill_limit_bytes: Option<u64>,
}

/// A table that is set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAsideStatus {
    /// The pair of tables.
    pub table: String,
    /// Why.
    pub error: StatusError,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// It answers.
    pub up: Option<bool>,
    /// What answered.
    pub server: Option<String>,
    /// Why it does not answer.
    pub error: Option<StatusError>,
    /// The end of its log.
    pub log_position: Option<String>,
    /// Log not yet applied on the other node.
    pub log_lag_bytes: Option<u64>,
    /// Log kept for the bridge.
    pub log_retained_bytes: Option<u64>,
    /// What can be written before log may be taken away that is needed.
    pub log_headroom_bytes: Option<u64>,
    /// The same in time.
    pub log_headroom_seconds: Option<f64>,
    /// Its clock less this host's.
    pub clock_offset_seconds: Option<f64>,
    /// How far that may be from the truth.
    pub clock_offset_uncertainty_seconds: Option<f64>,
    /// Attempts to connect.
    pub connect_attempts: u64,
    /// Connections that worked, after the first.
    pub reconnects: u64,
}

/// One way across.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectionStatus {
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// Some table goes this way.
    pub used: bool,
    /// What it is doing, as in `pontoon_direction_state`.
    pub state: String,
    /// When it goes on by itself, where it is paused for a time.
    #[serde(default)]
    pub paused_until: Option<String>,
    /// The limit on rows in a second that holds it back, where one does.
    #[serde(default)]
    pub throttled_rows_per_second: Option<u64>,
    /// What else holds it back: the hour, or how busy its target is.
    #[serde(default)]
    pub held_back: Option<String>,
    /// How far it is behind, by the source's clock.
    pub lag_seconds: Option<f64>,
    /// The same in the source's log.
    pub lag_bytes: Option<u64>,
    /// Where it stands in the source's log.
    pub position: Positions,
    /// When the last transaction that was read had been committed.
    pub last_received_commit_time: Option<String>,
    /// When the last transaction that was applied had been committed on the source.
    pub last_applied_commit_time: Option<String>,
    /// How much per second, lately.
    pub rates: Rates,
    /// Others' transactions read.
    pub transactions_received: u64,
    /// Source transactions durable on the target.
    pub transactions_applied: u64,
    /// User rows read.
    pub rows_received: u64,
    /// User rows applied.
    pub rows_applied: u64,
    /// User rows left out.
    pub rows_skipped: u64,
    /// The bridge's own transactions that came back and were suppressed.
    pub echo_transactions: u64,
    /// Conflicts settled.
    pub conflicts: u64,
    /// Rows that the target refuses and that are in quarantine.
    #[serde(default)]
    pub quarantined: Option<u64>,
    /// Transactions rolled back and tried again.
    pub retries: u64,
    /// Errors.
    pub errors: u64,
    /// The last one, until something is applied again.
    pub error: Option<StatusError>,
    /// Read and not yet applied, in memory.
    pub queue_bytes: Option<u64>,
    /// What may be.
    pub queue_limit_bytes: Option<u64>,
}

impl DirectionStatus {
    /// What it is doing, for people.
    pub fn in_words(&self) -> String {
        let state = self.state.replace('_', " ");
        match (&self.paused_until, self.throttled_rows_per_second) {
            (Some(until), _) => format!("{state} until {until}"),
            (None, Some(rows)) => format!("{state} to {rows} rows/s"),
            (None, None) => state,
        }
    }
}

/// Places in a source's log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Read up to here.
    pub received: Option<String>,
    /// Applied up to here.
    pub applied: Option<String>,
}

/// How much per second, over the last ten seconds or so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Rows read.
    pub rows_received_per_second: f64,
    /// Rows applied.
    pub rows_applied_per_second: f64,
    /// Their size.
    pub bytes_applied_per_second: f64,
}

/// An error for programs and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusError {
    /// Its stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<&Error> for StatusError {
    fn from(error: &Error) -> Self {
        StatusError {
            code: error.code().to_string(),
            message: error.message().to_owned(),
            hint: error.remedy().map(str::to_owned),
        }
    }
}

/// A gauge of bytes or of things counted.
fn bytes(value: f64) -> Option<u64> {
    known(value).map(|value| value as u64)
}

fn instant(seconds: f64) -> Option<String> {
    known(seconds).map(|seconds| pontoon_core::calendar::format_instant((seconds * 1e6) as i64))
}

/// JSON has no infinity: a headroom without end is not known.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl Metrics {
    /// The status now.
    pub fn status(&self) -> StatusSnapshot {
        let not_ready = self.not_ready();
        let (spill_bytes, spill_limit_bytes) = self.spill();
        StatusSnapshot {
            schema_version: SCHEMA_VERSION,
            time: pontoon_core::calendar::format_instant(now_micros()),
            bridge: self.bridge.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            active: self.is_active(),
            standing_by_for: self.holder(),
            ready: not_ready.is_empty(),
            not_ready,
            nodes: Side::BOTH.map(|side| self.node_status(side)),
            directions: Side::BOTH.map(|source| self.direction_status(source)),
            tables_set_aside: self
                .aside()
                .iter()
                .map(|SetAside { label, why }| SetAsideStatus { table: label.to_string(), error: why.into() })
                .collect(),
            quarantined_since: self.quarantined_since().map(pontoon_core::calendar::format_instant),
            spill_bytes: bytes(spill_bytes),
            spill_limit_bytes: bytes(spill_limit_bytes),
        }
    }

    /// What keeps the bridge from being relied on, in words; empty if nothing does.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.is_active() {
            reasons.push(match self.holder() {
                Some(holder) => format!("standing by: {holder} holds the lease"),
                None => "not active: the lease is not held".to_owned(),
            });
        }
        for side in Side::BOTH {
            let node = self.node(side);
            if node.is_up() != Some(true) {
                let why = node.words().error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                reasons.push(format!(
                    "node {} is {}{why}",
                    node.name,
                    if node.is_up().is_some() { "down" } else { "not connected yet" }
                ));
            }
        }
        for source in Side::BOTH {
            let direction = self.direction(source);
            if !direction.is_used() {
                continue;
            }
            let name = format!("{}->{}", direction.source, direction.target);
            match direction.state() {
                DirectionState::Streaming | DirectionState::CatchingUp | DirectionState::Throttled => {}
                state => reasons.push(format!("{name} is {state}")),
            }
            if let Some(why) = direction.held_back_in_words() {
                reasons.push(format!("{name} is held back: {why}"));
            }
            let (lag, limit) = (direction.lag_seconds(), self.ready_lag_seconds());
            if lag.is_nan() {
                reasons.push(format!("{name} has no known lag yet"));
            } else if lag > limit {
                reasons.push(format!("{name} is {lag:.0} s behind, more than {limit} s"));
            }
        }
        reasons.extend(self.aside().iter().map(|SetAside { label, why }| format!("table {label} is set aside: {why}")));
        reasons
    }

    fn node_status(&self, side: Side) -> NodeStatus {
        let node = self.node(side);
        let numbers = node.numbers();
        let words = node.words();
        NodeStatus {
            name: node.name.clone(),
            up: node.is_up(),
            server: words.server.clone(),
            error: words.error.as_ref().map(StatusError::from),
            log_position: words.log_end.as_ref().map(ToString::to_string),
            log_lag_bytes: bytes(numbers.log_lag_bytes),
            log_retained_bytes: bytes(numbers.log_retained_bytes),
            log_headroom_bytes: bytes(numbers.log_headroom_bytes),
            log_headroom_seconds: finite(numbers.log_headroom_seconds),
            clock_offset_seconds: finite(numbers.clock_offset_seconds),
            clock_offset_uncertainty_seconds: finite(numbers.clock_offset_uncertainty_seconds),
            connect_attempts: numbers.connect_attempts,
            reconnects: numbers.reconnects,
        }
    }

    fn direction_status(&self, source: Side) -> DirectionStatus {
        let direction = self.direction(source);
        let numbers = direction.numbers();
        let held_back = direction.held_back_in_words();
        let words = direction.words();
        DirectionStatus {
            source: direction.source.clone(),
            target: direction.target.clone(),
            used: direction.is_used(),
            state: direction.state().to_string(),
            paused_until: words
                .paused_until
                .filter(|_| direction.state() == DirectionState::Paused)
                .map(pontoon_core::calendar::format_instant),
            throttled_rows_per_second: words
                .throttled_to
                .filter(|_| direction.state() == DirectionState::Throttled)
                .map(NonZeroU64::get),
            held_back,
            lag_seconds: known(direction.lag_seconds()),
            lag_bytes: bytes(self.node(source).numbers().log_lag_bytes),
            position: Positions {
                received: words.received.as_ref().map(ToString::to_string),
                applied: words.applied.as_ref().map(ToString::to_string),
            },
            last_received_commit_time: instant(numbers.last_received),
            last_applied_commit_time: instant(numbers.last_applied),
            rates: Rates {
                rows_received_per_second: numbers.rows_received_per_second,
                rows_applied_per_second: numbers.rows_applied_per_second,
                bytes_applied_per_second: numbers.bytes_applied_per_second,
            },
            transactions_received: numbers.transactions_received,
            transactions_applied: numbers.transactions_applied,
            rows_received: numbers.rows_received,
            rows_applied: numbers.rows_applied,
            rows_skipped: numbers.rows_skipped,
            echo_transactions: numbers.echo_transactions,
            conflicts: numbers.conflicts,
            quarantined: bytes(numbers.quarantined),
            retries: numbers.retries,
            errors: numbers.errors,
            error: words.error.as_ref().map(StatusError::from),
            queue_bytes: bytes(numbers.queue_bytes),
            queue_limit_bytes: bytes(numbers.queue_limit_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Code, Position};

    use super::*;
    use crate::observe::events::{Active, Connected, Disconnected, StandingBy, StateChanged};

    #[test]
    fn ready_is_what_can_be_relied_on() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        assert_eq!(metrics.not_ready().len(), 7, "{:?}", metrics.not_ready());
        StandingBy { holder: "host, pid 7" }.emit(&metrics);
        assert!(metrics.not_ready()[0].contains("host, pid 7 holds the lease"));
        for side in Side::BOTH {
            assert!(metrics.node(side).is_up().is_none());
        }
        Active.emit(&metrics);
        let peer = pontoon_core::node::Peer {
            server: "PostgreSQL 15".into(),
            certificate_expiry: None,
            statement_bytes_max: None,
        };
        for side in Side::BOTH {
            Connected { node: side, peer: &peer }.emit(&metrics);
            StateChanged { source: side, state: DirectionState::Streaming }.emit(&metrics);
            metrics.direction(side).set_lag_seconds(0.1);
        }
        assert!(metrics.status().ready, "{:?}", metrics.not_ready());

        metrics.direction(Side::B).set_lag_seconds(31.0);
        assert_eq!(metrics.not_ready(), ["stock->shop is 31 s behind, more than 30 s"]);
        metrics.direction(Side::B).set_used(false);
        assert!(metrics.status().ready);
        let unused = &metrics.status().directions[1];
        assert_eq!((unused.state.as_str(), unused.lag_seconds), ("stopped", None));
        let error = Error::new(Code::Unreachable, "no answer");
        Disconnected { node: Side::A, error: &error, pause: None }.emit(&metrics);
        assert_eq!(metrics.not_ready(), ["node shop is down: no answer [unreachable]"]);
    }

    #[test]
    fn the_document_reads_back() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        metrics.passed(Side::A, &Position::Lsn(0x16B_3748), None);
        let text = serde_json::to_string(&metrics.status()).unwrap();
        assert!(text.starts_with("{\"schema_version\":1,"), "{text}");
        assert!(text.contains("\"applied\":\"0/16B3748\""), "{text}");
        assert!(text.contains("\"lag_seconds\":null"), "{text}");
        let status: StatusSnapshot = serde_json::from_str(&text).unwrap();
        assert_eq!(status.directions[0].position.applied.as_deref(), Some("0/16B3748"));
        assert!(!status.ready);
    }
}
