//! What holds for the whole process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::dump;

/// Process-wide settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Worker threads; `None` takes the CPUs that affinity and cgroup allow. Fixed at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// The zone this process stands in; `None` where it is not known. Fixed at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// The admin listener; fixed at start.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub admin: Admin,
    /// Peers whose forwarding headers are believed, on every listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<IpNet>,
    /// What upstreams are told about the client.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub forwarding: Forwarding,
    /// The access log; `None` writes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Whether that is said, so that a log which a provider has otherwise is not written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_access_log: bool,
    /// Limits on client connections and heads.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub limits: Limits,
    /// How a shutdown proceeds.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub drain: Drain,
    /// The form of the proxy's own error bodies.
    #[serde(skip_serializing_if = "dump::is_default")]
    pub errors: ErrorFormat,
    /// How endpoint names are looked up.
    #[serde(serialize_with = "dump::differing", skip_serializing_if = "dump::is_default")]
    pub resolver: ResolverOptions,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// Its address; `None` turns it off. Default `127.0.0.1:9900`.
    pub bind: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: Some(SocketAddr::from(([127, 0, 0, 1], 9900))) }
    }
}

/// Headers that tell upstreams about the client, beside the `X-Forwarded-*` family, `X-Real-IP`
/// and `X-Request-ID`, which are always sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forwarding {
    /// Sends `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// Sends `Via` both ways (RFC 9110 §7.6.3).
    pub via: bool,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccessLog {
    /// Where lines go.
    pub target: AccessLogTarget,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// Where access log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTarget {
    /// Appended to a file; SIGUSR1 opens it again.
    File(PathBuf),
    /// Standard output.
    #[default]
    Stdout,
}

/// How an access log line looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// The NCSA combined format.
    Combined,
    /// One JSON object a line.
    #[default]
    Json,
    /// Text with `$variable` in it, as nginx's `log_format` has it.
    Nginx {
        /// The text. A variable that is not known has no value.
        format: String,
        /// Whether values are escaped for JSON strings, and empty where there are none.
        json: bool,
    },
    /// Text with `{field}` in it, the field names of the JSON form.
    Template(String),
}

/// The line that ingress-nginx writes unless told otherwise, which its users' tools read.
const INGRESS_NGINX: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
    $body_bytes_sent \"$http_referer\" \"$http_user_agent\" $request_length $request_time \
    [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr \
    $upstream_response_length $upstream_response_time $upstream_status $req_id";

impl AccessLogFormat {
    /// ingress-nginx's default format.
    pub fn ingress_nginx() -> Self {
        Self::Nginx { format: INGRESS_NGINX.to_owned(), json: false }
    }
}

/// Limits on client connections and request heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// From accept, or from the first byte of a later request, to a complete head: PROXY
    /// protocol and TLS included. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub head_timeout: Duration,
    /// A kept-alive connection without a request. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub keep_alive: Duration,
    /// The largest request head, bytes. Default 32 KiB.
    pub head_size: usize,
    /// The most header fields. Default 100.
    pub header_count: usize,
    /// The longest request target, bytes; answered 414. Default 8 KiB.
    pub target_size: usize,
    /// Client connections at once over all workers; `None` takes half of what the file
    /// descriptor limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            head_size: 32 * 1024,
            header_count: 100,
            target_size: 8 * 1024,
            connections: None,
        }
    }
}

/// How a shutdown proceeds: not ready at once, accepting for `grace`, then finishing what is in
/// flight until `deadline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// How long new connections are still accepted. Default 10 s.
    #[serde(serialize_with = "dump::span")]
    pub grace: Duration,
    /// How long in-flight requests may take after that. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), deadline: Duration::from_secs(60) }
    }
}

/// The form of the proxy's own error bodies where the client has no preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorFormat {
    /// JSON.
    Json,
    /// Plain text; JSON for clients that accept it and not text.
    #[default]
    Text,
}

/// How endpoint names are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResolverOptions {
    /// The name servers; none means those of `/etc/resolv.conf`, with its search list and options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<SocketAddr>,
    /// Which addresses of a name are endpoints.
    pub family: AddressFamily,
    /// How long a name server may take; `None` is 5 s, or what `/etc/resolv.conf` says.
    #[serde(serialize_with = "dump::some_span", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The shortest time between two look-ups of a name, whatever its TTL. Default 1 s.
    #[serde(serialize_with = "dump::span")]
    pub min_ttl: Duration,
    /// The longest time an answer is used without asking again, whatever its TTL. Default 5 min.
    #[serde(serialize_with = "dump::span")]
    pub max_ttl: Duration,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            family: AddressFamily::default(),
            timeout: None,
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
        }
    }
}

/// Which addresses of a name are endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressFamily {
    /// The A records, and the AAAA records only where there is no A: a name that has both, such as
    /// `localhost`, is mostly one server.
    #[default]
    Auto,
    /// The A and the AAAA records, each an endpoint.
    Both,
    /// The A records.
    Ipv4,
    /// The AAAA records.
    Ipv6,
}
