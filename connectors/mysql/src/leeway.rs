//! What an operator lets become of values that one side alone can hold ([`pontoon_core::Leeway`]), as an expression. Pure.
//!
//! It has to come to what [`pontoon_core::MappedColumn::common`] comes to, value for value: the engine compares by the one, a
//! conditional write by the other. A date may be none here, by `sql_mode`: with a month or a day of zero, or a day that its
//! month does not have (manual, "Server SQL Modes", `NO_ZERO_DATE`, `NO_ZERO_IN_DATE`, `ALLOW_INVALID_DATES`); its parts can be asked for
//! all the same ("Date and Time Functions").

use pontoon_core::{Form, Instead, Kind, Leeway, Value, ValueRules, calendar};

use crate::statement::ColumnSql;

/// The first double that a single-precision number does not take: half way to the next one beyond the greatest.
const REAL_GREATEST: &str = "3.4028235677973366e38";

impl ColumnSql {
    /// What stands for the column `own` in the pair's common form.
    pub(crate) fn common(&self, own: &str) -> String {
        let Some(leeway) = &self.leeway else { return own.to_owned() };
        let ValueRules { zero_date, infinity, nul_byte, .. } = leeway.rules;
        let mut own = own.to_owned();
        if zero_date.is_some() && self.is_day() {
            own = format!("IF({}, {own}, NULL)", is_date(&own));
        }
        // What does not fit a single-precision number is infinite in common form.
        if infinity.is_some() && (&self.kind, self.form) == (&Kind::Float64 { special: false }, Form::Float32) {
            own = format!("IF(ABS({own}) < {REAL_GREATEST}, {own}, NULL)");
        }
        own = self.ranged(leeway, own);
        if let Some(instead) = nul_byte {
            let stands = if instead == Instead::Replace { "CONVERT(0xEFBFBD USING utf8mb4)" } else { "''" };
            own = format!("REPLACE(CONVERT({own} USING utf8mb4), CHAR(0 USING utf8mb4), {stands})");
        }
        match leeway.chars_max.filter(|_| leeway.rules.too_long.is_some()) {
            Some(most) => format!("LEFT({own}, {most})"),
            None => own,
        }
    }

    fn is_day(&self) -> bool {
        matches!(self.kind, Kind::Date { .. } | Kind::DateTime { .. } | Kind::Instant { .. })
    }

    fn ranged(&self, leeway: &Leeway, own: String) -> String {
        let (Some(instead), Some((least, greatest))) = (leeway.rules.out_of_range, &leeway.range) else { return own };
        let (least, greatest) = (literal(least), literal(greatest));
        let (low, high) = if instead == Instead::Limit { (&*least, &*greatest) } else { ("NULL", "NULL") };
        // What is no date is beyond no range.
        let is_beyond = if self.is_day() { format!("{} AND ", is_date(&own)) } else { String::new() };
        format!("IF({is_beyond}{own} < {least}, {low}, IF({is_beyond}{own} > {greatest}, {high}, {own}))")
    }
}

/// Whether a date is one of the calendar.
fn is_date(own: &str) -> String {
    format!(
        "(YEAR({own}) > 0 AND MONTH({own}) > 0 AND DAYOFMONTH({own}) > 0 \
         AND DAYOFMONTH({own}) <= DAYOFMONTH(LAST_DAY(CONCAT(YEAR({own}), '-', MONTH({own}), '-01'))))"
    )
}

/// A limit as a value.
fn literal(limit: &Value) -> String {
    match limit {
        Value::Integer(n) => n.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Date(days) => format!("DATE'{}'", calendar::format_date(*days)),
        Value::Time(micros) => format!("TIME'{}'", calendar::format_time(*micros)),
        Value::DateTime(micros) | Value::Instant(micros) => {
            format!("TIMESTAMP'{}'", calendar::format_datetime(*micros).replace('T', " "))
        }
        // Nothing else has a range.
        _ => "NULL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{connect::Flavour, statement::tests::items};

    fn of(kind: Kind, other: &Kind, rules: ValueRules) -> String {
        let form = Form::of_pair(&kind, other).unwrap();
        let mut table = items(Flavour::Mysql);
        let column = &mut table.columns[1];
        column.leeway = Some(Arc::new(Leeway::of_pair(rules, [&kind, other], form).unwrap()));
        (column.kind, column.form) = (kind, form);
        column.common("c")
    }

    #[test]
    fn expressions_are_as_meant() {
        let unsigned = Kind::Integer { min: 0, max: u64::MAX.into() };
        let small = Kind::Integer { min: -32_768, max: 32_767 };
        let null = ValueRules { out_of_range: Some(Instead::Null), ..ValueRules::default() };
        assert_eq!(of(unsigned, &small, null), "IF(c < 0, NULL, IF(c > 32767, NULL, c))");
        let limit = ValueRules { out_of_range: Some(Instead::Limit), ..ValueRules::default() };
        let (span, day) = (Kind::Time { precision: 0, span: true }, Kind::Time { precision: 6, span: false });
        assert_eq!(
            of(span, &day, limit),
            "IF(c < TIME'00:00:00', TIME'00:00:00', IF(c > TIME'23:59:59', TIME'23:59:59', c))"
        );
        let text = |chars_max, nul| Kind::Text { chars_max, bytes_max: None, padded: false, nul };
        let both =
            ValueRules { nul_byte: Some(Instead::Remove), too_long: Some(Instead::Cut), ..ValueRules::default() };
        assert_eq!(
            of(text(None, true), &text(Some(60), false), both),
            "LEFT(REPLACE(CONVERT(c USING utf8mb4), CHAR(0 USING utf8mb4), ''), 60)"
        );
    }
}
