//! One side begins with a dump of the other, which is written all the time, and the bridge takes its log up where the dump
//! was taken; and every place at which it cannot. The commands are those of `docs/operations.md`.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use pontoon_servers::Kind;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::sleep};

use crate::support::{
    Database, Link, LinkOptions,
    database::{Client, Rows, insert_numbered},
    documented::fenced,
    eventually, first_pairing, workload,
};

first_pairing!(
    a_dump_of_a,
    a_dump_of_b,
    a_place_before_the_dump,
    what_adds_needs_the_dumps_place,
    places_of_a_binary_log,
    places_of_a_slot,
    checkpoints_that_are_there,
    both_ways_in_their_turn
);

const CONFIGURATION: &str =
    "[[tables]]\nname = \"items\"\n[[tables]]\nname = \"balances\"\ncolumns = { amount = \"additive\" }\n";

const TABLES: [(&str, &str); 2] = [
    ("items", "id int PRIMARY KEY, name varchar(60) NOT NULL, quantity int NOT NULL"),
    ("balances", "id int PRIMARY KEY, amount bigint NOT NULL"),
];

/// Rows that are there before the dump.
const ROWS: u64 = 3_000;

/// What a writer has done, at least, before and after what a test does.
const WRITES: u64 = 40;

/// Of the documentation: the blocks of a section in their order, by their language, without comments.
struct Steps(VecDeque<(&'static str, Vec<String>)>);

impl Steps {
    fn of(section: &str) -> Steps {
        let text: &'static str = include_str!("../../docs/operations.md");
        let rest = text.split_once(&format!("### {section}\n")).unwrap().1;
        let section = rest.split("\n## ").next().unwrap().split("\n### ").next().unwrap();
        let blocks = fenced(section).map(|(language, lines)| {
            let comment = if language == "sh" { " #" } else { " --" };
            let plain = |line: &str| line.split(comment).next().unwrap().trim().trim_end_matches(';').to_owned();
            (language, lines.lines().map(plain).collect())
        });
        Steps(blocks.collect())
    }

    fn next(&mut self, language: &str) -> Vec<String> {
        let (found, lines) = self.0.pop_front().unwrap();
        assert_eq!(found, language, "{lines:?}");
        lines
    }
}

/// Runs the statements of a block; what they answered.
async fn run_sql(client: &mut Client, kind: Kind, statements: &[String]) -> Vec<Rows> {
    let mut answers = Vec::new();
    for statement in statements {
        let statement = if statement == "SHOW BINARY LOG STATUS" { log_status(kind) } else { statement };
        answers.push(client.rows(statement).await);
    }
    answers
}

fn log_status(kind: Kind) -> &'static str {
    if kind == Kind::Mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

/// File and offset, of the answer to the statement above.
fn place(rows: &Rows) -> String {
    format!("{}:{}", rows[0][0].as_ref().unwrap(), rows[0][1].as_ref().unwrap())
}

async fn log_end(node: &Database) -> String {
    match node.kind {
        Kind::Postgres => node.value("SELECT pg_current_wal_insert_lsn()").await,
        kind => place(&node.rows(log_status(kind)).await),
    }
}

/// Runs the commands of a block with a test's names and places in the place of those of the documentation.
async fn run_commands(link: &Link, lines: &[String], shop_at: &str, stock_at: &str) {
    for line in lines {
        let line = line
            .replace("shop=0/16B3748", &format!("{}={shop_at}", link.postgres().1))
            .replace("stock=binlog.000003:1234", &format!("{}={stock_at}", link.mysql().1));
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let said = link.succeed(&words).await;
        println!("$ {line}\n{said}");
        for word in words.iter().filter(|word| word.contains('=')) {
            let (node, position) = word.split_once('=').unwrap();
            assert!(said.contains(&format!("{node}: its log is taken up at {position}")), "{said}");
        }
    }
}

/// An application that goes on writing to a node, each time a counter and a few rows in one transaction.
struct Writer {
    task: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Writer {
    async fn start(node: &Database, seed: u64) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, count) = (stop.clone(), written.clone());
        let (mut client, mut dice) = (node.client().await, SmallRng::seed_from_u64(seed));
        let task = tokio::spawn(async move {
            let mut new = 1_000_000;
            while !ends.load(Ordering::Relaxed) {
                let (changed, removed) = (dice.random_range(1..ROWS), dice.random_range(1..ROWS));
                new += 1;
                let sql = format!(
                    "BEGIN; UPDATE balances SET amount = amount + 1 WHERE id = 1; INSERT INTO items VALUES ({new}, 'new', 0); \
                     UPDATE items SET quantity = quantity + 1, name = 'written {new}' WHERE id = {changed}; \
                     DELETE FROM items WHERE id = {removed}; COMMIT"
                );
                client.run(&sql).await;
                count.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(5)).await;
            }
        });
        Writer { task, stop, written }
    }

    /// Waits until more has been written.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        eventually("more is written", async || self.written.load(Ordering::Relaxed) >= before + WRITES).await;
    }

    /// How many transactions there were.
    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

/// Two servers with the tables, of which one holds rows.
async fn filled(kinds: [Kind; 2], of_a: bool) -> Link {
    let options = LinkOptions { configuration: CONFIGURATION.into(), ..LinkOptions::default() };
    let link = Link::start(kinds, options).await;
    for (name, columns) in TABLES {
        link.create(name, columns).await;
    }
    let source = if of_a { &link.a } else { &link.b };
    source.run(&insert_numbered(source.kind, "items", ROWS, |n| format!("{n}, concat('row number ', {n}), 0"))).await;
    source.run("INSERT INTO balances VALUES (1, 0), (2, 7)").await;
    link
}

/// Loads what a session sees into the other side.
async fn load(dump: &mut Client, target: &Database) -> usize {
    let mut client = target.client().await;
    let mut count = 0;
    for (table, _) in TABLES {
        let rows = dump.rows(&format!("SELECT * FROM {table}")).await;
        count += rows.len();
        for chunk in rows.chunks(1000) {
            let row = |row: &Vec<Option<String>>| {
                let values: Vec<_> = row.iter().map(|value| format!("'{}'", value.as_ref().unwrap())).collect();
                format!("({})", values.join(", "))
            };
            let values: Vec<_> = chunk.iter().map(row).collect();
            client.run(&format!("INSERT INTO {table} VALUES {}", values.join(", "))).await;
        }
    }
    count
}

/// Both hold the same rows and all that was counted.
async fn joined(link: &Link, counted: u64) {
    let items = link.same("SELECT id, name, quantity FROM items ORDER BY id").await;
    let balances = link.same("SELECT id, amount FROM balances ORDER BY id").await;
    assert_eq!(balances[0][1], Some(counted.to_string()), "each is counted once");
    println!("{} rows on both sides after {counted} transactions", items.len());
    link.succeed(&["verify"]).await;
}

async fn no_conflicts(link: &Link) {
    let records = link.same("SELECT count(*) FROM pontoon.resolution").await;
    let quarantined = link.same("SELECT count(*) FROM pontoon.quarantine").await;
    assert_eq!([&records[0][0], &quarantined[0][0]], [&Some("0".to_owned()); 2], "{:?}", link.conflicts(&[]).await);
}

/// Rows were looked at, since they were not as the log said, and the only one who had written them was followed.
async fn nobody_lost(link: &Link, source: &str) {
    let rules = link.same("SELECT rule, count(*) FROM pontoon.resolution GROUP BY rule ORDER BY rule").await;
    let quarantined = link.same("SELECT count(*) FROM pontoon.quarantine").await;
    println!("{rules:?}");
    let expected = [Some("equal".to_owned()), Some(format!("only_writer: {source}"))];
    assert!(!rules.is_empty() && rules.iter().all(|row| expected.contains(&row[0])), "{:?}", link.conflicts(&[]).await);
    assert_eq!(quarantined[0][0].as_deref(), Some("0"));
}

/// Writes on both sides go over from now on.
async fn crosses_both_ways(link: &Link) {
    link.a.run("INSERT INTO items VALUES (2000001, 'of a', 1)").await;
    link.b.run("INSERT INTO items VALUES (2000002, 'of b', 1)").await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT id FROM items WHERE id BETWEEN 2000001 AND 2000002 ORDER BY id").await.len(), 2);
}

async fn a_dump_of_a(kinds: [Kind; 2]) {
    begins_with_a_dump(&filled(kinds, true).await, true).await;
}

async fn a_dump_of_b(kinds: [Kind; 2]) {
    begins_with_a_dump(&filled(kinds, false).await, false).await;
}

async fn begins_with_a_dump(link: &Link, of_a: bool) {
    let (source, target) = if of_a { (&link.a, &link.b) } else { (&link.b, &link.a) };
    let writer = Writer::start(source, workload::dice().random()).await;
    writer.goes_on().await;
    if source.is_postgres() {
        dump_of_postgres(link, &writer).await;
    } else {
        dump_of_mysql(link, &writer, target).await;
    }
    // The dump's side is written too, now that the bridge is set up.
    let other = Writer::start_apart(target).await;
    let bridge = link.run();
    bridge.works().await;
    writer.goes_on().await;
    let counted = writer.stop().await + other;
    link.settle().await;
    assert_eq!(bridge.stop().await, 0);
    joined(link, counted).await;
    no_conflicts(link).await;
    crosses_both_ways(link).await;
}

impl Writer {
    /// A few writes at once, of rows that nobody else writes; how many of them count.
    async fn start_apart(node: &Database) -> u64 {
        for n in 0..5 {
            node.run(&format!("INSERT INTO items VALUES ({}, 'of the other side', {n})", 3_000_000 + n)).await;
            node.run("UPDATE balances SET amount = amount + 1 WHERE id = 1").await;
        }
        5
    }
}

async fn dump_of_mysql(link: &Link, writer: &Writer, target: &Database) {
    let (source, _) = link.mysql();
    let mut steps = Steps::of("A dump of MySQL or MariaDB");
    let mut session = source.client().await;
    let answers = run_sql(&mut session, source.kind, &steps.next("sql")).await;
    writer.goes_on().await;
    println!("{} rows are loaded", load(&mut session, target).await);
    writer.goes_on().await;
    run_commands(link, &steps.next("sh")[..2], "", &place(&answers[2])).await;
}

async fn dump_of_postgres(link: &Link, writer: &Writer) {
    let ((source, _), (target, _)) = (link.postgres(), link.mysql());
    let mut steps = Steps::of("A dump of PostgreSQL");
    run_commands(link, &steps.next("sh"), "", "").await;
    writer.goes_on().await;
    let (mut session, mut dump) = (source.client().await, source.client().await);
    let mut statements = steps.next("sql");
    let commit = statements.split_off(3);
    let answers = run_sql(&mut session, source.kind, &statements).await;
    let [Some(lsn), Some(snapshot)] = &answers[2][0][..] else { panic!("{answers:?}") };
    // What pg_dump --snapshot does.
    dump.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    dump.run(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")).await;
    run_sql(&mut session, source.kind, &commit).await;
    writer.goes_on().await;
    println!("{} rows are loaded", load(&mut dump, target).await);
    steps.next("sql");
    let end = run_sql(&mut target.client().await, target.kind, &steps.next("sql")).await;
    writer.goes_on().await;
    run_commands(link, &steps.next("sh")[..2], lsn, &place(&end[0])).await;
}

/// Without a lock: what was committed between the place and the dump comes once more, and nothing is lost by it.
async fn a_place_before_the_dump(kinds: [Kind; 2]) {
    let link = filled(kinds, kinds[0] == Kind::Postgres).await;
    link.edit("columns = { amount = \"additive\" }", "");
    let writer = dump_behind_its_place(&link).await;
    let counted = writer.stop().await;
    link.catch_up().await;
    joined(&link, counted).await;
    nobody_lost(&link, link.postgres().1).await;
    crosses_both_ways(&link).await;
}

/// The same with a counter: what was added in between counts twice, as is said.
async fn what_adds_needs_the_dumps_place(kinds: [Kind; 2]) {
    let link = filled(kinds, kinds[0] == Kind::Postgres).await;
    let writer = dump_behind_its_place(&link).await;
    let counted = writer.stop().await;
    link.catch_up().await;
    link.same("SELECT id, name, quantity FROM items ORDER BY id").await;
    let amount = async |node: &Database| -> u64 {
        node.value("SELECT amount FROM balances WHERE id = 1").await.parse().unwrap()
    };
    let ((postgres, _), (mysql, _)) = (link.postgres(), link.mysql());
    let (once, twice) = (amount(postgres).await, amount(mysql).await);
    println!("{once} on one side, {twice} on the other");
    assert_eq!(once, counted);
    assert!(twice >= counted + WRITES, "docs/operations.md says so, and no longer is it true");
}

/// A dump that is taken a while after the place was noted, loaded and set up for.
async fn dump_behind_its_place(link: &Link) -> Writer {
    let ((source, _), (target, _)) = (link.postgres(), link.mysql());
    let writer = Writer::start(source, workload::dice().random()).await;
    let mut steps = Steps::of("A dump of PostgreSQL");
    run_commands(link, &steps.next("sh"), "", "").await;
    writer.goes_on().await;
    steps.next("sql");
    let statements = steps.next("sql");
    let mut session = source.client().await;
    let answers = run_sql(&mut session, source.kind, &statements[..2]).await;
    let [lsn, number] = [&answers[0], &answers[1]].map(|rows| rows[0][0].clone().unwrap());
    writer.goes_on().await;
    let visible = statements[2].replace("789", &number);
    eventually("what was under way is over", async || source.value(&visible).await == "t").await;
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    load(&mut session, target).await;
    let end = run_sql(&mut target.client().await, target.kind, &steps.next("sql")).await;
    run_commands(link, &steps.next("sh")[..1], &lsn, &place(&end[0])).await;
    writer
}

/// A side that has its rows, and another that was loaded with them; nobody writes.
async fn loaded(kinds: [Kind; 2], of_a: bool) -> Link {
    let link = filled(kinds, of_a).await;
    let (source, target) = if of_a { (&link.a, &link.b) } else { (&link.b, &link.a) };
    load(&mut source.client().await, target).await;
    link
}

async fn nothing_is_left(link: &Link) {
    let schemas = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'pontoon'";
    assert_eq!(link.same(schemas).await, [[Some("0".to_owned())]]);
    let (postgres, _) = link.postgres();
    assert_eq!(postgres.value("SELECT count(*) FROM pg_replication_slots").await, "0");
}

async fn refused_at(link: &Link, node: &str, position: &str, code: &str, says: &str) {
    refused_with(link, node, position, &[], code, says).await;
}

/// The same with more arguments.
async fn refused_with(link: &Link, node: &str, position: &str, more: &[&str], code: &str, says: &str) {
    let at = format!("{node}={position}");
    let refusal = link.command(&[&["setup", "--at", &at], more].concat()).await.refused(4, code);
    println!("{refusal:?}");
    assert!(refusal.message.starts_with(&format!("{node}: ")), "{refusal:?}");
    assert!(refusal.message.contains(position) && refusal.message.contains(says), "{refusal:?}");
    assert!(refusal.hint.contains("dump"), "{refusal:?}");
}

async fn places_of_a_binary_log(kinds: [Kind; 2]) {
    let link = loaded(kinds, kinds[0] != Kind::Postgres).await;
    let ((_, postgres), (mysql, name)) = (link.postgres(), link.mysql());
    mysql.run("FLUSH BINARY LOGS").await;
    let closed = mysql.rows("SHOW BINARY LOGS").await.remove(0);
    let [first, size] = [0, 1].map(|at| closed[at].clone().unwrap());
    mysql.run("FLUSH BINARY LOGS").await;
    let begin = log_end(mysql).await;
    mysql
        .run("BEGIN; INSERT INTO items VALUES (4000000, 'a', 0); UPDATE balances SET amount = 9 WHERE id = 2; COMMIT")
        .await;
    let behind = log_end(mysql).await;
    let (file, offset) = begin.split_once(':').unwrap();
    let at = |offset: u64| format!("{file}:{offset}");
    let begins: u64 = offset.parse().unwrap();
    let ends: u64 = behind.split_once(':').unwrap().1.parse().unwrap();
    // Where each of its events begins, behind the first, is in the middle of it. (MariaDB may write of itself before it.)
    let events = mysql.rows(&format!("SHOW BINLOG EVENTS IN '{file}' FROM {begins}")).await;
    let kind = |event: &[Option<String>]| event[2].clone().unwrap();
    let inner = events.iter().skip_while(|event| !kind(event).contains("Gtid")).skip(1);
    let end = inner.clone().position(|event| kind(event) == "Xid").unwrap();
    let inner: Vec<u64> = inner.take(end + 1).map(|event| event[1].as_ref().unwrap().parse().unwrap()).collect();
    assert!(inner.len() > 4 && inner.iter().all(|at| (begins..ends).contains(at)), "{events:?}");
    for offset in inner {
        refused_at(&link, name, &at(offset), "position-unfit", "no transaction begins there").await;
    }
    for offset in [begins + 1, begins + 19, ends - 1] {
        refused_at(&link, name, &at(offset), "position-unfit", "no transaction begins there").await;
    }
    refused_at(&link, name, &at(ends + 100_000), "position-unfit", "the log ends at").await;
    let size: u64 = size.parse().unwrap();
    refused_at(&link, name, &format!("{first}:{}", size + 1), "position-unfit", "nothing is there").await;
    refused_at(&link, name, "other.000001:4", "position-unfit", "other.000001 is gone").await;
    mysql.run(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    refused_at(&link, name, &format!("{first}:{size}"), "position-unfit", "is gone, the first file is").await;
    // What is wrong with the command line.
    for arguments in [
        vec!["--at", "nobody=0/1"],
        vec!["--at", &format!("{name}=0/16B3748")],
        vec!["--at", &format!("{postgres}={begin}")],
        vec!["--at", &format!("{name}={begin}"), "--at", &format!("{name}={begin}")],
    ] {
        link.command(&[&["setup"], &arguments[..]].concat()).await.refused(2, "config-invalid");
    }
    for more in ["--print-sql", "--create-tables"] {
        assert_eq!(link.command(&["setup", "--at", &format!("{name}={begin}"), more]).await.code, 2);
    }
    nothing_is_left(&link).await;
    // As a tool for dumps writes it; and so it is safe to repeat.
    let noted = format!("{name}=-- CHANGE MASTER TO MASTER_LOG_FILE='{file}', MASTER_LOG_POS={begins};");
    for _ in 0..2 {
        let said = link.succeed(&["setup", "--at", &noted]).await;
        assert!(said.contains(&format!("{name}: its log is taken up at {begin}")), "{said}");
        assert!(said.contains(&format!("{postgres}: its log is taken up at ")), "{said}");
    }
    link.catch_up().await;
    assert_eq!(link.same("SELECT name FROM items WHERE id = 4000000").await.len(), 1);
    no_conflicts(&link).await;
}

async fn places_of_a_slot(kinds: [Kind; 2]) {
    let link = loaded(kinds, kinds[0] == Kind::Postgres).await;
    let ((postgres, name), (mysql, other)) = (link.postgres(), link.mysql());
    let before = log_end(postgres).await;
    refused_at(&link, name, &before, "not-set-up", "is not there").await;
    refused_at(&link, name, "FF/0", "position-unfit", "it ends at").await;
    nothing_is_left(&link).await;
    link.succeed(&["setup"]).await;
    let back = format!("{other}={}", log_end(mysql).await);
    for (place, says) in [(before.as_str(), "has it from"), ("FF/0", "it ends at")] {
        refused_with(&link, name, place, &["--at", &back], "position-unfit", says).await;
    }
    postgres.run("INSERT INTO items VALUES (4000000, 'before the place', 0)").await;
    mysql.run("INSERT INTO items VALUES (4000000, 'before the place', 0)").await;
    let place = log_end(postgres).await;
    postgres.run("UPDATE items SET name = 'behind it' WHERE id = 4000000").await;
    // The other log would bring back what was loaded.
    let at = format!("{name}={place}");
    let refusal = link.command(&["setup", "--at", &at]).await.refused(2, "config-invalid");
    assert!(refusal.message.contains(&format!("would cross back to {name}")), "{refusal:?}");
    let back = format!("{other}={}", log_end(mysql).await);
    assert!(refusal.hint.contains(&format!("--at {other}=")), "{refusal:?}");
    link.succeed(&["setup", "--at", &at, "--at", &back]).await;
    link.succeed(&["setup", "--at", &at]).await;
    link.catch_up().await;
    assert_eq!(link.same("SELECT name FROM items WHERE id = 4000000").await, [[Some("behind it".to_owned())]]);
    no_conflicts(&link).await;
}

/// What a bridge has applied, and one that runs, are not touched.
async fn checkpoints_that_are_there(kinds: [Kind; 2]) {
    let link = loaded(kinds, true).await;
    link.succeed(&["setup"]).await;
    let first = link.b.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await;
    let place = log_end(&link.a).await;
    let arguments = ["setup", "--at", &format!("a={place}"), "--at", &format!("b={}", log_end(&link.b).await)];
    let bridge = link.run();
    bridge.works().await;
    let refusal = link.command(&arguments).await.refused(2, "config-invalid");
    assert!(refusal.message.contains("the bridge runs") && refusal.hint.contains("stop it first"), "{refusal:?}");
    link.a.run("INSERT INTO items VALUES (4000000, 'a', 0)").await;
    link.settle().await;
    assert_eq!(bridge.stop().await, 0);
    let moved = link.b.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await;
    assert_ne!(first, moved);
    let refusal = link.command(&arguments).await.refused(4, "already-applied");
    assert!(refusal.message.contains("b has the log of a applied up to"), "{refusal:?}");
    assert!(refusal.hint.contains("teardown") && refusal.hint.contains("copy --merge"), "{refusal:?}");
    assert_eq!(link.b.value("SELECT position FROM pontoon.checkpoint WHERE applier = 0").await, moved);
    // Where it is anyway may be named.
    let here = moved.split(['@', '<']).next().unwrap();
    link.succeed(&["setup", "--at", &format!("a={here}")]).await;
    link.succeed(&["teardown", "--execute"]).await;
}

/// Both logs are taken up in the past, by places that are moved while nothing has run.
async fn both_ways_in_their_turn(kinds: [Kind; 2]) {
    let link = loaded(kinds, true).await;
    link.succeed(&["setup"]).await;
    let [a, b] = [log_end(&link.a).await, log_end(&link.b).await];
    link.a.run("UPDATE items SET name = 'of a' WHERE id = 1").await;
    link.b.run("UPDATE items SET name = 'of b' WHERE id = 2").await;
    let [later_a, later_b] = [log_end(&link.a).await, log_end(&link.b).await];
    link.a.run("UPDATE items SET name = 'later of a' WHERE id = 3").await;
    for [a, b] in [[&later_a, &later_b], [&a, &b]] {
        link.succeed(&["setup", "--at", &format!("a={a}"), "--at", &format!("b={b}")]).await;
    }
    link.catch_up().await;
    let names = link.same("SELECT name FROM items WHERE id <= 3 ORDER BY id").await;
    assert_eq!(names.concat(), ["of a", "of b", "later of a"].map(|name| Some(name.to_owned())));
    no_conflicts(&link).await;
    let bridge = link.run();
    bridge.works().await;
    assert_eq!(bridge.stop().await, 0);
}
