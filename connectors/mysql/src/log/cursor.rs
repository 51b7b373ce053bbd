//! Bytes, taken from the front, never beyond the end.

use super::{Malformed, malformed};

/// A place in an event's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        match self.0.split_at_checked(count) {
            Some((taken, rest)) => {
                self.0 = rest;
                Ok(taken)
            }
            None => Err(malformed("an event ends too early")),
        }
    }

    /// Passes over bytes.
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of 1 to 8 bytes, the least significant first.
    pub(crate) fn little(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes.min(8))?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// An unsigned number of 1 to 8 bytes, the most significant first.
    pub(crate) fn big(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes.min(8))?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A length-encoded number of the client protocol.
    pub(crate) fn length(&mut self) -> Result<u64, Malformed> {
        match self.byte()? {
            byte @ 0..=250 => Ok(byte.into()),
            252 => self.little(2),
            253 => self.little(3),
            254 => self.little(8),
            _ => Err(malformed("an event holds a length that is none")),
        }
    }

    /// As [`Cursor::length`], where it must fit into what is left.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.length()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.0.len().saturating_mul(8))
            .ok_or(malformed("an event claims more than it holds"))
    }

    /// A text that its length stands before.
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count()?;
        self.take(count)
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
