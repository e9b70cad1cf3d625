//! How long an endpoint takes to answer: an average that jumps to every peak and comes down
//! slowly, and the share of attempts that failed.
//!
//! `average = sample` where the sample is above it, else `average × d + sample × (1 − d)` with
//! `d = exp(−age / decay)` (Finagle's Peak EWMA). One thing differs: a sample counts for a 32nd
//! at least. An endpoint that was slow once and has answered in time since then is not held to
//! it for as long as one that was not asked since.
//!
//! A failure is no peak. Requests fail for reasons of their own, and an endpoint that was
//! avoided after each of those would leave its share to the others. It counts as slow in the
//! share of the time in which attempts failed: `expected = average + failing × penalty`. So an
//! endpoint that goes on failing is expensive within a tenth of a second, and one of whose
//! requests one in a thousand fails is about as good as any.
//!
//! All workers write the same words: losing the race to another sample costs another turn, never
//! a wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ir::PeakEwma;
use crate::upstream::{Observation, Verdict};
use crate::util::moment::Moment;

/// The latency of one endpoint.
#[derive(Debug, Default)]
pub struct Latency {
    /// The average in nanoseconds and when the last sample came; an average of 0 says that
    /// nothing is known.
    average: Stamped,
    /// The share of failures and when the last one came.
    failing: Stamped,
}

/// A sample below the average has this weight at least.
const LEAST_WEIGHT: f32 = 1.0 / 32.0;

/// A share of failures below this is none.
const NEGLIGIBLE: f32 = 1e-6;

/// What samples count for.
#[derive(Clone, Copy, Debug)]
pub struct LatencyRule {
    /// Of the decay's time constant, the share that is a millisecond.
    per_millisecond: f32,
    default: f32,
    penalty: f32,
}

impl LatencyRule {
    /// The rule of these parameters.
    pub fn new(policy: &PeakEwma) -> Self {
        Self {
            per_millisecond: 1.0 / (policy.decay.as_secs_f32() * 1000.0).max(1e-3),
            default: nanoseconds(policy.default_latency),
            penalty: nanoseconds(policy.failure_penalty),
        }
    }

    /// What is assumed of an endpoint nothing is known of, in nanoseconds.
    pub fn default_latency(&self) -> f32 {
        self.default
    }

    /// `exp(−milliseconds / decay)`, by the square root of a square root of … of its Padé
    /// approximation: the same on every machine, and right to 4 % as long as it is above 1 %.
    #[inline]
    fn faded(&self, milliseconds: u32) -> f32 {
        let half = milliseconds as f32 * self.per_millisecond / 32.0;
        let root = ((1.0 - half) / (1.0 + half)).max(0.0);
        let fourth = (root * root) * (root * root);
        (fourth * fourth) * (fourth * fourth)
    }
}

impl Latency {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything where the last sample is from before `then`.
    pub fn forget_before(&self, then: Moment) {
        let known = |(number, stamp)| (number > 0.0).then(|| age(stamp, then) > 0);
        // Where it has failed since then, what was expected before still is the least.
        if known(self.failing.get()) != Some(false) {
            for word in [&self.failing, &self.average] {
                word.update(|before| (known(before) == Some(true)).then_some((0.0, 0)));
            }
        }
    }

    /// The latency to expect now, in nanoseconds. It fades towards 0 while there are no samples,
    /// so that an endpoint that was slow once is looked at again. `None` where nothing is known.
    #[inline]
    pub fn expected(&self, rule: &LatencyRule, now: Moment) -> Option<f32> {
        let (average, stamp) = self.average.get();
        if average <= 0.0 {
            return None;
        }
        let average = average * rule.faded(age(stamp, now));
        let (share, failed) = self.failing.get();
        if share <= 0.0 {
            return Some(average);
        }
        Some(average + rule.penalty * share * rule.faded(age(failed, now)))
    }

    /// The average as of the last sample; `None` where nothing is known. For status pages.
    pub fn average(&self) -> Option<Duration> {
        let (average, _) = self.average.get();
        (average > 0.0).then(|| Duration::from_nanos(average as u64))
    }

    /// Takes in how an attempt went. An attempt that failed, or that nobody waited for to the
    /// end, would have taken at least that long.
    #[inline]
    pub fn observe(&self, rule: &LatencyRule, observation: Observation, now: Moment) {
        let took = nanoseconds(observation.latency).max(1.0);
        match observation.verdict {
            Verdict::Abandoned => self.raise(rule, took, now),
            verdict if verdict.is_success() => self.success(rule, took, now),
            _ => self.failure(rule, took, now),
        }
    }

    #[inline]
    fn success(&self, rule: &LatencyRule, took: f32, now: Moment) {
        self.sample(rule, took, now);
        if self.failing.get().0 > 0.0 {
            // It fades by itself. What is left of it goes before its stamp comes round again.
            self.failing.update(|(share, stamp)| {
                (share * rule.faded(age(stamp, now)) < NEGLIGIBLE).then_some((0.0, 0))
            });
        }
    }

    #[inline]
    fn sample(&self, rule: &LatencyRule, sample: f32, now: Moment) {
        self.average.update(|(average, stamp)| {
            if sample >= average {
                return Some((sample, milliseconds(now)));
            }
            // Within the same millisecond nothing fades, and most writes are saved.
            let age = age(stamp, now);
            let weight = (1.0 - rule.faded(age)).max(LEAST_WEIGHT);
            (age > 0).then(|| (average + (sample - average) * weight, milliseconds(now)))
        });
    }

    fn raise(&self, rule: &LatencyRule, at_least: f32, now: Moment) {
        self.average.update(|(average, stamp)| {
            // What has faded is what is expected: a peak that comes again counts again.
            let faded = average * rule.faded(age(stamp, now));
            let known = if average > 0.0 { faded } else { rule.default };
            (at_least > known).then(|| (at_least, milliseconds(now)))
        });
    }

    #[inline(never)]
    fn failure(&self, rule: &LatencyRule, took: f32, now: Moment) {
        let (average, stamp) = self.average.get();
        if average <= 0.0 {
            // All that is known is that it fails.
            return self.sample(rule, took.max(rule.penalty), now);
        }
        self.raise(rule, took, now);
        let answered = age(stamp, now);
        self.failing.update(|(share, stamp)| {
            let failed = age(stamp, now);
            // It stands for the time since the sample before it, whichever kind that was.
            let since = if share > 0.0 { failed.min(answered) } else { answered };
            let share = share * rule.faded(failed) + 1.0 - rule.faded(since);
            (since > 0).then(|| (share, milliseconds(now)))
        });
    }
}

/// A number as `f32` and the millisecond it is from, in one word.
#[derive(Debug, Default)]
struct Stamped(AtomicU64);

impl Stamped {
    #[inline]
    fn get(&self) -> (f32, u32) {
        unpack(self.0.load(Ordering::Relaxed))
    }

    #[inline]
    fn update(&self, change: impl Fn((f32, u32)) -> Option<(f32, u32)>) {
        let change = |word| {
            let (number, stamp) = change(unpack(word))?;
            Some(u64::from(number.to_bits()) << 32 | u64::from(stamp))
        };
        // An error is a change that was not wanted.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// How long ago the stamp was, in milliseconds. Workers' clocks may be a little behind it; after
/// 24 days it counts as new.
fn age(stamp: u32, now: Moment) -> u32 {
    let age = milliseconds(now).wrapping_sub(stamp);
    if age > u32::MAX / 2 { 0 } else { age }
}

fn milliseconds(moment: Moment) -> u32 {
    (moment.0 / 1_000_000) as u32
}

fn nanoseconds(duration: Duration) -> f32 {
    duration.as_nanos() as f32
}

#[cfg(test)]
mod tests;
