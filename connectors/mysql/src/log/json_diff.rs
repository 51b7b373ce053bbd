//! A partial update of a JSON document applied to the document before (`binlog_row_value_options =
//! PARTIAL_JSON`). Pure.
//!
//! MySQL's `sql-common/json_diff.cc`: a list of operations, each a byte (0 replaces, 1 inserts, 2 removes), a
//! path and, but for a removal, a binary document, both after their length. They are applied in turn, as
//! `apply_json_diff` does: the path is followed exactly, nothing is wrapped into an array, a replacement
//! and a removal must find what they speak of, and an insertion must not, save that beyond the end of an
//! array it appends. Anything else means that the document is not the one that the server had.
//!
//! A path is as the server prints it (`Json_path_leg::to_string` of `sql-common/json_path.cc`): `$`, then
//! `.name`, `."quoted name"`, `[2]`, `[last]` or `[last-2]`.

use serde_json::Value as Json;

use super::{Malformed, cursor::Cursor, jsonb, malformed};

/// Steps of a path: the server's own limit of levels is 100. What is put at the end of one is a document of its own with
/// as many levels at most, and without this limit each operation could go on at the depth that the one before came to: more
/// levels than a stack has room for.
const LEGS_MAX: usize = 128;

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leg {
    Member(String),
    /// From the beginning of an array.
    Cell(usize),
    /// From its end, which is 0.
    Last(usize),
}

/// The text of the document after, of the one before and the operations.
pub(crate) fn apply(before: &str, operations: &[u8]) -> Result<String, Malformed> {
    let mut document = parse(before)?;
    let mut cursor = Cursor(operations);
    while !cursor.is_empty() {
        let operation = cursor.byte()?;
        let path = path(cursor.prefixed()?)?;
        let value = match operation {
            REPLACE | INSERT => Some(parse(&jsonb::to_text(cursor.prefixed()?)?)?),
            REMOVE => None,
            _ => return Err(malformed("a partial document holds an unknown operation")),
        };
        carry_out(&mut document, operation, &path, value)
            .ok_or(malformed("a partial document does not fit the document before"))?;
    }
    serde_json::to_string(&document).map_err(|_| malformed("a document cannot be written"))
}

fn parse(text: &str) -> Result<Json, Malformed> {
    serde_json::from_str(text).map_err(|_| malformed("a document nests too deeply"))
}

fn carry_out(document: &mut Json, operation: u8, path: &[Leg], value: Option<Json>) -> Option<()> {
    let (last, way) = path.split_last()?;
    let parent = way.iter().try_fold(document, |at, leg| step(at, leg))?;
    match (operation, parent, last, value) {
        (REPLACE, parent, leg, Some(value)) => *step(parent, leg)? = value,
        (INSERT, Json::Object(members), Leg::Member(name), Some(value)) => {
            if members.contains_key(name) {
                return None;
            }
            members.insert(name.clone(), value);
        }
        (INSERT, Json::Array(items), leg, Some(value)) => {
            let at = match leg {
                Leg::Cell(at) => (*at).min(items.len()),
                Leg::Last(back) => (items.len()).saturating_sub(back.checked_add(1)?),
                Leg::Member(_) => return None,
            };
            items.insert(at, value);
        }
        (REMOVE, Json::Object(members), Leg::Member(name), None) => {
            members.remove(name)?;
        }
        (REMOVE, Json::Array(items), leg, None) => {
            let at = index(leg, items.len())?;
            items.remove(at);
        }
        _ => return None,
    }
    Some(())
}

fn step<'a>(at: &'a mut Json, leg: &Leg) -> Option<&'a mut Json> {
    match (at, leg) {
        (Json::Object(members), Leg::Member(name)) => members.get_mut(name),
        (Json::Array(items), leg) => {
            let at = index(leg, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    }
}

/// The place within an array of this length, where there is one.
fn index(leg: &Leg, length: usize) -> Option<usize> {
    match leg {
        Leg::Member(_) => None,
        Leg::Cell(at) => Some(*at).filter(|&at| at < length),
        Leg::Last(back) => length.checked_sub(back.checked_add(1)?),
    }
}

fn path(text: &[u8]) -> Result<Vec<Leg>, Malformed> {
    let unknown = || malformed("a partial document holds a path that is none");
    let text = std::str::from_utf8(text).map_err(|_| unknown())?;
    let mut rest = text.strip_prefix('$').ok_or_else(unknown)?;
    let mut legs = Vec::new();
    while !rest.is_empty() {
        let (leg, after) = match rest.strip_prefix('.') {
            Some(name) => member(name),
            None => rest.strip_prefix('[').and_then(cell),
        }
        .ok_or_else(unknown)?;
        if legs.len() == LEGS_MAX {
            return Err(malformed("a partial document holds a path that is too long"));
        }
        legs.push(leg);
        rest = after;
    }
    Ok(legs)
}

fn member(text: &str) -> Option<(Leg, &str)> {
    if !text.starts_with('"') {
        let end = text.find(['.', '[']).unwrap_or(text.len());
        return (end > 0).then(|| (Leg::Member(text[..end].into()), &text[end..]));
    }
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let (quoted, after) = text.split_at(end?.0 + 1);
    Some((Leg::Member(serde_json::from_str(quoted).ok()?), after))
}

fn cell(text: &str) -> Option<(Leg, &str)> {
    let (inside, after) = text.split_once(']')?;
    let leg = match inside.strip_prefix("last") {
        None => Leg::Cell(inside.parse().ok()?),
        Some("") => Leg::Last(0),
        Some(back) => Leg::Last(back.strip_prefix('-')?.parse().ok()?),
    };
    Some((leg, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An operation with the number 7 or the text `x` as its value.
    fn operation(kind: u8, path: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, path.len() as u8];
        bytes.extend(path.as_bytes());
        if kind != REMOVE {
            bytes.push(value.len() as u8);
            bytes.extend(value);
        }
        bytes
    }

    const SEVEN: &[u8] = &[5, 7, 0];

    fn after(before: &str, kind: u8, path: &str) -> Result<String, Malformed> {
        apply(before, &operation(kind, path, SEVEN))
    }

    #[test]
    fn operations_do_what_the_server_does() {
        let before = r#"{"a":[1,2,3],"b c":{"\"":true},"é":null}"#;
        for (kind, path, expected) in [
            (REPLACE, "$.a[1]", r#"{"a":[1,7,3],"b c":{"\"":true},"é":null}"#),
            (REPLACE, "$.a[last]", r#"{"a":[1,2,7],"b c":{"\"":true},"é":null}"#),
            (REPLACE, "$.a[last-2]", r#"{"a":[7,2,3],"b c":{"\"":true},"é":null}"#),
            (REPLACE, "$.\"b c\".\"\\\"\"", r#"{"a":[1,2,3],"b c":{"\"":7},"é":null}"#),
            (REPLACE, "$.é", r#"{"a":[1,2,3],"b c":{"\"":true},"é":7}"#),
            (INSERT, "$.a[0]", r#"{"a":[7,1,2,3],"b c":{"\"":true},"é":null}"#),
            (INSERT, "$.a[99]", r#"{"a":[1,2,3,7],"b c":{"\"":true},"é":null}"#),
            (INSERT, "$.\"\"", r#"{"":7,"a":[1,2,3],"b c":{"\"":true},"é":null}"#),
            (REMOVE, "$.a[0]", r#"{"a":[2,3],"b c":{"\"":true},"é":null}"#),
            (REMOVE, "$.\"b c\"", r#"{"a":[1,2,3],"é":null}"#),
        ] {
            assert_eq!(after(before, kind, path).as_deref(), Ok(expected), "{kind} {path}");
        }
        let both = [operation(REMOVE, "$.a", &[]), operation(INSERT, "$.a", SEVEN)].concat();
        assert_eq!(apply(r#"{"a":1}"#, &both).as_deref(), Ok(r#"{"a":7}"#));
        assert_eq!(apply(r#"{"a":1.10}"#, &[]).as_deref(), Ok(r#"{"a":1.10}"#));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let before = r#"{"a":[1],"b":1}"#;
        for (kind, path) in [
            (REPLACE, "$.c"),
            (REPLACE, "$.a[1]"),
            (REPLACE, "$.a[last-1]"),
            (REPLACE, "$.b[0]"),
            (REPLACE, "$"),
            (INSERT, "$.b"),
            (INSERT, "$.b.c"),
            (INSERT, "$[0]"),
            (REMOVE, "$.c"),
            (REMOVE, "$.a[1]"),
            (3, "$.a"),
            (REPLACE, "a"),
            (REPLACE, "$."),
            (REPLACE, "$.a[*]"),
            (REPLACE, "$.a[0"),
            (REPLACE, "$.\"a"),
        ] {
            assert!(after(before, kind, path).is_err(), "{kind} {path}");
        }
    }

    #[test]
    fn documents_do_not_grow_deeper_and_deeper() {
        // Each puts an array into the innermost one.
        let array = [2, 0, 0, 4, 0];
        let grown = |times: usize| {
            let operations = (0..times).map(|depth| operation(INSERT, &format!("$[0]{}", "[0]".repeat(depth)), &array));
            apply("[]", &operations.collect::<Vec<_>>().concat())
        };
        assert!(grown(40).is_ok());
        let path = |legs: usize| path(format!("${}", "[0]".repeat(legs)).as_bytes());
        assert_eq!(path(LEGS_MAX).unwrap().len(), LEGS_MAX);
        assert!(path(LEGS_MAX + 1).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[$.a\\[\\]last0-9\"\\\\]{0,20}") {
            let _ = apply(r#"{"a":[1,{"b":2}]}"#, &bytes);
            for kind in 0..4 {
                let _ = after(r#"{"a":[1,{"b":2}]}"#, kind, &format!("${text}"));
            }
        }
    }
}
