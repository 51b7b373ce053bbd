//! How the conflicts of a table are settled: a rule for its rows, and rules of single columns.

use pontoon_core::Value;

use crate::side::Side;

/// The rules of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What holds for all that no column has a rule for.
    pub row: RowRule,
    /// The rules of single columns, by their place; shorter than the row where the last ones have none.
    pub columns: Vec<Option<ColumnRule>>,
    /// What becomes of two of its rows that cannot both live.
    pub unique: UniqueRule,
    /// What becomes of a row of it that refers to one which the other side has removed.
    pub foreign_key: ForeignKeyRule,
}

/// What becomes of two rows of different keys that a unique constraint does not let live side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueRule {
    /// Both wait until a person has mended one.
    Quarantine,
    /// The table's rule decides between them.
    Rule,
}

/// What becomes of a row that refers to one which the other side has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKeyRule {
    /// Both wait until a person has mended one.
    Quarantine,
    /// The row that is referred to is put back.
    RestoreParent,
    /// The row that refers is removed.
    DeleteChild,
}

/// The rule that settles a table's conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowRule {
    /// The later write wins, by its commit time; of equal times, that of the preferred node.
    LastWriterWins,
    /// Each column that one side changed is that side's, and of both sides' the later one.
    ColumnMerge,
    /// This node's write wins.
    Prefer(Side),
    /// Neither side's row is touched until a person decides.
    Quarantine,
}

/// What becomes of a column that both sides changed. One that only one side changed is that side's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRule {
    /// The value of the side that changed it last.
    LastWriterWins,
    /// This node's value.
    Prefer(Side),
    /// The lesser value.
    Min,
    /// The greater value.
    Max,
    /// What each side added counts.
    Additive {
        /// A sum below it, of two values that are not, is reported.
        floor: Option<Value>,
    },
}

impl Policy {
    /// A rule for rows alone; what ties rows to each other waits for a person.
    pub fn of_rows(row: RowRule) -> Policy {
        Policy { row, columns: Vec::new(), unique: UniqueRule::Quarantine, foreign_key: ForeignKeyRule::Quarantine }
    }

    /// The rule of a column, where it is not the row's.
    pub(crate) fn column(&self, at: usize) -> Option<&ColumnRule> {
        match self.columns.get(at) {
            Some(Some(rule)) => Some(rule),
            _ if self.row == RowRule::ColumnMerge => Some(&ColumnRule::LastWriterWins),
            _ => None,
        }
    }

    /// Whether some columns have a rule of their own and others have not: these are one side's or the other's together.
    pub(crate) fn is_divided(&self) -> bool {
        self.row != RowRule::ColumnMerge && self.columns.iter().any(Option::is_some)
    }

    /// Whether a column is additive.
    pub(crate) fn is_additive(&self, at: usize) -> bool {
        matches!(self.columns.get(at), Some(Some(ColumnRule::Additive { .. })))
    }

    /// The additive columns, each with its floor.
    pub(crate) fn additive(&self) -> impl Iterator<Item = (usize, Option<&Value>)> {
        self.columns.iter().enumerate().filter_map(|(at, rule)| match rule {
            Some(ColumnRule::Additive { floor }) => Some((at, floor.as_ref())),
            _ => None,
        })
    }
}
