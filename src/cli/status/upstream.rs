//! Upstreams and their endpoints as text, in a hundred columns.

use std::fmt::Write;

use crate::admin::view::{EndpointView, UpstreamView, milliseconds};
use crate::cli::table::Table;

/// The most upstreams that a summary lists.
const UPSTREAMS: usize = 20;
/// The most endpoints in trouble that it lists of one upstream.
const TROUBLED: usize = 5;

/// A line for each upstream, those in trouble first, with what is wrong.
// Writing to a `String` cannot fail.
pub(super) fn summary(upstreams: &[UpstreamView]) -> String {
    let mut out = String::new();
    let mut sorted: Vec<_> = upstreams.iter().collect();
    sorted.sort_by_key(|upstream| upstream.available > 0 && upstream.troubled().next().is_none());
    for upstream in sorted.iter().take(UPSTREAMS) {
        let _ = writeln!(out, "  upstream       {}: {}", upstream.name, head(upstream));
        for endpoint in upstream.troubled().take(TROUBLED) {
            let _ = writeln!(out, "    {} {}", endpoint.address, endpoint.trouble());
        }
        if let Some(more @ 1..) = upstream.troubled().count().checked_sub(TROUBLED) {
            let _ =
                writeln!(out, "    … and {more} more; see `portcullis status {}`", upstream.name);
        }
    }
    if let Some(more @ 1..) = sorted.len().checked_sub(UPSTREAMS) {
        let _ = writeln!(out, "  … and {more} more upstreams; name those to be shown");
    }
    out.replace(|c: char| c.is_control() && c != '\n', " ")
}

fn head(upstream: &UpstreamView) -> String {
    let all = upstream.endpoints.len();
    let available = match (all, upstream.available) {
        (0, _) => "NO ENDPOINT".to_owned(),
        (_, 0) => format!("NONE of {all} available"),
        (_, available) => format!("{available} of {all} available"),
    };
    let panic = if upstream.panic { ", AVAILABILITY IGNORED" } else { "" };
    let waiting = match upstream.limits.pending {
        0 => String::new(),
        pending => format!(", {pending} WAITING"),
    };
    let budget = if upstream.limits.is_spent() { ", RETRY BUDGET USED UP" } else { "" };
    format!("{available}{panic}, {} in flight{waiting}{budget}", upstream.in_flight)
}

/// Everything about one upstream.
pub(super) fn details(upstream: &UpstreamView) -> String {
    let mut out = format!("upstream {}: {}\n", upstream.name, head(upstream));
    let facts = [
        ("balance", Some(&upstream.balance)),
        ("health", upstream.health.as_ref()),
        ("ejection", upstream.outlier.as_ref()),
        ("limits", upstream.limits.rules.as_ref()),
    ];
    for (name, fact) in facts {
        let fact = fact.map_or("none", String::as_str);
        let _ = writeln!(out, "  {name:<9} {fact}");
    }
    if let Some(usage) = upstream.limits.usage() {
        let _ = writeln!(out, "  {:<9} {usage}", "used");
    }
    if upstream.endpoints.is_empty() {
        let _ = writeln!(out, "  declared  {}", upstream.declared.join(", "));
        return out;
    }
    let text = table(&upstream.endpoints, &upstream.algorithm).to_string();
    let mut lines = text.lines();
    let _ = writeln!(out, "{}", lines.next().unwrap_or_default());
    for (line, endpoint) in lines.zip(&upstream.endpoints) {
        let _ = writeln!(out, "{line}");
        for note in notes(endpoint) {
            let _ = writeln!(out, "    {note}");
        }
    }
    out.replace(|c: char| c.is_control() && c != '\n', " ")
}

/// A row for each endpoint; columns that would be the same in all of them are left out.
fn table(endpoints: &[EndpointView], algorithm: &str) -> Table {
    let prioritized = endpoints.iter().any(|endpoint| endpoint.priority > 0);
    let zoned = endpoints.iter().any(|endpoint| endpoint.zone.is_some());
    let costs = endpoints.iter().any(|endpoint| endpoint.cost.is_some());
    let mut headings =
        vec!["ENDPOINT", "STATE", "WEIGHT", "SHARE", "IN FLIGHT", "CONNS", "LATENCY"];
    let busy = endpoints.iter().any(|endpoint| endpoint.utilization.is_some());
    let optional = [(busy, "BUSY"), (costs, "COST"), (prioritized, "PRIO"), (zoned, "ZONE")];
    headings.extend(optional.iter().filter(|(shown, _)| *shown).map(|(_, heading)| *heading));
    let mut table = Table::new(&headings);
    for endpoint in endpoints {
        let mut row = vec![
            endpoint.address.clone(),
            endpoint.state.as_str().to_owned(),
            weight(endpoint),
            endpoint.share.map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0)),
            endpoint.in_flight.to_string(),
            endpoint.connections.to_string(),
            endpoint.latency_ms.map_or("-".to_owned(), milliseconds),
        ];
        let cost = endpoint.cost.map_or("-".to_owned(), |cost| match algorithm {
            "peak_ewma" => milliseconds(cost),
            _ => format!("{cost:.2}"),
        });
        let utilization = endpoint.utilization;
        let utilization =
            utilization.map_or("-".to_owned(), |busy| format!("{:.0}%", busy * 100.0));
        row.extend(busy.then_some(utilization));
        row.extend(costs.then_some(cost));
        row.extend(prioritized.then(|| endpoint.priority.to_string()));
        row.extend(zoned.then(|| endpoint.zone.clone().unwrap_or_else(|| "-".to_owned())));
        table.row(row);
    }
    table
}

/// The configured weight, and that of this moment where it differs.
fn weight(endpoint: &EndpointView) -> String {
    match endpoint.effective_weight {
        Some(now) if (now - f64::from(endpoint.weight)).abs() > 0.005 => {
            format!("{now:.2} of {}", endpoint.weight)
        }
        _ => endpoint.weight.to_string(),
    }
}

fn notes(endpoint: &EndpointView) -> Vec<String> {
    let from = endpoint.host.as_ref().map(|host| format!("from {host}"));
    let trouble = (!endpoint.state.is_available()).then(|| endpoint.trouble());
    trouble.into_iter().chain(from).collect()
}
