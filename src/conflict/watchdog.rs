//! The watchdog: rows that go round, told from rows that are merely hot.
//!
//! What goes round is written by nobody's wish: the bridge brings a write, something on the other side answers it (a job
//! that rewrites what arrives, a trigger, a second replication), the bridge brings the answer, and something here
//! answers that. No write is wrong, none conflicts, and it never ends. The key of such a row goes into quarantine, where
//! its changes wait for a person and everything else goes on. Two things are looked for.
//!
//! **Answers in turn.** One side writes the row, then the other, then the first again, [`TURNS`] times in a row; each
//! turn is of at most [`TURN_WRITES_MAX`] runs, and begins within [`ANSWER_MAX`] of the last write that crossed. That each
//! write was made on top of the other side's last is not asked here: one that was not would have been a conflict, and a
//! conflict of both sides' writes ends the chain. What tells this from a hot row:
//!
//! * One side alone, however fast, never has an answer.
//! * Two sides that write at will take turns by chance. Where both write equally often, which is the worst case, a turn
//!   is of one or two runs in three out of four, so that a chain of [`TURNS`] has a chance of (3/4)^200, which is
//!   10^-25: not in the years of any row.
//! * Two clocks that tick alike (both sides touch the row every second) do take turns for ever. Nothing in what has
//!   happened tells them from a loop; only what happens next. A loop ends when nothing crosses, clocks do not. So
//!   quarantine is the test: where the other side writes the row all the same, it is let go by itself within a second
//!   or two, both writes settled as any conflict, and the key is given twice as many turns from then on.
//! * Two programs that talk to each other through one row, each waiting for the other's word, are a loop in every
//!   respect. They are stopped after [`TURNS`] words that were no more than [`ANSWER_MAX`] apart.
//!
//! **Settled in vain.** A settlement leaves the same row on both sides. Where the next write of one side finds another row
//! on the other side again, and no write in that side's log says why, something changed the row in our own transaction:
//! a trigger that rewrites what the bridge writes. Of a drift that came from elsewhere that is met once for a key;
//! here it is met at every write, [`SETTLED_MAX`] times within [`SETTLED_WITHIN`]. What was settled beside a conflict since
//! it came in one run with it does not count: its writes were made on top of what the other side has.
//!
//! False alarms are worse than late ones: a loop that is missed today is found tomorrow, as it does not end. So whatever
//! is unclear counts for the row: a chain that a restart, a conflict or a pause of the bridge has cut begins anew,
//! and memory is fixed ([`TRACKS`]). A key is known by a hash of 64 bits, keyed anew in each session.
//!
//! Not seen is what comes back on the side where it began (another tool that copies from B to A what this
//! bridge brings from A to B): such writes are all of A, as those of any application. What the servers tell of it is
//! looked at before the start ([`crate::rings`]).

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pontoon_core::{Code, Error};
use tokio::time::Instant;

use crate::{direction::plan::Place, side::Side};

/// Turns in a row that make a suspicion: for a loop of twenty crossings a second ten seconds. See the head for how rarely
/// chance comes to it.
pub(crate) const TURNS: u32 = 200;

/// Runs of one side within a turn. A job may answer in two transactions; with more, what goes round would not be told from
/// chance.
const TURN_WRITES_MAX: u32 = 2;

/// The longest time from a write that crossed to the answer. A job that looks every second is within it; what takes
/// longer burdens nobody, and clocks of more than twice this never come to a chain.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Settlements in vain of one key, and within which time. A person who repairs rows by hand, or a drift that was there before
/// the bridge, comes to one or two.
pub(crate) const SETTLED_MAX: u32 = 20;
const SETTLED_WITHIN: Duration = Duration::from_secs(600);

/// Keys that are watched at a time, of about a hundred bytes each. More keys than these that go round are found one lot after
/// the other, as those that are in quarantine make room.
const TRACKS: usize = 4_096;

/// Places that a key may have among them: with one alone, two busy keys could keep each other out for ever.
const WAYS: usize = 4;

/// Keys of one run that are noted. A run of more is a batch, of which the rest is noted when it comes again.
const RUN_KEYS_MAX: usize = 10_000;

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
struct Track {
    key: u64,
    /// When it was last written.
    at: Instant,
    /// Who has the turn, since how many runs, and the number of the turn.
    side: Option<Side>,
    writes: u32,
    turns: u32,
    /// Turns that make a suspicion.
    turns_max: u32,
    /// Settlements in vain, and since when.
    settled: u32,
    since: Instant,
}

impl Track {
    fn new(key: u64, now: Instant) -> Track {
        Track { key, at: now, side: None, writes: 0, turns: 0, turns_max: TURNS, settled: 0, since: now }
    }

    /// It tells nothing any more, and may give room to another.
    fn is_idle(&self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.at);
        let is_kept = self.settled > 0 || self.turns_max > TURNS;
        idle > if is_kept { SETTLED_WITHIN } else { ANSWER_MAX }
    }

    fn is_answered(&self) -> bool {
        self.turns > 1 || self.settled > 0 || self.turns_max > TURNS
    }

    fn crossed(&mut self, source: Side, now: Instant) {
        let is_late = now.saturating_duration_since(self.at) > ANSWER_MAX;
        self.at = now;
        if self.side != Some(source) {
            self.turns = if is_late { 1 } else { self.turns.saturating_add(1) };
            (self.side, self.writes) = (Some(source), 1);
            return;
        }
        self.writes = if is_late { 1 } else { self.writes.saturating_add(1) };
        if is_late || self.writes > TURN_WRITES_MAX {
            self.turns = 1;
        }
    }

    fn goes_round(&self, now: Instant) -> bool {
        self.turns >= self.turns_max && now.saturating_duration_since(self.at) <= ANSWER_MAX
    }

    fn settled_in_vain(&mut self, now: Instant) {
        if self.settled == 0 || now.saturating_duration_since(self.since) > SETTLED_WITHIN {
            (self.settled, self.since) = (0, now);
        }
        self.settled += 1;
        self.at = now;
    }
}

/// What is known of keys: a table of fixed size.
struct Tracks {
    tracks: Vec<Option<Track>>,
    /// When a key last came to so many turns: before and long after it nothing goes round.
    alarm: Option<Instant>,
}

impl Tracks {
    fn new(tracks: usize) -> Tracks {
        Tracks { tracks: vec![None; tracks.next_multiple_of(WAYS)], alarm: None }
    }

    /// The places that a key may have.
    fn ways(&mut self, key: u64) -> &mut [Option<Track>] {
        let sets = self.tracks.len() / WAYS;
        let set = usize::try_from(key % sets as u64).unwrap_or(0);
        &mut self.tracks[set * WAYS..(set + 1) * WAYS]
    }

    fn find(&mut self, key: u64) -> Option<&mut Track> {
        self.ways(key).iter_mut().flatten().find(|track| track.key == key)
    }

    /// The key's track; a new one where there is room or one that says less.
    fn track(&mut self, key: u64, now: Instant) -> Option<&mut Track> {
        let ways = self.ways(key);
        let known = ways.iter().position(|track| track.is_some_and(|track| track.key == key));
        let free = || ways.iter().position(|track| track.is_none_or(|track| track.is_idle(now)));
        // Of keys that were written once the oldest gives way: of a key that goes round some write will be answered first.
        let least = || {
            let unanswered = ways.iter().enumerate().filter_map(|(at, track)| Some((at, (*track)?)));
            unanswered.filter(|(_, track)| !track.is_answered()).min_by_key(|(_, track)| track.at).map(|(at, _)| at)
        };
        let at = known.or_else(free).or_else(least)?;
        let place = ways.get_mut(at)?;
        if known.is_none() {
            *place = Some(Track::new(key, now));
        }
        place.as_mut()
    }

    fn crossed(&mut self, source: Side, key: u64, now: Instant) {
        let Some(track) = self.track(key, now) else { return };
        track.crossed(source, now);
        if track.goes_round(now) {
            self.alarm = Some(now);
        }
    }

    /// No key has come to so many turns of late.
    fn is_quiet(&self, now: Instant) -> bool {
        self.alarm.is_none_or(|alarm| now.saturating_duration_since(alarm) > ANSWER_MAX)
    }

    fn goes_round(&mut self, key: u64, now: Instant) -> bool {
        !self.is_quiet(now) && self.find(key).is_some_and(|track| track.goes_round(now))
    }

    fn is_settled_in_vain(&mut self, key: u64, now: Instant) -> bool {
        let recent = |track: &Track| now.saturating_duration_since(track.since) <= SETTLED_WITHIN;
        self.find(key).is_some_and(|track| track.settled >= SETTLED_MAX && recent(track))
    }
}

/// Watches the keys of one session.
pub(crate) struct Watchdog {
    tracks: Mutex<Tracks>,
    hasher: RandomState,
}

impl Watchdog {
    pub(crate) fn new() -> Self {
        Watchdog { tracks: Mutex::new(Tracks::new(TRACKS)), hasher: RandomState::new() }
    }

    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, place: &Place) -> u64 {
        self.hasher.hash_one(place)
    }

    /// Notes keys that a run writes, until it is known to be committed.
    pub(crate) fn note<'a>(&self, noted: &mut Vec<u64>, places: impl Iterator<Item = &'a Place>) {
        let room = RUN_KEYS_MAX.saturating_sub(noted.len());
        noted.extend(places.take(room).map(|place| self.key(place)));
    }

    /// Writes of these keys have crossed from this side to the other.
    pub(crate) fn crossed(&self, source: Side, noted: &[u64]) {
        let (mut tracks, now) = (self.tracks(), Instant::now());
        for key in noted {
            tracks.crossed(source, *key, now);
        }
    }

    /// No key is suspected of going round.
    pub(crate) fn is_quiet(&self) -> bool {
        self.tracks().is_quiet(Instant::now())
    }

    /// Why the next change of a key is not to cross; `None` where nothing is wrong with it.
    pub(crate) fn goes_round(&self, place: &Place) -> Option<Error> {
        let now = Instant::now();
        // Asked of every change, and almost always quiet: then no key is hashed.
        let mut tracks = self.tracks();
        if tracks.is_quiet(now) || !tracks.goes_round(self.key(place), now) {
            return None;
        }
        let what = format!(
            "both sides have answered each other's writes of it {TURNS} times in a row, each within {} seconds",
            ANSWER_MAX.as_secs()
        );
        Some(suspected(what))
    }

    /// A settlement of a key was needed that no write on the side that it changed explains.
    pub(crate) fn settled_in_vain(&self, place: &Place) {
        let (key, now) = (self.key(place), Instant::now());
        if let Some(track) = self.tracks().track(key, now) {
            track.settled_in_vain(now);
        }
    }

    /// Why another one of the kind would be in vain too.
    pub(crate) fn is_settled_in_vain(&self, place: &Place) -> Option<Error> {
        if !self.tracks().is_settled_in_vain(self.key(place), Instant::now()) {
            return None;
        }
        let what = format!(
            "it was settled {SETTLED_MAX} times within {} minutes and was different again each time, without a write that explains it",
            SETTLED_WITHIN.as_secs() / 60
        );
        Some(suspected(what))
    }

    /// Both sides wrote a key without seeing each other: these are no answers.
    pub(crate) fn met(&self, place: &Place) {
        let key = self.key(place);
        if let Some(track) = self.tracks().find(key) {
            (track.turns, track.side) = (0, None);
        }
    }

    /// A key that was suspected is written by both sides at will: it is given more turns.
    pub(crate) fn is_innocent(&self, place: &Place) {
        let (key, now) = (self.key(place), Instant::now());
        if let Some(track) = self.tracks().track(key, now) {
            let turns_max = track.turns_max.saturating_mul(2);
            *track = Track { turns_max, ..Track::new(key, now) };
        }
    }

    /// A person has decided about a key: it begins anew.
    pub(crate) fn forget(&self, place: &Place) {
        let key = self.key(place);
        for way in self.tracks().ways(key) {
            way.take_if(|track| track.key == key);
        }
    }
}

/// Why a key that is in quarantine stays there.
pub(super) fn still_suspected() -> Error {
    suspected("since it was stopped one side alone has written it, as where rows go round".to_owned())
}

fn suspected(what: String) -> Error {
    Error::new(Code::LoopSuspected, what).hint(
        "find what rewrites the row that the bridge brings (a trigger, a job, another replication) and stop it; \
         then pontoon quarantine retry ID goes on, with --take NODE that node's row stands",
    )
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use pontoon_core::{Key, TableId, Value};
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    fn place(n: i128) -> Place {
        (TableId(0), Key(vec![Value::Integer(n)]))
    }

    async fn after(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    /// A run of one key crosses.
    fn cross(watchdog: &Watchdog, source: Side, key: i128) {
        let mut noted = Vec::new();
        watchdog.note(&mut noted, [place(key)].iter());
        watchdog.crossed(source, &noted);
    }

    /// These turns, each of so many runs, so far apart.
    async fn turns(watchdog: &Watchdog, numbers: Range<u32>, runs: u32, millis: u64) {
        for turn in numbers {
            for _ in 0..runs {
                after(millis).await;
                cross(watchdog, if turn % 2 == 0 { Side::A } else { Side::B }, 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_in_turn_are_a_suspicion_and_of_no_other_key() {
        for (runs, millis) in [(1, 5), (1, 1_900), (2, 900)] {
            let watchdog = Watchdog::new();
            turns(&watchdog, 0..TURNS - 1, runs, millis).await;
            assert!(watchdog.goes_round(&place(1)).is_none());
            turns(&watchdog, TURNS - 1..TURNS, runs, millis).await;
            let error = watchdog.goes_round(&place(1)).unwrap();
            assert_eq!(error.code(), Code::LoopSuspected);
            assert!(error.remedy().unwrap().contains("retry ID"));
            assert!(watchdog.goes_round(&place(2)).is_none());
            // What has ended by itself is over.
            after(2_100).await;
            assert!(watchdog.goes_round(&place(1)).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn late_answers_long_turns_and_conflicts_begin_anew() {
        let watchdog = Watchdog::new();
        turns(&watchdog, 0..TURNS * 2, 1, 2_100).await;
        assert!(watchdog.goes_round(&place(1)).is_none());
        turns(&watchdog, 0..TURNS * 2, 3, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_none());
        for _ in 0..10 {
            turns(&watchdog, 0..TURNS - 1, 1, 1).await;
            watchdog.met(&place(1));
        }
        turns(&watchdog, 0..TURNS - 1, 1, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn hot_rows_are_no_loops() {
        // One side, a thousand times a second for a minute; then both at will for an hour, at several rates.
        let watchdog = Watchdog::new();
        for _ in 0..60_000 {
            after(1).await;
            cross(&watchdog, Side::A, 1);
            assert!(watchdog.goes_round(&place(1)).is_none());
        }
        let mut dice = SmallRng::seed_from_u64(7);
        for (of_a, pause) in [(0.5, 5), (0.5, 300), (0.4, 20), (0.1, 20)] {
            for _ in 0..3_600_000 / pause.max(20) {
                after(dice.random_range(0..2 * pause)).await;
                cross(&watchdog, if dice.random_bool(of_a) { Side::A } else { Side::B }, 1);
                assert!(watchdog.goes_round(&place(1)).is_none(), "{of_a} {pause}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_innocent_is_given_more_turns_and_who_is_forgotten_begins_anew() {
        let watchdog = Watchdog::new();
        turns(&watchdog, 0..TURNS, 1, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_some());
        watchdog.is_innocent(&place(1));
        turns(&watchdog, 0..2 * TURNS - 1, 1, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_none());
        turns(&watchdog, 2 * TURNS - 1..2 * TURNS, 1, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_some());
        watchdog.forget(&place(1));
        turns(&watchdog, 0..TURNS - 1, 1, 1).await;
        assert!(watchdog.goes_round(&place(1)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_in_vain_again_and_again_is_a_suspicion() {
        let watchdog = Watchdog::new();
        for n in 0..SETTLED_MAX {
            assert!(watchdog.is_settled_in_vain(&place(1)).is_none(), "{n}");
            watchdog.settled_in_vain(&place(1));
            after(1_000).await;
        }
        assert_eq!(watchdog.is_settled_in_vain(&place(1)).unwrap().code(), Code::LoopSuspected);
        assert!(watchdog.is_settled_in_vain(&place(2)).is_none());
        watchdog.forget(&place(1));
        for _ in 0..3 * SETTLED_MAX {
            assert!(watchdog.is_settled_in_vain(&place(1)).is_none());
            watchdog.settled_in_vain(&place(1));
            after(60_000).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_found_among_many_busy_keys_in_fixed_memory() {
        let watchdog = Watchdog::new();
        let mut dice = SmallRng::seed_from_u64(7);
        // Between a write and its answer come the writes of half as many other keys as there is room for.
        let mut turn = 0;
        while watchdog.goes_round(&place(1)).is_none() {
            after(100).await;
            cross(&watchdog, if turn % 2 == 0 { Side::A } else { Side::B }, 1);
            for _ in 0..TRACKS / 2 {
                cross(&watchdog, Side::A, dice.random_range(2..1_000_000));
            }
            turn += 1;
            assert!(turn < 2 * TURNS, "not found");
        }
        assert_eq!(watchdog.tracks().tracks.len(), TRACKS);
        let mut noted = Vec::new();
        let many: Vec<Place> = (0..2 * RUN_KEYS_MAX as i128).map(place).collect();
        watchdog.note(&mut noted, many.iter());
        watchdog.note(&mut noted, many.iter());
        assert_eq!(noted.len(), RUN_KEYS_MAX);
    }
}
