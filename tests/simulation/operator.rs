//! An operator, who decides about rows in quarantine now and then, as the commands do it.

use std::{collections::BTreeSet, time::Duration};

use pontoon::{
    conflict::policy::{ForeignKeyRule, RowRule, UniqueRule},
    side::{Pair, Side},
};
use pontoon_core::quarantine::Ask;
use pontoon_memory::database::{Kept, Place};
use tokio::time::sleep;

use crate::{checkers, schedule::Workload, world::World};

/// Virtual time between two decisions of an operator who decides about everything that waits.
const DECIDED: Duration = Duration::from_secs(3);

/// What an operator looked at before they decided.
pub(crate) struct Looked {
    pub(crate) link: String,
    /// The key and those that are tied to it.
    pub(crate) places: BTreeSet<Place>,
    /// How long both logs were.
    pub(crate) logs: Pair<usize>,
}

impl World {
    /// Whether an operator chooses whose row stands, and does not only drop what is refused. Where a row cannot be put back,
    /// since another one has its unique values by now, no rule decides; any other case of rows that are tied to each other
    /// some rule does.
    pub(crate) fn chooses(&self) -> bool {
        let rules_decide =
            self.policy.unique == UniqueRule::Rule && self.policy.foreign_key == ForeignKeyRule::DeleteChild;
        self.policy.row == RowRule::Quarantine || self.schedule.workload == Workload::Tied && !rules_decide
    }

    /// Whether operators decide about rows: those of a ledger are to be there in the end, and what is added is to count.
    pub(crate) fn decides(&self) -> bool {
        match self.schedule.workload {
            _ if self.chooses() => true,
            Workload::Ledger | Workload::Counters | Workload::Added | Workload::Stock | Workload::Tied => false,
            _ => self.schedule.refuses,
        }
    }

    /// An operator, who decides about a row in quarantine now and then.
    pub(crate) async fn operate(&self) {
        if self.repairs() {
            self.ask_for_repairs().await;
        }
        if !self.decides() && !self.gives_keys() {
            return;
        }
        for _ in 0..if self.gives_keys() { self.dice.between(3, 9) } else { self.dice.between(0, 5) } {
            sleep(self.dice.duration(Duration::from_secs(2))).await;
            if self.gives_keys() && (!self.decides() || self.dice.chance(0.5)) {
                self.ask_for_one_that_lost();
            } else {
                self.decide().await;
            }
        }
    }

    /// As the command does: looks at the entries of a key and of those tied to it, or of all, then marks these entries on
    /// one node after the other, last where one was refused. Refused rows are dropped; of rows that wait for a person one
    /// side's is chosen.
    pub(crate) async fn decide(&self) {
        let Some(link) = self.dice.pick(&self.links) else { return };
        let held: Vec<Place> = checkers::quarantined(link).into_iter().collect();
        let Some(place) = self.dice.pick(&held) else { return };
        let all = self.schedule.workload == Workload::Tied && self.dice.chance(0.3);
        let places = if all { held.iter().cloned().collect() } else { checkers::tied(link, place) };
        let entries = Pair::from_fn(|side| -> Vec<Kept> {
            let of = |kept: &Kept| places.contains(&(kept.stored.table, kept.stored.key.clone()));
            link.nodes[side].quarantine(&link.name).into_iter().filter(of).collect()
        });
        let logs = Pair::from_fn(|side| link.nodes[side].log().len());
        let chosen = match self.chooses() {
            true => self.dice.pick(&Side::BOTH).copied(),
            false if self.gives_keys() && self.dice.chance(0.5) => self.dice.pick(&Side::BOTH).copied(),
            false => None,
        };
        let is_apart = self.gives_keys() && chosen.is_some() && self.dice.chance(0.6);
        let what = chosen.map_or_else(|| "dropped".into(), |side| format!("as on {}", link.nodes[side].name));
        self.note(format!("{} an operator has ({}) {what}", link.name, place.1));
        self.looked.lock().unwrap().push(Looked { link: link.name.clone(), places, logs });
        if is_apart {
            self.ask_apart(link, &entries).await;
        }
        let mut order = Side::BOTH;
        order.sort_by_key(|side| entries[*side].iter().any(|kept| kept.stored.refusal.is_some()));
        for side in order {
            sleep(self.dice.duration(Duration::from_millis(500))).await;
            let ids: Vec<i64> = entries[side].iter().map(|kept| kept.stored.id).collect();
            let ask = match chosen {
                None => Ask::Discard,
                Some(of) if of == side && is_apart => Ask::TakeOwnApart,
                Some(_) if is_apart => Ask::TakeOtherApart,
                Some(of) if of == side => Ask::TakeOwn,
                Some(_) => Ask::TakeOther,
            };
            link.nodes[side].ask(&link.name, &ids, ask);
        }
    }

    /// Waits until nothing is in quarantine, which takes an operator where rows wait for one.
    pub(crate) async fn healed(&self) {
        while self.links.iter().any(|link| !checkers::quarantined(link).is_empty()) {
            sleep(Duration::from_millis(500)).await;
            if self.chooses() {
                self.decide().await;
                sleep(DECIDED).await;
            }
        }
    }
}
