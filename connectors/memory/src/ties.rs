//! Unique constraints and foreign keys of a simulated database.
//!
//! Applications are held to both, as on a real server: a value that another transaction has under way is waited for, a
//! row that is referred to is locked. A bridge's session is held to unique constraints alone, each statement of it.

use std::collections::BTreeMap;

use pontoon_core::{Code, Error, Key, Result, Row, TableId, Value, node::Tables, schema::Unique};

use crate::database::{Database, LoggedChange, Place};

/// A value of a unique constraint: the table, the constraint's place, the values.
pub(crate) type UniqueValue = (TableId, usize, Key);

/// Rows as a transaction sees them.
pub(crate) type Seen = BTreeMap<Place, Row>;

/// The rows of the table that have the same values as this one, itself included.
pub(crate) fn holders<'a>(
    seen: &'a Seen,
    table: TableId,
    unique: &'a Unique,
    row: &'a Row,
) -> impl Iterator<Item = &'a Place> {
    let same = move |(place, other): &(&Place, &Row)| place.0 == table && unique.ties(other, row);
    seen.iter().filter(same).map(|(place, _)| place)
}

/// Whether a row refers by a foreign key to one that is not there.
pub(crate) fn is_orphan(seen: &Seen, tables: &Tables, (table, reference): (TableId, usize), row: &Row) -> bool {
    let Some(reference) = tables.get(table.index()).and_then(|table| table.references.get(reference)) else {
        return false;
    };
    let mut parents = seen.iter().filter(|(place, _)| place.0 == reference.parent);
    reference.refers(row) && !parents.any(|(_, parent)| reference.is_to(row, parent))
}

/// Whether any row refers to this place.
fn refers_to(seen: &Seen, tables: &Tables, place: &Place) -> bool {
    let Some(parent) = tables.get(place.0.index()) else { return false };
    seen.iter().any(|((table, _), row)| {
        let references = tables.get(table.index()).into_iter().flat_map(|table| &table.references);
        let mut to_parent = references.filter(|reference| reference.parent == place.0);
        to_parent.any(|reference| reference.parent_of(row, parent).as_ref() == Some(&place.1))
    })
}

impl Database {
    /// Puts the constraints of tables in force.
    pub fn declare(&self, tables: Tables) {
        self.inner().tables = Some(tables);
    }

    /// All rows, as a transaction sees them that has written these.
    pub(crate) fn seen<'a>(&self, writes: impl IntoIterator<Item = (&'a Place, &'a Option<Row>)>) -> Seen {
        let mut seen = self.inner().rows.clone();
        for (place, row) in writes {
            match row {
                Some(row) => seen.insert(place.clone(), row.clone()),
                None => seen.remove(place),
            };
        }
        seen
    }

    /// Takes the values of a row that comes, goes or changes: nobody else gets them until the transaction has ended.
    pub(crate) async fn lock_values(
        &self,
        transaction: u64,
        tables: &Tables,
        place: &Place,
        rows: [Option<&Row>; 2],
    ) -> Result<()> {
        let uniques = tables.get(place.0.index()).map_or(&[][..], |table| &table.uniques);
        for (at, unique) in uniques.iter().enumerate() {
            let values = |row: &Row| Key(unique.columns.iter().map(|&at| row.0[at].clone()).collect());
            let [before, after] = rows.map(|row| row.map(values));
            if before == after {
                continue;
            }
            for values in [before, after].into_iter().flatten().filter(|values| !values.0.contains(&Value::Null)) {
                let value = (place.0, at, values);
                self.wait_for(|inner| match inner.values.get(&value) {
                    Some(&owner) if owner != transaction => None,
                    _ => Some(inner.values.insert(value.clone(), transaction)),
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Whether a row can live beside the others. Errors: no, by which constraint.
    pub(crate) fn ensure_unique(&self, seen: &Seen, tables: &Tables, place: &Place, row: &Row) -> Result<()> {
        let Some(table) = tables.get(place.0.index()) else { return Ok(()) };
        for unique in &table.uniques {
            if holders(seen, place.0, unique, row).any(|holder| holder != place) {
                let message = format!("{}: the unique constraint {}", self.name, unique.name);
                return Err(Error::new(Code::RowRefused, message).by_constraint(Some(unique.name.to_string())));
            }
        }
        Ok(())
    }

    /// Whether an application's transaction leaves every constraint as it has to be. Errors: no; a lock time-out.
    pub(crate) async fn ensure_tied(&self, transaction: u64, changes: &[LoggedChange]) -> Result<()> {
        let Some(tables) = self.inner().tables.clone() else { return Ok(()) };
        for change in changes {
            let rows = [change.before.as_ref(), change.after.as_ref()];
            self.lock_values(transaction, &tables, &change.place, rows).await?;
            self.lock_parents(transaction, &tables, changes, change).await?;
        }
        let seen = self.seen(changes.iter().map(|change| (&change.place, &change.after)));
        for change in changes {
            if let Some(row) = &change.after {
                self.ensure_unique(&seen, &tables, &change.place, row)?;
            }
        }
        let broken = |change: &LoggedChange| match (&change.before, &change.after) {
            (_, Some(row)) => {
                let references = tables.get(change.place.0.index()).map_or(0, |table| table.references.len());
                (0..references).any(|reference| is_orphan(&seen, &tables, (change.place.0, reference), row))
            }
            (Some(_), None) => refers_to(&seen, &tables, &change.place),
            (None, None) => false,
        };
        if changes.iter().any(broken) {
            return Err(Error::new(Code::RowRefused, format!("{}: a foreign key", self.name)));
        }
        Ok(())
    }

    /// Locks what a row refers to.
    async fn lock_parents(
        &self,
        transaction: u64,
        tables: &Tables,
        changes: &[LoggedChange],
        change: &LoggedChange,
    ) -> Result<()> {
        let Some(table) = tables.get(change.place.0.index()) else { return Ok(()) };
        let Some(row) = &change.after else { return Ok(()) };
        for reference in &table.references {
            let Some(parent) = tables.get(reference.parent.index()) else { continue };
            let Some(key) = reference.parent_of(row, parent) else { continue };
            let place = (reference.parent, key);
            if !changes.iter().any(|change| change.place == place) {
                self.lock_row(transaction, &place).await?;
            }
        }
        Ok(())
    }
}
