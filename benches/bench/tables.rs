//! A bridge that carries ten thousand tables, of which ten are written: what the others cost when it starts, and in passing.
//!
//! The same transactions of one row wait for both: of one table by itself, and of ten among the many. A row that is written before all others tells
//! when the bridge works; from then on the rate is measured, until the last row is there. Both bridges are between the same two servers, and run in turn.

use std::time::{Duration, Instant};

use pontoon_servers::Kind;
use tokio::time::sleep;

use crate::{
    Plan,
    backlog::{self, BASE_ROWS, MARK},
    bridge::{self, Bridge},
    database::{Client, Database},
    measure::Run,
    report::{Contest, Figures, Times},
    servers::options,
    table,
};

/// Tables that the bridge carries.
const TABLES: usize = 10_000;

/// Those of them that are written.
const WRITTEN: usize = 10;

/// One-row transactions of a backlog; a tenth of it for a quick look.
const TRANSACTIONS: u64 = 200_000;

/// How often is looked for a mark.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Far longer than any of it takes.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(600);

const PAIRS: [[Kind; 2]; 2] = [[Kind::Postgres, Kind::Postgres], [Kind::Mariadb, Kind::Mariadb]];

/// Runs what was asked for.
pub(crate) async fn measure(plan: &Plan) -> (Vec<Contest>, Vec<Figures>) {
    let (mut contests, mut figures) = (Vec::new(), Vec::new());
    for kinds in PAIRS {
        let name = format!("tables {} to {}", kinds[0], kinds[1]);
        if plan.wants(&name) {
            let (contest, starts) = of(plan, kinds, &name).await;
            contests.push(contest);
            figures.extend(starts);
        }
    }
    (contests, figures)
}

async fn of(plan: &Plan, kinds: [Kind; 2], name: &str) -> (Contest, [Figures; 2]) {
    let (a, b) =
        tokio::join!(Database::start(kinds[0], options(kinds[0])), Database::start(kinds[1], options(kinds[1])));
    let many: Vec<String> = (0..TABLES).map(|number| format!("t{number}")).collect();
    tokio::join!(prepare(&a, &many), prepare(&b, &many));
    eprintln!("{name}: {TABLES} tables are there");
    let transactions = TRANSACTIONS / plan.part;
    let (mut runs, mut starts) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for number in 1..=plan.runs {
        let one = [table::NAME.to_owned()];
        for (at, tables) in [&one[..], &many[..]].into_iter().enumerate() {
            let began = Instant::now();
            let bridge = Bridge::of([&a, &b], "both", tables);
            bridge.succeed(&["setup"]).await;
            eprintln!("{name}: {} are set up in {:.1} s", tables.len(), began.elapsed().as_secs_f64());
            let written = &tables[..tables.len().min(WRITTEN)];
            let (run, start) = run(&bridge, [&a, &b], written, transactions).await;
            eprintln!("{name}: {} begin in {:.1} s", tables.len(), start.as_secs_f64());
            runs[at].push(run);
            starts[at].push(start);
            bridge.succeed(&["teardown", "--execute"]).await;
            for table in written {
                let rows = format!("SELECT concat(count(*), ' rows, ', sum(quantity)) FROM {table}");
                assert_eq!(
                    a.value(&rows).await,
                    b.value(&rows).await,
                    "the rows of {table} are not those of the source"
                );
            }
        }
        eprintln!("{name}: run {number} of {}", plan.runs);
    }
    let [theirs, ours] = runs;
    let whose = ["pontoon, start with one table", "pontoon, start with 10,000"];
    let mut starts = whose.into_iter().zip(starts).map(|(who, times)| Figures::new(name, who, Times(times)));
    let starts = [0, 1].map(|_| starts.next().unwrap());
    let peer = "pontoon, one table";
    (Contest { workload: format!("{name}, W1"), rows: transactions, peer, theirs, ours }, starts)
}

/// Makes the one table and the many, and fills as many rows into the one as into all of those that are written.
async fn prepare(node: &Database, many: &[String]) {
    backlog::prepare(&[node]).await;
    let mut client = node.client().await;
    if node.is_postgres() {
        client.run("SET synchronous_commit = off").await;
    }
    for table in many {
        let statements = match node.kind {
            Kind::Postgres => format!(
                "CREATE TABLE {table} (LIKE {} INCLUDING ALL); ALTER TABLE {table} REPLICA IDENTITY FULL",
                table::NAME
            ),
            Kind::Mariadb | Kind::Mysql => format!("CREATE TABLE {table} LIKE {}", table::NAME),
        };
        client.run(&statements).await;
    }
    for table in &many[..WRITTEN] {
        let rows = BASE_ROWS / WRITTEN as u64;
        client.run(&format!("INSERT INTO {table} SELECT * FROM {} WHERE id <= {rows}", table::NAME)).await;
    }
    let analyze = if node.is_postgres() { "VACUUM ANALYZE" } else { "ANALYZE TABLE" };
    for table in &many[..WRITTEN] {
        client.run(&format!("{analyze} {table}")).await;
    }
}

/// Writes a backlog between two marks and has the bridge bring it over: how long that takes from the first mark's arrival, and the time until then.
async fn run(bridge: &Bridge, nodes: [&Database; 2], written: &[String], transactions: u64) -> (Run, Duration) {
    let marks = [1, 2];
    mark(nodes[0], &written[0], marks[0]).await;
    write(nodes[0], written, transactions).await;
    mark(nodes[0], &written[0], marks[1]).await;
    let (began, mut begun) = (Instant::now(), None);
    let arrived = async || {
        let mut client = nodes[1].client().await;
        begun = Some(seen(&mut client, &written[0], marks[0]).await);
        Some(seen(&mut client, &written[0], marks[1]).await)
    };
    let (run, _) = bridge::measured(bridge.command(&["run", "--until-caught-up"]), nodes, arrived).await;
    let start = begun.unwrap().duration_since(began);
    for node in nodes {
        mark(node, &written[0], 0).await;
    }
    (Run { seconds: run.seconds - start.as_secs_f64(), ..run }, start)
}

async fn mark(node: &Database, table: &str, number: u32) {
    node.run(&format!("UPDATE {table} SET quantity = {number} WHERE id = {MARK}")).await;
}

/// When a mark, or a later one, was there.
async fn seen(client: &mut Client, table: &str, number: u32) -> Instant {
    let (look, began) = (format!("SELECT 1 FROM {table} WHERE id = {MARK} AND quantity >= {number}"), Instant::now());
    while client.rows(&look).await.is_empty() {
        assert!(began.elapsed() < GIVEN_UP_AFTER, "mark {number} does not arrive");
        sleep(LOOK_EVERY).await;
    }
    Instant::now()
}

/// Transactions of one row, inserts and updates of any row, of each table in turn.
async fn write(node: &Database, tables: &[String], transactions: u64) {
    let first: u64 = node.value(&format!("SELECT max(id) FROM {}", tables[0])).await.parse().unwrap();
    let (each, turns) = (BASE_ROWS / tables.len() as u64, transactions / WRITTEN as u64);
    let (random, i) = if node.is_postgres() { ("random()", "i::bigint") } else { ("rand()", "i") };
    // Of one table as many statements in the loop as of all.
    let statements = tables.iter().cycle().take(WRITTEN).enumerate().map(|(at, table)| {
        let key = format!("({first} + {i} * {WRITTEN} + {at})");
        match at % 2 {
            0 => format!("INSERT INTO {table} VALUES ({}); COMMIT;", table::values(node.kind, &key)),
            _ => format!(
                "r := 1 + floor({random} * {each}); UPDATE {table} SET quantity = quantity + 1, note = 'changed in passing' WHERE id = r; COMMIT;"
            ),
        }
    });
    let body: String = statements.collect();
    let text = match node.kind {
        Kind::Postgres => format!("DO $$ DECLARE r bigint; BEGIN FOR i IN 1..{turns} LOOP {body} END LOOP; END $$"),
        Kind::Mariadb | Kind::Mysql => format!(
            "CREATE PROCEDURE backlog() BEGIN DECLARE i BIGINT DEFAULT 1; DECLARE r BIGINT;
                WHILE i <= {turns} DO {} SET i = i + 1; END WHILE; END",
            body.replace("r := ", "SET r = ")
        ),
    };
    backlog::carry_out(&mut node.client().await, node.kind, &text).await;
}
