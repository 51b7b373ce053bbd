//! The messages of the output plugin `pgoutput` (manual, "Logical Replication Message Formats"),
//! decoded from bytes without copying and without any I/O. Arbitrary bytes give an error, never a panic.
//!
//! Asked for is protocol version 2 with streaming and without two-phase commits, in text format: the
//! messages below are all there are then. Between Stream Start and Stop, what is of a transaction carries the
//! number of its subtransaction before its content.

use pontoon_core::Error;

use crate::error;

/// Bytes that are not what the protocol says, and what they should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Malformed {
    pub(crate) fn into_error(self) -> Error {
        error::protocol(format!("the replication stream: {}", self.0))
    }
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A transaction begins. The time is in microseconds since 2000.
    Begin { final_lsn: u64, commit_time: i64, xid: u32 },
    /// It ends.
    Commit { end_lsn: u64 },
    /// A block of a transaction that is not decided yet, or its first one.
    StreamStart { xid: u32, first: bool },
    /// The block ends.
    StreamStop,
    /// A streamed transaction commits.
    StreamCommit { xid: u32, commit_lsn: u64, end_lsn: u64, commit_time: i64 },
    /// A streamed transaction is rolled back, or the subtransaction `part` of it.
    StreamAbort { xid: u32, part: u32 },
    /// Who made it; follows Begin, or the first Stream Start.
    Origin { name: &'a str },
    /// A logical message.
    Logical { transactional: bool, prefix: &'a str, content: &'a [u8] },
    /// The shape of a table, before the first change of it and after each change of its shape.
    Relation(Relation<'a>),
    /// Nothing that is needed: the name of a type.
    Other,
    /// A change of a table that is not wanted.
    Unwanted { relation: u32 },
    /// A new row.
    Insert { relation: u32, new: Tuple<'a> },
    /// A changed row; `old` is what the replica identity has of the row before.
    Update { relation: u32, old: Old<'a>, new: Tuple<'a> },
    /// A removed row.
    Delete { relation: u32, old: Old<'a> },
    /// Truncated tables.
    Truncate { relations: Vec<u32> },
}

/// The shape of a table at this place of the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Relation<'a> {
    pub(crate) id: u32,
    pub(crate) schema: &'a str,
    pub(crate) name: &'a str,
    /// `d`, `n`, `f` or `i`, as in `pg_class.relreplident`.
    pub(crate) replica_identity: u8,
    pub(crate) columns: Vec<RelationColumn<'a>>,
}

/// A column of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn<'a> {
    pub(crate) name: &'a str,
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
}

/// What is known of a row as it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Old<'a> {
    /// All of it: replica identity FULL.
    Full(Tuple<'a>),
    /// Its key alone.
    Key,
    /// Nothing.
    Absent,
}

/// The values of a row, in the order of its Relation's columns.
pub(crate) type Tuple<'a> = Vec<Datum<'a>>;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datum<'a> {
    /// SQL's null.
    Null,
    /// Stored apart (TOAST) and not changed, so not in the log.
    Unchanged,
    /// In the type's text form.
    Text(&'a [u8]),
}

/// Decodes one message, and the number of its subtransaction, which is zero outside of a streamed `block`. `wanted`
/// says whether rows are wanted of a table: others are not looked into.
pub(crate) fn decode<'a>(
    bytes: &'a [u8],
    block: bool,
    wanted: impl Fn(u32) -> bool,
) -> Result<(u32, Message<'a>), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let kind = cursor.u8()?;
    let part = if block && matches!(kind, b'M' | b'R' | b'Y' | b'T' | b'I' | b'U' | b'D') { cursor.u32()? } else { 0 };
    Ok((part, content(kind, &mut cursor, wanted)?))
}

fn content<'a>(kind: u8, cursor: &mut Cursor<'a>, wanted: impl Fn(u32) -> bool) -> Result<Message<'a>, Malformed> {
    let message = match kind {
        b'B' => Message::Begin { final_lsn: cursor.u64()?, commit_time: cursor.i64()?, xid: cursor.u32()? },
        b'C' => {
            let (_flags, _commit_lsn) = (cursor.u8()?, cursor.u64()?);
            let end_lsn = cursor.u64()?;
            let _time = cursor.i64()?;
            Message::Commit { end_lsn }
        }
        b'S' => Message::StreamStart { xid: cursor.u32()?, first: cursor.u8()? == 1 },
        b'E' => Message::StreamStop,
        b'c' => {
            let (xid, _flags, commit_lsn) = (cursor.u32()?, cursor.u8()?, cursor.u64()?);
            Message::StreamCommit { xid, commit_lsn, end_lsn: cursor.u64()?, commit_time: cursor.i64()? }
        }
        b'A' => Message::StreamAbort { xid: cursor.u32()?, part: cursor.u32()? },
        b'O' => {
            let _origin_lsn = cursor.u64()?;
            Message::Origin { name: cursor.text()? }
        }
        b'M' => {
            let transactional = cursor.u8()? & 1 == 1;
            let (_lsn, prefix, length) = (cursor.u64()?, cursor.text()?, cursor.length()?);
            Message::Logical { transactional, prefix, content: cursor.bytes(length)? }
        }
        b'R' => Message::Relation(relation(cursor)?),
        b'Y' => return Ok(Message::Other),
        b'T' => {
            let count = cursor.length()?;
            let _options = cursor.u8()?;
            Message::Truncate { relations: (0..count).map(|_| cursor.u32()).collect::<Result<_, _>>()? }
        }
        change @ (b'I' | b'U' | b'D') => {
            let relation = cursor.u32()?;
            if !wanted(relation) {
                return Ok(Message::Unwanted { relation });
            }
            return row_change(change, relation, cursor);
        }
        _ => return Err(Malformed("a message of an unknown kind")),
    };
    cursor.end()?;
    Ok(message)
}

fn relation<'a>(cursor: &mut Cursor<'a>) -> Result<Relation<'a>, Malformed> {
    let id = cursor.u32()?;
    // The server leaves the schema empty for its own, pg_catalog.
    let (schema, name, replica_identity) = (cursor.text()?, cursor.text()?, cursor.u8()?);
    let count = cursor.u16()?;
    let columns = (0..count).map(|_| {
        let _flags = cursor.u8()?;
        let name = cursor.text()?;
        Ok(RelationColumn { name, type_oid: cursor.u32()?, typmod: cursor.u32()?.cast_signed() })
    });
    Ok(Relation { id, schema, name, replica_identity, columns: columns.collect::<Result<_, _>>()? })
}

fn row_change<'a>(change: u8, relation: u32, cursor: &mut Cursor<'a>) -> Result<Message<'a>, Malformed> {
    let mut mark = cursor.u8()?;
    let mut old = Old::Absent;
    if change != b'I' && matches!(mark, b'K' | b'O') {
        let row = tuple(cursor)?;
        old = if mark == b'O' { Old::Full(row) } else { Old::Key };
        if change == b'U' {
            mark = cursor.u8()?;
        }
    }
    let message = match (change, mark) {
        (b'I', b'N') => Message::Insert { relation, new: tuple(cursor)? },
        (b'U', b'N') => Message::Update { relation, old, new: tuple(cursor)? },
        (b'D', b'K' | b'O') => Message::Delete { relation, old },
        _ => return Err(Malformed("a row without its mark")),
    };
    cursor.end()?;
    Ok(message)
}

fn tuple<'a>(cursor: &mut Cursor<'a>) -> Result<Tuple<'a>, Malformed> {
    let count = cursor.u16()?;
    (0..count)
        .map(|_| match cursor.u8()? {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            b't' => {
                let length = cursor.length()?;
                cursor.bytes(length).map(Datum::Text)
            }
            _ => Err(Malformed("a value of an unknown kind")),
        })
        .collect()
}

/// Reads from the front of a slice.
pub(crate) struct Cursor<'a>(&'a [u8]);

const SHORT: Malformed = Malformed("a message that ends early");

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }

    /// A count of things that follow; there are never more than bytes are left.
    fn length(&mut self) -> Result<usize, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| SHORT)?;
        if length > self.0.len() { Err(SHORT) } else { Ok(length) }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(head)
    }

    /// A text up to its zero byte.
    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.0.iter().position(|&byte| byte == 0).ok_or(SHORT)?;
        let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed("a name that is not UTF-8"))?;
        self.u8()?;
        Ok(text)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("a message that goes on after its end")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            kind in "[BCOMRYTIUDSEcAX]",
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            block: bool,
        ) {
            let mut message = kind.into_bytes();
            message.extend(bytes);
            let _ = decode(&message, block, |_| true);
        }

        #[test]
        fn a_cut_message_is_an_error(cut in 0_usize..33) {
            let whole = update();
            prop_assume!(cut < whole.len());
            prop_assert!(decode(&whole[..cut], false, |_| true).is_err());
        }
    }

    #[test]
    fn within_a_block_the_subtransaction_comes_first() {
        let bytes = b"D\0\0\0\x09\0\0\0\x05K\0\x01t\0\0\0\x011";
        assert_eq!(decode(bytes, true, |_| true), Ok((9, Message::Delete { relation: 5, old: Old::Key })));
        assert_eq!(decode(b"E", true, |_| true), Ok((0, Message::StreamStop)));
        let abort = b"A\0\0\0\x07\0\0\0\x09";
        assert_eq!(decode(abort, false, |_| true), Ok((0, Message::StreamAbort { xid: 7, part: 9 })));
    }

    /// `U`, table 5, old row (1, null), new row (unchanged, "ab").
    fn update() -> Vec<u8> {
        let mut bytes = b"U\0\0\0\x05O\0\x02t\0\0\0\x011nN\0\x02u".to_vec();
        bytes.extend(b"t\0\0\0\x02ab");
        bytes
    }

    #[test]
    fn an_update_is_read() {
        let bytes = update();
        let expected = Message::Update {
            relation: 5,
            old: Old::Full(vec![Datum::Text(b"1"), Datum::Null]),
            new: vec![Datum::Unchanged, Datum::Text(b"ab")],
        };
        assert_eq!(decode(&bytes, false, |_| true), Ok((0, expected)));
        assert_eq!(decode(&bytes, false, |relation| relation != 5), Ok((0, Message::Unwanted { relation: 5 })));
    }
}
