//! A table as it is to be made on another server: what of it more than one engine can have, in words of
//! none of them.
//!
//! The node that has the table tells a [`TableDefinition`]; the other node makes a [`TableDraft`] of it. A
//! draft says beforehand how the new table will be described ([`crate::schema::TableSchema`]), so that the
//! engine can look at the pair with the eyes of `check` before anything is made.

use crate::{
    form::Form,
    kind::Kind,
    node::{Finding, Severity},
    schema::{Column, TableSchema},
    value::Value,
};

/// A table, as far as another engine can have it too.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDefinition {
    /// Name, columns and primary key, as [`crate::node::Node::describe`] tells them. Whoever has the table
    /// made elsewhere writes the name there into it.
    pub schema: TableSchema,
    /// What there is to know of each column of the schema beside that, in its order.
    pub details: Vec<ColumnDetail>,
    /// Secondary indexes and unique constraints.
    pub indexes: Vec<Index>,
    /// What people are told of the table.
    pub comment: Option<Box<str>>,
    /// What only this server has and no other can be given, each in words: `index by_name: partial`.
    pub others: Vec<String>,
}

/// What a column has beside its type.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ColumnDetail {
    /// What is stored where nothing is given; not of a generated column, nor of one with a generator.
    pub default: Option<DefaultValue>,
    /// The server sets it to the present moment whenever another column is written.
    pub on_update: bool,
    /// What people are told of it.
    pub comment: Option<Box<str>>,
}

/// What is stored where nothing is given.
#[derive(Debug, Clone, PartialEq)]
pub enum DefaultValue {
    /// Always the same, as the column's kind has it; never null, which is no default.
    Constant(Value),
    /// The present moment or day.
    Now,
    /// Another expression, in the server's own words.
    Other(Box<str>),
}

impl DefaultValue {
    /// The constant that `text` is read as; the text itself where the column could not hold it as it is, since
    /// its server then rounds or cuts when the default is taken.
    pub fn constant(kind: &Kind, value: Value, text: &str) -> DefaultValue {
        let common = Form::of_pair(kind, kind).map(|form| form.convert(value));
        match common.filter(|value| kind.fits(value).is_ok()) {
            Some(value) => DefaultValue::Constant(value),
            None => DefaultValue::Other(text.into()),
        }
    }
}

/// A secondary index over whole columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name, for messages: index names are of one table here and of a whole schema there, so the
    /// other server gives its own.
    pub name: Box<str>,
    /// No two rows agree on all columns; null agrees with nothing.
    pub unique: bool,
    /// The columns by their place in the schema.
    pub columns: Vec<IndexColumn>,
}

/// A column of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexColumn {
    /// Its place in the schema.
    pub column: usize,
    /// From the greatest value to the least.
    pub descending: bool,
}

/// How a table would be made on a server.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDraft {
    /// As [`crate::node::Node::describe`] will describe it, but for its ties.
    pub schema: TableSchema,
    /// The first statement makes the schema or the database that it will be in.
    pub new_schema: bool,
    /// The statements that make it, in order.
    pub statements: Vec<String>,
    /// For each column by its name the statement that adds it to a table that is there already.
    pub additions: Vec<(Box<str>, String)>,
    /// Why it cannot be made, each with its remedy; of no use but to be told where there is any.
    pub refusals: Vec<Finding>,
    /// What of the definition does not carry over, each in words that can follow upon that.
    pub left_out: Vec<String>,
}

impl TableDefinition {
    /// What of it can be made on another server, and in words what cannot whatever the server is: what is its
    /// own server's alone, and what the bridge leaves to each side.
    pub fn portable(mut self) -> (TableDefinition, Vec<String>) {
        let mut left_out = std::mem::take(&mut self.others);
        for (column, detail) in self.schema.columns.iter_mut().zip(&mut self.details) {
            if column.generated {
                let name = &column.name;
                left_out.push(format!(
                    "column {name}, computed: each side computes such a column by itself, and nothing of it crosses"
                ));
            }
            if column.generator.take().is_some() {
                left_out.push(format!(
                    "the numbers of column {}: whoever inserts here gives them, or both sides generate them, with steps or ranges that never meet (generated-keys of pontoon check)",
                    column.name
                ));
            }
            if let Some(DefaultValue::Other(text)) = &detail.default {
                left_out.push(format!("the default of column {}: {text}", column.name));
                detail.default = None;
            }
        }
        self.retain(|column| (!column.generated).then(|| column.name.clone()), "a generated column", &mut left_out);
        (self, left_out)
    }

    /// Keeps the columns that `name` has a name for, under that name. An index over any other, each of which is `what`, stays behind,
    /// and `left_out` is told so.
    fn retain(&mut self, name: impl Fn(&Column) -> Option<Box<str>>, what: &str, left_out: &mut Vec<String>) {
        let kept: Vec<usize> =
            (0..self.schema.columns.len()).filter(|&at| name(&self.schema.columns[at]).is_some()).collect();
        let place = |at: usize| kept.iter().position(|&kept| kept == at);
        self.indexes.retain_mut(|index| {
            let whole = index.columns.iter().all(|part| place(part.column).is_some());
            if !whole {
                left_out.push(format!("{}, over {what}", index.words()));
            }
            index.columns.iter_mut().for_each(|part| part.column = place(part.column).unwrap_or_default());
            whole
        });
        self.schema.key = self.schema.key.iter().filter_map(|&at| place(at)).collect();
        self.details = kept.iter().map(|&at| self.details[at].clone()).collect();
        let columns = std::mem::take(&mut self.schema.columns).into_iter();
        self.schema.columns = columns.filter_map(|column| Some(Column { name: name(&column)?, ..column })).collect();
    }

    /// As it is to be made where columns have other names; those that `name` has none for are not made.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<Box<str>>) -> TableDefinition {
        let mut left_out = Vec::new();
        self.retain(|column| name(&column.name), "a column that is not bridged", &mut left_out);
        self.others.extend(left_out);
        self
    }
}

impl Index {
    /// What kind of index it is, and its name.
    pub fn words(&self) -> String {
        format!("{} {}", if self.unique { "unique index" } else { "index" }, self.name)
    }
}

impl TableDraft {
    /// Notes why the table cannot be made. `what` is the part of it that is meant, `column name`; empty for
    /// the table itself.
    pub fn refuse(&mut self, code: &'static str, what: &str, actual: String, expected: &str, remedy: &str) {
        let name = &self.schema.name;
        self.refusals.push(Finding {
            code,
            severity: Severity::Blocking,
            subject: if what.is_empty() { name.to_string() } else { format!("{name} {what}") },
            actual,
            expected: expected.to_owned(),
            remedy: Some(remedy.to_owned()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Generator, TableName, TextEquality, Ties};

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            native: "int".into(),
            kind: Some(Kind::Integer { min: 0, max: 9 }),
            nullable: false,
            generated: name.starts_with("computed"),
            generator: (name == "id").then_some(Generator { start: 1, step: 1, max: 9 }),
            optional: true,
            text_equality: TextEquality::Exact,
        }
    }

    #[test]
    fn what_is_not_portable_is_named_and_places_follow() {
        let index = |name: &str, columns: &[usize]| Index {
            name: name.into(),
            unique: true,
            columns: columns.iter().map(|&column| IndexColumn { column, descending: false }).collect(),
        };
        let mut details = vec![ColumnDetail::default(); 4];
        details[3].default = Some(DefaultValue::Other("random()".into()));
        let definition = TableDefinition {
            schema: TableSchema {
                name: TableName::new("s", "t"),
                columns: ["computed", "id", "computed_too", "x"].map(column).into(),
                key: vec![1],
                ties: Ties::default(),
            },
            details,
            indexes: vec![index("good", &[3, 1]), index("bad", &[1, 2])],
            comment: None,
            others: vec!["trigger t".into()],
        };
        let (portable, left_out) = definition.portable();
        assert_eq!(portable.schema.columns.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "x"]);
        assert_eq!((portable.schema.key, portable.details.len()), (vec![0], 2));
        assert_eq!(portable.indexes, [index("good", &[1, 0])]);
        assert_eq!(portable.schema.columns[0].generator, None);
        assert_eq!(portable.details[1].default, None);
        for (said, start) in left_out.iter().zip([
            "trigger t",
            "column computed, ",
            "the numbers of column id: ",
            "column computed_too, ",
            "the default of column x: random()",
            "unique index bad, ",
        ]) {
            assert!(said.starts_with(start), "{said}");
        }
        assert_eq!(left_out.len(), 6);
    }

    #[test]
    fn a_default_that_its_own_column_cannot_hold_is_no_constant() {
        let kind = Kind::Decimal { digits: Some((4, 2)) };
        let read = |text: &str| DefaultValue::constant(&kind, Value::Decimal(text.into()), text);
        assert_eq!(read("1.50"), DefaultValue::Constant(Value::Decimal("1.5".into())));
        assert_eq!(read("1.125"), DefaultValue::Other("1.125".into()));
    }
}
