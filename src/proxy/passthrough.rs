//! TLS that is not terminated here: a connection whose client names a host that passes through is
//! carried to an endpoint of its upstream, byte by byte.
//!
//! Balanced, limited, tried elsewhere and counted as requests are, one connection for one request.
//! What is said on it is between its two ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};

use super::admission;
use super::carry::{Broken, Limits, carry};
use super::choose::choose;
use super::selection::{Selection, Sight};
use super::watch::Watch;
use super::{Tried, Worker};
use crate::error::{ProxyError, Side};
use crate::filter::RequestTarget;
use crate::ir::Name;
use crate::snapshot::Passage;
use crate::telemetry::{ListenerMetrics, Reason, Record, RecordText, WorkerId};
use crate::upstream::limits::{Place, Turnstile};
use crate::upstream::pool::{UpstreamIo, open};
use crate::upstream::{Endpoint, Upstream};
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// How many endpoints are tried for one that takes the connection.
const ATTEMPTS: usize = 3;
/// How long a client may go on after its endpoint has said all.
const LINGER: Duration = Duration::from_secs(10);

/// A connection that passes through.
pub struct Passing {
    /// The name of its listener.
    pub listener: Name,
    /// The counters of that.
    pub metrics: Arc<ListenerMetrics>,
    /// Where it goes.
    pub passage: Arc<Passage>,
    /// Its client.
    pub peer: SocketAddr,
    /// The name that the client asked for.
    pub server_name: Option<Arc<str>>,
}

impl Passing {
    /// Carries the connection `client`, of which `received` was read, until it ends.
    pub async fn run<C>(self, worker: &Rc<Worker>, client: &mut C, received: BytesMut)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.passing(worker.id);
        let (began, started) = (SystemTime::now(), Moment::now());
        let mut story = Story::default();
        let reason = match self.connect(worker, &mut story).await {
            Ok(line) => line.carry(worker, client, received, &self.passage, &story).await,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                self.note(&story, error.reason, cause.as_deref());
                error.reason
            }
        };
        let (up, down) = (story.up.get(), story.down.get());
        self.metrics.passed(worker.id, reason, up, down);
        if worker.access_log.enabled() {
            let record = self.record(worker, &story, began, started, reason);
            worker.access_log.record(worker.id, record);
        }
    }

    /// A connection to an endpoint.
    async fn connect(&self, worker: &Rc<Worker>, story: &mut Story) -> Result<Line, ProxyError> {
        let upstream = match &self.passage.upstream {
            Ok(upstream) => upstream,
            Err(why) => return Err(ProxyError::proxy(Reason::ConfigError).because(why.as_str())),
        };
        story.upstream = Some(upstream.name.clone());
        upstream.limits.budget.deposit(worker.id, Moment::now());
        let place = match &upstream.limits.requests {
            Some(turnstile) => Some(wait(worker, upstream, turnstile, story).await?),
            None => None,
        };
        let selection = self.selection(worker, upstream);
        let mut tried = Tried::default();
        let (mut last, mut repeat): (Option<ProxyError>, Option<Place>) = (None, None);
        loop {
            let now = Moment::now();
            let in_flight = match choose(worker, now, upstream, selection, &tried) {
                Ok(in_flight) => in_flight,
                // "No endpoint left" says less than why the last one was left.
                Err(reason) => return Err(last.unwrap_or_else(|| none(worker, upstream, reason))),
            };
            if let Some(error) = &last {
                upstream.metrics.retry(worker.id, error.reason.as_str());
            }
            let endpoint = in_flight.endpoint().clone();
            story.endpoint = Some(endpoint.address);
            story.attempts += 1;
            let watch = Watch::new(upstream.clone(), in_flight, worker.id, now, None);
            let attempt = Attempt { worker, upstream, endpoint: &endpoint, watch };
            let error = match attempt.dial(self.passage.spec.connect, story).await {
                Ok(line) => return Ok(Line { _places: [place, repeat], ..line }),
                Err(error) => error,
            };
            tried.refused(endpoint.id);
            if error.side != Side::Upstream || tried.all().len() >= ATTEMPTS {
                return Err(error);
            }
            // One that was not made is no load; it is held by the limit on retries alone.
            match upstream.limits.retry() {
                Ok(place) => (last, repeat) = (Some(error), place),
                Err(_) => {
                    upstream.metrics.retry_refused(worker.id, "limit");
                    return Err(error);
                }
            }
        }
    }

    /// Of what decides an endpoint there are the client's address and the name.
    fn selection(&self, worker: &Worker, upstream: &Upstream) -> Selection {
        let Ok(target) = RequestTarget::from_parts("/", None) else { return Selection::default() };
        let sight = Sight {
            client: Some(self.peer.ip()),
            host: self.server_name.as_deref().unwrap_or_default(),
            target: &target,
            headers: &HeaderMap::new(),
        };
        Selection::at_sight(upstream, &sight, || worker.random())
    }

    fn note(&self, story: &Story, reason: Reason, cause: Option<&str>) {
        tracing::debug!(
            reason = reason.as_str(),
            cause = cause.unwrap_or("-"),
            host = %self.passage.host,
            upstream = %self.passage.spec.upstream,
            endpoint = ?story.endpoint,
            peer = %self.peer,
            "TLS not passed through"
        );
    }

    fn record(
        &self,
        worker: &Worker,
        story: &Story,
        began: SystemTime,
        started: Moment,
        reason: Reason,
    ) -> Record {
        let name = self.server_name.as_deref();
        let id = worker.request_id();
        let text = RecordText {
            host: name.unwrap_or_default().as_bytes(),
            request_id: &id,
            ..RecordText::default()
        };
        let mut record = Record::passing(began, self.peer, self.listener.clone(), &text);
        record.scheme = "tls";
        record.reason = reason;
        record.request_bytes = story.up.get();
        record.response_bytes = story.down.get();
        record.duration = started.elapsed();
        record.upstream.clone_from(&story.upstream);
        record.endpoint = story.endpoint;
        record.attempts = story.attempts;
        record.queued = story.queued.and_then(|waited| {
            NonZeroU32::new(u32::try_from(waited.as_micros()).unwrap_or(u32::MAX))
        });
        record.connect = story.connect;
        record.server_name = name.map(Name::from);
        record
    }
}

/// What there is to tell of a connection in the end.
#[derive(Default)]
struct Story {
    upstream: Option<Name>,
    endpoint: Option<SocketAddr>,
    attempts: u32,
    queued: Option<Duration>,
    connect: Option<Duration>,
    up: Cell<u64>,
    down: Cell<u64>,
}

fn none(worker: &Worker, upstream: &Upstream, reason: Reason) -> ProxyError {
    if reason == Reason::NoEndpoint {
        upstream.metrics.no_endpoint(worker.id);
    }
    ProxyError::proxy(reason)
}

/// A place at `turnstile`, waited for as long as the upstream's limits allow.
async fn wait(
    worker: &Worker,
    upstream: &Upstream,
    turnstile: &Arc<Turnstile>,
    story: &mut Story,
) -> Result<Place, ProxyError> {
    if let Some(place) = Place::take(turnstile) {
        return Ok(place);
    }
    let since = Moment::now();
    let place = admission::wait(worker, upstream, turnstile, since)?;
    let limit = Some(upstream.limits.pending_timeout());
    let place = timeout(&worker.wheel, limit, place).await;
    story.queued = Some(story.queued.unwrap_or_default() + since.elapsed());
    place.map_err(|elapsed| {
        upstream.metrics.shed(worker.id, Reason::QueueTimeout);
        ProxyError::proxy(Reason::QueueTimeout).because(elapsed)
    })
}

/// One attempt to connect.
struct Attempt<'a> {
    worker: &'a Rc<Worker>,
    upstream: &'a Upstream,
    endpoint: &'a Arc<Endpoint>,
    watch: Watch,
}

impl Attempt<'_> {
    async fn dial(
        mut self,
        limit: Option<Duration>,
        story: &mut Story,
    ) -> Result<Line, ProxyError> {
        let room = match self.endpoint.common.connections.limited() {
            Some(turnstile) => Some(self.room(turnstile.clone(), story).await?),
            None => None,
        };
        let since = Moment::now();
        let dial = open(self.endpoint.address, None, "", true);
        let dialled = timeout(&self.worker.wheel, limit, dial).await.unwrap_or_else(|elapsed| {
            Err(ProxyError::upstream(Reason::ConnectTimeout).because(elapsed))
        });
        let io = match dialled {
            Ok(io) => io,
            Err(error) => {
                self.watch.failed(error.reason);
                return Err(error);
            }
        };
        let took = since.elapsed();
        story.connect = Some(took);
        self.endpoint.metrics.connected(self.worker.id, took);
        self.watch.connected(Moment::now());
        let open = Open::new(self.endpoint.clone(), self.worker.id);
        Ok(Line { io, watch: self.watch, _open: open, _room: room, _places: [None, None] })
    }

    /// A place for one more connection.
    async fn room(
        &mut self,
        turnstile: Arc<Turnstile>,
        story: &mut Story,
    ) -> Result<Place, ProxyError> {
        if let Some(place) = self.worker.pools.place(&turnstile).await {
            return Ok(place);
        }
        self.watch.hold();
        let place = wait(self.worker, self.upstream, &turnstile, story).await?;
        self.watch.go_on();
        Ok(place)
    }
}

/// Counts a connection to an endpoint as open for as long as it lives.
struct Open {
    endpoint: Arc<Endpoint>,
    worker: WorkerId,
}

impl Open {
    fn new(endpoint: Arc<Endpoint>, worker: WorkerId) -> Self {
        endpoint.metrics.opened(worker);
        Self { endpoint, worker }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.endpoint.metrics.closed(self.worker);
    }
}

/// The connection to an endpoint.
struct Line {
    io: UpstreamIo,
    watch: Watch,
    _open: Open,
    _room: Option<Place>,
    /// Those of the request that this stands for, and of the last repeat.
    _places: [Option<Place>; 2],
}

impl Line {
    /// Carries until both are done; returns why it ended.
    async fn carry<C>(
        mut self,
        worker: &Rc<Worker>,
        client: &mut C,
        received: BytesMut,
        passage: &Passage,
        story: &Story,
    ) -> Reason
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = Limits { idle: passage.spec.idle, linger: LINGER };
        let ahead = (received, BytesMut::new());
        let moved = |up, down| {
            story.up.set(up);
            story.down.set(down);
        };
        let ended = carry(&worker.wheel, client, &mut self.io, ahead, limits, moved).await;
        let silent = story.down.get() == 0;
        match ended {
            Ok(reason) => {
                self.watch.ended(Moment::now());
                reason
            }
            Err(Broken { far, error }) => {
                tracing::debug!(%error, far, "a connection that passed through broke");
                let reason = if far { Reason::UpstreamReset } else { Reason::ClientClosed };
                match far && silent {
                    // Whoever resets a connection without a word did not mean to take it.
                    true => self.watch.failed(reason),
                    false => self.watch.ended(Moment::now()),
                }
                reason
            }
        }
    }
}
