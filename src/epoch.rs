//! Whether a server's files are as new as what the other side has seen of it.
//!
//! A server that is given back older files has lost what was committed since, and what the bridge had applied of that is
//! now on the other side alone. While the server's log is shorter than the checkpoint, its reader sees that. But the log
//! grows again, and beyond the checkpoint it looks whole: PostgreSQL goes on with the same timeline after the recovery of
//! a copy of its files (only the end of an archive recovery or a promotion begins another one), so neither its identity
//! nor a position tells. What was written meanwhile up to the checkpoint would be passed over for good. (MySQL and
//! MariaDB begin a file of the log at each start, whose time of birth goes with a position; an epoch needs no such luck.)
//!
//! So each node has an epoch, a number among what the bridge keeps there, and each has noted how far it saw the other's.
//! It is raised on the node first and then noted on the other, and both are durable before anything goes on: at every
//! moment the epoch of a node is at least what the other has noted of it. With older files comes an older epoch. Where
//! it is below what is noted, the next session stops, before it reads or writes anything, however far the log has grown.
//!
//! The epochs are raised by each session before it works, and after that whenever a checkpoint has moved, but not more
//! often than [`RAISE_EVERY`]. Why that is enough: files that are older than the last raise are found out by the epoch.
//! Those that are newer hold everything that was applied on the other side up to that raise, so that all they can have
//! lost unseen is what was applied after it. That would take files that were copied within the last seconds of the last
//! session's work, and a log that had grown over the checkpoint before the next one. An idle link raises nothing.

use std::{sync::Arc, time::Duration};

use pontoon_core::{
    Code, Error, Result,
    node::{Lease, Node},
    state::NodeState,
};

use crate::side::{Pair, Side};

/// How often epochs are raised while checkpoints move: four small statements, and far less than it takes to copy a
/// server's files and put them back.
pub(crate) const RAISE_EVERY: Duration = Duration::from_secs(10);

/// Fails where a node is older than what the other has seen of it.
pub(crate) fn check(nodes: &Pair<Arc<dyn Node>>, states: &Pair<NodeState>) -> Result<()> {
    for side in Side::BOTH {
        let (found, noted) = (states[side].epoch, states[side.other()].other_epoch);
        if found < noted {
            let (name, other) = (nodes[side].name(), nodes[side.other()].name());
            let text = format!(
                "{name}: its data is older than what {other} has seen of it (epoch {found}, there {noted}): it lost its last \
                 transactions, of which some are applied on {other}"
            );
            return Err(Error::new(Code::LogBehind, text).hint(
                "the server was restored or lost its last transactions: compare the tables and make them equal, then \
                 `pontoon teardown` and `pontoon setup`",
            ));
        }
    }
    Ok(())
}

/// Raises both epochs, each on its node first.
pub(crate) async fn raise(nodes: &Pair<Arc<dyn Node>>, leases: &mut [Box<dyn Lease>]) -> Result<()> {
    let [a, b] = leases else { return Err(Error::new(Code::Internal, "a bridge has two leases")) };
    let at = |side: Side| move |error: Error| error.at(nodes[side].name());
    let (of_a, of_b) = tokio::join!(a.raise_epoch(), b.raise_epoch());
    let (of_a, of_b) = (of_a.map_err(at(Side::A))?, of_b.map_err(at(Side::B))?);
    let (on_a, on_b) = tokio::join!(a.note_other_epoch(of_b), b.note_other_epoch(of_a));
    on_a.map_err(at(Side::A))?;
    on_b.map_err(at(Side::B))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_memory::{Database, Dice, Faults, MemoryNode, database::Clock};

    #[test]
    fn a_node_that_is_older_than_the_other_has_seen_it_is_refused() {
        let dice = Dice::new(1, Faults::default());
        let node = |name: &str| -> Arc<dyn Node> {
            Arc::new(MemoryNode::new(Database::new(name, dice.clone(), Clock::Skewed(0)), "ab"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let nodes = Pair::new(node("a"), node("b"));
        let state = |epoch, other_epoch| NodeState { epoch, other_epoch, ..NodeState::default() };
        assert!(check(&nodes, &Pair::new(state(3, 5), state(5, 3))).is_ok());
        // A crash between raising and noting.
        assert!(check(&nodes, &Pair::new(state(4, 5), state(6, 3))).is_ok());
        for (states, name) in
            [(Pair::new(state(2, 5), state(5, 3)), "a: "), (Pair::new(state(3, 5), state(4, 3)), "b: ")]
        {
            let refused = check(&nodes, &states).unwrap_err();
            assert_eq!(refused.code(), Code::LogBehind);
            assert!(refused.message().starts_with(name), "{refused}");
        }
    }
}
