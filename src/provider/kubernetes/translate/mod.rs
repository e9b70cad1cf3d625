//! Ingresses to a fragment: a pure function of the cluster's objects.
//!
//! One bad object hurts only itself: what cannot be served of it is put down in its report, and the
//! rest of it, and everything else, is served.

mod canary;
mod host;
mod name;
mod pages;
mod path;
mod policy;
mod server;
mod service;
mod site;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use ir::{
    EndpointSpec, Fragment, HostPattern, Listener, ListenerSelector, ListenerTls, Name, Origin,
    Problem,
};
use k8s_openapi::api::networking::v1::Ingress;

use self::policy::Policy;
use self::service::Upstreams;
use super::endpoints::{ServiceUpstreams, endpoints};
use super::report::{PROVIDER, Report, origin, problems};
use super::{Inputs, Key, Options, class};
use crate::ir;

/// The name of the listener for plain HTTP.
const HTTP: &str = "http";
/// The name of the listener for HTTPS.
const HTTPS: &str = "https";

/// What the objects mean, and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The configuration. The upstreams that are made from Services have no endpoints in it.
    pub fragment: Fragment,
    /// The endpoints of every upstream that is `discovered`.
    pub endpoints: BTreeMap<Name, Vec<EndpointSpec>>,
    /// Which of these upstreams are made from which Service: what to give to
    /// [`endpoints`](super::endpoints()) when its slices change.
    pub services: BTreeMap<Key, ServiceUpstreams>,
    /// Everything that is wrong, about the objects it stands in.
    pub problems: Vec<Problem>,
    /// What of Secrets and ConfigMaps must be known.
    pub references: References,
    /// What became of each Ingress that is served.
    pub reports: BTreeMap<Key, Report>,
    /// Why, of these, some should not be taken over: their last good version is to be translated
    /// in their place, where there is one. Until then their requests are answered 503.
    pub refused: BTreeMap<Key, String>,
    /// Why the other Ingresses are not.
    pub ignored: BTreeMap<Key, String>,
}

/// The objects that others refer to, there or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets.
    pub secrets: BTreeSet<Key>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<Key>,
}

/// An Ingress under translation.
struct Object<'i> {
    key: &'i Key,
    ingress: &'i Ingress,
    policy: Policy,
    report: Report,
}

/// Translates `inputs`. Never fails: what is wrong is in the reports and problems.
pub fn translate(inputs: &Inputs, options: &Options) -> Translation {
    let (selected, ignored) = class::select(inputs, options);
    let mut references = References::default();
    let mut objects: Vec<Object<'_>> = Vec::with_capacity(selected.len());
    for (key, ingress) in selected {
        let mut report = Report::default();
        let policy = Policy::read(key, ingress, inputs, options, &mut references, &mut report);
        objects.push(Object { key, ingress, policy, report });
    }
    let mut upstreams = Upstreams::new(inputs, options);
    for object in &objects {
        if let Some(place) = object.policy.asked.as_ref().filter(|_| object.policy.canary.is_none())
        {
            let asked = || policy::upstream(place, origin("Ingress", object.key));
            upstreams.upstreams.entry(policy::upstream_name(place)).or_insert_with(asked);
        }
    }
    let hosts = host::hosts(&mut objects, &mut upstreams, options);
    let certificates = tls::certificates(&mut objects, inputs, options, &mut references);
    let listeners = listeners(options, certificates);
    let names: BTreeSet<Name> = listeners.keys().cloned().collect();
    let hosts = hosts
        .into_iter()
        .map(|host| ir::VirtualHost { listeners: ListenerSelector::Named(names.clone()), ..host });
    let fragment = Fragment {
        provider: Name::from(PROVIDER),
        listeners,
        hosts: hosts.collect(),
        upstreams: upstreams.upstreams,
        settings: None,
    };
    let services = upstreams.services;
    let known = services.iter().flat_map(|(key, ports)| endpoints(inputs, key, ports)).collect();
    let refused = objects
        .iter()
        .filter_map(|object| Some((object.key.clone(), object.policy.refused.clone()?)));
    let refused = refused.collect();
    let reports: BTreeMap<Key, Report> =
        objects.into_iter().map(|object| (object.key.clone(), object.report)).collect();
    Translation {
        fragment,
        endpoints: known,
        services,
        problems: problems(&reports),
        references,
        reports,
        refused,
        ignored,
    }
}

fn listeners(options: &Options, certificates: Vec<ir::Certificate>) -> BTreeMap<Name, Listener> {
    let listener = |name: &str, bind, tls| {
        let origin = Origin {
            provider: Name::from(PROVIDER),
            kind: Name::from("listener"),
            name: Name::from(name),
            ..Origin::default()
        };
        let listener = Listener {
            origin,
            bind,
            tls,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            protocols: Default::default(),
            http2: Default::default(),
        };
        (Name::from(name), listener)
    };
    let tls = ListenerTls { certificates, ..ListenerTls::default() };
    let plain = options.http.map(|bind| listener(HTTP, bind, None));
    let secure = options.https.map(|bind| listener(HTTPS, bind, Some(tls)));
    plain.into_iter().chain(secure).collect()
}

/// The host that a rule is for; without one it is for every host that no other rule names.
fn pattern(host: Option<&str>) -> Result<HostPattern, String> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(HostPattern::Any),
        Some(host) => match HostPattern::parse(host) {
            Ok(HostPattern::Any) => Err("`*` is no host; leave it out for all hosts".to_owned()),
            Ok(pattern) => Ok(pattern.one_label()),
            Err(error) => Err(format!("`{host}`: {error}")),
        },
    }
}
