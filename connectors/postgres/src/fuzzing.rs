//! The decoders as functions of bytes, which panic where something does not hold: the targets of `fuzz/`. The same
//! functions run over their corpus with every test (`pontoon_corpus`).
//!
//! A target takes the way that a reader takes, with a table of all types in place of what a server would be asked
//! for. Whatever the bytes are: nothing panics; a row takes memory within a multiple of the log that describes it, and
//! there are no more rows than bytes; what is passed on is whole and in the form of its column.

use pontoon_core::{
    Change, Column, Error, Form, Held, Kind, LogEvent, MappedColumn, MappedTable, Origin, Result, TableName,
    node::Tables,
};
use pontoon_corpus::{kinds, sound, sound_row};

use crate::{
    catalog::kind_of,
    decode,
    encode::Array,
    log::{
        assemble::{Assembler, Reading},
        pgoutput::Malformed,
        stream,
    },
    names::Names,
    shape::Shapes,
    slot::Members,
};

/// Memory that a row may take beyond what grows with the log: the slots of its values.
const ROW_BYTES: usize = 4 << 10;

/// Bytes of memory for a byte of the log: a number of a document may be written with 20 zeros in place of an exponent, and
/// what is no UTF-8 with three bytes for one.
const BYTES_PER_BYTE: usize = 16;

/// The table of `tests/server/corpus.rs`: each column's name, type and modifier.
const COLUMNS: [(&str, u32, i32); 21] = [
    ("id", 23, -1),
    ("b", 16, -1),
    ("i2", 21, -1),
    ("i8", 20, -1),
    ("n", 1700, (14 << 16 | 4) + 4),
    ("nn", 1700, -1),
    ("f", 700, -1),
    ("g", 701, -1),
    ("t", 25, -1),
    ("v", 1043, 304),
    ("c", 1042, 14),
    ("o", 17, -1),
    ("da", 1082, -1),
    ("ti", 1083, 3),
    ("dt", 1114, -1),
    ("ts", 1184, -1),
    ("j", 114, -1),
    ("jb", 3802, -1),
    ("u", 2950, -1),
    ("bb", 1560, 12),
    ("big", 25, -1),
];

/// A log: frames of the stream, each behind four bytes for its length.
pub fn log(input: &[u8]) {
    let _ = read(input);
}

/// What was read of a log.
#[derive(Debug, Default)]
struct Read {
    rows: usize,
    obstacles: usize,
    bytes: usize,
}

/// Reads a log as a reader does, up to its end or to what ends the reader.
fn read(input: &[u8]) -> Result<Read> {
    read_with(input, &mut seen)
}

/// What looks at each event that comes.
type Look<'a> = &'a mut dyn FnMut(&LogEvent, &mut Read, &Tables);

/// The same, where another one looks.
fn read_with(mut input: &[u8], look: Look<'_>) -> Result<Read> {
    let tables = tables();
    let mut assembler = Assembler::new(reading(&tables)?);
    let mut read = Read::default();
    while let Some((length, rest)) = input.split_first_chunk() {
        // A length beyond the end is all that is left.
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX).min(rest.len());
        let (bytes, after) = rest.split_at(length);
        input = after;
        read.bytes += 1 + bytes.len();
        let fed = stream::decode(bytes).map_err(Malformed::into_error).and_then(|frame| assembler.frame(&frame));
        while let Some(event) = assembler.take() {
            look(&event, &mut read, &tables);
        }
        fed?;
        if assembler.has_ended() {
            break;
        }
    }
    Ok(read)
}

fn seen(event: &LogEvent, read: &mut Read, tables: &Tables) {
    // Of a transaction of the bridge itself the key is enough, and of pieces it is not known yet whose they are.
    let (changes, whole): (&[Change], bool) = match event {
        LogEvent::Fragment(fragment) | LogEvent::Held(Held::Decided { fragment, .. }) => {
            (&fragment.changes, fragment.origin != Origin::Own)
        }
        LogEvent::Held(Held::Piece { changes, .. }) => (changes, false),
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

fn reading(tables: &Tables) -> Result<Reading, Error> {
    let columns = COLUMNS.map(|(name, oid, modifier)| (name.to_owned(), oid, modifier));
    Ok(Reading {
        names: Names::new("fuzz")?,
        tables: tables.clone(),
        shapes: Shapes::of(16_384, TableName::new("public", "fuzzed"), columns.to_vec()),
        members: Members::new("16384:00000000".into(), vec![(0, 16_384)]),
        start: 0,
        passed: pontoon_core::node::PassedOver::default(),
        everything: false,
    })
}

fn tables() -> Tables {
    let columns = COLUMNS.iter().filter_map(|(name, oid, modifier)| Some(column(name, kind_of(*oid, *modifier)?)));
    let table = MappedTable::plain(TableName::new("public", "fuzzed"), columns.collect());
    vec![table].into()
}

fn column(name: &str, kind: Kind) -> MappedColumn {
    let column = Column::plain(name, "", kind.clone());
    // All kinds have a form with their like.
    let form = Form::of_pair(&kind, &kind).unwrap_or(Form::Text { padded: false });
    MappedColumn::new(column, kind, form)
}

/// A value as the server writes it: a byte that chooses the kind, then its text.
pub fn text(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else { return };
    let mut kinds = kinds();
    let column = column("value", kinds.swap_remove(usize::from(choice) % kinds.len()));
    let value = decode::common(&column, text);
    assert!(value.heap_bytes() <= ROW_BYTES + BYTES_PER_BYTE * text.len(), "{} of {}", value.heap_bytes(), text.len());
    sound(&column.kind, column.form, &value);
    // What does not fit is told, and what does is written.
    let _ = Array::new(&column).push(&column, &value);
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod counted;
