//! Upstreams out of Services.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ir::{
    BalancePolicy, EndpointAddress, EndpointSpec, Name, Origin, Upstream, UpstreamProtocol,
    UpstreamTls,
};
use k8s_openapi::api::networking::v1::ServiceBackendPort;

use crate::ir;
use crate::provider::kubernetes::endpoints::{ServicePort, ServiceUpstreams};
use crate::provider::kubernetes::report::origin;
use crate::provider::kubernetes::{Inputs, Key, Options, PortTarget, Service};

/// How the endpoints of an upstream are chosen and spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub balance: BalancePolicy,
    pub protocol: UpstreamProtocol,
    pub tls: Option<UpstreamTls>,
    /// Whether the Service's own address stands for all of its endpoints.
    pub service_address: bool,
}

/// A port as a backend names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedPort<'a> {
    First,
    Named(&'a str),
    Number(u16),
}

impl<'a> WantedPort<'a> {
    /// The port of an Ingress' backend.
    pub fn of(port: Option<&'a ServiceBackendPort>) -> Option<Self> {
        let port = port?;
        match (port.number.filter(|number| *number != 0), port.name.as_deref()) {
            (Some(number), _) => u16::try_from(number).ok().map(Self::Number),
            (None, Some(name)) if !name.is_empty() => Some(Self::Named(name)),
            (None, _) => None,
        }
    }
}

impl std::fmt::Display for WantedPort<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::First => f.write_str("-"),
            Self::Named(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Why an upstream is not what was asked for; its requests are answered 503 unless it says
/// otherwise.
pub(super) struct Trouble {
    pub message: String,
    pub hint: Option<String>,
    /// Whether requests are served nevertheless.
    pub served: bool,
}

/// The upstreams of a translation. Backends that name the same port of the same Service and ask
/// for the same settings share one.
pub(super) struct Upstreams<'i> {
    inputs: &'i Inputs,
    options: &'i Options,
    pub upstreams: BTreeMap<Name, Upstream>,
    pub services: BTreeMap<Key, ServiceUpstreams>,
    /// The Services that were looked for.
    pub asked: BTreeSet<Key>,
    /// By Service and port, what was asked for and what it is called.
    variants: HashMap<(Key, String), Vec<(Settings, Name)>>,
}

impl<'i> Upstreams<'i> {
    pub fn new(inputs: &'i Inputs, options: &'i Options) -> Self {
        Self {
            inputs,
            options,
            upstreams: BTreeMap::new(),
            services: BTreeMap::new(),
            asked: BTreeSet::new(),
            variants: HashMap::new(),
        }
    }

    /// Whether there is such a Service, which was obtained before.
    pub fn knows(&self, service: &Key) -> bool {
        self.inputs.services.contains_key(service)
    }

    /// The upstream for `port` of `service`, as the Ingress called `by` wants it.
    pub fn obtain(
        &mut self,
        service: &Key,
        port: WantedPort<'_>,
        settings: &Settings,
        by: &str,
    ) -> (Name, Option<Trouble>) {
        let object = self.inputs.services.get(service);
        if !self.asked.contains(service) {
            self.asked.insert(service.clone());
        }
        let resolved = object.and_then(|object| resolve(object, port));
        let label = match &resolved {
            Some(resolved) => resolved.number.to_string(),
            None => port.to_string(),
        };
        let variants = self.variants.entry((service.clone(), label.clone())).or_default();
        let known = variants.iter().find(|(known, _)| known == settings).map(|(_, name)| name);
        let name = match known {
            Some(name) => name.clone(),
            None => {
                // The plain name is kept for those that ask for nothing, so that it does not
                // change hands when a stranger does.
                let name = match *settings == Settings::default() {
                    true => Name::from(format!("{service}:{label}")),
                    false => unused(&self.upstreams, format!("{service}:{label}@{by}")),
                };
                variants.push((settings.clone(), name.clone()));
                name
            }
        };
        let trouble = match object {
            None => self.missing(service),
            Some(object) if object.is_external => {
                return self.external(service, object, port, resolved, settings, name, &label);
            }
            Some(_) if resolved.is_none() => Some(no_port(service, port)),
            Some(_) => None,
        };
        let mut upstream = plain(service, &label, settings, self.options);
        if settings.service_address
            && let (Some(object), Some(port)) = (object, &resolved)
        {
            match object.cluster_ip {
                Some(ip) => upstream.endpoints = vec![at(SocketAddr::new(ip, port.number))],
                None => {
                    let found = self.discover(service, name, upstream, resolved);
                    let message = format!(
                        "the Service {service} is headless, so its endpoints are used themselves"
                    );
                    return (found, Some(Trouble { message, hint: None, served: true }));
                }
            }
            self.upstreams.entry(name.clone()).or_insert(upstream);
            return (name, trouble);
        }
        (self.discover(service, name, upstream, resolved), trouble)
    }

    /// What would be wrong with `port` of `service` if somebody obtained it.
    pub fn trouble(&mut self, service: &Key, port: WantedPort<'_>) -> Option<Trouble> {
        self.asked.insert(service.clone());
        match self.inputs.services.get(service) {
            None => self.missing(service),
            Some(object) if object.is_external => {
                let resolved = resolve(object, port);
                external_endpoint(service, object, port, resolved, self.options).err()
            }
            Some(object) => resolve(object, port).is_none().then(|| no_port(service, port)),
        }
    }

    /// What is wrong where there is no such Service. Manifests may leave all of a namespace's
    /// Services to others; where they bring some, one that is not there is worth a word.
    fn missing(&self, service: &Key) -> Option<Trouble> {
        let partial = self.options.partial;
        let in_namespace = |key: &&Key| key.namespace == service.namespace;
        if partial && !self.inputs.services.keys().any(|key| in_namespace(&key)) {
            return None;
        }
        Some(Trouble {
            message: format!("there is no Service {service}"),
            hint: Some("its requests are answered 503 until there is one".to_owned()),
            served: partial,
        })
    }

    /// Adds an upstream whose endpoints come and go beside the configuration.
    fn discover(
        &mut self,
        service: &Key,
        name: Name,
        upstream: Upstream,
        port: Option<ServicePort>,
    ) -> Name {
        self.upstreams
            .entry(name.clone())
            .or_insert_with(|| Upstream { discovered: true, ..upstream });
        // A port that does not exist has no endpoints, whatever stands in slices.
        let nowhere = ServicePort { name: "\0".into(), number: 0, target: None };
        let ports = self.services.entry(service.clone()).or_default();
        ports.insert(name.clone(), port.unwrap_or(nowhere));
        name
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn external(
        &mut self,
        service: &Key,
        object: &Service,
        wanted: WantedPort<'_>,
        resolved: Option<ServicePort>,
        settings: &Settings,
        name: Name,
        label: &str,
    ) -> (Name, Option<Trouble>) {
        let mut upstream = plain(service, label, settings, self.options);
        let trouble = match external_endpoint(service, object, wanted, resolved, self.options) {
            Ok(endpoint) => {
                upstream.endpoints = vec![endpoint];
                None
            }
            Err(trouble) => Some(trouble),
        };
        self.upstreams.entry(name.clone()).or_insert(upstream);
        (name, trouble)
    }
}

/// `name`, with a number where it is taken.
fn unused(taken: &BTreeMap<Name, Upstream>, name: String) -> Name {
    let numbered = (2_u32..).map(|number| format!("{name}#{number}"));
    let mut free = std::iter::once(name.clone()).chain(numbered);
    let free = free.find(|name| !taken.contains_key(name.as_str()));
    Name::from(free.unwrap_or(name))
}

fn plain(service: &Key, port: &str, settings: &Settings, options: &Options) -> Upstream {
    Upstream {
        origin: Origin { rule: Name::from(port), ..origin("Service", service) },
        endpoints: Vec::new(),
        discovered: false,
        balance: settings.balance.clone().into(),
        health: None,
        outlier: Some(Default::default()),
        limits: Default::default(),
        protocol: settings.protocol,
        tls: settings.tls.clone().map(Box::new),
        pool: options.controller.pool(),
    }
}

fn at(address: SocketAddr) -> EndpointSpec {
    let address = EndpointAddress::Socket(address);
    EndpointSpec { address, weight: 1, priority: 0, zone: None, draining: false }
}

/// The port of `service` that a backend means: by number or name, else by where it leads. (An
/// exact answer comes first: a Service may swap two numbers.)
fn resolve(service: &Service, wanted: WantedPort<'_>) -> Option<ServicePort> {
    let mut ports = service.ports.iter();
    let targets = || service.ports.iter().filter_map(|port| Some((port, port.target.as_ref()?)));
    let found = match wanted {
        WantedPort::First => ports.next(),
        WantedPort::Number(number) => {
            ports.find(|port| port.number == i32::from(number)).or_else(|| {
                let leads_there = |(_, target): &(_, &PortTarget)| match target {
                    PortTarget::Number(target) => *target == i32::from(number),
                    PortTarget::Name(target) => target.parse() == Ok(number),
                };
                targets().find(leads_there).map(|(port, _)| port)
            })
        }
        WantedPort::Named(name) => {
            ports.find(|port| port.name.as_deref() == Some(name)).or_else(|| {
                let leads_there = |(_, target): &(_, &PortTarget)| match target {
                    PortTarget::Number(_) => false,
                    PortTarget::Name(target) => **target == *name,
                };
                targets().find(leads_there).map(|(port, _)| port)
            })
        }
    }?;
    let target = match &found.target {
        None | Some(PortTarget::Number(0)) => Some(found.number),
        Some(PortTarget::Number(target)) => Some(*target),
        Some(PortTarget::Name(target)) => target.parse().ok(),
    };
    Some(ServicePort {
        name: found.name.as_deref().unwrap_or_default().into(),
        number: u16::try_from(found.number).ok()?,
        target: target.and_then(|target| u16::try_from(target).ok()),
    })
}

fn no_port(service: &Key, wanted: WantedPort<'_>) -> Trouble {
    Trouble {
        message: format!("the Service {service} has no TCP port {wanted}"),
        hint: Some("its requests are answered 503 until it has".to_owned()),
        served: false,
    }
}

/// The one endpoint of a Service of type ExternalName.
fn external_endpoint(
    service: &Key,
    object: &Service,
    wanted: WantedPort<'_>,
    resolved: Option<ServicePort>,
    options: &Options,
) -> Result<EndpointSpec, Trouble> {
    let target = object.external_name.as_deref();
    let port = match (resolved, wanted) {
        (Some(resolved), _) => Some(resolved.number),
        // Its ports are a formality: it may have none.
        (None, WantedPort::Number(number)) => Some(number),
        (None, _) => None,
    };
    let checked = match port {
        None => Err(format!("the Service {service} has no port {wanted}")),
        Some(port) => external_target(target.unwrap_or_default(), options)
            .map(|host| external_address(&host, port))
            .map_err(|why| format!("the Service {service} of type ExternalName {why}")),
    };
    match checked {
        Ok(address) => {
            Ok(EndpointSpec { address, weight: 1, priority: 0, zone: None, draining: false })
        }
        Err(message) => Err(Trouble {
            message,
            hint: Some("its requests are answered 503".to_owned()),
            served: false,
        }),
    }
}

fn external_address(host: &str, port: u16) -> EndpointAddress {
    match host.parse::<IpAddr>() {
        Ok(ip) => EndpointAddress::Socket(SocketAddr::new(ip, port)),
        // With its dot at the end: a search list could lead it into the cluster.
        Err(_) => {
            let name = Arc::from(format!("{host}."));
            EndpointAddress::Dns { name, port, outside: true }
        }
    }
}

/// Where an ExternalName leads, or why nothing is sent there. The proxy can reach more than those
/// who may create a Service: itself, the node, and what network policies keep apart.
fn external_target(target: &str, options: &Options) -> Result<String, String> {
    if !options.external_names {
        return Err("is not forwarded to: that is off".to_owned());
    }
    let host = target.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return match ir::is_of_this_machine(ip) {
            true => Err(format!("leads to {ip}, which is this machine or its link")),
            false => Ok(host),
        };
    }
    if let Err(error) = ir::HostPattern::parse(&host) {
        return Err(format!("leads to `{host}`: {error}"));
    }
    // `127.1` and the like are names to a parser and addresses to a resolver.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
    let below = |suffix: &str| {
        host == suffix || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
    };
    let inside = ["localhost", "localdomain", "svc", "cluster.local", &options.cluster_domain];
    if numeric || inside.into_iter().any(below) {
        return Err(format!("leads to `{host}`, which is inside the cluster or this machine"));
    }
    Ok(host)
}

/// Whether an address is this machine or its link.
pub(super) fn leads_inside(address: &EndpointAddress) -> bool {
    match address {
        EndpointAddress::Socket(address) => ir::is_of_this_machine(address.ip()),
        EndpointAddress::Dns { name, .. } => {
            let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
            // `127.1` and the like are names to a parser and addresses to a resolver.
            let numeric = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
            numeric || matches!(last, "localhost" | "localdomain")
        }
        EndpointAddress::Srv(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_name_leads_out_of_the_cluster_or_nowhere() {
        let options = Options { external_names: true, ..Options::default() };
        for target in ["example.com", "db.example.com.", "10.1.2.3", "2001:db8::1", "svc.example"] {
            assert!(external_target(target, &options).is_ok(), "{target}");
        }
        for target in [
            "",
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "127.1",
            "0x7f.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "fe80::1",
            "kubernetes.default.svc",
            "cart.shop.svc.cluster.local.",
            "CART.SHOP.SVC.CLUSTER.LOCAL",
            "a b",
        ] {
            assert!(external_target(target, &options).is_err(), "{target}");
        }
        assert!(external_target("example.com", &Options::default()).is_err());
    }
}
