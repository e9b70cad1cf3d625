//! One turn: one line against one proxy, once.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use crate::load::{Counted, Extent, H1Load, H2Load, IdleConnections, Meter};
use crate::machine::file_limit;
use crate::measure::Memory;
use crate::options::Line;
use crate::peers::Proxy;
use crate::report::Turn;

/// Loads `proxy` and says what a request cost it.
pub fn load(bench: &Bench<'_>, line: Line, proxy: &Proxy) -> io::Result<Turn> {
    let extent = Extent::Window { warmup: bench.options.warmup, window: bench.options.window };
    let counted = generate(bench, line, proxy, extent, None)?;
    if counted.errors > 0 {
        let first = counted.first_error.unwrap_or_default();
        return Err(io::Error::other(format!("{} errors, the first: {first}", counted.errors)));
    }
    if counted.requests == 0 || counted.cpu.is_zero() {
        return Err(io::Error::other("no request was answered, or no CPU time counted"));
    }
    let (requests, elapsed) = (counted.requests as f64, counted.elapsed.as_secs_f64());
    let micros = |share| counted.latency.quantile(share).map(|value| value.as_secs_f64() * 1e6);
    Ok(Turn {
        figure: counted.cpu.as_secs_f64() * 1e6 / requests,
        rate: Some(requests / elapsed),
        p50: micros(0.50),
        p99: micros(0.99),
        busy: Some(counted.cpu.as_secs_f64() / elapsed),
        resident: None,
    })
}

/// Runs the generator that belongs to `line`, with `connections` where the line's own number is
/// not wanted.
pub fn generate(
    bench: &Bench<'_>,
    line: Line,
    proxy: &Proxy,
    extent: Extent,
    connections: Option<usize>,
) -> io::Result<Counted> {
    let meter = Meter::new(extent, proxy.cpu_probe());
    let usual = match line {
        Line::Body1m | Line::H2Tls | Line::Handshakes => 16,
        _ => 64,
    };
    let connections = connections.unwrap_or(usual);
    if line == Line::H2Tls {
        let tls = bench.ground.certificate.client(b"h2")?;
        let streams = if connections == 1 { 1 } else { 32 };
        let body = line.body();
        return H2Load { proxy: proxy.tls, tls, connections, streams, body }.run(meter);
    }
    let over_tls = matches!(line, Line::H1Tls | Line::Handshakes);
    let load = H1Load {
        proxy: if over_tls { proxy.tls } else { proxy.plain },
        tls: over_tls.then(|| bench.ground.certificate.client(b"http/1.1")).transpose()?,
        connections,
        body: line.body(),
        connection_per_request: line == Line::Handshakes,
    };
    load.run(meter)
}

/// Opens idle connections to a fresh `proxy` and says what memory each takes.
pub fn idle(bench: &Bench<'_>, line: Line, proxy: &Proxy) -> io::Result<Turn> {
    let tls = (line == Line::IdleTls)
        .then(|| bench.ground.certificate.client(b"http/1.1"))
        .transpose()?;
    let address = if tls.is_some() { proxy.tls } else { proxy.plain };
    // Both sides need a file for every connection, and some to live.
    let count = bench.options.idle_connections.min(file_limit().saturating_sub(1000) / 2);
    let mut connections = IdleConnections::default();
    connections.open(address, tls.as_ref(), 100)?;
    let before = settle(proxy)?;
    connections.open(address, tls.as_ref(), count)?;
    let after = settle(proxy)?;
    connections.check()?;
    let grown = |from: u64, to: u64| (to as f64 - from as f64) / count as f64;
    let figure = grown(before.anonymous, after.anonymous);
    if figure <= 0.0 {
        return Err(io::Error::other("memory did not grow with connections"));
    }
    Ok(Turn {
        figure,
        rate: None,
        p50: None,
        p99: None,
        busy: None,
        resident: Some(grown(before.resident, after.resident)),
    })
}

/// The proxy's memory once it has held still for a second, five seconds after the last change in
/// load at the earliest: some give memory back only after a while.
fn settle(proxy: &Proxy) -> io::Result<Memory> {
    let begun = Instant::now();
    let mut last = proxy.memory()?;
    let mut still = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = proxy.memory()?;
        if now.anonymous.abs_diff(last.anonymous) > last.anonymous / 500 {
            still = Instant::now();
            last = now;
        }
        let elapsed = begun.elapsed();
        let held = still.elapsed() >= Duration::from_secs(1);
        if (held && elapsed >= Duration::from_secs(5)) || elapsed >= Duration::from_secs(12) {
            return Ok(now);
        }
    }
}
