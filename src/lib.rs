//! Portcullis: a reverse proxy and Kubernetes ingress controller that never reloads.

pub mod ir;
