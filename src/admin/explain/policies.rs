//! What holds for the requests of a route.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::view;
use crate::filter::{RequestFilter, RequestTarget};
use crate::ir::{
    Condition, CookieEdit, Filter, HeaderTemplate, HeaderText, LocationEdit, Next, PathRewrite,
    RegexRewrite, Replace, ResponseEdit, Rewrite, Route, Rule, Step, Test,
};
use crate::snapshot::CompiledRoute;

/// The policies of a route. Times are in milliseconds; `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Who may use it, in words; `None` is anybody.
    pub auth: Option<String>,
    /// What its host demands of client certificates, in words; `None` leaves that to the listener.
    #[serde(default)]
    pub client_auth: Option<String>,
    /// Changes to request and response, in order, in words. Secrets are left out.
    pub filters: Vec<String>,
    /// What is done with some of its requests, by rules of the host and then of the route, in words.
    #[serde(default)]
    pub rules: Vec<String>,
    /// What guards it, in words: client addresses, rates, requests at once.
    #[serde(default)]
    pub guard: Vec<String>,
    /// Which pages of other origins may use it, in words; `None` leaves that to the upstream.
    #[serde(default)]
    pub cors: Option<String>,
    /// How requests without TLS are redirected, in words; `None` where they are not.
    pub https_redirect: Option<String>,
    /// The value of `Strict-Transport-Security` on answers over TLS.
    pub hsts: Option<String>,
    /// Whose answers stand in the place of which errors, in words; `None` where nobody's do.
    pub error_pages: Option<String>,
    /// From the request's head to the last byte of the response.
    pub timeout_ms: Option<u64>,
    /// One connection attempt.
    pub connect_timeout_ms: Option<u64>,
    /// From the request's last byte to the response head.
    pub response_timeout_ms: Option<u64>,
    /// Between two pieces of a body.
    pub idle_timeout_ms: Option<u64>,
    /// An upgraded connection in which nothing moves.
    pub tunnel_idle_timeout_ms: Option<u64>,
    /// Repeats after the first attempt.
    pub retries: u32,
    /// The same with its conditions, in words.
    pub retry: String,
    /// When a second request is sent, in words; `None` where none is.
    pub hedge: Option<String>,
    /// The largest request body, bytes.
    pub body_limit: Option<u64>,
    /// What of bodies is read ahead, and how fast responses go, in words.
    #[serde(default)]
    pub bodies: Vec<String>,
    /// Whether clients stay with the upstream that their session began at.
    #[serde(default)]
    pub sticky: bool,
    /// Whether its requests are written to the access log, where there is one.
    pub access_log: bool,
}

impl Policies {
    /// The policies of `compiled`, which was made of `route` and whose host has the rules `host`.
    pub fn new(compiled: &CompiledRoute, host: &[Rule], route: &Route) -> Self {
        let ms = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        let timeouts = &route.timeouts;
        Self {
            auth: view::policy::auth(route),
            client_auth: compiled.client_auth.as_deref().map(view::policy::client_auth),
            filters: route.filters.iter().flat_map(filter).collect(),
            rules: host.iter().chain(&route.rules).map(rule).collect(),
            guard: view::policy::guard(&route.guard),
            cors: route.cors.as_deref().map(view::policy::cors),
            https_redirect: route.https_redirect.as_ref().map(view::policy::https_redirect),
            hsts: route.hsts.as_ref().map(view::policy::hsts),
            error_pages: view::policy::error_pages(route),
            timeout_ms: ms(timeouts.request),
            connect_timeout_ms: ms(timeouts.connect),
            response_timeout_ms: ms(timeouts.response),
            idle_timeout_ms: ms(timeouts.idle),
            tunnel_idle_timeout_ms: ms(timeouts.tunnel_idle),
            retries: route.retry.attempts,
            retry: view::policy::retry(&route.retry),
            hedge: view::policy::hedge(route),
            body_limit: route.body_limit,
            bodies: view::policy::bodies(&route.bodies),
            sticky: route.sticky,
            access_log: route.access_log,
        }
    }
}

/// Path and query after the route's rewrites; `None` where they make no path of it, and where
/// what they put in is not to be shown.
pub(super) fn rewritten(
    route: &CompiledRoute,
    spec: &Route,
    target: &RequestTarget,
) -> Option<String> {
    let secret = |filter: &Filter| match filter {
        Filter::RewritePath(rewrite) => rewrite.replacement().is_secret(),
        _ => false,
    };
    if spec.filters.iter().any(secret) {
        return None;
    }
    let mut target = target.clone();
    for filter in &route.filters.request {
        if let RequestFilter::Path(plan) = filter {
            target = plan.apply(&target).ok()?;
        }
    }
    Some(target.as_str().to_owned())
}

fn filter(filter: &Filter) -> Vec<String> {
    let (side, edit) = match filter {
        Filter::RequestHeaders(edit) => ("request", edit),
        Filter::ResponseHeaders(edit) => ("response", &edit.edit),
        Filter::ResponseCookies(edit) => return cookies(edit),
        Filter::ResponseLocation(LocationEdit { from, to }) => {
            return vec![format!("response URLs that begin with {from} begin with {to}")];
        }
        Filter::RewriteHost(host) => return vec![format!("host becomes {host}")],
        Filter::RewriteHostFrom(host) => return vec![format!("host becomes {host}")],
        Filter::RewritePath(PathRewrite::Full(path)) => {
            return vec![format!("path becomes {path}")];
        }
        Filter::RewritePath(PathRewrite::Prefix(prefix)) => {
            return vec![format!("the matched prefix of the path becomes {prefix}")];
        }
        Filter::RewritePath(PathRewrite::Regex(rewrite)) => {
            let RegexRewrite { pattern, replacement } = rewrite;
            return vec![format!("path becomes {replacement} where \"{pattern}\" is found in it")];
        }
    };
    let removed = edit.remove.iter().map(|name| format!("{side} header {name} removed"));
    let starting = edit.remove_starting.iter();
    let removed = removed.chain(starting.map(|start| format!("{side} headers {start}* removed")));
    let made = |field: &HeaderTemplate| format!("{}: {}", field.name, field.template);
    let set = edit.set.iter().map(shown).chain(edit.set_from.iter().map(made));
    let set = set.map(|field| format!("{side} header {field} set"));
    let added = edit.add.iter().map(shown).chain(edit.add_from.iter().map(made));
    let added = added.map(|field| format!("{side} header {field} added"));
    let only = match filter {
        Filter::ResponseHeaders(edit) => only(edit),
        _ => String::new(),
    };
    removed.chain(set).chain(added).map(|text| format!("{text}{only}")).collect()
}

/// Which responses an edit is for.
fn only(edit: &ResponseEdit) -> String {
    let range = |(from, to): &(u16, u16)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    };
    let statuses: Vec<_> = edit.statuses.iter().map(range).collect();
    let mut text = String::new();
    if !statuses.is_empty() {
        text.push_str(&format!(" on status {}", statuses.join(", ")));
    }
    if !edit.types.is_empty() {
        text.push_str(&format!(" of type {}", edit.types.join(", ")));
    }
    text
}

fn cookies(edit: &CookieEdit) -> Vec<String> {
    let words = |what, replace: &Option<Replace>| {
        let Replace { from, to } = replace.as_ref()?;
        Some(format!("the {what} {from} of response cookies becomes {to}"))
    };
    words("domain", &edit.domain).into_iter().chain(words("path", &edit.path)).collect()
}

/// What a rule does, in words.
pub(super) fn rule(rule: &Rule) -> String {
    let when: Vec<_> = rule.when.iter().map(condition).collect();
    let then: Vec<_> = rule.then.iter().map(step).collect();
    match when.is_empty() {
        true => then.join(", then "),
        false => format!("if {}: {}", when.join(" and "), then.join(", then ")),
    }
}

fn condition(condition: &Condition) -> String {
    let value = &condition.value;
    match &condition.test {
        Test::True => format!("{value} is set"),
        Test::Is(text) => format!("{value} is \"{text}\""),
        Test::IsNot(text) => format!("{value} is not \"{text}\""),
        Test::Matches(pattern) => format!("\"{pattern}\" is found in {value}"),
        Test::MatchesNot(pattern) => format!("\"{pattern}\" is not found in {value}"),
    }
}

fn step(step: &Step) -> String {
    match step {
        Step::Filter(changes) => filter(changes).join(", "),
        Step::Rewrite(Rewrite { pattern, path, next }) => {
            let next = match next {
                Next::Continue => "",
                Next::Stop => ", and no further rule",
                Next::Lookup => ", and a route is looked for again",
            };
            format!("path becomes {path} where \"{pattern}\" is found in it{next}")
        }
        Step::Respond(reply) => format!("answered with {}", reply.status.as_u16()),
        Step::Redirect(redirect) => {
            format!("redirected to {} with {}", redirect.to, redirect.status.as_u16())
        }
        Step::Stop => "no further rule".to_owned(),
    }
}

fn shown(field: &HeaderText) -> String {
    let value = match field.value.is_sensitive() {
        true => "<redacted>".into(),
        false => String::from_utf8_lossy(field.value.as_bytes()),
    };
    format!("{}: {value}", field.name)
}
