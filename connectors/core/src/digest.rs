//! Checksums of rows that two different servers compute alike, each over its own table.
//!
//! A row has a *canonical text*: the same bytes on every engine for the same row in common form. A server makes it,
//! hashes it with SHA-256 and combines the first eight bytes of all rows of a range of keys by exclusive or, so that the
//! order does not matter. Two ranges of the same digest hold the same rows, but for one chance in 2^64.
//!
//! # The text
//!
//! The columns stand in the pair's order with a bar between them.
//!
//! | value | text |
//! | --- | --- |
//! | null | `~` |
//! | boolean | `1` or `0` |
//! | integer, exact number | digits, without zeros behind the last one after the point |
//! | text | its length in bytes of UTF-8, a bar, the text |
//! | bytes | the SHA-256 of them, in hexadecimal |
//! | day, time, moment | `2026-11-23`, `10:00:00.5`, `2026-11-23 10:00:00.5`, and `+00` behind what has a zone |
//! | UUID | `123e4567-e89b-12d3-a456-426614174000` |
//!
//! It is injective: two rows that differ in common form have different texts. A text says how long it is, so that it may
//! hold anything; nothing else holds a bar, and nothing else is `~`. So the text can be taken apart again column by
//! column (`rows_that_differ_have_different_texts` tries to prove the contrary). What has no common form (infinity, a zero
//! date) has a text of its server's own, which holds no bar and is not `~` either. Where a text should ever be *finer* than
//! the form, two equal rows have different digests, and a look at the rows themselves tells that they are equal; one that is
//! *coarser* would hide a difference, and there must be none.
//!
//! Which columns have such a text is said here once, for both sides of a pair. Floating point numbers have none, since
//! the servers do not print them alike, nor have documents, which are equal by value and not by spelling.

use sha2::{Digest as _, Sha256};

use crate::{
    calendar,
    change::{Key, Row},
    form::Form,
    kind::Kind,
    schema::{MappedColumn, MappedTable},
    value::{Value, format_uuid},
};

/// What stands between two columns.
pub const BAR: char = '|';

/// What stands for null.
pub const NULL: &str = "~";

/// A part of a table by its keys: behind one key, up to another and with it; without them, from the first row on and to
/// the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span<'a> {
    /// The key before the first.
    pub after: Option<&'a Key>,
    /// The last key.
    pub up_to: Option<&'a Key>,
}

impl<'a> Span<'a> {
    /// All that comes behind a key; the whole table without one.
    pub fn behind(after: Option<&'a Key>) -> Span<'a> {
        Span { after, up_to: None }
    }
}

/// What a part of a table comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest {
    /// How many rows it has.
    pub rows: u64,
    /// The checksums of all of them, by exclusive or.
    pub sum: u64,
}

impl Digest {
    /// Adds a row; `false` where it has a value without canonical text.
    #[must_use]
    pub fn add(&mut self, row: &Row) -> bool {
        let Some(text) = text(row) else { return false };
        let hash = Sha256::digest(text.as_bytes());
        self.rows += 1;
        self.sum ^= hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        true
    }
}

/// Whether servers can make the canonical text of a table's rows. The answer is the same for both sides of a pair only
/// where it is yes for both.
pub fn is_digestible(table: &MappedTable) -> bool {
    table.columns.iter().all(has_text)
}

fn has_text(column: &MappedColumn) -> bool {
    // The bridge alone makes of a value what an operator lets become of it.
    column.leeway.is_none()
        && match (&column.kind, column.form) {
            (_, Form::Float32 | Form::Float64 | Form::Json) => false,
            (Kind::Time { precision, .. }, Form::Time { precision: form }) => *precision <= form,
            // What is cut is cut to the units that every server has a word for.
            (Kind::DateTime { precision, .. }, Form::DateTime { precision: form })
            | (Kind::Instant { precision, .. }, Form::Instant { precision: form }) => {
                *precision <= form || matches!(form, 0 | 3)
            }
            _ => true,
        }
}

/// Whether a table's keys have an order that servers agree on, as far as their kinds tell: then a range of keys on one
/// side is a range on the other. Texts sort by their collation, labels by their declaration; what is cut to the common
/// form has several rows at one place.
pub fn has_common_order(table: &MappedTable) -> bool {
    table.key.iter().all(|&at| {
        let column = &table.columns[at];
        match (&column.kind, column.form) {
            (Kind::Integer { .. } | Kind::Decimal { .. }, Form::Integer | Form::Decimal)
            | (Kind::Boolean | Kind::Integer { .. }, Form::Boolean)
            | (Kind::Bytes { .. }, Form::Bytes | Form::Uuid)
            | (Kind::Date { .. }, Form::Date)
            | (Kind::Uuid, Form::Uuid) => true,
            (Kind::Time { precision, .. }, Form::Time { precision: form })
            | (Kind::DateTime { precision, .. }, Form::DateTime { precision: form })
            | (Kind::Instant { precision, .. }, Form::Instant { precision: form }) => *precision <= form,
            _ => false,
        }
    })
}

/// The canonical text of a row; `None` where a value has none.
pub fn text(row: &Row) -> Option<String> {
    let mut text = String::new();
    for (at, value) in row.0.iter().enumerate() {
        if at > 0 {
            text.push(BAR);
        }
        text.push_str(&item(value)?);
    }
    Some(text)
}

fn item(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => NULL.to_owned(),
        Value::Boolean(b) => u8::from(*b).to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Decimal(number) => number.to_string(),
        Value::Text(text) => format!("{}{BAR}{text}", text.len()),
        Value::Bytes(bytes) => Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Date(days) => calendar::format_date(*days),
        Value::Time(micros) => short(calendar::format_time(*micros)),
        Value::DateTime(micros) => moment(*micros),
        Value::Instant(micros) => format!("{}+00", moment(*micros)),
        Value::Uuid(bytes) => format_uuid(bytes),
        Value::Unchanged | Value::Float32(_) | Value::Float64(_) | Value::Json(_) | Value::Unmapped(_) => return None,
    })
}

fn moment(micros: i64) -> String {
    short(calendar::format_datetime(micros).replace('T', " "))
}

/// Without zeros at the end of a fraction.
fn short(text: String) -> String {
    if text.contains('.') { text.trim_end_matches('0').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::tests::formed;

    /// A column of a form, twice, and null in every second case.
    fn column() -> impl Strategy<Value = [Value; 2]> {
        let hostile = "[|~0-3a]{0,6}";
        let texts = (hostile, hostile).prop_map(|(a, b)| [Value::Text(a.into()), Value::Text(b.into())]);
        let formed = (formed(), formed()).prop_filter_map("two of one form", |((form, a), (other, b))| {
            let digestible = !matches!(form, Form::Float32 | Form::Float64 | Form::Json);
            (digestible && form == other).then_some([a, b])
        });
        let small = (0..12_i128, 0..12_i128).prop_map(|(a, b)| [Value::Integer(a), Value::Integer(b)]);
        let pair = prop_oneof![3 => texts, 1 => formed, 1 => small];
        (pair, any::<[bool; 2]>()).prop_map(|([a, b], null)| {
            let or_null = |value, is_null| if is_null { Value::Null } else { value };
            [or_null(a, null[0]), or_null(b, null[1])]
        })
    }

    proptest! {
        #[test]
        fn rows_that_differ_have_different_texts(columns in proptest::collection::vec(column(), 1..5)) {
            let side = |at: usize| Row(columns.iter().map(|pair| pair[at].clone()).collect());
            let (a, b) = (side(0), side(1));
            prop_assert_eq!(text(&a) == text(&b), a == b);
        }

        /// One text, divided in two places.
        #[test]
        fn columns_do_not_run_into_each_other(whole in "[|~0-9]{0,8}", x in 0..9_usize, y in 0..9_usize) {
            let divided = |at: usize| {
                let (a, b) = whole.split_at(at.min(whole.len()));
                Row(vec![Value::Text(a.into()), Value::Text(b.into())])
            };
            let (a, b) = (divided(x), divided(y));
            prop_assert_eq!(text(&a) == text(&b), a == b);
        }
    }

    #[test]
    fn texts_are_as_told() {
        let row = Row(vec![
            Value::Null,
            Value::Boolean(true),
            Value::Decimal("-1.5".into()),
            Value::Text("a|ü".into()),
            Value::Text("".into()),
            Value::Bytes(bytes::Bytes::new()),
            Value::Date(0),
            Value::Time(-36_000_500_000),
            Value::DateTime(1_000_000),
            Value::Instant(10),
            Value::Uuid([0x12; 16]),
        ]);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let expected = format!(
            "~|1|-1.5|4|a|ü|0||{empty}|1970-01-01|-10:00:00.5|1970-01-01 00:00:01|1970-01-01 00:00:00.00001+00|12121212-1212-1212-1212-121212121212"
        );
        assert_eq!(text(&row), Some(expected));
        for none in [Value::Float64(1.0), Value::Json("1".into()), Value::Unmapped("NaN".into()), Value::Unchanged] {
            assert_eq!(text(&Row(vec![none])), None);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let row = |n: i128| Row(vec![Value::Integer(n)]);
        let of = |numbers: &[i128]| {
            let mut digest = Digest::default();
            assert!(numbers.iter().all(|&n| digest.add(&row(n))));
            digest
        };
        assert_eq!(of(&[1, 2, 3]), of(&[3, 1, 2]));
        assert_ne!(of(&[1, 2, 3]), of(&[1, 2, 4]));
        // The first eight bytes of the SHA-256 of "1", as every server says them.
        assert_eq!(of(&[1]), Digest { rows: 1, sum: 0x6b86_b273_ff34_fce1 });
        assert!(!Digest::default().add(&Row(vec![Value::Float64(1.0)])));
    }
}
