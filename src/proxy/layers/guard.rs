//! Who may use the route, and how much of it.

use std::cell::Ref;

use futures_util::future::{Either, ready};
use http::Response;
use tower::{Service, service_fn};

use crate::error::ProxyError;
use crate::proxy::{Body, Request};

/// Refuses what the route's guard does not let in. What it counts as in progress stays so until
/// the end of the request's story.
pub fn guard<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| match enter(&request) {
        Ok(()) => Either::Left(inner.call(request)),
        Err(error) => Either::Right(ready(Err(error))),
    })
}

fn enter(request: &Request) -> Result<(), ProxyError> {
    let context = &request.context;
    let guard = context
        .route()
        .and_then(|route| Ref::filter_map(route, |route| route.guard.as_deref()).ok());
    let Some(guard) = guard else { return Ok(()) };
    let now = context.started;
    match guard.enter(context.client.get(), &request.headers, now) {
        Ok(seat) => {
            context.seat.replace(seat);
            Ok(())
        }
        Err(refusal) => {
            let mut error = ProxyError::proxy(refusal.reason).answered(refusal.status);
            error.retry_after = refusal.retry_after;
            Err(error)
        }
    }
}
