//! Many rows at once, of a copy or of a transaction: `LOAD DATA LOCAL` where the server takes it, wide `INSERT` statements where not.
//!
//! `LOAD DATA` takes half of the server's time for the same rows, having no expressions to parse, and no statement of the size of
//! its rows goes into the log as a comment (`binlog_annotate_row_events`). It needs no right that INSERT does not, but
//! `local_infile`, which MariaDB has on and MySQL off unless it is told otherwise. The file is sent by us when the server asks for
//! it (manual, "LOCAL INFILE Request"), which it can only while such a statement runs: the driver has no file for it otherwise.
//!
//! With LOCAL the statement is one with IGNORE, in strict mode as well: a key that is there is passed over, a value that does not
//! fit is cut to one that does, and each is a warning (manual, "LOAD DATA": the file cannot be stopped in its middle). So the rows
//! are written if as many are affected as were sent, and there is no warning; else the transaction is void, as it is after an error, and the caller
//! finds out. Tried on MariaDB 10.11 and MySQL 9.7 with some twenty values that do not fit: each one that INSERT refuses
//! gives a warning, and what INSERT takes without a word (a fraction too long) is refused by the engine before. A table that
//! warns once is written by INSERT from then on: its rows may well give a note each.
//!
//! A field is a text in utf8mb4, which a column makes a value of as it does of a text literal. For some types that is another
//! value than that of the number, and bytes are none in that character set; see [`Column::of`].
//!
//! Each packet of the file has to be within the limit of packets, as a statement has, but may begin and end anywhere. Whether a server takes a file it is asked
//! again with each: where it has come to take none, statements go on.
//!
//! A statement is in the log as rows only where the log's format is ROW: in MIXED a file would be.

use std::{borrow::Borrow, collections::BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use pontoon_core::{Kind, Result, Row, TableId, Value, node::Applied, value::format_uuid};
use tokio::sync::mpsc;

use crate::{
    connect::{Client, text},
    encode,
    quote::Table,
    row_list::{Large, ROWS_MAX},
    statement::TableSql,
};

/// Bytes that are handed to the driver at a time, and half of a packet at most: it sends each as one.
const PIECE_BYTES: usize = 128 << 10;

/// Room for a piece with the end of a usual row.
const PIECE_ROOM: usize = PIECE_BYTES + PIECE_BYTES / 4;

/// Pieces that are made and not yet sent: one that is ready when the one before has gone.
const AHEAD_MAX: usize = 1;

/// From how many rows on a transaction's inserts go by a file, which costs a round trip: more than one statement has.
pub(crate) const ROWS_MIN: usize = ROWS_MAX + 1;

/// Which tables a session writes by a file.
#[derive(Default)]
pub(crate) struct Files {
    /// Whether the server takes them, once that is known.
    are_taken: Option<bool>,
    /// Tables whose rows gave a warning.
    warned: BTreeSet<TableId>,
}

impl Files {
    /// Whether these rows may go by one. A value of a megabyte is no field of it, as it is no literal ([`crate::row_list`]), and whether a row has room
    /// in a packet is for its statement to say.
    pub(crate) async fn take(
        &mut self,
        client: &mut Client,
        table: TableId,
        rows: &[impl Borrow<Row> + Sync],
    ) -> Result<bool> {
        let are_taken = match self.are_taken {
            Some(known) => known,
            None => *self.are_taken.insert(are_taken(client).await?),
        };
        let row_bytes_max = client.server.packet_bytes_max / 4;
        let is_large = |row: &Row| row.memory_bytes() > row_bytes_max || row.0.iter().any(Large::is);
        let is_large = || rows.iter().any(|row| is_large(row.borrow()));
        Ok(are_taken && !self.warned.contains(&table) && !is_large())
    }

    /// Writes a table by statements from now on.
    pub(crate) fn no_more_of(&mut self, table: TableId) {
        self.warned.insert(table);
    }

    /// Writes all tables by statements from now on.
    pub(crate) fn no_more(&mut self) {
        self.are_taken = Some(false);
    }
}

/// Whether an error is that the server takes no file: its setting is another by now, or a proxy in between knows none.
pub(crate) fn is_refused(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(server) if REFUSALS.contains(&server.code))
}

/// `ER_NOT_ALLOWED_COMMAND` of both servers; `ER_CLIENT_LOCAL_FILES_DISABLED` of MySQL; `ER_LOAD_INFILE_CAPABILITY_DISABLED` of MariaDB.
const REFUSALS: [u16; 3] = [1148, 3948, 4166];

async fn are_taken(client: &mut Client) -> Result<bool> {
    let rows =
        client.rows("SHOW VARIABLES WHERE Variable_name IN ('local_infile', 'log_bin', 'binlog_format')").await?;
    let setting = |name: &str| {
        let row = rows.iter().find(|row| text(row, 0).is_some_and(|found| found == name));
        row.and_then(|row| text(row, 1)).unwrap_or_default()
    };
    // A server without a choice of formats has this one.
    let is_by_rows = setting("log_bin") == "OFF" || matches!(&*setting("binlog_format"), "ROW" | "");
    Ok(is_by_rows && setting("local_infile") == "ON")
}

/// Writes rows by one statement, and makes its file while the server reads it. [`Applied::Missed`]: not all are as they
/// should be, whatever the reason is.
pub(crate) async fn by_file(
    client: &mut Client,
    sql: &TableSql,
    rows: &[impl Borrow<Row> + Sync],
) -> Result<Applied, mysql_async::Error> {
    let columns: Vec<_> = sql.columns.iter().enumerate().map(|(at, column)| Column::of(at, &column.kind)).collect();
    let (pieces, file) = mpsc::channel(AHEAD_MAX);
    let piece_bytes = PIECE_BYTES.min(client.server.packet_bytes_max / 2).max(1);
    let feed = async {
        // Where a row has no form the file ends before it, and so rows are missing.
        let _ = send(&columns, rows, piece_bytes, &pieces).await;
        drop(pieces);
        std::future::pending().await
    };
    let (affected, warnings) = tokio::select! {
        biased;
        answer = client.load(statement(sql, &columns), file) => answer?,
        never = feed => never,
    };
    Ok(if warnings == 0 && affected == rows.len() as u64 { Applied::All } else { Applied::Missed })
}

/// The statement. The name of its file is a word for whoever reads it in a list of processes.
fn statement(sql: &TableSql, columns: &[Column<'_>]) -> String {
    let (mut list, mut set) = (Vec::new(), Vec::new());
    for (column, of) in columns.iter().zip(&sql.columns) {
        match column.made_of() {
            None => list.push(of.name.clone()),
            Some(value) => {
                list.push(column.variable());
                set.push(format!("{} = {value}", of.name));
            }
        }
    }
    let set = if set.is_empty() { String::new() } else { format!(" SET {}", set.join(", ")) };
    format!(
        "LOAD DATA LOCAL INFILE 'pontoon' INTO TABLE {} CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' \
         LINES TERMINATED BY '\\n' ({}){set}",
        Table(&sql.table.name),
        list.join(", ")
    )
}

/// How a field becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// By the column, as of a text.
    Text,
    /// Of a number: of the text `0` a year is 2000 and eight bits are 48.
    Number,
    /// Of digits to the base 16.
    Bytes,
}

/// A column and its field.
struct Column<'a> {
    at: usize,
    kind: &'a Kind,
    form: Form,
}

impl Column<'_> {
    fn of(at: usize, kind: &Kind) -> Column<'_> {
        let form = match kind {
            Kind::Boolean | Kind::Year | Kind::Bits { .. } => Form::Number,
            Kind::Bytes { .. } => Form::Bytes,
            _ => Form::Text,
        };
        Column { at, kind, form }
    }

    fn variable(&self) -> String {
        format!("@pontoon_field_{}", self.at)
    }

    /// What the column is set to, where it is not the field itself.
    fn made_of(&self) -> Option<String> {
        match self.form {
            Form::Text => None,
            Form::Number => Some(format!("CAST({} AS UNSIGNED)", self.variable())),
            Form::Bytes => Some(format!("UNHEX({})", self.variable())),
        }
    }

    /// Writes the field. `false` where the value has no form.
    #[must_use]
    fn push(&self, value: &Value, out: &mut BytesMut) -> bool {
        match (self.form, value) {
            (_, Value::Null) => out.put_slice(b"\\N"),
            (Form::Bytes, Value::Bytes(bytes)) => encode::push_hex(out, bytes),
            (Form::Bytes, Value::Uuid(bytes)) => encode::push_hex(out, bytes),
            (Form::Bytes, _) => return false,
            (Form::Text, Value::Text(text) | Value::Json(text)) => push_text(text, out),
            (Form::Text, Value::Uuid(bytes)) => push_text(&format_uuid(bytes), out),
            (_, value) => return encode::push_plain(out, value, self.kind),
        }
        true
    }
}

fn push_text(text: &str, out: &mut BytesMut) {
    encode::push_escaped(out, text, |byte| match byte {
        b'\\' => Some("\\\\"),
        b'\t' => Some("\\t"),
        b'\n' => Some("\\n"),
        0 => Some("\\0"),
        _ => None,
    });
}

/// A line of the file. `false` where a value has no form.
fn push_row(columns: &[Column<'_>], row: &Row, out: &mut BytesMut) -> bool {
    for (at, (column, value)) in columns.iter().zip(&row.0).enumerate() {
        if at > 0 {
            out.put_u8(b'\t');
        }
        if !column.push(value, out) {
            return false;
        }
    }
    out.put_u8(b'\n');
    true
}

/// Sends the file. `None`: cut off, since a value has no form or nobody reads on.
async fn send(
    columns: &[Column<'_>],
    rows: &[impl Borrow<Row> + Sync],
    piece_bytes: usize,
    pieces: &mpsc::Sender<Bytes>,
) -> Option<()> {
    let mut piece = BytesMut::with_capacity(PIECE_ROOM);
    for row in rows {
        if !push_row(columns, row.borrow(), &mut piece) {
            return None;
        }
        while piece.len() >= piece_bytes {
            pieces.send(piece.split_to(piece_bytes).freeze()).await.ok()?;
        }
        piece.reserve(PIECE_ROOM);
    }
    pieces.send(piece.freeze()).await.ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the servers make of a field of such a file (`READ_INFO::read_field` of sql_load.cc).
    fn read(line: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
        let (last, line) = line.split_last()?;
        let field = |field: &[u8]| {
            let (mut value, mut bytes) = (Vec::new(), field.iter());
            while let Some(&byte) = bytes.next() {
                value.push(match byte {
                    b'\\' => match bytes.next()? {
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'0' => 0,
                        b'N' => return (field.len() == 2).then_some(None),
                        &other => other,
                    },
                    byte => byte,
                });
            }
            Some(Some(value))
        };
        (*last == b'\n' && !line.contains(&b'\n')).then(|| line.split(|byte| *byte == b'\t').map(field).collect())?
    }

    proptest! {
        #[test]
        fn text_stays_in_its_field(values in prop::collection::vec("[\\\\'\"\\x00\\t\\n\\rNnt0a%😀-]{0,20}|.{0,20}", 1..4)) {
            let kind = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
            let columns: Vec<_> = (0..values.len()).map(|at| Column::of(at, &kind)).collect();
            let row = Row(values.iter().map(|value| Value::Text(value.as_str().into())).collect());
            let mut line = BytesMut::new();
            prop_assert!(push_row(&columns, &row, &mut line));
            let expected: Vec<_> = values.into_iter().map(|value| Some(value.into_bytes())).collect();
            prop_assert_eq!(read(&line), Some(expected));
        }
    }

    #[test]
    fn some_kinds_are_made_of_their_field() {
        let columns = [Kind::Year, Kind::Bytes { bytes_max: None, fixed: false }, Kind::Uuid];
        let columns: Vec<_> = columns.iter().enumerate().map(|(at, kind)| Column::of(at, kind)).collect();
        let made: Vec<_> = columns.iter().map(Column::made_of).collect();
        assert_eq!(made[0].as_deref(), Some("CAST(@pontoon_field_0 AS UNSIGNED)"));
        assert_eq!(made[1].as_deref(), Some("UNHEX(@pontoon_field_1)"));
        assert_eq!(made[2], None);
        let mut line = BytesMut::new();
        assert!(push_row(
            &columns,
            &Row(vec![Value::Integer(0), Value::Bytes(vec![0, 92].into()), Value::Null]),
            &mut line
        ));
        assert_eq!(&line[..], b"0\t005c\t\\N\n");
        assert!(!push_row(&columns, &Row(vec![Value::Unchanged, Value::Null, Value::Null]), &mut line));
    }
}
