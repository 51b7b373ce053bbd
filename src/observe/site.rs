//! What a port answers: the page and everything beside it, or metrics and probes alone.
//!
//! | path | | needs the token |
//! | --- | --- | --- |
//! | `/livez`, `/readyz`, `/metrics` | GET | where others reach the page; at `metrics_listen` never |
//! | `/`, `/page.css`, `/page.js`, `/icon.svg`, `/api/status` | GET | where others reach the page |
//! | `/rows/conflict/ID`, `/rows/quarantine/ID` | GET | always |
//! | `/api/pause`, `/api/resume`, `/api/quarantine/retry`, `/api/quarantine/discard` | POST | always |
//!
//! Nothing is done by GET, and nothing is told of what is there before [`Guard`] lets the request in.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE},
};
use pontoon_core::Error;
use pontoon_tls::Own;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Metrics, StatusError,
    desk::{Act, Desk},
    guard::{Guard, Refusal},
    page::{self, View},
};
use crate::{config::Config, nodes::Nodes};

/// Every answer says in this header whose page it is: at a port that is written twice another bridge answers.
pub(super) const BRIDGE: &str = "pontoon-bridge";

/// The body of a request: a direction, or some thousand numbers of entries.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Who sends a body has sent it by then.
const BODY_WITHIN: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What a browser is told of every answer: nothing but what comes from here is loaded or run, nobody shows it in a frame, and nobody else reads it.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        HeaderName::from_static("content-security-policy"),
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
];

/// What is served at a port.
pub struct Site {
    metrics: Arc<Metrics>,
    page: Option<Page>,
}

struct Page {
    guard: Guard,
    desk: Desk,
    tls: Option<Own>,
}

type Answer = Response<Full<Bytes>>;

impl Site {
    /// Metrics and probes alone, for whoever reaches the port.
    pub fn metrics(metrics: Arc<Metrics>) -> Site {
        Site { metrics, page: None }
    }

    /// The page of a configuration between its opened nodes.
    pub fn page(config: &Config, nodes: &Nodes, metrics: Arc<Metrics>) -> Site {
        let (guard, desk) = (Guard::of(&config.server), Desk::new(config, nodes, metrics.clone()));
        Site { metrics, page: Some(Page { guard, desk, tls: config.server.tls.clone() }) }
    }

    /// For people.
    pub(super) fn what(&self) -> &'static str {
        if self.page.is_some() { "status page" } else { "metrics and probes" }
    }

    pub(super) fn tls(&self) -> Option<&Own> {
        self.page.as_ref()?.tls.as_ref()
    }

    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut answer = match &self.page {
            None => self.open(&request).unwrap_or_else(|| missing("there are /metrics /livez and /readyz\n")),
            Some(page) => match page.guard.reader(&request) {
                Err(refusal) => refused(&refusal),
                Ok(()) => match self.open(&request) {
                    Some(answer) => answer,
                    None => self.paged(page, request).await,
                },
            },
        };
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
        if let Ok(name) = HeaderValue::from_str(&self.metrics.bridge) {
            headers.insert(BRIDGE, name);
        }
        answer
    }

    /// Metrics and probes; `None` for any other path.
    fn open<B>(&self, request: &Request<B>) -> Option<Answer> {
        let metrics = &self.metrics;
        let answered = || match request.uri().path() {
            "/metrics" => match metrics.encode() {
                Ok(page) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", page),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            "/livez" => answer(StatusCode::OK, TEXT, "alive\n"),
            _ => match metrics.not_ready() {
                reasons if reasons.is_empty() => answer(StatusCode::OK, TEXT, "ready\n"),
                reasons => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n"),
            },
        };
        let is_open = matches!(request.uri().path(), "/metrics" | "/livez" | "/readyz");
        is_open.then(|| only_get(request.method()).unwrap_or_else(answered))
    }

    async fn paged<B>(&self, page: &Page, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        if Act::PATHS.contains(&path) {
            return page.acted(request).await;
        }
        if let Some(other_method) = only_get(request.method()) {
            return other_method;
        }
        match path {
            "/" => self.whole(page).await,
            "/page.css" => answer(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
            "/page.js" => answer(StatusCode::OK, "text/javascript; charset=utf-8", page::SCRIPT),
            "/icon.svg" => answer(StatusCode::OK, "image/svg+xml", page::ICON),
            "/api/status" => match serde_json::to_string(&self.metrics.status()) {
                Ok(document) => answer(StatusCode::OK, JSON, document + "\n"),
                Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            _ => match path.strip_prefix("/rows/").and_then(|row| row.split_once('/')) {
                Some((kind, id)) => page.rows(&request, kind, id).await,
                None => missing("there are / /metrics /livez /readyz and /api/status\n"),
            },
        }
    }

    async fn whole(&self, page: &Page) -> Answer {
        let (board, status) = (page.desk.board().await, self.metrics.status());
        let view = View { status: &status, board: &board, metrics: &self.metrics, can_act: page.guard.has_token() };
        answer(StatusCode::OK, HTML, page::render(&view))
    }
}

impl Page {
    /// The rows of one conflict or entry.
    async fn rows<B>(&self, request: &Request<B>, kind: &str, id: &str) -> Answer {
        if let Err(refusal) = self.guard.actor(request) {
            return refused(&refusal);
        }
        let Ok(id) = id.parse() else { return missing("there is no such row\n") };
        let found = match kind {
            "conflict" => {
                let found = self.desk.conflict(id).await;
                found.map(|found| found.map(|record| page::conflict(&record, self.desk.names())))
            }
            "quarantine" => self.desk.entry(id).await.map(|found| found.map(|found| page::entry(&found))),
            _ => Ok(None),
        };
        match found {
            Ok(Some(rows)) => answer(StatusCode::OK, HTML, rows),
            Ok(None) => missing("it is not there any more\n"),
            Err(error) => failed(&error),
        }
    }

    /// Does what is asked, if it is asked as it has to be.
    async fn acted<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if request.method() != Method::POST {
            return wrong_method("POST");
        }
        if let Err(refusal) = self.guard.actor(&request) {
            return refused(&refusal);
        }
        // No form of another site can send this.
        if request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != JSON) {
            return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, "the body has to be application/json\n");
        }
        let (head, body) = request.into_parts();
        let body = match timeout(BODY_WITHIN, Limited::new(body, BODY_BYTES_MAX).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too large, or broke off\n"),
            Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not come\n"),
        };
        let done = match Act::of(head.uri.path(), &body) {
            Ok(act) => {
                tracing::info!(?act, "asked from the status page");
                self.desk.act(act).await
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(said) => answer(StatusCode::OK, JSON, json!({ "schema_version": 1, "said": said }).to_string() + "\n"),
            Err(error) => failed(&error),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn missing(text: &'static str) -> Answer {
    answer(StatusCode::NOT_FOUND, TEXT, text)
}

fn refused(refusal: &Refusal) -> Answer {
    let mut answer = answer(refusal.status, TEXT, refusal.why);
    if let Some(challenge) = refusal.challenge {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    answer
}

/// What the commands say on standard error, as a document.
fn failed(error: &Error) -> Answer {
    let status = match error.code().exit() {
        2 => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    answer(status, JSON, json!({ "schema_version": 1, "error": StatusError::from(error) }).to_string() + "\n")
}

/// The refusal of another method where something is read.
fn only_get(method: &Method) -> Option<Answer> {
    (!matches!(*method, Method::GET | Method::HEAD)).then(|| wrong_method("GET, HEAD"))
}

fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {allowed}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
