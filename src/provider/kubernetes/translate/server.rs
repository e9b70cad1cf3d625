//! Rules of whole hosts.

use std::collections::{BTreeMap, BTreeSet};

use ir::{Action, HostPattern, Next, Rule, Site, Step};

use super::Object;
use super::draft::Hosts;
use super::locations;
use crate::ir;
use crate::provider::kubernetes::Options;
use crate::provider::kubernetes::report::Finding;

/// The rules of each host that has any: those of the oldest of its Ingresses that says some. The
/// others are told. Where a path may have been rewritten by the time that a route is found, rules of
/// locations stand before those of the route, too.
pub(super) fn rules(
    hosts: &mut Hosts,
    objects: &mut [Object<'_>],
    options: &Options,
) -> BTreeMap<HostPattern, Vec<Rule>> {
    let mut found = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (pattern, host) in hosts {
        let mut saying = host.owners().into_iter().filter(|index| {
            objects.get(*index).is_some_and(|object| {
                !(object.policy.server_rules.is_empty() && object.policy.location_rules.is_empty())
            })
        });
        let Some(first) = saying.next() else { continue };
        let losers: Vec<_> = saying.collect();
        let Some(winner) = objects.get(first) else { continue };
        let (key, mut rules) = (winner.key, winner.policy.server_rules.clone());
        let paths: Vec<_> = host.routes.iter().map(|placed| &placed.path).collect();
        let mut locations = locations::rules(&winner.policy.location_rules, &paths);
        for rule in rules.iter_mut().chain(&mut locations) {
            rule.bind(&|site| match site {
                Site::Host => pattern.to_string().into(),
                Site::Service | Site::ServicePort | Site::Upstream => "".into(),
            });
        }
        for loser in losers.into_iter().filter(|loser| told.insert((*loser, pattern.clone()))) {
            if let Some(object) = objects.get_mut(loser) {
                let subject = format!("{}/server-snippet", options.annotation_prefix);
                let text = format!(
                    "that of the older Ingress {key} holds for `{pattern}`, and nothing of this one"
                );
                object.report.add(Finding::omitted(subject, text));
            }
        }
        let ends = |rule: &Rule| rewrites(rule, &[Next::Lookup, Next::Stop]);
        let again = |rule: &Rule| rewrites(rule, &[Next::Lookup]);
        let mut of_routes = host.routes.iter().flat_map(|placed| &placed.route.rules);
        if rules.iter().any(ends) || of_routes.any(again) {
            let serving = host.routes.iter_mut().map(|placed| &mut placed.route);
            for route in serving.filter(|route| !matches!(route.action, Action::Fail { .. })) {
                drop(route.rules.splice(0..0, locations.iter().cloned()));
            }
        }
        rules.append(&mut locations);
        found.insert(pattern.clone(), rules);
    }
    found
}

/// Whether a rule changes paths, with one of these behind it.
fn rewrites(rule: &Rule, next: &[Next]) -> bool {
    rule.then.iter().any(|step| matches!(step, Step::Rewrite(one) if next.contains(&one.next)))
}
