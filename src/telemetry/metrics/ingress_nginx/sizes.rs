//! A histogram of bytes with one writer.

use crate::telemetry::metrics::Count;

/// Upper bounds of the buckets: the union of the two sets that ingress-nginx has for sizes.
const BOUNDS: [u64; 15] =
    [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts per bucket, the last one beyond every bound, and the sum.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    buckets: [Count; BUCKETS],
    sum: Count,
}

impl Sizes {
    /// Records a size; only the owning worker may call this.
    #[inline]
    pub(super) fn record(&self, bytes: u64) {
        let bucket = BOUNDS.iter().position(|bound| bytes <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.buckets.get(bucket) {
            count.add(1);
        }
        self.sum.add(bytes);
    }
}

/// Sizes of several workers added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SizeTotals {
    buckets: [u64; BUCKETS],
    pub sum: u64,
}

impl SizeTotals {
    pub(super) fn add(&mut self, sizes: &Sizes) {
        for (total, count) in self.buckets.iter_mut().zip(&sizes.buckets) {
            *total += count.get();
        }
        self.sum += sizes.sum.get();
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Cumulative counts at 10, 20, … 100 bytes.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (f64, u64)> {
        self.cumulative().filter(|(bound, _)| *bound <= 100).map(|(bound, n)| (bound as f64, n))
    }

    /// Cumulative counts at the powers of ten from 10 bytes to 10 million.
    pub(super) fn powers(&self) -> impl Iterator<Item = (f64, u64)> {
        let power = |bound: u64| bound == 10 || bound >= 100;
        self.cumulative().filter(move |(bound, _)| power(*bound)).map(|(at, n)| (at as f64, n))
    }

    fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        BOUNDS.into_iter().zip(self.buckets).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }
}
