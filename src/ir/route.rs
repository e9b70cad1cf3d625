//! One route: what it matches, what it changes and where it leads.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use serde::{Serialize, Serializer};

use super::{
    Auth, Bodies, Cors, ErrorPages, Filter, Guard, HeaderText, Hedge, Hsts, HttpsRedirect,
    IngressRule, Name, Origin, RedirectTo, Retry, Rule, SecretBytes, Text, dump,
};

/// A rule of a virtual host. There are tens of thousands of them: large policies that most do not
/// have stand in boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Unique within the configuration; the `route` label of metrics and logs.
    pub name: Name,
    /// Where it was declared.
    pub origin: Arc<Origin>,
    /// What it matches.
    pub matches: Arc<RouteMatch>,
    /// Who may use it, and how much.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub guard: Guard,
    /// Which pages of other origins may use it; `None` leaves that to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
    /// Who may use it; `None` is anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Box<Auth>>,
    /// What is done with some of its requests, before anything else of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Changes to request and response, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What becomes of a matching request.
    pub action: Action,
    /// Whether requests without TLS are redirected to https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<HttpsRedirect>,
    /// Whether browsers are told to stay on https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Whose answers stand in the place of errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_pages: Option<Box<ErrorPages>>,
    /// Deadlines of the exchange.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub timeouts: Arc<Timeouts>,
    /// When an attempt is repeated.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub retry: Arc<Retry>,
    /// Whether a slow request is sent a second time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// The largest request body in bytes; `None` is no limit. Answered 413 where exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// What of bodies is read ahead, and how fast responses go.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub bodies: Bodies,
    /// Whether a client stays with the upstream that its session began at, whatever the weights of
    /// the others. Sessions are those of an upstream's affinity by cookie.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub sticky: bool,
    /// Whether requests of this route are written to the access log.
    pub access_log: bool,
    /// The rule by which its requests are counted, too, where metrics under ingress-nginx's names
    /// are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<IngressRule>>,
}

/// The conditions of a route; all of them must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteMatch {
    /// The path condition.
    pub path: PathMatch,
    /// Any of these methods; empty is any method.
    #[serde(serialize_with = "methods", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// All of these header conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// All of these conditions on cookies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<CookieMatch>,
    /// All of these query conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
    /// The turn among routes with the same path condition: lower ones are tried first, whatever
    /// their other conditions are. Of equal turns the more specific route comes first, so 0
    /// everywhere is the usual precedence; see `snapshot`.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub order: i32,
}

impl RouteMatch {
    /// Every request whose path satisfies `path`.
    pub fn of(path: PathMatch) -> Self {
        Self {
            path,
            methods: Vec::new(),
            headers: Vec::new(),
            cookies: Vec::new(),
            query: Vec::new(),
            order: 0,
        }
    }
}

fn methods<S: Serializer>(methods: &[Method], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(methods.iter().map(Method::as_str))
}

/// A condition on the normalised path. Case matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path, byte for byte. Starts with `/`.
    Exact(Arc<str>),
    /// Whole segments: `/cart` matches `/cart` and `/cart/x`, not `/cartoon`. Starts with `/`;
    /// a trailing slash is dropped, so `/cart/` is `/cart` and `/` matches everything.
    Prefix(Arc<str>),
    /// A regular expression (RE2 syntax, linear time) that must match the whole path.
    Regex(Arc<str>),
    /// Whatever begins with this, byte for byte: `/cart` matches `/cartoon`, `/cart/` does not
    /// match `/cart`. Starts with `/`.
    StartsWith(Arc<str>),
}

impl PathMatch {
    /// The path or expression.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Regex(text) | Self::StartsWith(text) => {
                text
            }
        }
    }
}

/// A condition on one header. Several fields of that name count as one, joined with `, `
/// (RFC 9110 §5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderMatch {
    /// The field name.
    #[serde(serialize_with = "header_name")]
    pub name: HeaderName,
    /// What its value must be.
    pub value: ValueMatch,
}

pub(super) fn header_name<S: Serializer>(
    name: &HeaderName,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

/// A condition on one cookie: the first of that name in the request's `Cookie` fields, as it was
/// sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CookieMatch {
    /// The cookie's name; case matters.
    pub name: Arc<str>,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on one query parameter: its first occurrence, percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueryMatch {
    /// The parameter's name, decoded.
    pub name: Arc<str>,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueMatch {
    /// Equal, byte for byte.
    Exact(Arc<str>),
    /// There, whatever it is.
    Present,
    /// A regular expression that must match the whole value.
    Regex(Arc<str>),
    /// Equal, byte for byte, to what came out of a file or variable: an API key, say.
    Secret(SecretBytes),
    /// A regular expression, in UTF-8, that came out of a file or variable at least in part; it
    /// must match the whole value.
    SecretRegex(SecretBytes),
}

/// What becomes of a matching request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Answered with this status because the route's configuration is wrong; the reason is for
    /// logs and `explain`, not for the client.
    Fail {
        /// 404, 500 or 503.
        #[serde(serialize_with = "status_code")]
        status: StatusCode,
        /// What is wrong.
        reason: String,
    },
    /// Forwarded to one of these, by weight. Weight 0 is never picked.
    Forward(Vec<BackendRef>),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered with a redirect to what a template comes to.
    RedirectTo(RedirectTo),
    /// Answered with a fixed response.
    Respond(Respond),
}

/// An upstream and its share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendRef {
    /// The upstream's name.
    pub upstream: Name,
    /// Its share, relative to the others of the route.
    pub weight: u32,
}

/// A redirect; what is `None` stays as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Arc<str>>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Arc<str>>,
    /// The port; a scheme's own port is left out of the URL. `None` with a `scheme` given means
    /// that scheme's own port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path; the query is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
}

/// A change of the path; the query is kept, but where [`RegexRewrite`] says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRewrite {
    /// The whole path becomes this.
    Full(Text),
    /// The route's matched prefix becomes this (Gateway API `ReplacePrefixMatch`).
    Prefix(Text),
    /// The whole path becomes something made of parts of it, where an expression is found in it.
    Regex(RegexRewrite),
}

impl PathRewrite {
    /// What is put in.
    pub fn replacement(&self) -> &Text {
        match self {
            Self::Full(text) | Self::Prefix(text) => text,
            Self::Regex(rewrite) => &rewrite.replacement,
        }
    }
}

/// A change of the path by regular expression. Where the expression is found anywhere in the path,
/// the whole path becomes the replacement; where it is not, nothing changes.
///
/// The expression sees the normalised path as the upstream would get it: unreserved characters as
/// such and everything else percent-encoded. A result without a leading slash gets one; one that
/// is no path, or in which parts of the request made a dot segment, is answered 400.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegexRewrite {
    /// A regular expression (RE2 syntax), not anchored; flags stand in it, as in `(?i)/api`.
    pub pattern: Arc<str>,
    /// The path, with `$1` to `$9` (or `${1}`) for what the groups matched; a group that does not
    /// exist or took no part is empty. What stands behind a `?` is a query that goes before the
    /// client's own, joined with `&`; a `?` at the very end drops the client's own.
    pub replacement: Text,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Respond {
    /// 200 to 599.
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
    /// Added header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderText>,
    /// The body.
    pub body: Text,
}

pub(super) fn status_code<S: Serializer>(
    status: &StatusCode,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

/// Deadlines of one exchange. `None` is no deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// From the complete request head to the last response byte.
    #[serde(serialize_with = "dump::some_span")]
    pub request: Option<Duration>,
    /// One connection attempt, TLS included. Default 2 s.
    #[serde(serialize_with = "dump::some_span")]
    pub connect: Option<Duration>,
    /// From the request's last byte to the response head. Default 60 s.
    #[serde(serialize_with = "dump::some_span")]
    pub response: Option<Duration>,
    /// Between two pieces of a body in either direction. Default 60 s.
    #[serde(serialize_with = "dump::some_span")]
    pub idle: Option<Duration>,
    /// An upgraded connection in which nothing moves. Default 1 h.
    #[serde(serialize_with = "dump::some_span")]
    pub tunnel_idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: None,
            connect: Some(Duration::from_secs(2)),
            response: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
            tunnel_idle: Some(Duration::from_secs(3600)),
        }
    }
}
