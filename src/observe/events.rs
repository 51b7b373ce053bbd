//! What happens, one struct each. `emit` counts it and, where a person would want to read it, logs it, so
//! that the two never disagree. No struct holds a row's value.
//!
//! A state that lasts is logged when it begins and when it ends, not at every attempt in between.

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use pontoon_core::{Code, CopyState, Error, LogIdentity, Position, node::Peer};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{
    ApplyStage, ConflictKind, ConnectResult, ConversionReason, DirectionState, Metrics, Outcome, QuarantineReason,
    RetryReason, RowCounts, SkipReason, Stage,
};
use crate::{
    event::{SetAside, Took},
    held_back,
    side::Side,
};

/// Lines in a second that a storm of conflicts or refusals may write; the rest is counted.
const CONFLICT_LINES: u32 = 10;

/// Lets a few lines a second through, and counts the others.
#[derive(Debug)]
pub(super) struct Throttle(Mutex<(Instant, u32, u64)>);

impl Throttle {
    pub(super) fn new() -> Self {
        Throttle(Mutex::new((Instant::now(), 0, 0)))
    }

    /// How many were kept back since the last one that was let through, or `None` to keep this one back.
    fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, passed, kept) = &mut *state;
        if since.elapsed() >= Duration::from_secs(1) {
            *since = Instant::now();
            *passed = 0;
        }
        if *passed >= CONFLICT_LINES {
            *kept += 1;
            return None;
        }
        *passed += 1;
        Some(std::mem::take(kept))
    }
}

/// Rows of another's transaction were read; the whole of it when `end` is there.
pub struct TransactionReceived<'a> {
    /// The direction.
    pub source: Side,
    /// The rows of this piece.
    pub rows: RowCounts,
    /// Their size.
    pub bytes: u64,
    /// Where the transaction ends, and the size of the whole, with its last piece.
    pub end: Option<(&'a Position, u64)>,
    /// When it was committed, in microseconds since 1970 UTC.
    pub commit_time: i64,
}

impl TransactionReceived<'_> {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.received_rows(self.rows, self.bytes);
        if let Some((position, whole)) = self.end {
            direction.received_transaction(position, self.commit_time, whole);
            debug!(source = direction.source, target = direction.target, %position, rows = self.rows.total(), bytes = whole, "transaction received");
        }
    }
}

/// One of the bridge's own transactions came back from the log; there is nothing to apply.
pub struct EchoSuppressed<'a> {
    /// The direction.
    pub source: Side,
    /// Where it ends.
    pub position: &'a Position,
}

impl EchoSuppressed<'_> {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.suppressed_echo(self.position);
        debug!(source = direction.source, target = direction.target, position = %self.position, "echo suppressed");
    }
}

/// Rows of a first load became durable on the target, or were found to be there.
pub struct RowsCopied<'a> {
    /// The direction.
    pub source: Side,
    /// The pair of tables.
    pub table: &'a str,
    /// Rows of this chunk.
    pub rows: u64,
    /// How far the copy has come.
    pub state: &'a CopyState,
    /// From when the chunk was taken to the commit's answer.
    pub took: Duration,
}

impl RowsCopied<'_> {
    /// Counts them; the end of a table is worth a line.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.copied(self.rows, self.state.estimated);
        let (source, target, table) = (&direction.source, &direction.target, self.table);
        if self.state.done {
            info!(%source, %target, table, rows = self.state.rows, "copied");
        } else {
            debug!(%source, %target, table, rows = self.rows, took = ?self.took, "rows copied");
        }
    }
}

/// Transactions became durable on the target.
pub struct TransactionApplied<'a> {
    /// The direction.
    pub source: Side,
    /// How many source transactions were gathered in one commit.
    pub transactions: u64,
    /// Their rows.
    pub rows: RowCounts,
    /// The size of their rows.
    pub bytes: u64,
    /// The latest commit time on the source, in microseconds since 1970 UTC.
    pub commit_time: i64,
    /// Where the last of them ends.
    pub position: &'a Position,
    /// What it took.
    pub took: Took,
}

impl TransactionApplied<'_> {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.applied(self.transactions, self.rows, self.commit_time);
        direction.applied_bytes(self.bytes);
        let Took { write, commit, total } = self.took;
        for (stage, took) in [(ApplyStage::Write, write), (ApplyStage::Commit, commit), (ApplyStage::Total, total)] {
            direction.apply_duration(stage, took.as_secs_f64());
        }
        if let Some(offset) = metrics.node(self.source).clock_offset_seconds() {
            direction.commit_to_apply((super::now_micros() - self.commit_time) as f64 / 1e6 + offset);
        }
        debug!(
            source = direction.source,
            target = direction.target,
            position = %self.position,
            transactions = self.transactions,
            rows = self.rows.total(),
            milliseconds = total.as_millis(),
            "applied"
        );
    }
}

/// A session begins to read the source's log.
pub struct Begins<'a> {
    /// The direction.
    pub source: Side,
    /// Everything up to here is applied.
    pub position: &'a Position,
}

impl Begins<'_> {
    /// Notes from where on the log is not applied, which is known before anything of it is read.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.applied_up_to(self.position);
        direction.received_up_to(self.position);
        // The limit that held it back in another session need not be there any more.
        direction.throttled_to(None);
        debug!(source = direction.source, target = direction.target, position = %self.position, "reading begins");
    }
}

/// The source's server was promoted, and its log goes on.
pub struct ServerPromoted<'a> {
    /// The direction.
    pub source: Side,
    /// Whose log was read.
    pub was: &'a LogIdentity,
    /// Whose log it is now.
    pub is: &'a LogIdentity,
    /// Up to where the two are the same.
    pub fork: &'a Position,
}

impl ServerPromoted<'_> {
    /// Logs it.
    pub fn emit(self, metrics: &Metrics) {
        let node = &metrics.direction(self.source).source;
        info!(node, was = %self.was, is = %self.is, fork = %self.fork, "the server was promoted; its log goes on");
    }
}

/// Everything in the source's log up to a position is behind us.
pub struct Passed<'a> {
    /// The direction.
    pub source: Side,
    /// The position.
    pub position: &'a Position,
    /// The source's clock when it was written, in microseconds since 1970 UTC, where that is known.
    pub time: Option<i64>,
}

impl Passed<'_> {
    /// Measures the lag.
    pub fn emit(self, metrics: &Metrics) {
        metrics.passed(self.source, self.position, self.time);
    }
}

/// Rows were read and are not applied.
pub struct RowsSkipped {
    /// The direction.
    pub source: Side,
    /// Why.
    pub reason: SkipReason,
    /// How many.
    pub rows: u64,
}

impl RowsSkipped {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.skipped(self.reason, self.rows);
        match self.reason {
            SkipReason::Operator => {
                warn!(
                    source = direction.source,
                    target = direction.target,
                    rows = self.rows,
                    "a transaction was passed over, as an operator said"
                );
            }
            reason => {
                debug!(source = direction.source, target = direction.target, rows = self.rows, %reason, "rows left out")
            }
        }
    }
}

/// Values were read that other values stand for on the other side, by a rule of their column.
pub struct ValuesConverted {
    /// The direction.
    pub source: Side,
    /// What was the matter with them.
    pub reason: ConversionReason,
    /// How many.
    pub values: u64,
}

impl ValuesConverted {
    /// Counts them.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.converted(self.reason, self.values);
        debug!(source = direction.source, target = direction.target, values = self.values, reason = %self.reason, "values converted");
    }
}

/// A conflict was settled. Key and rows are in the record of it, `pontoon.resolution` on both nodes.
pub struct ConflictSettled<'a> {
    /// The direction that met it.
    pub source: Side,
    /// The pair of tables, by label.
    pub table: &'a str,
    /// What met what.
    pub kind: ConflictKind,
    /// Whose row stands.
    pub outcome: Outcome,
    /// The commit times were equal, and priority decided.
    pub tie: bool,
    /// The rule in words, without values: `last_writer_wins: shop`.
    pub rule: &'a str,
}

impl ConflictSettled<'_> {
    /// Counts it; logs it unless there is a storm of them.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.conflict(self.kind, self.outcome, self.tie);
        if let Some(unlogged) = metrics.conflict_lines.pass() {
            info!(
                source = direction.source,
                target = direction.target,
                table = self.table,
                kind = %self.kind,
                outcome = %self.outcome,
                rule = self.rule,
                unlogged,
                "conflict settled"
            );
        }
    }
}

/// A conflict was met whose settlement a side refuses: it waits in quarantine.
pub struct ConflictHeld<'a> {
    /// The direction that met it.
    pub source: Side,
    /// The pair of tables, by label.
    pub table: &'a str,
    /// What met what.
    pub kind: ConflictKind,
}

impl ConflictHeld<'_> {
    /// Counts it. What is refused, and why, is told by [`Quarantined`].
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.conflict(self.kind, Outcome::Quarantined, false);
        debug!(
            source = direction.source,
            target = direction.target,
            table = self.table,
            kind = %self.kind,
            "a conflict waits in quarantine"
        );
    }
}

/// What a crash had left settled on one node only was completed.
pub struct HalfDoneCompleted<'a> {
    /// The pair of tables, by label.
    pub table: &'a str,
    /// The rule in words, without values.
    pub rule: &'a str,
}

impl HalfDoneCompleted<'_> {
    /// Logs it; its conflict was counted when it was met.
    pub fn emit(self) {
        info!(table = self.table, rule = self.rule, "a settlement that was cut short is completed");
    }
}

/// The target refuses a row; its key is in quarantine. The rows are in `pontoon.quarantine` on the target.
pub struct Quarantined<'a> {
    /// The direction.
    pub source: Side,
    /// The pair of tables, by label.
    pub table: &'a str,
    /// What kind of refusal it is.
    pub reason: QuarantineReason,
    /// The refusal.
    pub error: &'a Error,
}

impl Quarantined<'_> {
    /// Counts it; logs it unless there is a storm of them.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.quarantined(self.reason);
        if self.reason == QuarantineReason::LoopSuspected {
            direction.loop_guard_tripped();
        }
        if let Some(unlogged) = metrics.quarantine_lines.pass() {
            warn!(
                source = direction.source,
                target = direction.target,
                table = self.table,
                error = %self.error,
                unlogged,
                "a row is in quarantine, everything else goes on: pontoon quarantine list"
            );
        }
    }
}

/// A row is out of quarantine.
pub struct Released<'a> {
    /// The direction whose target had refused it.
    pub source: Side,
    /// The pair of tables, by label.
    pub table: &'a str,
    /// An operator had what was stored dropped.
    pub discarded: bool,
}

impl Released<'_> {
    /// Logs it unless there is a storm of them.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        let how = if self.discarded { "discarded" } else { "settled" };
        if let Some(unlogged) = metrics.quarantine_lines.pass() {
            info!(
                source = direction.source,
                target = direction.target,
                table = self.table,
                how,
                unlogged,
                "a row is out of quarantine"
            );
        }
    }
}

/// A rendezvous is over.
pub struct RendezvousDone {
    /// The direction that asked for it.
    pub source: Side,
    /// From the request to both commits.
    pub took: Duration,
}

impl RendezvousDone {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        metrics.direction(self.source).rendezvous(self.took.as_secs_f64());
    }
}

/// A transaction was rolled back and is tried again.
pub struct Retrying<'a> {
    /// The direction.
    pub source: Side,
    /// Why.
    pub error: &'a Error,
}

impl Retrying<'_> {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        direction.retried(RetryReason::from(self.error.code()));
        direction.count_error(Stage::Apply, self.error);
        debug!(source = direction.source, target = direction.target, error = %self.error, "rolled back, trying again");
    }
}

/// A transaction was rolled back since rows were not as it expects, and is tried again when what is to be settled is.
pub struct Missed {
    /// The direction.
    pub source: Side,
}

impl Missed {
    /// Counts it: no error, since that is how conflicts are found.
    pub fn emit(self, metrics: &Metrics) {
        metrics.direction(self.source).retried(RetryReason::Conflict);
    }
}

/// A rendezvous was rolled back and is tried again.
pub struct RendezvousRetrying<'a> {
    /// The direction that asked for it; `None` for a completion.
    pub source: Option<Side>,
    /// Why.
    pub error: &'a Error,
}

impl RendezvousRetrying<'_> {
    /// Counts it.
    pub fn emit(self, metrics: &Metrics) {
        for direction in metrics.directions_of(self.source) {
            direction.count_error(Stage::Rendezvous, self.error);
        }
        debug!(error = %self.error, "rendezvous starts again");
    }
}

/// The direction does something else from now on.
pub struct StateChanged {
    /// The direction.
    pub source: Side,
    /// What.
    pub state: DirectionState,
}

impl StateChanged {
    /// Sets the gauge; logs it if it is new.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        if direction.set_state(self.state) {
            info!(source = direction.source, target = direction.target, state = %self.state, "state");
        }
    }
}

/// Nothing is applied in the direction.
pub struct Paused {
    /// The direction.
    pub source: Side,
    /// When it goes on by itself, in microseconds since 1970 UTC, where that is known.
    pub until: Option<i64>,
}

impl Paused {
    /// Sets the gauge and the time; logs it if it is new.
    pub fn emit(self, metrics: &Metrics) {
        metrics.direction(self.source).paused_until(self.until);
        StateChanged { source: self.source, state: DirectionState::Paused }.emit(metrics);
    }
}

/// A direction is held back by the limit on its rows, or is not any more.
pub struct Throttled {
    /// The direction.
    pub source: Side,
    /// The limit; `None`: it is not held back.
    pub rows_per_second: Option<NonZeroU64>,
}

impl Throttled {
    /// Sets the gauge and the limit; logs it if it is new. A first load is shown as one, however fast it is.
    pub fn emit(self, metrics: &Metrics) {
        metrics.direction(self.source).throttled_to(self.rows_per_second);
        throttled_or_not(self.source, metrics);
    }
}

/// A direction is held back by the hour or by its target, or is not any more.
pub struct HeldBack<'a> {
    /// The direction.
    pub source: Side,
    /// By what; `None`: it is not held back.
    pub why: Option<&'a held_back::HeldBack>,
}

impl HeldBack<'_> {
    /// Sets the gauges and the reason; logs it if it is another one. That it goes on the state tells.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        let is_new = direction.held_back(self.why);
        if let Some(why) = self.why.filter(|_| is_new) {
            let (source, target) = (&direction.source, &direction.target);
            match why {
                held_back::HeldBack::NotKnown(error) => {
                    warn!(%source, %target, %why, hint = error.remedy(), "held back");
                }
                _ => info!(%source, %target, %why, "held back"),
            }
        }
        throttled_or_not(self.source, metrics);
    }
}

fn throttled_or_not(source: Side, metrics: &Metrics) {
    let direction = metrics.direction(source);
    let state = match (direction.is_held_back(), direction.state()) {
        (true, DirectionState::CatchingUp | DirectionState::Streaming) => DirectionState::Throttled,
        (false, DirectionState::Throttled) => DirectionState::CatchingUp,
        _ => return,
    };
    StateChanged { source, state }.emit(metrics);
}

/// A node answers. What the engine itself connects is counted with [`Active`] and [`Interrupted`].
pub struct Connected<'a> {
    /// The node.
    pub node: Side,
    /// What answered.
    pub peer: &'a Peer,
}

impl Connected<'_> {
    /// Sets the gauge; logs it if the node was not up before.
    pub fn emit(self, metrics: &Metrics) {
        let node = metrics.node(self.node);
        node.set_peer(self.peer);
        if node.set_up(true) {
            info!(node = node.name, server = self.peer.server, "connected");
        }
    }
}

/// A node does not answer.
pub struct Disconnected<'a> {
    /// The node.
    pub node: Side,
    /// Why.
    pub error: &'a Error,
    /// The pause before the next attempt, if there is one.
    pub pause: Option<Duration>,
}

impl Disconnected<'_> {
    /// Sets the gauge; logs it if the node was up before, or if it is another error than before.
    pub fn emit(self, metrics: &Metrics) {
        let node = metrics.node(self.node);
        let news = node.set_up(false) | node.error(self.error);
        if news {
            warn!(node = node.name, error = %self.error, hint = self.error.remedy(), "not connected; trying again until it is");
        } else {
            debug!(node = node.name, error = %self.error, pause = ?self.pause, "still not connected");
        }
    }
}

/// The session of the whole bridge ended with an error that goes away by itself, and begins anew.
pub struct Interrupted<'a> {
    /// What was being done.
    pub stage: Stage,
    /// The direction that it was done for; `None` for both.
    pub source: Option<Side>,
    /// Why.
    pub error: &'a Error,
    /// The pause before the next attempt.
    pub pause: Duration,
}

impl Interrupted<'_> {
    /// Counts it, and shows it of both directions, which it ends; logs it once for each kind of error until
    /// something is applied.
    pub fn emit(self, metrics: &Metrics) {
        let mut news = false;
        for direction in metrics.directions_of(self.source) {
            direction.count_error(self.stage, self.error);
            if self.stage == Stage::Apply {
                direction.retried(RetryReason::from(self.error.code()));
            }
        }
        for direction in metrics.directions_of(None) {
            news |= direction.error(self.error);
            direction.set_state(DirectionState::Stopped);
        }
        for side in Side::BOTH {
            // An error of a node begins with its name.
            let node = metrics.node(side);
            let of_node = self.error.message().strip_prefix(&node.name).is_some_and(|rest| rest.starts_with(": "));
            if !of_node {
                continue;
            }
            match self.error.code() {
                Code::Unreachable | Code::LoginRefused | Code::TlsFailed => {
                    node.connect_attempt(ConnectResult::from(self.error.code()));
                    node.set_up(false);
                    node.error(self.error);
                }
                // Whether it answers is asked anew.
                Code::ConnectionLost => _ = node.set_up(false),
                _ => {}
            }
        }
        metrics.set_active(false, None);
        if news {
            warn!(error = %self.error, hint = self.error.remedy(), pause = ?self.pause, "interrupted; nothing is lost, trying again");
        } else {
            debug!(error = %self.error, pause = ?self.pause, "still interrupted");
        }
    }
}

/// The session of the whole bridge ended with an error that does not go away by itself: the process ends, or goes on
/// without the table that the error is about.
pub struct Failed<'a> {
    /// What was being done.
    pub stage: Stage,
    /// The direction that it was done for; `None` for both.
    pub source: Option<Side>,
    /// Why.
    pub error: &'a Error,
}

impl Failed<'_> {
    /// Counts it; whoever ends or goes on says so. That tables are others than they were is no error yet: mostly it is how the bridge
    /// comes to know of a change that somebody is making.
    pub fn emit(self, metrics: &Metrics) {
        if matches!(self.error.code(), Code::SchemaChanged | Code::TablesChanged) {
            return;
        }
        for direction in metrics.directions_of(self.source) {
            direction.count_error(self.stage, self.error);
        }
    }
}

/// This process holds the lease and works, on connections made anew to both nodes.
pub struct Active;

impl Active {
    /// Sets the gauge and logs it.
    pub fn emit(self, metrics: &Metrics) {
        let before = metrics.is_active();
        metrics.set_active(true, None);
        for side in Side::BOTH {
            metrics.node(side).connect_attempt(ConnectResult::Connected);
            metrics.node(side).set_up(true);
        }
        if !before {
            info!(bridge = metrics.bridge, "active: this process holds the lease");
        }
    }
}

/// Another process holds the lease; this one waits for it.
pub struct StandingBy<'a> {
    /// Who holds it.
    pub holder: &'a str,
}

impl StandingBy<'_> {
    /// Sets the gauge and logs it.
    pub fn emit(self, metrics: &Metrics) {
        metrics.set_active(false, Some(self.holder));
        info!(bridge = metrics.bridge, holder = self.holder, "standing by: another process works");
    }
}

/// These tables are bridged from now on, and those are set aside.
pub struct TablesBridged<'a> {
    /// How many are bridged.
    pub bridged: usize,
    /// The others.
    pub aside: &'a [SetAside],
}

impl TablesBridged<'_> {
    /// Sets the gauges; logs each that is set aside or goes on since the last time.
    pub fn emit(self, metrics: &Metrics) {
        let before = metrics.set_tables(self.bridged, self.aside.to_vec());
        for SetAside { label, why } in self.aside.iter().filter(|table| !before.contains(table)) {
            error!(table = &**label, %why, hint = why.remedy(), "set aside: the other tables go on, and this one when both sides agree on it");
        }
        for table in before.iter().filter(|table| self.aside.iter().all(|other| other.label != table.label)) {
            warn!(table = &*table.label, "no longer set aside: it goes on from where it stood");
        }
    }
}

/// Spill files have reached their limit, and the reader has stopped.
pub struct SpillFull {
    /// The direction.
    pub source: Side,
}

impl SpillFull {
    /// Logs it.
    pub fn emit(self, metrics: &Metrics) {
        let direction = metrics.direction(self.source);
        let (bytes, limit) = metrics.spill();
        warn!(
            source = direction.source,
            target = direction.target,
            bytes,
            limit,
            "the spill is full: reading stops until the target has caught up, and the server keeps its log meanwhile"
        );
    }
}

/// A server with a status page is there, or cannot be.
pub struct Listening<'a> {
    /// What is served there.
    pub what: &'a str,
    /// Where.
    pub address: &'a str,
}

impl Listening<'_> {
    /// Logs it.
    pub fn emit(self) {
        info!(address = self.address, "serving the {}", self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new("b", ["shop", "stock"]).unwrap()
    }

    #[test]
    fn an_event_is_counted_where_it_belongs() {
        let metrics = metrics();
        let position = Position::Lsn(16);
        let rows = RowCounts { insert: 3, update: 2, delete: 1 };
        TransactionReceived { source: Side::A, rows, bytes: 100, end: None, commit_time: 5_000_000 }.emit(&metrics);
        TransactionReceived { source: Side::A, rows, bytes: 100, end: Some((&position, 200)), commit_time: 5_000_000 }
            .emit(&metrics);
        TransactionApplied {
            source: Side::A,
            transactions: 1,
            rows,
            bytes: 9,
            commit_time: 5_000_000,
            position: &position,
            took: Took { write: Duration::from_secs(3), commit: Duration::from_secs(2), total: Duration::from_secs(7) },
        }
        .emit(&metrics);
        EchoSuppressed { source: Side::B, position: &position }.emit(&metrics);
        ConflictSettled {
            source: Side::B,
            table: "items",
            kind: ConflictKind::UpdateOriginDiffers,
            outcome: Outcome::Source,
            tie: true,
            rule: "last_writer_wins: stock",
        }
        .emit(&metrics);
        Retrying { source: Side::A, error: &Error::new(Code::Contention, "deadlock") }.emit(&metrics);
        let page = metrics.encode().unwrap();
        for line in [
            "pontoon_rows_received_total{bridge=\"b\",op=\"insert\",source=\"shop\",target=\"stock\"} 6",
            "pontoon_rows_applied_total{bridge=\"b\",op=\"delete\",source=\"shop\",target=\"stock\"} 1",
            "pontoon_transactions_received_total{bridge=\"b\",source=\"shop\",target=\"stock\"} 1",
            "pontoon_transactions_received_total{bridge=\"b\",source=\"stock\",target=\"shop\"} 0",
            "pontoon_received_bytes_total{bridge=\"b\",source=\"shop\",target=\"stock\"} 200",
            "pontoon_last_applied_commit_timestamp_seconds{bridge=\"b\",source=\"shop\",target=\"stock\"} 5",
            "pontoon_echo_transactions_total{bridge=\"b\",source=\"stock\",target=\"shop\"} 1",
            "pontoon_conflicts_total{bridge=\"b\",outcome=\"source\",source=\"stock\",target=\"shop\",type=\"update_origin_differs\"} 1",
            "pontoon_conflict_tie_breaks_total{bridge=\"b\",source=\"stock\",target=\"shop\"} 1",
            "pontoon_apply_retries_total{bridge=\"b\",reason=\"contention\",source=\"shop\",target=\"stock\"} 1",
            "pontoon_apply_duration_seconds_sum{bridge=\"b\",source=\"shop\",stage=\"write\",target=\"stock\"} 3",
            "pontoon_apply_duration_seconds_sum{bridge=\"b\",source=\"shop\",stage=\"commit\",target=\"stock\"} 2",
            "pontoon_apply_duration_seconds_sum{bridge=\"b\",source=\"shop\",stage=\"total\",target=\"stock\"} 7",
            "pontoon_transaction_size_bytes_sum{bridge=\"b\",source=\"shop\",target=\"stock\"} 200",
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }

    #[test]
    fn a_node_that_stays_away_is_told_once() {
        let metrics = metrics();
        let refused = Error::new(Code::Unreachable, "no answer");
        let attempt = || Disconnected { node: Side::A, error: &refused, pause: None }.emit(&metrics);
        attempt();
        attempt();
        assert_eq!(metrics.node(Side::A).is_up(), Some(false));
        let mut peer =
            Peer { server: "PostgreSQL 15".into(), certificate_expiry: Some(1_795_525_200), statement_bytes_max: None };
        Connected { node: Side::A, peer: &peer }.emit(&metrics);
        let expiry = "pontoon_tls_certificate_expiry_timestamp_seconds{bridge=\"b\",node=\"shop\"} ";
        assert!(metrics.encode().unwrap().contains(&format!("{expiry}1795525200\n")));
        peer.certificate_expiry = None;
        Connected { node: Side::A, peer: &peer }.emit(&metrics);
        assert!(metrics.encode().unwrap().contains(&format!("{expiry}NaN\n")));
        assert_eq!(metrics.node(Side::A).is_up(), Some(true));
        assert!(metrics.node(Side::A).words().error.is_none());
        assert!(metrics.encode().unwrap().contains("pontoon_node_up{bridge=\"b\",node=\"shop\"} 1"));
    }

    #[test]
    fn reconnects_are_counted_for_the_node_that_they_are_of() {
        let metrics = metrics();
        let pause = Duration::from_secs(1);
        Active.emit(&metrics);
        Interrupted {
            stage: Stage::Apply,
            source: None,
            error: &Error::new(Code::ConnectionLost, "broken").at("stock"),
            pause,
        }
        .emit(&metrics);
        assert_eq!((metrics.node(Side::A).is_up(), metrics.node(Side::B).is_up()), (Some(true), Some(false)));
        Interrupted {
            stage: Stage::Apply,
            source: None,
            error: &Error::new(Code::Unreachable, "no answer").at("stock"),
            pause,
        }
        .emit(&metrics);
        Active.emit(&metrics);
        let page = metrics.encode().unwrap();
        let attempts = |node: &str, result: &str, count: u32| {
            let line =
                format!("pontoon_connect_attempts_total{{bridge=\"b\",node=\"{node}\",result=\"{result}\"}} {count}");
            assert!(page.lines().any(|found| found == line), "no {line}");
        };
        attempts("shop", "connected", 2);
        attempts("stock", "connected", 2);
        attempts("stock", "unreachable", 1);
        attempts("shop", "unreachable", 0);
        assert_eq!(metrics.status().nodes[1].reconnects, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_conflicts_is_counted_and_not_all_logged() {
        let throttle = Throttle::new();
        let passed = (0..1000).filter(|_| throttle.pass().is_some()).count();
        assert_eq!(passed, CONFLICT_LINES as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.pass(), Some(990));
        assert_eq!(throttle.pass(), Some(0));
    }
}
