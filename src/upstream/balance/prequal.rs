//! Prequal (Wydrowski, Kleinberg, Rumble, Archer: "Load is not what you should balance",
//! NSDI 2024): probes of a few endpoints at random, and the hot-cold rule over those that are
//! kept.
//!
//! A probe is the requests in flight and the latency to expect of one endpoint. An endpoint is
//! hot where its requests in flight are above a quantile of what recent probes saw; of the cold
//! ones that with the lowest latency is picked, and where all are hot that with the fewest
//! requests in flight. Probes are used a few times, age, and go, the oldest and the worst in
//! turn, so that what is kept stays a fair sample.
//!
//! A proxy sees all requests of its endpoints itself: a probe reads live state and costs no
//! message, so each request's own probes count for it already. Two things are added. Endpoints
//! whose attempts fail, or take several times as long as those of others, are hot whatever their
//! load: what was given up there is no longer in flight, and idleness would attract. And probes
//! are drawn by weight.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::chance::REDRAWS;
use super::{LeastRequest, Member, Pick, Shares};
use crate::ir::{self, PrequalPolicy};
use crate::util::moment::Moment;
use crate::util::random::Random;

/// Prequal over one group of endpoints.
pub struct Prequal {
    shares: Shares,
    probes: f64,
    /// Probes taken out for each request.
    removals: f64,
    /// How often a probe is used.
    reuse: f64,
    hot: f64,
    max_age: Duration,
    pools: Box<[Pool]>,
    /// Where fewer than two probes are there.
    fallback: LeastRequest,
}

/// The most probes kept.
const MOST_KEPT: usize = 64;
/// The most probes of one request.
const MOST_PROBES: usize = 16;
/// How fast the pool grows, as a share of what each request uses up: δ in the paper, and its
/// value there.
const GAIN: f64 = 1.0;

impl Prequal {
    /// Prequal by `policy` for `members` of these `weights` and `workers` workers. One probe is
    /// taken out for every three that are made, as in the paper's testbed, one at most.
    pub fn new(
        policy: &PrequalPolicy,
        members: &[Member],
        weights: &[u32],
        workers: usize,
    ) -> Self {
        members.iter().for_each(|member| member.endpoint.keep_samples());
        let count = members.len();
        let kept = usize::try_from(policy.pool).unwrap_or(MOST_KEPT).clamp(2, MOST_KEPT);
        let kept = kept.min(count);
        let probes = policy.probes.factor().clamp(0.0, MOST_PROBES as f64);
        let removals = (probes / 3.0).min(1.0);
        // A probe of an endpoint that is kept already replaces the one before.
        let fresh = (1.0 - kept as f64 / count.max(1) as f64) * probes;
        let reuse = match fresh - removals {
            gain if gain > 0.0 => ((1.0 + GAIN) / gain).max(1.0),
            _ => f64::INFINITY,
        };
        Self {
            shares: Shares::new(weights),
            probes,
            removals,
            reuse,
            hot: policy.hot.factor().clamp(0.0, 1.0),
            max_age: policy.max_age,
            pools: (0..workers.max(1)).map(|_| Pool::new(kept)).collect(),
            fallback: LeastRequest::new(&ir::LeastRequest::default(), weights),
        }
    }

    /// An endpoint that was not tried; `None` where there is none.
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        let pool = self.pools.get(pick.worker.0 % self.pools.len().max(1))?;
        pool.expire(self.max_age, pick.now);
        self.probe_some(pool, members, pick);
        let suits = |index: usize| members.get(index).is_some_and(|member| !pick.has_tried(member));
        let best = if pool.len() < 2 { None } else { pool.best(suits) };
        let picked = match best {
            Some(entry) => Some(pool.use_up(entry)),
            None => {
                let picked = self.fallback.pick(members, pick);
                picked.inspect(|index| pool.dispatched(*index))
            }
        };
        for _ in 0..rounded(self.removals, &mut pick.random) {
            pool.remove_one();
        }
        picked
    }

    /// Probes as many distinct endpoints as this request's turn brings.
    fn probe_some(&self, pool: &Pool, members: &[Member], pick: &mut Pick<'_>) {
        let count = rounded(self.probes, &mut pick.random) as usize;
        if count >= members.len() {
            (0..members.len()).for_each(|index| self.probe(pool, index, members, pick));
            return;
        }
        let mut probed = [usize::MAX; MOST_PROBES];
        for place in 0..count.min(MOST_PROBES) {
            let next = (0..REDRAWS).find_map(|_| {
                let index = self.shares.draw(&mut pick.random);
                probed.iter().take(place).all(|before| *before != index).then_some(index)
            });
            let (Some(index), Some(slot)) = (next, probed.get_mut(place)) else { return };
            *slot = index;
            self.probe(pool, index, members, pick);
        }
    }

    fn probe(&self, pool: &Pool, index: usize, members: &[Member], pick: &mut Pick<'_>) {
        let Some(member) = members.get(index) else { return };
        let endpoint = &member.endpoint;
        let Some(samples) = endpoint.samples() else { return };
        let probe = samples.probe(endpoint.in_flight(), self.max_age, pick.now);
        let uses = rounded(self.reuse.min(1e6), &mut pick.random);
        let strange = probe.failing || probe.latency > pool.seen.strange_above.get();
        if !probe.failing {
            pool.seen.note(probe.in_flight, probe.latency, self.hot);
        }
        let in_flight = if strange { HOTTEST } else { probe.in_flight };
        pool.put(index, in_flight, probe.latency, uses, pick.now);
    }
}

/// What counts as in flight to endpoints that do not work as they should.
const HOTTEST: u32 = 1 << 30;

/// The number rounded up in that share of all cases that its fraction is, else down.
fn rounded(number: f64, random: &mut Random) -> u32 {
    let whole = number.floor();
    let fraction = number - whole;
    whole as u32 + u32::from(fraction > 0.0 && random.unit() < fraction)
}

/// One worker's probes. Only its worker writes.
#[repr(align(128))]
struct Pool {
    len: Number,
    /// Whether the next one taken out is the worst, rather than the oldest.
    worst: Number,
    seen: Seen,
    entries: Box<[Entry]>,
}

/// A number with one writer.
#[derive(Default)]
struct Number(AtomicU32);

impl Number {
    #[inline]
    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
    }
}

/// One probe.
#[derive(Default)]
struct Entry {
    index: Number,
    in_flight: Number,
    latency: Number,
    uses: Number,
    at: AtomicU64,
}

impl Entry {
    fn copy_from(&self, other: &Self) {
        self.index.set(other.index.get());
        self.in_flight.set(other.in_flight.get());
        self.latency.set(other.latency.get());
        self.uses.set(other.uses.get());
        self.at.store(other.at.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn at(&self) -> Moment {
        Moment(self.at.load(Ordering::Relaxed))
    }

    /// Lower is better: the cold ones by latency before the hot ones by requests in flight.
    fn rank(&self, hot_above: u32) -> (bool, u32, u32) {
        let (in_flight, latency) = (self.in_flight.get(), self.latency.get());
        match in_flight > hot_above {
            false => (false, latency, in_flight),
            true => (true, in_flight, latency),
        }
    }
}

impl Pool {
    fn new(kept: usize) -> Self {
        let entries = (0..kept).map(|_| Entry::default()).collect();
        Self { len: Number::default(), worst: Number::default(), seen: Seen::default(), entries }
    }

    fn len(&self) -> usize {
        self.len.get() as usize
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        (0..).zip(self.entries.iter().take(self.len()))
    }

    fn expire(&self, max_age: Duration, now: Moment) {
        while let Some((place, _)) =
            self.entries().find(|(_, entry)| now.since(entry.at()) > max_age)
        {
            self.remove(place);
        }
    }

    /// Puts a probe in: over the one of the same endpoint, or over the oldest where it is full.
    fn put(&self, index: usize, in_flight: u32, latency: u32, uses: u32, now: Moment) {
        let same = self.entries().find(|(_, entry)| entry.index.get() as usize == index);
        let place = match same {
            Some((place, _)) => place,
            None if self.len() < self.entries.len() => {
                self.len.set(self.len.get() + 1);
                self.len() - 1
            }
            None => self.oldest().unwrap_or(0),
        };
        if let Some(entry) = self.entries.get(place) {
            entry.index.set(index as u32);
            entry.in_flight.set(in_flight);
            entry.latency.set(latency);
            entry.uses.set(uses);
            entry.at.store(now.0, Ordering::Relaxed);
        }
    }

    fn best(&self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let hot_above = self.seen.hot_above.get();
        let suiting = self.entries().filter(|(_, entry)| suits(entry.index.get() as usize));
        suiting.min_by_key(|(_, entry)| entry.rank(hot_above)).map(|(place, _)| place)
    }

    /// Uses the probe at `place` for a request and returns its endpoint.
    fn use_up(&self, place: usize) -> usize {
        let Some(entry) = self.entries.get(place) else { return 0 };
        let index = entry.index.get() as usize;
        entry.in_flight.set(entry.in_flight.get().saturating_add(1));
        entry.uses.set(entry.uses.get().saturating_sub(1));
        if entry.uses.get() == 0 {
            self.remove(place);
        }
        index
    }

    /// Counts a request that goes to an endpoint for another reason.
    fn dispatched(&self, index: usize) {
        if let Some((_, entry)) =
            self.entries().find(|(_, entry)| entry.index.get() as usize == index)
        {
            entry.in_flight.set(entry.in_flight.get().saturating_add(1));
        }
    }

    fn remove_one(&self) {
        let worst = self.worst.get() == 1;
        self.worst.set(u32::from(!worst));
        let hot_above = self.seen.hot_above.get();
        let place = match worst {
            true => self.entries().max_by_key(|(_, entry)| entry.rank(hot_above)),
            false => self.entries().min_by_key(|(_, entry)| entry.at()),
        };
        if let Some((place, _)) = place {
            self.remove(place);
        }
    }

    fn oldest(&self) -> Option<usize> {
        self.entries().min_by_key(|(_, entry)| entry.at()).map(|(place, _)| place)
    }

    fn remove(&self, place: usize) {
        let last = self.len().saturating_sub(1);
        if let (Some(hole), Some(last)) = (self.entries.get(place), self.entries.get(last)) {
            hole.copy_from(last);
        }
        self.len.set(last as u32);
    }
}

/// What recent probes saw, and what follows for the next ones.
struct Seen {
    count: Number,
    in_flight: [Number; REMEMBERED],
    latency: [Number; REMEMBERED],
    /// More requests in flight are hot.
    hot_above: Number,
    /// A longer latency is out of all proportion.
    strange_above: Number,
}

const REMEMBERED: usize = 64;
/// After how many probes the bounds are computed again.
const RECOMPUTE: u32 = 16;
/// How many times the median a latency may be.
const PROPORTION: u32 = 8;

impl Default for Seen {
    fn default() -> Self {
        let none = || std::array::from_fn(|_| Number::default());
        let strange_above = Number::default();
        strange_above.set(u32::MAX);
        let (count, hot_above) = (Number::default(), Number::default());
        Self { count, in_flight: none(), latency: none(), hot_above, strange_above }
    }
}

impl Seen {
    fn note(&self, in_flight: u32, latency: u32, hot: f64) {
        let count = self.count.get();
        let place = count as usize % REMEMBERED;
        if let (Some(one), Some(two)) = (self.in_flight.get(place), self.latency.get(place)) {
            one.set(in_flight);
            two.set(latency);
        }
        self.count.set(count.checked_add(1).unwrap_or(REMEMBERED as u32));
        if count < RECOMPUTE || count.is_multiple_of(RECOMPUTE) {
            let known = REMEMBERED.min(self.count.get() as usize);
            self.hot_above.set(quantile(&self.in_flight, known, hot));
            let median = quantile(&self.latency, known, 0.5);
            let strange = if median == 0 { u32::MAX } else { median.saturating_mul(PROPORTION) };
            self.strange_above.set(strange);
        }
    }
}

fn quantile(numbers: &[Number; REMEMBERED], known: usize, quantile: f64) -> u32 {
    let mut copy = [0; REMEMBERED];
    copy.iter_mut().zip(numbers).for_each(|(copy, number)| *copy = number.get());
    let Some(known) = copy.get_mut(..known) else { return 0 };
    let place = (known.len().saturating_sub(1) as f64 * quantile).floor() as usize;
    if place >= known.len() {
        return 0;
    }
    let (_, number, _) = known.select_nth_unstable(place);
    *number
}

#[cfg(test)]
mod tests;
