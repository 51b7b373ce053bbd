//! Servers that are lost, and standbys of them that are promoted, some of which lag behind.
//!
//! What a node had committed behind the fork is gone with the server, and so are its applications' writes: the checkers look at the logs as they are in the end. The
//! bridge either goes on, and keeps every promise of what is there, or says that it cannot.

use std::time::Duration;

use tokio::time::sleep;

use crate::world::World;

/// What a process says that a bridge ended with since a side relied on what is lost.
pub(crate) const REFUSED: &str = "refused";

/// How far standbys lag behind: mostly less than it takes to settle a conflict, so that each place in between is met.
const LAGS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(60), Duration::from_millis(300), Duration::from_secs(8)];

impl World {
    /// Promotes standbys now and then.
    pub(crate) async fn promote_now_and_then(&self) {
        if !self.schedule.promotes {
            return;
        }
        for _ in 0..self.dice.between(1, 3) {
            sleep(self.dice.duration(Duration::from_millis(1_500))).await;
            let (Some(node), Some(lag)) = (self.dice.pick(&self.nodes), self.dice.pick(&LAGS)) else { continue };
            let standby = node.standby();
            let lag = self.dice.duration(*lag);
            sleep(lag).await;
            let lost = node.promote(standby);
            self.note(format!("{} is lost, and a standby promoted that lacks {lost} transactions", node.name));
            self.trace.promoted(lost, lag);
        }
    }
}
