//! `columns` of a `[[tables]]` entry: what single columns are called on each node, which are left out, and rules of whose value
//! stands and of values that do not fit.

use std::collections::BTreeMap;

use pontoon_core::{Instead, ValueRules, decimal};
use toml::de::DeValue;

use super::{
    ColumnConflict,
    parse::{Names, Parser},
    place::did_you_mean,
    reader::{Fields, Item},
};
use crate::side::{Pair, Side};

/// What an operator says of one column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnRules {
    /// What it is called on each node, where that is another name than the one it has in the configuration.
    pub names: Pair<Option<String>>,
    /// Nothing of it crosses, whichever side has it.
    pub ignored: bool,
    /// Whose value stands where both sides changed it; `None`: by the table's rule.
    pub conflict: Option<ColumnConflict>,
    /// What becomes of values that only one side can hold.
    pub values: ValueRules,
}

impl ColumnRules {
    /// The name on a node of the column that the configuration calls `column`.
    pub fn name_on<'a>(&'a self, column: &'a str, side: Side) -> &'a str {
        self.names[side].as_deref().unwrap_or(column)
    }
}

/// What `columns` says of a table's columns, by the names that they have in the configuration.
pub type Columns = BTreeMap<String, ColumnRules>;

/// The name on the other node of a column of `side`; `None` where it is ignored.
pub fn name_across<'a>(columns: &'a Columns, side: Side, name: &'a str) -> Option<&'a str> {
    match columns.iter().find(|(column, rules)| rules.name_on(column, side) == name) {
        Some((_, rules)) if rules.ignored => None,
        Some((column, rules)) => Some(rules.name_on(column, side.other())),
        None => Some(name),
    }
}

/// The rules that are a word.
const WORDS: [&str; 5] = ["additive", "min", "max", "last_writer_wins", "prefer:NODE"];

/// The word for a column of which nothing crosses.
const IGNORE: &str = "ignore";

/// What a rule can be, for people.
const RULES: &str = "it is \"additive\", \"min\", \"max\", \"last_writer_wins\", \"prefer:NODE\" or \"ignore\", or a table with the column's name by \
                     node, a `rule` (and a `floor` if additive), or what becomes of values that do not fit: zero_date, infinity, nul_byte, out_of_range, too_long";

/// The parts of a rule that is a table.
const PARTS: [&str; 7] = ["rule", "floor", "zero_date", "infinity", "nul_byte", "out_of_range", "too_long"];

/// What may stand for a value, by the rule; beside quarantine, which is what becomes of it without one.
const STAND_INS: [(&str, &[(&str, Instead)]); 5] = [
    ("zero_date", &[("null", Instead::Null)]),
    ("infinity", &[("null", Instead::Null), ("limit", Instead::Limit)]),
    ("nul_byte", &[("remove", Instead::Remove), ("replace", Instead::Replace)]),
    ("out_of_range", &[("null", Instead::Null), ("limit", Instead::Limit)]),
    ("too_long", &[("cut", Instead::Cut)]),
];

const QUARANTINE: &str = "quarantine";

impl Parser<'_, '_> {
    /// The rules by the columns' names.
    pub(super) fn columns(&mut self, fields: &Fields<'_, '_>, names: Option<Names<'_>>) -> Columns {
        let mut columns = Columns::new();
        let Some(item) = fields.get("columns") else { return columns };
        let Some(table) = item.table(&mut self.problems) else { return columns };
        for (key, value) in table {
            let name: &str = key.get_ref();
            let column = Item::of(&item.path, key, value);
            if let Some(rules) = self.column(&column, names) {
                self.twice(&column, &columns, name, &rules, names);
                columns.insert(name.to_owned(), rules);
            }
        }
        columns
    }

    /// Two entries are of two columns, on both nodes.
    fn twice(
        &mut self,
        item: &Item<'_, '_>,
        columns: &Columns,
        name: &str,
        rules: &ColumnRules,
        names: Option<Names<'_>>,
    ) {
        for side in Side::BOTH {
            let here = rules.name_on(name, side);
            let same = columns.iter().find(|(column, other)| other.name_on(column, side) == here);
            if let (Some((other, _)), Some(names)) = (same, names) {
                let node = names[side as usize];
                let message = format!("is {here:?} on {node}, and so is {other:?}");
                item.contradicts(&mut self.problems, message, "one entry for each column");
            }
        }
    }

    fn column(&mut self, item: &Item<'_, '_>, nodes: Option<Names<'_>>) -> Option<ColumnRules> {
        let DeValue::Table(table) = item.value else {
            if matches!(item.value, DeValue::String(text) if text == IGNORE) {
                return Some(ColumnRules { ignored: true, ..ColumnRules::default() });
            }
            return Some(ColumnRules { conflict: Some(self.column_rule(item, nodes)?), ..ColumnRules::default() });
        };
        let (mut rules, mut floor) = (ColumnRules::default(), None);
        for (key, value) in table {
            let name: &str = key.get_ref();
            let part = Item::of(&item.path, key, value);
            match name {
                "rule" => rules.conflict = Some(self.column_rule(&part, nodes)?),
                "floor" => floor = Some((self.number(&part)?, part)),
                "zero_date" => rules.values.zero_date = self.stand_in(name, &part)?,
                "infinity" => rules.values.infinity = self.stand_in(name, &part)?,
                "nul_byte" => rules.values.nul_byte = self.stand_in(name, &part)?,
                "out_of_range" => rules.values.out_of_range = self.stand_in(name, &part)?,
                "too_long" => rules.values.too_long = self.stand_in(name, &part)?,
                _ => {
                    let Some(side) = nodes.and_then(|nodes| nodes.iter().position(|node| *node == name)) else {
                        let near = did_you_mean(name, PARTS.into_iter().chain(nodes.into_iter().flatten()));
                        part.refuse_with(&mut self.problems, format!("is no part of a column's rule{near}"), RULES);
                        return None;
                    };
                    rules.names[Side::BOTH[side]] = Some(self.column_name(&part)?);
                }
            }
        }
        match (&mut rules.conflict, floor) {
            (None, None) if table.is_empty() => {
                item.refuse_with(&mut self.problems, "has no rule", RULES);
                None
            }
            (_, None) => Some(rules),
            (Some(ColumnConflict::Additive { floor: least }), Some((floor, _))) => {
                *least = Some(floor);
                Some(rules)
            }
            (_, Some((_, floor))) => {
                floor.contradicts(&mut self.problems, "is for additive columns alone", "take it away");
                None
            }
        }
    }

    fn column_name(&mut self, item: &Item<'_, '_>) -> Option<String> {
        let text = item.text(&mut self.problems)?;
        if text.is_empty() {
            item.refuse(&mut self.problems, "is empty; it is the column's name on that node");
            return None;
        }
        Some(text.to_owned())
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

    /// What stands for a value; `Some(None)`: nothing, its row goes into quarantine. `None`: it is refused.
    fn stand_in(&mut self, rule: &str, item: &Item<'_, '_>) -> Option<Option<Instead>> {
        let text = item.text(&mut self.problems)?;
        let words = STAND_INS.iter().find(|(name, _)| *name == rule).map_or(&[][..], |(_, words)| words);
        if text == QUARANTINE {
            return Some(None);
        }
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, instead)| Some(*instead));
        if found.is_none() {
            let words = || words.iter().map(|(word, _)| *word).chain([QUARANTINE]);
            let near = did_you_mean(text, words());
            let all: Vec<String> = words().map(|word| format!("{word:?}")).collect();
            item.refuse_with(
                &mut self.problems,
                format!("{text:?} is nothing that {rule} can be{near}"),
                format!("it is {}", all.join(" or ")),
            );
        }
        found
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
