//! What stops the bridge: each reason gives its code, a message that says what and where, a remedy and
//! its exit code; and nothing is lost. Once it is mended, the bridge goes on from there.

use pontoon_core::Position;
use pontoon_servers::{Kind, Options};

use crate::support::{
    Database, Link, LinkOptions,
    bridge::{Refusal, pontoon},
    database::Rows,
    eventually, pairings,
};

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL";
const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

pairings!(
    logins,
    passwords_stay_secret,
    source_settings,
    replica_identity,
    lost_slots,
    lost_logs,
    other_logs,
    truncate_and_alter,
    refused_rows,
    one_name_two_bridges,
    revoked_rights,
    check_findings,
);

/// Two servers with the table `items` of one row, set up.
async fn ready(kinds: [Kind; 2]) -> Link {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", COLUMNS).await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4)").await;
    link.succeed(&["setup"]).await;
    link
}

async fn run_refused(link: &Link, exit: i32, code: &str) -> Refusal {
    link.command(&["run", "--until-caught-up"]).await.refused(exit, code)
}

/// The ids of the rows of a table, in order.
async fn ids(node: &Database, table: &str) -> Vec<String> {
    let rows = node.rows(&format!("SELECT id FROM {table} ORDER BY id")).await;
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

/// The name of the other node.
fn other(name: &str) -> &'static str {
    if name == "a" { "b" } else { "a" }
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The first position in a text.
fn position_in(text: &str) -> String {
    let words = text.split([' ', ',', '(', ')', ';']).map(|word| word.trim_end_matches(':'));
    let is_lsn = |word: &str| {
        word.split_once('/').is_some_and(|(a, b)| {
            !a.is_empty() && !b.is_empty() && (a.to_owned() + b).chars().all(|c| c.is_ascii_hexdigit())
        })
    };
    let is_binlog = |word: &str| {
        word.rsplit_once(':').is_some_and(|(file, offset)| file.contains('.') && offset.parse::<u64>().is_ok())
    };
    words
        .into_iter()
        .find(|word| is_lsn(word) || is_binlog(word))
        .unwrap_or_else(|| panic!("no position: {text}"))
        .into()
}

async fn logins(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", COLUMNS).await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4)").await;

    // Never set up.
    let refusal = run_refused(&link, 4, "not-set-up").await;
    assert!(refusal.hint.contains("pontoon setup"), "{refusal:?}");
    link.command(&["wait", "--timeout", "1s"]).await.refused(4, "not-set-up");
    link.command(&["status"]).await.refused(4, "not-set-up");

    // A table that is not there is an error of the configuration, with its place.
    link.edit("\"items\"", "\"itmes\"");
    let refusal = run_refused(&link, 2, "config-invalid").await;
    assert!(refusal.message.contains("pontoon.toml:") && refusal.message.contains("itmes"), "{refusal:?}");
    assert!(refusal.hint.contains("items"), "{refusal:?}");
    link.edit("\"itmes\"", "\"items\"");

    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (2, 'from a', 1)").await;
    link.b.run("INSERT INTO items VALUES (3, 'from b', 1)").await;
    for (name, node) in [("a", &link.a), ("b", &link.b)] {
        let file = link.folder.path().join(format!("password-{name}"));
        std::fs::write(&file, "not-the-password").unwrap();
        for command in ["run", "check", "setup", "status", "verify", "teardown"] {
            let ended = link.command(&[command]).await;
            let refusal = ended.refused(3, "login-refused");
            assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
            assert!(refusal.message.contains(&node.server.port().to_string()), "{refusal:?}");
            assert!(!format!("{ended:?}").contains("not-the-password"), "{ended:?}");
        }
        std::fs::write(&file, node.server.password()).unwrap();

        let url = node.server.url(node.server.superuser(), "shop");
        let nowhere = node.server.url(node.server.superuser(), "nowhere");
        link.edit(&url, &nowhere);
        let refusal = run_refused(&link, 3, "login-refused").await;
        assert!(
            refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains("nowhere"),
            "{refusal:?}"
        );
        link.edit(&nowhere, &url);

        let port = free_port().to_string();
        let absent = url.replace(&node.server.port().to_string(), &port);
        link.edit(&url, &absent);
        let refusal = run_refused(&link, 3, "unreachable").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains(&port), "{refusal:?}");
        link.edit(&absent, &url);
    }
    link.catch_up().await;
    assert_eq!(link.same(ALL).await.len(), 3);
}

async fn passwords_stay_secret(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let secrets: Vec<String> = link.nodes().map(|node| node.server.password().to_owned()).into();
    let spared = |what: &str, text: &str| {
        for secret in &secrets {
            assert!(secret.len() > 5 && !text.contains(secret.as_str()), "the password is in {what}:\n{text}");
        }
    };
    // In the url it is warned about, and hidden all the same.
    let (with, without) = (link.a.url(), link.a.server.url(link.a.server.superuser(), "shop"));
    link.edit(&without, &with);
    let file = format!("password_file = \"{}\"\n", link.folder.path().join("password-a").display());
    link.edit(&file, "");
    let ended = link.command(&["--log", "trace", "check"]).await;
    assert!(ended.err.contains("WARN") && ended.err.contains("password"), "{ended:?}");
    spared("check", &format!("{}{}", ended.out, ended.err));
    link.edit(&with, &(without + "\"\n" + file.trim_end().trim_end_matches('"')));

    let bridge = link.run();
    bridge.works().await;
    let arguments = std::fs::read(format!("/proc/{}/cmdline", bridge.id())).unwrap();
    assert!(!arguments.is_empty());
    spared("its arguments", &String::from_utf8_lossy(&arguments));
    link.a.run("UPDATE items SET quantity = 5").await;
    link.settle().await;
    let all: [&[&str]; 9] = [
        &["check"],
        &["check", "--json"],
        &["setup", "--print-sql"],
        &["setup"],
        &["status"],
        &["status", "--json"],
        &["verify"],
        &["teardown"],
        &["run", "--until-caught-up"],
    ];
    assert_eq!(bridge.stop().await, 0);
    for arguments in all {
        let arguments: Vec<&str> = ["--log", "trace"].iter().chain(arguments).copied().collect();
        let ended = link.command(&arguments).await;
        spared(&format!("{arguments:?}"), &format!("{}{}", ended.out, ended.err));
    }
    for name in ["a", "b"] {
        std::fs::write(link.folder.path().join(format!("password-{name}")), format!("{}x", secrets[0])).unwrap();
        let ended = link.command(&["--log", "trace", "run"]).await;
        assert_eq!(ended.code, 3);
        spared("a refusal", &format!("{}{}", ended.out, ended.err));
    }
    for entry in std::fs::read_dir(link.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "log") {
            spared("a log", &String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
    }
}

#[tokio::test]
async fn bad_configurations() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bridge.toml");
    let good = "bridge = \"e2e\"\n[nodes.a]\nurl = \"postgresql://p@127.0.0.1:1/shop\"\n\
                [nodes.b]\nurl = \"mysql://p@127.0.0.1:1/shop\"\n[[tables]]\nname = \"items\"\n";
    for (from, to, place, word) in [
        ("bridge =", "brigde =", "1:1", "bridge"),
        ("\"e2e\"", "\"E2E\"", "1:10", "a-z"),
        ("url = \"mysql", "urll = \"mysql", "5:1", "url"),
        ("mysql://", "oracle://", "5:7", "mysql"),
        ("[[tables]]", "[[table]]", "6:3", "tables"),
        ("name =", "names =", "7:1", "name"),
        ("\"items\"", "12", "7:8", "name"),
        ("\"items\"\n", "\"items\"\ndirection = \"a->c\"\n", "8:13", "the nodes are a and b"),
        ("\"items\"\n", "\"items\"\nconflict = \"last_writer_win\"\n", "8:12", "last_writer_wins"),
        ("\"items\"", "\"items", "7:", ""),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        std::fs::write(&file, text).unwrap();
        let ended = pontoon(&file, &["run"]).await;
        let line = ended.err.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        assert_eq!(ended.code, 2, "{to}: {ended:?}");
        assert!(line.contains(&format!("bridge.toml:{place}")), "{to}: {place} not in {ended:?}");
        assert!(line.ends_with("[config-invalid]"), "{ended:?}");
        assert!(ended.err.contains(word), "{to}: {word} not in {ended:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let ended = pontoon(&file, &["run"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("bridge.toml"), "{ended:?}");
}

/// A transaction of MySQL's or MariaDB's log that cannot be read.
struct Unreadable<'a> {
    /// Statements of one session; `ID` is the key of a row that is there on both sides.
    statements: &'a [&'a str],
    code: &'a str,
    /// What message or hint has to name.
    names: &'a str,
}

impl Unreadable<'_> {
    /// Earlier transactions are applied, this one and later ones are not; passed over by name, the bridge goes on.
    async fn stops(&self, link: &Link, round: usize) {
        let (mysql, name) = link.mysql();
        let (postgres, _) = link.postgres();
        let [old, before, after] = KEYS.map(|n| (round * 10 + n).to_string());
        mysql.run(&format!("INSERT INTO items VALUES ({before}, 'before', 1)")).await;
        let mut session = mysql.client().await;
        for statement in self.statements {
            session.run(&statement.replace("ID", &old)).await;
        }
        mysql.run(&format!("INSERT INTO items VALUES ({after}, 'after', 1)")).await;
        let held = ids(postgres, "items").await.len();
        let refusal = run_refused(link, 4, self.code).await;
        assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
        assert!(format!("{refusal:?}").contains(self.names), "{} is not named: {refusal:?}", self.names);
        let there = ids(postgres, "items").await;
        assert!(there.len() == held + 1 && there.contains(&before), "the one before, and nothing else: {there:?}");

        link.succeed(&["skip", name, &position_in(&refusal.message), "--execute"]).await;
        link.catch_up().await;
        assert!(ids(postgres, "items").await.contains(&after), "the one after: {}", self.names);
    }
}

/// Of the rows of a round: there on both sides, written before what is passed over, after it.
const KEYS: [usize; 3] = [1, 2, 3];

async fn source_settings(kinds: [Kind; 2]) {
    let link = Link::start(kinds, LinkOptions::default()).await;
    link.create("items", COLUMNS).await;
    link.succeed(&["setup"]).await;
    let (mysql, name) = link.mysql();
    let (postgres, _) = link.postgres();
    let is_mariadb = mysql.kind == Kind::Mariadb;

    // For the whole server: neither side gets anything.
    mysql.run("INSERT INTO items VALUES (1, 'anvil', 4)").await;
    postgres.run("INSERT INTO items VALUES (2, 'bolt', 9)").await;
    let settings = [
        ("binlog_row_image", "MINIMAL", "FULL", "binlog-row-image"),
        ("binlog_row_image", "NOBLOB", "FULL", "binlog-row-image"),
        ("binlog_format", "MIXED", "ROW", "binlog-format"),
        ("binlog_row_metadata", "MINIMAL", "FULL", "binlog-row-metadata"),
    ];
    for &(setting, bad, good, code) in &settings {
        mysql.run(&format!("SET GLOBAL {setting} = {bad}")).await;
        let (exit, found) = link.check().await;
        let finding = found.iter().find(|finding| finding["code"] == code && finding["severity"] == "blocking");
        let finding = finding.unwrap_or_else(|| panic!("{code} does not block: {found:#?}"));
        assert_eq!(exit, 1);
        assert!(finding["actual"].as_str().unwrap().contains(bad), "{finding}");
        assert!(finding["remedy"].as_str().unwrap().contains(&format!("SET GLOBAL {setting} = {good}")), "{finding}");
        let refusal = run_refused(&link, 4, "setting-wrong").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
        assert!(refusal.message.contains(setting) && refusal.message.contains(bad), "{refusal:?}");
        assert!(refusal.hint.contains(&format!("SET GLOBAL {setting} = {good}")), "{refusal:?}");
        assert_eq!((ids(mysql, "items").await, ids(postgres, "items").await), (vec!["1".into()], vec!["2".into()]));
        mysql.run(&format!("SET GLOBAL {setting} = {good}")).await;
    }
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{found:#?}");
    link.catch_up().await;
    assert_eq!(link.same(ALL).await.len(), 2);

    // For one session.
    let mut all = vec![
        Unreadable {
            statements: &["SET SESSION binlog_row_image = 'MINIMAL'", "UPDATE items SET quantity = 9 WHERE id = ID"],
            code: "row-image-partial",
            names: "binlog_row_image",
        },
        Unreadable {
            statements: &["SET SESSION binlog_format = 'STATEMENT'", "UPDATE items SET quantity = 9 WHERE id = ID"],
            code: "event-unsupported",
            names: "binlog_format",
        },
        Unreadable {
            statements: &["SET SESSION binlog_format = 'MIXED'", "UPDATE items SET quantity = 8 WHERE id = ID"],
            code: "event-unsupported",
            names: "items",
        },
    ];
    if is_mariadb {
        all.push(Unreadable {
            statements: &["SET STATEMENT binlog_format = 'STATEMENT' FOR UPDATE items SET quantity = 9 WHERE id = ID"],
            code: "event-unsupported",
            names: "binlog_format",
        });
    }
    for round in 1..=all.len() {
        let old = round * 10 + KEYS[0];
        mysql.run(&format!("INSERT INTO items VALUES ({old}, 'there', 1)")).await;
    }
    link.catch_up().await;
    for (round, unreadable) in all.iter().enumerate() {
        unreadable.stops(&link, round + 1).await;
    }
    // What was passed over is made equal by writes that can be read.
    mysql.run("UPDATE items SET quantity = 77").await;
    link.catch_up().await;
    link.same(ALL).await;
    link.succeed(&["verify"]).await;
}

async fn replica_identity(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (postgres, name) = link.postgres();
    let (mysql, _) = link.mysql();
    postgres.run("ALTER TABLE items REPLICA IDENTITY DEFAULT").await;
    let (exit, found) = link.check().await;
    let finding = found.iter().find(|finding| finding["code"] == "replica-identity").unwrap();
    assert_eq!((exit, &finding["severity"]), (1, &"blocking".into()), "{finding}");
    let mend = finding["remedy"].as_str().unwrap().to_owned();

    postgres.run("INSERT INTO items VALUES (2, 'before', 1)").await;
    postgres.run("UPDATE items SET quantity = 9 WHERE id = 1").await;
    postgres.run("INSERT INTO items VALUES (3, 'after', 1)").await;
    let refusal = run_refused(&link, 4, "row-image-partial").await;
    assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains("items"), "{refusal:?}");
    assert!(refusal.hint.contains("REPLICA IDENTITY FULL"), "{refusal:?}");
    assert!(ids(mysql, "items").await.iter().all(|id| id != "3"));
    assert_eq!(mysql.value("SELECT quantity FROM items WHERE id = 1").await, "4");

    postgres.run(&mend).await;
    // What is in the log already stays as it is.
    let refusal = run_refused(&link, 4, "row-image-partial").await;
    assert_eq!(ids(mysql, "items").await, ["1", "2"]);
    link.succeed(&["skip", name, &position_in(&refusal.message), "--execute"]).await;
    link.catch_up().await;
    assert_eq!(ids(mysql, "items").await, ["1", "2", "3"]);
    postgres.run("UPDATE items SET quantity = 10 WHERE id = 1").await;
    link.catch_up().await;
    link.same(ALL).await;
    assert_eq!(link.check().await.0, 0);
}

/// Makes the tables equal by hand while there is no bridge, and sets it up anew.
async fn anew(link: &Link) {
    link.succeed(&["teardown", "--execute"]).await;
    link.both("DELETE FROM items").await;
    link.both("INSERT INTO items VALUES (1, 'anvil', 4)").await;
    link.succeed(&["setup"]).await;
    link.a.run("INSERT INTO items VALUES (2, 'from a', 1)").await;
    link.b.run("INSERT INTO items VALUES (3, 'from b', 1)").await;
    link.catch_up().await;
    assert_eq!(link.same(ALL).await.len(), 3);
}

/// A write on each side that the bridge has not seen.
async fn backlog(link: &Link) {
    link.a.run("INSERT INTO items VALUES (50, 'unseen, of a', 1)").await;
    link.b.run("INSERT INTO items VALUES (60, 'unseen, of b', 1)").await;
}

/// `run` is refused before any row is applied, on either side.
async fn refused_untouched(link: &Link, exit: i32, code: &str) -> Refusal {
    let before = (link.a.rows(ALL).await, link.b.rows(ALL).await);
    let refusal = run_refused(link, exit, code).await;
    assert_eq!((link.a.rows(ALL).await, link.b.rows(ALL).await), before, "rows were applied: {refusal:?}");
    refusal
}

async fn lost_slots(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (postgres, name) = link.postgres();
    link.catch_up().await;
    let slot = postgres.value("SELECT slot_name FROM pg_replication_slots").await;
    assert!(slot.starts_with("pontoon"), "{slot}");
    let lost = async |sql: &str| {
        backlog(&link).await;
        for sql in sql.split(';') {
            postgres.run(&sql.replace("SLOT", &slot)).await;
        }
        let refusal = refused_untouched(&link, 4, "log-lost").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains(&slot), "{refusal:?}");
        position_in(&refusal.message);
        assert!(refusal.hint.contains("pontoon verify") && refusal.hint.contains("pontoon setup"), "{refusal:?}");
        // Set-up, which is safe to repeat, does not cover it up.
        link.command(&["setup"]).await;
        refused_untouched(&link, 4, "log-lost").await;
        anew(&link).await;
    };
    lost("SELECT pg_drop_replication_slot('SLOT')").await;
    lost("SELECT pg_drop_replication_slot('SLOT'); SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')")
        .await;
    lost("SELECT pg_replication_slot_advance('SLOT', pg_current_wal_lsn())").await;

    postgres.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await;
    postgres.run("SELECT pg_reload_conf()").await;
    eventually("the setting is in force", async || postgres.value("SHOW max_slot_wal_keep_size").await == "1MB").await;
    backlog(&link).await;
    for _ in 0..4 {
        postgres.run("CREATE TABLE filler (id int)").await;
        postgres.run("DROP TABLE filler").await;
        postgres.run("SELECT pg_switch_wal()").await;
    }
    postgres.run("CHECKPOINT").await;
    assert_eq!(postgres.value("SELECT wal_status FROM pg_replication_slots").await, "lost");
    let (exit, found) = link.check().await;
    let blocks = found.iter().any(|finding| finding["code"] == "slot" && finding["severity"] == "blocking");
    assert!(exit == 1 && blocks, "{found:#?}");
    refused_untouched(&link, 4, "log-lost").await;
    let refusal = link.command(&["setup"]).await.refused(4, "log-lost");
    assert!(refusal.hint.contains("pontoon teardown"), "{refusal:?}");
    refused_untouched(&link, 4, "log-lost").await;
    anew(&link).await;
}

async fn lost_logs(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (mysql, name) = link.mysql();
    link.catch_up().await;
    backlog(&link).await;
    mysql.run("FLUSH BINARY LOGS").await;
    // A file that a reader still holds stays for a while.
    eventually("the log is purged", async || {
        let last = mysql.rows("SHOW BINARY LOGS").await.last().unwrap()[0].clone().unwrap();
        mysql.run(&format!("PURGE BINARY LOGS TO '{last}'")).await;
        mysql.rows("SHOW BINARY LOGS").await.len() == 1
    })
    .await;
    let refusal = refused_untouched(&link, 4, "log-lost").await;
    assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
    assert!(refusal.hint.contains("binlog_expire_logs_seconds"), "{refusal:?}");
    // Set-up, which is safe to repeat, does not cover it up.
    link.command(&["setup"]).await;
    refused_untouched(&link, 4, "log-lost").await;
    anew(&link).await;

    // The log begins anew, and is shorter than what was applied.
    mysql
        .run(match mysql.kind {
            Kind::Mariadb => "RESET MASTER",
            _ => "RESET BINARY LOGS AND GTIDS",
        })
        .await;
    backlog(&link).await;
    let refusal = refused_untouched(&link, 4, "log-behind").await;
    assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
    assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
    anew(&link).await;
}

/// Copies a folder as it is.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// Writes to a node until its log is beyond a position.
async fn grow_over(node: &Database, position: &str) {
    let position: Position = position.parse().unwrap();
    let place = |rows: Rows| rows[0][..2].iter().flatten().cloned().collect::<Vec<_>>().join(":");
    node.run("CREATE TABLE noise (id bigint, payload varchar(1000))").await;
    loop {
        let payload = "x".repeat(1_000);
        node.run(&format!("INSERT INTO noise VALUES (1, '{payload}'), (2, '{payload}'), (3, '{payload}')")).await;
        let end = match node.kind {
            Kind::Postgres => node.value("SELECT pg_current_wal_insert_lsn()").await,
            Kind::Mariadb => place(node.rows("SHOW MASTER STATUS").await),
            Kind::Mysql => place(node.rows("SHOW BINARY LOG STATUS").await),
        };
        if end.parse::<Position>().unwrap() > position {
            return;
        }
    }
}

async fn other_logs(kinds: [Kind; 2]) {
    let mut link = ready(kinds).await;
    link.catch_up().await;

    // Each server in turn is given back an older state of its files, under a bridge that runs.
    for side in [0, 1] {
        let bridge = link.run();
        bridge.works().await;
        let node = if side == 0 { &mut link.a } else { &mut link.b };
        let (data, kept) = (node.server.data(), node.server.folder().join("kept"));
        node.server.stop().await.unwrap();
        copy(&data, &kept);
        node.server.restart().await.unwrap();
        let node = if side == 0 { &link.a } else { &link.b };
        for id in 10..20 {
            node.run(&format!("INSERT INTO items VALUES ({id}, 'lost by the restore', 1)")).await;
        }
        link.settle().await;
        let node = if side == 0 { &mut link.a } else { &mut link.b };
        node.server.stop().await.unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&kept, &data).unwrap();
        node.server.restart().await.unwrap();
        let name = ["a", "b"][side];
        let behind = |refusal: Refusal| {
            assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
            assert!(refusal.hint.contains("compare the tables"), "{refusal:?}");
        };
        behind(bridge.end().await.refused(4, "log-behind"));
        backlog(&link).await;
        behind(refused_untouched(&link, 4, "log-behind").await);
        // Nor is it taken for whole when its log has grown over the place.
        let (node, other) = if side == 0 { (&link.a, &link.b) } else { (&link.b, &link.a) };
        grow_over(node, &other.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await).await;
        behind(refused_untouched(&link, 4, "log-behind").await);
        anew(&link).await;
    }

    // The same server with another log: a promoted copy, and a restored one that was given a number of its own.
    let side = usize::from(!link.a.is_postgres());
    let node = if side == 0 { &mut link.a } else { &mut link.b };
    node.server.stop().await.unwrap();
    std::fs::write(node.server.data().join("standby.signal"), "").unwrap();
    node.server.restart().await.unwrap();
    let postgres = link.postgres().0;
    postgres.run("SELECT pg_promote()").await;
    eventually("it is promoted", async || postgres.value("SELECT pg_is_in_recovery()::int").await == "0").await;
    backlog(&link).await;
    let refusal = refused_untouched(&link, 4, "log-identity-changed").await;
    assert!(refusal.message.starts_with(&format!("{}: ", link.postgres().1)), "{refusal:?}");
    assert!(refusal.message.matches("postgres:").count() == 2, "which it knew and which it found: {refusal:?}");
    anew(&link).await;

    if link.mysql().0.kind == Kind::Mysql {
        let node = if link.a.is_postgres() { &mut link.b } else { &mut link.a };
        node.server.stop().await.unwrap();
        std::fs::remove_file(node.server.data().join("auto.cnf")).unwrap();
        node.server.restart().await.unwrap();
        backlog(&link).await;
        let refusal = refused_untouched(&link, 4, "log-identity-changed").await;
        assert!(refusal.message.matches("mysql:").count() == 2, "which it knew and which it found: {refusal:?}");
        anew(&link).await;
    }

    // Another server where this one was, with the same rows.
    for side in [0, 1] {
        let (node, name) = if side == 0 { (&link.a, "a") } else { (&link.b, "b") };
        let stranger = Database::start(node.kind, Options::default()).await;
        stranger.run(&format!("CREATE TABLE items ({COLUMNS})")).await;
        let (here, there) = (node.server.port().to_string(), stranger.server.port().to_string());
        link.edit(&here, &there);
        refused_untouched(&link, 4, "not-set-up").await;
        // Nor does set-up take it for the one that it knows.
        let refusal = link.command(&["setup"]).await.refused(4, "bridge-name-taken");
        assert!(refusal.message.starts_with(&format!("{}: ", other(name))), "{refusal:?}");
        link.edit(&there, &here);
    }
    backlog(&link).await;
    link.catch_up().await;
    link.same(ALL).await;
}

async fn truncate_and_alter(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    link.catch_up().await;
    for (name, node, target) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)] {
        node.run("INSERT INTO items VALUES (2, 'before', 1)").await;
        node.run("TRUNCATE TABLE items").await;
        node.run("INSERT INTO items VALUES (3, 'after', 1)").await;
        let refusal = run_refused(&link, 4, "truncate-seen").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains("items"), "{refusal:?}");
        assert!(refusal.hint.contains("pontoon skip"), "{refusal:?}");
        assert_eq!(ids(target, "items").await, ["1", "2"]);
        target.run("DELETE FROM items WHERE id <> 3").await;
        let position = position_in(&refusal.message);
        let shown = link.command(&["skip", name, &position]).await;
        assert_eq!(shown.code, 0, "{shown:?}");
        assert!(shown.out.contains("items"), "what is passed over is shown: {shown:?}");
        run_refused(&link, 4, "truncate-seen").await;
        link.succeed(&["skip", name, &position, "--execute"]).await;
        link.catch_up().await;
        assert_eq!(link.same(ALL).await.len(), 1);
        link.a.run("DELETE FROM items").await;
        link.a.run("INSERT INTO items VALUES (1, 'anvil', 4)").await;
        link.catch_up().await;
        assert_eq!(link.same(ALL).await.len(), 1);
    }
    for node in [link.postgres(), link.mysql()] {
        let position = if node.0.is_postgres() { "0/1" } else { "binlog.000001:1" };
        let ended = link.command(&["skip", node.1, position, "--execute"]).await;
        assert_eq!(ended.code, 1, "no such transaction: {ended:?}");
    }
    link.command(&["skip", "c", "0/1"]).await.refused(2, "config-invalid");

    let settled = "SELECT count(*) FROM pontoon.resolution";
    let by_truncates = link.a.value(settled).await;
    // A change of shape, met while it runs; the same on the other side; it goes on.
    for (round, (name, node, target)) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)].into_iter().enumerate() {
        let bridge = link.run();
        bridge.works().await;
        let [before, after] = [10, 11].map(|n| n + round * 10);
        node.run(&format!("INSERT INTO items (id, name, quantity) VALUES ({before}, 'before', 1)")).await;
        let add = format!("ALTER TABLE items ADD COLUMN extra{round} varchar(10)");
        node.run(&add).await;
        node.run(&format!("INSERT INTO items (id, name, quantity, extra{round}) VALUES ({after}, 'after', 1, 'more')"))
            .await;
        let refusal = bridge.end().await.refused(4, "schema-changed");
        assert!(refusal.message.starts_with(&format!("{name}: ")) && refusal.message.contains("items"), "{refusal:?}");
        assert!(refusal.hint.contains("same change"), "{refusal:?}");
        let there = ids(target, "items").await;
        assert!(there.contains(&before.to_string()), "what came before it is applied: {there:?}");
        assert!(!there.contains(&after.to_string()), "what came after it is not: {there:?}");
        let refusal = run_refused(&link, 4, "table-unfit").await;
        assert!(refusal.message.contains(&format!("extra{round}")), "{refusal:?}");
        target.run(&add).await;
        link.catch_up().await;
        let rows = link.same(&format!("SELECT id, extra{round} FROM items WHERE id = {after}")).await;
        assert_eq!(rows[0][1].as_deref(), Some("more"));
        target.run(&format!("UPDATE items SET extra{round} = 'back' WHERE id = {after}")).await;
        link.catch_up().await;
        link.same(&format!("SELECT id, extra{round} FROM items ORDER BY id")).await;
    }
    assert_eq!(link.a.value(settled).await, by_truncates);

    // Both changed while no bridge runs and rows of the old shape are still in the log: what they hold of the new
    // column is not known, and not guessed. Taken back, they cross.
    link.a.run("UPDATE items SET quantity = 100 WHERE id = 10").await;
    link.b.run("UPDATE items SET quantity = 100 WHERE id = 20").await;
    link.both("ALTER TABLE items ADD COLUMN late int").await;
    let refusal = refused_untouched(&link, 4, "schema-changed").await;
    assert!(refusal.message.contains("late"), "{refusal:?}");
    link.both("ALTER TABLE items DROP COLUMN late").await;
    link.catch_up().await;
    let rows = link.same("SELECT quantity FROM items WHERE id IN (10, 20)").await;
    assert_eq!(rows.iter().filter(|row| row[0].as_deref() == Some("100")).count(), 2);
    link.both("ALTER TABLE items ADD COLUMN late int").await;
    link.a.run("UPDATE items SET late = 1 WHERE id = 10").await;
    link.b.run("UPDATE items SET late = 1 WHERE id = 20").await;
    link.catch_up().await;
    link.same("SELECT id, name, quantity, late FROM items ORDER BY id").await;
    assert_eq!(link.a.value(settled).await, by_truncates);
}

/// A row that the target refuses.
struct Refused<'a> {
    table: &'a str,
    from_postgres: bool,
    /// The column `v` and what may follow it: on PostgreSQL, on the other.
    columns: [&'a str; 2],
    /// Values that all can hold, and the one that is refused: as SQL of the source.
    good: &'a str,
    bad: &'a str,
    code: &'a str,
    /// On the target, or else passed over and made good on the source by this value.
    mend: Mend<'a>,
}

enum Mend<'a> {
    Target(&'a str),
    PassOver(&'a str),
    /// Passed over, and the row written on the target, with this value: that comes back and wins, but the losing row
    /// cannot be compared, and so not be overwritten unseen. It is made good on the source.
    Overwrite(&'a str),
}

impl Refused<'_> {
    async fn stops(&self, link: &Link) {
        let (postgres, mysql) = (link.postgres(), link.mysql());
        let ((source, name), (target, _)) = if self.from_postgres { (postgres, mysql) } else { (mysql, postgres) };
        let table = self.table;
        let insert = |id: i32, v: &str| format!("INSERT INTO {table} (id, v) VALUES ({id}, {v})");
        let mut session = source.client().await;
        if source.kind != Kind::Postgres {
            session.run("SET sql_mode = ''").await;
        }
        session.run(&insert(1, self.good)).await;
        session.run("BEGIN").await;
        session.run(&insert(2, &self.good.replace("good", "fine"))).await;
        session.run(&insert(3, self.bad)).await;
        session.run("COMMIT").await;
        session.run(&insert(4, &self.good.replace("good", "well"))).await;

        let refusal = run_refused(link, 4, self.code).await;
        assert!(refusal.message.contains(table), "no table: {refusal:?}");
        assert!(refusal.message.contains("key (3)"), "no key: {refusal:?}");
        let position = position_in(&refusal.message);
        assert!(!refusal.hint.is_empty(), "{refusal:?}");
        assert_eq!(ids(target, table).await, ["1"], "what came before, and nothing of it: {refusal:?}");
        match &self.mend {
            Mend::Target(sql) => target.run(sql).await,
            Mend::PassOver(value) => {
                let shown = link.succeed(&["skip", name, &position, "--execute"]).await;
                assert!(shown.lines().count() >= 3, "both rows are shown: {shown}");
                session.run(&format!("UPDATE {table} SET v = {value} WHERE id = 3")).await;
                // Its neighbour was passed over with it.
                session.run(&format!("DELETE FROM {table} WHERE id = 2")).await;
            }
            Mend::Overwrite(value) => {
                link.succeed(&["skip", name, &position, "--execute"]).await;
                target.run(&format!("INSERT INTO {table} (id, v) VALUES (2, {value}), (3, {value})")).await;
                let refusal = run_refused(link, 4, "value-misfit").await;
                assert!(refusal.message.starts_with(&format!("{name}: {table} key (3)")), "{refusal:?}");
                assert!(refusal.hint.contains(&format!("on {name}")), "{refusal:?}");
                session.run(&format!("UPDATE {table} SET v = {value} WHERE id = 3")).await;
            }
        }
        link.catch_up().await;
        let held = ids(target, table).await;
        assert_eq!(held, ids(source, table).await);
        assert!(held.contains(&"3".to_owned()) && held.contains(&"4".to_owned()));
    }
}

async fn refused_rows(kinds: [Kind; 2]) {
    let out_of_u64 = "18446744073709551616";
    let all = [
        Refused {
            table: "unique_there",
            from_postgres: true,
            columns: ["varchar(20)", "varchar(20), CONSTRAINT only_one UNIQUE (v)"],
            good: "'good'",
            bad: "'good'",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE unique_there DROP INDEX only_one"),
        },
        Refused {
            table: "unique_back",
            from_postgres: false,
            columns: ["varchar(20), CONSTRAINT only_one UNIQUE (v)", "varchar(20)"],
            good: "'good'",
            bad: "'good'",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE unique_back DROP CONSTRAINT only_one"),
        },
        Refused {
            table: "check_there",
            from_postgres: true,
            columns: ["int", "int, CONSTRAINT positive CHECK (v > 0)"],
            good: "1",
            bad: "-1",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE check_there DROP CONSTRAINT positive"),
        },
        Refused {
            table: "check_back",
            from_postgres: false,
            columns: ["int, CONSTRAINT positive CHECK (v > 0)", "int"],
            good: "1",
            bad: "-1",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE check_back DROP CONSTRAINT positive"),
        },
        Refused {
            table: "null_there",
            from_postgres: true,
            columns: ["int", "int NOT NULL"],
            good: "1",
            bad: "NULL",
            code: "row-refused",
            mend: Mend::Target("ALTER TABLE null_there MODIFY v int NULL"),
        },
        Refused {
            table: "big_there",
            from_postgres: true,
            columns: ["numeric(20,0)", "bigint unsigned"],
            good: "18446744073709551615",
            bad: out_of_u64,
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE big_there MODIFY v decimal(20,0)"),
        },
        Refused {
            table: "big_back",
            from_postgres: false,
            columns: ["bigint", "bigint unsigned"],
            good: "9223372036854775807",
            bad: "18446744073709551615",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE big_back ALTER v TYPE numeric(20,0)"),
        },
        Refused {
            table: "long_there",
            from_postgres: true,
            columns: ["varchar(20)", "varchar(5)"],
            good: "'good'",
            bad: "'too long'",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE long_there MODIFY v varchar(20)"),
        },
        Refused {
            table: "long_back",
            from_postgres: false,
            columns: ["varchar(5)", "varchar(20)"],
            good: "'good'",
            bad: "'too long'",
            code: "value-misfit",
            mend: Mend::Target("ALTER TABLE long_back ALTER v TYPE varchar(20)"),
        },
        Refused {
            table: "nan_there",
            from_postgres: true,
            columns: ["double precision", "double"],
            good: "1.5",
            bad: "'NaN'",
            code: "value-misfit",
            mend: Mend::PassOver("2.5"),
        },
        Refused {
            table: "infinite_there",
            from_postgres: true,
            columns: ["timestamp", "datetime(6)"],
            good: "'2026-01-01'",
            bad: "'infinity'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "infinite_won_there",
            from_postgres: true,
            columns: ["date", "date"],
            good: "'2026-01-01'",
            bad: "'-infinity'",
            code: "value-misfit",
            mend: Mend::Overwrite("'2026-01-02'"),
        },
        Refused {
            table: "zero_date_won_back",
            from_postgres: false,
            columns: ["timestamp", "datetime"],
            good: "'2026-01-01'",
            bad: "'0000-00-00 00:00:00'",
            code: "value-misfit",
            mend: Mend::Overwrite("'2026-01-02'"),
        },
        Refused {
            table: "nul_back",
            from_postgres: false,
            columns: ["varchar(20)", "varchar(20)"],
            good: "'good'",
            bad: "'n\\0ul'",
            code: "value-misfit",
            mend: Mend::PassOver("'mended'"),
        },
        Refused {
            table: "zero_date_back",
            from_postgres: false,
            columns: ["date", "date"],
            good: "'2026-01-01'",
            bad: "'0000-00-00'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "part_date_back",
            from_postgres: false,
            columns: ["timestamp", "datetime"],
            good: "'2026-01-01'",
            bad: "'2026-00-00 10:00:00'",
            code: "value-misfit",
            mend: Mend::PassOver("'2026-01-02'"),
        },
        Refused {
            table: "span_back",
            from_postgres: false,
            columns: ["time", "time"],
            good: "'10:00:00'",
            bad: "'-10:00:00'",
            code: "value-misfit",
            mend: Mend::PassOver("'11:00:00'"),
        },
    ];
    let tables: String = all.iter().map(|refused| format!("[[tables]]\nname = \"{}\"\n", refused.table)).collect();
    let configuration = format!("[defaults]\non_error = \"stop\"\n{tables}");
    let link = Link::start(kinds, LinkOptions { configuration, ..LinkOptions::default() }).await;
    let [postgres, mysql] = [link.postgres().0, link.mysql().0];
    for Refused { table, columns: [on_postgres, on_mysql], .. } in &all {
        postgres.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v {on_postgres})")).await;
        postgres.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
        mysql.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v {on_mysql})")).await;
    }
    link.succeed(&["setup"]).await;
    for refused in &all {
        refused.stops(&link).await;
    }
    link.succeed(&["verify"]).await;
    // Only what was passed over had to be settled.
    for Refused { table, mend, .. } in &all {
        let settled = format!("SELECT count(*) FROM pontoon.resolution WHERE table_name = '{table}'");
        for node in link.nodes() {
            // The row and its neighbour.
            let expected = match mend {
                Mend::Target(_) => "0",
                Mend::PassOver(_) | Mend::Overwrite(_) => "2",
            };
            assert_eq!(node.value(&settled).await, expected, "{table}");
        }
    }
}

async fn one_name_two_bridges(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    for (name, node) in [("a", &link.a), ("b", &link.b)] {
        // Another server in the place of one of the two.
        let third = Database::start(node.kind, Options::default()).await;
        third.run(&format!("CREATE TABLE items ({COLUMNS})")).await;
        if third.is_postgres() {
            third.run("ALTER TABLE items REPLICA IDENTITY FULL").await;
        }
        let (here, there) = (node.server.port().to_string(), third.server.port().to_string());
        link.edit(&here, &there);
        let refusal = link.command(&["setup"]).await.refused(4, "bridge-name-taken");
        assert!(refusal.message.starts_with(&format!("{}: ", other(name))), "{refusal:?}");
        assert!(refusal.message.contains("\"e2e\""), "{refusal:?}");
        assert!(refusal.hint.contains("another name"), "{refusal:?}");
        let ended = link.command(&["run", "--until-caught-up"]).await;
        assert_eq!(ended.code, 4, "{ended:?}");
        link.edit(&there, &here);
        // Another database of the same server.
        node.run("CREATE DATABASE shop2").await;
        let (here, there) = (format!(":{here}/shop"), format!(":{here}/shop2"));
        let url = node.server.superuser_url("shop2");
        let mut other_database = crate::support::database::Client::connect(node.kind, &url).await;
        other_database.run(&format!("CREATE TABLE items ({COLUMNS})")).await;
        if node.is_postgres() {
            other_database.run("ALTER TABLE items REPLICA IDENTITY FULL").await;
        }
        link.edit(&here, &there);
        let ended = link.command(&["setup"]).await;
        ended.refused(4, "bridge-name-taken");
        link.edit(&there, &here);
    }
    backlog(&link).await;
    link.catch_up().await;
    link.same(ALL).await;
}

/// A right that is taken away while it runs stops it; given back, it goes on.
async fn revoked_rights(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    let (postgres, _) = link.postgres();
    let (mysql, _) = link.mysql();
    postgres.run("CREATE ROLE plain LOGIN PASSWORD 'plain'").await;
    mysql.run("CREATE USER plain IDENTIFIED BY 'plain'").await;
    mysql.run("GRANT SELECT ON shop.* TO plain").await;
    let superusers = link.nodes().map(|node| (node.server.superuser(), node.server.password()));
    let tables = "[[tables]]\nname = \"items\"\n";
    for side in [0, 1] {
        let name = ["a", "b"][side];
        let mut users = superusers;
        users[side] = ("plain", "plain");
        link.configure_for(users, tables);
        backlog_of(&link, side).await;
        for command in ["run", "setup"] {
            let refusal = link.command(&[command]).await.refused(4, "privilege-missing");
            assert!(refusal.message.starts_with(&format!("{name}: ")), "{command}: {refusal:?}");
            assert!(refusal.hint.contains("setup --print-sql"), "{command}: {refusal:?}");
        }
        let (exit, found) = link.check().await;
        assert_eq!(exit, 1);
        let blocking: Vec<_> = found
            .iter()
            .filter(|finding| finding["severity"] == "blocking")
            .map(|finding| finding["code"].as_str().unwrap().to_owned())
            .collect();
        assert!(blocking.iter().all(|code| code.starts_with("privilege-")), "{found:#?}");
        assert!(blocking.iter().any(|code| code == "privilege-replication"), "{found:#?}");
        assert!(blocking.iter().any(|code| code == "privilege-table"), "{found:#?}");
    }
    link.configure_for(superusers, tables);
    link.catch_up().await;
    link.same(ALL).await;
}

async fn backlog_of(link: &Link, side: usize) {
    link.a.run(&format!("INSERT INTO items VALUES ({}, 'of a', 1)", 100 + side)).await;
    link.b.run(&format!("INSERT INTO items VALUES ({}, 'of b', 1)", 200 + side)).await;
}

/// What `check` has to find, and what mends it.
struct Finding<'a> {
    code: &'a str,
    /// What its subject has to name.
    subject: &'a str,
    /// What the finding has to name beside.
    names: &'a str,
}

async fn check_findings(kinds: [Kind; 2]) {
    let tables = [
        "keyless",
        "folding",
        "counted",
        "parent",
        "child",
        "triggered",
        "typed",
        "engine",
        "identity",
        "unlogged",
        "deferred",
        "uneven",
    ];
    let configuration: String = tables.iter().map(|name| format!("[[tables]]\nname = \"{name}\"\n")).collect();
    let mut link =
        Link::start(kinds, LinkOptions { configuration: configuration.clone(), ..LinkOptions::default() }).await;
    let (postgres, on_postgres) = link.postgres();
    let (mysql, on_mysql) = link.mysql();
    let is_mariadb = mysql.kind == Kind::Mariadb;
    link.both("CREATE TABLE keyless (id int, v int)").await;
    postgres.run("CREATE TABLE folding (id varchar(20) PRIMARY KEY, v int)").await;
    mysql.run("CREATE TABLE folding (id varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v int)").await;
    postgres.run("CREATE TABLE counted (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v int)").await;
    mysql.run("CREATE TABLE counted (id bigint AUTO_INCREMENT PRIMARY KEY, v int)").await;
    link.both("CREATE TABLE parent (id int PRIMARY KEY, v int)").await;
    link.both(
        "CREATE TABLE child (id int PRIMARY KEY, p int, CONSTRAINT of_parent FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE)",
    )
    .await;
    link.both("CREATE TABLE triggered (id int PRIMARY KEY, v int)").await;
    postgres.run("CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'").await;
    for (trigger, way) in [("usual", "ENABLE"), ("eager", "ENABLE ALWAYS")] {
        postgres
            .run(&format!("CREATE TRIGGER {trigger} BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION act()"))
            .await;
        postgres.run(&format!("ALTER TABLE triggered {way} TRIGGER {trigger}")).await;
    }
    mysql.run("CREATE TRIGGER busy BEFORE INSERT ON triggered FOR EACH ROW SET NEW.v = NEW.v + 1").await;
    let unsupported = [
        ("net", "inet", "varchar(50)", "inet"),
        ("span", "interval", "varchar(50)", "interval"),
        ("list", "int[]", "varchar(50)", "integer[]"),
        ("ranged", "int4range", "varchar(50)", "int4range"),
        ("spot", "text", "point", "point"),
        ("anno", "int", "year", "year"),
        ("few", "text", "set('a','b')", "set"),
        ("bits", "bytea", "bit(8)", "bit(8)"),
        ("apart", "int", "varchar(10)", "varchar(10)"),
    ];
    let columns = |at: usize| -> String {
        unsupported.iter().map(|(name, p, m, _)| format!(", {name} {}", [p, m][at])).collect()
    };
    postgres.run(&format!("CREATE TABLE typed (id int PRIMARY KEY, v int{})", columns(0))).await;
    mysql.run(&format!("CREATE TABLE typed (id int PRIMARY KEY, v int{})", columns(1))).await;
    postgres.run("CREATE TABLE engine (id int PRIMARY KEY, v int)").await;
    mysql.run("CREATE TABLE engine (id int PRIMARY KEY, v int) ENGINE = MyISAM").await;
    link.both("CREATE TABLE identity (id int PRIMARY KEY, v int)").await;
    postgres.run("CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, v int)").await;
    mysql.run("CREATE TABLE unlogged (id int PRIMARY KEY, v int)").await;
    postgres.run("CREATE TABLE deferred (id int PRIMARY KEY, v int CONSTRAINT later UNIQUE DEFERRABLE)").await;
    mysql.run("CREATE TABLE deferred (id int PRIMARY KEY, v int UNIQUE)").await;
    postgres.run("CREATE TABLE uneven (id int PRIMARY KEY, v int, here int)").await;
    mysql.run("CREATE TABLE uneven (id int PRIMARY KEY, v int)").await;
    for table in tables.into_iter().filter(|table| *table != "identity") {
        postgres.run(&format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await;
    }

    let (exit, found) = link.check().await;
    assert_eq!(exit, 1);
    let busy = format!("{on_mysql}: shop.triggered");
    let eager = format!("{on_postgres}: public.triggered");
    let mut expected = vec![
        Finding { code: "table-key-missing", subject: "keyless", names: "primary key" },
        Finding { code: "key-comparison", subject: "folding", names: "utf8mb4_general_ci" },
        Finding { code: "generated-keys", subject: "counted", names: "INCREMENT" },
        Finding { code: "trigger", subject: &busy, names: "busy" },
        Finding { code: "trigger", subject: &eager, names: "eager" },
        Finding { code: "column-types-differ", subject: "typed column apart", names: "varchar(10)" },
        Finding { code: "table-engine", subject: "engine", names: "InnoDB" },
        Finding { code: "replica-identity", subject: "identity", names: "REPLICA IDENTITY FULL" },
        Finding { code: "table-unlogged", subject: "unlogged", names: "SET LOGGED" },
        Finding { code: "constraint-deferrable", subject: "deferred", names: "later" },
        Finding { code: "column-missing", subject: "uneven column here", names: on_postgres },
    ];
    for (name, _, _, native) in &unsupported[..8] {
        expected.push(Finding { code: "column-type-unsupported", subject: name, names: native });
    }
    if is_mariadb {
        expected.push(Finding { code: "foreign-key-cascade", subject: "child", names: "of_parent" });
    }
    let blocking = |found: &[serde_json::Value]| -> Vec<serde_json::Value> {
        found.iter().filter(|finding| finding["severity"] == "blocking").cloned().collect()
    };
    let blocks = blocking(&found);
    for Finding { code, subject, names } in &expected {
        let hit = blocks.iter().find(|finding| {
            finding["code"] == *code
                && finding["subject"].as_str().unwrap().contains(subject)
                && finding.to_string().contains(names)
        });
        let hit = hit.unwrap_or_else(|| panic!("no {code} of {subject} with {names}: {blocks:#?}"));
        for part in ["actual", "expected"] {
            assert!(hit[part].as_str().is_some_and(|text| !text.is_empty()), "{hit}");
        }
    }
    let is_expected = |finding: &serde_json::Value| {
        expected.iter().any(|Finding { code, subject, .. }| {
            finding["code"] == *code && finding["subject"].as_str().unwrap().contains(subject)
        })
    };
    let unexpected: Vec<_> =
        blocks.iter().filter(|finding| !is_expected(finding) && finding["code"] != "primary-key").collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let refusal = link.command(&["setup"]).await.refused(4, "table-unfit");
    assert!(refusal.hint.contains("pontoon check"), "{refusal:?}");

    // The remedies that are SQL are run as they stand.
    let remedy = |code: &str, subject: &str| -> String {
        let of = |finding: &&serde_json::Value| {
            finding["code"] == code && finding["subject"].as_str().unwrap().contains(subject)
        };
        blocks.iter().find(of).unwrap()["remedy"].as_str().unwrap().to_owned()
    };
    postgres.run(&remedy("replica-identity", "identity")).await;
    postgres.run(&remedy("table-unlogged", "unlogged")).await;
    postgres.run(&remedy("trigger", "public.triggered")).await;
    mysql.run(&remedy("trigger", "shop.triggered")).await;
    mysql.run(&remedy("table-engine", "engine")).await;
    link.both("ALTER TABLE keyless ADD PRIMARY KEY (id)").await;
    let exact = if is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
    assert!(remedy("key-comparison", "folding").contains(exact));
    mysql.run(&format!("ALTER TABLE folding MODIFY id varchar(20) COLLATE {exact}")).await;
    for (name, ..) in unsupported {
        link.both(&format!("ALTER TABLE typed DROP COLUMN {name}")).await;
    }
    postgres.run("ALTER TABLE deferred DROP CONSTRAINT later").await;
    postgres.run("ALTER TABLE deferred ADD CONSTRAINT at_once UNIQUE (v)").await;
    mysql.run("ALTER TABLE uneven ADD COLUMN here int").await;
    if is_mariadb {
        mysql.run("ALTER TABLE child DROP FOREIGN KEY of_parent").await;
        mysql.run("ALTER TABLE child ADD CONSTRAINT of_parent FOREIGN KEY (p) REFERENCES parent (id)").await;
    }
    let (exit, found) = link.check().await;
    let left = blocking(&found);
    assert_eq!((exit, left.len()), (1, 1), "{left:#?}");
    assert_eq!(left[0]["code"], "generated-keys");

    // Answered for, or mended.
    let accepted = configuration.replace("\"counted\"\n", "\"counted\"\naccept = [\"generated-keys\"]\n");
    link.configure(&accepted);
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{found:#?}");
    assert!(found.iter().any(|finding| finding["code"] == "generated-keys" && finding["severity"] == "warning"));
    link.configure(&configuration);
    assert_eq!(link.check().await.0, 1);
    postgres.run("ALTER TABLE counted ALTER id SET INCREMENT 2 SET START 1 RESTART").await;
    mysql.run("SET GLOBAL auto_increment_increment = 2").await;
    mysql.run("SET GLOBAL auto_increment_offset = 2").await;
    let (exit, found) = link.check().await;
    assert_eq!(exit, 0, "{:#?}", blocking(&found));
    link.succeed(&["setup"]).await;
    mysql.run("INSERT INTO counted (v) VALUES (1), (2)").await;
    postgres.run("INSERT INTO counted (v) VALUES (3), (4)").await;
    mysql.run("INSERT INTO triggered VALUES (1, 1)").await;
    postgres.run("INSERT INTO folding VALUES ('a', 1), ('A', 2), ('a ', 3)").await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id, v FROM counted ORDER BY id").await.len(), 4);
    link.same("SELECT id, v FROM triggered").await;
    assert_eq!(mysql.value("SELECT count(*) FROM folding").await, "3");
    assert_eq!(link.a.value("SELECT count(*) FROM pontoon.resolution").await, "0");

    // A filter of the log needs a restart.
    let is_a = !link.a.is_postgres();
    let node = if is_a { &mut link.a } else { &mut link.b };
    node.server.set("binlog_do_db", "shop").unwrap();
    node.server.stop().await.unwrap();
    node.server.restart().await.unwrap();
    let (exit, found) = link.check().await;
    let filter = found.iter().find(|finding| finding["code"] == "binlog-filter").unwrap();
    assert_eq!((exit, &filter["severity"]), (1, &"blocking".into()), "{filter}");
    assert!(filter["actual"].as_str().unwrap().contains("shop"), "{filter}");
}
