//! What other proxies call things: hints for those who come from there.

/// The hint for a key of the raw struct `structure`, or a word of that enum, which this language
/// does not have.
pub(super) fn hint(structure: &str, word: &str) -> Option<&'static str> {
    Some(match (structure, word) {
        ("Algorithm", word) => algorithm(word)?,
        ("Balance", "client_ip" | "random" | "round_robin") => {
            "it has no parameters: write it without braces, as in `balance: random`"
        }
        ("Balance", "least_connections") => "its parameters go under `least_request`",
        ("Balance", "consistent_hash" | "maglev" | "ring" | "ring_hash") => algorithm(word)?,
        ("Balance" | "SlowStart", "affinity" | "health" | "outlier" | "slow_start") => {
            "it stands in the upstream, beside `balance`"
        }
        ("HashPart", "client_ip" | "host" | "path" | "uri") => {
            "write it without braces, as in `hash: path` or `hash: [path, { header: x-user }]`"
        }
        ("Route", "cookie" | "canary_by_cookie") => "did you mean `cookies`?",
        ("MatchKind", "string" | "path_prefix" | "begins_with" | "implementation_specific") => {
            "`prefix` is by whole segments, `starts_with` by bytes"
        }
        (
            "Route" | "Defaults",
            "force_https" | "force_ssl_redirect" | "ssl_redirect" | "tls_redirect",
        ) => "did you mean `https_redirect`?",
        ("Route" | "Defaults", "strict_transport_security") => "did you mean `hsts`?",
        ("Hsts", "subdomains" | "includeSubDomains" | "includeSubdomains") => {
            "did you mean `include_subdomains`?"
        }
        ("Rewrite" | "Redirect", "pattern") => "did you mean `regex`?",
        ("Rewrite" | "Redirect", "replacement" | "substitution" | "target") => {
            "did you mean `path`? with `regex`, `$1` in it is what the first group matched"
        }
        ("Upstream", word) => upstream(word)?,
        ("Defaults", word) => of_routes(word)?,
        ("Host", word) => of_routes(word).or_else(|| of_routes_and_defaults(word))?,
        ("Protocol", "http2" | "http/2" | "grpc") => "`h2` over TLS, `h2c` without",
        ("Protocol", "http3" | "h3" | "quic") => {
            "there is no HTTP/3; `auto` takes HTTP/2 where it is offered"
        }
        ("Protocol", "https" | "tls" | "ssl") => {
            "leave `protocol` out, and write `tls: true` beside it"
        }
        ("Protocol", "grpcs") => "write `h2`, and `tls: true` beside it",
        ("HealthCheck", "expect_status" | "expected_status" | "statuses") => {
            "did you mean `status`?"
        }
        ("HealthCheck", "expect_body") => "did you mean `body`?",
        ("HealthCheck", "healthy_threshold" | "passes") => "did you mean `rise`?",
        ("HealthCheck", "unhealthy_threshold" | "fails") => "did you mean `fall`?",
        ("HealthCheck", "uri" | "url") => "did you mean `path`?",
        ("Outlier", "base_ejection_time" | "fail_timeout") => "did you mean `ejection`?",
        ("Outlier", "consecutive_gateway_failure") => "did you mean `consecutive_gateway`?",
        ("Outlier", "consecutive_local_origin_failure") => "did you mean `consecutive_local`?",
        ("Outlier", "max_ejection_percent") => "did you mean `max_ejected`?",
        ("Outlier", "max_ejection_time") => "did you mean `max_ejection`?",
        ("Outlier", "max_fails") => "did you mean `consecutive_5xx`?",
        ("UpstreamLimits", "max_connections") => "did you mean `connections`?",
        ("UpstreamLimits", "max_pending_requests" | "queue") => "did you mean `pending`?",
        ("UpstreamLimits", "max_requests") => "did you mean `requests`?",
        ("UpstreamLimits", "max_retries") => "did you mean `retries`?",
        ("UpstreamLimits", "retry_budget") => "it stands in the upstream, beside `limits`",
        ("Retry", "num_retries" | "retries" | "tries") => "did you mean `attempts`?",
        ("Retry", "per_try_timeout" | "timeout") => "did you mean `per_try`?",
        ("Retry", "next_upstream_timeout" | "total_timeout") => "did you mean `max_elapsed`?",
        ("Retry", "conditions" | "retry_on") => "did you mean `on`?",
        _ => return None,
    })
}

/// Keys that routes alone have.
fn of_routes(word: &str) -> Option<&'static str> {
    Some(match word {
        "auth" => "`auth` belongs to routes",
        "error_pages" => "`error_pages` belongs to routes",
        "sticky" => "`sticky` belongs to routes with `upstreams`",
        "rewrite" => "`rewrite` belongs to routes",
        "redirect" => "`redirect` belongs to routes",
        "respond" => "`respond` belongs to routes",
        "upstream" | "upstreams" => "it belongs to routes: `routes: [{ path: /, upstream: … }]`",
        _ => return None,
    })
}

/// Keys that routes and `defaults` have.
fn of_routes_and_defaults(word: &str) -> Option<&'static str> {
    Some(match word {
        "access"
        | "access_log"
        | "body_limit"
        | "connection_limit"
        | "cors"
        | "hedge"
        | "hsts"
        | "https_redirect"
        | "rate_limit"
        | "request_buffer"
        | "request_headers"
        | "response_buffer"
        | "response_headers"
        | "response_rate"
        | "response_rate_after"
        | "retry"
        | "timeout"
        | "timeouts" => "it belongs to routes and `defaults`",
        _ => return None,
    })
}

fn algorithm(word: &str) -> Option<&'static str> {
    Some(match word {
        "least_conn" | "leastconn" | "least_connection" => "did you mean `least_connections`?",
        "rr" | "roundrobin" | "static-rr" | "weighted_round_robin" | "wrr" => {
            "did you mean `round_robin`? it goes by weight where endpoints have one"
        }
        "ip_hash" | "source" | "source_ip" => "did you mean `client_ip`?",
        "consistent_hash" | "hash" | "maglev" | "uri" => {
            "say what is hashed, as in `balance: { hash: { header: x-user }, table: maglev }`"
        }
        "ring" | "ring_hash" => {
            "say what is hashed, as in `balance: { hash: { header: x-user }, table: ring }`"
        }
        "ewma" | "p2c" | "least_time" | "peak-ewma" => "did you mean `peak_ewma`?",
        "cookie" | "sticky" => "write `affinity: cookie`; `balance` places new sessions",
        _ => return None,
    })
}

fn upstream(word: &str) -> Option<&'static str> {
    Some(match word {
        "algorithm" | "lb_policy" | "load_balancer" | "load_balancing" => "did you mean `balance`?",
        "health_check" | "health_checks" | "healthcheck" => "did you mean `health`?",
        "outlier_detection" => "did you mean `outlier`?",
        "circuit_breaker" | "circuit_breakers" | "max_connections" => "did you mean `limits`?",
        "session_affinity" | "sticky" => "did you mean `affinity`?",
        "servers" => "did you mean `endpoints`?",
        "retry" => "retries belong to routes; here stands their `retry_budget`",
        "timeout" | "timeouts" => "timeouts belong to routes and `defaults`",
        _ => return None,
    })
}
