//! An explanation for people.

use std::fmt::{self, Display, Formatter};

use super::{Explanation, Loser, OnListener, Policies, RuleAnswer, Target, Winner};
use crate::admin::view::{EndpointView, UpstreamView, milliseconds};

/// The most losers that are listed; the JSON form has all.
const LOSERS: usize = 50;
/// The most endpoints of an upstream that are listed.
const ENDPOINTS: usize = 20;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let asked = &self.request;
        write!(f, "{} {}://{}{}", asked.method, asked.scheme, asked.host, asked.path)?;
        if let Some(query) = &asked.query {
            write!(f, "?{query}")?;
        }
        writeln!(f)?;
        if let Some(refused) = &self.refused {
            writeln!(f, "\nanswered {} before routing: {}", refused.status, refused.reason)?;
        }
        if let Some(note) = &self.note {
            writeln!(f, "note: {note}")?;
        }
        self.listeners.iter().try_for_each(|listener| write!(f, "\n{listener}"))
    }
}

impl Display for OnListener {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { ", tls" } else { "" };
        writeln!(f, "listener {} ({}{tls})", self.listener, self.address)?;
        match (&self.host, &self.host_match) {
            (Some(host), Some(how)) => writeln!(f, "  host     {host} ({how})")?,
            _ => return writeln!(f, "  host     none matches: answered 404"),
        }
        if let Some(to) = &self.passes_to {
            writeln!(
                f,
                "  tls      passes through to the upstream {}, which reads the request",
                to.name
            )?;
            if let Some(error) = &to.error {
                writeln!(f, "             error: {error}; connections are closed")?;
            }
            return to.upstream.iter().try_for_each(|target| write!(f, "{target}"));
        }
        if let Some(path) = &self.leads_to {
            writeln!(f, "  path     rules make it {path}")?;
        }
        if self.guessed {
            writeln!(
                f,
                "  note     some rules look at what is not known here; they see nothing there"
            )?;
        }
        match (&self.won, &self.answer) {
            (_, Some(answer)) => write!(f, "{answer}")?,
            (Some(won), None) => write!(f, "{won}")?,
            (None, None) => writeln!(f, "  route    none matches: answered 404")?,
        }
        losers(f, &self.others)
    }
}

impl Display for Winner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        writeln!(f, "  route    {}: {} {}", route.name, route.path_match, route.path)?;
        if !route.methods.is_empty() {
            writeln!(f, "             method {}", route.methods.join(" or "))?;
        }
        for condition in &route.headers {
            writeln!(f, "             header {condition}")?;
        }
        for condition in &route.cookies {
            writeln!(f, "             cookie {condition}")?;
        }
        for condition in &route.query {
            writeln!(f, "             query {condition}")?;
        }
        write!(f, "             declared as {}", route.origin)?;
        match &route.location {
            Some(location) => writeln!(f, " in {location}")?,
            None => writeln!(f)?,
        }
        for error in &route.errors {
            writeln!(f, "             error: {error}")?;
        }
        if let Some(answer) = &self.answer {
            write!(f, "{answer}")?;
        } else if let Some(location) = &self.https_redirect {
            writeln!(f, "  answer   redirect to https, for it did not come over TLS")?;
            writeln!(f, "             Location: {location}")?;
        } else if self.upstreams.is_empty() {
            writeln!(f, "  answer   {}", route.action)?;
        }
        if let Some(location) = &self.location {
            writeln!(f, "             Location: {location}")?;
        }
        if let Some(target) = &self.upstream_target {
            writeln!(f, "  sends    {target}")?;
        }
        self.upstreams.iter().try_for_each(|target| write!(f, "{target}"))?;
        write!(f, "{}", self.policies)
    }
}

impl Display for RuleAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  answer   {}: {}", self.status, self.why)?;
        let location = self.location.iter();
        location.into_iter().try_for_each(|to| writeln!(f, "             Location: {to}"))
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let upstream = &self.upstream;
        let tls = if upstream.tls { ", tls" } else { "" };
        let UpstreamView { name, protocol, balance, .. } = upstream;
        writeln!(f, "  upstream {name} (weight {}, {protocol}{tls})", self.weight)?;
        writeln!(f, "  balance  {balance}")?;
        writeln!(f, "  picks    {}", self.pick)?;
        endpoints(f, upstream)?;
        // What is declared by name may have no address yet, or none without a running proxy.
        if upstream.endpoints.is_empty() {
            for declared in &upstream.declared {
                writeln!(f, "             {declared}  (not resolved)")?;
            }
        }
        Ok(())
    }
}

/// The endpoints, the cheapest first.
fn endpoints(f: &mut Formatter<'_>, upstream: &UpstreamView) -> fmt::Result {
    let mut endpoints: Vec<_> = upstream.endpoints.iter().collect();
    let cost = |endpoint: &EndpointView| match endpoint.share {
        Some(_) => endpoint.cost.unwrap_or(0.0),
        None => f64::INFINITY,
    };
    endpoints.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    let shown = endpoints.iter().take(ENDPOINTS);
    let width = shown.clone().map(|endpoint| endpoint.address.len()).max().unwrap_or_default();
    for endpoint in shown {
        let line = facts(endpoint, &upstream.algorithm);
        writeln!(f, "             {:<width$}  {line}", endpoint.address)?;
    }
    match endpoints.len().checked_sub(ENDPOINTS) {
        Some(more @ 1..) => writeln!(f, "             … and {more} more (all with --json)"),
        _ => Ok(()),
    }
}

fn facts(endpoint: &EndpointView, algorithm: &str) -> String {
    let mut facts = vec![format!("weight {}", endpoint.weight)];
    if endpoint.priority > 0 {
        facts.push(format!("priority {}", endpoint.priority));
    }
    facts.extend(endpoint.zone.iter().map(|zone| format!("zone {zone}")));
    facts.push(format!("in flight {}", endpoint.in_flight));
    facts.extend(endpoint.latency_ms.map(|time| format!("latency {}", milliseconds(time))));
    facts.extend(endpoint.utilization.map(|busy| format!("busy {:.0}%", busy * 100.0)));
    facts.extend(endpoint.cost.map(|cost| match algorithm {
        "peak_ewma" => format!("cost {}", milliseconds(cost)),
        _ => format!("cost {cost:.2}"),
    }));
    facts.extend(endpoint.host.iter().map(|host| format!("from {host}")));
    if !endpoint.state.is_available() {
        facts.push(endpoint.trouble());
    }
    facts.join("  ")
}

impl Display for Policies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for line in &self.guard {
            writeln!(f, "  guard    {line}")?;
        }
        self.cors.iter().try_for_each(|cors| writeln!(f, "  cors     {cors}"))?;
        let https = self.https_redirect.iter().chain(&self.hsts);
        https.into_iter().try_for_each(|policy| writeln!(f, "  https    {policy}"))?;
        let shown = self.client_auth.as_ref();
        shown.iter().try_for_each(|shown| writeln!(f, "  tls      {shown}"))?;
        self.auth.iter().try_for_each(|auth| writeln!(f, "  auth     {auth}"))?;
        self.rules.iter().try_for_each(|rule| writeln!(f, "  rule     {rule}"))?;
        for filter in &self.filters {
            writeln!(f, "  filter   {filter}")?;
        }
        self.error_pages.iter().try_for_each(|pages| writeln!(f, "  errors   {pages}"))?;
        writeln!(
            f,
            "  timeouts request {}, connect {}, response {}, idle {}, tunnel idle {}",
            time(self.timeout_ms),
            time(self.connect_timeout_ms),
            time(self.response_timeout_ms),
            time(self.idle_timeout_ms),
            time(self.tunnel_idle_timeout_ms)
        )?;
        writeln!(f, "  retries  {}", self.retry)?;
        if self.sticky {
            writeln!(f, "  sticky   sessions stay with the upstream they began at")?;
        }
        self.hedge.iter().try_for_each(|hedge| writeln!(f, "  hedge    {hedge}"))?;
        for body in &self.bodies {
            writeln!(f, "  bodies   {body}")?;
        }
        let limit = match self.body_limit {
            Some(limit) => format!("{limit} bytes"),
            None => "none".to_owned(),
        };
        let log = if self.access_log { "on" } else { "off" };
        writeln!(f, "  limits   body {limit}, access log {log}")
    }
}

fn losers(f: &mut Formatter<'_>, others: &[Loser]) -> fmt::Result {
    for loser in others.iter().take(LOSERS) {
        writeln!(f, "  {:<8} {}: {}: {}", loser.outcome, loser.route, loser.path, loser.reason)?;
    }
    if let Some(more @ 1..) = others.len().checked_sub(LOSERS) {
        writeln!(f, "  … and {more} more routes of this host (all with --json)")?;
    }
    Ok(())
}

/// A time limit as the configuration writes it.
fn time(ms: Option<u64>) -> String {
    match ms {
        None => "none".to_owned(),
        Some(ms) if ms > 0 && ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        Some(ms) if ms > 0 && ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        Some(ms) if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        Some(ms) => format!("{ms}ms"),
    }
}
