//! Two processes of one bridge: one works, the other stands by; and how a process ends.

use std::time::{Duration, Instant};

use pontoon_servers::Kind;
use rand::Rng;
use tokio::time::sleep;

use crate::support::{
    Bridge, Link, eventually, first_pairing,
    workload::{Workload, dice},
};

/// How long a process that stands by may need after a kill: it asks every second, and the servers notice at
/// once that the connections are gone.
const AFTER_KILL: Duration = Duration::from_secs(15);

/// And where the process is there but does nothing: the servers have to lose patience with its lease before.
const AFTER_STOP: Duration = Duration::from_secs(40);

const STANDING_BY: &str = "standing by: another process works";

/// Waits until a process works, and has applied something since.
async fn takes_over(bridge: &Bridge, since: Instant, within: Duration) {
    bridge.works().await;
    let took = since.elapsed();
    println!("taken over after {took:?}");
    assert!(took < within, "taken over after {took:?}");
    bridge.logged("applied").await;
}

async fn second_process(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let first = link.run();
    first.works().await;
    let second = link.run();
    second.logged(STANDING_BY).await;
    first.logged("applied").await;
    let holder = format!("process {}", first.id());
    assert!(second.log().contains(&holder), "it says who works");
    assert!(!second.log().contains("active"), "one works");

    let pause = dice.random_range(0..1_000);
    sleep(Duration::from_millis(pause)).await;
    let killed = Instant::now();
    first.kill();
    takes_over(&second, killed, AFTER_KILL).await;

    let third = link.run();
    third.logged(STANDING_BY).await;
    let pause = dice.random_range(0..1_000);
    sleep(Duration::from_millis(pause)).await;
    let stopped = Instant::now();
    second.signal("STOP");
    takes_over(&third, stopped, AFTER_STOP).await;
    second.signal("CONT");
    // It finds that it has lost the lease, whatever it was about to write, and stands by.
    eventually("the process that was stopped stands by", async || second.log().matches(STANDING_BY).count() > 1).await;
    workload.check(&link, "taken over twice").await;
    for node in link.nodes() {
        let holder = node.value("SELECT value FROM pontoon.control WHERE bridge = 'e2e' AND name = 'lease'").await;
        assert!(holder.ends_with(&format!("process {}", third.id())), "{}: {holder}", node.kind);
    }
    assert_eq!(second.log().matches("active: this process").count(), 1, "it worked once");
    assert_eq!(second.stop().await, 0, "who stands by ends when told to");
    assert_eq!(third.stop().await, 0);
}

/// Waits until the writers have written a good deal more.
async fn writers_go_on(link: &Link) {
    let count = async || -> u64 { link.a.value("SELECT count(*) FROM ledger").await.parse().unwrap() };
    let before = count().await;
    eventually("the writers go on", async || count().await > before + 50).await;
}

async fn told_to_end(kinds: [Kind; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let bridge = link.run();
    bridge.logged("applied").await;
    let pause = dice.random_range(0..1_000);
    sleep(Duration::from_millis(pause)).await;
    let told = Instant::now();
    assert_eq!(bridge.stop().await, 0);
    let took = told.elapsed();
    println!("ended {took:?} after it was told to");
    assert!(took < Duration::from_secs(10), "ended {took:?} after it was told to");

    writers_go_on(&link).await;
    let acked = workload.stop().await;
    // Which rows, not how many: both sides may have written as many since.
    let (a, b) = (link.a.value("SELECT sum(id) FROM ledger").await, link.b.value("SELECT sum(id) FROM ledger").await);
    assert_ne!(a, b, "there is something to catch up with");
    let began = Instant::now();
    link.succeed(&["run", "--until-caught-up"]).await;
    println!("caught up within {:?}", began.elapsed());
    acked.is_on_both_sides(&link).await;
    link.succeed(&["run", "--until-caught-up"]).await;
}

first_pairing!(second_process, told_to_end);
