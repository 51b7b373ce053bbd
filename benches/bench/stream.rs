//! Bringing one side's changes to the other: native replication beside a bridge that is set up for both ways, which follows the
//! target's log too, looks at what each row was before, and can be killed at any moment.
//!
//! The same backlog waits for both: for the peer on a server of its own, made equal before. Each is timed from its start until the
//! last of it can be read on its target, and all of them are compared after each run.

use std::time::{Duration, Instant};

use pontoon_servers::Kind;
use tokio::time::sleep;

use crate::{
    Plan,
    backlog::{self, Workload},
    bridge::{self, Bridge},
    database::Database,
    measure::Run,
    peers::{self, NAME},
    report::Contest,
    servers::options,
    table,
};

/// How often is looked whether all of it is there.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A peer that has stopped at an error is not waited for without end: far longer than any backlog takes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(600);

/// Servers of one kind that follow each other by their own means, and pairs that are held against what pontoon itself does between two
/// of the target's kind.
const PAIRS: [[Kind; 2]; 7] = [
    [Kind::Postgres, Kind::Postgres],
    [Kind::Mariadb, Kind::Mariadb],
    [Kind::Mysql, Kind::Mysql],
    [Kind::Mariadb, Kind::Postgres],
    [Kind::Postgres, Kind::Mariadb],
    [Kind::Mysql, Kind::Postgres],
    [Kind::Postgres, Kind::Mysql],
];

/// Runs what was asked for.
pub(crate) async fn measure(plan: &Plan) -> Vec<Contest> {
    let mut contests = Vec::new();
    let mut known: Vec<(Kind, Workload, Vec<Run>)> = Vec::new();
    for kinds in PAIRS {
        let wanted = Workload::wanted(plan, |workload| name(kinds, workload));
        if wanted.is_empty() {
            continue;
        }
        let nodes = tokio::join!(
            Database::start(kinds[0], options(kinds[0])),
            Database::start(kinds[1], options(kinds[1])),
            Database::start(kinds[0], options(kinds[0])),
        );
        backlog::prepare(&[&nodes.0, &nodes.1, &nodes.2]).await;
        let mut field = Field { a: nodes.0, b: nodes.1, c: nodes.2, marks: 0 };
        for workload in wanted {
            if kinds[0] != kinds[1] {
                let ours = field.alone(plan, workload).await;
                let same = known.iter().find(|(kind, of, _)| *kind == kinds[1] && *of == workload);
                let theirs = same.map_or_else(Vec::new, |(.., runs)| runs.clone());
                contests.push(contest(plan, kinds, workload, "pontoon, target's kind", theirs, ours));
                continue;
            }
            for peer in Peer::of(kinds[0]) {
                let (theirs, ours) = field.beside(plan, workload, peer).await;
                known.push((kinds[1], workload, ours.clone()));
                contests.push(contest(plan, kinds, workload, peer.name(), theirs, ours));
            }
        }
    }
    contests
}

fn name([source, target]: [Kind; 2], workload: Workload) -> String {
    format!("stream {source} to {target}, {}", workload.name())
}

fn contest(
    plan: &Plan,
    kinds: [Kind; 2],
    workload: Workload,
    peer: &'static str,
    theirs: Vec<Run>,
    ours: Vec<Run>,
) -> Contest {
    let (transactions, rows) = workload.size(plan.part);
    Contest { workload: name(kinds, workload), rows: transactions * rows, peer, theirs, ours }
}

/// Two nodes of a bridge, and a server of the source's kind that follows it by its own means.
struct Field {
    a: Database,
    b: Database,
    c: Database,
    /// Backlogs so far.
    marks: i64,
}

impl Field {
    /// A peer and pontoon, each with the same backlog.
    async fn beside(&mut self, plan: &Plan, workload: Workload, peer: Peer) -> (Vec<Run>, Vec<Run>) {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for run in 1..=plan.runs {
            let bridge = self.bridge().await;
            peer.begin(&self.a, &self.c).await;
            self.write(plan, workload).await;
            // In turn, so that neither always comes to a warmer machine.
            if run % 2 == 0 {
                ours.push(self.run(&bridge).await);
                theirs.push(peer.run(&self.a, &self.c, self.marks).await);
            } else {
                theirs.push(peer.run(&self.a, &self.c, self.marks).await);
                ours.push(self.run(&bridge).await);
            }
            self.end(bridge, &[&self.b, &self.c]).await;
            eprintln!("stream {} to {}, {}: run {run} of {}", self.a.kind, self.b.kind, workload.name(), plan.runs);
        }
        (theirs, ours)
    }

    async fn alone(&mut self, plan: &Plan, workload: Workload) -> Vec<Run> {
        let mut ours = Vec::new();
        for run in 1..=plan.runs {
            let bridge = self.bridge().await;
            self.write(plan, workload).await;
            ours.push(self.run(&bridge).await);
            self.end(bridge, &[&self.b]).await;
            eprintln!("stream {} to {}, {}: run {run} of {}", self.a.kind, self.b.kind, workload.name(), plan.runs);
        }
        ours
    }

    async fn bridge(&self) -> Bridge {
        let bridge = Bridge::new([&self.a, &self.b], "both");
        bridge.succeed(&["setup"]).await;
        bridge
    }

    async fn write(&mut self, plan: &Plan, workload: Workload) {
        self.marks += 1;
        backlog::write(&self.a, workload, plan.part, self.marks).await;
    }

    async fn run(&self, bridge: &Bridge) -> Run {
        run_bridge(bridge, [&self.a, &self.b], self.marks).await
    }

    async fn end(&self, bridge: Bridge, targets: &[&Database]) {
        bridge.succeed(&["teardown", "--execute"]).await;
        let expected = table::digest(&self.a).await;
        for node in targets {
            assert_eq!(table::digest(node).await, expected, "the rows are not those of the source");
        }
    }
}

/// From the start of the process until the mark is on the target, durable as all that it commits.
async fn run_bridge(bridge: &Bridge, nodes: [&Database; 2], mark: i64) -> Run {
    let arrived = async || {
        let there = wait_for(nodes[1], mark).await;
        Some(there)
    };
    bridge::measured(bridge.command(&["run", "--until-caught-up"]), nodes, arrived).await.0
}

async fn wait_for(node: &Database, mark: i64) -> Instant {
    let (mut client, began) = (node.client().await, Instant::now());
    while backlog::marked(&mut client).await != mark {
        assert!(began.elapsed() < GIVEN_UP_AFTER, "what waits for {} does not arrive", node.kind);
        sleep(LOOK_EVERY).await;
    }
    Instant::now()
}

/// A way in which servers of a kind follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// A subscription with this setting of `synchronous_commit`.
    Subscription(&'static str),
    /// A replica with so many workers, which is durable.
    Replica(Kind, u8),
}

impl Peer {
    fn of(kind: Kind) -> Vec<Peer> {
        match kind {
            Kind::Postgres => vec![Peer::Subscription("off"), Peer::Subscription("on")],
            Kind::Mariadb | Kind::Mysql => vec![Peer::Replica(kind, 1), Peer::Replica(kind, 4)],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Peer::Subscription("off") => "subscription, not durable",
            Peer::Subscription(_) => "subscription, durable",
            Peer::Replica(_, 1) => "replica",
            Peer::Replica(..) => "replica, 4 workers",
        }
    }

    /// What is written from now on waits for it.
    async fn begin(self, source: &Database, target: &Database) {
        let (host, port) = ("127.0.0.1", source.server.port());
        let (user, password) = (source.server.superuser(), source.server.password());
        match self {
            Peer::Subscription(durable) => {
                peers::subscribe(source, target, durable).await;
            }
            Peer::Replica(Kind::Mariadb, workers) => {
                let place = source.value("SELECT @@gtid_binlog_pos").await;
                target.run(&format!("SET GLOBAL gtid_slave_pos = '{place}'")).await;
                target
                    .run(&format!("SET GLOBAL slave_parallel_threads = {}", if workers > 1 { workers } else { 0 }))
                    .await;
                target.run("SET GLOBAL slave_parallel_mode = 'optimistic'").await;
                target
                    .run(&format!(
                        "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = '{user}', \
                         MASTER_PASSWORD = '{password}', MASTER_USE_GTID = slave_pos"
                    ))
                    .await;
            }
            Peer::Replica(_, workers) => {
                let [file, offset] = peers::log_end(source).await;
                target.run(&format!("SET GLOBAL replica_parallel_workers = {workers}")).await;
                // Several workers that were stopped leave a state that a new source is refused in (error 1802), though all is applied.
                target.run("RESET REPLICA ALL").await;
                target
                    .run(&format!(
                        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port}, SOURCE_USER = '{user}', \
                         SOURCE_PASSWORD = '{password}', SOURCE_LOG_FILE = '{file}', SOURCE_LOG_POS = {offset}, \
                         GET_SOURCE_PUBLIC_KEY = 1"
                    ))
                    .await;
            }
        }
    }

    /// From its start until the mark is there; then it is ended.
    async fn run(self, source: &Database, target: &Database, mark: i64) -> Run {
        let nodes = [source, target];
        let before = nodes.map(bridge::server);
        let [start, stop] = match self {
            Peer::Subscription(_) => [format!("ALTER SUBSCRIPTION {NAME} ENABLE"), format!("DROP SUBSCRIPTION {NAME}")],
            Peer::Replica(Kind::Mariadb, _) => ["START SLAVE".to_owned(), "STOP SLAVE".to_owned()],
            Peer::Replica(..) => ["START REPLICA".to_owned(), "STOP REPLICA".to_owned()],
        };
        let began = Instant::now();
        target.run(&start).await;
        let seconds = wait_for(target, mark).await.duration_since(began).as_secs_f64();
        let after = nodes.map(bridge::server);
        target.run(&stop).await;
        Run { seconds, servers: [after[0] - before[0], after[1] - before[1]], ..Run::default() }
    }
}
