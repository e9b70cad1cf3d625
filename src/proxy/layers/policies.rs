//! The policies that most routes have none of.

use futures_util::future::Either;
use http::Response;
use tower::{Service, service_fn};

use super::client_auth::client_auth;
use super::rules::rules;
use super::{auth, cors, error_pages, guard, https};
use crate::error::ProxyError;
use crate::proxy::{Body, Request};
use crate::telemetry::MethodLabel;

/// Has requests pass the layers below, in this order, where their route has any of these
/// policies. Others go past all of them: seven layers, each with nothing to do, cost a request
/// more than all of balancing does.
pub fn policies<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    let asked = auth(inner.clone()); // who may use the route
    let guarded = guard(asked); // from where it may be used, and how much
    let shown = client_auth(guarded); // what the host demands of client certificates
    let secured = https(shown); // away from plain http, where the route says so
    let ruled = rules(secured); // answers of the route's rules
    let paged = error_pages(ruled); // answers of another upstream in the place of errors
    let mut outermost = cors(paged); // pages of other origins: preflights end here
    service_fn(move |request: Box<Request>| {
        let has_policies = request.context.route().is_some_and(|route| {
            if route.rule.is_some() {
                request.context.method.set(Some(MethodLabel::of(&request.method)));
            }
            route.has_policies()
        });
        match has_policies || request.ruling.is_some() {
            false => Either::Left(inner.call(request)),
            // Boxed: the requests of other routes have no space for it.
            true => Either::Right(Box::pin(outermost.call(request))),
        }
    })
}
