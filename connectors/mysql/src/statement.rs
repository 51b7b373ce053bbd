//! The SQL that reads and writes a mapped table. Pure: text in, text out.
//!
//! A set of rows is joined as a row list with the table, the list first and the table found by its
//! primary key (`STRAIGHT_JOIN`; tried: one lookup per row on both servers, ten times as fast as a
//! statement per row). The list is a table value constructor: MySQL names its columns in the alias,
//! MariaDB only in a common table expression.
//!
//! Equality is that of the common form ([`pontoon_core::Form`]), never the column's own: text by its
//! bytes, whatever the collation says; what is more precise than the form is cut as
//! [`pontoon_core::Form::convert`] cuts; JSON by value. Keys are compared by the column's own rules
//! first, so that the index serves, and then exactly.
//!
//! What is as large as the data is in [`crate::row_list`].

use std::{borrow::Borrow, sync::Arc};

use pontoon_core::{
    Form, Key, Kind, Leeway, MappedTable, Row, Span, Value,
    node::{Sum, TableBatch, UpdateGroup},
};

use crate::{
    catalog::NativeTable,
    connect::Flavour,
    encode,
    quote::{Ident, Table},
    row_list::{BYTES_MAX, Expecting, Impossible, Large, Listed, ROWS_MAX, RowList, in_list},
    version::Server,
};

/// Why a statement is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmade {
    /// A row that is to be there cannot be.
    NotThere,
    /// A value that is to be written has no literal.
    NoLiteral,
}

/// A mapped table with all that its SQL depends on.
pub(crate) struct TableSql {
    /// The mapping.
    pub(crate) table: MappedTable,
    /// The mapped key is the primary key.
    pub(crate) by_primary: bool,
    pub(crate) columns: Vec<ColumnSql>,
    /// Columns that the server sets by itself, and which of the mapped they are.
    moving: Vec<(String, Option<usize>)>,
    pub(crate) flavour: Flavour,
    json_equals: bool,
    /// Bytes of literals in one statement, unless a single row has more.
    bytes_max: usize,
}

pub(crate) struct ColumnSql {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    pub(crate) charset: String,
    collation: String,
    pub(crate) is_uuid: bool,
    pub(crate) leeway: Option<Arc<Leeway>>,
}

impl TableSql {
    /// Of a mapped table and what the server says of it.
    pub(crate) fn new(table: &MappedTable, native: &NativeTable, server: &Server) -> TableSql {
        let columns = table.columns.iter().map(|mapped| {
            let found = native.column(&mapped.column.name);
            let text = |of: Option<&Box<str>>| of.map(|text| text.to_string()).unwrap_or_default();
            ColumnSql {
                name: Ident(&mapped.column.name).to_string(),
                kind: mapped.kind.clone(),
                form: mapped.form,
                charset: text(found.and_then(|native| native.charset.as_ref())),
                collation: text(found.and_then(|native| native.collation.as_ref())),
                leeway: mapped.leeway.clone(),
                is_uuid: found.is_some_and(|native| &*native.data_type == "uuid"),
            }
        });
        let moving = native.columns.iter().filter(|native| native.on_update);
        let moving = moving.map(|native| (Ident(&native.column.name).to_string(), table.place(&native.column.name)));
        let primary = native.key.iter().map(|&at| &*native.columns[at].column.name);
        TableSql {
            by_primary: primary.eq(table.key.iter().map(|&at| &*table.columns[at].column.name)),
            columns: columns.collect(),
            moving: moving.collect(),
            table: table.clone(),
            flavour: server.flavour,
            json_equals: server.has_json_equals(),
            bytes_max: BYTES_MAX.min(server.packet_bytes_max / 2),
        }
    }

    pub(crate) fn from(&self) -> String {
        format!("{} AS t", Table(&self.table.name))
    }

    /// What is selected to read rows back without loss.
    pub(crate) fn fields(&self) -> String {
        self.columns.iter().map(ColumnSql::field).collect::<Vec<_>>().join(", ")
    }

    /// Reads the rows of keys; locked where asked for. Keys that no row can have are left out.
    pub(crate) fn select(&self, keys: &[Key], lock: bool) -> Option<String> {
        let list = self.keys(keys)?;
        let on = self.found_by(in_list);
        let suffix = if lock { " FOR UPDATE" } else { "" };
        Some(format!("SELECT {} FROM {} STRAIGHT_JOIN {} ON {on}{suffix}", self.fields(), list.table(), self.from()))
    }

    /// Keys as rows; `None` where no row can have any of them.
    pub(crate) fn keys(&self, keys: &[Key]) -> Option<RowList> {
        let mut list = RowList::new(self.flavour, self.table.key.len());
        for key in keys {
            let values = key.0.iter().zip(&self.table.key).map(|(value, &at)| (value, &self.columns[at]));
            // A row that cannot be there is not looked for.
            let _ = list.push(values);
        }
        (!list.is_empty()).then_some(list)
    }

    /// Reads the first rows of a span in key order. A key that is cut, or has no literal, bounds none.
    pub(crate) fn chunk(&self, span: Span<'_>, limit: usize) -> Result<String, Impossible> {
        let (condition, order) = (self.within(span)?, self.key_columns().join(", "));
        Ok(format!("SELECT {} FROM {}{condition} ORDER BY {order} LIMIT {limit}", self.fields(), self.from()))
    }

    /// The key's columns in its order.
    pub(crate) fn key_columns(&self) -> Vec<String> {
        self.table.key.iter().map(|&at| format!("t.{}", self.columns[at].name)).collect()
    }

    /// The condition of a span, with a blank before it.
    pub(crate) fn within(&self, span: Span<'_>) -> Result<String, Impossible> {
        let mut conditions = Vec::new();
        for (key, strictly, last) in [(span.after, ">", ">"), (span.up_to, "<", "<=")] {
            if let Some(key) = key {
                conditions.push(self.beside(key, strictly, last).ok_or(Impossible)?);
            }
        }
        if conditions.is_empty() { Ok(String::new()) } else { Ok(format!(" WHERE {}", conditions.join(" AND "))) }
    }

    /// `a >= 1 AND (a > 1 OR a = 1 AND b > 2)`: the first part is there for the index. The last column is compared by an
    /// operator of its own.
    fn beside(&self, key: &Key, strictly: &str, last_operator: &str) -> Option<String> {
        let names = self.key_columns();
        let values: Option<Vec<String>> =
            key.0.iter().zip(&self.table.key).map(|(value, &at)| self.columns[at].ordered_literal(value)).collect();
        let values = values?;
        let cases = (0..names.len()).map(|last| {
            let equal = (0..last).map(|at| format!("{} = {}", names[at], values[at]));
            let operator = if last + 1 == names.len() { last_operator } else { strictly };
            let more = std::iter::once(format!("{} {operator} {}", names[last], values[last]));
            equal.chain(more).collect::<Vec<_>>().join(" AND ")
        });
        let cases = cases.collect::<Vec<_>>().join(" OR ");
        Some(format!("{} {strictly}= {} AND ({cases})", names.first()?, values.first()?))
    }

    /// The key by the index and exactly.
    pub(crate) fn found_by(&self, listed: impl Fn(usize) -> String) -> String {
        let parts = self.table.key.iter().enumerate().flat_map(|(place, &at)| {
            let column = &self.columns[at];
            let listed = listed(place);
            [column.by_index(&listed), Some(column.same(&listed, self))].into_iter().flatten()
        });
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// The whole row exactly but for what is not compared, the key by the index too.
    fn is_as(&self, sums: &[Sum], listed: Listed<'_>) -> String {
        let by_index = self.table.key.iter().filter_map(|&at| self.columns[at].by_index(&listed(at)));
        let compared = self.columns.iter().enumerate().filter(|(at, _)| self.is_compared(sums, *at));
        let same = compared.map(|(at, column)| column.same(&listed(at), self));
        by_index.chain(same).collect::<Vec<_>>().join(" AND ")
    }

    /// Whether a column has to be as before: the key's have in any case.
    fn is_compared(&self, sums: &[Sum], at: usize) -> bool {
        self.table.key.contains(&at) || Sum::spare(sums, at)
    }

    /// Removes rows that are exactly like this.
    fn deletes(&self, rows: &[Row]) -> Result<Vec<Expecting>, Impossible> {
        let rest = |listed: Listed<'_>| format!(" STRAIGHT_JOIN {} ON {}", self.from(), self.is_as(&[], listed));
        self.lists(rows.iter().map(|row| (row, None)), &[], &[], ("DELETE t FROM ", &rest))
    }

    /// The statements of a batch's deletes and updates, each made when it is asked for.
    pub(crate) fn changes<'a>(
        &'a self,
        batch: &'a TableBatch,
    ) -> impl Iterator<Item = Result<Expecting, Unmade>> + Send + 'a {
        let deletes = batch.deletes.chunks(ROWS_MAX).map(|rows| self.deletes(rows));
        let updates = batch
            .updates
            .iter()
            .flat_map(move |group| group.rows.chunks(ROWS_MAX).map(move |rows| self.updates(group, rows)));
        let each = |made: Result<Vec<Expecting>, Impossible>| match made {
            Ok(statements) => statements.into_iter().map(Ok).collect(),
            Err(Impossible) => vec![Err(Unmade::NotThere)],
        };
        deletes.chain(updates).flat_map(each)
    }

    /// The same of its inserts.
    pub(crate) fn inserted<'a>(
        &'a self,
        inserts: &'a [Row],
    ) -> impl Iterator<Item = Result<Expecting, Unmade>> + Send + 'a {
        self.inserts(inserts).map(|made| made.map_err(|Impossible| Unmade::NoLiteral))
    }

    /// Changes columns of rows of a group that are as before, and adds to others.
    fn updates(&self, group: &UpdateGroup, rows: &[(Row, Row)]) -> Result<Vec<Expecting>, Impossible> {
        let UpdateGroup { changed, sums, .. } = group;
        let written: Vec<usize> = changed.iter().copied().chain(group.added().map(|sum| sum.at)).collect();
        let rest = |listed: Listed<'_>| self.update(group, listed);
        self.lists(rows.iter().map(|(before, after)| (before, Some(after))), &written, sums, ("UPDATE ", &rest))
    }

    /// What stands behind the list of rows of an update.
    fn update(&self, group: &UpdateGroup, listed: Listed<'_>) -> String {
        let UpdateGroup { changed, sums, .. } = group;
        let width = self.columns.len();
        let (mut added, mut conditions) = (Vec::new(), vec![self.is_as(sums, listed)]);
        for (index, sum) in group.added().enumerate() {
            let own = format!("t.{}", self.columns[sum.at].name);
            // Exact, and an error of the server where it is more than the column holds.
            let total = format!("{own} + {}", listed(width + changed.len() + index));
            conditions.push(format!("{own} IS NOT NULL"));
            if let Some(floor) = sum.floor.as_ref().and_then(Value::exact_text) {
                conditions.push(format!("({own} < {floor} OR {total} >= {floor})"));
            }
            added.push(format!("{own} = {total}"));
        }
        let on = conditions.join(" AND ");
        let set = changed
            .iter()
            .enumerate()
            .map(|(index, &at)| format!("t.{} = {}", self.columns[at].name, listed(width + index)));
        let still = self.moving.iter().filter(|(_, place)| place.is_none_or(|place| !changed.contains(&place)));
        let still = still.map(|(name, _)| format!("t.{name} = t.{name}"));
        let set: Vec<String> = set.chain(added).chain(still).collect();
        format!(" STRAIGHT_JOIN {} ON {on} SET {}", self.from(), set.join(", "))
    }

    /// Statements with lists of rows, between what stands before the list and what stands behind it. A row with large values has one by itself.
    fn lists<'a>(
        &self,
        rows: impl Iterator<Item = (&'a Row, Option<&'a Row>)>,
        written: &[usize],
        sums: &[Sum],
        (verb, rest): (&str, &dyn Fn(Listed<'_>) -> String),
    ) -> Result<Vec<Expecting>, Impossible> {
        let mut statements = Vec::new();
        let width = self.columns.len() + written.len();
        let compared: Vec<bool> = (0..self.columns.len()).map(|at| self.is_compared(sums, at)).collect();
        let rest_of_all = rest(&in_list);
        let begun = || RowList::within(self.flavour, width, verb, &rest_of_all);
        let mut list = begun();
        for (before, after) in rows {
            // A place that is not compared is kept, and empty.
            let known = before.0.iter().zip(&compared).map(|(value, is)| if *is { value } else { &Value::Null });
            let known = known.zip(&self.columns);
            let new = after.into_iter().flat_map(|row| written.iter().map(|&at| (&row.0[at], &self.columns[at])));
            let values: Vec<_> = known.chain(new).collect();
            if values.iter().any(|(value, _)| Large::is(value)) {
                if !list.is_empty() {
                    statements.push(std::mem::replace(&mut list, begun()).statement());
                }
                statements.push(self.by_itself(&values, verb, rest)?);
            } else if let Some(full) = list.push_within(values.into_iter(), self.bytes_max)? {
                statements.push(full.statement());
            }
        }
        if !list.is_empty() {
            statements.push(list.statement());
        }
        Ok(statements)
    }

    /// The statement of one row some of whose values are large: these are null in its list, and variables where they are used.
    fn by_itself(
        &self,
        values: &[(&Value, &ColumnSql)],
        verb: &str,
        rest: &dyn Fn(Listed<'_>) -> String,
    ) -> Result<Expecting, Impossible> {
        let large: Vec<Option<Large>> = values.iter().map(|(value, _)| Large::of(value)).collect();
        let rest = rest(&|place| match large.get(place) {
            Some(Some(of)) => of.expression(large.iter().take(place).flatten().count()),
            _ => in_list(place),
        });
        let mut list = RowList::within(self.flavour, values.len(), verb, &rest);
        list.push(
            values.iter().map(|(value, column)| (if Large::is(value) { &Value::Null } else { *value }, *column)),
        )?;
        Ok(Expecting { large: large.into_iter().flatten().collect(), ..list.statement() })
    }

    /// The column of the first value that no statement can hold.
    pub(crate) fn without_literal(&self, rows: &[impl Borrow<Row>]) -> Option<&str> {
        let values = rows.iter().flat_map(|row| row.borrow().0.iter().zip(&self.table.columns));
        let mut none = values.filter(|(value, column)| !encode::push(&mut String::new(), value, &column.kind));
        none.next().map(|(_, column)| &*column.column.name)
    }

    /// Adds rows; a key that is there is an error of the server.
    /// One statement is made after the other.
    pub(crate) fn inserts<'a>(
        &'a self,
        rows: &'a [impl Borrow<Row>],
    ) -> impl Iterator<Item = Result<Expecting, Impossible>> {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let head = format!("INSERT INTO {} ({}) VALUES ", Table(&self.table.name), names.join(", "));
        let mut rows = rows.iter().map(Borrow::borrow);
        let mut list = RowList::after(head, self.columns.len());
        std::iter::from_fn(move || {
            for row in rows.by_ref() {
                match list.push_within(row.0.iter().zip(&self.columns), self.bytes_max) {
                    Ok(None) => {}
                    Ok(Some(full)) => return Some(Ok(full.statement())),
                    Err(Impossible) => return Some(Err(Impossible)),
                }
            }
            let last = std::mem::replace(&mut list, RowList::new(Flavour::Mariadb, self.columns.len()));
            (!last.is_empty()).then(|| Ok(last.statement()))
        })
    }
}

impl ColumnSql {
    /// What is selected to read it back without loss.
    pub(crate) fn field(&self) -> String {
        match self.kind {
            // As the double that it is: printed as FLOAT it has six digits.
            Kind::Float32 { .. } => format!("CAST(t.{} AS DOUBLE)", self.name),
            Kind::Boolean => format!("t.{} + 0", self.name),
            Kind::Bits { length } => format!("LPAD(BIN(t.{} + 0), {length}, '0')", self.name),
            _ => format!("t.{}", self.name),
        }
    }

    fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Text { .. })
    }

    /// A listed value in the column's own charset and collation, or type.
    pub(crate) fn as_own(&self, listed: &str) -> String {
        if self.is_uuid {
            format!("CAST({listed} AS UUID)")
        } else if !self.is_text() || self.collation.is_empty() {
            listed.to_owned()
        } else if self.charset == "utf8mb4" {
            format!("{listed} COLLATE {}", self.collation)
        } else {
            format!("CONVERT({listed} USING {}) COLLATE {}", self.charset, self.collation)
        }
    }

    /// The common form holds less than the column.
    fn is_cut(&self) -> bool {
        match (&self.kind, self.form) {
            (Kind::Time { precision, .. }, Form::Time { precision: form })
            | (Kind::DateTime { precision, .. }, Form::DateTime { precision: form })
            | (Kind::Instant { precision, .. }, Form::Instant { precision: form }) => form < *precision,
            (Kind::Float64 { .. }, Form::Float32) => true,
            _ => false,
        }
    }

    /// A condition that the index serves and that every equal row meets; `None` where there is none.
    pub(crate) fn by_index(&self, listed: &str) -> Option<String> {
        let cut = match (&self.kind, self.form) {
            _ if self.is_cut() || self.leeway.is_some() => true,
            // Upper and lower case are one UUID, and not one text.
            (Kind::Text { .. }, Form::Uuid) => !self.collation.ends_with("_ci"),
            (Kind::Json { .. } | Kind::Enum { .. } | Kind::Set { .. }, _) => true,
            _ => false,
        };
        (!cut).then(|| format!("t.{} = {}", self.name, self.as_own(listed)))
    }

    /// Whether the column is equal to a listed value in common form; null equals null.
    pub(crate) fn same(&self, listed: &str, table: &TableSql) -> String {
        let own = self.common(&format!("t.{}", self.name));
        match (&self.kind, self.form) {
            (Kind::Text { .. }, Form::Uuid) => {
                format!("CAST(LOWER(CONVERT({own} USING utf8mb4)) AS BINARY) <=> CAST({listed} AS BINARY)")
            }
            (Kind::Text { padded: false, .. }, Form::Text { padded: true }) => format!(
                "CAST(TRIM(TRAILING ' ' FROM CONVERT({own} USING utf8mb4)) AS BINARY) <=> CAST({listed} AS BINARY)"
            ),
            (Kind::Text { .. } | Kind::Enum { .. } | Kind::Set { .. }, _) => {
                // A conversion costs as much as the comparison, also where it changes nothing.
                let own = if self.charset == "utf8mb4" { own } else { format!("CONVERT({own} USING utf8mb4)") };
                format!("CAST({own} AS BINARY) <=> CAST({listed} AS BINARY)")
            }
            (Kind::Uuid, _) => format!("CAST({own} AS CHAR(36)) <=> {listed}"),
            (Kind::Float64 { .. }, Form::Float32) => format!("CAST({own} AS FLOAT) <=> {listed}"),
            (Kind::DateTime { precision, .. }, Form::DateTime { precision: form })
            | (Kind::Instant { precision, .. }, Form::Instant { precision: form })
                if form < *precision =>
            {
                let digits = if form == 0 { 19 } else { 20 + form };
                let cut = |of: &str| format!("LEFT(CAST({of} AS CHAR), {digits})");
                format!("{} <=> {}", cut(&own), cut(listed))
            }
            (Kind::Time { precision, .. }, Form::Time { precision: form }) if form < *precision => {
                let unit = 10_u32.pow(6 - u32::from(form.min(6)));
                let cut = |of: &str| {
                    format!(
                        "FLOOR((TRUNCATE(TIME_TO_SEC({of}), 0) * 1000000 \
                         + IF({of} < TIME'00:00:00', -1, 1) * MICROSECOND({of})) / {unit})"
                    )
                };
                format!("{} <=> {}", cut(&own), cut(listed))
            }
            (Kind::Json { .. }, _) => match table.flavour {
                // By way of text: a date within a document is the string that it is printed as.
                Flavour::Mysql => format!("CAST(CAST({own} AS CHAR) AS JSON) <=> CAST({listed} AS JSON)"),
                Flavour::Mariadb => {
                    let equal = if table.json_equals {
                        format!("JSON_EQUALS({own}, {listed})")
                    } else {
                        format!("JSON_CONTAINS({own}, {listed}) AND JSON_CONTAINS({listed}, {own})")
                    };
                    // Within a condition JSON_EQUALS of a null counts as true (tried on 10.11), though it shows NULL.
                    format!("IF({own} IS NULL OR {listed} IS NULL, {own} IS NULL AND {listed} IS NULL, {equal})")
                }
            },
            _ => format!("{own} <=> {listed}"),
        }
    }

    /// A literal that sorts as the column does.
    fn ordered_literal(&self, value: &Value) -> Option<String> {
        if let (Kind::Enum { labels }, Value::Text(text)) = (&self.kind, value) {
            // An enum sorts by the number of its label.
            return labels.iter().position(|label| **label == **text).map(|at| (at + 1).to_string());
        }
        let mut sql = String::new();
        (!self.is_cut() && encode::push(&mut sql, value, &self.kind)).then(|| self.as_own(&sql))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pontoon_core::{Column, MappedColumn, TableName};

    use super::*;
    use crate::{catalog::NativeColumn, row_list::LARGE_BYTES};

    pub(crate) fn items(flavour: Flavour) -> TableSql {
        let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
        let columns = [
            ("i`d", Kind::Integer { min: 0, max: 9 }, Form::Integer),
            ("name", text, Form::Text { padded: false }),
            ("at", Kind::DateTime { precision: 6, micros: (0, 1) }, Form::DateTime { precision: 0 }),
        ];
        let column = |name: &str, kind: &Kind| Column::plain(name, "", kind.clone());
        let native = |(name, kind, _): &(&str, Kind, Form)| NativeColumn {
            column: column(name, kind),
            charset: Some("latin1".into()),
            collation: Some("latin1_bin".into()),
            data_type: "x".into(),
            on_update: *name == "at",
        };
        let name = TableName::new("sh.op", "items");
        let table = MappedTable {
            label: "items".into(),
            ..MappedTable::plain(
                name.clone(),
                columns
                    .iter()
                    .map(|(name, kind, form)| MappedColumn::new(column(name, kind), kind.clone(), *form))
                    .collect(),
            )
        };
        let native = NativeTable { name, columns: columns.iter().map(native).collect(), key: vec![0] };
        let server = Server::sample(flavour, 1 << 24);
        TableSql::new(&table, &native, &server)
    }

    fn row(id: i128, name: &str) -> Row {
        Row(vec![Value::Integer(id), Value::Text(name.into()), Value::Null])
    }

    #[test]
    fn updates_are_conditional_and_keep_moving_columns() {
        let rows = vec![(row(1, "a"), row(1, "b'"))];
        let group = UpdateGroup { changed: vec![1], rows, ..UpdateGroup::default() };
        let statements = items(Flavour::Mysql).updates(&group, &group.rows).unwrap();
        assert_eq!(
            statements,
            [Expecting {
                sql: "UPDATE (VALUES ROW(1,'a',NULL,'b''')) AS r(c0,c1,c2,c3) STRAIGHT_JOIN `sh.op`.`items` AS t \
                      ON t.`i``d` = r.c0 AND t.`i``d` <=> r.c0 \
                      AND CAST(CONVERT(t.`name` USING utf8mb4) AS BINARY) <=> CAST(r.c1 AS BINARY) \
                      AND LEFT(CAST(t.`at` AS CHAR), 19) <=> LEFT(CAST(r.c2 AS CHAR), 19) \
                      SET t.`name` = r.c3, t.`at` = t.`at`"
                    .into(),
                rows: 1,
                large: Vec::new()
            }]
        );
    }

    #[test]
    fn a_large_value_is_a_variable_of_a_statement_of_its_own() {
        let large = "x".repeat(LARGE_BYTES);
        let rows: Vec<Row> =
            [(1, "a"), (2, &large), (3, &large), (4, "b"), (5, "c")].map(|(id, name)| row(id, name)).into();
        for flavour in [Flavour::Mysql, Flavour::Mariadb] {
            let inserts: Vec<Expecting> = items(flavour).inserts(&rows).collect::<Result<_, _>>().unwrap();
            let counts: Vec<_> = inserts.iter().map(|one| (one.rows, one.large.len())).collect();
            assert_eq!(counts, [(1, 0), (1, 1), (1, 1), (2, 0)]);
            assert!(inserts[1].sql.ends_with("(2,CONVERT(@pontoon_0 USING utf8mb4),NULL)"), "{}", inserts[1].sql);
            assert!(inserts[2].sql.ends_with("(3,CONVERT(@pontoon_0 USING utf8mb4),NULL)"), "{}", inserts[2].sql);
            assert!(inserts[2].packet_bytes() > LARGE_BYTES);
        }
        let group =
            UpdateGroup { changed: vec![1], rows: vec![(row(1, &large), row(1, &large))], ..UpdateGroup::default() };
        let updates = items(Flavour::Mysql).updates(&group, &group.rows).unwrap();
        let updated = &updates[0].sql;
        assert!(updated.starts_with("UPDATE (VALUES ROW(1,NULL,NULL,NULL)) AS r("), "{updated}");
        assert!(updated.contains("<=> CAST(CONVERT(@pontoon_0 USING utf8mb4) AS BINARY) AND"), "{updated}");
        assert!(updated.contains("SET t.`name` = CONVERT(@pontoon_1 USING utf8mb4), t.`at` = t.`at`"), "{updated}");
        assert_eq!(updates[0].large.len(), 2);
        assert!(!format!("{updates:?}").contains("xx"));
    }

    #[test]
    fn lists_are_cut_into_chunks() {
        let rows: Vec<Row> = (0..2500).map(|id| row(id, "a")).collect();
        let counts = |statements: Vec<Expecting>| statements.iter().map(|one| one.rows).collect::<Vec<_>>();
        assert_eq!(counts(items(Flavour::Mysql).deletes(&rows).unwrap()), [500; 5]);
        assert_eq!(counts(items(Flavour::Mariadb).inserts(&rows).collect::<Result<_, _>>().unwrap()), [500; 5]);
        let large = "x".repeat(3 << 20);
        let rows: Vec<Row> = (0..3).map(|id| row(id, &large)).collect();
        assert_eq!(counts(items(Flavour::Mysql).inserts(&rows).collect::<Result<_, _>>().unwrap()), [1, 1, 1]);
        let small: Vec<Row> = (0..3).map(|id| row(id, &"x".repeat(LARGE_BYTES - 1))).collect();
        assert_eq!(counts(items(Flavour::Mysql).inserts(&small).collect::<Result<_, _>>().unwrap()), [3]);
        let rows: Vec<Row> = small.into_iter().chain([row(9, &"x".repeat(LARGE_BYTES))]).collect();
        assert_eq!(
            counts(items(Flavour::Mysql).inserts(&rows).collect::<Result<_, _>>().unwrap()),
            [3, 1],
            "a large row goes alone"
        );
    }

    #[test]
    fn what_cannot_be_there_is_not_asked_for() {
        let impossible = Row(vec![Value::Integer(1), Value::Unmapped("x".into()), Value::Null]);
        assert_eq!(items(Flavour::Mysql).deletes(&[impossible]), Err(Impossible));
        assert_eq!(items(Flavour::Mysql).select(&[Key(vec![Value::Unmapped("x".into())])], true), None);
    }

    #[test]
    fn chunks_go_on_behind_a_key() {
        let key = |value| Key(vec![value]);
        let sql = items(Flavour::Mariadb).chunk(Span::behind(Some(&key(Value::Integer(7)))), 10).unwrap();
        let unmapped = key(Value::Unmapped("x".into()));
        assert_eq!(items(Flavour::Mysql).chunk(Span::behind(Some(&unmapped)), 10), Err(Impossible));
        assert!(sql.ends_with("WHERE t.`i``d` >= 7 AND (t.`i``d` > 7) ORDER BY t.`i``d` LIMIT 10"), "{sql}");
    }
}
