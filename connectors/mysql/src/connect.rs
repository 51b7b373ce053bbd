//! From a URL to a connection with pinned settings.
//!
//! Every connection is the bridge's own, never pooled, and says what it is for ([`Purpose`]): that
//! decides how long the server may hear nothing from it before it ends it. So all of a bridge's sessions
//! end by themselves when their host dies, and with them locks and open transactions:
//! `wait_timeout` is the one time-out that both servers apply between two statements, also within a
//! transaction (MySQL has no other), and it is read anew for each wait, so that a session lowers it
//! while it has a transaction open.
//!
//! TLS is rustls with ring. Without a word in the URL the server's certificate and name are verified,
//! but for a loopback address or a Unix socket, which use no TLS.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use mysql_async::{Conn, DriverError, OptsBuilder, SslOpts, prelude::Queryable};
use pontoon_core::{Code, Error, Result, node::NodeOptions};

use crate::error;

/// How long a connection may take to be made: a server on the other side of the world that is busy
/// answers sooner, and the engine's backoff goes on from there.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long any statement may take. All waits for locks end after [`LOCK_SECONDS`]; what takes longer
/// than this is a peer that is gone without a word.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a statement waits for a row or a table (whole seconds on both servers).
const LOCK_SECONDS: u32 = 5;

/// How long a session that applies may be idle between transactions; the engine drops it after 30 s.
pub(crate) const IDLE_SECONDS: u32 = 90;

/// How long a transaction may be idle: longer than a rendezvous, which waits 10 s at most.
pub(crate) const TRANSACTION_SECONDS: u32 = 20;

/// How long the lease may be idle; it is renewed every 3 s.
const LEASE_SECONDS: u32 = 10;

/// When the kernel asks a silent peer whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// `sql_mode`, word for word: nothing is cut, rounded to a range or replaced in silence, and a zero is a
/// zero. Backslashes escape, as the encoder of literals expects.
const SQL_MODE: &str =
    "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO";

/// Which of the two answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Oracle's server and builds of it.
    Mysql,
    /// MariaDB.
    Mariadb,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A look, over soon.
    Look,
    /// Reading tables or the log.
    Read,
    /// Holding the lease.
    Lease,
    /// Applying.
    Apply,
}

/// Where a server is and how to get in.
#[derive(Clone)]
pub(crate) struct Target {
    options: OptsBuilder,
    tls: Option<SslOpts>,
    plain_if_refused: bool,
    /// Host and port, for messages.
    pub(crate) address: String,
    /// Who logs in.
    pub(crate) user: String,
    /// The database of the URL, in which names without one are looked for.
    pub(crate) database: Option<String>,
}

impl Target {
    /// Reads the URL.
    pub(crate) fn parse(options: &NodeOptions) -> Result<Target> {
        let wrong = |what: &str| {
            Error::new(Code::Config, format!("node {}: the url {what}", options.name))
                .hint("mysql://user@host:3306/database?ssl-mode=verify_identity")
        };
        let url = url::Url::parse(&options.url).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        if !matches!(url.scheme(), "mysql" | "mariadb") {
            return Err(wrong("does not begin with mysql:// or mariadb://"));
        }
        let text = |raw: &str| {
            percent_encoding::percent_decode_str(raw)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| wrong("holds something that is not UTF-8"))
        };
        let user = text(url.username())?;
        let host = url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()).filter(|host| !host.is_empty());
        let database = Some(text(url.path().trim_start_matches('/'))?).filter(|name| !name.is_empty());
        let (mut mode, mut authority, mut socket) = (None, None, None);
        for (name, value) in url.query_pairs() {
            match &*name {
                "ssl-mode" | "sslmode" => mode = Some(value.to_lowercase().replace('-', "_")),
                "ssl-ca" | "sslrootcert" => authority = Some(PathBuf::from(&*value)),
                "socket" => socket = Some(value.into_owned()),
                other => return Err(wrong(&format!("has an unknown part {other:?}"))),
            }
        }
        let host =
            host.or_else(|| socket.is_some().then(|| "localhost".into())).ok_or_else(|| wrong("names no host"))?;
        let port = url.port().unwrap_or(3306);
        let password = match &options.password {
            Some(secret) => Some(secret.reveal().to_owned()),
            None => url.password().map(text).transpose()?,
        };
        let local = socket.is_some() || is_loopback(&host);
        let (tls, plain_if_refused) =
            tls(mode.as_deref(), authority, local).ok_or_else(|| wrong("has an unknown ssl-mode"))?;
        let address = socket.clone().unwrap_or_else(|| format!("{host}:{port}"));
        let opts = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(user.clone()))
            .pass(password)
            .db_name(database.clone())
            .prefer_socket(false)
            .socket(socket)
            .tcp_keepalive(Some(KEEPALIVE))
            .tcp_nodelay(true)
            // An update that sets what is there must count as a row found.
            .client_found_rows(true)
            // Everything goes by the text protocol.
            .stmt_cache_size(0)
            // The driver's own limit; the server's is asked for and kept by us.
            .max_allowed_packet(Some(PACKET_BYTES_MAX))
            .wait_timeout(Some(IDLE_SECONDS as usize))
            .connect_attribute("program_name", "pontoon");
        Ok(Target { options: opts, tls, plain_if_refused, address, user, database })
    }

    /// The same server for a user who may not see the database.
    pub(crate) fn without_database(&self) -> Target {
        let mut target = self.clone();
        (target.options, target.database) = (target.options.db_name(None::<String>), None);
        target
    }

    /// Connects and pins the settings.
    pub(crate) async fn connect(&self, purpose: Purpose) -> Result<Client> {
        let conn = match self.login(self.tls.clone()).await {
            Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) if self.plain_if_refused => {
                self.login(None).await
            }
            other => other,
        }
        .map_err(|error| error::at_login(&error, &self.address))?;
        Client::pinned(conn, purpose).await.map_err(|error| error.at(&self.address))
    }

    /// Where the server is and who logs in, as the driver knows it.
    pub(crate) fn options(&self) -> OptsBuilder {
        self.options.clone()
    }

    /// What TLS has to be; and whether a server without it is taken as well.
    pub(crate) fn tls(&self) -> Option<(&SslOpts, bool)> {
        self.tls.as_ref().map(|tls| (tls, self.plain_if_refused))
    }

    async fn login(&self, tls: Option<SslOpts>) -> Result<Conn, mysql_async::Error> {
        let connecting = Conn::new(self.options.clone().ssl_opts(tls));
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(result) => result,
            Err(_) => Err(mysql_async::Error::Io(mysql_async::IoError::Io(std::io::ErrorKind::TimedOut.into()))),
        }
    }
}

/// The largest packet that the protocol's servers accept (`max_allowed_packet` ends at 1 GiB).
const PACKET_BYTES_MAX: usize = 1 << 30;

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The TLS options of a mode, and whether a server without TLS is taken as well. `None` for an unknown word.
fn tls(mode: Option<&str>, authority: Option<PathBuf>, local: bool) -> Option<(Option<SslOpts>, bool)> {
    // Both rings of the driver's dependencies may be compiled in, and then none is chosen by itself. An
    // error means that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base = match authority {
        Some(path) => SslOpts::default().with_root_certs(vec![path.into()]).with_disable_built_in_roots(true),
        None => SslOpts::default(),
    };
    Some(match mode {
        None if local => (None, false),
        Some("disabled" | "disable") => (None, false),
        Some("preferred" | "prefer" | "allow") => (Some(base.with_danger_accept_invalid_certs(true)), true),
        Some("required" | "require") => (Some(base.with_danger_accept_invalid_certs(true)), false),
        Some("verify_ca") => (Some(base.with_danger_skip_domain_validation(true)), false),
        None | Some("verify_identity" | "verify_full") => (Some(base), false),
        Some(_) => return None,
    })
}

/// One field of a row as the text protocol brings it; `None` is null.
pub(crate) type Field = Option<Vec<u8>>;

/// The answer to one statement.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Rows found by an update, or written, or deleted.
    pub(crate) affected: u64,
    /// The rows of a result.
    pub(crate) rows: Vec<Vec<Field>>,
}

/// Statements that go to the server in one packet. It stops at the first that fails.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    sql: Vec<u8>,
    count: usize,
}

impl Script {
    /// Adds a statement.
    pub(crate) fn push(&mut self, statement: impl AsRef<[u8]>) {
        if self.count > 0 {
            self.sql.extend_from_slice(b"; ");
        }
        self.sql.extend_from_slice(statement.as_ref());
        self.count += 1;
    }
}

impl<T: AsRef<[u8]>> From<T> for Script {
    fn from(statement: T) -> Script {
        Script { sql: statement.as_ref().to_vec(), count: 1 }
    }
}

/// What a connection knows about its server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Which of the two.
    pub(crate) flavour: Flavour,
    /// Its version in numbers.
    pub(crate) version: (u16, u16, u16),
    /// Bytes that a statement may have.
    pub(crate) packet_bytes_max: usize,
}

impl Server {
    /// `MariaDB 10.11.19`.
    pub(crate) fn name(&self) -> String {
        let product = match self.flavour {
            Flavour::Mysql => "MySQL",
            Flavour::Mariadb => "MariaDB",
        };
        let (major, minor, patch) = self.version;
        format!("{product} {major}.{minor}.{patch}")
    }

    /// The statement that tells where the log ends: a row of file, position and more.
    pub(crate) fn log_end_statement(&self) -> &'static str {
        if self.flavour == Flavour::Mysql && self.version >= (8, 2, 0) {
            "SHOW BINARY LOG STATUS"
        } else {
            "SHOW MASTER STATUS"
        }
    }
}

/// A connection.
pub(crate) struct Client {
    conn: Conn,
    /// What answered.
    pub(crate) server: Arc<Server>,
}

impl Client {
    async fn pinned(mut conn: Conn, purpose: Purpose) -> Result<Client> {
        let facts =
            batch(&mut conn, "SELECT VERSION(), @@max_allowed_packet".into()).await.map_err(|e| error::convert(&e))?;
        let row = facts.first().and_then(|answer| answer.rows.first());
        let version = row.and_then(|row| text(row, 0)).unwrap_or_default();
        let packet = row.and_then(|row| number(row, 1)).unwrap_or(4 << 20);
        let flavour = if version.to_lowercase().contains("mariadb") { Flavour::Mariadb } else { Flavour::Mysql };
        let server = Server { flavour, version: numbers(&version), packet_bytes_max: packet };
        let mut client = Client { conn, server: Arc::new(server) };
        let idle = match purpose {
            Purpose::Look | Purpose::Read | Purpose::Apply => IDLE_SECONDS,
            Purpose::Lease => LEASE_SECONDS,
        };
        let mut pins = Script::from("SET NAMES utf8mb4 COLLATE utf8mb4_bin");
        pins.push("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
        pins.push(format!(
            "SET SESSION sql_mode = '{SQL_MODE}', time_zone = '+00:00', autocommit = 1, foreign_key_checks = 0, \
             unique_checks = 1, innodb_lock_wait_timeout = {LOCK_SECONDS}, lock_wait_timeout = {LOCK_SECONDS}, \
             wait_timeout = {idle}, net_read_timeout = {idle}, net_write_timeout = {idle}"
        ));
        client.run(pins).await?;
        Ok(client)
    }

    /// Runs one or several statements; one answer each. Stops at the first that fails.
    pub(crate) async fn run(&mut self, script: impl Into<Script>) -> Result<Vec<Answer>> {
        self.try_run(script).await.map_err(|error| error::convert(&error))
    }

    /// As [`Client::run`], with the driver's own error.
    pub(crate) async fn try_run(&mut self, script: impl Into<Script>) -> Result<Vec<Answer>, mysql_async::Error> {
        batch(&mut self.conn, script.into()).await
    }

    /// The rows of one statement.
    pub(crate) async fn rows(&mut self, script: impl Into<Script>) -> Result<Vec<Vec<Field>>> {
        Ok(self.run(script).await?.pop().unwrap_or_default().rows)
    }

    /// The first field of the first row as text; `None` for null or no row.
    pub(crate) async fn scalar(&mut self, script: impl Into<Script>) -> Result<Option<String>> {
        Ok(self.rows(script).await?.first().and_then(|row| text(row, 0)))
    }
}

/// The driver's `is_empty` is true when the *next* statement failed or brought no rows, and would lose
/// both an error and a count. So the answers are taken one by one, as many as statements were sent; an
/// error comes in the place of the answer that it took.
async fn batch(conn: &mut Conn, script: Script) -> Result<Vec<Answer>, mysql_async::Error> {
    let work = async {
        let mut answers = Vec::with_capacity(script.count);
        let mut result = conn.query_iter(script.sql).await?;
        for _ in 0..script.count {
            let affected = result.affected_rows();
            let rows: Vec<mysql_async::Row> = result.collect().await?;
            let rows = rows.into_iter().map(|row| row.unwrap().into_iter().map(field).collect()).collect();
            answers.push(Answer { affected, rows });
        }
        Ok(answers)
    };
    match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(mysql_async::Error::Io(mysql_async::IoError::Io(std::io::ErrorKind::TimedOut.into()))),
    }
}

fn field(value: mysql_async::Value) -> Field {
    match value {
        mysql_async::Value::NULL => None,
        mysql_async::Value::Bytes(bytes) => Some(bytes),
        // The text protocol has no other; kept total all the same.
        other => Some(other.as_sql(true).into_bytes()),
    }
}

/// A field as text.
pub(crate) fn text(row: &[Field], at: usize) -> Option<String> {
    row.get(at)?.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A field as a number.
pub(crate) fn number<T: std::str::FromStr>(row: &[Field], at: usize) -> Option<T> {
    std::str::from_utf8(row.get(at)?.as_ref()?).ok()?.parse().ok()
}

/// The numbers of a version: of `5.5.5-10.11.19-MariaDB` the second three, which an old MariaDB hides there.
fn numbers(text: &str) -> (u16, u16, u16) {
    let text = text.strip_prefix("5.5.5-").unwrap_or(text);
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use pontoon_core::node::Secret;

    use super::*;

    fn parse(url: &str) -> Result<Target> {
        Target::parse(&NodeOptions {
            name: "n".into(),
            bridge: "b".into(),
            url: url.into(),
            password: Some(Secret::new("p")),
        })
    }

    #[test]
    fn urls_are_read_or_refused() {
        let target = parse("mysql://po%40n@[::1]:3307/sh%20op?ssl-mode=DISABLED").unwrap();
        assert_eq!(target.address, "::1:3307");
        assert_eq!(target.database.as_deref(), Some("sh op"));
        assert!(target.tls.is_none());
        for wrong in ["postgresql://h/d", "mysql://h/d?sslmod=disable", "mysql://h/?ssl-mode=maybe", "mysql:///d", "x"]
        {
            let error = parse(wrong).err().unwrap();
            assert_eq!(error.code(), Code::Config, "{wrong}");
        }
        assert_eq!(parse("mysql://u@localhost/d?socket=/run/s.sock").unwrap().address, "/run/s.sock");
    }

    #[test]
    fn tls_is_verified_unless_near() {
        assert!(parse("mysql://u@127.0.0.1/").unwrap().tls.is_none());
        let far = parse("mysql://u@db.example/").unwrap();
        let tls = far.tls.unwrap();
        assert!(!tls.accept_invalid_certs() && !tls.skip_domain_validation() && !far.plain_if_refused);
        let near = parse("mysql://u@127.0.0.1/?ssl-mode=verify-ca&ssl-ca=/x.pem").unwrap().tls.unwrap();
        assert!(near.skip_domain_validation() && near.disable_built_in_roots());
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(numbers("10.11.19-MariaDB-0+deb12u1-log"), (10, 11, 19));
        assert_eq!(numbers("5.5.5-10.6.1-MariaDB"), (10, 6, 1));
        assert_eq!(numbers("9.7.4-2"), (9, 7, 4));
        assert_eq!(numbers(""), (0, 0, 0));
    }
}
