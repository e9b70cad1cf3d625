//! The route's changes to both heads.

use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tower::{Service, service_fn};

use super::{Outcome, rules};
use crate::error::ProxyError;
use crate::filter::{Draft, RequestFilter, Ruling};
use crate::ir::ResponseBuffer;
use crate::proxy::{Body, Context, Host, HttpVersion, Request, forwarding};
use crate::snapshot::{Action, CompiledRoute};
use crate::telemetry::Reason;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

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
        let ruling = request.ruling.take();
        let upgrade = request.upgrade.is_some();
        let mut drafts = Vec::new();
        if let Some(route) = context.route() {
            if route.filters.opens_response {
                drafts = route.filters.response_drafts(&request.facts());
            }
            if let Err(error) = on_request(&route, &mut request, ruling.as_deref()) {
                return Either::Right(ready(Err(error)));
            }
        }
        // Boxed: the requests of most routes have no space for it.
        let later = match (drafts.is_empty(), ruling) {
            (true, None) => None,
            (_, ruling) => Some(Box::new(Later { drafts, ruling })),
        };
        Either::Left(inner.call(request).map(move |outcome: Outcome| {
            let mut response = outcome?;
            let bodies = context.route().map(|route| route.bodies).unwrap_or_default();
            let ahead = bodies.response_buffer;
            let ahead = ahead.and_then(|buffer| wanted(buffer, response.headers_mut()));
            on_response(&context, &mut response, later.as_deref());
            // Tunnels and gRPC calls are conversations: they go on as either side reads.
            if let Some(size) = ahead.filter(|_| !upgrade && !context.is_grpc.get()) {
                response = response.map(|body| body.read_ahead(size));
            }
            if let Some(rate) = bodies.response_rate {
                response = response.map(|body| body.paced(rate, &context));
            }
            Ok(response)
        }))
    })
}

/// How much of a response is read ahead, by what its route and its endpoint say. What the endpoint
/// says is for proxies only.
fn wanted(buffer: ResponseBuffer, headers: &mut HeaderMap) -> Option<u64> {
    let word = headers.remove(X_ACCEL_BUFFERING);
    let says = |text: &[u8]| {
        word.as_ref().is_some_and(|word| word.as_bytes().trim_ascii().eq_ignore_ascii_case(text))
    };
    let wanted = if buffer.by_default { !says(b"no") } else { says(b"yes") };
    wanted.then(|| buffer.size.get())
}

/// What edits of the response take of the request.
struct Later {
    drafts: Vec<Draft>,
    ruling: Option<Box<Ruling>>,
}

fn on_request(
    route: &CompiledRoute,
    request: &mut Request,
    ruling: Option<&Ruling>,
) -> Result<(), ProxyError> {
    if !matches!(route.action, Action::Forward(_)) {
        return Ok(());
    }
    // Values are of the request as it came, before any of these edits and before our own fields.
    let values = match route.filters.opens_request {
        true => route.filters.request_values(&request.facts()),
        false => Vec::new(),
    };
    let mut values = values.into_iter();
    // The common case edits nothing: then the fields need not go through the map.
    let ruled = ruling.is_some_and(Ruling::edits_request);
    request.owes_forwarding = !ruled && forwarding::can_wait(request, &route.filters);
    if !request.owes_forwarding {
        forwarding::send(request);
    }
    for filter in &route.filters.request {
        match filter {
            RequestFilter::Headers(edits) => edits.apply(&mut request.headers, &mut values),
            RequestFilter::Host(host) => request.upstream_host = host.clone(),
            RequestFilter::HostFrom(_) => set_host(request, values.next().flatten())?,
            RequestFilter::Path(_) if ruling.is_some_and(|ruling| ruling.settled) => {}
            RequestFilter::Path(plan) => {
                let target = plan
                    .apply(&request.target)
                    .map_err(|error| ProxyError::client(Reason::BadRequest).because(error))?;
                request.rewrite(target);
            }
        }
    }
    if let Some(ruling) = ruling {
        if let Some(host) = &ruling.host {
            set_host(request, host.clone())?;
        }
        ruling.on_request(&mut request.headers);
    }
    Ok(())
}

/// Has the upstream see this `Host`, which a template came to.
fn set_host(request: &mut Request, host: Option<HeaderValue>) -> Result<(), ProxyError> {
    let host = host.as_ref().and_then(Host::parse);
    let none = || ProxyError::client(Reason::BadRequest).because("the new Host is none");
    request.upstream_host = host.ok_or_else(none)?.to_value();
    Ok(())
}

fn on_response(context: &Context, response: &mut Response<Body>, later: Option<&Later>) {
    if context.settings().is_some_and(|settings| settings.forwarding.via) {
        response.headers_mut().append(VIA, forwarding::via(HttpVersion::H1));
    }
    let Some(route) = context.route() else { return };
    if !route.filters.response.is_empty() {
        let status = response.status();
        let drafts = later.map(|later| later.drafts.as_slice()).unwrap_or_default();
        match route.action {
            Action::Forward(_) => {
                route.filters.on_response(status, response.headers_mut(), drafts);
            }
            _ => route.filters.on_own_response(status, response.headers_mut(), drafts),
        }
    }
    rules::on_response(later.and_then(|later| later.ruling.as_deref()), response);
}
