//! What is told about the look-ups of endpoint names.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::page::Page;
use crate::telemetry::families::Family;

/// What a look-up came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// There are records.
    Answered,
    /// Name servers say that there are none.
    NotFound,
    /// No usable answer.
    Failed,
}

/// Counters by name. Written on the control side, seldom.
#[derive(Debug, Default)]
pub struct NameMetrics(Mutex<BTreeMap<Box<str>, Lookups>>);

#[derive(Debug, Default)]
struct Lookups {
    answered: u64,
    not_found: u64,
    failed: u64,
    last_answer: u64,
}

impl NameMetrics {
    /// Counts a look-up of `name`, one that [`Self::keep`] has been told of.
    pub fn looked_up(&self, name: &str, result: LookupResult) {
        let mut names = self.lock();
        // A look-up may end when its name is no longer followed.
        let Some(lookups) = names.get_mut(name) else { return };
        match result {
            LookupResult::Answered => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                lookups.last_answer = now.as_millis() as u64;
                lookups.answered += 1;
            }
            LookupResult::NotFound => lookups.not_found += 1,
            LookupResult::Failed => lookups.failed += 1,
        }
    }

    /// Says which names are followed now: the series of others leave the page.
    pub fn keep(&self, followed: impl IntoIterator<Item = String>) {
        let mut names = self.lock();
        let mut before = std::mem::take(&mut *names);
        for name in followed {
            let name = name.into_boxed_str();
            let lookups = before.remove(&name).unwrap_or_default();
            names.insert(name, lookups);
        }
    }

    pub(super) fn collect(&self, page: &mut Page) {
        for (name, lookups) in self.lock().iter() {
            for (result, count) in [
                ("answered", lookups.answered),
                ("not_found", lookups.not_found),
                ("failed", lookups.failed),
            ] {
                page.counter(Family::DnsLookups, &[name, result], count as f64);
            }
            page.gauge(Family::DnsLastAnswer, &[name], lookups.last_answer as f64 / 1e3);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Lookups>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
