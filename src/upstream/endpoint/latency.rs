//! How long an endpoint takes to answer: an average that jumps to every peak and comes down
//! slowly.
//!
//! `expected = sample` where the sample is above it, else `expected × d + sample × (1 − d)` with
//! `d = exp(−age / decay)` (Finagle's Peak EWMA). All workers write the same word: losing the
//! race to another sample costs another turn, never a wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::ir::PeakEwma;
use crate::upstream::{Observation, Verdict};
use crate::util::moment::Moment;

/// The latency of one endpoint, in one word: the average in nanoseconds as `f32` above, the
/// millisecond of the last sample below. An average of 0 says that nothing is known.
#[derive(Debug)]
pub struct Latency(AtomicU64);

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
        Self(AtomicU64::new(0))
    }

    /// Forgets everything where the last sample is from before `then`.
    pub fn forget_before(&self, then: Moment) {
        self.update(|before| {
            let (average, stamp) = unpack(before);
            (average > 0.0 && age(stamp, then) > 0).then_some(0)
        });
    }

    /// The latency to expect now, in nanoseconds: the average, which fades towards 0 while there
    /// are no samples, so that an endpoint that was slow once is looked at again. `None` where
    /// nothing is known.
    #[inline]
    pub fn expected(&self, rule: &LatencyRule, now: Moment) -> Option<f32> {
        let (average, stamp) = unpack(self.0.load(Ordering::Relaxed));
        (average > 0.0).then(|| average * rule.faded(age(stamp, now)))
    }

    /// The average as of the last sample; `None` where nothing is known. For status pages.
    pub fn average(&self) -> Option<Duration> {
        let (average, _) = unpack(self.0.load(Ordering::Relaxed));
        (average > 0.0).then(|| Duration::from_nanos(average as u64))
    }

    /// Takes in how an attempt went. A failure counts as slow, or a fast error would look like
    /// a fast endpoint. An attempt nobody waited for to the end took at least that long.
    #[inline]
    pub fn observe(&self, rule: &LatencyRule, observation: Observation, now: Moment) {
        let took = nanoseconds(observation.latency).max(1.0);
        match observation.verdict {
            Verdict::Abandoned => self.raise(rule, took, now),
            verdict if verdict.is_success() => self.sample(rule, took, now),
            _ => self.sample(rule, took.max(rule.penalty), now),
        }
    }

    fn sample(&self, rule: &LatencyRule, sample: f32, now: Moment) {
        self.update(|before| {
            let (average, stamp) = unpack(before);
            if sample >= average {
                return Some(pack(sample, now));
            }
            // Within the same millisecond nothing fades, and most writes are saved.
            let age = age(stamp, now);
            let faded = rule.faded(age);
            (age > 0).then(|| pack(average * faded + sample * (1.0 - faded), now))
        });
    }

    fn raise(&self, rule: &LatencyRule, at_least: f32, now: Moment) {
        self.update(|before| {
            let (average, stamp) = unpack(before);
            // What has faded is what is expected: a peak that comes again counts again.
            let faded = average * rule.faded(age(stamp, now));
            let known = if average > 0.0 { faded } else { rule.default };
            (at_least > known).then(|| pack(at_least, now))
        });
    }

    #[inline]
    fn update(&self, change: impl FnMut(u64) -> Option<u64>) {
        // An error is a change that was not wanted.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

fn pack(average: f32, now: Moment) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(milliseconds(now))
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(milliseconds: u64) -> Moment {
        Moment(milliseconds * 1_000_000)
    }

    fn rule() -> LatencyRule {
        LatencyRule::new(&PeakEwma::default())
    }

    fn answered(latency: &Latency, took: Duration, now: Moment) {
        let verdict = Verdict::Responded(200);
        latency.observe(&rule(), Observation { in_flight: 0, latency: took, verdict }, now);
    }

    fn expected(latency: &Latency, now: Moment) -> f64 {
        latency.expected(&rule(), now).map_or(0.0, |nanos| f64::from(nanos) / 1e6)
    }

    #[test]
    fn a_peak_is_believed_at_once_and_forgotten_slowly() {
        let latency = Latency::new();
        assert_eq!(latency.expected(&rule(), at(1000)), None);
        answered(&latency, MS * 10, at(1000));
        answered(&latency, MS * 500, at(1001));
        assert_eq!(expected(&latency, at(1001)).round(), 500.0);
        answered(&latency, MS * 10, at(11_001));
        let after = 500.0 * (-1f64).exp() + 10.0 * (1.0 - (-1f64).exp());
        assert!((expected(&latency, at(11_001)) - after).abs() < 1.0);
    }

    #[test]
    fn what_is_not_asked_fades() {
        let latency = Latency::new();
        answered(&latency, MS * 1000, at(1000));
        assert!((expected(&latency, at(11_000)) - 1000.0 * (-1f64).exp()).abs() < 2.0);
        assert_eq!(expected(&latency, at(1_001_000)), 0.0);
        assert!(latency.expected(&rule(), at(1_001_000)).is_some());
        assert_eq!(latency.average(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_a_little_behind_makes_nothing_old() {
        let latency = Latency::new();
        answered(&latency, MS * 10, at(1000));
        assert_eq!(expected(&latency, at(990)).round(), 10.0);
        answered(&latency, MS * 5, at(990));
        assert_eq!(expected(&latency, at(1000)).round(), 10.0);
    }

    #[test]
    fn failures_count_as_slow_however_fast_they_are() {
        for verdict in [
            Verdict::Responded(503),
            Verdict::Responded(429),
            Verdict::Failed(crate::telemetry::Reason::ConnectFailed),
        ] {
            let latency = Latency::new();
            latency.observe(&rule(), Observation { in_flight: 0, latency: MS, verdict }, at(1000));
            assert_eq!(latency.average(), Some(Duration::from_secs(5)), "{verdict:?}");
        }
    }

    #[test]
    fn an_abandoned_attempt_says_only_that_it_took_longer() {
        let abandoned = |latency: &Latency, took| {
            let observation =
                Observation { in_flight: 0, latency: took, verdict: Verdict::Abandoned };
            latency.observe(&rule(), observation, at(1000));
        };
        let latency = Latency::new();
        abandoned(&latency, MS * 5);
        assert_eq!(latency.average(), None, "less than is assumed");
        abandoned(&latency, MS * 700);
        assert_eq!(expected(&latency, at(1000)).round(), 700.0);
        abandoned(&latency, MS * 5);
        assert_eq!(expected(&latency, at(1000)).round(), 700.0);
    }

    #[test]
    fn what_was_before_a_recovery_is_forgotten_and_what_came_after_is_not() {
        let latency = Latency::new();
        answered(&latency, MS * 10, at(1000));
        latency.forget_before(at(1000));
        assert!(latency.average().is_some());
        latency.forget_before(at(1001));
        assert!(latency.average().is_none());
    }

    #[test]
    fn fading_is_exponential() {
        for milliseconds in (0..46_000).step_by(100) {
            let exact = (-f64::from(milliseconds) / 10_000.0).exp();
            let got = f64::from(rule().faded(milliseconds));
            assert!((got / exact - 1.0).abs() < 0.04, "{milliseconds}: {got} for {exact}");
        }
        assert_eq!(rule().faded(u32::MAX), 0.0);
    }

    proptest! {
        /// Finagle's formula in double precision as the oracle.
        #[test]
        fn samples_make_the_average_of_the_formula(
            samples in prop::collection::vec((1u64..2000, 1u32..2000), 1..50)
        ) {
            let latency = Latency::new();
            let (mut now, mut average, mut before) = (1000, 0.0, 1000);
            for (wait, took) in samples {
                now += wait;
                answered(&latency, MS * took, at(now));
                let sample = f64::from(took);
                let faded = (-((now - before) as f64) / 10_000.0).exp();
                average = if sample >= average {
                    sample
                } else {
                    average * faded + sample * (1.0 - faded)
                };
                before = now;
                let got = expected(&latency, at(now));
                prop_assert!((got - average).abs() <= 0.001 * average, "{got} for {average}");
            }
        }
    }
}
