//! How an endpoint is picked. A pick takes `&self`, no lock and no allocation.

mod by_load;
mod chance;
mod choices;
mod hash;
mod least_request;
mod least_utilization;
mod peak_ewma;
mod prequal;
mod sessions;
mod shares;
mod stride;
#[cfg(test)]
pub(super) mod test_support;

pub use chance::Chance;
pub use choices::{Cheapest, Choices};
pub(super) use hash::stable;
pub use hash::{ConsistentHash, Total};
pub use least_request::LeastRequest;
pub use least_utilization::LeastUtilization;
pub use peak_ewma::PeakEwma;
pub use prequal::Prequal;
pub use sessions::{Session, Sessions};
pub use shares::Shares;
pub use stride::Stride;

use std::time::Duration;

use super::{Circumstances, EndpointId, Member};
use crate::ir::{self, Balance};
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;
use crate::util::random::Random;

/// What a pick may depend on.
#[derive(Debug)]
pub struct Pick<'a> {
    /// Who picks.
    pub worker: WorkerId,
    /// When.
    pub now: Moment,
    /// Where the request has been already.
    pub tried: &'a [EndpointId],
    /// The hash of what the policy hashes, where the request has it.
    pub key: Option<u64>,
    /// The request's session, where the policy has sessions.
    pub session: Option<Session>,
    /// Chance.
    pub random: Random,
}

impl Pick<'_> {
    /// Whether the request has been there.
    #[inline]
    pub fn has_tried(&self, member: &Member) -> bool {
        self.tried.contains(&member.endpoint.id)
    }
}

/// An algorithm prepared for one group of endpoints.
pub enum Balancer {
    /// By the hash of something of the request; requests without it by the lowest load.
    Hash(ConsistentHash, LeastRequest),
    /// The lowest load of a few.
    LeastRequest(LeastRequest),
    /// The lower reported utilisation of two.
    LeastUtilization(LeastUtilization),
    /// The lowest load times latency of a few.
    PeakEwma(PeakEwma),
    /// By probes.
    Prequal(Prequal),
    /// By chance.
    Random(Chance),
    /// In turn.
    RoundRobin(Stride),
}

impl Balancer {
    /// Prepares `balance` for `members`, which are those of `among` endpoints that may be picked.
    /// `weights` are theirs of this moment, slow start included; they may be scaled.
    pub fn new(
        balance: &Balance,
        members: &[Member],
        weights: &[u32],
        among: usize,
        around: Circumstances<'_>,
    ) -> Self {
        debug_assert_eq!(members.len(), weights.len());
        let fallback = || LeastRequest::new(&ir::LeastRequest::default(), weights);
        match balance {
            Balance::PeakEwma(policy) => Self::PeakEwma(PeakEwma::new(policy, weights)),
            Balance::LeastRequest(policy) => Self::LeastRequest(LeastRequest::new(policy, weights)),
            Balance::LeastUtilization(policy) => {
                Self::LeastUtilization(LeastUtilization::new(policy, weights))
            }
            Balance::Prequal(policy) => {
                Self::Prequal(Prequal::new(policy, members, weights, around.workers))
            }
            Balance::Random => Self::Random(Chance::new(weights)),
            // Sets are built anew while weights change: a turn that always began at the same
            // endpoint would favour it.
            Balance::RoundRobin => {
                Self::RoundRobin(Stride::new(weights, around.workers, around.seed ^ around.now.0))
            }
            // A key's place does not depend on what changes by itself: no slow start here.
            Balance::Hash(policy) => {
                Self::Hash(ConsistentHash::new(policy, members, among), fallback())
            }
            Balance::WeightedByLoad(policy) => {
                let weights = by_load::weights(policy, members, weights, around.now);
                Self::RoundRobin(Stride::new(&weights, around.workers, around.seed ^ around.now.0))
            }
        }
    }

    /// How many members a pick compares, for algorithms that compare: for status pages.
    pub fn compared(&self) -> Option<usize> {
        match self {
            Self::LeastRequest(balancer) => Some(balancer.compared()),
            Self::LeastUtilization(balancer) => Some(balancer.compared()),
            Self::PeakEwma(balancer) => Some(balancer.compared()),
            Self::Hash(..) | Self::Prequal(_) | Self::Random(_) | Self::RoundRobin(_) => None,
        }
    }

    /// The weights that `balance` computes itself, 1 being the mean: for status pages. `None`
    /// where it goes by those it is given.
    pub fn computed(
        balance: &Balance,
        members: &[Member],
        weights: &[u32],
        now: Moment,
    ) -> Option<Box<[f32]>> {
        match balance {
            Balance::WeightedByLoad(policy) => {
                Some(by_load::relative(&by_load::weights(policy, members, weights, now)))
            }
            _ => None,
        }
    }

    /// What each of `members` costs now, for algorithms that go by a cost: for status pages. What
    /// is not known costs infinitely much.
    pub fn costs(&self, members: &[Member], now: Moment) -> Option<Vec<f64>> {
        match self {
            Self::LeastRequest(balancer) => Some(balancer.costs(members)),
            Self::LeastUtilization(balancer) => Some(balancer.costs(members, now)),
            Self::PeakEwma(balancer) => Some(balancer.costs(members, now)),
            Self::Hash(..) | Self::Prequal(_) | Self::Random(_) | Self::RoundRobin(_) => None,
        }
    }

    /// How long what `balance` made of its endpoints holds; `None` is until one of them changes.
    pub fn lifetime(balance: &Balance) -> Option<Duration> {
        match balance {
            Balance::WeightedByLoad(policy) => Some(by_load::lifetime(policy)),
            _ => None,
        }
    }

    /// The index of an endpoint that was not tried; `None` where there is none. `members` are
    /// those it was prepared for.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        if let [only] = members {
            return (!pick.has_tried(only)).then_some(0);
        }
        match self {
            Self::Hash(balancer, otherwise) => {
                balancer.pick(members, pick).or_else(|| otherwise.pick(members, pick))
            }
            Self::LeastRequest(balancer) => balancer.pick(members, pick),
            Self::LeastUtilization(balancer) => balancer.pick(members, pick),
            Self::PeakEwma(balancer) => balancer.pick(members, pick),
            Self::Prequal(balancer) => balancer.pick(members, pick),
            Self::Random(balancer) => balancer.pick(members, pick),
            Self::RoundRobin(stride) => in_turn(stride, members, pick),
        }
    }
}

/// The next in turn that was not tried.
#[inline]
fn in_turn(stride: &Stride, members: &[Member], pick: &Pick<'_>) -> Option<usize> {
    // As many turns as there are endpoints tried and one more, then whichever is left: a heavy
    // endpoint that was tried may come round several times.
    for _ in 0..=pick.tried.len() {
        let index = stride.next(pick.worker)?;
        if members.get(index).is_some_and(|member| !pick.has_tried(member)) {
            return Some(index);
        }
    }
    members.iter().position(|member| !pick.has_tried(member))
}

/// 1 / weight of each; empty where all weights are equal.
fn reciprocals(weights: &[u32]) -> Box<[f32]> {
    if weights.iter().all(|weight| Some(weight) == weights.first()) {
        return Box::default();
    }
    weights.iter().map(|weight| 1.0 / *weight as f32).collect()
}

#[cfg(test)]
mod tests;
