//! Balancing and resilience in a few words: what is in force, not what was written.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::ir::{
    Affinity, AffinityKey, AffinityMode, AuthCache, AuthService, Balance, BalancePolicy, Bodies,
    ConnectionLimit, Cors, Credentials, Guard, HashInput, HashPolicy, HashTable, HealthCheck,
    HedgeAfter, Hsts, HttpsRedirect, OrcaPolicy, Outlier, Probe, RateKey, RateLimit, Retry, Route,
    Satisfy, SlowStart, Span, UpstreamLimits,
};
use crate::snapshot::ClientGate;

/// The name of the algorithm, as the configuration has it.
pub fn algorithm(balance: &Balance) -> &'static str {
    match balance {
        Balance::Hash(_) => "hash",
        Balance::LeastRequest(_) => "least_request",
        Balance::LeastUtilization(_) => "least_utilization",
        Balance::PeakEwma(_) => "peak_ewma",
        Balance::Prequal(_) => "prequal",
        Balance::Random => "random",
        Balance::RoundRobin => "round_robin",
        Balance::WeightedByLoad(_) => "weighted_by_load",
    }
}

/// The algorithm with what tells it from others of its kind, for example
/// `hash of header x-user (maglev, bounded at 125%)`.
pub fn balance(policy: &BalancePolicy) -> String {
    let mut text = match &policy.algorithm {
        Balance::Hash(policy) => hash(policy),
        Balance::LeastUtilization(orca) => format!("least_utilization{}", polled(orca)),
        Balance::WeightedByLoad(policy) => format!("weighted_by_load{}", polled(&policy.orca)),
        other => algorithm(other).to_owned(),
    };
    if let Some(affinity) = &policy.affinity {
        text = format!("{}, else {text}", self::affinity(affinity));
    }
    if let Some(subset) = policy.subset {
        text.push_str(&format!(", {subset} endpoints at most"));
    }
    if policy.slow_start.window != SlowStart::default().window {
        text.push_str(&format!(", slow start {}", Span(policy.slow_start.window)));
    }
    text
}

fn hash(policy: &HashPolicy) -> String {
    let inputs: Vec<_> = policy.on.iter().map(input).collect();
    let table = match policy.table {
        HashTable::Maglev(None) => "maglev".to_owned(),
        HashTable::Maglev(Some(size)) => format!("maglev of {size}"),
        HashTable::Ring(points) => format!("ring of {points}"),
    };
    let bound = policy.bounded_load.map(|load| format!(", bounded at {load}")).unwrap_or_default();
    format!("hash of {} ({table}{bound})", inputs.join(" and "))
}

/// A part of a request, in words.
pub fn input(input: &HashInput) -> String {
    match input {
        HashInput::ClientIp => "client_ip".to_owned(),
        HashInput::Cookie(name) => format!("cookie {name}"),
        HashInput::Header(name) => format!("header {name}"),
        HashInput::Host => "host".to_owned(),
        HashInput::Path => "path".to_owned(),
        HashInput::Query(name) => format!("query {name}"),
        HashInput::Uri => "uri".to_owned(),
    }
}

fn polled(orca: &OrcaPolicy) -> String {
    orca.poll.as_ref().map(|path| format!(" (polled at {path})")).unwrap_or_default()
}

fn affinity(affinity: &Affinity) -> String {
    let by = match &affinity.by {
        AffinityKey::Cookie(cookie) => format!("cookie {}", cookie.name),
        AffinityKey::Header(name) => format!("header {name}"),
    };
    let mode = match affinity.mode {
        AffinityMode::Balanced => "",
        AffinityMode::Persistent => "persistent ",
    };
    format!("{mode}sessions by {by}")
}

/// What is checked and how often, for example `http /healthz every 5s`.
pub fn health(check: &HealthCheck) -> String {
    let what = match &check.probe {
        Probe::Grpc { service } if service.is_empty() => "grpc".to_owned(),
        Probe::Grpc { service } => format!("grpc {service}"),
        Probe::Http(probe) => format!("http {} {}", probe.method, probe.path),
        Probe::Tcp => "tcp".to_owned(),
    };
    format!("{what} every {}", Span(check.interval))
}

/// When an endpoint is ejected, and for how long at first.
pub fn outlier(policy: &Outlier) -> String {
    let rows = [
        (policy.consecutive_5xx, "5xx"),
        (policy.consecutive_gateway, "gateway errors"),
        (policy.consecutive_local, "local failures"),
    ];
    let rows = rows.iter().filter(|(count, _)| *count > 0);
    let mut rules: Vec<_> = rows.map(|(count, what)| format!("{count} {what}")).collect();
    if policy.success_rate.is_some() {
        rules.push("success rate".to_owned());
    }
    if let Some(rule) = &policy.failure_percentage {
        rules.push(format!("{} failures", rule.threshold));
    }
    if rules.is_empty() {
        return "on no condition".to_owned();
    }
    format!("after {}, for {}", rules.join(" or "), Span(policy.ejection))
}

/// The limits that are set; `None` where none is.
pub fn limits(limits: &UpstreamLimits) -> Option<String> {
    let counts = [
        (limits.connections, "connections"),
        (limits.requests, "requests"),
        (limits.requests_per_endpoint, "requests per endpoint"),
        (limits.retries, "retries"),
    ];
    let counts = counts.iter().filter_map(|(count, what)| Some(format!("{} {what}", (*count)?)));
    let mut texts: Vec<_> = counts.collect();
    if let Some(adaptive) = &limits.adaptive {
        texts.push(format!("adaptive {} to {} requests", adaptive.min, adaptive.max));
    }
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// When and how often attempts are repeated.
pub fn retry(retry: &Retry) -> String {
    if retry.attempts == 0 {
        return "none".to_owned();
    }
    let on = &retry.on;
    let mut conditions = vec!["connect failure".to_owned()];
    conditions.extend(on.reset.then(|| "reset".to_owned()));
    conditions.extend(on.timeout.then(|| "timeout".to_owned()));
    conditions.extend(on.statuses.iter().map(ToString::to_string));
    conditions.extend(on.grpc.iter().map(|code| format!("grpc:{code}")));
    let mut text = format!("{} on {}", retry.attempts, conditions.join(", "));
    if let Some(per_try) = retry.per_try {
        text.push_str(&format!("; {} a try", Span(per_try)));
    }
    if let Some(limit) = retry.max_elapsed {
        text.push_str(&format!("; none begins after {}", Span(limit)));
    }
    if retry.non_idempotent {
        text.push_str("; POST too");
    }
    text
}

/// When a second request is sent; `None` where none is.
pub fn hedge(route: &Route) -> Option<String> {
    let hedge = route.hedge.as_ref()?;
    let after = match &hedge.after {
        HedgeAfter::Delay(delay) => Span(*delay).to_string(),
        HedgeAfter::Quantile(quantile) => format!("what {quantile} of the requests take"),
    };
    Some(format!("after {after}, {} of the requests at most", hedge.budget))
}

/// What guards a route, a line each.
pub fn guard(guard: &Guard) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(access) = &guard.access {
        if !access.deny.is_empty() {
            lines.push(format!("denies {}", networks(&access.deny)));
        }
        if !access.allow.is_empty() {
            lines.push(format!("allows only {}", networks(&access.allow)));
        }
    }
    lines.extend(guard.connection_limit.as_ref().map(connection_limit));
    lines.extend(guard.rate_limits.iter().map(rate_limit));
    lines
}

fn rate_limit(limit: &RateLimit) -> String {
    let key = match &limit.key {
        RateKey::ClientIp => "client".to_owned(),
        RateKey::Header(name) => format!("value of {name}"),
    };
    let RateLimit { requests, burst, status, .. } = limit;
    let text = format!("rate {requests} in {}, burst {burst}, for each {key}", Span(limit.per));
    format!("{text}{}, else {}", aside(&limit.scope, &limit.exempt), status.as_u16())
}

fn connection_limit(limit: &ConnectionLimit) -> String {
    let text = format!("{} at once for each client", limit.per_client);
    format!("{text}{}, else {}", aside(&limit.scope, &limit.exempt), limit.status.as_u16())
}

/// What of bodies is read ahead, and how fast responses go.
pub fn bodies(bodies: &Bodies) -> Vec<String> {
    let request = bodies.request_buffer.map(|size| {
        format!("up to {size} bytes of a request are read before an endpoint is picked")
    });
    let response = bodies.response_buffer.map(|buffer| {
        let asked = if buffer.by_default { "" } else { ", where the endpoint asks for that" };
        format!("up to {} bytes of a response are read ahead of its client{asked}", buffer.size)
    });
    let rate = bodies.response_rate.map(|rate| match rate.after {
        0 => format!("responses go at {} bytes a second", rate.bytes),
        after => format!("responses go at {} bytes a second after {after} bytes", rate.bytes),
    });
    request.into_iter().chain(response).chain(rate).collect()
}

/// Which pages of other origins may use a route.
pub fn cors(cors: &Cors) -> String {
    let origins: Vec<_> = cors.origins.iter().map(ToString::to_string).collect();
    let credentials = if cors.credentials { ", with credentials" } else { "" };
    format!("allows {}{credentials}", origins.join(", "))
}

/// Who counts together, and who does not count.
fn aside(scope: &Option<Arc<str>>, exempt: &[IpNet]) -> String {
    let scope = scope.as_ref().map(|scope| format!(" in scope {scope}")).unwrap_or_default();
    match exempt {
        [] => scope,
        exempt => format!("{scope} but {}", networks(exempt)),
    }
}

/// The first of them: a list may have hundreds.
fn networks(networks: &[IpNet]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = networks.iter().take(SHOWN).map(ToString::to_string).collect();
    match networks.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// When and how requests without TLS are redirected.
pub fn https_redirect(policy: &HttpsRedirect) -> String {
    let port = policy.port.map(|port| format!(", port {port}")).unwrap_or_default();
    let exempt = match policy.exempt.is_empty() {
        true => String::new(),
        false => format!(", but for paths that start with {}", policy.exempt.join(" or ")),
    };
    let strip = if policy.strip_trailing_slash { ", without a slash at the end" } else { "" };
    format!("redirect {} where it is not{port}{strip}{exempt}", policy.status.as_u16())
}

/// What browsers are told about https.
pub fn hsts(policy: &Hsts) -> String {
    let value = crate::filter::hsts(policy);
    let value = value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    format!("strict-transport-security: {value}")
}

/// Who may use a route; `None` where anybody may.
pub fn auth(route: &Route) -> Option<String> {
    let auth = route.auth.as_ref()?;
    let basic = auth.basic.as_ref().map(|basic| match &basic.users {
        Credentials::Htpasswd(_) => format!("password, for \"{}\"", basic.realm),
        Credentials::Missing(why) => format!("nobody, 503: {why}"),
    });
    let external = auth.external.as_ref().map(|external| {
        let (method, path) = (&external.method, &external.path);
        let asked = match &external.service {
            AuthService::Missing(why) => return format!("nobody, 503: {why}"),
            AuthService::OwnHost => format!("{method} {path} of the same host is asked"),
            AuthService::Upstream { name, .. } => format!("{method} {path} of {name} is asked"),
        };
        let kept = external.cache.as_ref().map(kept).unwrap_or_default();
        let signin =
            external.signin.as_ref().map(|url| format!(", who is not known goes to {url}"));
        asked + &kept + &signin.unwrap_or_default()
    });
    let either = auth.satisfy == Satisfy::Any;
    let address = route.guard.access.as_ref().filter(|list| either && !list.allow.is_empty());
    let address = address.map(|_| "an address that its access list allows".to_owned());
    let all: Vec<_> = address.into_iter().chain(basic).chain(external).collect();
    Some(all.join(match auth.satisfy {
        Satisfy::All => "; and ",
        Satisfy::Any => "; or ",
    }))
}

/// For how long answers are kept for which requests.
fn kept(cache: &AuthCache) -> String {
    let time = |(from, to, time): &(u16, u16, Duration)| match from == to {
        true => format!("{from} {}", Span(*time)),
        false => format!("{from}-{to} {}", Span(*time)),
    };
    let times: Vec<_> = cache.valid.iter().map(time).collect();
    format!(" unless it is known for \"{}\" ({})", cache.key, times.join(", "))
}

/// What a host demands of client certificates.
pub fn client_auth(gate: &ClientGate) -> String {
    match gate {
        ClientGate::Closed(why) => format!("nobody, 503: {why}"),
        ClientGate::Asks { auth, .. } => auth.to_string(),
    }
}

/// Whose answers stand in the place of which errors; `None` where nobody's do.
pub fn error_pages(route: &Route) -> Option<String> {
    let pages = route.error_pages.as_ref()?;
    let range = |(from, to): &(u16, u16)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    };
    let mut when: Vec<_> = pages.statuses.iter().map(range).collect();
    if pages.no_endpoint {
        when.push("no endpoint".to_owned());
    }
    Some(format!("{} from {}", when.join(", "), pages.upstream))
}
