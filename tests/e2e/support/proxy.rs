//! A TCP proxy between the bridge and one server, which can do to each of the bridge's connections what a network does.
//!
//! Connections are told apart by what they say: PostgreSQL's by the application name in the startup message, MySQL's and
//! MariaDB's by the first statement or command that only one of them sends. So nothing is encrypted here.
//!
//! What is swallowed is read and acknowledged all the same: the kernel on either side sees a peer that lives, as behind
//! a balancer whose other half is gone, and only whoever speaks the protocol can notice that nobody answers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};

use super::eventually;

/// What a connection of the bridge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    /// The log.
    Log,
    /// The session that applies.
    Direction,
    /// The session that settles.
    Rendezvous,
    Lease,
    /// Looks and marks, and what has not said yet what it is.
    Other,
}

impl Line {
    pub(crate) const ALL: [Line; 5] = [Line::Log, Line::Direction, Line::Rendezvous, Line::Lease, Line::Other];

    /// What the client's bytes say.
    fn of(kind: Kind, bytes: &[u8]) -> Option<Line> {
        let says = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        let lines: &[(&str, Line)] = match kind {
            Kind::Postgres => &[
                ("pontoon e2e applier 0\0", Line::Direction),
                ("pontoon e2e applier 1\0", Line::Rendezvous),
                ("pontoon e2e reader\0", Line::Log),
                ("pontoon e2e lease\0", Line::Lease),
            ],
            Kind::Mariadb | Kind::Mysql => &[
                ("AND applier = 0", Line::Direction),
                ("AND applier = 1", Line::Rendezvous),
                ("heartbeat_period", Line::Log),
                ("GET_LOCK", Line::Lease),
            ],
        };
        // Another name of the checkpoint's row is in a SELECT, which whoever looks sends as well.
        let looks = says("SELECT `position`");
        lines.iter().find(|(text, _)| says(text) && !looks).map(|(_, line)| *line)
    }
}

/// How bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passing {
    Through,
    /// Each piece that long after it came.
    Delayed(Duration),
    /// So many bytes a second, each way.
    Throttled(usize),
    /// Not at all, and without a word: a connection that lost bytes never passes any again.
    Silent,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Fin,
    Rst,
}

/// What is done about commits of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtCommit {
    /// The server's answer is kept back and the connection cut once it is there: it is done, and nobody hears of it.
    LoseAnswer(Cut),
    /// The commit itself is kept back until [`Proxy::let_go`].
    Hold,
}

struct Inner {
    kind: Kind,
    server: SocketAddr,
    passing: Mutex<HashMap<Line, Passing>>,
    at_commit: Mutex<Option<(Line, AtCommit)>>,
    /// Commits at which it was done.
    caught: AtomicU64,
    let_go: Notify,
    cut: watch::Sender<(u64, Vec<Line>, Cut)>,
    /// Connections that are there, of each line.
    open: Mutex<HashMap<Line, usize>>,
    /// How often the client has said something after an answer.
    trips: Mutex<HashMap<Line, u64>>,
}

pub(crate) struct Proxy {
    inner: Arc<Inner>,
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A way to a server, on a port of its own.
    pub(crate) async fn start(kind: Kind, server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::new(Inner {
            kind,
            server: ([127, 0, 0, 1], server).into(),
            passing: Mutex::default(),
            at_commit: Mutex::default(),
            caught: AtomicU64::default(),
            let_go: Notify::new(),
            cut: watch::Sender::new((0, Vec::new(), Cut::Fin)),
            open: Mutex::default(),
            trips: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(inner.clone(), listener));
        Proxy { inner, port, accepting }
    }

    /// How the bytes of some lines pass from now on, and of all later connections that are for the same.
    pub(crate) fn pass(&self, lines: &[Line], passing: Passing) {
        let mut now = self.inner.passing.lock().unwrap();
        now.extend(lines.iter().map(|line| (*line, passing)));
    }

    /// Ends the connections that are there.
    pub(crate) fn cut(&self, lines: &[Line], cut: Cut) {
        self.inner.cut.send_modify(|now| *now = (now.0 + 1, lines.to_vec(), cut));
    }

    /// What is done about the next commit of a line, and of all after it where it is to hold.
    pub(crate) fn at_commit(&self, line: Line, what: AtCommit) {
        *self.inner.at_commit.lock().unwrap() = Some((line, what));
    }

    /// Commits pass again, and those that were kept back go on, if their connection is still there.
    pub(crate) fn let_go(&self) {
        *self.inner.at_commit.lock().unwrap() = None;
        self.inner.let_go.notify_waiters();
    }

    /// How many commits were caught so far.
    pub(crate) fn caught(&self) -> u64 {
        self.inner.caught.load(Ordering::SeqCst)
    }

    /// How many round trips a line's connections have made so far: what is on its way before an answer has come is one.
    pub(crate) fn trips(&self, line: Line) -> u64 {
        self.inner.trips.lock().unwrap().get(&line).copied().unwrap_or_default()
    }

    /// Waits until a connection of a line is there.
    pub(crate) async fn is_open(&self, line: Line) {
        let open = || self.inner.open.lock().unwrap().get(&line).is_some_and(|count| *count > 0);
        eventually(&format!("a connection for {line:?}"), async || open()).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(&Line::ALL, Cut::Rst);
    }
}

async fn accept(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let inner = inner.clone();
        tokio::spawn(async move {
            // A server that is down refuses, and so does the proxy.
            let Ok(server) = TcpStream::connect(inner.server).await else { return reset(&client) };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            connection(inner, client, server).await;
        });
    }
}

fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// What both ways of a connection share.
struct Connection {
    inner: Arc<Inner>,
    line: Mutex<Line>,
    /// It lost bytes.
    silent: watch::Sender<bool>,
    /// What the client says next is in answer to the server.
    answered: AtomicBool,
    /// The next answer is not passed, and then it is cut.
    losing: Mutex<Option<Cut>>,
}

impl Connection {
    fn line(&self) -> Line {
        *self.line.lock().unwrap()
    }

    fn is_now(&self, line: Line) {
        let was = std::mem::replace(&mut *self.line.lock().unwrap(), line);
        let mut open = self.inner.open.lock().unwrap();
        open.entry(was).and_modify(|count| *count -= 1);
        *open.entry(line).or_default() += 1;
    }

    fn passing(&self) -> Passing {
        if *self.silent.borrow() {
            return Passing::Silent;
        }
        self.inner.passing.lock().unwrap().get(&self.line()).copied().unwrap_or(Passing::Through)
    }

    /// A piece on its way: whether it is to be passed on.
    async fn passes(&self, bytes: usize) -> bool {
        match self.passing() {
            Passing::Through => {}
            Passing::Delayed(time) => sleep(time).await,
            Passing::Throttled(rate) => sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await,
            Passing::Silent => {
                self.silent.send_replace(true);
                return false;
            }
        }
        true
    }

    /// The client asks for a commit.
    async fn at_commit(&self) {
        let what = {
            let mut at_commit = self.inner.at_commit.lock().unwrap();
            let what = at_commit.filter(|(line, _)| *line == self.line()).map(|(_, what)| what);
            if let Some(AtCommit::LoseAnswer(_)) = what {
                *at_commit = None;
            }
            what
        };
        match what {
            None => {}
            Some(AtCommit::LoseAnswer(cut)) => *self.losing.lock().unwrap() = Some(cut),
            Some(AtCommit::Hold) => {
                let go = self.inner.let_go.notified();
                self.inner.caught.fetch_add(1, Ordering::SeqCst);
                go.await;
            }
        }
    }
}

async fn connection(inner: Arc<Inner>, client: TcpStream, server: TcpStream) {
    let mut cuts = inner.cut.subscribe();
    *inner.open.lock().unwrap().entry(Line::Other).or_default() += 1;
    let connection = Connection {
        inner: inner.clone(),
        line: Mutex::new(Line::Other),
        silent: watch::Sender::new(false),
        answered: AtomicBool::new(true),
        losing: Mutex::default(),
    };
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.into_split(), server.into_split());
    let end = {
        let there = up(&connection, from_client, &mut to_server);
        let back = down(&connection, from_server, &mut to_client);
        tokio::pin!(there, back);
        loop {
            tokio::select! {
                end = &mut there => break end,
                end = &mut back => break end,
                changed = cuts.changed() => {
                    if changed.is_err() {
                        break Cut::Rst;
                    }
                    let (_, lines, cut) = cuts.borrow_and_update().clone();
                    if lines.contains(&connection.line()) {
                        break cut;
                    }
                }
            }
        }
    };
    if end == Cut::Rst {
        reset(to_client.as_ref());
        reset(to_server.as_ref());
    }
    inner.open.lock().unwrap().entry(connection.line()).and_modify(|count| *count -= 1);
}

/// From the client to the server. An end that is not seen behind silence never comes.
async fn up(connection: &Connection, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) -> Cut {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count @ 1..) => count,
            Ok(0) | Err(_) => return ended(connection).await,
        };
        let bytes = &buffer[..count];
        if connection.line() == Line::Other
            && let Some(line) = Line::of(connection.inner.kind, bytes)
        {
            connection.is_now(line);
        }
        if connection.answered.swap(false, Ordering::SeqCst) {
            *connection.inner.trips.lock().unwrap().entry(connection.line()).or_default() += 1;
        }
        if !connection.passes(count).await {
            continue;
        }
        if bytes.windows(6).any(|part| part == b"COMMIT") {
            connection.at_commit().await;
        }
        if to.write_all(bytes).await.is_err() {
            return ended(connection).await;
        }
    }
}

/// From the server to the client.
async fn down(connection: &Connection, mut from: OwnedReadHalf, to: &mut OwnedWriteHalf) -> Cut {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count @ 1..) => count,
            Ok(0) | Err(_) => return ended(connection).await,
        };
        connection.answered.store(true, Ordering::SeqCst);
        if let Some(cut) = *connection.losing.lock().unwrap() {
            connection.inner.caught.fetch_add(1, Ordering::SeqCst);
            return cut;
        }
        if connection.passes(count).await && to.write_all(&buffer[..count]).await.is_err() {
            return ended(connection).await;
        }
    }
}

/// One side has ended the connection: so does the proxy, unless nothing passes.
async fn ended(connection: &Connection) -> Cut {
    if connection.passing() == Passing::Silent {
        connection.silent.send_replace(true);
        std::future::pending::<()>().await;
    }
    Cut::Fin
}
