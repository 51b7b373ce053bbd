//! How fast pontoon is, beside what one would use without it, in one run on one machine: `make bench`.
//!
//! Each workload is done by the peer and by pontoon in turn, several times, on the same private servers, which are set
//! up to be durable. What counts is the ratio within a pair; the machine's speed moves by a third from hour to hour.
//! Every time ends when the rows are durable where they belong, and they are compared before it is believed.

// A measurement that fails is none: the program ends, and says where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod backlog;
mod bridge;
mod capture;
mod copy;
// The tests' own SQL client. What it can do beside is for them.
#[allow(dead_code)]
#[path = "../../tests/e2e/support/database.rs"]
mod database;
mod live;
mod measure;
mod peers;
mod report;
mod servers;
mod stream;
mod table;
mod tables;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Rows that are copied in full; a tenth of it with `--quick`.
const COPY_ROWS: u64 = 2_000_000;

/// Measures pontoon beside its peers.
#[derive(Parser)]
struct Arguments {
    /// Only workloads whose name contains one of these.
    only: Vec<String>,
    /// A tenth of the rows, and two runs of each.
    #[arg(long)]
    quick: bool,
    /// How often each is run.
    #[arg(long)]
    runs: Option<usize>,
    /// Rows to copy.
    #[arg(long)]
    rows: Option<u64>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Read the log of the first node of this configuration, and say how long it takes: what this program has itself do.
    #[arg(long, hide = true)]
    read: Option<PathBuf>,
    /// Cargo says this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What every workload is run with.
pub(crate) struct Plan {
    pub(crate) runs: usize,
    pub(crate) copy_rows: u64,
    /// Of each workload this part.
    pub(crate) part: u64,
    only: Vec<String>,
}

impl Plan {
    /// Whether a workload was asked for.
    pub(crate) fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| workload.contains(part.as_str()))
    }
}

/// As in the program: this one reads logs for it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(config) = arguments.read {
        capture::read_log(&config).await;
        return ExitCode::SUCCESS;
    }
    let part = if arguments.quick { 10 } else { 1 };
    let plan = Plan {
        runs: arguments.runs.unwrap_or(if arguments.quick { 2 } else { 3 }).max(1),
        copy_rows: arguments.rows.unwrap_or(COPY_ROWS / part),
        part,
        only: arguments.only,
    };
    let mut contests = copy::measure(&plan).await;
    contests.extend(capture::measure(&plan).await);
    contests.extend(stream::measure(&plan).await);
    let (many, mut figures) = tables::measure(&plan).await;
    contests.extend(many);
    figures.extend(live::measure(&plan).await);
    if contests.is_empty() && figures.is_empty() {
        eprintln!("no workload has such a name");
        return ExitCode::from(2);
    }
    print!("{}", if arguments.json { report::json(&contests, &figures) } else { report::tables(&contests, &figures) });
    ExitCode::SUCCESS
}
