//! How long the requests of the last seconds took: quantiles over a sliding window.
//!
//! A histogram with buckets of about 6 % (16 to each doubling, after HdrHistogram) per worker and
//! stretch of time. A worker writes only its own, so that recording is a load and a store; the
//! quantile adds them up a few times a second and is read from one word otherwise.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::ir::Permille;
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;
use std::time::Duration;

/// Stretches kept; the quantile is that of the last two whole ones and what there is of a third.
const STRETCHES: u32 = 3;
/// The length of a stretch, nanoseconds.
const STRETCH: u64 = 5_000_000_000;
/// How long a computed quantile is good for, nanoseconds.
const FRESH: u64 = 250_000_000;
/// Buckets of one doubling, as a power of two.
const FINE: u32 = 4;
/// The buckets: up to 2³² microseconds.
const BUCKETS: usize = ((32 - FINE + 1) << FINE) as usize;
/// Requests that must lie beyond a quantile, in the mean, for it to be told.
const BEYOND: u64 = 5;

/// The latencies of one kind of request, written by all workers.
#[derive(Debug)]
pub struct Latencies {
    quantile: Permille,
    workers: Box<[[Stretch; STRETCHES as usize]]>,
    /// When the quantile was computed, in units of [`FRESH`], and the quantile in microseconds.
    computed: AtomicU64,
}

/// One worker's counts of one stretch of time.
#[derive(Debug)]
#[repr(align(128))]
struct Stretch {
    number: AtomicU32,
    counts: Box<[AtomicU32]>,
}

/// There are too few requests to tell.
const UNKNOWN: u32 = u32::MAX;

impl Latencies {
    /// No requests yet; `quantile` is what will be asked for.
    pub fn new(quantile: Permille, workers: usize) -> Self {
        let workers = (0..workers).map(|_| std::array::from_fn(|_| Stretch::new())).collect();
        Self { quantile, workers, computed: AtomicU64::new(u64::from(UNKNOWN)) }
    }

    /// Adds a request that took `latency`.
    pub fn record(&self, worker: WorkerId, latency: Duration, now: Moment) {
        let number = stretch_of(now);
        let Some(stretches) = self.workers.get(worker.0) else { return };
        let Some(stretch) = stretches.get((number % STRETCHES) as usize) else { return };
        if stretch.number.load(Ordering::Relaxed) != number {
            stretch.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            stretch.number.store(number, Ordering::Release);
        }
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        if let Some(count) = stretch.counts.get(bucket(micros)) {
            // One writer: see above.
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The time within which the share of requests was done that was asked for, at most 6 % more;
    /// `None` where there are too few to tell.
    pub fn quantile(&self, now: Moment) -> Option<Duration> {
        let tick = (now.0 / FRESH) as u32;
        let known = self.computed.load(Ordering::Relaxed);
        let micros = if (known >> 32) as u32 == tick {
            known as u32
        } else {
            let micros = self.compute(now);
            self.computed.store(u64::from(tick) << 32 | u64::from(micros), Ordering::Relaxed);
            micros
        };
        (micros != UNKNOWN).then(|| Duration::from_micros(u64::from(micros)))
    }

    fn compute(&self, now: Moment) -> u32 {
        let number = stretch_of(now);
        let recent =
            |stretch: &&Stretch| stretch.number.load(Ordering::Acquire) + STRETCHES > number;
        let stretches = || self.workers.iter().flatten().filter(recent);
        let all: u64 = stretches().map(Stretch::total).sum();
        let share = u64::from(self.quantile.0.min(1_000));
        if all * (1_000 - share) < BEYOND * 1_000 || all == 0 {
            return UNKNOWN;
        }
        let wanted = (all * share).div_ceil(1_000).max(1);
        let mut below = 0;
        for bucket in 0..BUCKETS {
            below += stretches().map(|stretch| stretch.count(bucket)).sum::<u64>();
            if below >= wanted {
                return bound(bucket);
            }
        }
        UNKNOWN
    }
}

impl Stretch {
    fn new() -> Self {
        let counts = (0..BUCKETS).map(|_| AtomicU32::new(0)).collect();
        Self { number: AtomicU32::new(0), counts }
    }

    fn count(&self, bucket: usize) -> u64 {
        self.counts.get(bucket).map_or(0, |count| u64::from(count.load(Ordering::Relaxed)))
    }

    fn total(&self) -> u64 {
        (0..BUCKETS).map(|bucket| self.count(bucket)).sum()
    }
}

fn stretch_of(now: Moment) -> u32 {
    (now.0 / STRETCH) as u32
}

/// The bucket of a value: its highest bits.
fn bucket(micros: u32) -> usize {
    let shift = (32 - micros.leading_zeros()).saturating_sub(FINE + 1);
    ((shift << FINE) + (micros >> shift)) as usize
}

/// The largest value of a bucket.
fn bound(bucket: usize) -> u32 {
    let bucket = bucket as u64;
    let shift = (bucket >> FINE).saturating_sub(1);
    let above = (bucket - (shift << FINE) + 1) << shift;
    u32::try_from(above - 1).unwrap_or(UNKNOWN).min(UNKNOWN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Moment {
        Moment((seconds * 1e9) as u64)
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_and_is_a_sixteenth_wide(micros in 0u32..u32::MAX) {
            let bucket_of = bucket(micros);
            prop_assert!(bucket_of < BUCKETS);
            let most = bound(bucket_of);
            let least = bucket_of.checked_sub(1).map_or(0, |before| bound(before) + 1);
            prop_assert!((least..=most).contains(&micros), "{least} {micros} {most}");
            prop_assert!(most - least <= micros / 16, "{least} {most}");
        }

        /// Against sorted samples.
        #[test]
        fn the_quantile_is_that_of_the_samples(
            samples in prop::collection::vec((0usize..3, 1u32..10_000_000), 100..600),
            share in 500u32..=950,
        ) {
            let latencies = Latencies::new(Permille(share), 3);
            for (worker, micros) in &samples {
                let latency = Duration::from_micros(u64::from(*micros));
                latencies.record(WorkerId(*worker), latency, at(7.0));
            }
            let mut sorted: Vec<u32> = samples.iter().map(|(_, micros)| *micros).collect();
            sorted.sort_unstable();
            let rank = (sorted.len() * share as usize).div_ceil(1_000);
            let exact = f64::from(sorted[rank - 1]);
            let told = latencies.quantile(at(7.0)).expect("enough samples").as_micros() as f64;
            prop_assert!(told >= exact && told <= exact * 1.07 + 1.0, "{told} for {exact}");
        }
    }

    #[test]
    fn old_requests_do_not_count() {
        let latencies = Latencies::new(Permille(950), 1);
        let record = |micros, seconds| {
            (0..200).for_each(|_| {
                latencies.record(WorkerId(0), Duration::from_micros(micros), at(seconds));
            });
        };
        record(100, 5.0);
        assert!(latencies.quantile(at(6.0)).is_some_and(|told| told.as_micros() < 110));
        record(10_000, 14.0);
        assert!(latencies.quantile(at(14.5)).is_some_and(|told| told.as_micros() >= 10_000));
        record(100, 20.1);
        assert!(latencies.quantile(at(26.0)).is_some_and(|told| told.as_micros() < 110));
        assert_eq!(latencies.quantile(at(60.0)), None);
    }

    #[test]
    fn a_few_requests_tell_no_quantile() {
        let latencies = Latencies::new(Permille(990), 1);
        for number in 0..499 {
            assert_eq!(latencies.quantile(at(5.0 + f64::from(number))), None);
            latencies.record(WorkerId(0), Duration::from_micros(100), at(600.0));
        }
        latencies.record(WorkerId(0), Duration::from_micros(100), at(600.0));
        assert!(latencies.quantile(at(600.0)).is_some());
    }
}
