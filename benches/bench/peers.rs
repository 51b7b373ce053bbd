//! What one would use instead.

use std::{path::PathBuf, time::Instant};

use pontoon_servers::Kind;
use tokio::process::Command;

use crate::{bridge, database::Database, measure::Run, table};

/// What a server itself wrote of a table, in a file of its own, to be read by it again.
pub(crate) struct File(PathBuf);

impl File {
    /// Has the server write the table.
    pub(crate) async fn write(node: &Database) -> File {
        let path = node.server.data().join("bench.rows");
        let _ = std::fs::remove_file(&path);
        let sql = match node.kind {
            Kind::Postgres => format!("COPY {} TO '{}'", table::NAME, path.display()),
            Kind::Mariadb | Kind::Mysql => format!("SELECT * INTO OUTFILE '{}' FROM {}", path.display(), table::NAME),
        };
        node.run(&sql).await;
        File(path)
    }

    /// Has the server read it into the table, in one statement: the fastest that it can.
    pub(crate) async fn load(&self, node: &Database) -> Run {
        let sql = match node.kind {
            Kind::Postgres => format!("COPY {} FROM '{}'", table::NAME, self.0.display()),
            Kind::Mariadb | Kind::Mysql => {
                format!("LOAD DATA INFILE '{}' INTO TABLE {} CHARACTER SET utf8mb4", self.0.display(), table::NAME)
            }
        };
        let mut client = node.client().await;
        let before = bridge::server(node);
        let began = Instant::now();
        client.run(&sql).await;
        let seconds = began.elapsed().as_secs_f64();
        Run { seconds, servers: [0.0, bridge::server(node) - before], ..Run::default() }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// pgloader, from MariaDB to a table of PostgreSQL that is there, as pontoon's is.
pub(crate) async fn pgloader(nodes: [&Database; 2]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.load");
    let url = |node: &Database, scheme: &str| {
        let (user, password) = (node.server.superuser(), node.server.password());
        format!("{scheme}://{user}:{password}@127.0.0.1:{}/shop", node.server.port())
    };
    let text = format!(
        "LOAD DATABASE FROM {} INTO {}\n WITH data only\n INCLUDING ONLY TABLE NAMES MATCHING '{}'\n \
         ALTER SCHEMA 'shop' RENAME TO 'public';\n",
        url(nodes[0], "mysql"),
        url(nodes[1], "postgresql"),
        table::NAME
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("pgloader");
    command.arg("--root-dir").arg(folder.path()).arg(&file);
    bridge::measure(command, nodes).await
}

/// What is the peer's on a server has this name.
pub(crate) const NAME: &str = "peer";

/// A subscription to what is written from now on, with this setting of `synchronous_commit`, that is not yet enabled.
pub(crate) async fn subscribe(source: &Database, target: &Database, durable: &str) {
    publish(source, NAME).await;
    let (user, password) = (source.server.superuser(), source.server.password());
    let connection =
        format!("host=127.0.0.1 port={} user={user} password={password} dbname=shop", source.server.port());
    let options = format!(
        "copy_data = false, enabled = false, create_slot = false, slot_name = '{NAME}', synchronous_commit = '{durable}'"
    );
    target
        .run(&format!("CREATE SUBSCRIPTION {NAME} CONNECTION '{connection}' PUBLICATION {NAME} WITH ({options})"))
        .await;
}

/// A publication of the table, and a slot of that name which holds what is written from now on.
pub(crate) async fn publish(node: &Database, name: &str) {
    node.run(&format!("DROP PUBLICATION IF EXISTS {name}")).await;
    node.run(&format!("CREATE PUBLICATION {name} FOR TABLE {}", table::NAME)).await;
    node.run(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
}

/// File and offset at which a binary log ends now.
pub(crate) async fn log_end(node: &Database) -> [String; 2] {
    let statement = if node.kind == Kind::Mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row = node.rows(statement).await.remove(0);
    [0, 1].map(|at| row[at].clone().unwrap())
}
