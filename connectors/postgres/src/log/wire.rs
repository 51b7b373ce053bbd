//! The replication connection. `tokio-postgres` has no replication mode, so this is a thin client of our
//! own on `postgres-protocol`: login, commands, and the stream in both directions (manual, "Message
//! Flow" and "Streaming Replication Protocol").
//!
//! Both directions are cancel safe. What is read stays in a buffer until a whole message is there, and
//! what is to be written waits in another from which only written bytes are taken.
//!
//! The server sends each message of the stream by itself (`WalSndWriteData` of walsender.c flushes). Of a backlog of small transactions a
//! reader that takes each as it comes is woken for every one, which took a fifth of the bridge's time (tried on 15, W1 of docs/performance.md); so a
//! stream that does not pause is let gather for a moment before each read ([`Pace`]).

use std::{collections::HashMap, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use pontoon_core::{Code, Error, Result};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{self, AuthenticationSaslBody, DataRowBody, Message},
        frontend,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until},
};

use crate::{
    connect::{self, Role, Target},
    error::{self, Report},
    login::in_the_clear,
    socket::Socket,
};

/// Room that is made before a read: a large read costs fewer system calls in a backlog.
const READ_BYTES: usize = 64 * 1024;

/// How long a stream that runs on is let gather: the least that a timer knows of, and then up to as much again.
const GATHERING: Duration = Duration::from_millis(1);

/// What is longer between two reads is a pause of the stream, and not of ours.
const PAUSE: Duration = Duration::from_millis(4);

/// So many reads without a pause make a stream one that runs on: more than a transaction at rest comes in.
const READS_ON_END: u32 = 16;

/// A frame of more does not leave its buffer behind: rare enough that a copy of what follows it costs nothing.
const LARGE_BYTES: usize = 1 << 20;

/// `CopyBothResponse`, which `postgres-protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';

/// One row of an answer, by column name.
pub(crate) type Fields = HashMap<String, Option<String>>;

/// A connection in replication mode.
pub(crate) struct Wire {
    socket: Socket,
    input: BytesMut,
    output: BytesMut,
    pace: Pace,
    /// The number of the backend.
    pub(crate) backend: i32,
}

/// How a stream comes in.
struct Pace {
    last: Instant,
    /// Reads since there was a pause.
    on_end: u32,
    /// There may be more than was read.
    is_more: bool,
}

impl Pace {
    fn new() -> Pace {
        Pace { last: Instant::now(), on_end: 0, is_more: false }
    }

    /// Until when to let it gather, if it runs on.
    fn gathers_until(&self) -> Option<Instant> {
        (self.on_end >= READS_ON_END && !self.is_more).then(|| self.last + GATHERING)
    }

    fn read(&mut self, bytes: usize, now: Instant) {
        let paused = now.duration_since(self.last) > PAUSE;
        self.on_end = if paused { 0 } else { self.on_end.saturating_add(1) };
        self.is_more = bytes >= READ_BYTES / 2;
        self.last = now;
    }
}

impl Wire {
    /// Connects and logs in, for the logical replication of the target's database.
    pub(crate) async fn connect(target: &Target, role: &Role) -> Result<Wire> {
        target.in_time(Wire::try_connect(target, role)).await
    }

    async fn try_connect(target: &Target, role: &Role) -> Result<Wire> {
        let socket = Socket::open(&target.address, &target.tls).await?;
        let mut wire = Wire { socket, input: BytesMut::new(), output: BytesMut::new(), pace: Pace::new(), backend: 0 };
        wire.login(target, role).await.map_err(|error| connect::login(error, target))?;
        Ok(wire)
    }

    async fn login(&mut self, target: &Target, role: &Role) -> Result<()> {
        let options = role.startup_options();
        let parameters = [
            ("user", target.user.as_str()),
            ("database", &target.database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", &role.application_name),
            ("options", &options),
        ];
        frontend::startup_message(parameters, &mut self.output).map_err(|error| error::of_socket(&error))?;
        let mut scram = None;
        loop {
            self.flush().await?;
            match self.message().await? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    if matches!(self.socket, Socket::Tcp(_)) {
                        return Err(in_the_clear());
                    }
                    self.password(password(target)?.as_bytes())?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(target.user.as_bytes(), password(target)?.as_bytes(), body.salt());
                    self.password(hash.as_bytes())?;
                }
                Message::AuthenticationSasl(body) => scram = Some(self.start_scram(&body, password(target)?)?),
                Message::AuthenticationSaslContinue(body) => {
                    let scram = scram.as_mut().ok_or_else(unexpected)?;
                    scram.update(body.data()).map_err(|error| error::of_socket(&error))?;
                    frontend::sasl_response(scram.message(), &mut self.output)
                        .map_err(|error| error::of_socket(&error))?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    // This is where the server proves that it knows the password too.
                    let scram = scram.as_mut().ok_or_else(unexpected)?;
                    scram.finish(body.data()).map_err(|error| error::of_socket(&error))?;
                }
                Message::BackendKeyData(body) => self.backend = body.process_id(),
                Message::ReadyForQuery(_) => return Ok(()),
                _ => return Err(unexpected()),
            }
        }
    }

    fn start_scram(&mut self, body: &AuthenticationSaslBody, password: &str) -> Result<ScramSha256> {
        let known = body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256)).unwrap_or(false);
        if !known {
            return Err(Error::new(Code::LoginRefused, "the server wants a login that is not known here")
                .hint("use scram-sha-256 in pg_hba.conf"));
        }
        let scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.output)
            .map_err(|error| error::of_socket(&error))?;
        Ok(scram)
    }

    fn password(&mut self, text: &[u8]) -> Result<()> {
        frontend::password_message(text, &mut self.output).map_err(|error| error::of_socket(&error))
    }

    /// Runs a command or an SQL statement, and returns the rows of its answer.
    pub(crate) async fn query(&mut self, text: &str) -> Result<Vec<Fields>> {
        frontend::query(text, &mut self.output).map_err(|error| error::of_socket(&error))?;
        self.flush().await?;
        let (mut names, mut rows, mut failure) = (Vec::new(), Vec::new(), None);
        loop {
            match self.any_message().await? {
                Message::RowDescription(body) => {
                    let all = body.fields().map(|field| Ok(field.name().to_owned())).collect();
                    names = all.map_err(|error| error::of_socket(&error))?;
                }
                Message::DataRow(body) => rows.push(fields(&names, &body)?),
                Message::CommandComplete(_) | Message::EmptyQueryResponse => {}
                Message::ErrorResponse(body) => failure = Some(Report::from_fields(body.fields()).into_error()),
                Message::ReadyForQuery(_) => return failure.map_or(Ok(rows), Err),
                _ => return Err(unexpected()),
            }
        }
    }

    /// Begins the stream. From here on only [`Wire::receive`] and [`Wire::send`] are of use.
    pub(crate) async fn start_streaming(&mut self, command: &str) -> Result<()> {
        frontend::query(command, &mut self.output).map_err(|error| error::of_socket(&error))?;
        self.flush().await?;
        loop {
            self.fill_header().await?;
            if self.input[0] == COPY_BOTH_TAG {
                self.take_frame().await?;
                return Ok(());
            }
            match self.message().await? {
                Message::CommandComplete(_) => {}
                _ => return Err(unexpected()),
            }
        }
    }

    /// After a command that failed: waits until the next one may be sent.
    pub(crate) async fn wait_until_ready(&mut self) -> Result<()> {
        loop {
            if let Message::ReadyForQuery(_) = self.any_message().await? {
                return Ok(());
            }
        }
    }

    /// The next message of the stream. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Bytes> {
        match self.message().await? {
            Message::CopyData(body) => Ok(body.into_bytes()),
            // A server that is shut down completes the command without ending the stream first (`WalSndDone` of walsender.c).
            Message::CopyDone | Message::CommandComplete(_) => {
                Err(Error::new(Code::ConnectionLost, "the server ended the replication stream"))
            }
            _ => Err(unexpected()),
        }
    }

    /// Queues a message of the stream; [`Wire::flush`] sends it.
    pub(crate) fn send(&mut self, content: &[u8]) -> Result<()> {
        let data = frontend::CopyData::new(content).map_err(|error| error::of_socket(&error))?;
        data.write(&mut self.output);
        Ok(())
    }

    /// Sends what is queued. Cancel safe.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        while self.output.has_remaining() {
            self.socket.write_buf(&mut self.output).await.map_err(|error| error::of_socket(&error))?;
        }
        self.socket.flush().await.map_err(|error| error::of_socket(&error))
    }

    /// The next message; an error of the server is one of this call.
    async fn message(&mut self) -> Result<Message> {
        match self.any_message().await? {
            Message::ErrorResponse(body) => Err(Report::from_fields(body.fields()).into_error()),
            message => Ok(message),
        }
    }

    /// The next message but for notices, which may come at any time.
    async fn any_message(&mut self) -> Result<Message> {
        loop {
            let mut frame = self.take_frame().await?;
            match Message::parse(&mut frame).map_err(|error| error::of_socket(&error))? {
                Some(Message::NoticeResponse(_) | Message::ParameterStatus(_) | Message::NotificationResponse(_)) => {}
                Some(message) => return Ok(message),
                // A frame is a whole message.
                None => return Err(unexpected()),
            }
        }
    }

    async fn fill_header(&mut self) -> Result<()> {
        while self.input.len() < 5 {
            self.fill().await?;
        }
        Ok(())
    }

    /// Takes one message, of whatever kind. Cancel safe.
    async fn take_frame(&mut self) -> Result<BytesMut> {
        loop {
            let header = backend::Header::parse(&self.input).map_err(|error| error::of_socket(&error))?;
            let length = header.map_or(0, |header| usize::try_from(header.len()).unwrap_or_default() + 1);
            if length > 0 && self.input.len() >= length {
                let frame = self.input.split_to(length);
                if length > LARGE_BYTES {
                    // What follows gets a buffer of its own, so that this one goes with the frame.
                    self.input = BytesMut::from(&self.input[..]);
                }
                return Ok(frame);
            }
            // Room for all of it at once: a large one is not moved again and again. What is not written to takes no memory. And for
            // what is read beyond it: else the last read would move it after all.
            self.input.reserve((length + READ_BYTES).saturating_sub(self.input.len()));
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if let Some(until) = self.pace.gathers_until() {
            sleep_until(until).await;
        }
        self.input.reserve(READ_BYTES);
        match self.socket.read_buf(&mut self.input).await {
            Ok(0) => Err(Error::new(Code::ConnectionLost, "the server closed the connection")),
            Ok(bytes) => {
                self.pace.read(bytes, Instant::now());
                Ok(())
            }
            Err(error) => Err(error::of_socket(&error)),
        }
    }
}

fn password(target: &Target) -> Result<&str> {
    target.password.as_ref().map(|secret| secret.reveal()).ok_or_else(|| {
        Error::new(Code::LoginRefused, "the server wants a password")
            .hint("give the node password_file or password_env")
    })
}

fn fields(names: &[String], body: &DataRowBody) -> Result<Fields> {
    let ranges: Vec<_> = body.ranges().collect().map_err(|error| error::of_socket(&error))?;
    let text = |range: Option<std::ops::Range<usize>>| {
        range.and_then(|range| body.buffer().get(range)).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(names.iter().cloned().zip(ranges.into_iter().map(text)).collect())
}

fn unexpected() -> Error {
    error::protocol("the server sent a message that does not belong here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gathers_only_while_it_runs_on() {
        let mut pace = Pace::new();
        let mut now = pace.last;
        let mut read = |pace: &mut Pace, after: Duration, bytes: usize| {
            now += after;
            pace.read(bytes, now);
            now
        };
        for _ in 1..READS_ON_END {
            read(&mut pace, GATHERING, 100);
            assert_eq!(pace.gathers_until(), None, "a transaction at rest is not held up");
        }
        let last = read(&mut pace, GATHERING * 2, 100);
        assert_eq!(pace.gathers_until(), Some(last + GATHERING));
        read(&mut pace, GATHERING, READ_BYTES);
        assert_eq!(pace.gathers_until(), None, "more is there already");
        read(&mut pace, GATHERING, 100);
        assert!(pace.gathers_until().is_some());
        read(&mut pace, PAUSE * 2, 100);
        assert_eq!(pace.gathers_until(), None, "it has paused");
    }
}
