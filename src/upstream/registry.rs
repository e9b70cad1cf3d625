//! Who is who: keeps upstreams and endpoints alive across snapshots by identity.
//!
//! Control side only: the data path never sees this.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

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
#[derive(Clone, Debug)]
pub struct Environment {
    /// How many workers pick.
    pub workers: usize,
    /// The zone of this process; `None` where it is not known.
    pub zone: Option<Arc<str>>,
    /// This process's own seed: what subset it takes, where its turns begin.
    pub seed: u64,
    /// Told when an upstream wants its upkeep before its time.
    pub wake: Arc<Notify>,
}

impl Environment {
    /// `workers` workers in no known zone.
    pub fn new(workers: usize, seed: u64) -> Self {
        Self { workers, zone: None, seed, wake: Arc::default() }
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
    /// Grows whenever members may have come or gone.
    revision: AtomicU64,
}

#[derive(Default)]
struct Known {
    upstreams: HashMap<Name, Weak<Upstream>>,
    commons: HashMap<Name, Weak<Common>>,
    endpoints: HashMap<EndpointKey, Weak<Endpoint>>,
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
    fn new(upstream: &Name, target: &Target, transport: &Transport) -> Self {
        let more = More {
            host: target.host.clone(),
            protocol: transport.protocol,
            tls: transport.tls.as_ref().map(|tls| tls.key),
        };
        let more = (more != More::default()).then(|| Box::new(more));
        Self { upstream: upstream.clone(), address: target.address, more }
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(metrics: Metrics, environment: Environment) -> Self {
        let (environment, known) = (Arc::new(environment), Mutex::default());
        Self { metrics, environment, known, revision: AtomicU64::new(0) }
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
        self.revise();
        let before = known.upstreams.get(name).and_then(Weak::upgrade);
        if let Some(upstream) = &before
            && upstream.spec.asks_the_same(spec)
            && is_same(&upstream.transport, &transport)
        {
            let members = self.members(&mut known, name, &upstream.transport, targets, now);
            swap_members(upstream, members, now);
            return upstream.clone();
        }
        let members = self.members(&mut known, name, &transport, targets, now);
        if let Some(before) = &before {
            if spec.health.is_some() {
                health::introduce(before.endpoints().members(), &members);
            }
            retire_missing(before.endpoints().members(), &members);
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
        upstream
    }

    /// Gives the upstream `name` other endpoints without a new snapshot. Nothing happens when
    /// it is gone.
    pub fn update_endpoints(&self, name: &Name, targets: &[Target], now: Moment) {
        let mut known = self.lock();
        self.revise();
        let Some(upstream) = known.upstreams.get(name).and_then(Weak::upgrade) else { return };
        let members = self.members(&mut known, name, &upstream.transport, targets, now);
        swap_members(&upstream, members, now);
    }

    /// Forgets what nothing uses any more, and retires the endpoints of upstreams that no
    /// configuration names.
    pub fn forget_unused(&self, in_use: impl Fn(&Name) -> bool) {
        let mut known = self.lock();
        self.revise();
        for (name, upstream) in &known.upstreams {
            if !in_use(name)
                && let Some(upstream) = upstream.upgrade()
            {
                upstream.endpoints().members().iter().for_each(|member| member.endpoint.retire());
            }
        }
        known.upstreams.retain(|name, upstream| in_use(name) && upstream.strong_count() > 0);
        known.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        known.commons.retain(|_, common| common.strong_count() > 0);
    }

    /// All upstreams in use.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.lock().upstreams.values().filter_map(Weak::upgrade).collect()
    }

    /// A number that changes whenever members may have come or gone.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Looks after every upstream.
    pub fn upkeep(&self, now: Moment) {
        self.upstreams().iter().for_each(|upstream| upstream.upkeep(now));
    }

    /// Ready when an upstream wants [`Registry::upkeep`] before its time.
    pub async fn upkeep_wanted(&self) {
        self.environment.wake.notified().await;
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
            let key = EndpointKey::new(upstream, target, transport);
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

    fn revise(&self) {
        self.revision.fetch_add(1, Ordering::AcqRel);
        self.environment.wake.notify_one();
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

fn swap_members(upstream: &Upstream, members: Vec<Member>, now: Moment) {
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
        retire_missing(before.members(), &members);
        upstream.replace_members(members, now);
    }
}

fn retire_missing(before: &[Member], now: &[Member]) {
    let staying: HashSet<EndpointId> = now.iter().map(|member| member.endpoint.id).collect();
    for Member { endpoint, .. } in before {
        if !staying.contains(&endpoint.id) {
            endpoint.retire();
            endpoint.metrics.set_up(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Location, Origin};

    fn spec(line: u32, max_idle: u32) -> ir::Upstream {
        let location = Location { file: "a.yaml".into(), line, column: 1 };
        ir::Upstream {
            origin: Origin { location: Some(location), ..Origin::default() },
            endpoints: Vec::new(),
            discovered: false,
            balance: Arc::default(),
            health: None,
            outlier: None,
            limits: Arc::default(),
            protocol: ir::UpstreamProtocol::Http1,
            tls: None,
            pool: ir::PoolOptions { max_idle, ..ir::PoolOptions::default() },
        }
    }

    #[test]
    fn an_upstream_that_only_moved_within_its_file_stays_the_same() {
        let registry = Registry::new(Metrics::new(1), Environment::new(1, 1));
        let obtain = |spec: ir::Upstream| {
            let transport =
                Transport { protocol: spec.protocol, tls: None, pool: spec.pool.clone() };
            registry.obtain(&Name::from("app"), &Arc::new(spec), transport, &[], Moment::now())
        };
        let first = obtain(spec(3, 1));
        assert!(Arc::ptr_eq(&first, &obtain(spec(4, 1))), "a comment above it");
        assert!(!Arc::ptr_eq(&first, &obtain(spec(3, 2))), "another setting");
    }
}
