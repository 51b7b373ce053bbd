//! `columns` of a `[[tables]]` entry: rules of single columns.

use std::collections::BTreeMap;

use pontoon_core::decimal;
use toml::de::DeValue;

use super::{
    ColumnConflict,
    parse::{Names, Parser},
    place::did_you_mean,
    reader::{Fields, Item},
};

/// The rules that are a word.
const WORDS: [&str; 5] = ["additive", "min", "max", "last_writer_wins", "prefer:NODE"];

/// What a rule can be, for people.
const RULES: &str = "it is \"additive\", \"min\", \"max\", \"last_writer_wins\" or \"prefer:NODE\", or { rule = \"additive\", floor = 0 }";

impl Parser<'_, '_> {
    /// The rules by the columns' names.
    pub(super) fn columns(
        &mut self,
        fields: &Fields<'_, '_>,
        names: Option<Names<'_>>,
    ) -> BTreeMap<String, ColumnConflict> {
        let mut columns = BTreeMap::new();
        let Some(item) = fields.get("columns") else { return columns };
        let Some(table) = item.table(&mut self.problems) else { return columns };
        for (key, value) in table {
            let name: &str = key.get_ref();
            if let Some(rule) = self.column(&Item::of(&item.path, key, value), names) {
                columns.insert(name.to_owned(), rule);
            }
        }
        columns
    }

    fn column(&mut self, item: &Item<'_, '_>, names: Option<Names<'_>>) -> Option<ColumnConflict> {
        let DeValue::Table(table) = item.value else { return self.column_rule(item, names) };
        let (mut rule, mut floor) = (None, None);
        for (key, value) in table {
            let name: &str = key.get_ref();
            let part = Item::of(&item.path, key, value);
            match name {
                "rule" => rule = Some(self.column_rule(&part, names)?),
                "floor" => floor = Some((self.number(&part)?, part)),
                _ => {
                    let near = did_you_mean(name, ["rule", "floor"]);
                    part.refuse_with(&mut self.problems, format!("is no part of a column's rule{near}"), RULES);
                    return None;
                }
            }
        }
        match (rule, floor) {
            (None, _) => {
                item.refuse_with(&mut self.problems, "has no rule", RULES);
                None
            }
            (Some(ColumnConflict::Additive { .. }), Some((floor, _))) => {
                Some(ColumnConflict::Additive { floor: Some(floor) })
            }
            (Some(_), Some((_, floor))) => {
                floor.contradicts(&mut self.problems, "is for additive columns alone", "take it away");
                None
            }
            (rule, None) => rule,
        }
    }

    fn column_rule(&mut self, item: &Item<'_, '_>, names: Option<Names<'_>>) -> Option<ColumnConflict> {
        let text = item.text(&mut self.problems)?;
        if let Some(node) = text.strip_prefix("prefer:") {
            return self.node_name(item, node, names).map(ColumnConflict::Prefer);
        }
        Some(match text {
            "additive" => ColumnConflict::Additive { floor: None },
            "min" => ColumnConflict::Min,
            "max" => ColumnConflict::Max,
            "last_writer_wins" => ColumnConflict::LastWriterWins,
            _ => {
                let near = did_you_mean(text, WORDS);
                item.refuse_with(&mut self.problems, format!("{text:?} is no rule for a column{near}"), RULES);
                return None;
            }
        })
    }

    /// An exact number: as it is written, without a detour by a double.
    fn number(&mut self, item: &Item<'_, '_>) -> Option<Box<str>> {
        let text = match item.value {
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
            DeValue::Float(number) => Some(number.as_str()),
            _ => None,
        };
        let number = text.and_then(decimal::canonical);
        if number.is_none() {
            item.refuse(&mut self.problems, "must be a number");
        }
        number.map(Into::into)
    }
}
