//! What each command takes, which is also what `--help` says of it.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use pontoon_core::{Error, Position, calendar};

use crate::human::parse_duration;

/// Shows the bridge at work between two private servers
///
/// Starts two servers in temporary folders, a shop's schema on both, and clients that write to both sides at
/// once, with conflicts. Shows what happens, waits until both hold the same rows, and removes everything. The
/// last line is `converged: yes` or `converged: no`, the exit code 0 or 1. Needs no configuration.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon demo
  pontoon demo --pair postgres:mysql --writes 5000
  pontoon demo --keep                            leaves all running and prints the URLs")]
pub struct DemoArgs {
    /// Which two servers: postgres, mariadb, mysql
    #[arg(long, value_name = "ONE:OTHER", default_value = "postgres:mariadb")]
    pub pair: DemoPair,
    /// How many writes the clients make, on both sides together
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub writes: u64,
    /// Leave everything running until Ctrl-C, and print the URLs
    #[arg(long)]
    pub keep: bool,
}

/// Two servers of a demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPair(pub [DemoServer; 2]);

/// A server of a demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoServer {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
    /// MySQL.
    Mysql,
}

impl FromStr for DemoPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let server = |name: &str| {
            DemoServer::from_str(name, false).map_err(|_| format!("{name:?} is none of postgres, mariadb, mysql"))
        };
        let (one, other) =
            text.split_once(':').ok_or("write two servers with a colon between them: postgres:mariadb")?;
        Ok(DemoPair([server(one)?, server(other)?]))
    }
}

/// Writes a commented configuration for two databases
///
/// Asks for what is not said, on a terminal. Looks into both databases, where they let it in, and lists the tables
/// that are on both sides, and those that are on one. A password in a url, or in the variable that the configuration
/// will name ($SHOP_PASSWORD for a node shop), is used for that look and never written. The file is the one that
/// --config or $PONTOON_CONFIG names, else ./pontoon.toml; one that is there is not touched.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon init shop=postgresql://pontoon@db1/shop stock=mysql://pontoon@db2/shop
  pontoon init shop=postgresql://pontoon@db1/shop stock=mysql://pontoon@db2/shop --table customers --table 'audit_*'
  pontoon init                                   asks, on a terminal")]
pub struct InitArgs {
    /// The two databases, each a name of your choice and a url
    #[arg(value_name = "NODE=URL", num_args = 0..=2)]
    pub nodes: Vec<String>,
    /// The bridge's name: the origin tag [default: both nodes' names]
    #[arg(long, value_name = "NAME")]
    pub bridge: Option<String>,
    /// A table or a pattern to bridge, as the configuration names it, instead of what is on both sides; may be given
    /// several times
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
}

/// Looks whether the two databases can be bridged; changes nothing
///
/// Reads settings, privileges, tables, keys, types, collations, clocks and limits on both sides, before or after
/// `setup`. Each finding has a stable code, what was found, what is needed and the statement that mends it. Exit
/// code 1 if any of them blocks.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon check
  pontoon check --json | jq '.findings[] | select(.severity == \"blocking\")'")]
pub struct CheckArgs {
    /// One JSON document for programs
    #[arg(long)]
    pub json: bool,
}

/// Creates what the bridge needs on both sides
///
/// The `pontoon` schema or database, slot, publication and origins. Safe to repeat. What is committed on either
/// side after it returns will cross.
///
/// With --create-tables, a table that one side lacks is made there first, empty, from what the other side has: types,
/// primary key, indexes, unique constraints, not null, constant defaults and comments. What does not carry over is
/// named; a table that cannot be held is refused, and then none is made.
///
/// With --at, a node's log is taken up at a position that is past: where a dump of it was taken that is on the other node
/// by now. What was committed behind it crosses, and nothing is copied. A place where that cannot be is refused, and so is a
/// bridge that runs, or has applied something. On PostgreSQL a plain `setup` comes before the dump, as it makes the slot.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon setup
  pontoon setup --at stock=binlog.000003:1234    shop holds a dump of stock that was taken there
  pontoon setup --at shop=0/16B3748 --at stock=binlog.000003:1234
                                                 stock holds a dump of shop, and its log ended there when it was loaded
  pontoon setup --create-tables --print-sql      what would be made, to read or to run
  pontoon setup --print-sql                      for a DBA to read or to run, with the least grants")]
pub struct SetupArgs {
    /// Make the tables that one side lacks
    #[arg(long)]
    pub create_tables: bool,
    /// Print the SQL, grants first, and do nothing
    #[arg(long)]
    pub print_sql: bool,
    /// Take the node's log up there and not where it ends now; once for each node. A position as the server shows it, or
    /// as mysqldump, mariadb-dump and the tools for physical backups write it
    #[arg(long, value_name = "NODE=POSITION", value_parser = parse_place, conflicts_with_all = ["print_sql", "create_tables"])]
    pub at: Vec<(String, Position)>,
}

/// Removes all that `setup` created, on both sides
///
/// Shows what it would remove; does so with --execute, and shows that nothing is left. Refuses while the bridge
/// runs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon teardown
  pontoon teardown --execute")]
pub struct TeardownArgs {
    /// Print the SQL and do nothing
    #[arg(long, conflicts_with = "execute")]
    pub print_sql: bool,
    /// Do it
    #[arg(long)]
    pub execute: bool,
}

/// Loads what a table holds already to the other side, while both are written
///
/// After `setup`, with or without `run` beside it: where none is up, this process does its work until the load is done.
/// Rows are read in chunks by key, without a long transaction or lock. Cut off, it goes on at the chunk where it was
/// when it is started again, or when `run` is. A target that holds rows is refused without --merge.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon copy --from shop
  pontoon copy --from shop --table customers --table items
  pontoon copy --from stock --table items --merge")]
pub struct CopyArgs {
    /// The node whose rows are loaded to the other
    #[arg(long, value_name = "NODE")]
    pub from: String,
    /// Only this table, as the configuration names it; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Compare with the rows that are there: what is missing is added, what differs is decided by the table's conflict rule
    #[arg(long)]
    pub merge: bool,
}

/// Makes tables equal whose log is lost on a node
///
/// What that node's log holds of these tables until now is passed over, and what differs becomes as that node has it, by `repair`: what it wrote, changed and
/// removed while its log was lost. What the other node wrote crosses by its own log and is decided as ever, and so do all other tables; both sides
/// may be written meanwhile. Where no bridge runs, this one does until it is done.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon resync --from stock --table items
  pontoon resync --from stock --table items --execute")]
pub struct ResyncArgs {
    /// The node whose log is lost, and whose rows stand where no write tells otherwise
    #[arg(long, value_name = "NODE")]
    pub from: String,
    /// The table, as the configuration names it; may be given several times
    #[arg(long = "table", value_name = "TABLE", required = true)]
    pub tables: Vec<String>,
    /// How long what is on its way may take to arrive, where rows differ: 500ms, 60s, 5m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Do it; without this it is only shown
    #[arg(long)]
    pub execute: bool,
}

/// Runs the bridge
///
/// A node that refuses or is absent at the first connection ends it with exit code 3; later it reconnects for
/// ever. A second process of the same bridge stands by and takes over. SIGTERM or Ctrl-C finishes what is in
/// hand and ends it with exit code 0 within 10 seconds.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon run
  pontoon --log-format json --log warn run
  pontoon run --until-caught-up                  for cron and timers
  pontoon run --dry-run                          what it would write, and which conflicts it would meet")]
pub struct RunArgs {
    /// End when both logs are applied up to where they stood at the start
    #[arg(long)]
    pub until_caught_up: bool,
    /// Write nothing: count which rows would be inserted, updated and deleted by what both logs hold, and which conflicts would arise. For a bridge that
    /// does not run or is paused. Exit code 1 where not all of both logs could be counted
    #[arg(long, conflicts_with = "until_caught_up")]
    pub dry_run: bool,
    /// One JSON document for programs, of a dry run
    #[arg(long, requires = "dry_run")]
    pub json: bool,
}

/// Shows both directions: state, position, lag, rates, conflicts, headroom
///
/// Works whether or not `run` is up.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon status
  pontoon status --watch
  pontoon status --json | jq '.directions[].lag_seconds'")]
pub struct StatusArgs {
    /// One JSON document for programs
    #[arg(long, conflicts_with = "watch")]
    pub json: bool,
    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// Tells by its exit code whether the bridge that runs is well
///
/// Asks the process itself, at the address where the configuration has it listen, which is to be on this host or in its reach; no
/// database. Exit code 0 if it says so, 1 with the reason on standard error if it does not, does not answer, or is another bridge.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon health                                 is it alive?
  pontoon health --ready                         does it work, with both databases, and not far behind?")]
pub struct HealthArgs {
    /// Ask whether it can be relied on (/readyz), and not only whether it is alive (/livez)
    #[arg(long)]
    pub ready: bool,
    /// How long it may take to answer: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Returns when all that was committed on either side until now is on the other
///
/// A barrier for scripts and cut-overs. Exit code 1 if it takes longer than the time given.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon wait && ./switch-over
  pontoon wait --timeout 5m")]
pub struct WaitArgs {
    /// How long to wait: 500ms, 60s, 5m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Applies nothing more, in one direction or both, until `resume`
///
/// Returns once nothing more is applied. Durable: it outlives a restart of the bridge and of the servers. Both logs go on being
/// read, into memory and spill files. A conflict is settled on both nodes, so it waits until both directions go on.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon pause
  pontoon pause 'shop->stock' --for 2h")]
pub struct PauseArgs {
    /// One direction, from the node on the left to the one on the right [default: both]
    #[arg(value_name = "NODE->NODE")]
    pub direction: Option<String>,
    /// It goes on by itself after this time, by the target's clock: 90s, 30m, 2h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub length: Option<Duration>,
}

/// Goes on with what was paused
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon resume
  pontoon resume 'shop->stock'")]
pub struct ResumeArgs {
    /// One direction, from the node on the left to the one on the right [default: both]
    #[arg(value_name = "NODE->NODE")]
    pub direction: Option<String>,
}

/// Limits how many rows are applied in a second, in one direction or both
///
/// Durable: it outlives a restart of the bridge and of the servers, and counts in the place of what the configuration says. A bridge that runs
/// heeds it within seconds. A transaction is never cut: after a large one the next ones wait for longer. Both logs go on being
/// read, into memory and spill files.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("limit").required(true))]
#[command(after_help = "Examples:
  pontoon throttle --rows-per-second 500
  pontoon throttle 'shop->stock' --rows-per-second 500
  pontoon throttle --off                         as fast as it can, whatever the configuration says
  pontoon throttle --default                     as the configuration says")]
pub struct ThrottleArgs {
    /// One direction, from the node on the left to the one on the right [default: both]
    #[arg(value_name = "NODE->NODE")]
    pub direction: Option<String>,
    /// At most so many rows in a second
    #[arg(long, value_name = "N", group = "limit", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rows_per_second: Option<u64>,
    /// No limit, whatever the configuration says
    #[arg(long, group = "limit")]
    pub off: bool,
    /// What the configuration says
    #[arg(long, group = "limit")]
    pub default: bool,
}

/// Has the bridge that runs take up its configuration anew, without a restart
///
/// Each process of the bridge reads its own file, as it does at SIGHUP; the one that works answers within seconds. Tables, defaults, rules and limits are taken up,
/// nodes, the bridge's name, the page and the spill folder are not: where one of those differs, or the file is broken, nothing is, and what was goes
/// on. Exit code 1 then, and where nobody answers.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon reload
  kill -HUP PID                                  the same for one process, which answers in its log")]
pub struct ReloadArgs {
    /// How long an answer may take: 500ms, 30s, 5m
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Prints what a node's log holds, as JSON lines
///
/// The common event stream of the bridge's tables, echoes marked by their origin. Takes nothing from a running
/// bridge.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon tail shop
  pontoon tail stock --from binlog.000003:1234 --limit 10
  pontoon tail shop --format debezium | jq --compact-output --unbuffered .payload")]
pub struct TailArgs {
    /// The node, by its name in the configuration
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Where to begin; without it at the log's present end
    #[arg(long, value_name = "POSITION", value_parser = parse_position)]
    pub from: Option<Position>,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// How events are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "json")]
    pub format: TailFormat,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TailFormat {
    /// The common event, one JSON object a line
    Json,
    /// The envelope that consumers of Debezium read, one JSON object a line
    Debezium,
}

/// Compares all rows of both sides while writing goes on
///
/// By checksums that the databases compute, where they can; only what differs is read row by row. A difference counts only if it
/// stays when all that was on its way has arrived. Exit code 1 if there are any, or if that cannot be told in time.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon verify
  pontoon verify --table customers --table items
  pontoon verify --json | jq .rows_different")]
pub struct VerifyArgs {
    /// Only this table, as the configuration names it; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// How long what is on its way may take to arrive, where rows differ: 500ms, 60s, 5m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// One JSON document for programs
    #[arg(long)]
    pub json: bool,
}

/// Makes equal what `verify` finds different
///
/// Compares as `verify` does, and prints what would become of each row on the other node. With --execute the rows of one node
/// stand on both, but where either side writes one meanwhile: that is settled by the table's rule. Each is written under its
/// lock, with the origin tag, and on record (`conflicts list`). The running bridge does it, or this process where none runs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon repair --from shop                     shows what would be done
  pontoon repair --from shop --table items --execute")]
pub struct RepairArgs {
    /// The node whose rows stand
    #[arg(long, value_name = "NODE")]
    pub from: String,
    /// Only this table, as the configuration names it; may be given several times
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// How long what is on its way may take to arrive, where rows differ: 500ms, 60s, 5m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Do it; without this it is only shown
    #[arg(long)]
    pub execute: bool,
}

/// Settled conflicts: what each side held, who won and why
///
/// Reads the records that both databases keep in pontoon.resolution; works whether or not the bridge runs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon conflicts list --table items --since 2h
  pontoon conflicts list --key 7
  pontoon conflicts show 12
  pontoon quarantine retry 12 --key 1017         gives the row that lost in record 12 a key of its own")]
pub struct ConflictsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConflictsCommand,
}

/// What can be asked about settled conflicts.
#[derive(Debug, Clone, Subcommand)]
pub enum ConflictsCommand {
    /// Lists settled conflicts, the newest first
    List(ConflictsListArgs),
    /// Shows a settled conflict: what each side held, what came of it and why
    Show {
        /// The record
        #[arg(value_name = "ID")]
        id: i64,
        /// One JSON document for programs
        #[arg(long)]
        json: bool,
    },
    /// Counts settled conflicts by table and rule
    Stats {
        /// One JSON document for programs
        #[arg(long)]
        json: bool,
    },
}

/// Which settled conflicts are listed.
#[derive(Debug, Clone, Args)]
pub struct ConflictsListArgs {
    /// Of this table, by its name in the configuration
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    /// Of this row: its key; of several columns a JSON array
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Whose rule begins so: last_writer_wins, column_merge, "prefer: stock"
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Settled since then: for so long (2h), or since 2026-11-23T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Settled before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// How many at the most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// One JSON document for programs, with the rows
    #[arg(long)]
    pub json: bool,
}

/// A point in time, in microseconds since 1970 UTC: an instant, or as long ago as is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub i64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(instant) = calendar::parse_instant(text) {
            return Ok(Moment(instant));
        }
        let ago = parse_duration(text).map_err(|_| format!("{text:?} is no time; write 2h or 2026-11-23T10:00:00Z"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Moment(i64::try_from(now.saturating_sub(ago).as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Lists what could not be applied, and says what becomes of it
///
/// A row that the target refuses is kept there with the reason, later changes of it behind it, and tried again and
/// again. Works whether or not `run` is up: what is asked for is done by the running bridge within two seconds, or
/// when it starts.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon quarantine list
  pontoon quarantine show 17
  pontoon quarantine retry 17
  pontoon quarantine retry 17 --take shop          both get the row of shop
  pontoon quarantine retry 17 --key 1017           both get both rows, one under another key
  pontoon quarantine discard 17 --execute
  pontoon quarantine list --json | jq '.entries[] | {id, table, key, message}'")]
pub struct QuarantineArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

/// What can be done about the quarantine.
#[derive(Debug, Clone, Subcommand)]
pub enum QuarantineCommand {
    /// Lists the rows that are refused, and how much waits behind each
    List {
        /// One JSON document for programs, with all that waits too
        #[arg(long)]
        json: bool,
    },
    /// Shows an entry with its rows, and what waits behind it
    Show {
        /// The entry
        #[arg(value_name = "ID")]
        id: i64,
        /// One JSON document for programs
        #[arg(long)]
        json: bool,
    },
    /// Tries rows again at once
    Retry {
        /// The entries; with --key one entry, or a record of `pontoon conflicts`
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// The row of this node stands on both, whatever the rule says. The choice is on record in pontoon.resolution. A
        /// row that was written since is tried again instead
        #[arg(long, value_name = "NODE")]
        take: Option<String>,
        /// Of two rows under one key, the other node's row gets this key on both, and the row of the node that keeps the
        /// entry, or that --take names, keeps the old one; of a record of `pontoon conflicts`, the row that lost gets it.
        /// The key is not in use on either side: its value, or of several columns a JSON array. On record in
        /// pontoon.resolution; a row that was written since is tried again instead
        #[arg(long, value_name = "NEW", allow_hyphen_values = true)]
        key: Option<String>,
    },
    /// Drops the stored changes of rows; each node keeps what it has
    ///
    /// Shows what it would drop; does so with --execute. The choice is on record in pontoon.resolution. A row that was
    /// written since is tried again instead.
    Discard {
        /// The entries
        #[arg(value_name = "ID", required = true)]
        ids: Vec<i64>,
        /// Do it
        #[arg(long)]
        execute: bool,
    },
}

/// Passes over one transaction that cannot be applied
///
/// Shows its rows; with --execute it is remembered, durably, that the bridge is not to apply it. Its rows are
/// then missing on the other side until they are made equal by other means.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon skip shop 0/16B3748                    shows the transaction
  pontoon skip shop 0/16B3748 --execute")]
pub struct SkipArgs {
    /// The node in whose log it is
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Where it is, as `run` said when it stopped
    #[arg(value_name = "POSITION", value_parser = parse_position)]
    pub position: Position,
    /// Do it
    #[arg(long)]
    pub execute: bool,
}

/// Shows where the generators of keys stand, and moves them past the keys that are there
///
/// A row that comes from the other side has its key, and the sequence of the side that it comes to is not asked. Before
/// applications insert on a side that only the bridge wrote to, its generators have to be past what is there. Where both sides
/// count in steps that never meet, each has to be past its own. Exit code 1 where some are not.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon sequences                              shows them, with the SQL that would move them
  pontoon wait && pontoon sequences --node stock --execute
                                                 before applications go over to stock")]
pub struct SequencesArgs {
    /// Only this node's
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Only this table's; may be repeated
    #[arg(long = "table", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Do it
    #[arg(long)]
    pub execute: bool,
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

/// The way of applications from one node to the other: what is in order, what is left to do, and the last step
///
/// Without --execute it looks, and says what it finds and what comes next; exit code 1 where something is in the way. With it
/// (the applications of the other node are stopped by then) it waits until all that they wrote is on the node that they go to, moves its
/// generators of keys past that, and makes sure that nobody has written to the other node meanwhile. The way back is the same command with the other
/// node.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon switchover --to stock                  what is in order and what is not
  pontoon switchover --to stock --execute        when the applications that write to shop are stopped")]
pub struct SwitchoverArgs {
    /// The node that applications are to write to
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Take the last step
    #[arg(long)]
    pub execute: bool,
    /// How long what was written may take to cross: 500ms, 30s, 5m, 2h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// Says what an error or a finding means and what to do; offline
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon explain                                lists all codes
  pontoon explain log-lost")]
pub struct ExplainArgs {
    /// The code, as it stands in brackets after a message; without it all are listed
    #[arg(value_name = "CODE")]
    pub code: Option<String>,
}

/// Prints the completion script of a shell
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon completions bash > /etc/bash_completion.d/pontoon
  pontoon completions fish > ~/.config/fish/completions/pontoon.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: Shell,
}

/// Prints the manual page, with every command
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  pontoon man | man -l -
  pontoon man > /usr/local/share/man/man1/pontoon.1")]
pub struct ManArgs {}

fn parse_position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error| in_words(&error))
}

fn parse_place(text: &str) -> Result<(String, Position), String> {
    let (node, position) =
        text.split_once('=').ok_or("write a node and a position with = between them: shop=0/16B3748")?;
    Ok((node.to_owned(), Position::noted(position).map_err(|error| in_words(&error))?))
}

fn in_words(error: &Error) -> String {
    match error.remedy() {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    }
}
