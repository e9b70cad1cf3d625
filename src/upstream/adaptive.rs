//! A limit on requests in flight that follows the latency.
//!
//! After Netflix' Gradient2 (concurrency-limits): once an interval the latency of its requests is
//! compared with a long average; where it is more than `tolerance` times as long requests queue
//! somewhere behind the proxy and the limit shrinks, else it grows by a small allowance.
//!
//! One difference: while the limit is what holds requests back, the long average learns a tenth
//! as fast. Otherwise it learns the very queue that the limit allows, and under lasting overload
//! the limit doubles about every 80 seconds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::{Observation, Verdict};
use crate::ir::AdaptiveConcurrency;
use crate::telemetry::Reason;
use crate::util::moment::Moment;

/// How many requests beyond the measured need are let through to find out whether more work.
const ALLOWANCE: f64 = 4.0;
/// Samples of the long average; the plain mean while there are fewer.
const LONG: f64 = 600.0;
/// Intervals after which the long average is no longer a plain mean.
const WARM_UP: f64 = 10.0;
/// How much slower it learns while the limit is reached.
const WHEN_LIMITED: f64 = 0.1;
/// Samples that make an interval.
const MIN_SAMPLES: u32 = 10;

/// The limit and what it is computed from, shared by all workers without a lock.
#[derive(Debug)]
pub struct Adaptive {
    spec: AdaptiveConcurrency,
    /// When the running interval ends; whoever moves it on computes the limit.
    ends: AtomicU64,
    /// Of the running interval: microseconds of all samples, their number, and the most requests
    /// in flight.
    micros: AtomicU64,
    samples: AtomicU32,
    busiest: AtomicU32,
    /// The limit and the long average in microseconds as the bits of `f64`, and how many
    /// intervals made the average.
    limit: AtomicU64,
    long: AtomicU64,
    intervals: AtomicU64,
}

impl Adaptive {
    /// A limit that starts where `spec` says.
    pub fn new(spec: AdaptiveConcurrency) -> Self {
        let limit = spec.initial.clamp(spec.min, spec.max.max(spec.min));
        Self {
            spec,
            ends: AtomicU64::new(0),
            micros: AtomicU64::new(0),
            samples: AtomicU32::new(0),
            busiest: AtomicU32::new(0),
            limit: AtomicU64::new(f64::from(limit).to_bits()),
            long: AtomicU64::new(0),
            intervals: AtomicU64::new(0),
        }
    }

    /// The limit of this moment, at least 1.
    pub fn limit(&self) -> u32 {
        (load(&self.limit) as u32).max(1)
    }

    /// Takes in how a request went while `in_flight` were on their way, itself included. Returns
    /// the limit where an interval ended with it.
    pub fn observe(&self, seen: Observation, in_flight: u32, now: Moment) -> Option<u32> {
        if !is_sample(seen.verdict) {
            return None;
        }
        let micros = u64::try_from(seen.latency.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.busiest.fetch_max(in_flight, Ordering::Relaxed);
        let samples = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        let ends = self.ends.load(Ordering::Acquire);
        if samples < MIN_SAMPLES || now.0 < ends {
            return None;
        }
        let next = now.after(self.spec.interval.max(Duration::from_millis(1))).0;
        // Whoever wins computes; the others' samples count in this interval or the next.
        self.ends.compare_exchange(ends, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let samples = f64::from(self.samples.swap(0, Ordering::Relaxed).max(1));
        let micros = self.micros.swap(0, Ordering::Relaxed) as f64;
        let busiest = f64::from(self.busiest.swap(0, Ordering::Relaxed));
        self.update((micros / samples).max(1.0), busiest);
        Some(self.limit())
    }

    fn update(&self, short: f64, busiest: f64) {
        let limit = load(&self.limit);
        let limited = busiest >= limit.floor();
        let long = self.learn(short, limited);
        // A limit that nobody comes near says nothing and is left alone.
        if busiest < limit / 2.0 {
            return;
        }
        let gradient = (self.spec.tolerance.factor() * long / short).clamp(0.5, 1.0);
        let wanted = limit * gradient + ALLOWANCE;
        let smoothing = self.spec.smoothing.factor().clamp(0.0, 1.0);
        let limit = limit * (1.0 - smoothing) + wanted * smoothing;
        let (least, most) = (f64::from(self.spec.min), f64::from(self.spec.max));
        store(&self.limit, limit.min(most).max(least));
    }

    /// The long average with one interval more.
    fn learn(&self, short: f64, limited: bool) -> f64 {
        let intervals = self.intervals.load(Ordering::Relaxed).saturating_add(1);
        self.intervals.store(intervals, Ordering::Relaxed);
        let long = load(&self.long);
        let count = intervals as f64;
        let weight = match (count <= WARM_UP, limited && short > long) {
            (true, _) => 1.0 / count,
            (false, true) => WHEN_LIMITED / LONG,
            (false, false) => 2.0 / (LONG + 1.0),
        };
        let mut long = long + (short - long) * weight;
        // After a long overload it comes down faster than it went up.
        if long > 2.0 * short {
            long *= 0.95;
        }
        store(&self.long, long);
        long
    }
}

/// Whether the latency tells how loaded the upstream is: a quick error does not.
fn is_sample(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Failed(Reason::ResponseTimeout | Reason::RequestTimeout) => true,
        Verdict::Responded(_) => verdict.is_success(),
        _ => false,
    }
}

fn load(bits: &AtomicU64) -> f64 {
    f64::from_bits(bits.load(Ordering::Relaxed))
}

fn store(bits: &AtomicU64, value: f64) {
    bits.store(value.to_bits(), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
