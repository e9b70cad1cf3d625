//! What control did last, for those who ask: admin, status, readiness.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::ir::{Name, Problem};

/// The last attempt to take over a configuration, and what is wrong since.
#[derive(Clone, Debug, Default)]
pub struct ReloadReport {
    /// Whether it is in use.
    pub accepted: bool,
    /// Seconds since the epoch.
    pub at: u64,
    /// The generation being served.
    pub generation: u64,
    /// What is wrong now, worst first.
    pub problems: Vec<Problem>,
    /// Where each listener accepts; `None` for one that cannot.
    pub listeners: BTreeMap<Name, Option<SocketAddr>>,
}

/// The report of this moment, shared.
#[derive(Clone, Default)]
pub struct ControlState(Arc<Inner>);

#[derive(Default)]
struct Inner {
    report: Mutex<ReloadReport>,
    changed: Notify,
}

impl ControlState {
    /// The last report.
    pub fn report(&self) -> ReloadReport {
        self.lock().clone()
    }

    /// Ready once every listener of the configuration in use accepts.
    pub async fn all_open(&self) {
        loop {
            // Before looking, or a change in between would be missed.
            let changed = self.0.changed.notified();
            let open = {
                let report = self.lock();
                report.generation > 0 && report.listeners.values().all(Option::is_some)
            };
            if open {
                return;
            }
            changed.await;
        }
    }

    /// Puts down that a configuration was taken over or refused.
    pub(super) fn reloaded(&self, accepted: bool, generation: u64) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let at = at.map_or(0, |since| since.as_secs());
        let mut report = self.lock();
        (report.accepted, report.at, report.generation) = (accepted, at, generation);
    }

    /// Puts down what is wrong now, and where listeners accept.
    pub(super) fn set(
        &self,
        mut problems: Vec<Problem>,
        listeners: BTreeMap<Name, Option<SocketAddr>>,
    ) {
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        let mut report = self.lock();
        (report.problems, report.listeners) = (problems, listeners);
        drop(report);
        self.0.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, ReloadReport> {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
