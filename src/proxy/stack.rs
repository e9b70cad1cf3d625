//! The way of a request, on one screen. Changing it changes the diagram in ARCHITECTURE.md.

use std::convert::Infallible;

use http::Response;
use tower::{Service, ServiceBuilder, service_fn};

use super::forward::forward;
use super::{Body, Inbound, layers};

/// A stack as the server holds it.
pub trait Stack:
    Service<Inbound, Response = Response<Body>, Error = Infallible> + Clone + 'static
{
}

impl<S> Stack for S where
    S: Service<Inbound, Response = Response<Body>, Error = Infallible> + Clone + 'static
{
}

/// The one stack: static, shared by all routes of a worker. What differs between routes is data
/// that each layer reads from the matched route.
pub fn stack() -> impl Stack {
    // An attempt is boxed: it is large, and what a layer returns is copied by each above it.
    ServiceBuilder::new()
        .layer_fn(layers::access_log) // tells the story once; errors become responses
        .layer_fn(layers::normalize) // one host, one path form, hop-by-hop fields gone
        .layer_fn(layers::lookup) // host and path -> route
        .layer_fn(layers::policies) // origins, https, error pages, addresses and rates, logins
        .layer_fn(layers::limits) // what the route allows a request to be
        .layer_fn(layers::filters) // forwarding headers, then the route's edits, both ways
        .layer_fn(layers::answer) // redirects and fixed responses end here
        .layer_fn(layers::timeout) // the whole request's deadline
        .layer_fn(layers::retry) // another attempt, where the last one did nothing
        .service(service_fn(|request| Box::pin(forward(request)))) // endpoint, connection, exchange
}
