//! A request body on its way from the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::kept_body::{Kept, Reader};
use super::{Context, hop};
use crate::error::ProxyError;
use crate::http2::Received;
use crate::telemetry::Reason;
use crate::util::wheel::Timer;

/// A body as the server received it.
pub enum IncomingBody {
    /// None.
    Empty,
    /// From an HTTP/1 client.
    H1(hyper::body::Incoming),
    /// From an HTTP/2 client.
    H2(H2Body),
}

/// A body from an HTTP/2 client.
pub struct H2Body {
    received: Received,
    length: Option<u64>,
    /// Tells the client to go on, once, when the body is first wanted (`Expect: 100-continue`).
    proceed: Option<Box<dyn FnOnce()>>,
}

impl H2Body {
    /// The body that is `received`, `length` bytes long where that was said.
    pub fn new(
        received: Received,
        length: Option<u64>,
        proceed: Option<Box<dyn FnOnce()>>,
    ) -> Self {
        Self { received, length, proceed }
    }

    fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(proceed) = self.proceed.take() {
            proceed();
        }
        self.received.poll_frame(cx)
    }
}

/// A request body with the route's limits on it.
pub struct RequestBody {
    source: Source,
    /// A piece taken out by an attempt that wrote nothing.
    front: Bytes,
    length: Option<u64>,
}

enum Source {
    /// What was read and can be read again.
    Kept(Reader),
    /// Straight from the client.
    Live(LiveBody),
}

impl RequestBody {
    /// The body, or `None` when it is empty.
    pub fn new(inner: IncomingBody, context: Rc<Context>) -> Option<Self> {
        let (empty, length) = match &inner {
            IncomingBody::Empty => (true, None),
            IncomingBody::H1(body) => (body.is_end_stream(), body.size_hint().exact()),
            IncomingBody::H2(body) => (body.received.is_over(), body.length),
        };
        let live =
            LiveBody { inner, context, limit: u64::MAX, idle: None, timer: None, answered: 0 };
        (!empty).then_some(Self { source: Source::Live(live), front: Bytes::new(), length })
    }

    /// Its length, where the client said it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Allows no more than `limit` bytes, and no pause longer than `idle`.
    pub fn restrict(&mut self, limit: Option<u64>, idle: Option<Duration>) {
        if let Source::Live(live) = &mut self.source {
            live.limit = limit.unwrap_or(u64::MAX);
            live.idle = idle;
        }
    }

    /// Puts back a piece that was taken out and not used.
    pub fn put_back(&mut self, piece: Bytes) {
        self.front = piece;
    }

    /// The same body, of which up to `limit` bytes are kept while it is sent, so that it can be
    /// sent again. One that says it is longer is left as it is.
    pub fn kept(self, limit: u64) -> Self {
        let Self { source, front, length } = self;
        let source = match source {
            Source::Live(live) if length.is_none_or(|length| length <= limit) => {
                Source::Kept(Kept::reader(live, limit))
            }
            Source::Kept(reader) => Source::Kept(reader.keeping(limit)),
            source => source,
        };
        Self { source, front, length }
    }

    /// The same body, of which up to about `size` bytes are read. Where that is all, its length is
    /// known.
    ///
    /// # Errors
    /// If the client breaks off, pauses for too long or sends too much.
    pub async fn buffered(self, size: u64) -> Result<Self, ProxyError> {
        let Self { source, front, mut length } = self;
        let source = match source {
            Source::Live(live) => {
                let mut reader = Kept::reader(live, size);
                std::future::poll_fn(|cx| reader.poll_fill(cx)).await?;
                length = length.or(reader.length());
                Source::Kept(reader)
            }
            kept @ Source::Kept(_) => kept,
        };
        Ok(Self { source, front, length })
    }

    /// Takes the length of a body that was read to its end for said; whatever trailers it has do not go
    /// with that. False where its length is not known.
    pub fn measure(&mut self) -> bool {
        if let (None, Source::Kept(reader)) = (self.length, &self.source) {
            self.length = reader.whole_length();
        }
        self.length.is_some()
    }

    /// The whole body once more; `None` where it is not kept.
    pub fn again(&self) -> Option<Self> {
        let Source::Kept(reader) = &self.source else { return None };
        let source = Source::Kept(reader.again()?);
        Some(Self { source, front: Bytes::new(), length: self.length })
    }

    /// Whether all of it is kept, to its end.
    pub fn is_whole(&self) -> bool {
        matches!(&self.source, Source::Kept(reader) if reader.is_whole())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.front)))));
        }
        match &mut self.source {
            Source::Kept(reader) => reader.poll_frame(cx),
            Source::Live(live) => live.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Kept(_) => false,
            Source::Live(live) => self.front.is_empty() && live.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A body as it comes from the client, held to its limits.
pub(super) struct LiveBody {
    inner: IncomingBody,
    context: Rc<Context>,
    limit: u64,
    idle: Option<Duration>,
    timer: Option<Timer>,
    /// How much of the response had gone to the client when the timer was armed.
    answered: u64,
}

impl LiveBody {
    /// The request's story.
    pub fn context(&self) -> &Rc<Context> {
        &self.context
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let Poll::Ready(frame) = self.poll_inner(cx) else {
            ready!(self.poll_idle(cx));
            return Poll::Ready(Some(Err(ProxyError::client(Reason::ClientBodyTimeout))));
        };
        if let Some(timer) = &mut self.timer {
            timer.disarm();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let total = self.context.request_bytes.get() + data.len() as u64;
            self.context.request_bytes.set(total);
            if total > self.limit {
                return Poll::Ready(Some(Err(ProxyError::client(Reason::BodyTooLarge))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            IncomingBody::Empty => true,
            IncomingBody::H1(body) => body.is_end_stream(),
            IncomingBody::H2(body) => body.received.is_over(),
        }
    }

    fn poll_inner(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let frame = match &mut self.inner {
            IncomingBody::Empty => return Poll::Ready(None),
            IncomingBody::H1(body) => ready!(Pin::new(body).poll_frame(cx))
                .map(|frame| frame.map_err(|error| self.failed(error))),
            IncomingBody::H2(body) => {
                ready!(body.poll_frame(cx)).map(|frame| frame.map_err(|error| self.failed(error)))
            }
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| hop::sound_trailers(frame, true))))
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProxyError {
        let rejected = self.context.link.is_rejected();
        let reason = if rejected { Reason::BadRequest } else { Reason::ClientClosed };
        ProxyError::client(reason).because(error)
    }

    /// Nothing comes from the client. That is no fault while it reads what it asked for: many
    /// calls are one message up and a stream down.
    fn poll_idle(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(idle) = self.idle else { return Poll::Pending };
        let wheel = &self.context.worker.wheel;
        let timer = self.timer.get_or_insert_with(|| wheel.timer());
        let answered = self.context.response_bytes.get();
        if !timer.is_armed() {
            self.answered = answered;
            timer.arm(idle);
        }
        while timer.poll_due(cx).is_ready() {
            if self.answered == answered {
                return Poll::Ready(());
            }
            self.answered = answered;
            timer.arm(idle);
        }
        Poll::Pending
    }
}
