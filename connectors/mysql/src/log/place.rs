//! Where in the log the reader is: files, offsets, the place that it was opened at, and progress.
//!
//! The 32 bits of an event's end are widened by the place of the event before: a transaction beyond 4 GiB
//! is in one file.

use pontoon_core::{Beside, Code, Error, Position, Progress, Result, calendar};

use super::{
    assemble::Assembler,
    event::{FLAG_ARTIFICIAL, Frame, Message},
};

impl Assembler {
    /// Where the last event ended.
    pub(crate) fn position(&self) -> Position {
        let gtid = self.gtids[usize::from(self.transaction.is_some())];
        let beside = Beside { birth: self.birth, since: self.since, gtid };
        Position::Binlog { base: self.base.clone(), file: self.file, offset: self.offset, beside }
    }

    /// Not yet at the place that the log was opened at.
    pub(super) fn is_behind(&self) -> bool {
        (self.file, self.offset) < self.until.0
    }

    /// On to the end of an event that is in the file.
    pub(super) fn advance(&mut self, frame: Frame<'_>, message: &Message<'_>) {
        self.begins = (self.file, self.offset);
        if frame.end != 0
            && frame.flags & FLAG_ARTIFICIAL == 0
            && !frame.inner
            && !matches!(message, Message::Heartbeat { .. } | Message::Rotate { .. })
        {
            self.offset = widen(self.offset, frame.end);
        }
    }

    /// Another file follows.
    pub(super) fn rotate(&mut self, file: &str, offset: u64, artificial: bool) -> Result<()> {
        let number = file.rsplit_once('.').and_then(|(base, number)| Some((base, number.parse::<u64>().ok()?)));
        let Some((base, number)) = number else {
            return Err(Error::new(Code::Protocol, format!("the log goes on in a file that has no number: {file:?}")));
        };
        let same = *self.base == *base && self.file == number;
        if self.transaction.as_ref().is_some_and(|transaction| transaction.begun) && !same {
            return Err(Error::new(
                Code::Protocol,
                format!("the log at {} ends within a transaction", self.position()),
            ));
        }
        if !same {
            self.birth = self.until.1.filter(|_| self.until.0.0 == number);
        }
        if !same || artificial {
            self.base = base.into();
            self.file = number;
            self.offset = offset;
            self.transaction = None;
        }
        Ok(())
    }

    /// The head of a file, which says when it was begun; a fence may stand behind it. Read from its middle, a
    /// file shows its head all the same.
    pub(super) fn head(&mut self, seconds: u32) -> Result<()> {
        if let Some(expected) = self.birth
            && expected != seconds
        {
            let time = |seconds: u32| calendar::format_instant(i64::from(seconds) * 1_000_000);
            return Err(Error::new(
                Code::LogIdentityChanged,
                format!(
                    "the position {} is in a file that was begun at {}, the server's was begun at {}",
                    self.position(),
                    time(expected),
                    time(seconds)
                ),
            )
            .hint(
                "the log was reset, or the server restored from a copy: compare the tables and make them equal, then \
                 set the bridge up anew",
            ));
        }
        self.birth = Some(seconds);
        self.progress(None);
        Ok(())
    }

    /// The log is idle; the server's clock says that it is `now`.
    pub(super) fn heartbeat(&mut self, file: &str, offset: u64, now: i64) {
        let here = file == self.position().binlog_file().unwrap_or_default();
        if self.transaction.is_none() && here {
            self.offset = self.offset.max(widen(self.offset, offset as u32));
            self.progress(Some(now));
        }
    }

    /// Remembers that nothing is to be applied up to here; only between transactions.
    pub(super) fn progress(&mut self, time: Option<i64>) {
        if self.transaction.is_none() && !self.is_behind() {
            let before = self.pending.take().map(|progress| (progress.barrier, progress.passed_over));
            let (barrier, passed_over) = before.unwrap_or_default();
            self.pending = Some(Progress { position: self.position(), time, barrier, passed_over });
        }
    }
}

fn widen(before: u64, end: u32) -> u64 {
    let wide = before & !u64::from(u32::MAX) | u64::from(end);
    if wide < before { wide + (1 << 32) } else { wide }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connect::Flavour,
        log::assemble::tests::{assembler, frame},
    };

    #[test]
    fn files_beyond_four_gigabytes_go_on() {
        assert_eq!(widen(u64::from(u32::MAX) - 5, 10), (1 << 32) + 10);
        assert_eq!(widen((1 << 32) + 10, 20), (1 << 32) + 20);
        assert_eq!(widen(100, 100), 100);
    }

    #[test]
    fn a_file_of_the_same_name_is_not_the_same_file() {
        let mut log = assembler(Flavour::Mysql, &[]);
        log.feed(frame(15, 0, &[]), Message::Head, 0).unwrap();
        assert_eq!(log.position().durable(), "bin.000001:100@1");
        log.feed(frame(15, 0, &[]), Message::Head, 0).unwrap();
        let refused = log.feed(Frame { seconds: 2, ..frame(15, 0, &[]) }, Message::Head, 0).unwrap_err();
        assert_eq!(refused.code(), Code::LogIdentityChanged);
    }
}
