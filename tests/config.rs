//! The configuration from outside: what loads, what is refused and in which words, and what tables a
//! file comes to on two databases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use pontoon::{
    config::{
        Absent, Accept, ApplyOrder, Config, Conflict, Direction, Environment, Invalid, Present, Scheme, TableChoice,
    },
    side::Side,
};
use pontoon_core::{Code, Error, TableName};

const PASSWORD: &str = "hunter2-never-shown";

const TOKEN: &str = "0123456789abcdef-never-shown";

fn variable(name: &str) -> Option<String> {
    match name {
        "CREDENTIALS_DIRECTORY" => Some("/run/credentials".into()),
        "SHOP_PASSWORD" | "STOCK_PASSWORD" => Some(PASSWORD.into()),
        "HOME" => Some("/home/ann".into()),
        "SHOP_HOST" => Some("[::1]:5433".into()),
        "SHOP_URL" => Some(format!("postgresql://ann:{PASSWORD}@db:5433/shop?sslmode=require")),
        "PORT" => Some("8080".into()),
        "OFF" => Some("off".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn read(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/run/credentials/shop") => Ok(format!("{PASSWORD}\n")),
        Some("/etc/pontoon/secret") => Ok(PASSWORD.into()),
        Some("/run/credentials/empty") => Ok("\n".into()),
        Some("/run/credentials/token") => Ok(format!("{TOKEN}\n")),
        Some("/etc/pontoon/short") => Ok("0123456789abcde".into()),
        Some("/etc/pontoon/spaced") => Ok("0123456789 abcdef".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn environment() -> Environment<'static> {
    Environment { variable: &variable, read: &read }
}

fn parse(text: &str) -> Result<Config, Invalid> {
    Config::parse(text, "pontoon.toml", &environment())
}

/// A small good file, with `more` at its end.
fn with(more: &str) -> String {
    format!(
        "bridge = \"b\"\n\
         nodes.shop = {{ url = \"postgresql://ann@db/shop\" }}\n\
         nodes.stock = {{ url = \"mysql://ann@db/stock\" }}\n\
         {more}"
    )
}

fn refusal(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(invalid) => invalid.to_string(),
    }
}

#[test]
fn the_sample_loads_and_shows_the_defaults() {
    let sample = parse(Config::sample()).unwrap();
    assert_eq!(sample.warnings, Vec::<String>::new());
    assert_eq!(sample.bridge.as_str(), "shop-stock");
    let [shop, stock] = Side::BOTH.map(|side| sample.node_options(side));
    assert_eq!((shop.name.as_str(), stock.name.as_str()), ("shop", "stock"));
    assert_eq!(shop.url, "postgresql://pontoon@127.0.0.1:5432/shop?sslmode=verify-full");
    assert_eq!(shop.password.unwrap().reveal(), PASSWORD);
    assert_eq!(stock.password.unwrap().reveal(), PASSWORD);
    assert_eq!(sample.node(Side::B).scheme, Scheme::Mysql);
    assert_eq!(sample.node(Side::B).default_schema(), "shop");

    let bare = parse(&with("[[tables]]\nname = \"customers\"\n")).unwrap();
    assert_eq!(bare.defaults, sample.defaults);
    assert_eq!(bare.limits, sample.limits);
    assert_eq!(bare.server, sample.server);
    assert_eq!(bare.node(Side::A).priority, sample.node(Side::A).priority);
    assert_eq!(bare.tables[0].accept, sample.tables[0].accept);

    assert_eq!(bare.limits.memory_bytes, 16 << 20);
    assert_eq!(bare.limits.spill_bytes, 10 << 30);
    assert_eq!(bare.limits.rows_per_second, None);
    let limited = parse(&with("[[tables]]\nname = \"t\"\n[limits]\nrows_per_second = 500\n")).unwrap();
    assert_eq!(limited.limits.rows_per_second, std::num::NonZeroU64::new(500));
    assert_eq!(limited.limits.verify_rows_per_second, None);
    assert_eq!(bare.limits.spill_dir, Path::new("/home/ann/.local/state/pontoon"));
    assert_eq!(bare.limits.apply_order, ApplyOrder::Commit);
    assert_eq!(bare.server.listen.as_deref(), Some("127.0.0.1:9787"));
    assert_eq!(bare.defaults.conflict, Conflict::LastWriterWins);
    assert_eq!(bare.defaults.direction, Direction::Both);
}

/// When nothing is applied; what would be without effect, or cannot be meant, is said.
#[test]
fn what_holds_back() {
    let file = |replicas: &str, limits: &str| {
        let text = with(&format!("[[tables]]\nname = \"t\"\n[limits]\n{limits}"));
        text.replace("/stock\" }", &format!("/stock\"{replicas} }}"))
    };
    let replicas = ", replicas = [\"stock-2.example:3306\", \"10.0.0.2:3307\", \"[2001:db8::2]:3306\"]";
    let limits =
        "target_replica_lag = 2.5\ntarget_load = 25\nwindows = [\"Mon-Fri 22:00-06:00\", \"Sun 00:00-24:00\"]\n";
    let config = parse(&file(replicas, limits)).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.limits.target_replica_lag, Some(Duration::from_millis(2500)));
    assert_eq!(config.limits.target_load, Some(25));
    assert!(!config.limits.windows.is_none());
    let hosts: Vec<_> = config.node(Side::B).replicas.iter().map(|(host, port)| (host.as_str(), *port)).collect();
    assert_eq!(hosts, [("stock-2.example", 3306), ("10.0.0.2", 3307), ("2001:db8::2", 3306)]);
    let two = |text: String| text.replace("postgresql://ann@db/shop", "mysql://ann@db/shop");
    let warned = parse(&two(file("", limits))).unwrap().warnings;
    assert!(warned.len() == 1 && warned[0].contains("no node names its replicas"), "{warned:?}");
    assert!(parse(&two(file(replicas, limits))).unwrap().warnings.is_empty());

    let said = refusal(&file("", "windows = [\"22:00-06:00 Europe/Berlin\"]\n"));
    assert!(said.contains("limits.windows") && said.contains("is no window"), "{said}");
    let said = refusal(&file(", replicas = [\"stock-2.example\"]", ""));
    assert!(said.contains("nodes.stock.replicas") && said.contains("no host with a port"), "{said}");
    let said = refusal(&file(replicas, "").replace("mysql://ann@db/stock", "postgresql://ann@db/stock"));
    assert!(said.contains("nodes.stock.replicas: is not asked of a PostgreSQL server"), "{said}");
    assert!(refusal(&file("", "target_load = 0\n")).contains("limits.target_load"));
}

/// The page listens where others reach it with TLS and the token alone; whoever reaches `metrics_listen` needs nothing.
#[test]
fn the_page_is_for_this_host_unless_it_is_guarded() {
    let made = rcgen::generate_simple_self_signed(["bridge.example".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("page.crt"), folder.path().join("page.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls_cert = \"{}\"\ntls_key = \"{}\"\n", certificate.display(), key.display());
    let token = "token_file = \"${CREDENTIALS_DIRECTORY}/token\"\n";
    let file = |server: &str| with(&format!("[[tables]]\nname = \"t\"\n[server]\n{server}"));
    let far =
        parse(&file(&format!("listen = \"0.0.0.0:9787\"\nhost_names = [\"bridge.example\"]\n{tls}{token}"))).unwrap();
    assert!(far.server.tls.is_some() && !far.server.is_local());
    assert_eq!(far.server.token.as_ref().map(|token| token.reveal()), Some(TOKEN));
    assert!(!format!("{far:?}").contains(TOKEN));
    assert_eq!(far.server.host_names, ["bridge.example"]);
    assert!(parse(&file(&format!("listen = \"0.0.0.0:9787\"\n{tls}"))).is_err(), "the token is missing");
    assert!(parse(&file(&format!("listen = \"0.0.0.0:9787\"\n{token}"))).is_err(), "the token would go in the clear");
    let invalid = parse(&file("listen = \"10.1.2.3:9787\"\n")).unwrap_err();
    let hint = Error::from(invalid).remedy().unwrap().to_owned();
    assert!(hint.contains("give token_file, tls_cert, tls_key") && hint.contains("metrics_listen = "), "{hint}");
    let near = parse(&file(&format!("metrics_listen = \"0.0.0.0:9788\"\n{token}"))).unwrap();
    assert!(near.server.is_local() && near.server.tls.is_none());
    assert_eq!(near.server.metrics_listen.as_deref(), Some("0.0.0.0:9788"));
    assert!(parse(&file("listen = \"off\"\nmetrics_listen = \"[::]:0\"\n")).unwrap().server.listen.is_none());
}

/// The examples of the README are files that load.
#[test]
fn the_readme_s_examples_load() {
    let readme = include_str!("../README.md");
    let examples: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let config = parse(example).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

/// The configurations that are deployed are files that load, whatever their passwords are.
#[test]
fn the_examples_of_deployments_load() {
    let password = |_: &Path| Ok(PASSWORD.into());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page-cert"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("page-key"), made.signing_key.serialize_pem()).unwrap();
    let credentials = folder.path().to_str().unwrap().to_owned();
    let variable =
        |name: &str| if name == "CREDENTIALS_DIRECTORY" { Some(credentials.clone()) } else { variable(name) };
    let environment = Environment { variable: &variable, read: &password };
    for example in ["docker/pontoon.toml", "deploy/systemd/shop-stock.toml", "deploy/kubernetes/common/pontoon.toml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(example)).unwrap();
        let config = Config::parse(&text, example, &environment).unwrap_or_else(|invalid| panic!("{invalid}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        for side in Side::BOTH {
            assert_eq!(config.node_options(side).password.unwrap().reveal(), PASSWORD, "{example}");
        }
    }
}

/// Every command that the README names is one.
#[test]
fn the_readme_s_commands_exist() {
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `pontoon "));
    let named: Vec<&str> = rows.filter_map(|row| row.split([' ', '`']).next()).collect();
    assert!(named.len() > 8, "{named:?}");
    for command in named {
        let help = pontoon::cli::arguments_from(["pontoon", command, "--help"]).unwrap_err();
        assert_eq!(help.exit_code(), 0, "{command}: {help}");
    }
}

#[test]
fn the_sample_has_every_key() {
    let page = Config::reference();
    let mut keys = 0;
    for line in page.split("## A sample").next().unwrap().lines().filter(|line| line.starts_with("| `")) {
        let key = line.split('`').nth(1).unwrap();
        assert!(Config::sample().contains(key), "{key} is not in the sample");
        keys += 1;
    }
    assert!(keys > 20, "{keys}");
}

/// The places of all keys in the sample, headers' parts and the keys of inline tables included.
fn keys_of(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut keys = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split('#').next().unwrap();
        let mut word = |from: usize, text: &str| {
            let mut at = from;
            for part in text.split('.') {
                keys.push(start + at..start + at + part.len());
                at += part.len() + 1;
            }
        };
        if let Some(header) = code.trim_end().strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            word(2, header);
        } else if let Some(header) = code.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            word(1, header);
        } else if let Some((key, value)) = code.split_once('=') {
            word(0, key.trim_end());
            // The names of columns are free.
            if value.trim_start().starts_with('{') && key.trim_end() != "columns" {
                for (at, _) in value.match_indices(" = ") {
                    let before = &value[..at];
                    let from = before.rfind([' ', ',', '{']).unwrap() + 1;
                    word(key.len() + 1 + from, &before[from..]);
                }
            }
        }
        start += line.len();
    }
    keys
}

/// Every text that is one slip away: a character left out, doubled, exchanged with its neighbour,
/// replaced or put in.
fn slips(word: &str) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    let mut slips = Vec::new();
    let mut put = |chars: Vec<char>| slips.push(chars.into_iter().collect::<String>());
    for at in 0..=chars.len() {
        for c in ['a', 's', 'x', '7', '_', '-', '.', 'é', '"'] {
            let mut more = chars.clone();
            more.insert(at, c);
            put(more);
            if at < chars.len() {
                let mut other = chars.clone();
                other[at] = c;
                put(other);
            }
        }
        if at < chars.len() {
            let mut less = chars.clone();
            less.remove(at);
            put(less);
            let mut upper = chars.clone();
            upper[at] = upper[at].to_ascii_uppercase();
            put(upper);
        }
        if at + 1 < chars.len() {
            let mut swapped = chars.clone();
            swapped.swap(at, at + 1);
            put(swapped);
        }
    }
    slips.sort();
    slips.dedup();
    slips.retain(|slip| slip != word);
    slips
}

#[test]
fn every_slip_in_a_key_is_refused_with_its_place() {
    let sample = Config::sample();
    let keys = keys_of(sample);
    assert!(keys.len() >= 25, "{}", keys.len());
    let (mut mutants, mut suggested, mut slowest) = (0, 0, Duration::ZERO);
    for key in keys {
        let line = sample[..key.start].matches('\n').count() + 1;
        for slip in slips(&sample[key.clone()]) {
            let mutant = format!("{}{slip}{}", &sample[..key.start], &sample[key.end..]);
            let began = Instant::now();
            let result = parse(&mutant);
            let took = began.elapsed();
            // Beyond the limit, another process may have had the processor.
            slowest = slowest.max(if took < REFUSED_WITHIN { took } else { time_of(|| parse(&mutant)) });
            let Err(invalid) = result else { panic!("accepted: line {line}: {slip}") };
            let error = Error::from(invalid.clone());
            assert_eq!(error.code(), Code::Config);
            let mut parts = error.message().split(':');
            assert_eq!(parts.next(), Some("pontoon.toml"), "{error}");
            let numbers = [parts.next(), parts.next()].map(|part| part.and_then(|part| part.parse::<usize>().ok()));
            assert!(numbers.iter().all(|number| number.is_some_and(|number| number > 0)), "{error}");
            assert!(!error.message().contains('\n'), "{error}");
            // Names of nodes are free: the slip shows where the node is spoken of.
            let told_there =
                invalid.problems().iter().any(|problem| problem.place.is_some_and(|place| place.line == line));
            let is_node = sample[key.clone()].starts_with("sho") || sample[key.clone()].starts_with("sto");
            assert!(told_there || is_node, "line {line}, {slip}: {invalid}");
            suggested += usize::from(error.message().contains("did you mean"));
            mutants += 1;
        }
    }
    println!("{mutants} mutants, {suggested} with a suggestion, slowest {slowest:?}");
    assert!(mutants >= 500, "{mutants}");
    assert!(suggested * 10 >= mutants * 6, "{suggested} of {mutants}");
    assert!(slowest < REFUSED_WITHIN, "{slowest:?}");
}

/// How soon a configuration is refused.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

/// How long something takes where nothing else has the processor: the least of a few.
fn time_of<T>(work: impl Fn() -> T) -> Duration {
    let timed = || {
        let began = Instant::now();
        std::hint::black_box(work());
        began.elapsed()
    };
    (0..3).map(|_| timed()).min().unwrap()
}

#[test]
fn refusals_name_place_key_and_remedy() {
    let tables = "[[tables]]\nname = \"t\"\n";
    let cases: Vec<(String, &str)> = vec![
        (
            with("[[tables]]\nname = \"t\"\n[limits]\nmemroy_mib = 1\n"),
            "pontoon.toml:7:1: limits.memroy_mib: unknown key; did you mean \"memory_mib\"?",
        ),
        (with("[[tables]]\nname = \"t\"\n[limit]\n"), "pontoon.toml:6:2: limit: unknown key; did you mean \"limits\"?"),
        (
            with("[[tables]]\nname = \"t\"\nready_lag_seconds = 3\n"),
            "pontoon.toml:6:1: tables.ready_lag_seconds: unknown key; it belongs to [server]",
        ),
        (with("[[tables]]\nnome = \"t\"\n"), "pontoon.toml:5:1: tables.nome: unknown key; did you mean \"name\"?"),
        (with("[[tables]]\nconflict = \"prefer:shop\"\n"), "pontoon.toml:4:1: tables.name: is missing"),
        (with("[[tables]]\nname = \"t\"\nname = \"u\"\n"), "pontoon.toml:6:1: duplicate key"),
        (with("[tables]\nname = \"t\"\n"), "tables: must be a list of tables [[tables]], found a table"),
        (with("tables = []\n"), "pontoon.toml:4:10: tables: is empty"),
        (with(""), "pontoon.toml:1:1: tables: is missing"),
        (with("[[tables]]\nname = \"\"\n"), "pontoon.toml:5:8: tables.name: \"\" is no table name"),
        (with("[[tables]]\nname = \"a.b.c\"\n"), "more than one dot"),
        (with("[[tables]]\nname = 'a\\b'\n"), "a backslash stands before"),
        (
            with(&format!("{tables}[[tables]]\nname = \"t\"\n")),
            "pontoon.toml:7:8: tables.name: \"t\" stands here for the second time; first at line 5",
        ),
        (
            with("[[tables]]\nname = { shop = \"t\" }\n"),
            "pontoon.toml:5:8: tables.name: says nothing of node \"stock\"",
        ),
        (
            with("[[tables]]\nname = { shop = \"t\", stok = \"t\" }\n"),
            "pontoon.toml:5:22: tables.name.stok: there is no node \"stok\"; did you mean \"stock\"?",
        ),
        (with("[[tables]]\nname = { shop = \"a*\", stock = \"b\" }\n"), "stars that do not correspond"),
        (
            with("[[tables]]\nname = \"t\"\nconflict = \"prefer:stok\"\n"),
            "pontoon.toml:6:12: tables.conflict: there is no node \"stok\"; did you mean \"stock\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\nconflict = \"last_write_wins\"\n"),
            "\"last_write_wins\" is no rule for conflicts; did you mean \"last_writer_wins\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\nconflict = \"column_merg\"\n"),
            "pontoon.toml:6:12: tables.conflict: \"column_merg\" is no rule for conflicts; did you mean \"column_merge\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\non_error = \"stopp\"\n"),
            "pontoon.toml:6:12: tables.on_error: \"stopp\" does not say what becomes of a refused row; did you mean \"stop\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\nunique_conflict = \"rules\"\n"),
            "pontoon.toml:6:19: tables.unique_conflict: \"rules\" does not say what becomes of two rows that cannot both live; did you mean \"rule\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\nforeign_key = \"delete\"\n"),
            "pontoon.toml:6:15: tables.foreign_key: \"delete\" does not say what becomes of a row that refers to a removed one",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = \"aditive\" }\n"),
            "pontoon.toml:6:17: tables.columns.n: \"aditive\" is no rule for a column; did you mean \"additive\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { rule = \"min\", floor = 0 } }\n"),
            "pontoon.toml:6:41: tables.columns.n.floor: is for additive columns alone",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { floor = 0 } }\n"),
            "tables.columns.n.floor: is for additive columns alone",
        ),
        (with("[[tables]]\nname = \"t\"\ncolumns = { n = { } }\n"), "tables.columns.n: has no rule"),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { stok = \"m\" } }\n"),
            "tables.columns.n.stok: is no part of a column's rule; did you mean \"stock\"?",
        ),
        (with("[[tables]]\nname = \"t\"\ncolumns = { n = { stock = \"\" } }\n"), "tables.columns.n.stock: is empty"),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { m = { stock = \"n\" }, n = \"min\" }\n"),
            "tables.columns.n: is \"n\" on stock, and so is \"m\"",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { rule = \"ignore\" } }\n"),
            "tables.columns.n.rule: \"ignore\" is no rule for a column",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { zero_date = \"nul\" } }\n"),
            "tables.columns.n.zero_date: \"nul\" is nothing that zero_date can be; did you mean \"null\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { zero_dat = \"null\" } }\n"),
            "tables.columns.n.zero_dat: is no part of a column's rule; did you mean \"zero_date\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { rule = \"additive\", flor = 0 } }\n"),
            "tables.columns.n.flor: is no part of a column's rule; did you mean \"floor\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = { rule = \"additive\", floor = \"0\" } }\n"),
            "tables.columns.n.floor: must be a number",
        ),
        (
            with("[[tables]]\nname = \"t\"\ncolumns = { n = \"prefer:stok\" }\n"),
            "tables.columns.n: there is no node \"stok\"; did you mean \"stock\"?",
        ),
        (
            with("[[tables]]\nname = \"t\"\ndirection = \"shop->shop\"\n"),
            "pontoon.toml:6:13: tables.direction: \"shop->shop\" goes from a node to itself",
        ),
        (with("[[tables]]\nname = \"t\"\ndirection = \"shop-stock\"\n"), "\"shop-stock\" is no direction"),
        (with("[[tables]]\nname = \"t\"\ndirection = \"shp->stock\"\n"), "no node \"shp\"; did you mean \"shop\"?"),
        (
            with("[[tables]]\nname = \"t\"\naccept = [\"generated-key\"]\n"),
            "pontoon.toml:6:11: tables.accept: \"generated-key\" is no finding that can be accepted; did you mean \"generated-keys\"?",
        ),
        (with("[[tables]]\nname = \"t\"\naccept = \"generated-keys\"\n"), "must be a list of texts"),
        (with(&format!("{tables}[limits]\nmemory_mib = 0\n")), "a whole number from 1 to 65536, found 0"),
        (with(&format!("{tables}[limits]\nrows_per_second = 0\n")), "a whole number from 1 to 1000000000, found 0"),
        (with(&format!("{tables}[limits]\nmemory_mib = \"16\"\n")), "a whole number from 1 to 65536, found a text"),
        (with(&format!("{tables}[limits]\nmemory_mib = 99999999999999999999\n")), "limits.memory_mib"),
        (with(&format!("{tables}[limits]\nspill_gib = -1\n")), "must be a number above 0"),
        (with(&format!("{tables}[limits]\nspill_gib = nan\n")), "must be a number above 0"),
        (with(&format!("{tables}[limits]\nappliers = 65\n")), "from 1 to 64, found 65"),
        (with(&format!("{tables}[limits]\napply_order = \"comit\"\n")), "did you mean \"commit\"?"),
        (with(&format!("{tables}[limits]\nspill_dir = \"${{NOWHERE}}/x\"\n")), "NOWHERE is not set"),
        (with(&format!("{tables}[server]\nlisten = \"9787\"\n")), "is no address with a port"),
        (with(&format!("{tables}[server]\nlisten = \"of\"\n")), "did you mean \"off\"?"),
        (
            with(&format!("{tables}[server]\nlisten = \"0.0.0.0:9787\"\n")),
            "pontoon.toml:7:10: server.listen: other hosts reach this address, and token_file, tls_cert, tls_key is missing",
        ),
        (
            with(&format!("{tables}[server]\nlisten = \"db-1:9787\"\ntoken_file = \"/run/credentials/token\"\n")),
            "server.listen: other hosts reach this address, and tls_cert, tls_key is missing",
        ),
        (with(&format!("{tables}[server]\nlisten = \"[::]:9787\"\n")), "server.listen: other hosts reach this address"),
        (
            with(&format!("{tables}[server]\nmetrics_listen = \"9787\"\n")),
            "server.metrics_listen: \"9787\" is no address",
        ),
        (
            with(&format!("{tables}[server]\nmetrics_listen = \"127.0.0.1:9787\"\n")),
            "server.metrics_listen: is listen too",
        ),
        (with(&format!("{tables}[server]\ntls_cert = \"/x\"\n")), "server.tls_cert: stands alone"),
        (with(&format!("{tables}[server]\ntls_key = \"/x\"\n")), "server.tls_key: stands alone"),
        (
            with(&format!("{tables}[server]\ntls_cert = \"/no/such.crt\"\ntls_key = \"/no/such.key\"\n")),
            "server.tls_cert: /no/such.crt cannot be read",
        ),
        (
            with(&format!("{tables}[server]\ntoken_file = \"/etc/pontoon/short\"\n")),
            "server.token_file: what the file holds is no token",
        ),
        (
            with(&format!("{tables}[server]\ntoken_file = \"/etc/pontoon/spaced\"\n")),
            "server.token_file: what the file holds is no token",
        ),
        (
            with(&format!("{tables}[server]\nhost_names = [\"https://b.example\"]\n")),
            "\"https://b.example\" is no name of a host",
        ),
        (
            with(&format!("{tables}[server]\nhost_names = \"b.example\"\n")),
            "server.host_names: must be a list of texts",
        ),
        (with(&format!("{tables}[server]\nready_lag_seconds = true\n")), "must be a number, found true or false"),
        (with(&format!("defaults = 3\n{tables}")), "pontoon.toml:4:12: defaults: must be a table [defaults]"),
        ("bridge = \"Shop\"\n".into(), "pontoon.toml:1:10: bridge: \"Shop\" is not 1 to 32 of the characters"),
        (format!("bridge = \"{}\"\n", "a".repeat(33)), "is not 1 to 32"),
        ("bridge = \"b\"\n[nodes.a]\nurl = \"mysql://u@h/d\"\n".into(), "exactly two nodes, found 1: a"),
        (
            with(&format!("{tables}[nodes.third]\nurl = \"mysql://u@h/d\"\n")),
            "pontoon.toml:6:8: nodes: a bridge has exactly two nodes, found 3: shop, stock, third",
        ),
        (
            "bridge = \"b\"\n[nodes.a]\n[nodes.b]\nurl = \"mysql://u@h/d\"\n".into(),
            "pontoon.toml:2:8: nodes.a.url: is missing",
        ),
        ("[nodes.\"a b\"]\nurl = \"mysql://u@h/d\"\n".into(), "is no name for a node"),
        (
            "[nodes.a]\nurl = \"mysql://u@h/d\"\n[nodes.b]\nurl = \"mariadb://v@h:3306/d\"\n".into(),
            "pontoon.toml:3:8: nodes.b.url: a and b are the same database",
        ),
        ("[nodes.a]\nurl = \"oracle://u@h/d\"\n".into(), "pontoon.toml:2:7: nodes.a.url: unknown scheme oracle://"),
        ("[nodes.a]\nurl = 7\n".into(), "nodes.a.url: must be a text in quotes, found a whole number"),
        (
            "[nodes.a]\npriority = 1.5\n".into(),
            "nodes.a.priority: must be a whole number, found a number with a fraction",
        ),
        ("bridge = \n".into(), "pontoon.toml:1:10: "),
        ("bridge \"b\"\n".into(), "pontoon.toml:1:8: "),
        ("".into(), "pontoon.toml:1:1: bridge: is missing"),
    ];
    for (text, says) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(says), "expected {says:?}, got\n{refusal}\nfor\n{text}");
    }
}

#[test]
fn what_is_mistyped_is_told_before_what_follows_from_it() {
    let invalid = parse("brigde = \"b\"\n").unwrap_err();
    assert_eq!(invalid.problems().len(), 4, "{invalid}");
    let error = Error::from(invalid);
    assert_eq!(error.message(), "pontoon.toml:1:1: brigde: unknown key; did you mean \"bridge\"?");
    assert_eq!(
        error.remedy().unwrap(),
        "the keys of the top of the file are bridge, nodes, defaults, tables, limits, server"
    );
}

#[test]
fn passwords_come_from_one_place_and_are_never_shown() {
    let node = |keys: &str| {
        format!("bridge = \"b\"\n[nodes.b]\nurl = \"mysql://u@h/d\"\n[[tables]]\nname = \"t\"\n[nodes.a]\n{keys}\n")
    };
    let url = "url = \"postgresql://ann@db/shop\"";
    let good = |keys: &str| {
        let config = parse(&node(keys)).unwrap();
        assert!(!format!("{config:?}").contains(PASSWORD));
        (config.node_options(Side::A), config.warnings)
    };
    for keys in [
        format!("{url}\npassword_file = \"${{CREDENTIALS_DIRECTORY}}/shop\""),
        format!("{url}\npassword_file = \"/etc/pontoon/secret\""),
        format!("{url}\npassword_env = \"STOCK_PASSWORD\""),
    ] {
        let (options, warnings) = good(&keys);
        assert_eq!(options.password.unwrap().reveal(), PASSWORD, "{keys}");
        assert!(warnings.is_empty());
    }
    assert!(good(url).0.password.is_none());

    let (options, warnings) = good(&format!("url = \"postgresql://ann:{PASSWORD}@db/shop\""));
    assert_eq!(options.url, "postgresql://ann@db/shop");
    assert_eq!(options.password.unwrap().reveal(), PASSWORD);
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("pontoon.toml:7:7: nodes.a.url: holds a password"), "{warnings:?}");
    assert!(!warnings[0].contains(PASSWORD));

    for (keys, says) in [
        (
            format!("{url}\npassword_file = \"/etc/pontoon/secret\"\npassword_env = \"STOCK_PASSWORD\""),
            "pontoon.toml:9:1: nodes.a.password_env: password_file and password_env are both given",
        ),
        (
            format!("url = \"postgresql://ann:{PASSWORD}@db/shop\"\npassword_env = \"STOCK_PASSWORD\""),
            "pontoon.toml:7:7: nodes.a.url: holds a password, and password_env is given too",
        ),
        (
            format!("{url}\npassword_file = \"${{CREDENTIALS_DIRECTRY}}/shop\""),
            "pontoon.toml:8:17: nodes.a.password_file: the environment variable CREDENTIALS_DIRECTRY is not set",
        ),
        (format!("{url}\npassword_file = \"${{HOME/shop\""), "has a ${ without }"),
        (format!("{url}\npassword_file = \"${{EMPTY}}/shop\""), "EMPTY is not set"),
        (format!("{url}\npassword_file = \"/nowhere\""), "cannot read /nowhere"),
        (format!("{url}\npassword_file = \"/run/credentials/empty\""), "is empty"),
        (format!("{url}\npassword_env = \"{PASSWORD}\""), "is not the name of an environment variable"),
        (format!("{url}\npassword_env = \"NOT_SET\""), "NOT_SET is not set"),
        (format!("url = \"postgresql://ann:{PASSWORD}@db:x/shop\""), "port"),
        (format!("pasword = \"{PASSWORD}\"\n{url}"), "did you mean \"password_"),
        (format!("{url}\npassword_env = {PASSWORD}"), "pontoon.toml:8:"),
    ] {
        let invalid = parse(&node(&keys)).unwrap_err();
        assert!(invalid.to_string().contains(says), "expected {says:?}, got\n{invalid}");
        assert!(!invalid.to_string().contains("hunter2"), "{invalid}");
        assert!(!format!("{invalid:?}").contains("hunter2"), "{invalid:?}");
    }
}

#[test]
fn urls_and_the_address_to_listen_on_take_variables() {
    let file = |url: &str, listen: &str| {
        format!(
            "bridge = \"b\"\n[nodes.a]\nurl = \"{url}\"\n[nodes.b]\nurl = \"mysql://u@h/d\"\n[[tables]]\nname = \"t\"\n\
             [server]\nlisten = \"{listen}\"\n"
        )
    };
    for (url, is, password) in [
        ("postgresql://ann@${SHOP_HOST}/shop", "postgresql://ann@[::1]:5433/shop", None),
        ("postgresql://ann:${SHOP_PASSWORD}@${SHOP_HOST}/shop", "postgresql://ann@[::1]:5433/shop", Some(PASSWORD)),
        ("${SHOP_URL}", "postgresql://ann@db:5433/shop?sslmode=require", Some(PASSWORD)),
    ] {
        let config = parse(&file(url, "127.0.0.1:${PORT}")).unwrap();
        let options = config.node_options(Side::A);
        assert_eq!((options.url.as_str(), options.password.as_ref().map(|secret| secret.reveal())), (is, password));
        assert_eq!(config.server.listen.as_deref(), Some("127.0.0.1:8080"));
        // A password in a variable is not one that every reader of the file sees.
        assert_eq!(config.warnings, Vec::<String>::new(), "{url}");
        assert!(!format!("{config:?}").contains(PASSWORD));
    }
    assert_eq!(parse(&file("postgresql://u@h/d", "${OFF}")).unwrap().server.listen, None);

    let good = "postgresql://u@h/d";
    for (url, listen, says) in [
        (
            "postgresql://ann@${SHOP_HSOT}/shop",
            "off",
            "pontoon.toml:3:7: nodes.a.url: the environment variable SHOP_HSOT is not set",
        ),
        (
            "postgresql://ann@${EMPTY}/shop",
            "off",
            "pontoon.toml:3:7: nodes.a.url: the environment variable EMPTY is not set",
        ),
        ("postgresql://ann:hunter2${@db/shop", "off", "pontoon.toml:3:7: nodes.a.url: has a ${ without }"),
        (
            "postgresql://ann:${hunter2!}@db/shop",
            "off",
            "nodes.a.url: has a ${} that does not name an environment variable",
        ),
        ("postgresql://ann:${SHOP_PASSWORD}@db:x/shop", "off", "nodes.a.url: has a port that is no number"),
        ("mysql://ann@db/shop?${SHOP_PASSWORD}", "off", "nodes.a.url: has an unknown option; there are"),
        ("${SHOP_PASSWORD}", "off", "nodes.a.url: is not a URL"),
        (good, "${HOST}:9787", "pontoon.toml:9:10: server.listen: the environment variable HOST is not set"),
        (good, "127.0.0.1:${SHOP_PASSWORD}", "server.listen: \"127.0.0.1:${SHOP_PASSWORD}\" is no address with a port"),
    ] {
        let invalid = parse(&file(url, listen)).unwrap_err();
        assert!(invalid.to_string().contains(says), "expected {says:?}, got\n{invalid}");
        assert!(!format!("{invalid:?}").contains("hunter2"), "{invalid:?}");
    }
}

#[test]
fn a_relative_path_starts_at_the_file() {
    let text = with("[[tables]]\nname = \"t\"\n[limits]\nspill_dir = \"spill\"\n");
    let config = Config::parse(&text, "/etc/pontoon/a.toml", &environment()).unwrap();
    assert_eq!(config.limits.spill_dir, Path::new("/etc/pontoon/spill"));
}

#[test]
fn the_spill_folder_follows_the_environment() {
    let text = with("[[tables]]\nname = \"t\"\n");
    let folder = |set: &'static [(&'static str, &'static str)]| {
        let variable = move |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(&text, "pontoon.toml", &Environment { variable: &variable, read: &read })
            .map(|config| config.limits.spill_dir.display().to_string())
            .map_err(|invalid| invalid.to_string())
    };
    assert_eq!(
        folder(&[("STATE_DIRECTORY", "/var/lib/pontoon:/var/lib/x"), ("HOME", "/h")]).unwrap(),
        "/var/lib/pontoon"
    );
    assert_eq!(folder(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]).unwrap(), "/s/pontoon");
    assert_eq!(folder(&[("XDG_STATE_HOME", "relative"), ("HOME", "/h")]).unwrap(), "/h/.local/state/pontoon");
    assert!(folder(&[]).unwrap_err().contains("limits.spill_dir: is missing"));
}

#[test]
fn the_file_is_looked_for_where_the_contract_says() {
    let set = |name: &str| (name == "PONTOON_CONFIG").then(|| "/env.toml".to_owned());
    let environment = Environment { variable: &set, read: &read };
    assert_eq!(Config::find(Some(Path::new("x.toml")), &environment).unwrap(), Path::new("x.toml"));
    assert_eq!(Config::find(None, &environment).unwrap(), Path::new("/env.toml"));
    let invalid = Config::load(Some(Path::new("/nowhere/p.toml"))).unwrap_err();
    assert!(invalid.to_string().starts_with("/nowhere/p.toml: cannot be read: "), "{invalid}");
}

/// The pairs of a file's tables on two databases, as `label: a = b`.
fn pairs(tables: &str, a: &[&str], b: &[&str]) -> Result<(Vec<TableChoice>, Vec<String>), String> {
    chosen(tables, a, b, Absent::Refused)
}

fn chosen(tables: &str, a: &[&str], b: &[&str], absent: Absent) -> Result<(Vec<TableChoice>, Vec<String>), String> {
    let config = parse(&with(tables)).unwrap();
    let names = |texts: &[&str]| texts.iter().map(|text| text.parse::<TableName>().unwrap()).collect::<Vec<_>>();
    let (a, b) = (names(a), names(b));
    let present = [
        Present { default_schema: config.node(Side::A).default_schema(), tables: &a },
        Present { default_schema: config.node(Side::B).default_schema(), tables: &b },
    ];
    match config.choose_tables(present, absent) {
        Ok(choices) => Ok((choices.tables, choices.notes)),
        Err(error) => {
            assert_eq!(error.code(), Code::Config);
            Err(format!("{} | {}", error.message(), error.remedy().unwrap_or_default()))
        }
    }
}

fn shown(choices: &[TableChoice]) -> Vec<String> {
    choices.iter().map(|c| format!("{}: {} = {}", c.label, c.names[0], c.names[1])).collect()
}

#[test]
fn names_and_patterns_come_to_pairs() {
    let (choices, notes) = pairs(
        "[[tables]]\nname = \"audit_*\"\ndirection = \"shop->stock\"\n\
         [[tables]]\nname = \"customers\"\nconflict = \"prefer:stock\"\n\
         [[tables]]\nname = { shop = \"sales.items\", stock = \"goods\" }\naccept = [\"generated-keys\"]\n\
         [[tables]]\nname = { shop = \"crm.*\", stock = \"crm_*\" }\n",
        &[
            "public.audit_a",
            "public.audit_b",
            "public.audit_only_here",
            "public.customers",
            "sales.items",
            "crm.people",
            "public.Customers",
        ],
        &[
            "stock.audit_a",
            "stock.audit_b",
            "stock.customers",
            "stock.goods",
            "stock.crm_people",
            "stock.crm_x",
            "other.audit_c",
        ],
    )
    .unwrap();
    assert_eq!(
        shown(&choices),
        [
            "audit_a: public.audit_a = stock.audit_a",
            "audit_b: public.audit_b = stock.audit_b",
            "crm.people: crm.people = stock.crm_people",
            "customers: public.customers = stock.customers",
            "sales.items: sales.items = stock.goods",
        ]
    );
    assert_eq!(choices[0].direction, Direction::From(Side::A));
    assert_eq!(choices[3].conflict, Conflict::Prefer(Side::B));
    assert_eq!(choices[4].accept, [Accept::GeneratedKeys]);
    assert_eq!(
        notes,
        [
            "pontoon.toml:14:8: \"crm.*\" does not bridge what is on stock alone: stock.crm_x",
            "pontoon.toml:5:8: \"audit_*\" does not bridge what is on shop alone: public.audit_only_here",
        ]
    );
}

#[test]
fn entries_that_say_more_win_then_later_ones() {
    let directions = |tables: &str| {
        let all = ["audit_log", "audit_log_old", "x"];
        let a = all.map(|name| format!("public.{name}"));
        let b = all.map(|name| format!("stock.{name}"));
        let (choices, _) = pairs(tables, &a.each_ref().map(String::as_str), &b.each_ref().map(String::as_str)).unwrap();
        choices.iter().map(|choice| choice.direction).collect::<Vec<_>>()
    };
    let entry = |name: &str, direction: &str| format!("[[tables]]\nname = \"{name}\"\ndirection = \"{direction}\"\n");
    let (a, b) = (Direction::From(Side::A), Direction::From(Side::B));
    let exact = entry("audit_log", "shop->stock");
    let pattern = entry("audit_*", "stock->shop");
    let all = entry("*", "both");
    for order in [[&exact, &pattern, &all], [&all, &pattern, &exact], [&pattern, &exact, &all]] {
        assert_eq!(directions(&order.map(String::as_str).concat()), [a, b, Direction::Both]);
    }
    // As many letters: the later one.
    let tail = entry("*_old", "both");
    let head = entry("audi*", "shop->stock");
    assert_eq!(directions(&format!("{tail}{head}{all}"))[1], a);
    assert_eq!(directions(&format!("{head}{tail}{all}"))[1], Direction::Both);
}

#[test]
fn tables_that_one_side_lacks_are_chosen_to_be_made() {
    let made = |tables: &str, a: &[&str], b: &[&str]| {
        let (choices, notes) = chosen(tables, a, b, Absent::Chosen)?;
        let pair = |c: &TableChoice| format!("{} = {} on {:?}", c.names[0], c.names[1], c.absent);
        Ok::<_, String>((choices.iter().map(pair).collect::<Vec<_>>(), notes))
    };
    // A named one from either side, also against its direction, and with its schema.
    let (named, notes) = made(
        "[[tables]]\nname = \"x\"\ndirection = \"shop->stock\"\n[[tables]]\nname = { shop = \"crm.y\", stock = \"other.y\" }\n",
        &["crm.y"],
        &["stock.x"],
    )
    .unwrap();
    assert_eq!(named, ["crm.y = other.y on Some(B)", "public.x = stock.x on Some(A)"]);
    assert!(notes.is_empty(), "{notes:?}");
    // Of a pattern only where rows go to, and nothing that another entry has.
    let tables =
        "[[tables]]\nname = \"*\"\ndirection = \"shop->stock\"\n[[tables]]\nname = { shop = \"x\", stock = \"z\" }\n";
    let (matched, notes) =
        made(tables, &["public.x", "public.y", "public.both"], &["stock.w", "stock.z", "stock.both"]).unwrap();
    assert_eq!(
        matched,
        ["public.both = stock.both on None", "public.x = stock.z on None", "public.y = stock.y on Some(B)"]
    );
    assert_eq!(
        notes,
        ["pontoon.toml:5:8: \"*\" does not bridge what is on shop alone: stock.w".replace("shop", "stock")]
    );
    let (both_ways, _) = made("[[tables]]\nname = \"*\"\n", &["public.a"], &["stock.b"]).unwrap();
    assert_eq!(both_ways, ["public.a = stock.a on Some(B)", "public.b = stock.b on Some(A)"]);
    // A table that is to be made for another entry is not made twice.
    let tables = "[[tables]]\nname = \"*\"\n[[tables]]\nname = { shop = \"y\", stock = \"z\" }\n";
    let (once, notes) = made(tables, &[], &["stock.y", "stock.z"]).unwrap();
    assert_eq!(once, ["public.y = stock.z on Some(A)"]);
    assert_eq!(notes, ["pontoon.toml:5:8: \"*\" does not bridge what is on stock alone: stock.y"]);
    // What is nowhere is an error all the same.
    let error = made("[[tables]]\nname = \"x\"\n", &["public.y"], &["stock.y"]).unwrap_err();
    assert!(error.contains("node shop has no table public.x"), "{error}");
}

#[test]
fn tables_that_cannot_be_paired_are_told() {
    let a = &["public.items", "public.we\\.ird", "sales.orders"];
    let b = &["stock.items", "stock.Orders", "stock.we\\.ird"];
    for (tables, says) in [
        (
            "[[tables]]\nname = \"item\"\n",
            "pontoon.toml:5:8: tables.name: node shop has no table public.item | shop has public.items",
        ),
        ("[[tables]]\nname = \"orders\"\n", "node shop has no table public.orders | shop has sales.orders"),
        (
            "[[tables]]\nname = { shop = \"sales.orders\", stock = \"orders\" }\n",
            "node stock has no table stock.orders | stock has stock.Orders",
        ),
        ("[[tables]]\nname = \"public.items\"\n", "node stock has no table public.items | stock has stock.items"),
        ("[[tables]]\nname = \"zebra_*\"\n", "no table is on both nodes under a name that the configuration gives"),
        (
            "[[tables]]\nname = \"items\"\n[[tables]]\nname = { shop = \"public.items\", stock = \"items\" }\n",
            "is in two pairs; the other entry is at line",
        ),
    ] {
        let error = pairs(tables, a, b).unwrap_err();
        assert!(error.contains(says), "expected {says:?}, got {error}");
    }
    let (choices, _) = pairs("[[tables]]\nname = 'we\\.ird'\n", a, b).unwrap();
    assert_eq!(shown(&choices), ["we\\.ird: public.we\\.ird = stock.we\\.ird"]);
}

#[test]
fn the_reference_pages_are_up_to_date() {
    for (name, page) in [
        ("configuration.md", Config::reference()),
        ("errors.md", pontoon::cli::errors_reference()),
        ("metrics.md", pontoon::observe::Metrics::reference().unwrap()),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        if std::env::var_os("PONTOON_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "{name} is not up to date: PONTOON_WRITE_DOCS=1 cargo test --test config");
    }
}
