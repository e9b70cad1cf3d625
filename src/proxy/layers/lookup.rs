//! Finds the route.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::{Either, ready};
use http::Response;
use tower::{Service, service_fn};

use super::{Outcome, client_auth, rules};
use crate::error::ProxyError;
use crate::filter::{Rules, Verdict};
use crate::proxy::{Body, Context, Request};
use crate::snapshot::{CompiledListener, RequestFacts, RouteId};
use crate::telemetry::Reason;

/// How often a route is looked for, where rules ask for it. nginx has the same bound.
pub const MOST_LOOKUPS: usize = 10;

/// Looks the request up in the snapshot it is served by.
pub fn lookup<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| match find(&mut request) {
        Ok(Found::Route(route)) => {
            request.context.routed(Some(route));
            Either::Left(inner.call(request))
        }
        Ok(Found::Answer(outcome)) => {
            request.context.routed(None);
            Either::Right(ready(outcome))
        }
        Err(error) => {
            request.context.routed(None);
            Either::Right(ready(Err(error)))
        }
    })
}

enum Found {
    Route(RouteId),
    /// A rule of the host answers.
    Answer(Outcome),
}

fn find(request: &mut Request) -> Result<Found, ProxyError> {
    let context = request.context.clone();
    // A listener taken out of the configuration serves nothing new.
    let listener = context.listener().ok_or_else(|| ProxyError::proxy(Reason::NoRoute))?;
    admitted(&listener, request, &context)?;
    let none = || ProxyError::proxy(Reason::NoRoute);
    let table = listener.hosts.lookup(request.host.key()).ok_or_else(none)?;
    if let Some(rules) = &table.rules
        && let Some(outcome) = before_routes(rules, request)
    {
        // What a host demands of its clients stands before all that it answers.
        let gate = table.client_gate.as_deref();
        let refused = gate.and_then(|gate| client_auth::turned_away_by(gate, request));
        return Ok(Found::Answer(refused.unwrap_or(outcome)));
    }
    for _ in 0..MOST_LOOKUPS {
        let facts = RequestFacts {
            method: &request.method,
            path: request.target.path(),
            query: request.target.query(),
            headers: &request.headers,
        };
        let id = table.lookup(&facts).ok_or_else(none)?;
        let slashes = table.check_slashes(&request.target, &facts, id);
        slashes.map_err(|error| ProxyError::client(Reason::BadRequest).because(error))?;
        let route = context.route_of(id);
        match route.as_ref().and_then(|route| route.rules.as_deref()) {
            None => return Ok(Found::Route(id)),
            Some(rules) if rules::judge(rules, request) != Verdict::Lookup => {
                return Ok(Found::Route(id));
            }
            Some(_) => {}
        }
    }
    Err(ProxyError::proxy(Reason::ConfigError).because("rewrites lead in a circle"))
}

/// Whether the connection may be used for the host.
fn admitted(
    listener: &Arc<CompiledListener>,
    request: &Request,
    context: &Rc<Context>,
) -> Result<(), ProxyError> {
    let Some(tls) = &listener.tls else { return Ok(()) };
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
    if !tls.covers(server_name, host) {
        return Err(ProxyError::proxy(Reason::Misdirected));
    }
    Ok(())
}

/// Goes through the rules of the host; what they answer goes back as it is.
fn before_routes(rules: &Rules, request: &mut Request) -> Option<Outcome> {
    match rules::judge(rules, request) {
        Verdict::Answered => rules::answer(request),
        Verdict::Continue | Verdict::Stop | Verdict::Lookup => {
            // What a host's rules make of the path is what routes are looked for by.
            if let Some(ruling) = &mut request.ruling {
                ruling.settled = false;
            }
            None
        }
    }
}
