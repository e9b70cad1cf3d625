//! The endpoints of all upstreams that are made from Services, made anew where slices are others.

use std::collections::BTreeMap;
use std::sync::Arc;

use ir::{EndpointSpec, Name};

use crate::ir;
use crate::provider::kubernetes::endpoints::{ServicePort, endpoints};
use crate::provider::kubernetes::{Inputs, Key, Slices};

/// Lists of endpoints by upstream, and what they were made from.
#[derive(Default)]
pub(super) struct Lists {
    services: BTreeMap<Key, Made>,
    lists: BTreeMap<Name, Arc<[EndpointSpec]>>,
    /// The same as it was last told, while it is the same.
    told: Option<Arc<BTreeMap<Name, Arc<[EndpointSpec]>>>>,
}

/// What the lists of one Service are made from.
#[derive(Default)]
struct Made {
    /// A list, because nearly every Service has one.
    upstreams: Vec<(Name, ServicePort)>,
    /// `None` where they have yet to be made; within, where the Service has none.
    slices: Option<Option<Arc<Slices>>>,
}

impl Made {
    fn is_of(&self, now: Option<&Arc<Slices>>) -> bool {
        match (&self.slices, now) {
            (Some(Some(before)), Some(now)) => Arc::ptr_eq(before, now),
            (Some(before), now) => before.is_none() && now.is_none(),
            (None, _) => false,
        }
    }

    /// Puts an upstream in; whether that makes a difference.
    fn add(&mut self, name: &Name, port: &ServicePort) -> bool {
        match self.upstreams.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) if known == port => return false,
            Some((_, known)) => known.clone_from(port),
            None => {
                self.upstreams.reserve_exact(1);
                self.upstreams.push((name.clone(), port.clone()));
            }
        }
        true
    }
}

impl Lists {
    /// The upstream `name` stands for `port` of `service`.
    pub fn add(&mut self, service: &Key, name: &Name, port: &ServicePort) {
        let made = self.services.entry(service.clone()).or_default();
        if made.add(name, port) {
            made.slices = None;
        }
    }

    /// There is no upstream `name` any more.
    pub fn remove(&mut self, service: &Key, name: &Name) {
        if self.lists.remove(name).is_some() {
            self.told = None;
        }
        if let Some(made) = self.services.get_mut(service) {
            made.upstreams.retain(|(known, _)| known != name);
            if made.upstreams.is_empty() {
                self.services.remove(service);
            }
        }
    }

    /// All lists, as they are in `inputs`.
    pub fn all(&mut self, inputs: &Inputs) -> Arc<BTreeMap<Name, Arc<[EndpointSpec]>>> {
        let mut slices = inputs.slices.iter().peekable();
        let mut stale = Vec::new();
        for (service, made) in &self.services {
            // Both are in order, and what is the same is so in memory: thousands of look-ups, or of
            // names compared, would cost more than the rest.
            if slices.next_if(|(_, now)| made.is_of(Some(now))).is_some() {
                continue;
            }
            let mut now = slices.next_if(|(other, _)| *other == service);
            if now.is_none() {
                while slices.next_if(|(other, _)| *other < service).is_some() {}
                now = slices.next_if(|(other, _)| *other == service);
            }
            if !made.is_of(now.map(|(_, slices)| slices)) {
                stale.push(service.clone());
            }
        }
        for service in stale {
            self.refresh(inputs, &service);
        }
        self.told.get_or_insert_with(|| Arc::new(self.lists.clone())).clone()
    }

    /// Makes the lists of `service` anew; returns those that have become others.
    pub fn refresh(&mut self, inputs: &Inputs, service: &Key) -> Vec<(Name, Arc<[EndpointSpec]>)> {
        let Some(made) = self.services.get_mut(service) else { return Vec::new() };
        let mut changed = Vec::new();
        let upstreams = made.upstreams.iter().map(|(name, port)| (name, port));
        for (name, list) in endpoints(inputs, service, upstreams) {
            if self.lists.get(&name).is_none_or(|known| **known != *list) {
                let list: Arc<[EndpointSpec]> = list.into();
                self.lists.insert(name.clone(), list.clone());
                self.told = None;
                changed.push((name, list));
            }
        }
        made.slices = Some(inputs.slices.get(service).cloned());
        changed
    }
}
