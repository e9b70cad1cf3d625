//! Ingresses that belong together, translated.

use std::collections::HashMap;
use std::sync::Arc;

use ir::{HostPattern, ListenerSelector, Name, Problem, Upstream, VirtualHost};

use super::host::{self, Traits};
use super::seen::{Changed, Seen};
use super::service::Upstreams;
use super::shares::Shares;
use super::tls::Wildcards;
use super::{Object, References, tls};
use crate::ir;
use crate::provider::kubernetes::endpoints::ServicePort;
use crate::provider::kubernetes::report::{Report, problems};
use crate::provider::kubernetes::{Inputs, Key, Options};

/// What a group of Ingresses comes to.
#[derive(Default)]
pub(super) struct Part {
    pub seen: Seen,
    /// No other part has hosts of the same pattern.
    pub hosts: Vec<Arc<VirtualHost>>,
    /// Another part that has an upstream of the same name wants the same of it.
    pub upstreams: Vec<(Name, Arc<Upstream>)>,
    /// Which of these are made from which Service.
    pub services: Vec<(Key, Name, ServicePort)>,
    /// Which Secret serves which host.
    pub certificates: Vec<(Key, HostPattern)>,
    pub references: References,
    /// What became of each member, the oldest first.
    pub reports: Vec<(Key, Arc<Report>)>,
    /// What is wrong, by whose it is.
    pub problems: Vec<(Key, Vec<Problem>)>,
    /// Why members should not be taken over.
    pub refused: Vec<(Key, String)>,
}

impl Part {
    /// Translates `objects`, the oldest first. `references` is what their policies refer to, and
    /// `wildcards` those that have TLS in the whole cluster.
    pub fn new(
        mut objects: Vec<Object<'_>>,
        mut references: References,
        listeners: &ListenerSelector,
        wildcards: &Wildcards,
        inputs: &Inputs,
        options: &Options,
    ) -> Self {
        let mut upstreams = Upstreams::new(inputs, options);
        let hosts = host::hosts(&mut objects, &mut upstreams, wildcards, options);
        let certificates = tls::choices(&mut objects, inputs, options, &mut references);
        let refused =
            |object: &Object<'_>| Some((object.key.clone(), object.policy.refused.clone()?));
        let part = Self::of(hosts, upstreams, references, listeners);
        let refused = objects.iter().filter_map(refused).collect();
        let (mut reports, mut found) = (Vec::new(), Vec::new());
        for object in objects {
            let wrong = problems(object.key, &object.report);
            if !wrong.is_empty() {
                found.push((object.key.clone(), wrong));
            }
            let mut report = object.report;
            report.findings.shrink_to_fit();
            reports.push((object.key.clone(), Arc::new(report)));
        }
        let part = Self { certificates, reports, problems: found, refused, ..part };
        part.fitted()
    }

    /// What gets requests for hosts that nobody names; nothing where that is nobody.
    pub fn catch_all(listeners: &ListenerSelector, inputs: &Inputs, options: &Options) -> Self {
        let mut upstreams = Upstreams::new(inputs, options);
        let nothing = Wildcards::default();
        let traits = Traits::of(&[], &nothing, options);
        let host = host::catch_all(&traits, &mut upstreams);
        Self::of(host.into_iter().collect(), upstreams, References::default(), listeners).fitted()
    }

    fn of(
        hosts: Vec<VirtualHost>,
        upstreams: Upstreams<'_>,
        references: References,
        listeners: &ListenerSelector,
    ) -> Self {
        let shared = |host| Arc::new(VirtualHost { listeners: listeners.clone(), ..host });
        let services = upstreams.services.into_iter().flat_map(|(service, ports)| {
            ports.into_iter().map(move |(name, port)| (service.clone(), name, port))
        });
        let made = upstreams.upstreams.into_iter();
        Self {
            seen: Seen::of(upstreams.asked, &references),
            hosts: hosts.into_iter().map(shared).collect(),
            upstreams: made.map(|(name, upstream)| (name, Arc::new(upstream))).collect(),
            services: services.collect(),
            references,
            ..Self::default()
        }
    }

    /// The same without room for more: nothing is added to it, and there are thousands.
    fn fitted(mut self) -> Self {
        self.hosts.shrink_to_fit();
        self.upstreams.shrink_to_fit();
        self.services.shrink_to_fit();
        self.certificates.shrink_to_fit();
        self.reports.shrink_to_fit();
        self.problems.shrink_to_fit();
        self.refused.shrink_to_fit();
        self
    }

    /// Who they are.
    pub fn members(&self) -> impl Iterator<Item = &Key> {
        self.reports.iter().map(|(key, _)| key)
    }

    /// Whether this is what still comes of them where `changed` is what has changed beside them.
    pub fn holds(&self, changed: &Changed) -> bool {
        self.seen.holds(changed) && !self.is_covered_by(&changed.wildcards)
    }

    fn is_covered_by(&self, wildcards: &[HostPattern]) -> bool {
        let covered = |host: &Arc<VirtualHost>| {
            tls::covering(&host.pattern).is_some_and(|by| wildcards.contains(&by))
        };
        !wildcards.is_empty() && self.hosts.iter().any(covered)
    }

    /// Keeps what other parts have, too, once. Before anybody was told of it.
    pub fn keep_once(&mut self, shares: &mut Shares) {
        let hosts = self.hosts.iter_mut().filter_map(Arc::get_mut);
        hosts.for_each(|host| shares.of_host(host));
        let upstreams = self.upstreams.iter_mut().map(|(_, upstream)| upstream);
        upstreams.filter_map(Arc::get_mut).for_each(|upstream| shares.of_upstream(upstream));
    }

    /// Takes from `before` the hosts that are the same there.
    pub fn share(&mut self, before: &HashMap<&HostPattern, &Arc<VirtualHost>>) {
        for host in &mut self.hosts {
            if let Some(same) = before.get(&host.pattern).filter(|old| ***old == *host) {
                *host = Arc::clone(same);
            }
        }
    }
}
