//! Who answers in the place of errors.

use std::sync::Arc;

use http::HeaderName;
use ir::{ErrorPages, Piece, Template};
use k8s_openapi::api::networking::v1::IngressBackend;

use super::Object;
use super::service::{Settings, Upstreams, WantedPort};
use crate::ir;
use crate::provider::kubernetes::report::Finding;
use crate::provider::kubernetes::{Key, Options};

/// Which errors an Ingress wants replaced, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    /// The statuses.
    pub statuses: Vec<u16>,
    /// The Service of the same namespace; `None` is the one of what no rule matches.
    pub service: Option<Arc<str>>,
}

/// The error pages of a route to `backend`.
pub(super) fn pages(
    object: &mut Object<'_>,
    backend: &IngressBackend,
    options: &Options,
    upstreams: &mut Upstreams<'_>,
) -> Option<ErrorPages> {
    let pages = object.policy.pages.clone()?;
    let (namespace, own) = (object.key.namespace.clone(), pages.service.is_some());
    let service = match pages.service {
        Some(name) => Key::new(namespace.clone(), name),
        None => options.default_backend.clone()?,
    };
    let (first, settings) = (WantedPort::First, Settings::default());
    let (upstream, trouble) = upstreams.obtain(&service, first, &settings, "default-backend");
    if let Some(trouble) = trouble.filter(|trouble| own && !trouble.served) {
        let subject = format!("{}/default-backend", options.annotation_prefix);
        let finding = Finding::refused(subject, trouble.message);
        object.report.add(finding.hint("errors are left as they are until it can be used"));
    }
    let target = backend.service.as_ref();
    let port = target.and_then(|service| WantedPort::of(service.port.as_ref()));
    let text = |text: &str| Template::of([Piece::Literal(text.into())]);
    let headers = vec![
        (HeaderName::from_static("x-namespace"), text(&namespace)),
        (HeaderName::from_static("x-ingress-name"), text(&object.key.name)),
        (
            HeaderName::from_static("x-service-name"),
            text(target.map_or("", |service| service.name.as_str())),
        ),
        (
            HeaderName::from_static("x-service-port"),
            text(&port.map(|port| port.to_string()).unwrap_or_default()),
        ),
    ];
    let statuses = pages.statuses.iter().map(|status| (*status, *status)).collect();
    Some(ErrorPages { statuses, no_endpoint: own, upstream, headers })
}
