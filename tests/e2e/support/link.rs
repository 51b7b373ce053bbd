//! Two databases and the configuration of a bridge between them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pontoon_servers::{Options, Release};

use super::{
    Bridge, DEADLINE, Database, Tail,
    bridge::{Ended, pontoon, pontoon_with},
    proxy::Proxy,
};

/// How a link is made.
pub(crate) struct LinkOptions {
    pub(crate) servers: [Options; 2],
    /// What the configuration says of tables and the rest, after its nodes.
    pub(crate) configuration: String,
}

impl Default for LinkOptions {
    fn default() -> Self {
        LinkOptions {
            servers: [Options::default(), Options::default()],
            configuration: "[[tables]]\nname = \"items\"\n".into(),
        }
    }
}

/// The file that [`write_configuration`] writes.
pub(crate) const CONFIG: &str = "pontoon.toml";

/// Writes the configuration of a bridge between two named nodes, for given users and passwords, into a folder of its own.
pub(crate) fn write_configuration(
    folder: &Path,
    bridge: &str,
    nodes: [(&str, &Database); 2],
    users: [(&str, &str); 2],
    rest: &str,
) {
    let mut text = format!("bridge = \"{bridge}\"\n");
    for ((name, node), (user, password)) in nodes.into_iter().zip(users) {
        let file = folder.join(format!("password-{name}"));
        std::fs::write(&file, password).unwrap();
        let url = node.server.url(user, "shop");
        text += &format!("[nodes.{name}]\nurl = \"{url}\"\npassword_file = \"{}\"\n", file.display());
    }
    if !rest.contains("[server]") {
        text += "[server]\nlisten = \"off\"\n";
    }
    if !rest.contains("[limits]") {
        text += &format!("[limits]\nspill_dir = \"{}\"\n", folder.join("spill").display());
    }
    std::fs::write(folder.join(CONFIG), text + rest).unwrap();
}

/// Node `a` and node `b`.
pub(crate) struct Link {
    pub(crate) a: Database,
    pub(crate) b: Database,
    pub(crate) folder: tempfile::TempDir,
}

impl Link {
    /// Two servers of these kinds or releases, with the configuration written, and nothing set up.
    pub(crate) async fn start(servers: [impl Into<Release>; 2], options: LinkOptions) -> Link {
        let [for_a, for_b] = options.servers;
        let [a, b] = servers;
        let (a, b) = tokio::join!(Database::start(a, for_a), Database::start(b, for_b));
        let link = Link { a, b, folder: tempfile::tempdir().unwrap() };
        link.configure(&options.configuration);
        link
    }

    /// Writes the configuration, for the superusers.
    pub(crate) fn configure(&self, rest: &str) {
        let users = [&self.a, &self.b].map(|node| (node.server.superuser(), node.server.password()));
        self.configure_for(users, rest);
    }

    /// Writes the configuration for given users and passwords.
    pub(crate) fn configure_for(&self, users: [(&str, &str); 2], rest: &str) {
        let nodes = [("a", &self.a), ("b", &self.b)];
        write_configuration(self.folder.path(), "e2e", nodes, users, rest);
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Writes something else in the place of a text that the configuration has.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        assert!(text.contains(from), "no {from:?} in {text}");
        std::fs::write(self.config(), text.replace(from, to)).unwrap();
    }

    /// Puts a proxy between the bridge and each server.
    pub(crate) async fn by_proxies(&self) -> [Proxy; 2] {
        let mut ways = Vec::new();
        for node in self.nodes() {
            let way = Proxy::start(node.kind, node.server.port()).await;
            self.edit(&format!("127.0.0.1:{}/", node.server.port()), &format!("127.0.0.1:{}/", way.port));
            ways.push(way);
        }
        <[Proxy; 2]>::try_from(ways).ok().unwrap()
    }

    /// The PostgreSQL node of a mixed pair and its name.
    pub(crate) fn postgres(&self) -> (&Database, &'static str) {
        if self.a.is_postgres() { (&self.a, "a") } else { (&self.b, "b") }
    }

    /// The MySQL or MariaDB node of a mixed pair and its name.
    pub(crate) fn mysql(&self) -> (&Database, &'static str) {
        if self.a.is_postgres() { (&self.b, "b") } else { (&self.a, "a") }
    }

    /// The same, for its server to be handled.
    pub(crate) fn mysql_mut(&mut self) -> &mut Database {
        if self.a.is_postgres() { &mut self.b } else { &mut self.a }
    }

    /// What `check` found, and its exit code.
    pub(crate) async fn check(&self) -> (i32, Vec<serde_json::Value>) {
        let ended = self.command(&["check", "--json"]).await;
        let document: serde_json::Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:#?}"));
        (ended.code, document["findings"].as_array().unwrap().clone())
    }

    /// The settled conflicts that the arguments pick, the newest first.
    pub(crate) async fn conflicts(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let all = [&["conflicts", "list", "--json", "--limit", "100000"], arguments].concat();
        let document: serde_json::Value = serde_json::from_str(&self.succeed(&all).await).unwrap();
        assert_eq!((&document["schema_version"], &document["more"]), (&1.into(), &false.into()));
        document["conflicts"].as_array().unwrap().clone()
    }

    /// Applies what there is and ends.
    pub(crate) async fn catch_up(&self) {
        self.succeed(&["run", "--until-caught-up"]).await;
    }

    /// Runs a command of pontoon to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Ended {
        pontoon(&self.config(), arguments).await
    }

    /// The same with variables of the environment.
    pub(crate) async fn command_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
        pontoon_with(&self.config(), arguments, variables).await
    }

    /// A command, where anything but success fails the test.
    pub(crate) async fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.out
    }

    /// Starts the bridge.
    pub(crate) fn run(&self) -> Bridge {
        Bridge::start(&self.config(), self.folder.path())
    }

    /// Follows a node's log, from now on at the latest: a row that is written to `table` again and again until it
    /// has been seen shows that it does.
    pub(crate) async fn tail(&self, node: &str, table: &str, key: i64) -> Tail {
        let database = if node == "a" { &self.a } else { &self.b };
        Tail::follow(&self.config(), self.folder.path(), (node, database), table, key).await
    }

    /// Waits until all that is committed now is on the other side.
    pub(crate) async fn settle(&self) {
        self.settle_within(DEADLINE).await;
    }

    /// The same where it takes longer.
    pub(crate) async fn settle_within(&self, deadline: Duration) {
        self.succeed(&["wait", "--timeout", &format!("{}s", deadline.as_secs())]).await;
    }

    /// Both nodes.
    pub(crate) fn nodes(&self) -> [&Database; 2] {
        [&self.a, &self.b]
    }

    /// Creates a table on both sides as a bridge needs it, with the same columns.
    pub(crate) async fn create(&self, name: &str, columns: &str) {
        tokio::join!(self.a.create(name, columns), self.b.create(name, columns));
    }

    /// Runs a statement on both sides.
    pub(crate) async fn both(&self, sql: &str) {
        tokio::join!(self.a.run(sql), self.b.run(sql));
    }

    /// The rows of a query, which both sides must answer alike.
    pub(crate) async fn same(&self, sql: &str) -> super::database::Rows {
        let (a, b) = tokio::join!(self.a.rows(sql), self.b.rows(sql));
        assert_eq!(a, b, "{sql}");
        a
    }
}
