//! Each rule as a scenario of SQL: `tests/scenarios/*.sql` say what is there, what each side writes before it has seen
//! the other's, which rows both hold afterwards (or each, where a person is to decide: what is held) and what is on record.
//! The table has the file's name.

use std::path::Path;

use pontoon_servers::Kind;

use crate::quarantine::entries;
use crate::support::{Link, LinkOptions, a_second_later, database::Rows, pairings};

/// The parts of a scenario, in the order in which they stand in the file.
const PARTS: [&str; 8] = ["configuration", "both", "a", "b, later", "rows", "rows of b", "held", "records"];

struct Scenario {
    name: String,
    parts: [Vec<String>; PARTS.len()],
}

impl Scenario {
    fn all() -> Vec<Scenario> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<Scenario> = files.map(|file| Scenario::read(&file)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(file: &Path) -> Scenario {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (mut parts, mut part) = (<[Vec<String>; PARTS.len()]>::default(), None);
        for line in std::fs::read_to_string(file).unwrap().lines() {
            if let Some(header) = line.strip_prefix("--- ") {
                let next = PARTS.iter().position(|known| *known == header);
                assert!(next > part, "{name}: {header}");
                part = next;
            } else if let Some(part) = part
                && !line.is_empty()
            {
                parts[part].push(line.to_owned());
            }
        }
        assert_eq!(part, Some(PARTS.len() - 1), "{name} has no {}", PARTS[PARTS.len() - 1]);
        Scenario { name, parts }
    }

    fn part(&self, part: &str) -> &[String] {
        &self.parts[PARTS.iter().position(|known| *known == part).unwrap()]
    }
}

/// Rows as a scenario writes them.
fn written(rows: Rows) -> Vec<String> {
    let value = |value: Option<String>| value.unwrap_or_else(|| "null".into());
    rows.into_iter().map(|row| row.into_iter().map(value).collect::<Vec<_>>().join(" | ")).collect()
}

async fn every_rule(kinds: [Kind; 2]) {
    let scenarios = Scenario::all();
    let table = |scenario: &Scenario| {
        format!("[[tables]]\nname = \"{}\"\n{}\n", scenario.name, scenario.part("configuration").join("\n"))
    };
    let configuration = scenarios.iter().map(table).collect();
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for node in link.nodes() {
        for scenario in &scenarios {
            for statement in scenario.part("both") {
                node.run(statement).await;
            }
            if node.is_postgres() {
                node.run(&format!("ALTER TABLE {} REPLICA IDENTITY FULL", scenario.name)).await;
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
        for node in link.nodes() {
            let rows = node.rows(&format!("SELECT * FROM {name} ORDER BY id")).await;
            let own = scenario.part("rows of b");
            let expected = if std::ptr::eq(node, &link.b) && !own.is_empty() { own } else { scenario.part("rows") };
            assert_eq!(written(rows), expected, "{name}: rows on {:?}", node.kind);
        }
        let refused = held.iter().filter(|entry| entry["table"] == *name && !entry["code"].is_null());
        let mut held: Vec<String> =
            refused.map(|entry| format!("{} | {}", entry["key"][0], entry["code"].as_str().unwrap())).collect();
        held.sort_unstable();
        assert_eq!(held, scenario.part("held"), "{name}: held");
        let of_table = conflicts.iter().filter(|record| record["table"] == *name);
        let mut records: Vec<(i64, &str)> =
            of_table.map(|record| (record["key"][0].as_i64().unwrap(), record["rule"].as_str().unwrap())).collect();
        records.sort_unstable();
        let records: Vec<String> = records.iter().map(|(key, rule)| format!("{key} | {rule}")).collect();
        assert_eq!(records, scenario.part("records"), "{name}: records");
    }
}

pairings! { every_rule }
