//! An HTTP/1 client connection as hyper sees it: the wire gate and the deadlines lie in between.
//!
//! hyper owns one handle on the connection, the request path another (to notice that the client
//! went away and to send interim responses), so the state is shared within the worker's thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Transport;
use super::gate::{Gate, GateLimits, Phase, Reject, Then, Verdict};
use super::refusal::LONGEST_LINE;
use crate::proxy::ClientLink;
use crate::util::moment::Moment;
use crate::util::wheel::{Timer, Wheel};

/// How long a client may leave response bytes unread.
const WRITE_STALL: Duration = Duration::from_secs(60);
/// The largest write that is copied into one piece.
const FLAT: usize = 1024;
/// How much of interim responses may wait for the client to read.
const INTERIM_AHEAD: usize = 64 * 1024;
/// How much of a request is read ahead while its predecessor is served.
const READ_AHEAD: usize = 4 * 1024;
/// How long a connection waits for the next request before its buffers are let go. Long against
/// what it costs to make them again (less than a tenth of a request), short against the pauses
/// of a client that thinks.
const REST_AFTER: Duration = Duration::from_millis(200);

/// The deadlines of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// Until the first head is complete.
    pub first_head: Moment,
    /// From the first byte of a later head to its end.
    pub head: Duration,
    /// Between requests.
    pub keep_alive: Duration,
}

/// Why a connection is closed by this side with an answer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The wire gate rejected a request.
    Gate(Reject),
    /// A head took too long.
    HeadTimeout,
}

/// The shared state of an HTTP/1 client connection.
pub struct H1Link {
    transport: RefCell<Transport>,
    gate: RefCell<Gate>,
    /// Bytes that were read and have not passed the gate.
    held: RefCell<BytesMut>,
    /// Bytes that must be written before anything else.
    front: RefCell<BytesMut>,
    read_timer: RefCell<Timer>,
    write_timer: RefCell<Timer>,
    timeouts: ClientTimeouts,
    head_since: Cell<Option<Moment>>,
    idle_since: Cell<Option<Moment>>,
    /// Between requests for so long that the parser and its buffers are not worth keeping.
    resting: Cell<bool>,
    refusal: Cell<Option<Refusal>>,
    /// The first bytes of a head that did not come whole in one read, or was refused.
    line: RefCell<Bytes>,
    reader: RefCell<Option<Waker>>,
    at_end: Cell<bool>,
    /// hyper has bytes of a response that are not on their way yet.
    dirty: Cell<bool>,
    http10: Cell<bool>,
}

impl H1Link {
    /// A connection before its first byte.
    pub fn new(
        transport: Transport,
        limits: GateLimits,
        timeouts: ClientTimeouts,
        wheel: &Rc<Wheel>,
    ) -> Rc<Self> {
        Rc::new(Self {
            transport: RefCell::new(transport),
            gate: RefCell::new(Gate::new(limits)),
            held: RefCell::default(),
            front: RefCell::default(),
            read_timer: RefCell::new(wheel.timer()),
            write_timer: RefCell::new(wheel.timer()),
            timeouts,
            head_since: Cell::new(None),
            idle_since: Cell::new(None),
            resting: Cell::new(false),
            refusal: Cell::new(None),
            line: RefCell::default(),
            reader: RefCell::new(None),
            at_end: Cell::new(false),
            dirty: Cell::new(false),
            http10: Cell::new(false),
        })
    }

    /// Notes the version of the request under way: HTTP/1.0 knows no interim responses.
    pub fn begin(&self, http10: bool) {
        self.http10.set(http10);
    }

    /// Goes on with HTTP after an upgrade request that was not granted.
    pub fn resume_http(&self) {
        self.gate.borrow_mut().resume_http();
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }

    /// Whether the request under way asks for another protocol.
    pub fn awaits_upgrade(&self) -> bool {
        self.gate.borrow().phase() == Phase::AwaitingUpgrade
    }

    /// Why this side closes with an answer of its own.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }

    /// The first bytes of the head under way, or of the one that was refused; empty where they
    /// are not known.
    pub fn begun_line(&self) -> Bytes {
        self.line.borrow().clone()
    }

    /// Whether the client closed its side.
    pub fn is_at_end(&self) -> bool {
        self.at_end.get()
    }

    /// Whether no request came on it yet.
    pub fn is_new(&self) -> bool {
        self.gate.borrow().heads() == 0
    }

    /// Whether the parser above can go: it waits for the next request, as it has for a while,
    /// and what it had to write is written.
    pub fn can_rest(&self) -> bool {
        self.resting.get() && !self.dirty.get() && self.front.borrow().is_empty()
    }

    /// Waits without a parser, and without buffers, until one is wanted: bytes came, or the
    /// connection is at its end.
    pub fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.held.borrow().is_empty() || self.transport.borrow().is_ahead() {
            return Poll::Ready(());
        }
        // What they held is gone, what they had room for goes.
        self.held.take();
        self.front.take();
        if self.at_end.get() || self.poll_ahead(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_deadline(cx).map(|_| ())
    }

    /// Reads and forgets until the client closes its side or `most` bytes came.
    pub fn poll_drain(&self, cx: &mut Context<'_>, most: &mut usize) -> Poll<()> {
        let mut scrap = [const { MaybeUninit::uninit() }; READ_AHEAD];
        let mut transport = self.transport.borrow_mut();
        while !self.at_end.get() && *most > 0 {
            let mut scrap = ReadBuf::uninit(&mut scrap);
            let read = ready!(Pin::new(&mut *transport).poll_read(cx, &mut scrap));
            if read.is_err() || scrap.filled().is_empty() {
                self.at_end.set(true);
            }
            *most = most.saturating_sub(scrap.filled().len());
        }
        Poll::Ready(())
    }

    /// What was read and not passed on, for a tunnel.
    pub fn take_held(&self) -> BytesMut {
        std::mem::take(&mut self.held.borrow_mut())
    }

    /// Reads from the client, past the gate.
    fn poll_pass(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(refusal) = self.refusal.get() {
            return Poll::Ready(refused(refusal));
        }
        if self.awaits_upgrade() {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let mut held = self.held.borrow_mut();
        if !held.is_empty() {
            let count = held.len().min(buf.remaining());
            buf.put_slice(held.get(..count).unwrap_or_default());
            held.advance(count);
        } else if self.at_end.get() {
            return Poll::Ready(Ok(()));
        } else {
            let mut transport = self.transport.borrow_mut();
            match Pin::new(&mut *transport).poll_read(cx, buf) {
                Poll::Ready(result) => result?,
                Poll::Pending => return self.poll_deadline(cx),
            }
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            self.at_end.set(true);
            return Poll::Ready(Ok(()));
        }
        let verdict = self.inspect(read);
        if verdict.pass < read.len() {
            let kept = read.get(verdict.pass..).unwrap_or_default();
            // What follows the held part in the stream comes after it.
            let rest = held.split();
            held.extend_from_slice(kept);
            held.unsplit(rest);
            buf.set_filled(before + verdict.pass);
        }
        self.note_phase();
        if let Then::Reject(reject) = verdict.then {
            self.refusal.set(Some(Refusal::Gate(reject)));
            held.clear();
            if verdict.pass == 0 {
                return Poll::Ready(refused(Refusal::Gate(reject)));
            }
        } else if verdict.pass == 0 {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the next reader gets; ready with bytes or at the end.
    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ahead = [const { MaybeUninit::uninit() }; READ_AHEAD];
        let mut ahead = ReadBuf::uninit(&mut ahead);
        let mut transport = self.transport.borrow_mut();
        match ready!(Pin::new(&mut *transport).poll_read(cx, &mut ahead)) {
            Ok(()) if !ahead.filled().is_empty() => {
                self.held.borrow_mut().extend_from_slice(ahead.filled());
            }
            Ok(()) | Err(_) => self.at_end.set(true),
        }
        Poll::Ready(())
    }

    /// Shows the gate what was read, and remembers how a head begins that may yet be refused.
    fn inspect(&self, read: &[u8]) -> Verdict {
        let mut gate = self.gate.borrow_mut();
        let (between, heads) = (gate.phase() == Phase::Idle, gate.heads());
        let verdict = gate.inspect(read);
        let begun = match verdict.then {
            Then::Reject(reject) if !reject.mid_body => read.get(verdict.pass..),
            _ => (gate.phase() == Phase::Head && gate.heads() == heads).then_some(read),
        };
        if let Some(begun) = begun {
            let first = between || verdict.pass > 0 && gate.phase() == Phase::Rejected;
            let length = begun.len().min(LONGEST_LINE);
            if first {
                let begun = begun.get(..length).unwrap_or_default();
                *self.line.borrow_mut() = Bytes::copy_from_slice(begun);
            }
        } else if !self.line.borrow().is_empty() {
            self.line.borrow_mut().clear();
        }
        verdict
    }

    fn note_phase(&self) {
        self.idle_since.set(None);
        self.resting.set(false);
        match self.gate.borrow().phase() {
            Phase::Head if self.head_since.get().is_none() => {
                self.head_since.set(Some(Moment::now()));
            }
            Phase::Head => {}
            _ => self.head_since.set(None),
        }
    }

    /// Nothing to read: how long may that last?
    fn poll_deadline(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gate = self.gate.borrow();
        let phase = gate.phase();
        let first = gate.heads() == 0;
        let mut rest = None;
        let due = match phase {
            Phase::Idle | Phase::Head if first => Some(self.timeouts.first_head),
            Phase::Head => self.head_since.get().map(|since| since.after(self.timeouts.head)),
            Phase::Idle => {
                let since = self.idle_since.get().unwrap_or_else(Moment::now);
                self.idle_since.set(Some(since));
                let rests = !self.resting.get() && REST_AFTER < self.timeouts.keep_alive;
                rest = rests.then(|| since.after(REST_AFTER));
                Some(since.after(self.timeouts.keep_alive))
            }
            // A body's pace is watched by the one who reads it.
            Phase::Body | Phase::AwaitingUpgrade | Phase::Rejected | Phase::Tunnel => None,
        };
        let mut timer = self.read_timer.borrow_mut();
        let Some(due) = due else {
            timer.disarm();
            return Poll::Pending;
        };
        timer.arm_at(rest.unwrap_or(due));
        ready!(timer.poll_due(cx));
        if rest.is_some() {
            self.resting.set(true);
            timer.arm_at(due);
            ready!(timer.poll_due(cx));
        }
        if phase == Phase::Head {
            self.refusal.set(Some(Refusal::HeadTimeout));
        }
        self.at_end.set(true);
        Poll::Ready(Ok(()))
    }

    fn poll_front(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut front = self.front.borrow_mut();
        while !front.is_empty() {
            let mut transport = self.transport.borrow_mut();
            let wrote = ready!(Pin::new(&mut *transport).poll_write(cx, &front))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            front.advance(wrote);
        }
        Poll::Ready(Ok(()))
    }

    /// Turns a write that waits too long into an error.
    fn watch_write<T>(
        &self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut timer = self.write_timer.borrow_mut();
        if polled.is_ready() {
            if timer.is_armed() {
                timer.disarm();
            }
            return polled;
        }
        if !timer.is_armed() {
            timer.arm(WRITE_STALL);
        }
        ready!(timer.poll_due(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What hyper's reader sees of a refusal: an end between requests, an error inside one.
fn refused(refusal: Refusal) -> io::Result<()> {
    match refusal {
        Refusal::Gate(reject) if reject.mid_body => Err(io::ErrorKind::InvalidData.into()),
        Refusal::Gate(_) | Refusal::HeadTimeout => Ok(()),
    }
}

impl ClientLink for H1Link {
    fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.at_end.get() {
            return Poll::Ready(());
        }
        // During an upload hyper reads for itself; what was read ahead proves the client alive.
        if !self.held.borrow().is_empty() || self.gate.borrow().phase() == Phase::Body {
            return Poll::Pending;
        }
        ready!(self.poll_ahead(cx));
        if self.at_end.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn send_interim(&self, status: StatusCode, headers: &HeaderMap) {
        // Not in the middle of the response before it; leaving one out is allowed
        // (RFC 9110 §15.2).
        if self.http10.get() || self.dirty.get() {
            return;
        }
        let mut front = self.front.borrow_mut();
        if front.len() > INTERIM_AHEAD {
            return;
        }
        front.extend_from_slice(b"HTTP/1.1 ");
        front.extend_from_slice(status.as_str().as_bytes());
        front.extend_from_slice(b" ");
        front.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        for (name, value) in headers {
            front.extend_from_slice(b"\r\n");
            front.extend_from_slice(name.as_str().as_bytes());
            front.extend_from_slice(b": ");
            front.extend_from_slice(value.as_bytes());
        }
        front.extend_from_slice(b"\r\n\r\n");
        drop(front);
        // What does not fit now goes out in front of the response.
        let mut cx = Context::from_waker(Waker::noop());
        let _ = self.poll_front(&mut cx);
        let mut transport = self.transport.borrow_mut();
        let _ = Pin::new(&mut *transport).poll_flush(&mut cx);
    }

    fn is_rejected(&self) -> bool {
        matches!(self.refusal.get(), Some(Refusal::Gate(_)))
    }

    fn is_behind(&self) -> bool {
        self.dirty.get()
    }
}

/// hyper's handle on the connection.
pub struct GateIo(pub Rc<H1Link>);

impl AsyncRead for GateIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_pass(cx, buf)
    }
}

impl AsyncWrite for GateIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let link = &self.0;
        link.dirty.set(true);
        let polled = link.poll_front(cx).map_ok(|()| 0);
        let polled = match polled {
            Poll::Ready(Ok(_)) => Pin::new(&mut *link.transport.borrow_mut()).poll_write(cx, buf),
            other => other,
        };
        link.watch_write(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let link = &self.0;
        link.dirty.set(true);
        let polled = match link.poll_front(cx).map_ok(|()| 0) {
            Poll::Ready(Ok(_)) => {
                let mut transport = link.transport.borrow_mut();
                // One small copy is cheaper than a vectored system call.
                let mut flat = [const { MaybeUninit::uninit() }; FLAT];
                let mut flat = ReadBuf::uninit(&mut flat);
                if flatten(bufs, &mut flat) {
                    Pin::new(&mut *transport).poll_write(cx, flat.filled())
                } else {
                    Pin::new(&mut *transport).poll_write_vectored(cx, bufs)
                }
            }
            other => other,
        };
        link.watch_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &self.0;
        let polled = match link.poll_front(cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut *link.transport.borrow_mut()).poll_flush(cx),
            other => other,
        };
        if polled.is_ready() {
            link.dirty.set(false);
        }
        link.watch_write(cx, polled)
    }

    /// hyper is done; there may be a refusal to write or a tunnel to run before the stream ends.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Puts all of `bufs` into one piece; false where they do not fit.
fn flatten(bufs: &[io::IoSlice<'_>], flat: &mut ReadBuf<'_>) -> bool {
    if bufs.iter().map(|buf| buf.len()).sum::<usize>() > flat.remaining() {
        return false;
    }
    bufs.iter().for_each(|buf| flat.put_slice(buf));
    true
}

/// The connection without the gate: for tunnels, refusals and closing.
pub struct RawIo(pub Rc<H1Link>);

impl AsyncRead for RawIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for RawIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.transport.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
