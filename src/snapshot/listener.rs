//! A listener as the request path sees it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{HostIndex, HostTable, Passage, RouteId};
use crate::ir::{self, Name};
use crate::telemetry::{ListenerMetrics, RouteMetrics};
use crate::tls::{ClientDemand, PolicyId, ServerTls};

/// A listener's number: the same for one name as long as the process lives, kept by an address
/// that gets another name, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// A compiled listener.
pub struct CompiledListener {
    /// Its number.
    pub id: ListenerId,
    /// Its name: the `listener` label.
    pub name: Name,
    /// Its configuration.
    pub spec: Arc<ir::Listener>,
    /// Its hosts and their routes.
    pub hosts: Arc<HostIndex<Arc<HostTable>>>,
    /// Its TLS termination.
    pub tls: Option<Arc<ServerTls>>,
    /// Its connection counters.
    pub metrics: Arc<ListenerMetrics>,
    /// The counters of requests that no route matched.
    pub unrouted: Arc<RouteMetrics>,
    /// Whether TLS connections for some of its hosts are not terminated here.
    pub(super) passes: bool,
    /// What hosts demand of client certificates, where any of them does.
    pub(super) demands: Option<HostIndex<Option<Arc<ClientDemand>>>>,
    pub(super) trusted: Box<[IpNet]>,
    /// By route number; `None` for routes that are not served here.
    pub(super) routes: Box<[Option<Arc<RouteMetrics>>]>,
}

impl CompiledListener {
    /// Whether a peer's forwarding headers are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && self.trusted.iter().any(|net| net.contains(&peer))
    }

    /// Whether a client's first words decide if its TLS is terminated here.
    pub fn passes_by_name(&self) -> bool {
        self.passes
    }

    /// Where a TLS connection for `host` goes that is not terminated here; empty for a client that
    /// named none.
    pub fn passage(&self, host: &str) -> Option<&Arc<Passage>> {
        if !self.passes {
            return None;
        }
        self.hosts.lookup(host.as_bytes())?.passage.as_ref()
    }

    /// Whether what is demanded of client certificates goes by the host.
    pub fn asks_by_name(&self) -> bool {
        self.demands.is_some()
    }

    /// What `host` itself demands of client certificates; empty for a client that named none.
    pub fn demand(&self, host: &str) -> Option<&Arc<ClientDemand>> {
        self.demands.as_ref()?.lookup(host.as_bytes())?.as_ref()
    }

    /// Whether a TLS connection that was made under the policy `before` may carry requests for
    /// `host`: not those for a host with a demand that is another one, nor those for one whose TLS is
    /// not terminated here: a client that has another name's certificate for it would never get
    /// there. Always on listeners without TLS.
    pub fn still_admits(&self, before: Option<&PolicyId>, host: &str) -> bool {
        let Some(tls) = &self.tls else { return true };
        if self.passage(host).is_some() {
            return false;
        }
        match self.demand(host) {
            Some(demand) => before == Some(&demand.id),
            None => tls.still_admits(before),
        }
    }

    /// Whether a route is served here.
    pub fn serves(&self, route: RouteId) -> bool {
        self.routes.get(route.0 as usize).is_some_and(Option::is_some)
    }

    /// The counters of a route on this listener.
    pub fn route_metrics(&self, route: RouteId) -> &Arc<RouteMetrics> {
        let metrics = self.routes.get(route.0 as usize).and_then(Option::as_ref);
        metrics.unwrap_or(&self.unrouted)
    }
}

impl std::fmt::Debug for CompiledListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledListener")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
