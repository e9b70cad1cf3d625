//! What the last health check of an endpoint found, for status pages. Workers never come here.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Endpoint;
use crate::telemetry::CheckResult;
use crate::util::moment::Moment;

/// A health check that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Moment,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: CheckResult,
    /// The same in words, without anything of what was sent.
    pub text: Arc<str>,
    /// How many checks in a row passed, or failed, with this one.
    pub row: u32,
}

/// The health checks of one endpoint; nothing for the many that are never checked.
#[derive(Debug, Default)]
pub struct Checks(OnceLock<Box<Mutex<Option<LastCheck>>>>);

impl Endpoint {
    /// The last health check; `None` before the first. Not for workers.
    pub fn last_check(&self) -> Option<LastCheck> {
        let last = self.checks.0.get()?;
        last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts down the last health check; `None` where it is not checked any more.
    pub fn set_last_check(&self, check: Option<LastCheck>) {
        if check.is_some() || self.checks.0.get().is_some() {
            let last = self.checks.0.get_or_init(Box::default);
            *last.lock().unwrap_or_else(PoisonError::into_inner) = check;
        }
    }
}
