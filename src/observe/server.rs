//! The HTTP server: takes connections, within limits, and hands requests to the [`Site`] that the port is for.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    rt::{Read, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pontoon_core::{Code, Error, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use super::{events::Listening, site::Site};

/// Connections served at a time. A scraper and a few browsers need less; more wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// Who opens a connection and comes to no request does not hold it for longer.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A connection is given up after this long, whatever it is doing.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// A request's line and headers. Browsers send one or two KiB, and no cookies of ours.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Headers of a request. Browsers send some twenty.
const HEADERS_MAX: usize = 64;

/// How often a port that someone else holds is asked for again.
const RETRY_PORT: Duration = Duration::from_secs(1);

/// A server with its port.
pub struct StatusServer {
    listener: TcpListener,
}

impl StatusServer {
    /// Takes the port. Errors (configuration): in use, not permitted, no such address.
    pub async fn bind(listen: &str) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.map_err(|error| refused(listen, &error))?;
        Ok(StatusServer { listener })
    }

    /// Where it listens: the real port where 0 was asked for.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `shutdown` completes.
    pub async fn serve(self, site: Arc<Site>, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                _ = connections.join_next(), if !connections.is_empty() => continue,
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: asking again at once would only turn round.
                    debug!(%error, "no connection could be accepted");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let site = site.clone();
            // A client that goes away is none of our business.
            connections.spawn(async move { drop(timeout(CONNECTION_LIFE, connected(stream, &site)).await) });
        }
    }
}

async fn connected(stream: TcpStream, site: &Site) {
    let Some(tls) = site.tls() else { return answered(TokioIo::new(stream), site).await };
    match timeout(REQUEST_WITHIN, tls.accept(stream)).await {
        Ok(Ok(stream)) => answered(TokioIo::new(stream), site).await,
        // Whoever asks for HTTP, or does not trust the certificate; or a file that is under renewal.
        Ok(Err(error)) => debug!(%error, "no connection to the status page"),
        Err(_) => debug!("a connection to the status page came to no handshake"),
    }
}

async fn answered(stream: impl Read + Write + Unpin, site: &Site) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(site.answer(request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(stream, service);
    if let Err(error) = connection.await {
        debug!(%error, "a connection to the status page broke");
    }
}

/// Serves until `shutdown` completes, and waits for the port if someone else has it: the process that
/// works, while this one stands by on the same host with the same configuration. Says so once.
pub async fn serve_when_free(listen: &str, site: Arc<Site>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut told = false;
    loop {
        match StatusServer::bind(listen).await {
            Ok(server) => {
                let address = server.address().map_or_else(|| listen.to_owned(), |address| address.to_string());
                Listening { what: site.what(), address: &address }.emit();
                return server.serve(site, shutdown).await;
            }
            Err(error) if !told => {
                let what = site.what();
                warn!(what, %error, hint = error.remedy(), "not served; trying again until the port is free");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = &mut shutdown => return,
            () = sleep(RETRY_PORT) => {}
        }
    }
}

fn refused(listen: &str, error: &io::Error) -> Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => "is in use by another process".to_owned(),
        io::ErrorKind::AddrNotAvailable => "is no address of this host".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be used by this user".to_owned(),
        _ => format!("cannot be used: {error}"),
    };
    Error::new(Code::Config, format!("server.listen: {listen} {what}"))
        .hint("give [server] another address and port, or \"off\"; two bridges on one host need two ports")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{
        observe::{
            DirectionState, Metrics,
            events::{Active, Connected, StateChanged},
        },
        side::Side,
    };

    async fn get(address: SocketAddr, request: &str) -> String {
        send(address, &format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }

    async fn send(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_probes_are_served_until_the_end() {
        let metrics = Arc::new(Metrics::new("b", ["shop", "stock"]).unwrap());
        let server = StatusServer::bind("127.0.0.1:0").await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let site = Arc::new(Site::metrics(metrics.clone()));
        let served = tokio::spawn(server.serve(site, async { stopped.await.unwrap_or_default() }));

        assert!(get(address, "GET /livez").await.starts_with("HTTP/1.1 200 OK"));
        for path in ["/livez", "/nothing"] {
            assert!(get(address, &format!("GET {path}")).await.contains("\r\npontoon-bridge: b\r\n"), "{path}");
        }
        let ready = get(address, "GET /readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("node shop is not connected yet"), "{ready}");
        Active.emit(&metrics);
        let peer = pontoon_core::node::Peer {
            server: "PostgreSQL 15".into(),
            certificate_expiry: None,
            statement_bytes_max: None,
        };
        for side in Side::BOTH {
            Connected { node: side, peer: &peer }.emit(&metrics);
            StateChanged { source: side, state: DirectionState::Streaming }.emit(&metrics);
            metrics.direction(side).set_lag_seconds(0.0);
        }
        assert!(get(address, "GET /readyz").await.ends_with("ready\n"));
        let page = get(address, "GET /metrics").await;
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        assert!(page.contains("pontoon_active{bridge=\"b\"} 1"));
        for path in ["/", "/api/status", "/page.js", "/rows/conflict/1", "/api/pause", "/nothing"] {
            assert!(get(address, &format!("GET {path}")).await.starts_with("HTTP/1.1 404 "), "{path}");
        }
        assert!(get(address, "POST /metrics").await.starts_with("HTTP/1.1 405 "));
        assert!(get(address, "POST /api/pause").await.starts_with("HTTP/1.1 404 "));
        let head = get(address, "HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");

        stop.send(()).unwrap();
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_request_has_limits() {
        let metrics = Arc::new(Metrics::new("b", ["shop", "stock"]).unwrap());
        let server = StatusServer::bind("127.0.0.1:0").await.unwrap();
        let address = server.address().unwrap();
        let served = tokio::spawn(server.serve(Arc::new(Site::metrics(metrics)), std::future::pending()));
        let long = "y".repeat(HEAD_BYTES_MAX);
        let answer = send(address, &format!("GET /livez HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let headers: String = (0..HEADERS_MAX).map(|number| format!("x-{number}: y\r\n")).collect();
        assert!(
            send(address, &format!("GET /livez HTTP/1.1\r\nhost: x\r\n{headers}\r\n"))
                .await
                .starts_with("HTTP/1.1 431 ")
        );
        // Those that wait and say nothing do not keep it from others for ever, and what is too much waits.
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let waiting = tokio::spawn(get(address, "GET /livez"));
        sleep(Duration::from_millis(300)).await;
        assert!(!waiting.is_finished(), "one more than are served at a time");
        drop(silent);
        assert!(timeout(REQUEST_WITHIN, waiting).await.unwrap().unwrap().contains("alive"));
        served.abort();
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_and_taken_over() {
        let first = StatusServer::bind("127.0.0.1:0").await.unwrap();
        let address = first.address().unwrap();
        let listen = address.to_string();
        let Err(error) = StatusServer::bind(&listen).await else { panic!("taken twice") };
        assert_eq!(error.code(), Code::Config);
        assert_eq!(error.message(), format!("server.listen: {listen} is in use by another process"));

        let site = Arc::new(Site::metrics(Arc::new(Metrics::new("b", ["shop", "stock"]).unwrap())));
        let second = tokio::spawn(async move { serve_when_free(&listen, site, std::future::pending()).await });
        sleep(Duration::from_millis(50)).await;
        drop(first);
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        assert!(get(address, "GET /livez").await.contains("alive"));
        second.abort();
    }
}
