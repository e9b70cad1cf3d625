//! Puts answers of another upstream in the place of errors.

use futures_util::future::Either;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Response};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::{ProxyError, Side};
use crate::filter::RequestTarget;
use crate::proxy::stand_in::{self, Fields};
use crate::proxy::{Body, Context, Host, Request, Tried};
use crate::snapshot::ErrorPages;

/// Asks the upstream of the route's error pages where a response has one of their statuses. Where
/// that upstream has nothing to say the error stands.
pub fn error_pages<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |request: Box<Request>| {
        let context = &request.context;
        let without = context.route().is_none_or(|route| route.error_pages.is_none());
        // A gRPC client reads codes, not pages.
        if without || context.is_grpc.get() {
            return Either::Left(inner.call(request));
        }
        let mut inner = inner.clone();
        // Boxed: the requests of other routes have no space for it.
        Either::Right(Box::pin(async move {
            let context = request.context.clone();
            let wish = Wish::of(&request);
            let outcome = inner.call(request).await;
            match wish.and_then(|wish| wish.request(&outcome, &context)) {
                None => outcome,
                Some(page) => replaced(outcome, inner.call(page).await, &context).await,
            }
        }))
    })
}

/// The page, or the error where there is none.
async fn replaced(outcome: Outcome, page: Outcome, context: &Context) -> Outcome {
    let Ok(page) = page else { return outcome };
    match outcome {
        Ok(response) => response.into_body().discard().await,
        Err(error) => context.failed(&error),
    }
    Ok(page)
}

/// What of a request is needed for a page once the request itself has gone.
struct Wish {
    method: Method,
    host: Host,
    target: RequestTarget,
    headers: HeaderMap,
    /// The fields that the configuration names.
    more: Fields,
}

impl Wish {
    fn of(request: &Request) -> Option<Self> {
        let context = &request.context;
        let route = context.route()?;
        let spec = &route.error_pages.as_ref()?.spec;
        Some(Self {
            method: request.method.clone(),
            host: request.host.clone(),
            target: request.asked().clone(),
            headers: request.headers.clone(),
            more: stand_in::more(spec, request),
        })
    }

    /// The request for the page; `None` where the outcome is to stay.
    fn request(self, outcome: &Outcome, context: &Context) -> Option<Box<Request>> {
        let status = match outcome {
            Ok(response) => response.status(),
            // Whoever broke the protocol or has gone gets no page.
            Err(error) if error.side == Side::Client => return None,
            Err(error) => error.status(),
        };
        let route = context.route()?;
        let pages: &ErrorPages = route.error_pages.as_ref()?;
        if !pages.are_for(status) {
            return None;
        }
        let mut headers = self.headers;
        let mut fields = stand_in::fields(status, &headers, &self.target);
        // There is no body that it could be about.
        fields.push((CONTENT_TYPE, None));
        fields.extend(self.more);
        stand_in::put(fields, &mut headers);
        Some(Box::new(Request {
            method: self.method,
            upstream_host: self.host.to_value(),
            host: self.host,
            target: RequestTarget::from_parts("/", None).ok()?,
            asked: None,
            ruling: None,
            headers,
            body: None,
            upgrade: None,
            takes_trailers: false,
            context: context.aside(pages.route)?,
            tried: Tried::default(),
            upstream: None,
            selection: None,
            fresh: false,
            owes_forwarding: false,
        }))
    }
}
