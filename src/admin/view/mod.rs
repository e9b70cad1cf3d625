//! The state of a proxy in the shapes the API shows it: plain data that serialises without
//! secrets and that the commands read back.
//!
//! Times are Unix seconds. A view is made from a snapshot and what lives beside it, at one moment.

mod certificate;
mod endpoint;
mod limits;
pub mod policy;
mod problem;
mod route;
mod status;
mod upstream;

pub use certificate::{CertificateView, certificates};
pub use endpoint::{CheckView, EjectionView, EndpointState, EndpointView};
pub use limits::{LimitsView, Occupancy};
pub use problem::{Place, ProblemView};
pub use route::{ActionView, Condition, RouteView, ShareView, path, route, routes};
pub use status::{ListenerView, ReloadView, StatusView};
pub use upstream::{UpstreamView, upstream, upstreams};

use serde::Serialize;

/// A time for people: three figures at most.
pub fn milliseconds(time: f64) -> String {
    match time {
        ..1.0 => format!("{:.0} us", time * 1000.0),
        ..9.95 => format!("{time:.1} ms"),
        ..999.5 => format!("{time:.0} ms"),
        ..9_950.0 => format!("{:.1} s", time / 1000.0),
        _ => format!("{:.0} s", time / 1000.0),
    }
}

/// What a unit-like value of the configuration model is called in the configuration.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
