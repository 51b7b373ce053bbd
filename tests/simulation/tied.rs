//! Rows that constraints tie to each other: parents with a unique code, and children that refer to a parent.
//!
//! Both nodes hold applications to their constraints. Codes pass from row to row, also between two rows in one
//! transaction; parents go, alone or with all their children, while the other node gives them new ones. In some schedules
//! one node has some of the rows alone, and they are copied meanwhile.

use pontoon::conflict::policy::{ForeignKeyRule, Policy, RowRule, UniqueRule};
use pontoon_core::{
    Form, Key, Kind, MappedTable, Result, Row, TableId, TableName, Value,
    node::Tables,
    schema::{Reference, Unique},
};
use pontoon_memory::{
    Database, Dice,
    database::{LoggedChange, Place},
};
use std::{collections::BTreeMap, sync::Arc};

use crate::{columns::column, world::World};

const PARENTS: TableId = TableId(0);
const CHILDREN: TableId = TableId(1);

/// The second column: of a parent its code, of a child the key of its parent.
const TIE: usize = 1;

pub(crate) fn tables() -> Tables {
    let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
    let integer = Kind::Integer { min: -(1 << 40), max: 1 << 40 };
    let table = |id: TableId, label: &str, tie: &str| MappedTable {
        id,
        ..MappedTable::plain(
            TableName::new("main", label),
            vec![
                column("id", &integer, Form::Integer),
                column(tie, &integer, Form::Integer),
                column("note", &text, Form::Text { padded: false }),
            ],
        )
    };
    let (mut parents, mut children) = (table(PARENTS, "parents", "code"), table(CHILDREN, "children", "parent"));
    parents.uniques = vec![Unique { name: "parents_code".into(), columns: vec![TIE] }];
    let (columns, parent_columns) = (vec![TIE], vec![0]);
    children.references = vec![Reference { name: "children_parent".into(), columns, parent: PARENTS, parent_columns }];
    vec![parents, children].into()
}

/// Every pair of rules, and of rules for rows the later write and a preferred node.
pub(crate) fn policy(seed: u64, dice: &Dice) -> Policy {
    let rows = [RowRule::LastWriterWins, RowRule::Prefer(pontoon::side::Side::B)];
    let foreign_keys = [ForeignKeyRule::Quarantine, ForeignKeyRule::RestoreParent, ForeignKeyRule::DeleteChild];
    Policy {
        unique: if seed.is_multiple_of(2) { UniqueRule::Quarantine } else { UniqueRule::Rule },
        foreign_key: foreign_keys[usize::try_from(seed / 2 % 3).unwrap()],
        ..Policy::of_rows(*dice.pick(&rows).unwrap())
    }
}

fn place(table: TableId, key: i64) -> Place {
    (table, Key(vec![Value::Integer(key.into())]))
}

fn row(key: i64, tie: i128, note: &str) -> Row {
    Row(vec![Value::Integer(key.into()), Value::Integer(tie), Value::Text(note.into())])
}

/// A row with the tie of another one.
fn with_tie(key: i64, other: &Row, note: &str) -> Row {
    Row(vec![Value::Integer(key.into()), other.0[TIE].clone(), Value::Text(note.into())])
}

/// Some parents, and a child of each.
pub(crate) fn initial(keys: i64, dice: &Dice) -> Vec<(Place, Row)> {
    let there: Vec<i64> = (0..keys).filter(|_| dice.chance(0.6)).collect();
    let parents = there.iter().map(|key| (place(PARENTS, *key), row(*key, (*key).into(), "x")));
    let children = there.iter().map(|key| (place(CHILDREN, *key), row(*key, (*key).into(), "x")));
    parents.chain(children).collect()
}

/// Leaves out children whose parent is not there.
pub(crate) fn retain_whole(rows: &mut Vec<(Place, Row)>) {
    let all: BTreeMap<Place, Row> = rows.drain(..).collect();
    let whole = |(place, row): &(&Place, &Row)| {
        place.0 == PARENTS || all.contains_key(&(PARENTS, Key(vec![row.0[TIE].clone()])))
    };
    rows.extend(all.iter().filter(whole).map(|(place, row)| (place.clone(), row.clone())));
}

/// One transaction of an application. Errors: a lock time-out, a constraint.
pub(crate) async fn write(world: &World, node: &Arc<Database>) -> Result<Vec<LoggedChange>> {
    let (dice, keys) = (&world.dice, world.keys);
    let some = |most: i64| dice.between(0, most - 1);
    let (key, other) = (some(keys), some(keys + 1));
    let note = || world.value(node);
    match dice.between(0, 9) {
        // A code that may be another row's.
        0..=2 => {
            let code = i128::from(some(keys + 2));
            node.transact(&[place(PARENTS, key)], |_| vec![Some(row(key, code, &note()))]).await
        }
        // Codes pass from one to the other.
        3 | 4 if key != other => {
            let places = [place(PARENTS, key), place(PARENTS, other)];
            node.transact(&places, |rows| match rows {
                [Some(a), Some(b)] => vec![Some(with_tie(key, b, &note())), Some(with_tie(other, a, &note()))],
                [Some(a), None] if world.schedule.deletes => vec![None, Some(with_tie(other, a, &note()))],
                rows => rows.to_vec(),
            })
            .await
        }
        5..=7 => {
            let parent = i128::from(some(keys));
            node.transact(&[place(CHILDREN, key)], |_| vec![Some(row(key, parent, &note()))]).await
        }
        8 if world.schedule.deletes => node.transact(&[place(CHILDREN, key)], |_| vec![None]).await,
        // With all its children, as a cascade does it.
        _ if world.schedule.deletes => {
            let mut places: Vec<Place> = (0..=keys).map(|child| place(CHILDREN, child)).collect();
            places.push(place(PARENTS, key));
            node.transact(&places, |rows| {
                let last = rows.len() - 1;
                let is_of = |row: &Row| row.0[TIE] == Value::Integer(key.into());
                let left = rows.iter().enumerate().map(|(at, row)| row.clone().filter(|row| at < last && !is_of(row)));
                left.collect()
            })
            .await
        }
        _ => {
            let code = i128::from(some(keys + 2));
            node.transact(&[place(PARENTS, key)], |_| vec![Some(row(key, code, &note()))]).await
        }
    }
}

/// No row refers to one that is not there, and no two parents have one code.
pub(crate) fn nothing_dangles(rows: &BTreeMap<Place, Row>) -> std::result::Result<(), String> {
    let mut codes = BTreeMap::new();
    for (place, row) in rows {
        if place.0 == CHILDREN {
            let parent = (PARENTS, Key(vec![row.0[TIE].clone()]));
            if !rows.contains_key(&parent) {
                return Err(format!("{place:?} refers to nothing: {row:?}"));
            }
        } else if let Some(other) = codes.insert(row.0[TIE].clone(), place) {
            return Err(format!("{place:?} and {other:?} have one code: {row:?}"));
        }
    }
    Ok(())
}
