//! The targets over their corpus.

use pontoon_core::Value;
use pontoon_corpus::{input, inputs, is_writing, run, write};

use super::*;

#[test]
fn logs() {
    run("pgoutput", log);
}

#[test]
fn values_as_text() {
    run("postgres_text", text);
}

/// Else the corpus would be of no more use than noise.
#[test]
fn the_logs_of_the_corpus_are_read_to_their_ends() {
    for input in inputs("pgoutput") {
        let read = read(&input.bytes).unwrap_or_else(|error| panic!("{}: {error}", input.name));
        assert_eq!(read.obstacles > 0, input.name == "truncated", "{}: {read:?}", input.name);
        assert!(read.rows > 0, "{}: {read:?}", input.name);
    }
}

#[test]
fn what_an_update_left_as_it_was_is_there_once() {
    let mut shared = 0;
    let mut look = |event: &LogEvent, _: &mut Read, _: &Tables| {
        let LogEvent::Fragment(fragment) = event else { return };
        for (before, after) in fragment.changes.iter().filter_map(|change| change.before().zip(change.after())) {
            for (was, is) in before.0.iter().zip(&after.0).filter(|(was, is)| was == is && was.heap_bytes() > 0) {
                let place = |value: &Value| match value {
                    Value::Text(text) | Value::Json(text) | Value::Decimal(text) => Some(text.as_ptr()),
                    Value::Bytes(bytes) => Some(bytes.as_ptr()),
                    _ => None,
                };
                assert_eq!(place(was), place(is), "{was:?}");
                shared += 1;
            }
        }
    };
    read_with(&input("pgoutput", "rows"), &mut look).unwrap();
    assert!(shared > 0);
}

/// Writes the corpus of texts, each as the server writes a value of its kind; the last are of more than one.
#[test]
fn texts_are_written() {
    if is_writing() {
        for (name, choice, text) in TEXTS {
            write("postgres_text", name, &[&[choice], text.as_bytes()].concat());
        }
    }
}

/// A text of each kind, by the kind's place in [`kinds`].
const TEXTS: [(&str, u8, &str); 22] = [
    ("boolean", 0, "t"),
    ("integer", 1, "-9223372036854775808"),
    ("decimal", 2, "-1234567890.1230"),
    ("real", 3, "0.1"),
    ("double", 4, "-1.5e+300"),
    ("text", 5, "ßé 日本"),
    ("char", 6, "padded  "),
    ("bytes", 7, "\\x00ff10"),
    ("date", 9, "9999-12-31"),
    ("date-before", 9, "4713-01-01 BC"),
    ("time", 10, "23:59:59.999"),
    ("time-last", 10, "24:00:00"),
    ("timestamp", 11, "9999-12-31 23:59:59.999999"),
    ("timestamp-infinite", 11, "-infinity"),
    ("timestamptz", 12, "2026-11-28 10:00:00.25+00"),
    ("timestamptz-before", 12, "0044-03-15 12:00:00+00 BC"),
    ("json", 13, r#"{"b":[1.50,1e3,null,true],"a":{"\u00e9":"x"}}"#),
    ("uuid", 14, "123e4567-e89b-12d3-a456-426614174000"),
    ("enum", 15, "b,c"),
    ("bits", 18, "101010101010"),
    ("spelled", 19, "::1"),
    ("nan", 4, "NaN"),
];
