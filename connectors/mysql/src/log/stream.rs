//! The log as the server sends it: packets in, one event at a time out.
//!
//! * An event of one packet is read where it lies in the buffer. One of several packets (16 MiB and more)
//!   is collected. A compressed transaction is unpacked while it arrives ([`super::payload`]): its events
//!   come one by one, marked as [`Frame::inner`], and then the event that held them, by which all of it is
//!   known to have come.
//! * Checksums are verified, of a compressed transaction beyond a packet when all of it has come: the servers themselves do not, unless told to (`source_verify_checksum`), so
//!   a byte that the server's disk has lost would be decoded. The head of each file says whether its
//!   events have them; the events before the first head only repeat what was asked for.
//! * After the events, the server answers with an error, or ends the log.

use crc32fast::Hasher;
use pontoon_core::{Code, Error, Result};

use super::{
    Malformed,
    event::{self, CHECKSUM_BYTES, EVENT_BYTES_MAX, FORMAT, Frame, HEADER_BYTES, PAYLOAD},
    malformed,
    payload::{FIELDS_BYTES_MAX, Payload},
    wire::{HEAD_BYTES, PACKET_BYTES_MAX, Wire, out_of_place, refusal},
};
use crate::{error, files::lost};

/// Of a packet that is taken in pieces, so much at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The first byte of a packet that holds an event.
const EVENT: u8 = 0;
/// The first byte of a packet that holds an error.
const REFUSED: u8 = 0xff;
/// The first byte of the packet that ends the log.
const END: u8 = 0xfe;

/// The events of a log.
pub(crate) struct Stream {
    wire: Wire,
    state: State,
    /// Events end with a checksum.
    checksums: bool,
    /// The head of a file has come.
    headed: bool,
}

enum State {
    /// The next packet has not been looked at.
    Between,
    /// An event of one packet lies at the front of the buffer, its packet being so long.
    Whole(usize),
    /// An event of several packets is being collected.
    Collecting { bytes: Vec<u8>, packet: Packet },
    /// It has been collected.
    Collected(Vec<u8>),
    /// A compressed transaction is being read.
    Payload(Box<Unpacking>),
}

/// What is left of the present packet, and whether it goes on in the next one.
#[derive(Clone, Copy)]
struct Packet {
    left: usize,
    goes_on: bool,
}

struct Unpacking {
    /// The header of the event that holds the others.
    header: [u8; HEADER_BYTES],
    payload: Payload,
    packet: Packet,
    /// Bytes of the payload that are still to come.
    left: usize,
    hasher: Hasher,
    /// What stands behind the payload.
    tail: Vec<u8>,
    /// The event within that is at the front.
    front: Option<usize>,
    /// All events have come out, and the checksum is right.
    done: bool,
}

impl Stream {
    /// The events of a connection that was asked for a log.
    pub(crate) fn new(wire: Wire) -> Stream {
        Stream { wire, state: State::Between, checksums: false, headed: false }
    }

    /// Waits for the next event, which [`Stream::frame`] then gives; the one before is gone. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<()> {
        self.release();
        loop {
            match &mut self.state {
                State::Between => self.look().await?,
                State::Collecting { bytes, packet } => {
                    if let Some(piece) = piece(&mut self.wire, packet, usize::MAX).await? {
                        if bytes.len() + piece > EVENT_BYTES_MAX {
                            return Err(broken(malformed("an event is too long")));
                        }
                        bytes.extend_from_slice(&self.wire.buffer()[..piece]);
                        self.wire.consume(piece);
                        packet.left -= piece;
                    } else {
                        self.state = State::Collected(std::mem::take(bytes));
                    }
                }
                State::Payload(unpacking) => {
                    unpacking.advance(&mut self.wire, self.checksums).await?;
                    return Ok(());
                }
                State::Whole(_) | State::Collected(_) => {
                    let bytes = self.bytes();
                    let kind = event::kind(bytes);
                    if kind == FORMAT {
                        (self.checksums, self.headed) = (event::has_checksums(bytes).map_err(broken)?, true);
                    }
                    if self.headed {
                        return Ok(());
                    }
                    self.release();
                }
            }
        }
    }

    /// The event that has come.
    pub(crate) fn frame(&self) -> Result<Frame<'_>> {
        if let State::Payload(unpacking) = &self.state {
            return unpacking.frame();
        }
        event::frame(verified(self.bytes(), self.checksums)?, false).map_err(broken)
    }

    /// Whether the event that has come begins at this offset of its file, by where it says that it ends.
    pub(crate) fn lies_at(&self, offset: u64) -> Result<bool> {
        let frame = self.frame()?;
        let end = offset + self.bytes().len() as u64;
        Ok(!frame.inner && frame.end == end as u32)
    }

    /// The event's bytes, which are all there.
    fn bytes(&self) -> &[u8] {
        match &self.state {
            State::Whole(length) => self.wire.buffer().get(HEAD_BYTES + 1..HEAD_BYTES + length).unwrap_or_default(),
            State::Collected(bytes) => bytes,
            State::Between | State::Collecting { .. } | State::Payload(_) => &[],
        }
    }

    /// Passes over the event that was given.
    fn release(&mut self) {
        match &mut self.state {
            State::Whole(length) => {
                let length = *length;
                self.wire.consume_head();
                self.wire.consume(length);
                self.state = State::Between;
            }
            State::Collected(_) => self.state = State::Between,
            State::Payload(unpacking) if unpacking.done => self.state = State::Between,
            State::Payload(unpacking) => unpacking.pass(),
            State::Between | State::Collecting { .. } => {}
        }
    }

    /// Looks at the next packet, and begins to read what it holds.
    async fn look(&mut self) -> Result<()> {
        let length = self.wire.peek().await?;
        let shown = HEAD_BYTES + length.min(1 + HEADER_BYTES + FIELDS_BYTES_MAX);
        self.wire.need(shown).await?;
        let bytes = &self.wire.buffer()[HEAD_BYTES..shown];
        match bytes.first() {
            Some(&EVENT) => {}
            Some(&REFUSED) => {
                self.wire.need(HEAD_BYTES + length).await?;
                return Err(refused(&refusal(&self.wire.buffer()[HEAD_BYTES..HEAD_BYTES + length])));
            }
            Some(&END) if length < 9 => return Err(Error::new(Code::ConnectionLost, "the server ended the log")),
            _ => return Err(out_of_place()),
        }
        if self.headed && event::kind(&bytes[1..]) == PAYLOAD {
            if length < PACKET_BYTES_MAX {
                // All of it at hand is verified before it is unpacked, so that damage is called by its name.
                self.wire.need(HEAD_BYTES + length).await?;
                verified(&self.wire.buffer()[HEAD_BYTES + 1..HEAD_BYTES + length], self.checksums)?;
            }
            let bytes = &self.wire.buffer()[HEAD_BYTES..shown];
            let unpacking = Unpacking::begin(&bytes[1..], length - 1, self.checksums).map_err(broken)?;
            self.wire.consume_head();
            self.wire.consume(length - unpacking.packet.left);
            self.state = State::Payload(Box::new(unpacking));
        } else if length < PACKET_BYTES_MAX {
            self.wire.need(HEAD_BYTES + length).await?;
            self.state = State::Whole(length);
        } else {
            // Room for all of it at once: it is not moved again and again. What is not written to takes no memory.
            let size = event::event_bytes(&bytes[1..]).map_err(broken)?.min(EVENT_BYTES_MAX);
            self.wire.consume_head();
            self.wire.consume(1);
            let packet = Packet { left: length - 1, goes_on: true };
            self.state = State::Collecting { bytes: Vec::with_capacity(size), packet };
        }
        Ok(())
    }
}

impl Unpacking {
    fn begin(bytes: &[u8], in_packet: usize, checksums: bool) -> Result<Unpacking, Malformed> {
        let size = event::event_bytes(bytes)?;
        let (header, fields) = bytes.split_first_chunk().ok_or(malformed("an event ends too early"))?;
        let tail = if checksums { CHECKSUM_BYTES } else { 0 };
        let body = size.checked_sub(HEADER_BYTES + tail).ok_or(malformed("an event ends too early"))?;
        let (payload, taken) = Payload::begin(fields, body)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes[..HEADER_BYTES + taken]);
        let packet = Packet { left: in_packet - HEADER_BYTES - taken, goes_on: in_packet + 1 == PACKET_BYTES_MAX };
        let left = body - taken;
        Ok(Unpacking { header: *header, payload, packet, left, hasher, front: None, tail: Vec::new(), done: false })
    }

    fn pass(&mut self) {
        if let Some(bytes) = self.front.take() {
            self.payload.pass(bytes);
        }
    }

    /// On to the next event within, or to the end.
    async fn advance(&mut self, wire: &mut Wire, checksums: bool) -> Result<()> {
        loop {
            self.front = self.payload.ready().map_err(broken)?;
            if self.front.is_some() {
                return Ok(());
            }
            if self.left > 0 {
                let Some(piece) = piece(wire, &mut self.packet, self.left).await? else {
                    return Err(broken(malformed("an event ends too early")));
                };
                let taken = self.payload.push(&wire.buffer()[..piece]).map_err(broken)?;
                self.hasher.update(&wire.buffer()[..taken]);
                self.take(wire, taken);
                self.left -= taken;
            } else if !self.payload.drain().map_err(broken)? {
                return self.end(wire, checksums).await;
            }
        }
    }

    /// All has come out: whether it is what the server wrote.
    async fn end(&mut self, wire: &mut Wire, checksums: bool) -> Result<()> {
        self.payload.finish().map_err(broken)?;
        let expected = if checksums { CHECKSUM_BYTES } else { 0 };
        while let Some(piece) = piece(wire, &mut self.packet, usize::MAX).await? {
            if self.tail.len() + piece > expected {
                return Err(broken(malformed("an event is longer than it says")));
            }
            self.tail.extend_from_slice(&wire.buffer()[..piece]);
            self.take(wire, piece);
        }
        if checksums && self.tail != self.hasher.clone().finalize().to_le_bytes() {
            return Err(damaged(MISMATCH));
        }
        self.done = true;
        Ok(())
    }

    fn take(&mut self, wire: &mut Wire, bytes: usize) {
        wire.consume(bytes);
        self.packet.left -= bytes;
    }

    fn frame(&self) -> Result<Frame<'_>> {
        match self.front {
            Some(bytes) => event::frame(self.payload.front(bytes), true).map_err(broken),
            None => event::frame(&self.header, false).map_err(broken),
        }
    }
}

/// A whole event, without the checksum that it has been held against.
fn verified(bytes: &[u8], checksums: bool) -> Result<&[u8]> {
    if event::event_bytes(bytes).map_err(broken)? != bytes.len() {
        return Err(broken(malformed("an event has another length than it says")));
    }
    if !checksums {
        return Ok(bytes);
    }
    let (body, checksum) = bytes.split_last_chunk().ok_or(broken(malformed("an event ends too early")))?;
    match event::checksum(body) == u32::from_le_bytes(*checksum) {
        true => Ok(body),
        false => Err(damaged(MISMATCH)),
    }
}

/// How many bytes at the front of the buffer are the next of the present packet, or of the one in which it goes
/// on: at least one, unless that is at its end.
async fn piece(wire: &mut Wire, packet: &mut Packet, most: usize) -> Result<Option<usize>> {
    while packet.left == 0 {
        if !packet.goes_on {
            return Ok(None);
        }
        let length = wire.peek().await?;
        wire.consume_head();
        *packet = Packet { left: length, goes_on: length == PACKET_BYTES_MAX };
    }
    let most = packet.left.min(most).min(PIECE_BYTES);
    wire.need(1).await?;
    Ok(Some(wire.buffer().len().min(most)))
}

fn broken(malformed: Malformed) -> Error {
    Error::new(Code::Protocol, format!("the log cannot be decoded: {}", malformed.0))
}

const MISMATCH: &str = "an event is not what its checksum says";

/// What the servers say of a log that they cannot read themselves (`Log_event::read_log_event` and
/// `Binlog_read_error` of their code).
const DAMAGES: [&str; 4] = ["truncated in the middle of event", "bogus data in log event", "crc check", "checksum"];

fn damaged(what: &str) -> Error {
    Error::new(Code::LogDamaged, format!("the log is damaged: {what}"))
        .hint("the server's disk or memory lost a part of the log: compare the tables and make them equal, then set the bridge up anew")
}

/// What the server says instead of the log. Error 1236 has many reasons, told by its text alone.
pub(crate) fn refused(error: &mysql_async::Error) -> Error {
    match error {
        mysql_async::Error::Server(server) if server.code == error::MASTER_FATAL => {
            let message = server.message.to_lowercase();
            if message.contains("same server_uuid/server_id") || message.contains("same server_id") {
                Error::new(Code::ServerIdTaken, "another replica connected with this reader's server_id")
            } else if message.contains("could not find first log") {
                lost(&server.message)
            } else if DAMAGES.iter().any(|damage| message.contains(damage)) {
                damaged(&server.message)
            } else if message.contains("impossible position") || message.contains("exceeds") {
                Error::new(Code::LogBehind, format!("the log ends before the position: {}", server.message))
            } else {
                Error::new(Code::LogLost, format!("the server does not give the log: {}", server.message))
            }
        }
        other => error::convert(other),
    }
}
