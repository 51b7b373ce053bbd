//! Tables: as a server describes them, and as a bridge maps them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    change::{Key, Row},
    error::{Code, Error},
    form::Form,
    kind::Kind,
    leeway::Leeway,
    value::Value,
};

/// A table's name, literal, case and all.
///
/// Its text form has one dot between schema and name (`public.items`); a dot or a backslash within
/// a part is written with a backslash before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// PostgreSQL's schema, MySQL's database; `None` in a configuration that leaves it to the node.
    pub schema: Option<Box<str>>,
    /// The table itself.
    pub name: Box<str>,
}

impl TableName {
    /// A name within a schema.
    pub fn new(schema: impl Into<Box<str>>, name: impl Into<Box<str>>) -> Self {
        TableName { schema: Some(schema.into()), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |part: &str| part.replace('\\', "\\\\").replace('.', "\\.");
        match &self.schema {
            Some(schema) => write!(f, "{}.{}", escape(schema), escape(&self.name)),
            None => f.write_str(&escape(&self.name)),
        }
    }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let last = parts.last_mut().ok_or_else(|| Error::new(Code::Internal, "no part"))?;
            match c {
                '\\' => last.extend(chars.next()),
                '.' => parts.push(String::new()),
                c => last.push(c),
            }
        }
        if parts.len() > 2 || parts.iter().any(String::is_empty) {
            return Err(Error::new(Code::Config, format!("{text:?} is not a table name"))
                .hint("write table or schema.table; a dot within a name is \\."));
        }
        let name = parts.pop().unwrap_or_default().into();
        Ok(TableName { schema: parts.pop().map(Into::into), name })
    }
}

/// Where values of a column come from when none is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    /// The first value it gives, or the offset of its arithmetic progression.
    pub start: i128,
    /// The distance between two values.
    pub step: i128,
    /// The greatest value it gives.
    pub max: i128,
}

impl Generator {
    /// Whether two generators can never give the same value.
    pub fn disjoint(&self, other: &Generator) -> bool {
        let apart = self.start > other.max || other.start > self.max;
        apart || self.is_interleaved(other)
    }

    /// Whether each gives the values between the other's steps.
    pub fn is_interleaved(&self, other: &Generator) -> bool {
        let step = self.step.abs();
        step > 1 && self.step == other.step && self.start.rem_euclid(step) != other.start.rem_euclid(step)
    }
}

/// How a server compares texts of a column for equality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextEquality {
    /// Equal means the same bytes.
    Exact,
    /// Different texts can be equal by this collation (case, accents, trailing blanks).
    Folding(Box<str>),
}

/// A column as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: Box<str>,
    /// Its declared type, as the server writes it.
    pub native: Box<str>,
    /// What it can hold; `None` for a type that the bridge has no rule for.
    pub kind: Option<Kind>,
    /// Null can be stored.
    pub nullable: bool,
    /// Computed by the server from other columns; never written.
    pub generated: bool,
    /// Filled by a sequence or counter when no value is given.
    pub generator: Option<Generator>,
    /// A row can be inserted without a value of it: it gets null, a default or a number of its generator.
    pub optional: bool,
    /// How its texts are compared; `Exact` for other types.
    pub text_equality: TextEquality,
}

impl Column {
    /// One of which nothing but its type is said: it can be null, nothing computes it or counts for it, and its texts are
    /// compared by their bytes.
    pub fn plain(name: impl Into<Box<str>>, native: impl Into<Box<str>>, kind: Kind) -> Column {
        Column {
            name: name.into(),
            native: native.into(),
            kind: Some(kind),
            nullable: true,
            generated: false,
            generator: None,
            optional: true,
            text_equality: TextEquality::Exact,
        }
    }
}

/// A table as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Its full name, schema included.
    pub name: TableName,
    /// In the server's order.
    pub columns: Vec<Column>,
    /// The primary key's columns, by their place in `columns`, in key order; empty without one.
    pub key: Vec<usize>,
    /// What ties its rows to each other and to rows of other tables.
    pub ties: Ties,
}

/// What a server lets not just any rows live side by side for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ties {
    /// Unique constraints and indexes beside the primary key, by name; those over expressions, parts of values or some
    /// of the rows are left out.
    pub uniques: Vec<UniqueKey>,
    /// The table's own foreign keys, by name.
    pub references: Vec<ForeignKey>,
    /// Tables that refer to this one, and by which foreign key.
    pub referrers: Vec<(TableName, Box<str>)>,
}

/// A unique constraint. Rows with a null in one of its columns never meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// As the server names it where it refuses a row.
    pub name: Box<str>,
    /// Its columns, by name.
    pub columns: Vec<Box<str>>,
}

/// A foreign key. A row with a null in one of its columns refers to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Its name.
    pub name: Box<str>,
    /// The columns that refer, by name.
    pub columns: Vec<Box<str>>,
    /// The table that is referred to, with its schema.
    pub parent: TableName,
    /// The columns that are referred to, each by its own.
    pub parent_columns: Vec<Box<str>>,
    /// The last column is a span of time that rows of the parent cover together (`PERIOD`, PostgreSQL 18: manual, "CREATE TABLE"), and not a value
    /// that one of them has.
    pub over_period: bool,
}

impl TableSchema {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

/// A mapped pair of tables, by its place in the bridge's list. The same number on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableId(pub u32);

impl TableId {
    /// The place in the bridge's list of tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One side of a mapped pair of columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    /// The column on this side.
    pub column: Column,
    /// What it can hold (of `column.kind`, which is known for every mapped column).
    pub kind: Kind,
    /// The common form of the pair.
    pub form: Form,
    /// What else is poorer there, as an operator said it; the same on both sides, but for what is counted.
    pub leeway: Option<Arc<Leeway>>,
}

impl MappedColumn {
    /// A column without leeway.
    pub fn new(column: Column, kind: Kind, form: Form) -> MappedColumn {
        MappedColumn { column, kind, form, leeway: None }
    }

    /// The server's value in the pair's common form.
    pub fn common(&self, value: Value) -> Value {
        match &self.leeway {
            None => self.form.convert(value),
            Some(leeway) => leeway.common(value, self.form).0,
        }
    }

    /// The same of a value that is to be written to the other side, where it is counted if another one stands for it.
    pub fn crossing(&self, value: Value) -> Value {
        match &self.leeway {
            None => self.form.convert(value),
            Some(leeway) => leeway.crossing(value, self.form),
        }
    }
}

/// One side of a mapped pair of tables. Columns stand in the pair's order, the same on both sides, so
/// that a [`Row`] of one side is a row of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedTable {
    /// The pair.
    pub id: TableId,
    /// The pair's name in records, metrics and messages: the same on both sides.
    pub label: Arc<str>,
    /// The table on this side, with its schema.
    pub name: TableName,
    /// The columns in the pair's order.
    pub columns: Vec<MappedColumn>,
    /// The key's columns by their place in `columns`, in key order.
    pub key: Vec<usize>,
    /// Columns of this side that no pair has: computed ones, and those that the operator leaves to it. Any other is new since it was mapped, and
    /// nobody has said that its values may stay behind.
    pub left: Vec<Box<str>>,
    /// Changes of this table in this side's log are wanted (its direction goes that way).
    pub followed: bool,
    /// The unique constraints of this side, beside the key's.
    pub uniques: Vec<Unique>,
    /// The foreign keys of this side to mapped tables.
    pub references: Vec<Reference>,
    /// A column of it has a rule of its own, or each has: what a log tells of single columns counts then, and the row itself does not tell it. Where
    /// none has, a reader that is not a tail gives of the bridge's own rows no more than the key: nobody asks for the rest.
    pub by_columns: bool,
}

/// Whether names that both lists have stand in another order in one than in the other. Then a column may have been dropped and
/// another added under its name: no log tells which of the two a value was written to. (One that was the last, and is again,
/// stands where it stood: connectors find it by other means.)
pub fn are_in_another_order<'a>(
    before: impl Iterator<Item = &'a str> + Clone,
    now: impl Iterator<Item = &'a str> + Clone,
) -> bool {
    let known = before.clone().filter(|name| now.clone().any(|known| known == *name));
    !known.eq(now.clone().filter(|name| before.clone().any(|known| known == *name)))
}

/// A unique constraint of a mapped table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// As the server names it where it refuses a row.
    pub name: Box<str>,
    /// Its columns, by their place.
    pub columns: Vec<usize>,
}

impl Unique {
    /// Whether two rows cannot both live. Values that a collation takes for equal, and that are not the same, are told
    /// by the server alone.
    pub fn ties(&self, a: &Row, b: &Row) -> bool {
        let same = |&at: &usize| a.0[at] == b.0[at] && a.0[at] != Value::Null;
        self.columns.iter().all(same)
    }
}

/// A foreign key between two mapped tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its name.
    pub name: Box<str>,
    /// The columns that refer, by their place.
    pub columns: Vec<usize>,
    /// The table that is referred to.
    pub parent: TableId,
    /// Its columns that are referred to, by their place.
    pub parent_columns: Vec<usize>,
}

impl Reference {
    /// Whether a row refers to anything.
    pub fn refers(&self, row: &Row) -> bool {
        self.columns.iter().all(|&at| row.0[at] != Value::Null)
    }

    /// Whether two versions of a row refer to the same.
    pub fn same(&self, a: &Row, b: &Row) -> bool {
        self.columns.iter().all(|&at| a.0[at] == b.0[at])
    }

    /// Whether a row refers to this one of the parent.
    pub fn is_to(&self, row: &Row, parent: &Row) -> bool {
        let mut pairs = self.columns.iter().zip(&self.parent_columns);
        self.refers(row) && pairs.all(|(&at, &parent_at)| row.0[at] == parent.0[parent_at])
    }

    /// The key of the row that a row refers to; `None` where it refers to nothing, or not by the parent's key.
    pub fn parent_of(&self, row: &Row, parent: &MappedTable) -> Option<Key> {
        if !self.refers(row) || self.parent_columns.len() != parent.key.len() {
            return None;
        }
        let value = |at: &usize| {
            let place = self.parent_columns.iter().position(|column| column == at)?;
            Some(parent.columns[*at].common(row.0[self.columns[place]].clone()))
        };
        parent.key.iter().map(value).collect::<Option<Vec<_>>>().map(Key)
    }
}

impl MappedTable {
    /// A table that is followed, whose key is its first column and that has nothing beside: the first of its bridge, called by its own name.
    pub fn plain(name: TableName, columns: Vec<MappedColumn>) -> MappedTable {
        MappedTable {
            id: TableId(0),
            label: (&*name.name).into(),
            name,
            columns,
            key: vec![0],
            left: Vec::new(),
            followed: true,
            uniques: Vec::new(),
            references: Vec::new(),
            by_columns: false,
        }
    }

    /// Whether every mapped column is described as it was when it was mapped, and there is no other.
    pub fn is_as(&self, now: &TableSchema) -> bool {
        let same = |mapped: &MappedColumn| now.column(&mapped.column.name) == Some(&mapped.column);
        self.columns.iter().all(same) && self.new_column(now).is_none()
    }

    /// The first column that the table has got since it was mapped.
    pub fn new_column<'a>(&self, now: &'a TableSchema) -> Option<&'a str> {
        let names = now.columns.iter().filter(|column| !column.generated).map(|column| &*column.name);
        names.into_iter().find(|name| self.place(name).is_none() && self.left.iter().all(|left| **left != **name))
    }

    /// The key of a row.
    pub fn key_of(&self, row: &Row) -> Key {
        Key(self.key.iter().map(|&at| row.0[at].clone()).collect())
    }

    /// Whether two rows have the same key, without copying it.
    pub fn same_key(&self, a: &Row, b: &Row) -> bool {
        self.key.iter().all(|&at| a.0[at] == b.0[at])
    }

    /// The place of a column by its name on this side.
    pub fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|mapped| &*mapped.column.name == column)
    }

    /// The place of a unique constraint by its name, as a server that refuses a row says it (MySQL: behind the table's
    /// name and a dot).
    pub fn unique_named(&self, said: &str) -> Option<usize> {
        let bare = said.strip_prefix(&*self.name.name).and_then(|rest| rest.strip_prefix('.'));
        self.uniques.iter().position(|unique| &*unique.name == said || Some(&*unique.name) == bare)
    }

    /// A row from values in the pair's order as the server gave them.
    pub fn to_common(&self, values: Vec<Value>) -> Row {
        self.row(values, MappedColumn::common)
    }

    /// The same of a row that is to be written to the other side.
    pub fn to_cross(&self, values: Vec<Value>) -> Row {
        self.row(values, MappedColumn::crossing)
    }

    /// Most values are in their form as they are, and stay where they are.
    fn row(&self, mut values: Vec<Value>, formed: fn(&MappedColumn, Value) -> Value) -> Row {
        values.truncate(self.columns.len());
        for (value, column) in values.iter_mut().zip(&self.columns) {
            if column.leeway.is_some() || !column.form.has(value) {
                *value = formed(column, std::mem::replace(value, Value::Null));
            }
        }
        Row(values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_that_is_dropped_and_added_again_moves() {
        let moved = |before: &str, now: &str| are_in_another_order(before.split(' '), now.split(' '));
        assert!(moved("id name n", "id n name"));
        assert!(moved("id old name n", "id n new name"));
        for now in ["id name n", "id name", "id n", "new id name other n", "new"] {
            assert!(!moved("id name n", now), "{now}");
        }
    }

    proptest! {
        #[test]
        fn names_round_trip(schema in proptest::option::of(".{1,12}"), name in ".{1,12}") {
            let table = TableName { schema: schema.map(Into::into), name: name.into() };
            prop_assert_eq!(table.to_string().parse::<TableName>().unwrap(), table);
        }
    }

    #[test]
    fn generators_meet_or_not() {
        let every = |start, step| Generator { start, step, max: 1000 };
        assert!(!every(1, 1).disjoint(&every(1, 1)));
        assert!(!every(1, 2).disjoint(&every(3, 2)));
        assert!(every(1, 2).disjoint(&every(2, 2)));
        assert!(every(1, 1).disjoint(&Generator { start: 1001, step: 1, max: 2000 }));
    }
}
