//! The targets over their corpus; and what of the corpus is cut out of its logs.

use std::collections::HashMap;

use pontoon_corpus::{inputs, is_writing, run, write};

use super::*;
use crate::log::{
    rows::{self, Verb},
    table_map::TableMap,
};

#[test]
fn logs() {
    run("binlog", log);
}

#[test]
fn values_of_rows() {
    run("mysql_value", value);
}

#[test]
fn documents() {
    run("jsonb", document);
}

#[test]
fn updates_of_documents() {
    run("json_diff", document_update);
}

#[test]
fn fields_of_answers() {
    run("mysql_text", text);
}

/// Else the corpus would be of no more use than noise.
#[test]
fn the_logs_of_the_corpus_are_read_to_their_ends() {
    for input in inputs("binlog") {
        let read = read(&input.bytes).unwrap_or_else(|error| panic!("{}: {error}", input.name));
        let is_of_statements = input.name.ends_with("statements");
        assert_eq!(read.obstacles > 0, is_of_statements, "{}: {read:?}", input.name);
        assert!(read.rows > 2 || is_of_statements, "{}: {read:?}", input.name);
    }
}

/// A table of a log: its columns' numbers and metadata, and the same as the decoder has them.
type Table = (Vec<(u8, [u8; 2])>, TableMap);

/// Writes what stands in the logs of the corpus as values, into the corpora of the decoders of these.
#[test]
fn values_are_cut_out_of_the_logs() {
    if !is_writing() {
        return;
    }
    for input in
        inputs("binlog").iter().filter(|input| input.name.ends_with("rows") || input.name.ends_with("documents"))
    {
        let mut tables: HashMap<u64, Table> = HashMap::new();
        let mut rest = &input.bytes[1..];
        while !rest.is_empty() {
            let (bytes, after) = rest.split_at(event::event_bytes(rest).unwrap());
            rest = after;
            let frame = event::frame(&bytes[..bytes.len() - CHECKSUM_BYTES], false).unwrap();
            match frame.kind {
                19 => {
                    let (id, map) = table_map::parse(frame.body).unwrap();
                    tables.insert(id, (table_map::numbers(frame.body).unwrap(), map));
                }
                23..=25 | 30..=32 => {
                    let verb = Verb::of((frame.kind - 23) % 7);
                    let mut rows = rows::parse(frame.body, verb, frame.kind >= 30).unwrap();
                    let (numbers, map) = &tables[&rows.table];
                    if &*map.name == "fuzzed" {
                        cut(&input.name, &mut rows, numbers, map);
                    }
                }
                _ => {}
            }
        }
    }
    by_hand();
}

fn cut(log: &str, rows: &mut rows::Rows<'_>, numbers: &[(u8, [u8; 2])], map: &TableMap) {
    let flavour = log.split('-').next().unwrap();
    while let Some(values) = rows.raw(map).unwrap() {
        for ((value, (code, metadata)), column) in values.into_iter().zip(numbers).zip(&map.columns) {
            let Some(value) = value else { continue };
            let (collation, unsigned) = match column.column_type {
                ColumnType::Short { collation, .. } | ColumnType::Long { collation, .. } => (collation, false),
                ColumnType::Integer { unsigned, .. } => (45, unsigned),
                _ => (45, false),
            };
            let choice =
                COLLATIONS.iter().position(|known| *known == collation).unwrap() as u8 | u8::from(unsigned) << 7;
            let name = format!("{flavour}-{}", column.name);
            write("mysql_value", &name, &[&[*code, metadata[0], metadata[1], choice, 0], value].concat());
            if matches!(column.column_type, ColumnType::Json { .. }) {
                write("jsonb", &format!("{log}-{}", value.len()), &value[4..]);
            }
        }
    }
}

/// What no log of the corpus has by itself: operations on documents, and fields of answers.
fn by_hand() {
    let before = br#"{"a":[1,2,3],"b c":{"\"":true},"d":null}"#;
    let operation = |kind: u8, path: &str, value: &[u8]| {
        let value = if value.is_empty() { Vec::new() } else { [&[value.len() as u8], value].concat() };
        [&[kind, path.len() as u8], path.as_bytes(), &value].concat()
    };
    let (seven, list) = ([5, 7, 0], [2, 2, 0, 10, 0, 5, 1, 0, 4, 1, 0]);
    for (name, operations) in [
        ("replaced", vec![operation(0, "$.a[1]", &seven), operation(0, "$.\"b c\".\"\\\"\"", &list)]),
        (
            "inserted",
            vec![operation(1, "$.e", &list), operation(1, "$.e[last]", &list), operation(1, "$.a[9]", &seven)],
        ),
        ("removed", vec![operation(2, "$.a[last-1]", &[]), operation(2, "$.d", &[])]),
    ] {
        let length = (before.len() as u16).to_le_bytes();
        write("json_diff", name, &[&length[..], before, &operations.concat()].concat());
    }
    for (name, choice, text) in FIELDS {
        write("mysql_text", name, &[&[choice], text.as_bytes()].concat());
    }
}

/// A field of each kind, by the kind's place in [`kinds`].
const FIELDS: [(&str, u8, &str); 20] = [
    ("boolean", 0, "1"),
    ("integer", 1, "-9223372036854775808"),
    ("decimal", 2, "-1234567890.1230"),
    ("float", 3, "0.10000000149011612"),
    ("double", 4, "-1.5e300"),
    ("text", 5, "ßé 日本"),
    ("char", 6, "padded  "),
    ("bytes", 7, "bytes\0"),
    ("binary", 8, "fixed\0\0"),
    ("date", 9, "9999-12-31"),
    ("time", 10, "-838:59:58.999"),
    ("datetime", 11, "2026-11-28 10:00:00.250000"),
    ("zero", 12, "0000-00-00 00:00:00"),
    ("json", 13, r#"{"b":[1.50,1e3,null,true],"a":{"\u00e9":"x"}}"#),
    ("uuid", 14, "123e4567-e89b-12d3-a456-426614174000"),
    ("enum", 15, "b,c"),
    ("set", 16, "a,ü"),
    ("year", 17, "2155"),
    ("bits", 18, "101010101010"),
    ("spelled", 19, "::1"),
];
