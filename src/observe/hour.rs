//! The last hour of a direction, for the page: how much was applied, and how far it was behind. Who wants more than this has Prometheus.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Metrics;
use crate::side::Side;

/// Short enough that a peak is seen, long enough that an hour of it is no more than a graph of a hand's width shows.
const EVERY: Duration = Duration::from_secs(10);

/// An hour of them: 6 KiB for both directions, whatever the bridge does.
const SAMPLES_MAX: usize = 360;

/// Five minutes: what a graph shows at least.
const WIDTH_MIN: usize = 30;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Applied per second, since the sample before.
    pub(super) rows_per_second: f32,
    /// NaN where it is not known.
    pub(super) lag_seconds: f32,
}

/// The samples of an hour.
#[derive(Debug, Default)]
pub(super) struct Hour(Mutex<VecDeque<Sample>>);

impl Hour {
    fn add(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == SAMPLES_MAX {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// The oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// How many samples a graph is wide that has so many, and in words: a bridge that has just begun shows more than a dot.
pub(super) fn width(samples: usize) -> (usize, String) {
    let wide = samples.clamp(WIDTH_MIN, SAMPLES_MAX);
    let minutes = (wide as u64 * EVERY.as_secs()).div_ceil(60);
    (wide, if wide == SAMPLES_MAX { "last hour".to_owned() } else { format!("last {minutes} min") })
}

/// Looks at both directions for as long as it is polled.
pub(super) async fn follow(metrics: &Metrics) {
    let applied = |side: Side| metrics.direction(side).numbers().rows_applied;
    let mut before = (Instant::now(), Side::BOTH.map(applied));
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, and has nothing to tell.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (Instant::now(), Side::BOTH.map(applied));
        let passed = (now.0 - before.0).as_secs_f64().max(1.0);
        for side in Side::BOTH {
            let rows = now.1[side as usize].saturating_sub(before.1[side as usize]);
            metrics.hour(side).add(Sample {
                rows_per_second: (rows as f64 / passed) as f32,
                lag_seconds: metrics.direction(side).lag_seconds() as f32,
            });
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_no_more() {
        let metrics = Metrics::new("b", ["shop", "stock"]).unwrap();
        metrics.direction(Side::B).set_lag_seconds(0.5);
        let hour = tokio::time::timeout(Duration::from_secs(95), follow(&metrics)).await;
        assert!(hour.is_err(), "it goes on");
        let samples = metrics.hour(Side::B).samples();
        assert_eq!(samples.len(), 9);
        assert_eq!((samples[0].rows_per_second, samples[0].lag_seconds), (0.0, 10.5), "silent since then");
        assert!(metrics.hour(Side::A).samples()[0].lag_seconds.is_nan());
        assert!(tokio::time::timeout(Duration::from_secs(7200), follow(&metrics)).await.is_err());
        assert_eq!(metrics.hour(Side::A).samples().len(), SAMPLES_MAX);
        assert_eq!(width(0), (30, "last 5 min".to_owned()));
        assert_eq!(width(100), (100, "last 17 min".to_owned()));
        assert_eq!(width(SAMPLES_MAX), (360, "last hour".to_owned()));
    }
}
