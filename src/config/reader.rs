//! Reads one value of the file at a time. What cannot be used is noted with its place and read as
//! absent, so that one pass finds everything that is wrong.

use std::ops::{Range, RangeInclusive};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    keys::{SECTIONS, Section},
    place::{Problems, Rank, did_you_mean},
};

/// A table of the file with the keys that it may have.
pub(super) struct Fields<'a, 'i> {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    table: &'a DeTable<'i>,
    section: &'static Section,
}

/// A value, its key and its place.
#[derive(Clone)]
pub(super) struct Item<'a, 'i> {
    pub(super) path: String,
    /// Of the key.
    pub(super) key_span: Range<usize>,
    /// Of the value.
    pub(super) span: Range<usize>,
    pub(super) value: &'a DeValue<'i>,
}

impl<'a, 'i> Fields<'a, 'i> {
    /// Takes a table and notes the keys in it that are not known.
    pub(super) fn new(
        path: &str,
        span: Range<usize>,
        table: &'a DeTable<'i>,
        section: &'static Section,
        problems: &mut Problems<'_>,
    ) -> Self {
        for (key, _) in table {
            let name: &str = key.get_ref();
            if section.names().any(|known| known == name) {
                continue;
            }
            let elsewhere = || {
                SECTIONS
                    .iter()
                    .find(|other| other.names().any(|known| known == name))
                    .map(|other| format!("; it belongs to {}", other.title()))
            };
            let mut near = did_you_mean(name, section.names());
            if near.is_empty() {
                near = elsewhere().unwrap_or_default();
            }
            let known = section.names().collect::<Vec<_>>().join(", ");
            problems.add(
                Rank::Unknown,
                &key.span(),
                &join(path, name),
                format!("unknown key{near}"),
                format!("the keys of {} are {known}", section.title()),
            );
        }
        Fields { path: path.to_owned(), span, table, section }
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &'static str) -> Option<Item<'a, 'i>> {
        debug_assert!(self.section.names().any(|known| known == name), "{name} is not in the table of keys");
        let (key, value) = self.table.get_key_value(name)?;
        Some(Item::of(&self.path, key, value))
    }

    /// The value of a key that has to be there.
    pub(super) fn required(&self, name: &'static str, problems: &mut Problems<'_>) -> Option<Item<'a, 'i>> {
        let item = self.get(name);
        if item.is_none() {
            problems.add(
                Rank::Contradiction,
                &self.span,
                &join(&self.path, name),
                "is missing",
                example(self.section, name),
            );
        }
        item
    }
}

fn example(section: &Section, name: &str) -> Option<String> {
    let key = section.keys.iter().find(|key| key.name == name)?;
    Some(format!("{}: {}", key.takes, key.text.split(". ").next().unwrap_or_default().trim_end_matches('.')))
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl<'a, 'i> Item<'a, 'i> {
    /// An entry of the table at `path`.
    pub(super) fn of(path: &str, key: &Spanned<DeString<'i>>, value: &'a Spanned<DeValue<'i>>) -> Self {
        let path = join(path, key.get_ref());
        Item { path, key_span: key.span(), span: value.span(), value: value.get_ref() }
    }

    /// Notes that the value cannot be used.
    pub(super) fn refuse(&self, problems: &mut Problems<'_>, message: impl Into<String>) {
        problems.add(Rank::Value, &self.span, &self.path, message, None);
    }

    /// The same with what to do about it.
    pub(super) fn refuse_with(&self, problems: &mut Problems<'_>, message: impl Into<String>, hint: impl Into<String>) {
        problems.add(Rank::Value, &self.span, &self.path, message, hint.into());
    }

    /// Notes that the value does not go with another one.
    pub(super) fn contradicts(&self, problems: &mut Problems<'_>, message: impl Into<String>, hint: impl Into<String>) {
        problems.add(Rank::Contradiction, &self.span, &self.path, message, hint.into());
    }

    fn mistyped(&self, problems: &mut Problems<'_>, expected: &str) {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        // The place of a table that a header opens is that of the header's last key.
        self.refuse(problems, format!("must be {expected}, found {found}"));
    }

    pub(super) fn text(&self, problems: &mut Problems<'_>) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mistyped(problems, "a text in quotes");
        }
        text
    }

    pub(super) fn texts(&self, problems: &mut Problems<'_>) -> Vec<Item<'a, 'i>> {
        let DeValue::Array(array) = self.value else {
            self.mistyped(problems, "a list of texts: [\"...\"]");
            return Vec::new();
        };
        let item = |value: &'a Spanned<DeValue<'i>>| Item {
            path: self.path.clone(),
            key_span: self.key_span.clone(),
            span: value.span(),
            value: value.get_ref(),
        };
        array.iter().map(item).collect()
    }

    pub(super) fn table(&self, problems: &mut Problems<'_>) -> Option<&'a DeTable<'i>> {
        let table = match self.value {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
        if table.is_none() {
            self.mistyped(problems, &format!("a table [{}]", self.path));
        }
        table
    }

    /// The tables of `[[...]]`.
    pub(super) fn tables(&self, problems: &mut Problems<'_>) -> Vec<(Range<usize>, &'a DeTable<'i>)> {
        let DeValue::Array(array) = self.value else {
            self.mistyped(problems, &format!("a list of tables [[{}]]", self.path));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for value in array {
            match value.get_ref() {
                DeValue::Table(table) => tables.push((value.span(), table)),
                other => {
                    let item = Item { span: value.span(), value: other, ..self.clone() };
                    item.mistyped(problems, &format!("a table [[{}]]", self.path));
                }
            }
        }
        tables
    }

    pub(super) fn integer(&self, range: RangeInclusive<i64>, problems: &mut Problems<'_>) -> Option<i64> {
        let expected = if *range.start() == i64::MIN {
            "a whole number".to_owned()
        } else {
            format!("a whole number from {} to {}", range.start(), range.end())
        };
        let DeValue::Integer(integer) = self.value else {
            self.mistyped(problems, &expected);
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                self.refuse(problems, format!("must be {expected}, found {integer}"));
                None
            }
        }
    }

    /// A number above 0 and at most `max`, with or without a fraction.
    pub(super) fn number(&self, max: f64, problems: &mut Problems<'_>) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64)
            }
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => {
                self.mistyped(problems, "a number");
                return None;
            }
        };
        let fitting = number.filter(|number| *number > 0.0 && *number <= max);
        if fitting.is_none() {
            self.refuse(problems, format!("must be a number above 0 and at most {max}"));
        }
        fitting
    }
}
