//! Tables read whole, in key order.

use async_trait::async_trait;
use pontoon_core::{
    Code, Error, Key, Result, Row, TableId,
    node::{Scan, Tables},
};

use crate::{
    connect::{Client, Purpose},
    node::MysqlNode,
    session::{common, prepare, rows_of},
    statement::TableSql,
};

/// A session that reads.
pub(crate) struct TableScan {
    client: Client,
    tables: Vec<TableSql>,
}

impl TableScan {
    pub(crate) async fn open(node: &MysqlNode, tables: &Tables) -> Result<TableScan> {
        let mut client = node.client(Purpose::Read).await?;
        let tables = prepare(&mut client, tables).await?;
        Ok(TableScan { client, tables })
    }
}

fn of(tables: &[TableSql], table: TableId) -> Result<&TableSql> {
    tables.get(table.index()).ok_or_else(|| Error::new(Code::Internal, "a table that is not mapped"))
}

#[async_trait]
impl Scan for TableScan {
    async fn chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        let sql = of(&self.tables, table)?;
        let statement = sql.chunk(after, limit).map_err(|_| {
            Error::new(
                Code::ValueMisfit,
                format!("{}: a key has no form in which the next could be found", sql.table.name),
            )
        })?;
        let rows = self.client.rows(statement).await?;
        Ok(rows.into_iter().map(|row| common(row, sql)).collect())
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        rows_of(&mut self.client, of(&self.tables, table)?, keys, false).await
    }
}
