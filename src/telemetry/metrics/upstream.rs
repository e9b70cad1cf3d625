//! What is counted per upstream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Distribution, Histogram};
use super::page::Page;
use super::shard::{Count, Sharded, Sparse, WorkerId};
use crate::ir::Name;
use crate::telemetry::families::Family;
use crate::telemetry::{EjectionCause, Reason, ReportResult};

/// The counters of one upstream. Its histograms are filled by its endpoints' handles and are
/// kept here rather than per endpoint: sixteen series for every pod that ever lived would make
/// most of the page.
#[derive(Debug)]
pub struct UpstreamMetrics {
    upstream: Name,
    ejected: AtomicU64,
    /// Requests that may be in flight and those that wait; [`UNLIMITED`] where there is no limit.
    concurrency: AtomicU64,
    pending: AtomicU64,
    /// Places of connections that are taken, and how many there are.
    connections: AtomicU64,
    connection_limit: AtomicU64,
    /// Written by the control side, which is one thread.
    ejections: Sparse<EjectionCause>,
    /// Written by the control side, too.
    polls: Sparse<ReportResult>,
    shards: Sharded<UpstreamShard>,
}

/// No limit.
const UNLIMITED: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct UpstreamShard {
    connect: Histogram,
    response: Histogram,
    no_endpoint: Count,
    reports: Sparse<ReportResult>,
    retries: Sparse<&'static str>,
    retries_refused: Sparse<&'static str>,
    shed: Sparse<Reason>,
    hedges: Count,
    hedges_won: Count,
    hedges_refused: Sparse<&'static str>,
}

impl UpstreamMetrics {
    pub(super) fn new(upstream: Name, workers: usize) -> Self {
        Self {
            upstream,
            ejected: AtomicU64::new(0),
            concurrency: AtomicU64::new(UNLIMITED),
            pending: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connection_limit: AtomicU64::new(UNLIMITED),
            ejections: Sparse::default(),
            polls: Sparse::default(),
            shards: Sharded::new(workers),
        }
    }

    /// Counts a report of load that came with a response.
    pub fn reported(&self, worker: WorkerId, result: ReportResult) {
        if let Some(shard) = self.shards.of(worker) {
            shard.reports.add(result);
        }
    }

    /// Counts a report of load that was polled. Control side only.
    pub fn polled(&self, result: ReportResult) {
        self.polls.add(result);
    }

    /// Counts an ejection. Control side only.
    pub fn ejection(&self, cause: EjectionCause) {
        self.ejections.add(cause);
    }

    /// Says how many requests may be in flight, if that is limited, and how many wait.
    pub fn set_queue(&self, concurrency: Option<u32>, pending: u32) {
        self.concurrency.store(concurrency.map_or(UNLIMITED, u64::from), Ordering::Relaxed);
        self.pending.store(u64::from(pending), Ordering::Relaxed);
    }

    /// Says how many connections are open or being made and how many may be, if that is limited.
    pub fn set_connections(&self, taken_and_limit: Option<(u32, u32)>) {
        let (taken, limit) = taken_and_limit.unzip();
        self.connections.store(taken.map_or(0, u64::from), Ordering::Relaxed);
        self.connection_limit.store(limit.map_or(UNLIMITED, u64::from), Ordering::Relaxed);
    }

    /// Says how many endpoints are ejected.
    pub fn set_ejected(&self, endpoints: usize) {
        self.ejected.store(endpoints as u64, Ordering::Relaxed);
    }

    /// Counts a further attempt after one that failed for `reason`: a reason flag, or what the
    /// retry policy found in its response.
    #[inline]
    pub fn retry(&self, worker: WorkerId, reason: &'static str) {
        if let Some(shard) = self.shards.of(worker) {
            shard.retries.add(reason);
        }
    }

    /// Counts a further attempt that was not made, because of the `budget` or the `limit`.
    pub fn retry_refused(&self, worker: WorkerId, by: &'static str) {
        if let Some(shard) = self.shards.of(worker) {
            shard.retries_refused.add(by);
        }
    }

    /// Counts a request that was turned away to spare the upstream.
    pub fn shed(&self, worker: WorkerId, reason: Reason) {
        if let Some(shard) = self.shards.of(worker) {
            shard.shed.add(reason);
        }
    }

    /// Counts a second attempt of a slow request.
    pub fn hedge(&self, worker: WorkerId) {
        if let Some(shard) = self.shards.of(worker) {
            shard.hedges.add(1);
        }
    }

    /// Counts a second attempt whose response came first.
    pub fn hedge_won(&self, worker: WorkerId) {
        if let Some(shard) = self.shards.of(worker) {
            shard.hedges_won.add(1);
        }
    }

    /// Counts a second attempt that was not made, because of the `budget` or the `limit`.
    pub fn hedge_refused(&self, worker: WorkerId, by: &'static str) {
        if let Some(shard) = self.shards.of(worker) {
            shard.hedges_refused.add(by);
        }
    }

    /// Counts a request for which there was no endpoint to choose.
    #[inline]
    pub fn no_endpoint(&self, worker: WorkerId) {
        if let Some(shard) = self.shards.of(worker) {
            shard.no_endpoint.add(1);
        }
    }

    #[inline]
    pub(super) fn connected(&self, worker: WorkerId, duration: Duration) {
        if let Some(shard) = self.shards.of(worker) {
            shard.connect.record(duration);
        }
    }

    #[inline]
    pub(super) fn responded(&self, worker: WorkerId, duration: Duration) {
        if let Some(shard) = self.shards.of(worker) {
            shard.response.record(duration);
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.upstream
    }

    pub(super) fn collect(&self, page: &mut Page) {
        let labels = [self.upstream.as_str()];
        let ejected = self.ejected.load(Ordering::Relaxed);
        page.gauge(Family::UpstreamEjected, &labels, ejected as f64);
        for (cause, count) in self.ejections.iter() {
            let labels = [labels[0], cause.as_str()];
            page.counter(Family::UpstreamEjections, &labels, count as f64);
        }
        let reports = self.shards.iter().map(|shard| &shard.reports).chain([&self.polls]);
        for (result, count) in sums(reports) {
            let labels = [labels[0], result.as_str()];
            page.counter(Family::UpstreamLoadReports, &labels, count as f64);
        }
        self.collect_limits(page);
        if self.shards.iter().next().is_none() {
            return;
        }
        let connect = Distribution::of(self.shards.iter().map(|shard| &shard.connect));
        page.histogram(Family::UpstreamConnect, &labels, &connect);
        let response = Distribution::of(self.shards.iter().map(|shard| &shard.response));
        page.histogram(Family::UpstreamResponse, &labels, &response);
        let no_endpoint = self.shards.sum(|shard| shard.no_endpoint.get());
        page.counter(Family::UpstreamNoEndpoint, &labels, no_endpoint as f64);
        let hedges = self.shards.sum(|shard| shard.hedges.get());
        page.counter(Family::UpstreamHedges, &labels, hedges as f64);
        let won = self.shards.sum(|shard| shard.hedges_won.get());
        page.counter(Family::UpstreamHedgesWon, &labels, won as f64);
        let shards = || self.shards.iter();
        for (by, count) in sums(shards().map(|shard| &shard.hedges_refused)) {
            page.counter(Family::UpstreamHedgesRefused, &[labels[0], by], count as f64);
        }
        for (reason, count) in sums(shards().map(|shard| &shard.retries)) {
            page.counter(Family::UpstreamRetries, &[labels[0], reason], count as f64);
        }
        for (by, count) in sums(shards().map(|shard| &shard.retries_refused)) {
            page.counter(Family::UpstreamRetriesRefused, &[labels[0], by], count as f64);
        }
        for (reason, count) in sums(shards().map(|shard| &shard.shed)) {
            page.counter(Family::UpstreamShed, &[labels[0], reason.as_str()], count as f64);
        }
    }

    /// What limits allow and what is used of it, whether or not a request has come yet.
    fn collect_limits(&self, page: &mut Page) {
        let labels = [self.upstream.as_str()];
        let concurrency = self.concurrency.load(Ordering::Relaxed);
        if concurrency != UNLIMITED {
            page.gauge(Family::UpstreamConcurrencyLimit, &labels, concurrency as f64);
        }
        let connection_limit = self.connection_limit.load(Ordering::Relaxed);
        if connection_limit != UNLIMITED {
            page.gauge(Family::UpstreamConnectionLimit, &labels, connection_limit as f64);
            let taken = self.connections.load(Ordering::Relaxed);
            page.gauge(Family::UpstreamConnectionsTaken, &labels, taken as f64);
        }
        if concurrency != UNLIMITED || connection_limit != UNLIMITED {
            let pending = self.pending.load(Ordering::Relaxed);
            page.gauge(Family::UpstreamPending, &labels, pending as f64);
        }
    }
}

fn sums<'a, K: Copy + Ord + 'a>(shards: impl Iterator<Item = &'a Sparse<K>>) -> BTreeMap<K, u64> {
    let mut sums = BTreeMap::new();
    for (key, count) in shards.flat_map(Sparse::iter) {
        *sums.entry(key).or_default() += count;
    }
    sums
}
