//! Rows that are tied to each other by a constraint of either side: what both nodes shall hold of them. Pure.
//!
//! Each key is decided by itself ([`super::decide`]). What comes out may be two rows of which one database holds only one
//! (a unique constraint), or a row that refers to one which goes (a foreign key). Then the rules of the tables decide once
//! more, over what has been decided:
//!
//! * Of two rows with the same unique values the one that was written later stands, or the one of the preferred node. The
//!   other row becomes what the other side has of it: as it was before the write that lost, or absent where it is new.
//!   What was added to its additive columns counts all the same.
//! * A row that goes while another refers to it is put back as the side has it that did not remove it
//!   (`restore_parent`), or the row that refers to it goes too (`delete_child`).
//! * Where the rule is that a person decides, or neither side has the row that is referred to, nothing is decided at all:
//!   what nobody has removed is yet to come, or does without on its own side.
//!
//! Each step takes a key one way, and none back, so it ends: a row gives way to what the other side has and then to
//! absence, a row is put back once and goes once.
//!
//! Only rows that are among the keys are judged. That the others were looked at is the caller's affair: the databases are
//! asked, in the transactions that write (`super::settle`).

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{Code, Error, Key, MappedTable, Row, TableId, Value, node::Tables, schema::Reference};

use super::policy::{ForeignKeyRule, Policy, RowRule, UniqueRule};
use crate::{
    direction::plan::Place,
    side::{Pair, Side},
};

/// What was decided of a key by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What both nodes shall hold.
    pub(crate) row: Option<Row>,
    /// Whose row it is.
    pub(crate) winner: Side,
    /// When it was last written, where that is not on both sides yet.
    pub(crate) time: Option<i64>,
    /// A person has decided it.
    pub(crate) fixed: bool,
    /// What became of it for another row's sake.
    pub(crate) adjusted: Option<Adjusted>,
}

/// What became of a row for another row's sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Adjusted {
    /// Another one has its unique values.
    GaveWay {
        /// By which constraint.
        unique: Box<str>,
        /// To the row of this key.
        to: Key,
    },
    /// Another row refers to it.
    Restored {
        /// By which foreign key.
        foreign_key: Box<str>,
    },
    /// What it refers to is gone.
    Removed {
        /// By which foreign key.
        foreign_key: Box<str>,
    },
}

impl Adjusted {
    /// In the words of the record.
    pub(crate) fn text(&self) -> String {
        match self {
            Adjusted::GaveWay { unique, to } => format!("unique_conflict: {unique}, key ({to}) stands"),
            Adjusted::Restored { foreign_key } => format!("restore_parent: {foreign_key}"),
            Adjusted::Removed { foreign_key } => format!("delete_child: {foreign_key}"),
        }
    }
}

/// Keys under decision, and all that ties them.
pub(crate) struct Ties<'a> {
    /// The tables with the constraints of each side.
    pub(crate) tables: Pair<&'a Tables>,
    pub(crate) policies: &'a [Policy],
    /// The side of the higher priority.
    pub(crate) preferred: Side,
    /// The rows as they are.
    pub(crate) rows: &'a Pair<BTreeMap<Place, Option<Row>>>,
}

/// Two keys of which a person is to decide, and why.
#[derive(Debug)]
pub(crate) struct Undecided {
    pub(crate) keys: BTreeSet<Place>,
    pub(crate) error: Error,
}

impl Ties<'_> {
    /// Brings what was decided of single keys into agreement. Errors: a person is to decide.
    pub(crate) fn agree(&self, standings: &mut BTreeMap<Place, Standing>) -> Result<(), Undecided> {
        loop {
            let (gave_way, referred) = (self.uniques(standings)?, self.references(standings)?);
            if !gave_way && !referred {
                return Ok(());
            }
        }
    }

    /// `true`: a row gave way.
    fn uniques(&self, standings: &mut BTreeMap<Place, Standing>) -> Result<bool, Undecided> {
        let mut any = false;
        while let Some((unique, a, b)) = self.meeting(standings) {
            let undecided = |why: &str| Undecided {
                keys: [a.clone(), b.clone()].into(),
                error: Error::new(
                    Code::RowRefused,
                    format!("{} key ({}) and key ({}) {why} {unique:?}", self.label(a.0), a.1, b.1),
                )
                .hint("give one of the two another value, on the side that wrote it: then both are settled")
                .by_constraint(Some(unique.to_string())),
            };
            let (Some(one), Some(other)) = (standings.get(&a), standings.get(&b)) else { return Ok(any) };
            let policy = &self.policies[a.0.index()];
            if policy.unique == UniqueRule::Quarantine || policy.row == RowRule::Quarantine {
                return Err(undecided("cannot both live, by the unique constraint"));
            }
            let (stays, gives_way) = if self.stands(one, other, policy) { (&a, &b) } else { (&b, &a) };
            if standings[gives_way].fixed {
                return Err(undecided("cannot both live, as was decided, by the unique constraint"));
            }
            let row = standings.get(stays).and_then(|standing| standing.row.clone());
            let fallback = self.fallback(gives_way, &standings[gives_way], row.as_ref());
            let adjusted = Some(Adjusted::GaveWay { unique: unique.clone(), to: stays.1.clone() });
            let gives_way = gives_way.clone();
            if let Some(standing) = standings.get_mut(&gives_way) {
                (standing.row, standing.adjusted) = (fallback, adjusted);
            }
            any = true;
        }
        Ok(any)
    }

    /// Two keys whose rows cannot both live, and why.
    fn meeting(&self, standings: &BTreeMap<Place, Standing>) -> Option<(Box<str>, Place, Place)> {
        let mut met: BTreeMap<(TableId, &str, Vec<&Value>), &Place> = BTreeMap::new();
        for (place, standing) in standings {
            let Some(row) = &standing.row else { continue };
            for unique in self.of_both(place.0).flat_map(|table| &table.uniques) {
                let values: Vec<&Value> = unique.columns.iter().map(|&at| &row.0[at]).collect();
                if values.contains(&&Value::Null) {
                    continue;
                }
                match met.insert((place.0, &unique.name, values), place) {
                    Some(other) if other != place => return Some((unique.name.clone(), other.clone(), place.clone())),
                    _ => {}
                }
            }
        }
        None
    }

    /// Whether the first of two rows stands.
    fn stands(&self, a: &Standing, b: &Standing, policy: &Policy) -> bool {
        let rank = |standing: &Standing| {
            let preferred = policy.row == RowRule::Prefer(standing.winner);
            let untouched = standing.adjusted.is_none();
            (standing.fixed, untouched, preferred, standing.time, standing.winner == self.preferred)
        };
        rank(a) >= rank(b)
    }

    /// What the other side has of a row that gives way, but for what was added to it; nothing where that has the same
    /// values, or it has given way before.
    fn fallback(&self, place: &Place, standing: &Standing, stays: Option<&Row>) -> Option<Row> {
        if standing.adjusted.is_some() {
            return None;
        }
        let mut row = self.rows[standing.winner.other()].get(place)?.clone()?;
        for (at, _) in self.policies[place.0.index()].additive() {
            row.0[at] = standing.row.as_ref()?.0[at].clone();
        }
        let meets =
            |stays: &Row| self.of_both(place.0).flat_map(|table| &table.uniques).any(|unique| unique.ties(&row, stays));
        if stays.is_some_and(meets) { None } else { Some(row) }
    }

    /// `true`: a row was put back, or went.
    fn references(&self, standings: &mut BTreeMap<Place, Standing>) -> Result<bool, Undecided> {
        let mut any = false;
        while let Some((foreign_key, child, parent)) = self.broken(standings) {
            let rule = self.policies[child.0.index()].foreign_key;
            // A parent that neither side has was removed by none: it is yet to come, or its own side does without.
            let row = Side::BOTH.into_iter().find_map(|side| self.rows[side].get(&parent)?.clone());
            let is_removed = row.is_some();
            let back = standings.get(&parent).filter(|standing| standing.adjusted.is_none() && !standing.fixed);
            let back = back.and(row);
            let (place, row, adjusted) = match (rule, back) {
                (ForeignKeyRule::DeleteChild, _) if is_removed && !standings[&child].fixed => {
                    (&child, None, Adjusted::Removed { foreign_key })
                }
                (ForeignKeyRule::RestoreParent, Some(row)) => (&parent, Some(row), Adjusted::Restored { foreign_key }),
                _ => {
                    return Err(Undecided {
                        error: self.dangling(&child, &parent, &foreign_key),
                        keys: [child, parent].into(),
                    });
                }
            };
            if let Some(standing) = standings.get_mut(place) {
                (standing.row, standing.adjusted) = (row, Some(adjusted));
            }
            any = true;
        }
        Ok(any)
    }

    /// A row that refers to one that goes, and that one.
    fn broken(&self, standings: &BTreeMap<Place, Standing>) -> Option<(Box<str>, Place, Place)> {
        for (place, standing) in standings {
            let Some(row) = &standing.row else { continue };
            for side in Side::BOTH {
                let Some(table) = self.tables[side].get(place.0.index()) else { continue };
                for reference in &table.references {
                    let Some(parent) = self.parent(side, reference, row) else { continue };
                    if standings.get(&parent).is_some_and(|parent| parent.row.is_none()) {
                        return Some((reference.name.clone(), place.clone(), parent));
                    }
                }
            }
        }
        None
    }

    fn parent(&self, side: Side, reference: &Reference, row: &Row) -> Option<Place> {
        let parent = self.tables[side].get(reference.parent.index())?;
        Some((reference.parent, reference.parent_of(row, parent)?))
    }

    /// The table as either side has it.
    fn of_both(&self, table: TableId) -> impl Iterator<Item = &MappedTable> {
        Side::BOTH.into_iter().filter_map(move |side| self.tables[side].get(table.index()))
    }

    fn label(&self, table: TableId) -> &str {
        self.tables[Side::A].get(table.index()).map_or("?", |table| &*table.label)
    }

    fn dangling(&self, child: &Place, parent: &Place, foreign_key: &str) -> Error {
        dangling((self.label(child.0), child), Some((self.label(parent.0), parent)), foreign_key)
    }
}

/// A row refers to one that is not there.
pub(crate) fn dangling((label, child): (&str, &Place), parent: Option<(&str, &Place)>, foreign_key: &str) -> Error {
    let refers = match parent {
        Some((parent_label, parent)) => format!("{parent_label} key ({}), which is gone or refused", parent.1),
        None => "a row that is not there".to_owned(),
    };
    let message = format!("{label} key ({}) refers by {foreign_key:?} to {refers}", child.1);
    Error::new(Code::ReferenceBroken, message)
        .hint("insert the row that is referred to, or remove the one that refers, on the side that has written it; or decide with pontoon quarantine retry ID --take NODE")
        .by_constraint(Some(foreign_key.to_owned()))
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Column, Form, Kind, MappedColumn, TableName, schema::Unique};

    use super::*;

    /// Table 0 has a key, a unique number and a note; table 1 a key and the key of a row of table 0.
    fn tables() -> Tables {
        let kind = Kind::Integer { min: 0, max: 99 };
        let column =
            |name: &str| MappedColumn::new(Column::plain(name, "int", kind.clone()), kind.clone(), Form::Integer);
        let table = |id: u32, columns: &[&str]| MappedTable {
            id: TableId(id),
            ..MappedTable::plain(
                TableName::new("s", format!("t{id}")),
                columns.iter().map(|name| column(name)).collect(),
            )
        };
        let (mut parents, mut children) = (table(0, &["id", "code", "note"]), table(1, &["id", "parent"]));
        parents.uniques = vec![Unique { name: "code".into(), columns: vec![1] }];
        let (columns, parent_columns) = (vec![1], vec![0]);
        children.references = vec![Reference { name: "of".into(), columns, parent: TableId(0), parent_columns }];
        Tables::from([parents, children])
    }

    fn place(table: u32, key: i128) -> Place {
        (TableId(table), Key(vec![Value::Integer(key)]))
    }

    fn row(values: &[i128]) -> Row {
        Row(values.iter().map(|n| if *n < 0 { Value::Null } else { Value::Integer(*n) }).collect())
    }

    fn stands(values: &[i128], winner: Side, time: i64) -> Standing {
        Standing { row: Some(row(values)), winner, time: Some(time), fixed: false, adjusted: None }
    }

    fn gone(winner: Side, time: i64) -> Standing {
        Standing { row: None, winner, time: Some(time), fixed: false, adjusted: None }
    }

    type Rows = Pair<BTreeMap<Place, Option<Row>>>;

    fn agreed(policy: Policy, rows: &Rows, of: &[(Place, Standing)]) -> Result<Vec<Option<Row>>, Undecided> {
        let tables = tables();
        let policies = [policy.clone(), policy];
        let ties = Ties { tables: Pair::new(&tables, &tables), policies: &policies, preferred: Side::A, rows };
        let mut standings: BTreeMap<_, _> = of.iter().cloned().collect();
        ties.agree(&mut standings)?;
        Ok(of.iter().map(|(place, _)| standings[place].row.clone()).collect())
    }

    fn by_rule(row: RowRule) -> Policy {
        Policy { unique: UniqueRule::Rule, ..Policy::of_rows(row) }
    }

    fn with(foreign_key: ForeignKeyRule) -> Policy {
        Policy { foreign_key, ..Policy::of_rows(RowRule::LastWriterWins) }
    }

    #[test]
    fn of_two_new_rows_the_later_stands() {
        let two = [(place(0, 1), stands(&[1, 7, 0], Side::A, 5)), (place(0, 2), stands(&[2, 7, 0], Side::B, 9))];
        let rows = Rows::default();
        let later = agreed(by_rule(RowRule::LastWriterWins), &rows, &two).unwrap();
        assert_eq!(later, [None, Some(row(&[2, 7, 0]))]);
        let preferred = agreed(by_rule(RowRule::Prefer(Side::A)), &rows, &two).unwrap();
        assert_eq!(preferred, [Some(row(&[1, 7, 0])), None]);
        let held = agreed(by_rule(RowRule::Quarantine), &rows, &two).unwrap_err();
        assert_eq!((held.keys.len(), held.error.constraint()), (2, Some("code")));
        assert!(agreed(Policy::of_rows(RowRule::LastWriterWins), &rows, &two).is_err());
        let nulls = [(place(0, 1), stands(&[1, -1, 0], Side::A, 5)), (place(0, 2), stands(&[2, -1, 0], Side::B, 9))];
        assert_eq!(agreed(Policy::of_rows(RowRule::LastWriterWins), &rows, &nulls).unwrap().len(), 2);
    }

    #[test]
    fn a_row_that_was_there_becomes_what_it_was_and_one_that_cannot_goes() {
        let mut rows = Rows::default();
        rows[Side::B].insert(place(0, 1), Some(row(&[1, 3, 0])));
        let two = [(place(0, 1), stands(&[1, 7, 4], Side::A, 5)), (place(0, 2), stands(&[2, 7, 0], Side::B, 9))];
        let agree =
            |rows: &Rows, two: &[(Place, Standing)]| agreed(by_rule(RowRule::LastWriterWins), rows, two).unwrap();
        assert_eq!(agree(&rows, &two), [Some(row(&[1, 3, 0])), Some(row(&[2, 7, 0]))]);
        // A third one has the value by now.
        let three = [two[0].clone(), two[1].clone(), (place(0, 3), stands(&[3, 3, 0], Side::A, 6))];
        assert_eq!(agree(&rows, &three), [None, Some(row(&[2, 7, 0])), Some(row(&[3, 3, 0]))]);
        // What was added to it counts.
        let additive = Some(super::super::policy::ColumnRule::Additive { floor: None });
        let policy = Policy { columns: vec![None, None, additive], ..by_rule(RowRule::LastWriterWins) };
        assert_eq!(agreed(policy, &rows, &two).unwrap()[0], Some(row(&[1, 3, 4])));
    }

    #[test]
    fn a_row_that_is_referred_to_comes_back_or_what_refers_goes() {
        let mut rows = Rows::default();
        rows[Side::A].insert(place(0, 1), Some(row(&[1, 7, 0])));
        let two = [(place(0, 1), gone(Side::B, 9)), (place(1, 5), stands(&[5, 1], Side::A, 5))];
        let restored = agreed(with(ForeignKeyRule::RestoreParent), &rows, &two).unwrap();
        assert_eq!(restored, [Some(row(&[1, 7, 0])), Some(row(&[5, 1]))]);
        assert_eq!(agreed(with(ForeignKeyRule::DeleteChild), &rows, &two).unwrap(), [None, None]);
        let held = agreed(with(ForeignKeyRule::Quarantine), &rows, &two).unwrap_err();
        assert_eq!((held.keys.len(), held.error.code()), (2, Code::ReferenceBroken));
        assert!(held.error.message().contains("t1 key (5) refers by \"of\" to t0 key (1)"), "{}", held.error);
        // There is nothing to put back, and nothing was removed.
        for rule in [ForeignKeyRule::RestoreParent, ForeignKeyRule::DeleteChild] {
            assert!(agreed(with(rule), &Rows::default(), &two).is_err());
        }
        let refers_to_none = [(place(0, 1), gone(Side::B, 9)), (place(1, 5), stands(&[5, -1], Side::A, 5))];
        assert_eq!(agreed(with(ForeignKeyRule::Quarantine), &rows, &refers_to_none).unwrap()[0], None);
    }
}
