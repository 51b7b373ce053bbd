//! Killing what works, while applications write to both sides: nothing is lost, nothing comes twice.
//!
//! `PONTOON_KILLS` says how often is killed, `PONTOON_SEED` repeats the choices of a run.

use std::time::{Duration, Instant};

use pontoon_servers::Release;
use rand::Rng;
use tokio::time::sleep;

use crate::support::{
    first_pairing,
    workload::{Workload, crosses_both_ways, dice, kills},
};

pub(crate) async fn bridge_is_killed(kinds: [impl Into<Release>; 2]) {
    let mut dice = dice();
    let link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    let (mut at_work, kills) = (0, kills());
    for _ in 0..kills {
        // At any moment of a start, or of work.
        let (started, pause) = (dice.random_bool(0.6), dice.random_range(0..1_200));
        if started {
            bridge.logged("applied").await;
        }
        sleep(Duration::from_millis(pause)).await;
        at_work += usize::from(bridge.log().contains("applied"));
        bridge.kill();
        bridge = link.run();
    }
    bridge.works().await;
    workload.check(&link, &format!("{kills} kills of the bridge, {at_work} of them while it applied")).await;
    assert!(at_work > 0, "it was never killed at work");
    assert_eq!(bridge.stop().await, 0);
}

pub(crate) async fn databases_are_killed(kinds: [impl Into<Release>; 2]) {
    let mut dice = dice();
    let mut link = Workload::link(kinds).await;
    let workload = Workload::start(&link, &mut dice);
    let mut bridge = link.run();
    bridge.works().await;
    let kills = kills().div_ceil(2);
    for number in 0..kills {
        let (before, pause, down) = (dice.random_range(0..1_500), dice.random_bool(0.5), dice.random_range(0..500));
        sleep(Duration::from_millis(before)).await;
        let database = if (number % 2 == 0) == pause { &mut link.a } else { &mut link.b };
        database.server.kill().await.unwrap();
        sleep(Duration::from_millis(down)).await;
        database.server.restart().await.unwrap();
        let up = Instant::now();
        crosses_both_ways(&link, &mut bridge).await;
        println!("writes cross {:?} after a restart", up.elapsed());
    }
    assert!(bridge.is_running(), "the bridge outlives its databases");
    workload.check(&link, &format!("{kills} kills of a database")).await;
    assert!(bridge.is_running(), "the bridge outlives its databases");
    assert_eq!(bridge.stop().await, 0);
}

first_pairing!(bridge_is_killed, databases_are_killed);
