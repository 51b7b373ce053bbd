//! The log reader of a simulated database.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use pontoon_core::{
    Change, Code, Error, Fragment, LogEvent, Operation, Origin, Position, Progress, Result, node::LogReader,
    node::Tables,
};

use crate::database::{Database, Entry, LoggedChange};

/// How long an idle reader waits before it says where it stands.
const IDLE: Duration = Duration::from_secs(2);

/// Reads entries in order, large ones in pieces.
pub struct MemoryReader {
    database: Arc<Database>,
    bridge: String,
    tables: Tables,
    /// Entries read so far.
    at: u64,
    ready: VecDeque<LogEvent>,
}

impl MemoryReader {
    pub(crate) fn new(database: Arc<Database>, bridge: &str, start: &Position, tables: &Tables) -> Result<Self> {
        let Position::Index(at) = *start else {
            return Err(Error::new(Code::Config, format!("{start} is not a position of a log in memory")));
        };
        Ok(MemoryReader { database, bridge: bridge.to_owned(), tables: tables.clone(), at, ready: VecDeque::new() })
    }

    fn decode(&mut self, entry: &Entry) {
        self.at += 1;
        let position = Position::Index(self.at);
        let origin = match &entry.origin {
            None => Origin::Local,
            Some(name) if *name == self.bridge => Origin::Own,
            Some(name) => Origin::Bridge(name.as_str().into()),
        };
        let changes = self.changes(&entry.changes);
        if changes.is_empty() {
            let progress = Progress { position, time: None, barrier: entry.barrier };
            self.ready.push_back(LogEvent::Progress(progress));
            return;
        }
        let pieces = self.pieces(changes);
        let last = pieces.len() - 1;
        for (index, changes) in pieces.into_iter().enumerate() {
            self.ready.push_back(LogEvent::Fragment(Fragment {
                transaction: format!("{}", self.at).into(),
                origin: origin.clone(),
                commit_time: entry.commit_time,
                first: index == 0,
                changes,
                position: (index == last).then(|| position.clone()),
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
    fn changes(&self, logged: &[LoggedChange]) -> Vec<Change> {
        let mut changes = Vec::new();
        for (at, change) in logged.iter().enumerate() {
            let table = change.place.0;
            let moved = logged.get(at + 1).is_some_and(|next| next.moved_from.as_ref() == Some(&change.place));
            if moved || !self.tables.get(table.index()).is_some_and(|mapped| mapped.followed) {
                continue;
            }
            let from = change.moved_from.as_ref().and_then(|_| logged.get(at - 1));
            let before = from.map_or_else(|| change.before.clone(), |from| from.before.clone());
            let operation = match (before, change.after.clone()) {
                (None, Some(after)) => Operation::Insert { after },
                (Some(before), Some(after)) => Operation::Update { before, after, unchanged: Vec::new() },
                (Some(before), None) => Operation::Delete { before },
                (None, None) => continue,
            };
            changes.push(Change { table, operation });
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
            self.database.dice.call().await?;
            let changed = self.database.clone();
            let changed = changed.changed.notified();
            let next = self.database.inner().log.get(self.at as usize).cloned();
            match next {
                Some(entry) => self.decode(&entry),
                None if tokio::time::timeout(IDLE, changed).await.is_err() => {
                    let progress = Progress { position: Position::Index(self.at), time: None, barrier: false };
                    return Ok(LogEvent::Progress(progress));
                }
                None => {}
            }
        }
    }

    fn confirm(&mut self, _durable: &Position) {
        // A log in memory is kept whole.
    }
}
