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
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use pontoon_core::{Code, Error, Result};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

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

/// Whether TLS is used.
#[derive(Debug, Clone)]
pub(crate) enum Encryption {
    /// Never.
    Off,
    /// Where the server offers it.
    Offered(Arc<rustls::ClientConfig>),
    /// Always.
    Demanded(Arc<rustls::ClientConfig>),
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
    /// Connects, up to where the startup message is to be sent.
    pub(crate) async fn open(address: &Address, encryption: &Encryption) -> Result<Socket> {
        let unreachable = |error: io::Error| {
            Error::new(Code::Unreachable, format!("{address}: {error}"))
                .hint("does the server run, and is this its address?")
        };
        let (host, port) = match address {
            Address::Unix(path) => return Ok(Socket::Unix(UnixStream::connect(path).await.map_err(unreachable)?)),
            Address::Tcp(host, port) => (host.as_str(), *port),
        };
        let mut stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        tune(&stream).map_err(unreachable)?;
        let config = match encryption {
            Encryption::Off => return Ok(Socket::Tcp(stream)),
            Encryption::Offered(config) | Encryption::Demanded(config) => config,
        };
        match ask_for_tls(&mut stream).await.map_err(unreachable)? {
            b'S' => {}
            b'N' if matches!(encryption, Encryption::Offered(_)) => return Ok(Socket::Tcp(stream)),
            b'N' => {
                return Err(Error::new(Code::TlsFailed, format!("{address}: the server has no TLS"))
                    .hint("set ssl = on there, or sslmode=disable in the url of a link that nobody can listen to"));
            }
            other => {
                return Err(Error::new(
                    Code::TlsFailed,
                    format!("{address}: answered {other:#04x} to the request for TLS"),
                )
                .hint("is this a PostgreSQL server?"));
            }
        }
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Code::TlsFailed, format!("{address}: {error}"))
                .hint("sslrootcert names the file of a private authority; the url's host must be one that the certificate names")
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
        let tls = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| failed(&error))?;
        Ok(Socket::Tls(Box::new(tls)))
    }
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
