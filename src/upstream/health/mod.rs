//! Active health checks: one task per endpoint, on the control side's runtime.
//!
//! A check makes a connection of its own with the upstream's TLS settings and asks what the
//! probe says. The first check decides alone; from then on it takes `rise` successes or `fall`
//! failures in a row. Until its first check an endpoint counts as healthy, as with HAProxy, so
//! that a process that starts does not answer 503 while its checks are on their way; but one that
//! joins others which passed theirs has to pass its own first, as with Envoy. Where none of those
//! is left it does not wait.
//!
//! Endpoints that drain are checked like the others. Checks are spread: first ones over the
//! interval as there are many, later ones by jitter. Only so many run at once, those of healthy
//! endpoints apart from the others, so that many dead endpoints cannot hold up the living.
//!
//! A worker never comes here. This module knows nothing of ejection or of picking.

mod error;
mod exchange;
mod fetch;
mod grpc;
mod http;
mod judge;
mod prober;
mod task;

#[cfg(test)]
mod tests;

pub(super) use fetch::fetch;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::{Endpoint, EndpointId, Member, Registry, Upstream};
use crate::ir::{HealthCheck, Name, UpstreamProtocol};
use crate::tls::TransportKey;
use crate::util::moment::Moment;
use crate::util::random::Random;
use task::{Lanes, Task, UpstreamSlot};

/// How far apart the first checks of many endpoints are, in the mean.
const SPREAD: Duration = Duration::from_millis(1);

/// All health checks of a process.
pub struct HealthChecks {
    /// By upstream.
    running: HashMap<Name, HashMap<EndpointId, Running>>,
    lanes: Arc<Lanes>,
    random: Random,
}

/// The checks of one endpoint; they end when this is dropped.
struct Running {
    terms: Terms,
    upstream: Arc<UpstreamSlot>,
    task: AbortHandle,
}

/// What a task has to be started anew for.
#[derive(PartialEq, Eq)]
struct Terms {
    spec: HealthCheck,
    protocol: UpstreamProtocol,
    tls: Option<TransportKey>,
}

impl HealthChecks {
    /// No checks yet; `seed` spreads them.
    pub fn new(seed: u64) -> Self {
        let (running, lanes) = (HashMap::new(), Arc::default());
        Self { running, lanes, random: Random::new(seed) }
    }

    /// Checks exactly the endpoints of the registry's upstreams that want it, of which those named
    /// `changed` are not what they were. Needs a tokio runtime around it.
    pub fn follow(&mut self, registry: &Registry, changed: &HashSet<Name>, now: Moment) {
        let mut new = Vec::new();
        for name in changed {
            let mut before = self.running.remove(name).unwrap_or_default();
            let Some(upstream) = registry.upstream(name) else { continue };
            let set = upstream.endpoints();
            let Some(spec) = &upstream.spec.health else {
                trust_all(&upstream, set.members(), now);
                continue;
            };
            let mut running = HashMap::new();
            for Member { endpoint, .. } in set.members() {
                let terms = Terms::new(spec, &upstream);
                match before.remove(&endpoint.id).filter(|running| running.terms == terms) {
                    Some(same) => {
                        same.upstream.set(&upstream);
                        running.insert(endpoint.id, same);
                    }
                    None => new.push((terms, upstream.clone(), endpoint.clone())),
                }
            }
            self.running.insert(name.clone(), running);
        }
        let many = u32::try_from(new.len()).unwrap_or(u32::MAX);
        for (terms, upstream, endpoint) in new {
            let delay = first_delay(terms.spec.interval, many, &mut self.random);
            self.start(terms, &upstream, &endpoint, delay);
        }
    }

    /// How many endpoints are checked.
    pub fn len(&self) -> usize {
        self.running.values().map(HashMap::len).sum()
    }

    /// Whether no endpoint is checked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn start(
        &mut self,
        terms: Terms,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        delay: Duration,
    ) {
        let slot = Arc::new(UpstreamSlot(Mutex::new(Arc::downgrade(upstream))));
        let lanes = self.lanes.clone();
        let random = Random::new(self.random.draw());
        let task = Task::new(&terms.spec, upstream, endpoint, slot.clone(), lanes, random);
        let task = tokio::spawn(task.run(delay)).abort_handle();
        let running = self.running.entry(upstream.name.clone()).or_default();
        running.insert(endpoint.id, Running { terms, upstream: slot, task });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Terms {
    fn new(spec: &HealthCheck, upstream: &Upstream) -> Self {
        let tls = upstream.transport.tls.as_ref().map(|tls| tls.key);
        Self { spec: spec.clone(), protocol: upstream.transport.protocol, tls }
    }
}

/// The time to the first check of one of so `many` new endpoints: any time of the interval where
/// they are very many, at once where there is one.
fn first_delay(interval: Duration, many: u32, random: &mut Random) -> Duration {
    let spread = SPREAD.saturating_mul(many.saturating_sub(1));
    interval.min(spread).mul_f64(random.unit())
}

/// Lets new endpoints of a group under checks pass one first, if others of it did. `before` are
/// the members it had.
pub(super) fn introduce(before: &[Member], members: &[Member]) {
    let known: HashSet<_> = before.iter().map(|member| member.endpoint.id).collect();
    let (old, new): (Vec<_>, Vec<_>) =
        members.iter().partition(|member| known.contains(&member.endpoint.id));
    let proven = |member: &&Member| {
        let endpoint = &member.endpoint;
        !member.draining && endpoint.availability.is_available() && endpoint.last_check().is_some()
    };
    if !old.iter().any(proven) {
        return;
    }
    for Member { endpoint, .. } in new {
        endpoint.availability.set_unproven();
        endpoint.metrics.set_up(false);
    }
}

/// Takes back what checks said of endpoints that are not checked any more.
fn trust_all(upstream: &Upstream, members: &[Member], now: Moment) {
    for Member { endpoint, .. } in members {
        endpoint.set_last_check(None);
        if endpoint.availability.set_healthy(true, now) {
            upstream.mark_stale();
        }
    }
}
