//! The state of a proxy in the shapes the API shows it: plain data that serialises without
//! secrets and that the commands read back.
//!
//! Times are Unix seconds. A view is made from a snapshot and what lives beside it, at one moment.

mod certificate;
mod problem;
mod route;
mod status;
mod upstream;

pub use certificate::{CertificateView, certificates};
pub use problem::{Place, ProblemView};
pub use route::{ActionView, Condition, RouteView, ShareView, path, route, routes};
pub use status::{ListenerView, ReloadView, StatusView};
pub use upstream::{EndpointView, UpstreamView, upstream, upstreams};

use serde::Serialize;

/// What a unit-like value of the configuration model is called in the configuration.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
