//! Load that is asked for: reports (ORCA) and Prequal's probes, polled by one task per endpoint
//! on the control side's runtime.
//!
//! A worker never comes here. Where a poll fails nothing is made of it: what is known ages, and
//! whether an endpoint works at all is for health checks and ejection to say.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::health::fetch;
use super::orca::{self, Digest, LoadReport, Malformed, Metric};
use super::{Endpoint, EndpointId, Member, Probe, Registry, Upstream};
use crate::ir::{Balance, Name, OrcaPolicy, PrequalPolicy};
use crate::telemetry::ReportResult;
use crate::util::moment::Moment;
use crate::util::random::Random;

/// How many polls run at once.
const LANE: usize = 128;
/// No endpoint is asked more often.
const SHORTEST: Duration = Duration::from_millis(50);
/// How far apart the probes of one upstream are at least: with many endpoints they come less
/// often than they age, and between them counts what this process sees itself.
const APART: Duration = Duration::from_millis(1);
/// The most a poll may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Every interval is made longer or shorter by up to this share.
const JITTER: f64 = 0.1;

/// All polls of a process.
pub struct LoadPolls {
    /// By upstream.
    running: HashMap<Name, HashMap<EndpointId, Running>>,
    lane: Arc<Semaphore>,
    random: Random,
}

/// The polls of one endpoint; they end when this is dropped.
struct Running {
    upstream: Weak<Upstream>,
    interval: Duration,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoadPolls {
    /// No polls yet; `seed` spreads them.
    pub fn new(seed: u64) -> Self {
        let (running, lane) = (HashMap::new(), Arc::new(Semaphore::new(LANE)));
        Self { running, lane, random: Random::new(seed) }
    }

    /// Polls exactly the endpoints of the registry's upstreams that want it, of which those named
    /// `changed` are not what they were. Needs a tokio runtime around it.
    pub fn follow(&mut self, registry: &Registry, changed: &HashSet<Name>) {
        for name in changed {
            let mut before = self.running.remove(name).unwrap_or_default();
            let Some(upstream) = registry.upstream(name) else { continue };
            let set = upstream.endpoints();
            let Some(interval) = interval(&upstream, set.members().len()) else { continue };
            let mut running = HashMap::new();
            for Member { endpoint, .. } in set.members() {
                let same = before.remove(&endpoint.id).filter(|running| {
                    running.interval == interval
                        && running.upstream.ptr_eq(&Arc::downgrade(&upstream))
                });
                let polls = same.unwrap_or_else(|| self.start(&upstream, endpoint, interval));
                running.insert(endpoint.id, polls);
            }
            self.running.insert(name.clone(), running);
        }
    }

    fn start(
        &mut self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        interval: Duration,
    ) -> Running {
        let upstream = Arc::downgrade(upstream);
        let polls = Polls {
            upstream: upstream.clone(),
            // Not held: an endpoint lives as long as the configuration and requests want it to.
            endpoint: Arc::downgrade(endpoint),
            lane: self.lane.clone(),
            interval,
            random: Random::new(self.random.draw()),
        };
        let task = tokio::spawn(polls.run()).abort_handle();
        Running { upstream, interval, task }
    }
}

/// How often each of so many endpoints is asked; `None` where none is.
fn interval(upstream: &Upstream, endpoints: usize) -> Option<Duration> {
    match &upstream.spec.balance.algorithm {
        Balance::Prequal(PrequalPolicy { probe_path: Some(_), max_age, .. }) => {
            let apart = APART.saturating_mul(u32::try_from(endpoints).unwrap_or(u32::MAX));
            Some((*max_age / 2).max(apart).max(SHORTEST))
        }
        _ => upstream.orca().filter(|orca| orca.poll.is_some()).map(|orca| orca.interval),
    }
}

struct Polls {
    upstream: Weak<Upstream>,
    endpoint: Weak<Endpoint>,
    lane: Arc<Semaphore>,
    interval: Duration,
    random: Random,
}

impl Polls {
    async fn run(mut self) {
        // The first ones soon, but not all at once.
        let spread = self.interval.min(Duration::from_millis(500));
        tokio::time::sleep(spread.mul_f64(self.random.unit())).await;
        loop {
            let Ok(place) = self.lane.clone().acquire_owned().await else { return };
            let started = Instant::now();
            let (Some(upstream), Some(endpoint)) =
                (self.upstream.upgrade(), self.endpoint.upgrade())
            else {
                return;
            };
            poll(&upstream, &endpoint, self.interval.min(LIMIT)).await;
            drop((upstream, endpoint, place));
            let jitter = 1.0 + JITTER * (2.0 * self.random.unit() - 1.0);
            tokio::time::sleep_until(started + self.interval.mul_f64(jitter)).await;
        }
    }
}

/// Asks once.
async fn poll(upstream: &Upstream, endpoint: &Endpoint, limit: Duration) {
    let algorithm = &upstream.spec.balance.algorithm;
    let (path, report) = match (algorithm, upstream.orca()) {
        (Balance::Prequal(PrequalPolicy { probe_path: Some(path), .. }), _) => (path, None),
        (_, Some(policy @ OrcaPolicy { poll: Some(path), .. })) => (path, Some(policy)),
        _ => return,
    };
    let body = match fetch(&upstream.transport, endpoint, path, limit).await {
        Ok(body) => body,
        Err(error) => {
            let (upstream_name, endpoint) = (&upstream.name, endpoint.address);
            tracing::debug!(upstream = %upstream_name, %endpoint, "load not told: {error}");
            return upstream.metrics.polled(ReportResult::Failed);
        }
    };
    let now = Moment::now();
    if let Some(policy) = report {
        return upstream.note_polled(endpoint, read(&body, policy), now);
    }
    let told = probe(&body);
    let result = if told.is_some() { ReportResult::Accepted } else { ReportResult::Malformed };
    upstream.metrics.polled(result);
    if let (Some(told), Some(samples)) = (told, endpoint.samples()) {
        samples.tell(told, endpoint.in_flight(), now);
    }
}

fn read(body: &[u8], policy: &OrcaPolicy) -> Result<LoadReport, Malformed> {
    let mut digest = Digest::new(&policy.metrics);
    orca::parse(body, &mut |metric: Metric<'_>, value: f64| digest.note(metric, value))?;
    digest.finish()
}

/// What an endpoint tells of its load, as JSON.
#[derive(Deserialize)]
struct Told {
    /// Requests in flight there, from all its clients.
    rif: u32,
    /// The latency to expect, in milliseconds.
    latency_ms: f64,
}

fn probe(body: &[u8]) -> Option<Probe> {
    let told: Told = serde_json::from_slice(body).ok()?;
    if !told.latency_ms.is_finite() || told.latency_ms < 0.0 {
        return None;
    }
    // Saturates.
    let latency = (told.latency_ms * 1000.0) as u32;
    Some(Probe { in_flight: told.rif, latency, failing: false })
}
