//! What a server says while a client logs in, looked through for the request of a password in the clear.
//!
//! The driver sends the password wherever it is asked for it (`AuthenticationCleartextPassword`). Without TLS whoever listens would
//! learn it, and whoever answers in the server's place could ask for it. So the connection ends before the driver sees the request.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

use pontoon_core::{Code, Error};

use crate::watch::Asked;

/// What a message of authentication begins with, and the requests in it that matter here (manual, "Message Formats").
const AUTHENTICATION: u8 = b'R';
const OK: u32 = 0;
const CLEARTEXT_PASSWORD: u32 = 3;

/// The kind of a message and its length, which does not count the kind; and the kind of a request.
const HEAD_BYTES: usize = 5;
const REQUEST_BYTES: usize = 4;

/// Looks through what comes, in whatever pieces it does, up to where the login is done.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    head: Vec<u8>,
    /// Bytes of the message that are of no interest.
    rest: usize,
    done: bool,
}

/// That a server asked for the password in the clear.
#[derive(Debug, Default)]
pub(crate) struct InTheClear(AtomicBool);

impl InTheClear {
    pub(crate) fn was_asked_for(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Scan {
    /// Takes what was read. Errors: the password is asked for in the clear, which is noted.
    pub(crate) fn take(&mut self, bytes: &[u8], asked: &Asked) -> io::Result<()> {
        if !self.asks(bytes) {
            return Ok(());
        }
        asked.in_the_clear.0.store(true, Ordering::Relaxed);
        Err(io::Error::other("a password in the clear is not sent"))
    }

    fn asks(&mut self, mut bytes: &[u8]) -> bool {
        while !self.done && !bytes.is_empty() {
            let passed = self.rest.min(bytes.len());
            (self.rest, bytes) = (self.rest - passed, &bytes[passed..]);
            let Some((first, others)) = bytes.split_first() else { return false };
            self.head.push(*first);
            bytes = others;
            if self.message() {
                return true;
            }
        }
        false
    }

    /// What is known of the message that has begun: whether it is the one that is looked for.
    fn message(&mut self) -> bool {
        let Some((head, body)) = self.head.split_at_checked(HEAD_BYTES) else { return false };
        let number = |bytes: &[u8]| bytes.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        let known = HEAD_BYTES - 1 + body.len();
        let length = number(&head[1..]) as usize;
        if head[0] == AUTHENTICATION && length >= HEAD_BYTES - 1 + REQUEST_BYTES && body.len() < REQUEST_BYTES {
            return false;
        }
        let request = (head[0] == AUTHENTICATION && body.len() == REQUEST_BYTES).then(|| number(body));
        // What has no such length is none of the protocol: that the driver says.
        self.done = request == Some(OK) || length < known;
        self.rest = length.saturating_sub(known);
        self.head.clear();
        request == Some(CLEARTEXT_PASSWORD)
    }
}

/// The error of a login that would send the password in the clear.
pub(crate) fn in_the_clear() -> Error {
    Error::new(Code::LoginRefused, "the server wants the password in clear text")
        .hint("use scram-sha-256 in pg_hba.conf, or TLS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn asks(stream: &[u8], at_a_time: usize) -> bool {
        let mut scan = Scan::default();
        stream.chunks(at_a_time).any(|piece| scan.asks(piece))
    }

    #[test]
    fn the_request_is_found_however_it_comes() {
        let version = message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
        let sasl = message(b'R', &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
        let clear = message(b'R', &3u32.to_be_bytes());
        let ok = message(b'R', &0u32.to_be_bytes());
        let rows = message(b'D', &3u32.to_be_bytes());
        for at_a_time in 1..40 {
            for before in [vec![], version.clone(), sasl.clone(), [version.clone(), sasl.clone()].concat()] {
                assert!(asks(&[before.clone(), clear.clone()].concat(), at_a_time), "{before:?} {at_a_time}");
                assert!(
                    !asks(&[before.clone(), ok.clone(), rows.clone()].concat(), at_a_time),
                    "{before:?} {at_a_time}"
                );
                // Behind the login it is data.
                assert!(!asks(&[before, ok.clone(), clear.clone()].concat(), at_a_time));
            }
            let error = message(b'E', b"");
            assert!(asks(&[error, clear.clone()].concat(), at_a_time));
            assert!(!asks(b"HTTP/1.1 400 Bad Request\r\n\r\n", at_a_time));
            assert!(!asks(&[b'R', 0, 0, 0, 2, 0, 0, 0, 3], at_a_time));
        }
    }
}
