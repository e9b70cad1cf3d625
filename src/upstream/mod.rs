//! Upstreams at run time: the live state of endpoints, how one is picked, and the connections to
//! them. All of it outlives snapshots.
//!
//! Endpoint state is shared between workers in atomics and held per endpoint identity, never per
//! route. Connections belong to one worker. This module knows nothing of routes, filters or
//! clients.

pub mod balance;
mod endpoint;
pub mod h1;
pub mod h2;
pub mod pool;
mod registry;
mod set;

pub use endpoint::{Endpoint, EndpointId, InFlight};
pub use registry::{Registry, Target};
pub use set::EndpointSet;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use crate::ir::{Name, PoolOptions, UpstreamProtocol};
use crate::telemetry::{UpstreamMetrics, WorkerId};
use crate::tls::ClientTls;

/// A named group of endpoints as the data path sees it.
pub struct Upstream {
    /// Its name: the `upstream` label.
    pub name: Name,
    /// How connections to its endpoints are made.
    pub transport: Transport,
    /// Its counters.
    pub metrics: Arc<UpstreamMetrics>,
    endpoints: ArcSwap<EndpointSet>,
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
    /// An upstream that picks from `endpoints`.
    pub fn new(
        name: Name,
        transport: Transport,
        metrics: Arc<UpstreamMetrics>,
        endpoints: Arc<EndpointSet>,
    ) -> Self {
        Self { name, transport, metrics, endpoints: ArcSwap::new(endpoints) }
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Guard<Arc<EndpointSet>> {
        self.endpoints.load()
    }

    /// Replaces the endpoints. Requests already on their way are not touched.
    pub fn replace_endpoints(&self, endpoints: Arc<EndpointSet>) {
        self.endpoints.store(endpoints);
    }

    /// Picks an endpoint that is not among `tried`.
    pub fn pick(&self, worker: WorkerId, tried: &[EndpointId]) -> Option<Arc<Endpoint>> {
        self.endpoints.load().pick(worker, tried).cloned()
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).finish_non_exhaustive()
    }
}
