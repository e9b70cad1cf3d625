//! What control did last, for those who ask: admin, status, readiness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::ir::Problem;

/// The last attempt to take over a configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReloadReport {
    /// Whether it is in use.
    pub accepted: bool,
    /// Seconds since the epoch.
    pub at: u64,
    /// The generation being served.
    pub generation: u64,
    /// What is wrong now, worst first.
    pub problems: Vec<Problem>,
}

/// The report of this moment, shared.
#[derive(Clone, Default)]
pub struct ControlState(Arc<Mutex<ReloadReport>>);

impl ControlState {
    /// The last report.
    pub fn report(&self) -> ReloadReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts down what was done.
    pub(super) fn set(&self, accepted: bool, generation: u64, mut problems: Vec<Problem>) {
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at = at.map_or(0, |since| since.as_secs());
        let report = ReloadReport { accepted, at, generation, problems };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}
