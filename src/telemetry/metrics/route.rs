//! What is counted per listener and route.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::code::{CodeClass, CodeCounts, CodeTotals};
use super::histogram::{Distribution, Histogram};
use super::page::Page;
use super::past::Past;
use super::shard::{Count, Sharded, Sparse, WorkerId};
use crate::ir::Name;
use crate::telemetry::Reason;
use crate::telemetry::families::Family;

/// A finished exchange, as far as metrics care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The status sent to the client; 0 if none was.
    pub status: u16,
    /// Why the proxy itself answered or broke off.
    pub reason: Reason,
    /// From the complete request head to the last byte of the response.
    pub duration: Duration,
    /// Bytes of the request body received.
    pub request_bytes: u64,
    /// Bytes of the response body sent.
    pub response_bytes: u64,
}

/// The counters of one route behind one listener.
#[derive(Debug)]
pub struct RouteMetrics {
    listener: Name,
    route: Name,
    shards: Sharded<RouteShard>,
    past: Arc<Past>,
}

impl Drop for RouteMetrics {
    fn drop(&mut self) {
        self.past.requests.keep(self.begun());
    }
}

/// 256 bytes with its padding. What goes as it should is counted in `codes`; a combination of
/// reason and class is given its place when it first occurs.
#[derive(Debug, Default)]
pub(super) struct RouteShard {
    started: Count,
    codes: CodeCounts,
    duration: Histogram,
    request_bytes: Count,
    response_bytes: Count,
    reasons: Sparse<(Reason, CodeClass)>,
}

impl RouteMetrics {
    pub(super) fn new(listener: Name, route: Name, workers: usize, past: Arc<Past>) -> Self {
        Self { listener, route, shards: Sharded::new(workers), past }
    }

    /// Counts a request as in flight. Exactly one [`RouteMetrics::finished`] must follow.
    #[inline]
    pub fn started(&self, worker: WorkerId) {
        if let Some(shard) = self.shards.of(worker) {
            shard.started.add(1);
        }
    }

    /// Counts a request that was [`RouteMetrics::started`] as finished.
    #[inline]
    pub fn finished(&self, worker: WorkerId, exchange: &Exchange) {
        let Some(shard) = self.shards.of(worker) else { return };
        let class = CodeClass::of(exchange.status);
        if exchange.reason == Reason::None {
            shard.codes.add(class);
        } else {
            shard.reasons.add((exchange.reason, class));
        }
        shard.duration.record(exchange.duration);
        shard.request_bytes.add(exchange.request_bytes);
        shard.response_bytes.add(exchange.response_bytes);
    }

    /// Requests begun so far, over all workers.
    pub(super) fn begun(&self) -> u64 {
        self.shards.sum(|shard| shard.started.get())
    }

    /// Requests in flight over all workers.
    pub fn in_flight(&self) -> u64 {
        // What ended is read first, so that a request ending meanwhile never makes it negative.
        let finished = self.shards.sum(|shard| shard.duration.count());
        self.begun().saturating_sub(finished)
    }

    pub(super) fn collect(&self, page: &mut Page) {
        if self.shards.iter().next().is_none() {
            return;
        }
        let labels = [self.listener.as_str(), self.route.as_str()];
        let mut codes = CodeTotals::default();
        let mut reasons: BTreeMap<(Reason, &str), u64> = BTreeMap::new();
        for shard in self.shards.iter() {
            shard.codes.add_to(&mut codes);
            for ((reason, class), count) in shard.reasons.iter() {
                *reasons.entry((reason, class.label())).or_default() += count;
            }
        }
        for (class, count) in codes.iter() {
            let labels = [labels[0], labels[1], class.label(), Reason::None.as_str()];
            page.counter(Family::Requests, &labels, count as f64);
        }
        for ((reason, class), count) in reasons {
            let labels = [labels[0], labels[1], class, reason.as_str()];
            page.counter(Family::Requests, &labels, count as f64);
        }
        page.gauge(Family::RequestsInFlight, &labels, self.in_flight() as f64);
        let durations = Distribution::of(self.shards.iter().map(|shard| &shard.duration));
        page.histogram(Family::RequestDuration, &labels, &durations);
        let bytes = self.shards.sum(|shard| shard.request_bytes.get());
        page.counter(Family::RequestBytes, &labels, bytes as f64);
        let bytes = self.shards.sum(|shard| shard.response_bytes.get());
        page.counter(Family::ResponseBytes, &labels, bytes as f64);
    }
}
