//! Lets a request in to its upstream, and repeats attempts that failed as its route says.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Response;
use tower::{Service, service_fn};

use super::{Outcome, hedge};
use crate::error::{ProxyError, Replay, Side};
use crate::ir::Retry;
use crate::proxy::admission;
use crate::proxy::context::Attempted;
use crate::proxy::forward::{Failed, Unwelcome};
use crate::proxy::repeat::{self, Again};
use crate::proxy::{Body, Context, Request};
use crate::telemetry::Reason;
use crate::upstream::Upstream;
use crate::upstream::limits::Place;
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// The first attempt, and further ones where it failed, at other endpoints while there are any.
pub fn retry<S>(
    inner: S,
) -> impl Service<Box<Request>, Response = Response<Body>, Error = ProxyError> + Clone
where
    S: Service<Box<Request>, Response = Response<Body>, Error = Failed> + Clone,
{
    service_fn(move |mut request: Box<Request>| {
        let mut inner = inner.clone();
        async move {
            if let Some(size) = read_first(&request)
                && let Some(body) = request.body.take()
            {
                // Boxed: the requests of other routes have no space for it.
                request.body = Some(Box::pin(body.buffered(size)).await?);
            }
            let mut now = Moment::now();
            if let Some(queued) = admission::enter(&mut request, now)? {
                let context = request.context.clone();
                Box::pin(queued.admitted(&context)).await?;
                now = Moment::now();
            }
            let upstream = request.upstream.as_ref();
            if upstream.is_some_and(|upstream| upstream.transport.speaks_http10()) {
                Box::pin(fit_http10(&mut request)).await?;
                now = Moment::now();
            }
            request.context.forwarded.set(now);
            keep_body(&mut request);
            let until = until(&request);
            let context = request.context.clone();
            let outcome = match hedge::hedging(&request) {
                None => inner.call(request).await,
                Some(hedging) => Box::pin(hedge::hedged(inner.clone(), request, hedging)).await,
            };
            match outcome {
                Ok(response) => Ok(response),
                // Boxed: a request whose first attempt succeeds has no space for it.
                Err(failed) => Box::pin(again(inner, failed, context, until)).await,
            }
        }
    })
}

/// How much of the request's body is read before anything is done with it: a slow client then
/// holds up no endpoint, and a body that is too large reaches none. A gRPC call may be answered
/// before its messages are complete, and waits for that.
fn read_first(request: &Request) -> Option<u64> {
    let streams = request.upgrade.is_some() || request.context.is_grpc.get();
    let wanted = request.context.route()?.bodies.request_buffer;
    wanted.filter(|_| request.body.is_some() && !streams)
}

/// Makes the request one of HTTP/1.0, which has no chunks: a body whose length was not said is read
/// first, as far as the route reads or keeps bodies.
async fn fit_http10(request: &mut Request) -> Result<(), ProxyError> {
    if request.upgrade.is_some() {
        let error = ProxyError::upstream(Reason::UpgradeUnsupported);
        return Err(error.because("the endpoint speaks HTTP/1.0"));
    }
    let size = request
        .context
        .route()
        .map_or(0, |route| route.bodies.request_buffer.unwrap_or(0).max(route.retry.buffer));
    let Some(body) = request.body.take_if(|body| body.length().is_none()) else { return Ok(()) };
    let mut body = body.buffered(size).await?;
    if !body.measure() {
        let error = ProxyError::client(Reason::LengthRequired);
        return Err(error
            .because("the endpoint speaks HTTP/1.0, and the body is too long to be read first"));
    }
    request.body = Some(body);
    Ok(())
}

/// Has the request's body kept while it is sent, where it may be sent again.
fn keep_body(request: &mut Request) {
    // HTTP/2 endpoints tell of any request that they did not act on it.
    let tells = |upstream: &Arc<Upstream>| upstream.transport.may_speak_h2();
    if request.body.is_some()
        && request.upgrade.is_none()
        && let Some(route) = request.context.route()
        && (repeat::wants_body(&route.retry, &request.method)
            || route.retry.attempts > 0 && request.upstream.as_ref().is_some_and(tells)
            || route.hedge.is_some() && request.method.is_idempotent())
    {
        let limit = route.retry.buffer;
        request.body = request.body.take().map(|body| body.kept(limit));
    }
}

/// When the last attempt may begin, of which the first begins now.
fn until(request: &Request) -> Option<Moment> {
    let limit = request.context.route()?.retry.max_elapsed?;
    Some(Moment::now().after(limit))
}

/// Attempts after the first one failed.
async fn again<S>(
    mut inner: S,
    mut failed: Failed,
    context: Rc<Context>,
    until: Option<Moment>,
) -> Outcome
where
    S: Service<Box<Request>, Response = Response<Body>, Error = Failed>,
{
    let mut story = Story::default();
    let (mut failures, mut was_stale) = (0, false);
    loop {
        let Failed { unwelcome, request } = failed;
        let Some(mut request) = request else { return story.end(unwelcome, &context) };
        // A connection that had ended is no attempt at its endpoint. Two in a row are: this must
        // not go on for ever.
        let stale = unwelcome.error().is_some_and(ProxyError::is_stale);
        failures += u32::from(!stale || was_stale);
        was_stale = stale;
        let Some(next) = next(&context, &request, &unwelcome, failures, until) else {
            return story.end(unwelcome, &context);
        };
        let (upstream, why) = (request.upstream.clone(), unwelcome.label());
        request.fresh = next.fresh;
        story.note(unwelcome, &context);
        if !next.pause.is_zero() {
            let pause = timeout(&context.worker.wheel, Some(next.pause), std::future::pending());
            let _: Result<(), _> = context.unless_closed(pause).await?;
        }
        let outcome = inner.call(request).await;
        // Where no endpoint was left there was no repeat.
        let none_left = |failed: &Failed| failed.unwelcome.is_none_left();
        if let Some(upstream) = upstream.filter(|_| !outcome.as_ref().is_err_and(none_left)) {
            upstream.metrics.retry(context.worker.id, why);
        }
        failed = match outcome {
            Ok(response) => {
                story.discard().await;
                return Ok(response);
            }
            Err(failed) => failed,
        };
        if failed.unwelcome.error().is_none() {
            story.discard().await;
        }
    }
}

/// A further attempt that may be made.
struct Next {
    pause: Duration,
    /// Whether pooled connections are not to be trusted.
    fresh: bool,
    _place: Option<Place>,
}

/// Whether the request may be repeated after so many attempts failed.
fn next(
    context: &Context,
    request: &Request,
    unwelcome: &Unwelcome,
    failures: u32,
    until: Option<Moment>,
) -> Option<Next> {
    let route = context.route()?;
    let policy = &route.retry;
    if failures > policy.attempts || policy.attempts == 0 {
        return None;
    }
    let pause = pause(policy, unwelcome, failures.saturating_sub(1), context)?;
    if route.timeouts.request.is_some_and(|limit| context.started.elapsed() + pause >= limit) {
        return None; // what there is says more than that the time is up
    }
    if until.is_some_and(|until| Moment::now().after(pause) >= until) {
        return None;
    }
    let upstream = request.upstream.as_ref()?;
    let place = withdraw(upstream, context, unwelcome)?;
    // Others in the pool may have ended like the one that was lost.
    let fresh = unwelcome.error().is_some_and(|error| {
        error.is_stale()
            || error.reason == Reason::UpstreamReset
                && matches!(error.replay, Replay::Refused | Replay::Unwritten)
    });
    Some(Next { pause, fresh, _place: place })
}

/// How long to wait before the next attempt; `None` where the policy makes none.
fn pause(
    policy: &Retry,
    unwelcome: &Unwelcome,
    number: u32,
    context: &Context,
) -> Option<Duration> {
    let backoff = || repeat::backoff(policy, number, context.worker.random());
    match unwelcome {
        Unwelcome::Error(error) if !repeat::wants(policy, error) => None,
        // Nothing was asked of anybody yet, or it was refused.
        Unwelcome::Error(error) if error.left_no_load() || error.replay == Replay::Refused => {
            Some(Duration::ZERO)
        }
        Unwelcome::Error(_) => Some(backoff()),
        Unwelcome::Response(response, _) => {
            match repeat::again(response.headers(), SystemTime::now()) {
                Again::AnyTime => Some(backoff()),
                Again::After(time) if time <= policy.max_retry_after => Some(time.max(backoff())),
                Again::After(_) | Again::Never => None,
            }
        }
    }
}

/// Takes a further attempt out of what the upstream bears. One that follows a connection that
/// could not be made, or had ended while it was idle, adds no load to the upstream and is not held
/// against its budget: each exchange leaves one connection at most that can end so.
fn withdraw(
    upstream: &Upstream,
    context: &Context,
    unwelcome: &Unwelcome,
) -> Option<Option<Place>> {
    let limits = &upstream.limits;
    let free = unwelcome.error().is_some_and(ProxyError::left_no_load);
    let Ok(place) = limits.retry() else {
        upstream.metrics.retry_refused(context.worker.id, "limit");
        return None;
    };
    if !free && !limits.budget.withdraw(Moment::now()) {
        upstream.metrics.retry_refused(context.worker.id, "budget");
        return None;
    }
    Some(place)
}

/// What earlier attempts brought: the client gets the best of it where no attempt succeeds.
#[derive(Default)]
struct Story {
    /// Why the last attempt failed that was made.
    error: Option<ProxyError>,
    /// The last response, and whose it is.
    response: Option<(Box<Response<Body>>, Option<Attempted>)>,
}

impl Story {
    fn note(&mut self, unwelcome: Unwelcome, context: &Context) {
        match unwelcome {
            Unwelcome::Error(error) => self.error = Some(error),
            Unwelcome::Response(response, _) => {
                self.response = Some((response, context.upstream.borrow().clone()));
            }
        }
    }

    /// Another response is there: lets go of the earlier one and its connection.
    async fn discard(&mut self) {
        if let Some((response, _)) = self.response.take() {
            response.into_body().discard().await;
        }
    }

    /// The end, after an attempt that is not repeated.
    fn end(self, last: Unwelcome, context: &Context) -> Outcome {
        let none_left = last.is_none_left();
        let error = match last {
            Unwelcome::Response(response, _) => return Ok(*response),
            Unwelcome::Error(error) => error,
        };
        match self.response {
            Some((response, from)) if error.side != Side::Client => {
                context.upstream.replace(from);
                Ok(*response)
            }
            // "No endpoint left" says less than why the last one was left.
            _ if none_left => Err(self.error.unwrap_or(error)),
            _ => Err(error),
        }
    }
}
