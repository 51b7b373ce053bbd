//! The task that reads one log into its queue.
//!
//! It never waits for the target: the queue takes everything, in memory or on disk. Only where the spill
//! has reached its configured limit, or its disk is full, does it stop, and even then it goes on while a rendezvous waits for
//! its fence, since that rendezvous holds locks. It confirms to the server what is durable on the other
//! side of every table, and nothing else.

use std::{sync::Arc, time::Duration};

use pontoon_core::{Held, LogEvent, Result, node::LogReader};
use tokio::time::sleep;

use super::hold::Tally;
use crate::{bridge::Shared, event::EngineEvent, rules::Rule, side::Side};

/// How often a reader that stopped looks whether there is room on the disk again: somebody else may have made it.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// Reads the log of `source` until it fails or meets an obstacle, behind which nothing is read.
pub(crate) async fn run(shared: Arc<Shared>, source: Side, mut reader: Box<dyn LogReader>) -> Result<()> {
    let queue = &shared.queues[source];
    let mut durable = shared.durable[source].subscribe();
    let mut urgent = shared.urgent.subscribe();
    reader.confirm(&shared.needed(source));
    loop {
        tokio::select! {
            biased;
            () = durable.changed() => reader.confirm(&shared.needed(source)),
            event = reader.next() => {
                let event = event?;
                let obstacle = match &event {
                    LogEvent::Obstacle(obstacle) => Some(obstacle.error.clone()),
                    _ => None,
                };
                take(&shared, source, event)?;
                if obstacle.is_some() {
                    // The applier ends the bridge when it gets there; or a rendezvous that would wait for what is behind it.
                    shared.obstacles[source].set(obstacle);
                    std::future::pending::<()>().await;
                }
            }
        }
        if queue.is_full() && urgent.get() == 0 {
            shared.observe(&EngineEvent::SpillFull { source });
            while queue.is_full() && urgent.see() == 0 {
                queue.stuck_check()?;
                tokio::select! {
                    () = queue.wait_for_release() => {}
                    () = urgent.changed() => {}
                    () = sleep(ROOM_EVERY) => queue.look_for_room()?,
                }
            }
        }
    }
}

/// Tells of an event, and puts it into the queue.
fn take(shared: &Shared, source: Side, event: LogEvent) -> Result<()> {
    let queue = &shared.queues[source];
    match &event {
        LogEvent::Held(Held::Decided { id, fragment }) => {
            let Tally { rows, bytes } = queue.held(id);
            shared.observe(&EngineEvent::Decided { source, fragment, rows, bytes });
        }
        LogEvent::Held(Held::Undone { .. }) if !shared.rules.has(Rule::Undo) => return Ok(()),
        LogEvent::Held(_) => {}
        event => shared.observe(&EngineEvent::Received { source, event }),
    }
    queue.push(event)
}
