//! What a route allows a request to be.

use futures_util::future::{Either, ready};
use http::Response;
use tower::{Service, service_fn};

use crate::error::ProxyError;
use crate::proxy::{Body, Request};
use crate::telemetry::Reason;

/// Puts the route's limits on the body: refused at once where its length is known.
pub fn limits<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        // What an extended CONNECT carries is a tunnel's business, not an upload.
        let tunnel = request.upgrade.as_ref().is_some_and(|upgrade| upgrade.extended_connect);
        if let (Some(body), Some(route), false) =
            (request.body.as_mut(), request.context.route(), tunnel)
        {
            let too_large = match (route.body_limit, body.length()) {
                (Some(limit), Some(length)) => length > limit,
                _ => false,
            };
            if too_large {
                return Either::Right(ready(Err(ProxyError::client(Reason::BodyTooLarge))));
            }
            body.restrict(route.body_limit, route.timeouts.idle);
        }
        Either::Left(inner.call(request))
    })
}
