//! Serving an HTTP/2 client connection (RFC 9113), on the `h2` crate itself: hyper's server
//! sends no interim responses and hides resets from the request path.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;

use super::connections::Place;
use super::dates::Dates;
use super::refusal::Refused;
use super::{Transport, WorkerCx};
use crate::http2::{DATA_FRAME_BUDGET, Intake};
use crate::ir::{Http2Options, Limits};
use crate::proxy::{Body, ClientConn, ClientLink, Context, H2Body, Inbound, IncomingBody, Stack};
use crate::util::moment::Moment;
use crate::util::wheel::timeout;

/// How long a client may leave response bytes unread.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// How long a client without a stream may take to acknowledge that the connection ends.
const GOODBYE: Duration = Duration::from_secs(5);
/// Response bytes the library may hold per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams the client may reset before they were looked at.
const PENDING_RESETS: usize = 20;
/// A client that resets so many streams of a connection soon after it opened them, and more than
/// it lets live, makes work for no response (CVE-2023-44487): the connection ends.
const HASTY_RESETS: u64 = 250;
/// What is soon.
const HASTY: Duration = Duration::from_secs(1);
/// Streams this side may have to reset over the life of a connection.
const LOCAL_RESETS: usize = 200;
/// Fields of interim responses a stream may send its client. The library queues them whatever the
/// client reads; leaving one out is allowed (RFC 9110 §15.2).
const INTERIM_FIELDS: usize = 64 * 1024;
/// Cookies come in crumbs (RFC 9113 §8.2.3); so many count as one field.
const COOKIE_CRUMBS: usize = 200;

/// Serves streams until either side is done.
pub async fn serve<S: Stack>(
    worker: &WorkerCx<S>,
    conn: Rc<ClientConn>,
    transport: Transport,
    first_head: Moment,
    options: &Http2Options,
    limits: &Limits,
    place: &Place,
) {
    let header_list = u32::try_from(limits.head_size).unwrap_or(u32::MAX);
    let intake = Intake::new();
    let handshake = h2::server::Builder::new()
        .initial_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window)
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(header_list)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .data_frame_budget(DATA_FRAME_BUDGET)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(intake.paced(transport));
    let left = first_head.since(Moment::now());
    let mut connection = match timeout(&worker.proxy.wheel, Some(left), handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(peer = %conn.peer, %error, "HTTP/2 preface refused");
            return;
        }
        Err(_) => return,
    };
    let streams = Rc::new(Streams::default());
    let mut idle = worker.proxy.wheel.timer();
    let mut leaving = false;
    loop {
        let next = std::future::poll_fn(|cx| {
            place.watch(cx);
            let drains = worker.proxy.is_draining() || place.is_closing() || conn.leaving.get();
            if !leaving && drains {
                leaving = true;
                idle.disarm();
                connection.graceful_shutdown();
            }
            if streams.are_reset_in_haste() {
                connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
            }
            intake.catch_up();
            let polled = connection.poll_accept(cx);
            if polled.is_ready() {
                return polled;
            }
            // Between requests the connection is idle, as an HTTP/1 connection is.
            if streams.any(cx) {
                idle.disarm();
                return Poll::Pending;
            }
            if !idle.is_armed() {
                idle.arm(if leaving { GOODBYE } else { limits.keep_alive });
            }
            if idle.poll_due(cx).is_ready() {
                if leaving {
                    return Poll::Ready(None);
                }
                leaving = true;
                idle.disarm();
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await;
        match next {
            Some(Ok((request, respond))) => {
                let stream = ServerStream {
                    lease: Lease::new(&streams),
                    conn: conn.clone(),
                    intake: intake.clone(),
                    header_count: limits.header_count,
                };
                // Boxed: spawning and ending a task move its future several times.
                let serve = Box::pin(stream.serve(worker.clone(), request, respond));
                tokio::task::spawn_local(serve);
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %conn.peer, %error, "client connection broken");
                return;
            }
            None => return,
        }
    }
}

/// How many streams are being served, and what became of those before.
#[derive(Default)]
struct Streams {
    count: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
    opened: Cell<u64>,
    /// Those the client soon reset.
    hasty: Cell<u64>,
}

impl Streams {
    fn are_reset_in_haste(&self) -> bool {
        let hasty = self.hasty.get();
        hasty >= HASTY_RESETS && hasty > self.opened.get() / 2
    }

    fn any(&self, cx: &mut TaskContext<'_>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        self.count.get() > 0
    }
}

struct Lease(Rc<Streams>);

impl Lease {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.count.set(streams.count.get() + 1);
        streams.opened.set(streams.opened.get() + 1);
        Self(streams.clone())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
        if self.0.count.get() == 0
            && let Some(waker) = self.0.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

struct ServerStream {
    lease: Lease,
    conn: Rc<ClientConn>,
    intake: Rc<Intake>,
    header_count: usize,
}

impl ServerStream {
    async fn serve<S: Stack>(
        self,
        worker: WorkerCx<S>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) {
        let Self { lease, conn, intake, header_count } = self;
        let head = request.method() == Method::HEAD;
        let link = Rc::new(H2Link {
            respond: RefCell::new(respond),
            answered: Cell::new(false),
            interim: Cell::new(0),
            reset: Cell::new(false),
        });
        let (mut parts, stream) = request.into_parts();
        let asks = Asks::of(&parts.headers);
        let crumbs = asks.cookies;
        if parts.headers.len() - crumbs.min(COOKIE_CRUMBS) > header_count || crumbs > COOKIE_CRUMBS
        {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            refused(&parts, status, "too_many_headers").tell(&worker.proxy, &conn);
            return link.answer(status);
        }
        if parts.uri.path_and_query().is_none() && parts.method != Method::CONNECT {
            refused(&parts, StatusCode::BAD_REQUEST, "bad_target").tell(&worker.proxy, &conn);
            return link.answer(StatusCode::BAD_REQUEST);
        }
        if crumbs > 1 {
            join_cookies(&mut parts.headers);
        }
        let length = if asks.length { content_length(&parts.headers) } else { Some(None) };
        let Some(length) = length else {
            refused(&parts, StatusCode::BAD_REQUEST, "bad_length").tell(&worker.proxy, &conn);
            return link.answer(StatusCode::BAD_REQUEST);
        };
        let proceed = asks.expects.then(|| {
            let link = link.clone();
            Box::new(move || link.send_interim(StatusCode::CONTINUE, &HeaderMap::new())) as _
        });
        let proxy = worker.proxy.clone();
        let Some(context) = Context::new(conn, proxy, link.clone()) else {
            return link.answer(StatusCode::SERVICE_UNAVAILABLE);
        };
        let body = match stream.is_end_stream() {
            true => IncomingBody::Empty,
            false => IncomingBody::H2(H2Body::new(intake.receive(stream), length, proceed)),
        };
        let inbound = Inbound { parts, body, context: context.clone() };
        let call = worker.calls.start(|| worker.stack.clone().call(inbound));
        let Ok(response) = call.await;
        if let Err(error) = link.send(&worker, response, head, &context).await {
            tracing::debug!(%error, "HTTP/2 response broken off");
        }
        if link.reset.get() && context.started.elapsed() < HASTY {
            lease.0.hasty.set(lease.0.hasty.get() + 1);
        }
    }
}

fn refused<'a>(
    parts: &'a http::request::Parts,
    status: StatusCode,
    rule: &'static str,
) -> Refused<'a> {
    let target = parts.uri.path_and_query().map_or("-", PathAndQuery::as_str).as_bytes();
    let method = parts.method.clone();
    Refused { status: status.as_u16(), rule, method, version: parts.version, target }
}

/// Which of the fields that concern this side a request has, found in one pass.
#[derive(Default)]
struct Asks {
    cookies: usize,
    length: bool,
    expects: bool,
}

impl Asks {
    fn of(headers: &HeaderMap) -> Self {
        let mut asks = Self::default();
        for (name, _) in headers {
            match name.as_str().len() {
                6 => {
                    asks.cookies += usize::from(name == COOKIE);
                    asks.expects |= name == EXPECT;
                }
                14 => asks.length |= name == CONTENT_LENGTH,
                _ => {}
            }
        }
        asks
    }
}

/// The one length of a body; `None` where fields are no numbers or differ.
fn content_length(headers: &HeaderMap) -> Option<Option<u64>> {
    let mut fields = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = fields.next() else { return Some(None) };
    if fields.next().is_some() || !first.as_bytes().iter().all(u8::is_ascii_digit) {
        return None;
    }
    first.to_str().ok()?.parse().ok().map(Some)
}

/// One field again, as HTTP/1 endpoints want it (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The client's side of one stream.
struct H2Link {
    respond: RefCell<SendResponse<Bytes>>,
    /// From then on the sender of the body watches for resets.
    answered: Cell<bool>,
    /// Bytes of fields in interim responses so far.
    interim: Cell<usize>,
    /// The client has given the stream up.
    reset: Cell<bool>,
}

impl H2Link {
    /// Answers without a body what never reaches the request path.
    fn answer(&self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let _ = self.respond.borrow_mut().send_response(response, true);
    }

    async fn send<S: Stack>(
        &self,
        worker: &WorkerCx<S>,
        response: Response<Body>,
        to_head: bool,
        context: &Context,
    ) -> Result<(), h2::Error> {
        let (mut parts, mut body) = response.into_parts();
        make_h2(&mut parts.headers, &worker.dates);
        if let Some(length) = body.size_hint().exact()
            && length > 0
            && !parts.headers.contains_key(CONTENT_LENGTH)
        {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        let head = Response::from_parts(parts, ());
        let over = to_head || body.is_end_stream();
        self.answered.set(true);
        let sent = self.respond.borrow_mut().send_response(head, over);
        // Nobody but the client ends a stream that was not answered.
        let mut stream = sent.inspect_err(|_| self.reset.set(true))?;
        if over {
            return Ok(());
        }
        let sender = Sender { worker, stream: &mut stream, reset: &self.reset };
        sender.run(&mut body, context).await
    }
}

/// Sends a body as the client's window allows.
struct Sender<'a, S: Stack> {
    worker: &'a WorkerCx<S>,
    stream: &'a mut SendStream<Bytes>,
    reset: &'a Cell<bool>,
}

impl<S: Stack> Sender<'_, S> {
    async fn run(mut self, body: &mut Body, context: &Context) -> Result<(), h2::Error> {
        loop {
            let frame = std::future::poll_fn(|cx| {
                // A client that resets the stream does not want the rest.
                if let Poll::Ready(reset) = self.stream.poll_reset(cx) {
                    self.reset.set(reset.is_ok());
                    return Poll::Ready(Err(reset.map_or_else(|e| e, h2::Error::from)));
                }
                std::pin::Pin::new(&mut *body).poll_frame(cx).map(Ok)
            })
            .await?;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let over = body.is_end_stream();
                        // The end of a stream may come in a frame without data.
                        if over && data.is_empty() {
                            return self.stream.send_data(data, true);
                        }
                        self.data(data, over, context).await?;
                        if over {
                            return Ok(());
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            return self.stream.send_trailers(trailers);
                        }
                    }
                },
                // The client must see that the body is not whole.
                Some(Err(_)) => {
                    self.stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    return Ok(());
                }
                None => return self.stream.send_data(Bytes::new(), true),
            }
        }
    }

    async fn data(
        &mut self,
        mut data: Bytes,
        over: bool,
        context: &Context,
    ) -> Result<(), h2::Error> {
        while !data.is_empty() {
            self.stream.reserve_capacity(data.len());
            let mut room = self.stream.capacity();
            if room == 0 {
                let wait = std::future::poll_fn(|cx| self.stream.poll_capacity(cx));
                room = match timeout(&self.worker.proxy.wheel, Some(WRITE_STALL), wait).await {
                    Ok(Some(room)) => room?,
                    Ok(None) => return Err(h2::Reason::CANCEL.into()),
                    Err(_) => {
                        context.because(crate::telemetry::Reason::ClientWriteTimeout);
                        self.stream.send_reset(h2::Reason::CANCEL);
                        return Err(h2::Reason::CANCEL.into());
                    }
                };
            }
            let piece = data.split_to(room.min(data.len()));
            self.stream.send_data(piece, over && data.is_empty())?;
        }
        Ok(())
    }
}

/// Takes out what HTTP/2 forbids (RFC 9113 §8.2.2) and adds the date a server owes. Most responses have
/// nothing of it, which one pass finds.
fn make_h2(headers: &mut HeaderMap, dates: &Dates) {
    let mut forbidden = false;
    let mut dated = false;
    for name in headers.keys() {
        match name.as_str().len() {
            4 => dated |= name == DATE,
            7 | 10 | 16 | 17 => forbidden |= FORBIDDEN.contains(name),
            _ => {}
        }
    }
    if forbidden {
        FORBIDDEN.iter().for_each(|name| drop(headers.remove(name)));
    }
    if !dated {
        headers.insert(DATE, dates.now());
    }
}

const FORBIDDEN: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

impl ClientLink for H2Link {
    fn poll_closed(&self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if self.answered.get() {
            return Poll::Pending;
        }
        self.respond.borrow_mut().poll_reset(cx).map(|reset| self.reset.set(reset.is_ok()))
    }

    fn send_interim(&self, status: StatusCode, headers: &HeaderMap) {
        let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let total = self.interim.get().saturating_add(fields.sum());
        if total > INTERIM_FIELDS {
            return;
        }
        self.interim.set(total);
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = headers.clone();
        let _ = self.respond.borrow_mut().send_informational(interim);
    }

    fn is_rejected(&self) -> bool {
        false
    }

    /// A body is asked for its next piece once the one before it has gone to the library.
    fn is_behind(&self) -> bool {
        false
    }
}
