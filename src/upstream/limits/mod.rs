//! What an upstream bears: its circuit breakers, the queue before them, its budget of retries.
//!
//! Shared by all workers and kept across configurations for as long as the limits stay the same.

mod connections;
mod queue;
mod turns;
mod turnstile;

#[cfg(test)]
mod tests;

pub use connections::ConnectionPlaces;
pub use queue::{Place, Queues, Wait};
pub use turns::Turns;
pub use turnstile::{Full, Turnstile};

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::Observation;
use super::adaptive::Adaptive;
use super::budget::Budget;
use crate::ir::UpstreamLimits;
use crate::util::moment::Moment;

/// The limits of one upstream at work.
#[derive(Debug)]
pub struct Limits {
    /// What they were made from.
    pub spec: UpstreamLimits,
    /// Places of requests; `None` where there is no limit.
    pub requests: Option<Arc<Turnstile>>,
    /// Places of connections; `None` where there is no limit.
    pub connections: Option<Arc<Turnstile>>,
    /// The retry budget.
    pub budget: Budget,
    /// Retries on their way; `None` where there is no limit.
    retries: Option<Arc<Turnstile>>,
    adaptive: Option<Box<Adaptive>>,
    /// How many endpoints may be picked.
    endpoints: AtomicU32,
}

impl Limits {
    /// `spec` at work for `workers` workers, and in force at `connections`.
    pub fn new(spec: &UpstreamLimits, workers: usize, connections: &ConnectionPlaces) -> Self {
        let adaptive = spec.adaptive.clone().map(|adaptive| Box::new(Adaptive::new(adaptive)));
        let limited =
            spec.requests.is_some() || spec.requests_per_endpoint.is_some() || adaptive.is_some();
        let turnstile = |limit| Arc::new(Turnstile::new(limit, spec.pending, workers));
        let budget = &spec.retry_budget;
        let limits = Self {
            spec: spec.clone(),
            requests: limited.then(|| turnstile(u32::MAX)),
            connections: connections.settle(spec, workers),
            budget: Budget::new(budget.ratio, budget.min_per_second, workers),
            retries: spec.retries.map(turnstile),
            adaptive,
            endpoints: AtomicU32::new(0),
        };
        limits.refresh();
        limits
    }

    /// How long a request waits for its place.
    pub fn pending_timeout(&self) -> Duration {
        self.spec.pending_timeout
    }

    /// A retry's place; `Err` where too many are on their way.
    pub fn retry(&self) -> Result<Option<Place>, Full> {
        match &self.retries {
            None => Ok(None),
            Some(turnstile) => Place::take(turnstile).map(Some).ok_or(Full),
        }
    }

    /// Requests that wait.
    pub fn pending(&self) -> u32 {
        self.requests.as_ref().map_or(0, |turnstile| turnstile.waiting())
            + self.connections.as_ref().map_or(0, |turnstile| turnstile.waiting())
    }

    /// How many requests may be in flight; `None` where there is no limit.
    pub fn concurrency(&self) -> Option<u32> {
        self.requests.as_ref().map(|turnstile| turnstile.limit())
    }

    /// Connections that are open or being made, and their limit; `None` where there is none.
    pub fn connections(&self) -> Option<(u32, u32)> {
        self.connections.as_ref().map(|turnstile| (turnstile.taken(), turnstile.limit()))
    }

    /// Retries on their way and their limit; `None` where there is none.
    pub fn retries(&self) -> Option<(u32, u32)> {
        self.retries.as_ref().map(|turnstile| (turnstile.taken(), turnstile.limit()))
    }

    /// Takes in how an attempt went.
    #[inline]
    pub fn observe(&self, seen: Observation, now: Moment) {
        if let (Some(adaptive), Some(requests)) = (&self.adaptive, &self.requests)
            && adaptive.observe(seen, requests.taken(), now).is_some()
        {
            self.refresh();
        }
    }

    /// Says how many endpoints may be picked.
    pub fn set_endpoints(&self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.endpoints.swap(count, Ordering::Relaxed) != count {
            self.refresh();
        }
    }

    /// The places of requests are the least of what each limit allows. What the endpoints bear
    /// counts from the first one on: without any a request is not held back but refused.
    fn refresh(&self) {
        let Some(requests) = &self.requests else { return };
        let endpoints = self.endpoints.load(Ordering::Relaxed);
        let by_endpoint = self.spec.requests_per_endpoint.filter(|_| endpoints > 0);
        let limits = [
            self.spec.requests,
            by_endpoint.map(|limit| limit.saturating_mul(endpoints)),
            self.adaptive.as_deref().map(Adaptive::limit),
        ];
        requests.set_limit(limits.into_iter().flatten().min().unwrap_or(u32::MAX));
    }
}
