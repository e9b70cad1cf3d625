//! ingress-nginx's ConfigMap: defaults for annotations, and settings of the whole controller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};
use ipnet::IpNet;
use serde::Serialize;

use super::keys::{Keys, Unhonoured};
use super::reader::Reader;
use super::value::{self, ObjectRef};
use super::{Annotations, Class, Finding, dump};
use crate::ir::AccessLogTarget;

/// What a ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParsedConfigMap {
    /// What holds where an object does not say otherwise. `auth.external` is what
    /// global-auth-url asks, for all objects that do not turn it off.
    pub defaults: Annotations,
    /// The texts of the annotations among these, by the annotation's name.
    #[serde(skip)]
    pub texts: BTreeMap<&'static str, String>,
    /// The same of those of global-auth-*.
    #[serde(skip)]
    pub auth_texts: BTreeMap<&'static str, String>,
    /// What holds for all of the controller.
    pub settings: ConfigMapSettings,
    /// Why nothing may be served: a list or service that restricts access cannot be set up.
    pub denied: Option<String>,
    /// One for each key.
    pub findings: Vec<Finding>,
}

/// Settings of the whole controller. `None` is what is not said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigMapSettings {
    /// Whether snippets of objects are read. ingress-nginx's default is false.
    pub allow_snippets: Option<bool>,
    /// Headers that custom-headers may set.
    #[serde(serialize_with = "dump::some_texts")]
    pub allowed_response_headers: Option<Vec<HeaderName>>,
    /// Who is never let in.
    pub block: Option<Vec<IpNet>>,
    /// Whether forwarding headers of those in `trusted` are believed.
    pub use_forwarded_headers: Option<bool>,
    /// Whether X-Forwarded-For is appended to instead of replaced.
    pub append_forwarded_for: Option<bool>,
    /// Whose PROXY protocol and forwarding headers are believed.
    pub trusted: Option<Vec<IpNet>>,
    /// Whether connections begin with the PROXY protocol.
    pub use_proxy_protocol: Option<bool>,
    /// TLS versions, as OpenSSL names them: `TLSv1.2`, `TLSv1.3`.
    pub ssl_protocols: Option<Vec<Arc<str>>>,
    /// Strict-Transport-Security. Default true.
    pub hsts: Option<bool>,
    /// Its max-age. Default one year.
    #[serde(serialize_with = "dump::span")]
    pub hsts_max_age: Option<Duration>,
    /// Its includeSubDomains. Default true.
    pub hsts_include_subdomains: Option<bool>,
    /// Its preload. Default false.
    pub hsts_preload: Option<bool>,
    /// The status of redirects to https. Default 308.
    #[serde(serialize_with = "dump::text")]
    pub redirect_code: Option<StatusCode>,
    /// Beginnings of paths that are not redirected to https.
    pub no_tls_redirect: Option<Vec<Arc<str>>>,
    /// Beginnings of paths without authentication.
    pub no_auth: Option<Vec<Arc<str>>>,
    /// HTTP/2 towards clients. Default true.
    pub http2: Option<bool>,
    /// Streams of one connection. Default 128.
    pub http2_streams: Option<u32>,
    /// For how long a connection may be idle. Default 75 s; zero is not at all.
    #[serde(serialize_with = "dump::span")]
    pub keep_alive: Option<Duration>,
    /// For how long a request's head may take. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub client_header_timeout: Option<Duration>,
    /// For how long a request's body may pause. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub client_body_timeout: Option<Duration>,
    /// Idle connections to each back end. Default 320.
    pub upstream_connections: Option<u32>,
    /// For how long they are kept. Default 60 s.
    #[serde(serialize_with = "dump::span")]
    pub upstream_idle: Option<Duration>,
    /// Whether requests that may not be idempotent are repeated. Default false.
    pub retry_non_idempotent: Option<bool>,
    /// The status of what limit-rps and limit-rpm refuse. Default 503.
    #[serde(serialize_with = "dump::text")]
    pub limit_req_status: Option<StatusCode>,
    /// The status of what limit-connections refuses. Default 503.
    #[serde(serialize_with = "dump::text")]
    pub limit_conn_status: Option<StatusCode>,
    /// A ConfigMap with headers of all responses.
    pub add_headers: Option<ObjectRef>,
    /// A ConfigMap with headers that all back ends get.
    pub proxy_set_headers: Option<ObjectRef>,
    /// Headers of back ends that clients do not get.
    #[serde(serialize_with = "dump::some_texts")]
    pub hide_headers: Option<Vec<HeaderName>>,
    /// Whether there is no access log. Default false.
    pub no_access_log: Option<bool>,
    /// A line of the access log, in nginx's language.
    pub log_format: Option<String>,
    /// Whether its values are escaped for JSON strings.
    pub log_json: Option<bool>,
    /// Where its lines go.
    pub log_target: Option<AccessLogTarget>,
    /// For how long connections may go on when the controller ends. Default 240 s.
    #[serde(serialize_with = "dump::span")]
    pub shutdown_timeout: Option<Duration>,
}

/// Keys that say a default for the annotation of the same name.
const SHARED: [&str; 31] = [
    "client-body-buffer-size",
    "custom-http-errors",
    "denylist-source-range",
    "force-ssl-redirect",
    "limit-rate",
    "limit-rate-after",
    "load-balance",
    "preserve-trailing-slash",
    "proxy-body-size",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-connect-timeout",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-next-upstream-tries",
    "proxy-read-timeout",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-request-buffering",
    "proxy-send-timeout",
    "relative-redirects",
    "service-upstream",
    "ssl-redirect",
    "use-port-in-redirects",
    "whitelist-source-range",
];

/// Keys of the authentication of all objects, and the annotations that say it of one.
const GLOBAL_AUTH: [(&str, &str); 9] = [
    ("global-auth-cache-duration", "auth-cache-duration"),
    ("global-auth-cache-key", "auth-cache-key"),
    ("global-auth-method", "auth-method"),
    ("global-auth-request-redirect", "auth-request-redirect"),
    ("global-auth-response-headers", "auth-response-headers"),
    ("global-auth-signin", "auth-signin"),
    ("global-auth-signin-redirect-param", "auth-signin-redirect-param"),
    ("global-auth-snippet", "auth-snippet"),
    ("global-auth-url", "auth-url"),
];

const SAFE: &str = "there is no configuration text that a value could get into";
const GZIP: &str = "responses are not compressed";
const TLS: &str = "it is the TLS library's own safe choice";
const SNIPPET: &str = "there is no nginx whose configuration it could be put into";
const TAKE_OUT: &str = "take it out";

const UNHONOURED: [Unhonoured; 44] = [
    ("access-log-params", "lines are written off the workers, together with others", TAKE_OUT),
    (
        "allow-cross-namespace-resources",
        "objects of other namespaces are not read",
        "copy the Secret or ConfigMap",
    ),
    ("annotation-value-word-blocklist", SAFE, TAKE_OUT),
    ("annotations-risk-level", SAFE, TAKE_OUT),
    (
        "block-referers",
        "requests are not refused by their Referer",
        "refuse them in a server-snippet with `if ($http_referer ~ …) { return 403; }`",
    ),
    (
        "block-user-agents",
        "requests are not refused by their User-Agent",
        "refuse them in a server-snippet with `if ($http_user_agent ~ …) { return 403; }`",
    ),
    ("brotli-*", GZIP, "compress in the application"),
    ("client-header-buffer-size", "heads are bounded by settings of its own", "see `limits`"),
    ("default-type", "responses keep the Content-Type they have", TAKE_OUT),
    (
        "enable-access-log-for-default-backend",
        "the default back end is a route as others",
        TAKE_OUT,
    ),
    ("enable-brotli", GZIP, "compress in the application"),
    (
        "enable-modsecurity",
        "there is no web application firewall in it",
        "put one before or behind",
    ),
    ("enable-ocsp", "OCSP responses are not fetched", TAKE_OUT),
    ("enable-opentelemetry", "spans are not sent", "trace in the application"),
    (
        "enable-owasp-modsecurity-crs",
        "there is no web application firewall in it",
        "put one before or behind",
    ),
    (
        "enable-real-ip",
        "whom to believe is said by proxy-real-ip-cidr",
        "use use-forwarded-headers and proxy-real-ip-cidr",
    ),
    ("enable-syslog", "the access log goes to a file or stream", "collect it there"),
    (
        "enable-underscores-in-headers",
        "names with underscores are dropped: back ends confuse them with others",
        "rename the header",
    ),
    (
        "forwarded-for-header",
        "addresses are read from X-Forwarded-For",
        "have the proxy before send that",
    ),
    ("generate-request-id", "every request has an id", TAKE_OUT),
    ("gzip-*", GZIP, "compress in the application"),
    ("http-snippet", SNIPPET, "see which setting does the same"),
    ("ignore-invalid-headers", "requests with invalid headers are refused", TAKE_OUT),
    ("keep-alive-requests", "a connection may have any number of requests", TAKE_OUT),
    ("large-client-header-buffers", "heads are bounded by settings of its own", "see `limits`"),
    ("location-snippet", SNIPPET, "write a configuration-snippet at the Ingress"),
    (
        "log-format-escape-none",
        "what came off the network is escaped always: one request is one line",
        "use log-format-escape-json",
    ),
    ("log-format-stream", "it is about connections that are no HTTP", TAKE_OUT),
    ("main-snippet", SNIPPET, "see which setting does the same"),
    ("max-worker-*", "connections are bounded by settings of its own", "see `limits`"),
    ("opentelemetry-*", "spans are not sent", "trace in the application"),
    ("otel-*", "spans are not sent", "trace in the application"),
    ("otlp-*", "spans are not sent", "trace in the application"),
    (
        "proxy-add-original-uri-header",
        "back ends do not get X-Original-URI",
        "use a snippet: `proxy_set_header X-Original-URI $request_uri;`",
    ),
    (
        "proxy-protocol-header-timeout",
        "one deadline covers everything up to the first head",
        TAKE_OUT,
    ),
    (
        "proxy-stream-*",
        "it is about connections that are no HTTP",
        "give them a Service of their own",
    ),
    ("server-snippet", SNIPPET, "write a server-snippet at the Ingress"),
    ("server-tokens", "no Server header is sent", TAKE_OUT),
    ("skip-access-log-urls", "lines are left out by route", "use the annotation enable-access-log"),
    ("ssl-*", TLS, TAKE_OUT),
    ("strict-validate-path-type", "paths are read as they are written", TAKE_OUT),
    (
        "upstream-keepalive-*",
        "connections to back ends are kept for ten minutes at most, for any number of requests",
        TAKE_OUT,
    ),
    ("use-gzip", GZIP, "compress in the application"),
    ("use-geoip*", "addresses are not looked up", "look them up in the application"),
];

/// Reads what the ConfigMap's `data` says.
pub fn parse_config_map(data: &BTreeMap<String, String>) -> ParsedConfigMap {
    let left = data.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut keys = Keys::new(left, "");
    let mut shared = Vec::new();
    for name in SHARED {
        shared.extend(keys.pass_on(name).map(|value| (name, name, value)));
    }
    for (key, name) in GLOBAL_AUTH {
        shared.extend(keys.pass_on(key).map(|value| (name, key, value)));
    }
    let mut reader = Reader::over(shared.iter().copied());
    let defaults = Annotations::read(&mut reader);
    let read = reader.finish(defaults);
    let settings = ConfigMapSettings::read(&mut keys);
    let mut findings = keys.finish(&UNHONOURED);
    findings.extend(read.findings);
    findings.sort_by(|a, b| a.annotation.cmp(&b.annotation));
    let good = |key: &str| {
        let said = |finding: &&Finding| finding.annotation == key;
        let class = findings.iter().find(said).map(|finding| finding.class);
        matches!(class, Some(Class::Honoured | Class::Difference))
    };
    let good = shared.into_iter().filter(|(_, key, _)| good(key));
    let good = good.map(|(name, key, value)| (name, key, value.to_owned()));
    let (texts, auth_texts): (Vec<_>, Vec<_>) = good.partition(|(name, key, _)| name == key);
    let by_name = |texts: Vec<(&'static str, &str, String)>| {
        texts.into_iter().map(|(name, _, value)| (name, value)).collect()
    };
    let (texts, auth_texts) = (by_name(texts), by_name(auth_texts));
    let denied = findings.iter().find(|finding| finding.class == Class::Denied);
    let denied = denied.map(|finding| format!("{}: {}", finding.annotation, finding.message));
    ParsedConfigMap { defaults: read.values, texts, auth_texts, settings, denied, findings }
}

impl ConfigMapSettings {
    fn read(keys: &mut Keys<'_>) -> Self {
        let names = |text: &str| value::list(text, value::header_name);
        let paths = |text: &str| value::list(text, value::path);
        let status = |text: &str| value::status(text, 400, 599);
        let no_http_log = keys.take("disable-http-access-log", value::boolean);
        let log_target = keys.take("access-log-path", log_target);
        let http_log_target = keys.take("http-access-log-path", self::log_target);
        Self {
            allow_snippets: keys.take("allow-snippet-annotations", value::boolean),
            allowed_response_headers: keys.take("global-allowed-response-headers", names),
            block: keys.guard("block-cidrs", value::networks),
            use_forwarded_headers: keys.take("use-forwarded-headers", value::boolean),
            append_forwarded_for: keys.take("compute-full-forwarded-for", value::boolean),
            // Wrong clients' addresses are let in by lists of addresses.
            trusted: keys.guard("proxy-real-ip-cidr", value::networks),
            use_proxy_protocol: keys.take("use-proxy-protocol", value::boolean),
            ssl_protocols: keys.take("ssl-protocols", protocols),
            hsts: keys.take("hsts", value::boolean),
            hsts_max_age: keys.take("hsts-max-age", value::seconds),
            hsts_include_subdomains: keys.take("hsts-include-subdomains", value::boolean),
            hsts_preload: keys.take("hsts-preload", value::boolean),
            redirect_code: keys.take("http-redirect-code", |text| value::status(text, 301, 308)),
            no_tls_redirect: keys.take("no-tls-redirect-locations", paths),
            no_auth: keys.take("no-auth-locations", paths),
            http2: keys.take("use-http2", value::boolean),
            http2_streams: keys.take("http2-max-concurrent-streams", value::positive),
            keep_alive: keys.take("keep-alive", value::duration),
            client_header_timeout: keys.take("client-header-timeout", value::duration),
            client_body_timeout: keys.take("client-body-timeout", value::duration),
            upstream_connections: keys.take("upstream-keepalive-connections", value::number),
            upstream_idle: keys.take("upstream-keepalive-timeout", value::duration),
            retry_non_idempotent: keys.take("retry-non-idempotent", value::boolean),
            limit_req_status: keys.take("limit-req-status-code", status),
            limit_conn_status: keys.take("limit-conn-status-code", status),
            add_headers: keys.take("add-headers", value::full_object),
            proxy_set_headers: keys.take("proxy-set-headers", value::full_object),
            hide_headers: keys.take("hide-headers", names),
            no_access_log: keys.take("disable-access-log", value::boolean).or(no_http_log),
            log_format: keys.take("log-format-upstream", log_format),
            log_json: keys.take("log-format-escape-json", value::boolean),
            log_target: http_log_target.or(log_target),
            shutdown_timeout: keys.take("worker-shutdown-timeout", value::duration),
        }
    }
}

fn log_format(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// The file that ingress-nginx's image has for it is standard output.
fn log_target(text: &str) -> Result<AccessLogTarget, String> {
    match text {
        "/dev/stdout" | "/var/log/nginx/access.log" => Ok(AccessLogTarget::Stdout),
        path if path.starts_with('/') => Ok(AccessLogTarget::File(path.into())),
        _ => Err("is no absolute path".to_owned()),
    }
}

fn protocols(text: &str) -> Result<Vec<Arc<str>>, String> {
    let known = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];
    match text.split_whitespace().find(|word| !known.contains(word)) {
        Some(word) => Err(format!("has `{word}` in it, which is no version of TLS")),
        None => Ok(text.split_whitespace().map(Arc::from).collect()),
    }
}
