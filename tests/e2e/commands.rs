//! What the commands print and serve, and how they end.

use pontoon_servers::Kind;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Database, Link, LinkOptions, database::Client, eventually, first_pairing};

first_pairing!(
    tail,
    status_and_wait,
    planted_differences,
    setup_and_teardown,
    metrics_and_probes,
    what_is_left_out_is_counted,
    health,
    variables,
    tail_for_debezium
);

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL DEFAULT 0";
const TABLES: &str = "[[tables]]\nname = \"items\"\n";

async fn ready(kinds: [Kind; 2], configuration: &str) -> Link {
    let options = LinkOptions { configuration: configuration.into(), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    link.create("items", COLUMNS).await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4)").await;
    link.succeed(&["setup"]).await;
    link
}

/// Up to where a node's log is applied on the other.
async fn applied(link: &Link, node: &str) -> String {
    let other = if node == "a" { &link.b } else { &link.a };
    let kept = other.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await;
    // MySQL and MariaDB: after it stands when the file was begun.
    kept.split('@').next().unwrap().to_owned()
}

async fn events(link: &Link, arguments: &[&str]) -> Vec<Value> {
    let out = link.succeed(arguments).await;
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

async fn tail(kinds: [Kind; 2]) {
    let link = ready(kinds, TABLES).await;
    let from_a = applied(&link, "a").await;
    link.a.run("INSERT INTO items VALUES (7, 'bolt', 4)").await;
    link.a.run("UPDATE items SET quantity = 3 WHERE id = 7").await;
    link.a.run("DELETE FROM items WHERE id = 1").await;
    let before = time::now();
    let table = if link.a.is_postgres() { "public.items" } else { "shop.items" };
    let found = events(&link, &["tail", "a", "--from", &from_a, "--limit", "3"]).await;
    let fields = [
        "node",
        "position",
        "transaction",
        "commit_time",
        "origin",
        "table",
        "op",
        "key",
        "before",
        "after",
        "unchanged",
    ];
    let line = link.succeed(&["tail", "a", "--from", &from_a, "--limit", "1"]).await;
    assert_eq!(line.lines().count(), 1, "--limit: {line}");
    let places: Vec<usize> = fields.iter().map(|field| line.find(&format!("\"{field}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "the order of {fields:?}: {line}");
    assert_eq!(found[0].as_object().unwrap().len(), fields.len(), "{}", found[0]);
    for event in &found {
        assert_eq!(event["node"], "a");
        assert_eq!(event["origin"], Value::Null, "a local write: {event}");
        assert_eq!(event["table"], table);
        let time = event["commit_time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == 27, "{event}");
        assert!(time::parse(time).abs_diff(before) < 60, "{event}");
        assert!(!event["transaction"].as_str().unwrap().is_empty());
    }
    let row = |quantity: i64| serde_json::json!({"id": 7, "name": "bolt", "quantity": quantity});
    let said =
        |event: &Value| (event["op"].clone(), event["key"].clone(), event["before"].clone(), event["after"].clone());
    let key = |id: i64| serde_json::json!({"id": id});
    let anvil = serde_json::json!({"id": 1, "name": "anvil", "quantity": 4});
    assert_eq!(said(&found[0]), ("insert".into(), key(7), Value::Null, row(4)));
    assert_eq!(said(&found[1]), ("update".into(), key(7), row(4), row(3)));
    assert_eq!(said(&found[2]), ("delete".into(), key(1), anvil, Value::Null));
    let positions: Vec<&str> = found.iter().map(|event| event["position"].as_str().unwrap()).collect();
    assert!(positions[0] != positions[1] && positions[1] != positions[2], "{positions:?}");

    // It goes on after a position, and takes nothing from the bridge.
    let rest = events(&link, &["tail", "a", "--from", positions[1], "--limit", "1"]).await;
    assert_eq!(said(&rest[0]), said(&found[2]));
    // The other side's log holds the echoes, marked by the bridge's name.
    let other = link.tail("b", "items", 1000).await;
    let bridge = link.run();
    link.settle().await;
    let rows = link.same("SELECT id, quantity FROM items WHERE id < 1000").await;
    assert_eq!(rows, [[Some("7".into()), Some("3".into())]]);
    link.b.run("UPDATE items SET quantity = 9 WHERE id = 7").await;
    let mut found = Vec::new();
    eventually("the echoes and the write are in the other log", async || {
        found = other.events("items").into_iter().filter(|event| event["key"]["id"] != 1000).collect::<Vec<_>>();
        // How many echoes there are is for the bridge to say: what is at hand together crosses together.
        found.len() > 1 && found.last().is_some_and(|last| last["origin"].is_null())
    })
    .await;
    let last = found.pop().unwrap();
    assert!(found.iter().all(|echo| echo["origin"] == "e2e" && echo["node"] == "b"), "{found:#?}");
    assert_eq!((&last["origin"], &last["op"]), (&Value::Null, &"update".into()), "{last:#}");
    assert_eq!(bridge.stop().await, 0);
    link.command(&["tail", "c"]).await.refused(2, "config-invalid");
    let ended = link.command(&["tail", "a", "--from", "nowhere"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}

/// Seconds, of now and of the text of an event.
pub(crate) mod time {
    pub(crate) fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    pub(super) fn parse(text: &str) -> u64 {
        let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
        let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
        // Days from the first of March of the year 0.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        let seconds = number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
        ((days - 719_468) * 86_400 + seconds) as u64
    }
}

/// A configuration with a status page, and its address.
pub(crate) fn with_page() -> (String, String) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    (format!("{TABLES}[server]\nlisten = \"{address}\"\n"), address)
}

/// The status code and the body; `None` where nobody answers.
pub(crate) async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

async fn status_and_wait(kinds: [Kind; 2]) {
    let (configuration, _) = with_page();
    let link = ready(kinds, &configuration).await;
    // Without a bridge.
    let out = link.succeed(&["status"]).await;
    assert!(out.contains("e2e not running") && out.contains("a -> b") && out.contains("b -> a"), "{out}");
    let document: Value = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    assert_eq!((&document["bridge"], &document["active"]), (&"e2e".into(), &false.into()), "{document:#}");
    assert_eq!(document["schema_version"], 1);
    assert_eq!(document["directions"].as_array().unwrap().len(), 2);
    for (at, (source, target)) in [("a", "b"), ("b", "a")].into_iter().enumerate() {
        let direction = &document["directions"][at];
        assert_eq!((&direction["source"], &direction["target"]), (&source.into(), &target.into()));
        assert_eq!(direction["position"]["applied"], applied(&link, source).await.as_str(), "{direction:#}");
    }
    link.a.run("INSERT INTO items VALUES (2, 'bolt', 1)").await;
    let began = std::time::Instant::now();
    let ended = link.command(&["wait", "--timeout", "1s"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("status"), "{ended:?}");
    assert!(began.elapsed().as_secs() < 20);
    let document: Value = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    assert!(document["directions"][0]["lag_bytes"].as_u64().unwrap() > 0, "{document:#}");

    // With one.
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    assert_eq!(link.b.value("SELECT count(*) FROM items").await, "2", "wait is a barrier");
    let out = link.succeed(&["status"]).await;
    assert!(out.contains("e2e running"), "{out}");
    eventually("both stream without lag", async || {
        let document: Value = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
        let good = |direction: &Value| {
            direction["state"] == "streaming" && direction["lag_seconds"].as_f64().is_some_and(|lag| lag < 30.0)
        };
        document["active"] == true && document["directions"].as_array().unwrap().iter().all(good)
    })
    .await;
    let document: Value = serde_json::from_str(&link.succeed(&["status", "--json"]).await).unwrap();
    assert_eq!(document["directions"][0]["rows_applied"], 1, "{document:#}");
    assert_eq!(document["directions"][1]["rows_applied"], 0, "{document:#}");
    // A bridge whose page is elsewhere is known by its lease.
    let text = std::fs::read_to_string(link.config()).unwrap();
    let line = text.lines().find(|line| line.starts_with("listen")).unwrap().to_owned();
    link.edit(&line, "listen = \"off\"");
    let out = link.succeed(&["status"]).await;
    assert!(out.contains("held by") && out.contains(&bridge.id().to_string()), "{out}");
    assert_eq!(bridge.stop().await, 0);
}

/// A session whose writes no bridge takes for local ones.
pub(crate) async fn unseen(node: &Database) -> Client {
    let mut client = node.client().await;
    if node.is_postgres() {
        let origin = client.rows("SELECT roname FROM pg_replication_origin ORDER BY 1").await[0][0].clone().unwrap();
        let taken = format!("SELECT pg_replication_origin_session_setup('{origin}')");
        // The server may not have noticed yet that the bridge's session has ended.
        eventually("the origin is nobody's", async || client.try_run(&taken).await.is_ok()).await;
    } else {
        client.run("SET sql_log_bin = 0").await;
    }
    client
}

async fn planted_differences(kinds: [Kind; 2]) {
    let configuration = format!("{TABLES}[[tables]]\nname = \"calm\"\n");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    for table in ["items", "calm"] {
        link.create(table, COLUMNS).await;
        link.both(&format!("INSERT INTO {table} VALUES (1, 'anvil', 4)")).await;
    }
    link.succeed(&["setup"]).await;
    for id in 2..40 {
        link.a.run(&format!("INSERT INTO items VALUES ({id}, 'bolt', 1)")).await;
    }
    link.catch_up().await;
    let out = link.succeed(&["verify"]).await;
    assert!(out.trim_end().ends_with("equal: yes"), "{out}");
    let document: Value = serde_json::from_str(&link.succeed(&["verify", "--json"]).await).unwrap();
    assert_eq!((&document["equal"], &document["rows_different"]), (&true.into(), &0.into()), "{document:#}");

    unseen(&link.a).await.run("UPDATE items SET quantity = 99, name = 'other' WHERE id = 3").await;
    unseen(&link.a).await.run("INSERT INTO items VALUES (100, 'only on a', 1)").await;
    unseen(&link.b).await.run("INSERT INTO items VALUES (101, 'only on b', 1)").await;
    unseen(&link.b).await.run("DELETE FROM items WHERE id = 5").await;
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    let ended = link.command(&["verify", "--json"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&document["equal"], &document["rows_different"]), (&false.into(), &4.into()), "{document:#}");
    let items = document["tables"].as_array().unwrap().iter().find(|table| table["table"] == "items").unwrap();
    assert_eq!((&items["rows"]["a"], &items["rows"]["b"]), (&40.into(), &39.into()), "{items:#}");
    let found: Vec<(i64, String, Vec<String>)> = items["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| {
            let columns = difference["columns"].as_array().unwrap().iter();
            (
                difference["key"]["id"].as_i64().unwrap(),
                difference["kind"].as_str().unwrap().to_owned(),
                columns.map(|column| column.as_str().unwrap().to_owned()).collect(),
            )
        })
        .collect();
    let none = Vec::new;
    let expected = [
        (3, "different".to_owned(), vec!["name".to_owned(), "quantity".to_owned()]),
        (5, "only on a".to_owned(), none()),
        (100, "only on a".to_owned(), none()),
        (101, "only on b".to_owned(), none()),
    ];
    assert_eq!(found, expected);
    let ended = link.command(&["verify"]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("different in name, quantity") && ended.out.contains("equal: no"), "{ended:?}");
    assert!(!ended.out.contains("99"), "no row values: {ended:?}");
    link.succeed(&["verify", "--table", "calm"]).await;
    let refusal = link.command(&["verify", "--table", "itmes"]).await.refused(2, "config-invalid");
    assert!(refusal.hint.contains("items"), "{refusal:?}");

    // A write upon a row that differs settles it, and the record says why.
    link.b.run("UPDATE items SET quantity = 7 WHERE id = 3").await;
    link.settle().await;
    let settled = link.same("SELECT name, quantity FROM items WHERE id = 3").await;
    assert_eq!(settled[0][1].as_deref(), Some("7"));
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "1");
    assert_eq!(bridge.stop().await, 0);
}

/// What there is of the bridge on a node, from its catalogs.
async fn remains(node: &Database) -> Vec<String> {
    let sql = if node.is_postgres() {
        "SELECT 'slot ' || slot_name FROM pg_replication_slots
            UNION ALL SELECT 'publication ' || pubname FROM pg_publication
            UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin
            UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'pontoon'
            UNION ALL SELECT 'table ' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
                WHERE nspname = 'pontoon' AND relkind = 'r'
            UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
            UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
            UNION ALL SELECT 'column ' || attname FROM pg_attribute
                WHERE attrelid = 'items'::regclass AND attnum > 0 AND attname NOT IN ('id', 'name', 'quantity') ORDER BY 1"
    } else {
        "SELECT CONCAT('database ', schema_name) FROM information_schema.schemata WHERE schema_name = 'pontoon'
            UNION ALL SELECT CONCAT('table ', table_name) FROM information_schema.tables WHERE table_schema = 'pontoon'
            UNION ALL SELECT CONCAT('trigger ', trigger_name) FROM information_schema.triggers WHERE trigger_schema = 'shop'
            UNION ALL SELECT CONCAT('column ', column_name) FROM information_schema.columns WHERE table_schema = 'shop'
                AND column_name NOT IN ('id', 'name', 'quantity') ORDER BY 1"
    };
    node.rows(sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

async fn setup_and_teardown(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", COLUMNS).await;
    let printed = link.succeed(&["setup", "--print-sql"]).await;
    assert!(printed.contains("-- on a") && printed.contains("-- on b") && printed.contains("GRANT"), "{printed}");
    for node in link.nodes() {
        assert_eq!(remains(node).await, [""; 0], "print-sql does nothing");
    }
    let out = link.succeed(&["setup"]).await;
    assert!(out.contains("<->") && out.contains("set up"), "{out}");
    let made = [remains(&link.a).await, remains(&link.b).await];
    for (node, made) in link.nodes().into_iter().zip(&made) {
        for table in ["checkpoint", "resolution", "quarantine", "control"] {
            assert!(made.contains(&format!("table {table}")), "{made:?}");
        }
        let found = made.iter().filter(|what| what.starts_with("slot") || what.starts_with("publication")).count();
        assert_eq!(found, if node.is_postgres() { 2 } else { 0 }, "{made:?}");
        assert!(!made.iter().any(|what| what.starts_with("trigger") || what.starts_with("column")), "{made:?}");
    }
    // What is committed after it returned crosses, also over a second setup.
    link.a.run("INSERT INTO items VALUES (1, 'from a', 1)").await;
    link.b.run("INSERT INTO items VALUES (2, 'from b', 1)").await;
    let positions = (applied(&link, "a").await, applied(&link, "b").await);
    link.succeed(&["setup"]).await;
    assert_eq!((applied(&link, "a").await, applied(&link, "b").await), positions);
    assert_eq!([remains(&link.a).await, remains(&link.b).await], made);
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    assert_eq!(link.same("SELECT id FROM items ORDER BY id").await.len(), 2);

    // Not under a bridge that works; and set up beside one is harmless too.
    link.succeed(&["setup"]).await;
    let ended = link.command(&["teardown", "--execute"]).await;
    assert_ne!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("runs") && ended.err.contains("nothing was removed"), "{ended:?}");
    assert_eq!([remains(&link.a).await, remains(&link.b).await], made);
    link.b.run("UPDATE items SET quantity = 5 WHERE id = 1").await;
    link.settle().await;
    assert_eq!(link.same("SELECT quantity FROM items WHERE id = 1").await[0][0].as_deref(), Some("5"));
    assert_eq!(bridge.stop().await, 0);

    let shown = link.command(&["teardown"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("DROP") && shown.err.contains("--execute"), "{shown:?}");
    let printed = link.succeed(&["teardown", "--print-sql"]).await;
    assert_eq!(printed, shown.out);
    assert_eq!([remains(&link.a).await, remains(&link.b).await], made, "it only shows");
    let out = link.succeed(&["teardown", "--execute"]).await;
    assert!(out.contains("nothing is left"), "{out}");
    for node in link.nodes() {
        assert_eq!(remains(node).await, [""; 0]);
    }
    // Of nothing nothing is left, and all can be begun anew.
    link.succeed(&["teardown", "--execute"]).await;
    link.command(&["run"]).await.refused(4, "not-set-up");
    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (3, 'anew', 1)").await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id FROM items ORDER BY id").await.len(), 3);
}

/// The value of a series, whose labels may stand in any order.
pub(crate) fn sample(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let has = |(label, value): &(&str, &str)| series.contains(&format!("{label}=\"{value}\""));
        let named = series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        (named && labels.iter().all(has)).then(|| value.parse().unwrap())
    })
}

async fn metrics_and_probes(kinds: [Kind; 2]) {
    let (configuration, address) = with_page();
    let mut link = ready(kinds, &configuration).await;
    let mut bridge = link.run();
    bridge.works().await;
    link.a.run("INSERT INTO items VALUES (2, 'bolt', 1), (3, 'nut', 2)").await;
    link.a.run("UPDATE items SET quantity = 8 WHERE id = 2").await;
    // A row can be deleted where it has arrived.
    link.settle().await;
    link.b.run("DELETE FROM items WHERE id = 3").await;
    link.settle().await;
    link.a.run("DELETE FROM items WHERE id = 2").await;
    link.settle().await;
    let [there, back] = [[("source", "a"), ("target", "b")], [("source", "b"), ("target", "a")]];
    let mut page = String::new();
    eventually("the echoes are counted and nothing lags", async || {
        page = get(&address, "/metrics").await.unwrap().1;
        let echoes = |labels| sample(&page, "pontoon_echo_transactions_total", labels).unwrap() >= 1.0;
        let lag = |labels| sample(&page, "pontoon_replication_lag_seconds", labels).is_some_and(|lag| lag < 10.0);
        echoes(&there) && echoes(&back) && lag(&there) && lag(&back)
    })
    .await;
    let count = |name: &str, labels: &[(&str, &str)]| {
        sample(&page, name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in\n{page}"))
    };
    let with = |labels: [(&'static str, &'static str); 2], more: (&'static str, &'static str)| {
        [("bridge", "e2e"), labels[0], labels[1], more]
    };
    for (direction, inserts, updates, deletes) in [(there, 2.0, 1.0, 1.0), (back, 0.0, 0.0, 1.0)] {
        for name in ["pontoon_rows_applied_total", "pontoon_rows_received_total"] {
            assert_eq!(count(name, &with(direction, ("op", "insert"))), inserts, "{name} {direction:?}\n{page}");
            assert_eq!(count(name, &with(direction, ("op", "update"))), updates, "{name} {direction:?}\n{page}");
            assert_eq!(count(name, &with(direction, ("op", "delete"))), deletes, "{name} {direction:?}\n{page}");
        }
        let lag = count("pontoon_replication_lag_seconds", &direction);
        assert!((0.0..10.0).contains(&lag), "{lag}");
        assert_eq!(count("pontoon_direction_state", &with(direction, ("state", "streaming"))), 1.0);
        assert!(count("pontoon_applied_bytes_total", &direction) > 0.0);
        assert!(count("pontoon_transactions_applied_total", &direction) >= 1.0);
        let applied = count("pontoon_last_applied_commit_timestamp_seconds", &direction);
        assert!((applied - time::now() as f64).abs() < 120.0, "{applied}");
        assert_eq!(count("pontoon_conflicts_total", &direction), 0.0);
        for name in ["pontoon_queue_bytes", "pontoon_queue_limit_bytes", "pontoon_apply_retries_total"] {
            count(name, &direction);
        }
        assert!(count("pontoon_commit_to_apply_seconds_count", &direction) >= 1.0);
        let took = |part: &str, stage| {
            count(&format!("pontoon_apply_duration_seconds_{part}"), &with(direction, ("stage", stage)))
        };
        let [write, commit, total] = ["write", "commit", "total"].map(|stage| took("sum", stage));
        assert!(write > 0.0 && commit > 0.0 && write + commit <= total, "{write} and {commit} of {total}");
        assert_eq!(took("count", "write"), took("count", "total"));
    }
    for node in ["a", "b"] {
        assert_eq!(count("pontoon_node_up", &[("bridge", "e2e"), ("node", node)]), 1.0);
        assert!(count("pontoon_source_log_retained_bytes", &[("node", node)]) > 0.0);
        assert!(count("pontoon_connect_attempts_total", &[("node", node), ("result", "connected")]) >= 1.0);
        assert!(count("pontoon_clock_offset_seconds", &[("node", node)]).abs() < 5.0);
        count("pontoon_source_log_lag_bytes", &[("node", node)]);
    }
    assert_eq!(count("pontoon_active", &[("bridge", "e2e")]), 1.0);
    assert_eq!(count("pontoon_build_info", &[]), 1.0);
    count("pontoon_spill_bytes", &[("bridge", "e2e")]);
    assert!(!page.contains("bolt") && !page.contains("nut"), "no row values");
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("pontoon_"), "{line}");
    }

    assert_eq!(get(&address, "/livez").await.unwrap().0, 200);
    eventually("it is ready", async || get(&address, "/readyz").await.unwrap().0 == 200).await;
    let (code, document) = get(&address, "/api/status").await.unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((code, &document["ready"]), (200, &true.into()));
    assert!(get(&address, "/").await.unwrap().1.contains("<html"));
    assert_eq!(get(&address, "/nothing").await.unwrap().0, 404);

    for name in ["a", "b"] {
        let node = if name == "a" { &mut link.a } else { &mut link.b };
        node.server.kill().await.unwrap();
        let mut said = String::new();
        eventually("it is not ready", async || {
            let (code, reasons) = get(&address, "/readyz").await.unwrap();
            said = reasons;
            code == 503 && said.contains(&format!("node {name}"))
        })
        .await;
        assert_eq!(get(&address, "/livez").await.unwrap().0, 200, "the process lives");
        let page = get(&address, "/metrics").await.unwrap().1;
        assert_eq!(sample(&page, "pontoon_node_up", &[("node", name)]), Some(0.0), "{page}");
        assert!(bridge.is_running());
        let node = if name == "a" { &mut link.a } else { &mut link.b };
        node.server.restart().await.unwrap();
        eventually("it is ready again", async || get(&address, "/readyz").await.unwrap().0 == 200).await;
    }
    link.a.run("INSERT INTO items VALUES (9, 'after all', 1)").await;
    link.settle().await;
    link.same("SELECT id, name, quantity FROM items ORDER BY id").await;
    assert_eq!(bridge.stop().await, 0);
    assert!(get(&address, "/livez").await.is_none());
}

/// A transaction that an operator said to pass over, and an update that changes nothing (which MySQL and MariaDB do not log).
async fn what_is_left_out_is_counted(kinds: [Kind; 2]) {
    let (configuration, _) = with_page();
    let link = ready(kinds, &configuration).await;
    for (name, node) in [("a", &link.a), ("b", &link.b)] {
        let tail = link.tail(name, "items", 7).await;
        node.run(&format!("BEGIN; INSERT INTO items VALUES (8, 'of {name}', 1), (9, 'of {name}', 1); COMMIT")).await;
        eventually("tail shows them", async || tail.events("items").iter().any(|event| event["key"]["id"] == 9)).await;
        let events = tail.events("items");
        let position = events.iter().find(|event| event["key"]["id"] == 9).unwrap()["position"].as_str().unwrap();
        link.succeed(&["skip", name, position, "--execute"]).await;
        node.run("UPDATE items SET quantity = quantity WHERE id = 1").await;
    }
    let bridge = link.run();
    bridge.works().await;
    link.settle().await;
    for (node, own) in [(&link.a, "of a"), (&link.b, "of b")] {
        let names = node.rows("SELECT name FROM items WHERE id >= 8").await;
        assert_eq!(names, vec![[Some(own.to_owned())]; 2], "its own rows alone");
    }
    let page = get(&bridge.page().await, "/metrics").await.unwrap().1;
    for (source, node) in [("a", &link.a), ("b", &link.b)] {
        let skipped = |reason| sample(&page, "pontoon_rows_skipped_total", &[("source", source), ("reason", reason)]);
        assert_eq!(skipped("operator"), Some(2.0), "{source}\n{page}");
        assert_eq!(skipped("unchanged"), Some(if node.is_postgres() { 1.0 } else { 0.0 }), "{source}\n{page}");
    }
    assert_eq!(bridge.stop().await, 0);
}

/// `health` says no while nobody answers, while a database is away, and of another bridge; and yes as soon as that is over.
async fn health(kinds: [Kind; 2]) {
    let (configuration, address) = with_page();
    let mut link = ready(kinds, &configuration).await;
    let refused = async |link: &Link, arguments: &[&str], says: &str| {
        let ended = link.command(arguments).await;
        assert!(ended.code == 1 && ended.out.is_empty() && ended.err.contains(says), "{says:?}: {ended:?}");
    };
    refused(&link, &["health"], &format!("{address} does not answer")).await;

    // What listens at all addresses is asked at loopback.
    let port = address.rsplit(':').next().unwrap();
    let everywhere = format!("metrics_listen = \"0.0.0.0:{port}\"");
    link.edit(&format!("listen = \"{address}\""), &format!("listen = \"off\"\n{everywhere}"));
    let bridge = link.run();
    eventually("it is alive", async || link.command(&["health"]).await.code == 0).await;
    assert_eq!(link.succeed(&["health"]).await, "alive\n");
    eventually("it is ready", async || link.command(&["health", "--ready"]).await.code == 0).await;

    link.b.server.kill().await.unwrap();
    eventually("it is not ready, since a database is away", async || {
        let ended = link.command(&["health", "--ready"]).await;
        ended.code == 1 && ended.err.contains("node b is down: ")
    })
    .await;
    assert_eq!(link.succeed(&["health"]).await, "alive\n");
    link.b.server.restart().await.unwrap();
    eventually("it is ready again", async || link.command(&["health", "--ready"]).await.code == 0).await;

    // A process that answers no more is told from one that is well, within the time.
    bridge.signal("STOP");
    refused(&link, &["health", "--timeout", "200ms"], "no whole answer within 200ms").await;
    bridge.signal("CONT");
    assert_eq!(link.succeed(&["health", "--timeout", "30s"]).await, "alive\n");

    link.edit("bridge = \"e2e\"", "bridge = \"other\"");
    refused(&link, &["health"], "the bridge that answers is e2e, not other").await;
    link.edit("bridge = \"other\"", "bridge = \"e2e\"");
    link.edit(&everywhere, "");
    refused(&link, &["health"], "server.listen is \"off\"").await;
    assert_eq!(bridge.stop().await, 0);
}

/// Urls and the address to listen on have what a variable holds; the process says which one is missing, and never what they hold.
async fn variables(kinds: [Kind; 2]) {
    let (configuration, address) = with_page();
    let link = ready(kinds, &configuration).await;
    let (port, password) = (link.a.server.port().to_string(), link.b.server.password());
    let url = link.b.server.superuser_url("shop");
    link.edit(&format!("127.0.0.1:{port}/"), "127.0.0.1:${PORT_OF_A}/");
    link.edit(&link.b.server.url(link.b.server.superuser(), "shop"), "${URL_OF_B}");
    link.edit(&format!("password_file = \"{}\"\n", link.folder.path().join("password-b").display()), "");
    link.edit(&address, "127.0.0.1:${PAGE}");
    let page = address.rsplit(':').next().unwrap();

    let ended = link.command_with(&[("PORT_OF_A", &port), ("PAGE", page)], &["status", "--json"]).await;
    let refusal = ended.refused(2, "config-invalid");
    assert!(refusal.message.contains(".url: the environment variable URL_OF_B is not set"), "{refusal:?}");
    assert!(refusal.message.contains("pontoon.toml:6:7: nodes.b"), "{refusal:?}");
    let broken = url.replacen("127.0.0.1:", "127.0.0.1:x", 1);
    let ended =
        link.command_with(&[("PORT_OF_A", &port), ("PAGE", page), ("URL_OF_B", &broken)], &["status", "--json"]).await;
    assert!(ended.refused(2, "config-invalid").message.contains("nodes.b.url: has a port that is no number"));
    assert!(!ended.err.contains(password), "{ended:?}");

    let variables = [("PORT_OF_A", port.as_str()), ("PAGE", page), ("URL_OF_B", &url)];
    let ended = link.command_with(&variables, &["status", "--json"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(document["nodes"][1]["up"], true, "{document:#}");
    assert!(!ended.err.contains(password) && !ended.err.contains("every reader of the file"), "{ended:?}");
    let ended = link.command_with(&variables, &["health"]).await;
    assert!(ended.code == 1 && ended.err.contains(&address), "{ended:?}");
}

/// The envelope has what was written, in which transaction and where, on either engine; and what the log leaves out is told.
async fn tail_for_debezium(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", "id int PRIMARY KEY, name varchar(20), note text").await;
    link.succeed(&["setup"]).await;
    let before = time::now();
    let [from_a, from_b] = [applied(&link, "a").await, applied(&link, "b").await];
    for node in link.nodes() {
        // Longer than what PostgreSQL keeps in the row, and not to be compressed to less.
        let note = if node.is_postgres() {
            node.run("ALTER TABLE items ALTER note SET STORAGE EXTERNAL").await;
            "repeat('n', 9000)"
        } else {
            "repeat('n', 90)"
        };
        let mut client = node.client().await;
        client.run("BEGIN").await;
        client.run(&format!("INSERT INTO items VALUES (1, 'anvil', {note})")).await;
        client.run("UPDATE items SET name = 'bolt' WHERE id = 1").await;
        client.run("COMMIT").await;
        client.run("UPDATE items SET id = 2 WHERE id = 1").await;
        client.run("DELETE FROM items WHERE id = 2").await;
    }
    for (name, node, from) in [("a", &link.a, from_a), ("b", &link.b, from_b)] {
        let found = events(&link, &["tail", name, "--from", &from, "--limit", "4", "--format", "debezium"]).await;
        let payloads: Vec<&Value> = found.iter().map(|message| &message["payload"]).collect();
        let ops: Vec<_> = payloads.iter().map(|payload| payload["op"].as_str().unwrap()).collect();
        assert_eq!(ops, ["c", "u", "d", "c", "d"], "{found:#?}");
        let ids: Vec<_> = payloads.iter().map(|payload| (&payload["before"]["id"], &payload["after"]["id"])).collect();
        let [null, one, two] = [Value::Null, 1.into(), 2.into()];
        assert_eq!(ids, [(&null, &one), (&one, &one), (&one, &null), (&null, &two), (&two, &null)]);
        let orders: Vec<_> = payloads.iter().map(|payload| payload["transaction"]["total_order"].as_u64()).collect();
        assert_eq!(orders, [Some(1), Some(2), Some(1), Some(2), Some(1)]);
        let transactions: Vec<_> = payloads.iter().map(|payload| &payload["transaction"]["id"]).collect();
        assert!(transactions[0] == transactions[1] && transactions[1] != transactions[2], "{transactions:?}");

        let note = "n".repeat(if node.is_postgres() { 9000 } else { 90 });
        assert_eq!(payloads[1]["before"]["note"], note.as_str());
        // PostgreSQL leaves it out of the image after.
        assert_eq!(payloads[1]["after"]["note"], note.as_str());
        assert_eq!(payloads[1]["after"]["name"], "bolt");

        let source = &payloads[1]["source"];
        let seconds = |millis: &Value| millis.as_u64().unwrap() / 1000;
        assert!(
            seconds(&source["ts_ms"]).abs_diff(before) < 60 && seconds(&payloads[1]["ts_ms"]).abs_diff(before) < 60
        );
        assert_eq!((&source["name"], &source["db"], &source["table"]), (&name.into(), &"shop".into(), &"items".into()));
        assert_eq!((&source["snapshot"], &source["origin"]), (&"false".into(), &Value::Null));
        let connector = match node.kind {
            Kind::Postgres => "postgresql",
            Kind::Mariadb => "mariadb",
            Kind::Mysql => "mysql",
        };
        assert_eq!(source["connector"], connector);
        if node.is_postgres() {
            assert_eq!(source["schema"], "public");
            assert!(
                source["lsn"].as_u64() < payloads[2]["source"]["lsn"].as_u64() && source["txId"].is_u64(),
                "{source:#}"
            );
            assert_eq!(source["txId"].to_string(), transactions[1].as_str().unwrap());
        } else {
            // It is where the other form says that the transaction ends.
            let common = &events(&link, &["tail", name, "--from", &from, "--limit", "2"]).await[1];
            let place = format!("{}:{}", source["file"].as_str().unwrap(), source["pos"]);
            assert_eq!((common["position"].as_str(), source["row"].as_u64()), (Some(&*place), Some(1)));
        }
    }
}
