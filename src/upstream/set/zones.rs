//! Preference for endpoints in this process's own zone.
//!
//! Envoy's zone-aware routing, under the assumption that every zone with endpoints sends the same
//! load: where the own zone holds its fair share of the endpoints' weight all stays there, where
//! it holds less only as much as it can take. What spills goes to the zones that hold more than
//! their share. As endpoints of the own zone become unavailable load spills over as from a
//! priority level: at 5 of 7 all stays, below that in proportion.

use std::collections::BTreeMap;

use super::Member;
use super::levels::{Level, is_available};
use crate::ir::BalancePolicy;

/// The groups that picks go to, of those of a level that are `chosen`, and their shares, which add
/// up to 1. A share of 0 stands in for the others.
pub(super) fn zones(
    policy: &BalancePolicy,
    level: &Level<'_>,
    chosen: Vec<Member>,
    own: Option<&str>,
) -> Vec<(f64, Vec<Member>)> {
    let Some(own) = own.filter(|_| policy.zone_aware && !level.panic) else {
        return vec![(1.0, chosen)];
    };
    let is_own = |member: &Member| member.zone.as_deref() == Some(own);
    let (local, others): (Vec<Member>, Vec<Member>) = chosen.into_iter().partition(is_own);
    if local.is_empty() || others.is_empty() {
        let all = if local.is_empty() { others } else { local };
        return vec![(1.0, all)];
    }
    let capacities = capacities(level);
    let share = local_share(policy, &capacities, own);
    let (spill, rest) = with_residual(&capacities, own, others);
    let mut groups = vec![(share, local), (1.0 - share, spill), (0.0, rest)];
    groups.retain(|(_, members)| !members.is_empty());
    groups
}

/// What a zone can take.
#[derive(Clone, Copy, Debug, Default)]
struct Capacity {
    /// The weight of its endpoints.
    weight: u64,
    /// How many of them are available.
    available: usize,
    /// How many there are.
    all: usize,
}

/// By zone; endpoints whose zone is not known stand in one of their own.
type Capacities<'a> = BTreeMap<Option<&'a str>, Capacity>;

fn capacities<'a>(level: &Level<'a>) -> Capacities<'a> {
    let mut capacities = Capacities::new();
    for member in &level.all {
        let capacity = capacities.entry(member.zone.as_deref()).or_default();
        capacity.weight += u64::from(member.weight);
        capacity.available += usize::from(is_available(member));
        capacity.all += 1;
    }
    capacities
}

/// The zone's part of all weight, in fair shares: 1 is as much as the load it sends.
fn fair_shares(capacities: &Capacities<'_>, capacity: &Capacity) -> f64 {
    let sum: u64 = capacities.values().map(|capacity| capacity.weight).sum();
    capacity.weight as f64 * capacities.len() as f64 / sum.max(1) as f64
}

fn local_share(policy: &BalancePolicy, capacities: &Capacities<'_>, own: &str) -> f64 {
    let Some(capacity) = capacities.get(&Some(own)) else { return 0.0 };
    let availability = capacity.available as f64 / capacity.all.max(1) as f64;
    let healthy = (policy.overprovision.factor().max(1.0) * availability).min(1.0);
    fair_shares(capacities, capacity).min(1.0) * healthy
}

/// Parts those whose zone has something left beyond its own load from the others; where none
/// has, all are alike.
fn with_residual(
    capacities: &Capacities<'_>,
    own: &str,
    others: Vec<Member>,
) -> (Vec<Member>, Vec<Member>) {
    // What floats make of exactly fair shares is no residual.
    let has = |capacity: &Capacity| fair_shares(capacities, capacity) > 1.0 + 1e-9;
    let of = |member: &Member| capacities.get(&member.zone.as_deref()).is_some_and(has);
    debug_assert!(others.iter().all(|member| member.zone.as_deref() != Some(own)));
    match others.iter().any(of) {
        true => others.into_iter().partition(of),
        false => (others, Vec::new()),
    }
}
