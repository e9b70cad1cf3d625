//! Hosts and routes as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Access, Auth, ConnectionLimit, CookieEdit, Cors, ErrorPages, Hedge, HostClientAuth, Hsts,
    HttpsRedirect, RateLimit, Replace, Retry, Rule, TlsPassthrough,
};
use crate::provider::file::field::{Any, Field, List, Named, OneOf, OneOrMany, Text};
use crate::provider::file::scalar::{
    Deadline, FieldNames, HedgeWord, Off, Pattern, RedirectStatus, SizeLimit, Status, StatusRange,
    Switch, Verb,
};

/// The routes of one host.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Host {
    /// What clients must show in the TLS handshake. Default: what their listener demands.
    pub client_auth: Field<HostClientAuth>,
    /// The listeners this host is served on. Default: all.
    pub listeners: Field<List<String>>,
    /// The routes; the most specific match wins, whatever the order.
    pub routes: Field<List<Route>>,
    /// What is done with requests before a route is looked for: what a rule rewrites, routes are
    /// looked for by. Default: nothing.
    pub rules: Field<List<Rule>>,
    /// The upstream that TLS connections for this host are carried to byte by byte, instead of being
    /// terminated here; the routes get what comes without TLS. Default: they end here.
    pub tls_passthrough: Field<OneOf<String, TlsPassthrough>>,
    /// What the star of `*.example.com` stands for. Default: `any_depth`, one label or more.
    pub wildcard: Field<WildcardDepth>,
}

/// What the star of a host stands for.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum WildcardDepth {
    AnyDepth,
    OneLabel,
}

/// What a request must look like, and one of `upstream`, `upstreams`, `redirect` and `respond`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Route {
    /// Which client addresses may use it: a mapping, or `off`. Default: all.
    pub access: Field<OneOf<Text<Off>, Access>>,
    /// Whether requests of this route are written to the access log. Default: `true`.
    pub access_log: Field<bool>,
    /// Who may use this route. Default: anybody.
    pub auth: Field<Auth>,
    /// The largest request body, or `off`. Default: `off`.
    pub body_limit: Field<Text<SizeLimit>>,
    /// So many bytes of a request body are read before an endpoint is picked, or `off`, which
    /// forwards it as it comes. Default: `off`.
    pub request_buffer: Field<Text<SizeLimit>>,
    /// So many bytes of a response body are read ahead of a client that is slower than the endpoint: a
    /// size, `off` or a mapping. Default: `off`.
    pub response_buffer: Field<OneOf<Text<SizeLimit>, ResponseBuffer>>,
    /// How many bytes a second of each response body go to its client, or `off`. Default: `off`.
    pub response_rate: Field<Text<SizeLimit>>,
    /// So many bytes of a response body go before `response_rate` holds. Default: none.
    pub response_rate_after: Field<Text<SizeLimit>>,
    /// How many requests of one client may be in progress at once: a mapping, or `off`. Default:
    /// `off`.
    pub connection_limit: Field<OneOf<Text<Off>, ConnectionLimit>>,
    /// Which pages of other origins may use it from a browser: a mapping, or `off`, which leaves
    /// that to the upstream. Default: `off`.
    pub cors: Field<OneOf<Text<Off>, Cors>>,
    /// Conditions on cookies by name; all must hold.
    pub cookies: Field<Named<OneOf<String, Condition>>>,
    /// Answers of another upstream in the place of errors. Default: none.
    pub error_pages: Field<ErrorPages>,
    /// Header conditions by name; all must hold.
    pub headers: Field<Named<OneOf<String, Condition>>>,
    /// Sends a second request where the first is slow: `on`, `off`, a time, a quantile as `p95`, or
    /// a mapping. Default: `off`.
    pub hedge: Field<OneOf<Text<HedgeWord>, Hedge>>,
    /// `Strict-Transport-Security` on answers over TLS: `on`, `off` or a mapping. Default: `off`.
    pub hsts: Field<OneOf<Text<Switch>, Hsts>>,
    /// Redirects requests that did not come over TLS: `on`, `off` or a mapping. Default: `off`.
    pub https_redirect: Field<OneOf<Text<Switch>, HttpsRedirect>>,
    /// How `path` is compared. Default: `prefix`, by whole segments; `starts_with` is by bytes.
    #[serde(rename = "match")]
    pub kind: Field<MatchKind>,
    /// The methods; none given means any.
    pub methods: Field<List<Text<Verb>>>,
    /// The name in logs and metrics; unique. Default: made from host and path.
    pub name: Field<String>,
    /// The path. Default: `/`.
    pub path: Field<String>,
    /// Conditions on query parameters by name; all must hold.
    pub query: Field<Named<OneOf<String, Condition>>>,
    /// How often each client may use it: a mapping, several of which all must allow a request, or
    /// `off`. Default: `off`.
    pub rate_limit: Field<OneOrMany<OneOf<Text<Off>, RateLimit>>>,
    /// Answers with a redirect.
    pub redirect: Field<Redirect>,
    /// Changes to the request's headers.
    pub request_headers: Field<HeaderEdit>,
    /// Answers with a fixed response.
    pub respond: Field<Respond>,
    /// Changes to attributes of the cookies that the upstream sets.
    pub response_cookies: Field<CookieEdit>,
    /// Changes to the response's headers.
    pub response_headers: Field<ResponseEdit>,
    /// Where the URL of `Location` or `Refresh` begins with `from`, that becomes `to`, a template.
    pub response_location: Field<Replace>,
    /// When an attempt is repeated on another endpoint, or `off`.
    pub retry: Field<OneOf<Text<Switch>, Retry>>,
    /// Changes host or path on the way to the upstream.
    pub rewrite: Field<Rewrite>,
    /// What is done with some of its requests before anything else. Default: nothing.
    pub rules: Field<List<Rule>>,
    /// Whether clients stay with the one of `upstreams` that their session began at, whatever the
    /// weights: those of its `affinity` by cookie. Default: `false`.
    pub sticky: Field<bool>,
    /// From the complete request head to the last response byte, or `off`: short for
    /// `timeouts.request`. Default: `off`.
    pub timeout: Field<Text<Deadline>>,
    /// Deadlines of the exchange.
    pub timeouts: Field<Timeouts>,
    /// The upstream that answers.
    pub upstream: Field<String>,
    /// Several upstreams that share the requests by weight.
    pub upstreams: Field<List<Backend>>,
}

/// How a path is compared.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum MatchKind {
    Exact,
    Prefix,
    Regex,
    StartsWith,
}

/// A condition on a value: one of the keys.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Condition {
    /// `true`: it must be there, with any value.
    pub present: Field<bool>,
    /// A regular expression that must match the whole value.
    pub regex: Field<Text<Pattern>>,
}

/// An upstream and its share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name"]))]
pub(in crate::provider::file) struct Backend {
    /// The upstream.
    pub name: Field<String>,
    /// Its share relative to the others; 0 takes it out. Default: 1.
    pub weight: Field<u32>,
}

/// A redirect; what is not given stays as the client sent it.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Redirect {
    /// The host.
    pub host: Field<String>,
    /// The whole path; with `regex`, `$1` to `$9` are what its groups matched.
    pub path: Field<String>,
    /// The port. Default: with `scheme`, the scheme's own.
    pub port: Field<u16>,
    /// What the matched prefix becomes.
    pub prefix: Field<String>,
    /// Where this is found in the path, the whole of it becomes `path`; else it stays.
    pub regex: Field<Text<Pattern>>,
    /// The scheme.
    pub scheme: Field<Scheme>,
    /// 301, 302, 303, 307 or 308. Default: 302.
    pub status: Field<Text<RedirectStatus>>,
    /// The whole URL or path, a template as in `auth`, in the place of everything else.
    pub to: Field<String>,
}

/// A URL scheme.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum Scheme {
    Http,
    Https,
}

/// A fixed response; at most one of `body`, `body_file` and `json`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Respond {
    /// The body as text. Default: empty.
    pub body: Field<String>,
    /// A file whose text is the body.
    pub body_file: Field<String>,
    /// Header fields. A `content-type` is made where none is given and there is a body.
    pub headers: Field<Named<String>>,
    /// The body as any value, sent as JSON.
    pub json: Field<Any>,
    /// The status. Default: 200.
    pub status: Field<Text<Status>>,
}

/// A change of what the upstream sees; `prefix` or `path`, not both.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Rewrite {
    /// The `Host`; with a `{` in it a template as in `auth`.
    pub host: Field<String>,
    /// The whole path; with `regex`, `$1` to `$9` are what its groups matched.
    pub path: Field<String>,
    /// What the matched prefix becomes.
    pub prefix: Field<String>,
    /// Where this is found in the path, the whole of it becomes `path`; else it stays.
    pub regex: Field<Text<Pattern>>,
}

/// An edit of header fields: removed first, then set, then added.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct HeaderEdit {
    /// Fields added beside others of their name.
    pub add: Field<Named<OneOf<String, FieldValue>>>,
    /// Names whose fields go; `x-internal-*` are all that begin so.
    pub remove: Field<List<Text<FieldNames>>>,
    /// Fields that replace all others of their name.
    pub set: Field<Named<OneOf<String, FieldValue>>>,
}

/// An edit of the fields of responses, or of some of them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct ResponseEdit {
    /// Fields added beside others of their name.
    pub add: Field<Named<OneOf<String, FieldValue>>>,
    /// Names whose fields go; `x-internal-*` are all that begin so.
    pub remove: Field<List<Text<FieldNames>>>,
    /// Fields that replace all others of their name.
    pub set: Field<Named<OneOf<String, FieldValue>>>,
    /// Only responses of these statuses: `404`, `500-504`, `2xx`, or a list. Default: all.
    pub statuses: Field<OneOrMany<Text<StatusRange>>>,
    /// Only responses of these media types: `text/html`, or a list. Default: all.
    pub types: Field<OneOrMany<String>>,
}

/// A value that depends on the request.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["template"]))]
pub(in crate::provider::file) struct FieldValue {
    /// A template as in `auth`; for responses also `{status}` and `{sent_http_NAME}`. Where it comes
    /// out empty there is no such field.
    pub template: Field<String>,
}

/// What is read ahead of a response's client.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct ResponseBuffer {
    /// Whether it holds for responses that say neither `yes` nor `no` in `X-Accel-Buffering`.
    /// Default: `true`.
    pub by_default: Field<bool>,
    /// How much of one response. Default: that of `defaults`.
    pub size: Field<Text<SizeLimit>>,
}

/// Deadlines of one exchange, each a duration or `off`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Timeouts {
    /// One connection attempt to an endpoint, TLS included. Default: `2s`.
    pub connect: Field<Text<Deadline>>,
    /// Between two pieces of a body in either direction. Default: `1m`.
    pub idle: Field<Text<Deadline>>,
    /// From the complete request head to the last response byte. Default: `off`.
    pub request: Field<Text<Deadline>>,
    /// From the request's last byte to the response head. Default: `1m`.
    pub response: Field<Text<Deadline>>,
    /// An upgraded connection (WebSocket) in which nothing moves. Default: `1h`.
    pub tunnel_idle: Field<Text<Deadline>>,
}

/// What holds for every route that does not say otherwise.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Defaults {
    /// Which client addresses may use a route: a mapping, or `off`. Default: all.
    pub access: Field<OneOf<Text<Off>, Access>>,
    /// Whether requests are written to the access log. Default: `true`.
    pub access_log: Field<bool>,
    /// The largest request body, or `off`. Default: `off`.
    pub body_limit: Field<Text<SizeLimit>>,
    /// So many bytes of a request body are read before an endpoint is picked, or `off`, which
    /// forwards it as it comes. Default: `off`.
    pub request_buffer: Field<Text<SizeLimit>>,
    /// So many bytes of a response body are read ahead of a client that is slower than the endpoint: a
    /// size, `off` or a mapping. Default: `off`.
    pub response_buffer: Field<OneOf<Text<SizeLimit>, ResponseBuffer>>,
    /// How many bytes a second of each response body go to its client, or `off`. Default: `off`.
    pub response_rate: Field<Text<SizeLimit>>,
    /// So many bytes of a response body go before `response_rate` holds. Default: none.
    pub response_rate_after: Field<Text<SizeLimit>>,
    /// How many requests of one client may be in progress at once: a mapping, or `off`. Default:
    /// `off`.
    pub connection_limit: Field<OneOf<Text<Off>, ConnectionLimit>>,
    /// Which pages of other origins may use a route from a browser: a mapping, or `off`, which leaves
    /// that to the upstream. Default: `off`.
    pub cors: Field<OneOf<Text<Off>, Cors>>,
    /// Sends a second request where the first is slow: `on`, `off`, a time, a quantile as `p95`, or
    /// a mapping. Default: `off`.
    pub hedge: Field<OneOf<Text<HedgeWord>, Hedge>>,
    /// How often each client may use a route: a mapping, several of which all must allow a request, or
    /// `off`. Default: `off`.
    pub rate_limit: Field<OneOrMany<OneOf<Text<Off>, RateLimit>>>,
    /// `Strict-Transport-Security` on answers over TLS: `on`, `off` or a mapping. Default: `off`.
    pub hsts: Field<OneOf<Text<Switch>, Hsts>>,
    /// Redirects requests that did not come over TLS: `on`, `off` or a mapping. Default: `off`.
    pub https_redirect: Field<OneOf<Text<Switch>, HttpsRedirect>>,
    /// Changes to every request's headers, before those of the route.
    pub request_headers: Field<HeaderEdit>,
    /// Changes to every response's headers, before those of the route.
    pub response_headers: Field<ResponseEdit>,
    /// When an attempt is repeated on another endpoint, or `off`.
    pub retry: Field<OneOf<Text<Switch>, Retry>>,
    /// Short for `timeouts.request`.
    pub timeout: Field<Text<Deadline>>,
    /// Deadlines of the exchange.
    pub timeouts: Field<Timeouts>,
}
