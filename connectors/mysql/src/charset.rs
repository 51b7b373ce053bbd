//! The servers' character sets, decoded exactly or not at all.
//!
//! The log holds text as its column stores it. UTF-8 and the wide Unicode sets are decoded here. Of
//! every single-byte set the server itself is asked for its 256 characters, so that the table is its
//! own and not a look-alike. Of the East Asian sets only those are taken whose decoder was compared
//! with the server's for every character (`tests/values.rs`). A column in any other set has no kind,
//! and `check` refuses it by name.

use std::{collections::HashMap, sync::Arc};

use pontoon_core::{Code, Error, Result};
use smol_str::SmolStr;

use crate::connect::{Client, number, text};

/// The collation of bytes.
pub(crate) const BINARY: u32 = 63;

/// Numbers of collations are below (`MY_ALL_CHARSETS_SIZE` of MariaDB's `include/m_ctype.h`; MySQL has half as many).
const COLLATIONS_MAX: usize = 4096;

/// How the bytes of a character set become text.
#[derive(Debug, Clone)]
enum Decoder {
    /// `utf8mb4`, `utf8mb3`, `ascii`.
    Utf8,
    /// `ucs2`, `utf16`.
    Utf16Be,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`.
    Utf32,
    /// One byte, one character; `None` for a byte that stands for none.
    Single(Arc<[Option<char>; 256]>),
    /// A set whose decoder has been compared with the servers'.
    Compared(&'static encoding_rs::Encoding),
}

/// The decoders of a server's collations, by their number in the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charsets {
    /// The character sets, and how each is decoded where that has been loaded.
    sets: Vec<(Arc<str>, Option<Decoder>)>,
    /// The place of each collation's set among them, by the collation's number: every text that is read is looked up here.
    by_collation: Vec<Option<u16>>,
}

/// Whether text in this character set can be bridged.
pub(crate) fn is_supported(charset: &str, bytes_per_char: u32) -> bool {
    unicode(charset).is_some() || compared(charset).is_some() || bytes_per_char == 1
}

/// Whether a text takes as many bytes in it as in UTF-8.
pub(crate) fn is_utf8(charset: &str) -> bool {
    matches!(charset, "utf8mb4" | "utf8mb3" | "utf8" | "ascii")
}

fn unicode(charset: &str) -> Option<Decoder> {
    Some(match charset {
        "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Decoder::Utf8,
        "ucs2" | "utf16" => Decoder::Utf16Be,
        "utf16le" => Decoder::Utf16Le,
        "utf32" => Decoder::Utf32,
        _ => return None,
    })
}

fn compared(charset: &str) -> Option<&'static encoding_rs::Encoding> {
    Some(match charset {
        "cp932" => encoding_rs::SHIFT_JIS,
        "euckr" => encoding_rs::EUC_KR,
        "gbk" => encoding_rs::GBK,
        // big5, eucjpms, gb2312, gb18030, sjis and ujis differ from the servers' in some characters.
        _ => return None,
    })
}

impl Charsets {
    /// Asks the server for its collations and for the tables of these character sets.
    pub(crate) async fn load<'a>(client: &mut Client, wanted: impl Iterator<Item = &'a str>) -> Result<Charsets> {
        let (collations, mut decoders) = (collations(client).await?, HashMap::new());
        for charset in wanted {
            if !decoders.contains_key(charset) {
                let decoder = match (unicode(charset), compared(charset)) {
                    (Some(decoder), _) => decoder,
                    (None, Some(encoding)) => Decoder::Compared(encoding),
                    (None, None) => Decoder::Single(single(client, charset).await?),
                };
                decoders.insert(charset, decoder);
            }
        }
        Ok(Charsets::of(collations, |charset| decoders.get(charset).cloned()))
    }

    fn of(collations: Vec<(u32, Arc<str>)>, decoder: impl Fn(&str) -> Option<Decoder>) -> Charsets {
        let mut charsets = Charsets::default();
        for (collation, charset) in collations {
            let known = charsets.sets.iter().position(|(name, _)| *name == charset);
            let place = known.unwrap_or_else(|| {
                let decoder = decoder(&charset);
                charsets.sets.push((charset, decoder));
                charsets.sets.len() - 1
            });
            let number = collation as usize;
            if number < COLLATIONS_MAX {
                charsets.by_collation.resize(charsets.by_collation.len().max(number + 1), None);
                charsets.by_collation[number] = u16::try_from(place).ok();
            }
        }
        charsets
    }

    fn find(&self, collation: u32) -> Option<&(Arc<str>, Option<Decoder>)> {
        let place = self.by_collation.get(collation as usize).copied().flatten()?;
        self.sets.get(usize::from(place))
    }

    /// The character set of a collation.
    pub(crate) fn charset_of(&self, collation: u32) -> Option<&str> {
        self.find(collation).map(|(name, _)| &**name)
    }

    /// The text that the bytes stand for; `None` where they stand for none, or the set has no decoder.
    pub(crate) fn decode(&self, collation: u32, bytes: &[u8]) -> Option<SmolStr> {
        let (_, decoder) = self.find(collation)?;
        decoder.as_ref()?.decode(bytes)
    }
}

impl Decoder {
    fn decode(&self, bytes: &[u8]) -> Option<SmolStr> {
        match self {
            Decoder::Utf8 => SmolStr::from_utf8(bytes).ok(),
            Decoder::Utf16Be => utf16(bytes, u16::from_be_bytes),
            Decoder::Utf16Le => utf16(bytes, u16::from_le_bytes),
            Decoder::Utf32 => {
                let (chunks, rest) = bytes.as_chunks::<4>();
                let chars = chunks.iter().map(|&chunk| char::from_u32(u32::from_be_bytes(chunk)));
                rest.is_empty().then(|| chars.collect()).flatten()
            }
            Decoder::Single(table) => bytes.iter().map(|&byte| table[usize::from(byte)]).collect(),
            Decoder::Compared(encoding) => {
                encoding.decode_without_bom_handling_and_without_replacement(bytes).map(SmolStr::from)
            }
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<SmolStr> {
    let (chunks, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = chunks.iter().map(|&chunk| unit(chunk)).collect();
    rest.is_empty().then(|| String::from_utf16(&units).ok().map(SmolStr::from)).flatten()
}

/// Collation numbers. MariaDB's contextual collations (`uca1400_ai_ci`) have one number per character set, which
/// only the applicability table tells, and that only from 10.10 on.
async fn collations(client: &mut Client) -> Result<Vec<(u32, Arc<str>)>> {
    let plain = "SELECT id, character_set_name FROM information_schema.collations WHERE id IS NOT NULL";
    let full = "SELECT id, character_set_name FROM information_schema.collation_character_set_applicability";
    let by_charset = client.server.numbers_collations_by_charset();
    let rows = client.rows(if by_charset { full } else { plain }).await?;
    Ok(rows.iter().filter_map(|row| Some((number(row, 0)?, Arc::from(text(row, 1)?)))).collect())
}

async fn single(client: &mut Client, charset: &str) -> Result<Arc<[Option<char>; 256]>> {
    let unknown = || Error::new(Code::Protocol, format!("the server does not show the character set {charset}"));
    if !charset.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(unknown());
    }
    let all: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    let shown =
        client.scalar(format!("SELECT CONVERT(_{charset} x'{all}' USING utf8mb4)")).await?.ok_or_else(unknown)?;
    // A byte that stands for nothing is shown as a question mark, which is itself a character of all sets.
    let question = client.rows(format!("SELECT HEX(CONVERT('?' USING {charset}))")).await?;
    let question: Option<u8> =
        question.first().and_then(|row| text(row, 0)).and_then(|hex| u8::from_str_radix(&hex, 16).ok());
    let mut table = [None; 256];
    let mut chars = shown.chars();
    for (byte, slot) in table.iter_mut().enumerate() {
        let shown = chars.next().ok_or_else(unknown)?;
        *slot = (shown != '?' || Some(byte as u8) == question).then_some(shown);
    }
    if chars.next().is_some() { Err(unknown()) } else { Ok(Arc::new(table)) }
}

/// Collations as a server may have them: 45 and 46 are utf8mb4, 8 latin1 (of 1252), 35 ucs2, 60 utf32, 63 binary.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn sample() -> Charsets {
    let mut latin1 = [None; 256];
    for (byte, slot) in latin1.iter_mut().enumerate() {
        *slot = char::from_u32(byte as u32).filter(|_| byte != 0x81);
    }
    let latin1 = Decoder::Single(Arc::new(latin1));
    let all = [(8, "latin1"), (45, "utf8mb4"), (46, "utf8mb4"), (35, "ucs2"), (60, "utf32"), (63, "binary")];
    let all = all.map(|(id, name)| (id, name.into())).to_vec();
    Charsets::of(all, |charset| if charset == "latin1" { Some(latin1.clone()) } else { unicode(charset) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_or_not_at_all() {
        let charsets = sample();
        assert_eq!(charsets.decode(45, "ä€".as_bytes()).as_deref(), Some("ä€"));
        assert_eq!(charsets.decode(45, b"\xff"), None);
        assert_eq!(charsets.decode(8, b"\xe4?").as_deref(), Some("ä?"));
        assert_eq!(charsets.decode(8, b"\x81"), None);
        assert_eq!(charsets.decode(35, b"\x20\xac").as_deref(), Some("€"));
        assert_eq!(charsets.decode(35, b"\x20"), None);
        assert_eq!(charsets.decode(60, b"\x00\x01\xf6\x00").as_deref(), Some("😀"));
        assert_eq!(charsets.decode(999, b"a"), None);
    }
}
