//! Upstreams: groups of endpoints that serve the same thing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{BalancePolicy, HealthCheck, Origin, Outlier, SecretBytes, UpstreamLimits, dump};

/// A group of endpoints that requests are balanced over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Where it was declared.
    pub origin: Origin,
    /// Its endpoints as declared; names are resolved by `control`.
    pub endpoints: Vec<EndpointSpec>,
    /// Whether its endpoints are no part of the configuration: the provider tells them apart, as
    /// they come and go, and `endpoints` is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub discovered: bool,
    /// How an endpoint is picked.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub balance: Arc<BalancePolicy>,
    /// Active health checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Box<HealthCheck>>,
    /// Passive outlier ejection; `None` is off. On by default.
    #[serde(
        serialize_with = "dump::some_differing",
        skip_serializing_if = "dump::is_on_by_default"
    )]
    pub outlier: Option<Arc<Outlier>>,
    /// Circuit breakers, queue and budgets.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub limits: Arc<UpstreamLimits>,
    /// The protocol spoken to the endpoints.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints; `None` is plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<UpstreamTls>>,
    /// Connection reuse.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub pool: PoolOptions,
}

impl Upstream {
    /// Whether `other` is the same upstream and asks for the same, wherever the two stand in their
    /// files.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        // Taken apart so that a new setting cannot be forgotten here.
        let Self {
            origin,
            endpoints,
            discovered,
            balance,
            health,
            outlier,
            limits,
            protocol,
            tls,
            pool,
        } = self;
        origin.is_same_object(&other.origin)
            && *discovered == other.discovered
            && (endpoints, balance, health) == (&other.endpoints, &other.balance, &other.health)
            && (outlier, limits) == (&other.outlier, &other.limits)
            && (protocol, tls, pool) == (&other.protocol, &other.tls, &other.pool)
    }
}

/// One declared endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointSpec {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share relative to the others; at least 1.
    pub weight: u32,
    /// Its priority level, 0 first: a level is used as the levels before it fail.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub priority: u32,
    /// The zone it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Whether it is being taken out of service: no new requests while others live, except those
    /// of its sessions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// A name whose A or AAAA records are endpoints, re-resolved by TTL.
    Dns {
        /// The name.
        name: Arc<str>,
        /// The port of every address.
        port: u16,
        /// Whether [addresses of this machine and its link](is_of_this_machine) are left out,
        /// whatever DNS says: who may write the name must not reach through the proxy what only
        /// the proxy can reach.
        outside: bool,
    },
    /// An address and port.
    Socket(SocketAddr),
    /// A service name whose SRV records (RFC 2782) are endpoints with ports, weights and
    /// priorities (only the lowest priority is used), re-resolved by TTL.
    Srv(Arc<str>),
}

impl EndpointAddress {
    /// The same, but for [addresses of this machine and its link](is_of_this_machine).
    #[must_use]
    pub fn outside(self) -> Self {
        match self {
            Self::Dns { name, port, .. } => Self::Dns { name, port, outside: true },
            other => other,
        }
    }
}

/// Whether an address is this machine or its link, or none that one endpoint has: loopback,
/// link-local, unspecified, broadcast, multicast.
pub fn is_of_this_machine(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets().first() == Some(&0)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
        }
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { name, port, .. } => write!(f, "{name}:{port}"),
            Self::Socket(address) => write!(f, "{address}"),
            Self::Srv(name) => write!(f, "srv:{name}"),
        }
    }
}

impl Serialize for EndpointAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The protocol spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// What ALPN agrees on over TLS; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/2, by ALPN over TLS and by prior knowledge without (`h2c`).
    Http2,
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.0: a connection for each request, whose body has its length said; no upgrades.
    #[serde(rename = "http1.0")]
    Http10,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamTls {
    /// The name sent as SNI and verified in the certificate; `None` takes the request's host
    /// as forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Arc<str>>,
    /// Whether the name is sent (RFC 6066 §3). On unless turned off; it is verified either way.
    pub sni: bool,
    /// Whether the certificate is verified. On unless turned off in so many words.
    pub verify: bool,
    /// Who is trusted to sign it.
    pub trust: TrustAnchors,
    /// The certificate shown to endpoints that ask for one, as PEM chain and key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// Who may sign an endpoint's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustAnchors {
    /// These CA certificates, as PEM.
    Pem(Arc<str>),
    /// The system's trust store, or Mozilla's roots where there is none.
    System,
}

/// A client certificate for upstream connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientCertificate {
    /// The chain as PEM, leaf first.
    pub chain: Arc<str>,
    /// The key as PEM.
    pub key: SecretBytes,
}

/// Connection reuse of one upstream, per worker and endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolOptions {
    /// How long an unused connection is kept. Default 15 s.
    #[serde(serialize_with = "dump::span")]
    pub idle_timeout: Duration,
    /// How many unused connections are kept. Default 128.
    pub max_idle: u32,
    /// The age after which a connection is not used again. Default 10 min.
    #[serde(serialize_with = "dump::span")]
    pub max_age: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(15),
            max_idle: 128,
            max_age: Duration::from_secs(600),
        }
    }
}
