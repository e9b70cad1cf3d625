//! Metrics: handles for the data path, added up and written out at scrape.
//!
//! A handle ([`RouteMetrics`] and its kin) is fetched where configuration is compiled and kept
//! there; recording through it takes a few nanoseconds, no lock and no look-up. Series live as
//! long as someone holds their handle: two generations that name the same route share it, and
//! when the last is gone its series leave the page.

mod code;
mod control;
mod endpoint;
mod histogram;
mod ingress_nginx;
mod kubernetes;
mod listener;
mod names;
mod page;
mod past;
mod route;
mod shard;
mod upstream;

#[cfg(test)]
mod tests;

pub use control::{CertificateExpiry, Change, ControlMetrics};
pub use endpoint::EndpointMetrics;
pub use ingress_nginx::{
    ControllerIdentity, IngressNginxMetrics, MethodLabel, Phases, RuleLabels, RuleMetrics,
    SecretCertificate,
};
pub use kubernetes::KubernetesMetrics;
pub use listener::ListenerMetrics;
pub use names::{LookupResult, NameMetrics};
pub use route::{Exchange, RouteMetrics};
pub use shard::WorkerId;
pub use upstream::UpstreamMetrics;

pub(crate) use control::Dropped;
pub(crate) use shard::Count;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::{Registry, TextEncoder, proto};

use self::page::Page;
use self::past::Past;
use super::families::Family;
use crate::ir::Name;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The `route` label of requests that no route matches.
const UNROUTED: &str = "-";

/// The process's metrics; a clone is the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    state: Arc<State>,
    registry: Registry,
}

#[derive(Debug)]
struct State {
    workers: usize,
    control: ControlMetrics,
    kubernetes: KubernetesMetrics,
    routes: Handles<(Name, Name), RouteMetrics>,
    upstreams: Handles<Name, UpstreamMetrics>,
    endpoints: Handles<(Name, Name), EndpointMetrics>,
    listeners: Handles<Name, ListenerMetrics>,
    ingress_nginx: IngressNginxMetrics,
    past: Arc<Past>,
}

impl State {
    /// Requests begun and connections accepted by everything there is and was.
    fn begun(&self) -> (u64, u64) {
        let routes = self.routes.living();
        let requests = self.past.requests.with(|| routes.iter().map(|route| route.begun()).sum());
        let listeners = self.listeners.living();
        let accepted = || listeners.iter().map(|listener| listener.begun()).sum();
        (requests, self.past.connections.with(accepted))
    }
}

impl Metrics {
    /// Metrics for workers numbered from 0 to below `workers`.
    pub fn new(workers: usize) -> Self {
        let state = Arc::new(State {
            workers,
            control: ControlMetrics::default(),
            kubernetes: KubernetesMetrics::default(),
            routes: Handles::default(),
            upstreams: Handles::default(),
            endpoints: Handles::default(),
            listeners: Handles::default(),
            ingress_nginx: IngressNginxMetrics::default(),
            past: Arc::default(),
        });
        let registry = Registry::new();
        register(&registry, Box::new(Families::new(Arc::clone(&state))));
        #[cfg(target_os = "linux")]
        register(&registry, Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        Self { state, registry }
    }

    /// The counters of `route` behind `listener`; the same ones while anyone holds them.
    pub fn route(&self, listener: &Name, route: &Name) -> Arc<RouteMetrics> {
        let key = (listener.clone(), route.clone());
        let (workers, past) = (self.state.workers, &self.state.past);
        self.state
            .routes
            .get(key, |(listener, route)| RouteMetrics::new(listener, route, workers, past.clone()))
    }

    /// The counters of requests to `listener` that no route matches; their route is `-`.
    pub fn unrouted(&self, listener: &Name) -> Arc<RouteMetrics> {
        self.route(listener, &Name::from(UNROUTED))
    }

    /// The counters of `upstream`; the same ones while anyone holds them.
    pub fn upstream(&self, upstream: &Name) -> Arc<UpstreamMetrics> {
        let workers = self.state.workers;
        self.state.upstreams.get(upstream.clone(), |name| UpstreamMetrics::new(name, workers))
    }

    /// The counters of `endpoint` of `upstream`; the same ones while anyone holds them.
    pub fn endpoint(&self, upstream: &Name, endpoint: &str) -> Arc<EndpointMetrics> {
        let workers = self.state.workers;
        let upstream = self.upstream(upstream);
        let key = (upstream.name().clone(), Name::from(endpoint));
        self.state.endpoints.get(key, |(_, name)| EndpointMetrics::new(upstream, name, workers))
    }

    /// The counters of `listener`; the same ones while anyone holds them.
    pub fn listener(&self, listener: &Name) -> Arc<ListenerMetrics> {
        let (workers, past) = (self.state.workers, &self.state.past);
        let make = |name| ListenerMetrics::new(name, workers, past.clone());
        self.state.listeners.get(listener.clone(), make)
    }

    /// The counters of what is told by rule; the same ones while anyone holds them.
    pub fn rule(&self, labels: RuleLabels) -> Arc<RuleMetrics> {
        let workers = self.state.workers;
        self.state.ingress_nginx.rules.get(labels, |labels| RuleMetrics::new(labels, workers))
    }

    /// Requests begun and not finished, on all routes of all listeners.
    pub fn requests_in_flight(&self) -> u64 {
        self.state.routes.living().iter().map(|route| route.in_flight()).sum()
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.state.workers
    }

    /// What the control side tells.
    pub fn control(&self) -> &ControlMetrics {
        &self.state.control
    }

    /// What the Kubernetes provider tells.
    pub fn kubernetes(&self) -> &KubernetesMetrics {
        &self.state.kubernetes
    }

    /// What is told under ingress-nginx's names.
    pub fn ingress_nginx(&self) -> &IngressNginxMetrics {
        &self.state.ingress_nginx
    }

    /// The page in Prometheus' text format ([`CONTENT_TYPE`]), with the process's own metrics.
    /// Takes milliseconds per thousand busy routes: not for workers.
    pub fn encode(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            ::tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        })
    }
}

/// A registration fails only if two families have one name, which a test rules out.
fn register(registry: &Registry, collector: Box<dyn Collector>) {
    if let Err(error) = registry.register(collector) {
        ::tracing::error!(%error, "metrics cannot be registered");
    }
}

/// Every family but the process's, collected in one go.
struct Families {
    state: Arc<State>,
    descriptions: Vec<Desc>,
}

impl Families {
    fn new(state: Arc<State>) -> Self {
        let descriptions = Family::ALL.iter().filter_map(|family| {
            let declaration = family.declaration();
            let labels = declaration.labels.iter().map(|label| (*label).to_owned()).collect();
            let (name, help) = (declaration.name.to_owned(), declaration.help.to_owned());
            Desc::new(name, help, labels, Default::default()).ok()
        });
        Self { state, descriptions: descriptions.collect() }
    }
}

impl Collector for Families {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut page = Page::new();
        self.state.control.collect(&mut page);
        self.state.kubernetes.collect(&mut page);
        self.state.listeners.living().iter().for_each(|handle| handle.collect(&mut page));
        self.state.routes.living().iter().for_each(|handle| handle.collect(&mut page));
        self.state.upstreams.living().iter().for_each(|handle| handle.collect(&mut page));
        self.state.endpoints.living().iter().for_each(|handle| handle.collect(&mut page));
        let mut families = page.into_families();
        families.append(&mut self.state.ingress_nginx.collect(&self.state));
        families
    }
}

/// Handles by key, for as long as others hold them. Its lock is taken when configuration is
/// compiled and at scrape, never on a worker's way.
#[derive(Debug)]
struct Handles<K, T>(Mutex<Table<K, T>>);

#[derive(Debug)]
struct Table<K, T> {
    handles: BTreeMap<K, Weak<T>>,
    /// The size at which the dead are swept out next, so that a process nobody scrapes does not
    /// gather them either.
    sweep_at: usize,
}

impl<K, T> Default for Handles<K, T> {
    fn default() -> Self {
        Self(Mutex::new(Table { handles: BTreeMap::new(), sweep_at: 64 }))
    }
}

impl<K: Clone + Ord, T> Handles<K, T> {
    fn get(&self, key: K, make: impl FnOnce(K) -> T) -> Arc<T> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = table.handles.get(&key).and_then(Weak::upgrade) {
            return handle;
        }
        let handle = Arc::new(make(key.clone()));
        table.handles.insert(key, Arc::downgrade(&handle));
        if table.handles.len() >= table.sweep_at {
            table.sweep();
        }
        handle
    }

    fn living(&self) -> Vec<Arc<T>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.sweep();
        table.handles.values().filter_map(Weak::upgrade).collect()
    }
}

impl<K: Ord, T> Table<K, T> {
    fn sweep(&mut self) {
        self.handles.retain(|_, handle| handle.strong_count() > 0);
        self.sweep_at = (2 * self.handles.len()).max(64);
    }
}
