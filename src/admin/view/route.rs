//! The route table.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ir::{
    self, Origin, PathMatch, PathRewrite, Redirect, Route, RouteMatch, Severity, ValueMatch,
};
use crate::snapshot::{Action, CompiledHost, CompiledListener, CompiledRoute, Snapshot};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Its name: the `route` label of metrics and logs.
    pub name: String,
    /// The listeners it is served on.
    pub listeners: Vec<String>,
    /// The hosts it belongs to: a name, `*.suffix` or `*`.
    pub host: String,
    /// The path it matches.
    pub path: String,
    /// How it matches: `exact`, `prefix`, `regex` or `starts_with`.
    #[serde(rename = "match")]
    pub path_match: String,
    /// The methods it is for; none is any.
    pub methods: Vec<String>,
    /// The header conditions.
    pub headers: Vec<Condition>,
    /// The conditions on cookies.
    pub cookies: Vec<Condition>,
    /// The conditions on query parameters.
    pub query: Vec<Condition>,
    /// What becomes of a request.
    pub action: ActionView,
    /// The object it was declared as.
    pub origin: String,
    /// Where in a file that is: `file:line:column`.
    pub location: Option<String>,
    /// Why it does not do what was asked for.
    pub errors: Vec<String>,
}

/// A condition on a header, cookie or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The name.
    pub name: String,
    /// What is asked of the value: `exact`, `present`, `regex`, `secret` or
    /// `secret_regex`.
    #[serde(rename = "match")]
    pub value_match: String,
    /// The value or expression; never that of a secret.
    pub value: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionView {
    /// Answered with an error because the configuration is wrong.
    Fail {
        /// The status.
        status: u16,
        /// What is wrong.
        reason: String,
    },
    /// Forwarded.
    Forward {
        /// The upstreams.
        upstreams: Vec<ShareView>,
    },
    /// Not a request: a TLS connection, which an upstream terminates.
    PassThrough {
        /// The upstream.
        upstream: String,
    },
    /// Redirected.
    Redirect {
        /// The status.
        status: u16,
        /// Where to; `{…}` stays as the client sent it.
        to: String,
    },
    /// Answered.
    Respond {
        /// The status.
        status: u16,
        /// The length of the body, bytes.
        body_bytes: usize,
    },
}

/// An upstream's share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareView {
    /// The upstream.
    pub upstream: String,
    /// Its share relative to the others.
    pub weight: u32,
}

/// All routes in the order of their declaration.
pub fn routes(snapshot: &Snapshot) -> Vec<RouteView> {
    let mut errors: HashMap<&Origin, Vec<String>> = HashMap::new();
    for problem in snapshot.problems.iter().filter(|p| p.severity == Severity::Error) {
        if let Some(origin) = &problem.origin {
            errors.entry(origin).or_default().push(problem.message.clone());
        }
    }
    let of_host = |host: &Arc<CompiledHost>| -> Vec<RouteView> {
        let routes = host.declared().map(|(route, spec)| {
            let errors = errors.get(&*route.origin).cloned().unwrap_or_default();
            RouteView { errors, ..plain(snapshot, route, spec) }
        });
        passage(snapshot, host).into_iter().chain(routes).collect()
    };
    snapshot.hosts.iter().flat_map(of_host).collect()
}

/// The way of the TLS connections that are not terminated here, in the form of routes: one for each
/// host, before its other ones.
fn passage(snapshot: &Snapshot, host: &CompiledHost) -> Option<RouteView> {
    let passage = host.passage()?;
    let serving = snapshot.listeners().filter(|listener| {
        listener.passes_by_name() && host.spec.listeners.selects(listener.name.as_str())
    });
    let origin = &host.spec.origin;
    Some(RouteView {
        name: format!("{}#tls", passage.host),
        listeners: serving.map(|listener| listener.name.to_string()).collect(),
        host: passage.host.to_string(),
        path: "-".to_owned(),
        path_match: "tls".to_owned(),
        methods: Vec::new(),
        headers: Vec::new(),
        cookies: Vec::new(),
        query: Vec::new(),
        action: ActionView::PassThrough { upstream: passage.spec.upstream.to_string() },
        origin: Origin { location: None, ..origin.clone() }.to_string(),
        location: origin.location.as_ref().map(ToString::to_string),
        errors: passage.upstream.as_ref().err().cloned().into_iter().collect(),
    })
}

/// One route and its declaration.
pub fn route<'s>(snapshot: &'s Snapshot, route: &CompiledRoute) -> Option<(RouteView, &'s Route)> {
    let about = snapshot.problems.iter().filter(|problem| {
        problem.severity == Severity::Error && problem.origin.as_ref() == Some(&*route.origin)
    });
    let errors = about.map(|problem| problem.message.clone()).collect();
    let (_, spec) = snapshot.declared().find(|(other, _)| other.id == route.id)?;
    Some((RouteView { errors, ..plain(snapshot, route, spec) }, spec))
}

/// How a path condition matches, and the path or expression.
pub fn path(path: &PathMatch) -> (&'static str, &str) {
    match path {
        PathMatch::Exact(path) => ("exact", path),
        PathMatch::Prefix(path) => ("prefix", path),
        PathMatch::Regex(path) => ("regex", path),
        PathMatch::StartsWith(path) => ("starts_with", path),
    }
}

fn plain(snapshot: &Snapshot, route: &CompiledRoute, spec: &Route) -> RouteView {
    let serving = snapshot.listeners().filter(|listener| listener.serves(route.id));
    let RouteMatch { path, methods, headers, cookies, query, order: _ } = &*route.matches;
    let (path_match, path) = self::path(path);
    let name = |listener: &Arc<CompiledListener>| listener.name.to_string();
    RouteView {
        name: route.name.to_string(),
        listeners: serving.map(name).collect(),
        host: route.host.to_string(),
        path: path.to_string(),
        path_match: path_match.to_owned(),
        methods: methods.iter().map(ToString::to_string).collect(),
        headers: headers.iter().map(|h| Condition::new(h.name.as_str(), &h.value)).collect(),
        cookies: cookies.iter().map(|c| Condition::new(&c.name, &c.value)).collect(),
        query: query.iter().map(|q| Condition::new(&q.name, &q.value)).collect(),
        action: action(route, spec),
        origin: Origin { location: None, ..Origin::clone(&route.origin) }.to_string(),
        location: route.origin.location.as_ref().map(ToString::to_string),
        errors: Vec::new(),
    }
}

fn action(route: &CompiledRoute, spec: &Route) -> ActionView {
    match (&route.action, &spec.action) {
        (Action::Fail { status, reason }, _) => {
            ActionView::Fail { status: status.as_u16(), reason: reason.clone() }
        }
        (Action::Forward(targets), _) => ActionView::Forward {
            upstreams: targets
                .iter()
                .map(|(upstream, weight)| ShareView { upstream: upstream.name.to_string(), weight })
                .collect(),
        },
        (Action::Redirect(plan), ir::Action::Redirect(spec)) => {
            ActionView::Redirect { status: plan.status.as_u16(), to: redirect(spec) }
        }
        (Action::Redirect(plan), _) => {
            ActionView::Redirect { status: plan.status.as_u16(), to: String::new() }
        }
        (Action::RedirectTo(redirect), _) => {
            ActionView::Redirect { status: redirect.status.as_u16(), to: redirect.to.to_string() }
        }
        (Action::Respond(response), _) => ActionView::Respond {
            status: response.status.as_u16(),
            body_bytes: response.body.len(),
        },
    }
}

/// A redirect's URL with `{…}` for what stays.
fn redirect(spec: &Redirect) -> String {
    let part = |part: &Option<Arc<str>>, stays: &str| match part {
        Some(text) => text.to_string(),
        None => stays.to_owned(),
    };
    let port = match (spec.port, &spec.scheme) {
        (Some(port), _) => format!(":{port}"),
        (None, Some(_)) => String::new(),
        (None, None) => "{:port}".to_owned(),
    };
    let path = match &spec.path {
        None => "{path}".to_owned(),
        Some(PathRewrite::Full(path)) => path.to_string(),
        Some(PathRewrite::Prefix(prefix)) => {
            format!("{}{{rest of path}}", prefix.to_string().trim_end_matches('/'))
        }
        Some(PathRewrite::Regex(rewrite)) => rewrite.replacement.to_string(),
    };
    format!("{}://{}{port}{path}", part(&spec.scheme, "{scheme}"), part(&spec.host, "{host}"))
}

impl Condition {
    fn new(name: &str, value: &ValueMatch) -> Self {
        let (value_match, value) = match value {
            ValueMatch::Exact(text) => ("exact", Some(text.to_string())),
            ValueMatch::Present => ("present", None),
            ValueMatch::Regex(text) => ("regex", Some(text.to_string())),
            ValueMatch::Secret(_) => ("secret", None),
            ValueMatch::SecretRegex(_) => ("secret_regex", None),
        };
        Self { name: name.to_owned(), value_match: value_match.to_owned(), value }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().unwrap_or_default();
        match self.value_match.as_str() {
            "exact" => write!(f, "{}={value}", self.name),
            "regex" => write!(f, "{}~{value}", self.name),
            "secret" => write!(f, "{}=<redacted>", self.name),
            "secret_regex" => write!(f, "{}~<redacted>", self.name),
            _ => write!(f, "{} present", self.name),
        }
    }
}

impl fmt::Display for ActionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail { status, .. } => write!(f, "fails with {status}"),
            Self::Forward { upstreams } => match upstreams.as_slice() {
                [only] => f.write_str(&only.upstream),
                several => {
                    let shares = several.iter().map(|s| format!("{}*{}", s.upstream, s.weight));
                    f.write_str(&shares.collect::<Vec<_>>().join(", "))
                }
            },
            Self::PassThrough { upstream } => write!(f, "{upstream} (TLS passes through)"),
            Self::Redirect { status, to } => write!(f, "redirect {status} {to}"),
            Self::Respond { status, .. } => write!(f, "respond {status}"),
        }
    }
}
