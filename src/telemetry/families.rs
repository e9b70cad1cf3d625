//! Every metric family of the proxy's own: name, type, help and labels in one place.
//!
//! Names and labels are an interface: dashboards and alerts are written against them. Label
//! values are names out of the configuration or out of closed sets, never a path or a raw host.

/// Upper bounds of the duration buckets, nanoseconds: the union of what the dashboards made for
/// ingress-nginx (its default buckets) and for Traefik (0.3 and 1.2 s) ask for.
pub const DURATION_BOUNDS: [u64; 13] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    300_000_000,
    500_000_000,
    1_000_000_000,
    1_200_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; the name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds over [`DURATION_BOUNDS`].
    Histogram,
}

/// How a family stands on the page.
#[derive(Clone, Copy, Debug)]
pub struct Declaration {
    /// The full name.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The help line.
    pub help: &'static str,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "each variant's declaration carries its help line")]
pub enum Family {
    AccessLogDropped,
    AccessLogLines,
    AuthCacheLookups,
    BuildInfo,
    CertificateExpiry,
    ConfigCompile,
    ConfigGeneration,
    ConfigLastReloadSuccess,
    ConfigLastReloadSuccessful,
    ConfigPropagation,
    ConfigReloads,
    ConfigSnapshots,
    Connections,
    ConnectionsTotal,
    DnsLastAnswer,
    DnsLookups,
    EndpointUp,
    HealthChecks,
    HttpConnections,
    KubernetesLastEvent,
    KubernetesLeader,
    KubernetesObjects,
    KubernetesStatusUpdates,
    KubernetesSynced,
    KubernetesWatchRestarts,
    ListenerUp,
    PassthroughBytes,
    PassthroughConnections,
    PassthroughConnectionsTotal,
    RejectedRequests,
    RequestBytes,
    RequestDuration,
    Requests,
    RequestsInFlight,
    ResponseBytes,
    TlsHandshakes,
    UpstreamAttempts,
    UpstreamConcurrencyLimit,
    UpstreamConnect,
    UpstreamConnectionLimit,
    UpstreamConnections,
    UpstreamConnectionsTaken,
    UpstreamEjected,
    UpstreamEjections,
    UpstreamEndpointResponse,
    UpstreamErrors,
    UpstreamGrpcResponses,
    UpstreamHedges,
    UpstreamHedgesRefused,
    UpstreamHedgesWon,
    UpstreamLoadReports,
    UpstreamNoEndpoint,
    UpstreamPending,
    UpstreamResponse,
    UpstreamResponses,
    UpstreamRetries,
    UpstreamRetriesRefused,
    UpstreamReused,
    UpstreamShed,
}

impl Family {
    /// Every family, in order of its discriminant.
    pub const ALL: [Self; 59] = [
        Self::AccessLogDropped,
        Self::AccessLogLines,
        Self::AuthCacheLookups,
        Self::BuildInfo,
        Self::CertificateExpiry,
        Self::ConfigCompile,
        Self::ConfigGeneration,
        Self::ConfigLastReloadSuccess,
        Self::ConfigLastReloadSuccessful,
        Self::ConfigPropagation,
        Self::ConfigReloads,
        Self::ConfigSnapshots,
        Self::Connections,
        Self::ConnectionsTotal,
        Self::DnsLastAnswer,
        Self::DnsLookups,
        Self::EndpointUp,
        Self::HealthChecks,
        Self::HttpConnections,
        Self::KubernetesLastEvent,
        Self::KubernetesLeader,
        Self::KubernetesObjects,
        Self::KubernetesStatusUpdates,
        Self::KubernetesSynced,
        Self::KubernetesWatchRestarts,
        Self::ListenerUp,
        Self::PassthroughBytes,
        Self::PassthroughConnections,
        Self::PassthroughConnectionsTotal,
        Self::RejectedRequests,
        Self::RequestBytes,
        Self::RequestDuration,
        Self::Requests,
        Self::RequestsInFlight,
        Self::ResponseBytes,
        Self::TlsHandshakes,
        Self::UpstreamAttempts,
        Self::UpstreamConcurrencyLimit,
        Self::UpstreamConnect,
        Self::UpstreamConnectionLimit,
        Self::UpstreamConnections,
        Self::UpstreamConnectionsTaken,
        Self::UpstreamEjected,
        Self::UpstreamEjections,
        Self::UpstreamEndpointResponse,
        Self::UpstreamErrors,
        Self::UpstreamGrpcResponses,
        Self::UpstreamHedges,
        Self::UpstreamHedgesRefused,
        Self::UpstreamHedgesWon,
        Self::UpstreamLoadReports,
        Self::UpstreamNoEndpoint,
        Self::UpstreamPending,
        Self::UpstreamResponse,
        Self::UpstreamResponses,
        Self::UpstreamRetries,
        Self::UpstreamRetriesRefused,
        Self::UpstreamReused,
        Self::UpstreamShed,
    ];

    /// The family's name, type, help and labels.
    pub const fn declaration(self) -> Declaration {
        match self {
            Self::AccessLogDropped => counter(
                "portcullis_access_log_dropped_total",
                "Access log lines lost: queue_full when the target was too slow, write_failed when it refused them.",
                &["reason"],
            ),
            Self::AccessLogLines => {
                counter("portcullis_access_log_lines_total", "Access log lines written.", &[])
            }
            Self::AuthCacheLookups => counter(
                "portcullis_auth_cache_lookups_total",
                "Requests whose external authentication may be kept, by whether it was (hit, miss).",
                &["listener", "result"],
            ),
            Self::BuildInfo => {
                gauge("portcullis_build_info", "Always 1; the labels tell the build.", &["version"])
            }
            Self::CertificateExpiry => gauge(
                "portcullis_certificate_expiry_timestamp_seconds",
                "When the certificate stops being valid, Unix time.",
                &["listener", "name"],
            ),
            Self::ConfigCompile => histogram(
                "portcullis_config_compile_seconds",
                "Time to turn a changed configuration into a snapshot.",
                &[],
            ),
            Self::ConfigGeneration => gauge(
                "portcullis_config_generation",
                "Generation number of the configuration that is served.",
                &[],
            ),
            Self::ConfigLastReloadSuccess => gauge(
                "portcullis_config_last_reload_success_timestamp_seconds",
                "When a configuration was last accepted, Unix time; 0 before the first.",
                &[],
            ),
            Self::ConfigLastReloadSuccessful => gauge(
                "portcullis_config_last_reload_successful",
                "1 if the latest configuration was accepted, 0 if it was refused and the one before it is still served.",
                &[],
            ),
            Self::ConfigPropagation => histogram(
                "portcullis_config_propagation_seconds",
                "From the news of a change to its being served, by what it changed (configuration, endpoints), where the provider tells when the news came.",
                &["change"],
            ),
            Self::ConfigReloads => counter(
                "portcullis_config_reloads_total",
                "Configurations read, by result (success, failure).",
                &["result"],
            ),
            Self::ConfigSnapshots => gauge(
                "portcullis_config_snapshots",
                "Compiled configurations in memory: the one in use, and older ones that requests hold.",
                &[],
            ),
            Self::Connections => {
                gauge("portcullis_connections", "Open client connections.", &["listener"])
            }
            Self::ConnectionsTotal => counter(
                "portcullis_connections_total",
                "Client connections accepted.",
                &["listener"],
            ),
            Self::DnsLastAnswer => gauge(
                "portcullis_dns_last_answer_timestamp_seconds",
                "When DNS last had records for an endpoint's name, Unix time; 0 before the first. The endpoints of that answer stay while look-ups fail.",
                &["name"],
            ),
            Self::DnsLookups => counter(
                "portcullis_dns_lookups_total",
                "Look-ups of an endpoint's name, by result (answered, not_found, failed).",
                &["name", "result"],
            ),
            Self::EndpointUp => gauge(
                "portcullis_endpoint_up",
                "1 if the endpoint may be chosen, 0 if it may not.",
                &["upstream", "endpoint"],
            ),
            Self::HealthChecks => counter(
                "portcullis_health_checks_total",
                "Health checks of the endpoint, by result (success, or why it failed).",
                &["upstream", "endpoint", "result"],
            ),
            Self::HttpConnections => counter(
                "portcullis_http_connections_total",
                "Client connections that came to speak HTTP, by protocol (http/1.1, h2).",
                &["listener", "protocol"],
            ),
            Self::KubernetesLastEvent => gauge(
                "portcullis_kubernetes_last_event_timestamp_seconds",
                "When the Kubernetes API server last said something, Unix time; 0 before the first.",
                &[],
            ),
            Self::KubernetesLeader => gauge(
                "portcullis_kubernetes_leader",
                "1 if this process holds the Lease and writes statuses and events.",
                &[],
            ),
            Self::KubernetesObjects => gauge(
                "portcullis_kubernetes_objects",
                "Objects that are known, by kind.",
                &["kind"],
            ),
            Self::KubernetesStatusUpdates => counter(
                "portcullis_kubernetes_status_updates_total",
                "Statuses of Ingresses written, by result (success, failure).",
                &["result"],
            ),
            Self::KubernetesSynced => gauge(
                "portcullis_kubernetes_synced",
                "1 once everything that is followed was heard of; 0 while what an earlier process wrote down is served.",
                &[],
            ),
            Self::KubernetesWatchRestarts => counter(
                "portcullis_kubernetes_watch_restarts_total",
                "Lists and watches that ended, by kind and reason (ended when the watch came to its time; expired, forbidden, unreachable and others).",
                &["kind", "reason"],
            ),
            Self::ListenerUp => gauge(
                "portcullis_listener_up",
                "1 if the listener accepts at its address, 0 if it cannot be bound.",
                &["listener"],
            ),
            Self::PassthroughBytes => counter(
                "portcullis_passthrough_bytes_total",
                "Bytes of TLS connections that passed through, by direction (received from clients, sent to them); counted at their end.",
                &["listener", "direction"],
            ),
            Self::PassthroughConnections => gauge(
                "portcullis_passthrough_connections",
                "Open TLS connections that pass through.",
                &["listener"],
            ),
            Self::PassthroughConnectionsTotal => counter(
                "portcullis_passthrough_connections_total",
                "TLS connections that passed through or were to, by the reason of their end (- where both sides were done).",
                &["listener", "reason"],
            ),
            Self::RejectedRequests => counter(
                "portcullis_rejected_requests_total",
                "Requests and connections refused before a route was looked up, by reason.",
                &["listener", "reason"],
            ),
            Self::RequestBytes => counter(
                "portcullis_request_bytes_total",
                "Bytes of request bodies received.",
                &["listener", "route"],
            ),
            Self::RequestDuration => histogram(
                "portcullis_request_duration_seconds",
                "From a request's complete head to the last byte of its response.",
                &["listener", "route"],
            ),
            Self::Requests => counter(
                "portcullis_requests_total",
                "Requests finished, by status class (2xx; - without a status) and by why the proxy itself answered (- if it did not).",
                &["listener", "route", "code", "reason"],
            ),
            Self::RequestsInFlight => gauge(
                "portcullis_requests_in_flight",
                "Requests begun and not finished.",
                &["listener", "route"],
            ),
            Self::ResponseBytes => counter(
                "portcullis_response_bytes_total",
                "Bytes of response bodies sent.",
                &["listener", "route"],
            ),
            Self::TlsHandshakes => counter(
                "portcullis_tls_handshakes_total",
                "TLS handshakes with clients, by result, version and whether a session was resumed.",
                &["listener", "result", "version", "resumed"],
            ),
            Self::UpstreamAttempts => counter(
                "portcullis_upstream_attempts_total",
                "Requests given to an endpoint, first tries and retries.",
                &["upstream", "endpoint"],
            ),
            Self::UpstreamConcurrencyLimit => gauge(
                "portcullis_upstream_concurrency_limit",
                "How many requests the upstream may have in flight, where that is limited.",
                &["upstream"],
            ),
            Self::UpstreamConnect => histogram(
                "portcullis_upstream_connect_seconds",
                "Time to a ready connection with an endpoint, TLS included.",
                &["upstream"],
            ),
            Self::UpstreamConnectionLimit => gauge(
                "portcullis_upstream_connection_limit",
                "Connections to the upstream that may be open at once, where that is limited.",
                &["upstream"],
            ),
            Self::UpstreamConnections => gauge(
                "portcullis_upstream_connections",
                "Open connections to the endpoint.",
                &["upstream", "endpoint"],
            ),
            Self::UpstreamConnectionsTaken => gauge(
                "portcullis_upstream_connections_taken",
                "Connections to the upstream that are open or being made, where they are limited.",
                &["upstream"],
            ),
            Self::UpstreamEjected => gauge(
                "portcullis_upstream_ejected",
                "Endpoints that are ejected as outliers now.",
                &["upstream"],
            ),
            Self::UpstreamEjections => counter(
                "portcullis_upstream_ejections_total",
                "Ejections of endpoints, by what made them outliers.",
                &["upstream", "reason"],
            ),
            Self::UpstreamEndpointResponse => counter(
                "portcullis_upstream_endpoint_response_seconds_total",
                "Time spent waiting for the endpoint's response heads; over portcullis_upstream_responses_total it is the mean.",
                &["upstream", "endpoint"],
            ),
            Self::UpstreamErrors => counter(
                "portcullis_upstream_errors_total",
                "Attempts that brought no usable response, by reason.",
                &["upstream", "endpoint", "reason"],
            ),
            Self::UpstreamGrpcResponses => counter(
                "portcullis_upstream_grpc_responses_total",
                "gRPC calls the endpoint answered to the end, by the code in head or trailers (ok, unavailable; unknown without one).",
                &["upstream", "endpoint", "grpc_status"],
            ),
            Self::UpstreamHedges => counter(
                "portcullis_upstream_hedges_total",
                "Second attempts made because the first was slow.",
                &["upstream"],
            ),
            Self::UpstreamHedgesRefused => counter(
                "portcullis_upstream_hedges_refused_total",
                "Second attempts of slow requests not made: budget when the route's budget was used up, limit when the upstream bore no more.",
                &["upstream", "reason"],
            ),
            Self::UpstreamHedgesWon => counter(
                "portcullis_upstream_hedges_won_total",
                "Second attempts whose response came first.",
                &["upstream"],
            ),
            Self::UpstreamLoadReports => counter(
                "portcullis_upstream_load_reports_total",
                "Reports of load (ORCA) and probes: accepted, malformed, or failed to be polled.",
                &["upstream", "result"],
            ),
            Self::UpstreamNoEndpoint => counter(
                "portcullis_upstream_no_endpoint_total",
                "Requests for which the upstream had no endpoint to choose.",
                &["upstream"],
            ),
            Self::UpstreamPending => gauge(
                "portcullis_upstream_pending",
                "Requests that wait for a place, where the upstream's concurrency or its connections are limited.",
                &["upstream"],
            ),
            Self::UpstreamResponse => histogram(
                "portcullis_upstream_response_seconds",
                "From a request given to an endpoint to the head of its response.",
                &["upstream"],
            ),
            Self::UpstreamResponses => counter(
                "portcullis_upstream_responses_total",
                "Response heads received from the endpoint, by status class.",
                &["upstream", "endpoint", "code"],
            ),
            Self::UpstreamRetries => counter(
                "portcullis_upstream_retries_total",
                "Further attempts made, by why the one before failed.",
                &["upstream", "reason"],
            ),
            Self::UpstreamRetriesRefused => counter(
                "portcullis_upstream_retries_refused_total",
                "Further attempts not made: budget when the retry budget was used up, limit when too many were on their way.",
                &["upstream", "reason"],
            ),
            Self::UpstreamReused => counter(
                "portcullis_upstream_reused_total",
                "Attempts that used an open connection.",
                &["upstream", "endpoint"],
            ),
            Self::UpstreamShed => counter(
                "portcullis_upstream_shed_total",
                "Requests turned away to spare the upstream: overloaded at once, queue_timeout after waiting for a place.",
                &["upstream", "reason"],
            ),
        }
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Declaration {
    Declaration { name, kind: Kind::Counter, help, labels }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Declaration {
    Declaration { name, kind: Kind::Gauge, help, labels }
}

const fn histogram(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
) -> Declaration {
    Declaration { name, kind: Kind::Histogram, help, labels }
}
