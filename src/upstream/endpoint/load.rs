//! How busy an endpoint says it is, and how busy it must be by now.
//!
//! Workers write without waiting for one another: of two reports taken in at the same instant
//! one may get lost, or fields of both stand together until the next. Averages bear that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::Verdict;
use crate::upstream::orca::LoadReport;
use crate::util::float::SharedFloat;
use crate::util::moment::Moment;

/// The load of one endpoint. Nothing is known to begin with.
#[derive(Debug, Default)]
pub struct Load {
    /// When the last report came; 0 is never.
    at: AtomicU64,
    /// The utilisation, smoothed.
    utilization: SharedFloat,
    qps: SharedFloat,
    eps: SharedFloat,
    /// Requests in flight from this process as attempts that were answered found them, smoothed.
    usual: SharedFloat,
    usual_at: AtomicU64,
    /// The share of recent attempts that failed.
    failing: SharedFloat,
    failed_at: AtomicU64,
}

/// What an endpoint reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reported {
    /// What counts of its reports; the utilisation is smoothed.
    pub load: LoadReport,
    /// When the last report came.
    pub at: Moment,
}

/// From this utilisation on an endpoint has nothing left to give.
const FULL: f64 = 0.9;
/// The part of a further attempt in the share of failures.
const SHARE: f64 = 0.25;
/// How long a failure is held against an endpoint that gets no more attempts.
const GRUDGE: Duration = Duration::from_secs(10);

impl Load {
    /// Takes in a report. Reports are expected every `interval`, those that come more often are
    /// averaged over a tenth of it.
    pub fn record(&self, report: &LoadReport, interval: Duration, now: Moment) {
        let before = Moment(self.at.swap(now.0.max(1), Ordering::Relaxed));
        let utilization = match before {
            Moment(0) => report.utilization,
            before => {
                let age = now.since(before).as_secs_f64();
                blend(
                    self.utilization.get(),
                    report.utilization,
                    age,
                    interval.as_secs_f64() / 10.0,
                )
            }
        };
        self.utilization.set(utilization);
        self.qps.set(report.qps);
        self.eps.set(report.eps);
    }

    /// Takes in that an attempt was answered that had found `in_flight` requests on their way.
    /// What is in flight to an endpoint that does not answer, or has nothing left to give, is not
    /// what it usually has.
    pub fn answered(&self, in_flight: u32, interval: Duration, now: Moment) {
        if self.utilization.get() < FULL {
            self.note_usual(f64::from(in_flight), interval, now);
        }
    }

    /// Takes in how an attempt ended.
    pub fn ended(&self, verdict: Verdict, now: Moment) {
        if verdict == Verdict::Abandoned {
            return;
        }
        let failed = !verdict.is_success();
        let failing = self.failing(now);
        if failed || failing > 0.0 {
            self.failing.set(failing + (f64::from(u8::from(failed)) - failing) * SHARE);
            self.failed_at.store(now.0, Ordering::Relaxed);
        }
    }

    fn note_usual(&self, found: f64, interval: Duration, now: Moment) {
        let before = Moment(self.usual_at.swap(now.0.max(1), Ordering::Relaxed));
        let usual = match before {
            Moment(0) => found,
            before => {
                let age = now.since(before).as_secs_f64();
                blend(self.usual.get(), found, age, interval.as_secs_f64())
            }
        };
        self.usual.set(usual);
    }

    /// How busy it is by now, with `in_flight` requests from this process on their way; `None`
    /// where its last report is older than three intervals.
    ///
    /// A report is always late, and all who see the same low value would go there together.
    /// What this process has in flight is known at once: the reported utilisation is taken times
    /// as much as it has more in flight than usual, or as less. Failures add their share, as in
    /// gRFC A58, or failing fast would look like having nothing to do. From one interval on a
    /// report fades, so that an endpoint that was busy once is looked at again.
    pub fn estimate(&self, in_flight: u32, interval: Duration, now: Moment) -> Option<f64> {
        let at = match self.at.load(Ordering::Relaxed) {
            0 => return None,
            at => Moment(at),
        };
        let intervals = now.since(at).as_secs_f64() / interval.as_secs_f64().max(1e-3);
        if intervals > 3.0 {
            return None;
        }
        let fresh = (1.5 - intervals / 2.0).min(1.0);
        let pressure = (f64::from(in_flight) + 1.0) / (self.usual.get() + 1.0);
        Some(self.utilization.get() * fresh * pressure + self.failing(now))
    }

    /// What it reported; `None` where it never did.
    pub fn reported(&self) -> Option<Reported> {
        let at = match self.at.load(Ordering::Relaxed) {
            0 => return None,
            at => Moment(at),
        };
        let (utilization, qps, eps) = (self.utilization.get(), self.qps.get(), self.eps.get());
        Some(Reported { load: LoadReport { utilization, qps, eps }, at })
    }

    /// Forgets failures before `then`.
    pub fn forgive_before(&self, then: Moment) {
        if Moment(self.failed_at.load(Ordering::Relaxed)) < then {
            self.failing.set(0.0);
        }
    }

    fn failing(&self, now: Moment) -> f64 {
        let failing = self.failing.get();
        if failing == 0.0 {
            return 0.0;
        }
        let age = now.since(Moment(self.failed_at.load(Ordering::Relaxed)));
        failing * (1.0 - age.as_secs_f64() / GRUDGE.as_secs_f64()).max(0.0)
    }
}

/// An average over about `span` seconds after a sample `age` seconds after the last.
fn blend(average: f64, sample: f64, age: f64, span: f64) -> f64 {
    average + (sample - average) * (1.0 - (-age / span.max(1e-6)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn reporting(utilization: f64) -> Load {
        let load = Load::default();
        load.record(&LoadReport { utilization, qps: 10.0, eps: 0.0 }, INTERVAL, at(1));
        load
    }

    fn answered(load: &Load, status: u16, in_flight: u32, now: Moment) {
        load.answered(in_flight, INTERVAL, now);
        load.ended(Verdict::Responded(status), now);
    }

    #[test]
    fn what_was_not_reported_for_three_intervals_is_not_known() {
        let load = reporting(0.5);
        assert_eq!(Load::default().estimate(0, INTERVAL, at(1)), None);
        assert_eq!(load.estimate(0, INTERVAL, at(11)), Some(0.5));
        assert_eq!(load.estimate(0, INTERVAL, at(21)), Some(0.25), "fading");
        assert_eq!(load.estimate(0, INTERVAL, at(32)), None);
        assert_eq!(load.reported().map(|reported| reported.at), Some(at(1)));
    }

    #[test]
    fn more_in_flight_than_usual_counts_before_the_next_report() {
        let load = reporting(0.4);
        answered(&load, 200, 3, at(1));
        assert_eq!(load.estimate(3, INTERVAL, at(2)), Some(0.4));
        assert_eq!(load.estimate(7, INTERVAL, at(2)), Some(0.8));
        assert_eq!(load.estimate(0, INTERVAL, at(2)), Some(0.1));
    }

    #[test]
    fn requests_that_pile_up_do_not_become_usual() {
        let load = reporting(0.4);
        answered(&load, 200, 3, at(1));
        load.ended(Verdict::Abandoned, at(60));
        let full = LoadReport { utilization: 1.0, ..LoadReport::default() };
        load.record(&full, INTERVAL, at(60));
        answered(&load, 200, 99, at(60));
        assert!(load.estimate(99, INTERVAL, at(60)).is_some_and(|estimate| estimate > 20.0));
    }

    #[test]
    fn frequent_reports_are_averaged_and_rare_ones_believed() {
        let load = reporting(0.0);
        let busy = LoadReport { utilization: 1.0, ..LoadReport::default() };
        load.record(&busy, INTERVAL, at(2));
        let after = load.estimate(0, INTERVAL, at(2)).expect("a report");
        assert!((after - (1.0 - (-1f64).exp())).abs() < 1e-9, "{after}");
        load.record(&busy, INTERVAL, at(12));
        assert!(load.estimate(0, INTERVAL, at(12)).is_some_and(|estimate| estimate > 0.999));
    }

    #[test]
    fn failing_fast_is_not_having_nothing_to_do() {
        let load = reporting(0.0);
        (0..8).for_each(|_| answered(&load, 503, 0, at(2)));
        let failing = load.estimate(0, INTERVAL, at(2)).expect("a report");
        assert!(failing > 0.85, "{failing}");
        let later = load.estimate(0, INTERVAL, at(7)).expect("a report");
        assert!((later - failing / 2.0).abs() < 0.01, "held against it for a while only");
        load.forgive_before(at(3));
        assert_eq!(load.estimate(0, INTERVAL, at(3)), Some(0.0));
    }
}
