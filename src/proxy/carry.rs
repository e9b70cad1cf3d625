//! Bytes both ways between a client and an endpoint: each half-close is passed on, and what stands
//! still for too long ends. Owns nothing of what the bytes mean, nor who counts them.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Deadline;
use crate::telemetry::Reason;
use crate::util::wheel::Wheel;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How long nothing may move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// While the endpoint may still say something; `None` is no limit.
    pub idle: Option<Duration>,
    /// After it has said all: a client that has more to say has no listener.
    pub linger: Duration,
}

/// A connection that did not end as connections should.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether it was the one to the endpoint.
    pub far: bool,
    /// How.
    pub error: io::Error,
}

/// Carries bytes until both sides are done, one fails, or nothing moves for too long. `ahead` is what
/// was read of the client and of the endpoint before, and `moved` is told how many bytes went up and
/// down so far.
///
/// # Errors
/// Where a connection broke. What an endpoint that takes nothing more has said still reaches the
/// client.
pub(super) async fn carry<C, F>(
    wheel: &Rc<Wheel>,
    client: &mut C,
    far: &mut F,
    ahead: (BytesMut, BytesMut),
    limits: Limits,
    moved: impl Fn(u64, u64),
) -> Result<Reason, Broken>
where
    C: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::new(ahead.0), Half::new(ahead.1));
    let mut deadline = Deadline::new(limits.idle, None);
    let mut over = false;
    let mut refused = None;
    std::future::poll_fn(|cx| {
        let sent = match up.poll_copy(cx, client, far) {
            Ok(sent) => sent,
            Err(Fault::Reading(error)) => return Poll::Ready(Err(Broken { far: false, error })),
            Err(Fault::Writing(error)) => {
                up.give_up();
                refused = Some(error);
                Poll::Ready(())
            }
        };
        let received = match down.poll_copy(cx, far, client) {
            Ok(received) => received,
            Err(Fault::Reading(error)) => return Poll::Ready(Err(Broken { far: true, error })),
            Err(Fault::Writing(error)) => return Poll::Ready(Err(Broken { far: false, error })),
        };
        moved(up.moved, down.moved);
        if sent.is_ready() && received.is_ready() {
            return Poll::Ready(match refused.take() {
                None => Ok(Reason::None),
                Some(error) => Err(Broken { far: true, error }),
            });
        }
        if (received.is_ready() || refused.is_some()) && !over {
            over = true;
            deadline = Deadline::new(Some(limits.linger), None);
        }
        let ended = if over { Reason::None } else { Reason::TunnelIdle };
        deadline.poll(cx, wheel, up.moved + down.moved).map(|_| Ok(ended))
    })
    .await
}

/// One direction.
struct Half {
    buffer: BytesMut,
    moved: u64,
    state: HalfState,
}

/// How far a direction is.
pub(super) enum HalfState {
    Closed,
    Closing,
    Open,
}

/// Which end of a direction failed.
enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

impl Half {
    fn new(buffer: BytesMut) -> Self {
        Self { buffer, moved: 0, state: HalfState::Open }
    }

    /// Nothing more goes this way.
    fn give_up(&mut self) {
        self.buffer.clear();
        self.state = HalfState::Closed;
    }

    /// Moves what can be moved; ready once this direction is closed.
    fn poll_copy<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Result<Poll<()>, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.buffer.is_empty() {
                let wrote = Pin::new(&mut *to).poll_write(cx, &self.buffer);
                let Poll::Ready(wrote) = wrote.map_err(Fault::Writing)? else {
                    return Ok(Poll::Pending);
                };
                if wrote == 0 {
                    return Err(Fault::Writing(io::ErrorKind::WriteZero.into()));
                }
                let _ = self.buffer.split_to(wrote);
                self.moved += wrote as u64;
            }
            match self.state {
                HalfState::Closed => return Ok(Poll::Ready(())),
                HalfState::Closing => {
                    if Pin::new(&mut *to).poll_shutdown(cx).map_err(Fault::Writing)?.is_pending() {
                        return Ok(Poll::Pending);
                    }
                    self.state = HalfState::Closed;
                }
                HalfState::Open => {
                    if Pin::new(&mut *to).poll_flush(cx).map_err(Fault::Writing)?.is_pending() {
                        return Ok(Poll::Pending);
                    }
                    match poll_read(cx, from, &mut self.buffer).map_err(Fault::Reading)? {
                        Poll::Ready(0) => self.state = HalfState::Closing,
                        Poll::Ready(_) => {}
                        Poll::Pending => return Ok(Poll::Pending),
                    }
                }
            }
        }
    }
}

/// Appends what there is to read; 0 at the end.
pub(super) fn poll_read<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    from: &mut R,
    buffer: &mut BytesMut,
) -> io::Result<Poll<usize>> {
    let mut chunk = [const { std::mem::MaybeUninit::uninit() }; CHUNK];
    let mut read = ReadBuf::uninit(&mut chunk);
    Ok(match Pin::new(from).poll_read(cx, &mut read)? {
        Poll::Ready(()) => {
            buffer.extend_from_slice(read.filled());
            Poll::Ready(read.filled().len())
        }
        Poll::Pending => Poll::Pending,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Takes nothing, and still has something to say.
    struct Refusing {
        said: &'static [u8],
        asked: usize,
    }

    impl AsyncRead for Refusing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.asked < 3 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            buf.put_slice(std::mem::take(&mut self.said));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_an_endpoint_said_reaches_the_client_though_it_takes_no_more() {
        let (mut client, mut near) = tokio::io::duplex(64);
        let mut far = Refusing { said: b"goodbye", asked: 0 };
        let ahead = (BytesMut::from(&b"hello"[..]), BytesMut::from(&b"early "[..]));
        let limits = Limits { idle: None, linger: Duration::from_secs(5) };
        let counts = std::cell::Cell::new((0, 0));
        let moved = |up, down| counts.set((up, down));
        let ended = carry(&Wheel::new(), &mut near, &mut far, ahead, limits, moved).await;
        assert!(matches!(ended, Err(Broken { far: true, .. })), "{ended:?}");
        assert_eq!(counts.get(), (0, 13));
        drop(near);
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("sound");
        assert_eq!(text, "early goodbye");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_ends_it() {
        let (client, mut near) = tokio::io::duplex(64);
        drop(client);
        let mut far = Refusing { said: b"goodbye", asked: 0 };
        let ahead = (BytesMut::new(), BytesMut::new());
        let limits = Limits { idle: None, linger: Duration::from_secs(5) };
        let ended = carry(&Wheel::new(), &mut near, &mut far, ahead, limits, |_, _| {}).await;
        assert!(matches!(ended, Err(Broken { far: false, .. })), "{ended:?}");
    }
}
