//! Tables read whole, in key order.
//!
//! A transaction is in the log before it is visible: the log is written first, then the engine commits. Both
//! servers let the engine commit in the order of the log (MySQL: `binlog_order_commits`, on by default, which
//! `check` looks at; MariaDB: always, `TC_LOG_BINLOG::run_commit_ordered`). So once a commit of our own that
//! began after a place in the log has been answered, all that ends before the place is visible.

use async_trait::async_trait;
use pontoon_core::{
    Code, Digest, Error, Key, Result, Row, Span, TableId,
    node::{Scan, Settled, Tables},
};

use crate::{
    connect::{Client, Purpose, number},
    decode, encode,
    node::MysqlNode,
    row_list::Impossible,
    session::{common, crossing, prepare, rows_of},
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

/// A statement of a span. Errors: a bound without a form here.
fn bounded(sql: &TableSql, span: Span<'_>, statement: Result<String, Impossible>) -> Result<String> {
    statement.map_err(|Impossible| {
        let keys: Vec<String> =
            [span.after, span.up_to].into_iter().flatten().map(|key| format!(" key ({key})")).collect();
        let text = format!(
            "{}{}: the key has no form in which the next row could be found",
            sql.table.label,
            keys.join(" or")
        );
        Error::new(Code::ValueMisfit, text).hint("give the row a key that both sides can hold, then start again")
    })
}

#[async_trait]
impl Scan for TableScan {
    async fn chunk(&mut self, table: TableId, span: Span<'_>, limit: usize) -> Result<Vec<Row>> {
        let sql = of(&self.tables, table)?;
        let statement = bounded(sql, span, sql.chunk(span, limit))?;
        self.client.each(statement, |row| common(row, sql)).await
    }

    async fn settled_chunk(&mut self, table: TableId, after: Option<&Key>, limit: usize) -> Result<Settled> {
        let statement = format!(
            "UPDATE `pontoon`.`control` SET number = number + 1 WHERE bridge = {} AND name = '{VISIBLE}'",
            encode::text(&self.bridge)
        );
        let answers = self.client.run(statement).await.map_err(state::not_set_up)?;
        if answers.first().map(|answer| answer.affected) != Some(1) {
            return Err(state::missing(&self.bridge));
        }
        let (sql, span) = (of(&self.tables, table)?, Span::behind(after));
        let statement = bounded(sql, span, sql.chunk(span, limit))?;
        let rows: Vec<Row> = self.client.each(statement, |row| crossing(row, sql)).await?;
        let last = rows.last().filter(|_| rows.len() == limit);
        let up_to = last.map(|row| sql.table.key_of(row));
        Ok(Settled { rows, up_to })
    }

    async fn rows(&mut self, table: TableId, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        rows_of(&mut self.client, of(&self.tables, table)?, keys, false).await
    }

    fn keeps_common_order(&self, table: TableId) -> bool {
        of(&self.tables, table).is_ok_and(TableSql::keeps_common_order)
    }

    async fn nth_key(&mut self, table: TableId, span: Span<'_>, number: usize) -> Result<Option<Key>> {
        let sql = of(&self.tables, table)?;
        let statement = bounded(sql, span, sql.nth_key(span, number))?;
        let row = self.client.rows(statement).await?.pop();
        let columns = sql.table.key.iter().map(|&at| &sql.table.columns[at]);
        let value =
            |(field, column): (_, &pontoon_core::MappedColumn)| column.common(decode::value(field, &column.kind));
        Ok(row.map(|row| Key(row.into_iter().zip(columns).map(value).collect())))
    }

    async fn digest(&mut self, table: TableId, span: Span<'_>) -> Result<Digest> {
        let sql = of(&self.tables, table)?;
        let statement = bounded(sql, span, sql.digest(span))?;
        let row = self.client.rows(statement).await?.pop().unwrap_or_default();
        match (number(&row, 0), number(&row, 1)) {
            (Some(rows), Some(sum)) => Ok(Digest { rows, sum }),
            _ => Err(Error::new(Code::Protocol, format!("{}: the server tells no checksum", sql.table.label))),
        }
    }
}
