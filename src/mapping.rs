//! Which tables and columns are pairs, in which form they are compared, and what keeps a pair from
//! being bridged.
//!
//! Both `check`, which lists every finding, and `run`, which refuses at the first blocking one, ask
//! here, so they cannot disagree.

mod additions;
mod columns;
mod leeway;
mod rules;
mod ties;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use pontoon_core::{
    Code, Error, Form, Kind, MappedColumn, MappedTable, Result, TableId, TableName, TableSchema,
    node::{Finding, Node, Severity, Tables},
    schema::TextEquality,
};

use self::{additions::Missing, ties::Chosen};
use crate::{
    config::{Absent, Choices, Config, Conflict, Present, TableChoice, name_across},
    conflict::{
        policy::{Policy, RowRule},
        quarantine::OnError,
    },
    side::{Pair, Side},
};

/// The mapped tables of a bridge.
pub struct Mapping {
    /// As each side sees them; only pairs without a blocking finding.
    pub tables: Pair<Tables>,
    /// How the conflicts of each are settled, by its number.
    pub policies: Vec<Policy>,
    /// What becomes of rows of each that a target refuses.
    pub on_error: Vec<OnError>,
    /// Whose log is followed: that of a side from which some table goes to the other.
    pub reads: Pair<bool>,
    /// What was found of tables and columns, blocking or not.
    pub findings: Vec<Finding>,
    /// What an operator may not have meant.
    pub notes: Vec<String>,
    /// Columns that one side alone has, of which there is a finding.
    pub(crate) missing: Vec<Missing>,
    /// The pairs that are unfit by themselves, by label, and where their findings are.
    pub(crate) unfit: Vec<(Arc<str>, Range<usize>)>,
}

impl Mapping {
    /// Refuses where any pair is unfit. Errors: table unfit, naming the first finding.
    pub fn require(self) -> Result<Self> {
        match self.refusal("pontoon check lists everything") {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// The pairs that are unfit by themselves, each with the error of the first finding of it.
    pub(crate) fn unfit(&self) -> Vec<(Arc<str>, Error)> {
        let first = |of: &Range<usize>| self.findings.get(of.clone())?.iter().find(|finding| is_blocking(finding));
        self.unfit.iter().filter_map(|(label, of)| Some((label.clone(), refusal(first(of)?, "", None)))).collect()
    }

    /// What is in the way.
    pub(crate) fn blocking(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| is_blocking(finding))
    }

    /// The error of the first finding that blocks; `more` goes with its remedy.
    pub(crate) fn refusal(&self, more: &str) -> Option<Error> {
        let first = self.blocking().next()?;
        let others = match self.blocking().count() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Some(refusal(first, &others, Some(more)))
    }
}

fn is_blocking(finding: &Finding) -> bool {
    finding.severity == Severity::Blocking
}

fn refusal(finding: &Finding, others: &str, more: Option<&str>) -> Error {
    let Finding { subject, actual, expected, remedy, .. } = finding;
    let hints: Vec<&str> = remedy.as_deref().into_iter().chain(more).collect();
    let error = Error::new(Code::TableUnfit, format!("{subject}: {actual}, needed is {expected}{others}"));
    if hints.is_empty() { error } else { error.hint(hints.join("; ")) }
}

/// Asks both nodes for their tables and pairs what the configuration names. Errors: unreachable and the
/// like, and configuration errors (a table that is not there).
pub async fn map(config: &Config, nodes: &Pair<Arc<dyn Node>>) -> Result<Mapping> {
    Ok(survey(config, nodes, Absent::Refused).await?.map(config))
}

/// What the nodes have of what the configuration names, before it is judged.
pub(crate) struct Survey {
    /// The pairs, by label.
    pub(crate) pairs: Vec<Surveyed>,
    /// What an operator may not have meant.
    notes: Vec<String>,
}

/// One pair.
pub(crate) struct Surveyed {
    /// What the configuration says of it.
    pub(crate) choice: TableChoice,
    /// The tables; `None` where there is none.
    pub(crate) schemas: Pair<Option<TableSchema>>,
}

/// Asks both nodes. Errors as of [`map`].
pub(crate) async fn survey(config: &Config, nodes: &Pair<Arc<dyn Node>>, absent: Absent) -> Result<Survey> {
    let mut present = Pair::<Vec<TableName>>::default();
    for side in Side::BOTH {
        present[side] = nodes[side].list_tables().await.map_err(|error| error.at(nodes[side].name()))?;
    }
    let of = |side: Side| Present { default_schema: config.node(side).default_schema(), tables: &present[side] };
    let Choices { tables, notes } = config.choose_tables([of(Side::A), of(Side::B)], absent)?;
    // Each at the same time: of thousands of tables a server takes seconds to tell what they are.
    let described = async |side: Side| {
        let names: Vec<TableName> = tables.iter().map(|choice| choice.names[side as usize].clone()).collect();
        nodes[side].describe(&names).await.map_err(|error| error.at(nodes[side].name()))
    };
    let (a, b) = tokio::join!(described(Side::A), described(Side::B));
    let (a, b) = (a?, b?);
    let pairs = tables.into_iter().zip(a.into_iter().zip(b));
    let pairs = pairs.map(|(choice, (a, b))| Surveyed { choice, schemas: Pair::new(a, b) }).collect();
    Ok(Survey { pairs, notes })
}

impl Survey {
    /// Judges it.
    pub(crate) fn map(&self, config: &Config) -> Mapping {
        self.map_without(config, &BTreeSet::new())
    }

    /// The same without some pairs, by label.
    pub(crate) fn map_without(&self, config: &Config, left_out: &BTreeSet<Arc<str>>) -> Mapping {
        let of = |side: Side| self.pairs.iter().filter_map(move |pair| Some(pair.schemas[side].as_ref()?.name.clone()));
        let mut mapping = Draft {
            config,
            tables: Pair::default(),
            policies: Vec::new(),
            on_error: Vec::new(),
            findings: Vec::new(),
            missing: Vec::new(),
            chosen: Pair::from_fn(|side| of(side).collect()),
            described: Vec::new(),
            unfit: Vec::new(),
        };
        for Surveyed { choice, schemas } in self.pairs.iter().filter(|pair| !left_out.contains(&*pair.choice.label)) {
            let (before, blocking) = (mapping.findings.len(), mapping.blocking());
            match (&schemas[Side::A], &schemas[Side::B]) {
                (Some(a), Some(b)) => mapping.pair(choice, &Pair::new(a.clone(), b.clone())),
                (a, _) => {
                    let lacking = if a.is_none() { Side::A } else { Side::B };
                    let actual = format!("it is not on {}", config.node(lacking).name);
                    mapping.block("table-missing", &choice.label, &actual, "a table on both sides", None);
                }
            }
            if mapping.blocking() > blocking {
                mapping.unfit.push((choice.label.as_str().into(), before..mapping.findings.len()));
            }
        }
        mapping.finish(self.notes.clone())
    }

    /// The pairs that foreign keys tie to some of these, on either side and whatever lies between; by label, each with one of
    /// those that it is tied to.
    pub(crate) fn tied(&self, labels: &BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, Arc<str>> {
        let label = |pair: &Surveyed| -> Arc<str> { pair.choice.label.as_str().into() };
        let mut neighbours: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
        for side in Side::BOTH {
            let described = self.pairs.iter().filter_map(|pair| Some((pair, pair.schemas[side].as_ref()?)));
            let by_name: HashMap<&TableName, &Surveyed> =
                described.clone().map(|(pair, schema)| (&schema.name, pair)).collect();
            for (child, schema) in described {
                for parent in schema.ties.references.iter().filter_map(|foreign| by_name.get(&foreign.parent)) {
                    neighbours.entry(label(child)).or_default().push(label(parent));
                    neighbours.entry(label(parent)).or_default().push(label(child));
                }
            }
        }
        let (mut tied, mut open) = (BTreeMap::new(), labels.iter().cloned().collect::<Vec<_>>());
        while let Some(from) = open.pop() {
            for other in neighbours.get(&from).into_iter().flatten() {
                if !labels.contains(other) && !tied.contains_key(other) {
                    tied.insert(other.clone(), from.clone());
                    open.push(other.clone());
                }
            }
        }
        tied
    }
}

struct Draft<'a> {
    config: &'a Config,
    tables: Pair<Vec<MappedTable>>,
    policies: Vec<Policy>,
    on_error: Vec<OnError>,
    findings: Vec<Finding>,
    missing: Vec<Missing>,
    /// All tables that are to be bridged, fit or not.
    chosen: Chosen,
    /// What each of `tables` was made of.
    described: Vec<(TableChoice, Pair<TableSchema>)>,
    unfit: Vec<(Arc<str>, Range<usize>)>,
}

impl Draft<'_> {
    fn finish(mut self, notes: Vec<String>) -> Mapping {
        let described = std::mem::take(&mut self.described);
        ties::tie(&mut self, &described);
        leeway::untied(&mut self);
        let reads = Pair::from_fn(|side| self.tables[side].iter().any(|table| table.followed));
        let [a, b] = [self.tables[Side::A].clone(), self.tables[Side::B].clone()];
        Mapping {
            tables: Pair::new(a.into(), b.into()),
            policies: self.policies,
            on_error: self.on_error,
            reads,
            findings: self.findings,
            notes,
            missing: self.missing,
            unfit: self.unfit,
        }
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        subject: &str,
        actual: &str,
        expected: &str,
        remedy: Option<String>,
    ) {
        self.findings.push(Finding {
            code,
            severity,
            subject: subject.to_owned(),
            actual: actual.to_owned(),
            expected: expected.to_owned(),
            remedy,
        });
    }

    fn block(&mut self, code: &'static str, subject: &str, actual: &str, expected: &str, remedy: Option<String>) {
        self.add(Severity::Blocking, code, subject, actual, expected, remedy);
    }

    fn pair(&mut self, choice: &TableChoice, schemas: &Pair<TableSchema>) {
        let before = self.blocking();
        let mut columns = columns::pair(self, choice, schemas);
        let key = self.key(choice, schemas, &columns);
        let rules = rules::of_columns(self, choice, &columns, &key);
        leeway::give(self, choice, &mut columns, &key);
        self.generated_keys(choice, schemas);
        if self.blocking() > before {
            return;
        }
        let id = TableId(u32::try_from(self.policies.len()).unwrap_or(u32::MAX));
        let label: Arc<str> = choice.label.as_str().into();
        for side in Side::BOTH {
            self.tables[side].push(MappedTable {
                id,
                label: label.clone(),
                name: schemas[side].name.clone(),
                columns: columns.iter().map(|pair| pair[side].clone()).collect(),
                key: key.clone(),
                left: columns::left(&schemas[side], &columns, side),
                followed: choice.direction.follows(side),
                uniques: Vec::new(),
                references: Vec::new(),
                by_columns: choice.conflict == Conflict::ColumnMerge || rules.iter().any(Option::is_some),
            });
        }
        self.described.push((choice.clone(), schemas.clone()));
        self.on_error.push(choice.on_error);
        let row = match &choice.conflict {
            Conflict::LastWriterWins => RowRule::LastWriterWins,
            Conflict::ColumnMerge => RowRule::ColumnMerge,
            Conflict::Prefer(side) => RowRule::Prefer(*side),
            Conflict::Quarantine => RowRule::Quarantine,
        };
        let (unique, foreign_key) = (choice.unique_conflict, choice.foreign_key);
        self.policies.push(Policy { row, columns: rules, unique, foreign_key });
    }

    fn blocking(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Blocking).count()
    }

    /// The key's columns by their place among the pairs.
    fn key(&mut self, choice: &TableChoice, schemas: &Pair<TableSchema>, columns: &[Pair<MappedColumn>]) -> Vec<usize> {
        let names = |side: Side| -> Vec<&str> {
            schemas[side].key.iter().filter_map(|&at| schemas[side].columns.get(at)).map(|c| &*c.name).collect()
        };
        let across: Vec<Option<&str>> =
            names(Side::A).into_iter().map(|name| name_across(&choice.columns, Side::A, name)).collect();
        for side in Side::BOTH {
            if schemas[side].key.is_empty() {
                let actual = format!("none on {}", self.config.node(side).name);
                let remedy = format!("ALTER TABLE {} ADD PRIMARY KEY (...)", schemas[side].name);
                self.block("table-key-missing", &choice.label, &actual, "a primary key on both sides", Some(remedy));
                return Vec::new();
            }
        }
        if let Some((name, _)) = names(Side::A).iter().zip(&across).find(|(_, across)| across.is_none()) {
            let subject = format!("{} key column {name}", choice.label);
            let remedy = Some("take the rule away".to_owned());
            self.block(rules::UNFIT, &subject, "ignored", "a key whose columns are all bridged", remedy);
            return Vec::new();
        }
        if !across.into_iter().flatten().eq(names(Side::B)) {
            let actual = format!("({}) and ({})", names(Side::A).join(", "), names(Side::B).join(", "));
            self.block("table-keys-differ", &choice.label, &actual, "the same columns in the same order", None);
            return Vec::new();
        }
        let mut key = Vec::new();
        for name in names(Side::A) {
            let Some(at) = columns.iter().position(|pair| &*pair[Side::A].column.name == name) else { continue };
            self.key_column(choice, &columns[at]);
            key.push(at);
        }
        key
    }

    /// Two keys that are one row here and two there make one row of two.
    fn key_column(&mut self, choice: &TableChoice, pair: &Pair<MappedColumn>) {
        let form = pair[Side::A].form;
        let subject = format!("{} key column {}", choice.label, pair[Side::A].column.name);
        if matches!(form, Form::Float32 | Form::Float64 | Form::Json) {
            self.block("key-type-unfit", &subject, &form.to_string(), "a type with exact equality", None);
        }
        // Two spellings of one value would be one key there and two here; and no index finds a text in them.
        let is_spelled = |kind: &Kind| matches!(kind, Kind::Spelled { .. } | Kind::Set { .. } | Kind::Bits { .. });
        if let Some(spelled) = pair.iter().find(|column| is_spelled(&column.kind)) {
            let actual = spelled.column.native.to_string();
            self.block("key-type-unfit", &subject, &actual, "a type whose keys both sides compare alike", None);
        }
        if !matches!(form, Form::Text { .. }) {
            return;
        }
        for side in Side::BOTH {
            let TextEquality::Folding(collation) = &pair[side].column.text_equality else { continue };
            let node = &self.config.node(side).name;
            let actual = format!("collation {collation} on {node}, by which different texts are equal");
            let remedy = format!(
                "give the column an exact collation on {node} (utf8mb4_0900_bin on MySQL, utf8mb4_nopad_bin on MariaDB, a deterministic one on PostgreSQL)"
            );
            let severity = accepted(choice, "key-comparison");
            self.add(severity, "key-comparison", &subject, &actual, "equality by bytes on both sides", Some(remedy));
        }
    }

    /// Two sides that both hand out 1, 2, 3 make one row of two.
    fn generated_keys(&mut self, choice: &TableChoice, schemas: &Pair<TableSchema>) {
        let both_ways = Side::BOTH.into_iter().all(|side| choice.direction.follows(side));
        if !both_ways {
            return;
        }
        for &at in &schemas[Side::A].key {
            let Some(a) = schemas[Side::A].columns.get(at) else { continue };
            let b = name_across(&choice.columns, Side::A, &a.name).and_then(|name| schemas[Side::B].column(name));
            let Some(b) = b else { continue };
            let (Some(ours), Some(theirs)) = (a.generator, b.generator) else { continue };
            if ours.disjoint(&theirs) {
                continue;
            }
            let severity = accepted(choice, "generated-keys");
            let actual = format!(
                "both sides generate it: from {} by {}, and from {} by {}",
                ours.start, ours.step, theirs.start, theirs.step
            );
            let remedy = "let one side count 1, 3, 5 and the other 2, 4, 6 (PostgreSQL: ALTER SEQUENCE ... INCREMENT 2 START 1 RESTART; MySQL, MariaDB: auto_increment_increment = 2, auto_increment_offset = 2), or accept = [\"generated-keys\"] where applications give the keys";
            let subject = format!("{} key column {}", choice.label, a.name);
            self.add(
                severity,
                "generated-keys",
                &subject,
                &actual,
                "steps or ranges that never meet",
                Some(remedy.into()),
            );
        }
    }
}

/// A blocking finding that the operator answers for is a warning.
fn accepted(choice: &TableChoice, code: &str) -> Severity {
    if choice.accepts(code) { Severity::Warning } else { Severity::Blocking }
}
