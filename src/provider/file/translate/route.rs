//! Routes: what they match, what they change, and their policies.

use std::sync::Arc;

use ir::{
    Action, Auth, Bodies, Cors, ErrorPages, Filter, Guard, Hedge, HostPattern, Hsts, HttpsRedirect,
    Name, Origin, PathMatch, PathRewrite, RegexRewrite, Retry, Route, RouteMatch, Rule, Scope,
    Timeouts,
};

use super::context::{Context, shown};
use super::host::Names;
use super::{
    action, auth, bodies, cors, error_pages, guard, header, https, or, resilience, rule, template,
};
use crate::ir;
use crate::provider::file::field::{At, Field, Text};
use crate::provider::file::raw::{self, MatchKind};
use crate::provider::file::scalar::{Deadline, Pattern};

/// What holds for routes that do not say otherwise.
#[derive(Default)]
pub(super) struct Defaults {
    access_log: bool,
    body_limit: Option<u64>,
    bodies: Bodies,
    filters: Vec<Filter>,
    guard: Guard,
    cors: Option<Cors>,
    hedge: Option<Hedge>,
    hsts: Option<Hsts>,
    https_redirect: Option<HttpsRedirect>,
    retry: Retry,
    timeouts: Timeouts,
}

impl Defaults {
    pub fn new(context: &mut Context<'_>, raw: Option<&raw::Defaults>) -> Self {
        let mut defaults = Self { access_log: true, ..Self::default() };
        let Some(raw) = raw else { return defaults };
        defaults.access_log = or(&raw.access_log, true);
        defaults.body_limit = raw.body_limit.get().and_then(|text| text.0.0);
        defaults.bodies = bodies::bodies(
            context,
            &bodies::Fields {
                request: &raw.request_buffer,
                response: &raw.response_buffer,
                rate: &raw.response_rate,
                rate_after: &raw.response_rate_after,
            },
            &Bodies::default(),
        );
        let none = Guard::default();
        let (access, rates) = (&raw.access, &raw.rate_limit);
        defaults.guard = guard::guard(context, access, rates, &raw.connection_limit, &none);
        defaults.cors = cors::cors(context, &raw.cors, &None);
        defaults.retry = resilience::retry(context, &raw.retry, &Retry::default());
        defaults.hsts = https::hsts(context, &raw.hsts, &None);
        defaults.https_redirect = https::redirect(context, &raw.https_redirect, &None);
        defaults.hedge = resilience::hedge(context, &raw.hedge, &None);
        defaults.timeouts = timeouts(context, &raw.timeout, &raw.timeouts, &Timeouts::default());
        let scope = Scope::default();
        let request = header::edit(context, &raw.request_headers, scope);
        let request = request.map(Filter::RequestHeaders);
        let response = header::response_edit(context, &raw.response_headers, scope);
        defaults.filters = request.into_iter().chain(response).collect();
        defaults
    }
}

impl Defaults {
    /// The deadlines.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}

/// A route that has no name yet.
pub(super) struct Parts {
    pub matches: RouteMatch,
    guard: Guard,
    cors: Option<Cors>,
    auth: Option<Auth>,
    error_pages: Option<ErrorPages>,
    rules: Vec<Rule>,
    filters: Vec<Filter>,
    action: Action,
    timeouts: Timeouts,
    retry: Retry,
    hedge: Option<Hedge>,
    hsts: Option<Hsts>,
    https_redirect: Option<HttpsRedirect>,
    body_limit: Option<u64>,
    bodies: Bodies,
    sticky: bool,
    access_log: bool,
}

impl Parts {
    pub fn named(self, name: Name, origin: Origin) -> Route {
        Route {
            name,
            origin: origin.into(),
            matches: self.matches.into(),
            guard: self.guard,
            cors: self.cors.map(Box::new),
            auth: self.auth.map(Box::new),
            error_pages: self.error_pages.map(Box::new),
            rules: self.rules,
            filters: self.filters,
            action: self.action,
            timeouts: self.timeouts.into(),
            retry: self.retry.into(),
            hedge: self.hedge,
            hsts: self.hsts,
            https_redirect: self.https_redirect,
            body_limit: self.body_limit,
            bodies: self.bodies,
            sticky: self.sticky,
            access_log: self.access_log,
            rule: None,
        }
    }
}

pub(super) fn route(
    context: &mut Context<'_>,
    at: &At<raw::Route>,
    names: &Names<'_>,
    defaults: &Defaults,
) -> Option<Parts> {
    let raw = &at.value;
    let path = path(context, raw);
    let methods: Vec<_> = raw
        .methods
        .get()
        .map(|list| list.0.iter().map(|method| method.value.0.0.clone()).collect())
        .unwrap_or_default();
    let headers = header::conditions(context, &raw.headers);
    let cookies = header::cookies(context, &raw.cookies);
    let query = header::query(context, &raw.query);
    let (access, rates) = (&raw.access, &raw.rate_limit);
    let guard = guard::guard(context, access, rates, &raw.connection_limit, &defaults.guard);
    let cors = cors::cors(context, &raw.cors, &defaults.cors);
    let filters = filters(context, raw, defaults);
    let action = action::action(context, at, names);
    let timeouts = timeouts(context, &raw.timeout, &raw.timeouts, &defaults.timeouts);
    Some(Parts {
        auth: auth::auth(context, &raw.auth, names, guard.access.is_some()),
        guard,
        cors,
        matches: RouteMatch { path: path?, methods, headers, cookies, query, order: 0 },
        error_pages: error_pages::error_pages(context, &raw.error_pages, names),
        rules: rule::rules(context, &raw.rules),
        filters,
        action: action?,
        timeouts,
        retry: resilience::retry(context, &raw.retry, &defaults.retry),
        hedge: resilience::hedge(context, &raw.hedge, &defaults.hedge),
        hsts: https::hsts(context, &raw.hsts, &defaults.hsts),
        https_redirect: https::redirect(context, &raw.https_redirect, &defaults.https_redirect),
        body_limit: raw.body_limit.get().map_or(defaults.body_limit, |text| text.0.0),
        bodies: bodies::bodies(
            context,
            &bodies::Fields {
                request: &raw.request_buffer,
                response: &raw.response_buffer,
                rate: &raw.response_rate,
                rate_after: &raw.response_rate_after,
            },
            &defaults.bodies,
        ),
        sticky: sticky(context, raw),
        access_log: or(&raw.access_log, defaults.access_log),
    })
}

fn sticky(context: &mut Context<'_>, raw: &raw::Route) -> bool {
    let sticky = or(&raw.sticky, false);
    if let Some(place) = raw.sticky.place().filter(|_| sticky && raw.upstreams.is_absent()) {
        let hint = "sessions within one upstream are its own `affinity`";
        context.error(place, "`sticky` has no effect without `upstreams`", Some(hint));
    }
    sticky
}

fn path(context: &mut Context<'_>, raw: &raw::Route) -> Option<PathMatch> {
    let kind = match &raw.kind {
        Field::Absent => MatchKind::Prefix,
        Field::Bad => return None,
        Field::Given(at) => at.value,
    };
    let at = match &raw.path {
        Field::Absent if kind == MatchKind::Regex => {
            let place = raw.kind.place().unwrap_or_default();
            context.error(place, "`match: regex` without a `path`", Some("add the expression"));
            return None;
        }
        Field::Absent => {
            let path = Arc::from("/");
            return Some(match kind {
                MatchKind::Exact => PathMatch::Exact(path),
                MatchKind::StartsWith => PathMatch::StartsWith(path),
                MatchKind::Prefix | MatchKind::Regex => PathMatch::Prefix(path),
            });
        }
        Field::Bad => return None,
        Field::Given(at) => at,
    };
    if kind == MatchKind::Regex {
        return match <Pattern as crate::provider::file::field::Scalar>::parse(&at.value) {
            Ok(pattern) => Some(PathMatch::Regex(pattern.0)),
            Err(error) => {
                let (what, hint) = error.split_once('\n').unwrap_or((&error, ""));
                let message = format!("path: {} {what}", shown(at));
                context.error(at.place, message, Some(hint).filter(|hint| !hint.is_empty()));
                None
            }
        };
    }
    let path = plain_path(context, at)?;
    Some(match kind {
        MatchKind::Exact => PathMatch::Exact(path.into()),
        MatchKind::StartsWith => PathMatch::StartsWith(path.into()),
        MatchKind::Prefix | MatchKind::Regex => match path.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => PathMatch::Prefix(shorter.into()),
            _ => PathMatch::Prefix(path.into()),
        },
    })
}

/// A path in its normal form: what can never be part of a request's normalised path is an error,
/// and characters that only travel percent-encoded are encoded.
pub(super) fn plain_path(context: &mut Context<'_>, at: &At<String>) -> Option<String> {
    let wrong = |context: &mut Context<'_>, what: &str, hint: &str| {
        context.error(at.place, format!("path: {} {what}", shown(at)), Some(hint));
        None
    };
    let text = at.value.as_str();
    if !text.starts_with('/') {
        let hint = if text.starts_with('^') || text.contains(".*") {
            "write `match: regex` for a regular expression"
        } else {
            "a path starts with `/`"
        };
        return wrong(context, "does not start with `/`", hint);
    }
    if text.contains('?') {
        return wrong(context, "has a query", "conditions on the query go under `query:`");
    }
    if text.contains('#') {
        return wrong(context, "has a fragment, which no request has", "leave it out");
    }
    if text.ends_with("/*") {
        return wrong(context, "ends in `*`", "leave it out: a path is a prefix by default");
    }
    if text.split('/').any(|segment| segment == "." || segment == "..") {
        return wrong(context, "has dot segments, which no request keeps", "leave them out");
    }
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        // RFC 3986 §3.3: everything else in a path is a character of its own.
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(path)
}

/// The defaults' filters, then the route's own.
fn filters(context: &mut Context<'_>, raw: &raw::Route, defaults: &Defaults) -> Vec<Filter> {
    let mut filters = defaults.filters.clone();
    if let Some(at) = raw.rewrite.given() {
        let rewrite = &at.value;
        match rewrite.host.given() {
            Some(at) if at.value.contains('{') => {
                let host = template::of(context, "host", at, Scope::default());
                filters.extend(host.map(Filter::RewriteHostFrom));
            }
            Some(at) => filters.extend(host_name(context, at, true).map(Filter::RewriteHost)),
            None => {}
        }
        if let Some(path) =
            path_rewrite(context, raw, &rewrite.path, &rewrite.prefix, &rewrite.regex)
        {
            filters.push(Filter::RewritePath(path));
        }
        if raw.upstream.is_absent() && raw.upstreams.is_absent() {
            let hint = "a redirect has its own `host`, `path` and `prefix`";
            context.error(at.place, "`rewrite` has no effect without an upstream", Some(hint));
        }
    }
    let request = header::edit(context, &raw.request_headers, Scope::default());
    filters.extend(request.map(Filter::RequestHeaders));
    filters.extend(header::response_edit(context, &raw.response_headers, Scope::default()));
    filters.extend(rule::cookies(context, &raw.response_cookies));
    filters.extend(rule::location(context, &raw.response_location));
    filters
}

/// A host name, or with `port` a `Host` field, which may have a port.
pub(super) fn host_name(
    context: &mut Context<'_>,
    at: &At<String>,
    port: bool,
) -> Option<Arc<str>> {
    let (name, number) = match at.value.rsplit_once(':') {
        Some((name, digits)) if port && !name.ends_with(':') => match digits.parse::<u16>() {
            Ok(number) => (name, Some(number)),
            Err(_) => (at.value.as_str(), None),
        },
        _ => (at.value.as_str(), None),
    };
    match (HostPattern::parse(name), number) {
        (Ok(HostPattern::Exact(name)), None) => Some(Arc::from(&*name)),
        (Ok(HostPattern::Exact(name)), Some(number)) => Some(format!("{name}:{number}").into()),
        _ => {
            let hint = if port { None } else { Some("a port goes under `port:`") };
            context.error(at.place, format!("host: {} is no host name", shown(at)), hint);
            None
        }
    }
}

/// A change of the path: the whole of it, or of the matched prefix.
pub(super) fn path_rewrite(
    context: &mut Context<'_>,
    route: &raw::Route,
    path: &Field<String>,
    prefix: &Field<String>,
    regex: &Field<Text<Pattern>>,
) -> Option<PathRewrite> {
    if let Some(regex) = regex.given() {
        return regex_rewrite(context, regex, path, prefix).map(PathRewrite::Regex);
    }
    let at = match (path.given(), prefix.given()) {
        (None, None) => return None,
        (Some(_), Some(at)) => {
            let hint = "`path` replaces the whole path, `prefix` the part that matched";
            context.error(at.place, "both `path` and `prefix`", Some(hint));
            return None;
        }
        (Some(at), None) => at,
        (None, Some(at)) => {
            if route.kind.get().is_some_and(|kind| *kind != MatchKind::Prefix) {
                let hint = "use `path`, or `match: prefix`";
                let message = "`prefix` has no meaning where the route matches no prefix";
                context.error(at.place, message, Some(hint));
            }
            at
        }
    };
    // A rewritten path is sent as it stands, so what could end it early stays out.
    let clean = at.value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    if !at.value.starts_with('/') || !clean {
        let hint = "it starts with `/`, is percent-encoded, and the query stays as it is";
        context.error(at.place, format!("{} is no path", shown(at)), Some(hint));
        return None;
    }
    let text = ir::Text::new(&at.value, at.substituted);
    Some(if path.given().is_some() { PathRewrite::Full(text) } else { PathRewrite::Prefix(text) })
}

fn regex_rewrite(
    context: &mut Context<'_>,
    regex: &At<Text<Pattern>>,
    path: &Field<String>,
    prefix: &Field<String>,
) -> Option<RegexRewrite> {
    if let Some(place) = prefix.place() {
        let hint = "with `regex` the whole path becomes `path`";
        context.error(place, "both `regex` and `prefix`", Some(hint));
        return None;
    }
    let Some(at) = path.given() else {
        if path.is_absent() {
            let hint = "for example `{ regex: \"^/api/(.*)\", path: /$1 }`";
            context.error(regex.place, "`regex` without a `path`", Some(hint));
        }
        return None;
    };
    let pattern = regex.value.0.0.clone();
    let replacement = ir::Text::new(&at.value, at.substituted);
    // Patterns were parsed before, so there is one.
    let groups = regex::Regex::new(&pattern).map_or(0, |regex| regex.captures_len() - 1);
    let clean = at.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !(at.value.starts_with('/') || at.value.starts_with('$')) || !clean {
        let hint = "it starts with `/` or a group, is percent-encoded, and may have a query";
        context.error(at.place, format!("{} is no path", shown(at)), Some(hint));
        return None;
    }
    for after in at.value.split('$').skip(1) {
        let digit = after.strip_prefix('{').unwrap_or(after).chars().next();
        let number = digit.and_then(|digit| digit.to_digit(10)).unwrap_or(0) as usize;
        if number == 0 || number > groups {
            let message = match number {
                0 => format!("{} has a `$` without the number of a group", shown(at)),
                _ => format!("{} asks for a group ${number} that is not there", shown(at)),
            };
            let hint = match groups {
                0 => "the expression has no groups; write `(…)` around what is kept".to_owned(),
                1 => "the only group is $1; a dollar sign is `%24`".to_owned(),
                _ => format!("groups are $1 to ${}; a dollar sign is `%24`", groups.min(9)),
            };
            context.error(at.place, message, Some(&hint));
            return None;
        }
    }
    Some(RegexRewrite { pattern, replacement })
}

fn timeouts(
    context: &mut Context<'_>,
    total: &Field<Text<Deadline>>,
    field: &Field<raw::Timeouts>,
    defaults: &Timeouts,
) -> Timeouts {
    let mut timeouts = defaults.clone();
    let take = |field: &Field<Text<Deadline>>, target: &mut Option<std::time::Duration>| {
        if let Some(text) = field.get() {
            *target = text.0.0;
        }
    };
    take(total, &mut timeouts.request);
    let Some(raw) = field.get() else { return timeouts };
    if let (Some(_), Some(at)) = (total.get(), raw.request.given()) {
        let hint = "`timeout` is short for `timeouts.request`";
        context.error(at.place, "the same deadline is given twice", Some(hint));
    }
    take(&raw.request, &mut timeouts.request);
    take(&raw.connect, &mut timeouts.connect);
    take(&raw.response, &mut timeouts.response);
    take(&raw.idle, &mut timeouts.idle);
    take(&raw.tunnel_idle, &mut timeouts.tunnel_idle);
    timeouts
}
