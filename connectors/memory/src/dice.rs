//! The seed of a simulated schedule: every delay and every fault is thrown here.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pontoon_core::{Code, Error, Result};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// How often things go wrong, as chances per call.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// A connection is cut at a call.
    pub cut: f64,
    /// A commit happens, and its answer is lost.
    pub lost_answer: f64,
    /// A pause is a hundred times as long as usual.
    pub long_pause: f64,
    /// The longest usual pause before and after each call.
    pub pause_max: Duration,
    /// A transaction is in the log in pieces before its commit. (No fault, but as much a matter of chance.)
    pub early: f64,
    /// How much longer than a call it takes to open a log, as that of thousands of tables.
    pub open: Duration,
    /// When a wait for a lock ends; `None`: never (to show why it has to).
    pub lock_wait: Option<Duration>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            cut: 0.0,
            lost_answer: 0.0,
            long_pause: 0.01,
            pause_max: Duration::from_millis(8),
            early: 0.0,
            open: Duration::ZERO,
            lock_wait: Some(Duration::from_secs(2)),
        }
    }
}

/// A shared source of chance, reproducible from its seed on a single-threaded runtime.
#[derive(Clone)]
pub struct Dice {
    rng: Arc<Mutex<SmallRng>>,
    faults: Arc<Mutex<Faults>>,
}

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Dice { rng: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))), faults: Arc::new(Mutex::new(faults)) }
    }

    fn rng(&self) -> MutexGuard<'_, SmallRng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults in force.
    pub fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other faults in force, for all that share these dice.
    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Whether something with this chance happens now.
    pub fn chance(&self, probability: f64) -> bool {
        self.rng().random_bool(probability.clamp(0.0, 1.0))
    }

    /// A number from `low` up to and including `high`.
    pub fn between(&self, low: i64, high: i64) -> i64 {
        self.rng().random_range(low..=high)
    }

    /// One of several.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        let at = self.rng().random_range(0..items.len());
        items.get(at)
    }

    /// A duration up to `max`, in whole milliseconds.
    pub fn duration(&self, max: Duration) -> Duration {
        let millis = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.rng().random_range(0..=millis))
    }

    /// Lets other tasks go first, for a while.
    pub async fn pause(&self) {
        let faults = self.faults();
        let max = if self.chance(faults.long_pause) { faults.pause_max * 100 } else { faults.pause_max };
        tokio::time::sleep(self.duration(max)).await;
    }

    /// A call over a connection: it takes a while, and the connection may be cut instead.
    pub async fn call(&self) -> Result<()> {
        self.pause().await;
        if self.chance(self.faults().cut) {
            return Err(Error::new(Code::ConnectionLost, "the connection was cut"));
        }
        Ok(())
    }
}
