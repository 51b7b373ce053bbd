//! Rows that differ from node to node though no log tells why, and an operator who has them made equal.

use std::time::Duration;

use pontoon::side::Side;
use pontoon_core::{Key, Row, TableId, Value, repair::Repair};
use pontoon_memory::database::Place;
use tokio::time::sleep;

use crate::{
    columns,
    link::Link,
    schedule::Workload,
    world::{World, place},
};

/// What another node than the first holds of the keys, each by chance.
pub(crate) fn other_rows(keys: i64, dice: &pontoon_memory::dice::Dice) -> Vec<(Place, Row)> {
    let mut rows = Vec::new();
    for key in 0..keys {
        if dice.chance(0.7) {
            let text = if dice.chance(0.5) { "other" } else { "x" };
            let mut row = columns::row(Workload::Repaired, key, "x", "x");
            row.0[1] = Value::Text(text.into());
            rows.push((place(key), row));
        }
    }
    rows
}

impl World {
    /// Whether an operator has rows made equal.
    pub(crate) fn repairs(&self) -> bool {
        self.schedule.workload == Workload::Repaired
    }

    /// An operator, who asks for some of the keys now and then, while applications write them.
    pub(crate) async fn ask_for_repairs(&self) {
        for _ in 0..self.dice.between(1, 5) {
            sleep(self.dice.duration(Duration::from_secs(2))).await;
            let Some(link) = self.dice.pick(&self.links) else { return };
            let keys = (0..self.keys).filter(|_| self.dice.chance(0.5));
            self.ask(link, keys.map(|key| place(key).1).collect());
        }
    }

    /// Of every key: what still differs is equal afterwards.
    pub(crate) fn ask_for_all_repairs(&self) {
        for link in &self.links {
            self.ask(link, (0..self.keys).map(|key| place(key).1).collect());
        }
    }

    fn ask(&self, link: &Link, keys: Vec<Key>) {
        let Some(side) = self.dice.pick(&Side::BOTH) else { return };
        let from = link.nodes[*side].name.clone();
        self.note(format!("{} an operator wants {} keys as on {from}", link.name, keys.len()));
        let id = link.nodes[Side::A].repairs(&link.name).iter().map(|repair| repair.id + 1).max().unwrap_or(0);
        link.nodes[Side::A].ask_repair(&link.name, Repair { id, table: TableId(0), from, keys });
    }

    /// Whether nothing waits to be made equal.
    pub(crate) fn all_is_repaired(&self) -> bool {
        self.links.iter().all(|link| link.nodes[Side::A].repairs(&link.name).is_empty())
    }
}
