//! A session that reads simulated tables whole.

use std::{ops::Bound, sync::Arc};

use async_trait::async_trait;
use pontoon_core::{
    Code, Digest, Error, Key, Result, Row, Span, TableId,
    digest::has_common_order,
    node::{Scan, Settled, Tables},
};

use crate::database::Database;

/// Reads what is committed.
pub struct MemoryScan {
    database: Arc<Database>,
    server: usize,
    tables: Tables,
}

impl MemoryScan {
    pub(crate) fn new(database: Arc<Database>, tables: Tables) -> Self {
        MemoryScan { server: database.server(), database, tables }
    }

    /// The rows of a span.
    fn within(&self, table: TableId, span: Span<'_>) -> Vec<(Key, Row)> {
        debug_assert!(self.tables.get(table.index()).is_some(), "a table of the bridge");
        let from = match span.after {
            Some(key) => Bound::Excluded((table, key.clone())),
            None => Bound::Included((table, Key(Vec::new()))),
        };
        let inner = self.database.inner();
        let rows = inner.rows.range((from, Bound::Unbounded)).take_while(|((at, _), _)| *at == table);
        let rows = rows.take_while(|((_, key), _)| span.up_to.is_none_or(|last| key <= last));
        rows.map(|((_, key), row)| (key.clone(), row.clone())).collect()
    }
}

#[async_trait]
impl Scan for MemoryScan {
    async fn chunk(&mut self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<Row>> {
        self.database.call(self.server).await?;
        let rows = self.within(table, span);
        Ok(rows.into_iter().take(limit).map(|(_, row)| row).collect())
    }

    /// Here a transaction is in the log and visible at the same instant. What is removed between two looks is left out, as on
    /// servers that have to look twice.
    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Settled> {
        let mut found = self.within(table, Span::behind(after));
        let up_to = found.get(limit.saturating_sub(1)).map(|(key, _)| key.clone());
        found.truncate(limit);
        self.database.call(self.server).await?;
        let inner = self.database.inner();
        found.retain(|(key, _)| inner.rows.contains_key(&(table, key.clone())));
        Ok(Settled { rows: found.into_iter().map(|(_, row)| row).collect(), up_to })
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        self.database.call(self.server).await?;
        let inner = self.database.inner();
        Ok(keys.iter().map(|key| inner.rows.get(&(table, key.clone())).cloned()).collect())
    }

    fn keeps_common_order(&self, table: TableId) -> bool {
        self.tables.get(table.index()).is_some_and(has_common_order)
    }

    async fn nth_key(&mut self, table: TableId, span: Span<'_>, number: usize) -> Result<Option<Key>> {
        self.database.call(self.server).await?;
        Ok(self.within(table, span).into_iter().nth(number.saturating_sub(1)).map(|(key, _)| key))
    }

    async fn digest(&mut self, table: TableId, span: Span<'_>) -> Result<Digest> {
        self.database.call(self.server).await?;
        let mut digest = Digest::default();
        for (key, row) in self.within(table, span) {
            if !digest.add(&row) {
                return Err(Error::new(Code::Internal, format!("({key}) has no canonical text")));
            }
        }
        Ok(digest)
    }
}
