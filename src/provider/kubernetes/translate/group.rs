//! Which Ingresses must be translated together: those that name the same host, for a host's routes
//! are made of all of them, and those that want something of the same Service that is not plain, for
//! they share its upstreams.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};

use ir::HostPattern;

use super::name::other_name;
use super::pattern;
use super::policy::Policy;
use super::service::Settings;
use crate::ir;
use crate::provider::kubernetes::{Ingress, Key};

/// Something that several Ingresses may name, as a hash. Two that are taken for one are translated
/// together, which changes nothing.
pub(super) type Mention = u64;

/// What an Ingress shares with others that have the same.
pub(super) fn mentions(key: &Key, ingress: &Ingress, policy: &Policy) -> Box<[Mention]> {
    let mut found = Vec::new();
    let Some(spec) = &ingress.spec else { return Box::default() };
    let mut host = |pattern: &HostPattern| found.push(hash(&("host", pattern)));
    let rules = spec.rules.as_deref().unwrap_or_default();
    let named = rules.iter().filter_map(|rule| pattern(rule.host.as_deref()).ok());
    for name in named {
        host(&name);
        if let Some(other) = Some(&name).filter(|_| policy.www).and_then(other_name) {
            host(&other);
        }
    }
    if rules.is_empty() && spec.default_backend.is_some() {
        host(&HostPattern::Any);
    }
    policy.aliases.iter().for_each(&mut host);
    if policy.upstream != Settings::default() || policy.cookie_by_path || policy.canary.is_some() {
        let paths = rules.iter().filter_map(|rule| rule.http.as_ref()).flat_map(|http| &http.paths);
        let backends = paths.map(|path| &path.backend).chain(&spec.default_backend);
        for service in backends.filter_map(|backend| backend.service.as_ref()) {
            found.push(hash(&("service", &*key.namespace, service.name.as_str())));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into()
}

fn hash(value: &impl Hash) -> Mention {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

/// A hash of what is a hash already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
