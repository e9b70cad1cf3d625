//! From configuration to snapshot.
//!
//! Cannot fail: what is wrong with a route becomes a route that answers with an error, what is
//! wrong with a certificate is left to the last good one, and everything is reported. Runs on
//! the control side.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use http::StatusCode;

use super::inner::{InnerRoutes, Purpose};
use super::listener::{CompiledListener, ListenerId};
use super::route::{Action, CompiledRoute, ErrorPages, FixedResponse, Targets};
use super::upstreams::Upstreams;
use super::{Authentication, HostIndex, HostTable, RouteId, Snapshot};
use crate::filter::{self, Cors, FilterChain, Guard, HttpsPlan, RedirectPlan, Rules, Tallies};
use crate::ir::{self, BackendRef, Config, Name, PathMatch, Problem, VirtualHost};
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
            tallies: Tallies::default(),
            seeds: RandomState::new(),
            generation: 0,
        }
    }

    /// Compiles `config`. `targets` tells the resolved endpoints of an upstream; `previous` is
    /// the snapshot being replaced.
    pub fn compile(
        &mut self,
        config: Arc<Config>,
        previous: Option<&Snapshot>,
        targets: impl Fn(&Name, &ir::Upstream) -> Vec<Target>,
    ) -> Snapshot {
        self.generation += 1;
        let mut problems = Vec::new();
        let upstreams = Upstreams::compile(
            &config,
            previous,
            &self.registry,
            &self.tls,
            targets,
            &mut problems,
        );
        let mut routes = Vec::new();
        let mut hosts = Vec::new();
        for host in &config.hosts {
            let first = routes.len();
            for route in &host.routes {
                let id = RouteId(u32::try_from(routes.len()).unwrap_or(u32::MAX));
                routes.push(self.route(id, host, route, &upstreams, &mut problems));
            }
            hosts.push((host, first..routes.len()));
        }
        let inner = self.guards(&config, &mut routes, &upstreams, &mut problems);
        let mut tables =
            Tables { routes: &routes, hosts: &hosts, built: HashMap::new(), problems: Vec::new() };
        let mut listeners: Vec<Option<Arc<CompiledListener>>> = Vec::new();
        for (name, spec) in &config.listeners {
            let id = self.listener_id(name, spec, &config, previous);
            let listener =
                self.listener(id, name, spec, &config, &mut tables, previous, &mut problems);
            let index = id.0 as usize;
            if listeners.len() <= index {
                listeners.resize_with(index + 1, || None);
            }
            if let Some(place) = listeners.get_mut(index) {
                *place = Some(Arc::new(listener));
            }
        }
        problems.append(&mut tables.problems);
        self.hedges.retain(|_, hedging| hedging.strong_count() > 0);
        self.turns.retain(|_, turns| turns.stride.strong_count() > 0);
        Snapshot {
            generation: self.generation,
            config,
            listeners: listeners.into(),
            routes: routes.into(),
            inner,
            upstreams: upstreams.usable,
            problems,
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
            error_pages: None,
            rules: rules.map(Box::new),
            filters,
            https_redirect: route.https_redirect.as_ref().map(HttpsPlan::new),
            hsts: route.hsts.as_ref().and_then(filter::hsts),
            timeouts: route.timeouts.clone(),
            retry: route.retry.clone(),
            hedge: route.hedge.as_ref().map(|hedge| self.hedging(&route.name, hedge)),
            body_limit: route.body_limit,
            access_log: route.access_log,
        }
    }

    /// Puts its guard before each route that has one, and its error pages behind it; what comes
    /// back are the routes of the requests that these make.
    fn guards(
        &mut self,
        config: &Config,
        routes: &mut [CompiledRoute],
        upstreams: &Upstreams,
        problems: &mut Vec<Problem>,
    ) -> Box<[CompiledRoute]> {
        let mut inner = InnerRoutes::after(routes.len());
        let mut targets = |name: &Name| {
            let backends = [BackendRef { upstream: name.clone(), weight: 1 }];
            let turns = self.turns(name, &backends);
            let upstream = upstreams.usable.get(name).map(|upstream| (upstream.clone(), 1));
            Targets::new(upstream.into_iter().collect(), turns)
        };
        let declared = config.hosts.iter().flat_map(|host| &host.routes);
        for (compiled, route) in routes.iter_mut().zip(declared) {
            let mut found = Vec::new();
            if let Some(auth) = &route.auth {
                let mut make = |name: &Name, external: &ir::ExternalAuth| {
                    inner.obtain(Purpose::Question, name, Some(external.timeout), &mut targets)
                };
                let auth = Authentication::new(auth, &route.name, upstreams, &mut make, &mut found);
                compiled.auth = Some(Box::new(auth));
            }
            if let Some(spec) = &route.error_pages {
                match upstreams.find(&spec.upstream) {
                    Ok(_) => {
                        let limit = route.timeouts.request;
                        let route =
                            inner.obtain(Purpose::Page, &spec.upstream, limit, &mut targets);
                        let pages = ErrorPages { spec: spec.clone(), route };
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
        }
        inner.finish()
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
    fn turns(&mut self, route: &Name, backends: &[BackendRef]) -> Arc<Stride> {
        let known = self.turns.get(route).filter(|turns| turns.backends == backends);
        known.and_then(|turns| turns.stride.upgrade()).unwrap_or_else(|| {
            let weights: Vec<_> = backends.iter().map(|backend| backend.weight).collect();
            let seed = self.seeds.hash_one((route.as_str(), self.generation));
            let stride = Arc::new(Stride::new(&weights, self.workers, seed));
            let turns = Turns { backends: backends.to_vec(), stride: Arc::downgrade(&stride) };
            self.turns.insert(route.clone(), turns);
            stride
        })
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
                Action::Redirect(RedirectPlan::new(redirect, prefix)?)
            }
            ir::Action::RedirectTo(redirect) => Action::RedirectTo(redirect.clone()),
            ir::Action::Respond(respond) => Action::Respond(FixedResponse::new(respond)),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; a struct would only rename them")]
    fn listener(
        &self,
        id: ListenerId,
        name: &Name,
        spec: &ir::Listener,
        config: &Config,
        tables: &mut Tables<'_>,
        previous: Option<&Snapshot>,
        problems: &mut Vec<Problem>,
    ) -> CompiledListener {
        let mut served: BTreeMap<&ir::HostPattern, Vec<usize>> = BTreeMap::new();
        let mut metrics = vec![None; tables.routes.len()];
        for (number, (host, range)) in tables.hosts.iter().enumerate() {
            if !host.listeners.selects(name.as_str()) {
                continue;
            }
            served.entry(&host.pattern).or_default().push(number);
            for index in range.clone() {
                if let (Some(place), Some(route)) =
                    (metrics.get_mut(index), tables.routes.get(index))
                {
                    *place = Some(self.metrics.route(name, &route.name));
                }
            }
        }
        let hosts = HostIndex::build(
            served.into_iter().map(|(pattern, numbers)| (pattern.clone(), tables.table(numbers))),
        );
        let old = previous.and_then(|old| old.listener(id));
        let tls = spec.tls.as_ref().map(|tls| {
            let old = old.and_then(|old| old.tls.as_ref());
            let (tls, mut found) =
                ServerTls::build(name.as_str(), tls, spec.protocols.http2, &self.tls, old);
            problems.append(&mut found);
            tls
        });
        let trusted = spec.trusted_proxies.iter().chain(&config.settings.trusted_proxies);
        CompiledListener {
            id,
            name: name.clone(),
            spec: spec.clone(),
            hosts,
            tls,
            metrics: self.metrics.listener(name),
            unrouted: self.metrics.route(name, &Name::from("-")),
            trusted: trusted.copied().collect(),
            routes: metrics.into(),
        }
    }
}

/// Host tables, built once for listeners that serve the same routes of a host.
struct Tables<'a> {
    routes: &'a [CompiledRoute],
    /// The virtual hosts, and which routes are theirs.
    hosts: &'a [(&'a VirtualHost, std::ops::Range<usize>)],
    /// By the numbers of the virtual hosts that are in them.
    built: HashMap<Vec<usize>, Arc<HostTable>>,
    problems: Vec<Problem>,
}

impl Tables<'_> {
    fn table(&mut self, numbers: Vec<usize>) -> Arc<HostTable> {
        if let Some(table) = self.built.get(&numbers) {
            return table.clone();
        }
        let hosts: Vec<_> = numbers.iter().filter_map(|number| self.hosts.get(*number)).collect();
        let routes: Vec<_> = hosts
            .iter()
            .flat_map(|(_, range)| self.routes.get(range.clone()).unwrap_or_default())
            .map(|route| (route.id, &route.matches))
            .collect();
        let (mut table, bad) = HostTable::build(&routes);
        for (id, message) in bad {
            let problem = Problem::error(message);
            self.problems.push(match self.routes.get(id.0 as usize) {
                Some(route) => problem.about(&route.origin),
                None => problem,
            });
        }
        let rules: Vec<_> = hosts.iter().flat_map(|(host, _)| host.rules.iter().cloned()).collect();
        table.rules = Rules::new(&rules)
            .unwrap_or_else(|why| {
                let (pattern, origin) =
                    hosts.first().map(|(host, _)| (&host.pattern, &host.origin)).unzip();
                let pattern = pattern.map(ToString::to_string).unwrap_or_default();
                let problem = Problem::error(format!("the rules of the host '{pattern}': {why}"))
                    .hint("its requests are answered 500");
                self.problems.push(match origin {
                    Some(origin) => problem.about(origin),
                    None => problem,
                });
                Some(Rules::closed())
            })
            .map(Arc::new);
        let table = Arc::new(table);
        self.built.insert(numbers, table.clone());
        table
    }
}

/// Whether clients of a route may show something in the place of an address that is let in.
fn either(route: &ir::Route) -> bool {
    route.auth.as_ref().is_some_and(|auth| auth.satisfy == ir::Satisfy::Any)
}
