//! The first load: `pontoon copy` beside pgloader, and beside what the target's own server does with a file.
//!
//! Pontoon's time is that of the whole command, from its start to its end, into an empty table of a bridge that has been set
//! up. What has been copied is verified right after it, and that time is held against the copy's own. It is measured in both forms of a bridge: one-way, as the peers are, and two-way, where the target's log is
//! followed too, so that each row is also written to that log, read back as our own, and left out.

use pontoon_servers::Kind;

use crate::{
    Plan,
    bridge::Bridge,
    database::Database,
    measure::Run,
    peers::{File, pgloader},
    report::Contest,
    servers::options,
    table,
};

/// The forms of a bridge, and what they are called.
const FORMS: [(&str, &str); 2] = [("a->b", "one-way"), ("both", "two-way")];

/// Runs what was asked for.
pub(crate) async fn measure(plan: &Plan) -> Vec<Contest> {
    let mut contests = Vec::new();
    for kinds in [[Kind::Mariadb, Kind::Postgres], [Kind::Postgres, Kind::Mariadb], [Kind::Postgres, Kind::Mysql]] {
        let workload = format!("copy {} to {}", kinds[0], kinds[1]);
        let verified = format!("verify {} and {}", kinds[0], kinds[1]);
        if plan.wants(&workload) || plan.wants(&verified) {
            contests.extend(pair(plan, [&workload, &verified], kinds).await);
        }
    }
    contests
}

async fn pair(plan: &Plan, [workload, verified]: [&str; 2], kinds: [Kind; 2]) -> Vec<Contest> {
    let rows = plan.copy_rows;
    let (a, b) =
        tokio::join!(Database::start(kinds[0], options(kinds[0])), Database::start(kinds[1], options(kinds[1])));
    let nodes = [&a, &b];
    table::create(&a).await;
    table::create(&b).await;
    eprintln!("{workload}: {rows} rows are made");
    table::fill(&a, rows).await;
    let expected = table::digest(&a).await;
    let by_pgloader = kinds == [Kind::Mariadb, Kind::Postgres];
    let (mut loaded, mut pgloaded) = (Vec::new(), Vec::new());
    let mut ours: [[Vec<Run>; 2]; 2] = Default::default();
    // The server's own form of the same rows; the first load is none of the runs.
    let warm = copy(nodes, FORMS[0].0, &expected).await;
    let file = File::write(&b).await;
    eprintln!("{workload}: warm-up {:.1} s, verified in {:.1} s", warm[0].seconds, warm[1].seconds);
    for run in 1..=plan.runs {
        table::create(&b).await;
        loaded.push(believed(file.load(&b).await, &b, &expected).await);
        if by_pgloader {
            table::create(&b).await;
            pgloaded.push(believed(pgloader(nodes).await, &b, &expected).await);
        }
        for (runs, (direction, _)) in ours.iter_mut().zip(FORMS) {
            for (runs, run) in runs.iter_mut().zip(copy(nodes, direction, &expected).await) {
                runs.push(run);
            }
        }
        eprintln!("{workload}: run {run} of {}", plan.runs);
    }
    let mut contests = Vec::new();
    for ([runs, verifications], (_, form)) in ours.into_iter().zip(FORMS) {
        let contest = |peer: &'static str, theirs: &[Run]| Contest {
            workload: format!("{workload}, {form}"),
            rows,
            peer,
            theirs: theirs.to_vec(),
            ours: runs.clone(),
        };
        let own = if kinds[1] == Kind::Postgres { "COPY FROM" } else { "LOAD DATA" };
        if by_pgloader {
            contests.push(contest("pgloader", &pgloaded));
        }
        contests.push(contest(own, &loaded));
        let workload = format!("{verified}, {form}");
        contests.push(Contest { workload, rows, peer: "pontoon copy", theirs: runs, ours: verifications });
    }
    contests
}

/// A run of which the rows are there.
async fn believed(run: Run, target: &Database, expected: &str) -> Run {
    assert_eq!(table::digest(target).await, expected, "the rows are not those of the source");
    run
}

/// The copy, and what it takes to verify it.
async fn copy(nodes: [&Database; 2], direction: &str, expected: &str) -> [Run; 2] {
    table::create(nodes[1]).await;
    let bridge = Bridge::new(nodes, direction);
    bridge.succeed(&["setup"]).await;
    let run = bridge.measure(&["copy", "--from", "a"], nodes).await;
    let run = believed(run, nodes[1], expected).await;
    let verified = bridge.measure(&["verify"], nodes).await;
    bridge.succeed(&["teardown", "--execute"]).await;
    [run, verified]
}
