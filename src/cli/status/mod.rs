//! `portcullis status`.

mod upstream;

use std::fmt::Write;
use std::process::ExitCode;

use super::ask::AdminUrl;
use super::output::counted;
use super::source::Running;
use super::{Failure, output};
use crate::admin::view::{ListenerView, StatusView, UpstreamView};

/// Options of `portcullis status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// Show these upstreams in full, with every endpoint
    upstreams: Vec<String>,
    #[command(flatten)]
    running: Running,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Tells how a running proxy is doing; exits 0 when it is ready, else 1.
pub fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let admin = args.running.admin();
    let status: StatusView = admin.get_json("/api/status").map_err(Failure::runtime)?;
    // Before the first configuration there are none.
    let upstreams = match status.generation {
        0 => Vec::new(),
        _ => admin.get_json("/api/upstreams").map_err(Failure::runtime)?,
    };
    match (args.upstreams.is_empty(), args.json) {
        (true, true) => output::print_json(&status)?,
        (true, false) => {
            output::print(&(text(&admin, &status) + &upstream::summary(&upstreams)))?;
        }
        (false, true) => output::print_json(&named(upstreams, &args.upstreams)?)?,
        (false, false) => {
            let upstreams = named(upstreams, &args.upstreams)?;
            let texts: Vec<_> = upstreams.iter().map(upstream::details).collect();
            output::print(&texts.join("\n"))?;
        }
    }
    Ok(if status.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Those of these names, in this order.
fn named(upstreams: Vec<UpstreamView>, names: &[String]) -> Result<Vec<UpstreamView>, Failure> {
    let find = |name: &String| {
        let found = upstreams.iter().find(|upstream| upstream.name == *name);
        let known: Vec<_> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let unknown = || format!("no upstream is called `{name}`; there are: {}", known.join(", "));
        found.cloned().ok_or_else(|| Failure::runtime(unknown()))
    };
    names.iter().map(find).collect()
}

// Writing to a `String` cannot fail.
fn text(admin: &AdminUrl, status: &StatusView) -> String {
    let mut out = String::new();
    let StatusView { version, pid, readiness, uptime, workers, connections, .. } = status;
    let _ = writeln!(out, "portcullis {version} at {admin}: {readiness}");
    let up = time(*uptime);
    let workers = counted(*workers as u64, "worker");
    let connections = counted(*connections, "connection");
    let _ = writeln!(out, "  process        {pid}, up {up}, {workers}, {connections}");
    let StatusView { generation, routes, upstreams, .. } = status;
    let (routes, upstreams) =
        (counted(*routes as u64, "route"), counted(*upstreams as u64, "upstream"));
    let _ = writeln!(out, "  configuration  generation {generation}, {routes}, {upstreams}");
    for listener in &status.listeners {
        let _ = writeln!(out, "  listener       {}", self::listener(listener));
    }
    let ago = time(status.now.saturating_sub(status.reload.at));
    let outcome = match status.reload.accepted {
        true => "in use",
        false => "REFUSED, the last good one stays in use",
    };
    let _ = writeln!(out, "  last reload    {ago} ago: {outcome}");
    for problem in &status.reload.problems {
        let _ = writeln!(out, "    {}", problem.text.replace(char::is_control, " "));
    }
    out
}

fn listener(listener: &ListenerView) -> String {
    let mut protocols = vec!["http/1.1"];
    if listener.http2 {
        protocols.push("h2");
    }
    if listener.tls {
        protocols.push("tls");
    }
    if listener.proxy_protocol {
        protocols.push("proxy protocol");
    }
    let ListenerView { name, address, connections, .. } = listener;
    let refuses = if listener.refuses_all { ", REFUSES every handshake" } else { "" };
    let connections = counted(*connections, "connection");
    let closed = if listener.open { "" } else { ", NOT OPEN" };
    let public = listener.public_port.map(|port| format!(" for port {port}")).unwrap_or_default();
    let protocols = protocols.join(", ");
    format!("{name} at {address}{public} ({protocols}), {connections}{closed}{refuses}")
}

/// A time in its two largest units.
fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [(7, "7s"), (67, "1m7s"), (7200, "2h0m"), (90_000, "1d1h")] {
            assert_eq!(time(seconds), text);
        }
    }
}
