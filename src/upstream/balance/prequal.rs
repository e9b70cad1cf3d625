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
//! message, so each request's own probes count for it already, and what this process has sent and
//! seen come back since a probe is added to it. Three things differ from the paper:
//!
//! - Latencies within half of the lowest are equal, and of those endpoints the one with the
//!   fewest requests in flight is picked. They are medians of few attempts; to rank by them
//!   crowds all requests onto the one that was lucky until it is hot.
//! - Endpoints whose attempts fail, or take several times as long as those of others, are hot
//!   whatever their load: what was given up there is no longer in flight, and idleness would
//!   attract.
//! - Probes are drawn by weight.

mod pool;
mod seen;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::pool::Pool;
use super::chance::REDRAWS;
use super::{LeastRequest, Member, Pick, Shares};
use crate::ir::{self, PrequalPolicy};
use crate::upstream::Probe;
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
        let suits = |member: &Member| !pick.has_tried(member);
        let best = if pool.len() < 2 { None } else { pool.best(members, suits) };
        let picked = match best {
            Some(place) => Some(pool.use_up(place)),
            None => self.fallback.pick(members, pick),
        };
        for _ in 0..rounded(self.removals, &mut pick.random) {
            pool.remove_one(members);
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
        let beside = endpoint.in_flight();
        let probe = samples.probe(beside, self.max_age, pick.now);
        let uses = rounded(self.reuse.min(1e6), &mut pick.random);
        let strange = probe.failing || probe.latency > pool.seen.strange_above.get();
        if !probe.failing {
            pool.seen.note(probe.in_flight, probe.latency, self.hot);
        }
        let in_flight = if strange { HOTTEST } else { probe.in_flight };
        pool.put(index, Probe { in_flight, ..probe }, beside, uses, pick.now);
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

#[cfg(test)]
mod tests;
