//! Lets in to a route whom its guard lets in.

mod external;
mod kept;

use futures_util::future::Either;
use http::header::{AUTHORIZATION, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tower::{Service, service_fn};

use super::Outcome;
use crate::error::ProxyError;
use crate::filter::{BasicAuth, Login};
use crate::ir::Satisfy;
use crate::proxy::{Body, Context, Request, rescue};
use crate::snapshot::{Authentication, External};
use crate::telemetry::Reason;

/// Serves a request only once its client has shown what the route asks for.
pub fn auth<S>(
    mut inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        if request.context.route().is_none_or(|route| route.auth.is_none()) {
            return Either::Left(inner.call(request));
        }
        let mut inner = inner.clone();
        // Boxed: the requests of other routes have no space for it.
        Either::Right(Box::pin(async move {
            let context = request.context.clone();
            let mut cookies = Cookies::default();
            let outcome = match admit(&mut request, &mut inner, &mut cookies).await {
                Ok(()) => inner.call(request).await,
                Err(refusal) => refusal.tell(&context),
            };
            cookies.give(outcome, &context)
        }))
    })
}

/// Why a client is not let in.
enum Refusal {
    /// Nobody knows who it is.
    Unknown {
        /// What it may show.
        challenges: Vec<HeaderValue>,
        /// Where it is sent to sign in.
        signin: Option<HeaderValue>,
    },
    /// Anything else.
    Error(ProxyError),
}

impl From<ProxyError> for Refusal {
    fn from(error: ProxyError) -> Self {
        Self::Error(error)
    }
}

impl Refusal {
    /// Of two refusals, where either condition would have done, the one that tells the client how
    /// to get in: 401 before whatever went wrong before 403.
    fn or(self, other: Self) -> Self {
        let denies = |refusal: &Self| matches!(refusal, Self::Error(error) if error.reason == Reason::Forbidden);
        match (self, other) {
            (
                Self::Unknown { mut challenges, signin },
                Self::Unknown { challenges: more, signin: other },
            ) => {
                challenges.extend(more);
                Self::Unknown { challenges, signin: signin.or(other) }
            }
            (unknown @ Self::Unknown { .. }, _) | (_, unknown @ Self::Unknown { .. }) => unknown,
            (first, second) if denies(&first) => second,
            (first, _) => first,
        }
    }

    /// What the client is told.
    fn tell(self, context: &Context) -> Outcome {
        let (challenges, signin) = match self {
            Self::Unknown { challenges, signin } => (challenges, signin),
            Self::Error(error) => return Err(error),
        };
        if let Some(location) = signin {
            context.because(Reason::Unauthorized);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(LOCATION, location);
            return Ok(response);
        }
        let mut response = rescue::response(&ProxyError::proxy(Reason::Unauthorized), context);
        for challenge in challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        Ok(response)
    }
}

/// What the service that was asked gives the client to keep.
#[derive(Default)]
struct Cookies {
    values: Vec<HeaderValue>,
    /// Whatever the status of the response.
    always: bool,
}

impl Cookies {
    /// Adds them to the response.
    fn give(self, outcome: Outcome, context: &Context) -> Outcome {
        if self.values.is_empty() {
            return outcome;
        }
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) if self.always => rescue::response(&error, context),
            Err(error) => return Err(error),
        };
        if self.always || response.status().is_success() || response.status().is_redirection() {
            for value in self.values {
                response.headers_mut().append(SET_COOKIE, value);
            }
        }
        Ok(response)
    }
}

/// Whether the request may go on.
async fn admit<S>(
    request: &mut Request,
    inner: &mut S,
    cookies: &mut Cookies,
) -> Result<(), Refusal>
where
    S: Service<Box<Request>, Response = Response<Body>, Error = ProxyError>,
{
    let context = request.context.clone();
    let snapshot = context.snapshot();
    let route =
        snapshot.as_ref().zip(context.route_id()).and_then(|(snapshot, id)| snapshot.route(id));
    let (satisfy, basic, external) = match route.and_then(|route| route.auth.as_deref()) {
        Some(Authentication::Asks { satisfy, basic, external }) => (*satisfy, basic, external),
        Some(Authentication::Closed(why)) => {
            return Err(ProxyError::proxy(Reason::AuthUnavailable).because(why.clone()).into());
        }
        None => return Err(ProxyError::proxy(Reason::Internal).into()),
    };
    let guard = route.and_then(|route| route.guard.as_deref());
    if guard.is_some_and(|guard| guard.vouches(context.client.get())) {
        unasked(request, basic.is_some(), external.as_deref());
        return Ok(());
    }
    let mut refused: Option<Refusal> = None;
    if let Some(basic) = basic {
        let shown = self::basic(request, &context, basic).await;
        match (shown, satisfy) {
            (Ok(()), _) => {
                // For this proxy and nobody behind it, nor for a service that is asked.
                request.headers.remove(AUTHORIZATION);
                if satisfy == Satisfy::Any {
                    unasked(request, true, external.as_deref());
                    return Ok(());
                }
            }
            (Err(refusal), Satisfy::Any) => refused = Some(refusal),
            (Err(refusal), Satisfy::All) => return Err(refusal),
        }
    }
    if let Some(external) = external {
        let told = external::ask(request, &context, external, inner, cookies).await;
        refused = match (told, refused) {
            (Ok(()), _) => None,
            (Err(refusal), Some(earlier)) => Some(earlier.or(refusal)),
            (Err(refusal), None) => Some(refusal),
        };
    }
    if basic.is_some() {
        request.headers.remove(AUTHORIZATION);
    }
    refused.map_or(Ok(()), Err)
}

/// What the upstream would have of those who are asked, it does not have of the client.
fn unasked(request: &mut Request, basic: bool, external: Option<&External>) {
    if basic {
        request.headers.remove(AUTHORIZATION);
    }
    if let Some(external) = external {
        external::take_over(
            &external.spec.response_headers,
            &HeaderMap::new(),
            &mut request.headers,
        );
    }
}

/// The user name and password.
async fn basic(request: &Request, context: &Context, auth: &BasicAuth) -> Result<(), Refusal> {
    let Some(login) = Login::of(&request.headers) else { return Err(challenge(auth)) };
    let user = login.user().to_vec();
    let verified = context.unless_closed(context.worker.verifier.verify(auth, login)).await?;
    match verified {
        Ok(true) => {
            context.user.replace(Some(String::from_utf8_lossy(&user).as_ref().into()));
            Ok(())
        }
        Ok(false) => Err(challenge(auth)),
        Err(busy) => Err(ProxyError::proxy(Reason::Overloaded).because(busy).into()),
    }
}

fn challenge(auth: &BasicAuth) -> Refusal {
    Refusal::Unknown { challenges: vec![auth.challenge.clone()], signin: None }
}
