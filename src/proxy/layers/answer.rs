//! Routes that answer by themselves: redirects, fixed responses, and routes whose configuration
//! is wrong.

use futures_util::future::{Either, ready};
use http::header::LOCATION;
use http::{Method, Response, StatusCode};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::filter::{Location, Place, render_value};
use crate::proxy::{Body, Request};
use crate::snapshot::Action;
use crate::telemetry::Reason;

/// Answers where the route does not forward.
pub fn answer<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| match outcome(&request) {
        Some(outcome) => Either::Right(ready(outcome)),
        None => Either::Left(inner.call(request)),
    })
}

fn outcome(request: &Request) -> Option<Outcome> {
    let context = &request.context;
    match &context.route()?.action {
        // `OPTIONS *` asks about this server, not about a resource behind it (RFC 9110 §9.3.7).
        Action::Forward(_) if request.target.path() == "*" && request.method == Method::OPTIONS => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Some(Ok(response))
        }
        Action::Forward(_) => None,
        Action::Fail { status, reason } => {
            let error = ProxyError::proxy(Reason::ConfigError).because(reason.clone());
            Some(Err(error.answered(*status)))
        }
        Action::Redirect(plan) => {
            let from = Location {
                scheme: if context.secure.get() { "https" } else { "http" },
                host: request.host.name(),
                port: request.host.port(),
                target: &request.target,
            };
            let Some(location) = plan.location(&from) else {
                return Some(Err(ProxyError::client(Reason::BadRequest)));
            };
            context.because(Reason::Redirect);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = plan.status;
            response.headers_mut().insert(LOCATION, location);
            Some(Ok(response))
        }
        Action::RedirectTo(redirect) => {
            let to = render_value(&redirect.to, &request.facts(), Place::Url);
            let Some(location) = to.filter(|to| !to.is_empty()) else {
                return Some(Err(ProxyError::client(Reason::BadRequest)));
            };
            context.because(Reason::Redirect);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = redirect.status;
            response.headers_mut().insert(LOCATION, location);
            Some(Ok(response))
        }
        Action::Respond(fixed) => {
            context.because(Reason::Respond);
            let mut response = Response::new(Body::full(fixed.body.clone()));
            *response.status_mut() = fixed.status;
            *response.headers_mut() = fixed.headers.clone();
            Some(Ok(response))
        }
    }
}
