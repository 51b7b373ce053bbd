//! The keys in quarantine, as both databases hold them: read at the start of a session, kept in step with every
//! commit. Only keys are here; what is stored of them is in the databases.
//!
//! Why nothing of such a key is lost, applied twice or out of order:
//!
//! * A change that the target refuses is stored there, in the transaction that moves the checkpoint past it (rule
//!   `Quarantine`); from then on so is every later change of the key, of either side, on the node that would have
//!   been its target (rule `Hold`). So at any time a change is behind the checkpoint and stored, or before it and in
//!   the log; never both, never neither.
//! * A key becomes held when the commit that stored its entry is known, while the applier that did so still has it in
//!   hand. The other direction may have it in hand too and apply a change that it began with before: that is a write
//!   conditional on its before image like any other, and its echo tells what it superseded.
//! * Only a rendezvous ends it. It has the key to itself (the registry), counts what is stored as pending (rule
//!   `Stored`), and removes the entries of each node in the transaction that writes verdict and record there (rule
//!   `Release`). What a crash leaves between the two commits is half done and, where B still has entries, held as well:
//!   the record on A covers them, and the completion removes them.
//! * A row that moved from key to key ties the two: they are stored, tried and settled as one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use pontoon_core::{Code, Error, Result, quarantine::Stored, quarantine::What, state::NodeState};
use tokio::{sync::Notify, time::Instant};

use crate::{
    direction::plan::Place,
    side::{Pair, Side},
};

/// Keys that are held at the most. Each takes a few hundred bytes; and where so many rows are refused it is not the
/// rows.
pub const KEYS_MAX: usize = 50_000;

/// The first and the longest time between two attempts. An obstacle is often gone after a moment (a parent row, a
/// constraint under repair); an operator who has removed one is not to wait longer than for a coffee, and can ask for an
/// attempt at once. An attempt costs a rendezvous, and so many keys may have to be tried in that time.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Between two attempts of a key of which a person is to decide. A write that makes the two rows equal is tried at once,
/// and after a crash in that moment within [`RETRY`]'s longest, so that this finds nothing but for faults of ours.
const RETRY_HELD: Duration = Duration::from_secs(6 * 3_600);

/// Between two attempts that writes of the key ask for: a hot row that stays bad must not keep the rendezvous busy.
const RETRY_GAP: Duration = Duration::from_secs(1);

/// What becomes of a row that the target refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Its key goes into quarantine, everything else goes on.
    Quarantine,
    /// The bridge stops before its transaction.
    Stop,
}

/// What is known of a key.
#[derive(Debug, Clone)]
struct Held {
    /// The entry at which attempts are counted: the first that its node refused.
    head: Option<(Side, i64)>,
    /// The nodes that have entries of it.
    entries: Pair<bool>,
    /// The nodes that have stored changes of it.
    changes: Pair<bool>,
    ties: BTreeSet<Place>,
    /// Keys that were refused together with it, the last time: when one of them is settled, it may be as well. Forgotten
    /// with the process, when it waits for its next attempt.
    beside: BTreeSet<Place>,
    attempts: u32,
    due: Instant,
    tried: Option<Instant>,
    since: Instant,
    /// It is a conflict, and was counted as one.
    counted: bool,
    /// Why the last that an operator decided of it was not done.
    declined: Option<String>,
    /// It seems to go round: see [`super::watchdog`].
    suspected: bool,
}

/// The keys in quarantine of one bridge.
pub(crate) struct Quarantine {
    keys: Mutex<BTreeMap<Place, Held>>,
    keys_max: usize,
    /// Grows with each change of which keys are held.
    version: AtomicU64,
    next_id: AtomicI64,
    /// Woken when a key may be due earlier than thought.
    woken: Notify,
}

/// How long after its `attempts`th attempt a key is tried again.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let doubled = 2u32.checked_pow(attempts.saturating_sub(1)).and_then(|factor| RETRY.0.checked_mul(factor));
    doubled.map_or(RETRY.1, |pause| pause.min(RETRY.1))
}

/// The same, by why it was not settled.
pub(crate) fn pause(code: Code, attempts: u32) -> Duration {
    if code.is_for_a_person() { RETRY_HELD } else { backoff(attempts) }
}

impl Quarantine {
    /// From what the two nodes hold. Errors: too many.
    pub(crate) fn new(states: &Pair<NodeState>, keys_max: usize) -> Result<Self> {
        let now = Instant::now();
        let mut keys: BTreeMap<Place, Held> = BTreeMap::new();
        for side in Side::BOTH {
            for found in &states[side].quarantine {
                let place = (found.table, found.key.clone());
                // What was stored of it since it was tried may be its mend, and who knew of that is gone: so a key that
                // waits for a person is looked at again as well.
                let due = now + found.due_in.min(RETRY.1);
                let since = now.checked_sub(found.age).unwrap_or(now);
                let held = keys.entry(place).or_insert_with(|| Held::new(due, since));
                held.entries[side] = true;
                held.changes[side] = found.has_changes;
                held.suspected |= found.suspected;
                held.since = held.since.min(since);
                held.ties.extend(found.ties.iter().map(|key| (found.table, key.clone())));
                if let Some(id) = found.head
                    && held.head.is_none_or(|(_, first)| id < first)
                {
                    (held.head, held.attempts, held.due) = (Some((side, id)), found.attempts, due);
                }
            }
        }
        let next_id = 1 + states.iter().map(|state| state.highest_id).max().unwrap_or(0);
        let quarantine = Quarantine {
            keys: Mutex::new(keys),
            keys_max,
            version: AtomicU64::new(0),
            next_id: AtomicI64::new(next_id),
            woken: Notify::new(),
        };
        quarantine.room_for(&BTreeSet::new())?;
        Ok(quarantine)
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<Place, Held>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key is held.
    pub(crate) fn holds(&self, place: &Place) -> bool {
        self.keys().contains_key(place)
    }

    /// What [`Quarantine::holds`] said is still so where the number is.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether none is.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }

    /// Whether more keys can be held. Errors: no.
    pub(crate) fn room_for(&self, more: &BTreeSet<Place>) -> Result<()> {
        let count = self.keys().len() + more.len();
        if count <= self.keys_max {
            return Ok(());
        }
        let message = format!("{count} keys would be in quarantine, more than {}", self.keys_max);
        Err(Error::new(Code::QuarantineFull, message)
            .hint("pontoon quarantine list shows the reasons; mend what they have in common, and start it again"))
    }

    /// The id of the next entry.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The id of the next record: no entry has it, nor will.
    pub(crate) fn id_above(&self, highest: i64) -> i64 {
        self.next_id.fetch_max(highest.saturating_add(1), Ordering::Relaxed);
        self.next_id()
    }

    /// A side has stored changes of the key.
    pub(crate) fn has_changes(&self, side: Side, place: &Place) -> bool {
        self.keys().get(place).is_some_and(|held| held.changes[side])
    }

    /// A side has entries of the key.
    pub(crate) fn has_entries(&self, side: Side, place: &Place) -> bool {
        self.keys().get(place).is_some_and(|held| held.entries[side])
    }

    /// The entry at which the key's attempts are counted, and how many there have been.
    pub(crate) fn head(&self, place: &Place) -> Option<(Side, i64, u32)> {
        let keys = self.keys();
        let held = keys.get(place)?;
        held.head.map(|(side, id)| (side, id, held.attempts))
    }

    /// Whether an entry is the one at which attempts of its key are counted.
    pub(crate) fn is_head(&self, id: i64) -> bool {
        self.keys().values().any(|held| held.head.is_some_and(|(_, head)| head == id))
    }

    /// These keys and all that are tied to them; and the ties between them.
    pub(crate) fn tied(&self, keys: &BTreeSet<Place>) -> (BTreeSet<Place>, Vec<(Place, Place)>) {
        let held = self.keys();
        let (mut found, mut ties) = (keys.clone(), Vec::new());
        let mut open: Vec<Place> = keys.iter().cloned().collect();
        while let Some(place) = open.pop() {
            for other in held.get(&place).into_iter().flat_map(|held| &held.ties) {
                ties.push((place.clone(), other.clone()));
                if found.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
        (found, ties)
    }

    /// Entries of a side are committed. What is written of a key that is held already may be its mend: it is due.
    pub(crate) fn stored(&self, side: Side, entries: &[Stored]) {
        let now = Instant::now();
        let mut keys = self.keys();
        self.version.fetch_add(1, Ordering::AcqRel);
        for entry in entries {
            let place = (entry.table, entry.key.clone());
            let known = keys.get(&place).is_some_and(|held| held.head.is_some());
            let held = keys.entry(place.clone()).or_insert_with(|| Held::new(now + entry.due_in, now));
            held.entries[side] = true;
            held.changes[side] |= entry.position.is_some();
            if let (Some(refusal), None) = (&entry.refusal, held.head) {
                held.suspected = refusal.code() == Code::LoopSuspected;
                (held.head, held.attempts, held.due) = (Some((side, entry.id)), 1, now + entry.due_in);
                held.tried = Some(now);
            }
            if known && matches!(entry.what, What::Change { .. }) {
                held.due = held.due.min(held.tried.map_or(now, |tried| now.max(tried + RETRY_GAP)));
            }
            if let What::Change { moved: Some(other), .. } = &entry.what {
                let other = (entry.table, other.clone());
                held.ties.insert(other.clone());
                keys.entry(other).or_insert_with(|| Held::new(now + entry.due_in, now)).ties.insert(place);
            }
        }
        drop(keys);
        self.woken.notify_one();
    }

    /// The key that has been due for the longest, of those that are.
    pub(crate) fn due(&self) -> Option<Place> {
        let now = Instant::now();
        let keys = self.keys();
        let due = keys.iter().filter(|(_, held)| held.due <= now).min_by_key(|(_, held)| held.due);
        due.map(|(place, _)| place.clone())
    }

    /// Waits until a key is due.
    pub(crate) async fn wait_for_due(&self) {
        loop {
            let woken = self.woken.notified();
            let next = self.keys().values().map(|held| held.due).min();
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => return,
                        () = woken => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    /// Something stood in the way of an attempt that has nothing to do with the rows.
    pub(crate) fn postpone(&self, places: &BTreeSet<Place>) {
        let now = Instant::now();
        let mut keys = self.keys();
        for place in places {
            if let Some(held) = keys.get_mut(place) {
                held.due = now + RETRY.0;
            }
        }
    }

    /// Keys were tried and refused again, as this says.
    pub(crate) fn tried(&self, places: &BTreeSet<Place>, code: Code) {
        let now = Instant::now();
        let mut keys = self.keys();
        let attempts =
            1 + places.iter().filter_map(|place| keys.get(place)).map(|held| held.attempts).max().unwrap_or(0);
        for place in places {
            if let Some(held) = keys.get_mut(place) {
                (held.attempts, held.tried, held.due) = (attempts, Some(now), now + pause(code, attempts));
                held.suspected = code == Code::LoopSuspected;
            }
        }
    }

    /// Keys were refused together.
    pub(crate) fn refused_together(&self, places: &BTreeSet<Place>) {
        let mut keys = self.keys();
        for place in places {
            if let Some(held) = keys.get_mut(place) {
                held.beside = places.iter().filter(|other| *other != place).cloned().collect();
            }
        }
    }

    /// A conflict over the key is to be counted. `false`: it is not held, or was counted before.
    pub(crate) fn count(&self, place: &Place) -> bool {
        self.keys().get_mut(place).is_some_and(|held| !std::mem::replace(&mut held.counted, true))
    }

    /// A conflict over the key was counted when it was put here.
    pub(crate) fn is_counted(&self, place: &Place) -> bool {
        self.keys().get(place).is_some_and(|held| held.counted)
    }

    /// Notes why what an operator decided of a key is not done; `None` where they decide anew.
    pub(crate) fn decline(&self, place: &Place, why: Option<String>) {
        if let Some(held) = self.keys().get_mut(place) {
            held.declined = why;
        }
    }

    /// A key seems to go round, and nobody has let it go on.
    pub(crate) fn is_suspected(&self, place: &Place) -> bool {
        self.keys().get(place).is_some_and(|held| held.suspected)
    }

    /// An operator has a key go on that seems to go round.
    pub(crate) fn let_go(&self, place: &Place) {
        if let Some(held) = self.keys().get_mut(place) {
            held.suspected = false;
        }
    }

    /// Why what an operator decided last of one of these keys was not done.
    pub(crate) fn declined(&self, places: &BTreeSet<Place>) -> Option<String> {
        let keys = self.keys();
        places.iter().find_map(|place| keys.get(place)?.declined.clone())
    }

    /// Keys are settled, and their entries gone from both nodes. What was refused with them is due.
    pub(crate) fn ended(&self, places: &BTreeSet<Place>) {
        let now = Instant::now();
        let mut keys = self.keys();
        self.version.fetch_add(1, Ordering::AcqRel);
        let ended: Vec<Held> = places.iter().filter_map(|place| keys.remove(place)).collect();
        for place in ended.iter().flat_map(|held| &held.beside) {
            if let Some(held) = keys.get_mut(place) {
                held.due = held.due.min(held.tried.map_or(now, |tried| now.max(tried + RETRY_GAP)));
            }
        }
        drop(keys);
        self.woken.notify_one();
    }

    /// Keys that each side refuses, and for how long the oldest is held.
    pub(crate) fn counts(&self) -> (Pair<usize>, Option<Duration>) {
        let keys = self.keys();
        let refused = |side: Side| keys.values().filter(|held| held.head.is_some_and(|(by, _)| by == side)).count();
        let oldest = keys.values().map(|held| held.since).min().map(|since| since.elapsed());
        (Pair::from_fn(refused), oldest)
    }
}

impl Held {
    fn new(due: Instant, since: Instant) -> Held {
        Held {
            head: None,
            entries: Pair::default(),
            changes: Pair::default(),
            ties: BTreeSet::new(),
            beside: BTreeSet::new(),
            attempts: 0,
            due,
            tried: None,
            since,
            counted: false,
            declined: None,
            suspected: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use pontoon_core::{Key, Position, TableId, Value, quarantine::QuarantinedKey};

    use super::*;

    fn key(n: i128) -> Key {
        Key(vec![Value::Integer(n)])
    }

    fn place(n: i128) -> Place {
        (TableId(0), key(n))
    }

    fn entry(id: i64, of: i128, moved: Option<i128>, refused: bool) -> Stored {
        Stored {
            id,
            table: TableId(0),
            key: key(of),
            what: What::Change { before: None, after: None, moved: moved.map(key) },
            position: Some(Position::Index(1)),
            transaction: None,
            commit_time: 0,
            refusal: refused.then(|| Error::new(Code::RowRefused, "no")),
            due_in: backoff(1),
        }
    }

    fn empty(keys_max: usize) -> Quarantine {
        Quarantine::new(&Pair::default(), keys_max).unwrap()
    }

    #[test]
    fn attempts_come_less_and_less_often_and_never_stop() {
        assert_eq!(backoff(1), RETRY.0);
        assert_eq!(backoff(2), RETRY.0 * 2);
        assert_eq!(backoff(40), RETRY.1);
        assert_eq!(backoff(u32::MAX), RETRY.1);
        assert_eq!((pause(Code::RowRefused, 1), pause(Code::ConflictHeld, 1)), (RETRY.0, RETRY_HELD));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_session_looks_at_what_waits_for_a_person_before_long() {
        let found = QuarantinedKey {
            table: TableId(0),
            key: key(1),
            head: Some(1),
            has_changes: true,
            suspected: false,
            ties: Vec::new(),
            attempts: 1,
            due_in: RETRY_HELD,
            age: Duration::ZERO,
        };
        let state = NodeState { quarantine: vec![found], ..NodeState::default() };
        let quarantine = Quarantine::new(&Pair::new(state, NodeState::default()), 9).unwrap();
        tokio::time::advance(RETRY.1).await;
        assert_eq!(quarantine.due(), Some(place(1)));
    }

    #[test]
    fn more_than_the_maximum_is_refused() {
        let quarantine = empty(2);
        quarantine.stored(Side::A, &[entry(1, 1, None, true), entry(2, 2, None, true)]);
        assert!(quarantine.room_for(&BTreeSet::new()).is_ok());
        assert_eq!(quarantine.room_for(&BTreeSet::from([place(3)])).unwrap_err().code(), Code::QuarantineFull);
        assert_eq!(quarantine.counts().0, Pair::new(2, 0));
    }

    #[test]
    fn entries_and_records_have_numbers_of_one_row() {
        let quarantine = empty(1);
        let numbers = [quarantine.next_id(), quarantine.id_above(7), quarantine.next_id(), quarantine.id_above(1)];
        assert_eq!(numbers, [1, 8, 9, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_a_held_key_makes_it_due_but_not_without_end() {
        let quarantine = empty(9);
        quarantine.stored(Side::B, &[entry(1, 1, None, true)]);
        assert_eq!(quarantine.due(), None);
        tokio::time::advance(RETRY_GAP).await;
        quarantine.stored(Side::B, &[entry(2, 1, None, false)]);
        assert_eq!(quarantine.due(), Some(place(1)));
        quarantine.tried(&BTreeSet::from([place(1)]), Code::RowRefused);
        assert_eq!(quarantine.due(), None);
        quarantine.stored(Side::A, &[entry(3, 1, None, false)]);
        assert_eq!(quarantine.due(), None);
        quarantine.wait_for_due().await;
        assert_eq!(quarantine.due(), Some(place(1)));
        assert_eq!(quarantine.head(&place(1)), Some((Side::B, 1, 2)));
        quarantine.ended(&BTreeSet::from([place(1)]));
        assert!(quarantine.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_together_is_due_when_one_is_settled() {
        let quarantine = empty(9);
        let both = BTreeSet::from([place(1), place(2)]);
        quarantine.stored(Side::B, &[entry(1, 1, None, true), entry(2, 2, None, true), entry(3, 3, None, true)]);
        quarantine.refused_together(&both);
        tokio::time::advance(RETRY_GAP).await;
        assert_eq!(quarantine.due(), None);
        quarantine.ended(&BTreeSet::from([place(1)]));
        assert_eq!(quarantine.due(), Some(place(2)));
        quarantine.ended(&BTreeSet::from([place(2)]));
        assert_eq!(quarantine.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_moved_ties_both_keys() {
        let quarantine = empty(9);
        quarantine
            .stored(Side::B, &[entry(1, 1, Some(2), true), entry(2, 2, Some(1), true), entry(3, 2, Some(3), false)]);
        let (tied, ties) = quarantine.tied(&BTreeSet::from([place(3)]));
        assert_eq!(tied, BTreeSet::from([place(1), place(2), place(3)]));
        assert!(ties.contains(&(place(2), place(1))));
        assert!(quarantine.holds(&place(3)) && !quarantine.has_entries(Side::B, &place(3)));
    }
}
