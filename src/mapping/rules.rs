//! The rules of single columns: whether they can be kept by the columns that they are for.

use pontoon_core::{Form, MappedColumn, Value, node::Severity};

use super::Draft;
use crate::{
    config::{ColumnConflict, Direction, TableChoice, suggest},
    conflict::policy::ColumnRule,
    side::{Pair, Side},
};

/// The code of a rule that its column cannot keep.
pub(super) const UNFIT: &str = "column-rule-unfit";

/// The rules of a table's columns by their place, as far as they are fit.
pub(super) fn of_columns(
    draft: &mut Draft<'_>,
    choice: &TableChoice,
    columns: &[Pair<MappedColumn>],
    key: &[usize],
) -> Vec<Option<ColumnRule>> {
    let mut rules = vec![None; columns.len()];
    let names = || columns.iter().map(|pair| &*pair[Side::A].column.name);
    for (name, rule) in choice.columns.iter().filter(|(_, rule)| !rule.ignored) {
        let subject = format!("{} column {name}", choice.label);
        let Some(at) = names().position(|known| known == rule.name_on(name, Side::A)) else {
            let near = suggest(name, names()).map(|near| format!("did you mean {near}?"));
            draft.block(UNFIT, &subject, "a rule for a column that is not bridged", "a column of both tables", near);
            continue;
        };
        let has_rule = rule.conflict.is_some() || !rule.values.is_empty();
        if has_rule && key.contains(&at) {
            let remedy = Some("take the rule away".to_owned());
            draft.block(UNFIT, &subject, "a rule for a key column", "rules for columns beside the key", remedy);
            continue;
        }
        if let Some(rule) = &rule.conflict {
            rules[at] = of_column(draft, choice, &subject, rule, &columns[at]);
        }
    }
    rules
}

fn of_column(
    draft: &mut Draft<'_>,
    choice: &TableChoice,
    subject: &str,
    rule: &ColumnConflict,
    pair: &Pair<MappedColumn>,
) -> Option<ColumnRule> {
    let natives = format!("{} and {}", pair[Side::A].column.native, pair[Side::B].column.native);
    let form = pair[Side::A].form;
    match rule {
        ColumnConflict::LastWriterWins => Some(ColumnRule::LastWriterWins),
        ColumnConflict::Prefer(side) => Some(ColumnRule::Prefer(*side)),
        ColumnConflict::Min | ColumnConflict::Max if !is_ordered(form) => {
            let needed = "min and max of a number, a date or a time";
            draft.block(UNFIT, subject, &natives, needed, Some("take the rule away".into()));
            None
        }
        ColumnConflict::Min => Some(ColumnRule::Min),
        ColumnConflict::Max => Some(ColumnRule::Max),
        ColumnConflict::Additive { floor } => additive(draft, choice, subject, floor.as_deref(), pair),
    }
}

/// Both servers order the values alike, and so does the bridge.
fn is_ordered(form: Form) -> bool {
    match form {
        Form::Integer
        | Form::Decimal
        | Form::Float32
        | Form::Float64
        | Form::Date
        | Form::Time { .. }
        | Form::DateTime { .. }
        | Form::Instant { .. } => true,
        Form::Boolean | Form::Text { .. } | Form::Bytes | Form::Json | Form::Uuid => false,
    }
}

fn additive(
    draft: &mut Draft<'_>,
    choice: &TableChoice,
    subject: &str,
    floor: Option<&str>,
    pair: &Pair<MappedColumn>,
) -> Option<ColumnRule> {
    let natives = format!("{} and {}", pair[Side::A].column.native, pair[Side::B].column.native);
    let form = pair[Side::A].form;
    if !matches!(form, Form::Integer | Form::Decimal) {
        let remedy = "take the rule away, or give the column an integer or a decimal type on both sides";
        draft.block(UNFIT, subject, &natives, "an exact number on both sides for additive", Some(remedy.into()));
        return None;
    }
    if choice.direction != Direction::Both {
        let remedy = "take the rule away: what is written on one side alone is there as it was written";
        draft.block(UNFIT, subject, "rows go one way only", "both ways for additive", Some(remedy.into()));
        return None;
    }
    if Side::BOTH.into_iter().any(|side| pair[side].column.nullable) {
        let remedy = "ALTER the column to NOT NULL on both sides: a null has no sum, and where one is written the later write wins";
        let needed = "not null for additive";
        draft.add(Severity::Warning, "additive-nullable", subject, "can be null", needed, Some(remedy.into()));
    }
    let floor = match floor {
        None => None,
        Some(text) if form == Form::Decimal => Some(Value::Decimal(text.into())),
        Some(text) => match text.parse() {
            Ok(number) => Some(Value::Integer(number)),
            Err(_) => {
                let actual = format!("floor {text} of {natives}");
                draft.block(UNFIT, subject, &actual, "a whole number", Some("round the floor".into()));
                return None;
            }
        },
    };
    Some(ColumnRule::Additive { floor })
}
