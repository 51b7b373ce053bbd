//! One column's value out of a row image, by its type.
//!
//! Formats: MySQL's `mysys/my_time.cc` (the packed times), `strings/decimal.cc` (`decimal2bin`), MariaDB's
//! `sql/sql_type_uuid.h`. A value that has no form is [`Value::Unmapped`], never an error.

use pontoon_core::{Kind, Value, calendar};
use smol_str::SmolStr;

use super::{Malformed, cursor::Cursor, jsonb, malformed, table_map::ColumnType};
use crate::charset::{BINARY, Charsets};

/// Digits of a decimal that are stored in four bytes, and the bytes of fewer.
const GROUP_DIGITS: usize = 9;
const BYTES_OF_DIGITS: [usize; GROUP_DIGITS + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// Labels of a set: each is a bit of the eight bytes that a value has at most.
const SET_LABELS_MAX: usize = 64;

/// Whether values of this type become values of this kind: what the log describes is what was loaded.
pub(crate) fn agrees(column_type: &ColumnType, kind: &Kind, charsets: &Charsets) -> bool {
    let text = |collation: &u32| *collation != BINARY && charsets.charset_of(*collation).is_some();
    match (column_type, kind) {
        (ColumnType::Bit { bits: 1 }, Kind::Boolean) | (ColumnType::Year, Kind::Year) => true,
        (ColumnType::Bit { bits }, Kind::Bits { length }) => u32::from(*bits) == *length,
        (ColumnType::Integer { bytes, unsigned }, Kind::Integer { min, max }) => {
            (*min == 0) == *unsigned && *max == (1_i128 << (u32::from(*bytes) * 8 - u32::from(!unsigned))) - 1
        }
        (ColumnType::Decimal { digits, scale }, Kind::Decimal { digits: Some(kind) }) => {
            (u16::from(*digits), u16::from(*scale)) == *kind
        }
        (ColumnType::Float, Kind::Float32 { .. }) | (ColumnType::Double, Kind::Float64 { .. }) => true,
        (ColumnType::Short { collation, fixed, .. }, Kind::Text { padded, .. }) => text(collation) && fixed == padded,
        (ColumnType::Long { collation, .. }, Kind::Text { padded: false, chars_max: _, .. } | Kind::Json { .. }) => {
            text(collation)
        }
        (ColumnType::Short { collation, fixed, .. }, Kind::Bytes { fixed: kind, .. }) => {
            *collation == BINARY && fixed == kind
        }
        (ColumnType::Long { collation, .. }, Kind::Bytes { fixed: false, .. }) => *collation == BINARY,
        (ColumnType::Date, Kind::Date { .. }) | (ColumnType::Json { .. }, Kind::Json { .. }) => true,
        (ColumnType::Time { precision }, Kind::Time { precision: kind, .. })
        | (ColumnType::DateTime { precision }, Kind::DateTime { precision: kind, .. })
        | (ColumnType::Timestamp { precision }, Kind::Instant { precision: kind, .. }) => precision == kind,
        (ColumnType::Enum { .. }, Kind::Enum { .. }) | (ColumnType::Set { .. }, Kind::Set { .. }) => true,
        (ColumnType::Short { bytes_max: 16, fixed: true, .. }, Kind::Uuid) => true,
        _ => false,
    }
}

/// Reads a value that is wanted.
pub(crate) fn read(
    cursor: &mut Cursor<'_>,
    column_type: &ColumnType,
    kind: &Kind,
    charsets: &Charsets,
) -> Result<Value, Malformed> {
    Ok(match column_type {
        ColumnType::Integer { bytes, unsigned } => Value::Integer(integer(cursor, *bytes, *unsigned)?),
        ColumnType::Decimal { digits, scale } => Value::Decimal(decimal(cursor, *digits, *scale)?),
        ColumnType::Float => Value::Float32(f32::from_bits(cursor.little(4)? as u32)),
        ColumnType::Double => Value::Float64(f64::from_bits(cursor.little(8)?)),
        ColumnType::Bit { bits } => {
            let bytes = cursor.take(usize::from(bits.div_ceil(8)))?;
            match kind {
                Kind::Boolean => Value::Boolean(bytes.iter().any(|&byte| byte != 0)),
                _ => {
                    let digits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
                    let spare = digits.len().saturating_sub(usize::from(*bits));
                    Value::Text(digits[spare..].into())
                }
            }
        }
        ColumnType::Year => match cursor.byte()? {
            0 => Value::Integer(0),
            since => Value::Integer(1900 + i128::from(since)),
        },
        ColumnType::Set { bytes, labels, collation } => {
            let bits = cursor.little(usize::from(*bytes))?;
            if labels.len() > SET_LABELS_MAX {
                return Err(malformed("a set has more labels than a set can have"));
            }
            if bits.checked_shr(labels.len() as u32).is_some_and(|beyond| beyond != 0) {
                return Err(malformed("a set has members beyond its labels"));
            }
            let mut chosen = Vec::new();
            for (_, label) in labels.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1) {
                match text(label, *collation, charsets, Value::Text) {
                    Value::Text(label) => chosen.push(label),
                    unmapped => return Ok(unmapped),
                }
            }
            Value::Text(chosen.join(",").into())
        }
        ColumnType::Short { length_bytes, bytes_max, collation, .. } => {
            let length = cursor.little(usize::from(*length_bytes))? as usize;
            short(cursor.take(length)?, *bytes_max, *collation, kind, charsets)
        }
        ColumnType::Long { length_bytes, collation } => {
            let length = cursor.little(usize::from(*length_bytes))? as usize;
            let bytes = cursor.take(length)?;
            match kind {
                Kind::Bytes { .. } => Value::Bytes(bytes.to_vec().into()),
                Kind::Json { .. } => text(bytes, *collation, charsets, Value::Json),
                _ => text(bytes, *collation, charsets, Value::Text),
            }
        }
        ColumnType::Date => date(cursor.little(3)?),
        ColumnType::Time { precision } => Value::Time(time(cursor, *precision)?),
        ColumnType::DateTime { precision } => datetime(cursor, *precision)?,
        ColumnType::Timestamp { precision } => {
            let seconds = cursor.big(4)?;
            let micros = fraction(cursor, *precision)?;
            match seconds {
                0 => Value::Unmapped("0000-00-00 00:00:00".into()),
                _ => Value::Instant(seconds as i64 * 1_000_000 + micros as i64),
            }
        }
        ColumnType::Json { length_bytes } => {
            let length = cursor.little(usize::from(*length_bytes))? as usize;
            Value::Json(jsonb::to_text(cursor.take(length)?)?.into())
        }
        ColumnType::Enum { bytes, labels, collation } => match cursor.little(usize::from(*bytes))? as usize {
            0 => Value::Unmapped("the error value of an enum".into()),
            number => {
                let label = labels.get(number - 1).ok_or(malformed("an enum value is beyond its labels"))?;
                text(label, *collation, charsets, Value::Text)
            }
        },
        other => {
            skip(cursor, other)?;
            return Err(malformed("a value of a type without a kind is wanted"));
        }
    })
}

/// Passes over a value.
pub(crate) fn skip(cursor: &mut Cursor<'_>, column_type: &ColumnType) -> Result<(), Malformed> {
    let bytes = match column_type {
        ColumnType::Integer { bytes, .. } | ColumnType::Set { bytes, .. } | ColumnType::Opaque { bytes } => {
            usize::from(*bytes)
        }
        ColumnType::Enum { bytes, .. } => usize::from(*bytes),
        ColumnType::Decimal { digits, scale } => decimal_bytes(*digits, *scale)?,
        ColumnType::Float => 4,
        ColumnType::Double => 8,
        ColumnType::Year => 1,
        ColumnType::Bit { bits } => usize::from(bits.div_ceil(8)),
        ColumnType::Date => 3,
        ColumnType::Time { precision } => 3 + usize::from(precision.div_ceil(2)),
        ColumnType::DateTime { precision } => 5 + usize::from(precision.div_ceil(2)),
        ColumnType::Timestamp { precision } => 4 + usize::from(precision.div_ceil(2)),
        ColumnType::Short { length_bytes, .. }
        | ColumnType::Long { length_bytes, .. }
        | ColumnType::OpaqueLong { length_bytes }
        | ColumnType::Json { length_bytes } => cursor.little(usize::from(*length_bytes))? as usize,
    };
    cursor.skip(bytes)
}

fn integer(cursor: &mut Cursor<'_>, bytes: u8, unsigned: bool) -> Result<i128, Malformed> {
    let number = cursor.little(usize::from(bytes))?;
    if unsigned {
        return Ok(number.into());
    }
    let shift = 64 - 8 * u32::from(bytes.clamp(1, 8));
    Ok(((number << shift) as i64 >> shift).into())
}

/// `char` and `varchar` of all charsets, `binary`, MariaDB's `uuid`.
fn short(bytes: &[u8], bytes_max: u16, collation: u32, kind: &Kind, charsets: &Charsets) -> Value {
    match kind {
        Kind::Bytes { fixed, .. } => {
            let mut whole = bytes.to_vec();
            // The log leaves the trailing zero bytes of binary(n) out.
            if *fixed && whole.len() < usize::from(bytes_max) {
                whole.resize(bytes_max.into(), 0);
            }
            Value::Bytes(whole.into())
        }
        Kind::Uuid => {
            let mut whole = [0; 16];
            for (slot, byte) in whole.iter_mut().zip(bytes) {
                *slot = *byte;
            }
            Value::Uuid(uuid(whole))
        }
        _ => text(bytes, collation, charsets, Value::Text),
    }
}

fn text(bytes: &[u8], collation: u32, charsets: &Charsets, make: impl FnOnce(SmolStr) -> Value) -> Value {
    charsets
        .decode(collation, bytes)
        .map_or_else(|| Value::Unmapped("text that its charset has no characters for".into()), make)
}

/// MariaDB keeps a UUID of versions 1 to 5 with its parts in reverse, so that it sorts by its node and time.
fn uuid(stored: [u8; 16]) -> [u8; 16] {
    let reversed = stored[6] & 0x80 != 0 && (1..0x60).contains(&stored[8]);
    if !reversed {
        return stored;
    }
    let mut standard = [0; 16];
    standard[0..4].copy_from_slice(&stored[12..16]);
    standard[4..6].copy_from_slice(&stored[10..12]);
    standard[6..8].copy_from_slice(&stored[8..10]);
    standard[8..10].copy_from_slice(&stored[6..8]);
    standard[10..16].copy_from_slice(&stored[0..6]);
    standard
}

fn date(packed: u64) -> Value {
    let (year, month, day) = (packed >> 9, packed >> 5 & 15, packed & 31);
    calendar::days(year as i16, month as i8, day as i8)
        .filter(|_| year > 0)
        .map_or_else(|| Value::Unmapped(format!("{year:04}-{month:02}-{day:02}").into()), Value::Date)
}

/// The fraction of a second in microseconds.
fn fraction(cursor: &mut Cursor<'_>, precision: u8) -> Result<u64, Malformed> {
    let bytes = precision.div_ceil(2);
    if bytes > 3 {
        return Err(malformed("a time has a precision beyond 6"));
    }
    Ok(if bytes == 0 { 0 } else { cursor.big(usize::from(bytes))? * 100_u64.pow(3 - u32::from(bytes)) })
}

/// Whole and fraction are one number, less a bias, so that the bytes of negative times sort.
fn time(cursor: &mut Cursor<'_>, precision: u8) -> Result<i64, Malformed> {
    let bytes = precision.div_ceil(2);
    if bytes > 3 {
        return Err(malformed("a time has a precision beyond 6"));
    }
    let bits = 8 * u32::from(bytes);
    let packed = cursor.big(3 + usize::from(bytes))? as i64 - (0x80_0000_i64 << bits);
    let (whole, part) = (packed.abs() >> bits, packed.abs() & ((1_i64 << bits) - 1));
    let micros = part * 100_i64.pow(3 - u32::from(bytes));
    let seconds = (whole >> 12 & 0x3ff) * 3600 + (whole >> 6 & 0x3f) * 60 + (whole & 0x3f);
    Ok((seconds * 1_000_000 + micros) * packed.signum())
}

fn datetime(cursor: &mut Cursor<'_>, precision: u8) -> Result<Value, Malformed> {
    let packed = cursor.big(5)?.wrapping_sub(0x80_0000_0000) & 0x7f_ffff_ffff;
    let micros = fraction(cursor, precision)?;
    let (months, day) = (packed >> 22, packed >> 17 & 31);
    let (year, month) = (months / 13, months % 13);
    let (hour, minute, second) = (packed >> 12 & 31, packed >> 6 & 63, packed & 63);
    let whole = calendar::from_civil_parts(
        year as i16,
        month as i8,
        day as i8,
        hour as i8,
        minute as i8,
        second as i8,
        micros as i32,
    );
    let shown = || format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    Ok(whole.filter(|_| year > 0).map_or_else(|| Value::Unmapped(shown().into()), Value::DateTime))
}

fn decimal_bytes(digits: u8, scale: u8) -> Result<usize, Malformed> {
    let whole = digits.checked_sub(scale).ok_or(malformed("a decimal has more digits after the point than in all"))?;
    let part = |digits: u8| {
        let digits = usize::from(digits);
        digits / GROUP_DIGITS * 4 + BYTES_OF_DIGITS[digits % GROUP_DIGITS]
    };
    Ok(part(whole) + part(scale))
}

/// Groups of nine digits from the point outwards, the most significant byte first; the first bit is inverted, and
/// for a negative number all others too. The text is canonical ([`pontoon_core::decimal`]).
pub(crate) fn decimal(cursor: &mut Cursor<'_>, digits: u8, scale: u8) -> Result<SmolStr, Malformed> {
    let bytes = cursor.take(decimal_bytes(digits, scale)?)?;
    let first = bytes.first().ok_or(malformed("a decimal has no digits"))?;
    let flipped = if first & 0x80 == 0 { 0xff } else { 0 };
    let (mut rest, mut sign) = (Cursor(bytes), 0x80);
    let mut read = |digits: &mut [u8]| -> Result<(), Malformed> {
        let group = rest.take(BYTES_OF_DIGITS[digits.len()])?;
        let plain = |number: u32, &byte: &u8| number << 8 | u32::from(byte ^ flipped ^ std::mem::take(&mut sign));
        let mut number = group.iter().fold(0, plain);
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Ok(())
    };
    // Beside the digits the sign, the point, and a zero where nothing stands before the point.
    let mut text = [b'0'; u8::MAX as usize + 3];
    let (whole, scale) = (usize::from(digits - scale), usize::from(scale));
    let point = 1 + whole.max(1);
    text[point] = b'.';
    let (head, groups) = text[point - whole..point].split_at_mut(whole % GROUP_DIGITS);
    read(head)?;
    groups.chunks_mut(GROUP_DIGITS).try_for_each(&mut read)?;
    text[point + 1..][..scale].chunks_mut(GROUP_DIGITS).try_for_each(&mut read)?;

    let zeros = |digits: &mut dyn Iterator<Item = &u8>| digits.take_while(|digit| **digit == b'0').count();
    let mut start = 1 + zeros(&mut text[1..point - 1].iter());
    let end = match scale - zeros(&mut text[point + 1..][..scale].iter().rev()) {
        0 => point,
        kept => point + 1 + kept,
    };
    if flipped != 0 && text[start..end] != *b"0" {
        start -= 1;
        text[start] = b'-';
    }
    Ok(text[start..end].iter().copied().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::charset::sample;

    fn types() -> impl Strategy<Value = ColumnType> {
        prop_oneof![
            (1..=8_u8, any::<bool>()).prop_map(|(bytes, unsigned)| ColumnType::Integer { bytes, unsigned }),
            (any::<u8>(), any::<u8>()).prop_map(|(digits, scale)| ColumnType::Decimal { digits, scale }),
            (any::<u8>()).prop_map(|precision| ColumnType::Time { precision }),
            (any::<u8>()).prop_map(|precision| ColumnType::DateTime { precision }),
            (any::<u8>()).prop_map(|precision| ColumnType::Timestamp { precision }),
            (any::<u16>()).prop_map(|bits| ColumnType::Bit { bits }),
            (1..=4_u8).prop_map(|length_bytes| ColumnType::Json { length_bytes }),
            (1..=4_u8).prop_map(|length_bytes| ColumnType::Long { length_bytes, collation: 45 }),
            Just(ColumnType::Date),
            Just(ColumnType::Enum { bytes: 1, labels: vec![b"x".to_vec()], collation: 45 }),
        ]
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(column_type in types(), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (mut one, mut other) = (Cursor(&bytes), Cursor(&bytes));
            let read = read(&mut one, &column_type, &Kind::Float64 { special: false }, &sample());
            let skipped = skip(&mut other, &column_type);
            if read.is_ok() {
                prop_assert!(skipped.is_ok());
                prop_assert_eq!(one.0, other.0);
            }
        }

        #[test]
        fn times_are_what_was_packed(seconds in -3_020_399_i64..=3_020_399, part in 0..1_000_000_i64) {
            let whole = seconds.abs();
            let packed = ((whole / 3600) << 12) | ((whole / 60 % 60) << 6) | (whole % 60);
            let packed = (packed << 24 | part) * if seconds < 0 { -1 } else { 1 };
            let bytes = (packed + (0x80_0000 << 24)).to_be_bytes();
            let expected = (whole * 1_000_000 + part) * if seconds < 0 { -1 } else { 1 };
            prop_assert_eq!(time(&mut Cursor(&bytes[2..]), 6).unwrap(), expected);
        }
    }

    #[test]
    fn numbers_are_exact() {
        assert_eq!(integer(&mut Cursor(&[0xff; 8]), 8, true), Ok(u64::MAX.into()));
        assert_eq!(integer(&mut Cursor(&[0xff, 0xff, 0x7f]), 3, false), Ok(8_388_607));
        assert_eq!(integer(&mut Cursor(&[0, 0, 0x80]), 3, false), Ok(-8_388_608));
        // The example of decimal2bin: 1234567890.1234 in decimal(14,4), and its negative.
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        assert_eq!(decimal(&mut Cursor(&bytes), 14, 4).unwrap(), "1234567890.1234");
        let negative = [0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d];
        assert_eq!(decimal(&mut Cursor(&negative), 14, 4).unwrap(), "-1234567890.1234");
        let small = |bytes: &[u8], digits, scale| decimal(&mut Cursor(bytes), digits, scale).unwrap();
        assert_eq!(small(&[0x80, 0, 7, 50], 8, 2), "7.5");
        assert_eq!(small(&[0x7f, 0xff, 0xf8, 0xff], 8, 2), "-7");
        assert_eq!(small(&[0x80, 0, 0, 5], 8, 2), "0.05");
        assert_eq!(small(&[0x7f, 0xff, 0xff, 0xff], 8, 2), "0");
        assert_eq!(small(&[0x85], 1, 1), "0.5");
        assert_eq!(small(&[0x80, 0, 100], 6, 0), "100");
    }

    #[test]
    fn sets_have_no_more_labels_than_bits() {
        let set = |count: usize| ColumnType::Set { bytes: 8, labels: vec![b"x".to_vec(); count], collation: 45 };
        let kind = Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true };
        let read = |count| read(&mut Cursor(&[0, 0, 0, 0, 0, 0, 0, 0x80]), &set(count), &kind, &sample());
        assert_eq!(read(64), Ok(Value::Text("x".into())));
        for count in [63, 65] {
            assert!(read(count).is_err(), "{count}");
        }
    }

    #[test]
    fn zero_dates_are_unmapped() {
        assert_eq!(date(0), Value::Unmapped("0000-00-00".into()));
        assert_eq!(date(2026 << 9 | 2 << 5 | 30), Value::Unmapped("2026-02-30".into()));
        let zero = 0x80_0000_0000_u64.to_be_bytes();
        assert_eq!(datetime(&mut Cursor(&zero[3..]), 0), Ok(Value::Unmapped("0000-00-00 00:00:00".into())));
    }
}
