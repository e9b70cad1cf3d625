//! The weight that follows from the load an endpoint reports: gRFC A58.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::ir::WeightedByLoad;
use crate::upstream::orca::LoadReport;
use crate::util::float::SharedFloat;
use crate::util::moment::Moment;

/// The weight of one endpoint. None to begin with.
#[derive(Debug, Default)]
pub struct ReportedWeight {
    weight: SharedFloat,
    /// When it was last reported; 0 is never.
    at: AtomicU64,
    /// Since when it has been reported without a break; 0 where the next report begins anew.
    since: AtomicU64,
}

impl ReportedWeight {
    /// Takes in a report: `qps ÷ (utilisation + eps ÷ qps × penalty)`. One that lacks the rate or
    /// the utilisation says nothing.
    pub fn record(&self, report: &LoadReport, policy: &WeightedByLoad, now: Moment) {
        let LoadReport { utilization, qps, eps } = *report;
        if qps <= 0.0 || utilization <= 0.0 {
            return;
        }
        let penalty = eps / qps * policy.error_penalty.factor();
        self.weight.set(qps / (utilization + penalty));
        let now = now.0.max(1);
        self.at.store(now, Ordering::Relaxed);
        // Fails where another report began already.
        let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The weight; `None` where it is not known, has expired, or was not reported for long
    /// enough since the endpoint became `available`. Control side only: begins the blackout
    /// anew where it has to.
    pub fn get(&self, policy: &WeightedByLoad, available: Moment, now: Moment) -> Option<f64> {
        let at = Moment(self.at.load(Ordering::Relaxed));
        let since = Moment(self.since.load(Ordering::Relaxed));
        if since == Moment(0) {
            return None;
        }
        if now.since(at) >= policy.expiration || since < available {
            self.since.store(0, Ordering::Relaxed);
            return None;
        }
        (now.since(since) >= policy.blackout).then(|| self.weight.get())
    }

    /// The weight as of the last report, used or not; `None` where there was none. For status
    /// pages.
    pub fn last(&self) -> Option<f64> {
        (self.at.load(Ordering::Relaxed) > 0).then(|| self.weight.get())
    }
}
