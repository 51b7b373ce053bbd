//! A fence through both logs: when all that is in them now has been applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use pontoon_core::{
    Checkpoint, Code, Error, Result,
    node::{LeaseAttempt, Mark, Node, Tables},
    state::NodeState,
};
use tokio::time::{Instant, sleep};

use crate::{
    promoted,
    side::{Pair, Side},
};

/// How often the checkpoint is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the barrier is marked again, for the case that the bridge was not there to see it.
const MARK_EVERY: Duration = Duration::from_secs(2);

/// Whether a process works for the bridge, by the lease on A.
pub(crate) async fn is_running(nodes: &Pair<Arc<dyn Node>>) -> Result<bool> {
    Ok(holder(nodes).await?.is_some())
}

/// The process that works for the bridge, by the lease on A.
pub(crate) async fn holder(nodes: &Pair<Arc<dyn Node>>) -> Result<Option<String>> {
    // Taken and given back at once: who does not get it knows that somebody works.
    let node = &nodes[Side::A];
    Ok(match node.try_lease().await.map_err(|error| error.at(node.name()))? {
        LeaseAttempt::Ours(_) => None,
        LeaseAttempt::HeldBy(holder) => Some(holder),
    })
}

/// Returns when each side's checkpoint has reached the end that the other side's log has now, and no table is set aside. Errors: log identity changed, where
/// a checkpoint is of another log, or becomes one of another.
pub(crate) async fn all_applied(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>, reads: Pair<bool>) -> Result<()> {
    let sides: Vec<Side> = Side::BOTH.into_iter().filter(|side| reads[*side]).collect();
    let mut ends = Vec::<(Side, Checkpoint)>::new();
    for &side in &sides {
        let at = |error: Error| error.at(nodes[side].name());
        let log = nodes[side].identity().await.map_err(at)?;
        ends.push((side, Checkpoint { position: nodes[side].log_status(None).await.map_err(at)?.end, log }));
    }
    let looks = MARK_EVERY.as_millis() / LOOK_EVERY.as_millis();
    loop {
        for (side, _) in &ends {
            nodes[*side].mark(Mark::Barrier).await.map_err(|error| error.at(nodes[*side].name()))?;
        }
        for _ in 0..looks {
            let mut open = Vec::new();
            for (side, end) in ends {
                let state = state(nodes, tables, side.other()).await?;
                let checkpoint = state.checkpoint.as_ref().ok_or_else(|| no_checkpoint(&nodes[side.other()]))?;
                promoted::is_of(nodes[side].name(), checkpoint, &end.log)?;
                if !(state.aside.is_empty() && checkpoint.position.covers(&end.position)) {
                    open.push((side, end));
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            ends = open;
            sleep(LOOK_EVERY).await;
        }
    }
}

/// A table that is set aside for so long on end waits for a person: the bridge has looked at it more than once.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// The tables that are set aside on either node, by their labels.
async fn aside(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<BTreeSet<Arc<str>>> {
    let mut aside = BTreeSet::new();
    for side in Side::BOTH {
        aside.extend(state(nodes, tables, side).await?.aside.into_iter().map(|(label, _)| label));
    }
    Ok(aside)
}

/// Returns when tables have been set aside for [`STUCK_AFTER`] on end: which they are.
pub(crate) async fn until_stuck(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<BTreeSet<Arc<str>>> {
    let mut since: BTreeMap<Arc<str>, Instant> = BTreeMap::new();
    loop {
        let (aside, now) = (aside(nodes, tables).await?, Instant::now());
        since.retain(|label, _| aside.contains(label));
        for label in aside {
            since.entry(label).or_insert(now);
        }
        let stuck = since.iter().filter(|(_, since)| since.elapsed() >= STUCK_AFTER);
        let stuck: BTreeSet<Arc<str>> = stuck.map(|(label, _)| label.clone()).collect();
        if !stuck.is_empty() {
            return Ok(stuck);
        }
        sleep(MARK_EVERY).await;
    }
}

async fn state(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>, side: Side) -> Result<NodeState> {
    nodes[side].state(&tables[side]).await.map_err(|error| error.at(nodes[side].name()))
}

fn no_checkpoint(node: &Arc<dyn Node>) -> Error {
    Error::new(Code::NotSetUp, format!("{} has no checkpoint of this bridge", node.name())).hint("run pontoon setup")
}
