//! A response body on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Context;
use super::exchange::ExchangeBody;
use super::pace::Pace;
use super::read_ahead::ReadAhead;
use super::tunnel::TunnelBody;
use crate::error::ProxyError;
use crate::ir::ResponseRate;

/// A response body. Its end, or its loss, ends the story of the request.
pub struct Body {
    kind: Kind,
    pace: Option<Box<Pace>>,
    context: Option<Finish>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Tunnel(Box<TunnelBody>),
    Upstream(Box<ExchangeBody>),
    Ahead(ReadAhead),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, pace: None, context: None }
    }

    /// A body made here.
    pub fn full(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) };
        Self { kind, pace: None, context: None }
    }

    /// A body from an endpoint.
    pub(super) fn upstream(body: ExchangeBody) -> Self {
        // A response without a body has let go of its connection already.
        if body.is_over() {
            return Self::empty();
        }
        Self { kind: Kind::Upstream(Box::new(body)), pace: None, context: None }
    }

    /// One half of a tunnel over HTTP/2.
    pub(super) fn tunnel(body: TunnelBody) -> Self {
        Self { kind: Kind::Tunnel(Box::new(body)), pace: None, context: None }
    }

    /// The same body, of which up to `size` bytes are read ahead of the client.
    pub(super) fn read_ahead(mut self, size: u64) -> Self {
        self.kind = match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Upstream(body) => Kind::Ahead(ReadAhead::new(body, size)),
            other => other,
        };
        self
    }

    /// The same body, which goes to the client no faster than `rate`.
    pub(super) fn paced(mut self, rate: ResponseRate, context: &Rc<Context>) -> Self {
        if !matches!(self.kind, Kind::Empty | Kind::Tunnel(_)) {
            self.pace = Some(Box::new(Pace::new(rate, context)));
        }
        self
    }

    /// Lets go of a body that nobody wants. What has arrived of it is read, so that its
    /// connection can be used again where that is all.
    pub(super) async fn discard(mut self) {
        const MOST: usize = 16;
        let body = match &mut self.kind {
            Kind::Upstream(body) => body,
            Kind::Ahead(ahead) => match ahead.body() {
                Some(body) => body,
                None => return,
            },
            Kind::Empty | Kind::Full(_) | Kind::Tunnel(_) => return,
        };
        let mut frames = 0;
        std::future::poll_fn(|cx| {
            while frames < MOST && matches!(body.poll_frame(cx), Poll::Ready(Some(Ok(_)))) {
                frames += 1;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The same body, whose end ends the story of `context`.
    pub(super) fn finishing(mut self, context: Rc<Context>) -> Self {
        self.context = Some(Finish(context));
        self
    }

    /// Whether an endpoint is still at it.
    pub(super) fn is_under_way(&self) -> bool {
        match &self.kind {
            Kind::Empty | Kind::Full(_) => false,
            Kind::Tunnel(_) => true,
            Kind::Upstream(body) => !body.is_over(),
            Kind::Ahead(body) => body.is_under_way(),
        }
    }

    /// Whether it is a tunnel's half.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.kind, Kind::Tunnel(_))
    }

    /// How many bytes were read and wait for their turn.
    fn held(&self) -> u64 {
        self.pace.as_ref().map_or(0, |pace| pace.held())
    }

    fn poll_paced(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let Some(pace) = &mut self.pace else { return self.kind.poll_frame(cx) };
        // The end costs nothing.
        let over = pace.held() == 0 && matches!(self.kind, Kind::Empty);
        if !over && let Err(error) = ready!(pace.poll_turn(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        if pace.held() > 0 {
            let rest = pace.take_rest();
            return Poll::Ready(Some(Ok(Frame::data(pace.part(rest)))));
        }
        let frame = match ready!(self.kind.poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => Frame::data(pace.part(data)),
            Err(frame) => frame,
        })))
    }

    /// Ends the story now, whatever becomes of the body.
    pub(super) fn take_finish(&mut self) -> Option<Finish> {
        self.context.take()
    }
}

impl Kind {
    fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Tunnel(body) => body.poll_frame(cx),
            Self::Upstream(body) => body.poll_frame(cx),
            Self::Ahead(body) => body.poll_frame(cx),
        }
    }
}

/// Ends a request's story when it goes.
pub(super) struct Finish(Rc<Context>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = &mut *self;
        let polled = match this.pace.is_some() {
            false => this.kind.poll_frame(cx),
            true => this.poll_paced(cx),
        };
        let Some(Finish(context)) = &this.context else { return polled };
        if !this.is_under_way() {
            context.leave();
        } else if context.is_outdated() {
            context.release_snapshot();
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let total = context.response_bytes.get() + data.len() as u64;
                    context.response_bytes.set(total);
                } else if let Some(trailers) = frame.trailers_ref() {
                    context.note_grpc_status(trailers);
                }
            }
            Poll::Ready(Some(Err(error))) => context.failed(error),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            _ if self.held() > 0 => false,
            Kind::Empty => true,
            Kind::Full(_) | Kind::Tunnel(_) => false,
            Kind::Upstream(body) => body.is_over(),
            Kind::Ahead(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = match &self.kind {
            Kind::Empty => Some(0),
            Kind::Full(bytes) => Some(bytes.len() as u64),
            Kind::Tunnel(_) => None,
            Kind::Upstream(body) => body.remaining(),
            Kind::Ahead(body) => body.remaining(),
        };
        let remaining = remaining.map(|remaining| remaining + self.held());
        remaining.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

/// A body that goes before its end is a client that went away.
impl Drop for Body {
    fn drop(&mut self) {
        let unfinished = match &self.kind {
            _ if self.held() > 0 => true,
            Kind::Empty => false,
            Kind::Full(_) => false,
            Kind::Tunnel(_) => false,
            Kind::Upstream(body) => !body.is_over(),
            Kind::Ahead(body) => !body.is_over(),
        };
        if let Some(Finish(context)) = &self.context
            && unfinished
        {
            context.because(crate::telemetry::Reason::ClientClosed);
        }
    }
}
