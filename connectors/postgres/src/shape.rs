//! The shapes of the mapped tables when a log was opened, against which the log's own Relation messages
//! are held.
//!
//! A Relation tells the shape as of its place in the log. That of a transaction which commits before the place where
//! the shapes were loaded may be older: a schema change that is already part of what was loaded must pass. A column that was added since holds, in
//! rows that were there, the constant that the server keeps for them, or null ("Modifying Tables: Adding a Column" in the manual;
//! `getmissingattr` of heaptuple.c); where neither is so the row itself has to be asked
//! ([`pontoon_core::Change::reshaped`]), and so it has where the columns stood in another order, since a column that is dropped and added
//! again under its name moves to the end; where it was the last one it stands where it stood, and what tells of it is its number, which no column
//! has twice: one behind a number that is free was added since, and by whom says whether the log may hold rows of before ([`COLUMNS`]);
//! where one is gone and another new, which may be one under two names; and where a column had another type, since
//! `ALTER COLUMN ... TYPE ... USING` makes anything of its values. But what a change did to a single column the row does not tell, so where columns have rules a
//! name of before is refused, and a value of before is read as text: an integer of another width has the same, and what cannot be
//! read becomes unmapped. A column that is gone is of no interest. Of a transaction that commits later the shape must be exactly what was loaded.

use std::collections::HashMap;

use pontoon_core::{Code, Error, MappedTable, Result, TableName, Value, node::Tables, schema::are_in_another_order};
use tokio_postgres::{Client, types::PgLsn};

use crate::{
    catalog::{self, get, text},
    decode, error,
    log::pgoutput::{Relation, RelationColumn},
};

/// A column's name, type and modifier.
type ShapeColumn = (String, u32, i32);

/// One table's shape.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    oid: u32,
    columns: Vec<ShapeColumn>,
    /// What rows hold in a column that were there when it was added, as text; nothing of columns of which nobody can tell.
    added: HashMap<String, Option<String>>,
    /// Columns may have been added under the names of others since the log's beginning, in their places.
    renewed: bool,
}

/// The shapes of a bridge's tables, by the place of the table.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    shapes: Vec<Shape>,
    by_name: HashMap<TableName, usize>,
    /// Where the log ended just before they were read.
    pub(crate) loaded_at: u64,
    /// Where it ended when they had been read.
    read_at: u64,
}

/// What is known of the table of a Relation, for all rows that follow it.
#[derive(Debug)]
pub(crate) struct Told {
    /// The table's place.
    pub(crate) table: usize,
    /// How its rows are read; `None` if they are not.
    pub(crate) layout: Option<Layout>,
    /// Why a transaction with such rows cannot be passed on, and whether only if it commits after the shapes were
    /// loaded.
    pub(crate) changed: Option<(Error, bool)>,
}

/// How the values of a Relation's rows become a row of the pair.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The place in the pair of each column of the log, `None` for one that is not mapped.
    pub(crate) places: Vec<Option<u16>>,
    /// What stands in the columns that were added since.
    pub(crate) added: Vec<(usize, Value)>,
    /// The row itself is to be asked ([`pontoon_core::Change::reshaped`]).
    pub(crate) reshaped: bool,
    /// Why only the bridge's own rows may be read by it: these have the shape of before, and of them the key is
    /// enough.
    pub(crate) former: Option<Error>,
}

/// With what rows hold that were there when the column was added: the constant that the server keeps for them
/// (`attmissingval`, until the table is written anew), or null where nothing was given. A table that was written anew may have had
/// such a constant, or a default that was computed row by row and is gone: its file has another number than at first.
///
/// And with which columns may have been added under the name of one that was dropped, while the slot's log was written: their numbers
/// are behind one that is free (none is given again: `ATExecAddColumn` of tablecmds.c), and the transaction that wrote their
/// entry had not ended when the slot's log begins. For none below `catalog_xmin` was under way at the place that was confirmed
/// (`LogicalIncreaseXminForSlot` of logical.c), and rows of before were committed before the change, which waits for all who
/// wrote to the table. Another change of the entry looks the same, and costs no more than a question for each row.
const COLUMNS: &str = "SELECT n.nspname::text, c.relname::text, c.oid, a.attname::text, a.atttypid, a.atttypmod,
        (a.attmissingval::text::text[])[1],
        a.atthasmissing OR pg_relation_filenode(c.oid) IS NOT DISTINCT FROM c.oid
            AND NOT (a.attnotnull OR a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL),
        coalesce(age(a.xmin) <= age(s.catalog_xmin), false) AND EXISTS (SELECT FROM pg_attribute gone
            WHERE gone.attrelid = a.attrelid AND gone.attisdropped AND gone.attnum BETWEEN 1 AND a.attnum)
    FROM unnest($1::text[], $2::text[]) AS want(nspname, relname)
    JOIN pg_namespace n ON n.nspname = want.nspname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = want.relname AND c.relkind IN ('r', 'p')
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_replication_slots s ON s.slot_name = $3
    ORDER BY a.attnum";

impl Shapes {
    /// Of one table, by its number in the log.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of(oid: u32, name: TableName, columns: Vec<ShapeColumn>) -> Shapes {
        Shapes {
            shapes: vec![Shape { oid, columns, added: HashMap::new(), renewed: false }],
            by_name: HashMap::from([(name, 0)]),
            loaded_at: 0,
            read_at: 0,
        }
    }

    /// Reads them. Errors: schema changed, where a table is not what the engine has loaded before.
    pub(crate) async fn load(client: &Client, slot: &str, tables: &Tables, loaded_at: u64) -> Result<Shapes> {
        let names: Vec<_> = tables.iter().map(|table| catalog::with_schema(&table.name)).collect();
        let (schemas, relations) = catalog::split(&names);
        let rows = client.query(COLUMNS, &[&schemas, &relations, &slot]).await;
        let rows = rows.map_err(|error| error::of_statement(&error))?;
        let mut found: HashMap<TableName, Shape> = HashMap::new();
        for row in &rows {
            let (name, oid) = (TableName::new(text(row, 0)?, text(row, 1)?), get(row, 2)?);
            let new = || Shape { oid, columns: Vec::new(), added: HashMap::new(), renewed: false };
            let shape = found.entry(name).or_insert_with(new);
            if get(row, 7)? {
                shape.added.insert(text(row, 3)?, get(row, 6)?);
            }
            shape.renewed |= get::<bool>(row, 8)?;
            shape.columns.push((text(row, 3)?, get(row, 4)?, get(row, 5)?));
        }
        let described = catalog::describe(client, &names).await?;
        let mut shapes = Vec::with_capacity(tables.len());
        for ((table, name), now) in tables.iter().zip(&names).zip(described) {
            let (Some(shape), Some(now)) = (found.remove(name), now) else {
                return Err(changed(table, "it is not there any more"));
            };
            for mapped in &table.columns {
                if now.column(&mapped.column.name).is_none_or(|column| column.native != mapped.column.native) {
                    return Err(changed(table, &format!("column {:?} is not what it was", mapped.column.name)));
                }
            }
            if let Some(name) = table.new_column(&now) {
                return Err(changed(table, &format!("column {name:?} is new")));
            }
            shapes.push(shape);
        }
        let by_name = names.into_iter().enumerate().map(|(at, name)| (name, at)).collect();
        let now = client.query_one("SELECT pg_current_wal_insert_lsn()", &[]).await;
        let now = now.map_err(|error| error::of_statement(&error))?;
        let read_at = get::<PgLsn>(&now, 0)?.into();
        Ok(Shapes { shapes, by_name, loaded_at, read_at })
    }

    /// Whether the values of a transaction that commits at `lsn` may be those of a former column of the same name in the same place.
    pub(crate) fn are_of_before(&self, table: usize, lsn: u64) -> bool {
        self.shapes[table].renewed && lsn < self.read_at
    }

    /// The tables whose changes are wanted, by place and number.
    pub(crate) fn followed(&self, tables: &Tables) -> Vec<(usize, u32)> {
        let pairs = self.shapes.iter().zip(tables.iter()).enumerate();
        pairs.filter(|(_, (_, table))| table.followed).map(|(at, (shape, _))| (at, shape.oid)).collect()
    }

    /// What to do with the rows of a Relation: `None` if its table is not mapped.
    pub(crate) fn told(&self, relation: &Relation<'_>, tables: &Tables) -> Option<Told> {
        let schema = if relation.schema.is_empty() { "pg_catalog" } else { relation.schema };
        let name = TableName::new(schema, relation.name);
        let Some(&at) = self.by_name.get(&name) else {
            // A table of another name with a mapped one's number: renamed since.
            let at = self.shapes.iter().position(|shape| shape.oid == relation.id)?;
            let error = changed(&tables[at], &format!("it is called {name} now"));
            return Some(Told { table: at, layout: None, changed: Some((error, true)) });
        };
        let table = &tables[at];
        let differs = difference(&self.shapes[at].columns, relation).map(|text| (changed(table, &text), true));
        match layout(relation, table, &self.shapes[at]) {
            Ok(layout) => Some(Told { table: at, layout: Some(layout), changed: differs }),
            Err(error) => Some(Told { table: at, layout: None, changed: Some((error, false)) }),
        }
    }
}

/// Errors: schema changed, where not even the key can be read.
fn layout(relation: &Relation<'_>, table: &MappedTable, shape: &Shape) -> Result<Layout> {
    let names = relation.columns.iter().map(|column| column.name);
    let reshaped = are_in_another_order(names, shape.columns.iter().map(|(name, ..)| name.as_str()));
    let mut layout = Layout { places: Vec::new(), added: Vec::new(), reshaped, former: None };
    layout.places = relation.columns.iter().map(|column| read_at(column, table, shape)).collect();
    // One that is gone may be one that is new, under another name: then its values are not to be lost.
    let only_added = relation.columns.iter().all(|column| shape.columns.iter().any(|(name, ..)| name == column.name));
    for (place, mapped) in table.columns.iter().enumerate() {
        if layout.places.iter().flatten().any(|&known| usize::from(known) == place) {
            continue;
        }
        let name = &*mapped.column.name;
        let error = changed(table, &format!("column {name:?} is not in the log"));
        if table.key.contains(&place) {
            return Err(error);
        }
        if !only_added && table.by_columns {
            layout.former.get_or_insert(error);
            continue;
        }
        let is_there = relation.columns.iter().any(|column| column.name == name);
        let added = shape.added.get(name).filter(|_| only_added && !is_there);
        layout.reshaped |= added.is_none();
        let text = added.and_then(Option::as_deref);
        layout.added.push((place, text.map_or(Value::Null, |text| decode::common(mapped, text.as_bytes()))));
    }
    Ok(layout)
}

/// The place that a column of the log is read into, if it is. One of another type is not: what was made of its values, by whatever expression, the
/// row tells. Of the key, and where columns have rules, the text is taken for what it was: an integer of another width.
fn read_at(column: &RelationColumn<'_>, table: &MappedTable, shape: &Shape) -> Option<u16> {
    let place = table.place(column.name)?;
    let is_as_it_was = |(name, oid, _): &ShapeColumn| name == column.name && *oid == column.type_oid;
    let is_read = table.by_columns || table.key.contains(&place) || shape.columns.iter().any(is_as_it_was);
    u16::try_from(place).ok().filter(|_| is_read)
}

/// In which column a Relation differs, if in any.
fn difference(expected: &[ShapeColumn], relation: &Relation<'_>) -> Option<String> {
    let found = |name: &str| relation.columns.iter().find(|column| column.name == name);
    for (name, oid, typmod) in expected {
        match found(name) {
            None => return Some(format!("column {name:?} is gone")),
            Some(column) if (column.type_oid, column.typmod) != (*oid, *typmod) => {
                return Some(format!("column {name:?} has another type"));
            }
            Some(_) => {}
        }
    }
    let new = relation.columns.iter().find(|column| !expected.iter().any(|(name, ..)| name == column.name));
    new.map(|column| format!("column {:?} is new", column.name))
}

fn changed(table: &MappedTable, text: &str) -> Error {
    Error::new(Code::SchemaChanged, format!("table {}: {text}", table.name))
        .hint("make the same change on the other side and start pontoon again: it goes on where it stopped")
        .of_table(&table.label)
}
