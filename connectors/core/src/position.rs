//! A place in a log, and which log that is.
//!
//! Positions are typed: an LSN is never compared with a binlog offset, and a position is only
//! meaningful beside the [`LogIdentity`] of the log that it was taken from.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Code, Error},
    gtid::Gtid,
};

/// What goes along with a place in a binary log into what is durable. It is no part of the place: whichever of two
/// equal places knows more, they are equal.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Beside {
    /// When the file was begun, in seconds since 1970 UTC as its first event says; `None` where only the place is
    /// known. After a reset, or in a server that was restored from a copy of its files, a file of the same name is
    /// another one, and the place in it is none of ours.
    pub birth: Option<u32>,
    /// Number of the file and offset from which the log has to be read again, where that is before the place: there
    /// begins the oldest transaction that was prepared before it and not decided.
    pub since: Option<(u64, u64)>,
    /// The last transaction before the place, where that is known: by it the place is found in the log of a replica.
    pub gtid: Option<Gtid>,
}

impl PartialEq for Beside {
    fn eq(&self, _: &Beside) -> bool {
        true
    }
}

impl Eq for Beside {}

impl Hash for Beside {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A place in one server's log. A transaction's position is the *end* of its commit: a fence at `f`
/// covers exactly the transactions whose position is at most `f`.
///
/// * PostgreSQL: the commit record's `end_lsn`, as text `0/16B3748` (manual, "pg_lsn Type").
/// * MySQL, MariaDB: file and offset after the commit event, as text `binlog.000003:1234`. Files of
///   one server are ordered by their number, which never restarts short of `RESET`.
/// * memory: the index of the entry in the simulated log, as text `#17`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Position {
    /// A PostgreSQL log sequence number.
    Lsn(u64),
    /// A binary log's file and the offset in it.
    Binlog {
        /// The name before the number: `binlog` of `binlog.000003`.
        base: Box<str>,
        /// The number of the file.
        file: u64,
        /// Bytes from the beginning of the file.
        offset: u64,
        /// What is no part of the place.
        beside: Beside,
    },
    /// The number of entries of a simulated log.
    Index(u64),
}

impl Position {
    /// A position as it was noted with a dump: as it is shown, or as the tools of MySQL and MariaDB write it, a file and an
    /// offset with white space between (a physical backup), or the statement that gives them to a replica.
    pub fn noted(text: &str) -> Result<Position, Error> {
        let behind = |word: &str| {
            let at = text.to_ascii_uppercase().find(word)? + word.len();
            text.get(at..)?.trim_start().strip_prefix('=').map(str::trim_start)
        };
        let quoted = |text: &'_ str| text.strip_prefix('\'')?.split_once('\'').map(|(file, _)| file.to_owned());
        let number = |text: &'_ str| text.split(|c: char| !c.is_ascii_digit()).next().map(str::to_owned);
        let statement = behind("_LOG_FILE").and_then(quoted).zip(behind("_LOG_POS").and_then(number));
        let mut words = text.split_whitespace().map(str::to_owned);
        let pair = statement.or_else(|| words.next().zip(words.next()));
        match pair {
            Some((file, offset)) => format!("{file}:{offset}").parse(),
            None => text.trim().parse(),
        }
    }

    /// Whether everything up to `other` is covered by this position. `false` for positions of
    /// different kinds, which no log mixes.
    pub fn covers(&self, other: &Position) -> bool {
        matches!(self.partial_cmp(other), Some(Ordering::Greater | Ordering::Equal))
    }

    /// Bytes of log between `earlier` and this position; `None` where that is not known from the
    /// two positions alone (another file).
    pub fn bytes_since(&self, earlier: &Position) -> Option<u64> {
        match (self, earlier) {
            (Position::Lsn(a), Position::Lsn(b)) | (Position::Index(a), Position::Index(b)) => a.checked_sub(*b),
            (Position::Binlog { file: a, offset: x, .. }, Position::Binlog { file: b, offset: y, .. }) if a == b => {
                x.checked_sub(*y)
            }
            _ => None,
        }
    }

    /// The text that is kept where the position is durable: as it is shown; when the file was begun; where reading has to begin
    /// again, where that is before it; and the last transaction before it: `binlog.000003:1234@1764000000<2:900=0-1-77`.
    pub fn durable(&self) -> String {
        let mut text = self.to_string();
        if let Position::Binlog { beside, .. } = self {
            if let Some(birth) = beside.birth {
                text += &format!("@{birth}");
            }
            if let Some((file, offset)) = beside.since {
                text += &format!("<{file}:{offset}");
            }
            if let Some(gtid) = beside.gtid {
                text += &format!("={gtid}");
            }
        }
        text
    }

    /// A text that was kept, as it is shown.
    pub fn shown(durable: &str) -> String {
        durable.parse().map_or_else(|_| durable.to_owned(), |position: Position| position.to_string())
    }

    /// Where the log has to be read from to go on behind this position.
    pub fn since(&self) -> Position {
        match self {
            Position::Binlog { base, beside: Beside { since: Some((file, offset)), .. }, .. } => {
                Position::Binlog { base: base.clone(), file: *file, offset: *offset, beside: Beside::default() }
            }
            _ => self.clone(),
        }
    }

    /// The last transaction before it, where that is known.
    pub fn gtid(&self) -> Option<Gtid> {
        match self {
            Position::Binlog { beside, .. } => beside.gtid,
            _ => None,
        }
    }

    /// The name of the binary log file, with its number padded as the server does (six digits).
    pub fn binlog_file(&self) -> Option<String> {
        match self {
            Position::Binlog { base, file, .. } => Some(format!("{base}.{file:06}")),
            _ => None,
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Position::Lsn(a), Position::Lsn(b)) | (Position::Index(a), Position::Index(b)) => Some(a.cmp(b)),
            (
                Position::Binlog { file: a, offset: x, base, .. },
                Position::Binlog { file: b, offset: y, base: other, .. },
            ) => (base == other).then(|| (a, x).cmp(&(b, y))),
            _ => None,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Lsn(lsn) => write!(f, "{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF),
            Position::Binlog { base, file, offset, .. } => write!(f, "{base}.{file:06}:{offset}"),
            Position::Index(index) => write!(f, "#{index}"),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| {
            Error::new(Code::Config, format!("{text:?} is not a log position"))
                .hint("PostgreSQL: 0/16B3748; MySQL and MariaDB: binlog.000003:1234")
        })
    }
}

fn parse(text: &str) -> Option<Position> {
    if let Some(index) = text.strip_prefix('#') {
        return index.parse().ok().map(Position::Index);
    }
    let (text, gtid) = match text.rsplit_once('=').and_then(|(text, gtid)| Some((text, gtid.parse().ok()?))) {
        Some((text, gtid)) => (text, Some(gtid)),
        None => (text, None),
    };
    let (text, since) = match text.rsplit_once('<').and_then(|(text, since)| Some((text, place(since)?))) {
        Some((text, since)) => (text, Some(since)),
        None => (text, None),
    };
    if let Some((path, offset)) = text.rsplit_once(':') {
        let (base, file) = path.rsplit_once('.')?;
        let (offset, birth) = match offset.split_once('@') {
            Some((offset, birth)) => (offset, Some(u32::try_from(digits(birth)?).ok()?)),
            None => (offset, None),
        };
        let (file, offset) = (digits(file)?, digits(offset)?);
        let beside = Beside { birth, since, gtid };
        return (!base.is_empty()).then(|| Position::Binlog { base: base.into(), file, offset, beside });
    }
    if since.is_some() || gtid.is_some() {
        return None;
    }
    let (high, low) = text.split_once('/')?;
    let half = |s: &str| (s.len() <= 8 && !s.starts_with('+')).then(|| u64::from_str_radix(s, 16).ok()).flatten();
    Some(Position::Lsn(half(high)? << 32 | half(low)?))
}

/// Number of a file and an offset.
fn place(text: &str) -> Option<(u64, u64)> {
    let (file, offset) = text.split_once(':')?;
    Some((digits(file)?, digits(offset)?))
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Which log a position belongs to.
///
/// * PostgreSQL: system identifier and timeline (`IDENTIFY_SYSTEM`).
/// * MySQL: `@@server_uuid`; MariaDB: `@@server_uid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogIdentity(pub Box<str>);

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gtid::tests::gtids;

    fn positions() -> impl Strategy<Value = Position> {
        prop_oneof![
            any::<u64>().prop_map(Position::Lsn),
            any::<u64>().prop_map(Position::Index),
            (
                "[a-z][a-z.:@<=0-9-]{0,12}",
                any::<(u64, u64)>(),
                any::<Option<u32>>(),
                any::<Option<(u64, u64)>>(),
                proptest::option::of(gtids())
            )
                .prop_map(|(base, (file, offset), birth, since, gtid)| Position::Binlog {
                    base: base.into(),
                    file,
                    offset,
                    beside: Beside { birth, since, gtid },
                }),
        ]
    }

    proptest! {
        #[test]
        fn text_round_trips(position in positions()) {
            prop_assert_eq!(&position.to_string().parse::<Position>().unwrap(), &position);
            let durable = position.durable();
            let read: Position = durable.parse().unwrap();
            prop_assert_eq!(&read, &position);
            prop_assert_eq!(read.durable(), durable);
            prop_assert!(position.since().durable().parse::<Position>().is_ok());
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,40}") {
            let _ = (text.parse::<Position>(), Position::noted(&text));
        }
    }

    #[test]
    fn lsn_prints_as_the_server_does() {
        assert_eq!(Position::Lsn(0x16B_3748).to_string(), "0/16B3748");
        assert_eq!("16/B374D848".parse::<Position>().unwrap(), Position::Lsn(0x16_B374_D848));
    }

    #[test]
    fn dumps_note_positions_in_their_own_words() {
        let binlog = "binlog.000003:1234".parse().ok();
        for text in [
            "binlog.000003:1234",
            " binlog.000003:1234\n",
            "binlog.000003\t1234\t0-1-77\n",
            "-- CHANGE MASTER TO MASTER_LOG_FILE='binlog.000003', MASTER_LOG_POS=1234;",
            "CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE = 'binlog.000003', SOURCE_LOG_POS = 1234;",
        ] {
            assert_eq!(Position::noted(text).ok(), binlog, "{text}");
        }
        assert_eq!(Position::noted("0/16B3748\n").ok(), Some(Position::Lsn(0x16B_3748)));
        for text in ["", "binlog.000003", "binlog.000003 x", "MASTER_LOG_FILE='binlog.000003", "CHANGE MASTER TO x=1;"]
        {
            assert!(Position::noted(text).is_err(), "{text}");
        }
    }

    #[test]
    fn logs_are_not_mixed() {
        let binlog: Position = "binlog.000003:400".parse().unwrap();
        assert!(binlog.covers(&"binlog.000002:9000".parse().unwrap()));
        assert!(!binlog.covers(&Position::Lsn(1)));
        assert!(!binlog.covers(&"other.000001:4".parse().unwrap()));
    }
}
