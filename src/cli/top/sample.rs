//! What happened between two looks.

use std::fmt;

use super::Look;
use super::histogram::Quantile;
use super::scrape::Counts;
use crate::cli::table::Table;

/// The most rows of a table; the busiest come first.
const ROWS: usize = 20;

/// The figures of an interval.
pub(super) struct Sample {
    head: String,
    routes: Vec<Row>,
    upstreams: Vec<Row>,
}

struct Row {
    names: Vec<String>,
    requests: f64,
    errors: f64,
    p50: Quantile,
    p99: Quantile,
    in_flight: f64,
}

impl Sample {
    /// What happened from `before` to `now`.
    pub(super) fn between(before: &Look, now: &Look) -> Self {
        let seconds = (now.at - before.at).as_secs_f64().max(1e-3);
        let routes = now.metrics.routes.iter().map(|(key, counts)| {
            let names = vec![key.0.clone(), key.1.clone()];
            Row::new(names, counts, before.metrics.routes.get(key), seconds)
        });
        let upstreams = now.upstreams.iter().map(|upstream| {
            let name = &upstream.name;
            let counts = now.metrics.upstreams.get(name).cloned().unwrap_or_default();
            let counts = Counts { in_flight: upstream.in_flight as f64, ..counts };
            Row::new(vec![name.clone()], &counts, before.metrics.upstreams.get(name), seconds)
        });
        let (routes, upstreams) = (busiest(routes.collect()), busiest(upstreams.collect()));
        let total: f64 = routes.iter().map(|row| row.requests).sum();
        let status = &now.status;
        let head = format!(
            "portcullis {}, {}, generation {}{}: {total:.1} requests/s, {} connections",
            status.version,
            status.readiness,
            status.generation,
            if status.reload.accepted { "" } else { " (LAST RELOAD REFUSED)" },
            status.connections,
        );
        Self { head, routes, upstreams }
    }
}

impl Row {
    fn new(names: Vec<String>, now: &Counts, before: Option<&Counts>, seconds: f64) -> Self {
        let none = Counts::default();
        let before = before.unwrap_or(&none);
        // A count that went down began anew.
        let rate = |now: f64, before: f64| if now < before { now } else { now - before } / seconds;
        let durations = now.durations.since(&before.durations);
        Self {
            names,
            requests: rate(now.requests, before.requests),
            errors: rate(now.errors, before.errors),
            p50: durations.quantile(0.5),
            p99: durations.quantile(0.99),
            in_flight: now.in_flight,
        }
    }
}

fn busiest(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.requests.total_cmp(&a.requests).then_with(|| a.names.cmp(&b.names)));
    rows
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FIGURES: [&str; 5] = ["REQ/S", "ERR/S", "P50", "P99", "IN FLIGHT"];
        writeln!(f, "{}\n", self.head)?;
        table(f, &["LISTENER", "ROUTE"], &FIGURES, &self.routes)?;
        writeln!(f)?;
        table(f, &["UPSTREAM"], &FIGURES, &self.upstreams)
    }
}

fn table(
    f: &mut fmt::Formatter<'_>,
    names: &[&str],
    figures: &[&str],
    rows: &[Row],
) -> fmt::Result {
    let mut table = Table::new(&[names, figures].concat());
    for row in rows.iter().take(ROWS) {
        let figures = [
            format!("{:.1}", row.requests),
            format!("{:.1}", row.errors),
            row.p50.to_string(),
            row.p99.to_string(),
            format!("{:.0}", row.in_flight),
        ];
        table.row(row.names.iter().cloned().chain(figures));
    }
    write!(f, "{table}")?;
    match rows.len().checked_sub(ROWS) {
        Some(more @ 1..) => writeln!(f, "… and {more} quieter ones"),
        _ => Ok(()),
    }
}
