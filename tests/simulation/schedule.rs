//! What a schedule is, and the line that replays it.

use std::{fmt, str::FromStr};

use pontoon::rules::{Rule, Rules};

/// Which bridges join which nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topology {
    Pair,
    Chain,
    /// One node in the middle of three others.
    Star,
}

impl Topology {
    pub(crate) fn links(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Topology::Pair => &[("a", "b")],
            Topology::Chain => &[("a", "b"), ("b", "c")],
            Topology::Star => &[("a", "b"), ("a", "c"), ("a", "d")],
        }
    }
}

/// What the applications do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A few hot rows, overwritten on all nodes.
    Register,
    /// The same, and rows that move from key to key.
    Moves,
    /// Rows of their own, inserted once.
    Ledger,
    /// One row that comes and goes, always the same: what is done twice, or on a state that is out of
    /// date, is not told from what is done once by its before image.
    Toggle,
    /// Rows with a counter, to which all nodes add while they overwrite the rest.
    Counters,
    /// The same of rows that are copied meanwhile.
    Stock,
    /// Rows merged by columns, two of them with a rule of their own: the least and the greatest.
    Columns,
    /// As the register, and the rows that are there at the beginning are on the first node alone, or others on
    /// the others: they are copied meanwhile.
    Copy,
    /// As the register, and what clocks would decide waits for an operator, who chooses.
    Held,
    /// Rows that a unique constraint and a foreign key tie to each other.
    Tied,
    /// As that, or decided by clocks; and an operator gives rows that would lose, or have lost, another key, which
    /// applications write too.
    NewKeys,
    /// A table that one node has and the other lacks is copied, and hardly a row of it is written meanwhile: most
    /// chunks arrive as they were read, half of each by a session of its own.
    Load,
    /// As the register, and the rows that are there at the beginning differ from node to node, which no log tells; an operator
    /// has them made equal.
    Repaired,
    /// As the register, and an application on each node rewrites what the bridge brings of one row.
    Rewritten,
    /// As the register, and a column is added, of which the log tells nothing up to then.
    Reshaped,
    /// As the counters, of a table that was added to the bridge: the logs hold what was before.
    Added,
    /// As the register, of two tables, one of which is set aside and taken back, again and again.
    Aside,
    /// As the register, and an operator pauses what is applied on nodes, again and again.
    Paused,
}

/// One schedule: the same one gives the same run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) topology: Topology,
    pub(crate) workload: Workload,
    pub(crate) deletes: bool,
    /// Nodes refuse some rows, until all is written.
    pub(crate) refuses: bool,
    /// Servers are lost, and standbys of them promoted.
    pub(crate) promotes: bool,
    /// How hostile it is: 0 for no crash at all.
    pub(crate) crashes: f64,
    pub(crate) seed: u64,
    pub(crate) rules: Rules,
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Topology::Pair => "pair",
            Topology::Chain => "chain",
            Topology::Star => "star",
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Workload::Register => "register",
            Workload::Moves => "moves",
            Workload::Ledger => "ledger",
            Workload::Toggle => "toggle",
            Workload::Counters => "counters",
            Workload::Stock => "stock",
            Workload::Columns => "columns",
            Workload::Copy => "copy",
            Workload::Held => "held",
            Workload::Tied => "tied",
            Workload::NewKeys => "newkeys",
            Workload::Load => "load",
            Workload::Repaired => "repaired",
            Workload::Rewritten => "rewritten",
            Workload::Reshaped => "reshaped",
            Workload::Added => "added",
            Workload::Aside => "aside",
            Workload::Paused => "paused",
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { topology, workload, deletes, refuses, promotes, crashes, seed, rules } = self;
        write!(f, "{topology} {workload} deletes={deletes} crashes={crashes} seed={seed}")?;
        if *refuses {
            write!(f, " refuses=true")?;
        }
        if *promotes {
            write!(f, " promotes=true")?;
        }
        match Rule::ALL.into_iter().find(|rule| !rules.has(*rule)) {
            Some(rule) => write!(f, " without={rule:?}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut schedule = Schedule {
            topology: Topology::Pair,
            workload: Workload::Register,
            deletes: false,
            refuses: false,
            promotes: false,
            crashes: 0.0,
            seed: 0,
            rules: Rules::ALL,
        };
        for word in line.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("pair", _) => schedule.topology = Topology::Pair,
                ("chain", _) => schedule.topology = Topology::Chain,
                ("star", _) => schedule.topology = Topology::Star,
                ("register", _) => schedule.workload = Workload::Register,
                ("moves", _) => schedule.workload = Workload::Moves,
                ("ledger", _) => schedule.workload = Workload::Ledger,
                ("toggle", _) => schedule.workload = Workload::Toggle,
                ("counters", _) => schedule.workload = Workload::Counters,
                ("stock", _) => schedule.workload = Workload::Stock,
                ("columns", _) => schedule.workload = Workload::Columns,
                ("copy", _) => schedule.workload = Workload::Copy,
                ("held", _) => schedule.workload = Workload::Held,
                ("tied", _) => schedule.workload = Workload::Tied,
                ("newkeys", _) => schedule.workload = Workload::NewKeys,
                ("load", _) => schedule.workload = Workload::Load,
                ("repaired", _) => schedule.workload = Workload::Repaired,
                ("rewritten", _) => schedule.workload = Workload::Rewritten,
                ("reshaped", _) => schedule.workload = Workload::Reshaped,
                ("added", _) => schedule.workload = Workload::Added,
                ("aside", _) => schedule.workload = Workload::Aside,
                ("paused", _) => schedule.workload = Workload::Paused,
                ("deletes", value) => schedule.deletes = value == "true",
                ("promotes", value) => schedule.promotes = value == "true",
                ("refuses", value) => schedule.refuses = value == "true",
                ("crashes", value) => schedule.crashes = value.parse().map_err(|_| format!("{word}?"))?,
                ("seed", value) => schedule.seed = value.parse().map_err(|_| format!("{word}?"))?,
                ("without", value) => {
                    let rule = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == value);
                    schedule.rules = Rules::without(rule.ok_or_else(|| format!("{word}?"))?);
                }
                _ => return Err(format!("{word}?")),
            }
        }
        Ok(schedule)
    }
}
