//! Who has the unique values of a row that a database refuses.

use std::collections::BTreeSet;

use pontoon_core::{
    Error, Result, Row,
    node::{Session, Tables},
};

use super::{
    refused::Refusal,
    settle::{Settler, TIED_MAX},
};
use crate::direction::plan::Place;

/// Whether a row is refused by a unique constraint of a mapped table.
pub(crate) fn is_unique(tables: &Tables, refused: &Error) -> bool {
    refused.constraint().is_some_and(|said| tables.iter().any(|table| table.unique_named(said).is_some()))
}

/// The keys that have the values of these rows by which they were refused, the rows' own not among them. `None` where
/// the error is about no unique constraint of their tables.
async fn of(
    session: &mut dyn Session,
    tables: &Tables,
    refused: &Error,
    rows: &[(&Place, &Row)],
) -> Result<Option<BTreeSet<Place>>> {
    let Some(constraint) = refused.constraint() else { return Ok(None) };
    let mut found: Option<BTreeSet<Place>> = None;
    for table in tables.iter() {
        let Some(unique) = table.unique_named(constraint) else { continue };
        let rows: Vec<_> = rows.iter().filter(|(place, _)| place.0 == table.id).collect();
        if rows.is_empty() {
            continue;
        }
        let values: Vec<Row> = rows.iter().map(|(_, row)| (*row).clone()).collect();
        let holders = session.holders(table.id, unique, &values).await?;
        let others = rows.iter().zip(holders).filter_map(|((place, _), holder)| holder.filter(|key| *key != place.1));
        found.get_or_insert_default().extend(others.map(|key| (table.id, key)));
    }
    Ok(found)
}

impl Settler {
    /// The keys of rows that have the unique values of those that are refused, and are not among these. `None`: no
    /// such key is why.
    pub(super) async fn tied(&mut self, keys: &BTreeSet<Place>, refusal: &Refusal) -> Result<Option<BTreeSet<Place>>> {
        let (side, error) = refusal.by();
        let tables = self.shared.tables[side].clone();
        if !is_unique(&tables, error) || keys.len() >= TIED_MAX {
            return Ok(None);
        }
        let session = self.session(side)?;
        session.begin(None).await?;
        let found = of(session.as_mut(), &tables, error, &refusal.rows()).await?;
        session.rollback().await?;
        let mut more = found.unwrap_or_default();
        more.retain(|place| !keys.contains(place));
        Ok((!more.is_empty()).then_some(more))
    }
}
