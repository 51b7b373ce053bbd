//! What a network does to the bridge's connections, while applications write to both sides: each connection cut, slow,
//! or silent, and commits whose answer never comes. Nothing is lost, nothing comes twice, and the bridge says meanwhile
//! that it is not to be relied on.
//!
//! `PONTOON_KILLS` says how often, `PONTOON_SEED` repeats the choices of a run.

use std::time::{Duration, Instant};

use pontoon_servers::Kind;
use rand::{Rng, rngs::SmallRng, seq::SliceRandom};

use crate::support::{
    Bridge, Link, eventually, first_pairing, is_ready, pairings,
    proxy::{AtCommit, Cut, Line, Passing, Proxy},
    workload::{Workload, crosses_both_ways, dice, kills},
};

/// A bridge must have noticed by then that nobody answers.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// A bridge between two servers, by a proxy to each, while applications write.
struct Bench {
    // Its log is in the link's folder.
    bridge: Bridge,
    link: Link,
    ways: [Proxy; 2],
    workload: Workload,
    dice: SmallRng,
}

impl Bench {
    async fn start(kinds: [Kind; 2]) -> Bench {
        let mut dice = dice();
        let link = Workload::link(kinds).await;
        let ways = link.by_proxies().await;
        link.edit("listen = \"off\"", "listen = \"127.0.0.1:0\"");
        let workload = Workload::start(&link, &mut dice);
        let bridge = link.run();
        bridge.works().await;
        let mut bench = Bench { bridge, link, ways, workload, dice };
        bench.crosses().await;
        bench.is_ready(true).await;
        bench
    }

    /// Waits until something written now has crossed both ways.
    async fn crosses(&mut self) {
        crosses_both_ways(&self.link, &mut self.bridge).await;
    }

    /// Waits until a good deal of what either side has written has come to the other.
    async fn more_crosses(&self) {
        for (node, others) in [(&self.link.a, "3, 4"), (&self.link.b, "1, 2")] {
            let came = format!("SELECT count(*) FROM ledger WHERE writer IN ({others})");
            let came = async || node.value(&came).await.parse::<u64>().unwrap();
            let before = came().await;
            eventually("rows come", async || came().await > before + 100).await;
        }
    }

    async fn is_ready(&self, wanted: bool) {
        is_ready(&self.bridge, wanted).await;
    }

    /// How often a session of the bridge ended for something that passes.
    fn interruptions(&self) -> usize {
        self.bridge.log().matches("interrupted").count()
    }

    /// Waits until a rendezvous has committed on the first node, and keeps its commit on the second back. How many
    /// records either has.
    async fn torn(&self) -> (u64, u64) {
        let settled = async |side: usize| -> u64 {
            let count = "SELECT count(*) FROM pontoon.resolution WHERE bridge = 'e2e'";
            self.link.nodes()[side].value(count).await.parse().unwrap()
        };
        loop {
            let before = self.ways[1].caught();
            self.ways[1].at_commit(Line::Rendezvous, AtCommit::Hold);
            eventually("a rendezvous commits on the second node", async || self.ways[1].caught() > before).await;
            let records = (settled(0).await, settled(1).await);
            if records.0 > records.1 {
                return records;
            }
            // It only took records out of force, which is done on one node after the other.
            self.ways[1].let_go();
        }
    }

    async fn end(self, what: &str) {
        self.workload.check(&self.link, what).await;
        assert_eq!(self.bridge.stop().await, 0);
    }
}

async fn connections_are_cut(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    let mut cuts: Vec<(usize, Line, Cut)> = Vec::new();
    for (side, line) in [0, 1].into_iter().flat_map(|side| Line::ALL.map(|line| (side, line))) {
        cuts.extend([Cut::Fin, Cut::Rst].map(|cut| (side, line, cut)));
    }
    cuts.shuffle(&mut bench.dice);
    let count = kills().div_ceil(2);
    for &(side, line, cut) in cuts.iter().cycle().take(count) {
        bench.ways[side].is_open(line).await;
        bench.ways[side].cut(&[line], cut);
        let began = Instant::now();
        bench.crosses().await;
        println!("{line:?} of {} cut by {cut:?}: writes cross {:?} later", kinds[side], began.elapsed());
    }
    bench.end(&format!("{count} connections cut")).await;
}

async fn answers_to_commits_are_lost(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    let count = kills().div_ceil(2);
    for number in 0..count {
        let side = number % 2;
        let line = if bench.dice.random_bool(0.5) { Line::Direction } else { Line::Rendezvous };
        let cut = if bench.dice.random_bool(0.5) { Cut::Fin } else { Cut::Rst };
        let before = bench.ways[side].caught();
        bench.ways[side].at_commit(line, AtCommit::LoseAnswer(cut));
        eventually("a commit", async || bench.ways[side].caught() > before).await;
        if bench.dice.random_bool(0.5) {
            bench.crosses().await;
        }
    }
    bench.crosses().await;
    bench.end(&format!("{count} answers to commits lost")).await;
}

async fn connections_are_slow(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    let before = bench.interruptions();
    for (what, passing) in [
        ("5 ms late", Passing::Delayed(Duration::from_millis(5))),
        ("at 256 KiB a second", Passing::Throttled(256 << 10)),
    ] {
        for side in [0, 1] {
            bench.ways[side].pass(&Line::ALL, passing);
            let began = Instant::now();
            // The latest may wait behind all that came before: the writers do not wait for a slow link.
            bench.more_crosses().await;
            println!("{what} to {}: more crosses after {:?}", kinds[side], began.elapsed());
            bench.ways[side].pass(&Line::ALL, Passing::Through);
            bench.crosses().await;
        }
    }
    assert_eq!(bench.interruptions(), before, "what is slow is no reason to begin anew");
    bench.end("slow connections").await;
}

/// Nothing passes, and nobody says so.
async fn silence(bench: &mut Bench, side: usize, lines: &[Line]) {
    bench.is_ready(true).await;
    let before = bench.interruptions();
    let began = Instant::now();
    bench.ways[side].pass(lines, Passing::Silent);
    eventually("the silence is noticed", async || bench.interruptions() > before).await;
    let noticed = began.elapsed();
    if lines.len() > 1 {
        bench.is_ready(false).await;
    }
    let unready = began.elapsed();
    bench.ways[side].pass(lines, Passing::Through);
    let healed = Instant::now();
    bench.crosses().await;
    let kind = bench.link.nodes()[side].kind;
    println!(
        "{lines:?} of {kind} silent: noticed after {noticed:?}, said after {unready:?}; writes cross {:?} after it passed",
        healed.elapsed()
    );
    assert!(noticed < NOTICED_WITHIN && unready < NOTICED_WITHIN, "noticed after {noticed:?}, said after {unready:?}");
    bench.is_ready(true).await;
}

/// A server that answers nothing any more, on every connection at once.
async fn servers_fall_silent(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    for side in [0, 1] {
        silence(&mut bench, side, &Line::ALL).await;
    }
    // It ends in time, also while nobody answers.
    let side = usize::from(bench.dice.random_bool(0.5));
    bench.ways[side].pass(&Line::ALL, Passing::Silent);
    let told = Instant::now();
    assert_eq!(bench.bridge.stop().await, 0);
    assert!(told.elapsed() < Duration::from_secs(10), "ended {:?} after it was told to", told.elapsed());
    bench.ways[side].pass(&Line::ALL, Passing::Through);
    bench.bridge = bench.link.run();
    bench.crosses().await;
    bench.end("silent servers").await;
}

/// One connection of several lost its other end.
async fn connections_fall_silent(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    for side in [0, 1] {
        for line in [Line::Log, Line::Direction, Line::Rendezvous, Line::Lease] {
            silence(&mut bench, side, &[line]).await;
        }
    }
    bench.end("silent connections").await;
}

/// Between the two commits of a rendezvous, the second of which is kept back, something ends.
async fn rendezvous_are_torn(kinds: [Kind; 2]) {
    let mut bench = Bench::start(kinds).await;
    let count = kills().div_ceil(2);
    for number in 0..count {
        let (a, b) = bench.torn().await;
        let what = match number % 4 {
            0 => {
                bench.bridge.kill();
                bench.ways[1].cut(&[Line::Rendezvous], Cut::Rst);
                bench.ways[1].let_go();
                bench.bridge = bench.link.run();
                "the bridge is killed, the second commit never arrives"
            }
            1 => {
                bench.bridge.kill();
                bench.ways[1].let_go();
                bench.bridge = bench.link.run();
                "the bridge is killed, the second commit arrives after it"
            }
            2 => {
                bench.link.b.server.kill().await.unwrap();
                bench.ways[1].let_go();
                bench.link.b.server.restart().await.unwrap();
                "the second server is killed"
            }
            _ => {
                bench.link.a.server.kill().await.unwrap();
                bench.ways[1].let_go();
                bench.link.a.server.restart().await.unwrap();
                "the first server is killed"
            }
        };
        bench.crosses().await;
        println!("{what}: {a} records on the first node, {b} on the second");
    }
    bench.end(&format!("{count} rendezvous torn")).await;
}

first_pairing!(connections_are_cut, answers_to_commits_are_lost, rendezvous_are_torn);

pairings!(
    #[ignore = "full: takes a minute"]
    connections_are_slow,
    #[ignore = "full: a silence is noticed after seconds, and there are two"]
    servers_fall_silent,
    #[ignore = "full: a silence is noticed after seconds, and there are eight"]
    connections_fall_silent,
);
