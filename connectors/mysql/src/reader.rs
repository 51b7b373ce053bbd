//! Reads the log as a replica would, from a file and an offset.
//!
//! Before the first event it is made sure that the log is the one meant, that its settings are fit and
//! that the server still has the place. The server's identity is not enough for that: a log that was reset, or that
//! a server restored from a copy has written since, may have grown past the place again. So a position goes with the
//! time at which its file was begun, in the first event of every file; both servers show it also to who reads from
//! the file's middle (`Binlog_sender::send_format_description_event` of MySQL's `sql/rpl_binlog_sender.cc`,
//! `send_format_descriptor_event` of MariaDB's `sql/sql_repl.cc`: only the position and the creation flag are blanked). While the log is idle the server sends a heartbeat each second:
//! it says that everything up to its position has been sent, so its arrival is progress with a time; and
//! its absence is a dead peer.
//!
//! To the server a reader is a replica, known by its `server_id`: a second one with the same number
//! throws the first out (error 1236). The number is derived from the bridge's and the node's names, and
//! steps aside from those that the server knows.
//!
//! Nothing is ever confirmed: these servers keep their log by time and size, not for a reader.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::FutureExt;
use pontoon_core::{
    Beside, Code, Error, LogEvent, LogIdentity, Position, Result, TableName,
    node::{LogReader, PassedOver, Tables},
};

use crate::{
    catalog::{self, NativeTable},
    charset::Charsets,
    connect::{Client, Flavour, IDLE_SECONDS, Purpose, Target, number, text},
    files::{FIRST_OFFSET, behind, files, log_end, place, since, split},
    log::{
        assemble::{Assembler, Reading},
        compressed,
        event::{self, Message},
        stream::Stream,
        wire::Wire,
    },
    node::{MysqlNode, identity},
    redefined::Ahead,
};

/// The server is asked for a heartbeat after so many nanoseconds without an event.
const HEARTBEAT_NANOS: u64 = 1_000_000_000;

/// Silence longer than this, ten heartbeats, is a dead peer.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// While foreign transactions follow each other without a pause, progress is told this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// A log that is never idle shows up to when it has been read this often: what the lag is measured by.
const TIME_EVERY: Duration = Duration::from_secs(1);

/// An idle log is looked at this often: whether it still is the one that is read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A long transaction of foreign tables gives the reader nothing to wait for and nothing to yield: after so many
/// events it lets others run.
const EVENTS_BEFORE_YIELD: u32 = 1024;

/// Which reader of a bridge it is.
pub(crate) enum Role {
    /// The one that the bridge lives by.
    Bridge {
        /// The log that the position is in.
        log: LogIdentity,
    },
    /// One that only looks, beside it.
    Tail,
}

/// A reader.
pub(crate) struct Reader {
    stream: Stream,
    assembler: Assembler,
    /// Since others were let run.
    events: u32,
    /// Looks ahead before the first event is read.
    ahead: Option<Box<Ahead>>,
    target: Target,
    shape: Vec<Option<NativeTable>>,
    names: Vec<TableName>,
    clock: Clock,
    told: Instant,
    time_told: Instant,
    /// Looks at what the log does not tell; made when it is needed.
    look: Option<Client>,
    looked: Instant,
}

/// The server's clock, carried on by this machine's.
struct Clock {
    micros: i64,
    since: Instant,
}

impl Clock {
    fn now(&self) -> i64 {
        self.micros.saturating_add(i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

impl Reader {
    /// Opens the log; at its end where no position is given.
    pub(crate) async fn open(
        node: &MysqlNode,
        role: Role,
        start: Option<&Position>,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Reader> {
        let target = node.target().clone();
        let mut client = target.connect(Purpose::Read).await?;
        if let Role::Bridge { log } = &role {
            let found = identity(&mut client).await?;
            if found != *log {
                return Err(Error::new(
                    Code::LogIdentityChanged,
                    format!("{}: the checkpoint is in the log {log}, the server's is {found}", node.label()),
                )
                .hint(
                    "connect to the server that was followed; where a replica was promoted in its place and its log does not tell (transactions without GTIDs, \
                     or none of this server's), compare the tables and set the bridge up anew: docs/operations.md, \"A replica in the place of its source\"",
                ));
            }
        }
        settings(&mut client).await?;
        let files = files(&mut client).await?;
        let end = log_end(&mut client).await?;
        let start = start.unwrap_or(&end).clone();
        let (mut file, mut offset) = place(&files, &start, &end)?;
        if start.since() != start {
            (file, offset) = since(&files, &start, &end)?;
        }
        let names: Vec<TableName> = tables.iter().map(|table| table.name.clone()).collect();
        let shape = catalog::load(&mut client, &names).await?;
        for (table, now) in tables.iter().zip(&shape) {
            if let Some(name) = now.as_ref().and_then(|now| table.new_column(&now.schema()).map(str::to_owned)) {
                let text = format!("{}: the column {name} is new", table.label);
                return Err(Error::new(Code::SchemaChanged, text)
                    .hint("make the same change on the other side and start again")
                    .of_table(&table.label));
            }
        }
        let charsets =
            shape.iter().flatten().flat_map(|table| &table.columns).filter(|native| native.column.kind.is_some());
        let charsets: BTreeSet<&str> =
            charsets.filter_map(|native| native.charset.as_deref()).chain(["utf8mb4"]).collect();
        let charsets = Charsets::load(&mut client, charsets.into_iter()).await?;
        let clock = Clock { micros: clock(&mut client).await?, since: Instant::now() };
        let seed = match role {
            Role::Bridge { .. } => format!("{}/{}", node.bridge(), node.label()),
            Role::Tail => format!("tail/{}/{}/{:?}", node.label(), std::process::id(), Instant::now()),
        };
        let id = server_id(&mut client, &seed).await?;
        let reading = Reading {
            bridge: node.bridge().to_owned(),
            tables: tables.clone(),
            all: matches!(role, Role::Tail),
            flavour: client.server.flavour,
            shapes: shape.iter().map(|table| column_names(table.as_ref())).collect(),
            charsets: charsets.into(),
            passed: passed.clone(),
        };
        let (base, number) = split(&file)?;
        let assembler = Assembler::new(reading, base, number, offset, &start);
        let stream = dump(&target, id, &file, offset).await?;
        Ok(Reader {
            stream,
            assembler,
            events: 0,
            ahead: None,
            target,
            shape,
            names,
            clock,
            told: Instant::now(),
            time_told: Instant::now(),
            look: None,
            looked: Instant::now(),
        })
    }

    /// The same, where definitions are looked for in what is to be read ([`crate::redefined`]).
    pub(crate) async fn open_ahead(
        node: &MysqlNode,
        role: Role,
        start: &Position,
        tables: &Tables,
        passed: &PassedOver,
    ) -> Result<Reader> {
        let reader = Reader::open(node, role, Some(start), tables, passed).await?;
        let ahead = Ahead::open(node, start, tables).await?;
        Ok(Reader { ahead: ahead.map(Box::new), ..reader })
    }

    /// Which of these tables are no longer what they were when the log was opened.
    async fn check(&self, places: &[usize]) -> Result<Vec<(usize, Error)>> {
        let mut client = self.target.connect(Purpose::Look).await?;
        let names: Vec<TableName> = places.iter().map(|&place| self.names[place].clone()).collect();
        let now = catalog::load(&mut client, &names).await?;
        let changed = places.iter().zip(&now).filter(|&(&place, now)| !same_shape(&self.shape[place], now));
        let changed = changed.map(|(&place, _)| {
            let error = Error::new(Code::SchemaChanged, format!("{}: its definition was changed", self.names[place]))
                .hint("make the same change on the other side and start again");
            (place, error)
        });
        Ok(changed.collect())
    }

    /// Where the log ends now. A log that was reset under its reader is noticed by it: the servers end a reader of
    /// another file, but one that was in the first they leave waiting until the new log, of which it has nothing, has
    /// grown past its place.
    async fn end(&mut self) -> Result<Position> {
        // Taken out meanwhile: an answer that nobody waited for must not be taken for the next one's.
        let mut client = match self.look.take() {
            Some(client) => client,
            None => self.target.connect(Purpose::Look).await?,
        };
        let end = log_end(&mut client).await?;
        (self.look, self.looked) = (Some(client), Instant::now());
        let here = self.assembler.position();
        if end.covers(&here) { Ok(end) } else { Err(behind(&here, &end)) }
    }

    /// Where the last event ended.
    pub(crate) fn position(&self) -> Position {
        self.assembler.position()
    }

    /// Waits for an event, and passes over it after it has been seen.
    pub(crate) async fn step(&mut self, see: impl FnOnce(&Stream, &Message<'_>) -> Result<()>) -> Result<()> {
        self.let_others_run().await;
        fill(&mut self.stream).await?;
        self.take(see)
    }

    /// Every so many events.
    async fn let_others_run(&mut self) {
        self.events += 1;
        if self.events >= EVENTS_BEFORE_YIELD {
            self.events = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Takes the event that has come.
    fn feed(&mut self) -> Result<()> {
        self.take(|_, _| Ok(()))
    }

    fn take(&mut self, see: impl FnOnce(&Stream, &Message<'_>) -> Result<()>) -> Result<()> {
        let frame = self.stream.frame().map_err(|error| placed(error, &self.assembler))?;
        let flavour = self.assembler.flavour();
        let mut room = Vec::new();
        let frame = match flavour {
            Flavour::Mysql => Ok(frame),
            Flavour::Mariadb => compressed::expand(frame, &mut room),
        };
        let position = self.assembler.position();
        let frame = frame.map_err(|error| error.at(&position))?;
        let message = event::parse(frame, flavour).map_err(|error| error.at(&position))?;
        see(&self.stream, &message)?;
        self.assembler.feed(frame, message, self.clock.now())
    }
}

/// Waits for an event, which has to come in time.
async fn fill(stream: &mut Stream) -> Result<()> {
    let silent = |_| Error::new(Code::ConnectionLost, "the log has been silent for too long");
    tokio::time::timeout(SILENCE_MAX, stream.fill()).await.map_err(silent)?
}

/// What cannot be read is looked for by where it is.
fn placed(error: Error, assembler: &Assembler) -> Error {
    match error.code() {
        Code::Protocol | Code::LogDamaged => error.at(format!("the log after {}", assembler.position())),
        _ => error,
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<LogEvent> {
        if let Some(ahead) = &mut self.ahead {
            let places = ahead.read().await?;
            self.assembler.redefined(places);
            self.ahead = None;
        }
        loop {
            self.let_others_run().await;
            if let Some(event) = self.assembler.take() {
                return Ok(event);
            }
            if self.time_told.elapsed() > TIME_EVERY
                && let Some(progress) = self.assembler.take_time()
            {
                self.time_told = Instant::now();
                return Ok(LogEvent::Progress(progress));
            }
            if !self.assembler.to_check().is_empty() {
                let changed = self.check(self.assembler.to_check()).await?;
                self.assembler.checked(changed);
                continue;
            }
            let ready = self.stream.fill().now_or_never();
            if ready.is_none() && self.assembler.is_in_doubt() && self.end().await? == self.assembler.position() {
                self.assembler.settle_doubt();
                continue;
            }
            if ready.is_none() && self.looked.elapsed() > LOOK_EVERY {
                self.end().await?;
                continue;
            }
            if ready.is_none() || self.told.elapsed() > PROGRESS_EVERY {
                self.told = Instant::now();
                if let Some(progress) = self.assembler.take_progress() {
                    if let Some(read) = ready {
                        read.map_err(|error| placed(error, &self.assembler))?;
                        self.feed()?;
                    }
                    return Ok(LogEvent::Progress(progress));
                }
            }
            let read = match ready {
                Some(read) => read,
                None => fill(&mut self.stream).await,
            };
            read.map_err(|error| placed(error, &self.assembler))?;
            self.feed()?;
        }
    }

    fn confirm(&mut self, _durable: &Position) {}
}

/// The position, and when its file was begun; asked for under `seed` as the reader's name.
pub(crate) async fn with_birth(target: &Target, position: Position, seed: &str) -> Result<Position> {
    let (Position::Binlog { base, file, offset, beside }, Some(name)) = (&position, position.binlog_file()) else {
        return Ok(position);
    };
    let id = server_id(&mut target.connect(Purpose::Read).await?, seed).await?;
    let mut stream = dump(target, id, &name, FIRST_OFFSET).await?;
    let silent = |_| Error::new(Code::ConnectionLost, format!("the server does not show {name}"));
    tokio::time::timeout(SILENCE_MAX, stream.fill()).await.map_err(silent)??;
    let beside = Beside { birth: Some(stream.frame()?.seconds), ..*beside };
    Ok(Position::Binlog { base: base.clone(), file: *file, offset: *offset, beside })
}

async fn dump(target: &Target, id: u32, file: &str, offset: u64) -> Result<Stream> {
    let connecting = async {
        let mut wire = Wire::login(target).await?;
        // Set under both names: MySQL 8.0.26 reads the new one first. Who says that it knows checksums gets the events
        // as they are in the file, with or without. A reader may stop for a while: the server shall wait for it.
        let settings = format!(
            "SET @mariadb_slave_capability = 4, @master_heartbeat_period = {HEARTBEAT_NANOS}, \
             @source_heartbeat_period = {HEARTBEAT_NANOS}, @master_binlog_checksum = 'CRC32', \
             @source_binlog_checksum = 'CRC32', net_write_timeout = {IDLE_SECONDS}"
        );
        wire.execute(&settings).await?;
        let offset = u32::try_from(offset).map_err(|_| Error::new(Code::Internal, "an offset beyond 4 GiB"))?;
        wire.dump(id, file, offset).await?;
        Ok(Stream::new(wire))
    };
    let late = |_| Error::new(Code::Unreachable, "the server took too long to give its log");
    tokio::time::timeout(target.connect_timeout, connecting).await.map_err(late)?
}

/// Settings without which the log is of no use. What a session may have set otherwise shows at its events.
async fn settings(client: &mut Client) -> Result<()> {
    let wanted =
        [("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_image", "FULL"), ("binlog_row_metadata", "FULL")];
    let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    let rows = client.rows(format!("SHOW GLOBAL VARIABLES WHERE variable_name IN ('{}')", names.join("', '"))).await?;
    for (name, expected) in wanted {
        let found = rows.iter().find(|row| text(row, 0).as_deref() == Some(name)).and_then(|row| text(row, 1));
        let found = found.unwrap_or_else(|| "absent".into());
        if !found.eq_ignore_ascii_case(expected) {
            return Err(Error::new(Code::SettingWrong, format!("{name} is {found}, needed is {expected}"))
                .hint(format!("SET GLOBAL {name} = {expected}, and in the server's configuration")));
        }
    }
    Ok(())
}

/// The server's clock in microseconds.
pub(crate) async fn clock(client: &mut Client) -> Result<i64> {
    let rows = client.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)").await?;
    Ok(rows.first().and_then(|row| number(row, 0)).unwrap_or_default())
}

/// A number for this reader that no replica and not the server itself has.
async fn server_id(client: &mut Client, seed: &str) -> Result<u32> {
    let own: Option<u32> = client.scalar("SELECT @@server_id").await?.and_then(|id| id.parse().ok());
    let shown = match client.server.flavour {
        Flavour::Mysql => "SHOW REPLICAS",
        Flavour::Mariadb => "SHOW SLAVE HOSTS",
    };
    // MariaDB shows them only with a privilege that nothing else needs; then a clash shows as error 1236.
    let replicas = match client.rows(shown).await {
        Ok(rows) => rows,
        Err(error) if error.code() == Code::PrivilegeMissing => Vec::new(),
        Err(error) => return Err(error),
    };
    let taken: BTreeSet<u32> = replicas.iter().filter_map(|row| number(row, 0)).chain(own).collect();
    Ok(free_id(seed, &taken))
}

/// In the upper half of the range, where nobody numbers servers by hand.
fn free_id(seed: &str, taken: &BTreeSet<u32>) -> u32 {
    let hash = seed.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let mut id = hash | 0x8000_0000;
    while taken.contains(&id) {
        id = id.wrapping_add(1) | 0x8000_0000;
    }
    id
}

fn column_names(table: Option<&NativeTable>) -> Vec<Box<str>> {
    table.iter().flat_map(|table| &table.columns).map(|native| native.column.name.clone()).collect()
}

fn same_shape(before: &Option<NativeTable>, now: &Option<NativeTable>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return before.is_none() && now.is_none() };
    let column = |native: &crate::catalog::NativeColumn| {
        let mut native = native.clone();
        // A counter's step is no part of a row's shape.
        native.column.generator = None;
        native
    };
    before.key == now.key
        && before.columns.len() == now.columns.len()
        && before.columns.iter().zip(&now.columns).all(|(before, now)| column(before) == column(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_ids_step_aside() {
        let id = free_id("a/b", &BTreeSet::new());
        assert!(id >= 0x8000_0000);
        assert_eq!(free_id("a/b", &BTreeSet::from([id])), id.wrapping_add(1) | 0x8000_0000);
    }
}
