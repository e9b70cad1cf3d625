//! The provider-neutral configuration: what every provider says and what `control` compiles.
//!
//! Plain data in closed enums; it owns no behaviour beyond parsing its own small values, performs
//! no I/O and knows nothing of files, Kubernetes, hyper or rustls. Everything is `Eq` (an equal
//! configuration is not published again) and `Serialize` (dumps and golden files), and whatever
//! is secret redacts itself in both `Debug` and `Serialize`.

mod auth;
mod auth_cache;
mod backend;
mod balance;
mod bind;
mod bodies;
mod client_auth;
mod cors;
mod dump;
mod error_pages;
mod filter;
mod guard;
mod host;
mod https;
mod ingress_rule;
mod listener;
mod origin;
mod passthrough;
mod problem;
mod resilience;
mod route;
mod rule;
mod secret;
mod settings;
mod template;

pub use auth::{
    Auth, AuthService, BasicAuth, Credentials, ExternalAuth, Satisfy, ServicePlace, ServiceUrl,
    signin_url,
};
pub use auth_cache::AuthCache;
pub use backend::{
    ClientCertificate, EndpointAddress, EndpointSpec, PoolOptions, TrustAnchors, Upstream,
    UpstreamProtocol, UpstreamTls, is_of_this_machine,
};
pub use balance::{
    Affinity, AffinityCookie, AffinityKey, AffinityMode, Balance, BalancePolicy, HashInput,
    HashPolicy, HashTable, LeastRequest, OrcaPolicy, PeakEwma, Permille, PrequalPolicy, SameSite,
    SlowStart, WeightedByLoad,
};
pub use bodies::{Bodies, ResponseBuffer, ResponseRate};
pub use client_auth::{ClientTrust, HostClientAuth, HostClientAuthMode};
pub use cors::{Cors, OriginPattern};
pub use dump::Span;
pub use error_pages::ErrorPages;
pub use filter::{
    CookieEdit, Filter, HeaderEdit, HeaderTemplate, HeaderText, LocationEdit, Replace, ResponseEdit,
};
pub use guard::{AccessList, ConnectionLimit, Guard, RateKey, RateLimit};
pub use host::{HostPattern, HostPatternError, ListenerSelector, VirtualHost};
pub use https::{Hsts, HttpsRedirect};
pub use ingress_rule::IngressRule;
pub use listener::{
    Certificate, ClientAuth, ClientAuthMode, EncodedSlashes, Http2Options, Listener,
    ListenerForwarding, ListenerProtocols, ListenerTls, TlsVersion,
};
pub use origin::{Location, Name, Origin};
pub use passthrough::TlsPassthrough;
pub use problem::{Problem, Severity};
pub use resilience::{
    AdaptiveConcurrency, FailurePercentage, HealthCheck, Hedge, HedgeAfter, HttpProbe, Outlier,
    Probe, Retry, RetryBudget, RetryOn, SuccessRate, UpstreamLimits,
};
pub use route::{
    Action, BackendRef, CookieMatch, HeaderMatch, PathMatch, PathRewrite, QueryMatch, Redirect,
    RegexRewrite, Respond, Route, RouteMatch, Timeouts, ValueMatch,
};
pub use rule::{Condition, Next, RedirectTo, Reply, Rewrite, Rule, Step, Test};
pub use secret::{SecretBytes, Text};
pub use settings::{
    AccessLog, AccessLogFormat, AccessLogTarget, AddressFamily, Admin, Drain, ErrorFormat,
    Forwarding, Limits, ResolverOptions, Settings,
};
pub use template::{Piece, Scope, Site, Template, TemplateError, Variable};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

/// Values that are to be shared.
pub fn shared<T>(values: BTreeMap<Name, T>) -> BTreeMap<Name, Arc<T>> {
    values.into_iter().map(|(name, value)| (name, Arc::new(value))).collect()
}

/// Everything one provider says now. Level-triggered: always the whole of it, never a delta.
/// Its parts are shared: what has not changed since the last time may be the same in memory, and is
/// then neither compared nor compiled again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fragment {
    /// The provider that speaks, for example `file`.
    pub provider: Name,
    /// Listeners by name.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// Virtual hosts in declaration order.
    pub hosts: Vec<Arc<VirtualHost>>,
    /// Upstreams by name.
    pub upstreams: Arc<BTreeMap<Name, Arc<Upstream>>>,
    /// Process-wide settings; `None` where the provider has no say in them.
    pub settings: Option<Settings>,
    /// The access log where no settings say anything of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

/// All fragments merged: the input of `snapshot::compile`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Listeners by name.
    pub listeners: BTreeMap<Name, Arc<Listener>>,
    /// Virtual hosts; one entry per (pattern, listener selector) after the merge.
    pub hosts: Vec<Arc<VirtualHost>>,
    /// Upstreams by name.
    pub upstreams: Arc<BTreeMap<Name, Arc<Upstream>>>,
    /// Process-wide settings.
    pub settings: Settings,
}
