//! What is told about the configuration, certificates and the access log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::histogram::{Distribution, Histogram};
use super::names::NameMetrics;
use super::page::Page;
use crate::ir::Name;
use crate::telemetry::families::Family;

/// When a certificate of a listener stops being valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The listener that serves it.
    pub listener: Name,
    /// What a person knows it by: its first name, or its file.
    pub name: Name,
    /// Its `notAfter`, Unix seconds.
    pub not_after: i64,
}

/// What a provider's news changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The configuration.
    Configuration,
    /// The endpoints of upstreams alone.
    Endpoints,
}

/// Why access log lines were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The target was too slow and the queue ran full.
    QueueFull,
    /// The target refused the write.
    WriteFailed,
}

/// What became of the configurations that were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reloads {
    pub generation: u64,
    pub successes: u64,
    pub failures: u64,
    pub last_succeeded: bool,
    /// When one was last accepted, Unix time.
    pub last_success_seconds: f64,
}

/// What the control side tells. Written by any thread, seldom.
#[derive(Debug, Default)]
pub struct ControlMetrics {
    generation: AtomicU64,
    snapshots: AtomicU64,
    reload_successes: AtomicU64,
    reload_failures: AtomicU64,
    last_reload_failed: AtomicBool,
    last_success: AtomicU64,
    compile: Mutex<Histogram>,
    propagated_configuration: Mutex<Histogram>,
    propagated_endpoints: Mutex<Histogram>,
    certificates: Mutex<Vec<CertificateExpiry>>,
    access_log_lines: AtomicU64,
    access_log_queue_full: AtomicU64,
    access_log_write_failed: AtomicU64,
    names: NameMetrics,
}

impl ControlMetrics {
    /// Tells the generation number of the configuration that is served.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Tells how many snapshots are in memory: the one in use and those that requests hold.
    pub fn set_snapshots(&self, snapshots: usize) {
        self.snapshots.store(snapshots as u64, Ordering::Relaxed);
    }

    /// Counts a configuration that was read: `ok` if it was accepted, else the one before it is
    /// still served.
    pub fn reload(&self, ok: bool) {
        if ok {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.last_success.store(now.as_millis() as u64, Ordering::Relaxed);
            self.reload_successes.fetch_add(1, Ordering::Relaxed);
        } else {
            self.reload_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.last_reload_failed.store(!ok, Ordering::Relaxed);
    }

    /// Records how long a snapshot took to compile.
    pub fn compiled(&self, duration: Duration) {
        self.compile.lock().unwrap_or_else(PoisonError::into_inner).record(duration);
    }

    /// Records how long it took from the news of a change to its being served.
    pub fn propagated(&self, change: Change, duration: Duration) {
        let histogram = match change {
            Change::Configuration => &self.propagated_configuration,
            Change::Endpoints => &self.propagated_endpoints,
        };
        histogram.lock().unwrap_or_else(PoisonError::into_inner).record(duration);
    }

    /// Tells the certificates that are served now, all of them.
    pub fn set_certificates(&self, certificates: Vec<CertificateExpiry>) {
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = certificates;
    }

    /// What is told about the look-ups of endpoint names.
    pub fn names(&self) -> &NameMetrics {
        &self.names
    }

    /// Access log lines lost so far.
    pub fn access_log_lost(&self) -> u64 {
        self.access_log_queue_full.load(Ordering::Relaxed)
            + self.access_log_write_failed.load(Ordering::Relaxed)
    }

    pub(crate) fn access_log_written(&self, lines: u64) {
        self.access_log_lines.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn access_log_dropped(&self, why: Dropped, lines: u64) {
        let counter = match why {
            Dropped::QueueFull => &self.access_log_queue_full,
            Dropped::WriteFailed => &self.access_log_write_failed,
        };
        counter.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn reloads(&self) -> Reloads {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        Reloads {
            generation: get(&self.generation),
            successes: get(&self.reload_successes),
            failures: get(&self.reload_failures),
            last_succeeded: !self.last_reload_failed.load(Ordering::Relaxed),
            last_success_seconds: get(&self.last_success) as f64 / 1e3,
        }
    }

    pub(super) fn collect(&self, page: &mut Page) {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
        page.gauge(Family::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);
        let reloads = self.reloads();
        page.gauge(Family::ConfigGeneration, &[], reloads.generation as f64);
        page.gauge(Family::ConfigSnapshots, &[], get(&self.snapshots));
        page.counter(Family::ConfigReloads, &["success"], reloads.successes as f64);
        page.counter(Family::ConfigReloads, &["failure"], reloads.failures as f64);
        let successful = f64::from(u8::from(reloads.last_succeeded));
        page.gauge(Family::ConfigLastReloadSuccessful, &[], successful);
        page.gauge(Family::ConfigLastReloadSuccess, &[], reloads.last_success_seconds);
        let compile = self.compile.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = Distribution::of(std::iter::once(&*compile));
        page.histogram(Family::ConfigCompile, &[], &compile);
        for (change, histogram) in [
            ("configuration", &self.propagated_configuration),
            ("endpoints", &self.propagated_endpoints),
        ] {
            let histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
            let histogram = Distribution::of(std::iter::once(&*histogram));
            page.histogram(Family::ConfigPropagation, &[change], &histogram);
        }
        page.counter(Family::AccessLogLines, &[], get(&self.access_log_lines));
        let (full, failed) = (&self.access_log_queue_full, &self.access_log_write_failed);
        page.counter(Family::AccessLogDropped, &["queue_full"], get(full));
        page.counter(Family::AccessLogDropped, &["write_failed"], get(failed));
        self.collect_certificates(page);
        self.names.collect(page);
    }

    /// One series per listener and name; of certificates with the same name, say ECDSA and RSA,
    /// the one that ends first, because a page with a series twice is refused as a whole.
    fn collect_certificates(&self, page: &mut Page) {
        let certificates = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for certificate in certificates.iter() {
            let key = (certificate.listener.as_str(), certificate.name.as_str());
            let not_after = first.entry(key).or_insert(certificate.not_after);
            *not_after = certificate.not_after.min(*not_after);
        }
        for ((listener, name), not_after) in first {
            page.gauge(Family::CertificateExpiry, &[listener, name], not_after as f64);
        }
    }
}
