//! Finds the route.

use futures_util::future::{Either, ready};
use http::Response;
use tower::{Service, service_fn};

use crate::error::ProxyError;
use crate::proxy::{Body, Request};
use crate::snapshot::{RequestFacts, RouteId};
use crate::telemetry::Reason;

/// Looks the request up in the snapshot it is served by.
pub fn lookup<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| match find(&request) {
        Ok(route) => {
            request.context.routed(Some(route));
            Either::Left(inner.call(request))
        }
        Err(error) => {
            request.context.routed(None);
            Either::Right(ready(Err(error)))
        }
    })
}

fn find(request: &Request) -> Result<RouteId, ProxyError> {
    let context = &request.context;
    // A listener taken out of the configuration serves nothing new.
    let listener = context.listener().ok_or_else(|| ProxyError::proxy(Reason::NoRoute))?;
    let host = request.host.name();
    let (policy, server_name) = (context.conn.policy.as_ref(), context.conn.server_name.as_deref());
    if !listener.still_admits(policy, host) {
        // On a new connection the client can show what is demanded by now. For the name it was
        // made for this one may be as good as before.
        if !listener.still_admits(policy, server_name.unwrap_or_default()) {
            context.conn.leaving.set(true);
        }
        let error = ProxyError::client(Reason::Misdirected);
        return Err(error.because("the connection was made under another policy"));
    }
    if let Some(tls) = &listener.tls
        && !tls.covers(server_name, host)
    {
        return Err(ProxyError::proxy(Reason::Misdirected));
    }
    let facts = RequestFacts {
        method: &request.method,
        path: request.target.path(),
        query: request.target.query(),
        headers: &request.headers,
    };
    let table = listener.hosts.lookup(host);
    let route = table.and_then(|table| table.lookup(&facts));
    route.ok_or_else(|| ProxyError::proxy(Reason::NoRoute))
}
