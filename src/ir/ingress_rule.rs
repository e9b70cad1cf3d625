//! The rule of an Ingress behind a route.

use std::sync::Arc;

use serde::Serialize;

use super::Name;

/// The rule that a route was made from, as the metrics under ingress-nginx's names tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IngressRule {
    /// The namespace of the Ingress; empty for routes that are no Ingress's.
    pub namespace: Name,
    /// Its name; empty for routes that are no Ingress's.
    pub ingress: Name,
    /// The path of the rule.
    pub path: Arc<str>,
    /// The Service of the rule; empty where it has none.
    pub service: Name,
    /// Whether there is such a Service, where the rule forwards to it.
    pub service_exists: bool,
    /// The upstream that is made from it; `None` where the rule does not forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// Where part of the requests goes instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Name>,
}
