//! The endpoints of Services, out of their EndpointSlices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ir::{EndpointAddress, EndpointSpec, Name};

use super::{Inputs, Key, Slice, SliceState};
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

/// The endpoints of the `upstreams` that are made from `service`, as its slices have them now. Those
/// that are ready serve; those that are shut down but still serve are draining.
pub fn endpoints<'u>(
    inputs: &Inputs,
    service: &Key,
    upstreams: impl IntoIterator<Item = (&'u Name, &'u ServicePort)>,
) -> BTreeMap<Name, Vec<EndpointSpec>> {
    let slices = inputs.slices.get(service);
    let slices: Vec<&Slice> =
        slices.into_iter().flat_map(|all| all.iter().map(|(_, slice)| &**slice)).collect();
    // Zones are hinted at for all endpoints of a Service or for none: in a half-written state the
    // hints of a few would crowd everyone to these.
    let hinted = slices.iter().flat_map(|slice| &slice.endpoints).all(|e| e.hint.is_some());
    let of = |port| of_port(&slices, port, hinted);
    upstreams.into_iter().map(|(name, port)| (name.clone(), of(port))).collect()
}

fn of_port(slices: &[&Slice], port: &ServicePort, hinted: bool) -> Vec<EndpointSpec> {
    // An endpoint may stand in two slices for a while: where it is ready in one of them, it is.
    let mut found: BTreeMap<SocketAddr, EndpointSpec> = BTreeMap::new();
    for slice in slices {
        let Some(number) = slice.port(&port.name, port.target) else { continue };
        for endpoint in &slice.endpoints {
            let draining = match endpoint.state {
                SliceState::Ready => false,
                SliceState::Draining => true,
                SliceState::Unusable => continue,
            };
            let Some(ip) = endpoint.address else { continue };
            let address = SocketAddr::new(ip, number);
            let zone = if hinted { &endpoint.hint } else { &endpoint.zone };
            let spec = EndpointSpec {
                address: EndpointAddress::Socket(address),
                weight: 1,
                priority: 0,
                zone: zone.clone().filter(|zone| !zone.is_empty()),
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
