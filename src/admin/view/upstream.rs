//! Upstreams and their endpoints.

use serde::{Deserialize, Serialize};

use super::word;
use crate::snapshot::Snapshot;
use crate::upstream::{Member, Upstream};

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// Its name.
    pub name: String,
    /// The protocol spoken to its endpoints: `auto`, `http1` or `http2`.
    pub protocol: String,
    /// Whether its endpoints are spoken to over TLS.
    pub tls: bool,
    /// How an endpoint is picked.
    pub balance: String,
    /// Requests on their way to any of its endpoints.
    pub in_flight: u64,
    /// Its endpoints as declared: addresses, names and services.
    pub declared: Vec<String>,
    /// Its endpoints by address.
    pub endpoints: Vec<EndpointView>,
    /// Where it was declared.
    pub origin: String,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Address and port.
    pub address: String,
    /// The DNS name it was resolved from.
    pub host: Option<String>,
    /// Its share relative to the others.
    pub weight: u32,
    /// Requests on their way to it.
    pub in_flight: u32,
    /// Open connections to it.
    pub connections: u64,
    /// Whether no configuration names it any more; it is closed after use.
    pub retired: bool,
}

/// All upstreams, by name.
pub fn upstreams(snapshot: &Snapshot) -> Vec<UpstreamView> {
    snapshot.upstreams.values().map(|live| upstream(snapshot, live)).collect()
}

/// One upstream.
pub fn upstream(snapshot: &Snapshot, live: &Upstream) -> UpstreamView {
    let spec = snapshot.config.upstreams.get(&live.name);
    let set = live.endpoints();
    let endpoints: Vec<_> = set
        .members()
        .iter()
        .map(|Member { endpoint, weight, .. }| EndpointView {
            address: endpoint.address.to_string(),
            host: endpoint.host.as_ref().map(ToString::to_string),
            weight: *weight,
            in_flight: endpoint.in_flight(),
            connections: endpoint.metrics.connections(),
            retired: endpoint.is_retired(),
        })
        .collect();
    let declared = spec.iter().flat_map(|spec| &spec.endpoints);
    UpstreamView {
        name: live.name.to_string(),
        protocol: word(&live.transport.protocol),
        tls: live.transport.tls.is_some(),
        balance: spec.map(|spec| word(&spec.balance.algorithm)).unwrap_or_default(),
        in_flight: endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum(),
        declared: declared.map(|endpoint| endpoint.address.to_string()).collect(),
        endpoints,
        origin: spec.map(|spec| spec.origin.to_string()).unwrap_or_default(),
    }
}
