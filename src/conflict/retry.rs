//! What ends a quarantine: the rendezvous over what is stored.
//!
//! Keys are tried when they are due: again and again with longer and longer pauses, soon after either side wrote them
//! (that may be the mend), and when an operator asks. Such an attempt is a rendezvous like any other, but it waits
//! for nobody: where a reader is behind or a lock is not to be had, it is put off.
//!
//! What an operator decides (a discard, or whose row stands) is a rendezvous too, so that nothing is decided over that
//! they have not seen: every change that is pending must have been stored, and marked by the command, when they looked.
//! Where the key was written since, it is tried instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pontoon_core::{
    Code, Error, Key, Result, TableId, Tag,
    quarantine::{Ask, STORED_READ_MAX},
};
use tokio::time::Instant;

use super::{
    decide::Reason,
    pending::{History, Pending},
    settle::{Cause, KEYS_MAX, Settler, outcome_unknown},
    verdict::Verdict,
};
use crate::{
    direction::{
        close_over,
        plan::{self, Place},
    },
    event::EngineEvent,
    rules::Rule,
    side::{Pair, Side},
};

/// How often operators' requests are looked for, while anything is in quarantine: they are to see the effect at once.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often a table is looked at anew before a key of it is tried again: as often as a single key is tried at first, at
/// the cost of one look at the catalogs.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long an attempt waits for readers to be close to the ends of their logs: others may want a settlement.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(1);

impl Settler {
    /// Tries the key that has been due for the longest.
    pub(super) async fn retry(&mut self) -> Result<()> {
        match self.shared.quarantine.due() {
            Some(place) => {
                self.look_at_shape(place.0).await?;
                self.settle(BTreeSet::from([place]), Cause::Retry).await
            }
            None => Ok(()),
        }
    }

    /// The obstacle may be gone by a wider column, which a log need not tell of. Errors: a table is not what it was; then
    /// the bridge is begun anew with what it is.
    async fn look_at_shape(&mut self, table: TableId) -> Result<()> {
        let now = Instant::now();
        if self.looked.get(&table).is_some_and(|at| now - *at < LOOK_EVERY) {
            return Ok(());
        }
        self.looked.insert(table, now);
        for side in Side::BOTH {
            let (node, table) = (&self.shared.nodes[side], plan::table(&self.shared.tables[side], table)?);
            if !node.is_as_mapped(table).await.map_err(|error| error.at(node.name()))? {
                let error = Error::new(Code::SchemaChanged, format!("{}: its definition was changed", table.name));
                return Err(error.hint("make the same change on the other side and start again").at(node.name()));
            }
        }
        Ok(())
    }

    /// Does what operators have asked for.
    pub(super) async fn look_for_requests(&mut self) -> Result<()> {
        if self.shared.quarantine.is_empty() {
            return Ok(());
        }
        let mut asked: BTreeMap<Place, Cause> = BTreeMap::new();
        let mut apart: BTreeSet<Place> = BTreeSet::new();
        for side in Side::BOTH {
            let found = self.shared.nodes[side].asked(&self.shared.tables[side]).await;
            for found in found.map_err(|error| error.at(&self.shared.names[side]))? {
                let cause = match found.ask {
                    Ask::Retry => Cause::Retry,
                    Ask::Discard => Cause::Discard,
                    Ask::TakeOwn | Ask::TakeOwnApart => Cause::Take(side),
                    Ask::TakeOther | Ask::TakeOtherApart => Cause::Take(side.other()),
                };
                let place = (found.table, found.key);
                if found.ask.is_apart() {
                    apart.insert(place.clone());
                }
                asked.insert(place, cause);
            }
        }
        if asked.values().any(|cause| *cause != Cause::Discard) {
            // What an operator has changed is to be seen: a table, or a setting of the server that counts for new
            // connections alone.
            self.looked.clear();
            self.sessions = Pair::default();
        }
        let mut together: BTreeMap<Side, BTreeSet<Place>> = BTreeMap::new();
        for (place, cause) in asked {
            if !self.shared.quarantine.holds(&place) {
                continue;
            }
            self.shared.quarantine.decline(&place, None);
            if cause != Cause::Discard {
                self.look_at_shape(place.0).await?;
            }
            if cause == Cause::Retry {
                self.shared.quarantine.let_go(&place);
            }
            match cause {
                Cause::Take(keeps) if apart.contains(&place) => self.part(&place, keeps).await?,
                // Rows that are tied to each other can often only be taken together.
                Cause::Take(side) => {
                    together.entry(side).or_default().insert(place);
                }
                _ => self.settle(BTreeSet::from([place]), cause).await?,
            }
        }
        for (side, keys) in together {
            let keys: Vec<Place> = keys.into_iter().collect();
            for keys in keys.chunks(KEYS_MAX) {
                self.settle(keys.iter().cloned().collect(), Cause::Take(side)).await?;
            }
        }
        Ok(())
    }

    /// What is stored of the keys: by the side that wrote it, on the other.
    pub(super) async fn stored(&mut self, keys: &BTreeSet<Place>) -> Result<Pair<BTreeMap<Place, History>>> {
        let shared = self.shared.clone();
        let mut found = Pair::<BTreeMap<Place, History>>::default();
        if !shared.rules.has(Rule::Stored) {
            return Ok(found);
        }
        for source in Side::BOTH {
            let target = source.other();
            for place in keys.iter().filter(|place| shared.quarantine.has_changes(target, place)) {
                let policy = shared.policies.get(place.0.index());
                let mut history = History::default();
                let mut after = 0;
                loop {
                    let stored = self.session(target)?.stored(place.0, &place.1, after).await?;
                    let Some(last) = stored.last() else { break };
                    let is_last = stored.len() < STORED_READ_MAX;
                    after = last.id;
                    history.add_stored(stored, policy, shared.rules.has(Rule::Seen));
                    if is_last {
                        break;
                    }
                }
                found[source].insert(place.clone(), history);
            }
        }
        Ok(found)
    }

    /// Adds the ties of what is stored. Returns the keys that the settlement is about: those that were `asked` for, and what
    /// moved from or to them.
    pub(super) fn own(
        &self,
        asked: &BTreeSet<Place>,
        keys: &BTreeSet<Place>,
        pending: &mut Pair<Pending>,
    ) -> BTreeSet<Place> {
        let quarantine = &self.shared.quarantine;
        let mut own = asked.clone();
        if self.shared.rules.has(Rule::Stored) {
            pending[Side::A].links.extend(quarantine.tied(keys).1);
            own = quarantine.tied(asked).0;
        }
        let links: Vec<_> = pending.iter().flat_map(|pending| pending.links.iter().cloned()).collect();
        close_over(&mut own, &links);
        own
    }

    /// What an operator decided of all that is pending of these keys.
    pub(super) fn decided_by_hand(
        &self,
        own: &BTreeSet<Place>,
        pending: &Pair<Pending>,
        cause: Cause,
    ) -> Option<Reason> {
        let shared = &self.shared;
        if !shared.rules.has(Rule::Stored) {
            return None;
        }
        let is_unlooked = |place: &Place| {
            pending.iter().any(|pending| pending.histories.get(place).is_some_and(|history| history.unlooked))
        };
        let unlooked = own.iter().any(is_unlooked);
        let refused_by = own.iter().find_map(|place| shared.quarantine.head(place)).map(|(side, ..)| side);
        let decided = match cause {
            Cause::Discard => refused_by.map(Reason::Discarded),
            Cause::Take(side) => Some(Reason::Chosen(side)),
            Cause::Retry | Cause::Conflict(_) | Cause::Arrival(_) | Cause::Repair(_) | Cause::Completion => None,
        };
        let unseen = unlooked && shared.rules.has(Rule::Looked);
        decided.filter(|_| !unseen)
    }

    /// Removes what is stored on a side of the keys that are settled.
    pub(super) async fn release(&mut self, side: Side, verdicts: &[Verdict]) -> Result<()> {
        let shared = self.shared.clone();
        let mut by_table: BTreeMap<TableId, Vec<Key>> = BTreeMap::new();
        for (table, key) in verdicts.iter().map(|verdict| &verdict.place) {
            if shared.quarantine.has_entries(side, &(*table, key.clone())) {
                by_table.entry(*table).or_default().push(key.clone());
            }
        }
        for (table, keys) in by_table {
            self.session(side)?.release(table, &keys).await?;
        }
        Ok(())
    }

    /// What the rule `Release` rules out.
    pub(super) async fn release_apart(&mut self, verdicts: &[Verdict]) -> Result<()> {
        self.roll_back().await?;
        for side in Side::BOTH {
            self.session(side)?.begin(Some(&Tag::ALONE)).await?;
            self.release(side, verdicts).await?;
            self.session(side)?.commit().await.map_err(outcome_unknown)?;
            self.session(side)?.begin(None).await?;
        }
        Ok(())
    }

    /// Both commits are known: the keys are out of quarantine.
    pub(super) fn released(&self, verdicts: &[Verdict]) {
        let shared = &self.shared;
        let held: BTreeSet<Place> = verdicts
            .iter()
            .map(|verdict| verdict.place.clone())
            .filter(|place| shared.quarantine.holds(place))
            .collect();
        if held.is_empty() {
            return;
        }
        for verdict in verdicts.iter().filter(|verdict| held.contains(&verdict.place)) {
            let Some((side, ..)) = shared.quarantine.head(&verdict.place) else { continue };
            let (source, table) = (side.other(), shared.label(verdict.place.0));
            let discarded = matches!(verdict.reason, Reason::Discarded(_));
            shared.observe(&EngineEvent::Released { source, table, discarded });
            // What goes round is written by one side alone while it is here.
            match verdict.contended && shared.quarantine.is_suspected(&verdict.place) {
                true => shared.watchdog.is_innocent(&verdict.place),
                false => shared.watchdog.forget(&verdict.place),
            }
        }
        shared.quarantine.ended(&held);
        shared.tell_quarantine();
    }
}
