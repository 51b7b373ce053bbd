//! A session that reads simulated tables whole.

use std::{ops::Bound, sync::Arc};

use async_trait::async_trait;
use pontoon_core::{
    Key, Result, Row, TableId,
    node::{Scan, Tables},
};

use crate::database::Database;

/// Reads what is committed.
pub struct MemoryScan {
    database: Arc<Database>,
    tables: Tables,
}

impl MemoryScan {
    pub(crate) fn new(database: Arc<Database>, tables: Tables) -> Self {
        MemoryScan { database, tables }
    }
}

#[async_trait]
impl Scan for MemoryScan {
    async fn chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        self.database.dice.call().await?;
        debug_assert!(self.tables.get(table.index()).is_some(), "a table of the bridge");
        let from = match after {
            Some(key) => Bound::Excluded((table, key.clone())),
            None => Bound::Included((table, Key(Vec::new()))),
        };
        let inner = self.database.inner();
        let rows = inner.rows.range((from, Bound::Unbounded)).take_while(|((at, _), _)| *at == table);
        Ok(rows.take(limit).map(|(_, row)| row.clone()).collect())
    }

    /// Here a transaction is in the log and visible at the same instant.
    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        self.chunk(table, after, limit).await
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.database.dice.call().await?;
        let inner = self.database.inner();
        Ok(keys.iter().map(|key| inner.rows.get(&(table, key.clone())).cloned()).collect())
    }
}
