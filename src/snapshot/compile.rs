//! From configuration to snapshot.
//!
//! Cannot fail: what is wrong with a route becomes a route that answers with an error, what is
//! wrong with a certificate is left to the last good one, and everything is reported. Runs on
//! the control side.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use http::StatusCode;

use super::client_gate::Demands;
use super::hosts::{self, CompiledHost, Places};
use super::inner::{InnerRoutes, Purpose};
use super::listener::{CompiledListener, ListenerId};
use super::route::{Action, CompiledRoute, ErrorPages, FixedResponse, Targets};
use super::serving::Serving;
use super::upstreams::Upstreams;
use super::{Authentication, CountedRule, HostIndex, HostTable, Passage, RouteId, Snapshot};
use crate::filter::{self, Cors, FilterChain, Guard, HttpsPlan, RedirectPlan, Rules, Tallies};
use crate::ir::{self, BackendRef, Config, Name, PathMatch, Problem, TlsPassthrough, VirtualHost};
use crate::telemetry::Metrics;
use crate::tls::{ServerTls, TlsShared};
use crate::upstream::balance::Stride;
use crate::upstream::{Hedging, Registry, Target};

/// Turns configurations into snapshots; remembers what must stay the same between them.
pub struct Compiler {
    metrics: Metrics,
    registry: Arc<Registry>,
    tls: Arc<TlsShared>,
    workers: usize,
    listener_ids: HashMap<Name, ListenerId>,
    next_listener: u32,
    /// The hedging of routes, by name.
    hedges: HashMap<Name, Weak<Hedging>>,
    /// The turns of routes with several upstreams, by name.
    turns: HashMap<Name, Turns>,
    /// What hosts demand of client certificates.
    demands: Demands,
    /// How many hedges and turns there may be before those of routes that are gone are looked for.
    enough: usize,
    /// What is counted of clients.
    tallies: Tallies,
    /// Where turns begin: elsewhere in each process.
    seeds: RandomState,
    generation: u64,
}

/// The turns of a route's upstreams, and for which upstreams and weights they are.
struct Turns {
    backends: Vec<BackendRef>,
    stride: Weak<Stride>,
}

impl Compiler {
    /// A compiler for `workers` workers.
    pub fn new(
        metrics: Metrics,
        registry: Arc<Registry>,
        tls: Arc<TlsShared>,
        workers: usize,
    ) -> Self {
        Self {
            metrics,
            registry,
            tls,
            workers,
            listener_ids: HashMap::new(),
            next_listener: 0,
            hedges: HashMap::new(),
            turns: HashMap::new(),
            demands: Demands::default(),
            enough: 64,
            tallies: Tallies::default(),
            seeds: RandomState::new(),
            generation: 0,
        }
    }

    /// Compiles `config`. `targets` tells the resolved endpoints of an upstream that is new or wants
    /// something else than before; `previous` is the snapshot being replaced. Upstreams, hosts and
    /// listeners' certificates that are the same in memory as there are taken over.
    pub fn compile(
        &mut self,
        config: Arc<Config>,
        previous: Option<&Snapshot>,
        targets: impl Fn(&Name, &ir::Upstream) -> Vec<Target>,
    ) -> Snapshot {
        self.generation += 1;
        let mut problems = Vec::new();
        let (registry, tls) = (&self.registry, &self.tls);
        let upstreams =
            Upstreams::compile(&config, previous, registry, tls, targets, &mut problems);
        let standing = hosts::standing(&config.hosts, previous, &upstreams.changed);
        let mut places = Places::default();
        let mut inner = InnerRoutes::default();
        for host in standing.iter().flatten() {
            host.routes.iter().for_each(|route| places.put(route));
            inner.keep(&host.inner, &mut places);
        }
        let hosts = config.hosts.iter().zip(&standing).map(|(host, standing)| match *standing {
            Some(host) => host.clone(),
            None => Arc::new(self.host(host, &upstreams, &mut inner, &mut places)),
        });
        let hosts: Box<[Arc<CompiledHost>]> = hosts.collect();
        problems.extend(hosts.iter().flat_map(|host| host.problems.iter().cloned()));
        let routes = places.finish();
        let mut serving = Serving {
            hosts: &hosts,
            numbers: routes.len(),
            standing: &standing,
            built: Vec::new(),
        };
        let mut listeners: Vec<Option<Arc<CompiledListener>>> = Vec::new();
        for (name, spec) in &config.listeners {
            let id = self.listener_id(name, spec, &config, previous);
            let old = previous.and_then(|old| old.listener(id));
            let serving = &mut serving;
            let listener = self.listener(id, name, spec, &config, serving, old, &mut problems);
            let index = id.0 as usize;
            if listeners.len() <= index {
                listeners.resize_with(index + 1, || None);
            }
            if let Some(place) = listeners.get_mut(index) {
                *place = Some(Arc::new(listener));
            }
        }
        self.forget_unused();
        Snapshot {
            generation: self.generation,
            config,
            listeners: listeners.into(),
            hosts,
            routes,
            upstreams: upstreams.usable,
            problems,
        }
    }

    /// Forgets the hedging and turns of routes that are gone, now and then: each has to be looked at.
    fn forget_unused(&mut self) {
        self.demands.tidy();
        let known = self.hedges.len() + self.turns.len();
        if known > self.enough {
            self.hedges.retain(|_, hedging| hedging.strong_count() > 0);
            self.turns.retain(|_, turns| turns.stride.strong_count() > 0);
            self.enough = 64 + 2 * (self.hedges.len() + self.turns.len());
        }
    }

    fn host(
        &mut self,
        spec: &Arc<VirtualHost>,
        upstreams: &Upstreams,
        inner: &mut InnerRoutes,
        places: &mut Places,
    ) -> CompiledHost {
        let mut problems = Vec::new();
        let gate = self.demands.gate(spec, &self.tls, &mut problems);
        let mut compile = |route| {
            let compiled = self.route(places.number(), spec, route, upstreams, &mut problems);
            let compiled = CompiledRoute { client_auth: gate.clone(), ..compiled };
            let guarded = self.guard(compiled, route, upstreams, inner, places, &mut problems);
            let route = Arc::new(guarded);
            places.put(&route);
            route
        };
        let routes: Box<[_]> = spec.routes.iter().map(&mut compile).collect();
        let matches: Vec<_> = routes.iter().map(|route| (route.id, &*route.matches)).collect();
        let (mut table, broken) = HostTable::build(&matches);
        table.client_gate = gate;
        table.passage = passage(spec, upstreams, &mut problems);
        table.rules = host_rules(&[spec]).unwrap_or_else(|why| {
            let message = format!("the rules of the host '{}': {why}", spec.pattern);
            let hint = "its requests are answered 500";
            problems.push(Problem::error(message).about(&spec.origin).hint(hint));
            Some(Arc::new(Rules::closed()))
        });
        for (id, message) in broken {
            let problem = Problem::error(message);
            problems.push(match routes.iter().find(|route| route.id == id) {
                Some(route) => problem.about(&route.origin),
                None => problem,
            });
        }
        CompiledHost {
            spec: spec.clone(),
            table: Arc::new(table),
            routes,
            problems,
            uses: upstreams.asked(),
            inner: inner.asked(),
        }
    }

    /// A listener that only got another name stays the same: its connections, and those that
    /// wait to be accepted, are served on.
    fn listener_id(
        &mut self,
        name: &Name,
        spec: &ir::Listener,
        config: &Config,
        previous: Option<&Snapshot>,
    ) -> ListenerId {
        let renamed = previous
            .filter(|old| !old.config.listeners.contains_key(name) && spec.bind.port() != 0)
            .and_then(|old| old.listeners().find(|listener| listener.spec.bind == spec.bind))
            .filter(|old| !config.listeners.contains_key(&old.name));
        if let Some(old) = renamed {
            self.listener_ids.remove(&old.name);
            self.listener_ids.insert(name.clone(), old.id);
            return old.id;
        }
        *self.listener_ids.entry(name.clone()).or_insert_with(|| {
            let id = ListenerId(self.next_listener);
            self.next_listener = self.next_listener.saturating_add(1);
            id
        })
    }

    fn route(
        &mut self,
        id: RouteId,
        host: &VirtualHost,
        route: &ir::Route,
        upstreams: &Upstreams,
        problems: &mut Vec<Problem>,
    ) -> CompiledRoute {
        let prefix = match &route.matches.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
            PathMatch::Regex(_) | PathMatch::StartsWith(_) => "/",
        };
        let compiled = self.action(route, prefix, upstreams).and_then(|action| {
            let filters = FilterChain::new(&route.filters, prefix)?;
            Ok((action, filters, Rules::new(&route.rules)?))
        });
        let (action, filters, rules) = compiled.unwrap_or_else(|reason| {
            let message = format!("route '{}': {reason}", route.name);
            problems.push(Problem::error(message).about(&route.origin));
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            (Action::Fail { status, reason }, FilterChain::default(), None)
        });
        CompiledRoute {
            id,
            name: route.name.clone(),
            origin: route.origin.clone(),
            host: host.pattern.clone(),
            matches: route.matches.clone(),
            guard: Guard::new(&route.guard, either(route), &route.name, &self.tallies),
            cors: route.cors.as_ref().map(|cors| Box::new(Cors::new(cors))),
            action,
            auth: None,
            client_auth: None,
            error_pages: None,
            rules: rules.map(Box::new),
            filters,
            https_redirect: route.https_redirect.as_ref().map(HttpsPlan::new),
            hsts: route.hsts.as_ref().and_then(filter::hsts),
            timeouts: route.timeouts.clone(),
            retry: route.retry.clone(),
            hedge: route.hedge.as_ref().map(|hedge| self.hedging(&route.name, hedge)),
            body_limit: route.body_limit,
            bodies: route.bodies,
            sticky: route.sticky,
            access_log: route.access_log,
            rule: route
                .rule
                .as_ref()
                .map(|rule| Arc::new(CountedRule::new(rule, &host.pattern, &self.metrics))),
        }
    }

    /// Puts its guard before a route that has one, and its error pages behind it.
    fn guard(
        &mut self,
        mut compiled: CompiledRoute,
        route: &ir::Route,
        upstreams: &Upstreams,
        inner: &mut InnerRoutes,
        places: &mut Places,
        problems: &mut Vec<Problem>,
    ) -> CompiledRoute {
        let mut targets = |name: &Name| {
            let upstream = upstreams.find(name).ok().map(|upstream| (upstream.clone(), 1));
            Targets::new(upstream.into_iter().collect(), None)
        };
        let mut found = Vec::new();
        if let Some(auth) = &route.auth {
            let mut make = |name: &Name, external: &ir::ExternalAuth| {
                let limit = Some(external.timeout);
                inner.obtain(Purpose::Question, name, limit, places, &mut targets)
            };
            let auth = Authentication::new(auth, &route.name, upstreams, &mut make, &mut found);
            compiled.auth = Some(Box::new(auth));
        }
        if let Some(spec) = &route.error_pages {
            match upstreams.find(&spec.upstream) {
                Ok(_) => {
                    let limit = route.timeouts.request;
                    let page = Purpose::Page;
                    let route = inner.obtain(page, &spec.upstream, limit, places, &mut targets);
                    let pages = ErrorPages { spec: (**spec).clone(), route };
                    compiled.error_pages = Some(Box::new(pages));
                }
                Err(why) => {
                    let message = format!("route '{}': its error pages: {why}", route.name);
                    let hint = "its errors are as they are without them";
                    found.push(Problem::error(message).hint(hint));
                }
            }
        }
        problems.extend(found.into_iter().map(|problem| problem.about(&route.origin)));
        compiled
    }

    /// What a route has learned stays for as long as it wants the same.
    fn hedging(&mut self, route: &Name, hedge: &ir::Hedge) -> Arc<Hedging> {
        let known = self.hedges.get(route).and_then(Weak::upgrade);
        known.filter(|known| known.spec == *hedge).unwrap_or_else(|| {
            let hedging = Arc::new(Hedging::new(hedge, self.workers));
            self.hedges.insert(route.clone(), Arc::downgrade(&hedging));
            hedging
        })
    }

    /// Turns go on for as long as a route wants the same: begun anew with every edit, they would
    /// fall to the same upstream where edits are many and requests few.
    fn turns(&mut self, route: &Name, backends: &[BackendRef]) -> Option<Arc<Stride>> {
        if backends.len() < 2 {
            return None;
        }
        let known = self.turns.get(route).filter(|turns| turns.backends == backends);
        let stride = known.and_then(|turns| turns.stride.upgrade());
        Some(stride.unwrap_or_else(|| {
            let weights: Vec<_> = backends.iter().map(|backend| backend.weight).collect();
            let seed = self.seeds.hash_one((route.as_str(), self.generation));
            let stride = Arc::new(Stride::new(&weights, self.workers, seed));
            let turns = Turns { backends: backends.to_vec(), stride: Arc::downgrade(&stride) };
            self.turns.insert(route.clone(), turns);
            stride
        }))
    }

    fn action(
        &mut self,
        route: &ir::Route,
        prefix: &str,
        upstreams: &Upstreams,
    ) -> Result<Action, String> {
        Ok(match &route.action {
            ir::Action::Fail { status, reason } => {
                Action::Fail { status: *status, reason: reason.clone() }
            }
            ir::Action::Forward(backends) => {
                let mut targets = Vec::with_capacity(backends.len());
                for backend in backends {
                    let upstream = upstreams.find(&backend.upstream)?;
                    targets.push((upstream.clone(), backend.weight));
                }
                Action::Forward(Targets::new(targets, self.turns(&route.name, backends)))
            }
            ir::Action::Redirect(redirect) => {
                Action::Redirect(Box::new(RedirectPlan::new(redirect, prefix)?))
            }
            ir::Action::RedirectTo(redirect) => Action::RedirectTo(redirect.clone()),
            ir::Action::Respond(respond) => Action::Respond(Box::new(FixedResponse::new(respond))),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn listener(
        &self,
        id: ListenerId,
        name: &Name,
        spec: &Arc<ir::Listener>,
        config: &Config,
        serving: &mut Serving<'_>,
        old: Option<&Arc<CompiledListener>>,
        problems: &mut Vec<Problem>,
    ) -> CompiledListener {
        let places = serving.places(name);
        let demands = spec.tls.as_ref().and_then(|_| serving.demands(&places));
        let tls = spec.tls.as_ref().map(|tls| {
            let old = old.and_then(|old| old.tls.as_ref());
            let all: Vec<_> =
                demands.iter().flat_map(HostIndex::values).flatten().cloned().collect();
            let (name, http2) = (name.as_str(), spec.protocols.http2);
            let (tls, mut found) = ServerTls::demanding(name, tls, &all, http2, &self.tls, old);
            problems.append(&mut found);
            tls
        });
        let passes = tls.is_some() && serving.passes(&places);
        let trusted = spec.trusted_proxies.iter().chain(&config.settings.trusted_proxies);
        CompiledListener {
            id,
            name: name.clone(),
            spec: spec.clone(),
            hosts: serving.index(&places),
            tls,
            passes,
            demands,
            metrics: self.metrics.listener(name),
            unrouted: self.metrics.route(name, &Name::from("-")),
            trusted: trusted.copied().collect(),
            routes: serving.metrics(&places, name, old, &self.metrics),
        }
    }
}

/// Where TLS connections for a host go that are not terminated here. Cannot fail: where there is no
/// upstream they are closed.
fn passage(
    spec: &VirtualHost,
    upstreams: &Upstreams,
    problems: &mut Vec<Problem>,
) -> Option<Arc<Passage>> {
    let declared = spec.tls_passthrough.as_ref()?;
    let upstream = upstreams.find(&declared.upstream).cloned();
    if let Err(why) = &upstream {
        let message = format!("TLS connections for the host '{}': {why}", spec.pattern);
        let hint = "they are closed until it is mended";
        problems.push(Problem::error(message).about(&spec.origin).hint(hint));
    }
    let (host, spec) = (spec.pattern.clone(), TlsPassthrough::clone(declared));
    Some(Arc::new(Passage { host, spec, upstream }))
}

/// The rules of a host, which may have been declared in several places.
fn host_rules(specs: &[&Arc<VirtualHost>]) -> Result<Option<Arc<Rules>>, String> {
    let rules: Vec<_> = specs.iter().flat_map(|spec| spec.rules.iter().cloned()).collect();
    Ok(Rules::new(&rules)?.map(Arc::new))
}

/// Whether clients of a route may show something in the place of an address that is let in.
fn either(route: &ir::Route) -> bool {
    route.auth.as_ref().is_some_and(|auth| auth.satisfy == ir::Satisfy::Any)
}
