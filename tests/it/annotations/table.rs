//! The table: an Ingress each, its annotations, and what requests show of them.

/// An Ingress for the host `NAME.example`, with `/` to Service `one`.
#[derive(Default)]
pub struct Case {
    pub name: &'static str,
    /// By name and value; `@namespace@` stands for the namespace.
    pub annotations: &'static [(&'static str, &'static str)],
    /// The path in place of `/`, left to the class.
    pub path: Option<&'static str>,
    /// The same for a second Ingress, to Service `two`; it is marked as a canary.
    pub canary: &'static [(&'static str, &'static str)],
    /// Whether it has a TLS section.
    pub tls: bool,
    /// Whether the back end is reached at its TLS port.
    pub secure: bool,
    pub asks: &'static [Ask],
}

/// A request with what is wanted of the answer.
///
/// The request is method and target, then header lines, one of which may be `Host`. Wanted are the
/// status, then each of: `body KEY=VALUE` of what the back end tells, `sent NAME: VALUE` of the
/// headers that it got, and otherwise a header of the answer with a part of its value.
pub struct Ask(pub &'static [&'static str], pub u16, pub &'static [&'static str]);

const PLAIN: &[Ask] = &[Ask(&["GET /"], 200, &["body service=one"])];

/// For those that are not in this file.
const NONE: Case = Case {
    name: "",
    annotations: &[],
    path: None,
    canary: &[],
    tls: false,
    secure: false,
    asks: PLAIN,
};

pub const CASES: &[Case] = &[
    // Paths and redirects.
    Case {
        name: "rewrite",
        annotations: &[("rewrite-target", "/v1/$1"), ("x-forwarded-prefix", "/api")],
        path: Some("/api/(.*)"),
        asks: &[Ask(
            &["GET /api/a?b=c"],
            200,
            &["body path=/v1/a?b=c", "sent X-Forwarded-Prefix: /api"],
        )],
        ..NONE
    },
    Case {
        name: "regex",
        annotations: &[("use-regex", "true")],
        path: Some("/a[0-9]+"),
        asks: &[Ask(&["GET /A12"], 200, &[]), Ask(&["GET /ab"], 404, &[])],
        ..NONE
    },
    Case {
        name: "app-root",
        annotations: &[("app-root", "/home")],
        asks: &[
            Ask(&["GET /"], 302, &["Location: http://app-root.example/home"]),
            Ask(&["GET /x"], 200, &[]),
        ],
        ..NONE
    },
    Case {
        name: "relative",
        annotations: &[("app-root", "/home"), ("relative-redirects", "true")],
        asks: &[Ask(&["GET /"], 302, &["Location: /home"])],
        ..NONE
    },
    Case {
        name: "alias",
        annotations: &[("server-alias", "also.example")],
        asks: &[Ask(&["GET /", "Host: also.example"], 200, &["body host=also.example"])],
        ..NONE
    },
    Case {
        name: "from-to-www",
        annotations: &[("from-to-www-redirect", "true")],
        asks: &[Ask(
            &["GET /x", "Host: www.from-to-www.example"],
            308,
            &["Location: http://from-to-www.example/x"],
        )],
        ..NONE
    },
    Case {
        name: "permanent",
        annotations: &[("permanent-redirect", "https://there.example/x")],
        asks: &[Ask(&["GET /"], 301, &["Location: https://there.example/x"])],
        ..NONE
    },
    Case {
        name: "permanent-code",
        annotations: &[
            ("permanent-redirect", "https://there.example/x"),
            ("permanent-redirect-code", "308"),
        ],
        asks: &[Ask(&["GET /"], 308, &["Location: https://there.example/x"])],
        ..NONE
    },
    Case {
        name: "temporal",
        annotations: &[
            ("temporal-redirect", "https://there.example/x"),
            ("temporal-redirect-code", "307"),
        ],
        asks: &[Ask(&["GET /"], 307, &["Location: https://there.example/x"])],
        ..NONE
    },
    Case { name: "no-ssl-redirect", annotations: &[("ssl-redirect", "false")], tls: true, ..NONE },
    Case {
        name: "force-ssl",
        annotations: &[("force-ssl-redirect", "true"), ("preserve-trailing-slash", "true")],
        asks: &[Ask(&["GET /x/"], 308, &["Location: https://force-ssl.example/x/"])],
        ..NONE
    },
    Case {
        name: "with-port",
        annotations: &[("force-ssl-redirect", "true"), ("use-port-in-redirects", "true")],
        asks: &[Ask(&["GET /x"], 308, &["Location: https://with-port.example:"])],
        ..NONE
    },
    Case {
        name: "proxy-redirect",
        annotations: &[
            ("proxy-redirect-from", "http://inner/"),
            ("proxy-redirect-to", "https://outer/"),
        ],
        asks: &[Ask(
            &["GET /?status=302&header=Location:http://inner/x"],
            302,
            &["Location: https://outer/x"],
        )],
        ..NONE
    },
    // What the back end is sent.
    Case {
        name: "vhost",
        annotations: &[
            ("upstream-vhost", "inner.example"),
            ("connection-proxy-header", "keep-alive"),
        ],
        asks: &[Ask(&["GET /"], 200, &["body host=inner.example"])],
        ..NONE
    },
    Case {
        name: "http-version",
        annotations: &[("proxy-http-version", "1.1")],
        asks: &[Ask(&["GET /"], 200, &["body proto=HTTP/1.1"])],
        ..NONE
    },
    Case {
        name: "https",
        annotations: &[
            ("backend-protocol", "HTTPS"),
            ("proxy-ssl-secret", "@namespace@/backend-ca"),
            ("proxy-ssl-verify", "on"),
            ("proxy-ssl-name", "backend.example"),
            ("proxy-ssl-server-name", "on"),
        ],
        secure: true,
        asks: &[Ask(&["GET /"], 200, &["server backend.example"])],
        ..NONE
    },
    Case {
        name: "https-wrong",
        annotations: &[
            ("backend-protocol", "HTTPS"),
            ("proxy-ssl-secret", "@namespace@/backend-ca"),
            ("proxy-ssl-verify", "on"),
            ("proxy-ssl-name", "other.example"),
        ],
        secure: true,
        asks: &[Ask(&["GET /"], 502, &[])],
        ..NONE
    },
    Case { name: "service", annotations: &[("service-upstream", "true")], ..NONE },
    Case { name: "least", annotations: &[("load-balance", "ewma")], ..NONE },
    Case { name: "hash", annotations: &[("upstream-hash-by", "$arg_k")], ..NONE },
    Case {
        name: "snippet",
        annotations: &[("configuration-snippet", "more_set_headers \"X-Snippet: yes\";")],
        asks: &[Ask(&["GET /"], 200, &["X-Snippet: yes"])],
        ..NONE
    },
    Case {
        name: "server-snippet",
        annotations: &[("server-snippet", "more_set_headers \"X-Server: yes\";")],
        asks: &[Ask(&["GET /"], 200, &["X-Server: yes"])],
        ..NONE
    },
    // Errors.
    Case {
        name: "errors",
        annotations: &[("custom-http-errors", "418"), ("default-backend", "two")],
        asks: &[Ask(&["GET /?status=418"], 200, &["body service=two", "sent X-Code: 418"])],
        ..NONE
    },
    Case {
        name: "no-errors",
        annotations: &[("disable-proxy-intercept-errors", "true")],
        asks: &[Ask(&["GET /?status=418"], 418, &["body service=one"])],
        ..NONE
    },
    Case {
        name: "slow",
        annotations: &[
            ("proxy-read-timeout", "1"),
            ("proxy-connect-timeout", "2"),
            ("proxy-send-timeout", "3"),
        ],
        asks: &[Ask(&["GET /"], 200, &[]), Ask(&["GET /?delay=5s"], 504, &[])],
        ..NONE
    },
    Case {
        name: "again",
        annotations: &[
            ("proxy-next-upstream", "error http_503"),
            ("proxy-next-upstream-tries", "2"),
            ("proxy-next-upstream-timeout", "5"),
        ],
        asks: &[Ask(&["GET /?status=503"], 503, &[]), Ask(&["GET /"], 200, &[])],
        ..NONE
    },
    // Bodies.
    Case {
        name: "body",
        annotations: &[
            ("proxy-body-size", "10"),
            ("client-body-buffer-size", "1k"),
            ("proxy-request-buffering", "off"),
        ],
        asks: &[
            Ask(&["POST /", "Content-Length: 3"], 200, &["body body=aaa"]),
            Ask(&["POST /", "Content-Length: 20"], 413, &[]),
        ],
        ..NONE
    },
    Case {
        name: "buffers",
        annotations: &[
            ("proxy-buffering", "on"),
            ("proxy-buffer-size", "8k"),
            ("proxy-buffers-number", "8"),
            ("enable-access-log", "false"),
            ("limit-rate", "1000"),
            ("limit-rate-after", "1"),
        ],
        asks: &[Ask(&["GET /?size=1000"], 200, &["Content-Type: application/octet-stream"])],
        ..NONE
    },
    Case {
        name: "cookies",
        annotations: &[
            ("proxy-cookie-domain", "inner.example outer.example"),
            ("proxy-cookie-path", "/in /out"),
        ],
        asks: &[Ask(
            &["GET /?header=Set-Cookie:a=b%3BDomain=inner.example%3BPath=/in"],
            200,
            &["Set-Cookie: outer.example", "Set-Cookie: /out"],
        )],
        ..NONE
    },
    // Who may.
    Case {
        name: "allow",
        annotations: &[("allowlist-source-range", "192.0.2.0/24")],
        asks: &[Ask(&["GET /"], 403, &[])],
        ..NONE
    },
    Case {
        name: "white",
        annotations: &[("whitelist-source-range", "192.0.2.0/24")],
        asks: &[Ask(&["GET /"], 403, &[])],
        ..NONE
    },
    Case {
        name: "deny",
        annotations: &[("denylist-source-range", "10.0.0.0/8")],
        asks: &[Ask(&["GET /"], 403, &[])],
        ..NONE
    },
    Case {
        name: "basic",
        annotations: &[
            ("auth-type", "basic"),
            ("auth-secret", "people"),
            ("auth-secret-type", "auth-map"),
            ("auth-realm", "Staff only"),
        ],
        asks: &[
            Ask(&["GET /"], 401, &["WWW-Authenticate: Staff only"]),
            Ask(&["GET /", "Authorization: Basic YW5uYTpzZWNyZXQ="], 200, &[]),
        ],
        ..NONE
    },
    Case {
        name: "satisfy",
        annotations: &[
            ("auth-type", "basic"),
            ("auth-secret", "people"),
            ("auth-secret-type", "auth-map"),
            ("whitelist-source-range", "10.0.0.0/8"),
            ("satisfy", "any"),
        ],
        ..NONE
    },
    Case {
        name: "auth-url",
        annotations: &[
            ("auth-url", "http://two.@namespace@.svc.cluster.local:8080/?header=X-User:anna"),
            ("auth-response-headers", "X-User"),
            ("auth-method", "POST"),
            ("auth-request-redirect", "https://back.example/"),
        ],
        asks: &[Ask(&["GET /"], 200, &["body service=one", "sent X-User: anna"])],
        ..NONE
    },
    Case {
        name: "signin",
        annotations: &[
            (
                "auth-url",
                "http://two.@namespace@.svc.cluster.local:8080/?status=401&header=Set-Cookie:s=1",
            ),
            ("auth-signin", "https://login.example/start"),
            ("auth-signin-redirect-param", "back"),
            ("auth-always-set-cookie", "true"),
        ],
        asks: &[Ask(&["GET /x"], 302, &["Location: https://login.example/start?back=http"])],
        ..NONE
    },
    Case {
        name: "cors",
        annotations: &[
            ("enable-cors", "true"),
            ("cors-allow-origin", "https://app.example"),
            ("cors-allow-methods", "GET, PUT"),
            ("cors-allow-headers", "X-Wanted"),
            ("cors-allow-credentials", "true"),
            ("cors-expose-headers", "X-Shown"),
            ("cors-max-age", "77"),
        ],
        asks: &[
            Ask(
                &["OPTIONS /", "Origin: https://app.example", "Access-Control-Request-Method: PUT"],
                204,
                &[
                    "Access-Control-Allow-Origin: https://app.example",
                    "Access-Control-Allow-Methods: PUT",
                    "Access-Control-Allow-Headers: x-wanted",
                    "Access-Control-Allow-Credentials: true",
                    "Access-Control-Max-Age: 77",
                ],
            ),
            Ask(
                &["GET /", "Origin: https://app.example"],
                200,
                &[
                    "Access-Control-Allow-Origin: https://app.example",
                    "Access-Control-Expose-Headers: x-shown",
                ],
            ),
        ],
        ..NONE
    },
    // Which back end.
    Case {
        name: "sticky",
        annotations: &[
            ("affinity", "cookie"),
            ("affinity-mode", "persistent"),
            ("session-cookie-name", "stuck"),
            ("session-cookie-path", "/p"),
            ("session-cookie-domain", "sticky.example"),
            ("session-cookie-samesite", "Lax"),
            ("session-cookie-secure", "true"),
            ("session-cookie-max-age", "1800"),
        ],
        asks: &[Ask(
            &["GET /"],
            200,
            &[
                "Set-Cookie: stuck=",
                "Set-Cookie: Path=/p",
                "Set-Cookie: Domain=sticky.example",
                "Set-Cookie: SameSite=Lax",
                "Set-Cookie: Secure",
                "Set-Cookie: Max-Age=1800",
            ],
        )],
        ..NONE
    },
    // How long from now, for which there is an attribute of its own.
    Case {
        name: "sticky-until",
        annotations: &[("affinity", "cookie"), ("session-cookie-expires", "3600")],
        asks: &[Ask(&["GET /"], 200, &["Set-Cookie: INGRESSCOOKIE=", "Set-Cookie: Max-Age=3600"])],
        ..NONE
    },
    Case {
        name: "by-header",
        canary: &[("canary-by-header", "X-Canary")],
        asks: &[
            Ask(&["GET /", "X-Canary: always"], 200, &["body service=two"]),
            Ask(&["GET /", "X-Canary: never"], 200, &["body service=one"]),
        ],
        ..NONE
    },
    Case {
        name: "by-value",
        canary: &[("canary-by-header", "X-Canary"), ("canary-by-header-value", "me")],
        asks: &[
            Ask(&["GET /", "X-Canary: me"], 200, &["body service=two"]),
            Ask(&["GET /", "X-Canary: you"], 200, &["body service=one"]),
        ],
        ..NONE
    },
    Case {
        name: "by-pattern",
        canary: &[("canary-by-header", "X-Canary"), ("canary-by-header-pattern", "^m.+$")],
        asks: &[
            Ask(&["GET /", "X-Canary: mine"], 200, &["body service=two"]),
            Ask(&["GET /", "X-Canary: you"], 200, &["body service=one"]),
        ],
        ..NONE
    },
    Case {
        name: "by-cookie",
        annotations: &[("affinity", "cookie"), ("affinity-canary-behavior", "legacy")],
        canary: &[("canary-by-cookie", "canary")],
        asks: &[
            Ask(&["GET /", "Cookie: canary=always"], 200, &["body service=two"]),
            Ask(&["GET /"], 200, &["body service=one"]),
        ],
        ..NONE
    },
    Case {
        name: "by-weight",
        canary: &[("canary-weight", "500"), ("canary-weight-total", "500")],
        asks: &[Ask(&["GET /"], 200, &["body service=two"])],
        ..NONE
    },
    // How much: twenty requests follow, see there.
    Case {
        name: "rps",
        annotations: &[("limit-rps", "1"), ("limit-burst-multiplier", "1")],
        ..NONE
    },
    Case {
        name: "rpm",
        annotations: &[("limit-rpm", "1"), ("limit-burst-multiplier", "1")],
        ..NONE
    },
    Case { name: "connections", annotations: &[("limit-connections", "1")], ..NONE },
    Case {
        name: "exempt",
        annotations: &[("limit-rpm", "1"), ("limit-allowlist", "10.0.0.0/8")],
        ..NONE
    },
    Case {
        name: "exempt-too",
        annotations: &[("limit-rpm", "1"), ("limit-whitelist", "10.0.0.0/8")],
        ..NONE
    },
];

/// Hosts of which some of twenty requests are refused, and those of which none is.
pub const LIMITED: [&str; 3] = ["rps", "rpm", "connections"];
pub const EXEMPT: [&str; 2] = ["exempt", "exempt-too"];

/// Honoured, and shown by requests through Portcullis in other tests: they want client
/// certificates, TLS that is passed on, or a ConfigMap of the controller.
pub const ELSEWHERE: &[&str] = &[
    "auth-tls-error-page",
    "auth-tls-match-cn",
    "auth-tls-pass-certificate-to-upstream",
    "auth-tls-secret",
    "auth-tls-verify-client",
    "auth-tls-verify-depth",
    "custom-headers",
    "enable-global-auth",
    "ssl-passthrough",
];
