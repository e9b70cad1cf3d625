//! Hosts under construction, and what they come to.

use std::collections::{BTreeMap, BTreeSet};

use ir::{HostPattern, Name, Origin, Route, VirtualHost};

use super::Object;
use super::path::RulePath;
use crate::ir;
use crate::provider::kubernetes::report::origin;

/// A host under construction.
pub(super) struct Host {
    /// The Ingress that named it first, by its place among the objects.
    pub owner: usize,
    /// All that name it, also those whose paths are others' or cannot be read.
    pub named: Vec<usize>,
    pub routes: Vec<Placed>,
    /// The oldest of its Ingresses that has a default backend.
    pub default: Option<usize>,
}

impl Host {
    /// Those that say what holds for all of it, the oldest first.
    pub fn owners(&self) -> BTreeSet<usize> {
        let serving = self.routes.iter().map(|placed| placed.owner);
        serving.chain([self.owner]).chain(self.named.iter().copied()).collect()
    }
}

/// A route in its place.
pub(super) struct Placed {
    pub path: RulePath,
    /// Whose it is, by its place among the objects.
    pub owner: usize,
    pub route: Route,
    /// Where its requests go, where they are forwarded.
    pub main: Option<Name>,
    /// Where part of them goes, and by the rules of which Ingress.
    pub canary: Option<(Name, usize)>,
}

pub(super) type Hosts = BTreeMap<HostPattern, Host>;

/// The host that a draft comes to, with canaries as routes of their own.
pub(super) fn finish(pattern: HostPattern, host: Host, objects: &[Object<'_>]) -> VirtualHost {
    let mut routes = Vec::with_capacity(host.routes.len());
    let owners = host.owners();
    for placed in host.routes {
        let canary = placed.canary.as_ref().zip(placed.main.as_ref()).and_then(
            |((upstream, index), main)| {
                Some((objects.get(*index)?.policy.canary.as_ref()?, main, upstream))
            },
        );
        match canary {
            Some((canary, main, upstream)) => {
                routes.extend(canary.split(&placed.route, main, upstream));
            }
            None => routes.push(placed.route),
        }
    }
    let origin = match objects.get(host.owner) {
        Some(object) => origin("Ingress", object.key),
        None => routes.first().map(|route| Origin::clone(&route.origin)).unwrap_or_default(),
    };
    // Of its Ingresses the oldest that demands certificates says it for all of the host.
    let asking = |index: &usize| objects.get(*index)?.policy.client_auth.clone();
    let client_auth = owners.iter().find_map(asking).map(Box::new);
    let listeners = ir::ListenerSelector::All;
    VirtualHost {
        pattern,
        listeners,
        client_auth,
        tls_passthrough: None,
        rules: Vec::new(),
        routes,
        origin,
    }
}
