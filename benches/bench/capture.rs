//! Reading a log and no more: `pg_recvlogical` and the servers' own binlog tools beside pontoon's readers, each from the same
//! place to the same place, and to nowhere.
//!
//! The peers write text (or the plugin's bytes) to `/dev/null`; pontoon decodes each row into a change of the common stream and
//! drops it. Its time begins when the log is asked for, theirs when the program starts: they look at no catalog before.

use std::{path::Path, process::Stdio, time::Instant};

use pontoon::{config::Config, mapping, nodes, side::Side};
use pontoon_core::{Held, LogEvent, Position, node::PassedOver};
use pontoon_servers::Kind;
use tokio::process::Command;

use crate::{
    Plan,
    backlog::{self, Workload},
    bridge::{self, Bridge},
    database::Database,
    measure::Run,
    peers,
    report::Contest,
    servers::options,
    table,
};

/// Runs what was asked for.
pub(crate) async fn measure(plan: &Plan) -> Vec<Contest> {
    let mut contests = Vec::new();
    for kind in [Kind::Postgres, Kind::Mariadb, Kind::Mysql] {
        let wanted = Workload::wanted(plan, |workload| name(kind, workload));
        if !wanted.is_empty() {
            contests.extend(of(plan, kind, &wanted).await);
        }
    }
    contests
}

fn name(kind: Kind, workload: Workload) -> String {
    format!("capture {kind}, {}", workload.name())
}

async fn of(plan: &Plan, kind: Kind, wanted: &[Workload]) -> Vec<Contest> {
    let (a, b) =
        tokio::join!(Database::start(kind, options(kind)), Database::start(Kind::Postgres, options(Kind::Postgres)));
    backlog::prepare(&[&a]).await;
    table::create(&b).await;
    let mut contests = Vec::new();
    // A mark that is there already is written to no binary log.
    for (mark, &workload) in (1..).zip(wanted) {
        let name = name(kind, workload);
        let bridge = Bridge::new([&a, &b], "both");
        bridge.succeed(&["setup"]).await;
        let peer = Peer::new(&a).await;
        eprintln!("{name}: the log is written");
        backlog::write(&a, workload, plan.part, mark).await;
        let (transactions, rows) = workload.size(plan.part);
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for run in 1..=plan.runs {
            theirs.push(peer.read(&a).await);
            ours.push(read(&bridge, [&a, &b], transactions * rows).await);
            eprintln!("{name}: run {run} of {}", plan.runs);
        }
        contests.push(Contest { workload: name, rows: transactions * rows, peer: peer.name(), theirs, ours });
        bridge.succeed(&["teardown", "--execute"]).await;
        peer.end(&a).await;
    }
    contests
}

/// Has this program read the log, in a process of its own.
async fn read(bridge: &Bridge, both: [&Database; 2], rows: u64) -> Run {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--read").arg(bridge.config()).envs(nodes::ENVIRONMENT).stdout(Stdio::piped());
    let (run, said) = bridge::measured(command, both, async || None).await;
    let (seconds, read) = said.trim().split_once(' ').unwrap();
    // The mark is a row, too.
    assert_eq!(read.parse::<u64>().unwrap(), rows + 1, "the rows that were written");
    Run { seconds: seconds.parse().unwrap(), ..run }
}

/// What that process does: reads the log of the first node from the bridge's checkpoint to its end, and prints how long it took and how
/// many rows it saw.
pub(crate) async fn read_log(config: &Path) {
    let config = Config::load(Some(config)).unwrap();
    let nodes = nodes::open(&config).unwrap().nodes;
    for node in nodes.iter() {
        node.connect().await.unwrap();
    }
    let mapping = mapping::map(&config, &nodes).await.unwrap().require().unwrap();
    let checkpoint = nodes[Side::B].state(&mapping.tables[Side::B]).await.unwrap().checkpoint.unwrap();
    let end = nodes[Side::A].log_status(None).await.unwrap().end;
    let began = Instant::now();
    let mut reader =
        nodes[Side::A].open_reader(&checkpoint, &mapping.tables[Side::A], &PassedOver::default()).await.unwrap();
    let mut rows = 0;
    loop {
        let reached: Option<Position> = match reader.next().await.unwrap() {
            LogEvent::Fragment(fragment) => {
                rows += fragment.changes.len();
                fragment.position
            }
            LogEvent::Progress(progress) => Some(progress.position),
            // A large transaction comes while it is being made.
            LogEvent::Held(Held::Piece { changes, .. }) => {
                rows += changes.len();
                None
            }
            LogEvent::Held(Held::Decided { fragment, .. }) => fragment.position,
            LogEvent::Held(Held::Undone { .. }) => None,
            LogEvent::Obstacle(obstacle) => panic!("{obstacle:?}"),
        };
        if reached.is_some_and(|reached| reached.covers(&end)) {
            break;
        }
    }
    println!("{} {rows}", began.elapsed().as_secs_f64());
}

/// The server's own way of reading its log.
enum Peer {
    /// `pg_recvlogical`, from a copy of this slot each time.
    Postgres,
    /// A program that reads the binary log from here on.
    Binlog { program: &'static str, file: String, offset: String },
}

const SLOT: &str = "peer";

impl Peer {
    /// What is written from now on is read.
    async fn new(node: &Database) -> Peer {
        let program = match node.kind {
            Kind::Postgres => {
                peers::publish(node, SLOT).await;
                return Peer::Postgres;
            }
            Kind::Mariadb => "mariadb-binlog",
            Kind::Mysql => "mysqlbinlog",
        };
        let [file, offset] = peers::log_end(node).await;
        Peer::Binlog { program, file, offset }
    }

    fn name(&self) -> &'static str {
        match self {
            Peer::Postgres => "pg_recvlogical",
            Peer::Binlog { program, .. } => program,
        }
    }

    async fn read(&self, node: &Database) -> Run {
        let port = node.server.port().to_string();
        let mut command = match self {
            Peer::Postgres => {
                node.run(&format!("SELECT pg_copy_logical_replication_slot('{SLOT}', '{SLOT}_copy')")).await;
                let end = node.value("SELECT pg_current_wal_flush_lsn()").await;
                let mut command = Command::new("pg_recvlogical");
                command.env("PGPASSWORD", node.server.password());
                command.args(["-h", "127.0.0.1", "-p", &port, "-U", node.server.superuser(), "-d", "shop"]);
                command.args([
                    "--start",
                    "--slot",
                    &format!("{SLOT}_copy"),
                    "--endpos",
                    &end,
                    "--no-loop",
                    "-f",
                    "/dev/null",
                ]);
                // As pontoon asks for it: else the server writes a large transaction to the disk before it sends it.
                command.args(["-o", "proto_version=2", "-o", "streaming=on"]);
                command.args(["-o", &format!("publication_names={SLOT}")]);
                command
            }
            Peer::Binlog { program, file, offset } => {
                let mut command = match node.kind {
                    Kind::Mysql => Command::from(pontoon_servers::mysql_tool(program).unwrap()),
                    Kind::Postgres | Kind::Mariadb => Command::new(program),
                };
                command.env("MYSQL_PWD", node.server.password());
                command.args(["--read-from-remote-server", "--host=127.0.0.1", "--to-last-log", "--verbose"]);
                command.arg(format!("--port={port}")).arg(format!("--user={}", node.server.superuser()));
                command.args(["--base64-output=decode-rows", &format!("--start-position={offset}"), file]);
                command
            }
        };
        command.stdout(Stdio::null());
        let (run, _) = bridge::measured(command, [node, node], async || None).await;
        if matches!(self, Peer::Postgres) {
            node.run(&format!("SELECT pg_drop_replication_slot('{SLOT}_copy')")).await;
        }
        Run { servers: [run.servers[0], 0.0], ..run }
    }

    async fn end(self, node: &Database) {
        if matches!(self, Peer::Postgres) {
            node.run(&format!("SELECT pg_drop_replication_slot('{SLOT}')")).await;
        }
    }
}
