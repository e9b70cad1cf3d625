//! One upstream as the data path sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::balance::Pick;
use super::registry::Environment;
use super::{Circumstances, Endpoint, EndpointSet, Member, Observation};
use crate::ir::{self, Name, PoolOptions, UpstreamProtocol};
use crate::telemetry::UpstreamMetrics;
use crate::tls::ClientTls;
use crate::util::moment::Moment;

/// A named group of endpoints.
pub struct Upstream {
    /// Its name: the `upstream` label.
    pub name: Name,
    /// What its configuration wants.
    pub spec: Arc<ir::Upstream>,
    /// How connections to its endpoints are made.
    pub transport: Transport,
    /// Its counters.
    pub metrics: Arc<UpstreamMetrics>,
    environment: Arc<Environment>,
    set: ArcSwap<EndpointSet>,
    /// Held while a set is built and put in place, so that none overtakes another. Control side
    /// only.
    building: Mutex<()>,
    /// Something changed that the set was built from.
    stale: AtomicBool,
}

/// How connections to the endpoints of an upstream are made and kept.
#[derive(Clone)]
pub struct Transport {
    /// The protocol spoken.
    pub protocol: UpstreamProtocol,
    /// TLS settings; `None` is plain text.
    pub tls: Option<Arc<ClientTls>>,
    /// Connection reuse.
    pub pool: PoolOptions,
}

impl Upstream {
    /// An upstream that picks from `members`.
    pub fn new(
        name: Name,
        spec: Arc<ir::Upstream>,
        transport: Transport,
        metrics: Arc<UpstreamMetrics>,
        environment: Arc<Environment>,
        members: Vec<Member>,
        now: Moment,
    ) -> Self {
        let around = environment.circumstances(now);
        let set = Arc::new(EndpointSet::build(&spec.balance, members, around));
        let (set, building, stale) = (ArcSwap::new(set), Mutex::default(), AtomicBool::new(false));
        Self { name, spec, transport, metrics, environment, set, building, stale }
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.set.load()
    }

    /// Picks an endpoint that the request has not been to. Called by workers: no lock, no
    /// allocation.
    pub fn pick(&self, pick: &mut Pick<'_>) -> Option<Arc<Endpoint>> {
        self.set.load().pick(pick).cloned()
    }

    /// Takes in how an attempt went. Called by workers.
    pub fn observe(&self, endpoint: &Endpoint, observation: Observation, now: Moment) {
        let _ = (endpoint, observation, now);
    }

    /// Replaces the endpoints. Requests already on their way are not touched.
    pub fn replace_members(&self, members: Vec<Member>, now: Moment) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        self.rebuild(members, now);
    }

    /// Says that something changed that the set was built from.
    pub fn mark_stale(&self) {
        if !self.stale.swap(true, Ordering::AcqRel) {
            self.environment.wake.notify_one();
        }
    }

    /// What has to be done now and then, about ten times a second and after each wake. Control
    /// side only.
    pub fn upkeep(&self, now: Moment) {
        if self.stale.swap(false, Ordering::AcqRel) {
            let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
            let members = self.set.load().members().to_vec();
            self.rebuild(members, now);
        }
    }

    fn rebuild(&self, members: Vec<Member>, now: Moment) {
        let around: Circumstances<'_> = self.environment.circumstances(now);
        self.set.store(Arc::new(EndpointSet::build(&self.spec.balance, members, around)));
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
