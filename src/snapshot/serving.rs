//! What listeners serve: which hosts, found how, with which counters.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::client_gate::ClientGate;
use super::hosts::CompiledHost;
use super::listener::CompiledListener;
use super::{HostIndex, HostTable};
use crate::filter::Rules;
use crate::ir::{ListenerSelector, Name};
use crate::telemetry::{Metrics, RouteMetrics};
use crate::tls::ClientDemand;

/// What listeners may serve.
pub(super) struct Serving<'s> {
    pub hosts: &'s [Arc<CompiledHost>],
    /// Those of them that are as they were, by their place.
    pub standing: &'s [Option<&'s Arc<CompiledHost>>],
    /// How many numbers of routes there are.
    pub numbers: usize,
    /// Indices, by the places of the hosts in them: most listeners serve the same.
    pub built: Vec<(Arc<[usize]>, Arc<Index>)>,
}

pub(super) type Index = HostIndex<Arc<HostTable>>;

impl<'s> Serving<'s> {
    /// The places of the hosts that `listener` serves.
    pub fn places(&self, listener: &Name) -> Arc<[usize]> {
        // Most hosts share one selector, whose names are compared once.
        let mut last: Option<(&'s Arc<BTreeSet<Name>>, bool)> = None;
        let mut serves = |selector: &'s ListenerSelector| {
            let ListenerSelector::Named(names) = selector else { return true };
            if let Some((known, serves)) = last
                && Arc::ptr_eq(known, names)
            {
                return serves;
            }
            let serves = selector.selects(listener.as_str());
            last = Some((names, serves));
            serves
        };
        let all = self.hosts.iter().enumerate();
        all.filter(|(_, host)| serves(&host.spec.listeners)).map(|(place, _)| place).collect()
    }

    /// The hosts at `places`.
    fn at<'t>(&'t self, places: &'t [usize]) -> impl Iterator<Item = &'t Arc<CompiledHost>> {
        places.iter().filter_map(|place| self.hosts.get(*place))
    }

    /// What finds the hosts at `places`.
    pub fn index(&mut self, places: &Arc<[usize]>) -> Arc<Index> {
        if let Some((_, index)) = self.built.iter().find(|(same, _)| same == places) {
            return index.clone();
        }
        let hosts: Vec<_> = self.at(places).collect();
        let index = Arc::new(index(&hosts));
        self.built.push((places.clone(), index.clone()));
        index
    }

    /// Whether TLS connections for one of the hosts at `places` are not terminated here.
    pub fn passes(&self, places: &[usize]) -> bool {
        self.at(places).any(|host| host.table.passage.is_some())
    }

    /// What hosts demand of client certificates, by all patterns: a host without a demand has none,
    /// whatever a wildcard beside it demands. `None` where no host has any.
    pub fn demands(&self, places: &[usize]) -> Option<HostIndex<Option<Arc<ClientDemand>>>> {
        if !self.at(places).any(|host| host.spec.client_auth.is_some()) {
            return None;
        }
        let demand = |host: &CompiledHost| {
            let mut gates = host.routes.iter().filter_map(|route| route.client_auth.as_deref());
            gates.find_map(ClientGate::demand).cloned()
        };
        let mut found: Vec<_> =
            self.at(places).map(|host| (host.spec.pattern.clone(), demand(host))).collect();
        // Of several declarations of a host the first that demands something says it.
        found.sort_by_key(|(_, demand)| demand.is_none());
        Some(HostIndex::build(found))
    }

    /// The counters of the routes of the hosts at `places`, by number.
    pub fn metrics(
        &self,
        places: &[usize],
        listener: &Name,
        old: Option<&Arc<CompiledListener>>,
        metrics: &Metrics,
    ) -> Box<[Option<Arc<RouteMetrics>>]> {
        let old = old.filter(|old| old.name == *listener);
        let mut all = vec![None; self.numbers];
        for place in places {
            let Some(host) = self.hosts.get(*place) else { continue };
            let old = old.filter(|_| self.standing.get(*place).is_some_and(Option::is_some));
            for route in &host.routes {
                let known = old.and_then(|old| old.routes.get(route.id.index())?.clone());
                if let Some(place) = all.get_mut(route.id.index()) {
                    *place = Some(known.unwrap_or_else(|| metrics.route(listener, &route.name)));
                }
            }
        }
        all.into()
    }
}

/// Finds `hosts`, sorted by pattern; where several are of one pattern, their routes come together.
fn index(hosts: &[&Arc<CompiledHost>]) -> Index {
    let same = hosts.chunk_by(|a, b| a.spec.pattern == b.spec.pattern);
    HostIndex::build(same.filter_map(|same| {
        let [first, more @ ..] = same else { return None };
        let table = match more {
            [] => first.table.clone(),
            _ => {
                let routes = same.iter().flat_map(|host| &host.routes);
                let routes: Vec<_> = routes.map(|route| (route.id, &*route.matches)).collect();
                let rules = same.iter().flat_map(|host| host.spec.rules.iter().cloned());
                let rules: Vec<_> = rules.collect();
                // What is wrong with them was said where each was compiled.
                let mut table = HostTable::build(&routes).0;
                table.passage = same.iter().find_map(|host| host.table.passage.clone());
                let rules = Rules::new(&rules).unwrap_or_else(|_| Some(Rules::closed()));
                table.rules = rules.map(Arc::new);
                Arc::new(table)
            }
        };
        Some((first.spec.pattern.clone(), table))
    }))
}
