//! What is told of a schedule: its events in order, what is counted, and how it came out.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use pontoon::event::{EngineEvent, Observer};
use pontoon_core::Code;
use pontoon_memory::early::Met;
use tokio::time::Instant;

/// What a schedule that held did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) transactions: usize,
    pub(crate) conflicts: usize,
    pub(crate) crashes: usize,
    pub(crate) interruptions: usize,
    /// Of transactions that were in the log before they were decided.
    pub(crate) held: Met,
    pub(crate) quarantined: usize,
    /// Of these what seemed to go round.
    pub(crate) suspected: usize,
    pub(crate) discarded: usize,
    pub(crate) keys_given: usize,
    pub(crate) promotions: usize,
    /// Transactions that were lost by them.
    pub(crate) lost: usize,
    pub(crate) early: (usize, usize),
    /// It ended since what was lost could not be gone without.
    pub(crate) refused: bool,
    pub(crate) trace: Vec<String>,
}

/// Why a schedule did not hold.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) trace: Vec<String>,
}

/// Sums over schedules.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    schedules: usize,
    pub(crate) transactions: usize,
    conflicts: usize,
    crashes: usize,
    interruptions: usize,
    pub(crate) held: Met,
    /// Transactions that were applied while they were read, and those that were given up.
    pub(crate) early: (usize, usize),
    pub(crate) quarantined: usize,
    pub(crate) suspected: usize,
    pub(crate) discarded: usize,
    pub(crate) keys_given: usize,
    promotions: usize,
    /// Schedules that ended since what was lost could not be gone without, and those that went on though something was.
    pub(crate) refused: usize,
    pub(crate) went_on: usize,
}

impl Totals {
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.schedules += 1;
        self.transactions += outcome.transactions;
        self.conflicts += outcome.conflicts;
        self.crashes += outcome.crashes;
        self.interruptions += outcome.interruptions;
        self.held = self.held + outcome.held;
        self.early.0 += outcome.early.0;
        self.early.1 += outcome.early.1;
        self.quarantined += outcome.quarantined;
        self.suspected += outcome.suspected;
        self.discarded += outcome.discarded;
        self.keys_given += outcome.keys_given;
        self.promotions += outcome.promotions;
        self.refused += usize::from(outcome.refused);
        self.went_on += usize::from(!outcome.refused && outcome.lost > 0);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { schedules, transactions, conflicts, crashes, interruptions, held, .. } = self;
        let Totals { quarantined, suspected, discarded, keys_given, promotions, refused, went_on, early, .. } = self;
        write!(
            f,
            "{schedules} schedules, {transactions} local transactions, {conflicts} conflicts settled, {crashes} processes killed, {interruptions} connections lost, {quarantined} rows refused, {suspected} of them suspected, {discarded} discarded, {keys_given} given another key; {promotions} servers promoted: {refused} schedules refused, {went_on} went on though something was lost; before their decision: {held:?}, applied by then, given up: {early:?}"
        )
    }
}

/// What happened, in the order of virtual time.
#[derive(Default)]
pub(crate) struct Trace {
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) counts: Mutex<Counts>,
}

/// What is counted while a schedule runs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) transactions: usize,
    pub(crate) conflicts: usize,
    pub(crate) crashes: usize,
    pub(crate) interruptions: usize,
    pub(crate) quarantined: usize,
    pub(crate) suspected: usize,
    pub(crate) discarded: usize,
    pub(crate) promotions: usize,
    pub(crate) lost: usize,
    /// Standbys that were not as far as their servers.
    pub(crate) lagged: usize,
    /// Transactions that were applied while they were read, and those that were given up.
    pub(crate) early: usize,
    pub(crate) early_given_up: usize,
}

impl Trace {
    pub(crate) fn promoted(&self, lost: usize, lag: Duration) {
        let mut counts = self.counts.lock().unwrap();
        counts.promotions += 1;
        counts.lost += lost;
        counts.lagged += usize::from(!lag.is_zero());
    }

    pub(crate) fn note(&self, started: Instant, line: String) {
        self.lines.lock().unwrap().push(format!("{:>9.3} {line}", started.elapsed().as_secs_f64()));
    }
}

/// Notes what a bridge says.
pub(crate) struct Watcher {
    pub(crate) bridge: String,
    pub(crate) trace: Arc<Trace>,
    pub(crate) started: Instant,
}

impl Observer for Watcher {
    fn observe(&self, event: &EngineEvent<'_>) {
        let mut counts = self.trace.counts.lock().unwrap();
        let line = match event {
            EngineEvent::Applied { source, transactions, rows, position, .. } => {
                format!("applied {source:?} up to {position}: {transactions} transactions, {rows:?}")
            }
            EngineEvent::Conflict { conflict, .. } => {
                counts.conflicts += 1;
                format!("settled ({}) {:?}: {}", conflict.key, conflict.kind, conflict.rule)
            }
            EngineEvent::Quarantined { source, error, .. } => {
                counts.quarantined += 1;
                counts.suspected += usize::from(error.code() == Code::LoopSuspected);
                format!("from {source:?} in quarantine: {error}")
            }
            EngineEvent::Released { source, discarded, .. } => {
                counts.discarded += usize::from(*discarded);
                format!("from {source:?} out of quarantine{}", if *discarded { ", discarded" } else { "" })
            }
            EngineEvent::Interrupted { error, .. } => {
                counts.interruptions += 1;
                format!("interrupted: {error}")
            }
            EngineEvent::Copied { source, state, rows, .. } => format!("copied {source:?} {rows} rows: {state:?}"),
            EngineEvent::Promoted { source, is, fork, .. } => format!("goes on with {source:?} from {fork} as {is}"),
            EngineEvent::Early { source, goes_on } => {
                if *goes_on {
                    counts.early += 1
                } else {
                    counts.early_given_up += 1
                }
                format!("{source:?} early: {}", if *goes_on { "goes on" } else { "given up" })
            }
            EngineEvent::Active => "active".into(),
            EngineEvent::StandingBy { .. } => "standing by".into(),
            _ => return,
        };
        drop(counts);
        self.trace.note(self.started, format!("{} {line}", self.bridge));
    }
}
