//! What comes of a settlement that a side refuses, or that a person is to decide: its keys go into quarantine, or stay
//! there.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_core::{
    Code, Error, Result, Row, Tag,
    node::Tried,
    quarantine::{Stored, What},
};

use super::{
    decide::Reason,
    quarantine::{self, OnError},
    retry::CLOSE_WAIT,
    settle::{Cause, Settler, outcome_unknown},
    verdict::{Rows, Verdict},
    watchdog,
};
use crate::{
    bridge::Shared,
    direction::plan::{self, Net, Place},
    event::{ConflictKind, EngineEvent},
    side::{Pair, Side},
};

/// What a side refused.
pub(super) struct Refusal {
    side: Side,
    error: Error,
    /// Each key with the row that the side holds and the one that it was to hold.
    nets: BTreeMap<Place, Net>,
    /// What the direction from each side met of each key, and whether both sides had written it.
    met: Vec<(Place, Pair<ConflictKind>, bool)>,
    /// Where the other log stood, as a message says it.
    at: String,
}

impl Refusal {
    pub(super) fn new(side: Side, error: Error, rows: &Rows, verdicts: &[Verdict]) -> Refusal {
        let net = |verdict: &Verdict| Net::new(rows.get(&verdict.place).cloned().flatten(), verdict.rows[side].clone());
        let nets = verdicts.iter().map(|verdict| (verdict.place.clone(), net(verdict))).collect();
        let met = verdicts.iter().map(|verdict| (verdict.place.clone(), verdict.kinds, verdict.contended));
        let at = verdicts.first().map_or_else(String::new, |verdict| fence_of(side, verdict));
        Refusal { side, error, nets, met: met.collect(), at }
    }

    /// Which side refuses, and why.
    pub(super) fn by(&self) -> (Side, &Error) {
        (self.side, &self.error)
    }

    /// Whether the key is one of those that are refused.
    pub(super) fn is_about(&self, place: &Place) -> bool {
        self.nets.contains_key(place)
    }

    /// The rows that the side was to hold.
    pub(super) fn rows(&self) -> Vec<(&Place, &Row)> {
        self.nets.iter().filter_map(|(place, net)| Some((place, net.after.as_ref()?))).collect()
    }

    /// Why.
    pub(super) fn why(&self) -> &str {
        self.error.message()
    }

    /// Says also why an operator's request is not done.
    fn declining(mut self, why: &str) -> Refusal {
        let error = Error::new(self.error.code(), format!("{}; {why}", self.error.message()))
            .by_constraint(self.error.constraint().map(Into::into));
        self.error = match self.error.remedy() {
            Some(hint) => error.hint(hint),
            None => error,
        };
        self
    }

    /// Rows of which a person is to decide: this side has its own, and would get the other's.
    fn held(side: Side, error: Error, rows: &Pair<Rows>, verdicts: &[Verdict]) -> Refusal {
        let mut refusal = Refusal::new(side, error, &rows[side], verdicts);
        for (place, net) in &mut refusal.nets {
            net.after = rows[side.other()].get(place).cloned().flatten();
        }
        refusal
    }
}

/// Whether a side can hold what it is to hold, since a server may round in silence; and whether what it holds
/// can be said to it, as the row is only overwritten if it is still the same.
pub(super) fn verdicts_fit(shared: &Shared, side: Side, rows: &Rows, verdicts: &[Verdict]) -> Result<()> {
    for verdict in verdicts {
        let place = &verdict.place;
        let net = Net::new(rows.get(place).cloned().flatten(), verdict.rows[side].clone());
        if net.before == net.after {
            continue;
        }
        let table = plan::table(&shared.tables[side], place.0)?;
        if let Some(at) = net.before.iter().find_map(|row| row.0.iter().position(plan::is_unmapped)) {
            let (name, key, column) = (&shared.names[side], &place.1, &table.columns[at].column.name);
            let message = format!(
                "{name}: {} key ({key}) lost a conflict in {}, and its column {column} has no form on the other side",
                table.label,
                fence_of(side, verdict)
            );
            let hint = format!("write another value to the column on {name}, then start again");
            return Err(Error::new(Code::ValueMisfit, message).hint(hint));
        }
        net.fits(table, None, &place.1, &fence_of(side, verdict))?;
    }
    Ok(())
}

/// A person is to decide between two rows.
pub(super) fn for_a_person(cause: Cause) -> Error {
    let what = match cause {
        Cause::Discard | Cause::Take(_) => "both sides wrote it, at least one of them since an operator decided",
        _ => "both sides wrote it without seeing each other",
    };
    let hint = "pontoon quarantine show ID shows both rows, pontoon quarantine retry ID --take NODE decides";
    Error::new(Code::ConflictHeld, what).hint(hint)
}

/// Where a settlement is, as a message says it.
fn fence_of(side: Side, verdict: &Verdict) -> String {
    let fence = verdict.records[side].other_fence.as_ref();
    fence.map_or("a settlement".to_owned(), |fence| format!("a settlement at {fence}"))
}

impl Settler {
    /// A person is to decide: what goes into quarantine instead of verdicts, and why. It is kept by the node that the
    /// direction which met the conflict writes to.
    pub(super) fn held(&self, error: Error, rows: &Pair<Rows>, verdicts: &[Verdict], cause: Cause) -> Refusal {
        let met = self.met(verdicts.iter().map(|verdict| &verdict.place), cause);
        let side = met.unwrap_or(self.shared.preferred).other();
        Refusal::held(side, error, rows, verdicts)
    }

    /// What goes into quarantine, or stays there, instead of verdicts of which some would go round or be in vain. Where
    /// both sides have written, what is pending tells that they do so at will; and equal rows are no loop.
    pub(super) fn suspected(&self, rows: &Pair<Rows>, verdicts: &[Verdict], cause: Cause) -> Option<Refusal> {
        let why = |verdict: &Verdict| match cause {
            _ if verdict.contended || verdict.reason == Reason::Equal => None,
            Cause::Conflict(_) if !verdict.unexplained => None,
            Cause::Conflict(_) => self.shared.watchdog.is_settled_in_vain(&verdict.place),
            Cause::Retry => self.shared.quarantine.is_suspected(&verdict.place).then(watchdog::still_suspected),
            Cause::Arrival(_) | Cause::Repair(_) | Cause::Completion | Cause::Discard | Cause::Take(_) => None,
        };
        let error = verdicts.iter().find_map(why)?;
        Some(self.held(error, rows, verdicts, cause))
    }

    /// A side refuses what it was to hold: the keys are in quarantine, or stay there, and what an operator had decided of
    /// them is taken back. Their locks are given back, and the registry keeps appliers away until it is on record. Errors:
    /// the table's rows stop the bridge.
    pub(super) async fn refused(&mut self, keys: &BTreeSet<Place>, refusal: Refusal, cause: Cause) -> Result<()> {
        let shared = self.shared.clone();
        let decided = std::mem::take(&mut self.declines) || matches!(cause, Cause::Discard | Cause::Take(_));
        let refusal = match shared.quarantine.declined(keys) {
            Some(why) => refusal.declining(&why),
            None => refusal,
        };
        let new = keys.iter().any(|place| !shared.quarantine.holds(place));
        let stops = !refusal.error.code().is_for_a_person()
            && keys.first().is_some_and(|place| shared.on_error[place.0.index()] == OnError::Stop);
        if let Some(place) = keys.first().filter(|_| new && stops) {
            return Err(named(&shared, place, &refusal));
        }
        tracing::debug!(error = %refusal.error, "a settlement is refused");
        loop {
            match self.put(keys, &refusal, (cause, decided)).await {
                Ok(()) => {
                    self.tell_conflicts(&refusal, cause);
                    return Ok(());
                }
                Err(error) if error.code() == Code::Contention => {
                    tracing::debug!(%error, "tried again");
                    self.roll_back().await?;
                    shared.pause(CLOSE_WAIT).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `decided`: what an operator decided is taken back.
    async fn put(&mut self, keys: &BTreeSet<Place>, refusal: &Refusal, (cause, decided): (Cause, bool)) -> Result<()> {
        let shared = self.shared.clone();
        let headless = keys.iter().all(|place| shared.quarantine.head(place).is_none());
        let new: BTreeSet<Place> =
            keys.iter().filter(|place| headless || !shared.quarantine.holds(place)).cloned().collect();
        shared.quarantine.room_for(&new.iter().filter(|place| !shared.quarantine.holds(place)).cloned().collect())?;
        let entries: Vec<Stored> = new.iter().map(|place| self.settlement(place, refusal)).collect();
        // One that waits already, and that another one's conflict brought in, was not tried for its own sake.
        let is_attempt = matches!(cause, Cause::Retry | Cause::Discard | Cause::Take(_));
        self.open().await?;
        for side in Side::BOTH {
            let counts = |place: &&Place| is_attempt && shared.quarantine.has_entries(side, place);
            let tried: Vec<&Place> = keys.iter().filter(counts).collect();
            let store = side == refusal.side && !entries.is_empty();
            if tried.is_empty() && !store {
                continue;
            }
            let session = self.session(side)?;
            session.begin(Some(&Tag::ALONE)).await?;
            for place in tried {
                let head = shared.quarantine.head(place);
                let attempts = head.map_or(1, |(_, _, attempts)| attempts) + 1;
                let head = head.filter(|(at, ..)| *at == side).map(|(_, id, _)| id);
                let error = named(&shared, place, refusal);
                let due_in = quarantine::pause(error.code(), attempts);
                let tried = Tried { head, attempts, refusal: error, due_in, decided };
                session.tried(place.0, &place.1, &tried).await?;
            }
            if store {
                session.store(&entries).await?;
            }
            session.commit().await.map_err(outcome_unknown)?;
        }
        if is_attempt {
            shared.quarantine.tried(keys, refusal.error.code());
        }
        shared.quarantine.stored(refusal.side, &entries);
        shared.quarantine.refused_together(keys);
        shared.quarantined(refusal.side, &entries);
        Ok(())
    }

    /// The conflicts that wait in quarantine from now on. A row that was refused as it came is none, until the other side
    /// writes it too.
    fn tell_conflicts(&self, refusal: &Refusal, cause: Cause) {
        let Some(source) = self.met(refusal.met.iter().map(|(place, ..)| place), cause) else { return };
        for (place, kinds, contended) in &refusal.met {
            let is_conflict = *contended || matches!(cause, Cause::Conflict(_));
            if is_conflict && self.shared.quarantine.count(place) {
                let table = self.shared.label(place.0);
                self.shared.observe(&EngineEvent::ConflictHeld { source, table, kind: kinds[source] });
            }
        }
    }

    fn settlement(&self, place: &Place, refusal: &Refusal) -> Stored {
        let net = refusal.nets.get(place);
        Stored {
            id: self.shared.quarantine.next_id(),
            table: place.0,
            key: place.1.clone(),
            what: What::Settlement {
                before: net.and_then(|net| net.before.clone()),
                after: net.and_then(|net| net.after.clone()),
            },
            position: None,
            transaction: None,
            commit_time: 0,
            refusal: Some(named(&self.shared, place, refusal)),
            due_in: quarantine::pause(refusal.error.code(), 1),
        }
    }
}

/// The error with the key before it.
fn named(shared: &Shared, place: &Place, refusal: &Refusal) -> Error {
    let key = format!("{} key ({})", shared.label(place.0), place.1);
    let error = refusal.error.clone();
    if error.message().contains(&key) {
        return error;
    }
    error.at(format!("{key} at {}", refusal.at))
}
