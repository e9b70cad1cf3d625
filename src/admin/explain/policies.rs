//! What holds for the requests of a route.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::admin::view;
use crate::filter::{RequestFilter, RequestTarget};
use crate::ir::{Filter, HeaderText, PathRewrite, RegexRewrite, Route};
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
    /// Whether its requests are written to the access log, where there is one.
    pub access_log: bool,
}

impl Policies {
    /// The policies of `compiled`, which was made of `route`.
    pub fn new(compiled: &CompiledRoute, route: &Route) -> Self {
        let ms = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
        };
        let timeouts = &route.timeouts;
        Self {
            auth: view::policy::auth(route),
            client_auth: compiled.client_auth.as_deref().map(view::policy::client_auth),
            filters: route.filters.iter().flat_map(filter).collect(),
            guard: view::policy::guard(&route.guard),
            cors: route.cors.as_ref().map(view::policy::cors),
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
        Filter::ResponseHeaders(edit) => ("response", edit),
        Filter::RewriteHost(host) => return vec![format!("host becomes {host}")],
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
    let set = edit.set.iter().map(|field| format!("{side} header {} set", shown(field)));
    let added = edit.add.iter().map(|field| format!("{side} header {} added", shown(field)));
    removed.chain(set).chain(added).collect()
}

fn shown(field: &HeaderText) -> String {
    let value = match field.value.is_sensitive() {
        true => "<redacted>".into(),
        false => String::from_utf8_lossy(field.value.as_bytes()),
    };
    format!("{}: {value}", field.name)
}
