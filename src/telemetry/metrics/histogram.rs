//! A duration histogram with one writer and integer bounds.

use std::time::Duration;

use super::shard::Count;
use crate::telemetry::families::DURATION_BOUNDS;

const BUCKETS: usize = DURATION_BOUNDS.len() + 1;

/// Counts per bucket, the last one beyond every bound, and the sum in microseconds: 64 bits of
/// nanoseconds would wrap within weeks under long-lived connections.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Count; BUCKETS],
    micros: Count,
}

impl Histogram {
    /// Records one duration; only the owning worker may call this.
    #[inline]
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = nanos(duration);
        let bucket = DURATION_BOUNDS
            .iter()
            .position(|bound| nanos <= *bound)
            .unwrap_or(DURATION_BOUNDS.len());
        if let Some(count) = self.buckets.get(bucket) {
            count.add(1);
        }
        self.micros.add(rounded_micros(nanos));
    }

    /// How many durations were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum()
    }
}

/// Histograms of several workers added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    /// Observations per bucket, not cumulative; the last one is beyond every bound.
    pub(crate) buckets: [u64; BUCKETS],
    /// The sum of all observations, microseconds.
    pub(crate) micros: u64,
}

impl Distribution {
    /// The sum of `histograms`.
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut sum = Self::default();
        histograms.for_each(|histogram| sum.add(histogram));
        sum
    }

    /// Adds `histogram` to the sum.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (total, count) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += count.get();
        }
        self.micros += histogram.micros.get();
    }

    /// How many observations there are.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// A duration in nanoseconds, saturating after 584 years.
#[inline]
fn nanos(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

#[inline]
fn rounded_micros(nanos: u64) -> u64 {
    nanos.saturating_add(500) / 1_000
}

/// A duration in microseconds, rounded.
#[inline]
pub(crate) fn micros(duration: Duration) -> u64 {
    rounded_micros(nanos(duration))
}
