//! Repeats an attempt that provably did nothing.

use http::Response;
use tower::{Service, service_fn};

use crate::error::{ProxyError, Replay};
use crate::proxy::forward::Failed;
use crate::proxy::{Body, Request};
use crate::telemetry::Reason;

/// Sends the request to another endpoint after a connect failure, and again after a connection
/// turned out to be closed before it carried anything.
pub fn retry<S>(
    inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = Failed> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        let mut inner = inner.clone();
        async move {
            let context = request.context.clone();
            let most = context.route().map_or(0, |route| route.retry.attempts);
            let mut repeats = 0;
            let mut last: Option<ProxyError> = None;
            loop {
                let outcome = inner.call(request).await;
                let none_left = |failed: &Failed| failed.error.reason == Reason::NoEndpoint;
                // "No endpoint left" says less than why the last one was left, and is no repeat.
                if let Some(error) = last.take() {
                    if outcome.as_ref().is_err_and(none_left) {
                        return Err(error);
                    }
                    if let Some((upstream, _)) = &*context.upstream.borrow() {
                        upstream.metrics.retry(context.worker.id, error.reason);
                    }
                }
                let failed = match outcome {
                    Ok(response) => return Ok(response),
                    Err(failed) => failed,
                };
                let Some(again) = failed.request.filter(|_| repeats < most) else {
                    return Err(failed.error);
                };
                repeats += 1;
                request = again;
                request.fresh = failed.error.replay == Replay::Stale || request.tried.is_empty();
                last = Some(failed.error);
            }
        }
    })
}
