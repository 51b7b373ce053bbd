//! Rows as a list of literals, the part of a statement that is as large as its data.
//!
//! A large value is a variable of the session, which is set before by a prepared statement: a parameter goes to the server as it is
//! and in pieces (`COM_STMT_SEND_LONG_DATA`), where a literal of 100 MB would be there five times over, in base 64, in the statement, and
//! twice in the driver. It stands in the conditions themselves and not in the row list, where MariaDB takes a variable for a MEDIUMBLOB, which
//! 16 MiB are too long for, and for text in the connection's character set (tried on 10.11).

use std::fmt;

use bytes::Bytes;
use pontoon_core::Value;

use crate::{connect::Flavour, encode, statement::ColumnSql};

/// Rows in one statement: enough that its fixed cost does not count, few enough to plan and to lock, and to be made while the server
/// works on as many before them.
pub(crate) const ROWS_MAX: usize = 500;

/// The most bytes of literals in one statement, unless a single row has more. A quarter of the smallest default of
/// `max_allowed_packet` (16 MiB), since several statements share a packet.
pub(crate) const BYTES_MAX: usize = 4 << 20;

/// From how many bytes on a value is no literal: it costs three more round trips, which do not count beside a megabyte.
pub(crate) const LARGE_BYTES: usize = 1 << 20;

/// More than stands beside a parameter in its packet (COM_STMT_EXECUTE of the protocol's manual): its statement, its type, its length.
const PARAMETER_BYTES: usize = 64;

/// A statement and the rows that it must find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expecting {
    /// The text.
    pub(crate) sql: String,
    /// Rows.
    pub(crate) rows: u64,
    /// What it finds in the variables [`variable`] 0, 1 and so on.
    pub(crate) large: Vec<Large>,
}

impl Expecting {
    /// The most bytes that are sent at a time for it.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.large.iter().map(Large::packet_bytes).chain([self.sql.len()]).max().unwrap_or(0)
    }
}

/// A value that is too large for a literal.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Large {
    pub(crate) bytes: Bytes,
    /// It is text in UTF-8, and not bytes.
    pub(crate) is_text: bool,
}

/// Values never appear in a log.
impl fmt::Debug for Large {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.bytes.len())
    }
}

impl Large {
    /// Whether a value is one.
    pub(crate) fn is(value: &Value) -> bool {
        match value {
            Value::Bytes(bytes) => bytes.len() >= LARGE_BYTES,
            Value::Text(text) | Value::Json(text) => text.len() >= LARGE_BYTES,
            _ => false,
        }
    }

    pub(crate) fn of(value: &Value) -> Option<Large> {
        match value {
            _ if !Large::is(value) => None,
            Value::Bytes(bytes) => Some(Large { bytes: bytes.clone(), is_text: false }),
            Value::Text(text) | Value::Json(text) => {
                Some(Large { bytes: Bytes::copy_from_slice(text.as_bytes()), is_text: true })
            }
            _ => None,
        }
    }

    /// The most bytes that are sent at a time for it.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.bytes.len() + PARAMETER_BYTES
    }

    /// What stands for it in a statement.
    pub(crate) fn expression(&self, number: usize) -> String {
        let variable = variable(number);
        if self.is_text { format!("CONVERT({variable} USING utf8mb4)") } else { format!("CAST({variable} AS BINARY)") }
    }
}

/// The variable of the session that holds a large value.
pub(crate) fn variable(number: usize) -> String {
    format!("@pontoon_{number}")
}

/// A row has a value that no row of this server can hold, so it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impossible;

/// What stands for a value of a listed row, by its place in the row.
pub(crate) type Listed<'a> = &'a dyn Fn(usize) -> String;

pub(crate) fn in_list(place: usize) -> String {
    format!("r.c{place}")
}

/// Rows of literals, and of variables where values are large. Where they are part of a statement, it is written around them in place: a row may be
/// a large part of all memory.
pub(crate) struct RowList {
    flavour: Flavour,
    width: usize,
    /// What stands before the rows, and behind them.
    head: String,
    tail: String,
    sql: String,
    rows: u64,
    /// The large values of rows to insert. A list that is joined has none.
    large: Option<Vec<Large>>,
}

impl RowList {
    pub(crate) fn new(flavour: Flavour, width: usize) -> RowList {
        RowList { flavour, width, head: String::new(), tail: String::new(), sql: String::new(), rows: 0, large: None }
    }

    /// One of plain rows, which are the end of a statement.
    pub(crate) fn after(head: String, width: usize) -> RowList {
        let (flavour, large) = (Flavour::Mariadb, Some(Vec::new()));
        RowList { flavour, width, sql: head.clone(), head, tail: String::new(), rows: 0, large }
    }

    /// One that is a table within a statement.
    pub(crate) fn within(flavour: Flavour, width: usize, verb: &str, rest: &str) -> RowList {
        let (open, close) = RowList::new(flavour, width).around();
        let head = format!("{verb}{open}");
        RowList { flavour, width, sql: head.clone(), head, tail: format!("{close}{rest}"), rows: 0, large: None }
    }

    pub(crate) fn statement(self) -> Expecting {
        let RowList { tail, mut sql, rows, large, .. } = self;
        sql.push_str(&tail);
        Expecting { sql, rows, large: large.unwrap_or_default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row. Where it is one too many the list begins anew with it, and what was there is returned. A row with a large value is always one too
    /// many for the rows before it, so that variables are counted from 0 in each statement.
    pub(crate) fn push_within<'a>(
        &mut self,
        values: impl Iterator<Item = (&'a Value, &'a ColumnSql)>,
        bytes_max: usize,
    ) -> Result<Option<RowList>, Impossible> {
        let (before, large_before) = (self.sql.len(), self.large.as_ref().map_or(0, Vec::len));
        self.push(values)?;
        let has_large = self.large.as_ref().is_some_and(|large| !large.is_empty());
        if self.rows == 1 || (!has_large && self.rows <= ROWS_MAX as u64 && self.sql.len() <= bytes_max) {
            return Ok(None);
        }
        // About as long as the one before.
        let mut sql = String::with_capacity(before);
        sql.push_str(&self.head);
        // Without the comma.
        sql.push_str(&self.sql[before + 1..]);
        let (head, tail) = (self.head.clone(), self.tail.clone());
        let large = self.large.as_mut().map(|large| large.split_off(large_before));
        let next = RowList { flavour: self.flavour, width: self.width, head, tail, sql, rows: 1, large };
        self.sql.truncate(before);
        self.rows -= 1;
        Ok(Some(std::mem::replace(self, next)))
    }

    pub(crate) fn push<'a>(
        &mut self,
        values: impl Iterator<Item = (&'a Value, &'a ColumnSql)>,
    ) -> Result<(), Impossible> {
        let before = self.sql.len();
        let mut row_large = Vec::new();
        if self.rows > 0 {
            self.sql.push(',');
        }
        self.sql.push_str(match self.flavour {
            Flavour::Mysql => "ROW(",
            Flavour::Mariadb => "(",
        });
        for (index, (value, column)) in values.enumerate() {
            if index > 0 {
                self.sql.push(',');
            }
            if let Some(large) = self.large.as_ref().and_then(|_| Large::of(value)) {
                self.sql.push_str(&large.expression(row_large.len()));
                row_large.push(large);
            } else if !encode::push(&mut self.sql, value, &column.kind) {
                self.sql.truncate(before);
                return Err(Impossible);
            }
        }
        self.sql.push(')');
        if let Some(large) = &mut self.large {
            large.append(&mut row_large);
        }
        self.rows += 1;
        Ok(())
    }

    /// The list as a table `r` with columns `c0`, `c1` and so on.
    pub(crate) fn table(&self) -> String {
        let (open, close) = self.around();
        format!("{open}{}{close}", self.sql)
    }

    /// What makes a table of rows: before them and behind them.
    fn around(&self) -> (String, String) {
        let names: Vec<String> = (0..self.width).map(|at| format!("c{at}")).collect();
        let names = names.join(",");
        match self.flavour {
            Flavour::Mysql => ("(VALUES ".into(), format!(") AS r({names})")),
            Flavour::Mariadb => (format!("(WITH r({names}) AS (VALUES "), ") SELECT * FROM r) AS r".into()),
        }
    }
}
