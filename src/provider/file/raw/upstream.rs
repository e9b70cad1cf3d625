//! Upstreams as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::KeyPair;
use crate::provider::file::field::{Field, List, OneOf, Text};
use crate::provider::file::scalar::{Endpoint, Period, Strategy};

/// A group of endpoints that serve the same thing.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoints"]))]
pub(in crate::provider::file) struct Upstream {
    /// How an endpoint is picked. Default: `peak_ewma`, by requests in flight and latency.
    pub balance: Field<Text<Strategy>>,
    /// The endpoints: `10.0.0.5:80`, `name:80`, `srv:_http._tcp.name`, `https://name`, or a
    /// mapping with a weight. Names are resolved again by their TTL.
    pub endpoints: Field<List<OneOf<Text<Endpoint>, WeightedEndpoint>>>,
    /// Connection reuse.
    pub pool: Field<Pool>,
    /// The protocol spoken to the endpoints. Default: `auto`, what ALPN agrees on over TLS and
    /// HTTP/1.1 without.
    pub protocol: Field<Protocol>,
    /// TLS towards the endpoints: `true`, `false` or a mapping. Default: `false`.
    pub tls: Field<OneOf<bool, UpstreamTls>>,
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
}

/// An endpoint and its share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["address"]))]
pub(in crate::provider::file) struct WeightedEndpoint {
    /// Where it is.
    pub address: Field<Text<Endpoint>>,
    /// Its share relative to the others, from 1. Default: 1.
    pub weight: Field<u32>,
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
