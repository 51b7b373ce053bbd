//! What `deploy/` has for Prometheus and Grafana, and what `docker/` asks of a container: every series in it is one that pontoon exports, every alert has a section of the
//! runbook and is shown to fire and to stay silent, and promtool finds nothing wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use pontoon::observe::Metrics;
use serde_json::{Value, json};

const RULES: &str = include_str!("../deploy/prometheus/rules.yml");
const RULES_TEST: &str = include_str!("../deploy/prometheus/rules_test.yml");
const SCRAPE: &str = include_str!("../deploy/prometheus/prometheus.yml");
const DASHBOARD: &str = include_str!("../deploy/grafana/pontoon.json");
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");
const COMPOSE: &str = include_str!("../docker/compose.yaml");
const RUNBOOK: &str = include_str!("../docs/runbook.md");

/// Labels that Prometheus gives each series, the page itself or not.
const OF_THE_TARGET: [&str; 3] = ["job", "instance", "bridge"];

/// Labels whose values are names of an operator's choice.
const NAMES: [&str; 3] = ["node", "source", "target"];

/// Of each series that a bridge exports from its start, by name: its labels, and the values that each of them has.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn exported() -> Exported {
    let page = Metrics::new("shop-stock", ["shop", "stock"]).unwrap().encode().unwrap();
    let mut exported = Exported::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let known = exported.entry(name.to_owned()).or_default();
        for Matcher { label, value, .. } in matchers(labels.trim_end_matches('}')) {
            known.entry(label.to_owned()).or_default().insert(value.to_owned());
        }
    }
    // Of a name that is misspelt there would be no series, and of a histogram there are three.
    assert!(exported.contains_key("pontoon_active") && exported.contains_key("pontoon_commit_to_apply_seconds_bucket"));
    exported
}

/// `state=~"streaming|copying"`.
struct Matcher<'a> {
    label: &'a str,
    operator: &'a str,
    value: &'a str,
}

/// What stands between the braces. No value in these files has a comma.
fn matchers(inside: &str) -> Vec<Matcher<'_>> {
    let parts = inside.split(',').map(str::trim).filter(|part| !part.is_empty());
    let matcher = |part| {
        let (before, value) = str::split_once(part, '"').unwrap_or_else(|| panic!("{part} is no label"));
        let label = before.trim_end_matches(['=', '!', '~']);
        Matcher { label, operator: &before[label.len()..], value: value.trim_end_matches('"') }
    };
    parts.map(matcher).collect()
}

/// The names of pontoon's series in a text, each with what stands between braces behind it.
fn series(text: &str) -> Vec<(&str, &str)> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in text.match_indices("pontoon_") {
        if text[..at].ends_with(is_of_name) {
            continue;
        }
        let (name, rest) = text[at..].split_at(text[at..].find(|c| !is_of_name(c)).unwrap_or(text.len() - at));
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        found.push((name, inside));
    }
    found
}

/// What is wrong with the series that a text names.
fn strangers(text: &str, exported: &Exported) -> Vec<String> {
    let mut strangers = Vec::new();
    for (name, inside) in series(text) {
        let Some(labels) = exported.get(name) else {
            strangers.push(format!("there is no series {name}"));
            continue;
        };
        for Matcher { label, operator, value } in matchers(inside) {
            if OF_THE_TARGET.contains(&label) {
                continue;
            }
            let Some(values) = labels.get(label) else {
                strangers.push(format!("{name} has no label {label}"));
                continue;
            };
            let is_any = NAMES.contains(&label) || value.starts_with('$');
            let alternatives = if operator.ends_with('~') { value.split('|').collect() } else { vec![value] };
            for value in alternatives.into_iter().filter(|value| !is_any && !values.contains(*value)) {
                strangers.push(format!("{label} of {name} is never {value}"));
            }
        }
    }
    strangers
}

/// All texts of a document.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

#[test]
fn only_series_that_are_exported_are_named() {
    let exported = exported();
    assert_eq!(
        strangers(
            "sum(pontoon_activ) + pontoon_tables{state=\"aside\",bridge=\"$bridge\"} + pontoon_node_up{name=\"shop\"}",
            &exported
        ),
        [
            "there is no series pontoon_activ",
            "state of pontoon_tables is never aside",
            "pontoon_node_up has no label name"
        ]
    );
    for (file, text) in
        [("rules.yml", RULES), ("rules_test.yml", RULES_TEST), ("prometheus.yml", SCRAPE), ("docs/runbook.md", RUNBOOK)]
    {
        assert!(series(text).len() > 1, "{file}");
        assert_eq!(strangers(text, &exported), Vec::<String>::new(), "{file}");
    }
    let dashboard = dashboard();
    let mut found = Vec::new();
    texts(&dashboard, &mut found);
    assert!(found.iter().map(|text| series(text).len()).sum::<usize>() > 40);
    for text in found {
        assert_eq!(strangers(text, &exported), Vec::<String>::new(), "pontoon.json: {text}");
    }
}

/// A rule that alerts. Two of one name differ in their severity.
struct Alert<'a> {
    name: &'a str,
    severity: &'a str,
    runbook: &'a str,
}

fn alerts() -> Vec<Alert<'static>> {
    let alert = |rule: &'static str| {
        let value = |key: &str| {
            let found = rule.lines().find_map(|line| line.trim_start().strip_prefix(key));
            found.unwrap_or_else(|| panic!("there is no {key:?} in\n{rule}"))
        };
        for key in ["expr:", "summary: ", "description: "] {
            value(key);
        }
        Alert {
            name: rule.lines().next().unwrap_or_default(),
            severity: value("severity: "),
            runbook: value("runbook_url: "),
        }
    };
    let alerts: Vec<_> = RULES.split("      - alert: ").skip(1).map(alert).collect();
    assert!(alerts.len() > 20, "{} alerts", alerts.len());
    alerts
}

/// The name as the runbook's headings have it: `PontoonNoActive` is `pontoon-no-active`.
fn anchor(name: &str) -> String {
    let mut anchor = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !anchor.is_empty() {
            anchor.push('-');
        }
        anchor.push(c.to_ascii_lowercase());
    }
    anchor
}

#[test]
fn every_alert_has_a_section_of_the_runbook_and_every_section_an_alert() {
    let alerts = alerts();
    for Alert { name, severity, runbook } in &alerts {
        assert!(["critical", "warning"].contains(severity), "{name} is {severity}");
        assert_eq!(*runbook, format!("docs/runbook.md#{}", anchor(name)), "{name}");
    }
    let sections: BTreeSet<String> =
        RUNBOOK.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(sections, alerts.iter().map(|alert| anchor(alert.name)).collect());
    // The sections refer to each other.
    for link in RUNBOOK.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(sections.contains(link), "there is no section {link}");
    }
}

#[test]
fn every_alert_is_shown_to_fire_and_to_stay_silent() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    let word = |text: &'static str| text.split([',', ' ']).next().unwrap_or_default();
    let mut name = "";
    for line in RULES_TEST.lines() {
        if let Some((_, rest)) = line.split_once("alertname: ") {
            name = word(rest);
        }
        if line.contains("exp_alerts: []") {
            silent.insert(name);
        }
        if let Some((_, rest)) = line.split_once("exp_labels: { severity: ") {
            fires.insert((name, word(rest)));
        }
    }
    for Alert { name, severity, .. } in alerts() {
        assert!(fires.contains(&(name, severity)), "rules_test.yml does not show {name} fire as {severity}");
        assert!(silent.contains(name), "rules_test.yml does not show {name} silent");
    }
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64().unwrap()), "{title}: {}", panel["id"]);
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title} is not described");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for source in targets.iter().chain([panel]).map(|part| &part["datasource"]["uid"]) {
            assert_eq!(source, "${datasource}", "{title}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "bridge"]);
}

/// What is asked of an operator can be asked of pontoon: the command is one, and has these options.
#[test]
fn the_commands_of_runbook_and_alerts_exist() {
    for (file, text) in [("docs/runbook.md", RUNBOOK), ("rules.yml", RULES)] {
        let commands = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("pontoon "));
        let mut number = 0;
        for command in commands {
            let command = command.split(" |").next().unwrap_or_default();
            let words = command.split_whitespace().map(|word| match word.trim_matches('\'') {
                "ID" => "17",
                "POSITION" => "0/16B3748",
                word => word,
            });
            let help = pontoon::cli::arguments_from(words.chain(["--help"])).unwrap_err();
            assert_eq!(help.exit_code(), 0, "{file}: {command}: {help}");
            number += 1;
        }
        assert!(number > 20, "{file} has {number} commands");
    }
}

/// Who watches a container asks it by a command whose exit code tells, and which there is.
#[test]
fn containers_ask_for_the_bridge_s_health() {
    let of_the_image = DOCKERFILE.split("\nHEALTHCHECK ").nth(1).and_then(|rest| rest.split("CMD [").nth(1)).unwrap();
    let of_compose = COMPOSE.split("\n  pontoon:\n").nth(1).and_then(|rest| rest.split("test: [CMD, ").nth(1)).unwrap();
    for list in [of_the_image, of_compose] {
        let words = list.split(']').next().unwrap().split(", ").map(|word| word.trim_matches('"'));
        let words: Vec<_> = words.map(|word| word.strip_prefix("/usr/local/bin/").unwrap_or(word)).collect();
        let arguments = pontoon::cli::arguments_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        assert!(matches!(arguments.command, pontoon::cli::Command::Health(_)), "{words:?}");
    }
}

/// Who asks from another host asks where metrics and probes are and nothing else is, at the port that the files open.
#[test]
fn scrapes_and_probes_ask_where_nothing_else_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let listens = |file: &str| {
        let text = read(file);
        let line = text.lines().find_map(|line| line.strip_prefix("metrics_listen = \"0.0.0.0:")).unwrap();
        line.split('"').next().unwrap().to_owned()
    };
    let [in_docker, in_kubernetes] = ["docker/pontoon.toml", "deploy/kubernetes/common/pontoon.toml"].map(listens);
    assert!(read("docker/prometheus.yml").contains(&format!("\"pontoon:{in_docker}\"")));
    assert!(DOCKERFILE.lines().any(|line| line.starts_with("EXPOSE ") && line.contains(&in_docker)));
    for file in ["base/deployment.yaml", "overlays/scheduled/cronjob.yaml"] {
        let text = read(&format!("deploy/kubernetes/{file}"));
        let port = text.split("- name: metrics\n").nth(1).and_then(|rest| rest.lines().next()).map(str::trim);
        assert_eq!(port, Some(format!("containerPort: {in_kubernetes}").as_str()), "{file}");
    }
    for file in [
        "base/deployment.yaml",
        "base/service.yaml",
        "common/networkpolicy.yaml",
        "components/monitoring/servicemonitor.yaml",
    ] {
        let text = read(&format!("deploy/kubernetes/{file}"));
        assert!(!text.contains("http\n") && !text.contains("port: http ") && text.contains("metrics"), "{file}");
    }
}

/// Runs promtool in a folder, which has to end well.
fn check(folder: &Path, arguments: &[&str]) {
    let ended =
        pontoon_servers::of_prometheus("promtool").unwrap().args(arguments).current_dir(folder).output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ended.status.success(), "promtool {}: {}\n{said}", arguments.join(" "), ended.status);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

#[test]
fn promtool_finds_nothing_wrong() {
    check(&folder(), &["check", "rules", "rules.yml"]);
    check(&folder(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    check(&folder(), &["test", "rules", "rules_test.yml"]);
}

/// What Grafana puts in for its variables is put in, and then each query is a rule of its own: a document of JSON is one of YAML.
#[test]
fn the_dashboard_s_queries_can_be_read() {
    let dashboard = dashboard();
    let targets =
        dashboard["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let rules: Vec<_> = queries
        .map(|query| query.replace("$__rate_interval", "1m").replace("$bridge", "shop-stock"))
        .enumerate()
        .map(|(number, query)| json!({ "record": format!("dashboard:query:{number}"), "expr": query }))
        .collect();
    assert!(rules.len() > 40, "{} queries", rules.len());
    let place = tempfile::tempdir().unwrap();
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(place.path().join("dashboard.yml"), file.to_string()).unwrap();
    check(place.path(), &["check", "rules", "dashboard.yml"]);
}
