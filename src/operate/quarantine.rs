//! What is in quarantine, and what an operator asks for it.
//!
//! Each node keeps what it refused of the other one's changes, and what waits behind that. Requests are marks on these
//! entries: a running bridge looks for them every second, one that does not run does when it starts.

use std::{collections::BTreeSet, sync::Arc};

use pontoon_core::{
    Result,
    node::{Admin, Node},
    quarantine::{Ask, Entry},
};

use crate::{
    barrier,
    config::Config,
    human::printable,
    nodes::Nodes,
    side::{Pair, Side},
};

/// Entries that are read of a node: what a person can look through, and a program in one piece.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// An entry and the node that keeps it.
pub(crate) struct Kept {
    pub(crate) side: Side,
    pub(crate) entry: Entry,
}

/// A row's place, as the entries write it.
pub(crate) type Named<'a> = (&'a str, &'a str);

pub(crate) struct Found {
    pub(crate) names: Pair<String>,
    pub(crate) kept: Vec<Kept>,
    /// A node may have more than these.
    pub(crate) more: bool,
}

impl Found {
    /// At most `limit` of each node, the oldest first.
    pub(crate) async fn load(config: &Config, admins: &Pair<Arc<dyn Admin>>, limit: usize) -> Result<Found> {
        let names = Pair::from_fn(|side| config.node(side).name.clone());
        let mut found = Found { names, kept: Vec::new(), more: false };
        for side in Side::BOTH {
            let entries = admins[side].quarantine(limit).await.map_err(|error| error.at(&found.names[side]))?;
            found.more |= entries.len() == limit;
            found.kept.extend(entries.into_iter().map(|entry| Kept { side, entry }));
        }
        found.kept.sort_by_key(|kept| kept.entry.id);
        Ok(found)
    }

    pub(crate) fn place<'a>(kept: &'a Kept) -> Named<'a> {
        (&kept.entry.table, &kept.entry.key)
    }

    pub(crate) fn keys<'a>(&self, kept: &[&'a Kept]) -> BTreeSet<Named<'a>> {
        kept.iter().map(|kept| Self::place(kept)).collect()
    }

    /// The entries of these ids. Errors: what is to be said where one is not there.
    pub(crate) fn chosen(&self, ids: &[i64]) -> Result<Vec<&Kept>, String> {
        let of = |id: &i64| {
            let found = self.kept.iter().find(|kept| kept.entry.id == *id);
            found.ok_or_else(|| format!("there is no entry {id} in quarantine; it may have healed"))
        };
        ids.iter().map(of).collect()
    }

    /// All entries of the keys of these, and of the keys that they are tied to.
    pub(crate) fn with_ties(&self, chosen: &[&Kept]) -> Vec<&Kept> {
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

    /// Has rows tried again; with `take` both are to be as on that node, theirs and those tied to them. What is said of it.
    pub(crate) async fn retry(&self, nodes: &Nodes, chosen: &[&Kept], take: Option<Side>) -> Result<String> {
        let Some(side) = take else {
            mark(&nodes.admins, chosen, |_| Ask::Retry).await?;
            let when = when(&nodes.nodes).await?;
            return Ok(format!("to be tried again: {} {when}", rows(self.keys(chosen).len())));
        };
        let all = self.with_ties(chosen);
        mark(&nodes.admins, &all, |of| if of == side { Ask::TakeOwn } else { Ask::TakeOther }).await?;
        let (count, when) = (rows(self.keys(&all).len()), when(&nodes.nodes).await?);
        Ok(format!("to be as on {}: {count} {when}", self.names[side]))
    }

    /// What a discard would do, which nobody has asked for yet.
    pub(crate) fn would_discard(&self, chosen: &[&Kept]) -> String {
        let count = rows(self.keys(&self.with_ties(chosen)).len());
        format!("drops these changes of {count}, for which each node then keeps what it has")
    }

    /// Drops the changes of rows, and of those tied to them. What is said of it.
    pub(crate) async fn discard(&self, nodes: &Nodes, chosen: &[&Kept]) -> Result<String> {
        let all = self.with_ties(chosen);
        mark(&nodes.admins, &all, |_| Ask::Discard).await?;
        let when = when(&nodes.nodes).await?;
        Ok(format!("to be dropped: the changes of {} {when}", rows(self.keys(&all).len())))
    }

    /// What an operator asked for, with the node's name.
    pub(crate) fn asked(&self, kept: &Kept) -> Option<String> {
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
}

/// Why it is there, in a few words.
pub(crate) fn reason(entry: &Entry) -> String {
    match (&entry.code, &entry.constraint) {
        (Some(code), Some(constraint)) => format!("{code}: {}", printable(constraint)),
        (Some(code), None) => code.clone(),
        (None, _) => "waits".into(),
    }
}

fn rows(count: usize) -> String {
    if count == 1 { "1 row".into() } else { format!("{count} rows") }
}

/// When a request is done.
pub(crate) async fn when(nodes: &Pair<Arc<dyn Node>>) -> Result<&'static str> {
    Ok(match barrier::is_running(nodes).await? {
        true => "by the running bridge, within two seconds",
        false => "when the bridge is started: it does not run",
    })
}

/// The node that refused an entry is marked last, since the bridge begins where a refused one is marked.
pub(crate) async fn mark(admins: &Pair<Arc<dyn Admin>>, chosen: &[&Kept], ask: impl Fn(Side) -> Ask) -> Result<()> {
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
