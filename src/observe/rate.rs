//! How much per second, lately.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// What is this old counts a third: short enough to follow a change of load, long enough to read.
const MEMORY_SECONDS: f64 = 10.0;

/// An exponentially weighted rate.
#[derive(Debug)]
pub(super) struct Rate(Mutex<(Instant, f64)>);

impl Rate {
    pub(super) fn new() -> Self {
        Rate(Mutex::new((Instant::now(), 0.0)))
    }

    /// Something of this amount happened now.
    pub(super) fn add(&self, amount: f64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.1 = faded(state.1, now - state.0) + amount / MEMORY_SECONDS;
        state.0 = now;
    }

    /// How much per second.
    pub(super) fn per_second(&self) -> f64 {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faded(state.1, state.0.elapsed())
    }
}

fn faded(rate: f64, time: std::time::Duration) -> f64 {
    rate * (-time.as_secs_f64() / MEMORY_SECONDS).exp()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_has_its_rate_and_a_quiet_one_fades() {
        let rate = Rate::new();
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(100)).await;
            rate.add(50.0);
        }
        assert!((rate.per_second() - 500.0).abs() < 5.0, "{}", rate.per_second());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(rate.per_second() < 2.0);
    }
}
