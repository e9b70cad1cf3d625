//! Bytes both ways after a switch of protocols.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::Finish;
use super::carry::{Broken, HalfState, Limits, carry, poll_read};
use super::exchange::{Deadline, Exchange};
use super::watch::Watch;
use super::{Context, RequestBody};
use crate::error::ProxyError;
use crate::telemetry::Reason;
use crate::upstream::h1::Tunnelled;
use crate::upstream::h2::H2Stream;

/// How long a client may take to close after its endpoint did.
const LINGER: Duration = Duration::from_secs(1);

/// The endpoint's half of a connection that switched protocols, waiting for the client's half.
pub struct Tunnel {
    far: Far,
    /// What the endpoint sent right after its 101.
    early: BytesMut,
    context: Rc<Context>,
    idle: Option<Duration>,
    _watch: Watch,
    _finish: Option<Finish>,
}

impl Tunnel {
    pub(super) fn new(
        far: Far,
        early: BytesMut,
        context: Rc<Context>,
        idle: Option<Duration>,
        watch: Watch,
    ) -> Self {
        Self { far, early, context, idle, _watch: watch, _finish: None }
    }

    /// Ends the request's story when the tunnel ends, not when its 101 is out.
    pub(super) fn finish_with(&mut self, finish: Option<Finish>) {
        self._finish = finish;
    }

    /// Carries bytes both ways until both sides are done, one fails, or nothing moves for too
    /// long. `received` is what the client sent right after its request.
    pub async fn run<C>(mut self, client: &mut C, received: Bytes)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let context = self.context.clone();
        let early = std::mem::take(&mut self.early);
        let ahead = (BytesMut::from(&received[..]), early);
        let limits = Limits { idle: self.idle, linger: LINGER };
        let moved = |up, down| {
            context.request_bytes.set(up);
            context.response_bytes.set(down);
        };
        let ended = carry(&context.worker.wheel, client, &mut self.far, ahead, limits, moved).await;
        match ended {
            Ok(reason) => context.because(reason),
            Err(Broken { error, .. }) => tracing::debug!(%error, "tunnel broken"),
        }
    }
}

/// The stream to the endpoint.
pub(super) enum Far {
    /// An HTTP/1 connection after its 101.
    H1(Tunnelled),
    /// An HTTP/2 stream after the consent to an extended CONNECT.
    H2(Box<H2Stream>),
}

impl Far {
    /// Takes over the stream of an exchange that ended in a switch, and what was read beyond its
    /// head.
    pub fn take_over(exchange: Exchange) -> Option<(Self, BytesMut)> {
        match exchange {
            Exchange::H1(exchange) => {
                let (stream, early) = exchange.into_tunnel()?.into_stream();
                Some((Self::H1(stream), early))
            }
            Exchange::H2(exchange) => {
                Some((Self::H2(Box::new(exchange.into_tunnel()?)), BytesMut::new()))
            }
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::H1(stream) => Pin::new(stream.io()).poll_read(cx, buf),
            Self::H2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Far {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::H1(stream) => Pin::new(stream.io()).poll_write(cx, bytes),
            Self::H2(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::H1(stream) => Pin::new(stream.io()).poll_flush(cx),
            Self::H2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::H1(stream) => Pin::new(stream.io()).poll_shutdown(cx),
            Self::H2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A tunnel whose client half is an HTTP/2 stream (RFC 8441): reading it reads the endpoint,
/// and polling it also carries the client's bytes up.
pub struct TunnelBody {
    tunnel: Tunnel,
    up: Option<Upward<RequestBody>>,
    moved: u64,
    deadline: Deadline,
}

impl TunnelBody {
    pub(super) fn new(tunnel: Tunnel, client: Option<RequestBody>) -> Self {
        let deadline = Deadline::new(tunnel.idle, None);
        Self { tunnel, up: client.map(Upward::new), moved: 0, deadline }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let far = &mut self.tunnel.far;
        let up = self.up.as_mut().map(|up| (up.poll(cx, far), up.moved));
        if let Some((Poll::Ready(Err(error)), _)) = up {
            return Poll::Ready(Some(Err(error)));
        }
        let sent = up.map_or(0, |(_, moved)| moved);
        if !self.tunnel.early.is_empty() {
            let early = self.tunnel.early.split().freeze();
            self.moved += early.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(early))));
        }
        let mut chunk = BytesMut::new();
        match poll_read(cx, &mut self.tunnel.far, &mut chunk) {
            Ok(Poll::Ready(0)) => Poll::Ready(None),
            Ok(Poll::Ready(count)) => {
                self.moved += count as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
            }
            Ok(Poll::Pending) => {
                let context = self.tunnel.context.clone();
                self.deadline
                    .poll(cx, &context.worker.wheel, self.moved + sent)
                    .map(|_| Some(Err(ProxyError::proxy(Reason::TunnelIdle))))
            }
            Err(error) => {
                let error = ProxyError::upstream(Reason::UpstreamReset).because(error);
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

/// The client's direction of a tunnel over HTTP/2, where its bytes come as a body.
struct Upward<B> {
    client: B,
    buffer: Bytes,
    moved: u64,
    state: HalfState,
}

impl<B> Upward<B>
where
    B: HttpBody<Data = Bytes, Error = ProxyError> + Unpin,
{
    fn new(client: B) -> Self {
        Self { client, buffer: Bytes::new(), moved: 0, state: HalfState::Open }
    }

    /// Moves what can be moved; ready once this direction is closed.
    fn poll<W>(&mut self, cx: &mut TaskContext<'_>, to: &mut W) -> Poll<Result<(), ProxyError>>
    where
        W: AsyncWrite + Unpin,
    {
        let broken = |error| ProxyError::upstream(Reason::UpstreamReset).because(error);
        loop {
            while !self.buffer.is_empty() {
                let wrote = ready!(Pin::new(&mut *to).poll_write(cx, &self.buffer));
                let wrote = wrote.map_err(broken)?;
                if wrote == 0 {
                    return Poll::Ready(Err(broken(io::ErrorKind::WriteZero.into())));
                }
                let _ = self.buffer.split_to(wrote);
                self.moved += wrote as u64;
            }
            match self.state {
                HalfState::Closed => return Poll::Ready(Ok(())),
                HalfState::Closing => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(broken)?;
                    self.state = HalfState::Closed;
                }
                HalfState::Open => {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(broken)?;
                    match ready!(Pin::new(&mut self.client).poll_frame(cx)).transpose()? {
                        Some(frame) => self.buffer = frame.into_data().unwrap_or_default(),
                        None => self.state = HalfState::Closing,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything, and needs to be asked several times to end.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        asked: usize,
        ended: bool,
    }

    impl AsyncWrite for Reluctant {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.taken.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            cx: &mut TaskContext<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.asked < 3 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.ended = true;
            Poll::Ready(Ok(()))
        }
    }

    /// One piece and the end.
    struct Once(Bytes);

    impl HttpBody for Once {
        type Data = Bytes;
        type Error = ProxyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut TaskContext<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
            let bytes = std::mem::take(&mut self.0);
            Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
        }
    }

    #[tokio::test]
    async fn a_clients_end_is_passed_on_however_long_that_takes() {
        let mut to = Reluctant::default();
        let mut up = Upward::new(Once(Bytes::from_static(b"last words")));
        std::future::poll_fn(|cx| up.poll(cx, &mut to)).await.expect("sound");
        assert!(to.ended, "asked {} times", to.asked);
        assert_eq!((to.taken.as_slice(), up.moved), (&b"last words"[..], 10));
    }
}
