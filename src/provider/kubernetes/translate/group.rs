//! Which Ingresses must be translated together: those that name the same host, for a host's routes
//! are made of all of them, and those that want something of the same Service that is not plain, for
//! they share its upstreams.

use std::collections::HashMap;
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

/// The groups of Ingresses, given by what each of them mentions, as their places in that list: in the
/// order of their first members, and each in order.
pub(super) fn groups<'m>(mentions: impl Iterator<Item = &'m [Mention]>) -> Vec<Vec<usize>> {
    let mut sets = Sets::default();
    let mut first: HashMap<Mention, usize, BuildHasherDefault<AsItIs>> = HashMap::default();
    for (index, mentions) in mentions.enumerate() {
        sets.parents.push(index);
        for mention in mentions {
            match first.get(mention) {
                Some(other) => sets.join(*other, index),
                None => drop(first.insert(*mention, index)),
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut places: Vec<Option<usize>> = vec![None; sets.parents.len()];
    for index in 0..sets.parents.len() {
        let root = sets.root(index);
        let Some(place) = places.get_mut(root) else { continue };
        let place = *place.get_or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.push(index);
        }
    }
    groups
}

/// Disjoint sets of numbers (Tarjan), with paths halved.
#[derive(Default)]
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn parent(&self, of: usize) -> usize {
        self.parents.get(of).copied().unwrap_or(of)
    }

    fn root(&mut self, mut of: usize) -> usize {
        while self.parent(of) != of {
            let above = self.parent(self.parent(of));
            if let Some(parent) = self.parents.get_mut(of) {
                *parent = above;
            }
            of = above;
        }
        of
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(parent) = self.parents.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
    }
}

/// A hash of what is a hash already.
#[derive(Default)]
struct AsItIs(u64);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_anything_is_one_group_also_by_way_of_others() {
        let all: [&[Mention]; 6] = [&[1], &[2, 3], &[], &[4], &[3, 4], &[1]];
        let groups = groups(all.into_iter());
        assert_eq!(groups, [vec![0, 5], vec![1, 3, 4], vec![2]]);
    }
}
