//! The rules behind routes, as metrics tell them.

use std::sync::Arc;

use ir::{IngressRule, Name};
use k8s_openapi::api::networking::v1::IngressBackend;

use super::path::RulePath;
use super::service::Upstreams;
use crate::ir;
use crate::provider::kubernetes::{Key, Options};

/// The rule for `path` of the Ingress `object`, where rules are to be told.
pub(super) fn rule(
    object: &Key,
    path: &RulePath,
    backend: &IngressBackend,
    upstream: Option<&Name>,
    upstreams: &Upstreams<'_>,
    options: &Options,
) -> Option<Arc<IngressRule>> {
    options.rules.then(|| {
        let service = backend.service.as_ref().map(|service| service.name.as_str());
        let key = service.map(|service| Key::new(object.namespace.clone(), service));
        Arc::new(IngressRule {
            namespace: Name::new(object.namespace.clone()),
            ingress: Name::new(object.name.clone()),
            path: path.text.clone(),
            service: Name::from(service.unwrap_or_default()),
            service_exists: upstream.is_some() && key.is_some_and(|key| upstreams.knows(&key)),
            upstream: upstream.cloned(),
            canary: None,
        })
    })
}

/// The rule of requests that no Ingress's rule is for and a Service of the controller gets.
pub(super) fn rule_of_default(
    service: &Key,
    upstream: &Name,
    options: &Options,
) -> Option<Arc<IngressRule>> {
    options.rules.then(|| {
        Arc::new(IngressRule {
            namespace: Name::default(),
            ingress: Name::default(),
            path: Arc::from("/"),
            service: Name::new(service.name.clone()),
            service_exists: true,
            upstream: Some(upstream.clone()),
            canary: None,
        })
    })
}

/// The same rule, part of whose requests go to `canary`.
pub(super) fn with_canary(rule: &Arc<IngressRule>, canary: &Name) -> Arc<IngressRule> {
    Arc::new(IngressRule { canary: Some(canary.clone()), ..IngressRule::clone(rule) })
}
