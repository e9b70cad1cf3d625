//! What is done about endpoints that fail: health checks, ejection, limits, retries, hedging.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{HeaderText, Permille, Text, dump};

/// Active health checks: one per endpoint, whatever the number of routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next. Default 5 s.
    #[serde(serialize_with = "dump::span")]
    pub interval: Duration,
    /// The interval while the endpoint is not healthy; `None` is the same. Default 1 s.
    #[serde(serialize_with = "dump::some_span", skip_serializing_if = "Option::is_none")]
    pub unhealthy_interval: Option<Duration>,
    /// The most a check may take, connecting included. Default 2 s.
    #[serde(serialize_with = "dump::span")]
    pub timeout: Duration,
    /// Successes in a row that make an endpoint healthy; the very first check alone decides.
    /// Default 2.
    pub rise: u32,
    /// Failures in a row that make it unhealthy. Default 3.
    pub fall: u32,
    /// Every interval is made longer or shorter by up to this share. Default 100.
    pub jitter: Permille,
    /// The port that is asked, where it is not the endpoint's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl HealthCheck {
    /// The check with all its defaults.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(5),
            unhealthy_interval: Some(Duration::from_secs(1)),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            jitter: Permille(100),
            port: None,
        }
    }
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `grpc.health.v1.Health/Check` for this service; empty is the server as a whole.
    Grpc {
        /// The service's name.
        service: Arc<str>,
    },
    /// An HTTP request.
    Http(HttpProbe),
    /// That a connection is accepted (and TLS agreed where the upstream has TLS).
    Tcp,
}

/// An HTTP health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    /// The method. Default `GET`.
    pub method: Arc<str>,
    /// The target. Default `/`.
    pub path: Text,
    /// The host asked for; `None` is the endpoint's name or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Arc<str>>,
    /// Further header fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderText>,
    /// Statuses that mean healthy, as inclusive ranges. Default 200 to 399.
    pub expect_status: Vec<(u16, u16)>,
    /// Text that the first 64 KiB of the body must contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect_body: Option<Arc<str>>,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            host: None,
            headers: Vec::new(),
            expect_status: vec![(200, 399)],
            expect_body: None,
        }
    }
}

/// Passive outlier ejection, after Envoy's, with its caps made useful for small sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outlier {
    /// 5xx responses and local errors in a row; 0 is off. Default 5.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 and local errors in a row; 0 is off, the default.
    pub consecutive_gateway: u32,
    /// Connect failures, timeouts and resets in a row; 0 is off. Default 5.
    pub consecutive_local: u32,
    /// How often success rate and failure share are looked at. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub interval: Duration,
    /// The first ejection's length; the n-th in a row lasts n times as long. Default 10 s: with
    /// Envoy's 30 s, ten endpoints that restart one by one are half ejected at a time.
    #[serde(serialize_with = "dump::span")]
    pub ejection: Duration,
    /// The longest ejection. Default 300 s.
    #[serde(serialize_with = "dump::span")]
    pub max_ejection: Duration,
    /// The most endpoints ejected at once, rounded up; 0 ejects nobody. One always stays, and so
    /// does whoever's ejection would set off panic. Default 500.
    pub max_ejected: Permille,
    /// Ejection by success rate; `None` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Ejection by share of failures; `None` is off, the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_percentage: Option<FailurePercentage>,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            consecutive_local: 5,
            interval: Duration::from_secs(10),
            ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(300),
            max_ejected: Permille(500),
            success_rate: Some(SuccessRate::default()),
            failure_percentage: None,
        }
    }
}

/// Ejects endpoints whose success rate is below `mean - factor × standard deviation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuccessRate {
    /// Endpoints with enough requests that it takes. Default 5.
    pub min_endpoints: u32,
    /// Requests in an interval that it takes. Default 100.
    pub min_requests: u32,
    /// The factor. Default 1900.
    pub factor: Permille,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { min_endpoints: 5, min_requests: 100, factor: Permille(1900) }
    }
}

/// Ejects endpoints that fail more than this share of an interval's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailurePercentage {
    /// The share. Default 850.
    pub threshold: Permille,
    /// Endpoints with enough requests that it takes. Default 5.
    pub min_endpoints: u32,
    /// Requests in an interval that it takes. Default 50.
    pub min_requests: u32,
}

impl Default for FailurePercentage {
    fn default() -> Self {
        Self { threshold: Permille(850), min_endpoints: 5, min_requests: 50 }
    }
}

/// Limits of one upstream over all workers: its circuit breakers, its queue, its budgets.
/// Beyond a limit requests are answered 503 with `Retry-After`. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamLimits {
    /// Open connections to all endpoints, idle ones and tunnels included; those of health checks
    /// and polled reports of load are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Requests in flight to one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_endpoint: Option<u32>,
    /// Requests that wait for a place among those in flight, and as many for a connection. Default
    /// 1024.
    pub pending: u32,
    /// How long a request waits for its place or its connection. Default 1 s.
    #[serde(serialize_with = "dump::span")]
    pub pending_timeout: Duration,
    /// Retries in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// The retry budget.
    pub retry_budget: RetryBudget,
    /// A limit on requests in flight that follows the latency; `None` is off, the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveConcurrency>,
}

impl Default for UpstreamLimits {
    fn default() -> Self {
        Self {
            connections: None,
            requests: None,
            requests_per_endpoint: None,
            pending: 1024,
            pending_timeout: Duration::from_secs(1),
            retries: None,
            retry_budget: RetryBudget::default(),
            adaptive: None,
        }
    }
}

/// How many retries an upstream bears: a share of the requests of the last ten seconds and a
/// floor. It keeps a failing upstream from being hit several times as hard. Repeats after a
/// connection that could not be made, or had ended while it was idle, are not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// Retries per request. Default 200.
    pub ratio: Permille,
    /// Retries a second that are always allowed. Default 10.
    pub min_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { ratio: Permille(200), min_per_second: 10 }
    }
}

/// A concurrency limit after Netflix' Gradient2: `limit × clamp(tolerance × long / short, 0.5, 1)
/// + queue`, smoothed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdaptiveConcurrency {
    /// Where it starts. Default 20.
    pub initial: u32,
    /// The least. Default 4.
    pub min: u32,
    /// The most. Default 1000.
    pub max: u32,
    /// How much slower than usual is still normal. Default 1500.
    pub tolerance: Permille,
    /// How much of a new limit counts. Default 200.
    pub smoothing: Permille,
    /// How often the limit is computed. Default 100 ms.
    #[serde(serialize_with = "dump::span")]
    pub interval: Duration,
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self {
            initial: 20,
            min: 4,
            max: 1000,
            tolerance: Permille(1500),
            smoothing: Permille(200),
            interval: Duration::from_millis(100),
        }
    }
}

/// When an attempt is repeated on another endpoint. Never after a response byte went out; a
/// request that was written is repeated only if its method is idempotent (RFC 9110 §9.2.2) or
/// `non_idempotent` says so, and only if its body can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Repeats after the first attempt; 0 turns them off. That a kept connection had ended does
    /// not count as an attempt. Default 2.
    pub attempts: u32,
    /// What is repeated besides connect failures and requests of which nothing was written.
    pub on: RetryOn,
    /// The most one attempt may take until its response head; `None` is the route's own limits.
    #[serde(serialize_with = "dump::some_span", skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Duration>,
    /// How long after the beginning of the first attempt a further one may begin; `None` is without
    /// a limit, the default. An attempt that has begun is not cut short by it.
    #[serde(serialize_with = "dump::some_span", skip_serializing_if = "Option::is_none")]
    pub max_elapsed: Option<Duration>,
    /// The pause before the first repeat; each further one doubles it, and a random half of it
    /// is left out. Connect failures do not wait. Default 25 ms.
    #[serde(serialize_with = "dump::span")]
    pub backoff: Duration,
    /// The longest pause. Default 250 ms.
    #[serde(serialize_with = "dump::span")]
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is waited for rather than passed on. Default 1 s.
    #[serde(serialize_with = "dump::span")]
    pub max_retry_after: Duration,
    /// Whether requests that are not idempotent are repeated after they were written.
    pub non_idempotent: bool,
    /// How much of a request body is kept to be sent again, in bytes. Default 64 KiB.
    pub buffer: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: RetryOn::default(),
            per_try: None,
            max_elapsed: None,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
            max_retry_after: Duration::from_secs(1),
            non_idempotent: false,
            buffer: 64 * 1024,
        }
    }
}

/// Conditions of a retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryOn {
    /// The connection closed before a byte of the response, and HTTP/2 refused streams.
    /// On by default.
    pub reset: bool,
    /// No response head in time (`per_try` or the route's response timeout).
    pub timeout: bool,
    /// These response statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// These gRPC codes in a response that is headers only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grpc: Vec<u8>,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { reset: true, timeout: false, statuses: Vec::new(), grpc: Vec::new() }
    }
}

/// A second request where the first is slow; the first answer wins and the other is cancelled.
/// Only for idempotent requests whose body can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hedge {
    /// When the second is sent.
    pub after: HedgeAfter,
    /// The most requests that are hedged, as a share of all. Default 50.
    pub budget: Permille,
}

/// How long a hedge waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HedgeAfter {
    /// So long.
    Delay(#[serde(serialize_with = "dump::span")] Duration),
    /// As long as this share of the route's recent requests took. Default 950.
    Quantile(Permille),
}
