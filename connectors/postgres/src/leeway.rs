//! What an operator lets become of values that one side alone can hold ([`pontoon_core::Leeway`]), as an expression. Pure.
//!
//! It has to come to what [`pontoon_core::MappedColumn::common`] comes to, value for value: the engine compares by the one, a
//! conditional write by the other. Infinity and NaN are values here: they compare as the greatest and the least, NaN above
//! all ("Numeric Types" and "Date/Time Types" of the manual), so that they are looked for by name first.

use pontoon_core::{Form, Instead, Kind, Leeway, MappedColumn, Value, ValueRules, calendar};

use crate::{encode::element_type, statement::REAL_GREATEST};

const SPECIAL: &str = "('NaN', 'Infinity', '-Infinity')";

/// What stands for the column `own` in the pair's common form.
pub(crate) fn common(column: &MappedColumn, own: &str) -> String {
    let Some(leeway) = &column.leeway else { return own.to_owned() };
    let ValueRules { infinity, out_of_range, too_long, .. } = leeway.rules;
    let mut own = own.to_owned();
    if let Some(instead) = infinity {
        own = finite(column, leeway, instead, &own);
    }
    if let (Some(instead), Some((least, greatest))) = (out_of_range, &leeway.range) {
        own = ranged(&column.kind, instead, (least, greatest), &own);
    }
    match leeway.chars_max.filter(|_| too_long.is_some()) {
        Some(most) => format!("left({own}::text, {most})"),
        None => own,
    }
}

fn finite(column: &MappedColumn, leeway: &Leeway, instead: Instead, own: &str) -> String {
    match (&column.kind, column.form, instead, &leeway.range) {
        // A double beyond a real is infinite in common form.
        (Kind::Float64 { .. }, Form::Float32, ..) => format!("(CASE WHEN abs({own}) < {REAL_GREATEST} THEN {own} END)"),
        (Kind::Float32 { .. } | Kind::Float64 { .. } | Kind::Decimal { .. }, ..) => {
            format!("(CASE WHEN {own} NOT IN {SPECIAL} THEN {own} END)")
        }
        (kind, _, Instead::Limit, Some((least, greatest))) => format!(
            "(CASE {own} WHEN 'infinity' THEN {} WHEN '-infinity' THEN {} ELSE {own} END)",
            literal(kind, greatest),
            literal(kind, least)
        ),
        _ => format!("(CASE WHEN isfinite({own}) THEN {own} END)"),
    }
}

fn ranged(kind: &Kind, instead: Instead, (least, greatest): (&Value, &Value), own: &str) -> String {
    let (least, greatest) = (literal(kind, least), literal(kind, greatest));
    // What is infinite has no range, and is another rule's.
    let special = match kind {
        Kind::Decimal { .. } => format!("WHEN {own} IN {SPECIAL} THEN {own} "),
        Kind::Date { .. } | Kind::DateTime { .. } | Kind::Instant { .. } => {
            format!("WHEN NOT isfinite({own}) THEN {own} ")
        }
        _ => String::new(),
    };
    let (low, high) = if instead == Instead::Limit { (&*least, &*greatest) } else { ("NULL", "NULL") };
    format!("(CASE {special}WHEN {own} < {least} THEN {low} WHEN {own} > {greatest} THEN {high} ELSE {own} END)")
}

/// A limit as a value of the column's type.
fn literal(kind: &Kind, limit: &Value) -> String {
    let text = match limit {
        Value::Integer(n) => n.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Date(days) => calendar::format_date(*days),
        Value::Time(micros) => calendar::format_time(*micros),
        Value::DateTime(micros) => calendar::format_datetime(*micros),
        Value::Instant(micros) => calendar::format_instant(*micros),
        // Nothing else has a range.
        _ => return "NULL".to_owned(),
    };
    match kind {
        Kind::Decimal { .. } => format!("numeric '{text}'"),
        _ => format!("{} '{text}'", element_type(kind)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::statement::tests::column;

    fn of(kind: Kind, other: &Kind, rules: ValueRules) -> String {
        let form = Form::of_pair(&kind, other).unwrap();
        let mut column = column("c", kind, form);
        column.leeway = Some(Arc::new(Leeway::of_pair(rules, [&column.kind, other], form).unwrap()));
        common(&column, "c")
    }

    #[test]
    fn expressions_are_as_meant() {
        let bigint = Kind::Integer { min: i64::MIN.into(), max: i64::MAX.into() };
        let small = Kind::Integer { min: -128, max: 127 };
        let limit = ValueRules { out_of_range: Some(Instead::Limit), ..ValueRules::default() };
        assert_eq!(
            of(bigint, &small, limit),
            "(CASE WHEN c < int8 '-128' THEN int8 '-128' WHEN c > int8 '127' THEN int8 '127' ELSE c END)"
        );
        let (rich, poor) = (Kind::Date { days: (-2_000_000, 200_000_000) }, Kind::Date { days: (-354_285, 2_932_896) });
        let null =
            ValueRules { infinity: Some(Instead::Null), out_of_range: Some(Instead::Null), ..ValueRules::default() };
        let finite = "(CASE WHEN isfinite(c) THEN c END)";
        assert_eq!(
            of(rich, &poor, null),
            format!(
                "(CASE WHEN NOT isfinite({finite}) THEN {finite} WHEN {finite} < date '1000-01-01' THEN NULL \
                 WHEN {finite} > date '9999-12-31' THEN NULL ELSE {finite} END)"
            )
        );
        let text = |chars_max, nul| Kind::Text { chars_max, bytes_max: None, padded: false, nul };
        let cut = ValueRules { too_long: Some(Instead::Cut), ..ValueRules::default() };
        assert_eq!(of(text(None, false), &text(Some(60), true), cut), "left(c::text, 60)");
    }
}
