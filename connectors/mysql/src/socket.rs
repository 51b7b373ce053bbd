//! The socket under the connection that reads the log: TCP or Unix, in the clear or by TLS.
//!
//! TLS begins after the server's greeting, which says whether it has it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use mysql_async::Opts;
use pontoon_core::Result;
use pontoon_tls::Tls;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

/// An open socket.
pub(crate) enum Socket {
    /// TCP in the clear.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TCP by TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Connects, in the clear.
    pub(crate) async fn open(options: &Opts) -> io::Result<Socket> {
        if let Some(path) = options.socket() {
            return Ok(Socket::Unix(UnixStream::connect(path).await?));
        }
        let stream = TcpStream::connect((options.ip_or_hostname(), options.tcp_port())).await?;
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(options.tcp_keepalive().unwrap_or_default());
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(Socket::Tcp(stream))
    }

    /// Whether nobody but the server can read what is sent.
    pub(crate) fn is_private(&self) -> bool {
        !matches!(self, Socket::Tcp(_))
    }

    /// Goes on by TLS; a Unix socket stays as it is.
    pub(crate) async fn secure(self, host: &str, tls: &Tls) -> Result<Socket> {
        match self {
            Socket::Tcp(stream) => Ok(Socket::Tls(Box::new(tls.connect(host, stream).await?))),
            other => Ok(other),
        }
    }
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
