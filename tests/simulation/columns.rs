//! The tables of the simulation, and what applications do to their columns.

use pontoon::conflict::policy::{ColumnRule, Policy, RowRule};
use pontoon_core::{Column, Form, Kind, MappedColumn, MappedTable, Row, TableId, TableName, Value, node::Tables};
use pontoon_memory::dice::Dice;

use crate::{
    schedule::{Schedule, Workload},
    tied,
    world::TABLE,
};

/// The place of the counter, and of the least and the greatest that was written.
pub(crate) const COUNTER: usize = 3;
pub(crate) const LEAST: usize = 4;
pub(crate) const GREATEST: usize = 5;

/// What a counter is at the beginning: so little that it comes below nought.
pub(crate) const FIRST: i128 = 5;

/// Whether the rows have columns with rules.
pub(crate) fn has_rules(workload: Workload) -> bool {
    matches!(workload, Workload::Counters | Workload::Added | Workload::Stock | Workload::Columns)
}

/// A column that is the same on all nodes.
pub(crate) fn column(name: &str, kind: &Kind, form: Form) -> MappedColumn {
    let column = Column { nullable: false, ..Column::plain(name, "any", kind.clone()) };
    MappedColumn::new(column, kind.clone(), form)
}

/// The name of the table, and the table that is set aside where there are two.
pub(crate) const LABEL: &str = "registers";
pub(crate) const MORE: TableId = TableId(1);

pub(crate) fn tables(workload: Workload) -> Tables {
    if workload == Workload::Tied {
        return tied::tables();
    }
    let text = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
    let integer = Kind::Integer { min: -(1 << 40), max: 1 << 40 };
    let text_form = Form::Text { padded: false };
    let mut columns =
        vec![column("id", &integer, Form::Integer), column("v", &text, text_form), column("w", &text, text_form)];
    if has_rules(workload) {
        columns.extend(["n", "least", "greatest"].map(|name| column(name, &integer, Form::Integer)));
    }
    let table = |id: TableId, label: &str| MappedTable {
        id,
        by_columns: has_rules(workload) || workload == Workload::Columns,
        ..MappedTable::plain(TableName::new("main", label), columns.clone())
    };
    match workload {
        Workload::Aside => [table(TABLE, LABEL), table(MORE, "more")].into(),
        _ => [table(TABLE, LABEL)].into(),
    }
}

/// How conflicts are settled. Now and then a person decides also where rows move or are copied.
pub(crate) fn policy(schedule: &Schedule, dice: &Dice) -> Policy {
    let workload = schedule.workload;
    if workload == Workload::Tied {
        return tied::policy(schedule.seed, dice);
    }
    let row = match workload {
        Workload::Held => RowRule::Quarantine,
        Workload::NewKeys if schedule.seed.is_multiple_of(2) => RowRule::Quarantine,
        Workload::Moves | Workload::Copy | Workload::Aside if schedule.seed.is_multiple_of(5) => RowRule::Quarantine,
        Workload::Columns => RowRule::ColumnMerge,
        Workload::Counters | Workload::Added if dice.chance(0.5) => RowRule::ColumnMerge,
        _ => RowRule::LastWriterWins,
    };
    if !has_rules(workload) {
        return Policy::of_rows(row);
    }
    let floor = dice.chance(0.5).then_some(Value::Integer(0));
    let rules = [ColumnRule::Additive { floor }, ColumnRule::Min, ColumnRule::Max].map(Some);
    Policy { columns: [None, None, None].into_iter().chain(rules).collect(), ..Policy::of_rows(row) }
}

pub(crate) fn row(workload: Workload, key: i64, v: &str, w: &str) -> Row {
    let mut values = vec![Value::Integer(key.into()), Value::Text(v.into()), Value::Text(w.into())];
    if has_rules(workload) {
        values.extend([FIRST, 0, 0].map(Value::Integer));
    }
    Row(values)
}

/// A row of which some columns are changed; the least only ever becomes less and the greatest more.
pub(crate) fn changed(before: &Row, dice: &Dice, value: impl Fn() -> String) -> Row {
    let mut after = before.clone();
    let number = |at: usize| number(before, at);
    for at in
        dice.pick(&[&[1][..], &[2], &[3], &[1, 3], &[1, 2], &[3, 3], &[4], &[5], &[1, 4, 5]]).copied().unwrap_or(&[3])
    {
        after.0[*at] = match *at {
            COUNTER => Value::Integer(number(COUNTER) + i128::from(*dice.pick(&[-3, -2, -1, 1, 2]).unwrap_or(&1))),
            LEAST => Value::Integer(number(LEAST) - i128::from(dice.between(0, 9))),
            GREATEST => Value::Integer(number(GREATEST) + i128::from(dice.between(0, 9))),
            _ => Value::Text(value().into()),
        };
    }
    after
}

/// The number in a column.
pub(crate) fn number(row: &Row, at: usize) -> i128 {
    match row.0[at] {
        Value::Integer(n) => n,
        _ => 0,
    }
}
