//! `pontoon run --dry-run`: what the bridge would do, counted.

use std::{collections::BTreeMap, sync::Arc};

use pontoon_core::{Error, Result};
use serde::Serialize;

use super::{
    Context, DONE, NO,
    run::told_to_stop,
    terminal::{Style, Table},
};
use crate::{
    config::Config,
    dry_run::{self, Counted, Counts, Direction, Ended},
    human, nodes,
    side::Side,
};

/// The version of the document's form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    bridge: &'a str,
    /// Both logs are counted to where they ended at the start.
    complete: bool,
    /// Rows, each once, also where both directions meet it.
    conflicts: u64,
    directions: Vec<DirectionDocument<'a>>,
}

#[derive(Serialize)]
struct DirectionDocument<'a> {
    source: &'a str,
    target: &'a str,
    from: String,
    to: String,
    transactions: u64,
    complete: bool,
    /// Why it is not.
    stopped: Option<String>,
    tables: Vec<TableDocument<'a>>,
}

#[derive(Serialize)]
struct TableDocument<'a> {
    table: &'a str,
    inserts: u64,
    updates: u64,
    deletes: u64,
    conflicts: &'a BTreeMap<&'static str, u64>,
    quarantined: u64,
}

pub(super) async fn run(config: &Config, json: bool, context: &Context) -> Result<u8> {
    let counted = dry_run::run(config, &nodes::open(config)?, told_to_stop()?).await?;
    if counted.moved {
        eprintln!("not told: something was applied or settled while it was counted; run it again");
        return Ok(NO);
    }
    let document = document(config, &counted);
    if json {
        context.out.line(&super::json(&document)?)?;
    } else {
        print(&document, context)?;
    }
    Ok(if document.complete { DONE } else { NO })
}

fn document<'a>(config: &'a Config, counted: &'a Counted) -> Document<'a> {
    let directions: Vec<_> = counted.directions.iter().map(|direction| of_direction(config, direction)).collect();
    Document {
        schema_version: SCHEMA_VERSION,
        bridge: config.bridge.as_str(),
        complete: directions.iter().all(|direction| direction.complete),
        conflicts: counted.conflicts,
        directions,
    }
}

fn of_direction<'a>(config: &'a Config, direction: &'a Direction) -> DirectionDocument<'a> {
    let name = |side: Side| config.node(side).name.as_str();
    let table = |(label, counts): &'a (Arc<str>, Counts)| {
        let Counts { inserts, updates, deletes, ref conflicts, quarantined } = *counts;
        TableDocument { table: label, inserts, updates, deletes, conflicts, quarantined }
    };
    DirectionDocument {
        source: name(direction.source),
        target: name(direction.source.other()),
        from: direction.from.to_string(),
        to: direction.to.to_string(),
        transactions: direction.transactions,
        complete: direction.ended == Ended::AtEnd,
        stopped: stopped(&direction.ended),
        tables: direction.tables.iter().map(table).collect(),
    }
}

fn stopped(ended: &Ended) -> Option<String> {
    let of = |error: &Error| format!("the next transaction cannot be applied: {} [{}]", error.message(), error.code());
    match ended {
        Ended::AtEnd => None,
        Ended::Told => Some("told to stop".to_owned()),
        Ended::Full => Some("more rows than are counted".to_owned()),
        Ended::Obstacle(error) => Some(of(error)),
    }
}

fn print(document: &Document<'_>, context: &Context) -> Result<()> {
    let mut table = Table::new(["direction", "table", "inserts", "updates", "deletes", "conflicts", "quarantined"])
        .right([2, 3, 4, 5, 6]);
    for direction in &document.directions {
        for counts in &direction.tables {
            let conflicts: u64 = counts.conflicts.values().sum();
            let row = table.row([
                format!("{} -> {}", direction.source, direction.target),
                counts.table.to_owned(),
                human::count(counts.inserts),
                human::count(counts.updates),
                human::count(counts.deletes),
                human::count(conflicts),
                human::count(counts.quarantined),
            ]);
            for (at, count) in [(5, conflicts), (6, counts.quarantined)] {
                row.style(at, if count == 0 { Style::Good } else { Style::Warning });
            }
        }
    }
    context.out.print(&context.out.table(&table))?;
    for direction in &document.directions {
        for counts in direction.tables.iter().filter(|counts| !counts.conflicts.is_empty()) {
            let kinds: Vec<String> = counts.conflicts.iter().map(|(kind, rows)| format!("{rows} {kind}")).collect();
            let (source, target) = (direction.source, direction.target);
            context.out.line(&format!("{source} -> {target} {}: {}", counts.table, kinds.join(", ")))?;
        }
    }
    for direction in &document.directions {
        if let Some(why) = &direction.stopped {
            let (source, target, to) = (direction.source, direction.target, &direction.to);
            context.out.line(&format!("{source} -> {target}: counted up to {to}, and no further: {why}"))?;
        }
    }
    context.out.line(&format!("conflicts: {} rows; nothing was written", human::count(document.conflicts)))
}
