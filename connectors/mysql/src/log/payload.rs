//! A compressed transaction: bytes of its event in, the events within out, one by one. Pure.
//!
//! MySQL's Transaction_payload event (`libs/mysql/binlog/event/codecs/binary.cpp`): fields of type, length
//! and value, each a length-encoded number, up to a type of 0; then the payload: the transaction's events
//! without checksums, one after the other, as one stream of zstd, or as they are.
//!
//! Nothing is believed: what comes out is counted against what the event says it holds, an event within is
//! no longer than one of the log can be, and unpacking stops as soon as one whole event is there. So the
//! memory that it takes is that of its largest event, the window of zstd and a piece of [`PIECE_BYTES`].

use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::{
    Malformed,
    cursor::Cursor,
    event::{EVENT_BYTES_MAX, HEADER_BYTES, event_bytes},
    malformed,
};

/// Unpacked at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The fields before the payload are three of at most ten bytes each; newer servers may add some.
pub(super) const FIELDS_BYTES_MAX: usize = 512;

/// The largest window that zstd's own levels use (128 MiB, at level 22), and its own limit for a stream.
const WINDOW_LOG_MAX: u32 = 27;

/// The fields that are known.
const PAYLOAD_BYTES: u64 = 1;
const COMPRESSION: u64 = 2;
const UNPACKED_BYTES: u64 = 3;

/// The compressions that are known.
const ZSTD: u64 = 0;
const NONE: u64 = 255;

/// A compressed transaction while it is being read.
pub(crate) struct Payload {
    /// `None` where it is not compressed.
    decoder: Option<Decoder<'static>>,
    /// What it says to hold, where it does.
    unpacked_bytes: Option<u64>,
    produced: u64,
    /// A frame of zstd has begun and not ended.
    open: bool,
    bytes: Vec<u8>,
    /// The event that was looked at ends here.
    taken: usize,
}

impl Payload {
    /// Reads the fields; `size` is how much of the event there is from them on. Returns how long they are as well.
    pub(crate) fn begin(body: &[u8], size: usize) -> Result<(Payload, usize), Malformed> {
        let mut cursor = Cursor(body.get(..body.len().min(FIELDS_BYTES_MAX)).unwrap_or_default());
        let before = cursor.0.len();
        let (mut payload_bytes, mut compression, mut unpacked_bytes) = (None, NONE, None);
        loop {
            let field = cursor.length()?;
            if field == 0 {
                break;
            }
            let mut value = Cursor(cursor.prefixed()?);
            match field {
                PAYLOAD_BYTES => payload_bytes = Some(value.length()?),
                COMPRESSION => compression = value.length()?,
                UNPACKED_BYTES => unpacked_bytes = Some(value.length()?),
                _ => {}
            }
        }
        let fields = before - cursor.0.len();
        let left = size.checked_sub(fields).ok_or(malformed("a compressed transaction ends too early"))?;
        if payload_bytes.is_some_and(|bytes| left as u64 != bytes) {
            return Err(malformed("a compressed transaction has another size than it says"));
        }
        let decoder = match compression {
            NONE => None,
            ZSTD if unpacked_bytes.is_none() => {
                return Err(malformed("a compressed transaction does not say what it holds"));
            }
            ZSTD => Some(decoder().map_err(|_| malformed("a compressed transaction cannot be unpacked"))?),
            _ => return Err(malformed("a transaction is compressed in an unknown way")),
        };
        let payload = Payload { decoder, unpacked_bytes, produced: 0, open: false, bytes: Vec::new(), taken: 0 };
        Ok((payload, fields))
    }

    /// Unpacks more of what was pushed before. Whether anything came out.
    pub(crate) fn drain(&mut self) -> Result<bool, Malformed> {
        let before = self.produced;
        self.push(&[])?;
        Ok(self.produced > before)
    }

    /// Unpacks a piece of the payload, and returns how much of it was taken.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<usize, Malformed> {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        let held = self.bytes.len();
        let Some(decoder) = &mut self.decoder else {
            let taken = piece.len().min(PIECE_BYTES);
            self.bytes.extend_from_slice(&piece[..taken]);
            self.produce(taken)?;
            return Ok(taken);
        };
        self.bytes.resize(held + PIECE_BYTES, 0);
        let status = decoder.run_on_buffers(piece, &mut self.bytes[held..]);
        let status = status.map_err(|_| malformed("a compressed transaction cannot be unpacked"))?;
        self.bytes.truncate(held + status.bytes_written);
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.open = status.remaining > 0;
        }
        if !piece.is_empty() && status.bytes_read == 0 && status.bytes_written == 0 {
            return Err(malformed("a compressed transaction cannot be unpacked"));
        }
        self.produce(status.bytes_written)?;
        Ok(status.bytes_read)
    }

    fn produce(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.produced += bytes as u64;
        match self.unpacked_bytes.is_some_and(|all| self.produced > all) {
            true => Err(malformed("a compressed transaction holds more than it says")),
            false => Ok(()),
        }
    }

    /// How long the event at the front is, if all of it is there. It stays at the front until it is passed over.
    pub(crate) fn ready(&self) -> Result<Option<usize>, Malformed> {
        let rest = &self.bytes[self.taken..];
        if rest.len() < HEADER_BYTES {
            return Ok(None);
        }
        let bytes = event_bytes(rest)?;
        if bytes > EVENT_BYTES_MAX {
            return Err(malformed("a compressed transaction holds an event that is too long"));
        }
        Ok(Some(bytes).filter(|&bytes| rest.len() >= bytes))
    }

    /// The bytes at the front.
    pub(crate) fn front(&self, bytes: usize) -> &[u8] {
        self.bytes.get(self.taken..self.taken + bytes).unwrap_or_default()
    }

    /// Passes over the event at the front.
    pub(crate) fn pass(&mut self, bytes: usize) {
        self.taken = (self.taken + bytes).min(self.bytes.len());
    }

    /// Makes sure that nothing is missing, once all has been pushed and passed over.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        let whole = self.taken == self.bytes.len() && !self.open;
        match whole && self.unpacked_bytes.is_none_or(|all| self.produced == all) {
            true => Ok(()),
            false => Err(malformed("a compressed transaction ends too early")),
        }
    }
}

fn decoder() -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(bytes: usize) -> Vec<u8> {
        let mut event = vec![7; bytes.max(HEADER_BYTES)];
        let size = event.len() as u32;
        event[9..13].copy_from_slice(&size.to_le_bytes());
        event
    }

    fn number(number: u64) -> Vec<u8> {
        [&[254], &number.to_le_bytes()[..]].concat()
    }

    fn body(compression: u64, unpacked: Option<u64>, payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (field, value) in [(1, Some(payload.len() as u64)), (2, Some(compression)), (3, unpacked)] {
            let Some(value) = value else { continue };
            body.push(field);
            body.push(9);
            body.extend(number(value));
        }
        body.push(0);
        body.extend(payload);
        body
    }

    /// All events, pushed in pieces; and the most that was ever held.
    fn unpack(body: &[u8], piece: usize) -> Result<(Vec<Vec<u8>>, usize), Malformed> {
        let (mut payload, fields) = Payload::begin(body, body.len())?;
        let (mut rest, mut events, mut most) = (&body[fields..], Vec::new(), 0);
        loop {
            most = most.max(payload.bytes.capacity());
            if let Some(bytes) = payload.ready()? {
                events.push(payload.front(bytes).to_vec());
                payload.pass(bytes);
                continue;
            }
            if !rest.is_empty() {
                let taken = payload.push(&rest[..rest.len().min(piece)])?;
                rest = &rest[taken..];
            } else if !payload.drain()? {
                payload.finish()?;
                return Ok((events, most));
            }
        }
    }

    proptest! {
        #[test]
        fn events_come_out_as_they_went_in(
            sizes in proptest::collection::vec(19..5000_usize, 0..40), piece in 1..3000_usize, plain: bool, level in 1..=19,
        ) {
            let events: Vec<Vec<u8>> = sizes.into_iter().map(event).collect();
            let all = events.concat();
            let packed = if plain { all.clone() } else { zstd::encode_all(&all[..], level).unwrap() };
            let body = body(if plain { 255 } else { 0 }, Some(all.len() as u64), &packed);
            prop_assert_eq!(unpack(&body, piece).unwrap().0, events);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
            let _ = unpack(&bytes, piece);
            let _ = unpack(&body(0, Some(1000), &bytes), piece);
        }

        #[test]
        fn damage_is_seen_or_harmless(at in any::<prop::sample::Index>(), with: u8, cut in any::<prop::sample::Index>()) {
            let all = [event(100), event(3000)].concat();
            let mut body = body(0, Some(all.len() as u64), &zstd::encode_all(&all[..], 3).unwrap());
            let at = at.index(body.len());
            body[at] = with;
            body.truncate(cut.index(body.len()) + 1);
            let _ = unpack(&body, 64);
        }
    }

    #[test]
    fn much_in_little_takes_no_more_memory_than_its_largest_event() {
        let events: Vec<u8> = std::iter::repeat_with(|| event(8192)).take(12_800).flatten().collect();
        let packed = zstd::encode_all(&events[..], 3).unwrap();
        assert!(packed.len() < events.len() / 1000);
        let (found, most) = unpack(&body(0, Some(events.len() as u64), &packed), 4096).unwrap();
        assert_eq!(found.len(), 12_800);
        assert!(most <= 4 * PIECE_BYTES, "{most}");
    }

    #[test]
    fn what_it_says_is_held_against_what_it_holds() {
        let all = event(5000);
        let packed = zstd::encode_all(&all[..], 3).unwrap();
        let refused = |body: &[u8]| unpack(body, 100).unwrap_err().0;
        assert!(refused(&body(0, Some(4999), &packed)).contains("more than it says"));
        assert!(refused(&body(0, Some(5001), &packed)).contains("too early"));
        assert!(refused(&body(0, Some(5000), &packed[..packed.len() - 3])).contains("too early"));
        assert!(refused(&body(0, None, &packed)).contains("does not say"));
        assert!(refused(&body(7, Some(5000), &packed)).contains("unknown way"));
        assert!(refused(&body(255, None, &all[..4000])).contains("too early"));
        let mut long = body(0, Some(5000), &packed);
        long.push(0);
        assert!(refused(&long).contains("another size"));
        let mut huge = event(100);
        huge[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(refused(&body(255, None, &huge)).contains("too long"));
        huge[9..13].copy_from_slice(&3_u32.to_le_bytes());
        assert!(refused(&body(255, None, &huge)).contains("shorter"));
    }
}
