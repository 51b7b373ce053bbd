//! The table map event: it stands before the rows of a statement and says what they consist of.
//!
//! With `binlog_row_metadata=FULL` it also holds names, signedness, charsets and labels, so that rows
//! are decoded by the definition at that place of the log and not by today's. Without names it is of
//! no use here.

use super::{Malformed, cursor::Cursor, malformed};

/// A set has a bit for each of 64 labels, and an enum the number of one in two bytes. What is wider would be read and
/// passed over by different lengths.
const CHOICE_BYTES_MAX: u8 = 8;

/// A column's type with all that is needed to read a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// 1, 2, 3, 4 or 8 bytes.
    Integer { bytes: u8, unsigned: bool },
    /// Exact, in groups of nine digits.
    Decimal { digits: u8, scale: u8 },
    /// Single precision.
    Float,
    /// Double precision.
    Double,
    /// One byte, from 1900.
    Year,
    /// Bits, in whole bytes.
    Bit { bits: u16 },
    /// `char`, `binary`, `varchar`, `varbinary`, MariaDB's `uuid` and `inet6`: the length before it takes this many bytes.
    Short { length_bytes: u8, bytes_max: u16, collation: u32, fixed: bool },
    /// `text` and `blob` of four sizes.
    Long { length_bytes: u8, collation: u32 },
    /// Three bytes.
    Date,
    /// Three bytes and a fraction.
    Time { precision: u8 },
    /// Five bytes and a fraction.
    DateTime { precision: u8 },
    /// Four bytes and a fraction.
    Timestamp { precision: u8 },
    /// Binary JSON.
    Json { length_bytes: u8 },
    /// The label's number, and the labels.
    Enum { bytes: u8, labels: Vec<Vec<u8>>, collation: u32 },
    /// A bit for each label that is among them, and the labels.
    Set { bytes: u8, labels: Vec<Vec<u8>>, collation: u32 },
    /// Passed over: a type without a kind, of this many bytes.
    Opaque { bytes: u8 },
    /// Passed over: a type without a kind, its length before it.
    OpaqueLong { length_bytes: u8 },
}

/// A column as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MapColumn {
    /// Its name; empty without full metadata.
    pub(crate) name: String,
    /// Its type.
    pub(crate) column_type: ColumnType,
}

/// A table as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMap {
    /// The database.
    pub(crate) schema: String,
    /// The table.
    pub(crate) name: String,
    /// In the order of the rows.
    pub(crate) columns: Vec<MapColumn>,
    /// Column names are there.
    pub(crate) named: bool,
}

/// Database and table alone: enough to see whether the rest is wanted.
pub(crate) fn names(body: &[u8]) -> Result<(u64, String, String), Malformed> {
    let mut cursor = Cursor(body);
    head(&mut cursor)
}

fn head(cursor: &mut Cursor<'_>) -> Result<(u64, String, String), Malformed> {
    let id = cursor.little(6)?;
    cursor.skip(2)?;
    let mut name = || -> Result<String, Malformed> {
        let length = usize::from(cursor.byte()?);
        let name = String::from_utf8_lossy(cursor.take(length)?).into_owned();
        cursor.skip(1)?;
        Ok(name)
    };
    let schema = name()?;
    let table = name()?;
    Ok((id, schema, table))
}

/// The whole event.
pub(crate) fn parse(body: &[u8]) -> Result<(u64, TableMap), Malformed> {
    let mut cursor = Cursor(body);
    let (id, schema, name) = head(&mut cursor)?;
    let count = cursor.count()?;
    let codes = cursor.take(count)?;
    let mut metadata = Cursor(cursor.prefixed()?);
    let mut types = Vec::with_capacity(count);
    for &code in codes {
        types.push(raw_type(code, &mut metadata)?);
    }
    cursor.skip(count.div_ceil(8))?;
    let named = optional(&mut cursor, &mut types)?;
    let columns = match named {
        Some(names) if names.len() == types.len() => {
            names.into_iter().zip(types).map(|(name, raw)| MapColumn { name, column_type: raw.column_type }).collect()
        }
        Some(_) => return Err(malformed("a table map names other columns than it has")),
        None => {
            let map = types.into_iter().map(|raw| MapColumn { name: String::new(), column_type: raw.column_type });
            return Ok((id, TableMap { schema, name, columns: map.collect(), named: false }));
        }
    };
    Ok((id, TableMap { schema, name, columns, named: true }))
}

struct Raw {
    column_type: ColumnType,
    /// It has a bit in the signedness field.
    numeric: bool,
    /// It has an entry in the charset fields.
    character: bool,
}

fn raw_type(code: u8, metadata: &mut Cursor<'_>) -> Result<Raw, Malformed> {
    let integer = |bytes| ColumnType::Integer { bytes, unsigned: false };
    let long = |length_bytes| ColumnType::Long { length_bytes, collation: 0 };
    let numeric = matches!(code, 1..=5 | 8 | 9 | 13 | 246);
    let mut character = matches!(code, 15 | 249..=252 | 253 | 140 | 141);
    let column_type = match code {
        1 => integer(1),
        2 => integer(2),
        3 => integer(4),
        8 => integer(8),
        9 => integer(3),
        4 | 5 => {
            metadata.skip(1)?;
            if code == 4 { ColumnType::Float } else { ColumnType::Double }
        }
        6 => ColumnType::Opaque { bytes: 0 },
        // The formats of times before MySQL 5.6.
        7 => ColumnType::Opaque { bytes: 4 },
        11 => ColumnType::Opaque { bytes: 3 },
        12 => ColumnType::Opaque { bytes: 8 },
        10 | 14 => ColumnType::Date,
        13 => ColumnType::Year,
        15 | 253 => {
            let bytes_max = metadata.little(2)? as u16;
            ColumnType::Short {
                length_bytes: if bytes_max > 255 { 2 } else { 1 },
                bytes_max,
                collation: 0,
                fixed: false,
            }
        }
        16 => {
            let (bits, bytes) = (metadata.byte()?, metadata.byte()?);
            ColumnType::Bit { bits: u16::from(bytes) * 8 + u16::from(bits) }
        }
        17 => ColumnType::Timestamp { precision: metadata.byte()? },
        18 => ColumnType::DateTime { precision: metadata.byte()? },
        19 => ColumnType::Time { precision: metadata.byte()? },
        // MariaDB's compressed columns.
        140 => ColumnType::OpaqueLong { length_bytes: metadata.byte()? },
        141 => ColumnType::OpaqueLong { length_bytes: if metadata.little(2)? > 255 { 2 } else { 1 } },
        242 | 255 => ColumnType::OpaqueLong { length_bytes: metadata.byte()? },
        245 => ColumnType::Json { length_bytes: metadata.byte()? },
        246 => ColumnType::Decimal { digits: metadata.byte()?, scale: metadata.byte()? },
        249..=252 => long(metadata.byte()?),
        254 | 247 | 248 => {
            let (first, second) = (metadata.byte()?, metadata.byte()?);
            match if code == 254 { first } else { code } {
                247 | 248 if second > CHOICE_BYTES_MAX => {
                    return Err(malformed("a table map has a column of an impossible width"));
                }
                247 => ColumnType::Enum { bytes: second, labels: Vec::new(), collation: 0 },
                248 => ColumnType::Set { bytes: second, labels: Vec::new(), collation: 0 },
                // Two bits of a length beyond 255 hide, inverted, in the type byte.
                _ => {
                    character = true;
                    let bytes_max = (u16::from(first & 0x30) ^ 0x30) << 4 | u16::from(second);
                    let length_bytes = if bytes_max > 255 { 2 } else { 1 };
                    ColumnType::Short { length_bytes, bytes_max, collation: 0, fixed: true }
                }
            }
        }
        _ => return Err(malformed("a table map has a column of an unknown type")),
    };
    Ok(Raw { column_type, numeric, character })
}

/// A type by its number and metadata alone, with what full metadata would tell chosen by the caller. Labels are numbers.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn column_type(code: u8, metadata: [u8; 2], of: u32, is_unsigned: bool) -> Result<ColumnType, Malformed> {
    let mut raw = raw_type(code, &mut Cursor(&metadata))?;
    match &mut raw.column_type {
        ColumnType::Integer { unsigned, .. } => *unsigned = is_unsigned,
        ColumnType::Short { collation, .. } | ColumnType::Long { collation, .. } => *collation = of,
        ColumnType::Enum { labels, collation, .. } | ColumnType::Set { labels, collation, .. } => {
            *collation = of;
            labels.extend((0..metadata[0]).map(|label| label.to_string().into_bytes()));
        }
        _ => {}
    }
    Ok(raw.column_type)
}

/// The types of a table's columns as they stand in the event: their numbers, and their metadata filled up to two bytes.
#[cfg(test)]
pub(crate) fn numbers(body: &[u8]) -> Result<Vec<(u8, [u8; 2])>, Malformed> {
    let mut cursor = Cursor(body);
    head(&mut cursor)?;
    let count = cursor.count()?;
    let codes = cursor.take(count)?;
    let mut metadata = Cursor(cursor.prefixed()?);
    let number = |&code: &u8| {
        let before = metadata.0;
        raw_type(code, &mut metadata)?;
        let mut own = before[..before.len() - metadata.0.len()].iter().copied().chain([0, 0]);
        Ok((code, [own.next().unwrap_or_default(), own.next().unwrap_or_default()]))
    };
    codes.iter().map(number).collect()
}

/// Reads the optional metadata into the types; returns the names where they are there.
fn optional(cursor: &mut Cursor<'_>, types: &mut [Raw]) -> Result<Option<Vec<String>>, Malformed> {
    let mut names = None;
    while !cursor.is_empty() {
        let field = cursor.byte()?;
        let mut body = Cursor(cursor.prefixed()?);
        match field {
            1 => signedness(body.0, types),
            2 | 10 => default_charset(&mut body, types, field == 10)?,
            3 | 11 => column_charsets(&mut body, types, field == 11)?,
            4 => {
                let mut all = Vec::with_capacity(types.len());
                while !body.is_empty() {
                    all.push(String::from_utf8_lossy(body.prefixed()?).into_owned());
                }
                names = Some(all);
            }
            5 | 6 => labels(&mut body, types, field == 5)?,
            // Geometry types, keys, visibility.
            _ => {}
        }
    }
    Ok(names)
}

fn signedness(bits: &[u8], types: &mut [Raw]) {
    for (index, raw) in types.iter_mut().filter(|raw| raw.numeric).enumerate() {
        let set = bits.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0);
        if let ColumnType::Integer { unsigned, .. } = &mut raw.column_type {
            *unsigned = set;
        }
    }
}

fn collations(types: &mut [Raw], of_choices: bool) -> Vec<Option<&mut u32>> {
    let mut all = Vec::new();
    for raw in types {
        let character = raw.character;
        match &mut raw.column_type {
            ColumnType::Short { collation, .. } | ColumnType::Long { collation, .. } if !of_choices && character => {
                all.push(Some(collation));
            }
            ColumnType::Enum { collation, .. } | ColumnType::Set { collation, .. } if of_choices => {
                all.push(Some(collation));
            }
            ColumnType::OpaqueLong { .. } if !of_choices && character => all.push(None),
            _ => {}
        }
    }
    all
}

fn default_charset(body: &mut Cursor<'_>, types: &mut [Raw], of_choices: bool) -> Result<(), Malformed> {
    let default = body.length()? as u32;
    let mut slots = collations(types, of_choices);
    for slot in slots.iter_mut().flatten() {
        **slot = default;
    }
    while !body.is_empty() {
        let (index, collation) = (body.length()? as usize, body.length()? as u32);
        match slots.get_mut(index) {
            Some(Some(slot)) => **slot = collation,
            Some(None) => {}
            None => return Err(malformed("a table map has a charset for no column")),
        }
    }
    Ok(())
}

fn column_charsets(body: &mut Cursor<'_>, types: &mut [Raw], of_choices: bool) -> Result<(), Malformed> {
    for slot in collations(types, of_choices) {
        let collation = body.length()? as u32;
        if let Some(slot) = slot {
            *slot = collation;
        }
    }
    Ok(())
}

/// The labels of all sets, or of all enums.
fn labels(body: &mut Cursor<'_>, types: &mut [Raw], of_sets: bool) -> Result<(), Malformed> {
    for raw in types {
        let labels = match &mut raw.column_type {
            ColumnType::Set { labels, .. } if of_sets => Some(labels),
            ColumnType::Enum { labels, .. } if !of_sets => Some(labels),
            _ => None,
        };
        if let Some(labels) = labels {
            let count = body.count()?;
            for _ in 0..count {
                labels.push(body.prefixed()?.to_vec());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&body), names(&body));
        }

        #[test]
        fn broken_maps_never_panic(at in 0..64_usize, byte in any::<u8>(), cut in 0..64_usize) {
            let mut body = sample();
            let at = at % body.len();
            body[at] = byte;
            body.truncate(body.len() - cut % body.len());
            let _ = parse(&body);
        }
    }

    /// `d`.`t`: a int unsigned, b varchar(20) latin1, c enum('x').
    fn sample() -> Vec<u8> {
        let mut body = vec![7, 0, 0, 0, 0, 0, 1, 0, 1, b'd', 0, 1, b't', 0, 3, 3, 15, 254, 4, 20, 0, 247, 1, 7];
        body.extend([1, 1, 0x80, 2, 1, 8, 4, 6, 1, b'a', 1, b'b', 1, b'c', 6, 3, 1, 1, b'x', 10, 1, 8]);
        body
    }

    #[test]
    fn full_metadata_is_read() {
        let (id, map) = parse(&sample()).unwrap();
        assert_eq!((id, map.schema.as_str(), map.name.as_str(), map.named), (7, "d", "t", true));
        assert_eq!(map.columns[0].column_type, ColumnType::Integer { bytes: 4, unsigned: true });
        assert_eq!(
            map.columns[1],
            MapColumn {
                name: "b".into(),
                column_type: ColumnType::Short { length_bytes: 1, bytes_max: 20, collation: 8, fixed: false }
            }
        );
        assert_eq!(
            map.columns[2].column_type,
            ColumnType::Enum { bytes: 1, labels: vec![b"x".to_vec()], collation: 8 }
        );
    }

    #[test]
    fn choices_are_no_wider_than_a_number() {
        for code in [247, 248] {
            for [code, first] in [[code, 0], [254, code]] {
                let of = |bytes| column_type(code, [first, bytes], 45, false);
                assert!(of(8).is_ok() && of(9).is_err(), "{code}");
            }
        }
    }

    #[test]
    fn without_names_a_map_says_so() {
        let mut body = sample();
        body.truncate(24);
        assert!(!parse(&body).unwrap().1.named);
    }
}
