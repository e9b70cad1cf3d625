//! An exchange with an endpoint, whichever protocol it speaks, and its deadlines.

use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::farewell::Farewell;
use super::watch::Watch;
use super::{Context, HttpVersion, RequestBody, hop};
use crate::error::{ProxyError, Side};
use crate::telemetry::Reason;
use crate::upstream::h1::{H1Exchange, HeadEvent};
use crate::upstream::h2::H2Exchange;
use crate::util::moment::Moment;
use crate::util::wheel::{Timer, Wheel};

/// A request being sent and its response being read. Moved once, into a box with its body; the
/// large variant is the common one.
#[expect(clippy::large_enum_variant, reason = "boxing the common variant would allocate more")]
pub enum Exchange {
    /// On an HTTP/1 connection.
    H1(H1Exchange<RequestBody>),
    /// On an HTTP/2 stream.
    H2(H2Exchange),
}

impl Exchange {
    pub fn poll_head(
        &mut self,
        cx: &mut TaskContext<'_>,
        spare: &mut HeaderMap,
    ) -> Poll<Result<HeadEvent, ProxyError>> {
        match self {
            Self::H1(exchange) => exchange.poll_head(cx, spare),
            Self::H2(exchange) => exchange.poll_head(cx),
        }
    }

    pub fn is_sent(&self) -> bool {
        match self {
            Self::H1(exchange) => exchange.is_sent(),
            Self::H2(exchange) => exchange.is_sent(),
        }
    }

    pub fn is_over(&self) -> bool {
        match self {
            Self::H1(exchange) => exchange.is_over(),
            Self::H2(exchange) => exchange.is_over(),
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self {
            Self::H1(exchange) => exchange.poll_body(cx),
            Self::H2(exchange) => exchange.poll_body(cx),
        }
    }

    pub fn progress(&self) -> u64 {
        match self {
            Self::H1(exchange) => exchange.progress(),
            Self::H2(exchange) => exchange.progress(),
        }
    }
}

/// The response body of an exchange: gives the connection back at its end.
pub struct ExchangeBody {
    exchange: Exchange,
    context: Rc<Context>,
    watch: Option<Watch>,
    deadline: Deadline,
    /// What is still to come of the length that the head of an HTTP/2 exchange told.
    owed: Option<u64>,
    /// An error that waits until what came before it is on its way to the client.
    failed: Option<ProxyError>,
    farewell: Farewell,
    /// Whether the endpoint is waited for, and not the client.
    quiet: bool,
    /// Whether it is read ahead, by a task that is not the client's.
    ahead: bool,
}

impl ExchangeBody {
    /// The body that follows the final head of `exchange`; `length` is what that tells of an
    /// HTTP/2 exchange.
    pub fn new(
        exchange: Exchange,
        context: Rc<Context>,
        watch: Watch,
        length: Option<u64>,
        idle: Option<Duration>,
        total: Option<Moment>,
    ) -> Self {
        let deadline = Deadline::new(idle, total);
        let watch = Some(watch);
        let owed = length;
        let mut body = Self {
            exchange,
            context,
            watch,
            deadline,
            owed,
            failed: None,
            farewell: Farewell::default(),
            quiet: true,
            ahead: false,
        };
        let head_at = body.context.response_at.get();
        body.end_apart();
        body.settle(head_at);
        body
    }

    /// The length still to come, where it is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.exchange {
            Exchange::H1(exchange) => exchange.remaining(),
            Exchange::H2(exchange) => exchange.is_over().then_some(0),
        }
    }

    /// Whether nothing more comes.
    pub fn is_over(&self) -> bool {
        self.exchange.is_over()
    }

    /// The request's story.
    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    /// When the time of the whole request has passed.
    pub fn due(&self) -> Option<Moment> {
        self.deadline.total
    }

    /// From now on another task than the client's reads it. Whether the client is still there is
    /// that one's to find out: a connection wakes one task only.
    pub fn detach(&mut self) {
        self.ahead = true;
    }

    /// Waits for the next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if self.failed.is_some() {
            return self.poll_failed(cx);
        }
        // Where there is always something to send, it is the client who takes too long.
        if !self.quiet && self.deadline.is_over() {
            return Poll::Ready(Some(Err(ProxyError::proxy(Reason::RequestTimeout))));
        }
        let polled = self.exchange.poll_frame(cx);
        self.quiet = polled.is_pending();
        if self.quiet {
            return self.poll_while_quiet(cx).map(|error| Some(Err(error)));
        }
        if let Poll::Ready(Some(Err(error))) = polled {
            if error.side == Side::Upstream {
                self.note_failure(error.reason);
            }
            self.failed = Some(error);
            return self.poll_failed(cx);
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.note(frame);
        }
        self.settle(None);
        polled.map(|frame| frame.map(|frame| frame.map(|frame| hop::sound_trailers(frame, false))))
    }

    /// The error, once the client can be told.
    fn poll_failed(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if !self.ahead {
            ready!(self.farewell.poll(cx, &*self.context.link));
        }
        Poll::Ready(self.failed.take().map(Err))
    }

    fn note(&mut self, frame: &Frame<Bytes>) {
        if let (Some(watch), Some(trailers)) = (&mut self.watch, frame.trailers_ref()) {
            watch.trailers(trailers, Moment::now());
        }
        if let (Some(owed), Some(data)) = (&mut self.owed, frame.data_ref()) {
            *owed = owed.saturating_sub(data.len() as u64);
            self.end_apart();
        }
    }

    /// A client of HTTP/1 that has all it was told of waits for nothing more; the end of an HTTP/2
    /// stream, and trailers before it, may still be to come.
    fn end_apart(&mut self) {
        let whole = self.owed == Some(0) && !self.exchange.is_over();
        let Exchange::H2(exchange) = &mut self.exchange else { return };
        if !whole || self.context.conn.version != HttpVersion::H1 {
            return;
        }
        let (Some(rest), Some(mut watch)) = (exchange.take_rest(), self.watch.take()) else {
            return;
        };
        tokio::task::spawn_local(async move {
            if let Some(trailers) = rest.end().await {
                let now = Moment::now();
                watch.trailers(&trailers, now);
                watch.ended(now);
            }
        });
    }

    /// Nothing comes from the endpoint: is the client still there, is the time up?
    fn poll_while_quiet(&mut self, cx: &mut TaskContext<'_>) -> Poll<ProxyError> {
        if !self.ahead && self.context.link.poll_closed(cx).is_ready() {
            return Poll::Ready(ProxyError::client(Reason::ClientClosed));
        }
        let progress = self.exchange.progress();
        let reason = ready!(self.deadline.poll(cx, &self.context.worker.wheel, progress));
        self.note_failure(reason);
        Poll::Ready(ProxyError::upstream(reason))
    }

    fn note_failure(&mut self, reason: Reason) {
        if let Some(watch) = &mut self.watch {
            watch.failed(reason);
        }
    }

    /// Lets go of the connection and the endpoint as soon as the response is complete.
    fn settle(&mut self, now: Option<Moment>) {
        if !self.exchange.is_over() {
            return;
        }
        let now = now.unwrap_or_else(Moment::now);
        give_back(&mut self.exchange, &self.context, now);
        if let Some(mut watch) = self.watch.take() {
            watch.ended(now);
        }
    }
}

/// Puts the connection of an exchange that is over where the next one finds it.
pub(super) fn give_back(exchange: &mut Exchange, context: &Context, now: Moment) {
    if let Exchange::H1(exchange) = exchange
        && let Some(conn) = exchange.take_reusable(now)
    {
        context.worker.pools.give_back(conn);
    }
}

/// The deadline of a response head: an idle one while the request is being sent, then one for
/// the answer.
pub(super) struct HeadDeadline {
    sending: Deadline,
    response: Option<Duration>,
    waiting: Option<Timer>,
}

impl HeadDeadline {
    pub fn new(idle: Option<Duration>, response: Option<Duration>) -> Self {
        Self { sending: Deadline::new(idle, None), response, waiting: None }
    }

    /// Ready with the reason once the deadline has passed.
    pub fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        context: &Context,
        exchange: &Exchange,
    ) -> Poll<Reason> {
        if !exchange.is_sent() {
            return self.sending.poll(cx, &context.worker.wheel, exchange.progress());
        }
        let Some(response) = self.response else { return Poll::Pending };
        let timer = self.waiting.get_or_insert_with(|| {
            let mut timer = context.worker.wheel.timer();
            timer.arm(response);
            timer
        });
        timer.poll_due(cx).map(|()| Reason::ResponseTimeout)
    }
}

/// The idle and the total deadline of a body. The timer is looked at only while nothing moves.
pub(super) struct Deadline {
    idle: Option<Duration>,
    total: Option<Moment>,
    timer: Option<Timer>,
    seen: u64,
    idle_at: Option<Moment>,
}

impl Deadline {
    pub fn new(idle: Option<Duration>, total: Option<Moment>) -> Self {
        Self { idle, total, timer: None, seen: u64::MAX, idle_at: None }
    }

    /// Whether the time of the whole request has passed.
    pub fn is_over(&self) -> bool {
        self.total.is_some_and(|total| Moment::now() >= total)
    }

    /// Ready with the reason once a deadline has passed. `progress` is a count of bytes moved.
    pub fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        wheel: &Rc<Wheel>,
        progress: u64,
    ) -> Poll<Reason> {
        if progress != self.seen {
            self.seen = progress;
            let now = Moment::now();
            self.idle_at = self.idle.map(|idle| now.after(idle));
            let Some(at) = self.idle_at.into_iter().chain(self.total).min() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| wheel.timer());
            timer.arm_at(at);
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        timer.poll_due(cx).map(|()| {
            let total_first = match (self.total, self.idle_at) {
                (Some(total), Some(idle)) => total <= idle,
                (total, _) => total.is_some(),
            };
            if total_first { Reason::RequestTimeout } else { Reason::UpstreamIdleTimeout }
        })
    }
}
