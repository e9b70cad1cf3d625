//! The endpoints of an upstream at one moment, with everything a pick needs precomputed.
//!
//! Whether an endpoint is available, and at which weight, is settled when a set is built. When
//! that changes the upkeep builds another set; a pick never looks for itself. What narrows a pick
//! makes groups, and a balancer balances over one group: draining, then priority levels and
//! panic, then the subset, then zones, then slow start.

mod levels;
mod slow_start;
mod subset;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use super::Endpoint;
use super::balance::{Balancer, Pick, Session, Sessions, stable};
use crate::ir::BalancePolicy;
use crate::util::moment::Moment;
use crate::util::random::Random;

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
    /// In the order in which they stand in for each other.
    groups: Box<[Group]>,
    sessions: Option<Box<Sessions>>,
    /// When weights have changed by themselves.
    refresh_at: Option<Moment>,
}

/// Endpoints that are balanced over together.
pub struct Group {
    /// Those that may be picked.
    pub members: Box<[Member]>,
    /// Their weights of this moment, slow start included; 1 stays 1.
    pub weights: Box<[f32]>,
    /// Its share of all picks; 0 only stands in for the others.
    pub share: f64,
    /// Whether availability is ignored, because too little of it is left.
    pub panic: bool,
    balancer: Balancer,
    /// The picks up to this number, of all 2⁶⁴, are this group's and those before it.
    up_to: u64,
}

impl EndpointSet {
    /// A set over `members`, each available or not at this moment.
    pub fn build(policy: &BalancePolicy, members: Vec<Member>, around: Circumstances<'_>) -> Self {
        let mut groups = Vec::new();
        let mut refresh: Option<Duration> = Balancer::lifetime(&policy.algorithm);
        let (mut sum, all, among) = (0.0, 2f64.powi(64), members.len());
        for mut level in levels::levels(policy, &members) {
            let usable = std::mem::take(&mut level.members);
            let chosen = subset::subset(policy.subset, usable, around.seed);
            for (part, members) in zones::zones(policy, &level, chosen, around.zone) {
                let slow = slow_start::weights(&policy.slow_start, &members, around.now);
                refresh = refresh.into_iter().chain(slow.refresh).min();
                let balancer =
                    Balancer::new(&policy.algorithm, &members, &slow.weights, among, around);
                let algorithm = &policy.algorithm;
                let weights = Balancer::computed(algorithm, &members, &slow.weights, around.now)
                    .unwrap_or_else(|| slow.unscaled());
                sum += level.share * part;
                // Saturates at the greatest number.
                let up_to = (sum * all) as u64;
                groups.push(Group {
                    members: members.into(),
                    weights,
                    share: level.share * part,
                    panic: level.panic,
                    balancer,
                    up_to,
                });
            }
        }
        let refresh_at = refresh.map(|after| around.now.after(after));
        let affinity = policy.affinity.as_ref();
        let sessions = affinity.map(|affinity| Box::new(Sessions::new(affinity.mode, &members)));
        Self { members: members.into(), groups: groups.into(), sessions, refresh_at }
    }

    /// Picks an endpoint that is not among those tried; `None` where there is none that may be
    /// picked.
    #[inline]
    pub fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Endpoint>> {
        if let Some(endpoint) = self.of_session(pick) {
            return Some(endpoint);
        }
        match &*self.groups {
            [] => None,
            [only] => only.pick(pick),
            several => pick_of(several, pick),
        }
    }

    /// Whether it has nobody who could be picked. (Those that drain are in a group where nobody else
    /// is available, so neither has any session.)
    pub fn serves_nobody(&self) -> bool {
        self.groups.is_empty()
    }

    /// The endpoint of the request's session; `None` where it has none that can serve it.
    #[inline]
    pub fn of_session(&self, pick: &Pick<'_>) -> Option<&Arc<Endpoint>> {
        self.sessions.as_ref()?.find(pick)
    }

    /// Whether a session that is not bound belongs to `endpoint`, as far as that is settled here.
    pub fn is_home(&self, session: &Session, endpoint: &Endpoint) -> bool {
        self.sessions.as_ref().is_none_or(|sessions| sessions.is_home(session, endpoint))
    }

    /// A key for a session that is to stay with `endpoint`; `None` where none was found.
    pub fn key_for(&self, endpoint: &Endpoint, random: Random) -> Option<u64> {
        self.sessions.as_ref()?.key_for(endpoint, random)
    }

    /// All endpoints in declaration order, available or not.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What is balanced over, in the order in which groups stand in for each other.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// When the set should be built anew although nothing else happens: weights change by
    /// themselves while endpoints start slowly, and where they follow reports.
    pub fn refresh_at(&self) -> Option<Moment> {
        self.refresh_at
    }
}

impl Group {
    /// How many members a pick compares; `None` where it goes by something else.
    pub fn compared(&self) -> Option<usize> {
        self.balancer.compared()
    }

    /// What each of the members costs now, for algorithms that go by a cost; the cheaper of those
    /// compared is picked. Not for workers.
    pub fn costs(&self, now: Moment) -> Option<Vec<f64>> {
        self.balancer.costs(&self.members, now)
    }

    #[inline]
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Endpoint>> {
        let index = self.balancer.pick(&self.members, pick)?;
        self.members.get(index).map(|member| &member.endpoint)
    }
}

/// From the group that is drawn; where all of that was tried, from whichever comes first.
fn pick_of<'a>(groups: &'a [Group], pick: &mut Pick<'_>) -> Option<&'a Arc<Endpoint>> {
    // Requests that belong together go to one group, too.
    let number = match pick.key {
        Some(key) => stable(key, 0x6009),
        None => pick.random.draw(),
    };
    let drawn = groups.iter().find(|group| number < group.up_to);
    if let Some(endpoint) = drawn.and_then(|group| group.pick(pick)) {
        return Some(endpoint);
    }
    groups.iter().find_map(|group| group.pick(pick))
}

#[cfg(test)]
mod tests;
