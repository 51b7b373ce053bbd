//! One private server and a client of it that speaks SQL as text.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mysql_async::prelude::Queryable;
use pontoon_servers::{Kind, Options, Release, Server};
use tokio::{task::JoinHandle, time::sleep};

/// Rows as the server writes them.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// How long a state may take to come about before the test fails: much longer than it ever needs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `reached` says so, or fails with what was waited for.
pub(crate) async fn eventually(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let began = std::time::Instant::now();
    while !reached().await {
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A server with a database `shop` in it.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) server: Server,
}

impl Database {
    pub(crate) async fn start(release: impl Into<Release>, options: Options) -> Database {
        let server = Server::start(release, options).await.unwrap();
        let kind = server.kind();
        let database = Database { kind, server };
        let create = match kind {
            Kind::Postgres => "CREATE DATABASE shop",
            Kind::Mariadb | Kind::Mysql => "CREATE DATABASE shop CHARACTER SET utf8mb4",
        };
        Client::connect(kind, &database.server.superuser_url(database.home())).await.run(create).await;
        database
    }

    /// A replica of it, which is MySQL or MariaDB, from the beginning of its log; begins with what the source begins with, and has a number that no server's
    /// port is, since it may come to stand at its source's.
    pub(crate) async fn replica(&self) -> Database {
        let options = Options::default().setting("server_id", "70001");
        let options = if self.kind == Kind::Mariadb { options.setting("log_slave_updates", "ON") } else { options };
        let server = Server::start(self.kind, options).await.unwrap();
        let replica = Database { kind: self.kind, server };
        let (port, user, password) = (self.server.port(), self.server.superuser(), self.server.password());
        let (change, prefix, more) = match self.kind {
            Kind::Mysql => {
                ("CHANGE REPLICATION SOURCE TO", "SOURCE", "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1")
            }
            _ => ("CHANGE MASTER TO", "MASTER", "MASTER_USE_GTID = slave_pos"),
        };
        let mut client = Client::connect(self.kind, &replica.server.superuser_url(replica.home())).await;
        client
            .run(&format!(
                "{change} {prefix}_HOST = '127.0.0.1', {prefix}_PORT = {port}, {prefix}_USER = '{user}', \
                 {prefix}_PASSWORD = '{password}', {more}"
            ))
            .await;
        client.run("START REPLICA").await;
        eventually("it has the database", async || client.rows("SHOW DATABASES LIKE 'shop'").await.len() == 1).await;
        replica
    }

    /// The database that is there before `shop`.
    fn home(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb | Kind::Mysql => "mysql",
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.kind == Kind::Postgres
    }

    /// The URL of the superuser in `shop`.
    pub(crate) fn url(&self) -> String {
        self.server.superuser_url("shop")
    }

    /// A new session of the superuser in `shop`.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.kind, &self.url()).await
    }

    /// Runs statements in a session of their own.
    pub(crate) async fn run(&self, sql: &str) {
        self.client().await.run(sql).await;
    }

    /// An application that runs the statements that `next` gives it, each time with the number of the time, until told to stop; how often it did.
    pub(crate) fn application(
        &self,
        stop: &Arc<AtomicBool>,
        pause: Duration,
        mut next: impl FnMut(u32) -> Vec<String> + Send + 'static,
    ) -> JoinHandle<u32> {
        let (kind, url, stop) = (self.kind, self.url(), stop.clone());
        tokio::spawn(async move {
            let mut client = Client::connect(kind, &url).await;
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                for statement in next(times) {
                    client.run(&statement).await;
                }
                times += 1;
                sleep(pause).await;
            }
            times
        })
    }

    /// Waits until nobody reads a slot: PostgreSQL lets go of it a moment after its reader has gone.
    pub(crate) async fn slots_are_free(&self) {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
        eventually("nobody reads a slot", async || self.value(active).await == "0").await;
    }

    /// Makes a log so long that the server gives up the slot that nobody reads.
    pub(crate) async fn outgrow_slot(&self) {
        self.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
        self.run("SELECT pg_reload_conf()").await;
        eventually("the setting is in force", async || self.value("SHOW max_slot_wal_keep_size").await == "1MB").await;
        for _ in 0..4 {
            self.run("CREATE TABLE filler (id int)").await;
            self.run("DROP TABLE filler").await;
            self.run("SELECT pg_switch_wal()").await;
        }
        self.run("CHECKPOINT").await;
        assert_eq!(self.value("SELECT wal_status FROM pg_replication_slots").await, "lost");
    }

    /// Purges all of a binary log that is there now. A file that a reader still holds stays for a while.
    pub(crate) async fn purge_logs(&self) {
        self.run("FLUSH BINARY LOGS").await;
        eventually("the log is purged", async || {
            let last = self.rows("SHOW BINARY LOGS").await.last().unwrap()[0].clone().unwrap();
            self.run(&format!("PURGE BINARY LOGS TO '{last}'")).await;
            self.rows("SHOW BINARY LOGS").await.len() == 1
        })
        .await;
    }

    /// Creates a table as a bridge needs it.
    pub(crate) async fn create(&self, name: &str, columns: &str) {
        self.run(&format!("CREATE TABLE {name} ({columns})")).await;
        if self.is_postgres() {
            self.run(&format!("ALTER TABLE {name} REPLICA IDENTITY FULL")).await;
        }
    }

    /// Asks in a session of its own.
    pub(crate) async fn rows(&self, sql: &str) -> Rows {
        self.client().await.rows(sql).await
    }

    /// The one value of a query.
    pub(crate) async fn value(&self, sql: &str) -> String {
        self.rows(sql).await[0][0].clone().unwrap()
    }
}

/// Inserts so many rows in one statement, numbered from 1; `values` is what is selected for the row of a number.
pub(crate) fn insert_numbered(kind: Kind, table: &str, rows: u64, values: impl Fn(&str) -> String) -> String {
    match kind {
        Kind::Postgres => {
            format!("INSERT INTO {table} SELECT {} FROM generate_series(1, {rows}::bigint) AS n", values("n"))
        }
        Kind::Mariadb => format!("INSERT INTO {table} SELECT {} FROM seq_1_to_{rows}", values("seq")),
        Kind::Mysql => format!(
            "SET SESSION cte_max_recursion_depth = {rows}; INSERT INTO {table} \
             WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {rows}) SELECT {} FROM r",
            values("n")
        ),
    }
}

/// A session.
pub(crate) enum Client {
    Postgres(tokio_postgres::Client),
    Mysql(mysql_async::Conn),
}

impl Client {
    pub(crate) async fn connect(kind: Kind, url: &str) -> Client {
        match Client::try_connect(kind, url).await {
            Ok(client) => client,
            Err(error) => panic!("no session: {error}"),
        }
    }

    pub(crate) async fn try_connect(kind: Kind, url: &str) -> Result<Client, String> {
        match kind {
            Kind::Postgres => {
                let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
                let (client, connection) = connected.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                Ok(Client::Postgres(client))
            }
            Kind::Mariadb | Kind::Mysql => {
                let conn = mysql_async::Conn::from_url(url).await.map_err(|error| error.to_string())?;
                Ok(Client::Mysql(conn))
            }
        }
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        if let Err(error) = self.try_run(sql).await {
            panic!("{error}: {sql}");
        }
    }

    pub(crate) async fn try_run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Client::Postgres(client) => client.batch_execute(sql).await.map_err(|error| match error.as_db_error() {
                Some(error) => error.to_string(),
                None => error.to_string(),
            }),
            Client::Mysql(conn) => conn.query_drop(sql).await.map_err(|error| error.to_string()),
        }
    }

    pub(crate) async fn rows(&mut self, sql: &str) -> Rows {
        match self.try_rows(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{error}: {sql}"),
        }
    }

    pub(crate) async fn try_rows(&mut self, sql: &str) -> Result<Rows, String> {
        match self {
            Client::Postgres(client) => {
                let messages = client.simple_query(sql).await.map_err(|error| error.to_string())?;
                let row = |message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                };
                Ok(messages.into_iter().filter_map(row).collect())
            }
            Client::Mysql(conn) => {
                let rows: Vec<mysql_async::Row> = conn.query(sql).await.map_err(|error| error.to_string())?;
                let text = |value| match value {
                    mysql_async::Value::NULL => None,
                    mysql_async::Value::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
                    other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
                };
                Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
            }
        }
    }
}
