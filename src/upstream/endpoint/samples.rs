//! What recent attempts at an endpoint took, and under which load: where Prequal's probes find
//! the latency to expect.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::{Observation, Verdict};
use crate::util::moment::Moment;

/// How many attempts are remembered.
const KEPT: usize = 16;
/// How many of them, those nearest to the load of now, an estimate is made of.
const NEAREST: usize = 5;
/// How long an attempt tells something.
const FRESH: Duration = Duration::from_secs(10);
/// What a failure counts as: a fast error must not look like a fast endpoint.
const PENALTY: Duration = Duration::from_secs(5);

/// Attempts at one endpoint, the oldest overwritten first, and its own word where it is probed.
/// All workers write; a sample is one word.
#[derive(Debug, Default)]
pub struct Samples {
    next: AtomicU32,
    samples: [AtomicU64; KEPT],
    /// What the endpoint itself told of its load, in one word like a sample.
    told: AtomicU64,
    /// Requests in flight from this process when it told that.
    told_beside: AtomicU32,
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
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize % KEPT;
        if let Some(slot) = self.samples.get(place) {
            slot.store(Sample { in_flight, micros: micros(latency) }.pack(now), Ordering::Relaxed);
        }
    }

    /// Forgets attempts that ended before `then`.
    pub fn forget_before(&self, then: Moment) {
        for slot in &self.samples {
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

    /// The median of what recent attempts took that began under about this load.
    fn expected(&self, in_flight: u32, now: Moment) -> Probe {
        let mut nearest = Nearest::default();
        for slot in &self.samples {
            if let Some(sample) = Sample::unpack(slot.load(Ordering::Relaxed), FRESH, now) {
                nearest.offer(sample.in_flight.abs_diff(in_flight), sample.micros);
            }
        }
        let latency = nearest.median();
        Probe { in_flight, latency, failing: latency >= micros(PENALTY) }
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

/// The samples nearest to a load, nearest first.
#[derive(Default)]
struct Nearest {
    kept: [(u32, u32); NEAREST],
    count: usize,
}

impl Nearest {
    fn offer(&mut self, distance: u32, micros: u32) {
        let place = self.kept.iter().take(self.count).take_while(|kept| kept.0 <= distance).count();
        let mut carried = (distance, micros);
        for slot in self.kept.iter_mut().skip(place) {
            std::mem::swap(slot, &mut carried);
        }
        self.count = (self.count + 1).min(NEAREST);
    }

    /// The median of what they took, the lower one of two; 0 of none.
    fn median(&mut self) -> u32 {
        let Some(kept) = self.kept.get_mut(..self.count) else { return 0 };
        kept.sort_unstable_by_key(|(_, micros)| *micros);
        let middle = self.count.saturating_sub(1) / 2;
        kept.get(middle).map_or(0, |(_, micros)| *micros)
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
