//! Asks a server over TCP whether it answers.

use std::error::Error;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio_postgres::NoTls;

use crate::Kind;

/// How long one attempt may take. A server that is starting refuses at once; one that accepts and says nothing
/// is asked again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Logs in as the superuser and has a statement executed. The error is for a person to read.
pub(crate) async fn ping(kind: Kind, port: u16, password: &str) -> Result<(), String> {
    let attempt = async {
        match kind {
            Kind::Postgres => ping_postgres(port, password).await.map_err(describe),
            Kind::Mariadb | Kind::Mysql => ping_mysql(kind, port, password).await.map_err(describe),
        }
    };
    match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
        Ok(answer) => answer,
        Err(_) => Err("it accepted the connection, but did not answer".to_owned()),
    }
}

async fn ping_postgres(port: u16, password: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(port)
        .user(Kind::Postgres.superuser())
        .password(password)
        .dbname("postgres")
        .connect(NoTls)
        .await?;
    tokio::select! {
        answer = client.simple_query("SELECT 1") => answer.map(drop),
        closed = connection => closed,
    }
}

async fn ping_mysql(kind: Kind, port: u16, password: &str) -> Result<(), mysql_async::Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(kind.superuser()))
        .pass(Some(password))
        // Else the driver asks for the server's socket, and goes there.
        .prefer_socket(Some(false));
    let mut connection = Conn::new(options).await?;
    connection.ping().await?;
    connection.disconnect().await
}

/// The message with its causes, which both drivers keep apart.
fn describe(error: impl Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}
