//! A bridge between two simulated databases.

use std::sync::Arc;

use pontoon::{
    bridge::{Plan, Until},
    conflict::{
        policy::Policy,
        quarantine::{KEYS_MAX, OnError},
    },
    direction::queue::Limits,
    event::Observer,
    held_back::Restraints,
    rules::Rules,
    side::{Pair, Side},
    windows::Windows,
};
use pontoon_core::{history::Retention, node::Node};
use pontoon_faulty::{FaultyNode, Sites};
use pontoon_memory::{Database, MemoryNode};

use crate::{columns, schedule::Workload};

/// The bridge, by its name, and its nodes.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) nodes: Pair<Arc<Database>>,
}

impl Link {
    pub(crate) fn new(nodes: Pair<Arc<Database>>) -> Link {
        let link = Link { name: format!("{}{}", nodes[Side::A].name, nodes[Side::B].name), nodes };
        for side in Side::BOTH {
            link.nodes[side].set_up(&link.name, &link.nodes[side.other()]);
        }
        link
    }

    /// What a process of this bridge is to do.
    pub(crate) fn plan(
        &self,
        sites: &Arc<Sites>,
        workload: Workload,
        policy: Policy,
        rules: Rules,
        observer: Arc<dyn Observer>,
    ) -> Plan {
        let node = |side: Side| -> Arc<dyn Node> {
            let node = Arc::new(MemoryNode::new(self.nodes[side].clone(), &self.name));
            Arc::new(FaultyNode::new(node, sites.clone()))
        };
        let tables = columns::tables(workload);
        Plan {
            nodes: Pair::from_fn(node),
            policies: vec![policy; tables.len()],
            on_error: vec![OnError::Quarantine; tables.len()],
            tables: Pair::from_fn(|_| tables.clone()),
            aside: Vec::new(),
            quarantined_max: KEYS_MAX,
            retention: Retention { records: None, age: None },
            preferred: Side::A,
            reads: Pair::new(true, true),
            limits: Limits::new(1 << 20, 1 << 30),
            spill_folder: std::env::temp_dir(),
            holder: self.name.clone(),
            until: Until::Stopped,
            rows_per_second: None,
            restraints: Restraints { windows: Windows::default(), pressure: Pair::default(), clock: Arc::new(|| 0) },
            chunk_rows: None,
            seed: None,
            rules,
            observer,
        }
    }

    /// Whether all that is not the bridge's own in the log of a side is applied on the other.
    pub(crate) fn is_applied(&self, side: Side) -> bool {
        let end = self.nodes[side].place(self.nodes[side].last_foreign(&self.name));
        let target = &self.nodes[side.other()];
        target.follows(&self.name, &self.nodes[side])
            && target.set_aside(&self.name).is_empty()
            && target.checkpoint(&self.name).is_some_and(|at| at.covers(&end))
    }
}
