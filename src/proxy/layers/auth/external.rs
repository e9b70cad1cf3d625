//! Asks a service whether a request may be served.
//!
//! The question is a request without a body that goes the way of all others: to an upstream with
//! its balancing, pools, retries and deadlines. What the service answers is read for its head only.

use http::header::{SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tower::Service;

use super::kept::Alike;
use super::{Cookies, Refusal};
use crate::error::{ProxyError, Side};
use crate::filter::{Place, RequestTarget, render, render_value};
use crate::proxy::{Body, Context, Request, Tried, forwarding};
use crate::snapshot::{External, RequestFacts, RouteId, Way};
use crate::telemetry::Reason;
use crate::util::wheel::timeout;

const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
const X_SENT_FROM: HeaderName = HeaderName::from_static("x-sent-from");

/// Whether the question has a field of its own under this name.
pub(super) fn is_of_the_question(name: &HeaderName) -> bool {
    [X_AUTH_REQUEST_REDIRECT, X_ORIGINAL_METHOD, X_ORIGINAL_URL, X_SENT_FROM].contains(name)
}

/// Asks, unless it is known; what comes back is told to the client. Fields of the answer go into the request, its
/// cookies into `cookies`.
pub(super) async fn ask<S>(
    request: &mut Request,
    context: &Context,
    external: &External,
    inner: &mut S,
    cookies: &mut Cookies,
) -> Result<(), Refusal>
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError>,
{
    let alike = Alike::of(request, context, external);
    if let Some(kept) = alike.as_ref().and_then(|alike| alike.find(request, context)) {
        return settle(request, external, kept.status, &kept.headers);
    }
    let question = question(request, context, external)?;
    let limit = Some(external.spec.timeout);
    let answered = timeout(&context.worker.wheel, limit, inner.call(question));
    let answer = match context.unless_closed(answered).await? {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.side == Side::Client => return Err(error.into()),
        Ok(Err(error)) => return Err(failed(error)),
        Err(elapsed) => return Err(failed(elapsed)),
    };
    let (head, body) = answer.into_parts();
    body.discard().await;
    let status = head.status;
    if status.is_success() || status == StatusCode::UNAUTHORIZED {
        cookies.values = head.headers.get_all(SET_COOKIE).iter().cloned().collect();
        cookies.always = external.spec.always_set_cookie;
    }
    if let Some(alike) = alike {
        alike.keep(request, context, external, (status, &head.headers));
    }
    settle(request, external, status, &head.headers)
}

/// What an answer means for the request.
fn settle(
    request: &mut Request,
    external: &External,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    match status {
        status if status.is_success() => {
            take_over(&external.spec.response_headers, headers, &mut request.headers);
            Ok(())
        }
        StatusCode::UNAUTHORIZED => Err(unknown(request, external, headers)),
        StatusCode::FORBIDDEN => Err(ProxyError::proxy(Reason::Forbidden).into()),
        status => Err(failed(format!("the service that was asked answered {}", status.as_u16()))),
    }
}

fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Refusal {
    ProxyError::proxy(Reason::AuthFailed).because(why).into()
}

/// The request that asks.
fn question(
    request: &Request,
    context: &Context,
    external: &External,
) -> Result<Box<Request>, Refusal> {
    let spec = &external.spec;
    let facts = request.facts();
    let url = render(&spec.path, &facts, Place::Url);
    let url = std::str::from_utf8(&url).map_err(failed)?;
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (url, None),
    };
    let target = request.target.moved(path, query).map_err(failed)?;
    let mut headers = request.headers.clone();
    let original = format!(
        "{}://{}{}",
        facts.scheme,
        String::from_utf8_lossy(facts.http_host.as_bytes()),
        facts.asked.as_str()
    );
    let redirect = match &spec.request_redirect {
        Some(template) => render_value(template, &facts, Place::Url),
        None => HeaderValue::from_str(facts.asked.as_str()).ok(),
    };
    let fields = [
        (X_ORIGINAL_URL, HeaderValue::try_from(original).ok()),
        (X_ORIGINAL_METHOD, HeaderValue::from_str(request.method.as_str()).ok()),
        (X_AUTH_REQUEST_REDIRECT, redirect),
        (X_SENT_FROM, Some(HeaderValue::from_static("portcullis"))),
    ];
    let more = spec
        .request_headers
        .iter()
        .map(|(name, template)| (name.clone(), render_value(template, &facts, Place::Header)));
    for (name, value) in fields.into_iter().chain(more) {
        match value {
            Some(value) => headers.insert(name, value),
            None => headers.remove(name),
        };
    }
    let (route, host) = match &external.way {
        Way::Route(route, host) => (*route, host.clone()),
        Way::OwnHost => (own_route(request, context, &spec.method, &target, &headers)?, None),
    };
    let aside = context.aside(route).ok_or_else(|| ProxyError::proxy(Reason::Internal))?;
    Ok(Box::new(Request {
        method: spec.method.clone(),
        host: request.host.clone(),
        upstream_host: host.unwrap_or_else(|| request.host.to_value()),
        target,
        asked: None,
        ruling: None,
        headers,
        body: None,
        upgrade: None,
        takes_trailers: false,
        context: aside,
        tried: Tried::default(),
        upstream: None,
        selection: None,
        fresh: false,
        owes_forwarding: false,
    }))
}

/// The route that the request's own host has for the question. One that has a guard itself would
/// ask without end.
fn own_route(
    request: &Request,
    context: &Context,
    method: &Method,
    target: &RequestTarget,
    headers: &HeaderMap,
) -> Result<RouteId, Refusal> {
    let facts = RequestFacts { method, path: target.path(), query: target.query(), headers };
    let listener = context.listener().ok_or_else(|| ProxyError::proxy(Reason::NoRoute))?;
    let table = listener.hosts.lookup(request.host.key());
    let route = table.and_then(|table| table.lookup(&facts));
    let route = route.ok_or_else(|| failed("no route of this host is for the question"))?;
    let snapshot = context.snapshot();
    let found = snapshot.as_ref().and_then(|snapshot| snapshot.route(route));
    match found.is_some_and(|found| found.auth.is_none()) {
        true => Ok(route),
        false => Err(failed("the route of the question asks who may use it itself")),
    }
}

/// Puts the named fields of the answer in the place of the client's, also where there are none.
/// What the proxy says itself is not the service's to say.
pub(super) fn take_over(names: &[HeaderName], answer: &HeaderMap, headers: &mut HeaderMap) {
    for name in names.iter().filter(|name| !forwarding::is_owned(name.as_str())) {
        headers.remove(name);
        for value in answer.get_all(name) {
            headers.append(name, value.clone());
        }
    }
}

/// Where the client can sign in, or what the service wants to see.
fn unknown(request: &Request, external: &External, answer: &HeaderMap) -> Refusal {
    let signin = external.spec.signin.as_ref();
    let signin = signin.map(|url| render_value(url, &request.facts(), Place::Url));
    match signin {
        Some(None) => failed("the URL to sign in at is none"),
        Some(signin) => Refusal::Unknown { challenges: Vec::new(), signin },
        None => {
            let challenges = answer.get_all(WWW_AUTHENTICATE).iter().cloned().collect();
            Refusal::Unknown { challenges, signin: None }
        }
    }
}
