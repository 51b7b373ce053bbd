//! An operator's word that nothing is to be applied in a direction.

use std::{sync::Arc, time::Duration};

use pontoon_core::{Code, Error, Result, node::Node, state::Pause};
use tokio::time::sleep;

use super::{Plan, Shared, Until};
use crate::{
    event::EngineEvent,
    rules::Rule,
    side::{Pair, Side},
};

/// How often it is looked whether what is paused goes on: somebody waits for that.
const LOOK_FOR_RESUME_EVERY: Duration = Duration::from_secs(1);

/// Reads which nodes nothing is to be applied on. What is paused from now on ends this session's tokens. Errors: paused, where
/// the bridge is to end by itself, which it could not.
pub(crate) async fn read(plan: &Plan) -> Result<Pair<Option<Pause>>> {
    let mut pauses = Pair::default();
    for source in Side::BOTH.into_iter().filter(|side| plan.reads[*side] && plan.rules.has(Rule::Pause)) {
        let Some(pause) = of(&plan.nodes, source).await? else { continue };
        if plan.until != Until::Stopped {
            return Err(paused(&plan.nodes, source));
        }
        pauses[source.other()] = Some(pause);
    }
    Ok(pauses)
}

/// An operator's word that nothing is to be applied in the direction from a side, if there is one.
pub(crate) async fn of(nodes: &Pair<Arc<dyn Node>>, source: Side) -> Result<Option<Pause>> {
    let target = &nodes[source.other()];
    target.paused().await.map_err(|error| error.at(target.name()))
}

/// Errors: a direction is paused, for which whoever waits for it would wait for ever.
pub(crate) async fn refuse(nodes: &Pair<Arc<dyn Node>>, reads: Pair<bool>) -> Result<()> {
    for source in Side::BOTH.into_iter().filter(|side| reads[*side]) {
        if of(nodes, source).await?.is_some() {
            return Err(paused(nodes, source));
        }
    }
    Ok(())
}

/// What an operator has paused does not get done.
fn paused(nodes: &Pair<Arc<dyn Node>>, source: Side) -> Error {
    let text = format!("{} -> {} is paused", nodes[source].name(), nodes[source.other()].name());
    Error::new(Code::Paused, text).hint("pontoon resume ends that")
}

/// Tells what is paused, and returns when some of it goes on; never where nothing is paused.
pub(crate) async fn wait_for_end(shared: &Shared) -> Result<()> {
    let paused = || Side::BOTH.into_iter().filter_map(|side| Some((side.other(), shared.paused[side]?)));
    for (source, pause) in paused() {
        shared.observe(&EngineEvent::Paused { source, until: pause.until });
    }
    if paused().next().is_none() {
        return std::future::pending().await;
    }
    loop {
        sleep(LOOK_FOR_RESUME_EVERY).await;
        let mut goes_on = false;
        for (source, _) in paused() {
            if of(&shared.nodes, source).await?.is_none() {
                shared.observe(&EngineEvent::Resumed { source });
                goes_on = true;
            }
        }
        if goes_on {
            return Ok(());
        }
    }
}
