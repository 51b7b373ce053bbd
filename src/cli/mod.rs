//! The command line: what can be said, and one file for each command.
//!
//! A command is a file `<command>.rs` with `run(arguments, &Context) -> Result<u8>`, where the number is the
//! exit code, what it takes in `arguments.rs`, and one line in `commands!` below. Results go to standard output, talk and log to standard
//! error.

pub mod arguments;
mod debezium;
mod dry_run;
mod new_key;
pub mod terminal;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use pontoon_core::{Code, Error, MappedTable, Result};
use serde::Serialize;
use tracing::Level;

use self::{arguments::*, terminal::Terminal};
use crate::{
    config::{Config, Invalid, suggest},
    human::printable,
    logging,
};

/// Everything went as asked.
pub const DONE: u8 = 0;

/// The answer is no: findings, differences, not converged, time is up.
pub const NO: u8 = 1;

/// The commands that this version has: the file, the command's name in Rust, its arguments.
macro_rules! commands {
    ($($module:ident => $name:ident($arguments:ty);)*) => {
        $(mod $module;)*

        /// A command and its arguments.
        #[derive(Debug, Clone, Subcommand)]
        #[allow(missing_docs, reason = "each is documented at its arguments, which is also what --help shows")]
        pub enum Command { $($name($arguments),)* }

        async fn dispatch(command: Command, context: &Context) -> Result<u8> {
            match command { $(Command::$name(arguments) => $module::run(arguments, context).await,)* }
        }
    };
}

commands! {
    demo => Demo(DemoArgs);
    init => Init(InitArgs);
    check => Check(CheckArgs);
    setup => Setup(SetupArgs);
    teardown => Teardown(TeardownArgs);
    copy => Copy(CopyArgs);
    resync => Resync(ResyncArgs);
    run => Run(RunArgs);
    status => Status(StatusArgs);
    health => Health(HealthArgs);
    wait => Wait(WaitArgs);
    pause => Pause(PauseArgs);
    resume => Resume(ResumeArgs);
    throttle => Throttle(ThrottleArgs);
    reload => Reload(ReloadArgs);
    tail => Tail(TailArgs);
    verify => Verify(VerifyArgs);
    repair => Repair(RepairArgs);
    conflicts => Conflicts(ConflictsArgs);
    quarantine => Quarantine(QuarantineArgs);
    skip => Skip(SkipArgs);
    sequences => Sequences(SequencesArgs);
    switchover => Switchover(SwitchoverArgs);
    explain => Explain(ExplainArgs);
    completions => Completions(CompletionsArgs);
    man => Man(ManArgs);
}

/// A two-way bridge between PostgreSQL, MySQL and MariaDB: joins two databases that applications write to.
#[derive(Debug, Clone, Parser)]
#[command(name = "pontoon", version, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 the answer is no, 2 usage or configuration, 3 a database cannot be reached or refuses the login, \
4 stopped at something that needs a person. `pontoon explain CODE` says more about any error.")]
pub struct Arguments {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The configuration; else $PONTOON_CONFIG, ./pontoon.toml, /etc/pontoon/pontoon.toml
    #[arg(long, value_name = "FILE", global = true, help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// How lines of the log look
    #[arg(long, value_name = "FORMAT", global = true, default_value = "text", help_heading = "Global options")]
    pub log_format: logging::Format,
    /// What is logged, to standard error: error, warn, info, debug, trace, off [default: info; of demo: warn]
    #[arg(long, value_name = "LEVEL", global = true, help_heading = "Global options")]
    pub log: Option<logging::Filter>,
}

impl Arguments {
    /// What is logged. A demo tells what happens by itself, on the same terminal.
    pub fn log(&self) -> logging::Filter {
        let quiet = matches!(self.command, Command::Demo(_));
        self.global.log.clone().unwrap_or_else(|| logging::Filter::level(if quiet { Level::WARN } else { Level::INFO }))
    }
}

/// What a command works with.
pub struct Context {
    global: Global,
    /// Standard output.
    pub out: Terminal,
}

impl Context {
    /// For the options given.
    pub fn new(global: Global) -> Self {
        Context { global, out: Terminal::stdout() }
    }

    /// The file that a new configuration is written to: where any other command will look for it first.
    pub fn new_config(&self) -> PathBuf {
        let named = std::env::var_os("PONTOON_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        self.global.config.clone().or(named).unwrap_or_else(|| "pontoon.toml".into())
    }

    /// The configuration. What works and should not be so is logged as a warning; of several things that are
    /// wrong the first is the error, and the others are printed before it.
    pub fn config(&self) -> Result<Config> {
        let config = Config::load(self.global.config.as_deref()).map_err(|invalid| {
            print_others(&invalid);
            Error::from(invalid)
        })?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

/// The tables of these names, or all of them.
fn chosen<'a>(tables: &'a [MappedTable], names: &[String]) -> Result<Vec<&'a MappedTable>> {
    if names.is_empty() {
        return Ok(tables.iter().collect());
    }
    let find = |name: &String| {
        let found = tables.iter().find(|table| &*table.label == name.as_str() || table.name.to_string() == *name);
        found.ok_or_else(|| {
            let near = suggest(name, tables.iter().map(|table| &*table.label));
            let error = Error::new(Code::Config, format!("{name:?} is no table of the bridge"));
            match near {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error,
            }
        })
    };
    names.iter().map(find).collect()
}

/// A document that a record or an entry keeps as text; null for none.
fn stored_json(text: Option<&str>) -> serde_json::Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A document for programs.
fn json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// The same on one line.
fn json_line(document: &impl Serialize) -> Result<String> {
    serde_json::to_string(document).map_err(|error| Error::new(Code::Internal, error.to_string()))
}

/// Prints statements for a node, each on lines of its own and with its semicolon.
fn print_sql(context: &Context, node: &str, statements: &[String]) -> Result<()> {
    context.out.line(&format!("-- on {node}"))?;
    for statement in statements {
        let is_comment = statement.lines().last().is_some_and(|line| line.starts_with("--"));
        let end = if is_comment || statement.trim_end().ends_with(';') { "" } else { ";" };
        context.out.line(&format!("{}{end}", statement.trim_end()))?;
    }
    context.out.line("")
}

/// The most problems that are printed beside the first one: more are mended faster by starting over.
const OTHERS_MAX: usize = 20;

fn print_others(invalid: &Invalid) {
    let others = invalid.problems().iter().skip(1);
    for problem in others.clone().take(OTHERS_MAX) {
        eprintln!("also: {}", invalid.line(problem));
    }
    match others.count().saturating_sub(OTHERS_MAX) {
        0 => {}
        more => eprintln!("also: {more} more"),
    }
}

/// Reads the arguments of this process. Help and usage errors end it, with exit code 0 or 2.
pub fn arguments() -> Arguments {
    Arguments::parse()
}

/// Reads arguments that are not this process's, the program's name first.
pub fn arguments_from(texts: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(texts)
}

/// The reference page of the error codes, in Markdown.
pub fn errors_reference() -> String {
    explain::reference()
}

/// Carries a command out, with the log started. The number is the exit code.
pub fn run(arguments: Arguments) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Internal, format!("no thread can be started: {error}")))?;
    let context = Context::new(arguments.global);
    let ended = runtime.block_on(dispatch(arguments.command, &context));
    // What still runs in a thread of its own, a name being looked up for one, does not hold the process up.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// The exit code; of an error, after its last lines on standard error.
pub fn exit_code(ended: Result<u8>) -> ExitCode {
    match ended {
        Ok(code) => code.into(),
        // Who reads the output has had enough: `pontoon tail shop | head`.
        Err(_) if terminal::reader_is_gone() => DONE.into(),
        Err(error) => {
            eprint!("{}", last_lines(&error));
            error.code().exit().into()
        }
    }
}

fn last_lines(error: &Error) -> String {
    let (message, code) = (one_line(error.message()), error.code());
    let hint = error.remedy().map_or_else(|| format!("pontoon explain {code}"), one_line);
    format!("error: {message} [{code}]\nhint: {hint}\n")
}

/// A server's message may have several lines, and anything in them.
fn one_line(text: &str) -> String {
    printable(&text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_hold_together() {
        Arguments::command().debug_assert();
        // Those whose command is not there yet too.
        #[derive(Parser)]
        enum All {
            Demo(DemoArgs),
            Init(InitArgs),
            Check(CheckArgs),
            Setup(SetupArgs),
            Teardown(TeardownArgs),
            Run(RunArgs),
            Status(StatusArgs),
            Health(HealthArgs),
            Wait(WaitArgs),
            Pause(PauseArgs),
            Throttle(ThrottleArgs),
            Resume(ResumeArgs),
            Tail(TailArgs),
            Verify(VerifyArgs),
            Quarantine(QuarantineArgs),
            Skip(SkipArgs),
        }
        All::command().debug_assert();
        let parse = |line: &str| All::try_parse_from(std::iter::once("pontoon").chain(line.split(' ')));
        assert!(matches!(parse("demo").unwrap(), All::Demo(DemoArgs { writes: 2000, keep: false, .. })));
        let All::Demo(demo) = parse("demo --pair mysql:postgres").unwrap() else { panic!() };
        assert_eq!(demo.pair, DemoPair([DemoServer::Mysql, DemoServer::Postgres]));
        let All::Wait(wait) = parse("wait --timeout 2h").unwrap() else { panic!() };
        assert_eq!(wait.timeout, Duration::from_secs(7200));
        let All::Wait(wait) = parse("wait").unwrap() else { panic!() };
        assert_eq!(wait.timeout, Duration::from_secs(60));
        let All::Tail(tail) = parse("tail shop --from 0/16B3748 --limit 3 --format json").unwrap() else { panic!() };
        assert_eq!((tail.from, tail.limit), (Some(pontoon_core::Position::Lsn(0x16B_3748)), Some(3)));
        let All::Tail(tail) = parse("tail shop --format debezium").unwrap() else { panic!() };
        assert!(matches!(tail.format, TailFormat::Debezium) && tail.limit.is_none());
        let All::Verify(verify) = parse("verify --table a --table b --json").unwrap() else { panic!() };
        assert_eq!(verify.tables, ["a", "b"]);
        let All::Skip(skip) = parse("skip stock binlog.000003:1234 --execute").unwrap() else { panic!() };
        assert!(skip.execute && skip.position.to_string() == "binlog.000003:1234");
        let All::Quarantine(quarantine) = parse("quarantine discard 3 4 --execute").unwrap() else { panic!() };
        let QuarantineCommand::Discard { ids, execute } = quarantine.command else { panic!() };
        let All::Quarantine(chosen) = parse("quarantine retry 3 --take shop").unwrap() else { panic!() };
        assert!(matches!(chosen.command, QuarantineCommand::Retry { take: Some(node), .. } if node == "shop"));
        let All::Quarantine(apart) = parse("quarantine retry 3 --key -7").unwrap() else { panic!() };
        assert!(matches!(apart.command, QuarantineCommand::Retry { key: Some(key), take: None, .. } if key == "-7"));
        assert_eq!((ids, execute), (vec![3, 4], true));
        assert!(matches!(parse("check --json").unwrap(), All::Check(CheckArgs { json: true })));
        assert!(matches!(
            parse("setup --create-tables --print-sql").unwrap(),
            All::Setup(SetupArgs { create_tables: true, print_sql: true, .. })
        ));
        let All::Setup(setup) = parse("setup --at stock=binlog.000003:1234 --at shop=0/16B3748").unwrap() else {
            panic!()
        };
        let places: Vec<_> = setup.at.iter().map(|(node, position)| format!("{node} {position}")).collect();
        assert_eq!(places, ["stock binlog.000003:1234", "shop 0/16B3748"]);
        let All::Init(init) = parse("init shop=postgresql://a@b/c stock=mysql://d@e/f --table x --table y").unwrap()
        else {
            panic!()
        };
        assert_eq!((init.nodes.len(), init.tables.len(), init.bridge), (2, 2, None));
        assert!(matches!(parse("run --until-caught-up").unwrap(), All::Run(RunArgs { until_caught_up: true, .. })));
        assert!(matches!(parse("status --watch").unwrap(), All::Status(StatusArgs { watch: true, .. })));
        let All::Health(health) = parse("health").unwrap() else { panic!() };
        assert_eq!((health.ready, health.timeout), (false, Duration::from_secs(2)));
        assert!(matches!(parse("health --ready").unwrap(), All::Health(HealthArgs { ready: true, .. })));
        assert!(matches!(parse("teardown --execute").unwrap(), All::Teardown(TeardownArgs { execute: true, .. })));
        let All::Throttle(throttle) = parse("throttle shop->stock --rows-per-second 500").unwrap() else { panic!() };
        assert_eq!((throttle.direction.as_deref(), throttle.rows_per_second), (Some("shop->stock"), Some(500)));
        assert!(matches!(parse("throttle --off").unwrap(), All::Throttle(ThrottleArgs { off: true, .. })));
        for bad in [
            "throttle",
            "throttle shop->stock",
            "throttle --rows-per-second 0",
            "throttle --rows-per-second 5 --off",
            "throttle --off --default",
            "demo --pair postgres",
            "demo --pair postgres:oracle",
            "demo --writes 0",
            "wait --timeout 60",
            "tail",
            "tail shop --from x",
            "skip shop",
            "quarantine",
            "quarantine retry",
            "quarantine show x",
            "teardown --print-sql --execute",
            "tail shop --format avro",
            "init a=x b=y c=z",
            "setup --at stock",
            "setup --at stock=now",
            "setup --at stock=binlog.000003:1234 --print-sql",
            "setup --at stock=binlog.000003:1234 --create-tables",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in ["pontoon --config x.toml --log warn explain", "pontoon explain --config x.toml --log warn"] {
            let arguments = arguments_from(line.split(' ')).unwrap();
            assert_eq!(arguments.log(), "warn".parse().unwrap());
            assert_eq!(arguments.global.config.unwrap(), PathBuf::from("x.toml"));
            assert_eq!(arguments.global.log_format, logging::Format::Text);
        }
        for (line, level) in [("pontoon run", "info"), ("pontoon demo", "warn"), ("pontoon demo --log info", "info")] {
            assert_eq!(arguments_from(line.split(' ')).unwrap().log(), level.parse().unwrap(), "{line}");
        }
        for line in ["pontoon", "pontoon --log loud explain", "pontoon fly", "pontoon --log-format xml explain"] {
            assert_eq!(arguments_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
        }
        assert_eq!(arguments_from(["pontoon", "--version"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn the_last_lines_are_two() {
        let error = Error::new(Code::LogLost, "shop: the slot is gone\nDETAIL: \u{1b}[31mred").hint("run setup");
        assert_eq!(
            last_lines(&error),
            "error: shop: the slot is gone; DETAIL: \\u{1b}[31mred [log-lost]\nhint: run setup\n"
        );
        let bare = Error::new(Code::ConnectionLost, "shop: the connection broke");
        assert!(last_lines(&bare).ends_with("[connection-lost]\nhint: pontoon explain connection-lost\n"));
    }
}
