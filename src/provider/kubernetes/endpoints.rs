//! The endpoints of Services, out of their EndpointSlices.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ir::{EndpointAddress, EndpointSpec, Name};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::{Inputs, Key};
use crate::ir;

/// Which port of its Service an upstream stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// The port's name in the Service and its slices; empty where it has none.
    pub name: Arc<str>,
    /// The Service's own port.
    pub number: u16,
    /// The port of its pods, where the Service has it as a number.
    pub target: Option<u16>,
}

/// Upstreams by name that are made from one Service, each from one of its ports.
pub type ServiceUpstreams = BTreeMap<Name, ServicePort>;

/// The endpoints of the upstreams that are made from `service`, as its slices have them now. Those
/// that are ready serve; those that are shut down but still serve are draining.
pub fn endpoints(
    inputs: &Inputs,
    service: &Key,
    upstreams: &ServiceUpstreams,
) -> BTreeMap<Name, Vec<EndpointSpec>> {
    let slices = inputs.slices.get(service);
    let slices: Vec<&EndpointSlice> =
        slices.into_iter().flat_map(|all| all.values().map(|slice| &**slice)).collect();
    // Zones are hinted at for all endpoints of a Service or for none: in a half-written state the
    // hints of a few would crowd everyone to these.
    let hinted = slices.iter().flat_map(|slice| &slice.endpoints).all(|e| hint(e).is_some());
    let of = |port| of_port(&slices, port, hinted);
    upstreams.iter().map(|(name, port)| (name.clone(), of(port))).collect()
}

fn of_port(slices: &[&EndpointSlice], port: &ServicePort, hinted: bool) -> Vec<EndpointSpec> {
    // An endpoint may stand in two slices for a while: where it is ready in one of them, it is.
    let mut found: BTreeMap<SocketAddr, EndpointSpec> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| matches!(&*slice.address_type, "IPv4" | "IPv6")) {
        let Some(number) = slice_port(slice, port) else { continue };
        for endpoint in &slice.endpoints {
            let Some(draining) = draining(endpoint) else { continue };
            // The addresses of one endpoint are all the same pod: the first stands for it.
            let address = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
            let Some(address) = address.map(|ip| SocketAddr::new(ip, number)) else { continue };
            let zone = if hinted { hint(endpoint) } else { endpoint.zone.as_deref() };
            let spec = EndpointSpec {
                address: EndpointAddress::Socket(address),
                weight: 1,
                priority: 0,
                zone: zone.filter(|zone| !zone.is_empty()).map(Arc::from),
                draining,
            };
            let known = found.entry(address).or_insert_with(|| spec.clone());
            if known.draining && !draining {
                *known = spec;
            }
        }
    }
    found.into_values().collect()
}

/// The port of a slice's endpoints; ports are named per slice, so that pods of one Service may
/// have the same port at different numbers.
fn slice_port(slice: &EndpointSlice, wanted: &ServicePort) -> Option<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return wanted.target;
    }
    let tcp = ports.iter().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let mut named = tcp.filter(|port| port.name.as_deref().unwrap_or_default() == &*wanted.name);
    named.find_map(|port| u16::try_from(port.port?).ok())
}

/// Whether an endpoint only finishes what it has; `None` where it must not be used at all.
fn draining(endpoint: &Endpoint) -> Option<bool> {
    let conditions = endpoint.conditions.as_ref();
    // What is not said counts as ready (EndpointConditions).
    if conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
        return Some(false);
    }
    let is = |condition: Option<bool>| condition == Some(true);
    let leaves =
        conditions.is_some_and(|conditions| is(conditions.serving) && is(conditions.terminating));
    leaves.then_some(true)
}

/// The zone whose clients should use an endpoint.
fn hint(endpoint: &Endpoint) -> Option<&str> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_deref()?;
    // Its own one where it is among them.
    let own = endpoint.zone.as_deref().filter(|own| zones.iter().any(|zone| zone.name == *own));
    own.or_else(|| zones.first().map(|zone| zone.name.as_str()))
}
