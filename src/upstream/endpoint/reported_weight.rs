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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Moment = Moment(1);

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn report(utilization: f64, qps: f64, eps: f64) -> LoadReport {
        LoadReport { utilization, qps, eps }
    }

    fn get(weight: &ReportedWeight, now: Moment) -> Option<f64> {
        weight.get(&WeightedByLoad::default(), START, now)
    }

    #[test]
    fn errors_make_a_server_that_fails_look_busier() {
        let weight = ReportedWeight::default();
        weight.record(&report(0.5, 100.0, 0.0), &WeightedByLoad::default(), at(1));
        assert_eq!(get(&weight, at(11)), Some(200.0));
        weight.record(&report(0.5, 100.0, 50.0), &WeightedByLoad::default(), at(11));
        assert_eq!(get(&weight, at(11)), Some(100.0));
        assert_eq!(weight.last(), Some(100.0));
    }

    #[test]
    fn a_weight_is_used_after_the_blackout_and_again_after_another_one() {
        let weight = ReportedWeight::default();
        let policy = WeightedByLoad::default();
        assert_eq!(get(&weight, at(1)), None);
        weight.record(&report(0.5, 100.0, 0.0), &policy, at(1));
        assert_eq!(get(&weight, at(10)), None, "in the blackout");
        assert_eq!(get(&weight, at(11)), Some(200.0));
        assert_eq!(get(&weight, at(181)), None, "expired");
        weight.record(&report(0.5, 100.0, 0.0), &policy, at(200));
        assert_eq!(get(&weight, at(209)), None, "in another blackout");
        assert_eq!(get(&weight, at(210)), Some(200.0));
        // It was ejected and came back: what it reported before does not count.
        assert_eq!(weight.get(&policy, at(211), at(212)), None);
        weight.record(&report(0.5, 50.0, 0.0), &policy, at(213));
        assert_eq!(weight.get(&policy, at(211), at(222)), None);
        assert_eq!(weight.get(&policy, at(211), at(223)), Some(100.0));
    }

    /// The pseudo-code of gRFC A58.
    #[derive(Default)]
    struct Oracle {
        non_empty_since: Option<Moment>,
        last_updated: Moment,
        weight: f64,
    }

    impl Oracle {
        fn update(&mut self, report: &LoadReport, penalty: f64, now: Moment) {
            let LoadReport { mut utilization, qps, eps } = *report;
            if utilization > 0.0 && qps > 0.0 {
                utilization += eps / qps * penalty;
            }
            let weight = if utilization == 0.0 { 0.0 } else { qps / utilization };
            if weight == 0.0 {
                return;
            }
            self.non_empty_since.get_or_insert(now);
            (self.last_updated, self.weight) = (now, weight);
        }

        fn get(&mut self, policy: &WeightedByLoad, now: Moment) -> f64 {
            if now.since(self.last_updated) >= policy.expiration {
                self.non_empty_since = None;
                return 0.0;
            }
            match self.non_empty_since {
                Some(since) if now.since(since) >= policy.blackout => self.weight,
                _ => 0.0,
            }
        }
    }

    proptest! {
        #[test]
        fn weights_are_those_of_the_proposal(
            events in prop::collection::vec(
                (1u64..100, any::<bool>(), 0.0..2.0f64, 0.0..100.0f64, 0.0..10.0f64), 1..60
            ),
            penalty in 0u32..3000,
        ) {
            let error_penalty = crate::ir::Permille(penalty);
            let policy = WeightedByLoad { error_penalty, ..WeightedByLoad::default() };
            let (weight, mut oracle) = (ReportedWeight::default(), Oracle::default());
            let mut now = 1000;
            for (wait, reports, utilization, qps, eps) in events {
                now += wait;
                // Some fields are left out now and then.
                let (utilization, qps) = (utilization.max(0.2) - 0.2, qps.max(10.0) - 10.0);
                if reports {
                    let report = report(utilization, qps, eps);
                    weight.record(&report, &policy, at(now));
                    oracle.update(&report, policy.error_penalty.factor(), at(now));
                }
                let got = weight.get(&policy, START, at(now)).unwrap_or(0.0);
                prop_assert_eq!(got, oracle.get(&policy, at(now)));
            }
        }
    }
}
