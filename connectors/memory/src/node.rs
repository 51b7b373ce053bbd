//! The node: opens readers, sessions, leases and scans on a simulated database.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, Key, LogIdentity, MappedTable, Position, Resolution, Result, TableId,
    TableName, TableSchema,
    node::{
        Applier, CarriedOver, LeaseAttempt, LogReader, LogStatus, Mark, Node, PassedOver, Peer, Scan, Session, Tables,
    },
    pressure::{Pressure, PressureLimits},
    quarantine::{Ask, Asked, QuarantinedKey, What},
    requests::Requests,
    state::{NodeState, Pause, Throttle, Unmapped, UnmappedResolution, another_server},
    verified::Verified,
};
use tokio::time::Instant;

use crate::{
    database::{Database, Entry, Kept},
    lease::MemoryLease,
    reader::MemoryReader,
    scan::MemoryScan,
    session::MemorySession,
};

/// A simulated database, as one bridge sees it.
pub struct MemoryNode {
    database: Arc<Database>,
    bridge: String,
}

impl MemoryNode {
    /// The node of a bridge.
    pub fn new(database: Arc<Database>, bridge: &str) -> Self {
        MemoryNode { database, bridge: bridge.to_owned() }
    }
}

#[async_trait]
impl Node for MemoryNode {
    fn name(&self) -> &str {
        &self.database.name
    }

    async fn connect(&self) -> Result<Peer> {
        self.database.dice.call().await?;
        Ok(Peer { server: "memory".into(), certificate_expiry: None, statement_bytes_max: None })
    }

    async fn identity(&self) -> Result<LogIdentity> {
        // The dice are not thrown where no server is ever lost: older schedules stay what they were.
        if self.database.server() > 0 {
            self.database.dice.call().await?;
        }
        Ok(self.database.identity())
    }

    async fn carried_over(&self, log: &LogIdentity, places: &[Position]) -> Result<Option<CarriedOver>> {
        self.database.dice.call().await?;
        Ok(self.database.carried_over(log, places))
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        Err(no_catalog())
    }

    async fn describe(&self, _names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        Err(no_catalog())
    }

    async fn is_as_mapped(&self, _table: &MappedTable) -> Result<bool> {
        self.database.dice.call().await?;
        Ok(true)
    }

    async fn state(&self, mapped: &Tables) -> Result<NodeState> {
        self.database.dice.call().await?;
        let mut inner = self.database.inner();
        let other_bridges = inner.bridges.keys().filter(|name| **name != self.bridge).cloned().collect();
        let tables = inner.bridge(&self.bridge);
        let is_mapped = |table: TableId| table.index() < mapped.len();
        let in_force = tables.resolutions.iter().filter(|(_, in_force)| *in_force).map(|(resolution, _)| resolution);
        let (resolutions, of_others) = in_force.cloned().partition::<Vec<_>, _>(|record| is_mapped(record.table));
        let since_of_others =
            tables.since.iter().filter(|(label, _)| mapped.iter().all(|table| table.label != **label));
        let mut quarantine = quarantined(&tables.quarantine);
        quarantine.retain(|key| is_mapped(key.table));
        Ok(NodeState {
            checkpoint: tables.checkpoint.clone(),
            applied: tables.applied,
            resolutions,
            quarantine,
            highest_id: tables.highest_id(),
            last_record: tables.last_record(),
            skips: tables.skips.clone(),
            tables: Vec::new(),
            since: mapped
                .iter()
                .filter_map(|table| Some((table.id, tables.since.get(&table.label)?.clone())))
                .collect(),
            aside: tables.aside.clone(),
            unmapped: Unmapped {
                since: since_of_others.map(|(label, place)| (label.clone(), place.clone())).collect(),
                resolutions: of_others.into_iter().map(unmapped).collect(),
            },
            other_bridges,
            epoch: tables.epoch,
            other_epoch: tables.other_epoch,
        })
    }

    async fn copies(&self, _tables: &Tables) -> Result<Vec<CopyState>> {
        self.database.dice.call().await?;
        Ok(self.database.inner().bridge(&self.bridge).copies.values().cloned().collect())
    }

    async fn estimate(&self, _table: &TableName) -> Result<Option<u64>> {
        self.database.dice.call().await?;
        Ok(Some(self.database.inner().rows.len() as u64))
    }

    async fn try_lease(&self) -> Result<LeaseAttempt> {
        self.database.dice.call().await?;
        let mut inner = self.database.inner();
        let (connection, server) = (inner.new_id(), inner.server());
        let tables = inner.bridge(&self.bridge);
        if tables.holder.is_some() {
            return Ok(LeaseAttempt::HeldBy("another process".into()));
        }
        tables.holder = Some(connection);
        Ok(LeaseAttempt::Ours(Box::new(MemoryLease::new((self.database.clone(), server), &self.bridge, connection))))
    }

    async fn open_reader(
        &self,
        start: &Checkpoint,
        tables: &Tables,
        _passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        self.database.dice.call().await?;
        let open = self.database.dice.faults().open;
        if !open.is_zero() {
            tokio::time::sleep(open).await;
        }
        if start.log != self.database.identity() {
            return Err(Error::new(Code::LogIdentityChanged, format!("{} is not {}", self.database.name, start.log)));
        }
        Ok(Box::new(MemoryReader::new(self.database.clone(), &self.bridge, &start.position, tables)?))
    }

    async fn open_tail(
        &self,
        start: Option<&Position>,
        tables: &Tables,
        _passed: &PassedOver,
    ) -> Result<Box<dyn LogReader>> {
        self.database.dice.call().await?;
        let end = self.database.end();
        Ok(Box::new(MemoryReader::new(self.database.clone(), &self.bridge, start.unwrap_or(&end), tables)?))
    }

    async fn open_session(&self, _applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        self.database.dice.call().await?;
        let noted = self.database.inner().bridge(&self.bridge).own_log.clone();
        let own = self.database.identity();
        // Before the server that was promoted is noted, its positions are not those that the bridge compares.
        if noted.is_some_and(|noted| noted != own) {
            return Err(another_server(&own));
        }
        Ok(Box::new(MemorySession::new(self.database.clone(), &self.bridge, token, tables.clone())))
    }

    async fn open_scan(&self, tables: &Tables) -> Result<Box<dyn Scan>> {
        self.database.dice.call().await?;
        Ok(Box::new(MemoryScan::new(self.database.clone(), tables.clone())))
    }

    async fn mark(&self, mark: Mark) -> Result<()> {
        self.database.dice.call().await?;
        if mark == Mark::Barrier {
            let entry = Entry { origin: None, commit_time: 0, changes: Vec::new(), barrier: true, early: None };
            self.database.inner().log.push(entry);
        }
        self.database.changed.notify_waiters();
        Ok(())
    }

    async fn asked(&self, _tables: &Tables) -> Result<Vec<Asked>> {
        self.database.dice.call().await?;
        let mut asked: BTreeMap<(TableId, Key), Ask> = BTreeMap::new();
        for entry in &self.database.inner().bridge(&self.bridge).quarantine {
            if let Some(ask) = entry.request.filter(|ask| *ask == Ask::Retry || entry.stored.refusal.is_some()) {
                asked.insert((entry.stored.table, entry.stored.key.clone()), ask);
            }
        }
        Ok(asked.into_iter().map(|((table, key), ask)| Asked { table, key, ask }).collect())
    }

    async fn requests(&self, _tables: &Tables) -> Result<Requests> {
        let (new_keys, repairs) = (self.database.new_keys(&self.bridge), self.database.repairs(&self.bridge));
        // The dice are not thrown where nothing is ever asked: older schedules stay what they were.
        if !new_keys.is_empty() || !repairs.is_empty() {
            self.database.dice.call().await?;
        }
        let new_keys = new_keys.into_iter().filter(|(_, answer)| answer.is_none()).map(|(request, _)| request);
        Ok(Requests { new_keys: new_keys.collect(), repairs })
    }

    async fn paused(&self) -> Result<Option<Pause>> {
        // The dice are not thrown where nobody ever pauses: older schedules stay what they were.
        let paused = self.database.inner().bridge(&self.bridge).paused;
        if paused.is_some() {
            self.database.dice.call().await?;
        }
        Ok((paused == Some(true)).then_some(Pause { until: None }))
    }

    async fn verified(&self) -> Result<Option<Verified>> {
        // The checkers compare, and note nothing.
        Ok(None)
    }

    async fn throttled(&self) -> Result<Option<Throttle>> {
        // No operator of a simulation says so: how fast it is applied changes nothing of what is.
        Ok(None)
    }

    async fn pressure(&self, _limits: &PressureLimits) -> Result<Pressure> {
        self.database.inner().pressure.clone().unwrap_or(Ok(Pressure::default()))
    }

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        self.database.dice.call().await?;
        let end = self.database.end();
        let behind_bytes = since.and_then(|since| end.bytes_since(since));
        let clock = self.database.elapsed_micros();
        Ok(LogStatus { end, behind_bytes, retained_bytes: None, headroom_bytes: None, clock })
    }
}

/// A resolution of a table that is not mapped.
fn unmapped(Resolution { id, table, key, own_fence, other_fence, .. }: Resolution) -> UnmappedResolution {
    UnmappedResolution { id, label: format!("table {}", table.0).into(), key: format!("{key}"), own_fence, other_fence }
}

/// The keys of which there are entries.
fn quarantined(entries: &[Kept]) -> Vec<QuarantinedKey> {
    let now = Instant::now();
    let mut keys: BTreeMap<(TableId, &Key), QuarantinedKey> = BTreeMap::new();
    for entry in entries {
        let Kept { stored, attempts, due, since, .. } = entry;
        let found = keys.entry((stored.table, &stored.key)).or_insert_with(|| QuarantinedKey {
            table: stored.table,
            key: stored.key.clone(),
            head: None,
            has_changes: false,
            suspected: false,
            attempts: 0,
            due_in: due.saturating_duration_since(now),
            age: now - *since,
            ties: Vec::new(),
        });
        if found.head.is_none() && stored.refusal.is_some() {
            found.head = Some(stored.id);
            found.attempts = *attempts;
            found.due_in = due.saturating_duration_since(now);
        }
        found.suspected |= stored.refusal.as_ref().is_some_and(|refusal| refusal.code() == Code::LoopSuspected);
        found.has_changes |= !matches!(stored.what, What::Settlement { .. });
        if let What::Change { moved: Some(other), .. } = &stored.what {
            found.ties.push(other.clone());
        }
    }
    keys.into_values().collect()
}

/// A simulation makes its mapped tables itself.
fn no_catalog() -> Error {
    Error::new(Code::Internal, "a database in memory has no catalog")
}
