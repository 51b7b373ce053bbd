//! What ties rows to each other: the unique constraints and foreign keys of each side, among the tables that are
//! bridged, and those foreign keys that the bridge cannot keep an eye on.
//!
//! A foreign key whose other table is not bridged, or one of whose columns is not, or that is over a period, cannot be watched: rows arrive whose parent this side may lack, or
//! rows go to which others refer. That is refused, unless the operator answers for it.

use pontoon_core::{
    MappedTable, TableName, TableSchema,
    schema::{ForeignKey, Reference, Unique},
};

use super::{Draft, accepted};
use crate::{
    config::TableChoice,
    conflict::policy::ForeignKeyRule,
    side::{Pair, Side},
};

const OUTSIDE: &str = "foreign-key-outside";

/// Gives the mapped tables what ties them. `described` is what each was made of, in their order.
pub(super) fn tie(draft: &mut Draft<'_>, described: &[(TableChoice, Pair<TableSchema>)]) {
    for side in Side::BOTH {
        for (at, (choice, schemas)) in described.iter().enumerate() {
            let uniques = uniques(&draft.tables[side][at], &schemas[side]);
            let references = references(draft, side, at, choice, &schemas[side]);
            let table = &mut draft.tables[side][at];
            (table.uniques, table.references) = (uniques, references);
            referrers(draft, side, choice, &schemas[side]);
        }
    }
}

/// The unique constraints over mapped columns, but for the key's own.
fn uniques(table: &MappedTable, schema: &TableSchema) -> Vec<Unique> {
    let places = |columns: &[Box<str>]| columns.iter().map(|name| table.place(name)).collect::<Option<Vec<_>>>();
    let found = schema.ties.uniques.iter().filter_map(|unique| {
        let columns = places(&unique.columns)?;
        let is_key = table.key.iter().all(|at| columns.contains(at));
        (!is_key).then(|| Unique { name: unique.name.clone(), columns })
    });
    found.collect()
}

fn references(
    draft: &mut Draft<'_>,
    side: Side,
    at: usize,
    choice: &TableChoice,
    schema: &TableSchema,
) -> Vec<Reference> {
    let mut references = Vec::new();
    for foreign in &schema.ties.references {
        if foreign.over_period {
            let actual = format!("{} to {} is over a period", foreign.name, foreign.parent);
            outside(draft, side, choice, &actual);
            continue;
        }
        match reference(&draft.tables[side], at, foreign) {
            Some(reference) => {
                by_key(draft, side, choice, foreign, &reference);
                references.push(reference);
            }
            // A pair that is unfit is in the way by itself.
            None if !is_mapped(&draft.tables[side], &foreign.parent)
                && draft.chosen[side].contains(&foreign.parent) => {}
            None if draft.chosen[side].contains(&foreign.parent) => {
                let actual = format!("{} to {} is over a column that is not bridged", foreign.name, foreign.parent);
                outside(draft, side, choice, &actual);
            }
            None => {
                let actual = format!("{} refers to {}, which is not bridged", foreign.name, foreign.parent);
                outside(draft, side, choice, &actual);
            }
        }
    }
    references
}

fn is_mapped(tables: &[MappedTable], name: &TableName) -> bool {
    tables.iter().any(|table| table.name == *name)
}

fn reference(tables: &[MappedTable], at: usize, foreign: &ForeignKey) -> Option<Reference> {
    let parent = tables.iter().find(|table| table.name == foreign.parent)?;
    let places = |table: &MappedTable, columns: &[Box<str>]| {
        columns.iter().map(|name| table.place(name)).collect::<Option<Vec<usize>>>()
    };
    Some(Reference {
        name: foreign.name.clone(),
        columns: places(tables.get(at)?, &foreign.columns)?,
        parent: parent.id,
        parent_columns: places(parent, &foreign.parent_columns)?,
    })
}

/// A rule that puts rows back or removes them has to know them by their key.
fn by_key(draft: &mut Draft<'_>, side: Side, choice: &TableChoice, foreign: &ForeignKey, reference: &Reference) {
    if choice.foreign_key == ForeignKeyRule::Quarantine {
        return;
    }
    let Some(parent) = draft.tables[side].get(reference.parent.index()) else { return };
    let mut own: Vec<usize> = reference.parent_columns.clone();
    let mut key = parent.key.clone();
    own.sort_unstable();
    key.sort_unstable();
    if own != key {
        let actual = format!(
            "{} on {} refers to other columns of {} than its key",
            foreign.name,
            draft.config.node(side).name,
            foreign.parent
        );
        let remedy = Some("foreign_key = \"quarantine\"".to_owned());
        draft.block("foreign-key-rule-unfit", &choice.label, &actual, "a reference to the key, or no rule", remedy);
    }
}

/// Tables that refer to this one and are not bridged.
fn referrers(draft: &mut Draft<'_>, side: Side, choice: &TableChoice, schema: &TableSchema) {
    for (child, name) in &schema.ties.referrers {
        if !draft.chosen[side].contains(child) {
            let actual = format!("{child} refers to it by {name}, and is not bridged");
            outside(draft, side, choice, &actual);
        }
    }
}

/// Only where rows arrive.
fn outside(draft: &mut Draft<'_>, side: Side, choice: &TableChoice, actual: &str) {
    if !choice.direction.follows(side.other()) {
        return;
    }
    let actual = format!("{actual}, on {}", draft.config.node(side).name);
    let remedy = format!(
        "bridge both tables with its columns, drop the foreign key, or accept = [{OUTSIDE:?}] where nothing of it is ever removed"
    );
    let expected = "both tables bridged, so that no row is left that refers to nothing";
    draft.add(accepted(choice, OUTSIDE), OUTSIDE, &choice.label, &actual, expected, Some(remedy));
}

/// The names of tables, as the nodes describe them.
pub(super) type Chosen = Pair<std::collections::HashSet<TableName>>;
