//! When a slow request of a route is sent a second time: after a fixed time, or after as long as
//! most of the route's recent requests took ("The Tail at Scale", Dean and Barroso, CACM 2013).
//!
//! Live state of a route, kept here because it outlives snapshots.

use std::time::Duration;

use super::budget::Budget;
use super::latencies::Latencies;
use crate::ir::{Hedge, HedgeAfter};
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;

/// The hedging of one route, shared by all workers.
#[derive(Debug)]
pub struct Hedging {
    /// What the configuration wants.
    pub spec: Hedge,
    budget: Budget,
    latencies: Option<Latencies>,
}

impl Hedging {
    /// `spec` at work for `workers` workers.
    pub fn new(spec: &Hedge, workers: usize) -> Self {
        let latencies = match spec.after {
            HedgeAfter::Delay(_) => None,
            HedgeAfter::Quantile(quantile) => Some(Latencies::new(quantile, workers)),
        };
        Self { spec: spec.clone(), budget: Budget::new(spec.budget, 0, workers), latencies }
    }

    /// Counts a request that could be hedged, and tells how long its first attempt is waited for;
    /// `None` where there were too few requests to tell.
    pub fn begin(&self, worker: WorkerId, now: Moment) -> Option<Duration> {
        self.budget.deposit(worker, now);
        match &self.latencies {
            Some(latencies) => latencies.quantile(now),
            None => match self.spec.after {
                HedgeAfter::Delay(delay) => Some(delay),
                HedgeAfter::Quantile(_) => None,
            },
        }
    }

    /// Takes in that a first attempt took `latency` to its response head, or as long without one.
    pub fn observe(&self, worker: WorkerId, latency: Duration, now: Moment) {
        if let Some(latencies) = &self.latencies {
            latencies.record(worker, latency, now);
        }
    }

    /// Takes a second attempt out of the budget; `false` where it is used up.
    pub fn withdraw(&self, now: Moment) -> bool {
        self.budget.withdraw(now)
    }
}
