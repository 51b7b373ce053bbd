//! Which columns are pairs, in which form each is compared, and which are left to the side that has them.
//!
//! Columns are known by name, never by place: two of one name are a pair, or two that the configuration gives one name. A
//! column that no pair has and that is not to be ignored is in the way, since nobody has said that its values may stay
//! behind. One that is ignored must be able to do without a value, for rows that arrive bring none.

use pontoon_core::{Column, Form, Kind, MappedColumn, TableSchema, node::Severity};

use super::{
    Draft,
    additions::{Missing, add_it_on},
    rules::UNFIT,
};
use crate::{
    config::{TableChoice, name_across, suggest},
    side::{Pair, Side},
};

/// The pairs of columns in A's order. Generated columns are computed on each side by itself.
pub(super) fn pair(
    draft: &mut Draft<'_>,
    choice: &TableChoice,
    schemas: &Pair<TableSchema>,
) -> Vec<Pair<MappedColumn>> {
    for side in Side::BOTH {
        let TableSchema { columns, key, .. } = &schemas[side];
        for (at, column) in columns.iter().enumerate().filter(|(_, column)| !column.generated) {
            match name_across(&choice.columns, side, &column.name) {
                // That is in the way by itself.
                None if key.contains(&at) => {}
                None => ignored(draft, choice, side, column),
                Some(_) if partner(choice, schemas, side, column).is_some() => {}
                Some(name) => alone(draft, choice, side, column, name),
            }
        }
    }
    for (name, _) in choice.columns.iter().filter(|(_, rules)| rules.ignored) {
        if schemas.iter().all(|schema| schema.column(name).is_none()) {
            let subject = format!("{} column {name}", choice.label);
            let names = schemas.iter().flat_map(|schema| &schema.columns).map(|column| &*column.name);
            let near = suggest(name, names).map(|near| format!("did you mean {near}?"));
            // No harm: it may have been dropped, or be of other tables that match a pattern.
            let (actual, expected) = ("ignored, and on neither side", "a column of either table");
            draft.add(Severity::Warning, UNFIT, &subject, actual, expected, near);
        }
    }
    let mut pairs = Vec::new();
    for a in schemas[Side::A].columns.iter().filter(|column| !column.generated) {
        let Some(b) = partner(choice, schemas, Side::A, a) else { continue };
        pairs.extend(mapped(draft, choice, a, b));
    }
    pairs
}

/// The columns of a side that no pair has.
pub(super) fn left(schema: &TableSchema, columns: &[Pair<MappedColumn>], side: Side) -> Vec<Box<str>> {
    let is_mapped = |name: &str| columns.iter().any(|pair| &*pair[side].column.name == name);
    let names = schema.columns.iter().map(|column| &column.name);
    names.filter(|name| !is_mapped(name)).cloned().collect()
}

/// The column of the other side that is a pair with this one.
fn partner<'a>(
    choice: &TableChoice,
    schemas: &'a Pair<TableSchema>,
    side: Side,
    column: &Column,
) -> Option<&'a Column> {
    let name = name_across(&choice.columns, side, &column.name)?;
    let other = schemas[side.other()].column(name).filter(|other| !other.generated)?;
    // The other may have a name in the configuration that makes it a pair with a third.
    (name_across(&choice.columns, side.other(), &other.name) == Some(&column.name)).then_some(other)
}

fn alone(draft: &mut Draft<'_>, choice: &TableChoice, side: Side, column: &Column, wanted: &str) {
    let subject = format!("{} column {}", choice.label, column.name);
    let [node, other] = [side, side.other()].map(|side| &draft.config.node(side).name);
    let actual = format!("only on {node}");
    let expected = if wanted == &*column.name {
        "the column on both sides".to_owned()
    } else {
        format!("the column on both sides, as {wanted:?} on {other}")
    };
    let name = wanted.to_owned();
    let missing = Missing { finding: draft.findings.len(), choice: choice.clone(), lacking: side.other(), name };
    draft.missing.push(missing);
    let remedy = format!(
        "{}; or name it, columns = {{ {:?} = {{ {other} = \"...\" }} }}; or leave it to {node}, columns = {{ {:?} = \"ignore\" }}",
        add_it_on(other),
        column.name,
        column.name
    );
    draft.block("column-missing", &subject, &actual, &expected, Some(remedy));
}

/// A column whose values stay where they are.
fn ignored(draft: &mut Draft<'_>, choice: &TableChoice, side: Side, column: &Column) {
    if column.optional || !choice.direction.follows(side.other()) {
        return;
    }
    let subject = format!("{} column {}", choice.label, column.name);
    let actual = format!("ignored, not null and without a default on {}", draft.config.node(side).name);
    let remedy = "ALTER the column so that it has a default, or can be null".to_owned();
    draft.block(
        "column-default-missing",
        &subject,
        &actual,
        "a default, since rows that arrive have no value for it",
        Some(remedy),
    );
}

fn mapped(draft: &mut Draft<'_>, choice: &TableChoice, a: &Column, b: &Column) -> Option<Pair<MappedColumn>> {
    let subject = format!("{} column {}", choice.label, a.name);
    let natives = format!("{} and {}", a.native, b.native);
    let (Some(kind_a), Some(kind_b)) = (&a.kind, &b.kind) else {
        let unknown = if a.kind.is_none() { (Side::A, a) } else { (Side::B, b) };
        let actual = format!("{} on {}", unknown.1.native, draft.config.node(unknown.0).name);
        let remedy = Some(format!("leave it to each side, columns = {{ {:?} = \"ignore\" }}", a.name));
        let expected = "a type that this version has a rule for";
        draft.block("column-type-unsupported", &subject, &actual, expected, remedy);
        return None;
    };
    let Some(form) = Form::of_pair(kind_a, kind_b) else {
        draft.block("column-types-differ", &subject, &natives, "two types with a common form", None);
        return None;
    };
    if kind_a != kind_b && narrower(kind_a, kind_b) {
        draft.add(
            Severity::Warning,
            "column-ranges-differ",
            &subject,
            &natives,
            "the same range on both sides; a row with a value that does not fit goes into quarantine",
            None,
        );
    }
    if a.nullable != b.nullable {
        let side = if a.nullable { Side::B } else { Side::A };
        let actual = format!("not null on {} only", draft.config.node(side).name);
        draft.add(Severity::Warning, "column-null-differs", &subject, &actual, "the same on both sides", None);
    }
    let mapped = |column: &Column, kind: &Kind| MappedColumn::new(column.clone(), kind.clone(), form);
    Some(Pair::new(mapped(a, kind_a), mapped(b, kind_b)))
}

/// Whether a value of one side may not fit on the other, although there is a common form.
fn narrower(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::Text { chars_max: x, bytes_max: v, .. }, Kind::Text { chars_max: y, bytes_max: w, .. }) => {
            x != y || v.zip(*w).is_some_and(|(v, w)| v != w)
        }
        (Kind::Bytes { fixed: x, .. }, Kind::Bytes { fixed: y, .. }) => x != y,
        (Kind::Date { .. }, Kind::Date { .. })
        | (Kind::Uuid, _)
        | (_, Kind::Uuid)
        | (Kind::Json { .. }, Kind::Json { .. })
        | (Kind::Float32 { .. }, Kind::Float32 { .. })
        | (Kind::Float64 { .. }, Kind::Float64 { .. }) => false,
        (Kind::Time { precision: x, .. }, Kind::Time { precision: y, .. })
        | (Kind::DateTime { precision: x, .. }, Kind::DateTime { precision: y, .. })
        | (Kind::Instant { precision: x, .. }, Kind::Instant { precision: y, .. }) => x != y,
        _ => true,
    }
}
