//! `pontoon verify`: do both sides hold the same rows?

use pontoon_core::{MappedTable, Result};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{
    Context, DONE, NO, VerifyArgs, chosen,
    terminal::{Style, Table},
};
use crate::{
    config::Config,
    human, mapping, nodes, setup,
    side::Side,
    verify::{Compared, Comparison, Difference, Kind},
};

/// The version of the document's form.
const SCHEMA_VERSION: u32 = 1;

/// Differences of a table that are printed for people; `--json` has more of them.
pub(super) const SHOWN_MAX: usize = 20;

#[derive(Serialize)]
struct Document {
    schema_version: u32,
    equal: bool,
    rows_different: u64,
    tables: Vec<TableDocument>,
}

#[derive(Serialize)]
struct TableDocument {
    table: String,
    rows: Map<String, Json>,
    rows_different: u64,
    differences: Vec<DifferenceDocument>,
}

#[derive(Serialize)]
struct DifferenceDocument {
    key: Map<String, Json>,
    kind: String,
    columns: Vec<String>,
}

pub(crate) async fn run(arguments: VerifyArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?.nodes;
    setup::connect(&nodes).await?;
    let mapping = mapping::map(&config, &nodes).await?.require()?;
    let tables = chosen(&mapping.tables[Side::A], &arguments.tables)?;
    let mut comparison = Comparison::open(&nodes, &mapping.tables).await?;
    let mut document = Document { schema_version: SCHEMA_VERSION, equal: true, rows_different: 0, tables: Vec::new() };
    for table in tables {
        let compared = comparison.table(table).await?;
        document.rows_different += compared.different;
        document.tables.push(describe(&config, table, compared));
    }
    document.equal = document.rows_different == 0;
    if arguments.json {
        context.out.line(&super::json(&document)?)?;
    } else {
        print(&config, &document, context)?;
    }
    Ok(if document.equal { DONE } else { NO })
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

fn describe(config: &Config, table: &MappedTable, compared: Compared) -> TableDocument {
    let names = Side::BOTH.map(|side| config.node(side).name.clone());
    let document = |difference: &Difference| DifferenceDocument {
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
        rows: Side::BOTH.map(|side| (names[side as usize].clone(), compared.rows[side].into())).into_iter().collect(),
        rows_different: compared.different,
        differences: compared.differences.iter().map(document).collect(),
    }
}

fn print(config: &Config, document: &Document, context: &Context) -> Result<()> {
    let names = Side::BOTH.map(|side| &config.node(side).name);
    let rows_of = |name: &str| format!("rows on {name}");
    let mut table = Table::new(["table", &rows_of(names[0]), &rows_of(names[1]), "different"]).right([1, 2, 3]);
    for entry in &document.tables {
        let rows = names.map(|name| entry.rows.get(name).and_then(Json::as_u64).unwrap_or_default());
        let [a, b] = rows.map(human::count);
        let style = if entry.rows_different == 0 { Style::Good } else { Style::Bad };
        table.row([&entry.table, &a, &b, &human::count(entry.rows_different)]).style(3, style);
    }
    context.out.print(&context.out.table(&table))?;
    for entry in &document.tables {
        for difference in entry.differences.iter().take(SHOWN_MAX) {
            let key = super::json_line(&difference.key)?;
            let columns = match difference.columns.is_empty() {
                true => String::new(),
                false => format!(" in {}", difference.columns.join(", ")),
            };
            context.out.line(&format!("{} {key}: {}{columns}", entry.table, difference.kind))?;
        }
    }
    context.out.line(if document.equal { "equal: yes" } else { "equal: no" })
}
