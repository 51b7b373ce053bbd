//! Which references are broken by what a session has written: asked of the database itself, in the transaction that has
//! written, since no server checks them for a bridge.
//!
//! Two ways to break one: a row was written that refers to one that is not there, or a row went to which others refer.
//! Both are looked for by both directions and by every settlement, so a reference that either side's writes break is
//! seen wherever it is noticed first. How the databases keep it so until the commit, `Session::orphans` and
//! `Session::children` say.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{
    Error, Key, MappedTable, Result, Row, TableId,
    node::{Session, Tables},
};

use super::{
    policy::{ForeignKeyRule, Policy},
    refused::Refusal,
    settle::{Attempt, Settler, TIED_MAX},
    ties::dangling,
    verdict::{Rows, Verdict},
};
use crate::{
    bridge::Shared,
    direction::plan::{self, Place},
    rules::Rule,
    side::{Pair, Side},
};

/// Rows that refer to what goes which are looked for at a time: these are settled together, and then the next.
const CHILDREN_MAX: usize = 100;

/// A row that refers to one that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) child: Place,
    /// What it refers to, where that is by its key.
    pub(crate) parent: Option<Place>,
    /// Of what was written, what broke it.
    pub(crate) by: Vec<Place>,
    /// The foreign key.
    pub(crate) name: Box<str>,
}

impl Broken {
    /// The error of it.
    pub(crate) fn error(&self, shared: &Shared) -> Error {
        let parent = self.parent.as_ref().map(|parent| (shared.label(parent.0), parent));
        dangling((shared.label(self.child.0), &self.child), parent, &self.name)
    }
}

/// One side's tables with what refers to each.
pub(crate) struct Looking<'a> {
    pub(crate) tables: &'a Tables,
    /// By the table that is referred to: who refers, and by which foreign key.
    pub(crate) referring: &'a [Vec<(TableId, usize)>],
    pub(crate) policies: &'a [Policy],
}

/// By the table that is referred to: the tables that refer to it, each with its foreign key's place.
pub(crate) fn referring(tables: &[MappedTable]) -> Vec<Vec<(TableId, usize)>> {
    let mut referring = vec![Vec::new(); tables.len()];
    for table in tables {
        for (place, reference) in table.references.iter().enumerate() {
            if let Some(of) = referring.get_mut(reference.parent.index()) {
                of.push((table.id, place));
            }
        }
    }
    referring
}

/// What was written to a key: the row before and after.
pub(crate) type Written<'a> = (&'a Place, Option<&'a Row>, Option<&'a Row>);

impl Looking<'_> {
    /// No table refers to any other.
    pub(crate) fn at_nothing(&self) -> bool {
        self.referring.iter().all(Vec::is_empty)
    }

    /// The references that these writes have broken.
    pub(crate) async fn broken(
        &self,
        session: &mut dyn Session,
        written: impl Iterator<Item = Written<'_>>,
    ) -> Result<Vec<Broken>> {
        let mut broken = Vec::new();
        if self.at_nothing() {
            return Ok(broken);
        }
        let mut by_table: BTreeMap<TableId, Vec<Written<'_>>> = BTreeMap::new();
        for write in written {
            by_table.entry(write.0.0).or_default().push(write);
        }
        for (table, written) in by_table {
            self.orphans(session, table, &written, &mut broken).await?;
            self.children(session, table, &written, &mut broken).await?;
        }
        Ok(broken)
    }

    async fn orphans(
        &self,
        session: &mut dyn Session,
        id: TableId,
        written: &[Written<'_>],
        broken: &mut Vec<Broken>,
    ) -> Result<()> {
        let table = plan::table(self.tables, id)?;
        for (number, reference) in table.references.iter().enumerate() {
            let refers = written.iter().filter(|(_, before, after)| match (before, after) {
                (_, None) => false,
                (None, Some(after)) => reference.refers(after),
                (Some(before), Some(after)) => reference.refers(after) && !reference.same(before, after),
            });
            let mut keys: Vec<Key> = refers.map(|(place, ..)| place.1.clone()).collect();
            keys.sort();
            if !keys.is_empty() {
                let orphans = session.orphans(id, number, &keys).await?;
                broken.extend(self.named(session, id, number, orphans, &[]).await?);
            }
        }
        Ok(())
    }

    async fn children(
        &self,
        session: &mut dyn Session,
        id: TableId,
        written: &[Written<'_>],
        broken: &mut Vec<Broken>,
    ) -> Result<()> {
        for (child, number) in self.referring.get(id.index()).into_iter().flatten() {
            let Some(reference) = plan::table(self.tables, *child)?.references.get(*number) else { continue };
            let is_other =
                |before: &Row, after: &Row| reference.parent_columns.iter().any(|&at| before.0[at] != after.0[at]);
            let gone = written.iter().filter_map(|(place, before, after)| match (before, after) {
                (Some(before), None) => Some((*place, *before)),
                (Some(before), Some(after)) if is_other(before, after) => Some((*place, *before)),
                _ => None,
            });
            let gone: Vec<(&Place, &Row)> = gone.collect();
            if gone.is_empty() {
                continue;
            }
            let rows: Vec<Row> = gone.iter().map(|(_, row)| (*row).clone()).collect();
            // Of what a person decides one is enough.
            let by_hand =
                self.policies.get(child.index()).is_none_or(|policy| policy.foreign_key == ForeignKeyRule::Quarantine);
            let limit = if by_hand { 1 } else { CHILDREN_MAX };
            let children = session.children(*child, *number, &rows, limit).await?;
            broken.extend(self.named(session, *child, *number, children, &gone).await?);
        }
        Ok(())
    }

    /// Says what these rows refer to: to one of those that are gone, or else it is they themselves that were written.
    async fn named(
        &self,
        session: &mut dyn Session,
        id: TableId,
        number: usize,
        keys: Vec<Key>,
        gone: &[(&Place, &Row)],
    ) -> Result<Vec<Broken>> {
        let mut broken = Vec::new();
        let (true, Some(reference)) = (!keys.is_empty(), plan::table(self.tables, id)?.references.get(number)) else {
            return Ok(broken);
        };
        let parent = plan::table(self.tables, reference.parent)?;
        let rows = session.read(id, &keys).await?;
        for (key, row) in keys.into_iter().zip(rows) {
            let of = row.as_ref().and_then(|row| reference.parent_of(row, parent)).map(|key| (parent.id, key));
            let is_of = |(_, parent): &&(&Place, &Row)| row.as_ref().is_some_and(|row| reference.is_to(row, parent));
            let mut by: Vec<Place> = gone.iter().filter(is_of).map(|(place, _)| (*place).clone()).collect();
            if by.is_empty() {
                // The server's collation has its own idea of which: all of them, then.
                by.extend(gone.iter().map(|(place, _)| (*place).clone()));
            }
            let child = (id, key);
            if by.is_empty() {
                by.push(child.clone());
            }
            broken.push(Broken { child, parent: of, by, name: reference.name.clone() });
        }
        Ok(broken)
    }
}

impl Settler {
    /// What has to be settled as well, or is refused, since a reference is broken by what was written.
    pub(super) async fn references(&mut self, rows: &Pair<Rows>, verdicts: &[Verdict]) -> Result<Option<Attempt>> {
        let shared = self.shared.clone();
        if !shared.rules.has(Rule::References) {
            return Ok(None);
        }
        for side in Side::BOTH {
            let written = verdicts.iter().map(|verdict| {
                let before = rows[side].get(&verdict.place).and_then(Option::as_ref);
                (&verdict.place, before, verdict.rows[side].as_ref())
            });
            let broken = shared.looking(side).broken(self.session(side)?.as_mut(), written).await?;
            let Some(first) = broken.first() else { continue };
            let known = |place: &Place| rows[side].contains_key(place);
            let places = broken.iter().flat_map(|broken| [Some(&broken.child), broken.parent.as_ref()]).flatten();
            let more: BTreeSet<Place> = places.filter(|place| !known(place)).cloned().collect();
            if !more.is_empty() && rows[side].len() + more.len() <= TIED_MAX {
                return Ok(Some(Attempt::Widen(more)));
            }
            let error = first.error(&shared);
            return Ok(Some(Attempt::Refused(Box::new(Refusal::new(side, error, &rows[side], verdicts)))));
        }
        Ok(None)
    }
}
