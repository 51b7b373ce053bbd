//! Where the generators of key columns stand, and where they have to stand so that they give no key that is there.
//!
//! A row that a bridge brings has its key already, and the generator of the side that it comes to is not asked: a sequence of PostgreSQL
//! stays where it is, and the first insert after a cut-over takes a key that another row has. Which rows matter: of two sides that
//! count in steps that never meet, each has to be past its own steps alone. Everything else is pure arithmetic.

use crate::schema::{Generator, TableName};

/// A generator to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// The table.
    pub table: TableName,
    /// Its column, an integer.
    pub column: Box<str>,
    /// What the generator gives.
    pub generator: Generator,
    /// The other side's generator gives the values between this one's steps.
    pub interleaved: bool,
}

/// Where a generator stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The next value that it gives.
    pub next: i128,
    /// The greatest value in the column that it could give; `None` where there is none.
    pub greatest: Option<i128>,
    /// The statement that moves it past that; `None` where it is.
    pub sql: Option<String>,
}

impl GeneratedKey {
    /// The distance between the values that count: those in between are the other side's.
    pub fn stride(&self) -> i128 {
        if self.interleaved { self.generator.step.max(1) } else { 1 }
    }

    /// What the generator has to give next, where it stands at `next` and a value is there: the first one behind that in its
    /// own steps. `None` where it is past it.
    pub fn moved(&self, next: i128, greatest: Option<i128>) -> Option<i128> {
        let step = self.generator.step.max(1);
        let behind = greatest?.checked_sub(next).filter(|behind| *behind >= 0)?;
        next.checked_add((behind / step).checked_add(1)?.checked_mul(step)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_goes_past_what_is_there_in_its_own_steps() {
        let asked = |step, interleaved| GeneratedKey {
            table: TableName::new("s", "t"),
            column: "id".into(),
            generator: Generator { start: 1, step, max: 1000 },
            interleaved,
        };
        let (one, two) = (asked(1, false), asked(2, true));
        for (next, greatest, moved, moved_by_two) in [
            (1, None, None, None),
            (6, Some(5), None, None),
            (5, Some(5), Some(6), Some(7)),
            (1, Some(8), Some(9), Some(9)),
            (1, Some(9), Some(10), Some(11)),
        ] {
            assert_eq!(one.moved(next, greatest), moved, "{next} {greatest:?}");
            assert_eq!(two.moved(next, greatest), moved_by_two, "{next} {greatest:?} by two");
        }
        assert_eq!((one.stride(), two.stride()), (1, 2));
    }
}
