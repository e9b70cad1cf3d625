//! Who answers in the place of an upstream none of whose endpoints may be picked: the request goes there as it would
//! have gone to the upstream, with its path and body.

use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Request;
use crate::filter::{Place, RequestTarget, render_value};
use crate::ir::ErrorPages;
use crate::snapshot::Action;
use crate::telemetry::Reason;
use crate::upstream::Upstream;

const X_CODE: HeaderName = HeaderName::from_static("x-code");
const X_FORMAT: HeaderName = HeaderName::from_static("x-format");
const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");

/// Fields of a request, and those that it must not have.
pub type Fields = Vec<(HeaderName, Option<HeaderValue>)>;

/// Another upstream, and what it is told.
pub struct StandIn {
    /// Who answers.
    pub upstream: Arc<Upstream>,
    fields: Fields,
}

/// Who answers `request` instead of `upstream`; none where that has an endpoint to pick, or nobody is
/// there for it.
pub fn find(request: &Request, upstream: &Upstream) -> Option<StandIn> {
    let context = &request.context;
    let route = context.route()?;
    let pages = route.error_pages.as_ref().filter(|pages| pages.spec.no_endpoint)?;
    // A gRPC client reads codes, not pages.
    if context.is_grpc.get() || !upstream.endpoints().serves_nobody() {
        return None;
    }
    let way = context.route_of(pages.route)?;
    let Action::Forward(targets) = &way.action else { return None };
    let other = targets.pick(context.worker.id)?;
    if other.endpoints().serves_nobody() {
        return None;
    }
    upstream.metrics.no_endpoint(context.worker.id);
    context.because(Reason::NoEndpoint);
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut fields = fields(status, &request.headers, request.asked());
    fields.extend(more(&pages.spec, request));
    Some(StandIn { upstream: other.clone(), fields })
}

impl StandIn {
    /// Puts what it is told into the request.
    pub fn tell(self, headers: &mut HeaderMap) -> Arc<Upstream> {
        put(self.fields, headers);
        self.upstream
    }
}

/// What is said about an error with this status: of a request with these headers, for `asked`.
pub fn fields(status: StatusCode, headers: &HeaderMap, asked: &RequestTarget) -> Fields {
    vec![
        (X_CODE, HeaderValue::from_str(status.as_str()).ok()),
        (X_FORMAT, headers.get(ACCEPT).cloned()),
        (X_ORIGINAL_URI, HeaderValue::from_str(asked.as_str()).ok()),
    ]
}

/// The fields that the configuration names.
pub fn more(spec: &ErrorPages, request: &Request) -> Fields {
    let facts = request.facts();
    let fields = spec.headers.iter();
    fields
        .map(|(name, template)| (name.clone(), render_value(template, &facts, Place::Header)))
        .collect()
}

/// Puts fields in the place of others of their names.
pub fn put(fields: Fields, headers: &mut HeaderMap) {
    for (name, value) in fields {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
}
