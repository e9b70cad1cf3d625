//! Keeps clients on https where the route says so.

use futures_util::future::{Either, ready};
use http::Response;
use http::header::LOCATION;
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::proxy::{Body, Request};
use crate::snapshot::Action;
use crate::telemetry::Reason;

/// Redirects what the client did not send over TLS. Nothing behind it sees such a request, so that
/// no credentials are asked for in plain text.
pub fn https<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| match redirect(&request) {
        Some(outcome) => Either::Right(ready(outcome)),
        None => Either::Left(inner.call(request)),
    })
}

fn redirect(request: &Request) -> Option<Outcome> {
    let context = &request.context;
    let route = context.route()?;
    let plan = route.https_redirect.as_ref()?;
    let broken = matches!(route.action, Action::Fail { .. });
    if context.secure.get() || broken || !plan.concerns(&request.target) {
        return None;
    }
    let Some(location) = plan.location(request.host.name(), &request.target) else {
        return Some(Err(ProxyError::client(Reason::BadRequest)));
    };
    context.because(Reason::Redirect);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = plan.status;
    response.headers_mut().insert(LOCATION, location);
    Some(Ok(response))
}
