//! What templates take of the route they belong to: its host and the Service behind it.

use std::sync::Arc;

use ir::{HostPattern, Site};
use k8s_openapi::api::networking::v1::IngressBackend;

use crate::ir;
use crate::provider::kubernetes::Key;

/// Puts host and Service into the templates of a route.
pub(super) fn bind(
    route: &mut ir::Route,
    pattern: &HostPattern,
    owner: &Key,
    backend: &IngressBackend,
) {
    let service = backend.service.as_ref();
    let name: Arc<str> = service.map(|service| service.name.as_str()).unwrap_or_default().into();
    let port = service.and_then(|service| service.port.as_ref()).map(|port| match port.number {
        Some(number) => number.to_string(),
        None => port.name.clone().unwrap_or_default(),
    });
    let port: Arc<str> = port.unwrap_or_default().into();
    route.bind(&|site| match site {
        Site::Host => pattern.to_string().into(),
        Site::Service => name.clone(),
        Site::ServicePort => port.clone(),
        Site::Upstream => format!("{}-{name}-{port}", owner.namespace).into(),
    });
}
