//! The checks of one endpoint, one after the other.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::error::CheckError;
use super::judge::Judge;
use super::prober::Prober;
use crate::ir::{HealthCheck, Name};
use crate::telemetry::CheckResult;
use crate::upstream::{Endpoint, LastCheck, Upstream};
use crate::util::moment::Moment;
use crate::util::random::Random;

/// How many checks run at once, of healthy endpoints and of others.
const LANE: usize = 128;
/// The shortest time between two checks, whatever the configuration says.
const SHORTEST: Duration = Duration::from_millis(10);

/// Places for checks that run.
pub(super) struct Lanes {
    healthy: Semaphore,
    unhealthy: Semaphore,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { healthy: Semaphore::new(LANE), unhealthy: Semaphore::new(LANE) }
    }
}

/// The upstream an endpoint belongs to now: another configuration brings another one.
pub(super) struct UpstreamSlot(pub Mutex<Weak<Upstream>>);

impl UpstreamSlot {
    pub fn set(&self, upstream: &Arc<Upstream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(upstream);
    }

    fn get(&self) -> Option<Arc<Upstream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}

/// The checks of one endpoint.
pub(super) struct Task {
    spec: HealthCheck,
    name: Name,
    prober: Prober,
    judge: Judge,
    upstream: Arc<UpstreamSlot>,
    /// Not held: an endpoint lives as long as the configuration and requests want it to.
    endpoint: Weak<Endpoint>,
    lanes: Arc<Lanes>,
    random: Random,
}

impl Task {
    pub fn new(
        spec: &HealthCheck,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        slot: Arc<UpstreamSlot>,
        lanes: Arc<Lanes>,
        random: Random,
    ) -> Self {
        let decided = endpoint.last_check().map(|_| endpoint.availability.is_healthy());
        Self {
            name: upstream.name.clone(),
            prober: Prober::new(spec, &upstream.transport, endpoint),
            judge: Judge::new(spec, decided),
            upstream: slot,
            endpoint: Arc::downgrade(endpoint),
            spec: spec.clone(),
            lanes,
            random,
        }
    }

    /// Checks for ever, for the first time after `delay`.
    pub async fn run(mut self, delay: Duration) {
        tokio::time::sleep(delay).await;
        loop {
            let Some(endpoint) = self.endpoint.upgrade() else { return };
            let healthy = endpoint.availability.is_healthy();
            drop(endpoint);
            let lanes = self.lanes.clone();
            let lane = if healthy { &lanes.healthy } else { &lanes.unhealthy };
            let place = lane.acquire().await;
            let started = Instant::now();
            let outcome = self.prober.check().await;
            drop(place);
            let Some(endpoint) = self.endpoint.upgrade() else { return };
            let healthy = self.settle(&endpoint, outcome, started.elapsed());
            drop(endpoint);
            let pause = pause(&self.spec, healthy, &mut self.random);
            tokio::time::sleep_until(started + pause).await;
        }
    }

    /// Puts down what came out. Returns whether the endpoint is healthy.
    fn settle(
        &mut self,
        endpoint: &Endpoint,
        outcome: Result<String, CheckError>,
        took: Duration,
    ) -> bool {
        let passed = outcome.is_ok();
        let (result, text) = match outcome {
            Ok(text) => (CheckResult::Success, text),
            Err(error) => (error.result, error.text),
        };
        let healthy = self.judge.take(passed);
        let now = Moment::now();
        endpoint.metrics.checked(result);
        let (row, text) = (self.judge.row(), Arc::<str>::from(text));
        let text = text.clone();
        endpoint.set_last_check(Some(LastCheck { at: now, took, result, text: text.clone(), row }));
        let proves_itself = endpoint.availability.is_unproven();
        if endpoint.availability.set_healthy(healthy, now) {
            let (upstream, endpoint) = (&self.name, endpoint.address);
            match (healthy, proves_itself) {
                (true, true) => tracing::info!(%upstream, %endpoint, "first check passed: {text}"),
                (true, false) => tracing::info!(%upstream, %endpoint, "healthy again: {text}"),
                (false, _) => tracing::warn!(%upstream, %endpoint, "unhealthy: {text}"),
            }
            if let Some(upstream) = self.upstream.get() {
                upstream.mark_stale();
            }
        }
        healthy
    }
}

/// The time from one check to the next.
fn pause(spec: &HealthCheck, healthy: bool, random: &mut Random) -> Duration {
    let interval = match spec.unhealthy_interval {
        Some(interval) if !healthy => interval,
        _ => spec.interval,
    };
    let jitter = spec.jitter.factor().min(1.0);
    interval.mul_f64(1.0 + jitter * (2.0 * random.unit() - 1.0)).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Permille, Probe};

    #[test]
    fn the_time_to_the_next_check_jitters_around_the_interval_of_its_state() {
        let mut spec = HealthCheck::new(Probe::Tcp);
        let mut random = Random::new(7);
        let mut seen = |spec: &HealthCheck, healthy| {
            let pauses: Vec<_> =
                (0..1000).map(|_| pause(spec, healthy, &mut random).as_secs_f64()).collect();
            let most = pauses.iter().copied().fold(0.0, f64::max);
            (pauses.into_iter().fold(f64::MAX, f64::min), most)
        };
        let (least, most) = seen(&spec, true);
        assert!((4.5..4.6).contains(&least) && (5.4..5.5).contains(&most), "{least} {most}");
        let (least, most) = seen(&spec, false);
        assert!((0.9..0.92).contains(&least) && (1.08..1.1).contains(&most), "{least} {most}");
        spec.unhealthy_interval = None;
        spec.jitter = Permille(0);
        assert_eq!(seen(&spec, false), (5.0, 5.0));
        spec.interval = Duration::ZERO;
        assert_eq!(seen(&spec, true), (0.01, 0.01), "never without a pause");
    }
}
