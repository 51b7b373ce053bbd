//! What the tables of the log are to the bridge: mapped, its own, or another's; and what stands in the way.

use pontoon_core::{Code, Error, Kind, MappedTable, Result, schema::are_in_another_order};

use super::{
    rows::Plan,
    table_map::{ColumnType, TableMap},
    values,
};
use crate::charset::Charsets;

/// What a table of the log is to the bridge.
pub(crate) enum Target {
    Foreign,
    Checkpoint(TableMap, Plan),
    Control(TableMap, Plan),
    Mapped {
        index: usize,
        map: TableMap,
        plan: Plan,
        /// For the bridge's own rows.
        own: Option<Plan>,
    },
    Unfit(Error),
    /// A mapped table in another shape than it has now. Of the bridge's own rows the key is enough.
    Former {
        index: usize,
        map: TableMap,
        plan: Plan,
        error: Error,
    },
}

pub(crate) fn no_metadata(label: &str) -> Error {
    Error::new(Code::SettingWrong, format!("{label}: the log holds no column names"))
        .hint("SET GLOBAL binlog_row_metadata = FULL")
}

/// Which column of the log becomes which of the mapped table. What rows that were there hold in one that was added since, no
/// table of the server tells for certain (its default may be another by now), so the row itself is asked
/// ([`pontoon_core::Change::reshaped`]). Where one is gone and another new they may be one under two names, and one of another type holds
/// what the server made of its values: that the row tells, too, but not what was changed in which column. So it is refused where
/// columns have rules.
pub(crate) fn plan(map: &TableMap, table: &MappedTable, shape: &[Box<str>], charsets: &Charsets) -> Result<Plan> {
    if !map.named {
        return Err(no_metadata(&table.label));
    }
    let kinds = table.columns.iter().map(|column| column.kind.clone()).collect();
    let mut plan = Plan { places: vec![None; map.columns.len()], kinds, ..Plan::default() };
    let names = map.columns.iter().map(|column| column.name.as_str());
    plan.reshaped = are_in_another_order(names, shape.iter().map(|name| &**name));
    let only_added = map.columns.iter().all(|column| shape.iter().any(|known| **known == *column.name));
    for (place, mapped) in table.columns.iter().enumerate() {
        let changed = |what: &str| {
            Error::new(
                Code::SchemaChanged,
                format!("{}: in the log the column {} {what}", table.label, mapped.column.name),
            )
            .hint("make the same change on the other side and start again")
            .of_table(&table.label)
        };
        let at = map.columns.iter().position(|column| *column.name == *mapped.column.name);
        let read = at.filter(|&at| values::agrees(&map.columns[at].column_type, &mapped.kind, charsets));
        if let Some(at) = read {
            plan.places[at] = Some(place);
            continue;
        }
        if table.key.contains(&place) || table.by_columns && (at.is_some() || !only_added) {
            return Err(changed(if at.is_some() { "has another type" } else { "is not there" }));
        }
        plan.added.push(place);
        plan.reshaped = true;
    }
    Ok(plan)
}

/// The same for the bridge's own rows, whatever shape the table had: the key.
pub(crate) fn key_plan(map: &TableMap, table: &MappedTable) -> Option<Plan> {
    let mut places = vec![None; map.columns.len()];
    for &place in &table.key {
        let name = &*table.columns[place].column.name;
        places[map.columns.iter().position(|column| *column.name == *name)?] = Some(place);
    }
    let kinds = table.columns.iter().map(|column| column.kind.clone()).collect();
    map.named.then_some(Plan { places, kinds, ..Plan::default() })
}

/// The same for the bridge's own tables: each column by its name, or by its place in the table that setup made
/// where the log holds no names.
pub(crate) fn own_plan(map: &TableMap, columns: &[(&str, usize)]) -> Option<Plan> {
    let mut places = vec![None; map.columns.len()];
    let mut kinds = Vec::new();
    for (place, (name, made_at)) in columns.iter().enumerate() {
        let at = match map.named {
            true => map.columns.iter().position(|column| *column.name == **name)?,
            false => Some(*made_at).filter(|&at| at < map.columns.len())?,
        };
        places[at] = Some(place);
        kinds.push(match map.columns[at].column_type {
            ColumnType::Integer { .. } => Kind::Integer { min: 0, max: i64::MAX.into() },
            _ => Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true },
        });
    }
    Some(Plan { places, kinds, ..Plan::default() })
}
