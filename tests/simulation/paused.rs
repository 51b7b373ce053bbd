//! An operator who pauses what a bridge applies on a node, as the command does it, and lets it go on.

use std::{sync::Arc, time::Duration};

use pontoon::side::Side;
use pontoon_memory::Database;
use tokio::time::sleep;

use crate::{schedule::Workload, world::World};

/// Virtual time that a pause lasts at the most: longer than anything of the bridge waits.
const PAUSED_MAX: Duration = Duration::from_secs(60);

impl World {
    fn pauses(&self) -> bool {
        self.schedule.workload == Workload::Paused
    }

    /// Pauses nodes now and then. Errors: something was applied meanwhile.
    pub(crate) async fn pause_now_and_then(&self) -> Result<(), String> {
        if !self.pauses() {
            return Ok(());
        }
        for _ in 0..self.dice.between(1, 5) {
            sleep(self.dice.duration(Duration::from_millis(1_500))).await;
            let (Some(link), Some(side)) = (self.dice.pick(&self.links), self.dice.pick(&Side::BOTH)) else { continue };
            let node = &link.nodes[*side];
            // A transaction took too long: the command would wait for it again.
            if node.pause(&link.name).await.is_err() {
                continue;
            }
            let before = applied(node, &link.name);
            self.note(format!("{} is paused on {}", link.name, node.name));
            sleep(self.dice.duration(if self.dice.chance(0.7) { Duration::from_secs(1) } else { PAUSED_MAX })).await;
            if applied(node, &link.name) != before {
                return Err(format!("{} applied something on {} while it was paused", link.name, node.name));
            }
            node.resume(&link.name);
            self.note(format!("{} goes on on {}", link.name, node.name));
        }
        Ok(())
    }
}

/// Transactions of a bridge in a node's log that changed rows.
fn applied(node: &Arc<Database>, bridge: &str) -> usize {
    let own =
        |entry: &pontoon_memory::database::Entry| entry.origin.as_deref() == Some(bridge) && !entry.changes.is_empty();
    node.log().iter().filter(|entry| own(entry)).count()
}
