//! Telling systemd how the service is doing (`sd_notify(3)`): a datagram, no library needed.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service is up, or done reloading.
pub fn ready() {
    tell("READY=1");
}

/// The service takes over a new configuration. Carries the clock that `Type=notify-reload` wants.
pub fn reloading() {
    let clock = monotonic_micros().unwrap_or(0);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={clock}"));
}

/// The service is going down.
pub fn stopping() {
    tell("STOPPING=1");
}

/// From now on the service is process `pid`, and no longer this one.
pub fn succeeded_by(pid: i32) {
    tell(&format!("MAINPID={pid}"));
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = path.as_encoded_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

/// CLOCK_MONOTONIC, which the kernel also shows as the time since boot.
fn monotonic_micros() -> Option<u64> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some((seconds * 1e6) as u64)
}
