//! The route's changes to both heads.

use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use http::Response;
use http::header::VIA;
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::filter::RequestFilter;
use crate::proxy::{Body, Context, HttpVersion, Request, forwarding};
use crate::snapshot::{Action, CompiledRoute};
use crate::telemetry::Reason;

/// Our own fields first, then the route's edits, so that a route can override them; on the way
/// back the route's edits of the response.
pub fn filters<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        let context = request.context.clone();
        if let Some(route) = context.route()
            && let Err(error) = on_request(&route, &mut request)
        {
            return Either::Right(ready(Err(error)));
        }
        Either::Left(inner.call(request).map(move |outcome: Outcome| {
            let mut response = outcome?;
            on_response(&context, &mut response);
            Ok(response)
        }))
    })
}

fn on_request(route: &CompiledRoute, request: &mut Request) -> Result<(), ProxyError> {
    if !matches!(route.action, Action::Forward(_)) {
        return Ok(());
    }
    // The common case edits nothing: then the fields need not go through the map.
    request.owes_forwarding = forwarding::can_wait(request, &route.filters);
    if !request.owes_forwarding {
        forwarding::send(request);
    }
    for filter in &route.filters.request {
        match filter {
            RequestFilter::Headers(edits) => edits.apply(&mut request.headers),
            RequestFilter::Host(host) => request.upstream_host = host.clone(),
            RequestFilter::Path(plan) => {
                request.target = plan
                    .apply(&request.target)
                    .map_err(|error| ProxyError::client(Reason::BadRequest).because(error))?;
            }
        }
    }
    Ok(())
}

fn on_response(context: &Context, response: &mut Response<Body>) {
    if context.settings().is_some_and(|settings| settings.forwarding.via) {
        response.headers_mut().append(VIA, forwarding::via(HttpVersion::H1));
    }
    let Some(route) = context.route() else { return };
    for edits in &route.filters.response {
        edits.apply(response.headers_mut());
    }
}
