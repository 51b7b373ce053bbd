//! The lease: an advisory lock that ends with its connection, and a token behind an exclusive lock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use pontoon_core::{
    Checkpoint, Code, Error, Position, Result,
    node::Lease,
    state::{Arrangement, NotedLogs},
};

use tokio::time::Instant;

use crate::database::{BridgeTables, Database};

/// A server ends the session of a holder that it hears nothing of: MySQL and MariaDB do so by `wait_timeout`, after as long.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) fn lost(database: &Database) -> Error {
    Error::new(Code::LeaseLost, format!("{}: another process took over", database.name))
}

/// The right to work, bound to a simulated connection.
pub struct MemoryLease {
    database: Arc<Database>,
    server: usize,
    bridge: String,
    connection: u64,
    /// Once it is taken over.
    token: Option<i64>,
    heard: Instant,
}

impl MemoryLease {
    pub(crate) fn new((database, server): (Arc<Database>, usize), bridge: &str, connection: u64) -> Self {
        MemoryLease { database, server, bridge: bridge.to_owned(), connection, token: None, heard: Instant::now() }
    }

    /// A call over the lease's connection.
    async fn call(&mut self) -> Result<()> {
        if self.heard.elapsed() > SILENCE_MAX {
            return Err(Error::new(Code::ConnectionLost, "the server has ended the session"));
        }
        self.database.call(self.server).await?;
        self.heard = Instant::now();
        Ok(())
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn take_over(&mut self, _holder: &str) -> Result<i64> {
        self.call().await?;
        let bridge = &self.bridge;
        let identity = self.database.identity();
        let token = self
            .database
            .wait_for(|inner| {
                let tables = inner.bridge(bridge);
                if !tables.lease_shared.is_empty() {
                    return None;
                }
                tables.own_log.get_or_insert_with(|| identity.clone());
                tables.token += 1;
                Some(tables.token)
            })
            .await?;
        self.call().await?;
        self.token = Some(token);
        Ok(token)
    }

    async fn renew(&mut self) -> Result<()> {
        self.call().await?;
        let token = self.database.inner().bridge(&self.bridge).token;
        if self.token.is_some_and(|ours| token != ours) { Err(lost(&self.database)) } else { Ok(()) }
    }

    async fn raise_epoch(&mut self) -> Result<i64> {
        self.call().await?;
        let mut inner = self.database.inner();
        let tables = inner.bridge(&self.bridge);
        tables.epoch += 1;
        Ok(tables.epoch)
    }

    async fn note_other_epoch(&mut self, epoch: i64) -> Result<()> {
        self.call().await?;
        self.database.inner().bridge(&self.bridge).other_epoch = epoch;
        Ok(())
    }

    async fn set_checkpoint(&mut self, other: &Checkpoint) -> Result<()> {
        self.call().await?;
        self.database.inner().bridge(&self.bridge).checkpoint = Some(other.clone());
        Ok(())
    }

    async fn arrange(&mut self, arrangement: &Arrangement) -> Result<()> {
        self.call().await?;
        self.write(|bridge| bridge.arrange(arrangement))?;
        self.call().await
    }

    async fn note_logs(&mut self, noted: &NotedLogs) -> Result<()> {
        self.call().await?;
        self.write(|bridge| {
            bridge.own_log = Some(noted.own.clone());
            if let Some(arrangement) = &noted.arrangement {
                bridge.arrange(arrangement);
            }
            for (resolution, _) in &mut bridge.resolutions {
                let is = |(id, place): &(i64, Position)| (*id == resolution.id).then(|| place.clone());
                resolution.own_fence = noted.own_fences.iter().find_map(is).or(resolution.own_fence.take());
                resolution.other_fence = noted.other_fences.iter().find_map(is).or(resolution.other_fence.take());
            }
            if let Some(place) = &noted.stored_before {
                let entries = bridge.quarantine.iter_mut().filter_map(|kept| kept.stored.position.as_mut());
                entries.for_each(|position| *position = place.clone());
            }
            if noted.forget_skips {
                bridge.skips.clear();
            }
        })?;
        self.call().await
    }
}

impl MemoryLease {
    /// At one instant, under the token.
    fn write(&self, write: impl FnOnce(&mut BridgeTables)) -> Result<()> {
        let mut inner = self.database.inner();
        let bridge = inner.bridge(&self.bridge);
        if self.token != Some(bridge.token) {
            return Err(lost(&self.database));
        }
        write(bridge);
        Ok(())
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let mut inner = self.database.inner();
        let tables = inner.bridge(&self.bridge);
        if tables.holder == Some(self.connection) {
            tables.holder = None;
        }
    }
}
