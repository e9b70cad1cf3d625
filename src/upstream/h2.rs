//! HTTP/2 towards endpoints (RFC 9113): one connection carries many exchanges.

mod rest;
mod stream;
mod upload;

pub use rest::H2Rest;
pub use stream::H2Stream;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};

use upload::Upload;

use crate::error::{ProxyError, Replay};
use crate::http2::{DATA_FRAME_BUDGET, Intake, Received};
use crate::telemetry::{Reason, WorkerId};
use crate::upstream::Endpoint;
use crate::upstream::h1::{HeadEvent, MAX_INTERIM, ResponseHead};
use crate::upstream::limits::Place;
use crate::upstream::pool::{UpstreamIo, Waitlist};
use crate::util::moment::Moment;
use crate::util::wheel::Wheel;

/// Response bytes an endpoint may send ahead of a client that does not take them: enough for
/// 200 Mbit/s a stream at 10 ms of distance.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection, and so the most memory that slow clients cost it.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Streams at once. As many as the connection's window has room for when every one of them is
/// full: clients that do not read then never hold up those that do.
const MAX_STREAMS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;
const MAX_SEND_BUFFER: usize = 128 * 1024;
/// Streams this side resets over a connection's life before it gives up on the peer. The
/// library's default is meant for servers: cancelled gRPC calls would use it up.
const MAX_LOCAL_RESETS: usize = 100_000;

/// A connection many exchanges share. Cloning shares it.
#[derive(Clone)]
pub struct H2Conn {
    send: SendRequest<Bytes>,
    shared: Rc<Shared>,
}

struct Shared {
    closed: Cell<bool>,
    /// Whether an exchange on it was answered.
    answered: Cell<bool>,
    /// Whether it ends with its last exchange, because others wait for its place.
    leaving: Cell<bool>,
    streams: Cell<usize>,
    idle_since: Cell<Moment>,
    created: Moment,
    server_name: Option<Arc<str>>,
    task: RefCell<Option<JoinHandle<()>>>,
    berth: Berth,
    /// Who waits for a stream to its endpoint.
    waitlist: Rc<Waitlist>,
    wheel: Rc<Wheel>,
    /// Until somebody wants to know whether the peer's settings have arrived.
    unsettled: RefCell<Option<PingPong>>,
    /// Closed once they have.
    settled: Rc<Semaphore>,
    intake: Rc<Intake>,
}

/// A connection's place, where connections are limited: of those who use it and its task alike.
type Berth = Rc<RefCell<Option<Place>>>;

impl H2Conn {
    /// Performs the HTTP/2 handshake on a fresh stream, which has `place`; the connection's task
    /// stays on this worker, whose timers `wheel` has. `waitlist` is told when streams end.
    pub async fn handshake(
        io: UpstreamIo,
        endpoint: Arc<Endpoint>,
        server_name: Option<Arc<str>>,
        worker: WorkerId,
        place: Option<Place>,
        waitlist: Rc<Waitlist>,
        wheel: Rc<Wheel>,
    ) -> Result<Self, ProxyError> {
        let intake = Intake::new();
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(MAX_SEND_BUFFER)
            .max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
            .data_frame_budget(DATA_FRAME_BUDGET)
            .max_header_list_size(64 * 1024)
            .enable_push(false)
            .handshake::<_, Bytes>(intake.paced(io))
            .await
            .map_err(|error| ProxyError::upstream(Reason::ConnectFailed).because(error))
            .map_err(|error| error.replay(Replay::Unwritten))?;
        let berth: Berth = Rc::new(RefCell::new(place));
        let open = Open::new(endpoint, worker, berth.clone());
        let shared = Rc::new(Shared {
            closed: Cell::new(false),
            answered: Cell::new(false),
            leaving: Cell::new(false),
            streams: Cell::new(0),
            idle_since: Cell::new(Moment::now()),
            created: Moment::now(),
            server_name,
            task: RefCell::new(None),
            berth,
            waitlist,
            wheel,
            unsettled: RefCell::new(connection.ping_pong()),
            settled: Rc::new(Semaphore::new(0)),
            intake: intake.clone(),
        });
        let weak = Rc::downgrade(&shared);
        let running = Running { connection, open };
        let task = tokio::task::spawn_local(async move {
            let mut running = running;
            let ended = std::future::poll_fn(|cx| {
                intake.catch_up();
                std::pin::Pin::new(&mut running.connection).poll(cx)
            })
            .await;
            if let Some(shared) = weak.upgrade() {
                shared.closed.set(true);
            }
            if let Err(error) = ended {
                let endpoint = running.open.endpoint.address;
                tracing::debug!(%endpoint, %error, "upstream connection ended");
            }
        });
        *shared.task.borrow_mut() = Some(task);
        Ok(Self { send, shared })
    }

    /// Whether another exchange may start on it.
    pub fn has_room(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        let streams = self.shared.streams.get();
        if streams >= MAX_STREAMS || streams >= self.send.current_max_send_streams() {
            return false;
        }
        // A peer that leaves (GOAWAY) serves the streams there are and takes no more; nor can one
        // be opened once the numbers for them are used up.
        let mut cx = Context::from_waker(Waker::noop());
        let gone = matches!(self.send.clone().poll_ready(&mut cx), Poll::Ready(Err(_)));
        self.shared.closed.set(gone);
        !gone
    }

    /// Whether it is of no more use.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get() || self.shared.leaving.get()
    }

    /// Whether nobody but its pool knows it.
    pub fn is_idle(&self) -> bool {
        Rc::strong_count(&self.shared) == 1
    }

    /// Whether it has a place.
    pub fn has_place(&self) -> bool {
        self.shared.berth.borrow().is_some()
    }

    /// Gives it a place.
    pub fn settle(&self, place: Place) {
        self.shared.berth.replace(Some(place));
    }

    /// Ends it, for one that is idle; its place is free once this is done.
    pub async fn close(self) -> Option<Place> {
        let (place, task) = (self.shared.berth.take(), self.shared.task.take());
        drop(self);
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        place
    }

    /// Exchanges on it now.
    pub fn streams(&self) -> usize {
        self.shared.streams.get()
    }

    /// When its last exchange ended.
    pub fn idle_since(&self) -> Moment {
        self.shared.idle_since.get()
    }

    /// When it was made.
    pub fn created(&self) -> Moment {
        self.shared.created
    }

    /// The TLS name it was made with, where that is not fixed by the upstream.
    pub fn server_name(&self) -> Option<&Arc<str>> {
        self.shared.server_name.as_ref()
    }

    /// Waits until the peer's settings have arrived: its preface comes before its answer to a
    /// ping (RFC 9113 §3.4).
    pub async fn settled(&self) {
        let unsettled = self.shared.unsettled.borrow_mut().take();
        // Whoever asks first may go away; the others wait for the same answer.
        if let Some(mut ping) = unsettled {
            let settled = self.shared.settled.clone();
            tokio::task::spawn_local(async move {
                let _ = ping.ping(Ping::opaque()).await;
                settled.close();
            });
        }
        let _ = self.shared.settled.acquire().await;
    }

    /// Whether the peer takes extended CONNECT (RFC 8441), as far as it has told.
    pub fn takes_extended_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Starts an exchange; gives the body back when nothing of it was used.
    pub async fn start<B>(
        &self,
        request: Request<()>,
        body: Option<B>,
    ) -> Result<H2Exchange, (ProxyError, Option<B>)>
    where
        B: Body<Data = Bytes, Error = ProxyError> + Unpin + 'static,
    {
        let (mut exchange, stream) = match self.send(request, body.is_none()).await {
            Ok(sent) => sent,
            Err(error) => return Err((error, body)),
        };
        exchange.task = body.map(|body| {
            let upload = exchange.upload.clone();
            tokio::task::spawn_local(async move { upload.run(body, stream).await }).abort_handle()
        });
        exchange.upload.done.set(exchange.task.is_none());
        Ok(exchange)
    }

    /// Starts an extended CONNECT (RFC 8441 §4) whose two directions are taken over with
    /// [`H2Exchange::into_tunnel`] once it is answered.
    pub async fn open(&self, request: Request<()>) -> Result<H2Exchange, ProxyError> {
        let (mut exchange, stream) = self.send(request, false).await?;
        exchange.open = Some(stream);
        exchange.upload.done.set(true);
        Ok(exchange)
    }

    async fn send(
        &self,
        request: Request<()>,
        over: bool,
    ) -> Result<(H2Exchange, SendStream<Bytes>), ProxyError> {
        let unwritten = |error: h2::Error| {
            // A request that the library does not take has no reason of the protocol's, and says
            // nothing of the connection.
            let mut replay = Replay::Unwritten;
            if error.is_io() || error.reason().is_some() {
                self.shared.closed.set(true);
                replay = self.shared.unwritten();
            }
            ProxyError::upstream(Reason::UpstreamReset).because(error).replay(replay)
        };
        let lease = Rc::new(Lease::new(&self.shared));
        let alone = self.shared.streams.get() == 1;
        let asked = Asked::by(request.method());
        let mut send = self.send.clone().ready().await.map_err(unwritten)?;
        let (response, stream) = send.send_request(request, over).map_err(unwritten)?;
        let exchange = H2Exchange {
            response: Some(response),
            interims: 0,
            body: None,
            asked,
            alone,
            upload: Rc::default(),
            task: None,
            open: None,
            lease,
        };
        Ok((exchange, stream))
    }
}

impl Shared {
    /// What is to be said of a request that was not written or not looked at because the connection
    /// had come to its end.
    fn unwritten(&self) -> Replay {
        match self.answered.get() {
            true => Replay::Stale { written: false },
            false => Replay::Unwritten,
        }
    }
}

/// What a connection's task owns. In this order: the place is free after the socket is closed,
/// however the task ends.
struct Running<C> {
    connection: C,
    open: Open,
}

/// Counts a connection as open, and keeps its place, for as long as its task lives.
struct Open {
    endpoint: Arc<Endpoint>,
    worker: WorkerId,
    berth: Berth,
}

impl Open {
    fn new(endpoint: Arc<Endpoint>, worker: WorkerId, berth: Berth) -> Self {
        endpoint.metrics.opened(worker);
        Self { endpoint, worker, berth }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.endpoint.metrics.closed(self.worker);
        self.berth.take();
    }
}

/// Counts an exchange on a connection.
struct Lease(Rc<Shared>);

impl Lease {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        Self(shared.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Moment::now());
        self.0.stream_ended();
    }
}

impl Shared {
    /// Somebody else may have the stream, or the place of the whole connection.
    fn stream_ended(&self) {
        if let Some(place) = &*self.berth.borrow() {
            if self.waitlist.comes_after_others(place, self.created) {
                self.leaving.set(true);
            }
            if self.streams.get() == 0 {
                self.waitlist.note_idle(place.turnstile());
            }
        }
        if !self.leaving.get() {
            self.waitlist.call_one(self.server_name.as_ref());
        }
    }
}

/// A request being sent and its response being read, on one stream.
pub struct H2Exchange {
    response: Option<ResponseFuture>,
    interims: u8,
    body: Option<Incoming>,
    asked: Asked,
    /// Whether nothing else was on its connection when it began.
    alone: bool,
    upload: Rc<Upload>,
    task: Option<AbortHandle>,
    /// The way to the endpoint, for a tunnel.
    open: Option<SendStream<Bytes>>,
    lease: Rc<Lease>,
}

struct Incoming {
    received: Received,
    progress: u64,
}

impl H2Exchange {
    /// Whether the whole request is written.
    pub fn is_sent(&self) -> bool {
        self.upload.done.get()
    }

    /// A count that grows with every byte moved.
    pub fn progress(&self) -> u64 {
        self.upload.progress.get() + self.body.as_ref().map_or(0, |body| body.progress)
    }

    /// Whether the response is complete: one that cannot have a body is as soon as its head is
    /// there.
    pub fn is_over(&self) -> bool {
        match &self.body {
            Some(body) => body.received.is_over(),
            None => self.response.is_none(),
        }
    }

    /// Waits for the next response head.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<HeadEvent, ProxyError>> {
        if let Some(error) = self.upload.failed.borrow_mut().take() {
            return Poll::Ready(Err(error));
        }
        if !self.upload.done.get() {
            *self.upload.waiting.borrow_mut() = Some(cx.waker().clone());
        }
        let Some(response) = self.response.as_mut() else {
            return Poll::Ready(Err(ProxyError::proxy(Reason::Internal)));
        };
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            return Poll::Ready(self.interim(interim));
        }
        match ready!(std::pin::Pin::new(response).poll(cx)) {
            Ok(response) => {
                let (parts, stream) = response.into_parts();
                self.response = None;
                self.lease.0.answered.set(true);
                if !parts.status.is_success()
                    && let Some(mut open) = self.open.take()
                {
                    let _ = open.send_data(Bytes::new(), true);
                }
                let over = stream.is_end_stream();
                let received = self.lease.0.intake.receive(stream);
                if self.asked.has_body(parts.status) {
                    self.body = Some(Incoming { received, progress: 0 });
                } else if !over {
                    tokio::task::spawn_local(H2Rest::new(received, self.lease.clone()).end());
                }
                let head = ResponseHead { status: parts.status, headers: parts.headers };
                Poll::Ready(Ok(HeadEvent::Final(head)))
            }
            Err(error) => Poll::Ready(Err(self.stream_error(error))),
        }
    }

    fn interim(&mut self, interim: Response<()>) -> Result<HeadEvent, ProxyError> {
        let (parts, ()) = interim.into_parts();
        self.interims += 1;
        let fault = if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            "101, which HTTP/2 has not (RFC 9113 §8.6)"
        } else if self.interims > MAX_INTERIM {
            "too many interim responses"
        } else {
            let head = ResponseHead { status: parts.status, headers: parts.headers };
            return Ok(HeadEvent::Interim(head));
        };
        Err(ProxyError::upstream(Reason::UpstreamProtocol).because(fault))
    }

    /// Waits for the next piece of the response body; `None` is its end.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Some(error) = self.upload.failed.borrow_mut().take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        match ready!(body.received.poll_frame(cx)) {
            Some(Ok(frame)) => {
                body.progress += frame.data_ref().map_or(0, |data| data.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.body_error(error)))),
            None => Poll::Ready(None),
        }
    }

    /// What is left of the response, for one who wants no more of its body.
    pub fn take_rest(&mut self) -> Option<H2Rest> {
        let body = self.body.take()?;
        Some(H2Rest::new(body.received, self.lease.clone()))
    }

    /// The stream as a pipe, after the consent to an extended CONNECT.
    pub fn into_tunnel(mut self) -> Option<H2Stream> {
        let body = self.body.take()?;
        Some(H2Stream::new(self.open.take()?, body.received, self.lease.clone()))
    }

    fn stream_error(&self, error: h2::Error) -> ProxyError {
        let shared = &self.lease.0;
        // RFC 9113 §8.7: a refused stream, or one above a GOAWAY's last, was not acted upon.
        // A rule broken on this stream. One broken on the connection may be another stream's:
        // this exchange only lost its connection.
        let broken = error.is_library() && !error.is_go_away();
        let replay = match error.reason() {
            _ if error.is_remote() && error.is_go_away() => shared.unwritten(),
            Some(h2::Reason::REFUSED_STREAM) if error.is_remote() => Replay::Refused,
            _ if broken => Replay::Never,
            // The connection had been idle when the request came.
            _ if error.is_io() && self.alone && shared.answered.get() => {
                Replay::Stale { written: true }
            }
            _ => Replay::Unanswered,
        };
        let reason = if broken { Reason::UpstreamProtocol } else { Reason::UpstreamReset };
        ProxyError::upstream(reason).because(error).replay(replay)
    }

    fn body_error(&self, error: h2::Error) -> ProxyError {
        ProxyError::upstream(Reason::UpstreamReset).because(error)
    }
}

/// As much of the method as its response depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Connect,
    Head,
    Other,
}

impl Asked {
    fn by(method: &Method) -> Self {
        match *method {
            Method::CONNECT => Self::Connect,
            Method::HEAD => Self::Head,
            _ => Self::Other,
        }
    }

    /// Whether the response may have a body (RFC 9110 §6.4.1).
    fn has_body(self, status: StatusCode) -> bool {
        match status {
            StatusCode::NO_CONTENT => self == Self::Connect,
            StatusCode::NOT_MODIFIED => false,
            _ => self != Self::Head,
        }
    }
}

impl Drop for H2Exchange {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The pool forgot the connection and nobody uses it: the library ends the connection
        // once the last sender is gone; an unresponsive peer must not keep the task.
        if let Some(task) = self.task.borrow_mut().take() {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
