//! A row that an operator gives another key: what they asked for, in rows of `control` on node A.
//!
//! Of an entry in quarantine it goes with marks on the entries ([`crate::quarantine::Ask`]), which are what the bridge
//! looks for, and is removed with them. Of a record it is all there is, and stays with its answer: so a row that lost is
//! given a key once, whatever is asked for later.

use serde_json::{Value as Json, json};

use crate::{
    change::Key,
    node::Tables,
    record::{key_from_text, key_to_text},
    schema::{MappedTable, TableId},
};

/// How the names of all of these rows begin.
pub const NAMES: &str = "key:";

/// The number of a row that waits for the bridge.
pub const ASKED: i64 = 0;
/// The number of one that was refused.
const REFUSED: i64 = 1;
/// The number of one that is done.
pub const GIVEN: i64 = 2;

/// Bytes of a reason that are kept: a server's message can be long, and the column takes 65,535.
const WHY_BYTES_MAX: usize = 2_000;

/// Whose row is to have another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    /// Of the key of this entry in quarantine, the first of it that a node refused.
    Entry(i64),
    /// The one that lost in this record.
    Record(i64),
}

impl Of {
    /// The name of its row.
    pub fn name(self) -> String {
        match self {
            Of::Entry(id) => format!("{NAMES}entry:{id}"),
            Of::Record(id) => format!("{NAMES}record:{id}"),
        }
    }

    fn from_name(name: &str) -> Option<Of> {
        let (what, id) = name.strip_prefix(NAMES)?.split_once(':')?;
        match what {
            "entry" => Some(Of::Entry(id.parse().ok()?)),
            "record" => Some(Of::Record(id.parse().ok()?)),
            _ => None,
        }
    }
}

/// A request that waits for the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Whose row it is.
    pub of: Of,
    /// The pair of tables.
    pub table: TableId,
    /// The key that it is to have.
    pub key: Key,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The row is under that key on both nodes.
    Given,
    /// It is not, for this reason.
    Refused(String),
}

/// A request for people, as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose row it is.
    pub of: Of,
    /// The pair of tables.
    pub table: String,
    /// The key that it is to have, a JSON array.
    pub key: String,
    /// `None` where it waits for the bridge.
    pub answer: Option<Answer>,
}

impl Request {
    /// From a row of `control`; `None` where it is not that.
    pub fn read(name: &str, number: i64, value: &str) -> Option<Request> {
        let of = Of::from_name(name)?;
        let value: Json = serde_json::from_str(value).ok()?;
        let answer = match number {
            ASKED => None,
            REFUSED => Some(Answer::Refused(value.get("why")?.as_str()?.to_owned())),
            GIVEN => Some(Answer::Given),
            _ => return None,
        };
        let table = value.get("table")?.as_str()?.to_owned();
        Some(Request { of, table, key: value.get("key")?.to_string(), answer })
    }

    /// The number and the value that are kept; `None` where its key is no JSON.
    pub fn row(&self) -> Option<(i64, String)> {
        let key: Json = serde_json::from_str(&self.key).ok()?;
        let mut value = json!({"table": self.table, "key": key});
        let number = match &self.answer {
            None => ASKED,
            Some(Answer::Given) => GIVEN,
            Some(Answer::Refused(why)) => {
                value["why"] = why[..why.floor_char_boundary(WHY_BYTES_MAX)].into();
                REFUSED
            }
        };
        Some((number, value.to_string()))
    }

    /// The same for the bridge; `None` for a table that is no longer mapped, or a key that it cannot have.
    pub fn new_key(&self, tables: &Tables) -> Option<NewKey> {
        let table = tables.iter().find(|table| *table.label == *self.table)?;
        Some(NewKey { of: self.of, table: table.id, key: key_from_text(table, &self.key)? })
    }
}

impl NewKey {
    /// The same for people.
    pub fn request(&self, table: &MappedTable, answer: Option<Answer>) -> Request {
        Request { of: self.of, table: table.label.to_string(), key: key_to_text(&self.key), answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_back() {
        for of in [Of::Entry(7), Of::Record(i64::MAX)] {
            for answer in [None, Some(Answer::Given), Some(Answer::Refused("a has \"one\"".into()))] {
                let request = Request { of, table: "items".into(), key: r#"[7,"x"]"#.into(), answer };
                let (number, value) = request.row().unwrap();
                assert_eq!(Request::read(&of.name(), number, &value), Some(request), "{value}");
            }
        }
        let value = r#"{"key":[1],"table":"t"}"#;
        for (name, number) in [("key:other:1", 0), ("key:record:x", 0), ("skip:1", 0), ("key:record:1", 9)] {
            assert_eq!(Request::read(name, number, value), None, "{name}");
        }
        assert_eq!(Request::read("key:record:1", 1, value), None, "no reason is given");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let answer = Some(Answer::Refused(format!("x{}", "é".repeat(WHY_BYTES_MAX))));
        let request = Request { of: Of::Record(1), table: "t".into(), key: "[1]".into(), answer };
        let (number, value) = request.row().unwrap();
        let Some(Request { answer: Some(Answer::Refused(why)), .. }) = Request::read("key:record:1", number, &value)
        else {
            panic!("{value}")
        };
        assert_eq!(why.len(), WHY_BYTES_MAX - 1);
    }
}
