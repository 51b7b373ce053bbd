//! What an event is: type byte and body in, [`Message`] out.

use super::{
    Malformed,
    cursor::Cursor,
    malformed,
    rows::{self, Rows, Verb},
};
use crate::connect::Flavour;

/// An event without its checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Its type.
    pub(crate) kind: u8,
    /// Seconds since 1970.
    pub(crate) seconds: u32,
    /// The server that it was first written on.
    pub(crate) server: u32,
    /// Where it ends in the file, as far as 32 bits go; 0 where it is not in the file.
    pub(crate) end: u32,
    /// Flags of the header.
    pub(crate) flags: u16,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// The event was made up for the connection and is not in the file.
pub(crate) const FLAG_ARTIFICIAL: u16 = 0x20;

/// The head of a file.
pub(crate) const FORMAT: u8 = 15;

/// A tagged GTID (MySQL 8.3 and later), whose serialization only the driver reads.
pub(crate) const TAGGED_GTID: u8 = 42;

/// What a transaction begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Begin {
    /// The GTID for people; empty where the server gives none.
    pub(crate) name: String,
    /// Microseconds since 1970, where the event tells.
    pub(crate) commit_time: Option<i64>,
    /// One statement follows, and no commit (MariaDB).
    pub(crate) standalone: bool,
    /// An XA transaction that is not decided yet (MariaDB).
    pub(crate) prepared: bool,
}

/// An event as far as a bridge cares.
#[derive(Debug, Clone)]
pub(crate) enum Message<'a> {
    /// The head of a file.
    Head,
    /// Another file follows.
    Rotate { file: String, offset: u64 },
    /// A transaction begins.
    Begin(Begin),
    /// A statement.
    Query { schema: String, sql: String },
    /// Commits.
    Xid,
    /// Ends an XA transaction's first phase.
    XaPrepare,
    /// Describes a table for the rows that follow.
    TableMap,
    /// Rows.
    Rows(Rows<'a>),
    /// Rows in a form that is not read yet: of this table, by this setting.
    UnreadRows { table: u64, setting: &'static str },
    /// A statement in a form that is not read yet.
    UnreadQuery,
    /// The transaction's events follow in one compressed piece.
    Payload,
    /// The server lost events.
    Incident,
    /// The log is idle here.
    Heartbeat { file: String, offset: u64 },
    /// Nothing that matters.
    Other,
}

/// Reads an event.
pub(crate) fn parse<'a>(frame: Frame<'a>, flavour: Flavour) -> Result<Message<'a>, Malformed> {
    let mut cursor = Cursor(frame.body);
    let mariadb = flavour == Flavour::Mariadb;
    Ok(match frame.kind {
        2 => query(frame.body, 0)?,
        18 => query(frame.body, LOAD_BYTES)?,
        4 => {
            let offset = cursor.little(8)?;
            Message::Rotate { file: String::from_utf8_lossy(cursor.0).into_owned(), offset }
        }
        FORMAT => Message::Head,
        16 => Message::Xid,
        19 => Message::TableMap,
        23..=25 => Message::Rows(rows::parse(frame.body, verb(frame.kind - 23), false)?),
        30..=32 => Message::Rows(rows::parse(frame.body, verb(frame.kind - 30), true)?),
        26 => Message::Incident,
        27 => Message::Heartbeat { file: String::from_utf8_lossy(frame.body).into_owned(), offset: frame.end.into() },
        33 | 34 if !mariadb => Message::Begin(gtid(&mut cursor, frame.kind == 33)?),
        38 => Message::XaPrepare,
        39 => Message::UnreadRows { table: rows::table(frame.body)?, setting: "binlog_row_value_options=''" },
        40 if !mariadb => Message::Payload,
        41 => heartbeat(&mut cursor)?,
        0xa2 if mariadb => Message::Begin(mariadb_gtid(&mut cursor, frame)?),
        0xa5 if mariadb => Message::UnreadQuery,
        0xa6..=0xab if mariadb => {
            Message::UnreadRows { table: rows::table(frame.body)?, setting: "log_bin_compress=OFF" }
        }
        _ => Message::Other,
    })
}

fn verb(index: u8) -> Verb {
    match index {
        0 => Verb::Insert,
        1 => Verb::Update,
        _ => Verb::Delete,
    }
}

/// What LOAD DATA as a statement has beyond a query: file, two places in the text, what to do with duplicates.
const LOAD_BYTES: usize = 13;

fn query<'a>(body: &[u8], extra: usize) -> Result<Message<'a>, Malformed> {
    let mut cursor = Cursor(body);
    cursor.skip(8)?;
    let schema = usize::from(cursor.byte()?);
    cursor.skip(2)?;
    let status = cursor.little(2)? as usize;
    cursor.skip(extra)?;
    cursor.skip(status)?;
    let schema = String::from_utf8_lossy(cursor.take(schema)?).into_owned();
    cursor.skip(1)?;
    Ok(Message::Query { schema, sql: String::from_utf8_lossy(cursor.0).into_owned() })
}

/// Flags, server UUID, number, then since 5.7 a logical clock, and since 8.0 the commit time: seven bytes, the highest
/// bit of which says that the original commit time follows.
fn gtid(cursor: &mut Cursor<'_>, named: bool) -> Result<Begin, Malformed> {
    cursor.skip(1)?;
    let uuid: [u8; 16] = cursor.take(16)?.try_into().map_err(|_| malformed("a GTID has no UUID"))?;
    let number = cursor.little(8)?;
    let name = if named { format!("{}:{number}", pontoon_core::value::format_uuid(&uuid)) } else { String::new() };
    if cursor.byte().ok() != Some(2) {
        return Ok(Begin { name, ..Begin::default() });
    }
    cursor.skip(16)?;
    let time = cursor.little(7).ok().map(|time| (time & !(1 << 55)) as i64);
    Ok(Begin { name, commit_time: time, ..Begin::default() })
}

/// Sequence, domain, flags.
fn mariadb_gtid(cursor: &mut Cursor<'_>, frame: Frame<'_>) -> Result<Begin, Malformed> {
    const STANDALONE: u8 = 1;
    const PREPARED_XA: u8 = 64;
    let (sequence, domain, flags) = (cursor.little(8)?, cursor.little(4)?, cursor.byte()?);
    Ok(Begin {
        name: format!("{domain}-{}-{sequence}", frame.server),
        commit_time: Some(i64::from(frame.seconds) * 1_000_000),
        standalone: flags & STANDALONE != 0,
        prepared: flags & PREPARED_XA != 0,
    })
}

/// The second heartbeat event (MySQL 8.0.26): fields of type, length and value; 1 is the file, 2 the position.
fn heartbeat<'a>(cursor: &mut Cursor<'_>) -> Result<Message<'a>, Malformed> {
    let (mut file, mut offset) = (String::new(), 0);
    loop {
        let field = cursor.length()?;
        if field == 0 {
            break;
        }
        let mut value = Cursor(cursor.prefixed()?);
        match field {
            1 => file = String::from_utf8_lossy(value.0).into_owned(),
            2 => offset = value.length()?,
            _ => {}
        }
    }
    Ok(Message::Heartbeat { file, offset })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Frame<'_> {
        Frame { kind, seconds: 5, server: 11, end: 0, flags: 0, body }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(frame(kind, &body), Flavour::Mysql);
            let _ = parse(frame(kind, &body), Flavour::Mariadb);
        }
    }

    #[test]
    fn commit_times_are_read() {
        let mut body = vec![1];
        body.extend([0xaa; 16]);
        body.extend(7_u64.to_le_bytes());
        body.push(2);
        body.extend([0; 16]);
        body.extend(&(1_700_000_000_123_456_u64 | 1 << 55).to_le_bytes()[..7]);
        let Ok(Message::Begin(begin)) = parse(frame(33, &body), Flavour::Mysql) else { panic!() };
        assert_eq!(begin.commit_time, Some(1_700_000_000_123_456));
        assert_eq!(begin.name, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:7");
        let mut body = 9_u64.to_le_bytes().to_vec();
        body.extend(3_u32.to_le_bytes());
        body.push(1);
        let Ok(Message::Begin(begin)) = parse(frame(0xa2, &body), Flavour::Mariadb) else { panic!() };
        assert_eq!((begin.commit_time, begin.standalone, begin.name.as_str()), (Some(5_000_000), true, "3-11-9"));
    }

    #[test]
    fn statements_are_read() {
        let mut body = vec![0; 8];
        body.extend([2, 0, 0, 1, 0, 99, b'd', b'b', 0]);
        body.extend(b"BEGIN");
        let Ok(Message::Query { schema, sql }) = parse(frame(2, &body), Flavour::Mysql) else { panic!() };
        assert_eq!((schema.as_str(), sql.as_str()), ("db", "BEGIN"));
    }
}
