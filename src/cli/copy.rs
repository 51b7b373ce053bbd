//! `pontoon copy`: the first load of tables that hold rows already.
//!
//! The load is asked for durably, on the node that it goes to, and done by whichever process of the bridge holds the
//! lease. This one stands by for it like any other, so that the load is done where no `run` is up, and goes on where
//! one dies.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Code, CopyState, Error, MappedTable, Result, Span, TableId,
    node::{Node, Tables},
};
use tokio::time::{Instant, sleep};

use super::{
    Context, CopyArgs, DONE, NO, chosen, run::beside,
    terminal::{Table, Terminal},
};
use crate::{
    config::Config, human,
    mapping::{self, Mapping},
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

/// How often is looked how far it is: often enough for a bar that moves, and to end soon after the last row.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// In a pipe a line is written for each table so often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Columns of a bar.
const BAR_WIDTH: usize = 24;

pub(crate) async fn run(arguments: CopyArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let source = config.named(&arguments.from)?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let mapping = mapping::map(&config, &nodes.nodes).await?.require()?;
    let tables = from(&config, &mapping, source, &arguments.tables)?;
    let target = nodes.nodes[source.other()].clone();
    let asked = Asked { tables: mapping.tables[source.other()].clone(), ids: tables.iter().map(|t| t.id).collect(), target };
    let before = asked.states().await?;
    let wanted = tables.iter().filter(|table| before.iter().all(|copy| copy.table != table.id || copy.done));
    let mut copies = Vec::new();
    for table in wanted {
        if !arguments.merge {
            asked.require_empty(table).await?;
        }
        let estimated = nodes.nodes[source].estimate(&table.name).await?;
        copies.push(CopyState { table: table.id, after: None, rows: 0, estimated, done: false });
    }
    let requested = nodes.admins[source.other()].request_copies(&asked.tables, &copies).await;
    requested.map_err(|error| error.at(asked.target.name()))?;
    let rows_before = asked.states().await?.iter().map(|copy| copy.rows).sum();
    until_done(&config, &nodes, mapping.reads, &asked, rows_before, context).await
}

/// The chosen tables that go from a side. Errors: one does not.
pub(super) fn from<'a>(
    config: &Config,
    mapping: &'a Mapping,
    source: Side,
    names: &[String],
) -> Result<Vec<&'a MappedTable>> {
    let tables = chosen(&mapping.tables[source], names)?;
    if let Some(table) = tables.iter().find(|table| !table.followed) {
        let message = format!("{}: its direction is not from {}", table.label, config.node(source).name);
        return Err(Error::new(Code::Config, message).hint("see direction in the table's section of the configuration"));
    }
    Ok(tables)
}

/// Works, or stands by, and shows how far it is, until all is done or this process is told to stop.
async fn until_done(
    config: &Config,
    nodes: &Nodes,
    reads: Pair<bool>,
    asked: &Asked,
    rows_before: u64,
    context: &Context,
) -> Result<u8> {
    let started = Instant::now();
    beside(config, nodes, reads, asked.watch(started, rows_before)).await?;
    let states = asked.states().await?;
    let mut table = Table::new(["table", "rows", "state"]).right([1]);
    for copy in &states {
        let state = if copy.done { "copied" } else { "cut off" };
        table.row([asked.label(copy.table), &human::count(copy.rows), state]);
    }
    context.out.print(&context.out.table(&table))?;
    let all = states.iter().all(|copy| copy.done);
    if !all {
        context.out.line("cut off: the same command, or `pontoon run`, goes on where it was")?;
    }
    Ok(if all { DONE } else { NO })
}

/// What was asked for, on the node that it goes to.
struct Asked {
    target: Arc<dyn Node>,
    tables: Tables,
    ids: Vec<TableId>,
}

impl Asked {
    fn label(&self, table: TableId) -> &str {
        self.tables.get(table.index()).map_or("?", |table| &table.label)
    }

    /// How far each of the tables is.
    async fn states(&self) -> Result<Vec<CopyState>> {
        let copies = self.target.copies(&self.tables).await.map_err(|error| error.at(self.target.name()))?;
        Ok(copies.into_iter().filter(|copy| self.ids.contains(&copy.table)).collect())
    }

    async fn require_empty(&self, table: &MappedTable) -> Result<()> {
        let at = |error: Error| error.at(self.target.name());
        let mut scan = self.target.open_scan(&self.tables).await.map_err(at)?;
        if scan.chunk(table.id, Span::default(), 1).await.map_err(at)?.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::TargetNotEmpty, format!("{}: {} holds rows already", self.target.name(), table.label))
            .hint("pontoon copy --merge adds what is missing and lets the table's conflict rule decide what differs"))
    }

    /// Shows how far it is until it is done.
    async fn watch(&self, started: Instant, rows_before: u64) -> Result<()> {
        let mut shown = Shown::new();
        loop {
            match self.states().await {
                Ok(states) => {
                    let rate = rate(&states, rows_before, started);
                    shown.show(&states.iter().map(|copy| self.line(copy, rate, shown.terminal)).collect::<Vec<_>>());
                    if states.iter().all(|copy| copy.done) {
                        return Ok(());
                    }
                }
                // The work reconnects, and says so.
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn line(&self, copy: &CopyState, rate: f64, bar: bool) -> String {
        let label = self.label(copy.table);
        if copy.done {
            return format!("{label}: {} rows, copied", human::count(copy.rows));
        }
        let all = copy.estimated.filter(|&all| all > 0);
        let part = all.map(|all| (copy.rows as f64 / all as f64).min(1.0));
        let bar = match part.filter(|_| bar) {
            Some(part) => format!("{} ", Terminal::plain().bar(part, BAR_WIDTH)),
            None => String::new(),
        };
        let of = all.map_or(String::new(), |all| format!(" of about {}", human::count(all)));
        let left = all.map(|all| all.saturating_sub(copy.rows) as f64 / rate).filter(|left| left.is_finite());
        let left = left.map_or(String::new(), |left| format!(", {} left", human::seconds(left)));
        format!("{label}: {bar}{}{of} rows, {}{left}", human::count(copy.rows), human::rate(rate, "rows"))
    }
}

/// Rows a second since this process has looked.
fn rate(states: &[CopyState], before: u64, started: Instant) -> f64 {
    let rows: u64 = states.iter().map(|copy| copy.rows).sum();
    rows.saturating_sub(before) as f64 / started.elapsed().as_secs_f64().max(0.001)
}

/// What stands on the terminal now; in a pipe, when a line was last written.
struct Shown {
    terminal: bool,
    lines: usize,
    told: Option<Instant>,
    last: Vec<String>,
}

impl Shown {
    fn new() -> Shown {
        Shown { terminal: std::io::stderr().is_terminal(), lines: 0, told: None, last: Vec::new() }
    }

    /// Overwrites what stands there; in a pipe writes what is new, now and then.
    fn show(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.terminal {
            for _ in 0..std::mem::take(&mut self.lines) {
                text.push_str("\x1b[A\x1b[2K");
            }
            self.lines = lines.len();
        } else if self.told.is_some_and(|told| told.elapsed() < LINE_EVERY) || self.last == lines {
            return;
        }
        self.told = Some(Instant::now());
        self.last = lines.to_vec();
        lines.iter().for_each(|line| text.extend([line, "\n"]));
        // Whoever does not read it does not miss it.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
