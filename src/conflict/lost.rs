//! The row that lost, as a record has it: pure, and the same for the engine, which gives it a key of its own, and for the
//! commands, which say whether it can have one.

use pontoon_core::{Key, MappedTable, Row};

use crate::side::Side;

/// How the rule of every record begins in which an operator decided.
const BY_HAND: &str = "decided by an operator: ";

/// How the rule of every record begins that was dropped: each node kept its row.
pub(crate) const DISCARDED: &str = "discarded by an operator: ";

/// What stands in the rule where the row that was not chosen has a key of its own.
const APART: &str = ", the other row under key (";

/// The rule of both keys, where an operator chose a node's row and the other node's was given another key.
pub(crate) fn rule_apart(node: &str, key: &Key) -> String {
    format!("{BY_HAND}{node}{APART}{key})")
}

/// The rule of the key that a row was given which had lost.
pub(crate) fn rule_given(record: i64) -> String {
    format!("{BY_HAND}the row that lost in record {record}")
}

/// What a record says of a key: as node A keeps it, in whatever form.
pub(crate) struct Settled<'a, T> {
    pub(crate) rule: &'a str,
    /// Columns were taken of both.
    pub(crate) is_merged: bool,
    pub(crate) a: Option<&'a T>,
    pub(crate) b: Option<&'a T>,
    pub(crate) verdict: Option<&'a T>,
}

impl<'a, T: PartialEq> Settled<'a, T> {
    /// The row that lost, and whose it was. Errors: there is none, and why.
    pub(crate) fn lost(&self) -> Result<(Side, &'a T), &'static str> {
        if self.rule.starts_with(DISCARDED) {
            return Err("each node kept its row");
        }
        if self.rule.starts_with(BY_HAND) && self.rule.contains(APART) {
            return Err("the row that lost was given a key then");
        }
        let of = match (self.a == self.verdict, self.b == self.verdict) {
            (true, true) => return Err("both nodes held what stands"),
            (true, false) if !self.is_merged => Side::B,
            (false, true) if !self.is_merged => Side::A,
            _ => return Err("what stands was taken from both rows"),
        };
        let row = if of == Side::A { self.a } else { self.b };
        row.map(|row| (of, row)).ok_or("what lost is no row, but that there was none")
    }

    /// Whether two rows were inserted under one key, neither on top of another, and one lost.
    pub(crate) fn is_collision(&self, ancestor: Option<&T>) -> bool {
        ancestor.is_none() && self.verdict.is_some() && self.lost().is_ok()
    }
}

/// The row under another key. Its other columns stay.
pub(crate) fn with_key(table: &MappedTable, row: &Row, key: &Key) -> Row {
    let mut row = row.clone();
    for (&at, value) in table.key.iter().zip(&key.0) {
        row.0[at] = value.clone();
    }
    row
}

#[cfg(test)]
mod tests {
    use pontoon_core::Value;

    use super::*;

    fn lost(
        rule: &str,
        is_merged: bool,
        rows: [Option<i32>; 2],
        verdict: Option<i32>,
    ) -> Result<(Side, i32), &'static str> {
        let [a, b] = &rows;
        let settled = Settled { rule, is_merged, a: a.as_ref(), b: b.as_ref(), verdict: verdict.as_ref() };
        settled.lost().map(|(side, row)| (side, *row))
    }

    #[test]
    fn the_row_that_lost_is_the_one_that_does_not_stand() {
        let rule = "last_writer_wins: a";
        assert_eq!(lost(rule, false, [Some(1), Some(2)], Some(1)), Ok((Side::B, 2)));
        assert_eq!(lost(rule, false, [Some(1), Some(2)], Some(2)), Ok((Side::A, 1)));
        assert_eq!(lost(rule, false, [Some(1), None], None), Ok((Side::A, 1)), "a delete won");
        for (rows, verdict) in [([Some(1), None], Some(1)), ([None, None], None), ([Some(1), Some(1)], Some(1))] {
            assert!(lost(rule, false, rows, verdict).is_err(), "{rows:?}");
        }
        assert!(lost("column_merge, last writer: a", false, [Some(1), Some(2)], Some(3)).is_err());
        assert!(lost("column_merge, last writer: a", true, [Some(1), Some(2)], Some(2)).is_err());
        assert!(lost("discarded by an operator: a keeps its row", false, [Some(1), Some(2)], Some(1)).is_err());
    }

    #[test]
    fn what_has_a_key_of_its_own_is_not_lost() {
        let key = Key(vec![Value::Integer(7)]);
        assert!(lost(&rule_apart("a", &key), false, [Some(1), Some(2)], Some(1)).is_err());
        // What an operator chose without another key is.
        assert_eq!(lost("decided by an operator: a", false, [Some(1), Some(2)], Some(1)), Ok((Side::B, 2)));
        assert!(lost(&rule_given(3), false, [None, None], Some(1)).is_err(), "it was given to a key where nothing was");
    }

    #[test]
    fn two_inserts_under_one_key_collide() {
        let (one, other) = (1, 2);
        let settled =
            Settled { rule: "prefer: a", is_merged: false, a: Some(&one), b: Some(&other), verdict: Some(&one) };
        assert!(settled.is_collision(None) && !settled.is_collision(Some(&0)));
    }
}
