//! ingress-nginx's command line, for those who move their arguments along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::dump;
use super::finding::{Class, Finding};
use super::keys::{Keys, Unhonoured};
use super::value::{self, ObjectRef};

/// What a command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParsedFlags {
    /// The values.
    pub flags: Flags,
    /// One for each flag.
    pub findings: Vec<Finding>,
}

/// Flags with an equivalent. `None` is what is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flags {
    /// The class that is served, by name: of the legacy annotation, and with `class_by_name`.
    pub ingress_class: Option<Arc<str>>,
    /// The class that is served, by its controller.
    pub controller_class: Option<Arc<str>>,
    /// Whether classes are also known by name.
    pub class_by_name: Option<bool>,
    /// Whether Ingresses without a class are served.
    pub without_class: Option<bool>,
    /// The one namespace that is watched.
    pub namespace: Option<Arc<str>>,
    /// Labels of the namespaces that are watched.
    pub namespace_selector: Option<Arc<str>>,
    /// Whether Ingresses for all hosts are not served.
    pub no_catch_all: Option<bool>,
    /// The prefix of annotations.
    pub annotations_prefix: Option<Arc<str>>,
    /// The Service whose addresses are published.
    pub publish_service: Option<ObjectRef>,
    /// The addresses that are published.
    pub publish_address: Option<Vec<Arc<str>>>,
    /// Whether nodes are published by their internal addresses.
    pub node_internal_ip: Option<bool>,
    /// Whether addresses are published at all.
    pub update_status: Option<bool>,
    /// Whether they are taken back at the end.
    pub update_status_on_shutdown: Option<bool>,
    /// The name of the Lease.
    pub election_id: Option<Arc<str>>,
    /// Whether each replica counts as the leader.
    pub no_election: Option<bool>,
    /// The certificate of last resort.
    pub default_certificate: Option<ObjectRef>,
    /// The Service for what no Ingress serves.
    pub default_backend: Option<ObjectRef>,
    /// The ConfigMap with defaults.
    pub config_map: Option<ObjectRef>,
    /// Whether ssl-passthrough does something.
    pub ssl_passthrough: Option<bool>,
    /// Whether Services of type ExternalName are refused.
    pub no_external_name: Option<bool>,
    /// Whether hints of endpoints are followed.
    pub topology_aware: Option<bool>,
    /// How long is waited before connections are ended.
    #[serde(serialize_with = "dump::span")]
    pub shutdown_grace: Option<Duration>,
    /// The port for http.
    pub http_port: Option<u16>,
    /// The port for https.
    pub https_port: Option<u16>,
    /// The port for health checks and metrics.
    pub healthz_port: Option<u16>,
}

/// Flags without a value are true.
const SWITCHES: [&str; 10] = [
    "disable-catch-all",
    "disable-leader-election",
    "disable-svc-external-name",
    "enable-ssl-passthrough",
    "enable-topology-aware-routing",
    "ingress-class-by-name",
    "report-node-internal-ip-address",
    "update-status",
    "update-status-on-shutdown",
    "watch-ingress-without-class",
];

const WEBHOOK: &str = "there is no admission webhook: a wrong object hurts only itself";
const METRICS: &str =
    "metrics are always there, and those of ingress-nginx with --ingress-nginx-metrics";
const STREAMS: &str = "connections that are no HTTP are not proxied";
const TAKE_OUT: &str = "take it out";

const UNHONOURED: [Unhonoured; 34] = [
    ("apiserver-host", "the address is taken from the environment or the kubeconfig", TAKE_OUT),
    ("certificate-authority", "it is taken from the environment or the kubeconfig", TAKE_OUT),
    ("deep-inspect", "there is no configuration text that a value could get into", TAKE_OUT),
    ("default-server-port", "the default back end is within the proxy", TAKE_OUT),
    ("disable-full-test", WEBHOOK, TAKE_OUT),
    ("disable-sync-events", "Events are written where something is wrong", TAKE_OUT),
    ("dynamic-configuration-retries", "no configuration is sent to another process", TAKE_OUT),
    ("election-ttl", "the Lease lasts for a time of its own", TAKE_OUT),
    ("enable-annotation-validation", "annotations are always validated", TAKE_OUT),
    ("enable-metrics", METRICS, TAKE_OUT),
    ("exclude-socket-metrics", METRICS, TAKE_OUT),
    ("health-check-path", "health is at /healthz and /readyz", "change the probes"),
    ("health-check-timeout", "health is answered at once", TAKE_OUT),
    ("healthz-host", "health is at the admin address", "see `admin`"),
    ("internal-logger-address", "logs go to the standard streams", TAKE_OUT),
    ("kubeconfig", "the kubeconfig is taken from KUBECONFIG", "set that"),
    ("length-buckets", METRICS, TAKE_OUT),
    ("maxmind-*", "addresses are not looked up", "look them up in the application"),
    ("metrics-per-*", METRICS, TAKE_OUT),
    ("monitor-max-batch-size", METRICS, TAKE_OUT),
    ("post-shutdown-grace-period", "the process ends when its connections have", TAKE_OUT),
    ("profiler-*", "there is no profiler in it", TAKE_OUT),
    ("profiling", "there is no profiler in it", TAKE_OUT),
    ("report-status-classes", METRICS, TAKE_OUT),
    ("size-buckets", METRICS, TAKE_OUT),
    ("ssl-passthrough-proxy-port", "passing through needs no port within", TAKE_OUT),
    ("status-port", "there is no nginx whose status could be asked", TAKE_OUT),
    ("status-update-interval", "addresses are published when they change", TAKE_OUT),
    ("stream-port", "there is no nginx that listens there", TAKE_OUT),
    ("sync-*", "changes are taken over at once", TAKE_OUT),
    ("tcp-services-configmap", STREAMS, "give them Services of type LoadBalancer"),
    ("time-buckets", METRICS, TAKE_OUT),
    ("udp-services-configmap", STREAMS, "give them Services of type LoadBalancer"),
    ("validating-webhook*", WEBHOOK, TAKE_OUT),
];

/// Reads arguments of ingress-nginx, without the program's name.
pub fn parse_flags(arguments: &[String]) -> ParsedFlags {
    let mut left = BTreeMap::new();
    let mut stray = Vec::new();
    let mut rest = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = rest.next() {
        let Some(flag) = argument.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            let text = "is no flag\nwrite flags as `--name=value`";
            stray.push(Finding::new(argument, Class::Ignored, text));
            continue;
        };
        match flag.split_once('=') {
            Some((name, value)) => left.insert(name, value),
            None if SWITCHES.contains(&flag) => left.insert(flag, "true"),
            // Its value is the next argument, unless that is a flag: then it is a switch.
            None => match rest.next_if(|next| !next.starts_with("--")) {
                Some(value) => left.insert(flag, value),
                None => left.insert(flag, "true"),
            },
        };
    }
    let mut keys = Keys::new(left, "--");
    let flags = Flags::read(&mut keys);
    let mut findings = keys.finish(&UNHONOURED);
    findings.extend(stray);
    findings.sort_by(|a, b| a.annotation.cmp(&b.annotation));
    ParsedFlags { flags, findings }
}

impl Flags {
    fn read(keys: &mut Keys<'_>) -> Self {
        Self {
            ingress_class: keys.take("ingress-class", value::line),
            controller_class: keys.take("controller-class", value::line),
            class_by_name: keys.take("ingress-class-by-name", value::boolean),
            without_class: keys.take("watch-ingress-without-class", value::boolean),
            namespace: keys.take("watch-namespace", value::line),
            namespace_selector: keys.take("watch-namespace-selector", value::line),
            no_catch_all: keys.take("disable-catch-all", value::boolean),
            annotations_prefix: keys.take("annotations-prefix", value::line),
            publish_service: keys.take("publish-service", own_object),
            publish_address: keys
                .take("publish-status-address", |text| value::list(text, value::line)),
            node_internal_ip: keys.take("report-node-internal-ip-address", value::boolean),
            update_status: keys.take("update-status", value::boolean),
            update_status_on_shutdown: keys.take("update-status-on-shutdown", value::boolean),
            election_id: keys.take("election-id", value::line),
            no_election: keys.take("disable-leader-election", value::boolean),
            default_certificate: keys.take("default-ssl-certificate", own_object),
            default_backend: keys.take("default-backend-service", own_object),
            config_map: keys.take("configmap", own_object),
            ssl_passthrough: keys.take("enable-ssl-passthrough", value::boolean),
            no_external_name: keys.take("disable-svc-external-name", value::boolean),
            topology_aware: keys.take("enable-topology-aware-routing", value::boolean),
            shutdown_grace: keys.take("shutdown-grace-period", value::seconds),
            http_port: keys.take("http-port", port),
            https_port: keys.take("https-port", port),
            healthz_port: keys.take("healthz-port", port),
        }
    }
}

/// `namespace/name`; manifests write the namespace as `$(POD_NAMESPACE)`, which Kubernetes puts
/// the name in place of, and which may stand here when they are only checked.
fn own_object(text: &str) -> Result<ObjectRef, String> {
    match text.strip_prefix("$(POD_NAMESPACE)/") {
        Some(name) => value::object(name),
        None => value::full_object(text),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "is no port".to_owned())
}
