//! The messages within the replication stream (manual, "Streaming Replication Protocol"). Pure.

use super::pgoutput::{Cursor, Malformed};

/// PostgreSQL counts from 2000-01-01; microseconds between 1970 and then.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What the server sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message of the output plugin.
    Data { payload: &'a [u8] },
    /// The server lives and has sent all before `end`.
    Keepalive { end: u64, reply_wanted: bool },
}

/// Decodes one CopyData message.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    match cursor.u8()? {
        b'w' => {
            let (_start, _end, _clock) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
            Ok(Frame::Data { payload: cursor.rest() })
        }
        b'k' => {
            let end = cursor.u64()?;
            let _clock = cursor.u64()?;
            Ok(Frame::Keepalive { end, reply_wanted: cursor.u8()? != 0 })
        }
        _ => Err(Malformed("a message of the stream of an unknown kind")),
    }
}

/// What the client tells the server: what it has got, and what of it may be forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) received: u64,
    pub(crate) durable: u64,
    pub(crate) reply_wanted: bool,
}

impl Status {
    /// The content of a CopyData message.
    pub(crate) fn encode(self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[0] = b'r';
        bytes[1..9].copy_from_slice(&self.received.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.durable.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.durable.to_be_bytes());
        // The client's clock (bytes 25 to 33) is for display in pg_stat_replication only: left at zero.
        bytes[33] = self.reply_wanted.into();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn keepalives_are_read() {
        let mut bytes = vec![b'k'];
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.push(1);
        assert_eq!(decode(&bytes), Ok(Frame::Keepalive { end: 7, reply_wanted: true }));
    }
}
