//! `pontoon wait`: a barrier for scripts and cut-overs.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Code, Error, Position, Result,
    node::{Mark, Node, Tables},
};
use tokio::time::{sleep, timeout};

use super::{Context, DONE, NO, WaitArgs};
use crate::{
    mapping, nodes, setup,
    side::{Pair, Side},
};

/// How often the checkpoint is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the barrier is marked again, for the case that the bridge was not there to see it.
const MARK_EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn run(arguments: WaitArgs, context: &Context) -> Result<u8> {
    let config = context.config()?;
    let nodes = nodes::open(&config)?.nodes;
    setup::connect(&nodes).await?;
    let mapping = mapping::map(&config, &nodes).await?;
    let waited = timeout(arguments.timeout, all_applied(&nodes, &mapping.tables, mapping.reads)).await;
    match waited {
        Ok(done) => done.map(|()| DONE),
        Err(_) => {
            eprintln!(
                "not everything has crossed within {:?}; pontoon status tells where it stands",
                arguments.timeout
            );
            Ok(NO)
        }
    }
}

/// Returns when each side's checkpoint has reached the end that the other side's log has now.
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
    Ok(checkpoint.position.covers(end))
}
