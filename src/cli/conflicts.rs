//! `pontoon conflicts`: what was settled, for whom and why.
//!
//! A record is committed on node A before it is on B, so A has them all, and only A is asked.

use std::sync::Arc;

use pontoon_core::{
    Result, calendar,
    history::{Count, Filter, Record},
    new_key::{Answer, Of, Request},
    node::Admin,
};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{
    ConflictsArgs, ConflictsCommand, ConflictsListArgs, Context, DONE, NO, new_key, stored_json,
    terminal::{Style, Table},
};
use crate::{
    config::Config,
    human::{self, printable, printable_or},
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

/// The version of the documents' form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

/// Rows that were decided as one are few: those that a row moved through, by its key.
const GROUP_MAX: usize = 1_000;

pub(crate) async fn run(arguments: ConflictsArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let Nodes { nodes, admins } = nodes::open(&config)?;
    setup::connect(&nodes).await?;
    let history = History::new(&config, admins[Side::A].clone());
    match arguments.command {
        ConflictsCommand::List(arguments) => history.list(context, arguments).await,
        ConflictsCommand::Show { id, json } => history.show(context, id, json).await,
        ConflictsCommand::Stats { json } => history.stats(context, json).await,
    }
}

struct History {
    names: Pair<String>,
    admin: Arc<dyn Admin>,
}

impl History {
    fn new(config: &Config, admin: Arc<dyn Admin>) -> History {
        History { names: Pair::from_fn(|side| config.node(side).name.clone()), admin }
    }

    async fn records(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>> {
        self.admin.records(filter, limit).await.map_err(|error| error.at(&self.names[Side::A]))
    }

    async fn list(&self, context: &Context, arguments: ConflictsListArgs) -> Result<u8> {
        let filter = Filter {
            table: arguments.table,
            key: arguments.key.as_deref().map(key_text),
            rule: arguments.rule,
            since: arguments.since.map(|moment| moment.0),
            until: arguments.until.map(|moment| moment.0),
            ..Filter::default()
        };
        let limit = arguments.limit as usize;
        let mut records = self.records(&filter, limit + 1).await?;
        let more = records.len() > limit;
        records.truncate(limit);
        if arguments.json {
            context.out.line(&super::json(&self.document(&records, more))?)?;
            return Ok(DONE);
        }
        if records.is_empty() {
            let any = if filter == Filter::default() { "" } else { " of these" };
            context.out.line(&format!("no conflict{any} is on record"))?;
            return Ok(DONE);
        }
        context.out.print(&context.out.table(&self.table(&records)))?;
        if more {
            eprintln!("there are more; --limit shows more of them");
        }
        Ok(DONE)
    }

    fn table(&self, records: &[Record]) -> Table {
        let [a, b] = Side::BOTH.map(|side| format!("{} held", self.names[side]));
        let mut table = Table::new(["id", "settled", "table", "key", "rule", &a, &b, "both hold"]).right([0]);
        for record in records {
            table.row([
                record.id.to_string(),
                calendar::format_instant(record.settled_at),
                printable(&record.table),
                printable(&record.key),
                printable(&record.rule),
                row(&record.own_row),
                row(&record.other_row),
                row(&record.verdict),
            ]);
        }
        table
    }

    async fn show(&self, context: &Context, id: i64, json: bool) -> Result<u8> {
        let Some(record) = self.records(&Filter { id: Some(id), ..Filter::default() }, 1).await?.pop() else {
            eprintln!("there is no record {id} on {}; it may be older than what is kept", self.names[Side::A]);
            return Ok(NO);
        };
        let group = Filter { group: Some(record.group), ..Filter::default() };
        let mut others = self.records(&group, GROUP_MAX).await?;
        others.retain(|other| other.id != id);
        if json {
            others.insert(0, record);
            context.out.line(&super::json(&self.document(&others, false))?)?;
            return Ok(DONE);
        }
        let out = &context.out;
        out.line(&out.paint(Style::Strong, &format!("conflict {id}")))?;
        let request = self.admin.new_key(Of::Record(id)).await.map_err(|error| error.at(&self.names[Side::A]))?;
        for (what, line) in self.lines(&record).into_iter().chain(self.new_key(&record, request)) {
            out.line(&format!("{what:<16} {line}"))?;
        }
        if !others.is_empty() {
            out.line("\ndecided with it, since a row moved from key to key:")?;
            out.print(&out.table(&self.table(&others)))?;
        }
        Ok(DONE)
    }

    fn lines(&self, record: &Record) -> Vec<(String, String)> {
        let line = |what: &str, line: String| (what.to_owned(), line);
        let [a, b] = Side::BOTH.map(|side| &self.names[side]);
        let fence = |name: &str, fence: &Option<String>| line(&format!("log of {name}"), printable_or(fence, "none"));
        let made = if record.commit_time == 0 { "none".into() } else { calendar::format_instant(record.commit_time) };
        let held = if record.in_force { "yes: a log is yet to be applied beyond it" } else { "no: it is history" };
        vec![
            line("table", printable(&record.table)),
            line("key", printable(&record.key)),
            line("rule", printable(&record.rule)),
            line("written on", row(&record.ancestor)),
            line(&format!("{a} held"), row(&record.own_row)),
            line(&format!("{b} held"), row(&record.other_row)),
            line("both hold", row(&record.verdict)),
            line("columns from", printable_or(&record.taken, "one side")),
            line("latest write", made),
            fence(a, &record.own_fence),
            fence(b, &record.other_fence),
            line("settled", calendar::format_instant(record.settled_at)),
            line("in force", held.into()),
        ]
    }

    /// What became of the row that lost, where it is to have a key of its own; or that it can have one, where two rows came
    /// to stand under one.
    fn new_key(&self, record: &Record, request: Option<Request>) -> Option<(String, String)> {
        let (what, line) = match request {
            Some(Request { key, answer, .. }) => {
                let key = printable(&key);
                let line = match answer {
                    None => format!("{key} is asked for the row that lost"),
                    Some(Answer::Given) => format!("{key} was given to the row that lost"),
                    Some(Answer::Refused(why)) => {
                        format!("{key} was not given to the row that lost: {}", printable(&why))
                    }
                };
                ("new key", line)
            }
            None if new_key::settled(record).is_collision(record.ancestor.as_ref()) => {
                let id = record.id;
                ("remedy", format!("quarantine retry {id} --key NEW gives the row that lost a key of its own"))
            }
            None => return None,
        };
        Some((what.to_owned(), line))
    }

    async fn stats(&self, context: &Context, json: bool) -> Result<u8> {
        let counts = self.admin.record_counts().await.map_err(|error| error.at(&self.names[Side::A]))?;
        if json {
            let counts = counts.iter().map(counted).collect();
            context.out.line(&super::json(&Stats { schema_version: SCHEMA_VERSION, conflicts: counts })?)?;
            return Ok(DONE);
        }
        if counts.is_empty() {
            context.out.line("no conflict is on record")?;
            return Ok(DONE);
        }
        let mut table = Table::new(["table", "rule", "conflicts", "first", "last"]).right([2]);
        for count in &counts {
            let [first, last] = [count.between.0, count.between.1].map(calendar::format_instant);
            table.row([printable(&count.table), printable(&count.rule), human::count(count.records), first, last]);
        }
        context.out.print(&context.out.table(&table))?;
        Ok(DONE)
    }

    fn document<'a>(&'a self, records: &'a [Record], more: bool) -> Document<'a> {
        let conflicts = records.iter().map(|record| self.shown(record)).collect();
        Document { schema_version: SCHEMA_VERSION, conflicts, more }
    }

    fn shown<'a>(&'a self, record: &'a Record) -> Shown<'a> {
        let by_node = |own: Json, other: Json| {
            let [a, b] = Side::BOTH.map(|side| &self.names[side]);
            Map::from_iter([(a.clone(), own), (b.clone(), other)])
        };
        Shown {
            id: record.id,
            group: record.group,
            table: &record.table,
            key: stored_json(Some(&record.key)),
            rule: &record.rule,
            rows: by_node(stored_json(record.own_row.as_deref()), stored_json(record.other_row.as_deref())),
            ancestor: stored_json(record.ancestor.as_deref()),
            verdict: stored_json(record.verdict.as_deref()),
            taken: stored_json(record.taken.as_deref()),
            commit_time: (record.commit_time != 0).then(|| calendar::format_instant(record.commit_time)),
            fences: by_node(json!(record.own_fence), json!(record.other_fence)),
            in_force: record.in_force,
            settled: calendar::format_instant(record.settled_at),
        }
    }
}

/// A key as the records write it: what is given is one value, or an array of those of several columns.
fn key_text(given: &str) -> String {
    match serde_json::from_str(given) {
        Ok(Json::Array(values)) => Json::Array(values).to_string(),
        Ok(value @ (Json::Number(_) | Json::String(_))) => Json::Array(vec![value]).to_string(),
        _ => json!([given]).to_string(),
    }
}

fn row(text: &Option<String>) -> String {
    printable_or(text, "no row")
}

fn counted(count: &Count) -> Counted<'_> {
    let [first, last] = [count.between.0, count.between.1].map(calendar::format_instant);
    Counted { table: &count.table, rule: &count.rule, conflicts: count.records, first, last }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    conflicts: Vec<Shown<'a>>,
    /// There are more than these.
    more: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: i64,
    group: i64,
    table: &'a str,
    key: Json,
    rule: &'a str,
    rows: Map<String, Json>,
    ancestor: Json,
    verdict: Json,
    taken: Json,
    commit_time: Option<String>,
    fences: Map<String, Json>,
    in_force: bool,
    settled: String,
}

#[derive(Serialize)]
struct Stats<'a> {
    schema_version: u32,
    conflicts: Vec<Counted<'a>>,
}

#[derive(Serialize)]
struct Counted<'a> {
    table: &'a str,
    rule: &'a str,
    conflicts: u64,
    first: String,
    last: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_the_records_write() {
        assert_eq!(key_text("7"), "[7]");
        assert_eq!(key_text("Zürich"), "[\"Zürich\"]");
        assert_eq!(key_text("\"7\""), "[\"7\"]");
        assert_eq!(key_text("[1, \"a\"]"), "[1,\"a\"]");
        assert_eq!(key_text("true"), "[\"true\"]");
    }
}
