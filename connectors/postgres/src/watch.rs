//! Whether a server still works on what it was asked.
//!
//! A connection whose other end is gone is noticed by TCP within 20 s ([`crate::socket`]), unless something in between
//! goes on acknowledging: a balancer or a tunnel that has lost its other half. Then an answer never comes, and what is
//! waited for has no time limit of its own: locks have one, but a commit may wait for a standby, and a large write takes
//! as long as it takes. So where an answer takes long, the server is asked on another connection what the backend does.
//! One that waits for its client has answered already, or has never been asked: the connection is lost, and is ended.
//!
//! A walsender waits for its client only where it has nothing to send, and answers at once what it is asked then
//! (`WalSndLoop` and `ProcessRepliesIfAny` of `src/backend/replication/walsender.c`); while it decodes it may answer for
//! a long time nothing, but does not wait.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use pontoon_core::{Code, Result};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{
    connect::{Role, Target},
    error,
    login::{InTheClear, Scan},
    socket::Socket,
};

/// An answer that takes longer is asked after, and again as often: hardly anything does, and with the two looks and a
/// time-out of TCP it leaves half a minute in which a lost connection is noticed.
pub(crate) const LATE: Duration = Duration::from_secs(10);

/// How often is looked whether an answer is late.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The pause between two looks at a backend: what was on its way has come by then.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// What is known of a connection.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Since when an answer is due.
    since: Mutex<Option<Instant>>,
    /// The number of the backend.
    pub(crate) backend: OnceLock<i32>,
    /// The login would have sent the password where others can read it.
    pub(crate) in_the_clear: InTheClear,
}

impl Asked {
    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn is_late(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|since| since.elapsed() >= LATE)
    }
}

/// A socket that notes when something is asked, and when something is answered; and that ends before a password is sent in the clear.
pub(crate) struct WatchedSocket {
    socket: Socket,
    asked: Arc<Asked>,
    /// Where others can read what is sent, until the login is done.
    login: Option<Scan>,
}

impl WatchedSocket {
    /// One on which nothing has been said.
    pub(crate) fn new(socket: Socket, asked: Arc<Asked>) -> WatchedSocket {
        let login = matches!(socket, Socket::Tcp(_)).then(Scan::default);
        WatchedSocket { socket, asked, login }
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let WatchedSocket { socket, asked, login } = &mut *self;
        let before = buf.filled().len();
        let done = Pin::new(socket).poll_read(cx, buf);
        if done.is_ready() {
            asked.set(None);
            if let Some(login) = login {
                login.take(&buf.filled()[before..], asked)?;
            }
        }
        done
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.socket).poll_write(cx, buf);
        if done.is_ready() {
            self.asked.set(Some(Instant::now()));
        }
        done
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Returns when the connection is found to be lost.
pub(crate) async fn until_lost(target: Target, role: Role, asked: Arc<Asked>) {
    loop {
        sleep(LOOK_EVERY).await;
        let Some(backend) = asked.backend.get().filter(|_| asked.is_late()) else { continue };
        if waits_for_us(&target, &role, *backend).await && asked.is_late() {
            tracing::warn!(
                connection = role.application_name,
                "a connection is lost: the server has answered, and nothing came"
            );
            return;
        }
        sleep(LATE).await;
    }
}

/// Whether a backend waits for its client, or is not there any more. `false` where that cannot be told.
pub(crate) fn waits_for_us<'a>(
    target: &'a Target,
    role: &'a Role,
    backend: i32,
) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
    Box::pin(async move {
        match timeout(LATE, look_twice(target, role, backend)).await {
            Ok(Ok(waits)) => waits,
            Ok(Err(error)) => error.code() == Code::Unreachable,
            Err(_) => true,
        }
    })
}

async fn look_twice(target: &Target, role: &Role, backend: i32) -> Result<bool> {
    let link = target.connect(&role.watching()).await?;
    let first = look(&link.client, backend).await?;
    if let Some(false) = first.as_ref().map(|look| look.waits) {
        return Ok(false);
    }
    sleep(BETWEEN_LOOKS).await;
    let again = look(&link.client, backend).await?;
    Ok(again.is_none() || again == first)
}

/// What a backend does.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    waits: bool,
    since: Option<String>,
}

async fn look(client: &Client, backend: i32) -> Result<Option<Look>> {
    let sql = format!(
        "SELECT state <> 'active' OR wait_event LIKE 'WalSender%', state_change::text FROM pg_stat_activity WHERE pid = {backend}"
    );
    let answer = client.simple_query(&sql).await.map_err(|error| error::of_statement(&error))?;
    Ok(answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some(Look { waits: row.get(0) == Some("t"), since: row.get(1).map(str::to_owned) })
        }
        _ => None,
    }))
}
