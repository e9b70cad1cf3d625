//! The table on standard output.

use super::{Cell, Column, Report, Row};
use crate::options::Line;
use crate::peers::Kind;

/// Rounds further apart than this are pointed out: the machine was not quiet.
const NOISY: f64 = 0.10;

/// Prints one line of the bench.
pub fn print(row: &Row, columns: &[Column]) {
    println!("\n{}: {}", row.line.key(), describe(row.line));
    if row.line.is_memory() {
        println!("{:<24} {:>9} {:>9} {:>8} {:>7}", "", "heap KiB", "rss KiB", "spread", "ratio");
    } else {
        println!(
            "{:<24} {:>9} {:>9} {:>9} {:>9} {:>6} {:>8} {:>7}",
            "", "CPU us", "req/s", "p50 us", "p99 us", "busy", "spread", "ratio"
        );
    }
    for (cell, column) in row.cells.iter().zip(columns) {
        let name = format!("{} {}", cell.kind.key(), column.version);
        match &cell.failure {
            Some(why) => println!("{name:<24} UNMEASURED: {why}"),
            None => println!("{name:<24} {}", figures(row, cell)),
        }
    }
}

fn figures(row: &Row, cell: &Cell) -> String {
    let spread = cell.spread().map_or("-".into(), |spread| {
        format!("{:.0}%{}", spread * 100.0, if spread > NOISY { "!" } else { "" })
    });
    let ratio = number(row.ratio(cell), 2);
    let figure = number(cell.median(|turn| Some(turn.figure)), 2);
    if row.line.is_memory() {
        let resident = number(cell.median(|turn| turn.resident), 2);
        return format!("{figure:>9} {resident:>9} {spread:>8} {ratio:>7}");
    }
    let rate = number(cell.median(|turn| turn.rate), 0);
    let (p50, p99) =
        (number(cell.median(|turn| turn.p50), 0), number(cell.median(|turn| turn.p99), 0));
    let busy = number(cell.median(|turn| turn.busy.map(|busy| busy * 100.0)), 0);
    format!("{figure:>9} {rate:>9} {p50:>9} {p99:>9} {busy:>5}% {spread:>8} {ratio:>7}")
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// What a line measures, in words.
pub fn describe(line: Line) -> &'static str {
    match line {
        Line::Body1m => "1 MiB bodies, HTTP/1.1 keep-alive, 16 connections",
        Line::Body64k => "64 KiB bodies, HTTP/1.1 keep-alive, 64 connections",
        Line::H1 => "64 B bodies, HTTP/1.1 keep-alive, 64 connections",
        Line::H1Tls => "64 B bodies, HTTP/1.1 keep-alive over TLS 1.3, 64 connections",
        Line::H2Tls => "64 B bodies, HTTP/2 over TLS 1.3, 16 connections of 32 streams",
        Line::Handshakes => "full TLS 1.3 handshake (P-256, X25519) and one request a connection",
        Line::Idle => "memory of an idle HTTP/1.1 connection that did one request",
        Line::IdleTls => "memory of an idle HTTP/1.1 connection over TLS that did one request",
    }
}

/// Prints how Portcullis stands against its targets.
pub fn verdict(report: &Report) {
    let mut lines = Vec::new();
    for row in &report.rows {
        let Some(cell) = row.cell(Kind::Portcullis) else { continue };
        let (Some(target), key) = (row.line.target(), row.line.key()) else { continue };
        let rivals = row.best_of(|kind| matches!(kind, Kind::Haproxy | Kind::Nginx));
        let ratio = rivals.and_then(|rival| cell.relative_to(rival));
        let best = number(row.ratio(cell), 2);
        lines.push(match ratio {
            Some(ratio) => {
                let word = if ratio <= target { "met" } else { "MISSED" };
                format!("{key:<12} {word:<8} {ratio:.2}, target {target:.2}; best peer {best}")
            }
            None => format!("{key:<12} UNMEASURED"),
        });
    }
    if !lines.is_empty() {
        println!("\nPortcullis' CPU per request in relation to the better of nginx and HAProxy:");
        println!("{}", lines.join("\n"));
    }
}
