//! What an operator has made equal: keys whose rows differ though neither log tells why. Rows of `control` on node A, each
//! of which holds some keys of one table.
//!
//! A request says no more than "where no write explains it, this node's row stands". So to carry it out twice, or late, does
//! no harm: what has been written meanwhile explains itself and is settled by its table's rule, and rows that have become
//! equal stay as they are. It is removed when all of its keys have been settled.

use serde_json::{Value as Json, json};

use crate::{
    change::Key,
    node::Tables,
    record::{key_from_text, key_to_text},
    schema::{MappedTable, TableId},
};

/// How the names of all of these rows begin.
pub const NAMES: &str = "repair:";

/// Keys of a request: as many as are settled under one set of locks.
pub const KEYS_MAX: usize = 500;

/// Bytes of a request's value. The column takes 65,535 on MySQL and MariaDB; a single key has at most 3,072
/// there, and a few thousand on PostgreSQL (an eighth of a page's 8 KiB is the most that an index has).
pub const VALUE_BYTES_MAX: usize = 40_000;

/// A request that waits for the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// What names it.
    pub id: i64,
    /// The pair of tables.
    pub table: TableId,
    /// The name of the node whose rows stand.
    pub from: String,
    /// The rows' keys.
    pub keys: Vec<Key>,
}

impl Repair {
    /// The requests for so many keys of a table, by ids from `first_id` on.
    pub fn of(first_id: i64, table: &MappedTable, from: &str, keys: impl IntoIterator<Item = Key>) -> Vec<Repair> {
        let mut repairs: Vec<Repair> = Vec::new();
        let mut bytes = 0;
        for key in keys {
            let more = key_to_text(&key).len() + 1;
            match repairs.last_mut() {
                Some(last) if last.keys.len() < KEYS_MAX && bytes + more <= VALUE_BYTES_MAX => {
                    last.keys.push(key);
                    bytes += more;
                }
                _ => {
                    let id = first_id.saturating_add_unsigned(repairs.len() as u64);
                    repairs.push(Repair { id, table: table.id, from: from.to_owned(), keys: vec![key] });
                    bytes = more;
                }
            }
        }
        repairs
    }

    /// The name of its row.
    pub fn name(&self) -> String {
        format!("{NAMES}{}", self.id)
    }

    /// The value that is kept.
    pub fn value(&self, table: &MappedTable) -> String {
        let keys: Vec<Json> = self.keys.iter().filter_map(|key| serde_json::from_str(&key_to_text(key)).ok()).collect();
        json!({"table": &*table.label, "from": self.from, "keys": keys}).to_string()
    }

    /// From a row of `control`; `None` where it is not that, or for a table that is no longer mapped.
    pub fn read(name: &str, value: &str, tables: &Tables) -> Option<Repair> {
        let id = name.strip_prefix(NAMES)?.parse().ok()?;
        let value: Json = serde_json::from_str(value).ok()?;
        let label = value.get("table")?.as_str()?;
        let table = tables.iter().find(|table| *table.label == *label)?;
        let keys = value.get("keys")?.as_array()?.iter();
        let keys = keys.map(|key| key_from_text(table, &key.to_string())).collect::<Option<Vec<Key>>>()?;
        Some(Repair { id, table: table.id, from: value.get("from")?.as_str()?.to_owned(), keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{form::Form, record::tests::table, value::Value};

    fn keys(count: usize, bytes: usize) -> impl Iterator<Item = Key> {
        (0..count).map(move |n| Key(vec![Value::Text(format!("{n:0bytes$}").into())]))
    }

    #[test]
    fn requests_read_back() {
        let table = table(&[Form::Text { padded: false }]);
        let tables: Tables = vec![table.clone()].into();
        for repair in Repair::of(7, &table, "shop", keys(3, 4)) {
            assert_eq!(repair.name(), "repair:7");
            let value = repair.value(&table);
            assert_eq!(Repair::read(&repair.name(), &value, &tables), Some(repair), "{value}");
        }
        for (name, value) in [
            ("key:7", r#"{"table":"t","from":"shop","keys":[]}"#),
            ("repair:x", r#"{"table":"t","from":"shop","keys":[]}"#),
            ("repair:7", r#"{"table":"other","from":"shop","keys":[]}"#),
            ("repair:7", r#"{"table":"t","from":"shop","keys":[[1,2]]}"#),
        ] {
            assert_eq!(Repair::read(name, value, &tables), None, "{name} {value}");
        }
    }

    #[test]
    fn a_request_is_of_no_more_than_it_may_be() {
        let table = table(&[Form::Text { padded: false }]);
        for (count, bytes) in [(0, 1), (KEYS_MAX, 1), (KEYS_MAX * 2 + 1, 1), (100, 3_000), (3, VALUE_BYTES_MAX)] {
            let repairs = Repair::of(1, &table, "shop", keys(count, bytes));
            assert!(repairs.iter().all(|repair| (1..=KEYS_MAX).contains(&repair.keys.len())));
            let longest = repairs.iter().map(|repair| repair.value(&table).len()).max().unwrap_or(0);
            assert!(longest < VALUE_BYTES_MAX + bytes + 100, "{longest}");
            let ids: Vec<i64> = repairs.iter().map(|repair| repair.id).collect();
            assert!(ids.iter().zip(1..).all(|(id, expected)| *id == expected), "{ids:?}");
            let all: Vec<Key> = repairs.into_iter().flat_map(|repair| repair.keys).collect();
            assert_eq!(all, keys(count, bytes).collect::<Vec<_>>());
        }
    }
}
