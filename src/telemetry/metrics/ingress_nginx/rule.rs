//! What is counted by rule of an Ingress.

use std::collections::BTreeMap;
use std::time::Duration;

use super::families::Series;
use super::outcome::{MethodLabel, Outcome, StatusLabel};
use super::sizes::{SizeTotals, Sizes};
use crate::ir::Name;
use crate::telemetry::families::DURATION_BOUNDS;
use crate::telemetry::metrics::Exchange;
use crate::telemetry::metrics::histogram::{Distribution, Histogram};
use crate::telemetry::metrics::page::Page;
use crate::telemetry::metrics::shard::{Sharded, Sparse, WorkerId};

/// The names by which requests of a rule are told apart from those of others. All of them come
/// out of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleLabels {
    /// The host of the rule: `*.example.com` for a wildcard, `_` without one.
    pub host: Name,
    /// Its path.
    pub path: Name,
    /// The namespace of its Ingress.
    pub namespace: Name,
    /// The name of its Ingress.
    pub ingress: Name,
    /// Its Service.
    pub service: Name,
    /// The canary that took the request; empty where none did.
    pub canary: Name,
}

/// How long parts of a finished request took, as far as there were any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// To a connection with the endpoint; zero where one was open.
    pub connect: Option<Duration>,
    /// From the attempt to the head of the response.
    pub head: Option<Duration>,
    /// From the attempt to the last byte of the response.
    pub response: Option<Duration>,
}

/// The counters of one rule.
#[derive(Debug)]
pub struct RuleMetrics {
    labels: RuleLabels,
    shards: Sharded<RuleShard>,
}

/// A combination of method and status is given its place when it first occurs.
#[derive(Debug, Default)]
struct RuleShard(Sparse<Outcome, Counts>);

#[derive(Debug, Default)]
struct Counts {
    duration: Histogram,
    connect: Histogram,
    head: Histogram,
    response: Histogram,
    request_bytes: Sizes,
    response_bytes: Sizes,
}

impl RuleMetrics {
    pub(in crate::telemetry::metrics) fn new(labels: RuleLabels, workers: usize) -> Self {
        Self { labels, shards: Sharded::new(workers) }
    }

    /// Counts a finished request.
    pub fn finished(
        &self,
        worker: WorkerId,
        method: MethodLabel,
        exchange: &Exchange,
        phases: &Phases,
    ) {
        let Some(shard) = self.shards.of(worker) else { return };
        let counts = shard.0.of(Outcome { method, status: StatusLabel::of(exchange.status) });
        counts.duration.record(exchange.duration);
        for (histogram, took) in [
            (&counts.connect, phases.connect),
            (&counts.head, phases.head),
            (&counts.response, phases.response),
        ] {
            if let Some(took) = took {
                histogram.record(took);
            }
        }
        counts.request_bytes.record(exchange.request_bytes);
        counts.response_bytes.record(exchange.response_bytes);
    }

    pub(super) fn collect(&self, page: &mut Page<Series>) {
        let mut all: BTreeMap<Outcome, Totals> = BTreeMap::new();
        for (outcome, counts) in self.shards.iter().flat_map(|shard| shard.0.entries()) {
            all.entry(outcome).or_default().add(counts);
        }
        let RuleLabels { host, path, namespace, ingress, service, canary } = &self.labels;
        let rule = [host, path, namespace, ingress, service, canary].map(Name::as_str);
        for (outcome, totals) in all {
            let [host, path, namespace, ingress, service, canary] = rule;
            let (method, status) = (outcome.method.as_str(), outcome.status.text());
            let labels = [host, path, namespace, ingress, service, canary, method, &status];
            totals.collect(&labels, page);
        }
    }
}

/// Counts of several workers added up.
#[derive(Default)]
struct Totals {
    duration: Distribution,
    connect: Distribution,
    head: Distribution,
    response: Distribution,
    request_bytes: SizeTotals,
    response_bytes: SizeTotals,
}

impl Totals {
    fn add(&mut self, counts: &Counts) {
        self.duration.add(&counts.duration);
        self.connect.add(&counts.connect);
        self.head.add(&counts.head);
        self.response.add(&counts.response);
        self.request_bytes.add(&counts.request_bytes);
        self.response_bytes.add(&counts.response_bytes);
    }

    fn collect(&self, labels: &[&str], page: &mut Page<Series>) {
        page.counter(Series::Requests, labels, self.duration.count() as f64);
        for (series, durations) in [
            (Series::RequestDuration, &self.duration),
            (Series::ConnectDuration, &self.connect),
            (Series::HeaderDuration, &self.head),
            (Series::ResponseDuration, &self.response),
        ] {
            let (count, sum) = (durations.count(), durations.micros as f64 / 1e6);
            // Answers of the proxy itself were never sent to an endpoint.
            if count > 0 {
                page.buckets(series, labels, times(durations), count, sum);
            }
        }
        let sizes = &self.request_bytes;
        let (count, sum) = (sizes.count(), sizes.sum as f64);
        page.buckets(Series::RequestSize, labels, sizes.lengths(), count, sum);
        let sizes = &self.response_bytes;
        let (count, sum) = (sizes.count(), sizes.sum as f64);
        page.buckets(Series::ResponseSize, labels, sizes.lengths(), count, sum);
        page.buckets(Series::BytesSent, labels, sizes.powers(), count, sum);
    }
}

/// Cumulative counts at the bounds that ingress-nginx has, which are among our own.
fn times(durations: &Distribution) -> impl Iterator<Item = (f64, u64)> {
    const FOREIGN: [u64; 2] = [300_000_000, 1_200_000_000];
    let cumulative = DURATION_BOUNDS.into_iter().zip(durations.buckets);
    let cumulative = cumulative.scan(0, |sum, (bound, count)| {
        *sum += count;
        Some((bound, *sum))
    });
    let theirs = cumulative.filter(|(bound, _)| !FOREIGN.contains(bound));
    theirs.map(|(bound, count)| (bound as f64 / 1e9, count))
}
