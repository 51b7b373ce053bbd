//! What the bridge does, as a story: the engine's observer, which counts everything and tells some of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pontoon_core::{
    Change, Fragment, Key, LogEvent, MappedTable, Operation, Origin, Position, TableId, Value, node::Tables, value::format_uuid,
};
use tokio::{sync::watch, time::Instant};

use super::{
    NAMES, counted,
    teller::{Teller, Who},
};
use crate::{
    cli::terminal::Style,
    event::{Conflict, EngineEvent, Observer},
    human,
    observe::now_micros,
    side::{Pair, Side},
};

/// A line of what crossed, for each direction, at most this often: the rows since the last one are summed up.
const CROSSED_EVERY: Duration = Duration::from_millis(400);

/// A line of what a client wrote, for each side, at most this often; the others are only counted.
const WROTE_EVERY: Duration = Duration::from_millis(250);

/// Conflicts that are told at a time, and one more after each such pause. All are counted.
const CONFLICT_BURST: u32 = 8;
const CONFLICT_EVERY: Duration = Duration::from_millis(200);

/// Rows whose last writes are remembered, to say of a conflict what met. Settled are rows of the last moments.
const RECENT_MAX: usize = 20_000;

/// Measured lags that are kept: the median of the last ones is that of all but in name.
const LAGS_MAX: usize = 100_000;

/// Columns that change with every write, and so say nothing.
const SILENT_COLUMNS: [&str; 1] = ["updated_at"];

/// What the observer has seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Of the direction from each side.
    pub(super) directions: Pair<Crossed>,
    /// Rows that both sides had written, by whose stands.
    pub(super) won: Pair<u64>,
    /// Of these, by the priority of nodes, as the times were equal.
    pub(super) ties: u64,
    /// Whose log tells the times of commits in whole seconds only.
    pub(super) coarse: Pair<bool>,
}

/// What crossed in a direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Crossed {
    pub(super) transactions: u64,
    pub(super) rows: u64,
    /// Own transactions that came back and were left out.
    pub(super) echoes: u64,
    /// Commit on the source to commit on the target, in seconds.
    pub(super) lags: Vec<f32>,
    pub(super) lag_max: f32,
}

impl Counts {
    pub(super) fn conflicts(&self) -> u64 {
        self.won.iter().sum()
    }

    pub(super) fn echoes(&self) -> u64 {
        self.directions.iter().map(|direction| direction.echoes).sum()
    }
}

/// The observer.
pub(super) struct Story {
    teller: Arc<Teller>,
    tables: Pair<Tables>,
    active: watch::Sender<bool>,
    state: Mutex<State>,
}

struct State {
    counts: Counts,
    flows: Pair<Flow>,
    recent: HashMap<(TableId, Key), Pair<Option<Recent>>>,
    /// When the next conflict may be told; may lie as far behind as a burst is long.
    conflict_due: Instant,
    wrote: Pair<Option<Instant>>,
}

/// What is on its way in a direction.
#[derive(Default)]
struct Flow {
    /// Read and not yet applied: where each transaction ends, and when it was committed (or read, where the log does
    /// not tell that well enough).
    open: VecDeque<(Position, i64)>,
    /// The transaction that is being read has rows.
    rows: bool,
    /// Since the last line.
    transactions: u64,
    rows_applied: u64,
    lag: f32,
    told: Option<Instant>,
    /// Since the last status.
    status: (u64, Vec<f32>),
}

/// The last write of a row on a side.
struct Recent {
    commit_time: i64,
    change: Change,
}

impl State {
    /// A fragment was read, perhaps the last of a transaction that has rows.
    fn ended(&mut self, source: Side, fragment: &Fragment) {
        // A whole second can be early by one. What is read just now was committed just now, on a link that keeps up.
        let time = if self.counts.coarse[source] { now_micros() } else { fragment.commit_time };
        let flow = &mut self.flows[source];
        if let Some(position) = fragment.position.as_ref().filter(|_| flow.rows) {
            flow.open.push_back((position.clone(), time));
        }
    }
}

impl Story {
    pub(super) fn new(teller: Arc<Teller>, tables: Pair<Tables>) -> Story {
        let state = State {
            // Until a time says otherwise.
            counts: Counts { coarse: Pair::new(true, true), ..Counts::default() },
            flows: Pair::default(),
            recent: HashMap::new(),
            conflict_due: Instant::now(),
            wrote: Pair::default(),
        };
        Story { teller, tables, active: watch::Sender::new(false), state: state.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the bridge works.
    pub(super) async fn active(&self) {
        // The sender lives as long as we do.
        let _ = self.active.subscribe().wait_for(|active| *active).await;
    }

    /// What was seen so far.
    pub(super) fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// A client has written this. One in a while is told.
    pub(super) fn wrote(&self, side: Side, what: impl FnOnce() -> String) {
        let now = Instant::now();
        {
            let last = &mut self.state().wrote[side];
            if last.is_some_and(|last| now - last < WROTE_EVERY) {
                return;
            }
            *last = Some(now);
        }
        self.tell(&Who::Node(side), &what());
    }

    /// Prints a line, if there is room.
    pub(super) fn tell(&self, who: &Who, what: &str) {
        self.teller.try_line(self.teller.told(who, what));
    }

    /// Where everything stands: writes made, for each direction transactions per second and the lag, both since
    /// the last time it was asked, and what came of it so far.
    pub(super) fn status(&self, written: u64, total: u64, since: Duration) -> String {
        let mut state = self.state();
        let mut parts = vec![format!("{} of {}", human::count(written), human::count(total))];
        for source in Side::BOTH {
            let flow = &mut state.flows[source];
            let (transactions, mut lags) = std::mem::take(&mut flow.status);
            let rate = transactions as f64 / since.as_secs_f64().max(0.001);
            let waiting = flow.open.front().map(|(_, time)| seconds_since(*time));
            let lag = match (quantile(&mut lags, 0.5), waiting) {
                (Some(lag), waiting) => human::seconds(f64::from(waiting.unwrap_or(0.0).max(lag))),
                (None, Some(waiting)) => human::seconds(f64::from(waiting)),
                (None, None) => "idle".to_owned(),
            };
            let arrow = if source == Side::A { "→" } else { "←" };
            parts.push(format!("{arrow} {rate:.0}/s {lag}"));
        }
        parts.push(counted(state.counts.conflicts(), "conflict"));
        parts.push(format!("{} echoes", human::count(state.counts.echoes())));
        parts.join(" · ")
    }

    fn received(&self, source: Side, event: &LogEvent) {
        let LogEvent::Fragment(fragment) = event else { return };
        let mut state = self.state();
        if fragment.origin == Origin::Own {
            state.counts.directions[source].echoes += u64::from(fragment.position.is_some());
            return;
        }
        state.counts.coarse[source] &= fragment.commit_time % 1_000_000 == 0;
        for change in &fragment.changes {
            let Some(table) = self.tables[source].get(change.table.index()) else { continue };
            let Some(row) = change.after().or(change.before()) else { continue };
            if state.recent.len() >= RECENT_MAX {
                state.recent.clear();
            }
            let recent = Recent { commit_time: fragment.commit_time, change: change.clone() };
            state.recent.entry((change.table, table.key_of(row))).or_default()[source] = Some(recent);
        }
        let flow = &mut state.flows[source];
        flow.rows = !fragment.changes.is_empty() || flow.rows && !fragment.first;
        state.ended(source, fragment);
    }

    fn decided(&self, source: Side, fragment: &Fragment, rows: u64) {
        let mut state = self.state();
        if fragment.origin == Origin::Own {
            state.counts.directions[source].echoes += 1;
            return;
        }
        state.flows[source].rows = rows > 0;
        state.ended(source, fragment);
    }

    fn applied(&self, source: Side, transactions: u64, rows: u64, position: &Position) {
        let now = Instant::now();
        let line = {
            let mut state = self.state();
            let State { counts, flows, .. } = &mut *state;
            let (counts, flow) = (&mut counts.directions[source], &mut flows[source]);
            counts.transactions += transactions;
            counts.rows += rows;
            flow.transactions += transactions;
            flow.rows_applied += rows;
            flow.status.0 += transactions;
            while let Some((_, time)) = flow.open.pop_front_if(|(end, _)| position.covers(end)) {
                let lag = seconds_since(time);
                counts.add_lag(lag);
                flow.status.1.push(lag);
                flow.lag = flow.lag.max(lag);
            }
            if flow.told.is_some_and(|told| now - told < CROSSED_EVERY) {
                return;
            }
            flow.told = Some(now);
            let (transactions, rows) = (std::mem::take(&mut flow.transactions), std::mem::take(&mut flow.rows_applied));
            let lag = std::mem::take(&mut flow.lag);
            format!(
                "applied {}, {}, {} behind",
                counted(transactions, "transaction"),
                counted(rows, "row"),
                human::seconds(f64::from(lag))
            )
        };
        self.tell(&Who::Direction(source), &line);
    }

    fn settled(&self, conflict: &Conflict<'_>) {
        if !conflict.contended {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        state.counts.won[conflict.winner] += 1;
        state.counts.ties += u64::from(conflict.tie);
        let earliest = now.checked_sub(CONFLICT_EVERY * CONFLICT_BURST).unwrap_or(now);
        if state.conflict_due > now {
            return;
        }
        state.conflict_due = state.conflict_due.max(earliest) + CONFLICT_EVERY;
        let found = self.tables[Side::A].iter().find(|table| &*table.label == conflict.table);
        let recent = found.and_then(|table| state.recent.get(&(table.id, conflict.key.clone())));
        let mut text = format!("{} {}: ", conflict.table, key_text(conflict.key));
        if let (Some(table), Some(recent)) = (found, recent) {
            let did = Side::BOTH.map(|side| {
                let did = recent[side]
                    .as_ref()
                    .map_or("wrote".to_owned(), |one| one.told(table, recent[side.other()].as_ref()));
                format!("{} {did}", self.teller.node(side))
            });
            text += &format!("{}, {}; ", did[0], did[1]);
        }
        let fine = state.counts.coarse.iter().all(|coarse| !coarse);
        let winner = self.teller.out.paint(Style::Strong, NAMES[conflict.winner as usize]);
        text += &format!("{winner} wins");
        let times = recent.and_then(|recent| {
            let time = |side: Side| recent[side].as_ref().map(|recent| recent.commit_time);
            Some(time(conflict.winner)? - time(conflict.winner.other())?)
        });
        match times {
            _ if conflict.tie => text += ", as its priority is higher and the times are equal",
            Some(later) if later > 0 && !fine => text += " as the later",
            Some(later) if later > 0 => text += &format!(", {} later", millis(later)),
            _ => {}
        }
        drop(state);
        self.tell(&Who::Conflict, &text);
    }
}

impl Observer for Story {
    fn observe(&self, event: &EngineEvent<'_>) {
        match *event {
            EngineEvent::Active => {
                // What was read and not applied is read again.
                self.state().flows = Pair::default();
                self.active.send_replace(true);
            }
            EngineEvent::Interrupted { error, .. } => {
                let text = format!("interrupted, goes on in a moment: {error}");
                self.tell(&Who::Both, &self.teller.out.paint(Style::Warning, &text));
            }
            EngineEvent::Received { source, event } => self.received(source, event),
            EngineEvent::Decided { source, fragment, rows, .. } => {
                self.decided(source, fragment, rows.inserts + rows.updates + rows.deletes);
            }
            EngineEvent::Applied { source, transactions, rows, position, .. } => {
                self.applied(source, transactions, rows.inserts + rows.updates + rows.deletes, position);
            }
            EngineEvent::Passed { source, position, .. } => {
                // Whose rows a settlement had brought over already.
                let mut state = self.state();
                while state.flows[source].open.pop_front_if(|(end, _)| position.covers(end)).is_some() {}
            }
            EngineEvent::Conflict { conflict, .. } => self.settled(conflict),
            _ => {}
        }
    }
}

impl Crossed {
    fn add_lag(&mut self, lag: f32) {
        self.lag_max = self.lag_max.max(lag);
        if self.lags.len() >= LAGS_MAX {
            self.lags.clear();
        }
        self.lags.push(lag);
    }
}

impl Recent {
    /// `quantity 4`, `deleted`. What the other side has written alike is left out.
    fn told(&self, table: &MappedTable, other: Option<&Recent>) -> String {
        let other = other.and_then(|other| other.change.after());
        let named = |at: usize, value: &Value| {
            let name = &table.columns[at].column.name;
            match value {
                // Too long to be read by the way.
                Value::Json(_) => name.to_string(),
                Value::Text(text) => format!("{name} {text:?}"),
                value => format!("{name} {}", value_text(value)),
            }
        };
        match &self.change.operation {
            Operation::Insert { .. } => "inserted".to_owned(),
            Operation::Delete { .. } => "deleted".to_owned(),
            Operation::Update { before, after, .. } => {
                let changed = after.0.iter().zip(&before.0).enumerate().filter(|(at, (after, before))| {
                    after != before
                        && other.is_none_or(|other| other.0[*at] != **after)
                        && !SILENT_COLUMNS.contains(&&*table.columns[*at].column.name)
                });
                let texts: Vec<String> = changed.map(|(at, (after, _))| named(at, after)).collect();
                if texts.is_empty() { "wrote".to_owned() } else { texts.join(" ") }
            }
        }
    }
}

fn seconds_since(commit_time: i64) -> f32 {
    ((now_micros() - commit_time).max(0) as f64 / 1e6) as f32
}

/// `3.1 ms`.
fn millis(micros: i64) -> String {
    if micros < 10_000 { format!("{:.1} ms", micros as f64 / 1000.0) } else { human::seconds(micros as f64 / 1e6) }
}

/// The value below which this part of the others is.
pub(super) fn quantile(values: &mut [f32], part: f64) -> Option<f32> {
    let at = ((values.len().checked_sub(1)? as f64) * part).round() as usize;
    let (_, value, _) = values.select_nth_unstable_by(at, f32::total_cmp);
    Some(*value)
}

/// A key, long ones cut.
fn key_text(key: &Key) -> String {
    key.0.iter().map(value_text).collect::<Vec<_>>().join(", ")
}

/// A value for people: of identifiers the beginning, of moments the seconds.
pub(super) fn value_text(value: &Value) -> String {
    match value {
        Value::Uuid(bytes) => cut(format_uuid(bytes)),
        Value::Bytes(bytes) => cut(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Value::Boolean(true) => "yes".to_owned(),
        Value::Boolean(false) => "no".to_owned(),
        Value::Text(text) | Value::Decimal(text) => text.to_string(),
        Value::Null => "-".to_owned(),
        other => other.to_json().to_string(),
    }
}

fn cut(hex: String) -> String {
    hex.get(..8).map(str::to_owned).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(quantile(&mut [], 0.5), None);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 1.0), Some(3.0));
    }
}
