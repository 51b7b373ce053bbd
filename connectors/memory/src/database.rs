//! Rows, locks, the log, and what each bridge keeps in its own tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pontoon_core::{
    Checkpoint, Code, CopyState, Error, Key, LogIdentity, Position, Resolution, Result, Row, TableId,
    new_key::{Answer, NewKey, Of},
    node::Tables,
    pressure::Pressure,
    quarantine::{Ask, Stored},
    repair::Repair,
    state::Arrangement,
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    dice::Dice,
    early::{Early, Undecided},
    ties::UniqueValue,
};

/// A row's place: its table and its key.
pub type Place = (TableId, Key);

/// One row's change in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    /// Where.
    pub place: Place,
    /// The row before.
    pub before: Option<Row>,
    /// The row after.
    pub after: Option<Row>,
    /// It is the same row as this one, which the change before it removed: the key was updated.
    pub moved_from: Option<Place>,
}

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bridge whose tag it carries; `None` for an application's.
    pub origin: Option<String>,
    /// When the write was made, in microseconds.
    pub commit_time: i64,
    /// What it changed.
    pub changes: Vec<LoggedChange>,
    /// Somebody waits for it to be read.
    pub barrier: bool,
    /// The number of the transaction, where all of it was in the log before its commit.
    pub early: Option<u64>,
}

/// What a bridge keeps in the database.
#[derive(Debug, Clone, Default)]
pub(crate) struct BridgeTables {
    /// The log that is noted as the database's own; `None` before the first lease.
    pub(crate) own_log: Option<LogIdentity>,
    pub(crate) checkpoint: Option<Checkpoint>,
    /// A transaction of the bridge has been committed.
    pub(crate) applied: bool,
    /// Each resolution, and whether it is in force.
    pub(crate) resolutions: Vec<(Resolution, bool)>,
    pub(crate) token: i64,
    /// Whether an operator says that nothing is to be applied; `None` where nobody ever said anything.
    pub(crate) paused: Option<bool>,
    pub(crate) epoch: i64,
    pub(crate) other_epoch: i64,
    /// Transactions that hold the lease row shared.
    pub(crate) lease_shared: BTreeSet<u64>,
    /// The connection that holds the advisory lock, and who that is.
    pub(crate) holder: Option<u64>,
    pub(crate) skips: Vec<Position>,
    /// Up to where the other node's log is passed over for tables, by label.
    pub(crate) since: BTreeMap<Arc<str>, Position>,
    /// Tables that are set aside, by label.
    pub(crate) aside: Vec<(Arc<str>, Position)>,
    pub(crate) copies: BTreeMap<TableId, CopyState>,
    /// Entries in quarantine, in the order of their ids.
    pub(crate) quarantine: Vec<Kept>,
    /// What operators asked of rows that are to have another key, and what became of it.
    pub(crate) new_keys: BTreeMap<Of, (NewKey, Option<Answer>)>,
    /// Keys that operators want made equal.
    pub(crate) repairs: BTreeMap<i64, Repair>,
}

impl BridgeTables {
    /// Sets tables aside or takes them back.
    pub(crate) fn arrange(&mut self, arrangement: &Arrangement) {
        self.checkpoint = Some(arrangement.checkpoint.clone());
        self.aside.clone_from(&arrangement.aside);
        self.since.extend(arrangement.since.iter().cloned());
    }
}

/// An entry in quarantine, and what has become of it since.
#[derive(Debug, Clone)]
pub struct Kept {
    /// As it was stored.
    pub stored: Stored,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub(crate) due: Instant,
    pub(crate) since: Instant,
    /// What an operator has asked for.
    pub request: Option<Ask>,
}

/// A constraint: whether the database refuses a row.
pub type Constraint = fn(&Place, &Row) -> bool;

/// What the log does not tell of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reshaped {
    /// Up to this entry.
    pub(crate) until: u64,
    pub(crate) column: usize,
    /// Also in transactions that change it.
    pub(crate) changes: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Inner {
    pub(crate) rows: BTreeMap<Place, Row>,
    pub(crate) log: Vec<Entry>,
    pub(crate) constraint: Option<Constraint>,
    /// Whose constraints are in force.
    pub(crate) tables: Option<Tables>,
    pub(crate) locks: BTreeMap<Place, u64>,
    /// Values of unique constraints that a transaction has under way.
    pub(crate) values: BTreeMap<UniqueValue, u64>,
    pub(crate) bridges: BTreeMap<String, BridgeTables>,
    /// What was in the log of transactions before their commit.
    pub(crate) early: Vec<Early>,
    pub(crate) undecided: BTreeMap<u64, Undecided>,
    /// Readers that were opened while some were undecided.
    pub(crate) reopened: usize,
    /// What the log does not tell of a column.
    pub(crate) reshaped: Option<Reshaped>,
    /// How busy it is said to be.
    pub(crate) pressure: Option<Result<Pressure>>,
    /// The logs that this one goes on from, and the number of the entry up to which it is the same as each.
    pub(crate) ancestors: Vec<(LogIdentity, u64)>,
    /// A standby's positions are others.
    pub(crate) relocates: bool,
    last_id: u64,
    clock: i64,
}

impl Inner {
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Numbers that were given are not given again, and the clock does not go back.
    pub(crate) fn go_on_from(&mut self, before: &Inner) {
        (self.last_id, self.clock) = (before.last_id, before.clock);
    }

    pub(crate) fn bridge(&mut self, name: &str) -> &mut BridgeTables {
        self.bridges.entry(name.to_owned()).or_default()
    }

    /// The transaction is over.
    pub(crate) fn release(&mut self, transaction: u64) {
        self.undo_early(transaction);
        self.locks.retain(|_, owner| *owner != transaction);
        self.values.retain(|_, owner| *owner != transaction);
        for bridge in self.bridges.values_mut() {
            bridge.lease_shared.remove(&transaction);
        }
    }
}

/// How a simulated node's clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Off by so many microseconds.
    Skewed(i64),
    /// At random, and often equal.
    Odd,
}

/// One simulated database.
pub struct Database {
    /// Its name.
    pub name: String,
    pub(crate) dice: Dice,
    inner: Mutex<Inner>,
    /// Woken at every commit and every release of a lock.
    pub(crate) changed: Notify,
    clock: Clock,
    started: Instant,
}

impl Database {
    /// An empty database.
    pub fn new(name: &str, dice: Dice, clock: Clock) -> Arc<Self> {
        Arc::new(Database {
            name: name.to_owned(),
            dice,
            inner: Mutex::default(),
            changed: Notify::new(),
            clock,
            started: Instant::now(),
        })
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a row there before anything is logged.
    pub fn seed_row(&self, place: Place, row: Row) {
        self.inner().rows.insert(place, row);
    }

    /// Sets a bridge up: the other node's log is applied up to its beginning.
    pub fn set_up(&self, bridge: &str, other: &Database) {
        let start = Checkpoint { position: other.place(0), log: other.identity() };
        self.inner().bridge(bridge).checkpoint = Some(start);
    }

    /// What the log has of a time before a table was set up, by another than an application that is looked at: the rows do not show it any
    /// more.
    pub fn log_of_before(&self, changes: Vec<LoggedChange>) {
        let origin = Some("before".to_owned());
        self.inner().log.push(Entry { origin, commit_time: 0, changes, barrier: false, early: None });
    }

    /// A table is added to a bridge: the other node's log is heeded from here on.
    pub fn add_table(&self, bridge: &str, label: &str, since: Position) {
        self.inner().bridge(bridge).since.insert(label.into(), since);
    }

    /// Asks for the first load of a table to this node.
    pub fn request_copy(&self, bridge: &str, table: TableId) {
        let copy = CopyState { table, after: None, rows: 0, estimated: None, done: false };
        self.inner().bridge(bridge).copies.insert(table, copy);
    }

    /// Whether every copy to this node that was asked for is done.
    pub fn is_copied(&self, bridge: &str) -> bool {
        self.inner().bridge(bridge).copies.values().all(|copy| copy.done)
    }

    /// All rows, now.
    pub fn rows(&self) -> BTreeMap<Place, Row> {
        self.inner().rows.clone()
    }

    /// The log up to an entry tells nothing of a column, as if it had been added then. What the rows hold in it they were given when
    /// they were inserted; a transaction that changes it was logged later.
    pub fn add_column(&self, until: u64, column: usize) {
        self.inner().reshaped = Some(Reshaped { until, column, changes: false });
    }

    /// The log up to an entry has a column under another name, and tells not even which transactions change it.
    pub fn rename_column(&self, until: u64, column: usize) {
        self.inner().reshaped = Some(Reshaped { until, column, changes: true });
    }

    /// The whole log.
    pub fn log(&self) -> Vec<Entry> {
        self.inner().log.clone()
    }

    /// The log from the entry of this number on.
    pub fn log_from(&self, at: usize) -> Vec<Entry> {
        self.inner().log.get(at..).unwrap_or_default().to_vec()
    }

    /// The checkpoint that a bridge keeps here.
    pub fn checkpoint(&self, bridge: &str) -> Option<Position> {
        self.inner().bridge(bridge).checkpoint.as_ref().map(|checkpoint| checkpoint.position.clone())
    }

    /// Whether the checkpoint that a bridge keeps here is of the log that another node has now.
    pub fn follows(&self, bridge: &str, other: &Database) -> bool {
        let log = self.inner().bridge(bridge).checkpoint.as_ref().map(|checkpoint| checkpoint.log.clone());
        log == Some(other.identity())
    }

    /// The tables that a bridge has set aside, by label, as this node has it.
    pub fn set_aside(&self, bridge: &str) -> Vec<Arc<str>> {
        self.inner().bridge(bridge).aside.iter().map(|(label, _)| label.clone()).collect()
    }

    /// Every resolution that a bridge ever recorded here, and whether it is in force.
    pub fn resolutions(&self, bridge: &str) -> Vec<(Resolution, bool)> {
        self.inner().bridge(bridge).resolutions.clone()
    }

    /// Puts a constraint in force, or lifts it. Rows that are there stay.
    pub fn constrain(&self, constraint: Option<Constraint>) {
        self.inner().constraint = constraint;
    }

    /// Whether the database refuses a row.
    pub fn refuses(&self, place: &Place, row: &Row) -> bool {
        self.inner().constraint.is_some_and(|constraint| constraint(place, row))
    }

    /// What a bridge has in quarantine here.
    pub fn quarantine(&self, bridge: &str) -> Vec<Kept> {
        self.inner().bridge(bridge).quarantine.clone()
    }

    /// An operator marks entries in quarantine.
    pub fn ask(&self, bridge: &str, ids: &[i64], ask: Ask) {
        for entry in &mut self.inner().bridge(bridge).quarantine {
            if ids.contains(&entry.stored.id) {
                entry.request = Some(ask);
            }
        }
    }

    /// An operator asks for another key of a row, but where it was given.
    pub fn ask_new_key(&self, bridge: &str, request: NewKey) {
        let mut inner = self.inner();
        let asked = &mut inner.bridge(bridge).new_keys;
        if !matches!(asked.get(&request.of), Some((_, Some(Answer::Given)))) {
            asked.insert(request.of, (request, None));
        }
    }

    /// What operators asked so, and what became of it.
    pub fn new_keys(&self, bridge: &str) -> Vec<(NewKey, Option<Answer>)> {
        self.inner().bridge(bridge).new_keys.values().cloned().collect()
    }

    /// An operator says that a bridge is to apply nothing here: waits for its transactions, and shuts its sessions out. Errors: one
    /// took too long.
    pub async fn pause(&self, bridge: &str) -> Result<()> {
        self.wait_for(|inner| {
            let tables = inner.bridge(bridge);
            tables.lease_shared.is_empty().then(|| {
                tables.token += 1;
                tables.paused = Some(true);
            })
        })
        .await
    }

    /// They take that back.
    pub fn resume(&self, bridge: &str) {
        self.inner().bridge(bridge).paused = Some(false);
    }

    /// From now on it says that it is so busy, or does not say it.
    pub fn is_busy(&self, pressure: Result<Pressure>) {
        self.inner().pressure = Some(pressure);
    }

    /// An operator asks for keys to be made equal.
    pub fn ask_repair(&self, bridge: &str, request: Repair) {
        self.inner().bridge(bridge).repairs.insert(request.id, request);
    }

    /// What operators asked so, and the bridge has not yet done.
    pub fn repairs(&self, bridge: &str) -> Vec<Repair> {
        self.inner().bridge(bridge).repairs.values().cloned().collect()
    }

    /// The index of the log's last entry that changed something and is not this bridge's.
    pub fn last_foreign(&self, bridge: &str) -> u64 {
        let inner = self.inner();
        let foreign = |entry: &Entry| entry.origin.as_deref() != Some(bridge) && !entry.changes.is_empty();
        inner.log.iter().rposition(foreign).map_or(0, |at| at as u64 + 1)
    }

    /// Whether any transaction is under way.
    pub fn is_quiet(&self) -> bool {
        self.inner().locks.is_empty()
    }

    pub(crate) fn identity(&self) -> LogIdentity {
        self.identity_in(&self.inner())
    }

    pub(crate) fn identity_in(&self, inner: &Inner) -> LogIdentity {
        match inner.server() {
            0 => identity_of(&self.name),
            promotions => identity_of(&format!("{}:{promotions}", self.name)),
        }
    }

    /// The commit time of a transaction that commits now.
    pub(crate) fn commit_time(&self, inner: &mut Inner) -> i64 {
        match self.clock {
            Clock::Skewed(skew) => {
                inner.clock = (inner.clock + 1).max(self.elapsed_micros() + skew);
                inner.clock
            }
            Clock::Odd => *self.dice.pick(&[0, 5, 5, self.dice.between(0, 40)]).unwrap_or(&0),
        }
    }

    pub(crate) fn elapsed_micros(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Waits until `ready` gives something; `None` in time makes a lock time-out of it.
    pub(crate) async fn wait_for<T>(&self, mut ready: impl FnMut(&mut Inner) -> Option<T>) -> Result<T> {
        let wait = self.dice.faults().lock_wait.unwrap_or(Duration::from_secs(1_000_000_000));
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = ready(&mut self.inner()) {
                return Ok(found);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Error::new(Code::Contention, "a lock could not be had in time"));
            }
        }
    }

    /// Locks an existing row. An absent row locks nothing, however long an insert of it is under way.
    pub(crate) async fn lock_row(&self, transaction: u64, place: &Place) -> Result<bool> {
        self.wait_for(|inner| {
            if !inner.rows.contains_key(place) && inner.locks.get(place) != Some(&transaction) {
                return Some(false);
            }
            match inner.locks.get(place) {
                Some(&owner) if owner != transaction => None,
                _ => {
                    inner.locks.insert(place.clone(), transaction);
                    Some(true)
                }
            }
        })
        .await
    }

    /// Takes the place of a row to insert. `false`: there is one already. Waits for an insert or a
    /// delete under way, as a unique index does.
    pub(crate) async fn lock_insert(&self, transaction: u64, place: &Place) -> Result<bool> {
        self.wait_for(|inner| match inner.locks.get(place) {
            Some(&owner) if owner != transaction => None,
            owned => {
                if owned.is_none() && inner.rows.contains_key(place) {
                    return Some(false);
                }
                inner.locks.insert(place.clone(), transaction);
                Some(true)
            }
        })
        .await
    }

    /// Commits rows at one instant: rows, log, release of the locks.
    pub(crate) fn commit_rows(
        &self,
        inner: &mut Inner,
        transaction: u64,
        changes: Vec<LoggedChange>,
        origin: Option<&str>,
        commit_time: i64,
    ) {
        for change in &changes {
            match &change.after {
                Some(row) => inner.rows.insert(change.place.clone(), row.clone()),
                None => inner.rows.remove(&change.place),
            };
        }
        let early = inner.decide_early(transaction, &changes);
        inner.log.push(Entry { origin: origin.map(str::to_owned), commit_time, changes, barrier: false, early });
        inner.release(transaction);
    }
}

fn identity_of(name: &str) -> LogIdentity {
    LogIdentity(format!("memory:{name}").into())
}
