//! The deadline of the whole request, up to its response head; the body keeps it from there.

use futures_util::FutureExt;
use futures_util::future::Either;
use http::Response;
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::proxy::{Body, Request};
use crate::telemetry::Reason;
use crate::util::wheel::{self, Elapsed};

/// Gives up once the route's request timeout has passed, attempts and all.
pub fn timeout<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| {
        let limit = request.context.route().and_then(|route| route.timeouts.request);
        let Some(limit) = limit else { return Either::Left(inner.call(request)) };
        let left = limit.saturating_sub(request.context.started.elapsed());
        let wheel = request.context.worker.wheel.clone();
        let deadline = wheel::timeout(&wheel, Some(left), inner.call(request));
        Either::Right(deadline.map(|outcome: Result<Outcome, Elapsed>| match outcome {
            Ok(outcome) => outcome,
            Err(elapsed) => Err(ProxyError::proxy(Reason::RequestTimeout).because(elapsed)),
        }))
    })
}
