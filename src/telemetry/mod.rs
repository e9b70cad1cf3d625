//! What the proxy tells its operators: reason flags, metrics, access log, operations log.
//!
//! It owns every metric family (declared in [`families`], those under ingress-nginx's names in
//! [`metrics`]), the access log with its writer thread and the set-up of the operations log. It
//! knows `ir` and `util` only: routes, upstreams and endpoints are names here, and whoever holds a
//! handle decides how long its series live.

pub mod access_log;
mod escape;
pub mod families;
mod grpc;
mod health;
mod load;
pub mod metrics;
mod reason;
pub mod tracing;

pub use access_log::{AccessLogger, HedgeOutcome, NginxFormat, Record, RecordText, Template};
pub use grpc::GrpcCode;
pub use health::{CheckResult, EjectionCause};
pub use load::ReportResult;
pub use metrics::{
    CertificateExpiry, Change, ControlMetrics, ControllerIdentity, EndpointMetrics, Exchange,
    IngressNginxMetrics, KubernetesMetrics, ListenerMetrics, LookupResult, MethodLabel, Metrics,
    NameMetrics, Phases, RouteMetrics, RuleLabels, RuleMetrics, SecretCertificate, UpstreamMetrics,
    WorkerId,
};
pub use reason::Reason;
