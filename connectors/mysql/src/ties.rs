//! Unique constraints and foreign keys: what the catalogs say of them, and who is tied to whom.
//!
//! The server checks no foreign key of what the bridge writes (`foreign_key_checks = 0`; both manuals, "FOREIGN KEY
//! Constraints"; cascades are off with it), so the bridge looks itself, in the transaction that has written:
//!
//! * A row that refers to another takes a shared lock on that one, as the server's own check does: who removes it waits
//!   until this transaction has ended, and then sees the row that refers. At READ COMMITTED the lock of a row that a
//!   condition leaves out is given back, so the condition is none: what is there is counted.
//! * Who has removed a row looks in a new statement for rows that refer to it. One that was inserted meanwhile held that
//!   lock, so the removal waited for it, and at READ COMMITTED the new statement sees it.
//!
//! A unique index over an expression or a part of a value is no constraint here: what it refuses is refused like by any
//! other constraint.

use std::collections::{HashMap, HashSet};

use pontoon_core::{
    Key, Result, Row, TableName, TableSchema, Value,
    schema::{ForeignKey, Reference, Ties, Unique, UniqueKey},
};

use crate::{
    catalog::{among, portions, table_name},
    connect::{Client, number, text},
    quote::Table,
    row_list::{ROWS_MAX, RowList},
    session::common,
    statement::TableSql,
};

/// Adds to tables what ties their rows.
pub(crate) async fn add(client: &mut Client, tables: &mut [Option<TableSchema>]) -> Result<()> {
    let names: Vec<TableName> = tables.iter().flatten().map(|table| table.name.clone()).collect();
    let mut ties: HashMap<TableName, Ties> = HashMap::new();
    for names in portions(&names) {
        add_uniques(client, names, &mut ties).await?;
    }
    if !names.is_empty() {
        add_references(client, &names, &mut ties).await?;
    }
    for table in tables.iter_mut().flatten() {
        table.ties = ties.remove(&table.name).unwrap_or_default();
    }
    Ok(())
}

async fn add_uniques(client: &mut Client, names: &[TableName], found: &mut HashMap<TableName, Ties>) -> Result<()> {
    let parts = client
        .rows(format!(
            "SELECT table_schema, table_name, index_name, column_name, sub_part FROM information_schema.statistics \
             WHERE non_unique = 0 AND index_name <> 'PRIMARY' AND {} \
             ORDER BY table_schema, table_name, index_name, seq_in_index",
            among("table_schema", "table_name", names)
        ))
        .await?;
    let mut partial: Vec<(TableName, Box<str>)> = Vec::new();
    for row in &parts {
        let (Some(table), Some(name)) = (table_name(row), text(row, 2)) else { continue };
        let name: Box<str> = name.into();
        // A part that is an expression has no column.
        match text(row, 3).filter(|_| text(row, 4).is_none()) {
            Some(column) => {
                let uniques = &mut found.entry(table).or_default().uniques;
                match uniques.last_mut().filter(|last| last.name == name) {
                    Some(last) => last.columns.push(column.into()),
                    None => uniques.push(UniqueKey { name, columns: vec![column.into()] }),
                }
            }
            None => partial.push((table, name)),
        }
    }
    for (table, name) in partial {
        found.entry(table).or_default().uniques.retain(|unique| unique.name != name);
    }
    Ok(())
}

/// All references of the server are looked at once: who refers to a table is known to no list by that table's name.
async fn add_references(client: &mut Client, names: &[TableName], found: &mut HashMap<TableName, Ties>) -> Result<()> {
    const SQL: &str = "SELECT table_schema, table_name, referenced_table_schema, referenced_table_name, constraint_name, \
        column_name, referenced_column_name FROM information_schema.key_column_usage \
        WHERE referenced_table_name IS NOT NULL ORDER BY table_schema, table_name, constraint_name, ordinal_position";
    let names: HashSet<&TableName> = names.iter().collect();
    for row in &client.rows(SQL).await? {
        let (Some(child), Some(parent)) = (table_name(row), row.get(2..).and_then(table_name)) else { continue };
        if !names.contains(&child) && !names.contains(&parent) {
            continue;
        }
        let [name, own, other] = [4, 5, 6].map(|at| text(row, at).unwrap_or_default().into_boxed_str());
        let references = &mut found.entry(child.clone()).or_default().references;
        if let Some(last) = references.last_mut().filter(|last| last.name == name) {
            last.columns.push(own);
            last.parent_columns.push(other);
            continue;
        }
        let (columns, parent_columns) = (vec![own], vec![other]);
        found.entry(parent.clone()).or_default().referrers.push((child.clone(), name.clone()));
        let foreign = ForeignKey { name, columns, parent, parent_columns, over_period: false };
        found.entry(child).or_default().references.push(foreign);
    }
    Ok(())
}

/// For each row, the key of the one that has its values in a unique constraint's columns.
pub(crate) async fn holders(
    client: &mut Client,
    sql: &TableSql,
    unique: &Unique,
    rows: &[Row],
) -> Result<Vec<Option<Key>>> {
    let mut holders = Vec::with_capacity(rows.len());
    // One at a time: which of several was found, the server's collation knows alone, and few are ever asked for.
    for row in rows {
        let found = match sql.by_unique(unique, row) {
            Some(statement) => client.rows(statement).await?.pop(),
            None => None,
        };
        holders.push(found.map(|row| sql.table.key_of(&common(row, sql))));
    }
    Ok(holders)
}

/// Which rows of these keys refer to one that is not there; the others' are locked.
pub(crate) async fn orphans(
    client: &mut Client,
    (child, parent): (&TableSql, &TableSql),
    reference: &Reference,
    keys: &[Key],
) -> Result<Vec<Key>> {
    let mut orphans = Vec::new();
    for keys in keys.chunks(ROWS_MAX) {
        let Some(count) = child.referring(parent, reference, keys) else { continue };
        let rows = client.rows(count).await?;
        let of = |at| rows.first().and_then(|row| number::<u64>(row, at));
        if of(0) == of(1) {
            continue;
        }
        let Some(look) = child.orphans(parent, reference, keys) else { continue };
        let found = client.rows(look).await?;
        orphans.extend(found.into_iter().map(|row| child.table.key_of(&common(row, child))));
    }
    Ok(orphans)
}

/// Rows that refer to what these rows of the parent were, where none is that any more.
pub(crate) async fn children(
    client: &mut Client,
    (child, parent): (&TableSql, &TableSql),
    reference: &Reference,
    parents: &[Row],
    limit: usize,
) -> Result<Vec<Key>> {
    let mut children = Vec::new();
    for parents in parents.chunks(ROWS_MAX) {
        let Some(statement) = child.children(parent, reference, parents, limit - children.len()) else { continue };
        let found = client.rows(statement).await?;
        children.extend(found.into_iter().map(|row| child.table.key_of(&common(row, child))));
    }
    Ok(children)
}

impl TableSql {
    /// Reads the row that has the values of this one in a unique constraint's columns. `None` where no row can.
    fn by_unique(&self, unique: &Unique, row: &Row) -> Option<String> {
        // A null meets nothing, and alone in a list it has no character set.
        if unique.columns.iter().any(|&at| row.0[at] == Value::Null) {
            return None;
        }
        let mut list = RowList::new(self.flavour, unique.columns.len());
        list.push(unique.columns.iter().map(|&at| (&row.0[at], &self.columns[at]))).ok()?;
        let on = unique.columns.iter().enumerate().map(|(place, &at)| {
            let (column, listed) = (&self.columns[at], format!("r.c{place}"));
            column.by_index(&listed).unwrap_or_else(|| column.same(&listed, self))
        });
        let on = on.collect::<Vec<_>>().join(" AND ");
        Some(format!("SELECT {} FROM {} STRAIGHT_JOIN {} ON {on}", self.fields(), list.table(), self.from()))
    }

    /// Counts the rows of these keys that refer to any row, and those whose row is there, and locks that.
    fn referring(&self, parent: &TableSql, reference: &Reference, keys: &[Key]) -> Option<String> {
        let list = self.keys(keys)?;
        let (on, refers) = (self.found_by(|place| format!("r.c{place}")), self.refers(parent, reference));
        let first = reference.parent_columns.first().map(|&at| &*parent.columns[at].name)?;
        Some(format!(
            "SELECT COUNT(*), COUNT(p.{first}) FROM {} STRAIGHT_JOIN {} ON {on} LEFT JOIN {} AS p ON {refers} \
             WHERE {} LOCK IN SHARE MODE",
            list.table(),
            self.from(),
            Table(&parent.table.name),
            self.not_null(reference)
        ))
    }

    /// Reads the rows of these keys that refer to one that is not there.
    fn orphans(&self, parent: &TableSql, reference: &Reference, keys: &[Key]) -> Option<String> {
        let list = self.keys(keys)?;
        let (on, refers) = (self.found_by(|place| format!("r.c{place}")), self.refers(parent, reference));
        Some(format!(
            "SELECT {} FROM {} STRAIGHT_JOIN {} ON {on} WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {refers})",
            self.fields(),
            list.table(),
            self.from(),
            self.not_null(reference),
            Table(&parent.table.name)
        ))
    }

    /// Reads the rows that refer to what these rows of the parent were, where none is that any more.
    fn children(&self, parent: &TableSql, reference: &Reference, parents: &[Row], limit: usize) -> Option<String> {
        let mut list = RowList::new(self.flavour, reference.columns.len());
        let is_null = |row: &&Row| reference.parent_columns.iter().any(|&at| row.0[at] == Value::Null);
        for row in parents.iter().filter(|row| !is_null(row)) {
            let pairs = reference.columns.iter().zip(&reference.parent_columns);
            // A value that this column cannot hold is referred to by none.
            let _ = list.push(pairs.map(|(&at, &parent_at)| (&row.0[parent_at], &self.columns[at])));
        }
        let on = reference.columns.iter().enumerate().map(|(place, &at)| {
            let column = &self.columns[at];
            format!("t.{} = {}", column.name, column.as_own(&format!("r.c{place}")))
        });
        let on = on.collect::<Vec<_>>().join(" AND ");
        (!list.is_empty()).then(|| {
            format!(
                "SELECT {} FROM {} STRAIGHT_JOIN {} ON {on} \
                 WHERE NOT EXISTS (SELECT 1 FROM {} AS p WHERE {}) LIMIT {limit}",
                self.fields(),
                list.table(),
                self.from(),
                Table(&parent.table.name),
                self.refers(parent, reference)
            )
        })
    }

    /// The row `t` refers to `p`.
    fn refers(&self, parent: &TableSql, reference: &Reference) -> String {
        let pairs = reference.columns.iter().zip(&reference.parent_columns);
        let pairs =
            pairs.map(|(&at, &other)| format!("p.{} = t.{}", parent.columns[other].name, self.columns[at].name));
        pairs.collect::<Vec<_>>().join(" AND ")
    }

    fn not_null(&self, reference: &Reference) -> String {
        let columns = reference.columns.iter().map(|&at| format!("t.{} IS NOT NULL", self.columns[at].name));
        columns.collect::<Vec<_>>().join(" AND ")
    }
}
