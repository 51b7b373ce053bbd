//! A place at which an operator says that the log is taken up: where a dump was taken.
//!
//! A server gives its log from any offset that is asked for, and what it finds there it takes for an event. So the place is
//! read before anything is set up. What lies there has to be an event: by its header it ends where it would, which an
//! offset into the middle of one does not meet (32 bits against chance, and the checksum beside them; mostly the server
//! itself refuses first). And it has to be one that no transaction is open before: every transaction begins with a GTID,
//! also an anonymous one, on all servers that are bridged; so that is one, or what stands between files. Where nothing lies,
//! because a file or the log ends there, no transaction is open either: servers write them whole (the end that is asked for
//! is such a place, see [`files::start`]).
//!
//! Then the log is read once up to its present end, as the bridge will read it. A transaction that was prepared by XA before
//! the place and committed after it is in no dump that was taken there, and its rows are in the log before it. What shows one is
//! its commit, without its rows since; those that are prepared now may be of that kind too. Where there is any, the
//! log has to be read from the first file on, where its rows must be.

use std::collections::HashSet;

use pontoon_core::{
    Beside, Code, Error, Position, Result,
    node::{PassedOver, Tables},
};

use crate::{
    connect::Purpose,
    files::{self, FIRST_OFFSET, File},
    log::{
        event::{self, FLAG_ARTIFICIAL, Message},
        statement::{self, Statement},
        stream::Stream,
        xa::{self, End, Word, Xid},
    },
    node::MysqlNode,
    reader::{Reader, Role},
};

/// The position with what goes along with it, if the log can be taken up there.
pub(crate) async fn at(node: &MysqlNode, position: &Position) -> Result<Position> {
    let Position::Binlog { base, file, offset, beside } = position else {
        return Err(Error::new(Code::Config, format!("{position} is no position of this server's log"))
            .hint("MySQL and MariaDB: binlog.000003:1234"));
    };
    let (base, offset) = (base.clone(), (*offset).max(FIRST_OFFSET));
    let place = Position::Binlog { base, file: *file, offset, beside: Beside { since: None, ..*beside } };
    let mut client = node.client(Purpose::Look).await?;
    let prepared = files::prepared(&mut client).await?;
    let files = files::files(&mut client).await?;
    let end = files::log_end(&mut client).await?;
    files::place(&files, &place, &end).map_err(|error| match error.code() {
        Code::LogBehind => unfit(&place, &format!("nothing is there, and the log ends at {end}")),
        Code::LogLost => unfit(&place, error.message()),
        _ => error,
    })?;
    let mut reader = Reader::open(node, Role::Tail, Some(&place), &Tables::from([]), &PassedOver::default()).await?;
    let mut look = Look {
        begins: files::ends(&files, &place, &end),
        older: prepared.is_some_and(|count| count > 0),
        since: HashSet::new(),
        place,
    };
    let mut birth = None;
    while !look.begins || birth.is_none() || !reader.position().covers(&end) {
        let seen = reader.step(|stream, message| look.see(stream, message)).await;
        seen.map_err(|error| look.judge(error))?;
        if let Position::Binlog { beside, .. } = reader.position() {
            birth = birth.or(beside.birth);
        }
    }
    Ok(look.position(birth, &files))
}

/// What has been seen of the log.
struct Look {
    place: Position,
    /// A transaction can begin at the place.
    begins: bool,
    /// A transaction that was prepared before the place may be committed behind it.
    older: bool,
    /// Those that were prepared since, and are not decided.
    since: HashSet<Xid>,
}

impl Look {
    fn see(&mut self, stream: &Stream, message: &Message<'_>) -> Result<()> {
        if !self.begins {
            return self.see_first(stream, message);
        }
        match message {
            Message::XaPrepare(End::Prepare(xid)) => {
                self.since.insert(xid.clone());
            }
            Message::Query(query) if statement::classify(&query.sql) == Statement::Xa => {
                if let Some(Word::Decide(End::Decide { xid, commits })) = xa::statement(&query.sql) {
                    self.older |= !self.since.remove(&xid) && commits;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The first event that is in the file, or word that there is none.
    fn see_first(&mut self, stream: &Stream, message: &Message<'_>) -> Result<()> {
        let frame = stream.frame()?;
        let idle = matches!(message, Message::Heartbeat { .. });
        if !idle && (frame.end == 0 || frame.flags & FLAG_ARTIFICIAL != 0) {
            return Ok(());
        }
        let Position::Binlog { offset, .. } = self.place else { return Ok(()) };
        self.begins = !idle && stream.lies_at(offset)? && event::stands_between(frame.kind, message);
        if self.begins { Ok(()) } else { Err(unfit(&self.place, BETWEEN)) }
    }

    /// What cannot be read at the place itself is no event.
    fn judge(&self, error: Error) -> Error {
        match error.code() {
            Code::LogIdentityChanged => unfit(&self.place, error.message()),
            Code::Protocol | Code::LogDamaged | Code::LogLost | Code::LogBehind if !self.begins => {
                unfit(&self.place, &format!("{BETWEEN} ({})", error.message()))
            }
            _ => error,
        }
    }

    fn position(self, birth: Option<u32>, files: &[File]) -> Position {
        let Position::Binlog { base, file, offset, .. } = self.place else { return self.place };
        let since = files::first(files).filter(|first| self.older && *first < (file, offset));
        Position::Binlog { base, file, offset, beside: Beside { birth, since, gtid: None } }
    }
}

const BETWEEN: &str = "no transaction begins there";

fn unfit(place: &Position, why: &str) -> Error {
    Error::new(Code::PositionUnfit, format!("the log cannot be taken up at {place}: {why}")).hint(
        "take the dump again with its position (mysqldump --single-transaction --source-data, mariadb-dump \
         --single-transaction --master-data), load it, and name that one",
    )
}
