//! EndpointSlices as they are kept: what they say of endpoints, and nothing else of the objects.
//!
//! A cluster has many times more endpoints than anything else, and an object of the API takes ten
//! times as much memory as what is read of it. What comes of slices is in `endpoints`.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Key;

/// The label that names the Service of an EndpointSlice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What one EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The name of its Service; one without is nobody's.
    pub service: Option<Arc<str>>,
    /// Whether its addresses are names, of which nothing is made.
    by_name: bool,
    /// Its TCP ports; `None` where it tells no ports at all.
    ports: Option<Box<[SlicePort]>>,
    /// Its endpoints, usable or not.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// A port of all endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SlicePort {
    /// Its name; empty where it has none.
    name: Box<str>,
    number: u16,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address; `None` where it has none that can be used.
    pub address: Option<IpAddr>,
    /// What may be sent there.
    pub state: SliceState,
    /// The zone it stands in.
    pub zone: Option<Arc<str>>,
    /// The zone whose clients should use it.
    pub hint: Option<Arc<str>>,
}

/// What may be sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceState {
    /// Requests.
    Ready,
    /// It only finishes what it has.
    Draining,
    /// Nothing.
    Unusable,
}

impl Slice {
    /// What `object` says.
    pub fn of(object: &api::EndpointSlice) -> Self {
        let labels = object.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
        let ports = object.ports.as_deref().unwrap_or_default();
        let mut endpoints: Vec<SliceEndpoint> = Vec::with_capacity(object.endpoints.len());
        for endpoint in &object.endpoints {
            let before = endpoints.last();
            let endpoint = SliceEndpoint::of(endpoint, before);
            endpoints.push(endpoint);
        }
        Self {
            service: service.map(|name| name.as_str().into()),
            by_name: !matches!(&*object.address_type, "IPv4" | "IPv6"),
            ports: (!ports.is_empty()).then(|| ports.iter().filter_map(SlicePort::of).collect()),
            endpoints: endpoints.into(),
        }
    }

    /// The port of its endpoints that is called `name`; ports are named per slice, so that pods of
    /// one Service may have the same port at different numbers. `otherwise` where it tells no ports
    /// at all; `None` where nothing is to be sent there.
    pub fn port(&self, name: &str, otherwise: Option<u16>) -> Option<u16> {
        if self.by_name {
            return None;
        }
        let Some(ports) = &self.ports else { return otherwise };
        ports.iter().find(|port| *port.name == *name).map(|port| port.number)
    }

    /// An object that says the same; for the disk.
    pub fn to_object(&self, namespace: &str, name: &str) -> api::EndpointSlice {
        let label = |service: &Arc<str>| (SERVICE_NAME.to_owned(), service.to_string());
        let port = |port: &SlicePort| api::EndpointPort {
            name: Some(port.name.to_string()),
            port: Some(port.number.into()),
            ..api::EndpointPort::default()
        };
        let six = |endpoint: &SliceEndpoint| endpoint.address.is_some_and(|ip| ip.is_ipv6());
        let family = match self.by_name {
            true => "FQDN",
            false if self.endpoints.iter().any(six) => "IPv6",
            false => "IPv4",
        };
        api::EndpointSlice {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(self.service.iter().map(label).collect()),
                ..ObjectMeta::default()
            },
            address_type: family.to_owned(),
            ports: self.ports.as_ref().map(|ports| ports.iter().map(port).collect()),
            endpoints: self.endpoints.iter().map(SliceEndpoint::to_object).collect(),
        }
    }
}

impl SlicePort {
    /// `None` for one that no request can be sent to.
    fn of(port: &api::EndpointPort) -> Option<Self> {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            return None;
        }
        let name = port.name.as_deref().unwrap_or_default().into();
        Some(Self { name, number: u16::try_from(port.port?).ok()? })
    }
}

impl SliceEndpoint {
    /// What `endpoint` says; zones that are those of the one `before` are not kept twice.
    fn of(endpoint: &api::Endpoint, before: Option<&Self>) -> Self {
        let known = before.into_iter().flat_map(|before| [&before.zone, &before.hint]).flatten();
        let shared = |zone: &str| {
            known.clone().find(|known| ***known == *zone).map_or_else(|| zone.into(), Arc::clone)
        };
        Self {
            // The addresses of one endpoint are all the same pod: the first stands for it.
            address: endpoint.addresses.first().and_then(|text| text.parse().ok()),
            state: SliceState::of(endpoint.conditions.as_ref()),
            zone: endpoint.zone.as_deref().map(shared),
            hint: hint(endpoint).map(shared),
        }
    }

    fn to_object(&self) -> api::Endpoint {
        let hints = |zone: &Arc<str>| api::EndpointHints {
            for_zones: Some(vec![api::ForZone { name: zone.to_string() }]),
        };
        api::Endpoint {
            addresses: self.address.iter().map(IpAddr::to_string).collect(),
            conditions: self.state.to_conditions(),
            zone: self.zone.as_deref().map(str::to_owned),
            hints: self.hint.as_ref().map(hints),
            ..api::Endpoint::default()
        }
    }
}

impl SliceState {
    fn of(conditions: Option<&api::EndpointConditions>) -> Self {
        // What is not said counts as ready (EndpointConditions).
        if conditions.and_then(|conditions| conditions.ready).unwrap_or(true) {
            return Self::Ready;
        }
        let is = |condition: Option<bool>| condition == Some(true);
        let leaves = conditions
            .is_some_and(|conditions| is(conditions.serving) && is(conditions.terminating));
        if leaves { Self::Draining } else { Self::Unusable }
    }

    fn to_conditions(self) -> Option<api::EndpointConditions> {
        let leaves = Some(self == Self::Draining);
        (self != Self::Ready).then_some(api::EndpointConditions {
            ready: Some(false),
            serving: leaves,
            terminating: leaves,
        })
    }
}

/// The zone whose clients should use an endpoint.
fn hint(endpoint: &api::Endpoint) -> Option<&str> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_deref()?;
    // Its own one where it is among them.
    let own = endpoint.zone.as_deref().filter(|own| zones.iter().any(|zone| zone.name == *own));
    own.or_else(|| zones.first().map(|zone| zone.name.as_str()))
}

/// The slices of one Service by their names, in order. Nearly every Service has one or two, for
/// which a list takes a tenth of the memory of a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slices(Vec<(Arc<str>, Arc<Slice>)>);

impl Slices {
    /// Puts in the slice `name`; returns the one that was there.
    pub fn insert(&mut self, name: Arc<str>, slice: Arc<Slice>) -> Option<Arc<Slice>> {
        match self.find(&name) {
            Ok(at) => self.0.get_mut(at).map(|(_, before)| std::mem::replace(before, slice)),
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (name, slice));
                None
            }
        }
    }

    /// Takes out the slice `name`.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.0.remove(at);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names and what they say.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<Slice>)> + Clone {
        self.0.iter().map(|(name, slice)| (name, slice))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

/// A slice with its place, for the disk: objects are made one by one as they are written.
pub struct Placed<'s> {
    /// The key of its Service.
    pub service: &'s Key,
    /// Its own name.
    pub name: &'s str,
    /// What it says.
    pub slice: &'s Slice,
}

impl serde::Serialize for Placed<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.slice.to_object(&self.service.namespace, self.name).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_made_of_a_slice_says_the_same() {
        let ready =
            |ready, leaves| json!({ "ready": ready, "serving": leaves, "terminating": leaves });
        let object = json!({
            "metadata": { "name": "a", "namespace": "x", "labels": { SERVICE_NAME: "web" } },
            "addressType": "IPv6",
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "http", "port": 8080 },
                { "port": 70_000 },
            ],
            "endpoints": [
                { "addresses": ["fd00::1"], "zone": "b", "hints": { "forZones": [{ "name": "a" }] } },
                { "addresses": ["fd00::2"], "conditions": ready(false, true), "zone": "b" },
                { "addresses": ["fd00::3"], "conditions": ready(false, false) },
                { "addresses": ["no address"], "conditions": ready(true, false) },
            ],
        });
        let slice = Slice::of(&serde_json::from_value(object).unwrap());
        assert_eq!(Slice::of(&slice.to_object("x", "a")), slice);
        let states: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.state).collect();
        use SliceState::{Draining, Ready, Unusable};
        assert_eq!(states, [Ready, Draining, Unusable, Ready]);
        assert_eq!(slice.endpoints.last().unwrap().address, None);
        let zones: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.zone.clone()).collect();
        let [Some(first), Some(second), ..] = &*zones else { panic!("{zones:?}") };
        assert!(Arc::ptr_eq(first, second), "kept once");
        assert_eq!((slice.port("http", None), slice.port("", Some(1))), (Some(8080), None));
        for (family, port) in [("IPv4", Some(1)), ("FQDN", None)] {
            let object = json!({ "addressType": family, "endpoints": [] });
            let slice = Slice::of(&serde_json::from_value(object).unwrap());
            assert_eq!(slice.port("", Some(1)), port, "{family}");
            assert_eq!(Slice::of(&slice.to_object("x", "a")), Slice { service: None, ..slice });
        }
    }

    #[test]
    fn slices_are_kept_in_the_order_of_their_names() {
        let object = json!({ "addressType": "IPv4", "endpoints": [] });
        let slice = Arc::new(Slice::of(&serde_json::from_value(object).unwrap()));
        let mut slices = Slices::default();
        for name in ["b", "c", "a"] {
            assert!(slices.insert(name.into(), slice.clone()).is_none());
        }
        assert!(slices.insert("b".into(), slice.clone()).is_some());
        slices.remove("c");
        slices.remove("d");
        assert_eq!(slices.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["a", "b"]);
    }
}
