//! A fence through both logs: when all that is in them now has been applied.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Code, Error, Position, Result,
    node::{LeaseAttempt, Mark, Node, Tables},
};
use tokio::time::sleep;

use crate::side::{Pair, Side};

/// How often the checkpoint is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the barrier is marked again, for the case that the bridge was not there to see it.
const MARK_EVERY: Duration = Duration::from_secs(2);

/// Whether a process works for the bridge, by the lease on A.
pub(crate) async fn is_running(nodes: &Pair<Arc<dyn Node>>) -> Result<bool> {
    // Taken and given back at once: who does not get it knows that somebody works.
    let node = &nodes[Side::A];
    let attempt = node.try_lease().await.map_err(|error| error.at(node.name()))?;
    Ok(matches!(attempt, LeaseAttempt::HeldBy(_)))
}

/// Returns when each side's checkpoint has reached the end that the other side's log has now, and no table is set aside.
pub(crate) async fn all_applied(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>, reads: Pair<bool>) -> Result<()> {
    let sides: Vec<Side> = Side::BOTH.into_iter().filter(|side| reads[*side]).collect();
    let mut ends = Vec::<(Side, Position)>::new();
    for &side in &sides {
        let status = nodes[side].log_status(None).await.map_err(|error| error.at(nodes[side].name()))?;
        ends.push((side, status.end));
    }
    let looks = MARK_EVERY.as_millis() / LOOK_EVERY.as_millis();
    loop {
        for (side, _) in &ends {
            nodes[*side].mark(Mark::Barrier).await.map_err(|error| error.at(nodes[*side].name()))?;
        }
        for _ in 0..looks {
            let mut open = Vec::new();
            for (side, end) in ends {
                if !has_applied(nodes, tables, side, &end).await? {
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

async fn has_applied(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>, source: Side, end: &Position) -> Result<bool> {
    let target = &nodes[source.other()];
    let state = target.state(&tables[source.other()]).await.map_err(|error| error.at(target.name()))?;
    let checkpoint = state.checkpoint.ok_or_else(|| {
        Error::new(Code::NotSetUp, format!("{} has no checkpoint of this bridge", target.name()))
            .hint("run pontoon setup")
    })?;
    Ok(state.aside.is_empty() && checkpoint.position.covers(end))
}
