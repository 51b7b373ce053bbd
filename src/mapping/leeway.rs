//! What operators let become of values that only one side can hold: whether the columns are such that it can be kept.

use std::sync::Arc;

use pontoon_core::{Instead, Leeway, MappedColumn, ValueRules, leeway::Unfit};

use super::{Draft, rules::UNFIT};
use crate::{
    config::{ColumnConflict, Scheme, TableChoice},
    side::{Pair, Side},
};

/// Gives columns their leeway. A name that is none of them, or one of the key, has been found by [`super::rules::of_columns`].
pub(super) fn give(draft: &mut Draft<'_>, choice: &TableChoice, columns: &mut [Pair<MappedColumn>], key: &[usize]) {
    for (name, rules) in choice.columns.iter().filter(|(_, rules)| !rules.values.is_empty()) {
        let beside = columns.iter_mut().enumerate().filter(|(at, _)| !key.contains(at));
        let name_on_a = rules.name_on(name, Side::A);
        let Some(pair) = beside.map(|(_, pair)| pair).find(|pair| &*pair[Side::A].column.name == name_on_a) else {
            continue;
        };
        let subject = format!("{} column {name}", choice.label);
        if matches!(rules.conflict, Some(ColumnConflict::Additive { .. })) {
            let remedy = "take one of the two away: what stands for a number has no sum".to_owned();
            let actual = "additive, and a rule for values that do not fit";
            draft.block(UNFIT, &subject, actual, "one of the two", Some(remedy));
            continue;
        }
        let natives = format!("{} and {}", pair[Side::A].column.native, pair[Side::B].column.native);
        match Leeway::of_pair(rules.values, [&pair[Side::A].kind, &pair[Side::B].kind], pair[Side::A].form) {
            Err(Unfit(rule, needed)) => {
                let remedy = format!("take {rule} away");
                draft.block(UNFIT, &subject, &natives, &format!("{needed} for {rule}"), Some(remedy));
            }
            Ok(leeway) => {
                nulls(draft, &subject, &leeway, pair);
                // Each its own: what is counted is of one side.
                for side in Side::BOTH {
                    pair[side].leeway = Some(Arc::new(leeway.clone()));
                }
            }
        }
    }
}

/// Where a null stands for a value, the column has to be one that can be null.
fn nulls(draft: &mut Draft<'_>, subject: &str, leeway: &Leeway, pair: &Pair<MappedColumn>) {
    let ValueRules { zero_date, infinity, out_of_range, .. } = leeway.rules;
    let is = |side: Side, scheme: Scheme| draft.config.node(side).scheme == scheme;
    let receives = |side: Side| {
        // PostgreSQL has no zero dates, MySQL and MariaDB have no infinity.
        zero_date == Some(Instead::Null) && is(side, Scheme::Postgres)
            || infinity == Some(Instead::Null) && is(side, Scheme::Mysql)
            || out_of_range == Some(Instead::Null) && {
                let [own, other] = [side, side.other()].map(|side| &pair[side]);
                leeway.is_exceeded_by(&other.kind, other.form) && !leeway.is_exceeded_by(&own.kind, own.form)
            }
    };
    let missing = Side::BOTH.into_iter().find(|side| receives(*side) && !pair[*side].column.nullable);
    if let Some(side) = missing {
        let actual = format!("not null on {}", draft.config.node(side).name);
        let remedy = "ALTER the column so that it can be null there, or take the rule away".to_owned();
        draft.block(
            UNFIT,
            subject,
            &actual,
            "a column that can be null, since a null is to stand for values",
            Some(remedy),
        );
    }
}

/// Values that constraints compare have to be what they are: two that one value stands for would be two rows here and one there.
pub(super) fn untied(draft: &mut Draft<'_>) {
    let mut found = Vec::new();
    for side in Side::BOTH {
        for table in &draft.tables[side] {
            let uniques = table.uniques.iter().map(|unique| (&unique.name, &unique.columns, table));
            let references = table.references.iter().flat_map(|reference| {
                let parent = draft.tables[side].get(reference.parent.index());
                let parent = parent.map(|parent| (&reference.name, &reference.parent_columns, parent));
                [(&reference.name, &reference.columns, table)].into_iter().chain(parent)
            });
            for (name, places, table) in uniques.chain(references) {
                let columns = places.iter().filter_map(|&at| table.columns.get(at));
                for column in columns.filter(|column| column.leeway.is_some()) {
                    let subject = format!("{} column {}", table.label, column.column.name);
                    found.push((subject, format!("one of {name} on {}", draft.config.node(side).name)));
                }
            }
        }
    }
    for (subject, actual) in found {
        let remedy = Some("take the rule away".to_owned());
        draft.block(
            UNFIT,
            &subject,
            &actual,
            "a column without constraints, for a rule for values that do not fit",
            remedy,
        );
    }
}
