//! Upstreams as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Affinity, AffinityWord, Algorithm, Balance, HealthCheck, KeyPair, Outlier, RetryBudget,
    SlowStart, UpstreamLimits,
};
use crate::provider::file::field::{Field, List, OneOf, Text};
use crate::provider::file::scalar::{Endpoint, Factor, HealthWord, Period, Share, Switch, Window};

/// A group of endpoints that serve the same thing.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoints"]))]
pub(in crate::provider::file) struct Upstream {
    /// Keeps the requests of a session at one endpoint: `cookie`, or a mapping. Default: off.
    pub affinity: Field<OneOf<AffinityWord, Affinity>>,
    /// How an endpoint is picked: an algorithm, or a mapping with its parameters. Default:
    /// `peak_ewma`.
    pub balance: Field<OneOf<Algorithm, Balance>>,
    /// The endpoints: `10.0.0.5:80`, `name:80`, `srv:_http._tcp.name`, `https://name`, or a
    /// mapping with weight, priority and zone. Names are resolved again by their TTL.
    pub endpoints: Field<List<OneOf<Text<Endpoint>, DetailedEndpoint>>>,
    /// Active health checks: a path, `http`, `tcp`, `grpc`, `off` or a mapping. Default: `off`.
    pub health: Field<OneOf<Text<HealthWord>, HealthCheck>>,
    /// Limits on connections and requests, and the queue before them.
    pub limits: Field<UpstreamLimits>,
    /// Ejects endpoints that fail real requests: `on`, `off` or a mapping. Default: `on`.
    pub outlier: Field<OneOf<Text<Switch>, Outlier>>,
    /// A priority level, or a zone, carries its whole load until fewer than 1/`overprovision` of
    /// its endpoints are available; then load spills over to the next. Default: `1.4`.
    pub overprovision: Field<Text<Factor>>,
    /// Below this share of available endpoints health and ejection are ignored, for what is left
    /// would drown; `0` never does. Default: `50%`.
    pub panic_threshold: Field<Text<Share>>,
    /// Connection reuse.
    pub pool: Field<Pool>,
    /// The protocol spoken to the endpoints. Default: `auto`, what ALPN agrees on over TLS and
    /// HTTP/1.1 without.
    pub protocol: Field<Protocol>,
    /// How many retries it bears: a share of its requests as `20%`, or a mapping. Default: `20%`.
    pub retry_budget: Field<OneOf<Text<Factor>, RetryBudget>>,
    /// How a new or recovered endpoint comes to its full share: a time, `off` or a mapping.
    /// Default: new ones at once, recovered ones over `10s`.
    pub slow_start: Field<OneOf<Text<Window>, SlowStart>>,
    /// Use only so many endpoints, of a large set; other proxies take others. Default: all.
    pub subset: Field<u32>,
    /// TLS towards the endpoints: `true`, `false` or a mapping. Default: `false`.
    pub tls: Field<OneOf<bool, UpstreamTls>>,
    /// Prefers endpoints of this proxy's own zone, where the zones are known. Default: `true`.
    pub zone_aware: Field<bool>,
}

/// The protocol spoken to endpoints.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum Protocol {
    Auto,
    H2,
    H2c,
    Http1,
    #[serde(rename = "http1.0")]
    Http10,
}

/// An endpoint and its place among the others.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(in crate::provider::file) struct DetailedEndpoint {
    /// Where it is.
    pub address: Field<Text<Endpoint>>,
    /// Whether it is being taken out of service: new requests go to others while there are any,
    /// but for those of its sessions. Default: `false`.
    pub draining: Field<bool>,
    /// Its priority level, 0 first; a level is used as those before it fail. Default: 0.
    pub priority: Field<u32>,
    /// Its share relative to the others, from 1. Default: 1.
    pub weight: Field<u32>,
    /// The zone it stands in.
    pub zone: Field<String>,
}

/// TLS towards endpoints.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct UpstreamTls {
    /// A PEM file of the CAs that may sign their certificates. Default: the system's.
    pub ca: Field<String>,
    /// The certificate shown to endpoints that ask for one.
    pub client_certificate: Field<KeyPair>,
    /// The name sent as SNI and expected in the certificate. Default: the request's host.
    pub server_name: Field<String>,
    /// Whether the name is sent as SNI; it is expected in the certificate either way. Default: `true`.
    pub sni: Field<bool>,
    /// Whether certificates are verified. Default: `true`.
    pub verify: Field<bool>,
}

/// Connection reuse, per worker and endpoint.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Pool {
    /// How long an unused connection is kept. Default: `15s`.
    pub idle_timeout: Field<Text<Period>>,
    /// The age after which a connection is not used again. Default: `10m`.
    pub max_age: Field<Text<Period>>,
    /// How many unused connections are kept. Default: 128.
    pub max_idle: Field<u32>,
}
