//! How fast rows are applied where an operator has set a limit: a token bucket that may be overdrawn.
//!
//! A transaction is never cut, so the bucket is not asked whether it holds enough for the next one, but whether anything is owed. What a
//! transaction takes beyond what is there is paid for by waiting before the one after it. So within any time `t` no more rows are applied
//! than the limit allows in `t` and in [`SAVED_MAX`], but for the last transaction.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

use super::apply::Direction;
use crate::event::EngineEvent;

/// For how long a direction saves up what it does not use: what comes in bursts and is below the limit in the mean is not held up.
const SAVED_MAX: Duration = Duration::from_secs(1);

/// Into how many runs a second of rows is divided, where transactions are small: more only cost the target commits, fewer
/// let it do nothing for most of a second and much at its end.
const RUNS_PER_SECOND: u64 = 10;

/// What is held back for less is not told: a burst that a limit spreads over a moment would change the state twice.
const TOLD_FROM: Duration = Duration::from_millis(500);

/// The longest wait that one transaction brings: of what would be longer nobody waits for the end, and a clock has one.
const OWED_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The bucket of one direction.
#[derive(Debug)]
pub(super) struct Throttle {
    rows_per_second: Option<NonZeroU64>,
    /// When all is paid for: before now, what is saved; after it, what is owed.
    paid: Instant,
}

impl Throttle {
    /// With as much in it as can be.
    pub(super) fn new(rows_per_second: Option<NonZeroU64>, now: Instant) -> Self {
        Throttle { rows_per_second, paid: saved(now) }
    }

    /// Under another limit nothing is owed of what was applied under the one before: whoever raises it does not wait for
    /// what was dear until then.
    pub(super) fn limit(&mut self, rows_per_second: Option<NonZeroU64>, now: Instant) {
        if self.rows_per_second != rows_per_second {
            *self = Throttle::new(rows_per_second, now);
        }
    }

    /// The limit.
    pub(super) fn rows_per_second(&self) -> Option<NonZeroU64> {
        self.rows_per_second
    }

    /// How long nothing more may be applied.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.rows_per_second.map_or(Duration::ZERO, |_| self.paid.saturating_duration_since(now))
    }

    /// Rows have been applied.
    pub(super) fn applied(&mut self, rows: usize, now: Instant) {
        let Some(rows_per_second) = self.rows_per_second else { return };
        let seconds = rows as f64 / rows_per_second.get() as f64;
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(OWED_MAX).min(OWED_MAX);
        self.paid = self.paid.max(saved(now)) + cost;
    }

    /// After how many rows no further transaction is put into a run.
    pub(super) fn rows_at_once(&self) -> usize {
        self.rows_per_second
            .map_or(usize::MAX, |rows| usize::try_from(rows.get() / RUNS_PER_SECOND).unwrap_or(usize::MAX).max(1))
    }
}

impl Direction {
    /// How long nothing more may be applied under the limit that counts now.
    pub(super) fn heed(&mut self, rows_per_second: Option<NonZeroU64>) -> Duration {
        let now = Instant::now();
        self.throttle.limit(rows_per_second, now);
        if rows_per_second.is_none() {
            self.hold_nothing_back();
        }
        self.throttle.wait(now)
    }

    /// Whether it is not to be as fast as can be: nothing is begun ahead then, nor left open on the target.
    pub(super) fn is_slowed(&self) -> bool {
        self.throttle.rows_per_second().is_some() || self.shared.held_back[self.source].get()
    }

    /// Says that the limit holds rows back, unless it is for a moment.
    pub(super) fn hold_back(&mut self, wait: Duration) {
        let since = *self.held_back.get_or_insert_with(Instant::now);
        if since.elapsed() + wait >= TOLD_FROM {
            let rows_per_second = self.throttle.rows_per_second();
            self.shared.observe(&EngineEvent::Throttled { source: self.source, rows_per_second });
        }
    }

    pub(super) fn hold_nothing_back(&mut self) {
        if self.held_back.take().is_some() {
            self.shared.observe(&EngineEvent::Throttled { source: self.source, rows_per_second: None });
        }
    }
}

fn saved(now: Instant) -> Instant {
    now.checked_sub(SAVED_MAX).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(rows: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(rows)
    }

    /// Applies transactions as soon as it may; when each was, in seconds from the start.
    fn apply(throttle: &mut Throttle, now: &mut Instant, transactions: &[usize]) -> Vec<f64> {
        let start = *now;
        let apply = |rows: &usize| {
            *now += throttle.wait(*now);
            throttle.applied(*rows, *now);
            (*now - start).as_secs_f64()
        };
        transactions.iter().map(apply).collect()
    }

    fn begin() -> Instant {
        Instant::now() + Duration::from_secs(100)
    }

    #[test]
    fn what_is_saved_goes_first_and_then_the_limit_holds() {
        let mut now = begin();
        let mut throttle = Throttle::new(limit(10), now);
        let times = apply(&mut throttle, &mut now, &[1; 31]);
        assert_eq!(times[10], 0.0, "ten are saved, and the eleventh is owed");
        assert!((times[30] - 2.0).abs() < 1e-6, "{times:?}");
        // Nothing is saved beyond a second's worth.
        now += Duration::from_secs(3600);
        let times = apply(&mut throttle, &mut now, &[1; 21]);
        assert!((times[20] - 1.0).abs() < 1e-6, "{times:?}");
    }

    #[test]
    fn a_transaction_is_not_cut_and_the_one_after_it_pays() {
        let mut now = begin();
        let mut throttle = Throttle::new(limit(100), now);
        let times = apply(&mut throttle, &mut now, &[1000, 1, 1]);
        assert_eq!(times[0], 0.0);
        assert!((times[1] - 9.0).abs() < 1e-6 && (times[2] - 9.01).abs() < 1e-6, "{times:?}");
    }

    #[test]
    fn another_limit_counts_at_once() {
        let mut now = begin();
        let mut throttle = Throttle::new(limit(1), now);
        apply(&mut throttle, &mut now, &[100_000]);
        assert!(throttle.wait(now) > Duration::from_secs(90_000));
        throttle.limit(limit(1), now);
        assert!(throttle.wait(now) > Duration::from_secs(90_000), "the same one is no other");
        throttle.limit(limit(1000), now);
        assert_eq!(throttle.wait(now), Duration::ZERO);
        throttle.limit(None, now);
        apply(&mut throttle, &mut now, &[usize::MAX]);
        assert_eq!((throttle.wait(now), throttle.rows_at_once()), (Duration::ZERO, usize::MAX));
        assert_eq!(Throttle::new(limit(5), now).rows_at_once(), 1);
        assert_eq!(Throttle::new(limit(5000), now).rows_at_once(), 500);
    }

    proptest! {
        #[test]
        fn no_more_is_applied_than_the_limit_allows(
            rows_per_second in 1u64..10_000,
            transactions in proptest::collection::vec((0usize..5_000, 0u64..2_000), 1..60),
        ) {
            let mut now = begin();
            let mut throttle = Throttle::new(limit(rows_per_second), now);
            let mut applied: Vec<(Instant, usize)> = Vec::new();
            for (rows, idle) in transactions {
                now += Duration::from_millis(idle);
                now += throttle.wait(now);
                throttle.applied(rows, now);
                applied.push((now, rows));
            }
            for (at, (from, _)) in applied.iter().enumerate() {
                let mut rows = 0;
                for (to, more) in &applied[at..] {
                    // All but the last of them are paid for.
                    let allowed = ((*to - *from) + SAVED_MAX).as_secs_f64() * rows_per_second as f64;
                    prop_assert!(rows as f64 <= allowed + 1e-3, "{rows} of {allowed}");
                    rows += more;
                }
            }
        }
    }
}
