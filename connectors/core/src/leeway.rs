//! What an operator lets become of values that only one side of a pair can hold.
//!
//! By default nothing becomes of them: their row goes into quarantine. A rule of [`ValueRules`] makes the pair's common form
//! poorer instead, by as much as its words say: a zero date *is* a null there, a number beyond the other side's range *is* the
//! last one within it. That is done wherever a value comes into common form ([`crate::MappedColumn::common`]), on
//! both sides alike, and the connectors' conditions say the same in SQL. So what follows from the common form holds here too: the
//! original and what stands for it are equal, whoever compares; a write that changes something else does not touch the
//! column; and what stands for a value is never written back over the original, until somebody writes another value.
//!
//! Pure. Limits are those that both sides have, so that what is left fits on either.

use std::{
    cmp::Ordering,
    sync::atomic::{self, AtomicU64},
};

use crate::{decimal, form::Form, kind::Kind, value::Value};

/// The character that [`Instead::Replace`] puts (Unicode, "Replacement Character").
const REPLACEMENT: char = '\u{FFFD}';

/// What stands for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Null.
    Null,
    /// The least or the greatest value that both sides can hold.
    Limit,
    /// The text without the characters.
    Remove,
    /// The text with U+FFFD in their place.
    Replace,
    /// As many characters of the text as both sides can hold.
    Cut,
}

/// What an operator says of a column's values, by what is the matter with them. `None`: quarantine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ValueRules {
    /// A date with a year, month or day of zero, or one that no calendar has: [`Instead::Null`].
    pub zero_date: Option<Instead>,
    /// Infinity, and what is no number: [`Instead::Null`]; of dates also [`Instead::Limit`].
    pub infinity: Option<Instead>,
    /// A NUL character in a text: [`Instead::Remove`] or [`Instead::Replace`].
    pub nul_byte: Option<Instead>,
    /// A number, date or time beyond what one side can hold: [`Instead::Null`] or [`Instead::Limit`].
    pub out_of_range: Option<Instead>,
    /// A text of more characters than one side can hold: [`Instead::Cut`].
    pub too_long: Option<Instead>,
}

impl ValueRules {
    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        *self == ValueRules::default()
    }
}

/// What was the matter with a value that another one stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// [`ValueRules::zero_date`].
    ZeroDate,
    /// [`ValueRules::infinity`].
    Infinity,
    /// [`ValueRules::nul_byte`].
    NulByte,
    /// [`ValueRules::out_of_range`].
    OutOfRange,
    /// [`ValueRules::too_long`].
    TooLong,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 5] = [Fault::ZeroDate, Fault::Infinity, Fault::NulByte, Fault::OutOfRange, Fault::TooLong];
}

/// The faults of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults(u8);

impl Faults {
    fn met(&mut self, fault: Fault) {
        self.0 |= 1 << fault as u8;
    }

    fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u8 != 0
    }
}

/// How many values of one column were read to be written to the other side and are other values there, by their faults. No part of
/// what a column is: two with other counts are equal, and a copy begins at none.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Fault::ALL.len()]);

impl Counts {
    fn add(&self, faults: Faults) {
        for (count, _) in self.0.iter().zip(Fault::ALL).filter(|(_, fault)| faults.has(*fault)) {
            count.fetch_add(1, atomic::Ordering::Relaxed);
        }
    }

    /// What has been counted since this was asked last.
    pub fn take(&self) -> [u64; Fault::ALL.len()] {
        self.0.each_ref().map(|count| count.swap(0, atomic::Ordering::Relaxed))
    }
}

impl Clone for Counts {
    fn clone(&self) -> Self {
        Counts::default()
    }
}

impl PartialEq for Counts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Counts {}

/// The rules of a pair of columns, with its limits. The same on both sides, but for what is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leeway {
    /// What is to become of values.
    pub rules: ValueRules,
    /// The least and the greatest value that both sides can hold, in common form, where one side can hold others.
    pub range: Option<(Value, Value)>,
    /// How many characters both sides can hold.
    pub chars_max: Option<u32>,
    /// What it has done to values of this side.
    pub counts: Counts,
}

/// A rule that cannot be kept by a pair of columns: its name, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(pub &'static str, pub &'static str);

impl Leeway {
    /// The rules of a pair. Errors: one that no value of the pair would ever need, or that has no limit to keep to.
    pub fn of_pair(rules: ValueRules, kinds: [&Kind; 2], form: Form) -> Result<Leeway, Unfit> {
        let is_day = matches!(form, Form::Date | Form::DateTime { .. } | Form::Instant { .. });
        let is_exact = matches!(form, Form::Integer | Form::Decimal);
        let are_texts = kinds.iter().all(|kind| matches!(kind, Kind::Text { .. }));
        let range = common_range(kinds, form);
        let chars_max = match kinds.map(chars_max) {
            [Some(a), Some(b)] => Some(a.min(b)),
            [a, b] => a.or(b),
        };
        let limited = "dates, times and numbers of which one side can hold fewer than the other";
        for (rule, name, is_fit, needed) in [
            (rules.zero_date, "zero_date", is_day, "dates"),
            (
                rules.infinity,
                "infinity",
                is_day || matches!(form, Form::Decimal | Form::Float32 | Form::Float64),
                "dates, decimals and floats",
            ),
            (rules.nul_byte, "nul_byte", are_texts, "texts"),
            (rules.out_of_range, "out_of_range", range.is_some() && (is_day || is_exact || is_time(form)), limited),
            (
                rules.too_long,
                "too_long",
                are_texts && chars_max.is_some(),
                "texts with a limit in characters on one side",
            ),
        ] {
            if rule.is_some() && !is_fit {
                return Err(Unfit(name, needed));
            }
        }
        if rules.infinity == Some(Instead::Limit) && !(is_day && range.is_some()) {
            return Err(Unfit("infinity = \"limit\"", "dates of which one side can hold fewer than the other"));
        }
        Ok(Leeway { rules, range, chars_max, counts: Counts::default() })
    }

    /// Whether a column of this kind can hold values beyond the pair's range.
    pub fn is_exceeded_by(&self, kind: &Kind, form: Form) -> bool {
        let Some((least, greatest)) = &self.range else { return false };
        range_of(kind, form).is_none_or(|(from, to)| is_less(&from, least) || is_less(greatest, &to))
    }

    /// The server's value in the pair's common form, and what was the matter with it.
    pub(crate) fn common(&self, value: Value, form: Form) -> (Value, Faults) {
        let mut faults = Faults::default();
        let value = form.convert(self.before(value, &mut faults));
        match self.instead(&value, form) {
            Some((fault, instead)) => {
                faults.met(fault);
                (instead, faults)
            }
            None => (value, faults),
        }
    }

    /// The same of a value that is to be written to the other side: it is counted what was the matter with it.
    pub(crate) fn crossing(&self, value: Value, form: Form) -> Value {
        let (value, faults) = self.common(value, form);
        if faults != Faults::default() {
            self.counts.add(faults);
        }
        value
    }

    /// A server's value before it is brought into common form: texts, of which that takes blanks.
    fn before(&self, value: Value, faults: &mut Faults) -> Value {
        let Value::Text(text) = &value else { return value };
        let (nul, most) = (self.rules.nul_byte, self.chars_max.filter(|_| self.rules.too_long.is_some()));
        let is_long = |most: u32| text.chars().nth(most as usize).is_some();
        let has_nul = nul.is_some() && text.contains('\0');
        if !(has_nul || most.is_some_and(is_long)) {
            return value;
        }
        let kept = text.chars().filter(|c| nul != Some(Instead::Remove) || *c != '\0');
        let mut kept = kept.map(|c| if c == '\0' && nul == Some(Instead::Replace) { REPLACEMENT } else { c });
        let cut: String = kept.by_ref().take(most.map_or(usize::MAX, |most| most as usize)).collect();
        if has_nul {
            faults.met(Fault::NulByte);
        }
        if kept.next().is_some() {
            faults.met(Fault::TooLong);
        }
        Value::Text(cut.into())
    }

    /// What stands for a value in common form, or without one, and why; `None` for itself.
    fn instead(&self, value: &Value, form: Form) -> Option<(Fault, Value)> {
        let ValueRules { zero_date, infinity, out_of_range, .. } = self.rules;
        match value {
            Value::Unmapped(text) => match Special::of(text) {
                Some(Special::Beyond) => {
                    let (_, greatest) = self.range.as_ref()?;
                    Some((Fault::OutOfRange, limit(out_of_range?, greatest)))
                }
                Some(special) => Some((Fault::Infinity, self.special(special, infinity)?)),
                None => (zero_date.is_some() && !is_time(form)).then_some((Fault::ZeroDate, Value::Null)),
            },
            Value::Float32(x) if !x.is_finite() => infinity.map(|_| (Fault::Infinity, Value::Null)),
            Value::Float64(x) if !x.is_finite() => infinity.map(|_| (Fault::Infinity, Value::Null)),
            _ => {
                let ((least, greatest), instead) = (self.range.as_ref()?, out_of_range?);
                let nearest = [is_less(value, least).then_some(least), is_less(greatest, value).then_some(greatest)];
                Some((Fault::OutOfRange, limit(instead, nearest.into_iter().flatten().next()?)))
            }
        }
    }

    fn special(&self, special: Special, infinity: Option<Instead>) -> Option<Value> {
        match (infinity?, special, &self.range) {
            (Instead::Limit, Special::Least, Some((least, _))) => Some(least.clone()),
            (Instead::Limit, Special::Greatest, Some((_, greatest))) => Some(greatest.clone()),
            (Instead::Limit, ..) => None,
            _ => Some(Value::Null),
        }
    }
}

/// What PostgreSQL prints where there is no number or day ("Date/Time Types" and "Numeric Types" of its manual), or a
/// year of more than four digits, which no other server has.
enum Special {
    Least,
    Greatest,
    None,
    Beyond,
}

impl Special {
    fn of(text: &str) -> Option<Special> {
        Some(match text {
            "-infinity" | "-Infinity" => Special::Least,
            "infinity" | "Infinity" => Special::Greatest,
            "NaN" => Special::None,
            _ if text.find(|c: char| !c.is_ascii_digit()) > Some(4) => Special::Beyond,
            _ => return None,
        })
    }
}

fn limit(instead: Instead, limit: &Value) -> Value {
    if instead == Instead::Limit { limit.clone() } else { Value::Null }
}

fn is_time(form: Form) -> bool {
    matches!(form, Form::Time { .. })
}

fn chars_max(kind: &Kind) -> Option<u32> {
    match kind {
        Kind::Text { chars_max, .. } => *chars_max,
        _ => None,
    }
}

/// The values that both can hold; `None` where both hold the same, or their limits cannot be told.
fn common_range([a, b]: [&Kind; 2], form: Form) -> Option<(Value, Value)> {
    match (range_of(a, form), range_of(b, form)) {
        (Some(a), Some(b)) if a == b => None,
        (Some((from, to)), Some((least, greatest))) => Some((
            if is_less(&from, &least) { least } else { from },
            if is_less(&greatest, &to) { greatest } else { to },
        )),
        // A number without limits is no limit.
        (Some(range), None) if matches!(b, Kind::Decimal { digits: None }) => Some(range),
        (None, Some(range)) if matches!(a, Kind::Decimal { digits: None }) => Some(range),
        _ => None,
    }
}

/// The least and the greatest value of a kind in common form.
fn range_of(kind: &Kind, form: Form) -> Option<(Value, Value)> {
    /// MySQL's greatest span: 838:59:59.
    const SPAN: i64 = 3_020_399_000_000;
    const DAY: i64 = 86_399_999_999;
    let range = match kind {
        Kind::Integer { min, max } => (Value::Integer(*min), Value::Integer(*max)),
        Kind::Decimal { digits: Some((digits, scale)) } => {
            let (whole, part) = (usize::from(digits.saturating_sub(*scale)), usize::from(*scale));
            let nines = decimal::canonical(&format!("0{}.{}0", "9".repeat(whole), "9".repeat(part)))?;
            (Value::Decimal(decimal::negated(&nines).into()), Value::Decimal(nines.into()))
        }
        Kind::Date { days } => (Value::Date(days.0), Value::Date(days.1)),
        Kind::DateTime { micros, .. } => (Value::DateTime(micros.0), Value::DateTime(micros.1)),
        Kind::Instant { micros, .. } => (Value::Instant(micros.0), Value::Instant(micros.1)),
        Kind::Time { span: true, .. } => (Value::Time(-SPAN), Value::Time(SPAN)),
        Kind::Time { .. } => (Value::Time(0), Value::Time(DAY)),
        _ => return None,
    };
    // Integers are wider than any column: of a decimal with more digits they cannot tell the limit.
    let range = (form.convert(range.0), form.convert(range.1));
    let is_known = |value: &Value| !matches!(value, Value::Unmapped(_));
    Some(range).filter(|(least, greatest)| is_known(least) && is_known(greatest))
}

/// Whether a value is before another of one form; nothing else is.
fn is_less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a < b,
        (Value::Decimal(a), Value::Decimal(b)) => decimal::compare(a, b) == Some(Ordering::Less),
        (Value::Date(a), Value::Date(b)) => a < b,
        (Value::Time(a), Value::Time(b))
        | (Value::DateTime(a), Value::DateTime(b))
        | (Value::Instant(a), Value::Instant(b)) => a < b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: Kind = Kind::Integer { min: -128, max: 127 };
    const BIG: Kind = Kind::Integer { min: i64::MIN as i128, max: i64::MAX as i128 };
    const TEXT: Kind = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: false };
    const FIVE: Kind = Kind::Text { chars_max: Some(5), bytes_max: None, padded: true, nul: true };

    fn of(rules: ValueRules, kinds: [&Kind; 2]) -> Result<(Leeway, Form), Unfit> {
        let form = Form::of_pair(kinds[0], kinds[1]).unwrap();
        Leeway::of_pair(rules, kinds, form).map(|leeway| (leeway, form))
    }

    fn common((leeway, form): &(Leeway, Form), value: Value) -> Value {
        leeway.common(value, *form).0
    }

    fn out_of_range(instead: Instead) -> ValueRules {
        ValueRules { out_of_range: Some(instead), ..ValueRules::default() }
    }

    fn infinity(instead: Instead) -> ValueRules {
        ValueRules { infinity: Some(instead), ..ValueRules::default() }
    }

    #[test]
    fn what_is_beyond_is_the_limit_or_null() {
        let limit = of(out_of_range(Instead::Limit), [&BIG, &SMALL]).unwrap();
        let null = of(out_of_range(Instead::Null), [&SMALL, &BIG]).unwrap();
        for (n, limited) in [(128, 127), (-129, -128), (127, 127), (0, 0)] {
            assert_eq!(common(&limit, Value::Integer(n)), Value::Integer(limited));
            let expected = if n == limited { Value::Integer(n) } else { Value::Null };
            assert_eq!(common(&null, Value::Integer(n)), expected);
        }
        let money = of(
            out_of_range(Instead::Limit),
            [&Kind::Decimal { digits: None }, &Kind::Decimal { digits: Some((5, 2)) }],
        );
        let money = money.unwrap();
        let decimal = |text: &str| Value::Decimal(text.into());
        for (text, limited) in [("1000", "999.99"), ("-1e40", "-999.99"), ("999.99", "999.99"), ("0.001", "0.001")] {
            assert_eq!(common(&money, decimal(text)), decimal(limited), "{text}");
        }
        let span = of(
            out_of_range(Instead::Limit),
            [&Kind::Time { precision: 6, span: true }, &Kind::Time { precision: 0, span: false }],
        );
        assert_eq!(common(&span.unwrap(), Value::Time(90_000_000_000)), Value::Time(86_399_000_000));
    }

    #[test]
    fn days_that_are_none_are_null() {
        let (rich, poor) = (Kind::Date { days: (-2_000_000, 200_000_000) }, Kind::Date { days: (-719_162, 2_932_896) });
        let rules = ValueRules { zero_date: Some(Instead::Null), ..ValueRules::default() };
        let zero = of(rules, [&rich, &poor]).unwrap();
        for text in ["0000-00-00", "2026-00-10", "2026-02-30"] {
            assert_eq!(common(&zero, Value::Unmapped(text.into())), Value::Null, "{text}");
        }
        assert!(matches!(common(&zero, Value::Unmapped("infinity".into())), Value::Unmapped(_)), "another rule's");
        let endless = of(infinity(Instead::Limit), [&rich, &poor]).unwrap();
        assert_eq!(common(&endless, Value::Unmapped("infinity".into())), Value::Date(2_932_896));
        assert_eq!(common(&endless, Value::Unmapped("-infinity".into())), Value::Date(-719_162));
        let beyond = of(out_of_range(Instead::Limit), [&rich, &poor]).unwrap();
        assert_eq!(common(&beyond, Value::Unmapped("20000-01-01".into())), Value::Date(2_932_896));
        assert!(matches!(common(&zero, Value::Unmapped("20000-01-01".into())), Value::Unmapped(_)), "another rule's");
        assert!(matches!(common(&endless, Value::Unmapped("0000-00-00".into())), Value::Unmapped(_)), "another rule's");
        assert_eq!(common(&endless, Value::Date(2_932_897)), Value::Date(2_932_897), "beyond, and not infinite");
    }

    #[test]
    fn what_is_no_number_is_null() {
        let double = |special| Kind::Float64 { special };
        let float = of(infinity(Instead::Null), [&double(true), &double(false)]).unwrap();
        assert_eq!(common(&float, Value::Float64(f64::NAN)), Value::Null);
        assert_eq!(common(&float, Value::Float64(1.5)), Value::Float64(1.5));
        let numeric = Kind::Decimal { digits: None };
        let numeric = of(infinity(Instead::Null), [&numeric, &Kind::Decimal { digits: Some((5, 2)) }]).unwrap();
        assert_eq!(common(&numeric, Value::Unmapped("NaN".into())), Value::Null);
    }

    #[test]
    fn texts_are_freed_of_nul_before_they_are_cut() {
        let text = |text: &str| Value::Text(text.into());
        let rules = |nul_byte, too_long| ValueRules { nul_byte, too_long, ..ValueRules::default() };
        let both = of(rules(Some(Instead::Remove), Some(Instead::Cut)), [&TEXT, &FIVE]).unwrap();
        for (value, kept) in [("\0äöüß\0xyz", "äöüßx"), ("abc   def", "abc"), ("abcde", "abcde")] {
            assert_eq!(common(&both, text(value)), text(kept), "{value:?}");
        }
        let replaced = of(rules(Some(Instead::Replace), None), [&TEXT, &FIVE]).unwrap();
        assert_eq!(common(&replaced, text("a\0bcdefg")), text("a\u{FFFD}bcdefg"));
    }

    #[test]
    fn what_crosses_is_counted_by_what_was_the_matter_with_it() {
        let text = |text: &str| Value::Text(text.into());
        let rules =
            ValueRules { nul_byte: Some(Instead::Remove), too_long: Some(Instead::Cut), ..ValueRules::default() };
        let (texts, form) = of(rules, [&TEXT, &FIVE]).unwrap();
        let counted = |faults: &[(Fault, u64)]| {
            let count = |fault| faults.iter().find(|(of, _)| *of == fault).map_or(0, |(_, count)| *count);
            Fault::ALL.map(count)
        };
        for value in ["\0abcde", "abcdef", "\0abcdef", "abcde", "abcde   "] {
            assert_eq!(texts.crossing(text(value), form), texts.common(text(value), form).0, "{value:?}");
        }
        // Blanks at the end are no part of such a text, but what is cut is cut before they are taken.
        assert_eq!(texts.counts.take(), counted(&[(Fault::NulByte, 2), (Fault::TooLong, 3)]));
        assert_eq!(texts.counts.take(), counted(&[]), "each once");

        let (rich, poor) = (Kind::Date { days: (-2_000_000, 200_000_000) }, Kind::Date { days: (-719_162, 2_932_896) });
        let rules = ValueRules {
            zero_date: Some(Instead::Null),
            infinity: Some(Instead::Null),
            out_of_range: Some(Instead::Limit),
            ..ValueRules::default()
        };
        let (days, form) = of(rules, [&rich, &poor]).unwrap();
        for value in [
            Value::Unmapped("0000-00-00".into()),
            Value::Unmapped("infinity".into()),
            Value::Unmapped("20000-01-01".into()),
            Value::Date(-2_000_000),
            Value::Date(0),
            Value::Null,
        ] {
            days.crossing(value, form);
        }
        let copy = days.clone();
        let expected = counted(&[(Fault::ZeroDate, 1), (Fault::Infinity, 1), (Fault::OutOfRange, 2)]);
        assert_eq!(copy, days, "what is counted is no part of it");
        assert_eq!((days.counts.take(), copy.counts.take()), (expected, counted(&[])));
    }

    #[test]
    fn rules_that_nothing_would_need_are_refused() {
        let cut = ValueRules { too_long: Some(Instead::Cut), ..ValueRules::default() };
        let zero = ValueRules { zero_date: Some(Instead::Null), ..ValueRules::default() };
        let nul = ValueRules { nul_byte: Some(Instead::Remove), ..ValueRules::default() };
        for (rules, kinds) in [
            (out_of_range(Instead::Limit), [&BIG, &BIG]),
            (out_of_range(Instead::Limit), [&TEXT, &FIVE]),
            (infinity(Instead::Limit), [&Kind::Float64 { special: true }, &Kind::Float64 { special: false }]),
            (infinity(Instead::Null), [&BIG, &SMALL]),
            (zero, [&BIG, &SMALL]),
            (nul, [&BIG, &SMALL]),
            (cut, [&TEXT, &TEXT]),
        ] {
            assert!(of(rules, kinds).is_err(), "{rules:?} {kinds:?}");
        }
    }

    proptest! {
        /// What is left fits on both sides, and is left as it is.
        #[test]
        fn what_is_left_fits_and_stays(n in any::<i64>(), text in "[a \0ä]{0,8}", limit in any::<bool>()) {
            let instead = if limit { Instead::Limit } else { Instead::Null };
            let numbers = of(out_of_range(instead), [&BIG, &SMALL]).unwrap();
            let rules = ValueRules { nul_byte: Some(Instead::Remove), too_long: Some(Instead::Cut), ..ValueRules::default() };
            let texts = of(rules, [&TEXT, &FIVE]).unwrap();
            for (leeway, value, kinds) in
                [(&numbers, Value::Integer(n.into()), [BIG, SMALL]), (&texts, Value::Text(text.as_str().into()), [TEXT, FIVE])]
            {
                let once = common(leeway, value);
                prop_assert!(kinds.iter().all(|kind| kind.fits(&once).is_ok()), "{once:?}");
                prop_assert_eq!(common(leeway, once.clone()), once);
            }
        }
    }
}
