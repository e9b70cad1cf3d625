//! Tells the story of every request once, and turns every error into a response.

use std::convert::Infallible;

use futures_util::FutureExt;
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, Response};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::proxy::{Body, Context, Inbound, rescue};

/// The outermost layer. The story ends with the response body, or with the tunnel it opens.
pub fn access_log<S>(
    mut inner: S,
) -> impl Service<Inbound, Response = Response<Body>, Error = Infallible> + Clone
where
    S: Service<Inbound, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |inbound: Inbound| {
        let context = inbound.context.clone();
        inner.call(inbound).map(move |outcome: Outcome| {
            let mut response = outcome.unwrap_or_else(|error| rescue::response(&error, &context));
            if context.secure.get() {
                keep_on_https(&context, response.headers_mut());
            }
            context.responded(response.status());
            context.note_grpc_status(response.headers());
            let mut response = response.map(|body| body.finishing(context.clone()));
            if let Some(tunnel) = context.conn.tunnel.borrow_mut().as_mut() {
                tunnel.finish_with(response.body_mut().take_finish());
                context.release_snapshot();
            } else if response.body().is_tunnel() {
                context.release_snapshot();
            } else if !response.body().is_under_way() {
                context.leave();
            }
            Ok(response)
        })
    })
}

/// Browsers take no notice of the field in what came without TLS (RFC 6797 §8.1), and it must not
/// stand there (§7.2).
fn keep_on_https(context: &Context, headers: &mut HeaderMap) {
    if let Some(route) = context.route()
        && let Some(value) = &route.hsts
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
    }
}
