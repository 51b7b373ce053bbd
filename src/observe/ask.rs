//! Asking the status page of a bridge that runs, as another process of the same host does.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::site::BRIDGE;
use crate::config::Server;

/// The largest answer that is read: a status document is a few KiB.
const ANSWER_MAX: u64 = 1 << 20;

/// What a page answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) code: u16,
    /// The bridge whose page it is; `None` where something else answers at the address.
    pub(crate) bridge: Option<String>,
    pub(crate) body: String,
}

/// Asks what listens at an address of the configuration: its page, with all that this takes, or what answers anybody. Errors: nobody answers within the time, or not
/// as the configuration has it.
pub(crate) async fn ask(server: &Server, listen: &str, path: &str, within: Duration) -> io::Result<Answer> {
    let answer = timeout(within, get(server, listen, path)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("there was no whole answer within {within:?}"))
    })??;
    read(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not one of HTTP"))
}

async fn get(server: &Server, listen: &str, path: &str) -> io::Result<String> {
    let is_page = server.listen.as_deref() == Some(listen);
    let stream = TcpStream::connect(reached_at(listen)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {listen}\r\nConnection: close\r\n");
    match server.tls.as_ref().filter(|_| is_page) {
        None => exchange(stream, &format!("{request}\r\n")).await,
        Some(tls) => {
            let stream = tls.connect(stream).await.map_err(|error| io::Error::other(error.message().to_owned()))?;
            let token = server.token.as_ref().map(|token| format!("Authorization: Bearer {}\r\n", token.reveal()));
            exchange(stream, &format!("{request}{}\r\n", token.unwrap_or_default())).await
        }
    }
}

/// One request of HTTP/1.0, whose answer ends with the connection.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    String::from_utf8(answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Where this host reaches what listens at an address: one that stands for all addresses is none to connect to.
fn reached_at(listen: &str) -> String {
    let Ok(mut address) = listen.parse::<SocketAddr>() else { return listen.to_owned() };
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address.to_string()
}

fn read(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let code = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let named = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case(BRIDGE));
    Some(Answer { code, bridge: named.map(|(_, bridge)| bridge.trim().to_owned()), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn all_addresses_are_reached_at_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:9787", "127.0.0.1:9787"),
            ("[::]:9787", "[::1]:9787"),
            ("10.0.0.0:9787", "10.0.0.0:9787"),
            ("10.0.0.0:80", "10.0.0.0:80"),
            ("host-0.0.0.0.example:1", "host-0.0.0.0.example:1"),
            ("[::1]:9787", "[::1]:9787"),
        ] {
            assert_eq!(reached_at(listen), reached);
        }
    }

    #[test]
    fn an_answer_is_code_bridge_and_body() {
        let good = read("HTTP/1.0 503 Service Unavailable\r\nPontoon-Bridge:  b \r\nx: y\r\n\r\na\r\n\r\nb").unwrap();
        assert_eq!(good, Answer { code: 503, bridge: Some("b".into()), body: "a\r\n\r\nb".into() });
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n").unwrap().bridge, None);
        for bad in ["", "HTTP/1.1 200 OK", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 fine\r\n\r\n", "HTTP/1.1\r\n\r\n"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_never_ends_its_answer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nali").await.unwrap();
            std::future::pending::<()>().await;
        });
        let server = Server {
            listen: Some(address.clone()),
            metrics_listen: None,
            host_names: Vec::new(),
            token: None,
            tls: None,
            ready_lag_seconds: 1.0,
        };
        let error = ask(&server, &address, "/livez", Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        silent.abort();
    }
}
