//! The metrics under ingress-nginx's names, for dashboards and alerts that were written for it.
//!
//! An option: until it is enabled there are no rules to count by, and nothing is on the page.
//! What exists under names of our own already is derived from that at scrape; what is counted
//! besides is what those names have no room for, method and status by rule.

mod certificate;
mod families;
mod outcome;
mod process;
mod rule;
mod sizes;
#[cfg(test)]
mod tests;

pub use certificate::SecretCertificate;
pub use outcome::MethodLabel;
pub use rule::{Phases, RuleLabels, RuleMetrics};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::proto;

use self::families::Series;
use self::process::Process;
use super::page::Page;
use super::{Handles, State};
use crate::ir::{IngressRule, Name};

/// Who tells: the labels that every one of these series has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerIdentity {
    /// The controller whose classes are served: `k8s.io/ingress-nginx`.
    pub class: Name,
    /// The namespace of its pod.
    pub namespace: Name,
    /// The name of its pod.
    pub pod: Name,
    /// The name of the Lease it holds as the leader.
    pub election: Name,
}

/// What is told under ingress-nginx's names.
#[derive(Debug, Default)]
pub struct IngressNginxMetrics {
    identity: OnceLock<ControllerIdentity>,
    pub(super) rules: Handles<RuleLabels, RuleMetrics>,
    told: Mutex<Told>,
}

/// What the configuration in use says.
#[derive(Debug, Default)]
struct Told {
    certificates: Vec<SecretCertificate>,
    rules: Vec<Arc<IngressRule>>,
}

impl IngressNginxMetrics {
    /// Has the page tell them. Only the first call counts.
    pub fn enable(&self, identity: ControllerIdentity) {
        let _ = self.identity.set(identity);
    }

    /// Whether the page tells them.
    pub fn is_enabled(&self) -> bool {
        self.identity.get().is_some()
    }

    /// Tells the rules that are served now and the certificates out of Secrets, all of them.
    pub fn set_served(&self, rules: Vec<Arc<IngressRule>>, certificates: Vec<SecretCertificate>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Told { certificates, rules };
    }

    pub(super) fn collect(&self, state: &State) -> Vec<proto::MetricFamily> {
        let Some(identity) = self.identity.get() else { return Vec::new() };
        let ControllerIdentity { class, namespace, pod, election } = identity;
        let mut page = Page::with(&[
            ("controller_class", class.as_str()),
            ("controller_namespace", namespace.as_str()),
            ("controller_pod", pod.as_str()),
        ]);
        page.gauge(Series::BuildInfo, &[env!("CARGO_PKG_VERSION"), "-", "portcullis"], 1.0);
        let leads = f64::from(u8::from(state.kubernetes.leads()));
        page.gauge(Series::LeaderElection, &[election.as_str()], leads);
        reloads(state, &mut page);
        connections(state, &mut page);
        process(&mut page);
        self.rules.living().iter().for_each(|rule| rule.collect(&mut page));
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        certificate::collect(&told.certificates, class.as_str(), &mut page);
        orphans(&told.rules, state, &mut page);
        page.into_families()
    }
}

fn reloads(state: &State, page: &mut Page<Series>) {
    let reloads = state.control.reloads();
    page.gauge(Series::ConfigHash, &[], reloads.generation as f64);
    page.gauge(Series::ConfigReloaded, &[], f64::from(u8::from(reloads.last_succeeded)));
    page.gauge(Series::ConfigReloadedAt, &[], reloads.last_success_seconds);
    page.counter(Series::Success, &[], reloads.successes as f64);
    page.counter(Series::Errors, &[], reloads.failures as f64);
}

fn connections(state: &State, page: &mut Page<Series>) {
    let active: u64 = state.listeners.living().iter().map(|handle| handle.connections()).sum();
    let writing: u64 = state.routes.living().iter().map(|handle| handle.in_flight()).sum();
    // A head that is on its way cannot be told from a connection that waits.
    let states = [
        ("active", active),
        ("reading", 0),
        ("writing", writing),
        ("waiting", active.saturating_sub(writing)),
    ];
    for (name, count) in states {
        page.gauge(Series::Connections, &[name], count as f64);
    }
    let (requests, accepted) = state.begun();
    page.counter(Series::RequestsTotal, &[], requests as f64);
    for name in ["accepted", "handled"] {
        page.counter(Series::ConnectionsTotal, &[name], accepted as f64);
    }
}

fn process(page: &mut Page<Series>) {
    let Some(process) = Process::now() else { return };
    page.gauge(Series::Processes, &[], 1.0);
    page.gauge(Series::Started, &[], process.started);
    page.counter(Series::CpuSeconds, &[], process.cpu_seconds);
    page.gauge(Series::ResidentMemory, &[], process.resident_bytes);
    page.gauge(Series::VirtualMemory, &[], process.virtual_bytes);
    page.counter(Series::ReadBytes, &[], process.read_bytes);
    page.counter(Series::WriteBytes, &[], process.written_bytes);
}

/// Ingresses with a rule whose Service is missing or has nothing behind it.
fn orphans(rules: &[Arc<IngressRule>], state: &State, page: &mut Page<Series>) {
    let endpoints = state.endpoints.living();
    let served: BTreeSet<&str> = endpoints.iter().map(|handle| handle.upstream()).collect();
    let mut found: BTreeMap<(&str, &str), (bool, bool)> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| !rule.ingress.as_str().is_empty()) {
        let Some(upstream) = &rule.upstream else { continue };
        let key = (rule.namespace.as_str(), rule.ingress.as_str());
        let (no_service, no_endpoint) = found.entry(key).or_default();
        *no_service |= !rule.service_exists;
        *no_endpoint |= rule.service_exists && !served.contains(upstream.as_str());
    }
    for ((namespace, ingress), (no_service, no_endpoint)) in found {
        for (what, is) in [("no-service", no_service), ("no-endpoint", no_endpoint)] {
            let labels = [namespace, ingress, what];
            page.gauge(Series::OrphanIngress, &labels, f64::from(u8::from(is)));
        }
    }
}
