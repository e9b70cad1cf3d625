//! The families that ingress-nginx has: their names and labels are an interface of its, against
//! which dashboards and alerts were written. What they mean here is said in their help lines.

use crate::telemetry::families::{Declaration, Kind};
use crate::telemetry::metrics::page::Declared;

/// The rule, and what became of the request.
const REQUEST: &[&str] =
    &["host", "path", "namespace", "ingress", "service", "canary", "method", "status"];

const CERTIFICATE: &[&str] = &["namespace", "secret_name", "host", "class", "identifier"];

/// A family under ingress-nginx's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Series {
    BuildInfo,
    BytesSent,
    ConfigHash,
    ConfigReloaded,
    ConfigReloadedAt,
    ConnectDuration,
    Connections,
    ConnectionsTotal,
    CpuSeconds,
    Errors,
    HeaderDuration,
    LeaderElection,
    OrphanIngress,
    Processes,
    ReadBytes,
    RequestDuration,
    RequestSize,
    Requests,
    RequestsTotal,
    ResidentMemory,
    ResponseDuration,
    ResponseSize,
    SslCertificate,
    SslExpiry,
    Started,
    Success,
    VirtualMemory,
    WriteBytes,
}

impl Declared for Series {
    const ALL: &'static [Self] = &[
        Self::BuildInfo,
        Self::BytesSent,
        Self::ConfigHash,
        Self::ConfigReloaded,
        Self::ConfigReloadedAt,
        Self::ConnectDuration,
        Self::Connections,
        Self::ConnectionsTotal,
        Self::CpuSeconds,
        Self::Errors,
        Self::HeaderDuration,
        Self::LeaderElection,
        Self::OrphanIngress,
        Self::Processes,
        Self::ReadBytes,
        Self::RequestDuration,
        Self::RequestSize,
        Self::Requests,
        Self::RequestsTotal,
        Self::ResidentMemory,
        Self::ResponseDuration,
        Self::ResponseSize,
        Self::SslCertificate,
        Self::SslExpiry,
        Self::Started,
        Self::Success,
        Self::VirtualMemory,
        Self::WriteBytes,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn declaration(self) -> Declaration {
        let (kind, name, help, labels): (Kind, &str, &str, &'static [&'static str]) = match self {
            Self::BuildInfo => (
                Kind::Gauge,
                "nginx_ingress_controller_build_info",
                "Always 1; the labels tell the build.",
                &["release", "build", "repository"],
            ),
            Self::BytesSent => (
                Kind::Histogram,
                "nginx_ingress_controller_bytes_sent",
                "Bytes of response bodies, in powers of ten.",
                REQUEST,
            ),
            Self::ConfigHash => (
                Kind::Gauge,
                "nginx_ingress_controller_config_hash",
                "A number that is another one after each change of the configuration.",
                &[],
            ),
            Self::ConfigReloaded => (
                Kind::Gauge,
                "nginx_ingress_controller_config_last_reload_successful",
                "1 if the latest configuration was accepted.",
                &[],
            ),
            Self::ConfigReloadedAt => (
                Kind::Gauge,
                "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds",
                "When a configuration was last accepted, Unix time.",
                &[],
            ),
            Self::ConnectDuration => (
                Kind::Histogram,
                "nginx_ingress_controller_connect_duration_seconds",
                "Time of a request's last attempt to a connection with an endpoint; 0 on one that was open.",
                REQUEST,
            ),
            Self::Connections => (
                Kind::Gauge,
                "nginx_ingress_controller_nginx_process_connections",
                "Client connections by state: active is all of them, writing counts requests in progress, the others are waiting.",
                &["state"],
            ),
            Self::ConnectionsTotal => (
                Kind::Counter,
                "nginx_ingress_controller_nginx_process_connections_total",
                "Client connections accepted, and handled, which is the same here.",
                &["state"],
            ),
            Self::CpuSeconds => (
                Kind::Counter,
                "nginx_ingress_controller_nginx_process_cpu_seconds_total",
                "CPU time of the process.",
                &[],
            ),
            Self::Errors => (
                Kind::Counter,
                "nginx_ingress_controller_errors",
                "Configurations that were refused.",
                &[],
            ),
            Self::HeaderDuration => (
                Kind::Histogram,
                "nginx_ingress_controller_header_duration_seconds",
                "From a request's last attempt to the head of its response.",
                REQUEST,
            ),
            Self::LeaderElection => (
                Kind::Gauge,
                "nginx_ingress_controller_leader_election_status",
                "1 if this process holds the Lease.",
                &["name"],
            ),
            Self::OrphanIngress => (
                Kind::Gauge,
                "nginx_ingress_controller_orphan_ingress",
                "1 for an Ingress with a backend that cannot be served: no-service where the Service is missing, no-endpoint where nothing stands behind it.",
                &["namespace", "ingress", "type"],
            ),
            Self::Processes => (
                Kind::Gauge,
                "nginx_ingress_controller_nginx_process_num_procs",
                "Processes that serve.",
                &[],
            ),
            Self::ReadBytes => (
                Kind::Counter,
                "nginx_ingress_controller_nginx_process_read_bytes_total",
                "Bytes the process read from storage.",
                &[],
            ),
            Self::RequestDuration => (
                Kind::Histogram,
                "nginx_ingress_controller_request_duration_seconds",
                "From a request's complete head to the last byte of its response.",
                REQUEST,
            ),
            Self::RequestSize => (
                Kind::Histogram,
                "nginx_ingress_controller_request_size",
                "Bytes of request bodies.",
                REQUEST,
            ),
            Self::Requests => {
                (Kind::Counter, "nginx_ingress_controller_requests", "Requests finished.", REQUEST)
            }
            Self::RequestsTotal => (
                Kind::Counter,
                "nginx_ingress_controller_nginx_process_requests_total",
                "Requests begun, with those that no rule is for.",
                &[],
            ),
            Self::ResidentMemory => (
                Kind::Gauge,
                "nginx_ingress_controller_nginx_process_resident_memory_bytes",
                "Memory of the process that is in RAM.",
                &[],
            ),
            Self::ResponseDuration => (
                Kind::Histogram,
                "nginx_ingress_controller_response_duration_seconds",
                "From a request's last attempt to the last byte of its response.",
                REQUEST,
            ),
            Self::ResponseSize => (
                Kind::Histogram,
                "nginx_ingress_controller_response_size",
                "Bytes of response bodies.",
                REQUEST,
            ),
            Self::SslCertificate => (
                Kind::Gauge,
                "nginx_ingress_controller_ssl_certificate_info",
                "Always 1; the labels tell the certificate of a host.",
                &[
                    "namespace",
                    "secret_name",
                    "host",
                    "class",
                    "identifier",
                    "issuer_organization",
                    "issuer_common_name",
                    "serial_number",
                    "public_key_algorithm",
                ],
            ),
            Self::SslExpiry => (
                Kind::Gauge,
                "nginx_ingress_controller_ssl_expire_time_seconds",
                "When the certificate of a host stops being valid, Unix time.",
                CERTIFICATE,
            ),
            Self::Started => (
                Kind::Gauge,
                "nginx_ingress_controller_nginx_process_oldest_start_time_seconds",
                "When the process started, Unix time.",
                &[],
            ),
            Self::Success => (
                Kind::Counter,
                "nginx_ingress_controller_success",
                "Configurations that were accepted.",
                &[],
            ),
            Self::VirtualMemory => (
                Kind::Gauge,
                "nginx_ingress_controller_nginx_process_virtual_memory_bytes",
                "Address space of the process.",
                &[],
            ),
            Self::WriteBytes => (
                Kind::Counter,
                "nginx_ingress_controller_nginx_process_write_bytes_total",
                "Bytes the process wrote to storage.",
                &[],
            ),
        };
        Declaration { name, kind, help, labels }
    }
}
