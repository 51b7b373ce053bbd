//! `docker/compose.yaml` as Docker Compose reads it, held against the files that it names and those that speak of the same things: the image, the
//! bridge's configuration, and the script that makes the secrets. No container is started.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

const DOCKERFILE: &str = include_str!("../docker/Dockerfile");
const CONFIGURATION: &str = include_str!("../docker/pontoon.toml");
const PROMETHEUS: &str = include_str!("../docker/prometheus.yml");
const DATASOURCE: &str = include_str!("../docker/grafana/provisioning/datasources/prometheus.yaml");
const DASHBOARDS: &str = include_str!("../docker/grafana/provisioning/dashboards/pontoon.yaml");

/// Where a container sees its secrets.
const SECRETS: &str = "/run/secrets/";

/// The file with its defaults and every profile. What the language does not have is an error, and so is a network, a volume, a secret, a
/// configuration or a service that is named and nowhere described.
fn composed() -> Value {
    let arguments = ["--file", "docker/compose.yaml", "--profile", "*", "config", "--format", "json"];
    let mut command = pontoon_servers::compose().unwrap();
    let ended = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    // What is only strange it says there.
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).unwrap()
}

fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

/// The words that stand behind a text, each time that it occurs.
fn behind(text: &str, what: &str) -> BTreeSet<String> {
    let ends = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    text.split(what).skip(1).map(|rest| rest.split(ends).next().unwrap_or_default().to_owned()).collect()
}

/// A line of a file, without what comes before.
fn line<'a>(text: &'a str, before: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.trim().strip_prefix(before));
    found.unwrap_or_else(|| panic!("no line begins with {before:?} in\n{text}"))
}

#[test]
fn what_is_mounted_is_there_and_stays_as_it_is() {
    let all = composed();
    let mut files: Vec<&Value> = all["configs"].as_object().unwrap().values().map(|config| &config["file"]).collect();
    for (name, service) in all["services"].as_object().unwrap() {
        for mount in entries(&service["volumes"]).filter(|mount| mount["type"] == "bind") {
            assert_eq!(mount["read_only"], true, "{name}: {mount}");
            files.push(&mount["source"]);
        }
    }
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        assert!(Path::new(file.as_str().unwrap()).exists(), "there is no {file}");
    }
}

/// What a new database runs: its tables, the bridge's role as it is shipped, and the role's password. And what Prometheus reads.
#[test]
fn what_is_looked_for_is_mounted() {
    let all = composed();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for kind in ["postgres", "mysql"] {
        let mut scripts = BTreeMap::new();
        for mount in entries(&all["services"][kind]["volumes"]) {
            let target = mount["target"].as_str().unwrap();
            if let Some(name) = target.strip_prefix("/docker-entrypoint-initdb.d/") {
                scripts.insert(name, Path::new(mount["source"].as_str().unwrap()).to_owned());
            }
        }
        let expected = [
            ("10-shop.sql", root.join("docker").join(kind).join("10-shop.sql")),
            ("20-rights.sql", root.join("deploy/sql").join(kind).with_extension("sql")),
            ("30-password.sh", root.join("docker").join(kind).join("30-password.sh")),
        ];
        assert_eq!(scripts, BTreeMap::from(expected));
    }
    // The first list in it is of the files of rules, which it looks for beside itself.
    let rules = format!("/etc/prometheus/{}", line(PROMETHEUS, "- "));
    let configs = json!([
        { "source": "prometheus", "target": "/etc/prometheus/prometheus.yml" },
        { "source": "rules", "target": rules },
    ]);
    assert_eq!(all["services"]["prometheus"]["configs"], configs);
}

/// The secrets are the files that `docker/make-secrets` makes, and a service has those that it asks for, itself or in what it is started with.
#[test]
fn secrets_are_made_and_given_to_whom_they_are_asked_for_by() {
    let all = composed();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    fs::copy(root.join("docker/make-secrets"), folder.path().join("make-secrets")).unwrap();
    let ended = Command::new(folder.path().join("make-secrets")).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let made = fs::read_dir(folder.path().join("secrets")).unwrap();
    let made: BTreeSet<_> = made.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names(&all["secrets"]), made);
    for (name, secret) in all["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], json!(root.join("docker/secrets").join(name)), "{name}");
    }

    let mut given_to_any = BTreeSet::new();
    for (name, service) in all["services"].as_object().unwrap() {
        let given: BTreeSet<_> =
            entries(&service["secrets"]).map(|secret| secret["source"].as_str().unwrap().to_owned()).collect();
        let mut said = json!([service["command"], service["environment"]]).to_string();
        for mount in entries(&service["volumes"]).filter(|mount| mount["type"] == "bind") {
            said += &fs::read_to_string(mount["source"].as_str().unwrap()).unwrap_or_default();
        }
        let mut asked = behind(&said, SECRETS);
        if service["environment"]["CREDENTIALS_DIRECTORY"] == json!(SECRETS.trim_end_matches('/')) {
            asked.extend(behind(CONFIGURATION, "${CREDENTIALS_DIRECTORY}/"));
        }
        assert_eq!(given, asked, "{name}");
        given_to_any.extend(given);
    }
    assert_eq!(given_to_any, made);
}

#[test]
fn every_command_of_the_bridge_is_run_as_the_image_asks_for() {
    let all = composed();
    let user = line(DOCKERFILE, "USER ");
    assert!(user.starts_with(|c: char| ('1'..='9').contains(&c)), "{user}");
    let spill: Value = serde_json::from_str(line(DOCKERFILE, "VOLUME ")).unwrap();
    assert_eq!(format!("STATE_DIRECTORY={}", spill[0].as_str().unwrap()), line(DOCKERFILE, "ENV "));
    let is_ours = |service: &&Value| service["image"] == "pontoon:local";
    let ours: Vec<_> = all["services"].as_object().unwrap().values().filter(is_ours).collect();
    assert_eq!(ours.len(), 3, "{ours:#?}");
    for service in ours {
        assert_eq!(service["build"]["context"], env!("CARGO_MANIFEST_DIR"));
        assert_eq!(service["build"]["dockerfile"], "docker/Dockerfile");
        assert_eq!(service["configs"], json!([{ "source": "pontoon", "target": "/etc/pontoon/pontoon.toml" }]));
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], json!(["ALL"]));
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        assert_eq!(service["user"], Value::Null, "the image's own");
        let mounts: Vec<_> =
            entries(&service["volumes"]).map(|mount| (mount["type"].as_str(), &mount["target"])).collect();
        assert_eq!(mounts, [(Some("volume"), &spill[0])]);
        let words = entries(&service["command"]).map(|word| word.as_str().unwrap());
        let words: Vec<_> = std::iter::once("pontoon").chain(words).collect();
        pontoon::cli::arguments_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

/// Of this host alone, at the ports where something listens.
#[test]
fn ports_are_those_that_are_listened_at() {
    let all = composed();
    let port = |key: &str| line(CONFIGURATION, &format!("{key} = \"0.0.0.0:")).split('"').next().unwrap().to_owned();
    let (page, metrics) = (port("listen"), port("metrics_listen"));
    assert_eq!(line(DOCKERFILE, "EXPOSE "), format!("{page} {metrics}"));
    let listens = BTreeMap::from([
        ("pontoon", page.as_str()),
        // As their images have it.
        ("prometheus", "9090"),
        ("grafana", "3000"),
    ]);
    let mut published = BTreeMap::new();
    for (name, service) in all["services"].as_object().unwrap() {
        for port in entries(&service["ports"]) {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
            assert_eq!(port["published"].as_str().unwrap(), port["target"].to_string(), "{name}");
            published.insert(name.as_str(), port["published"].as_str().unwrap());
            // A port of an internal network is published to nobody.
            let open = |network: &String| all["networks"][network]["internal"] != true;
            assert!(names(&service["networks"]).iter().any(open), "{name}");
        }
    }
    assert_eq!(published, listens);
}

/// Who is asked by a name is a service of that name in the same network, and has what it is asked for.
#[test]
fn services_find_each_other() {
    let all = composed();
    let service = |name: &str| {
        let found = &all["services"][name];
        assert!(found.is_object(), "there is no {name}");
        found
    };
    let meet = |one: &str, other: &str| {
        let [one_s, other_s] = [one, other].map(|name| names(&service(name)["networks"]));
        assert!(!one_s.is_disjoint(&other_s), "{one} does not reach {other}");
    };
    for (scheme, port, database) in [("postgresql", "5432", "POSTGRES_DB"), ("mysql", "3306", "MYSQL_DATABASE")] {
        let url = line(CONFIGURATION, &format!("url = \"{scheme}://pontoon@"));
        let (host, rest) = url.split_once(':').unwrap();
        let (at, rest) = rest.split_once('/').unwrap();
        assert_eq!((at, rest.split('?').next()), (port, service(host)["environment"][database].as_str()), "{url}");
        for ours in ["setup", "copy", "pontoon"] {
            meet(ours, host);
        }
    }
    // Whom prometheus.yml asks is held to the port by tests/deploy.rs.
    meet("prometheus", "pontoon");
    let (host, port) = line(DATASOURCE, "url: http://").split_once(':').unwrap();
    meet("grafana", host);
    assert_eq!(port, entries(&service(host)["ports"]).next().unwrap()["target"].to_string());

    let grafana = service("grafana");
    let home = &grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(grafana["configs"], json!([{ "source": "dashboard", "target": home }]));
    assert_eq!(Path::new(home.as_str().unwrap()).parent(), Some(Path::new(line(DASHBOARDS, "path: "))));
}
