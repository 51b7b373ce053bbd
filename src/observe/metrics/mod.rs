//! Every series of `/metrics`, all there from the start: NaN where the value is not known yet.
//!
//! | file | holds |
//! | --- | --- |
//! | `labels.rs` | the values of labels, as types |
//! | `families.rs` | names, help texts, labels |
//! | `direction.rs` · `node.rs` | what is counted of a direction, of a node |

mod direction;
mod families;
mod labels;
mod node;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pontoon_core::{Code, Error, Position, Result, verified::Verified};
use prometheus::{Encoder, Gauge, GaugeVec, IntCounterVec, Registry, TextEncoder};

use self::families::{Builder, Families};
pub use self::{
    direction::DirectionMetrics,
    labels::{
        ApplyStage, ConflictKind, ConnectResult, ConversionReason, DirectionState, HoldReason, Outcome,
        QuarantineReason, RetryReason, RowCounts, SkipReason, Stage,
    },
    node::NodeMetrics,
};
use super::{hour::Hour, now_micros};
use crate::{
    config::Config,
    event::SetAside,
    logging,
    side::{Pair, Side},
};

/// The revision of the source, where the build was told it.
const REVISION: Option<&str> = option_env!("PONTOON_REVISION");

/// A gauge for each of some labels' values, or a counter.
#[derive(Clone)]
struct By<M>(Vec<M>);

impl<M> By<M> {
    fn at(&self, index: usize) -> Option<&M> {
        self.0.get(index)
    }
}

fn failed(error: impl fmt::Display) -> Error {
    Error::new(Code::Internal, format!("metrics: {error}"))
}

/// All series of one bridge.
pub struct Metrics {
    pub(super) bridge: String,
    registry: Registry,
    nodes: Pair<NodeMetrics>,
    directions: Pair<DirectionMetrics>,
    active: Gauge,
    /// How many tables are bridged, and how many are set aside.
    tables: [Gauge; 2],
    aside: Mutex<Vec<SetAside>>,
    /// When a comparison last found both sides equal.
    verified: Gauge,
    /// What the last one found to differ: on both, only on A, only on B.
    differing: [Gauge; 3],
    spill_bytes: Gauge,
    spill_limit_bytes: Gauge,
    log_messages: Mutex<IntCounterVec>,
    holder: Mutex<Option<String>>,
    quarantined_since: Mutex<Option<i64>>,
    hours: Pair<Hour>,
    ready_lag_seconds: f64,
    pub(super) conflict_lines: super::events::Throttle,
    pub(super) quarantine_lines: super::events::Throttle,
}

impl Metrics {
    /// All series of a bridge between two nodes, A first. Errors only where two names make the same
    /// series, which a configuration rules out.
    pub fn new(bridge: &str, nodes: [&str; 2]) -> Result<Self> {
        let registry = Registry::new();
        let builder = Builder { registry: &registry };
        let families = Families::new(&builder)?;
        let gauge = |name, help| {
            let family = builder.register(GaugeVec::new(builder.options(name, help), &["bridge"]).map_err(failed)?)?;
            let gauge = family.get_metric_with_label_values(&[bridge]).map_err(failed)?;
            gauge.set(f64::NAN);
            Ok::<_, Error>(gauge)
        };
        let tables = GaugeVec::new(
            builder.options("tables", "Tables that are set up, by what becomes of their changes"),
            &["bridge", "state"],
        );
        let tables = builder.register(tables.map_err(failed)?)?;
        let tables_in = |state| {
            let gauge = tables.get_metric_with_label_values(&[bridge, state]).map_err(failed)?;
            gauge.set(f64::NAN);
            Ok::<_, Error>(gauge)
        };
        let differing = GaugeVec::new(
            builder.options("verify_rows_different", "Rows that the last comparison of all tables found to differ"),
            &["bridge", "kind"],
        );
        let differing = builder.register(differing.map_err(failed)?)?;
        let differing_in = |kind: &str| {
            let gauge = differing.get_metric_with_label_values(&[bridge, kind]).map_err(failed)?;
            gauge.set(f64::NAN);
            Ok::<_, Error>(gauge)
        };
        let info =
            GaugeVec::new(builder.options("build_info", "Which build this is; always 1"), &["version", "revision"]);
        let info = builder.register(info.map_err(failed)?)?;
        info.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION"), REVISION.unwrap_or("unknown")])
            .map_err(failed)?
            .set(1.0);
        let log_messages = IntCounterVec::new(builder.options("log_messages_total", "Lines logged"), &["level"]);
        let log_messages = builder.register(log_messages.map_err(failed)?)?;
        let [a, b] = nodes;
        let metrics = Metrics {
            bridge: bridge.to_owned(),
            nodes: Pair::new(NodeMetrics::new(&families, bridge, a)?, NodeMetrics::new(&families, bridge, b)?),
            directions: Pair::new(
                DirectionMetrics::new(&families, bridge, a, b)?,
                DirectionMetrics::new(&families, bridge, b, a)?,
            ),
            tables: [tables_in("bridged")?, tables_in("set_aside")?],
            aside: Mutex::default(),
            verified: gauge(
                "verify_last_success_timestamp_seconds",
                "When a comparison of all tables last found both sides equal",
            )?,
            differing: [
                differing_in("different")?,
                differing_in(&format!("only on {a}"))?,
                differing_in(&format!("only on {b}"))?,
            ],
            active: gauge("active", "This process holds the lease and works; others stand by")?,
            spill_bytes: gauge("spill_bytes", "Read and not yet applied, in spill files")?,
            spill_limit_bytes: gauge("spill_limit_bytes", "What may be in spill files; at the limit the reader stops")?,
            log_messages: Mutex::new(log_messages),
            holder: Mutex::new(None),
            quarantined_since: Mutex::new(None),
            hours: Pair::new(Hour::default(), Hour::default()),
            ready_lag_seconds: 30.0,
            conflict_lines: super::events::Throttle::new(),
            quarantine_lines: super::events::Throttle::new(),
            registry,
        };
        metrics.active.set(0.0);
        metrics.count_log_messages();
        Ok(metrics)
    }

    /// The series of a configured bridge, its limits set.
    pub fn of(config: &Config) -> Result<Self> {
        let names = Side::BOTH.map(|side| config.node(side).name.as_str());
        let mut metrics = Metrics::new(config.bridge.as_str(), names)?;
        metrics.ready_lag_seconds = config.server.ready_lag_seconds;
        metrics.spill_limit_bytes.set(config.limits.spill_bytes as f64);
        Ok(metrics)
    }

    /// The direction from `source` to the other side.
    pub fn direction(&self, source: Side) -> &DirectionMetrics {
        &self.directions[source]
    }

    /// The direction from `source` if it is used; both that are used where it is not said which.
    pub fn directions_of(&self, source: Option<Side>) -> impl Iterator<Item = &DirectionMetrics> {
        let named = Side::BOTH.into_iter().filter(move |side| source.is_none_or(|source| source == *side));
        named.map(|side| self.direction(side)).filter(|direction| direction.is_used())
    }

    /// The last hour of the direction from `source`.
    pub(super) fn hour(&self, source: Side) -> &Hour {
        &self.hours[source]
    }

    /// A node.
    pub fn node(&self, side: Side) -> &NodeMetrics {
        &self.nodes[side]
    }

    /// This process holds the lease, or not: then who does, where it is known.
    pub fn set_active(&self, active: bool, holder: Option<&str>) {
        self.active.set(if active { 1.0 } else { 0.0 });
        *lock(&self.holder) = holder.map(str::to_owned);
    }

    /// Whether this process holds the lease.
    pub fn is_active(&self) -> bool {
        self.active.get() == 1.0
    }

    /// Whether this process works or stands by for another one; `None` where it is about to find out.
    pub(crate) fn works(&self) -> Option<bool> {
        if self.is_active() { Some(true) } else { self.holder().map(|_| false) }
    }

    pub(super) fn holder(&self) -> Option<String> {
        lock(&self.holder).clone()
    }

    /// Bytes in spill files, of both directions, and what they may be.
    pub fn set_spill_bytes(&self, bytes: u64, limit: u64) {
        self.spill_bytes.set(bytes as f64);
        self.spill_limit_bytes.set(limit as f64);
    }

    /// How many tables are bridged, and which are set aside; returns those that were before.
    pub fn set_tables(&self, bridged: usize, aside: Vec<SetAside>) -> Vec<SetAside> {
        for (gauge, count) in self.tables.iter().zip([bridged, aside.len()]) {
            gauge.set(count as f64);
        }
        std::mem::replace(&mut *lock(&self.aside), aside)
    }

    pub(super) fn aside(&self) -> Vec<SetAside> {
        lock(&self.aside).clone()
    }

    /// What the last comparison came to.
    pub fn set_verified(&self, verified: &Verified) {
        self.verified.set(verified.equal_at.map_or(f64::NAN, |at| at as f64 / 1e6));
        let found = [verified.different, verified.only_a, verified.only_b];
        for (gauge, rows) in self.differing.iter().zip(found) {
            gauge.set(rows as f64);
        }
    }

    /// Since when the oldest entry in quarantine is there, in microseconds since 1970 UTC; `None` for no entry.
    pub fn set_quarantined_since(&self, since: Option<i64>) {
        *lock(&self.quarantined_since) = since;
    }

    pub(super) fn quarantined_since(&self) -> Option<i64> {
        *lock(&self.quarantined_since)
    }

    pub(super) fn spill(&self) -> (f64, f64) {
        (self.spill_bytes.get(), self.spill_limit_bytes.get())
    }

    pub(super) fn ready_lag_seconds(&self) -> f64 {
        self.ready_lag_seconds
    }

    /// The log of `source` is behind us up to the moment `time` of its clock: what the lag is measured by.
    pub fn passed(&self, source: Side, position: &Position, time: Option<i64>) {
        let direction = self.direction(source);
        direction.applied_up_to(position);
        // A clock that was never read may be hours off: no lag is better than a wrong one.
        if let (Some(time), Some(offset)) = (time, self.node(source).clock_offset_seconds()) {
            direction.set_lag_seconds((now_micros() - time) as f64 / 1e6 + offset);
        }
    }

    /// The page of `/metrics`.
    pub fn encode(&self) -> Result<String> {
        for side in Side::BOTH {
            let direction = self.direction(side);
            direction.lag_seconds.set(direction.lag_seconds());
        }
        self.count_log_messages();
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page).map_err(failed)?;
        String::from_utf8(page).map_err(failed)
    }

    /// The reference page of the metrics, in Markdown.
    pub fn reference() -> Result<String> {
        let metrics = Metrics::new("BRIDGE", ["A", "B"])?;
        let mut page = String::from(
            "# Metrics\n\n<!-- Generated from src/observe/metrics by `cargo test --test config`; edit them there. -->\n\n\
             Prometheus text on `/metrics`, in base units. All series exist from the start, NaN where the value is not known.\n\n\
             | name | kind | labels | |\n| --- | --- | --- | --- |\n",
        );
        for family in metrics.registry.gather() {
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            let first = family.get_metric().first();
            let labels = first.map_or_else(Vec::new, |series| {
                series.get_label().iter().map(|label| format!("`{}`", label.name())).collect()
            });
            let line = [family.name(), &kind, &labels.join(", "), family.help()].map(|cell| cell.replace('|', "\\|"));
            page += &format!("| `{}` | {} | {} | {} |\n", line[0], line[1], line[2], line[3]);
        }
        Ok(page)
    }

    /// Brings the counter up to what the log has counted.
    fn count_log_messages(&self) {
        let family = lock(&self.log_messages);
        for (level, count) in logging::counts() {
            if let Ok(counter) = family.get_metric_with_label_values(&[level]) {
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number, unless it is NaN.
pub(super) fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use pontoon_core::node::LogStatus;

    use super::*;

    /// Name, type, and how many series each has at the start: the contract of the interface page.
    const CONTRACT: &[(&str, &str, usize)] = &[
        ("active", "gauge", 1),
        ("apply_duration_seconds", "histogram", 6),
        ("apply_retries_total", "counter", 10),
        ("applied_bytes_total", "counter", 2),
        ("build_info", "gauge", 1),
        ("clock_offset_seconds", "gauge", 2),
        ("clock_offset_uncertainty_seconds", "gauge", 2),
        ("commit_to_apply_seconds", "histogram", 2),
        ("conflict_tie_breaks_total", "counter", 2),
        ("conflicts_total", "counter", 72),
        ("connect_attempts_total", "counter", 10),
        ("direction_held_back", "gauge", 10),
        ("direction_state", "gauge", 12),
        ("echo_transactions_total", "counter", 2),
        ("errors_total", "counter", 30),
        ("last_applied_commit_timestamp_seconds", "gauge", 2),
        ("last_received_commit_timestamp_seconds", "gauge", 2),
        ("log_messages_total", "counter", 5),
        ("loop_guard_trips_total", "counter", 2),
        ("node_up", "gauge", 2),
        ("quarantined", "gauge", 2),
        ("quarantined_total", "counter", 12),
        ("queue_bytes", "gauge", 2),
        ("queue_limit_bytes", "gauge", 2),
        ("received_bytes_total", "counter", 2),
        ("rendezvous_duration_seconds", "histogram", 2),
        ("replication_lag_seconds", "gauge", 2),
        ("rows_applied_total", "counter", 6),
        ("rows_received_total", "counter", 6),
        ("rows_skipped_total", "counter", 8),
        ("copy_rows_total", "counter", 2),
        ("copy_estimated_rows", "gauge", 2),
        ("source_log_headroom_bytes", "gauge", 2),
        ("source_log_headroom_seconds", "gauge", 2),
        ("source_log_lag_bytes", "gauge", 2),
        ("source_log_retained_bytes", "gauge", 2),
        ("spill_bytes", "gauge", 1),
        ("spill_limit_bytes", "gauge", 1),
        ("tables", "gauge", 2),
        ("tls_certificate_expiry_timestamp_seconds", "gauge", 2),
        ("transaction_size_bytes", "histogram", 2),
        ("transactions_applied_total", "counter", 2),
        ("transactions_received_total", "counter", 2),
        ("values_converted_total", "counter", 10),
        ("verify_last_success_timestamp_seconds", "gauge", 1),
        ("verify_rows_different", "gauge", 3),
    ];

    fn metrics() -> Metrics {
        Metrics::new("shop-stock", ["shop", "stock"]).unwrap()
    }

    fn value(page: &str, series: &str) -> f64 {
        let line =
            page.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn every_series_of_the_contract_is_there_from_the_start() {
        let page = metrics().encode().unwrap();
        let mut types = BTreeMap::new();
        let mut helps = BTreeMap::new();
        let mut series: BTreeMap<String, usize> = BTreeMap::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                helps.insert(name.to_owned(), help.len());
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = ["_bucket", "_sum"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end).filter(|name| types.contains_key(*name)));
                if family.is_some() {
                    continue;
                }
                let name = name.strip_suffix("_count").filter(|name| types.contains_key(*name)).unwrap_or(name);
                *series.entry(name.to_owned()).or_default() += 1;
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        for (name, kind, count) in CONTRACT {
            let name = format!("pontoon_{name}");
            assert_eq!(types.remove(&name).as_deref(), Some(*kind), "{name}");
            assert_eq!(series.get(&name), Some(count), "{name}");
            assert!(helps[&name] > 10, "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        }
        assert!(types.is_empty(), "not in the contract: {types:?}");
    }

    #[test]
    fn what_is_not_known_is_nan() {
        let page = metrics().encode().unwrap();
        let both = "{bridge=\"shop-stock\",source=\"shop\",target=\"stock\"}";
        assert!(value(&page, &format!("pontoon_replication_lag_seconds{both}")).is_nan());
        assert!(value(&page, "pontoon_node_up{bridge=\"shop-stock\",node=\"stock\"}").is_nan());
        assert!(value(&page, "pontoon_source_log_retained_bytes").is_nan());
        assert_eq!(value(&page, "pontoon_active"), 0.0);
        assert_eq!(value(&page, &format!("pontoon_transactions_applied_total{both}")), 0.0);
        assert!(page.contains("pontoon_conflicts_total{bridge=\"shop-stock\",outcome=\"target\",source=\"stock\",target=\"shop\",type=\"update_deleted\"} 0"));
        assert!(page.contains("pontoon_build_info{revision=\"unknown\",version=\"0.1.0\"} 1") || REVISION.is_some());
    }

    #[test]
    fn what_was_compared_last_is_shown() {
        let metrics = metrics();
        let shown = |metrics: &Metrics| {
            let page = metrics.encode().unwrap();
            let kinds = ["different", "only on shop", "only on stock"];
            let rows = |kind| format!("pontoon_verify_rows_different{{bridge=\"shop-stock\",kind=\"{kind}\"}}");
            let equal = value(&page, "pontoon_verify_last_success_timestamp_seconds{bridge=\"shop-stock\"}");
            (equal, kinds.map(|kind| value(&page, &rows(kind))))
        };
        let (equal, rows) = shown(&metrics);
        assert!(equal.is_nan() && rows.iter().all(|rows| rows.is_nan()));
        metrics.set_verified(&Verified { equal_at: Some(5_500_000), different: 1, only_a: 2, only_b: 3 });
        assert_eq!(shown(&metrics), (5.5, [1.0, 2.0, 3.0]));
        metrics.set_verified(&Verified { different: 7, ..Verified::default() });
        let (equal, rows) = shown(&metrics);
        assert!(equal.is_nan() && rows == [7.0, 0.0, 0.0], "{rows:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_direction_falls_behind() {
        let metrics = metrics();
        let direction = metrics.direction(Side::A);
        direction.set_lag_seconds(0.2);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(direction.lag_seconds(), 0.2);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!((direction.lag_seconds() - 34.2).abs() < 1e-6);
        assert!(metrics.direction(Side::B).lag_seconds().is_nan());
    }

    #[tokio::test(start_paused = true)]
    async fn headroom_in_time_follows_the_rate_of_writing() {
        let metrics = metrics();
        let node = metrics.node(Side::A);
        let status = |end: u64, headroom: u64| LogStatus {
            end: Position::Lsn(end),
            behind_bytes: Some(0),
            retained_bytes: None,
            headroom_bytes: Some(headroom),
            clock: now_micros() + 3_000_000,
        };
        node.log_status(&status(0, 10_000_000), 0.01);
        assert!(metrics.encode().unwrap().contains("headroom_seconds{bridge=\"shop-stock\",node=\"shop\"} NaN"));
        for second in 1..=120u64 {
            tokio::time::advance(Duration::from_secs(1)).await;
            node.log_status(&status(second * 1000, 10_000_000), 0.01);
        }
        let seconds = value(
            &metrics.encode().unwrap(),
            "pontoon_source_log_headroom_seconds{bridge=\"shop-stock\",node=\"shop\"}",
        );
        assert!((seconds - 10_000.0).abs() < 1_000.0, "{seconds}");
        assert!((node.clock_offset_seconds().unwrap() - 3.0).abs() < 0.1);
    }

    #[test]
    fn states_exclude_each_other() {
        let metrics = metrics();
        let direction = metrics.direction(Side::B);
        assert_eq!(direction.state(), DirectionState::Stopped);
        for state in DirectionState::ALL {
            direction.set_state(*state);
            assert_eq!(direction.state(), *state);
            let page = metrics.encode().unwrap();
            let on = page.lines().filter(|line| {
                line.starts_with("pontoon_direction_state") && line.contains("source=\"stock\"") && line.ends_with(" 1")
            });
            assert_eq!(on.count(), 1);
        }
    }
}
