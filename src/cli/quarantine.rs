//! `pontoon quarantine`: what could not be applied, and what becomes of it.
//!
//! Each node keeps what it refused of the other one's changes, and what waits behind that. Requests are marks on these
//! entries: a running bridge looks for them every second, one that does not run does when it starts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pontoon_core::{
    Code, Result, calendar,
    node::Admin,
    quarantine::{Ask, Entry, SETTLEMENT},
};
use serde::Serialize;
use serde_json::Value as Json;

use super::{
    Context, DONE, NO, QuarantineArgs, QuarantineCommand,
    new_key::Command,
    stored_json,
    terminal::{Style, Table, printable, printable_or},
};
use crate::{
    barrier,
    config::Config,
    nodes::{self, Nodes},
    setup,
    side::{Pair, Side},
};

/// Entries that are read of a node: what a person can look through, and a program in one piece.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// The version of the document's form. Fields are added without a new one.
const SCHEMA_VERSION: u32 = 1;

pub(crate) async fn run(arguments: QuarantineArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let opened = nodes::open(&config)?;
    let Nodes { nodes, admins } = &opened;
    setup::connect(nodes).await?;
    let found = Found::load(&config, admins).await?;
    match arguments.command {
        QuarantineCommand::List { json } => found.list(context, json),
        QuarantineCommand::Show { id, json } => found.show(context, id, json),
        QuarantineCommand::Retry { ids, take, key: Some(key) } => {
            let take = take.map(|node| super::side(&config, &node)).transpose()?;
            let command = Command { config: &config, nodes: &opened, context, found: &found, key: &key };
            command.run(&ids, take).await
        }
        QuarantineCommand::Retry { ids, take: Some(node), key: None } => {
            let side = super::side(&config, &node)?;
            let Some(chosen) = found.chosen(&ids) else { return Ok(NO) };
            let all = found.with_ties(&chosen);
            mark(admins, &all, |of| if of == side { Ask::TakeOwn } else { Ask::TakeOther }).await?;
            let (count, when) = (rows(found.keys(&all).len()), when(nodes).await?);
            context.out.line(&format!("to be as on {node}: {count} {when}"))?;
            Ok(DONE)
        }
        QuarantineCommand::Retry { ids, take: None, key: None } => {
            let Some(chosen) = found.chosen(&ids) else { return Ok(NO) };
            mark(admins, &chosen, |_| Ask::Retry).await?;
            let when = when(nodes).await?;
            context.out.line(&format!("to be tried again: {} {when}", rows(found.keys(&chosen).len())))?;
            Ok(DONE)
        }
        QuarantineCommand::Discard { ids, execute } => {
            let Some(chosen) = found.chosen(&ids) else { return Ok(NO) };
            let all = found.with_ties(&chosen);
            context.out.print(&context.out.table(&found.table(all.iter().copied(), true)))?;
            if !execute {
                eprintln!(
                    "nothing is done; --execute drops these changes of {}, for which each node then keeps what it has",
                    rows(found.keys(&all).len())
                );
                return Ok(DONE);
            }
            mark(admins, &all, |_| Ask::Discard).await?;
            let when = when(nodes).await?;
            context.out.line(&format!("to be dropped: the changes of {} {when}", rows(found.keys(&all).len())))?;
            Ok(DONE)
        }
    }
}

fn rows(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

/// When a request is done.
pub(super) async fn when(nodes: &Pair<Arc<dyn pontoon_core::node::Node>>) -> Result<&'static str> {
    Ok(match barrier::is_running(nodes).await? {
        true => "by the running bridge, within two seconds",
        false => "when the bridge is started: it does not run",
    })
}

/// The node that refused an entry is marked last, since the bridge begins where a refused one is marked.
pub(super) async fn mark(admins: &Pair<Arc<dyn Admin>>, chosen: &[&Kept], ask: impl Fn(Side) -> Ask) -> Result<()> {
    let of = |side: Side| chosen.iter().filter(move |kept| kept.side == side);
    let mut order = Side::BOTH;
    order.sort_by_key(|side| of(*side).any(|kept| kept.entry.code.is_some()));
    for side in order {
        let ids: Vec<i64> = of(side).map(|kept| kept.entry.id).collect();
        if !ids.is_empty() {
            admins[side].ask(&ids, ask(side)).await?;
        }
    }
    Ok(())
}

/// An entry and the node that keeps it.
pub(super) struct Kept {
    pub(super) side: Side,
    pub(super) entry: Entry,
}

/// A row's place, as the entries write it.
pub(super) type Named<'a> = (&'a str, &'a str);

pub(super) struct Found {
    pub(super) names: Pair<String>,
    pub(super) kept: Vec<Kept>,
    more: bool,
}

impl Found {
    async fn load(config: &Config, admins: &Pair<Arc<dyn Admin>>) -> Result<Found> {
        let names = Pair::from_fn(|side| config.node(side).name.clone());
        let mut found = Found { names, kept: Vec::new(), more: false };
        for side in Side::BOTH {
            let entries = admins[side].quarantine(ENTRIES_MAX).await.map_err(|error| error.at(&found.names[side]))?;
            found.more |= entries.len() == ENTRIES_MAX;
            found.kept.extend(entries.into_iter().map(|entry| Kept { side, entry }));
        }
        found.kept.sort_by_key(|kept| kept.entry.id);
        Ok(found)
    }

    fn place<'a>(kept: &'a Kept) -> Named<'a> {
        (&kept.entry.table, &kept.entry.key)
    }

    pub(super) fn keys<'a>(&self, kept: &[&'a Kept]) -> BTreeSet<Named<'a>> {
        kept.iter().map(|kept| Self::place(kept)).collect()
    }

    /// The entries of these ids; `None`, said on standard error, where one is not there.
    fn chosen(&self, ids: &[i64]) -> Option<Vec<&Kept>> {
        let mut chosen = Vec::new();
        for id in ids {
            match self.kept.iter().find(|kept| kept.entry.id == *id) {
                Some(kept) => chosen.push(kept),
                None => {
                    eprintln!("there is no entry {id} in quarantine; it may have healed");
                    return None;
                }
            }
        }
        Some(chosen)
    }

    /// All entries of the keys of these, and of the keys that they are tied to.
    pub(super) fn with_ties(&self, chosen: &[&Kept]) -> Vec<&Kept> {
        let mut keys: BTreeSet<(String, String)> =
            chosen.iter().map(|kept| (kept.entry.table.clone(), kept.entry.key.clone())).collect();
        loop {
            let before = keys.len();
            for Kept { entry, .. } in &self.kept {
                let Some(moved) = &entry.moved_key else { continue };
                let ends = [(entry.table.clone(), entry.key.clone()), (entry.table.clone(), moved.clone())];
                if ends.iter().any(|end| keys.contains(end)) {
                    keys.extend(ends);
                }
            }
            if keys.len() == before {
                break;
            }
        }
        let of = |kept: &&Kept| keys.contains(&(kept.entry.table.clone(), kept.entry.key.clone()));
        self.kept.iter().filter(of).collect()
    }

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
        let Some(chosen) = self.chosen(&[id]) else { return Ok(NO) };
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

    /// What an operator asked for, with the node's name.
    fn asked(&self, kept: &Kept) -> Option<String> {
        let take = |side: Side| format!("take {}", self.names[side]);
        let request = kept.entry.request.as_deref()?;
        Some(match Ask::of(request) {
            Some(Ask::TakeOwn) => take(kept.side),
            Some(Ask::TakeOther) => take(kept.side.other()),
            Some(Ask::TakeOwnApart) => format!("{}, the other row under a new key", take(kept.side)),
            Some(Ask::TakeOtherApart) => format!("{}, the other row under a new key", take(kept.side.other())),
            Some(Ask::Retry | Ask::Discard) | None => printable(request),
        })
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

/// Why it is there, in a few words.
fn reason(entry: &Entry) -> String {
    match (&entry.code, &entry.constraint) {
        (Some(code), Some(constraint)) => format!("{code}: {}", printable(constraint)),
        (Some(code), None) => code.clone(),
        (None, _) => "waits".into(),
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
