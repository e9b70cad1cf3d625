//! The endpoints of an upstream at one moment, with everything a pick needs precomputed.
//!
//! Whether an endpoint is available, and at which weight, is settled when a set is built. When
//! that changes the upkeep builds another set; a pick never looks for itself.

use std::sync::Arc;

use super::Endpoint;
use super::balance::{Balancer, Pick};
use crate::ir::BalancePolicy;
use crate::util::moment::Moment;

/// An endpoint in a set.
#[derive(Clone, Debug)]
pub struct Member {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its share, at least 1.
    pub weight: u32,
    /// Its priority level, 0 first.
    pub priority: u32,
    /// The zone it stands in.
    pub zone: Option<Arc<str>>,
    /// Whether it is going away: it gets no new requests while others live, except those of its
    /// sessions.
    pub draining: bool,
}

/// What a set is built from besides its members.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// How many workers pick.
    pub workers: usize,
    /// The zone of this process.
    pub zone: Option<&'a str>,
    /// This process's own seed.
    pub seed: u64,
    /// When the set is built.
    pub now: Moment,
}

/// An immutable set of endpoints and the balancers over it.
pub struct EndpointSet {
    members: Box<[Member]>,
    group: Group,
}

struct Group {
    members: Box<[Member]>,
    balancer: Balancer,
}

impl EndpointSet {
    /// A set over `members`, each available or not at this moment.
    pub fn build(policy: &BalancePolicy, members: Vec<Member>, around: Circumstances<'_>) -> Self {
        let members: Box<[Member]> = members.into();
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        let balancer = Balancer::new(&policy.algorithm, &weights, around);
        Self { group: Group { members: members.clone(), balancer }, members }
    }

    /// Picks an endpoint that is not among those tried; `None` where there is none.
    pub fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Endpoint>> {
        let index = self.group.balancer.pick(&self.group.members, pick)?;
        self.group.members.get(index).map(|member| &member.endpoint)
    }

    /// All endpoints in declaration order, available or not.
    pub fn members(&self) -> &[Member] {
        &self.members
    }
}
