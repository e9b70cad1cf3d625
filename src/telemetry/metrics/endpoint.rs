//! What is counted per endpoint of an upstream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::code::{CodeClass, CodeCounts, CodeTotals};
use super::histogram::micros;
use super::page::Page;
use super::shard::{Count, Sharded, Sparse, WorkerId};
use super::upstream::UpstreamMetrics;
use crate::ir::Name;
use crate::telemetry::families::Family;
use crate::telemetry::{CheckResult, GrpcCode, Reason};

/// The counters of one endpoint; holds its upstream's alive.
#[derive(Debug)]
pub struct EndpointMetrics {
    upstream: Arc<UpstreamMetrics>,
    endpoint: Name,
    up: AtomicBool,
    /// Written by the control side, which is one thread.
    checks: Sparse<CheckResult>,
    shards: Sharded<EndpointShard>,
}

/// 128 bytes.
#[derive(Debug, Default)]
pub(super) struct EndpointShard {
    attempts: Count,
    reused: Count,
    opened: Count,
    closed: Count,
    response_micros: Count,
    codes: CodeCounts,
    errors: Sparse<Reason>,
    calls: Sparse<GrpcCode>,
}

impl EndpointMetrics {
    pub(super) fn new(upstream: Arc<UpstreamMetrics>, endpoint: Name, workers: usize) -> Self {
        let (up, checks) = (AtomicBool::new(true), Sparse::default());
        Self { upstream, endpoint, up, checks, shards: Sharded::new(workers) }
    }

    /// Counts a request given to this endpoint.
    #[inline]
    pub fn attempt(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.attempts.add(1));
    }

    /// Records how long a new connection took until it was ready, TLS included.
    #[inline]
    pub fn connected(&self, worker: WorkerId, duration: Duration) {
        self.upstream.connected(worker, duration);
    }

    /// Counts an attempt that used an open connection.
    #[inline]
    pub fn reused(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.reused.add(1));
    }

    /// Counts a response head with `status`, received `duration` after the attempt began.
    #[inline]
    pub fn responded(&self, worker: WorkerId, status: u16, duration: Duration) {
        self.with(worker, |shard| {
            shard.codes.add(CodeClass::of(status));
            shard.response_micros.add(micros(duration));
        });
        self.upstream.responded(worker, duration);
    }

    /// Counts a gRPC call that ended with `code`.
    #[inline]
    pub fn called(&self, worker: WorkerId, code: GrpcCode) {
        self.with(worker, |shard| shard.calls.add(code));
    }

    /// Counts an attempt that brought no usable response.
    #[inline]
    pub fn failed(&self, worker: WorkerId, reason: Reason) {
        self.with(worker, |shard| shard.errors.add(reason));
    }

    /// Counts a connection as open. Exactly one [`EndpointMetrics::closed`] must follow.
    #[inline]
    pub fn opened(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.opened.add(1));
    }

    /// Counts a connection that was [`EndpointMetrics::opened`] as closed.
    #[inline]
    pub fn closed(&self, worker: WorkerId) {
        self.with(worker, |shard| shard.closed.add(1));
    }

    /// Counts a health check. Control side only.
    pub fn checked(&self, result: CheckResult) {
        self.checks.add(result);
    }

    /// Says whether the endpoint may be chosen; true from the start.
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// The name of its upstream.
    pub(super) fn upstream(&self) -> &str {
        self.upstream.name().as_str()
    }

    /// Open connections over all workers.
    pub fn connections(&self) -> u64 {
        let closed = self.shards.sum(|shard| shard.closed.get());
        self.shards.sum(|shard| shard.opened.get()).saturating_sub(closed)
    }

    #[inline]
    fn with(&self, worker: WorkerId, count: impl FnOnce(&EndpointShard)) {
        if let Some(shard) = self.shards.of(worker) {
            count(shard);
        }
    }

    pub(super) fn collect(&self, page: &mut Page) {
        let labels = [self.upstream.name().as_str(), self.endpoint.as_str()];
        let up = self.up.load(Ordering::Relaxed);
        page.gauge(Family::EndpointUp, &labels, f64::from(u8::from(up)));
        for (result, count) in self.checks.iter() {
            let labels = [labels[0], labels[1], result.as_str()];
            page.counter(Family::HealthChecks, &labels, count as f64);
        }
        if self.shards.iter().next().is_none() {
            return;
        }
        let attempts = self.shards.sum(|shard| shard.attempts.get());
        page.counter(Family::UpstreamAttempts, &labels, attempts as f64);
        let reused = self.shards.sum(|shard| shard.reused.get());
        page.counter(Family::UpstreamReused, &labels, reused as f64);
        page.gauge(Family::UpstreamConnections, &labels, self.connections() as f64);
        let micros = self.shards.sum(|shard| shard.response_micros.get());
        page.counter(Family::UpstreamEndpointResponse, &labels, micros as f64 / 1e6);
        let mut codes = CodeTotals::default();
        let mut errors: BTreeMap<Reason, u64> = BTreeMap::new();
        let mut calls: BTreeMap<GrpcCode, u64> = BTreeMap::new();
        for shard in self.shards.iter() {
            shard.codes.add_to(&mut codes);
            for (reason, count) in shard.errors.iter() {
                *errors.entry(reason).or_default() += count;
            }
            for (code, count) in shard.calls.iter() {
                *calls.entry(code).or_default() += count;
            }
        }
        for (class, count) in codes.iter() {
            let labels = [labels[0], labels[1], class.label()];
            page.counter(Family::UpstreamResponses, &labels, count as f64);
        }
        for (reason, count) in errors {
            let labels = [labels[0], labels[1], reason.as_str()];
            page.counter(Family::UpstreamErrors, &labels, count as f64);
        }
        for (code, count) in calls {
            let labels = [labels[0], labels[1], code.as_str()];
            page.counter(Family::UpstreamGrpcResponses, &labels, count as f64);
        }
    }
}
