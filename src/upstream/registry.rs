//! Who is who: keeps upstreams and endpoints alive across snapshots by identity.
//!
//! Control side only: the data path never sees this.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::attention::Attention;
use super::health;
use super::{Circumstances, Common, Endpoint, EndpointId, Member, Transport, Upstream};
use crate::ir::{self, Name};
use crate::telemetry::Metrics;
use crate::tls::TransportKey;
use crate::util::moment::Moment;

/// One endpoint to have in a set, resolved to an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// The DNS name it came from.
    pub host: Option<Arc<str>>,
    /// Its weight, at least 1.
    pub weight: u32,
    /// Its priority level, 0 first.
    pub priority: u32,
    /// The zone it stands in.
    pub zone: Option<Arc<str>>,
    /// Whether it is going away: no new requests while others live.
    pub draining: bool,
}

impl Target {
    /// What `spec` says, at the address it was resolved to.
    pub fn new(address: SocketAddr, host: Option<Arc<str>>, spec: &ir::EndpointSpec) -> Self {
        let ir::EndpointSpec { weight, priority, zone, draining, .. } = spec;
        let (weight, priority, draining) = (*weight, *priority, *draining);
        Self { address, host, weight, priority, zone: zone.clone(), draining }
    }
}

/// Where this process stands.
#[derive(Debug)]
pub struct Environment {
    /// How many workers pick.
    pub workers: usize,
    /// The zone of this process; `None` where it is not known.
    pub zone: Option<Arc<str>>,
    /// This process's own seed: what subset it takes, where its turns begin.
    pub seed: u64,
    /// Which upstreams are to be looked at.
    pub(super) attention: Attention,
}

impl Environment {
    /// `workers` workers in no known zone.
    pub fn new(workers: usize, seed: u64) -> Self {
        Self { workers, zone: None, seed, attention: Attention::default() }
    }

    /// The same in `zone`, where that is known.
    #[must_use]
    pub fn in_zone(self, zone: Option<Arc<str>>) -> Self {
        Self { zone, ..self }
    }

    /// What a set is built from at `now`.
    pub fn circumstances(&self, now: Moment) -> Circumstances<'_> {
        let Self { workers, zone, seed, .. } = self;
        Circumstances { workers: *workers, zone: zone.as_deref(), seed: *seed, now }
    }
}

/// All upstreams and endpoints that any snapshot or request still uses.
pub struct Registry {
    metrics: Metrics,
    environment: Arc<Environment>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    upstreams: HashMap<Name, Weak<Upstream>>,
    commons: HashMap<Name, Weak<Common>>,
    endpoints: HashMap<EndpointKey, Weak<Endpoint>>,
    /// Those that are in no set any more: when nothing else uses them they are forgotten.
    leaving: Vec<EndpointKey>,
    /// Upstreams that no configuration names; the same goes for what their endpoints share.
    left: Vec<Name>,
    /// Upstreams that were made anew, got other members or are gone since somebody asked.
    changed: HashSet<Name>,
}

impl Known {
    /// What the endpoints of the upstream `name` share.
    fn common(&mut self, name: &Name) -> Arc<Common> {
        let live = self.commons.get(name).and_then(Weak::upgrade);
        live.unwrap_or_else(|| {
            let common = Arc::<Common>::default();
            self.commons.insert(name.clone(), Arc::downgrade(&common));
            common
        })
    }

    /// Gives an upstream other members, if they are others.
    fn swap_members(&mut self, upstream: &Upstream, members: Vec<Member>, now: Moment) {
        let before = upstream.endpoints();
        let same = before.members().len() == members.len()
            && before.members().iter().zip(&members).all(|(a, b)| {
                a.endpoint.id == b.endpoint.id
                    && (a.weight, a.priority, &a.zone, a.draining)
                        == (b.weight, b.priority, &b.zone, b.draining)
            });
        // An unchanged set keeps its place in the order of turns.
        if !same {
            if upstream.spec.health.is_some() {
                health::introduce(before.members(), &members);
            }
            self.retire_missing(upstream, &members);
            upstream.replace_members(members, now);
        }
    }

    /// Retires the endpoints of an upstream that are not among its members `now`.
    fn retire_missing(&mut self, upstream: &Upstream, now: &[Member]) {
        let staying: HashSet<EndpointId> = now.iter().map(|member| member.endpoint.id).collect();
        for Member { endpoint, .. } in upstream.endpoints().members() {
            if staying.contains(&endpoint.id) {
                continue;
            }
            endpoint.retire();
            endpoint.metrics.set_up(false);
            let (name, transport) = (&upstream.name, &upstream.transport);
            let host = endpoint.host.as_ref();
            self.leaving.push(EndpointKey::new(name, endpoint.address, host, transport));
        }
    }

    /// Forgets what left and nothing uses any more.
    fn tidy(&mut self) {
        let Self { upstreams, endpoints, leaving, commons, left, .. } = self;
        leaving.retain(|key| {
            let endpoint = endpoints.get(key).and_then(Weak::upgrade);
            if endpoint.is_none() {
                endpoints.remove(key);
            }
            // One that came back in its place is none of those that left.
            endpoint.is_some_and(|endpoint| endpoint.is_retired())
        });
        left.retain(|name| {
            if upstreams.contains_key(name) {
                // It came back.
                return false;
            }
            let lives = commons.get(name).is_some_and(|common| common.strong_count() > 0);
            if !lives {
                commons.remove(name);
            }
            lives
        });
    }
}

/// What makes two endpoints the same. Connections made with other TLS settings or another
/// protocol are never shared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct EndpointKey {
    upstream: Name,
    address: SocketAddr,
    /// What most have not: there are as many keys as endpoints.
    more: Option<Box<More>>,
}

/// What else tells endpoints apart.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct More {
    host: Option<Arc<str>>,
    protocol: ir::UpstreamProtocol,
    tls: Option<TransportKey>,
}

impl EndpointKey {
    fn new(
        upstream: &Name,
        address: SocketAddr,
        host: Option<&Arc<str>>,
        transport: &Transport,
    ) -> Self {
        let more = More {
            host: host.cloned(),
            protocol: transport.protocol,
            tls: transport.tls.as_ref().map(|tls| tls.key),
        };
        let more = (more != More::default()).then(|| Box::new(more));
        Self { upstream: upstream.clone(), address, more }
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(metrics: Metrics, environment: Environment) -> Self {
        let (environment, known) = (Arc::new(environment), Mutex::default());
        Self { metrics, environment, known }
    }

    /// The upstream `name` as `spec` wants it, with `targets` as its endpoints: the one already
    /// there where `spec` and `transport` are the same, else a new one around the same endpoint
    /// states.
    pub fn obtain(
        &self,
        name: &Name,
        spec: &Arc<ir::Upstream>,
        transport: Transport,
        targets: &[Target],
        now: Moment,
    ) -> Arc<Upstream> {
        let mut known = self.lock();
        self.change(&mut known, name);
        let before = known.upstreams.get(name).and_then(Weak::upgrade);
        if let Some(upstream) = &before
            && upstream.spec.asks_the_same(spec)
            && is_same(&upstream.transport, &transport)
        {
            let members = self.members(&mut known, name, &upstream.transport, targets, now);
            known.swap_members(upstream, members, now);
            return upstream.clone();
        }
        let members = self.members(&mut known, name, &transport, targets, now);
        if let Some(before) = &before {
            if spec.health.is_some() {
                health::introduce(before.endpoints().members(), &members);
            }
            known.retire_missing(before, &members);
        }
        let upstream = Upstream::new(
            name.clone(),
            spec.clone(),
            transport,
            self.metrics.upstream(name),
            self.environment.clone(),
            known.common(name),
            members,
            now,
        );
        let upstream = Arc::new(match &before {
            Some(before) => upstream.keep_limits(before),
            None => upstream,
        });
        known.upstreams.insert(name.clone(), Arc::downgrade(&upstream));
        self.environment.attention.ask(name);
        upstream
    }

    /// Gives the upstream `name` other endpoints without a new snapshot. Nothing happens when
    /// it is gone.
    pub fn update_endpoints(&self, name: &Name, targets: &[Target], now: Moment) {
        let mut known = self.lock();
        self.change(&mut known, name);
        let Some(upstream) = known.upstreams.get(name).and_then(Weak::upgrade) else { return };
        let members = self.members(&mut known, name, &upstream.transport, targets, now);
        known.swap_members(&upstream, members, now);
    }

    /// Retires the endpoints of upstreams that no configuration names, and forgets those.
    pub fn forget_unused(&self, in_use: impl Fn(&Name) -> bool) {
        let mut known = self.lock();
        let known = &mut *known;
        let is_gone = |name: &Name, upstream: &mut Weak<Upstream>| {
            !in_use(name) || upstream.strong_count() == 0
        };
        let gone: Vec<_> = known.upstreams.extract_if(is_gone).collect();
        for (name, upstream) in gone {
            if let Some(upstream) = upstream.upgrade() {
                known.retire_missing(&upstream, &[]);
            }
            self.change(known, &name);
            known.left.push(name);
        }
        known.tidy();
    }

    /// Forgets what nothing uses any more of that which left.
    pub fn tidy(&self) {
        self.lock().tidy();
    }

    /// All upstreams in use.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.lock().upstreams.values().filter_map(Weak::upgrade).collect()
    }

    /// An upstream in use.
    pub fn upstream(&self, name: &Name) -> Option<Arc<Upstream>> {
        self.lock().upstreams.get(name).and_then(Weak::upgrade)
    }

    /// The upstreams that were made anew, got other members or are gone since this was last called.
    pub fn take_changed(&self) -> HashSet<Name> {
        std::mem::take(&mut self.lock().changed)
    }

    /// Looks after every upstream in which something is going on.
    pub fn upkeep(&self, now: Moment) {
        let attention = &self.environment.attention;
        for name in attention.take() {
            let again = self.upstream(&name).is_some_and(|upstream| upstream.upkeep(now));
            if again {
                attention.ask(&name);
            }
        }
    }

    /// The same of those alone for which that has no time.
    pub fn upkeep_urgent(&self, now: Moment) {
        for name in self.environment.attention.take_urgent() {
            if let Some(upstream) = self.upstream(&name) {
                // It stays on the list of all.
                upstream.upkeep(now);
            }
        }
    }

    /// Ready when there is something that has no time, or [`Registry::take_changed`] has something.
    pub async fn upkeep_wanted(&self) {
        self.environment.attention.urged().await;
    }

    fn members(
        &self,
        known: &mut Known,
        upstream: &Name,
        transport: &Transport,
        targets: &[Target],
        now: Moment,
    ) -> Vec<Member> {
        let common = known.common(upstream);
        let members = targets.iter().map(|target| {
            let (address, host) = (target.address, target.host.as_ref());
            let key = EndpointKey::new(upstream, address, host, transport);
            let live = known.endpoints.get(&key).and_then(Weak::upgrade);
            let endpoint = live.filter(|endpoint| !endpoint.is_retired()).unwrap_or_else(|| {
                let metrics = self.metrics.endpoint(upstream, &target.address.to_string());
                let endpoint = Endpoint::new(
                    target.address,
                    target.host.clone(),
                    metrics,
                    common.clone(),
                    now,
                );
                endpoint.metrics.set_up(true);
                let endpoint = Arc::new(endpoint);
                known.endpoints.insert(key, Arc::downgrade(&endpoint));
                endpoint
            });
            Member {
                endpoint,
                weight: target.weight.max(1),
                priority: target.priority,
                zone: target.zone.clone(),
                draining: target.draining,
            }
        });
        members.collect()
    }

    fn change(&self, known: &mut Known, name: &Name) {
        known.changed.insert(name.clone());
        self.environment.attention.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether connections are made in the same way. What `spec` says is not enough: other settings
/// stand in for those that cannot be used.
fn is_same(a: &Transport, b: &Transport) -> bool {
    let key = |transport: &Transport| transport.tls.as_ref().map(|tls| tls.key);
    a.protocol == b.protocol && key(a) == key(b)
}

#[cfg(test)]
mod tests;
