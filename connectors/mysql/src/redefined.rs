//! Where the log was written on, a mapped table may have been given columns under the names of others.
//!
//! Where such a column stands in the place of the former one, as the last of a table does that is dropped and added again, rows
//! of before look in the log like those of now: a table map names columns and types, and has no number for a column. Only the statement
//! tells, and it stands behind those rows. So the log is read ahead, once and up to where it ends, for the last such statement of each
//! table; what stands in front of it may be of before, and the row itself has to be asked ([`pontoon_core::Change::reshaped`]). No row of before
//! stands behind it: a definition waits for all who have written to its table.
//!
//! Most logs are not read twice: both servers note when a table was defined last, also by an ALTER that changes it in place or
//! at once (`create_time` of `information_schema.tables`; tried on MariaDB 10.11 and MySQL 9.7). It is the moment when the statement began, which may
//! be long before it is in the log. A statement that its session keeps out of the log (`sql_log_bin`) is not found.

use std::collections::HashSet;

use pontoon_core::{
    Beside, Position, Result, TableName,
    node::{PassedOver, Tables},
};

use crate::{
    catalog::{self, folded},
    connect::Purpose,
    files,
    log::{
        event::Message,
        statement::{self, Statement},
    },
    node::MysqlNode,
    reader::{Reader, Role},
};

/// No ALTER takes longer, so one that began before cannot be in the log behind a place.
const LONGEST_SECONDS: i64 = 7 * 24 * 60 * 60;

/// A place of the log: a file's number, and an offset in it.
pub(crate) type Place = (u64, u64);

/// A second look at the log, ahead of the reader.
pub(crate) struct Ahead {
    reader: Reader,
    end: Position,
    /// Those that were defined lately, by their places among all, and what was found of them.
    tables: Vec<(usize, TableName, Option<Place>)>,
}

impl Ahead {
    /// `None` where no table was defined that lately, or the log ends at `start`.
    pub(crate) async fn open(node: &MysqlNode, start: &Position, tables: &Tables) -> Result<Option<Ahead>> {
        let mut client = node.client(Purpose::Look).await?;
        let end = files::log_end(&mut client).await?;
        let Position::Binlog { beside: Beside { birth, .. }, .. } = start else { return Ok(None) };
        if start.covers(&end) {
            return Ok(None);
        }
        let since = birth.map_or(0, |birth| i64::from(birth) - LONGEST_SECONDS);
        let mut lately = Vec::new();
        let names: Vec<TableName> = tables.iter().map(|table| table.name.clone()).collect();
        let mut numbered = names.iter().enumerate();
        for names in catalog::portions(&names) {
            let rows = client
                .rows(format!(
                    "SELECT table_schema, table_name FROM information_schema.tables \
                     WHERE {} AND coalesce(unix_timestamp(create_time) >= {since}, TRUE)",
                    catalog::among("table_schema", "table_name", names)
                ))
                .await?;
            // In whatever case the server keeps names: one table too many is only looked for in vain.
            let found: HashSet<TableName> =
                rows.iter().filter_map(|row| catalog::table_name(row)).map(|name| folded(&name)).collect();
            let places = numbered.by_ref().take(names.len()).filter(|(_, name)| found.contains(&folded(name)));
            lately.extend(places.map(|(at, name)| (at, name.clone(), None)));
        }
        if lately.is_empty() {
            return Ok(None);
        }
        let (none, nothing) = (Tables::from([]), PassedOver::default());
        let reader = Reader::open(node, Role::Tail, Some(start), &none, &nothing).await?;
        Ok(Some(Ahead { reader, end, tables: lately }))
    }

    /// Reads up to the end, or to what cannot be read: of each table that was redefined its place among all, and where the last statement stands that did it.
    /// What was read stays so when nobody waits for it any more.
    pub(crate) async fn read(&mut self) -> Result<Vec<(usize, Place)>> {
        while !self.reader.position().covers(&self.end) {
            let Position::Binlog { file, offset, .. } = self.reader.position() else { break };
            let tables = &mut self.tables;
            let seen = self.reader.step(|_, message| {
                if let Message::Query(query) = message {
                    look(tables, &query.sql, &query.schema, (file, offset));
                }
                Ok(())
            });
            match seen.await {
                Err(error) if error.is_transient() => return Err(error),
                // The reader comes there too, and to what stands before; behind it nothing is read.
                Err(_) => break,
                Ok(()) => {}
            }
        }
        Ok(self.tables.iter().filter_map(|(index, _, place)| Some((*index, (*place)?))).collect())
    }
}

fn look(tables: &mut [(usize, TableName, Option<Place>)], sql: &str, schema: &str, here: Place) {
    if statement::classify(sql) == Statement::Definition && statement::may_exchange_columns(sql) {
        let concerned = tables.iter_mut().filter(|(_, name, _)| statement::may_concern(sql, schema, name));
        concerned.for_each(|(.., place)| *place = Some(here));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_statement_counts_that_takes_a_column_or_a_name_away() {
        let mut tables = [(3, TableName::new("shop", "items"), None), (5, TableName::new("shop", "orders"), None)];
        for (sql, place) in [
            ("ALTER TABLE items DROP COLUMN n", 100),
            ("/* once more */ alter table `shop`.`items` add m int, change n m int", 200),
            ("ALTER TABLE items ADD COLUMN n int, ADD dropped int", 300),
            ("CREATE INDEX of_n ON items (n)", 400),
            ("INSERT INTO items VALUES ('DROP')", 500),
            ("ALTER TABLE other.orders DROP COLUMN n", 600),
        ] {
            look(&mut tables, sql, "shop", (1, place));
        }
        assert_eq!(tables.each_ref().map(|(.., place)| *place), [Some((1, 200)), None]);
        look(&mut tables, "RENAME TABLE orders TO old, new_orders TO orders", "shop", (2, 4));
        assert_eq!(tables[1].2, Some((2, 4)));
    }
}
