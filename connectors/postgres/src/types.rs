//! Which type a kind of column is made of: the narrowest that holds every value of it (manual, chapter 8).
//!
//! There are no unsigned integers, so `bigint unsigned` is `numeric(20,0)`. Documents are `jsonb`, which has an
//! equality.

use pontoon_core::Kind;

/// The greatest length that `varchar(n)` and `char(n)` can declare (`MaxAttrSize`, htup_details.h).
const CHARS_MAX: u32 = 10_485_760;

/// The type that a kind is stored in: its words, its number in `pg_type.dat`, its modifier.
pub(crate) fn type_of(kind: &Kind) -> (String, u32, i32) {
    let plain = |words: &str, oid: u32| (words.to_owned(), oid, -1);
    let fraction = |words: &str, oid: u32, precision: u8| match precision {
        6.. => (words.to_owned(), oid, -1),
        digits => (format!("{words}({digits})"), oid, i32::from(digits)),
    };
    match kind {
        Kind::Boolean => plain("boolean", 16),
        Kind::Integer { min, max } => integer(*min, *max),
        Kind::Decimal { digits: None } => plain("numeric", 1700),
        Kind::Decimal { digits: Some((precision, scale)) } => numeric(*precision, *scale),
        Kind::Float32 { .. } => plain("real", 700),
        Kind::Float64 { .. } => plain("double precision", 701),
        Kind::Text { chars_max: Some(length @ ..=CHARS_MAX), padded, .. } => {
            // A length of 0, which MySQL has, is none here.
            let length = (*length).max(1);
            let (words, oid) = if *padded { ("char", 1042) } else { ("varchar", 1043) };
            (format!("{words}({length})"), oid, i32::try_from(length).unwrap_or(i32::MAX - 4) + 4)
        }
        Kind::Text { .. } | Kind::Enum { .. } | Kind::Set { .. } => plain("text", 25),
        Kind::Bytes { .. } => plain("bytea", 17),
        Kind::Date { .. } => plain("date", 1082),
        Kind::Time { precision, .. } => fraction("time", 1083, *precision),
        Kind::DateTime { precision, .. } => fraction("timestamp", 1114, *precision),
        Kind::Instant { precision, .. } => fraction("timestamptz", 1184, *precision),
        Kind::Json { .. } => plain("jsonb", 3802),
        Kind::Uuid => plain("uuid", 2950),
        Kind::Year => plain("smallint", 21),
        Kind::Bits { length } => (format!("bit({length})"), 1560, i32::try_from(*length).unwrap_or(i32::MAX)),
        // Of this very kind of server.
        Kind::Spelled { native } => plain(native, 0),
    }
}

fn integer(min: i128, max: i128) -> (String, u32, i32) {
    let within = |least: i64, most: i64| min >= i128::from(least) && max <= i128::from(most);
    if within(i16::MIN.into(), i16::MAX.into()) {
        ("smallint".into(), 21, -1)
    } else if within(i32::MIN.into(), i32::MAX.into()) {
        ("integer".into(), 23, -1)
    } else if within(i64::MIN, i64::MAX) {
        ("bigint".into(), 20, -1)
    } else {
        let digits = min.unsigned_abs().max(max.unsigned_abs()).to_string().len();
        numeric(u16::try_from(digits).unwrap_or(u16::MAX), 0)
    }
}

fn numeric(precision: u16, scale: u16) -> (String, u32, i32) {
    (format!("numeric({precision},{scale})"), 1700, (i32::from(precision) << 16 | i32::from(scale)) + 4)
}

#[cfg(test)]
mod tests {
    use pontoon_core::Form;
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::kind_of;

    fn text(chars_max: Option<u32>, bytes_max: Option<u64>, padded: bool) -> Kind {
        Kind::Text { chars_max, bytes_max, padded, nul: true }
    }

    #[test]
    fn the_narrowest_type_is_chosen() {
        for (kind, expected) in [
            (Kind::Boolean, "boolean"),
            (Kind::Integer { min: -128, max: 127 }, "smallint"),
            (Kind::Integer { min: 0, max: 65_535 }, "integer"),
            (Kind::Integer { min: 0, max: u32::MAX.into() }, "bigint"),
            (Kind::Integer { min: 0, max: u64::MAX.into() }, "numeric(20,0)"),
            (Kind::Decimal { digits: Some((65, 30)) }, "numeric(65,30)"),
            (Kind::Decimal { digits: None }, "numeric"),
            (text(Some(60), None, false), "varchar(60)"),
            (text(Some(255), None, true), "char(255)"),
            (text(Some(0), None, true), "char(1)"),
            (text(Some(10_485_761), None, false), "text"),
            (text(None, Some(255), false), "text"),
            (Kind::Bytes { bytes_max: Some(16), fixed: true }, "bytea"),
            (Kind::Time { precision: 0, span: true }, "time(0)"),
            (Kind::DateTime { precision: 6, micros: (0, 1) }, "timestamp"),
            (Kind::Instant { precision: 3, micros: (0, 1) }, "timestamptz(3)"),
            (Kind::Json { exact_numbers: false, nul: true }, "jsonb"),
            (Kind::Enum { labels: vec!["a".into()].into() }, "text"),
        ] {
            assert_eq!(type_of(&kind).0, expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_holds_the_limits(min in -(1_i128 << 63)..=0, max in 0..=(1_i128 << 64), precision in 1..=65_u16, scale in 0..=30_u16, length in 0..u32::MAX, fraction in 0..=6_u8) {
            let digits = Some((precision.max(scale), scale));
            let kinds = [
                Kind::Integer { min, max },
                Kind::Decimal { digits },
                text(Some(length), None, fraction > 3),
                Kind::DateTime { precision: fraction, micros: (0, 1) },
            ];
            for kind in kinds {
                let (native, oid, modifier) = type_of(&kind);
                // What the catalog reads from it is the same kind again, or one that holds more.
                let held = kind_of(oid, modifier).ok_or_else(|| TestCaseError::fail(native))?;
                prop_assert!(Form::of_pair(&kind, &held).is_some());
                match (&kind, &held) {
                    (Kind::Integer { .. }, Kind::Integer { min: least, max: most }) => prop_assert!(*least <= min && *most >= max),
                    (Kind::Integer { .. }, Kind::Decimal { digits: Some((19.., 0)) }) => {}
                    (Kind::Decimal { .. }, Kind::Decimal { .. }) => prop_assert_eq!(&kind, &held),
                    (Kind::Text { chars_max: Some(n), .. }, Kind::Text { chars_max: Some(m), .. }) => prop_assert_eq!((*n).max(1), *m),
                    (Kind::Text { .. }, Kind::Text { chars_max: None, .. }) => {}
                    (Kind::DateTime { precision: n, .. }, Kind::DateTime { precision: m, .. }) => prop_assert_eq!(n, m),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
