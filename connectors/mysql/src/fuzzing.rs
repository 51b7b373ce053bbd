//! The decoders as functions of bytes, which panic where something does not hold: the targets of `fuzz/`. The same
//! functions run over their corpus with every test (`pontoon_corpus`).
//!
//! A target takes the way that a reader takes, with a table of all types in place of what a server would be asked
//! for. Whatever the bytes are: nothing panics; a row takes memory within a multiple of the log that describes it, and
//! there are no more rows than bytes; what is passed on is whole and in the form of its column.

use std::sync::Arc;

use pontoon_core::{
    Change, Column, Form, Held, Kind, LogEvent, MappedColumn, MappedTable, Origin, Position, Result, TableName,
    node::Tables,
};
use pontoon_corpus::{kinds, sound, sound_row};

use crate::{
    charset,
    connect::Flavour,
    decode, encode,
    log::{
        Malformed,
        assemble::{Assembler, Reading},
        compressed,
        cursor::Cursor,
        event::{self, CHECKSUM_BYTES, FORMAT, Frame, PAYLOAD},
        json_diff, jsonb,
        payload::Payload,
        table_map::{self, ColumnType},
        values,
    },
};

/// Memory that a row may take beyond what grows with the log: the slots of its values, and what `binary(n)` is filled up
/// with, 1023 bytes at most for a column.
const ROW_BYTES: usize = 64 << 10;

/// Bytes of memory for a byte of the log: of a document, whose members may overlap, 16 and what one text has beyond.
const BYTES_PER_BYTE: usize = 32;

/// The same for a text or a document by itself, beyond the multiple: the digits of a number with an exponent, which
/// [`pontoon_core::decimal`] limits, and the room of [`jsonb`].
const VALUE_BYTES: usize = 160_000;

/// Collations that an input can choose from, of [`charset::sample`]; the last has no charset.
const COLLATIONS: [u32; 8] = [45, 8, 35, 60, 63, 46, 45, 999];

/// A log: a byte for the flavour (odd for MariaDB), then the events of a file, without its four bytes of magic.
pub fn log(input: &[u8]) {
    let _ = read(input);
}

/// What was read of a log.
#[derive(Debug, Default)]
struct Read {
    rows: usize,
    obstacles: usize,
    /// Bytes of the events, what was compressed unpacked.
    bytes: usize,
}

/// Reads a log as a reader does, up to its end or to what ends the reader.
fn read(input: &[u8]) -> Result<Read> {
    read_with(input, &mut seen)
}

/// What looks at each event that comes.
type Look<'a> = &'a mut dyn FnMut(&LogEvent, &mut Read, &Tables);

/// The same, where another one looks.
fn read_with(input: &[u8], look: Look<'_>) -> Result<Read> {
    let mut read = Read::default();
    let Some((&flavour, mut rest)) = input.split_first() else { return Ok(read) };
    let flavour = if flavour & 1 == 1 { Flavour::Mariadb } else { Flavour::Mysql };
    let tables = tables(flavour);
    let start: Position = "bin.000001:4".parse()?;
    let mut assembler = Assembler::new(reading(flavour, &tables), "bin", 1, 4, &start);
    let mut checksums = false;
    while !rest.is_empty() {
        let broken = |error: Malformed| error.at(&start);
        let size = event::event_bytes(rest).map_err(broken)?;
        let (mut bytes, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        if event::kind(bytes) == FORMAT {
            checksums = event::has_checksums(bytes).map_err(broken)?;
        }
        if checksums {
            // They are what damage would be seen by, and here damage is to get through.
            bytes = bytes.split_last_chunk::<CHECKSUM_BYTES>().map_or(bytes, |(event, _)| event);
        }
        let frame = event::frame(bytes, false).map_err(broken)?;
        if frame.kind == PAYLOAD {
            unpack(frame.body, |event| {
                let inner = event::frame(event, true).map_err(broken)?;
                feed(&mut assembler, inner, &mut read, &tables, look)
            })?;
        }
        feed(&mut assembler, frame, &mut read, &tables, look)?;
    }
    Ok(read)
}

/// The events of a compressed transaction, one by one.
fn unpack(body: &[u8], mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let broken = |error: Malformed| error.at(&Position::Lsn(0));
    let (mut payload, fields) = Payload::begin(body, body.len()).map_err(broken)?;
    let mut rest = &body[fields..];
    loop {
        if let Some(bytes) = payload.ready().map_err(broken)? {
            each(payload.front(bytes))?;
            payload.pass(bytes);
        } else if !rest.is_empty() {
            rest = &rest[payload.push(rest).map_err(broken)?..];
        } else if !payload.drain().map_err(broken)? {
            return payload.finish().map_err(broken);
        }
    }
}

fn feed(assembler: &mut Assembler, frame: Frame<'_>, read: &mut Read, tables: &Tables, look: Look<'_>) -> Result<()> {
    let broken = |error: Malformed| error.at(&Position::Lsn(0));
    let flavour = assembler.flavour();
    let mut room = Vec::new();
    let frame = match flavour {
        Flavour::Mysql => frame,
        Flavour::Mariadb => compressed::expand(frame, &mut room).map_err(broken)?,
    };
    read.bytes += event::HEADER_BYTES + frame.body.len();
    let message = event::parse(frame, flavour).map_err(broken)?;
    let fed = assembler.feed(frame, message, 0);
    if !assembler.to_check().is_empty() {
        assembler.checked(Vec::new());
    }
    while let Some(event) = assembler.take() {
        look(&event, read, tables);
    }
    let _ = assembler.take_progress();
    fed
}

fn seen(event: &LogEvent, read: &mut Read, tables: &Tables) {
    // Of a transaction of the bridge itself the key is enough, and of pieces it is not known yet whose they are.
    let (changes, whole): (&[Change], bool) = match event {
        LogEvent::Fragment(fragment) => (&fragment.changes, fragment.origin != Origin::Own),
        LogEvent::Held(Held::Piece { changes, .. }) => (changes, false),
        LogEvent::Held(Held::Decided { fragment, .. }) => (&fragment.changes, fragment.origin != Origin::Own),
        LogEvent::Held(Held::Undone { .. }) | LogEvent::Progress(_) => return,
        LogEvent::Obstacle(_) => {
            read.obstacles += 1;
            return;
        }
    };
    for change in changes {
        for row in [change.before(), change.after()].into_iter().flatten() {
            read.rows += 1;
            assert!(read.rows <= read.bytes, "more rows than bytes");
            let bytes = row.memory_bytes();
            assert!(bytes <= ROW_BYTES + BYTES_PER_BYTE * read.bytes, "{bytes} bytes for a row of {}", read.bytes);
            if whole {
                sound_row(&tables[change.table.index()], row);
            }
        }
    }
}

fn reading(flavour: Flavour, tables: &Tables) -> Reading {
    Reading {
        bridge: "fuzz".into(),
        tables: tables.clone(),
        all: false,
        flavour,
        shapes: tables.iter().map(|table| table.columns.iter().map(|c| c.column.name.clone()).collect()).collect(),
        charsets: Arc::new(charset::sample()),
        passed: pontoon_core::node::PassedOver::default(),
    }
}

/// The table of `tests/corpus.rs`.
fn tables(flavour: Flavour) -> Tables {
    let integer = |bits: u32, signed: bool| match signed {
        true => Kind::Integer { min: -(1 << (bits - 1)), max: (1 << (bits - 1)) - 1 },
        false => Kind::Integer { min: 0, max: (1 << bits) - 1 },
    };
    let text = |padded| Kind::Text { chars_max: Some(300), bytes_max: None, padded, nul: true };
    let bytes = |fixed| Kind::Bytes { bytes_max: Some(8), fixed };
    let labels = |labels: &[&str]| labels.iter().map(|label| Box::from(*label)).collect::<Vec<_>>().into();
    let micros = (i64::MIN, i64::MAX);
    let mut columns = vec![
        ("id", integer(32, true)),
        ("i1", integer(8, true)),
        ("i2", integer(16, false)),
        ("i3", integer(24, true)),
        ("i8", integer(64, false)),
        ("d", Kind::Decimal { digits: Some((14, 4)) }),
        ("f", Kind::Float32 { special: false }),
        ("g", Kind::Float64 { special: false }),
        ("b1", Kind::Boolean),
        ("b12", Kind::Bits { length: 12 }),
        ("y", Kind::Year),
        ("s", Kind::Set { labels: labels(&["a", "b", "ü"]) }),
        ("e", Kind::Enum { labels: labels(&["x", "ü"]) }),
        ("c", text(true)),
        ("v", text(false)),
        ("w", bytes(false)),
        ("x", bytes(true)),
        ("t", text(false)),
        ("o", bytes(false)),
        ("da", Kind::Date { days: (i32::MIN, i32::MAX) }),
        ("ti", Kind::Time { precision: 3, span: true }),
        ("ts", Kind::Instant { precision: 6, micros }),
        ("dt", Kind::DateTime { precision: 2, micros }),
        ("j", Kind::Json { exact_numbers: flavour == Flavour::Mariadb, nul: true }),
    ];
    if flavour == Flavour::Mariadb {
        columns.push(("u", Kind::Uuid));
    }
    let table = MappedTable::plain(
        TableName::new("fuzz", "fuzzed"),
        columns.into_iter().map(|(name, kind)| column(name, kind)).collect(),
    );
    vec![table].into()
}

fn column(name: &str, kind: Kind) -> MappedColumn {
    let column = Column::plain(name, "", kind.clone());
    let form = own_form(&kind);
    MappedColumn::new(column, kind, form)
}

/// The form of a pair of two columns of this kind.
fn own_form(kind: &Kind) -> Form {
    Form::of_pair(kind, kind).unwrap_or(Form::Text { padded: false })
}

/// A value in a row's image: the type's number and its two bytes of metadata in a table map, a byte that chooses the
/// collation and the sign, one that chooses the kind (0 for the type's own), and then its bytes.
pub fn value(input: &[u8]) {
    let Some((&[code, first, second, choice, kind], bytes)) = input.split_first_chunk() else { return };
    let collation = COLLATIONS[usize::from(choice) % COLLATIONS.len()];
    let Ok(column_type) = table_map::column_type(code, [first, second], collation, choice & 0x80 != 0) else { return };
    let kind = match kind {
        0 => kind_of(&column_type),
        _ => chosen(kind),
    };
    let (mut one, mut other) = (Cursor(bytes), Cursor(bytes));
    let read = values::read(&mut one, &column_type, &kind, &charset::sample());
    let skipped = values::skip(&mut other, &column_type);
    let Ok(value) = read else { return };
    assert_eq!((skipped, other.0), (Ok(()), one.0), "what is read and what is passed over differ");
    let form = own_form(&kind);
    let value = form.convert(value);
    let taken = bytes.len() - one.0.len();
    assert!(value.heap_bytes() <= VALUE_BYTES + BYTES_PER_BYTE * taken, "{} of {taken}", value.heap_bytes());
    sound(&kind, form, &value);
}

fn chosen(choice: u8) -> Kind {
    let mut kinds = kinds();
    let at = usize::from(choice) % kinds.len();
    kinds.swap_remove(at)
}

/// The kind that a type is of.
fn kind_of(column_type: &ColumnType) -> Kind {
    let micros = (i64::MIN, i64::MAX);
    match column_type {
        ColumnType::Integer { .. } => Kind::Integer { min: i64::MIN.into(), max: u64::MAX.into() },
        ColumnType::Decimal { digits, scale } => Kind::Decimal { digits: Some(((*digits).into(), (*scale).into())) },
        ColumnType::Float => Kind::Float32 { special: false },
        ColumnType::Double => Kind::Float64 { special: false },
        ColumnType::Year => Kind::Year,
        ColumnType::Bit { bits } => Kind::Bits { length: (*bits).into() },
        ColumnType::Short { collation: charset::BINARY, fixed, .. } => Kind::Bytes { bytes_max: None, fixed: *fixed },
        ColumnType::Long { collation: charset::BINARY, .. } => Kind::Bytes { bytes_max: None, fixed: false },
        ColumnType::Date => Kind::Date { days: (i32::MIN, i32::MAX) },
        ColumnType::Time { precision } => Kind::Time { precision: *precision, span: true },
        ColumnType::DateTime { precision } => Kind::DateTime { precision: *precision, micros },
        ColumnType::Timestamp { precision } => Kind::Instant { precision: *precision, micros },
        ColumnType::Json { .. } => Kind::Json { exact_numbers: false, nul: true },
        ColumnType::Enum { .. }
        | ColumnType::Set { .. }
        | ColumnType::Short { .. }
        | ColumnType::Long { .. }
        | ColumnType::Opaque { .. }
        | ColumnType::OpaqueLong { .. } => Kind::Text { chars_max: None, bytes_max: None, padded: false, nul: true },
    }
}

/// A document in binary.
pub fn document(input: &[u8]) {
    let Ok(text) = jsonb::to_text(input) else { return };
    is_document(&text, input.len());
}

/// A partial update of a document: two bytes for the length of the document before, its text, the operations.
pub fn document_update(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk() else { return };
    let (before, operations) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let Ok(before) = std::str::from_utf8(before) else { return };
    // Each operation brings a document, and each of these may be of the size that is granted to the smallest.
    if let Ok(after) = json_diff::apply(before, operations) {
        is_document(&after, before.len() + 64 * operations.len());
    }
}

/// Makes sure that a text is a document, and no larger than one that was made of so many bytes may be.
fn is_document(text: &str, bytes: usize) {
    assert!(text.len() <= VALUE_BYTES + BYTES_PER_BYTE * bytes, "{} of {bytes}", text.len());
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        assert!(error.to_string().contains("recursion limit"), "no document: {error}");
    }
    let kind = Kind::Json { exact_numbers: false, nul: true };
    let value = Form::Json.convert(pontoon_core::Value::Json(text.into()));
    sound(&kind, Form::Json, &value);
}

/// A field of a query's answer: a byte that chooses the kind, then its text.
pub fn text(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let kind = chosen(choice);
    let form = own_form(&kind);
    let value = form.convert(decode::value(Some(text.to_vec()), &kind));
    assert!(value.heap_bytes() <= VALUE_BYTES + 4 * text.len(), "{} of {}", value.heap_bytes(), text.len());
    sound(&kind, form, &value);
    let mut sql = String::new();
    let _ = encode::push(&mut sql, &value, &kind);
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod counted;
