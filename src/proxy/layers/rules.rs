//! What rules have come to for a request: gone through while its route is looked for, applied here
//! and among the edits of heads.

use futures_util::future::{Either, ready};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{Method, Response};
use tower::{Service, service_fn};

use super::{Outcome, client_auth};
use crate::error::ProxyError;
use crate::filter::{Answer, Rules, Ruling, Verdict};
use crate::proxy::{Body, Request};
use crate::telemetry::Reason;

/// Answers where a rule of the route does.
pub fn rules<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| match answer_to(&mut request) {
        Some(outcome) => Either::Right(ready(outcome)),
        None => Either::Left(inner.call(request)),
    })
}

/// The answer of a rule, to who may have one: what a host demands of its clients stands before all
/// that it answers.
fn answer_to(request: &mut Request) -> Option<Outcome> {
    request.ruling.as_ref()?.answer.as_ref()?;
    client_auth::turned_away(request).or_else(|| answer(request))
}

/// Goes through `rules` with a request, and changes its target as they say.
pub fn judge(rules: &Rules, request: &mut Request) -> Verdict {
    // `OPTIONS *` asks about this server, not about a resource behind it (RFC 9110 §9.3.7).
    if request.target.path() == "*" && request.method == Method::OPTIONS {
        return Verdict::Continue;
    }
    let mut ruling = request.ruling.take().unwrap_or_default();
    let verdict = rules.judge(&request.facts(), &mut ruling);
    if let Some(target) = ruling.target.take() {
        request.rewrite(target);
    }
    request.ruling = Some(ruling);
    verdict
}

/// The answer of a rule, with the edits of the route and of the rules before it.
pub fn answer(request: &mut Request) -> Option<Outcome> {
    request.ruling.as_ref()?.answer.as_ref()?;
    let mut ruling = request.ruling.take()?;
    let context = request.context.clone();
    let mut response = match ruling.answer.take()? {
        Answer::Unsound => {
            let error = ProxyError::client(Reason::BadRequest);
            return Some(Err(error.because("what a rule makes of it is no path or URL")));
        }
        Answer::Redirect(status, to) => {
            context.because(Reason::Redirect);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            response.headers_mut().insert(LOCATION, to);
            response
        }
        Answer::Response(status, kind, body) => {
            context.because(Reason::Respond);
            let empty = body.is_empty();
            let mut response = Response::new(Body::full(body.into()));
            *response.status_mut() = status;
            if !empty {
                response.headers_mut().insert(CONTENT_TYPE, kind);
            }
            response
        }
    };
    if let Some(route) = context.route() {
        let drafts = route.filters.response_drafts(&request.facts());
        let status = response.status();
        route.filters.on_own_response(status, response.headers_mut(), &drafts);
    }
    on_response(Some(&ruling), &mut response);
    Some(Ok(response))
}

/// Edits a response as the rules say.
pub fn on_response(ruling: Option<&Ruling>, response: &mut Response<Body>) {
    if let Some(ruling) = ruling {
        ruling.on_response(response.status(), response.headers_mut());
    }
}
