//! From a URL to a connection with pinned settings.
//!
//! Every connection is the bridge's own, never pooled, and says what it is for ([`Purpose`]): that
//! decides how long the server may hear nothing from it before it ends it. So all of a bridge's sessions
//! end by themselves when their host dies, and with them locks and open transactions:
//! `wait_timeout` is the one time-out that both servers apply between two statements, also within a
//! transaction (MySQL has no other), and it is read anew for each wait, so that a session lowers it
//! while it has a transaction open.
//!
//! TLS is as [`pontoon_tls`] says; without a word in the URL a loopback address uses none, nor does a Unix socket
//! ever. The driver does the handshake itself, with rustls and ring too, so it is told what to verify, and two things
//! are done around it:
//!
//! * For `verify_ca` it lets an error of the name pass, which it knows by the text `NotValidForName` (mysql_async 0.37,
//!   `src/io/tls/rustls_io.rs`); rustls words that error otherwise by now, but tells in it the name that was expected. So
//!   that is the name. An error of the chain comes before one of the name, and tells no name. (Where a later driver
//!   knows the error itself, any name will do.)
//! * It keeps buffers for use again, in one pool of the process: one for every column of a result (`SHOW REPLICA STATUS` has
//!   some sixty), each of which grows to the largest statement that it ever held, up to 4 MiB, since they take turns.
//!   The pool has room for 128 of them, and is told otherwise by the environment alone (`buffer_pool.rs`): [`BUFFERS_KEPT`].
//! * It does not show the certificate: one that was refused is looked at again ([`crate::inspect`]), and when the
//!   certificate in use ends the server says (`Ssl_server_not_after`, of its status variables).

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use mysql_async::{ClientIdentity, Conn, DriverError, OptsBuilder, SslOpts, prelude::Queryable};
use pontoon_core::{Code, Error, Result, calendar, node::NodeOptions};
use pontoon_tls::{MYSQL, Mode, Tls};
use tokio::sync::mpsc;

use crate::{
    error, inspect,
    row_list::{Large, variable},
    version::Server,
    watch,
};

/// How long a connection may take to be made: a server on the other side of the world that is busy
/// answers sooner, and the engine's backoff goes on from there. `connect_timeout` in the url overrides it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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
    pub(crate) tls: Tls,
    /// What the URL says of it, from which another host may have another mode.
    tls_options: pontoon_tls::Options,
    /// Host and port, where it is not a socket.
    pub(crate) place: (String, u16),
    /// The same, or the socket, for messages.
    pub(crate) address: String,
    /// Who logs in.
    pub(crate) user: String,
    /// The database of the URL, in which names without one are looked for.
    pub(crate) database: Option<String>,
    /// How long a connection may take to be made.
    pub(crate) connect_timeout: Duration,
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
        let (mut tls_options, mut socket, mut connect_timeout) =
            (pontoon_tls::Options::new(&MYSQL), None, CONNECT_TIMEOUT);
        for (name, value) in url.query_pairs() {
            match &*name {
                "socket" => socket = Some(value.into_owned()),
                "connect_timeout" => {
                    let seconds =
                        value.parse().map_err(|_| wrong("has a connect_timeout that is no number of seconds"));
                    connect_timeout = Duration::from_secs(seconds?);
                }
                name if tls_options.take(name, &value).map_err(|text| wrong(&format!("is wrong: {text}")))? => {}
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
        let tls = match &socket {
            Some(_) => Ok(Tls::none(&MYSQL)),
            None => decided(&tls_options, &host),
        };
        let tls = tls.map_err(|error| error.at(&options.name))?;
        // Both providers of the driver's dependencies may be compiled in, and then none is chosen by itself. An
        // error means that one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown_host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let address = socket.clone().unwrap_or_else(|| format!("{shown_host}:{port}"));
        let place = (host.clone(), port);
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
        Ok(Target { options: opts, tls, tls_options, place, address, user, database, connect_timeout })
    }

    /// The same server for a user who may not see the database.
    pub(crate) fn without_database(&self) -> Target {
        let mut target = self.clone();
        (target.options, target.database) = (target.options.db_name(None::<String>), None);
        target
    }

    /// The same login at a replica of the server, as if its host stood in the URL. Errors: files of TLS that cannot be used.
    pub(crate) fn of_replica(&self, host: &str, port: u16) -> Result<Target> {
        let options = self.options.clone().socket(None::<String>).ip_or_hostname(host).tcp_port(port);
        let (place, address) = ((host.to_owned(), port), format!("replica {host}:{port}"));
        Ok(Target { options, tls: decided(&self.tls_options, host)?, place, address, ..self.clone() })
    }

    /// Connects and pins the settings.
    pub(crate) async fn connect(&self, purpose: Purpose) -> Result<Client> {
        let connecting = async {
            let conn = self.login().await?;
            Client::pinned(self, conn, purpose).await
        };
        connecting.await.map_err(|error: Error| error.at(&self.address))
    }

    /// Where the server is and who logs in, as the driver knows it.
    pub(crate) fn options(&self) -> OptsBuilder {
        self.options.clone()
    }

    pub(crate) async fn login(&self) -> Result<Conn> {
        let ssl = self.ssl_opts()?;
        let refused = |error: mysql_async::Error| error::at_login(&error, &self.tls);
        match self.try_login(ssl).await? {
            Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer))
                if self.tls.mode() == Mode::Prefer =>
            {
                self.try_login(None).await?.map_err(refused)
            }
            Err(error) if error::is_of_certificate(&error) => {
                // What the driver says does not tell whose the certificate is.
                Err(inspect::refusal(&self.place, &self.tls).await.unwrap_or_else(|| refused(error)))
            }
            other => other.map_err(refused),
        }
    }

    /// Errors of its own: a time-out.
    async fn try_login(&self, tls: Option<SslOpts>) -> Result<Result<Conn, mysql_async::Error>> {
        let connecting = Conn::new(self.options.clone().ssl_opts(tls));
        tokio::time::timeout(self.connect_timeout, connecting).await.map_err(|_| {
            Error::new(Code::Unreachable, format!("no answer within {} s", self.connect_timeout.as_secs())).hint(
                "does a firewall swallow it, or does something accept connections there that is no MySQL or MariaDB server?",
            )
        })
    }

    /// What the driver is to do about TLS; `None` for nothing.
    fn ssl_opts(&self) -> Result<Option<SslOpts>> {
        if self.tls.mode() == Mode::Disable {
            return Ok(None);
        }
        let material = self.tls.material()?;
        let mut ssl = SslOpts::default();
        if self.tls.verifies_authority() {
            let roots = material.authorities.into_iter().map(|root| root.to_vec().into()).collect();
            ssl = ssl.with_root_certs(roots).with_disable_built_in_roots(true);
        } else {
            // The driver's own authorities stay: it cannot make a verifier without any, though it is not asked.
            ssl = ssl.with_danger_accept_invalid_certs(true);
        }
        if self.tls.verifies_authority() && !self.tls.verifies_host() {
            ssl = ssl.with_danger_skip_domain_validation(true).with_danger_tls_hostname_override(Some(ANY_HOST));
        }
        let identity =
            material.identity.map(|identity| ClientIdentity::new(identity.chain_pem.into(), identity.key_pem.into()));
        Ok(Some(ssl.with_client_identity(identity)))
    }
}

/// A variable of the environment, and the value with which the driver keeps no more memory than a few statements take: as many
/// buffers as there are connections that write at a time, a session of each kind on both nodes. Tried: a gigabyte of wide
/// rows took up to 240 MiB without it.
pub const BUFFERS_KEPT: (&str, &str) = ("MYSQL_ASYNC_BUFFER_POOL_CAP", "6");

/// The name that is expected where any host's will do: see the head of this module.
const ANY_HOST: &str = "NotValidForName";

/// The largest packet that the protocol's servers accept (`max_allowed_packet` ends at 1 GiB).
pub(crate) const PACKET_BYTES_MAX: usize = 1 << 30;

/// Without a word in the URL a loopback address uses no TLS.
fn decided(options: &pontoon_tls::Options, host: &str) -> Result<Tls> {
    options.clone().decide(is_loopback(host).then_some(Mode::Disable))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
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
    pub(crate) fn push(&mut self, statement: impl AsRef<[u8]> + Into<Vec<u8>>) {
        if self.count == 0 {
            // As it is: it may be large, and alone.
            self.sql = statement.into();
        } else {
            self.sql.extend_from_slice(b"; ");
            self.sql.extend_from_slice(statement.as_ref());
        }
        self.count += 1;
    }

    /// Both, one behind the other.
    pub(crate) fn followed_by(mut self, other: Script) -> Script {
        self.sql.extend_from_slice(b"; ");
        self.sql.extend_from_slice(&other.sql);
        Script { sql: self.sql, count: self.count + other.count }
    }

    /// How long it is, with what separates it from another statement.
    pub(crate) fn bytes(&self) -> usize {
        self.sql.len() + 2
    }
}

impl<T: Into<Vec<u8>>> From<T> for Script {
    fn from(statement: T) -> Script {
        Script { sql: statement.into(), count: 1 }
    }
}

/// A connection.
pub(crate) struct Client {
    conn: Conn,
    target: Target,
    /// What answered.
    pub(crate) server: Arc<Server>,
}

impl Client {
    async fn pinned(target: &Target, mut conn: Conn, purpose: Purpose) -> Result<Client> {
        let facts =
            batch(&mut conn, "SELECT VERSION(), @@max_allowed_packet".into()).await.map_err(|e| error::convert(&e))?;
        let row = facts.first().and_then(|answer| answer.rows.first());
        let version = row.and_then(|row| text(row, 0)).unwrap_or_default();
        let packet = row.and_then(|row| number(row, 1)).unwrap_or(4 << 20);
        let server = Server::told(&version, packet);
        let mut client = Client { conn, target: target.clone(), server: Arc::new(server) };
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
        let connection = self.conn.id();
        answered(&self.target, connection, batch(&mut self.conn, script.into())).await
    }

    /// The same of statements that find large values in the variables of [`variable`]. They are let go afterwards.
    pub(crate) async fn run_with(
        &mut self,
        script: impl Into<Script>,
        large: Vec<Large>,
    ) -> Result<Vec<Answer>, mysql_async::Error> {
        let script = script.into();
        if large.is_empty() {
            return self.try_run(script).await;
        }
        let connection = self.conn.id();
        let none: Vec<String> = (0..large.len()).map(|number| format!("{} = NULL", variable(number))).collect();
        let conn = &mut self.conn;
        let work = async {
            for (number, large) in large.into_iter().enumerate() {
                set_large(conn, &variable(number), large).await?;
            }
            let done = batch(conn, script).await;
            // Where the connection is lost, so are they.
            let let_go = conn.query_drop(format!("SET {}", none.join(", "))).await;
            let answers = done?;
            let_go.map(|()| answers)
        };
        answered(&self.target, connection, within(work)).await
    }

    /// Runs a `LOAD DATA LOCAL` whose file comes in these pieces: the rows that it wrote, and the warnings that it gave. Whether
    /// the server asks for the file is its own affair: it is not read from then on.
    pub(crate) async fn load(
        &mut self,
        statement: String,
        mut file: mpsc::Receiver<Bytes>,
    ) -> Result<(u64, u16), mysql_async::Error> {
        let connection = self.conn.id();
        self.conn.set_infile_handler(async move {
            let pieces = stream::poll_fn(move |context| file.poll_recv(context).map(|piece| piece.map(Ok)));
            Ok(pieces.boxed())
        });
        let conn = &mut self.conn;
        let work = async {
            conn.query_drop(statement).await?;
            Ok((conn.affected_rows(), conn.get_warnings()))
        };
        answered(&self.target, connection, within(work)).await
    }

    /// Whether a statement of one row fits in a packet: it is one byte more than its text, and has to be less than the
    /// limit (`net_read_packet` and `net_realloc` of sql-common/net_serv.cc).
    pub(crate) fn ensure_fits(&self, bytes: usize) -> Result<()> {
        let bytes_max = self.server.packet_bytes_max;
        if bytes + 1 < bytes_max { Ok(()) } else { Err(error::too_large(bytes, bytes_max)) }
    }

    /// The rows of one statement.
    pub(crate) async fn rows(&mut self, script: impl Into<Script>) -> Result<Vec<Vec<Field>>> {
        Ok(self.run(script).await?.pop().unwrap_or_default().rows)
    }

    /// The rows of one statement, each made into something as it comes, so that no more than that is in memory.
    pub(crate) async fn each<T>(&mut self, statement: String, make: impl Fn(Vec<Field>) -> T) -> Result<Vec<T>> {
        let connection = self.conn.id();
        let asked = async {
            let mut made = Vec::new();
            let mut result = self.conn.query_iter(statement).await?;
            while let Some(row) = result.next().await? {
                made.push(make(row.unwrap().into_iter().map(field).collect()));
            }
            Ok(made)
        };
        answered(&self.target, connection, within(asked)).await.map_err(|error| error::convert(&error))
    }

    /// The rows of one statement by the names of their columns, for those whose columns differ from version to version. A
    /// null is not among them.
    pub(crate) async fn named_rows(&mut self, statement: &str) -> Result<Vec<HashMap<String, String>>> {
        let connection = self.conn.id();
        let asked = async {
            let rows: Vec<mysql_async::Row> = self.conn.query(statement).await?;
            let named = rows.into_iter().map(|row| {
                let names: Vec<String> =
                    row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
                let fields: Vec<Field> = row.unwrap().into_iter().map(field).collect();
                let texts = (0..fields.len()).map(|at| text(&fields, at));
                names.into_iter().zip(texts).filter_map(|(name, text)| Some((name, text?))).collect()
            });
            Ok(named.collect())
        };
        answered(&self.target, connection, within(asked)).await.map_err(|error| error::convert(&error))
    }

    /// The first field of the first row as text; `None` for null or no row.
    pub(crate) async fn scalar(&mut self, script: impl Into<Script>) -> Result<Option<String>> {
        Ok(self.rows(script).await?.first().and_then(|row| text(row, 0)))
    }

    /// When the server's certificate ends, in seconds since 1970 UTC; `None` without TLS. By the server's own word,
    /// since the driver does not show the certificate.
    pub(crate) async fn certificate_expiry(&mut self) -> Result<Option<i64>> {
        let rows = self.rows("SHOW SESSION STATUS LIKE 'Ssl_server_not_after'").await?;
        Ok(rows.first().and_then(|row| text(row, 1)).as_deref().and_then(openssl_time))
    }
}

/// The driver's `is_empty` is true when the *next* statement failed or brought no rows, and would lose
/// both an error and a count. So the answers are taken one by one, as many as statements were sent; an
/// error comes in the place of the answer that it took.
pub(crate) async fn batch(conn: &mut Conn, script: Script) -> Result<Vec<Answer>, mysql_async::Error> {
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
    within(work).await
}

/// Sets a variable of the session. The parameter is sent in pieces of one packet each, and must not be text where it is bytes.
async fn set_large(conn: &mut Conn, name: &str, large: Large) -> Result<(), mysql_async::Error> {
    let value = if large.is_text { "?" } else { "CAST(? AS BINARY)" };
    let statement = conn.prep(format!("SET {name} = {value}")).await?;
    let bytes = large.bytes.len();
    conn.exec_drop(&statement, (Vec::from(large.bytes),)).await?;
    // The driver keeps none.
    conn.close(statement).await?;
    // Where the limit of a packet was lowered meanwhile the server warns, and takes null for it. Another session knows the new one.
    let kept: Option<u64> = conn.query_first(format!("SELECT LENGTH({name})")).await?.flatten();
    match kept {
        Some(kept) if kept == bytes as u64 => Ok(()),
        _ => Err(mysql_async::Error::Other(format!("the server did not keep a value of {bytes} bytes").into())),
    }
}

/// No statement takes longer than the time-out.
async fn within<T>(work: impl Future<Output = Result<T, mysql_async::Error>>) -> Result<T, mysql_async::Error> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(timed_out()),
    }
}

/// Waits for what a connection was asked, but not for an answer that is found never to come.
async fn answered<T>(
    target: &Target,
    connection: u32,
    asked: impl Future<Output = Result<T, mysql_async::Error>>,
) -> Result<T, mysql_async::Error> {
    tokio::select! {
        biased;
        answer = asked => answer,
        () = watch::until_lost(target, connection) => Err(timed_out()),
    }
}

fn timed_out() -> mysql_async::Error {
    mysql_async::Error::Io(mysql_async::IoError::Io(std::io::ErrorKind::TimedOut.into()))
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

/// A time as OpenSSL prints it, in seconds since 1970 UTC: `Nov  4 08:09:10 2027 GMT`.
fn openssl_time(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_ascii_whitespace();
    let (month, day, clock, year) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = i8::try_from(MONTHS.iter().position(|known| *known == month)? + 1).ok()?;
    let mut clock = clock.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let micros = calendar::from_civil_parts(year.parse().ok()?, month, day.parse().ok()?, hour, minute, second, 0)?;
    Some(micros / 1_000_000)
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
    fn a_replica_elsewhere_is_not_asked_in_the_clear() {
        let mode = |url: &str, host: &str| parse(url).unwrap().of_replica(host, 3306).unwrap().tls.mode();
        let (near, far) = ("mysql://u@127.0.0.1/d", "10.0.0.2");
        assert_eq!((mode(near, "127.0.0.1"), mode(near, far)), (Mode::Disable, Mode::VerifyFull));
        assert_eq!(mode("mysql://u@localhost/d?socket=/run/s.sock", far), Mode::VerifyFull);
        assert_eq!(mode("mysql://u@127.0.0.1/d?ssl-mode=DISABLED", far), Mode::Disable, "as somebody has said");
    }

    #[test]
    fn urls_are_read_or_refused() {
        let target = parse("mysql://po%40n@[::1]:3307/sh%20op?ssl-mode=DISABLED").unwrap();
        assert_eq!(target.address, "[::1]:3307");
        assert_eq!(target.database.as_deref(), Some("sh op"));
        assert_eq!(target.tls.mode(), Mode::Disable);
        for wrong in ["postgresql://h/d", "mysql://h/d?sslmod=disable", "mysql://h/?ssl-mode=maybe", "mysql:///d", "x"]
        {
            let error = parse(wrong).err().unwrap();
            assert_eq!(error.code(), Code::Config, "{wrong}");
        }
        assert_eq!(parse("mysql://u@localhost/d?socket=/run/s.sock").unwrap().address, "/run/s.sock");
    }

    #[test]
    fn tls_is_verified_unless_near() {
        assert_eq!(parse("mysql://u@127.0.0.1/").unwrap().tls.mode(), Mode::Disable);
        let far = parse("mysql://u@db.example/").unwrap().ssl_opts().unwrap().unwrap();
        assert!(!far.accept_invalid_certs() && !far.skip_domain_validation() && far.disable_built_in_roots());
        // Who names an authority wants it verified, on a loopback address as well.
        assert_eq!(parse("mysql://u@127.0.0.1/?ssl-ca=/nonexistent").err().unwrap().code(), Code::Config);
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(openssl_time("Jan  2 03:04:05 1970 GMT"), Some(97_445));
        assert_eq!(openssl_time("Nov 24 13:00:00 2026 GMT"), Some(1_795_525_200));
        for wrong in ["", "Foo  2 03:04:05 1970 GMT", "Jan 2 03:04 1970 GMT", "Feb 30 00:00:00 2026 GMT"] {
            assert_eq!(openssl_time(wrong), None, "{wrong}");
        }
    }
}
