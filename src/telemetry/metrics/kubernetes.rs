//! What is told about following a Kubernetes cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::page::Page;
use crate::telemetry::families::Family;

/// What the Kubernetes provider tells. On the page once it is enabled. Label values are out of
/// closed sets.
#[derive(Debug, Default)]
pub struct KubernetesMetrics {
    enabled: AtomicBool,
    synced: AtomicBool,
    leader: AtomicBool,
    /// Milliseconds since the epoch.
    heard: AtomicU64,
    restarts: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    objects: Mutex<BTreeMap<&'static str, usize>>,
    status_updates: Mutex<BTreeMap<&'static str, u64>>,
}

impl KubernetesMetrics {
    /// There is a provider that tells.
    pub fn enable(&self) {
        self.enabled.store(true, Ordering::Relaxed);
    }

    /// Tells whether everything that is followed was heard of.
    pub fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Ordering::Relaxed);
    }

    /// Tells whether this process holds the Lease.
    pub fn set_leader(&self, leader: bool) {
        self.leader.store(leader, Ordering::Relaxed);
    }

    pub(super) fn leads(&self) -> bool {
        self.leader.load(Ordering::Relaxed)
    }

    /// Tells that the API server said something.
    pub fn heard(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.heard.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Counts a list or watch of `kind` that ended, and why.
    pub fn restarted(&self, kind: &'static str, reason: &'static str) {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        *restarts.entry((kind, reason)).or_default() += 1;
    }

    /// Tells how many objects of `kind` are known.
    pub fn set_objects(&self, kind: &'static str, count: usize) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, count);
    }

    /// Counts a status that was written, by what came of it.
    pub fn status_update(&self, result: &'static str) {
        let mut updates = self.status_updates.lock().unwrap_or_else(PoisonError::into_inner);
        *updates.entry(result).or_default() += 1;
    }

    pub(super) fn collect(&self, page: &mut Page) {
        if !self.enabled.load(Ordering::Relaxed) {
            return;
        }
        let flag = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
        page.gauge(Family::KubernetesSynced, &[], flag(&self.synced));
        page.gauge(Family::KubernetesLeader, &[], flag(&self.leader));
        let heard = self.heard.load(Ordering::Relaxed) as f64 / 1e3;
        page.gauge(Family::KubernetesLastEvent, &[], heard);
        let restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((kind, reason), count) in restarts.iter() {
            page.counter(Family::KubernetesWatchRestarts, &[kind, reason], *count as f64);
        }
        drop(restarts);
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in objects.iter() {
            page.gauge(Family::KubernetesObjects, &[kind], *count as f64);
        }
        drop(objects);
        let updates = self.status_updates.lock().unwrap_or_else(PoisonError::into_inner);
        for (result, count) in updates.iter() {
            page.counter(Family::KubernetesStatusUpdates, &[result], *count as f64);
        }
    }
}
