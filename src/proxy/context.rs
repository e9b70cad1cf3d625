//! What is known about one request while it is served, and about the connection it came on.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};

use super::Worker;
use super::tunnel::Tunnel;
use super::worker::WorkerSnapshot;
use crate::error::ProxyError;
use crate::filter::Seat;
use crate::ir::{EncodedSlashes, ListenerForwarding, Name, Settings};
use crate::snapshot::{
    CompiledListener, CompiledRoute, CountedRule, ListenerId, RouteId, Snapshot,
};
use crate::telemetry::{
    Exchange, GrpcCode, HedgeOutcome, MethodLabel, Phases, Reason, Record, RouteMetrics,
};
use crate::tls::{PeerCertificate, PolicyId, ShownCertificate};
use crate::upstream::limits::Place;
use crate::upstream::{Endpoint, Upstream};
use crate::util::moment::Moment;

/// The protocol of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 or 1.1.
    H1,
    /// HTTP/2.
    H2,
}

/// A client connection.
pub struct ClientConn {
    /// Where it came in.
    pub listener: ListenerId,
    /// The other end: the client, or what a PROXY header said it is.
    pub peer: SocketAddr,
    /// This end, or what a PROXY header said it is.
    pub local: SocketAddr,
    /// `https` or `http`.
    pub secure: bool,
    /// The protocol.
    pub version: HttpVersion,
    /// The name the client asked for in its TLS hello.
    pub server_name: Option<Arc<str>>,
    /// The TLS version.
    pub tls_version: Option<&'static str>,
    /// The verified client certificate.
    pub peer_certificate: Option<PeerCertificate>,
    /// The certificate that it showed to a host with a demand of its own, good or not.
    pub shown_certificate: Option<Box<ShownCertificate>>,
    /// The policy on client certificates under which it was let in; `None` is plain text.
    pub policy: Option<PolicyId>,
    /// No further request is served on it.
    pub leaving: Cell<bool>,
    /// The peer's address as a header value.
    pub peer_text: HeaderValue,
    /// What else endpoints are told about it.
    pub forwarding: ListenerForwarding,
    /// What becomes of encoded slashes in its requests' paths.
    pub encoded_slashes: EncodedSlashes,
    /// The field lines that tell endpoints about this connection; see `forwarding`.
    pub forwarding_lines: Box<[u8]>,
    /// The tunnel that an upgrade on this connection opened; taken over by the server once the
    /// 101 is out.
    pub tunnel: RefCell<Option<Tunnel>>,
}

/// A request's id.
#[derive(Clone, Debug)]
pub enum RequestId {
    /// From a trusted proxy, or a client of a listener that keeps them; visible ASCII.
    Given(HeaderValue),
    /// Made here: 32 hexadecimal digits.
    Made([u8; 32]),
}

impl RequestId {
    /// The id's text.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Given(value) => value.as_bytes(),
            Self::Made(text) => text,
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or("-")
    }

    /// The id as a field value.
    pub fn to_value(&self) -> HeaderValue {
        match self {
            Self::Given(value) => value.clone(),
            Self::Made(text) => {
                HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("-"))
            }
        }
    }
}

/// What the server can do for one request's client beyond carrying request and response.
pub trait ClientLink {
    /// Ready once the client is known to have gone away.
    fn poll_closed(&self, cx: &mut TaskContext<'_>) -> Poll<()>;

    /// Sends an interim (1xx) response; dropped where it cannot be sent in order.
    fn send_interim(&self, status: StatusCode, headers: &HeaderMap);

    /// Whether the wire gate refused what the client sent after its head.
    fn is_rejected(&self) -> bool;

    /// Whether part of what it was given waits for the client to read. Once that is on its way, whoever
    /// waits for it is polled again.
    fn is_behind(&self) -> bool;
}

/// The client of a request of our own: the same, but it hears nothing of it.
struct Aside(Rc<dyn ClientLink>);

impl ClientLink for Aside {
    fn poll_closed(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.0.poll_closed(cx)
    }

    fn send_interim(&self, _: StatusCode, _: &HeaderMap) {}

    fn is_rejected(&self) -> bool {
        self.0.is_rejected()
    }

    fn is_behind(&self) -> bool {
        self.0.is_behind()
    }
}

/// What the end of a request's story needs of the snapshot.
struct Account {
    metrics: Arc<RouteMetrics>,
    route: Option<Name>,
    rule: Option<Arc<CountedRule>>,
    logged: bool,
}

/// An upstream that was tried, and the endpoint of it, if it had one.
pub type Attempted = (Arc<Upstream>, Option<Arc<Endpoint>>);

/// One request's story, from its head to the last byte of its response.
pub struct Context {
    /// The connection it came on.
    pub conn: Rc<ClientConn>,
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// Its client.
    pub link: Rc<dyn ClientLink>,
    /// When its head was complete.
    pub started: Moment,
    /// When its first attempt began: what comes before is no endpoint's doing, be it a service that
    /// is asked about it or a client that sends its body slowly.
    pub forwarded: Cell<Moment>,
    /// The snapshot it is served by, until it outlasts it. Nobody else borrows it for change.
    snapshot: RefCell<Option<WorkerSnapshot>>,
    /// What stays where the snapshot is gone.
    account: OnceCell<Account>,
    /// Its id.
    pub request_id: OnceCell<RequestId>,
    /// The client's address as far as it is believed.
    pub client: Cell<IpAddr>,
    /// Whether the client sent it over TLS: to this process or, as far as it is believed, to a
    /// trusted proxy.
    pub secure: Cell<bool>,
    /// Whether an error body should be JSON.
    pub prefers_json: Cell<bool>,
    /// Whether it is a gRPC call, whose errors travel in trailers.
    pub is_grpc: Cell<bool>,
    /// Its seat among the requests its client has in progress, until the last byte of the response.
    pub seat: RefCell<Option<Seat>>,
    /// Its place among those its upstream bears.
    pub place: RefCell<Option<Place>>,
    /// How long it waited for that.
    pub queued: Cell<Option<Duration>>,
    /// What became of a second, hedged attempt.
    pub hedge: Cell<Option<HedgeOutcome>>,
    /// Attempts made.
    pub attempts: Cell<u32>,
    /// The time the last attempt took to connect, where it made a connection.
    pub connect_time: Cell<Option<Duration>>,
    /// The time from the last attempt's start to its response head.
    pub response_time: Cell<Option<Duration>>,
    /// When the final response head came.
    pub response_at: Cell<Option<Moment>>,
    /// The upstream and endpoint of the last attempt.
    pub upstream: RefCell<Option<Attempted>>,
    /// Who it is from, where that was asked for and shown.
    pub user: RefCell<Option<Name>>,
    /// Its method, where it is counted by the rule behind its route, too.
    pub method: Cell<Option<MethodLabel>>,
    /// Body bytes from the client.
    pub request_bytes: Cell<u64>,
    /// Body bytes to the client.
    pub response_bytes: Cell<u64>,
    route: Cell<Option<RouteId>>,
    status: Cell<u16>,
    grpc_status: Cell<Option<GrpcCode>>,
    reason: Cell<Reason>,
    record: RefCell<Option<Box<Record>>>,
    finished: Cell<bool>,
}

impl Context {
    /// The story of a request whose head has just arrived; `None` before the first snapshot.
    pub fn new(
        conn: Rc<ClientConn>,
        worker: Rc<Worker>,
        link: Rc<dyn ClientLink>,
    ) -> Option<Rc<Self>> {
        let snapshot = worker.snapshot()?;
        let client = Cell::new(conn.peer.ip());
        let secure = Cell::new(conn.secure);
        let started = Moment::now();
        Some(Rc::new(Self {
            conn,
            worker,
            link,
            started,
            forwarded: Cell::new(started),
            snapshot: RefCell::new(Some(snapshot)),
            account: OnceCell::new(),
            request_id: OnceCell::new(),
            client,
            secure,
            prefers_json: Cell::new(false),
            is_grpc: Cell::new(false),
            seat: RefCell::new(None),
            place: RefCell::new(None),
            queued: Cell::new(None),
            hedge: Cell::new(None),
            attempts: Cell::new(0),
            connect_time: Cell::new(None),
            response_time: Cell::new(None),
            response_at: Cell::new(None),
            upstream: RefCell::new(None),
            user: RefCell::new(None),
            method: Cell::new(None),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            route: Cell::new(None),
            status: Cell::new(0),
            grpc_status: Cell::new(None),
            reason: Cell::new(Reason::None),
            record: RefCell::new(None),
            finished: Cell::new(false),
        }))
    }

    /// The story of a request of our own on behalf of this one, over the inner or other route
    /// `route`. It is not counted or logged: what it leads to is part of this one's.
    pub fn aside(&self, route: RouteId) -> Option<Rc<Self>> {
        let link = Rc::new(Aside(self.link.clone()));
        let aside = Self::new(self.conn.clone(), self.worker.clone(), link)?;
        aside.snapshot.replace(self.snapshot());
        let _ = aside.request_id.set(self.request_id().clone());
        aside.client.set(self.client.get());
        aside.route.set(Some(route));
        aside.finished.set(true);
        Some(aside)
    }

    /// The snapshot itself, for what holds it across an await.
    pub fn snapshot(&self) -> Option<WorkerSnapshot> {
        self.snapshot.borrow().clone()
    }

    /// The number of the matched route.
    pub fn route_id(&self) -> Option<RouteId> {
        self.route.get()
    }

    /// The settings of the process.
    pub fn settings(&self) -> Option<Ref<'_, Settings>> {
        self.of_snapshot(|snapshot| Some(&snapshot.config.settings))
    }

    /// The listener, if it is still configured.
    pub fn listener(&self) -> Option<Ref<'_, Arc<CompiledListener>>> {
        self.of_snapshot(|snapshot| snapshot.listener(self.conn.listener))
    }

    /// The matched route.
    pub fn route(&self) -> Option<Ref<'_, CompiledRoute>> {
        self.route_of(self.route_id()?)
    }

    /// The route of that number.
    pub fn route_of(&self, id: RouteId) -> Option<Ref<'_, CompiledRoute>> {
        self.of_snapshot(|snapshot| snapshot.route(id))
    }

    fn of_snapshot<T>(&self, part: impl FnOnce(&Snapshot) -> Option<&T>) -> Option<Ref<'_, T>> {
        Ref::filter_map(self.snapshot.borrow(), |snapshot| part(snapshot.as_ref()?)).ok()
    }

    /// Whether the snapshot it is served by is not the newest any more.
    pub fn is_outdated(&self) -> bool {
        let newest = self.worker.generation();
        let snapshot = self.snapshot.borrow();
        snapshot.as_ref().is_some_and(|snapshot| snapshot.generation != newest)
    }

    /// Lets go of the snapshot: what is left of the story needs the account only. For tunnels and
    /// bodies that may go on for hours while one configuration follows another.
    pub fn release_snapshot(&self) {
        if let Some(listener) = self.listener() {
            self.account.get_or_init(|| Account {
                metrics: self.metrics(&listener).clone(),
                route: self.route().map(|route| route.name.clone()),
                rule: self.route().and_then(|route| route.rule.clone()),
                logged: self.route().is_none_or(|route| route.access_log),
            });
        }
        // Whoever still reads it keeps it; the next frame asks again.
        if let Ok(mut snapshot) = self.snapshot.try_borrow_mut() {
            snapshot.take();
        }
    }

    /// Whether its peer is a trusted proxy.
    pub fn is_from_trusted_proxy(&self) -> bool {
        self.listener().is_some_and(|listener| listener.trusts(self.conn.peer.ip()))
    }

    /// The request id; made on first use where the client brought none that is believed.
    pub fn request_id(&self) -> &RequestId {
        self.request_id.get_or_init(|| RequestId::Made(self.worker.request_id()))
    }

    /// Says which route matched, `None` for none. Called once.
    pub fn routed(&self, route: Option<RouteId>) {
        self.route.set(route);
        if let Some(listener) = self.listener() {
            self.metrics(&listener).started(self.worker.id);
        }
    }

    /// Begins the access log's record, where there is an access log.
    pub fn begin_record(&self, begin: impl FnOnce() -> Record) {
        if self.worker.access_log.enabled() {
            *self.record.borrow_mut() = Some(Box::new(begin()));
        }
    }

    /// Gives its place back: no endpoint is at it any more.
    pub fn leave(&self) {
        drop(self.place.take());
    }

    /// Notes the status the client sees.
    pub fn responded(&self, status: StatusCode) {
        self.status.set(status.as_u16());
    }

    /// Notes the code that a gRPC call ends with, where these fields of the response's head or
    /// trailer section have it.
    pub fn note_grpc_status(&self, fields: &HeaderMap) {
        if self.is_grpc.get()
            && let Some(code) = fields.get("grpc-status")
        {
            self.grpc_status.set(Some(GrpcCode::of(code.as_bytes())));
        }
    }

    /// Notes why the proxy answered or broke off; the first reason stays.
    pub fn because(&self, reason: Reason) {
        if self.reason.get() == Reason::None {
            self.reason.set(reason);
        }
    }

    /// Notes a failure, for logs.
    pub fn failed(&self, error: &ProxyError) {
        self.because(error.reason);
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let (route, upstream) = (self.route(), self.upstream.borrow());
        let upstream = upstream.as_ref();
        tracing::debug!(
            reason = error.reason.as_str(),
            cause = cause.as_deref().unwrap_or("-"),
            route = route.as_ref().map_or("-", |route| route.name.as_str()),
            upstream = upstream.map_or("-", |(upstream, _)| upstream.name.as_str()),
            endpoint = ?upstream.and_then(|(_, endpoint)| endpoint.as_ref()).map(|e| e.address),
            request_id = self.request_id.get().map_or("-", RequestId::as_str),
            "request failed"
        );
    }

    /// Ends the story: counts it and writes it to the access log. Only the first call does.
    pub fn finish(&self) {
        if self.finished.replace(true) {
            return;
        }
        self.leave();
        drop(self.seat.take());
        let duration = self.started.elapsed();
        let exchange = Exchange {
            status: self.status.get(),
            reason: self.reason.get(),
            duration,
            request_bytes: self.request_bytes.get(),
            response_bytes: self.response_bytes.get(),
        };
        if let Some(account) = self.account.get() {
            account.metrics.finished(self.worker.id, &exchange);
        } else if let Some(listener) = self.listener() {
            self.metrics(&listener).finished(self.worker.id, &exchange);
        }
        if let Some(method) = self.method.get() {
            self.count_by_rule(method, &exchange);
        }
        self.write_log(&exchange);
    }

    /// Beside the way of requests whose routes are counted by name alone.
    #[inline(never)]
    fn count_by_rule(&self, method: MethodLabel, exchange: &Exchange) {
        let head = self.response_time.get();
        let end = self.started.after(exchange.duration);
        let since_head = self.response_at.get().map(|at| end.since(at));
        let phases = Phases {
            connect: self.connect_time.get().or(head.map(|_| Duration::ZERO)),
            head,
            response: head.zip(since_head).map(|(head, rest)| head.saturating_add(rest)),
        };
        let upstream = self.upstream.borrow();
        let upstream = upstream.as_ref().map(|(upstream, _)| &upstream.name);
        let count = |rule: &CountedRule| {
            let counters = rule.counters(upstream);
            counters.finished(self.worker.id, method, exchange, &phases);
        };
        if let Some(account) = self.account.get() {
            account.rule.as_deref().into_iter().for_each(count);
        } else if let Some(route) = self.route() {
            route.rule.as_deref().into_iter().for_each(count);
        }
    }

    /// `future`, unless the client goes away first.
    pub(super) async fn unless_closed<F: Future>(
        &self,
        future: F,
    ) -> Result<F::Output, ProxyError> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let gone = || Err(ProxyError::client(Reason::ClientClosed));
            self.link.poll_closed(cx).map(|()| gone())
        })
        .await
    }

    fn metrics<'a>(&self, listener: &'a CompiledListener) -> &'a Arc<RouteMetrics> {
        match self.route.get() {
            Some(route) => listener.route_metrics(route),
            None => &listener.unrouted,
        }
    }

    fn write_log(&self, exchange: &Exchange) {
        let Some(mut record) = self.record.borrow_mut().take() else { return };
        let (route, logged) = match self.account.get() {
            Some(account) => (account.route.clone(), account.logged),
            None => (
                self.route().map(|route| route.name.clone()),
                self.route().is_none_or(|route| route.access_log),
            ),
        };
        if !logged {
            return;
        }
        record.client = self.client.get();
        record.scheme = if self.conn.secure { "https" } else { "http" };
        record.status = exchange.status;
        record.grpc_status = self.grpc_status.get();
        record.reason = exchange.reason;
        record.request_bytes = exchange.request_bytes;
        record.response_bytes = exchange.response_bytes;
        record.duration = exchange.duration;
        record.route = route;
        record.user = self.user.take();
        record.attempts = self.attempts.get();
        record.hedge = self.hedge.get();
        record.queued = self.queued.get().and_then(|waited| {
            NonZeroU32::new(u32::try_from(waited.as_micros()).unwrap_or(u32::MAX))
        });
        record.connect = self.connect_time.get();
        record.upstream_head = self.response_time.get();
        let end = self.started.after(exchange.duration);
        let rest = self.response_at.get().map(|at| end.since(at)).unwrap_or_default();
        record.upstream_rest = u32::try_from(rest.as_millis()).unwrap_or(u32::MAX);
        record.tls_version = self.conn.tls_version;
        record.server_name = self.conn.server_name.as_deref().map(Name::from);
        if let Some((upstream, endpoint)) = &*self.upstream.borrow() {
            record.upstream = Some(upstream.name.clone());
            record.endpoint = endpoint.as_ref().map(|endpoint| endpoint.address);
        }
        self.worker.access_log.record(self.worker.id, *record);
    }
}

/// A request dropped before its response is one whose client went away.
impl Drop for Context {
    fn drop(&mut self) {
        if !self.finished.get() && self.started_routing() {
            self.because(Reason::ClientClosed);
            self.status.set(499);
            self.finish();
        }
    }
}

impl Context {
    fn started_routing(&self) -> bool {
        self.route.get().is_some() || self.status.get() != 0
    }
}
