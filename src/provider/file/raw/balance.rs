//! The choice of an endpoint as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::file::field::{Field, List, OneOf, OneOrMany, Text};
use crate::provider::file::scalar::{Factor, FieldName, Period, Share, Window};

/// An algorithm with its usual parameters.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum Algorithm {
    /// Requests of one client address (of IPv6 the /64) meet the same endpoint.
    ClientIp,
    /// Another name of `weighted_by_load`.
    ClientSideWeightedRoundRobin,
    /// Another name of `least_request`.
    LeastConnections,
    /// The endpoint with the fewest requests in flight per weight: of all, where there are up to
    /// four, else of two taken at random.
    LeastRequest,
    /// The endpoint that reports the lowest utilisation (ORCA).
    LeastUtilization,
    /// The lowest product of requests in flight and recent latency; failures count as slow.
    PeakEwma,
    /// By probes of load and latency, hot and cold endpoints kept apart (Prequal).
    Prequal,
    /// At random, by weight.
    Random,
    /// In turn, by weight.
    RoundRobin,
    /// In turn, by weights computed from the load that endpoints report (ORCA).
    WeightedByLoad,
}

/// One algorithm with its parameters. `table` and `bounded_load` go with `hash`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Balance {
    /// The most an endpoint may have of the requests in flight, as a multiple of its fair share;
    /// the rest goes on to the next one: `1.25`. Default: no bound.
    pub bounded_load: Field<Text<Factor>>,
    /// Another name of `weighted_by_load`.
    pub client_side_weighted_round_robin: Field<WeightedByLoad>,
    /// Equal requests meet the same endpoint: `client_ip`, `host`, `path`, `uri`, one of
    /// `{ header: name }`, `{ cookie: name }`, `{ query: name }`, or a list of these that count
    /// together.
    pub hash: Field<OneOrMany<OneOf<HashWord, HashPart>>>,
    /// The fewest requests in flight per weight.
    pub least_request: Field<LeastRequest>,
    /// The lowest utilisation that endpoints report (ORCA).
    pub least_utilization: Field<Orca>,
    /// The lowest product of requests in flight and recent latency; failures count as slow.
    pub peak_ewma: Field<PeakEwma>,
    /// By probes of load and latency, hot and cold endpoints kept apart (Prequal).
    pub prequal: Field<Prequal>,
    /// `maglev`, `ring`, `{ maglev: SIZE }` or `{ ring: POINTS }`. Default: `maglev`.
    pub table: Field<OneOf<TableWord, Table>>,
    /// In turn, by weights computed from the load that endpoints report (gRFC A58).
    pub weighted_by_load: Field<WeightedByLoad>,
}

/// Parameters of `least_request`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct LeastRequest {
    /// How many endpoints taken at random are compared, from 2. Default: 2.
    pub choices: Field<u32>,
    /// Up to so many endpoints all are compared. Default: 4.
    pub full_scan: Field<u32>,
}

/// Parameters of `peak_ewma`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct PeakEwma {
    /// The time constant with which old latencies are forgotten. Default: `10s`.
    pub decay: Field<Text<Period>>,
    /// The latency assumed of an endpoint nothing is known of. Default: `30ms`.
    pub default_latency: Field<Text<Period>>,
    /// What an endpoint is taken to be slower by when all its attempts fail. Default: `5s`.
    pub failure_penalty: Field<Text<Period>>,
}

/// A part of every request that can be hashed.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum HashWord {
    /// The client's address; of IPv6 the /64.
    ClientIp,
    /// The request's host.
    Host,
    /// The path.
    Path,
    /// Path and query.
    Uri,
}

/// A named part of a request that can be hashed: one of the keys. A request that has none of the
/// parts goes to the endpoint with the fewest requests in flight.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct HashPart {
    /// The value of this cookie.
    pub cookie: Field<String>,
    /// The value of this header.
    pub header: Field<Text<FieldName>>,
    /// The value of this query parameter.
    pub query: Field<String>,
}

/// A table of a consistent hash.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum TableWord {
    /// Maglev: the most even; its size fits the number of endpoints.
    Maglev,
    /// A ring (ketama) of 160 points an endpoint: moves the fewest keys.
    Ring,
}

/// A table of a consistent hash and its size: one of the keys.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Table {
    /// The places of a Maglev table, a prime of at least 101.
    pub maglev: Field<u32>,
    /// The points that an endpoint of weight 1 has on the ring, 1 to 4096.
    pub ring: Field<u32>,
}

/// Where reports of load come from: the response header or trailer `endpoint-load-metrics`, and
/// polling.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Orca {
    /// How often reports are expected and polled, from `100ms`. A report older than three of
    /// these counts as none. Default: `10s`.
    pub interval: Field<Text<Period>>,
    /// Named metrics that count as utilisation where the application reports none of its own.
    pub metrics: Field<List<String>>,
    /// A path that answers GET with a report as JSON. Default: responses only.
    pub poll: Field<String>,
}

/// Parameters of `weighted_by_load`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct WeightedByLoad {
    /// How long after an endpoint's first report its weight is not used yet. Default: `10s`.
    pub blackout: Field<Text<Window>>,
    /// How much errors count: utilisation grows by this times the share of errors. Default: `1.0`.
    pub error_penalty: Field<Text<Factor>>,
    /// How long a report holds. Default: `3m`.
    pub expiration: Field<Text<Period>>,
    /// How often reports are expected and polled, from `100ms`. Default: `10s`.
    pub interval: Field<Text<Period>>,
    /// Named metrics that count as utilisation where the application reports none of its own.
    pub metrics: Field<List<String>>,
    /// A path that answers GET with a report as JSON. Default: responses only.
    pub poll: Field<String>,
    /// How often weights are computed, from `100ms`. Default: `1s`.
    pub update: Field<Text<Period>>,
}

/// Parameters of `prequal`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Prequal {
    /// The quantile of requests in flight above which an endpoint is hot. Default: `84%`.
    pub hot: Field<Text<Share>>,
    /// The age at which a probe is worthless. Default: `1s`.
    pub max_age: Field<Text<Period>>,
    /// The most probes kept, 2 to 64. Default: 16.
    pub pool: Field<u32>,
    /// A path that answers GET with a report of load as JSON (`rif`, `latency_ms`), for endpoints
    /// shared by many proxies. Default: what this proxy sees itself.
    pub probe_path: Field<String>,
    /// Probes per request. Default: `3.0`.
    pub probes: Field<Text<Factor>>,
}

/// How a session is recognised, in short.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum AffinityWord {
    /// By a cookie this proxy sets.
    Cookie,
}

/// Keeps the requests of a session at one endpoint: `cookie` or `header`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct Affinity {
    /// A cookie this proxy sets: its name, or a mapping.
    pub cookie: Field<OneOf<String, AffinityCookie>>,
    /// A header the client sends; requests with equal values stay together.
    pub header: Field<Text<FieldName>>,
    /// What happens to sessions when endpoints are added. Default: `balanced`.
    pub mode: Field<AffinityMode>,
}

/// When a session may move.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum AffinityMode {
    /// A share of the sessions moves when endpoints are added.
    Balanced,
    /// A session stays while its endpoint is there, even while it drains.
    Persistent,
}

/// A session's cookie.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct AffinityCookie {
    /// Whether a session whose endpoint fails moves for good, with a new cookie. Default: `true`.
    pub change_on_failure: Field<bool>,
    /// The `Domain` attribute. Default: none.
    pub domain: Field<String>,
    /// The `HttpOnly` attribute. Default: `true`.
    pub http_only: Field<bool>,
    /// The `Max-Age` attribute. Default: none, which ends with the browser's session.
    pub max_age: Field<Text<Period>>,
    /// The cookie's name. Default: `portcullis`.
    pub name: Field<String>,
    /// The `Partitioned` attribute. Default: `false`.
    pub partitioned: Field<bool>,
    /// The `Path` attribute. Default: `/`.
    pub path: Field<String>,
    /// The `SameSite` attribute. Default: none.
    pub same_site: Field<SameSite>,
    /// What encrypts the endpoint's identity, at least 16 characters, out of a file:
    /// `${file:affinity.key}`. Default: the value is a hash.
    pub secret: Field<String>,
    /// The `Secure` attribute. Default: as the request came, over TLS or not.
    pub secure: Field<bool>,
}

/// The `SameSite` attribute.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(in crate::provider::file) enum SameSite {
    Lax,
    None,
    Strict,
}

/// How a new or recovered endpoint comes to its full share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::provider::file) struct SlowStart {
    /// `1` is linear, more is faster at first. Default: `1.0`.
    pub aggression: Field<Text<Factor>>,
    /// The share to begin with. Default: `10%`.
    pub least: Field<Text<Share>>,
    /// How long it takes after an ejection or failed health checks, or `off`. Default: `10s`.
    pub recovery: Field<Text<Window>>,
    /// How long it takes for a new endpoint, or `off`. Default: `off`.
    pub window: Field<Text<Window>>,
}
