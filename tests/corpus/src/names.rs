//! Names by which an SQL text might be broken.

use pontoon_core::{
    Row, Value,
    node::{Applied, Session, TableBatch, Tables, UpdateGroup},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// What ends a quoted name or text, hides what follows, stands for a parameter, or looks like something else. Names of MySQL have no characters
/// beyond the Basic Multilingual Plane (manual, "Schema Object Names").
const PIECES: [&str; 38] = [
    "`", "``", "\"", "\"\"", "'", "''", "\\", "\\\\", "\\`", "\\\"", "\\'", ";", "--", "-- ", "#", "/*", "*/", "/*!",
    "%s", "$1", "?", ":x", ".", ",", "(", ")", " ", "\n", "\t", "\r", "\u{1}", "a", "Z", "_", "ß", "ключ", "\u{202e}",
    "\u{ff07}",
];

/// Pieces on either side of the number that makes each name another one.
const PIECES_MAX: usize = 8;

/// So many names, always the same ones, no two of them alike in any collation, each of this many bytes at most (and of 8 at least). None ends in white space, which
/// MySQL takes in no name.
pub fn hostile_names(count: u32, bytes: usize) -> impl Iterator<Item = String> {
    let mut dice = SmallRng::seed_from_u64(u64::from(count));
    (0..count).map(move |number| {
        let mut pieces = |room: usize| {
            let mut text = String::new();
            for _ in 0..dice.random_range(0..=PIECES_MAX) {
                let piece = PIECES[dice.random_range(0..PIECES.len())];
                if text.len() + piece.len() <= room {
                    text.push_str(piece);
                }
            }
            text
        };
        let number = number.to_string();
        let before = pieces(bytes - number.len());
        let after = pieces(bytes - number.len() - before.len());
        format!("{before}{number}{}", after.trim_end())
    })
}

/// A row of a table of numbers, with this key.
fn row(columns: usize, key: i128, more: i128) -> Row {
    let values = (1..columns as i128).map(|at| Value::Integer(at + more));
    Row(std::iter::once(Value::Integer(key)).chain(values).collect())
}

/// Has a session add, change, remove and read rows of tables of numbers, each column by its name.
///
/// # Panics
///
/// Where it does not, or they are others then.
pub async fn every_column_is_written(session: &mut dyn Session, tables: &Tables) {
    for table in tables.iter() {
        let row = |key, more| row(table.columns.len(), key, more);
        let inserts = TableBatch { inserts: vec![row(1, 0), row(2, 0), row(3, 0)], ..TableBatch::default() };
        assert_eq!(session.apply(table.id, &inserts).await, Ok(Applied::All), "{}", table.label);
        let updates = UpdateGroup {
            changed: (1..table.columns.len()).collect(),
            rows: vec![(row(1, 0), row(1, 5)), (row(2, 0), row(2, 7))],
            ..UpdateGroup::default()
        };
        let batch = TableBatch { updates: vec![updates], deletes: vec![row(3, 0)], ..TableBatch::default() };
        assert_eq!(session.apply(table.id, &batch).await, Ok(Applied::All), "{}", table.label);
        let keys = [row(1, 0), row(3, 0)].map(|row| table.key_of(&row));
        assert_eq!(session.read(table.id, &keys).await, Ok(vec![Some(row(1, 5)), None]), "{}", table.label);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn they_fit_and_differ_and_have_every_piece() {
        let names: HashSet<String> = hostile_names(10_000, 63).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|name| name.len() <= 63 && name.trim_end() == name));
        assert!(PIECES.iter().all(|piece| names.iter().any(|name| name.starts_with(piece))));
        assert!(names.iter().any(|name| name.ends_with('`')) && names.iter().any(|name| name.ends_with('\\')));
    }
}
