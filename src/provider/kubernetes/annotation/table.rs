//! Every annotation of ingress-nginx 1.15 by name: whether it is honoured, and if not, why and what
//! to do instead. The one place that decides it.

/// Whether and how an annotation is honoured. Reasons and remedies are parts of sentences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As in ingress-nginx.
    Honoured,
    /// Honoured, with this difference.
    Differently(&'static str),
    /// Reported; the object is served without it.
    Unsupported {
        /// Why it is not honoured.
        reason: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Reported, and the object's requests are answered 503: without it access would be less
    /// restricted than was asked for.
    Denies {
        /// Why it cannot be honoured.
        reason: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
}

type Row = (&'static str, Support);

const fn yes(name: &'static str) -> Row {
    (name, Support::Honoured)
}

const fn but(name: &'static str, difference: &'static str) -> Row {
    (name, Support::Differently(difference))
}

const fn no(name: &'static str, reason: &'static str, remedy: &'static str) -> Row {
    (name, Support::Unsupported { reason, remedy })
}

const fn never(name: &'static str, reason: &'static str, remedy: &'static str) -> Row {
    (name, Support::Denies { reason, remedy })
}

const BUFFERS: &str = "with `proxy-buffering: on` up to 1 MiB of a response (more where the buffers are larger, \
                       up to 16 MiB; no more than they hold with `proxy-max-temp-file-size: 0`) is \
                       read ahead of a slow client, in memory; nothing is written to disk";
const REQUEST_BUFFERS: &str = "`on`, the default, reads the first 1 MiB of a request body (more with \
                               `client-body-buffer-size`, up to 16 MiB) into memory before a back \
                               end gets any of it; what is longer, or finds no room, is streamed; \
                               nothing is written to disk";
const TLS_SETTINGS: &str = "cipher suites are the TLS library's own safe choice";
const TAKE_OUT: &str = "take it out";
const FIREWALL: &str = "there is no web application firewall in it";
const FIREWALL_REMEDY: &str = "put one before or behind";
const TRACING: &str = "spans are not sent";
const TRACING_REMEDY: &str = "trace in the application; X-Request-ID and traceparent are passed on";
const MIRROR: &str = "requests are not mirrored";
const MIRROR_REMEDY: &str = "mirror in the application or a service mesh";
const AUTH_POOL: &str = "connections to the authentication service are kept open anyway";
const FCGI: &str = "FastCGI is not spoken";
const FCGI_REMEDY: &str = "put a web server that speaks HTTP before the application";

const TABLE: [Row; 139] = [
    yes("affinity"),
    yes("affinity-canary-behavior"),
    yes("affinity-mode"),
    yes("allowlist-source-range"),
    yes("app-root"),
    yes("auth-always-set-cookie"),
    but("auth-cache-duration", "what the service says of its answer can only make it shorter"),
    but(
        "auth-cache-key",
        "the host asked for and the URL of `auth-url` are part of the key, too, and who has nothing of \
         it is never let in by an answer that was kept",
    ),
    no("auth-keepalive", AUTH_POOL, TAKE_OUT),
    no("auth-keepalive-requests", AUTH_POOL, TAKE_OUT),
    no(
        "auth-keepalive-share-vars",
        "the authentication service is asked in a request of its own",
        TAKE_OUT,
    ),
    no("auth-keepalive-timeout", AUTH_POOL, TAKE_OUT),
    yes("auth-method"),
    never(
        "auth-proxy-set-headers",
        "the authentication service cannot be given other headers, and might decide otherwise without them",
        "have it decide by the headers of the request and by X-Original-URL and X-Original-Method",
    ),
    yes("auth-realm"),
    yes("auth-request-redirect"),
    yes("auth-response-headers"),
    yes("auth-secret"),
    yes("auth-secret-type"),
    yes("auth-signin"),
    yes("auth-signin-redirect-param"),
    never(
        "auth-snippet",
        "directives for the request to the authentication service are not taken, and it might decide otherwise without them",
        "have it decide by the headers of the request and by X-Original-URL and X-Original-Method",
    ),
    yes("auth-tls-error-page"),
    yes("auth-tls-match-cn"),
    yes("auth-tls-pass-certificate-to-upstream"),
    yes("auth-tls-secret"),
    yes("auth-tls-verify-client"),
    yes("auth-tls-verify-depth"),
    yes("auth-type"),
    yes("auth-url"),
    yes("backend-protocol"),
    yes("canary"),
    yes("canary-by-cookie"),
    yes("canary-by-header"),
    yes("canary-by-header-pattern"),
    yes("canary-by-header-value"),
    yes("canary-weight"),
    yes("canary-weight-total"),
    but(
        "client-body-buffer-size",
        "is the most of a request body that is kept in memory; nothing is written to disk",
    ),
    yes("configuration-snippet"),
    yes("connection-proxy-header"),
    yes("cors-allow-credentials"),
    yes("cors-allow-headers"),
    yes("cors-allow-methods"),
    yes("cors-allow-origin"),
    yes("cors-expose-headers"),
    yes("cors-max-age"),
    yes("custom-headers"),
    yes("custom-http-errors"),
    yes("default-backend"),
    yes("denylist-source-range"),
    yes("disable-proxy-intercept-errors"),
    yes("enable-access-log"),
    yes("enable-cors"),
    yes("enable-global-auth"),
    no("enable-modsecurity", FIREWALL, FIREWALL_REMEDY),
    no("enable-opentelemetry", TRACING, TRACING_REMEDY),
    no("enable-owasp-core-rules", FIREWALL, FIREWALL_REMEDY),
    no(
        "enable-rewrite-log",
        "there is no log of rewrites",
        "ask `portcullis explain` what becomes of a URL",
    ),
    no("fastcgi-index", FCGI, FCGI_REMEDY),
    no("fastcgi-params-configmap", FCGI, FCGI_REMEDY),
    yes("force-ssl-redirect"),
    yes("from-to-www-redirect"),
    no("http2-push-preload", "HTTP/2 push is gone from browsers", TAKE_OUT),
    yes("limit-allowlist"),
    yes("limit-burst-multiplier"),
    yes("limit-connections"),
    but("limit-rate", "needs no `proxy-buffering`"),
    yes("limit-rate-after"),
    yes("limit-rpm"),
    yes("limit-rps"),
    yes("limit-whitelist"),
    but(
        "load-balance",
        "`ewma` and `round_robin` pick by the same names here; failing endpoints get fewer requests",
    ),
    no("mirror-host", MIRROR, MIRROR_REMEDY),
    no("mirror-request-body", MIRROR, MIRROR_REMEDY),
    no("mirror-target", MIRROR, MIRROR_REMEDY),
    no("modsecurity-snippet", FIREWALL, FIREWALL_REMEDY),
    no("modsecurity-transaction-id", FIREWALL, FIREWALL_REMEDY),
    no("opentelemetry-operation-name", TRACING, TRACING_REMEDY),
    no("opentelemetry-trust-incoming-span", TRACING, TRACING_REMEDY),
    yes("permanent-redirect"),
    yes("permanent-redirect-code"),
    yes("preserve-trailing-slash"),
    yes("proxy-body-size"),
    but(
        "proxy-buffer-size",
        "counts as the size of each of `proxy-buffers-number`; the head of a response may have up to \
         64 KiB whatever it says",
    ),
    but("proxy-buffering", BUFFERS),
    but("proxy-buffers-number", BUFFERS),
    no("proxy-busy-buffers-size", "a client gets at once what it takes of a response", TAKE_OUT),
    yes("proxy-connect-timeout"),
    yes("proxy-cookie-domain"),
    yes("proxy-cookie-path"),
    yes("proxy-http-version"),
    but("proxy-max-temp-file-size", BUFFERS),
    yes("proxy-next-upstream"),
    yes("proxy-next-upstream-timeout"),
    yes("proxy-next-upstream-tries"),
    yes("proxy-read-timeout"),
    yes("proxy-redirect-from"),
    yes("proxy-redirect-to"),
    but("proxy-request-buffering", REQUEST_BUFFERS),
    yes("proxy-send-timeout"),
    no("proxy-ssl-ciphers", TLS_SETTINGS, TAKE_OUT),
    yes("proxy-ssl-name"),
    no(
        "proxy-ssl-protocols",
        "TLS 1.2 and 1.3 are offered to every back end",
        "settle it in the back end",
    ),
    yes("proxy-ssl-secret"),
    yes("proxy-ssl-server-name"),
    yes("proxy-ssl-verify"),
    no(
        "proxy-ssl-verify-depth",
        "the length of a back end's chain is bounded by the TLS library",
        "trust a certificate authority that signs few others",
    ),
    but(
        "relative-redirects",
        "`permanent-redirect` and `temporal-redirect` to a path name no host in any case",
    ),
    yes("rewrite-target"),
    yes("satisfy"),
    yes("server-alias"),
    yes("server-snippet"),
    yes("service-upstream"),
    no(
        "session-cookie-change-on-failure",
        "a client whose endpoint is gone gets a new cookie; one whose endpoint fails for a moment keeps its own",
        TAKE_OUT,
    ),
    no(
        "session-cookie-conditional-samesite-none",
        "browsers that do not know SameSite=None are not told from others",
        "use session-cookie-samesite",
    ),
    yes("session-cookie-domain"),
    yes("session-cookie-expires"),
    yes("session-cookie-max-age"),
    yes("session-cookie-name"),
    no("session-cookie-partitioned", "the session's cookie has no Partitioned attribute", TAKE_OUT),
    yes("session-cookie-path"),
    yes("session-cookie-samesite"),
    yes("session-cookie-secure"),
    no("ssl-ciphers", TLS_SETTINGS, TAKE_OUT),
    yes("ssl-passthrough"),
    no("ssl-prefer-server-ciphers", TLS_SETTINGS, TAKE_OUT),
    yes("ssl-redirect"),
    no(
        "stream-snippet",
        "it is about connections that are no HTTP",
        "give them a Service of their own",
    ),
    yes("temporal-redirect"),
    yes("temporal-redirect-code"),
    yes("upstream-hash-by"),
    no("upstream-hash-by-subset", "a key goes to one endpoint, not to several", TAKE_OUT),
    no("upstream-hash-by-subset-size", "a key goes to one endpoint, not to several", TAKE_OUT),
    yes("upstream-vhost"),
    yes("use-port-in-redirects"),
    yes("use-regex"),
    yes("whitelist-source-range"),
    yes("x-forwarded-prefix"),
];

/// Annotations that restrict access: where they cannot be read, nobody gets in.
const GUARDS: [&str; 18] = [
    "allowlist-source-range",
    "auth-method",
    "auth-realm",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-tls-match-cn",
    "auth-tls-secret",
    "auth-tls-verify-client",
    "auth-tls-verify-depth",
    "auth-type",
    "auth-url",
    "configuration-snippet",
    "denylist-source-range",
    "proxy-ssl-secret",
    "server-snippet",
    "whitelist-source-range",
];

/// Annotations that people write in several lines: lists and snippets.
const LINES: [&str; 11] = [
    "allowlist-source-range",
    "auth-response-headers",
    "configuration-snippet",
    "cors-allow-headers",
    "cors-allow-origin",
    "cors-expose-headers",
    "denylist-source-range",
    "limit-allowlist",
    "limit-whitelist",
    "server-snippet",
    "whitelist-source-range",
];

/// The names, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Whether the annotation `name` (without a prefix) is honoured; `None` where there is none.
pub fn support(name: &str) -> Option<Support> {
    find(name).map(|(_, support)| support)
}

pub(super) fn find(name: &str) -> Option<Row> {
    TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|index| TABLE[index])
}

pub(super) fn is_guard(name: &str) -> bool {
    GUARDS.contains(&name)
}

/// Whether an object without `name` would mean something else.
pub(super) fn is_essential(name: &str) -> bool {
    matches!(
        name,
        "rewrite-target"
            | "permanent-redirect"
            | "temporal-redirect"
            | "limit-rps"
            | "limit-rpm"
            | "limit-connections"
    )
}

pub(super) fn may_have_lines(name: &str) -> bool {
    LINES.contains(&name)
}

/// Whether ingress-nginx looks at `name` on a canary, beside `canary-*`.
pub(super) fn counts_on_a_canary(name: &str) -> bool {
    matches!(
        name,
        "affinity"
            | "affinity-canary-behavior"
            | "load-balance"
            | "upstream-hash-by"
            | "service-upstream"
    )
}
