//! The results as JSON: medians, and every round behind them.

use std::io;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Cell, Report, Row, Turn, table};
use crate::options::Options;

/// The whole report.
pub fn render(report: &Report, options: &Options) -> io::Result<String> {
    let (processor, kernel, cpus) = &report.machine;
    let proxies: Vec<Value> = report
        .columns
        .iter()
        .map(|column| json!({ "name": column.kind.key(), "version": column.version }))
        .collect();
    let value = json!({
        "date": httpdate::fmt_http_date(SystemTime::now()),
        "machine": { "processor": processor, "kernel": kernel, "cpus": cpus },
        "cores": { "proxy": report.cores.proxy, "load": report.cores.load },
        "rounds": options.rounds,
        "window_seconds": options.window.as_secs_f64(),
        "peers_tuned_for_large_bodies": options.tuned,
        "proxies": proxies,
        "lines": report.rows.iter().map(line).collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&value).map_err(io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn line(row: &Row) -> Value {
    json!({
        "line": row.line.key(),
        "what": table::describe(row.line),
        "unit": row.unit,
        "best_peer": row.best_peer().map(|cell| cell.kind.key()),
        "results": row.cells.iter().map(|cell| result(row, cell)).collect::<Vec<_>>(),
    })
}

/// A figure that could not be taken is `null`, with `unmeasured` saying why.
fn result(row: &Row, cell: &Cell) -> Value {
    let median = |pick: fn(&Turn) -> Option<f64>| cell.median(pick).map(rounded);
    json!({
        "proxy": cell.kind.key(),
        "unmeasured": cell.failure,
        "figure": median(|turn| Some(turn.figure)),
        "ratio_to_best_peer": row.ratio(cell).map(rounded),
        "spread": cell.spread().map(rounded),
        "requests_per_second": median(|turn| turn.rate),
        "p50_us": median(|turn| turn.p50),
        "p99_us": median(|turn| turn.p99),
        "core_share": median(|turn| turn.busy),
        "resident_kib_per_connection": median(|turn| turn.resident),
        "rounds": cell.rounds.iter().map(|turn| rounded(turn.figure)).collect::<Vec<_>>(),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
