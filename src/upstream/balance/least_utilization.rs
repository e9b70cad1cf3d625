//! Least utilisation: of two endpoints the one that is less busy, by what it reports (ORCA).
//!
//! Two distinct endpoints are drawn by weight. Where both have a report that counts, the lower
//! estimate of what they must be by now is picked (see [`crate::upstream::Load::estimate`]);
//! estimates that are about equal, and pairs without two reports, are settled by the requests in
//! flight per weight. Never more than two are compared: with reports that are late all would go
//! to the same one.

use std::time::Duration;

use super::choices::Choices;
use super::{Member, Pick, reciprocals};
use crate::ir::OrcaPolicy;
use crate::util::moment::Moment;

/// Least utilisation over one group of endpoints.
#[derive(Debug)]
pub struct LeastUtilization {
    choices: Choices,
    /// 1 / weight; empty where all are equal.
    reciprocals: Box<[f32]>,
    interval: Duration,
}

/// Estimates that differ by less are equal.
const EQUAL: f64 = 0.01;

struct Candidate {
    index: usize,
    estimate: Option<f64>,
    requests: f32,
}

impl Candidate {
    fn beats(&self, other: &Self) -> bool {
        match (self.estimate, other.estimate) {
            (Some(one), Some(two)) if (one - two).abs() >= EQUAL => one < two,
            _ => self.requests < other.requests,
        }
    }
}

impl LeastUtilization {
    /// Draws by `weights`.
    pub fn new(policy: &OrcaPolicy, weights: &[u32]) -> Self {
        let choices = Choices::new(weights, 2, 2);
        Self { choices, reciprocals: reciprocals(weights), interval: policy.interval }
    }

    /// How many members a pick compares.
    pub fn compared(&self) -> usize {
        self.choices.count()
    }

    /// How busy all members must be by now; infinitely where they report nothing.
    pub fn costs(&self, members: &[Member], now: Moment) -> Vec<f64> {
        let estimate = |member: &Member| {
            let endpoint = &member.endpoint;
            endpoint.load.estimate(endpoint.in_flight(), self.interval, now)
        };
        members.iter().map(|member| estimate(member).unwrap_or(f64::INFINITY)).collect()
    }

    /// The less busy member of two that were not tried.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        let now = pick.now;
        let mut best: Option<Candidate> = None;
        self.choices.each(members, pick, |index, member, _| {
            let in_flight = member.endpoint.in_flight();
            let estimate = member.endpoint.load.estimate(in_flight, self.interval, now);
            let reciprocal = self.reciprocals.get(index).copied().unwrap_or(1.0);
            let requests = (in_flight + 1) as f32 * reciprocal;
            let candidate = Candidate { index, estimate, requests };
            if best.as_ref().is_none_or(|best| candidate.beats(best)) {
                best = Some(candidate);
            }
        });
        best.map(|best| best.index)
    }
}
