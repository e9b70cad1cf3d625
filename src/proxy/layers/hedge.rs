//! A second attempt at another endpoint where the first one is slow: the first response head wins
//! and the other attempt is cancelled.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::Response;
use tower::Service;

use crate::error::{ProxyError, Side};
use crate::proxy::context::Attempted;
use crate::proxy::forward::{Failed, Unwelcome};
use crate::proxy::{Body, Context, Request, Tried};
use crate::telemetry::{HedgeOutcome, Reason};
use crate::upstream::Hedging;
use crate::upstream::limits::Place;
use crate::util::moment::Moment;

/// What an attempt comes to.
type Attempt = Result<Response<Body>, Failed>;

/// The hedging of a request's route, where the request may be sent twice.
pub fn hedging(request: &Request) -> Option<Arc<Hedging>> {
    let route = request.context.route()?;
    let hedging = route.hedge.as_ref()?;
    let once = request.upgrade.is_some() || !request.method.is_idempotent();
    (!once).then(|| hedging.clone())
}

/// The first attempt, and a second one if that takes too long.
pub async fn hedged<S>(mut inner: S, request: Box<Request>, hedging: Arc<Hedging>) -> Attempt
where
    S: Service<Box<Request>, Response = Response<Body>, Error = Failed>,
{
    let context = request.context.clone();
    let (worker, started) = (context.worker.id, Moment::now());
    let delay = hedging.begin(worker, started);
    let copy = delay.and_then(|_| copy(&request));
    let mut first = pin!(inner.call(request));
    let early = match delay {
        // To the millisecond: the wheel's ticks are longer than some delays.
        Some(delay) => context.worker.wheel.promptly(delay, first.as_mut()).await.ok(),
        None => Some(first.as_mut().await),
    };
    let outcome = match early {
        Some(outcome) => outcome,
        None => match copy.and_then(|copy| second(copy, &hedging)) {
            Some((request, _place)) => race(first, inner.call(request), &context).await,
            None => first.await,
        },
    };
    if outcome.is_ok() {
        // Where the second attempt won, the first takes at least as long.
        let now = Moment::now();
        hedging.observe(worker, now.since(started), now);
    }
    outcome
}

/// The request once more, where all of it is to be had again; its first attempt uses up the
/// original.
fn copy(request: &Request) -> Option<Box<Request>> {
    let body = match &request.body {
        None => None,
        Some(body) => Some(body.again()?),
    };
    Some(Box::new(Request {
        method: request.method.clone(),
        host: request.host.clone(),
        upstream_host: request.upstream_host.clone(),
        target: request.target.clone(),
        asked: request.asked.clone(),
        ruling: None,
        headers: request.headers.clone(),
        body,
        upgrade: None,
        takes_trailers: request.takes_trailers,
        context: request.context.clone(),
        tried: Tried::default(),
        upstream: request.upstream.clone(),
        selection: request.selection,
        fresh: false,
        owes_forwarding: request.owes_forwarding,
    }))
}

/// The second attempt's request and its place, if it may be made: at another endpoint, with its
/// whole body at hand, within limits and budget.
fn second(mut request: Box<Request>, hedging: &Hedging) -> Option<(Box<Request>, Option<Place>)> {
    let upstream = request.upstream.clone()?;
    let context = request.context.clone();
    let first = context.upstream.borrow().as_ref()?.1.as_ref()?.id;
    // That it goes nowhere else, not even where no other endpoint is left.
    request.tried.refused(first);
    if request.body.as_ref().is_some_and(|body| !body.is_whole())
        || upstream.endpoints().members().len() < 2
    {
        return None;
    }
    let worker = context.worker.id;
    let place = match &upstream.limits.requests {
        None => None,
        Some(turnstile) => match Place::take(turnstile) {
            Some(place) => Some(place),
            None => {
                upstream.metrics.hedge_refused(worker, "limit");
                return None;
            }
        },
    };
    // Others wait for connections: what goes to a second attempt would be taken from them.
    if upstream.limits.connections.as_ref().is_some_and(|turnstile| turnstile.waiting() > 0) {
        upstream.metrics.hedge_refused(worker, "limit");
        return None;
    }
    if !hedging.withdraw(Moment::now()) {
        upstream.metrics.hedge_refused(worker, "budget");
        return None;
    }
    upstream.metrics.hedge(worker);
    context.hedge.set(Some(HedgeOutcome::Lost));
    Some((request, place))
}

/// The first of both that brings a response to pass on; where neither does, what the first
/// brought.
async fn race<F: Future<Output = Attempt>>(
    mut first: Pin<&mut F>,
    second: F,
    context: &Context,
) -> Attempt {
    let of_first = context.upstream.borrow().clone();
    let mut second = pin!(second);
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(outcome) = first.as_mut().poll(cx)
        {
            let end = ends_race(&outcome);
            one = Some(outcome);
            if end {
                return Poll::Ready(());
            }
        }
        if other.is_none()
            && let Poll::Ready(outcome) = second.as_mut().poll(cx)
        {
            let end = ends_race(&outcome);
            other = Some(outcome);
            if end {
                return Poll::Ready(());
            }
        }
        if one.is_some() && other.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    settle(one, other, of_first, context)
}

/// A response to pass on, or a client that is gone.
fn ends_race(outcome: &Attempt) -> bool {
    match outcome {
        Ok(_) => true,
        Err(failed) => failed.unwelcome.error().is_some_and(|error| error.side == Side::Client),
    }
}

fn settle(
    one: Option<Attempt>,
    other: Option<Attempt>,
    of_first: Option<Attempted>,
    context: &Context,
) -> Attempt {
    match (one, other) {
        (_, Some(Ok(response))) => {
            context.hedge.set(Some(HedgeOutcome::Won));
            if let Some((upstream, _)) = &of_first {
                upstream.metrics.hedge_won(context.worker.id);
            }
            Ok(response)
        }
        (Some(Err(first)), Some(Err(second))) => {
            let by_second = context.upstream.replace(of_first);
            Err(both_failed(first, second, by_second))
        }
        (Some(outcome), _) => {
            context.upstream.replace(of_first);
            outcome
        }
        // Only a client that is gone ends the race so.
        (None, Some(failed)) => failed,
        (None, None) => Err(ProxyError::proxy(Reason::Internal).into()),
    }
}

/// What goes on from there knows both endpoints, and has a response where one of them sent one.
fn both_failed(mut first: Failed, second: Failed, by_second: Option<Attempted>) -> Failed {
    if let (Some(request), Some((_, Some(endpoint)))) = (&mut first.request, by_second) {
        request.tried.disappointed(endpoint.id);
    }
    if first.unwelcome.error().is_some() && matches!(second.unwelcome, Unwelcome::Response(..)) {
        first.unwelcome = second.unwelcome;
    }
    first
}
