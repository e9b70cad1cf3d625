//! Peak EWMA: requests in flight times what the endpoint's latency has been lately.
//!
//! After Finagle's balancer of that name: `latency × (in flight + 1) / weight`, in which the
//! latency is an average that jumps to every peak at once and comes down slowly
//! (`endpoint::Latency`). Of two endpoints drawn by weight the cheaper is picked; small groups
//! are compared as a whole.

use super::choices::{Cheapest, Choices};
use super::{Member, Pick, reciprocals};
use crate::ir;
use crate::upstream::endpoint::LatencyRule;
use crate::util::moment::Moment;

/// Peak EWMA over one group of endpoints.
#[derive(Debug)]
pub struct PeakEwma {
    choices: Choices,
    rule: LatencyRule,
    /// 1 / weight; empty where all are equal.
    reciprocals: Box<[f32]>,
}

/// How many are compared, and up to how many endpoints all are.
const CHOICES: usize = 2;
const FULL_SCAN: usize = 4;

impl PeakEwma {
    /// Picks by `weights`.
    pub fn new(policy: &ir::PeakEwma, weights: &[u32]) -> Self {
        let choices = Choices::new(weights, CHOICES, FULL_SCAN);
        Self { choices, rule: LatencyRule::new(policy), reciprocals: reciprocals(weights) }
    }

    /// How many members a pick compares.
    pub fn compared(&self) -> usize {
        self.choices.count()
    }

    /// The costs of all members, in milliseconds; of one nothing is known of as if it were as fast
    /// as the fastest, or as the default where that is faster.
    pub fn costs(&self, members: &[Member], now: Moment) -> Vec<f64> {
        let expected = |member: &Member| member.endpoint.latency.expected(&self.rule, now);
        let fastest = members.iter().filter_map(expected).fold(f32::INFINITY, f32::min);
        let assumed = self.rule.default_latency().min(fastest);
        let cost = |(index, member): (usize, &Member)| {
            let reciprocal = self.reciprocals.get(index).copied().unwrap_or(1.0);
            let load = (member.endpoint.in_flight() + 1) as f32 * reciprocal;
            f64::from(expected(member).unwrap_or(assumed) * load) / 1e6
        };
        members.iter().enumerate().map(cost).collect()
    }

    /// The member of the lowest cost among those compared that were not tried.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        // Of an endpoint nothing is known of one request at a time finds out; it is taken for as
        // fast as the fastest it is compared with, or as the default where that is faster.
        let (mut known, mut new, mut probed) = (Cheapest::NONE, Cheapest::NONE, Cheapest::NONE);
        let mut fastest = f32::INFINITY;
        let (now, all) = (pick.now, self.choices.is_all());
        self.choices.each(members, pick, |index, member, random| {
            let endpoint = &member.endpoint;
            let in_flight = endpoint.in_flight();
            let reciprocal = self.reciprocals.get(index).copied().unwrap_or(1.0);
            let weight = if all { 1.0 / reciprocal } else { 0.0 };
            let load = (in_flight + 1) as f32 * reciprocal;
            match (endpoint.latency.expected(&self.rule, now), in_flight) {
                (Some(latency), _) => {
                    // Who has owed answers for longer than it usually takes is slow already.
                    let silence = endpoint.awaited.silence(now) as f32 * 1e6;
                    let latency = latency.max(silence);
                    fastest = fastest.min(latency);
                    known.offer(index, latency * load, weight, random);
                }
                (None, 0) => new.offer(index, load, weight, random),
                (None, _) => probed.offer(index, load, weight, random),
            }
        });
        let new_cost = new.cost * self.rule.default_latency().min(fastest);
        if new.index.is_some() && new_cost <= known.cost {
            return new.index;
        }
        known.index.or(new.index).or(probed.index)
    }
}
