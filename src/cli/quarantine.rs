//! `pontoon quarantine`: what could not be applied, and what becomes of it ([`crate::operate::quarantine`]).

use std::collections::BTreeMap;

use pontoon_core::{Code, Result, calendar, quarantine::SETTLEMENT};
use serde::Serialize;
use serde_json::Value as Json;

use super::{
    Context, DONE, NO, QuarantineArgs, QuarantineCommand,
    new_key::Command,
    stored_json,
    terminal::{Style, Table},
};
use crate::{
    human::{printable, printable_or},
    nodes,
    operate::quarantine::{ENTRIES_MAX, Found, Kept, Named, reason},
    setup,
    side::Side,
};

/// The version of the document's form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

pub(crate) async fn run(arguments: QuarantineArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?;
    setup::connect(&nodes.nodes).await?;
    let found = Found::load(&config, &nodes.admins, ENTRIES_MAX).await?;
    let side = |node: Option<String>| node.map(|node| config.named(&node)).transpose();
    match arguments.command {
        QuarantineCommand::List { json } => found.list(context, json),
        QuarantineCommand::Show { id, json } => found.show(context, id, json),
        QuarantineCommand::Retry { ids, take, key: Some(key) } => {
            let command = Command { config: &config, nodes: &nodes, context, found: &found, key: &key };
            command.run(&ids, side(take)?).await
        }
        QuarantineCommand::Retry { ids, take, key: None } => {
            let take = side(take)?;
            let Some(chosen) = chosen(&found, &ids) else { return Ok(NO) };
            context.out.line(&found.retry(&nodes, &chosen, take).await?)?;
            Ok(DONE)
        }
        QuarantineCommand::Discard { ids, execute } => {
            let Some(chosen) = chosen(&found, &ids) else { return Ok(NO) };
            let all = found.with_ties(&chosen);
            context.out.print(&context.out.table(&found.table(all.iter().copied(), true)))?;
            if execute {
                context.out.line(&found.discard(&nodes, &chosen).await?)?;
            } else {
                eprintln!("nothing is done; --execute {}", found.would_discard(&chosen));
            }
            Ok(DONE)
        }
    }
}

/// `None`, said on standard error, where one is not there.
fn chosen<'a>(found: &'a Found, ids: &[i64]) -> Option<Vec<&'a Kept>> {
    found.chosen(ids).map_err(|why| eprintln!("{why}")).ok()
}

impl Found {
    fn list(&self, context: &Context, json: bool) -> Result<u8> {
        if json {
            context.out.line(&super::json(&self.document(self.kept.iter()))?)?;
            return Ok(DONE);
        }
        let refused: Vec<&Kept> = self.kept.iter().filter(|kept| kept.entry.code.is_some()).collect();
        if refused.is_empty() {
            context.out.line("nothing is in quarantine")?;
            return Ok(DONE);
        }
        context.out.print(&context.out.table(&self.table(refused.into_iter(), false)))?;
        if self.more {
            eprintln!("there are more; only {ENTRIES_MAX} of a node are looked at");
        }
        Ok(DONE)
    }

    fn document<'a>(&'a self, kept: impl Iterator<Item = &'a Kept>) -> Document<'a> {
        let entries = kept.map(|kept| self.shown(kept)).collect();
        Document { schema_version: SCHEMA_VERSION, entries, more: self.more }
    }

    /// Refused entries with what waits behind them, or all that are given.
    fn table<'a>(&self, kept: impl Iterator<Item = &'a Kept>, each: bool) -> Table {
        let mut behind: BTreeMap<Named<'_>, usize> = BTreeMap::new();
        for kept in self.kept.iter().filter(|kept| kept.entry.code.is_none()) {
            *behind.entry(Self::place(kept)).or_default() += 1;
        }
        let (by, last) = if each { ("kept by", "before -> after") } else { ("refused by", "behind it") };
        let mut table =
            Table::new(["id", by, "table", "key", "change", "reason", "since", "attempts", last]).right([0, 7]);
        for kept in kept {
            let Kept { side, entry } = kept;
            let waits = behind.get(&Self::place(kept)).copied().unwrap_or(0);
            let last = if each {
                let row = |row| printable_or(row, "none");
                format!("{} -> {}", row(&entry.before), row(&entry.after))
            } else {
                waits.to_string()
            };
            table.row([
                entry.id.to_string(),
                self.names[*side].clone(),
                printable(&entry.table),
                printable(&entry.key),
                entry.operation.clone(),
                reason(entry),
                calendar::format_instant(entry.since),
                entry.attempts.to_string(),
                last,
            ]);
        }
        table
    }

    fn show(&self, context: &Context, id: i64, json: bool) -> Result<u8> {
        let Some(chosen) = chosen(self, &[id]) else { return Ok(NO) };
        let all = self.with_ties(&chosen);
        let out = &context.out;
        if json {
            out.line(&super::json(&self.document(all.into_iter()))?)?;
            return Ok(DONE);
        }
        let [kept] = &chosen[..] else { return Ok(NO) };
        let entry = &kept.entry;
        let (name, other) = (&self.names[kept.side], &self.names[kept.side.other()]);
        out.line(&out.paint(Style::Strong, &format!("entry {id}, kept by {name}")))?;
        let text = |text| printable_or(text, "none");
        let has_code = |code: Code| entry.code.as_deref() == Some(code.as_str());
        let (is_held, goes_round) = (has_code(Code::ConflictHeld), has_code(Code::LoopSuspected));
        let mut rows = [("before".to_owned(), text(&entry.before)), ("after".to_owned(), text(&entry.after))];
        if (is_held || goes_round) && entry.operation == SETTLEMENT {
            (rows[0].0, rows[1].0) = (format!("on {name}"), format!("on {other}"));
        }
        let lines: [(&str, String); 16] = [
            ("table", printable(&entry.table)),
            ("key", printable(&entry.key)),
            ("change", entry.operation.clone()),
            (&rows[0].0, rows[0].1.clone()),
            (&rows[1].0, rows[1].1.clone()),
            ("reason", entry.message.as_deref().map_or_else(|| reason(entry), printable)),
            ("code", entry.code.clone().unwrap_or_else(|| "none: it waits behind another change of its row".into())),
            ("constraint", text(&entry.constraint)),
            ("in the log of", other.clone()),
            ("position", text(&entry.position)),
            ("transaction", text(&entry.transaction)),
            ("made", if entry.position.is_some() { calendar::format_instant(entry.commit_time) } else { "none".into() }),
            ("since", calendar::format_instant(entry.since)),
            ("attempts", entry.attempts.to_string()),
            ("next attempt", entry.next_attempt.map_or_else(|| "none".to_owned(), calendar::format_instant)),
            ("asked for", self.asked(kept).unwrap_or_else(|| "none".into())),
        ];
        for (what, line) in lines {
            out.line(&format!("{what:<14} {line}"))?;
        }
        if entry.code.is_some() {
            let remedy = if goes_round {
                format!(
                    "stop what rewrites the row; then quarantine retry {id} goes on, and with --take {}, or --take {}, that row stands on both",
                    self.names[Side::A], self.names[Side::B]
                )
            } else if is_held {
                format!(
                    "quarantine retry {id} --take {}, or --take {}: that row stands on both; --key NEW keeps both, that of {other} under another key; it also ends when both have come to the same",
                    self.names[Side::A], self.names[Side::B]
                )
            } else {
                format!(
                    "mend the row on {other} or what is in its way on {name}, and it heals by itself; quarantine retry {id} tries it at once"
                )
            };
            out.line(&format!("{:<14} {remedy}", "remedy"))?;
        }
        let others: Vec<&Kept> = all.into_iter().filter(|other| other.entry.id != id).collect();
        if !others.is_empty() {
            out.line("\nits row and those tied to it have more:")?;
            out.print(&out.table(&self.table(others.into_iter(), true)))?;
        }
        Ok(DONE)
    }

    fn shown<'a>(&'a self, kept: &'a Kept) -> Shown<'a> {
        let Kept { side, entry } = kept;
        Shown {
            id: entry.id,
            node: &self.names[*side],
            source: &self.names[side.other()],
            table: &entry.table,
            key: stored_json(Some(&entry.key)),
            operation: &entry.operation,
            moved_key: stored_json(entry.moved_key.as_deref()),
            before: stored_json(entry.before.as_deref()),
            after: stored_json(entry.after.as_deref()),
            position: entry.position.as_deref(),
            transaction: entry.transaction.as_deref(),
            commit_time: entry.position.is_some().then(|| calendar::format_instant(entry.commit_time)),
            code: entry.code.as_deref(),
            message: entry.message.as_deref(),
            constraint: entry.constraint.as_deref(),
            since: calendar::format_instant(entry.since),
            attempts: entry.attempts,
            next_attempt: entry.next_attempt.map(calendar::format_instant),
            request: self.asked(kept),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    entries: Vec<Shown<'a>>,
    /// There are more than these.
    more: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: i64,
    node: &'a str,
    source: &'a str,
    table: &'a str,
    key: Json,
    operation: &'a str,
    moved_key: Json,
    before: Json,
    after: Json,
    position: Option<&'a str>,
    transaction: Option<&'a str>,
    commit_time: Option<String>,
    code: Option<&'a str>,
    message: Option<&'a str>,
    constraint: Option<&'a str>,
    since: String,
    attempts: i64,
    next_attempt: Option<String>,
    request: Option<String>,
}
