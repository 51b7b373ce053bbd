//! Statements of the log: where transactions begin and end, and what is no change of rows or should be none.
//!
//! A mapped table's rows must come as rows. A change that was logged as a statement is an obstacle wherever it may
//! touch a mapped table: it need not name it, since views, routines and triggers do not show. MySQL says with each
//! statement which databases it touches, all of that included (`Q_UPDATED_DB_NAMES`); MariaDB does not, and
//! there the database that it was run in decides, or the table's name. So what other databases log as
//! statements is no obstacle.

use std::sync::Arc;

use pontoon_core::{Code, Error};

use super::{
    assemble::Assembler,
    event::Query,
    statement::{self, Statement},
    xa::{self, End, Word},
};
use crate::connect::Flavour;

impl Assembler {
    pub(super) fn query(&mut self, query: &Query) {
        let sql = query.sql.as_str();
        let kind = statement::classify(sql);
        let transaction = self.open();
        match kind {
            Statement::Begin => transaction.open = true,
            Statement::Commit => return self.end(End::Commit),
            Statement::Savepoint => {}
            Statement::Rollback | Statement::RollbackTo => {
                if transaction.mapped {
                    let text = "a part of the transaction was undone after it was logged, since it also wrote a table without \
                                transactions";
                    self.obstacle(Error::new(Code::EventUnsupported, text).hint(
                        "convert such tables to InnoDB; make the rows equal and pass over the transaction with `pontoon skip`",
                    ));
                }
                if kind == Statement::Rollback {
                    self.end(End::Commit);
                }
                return;
            }
            Statement::Xa => {
                match xa::statement(sql) {
                    Some(Word::Start) => (transaction.xa, transaction.open) = (true, true),
                    Some(Word::Decide(end)) => self.end(end),
                    None => {}
                }
                return;
            }
            Statement::Rows => {
                if let Some(what) = self.rows_changed(query) {
                    let error = Error::new(Code::EventUnsupported, format!("{what} was logged as a statement"));
                    self.obstacle(error.hint(
                        "SET GLOBAL binlog_format = ROW, and end the sessions that set it otherwise; make the rows equal \
                         and pass over the transaction with `pontoon skip`",
                    ));
                }
            }
            Statement::Removal => {
                if let Some(label) = self.concerned_one(query) {
                    self.obstacle(
                        Error::new(
                            Code::TruncateSeen,
                            format!("{label}: the table, or a part of it, was truncated or dropped"),
                        )
                        .hint(pontoon_core::error::TRUNCATE_HINT)
                        .of_table(&label),
                    );
                }
            }
            Statement::Definition => {
                let behind = transaction.behind;
                if !self.reading.all && !behind {
                    // It ends when their definitions have been looked at.
                    self.check = self.concerned(query).collect();
                }
            }
            Statement::Other => {}
        }
        let mysql = self.reading.flavour == Flavour::Mysql;
        if let Some(transaction) = &mut self.transaction {
            transaction.standalone |= mysql && ends(sql);
        }
        if self.check.is_empty() {
            self.end_of_statement();
        }
    }

    /// A statement outside of BEGIN and COMMIT is a transaction of its own.
    pub(super) fn end_of_statement(&mut self) {
        if self.transaction.as_ref().is_some_and(|transaction| !transaction.open && transaction.standalone) {
            self.end(End::Commit);
        }
    }

    /// The mapped tables that a statement may speak of, by their places.
    fn concerned(&self, query: &Query) -> impl Iterator<Item = usize> {
        let may = |index: &usize| statement::may_concern(&query.sql, &query.schema, &self.reading.tables[*index].name);
        self.wanted.values().copied().filter(may)
    }

    /// One of them.
    fn concerned_one(&self, query: &Query) -> Option<Arc<str>> {
        self.concerned(query).next().map(|index| self.reading.tables[index].label.clone())
    }

    /// Of which mapped rows a statement may be a change, in words.
    fn rows_changed(&self, query: &Query) -> Option<String> {
        let mut schemas = self.wanted.keys().map(|(schema, _)| schema);
        let mapped = schemas.find(|schema| match &query.updated {
            Some(updated) => updated.iter().any(|name| name.eq_ignore_ascii_case(schema)),
            None => query.schema.eq_ignore_ascii_case(schema),
        });
        let named = match (&query.updated, mapped) {
            (Some(_), None) => return None,
            _ => self.concerned_one(query),
        };
        match (named, mapped) {
            (Some(label), _) => Some(format!("{label}: a change of its rows")),
            (None, Some(schema)) => {
                Some(format!("a change of rows in the database {schema}, perhaps of a mapped table,"))
            }
            (None, None) => None,
        }
    }
}

/// A statement that ends its transaction: all but MySQL's CREATE TABLE ... SELECT, whose rows and XID follow.
fn ends(sql: &str) -> bool {
    !sql.trim_end().ends_with("START TRANSACTION")
}
