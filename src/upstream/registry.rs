//! Who is who: keeps upstreams and endpoints alive across snapshots by identity.
//!
//! Control side only: the data path never sees this.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Endpoint, EndpointSet, Transport, Upstream};
use crate::ir::{self, Name};
use crate::telemetry::Metrics;
use crate::tls::TransportKey;

/// One endpoint to have in a set, resolved to an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// The DNS name it came from.
    pub host: Option<Arc<str>>,
    /// Its weight, at least 1.
    pub weight: u32,
}

/// All upstreams and endpoints that any snapshot or request still uses.
pub struct Registry {
    metrics: Metrics,
    workers: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    upstreams: HashMap<Name, (ir::Upstream, Weak<Upstream>)>,
    endpoints: HashMap<EndpointKey, Weak<Endpoint>>,
}

/// What makes two endpoints the same. Connections made with other TLS settings or another
/// protocol are never shared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct EndpointKey {
    upstream: Name,
    address: SocketAddr,
    host: Option<Arc<str>>,
    protocol: ir::UpstreamProtocol,
    tls: Option<TransportKey>,
}

impl Registry {
    /// An empty registry for `workers` workers.
    pub fn new(metrics: Metrics, workers: usize) -> Self {
        Self { metrics, workers, known: Mutex::default() }
    }

    /// The upstream `name` as `spec` wants it, with `targets` as its endpoints: the one already
    /// there where `spec` is the same, else a new one around the same endpoint states.
    pub fn obtain(
        &self,
        name: &Name,
        spec: &ir::Upstream,
        transport: Transport,
        targets: &[Target],
    ) -> Arc<Upstream> {
        let mut known = self.lock();
        if let Some((old, upstream)) = known.upstreams.get(name)
            && let Some(upstream) = upstream.upgrade()
            && old == spec
        {
            let set = self.endpoint_set(&mut known, name, spec, &upstream.transport, targets);
            swap_endpoints(&upstream, set);
            return upstream;
        }
        let before = known.upstreams.get(name).and_then(|(_, upstream)| upstream.upgrade());
        let set = self.endpoint_set(&mut known, name, spec, &transport, targets);
        if let Some(before) = before {
            retire_missing(&before.endpoints(), &set);
        }
        let metrics = self.metrics.upstream(name);
        let upstream = Arc::new(Upstream::new(name.clone(), transport, metrics, set));
        known.upstreams.insert(name.clone(), (spec.clone(), Arc::downgrade(&upstream)));
        upstream
    }

    /// Gives the upstream `name` other endpoints without a new snapshot. Nothing happens when
    /// it is gone.
    pub fn update_endpoints(&self, name: &Name, targets: &[Target]) {
        let mut known = self.lock();
        let Some((spec, upstream)) = known.upstreams.get(name).cloned() else { return };
        let Some(upstream) = upstream.upgrade() else { return };
        let set = self.endpoint_set(&mut known, name, &spec, &upstream.transport, targets);
        swap_endpoints(&upstream, set);
    }

    /// Forgets what nothing uses any more, and retires the endpoints of upstreams that no
    /// configuration names.
    pub fn forget_unused(&self, in_use: impl Fn(&Name) -> bool) {
        let mut known = self.lock();
        for (name, (_, upstream)) in &known.upstreams {
            if !in_use(name)
                && let Some(upstream) = upstream.upgrade()
            {
                upstream.endpoints().members().for_each(|(endpoint, _)| endpoint.retire());
            }
        }
        known.upstreams.retain(|name, (_, upstream)| in_use(name) && upstream.strong_count() > 0);
        known.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
    }

    fn endpoint_set(
        &self,
        known: &mut Known,
        upstream: &Name,
        spec: &ir::Upstream,
        transport: &Transport,
        targets: &[Target],
    ) -> Arc<EndpointSet> {
        let members = targets.iter().map(|target| {
            let key = EndpointKey {
                upstream: upstream.clone(),
                address: target.address,
                host: target.host.clone(),
                protocol: transport.protocol,
                tls: transport.tls.as_ref().map(|tls| tls.key),
            };
            let live = known.endpoints.get(&key).and_then(Weak::upgrade);
            let endpoint = live.filter(|endpoint| !endpoint.is_retired()).unwrap_or_else(|| {
                let metrics = self.metrics.endpoint(upstream, &target.address.to_string());
                let endpoint = Endpoint::new(target.address, target.host.clone(), metrics);
                endpoint.metrics.set_up(true);
                let endpoint = Arc::new(endpoint);
                known.endpoints.insert(key, Arc::downgrade(&endpoint));
                endpoint
            });
            (endpoint, target.weight.max(1))
        });
        let members = members.collect();
        Arc::new(EndpointSet::new(&spec.balance, members, self.workers))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn swap_endpoints(upstream: &Upstream, set: Arc<EndpointSet>) {
    let same = {
        let before = upstream.endpoints();
        before.members().len() == set.members().len()
            && before
                .members()
                .zip(set.members())
                .all(|((a, a_weight), (b, b_weight))| a.id == b.id && a_weight == b_weight)
    };
    // An unchanged set keeps its place in the order of turns.
    if !same {
        retire_missing(&upstream.endpoints(), &set);
        upstream.replace_endpoints(set);
    }
}

fn retire_missing(before: &EndpointSet, now: &EndpointSet) {
    for (endpoint, _) in before.members() {
        if !now.members().any(|(other, _)| other.id == endpoint.id) {
            endpoint.retire();
            endpoint.metrics.set_up(false);
        }
    }
}
