//! An endpoint's ejections: why it is out and until when, and how often that happened in a row.
//!
//! Written by the control side, read by status pages; workers never come here.

use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Endpoint;
use crate::ir::{Outlier, Permille};
use crate::telemetry::EjectionCause;
use crate::util::moment::Moment;

/// An ejection that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Why.
    pub reason: EjectionReason,
    /// Since when.
    pub since: Moment,
    /// Until when.
    pub until: Moment,
    /// Which one in a row it is: what its length is multiplied by.
    pub times: u32,
}

impl Ejection {
    /// How long it lasts in all.
    pub fn length(&self) -> Duration {
        self.until.since(self.since)
    }
}

/// Why an endpoint was ejected, with the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EjectionReason {
    /// So many failures of that kind in a row.
    Consecutive {
        /// The kind.
        cause: EjectionCause,
        /// How many.
        count: u32,
    },
    /// Too large a share of an interval's requests failed.
    FailurePercentage {
        /// How many failed.
        failures: u32,
        /// How many there were.
        requests: u32,
    },
    /// The success rate of an interval fell out of the group's.
    SuccessRate {
        /// How many failed.
        failures: u32,
        /// How many there were.
        requests: u32,
        /// The rate it would have taken to stay.
        bound: Permille,
    },
}

impl EjectionReason {
    /// The cause without its figures.
    pub fn cause(self) -> EjectionCause {
        match self {
            Self::Consecutive { cause, .. } => cause,
            Self::FailurePercentage { .. } => EjectionCause::FailurePercentage,
            Self::SuccessRate { .. } => EjectionCause::SuccessRate,
        }
    }
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive { cause, count } => {
                let what = match cause {
                    EjectionCause::ConsecutiveGateway => "gateway errors",
                    EjectionCause::ConsecutiveLocal => "local failures",
                    _ => "5xx",
                };
                write!(f, "{count} consecutive {what}")
            }
            Self::FailurePercentage { failures, requests } => {
                write!(f, "{failures} of {requests} requests failed")
            }
            Self::SuccessRate { failures, requests, bound } => {
                let succeeded = requests.saturating_sub(*failures);
                let rate = 100.0 * f64::from(succeeded) / f64::from((*requests).max(1));
                let bound = 100.0 * bound.factor();
                write!(f, "success rate {rate:.1} %, below {bound:.1} %")
            }
        }
    }
}

/// The ejections of one endpoint; nothing for the many that are never ejected.
#[derive(Debug, Default)]
pub struct Ejections(OnceLock<Box<Mutex<Record>>>);

#[derive(Debug, Default)]
struct Record {
    current: Option<Ejection>,
    times: u32,
    /// When the last one ended.
    ended: Moment,
}

impl Ejections {
    /// The record, which is begun where there is none.
    fn begun(&self) -> MutexGuard<'_, Record> {
        self.0.get_or_init(Box::default).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record, where it was ever ejected.
    fn known(&self) -> Option<MutexGuard<'_, Record>> {
        Some(self.0.get()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Endpoint {
    /// Why and until when it is ejected, where it is. Not for workers.
    pub fn ejection(&self) -> Option<Ejection> {
        self.ejections.known()?.current
    }

    /// Ejects it as `policy` wants it: `ejection` times the ejections in a row, at most
    /// `max_ejection` (Envoy's rule). Control side only.
    pub fn eject(&self, reason: EjectionReason, policy: &Outlier, now: Moment) -> Ejection {
        let mut record = self.ejections.begun();
        // Beyond that a longer row would only take longer to be forgotten.
        let most = policy.max_ejection.as_nanos().div_ceil(policy.ejection.as_nanos().max(1));
        let most = u32::try_from(most).unwrap_or(u32::MAX).max(1);
        record.times = record.times.saturating_add(1).min(most);
        let length = policy.ejection.saturating_mul(record.times).min(policy.max_ejection);
        let until = now.after(length);
        let ejection = Ejection { reason, since: now, until, times: record.times };
        record.current = Some(ejection);
        self.availability.eject(until);
        self.outcomes.clear();
        ejection
    }

    /// Ends its ejection. Control side only.
    pub fn readmit(&self, now: Moment) {
        if let Some(mut record) = self.ejections.known() {
            record.current = None;
            record.ended = now;
        }
        self.outcomes.clear();
        self.availability.readmit(now);
    }

    /// Forgets one ejection if it has been in for a whole `interval`. Control side only.
    pub fn forgive(&self, interval: Duration, now: Moment) {
        let Some(mut record) = self.ejections.known() else { return };
        if record.current.is_none() && record.times > 0 && now.since(record.ended) >= interval {
            record.times -= 1;
        }
    }
}
