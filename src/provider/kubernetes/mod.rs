//! The Kubernetes provider: objects of a cluster, or manifests on disk, to an `ir::Fragment`.
//!
//! `Inputs` is what is known of the cluster at one moment; everything that gives it meaning is a
//! pure function of it: `translate` for the configuration, `endpoints` for the endpoints of one
//! Service, which change far more often. `start` keeps `Inputs` up to date in a cluster. Only this room names `kube` and `k8s_openapi`. It knows
//! nothing of routing, connections or requests.

pub mod annotation;
mod class;
mod controller;
mod endpoints;
mod ingress;
mod inputs;
mod manifest;
mod options;
mod report;
mod service;
mod slice;
#[cfg(test)]
mod tests;
mod translate;
mod watch;

pub use endpoints::{ServicePort, ServiceUpstreams, endpoints};
pub use ingress::{Annotations, Ingress};
pub use inputs::{Inputs, Key};
pub use manifest::{Manifests, is_manifest};
pub use options::{CONTROLLER, LogOptions, NGINX_CONTROLLER, Options};
pub use report::{Finding, Report, Verdict};
pub use service::{Port, PortTarget, Service};
pub use slice::{Slice, SliceEndpoint, SliceState, Slices};
pub use translate::{Memo, References, Translation, translate};
pub use watch::{Access, Everything, Look, Parting, Running, Update, WatchOptions, look, start};
