//! MariaDB's compressed events to what they were (`log_bin_compress`). Pure.
//!
//! A statement's text (type 165) or the images of a row event (166 to 171: the six row events in their order)
//! are compressed by themselves and stand behind the ordinary head of the event. Before the compressed bytes
//! stand a byte and the length: the highest bit is set, three bits are the algorithm (0 is zlib) and three
//! the number of bytes of the length, the most significant first (`binlog_buf_uncompress`,
//! `query_event_uncompress` and `row_log_event_uncompress` of MariaDB's `sql/log_event.cc`).

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::{
    Malformed,
    cursor::Cursor,
    event::{EVENT_BYTES_MAX, Frame, statement_at},
    malformed,
    rows::{self, Verb},
};

/// The compressed types, and the ordinary ones that they stand for.
const QUERY: u8 = 2;
const QUERY_COMPRESSED: u8 = 165;
const ROWS_COMPRESSED: [(u8, u8); 2] = [(166, 23), (169, 30)];

/// zlib makes at most so many bytes out of one (its manual, "Maximum Compression Factor"): room beyond that need
/// not be made, whatever is claimed.
const BYTES_PER_BYTE_MAX: usize = 1032;

/// The event as it was before it was compressed, its bytes in `room`; any other event as it is.
pub(crate) fn expand<'a>(frame: Frame<'a>, room: &'a mut Vec<u8>) -> Result<Frame<'a>, Malformed> {
    let rows = ROWS_COMPRESSED.iter().find(|(first, _)| (*first..first + 3).contains(&frame.kind));
    let (kind, head) = match rows {
        Some((first, ordinary)) => {
            let verb = Verb::of(frame.kind - first);
            (ordinary + frame.kind - first, rows::images_at(frame.body, verb, *ordinary == 30)?)
        }
        None if frame.kind == QUERY_COMPRESSED => (QUERY, statement_at(frame.body)?),
        None => return Ok(frame),
    };
    let (head, packed) = frame.body.split_at_checked(head).ok_or(malformed("an event ends too early"))?;
    room.clear();
    room.extend_from_slice(head);
    unpack(packed, room)?;
    Ok(Frame { kind, body: room, ..frame })
}

fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut cursor = Cursor(packed);
    let first = cursor.byte()?;
    let length_bytes = usize::from(first & 7);
    if first & 0xf0 != 0x80 || !(1..=4).contains(&length_bytes) {
        return Err(malformed("an event is compressed in an unknown way"));
    }
    let bytes = cursor.big(length_bytes)? as usize;
    if bytes > EVENT_BYTES_MAX {
        return Err(malformed("a compressed event claims to be too long"));
    }
    into.reserve((bytes + 1).min(cursor.0.len().saturating_mul(BYTES_PER_BYTE_MAX)));
    let before = into.len();
    let limit = bytes as u64 + 1;
    ZlibDecoder::new(cursor.0)
        .take(limit)
        .read_to_end(into)
        .map_err(|_| malformed("a compressed event cannot be unpacked"))?;
    match into.len() - before == bytes {
        true => Ok(()),
        false => Err(malformed("a compressed event holds something else than it says")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        connect::Flavour,
        log::event::{self, Message},
    };

    fn frame(kind: u8, body: &[u8]) -> Frame<'_> {
        Frame { kind, seconds: 5, server: 11, end: 0, flags: 0, inner: false, body }
    }

    fn pack(bytes: &[u8], claimed: u32) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        [&[0x84], &claimed.to_be_bytes()[..], &encoder.finish().unwrap()].concat()
    }

    /// A statement of the database `db`, with a status variable of one byte.
    fn query(text: &[u8]) -> Vec<u8> {
        [&[0; 8][..], &[2, 0, 0, 1, 0, 99, b'd', b'b', 0], text].concat()
    }

    #[test]
    fn statements_are_what_they_were() {
        let body = query(&pack(b"CREATE TABLE x (y int)", 22));
        let mut room = Vec::new();
        let frame = expand(frame(QUERY_COMPRESSED, &body), &mut room).unwrap();
        let Ok(Message::Query(query)) = event::parse(frame, Flavour::Mariadb) else { panic!() };
        assert_eq!((query.schema.as_str(), query.sql.as_str()), ("db", "CREATE TABLE x (y int)"));
    }

    #[test]
    fn rows_are_what_they_were() {
        // A table of two columns; for an update two bitmaps.
        for (first, ordinary, extra) in [(166, 23, &[][..]), (169, 30, &[2, 0][..])] {
            for verb in 0..3 {
                let maps: &[u8] = if verb == 1 { &[3, 3] } else { &[3] };
                let head = [&[7, 0, 0, 0, 0, 0, 1, 0], extra, &[2], maps].concat();
                let body = [&head[..], &pack(b"images", 6)].concat();
                let mut room = Vec::new();
                let found = expand(frame(first + verb, &body), &mut room).unwrap();
                assert_eq!(found.kind, ordinary + verb);
                assert_eq!(found.body, [&head[..], b"images"].concat());
            }
        }
    }

    #[test]
    fn what_it_says_is_held_against_what_it_holds() {
        let much = vec![b'x'; 1 << 20];
        for claimed in [0, (1 << 20) - 1, (1 << 20) + 1, u32::MAX] {
            let body = query(&pack(&much, claimed));
            let mut room = Vec::new();
            assert!(expand(frame(QUERY_COMPRESSED, &body), &mut room).is_err(), "{claimed}");
            assert!(room.capacity() < 3 << 20, "{claimed}: {}", room.capacity());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(kind in 160..175_u8, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut room = Vec::new();
            let _ = expand(frame(kind, &body), &mut room);
        }

        #[test]
        fn damage_is_seen_or_harmless(at in any::<prop::sample::Index>(), with: u8) {
            let mut body = query(&pack(b"CREATE TABLE x (y int)", 22));
            let at = at.index(body.len());
            body[at] = with;
            let mut room = Vec::new();
            let _ = expand(frame(QUERY_COMPRESSED, &body), &mut room);
        }
    }
}
