//! The HTTP server: metrics, probes, status. It reads, and changes nothing.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use pontoon_core::{Code, Error, Result};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};
use tracing::{debug, warn};

use super::{Metrics, events::Listening, page};

/// Connections served at a time. A scraper and a few browsers need less; more wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// Who opens a connection and sends no request does not hold it for longer.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// A connection is given up after this long, whatever it is doing.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// Every answer says in this header whose page it is: at a port that is written twice another bridge answers.
pub(super) const BRIDGE: &str = "pontoon-bridge";

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
    pub async fn serve(self, metrics: Arc<Metrics>, shutdown: impl Future<Output = ()>) {
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
            let metrics = metrics.clone();
            connections.spawn(async move {
                let service = service_fn(|request| {
                    let response = of_bridge(respond(&request, &metrics), &metrics);
                    async { Ok::<_, Infallible>(response) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(REQUEST_WITHIN)
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away is none of our business.
                let _ = tokio::time::timeout(CONNECTION_LIFE, connection).await;
            });
        }
    }
}

/// Serves until `shutdown` completes, and waits for the port if someone else has it: the process that
/// works, while this one stands by on the same host with the same configuration. Says so once.
pub async fn serve_when_free(listen: &str, metrics: Arc<Metrics>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let mut told = false;
    loop {
        match StatusServer::bind(listen).await {
            Ok(server) => {
                let address = server.address().map_or_else(|| listen.to_owned(), |address| address.to_string());
                Listening { address: &address }.emit();
                return server.serve(metrics, shutdown).await;
            }
            Err(error) if !told => {
                warn!(%error, hint = error.remedy(), "no status page; trying again until the port is free");
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
        .hint("give [server] listen another address and port, or \"off\"; two bridges on one host need two ports")
}

fn respond<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match request.uri().path() {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        "/metrics" => match metrics.encode() {
            Ok(page) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/livez" => (StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => match metrics.not_ready() {
            reasons if reasons.is_empty() => (StatusCode::OK, TEXT, "ready\n".to_owned()),
            reasons => (StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
        },
        "/api/status" => match serde_json::to_string(&metrics.status()) {
            Ok(document) => (StatusCode::OK, "application/json", document + "\n"),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/" => (StatusCode::OK, "text/html; charset=utf-8", page::render(&metrics.status())),
        _ => (StatusCode::NOT_FOUND, TEXT, "there are / /metrics /livez /readyz and /api/status\n".to_owned()),
    };
    answer(status, kind, body)
}

/// With the name of the bridge.
fn of_bridge(mut response: Response<Full<Bytes>>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if let Ok(name) = HeaderValue::from_str(&metrics.bridge) {
        response.headers_mut().insert(BRIDGE, name);
    }
    response
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// The service's type, so that a change of hyper's body is met here.
const _: fn(&Request<Incoming>, &Metrics) -> Response<Full<Bytes>> = respond::<Incoming>;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        observe::{
            DirectionState,
            events::{Active, Connected, StateChanged},
        },
        side::Side,
    };

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_are_served_until_the_end() {
        let metrics = Arc::new(Metrics::new("b", ["shop", "stock"]).unwrap());
        let server = StatusServer::bind("127.0.0.1:0").await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(metrics.clone(), async { stopped.await.unwrap_or_default() }));

        assert!(get(address, "GET /livez").await.starts_with("HTTP/1.1 200 OK"));
        for path in ["/livez", "/", "/nothing"] {
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
        let status = get(address, "GET /api/status?x=1").await;
        let body = status.split("\r\n\r\n").nth(1).unwrap();
        let status: super::super::StatusSnapshot = serde_json::from_str(body).unwrap();
        assert!(status.ready && status.active);
        assert!(get(address, "GET /").await.contains("<h1>b "));
        assert!(get(address, "GET /nothing").await.starts_with("HTTP/1.1 404 "));
        assert!(get(address, "POST /metrics").await.starts_with("HTTP/1.1 405 "));
        let head = get(address, "HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");

        stop.send(()).unwrap();
        served.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_and_taken_over() {
        let first = StatusServer::bind("127.0.0.1:0").await.unwrap();
        let address = first.address().unwrap();
        let listen = address.to_string();
        let Err(error) = StatusServer::bind(&listen).await else { panic!("taken twice") };
        assert_eq!(error.code(), Code::Config);
        assert_eq!(error.message(), format!("server.listen: {listen} is in use by another process"));

        let metrics = Arc::new(Metrics::new("b", ["shop", "stock"]).unwrap());
        let second = tokio::spawn(async move { serve_when_free(&listen, metrics, std::future::pending()).await });
        sleep(Duration::from_millis(50)).await;
        drop(first);
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        assert!(get(address, "GET /livez").await.contains("alive"));
        second.abort();
    }
}
