//! Ingresses to a fragment: a pure function of the cluster's objects.
//!
//! One bad object hurts only itself: what cannot be served of it is put down in its report, and the
//! rest of it, and everything else, is served.

mod backend;
mod canary;
mod certificates;
mod closed;
mod counted;
mod draft;
mod group;
mod host;
mod lists;
mod locations;
mod memo;
mod name;
mod pages;
mod part;
mod passthrough;
mod path;
mod policy;
mod roll;
mod rule;
mod seen;
mod server;
mod service;
mod shares;
mod site;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ir::{EndpointSpec, Fragment, HostPattern, Listener, ListenerTls, Name, Origin, Problem};

pub use self::memo::Memo;
use self::policy::Policy;
use super::report::{PROVIDER, Report};
use super::{Ingress, Inputs, Key, Options};
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
    pub endpoints: Arc<BTreeMap<Name, Arc<[EndpointSpec]>>>,
    /// Everything that is wrong, about the objects it stands in.
    pub problems: Vec<Problem>,
    /// What of Secrets and ConfigMaps must be known.
    pub references: Arc<References>,
    /// What became of each Ingress that is served.
    pub reports: Arc<BTreeMap<Key, Arc<Report>>>,
    /// Why, of these, some should not be taken over: their last good version is to be translated
    /// in their place, where there is one. Until then their requests are answered 503.
    pub refused: BTreeMap<Key, String>,
    /// Why the other Ingresses are not.
    pub ignored: Arc<BTreeMap<Key, String>>,
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
    Memo::default().translate(inputs, options)
}

fn listeners(
    options: &Options,
    certificates: Vec<Arc<ir::Certificate>>,
) -> BTreeMap<Name, Listener> {
    let listener = |name: &str, bind: SocketAddr, port: u16, tls| {
        let origin = Origin {
            provider: Name::from(PROVIDER),
            kind: Name::from("listener"),
            name: Name::from(name),
            ..Origin::default()
        };
        let mut listener = Listener {
            origin,
            bind,
            public_port: Some(port).filter(|port| *port != bind.port()),
            tls,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            encoded_slashes: options.encoded_slashes,
            forwarding: ir::ListenerForwarding {
                scheme: true,
                original: true,
                keep_request_id: true,
            },
            protocols: Default::default(),
            http2: Default::default(),
        };
        options.controller.listen(&mut listener);
        (Name::from(name), listener)
    };
    let tls = ListenerTls { certificates, ..ListenerTls::default() };
    let plain = options.http.map(|bind| listener(HTTP, bind, options.http_port, None));
    let secure = options.https.map(|bind| listener(HTTPS, bind, options.https_port, Some(tls)));
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
