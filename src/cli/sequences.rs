//! `pontoon sequences`: shows where the generators of keys stand, and moves them past the keys that are there.

use pontoon_core::{
    MappedTable, Result,
    node::Tables,
    sequences::{GeneratedKey, Standing},
};
use serde_json::json;

use super::{Context, DONE, NO, SequencesArgs, chosen};
use crate::{
    mapping,
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

pub(crate) async fn run(arguments: SequencesArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let only = arguments.node.as_deref().map(|name| config.named(name)).transpose()?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let tables = mapping::map(&config, &nodes.nodes).await?.require()?.tables;
    let mut found = Vec::new();
    for side in Side::BOTH.into_iter().filter(|side| only.is_none_or(|only| only == *side)) {
        let chosen = chosen(&tables[side], &arguments.tables)?;
        found.extend(of(&nodes, &tables, side, &chosen, arguments.execute).await?);
    }
    if arguments.json {
        let sequences: Vec<_> = found.iter().map(Found::json).collect();
        context.out.line(&super::json(&json!({ "schema_version": 1, "sequences": sequences }))?)?;
    } else {
        for one in &found {
            context.out.line(&one.text())?;
        }
        if found.is_empty() {
            context.out.line("no table has a key that its server generates")?;
        }
    }
    let behind = found.iter().any(Found::is_behind);
    if behind && !arguments.execute {
        eprintln!("nothing is done; --execute moves them");
    }
    Ok(if behind { NO } else { DONE })
}

/// The generators of some tables' keys on a side, those that are behind moved where that is to be done.
pub(super) async fn of<'a>(
    nodes: &'a Nodes,
    tables: &Pair<Tables>,
    side: Side,
    chosen: &[&MappedTable],
    execute: bool,
) -> Result<Vec<Found<'a>>> {
    let mut found = Vec::new();
    for table in chosen {
        for asked in generators(tables, side, table) {
            let (before, now) = look(nodes, side, &asked, execute).await?;
            found.push(Found { node: nodes.nodes[side].name(), label: table.label.to_string(), asked, before, now });
        }
    }
    Ok(found)
}

/// Where a generator stood, and where it stands now.
async fn look(nodes: &Nodes, side: Side, asked: &GeneratedKey, execute: bool) -> Result<(Standing, Standing)> {
    let at = |error: pontoon_core::Error| error.at(format_args!("{}: {}", nodes.nodes[side].name(), asked.table));
    let before = nodes.admins[side].sequence(asked).await.map_err(at)?;
    let now = match execute && before.sql.is_some() {
        true => nodes.admins[side].advance_sequence(asked).await.map_err(at)?,
        false => before.clone(),
    };
    Ok((before, now))
}

/// The generators of a table's key on one side.
fn generators(tables: &Pair<Tables>, side: Side, table: &MappedTable) -> Vec<GeneratedKey> {
    let theirs = |at: usize| tables[side.other()].get(table.id.index())?.columns.get(at)?.column.generator;
    let of_key = table.key.iter().filter_map(|&at| Some((at, table.columns.get(at)?)));
    let asked = of_key.filter_map(|(at, column)| {
        let generator = column.column.generator?;
        let interleaved = theirs(at).is_some_and(|theirs| generator.is_interleaved(&theirs));
        Some(GeneratedKey { table: table.name.clone(), column: column.column.name.clone(), generator, interleaved })
    });
    asked.collect()
}

/// A generator.
pub(super) struct Found<'a> {
    node: &'a str,
    label: String,
    asked: GeneratedKey,
    before: Standing,
    now: Standing,
}

impl Found<'_> {
    /// It gives keys that are there.
    pub(super) fn is_behind(&self) -> bool {
        self.now.sql.is_some()
    }

    /// It has been moved.
    pub(super) fn is_moved(&self) -> bool {
        self.before.next != self.now.next
    }

    pub(super) fn text(&self) -> String {
        let Found { node, label, asked, before, now } = self;
        let greatest = before.greatest.map_or("no row".to_owned(), |greatest| format!("greatest key {greatest}"));
        let what = match (&before.sql, &now.sql) {
            (None, _) => format!("gives {} next", before.next),
            (Some(_), None) => format!("moved: gave {} next, gives {} now", before.next, now.next),
            (Some(_), Some(sql)) => format!("gives {} next: {sql}", now.next),
        };
        format!("{node}: {label}.{}: {greatest}; {what}", asked.column)
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "node": self.node,
            "table": self.label,
            "column": self.asked.column,
            "interleaved": self.asked.interleaved,
            "greatest": self.before.greatest.map(|greatest| greatest.to_string()),
            "next": self.now.next.to_string(),
            "moved": self.is_moved(),
            "sql": self.now.sql,
        })
    }
}
