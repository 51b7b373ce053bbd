//! The socket under every connection: TCP or Unix, in the clear or by TLS.
//!
//! Both kinds of connection go through here, the driver's (by `connect_raw`) and the replication one of
//! [`crate::log::wire`], so there is one place that says when TLS is used and what is verified.
//!
//! TLS as libpq does it (manual, "SSL Support"): the client sends SSLRequest, the server answers one
//! byte, `S` or `N`. Nothing may follow that byte in the same read, or it was put there by somebody in
//! between (CVE-2021-23222): exactly one byte is read before the handshake begins, so what else is in
//! the socket is taken for part of the handshake, which then fails.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pontoon_core::{Code, Error, Result};
use pontoon_tls::{Mode, Tls};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

/// Silence after which TCP asks whether the other end lives, the pause between two such questions, and
/// how many go unanswered before the connection is given up: together 20 s, within which a half-open
/// connection must be noticed.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// Unacknowledged data is given up after as long as unanswered probes are.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host and port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether nobody but this machine is in between.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(host, _) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An open socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP by TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects, up to where the startup message is to be sent. Errors do not name the address.
    pub(crate) async fn open(address: &Address, tls: &Tls) -> Result<Socket> {
        let (host, port) = match address {
            Address::Unix(path) => return Ok(Socket::Unix(UnixStream::connect(path).await.map_err(unreachable)?)),
            Address::Tcp(host, port) => (host.as_str(), *port),
        };
        let mut stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        tune(&stream).map_err(unreachable)?;
        if tls.mode() == Mode::Disable {
            return Ok(Socket::Tcp(stream));
        }
        match ask_for_tls(&mut stream).await.map_err(unreachable)? {
            b'S' => Ok(Socket::Tls(Box::new(tls.connect(host, stream).await?))),
            b'N' if tls.mode() == Mode::Prefer => Ok(Socket::Tcp(stream)),
            b'N' => {
                let off = tls.words().setting(Mode::Disable);
                Err(Error::new(Code::TlsFailed, "the server has no TLS")
                    .hint(format!("set ssl = on there; or {off} in the url, of a link that nobody can listen to")))
            }
            _ => Err(stranger()),
        }
    }

    /// When the certificate that the server showed ends, in seconds since 1970 UTC; `None` without TLS.
    pub(crate) fn certificate_expiry(&self) -> Option<i64> {
        let Socket::Tls(stream) = self else { return None };
        stream.get_ref().1.peer_certificates()?.first().and_then(|shown| pontoon_tls::expiry_seconds(shown))
    }
}

fn unreachable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::new(Code::Unreachable, "the connection was closed before the server said anything")
            .hint("is this PostgreSQL's port, or that of something in between that does not reach it?");
    }
    Error::new(Code::Unreachable, error.to_string()).hint("does the server run, and is this its address?")
}

/// What answers does not speak the protocol.
pub(crate) fn stranger() -> Error {
    Error::new(Code::Unreachable, "what answers there is no PostgreSQL server").hint("is this PostgreSQL's port?")
}

async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<u8> {
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    stream.read_u8().await
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
