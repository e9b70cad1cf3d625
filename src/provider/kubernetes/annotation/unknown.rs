//! Names that are no annotations: removed ones, ones that never existed, slips.

use super::table;

/// Names that stand in manifests, and what their writers should know. A name that ends with `*`
/// stands for all that begin so.
const KNOWN: [(&str, &str); 25] = [
    ("rate-limit", "never existed in ingress-nginx and limits nothing\nuse `limit-rps`"),
    (
        "rate-limit-*",
        "never existed in ingress-nginx and limits nothing\nuse `limit-rps` or `limit-rpm`",
    ),
    ("limit-rpm-*", "never existed in ingress-nginx and limits nothing\nuse `limit-rpm`"),
    ("limit-req-status-code", "is a key of the ConfigMap, not an annotation\nset it there"),
    ("limit-conn-status-code", "is a key of the ConfigMap, not an annotation\nset it there"),
    (
        "global-rate-limit*",
        "was removed from ingress-nginx and limits nothing\nuse `limit-rps` or `limit-rpm`, which count in each replica",
    ),
    ("enable-websockets", "never existed; WebSocket connections are always proxied\ntake it out"),
    (
        "websocket-services",
        "belongs to another controller; WebSocket connections are always proxied\ntake it out",
    ),
    ("secure-backends", "was removed from ingress-nginx\nuse `backend-protocol: HTTPS`"),
    (
        "secure-verify-ca-secret",
        "was removed from ingress-nginx\nuse `proxy-ssl-secret` and `proxy-ssl-verify`",
    ),
    ("grpc-backend", "was removed from ingress-nginx\nuse `backend-protocol: GRPC`"),
    ("add-base-url", "was removed from ingress-nginx\nlet the back end write relative links"),
    ("base-url-scheme", "was removed from ingress-nginx\nlet the back end write relative links"),
    ("session-cookie-hash", "was removed from ingress-nginx; it changes nothing\ntake it out"),
    ("enable-opentracing", "was removed from ingress-nginx with OpenTracing\ntake it out"),
    ("opentracing-*", "was removed from ingress-nginx with OpenTracing\ntake it out"),
    ("influxdb-*", "was removed from ingress-nginx\nuse the metrics"),
    ("enable-influxdb", "was removed from ingress-nginx\nuse the metrics"),
    (
        "lua-resty-waf*",
        "was removed from ingress-nginx\nput a web application firewall before or behind",
    ),
    ("use-forwarded-headers", "is a key of the ConfigMap, not an annotation\nset it there"),
    ("client-header-buffer-size", "is a key of the ConfigMap, not an annotation\nset it there"),
    ("large-client-header-buffers", "is a key of the ConfigMap, not an annotation\nset it there"),
    ("upstream-keepalive-*", "is a key of the ConfigMap, not an annotation\nset it there"),
    (
        "hsts*",
        "is a key of the ConfigMap, not an annotation\nset it there, or send the header with a snippet",
    ),
    (
        "upstream-fail-timeout",
        "was removed from ingress-nginx\nendpoints that fail are noticed anyway",
    ),
];

/// What to say of `name`, which is no annotation; a line feed before the remedy.
pub(super) fn explain(name: &str) -> String {
    let known = KNOWN.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => *pattern == name,
    });
    if let Some((_, text)) = known {
        return (*text).to_owned();
    }
    match closest(name) {
        Some(meant) => format!("is no annotation of ingress-nginx\ndid you mean `{meant}`?"),
        None => "is no annotation of ingress-nginx and does nothing\ntake it out".to_owned(),
    }
}

fn closest(name: &str) -> Option<&'static str> {
    table::names()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 1.max(known.len().min(name.len()) / 4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// What to say of an annotation under a prefix that is not ours but looks as if it was meant for
/// ingress-nginx.
pub(super) fn foreign(key: &str, prefix: &str) -> Option<String> {
    let (found, name) = key.split_once('/')?;
    if found == prefix.trim_end_matches('/') {
        return None;
    }
    match found {
        "ingress.kubernetes.io"
        | "nginx.ingress.kubernetes.com"
        | "nginx.ingress.kubernete.io"
        | super::NGINX_PREFIX
            if table::find(name).is_some() =>
        {
            Some(format!("has a prefix that is not read\nwrite it as `{prefix}/{name}`"))
        }
        "nginx.org" | "nginx.com" => Some(
            "belongs to another controller, that of F5, and is not read\nsee which annotation of \
             ingress-nginx does the same"
                .to_owned(),
        ),
        _ => None,
    }
}
