//! What operators have asked of the bridge and it has not yet done, but for what they ask of entries in quarantine: rows of
//! `control` on node A, told apart by their names.

use crate::{
    new_key::{ASKED, NewKey, Request},
    node::Tables,
    repair::Repair,
};

/// All of them, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// Rows that are to have another key.
    pub new_keys: Vec<NewKey>,
    /// Keys that are to be made equal.
    pub repairs: Vec<Repair>,
}

impl Requests {
    /// Adds what a row of `control` asks for. What is of a table that is no longer mapped waits.
    pub fn add(&mut self, name: &str, number: i64, value: &str, tables: &Tables) {
        let new_key = Request::read(name, number, value).filter(|_| number == ASKED);
        self.new_keys.extend(new_key.and_then(|request| request.new_key(tables)));
        self.repairs.extend(Repair::read(name, value, tables));
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.new_keys.is_empty() && self.repairs.is_empty()
    }
}
