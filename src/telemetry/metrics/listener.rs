//! What is counted per listener.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::page::Page;
use super::past::Past;
use super::shard::{Count, Sharded, Sparse, WorkerId};
use crate::ir::Name;
use crate::telemetry::Reason;
use crate::telemetry::families::Family;

/// The counters of one listener. Label values given to it are literals of the program: it keeps
/// a place for each one it is shown.
#[derive(Debug)]
pub struct ListenerMetrics {
    listener: Name,
    /// Whether it accepts where it should.
    up: AtomicBool,
    shards: Sharded<ListenerShard>,
    past: Arc<Past>,
}

impl Drop for ListenerMetrics {
    fn drop(&mut self) {
        self.past.connections.keep(self.begun());
    }
}

#[derive(Debug, Default)]
pub(super) struct ListenerShard {
    accepted: Count,
    closed: Count,
    rejected: Sparse<&'static str>,
    handshakes: Sparse<Handshake>,
    protocols: Sparse<&'static str>,
    auth_cache: Sparse<&'static str>,
    passing: Count,
    passed: Sparse<Reason>,
    passed_up: Count,
    passed_down: Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Handshake {
    result: &'static str,
    version: &'static str,
    resumed: bool,
}

impl ListenerMetrics {
    pub(super) fn new(listener: Name, workers: usize, past: Arc<Past>) -> Self {
        Self { listener, up: AtomicBool::new(false), shards: Sharded::new(workers), past }
    }

    /// Counts a connection as open. Exactly one [`ListenerMetrics::closed`] must follow, from
    /// whichever worker.
    #[inline]
    pub fn accepted(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.accepted.add(1));
    }

    /// Counts a connection that was [`ListenerMetrics::accepted`] as closed.
    #[inline]
    pub fn closed(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.closed.add(1));
    }

    /// Counts a request or connection refused before a route was looked up.
    pub fn rejected(&self, worker: WorkerId, reason: &'static str) {
        self.with(worker, |shard| shard.rejected.add(reason));
    }

    /// Counts a request about which an authentication service need not be asked (`hit`), or whose
    /// answer was not kept (`miss`).
    pub fn auth_cache(&self, worker: WorkerId, result: &'static str) {
        self.with(worker, |shard| shard.auth_cache.add(result));
    }

    /// Counts a TLS handshake: its result (`ok` or what went wrong), the version (`-` if it came
    /// to none) and whether it resumed a session.
    pub fn handshake(
        &self,
        worker: WorkerId,
        result: &'static str,
        version: &'static str,
        resumed: bool,
    ) {
        self.with(worker, |shard| shard.handshakes.add(Handshake { result, version, resumed }));
    }

    /// Counts a connection that came to speak `protocol` (`http/1.1`, `h2`).
    pub fn protocol(&self, worker: WorkerId, protocol: &'static str) {
        self.with(worker, |shard| shard.protocols.add(protocol));
    }

    /// Counts a TLS connection as passing through. Exactly one [`ListenerMetrics::passed`] must
    /// follow.
    pub fn passing(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.passing.add(1));
    }

    /// Counts the end of a TLS connection that passed through, why it came, and the bytes that its
    /// client and its endpoint sent.
    pub fn passed(&self, worker: WorkerId, reason: Reason, up: u64, down: u64) {
        self.with(worker, |shard| {
            shard.passed.add(reason);
            shard.passed_up.add(up);
            shard.passed_down.add(down);
        });
    }

    /// Tells whether it accepts where it should.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Connections accepted so far, over all workers.
    pub(super) fn begun(&self) -> u64 {
        self.shards.sum(|shard| shard.accepted.get())
    }

    /// Open connections over all workers.
    pub fn connections(&self) -> u64 {
        let closed = self.shards.sum(|shard| shard.closed.get());
        self.begun().saturating_sub(closed)
    }

    #[inline]
    fn with(&self, worker: WorkerId, count: impl FnOnce(&ListenerShard)) {
        if let Some(shard) = self.shards.of(worker) {
            count(shard);
        }
    }

    pub(super) fn collect(&self, page: &mut Page) {
        let listener = self.listener.as_str();
        page.counter(Family::ConnectionsTotal, &[listener], self.begun() as f64);
        page.gauge(Family::Connections, &[listener], self.connections() as f64);
        let up = self.up.load(Ordering::Relaxed);
        page.gauge(Family::ListenerUp, &[listener], f64::from(u8::from(up)));
        for (result, count) in self.total(|shard| &shard.auth_cache) {
            page.counter(Family::AuthCacheLookups, &[listener, result], count as f64);
        }
        for (reason, count) in self.total(|shard| &shard.rejected) {
            page.counter(Family::RejectedRequests, &[listener, reason], count as f64);
        }
        for (protocol, count) in self.total(|shard| &shard.protocols) {
            page.counter(Family::HttpConnections, &[listener, protocol], count as f64);
        }
        for (handshake, count) in self.total(|shard| &shard.handshakes) {
            let resumed = if handshake.resumed { "true" } else { "false" };
            let labels = [listener, handshake.result, handshake.version, resumed];
            page.counter(Family::TlsHandshakes, &labels, count as f64);
        }
        self.collect_passed(page);
    }

    /// Only where something ever passed.
    fn collect_passed(&self, page: &mut Page) {
        let listener = self.listener.as_str();
        // What ended is read first, so that one that ends meanwhile never makes it negative.
        let passed = self.total(|shard| &shard.passed);
        let begun = self.shards.sum(|shard| shard.passing.get());
        if begun == 0 {
            return;
        }
        let open = begun.saturating_sub(passed.values().sum());
        page.gauge(Family::PassthroughConnections, &[listener], open as f64);
        for (reason, count) in passed {
            let labels = [listener, reason.as_str()];
            page.counter(Family::PassthroughConnectionsTotal, &labels, count as f64);
        }
        let up = self.shards.sum(|shard| shard.passed_up.get());
        let down = self.shards.sum(|shard| shard.passed_down.get());
        for (direction, bytes) in [("received", up), ("sent", down)] {
            page.counter(Family::PassthroughBytes, &[listener, direction], bytes as f64);
        }
    }

    fn total<K: Copy + Ord>(
        &self,
        part: impl Fn(&ListenerShard) -> &Sparse<K>,
    ) -> BTreeMap<K, u64> {
        let mut totals = BTreeMap::new();
        for shard in self.shards.iter() {
            for (key, count) in part(shard).iter() {
                *totals.entry(key).or_default() += count;
            }
        }
        totals
    }
}
