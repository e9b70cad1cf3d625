//! What was counted by handles that are gone.
//!
//! A sum over the handles there are would fall whenever one goes, which Prometheus takes for a
//! restart and counts all of the rest anew.

use std::sync::atomic::{AtomicU64, Ordering};

/// What those that are gone leave behind.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Requests begun.
    pub requests: Sum,
    /// Connections accepted.
    pub connections: Sum,
}

/// A sum over all that there ever was.
#[derive(Debug, Default)]
pub(super) struct Sum {
    gone: AtomicU64,
    shown: AtomicU64,
}

impl Sum {
    /// Keeps the count of one that goes.
    pub(super) fn keep(&self, count: u64) {
        self.gone.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum of those that are gone and of the `living`; never less than it was before, also
    /// where one is on its way from these to those.
    pub(super) fn with(&self, living: impl FnOnce() -> u64) -> u64 {
        let sum = living().wrapping_add(self.gone.load(Ordering::Relaxed));
        sum.max(self.shown.fetch_max(sum, Ordering::Relaxed))
    }
}
