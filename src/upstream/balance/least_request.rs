//! Least request: the fewest requests in flight per weight.
//!
//! Mitzenmacher's power of two choices (2001), with distinct choices drawn by weight and compared
//! by `(in flight + 1) / weight`; small groups are compared as a whole.

use super::choices::{Cheapest, Choices};
use super::{Member, Pick, reciprocals};
use crate::ir;

/// Least request over one group of endpoints.
#[derive(Debug)]
pub struct LeastRequest {
    choices: Choices,
    /// 1 / weight; empty where all are equal.
    reciprocals: Box<[f32]>,
}

impl LeastRequest {
    /// Picks by `weights`.
    pub fn new(policy: &ir::LeastRequest, weights: &[u32]) -> Self {
        let choices = Choices::new(weights, policy.choices as usize, policy.full_scan as usize);
        Self { choices, reciprocals: reciprocals(weights) }
    }

    /// How many members a pick compares.
    pub fn compared(&self) -> usize {
        self.choices.count()
    }

    /// The loads of all members, in requests.
    pub fn costs(&self, members: &[Member]) -> Vec<f64> {
        let load = |(index, member): (usize, &Member)| {
            let reciprocal = self.reciprocals.get(index).copied().unwrap_or(1.0);
            f64::from((member.endpoint.in_flight() + 1) as f32 * reciprocal)
        };
        members.iter().enumerate().map(load).collect()
    }

    /// The member of the lowest load among those compared that were not tried.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        let (mut idle, mut least) = (Cheapest::NONE, Cheapest::NONE);
        let mut busy = false;
        let all = self.choices.is_all();
        self.choices.each(members, pick, |index, member, random| {
            let in_flight = member.endpoint.in_flight();
            let reciprocal = self.reciprocals.get(index).copied().unwrap_or(1.0);
            let weight = if all { 1.0 / reciprocal } else { 0.0 };
            least.offer(index, (in_flight + 1) as f32 * reciprocal, weight, random);
            if in_flight == 0 {
                idle.offer(index, 0.0, weight, random);
            } else {
                busy = true;
            }
        });
        // Where nobody has anything to do the heaviest would get all there is.
        if busy { least.index } else { idle.index }
    }
}
