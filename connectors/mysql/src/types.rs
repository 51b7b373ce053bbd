//! Which type a kind of column is made of: the narrowest that holds every value of it (both manuals, "Data Types").
//!
//! A boolean is `bit(1)`, which holds nothing else, where `tinyint(1)` would; a UUID is `binary(16)` where there is no
//! type for it, since as a text it has several spellings. Moments only go with `timestamp`, which ends in 2038.

use pontoon_core::{Kind, Result};

use crate::{catalog, connect::Flavour, encode, version::Server};

/// The longest `varchar` and `varbinary` that is chosen: with longer ones a row of a few would not fit into the
/// 65,535 bytes that all of them may have together.
const ROW_PART_BYTES_MAX: u64 = 16_383;
/// The longest label of an enum.
const LABEL_CHARS_MAX: usize = 255;
const DECIMAL_DIGITS_MAX: u16 = 65;
/// MariaDB takes 38, which no literal of the bridge has.
const DECIMAL_SCALE_MAX: u16 = 30;

/// A type, and what it holds.
pub(crate) struct Type {
    /// As it stands in a definition.
    pub(crate) native: String,
    /// The kind that the catalog will read from it.
    pub(crate) held: Kind,
    /// Bytes that it takes in a key; `None` for one that can be in none.
    pub(crate) key_bytes: Option<u32>,
}

/// The type that a kind is stored in, or what is needed instead and the remedy.
pub(crate) fn type_of(kind: &Kind, server: &Server) -> Result<Type, (&'static str, &'static str)> {
    let plain = |native: &str, bytes: u32| Type { native: native.into(), held: kind.clone(), key_bytes: Some(bytes) };
    let fraction = |word: &str, held: Kind, precision: u8, bytes: u32| Type {
        native: if precision == 0 { word.into() } else { format!("{word}({precision})") },
        held,
        key_bytes: Some(bytes),
    };
    Ok(match kind {
        Kind::Boolean => plain("bit(1)", 1),
        Kind::Integer { min, max } => integer(*min, *max)?,
        Kind::Decimal { digits } => decimal(digits.ok_or(BOUNDED)?)?,
        Kind::Float32 { .. } => Type { held: Kind::Float32 { special: false }, ..plain("float", 4) },
        Kind::Float64 { .. } => Type { held: Kind::Float64 { special: false }, ..plain("double", 8) },
        Kind::Text { chars_max, bytes_max, padded, .. } => text_type(*chars_max, *bytes_max, *padded),
        Kind::Bytes { bytes_max, fixed } => bytes_type(*bytes_max, *fixed),
        Kind::Date { .. } => Type { held: catalog::date().unwrap_or(kind.clone()), ..plain("date", 3) },
        Kind::Time { precision, .. } => {
            fraction("time", Kind::Time { precision: *precision, span: true }, *precision, 6)
        }
        Kind::DateTime { precision, .. } => {
            fraction("datetime", catalog::datetime(*precision).unwrap_or(kind.clone()), *precision, 8)
        }
        Kind::Instant { precision, .. } => {
            fraction("timestamp", catalog::instant(*precision, server.instant_max()), *precision, 7)
        }
        Kind::Json { .. } => {
            let held = Kind::Json { exact_numbers: server.flavour == Flavour::Mariadb, nul: true };
            Type { native: "json".into(), held, key_bytes: None }
        }
        Kind::Uuid if server.has_uuid() => plain("uuid", 16),
        Kind::Uuid => bytes_type(Some(16), true),
        Kind::Year => plain("year", 1),
        Kind::Bits { length: length @ 2..=64 } => plain(&format!("bit({length})"), 8),
        Kind::Bits { .. } => text_type(None, None, false),
        Kind::Spelled { .. } => text_type(None, None, false),
        Kind::Set { labels } => {
            let labels: Vec<_> = labels.iter().map(|label| encode::text(label)).collect();
            Type { key_bytes: None, ..plain(&format!("set({})", labels.join(",")), 8) }
        }
        Kind::Enum { labels } => {
            let fits = |label: &str| label.chars().count() <= LABEL_CHARS_MAX && !label.ends_with(' ');
            if !labels.iter().all(|label| fits(label)) {
                return Err((
                    "labels of at most 255 characters, none of which ends with a blank",
                    "rename the label on the other side, or give the column a text type there",
                ));
            }
            let labels: Vec<_> = labels.iter().map(|label| encode::text(label)).collect();
            plain(&format!("enum({})", labels.join(",")), 2)
        }
    })
}

/// What is said of a number that no type here holds.
const BOUNDED: (&str, &str) = (
    "an exact number of at most 65 digits, 30 of them after the point",
    "give it digits on the other side: ALTER TABLE ... ALTER COLUMN ... TYPE numeric(20,6)",
);

fn integer(min: i128, max: i128) -> Result<Type, (&'static str, &'static str)> {
    for (word, bytes) in [("tinyint", 1), ("smallint", 2), ("mediumint", 3), ("int", 4), ("bigint", 8)] {
        for unsigned in [false, true] {
            let held = catalog::integer(bytes * 8, unsigned);
            if matches!(held, Kind::Integer { min: least, max: most } if least <= min && max <= most) {
                let native = if unsigned { format!("{word} unsigned") } else { word.to_owned() };
                return Ok(Type { native, held, key_bytes: Some(bytes) });
            }
        }
    }
    let digits = min.unsigned_abs().max(max.unsigned_abs()).to_string().len();
    decimal((u16::try_from(digits).unwrap_or(u16::MAX), 0))
}

/// PostgreSQL has scales beyond the precision, for numbers with zeros after the point.
fn decimal((precision, scale): (u16, u16)) -> Result<Type, (&'static str, &'static str)> {
    let precision = precision.max(scale);
    if precision > DECIMAL_DIGITS_MAX || scale > DECIMAL_SCALE_MAX {
        return Err(BOUNDED);
    }
    let held = Kind::Decimal { digits: Some((precision, scale)) };
    Ok(Type { native: format!("decimal({precision},{scale})"), held, key_bytes: Some(u32::from(precision) / 2 + 2) })
}

fn text_type(chars_max: Option<u32>, bytes_max: Option<u64>, padded: bool) -> Type {
    let held = |chars_max, bytes_max, padded| Kind::Text { chars_max, bytes_max, padded, nul: true };
    if let Some(length) = chars_max.filter(|&length| u64::from(length) <= ROW_PART_BYTES_MAX) {
        let padded = padded && length <= 255;
        let word = if padded { "char" } else { "varchar" };
        let native = format!("{word}({length})");
        return Type { native, held: held(Some(length), None, padded), key_bytes: Some(length * 4) };
    }
    let bytes = bytes_max.or(chars_max.map(|length| u64::from(length) * 4)).unwrap_or(u64::MAX);
    let (prefix, most) = long(bytes);
    Type { native: format!("{prefix}text"), held: held(None, Some(most), false), key_bytes: None }
}

fn bytes_type(bytes_max: Option<u64>, fixed: bool) -> Type {
    let bytes = bytes_max.unwrap_or(u64::MAX);
    let fixed = fixed && bytes <= 255;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= ROW_PART_BYTES_MAX => {
            let word = if fixed { "binary" } else { "varbinary" };
            let held = Kind::Bytes { bytes_max: Some(bytes), fixed };
            Type { native: format!("{word}({length})"), held, key_bytes: Some(length) }
        }
        _ => {
            let (prefix, most) = long(bytes);
            let held = Kind::Bytes { bytes_max: Some(most), fixed: false };
            Type { native: format!("{prefix}blob"), held, key_bytes: None }
        }
    }
}

/// The first of the long types that holds so many bytes, by its prefix, and what it holds.
fn long(bytes: u64) -> (&'static str, u64) {
    let sizes = [("tiny", 0xff), ("", 0xffff), ("medium", 0xff_ffff)];
    sizes.into_iter().find(|(_, most)| bytes <= *most).unwrap_or(("long", 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use pontoon_core::Form;
    use proptest::prelude::*;

    use super::*;

    fn server(flavour: Flavour) -> Server {
        Server::sample(flavour, 1)
    }

    fn native(kind: &Kind) -> String {
        type_of(kind, &server(Flavour::Mysql)).map_or_else(|(needed, _)| format!("needed: {needed}"), |it| it.native)
    }

    fn text(chars_max: Option<u32>, bytes_max: Option<u64>, padded: bool) -> Kind {
        Kind::Text { chars_max, bytes_max, padded, nul: false }
    }

    #[test]
    fn the_narrowest_type_is_chosen() {
        for (kind, expected) in [
            (Kind::Boolean, "bit(1)"),
            (catalog::integer(16, false), "smallint"),
            (Kind::Integer { min: 0, max: 200 }, "tinyint unsigned"),
            (Kind::Integer { min: -1, max: 200 }, "smallint"),
            (Kind::Integer { min: 0, max: u64::MAX.into() }, "bigint unsigned"),
            (Kind::Integer { min: -1, max: u64::MAX.into() }, "decimal(20,0)"),
            (Kind::Decimal { digits: Some((3, 5)) }, "decimal(5,5)"),
            (Kind::Decimal { digits: Some((65, 30)) }, "decimal(65,30)"),
            (text(Some(60), None, false), "varchar(60)"),
            (text(Some(60), None, true), "char(60)"),
            (text(Some(256), None, true), "varchar(256)"),
            (text(Some(16_383), None, false), "varchar(16383)"),
            (text(Some(16_384), None, false), "mediumtext"),
            (text(None, Some(65_535), false), "text"),
            (text(None, None, false), "longtext"),
            (Kind::Bytes { bytes_max: Some(16), fixed: true }, "binary(16)"),
            (Kind::Bytes { bytes_max: Some(255), fixed: false }, "varbinary(255)"),
            (Kind::Bytes { bytes_max: Some(65_535), fixed: false }, "blob"),
            (Kind::Bytes { bytes_max: None, fixed: false }, "longblob"),
            (Kind::Time { precision: 0, span: false }, "time"),
            (Kind::Instant { precision: 6, micros: (0, 1) }, "timestamp(6)"),
            (Kind::Uuid, "binary(16)"),
            (Kind::Enum { labels: vec!["a'b".into(), "c".into()].into() }, "enum('a''b','c')"),
        ] {
            assert_eq!(native(&kind), expected);
        }
        assert_eq!(type_of(&Kind::Uuid, &server(Flavour::Mariadb)).map(|it| it.native).ok(), Some("uuid".into()));
        for none in [
            Kind::Decimal { digits: None },
            Kind::Decimal { digits: Some((66, 0)) },
            Kind::Decimal { digits: Some((40, 31)) },
            Kind::Enum { labels: vec!["blank ".into()].into() },
        ] {
            assert!(native(&none).starts_with("needed: "), "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_holds_the_limits(min in -(1_i128 << 63)..=0, max in 0..=(1_i128 << 64), length in 0..u32::MAX, bytes in 0..1_u64 << 33, flag in any::<bool>()) {
            let kinds = [
                Kind::Integer { min, max },
                text(Some(length), None, flag),
                text(None, Some(bytes.min(0xffff_ffff)), false),
                Kind::Bytes { bytes_max: Some(bytes.min(0xffff_ffff)), fixed: flag },
            ];
            for kind in kinds {
                let held = type_of(&kind, &server(Flavour::Mysql)).map_err(|_| TestCaseError::fail("refused"))?.held;
                prop_assert!(Form::of_pair(&kind, &held).is_some());
                match (&kind, &held) {
                    (Kind::Integer { .. }, Kind::Integer { min: least, max: most }) => prop_assert!(*least <= min && *most >= max),
                    (Kind::Integer { .. }, Kind::Decimal { digits: Some((19.., 0)) }) => {}
                    (Kind::Text { chars_max: Some(n), .. }, Kind::Text { chars_max: Some(m), .. }) => prop_assert_eq!(n, m),
                    (Kind::Text { chars_max: Some(n), .. }, Kind::Text { bytes_max: Some(m), .. }) => {
                        prop_assert!(*m >= (u64::from(*n) * 4).min(0xffff_ffff));
                    }
                    (Kind::Text { bytes_max: Some(n), .. }, Kind::Text { bytes_max: Some(m), .. }) => prop_assert!(m >= n),
                    (Kind::Bytes { bytes_max: Some(n), .. }, Kind::Bytes { bytes_max: Some(m), .. }) => prop_assert!(m >= n),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
