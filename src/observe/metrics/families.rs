//! Names, help texts and labels of the series that a direction or a node has.

use pontoon_core::Result;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry,
    core::{Collector, GenericCounterVec},
};

use super::failed;

/// Seconds from a millisecond to an hour.
const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// Bytes from a row to the largest transactions that are known to happen.
const BYTES: &[f64] =
    &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 16777216.0, 268435456.0, 4294967296.0];

/// Makes series and registers them.
pub(super) struct Builder<'a> {
    pub(super) registry: &'a Registry,
}

impl Builder<'_> {
    pub(super) fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("pontoon")
    }

    pub(super) fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C> {
        self.registry.register(Box::new(collector.clone())).map_err(failed)?;
        Ok(collector)
    }
}

/// The families, before their labels are given.
pub(super) struct Families {
    pub(super) direction_state: GaugeVec,
    pub(super) direction_held_back: GaugeVec,
    pub(super) lag_seconds: GaugeVec,
    pub(super) last_received: GaugeVec,
    pub(super) last_applied: GaugeVec,
    pub(super) queue_bytes: GaugeVec,
    pub(super) queue_limit_bytes: GaugeVec,
    pub(super) transactions_received: IntCounterVec,
    pub(super) transactions_applied: IntCounterVec,
    pub(super) rows_received: IntCounterVec,
    pub(super) rows_applied: IntCounterVec,
    pub(super) rows_skipped: IntCounterVec,
    pub(super) values_converted: IntCounterVec,
    pub(super) copy_rows: IntCounterVec,
    pub(super) copy_estimated_rows: GaugeVec,
    pub(super) received_bytes: IntCounterVec,
    pub(super) applied_bytes: IntCounterVec,
    pub(super) echo_transactions: IntCounterVec,
    pub(super) loop_guard_trips: IntCounterVec,
    pub(super) conflicts: IntCounterVec,
    pub(super) conflict_tie_breaks: IntCounterVec,
    pub(super) quarantined: GaugeVec,
    pub(super) quarantined_total: IntCounterVec,
    pub(super) errors: IntCounterVec,
    pub(super) apply_retries: IntCounterVec,
    pub(super) commit_to_apply: HistogramVec,
    pub(super) apply_duration: HistogramVec,
    pub(super) transaction_size: HistogramVec,
    pub(super) rendezvous_duration: HistogramVec,
    pub(super) node_up: GaugeVec,
    pub(super) log_lag_bytes: GaugeVec,
    pub(super) log_retained_bytes: GaugeVec,
    pub(super) log_headroom_bytes: GaugeVec,
    pub(super) log_headroom_seconds: GaugeVec,
    pub(super) clock_offset: GaugeVec,
    pub(super) clock_offset_uncertainty: GaugeVec,
    pub(super) certificate_expiry: GaugeVec,
    pub(super) connect_attempts: IntCounterVec,
}

const D: &[&str] = &["bridge", "source", "target"];
const N: &[&str] = &["bridge", "node"];

impl Families {
    pub(super) fn new(builder: &Builder<'_>) -> Result<Self> {
        let with = |base: &[&'static str], more: &[&'static str]| [base, more].concat();
        let gauge = |name, help, labels: Vec<&'static str>| {
            builder.register(GaugeVec::new(builder.options(name, help), &labels).map_err(failed)?)
        };
        let counter = |name, help, labels: Vec<&'static str>| {
            builder.register(GenericCounterVec::new(builder.options(name, help), &labels).map_err(failed)?)
        };
        let histogram = |name, help, labels: Vec<&'static str>, buckets: &[f64]| {
            let options = HistogramOpts::from(builder.options(name, help)).buckets(buckets.to_vec());
            builder.register(HistogramVec::new(options, &labels).map_err(failed)?)
        };
        Ok(Families {
            direction_state: gauge(
                "direction_state",
                "What a direction is doing: 1 for its state, 0 for the others",
                with(D, &["state"]),
            )?,
            direction_held_back: gauge(
                "direction_held_back",
                "Whether a limit holds a direction back on purpose, by which limit: 1 for those that do, 0 for the others",
                with(D, &["reason"]),
            )?,
            lag_seconds: gauge(
                "replication_lag_seconds",
                "How far the target is behind the source, by the source's clock; true on an idle link too",
                with(D, &[]),
            )?,
            last_received: gauge(
                "last_received_commit_timestamp_seconds",
                "When the last transaction that was read had been committed",
                with(D, &[]),
            )?,
            last_applied: gauge(
                "last_applied_commit_timestamp_seconds",
                "When the last transaction that was applied had been committed on the source",
                with(D, &[]),
            )?,
            queue_bytes: gauge("queue_bytes", "Read and not yet applied, in memory", with(D, &[]))?,
            queue_limit_bytes: gauge(
                "queue_limit_bytes",
                "What may be in memory of it; the rest is spilled",
                with(D, &[]),
            )?,
            transactions_received: counter(
                "transactions_received_total",
                "Transactions of others than the bridge that were read",
                with(D, &[]),
            )?,
            transactions_applied: counter(
                "transactions_applied_total",
                "Source transactions that are durable on the target",
                with(D, &[]),
            )?,
            rows_received: counter("rows_received_total", "User rows read", with(D, &["op"]))?,
            rows_applied: counter("rows_applied_total", "User rows applied", with(D, &["op"]))?,
            rows_skipped: counter("rows_skipped_total", "User rows read and left out", with(D, &["reason"]))?,
            values_converted: counter(
                "values_converted_total",
                "Values read that are others on the target, by the rule of their column for what it cannot hold",
                with(D, &["reason"]),
            )?,
            copy_rows: counter("copy_rows_total", "User rows looked at by first loads", with(D, &[]))?,
            copy_estimated_rows: gauge(
                "copy_estimated_rows",
                "Rows that the table of the first load that is underway has, by the source's statistics",
                with(D, &[]),
            )?,
            received_bytes: counter("received_bytes_total", "Size of the user rows read", with(D, &[]))?,
            applied_bytes: counter("applied_bytes_total", "Size of the user rows applied", with(D, &[]))?,
            echo_transactions: counter(
                "echo_transactions_total",
                "The bridge's own transactions that came back from a log and were suppressed",
                with(D, &[]),
            )?,
            loop_guard_trips: counter(
                "loop_guard_trips_total",
                "Rows that seem to go round without end and were put into quarantine",
                with(D, &[]),
            )?,
            conflicts: counter(
                "conflicts_total",
                "Conflicts settled, or waiting in quarantine",
                with(D, &["type", "outcome"]),
            )?,
            conflict_tie_breaks: counter(
                "conflict_tie_breaks_total",
                "Conflicts with equal commit times, decided by priority",
                with(D, &[]),
            )?,
            quarantined: gauge("quarantined", "Rows that the target refuses and that are in quarantine", with(D, &[]))?,
            quarantined_total: counter(
                "quarantined_total",
                "Rows that went into quarantine because the target refused them",
                with(D, &["reason"]),
            )?,
            errors: counter(
                "errors_total",
                "Errors, also those that were tried again; rows that a target refuses are counted by quarantined_total",
                with(D, &["stage", "class"]),
            )?,
            apply_retries: counter(
                "apply_retries_total",
                "Transactions rolled back and tried again",
                with(D, &["reason"]),
            )?,
            commit_to_apply: histogram(
                "commit_to_apply_seconds",
                "From the commit on the source to the commit on the target",
                with(D, &[]),
                SECONDS,
            )?,
            apply_duration: histogram(
                "apply_duration_seconds",
                "What applying took its time for",
                with(D, &["stage"]),
                SECONDS,
            )?,
            transaction_size: histogram(
                "transaction_size_bytes",
                "Size of the user rows of a transaction",
                with(D, &[]),
                BYTES,
            )?,
            rendezvous_duration: histogram(
                "rendezvous_duration_seconds",
                "From the request to settle conflicts to both commits",
                with(D, &[]),
                SECONDS,
            )?,
            node_up: gauge("node_up", "The node answers", with(N, &[]))?,
            log_lag_bytes: gauge(
                "source_log_lag_bytes",
                "Log of the node that is not yet applied on the other",
                with(N, &[]),
            )?,
            log_retained_bytes: gauge(
                "source_log_retained_bytes",
                "Log that the node keeps for the bridge",
                with(N, &[]),
            )?,
            log_headroom_bytes: gauge(
                "source_log_headroom_bytes",
                "What can still be written before the node may take away log that is needed",
                with(N, &[]),
            )?,
            log_headroom_seconds: gauge(
                "source_log_headroom_seconds",
                "The same in time, at the present rate of writing",
                with(N, &[]),
            )?,
            clock_offset: gauge("clock_offset_seconds", "The node's clock less this host's", with(N, &[]))?,
            clock_offset_uncertainty: gauge(
                "clock_offset_uncertainty_seconds",
                "How far that may be from the truth",
                with(N, &[]),
            )?,
            certificate_expiry: gauge(
                "tls_certificate_expiry_timestamp_seconds",
                "When the node's certificate expires",
                with(N, &[]),
            )?,
            connect_attempts: counter("connect_attempts_total", "Attempts to connect", with(N, &["result"]))?,
        })
    }
}
