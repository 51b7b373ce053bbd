//! The node: opens readers, sessions, leases and scans on a simulated database.

use std::sync::Arc;

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, CopyState, Error, LogIdentity, Position, Result, TableName, TableSchema,
    node::{Applier, LeaseAttempt, LogReader, LogStatus, Mark, Node, Scan, Session, Tables},
    state::NodeState,
};

use crate::{
    database::{Database, Entry},
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

    async fn connect(&self) -> Result<String> {
        self.database.dice.call().await?;
        Ok("memory".into())
    }

    async fn identity(&self) -> Result<LogIdentity> {
        self.database.dice.call().await?;
        Ok(self.database.identity())
    }

    async fn list_tables(&self) -> Result<Vec<TableName>> {
        Err(no_catalog())
    }

    async fn describe(&self, _names: &[TableName]) -> Result<Vec<Option<TableSchema>>> {
        Err(no_catalog())
    }

    async fn state(&self, _tables: &Tables) -> Result<NodeState> {
        self.database.dice.call().await?;
        let mut inner = self.database.inner();
        let other_bridges = inner.bridges.keys().filter(|name| **name != self.bridge).cloned().collect();
        let tables = inner.bridge(&self.bridge);
        let in_force = tables.resolutions.iter().filter(|(_, in_force)| *in_force);
        Ok(NodeState {
            checkpoint: tables.checkpoint.clone(),
            resolutions: in_force.map(|(resolution, _)| resolution.clone()).collect(),
            skips: tables.skips.clone(),
            other_bridges,
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
        let connection = inner.new_id();
        let tables = inner.bridge(&self.bridge);
        if tables.holder.is_some() {
            return Ok(LeaseAttempt::HeldBy("another process".into()));
        }
        tables.holder = Some(connection);
        Ok(LeaseAttempt::Ours(Box::new(MemoryLease::new(self.database.clone(), &self.bridge, connection))))
    }

    async fn open_reader(
        &self,
        start: &Checkpoint,
        tables: &Tables,
        _skips: &[Position],
    ) -> Result<Box<dyn LogReader>> {
        self.database.dice.call().await?;
        if start.log != self.database.identity() {
            return Err(Error::new(Code::LogIdentityChanged, format!("{} is not {}", self.database.name, start.log)));
        }
        Ok(Box::new(MemoryReader::new(self.database.clone(), &self.bridge, &start.position, tables)?))
    }

    async fn open_tail(&self, start: Option<&Position>, tables: &Tables) -> Result<Box<dyn LogReader>> {
        self.database.dice.call().await?;
        let end = Position::Index(self.database.inner().log.len() as u64);
        Ok(Box::new(MemoryReader::new(self.database.clone(), &self.bridge, start.unwrap_or(&end), tables)?))
    }

    async fn open_session(&self, _applier: Applier, token: i64, tables: &Tables) -> Result<Box<dyn Session>> {
        self.database.dice.call().await?;
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

    async fn log_status(&self, since: Option<&Position>) -> Result<LogStatus> {
        self.database.dice.call().await?;
        let end = Position::Index(self.database.inner().log.len() as u64);
        let behind_bytes = since.and_then(|since| end.bytes_since(since));
        let clock = self.database.elapsed_micros();
        Ok(LogStatus { end, behind_bytes, retained_bytes: None, headroom_bytes: None, clock })
    }
}

/// A simulation makes its mapped tables itself.
fn no_catalog() -> Error {
    Error::new(Code::Internal, "a database in memory has no catalog")
}
