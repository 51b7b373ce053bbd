//! What an event is: type byte and body in, [`Message`] out.

use mysql_common::{
    binlog::{
        BinlogCtx,
        consts::BinlogVersion,
        events::{FormatDescriptionEvent, GtidEvent},
    },
    io::ParseBuf,
};
use pontoon_core::Gtid;

use super::{
    Malformed,
    cursor::Cursor,
    malformed,
    rows::{self, Rows, Verb},
    xa::{self, End},
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
    /// It came out of a compressed transaction, and has no place of its own in the file.
    pub(crate) inner: bool,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// What every event begins with.
pub(crate) const HEADER_BYTES: usize = 19;

/// What an event ends with, where the log has checksums.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// No event is longer: the servers send a replica none beyond `max_allowed_packet`'s own limit of 1 GiB, and
/// what a header takes.
pub(crate) const EVENT_BYTES_MAX: usize = (1 << 30) + (64 << 10);

/// The type of an event, of which at least the header should be there.
pub(crate) fn kind(bytes: &[u8]) -> u8 {
    bytes.get(4).copied().unwrap_or_default()
}

/// How long an event says to be, checksum included.
pub(crate) fn event_bytes(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor(bytes);
    cursor.skip(9)?;
    let size = cursor.little(4)? as usize;
    if size < HEADER_BYTES { Err(malformed("an event is shorter than its header")) } else { Ok(size) }
}

/// An event without its checksum.
pub(crate) fn frame(bytes: &[u8], inner: bool) -> Result<Frame<'_>, Malformed> {
    let mut cursor = Cursor(bytes);
    let (seconds, kind, server) = (cursor.little(4)? as u32, cursor.byte()?, cursor.little(4)? as u32);
    cursor.skip(4)?;
    let (end, flags) = (cursor.little(4)? as u32, cursor.little(2)? as u16);
    Ok(Frame { kind, seconds, server, end, flags, inner, body: cursor.0 })
}

/// Whether the events that follow this head of a file have checksums. The head itself always has room for one,
/// behind a byte that names the algorithm (MySQL 5.6.1, MariaDB 5.3).
pub(crate) fn has_checksums(head: &[u8]) -> Result<bool, Malformed> {
    let algorithm = head.len().checked_sub(CHECKSUM_BYTES + 1).filter(|&at| at >= HEADER_BYTES);
    match algorithm.map(|at| head[at]) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(malformed("the log has checksums of an unknown kind")),
    }
}

/// The checksum of an event. Of a head, the flag that its file is in use is left out: it was clear when the head was
/// written and is set in the last file.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    const FLAGS: usize = 17;
    const IN_USE: u8 = 1;
    let mut hasher = crc32fast::Hasher::new();
    match bytes.get(FLAGS) {
        Some(flags) if kind(bytes) == FORMAT => {
            hasher.update(&bytes[..FLAGS]);
            hasher.update(&[flags & !IN_USE]);
            hasher.update(&bytes[FLAGS + 1..]);
        }
        _ => hasher.update(bytes),
    }
    hasher.finalize()
}

/// The event was made up for the connection and is not in the file.
pub(crate) const FLAG_ARTIFICIAL: u16 = 0x20;

/// The head of a file.
pub(crate) const FORMAT: u8 = 15;

/// A compressed transaction (MySQL).
pub(crate) const PAYLOAD: u8 = 40;

/// What a transaction begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Begin {
    /// The GTID for people; empty where the server gives none.
    pub(crate) name: String,
    /// The same, by which it is found in a replica's log.
    pub(crate) gtid: Option<Gtid>,
    /// Microseconds since 1970, where the event tells.
    pub(crate) commit_time: Option<i64>,
    /// One statement follows, and no commit (MariaDB).
    pub(crate) standalone: bool,
    /// An XA transaction that is not decided yet (MariaDB).
    pub(crate) prepared: bool,
}

/// A statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The database that it was run in.
    pub(crate) schema: String,
    /// The databases that it touches, also by views, routines and triggers, where the server says so.
    pub(crate) updated: Option<Vec<String>>,
    /// Its text.
    pub(crate) sql: String,
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
    Query(Query),
    /// Commits.
    Xid,
    /// Ends a transaction's first phase, or its only one.
    XaPrepare(End),
    /// Describes a table for the rows that follow.
    TableMap,
    /// Rows.
    Rows(Rows<'a>),
    /// The events before came out of a compressed transaction, which ends here.
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
        23..=25 => Message::Rows(rows::parse(frame.body, Verb::of(frame.kind - 23), false)?),
        30..=32 => Message::Rows(rows::parse(frame.body, Verb::of(frame.kind - 30), true)?),
        26 => Message::Incident,
        27 => Message::Heartbeat { file: String::from_utf8_lossy(frame.body).into_owned(), offset: frame.end.into() },
        33 | 34 if !mariadb => Message::Begin(gtid(&mut cursor, frame.kind == 33)?),
        38 => Message::XaPrepare(xa::prepare(frame.body)?),
        39 if !mariadb => Message::Rows(rows::parse_partial(frame.body)?),
        PAYLOAD if !mariadb => Message::Payload,
        41 => heartbeat(&mut cursor)?,
        42 if !mariadb => Message::Begin(tagged_gtid(frame.body)?),
        0xa2 if mariadb => Message::Begin(mariadb_gtid(&mut cursor, frame)?),
        _ => Message::Other,
    })
}

/// Whether no transaction is open before an event: it begins one, or is none of those that are in one.
pub(crate) fn stands_between(kind: u8, message: &Message<'_>) -> bool {
    const STOP: u8 = 3;
    const PREVIOUS_GTIDS: u8 = 35;
    const MARIADB_CHECKPOINT: u8 = 0xa1;
    const MARIADB_GTID_LIST: u8 = 0xa3;
    const MARIADB_ENCRYPTION: u8 = 0xa4;
    matches!(message, Message::Begin(_) | Message::Rotate { .. } | Message::Head)
        || [STOP, PREVIOUS_GTIDS, MARIADB_CHECKPOINT, MARIADB_GTID_LIST, MARIADB_ENCRYPTION].contains(&kind)
}

/// What LOAD DATA as a statement has beyond a query: file, two places in the text, what to do with duplicates.
const LOAD_BYTES: usize = 13;

fn query<'a>(body: &[u8], extra: usize) -> Result<Message<'a>, Malformed> {
    let mut cursor = Cursor(body);
    let (status, schema) = query_head(&mut cursor, extra)?;
    let updated = updated(status).unwrap_or_default();
    Ok(Message::Query(Query { schema, updated, sql: String::from_utf8_lossy(cursor.0).into_owned() }))
}

/// Where the text of a statement begins.
pub(super) fn statement_at(body: &[u8]) -> Result<usize, Malformed> {
    let mut cursor = Cursor(body);
    query_head(&mut cursor, 0)?;
    Ok(body.len() - cursor.0.len())
}

/// What stands before a statement's text: status variables, and the database in which it was run.
fn query_head<'a>(cursor: &mut Cursor<'a>, extra: usize) -> Result<(&'a [u8], String), Malformed> {
    cursor.skip(8)?;
    let schema = usize::from(cursor.byte()?);
    cursor.skip(2)?;
    let status = cursor.little(2)? as usize;
    cursor.skip(extra)?;
    let status = cursor.take(status)?;
    let schema = String::from_utf8_lossy(cursor.take(schema)?).into_owned();
    cursor.skip(1)?;
    Ok((status, schema))
}

/// The databases that a statement touches, among its status variables (`Query_event::Query_event_status_vars`); they
/// stand in the order of the server's code, in which those before this one have the lengths that are skipped here.
/// `None` where they are not told, or are too many for the server to tell.
fn updated(status: &[u8]) -> Result<Option<Vec<String>>, Malformed> {
    const UPDATED: u8 = 12;
    const TOO_MANY: u8 = 254;
    let mut cursor = Cursor(status);
    while !cursor.is_empty() {
        match cursor.byte()? {
            // Flags, position of the source's event; mode; catalog with its end; auto_increment; charsets; time zone.
            0 | 10 => cursor.skip(4)?,
            1 | 9 => cursor.skip(8)?,
            2 => {
                let length = usize::from(cursor.byte()?);
                cursor.skip(length + 1)?;
            }
            3 => cursor.skip(4)?,
            4 => cursor.skip(6)?,
            5 | 6 => {
                let length = usize::from(cursor.byte()?);
                cursor.skip(length)?;
            }
            7 | 8 => cursor.skip(2)?,
            11 => {
                for _ in 0..2 {
                    let length = usize::from(cursor.byte()?);
                    cursor.skip(length)?;
                }
            }
            UPDATED => {
                let count = cursor.byte()?;
                if count == TOO_MANY {
                    return Ok(None);
                }
                let mut names = cursor.0.split(|&byte| byte == 0);
                let names = (0..count).map(|_| names.next().map(|name| String::from_utf8_lossy(name).into_owned()));
                return Ok(names.collect());
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Flags, server UUID, number, then since 5.7 a logical clock, and since 8.0 the commit time: seven bytes, the highest
/// bit of which says that the original commit time follows.
fn gtid(cursor: &mut Cursor<'_>, named: bool) -> Result<Begin, Malformed> {
    cursor.skip(1)?;
    let uuid: [u8; 16] = cursor.take(16)?.try_into().map_err(|_| malformed("a GTID has no UUID"))?;
    let number = cursor.little(8)?;
    let gtid = named.then_some(Gtid::Mysql { server: uuid, number });
    let name = gtid.map_or_else(String::new, |gtid| gtid.to_string());
    if cursor.byte().ok() != Some(2) {
        return Ok(Begin { name, gtid, ..Begin::default() });
    }
    cursor.skip(16)?;
    let time = cursor.little(7).ok().map(|time| (time & !(1 << 55)) as i64);
    Ok(Begin { name, gtid, commit_time: time, ..Begin::default() })
}

/// A GTID with a tag (MySQL 8.3 and later), in the serialization of its own that the driver's library reads.
fn tagged_gtid(body: &[u8]) -> Result<Begin, Malformed> {
    let head = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let context = BinlogCtx::new(HEADER_BYTES + body.len(), &head, 42);
    let event: GtidEvent = ParseBuf(body).parse(context).map_err(|_| malformed("a tagged GTID cannot be read"))?;
    let tag = event.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    Ok(Begin {
        name: format!("{}{tag}:{}", pontoon_core::value::format_uuid(&event.sid()), event.gno()),
        commit_time: i64::try_from(event.immediate_commit_timestamp()).ok().filter(|&time| time > 0),
        ..Begin::default()
    })
}

/// Sequence, domain, flags.
fn mariadb_gtid(cursor: &mut Cursor<'_>, frame: Frame<'_>) -> Result<Begin, Malformed> {
    const STANDALONE: u8 = 1;
    const PREPARED_XA: u8 = 64;
    let (sequence, domain, flags) = (cursor.little(8)?, cursor.little(4)? as u32, cursor.byte()?);
    let gtid = Gtid::Mariadb { domain, server: frame.server, sequence };
    Ok(Begin {
        name: gtid.to_string(),
        gtid: Some(gtid),
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
        Frame { kind, seconds: 5, server: 11, end: 0, flags: 0, inner: false, body }
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
        let Ok(Message::Query(query)) = parse(frame(2, &body), Flavour::Mysql) else { panic!() };
        assert_eq!((query.schema.as_str(), query.updated, query.sql.as_str()), ("db", None, "BEGIN"));
    }

    #[test]
    fn databases_that_are_touched_are_read() {
        let status = b"\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x06\x03std\x04\0\0\0\0\0\0\x0c\x02shop\0other\0\x0d\0\0\0";
        assert_eq!(updated(status), Ok(Some(vec!["shop".into(), "other".into()])));
        assert_eq!(updated(&[12, 254]), Ok(None));
        assert_eq!(updated(&[12, 9, b'a']), Ok(None));
        assert_eq!(updated(&[200, 1]), Ok(None));
        assert!(updated(&[5, 9]).is_err());
    }
}
