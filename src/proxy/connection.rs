//! The connection of an attempt: one that is open, a new one, or, where its upstream bears no more
//! of them, whichever comes free first.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::HeaderValue;

use super::watch::Watch;
use super::{Context, Host, Request, admission};
use crate::error::{ProxyError, Replay};
use crate::ir::UpstreamProtocol;
use crate::snapshot::CompiledRoute;
use crate::telemetry::Reason;
use crate::upstream::limits::{Place, Turnstile};
use crate::upstream::pool::{Connection, Wish};
use crate::upstream::{Endpoint, EndpointId, Upstream};
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// What it takes to connect.
struct Need<'a> {
    context: &'a Context,
    upstream: &'a Upstream,
    endpoint: &'a Arc<Endpoint>,
    /// The TLS name, where the upstream does not say which it is.
    server_name: Option<Arc<str>>,
    wish: Wish,
    /// How long a connection may take to make.
    limit: Option<Duration>,
}

/// Why there is no connection.
pub enum Missed {
    /// It could not be made. Errors of the proxy's own side say that there was no place for one.
    Failed(ProxyError),
    /// The endpoint was taken out meanwhile, and there is another.
    Left,
}

/// How often it is looked whether an endpoint was taken out that is being connected to.
const LOOK: Duration = Duration::from_millis(50);

/// A connection to `endpoint` for the attempt that `watch` watches.
pub async fn connect(
    context: &Context,
    route: &CompiledRoute,
    request: &Request,
    upstream: &Upstream,
    endpoint: &Arc<Endpoint>,
    watch: &mut Watch,
) -> Result<Connection, Missed> {
    context.connect_time.set(None);
    let transport = &upstream.transport;
    let per_host = transport.tls.as_ref().is_some_and(|tls| tls.per_host());
    let server_name = per_host.then(|| match &endpoint.host {
        Some(host) => host.clone(),
        None => host_name(&request.upstream_host),
    });
    let h1_only = transport.protocol != UpstreamProtocol::Http2
        && request.upgrade.as_ref().is_some_and(|upgrade| !upgrade.extended_connect);
    let repeats = route.retry.attempts > 0 && route.retry.on.reset;
    let certain = request.body.is_some() || !request.method.is_idempotent() || !repeats;
    // A connection that was open when it was last looked at and failed the last attempt is not
    // the one to try again.
    let wish = Wish { fresh: request.fresh, certain, h1_only };
    if let Some(open) = context.worker.pools.reuse(endpoint, server_name.as_ref(), wish) {
        return Ok(open);
    }
    let limit = route.timeouts.connect.into_iter().chain(route.retry.per_try).min();
    let need = Need { context, upstream, endpoint, server_name, wish, limit };
    // Boxed: a request that finds a free connection has no space for making one.
    Box::pin(async {
        let left = left(context, upstream, endpoint, request.tried.all());
        match select(pin!(need.connect(watch)), pin!(left)).await {
            Either::Left((made, _)) => made.map_err(Missed::Failed),
            Either::Right(((), _)) => Err(Missed::Left),
        }
    })
    .await
}

/// Comes to its end once `endpoint` was taken out and another may be picked that was not tried. Its
/// connection may never come; where there is no other, it may yet.
async fn left(context: &Context, upstream: &Upstream, endpoint: &Endpoint, tried: &[EndpointId]) {
    loop {
        let look = timeout(&context.worker.wheel, Some(LOOK), pending::<()>());
        if look.await.is_ok() || !endpoint.is_retired() {
            continue;
        }
        let set = upstream.endpoints();
        let mut others = set.groups().iter().flat_map(|group| &group.members);
        if others.any(|other| !other.endpoint.is_retired() && !tried.contains(&other.endpoint.id)) {
            return;
        }
    }
}

fn host_name(host: &HeaderValue) -> Arc<str> {
    match Host::parse(host) {
        Some(host) => Arc::from(host.name()),
        None => Arc::from(""),
    }
}

impl Need<'_> {
    async fn connect(self, watch: &mut Watch) -> Result<Connection, ProxyError> {
        let mut place = None;
        loop {
            if let Some(connection) = self.dial(place.take()).await? {
                return Ok(connection);
            }
            let Some(turnstile) = self.endpoint.common.connections.limited() else { continue };
            watch.hold();
            match self.wait(turnstile).await? {
                Either::Left(connection) => {
                    watch.go_on();
                    return Ok(connection);
                }
                Either::Right(free) => place = Some(free),
            }
            watch.go_on();
        }
    }

    /// A new connection; `None` where there is no place for it.
    async fn dial(&self, place: Option<Place>) -> Result<Option<Connection>, ProxyError> {
        let Self { context, upstream, endpoint, wish, .. } = *self;
        let (transport, name) = (&upstream.transport, self.server_name.as_ref());
        let dial = context.worker.pools.connect(endpoint, transport, name, wish, place);
        let dial = timeout(&context.worker.wheel, self.limit, dial);
        let since = Moment::now();
        let made = context.unless_closed(dial).await?.unwrap_or_else(|elapsed| {
            let late = ProxyError::upstream(Reason::ConnectTimeout).because(elapsed);
            Err(late.replay(Replay::Unwritten))
        })?;
        if made.is_some() {
            context.connect_time.set(Some(since.elapsed()));
        }
        Ok(made)
    }

    /// Waits for a place, or for a connection that another request on this worker gives back.
    async fn wait(
        &self,
        turnstile: &Arc<Turnstile>,
    ) -> Result<Either<Connection, Place>, ProxyError> {
        let Self { context, upstream, endpoint, wish, .. } = *self;
        let (transport, name) = (&upstream.transport, self.server_name.as_ref());
        let since = Moment::now();
        let place = admission::wait(&context.worker, upstream, turnstile, since)?;
        let open = context.worker.pools.hope(endpoint, transport, name, wish);
        let first = admission::in_time(context, upstream, select(open, place)).await;
        let waited = context.queued.get().unwrap_or_default() + since.elapsed();
        context.queued.set(Some(waited));
        Ok(match first? {
            Either::Left((connection, _)) => {
                endpoint.metrics.reused(context.worker.id);
                Either::Left(connection)
            }
            Either::Right((place, _)) => Either::Right(place),
        })
    }
}
