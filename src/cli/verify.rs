//! `pontoon verify`: do both sides hold the same rows?

use std::{collections::HashSet, sync::Arc};

use pontoon_core::{Code, MappedTable, Result, node::Admin, record::key_to_text, verified::Verified};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{
    Context, DONE, NO, VerifyArgs, chosen,
    terminal::{Style, Table},
};
use crate::{
    config::Config,
    human, mapping, nodes,
    observe::now_micros,
    operate::quarantine::ENTRIES_MAX,
    setup,
    side::{Pair, Side},
    verify::{Compared, Comparison, Difference, Kind, Limits, Way},
};

/// The version of the document's form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

/// Differences of a table that are printed for people; `--json` has more of them.
pub(super) const SHOWN_MAX: usize = 20;

#[derive(Serialize)]
struct Document {
    schema_version: u32,
    equal: bool,
    rows_different: u64,
    /// What differed was looked at again when both directions had passed all that was on its way; or nothing did.
    fenced: bool,
    tables: Vec<TableDocument>,
}

#[derive(Serialize)]
struct TableDocument {
    table: String,
    compared: &'static str,
    rows: Map<String, Json>,
    rows_different: u64,
    rows_only_on: Map<String, Json>,
    rows_still_written: u64,
    differences: Vec<DifferenceDocument>,
}

#[derive(Serialize)]
struct DifferenceDocument {
    key: Map<String, Json>,
    kind: String,
    columns: Vec<String>,
    in_quarantine: bool,
}

/// Keys that wait in quarantine on a node: of which table, and the key as the entry has it.
type Quarantined = HashSet<(String, String)>;

pub(crate) async fn run(arguments: VerifyArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let opened = nodes::open(&config)?;
    let nodes = &opened.nodes;
    setup::connect(nodes).await?;
    let mapping = mapping::map(&config, nodes).await?.require()?;
    let tables = chosen(&mapping.tables[Side::A], &arguments.tables)?;
    let limits = Limits { timeout: arguments.timeout, rows_per_second: config.limits.verify_rows_per_second };
    let mut comparison = Comparison::open(nodes, &mapping, limits).await?;
    let mut found = Verified::default();
    let mut document =
        Document { schema_version: SCHEMA_VERSION, equal: true, rows_different: 0, fenced: true, tables: Vec::new() };
    for table in tables {
        let Some(compared) = comparison.table(table.id).await? else {
            eprintln!(
                "not told: rows of {} differ, and what was on its way had not crossed within {:?}; pontoon status tells \
                 where both directions stand, and --timeout waits longer",
                table.label, arguments.timeout
            );
            return Ok(NO);
        };
        document.fenced &= !compared.unfenced;
        document.rows_different += compared.different;
        found.only_a += compared.only[Side::A];
        found.only_b += compared.only[Side::B];
        found.different += compared.different.saturating_sub(compared.only[Side::A] + compared.only[Side::B]);
        let quarantined = match compared.different {
            0 => Quarantined::new(),
            _ => quarantined(&opened.admins).await?,
        };
        document.tables.push(describe(&config, table, compared, &quarantined));
    }
    document.equal = document.rows_different == 0;
    // What may only be on its way is told, and not kept.
    if arguments.tables.is_empty() && document.fenced {
        note(&opened.admins, found, document.equal).await;
    }
    if !document.fenced {
        eprintln!("the bridge does not run: what is on its way counts as different");
    }
    for table in document.tables.iter().filter(|table| table.rows_still_written > 0) {
        let (label, rows) = (&table.table, human::count(table.rows_still_written));
        eprintln!("{label}: {rows} rows were written all the while; whether they differ cannot be told");
    }
    if arguments.json {
        context.out.line(&super::json(&document)?)?;
    } else {
        print(&config, &document, context)?;
    }
    Ok(if document.equal { DONE } else { NO })
}

/// Notes what a comparison of all tables came to, for the running bridge to show. It stands where that cannot be done.
async fn note(admins: &Pair<Arc<dyn Admin>>, found: Verified, equal: bool) {
    let found = Verified { equal_at: equal.then(now_micros), ..found };
    match admins[Side::A].note_verified(&found).await {
        // Where nothing is set up nobody shows it.
        Err(error) if error.code() != Code::NotSetUp => tracing::warn!(%error, "what the comparison came to is not noted"),
        _ => {}
    }
}

async fn quarantined(admins: &Pair<Arc<dyn Admin>>) -> Result<Quarantined> {
    let mut keys = Quarantined::new();
    for admin in admins.iter() {
        match admin.quarantine(ENTRIES_MAX).await {
            Ok(entries) => keys.extend(entries.into_iter().map(|entry| (entry.table, entry.key))),
            // Where nothing is set up nothing waits.
            Err(error) if error.code() == Code::NotSetUp => {}
            Err(error) => return Err(error),
        }
    }
    Ok(keys)
}

/// The key's columns and their values.
pub(super) fn key(table: &MappedTable, difference: &Difference) -> Map<String, Json> {
    let names = table.key.iter().map(|&at| table.columns[at].column.name.to_string());
    names.zip(difference.key.0.iter().map(pontoon_core::Value::to_json)).collect()
}

/// The names of the columns that differ.
pub(super) fn columns(table: &MappedTable, difference: &Difference) -> Vec<String> {
    difference.columns.iter().map(|&at| table.columns[at].column.name.to_string()).collect()
}

fn describe(config: &Config, table: &MappedTable, compared: Compared, quarantined: &Quarantined) -> TableDocument {
    let names = Side::BOTH.map(|side| config.node(side).name.clone());
    let by_node = |of: Pair<u64>| -> Map<String, Json> {
        Side::BOTH.map(|side| (names[side as usize].clone(), of[side].into())).into_iter().collect()
    };
    let document = |difference: &Difference| DifferenceDocument {
        in_quarantine: quarantined.contains(&(table.label.to_string(), key_to_text(&difference.key))),
        key: key(table, difference),
        kind: match difference.kind {
            Kind::OnlyA => format!("only on {}", names[0]),
            Kind::OnlyB => format!("only on {}", names[1]),
            Kind::Different => "different".into(),
        },
        columns: columns(table, difference),
    };
    TableDocument {
        table: table.label.to_string(),
        compared: match compared.way {
            Way::Databases => "in the databases",
            Way::Bridge => "in the bridge",
            Way::Keys => "key by key",
        },
        rows: by_node(compared.rows),
        rows_different: compared.different,
        rows_only_on: by_node(compared.only),
        rows_still_written: compared.still_written,
        differences: compared.differences.iter().map(document).collect(),
    }
}

fn print(config: &Config, document: &Document, context: &Context) -> Result<()> {
    let names = Side::BOTH.map(|side| &config.node(side).name);
    let head = [
        "table".to_owned(),
        format!("rows on {}", names[0]),
        format!("rows on {}", names[1]),
        "different".into(),
        format!("only on {}", names[0]),
        format!("only on {}", names[1]),
    ];
    let mut table = Table::new(head.each_ref().map(String::as_str)).right([1, 2, 3, 4, 5]);
    for entry in &document.tables {
        let of = |numbers: &Map<String, Json>| {
            names.map(|name| numbers.get(name).and_then(Json::as_u64).unwrap_or_default())
        };
        let (rows, only) = (of(&entry.rows), of(&entry.rows_only_on));
        let different = entry.rows_different.saturating_sub(only[0] + only[1]);
        let mut row = table.row([
            entry.table.clone(),
            human::count(rows[0]),
            human::count(rows[1]),
            human::count(different),
            human::count(only[0]),
            human::count(only[1]),
        ]);
        for (at, count) in [(3, different), (4, only[0]), (5, only[1])] {
            row = row.style(at, if count == 0 { Style::Good } else { Style::Bad });
        }
    }
    context.out.print(&context.out.table(&table))?;
    for entry in &document.tables {
        for difference in entry.differences.iter().take(SHOWN_MAX) {
            let key = super::json_line(&difference.key)?;
            let columns = match difference.columns.is_empty() {
                true => String::new(),
                false => format!(" in {}", difference.columns.join(", ")),
            };
            let quarantine = if difference.in_quarantine { ", in quarantine" } else { "" };
            context.out.line(&format!("{} {key}: {}{columns}{quarantine}", entry.table, difference.kind))?;
        }
        let more = entry.rows_different.saturating_sub(SHOWN_MAX as u64);
        if more > 0 {
            context.out.line(&format!("{}: and {} more", entry.table, human::count(more)))?;
        }
    }
    context.out.line(if document.equal { "equal: yes" } else { "equal: no" })
}
