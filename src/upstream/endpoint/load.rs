//! How busy an endpoint says it is, and how busy it must be by now.
//!
//! Workers write without waiting for one another: of two reports taken in at the same instant
//! one may get lost, or fields of both stand together until the next. Averages bear that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::orca::LoadReport;
use crate::upstream::{Observation, Verdict};
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

    /// Takes in how an attempt went. What is in flight to an endpoint that does not answer is not
    /// what it usually has.
    pub fn observe(&self, observation: Observation, interval: Duration, now: Moment) {
        if let Verdict::Responded(_) = observation.verdict {
            self.note_usual(f64::from(observation.in_flight), interval, now);
        }
        if observation.verdict == Verdict::Abandoned {
            return;
        }
        let failed = !observation.verdict.is_success();
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
                blend(self.usual.get(), found, age, interval.as_secs_f64() / 10.0)
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
