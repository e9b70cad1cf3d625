//! Before the first attempt: the upstream is drawn, and the request takes its place among those
//! that upstream bears, waits for one, or is turned away.

use std::sync::Arc;

use http::HeaderMap;

use super::{Context, Request, Worker, stand_in};
use crate::error::ProxyError;
use crate::snapshot::Action;
use crate::telemetry::Reason;
use crate::upstream::Upstream;
use crate::upstream::limits::{Full, Place, Turnstile, Wait};
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// Lets a request in at `now`; what is returned has to be waited for. The place is kept by the request's
/// story, through all attempts and until the response is complete.
pub fn enter(request: &mut Request, now: Moment) -> Result<Option<Queued>, ProxyError> {
    let context = &request.context;
    let worker = context.worker.id;
    let Some(mut upstream) = draw(context, &request.headers) else {
        return Err(ProxyError::proxy(Reason::ConfigError));
    };
    if let Some(stand_in) = stand_in::find(request, &upstream) {
        upstream = stand_in.tell(&mut request.headers);
    }
    let context = &request.context;
    upstream.limits.budget.deposit(worker, now);
    let upstream = request.upstream.insert(upstream);
    let Some(turnstile) = &upstream.limits.requests else { return Ok(None) };
    if let Some(place) = Place::take(turnstile) {
        context.place.replace(Some(place));
        return Ok(None);
    }
    context.upstream.replace(Some((upstream.clone(), None)));
    let upstream = upstream.clone();
    Ok(Some(Queued { wait: wait(&context.worker, &upstream, turnstile, now)?, upstream }))
}

fn draw(context: &Context, headers: &HeaderMap) -> Option<Arc<Upstream>> {
    let route = context.route()?;
    let Action::Forward(targets) = &route.action else { return None };
    let kept = if route.sticky { targets.of_session(headers) } else { None };
    kept.or_else(|| targets.pick(context.worker.id)).cloned()
}

/// The wait for a place at `turnstile`, of the requests or the connections of `upstream`.
pub fn wait(
    worker: &Worker,
    upstream: &Upstream,
    turnstile: &Arc<Turnstile>,
    now: Moment,
) -> Result<Wait, ProxyError> {
    worker.queues.wait(turnstile, now).map_err(|Full| {
        upstream.metrics.shed(worker.id, Reason::Overloaded);
        ProxyError::proxy(Reason::Overloaded)
    })
}

/// A request that waits for its place.
pub struct Queued {
    wait: Wait,
    upstream: Arc<Upstream>,
}

impl Queued {
    /// Waits, as long as the upstream's limits allow and the client is there.
    pub async fn admitted(self, context: &Context) -> Result<(), ProxyError> {
        let since = Moment::now();
        let outcome = in_time(context, &self.upstream, self.wait).await;
        context.queued.set(Some(since.elapsed()));
        context.place.replace(Some(outcome?));
        Ok(())
    }
}

/// What `wait` brings, within the time that requests may wait.
pub async fn in_time<W: Future>(
    context: &Context,
    upstream: &Upstream,
    wait: W,
) -> Result<W::Output, ProxyError> {
    let limit = Some(upstream.limits.spec.pending_timeout);
    let waited = timeout(&context.worker.wheel, limit, wait);
    context.unless_closed(waited).await?.map_err(|elapsed| {
        upstream.metrics.shed(context.worker.id, Reason::QueueTimeout);
        ProxyError::proxy(Reason::QueueTimeout).because(elapsed)
    })
}
