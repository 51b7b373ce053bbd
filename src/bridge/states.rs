//! What both nodes keep of the bridge: read when a session begins, and by commands.

use std::sync::Arc;

use pontoon_core::{
    Checkpoint, Code, Error, Result,
    node::{Node, PassedOver, SetUp, Tables},
    state::NodeState,
};

use crate::side::{Pair, Side};

/// What both nodes keep.
pub(crate) async fn read(nodes: &Pair<Arc<dyn Node>>, tables: &Pair<Tables>) -> Result<Pair<NodeState>> {
    let mut states = Pair::default();
    for side in Side::BOTH {
        let node = &nodes[side];
        states[side] = node.state(&tables[side]).await.map_err(|error| error.at(node.name()))?;
    }
    Ok(states)
}

/// Whether the bridge is set up for just these tables, and those that are set aside. Errors: tables changed, where it is for others: some of them would lose what their logs hold.
pub(crate) fn are_set_up(
    nodes: &Pair<Arc<dyn Node>>,
    tables: &Pair<Tables>,
    aside: &[Arc<str>],
    states: &Pair<NodeState>,
) -> Result<()> {
    for side in Side::BOTH {
        let (known, name) = (&states[side].tables, nodes[side].name());
        let arriving = tables[side.other()].iter().map(|table| (table.label.clone(), table.followed));
        // Which way one goes that is set aside is looked at when it is taken back.
        let as_known = |label: &Arc<str>| known.iter().find(|(found, _)| found == label).cloned();
        let set_aside = aside.iter().map(|label| as_known(label).unwrap_or_else(|| (label.clone(), true)));
        let mut wanted: Vec<SetUp> = arriving.chain(set_aside).collect();
        wanted.sort();
        if known.is_empty() || wanted == *known {
            continue;
        }
        let has = |tables: &[SetUp], label: &Arc<str>| tables.iter().any(|(found, _)| found == label);
        let new = wanted.iter().find(|(label, _)| !has(known, label));
        let gone = known.iter().find(|(label, _)| !has(&wanted, label));
        let what = match (new, gone) {
            (Some((label, _)), _) => format!("is not set up for the table {label}, which is configured"),
            (None, Some((label, _))) => format!("is set up for the table {label}, which is not configured"),
            (None, None) => "is set up for other directions than are configured".to_owned(),
        };
        return Err(Error::new(Code::TablesChanged, format!("{name} {what}"))
            .hint("run pontoon setup, with the configuration that is meant; what is set up already stays as it is"));
    }
    Ok(())
}

/// What of the log of `source` is passed over, by operators and since it is applied already or was there before.
pub(crate) fn passed_over(states: &Pair<NodeState>, source: Side) -> PassedOver {
    PassedOver { skips: states[source].skips.clone(), since: states[source.other()].since.clone() }
}

/// Up to where the log of `source` is applied: the checkpoint is on the other node.
pub(crate) fn checkpoint<'a>(
    nodes: &Pair<Arc<dyn Node>>,
    states: &'a Pair<NodeState>,
    source: Side,
) -> Result<&'a Checkpoint> {
    states[source.other()].checkpoint.as_ref().ok_or_else(|| {
        Error::new(Code::NotSetUp, format!("{} has no checkpoint of this bridge", nodes[source.other()].name()))
            .hint("run pontoon setup")
    })
}
