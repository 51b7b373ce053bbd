//! The log reader of a simulated database.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pontoon_core::{
    Change, Code, Error, Fragment, Held, LogEvent, Operation, Origin, Position, Progress, Result, Row, Value,
    node::{LogReader, Tables},
};

use crate::{
    database::{Database, Entry, Inner, LoggedChange, Reshaped},
    early::{Early, What},
    standby::entries,
};

/// How long an idle reader waits before it says where it stands.
const IDLE: Duration = Duration::from_secs(2);

/// Reads entries in order, large ones in pieces.
pub struct MemoryReader {
    database: Arc<Database>,
    server: usize,
    bridge: String,
    tables: Tables,
    /// Entries read so far.
    at: u64,
    /// What has been read of the pieces that stand between them.
    early_at: usize,
    /// Transactions decided before the start, and those that were rolled back by then: a server knows of them too.
    behind: BTreeSet<u64>,
    ready: VecDeque<LogEvent>,
}

impl MemoryReader {
    pub(crate) fn new(database: Arc<Database>, bridge: &str, start: &Position, tables: &Tables) -> Result<Self> {
        let (at, server) = (entries(start), database.server());
        if *start != database.place(at) {
            return Err(Error::new(Code::LogBehind, format!("{start} is no position of this log")));
        }
        let behind = {
            let mut inner = database.inner();
            let decided = inner.log.iter().take(at as usize).filter_map(|entry| entry.early);
            let undone = |early: &&Early| early.what == What::Undone { part: None };
            let undone = inner.early.iter().filter(undone).map(|early| early.transaction);
            let behind: BTreeSet<u64> = decided.chain(undone).collect();
            let open = inner.early.iter().any(|early| early.at <= at && !behind.contains(&early.transaction));
            inner.reopened += usize::from(open && at > 0);
            behind
        };
        let (bridge, tables, ready) = (bridge.to_owned(), tables.clone(), VecDeque::new());
        Ok(MemoryReader { database, server, bridge, tables, at, early_at: 0, behind, ready })
    }

    /// Where it stands.
    fn position(&self) -> Position {
        self.database.inner().place(self.server, self.at)
    }

    /// What comes next in the log: a piece, from the first one of each transaction that is not behind, or the next entry.
    fn advance(&mut self) -> bool {
        let database = self.database.clone();
        let inner = database.inner();
        if let Some(early) = inner.early.get(self.early_at).filter(|early| early.at <= self.at) {
            self.early_at += 1;
            if !self.behind.contains(&early.transaction) {
                let held = self.held(early, inner.reshaped);
                self.ready.push_back(held);
            }
            return true;
        }
        let Some(entry) = inner.log.get(self.at as usize).cloned() else { return false };
        let name = entry.early.and_then(|early| name_of(&inner, early));
        drop(inner);
        self.decode(&entry, name);
        true
    }

    fn held(&self, early: &Early, reshaped: Option<Reshaped>) -> LogEvent {
        let id = early.name.to_string().into();
        let held = match &early.what {
            What::Undone { part } => Held::Undone { id, part: *part },
            What::Piece { part, changes } => {
                Held::Piece { id, part: *part, changes: self.changes(changes, early.at, reshaped, false) }
            }
        };
        LogEvent::Held(held)
    }

    fn decode(&mut self, entry: &Entry, held: Option<u64>) {
        self.at += 1;
        let position = self.position();
        let origin = match &entry.origin {
            None => Origin::Local,
            Some(name) if *name == self.bridge => Origin::Own,
            Some(name) => Origin::Bridge(name.as_str().into()),
        };
        let fragment = Fragment {
            transaction: format!("{}", self.at).into(),
            origin,
            commit_time: entry.commit_time,
            first: true,
            changes: Vec::new(),
            position: Some(position.clone()),
        };
        if let Some(name) = held {
            let decided = Held::Decided { id: name.to_string().into(), fragment };
            self.ready.push_back(LogEvent::Held(decided));
            return;
        }
        let reshaped = self.database.inner().reshaped;
        let changes = self.changes(&entry.changes, self.at, reshaped, fragment.origin == Origin::Own);
        if changes.is_empty() {
            let progress = Progress { position, time: None, barrier: entry.barrier, passed_over: 0 };
            self.ready.push_back(LogEvent::Progress(progress));
            return;
        }
        let pieces = self.pieces(changes);
        let last = pieces.len() - 1;
        for (index, changes) in pieces.into_iter().enumerate() {
            let position = (index == last).then(|| position.clone());
            self.ready.push_back(LogEvent::Fragment(Fragment {
                first: index == 0,
                changes,
                position,
                ..fragment.clone()
            }));
        }
    }

    /// Cuts a transaction at chance, as a reader of a real log cuts a large one.
    fn pieces(&self, changes: Vec<Change>) -> Vec<Vec<Change>> {
        let mut pieces = vec![Vec::new()];
        for change in changes {
            let cut = pieces.last().is_some_and(|piece| !piece.is_empty()) && self.database.dice.chance(0.2);
            match pieces.last_mut() {
                Some(piece) if !cut => piece.push(change),
                _ => pieces.push(vec![change]),
            }
        }
        pieces
    }

    /// The changes of followed tables; a row that was moved from key to key is one update.
    fn changes(&self, logged: &[LoggedChange], at: u64, reshaped: Option<Reshaped>, own: bool) -> Vec<Change> {
        // What changes a column was logged after it was added, but not after it was given another name.
        let changes_it = |column: usize| {
            let rows = logged.iter().filter_map(|change| change.before.as_ref().zip(change.after.as_ref()));
            rows.into_iter().any(|(before, after)| before.0[column] != after.0[column])
        };
        let is_unknown = |of: &Reshaped| at <= of.until && (of.changes || !changes_it(of.column));
        let unknown = reshaped.filter(is_unknown).map(|of| of.column);
        let mut changes = Vec::new();
        for (at, change) in logged.iter().enumerate() {
            let table = change.place.0;
            let moved = logged.get(at + 1).is_some_and(|next| next.moved_from.as_ref() == Some(&change.place));
            let Some(mapped) = self.tables.get(table.index()).filter(|mapped| mapped.followed && !moved) else {
                continue;
            };
            let as_told = |mut row: Row| {
                for (place, value) in row.0.iter_mut().enumerate() {
                    if own && !mapped.by_columns && !mapped.key.contains(&place) {
                        *value = Value::Unchanged;
                    } else if unknown == Some(place) {
                        *value = Value::Null;
                    }
                }
                row
            };
            let from = change.moved_from.as_ref().and_then(|_| logged.get(at - 1));
            let before = from.map_or_else(|| change.before.clone(), |from| from.before.clone());
            let operation = match (before.map(as_told), change.after.clone().map(as_told)) {
                (None, Some(after)) => Operation::Insert { after },
                (Some(before), Some(after)) => Operation::Update { before, after, unchanged: Vec::new() },
                (Some(before), None) => Operation::Delete { before },
                (None, None) => continue,
            };
            changes.push(Change { table, operation, reshaped: unknown.is_some() });
        }
        changes
    }
}

#[async_trait]
impl LogReader for MemoryReader {
    async fn next(&mut self) -> Result<LogEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.database.call(self.server).await?;
            let changed = self.database.clone();
            let changed = changed.changed.notified();
            if !self.advance() && tokio::time::timeout(IDLE, changed).await.is_err() {
                let progress = Progress { position: self.position(), time: None, barrier: false, passed_over: 0 };
                return Ok(LogEvent::Progress(progress));
            }
        }
    }

    fn confirm(&mut self, _durable: &Position) {
        // A log in memory is kept whole.
    }
}

fn name_of(inner: &Inner, transaction: u64) -> Option<u64> {
    inner.early.iter().find(|early| early.transaction == transaction).map(|early| early.name)
}
