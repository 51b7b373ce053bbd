//! Each rule as a scenario of SQL: `tests/scenarios/*.sql` say what is there, what each side writes before it has seen
//! the other's, which rows both hold afterwards (or each, where a person is to decide: what is held) and what is on record.
//! The table has the file's name; a second one, where there is one, `_child` behind it.

use std::path::Path;

use pontoon_servers::Kind;

use crate::quarantine::entries;
use crate::support::{Link, LinkOptions, a_second_later, database::Rows, pairings};

/// The parts of a scenario, in the order in which they stand in the file.
const PARTS: [&str; 11] = [
    "configuration",
    "configuration of child",
    "both",
    "a",
    "b, later",
    "rows",
    "rows of b",
    "rows of child",
    "rows of child of b",
    "held",
    "records",
];

struct Scenario {
    name: String,
    parts: [Option<Vec<String>>; PARTS.len()],
}

impl Scenario {
    fn all() -> Vec<Scenario> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<Scenario> = files.map(|file| Scenario::read(&file)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(file: &Path) -> Scenario {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (mut parts, mut part) = (<[Option<Vec<String>>; PARTS.len()]>::default(), None);
        for line in std::fs::read_to_string(file).unwrap().lines() {
            if let Some(header) = line.strip_prefix("--- ") {
                let next = PARTS.iter().position(|known| *known == header);
                assert!(next > part, "{name}: {header}");
                part = next;
                parts[part.unwrap()] = Some(Vec::new());
            } else if let Some(part) = part
                && !line.is_empty()
            {
                parts[part].get_or_insert_default().push(line.to_owned());
            }
        }
        assert_eq!(part, Some(PARTS.len() - 1), "{name} has no {}", PARTS[PARTS.len() - 1]);
        Scenario { name, parts }
    }

    fn part(&self, part: &str) -> &[String] {
        self.own(part).unwrap_or_default()
    }

    /// A part, where the file has it.
    fn own(&self, part: &str) -> Option<&[String]> {
        self.parts[PARTS.iter().position(|known| *known == part).unwrap()].as_deref()
    }

    /// The tables, each with what the names of its parts end with.
    fn tables(&self) -> Vec<(String, &'static str)> {
        let child = format!("{}_child", self.name);
        let has_child = self.part("both").iter().any(|sql| sql.starts_with(&format!("CREATE TABLE {child} ")));
        let child = has_child.then_some((child, " of child"));
        std::iter::once((self.name.clone(), "")).chain(child).collect()
    }

    /// A key as the parts for both tables write it.
    fn key(&self, of: &serde_json::Value) -> Option<String> {
        let (table, key) = (of["table"].as_str()?, &of["key"][0]);
        let is_child = table.strip_prefix(&*self.name) == Some("_child");
        (is_child || table == self.name).then(|| if is_child { format!("child {key}") } else { key.to_string() })
    }
}

/// Rows as a scenario writes them.
fn written(rows: Rows) -> Vec<String> {
    let value = |value: Option<String>| value.unwrap_or_else(|| "null".into());
    rows.into_iter().map(|row| row.into_iter().map(value).collect::<Vec<_>>().join(" | ")).collect()
}

async fn every_rule(kinds: [Kind; 2]) {
    let scenarios = Scenario::all();
    let table = |(scenario, (name, part)): (&Scenario, (String, &str))| {
        format!("[[tables]]\nname = \"{name}\"\n{}\n", scenario.part(&format!("configuration{part}")).join("\n"))
    };
    let tables = scenarios.iter().flat_map(|one| one.tables().into_iter().map(move |table| (one, table)));
    let configuration = tables.map(table).collect();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for node in link.nodes() {
        for scenario in &scenarios {
            for statement in scenario.part("both") {
                node.run(statement).await;
            }
            for (table, _) in scenario.tables().iter().filter(|_| node.is_postgres()) {
                node.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
            }
        }
    }
    link.succeed(&["setup"]).await;
    for statement in scenarios.iter().flat_map(|scenario| scenario.part("a")) {
        link.a.run(statement).await;
    }
    a_second_later().await;
    for statement in scenarios.iter().flat_map(|scenario| scenario.part("b, later")) {
        link.b.run(statement).await;
    }
    link.catch_up().await;

    let conflicts = link.conflicts(&[]).await;
    let held = entries(&link).await;
    for scenario in &scenarios {
        let name = &scenario.name;
        for (node, (table, part)) in
            link.nodes().into_iter().flat_map(|node| scenario.tables().into_iter().map(move |table| (node, table)))
        {
            let rows = node.rows(&format!("SELECT * FROM {table} ORDER BY id")).await;
            let of_b = scenario.own(&format!("rows{part} of b")).filter(|_| std::ptr::eq(node, &link.b));
            let expected = of_b.unwrap_or_else(|| scenario.part(&format!("rows{part}")));
            assert_eq!(written(rows), expected, "{table}: rows on {:?}", node.kind);
        }
        let refused = held.iter().filter(|entry| !entry["code"].is_null());
        let mut held: Vec<String> = refused
            .filter_map(|entry| Some(format!("{} | {}", scenario.key(entry)?, entry["code"].as_str().unwrap())))
            .collect();
        held.sort_unstable();
        assert_eq!(held, scenario.part("held"), "{name}: held");
        let mut records: Vec<(String, &str)> = conflicts
            .iter()
            .filter_map(|record| Some((scenario.key(record)?, record["rule"].as_str().unwrap())))
            .collect();
        records.sort_by_key(|(key, rule)| (key.len(), key.clone(), *rule));
        let records: Vec<String> = records.iter().map(|(key, rule)| format!("{key} | {rule}")).collect();
        assert_eq!(records, scenario.part("records"), "{name}: records");
    }
}

pairings! { every_rule }
