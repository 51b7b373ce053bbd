//! Three and more databases, joined by bridges that make a tree.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pontoon_servers::{Kind, Options};

use super::{
    Bridge, DEADLINE, Database, Ended, Tail,
    bridge::pontoon,
    database::Rows,
    link::{CONFIG, write_configuration},
};

/// The nodes' names, in their order.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// How long nodes may take until they hold the same rows: what waits at one bridge is still ahead of the next.
const MEET_MAX: Duration = Duration::from_secs(180);

/// The databases `a`, `b` and so on, and bridges between them that have the names of the two that they join.
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Database>,
    joins: Vec<Join>,
    folder: tempfile::TempDir,
}

/// What one bridge joins, by number.
struct Join {
    name: String,
    ends: [usize; 2],
}

impl Tree {
    /// Servers of these kinds with bridges between these of them, all of one configuration; nothing is set up.
    pub(crate) async fn start(kinds: &[Kind], joins: &[[usize; 2]], configuration: &str) -> Tree {
        let nodes = join_all(kinds.iter().map(|kind| Database::start(*kind, Options::default()))).await;
        let name = |ends: &[usize; 2]| ends.map(|end| NAMES[end]).concat();
        let joins = joins.iter().map(|ends| Join { name: name(ends), ends: *ends }).collect();
        let tree = Tree { nodes, joins, folder: tempfile::tempdir().unwrap() };
        for (number, join) in tree.joins.iter().enumerate() {
            let folder = tree.folder(number);
            std::fs::create_dir(&folder).unwrap();
            let nodes = join.ends.map(|end| (NAMES[end], &tree.nodes[end]));
            let users = nodes.map(|(_, node)| (node.server.superuser(), node.server.password()));
            write_configuration(&folder, &join.name, nodes, users, configuration);
        }
        tree
    }

    fn folder(&self, join: usize) -> PathBuf {
        self.folder.path().join(&self.joins[join].name)
    }

    fn config(&self, join: usize) -> PathBuf {
        self.folder(join).join(CONFIG)
    }

    /// How many bridges there are.
    pub(crate) fn joins(&self) -> std::ops::Range<usize> {
        0..self.joins.len()
    }

    /// Who writes what an application wrote on `from` to the log of `node`: the bridge on the way that is next to it, or
    /// nobody where that is the same node.
    pub(crate) fn origin(&self, from: usize, node: usize) -> Option<&str> {
        (from != node).then(|| {
            let next = self.joins.iter().find(|join| join.ends.contains(&node) && self.leads(join, node, from));
            next.unwrap().name.as_str()
        })
    }

    /// Whether a bridge at a node is on its way to another one.
    fn leads(&self, join: &Join, node: usize, to: usize) -> bool {
        let next = join.ends[usize::from(join.ends[0] == node)];
        let beyond = |other: &Join| other.ends.contains(&next) && !other.ends.contains(&node);
        next == to || self.joins.iter().any(|other| beyond(other) && self.leads(other, next, to))
    }

    /// Runs statements on every node.
    pub(crate) async fn all(&self, sql: &str) {
        join_all(self.nodes.iter().map(|node| node.run(sql))).await;
    }

    /// Creates a table on every node as a bridge needs it.
    pub(crate) async fn create(&self, name: &str, columns: &str) {
        join_all(self.nodes.iter().map(|node| node.create(name, columns))).await;
    }

    /// Sets every bridge up.
    pub(crate) async fn set_up(&self) {
        for join in self.joins() {
            self.succeed(join, &["setup"]).await;
        }
    }

    /// Starts a bridge.
    pub(crate) fn run(&self, join: usize) -> Bridge {
        Bridge::start(&self.config(join), &self.folder(join))
    }

    /// Starts every bridge, and waits until they work.
    pub(crate) async fn run_all(&self) -> Vec<Bridge> {
        let bridges: Vec<Bridge> = self.joins().map(|join| self.run(join)).collect();
        for bridge in &bridges {
            bridge.works().await;
        }
        bridges
    }

    /// Runs a bridge until it has applied what there is.
    pub(crate) async fn catch_up(&self, join: usize) {
        self.succeed(join, &["run", "--until-caught-up"]).await;
    }

    /// Runs a command of pontoon with the configuration of a bridge to its end, which must be a success.
    pub(crate) async fn succeed(&self, join: usize, arguments: &[&str]) -> Ended {
        let ended = pontoon(&self.config(join), arguments).await;
        assert_eq!(ended.code, 0, "{} {arguments:?}: {ended:?}", self.joins[join].name);
        ended
    }

    /// Waits until a bridge has applied what is committed now.
    pub(crate) async fn settle(&self, join: usize) {
        self.succeed(join, &["wait", "--timeout", &format!("{}s", DEADLINE.as_secs())]).await;
    }

    /// Waits until all that is committed now is everywhere: these queries answer alike on all nodes, and again when
    /// what had been written by then has crossed as well.
    pub(crate) async fn meet(&self, queries: &[&str]) {
        let (began, mut before) = (Instant::now(), None);
        loop {
            for join in self.joins() {
                self.settle(join).await;
            }
            let mut answers = Vec::new();
            for node in &self.nodes {
                answers.push(join_all(queries.iter().map(|sql| node.rows(sql))).await);
            }
            if answers.iter().all(|answer| *answer == answers[0]) && before.as_ref() == Some(&answers) {
                return;
            }
            assert!(began.elapsed() < MEET_MAX, "not the same for long within {MEET_MAX:?}: {answers:?}");
            before = Some(answers);
        }
    }

    /// The rows of a query, which all nodes must answer alike.
    pub(crate) async fn same(&self, sql: &str) -> Rows {
        let rows = join_all(self.nodes.iter().map(|node| node.rows(sql))).await;
        for (name, other) in NAMES.iter().zip(&rows) {
            assert_eq!(*other, rows[0], "{name} and a: {sql}");
        }
        rows.into_iter().next().unwrap()
    }

    /// Compares all rows over every bridge.
    pub(crate) async fn verify(&self) {
        for join in self.joins() {
            self.succeed(join, &["verify"]).await;
        }
    }

    /// Follows the log of every node, as [`Tail::follow`] does.
    pub(crate) async fn tails(&self, table: &str) -> Vec<Tail> {
        let mut tails = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let join = self.joins.iter().position(|join| join.ends.contains(&number)).unwrap();
            let key = i64::try_from(number).unwrap() + 1;
            let named = (NAMES[number], node);
            tails.push(Tail::follow(&self.config(join), &self.folder(join), named, table, key).await);
        }
        tails
    }
}
