//! Lets in to a route whom its guard lets in.

use futures_util::future::Either;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Response};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::filter::{BasicAuth, Login};
use crate::proxy::{Body, Context, Request, rescue};
use crate::snapshot::Guard;
use crate::telemetry::Reason;

/// Serves a request only once its client has shown what the route asks for.
pub fn auth<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        if request.context.route().is_none_or(|route| route.guard.is_none()) {
            return Either::Left(inner.call(request));
        }
        let mut inner = inner.clone();
        // Boxed: the requests of other routes have no space for it.
        Either::Right(Box::pin(async move {
            match admit(&mut request).await {
                Ok(()) => inner.call(request).await,
                Err(refusal) => refusal,
            }
        }))
    })
}

/// Whether the request may go on; else what its client is told.
async fn admit(request: &mut Request) -> Result<(), Outcome> {
    let context = request.context.clone();
    let snapshot = context.snapshot();
    let route =
        snapshot.as_ref().zip(context.route_id()).and_then(|(snapshot, id)| snapshot.route(id));
    match route.and_then(|route| route.guard.as_deref()) {
        None => Err(Err(ProxyError::proxy(Reason::Internal))),
        Some(Guard::Closed(why)) => {
            Err(Err(ProxyError::proxy(Reason::AuthUnavailable).because(why.clone())))
        }
        Some(Guard::Asks { basic }) => match basic {
            Some(basic) => self::basic(request, &context, basic).await,
            None => Ok(()),
        },
    }
}

async fn basic(request: &mut Request, context: &Context, auth: &BasicAuth) -> Result<(), Outcome> {
    let login = Login::of(&request.headers);
    // For this proxy and nobody behind it.
    request.headers.remove(AUTHORIZATION);
    let Some(login) = login else { return Err(challenge(context, &auth.challenge)) };
    let user = login.user().to_vec();
    let verified = context.unless_closed(context.worker.verifier.verify(auth, login)).await;
    match verified {
        Ok(Ok(true)) => {
            context.user.replace(Some(String::from_utf8_lossy(&user).as_ref().into()));
            Ok(())
        }
        Ok(Ok(false)) => Err(challenge(context, &auth.challenge)),
        Ok(Err(busy)) => Err(Err(ProxyError::proxy(Reason::Overloaded).because(busy))),
        Err(gone) => Err(Err(gone)),
    }
}

/// Says what is asked for.
fn challenge(context: &Context, challenge: &HeaderValue) -> Outcome {
    let mut response = rescue::response(&ProxyError::proxy(Reason::Unauthorized), context);
    response.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
    Ok(response)
}
