//! What is done about endpoints that fail, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, Named, OneOf, OneOrMany, Text};
use crate::provider::file::scalar::{
    Deadline, Factor, HedgeAfter, Period, RetryCondition, Share, Size, StatusRange, Switch, Verb,
};

/// Active health checks: one per endpoint, whatever the number of routes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct HealthCheck {
    /// Text that the first 64 KiB of the response must contain (`http`).
    pub body: Field<String>,
    /// Failures in a row that make an endpoint unhealthy. Default: 3.
    pub fall: Field<u32>,
    /// Header fields of the request (`http`).
    pub headers: Field<Named<String>>,
    /// The host asked for (`http`). Default: the endpoint's name or address.
    pub host: Field<String>,
    /// From one check to the next. Default: `5s`.
    pub interval: Field<Text<Period>>,
    /// Every interval is longer or shorter by up to this share. Default: `10%`.
    pub jitter: Field<Text<Share>>,
    /// The method (`http`). Default: `GET`.
    pub method: Field<Text<Verb>>,
    /// The path and query asked for (`http`). Default: `/`.
    pub path: Field<String>,
    /// The port that is asked. Default: the endpoint's own.
    pub port: Field<u16>,
    /// Successes in a row that make an endpoint healthy again. Default: 2.
    pub rise: Field<u32>,
    /// The service asked for (`grpc`). Default: the server as a whole.
    pub service: Field<String>,
    /// Statuses that mean healthy (`http`): `200`, `200-299`, `2xx`, or a list. Default:
    /// `200-399`.
    pub status: Field<OneOrMany<Text<StatusRange>>>,
    /// The most a check may take, connecting included. Default: `2s`.
    pub timeout: Field<Text<Period>>,
    /// What is asked. Default: `grpc` where `service` is given, else `http`.
    #[serde(rename = "type")]
    pub kind: Field<HealthKind>,
    /// The interval while an endpoint is not healthy. Default: `1s`, or `interval` if that is
    /// shorter.
    pub unhealthy_interval: Field<Text<Period>>,
}

/// What a health check asks.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum HealthKind {
    /// The gRPC health protocol.
    Grpc,
    /// A request and the status of its response.
    Http,
    /// That a connection is accepted.
    Tcp,
}

/// Ejects endpoints that fail real requests.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Outlier {
    /// 5xx responses and local errors in a row; 0 is off. Default: 5.
    pub consecutive_5xx: Field<u32>,
    /// 502, 503, 504 and local errors in a row; 0 is off. Default: 0.
    pub consecutive_gateway: Field<u32>,
    /// Connect failures, timeouts and resets in a row; 0 is off. Default: 5.
    pub consecutive_local: Field<u32>,
    /// The first ejection's length; the n-th in a row lasts n times as long. Default: `10s`.
    pub ejection: Field<Text<Period>>,
    /// Ejects endpoints that fail more than a share of their requests: `on`, `off` or a mapping.
    /// Default: `off`.
    pub failure_percentage: Field<OneOf<Text<Switch>, FailurePercentage>>,
    /// How often success rate and failure share are looked at. Default: `10s`.
    pub interval: Field<Text<Period>>,
    /// The most endpoints ejected at once, rounded up; 0 is nobody. One always stays, and so does
    /// whoever's ejection would set off panic. Default: `50%`.
    pub max_ejected: Field<Text<Share>>,
    /// The longest ejection. Default: `5m`, or `ejection` if that is longer.
    pub max_ejection: Field<Text<Period>>,
    /// Ejects endpoints that fail far more often than the others: `on`, `off` or a mapping.
    /// Default: `on`.
    pub success_rate: Field<OneOf<Text<Switch>, SuccessRate>>,
}

/// Ejection by success rate.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct SuccessRate {
    /// So many standard deviations below the mean. Default: `1.9`.
    pub factor: Field<Text<Factor>>,
    /// Endpoints with enough requests that it takes. Default: 5.
    pub min_endpoints: Field<u32>,
    /// Requests in an interval that it takes. Default: 100.
    pub min_requests: Field<u32>,
}

/// Ejection by the share of failures.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct FailurePercentage {
    /// Endpoints with enough requests that it takes. Default: 5.
    pub min_endpoints: Field<u32>,
    /// Requests in an interval that it takes. Default: 50.
    pub min_requests: Field<u32>,
    /// The share. Default: `85%`.
    pub threshold: Field<Text<Share>>,
}

/// Limits over all workers; beyond them requests are answered 503 with `Retry-After`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct UpstreamLimits {
    /// A limit on requests in flight that follows the latency: `on`, `off` or a mapping. Default:
    /// `off`.
    pub adaptive: Field<OneOf<Text<Switch>, Adaptive>>,
    /// Open connections to all endpoints, idle ones and tunnels included, those of health checks and
    /// polled reports of load not. Default: no limit.
    pub connections: Field<u32>,
    /// Requests that wait for a place, and as many for a connection; 0 answers at once. Default:
    /// 1024.
    pub pending: Field<u32>,
    /// How long a request waits for a place or a connection. Default: `1s`.
    pub pending_timeout: Field<Text<Period>>,
    /// Requests in flight. Default: no limit.
    pub requests: Field<u32>,
    /// Requests in flight to one endpoint. Default: no limit.
    pub requests_per_endpoint: Field<u32>,
    /// Retries in flight. Default: no limit but the retry budget.
    pub retries: Field<u32>,
}

/// A concurrency limit that follows the latency (after Gradient2).
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Adaptive {
    /// Where the limit starts. Default: 20.
    pub initial: Field<u32>,
    /// How often the limit is computed. Default: `100ms`.
    pub interval: Field<Text<Period>>,
    /// The highest limit. Default: 1000.
    pub max: Field<u32>,
    /// The lowest limit. Default: 4.
    pub min: Field<u32>,
    /// How much of a newly computed limit counts. Default: `20%`.
    pub smoothing: Field<Text<Share>>,
    /// How much slower than usual is still normal. Default: `1.5`.
    pub tolerance: Field<Text<Factor>>,
}

/// How many retries an upstream bears. Those after a connection that could not be made, or had
/// ended while it was idle, do not count.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct RetryBudget {
    /// Retries a second that are always allowed. Default: 10.
    pub min_per_second: Field<u32>,
    /// Retries as a share of the requests of the last ten seconds. Default: `20%`.
    pub ratio: Field<Text<Factor>>,
}

/// When an attempt is repeated on another endpoint. Connect failures and requests of which nothing
/// was written always are; never once a byte of the response went out.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Retry {
    /// Repeats after the first attempt; 0 turns them off. That a kept connection had ended does
    /// not count as an attempt. Default: 2.
    pub attempts: Field<u32>,
    /// The pause before the first repeat; each further one doubles it, less a random part.
    /// Default: `25ms`.
    pub backoff: Field<Text<Period>>,
    /// How much of a request body is kept to be sent again. Default: `64KiB`.
    pub buffer: Field<Text<Size>>,
    /// The longest pause. Default: ten times `backoff`.
    pub max_backoff: Field<Text<Period>>,
    /// How long after the beginning of the first attempt a further one may begin, or `off`. One that
    /// has begun is not cut short by it. Default: `off`.
    pub max_elapsed: Field<Text<Deadline>>,
    /// The longest `Retry-After` that is waited for rather than passed on. Default: `1s`.
    pub max_retry_after: Field<Text<Period>>,
    /// Repeats POST, PATCH and other requests that are not idempotent even after they were
    /// written. Default: `false`.
    pub non_idempotent: Field<bool>,
    /// What is repeated beside connect failures: `reset`, `timeout`, `gateway_error` (502, 503,
    /// 504), statuses, and gRPC codes as `grpc:unavailable`. Default: `[reset]`.
    pub on: Field<OneOrMany<Text<RetryCondition>>>,
    /// The most one attempt may take until its response head, or `off`. Default: `off`.
    pub per_try: Field<Text<Deadline>>,
}

/// A second request where the first is slow: the first answer wins, the other is cancelled. Only
/// for idempotent requests whose body can be sent again.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Hedge {
    /// When the second is sent: after a time, or after what a share of the route's requests take,
    /// as `p95`. Default: `p95`.
    pub after: Field<Text<HedgeAfter>>,
    /// The most requests that are hedged, as a share of all. Default: `5%`.
    pub budget: Field<Text<Share>>,
}
