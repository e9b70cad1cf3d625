//! Hosts and the names of their routes.

use std::collections::{BTreeSet, HashMap, HashSet};

use ir::{HostPattern, ListenerSelector, Name, Route, RouteMatch, VirtualHost};

use super::context::{Context, shown};
use super::route::{self, Defaults};
use super::rule;
use super::{client_auth, passthrough};
use crate::ir;
use crate::provider::file::decode::{closest, suggestion};
use crate::provider::file::field::{At, Field, List};
use crate::provider::file::node::Place;
use crate::provider::file::raw;

type Entry<'d> = (&'d At<String>, Option<&'d raw::Host>);

/// What hosts and routes may refer to.
pub(super) struct Names<'d> {
    pub listeners: Vec<&'d str>,
    /// Those of them that have TLS.
    pub secure: Vec<&'d str>,
    pub upstreams: Vec<&'d str>,
}

impl Names<'_> {
    /// Reports a name that nothing has.
    pub fn check(&self, context: &mut Context<'_>, kind: &str, name: &At<String>) -> bool {
        let known = if kind == "listener" { &self.listeners } else { &self.upstreams };
        if known.contains(&name.value.as_str()) {
            return true;
        }
        let hint = match known.len() {
            0 => format!("define it under `{kind}s:`"),
            1..=12 => suggestion(&name.value, known),
            _ => match closest(&name.value, known.iter().copied()) {
                Some(candidate) => format!("did you mean `{candidate}`?"),
                None => format!("define it under `{kind}s:`"),
            },
        };
        context.error(name.place, format!("{} names no {kind}", shown(name)), Some(&hint));
        false
    }
}

pub(super) fn hosts(
    context: &mut Context<'_>,
    entries: &[Entry<'_>],
    names: &Names<'_>,
    defaults: &Defaults,
) -> Vec<VirtualHost> {
    let mut labels = Labels::new(context, entries);
    let mut patterns: HashMap<HostPattern, Place> = HashMap::new();
    let mut hosts = Vec::with_capacity(entries.len());
    for (key, raw) in entries {
        let pattern = match HostPattern::parse(&key.value) {
            Ok(pattern) => pattern,
            Err(error) => {
                let hint = match meant(key) {
                    Some(host) => format!("write `{host}`"),
                    None => "for example `shop.example.com`, `*.example.com`, or `*` for any other"
                        .to_owned(),
                };
                let message = format!("{} is no host: {error}", shown(key));
                context.error(key.place, message, Some(&hint));
                continue;
            }
        };
        if let Some(first) = patterns.get(&pattern).copied() {
            context.twice(key.place, first, &format!("the host `{pattern}`"));
            continue;
        }
        patterns.insert(pattern.clone(), key.place);
        let Some(raw) = raw else { continue };
        let pattern = wildcard(context, pattern, &raw.wildcard);
        let listeners = listeners(context, &raw.listeners, names);
        let rules = rule::rules(context, &raw.rules);
        let routes = routes(context, key, &pattern, raw, names, defaults, &mut labels);
        let origin = context.origin("host", &pattern.to_string(), key.place);
        let client_auth = client_auth::client_auth(context, &raw.client_auth);
        let timeouts = defaults.timeouts();
        let tls_passthrough = passthrough::passthrough(context, raw, &listeners, names, timeouts);
        hosts.push(VirtualHost {
            pattern,
            listeners,
            client_auth: client_auth.map(Box::new),
            tls_passthrough: tls_passthrough.map(Box::new),
            rules,
            routes,
            origin,
        });
    }
    hosts
}

/// The host in a URL that stands in the place of one.
fn meant(key: &At<String>) -> Option<HostPattern> {
    let text = key.value.split_once("://").map_or(key.value.as_str(), |(_, rest)| rest);
    let authority = text.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    HostPattern::parse(host).ok().filter(|_| !key.substituted)
}

/// The pattern with what its star stands for.
fn wildcard(
    context: &mut Context<'_>,
    pattern: HostPattern,
    depth: &Field<raw::WildcardDepth>,
) -> HostPattern {
    let Some(at) = depth.given() else { return pattern };
    if !matches!(pattern, HostPattern::Wildcard(_)) {
        let hint = "it says how many labels the star of a host such as `*.example.com` stands for";
        let message = format!("`wildcard` has no meaning for the host `{pattern}`");
        context.error(at.place, message, Some(hint));
    }
    match at.value {
        raw::WildcardDepth::AnyDepth => pattern,
        raw::WildcardDepth::OneLabel => pattern.one_label(),
    }
}

fn listeners(
    context: &mut Context<'_>,
    field: &Field<List<String>>,
    names: &Names<'_>,
) -> ListenerSelector {
    let Some(list) = field.given() else { return ListenerSelector::All };
    if list.value.0.is_empty() && !list.value.1 {
        let hint = "leave `listeners` out to serve the host on all of them";
        context.error(list.place, "the host is served on no listener", Some(hint));
    }
    let mut selected = BTreeSet::new();
    for name in &list.value.0 {
        if names.check(context, "listener", name) {
            selected.insert(Name::from(&*name.value));
        }
    }
    ListenerSelector::Named(selected.into())
}

fn routes(
    context: &mut Context<'_>,
    key: &At<String>,
    pattern: &HostPattern,
    raw: &raw::Host,
    names: &Names<'_>,
    defaults: &Defaults,
    labels: &mut Labels,
) -> Vec<Route> {
    let entries = raw.routes.get().map(|list| list.0.as_slice()).unwrap_or_default();
    let left_out = raw.routes.get().is_some_and(|list| list.1);
    let passes = !raw.tls_passthrough.is_absent();
    if entries.is_empty() && !left_out && !passes && !matches!(raw.routes, Field::Bad) {
        let hint = "its requests are answered 404; add `routes: [{ upstream: … }]`";
        context.warning(key.place, format!("the host `{pattern}` has no route"), Some(hint));
    }
    let mut routes = Vec::with_capacity(entries.len());
    let mut seen: HashMap<String, Place> = HashMap::new();
    for at in entries {
        let Some(parts) = route::route(context, at, names, defaults) else { continue };
        let same = canonical(&parts.matches);
        match seen.get(&same).copied() {
            // Where conditions were wrong, what is left of them may look the same.
            Some(_) if !context.usable() => {}
            Some(first) => {
                let hint =
                    format!("line {} has the same path and conditions and comes first", first.line);
                context.warning(at.place, "this route can never match", Some(&hint));
            }
            None => {
                seen.insert(same, at.place);
            }
        }
        let name = labels.name(&at.value.name, pattern, &parts.matches);
        let origin = context.origin("route", name.as_str(), at.place);
        routes.push(parts.named(name, origin));
    }
    routes
}

/// A text that two matches share when they match the same requests by the same conditions.
fn canonical(matches: &RouteMatch) -> String {
    let mut methods: Vec<_> = matches.methods.iter().map(http::Method::as_str).collect();
    methods.sort_unstable();
    methods.dedup();
    let mut headers: Vec<_> = matches.headers.iter().map(|m| format!("{m:?}")).collect();
    headers.sort_unstable();
    let mut cookies: Vec<_> = matches.cookies.iter().map(|m| format!("{m:?}")).collect();
    cookies.sort_unstable();
    let mut query: Vec<_> = matches.query.iter().map(|m| format!("{m:?}")).collect();
    query.sort_unstable();
    format!("{:?} {methods:?} {headers:?} {cookies:?} {query:?}", matches.path)
}

/// The routes' names, which are unique within the configuration.
struct Labels {
    given: HashSet<String>,
    made: HashMap<String, u32>,
}

impl Labels {
    /// Collects the given names first, so that no made one takes theirs.
    fn new(context: &mut Context<'_>, entries: &[Entry<'_>]) -> Self {
        let mut first: HashMap<&str, Place> = HashMap::new();
        let routes = entries
            .iter()
            .filter_map(|(_, raw)| raw.as_ref()?.routes.get())
            .flat_map(|list| &list.0);
        for name in routes.filter_map(|route| route.value.name.given()) {
            match first.get(name.value.as_str()).copied() {
                Some(place) => {
                    context.twice(name.place, place, &format!("the route {}", shown(name)));
                }
                None => {
                    first.insert(&name.value, name.place);
                }
            }
            if name.value.is_empty() {
                context.error(name.place, "a route's name is empty", None);
            }
        }
        let given = first.into_keys().map(str::to_owned).collect();
        Self { given, made: HashMap::new() }
    }

    fn name(&mut self, given: &Field<String>, host: &HostPattern, matches: &RouteMatch) -> Name {
        if let Some(name) = given.get() {
            return Name::from(&**name);
        }
        let base = format!("{host}{}", matches.path.text());
        loop {
            let count = self.made.entry(base.clone()).or_insert(0);
            *count += 1;
            let name = if *count == 1 { base.clone() } else { format!("{base}#{count}") };
            if !self.given.contains(&name) {
                return Name::from(name);
            }
        }
    }
}
