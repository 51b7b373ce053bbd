//! A real Prometheus scrapes a bridge and its standby as `deploy/prometheus` has it: every query of the dashboard shows something of a bridge under load, and every
//! rule is evaluated. (`tests/deploy.rs` shows when alerts fire; here it is that real series have what both ask for.)

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pontoon_servers::{Encryption, Kind, Options};
use serde_json::Value as Json;

use crate::{
    commands::{get, time},
    support::{Bridge, DEADLINE, Link, LinkOptions, eventually, first_pairing},
};

first_pairing!(shows_a_bridge_under_load);

const SCRAPE: &str = include_str!("../../deploy/prometheus/prometheus.yml");
const RULES: &str = include_str!("../../deploy/prometheus/rules.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/pontoon.json");

/// The panels that may show nothing but zeros of this bridge: nothing of what they are about happens.
const ALL_ZERO: [&str; 2] = ["Ties and loops", "Spill"];

/// Rows that both sides write: few, so that they meet.
const BOTH_WRITE: u32 = 5;

/// Rows that the first load brings over: for some seconds, at the rate that it is limited to.
const LOADED: u32 = 30_000;

/// A Prometheus, ended when dropped.
struct Prometheus {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
    /// In seconds since 1970.
    began: u64,
}

impl Prometheus {
    /// With the shipped files, but for the addresses of the bridge's two processes, its name, and the interval: a test has no
    /// minutes to wait for a rate.
    fn start(pages: [&str; 2]) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let mut scrape = SCRAPE.to_owned();
        for (shipped, here) in [
            ("- bridge-1.example:9788", format!("- {}", pages[0])),
            ("- bridge-2.example:9788", format!("- {}", pages[1])),
            ("bridge: shop-stock\n", "bridge: e2e\n".to_owned()),
            ("scrape_interval: 15s", "scrape_interval: 1s".to_owned()),
            ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ] {
            assert!(scrape.contains(shipped), "{shipped} is not in prometheus.yml");
            scrape = scrape.replace(shipped, &here);
        }
        std::fs::write(folder.path().join("prometheus.yml"), scrape).unwrap();
        std::fs::write(folder.path().join("rules.yml"), RULES).unwrap();
        let address = free_address();
        let process = pontoon_servers::of_prometheus("prometheus")
            .unwrap()
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Prometheus { process, address, folder, began: time::now() }
    }

    /// Asks its API, once it answers.
    async fn ask(&self, path: &str) -> Json {
        let mut answer = Json::Null;
        eventually(&format!("Prometheus answers {path}"), async || {
            let Some((_, body)) = get(&self.address, path).await else { return false };
            answer = serde_json::from_str(&body).unwrap_or_else(|_| Json::from(body));
            answer["status"] == "success" || answer["errorType"] == "bad_data"
        })
        .await;
        answer
    }

    /// What a graph of a query would show, from the start until now: of each series the values, but for those that are not known.
    async fn graph(&self, query: &str) -> Vec<Vec<f64>> {
        let (from, to, query) = (self.began, time::now(), utf8_percent_encode(query, NON_ALPHANUMERIC));
        let answer = self.ask(&format!("/api/v1/query_range?query={query}&start={from}&end={to}&step=1")).await;
        let Some(found) = answer["data"]["result"].as_array() else { panic!("{query}: {answer:#}") };
        let number = |sample: &Json| sample[1].as_str().unwrap().parse::<f64>().unwrap();
        let values = |series: &Json| {
            series["values"].as_array().unwrap().iter().map(number).filter(|value| !value.is_nan()).collect()
        };
        found.iter().map(values).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- the log of Prometheus:\n{log}");
        }
    }
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A bridge with something to show in each panel: TLS, a slot with a limit, a column with a rule for what the other side cannot hold, and rows that are refused.
async fn link(kinds: [Kind; 2], page: &str) -> Link {
    let of_postgres = Options::default().encryption(Encryption::Private).setting("max_slot_wal_keep_size", "1GB");
    let configuration = format!(
        "[server]\nlisten = \"{page}\"\n[[tables]]\nname = \"items\"\n[tables.columns]\nnote = {{ too_long = \"cut\" }}\n"
    );
    let servers = kinds.map(|kind| if kind == Kind::Postgres { of_postgres.clone() } else { Options::default() });
    let link = Link::start(kinds, LinkOptions { servers, configuration }).await;
    let (postgres, mysql) = (link.postgres().0, link.mysql().0);
    postgres.create("items", "id bigint PRIMARY KEY, quantity int NOT NULL, note varchar(40)").await;
    mysql.create("items", "id bigint PRIMARY KEY, quantity int NOT NULL CHECK (quantity >= 0), note varchar(10)").await;
    for statement in [
        format!("INSERT INTO items SELECT n, 1, 'of before' FROM generate_series(1, {BOTH_WRITE}) n"),
        format!("INSERT INTO items SELECT 1000000 + n, 1, 'loaded' FROM generate_series(1, {LOADED}) n"),
        "ANALYZE items".to_owned(),
    ] {
        postgres.run(&statement).await;
    }
    let port = postgres.server.port();
    link.edit(&format!(":{port}/shop\""), &format!(":{port}/shop?sslmode=require\""));
    link
}

/// The bridge's other process, on the same host with a page of its own.
fn standby(link: &Link, page: &str, own: &str) -> Bridge {
    let folder = link.folder.path().join("standby");
    std::fs::create_dir(&folder).unwrap();
    let text = std::fs::read_to_string(link.config()).unwrap().replace(page, own);
    std::fs::write(folder.join("pontoon.toml"), text).unwrap();
    Bridge::start(&folder.join("pontoon.toml"), &folder)
}

async fn shows_a_bridge_under_load(kinds: [Kind; 2]) {
    let pages = [free_address(), free_address()];
    let link = link(kinds, &pages[0]).await;
    link.succeed(&["setup"]).await;
    let bridge = link.run();
    bridge.works().await;
    let other = standby(&link, &pages[0], &pages[1]);
    let prometheus = Prometheus::start([&pages[0], &pages[1]]);
    // Rates are of what Prometheus has seen happen.
    eventually("both are scraped", async || prometheus.graph("up == 1").await.len() == 2).await;

    let stop = Arc::new(AtomicBool::new(false));
    let writers = link.nodes().map(|node| {
        let of_postgres = node.is_postgres();
        node.application(&stop, Duration::from_millis(20), move |number| writes(number, of_postgres))
    });
    tokio::join!(what_happens(&link), every_panel_has_data(&prometheus));
    every_rule_is_evaluated(&prometheus).await;
    no_metric_is_ill_named(&pages[0]).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!((bridge.stop().await, other.stop().await), (0, 0));
}

/// What an application of either side writes: rows that the other one writes too, and rows of its own.
fn writes(number: u32, of_postgres: bool) -> Vec<String> {
    let own = 1000 + 2 * number + u32::from(of_postgres);
    let note = if of_postgres { "longer than the other side holds" } else { "short" };
    vec![
        format!("UPDATE items SET quantity = quantity + 1 WHERE id = {}", 1 + number % BOTH_WRITE),
        format!("INSERT INTO items VALUES ({own}, 1, '{note}')"),
        format!("DELETE FROM items WHERE id = {}", own.saturating_sub(20)),
    ]
}

/// A first load that takes some seconds, a comparison that finds both sides equal, a row that is refused, a comparison that finds it, a connection
/// that breaks, and a limit that holds back.
async fn what_happens(link: &Link) {
    let source = link.postgres().1;
    let target = link.mysql().1;
    link.succeed(&["throttle", &format!("{source}->{target}"), "--rows-per-second", "5000"]).await;
    link.succeed(&["copy", "--from", source, "--merge"]).await;
    link.succeed(&["throttle", "--off"]).await;
    link.succeed(&["verify"]).await;
    link.postgres().0.run("INSERT INTO items VALUES (100, -1, 'refused')").await;
    link.settle().await;
    assert_eq!(link.command(&["verify"]).await.code, 1, "the row in quarantine is on one side alone");
    link.postgres().0.run("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").await;
    link.succeed(&["throttle", &format!("{target}->{source}"), "--rows-per-second", "10"]).await;
}

/// A panel that has not shown all yet.
struct Panel<'a> {
    title: &'a str,
    /// Its queries that have given no value so far.
    empty: Vec<String>,
    all_zero: bool,
    queries: Vec<String>,
}

fn panels<'a>(dashboard: &'a Json) -> Vec<Panel<'a>> {
    // What Grafana puts in.
    let query =
        |target: &Json| target["expr"].as_str().unwrap().replace("$__rate_interval", "10s").replace("$bridge", "e2e");
    let panel = |panel: &'a Json| {
        let title = panel["title"].as_str().unwrap();
        let queries: Vec<_> = panel["targets"].as_array().unwrap().iter().map(query).collect();
        Panel { title, empty: queries.clone(), all_zero: !ALL_ZERO.contains(&title), queries }
    };
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").map(panel).collect()
}

/// Each query has to show something at some moment, and one of each panel more than zero.
async fn every_panel_has_data(prometheus: &Prometheus) {
    let dashboard: Json = serde_json::from_str(DASHBOARD).unwrap();
    let mut left = panels(&dashboard);
    assert!(left.len() > 40, "{}", left.len());
    let began = std::time::Instant::now();
    while !left.is_empty() {
        let titles: Vec<_> = left.iter().map(|panel| (panel.title, &panel.empty)).collect();
        assert!(began.elapsed() < 2 * DEADLINE, "these panels show nothing, or zeros alone: {titles:#?}");
        for panel in &mut left {
            for query in &panel.queries {
                let values = prometheus.graph(query).await.concat();
                panel.all_zero &= values.iter().all(|value| *value == 0.0);
                if !values.is_empty() {
                    panel.empty.retain(|empty| empty != query);
                }
            }
        }
        left.retain(|panel| !panel.empty.is_empty() || panel.all_zero);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn every_rule_is_evaluated(prometheus: &Prometheus) {
    let expected: BTreeSet<&str> = RULES.split("- alert: ").skip(1).map(|rule| rule.lines().next().unwrap()).collect();
    let mut rules = Vec::new();
    eventually("every rule has been evaluated", async || {
        let answer = prometheus.ask("/api/v1/rules").await;
        rules = answer["data"]["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")
    })
    .await;
    assert_eq!(rules.len(), RULES.matches("- alert: ").count());
    assert_eq!(rules.iter().map(|rule| rule["name"].as_str().unwrap()).collect::<BTreeSet<_>>(), expected);
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule:#}");
        prometheus.graph(rule["query"].as_str().unwrap()).await;
    }
    let is = |name: &str, state: &str| rules.iter().any(|rule| rule["name"] == name && rule["state"] == state);
    assert!(is("PontoonQuarantine", "pending") && is("PontoonDifferent", "firing"), "{rules:#?}");
}

/// As promtool says it of what a real page holds.
async fn no_metric_is_ill_named(page: &str) {
    let (_, metrics) = get(page, "/metrics").await.unwrap();
    let mut promtool = pontoon_servers::of_prometheus("promtool").unwrap();
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = promtool.spawn().unwrap();
    let mut to = process.stdin.take().unwrap();
    let ended = tokio::task::spawn_blocking(move || {
        to.write_all(metrics.as_bytes()).unwrap();
        drop(to);
        process.wait_with_output().unwrap()
    });
    let ended = ended.await.unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ended.status.success() && said.is_empty(), "{said}");
}
