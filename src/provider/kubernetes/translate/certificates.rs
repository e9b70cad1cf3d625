//! The certificates of all hosts, out of Secrets: made anew where a Secret is another, or is for others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ir::{Certificate, HostPattern};
use k8s_openapi::api::core::v1::Secret;

use super::tls;
use crate::ir;
use crate::provider::kubernetes::{Inputs, Key, Options};

/// What Secrets hold that hosts have TLS with.
#[derive(Default)]
pub(super) struct Certificates {
    /// Which hosts each is for.
    hosts: BTreeMap<Key, BTreeSet<HostPattern>>,
    made: BTreeMap<Key, Made>,
    /// The one for all other hosts.
    default: Option<Made>,
    /// Those that may have become others since they were made.
    touched: BTreeSet<Key>,
}

struct Made {
    /// The Secret as it was.
    secret: Option<Arc<Secret>>,
    certificate: Arc<Certificate>,
}

impl Made {
    fn of(key: &Key, secret: Option<&Arc<Secret>>, hosts: Option<&BTreeSet<HostPattern>>) -> Self {
        let certificate = tls::certificate(key, secret.map(|secret| &**secret), hosts.cloned());
        Self { secret: secret.cloned(), certificate: certificate.into() }
    }

    fn is_of(&self, secret: Option<&Arc<Secret>>, hosts: Option<&BTreeSet<HostPattern>>) -> bool {
        let same = match (&self.secret, secret) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        same && self.certificate.only_for.as_ref() == hosts
    }
}

impl Certificates {
    /// The Secret `key` serves `host`. Said again, too, when the Secret has become another.
    pub fn add(&mut self, key: &Key, host: &HostPattern) {
        self.hosts.entry(key.clone()).or_default().insert(host.clone());
        self.touched.insert(key.clone());
    }

    /// It serves that host no more.
    pub fn remove(&mut self, key: &Key, host: &HostPattern) {
        if let Some(hosts) = self.hosts.get_mut(key) {
            hosts.remove(host);
            if hosts.is_empty() {
                self.hosts.remove(key);
            }
        }
        self.touched.insert(key.clone());
    }

    /// Brings them up to date. Returns whether any is another.
    pub fn update(&mut self, inputs: &Inputs, options: &Options) -> bool {
        let mut other = false;
        for key in std::mem::take(&mut self.touched) {
            let Some(hosts) = self.hosts.get(&key) else {
                other |= self.made.remove(&key).is_some();
                continue;
            };
            let (secret, hosts) = (inputs.secrets.get(&key), Some(hosts));
            if !self.made.get(&key).is_some_and(|made| made.is_of(secret, hosts)) {
                self.made.insert(key.clone(), Made::of(&key, secret, hosts));
                other = true;
            }
        }
        if let Some(key) = &options.default_certificate {
            let secret = inputs.secrets.get(key);
            if !self.default.as_ref().is_some_and(|made| made.is_of(secret, None)) {
                self.default = Some(Made::of(key, secret, None));
                other = true;
            }
        }
        other
    }

    /// All of them, the default one first.
    pub fn all(&self) -> Vec<Arc<Certificate>> {
        let all = self.default.iter().chain(self.made.values());
        all.map(|made| made.certificate.clone()).collect()
    }
}
