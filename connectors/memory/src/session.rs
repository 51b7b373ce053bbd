//! A session that writes to a simulated database.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pontoon_core::{
    Code, CopyState, Error, Key, Position, Resolution, Result, Row, TableId, Tag,
    history::Retention,
    new_key::{Answer, NewKey, Of},
    node::{Applied, Session, Sum, TableBatch, Tables, Tried, UpdateGroup},
    quarantine::{Ask, STORED_READ_MAX, Stored, StoredWrite, What},
    repair::Repair,
};
use tokio::time::Instant;

use crate::{
    database::{BridgeTables, Database, Inner, Kept, LoggedChange, Place},
    lease,
    ties::{self, Seen},
};

/// How long a session at the most lives on in the server when its client is gone.
const AFTERLIFE_MAX: Duration = Duration::from_secs(5);

/// Each row written, as it was at the first write and as it is now.
type Writes = BTreeMap<Place, (Option<Row>, Option<Row>)>;

/// What a transaction would do when it commits.
#[derive(Debug, Clone, Default)]
struct Transaction {
    id: u64,
    /// On which it is.
    server: usize,
    tag: Option<Tag>,
    writes: Writes,
    order: Vec<Place>,
    savepoint: Option<(Writes, Vec<Place>)>,
    /// A statement has failed: only a way back is open.
    failed: bool,
    stored: Vec<Stored>,
    released: Vec<Place>,
    tried: Vec<(Place, Tried)>,
    recorded: Vec<Resolution>,
    retired: Vec<i64>,
    forgotten: Vec<i64>,
    copied: Option<CopyState>,
    answered: Vec<(NewKey, Answer)>,
    repaired: Vec<i64>,
    committing: bool,
}

impl Transaction {
    /// What the log gets.
    fn changes(&self) -> Vec<LoggedChange> {
        let writes = self.order.iter().filter_map(|place| {
            let (before, after) = self.writes.get(place)?;
            let (place, before, after) = (place.clone(), before.clone(), after.clone());
            (before != after).then_some(LoggedChange { place, before, after, moved_from: None })
        });
        writes.collect()
    }
}

/// A session of one bridge.
pub struct MemorySession {
    database: Arc<Database>,
    server: usize,
    bridge: String,
    token: i64,
    tables: Tables,
    transaction: Option<Transaction>,
    cut: bool,
}

impl MemorySession {
    pub(crate) fn new(database: Arc<Database>, bridge: &str, token: i64, tables: Tables) -> Self {
        let server = database.server();
        MemorySession { database, server, bridge: bridge.to_owned(), token, tables, transaction: None, cut: false }
    }

    async fn call(&mut self) -> Result<()> {
        let answer = if self.cut { Err(lost()) } else { self.database.call(self.server).await };
        self.cut |= answer.is_err();
        answer
    }

    fn transaction(&mut self) -> Result<&mut Transaction> {
        self.transaction.as_mut().ok_or_else(|| Error::new(Code::Internal, "no transaction has begun"))
    }

    fn place(&self, table: TableId, row: &Row) -> Result<Place> {
        let mapped = self.tables.get(table.index()).ok_or_else(|| Error::new(Code::Internal, "no such table"))?;
        Ok((table, mapped.key_of(row)))
    }

    /// The row as this transaction sees it.
    fn visible(&self, place: &Place) -> Option<Row> {
        let own = self.transaction.as_ref().and_then(|transaction| transaction.writes.get(place));
        own.map_or_else(|| self.database.inner().rows.get(place).cloned(), |(_, now)| now.clone())
    }

    /// All rows as this transaction sees them.
    fn seen(&self) -> Seen {
        let own = self.transaction.iter().flat_map(|transaction| &transaction.writes);
        self.database.seen(own.map(|(place, (_, now))| (place, now)))
    }

    /// Writes one row where it is as expected, under its lock: what `make` makes of the row that is there, or nothing
    /// where that is none that it takes.
    async fn write(
        &mut self,
        place: Place,
        exists: bool,
        make: impl FnOnce(Option<&Row>) -> Option<Option<Row>> + Send,
    ) -> Result<bool> {
        let id = self.transaction()?.id;
        if self.transaction()?.tag.is_none() {
            return Err(Error::new(Code::Internal, "a write before the tag"));
        }
        let had = match exists {
            true => self.database.lock_row(id, &place).await?,
            false => self.database.lock_insert(id, &place).await?,
        };
        let first = self.visible(&place);
        if !had || first.is_some() != exists {
            return Ok(false);
        }
        let Some(after) = make(first.as_ref()) else { return Ok(false) };
        if after.as_ref().is_some_and(|row| self.database.refuses(&place, row)) {
            self.transaction()?.failed = true;
            return Err(refused(&self.database));
        }
        let tables = self.tables.clone();
        self.database.lock_values(id, &tables, &place, [first.as_ref(), after.as_ref()]).await?;
        if let Some(row) =
            after.as_ref().filter(|_| tables.get(place.0.index()).is_some_and(|table| !table.uniques.is_empty()))
        {
            let unique = self.database.ensure_unique(&self.seen(), &tables, &place, row);
            self.transaction()?.failed |= unique.is_err();
            unique?;
        }
        let transaction = self.transaction()?;
        match transaction.writes.get_mut(&place) {
            Some((_, now)) => *now = after,
            None => {
                transaction.writes.insert(place.clone(), (first, after));
                transaction.order.push(place);
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl Session for MemorySession {
    async fn begin(&mut self, tag: Option<&Tag>) -> Result<()> {
        self.call().await?;
        {
            let mut inner = self.database.inner();
            let id = inner.new_id();
            let tables = inner.bridge(&self.bridge);
            if tables.token != self.token {
                return Err(lease::lost(&self.database));
            }
            tables.lease_shared.insert(id);
            self.transaction = Some(Transaction { id, server: self.server, ..Transaction::default() });
        }
        match tag {
            Some(tag) => self.tag(tag).await,
            None => Ok(()),
        }
    }

    async fn tag(&mut self, tag: &Tag) -> Result<()> {
        self.transaction()?.tag = Some(tag.clone());
        Ok(())
    }

    async fn apply(&mut self, table: TableId, batch: &TableBatch) -> Result<Applied> {
        self.call().await?;
        for before in &batch.deletes {
            let place = self.place(table, before)?;
            if !self.write(place, true, |row| (row == Some(before)).then_some(None)).await? {
                return Ok(Applied::Missed);
            }
        }
        for group in &batch.updates {
            for (before, after) in &group.rows {
                let place = self.place(table, before)?;
                let make = |row: Option<&Row>| row.and_then(|row| updated(row, before, after, group)).map(Some);
                if !self.write(place, true, make).await? {
                    return Ok(Applied::Missed);
                }
            }
        }
        for after in &batch.inserts {
            let place = self.place(table, after)?;
            if !self.write(place, false, |_| Some(Some(after.clone()))).await? {
                return Ok(Applied::Missed);
            }
        }
        Ok(Applied::All)
    }

    async fn lock(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let id = self.transaction()?.id;
        let mut rows = Vec::new();
        for key in keys {
            self.call().await?;
            let place = (table, key.clone());
            rows.push(if self.database.lock_row(id, &place).await? { self.visible(&place) } else { None });
        }
        Ok(rows)
    }

    async fn read(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.call().await?;
        Ok(keys.iter().map(|key| self.visible(&(table, key.clone()))).collect())
    }

    async fn holders(&mut self, table: TableId, unique: usize, rows: &[Row]) -> Result<Vec<Option<Key>>> {
        self.call().await?;
        let (seen, tables) = (self.seen(), self.tables.clone());
        let Some(unique) = tables.get(table.index()).and_then(|table| table.uniques.get(unique)) else {
            return Err(Error::new(Code::Internal, "no such constraint"));
        };
        Ok(rows
            .iter()
            .map(|row| ties::holders(&seen, table, unique, row).next().map(|place| place.1.clone()))
            .collect())
    }

    async fn orphans(&mut self, table: TableId, reference: usize, keys: &[Key]) -> Result<Vec<Key>> {
        self.call().await?;
        let (id, tables) = (self.transaction()?.id, self.tables.clone());
        let mapped = tables.get(table.index()).and_then(|mapped| mapped.references.get(reference));
        let parent = mapped.and_then(|reference| tables.get(reference.parent.index()));
        for key in keys {
            let row = self.visible(&(table, key.clone()));
            let (Some(row), Some(reference), Some(parent)) = (row, mapped, parent) else { continue };
            if let Some(held) = reference.parent_of(&row, parent) {
                self.database.lock_row(id, &(reference.parent, held)).await?;
            }
        }
        let seen = self.seen();
        let is_orphan = |key: &&Key| {
            let row = seen.get(&(table, (*key).clone()));
            row.is_some_and(|row| ties::is_orphan(&seen, &tables, (table, reference), row))
        };
        Ok(keys.iter().filter(is_orphan).cloned().collect())
    }

    async fn children(&mut self, table: TableId, reference: usize, parents: &[Row], limit: usize) -> Result<Vec<Key>> {
        self.call().await?;
        let (seen, tables) = (self.seen(), self.tables.clone());
        let Some(found) = tables.get(table.index()).and_then(|table| table.references.get(reference)) else {
            return Err(Error::new(Code::Internal, "no such constraint"));
        };
        let left = seen.iter().filter(|((of, _), row)| {
            *of == table
                && parents.iter().any(|parent| found.is_to(row, parent))
                && ties::is_orphan(&seen, &tables, (table, reference), row)
        });
        Ok(left.map(|((_, key), _)| key.clone()).take(limit).collect())
    }

    async fn fence(&mut self) -> Result<Position> {
        self.call().await?;
        let mut end = self.database.end();
        if let Position::Binlog { beside, .. } = &mut end {
            // Where a binary log ends says nothing of transactions.
            beside.gtid = None;
        }
        Ok(end)
    }

    async fn savepoint(&mut self) -> Result<()> {
        self.call().await?;
        let transaction = self.transaction()?;
        transaction.savepoint = Some((transaction.writes.clone(), transaction.order.clone()));
        Ok(())
    }

    async fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.call().await?;
        let transaction = self.transaction()?;
        let Some((writes, order)) = transaction.savepoint.clone() else {
            return Err(Error::new(Code::Internal, "there is no savepoint"));
        };
        (transaction.writes, transaction.order, transaction.failed) = (writes, order, false);
        Ok(())
    }

    async fn store(&mut self, entries: &[Stored]) -> Result<()> {
        self.call().await?;
        self.transaction()?.stored.extend_from_slice(entries);
        Ok(())
    }

    async fn stored(&mut self, table: TableId, key: &Key, after: i64) -> Result<Vec<StoredWrite>> {
        self.call().await?;
        let mut inner = self.database.inner();
        let of_key = inner.bridge(&self.bridge).quarantine.iter();
        let writes =
            of_key.filter(|entry| (entry.stored.table, &entry.stored.key) == (table, key)).filter_map(|entry| {
                let (before, after) = entry.stored.what.rows();
                Some(StoredWrite {
                    id: entry.stored.id,
                    position: entry.stored.position.clone()?,
                    commit_time: entry.stored.commit_time,
                    own: entry.stored.what == What::Own,
                    before: before.cloned(),
                    after: after.cloned(),
                    looked: entry.request.is_some_and(|ask| ask != Ask::Retry),
                })
            });
        Ok(writes.filter(|write| write.id > after).take(STORED_READ_MAX).collect())
    }

    async fn release(&mut self, table: TableId, keys: &[Key]) -> Result<()> {
        self.call().await?;
        self.transaction()?.released.extend(keys.iter().map(|key| (table, key.clone())));
        Ok(())
    }

    async fn tried(&mut self, table: TableId, key: &Key, tried: &Tried) -> Result<()> {
        self.call().await?;
        self.transaction()?.tried.push(((table, key.clone()), tried.clone()));
        Ok(())
    }

    async fn highest_id(&mut self) -> Result<i64> {
        self.call().await?;
        Ok(self.database.inner().bridge(&self.bridge).highest_id())
    }

    async fn recorded(&mut self, id: i64) -> Result<Option<Resolution>> {
        self.call().await?;
        let mut inner = self.database.inner();
        let all = &inner.bridge(&self.bridge).resolutions;
        Ok(all.iter().map(|(resolution, _)| resolution).find(|resolution| resolution.id == id).cloned())
    }

    async fn answer_new_key(&mut self, request: &NewKey, answer: &Answer) -> Result<bool> {
        self.call().await?;
        let is_as_it_was = {
            let mut inner = self.database.inner();
            let asked = inner.bridge(&self.bridge).new_keys.get(&request.of);
            asked.is_some_and(|(asked, answer)| asked == request && answer.is_none())
        };
        if is_as_it_was {
            self.transaction()?.answered.push((request.clone(), answer.clone()));
        }
        Ok(is_as_it_was)
    }

    async fn repaired(&mut self, request: &Repair) -> Result<()> {
        self.call().await?;
        self.transaction()?.repaired.push(request.id);
        Ok(())
    }

    async fn record(&mut self, resolutions: &[Resolution]) -> Result<()> {
        self.call().await?;
        self.transaction()?.recorded.extend_from_slice(resolutions);
        Ok(())
    }

    async fn load(&mut self, table: TableId, rows: &[&Row]) -> Result<Applied> {
        let inserts = rows.iter().map(|row| (*row).clone()).collect();
        self.apply(table, &TableBatch { inserts, ..TableBatch::default() }).await
    }

    async fn note_copy(&mut self, copy: &CopyState) -> Result<()> {
        self.call().await?;
        self.transaction()?.copied = Some(copy.clone());
        Ok(())
    }

    async fn retire(&mut self, ids: &[i64]) -> Result<()> {
        self.call().await?;
        self.transaction()?.retired.extend_from_slice(ids);
        Ok(())
    }

    async fn forget(&mut self, keep: &Retention, limit: usize) -> Result<u64> {
        self.call().await?;
        // Records of a database in memory have no age.
        let Some(records) = keep.records.and_then(|records| usize::try_from(records).ok()) else { return Ok(0) };
        let mut inner = self.database.inner();
        let all = &inner.bridge(&self.bridge).resolutions;
        let mut ids: Vec<i64> = all.iter().map(|(resolution, _)| resolution.id).collect();
        ids.sort_unstable();
        let old: BTreeSet<i64> = ids[..ids.len().saturating_sub(records.max(1))].iter().copied().collect();
        let history = all.iter().filter(|(_, in_force)| !in_force).map(|(resolution, _)| resolution.id).take(limit);
        let forgotten: Vec<i64> = history.filter(|id| old.contains(id)).collect();
        drop(inner);
        let count = forgotten.len() as u64;
        self.transaction()?.forgotten.extend(forgotten);
        Ok(count)
    }

    async fn commit(&mut self) -> Result<()> {
        if self.transaction()?.failed {
            return Err(Error::new(Code::Internal, "a transaction that failed was committed"));
        }
        let transaction = self.transaction()?;
        transaction.committing = true;
        let (id, changes) = (transaction.id, transaction.changes());
        self.database.write_early(id, &changes).await;
        self.call().await?;
        let Some(transaction) = self.transaction.take() else {
            return Err(Error::new(Code::Internal, "no transaction has begun"));
        };
        commit(&self.database, &self.bridge, &transaction);
        if self.database.dice.chance(self.database.dice.faults().lost_answer) {
            self.cut = true;
            return Err(lost());
        }
        self.database.dice.pause().await;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<()> {
        if let Some(transaction) = self.transaction.take() {
            self.database.inner().release(transaction.id);
            self.database.changed.notify_waiters();
        }
        self.call().await
    }
}

/// What an update makes of a row; `None` where the row is not as it has to be.
fn updated(row: &Row, before: &Row, after: &Row, group: &UpdateGroup) -> Option<Row> {
    if (0..row.0.len()).any(|at| Sum::spare(&group.sums, at) && row.0[at] != before.0[at]) {
        return None;
    }
    let mut new = row.clone();
    for &at in &group.changed {
        new.0[at] = after.0[at].clone();
    }
    for sum in group.added() {
        new.0[sum.at] = sum.total(&row.0[sum.at], &after.0[sum.at])?;
    }
    Some(new)
}

/// Everything at one instant: rows, log, checkpoint, resolutions, and then the locks.
fn commit(database: &Database, bridge: &str, transaction: &Transaction) {
    let mut inner = database.inner();
    let changes = transaction.changes();
    if let Some(tag) = transaction.tag.as_ref().filter(|_| inner.server() == transaction.server) {
        keep(&mut inner, bridge, transaction, tag);
        database.commit_rows(&mut inner, transaction.id, changes, Some(bridge), tag.commit_time);
    }
    inner.release(transaction.id);
    drop(inner);
    database.changed.notify_waiters();
}

fn keep(inner: &mut Inner, bridge: &str, transaction: &Transaction, tag: &Tag) {
    let tables = inner.bridge(bridge);
    tables.applied = true;
    if let (Some(position), Some(checkpoint)) = (&tag.position, &mut tables.checkpoint)
        && position.covers(&checkpoint.position)
    {
        // Two appliers take turns, each with a position of its own; the later counts.
        checkpoint.position = position.clone();
    }
    for (resolution, in_force) in &mut tables.resolutions {
        let superseded =
            transaction.recorded.iter().any(|new| new.table == resolution.table && new.key == resolution.key);
        *in_force &= !superseded && !transaction.retired.contains(&resolution.id);
    }
    if let Some(copy) = &transaction.copied {
        tables.copies.insert(copy.table, copy.clone());
    }
    tables.resolutions.retain(|(resolution, _)| !transaction.forgotten.contains(&resolution.id));
    tables.resolutions.extend(transaction.recorded.iter().map(|resolution| (resolution.clone(), true)));
    for (request, answer) in &transaction.answered {
        match request.of {
            Of::Entry(_) => tables.new_keys.remove(&request.of),
            Of::Record(_) => tables.new_keys.insert(request.of, (request.clone(), Some(answer.clone()))),
        };
    }
    tables.repairs.retain(|id, _| !transaction.repaired.contains(id));
    keep_quarantine(tables, transaction);
}

fn keep_quarantine(tables: &mut BridgeTables, transaction: &Transaction) {
    let now = Instant::now();
    let place = |entry: &Kept| (entry.stored.table, entry.stored.key.clone());
    tables.quarantine.retain(|entry| !transaction.released.contains(&place(entry)));
    for entry in &mut tables.quarantine {
        let of = place(entry);
        for (_, tried) in transaction.tried.iter().filter(|(tried, _)| *tried == of) {
            entry.request = entry.request.filter(|ask| *ask != Ask::Retry && !tried.decided);
            if tried.head == Some(entry.stored.id) {
                (entry.attempts, entry.due) = (tried.attempts, now + tried.due_in);
                entry.stored.refusal = Some(tried.refusal.clone());
            }
        }
    }
    tables.quarantine.extend(transaction.stored.iter().map(|stored| Kept {
        stored: stored.clone(),
        attempts: u32::from(stored.refusal.is_some()),
        due: now + stored.due_in,
        since: now,
        request: None,
    }));
}

impl BridgeTables {
    /// The highest id of a resolution.
    pub(crate) fn last_record(&self) -> i64 {
        self.resolutions.iter().map(|(resolution, _)| resolution.id).max().unwrap_or(0)
    }

    /// The highest id of a resolution or an entry in quarantine.
    pub(crate) fn highest_id(&self) -> i64 {
        self.quarantine.iter().map(|entry| entry.stored.id).max().unwrap_or(0).max(self.last_record())
    }
}

/// The client is gone. The server finds out after a while; a commit that was under way may still happen.
impl Drop for MemorySession {
    fn drop(&mut self) {
        let Some(transaction) = self.transaction.take() else { return };
        let database = self.database.clone();
        let bridge = self.bridge.clone();
        let afterlife = database.dice.duration(AFTERLIFE_MAX);
        let commits = transaction.committing && database.dice.chance(0.5);
        let end = move |database: &Database| {
            if commits {
                commit(database, &bridge, &transaction);
            } else {
                database.inner().release(transaction.id);
                database.changed.notify_waiters();
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(afterlife).await;
                    end(&database);
                });
            }
            Err(_) => end(&database),
        }
    }
}

/// A row that breaks the database's constraint.
pub(crate) fn refused(database: &Database) -> Error {
    Error::new(Code::RowRefused, format!("{}: a check constraint", database.name)).by_constraint(Some("check".into()))
}

fn lost() -> Error {
    Error::new(Code::ConnectionLost, "the connection was cut")
}
