//! The Kubernetes provider: objects of a cluster, or manifests on disk, to an `ir::Fragment`.
//!
//! `Inputs` is what is known of the cluster at one moment; everything that gives it meaning is a
//! pure function of it. Only this room names `kube` and `k8s_openapi`. It knows nothing of
//! routing, connections or requests.

pub mod annotation;
mod inputs;

pub use inputs::{Inputs, Key};
