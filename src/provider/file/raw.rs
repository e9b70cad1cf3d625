//! The configuration language as it is written. Doc comments here are the descriptions in the
//! JSON Schema, so they speak to the one who writes a configuration.

mod auth;
mod balance;
mod client_auth;
mod cors;
mod error_pages;
mod guard;
mod https;
mod passthrough;
mod resilience;
mod route;
mod rule;
mod settings;
mod upstream;

use schemars::JsonSchema;
use serde::Deserialize;

use super::field::{Field, List, Named, OneOf, Text};
use super::scalar::{Bind, Network, Size};
pub(super) use auth::*;
pub(super) use balance::*;
pub(super) use client_auth::*;
pub(super) use cors::*;
pub(super) use error_pages::*;
pub(super) use guard::*;
pub(super) use https::*;
pub(super) use passthrough::*;
pub(super) use resilience::*;
pub(super) use route::*;
pub(super) use rule::*;
pub(super) use settings::*;
pub(super) use upstream::*;

/// A Portcullis configuration. Keys that start with `x-` are ignored: a place for YAML anchors.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    /// The admin listener, or `false` for none. Default: `{ bind: 127.0.0.1:9900 }`. Fixed at
    /// start.
    pub admin: Field<OneOf<bool, Admin>>,
    /// The access log: `true`, `false` or a mapping. Default: `false`.
    pub access_log: Field<OneOf<bool, AccessLog>>,
    /// What holds for every route that does not say otherwise.
    pub defaults: Field<Defaults>,
    /// How a shutdown proceeds.
    pub drain: Field<Drain>,
    /// The form of the proxy's own error bodies. Default: `text`.
    pub errors: Field<ErrorFormat>,
    /// Headers that tell upstreams about the client, beside those that are always sent.
    pub forwarding: Field<Forwarding>,
    /// The hosts that are served: `shop.example.com`, `*.example.com`, or `*` for any other.
    pub hosts: Field<Named<Host>>,
    /// Limits on client connections and request heads.
    pub limits: Field<Limits>,
    /// The sockets clients connect to, by name.
    pub listeners: Field<Named<Listener>>,
    /// How endpoint names are looked up in DNS.
    pub resolver: Field<Resolver>,
    /// Networks whose `X-Forwarded-*`, `Forwarded` and `X-Request-ID` are believed, on every
    /// listener. Default: none.
    pub trusted_proxies: Field<List<Text<Network>>>,
    /// Groups of endpoints that requests are balanced over, by name.
    pub upstreams: Field<Named<Upstream>>,
    /// Worker threads. Default: as many as the CPUs this process may use. Fixed at start.
    pub workers: Field<u32>,
    /// The zone this process stands in: endpoints of the same zone come first. Default: not known.
    /// Fixed at start.
    pub zone: Field<String>,
}

/// A socket clients connect to.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["bind"]))]
pub(super) struct Listener {
    /// Address and port: `0.0.0.0:8080`, `[::]:8080`; `:8080` and `8080` mean every IPv4 address.
    pub bind: Field<Text<Bind>>,
    /// What becomes of `%2F` in paths: `refuse` answers 400, `keep` leaves it as it is, part of its
    /// segment, for routes and upstreams; refused all the same beside `.` and `..`, and where the
    /// path leads to another route with a `/` in its place. Conditions of rules see `%2F`. Default:
    /// `refuse`.
    pub encoded_slashes: Field<EncodedSlashes>,
    /// Headers that tell upstreams about clients of this listener, as ingress-nginx sends them.
    pub forwarding: Field<ListenerForwarding>,
    /// HTTP/2: `true`, `false` or its limits. Default: `true`.
    pub http2: Field<OneOf<bool, Http2>>,
    /// Makes the PROXY protocol (v1 or v2) a condition of every connection.
    pub proxy_protocol: Field<ProxyProtocol>,
    /// The port that clients connect to, where a load balancer or the like leads to this one: what
    /// upstreams and templates are told. Default: the one of `bind`.
    pub public_port: Field<u16>,
    /// TLS termination. Without it the listener speaks plain HTTP.
    pub tls: Field<ListenerTls>,
    /// Networks whose forwarding headers are believed here, beside the global ones.
    pub trusted_proxies: Field<List<Text<Network>>>,
}

/// HTTP/2 limits of one client connection.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Http2 {
    /// Flow-control window of the connection. Default: `1MiB`.
    pub connection_window: Field<Text<Size>>,
    /// Streams at once. Default: 100.
    pub max_streams: Field<u32>,
    /// Flow-control window of a stream. Default: `256KiB`.
    pub stream_window: Field<Text<Size>>,
}

/// Who sends PROXY protocol headers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["trusted"]))]
pub(super) struct ProxyProtocol {
    /// Networks that must send a header; connections from elsewhere are refused.
    pub trusted: Field<List<Text<Network>>>,
}

/// TLS termination.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenerTls {
    /// Certificates, picked by SNI; the first serves clients without SNI. Default: a self-signed
    /// one.
    pub certificates: Field<List<KeyPair>>,
    /// Asks clients for a certificate.
    pub client_auth: Field<ClientAuth>,
    /// The oldest version offered. Default: `"1.2"`.
    pub min_version: Field<TlsVersion>,
}

/// A certificate and its key, as PEM files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["cert", "key"]))]
pub(super) struct KeyPair {
    /// The chain, leaf first.
    pub cert: Field<String>,
    /// The private key.
    pub key: Field<String>,
}

/// A TLS version.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(super) enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// How clients are asked for certificates.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["ca"]))]
pub(super) struct ClientAuth {
    /// A PEM file of the CAs that may sign them.
    pub ca: Field<String>,
    /// Passes the verified certificate to upstreams in `X-Client-Cert-*` and `X-Client-Verify`.
    /// Default: `false`.
    pub forward: Field<bool>,
    /// Whether one must come. Default: `required`.
    pub mode: Field<ClientAuthMode>,
}

/// Whether a client certificate must come.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum ClientAuthMode {
    Optional,
    Required,
}
