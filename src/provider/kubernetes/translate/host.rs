//! Rules to virtual hosts: who gets which path, canaries, default backends, further names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ir::{
    Action, BackendRef, Guard, HostPattern, HttpsRedirect, Name, Origin, PathMatch, Route,
    RouteMatch, VirtualHost,
};
use k8s_openapi::api::networking::v1::IngressBackend;

use super::backend::{forward, unreached, upstream};
use super::draft::{Host, Hosts, Placed, finish};
use super::name::{aliases, www};
use super::pages::pages;
use super::passthrough::passages;
use super::path::{Kind, RulePath};
use super::policy::{Policy, ToHttps, capture};
use super::rule::{rule, rule_of_default};
use super::service::{Upstreams, WantedPort};
use super::tls::Wildcards;
use super::{Object, pattern, server, site, tls};
use crate::ir;
use crate::provider::kubernetes::report::{Finding, origin};
use crate::provider::kubernetes::{Key, Options};

/// The virtual hosts that the rules of all `objects`, the oldest first, come to.
pub(super) fn hosts(
    objects: &mut [Object<'_>],
    upstreams: &mut Upstreams<'_>,
    wildcards: &Wildcards,
    options: &Options,
) -> Vec<VirtualHost> {
    let mut hosts = Hosts::new();
    let mut taken = HashMap::new();
    let traits = Traits::of(objects, wildcards, options);
    for (index, object) in objects.iter_mut().enumerate() {
        if object.policy.canary.is_none() {
            let mut place =
                Place { hosts: &mut hosts, taken: &mut taken, traits: &traits, upstreams };
            place.rules(index, object);
        }
    }
    // In a second round: a canary may be older than what it is a canary of.
    for index in 0..objects.len() {
        canaries(index, objects, &mut hosts, &taken, &traits, upstreams);
    }
    for (pattern, host) in &mut hosts {
        complete(pattern, host, objects, &traits, upstreams);
    }
    let mut passages = passages(&hosts, objects, options);
    aliases(&mut hosts, objects, &passages, &traits);
    let mut rules = server::rules(&mut hosts, objects, options);
    www(&mut hosts, objects, &traits);
    let finished = hosts.into_iter().map(|(pattern, host)| {
        let rules = rules.remove(&pattern).unwrap_or_default();
        let tls_passthrough = passages.remove(&pattern).map(Box::new);
        VirtualHost { rules, tls_passthrough, ..finish(pattern, host, objects) }
    });
    finished.collect()
}

/// What holds for all rules of a host.
pub(super) struct Traits<'o> {
    /// Whose paths are expressions: those of a single rule make it so for all.
    pub regex: BTreeSet<HostPattern>,
    /// Those that have TLS, by whichever Ingress.
    tls: BTreeSet<HostPattern>,
    /// The wildcards that have it, in the whole cluster: so have the hosts that they cover.
    wildcards: &'o Wildcards,
    pub options: &'o Options,
}

impl<'o> Traits<'o> {
    pub fn of(objects: &[Object<'_>], wildcards: &'o Wildcards, options: &'o Options) -> Self {
        let (regex, tls) = Default::default();
        let mut traits = Self { regex, tls, wildcards, options };
        for object in objects.iter().filter(|object| object.policy.canary.is_none()) {
            let Some(spec) = &object.ingress.spec else { continue };
            let has_tls = spec.tls.as_ref().is_some_and(|tls| !tls.is_empty());
            for rule in spec.rules.iter().flatten() {
                let Ok(pattern) = pattern(rule.host.as_deref()) else { continue };
                let paths = rule.http.iter().flat_map(|http| &http.paths);
                let mut paths = paths.map(|path| path.path.as_deref().unwrap_or("/"));
                if paths.any(|path| object.policy.rewrite.wants_regex(path)) {
                    traits.regex.insert(pattern.clone());
                }
                if has_tls && pattern != HostPattern::Any {
                    traits.tls.insert(pattern);
                }
            }
        }
        traits
    }

    /// The redirect to https of a host's routes by `policy`. Without a host of its own a request
    /// has no certificate that it could be sent to.
    pub fn https(&self, policy: &Policy, pattern: &HostPattern) -> Option<HttpsRedirect> {
        let wanted = match policy.to_https {
            ToHttps::Always => true,
            ToHttps::Never => false,
            ToHttps::WithTls => self.options.https.is_some() && self.has_tls(pattern),
        };
        wanted.then(|| policy.https.clone())
    }

    fn has_tls(&self, pattern: &HostPattern) -> bool {
        let covered = || tls::covering(pattern).is_some_and(|by| self.wildcards.contains(&by));
        self.tls.contains(pattern) || covered()
    }
}

/// Where rules find their place, in the order of their age.
pub(super) struct Place<'p, 'i> {
    pub hosts: &'p mut Hosts,
    /// Which object has a path, and where its route is in the host.
    pub taken: &'p mut HashMap<(HostPattern, RulePath), (Key, usize)>,
    pub traits: &'p Traits<'p>,
    pub upstreams: &'p mut Upstreams<'i>,
}

impl Place<'_, '_> {
    fn rules(&mut self, index: usize, object: &mut Object<'_>) {
        let ingress = object.ingress;
        let Some(spec) = &ingress.spec else { return };
        let rules = spec.rules.as_deref().unwrap_or_default();
        for (number, rule) in rules.iter().enumerate() {
            let subject = format!("spec.rules[{number}]");
            let pattern = match pattern(rule.host.as_deref()) {
                Ok(pattern) => pattern,
                Err(why) => {
                    object.report.add(Finding::refused(format!("{subject}.host"), why));
                    continue;
                }
            };
            let host = self.hosts.entry(pattern.clone()).or_insert_with(|| Host {
                owner: index,
                named: Vec::new(),
                routes: Vec::new(),
                default: None,
            });
            host.named.push(index);
            if spec.default_backend.is_some() {
                host.default.get_or_insert(index);
            }
            for (at, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
                let subject = format!("{subject}.http.paths[{at}]");
                let regex = self.traits.regex.contains(&pattern);
                match RulePath::read(path.path.as_deref(), &path.path_type, regex) {
                    Ok(read) => {
                        self.surprise(object, &read, &subject);
                        if read.kind == Kind::Prefix
                            && !regex
                            && path.path.as_deref().is_some_and(|p| p.len() > 1 && p.ends_with('/'))
                        {
                            let text = "the path without its last slash is served, too, where \
                                        ingress-nginx redirects to the one with it";
                            object.report.add(Finding::differs(format!("{subject}.path"), text));
                        }
                        self.path(index, object, &pattern, read, &path.backend, &subject);
                    }
                    Err(why) => self.refused(index, object, &pattern, path, why, &subject),
                }
            }
        }
        match &spec.default_backend {
            // Beside rules it serves their hosts, once all of these are known.
            Some(backend) if rules.is_empty() => {
                self.hosts.entry(HostPattern::Any).or_insert_with(|| Host {
                    owner: index,
                    named: Vec::new(),
                    routes: Vec::new(),
                    default: None,
                });
                let subject = "spec.defaultBackend";
                self.path(index, object, &HostPattern::Any, RulePath::root(), backend, subject);
            }
            None if rules.is_empty() => {
                let text = "there are neither rules nor a default backend";
                object.report.add(Finding::refused("spec", text));
            }
            _ => {}
        }
    }

    fn path(
        &mut self,
        index: usize,
        object: &mut Object<'_>,
        pattern: &HostPattern,
        path: RulePath,
        backend: &IngressBackend,
        subject: &str,
    ) {
        let Some(host) = self.hosts.get_mut(pattern) else { return };
        let key = (pattern.clone(), path.clone());
        if let Some((first, _)) = self.taken.get(&key) {
            let what = format!("{pattern}{} ({})", path.text, kind(&path));
            let (message, hint) = if first == object.key {
                (format!("{what} is here twice, and the first one counts"), None)
            } else {
                let hint = "the older object wins; remove the path from one of the two";
                (format!("{what} belongs to the older Ingress {first}"), Some(hint))
            };
            let finding = Finding::refused(subject, message);
            object.report.add(match hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            });
            return;
        }
        self.taken.insert(key, (object.key.clone(), host.routes.len()));
        let route =
            placed(index, object, pattern, path, backend, subject, self.traits, self.upstreams);
        host.routes.push(route);
    }

    /// Says where a path means something else because the host's paths are expressions.
    fn surprise(&self, object: &mut Object<'_>, path: &RulePath, subject: &str) {
        let own = object.policy.rewrite.wants_regex(&path.text);
        if path.regex && !own && path.kind != Kind::Implementation && &*path.text != "/" {
            let text = "another Ingress of the host has `rewrite-target` or `use-regex`, so, as in \
                        ingress-nginx, this is an expression here that paths begin with, in any case";
            object.report.add(Finding::differs(format!("{subject}.path"), text));
        }
    }
}

/// The route for `path`, by the settings of its Ingress.
#[expect(clippy::too_many_arguments, reason = "a struct would only rename them")]
fn placed(
    owner: usize,
    object: &mut Object<'_>,
    pattern: &HostPattern,
    path: RulePath,
    backend: &IngressBackend,
    subject: &str,
    traits: &Traits<'_>,
    upstreams: &mut Upstreams<'_>,
) -> Placed {
    let name = format!("{}/{pattern}{}", object.key, path.label());
    let label = format!("{pattern}{}", path.label());
    let origin = Origin { rule: Name::from(label), ..origin("Ingress", object.key) };
    let rewrite = &object.policy.rewrite;
    let (action, main) = match object.policy.answer.clone().or_else(|| rewrite.answer(&path.text)) {
        Some(answer) => {
            if matches!(answer, Action::Fail { .. }) {
                unreached(object, backend, subject, upstreams);
            }
            (answer, None)
        }
        None => forward(object, &path.text, backend, subject, upstreams),
    };
    let mut route = route(&object.policy, Name::from(name), origin, path.matches(), action);
    if traits.options.controller.lets_in(&path.text, path.regex) {
        route.auth = None;
    }
    if object.policy.captures && path.regex && !matches!(route.action, Action::Fail { .. }) {
        capture(&path.text, &mut route);
    }
    if main.is_some() {
        route.filters.extend(object.policy.rewrite.filters(&path.text));
        route.rules.extend(object.policy.rewrite.rules(&path.text));
        route.error_pages = pages(object, backend, traits.options, upstreams).map(Box::new);
    }
    site::bind(&mut route, pattern, object.key, backend);
    route.https_redirect = match answers(&route.action) {
        true => None,
        false => traits.https(&object.policy, pattern),
    };
    route.hsts.clone_from(&traits.options.hsts);
    route.rule = rule(object.key, &path, backend, main.as_ref(), upstreams, traits.options);
    Placed { path, owner, route, main, canary: None }
}

/// Whether requests are answered without a back end: over plain http, too.
pub(super) fn answers(action: &Action) -> bool {
    matches!(action, Action::Redirect(_) | Action::Respond(_) | Action::RedirectTo(_))
}

pub(super) fn route(
    policy: &Policy,
    name: Name,
    origin: Origin,
    path: PathMatch,
    action: Action,
) -> Route {
    Route {
        name,
        origin: origin.into(),
        matches: RouteMatch::of(path).into(),
        // What is sent elsewhere is so before anybody is asked who they are.
        guard: match action {
            Action::Redirect(_) | Action::RedirectTo(_) => Guard::default(),
            _ => policy.guard.clone(),
        },
        cors: policy.cors.clone().map(Box::new),
        // What fails, fails for everybody.
        auth: match action {
            Action::Fail { .. } | Action::Redirect(_) | Action::RedirectTo(_) => None,
            _ => policy.auth.clone().map(Box::new),
        },
        error_pages: None,
        rules: policy.rules_of(&action),
        filters: policy.filters_of(&action),
        action,
        https_redirect: None,
        hsts: None,
        timeouts: policy.timeouts.clone().into(),
        retry: policy.retry.clone().into(),
        hedge: None,
        body_limit: policy.body_limit,
        bodies: policy.bodies,
        sticky: false,
        access_log: policy.access_log,
        rule: None,
    }
}

/// Joins the paths of a canary with those of equal host, path and type that are no canary's.
fn canaries(
    index: usize,
    objects: &mut [Object<'_>],
    hosts: &mut Hosts,
    taken: &HashMap<(HostPattern, RulePath), (Key, usize)>,
    traits: &Traits<'_>,
    upstreams: &mut Upstreams<'_>,
) {
    let Some(object) = objects.get(index).filter(|object| object.policy.canary.is_some()) else {
        return;
    };
    let ingress = object.ingress;
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    for (number, rule) in rules.enumerate() {
        let Ok(pattern) = pattern(rule.host.as_deref()) else { continue };
        for (at, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            let subject = format!("spec.rules[{number}].http.paths[{at}]");
            let regex = traits.regex.contains(&pattern);
            let read = RulePath::read(path.path.as_deref(), &path.path_type, regex);
            let main = read.ok().and_then(|read| taken.get(&(pattern.clone(), read)));
            let placed = main.and_then(|(_, at)| hosts.get_mut(&pattern)?.routes.get_mut(*at));
            let settings = placed.as_ref().and_then(|placed| objects.get(placed.owner));
            let settings = settings
                .map(|main| (main.key, main.policy.upstream.clone(), main.policy.cookie_by_path));
            let Some(object) = objects.get_mut(index) else { continue };
            match joinable(object.key, placed, settings) {
                Err(why) => object.report.add(Finding::refused(subject, why)),
                Ok((placed, main, cookie_by_path)) => {
                    // Of the canary only its balancing counts, and whether its Service stands for
                    // its endpoints, else what holds for the rule.
                    let own = (object.policy.upstream.clone(), object.policy.cookie_by_path);
                    let mut balance = own.0.balance.clone();
                    if object.policy.canary_sticky {
                        balance.affinity.clone_from(&main.balance.affinity);
                        object.policy.cookie_by_path = cookie_by_path;
                        placed.route.sticky = balance.affinity.is_some();
                    }
                    let service_address = own.0.service_address;
                    object.policy.upstream =
                        super::service::Settings { balance, service_address, ..main };
                    let text = placed.path.text.clone();
                    let upstream = upstream(object, &text, &path.backend, &subject, upstreams);
                    (object.policy.upstream, object.policy.cookie_by_path) = own;
                    placed.canary = upstream.ok().map(|upstream| (upstream, index));
                }
            }
        }
    }
}

/// Whether a canary can be joined to what was found in its place.
fn joinable<'p>(
    canary: &Key,
    placed: Option<&'p mut Placed>,
    main: Option<(&Key, super::service::Settings, bool)>,
) -> Result<(&'p mut Placed, super::service::Settings, bool), &'static str> {
    let (Some(placed), Some((key, settings, cookie_by_path))) = (placed, main) else {
        return Err("there is no rule of equal host, path and path type to be a canary of");
    };
    if key.namespace != canary.namespace {
        return Err("the rule it would be a canary of is in another namespace");
    }
    if placed.canary.is_some() {
        return Err("the rule has a canary already, and there is one for each");
    }
    if placed.main.is_none() {
        return Err("the rule it would be a canary of does not forward");
    }
    Ok((placed, settings, cookie_by_path))
}

/// Adds what a host serves beside its rules: the way in, and what no rule matches.
fn complete(
    pattern: &HostPattern,
    host: &mut Host,
    objects: &mut [Object<'_>],
    traits: &Traits<'_>,
    upstreams: &mut Upstreams<'_>,
) {
    if traits.regex.contains(pattern) {
        // Expressions are tried in the order of their length; the sort is stable, by age.
        let rank = |placed: &Placed| {
            (std::cmp::Reverse(placed.path.text.len()), placed.path.kind != Kind::Exact)
        };
        host.routes.sort_by_key(rank);
    }
    let root = objects
        .get(host.owner)
        .filter(|_| !host.routes.iter().any(|placed| placed.path.is_root()))
        .is_some();
    if root && let Some(index) = host.default {
        let Some(object) = objects.get_mut(index) else { return };
        let spec = object.ingress.spec.as_ref();
        if let Some(backend) = spec.and_then(|spec| spec.default_backend.as_ref()) {
            let subject = "spec.defaultBackend";
            let path = RulePath::root();
            let route = placed(index, object, pattern, path, backend, subject, traits, upstreams);
            host.routes.push(route);
        }
    } else if root && let Some(service) = &traits.options.default_backend {
        host.routes.push(to_default(pattern, service, traits, upstreams));
    }
    app_root(pattern, host, objects, traits);
}

/// The route to the Service that gets what no rule matches.
fn to_default(
    pattern: &HostPattern,
    service: &Key,
    traits: &Traits<'_>,
    upstreams: &mut Upstreams<'_>,
) -> Placed {
    let policy = Policy::plain(traits.options);
    let settings = &policy.upstream;
    let (upstream, _) = upstreams.obtain(service, WantedPort::First, settings, "default-backend");
    let origin = Origin { rule: Name::from("default-backend"), ..origin("Service", service) };
    let path = RulePath::root();
    let name = Name::from(format!("default-backend/{pattern}/"));
    let forward = || Action::Forward(vec![BackendRef { upstream: upstream.clone(), weight: 1 }]);
    let action = policy.answer.clone().unwrap_or_else(forward);
    let mut route = route(&policy, name, origin, path.matches(), action);
    route.https_redirect = traits.https(&policy, pattern);
    route.hsts.clone_from(&traits.options.hsts);
    route.rule = rule_of_default(service, &upstream, traits.options);
    Placed { path, owner: usize::MAX, route, main: Some(upstream), canary: None }
}

/// The same for hosts that nobody names, for where no rule serves them.
pub(super) fn catch_all(traits: &Traits<'_>, upstreams: &mut Upstreams<'_>) -> Option<VirtualHost> {
    let service = traits.options.default_backend.as_ref()?;
    let route = to_default(&HostPattern::Any, service, traits, upstreams);
    let host = Host { owner: usize::MAX, named: Vec::new(), routes: vec![route], default: None };
    Some(finish(HostPattern::Any, host, &[]))
}

/// Of the Ingresses of a host the oldest that has a root for the application decides.
fn app_root(pattern: &HostPattern, host: &mut Host, objects: &[Object<'_>], traits: &Traits<'_>) {
    let owners: BTreeSet<usize> =
        host.routes.iter().map(|placed| placed.owner).chain([host.owner]).collect();
    let found = owners.iter().find_map(|index| {
        let object = objects.get(*index)?;
        Some((*index, object, object.policy.app_root.clone()?))
    });
    let Some((owner, object, action)) = found else { return };
    let path = RulePath { kind: Kind::Exact, text: "/".into(), regex: false };
    let name = Name::from(format!("{}/{pattern}#app-root", object.key));
    let rule = Name::from(format!("{pattern}#app-root"));
    let origin = Origin { rule, ..origin("Ingress", object.key) };
    let mut route = route(&object.policy, name, origin, path.matches(), action);
    // It stands before a rule for the same path.
    Arc::make_mut(&mut route.matches).order = -1;
    (route.guard, route.cors, route.auth) = Default::default();
    route.hsts.clone_from(&traits.options.hsts);
    host.routes.push(Placed { path, owner, route, main: None, canary: None });
}

fn kind(path: &RulePath) -> &'static str {
    match path.kind {
        Kind::Exact => "Exact",
        Kind::Prefix => "Prefix",
        Kind::Implementation => "ImplementationSpecific",
    }
}
