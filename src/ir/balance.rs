//! How an endpoint is picked: the choice of algorithm, its parameters, and what narrows it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::{Serialize, Serializer};

use super::route::header_name;
use super::{SecretBytes, Text, dump};

/// A share or factor in thousandths: 50 is 5 %, shown as `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permille(pub u32);

impl Permille {
    /// The share as a factor: 50 is 0.05.
    pub fn factor(self) -> f64 {
        f64::from(self.0) / 1000.0
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (percent, 0) => write!(f, "{percent}%"),
            (percent, tenth) => write!(f, "{percent}.{tenth}%"),
        }
    }
}

impl Serialize for Permille {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Everything about picking an endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalancePolicy {
    /// The algorithm.
    pub algorithm: Balance,
    /// Requests that belong together stay with one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
    /// Preference for endpoints in this proxy's own zone. On wherever the zone is known.
    pub zone_aware: bool,
    /// Use only so many endpoints, chosen by rendezvous hashing with this process's own seed;
    /// `None` uses all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<u32>,
    /// How a new or recovered endpoint is given its share.
    pub slow_start: SlowStart,
    /// Below this share of available endpoints health and ejection are ignored: what is left
    /// would drown. 0 never does. Default 500.
    pub panic_threshold: Permille,
    /// How much of a priority level, or of a zone, must be available before load spills over to
    /// the next: at 1400 a level carries everything down to 1/1.4 of its endpoints.
    pub overprovision: Permille,
}

impl Default for BalancePolicy {
    fn default() -> Self {
        Self {
            algorithm: Balance::default(),
            affinity: None,
            zone_aware: true,
            subset: None,
            slow_start: SlowStart::default(),
            panic_threshold: Permille(500),
            overprovision: Permille(1400),
        }
    }
}

/// The algorithm that picks an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// By the hash of something of the request, so that equal requests meet the same endpoint.
    Hash(HashPolicy),
    /// By the requests in flight per weight: the lower of two at random, or the lowest of all
    /// in small sets. `least_connections` is another name for it.
    LeastRequest(LeastRequest),
    /// By the utilisation that endpoints report (ORCA).
    LeastUtilization(OrcaPolicy),
    /// By requests in flight times the peak-sensitive average of the latency; the default.
    PeakEwma(PeakEwma),
    /// By probes of load and latency, hot and cold kept apart (Prequal, NSDI 2024).
    Prequal(PrequalPolicy),
    /// At random, by weight.
    Random,
    /// In turn, by weight.
    RoundRobin,
    /// In turn, by weights computed from the load that endpoints report (gRFC A58).
    WeightedByLoad(WeightedByLoad),
}

impl Default for Balance {
    fn default() -> Self {
        Self::PeakEwma(PeakEwma::default())
    }
}

/// Parameters of least request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeastRequest {
    /// How many distinct endpoints are compared, at least 2. Default 2.
    pub choices: u32,
    /// Up to so many endpoints all are compared. Default 4.
    pub full_scan: u32,
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self { choices: 2, full_scan: 4 }
    }
}

/// Parameters of peak EWMA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeakEwma {
    /// The time constant with which old latencies are forgotten. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub decay: Duration,
    /// The latency assumed of an endpoint nothing is known of. Default 30 ms.
    #[serde(serialize_with = "dump::span")]
    pub default_latency: Duration,
    /// What an endpoint is taken to be slower by when all its attempts fail, and a share of that
    /// when some do: a fast error must not look like a fast endpoint. Default 5 s.
    #[serde(serialize_with = "dump::span")]
    pub failure_penalty: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_latency: Duration::from_millis(30),
            failure_penalty: Duration::from_secs(5),
        }
    }
}

/// Consistent hashing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashPolicy {
    /// What is hashed, together and in this order. Where a request has none of it, an endpoint is
    /// picked by least request.
    pub on: Vec<HashInput>,
    /// The table.
    pub table: HashTable,
    /// No endpoint gets more than this multiple of its fair share of the requests in flight, the
    /// rest goes on to the next one (arXiv:1608.01350). `None` is unbounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<Permille>,
}

/// A part of a request that can be hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashInput {
    /// The client's address as far as it is believed; of IPv6 the /64.
    ClientIp,
    /// A cookie's value.
    Cookie(Arc<str>),
    /// A header's value.
    Header(#[serde(serialize_with = "header_name")] HeaderName),
    /// The request's host.
    Host,
    /// The path.
    Path,
    /// A query parameter's value; its first occurrence.
    Query(Arc<str>),
    /// The whole target, path and query.
    Uri,
}

/// The table of a consistent hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashTable {
    /// Maglev (NSDI 2016): O(1), even, moves a few more keys than a ring. The size is a prime;
    /// `None` fits it to the number of endpoints (at least 100 places each, 4,099 to 655,373).
    Maglev(Option<u32>),
    /// A ring (ketama) of so many points per endpoint of weight 1. Default 160.
    Ring(u32),
}

impl Default for HashTable {
    fn default() -> Self {
        Self::Maglev(None)
    }
}

/// Where reports of load come from and how they count. Reports are ORCA's: the response header
/// or trailer `endpoint-load-metrics` in its text, JSON and binary forms, or polled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrcaPolicy {
    /// A path that answers GET with a report as JSON, polled at every `interval`; `None` reads
    /// responses only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Text>,
    /// How often reports are expected and polled. A report older than three of these counts as
    /// none. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub interval: Duration,
    /// Named metrics that count as utilisation where the application reports none of its own.
    pub metrics: Vec<Arc<str>>,
}

impl Default for OrcaPolicy {
    fn default() -> Self {
        Self { poll: None, interval: Duration::from_secs(10), metrics: Vec::new() }
    }
}

/// Parameters of client-side weighted round robin (gRFC A58).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightedByLoad {
    /// Where reports come from.
    pub orca: OrcaPolicy,
    /// How long after an endpoint's first report its weight is not used yet. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub blackout: Duration,
    /// How long a report holds. Default 3 min.
    #[serde(serialize_with = "dump::span")]
    pub expiration: Duration,
    /// How often weights are computed; at least 100 ms. Default 1 s.
    #[serde(serialize_with = "dump::span")]
    pub update: Duration,
    /// How much errors count: the utilisation grows by this times the share of errors.
    /// Default 1000.
    pub error_penalty: Permille,
}

impl Default for WeightedByLoad {
    fn default() -> Self {
        Self {
            orca: OrcaPolicy::default(),
            blackout: Duration::from_secs(10),
            expiration: Duration::from_secs(180),
            update: Duration::from_secs(1),
            error_penalty: Permille(1000),
        }
    }
}

/// Parameters of Prequal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrequalPolicy {
    /// The quantile of requests in flight above which an endpoint is hot. Default 840.
    pub hot: Permille,
    /// Probes per request, in thousandths. Default 3000.
    pub probes: Permille,
    /// The most probes kept. Default 16.
    pub pool: u32,
    /// The age at which a probe is worthless. Default 1 s.
    #[serde(serialize_with = "dump::span")]
    pub max_age: Duration,
    /// A path that answers GET with a report of load as JSON (`rif`, `latency_ms`), for
    /// endpoints shared by many proxies; `None` takes what this process sees itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_path: Option<Text>,
}

impl Default for PrequalPolicy {
    fn default() -> Self {
        Self {
            hot: Permille(840),
            probes: Permille(3000),
            pool: 16,
            max_age: Duration::from_secs(1),
            probe_path: None,
        }
    }
}

/// Session affinity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Affinity {
    /// How a session is recognised.
    pub by: AffinityKey,
    /// What happens to sessions when endpoints are added.
    pub mode: AffinityMode,
}

/// What tells one session from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AffinityKey {
    /// A cookie this proxy sets.
    Cookie(AffinityCookie),
    /// A header the client sends; its value is hashed.
    Header(#[serde(serialize_with = "header_name")] HeaderName),
}

/// When a session may move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AffinityMode {
    /// A share of the sessions moves when endpoints are added.
    #[default]
    Balanced,
    /// A session stays while its endpoint is there, even where it is terminating.
    Persistent,
}

/// The cookie of a session (RFC 6265).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AffinityCookie {
    /// Its name. Default `portcullis`.
    pub name: Arc<str>,
    /// `Path`. Default `/`.
    pub path: Arc<str>,
    /// `Domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Arc<str>>,
    /// `Max-Age`; `None` is a session cookie.
    #[serde(serialize_with = "dump::some_span", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// `Secure`: `None` follows the scheme of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// `HttpOnly`. Default true.
    pub http_only: bool,
    /// `SameSite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    /// `Partitioned`.
    pub partitioned: bool,
    /// Whether the session moves on for good, with a new cookie, where its endpoint fails.
    /// Default true.
    pub change_on_failure: bool,
    /// The key that encrypts the endpoint's identity; `None` writes a keyless hash of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretBytes>,
}

impl Default for AffinityCookie {
    fn default() -> Self {
        Self {
            name: "portcullis".into(),
            path: "/".into(),
            domain: None,
            max_age: None,
            secure: None,
            http_only: true,
            same_site: None,
            partitioned: false,
            change_on_failure: true,
            secret: None,
        }
    }
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// `Lax`
    Lax,
    /// `None`
    None,
    /// `Strict`
    Strict,
}

/// How a new or recovered endpoint comes to its full share: `weight × max(least, (t / window) ^
/// (1 / aggression))`, as Envoy has it. Left out where more than half of the endpoints are new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlowStart {
    /// How long it takes; zero is off, the default for new endpoints.
    #[serde(serialize_with = "dump::span")]
    pub window: Duration,
    /// 1000 is linear; more is faster at first.
    pub aggression: Permille,
    /// The share to begin with. Default 100.
    pub least: Permille,
    /// The window for endpoints that come back from ejection or failed health checks.
    /// Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub recovery: Duration,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            aggression: Permille(1000),
            least: Permille(100),
            recovery: Duration::from_secs(10),
        }
    }
}
