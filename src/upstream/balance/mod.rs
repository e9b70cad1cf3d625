//! How an endpoint is picked. A pick takes `&self`, no lock and no allocation.

mod hash;
mod sequence;
mod sessions;
#[cfg(test)]
pub(super) mod test_support;

pub use hash::{ConsistentHash, Total};
pub use sequence::Sequence;
pub use sessions::{Session, Sessions};

use super::{Circumstances, EndpointId, Member};
use crate::ir::Balance;
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
    /// In turn, by weight.
    RoundRobin(Sequence),
}

impl Balancer {
    /// Prepares `balance` for endpoints of these weights.
    pub fn new(balance: &Balance, weights: &[u32], around: Circumstances<'_>) -> Self {
        let _ = balance;
        Self::RoundRobin(Sequence::new(weights, around.workers))
    }

    /// The index of an endpoint that was not tried; `None` where there is none. `members` are
    /// those it was prepared for.
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        // As many turns as there are endpoints tried and one more, then whichever is left: a
        // weighted sequence may come back to a tried endpoint several times in a row.
        for _ in 0..=pick.tried.len() {
            let index = match self {
                Self::RoundRobin(sequence) => sequence.next(pick.worker)?,
            };
            if members.get(index).is_some_and(|member| !pick.has_tried(member)) {
                return Some(index);
            }
        }
        members.iter().position(|member| !pick.has_tried(member))
    }
}
