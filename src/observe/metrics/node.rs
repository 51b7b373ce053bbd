//! The series of one node.

use std::sync::{Mutex, MutexGuard};

use pontoon_core::{
    Code, Error, Position, Result,
    node::{LogStatus, Peer},
};
use prometheus::{Gauge, GaugeVec, IntCounter};
use tokio::time::Instant;

use super::{By, ConnectResult, failed, families::Families, known, lock};
use crate::observe::{now_micros, rate::Rate};

/// What is known of a node beside its numbers.
#[derive(Debug, Default)]
pub(in crate::observe) struct NodeWords {
    pub(in crate::observe) server: Option<String>,
    pub(in crate::observe) log_end: Option<Position>,
    pub(in crate::observe) error: Option<Error>,
    /// Where the log ended when the rate of writing was last looked at.
    measured: Option<(Position, Instant)>,
}

/// The series of one node.
pub struct NodeMetrics {
    pub(in crate::observe) name: String,
    up: Gauge,
    log_lag_bytes: Gauge,
    log_retained_bytes: Gauge,
    log_headroom_bytes: Gauge,
    log_headroom_seconds: Gauge,
    clock_offset: Gauge,
    clock_offset_uncertainty: Gauge,
    certificate_expiry: Gauge,
    connect_attempts: By<IntCounter>,
    written: Rate,
    words: Mutex<NodeWords>,
}

impl NodeMetrics {
    pub(super) fn new(families: &Families, bridge: &str, name: &str) -> Result<Self> {
        let labels = [bridge, name];
        let gauge = |family: &GaugeVec| {
            let gauge = family.get_metric_with_label_values(&labels).map_err(failed)?;
            gauge.set(f64::NAN);
            Ok::<_, Error>(gauge)
        };
        let attempts = |value: &&str| {
            families.connect_attempts.get_metric_with_label_values(&[bridge, name, value]).map_err(failed)
        };
        Ok(NodeMetrics {
            name: name.to_owned(),
            up: gauge(&families.node_up)?,
            log_lag_bytes: gauge(&families.log_lag_bytes)?,
            log_retained_bytes: gauge(&families.log_retained_bytes)?,
            log_headroom_bytes: gauge(&families.log_headroom_bytes)?,
            log_headroom_seconds: gauge(&families.log_headroom_seconds)?,
            clock_offset: gauge(&families.clock_offset)?,
            clock_offset_uncertainty: gauge(&families.clock_offset_uncertainty)?,
            certificate_expiry: gauge(&families.certificate_expiry)?,
            connect_attempts: By(ConnectResult::TEXTS.iter().map(attempts).collect::<Result<_>>()?),
            written: Rate::new(),
            words: Mutex::default(),
        })
    }

    /// Whether the node answers. Says whether that is new.
    pub fn set_up(&self, up: bool) -> bool {
        let value = if up { 1.0 } else { 0.0 };
        let changed = self.up.get() != value;
        self.up.set(value);
        if up {
            self.words().error = None;
        }
        changed
    }

    /// Whether the node answers; `None` while that is not known.
    pub fn is_up(&self) -> Option<bool> {
        known(self.up.get()).map(|up| up == 1.0)
    }

    /// What answered.
    pub fn set_peer(&self, peer: &Peer) {
        self.words().server = Some(peer.server.clone());
        self.certificate_expiry.set(peer.certificate_expiry.map_or(f64::NAN, |seconds| seconds as f64));
    }

    /// Whether the node last refused the login, or a trusted connection. Each attempt counts against the user there.
    pub fn is_refused(&self) -> bool {
        let code = self.words().error.as_ref().map(Error::code);
        matches!(code, Some(Code::LoginRefused | Code::TlsFailed))
    }

    /// An attempt to connect was made.
    pub fn connect_attempt(&self, result: ConnectResult) {
        if let Some(counter) = self.connect_attempts.at(result as usize) {
            counter.inc();
        }
    }

    /// The node does not answer. Says whether that is another error than before.
    pub fn error(&self, error: &Error) -> bool {
        let mut words = self.words();
        let changed = words.error.as_ref().map(Error::code) != Some(error.code());
        words.error = Some(error.clone());
        changed
    }

    /// Where the log stands. `took` is how long the node needed to answer, and so how wrong the clock's
    /// reading can be.
    pub fn log_status(&self, status: &LogStatus, took_seconds: f64) {
        let number = |value: Option<u64>| value.map_or(f64::NAN, |value| value as f64);
        self.log_lag_bytes.set(number(status.behind_bytes));
        self.log_retained_bytes.set(number(status.retained_bytes));
        self.log_headroom_bytes.set(number(status.headroom_bytes));
        self.clock_offset.set((status.clock - now_micros()) as f64 / 1e6 + took_seconds / 2.0);
        self.clock_offset_uncertainty.set(took_seconds / 2.0);
        let mut words = self.words();
        if let Some((before, _)) = &words.measured {
            // Nothing is known of the rate where the log went on in another file.
            if let Some(bytes) = status.end.bytes_since(before) {
                self.written.add(bytes as f64);
            }
        }
        let first = words.measured.is_none();
        words.measured = Some((status.end.clone(), Instant::now()));
        words.log_end = Some(status.end.clone());
        let per_second = self.written.per_second();
        self.log_headroom_seconds.set(match status.headroom_bytes {
            Some(_) if first => f64::NAN,
            Some(bytes) if per_second > 0.0 => bytes as f64 / per_second,
            Some(_) => f64::INFINITY,
            None => f64::NAN,
        });
    }

    /// The node's clock less this host's, where it is known.
    pub fn clock_offset_seconds(&self) -> Option<f64> {
        known(self.clock_offset.get())
    }

    pub(in crate::observe) fn words(&self) -> MutexGuard<'_, NodeWords> {
        lock(&self.words)
    }

    pub(in crate::observe) fn numbers(&self) -> NodeNumbers {
        let attempts = |result: ConnectResult| self.connect_attempts.at(result as usize).map_or(0, IntCounter::get);
        NodeNumbers {
            log_lag_bytes: self.log_lag_bytes.get(),
            log_retained_bytes: self.log_retained_bytes.get(),
            log_headroom_bytes: self.log_headroom_bytes.get(),
            log_headroom_seconds: self.log_headroom_seconds.get(),
            clock_offset_seconds: self.clock_offset.get(),
            clock_offset_uncertainty_seconds: self.clock_offset_uncertainty.get(),
            connect_attempts: self.connect_attempts.0.iter().map(IntCounter::get).sum(),
            reconnects: attempts(ConnectResult::Connected).saturating_sub(1),
        }
    }
}

/// A node's numbers at one moment.
pub(in crate::observe) struct NodeNumbers {
    pub(in crate::observe) log_lag_bytes: f64,
    pub(in crate::observe) log_retained_bytes: f64,
    pub(in crate::observe) log_headroom_bytes: f64,
    pub(in crate::observe) log_headroom_seconds: f64,
    pub(in crate::observe) clock_offset_seconds: f64,
    pub(in crate::observe) clock_offset_uncertainty_seconds: f64,
    pub(in crate::observe) connect_attempts: u64,
    pub(in crate::observe) reconnects: u64,
}
