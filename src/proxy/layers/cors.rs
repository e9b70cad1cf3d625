//! Pages of other origins: preflights are answered here, and every other response, our own errors
//! included, says what the route's policy says.

use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use http::{HeaderValue, Method, Response, StatusCode};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::proxy::{Body, Context, Request, rescue};
use crate::telemetry::Reason;

/// Applies the route's CORS policy. Outside of whatever refuses requests: a preflight carries no
/// credentials, and a page can read an error only where that says it may.
pub fn cors<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| {
        let Some(allowed) = judge(&request) else { return Either::Left(inner.call(request)) };
        let context = request.context.clone();
        if allowed.is_some() && request.method == Method::OPTIONS {
            context.because(Reason::CorsPreflight);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            apply(&context, allowed, &mut response);
            return Either::Right(Either::Left(ready(Ok(response))));
        }
        Either::Right(Either::Right(inner.call(request).map(move |outcome: Outcome| {
            let mut response = outcome.unwrap_or_else(|error| rescue::response(&error, &context));
            apply(&context, allowed, &mut response);
            Ok(response)
        })))
    })
}

/// Which origin the route's policy allows; `None` where it has none.
fn judge(request: &Request) -> Option<Option<HeaderValue>> {
    let route = request.context.route()?;
    Some(route.cors.as_ref()?.allowed(&request.headers))
}

fn apply(context: &Context, allowed: Option<HeaderValue>, response: &mut Response<Body>) {
    if let Some(route) = context.route()
        && let Some(cors) = &route.cors
    {
        cors.apply(allowed, response.headers_mut());
    }
}
