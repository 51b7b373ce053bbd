//! MySQL's binary JSON to text (`sql-common/json_binary.h` is the format's reference).
//!
//! A value is a type byte and data; objects and arrays begin with their count and size, then for each
//! member an entry with type and offset, small scalars within the entry. Exact numbers become numbers
//! with all their digits; dates and times become the strings that the server itself prints.

use super::{Malformed, cursor::Cursor, malformed, values};

/// The server's own limit is 100 levels.
const DEPTH_MAX: usize = 128;

/// Bytes of text that a byte of a document can become, and some for a scalar: an escaped control character
/// takes six, a literal in its entry two, a short decimal more. Only members that overlap, which no server
/// writes, exceed it, and they could go on for ever.
const TEXT_PER_BYTE: usize = 16;
const TEXT_BASE: usize = 1024;

/// The text of a document. An empty one is what an update from nothing leaves: null.
pub(crate) fn to_text(bytes: &[u8]) -> Result<String, Malformed> {
    let mut out = Out { text: String::with_capacity(bytes.len() * 2), most: bytes.len() * TEXT_PER_BYTE + TEXT_BASE };
    match bytes.split_first() {
        Some((&kind, data)) => write(&mut out, kind, data, 0)?,
        None => out.push_str("null"),
    }
    Ok(out.text)
}

struct Out {
    text: String,
    most: usize,
}

impl Out {
    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn push(&mut self, c: char) {
        self.text.push(c);
    }
}

fn write(out: &mut Out, kind: u8, data: &[u8], depth: usize) -> Result<(), Malformed> {
    if depth > DEPTH_MAX || out.text.len() > out.most {
        return Err(malformed("a document nests too deeply"));
    }
    let mut cursor = Cursor(data);
    match kind {
        0 | 1 => container(out, data, kind == 1, true, depth)?,
        2 | 3 => container(out, data, kind == 3, false, depth)?,
        4 => out.push_str(match cursor.byte()? {
            0 => "null",
            1 => "true",
            2 => "false",
            _ => return Err(malformed("a document holds an unknown literal")),
        }),
        5 => out.push_str(&(cursor.little(2)? as i16).to_string()),
        6 => out.push_str(&cursor.little(2)?.to_string()),
        7 => out.push_str(&(cursor.little(4)? as i32).to_string()),
        8 => out.push_str(&cursor.little(4)?.to_string()),
        9 => out.push_str(&(cursor.little(8)? as i64).to_string()),
        10 => out.push_str(&cursor.little(8)?.to_string()),
        11 => {
            let number = f64::from_bits(cursor.little(8)?);
            if !number.is_finite() {
                return Err(malformed("a document holds a number that is none"));
            }
            out.push_str(&format!("{number:?}"));
        }
        12 => {
            let length = variable(&mut cursor)?;
            string(out, cursor.take(length)?)?;
        }
        15 => {
            let kind = cursor.byte()?;
            let length = variable(&mut cursor)?;
            opaque(out, kind, cursor.take(length)?)?;
        }
        _ => return Err(malformed("a document holds a value of an unknown type")),
    }
    Ok(())
}

fn container(out: &mut Out, data: &[u8], large: bool, object: bool, depth: usize) -> Result<(), Malformed> {
    let width = if large { 4 } else { 2 };
    let mut cursor = Cursor(data);
    let count = cursor.little(width)? as usize;
    let size = cursor.little(width)? as usize;
    let data = data.get(..size).ok_or(malformed("a document is longer than its value"))?;
    let entries = count.checked_mul(1 + width + if object { width + 2 } else { 0 });
    if entries.is_none_or(|bytes| bytes > size) {
        return Err(malformed("a document claims more members than it holds"));
    }
    let mut keys = Vec::new();
    if object {
        for _ in 0..count {
            let (offset, length) = (cursor.little(width)? as usize, cursor.little(2)? as usize);
            keys.push(
                offset
                    .checked_add(length)
                    .and_then(|end| data.get(offset..end))
                    .ok_or(malformed("a document's key is outside of it"))?,
            );
        }
    }
    out.push(if object { '{' } else { '[' });
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        if let Some(key) = keys.get(index) {
            string(out, key)?;
            out.push(':');
        }
        let kind = cursor.byte()?;
        let entry = cursor.take(width)?;
        // Literals and small integers stand in the entry itself.
        if matches!(kind, 4..=6) || (large && matches!(kind, 7 | 8)) {
            write(out, kind, entry, depth + 1)?;
        } else {
            let offset = Cursor(entry).little(width)? as usize;
            // A member begins behind the header, so that none can hold itself.
            let member = data.get(offset..).filter(|_| offset >= 2 * width);
            write(out, kind, member.ok_or(malformed("a document's member is outside of it"))?, depth + 1)?;
        }
    }
    out.push(if object { '}' } else { ']' });
    Ok(())
}

/// Seven bits a byte, the least significant first.
fn variable(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let mut length = 0_usize;
    for index in 0..5 {
        let byte = cursor.byte()?;
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(length);
        }
    }
    Err(malformed("a document holds a length that does not end"))
}

fn string(out: &mut Out, bytes: &[u8]) -> Result<(), Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("a document holds a text that is not UTF-8"))?;
    out.push_str(
        &serde_json::to_string(text).map_err(|_| malformed("a document holds a text that cannot be written"))?,
    );
    Ok(())
}

fn opaque(out: &mut Out, kind: u8, bytes: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor(bytes);
    match kind {
        246 => {
            let (digits, scale) = (cursor.byte()?, cursor.byte()?);
            out.push_str(&values::decimal(&mut cursor, digits, scale)?);
        }
        7 | 10 | 11 | 12 => {
            let packed = cursor.little(8)? as i64;
            out.push_str(&format!("\"{}\"", moment(kind, packed)));
        }
        _ => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            out.push_str(&format!("\"base64:type{kind}:{}\"", STANDARD.encode(bytes)));
        }
    }
    Ok(())
}

fn moment(kind: u8, packed: i64) -> String {
    let (sign, packed) = (if packed < 0 { "-" } else { "" }, packed.unsigned_abs());
    let (whole, micros) = (packed >> 24, packed & 0xff_ffff);
    let (minute, second) = (whole >> 6 & 63, whole & 63);
    if kind == 11 {
        return format!("{sign}{:02}:{minute:02}:{second:02}.{micros:06}", whole >> 12 & 0x3ff);
    }
    let (months, day) = (whole >> 22, whole >> 17 & 31);
    let date = format!("{:04}-{:02}-{day:02}", months / 13, months % 13);
    if kind == 10 { date } else { format!("{date} {:02}:{minute:02}:{second:02}.{micros:06}", whole >> 12 & 31) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = to_text(&bytes);
        }

        #[test]
        fn containers_never_panic(kind in 0..4_u8, bytes in proptest::collection::vec(0..20_u8, 0..100)) {
            let _ = to_text(&[&[kind][..], &bytes].concat());
        }
    }

    #[test]
    fn documents_become_text() {
        // {"a": [1, true], "b": "x"}, as the server stores it.
        let array = [2, 0, 10, 0, 5, 1, 0, 4, 1, 0];
        let mut object = vec![0, 2, 0, 0, 0, 18, 0, 1, 0, 19, 0, 1, 0, 2, 20, 0, 12, 30, 0, b'a', b'b'];
        object.extend(array);
        object.extend([1, b'x']);
        object[3] = (object.len() - 1) as u8;
        assert_eq!(to_text(&object).unwrap(), r#"{"a":[1,true],"b":"x"}"#);
        assert_eq!(to_text(&[11, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]).unwrap(), "1.5");
        assert_eq!(to_text(&[]).unwrap(), "null");
    }

    #[test]
    fn moments_are_strings() {
        let date = ((2026_i64 * 13 + 11) << 5 | 23) << 17;
        assert_eq!(moment(10, date << 24), "2026-11-23");
        assert_eq!(moment(12, (date | 10 << 12 | 5 << 6 | 7) << 24 | 9), "2026-11-23 10:05:07.000009");
        assert_eq!(moment(11, -((10 << 12) << 24)), "-10:00:00.000000");
    }
}
