//! Who may ask the page what.
//!
//! * **The name that is asked for** has to be one of ours, whatever the address: a site whose name is made to mean this host (DNS rebinding) would else be of
//!   the same origin as the page, for a browser that runs its script. An address is always right, since no name was looked up for it.
//! * **Reading** needs nothing where only this host reaches the port. Elsewhere it needs the token, which a browser asks its user for (`Basic`, any user).
//! * **Acting**, and seeing rows, needs the token as `Bearer`. No browser adds that by itself, whoever's page makes it ask; a script of another origin that adds it has
//!   its browser ask us first, and is refused by having no answer. What browsers say of where a request comes from (`Origin`, `Sec-Fetch-Site`) is looked at all the
//!   same: it holds where a token has leaked into a form.

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{
    HeaderMap, Request, StatusCode,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
    http::uri::Authority,
};
use pontoon_core::node::Secret;
use subtle::ConstantTimeEq;

use crate::config;

/// Who asks for the token: a browser in its own window, or the page's script.
const BASIC: &str = "Basic realm=\"pontoon: any user, the token as password\", charset=\"UTF-8\"";
const BEARER: &str = "Bearer realm=\"pontoon\"";

/// What a browser says of the page that made it ask. Others say nothing.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
    /// How to come with the token.
    pub(super) challenge: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, why: &'static str) -> Refusal {
        Refusal { status, why, challenge: None }
    }
}

/// What a configuration says of it.
pub(super) struct Guard {
    names: Vec<String>,
    token: Option<Secret>,
    is_local: bool,
}

impl Guard {
    pub(super) fn of(server: &config::Server) -> Guard {
        let listen = server.listen.as_deref().and_then(|listen| listen.rsplit_once(':'));
        let own = listen.map(|(host, _)| host.to_owned());
        let names = server.host_names.iter().cloned().chain(own).chain(["localhost".to_owned()]).collect();
        Guard { names, token: server.token.clone(), is_local: server.is_local() }
    }

    /// Whether somebody may act at all.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the request may be looked at, and what may be read be read.
    pub(super) fn reader<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let asked = only(request.headers(), &HOST).and_then(|host| host.parse::<Authority>().ok());
        let other = request.uri().authority();
        if !asked.is_some_and(|host| self.is_ours(&host)) || other.is_some_and(|host| !self.is_ours(host)) {
            let why = "no name of this page was asked for; [server] host_names has those that are not an address or localhost\n";
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
        }
        if self.is_local || self.is_known(request.headers(), &["Bearer", "Basic"]) {
            return Ok(());
        }
        Err(Refusal { challenge: Some(BASIC), ..Refusal::new(StatusCode::UNAUTHORIZED, "the token is needed\n") })
    }

    /// Whether who may read may also act, or see rows.
    pub(super) fn actor<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let headers = request.headers();
        let is_of_us = |value: &str| {
            // Behind a proxy with TLS the scheme is another one here than there.
            let origin = value.split_once("://").map(|(_, authority)| authority);
            origin.is_some() && origin == only(headers, &HOST)
        };
        let is_same = |value: &str| value == "same-origin";
        if !every(headers, &ORIGIN, is_of_us) || !every(headers, &SEC_FETCH_SITE, is_same) {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "another site's page may not ask for this\n"));
        }
        if self.token.is_none() {
            let why = "nobody has a token: [server] token_file names none\n";
            return Err(Refusal::new(StatusCode::FORBIDDEN, why));
        }
        if self.is_known(headers, &["Bearer"]) {
            return Ok(());
        }
        Err(Refusal {
            challenge: Some(BEARER),
            ..Refusal::new(StatusCode::UNAUTHORIZED, "the token is missing, or is another one\n")
        })
    }

    /// Names are compared without ports: a browser may reach the page by another one, through a tunnel or a container's.
    fn is_ours(&self, asked: &Authority) -> bool {
        let host = asked.host();
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        !asked.as_str().contains('@')
            && (inside.parse::<std::net::IpAddr>().is_ok()
                || self.names.iter().any(|name| name.eq_ignore_ascii_case(host)))
    }

    fn is_known(&self, headers: &HeaderMap, schemes: &[&str]) -> bool {
        let given = only(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '));
        let Some((token, (scheme, given))) = self.token.as_ref().zip(given) else { return false };
        if !schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return false;
        }
        if !scheme.eq_ignore_ascii_case("Basic") {
            return is_same(token, given.trim().as_bytes());
        }
        let decoded = BASE64_STANDARD.decode(given.trim()).unwrap_or_default();
        let colon = decoded.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| is_same(token, &decoded[colon + 1..]))
    }
}

/// In a time that tells nothing of the token but its length.
fn is_same(token: &Secret, given: &[u8]) -> bool {
    token.reveal().as_bytes().ct_eq(given).into()
}

/// A header that stands there once. Two would be read as one by one and as the other by another.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn every(headers: &HeaderMap, name: &HeaderName, is_fit: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(&is_fit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123";

    fn guard(listen: &str) -> Guard {
        Guard::of(&config::Server {
            listen: Some(listen.to_owned()),
            metrics_listen: None,
            host_names: vec!["bridge.example".to_owned()],
            token: Some(Secret::new(TOKEN)),
            tls: None,
            ready_lag_seconds: 1.0,
        })
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(answer: Result<(), Refusal>) -> u16 {
        answer.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let guard = guard("db-1:9787");
        let asked = |headers: &[(&str, &str)]| {
            let bearer = format!("Bearer {TOKEN}");
            status(guard.reader(&request(&[headers, &[("authorization", &bearer)]].concat())))
        };
        for ours in
            ["127.0.0.1:9787", "[::1]:9787", "10.0.0.7", "localhost:1", "LOCALHOST", "Bridge.example:443", "db-1:9787"]
        {
            assert_eq!(asked(&[("host", ours)]), 200, "{ours}");
        }
        for other in ["evil.example:9787", "127.0.0.1.evil.example", "localhost.evil", "a@127.0.0.1", "", "a b", "[::1"]
        {
            assert_eq!(asked(&[("host", other)]), 421, "{other}");
        }
        assert_eq!(asked(&[]), 421, "no name");
        assert_eq!(asked(&[("host", "localhost"), ("host", "localhost")]), 421, "two");
        let mut absolute = request(&[("host", "localhost")]);
        *absolute.uri_mut() = "http://evil.example/".parse().unwrap();
        assert_eq!(status(guard.reader(&absolute)), 421);
    }

    #[test]
    fn reading_is_free_on_this_host_alone() {
        let far = guard("10.0.0.1:9787");
        let read = |guard: &Guard, value: &str| {
            let given = [("host", "localhost"), ("authorization", value)];
            status(guard.reader(&request(if value.is_empty() { &given[..1] } else { &given })))
        };
        assert_eq!(read(&guard("127.0.0.1:9787"), ""), 200);
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert_eq!(read(&far, &format!("Bearer {TOKEN}")), 200);
        assert_eq!(read(&far, &format!("bearer {TOKEN}")), 200);
        assert_eq!(read(&far, &basic(&format!("anybody:{TOKEN}"))), 200);
        for bad in ["", "Bearer", "Bearer x", &basic(TOKEN), &basic("a:b"), "Basic !", &format!("Digest {TOKEN}")] {
            assert_eq!(read(&far, bad), 401, "{bad}");
        }
        assert_eq!(far.reader(&request(&[("host", "localhost")])).unwrap_err().challenge, Some(BASIC));
    }

    #[test]
    fn acting_takes_the_token_and_our_own_page() {
        let guard = guard("127.0.0.1:9787");
        let bearer = format!("Bearer {TOKEN}");
        let act = |headers: &[(&str, &str)]| {
            let with = [&[("host", "localhost:9787"), ("authorization", &bearer)], headers].concat();
            status(guard.actor(&request(&with)))
        };
        assert_eq!(act(&[]), 200, "who is no browser says nothing of it");
        assert_eq!(act(&[("origin", "http://localhost:9787"), ("sec-fetch-site", "same-origin")]), 200);
        for origin in ["http://evil.example", "null", "http://localhost", "http://localhost:9788", "localhost:9787"] {
            assert_eq!(act(&[("origin", origin)]), 403, "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert_eq!(act(&[("sec-fetch-site", site)]), 403, "{site}");
        }
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("a:{TOKEN}")));
        for bad in ["Bearer 0123456789abcdef0124", "Bearer ", &format!("Bearer {TOKEN}x"), &basic] {
            let refused = guard.actor(&request(&[("host", "localhost"), ("authorization", bad)])).unwrap_err();
            assert_eq!((refused.status.as_u16(), refused.challenge), (401, Some(BEARER)), "{bad}");
        }
        let nobody = Guard { token: None, ..guard };
        let refused = nobody.actor(&request(&[("host", "localhost"), ("authorization", &bearer)])).unwrap_err();
        assert_eq!(refused.status.as_u16(), 403);
    }
}
