//! Transactions that are not the bridge's: what applications do meanwhile.

use std::sync::Arc;

use pontoon_core::{Result, Row};

use crate::database::{Database, LoggedChange, Place};

impl Database {
    /// Moves the row of one key to another, absent one, as an update of the key. Otherwise as
    /// [`Database::transact`].
    pub async fn move_row(
        self: &Arc<Self>,
        from: &Place,
        to: &Place,
        moved: impl FnOnce(&Row) -> Row,
    ) -> Result<Vec<LoggedChange>> {
        let (id, server) = self.begin();
        let done = self.move_as((id, server), from, to, moved).await;
        self.inner().release(id);
        self.changed.notify_waiters();
        done
    }

    async fn move_as(
        self: &Arc<Self>,
        (id, server): (u64, usize),
        from: &Place,
        to: &Place,
        moved: impl FnOnce(&Row) -> Row,
    ) -> Result<Vec<LoggedChange>> {
        if !self.lock_row(id, from).await? || !self.lock_insert(id, to).await? {
            return Ok(Vec::new());
        }
        self.dice.pause().await;
        let before = self.inner().rows.get(from).cloned();
        let Some(row) = &before else { return Ok(Vec::new()) };
        let after = moved(row);
        if self.refuses(to, &after) {
            return Err(crate::session::refused(self));
        }
        let after = Some(after);
        let changes = vec![
            LoggedChange { place: from.clone(), before, after: None, moved_from: None },
            LoggedChange { place: to.clone(), before: None, after, moved_from: Some(from.clone()) },
        ];
        self.ensure_tied(id, &changes).await?;
        if self.gives_up(id, &changes).await || self.server() != server {
            return Ok(Vec::new());
        }
        let mut inner = self.inner();
        let time = self.commit_time(&mut inner);
        self.commit_rows(&mut inner, id, changes.clone(), None, time);
        Ok(changes)
    }

    /// Commits rows at once, as written at a time that is told. They must not be locked by anybody.
    pub fn write_at(&self, commit_time: i64, rows: impl IntoIterator<Item = (Place, Option<Row>)>) {
        let mut inner = self.inner();
        let id = inner.new_id();
        let change = |(place, after): (Place, Option<Row>)| {
            let before = inner.rows.get(&place).cloned();
            LoggedChange { place, before, after, moved_from: None }
        };
        let changes = rows.into_iter().map(change).collect();
        self.commit_rows(&mut inner, id, changes, None, commit_time);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Begins a transaction: its number, and the server that it is on.
    fn begin(&self) -> (u64, usize) {
        let mut inner = self.inner();
        (inner.new_id(), inner.server())
    }

    /// Writes pieces of a transaction to the log before its commit, at chance; then perhaps it is to be rolled back.
    async fn gives_up(&self, id: u64, changes: &[LoggedChange]) -> bool {
        self.write_early(id, changes).await;
        self.inner().undecided.contains_key(&id) && self.dice.chance(0.2)
    }

    /// Reads rows under their locks, lets `write` say what they become, holds the locks for a while and
    /// commits. Returns what it changed; nothing where it gave up because a row appeared meanwhile.
    /// Errors: a lock time-out, a row that the database refuses; after both nothing is changed.
    pub async fn transact(
        self: &Arc<Self>,
        places: &[Place],
        write: impl FnOnce(&[Option<Row>]) -> Vec<Option<Row>>,
    ) -> Result<Vec<LoggedChange>> {
        let (id, server) = self.begin();
        let done = self.transact_as((id, server), places, write).await;
        self.inner().release(id);
        self.changed.notify_waiters();
        done
    }

    async fn transact_as(
        self: &Arc<Self>,
        (id, server): (u64, usize),
        places: &[Place],
        write: impl FnOnce(&[Option<Row>]) -> Vec<Option<Row>>,
    ) -> Result<Vec<LoggedChange>> {
        let mut before = Vec::new();
        for place in places {
            let locked = self.lock_row(id, place).await?;
            self.dice.pause().await;
            before.push(if locked { self.inner().rows.get(place).cloned() } else { None });
        }
        let after = write(&before);
        let mut changes = Vec::new();
        for ((place, before), after) in places.iter().zip(before).zip(after) {
            if before == after {
                continue;
            }
            if before.is_none() && !self.lock_insert(id, place).await? {
                return Ok(Vec::new());
            }
            if after.as_ref().is_some_and(|row| self.refuses(place, row)) {
                return Err(crate::session::refused(self));
            }
            changes.push(LoggedChange { place: place.clone(), before, after, moved_from: None });
        }
        self.ensure_tied(id, &changes).await?;
        self.dice.pause().await;
        if self.gives_up(id, &changes).await || self.server() != server {
            return Ok(Vec::new());
        }
        if !changes.is_empty() {
            let mut inner = self.inner();
            let time = self.commit_time(&mut inner);
            self.commit_rows(&mut inner, id, changes.clone(), None, time);
        }
        Ok(changes)
    }
}
