//! An explanation for people.

use std::fmt::{self, Display, Formatter};

use super::{Explanation, Loser, OnListener, Policies, Target, Winner};

/// The most losers that are listed; the JSON form has all.
const LOSERS: usize = 50;

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
        match &self.won {
            Some(won) => write!(f, "{won}")?,
            None => writeln!(f, "  route    none matches: answered 404")?,
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
        if self.upstreams.is_empty() {
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

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let upstream = &self.upstream;
        let tls = if upstream.tls { ", tls" } else { "" };
        let (balance, protocol) = (&upstream.balance, &upstream.protocol);
        writeln!(
            f,
            "  upstream {} (weight {}, {balance}, {protocol}{tls})",
            upstream.name, self.weight
        )?;
        for endpoint in &upstream.endpoints {
            let (address, weight) = (&endpoint.address, endpoint.weight);
            write!(f, "             {address}  weight {weight}  in flight {}", endpoint.in_flight)?;
            match &endpoint.host {
                Some(host) => writeln!(f, "  from {host}")?,
                None => writeln!(f)?,
            }
        }
        // What is declared by name may have no address yet, or none without a running proxy.
        if upstream.endpoints.is_empty() {
            for declared in &upstream.declared {
                writeln!(f, "             {declared}  (not resolved)")?;
            }
        }
        Ok(())
    }
}

impl Display for Policies {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for filter in &self.filters {
            writeln!(f, "  filter   {filter}")?;
        }
        writeln!(
            f,
            "  timeouts request {}, connect {}, response {}, idle {}, tunnel idle {}",
            time(self.timeout_ms),
            time(self.connect_timeout_ms),
            time(self.response_timeout_ms),
            time(self.idle_timeout_ms),
            time(self.tunnel_idle_timeout_ms)
        )?;
        let limit = match self.body_limit {
            Some(limit) => format!("{limit} bytes"),
            None => "none".to_owned(),
        };
        let log = if self.access_log { "on" } else { "off" };
        writeln!(f, "  limits   retries {}, body {limit}, access log {log}", self.retries)
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
