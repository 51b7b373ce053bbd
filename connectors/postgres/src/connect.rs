//! From a URL to a connection: address, TLS, login, pinned settings.
//!
//! Settings are pinned in the startup message, so that they hold before the first statement and cost
//! no round trip, and whatever the server, database or role has for defaults:
//!
//! * text forms (`DateStyle`, `IntervalStyle`, `TimeZone`, `extra_float_digits`, `bytea_output`): what
//!   [`crate::decode`] reads;
//! * safety (`search_path` empty, `row_security` off): nobody's function or policy gets in between; a
//!   table with a policy that would hide rows gives an error instead (manual, "row_security");
//! * time-outs by which the server ends a session whose host is dead: `tcp_keepalives_*` here,
//!   `idle_in_transaction_session_timeout` and `idle_session_timeout` (14 and later) by role.

use std::{path::PathBuf, sync::Arc, time::Duration};

use pontoon_core::{
    Code, Error, Result,
    node::{NodeOptions, Secret},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use url::Url;

use pontoon_tls::{Mode, POSTGRES, Tls};

use crate::{
    error,
    login::in_the_clear,
    socket::{self, Address, Socket},
    watch::{self, Asked, WatchedSocket},
};

/// A connection that is not there by then never will be; `connect_timeout` in the url overrides it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Lock waits end after this, for two bridges can wait for each other where no database sees it.
pub(crate) const LOCK_TIMEOUT: &str = "5s";

/// How long a dropped connection may take to say goodbye before its socket is closed.
const GOODBYE: Duration = Duration::from_millis(200);

/// Where and as whom to connect.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: Option<Secret>,
    pub(crate) tls: Tls,
    pub(crate) connect_timeout: Duration,
}

impl Target {
    /// Reads the URL. Errors: [`Code::Config`].
    pub(crate) fn parse(options: &NodeOptions) -> Result<Target> {
        let wrong = |text: String| {
            Error::new(Code::Config, format!("{}: url: {text}", options.name))
                .hint("postgresql://user@host:5432/database?sslmode=verify-full")
        };
        // The parser's error does not repeat the text, which may hold a password.
        let url = Url::parse(&options.url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "postgresql" | "postgres") {
            return Err(wrong(format!("{}:// is not PostgreSQL's scheme", url.scheme())));
        }
        let decode = |text: &str| percent_decode(text).ok_or_else(|| wrong("is not UTF-8 once decoded".into()));
        let mut host = decode(url.host_str().unwrap_or_default())?;
        let mut port = url.port().unwrap_or(5432);
        let mut user = decode(url.username())?;
        let mut database = decode(url.path().trim_start_matches('/'))?;
        let mut password = options.password.clone();
        if let (None, Some(text)) = (&password, url.password()) {
            password = Some(Secret::new(decode(text)?));
        }
        let (mut tls, mut connect_timeout) = (pontoon_tls::Options::new(&POSTGRES), CONNECT_TIMEOUT);
        for (name, value) in url.query_pairs() {
            match &*name {
                "host" => host = value.into_owned(),
                "port" => port = value.parse().map_err(|_| wrong("port is no number".into()))?,
                "user" => user = value.into_owned(),
                "dbname" => database = value.into_owned(),
                "connect_timeout" => {
                    let seconds = value.parse().map_err(|_| wrong("connect_timeout is no number of seconds".into()));
                    connect_timeout = Duration::from_secs(seconds?);
                }
                name if tls.take(name, &value).map_err(&wrong)? => {}
                other => {
                    return Err(wrong(format!("parameter {other:?} is not known")).hint(
                        "known are host, port, user, dbname, sslmode, sslrootcert, sslcert, sslkey and connect_timeout (seconds)",
                    ));
                }
            }
        }
        if user.is_empty() {
            return Err(wrong("names no user".into()));
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        let host = host.trim_matches(['[', ']']);
        let address = match host {
            "" => return Err(wrong("names no host".into())),
            path if path.starts_with('/') => Address::Unix(PathBuf::from(format!("{path}/.s.PGSQL.{port}"))),
            host => Address::Tcp(host.to_owned(), port),
        };
        let tls = match address {
            Address::Unix(_) => Ok(Tls::none(&POSTGRES)),
            Address::Tcp(..) => tls.decide(address.is_local().then_some(Mode::Prefer)),
        };
        let tls = tls.map_err(|error| error.at(&options.name))?;
        Ok(Target { address, user, database, password, tls, connect_timeout })
    }

    /// Opens a connection of the driver.
    pub(crate) async fn connect(&self, role: &Role) -> Result<Link> {
        self.in_time(self.try_connect(role)).await
    }

    /// Gives a connection up that is not there in time. Its errors say where.
    pub(crate) async fn in_time<T>(&self, connecting: impl Future<Output = Result<T>>) -> Result<T> {
        let late = |_| {
            let seconds = self.connect_timeout.as_secs();
            Error::new(Code::Unreachable, format!("no answer within {seconds} s")).hint(
                "does a firewall swallow it, or does something accept connections there that is no PostgreSQL server?",
            )
        };
        let done = timeout(self.connect_timeout, connecting).await.map_err(late).flatten();
        done.map_err(|error| error.at(&self.address))
    }

    async fn try_connect(&self, role: &Role) -> Result<Link> {
        let socket = Socket::open(&self.address, &self.tls).await?;
        let certificate_expiry = socket.certificate_expiry();
        let asked = Arc::<Asked>::default();
        let socket = WatchedSocket::new(socket, asked.clone());
        let mut config = tokio_postgres::Config::new();
        // The socket is encrypted by now, or is not to be.
        config
            .ssl_mode(tokio_postgres::config::SslMode::Disable)
            .user(&self.user)
            .dbname(&self.database)
            .application_name(&role.application_name)
            .options(role.startup_options());
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        let connected = config.connect_raw(socket, NoTls).await;
        let (client, connection) = connected.map_err(|error| match asked.in_the_clear.was_asked_for() {
            true => login(in_the_clear(), self),
            false => login(error::of_statement(&error), self),
        })?;
        let (goodbye, dropped) = oneshot::channel::<()>();
        let (target, role, watched) = (self.clone(), role.clone(), asked.clone());
        let driver = tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let dropped = async {
                let _ = dropped.await;
                tokio::time::sleep(GOODBYE).await;
            };
            // An error reaches the statements that wait; there is nobody else to tell.
            tokio::select! {
                _ = &mut connection => {}
                () = dropped => {}
                () = watch::until_lost(target, role, watched) => {}
            }
        });
        let link = Link { client, certificate_expiry, _goodbye: goodbye, _driver: driver };
        let backend = link.client.simple_query("SELECT pg_backend_pid()").await;
        for message in backend.map_err(|error| error::of_statement(&error))? {
            if let SimpleQueryMessage::Row(row) = message
                && let Some(backend) = row.get(0).and_then(|text| text.parse().ok())
            {
                let _ = asked.backend.set(backend);
            }
        }
        Ok(link)
    }
}

/// An error while logging in, as whom. Where is said by [`Target::in_time`].
pub(crate) fn login(error: Error, target: &Target) -> Error {
    let error = match error.code() {
        // The driver's own words where a password is wanted and there is none, or the other way round.
        Code::Protocol if DRIVER_REFUSES.iter().any(|words| error.message().starts_with(words)) => {
            let refused = Error::new(Code::LoginRefused, error.message());
            refused.hint("give the node password_file or password_env")
        }
        Code::Protocol => return socket::stranger(),
        Code::Internal => Error::new(Code::LoginRefused, error.message()).hint("the server's log may say more"),
        Code::ConnectionLost => Error::new(Code::Unreachable, error.message())
            .hint("the server ended the connection during the login; its log may say why"),
        _ => error,
    };
    error.at(format_args!("user {:?}, database {:?}", target.user, target.database))
}

/// How the driver begins to say that it does not go on with a login (its `Error` hides the kind).
const DRIVER_REFUSES: [&str; 2] = ["invalid configuration", "authentication error"];

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// What a connection is for: its name in `pg_stat_activity`, and its own settings.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) application_name: String,
    settings: Vec<(&'static str, String)>,
}

/// The settings that every connection has; the values have no blanks.
const PINNED: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("search_path", ""),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", LOCK_TIMEOUT),
    ("default_transaction_read_only", "off"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

impl Role {
    /// A role of this bridge.
    pub(crate) fn new(bridge: &str, what: &str) -> Role {
        Role { application_name: format!("pontoon {bridge} {what}"), settings: Vec::new() }
    }

    /// The role of who looks at what a connection of this one does.
    pub(crate) fn watching(&self) -> Role {
        Role { application_name: format!("{} watch", self.application_name), settings: Vec::new() }
    }

    /// Adds a setting, or overrides a pinned one.
    #[must_use]
    pub(crate) fn set(mut self, name: &'static str, value: impl Into<String>) -> Role {
        self.settings.push((name, value.into()));
        self
    }

    /// `-c name=value ...` of the startup message; the last of a name counts.
    pub(crate) fn startup_options(&self) -> String {
        let pinned = PINNED.iter().map(|&(name, value)| (name, value));
        let own = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let words: Vec<_> = pinned.chain(own).map(|(name, value)| format!("-c {name}={}", escape(value))).collect();
        words.join(" ")
    }
}

/// Blanks end a word of the startup options unless a backslash is before them (manual, "options").
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

/// An open connection of the driver. Dropping it ends the session: by a goodbye if nothing is under
/// way, else by closing the socket a moment later.
pub(crate) struct Link {
    pub(crate) client: Client,
    /// When the server's certificate ends, in seconds since 1970 UTC; `None` without TLS.
    pub(crate) certificate_expiry: Option<i64>,
    _goodbye: oneshot::Sender<()>,
    _driver: JoinHandle<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target> {
        let options = NodeOptions { name: "shop".into(), bridge: "b".into(), url: url.into(), password: None };
        Target::parse(&options)
    }

    #[test]
    fn urls_are_read() {
        let target = parse("postgresql://us%40er:p%20w@127.0.0.1/my%20db").unwrap();
        assert_eq!(target.user, "us@er");
        assert_eq!(target.database, "my db");
        assert_eq!(target.address, Address::Tcp("127.0.0.1".into(), 5432));
        assert_eq!(target.password.unwrap().reveal(), "p w");
        assert_eq!(target.tls.mode(), Mode::Prefer);
        let target = parse("postgres://pontoon@%2Fvar%2Frun/shop?port=5433").unwrap();
        assert_eq!(target.address, Address::Unix("/var/run/.s.PGSQL.5433".into()));
        let target = parse("postgresql://pontoon@[::1]:99/shop?sslmode=disable").unwrap();
        assert_eq!(target.address, Address::Tcp("::1".into(), 99));
        assert_eq!(target.tls.mode(), Mode::Disable);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for url in [
            "mysql://u@h/d",
            "nothing",
            "postgresql://h/d",
            "postgresql://u@/d",
            "postgresql://u@h/d?sslmode=verify_identity",
            "postgresql://u@127.0.0.1/d?sslMode=require",
            "postgresql://u@127.0.0.1/d?sslrootcert=/nonexistent&sslmode=verify-full",
            // Who names an authority wants it verified, on a loopback address as well.
            "postgresql://u@127.0.0.1/d?sslrootcert=/nonexistent",
        ] {
            assert_eq!(parse(url).map(|_| ()).unwrap_err().code(), Code::Config, "{url}");
        }
    }

    #[test]
    fn settings_are_words() {
        let role = Role::new("b", "x").set("lock_timeout", "1 s");
        assert!(role.startup_options().ends_with("-c lock_timeout=1\\ s"));
        assert!(role.startup_options().contains("-c search_path= -c"));
    }
}
