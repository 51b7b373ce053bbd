//! The task that asks both nodes where their logs and clocks stand, and what was compared last, whether the bridge itself is at work
//! or not: what it shows is true also when the engine hangs. Beside it each direction's last hour is kept.

use std::{future::Future, sync::Arc, time::Duration};

use pontoon_core::{Code, Error, node::Node};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::debug;

use super::{
    Metrics,
    events::{Connected, Disconnected},
    hour,
};
use crate::side::{Pair, Side};

/// Often enough for a graph and for an alert on a node that has gone, seldom enough to cost nothing.
const EVERY: Duration = Duration::from_secs(5);

/// A server that refuses the login is not asked more often, and up to half of it later: it may count attempts, and
/// lock the user out. While the bridge has no session it is the bridge alone that asks.
const REFUSED_EVERY: Duration = Duration::from_secs(30);

/// How often a connection is made only to see which certificate it shows: often enough for an alert that warns days
/// before the end, and for one that ends when the certificate is renewed.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A node that does not answer this simple question in this time does not work.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks until `shutdown` completes.
pub async fn poll(nodes: Pair<Arc<dyn Node>>, metrics: Arc<Metrics>, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        () = ask(&nodes, &metrics, Side::A) => {}
        () = ask(&nodes, &metrics, Side::B) => {}
        () = hour::follow(&metrics) => {}
    }
}

async fn ask(nodes: &Pair<Arc<dyn Node>>, metrics: &Metrics, side: Side) {
    let node = &nodes[side];
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = None::<Instant>;
    loop {
        ticks.tick().await;
        if metrics.node(side).is_refused() {
            if !metrics.is_active() {
                continue;
            }
            sleep(REFUSED_EVERY + rand::random_range(Duration::ZERO..REFUSED_EVERY / 2)).await;
        }
        if metrics.node(side).is_up() != Some(true) || looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            match timeout(ANSWER_WITHIN, node.connect()).await.unwrap_or_else(|_| Err(silent(node.name()))) {
                Ok(peer) => Connected { node: side, peer: &peer }.emit(metrics),
                Err(error) => {
                    Disconnected { node: side, error: &error, pause: Some(EVERY) }.emit(metrics);
                    continue;
                }
            }
        }
        // What of this node's log is applied on the other.
        let applied = metrics.direction(side).words().applied.clone();
        let began = Instant::now();
        match timeout(ANSWER_WITHIN, node.log_status(applied.as_ref()))
            .await
            .unwrap_or_else(|_| Err(silent(node.name())))
        {
            Ok(status) => metrics.node(side).log_status(&status, began.elapsed().as_secs_f64()),
            Err(error) => {
                Disconnected { node: side, error: &error, pause: Some(EVERY) }.emit(metrics);
                continue;
            }
        }
        if side == Side::A {
            look_at_verified(&**node, metrics).await;
        }
    }
}

/// What was compared is shown, which another process did and noted on node A. Whoever cannot say so is asked again.
async fn look_at_verified(node: &dyn Node, metrics: &Metrics) {
    match timeout(ANSWER_WITHIN, node.verified()).await.unwrap_or_else(|_| Err(silent(node.name()))) {
        Ok(Some(verified)) => metrics.set_verified(&verified),
        Ok(None) => {}
        Err(error) => debug!(node = node.name(), %error, "what was compared last cannot be read"),
    }
}

fn silent(node: &str) -> Error {
    Error::new(Code::Unreachable, format!("{node}: no answer within {} s", ANSWER_WITHIN.as_secs()))
        .hint("look at the server: does it take connections, is its disk full?")
}
