//! Listeners: where clients connect, and on what terms.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::{HostPattern, Origin, SecretBytes, dump};

/// A socket clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Where it was declared.
    pub origin: Origin,
    /// Address and port.
    pub bind: SocketAddr,
    /// The port that clients connect to, where that is not the one of `bind`: behind a load balancer
    /// or a Service. What names the port of a connection names this one, unless a PROXY protocol
    /// header says where the client connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_port: Option<u16>,
    /// TLS termination; `None` is plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Peers that must send a PROXY protocol header (v1 or v2); others are refused. Empty: the
    /// protocol is off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<IpNet>,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and `X-Request-ID` are believed, beside the
    /// global ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<IpNet>,
    /// What else upstreams are told about its clients.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub forwarding: ListenerForwarding,
    /// What becomes of `%2F` in paths.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub encoded_slashes: EncodedSlashes,
    /// Which protocols are offered.
    pub protocols: ListenerProtocols,
    /// HTTP/2 settings.
    pub http2: Http2Options,
}

impl Listener {
    /// The port that clients connect to.
    pub fn client_port(&self) -> u16 {
        self.public_port.unwrap_or(self.bind.port())
    }
}

/// What upstreams are told about the clients of a listener beside what they always are: what
/// ingress-nginx tells. Connections keep what held when they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListenerForwarding {
    /// Sends `X-Scheme` and `X-Forwarded-Scheme`, with the value of `X-Forwarded-Proto`.
    pub scheme: bool,
    /// Sends what a client says in `X-Forwarded-For` and `X-Forwarded-Host`, believed or not, as
    /// `X-Original-Forwarded-For` and `X-Original-Forwarded-Host`.
    pub original: bool,
    /// Keeps the `X-Request-ID` of every client that sends a sound one, not only of trusted peers.
    pub keep_request_id: bool,
}

/// What becomes of requests with `%2F` in their path, which some servers take for a `/` and others
/// do not. Connections keep what held when they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EncodedSlashes {
    /// They are answered 400.
    #[default]
    Refuse,
    /// It stays as it is, part of its segment, for routes and upstreams alike. Refused all the same
    /// where it borders a segment `.` or `..`, and where the path leads to another route with a `/`
    /// in its place.
    Keep,
}

/// Which HTTP versions a listener speaks. HTTP/1 is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerProtocols {
    /// HTTP/2: by ALPN with TLS, by prior knowledge (h2c) without. Default on.
    pub http2: bool,
}

impl Default for ListenerProtocols {
    fn default() -> Self {
        Self { http2: true }
    }
}

/// HTTP/2 limits of one client connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http2Options {
    /// Streams at once. Default 100.
    pub max_streams: u32,
    /// Flow-control window of a stream, bytes. Default 256 KiB.
    pub stream_window: u32,
    /// Flow-control window of the connection, bytes. Default 1 MiB.
    pub connection_window: u32,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self { max_streams: 100, stream_window: 256 * 1024, connection_window: 1024 * 1024 }
    }
}

/// TLS termination on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListenerTls {
    /// The certificates; picked by SNI, exact names before wildcards. The first that is not only
    /// for some hosts serves clients without SNI or with an unknown name. Where there is none: a
    /// self-signed certificate of last resort.
    pub certificates: Vec<Arc<Certificate>>,
    /// The oldest version offered. Default 1.2.
    pub min_version: TlsVersion,
    /// Client certificates; `None` does not ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), ECDHE and AEAD only.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

/// A server certificate: chain and key as PEM. Whether they parse and belong together is for
/// `tls` to say; a broken one hurts only itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// Where it was declared.
    pub origin: Origin,
    /// The chain, leaf first; `None` where the source could not be read, so that the last good
    /// one stays.
    pub chain: Option<Arc<str>>,
    /// The key; `None` as above.
    pub key: Option<SecretBytes>,
    /// The hosts it is for: of the names that it is valid for no others, and no unknown ones.
    /// `None` is for all of its names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_for: Option<BTreeSet<HostPattern>>,
}

/// How client certificates are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientAuth {
    /// Whether one must come.
    pub mode: ClientAuthMode,
    /// The CAs that may sign it, as PEM; `None` where the source could not be read: then no
    /// handshake succeeds rather than one without verification.
    pub ca: Option<Arc<str>>,
    /// Whether the verified certificate is passed to upstreams in `X-Forwarded-Client-Cert`'s
    /// stead: `X-Client-Cert-Subject`, `-Serial`, `-Fingerprint` (SHA-256), `-San` and
    /// `X-Client-Verify`.
    pub forward: bool,
}

/// Whether a client certificate must come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// Verified when it comes; a bad one is refused, none is fine.
    Optional,
    /// None is refused.
    Required,
}
