//! Rules of whole hosts.

use std::collections::{BTreeMap, BTreeSet};

use ir::{HostPattern, Rule, Site};

use super::Object;
use super::draft::Hosts;
use crate::ir;
use crate::provider::kubernetes::Options;
use crate::provider::kubernetes::report::Finding;

/// The rules of each host that has any: those of the oldest of its Ingresses that says some. The
/// others are told.
pub(super) fn rules(
    hosts: &Hosts,
    objects: &mut [Object<'_>],
    options: &Options,
) -> BTreeMap<HostPattern, Vec<Rule>> {
    let mut found = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (pattern, host) in hosts {
        let mut saying = host.owners().into_iter().filter(|index| {
            objects.get(*index).is_some_and(|object| !object.policy.server_rules.is_empty())
        });
        let Some(first) = saying.next() else { continue };
        let losers: Vec<_> = saying.collect();
        let Some(winner) = objects.get(first) else { continue };
        let (key, mut rules) = (winner.key, winner.policy.server_rules.clone());
        for rule in &mut rules {
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
        found.insert(pattern.clone(), rules);
    }
    found
}
