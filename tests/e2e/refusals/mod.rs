//! What stops the bridge: each reason gives its code, a message that says what and where, a remedy and
//! its exit code; and nothing is lost. Once it is mended, the bridge goes on from there.

mod findings;
mod lost;
mod rows;

use pontoon_servers::{Kind, Options};

use crate::{
    altered::nobody_lost,
    support::{
        Database, Link, LinkOptions,
        bridge::{Refusal, pontoon},
        database::Rows,
        eventually, first_pairing,
    },
};

const COLUMNS: &str = "id bigint PRIMARY KEY, name varchar(60), quantity int NOT NULL";
const ALL: &str = "SELECT id, name, quantity FROM items ORDER BY id";

first_pairing!(
    logins,
    passwords_stay_secret,
    source_settings,
    replica_identity,
    truncate_and_alter,
    a_conflict_in_front_of_it,
    one_name_two_bridges,
    revoked_rights,
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
pub(crate) fn position_in(text: &str) -> String {
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

/// Settling it would wait for what is behind the obstacle, which nobody reads.
async fn a_conflict_in_front_of_it(kinds: [Kind; 2]) {
    let link = ready(kinds).await;
    for (name, node, other) in [("a", &link.a, &link.b), ("b", &link.b, &link.a)] {
        link.a.run("UPDATE items SET quantity = 5 WHERE id = 1").await;
        link.b.run("UPDATE items SET quantity = 6 WHERE id = 1").await;
        node.run("TRUNCATE TABLE items").await;
        let refusal = run_refused(&link, 4, "truncate-seen").await;
        assert!(refusal.message.starts_with(&format!("{name}: ")), "{refusal:?}");
        other.run("DELETE FROM items").await;
        link.succeed(&["skip", name, &position_in(&refusal.message), "--execute"]).await;
        link.catch_up().await;
        assert_eq!(link.same(ALL).await.len(), 0);
        link.a.run("INSERT INTO items VALUES (1, 'anvil', 4)").await;
        link.catch_up().await;
    }
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
        bridge.logged("waiting until both sides agree on the tables").await;
        let log = bridge.log();
        let told = log.lines().find(|line| line.contains("waiting until both")).unwrap();
        assert!(told.contains(&format!("error={name}: ")) && told.contains("items"), "{told}");
        assert!(told.contains(&format!("extra{round}")) && told.contains("only on "), "{told}");
        let there = ids(target, "items").await;
        assert!(there.contains(&before.to_string()), "what came before it is applied: {there:?}");
        assert!(!there.contains(&after.to_string()), "what came after it is not: {there:?}");
        let refusal = run_refused(&link, 4, "table-unfit").await;
        assert!(refusal.message.contains(&format!("extra{round}")), "{refusal:?}");
        target.run(&add).await;
        link.settle().await;
        assert_eq!(bridge.stop().await, 0);
        let rows = link.same(&format!("SELECT id, extra{round} FROM items WHERE id = {after}")).await;
        assert_eq!(rows[0][1].as_deref(), Some("more"));
        target.run(&format!("UPDATE items SET extra{round} = 'back' WHERE id = {after}")).await;
        link.catch_up().await;
        link.same(&format!("SELECT id, extra{round} FROM items ORDER BY id")).await;
    }
    assert_eq!(link.a.value(settled).await, by_truncates);

    // Both changed while no bridge runs and rows of the old shape are still in the log: they cross, and hold what the column
    // was added with.
    link.a.run("UPDATE items SET quantity = 100 WHERE id = 10").await;
    link.b.run("UPDATE items SET quantity = 100 WHERE id = 20").await;
    link.both("ALTER TABLE items ADD COLUMN late int").await;
    link.catch_up().await;
    let rows = link.same("SELECT quantity, late FROM items WHERE id IN (10, 20)").await;
    assert_eq!(rows.iter().filter(|row| row[0].as_deref() == Some("100") && row[1].is_none()).count(), 2);
    link.a.run("UPDATE items SET late = 1 WHERE id = 10").await;
    link.b.run("UPDATE items SET late = 1 WHERE id = 20").await;
    link.catch_up().await;
    link.same("SELECT id, name, quantity, late FROM items ORDER BY id").await;

    // Nor is one lost that was logged under a name of before.
    link.a.run("UPDATE items SET late = 2 WHERE id = 10").await;
    link.b.run("UPDATE items SET late = 2 WHERE id = 20").await;
    link.both("ALTER TABLE items RENAME COLUMN late TO later").await;
    link.catch_up().await;
    let rows = link.same("SELECT later FROM items WHERE id IN (10, 20)").await;
    assert!(rows.iter().all(|row| row[0].as_deref() == Some("2")), "{rows:?}");

    // Where columns have rules it is not guessed: named, and nothing is applied. Taken back, they cross.
    link.edit("name = \"items\"\n", "name = \"items\"\nconflict = \"column_merge\"\n");
    link.a.run("UPDATE items SET later = 3 WHERE id = 10").await;
    link.b.run("UPDATE items SET later = 3 WHERE id = 20").await;
    link.both("ALTER TABLE items RENAME COLUMN later TO latest").await;
    let refusal = refused_untouched(&link, 4, "schema-changed").await;
    assert!(refusal.message.contains("latest"), "{refusal:?}");
    link.both("ALTER TABLE items RENAME COLUMN latest TO later").await;
    link.catch_up().await;
    let rows = link.same("SELECT later FROM items WHERE id IN (10, 20)").await;
    assert!(rows.iter().all(|row| row[0].as_deref() == Some("3")), "{rows:?}");
    nobody_lost(&link).await;
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
