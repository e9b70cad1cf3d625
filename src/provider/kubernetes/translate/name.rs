//! Further names of hosts: aliases, and the name with or without `www.`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use ir::{Action, HostPattern, Name, Origin};

use super::Object;
use super::draft::{Host, Hosts, Placed};
use super::host::{Traits, route};
use super::path::RulePath;
use super::policy::Policy;
use crate::ir;
use crate::provider::kubernetes::report::{Finding, origin};
use crate::provider::kubernetes::{Key, Options};

/// Serves the further names of hosts by the same routes, where no rule is for such a name.
pub(super) fn aliases(hosts: &mut Hosts, objects: &mut [Object<'_>], options: &Options) {
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
            match (problem, owned.first().and_then(|first| hosts.get(first))) {
                (None, Some(host)) => drop(added.insert(alias.clone(), renamed(host, key, &alias))),
                (None, None) => {}
                (Some(message), _) => {
                    if let Some(object) = objects.get_mut(index) {
                        let subject = format!("{}/server-alias", options.annotation_prefix);
                        object.report.add(Finding::omitted(subject, message));
                    }
                }
            }
        }
    }
    hosts.append(&mut added);
}

/// A host's routes for another name of it.
fn renamed(host: &Host, by: &Key, alias: &HostPattern) -> Host {
    let routes = host.routes.iter().map(|placed| {
        let mut route = placed.route.clone();
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
