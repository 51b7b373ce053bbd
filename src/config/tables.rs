//! Which tables are bridged: names and patterns, and what they come to on two given databases.

use std::collections::{HashMap, HashSet};

use pontoon_core::{Error, TableName, error::first_few};

use super::{
    Accept, Columns, Config, Conflict, Direction, Side,
    place::{Invalid, Place, Problem, Rank, nearest},
};
use crate::conflict::{
    policy::{ForeignKeyRule, UniqueRule},
    quarantine::OnError,
};

/// Tables that a note names, of those that one side alone has.
const NAMED_MAX: usize = 5;

/// A name with stars: literal pieces, between which any text may stand. One piece has no star.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Glob {
    pieces: Vec<String>,
}

impl Glob {
    fn stars(&self) -> usize {
        self.pieces.len() - 1
    }

    fn literal(&self) -> usize {
        self.pieces.iter().map(|piece| piece.chars().count()).sum()
    }

    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return self.pieces.first().is_some_and(|only| only == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        for piece in middle {
            let Some((_, after)) = rest.split_once(piece.as_str()) else { return false };
            rest = after;
        }
        true
    }

    /// What the one star stands for.
    fn capture<'a>(&self, text: &'a str) -> Option<&'a str> {
        let [first, last] = self.pieces.as_slice() else { return None };
        text.strip_prefix(first.as_str())?.strip_suffix(last.as_str())
    }

    fn fill(&self, captured: &str) -> String {
        self.pieces.join(captured)
    }
}

/// A table's name or a pattern, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    schema: Option<Glob>,
    name: Glob,
}

impl NamePattern {
    /// Reads `table`, `schema.table`, with `*` for any text, `\.`, `\*` and `\\` for the characters.
    pub(super) fn parse(text: &str) -> Result<NamePattern, String> {
        let mut parts = vec![Glob { pieces: vec![String::new()] }];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let Some(part) = parts.last_mut() else { break };
            let starred = part.stars() > 0;
            let Some(piece) = part.pieces.last_mut() else { break };
            match c {
                '\\' => match chars.next() {
                    Some(escaped @ ('.' | '*' | '\\')) => piece.push(escaped),
                    _ => return Err("a backslash stands before a dot, a star or another backslash".into()),
                },
                // Two stars in a row are one.
                '*' if starred && piece.is_empty() => {}
                '*' => part.pieces.push(String::new()),
                '.' => parts.push(Glob { pieces: vec![String::new()] }),
                '\0' => return Err("no table's name holds a NUL character".into()),
                c => piece.push(c),
            }
        }
        if parts.iter().any(|part| part.stars() == 0 && part.literal() == 0) {
            return Err("is no table name; write table or schema.table".into());
        }
        let name = parts.pop();
        let schema = parts.pop();
        match name {
            Some(name) if parts.is_empty() => Ok(NamePattern { schema, name }),
            _ => Err("has more than one dot; write table or schema.table, a dot within a name as \\.".into()),
        }
    }

    pub(super) fn stars(&self) -> usize {
        self.name.stars() + self.schema.as_ref().map_or(0, Glob::stars)
    }

    fn literal(&self) -> usize {
        self.name.literal() + self.schema.as_ref().map_or(0, Glob::literal)
    }

    /// The name, if it is one. `None` for a pattern.
    pub fn exact(&self) -> Option<TableName> {
        (self.stars() == 0).then(|| TableName {
            schema: self.schema.as_ref().map(|schema| schema.fill("").into()),
            name: self.name.fill("").into(),
        })
    }

    fn matches(&self, table: &TableName, default_schema: &str) -> bool {
        let schema = table.schema.as_deref().unwrap_or(default_schema);
        let schema_matches = match &self.schema {
            Some(pattern) => pattern.matches(schema),
            None => schema == default_schema,
        };
        schema_matches && self.name.matches(&table.name)
    }

    /// What the one star of a pattern stands for in `table`.
    fn capture<'a>(&self, table: &'a TableName, default_schema: &str) -> Option<&'a str> {
        if !self.matches(table, default_schema) {
            return None;
        }
        match &self.schema {
            Some(schema) if schema.stars() == 1 => schema.capture(table.schema.as_deref()?),
            _ => self.name.capture(&table.name),
        }
    }

    fn fill(&self, captured: &str, default_schema: &str) -> TableName {
        let schema = self.schema.as_ref().map_or_else(|| default_schema.to_owned(), |schema| schema.fill(captured));
        TableName::new(schema, self.name.fill(captured))
    }
}

/// One `[[tables]]` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRule {
    /// Where it stands in the file.
    pub place: Place,
    /// As written, for messages: of both nodes, equal unless `name` is a table.
    pub written: [String; 2],
    /// The names or patterns on both nodes.
    pub names: [NamePattern; 2],
    /// Who wins.
    pub conflict: Conflict,
    /// The rules of single columns, by name.
    pub columns: Columns,
    /// Which way rows go.
    pub direction: Direction,
    /// What becomes of rows that a target refuses.
    pub on_error: OnError,
    /// What becomes of two rows that a unique constraint does not let live side by side.
    pub unique_conflict: UniqueRule,
    /// What becomes of a row that refers to one which the other side has removed.
    pub foreign_key: ForeignKeyRule,
    /// Findings that the operator answers for.
    pub accept: Vec<Accept>,
}

impl TableRule {
    /// Whether another one says the same, wherever it stands.
    pub(super) fn says_as(&self, other: &TableRule) -> bool {
        TableRule { place: other.place, ..self.clone() } == *other
    }

    fn is_exact(&self) -> bool {
        self.names.iter().all(|name| name.stars() == 0)
    }

    fn same(&self) -> bool {
        self.names[0] == self.names[1]
    }
}

/// What one node has.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    /// The schema of a name without one.
    pub default_schema: &'a str,
    /// All its user tables.
    pub tables: &'a [TableName],
}

/// What is done about a table that one node has and the other lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// A named one is an error, one of a pattern is noted.
    Refused,
    /// It is chosen all the same, to be made: a named one from either side, one of a pattern where rows go to.
    Chosen,
}

/// A pair of tables to bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableChoice {
    /// The pair's name in records, metrics and messages: the name on node A, without its schema unless
    /// the configuration writes one. Unique.
    pub label: String,
    /// The tables on A and B, schemas included.
    pub names: [TableName; 2],
    /// Where the table is not there yet.
    pub absent: Option<Side>,
    /// Which way rows go.
    pub direction: Direction,
    /// Who wins.
    pub conflict: Conflict,
    /// The rules of single columns, by name.
    pub columns: Columns,
    /// What becomes of rows that a target refuses.
    pub on_error: OnError,
    /// What becomes of two rows that a unique constraint does not let live side by side.
    pub unique_conflict: UniqueRule,
    /// What becomes of a row that refers to one which the other side has removed.
    pub foreign_key: ForeignKeyRule,
    /// Findings that the operator answers for.
    pub accept: Vec<Accept>,
}

impl TableChoice {
    /// Whether the operator answers for a finding of `check` about this pair.
    pub fn accepts(&self, finding: &str) -> bool {
        self.accept.iter().any(|accept| accept.as_str() == finding)
    }
}

/// What the configuration's tables come to on two databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The pairs, by label.
    pub tables: Vec<TableChoice>,
    /// What an operator may not have meant: tables that a pattern matches on one side only, patterns
    /// that match nothing.
    pub notes: Vec<String>,
}

impl Config {
    /// The pairs of tables that the configuration names on two databases, A's tables first.
    ///
    /// A pair is governed by exactly one entry: an exact name goes before a pattern, a pattern with more
    /// letters before one with fewer, and of equals the later one. Errors (configuration): a named table
    /// that a node lacks, unless `absent` has it chosen, a table that belongs to two pairs, and no table at all.
    pub fn choose_tables(&self, present: [Present<'_>; 2], absent: Absent) -> Result<Choices, Error> {
        let full = present.map(|node| {
            let name = |table: &TableName| match table.schema {
                Some(_) => table.clone(),
                None => TableName { schema: Some(node.default_schema.into()), name: table.name.clone() },
            };
            node.tables.iter().map(name).collect::<Vec<_>>()
        });
        let known: [HashSet<&TableName>; 2] = [full[0].iter().collect(), full[1].iter().collect()];

        let mut order: Vec<usize> = (0..self.tables.len()).collect();
        let literal = |rule: &TableRule| rule.names.iter().map(NamePattern::literal).sum::<usize>();
        order.sort_by_key(|&at| {
            let rule = &self.tables[at];
            (!rule.is_exact(), std::cmp::Reverse(literal(rule)), std::cmp::Reverse(at))
        });

        let mut problems: Vec<Problem> = Vec::new();
        let mut taken: [HashMap<TableName, usize>; 2] = Default::default();
        let mut tables = Vec::new();
        let mut notes = Vec::new();
        for at in order {
            let rule = &self.tables[at];
            let mut pairs: Vec<(String, [TableName; 2], Option<Side>)> = Vec::new();
            if rule.is_exact() {
                let names =
                    Side::BOTH.map(|side| rule.names[side as usize].fill("", present[side as usize].default_schema));
                let lacking: Vec<Side> = Side::BOTH
                    .into_iter()
                    .filter(|&side| !known[side as usize].contains(&names[side as usize]))
                    .collect();
                let made = lacking.first().copied().filter(|_| absent == Absent::Chosen && lacking.len() == 1);
                for &side in lacking.iter().filter(|_| made.is_none()) {
                    problems.push(self.missing(rule, side, &names[side as usize], &full[side as usize]));
                }
                for side in Side::BOTH {
                    let Some(other) = taken[side as usize].get(&names[side as usize]) else { continue };
                    let message = format!(
                        "table {} of node {} is in two pairs; the other entry is at line {}",
                        names[side as usize],
                        self.node(side).name,
                        self.tables[*other].place.line
                    );
                    problems.push(problem(rule, message, Some("take one of the two away".into())));
                }
                pairs.push((rule.names[0].exact().map(|name| name.to_string()).unwrap_or_default(), names, made));
            } else {
                let mut lonely: [Vec<String>; 2] = Default::default();
                for a in full[0].iter().filter(|table| rule.names[0].matches(table, present[0].default_schema)) {
                    let b = rule.partner(Side::A, a, present);
                    if taken[0].contains_key(a) || taken[1].contains_key(&b) {
                        continue;
                    }
                    match known[1].contains(&b) {
                        true => pairs.push((rule.label(a), [a.clone(), b], None)),
                        false if rule.is_made(absent, Side::B) => {
                            pairs.push((rule.label(a), [a.clone(), b], Some(Side::B)));
                        }
                        false => lonely[0].push(a.to_string()),
                    }
                }
                for b in full[1].iter().filter(|table| rule.names[1].matches(table, present[1].default_schema)) {
                    let a = rule.partner(Side::B, b, present);
                    if taken[1].contains_key(b) || known[0].contains(&a) {
                        continue;
                    }
                    if rule.is_made(absent, Side::A) && !taken[0].contains_key(&a) {
                        pairs.push((rule.label(&a), [a, b.clone()], Some(Side::A)));
                    } else {
                        lonely[1].push(b.to_string());
                    }
                }
                for side in Side::BOTH {
                    let names = &mut lonely[side as usize];
                    if names.is_empty() {
                        continue;
                    }
                    names.sort();
                    notes.push(format!(
                        "{}: {:?} does not bridge what is on {} alone: {}",
                        self.place_of(rule),
                        rule.written[0],
                        self.node(side).name,
                        first_few(names.iter(), NAMED_MAX)
                    ));
                }
                if pairs.is_empty() && lonely.iter().all(Vec::is_empty) {
                    notes.push(format!("{}: {:?} matches no table", self.place_of(rule), rule.written[0]));
                }
            }
            for (label, names, absent) in pairs {
                for side in Side::BOTH {
                    taken[side as usize].insert(names[side as usize].clone(), at);
                }
                tables.push(TableChoice {
                    label,
                    names,
                    absent,
                    direction: rule.direction,
                    on_error: rule.on_error,
                    unique_conflict: rule.unique_conflict,
                    foreign_key: rule.foreign_key,
                    conflict: rule.conflict,
                    columns: rule.columns.clone(),
                    accept: rule.accept.clone(),
                });
            }
        }
        if tables.is_empty()
            && problems.is_empty()
            && let Some(rule) = self.tables.first()
        {
            let message = "no table is on both nodes under a name that the configuration gives".to_owned();
            problems.push(problem(rule, message, notes.first().cloned()));
        }
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.place);
            return Err(Invalid { file: self.file.clone(), problems }.into());
        }
        tables.sort_by(|a, b| a.label.cmp(&b.label));
        notes.sort();
        Ok(Choices { tables, notes })
    }

    fn place_of(&self, rule: &TableRule) -> String {
        if self.file.is_empty() { rule.place.to_string() } else { format!("{}:{}", self.file, rule.place) }
    }

    fn missing(&self, rule: &TableRule, side: Side, name: &TableName, present: &[TableName]) -> Problem {
        let node = &self.node(side).name;
        // The same table in another schema, or a name that is written alike.
        let elsewhere = present.iter().find(|table| table.name == name.name).map(ToString::to_string);
        let alike = || {
            let texts: Vec<String> = present.iter().map(ToString::to_string).collect();
            nearest(&name.to_string(), texts.iter().map(String::as_str)).map(str::to_owned)
        };
        let hint = match elsewhere.or_else(alike) {
            Some(near) if rule.same() => {
                format!(
                    "{node} has {near}; names that differ are written name = {{ {} = \"...\", {} = \"...\" }}",
                    self.node(Side::A).name,
                    self.node(Side::B).name
                )
            }
            Some(near) => format!("{node} has {near}"),
            None => {
                "mend the name; case counts. `pontoon setup --create-tables` makes a table that only the other node has"
                    .into()
            }
        };
        problem(rule, format!("node {node} has no table {name}"), Some(hint))
    }
}

impl TableRule {
    /// What a pair of a pattern is called, by its table on A.
    fn label(&self, a: &TableName) -> String {
        match self.names[0].schema {
            Some(_) => a.to_string(),
            None => TableName { schema: None, name: a.name.clone() }.to_string(),
        }
    }

    /// Whether a table of a pattern that `side` lacks is to be made there.
    fn is_made(&self, absent: Absent, side: Side) -> bool {
        absent == Absent::Chosen && self.direction.follows(side.other())
    }

    /// The name on the other side of a table that the pattern matches on `side`.
    fn partner(&self, side: Side, table: &TableName, present: [Present<'_>; 2]) -> TableName {
        let other = side.other();
        let default_schema = present[other as usize].default_schema;
        if self.same() {
            return match &self.names[0].schema {
                Some(_) => table.clone(),
                None => TableName { schema: Some(default_schema.into()), name: table.name.clone() },
            };
        }
        let captured =
            self.names[side as usize].capture(table, present[side as usize].default_schema).unwrap_or_default();
        self.names[other as usize].fill(captured, default_schema)
    }
}

fn problem(rule: &TableRule, message: String, hint: Option<String>) -> Problem {
    Problem { rank: Rank::Value, place: Some(rule.place), key: "tables.name".into(), message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }

    fn table(text: &str) -> TableName {
        text.parse().unwrap()
    }

    #[test]
    fn stars_and_escapes() {
        let hits = |text: &str, name: &str| pattern(text).matches(&TableName::new("public", name), "public");
        assert!(hits("audit_*", "audit_") && hits("audit_*", "audit_log") && !hits("audit_*", "Audit_log"));
        assert!(hits("*", "x") && hits("*a*b*", "xxaxbx") && !hits("*a*b*", "ba"));
        assert!(hits("a*a", "aa") && !hits("a*a", "a"));
        assert!(hits("a**b", "ab"));
        assert!(hits(r"a\*", "a*") && !hits(r"a\*", "ab"));
        assert!(hits(r"a\.b", "a.b"));
        assert_eq!(pattern(r"s\.x.t\\y").exact().unwrap(), TableName::new("s.x", r"t\y"));
        assert!(pattern("sales.*").matches(&table("sales.x"), "public"));
        assert!(!pattern("*").matches(&table("sales.x"), "public"));
        for bad in ["", ".", "a.", ".a", "a.b.c", r"a\", r"a\n"] {
            assert!(NamePattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_without_stars_is_read_as_the_core_reads_it() {
        for text in ["items", "public.items", r"a\.b", r"we\.ird.na\\me", "ünï.cödé"] {
            assert_eq!(pattern(text).exact().unwrap(), table(text), "{text}");
        }
    }
}
