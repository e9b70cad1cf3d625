//! A response body on its way to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Context;
use super::exchange::ExchangeBody;
use super::tunnel::TunnelBody;
use crate::error::ProxyError;

/// A response body. Its end, or its loss, ends the story of the request.
pub struct Body {
    kind: Kind,
    context: Option<Finish>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Tunnel(Box<TunnelBody>),
    Upstream(Box<ExchangeBody>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, context: None }
    }

    /// A body made here.
    pub fn full(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) };
        Self { kind, context: None }
    }

    /// A body from an endpoint.
    pub(super) fn upstream(body: ExchangeBody) -> Self {
        // A response without a body has let go of its connection already.
        if body.is_over() {
            return Self::empty();
        }
        Self { kind: Kind::Upstream(Box::new(body)), context: None }
    }

    /// One half of a tunnel over HTTP/2.
    pub(super) fn tunnel(body: TunnelBody) -> Self {
        Self { kind: Kind::Tunnel(Box::new(body)), context: None }
    }

    /// Lets go of a body that nobody wants. What has arrived of it is read, so that its
    /// connection can be used again where that is all.
    pub(super) async fn discard(mut self) {
        const MOST: usize = 16;
        let Kind::Upstream(body) = &mut self.kind else { return };
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
        }
    }

    /// Whether it is a tunnel's half.
    pub(super) fn is_tunnel(&self) -> bool {
        matches!(self.kind, Kind::Tunnel(_))
    }

    /// Ends the story now, whatever becomes of the body.
    pub(super) fn take_finish(&mut self) -> Option<Finish> {
        self.context.take()
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
        let polled = match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Kind::Tunnel(body) => body.poll_frame(cx),
            Kind::Upstream(body) => body.poll_frame(cx),
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
            Kind::Empty => true,
            Kind::Full(_) | Kind::Tunnel(_) => false,
            Kind::Upstream(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Tunnel(_) => SizeHint::new(),
            Kind::Upstream(body) => {
                body.remaining().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

/// A body that goes before its end is a client that went away.
impl Drop for Body {
    fn drop(&mut self) {
        let unfinished = match &self.kind {
            Kind::Empty => false,
            Kind::Full(_) => false,
            Kind::Tunnel(_) => false,
            Kind::Upstream(body) => !body.is_over(),
        };
        if let Some(Finish(context)) = &self.context
            && unfinished
        {
            context.because(crate::telemetry::Reason::ClientClosed);
        }
    }
}
