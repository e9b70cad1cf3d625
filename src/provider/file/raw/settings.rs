//! Process-wide settings as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, Text};
use crate::provider::file::scalar::{Bind, Nameserver, Period, Size};

/// The admin listener.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Admin {
    /// Its address and port. Default: `127.0.0.1:9900`.
    pub bind: Field<Text<Bind>>,
}

/// The access log.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct AccessLog {
    /// `json`, `combined`, `ingress-nginx` (its default line), or a template with `{field}` in it. Default: `json`.
    pub format: Field<String>,
    /// A file lines are appended to. Default: standard output.
    pub path: Field<String>,
}

/// How a shutdown proceeds: still accepting for `grace`, then finishing what is in flight until
/// `deadline`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Drain {
    /// How long requests in flight may take after the grace time. Default: `1m`.
    pub deadline: Field<Text<Period>>,
    /// How long new connections are still accepted. Default: `10s`.
    pub grace: Field<Text<Period>>,
}

/// The form of the proxy's own error bodies.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum ErrorFormat {
    Json,
    Text,
}

/// Headers that tell upstreams about the client.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Forwarding {
    /// Sends `Forwarded` (RFC 7239). Default: `false`.
    pub forwarded: Field<bool>,
    /// Sends `Via` both ways. Default: `false`.
    pub via: Field<bool>,
}

/// What becomes of `%2F` in paths.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum EncodedSlashes {
    Keep,
    Refuse,
}

/// Headers that tell upstreams about clients of a listener, as ingress-nginx sends them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct ListenerForwarding {
    /// Keeps the `X-Request-ID` of every client, where it is visible ASCII of at most 128 bytes,
    /// not only that of trusted proxies. Default: `false`.
    pub keep_request_id: Field<bool>,
    /// Sends what a client says in `X-Forwarded-For` and `X-Forwarded-Host`, believed or not, as
    /// `X-Original-Forwarded-For` and `X-Original-Forwarded-Host`. Default: `false`.
    pub original: Field<bool>,
    /// Sends `X-Scheme` and `X-Forwarded-Scheme`, which say what `X-Forwarded-Proto` does.
    /// Default: `false`.
    pub scheme: Field<bool>,
}

/// Limits on client connections and request heads.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Limits {
    /// Client connections at once. Default: half of what the file descriptor limit allows.
    pub connections: Field<u32>,
    /// The largest request head. Default: `32KiB`.
    pub head_size: Field<Text<Size>>,
    /// From accept to a complete request head, PROXY protocol and TLS included. Default: `10s`.
    pub head_timeout: Field<Text<Period>>,
    /// The most header fields. Default: 100.
    pub header_count: Field<u32>,
    /// How long a connection without a request is kept. Default: `1m`.
    pub keep_alive: Field<Text<Period>>,
    /// The longest request target. Default: `8KiB`.
    pub target_size: Field<Text<Size>>,
}

/// How endpoint names are looked up in DNS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Resolver {
    /// Which addresses of a name are endpoints. Default: `auto`, the A records, and AAAA where
    /// there is no A.
    pub family: Field<Family>,
    /// The longest time an answer is used without asking again, whatever its TTL. Default: `5m`.
    pub max_ttl: Field<Text<Period>>,
    /// The shortest time between two look-ups of a name, whatever its TTL. Default: `1s`.
    pub min_ttl: Field<Text<Period>>,
    /// Name servers: `10.0.0.2`, `10.0.0.2:5353`, `[fd00::2]:53`. Names are then taken as absolute,
    /// without a search list. Default: what `/etc/resolv.conf` says.
    pub nameservers: Field<List<Text<Nameserver>>>,
    /// How long a name server may take. Default: `5s`, or what `/etc/resolv.conf` says.
    pub timeout: Field<Text<Period>>,
}

/// Which addresses of a name are endpoints.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum Family {
    Auto,
    Both,
    Ipv4,
    Ipv6,
}
