//! What of the inputs results were made from, to know which are still good.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ir::HostPattern;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::ir;
use crate::provider::kubernetes::{Inputs, Key, References, Service};

/// The objects that one result was made from, there or not.
#[derive(Default)]
pub(super) struct Seen {
    services: Box<[Key]>,
    secrets: Box<[Key]>,
    config_maps: Box<[Key]>,
}

impl Seen {
    /// The Services `services` and all that `references` names.
    pub fn of(services: BTreeSet<Key>, references: &References) -> Self {
        Self {
            services: services.into_iter().collect(),
            secrets: references.secrets.iter().cloned().collect(),
            config_maps: references.config_maps.iter().cloned().collect(),
        }
    }

    /// Whether none of these is among what changed.
    pub fn holds(&self, changed: &Changed) -> bool {
        let is_in = |keys: &[Key], changed: &[Key]| keys.iter().any(|key| changed.contains(key));
        !is_in(&self.services, &changed.services)
            && !is_in(&self.secrets, &changed.secrets)
            && !is_in(&self.config_maps, &changed.config_maps)
    }
}

/// What was looked at and is not what it was.
#[derive(Default)]
pub(super) struct Changed {
    services: Vec<Key>,
    secrets: Vec<Key>,
    config_maps: Vec<Key>,
    /// Wildcards that have TLS now and had none, or the other way round.
    pub wildcards: Vec<HostPattern>,
}

impl Changed {
    /// Whether it is anything that an Ingress refers to by itself.
    pub fn has_references(&self) -> bool {
        !self.secrets.is_empty() || !self.config_maps.is_empty()
    }

    /// Whether it is anything at all.
    pub fn is_any(&self) -> bool {
        self.has_references() || !self.services.is_empty() || !self.wildcards.is_empty()
    }
}

/// Everything that living results were made from, as it was then.
#[derive(Default)]
pub(super) struct Sightings {
    services: Sighted<Service>,
    secrets: Sighted<Secret>,
    config_maps: Sighted<ConfigMap>,
}

impl Sightings {
    /// What of it is something else in `inputs`; that is what is known from now on. Wildcards are
    /// no objects and not among it.
    pub fn compare(&mut self, inputs: &Inputs) -> Changed {
        Changed {
            services: self.services.compare(&inputs.services),
            secrets: self.secrets.compare(&inputs.secrets),
            config_maps: self.config_maps.compare(&inputs.config_maps),
            wildcards: Vec::new(),
        }
    }

    /// There is a new result, made from `inputs`.
    pub fn add(&mut self, seen: &Seen, inputs: &Inputs) {
        self.services.add(&seen.services, &inputs.services);
        self.secrets.add(&seen.secrets, &inputs.secrets);
        self.config_maps.add(&seen.config_maps, &inputs.config_maps);
    }

    /// A result is gone.
    pub fn remove(&mut self, seen: &Seen) {
        self.services.remove(&seen.services);
        self.secrets.remove(&seen.secrets);
        self.config_maps.remove(&seen.config_maps);
    }
}

/// Objects of a kind, and how many results were made from each.
struct Sighted<T>(BTreeMap<Key, (Option<Arc<T>>, usize)>);

impl<T> Default for Sighted<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Sighted<T> {
    fn compare(&mut self, objects: &BTreeMap<Key, Arc<T>>) -> Vec<Key> {
        let mut now = objects.iter().peekable();
        let mut changed = Vec::new();
        // Both are in order, and what is the same is so in memory: thousands of look-ups, or of names
        // compared, would cost more than all else.
        for (key, (before, _)) in &mut self.0 {
            let is = |before: &Arc<T>, (other, object): &(&Key, &Arc<T>)| {
                key.is(other) && Arc::ptr_eq(before, object)
            };
            if let Some(before) = before
                && now.next_if(|found| is(before, found)).is_some()
            {
                continue;
            }
            while now.next_if(|(other, _)| *other < key).is_some() {}
            let found = now.next_if(|(other, _)| *other == key).map(|(_, object)| object);
            let same = match (&*before, found) {
                (Some(before), Some(found)) => Arc::ptr_eq(before, found),
                (before, found) => before.is_none() && found.is_none(),
            };
            if !same {
                *before = found.cloned();
                changed.push(key.clone());
            }
        }
        changed
    }

    fn add(&mut self, keys: &[Key], objects: &BTreeMap<Key, Arc<T>>) {
        for key in keys {
            if let Some((_, results)) = self.0.get_mut(key) {
                *results += 1;
                continue;
            }
            let found = objects.get_key_value(key);
            // Under the very key of the object, by which it is known again.
            let own = found.map_or(key, |(own, _)| own).clone();
            self.0.insert(own, (found.map(|(_, object)| object.clone()), 1));
        }
    }

    fn remove(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some((_, results)) = self.0.get_mut(key) {
                *results -= 1;
                if *results == 0 {
                    self.0.remove(key);
                }
            }
        }
    }
}
