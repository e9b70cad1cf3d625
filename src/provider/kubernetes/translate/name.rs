//! Further names of hosts: aliases, and the name with or without `www.`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use ir::{Action, HostPattern, Name, Origin, TlsPassthrough};

use super::Object;
use super::draft::{Host, Hosts, Placed};
use super::host::{Traits, answers, route};
use super::path::RulePath;
use super::policy::Policy;
use crate::ir;
use crate::provider::kubernetes::Key;
use crate::provider::kubernetes::report::{Finding, origin};

/// Serves the further names of hosts by the same routes, where no rule is for such a name.
/// TLS for them is terminated here, also where it passes through for the host itself (`passages`), as
/// in ingress-nginx.
pub(super) fn aliases(
    hosts: &mut Hosts,
    objects: &mut [Object<'_>],
    passages: &BTreeMap<HostPattern, TlsPassthrough>,
    traits: &Traits<'_>,
) {
    let mut added: BTreeMap<HostPattern, Host> = BTreeMap::new();
    for index in 0..objects.len() {
        let Some(object) = objects.get(index).filter(|object| !object.policy.aliases.is_empty())
        else {
            continue;
        };
        let (key, aliases) = (object.key, object.policy.aliases.clone());
        let owned: Vec<HostPattern> = hosts
            .iter()
            .filter(|(_, host)| host.owner == index || host.routes.iter().any(|r| r.owner == index))
            .map(|(pattern, _)| pattern.clone())
            .filter(|pattern| *pattern != HostPattern::Any)
            .collect();
        for alias in aliases {
            let problem = if hosts.contains_key(&alias) {
                Some(format!("`{alias}` is the host of a rule, which wins"))
            } else if added.contains_key(&alias) {
                Some(format!("`{alias}` is an alias of another host already"))
            } else {
                None
            };
            let subject = || format!("{}/server-alias", traits.options.annotation_prefix);
            let finding = match (problem, owned.first().and_then(|of| Some((of, hosts.get(of)?)))) {
                (None, Some((of, host))) => {
                    let host = renamed(host, key, &alias, objects, traits);
                    added.insert(alias.clone(), host);
                    passages.contains_key(of).then(|| {
                        let text = format!(
                            "TLS for `{alias}` does not pass through as that for `{of}` does, as in \
                             ingress-nginx: it is terminated here"
                        );
                        Finding::differs(subject(), text).hint("write a rule for the host")
                    })
                }
                (None, None) => None,
                (Some(message), _) => Some(Finding::omitted(subject(), message)),
            };
            if let (Some(finding), Some(object)) = (finding, objects.get_mut(index)) {
                object.report.add(finding);
            }
        }
    }
    hosts.append(&mut added);
}

/// A host's routes for another name of it, which may have TLS where the host has none.
fn renamed(
    host: &Host,
    by: &Key,
    alias: &HostPattern,
    objects: &[Object<'_>],
    traits: &Traits<'_>,
) -> Host {
    let plain = Policy::plain(traits.options);
    let routes = host.routes.iter().map(|placed| {
        let mut route = placed.route.clone();
        if route.https_redirect.is_none() && !answers(&route.action) {
            let policy = objects.get(placed.owner).map_or(&plain, |object| &object.policy);
            route.https_redirect = traits.https(policy, alias);
        }
        route.name = Name::from(format!("{}#{by}/{alias}", route.name));
        Placed {
            path: placed.path.clone(),
            owner: placed.owner,
            route,
            main: placed.main.clone(),
            canary: placed.canary.clone(),
        }
    });
    let named = host.named.clone();
    Host { owner: host.owner, named, routes: routes.collect(), default: host.default }
}

/// Sends the hosts of Ingresses that want it from the name with `www.` to the one without, or the
/// other way round, unless both are there.
pub(super) fn www(hosts: &mut Hosts, objects: &[Object<'_>], traits: &Traits<'_>) {
    let mut added = Hosts::new();
    for (pattern, host) in hosts.iter() {
        let HostPattern::Exact(name) = pattern else { continue };
        let owners = host.routes.iter().map(|placed| placed.owner).chain([host.owner]);
        let wants = |index: &usize| objects.get(*index).is_some_and(|object| object.policy.www);
        let Some(owner) = owners.filter(wants).min() else { continue };
        let Some(object) = objects.get(owner) else { continue };
        let Some(HostPattern::Exact(from)) = other_name(pattern) else { continue };
        let from = HostPattern::Exact(from);
        if hosts.contains_key(&from) || added.contains_key(&from) {
            continue;
        }
        let path = RulePath::root();
        let rule = Name::from(format!("{from}#www"));
        let origin = Origin { rule, ..origin("Ingress", object.key) };
        let route_name = Name::from(format!("{}/{from}#www", object.key));
        let action = Action::Redirect(ir::Redirect {
            scheme: None,
            host: Some(Arc::from(&**name)),
            port: None,
            path: None,
            status: StatusCode::PERMANENT_REDIRECT,
        });
        let mut route = route(&Policy::default(), route_name, origin, path.matches(), action);
        route.hsts.clone_from(&traits.options.hsts);
        let routes = vec![Placed { path, owner, route, main: None, canary: None }];
        added.insert(from, Host { owner, named: Vec::new(), routes, default: None });
    }
    hosts.append(&mut added);
}

/// The host with `www.` for one without, and the other way round.
pub(super) fn other_name(pattern: &HostPattern) -> Option<HostPattern> {
    let HostPattern::Exact(name) = pattern else { return None };
    let other = match name.strip_prefix("www.") {
        Some(bare) => bare.into(),
        None => format!("www.{name}").into(),
    };
    Some(HostPattern::Exact(other))
}
