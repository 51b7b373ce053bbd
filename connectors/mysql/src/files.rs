//! The files of the log: where it ends, what it takes, and whether a place is still in it.
//!
//! `SHOW BINARY LOGS` lists the files with their sizes; the end is told by another statement, since the
//! last file's size may lag behind it. A place in a file that is gone is lost; one beyond a file's end is
//! of a log that was longer: the server lost its last transactions.

use pontoon_core::{Beside, Code, Error, Position, Result};

use crate::connect::{Client, number, text};

/// Offsets that the request for a log by file can name have 32 bits.
const OFFSET_MAX: u64 = u32::MAX as u64;

/// The beginning of the events of a file.
pub(crate) const FIRST_OFFSET: u64 = 4;

/// One file of the log.
pub(crate) struct File {
    pub(crate) name: String,
    bytes: u64,
}

/// The place is gone.
pub(crate) fn lost(what: &str) -> Error {
    Error::new(Code::LogLost, format!("the log is not there any more: {what}"))
        .hint("compare the tables and make them equal, then set the bridge up anew; keep logs longer (binlog_expire_logs_seconds)")
}

/// The files that the server has.
pub(crate) async fn files(client: &mut Client) -> Result<Vec<File>> {
    let rows = client.rows("SHOW BINARY LOGS").await?;
    Ok(rows.iter().filter_map(|row| Some(File { name: text(row, 0)?, bytes: number(row, 1)? })).collect())
}

/// Sizes of a log, in bytes.
pub(crate) struct Sizes {
    /// From a place to the end, where the place is known.
    pub(crate) behind: Option<u64>,
    /// From the beginning of the file that the place is in, which goes as a whole.
    pub(crate) needed: Option<u64>,
    /// Of all files.
    pub(crate) all: u64,
}

/// How long the log is, and what is behind a place.
pub(crate) async fn sizes(client: &mut Client, since: Option<&Position>, end: &Position) -> Result<Sizes> {
    let files = files(client).await?;
    let all = files.iter().map(|file| file.bytes).sum();
    let Some(since @ Position::Binlog { offset, .. }) = since else {
        return Ok(Sizes { behind: None, needed: None, all });
    };
    let in_files = since.binlog_file().and_then(|name| {
        let at = files.iter().position(|file| file.name == name)?;
        Some(files[at..].iter().map(|file| file.bytes).sum::<u64>().saturating_sub(*offset))
    });
    // The last file may be longer than it is said to be.
    let behind = end.bytes_since(since).or(in_files);
    Ok(Sizes { behind, needed: behind.map(|behind| behind + offset), all })
}

/// The log's end, now.
pub(crate) async fn log_end(client: &mut Client) -> Result<Position> {
    let statement = client.server.log_end_statement();
    let rows = client.rows(statement).await?;
    let row = rows.first().ok_or_else(|| {
        Error::new(Code::SettingWrong, "the server writes no binary log").hint("start it with log_bin")
    })?;
    let (base, file) = split(&text(row, 0).unwrap_or_default()).map(|(base, file)| (base.to_owned(), file))?;
    Ok(Position::Binlog {
        base: base.into(),
        file,
        offset: number(row, 1).unwrap_or_default(),
        beside: Beside::default(),
    })
}

/// How many transactions are prepared and undecided; `None` where this user may not see them.
pub(crate) async fn prepared(client: &mut Client) -> Result<Option<usize>> {
    match client.rows("XA RECOVER").await {
        Ok(rows) => Ok(Some(rows.len())),
        Err(error) if error.code() == Code::PrivilegeMissing => Ok(None),
        Err(error) => Err(error),
    }
}

/// The log's end, now, so that what is committed from now on is read behind it: also what was prepared before.
///
/// What is prepared before the first look at the end and undecided at the second is among the prepared in between; then
/// the log is read from the first file on, where its beginning must be. All others begin behind the first look.
pub(crate) async fn start(client: &mut Client) -> Result<Position> {
    let before = log_end(client).await?;
    let first = match prepared(client).await? {
        Some(1..) => first(&files(client).await?),
        Some(0) | None => None,
    };
    let mut end = log_end(client).await?;
    if let (Position::Binlog { beside, .. }, Position::Binlog { file, offset, .. }) = (&mut end, before) {
        beside.since = first.or(Some((file, offset)));
    }
    Ok(end)
}

/// Number of the first file, and where its events begin.
pub(crate) fn first(files: &[File]) -> Option<(u64, u64)> {
    split(&files.first()?.name).ok().map(|(_, number)| (number, FIRST_OFFSET))
}

/// Whether nothing is at a place because a file of the log ends there.
pub(crate) fn ends(files: &[File], place: &Position, end: &Position) -> bool {
    let Position::Binlog { offset, .. } = place else { return false };
    let name = place.binlog_file();
    let closed = files.split_last().map_or(&[][..], |(_, closed)| closed);
    place == end || closed.iter().any(|file| name.as_ref() == Some(&file.name) && file.bytes == *offset)
}

/// Base and number of a file's name.
pub(crate) fn split(file: &str) -> Result<(&str, u64)> {
    file.rsplit_once('.')
        .and_then(|(base, number)| Some((base, number.parse().ok()?)))
        .ok_or_else(|| Error::new(Code::Protocol, format!("the log file {file:?} has no number")))
}

/// File and offset to ask for, if the server still has them.
pub(crate) fn place(files: &[File], start: &Position, end: &Position) -> Result<(String, u64)> {
    let (Position::Binlog { base, offset, .. }, Some(name)) = (start, start.binlog_file()) else {
        return Err(Error::new(Code::LogIdentityChanged, format!("the position {start} is none of a binary log")));
    };
    let first = files.first().map_or("none", |file| file.name.as_str());
    let Some(at) = files.iter().position(|file| file.name == name) else {
        let known = files.iter().any(|file| split(&file.name).is_ok_and(|(known, _)| *known == **base));
        if known && !end.covers(start) {
            return Err(behind(start, end));
        }
        return Err(lost(&format!("{name} is gone, the first file is {first}")));
    };
    // The last file's size in the list may lag behind its end.
    let last = at + 1 == files.len();
    let bytes = if last { end.bytes_since(&start_of(start)).unwrap_or(files[at].bytes) } else { files[at].bytes };
    if *offset > bytes {
        return Err(behind(start, end));
    }
    if *offset > OFFSET_MAX {
        // Only the end of a huge transaction lies there, and the file ends with it.
        return match files.get(at + 1) {
            Some(next) if *offset >= bytes => Ok((next.name.clone(), FIRST_OFFSET)),
            _ => Err(Error::new(
                Code::ServerBusy,
                format!("the server cannot be asked for a position beyond 4 GiB: {start}"),
            )
            .hint("FLUSH BINARY LOGS on the server")),
        };
    }
    Ok((name, (*offset).max(FIRST_OFFSET)))
}

/// The same for where reading has to begin again to go on behind a position.
pub(crate) fn since(files: &[File], start: &Position, end: &Position) -> Result<(String, u64)> {
    let mut from = start.since();
    if let Position::Binlog { offset, .. } = &mut from
        && *offset > OFFSET_MAX
    {
        // Its file from the beginning: more is read than need be.
        *offset = FIRST_OFFSET;
    }
    place(files, &from, end).map_err(|error| {
        let text = format!("a transaction that was prepared by XA at {} is not decided: {}", start.since(), error.message());
        Error::new(error.code(), text).hint(
            "XA COMMIT or XA ROLLBACK what XA RECOVER lists; compare the tables and make them equal, then set the bridge \
             up anew",
        )
    })
}

fn start_of(position: &Position) -> Position {
    match position {
        Position::Binlog { base, file, beside, .. } => {
            Position::Binlog { base: base.clone(), file: *file, offset: 0, beside: *beside }
        }
        other => other.clone(),
    }
}

/// The log ends before a place in it that is known.
pub(crate) fn behind(start: &Position, end: &Position) -> Error {
    Error::new(Code::LogBehind, format!("the position {start} is behind us, and the log ends at {end}"))
        .hint("the log was reset, or the server lost its last transactions: compare the tables and make them equal, then set the bridge up anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<File> {
        [("b.x.000002", 500), ("b.x.000003", 900)].map(|(name, bytes)| File { name: name.into(), bytes }).into()
    }

    fn at(text: &str) -> Position {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_found_or_the_reason_is_told() {
        let end = at("b.x.000003:900");
        let code = |start: &str| place(&files(), &at(start), &end).map_err(|error| error.code());
        assert_eq!(code("b.x.000002:500"), Ok(("b.x.000002".into(), 500)));
        assert_eq!(code("b.x.000003:900"), Ok(("b.x.000003".into(), 900)));
        assert_eq!(code("b.x.000001:100"), Err(Code::LogLost));
        assert_eq!(code("other.000002:100"), Err(Code::LogLost));
        assert_eq!(code("b.x.000002:501"), Err(Code::LogBehind));
        assert_eq!(code("b.x.000003:901"), Err(Code::LogBehind));
        assert_eq!(code("b.x.000004:4"), Err(Code::LogBehind));
        assert_eq!(code("0/1"), Err(Code::LogIdentityChanged));
    }
}
