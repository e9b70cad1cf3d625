//! Passive outlier ejection: endpoints that fail where others do not get no requests for a while.
//!
//! After Envoy's outlier detection, with three differences. The cap is a share of the endpoints
//! rounded up, so that it means something in small sets; the last available endpoint always stays,
//! and so does one whose ejection would set off panic and with it bring back all others. Failures
//! of this proxy's own making (connect failures, timeouts, resets) are counted apart as well as
//! among the 5xx. And an endpoint is an outlier by success rate only where its rate is also five
//! points below the mean: in groups that hardly fail the standard deviation alone finds an outlier
//! in every noise.
//!
//! Workers count outcomes in atomics ([`Detector::observe`]) and raise a suspicion when a row of
//! failures gets too long; the control side, woken at once, decides ([`Detector::upkeep`]). With
//! one decider the cap cannot be overrun by two workers at the same moment. Time is passed in.
//!
//! This module knows nothing of health checks beyond whether they found an endpoint healthy.

mod rates;
mod round;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Ejection, Endpoint, Member, Verdict};
use crate::ir::{Outlier, Permille};
use crate::util::moment::Moment;
use round::Round;

/// Decides over the ejections of one upstream.
#[derive(Debug)]
pub struct Detector {
    /// Something happened that has to be looked at: a suspicion, or a change of the members or
    /// of their health.
    attention: AtomicBool,
    /// Nobody can be ejected as things are, so that suspicions have time.
    crowded: AtomicBool,
    due: Mutex<Due>,
}

/// What comes by itself.
#[derive(Debug)]
struct Due {
    /// When rates are looked at.
    sweep: Moment,
    /// When the first ejection ends.
    release: Option<Moment>,
}

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// What was done about it.
    pub changes: Vec<Change>,
    /// How many endpoints are ejected now.
    pub ejected: usize,
}

/// A change to one endpoint.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was ejected.
    Ejected(Arc<Endpoint>, Ejection),
    /// It is back.
    Readmitted(Arc<Endpoint>),
}

impl Detector {
    /// A detector that looks at its upstream for the first time whenever it is asked.
    pub fn new(policy: Option<&Outlier>, now: Moment) -> Self {
        let sweep = policy.map_or(now, |policy| now.after(policy.interval));
        Self {
            attention: AtomicBool::new(true),
            crowded: AtomicBool::new(false),
            due: Mutex::new(Due { sweep, release: None }),
        }
    }

    /// Takes in how an attempt went. Called by workers. Returns whether upkeep is wanted before
    /// its time.
    #[inline]
    pub fn observe(&self, policy: &Outlier, endpoint: &Endpoint, verdict: Verdict) -> bool {
        let suspected = endpoint.outcomes.record(policy, verdict);
        if suspected {
            self.attend();
        }
        suspected && !self.crowded.load(Ordering::Relaxed)
    }

    /// Says that the members or their health changed.
    pub fn attend(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Whether nothing has to be looked at before something happens, but for rates.
    pub fn is_at_rest(&self) -> bool {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.release.is_none() && !self.attention.load(Ordering::Acquire)
    }

    /// Ejects and readmits what is due at `now`; below the share `panic` of available endpoints
    /// ejection would be ignored. `None`: there was nothing to look at. Control side only.
    pub fn upkeep(
        &self,
        policy: Option<&Outlier>,
        panic: Permille,
        members: &[Member],
        now: Moment,
    ) -> Option<Findings> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let sweep = policy.is_some() && now >= due.sweep;
        let release = due.release.is_some_and(|release| now >= release);
        if !self.attention.swap(false, Ordering::AcqRel) && !sweep && !release {
            return None;
        }
        let mut round = Round::new(policy, panic, members, now);
        round.release();
        if let Some(policy) = policy {
            round.judge_rows(policy);
            if sweep {
                due.sweep = now.after(policy.interval);
                round.judge_rates(policy);
            }
        }
        round.relieve();
        due.release = round.next_release();
        self.crowded.store(round.is_crowded(), Ordering::Relaxed);
        Some(round.into_findings())
    }
}
