//! Upstreams and their endpoints.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{EndpointState, EndpointView, LimitsView, policy, word};
use crate::snapshot::Snapshot;
use crate::upstream::{EndpointSet, Upstream};
use crate::util::moment::Moment;

/// An upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Its name.
    pub name: String,
    /// The protocol spoken to its endpoints: `auto`, `http1`, `http1.0` or `http2`.
    pub protocol: String,
    /// Whether its endpoints are spoken to over TLS.
    pub tls: bool,
    /// The algorithm by which an endpoint is picked, as the configuration names it.
    pub algorithm: String,
    /// How an endpoint is picked, in words.
    pub balance: String,
    /// Its health checks, in words.
    pub health: Option<String>,
    /// What gets an endpoint ejected, in words.
    pub outlier: Option<String>,
    /// Its limits, and what is used of them.
    pub limits: LimitsView,
    /// How many of its endpoints are available; those that drain are not.
    pub available: usize,
    /// Whether so few of some priority level are available that availability is ignored there.
    pub panic: bool,
    /// Requests on their way to any of its endpoints.
    pub in_flight: u64,
    /// Its endpoints as declared: addresses, names and services.
    pub declared: Vec<String>,
    /// Its endpoints by address.
    pub endpoints: Vec<EndpointView>,
    /// Where it was declared.
    pub origin: String,
}

impl UpstreamView {
    /// Its endpoints that get no requests as they should.
    pub fn troubled(&self) -> impl Iterator<Item = &EndpointView> {
        self.endpoints.iter().filter(|endpoint| !endpoint.state.is_available())
    }
}

/// All upstreams, by name, as they are at `now`.
pub fn upstreams(snapshot: &Snapshot, now: Moment) -> Vec<UpstreamView> {
    snapshot.upstreams.values().map(|live| upstream(snapshot, live, now)).collect()
}

/// One upstream of `snapshot` as it is at `now`.
pub fn upstream(snapshot: &Snapshot, live: &Upstream, now: Moment) -> UpstreamView {
    let spec = &live.spec;
    // A live upstream may be older than the lines that moved it within its file.
    let declared = snapshot.config.upstreams.get(&live.name).unwrap_or(spec);
    let set = live.endpoints();
    let endpoints = endpoints(&set, now);
    UpstreamView {
        name: live.name.to_string(),
        protocol: word(&live.transport.protocol),
        tls: live.transport.tls.is_some(),
        algorithm: policy::algorithm(&spec.balance.algorithm).to_owned(),
        balance: policy::balance(&spec.balance),
        health: spec.health.as_deref().map(policy::health),
        outlier: spec.outlier.as_deref().map(policy::outlier),
        limits: LimitsView::new(&live.limits, now),
        available: endpoints.iter().filter(|endpoint| endpoint.state.is_available()).count(),
        panic: set.groups().iter().any(|group| group.panic),
        in_flight: endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum(),
        declared: spec.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        endpoints,
        origin: declared.origin.to_string(),
    }
}

/// The endpoints of `set`, each with its place among the others.
fn endpoints(set: &EndpointSet, now: Moment) -> Vec<EndpointView> {
    let mut endpoints: Vec<_> =
        set.members().iter().map(|member| EndpointView::new(member, now)).collect();
    let places: HashMap<_, _> =
        set.members().iter().enumerate().map(|(n, member)| (member.endpoint.id, n)).collect();
    for group in set.groups() {
        let sum: f64 = group.weights.iter().map(|weight| f64::from(*weight)).sum();
        let costs = group.costs(now).unwrap_or_default();
        for (index, (member, weight)) in group.members.iter().zip(&group.weights).enumerate() {
            let place = places.get(&member.endpoint.id);
            let Some(view) = place.and_then(|place| endpoints.get_mut(*place)) else { continue };
            let weight = f64::from(*weight);
            view.effective_weight = Some(weight);
            view.share = Some(group.share * weight / sum.max(f64::MIN_POSITIVE));
            view.cost = costs.get(index).copied().filter(|cost| cost.is_finite());
            if view.draining && view.state == EndpointState::Draining {
                view.why = Some("it serves because no other can".to_owned());
            }
        }
    }
    endpoints
}
