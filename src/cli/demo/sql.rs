//! A session of an application on either kind of server: statements in, texts out.
//!
//! It goes by the servers' text protocols, as a shell would, and has nothing to do with the connectors:
//! what the demo writes and reads here, it writes and reads without the bridge's help.

use mysql_async::{Conn, OptsBuilder, prelude::Queryable};
use pontoon_core::{Code, Error, Result};
use pontoon_servers::Kind;
use tokio_postgres::{NoTls, SimpleQueryMessage, error::SqlState};

/// A lock held this long is the other side's of a deadlock across two servers, which none of them sees.
const LOCK_TIMEOUT_SECONDS: u32 = 5;

/// Who logs in where.
#[derive(Debug, Clone)]
pub(super) struct Login {
    /// The node's name, for messages.
    pub(super) node: &'static str,
    pub(super) kind: Kind,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) database: String,
}

/// Why a statement did not do what it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody else was at the same rows: it works when tried again.
    Passing,
    /// Anything else.
    Lasting(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        match failure {
            Failure::Passing => Error::new(Code::Contention, "a lock could not be had in time"),
            Failure::Lasting(error) => error,
        }
    }
}

/// One session.
pub(super) struct Session {
    pub(super) kind: Kind,
    node: &'static str,
    link: Link,
}

enum Link {
    Postgres(tokio_postgres::Client),
    Mysql(Box<Conn>),
}

impl Session {
    /// Logs in.
    pub(super) async fn open(login: &Login) -> Result<Session> {
        let refused = |error: &dyn std::error::Error| lasting(login.node, Code::Unreachable, error);
        let link = match login.kind {
            Kind::Postgres => {
                let (client, connection) = tokio_postgres::Config::new()
                    .host("127.0.0.1")
                    .port(login.port)
                    .user(&login.user)
                    .password(&login.password)
                    .dbname(&login.database)
                    .application_name("pontoon demo")
                    .connect(NoTls)
                    .await
                    .map_err(|error| refused(&error))?;
                // It ends with the client; an error of it is met by the statement under way.
                tokio::spawn(connection);
                Link::Postgres(client)
            }
            Kind::Mariadb | Kind::Mysql => {
                let options = OptsBuilder::default()
                    .ip_or_hostname("127.0.0.1")
                    .tcp_port(login.port)
                    .user(Some(&login.user))
                    .pass(Some(&login.password))
                    .db_name(Some(&login.database))
                    .prefer_socket(Some(false));
                Link::Mysql(Box::new(Conn::new(options).await.map_err(|error| refused(&error))?))
            }
        };
        let mut session = Session { kind: login.kind, node: login.node, link };
        let settings = match login.kind {
            Kind::Postgres => {
                ["SET TIME ZONE 'UTC'".to_owned(), format!("SET lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")]
            }
            Kind::Mariadb | Kind::Mysql => [
                format!("SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {LOCK_TIMEOUT_SECONDS}"),
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
            ],
        };
        for setting in settings {
            session.run(&setting).await?;
        }
        Ok(session)
    }

    /// Executes one statement; says how many rows it changed.
    pub(super) async fn run(&mut self, sql: &str) -> Result<u64, Failure> {
        match &mut self.link {
            Link::Postgres(client) => {
                let messages = client.simple_query(sql).await.map_err(|error| of_postgres(self.node, &error))?;
                Ok(messages.iter().fold(0, |changed, message| match message {
                    SimpleQueryMessage::CommandComplete(rows) => *rows,
                    _ => changed,
                }))
            }
            Link::Mysql(connection) => {
                connection.query_drop(sql).await.map_err(|error| of_mysql(self.node, &error))?;
                Ok(connection.affected_rows())
            }
        }
    }

    /// Executes one statement that returns rows.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        match &mut self.link {
            Link::Postgres(client) => {
                let messages = client.simple_query(sql).await.map_err(|error| of_postgres(self.node, &error))?;
                let rows = messages.iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row),
                    _ => None,
                });
                Ok(rows
                    .map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
                    .collect())
            }
            Link::Mysql(connection) => {
                let rows: Vec<mysql_async::Row> =
                    connection.query(sql).await.map_err(|error| of_mysql(self.node, &error))?;
                let text = |value: mysql_async::Value| match value {
                    mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                    other => other.as_sql(false),
                };
                Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
            }
        }
    }

    /// Inserts a row whose key the server hands out, and says which.
    pub(super) async fn insert(&mut self, sql: &str) -> Result<u64, Failure> {
        match self.kind {
            Kind::Postgres => {
                let rows = self.rows(&format!("{sql} RETURNING id")).await?;
                let id = rows.first().and_then(|row| row.first()).and_then(|id| id.parse().ok());
                id.ok_or_else(|| {
                    Failure::Lasting(Error::new(Code::Internal, format!("{}: no key came back", self.node)))
                })
            }
            Kind::Mariadb | Kind::Mysql => {
                self.run(sql).await?;
                match &self.link {
                    Link::Mysql(connection) => Ok(connection.last_insert_id().unwrap_or_default()),
                    Link::Postgres(_) => Ok(0),
                }
            }
        }
    }
}

fn lasting(node: &str, code: Code, error: &dyn std::error::Error) -> Error {
    let mut message = format!("{node}: a client of the demo failed: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    Error::new(code, message)
}

fn of_postgres(node: &str, error: &tokio_postgres::Error) -> Failure {
    let passing = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::LOCK_NOT_AVAILABLE];
    match error.code() {
        Some(code) if passing.contains(code) => Failure::Passing,
        Some(_) => Failure::Lasting(lasting(node, Code::Internal, error)),
        None => Failure::Lasting(lasting(node, Code::ConnectionLost, error)),
    }
}

fn of_mysql(node: &str, error: &mysql_async::Error) -> Failure {
    // Lock wait timeout, deadlock, and MariaDB's "record has changed since last read".
    const PASSING: [u16; 3] = [1205, 1213, 1020];
    match error {
        mysql_async::Error::Server(server) if PASSING.contains(&server.code) => Failure::Passing,
        mysql_async::Error::Server(_) => Failure::Lasting(lasting(node, Code::Internal, error)),
        _ => Failure::Lasting(lasting(node, Code::ConnectionLost, error)),
    }
}
