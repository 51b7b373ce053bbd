//! Tables read whole, in key order.
//!
//! A transaction is in the log before it is visible: the log is written first, then the engine commits. Both
//! servers let the engine commit in the order of the log (MySQL: `binlog_order_commits`, on by default, which
//! `check` looks at; MariaDB: always, `TC_LOG_BINLOG::run_commit_ordered`). So once a commit of our own that
//! began after a place in the log has been answered, all that ends before the place is visible.

use async_trait::async_trait;
use pontoon_core::{
    Code, Error, Key, Result, Row, TableId,
    node::{Scan, Tables},
};

use crate::{
    connect::{Client, Purpose},
    encode,
    node::MysqlNode,
    session::{common, prepare, rows_of},
    state,
    statement::TableSql,
    tables::VISIBLE,
};

/// A session that reads.
pub(crate) struct TableScan {
    client: Client,
    bridge: String,
    tables: Vec<TableSql>,
}

impl TableScan {
    pub(crate) async fn open(node: &MysqlNode, tables: &Tables) -> Result<TableScan> {
        let mut client = node.client(Purpose::Read).await?;
        let tables = prepare(&mut client, tables).await?;
        Ok(TableScan { client, bridge: node.bridge().to_owned(), tables })
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
            let key = after.map_or_else(String::new, |key| format!(" key ({key})"));
            let text = format!("{}{key}: the key has no form in which the next row could be found", sql.table.label);
            Error::new(Code::ValueMisfit, text).hint("give the row a key that both sides can hold, then start again")
        })?;
        self.client.each(statement, |row| common(row, sql)).await
    }

    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Vec<Row>> {
        let statement = format!(
            "UPDATE `pontoon`.`control` SET number = number + 1 WHERE bridge = {} AND name = '{VISIBLE}'",
            encode::text(&self.bridge)
        );
        let answers = self.client.run(statement).await.map_err(state::not_set_up)?;
        if answers.first().map(|answer| answer.affected) != Some(1) {
            return Err(state::missing(&self.bridge));
        }
        self.chunk(table, after, limit).await
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        rows_of(&mut self.client, of(&self.tables, table)?, keys, false).await
    }
}
