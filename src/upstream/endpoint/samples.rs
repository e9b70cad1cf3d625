//! What recent attempts at an endpoint took, and under which load: where Prequal's probes find
//! the latency to expect.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::{Observation, Verdict};
use crate::util::moment::Moment;

/// Loads that differ by less than a factor of two are about the same: none, 1, 2 to 3, 4 to 7, …
const LOADS: usize = 13;
/// How many attempts are remembered of each.
const KEPT: usize = 7;
/// How long an attempt tells something.
const FRESH: Duration = Duration::from_secs(10);
/// What a failure counts as: a fast error must not look like a fast endpoint.
const PENALTY: Duration = Duration::from_secs(5);

/// Attempts at one endpoint, the oldest overwritten first, and its own word where it is probed.
/// All workers write; a sample is one word.
#[derive(Debug, Default)]
pub struct Samples {
    loads: [Ring; LOADS],
    /// What the endpoint itself told of its load, in one word like a sample.
    told: AtomicU64,
    /// Requests in flight from this process when it told that.
    told_beside: AtomicU32,
}

/// Attempts that began under about the same load, the oldest overwritten first.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Ring {
    next: AtomicU32,
    samples: [AtomicU64; KEPT],
}

/// The load of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Requests in flight.
    pub in_flight: u32,
    /// The latency to expect, in microseconds; 0 where nothing is known.
    pub latency: u32,
    /// Whether recent attempts mostly failed.
    pub failing: bool,
}

impl Samples {
    /// Takes in how an attempt went.
    pub fn observe(&self, observation: Observation, now: Moment) {
        let Observation { in_flight, latency, verdict } = observation;
        let latency = match verdict {
            // It took at least so long, which is news only where that is more than expected.
            Verdict::Abandoned => {
                if micros(latency) <= self.expected(in_flight, now).latency {
                    return;
                }
                latency
            }
            verdict if verdict.is_success() => latency,
            _ => latency.max(PENALTY),
        };
        let sample = Sample { in_flight, micros: micros(latency) };
        if let Some(ring) = self.loads.get(about(in_flight)) {
            ring.put(sample.pack(now));
        }
    }

    /// Forgets attempts that ended before `then`.
    pub fn forget_before(&self, then: Moment) {
        for slot in self.loads.iter().flat_map(|ring| &ring.samples) {
            let word = slot.load(Ordering::Relaxed);
            if word != 0 && age(word, then) > 0 {
                // Fails where a new sample took the place.
                let _ = slot.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Takes in what the endpoint told, with so many requests from this process on their way.
    pub fn tell(&self, probe: Probe, beside: u32, now: Moment) {
        let Probe { in_flight, latency, .. } = probe;
        self.told_beside.store(beside, Ordering::Relaxed);
        self.told.store(Sample { in_flight, micros: latency }.pack(now), Ordering::Relaxed);
    }

    /// What the endpoint told within `max_age`, with what this process has sent there since;
    /// without that, what this process sees itself. `in_flight` is what this process has on its
    /// way.
    pub fn probe(&self, in_flight: u32, max_age: Duration, now: Moment) -> Probe {
        let seen = self.expected(in_flight, now);
        let told = Sample::unpack(self.told.load(Ordering::Relaxed), max_age, now);
        let Some(told) = told else { return seen };
        let since = in_flight.saturating_sub(self.told_beside.load(Ordering::Relaxed));
        let in_flight = told.in_flight.saturating_add(since).max(in_flight);
        // Its own word on latency, unless it fails to answer at all.
        let latency = if seen.failing { seen.latency } else { told.micros };
        Probe { in_flight, latency, ..seen }
    }

    /// The median of what recent attempts took that began under about this load. Where there are
    /// none, of those under the next lighter or heavier load, taken as much longer or shorter as
    /// if the endpoint shared its time among its requests.
    fn expected(&self, in_flight: u32, now: Moment) -> Probe {
        let about = about(in_flight);
        let away = (0..LOADS).flat_map(|away| [about.checked_sub(away), about.checked_add(away)]);
        let rings = away.flatten().filter_map(|load| self.loads.get(load));
        let found = rings.filter_map(|ring| ring.median(in_flight, now)).next();
        let latency = found.unwrap_or(0);
        Probe { in_flight, latency, failing: latency >= micros(PENALTY) }
    }
}

/// Where attempts are remembered that began beside `in_flight` others.
fn about(in_flight: u32) -> usize {
    (32 - in_flight.leading_zeros() as usize).min(LOADS - 1)
}

impl Ring {
    fn put(&self, word: u64) {
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % KEPT;
        if let Some(slot) = self.samples.get(place) {
            slot.store(word, Ordering::Relaxed);
        }
    }

    /// The median of what fresh attempts took, the lower one of two.
    fn median(&self, in_flight: u32, now: Moment) -> Option<u32> {
        let (mut took, mut count) = ([0; KEPT], 0);
        for slot in &self.samples {
            let sample = Sample::unpack(slot.load(Ordering::Relaxed), FRESH, now);
            if let (Some(sample), Some(place)) = (sample, took.get_mut(count)) {
                *place = sample.beside(in_flight);
                count += 1;
            }
        }
        let took = took.get_mut(..count)?;
        took.sort_unstable();
        took.get(count.checked_sub(1)? / 2).copied()
    }
}

/// One attempt: in 24 bits the time in units of 2²⁴ ns (17 ms), in 12 bits the requests in
/// flight before it, in 28 bits what it took in microseconds. 0 is none.
struct Sample {
    in_flight: u32,
    micros: u32,
}

const MAX_IN_FLIGHT: u32 = (1 << 12) - 1;
const MAX_MICROS: u32 = (1 << 28) - 1;
const TIME: u64 = (1 << 24) - 1;
/// About a second.
const AHEAD: u64 = 60;

impl Sample {
    fn pack(&self, now: Moment) -> u64 {
        let in_flight = u64::from(self.in_flight.min(MAX_IN_FLIGHT));
        // Never 0 as a whole: an attempt takes at least a microsecond.
        let micros = u64::from(self.micros.clamp(1, MAX_MICROS));
        (now.0 >> 24 & TIME) << 40 | in_flight << 28 | micros
    }

    /// What it would have taken beside `in_flight` others.
    fn beside(&self, in_flight: u32) -> u32 {
        if about(in_flight) == about(self.in_flight) {
            return self.micros;
        }
        let micros = u64::from(self.micros) * (u64::from(in_flight) + 1);
        u32::try_from(micros / (u64::from(self.in_flight) + 1)).unwrap_or(u32::MAX)
    }

    fn unpack(word: u64, max_age: Duration, now: Moment) -> Option<Self> {
        if word == 0 {
            return None;
        }
        let fresh = u128::from(age(word, now)) << 24 <= max_age.as_nanos();
        let in_flight = (word >> 28) as u32 & MAX_IN_FLIGHT;
        fresh.then_some(Self { in_flight, micros: word as u32 & MAX_MICROS })
    }
}

/// The age of a sample in units of 2²⁴ ns. Another worker's moment may be a little ahead.
fn age(word: u64, now: Moment) -> u64 {
    let age = (now.0 >> 24).wrapping_sub(word >> 40) & TIME;
    if age > TIME - AHEAD { 0 } else { age }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Reason;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const AGE: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn saw(samples: &Samples, in_flight: u32, latency: Duration, verdict: Verdict, now: Moment) {
        samples.observe(Observation { in_flight, latency, verdict }, now);
    }

    const OK: Verdict = Verdict::Responded(200);

    #[test]
    fn the_latency_to_expect_is_the_median_under_about_this_load() {
        let samples = Samples::default();
        assert_eq!(samples.probe(0, AGE, at(1)).latency, 0, "nothing is known");
        for took in [10, 90, 11, 12, 13] {
            saw(&samples, 4, MS * took, OK, at(1));
            saw(&samples, 40, MS * took * 10, OK, at(1));
        }
        assert_eq!(samples.probe(6, AGE, at(1)).latency, 12_000);
        assert_eq!(samples.probe(50, AGE, at(1)).latency, 120_000);
    }

    #[test]
    fn under_a_load_never_seen_time_is_taken_as_shared() {
        let samples = Samples::default();
        saw(&samples, 1, MS * 10, OK, at(1));
        assert_eq!(samples.probe(99, AGE, at(1)).latency, 500_000);
        assert_eq!(samples.probe(0, AGE, at(1)).latency, 5_000);
    }

    #[test]
    fn old_attempts_tell_nothing() {
        let samples = Samples::default();
        saw(&samples, 0, MS * 10, OK, at(1));
        assert_eq!(samples.probe(0, AGE, at(10)).latency, 10_000);
        assert_eq!(samples.probe(0, AGE, at(12)).latency, 0);
        saw(&samples, 0, MS * 10, OK, at(20));
        samples.forget_before(at(21));
        assert_eq!(samples.probe(0, AGE, at(21)).latency, 0);
    }

    #[test]
    fn failing_fast_is_failing_and_not_fast() {
        for verdict in [Verdict::Responded(503), Verdict::Failed(Reason::ConnectFailed)] {
            let samples = Samples::default();
            saw(&samples, 0, MS, verdict, at(1));
            let probe = samples.probe(0, AGE, at(1));
            assert!(probe.failing && probe.latency == 5_000_000, "{probe:?}");
            (0..4).for_each(|_| saw(&samples, 0, MS, OK, at(2)));
            assert!(!samples.probe(0, AGE, at(2)).failing);
        }
    }

    #[test]
    fn what_was_given_up_says_that_it_takes_longer_and_nothing_else() {
        let samples = Samples::default();
        saw(&samples, 0, MS * 10, OK, at(1));
        saw(&samples, 0, MS, Verdict::Abandoned, at(1));
        assert_eq!(samples.probe(0, AGE, at(1)).latency, 10_000);
        (0..2).for_each(|_| saw(&samples, 0, MS * 1000, Verdict::Abandoned, at(1)));
        assert_eq!(samples.probe(0, AGE, at(1)).latency, 1_000_000);
    }

    #[test]
    fn an_endpoints_own_word_counts_with_what_was_sent_since_until_it_is_old() {
        let samples = Samples::default();
        saw(&samples, 0, MS * 10, OK, at(1));
        let told = Probe { in_flight: 30, latency: 77_000, failing: false };
        samples.tell(told, 2, at(1));
        let probe = samples.probe(5, AGE * 2, at(2));
        assert_eq!((probe.in_flight, probe.latency), (33, 77_000));
        let probe = samples.probe(5, AGE * 2, at(4));
        assert_eq!(probe.in_flight, 5, "what this process sees itself");
    }

    proptest! {
        #[test]
        fn a_sample_is_read_as_it_was_written(
            in_flight in 0u32..=MAX_IN_FLIGHT,
            micros in 1u32..=MAX_MICROS,
            written: u64,
            age in 0u64..20_000_000_000,
        ) {
            let word = Sample { in_flight, micros }.pack(Moment(written));
            let read = Sample::unpack(word, FRESH, Moment(written.saturating_add(age)));
            // To about 17 ms.
            if age < 9_980_000_000 {
                let read = read.expect("fresh");
                prop_assert_eq!((read.in_flight, read.micros), (in_flight, micros));
            } else if age > 10_020_000_000 && written < u64::MAX - age {
                prop_assert!(read.is_none());
            }
        }
    }
}
