//! The series of one direction.

use std::{
    num::NonZeroU64,
    sync::{Mutex, MutexGuard},
};

use pontoon_core::{Error, Position, Result};
use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use tokio::time::Instant;

use super::{
    ApplyStage, By, ConflictKind, ConversionReason, DirectionState, HoldReason, Outcome, QuarantineReason, RetryReason,
    RowCounts, SkipReason, Stage, failed, families::Families, lock,
};
use crate::{held_back::HeldBack, observe::rate::Rate};

/// While news come at least this often the lag is as it was at the last news; after it the time since then
/// counts too, so that a dead link shows. More than two heartbeats.
const NEWS_SECONDS: f64 = 5.0;

/// What is known of a direction beside its numbers.
#[derive(Debug, Default)]
pub(in crate::observe) struct DirectionWords {
    pub(in crate::observe) received: Option<Position>,
    pub(in crate::observe) applied: Option<Position>,
    /// The last error, until something is applied again.
    pub(in crate::observe) error: Option<Error>,
    /// When the last pause ends by itself, or ended, in microseconds since 1970 UTC.
    pub(in crate::observe) paused_until: Option<i64>,
    /// The limit that holds it back.
    pub(in crate::observe) throttled_to: Option<NonZeroU64>,
    /// What else holds it back.
    pub(in crate::observe) held_back: Option<HeldBack>,
}

/// The lag at the last news, and when that was.
#[derive(Debug, Clone, Copy)]
struct News {
    lag_seconds: f64,
    at: Instant,
}

/// The series of one direction.
pub struct DirectionMetrics {
    pub(in crate::observe) source: String,
    pub(in crate::observe) target: String,
    state: By<Gauge>,
    held_back: By<Gauge>,
    pub(super) lag_seconds: Gauge,
    last_received: Gauge,
    last_applied: Gauge,
    queue_bytes: Gauge,
    queue_limit_bytes: Gauge,
    transactions_received: IntCounter,
    transactions_applied: IntCounter,
    rows_received: By<IntCounter>,
    rows_applied: By<IntCounter>,
    rows_skipped: By<IntCounter>,
    values_converted: By<IntCounter>,
    copy_rows: IntCounter,
    copy_estimated_rows: Gauge,
    received_bytes: IntCounter,
    applied_bytes: IntCounter,
    echo_transactions: IntCounter,
    loop_guard_trips: IntCounter,
    /// By kind, then by outcome.
    conflicts: By<By<IntCounter>>,
    conflict_tie_breaks: IntCounter,
    quarantined: Gauge,
    quarantined_total: By<IntCounter>,
    /// By stage, then by class.
    errors: By<By<IntCounter>>,
    apply_retries: By<IntCounter>,
    commit_to_apply: Histogram,
    apply_duration: By<Histogram>,
    transaction_size: Histogram,
    rendezvous_duration: Histogram,
    rows_received_rate: Rate,
    rows_applied_rate: Rate,
    bytes_applied_rate: Rate,
    used: Mutex<bool>,
    /// Bytes of the transaction that is being read.
    piece_bytes: Mutex<u64>,
    news: Mutex<Option<News>>,
    words: Mutex<DirectionWords>,
}

const CLASSES: &[&str] = &["transient", "definite", "fatal"];

impl DirectionMetrics {
    pub(super) fn new(families: &Families, bridge: &str, source: &str, target: &str) -> Result<Self> {
        let labels = [bridge, source, target];
        let gauge = |family: &GaugeVec| family.get_metric_with_label_values(&labels).map_err(failed);
        let counter = |family: &IntCounterVec| family.get_metric_with_label_values(&labels).map_err(failed);
        let histogram = |family: &HistogramVec| family.get_metric_with_label_values(&labels).map_err(failed);
        let counters = |family: &IntCounterVec, values: &[&str]| {
            let one =
                |value: &&str| family.get_metric_with_label_values(&[bridge, source, target, value]).map_err(failed);
            values.iter().map(one).collect::<Result<Vec<_>>>().map(By)
        };
        let table = |family: &IntCounterVec, rows: &[&str], columns: &[&str]| {
            let row = |row: &&str| {
                let one = |column: &&str| {
                    family.get_metric_with_label_values(&[bridge, source, target, row, column]).map_err(failed)
                };
                columns.iter().map(one).collect::<Result<Vec<_>>>().map(By)
            };
            rows.iter().map(row).collect::<Result<Vec<_>>>().map(By)
        };
        let state = |value: &&str| {
            families.direction_state.get_metric_with_label_values(&[bridge, source, target, value]).map_err(failed)
        };
        let hold = |value: &&str| {
            families.direction_held_back.get_metric_with_label_values(&[bridge, source, target, value]).map_err(failed)
        };
        let stage = |value: &&str| {
            families.apply_duration.get_metric_with_label_values(&[bridge, source, target, value]).map_err(failed)
        };
        let made = DirectionMetrics {
            source: source.to_owned(),
            target: target.to_owned(),
            state: By(DirectionState::TEXTS.iter().map(state).collect::<Result<_>>()?),
            held_back: By(HoldReason::TEXTS.iter().map(hold).collect::<Result<_>>()?),
            lag_seconds: gauge(&families.lag_seconds)?,
            last_received: gauge(&families.last_received)?,
            last_applied: gauge(&families.last_applied)?,
            queue_bytes: gauge(&families.queue_bytes)?,
            queue_limit_bytes: gauge(&families.queue_limit_bytes)?,
            transactions_received: counter(&families.transactions_received)?,
            transactions_applied: counter(&families.transactions_applied)?,
            rows_received: counters(&families.rows_received, RowCounts::OPERATIONS)?,
            rows_applied: counters(&families.rows_applied, RowCounts::OPERATIONS)?,
            rows_skipped: counters(&families.rows_skipped, SkipReason::TEXTS)?,
            values_converted: counters(&families.values_converted, ConversionReason::TEXTS)?,
            copy_rows: counter(&families.copy_rows)?,
            copy_estimated_rows: gauge(&families.copy_estimated_rows)?,
            received_bytes: counter(&families.received_bytes)?,
            applied_bytes: counter(&families.applied_bytes)?,
            echo_transactions: counter(&families.echo_transactions)?,
            loop_guard_trips: counter(&families.loop_guard_trips)?,
            conflicts: table(&families.conflicts, ConflictKind::TEXTS, Outcome::TEXTS)?,
            conflict_tie_breaks: counter(&families.conflict_tie_breaks)?,
            quarantined: gauge(&families.quarantined)?,
            quarantined_total: counters(&families.quarantined_total, QuarantineReason::TEXTS)?,
            errors: table(&families.errors, Stage::TEXTS, CLASSES)?,
            apply_retries: counters(&families.apply_retries, RetryReason::TEXTS)?,
            commit_to_apply: histogram(&families.commit_to_apply)?,
            apply_duration: By(ApplyStage::TEXTS.iter().map(stage).collect::<Result<_>>()?),
            transaction_size: histogram(&families.transaction_size)?,
            rendezvous_duration: histogram(&families.rendezvous_duration)?,
            rows_received_rate: Rate::new(),
            rows_applied_rate: Rate::new(),
            bytes_applied_rate: Rate::new(),
            used: Mutex::new(true),
            piece_bytes: Mutex::new(0),
            news: Mutex::new(None),
            words: Mutex::default(),
        };
        for gauge in [
            &made.lag_seconds,
            &made.last_received,
            &made.last_applied,
            &made.queue_bytes,
            &made.queue_limit_bytes,
            &made.copy_estimated_rows,
            &made.quarantined,
        ] {
            gauge.set(f64::NAN);
        }
        made.set_state(DirectionState::Stopped);
        Ok(made)
    }

    /// Changes what the direction is doing. Says whether that is new. One that does nothing is not held back.
    pub fn set_state(&self, state: DirectionState) -> bool {
        let changed = self.state() != state;
        if state == DirectionState::Stopped {
            self.throttled_to(None);
            self.held_back(None);
        }
        for (index, gauge) in self.state.0.iter().enumerate() {
            gauge.set(if index == state as usize { 1.0 } else { 0.0 });
        }
        changed
    }

    /// What the direction is doing.
    pub fn state(&self) -> DirectionState {
        let at = self.state.0.iter().position(|gauge| gauge.get() == 1.0).unwrap_or_default();
        DirectionState::ALL.get(at).copied().unwrap_or(DirectionState::Stopped)
    }

    /// When its pause ends by itself, in microseconds since 1970 UTC; `None`: not before it is taken back.
    pub fn paused_until(&self, until: Option<i64>) {
        self.words().paused_until = until;
    }

    /// Which limit on its rows in a second holds it back.
    pub fn throttled_to(&self, rows_per_second: Option<NonZeroU64>) {
        self.words().throttled_to = rows_per_second;
        self.holds(HoldReason::RowsPerSecond, rows_per_second.is_some());
    }

    fn holds(&self, reason: HoldReason, does: bool) {
        if let Some(gauge) = self.held_back.at(reason as usize) {
            gauge.set(if does { 1.0 } else { 0.0 });
        }
    }

    /// What else holds it back. Says whether that is another reason than before.
    pub fn held_back(&self, why: Option<&HeldBack>) -> bool {
        let reason = why.map(HoldReason::from);
        for each in HoldReason::ALL.iter().filter(|each| **each != HoldReason::RowsPerSecond) {
            self.holds(*each, reason == Some(*each));
        }
        let before = std::mem::replace(&mut self.words().held_back, why.cloned());
        before.as_ref().map(HoldReason::from) != reason
    }

    /// The same for people; of a pause that is said instead.
    pub(in crate::observe) fn held_back_in_words(&self) -> Option<String> {
        let is_paused = self.state() == DirectionState::Paused;
        self.words().held_back.as_ref().filter(|_| !is_paused).map(ToString::to_string)
    }

    /// Whether anything does.
    pub(in crate::observe) fn is_held_back(&self) -> bool {
        let words = self.words();
        words.throttled_to.is_some() || words.held_back.is_some()
    }

    /// Whether the direction is used at all: no table goes this way otherwise, and nothing is expected of it. What was known of one
    /// that is not any more is forgotten, or its lag would grow for ever.
    pub fn set_used(&self, used: bool) {
        *lock(&self.used) = used;
        if !used {
            self.set_state(DirectionState::Stopped);
            *lock(&self.news) = None;
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        *lock(&self.used)
    }

    /// Bytes in memory of what is read and not yet applied, and what they may be.
    pub fn set_queue_bytes(&self, bytes: u64, limit: u64) {
        self.queue_bytes.set(bytes as f64);
        self.queue_limit_bytes.set(limit as f64);
    }

    /// Rows of others' transactions were read.
    pub fn received_rows(&self, rows: RowCounts, bytes: u64) {
        for (counter, count) in self.rows_received.0.iter().zip([rows.insert, rows.update, rows.delete]) {
            counter.inc_by(count);
        }
        self.received_bytes.inc_by(bytes);
        self.rows_received_rate.add(rows.total() as f64);
    }

    /// The end of another's transaction was read. `bytes` are those of the whole of it.
    pub fn received_transaction(&self, position: &Position, commit_time: i64, bytes: u64) {
        self.transactions_received.inc();
        self.transaction_size.observe(bytes as f64);
        self.last_received.set(seconds(commit_time));
        self.received_up_to(position);
    }

    /// An own transaction came back from the log.
    pub fn suppressed_echo(&self, position: &Position) {
        self.echo_transactions.inc();
        self.received_up_to(position);
    }

    /// The log is read up to here.
    pub fn received_up_to(&self, position: &Position) {
        self.words().received = Some(position.clone());
    }

    /// Transactions became durable on the target. `commit_time` is the latest of theirs on the source.
    pub fn applied(&self, transactions: u64, rows: RowCounts, commit_time: i64) {
        self.transactions_applied.inc_by(transactions);
        for (counter, count) in self.rows_applied.0.iter().zip([rows.insert, rows.update, rows.delete]) {
            counter.inc_by(count);
        }
        self.rows_applied_rate.add(rows.total() as f64);
        self.last_applied.set(seconds(commit_time));
        self.words().error = None;
    }

    /// The size of rows that became durable on the target.
    pub fn applied_bytes(&self, bytes: u64) {
        self.applied_bytes.inc_by(bytes);
        self.bytes_applied_rate.add(bytes as f64);
    }

    /// Adds a piece of the transaction that is being read. Returns the size of what is read of it.
    pub(in crate::observe) fn add_piece(&self, first: bool, bytes: u64) -> u64 {
        let mut piece = lock(&self.piece_bytes);
        *piece = if first { bytes } else { *piece + bytes };
        *piece
    }

    /// How long after its commit on the source a transaction was committed on the target.
    pub fn commit_to_apply(&self, seconds: f64) {
        self.commit_to_apply.observe(seconds.max(0.0));
    }

    /// What applying took.
    pub fn apply_duration(&self, stage: ApplyStage, seconds: f64) {
        if let Some(histogram) = self.apply_duration.at(stage as usize) {
            histogram.observe(seconds);
        }
    }

    /// Everything in the source's log up to here is behind us, applied or nothing to apply.
    pub fn applied_up_to(&self, position: &Position) {
        self.words().applied = Some(position.clone());
    }

    /// How far the target is behind, by the source's clock, now.
    pub fn set_lag_seconds(&self, lag_seconds: f64) {
        *lock(&self.news) = Some(News { lag_seconds: lag_seconds.max(0.0), at: Instant::now() });
    }

    /// How far the target is behind; NaN while nothing is known.
    pub fn lag_seconds(&self) -> f64 {
        match *lock(&self.news) {
            None => f64::NAN,
            Some(news) => match news.at.elapsed().as_secs_f64() {
                recent if recent <= NEWS_SECONDS => news.lag_seconds,
                silence => news.lag_seconds + silence,
            },
        }
    }

    /// Rows were left out.
    pub fn skipped(&self, reason: SkipReason, rows: u64) {
        if let Some(counter) = self.rows_skipped.at(reason as usize) {
            counter.inc_by(rows);
        }
    }

    /// Values are others on the target.
    pub fn converted(&self, reason: ConversionReason, values: u64) {
        if let Some(counter) = self.values_converted.at(reason as usize) {
            counter.inc_by(values);
        }
    }

    /// Rows of a first load have arrived, or were found to be there; of about so many in all.
    pub fn copied(&self, rows: u64, estimated: Option<u64>) {
        self.copy_rows.inc_by(rows);
        self.copy_estimated_rows.set(estimated.map_or(f64::NAN, |rows| rows as f64));
    }

    /// A conflict was settled.
    pub fn conflict(&self, kind: ConflictKind, outcome: Outcome, tie: bool) {
        if let Some(counter) = self.conflicts.at(kind as usize).and_then(|kind| kind.at(outcome as usize)) {
            counter.inc();
        }
        if tie {
            self.conflict_tie_breaks.inc();
        }
    }

    /// A row went into quarantine.
    pub fn quarantined(&self, reason: QuarantineReason) {
        if let Some(counter) = self.quarantined_total.at(reason as usize) {
            counter.inc();
        }
    }

    /// So many rows are in quarantine.
    pub fn set_quarantined(&self, keys: u64) {
        self.quarantined.set(keys as f64);
    }

    /// A rendezvous is over.
    pub fn rendezvous(&self, seconds: f64) {
        self.rendezvous_duration.observe(seconds);
    }

    /// The watchdog stopped a row that seems to go round.
    pub fn loop_guard_tripped(&self) {
        self.loop_guard_trips.inc();
    }

    /// A transaction was rolled back and is tried again.
    pub fn retried(&self, reason: RetryReason) {
        if let Some(counter) = self.apply_retries.at(reason as usize) {
            counter.inc();
        }
    }

    /// An error, whether it ends something or is tried again in place.
    pub fn count_error(&self, stage: Stage, error: &Error) {
        if let Some(counter) = self.errors.at(stage as usize).and_then(|stage| stage.at(error.class() as usize)) {
            counter.inc();
        }
    }

    /// The error that the direction stands still for. It is shown until something is applied again. Says whether
    /// that is another one than before.
    pub fn error(&self, error: &Error) -> bool {
        let before = self.words().error.replace(error.clone());
        before.as_ref().map(Error::code) != Some(error.code())
    }

    pub(in crate::observe) fn words(&self) -> MutexGuard<'_, DirectionWords> {
        lock(&self.words)
    }

    pub(in crate::observe) fn numbers(&self) -> DirectionNumbers {
        let sum = |counters: &By<IntCounter>| counters.0.iter().map(IntCounter::get).sum();
        DirectionNumbers {
            transactions_received: self.transactions_received.get(),
            transactions_applied: self.transactions_applied.get(),
            rows_received: sum(&self.rows_received),
            rows_applied: sum(&self.rows_applied),
            rows_skipped: sum(&self.rows_skipped),
            echo_transactions: self.echo_transactions.get(),
            conflicts: self.conflicts.0.iter().map(sum).sum(),
            quarantined: self.quarantined.get(),
            retries: sum(&self.apply_retries),
            errors: self.errors.0.iter().map(sum).sum(),
            last_received: self.last_received.get(),
            last_applied: self.last_applied.get(),
            queue_bytes: self.queue_bytes.get(),
            queue_limit_bytes: self.queue_limit_bytes.get(),
            rows_received_per_second: self.rows_received_rate.per_second(),
            rows_applied_per_second: self.rows_applied_rate.per_second(),
            bytes_applied_per_second: self.bytes_applied_rate.per_second(),
        }
    }
}

/// A direction's numbers at one moment.
pub(in crate::observe) struct DirectionNumbers {
    pub(in crate::observe) transactions_received: u64,
    pub(in crate::observe) transactions_applied: u64,
    pub(in crate::observe) rows_received: u64,
    pub(in crate::observe) rows_applied: u64,
    pub(in crate::observe) rows_skipped: u64,
    pub(in crate::observe) echo_transactions: u64,
    pub(in crate::observe) conflicts: u64,
    pub(in crate::observe) quarantined: f64,
    pub(in crate::observe) retries: u64,
    pub(in crate::observe) errors: u64,
    pub(in crate::observe) last_received: f64,
    pub(in crate::observe) last_applied: f64,
    pub(in crate::observe) queue_bytes: f64,
    pub(in crate::observe) queue_limit_bytes: f64,
    pub(in crate::observe) rows_received_per_second: f64,
    pub(in crate::observe) rows_applied_per_second: f64,
    pub(in crate::observe) bytes_applied_per_second: f64,
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}
