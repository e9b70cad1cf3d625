//! One request and its response on an HTTP/1 connection.
//!
//! Driven by polling: `poll_head` until the final head, then `poll_body`. Both keep the upload
//! going, so an endpoint may answer before it has read the whole request. Dropping the exchange
//! closes the connection; only a clean end gives it back.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, StatusCode};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::body::{Decoder, Piece};
use super::encode::field;
use super::head::{self, ResponseHead};
use super::{Framing, H1Conn, RequestHead};
use crate::error::{ProxyError, Replay};
use crate::telemetry::Reason;
use crate::util::moment::Moment;

/// The most interim responses before the final one, over HTTP/2, too.
pub const MAX_INTERIM: u8 = 16;

/// The most of a body that is read at once before the client is known to take any: one that takes
/// nothing holds a small piece, not one of the largest.
const FIRST_PIECE: u64 = 64 * 1024;

/// A request being sent and its response being read.
pub struct H1Exchange<B> {
    conn: Option<Box<H1Conn>>,
    method: Method,
    upgrade: bool,
    tx: Tx<B>,
    rx: Rx,
    interims: u8,
    /// Bytes moved in either direction: what an idle deadline watches.
    progress: u64,
    read_any: bool,
    keep_alive: bool,
    /// Whether the connection is for this exchange alone.
    once: bool,
}

/// The request's way out.
struct Tx<B> {
    body: Option<B>,
    framing: Framing,
    /// How much of the outbox is written.
    flushed: usize,
    /// Body bytes to write after the outbox.
    chunk: Bytes,
    /// What ends a chunk.
    tail: &'static [u8],
    /// Bytes the socket took.
    written: u64,
    /// What Content-Length still owes.
    owed: u64,
    done: bool,
    broken: Option<io::Error>,
}

enum Rx {
    Body(Decoder),
    Head,
    Over,
}

/// A head that arrived.
pub enum HeadEvent {
    /// The final response; its body follows.
    Final(ResponseHead),
    /// An interim (1xx) response; more heads follow.
    Interim(ResponseHead),
}

impl<B> H1Exchange<B>
where
    B: Body<Data = Bytes, Error = ProxyError> + Unpin,
{
    /// Starts an exchange on an idle connection. `own` appends field lines that are not in the
    /// head's map. Nothing is written before the first poll.
    pub fn new(
        mut conn: Box<H1Conn>,
        head: &RequestHead<'_>,
        own: impl FnOnce(&mut Vec<u8>),
        body: Option<B>,
        upgrade: bool,
    ) -> Self {
        conn.outbox.clear();
        head.encode(&mut conn.outbox, own);
        let owed = if let Framing::Length(length) = head.framing { length } else { 0 };
        Self {
            conn: Some(conn),
            method: head.method.clone(),
            upgrade,
            tx: Tx {
                body,
                framing: head.framing,
                flushed: 0,
                chunk: Bytes::new(),
                tail: b"",
                written: 0,
                owed,
                done: false,
                broken: None,
            },
            rx: Rx::Head,
            interims: 0,
            progress: 0,
            read_any: false,
            keep_alive: false,
            once: head.http10,
        }
    }

    /// Whether the whole request is written.
    pub fn is_sent(&self) -> bool {
        self.tx.done
    }

    /// A count that grows with every byte moved.
    pub fn progress(&self) -> u64 {
        self.progress + self.tx.written
    }

    /// The request body and a piece of it that was not written, for another attempt. Only of use
    /// after an error that allows one.
    pub fn into_request_body(self) -> (Option<B>, Bytes) {
        (self.tx.body, self.tx.chunk)
    }

    /// The length of the response body, where its head told it.
    pub fn remaining(&self) -> Option<u64> {
        match &self.rx {
            Rx::Body(decoder) => decoder.remaining(),
            Rx::Head => None,
            Rx::Over => Some(0),
        }
    }

    /// Waits for the next response head. Its fields are built in the memory of `spare`, which is
    /// left alone for as long as no head has come.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        spare: &mut HeaderMap,
    ) -> Poll<Result<HeadEvent, ProxyError>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            let Some(conn) = self.conn.as_mut() else {
                return Poll::Ready(Err(ProxyError::proxy(Reason::Internal)));
            };
            if !conn.inbox.is_empty() {
                match head::parse(&mut conn.inbox, &self.method, spare) {
                    Ok(Some(parsed)) => return Poll::Ready(self.accept(parsed)),
                    Ok(None) => {}
                    Err(error) => {
                        let error = ProxyError::upstream(Reason::UpstreamProtocol).because(error);
                        return Poll::Ready(Err(error));
                    }
                }
            }
            match ready!(conn.poll_fill(cx, 0)) {
                Ok(0) => return Poll::Ready(Err(self.ended_before_head(None))),
                Ok(count) => {
                    self.read_any = true;
                    self.progress += count as u64;
                }
                Err(error) => return Poll::Ready(Err(self.ended_before_head(Some(error)))),
            }
        }
    }

    /// Waits for the next piece of the response body; `None` is its end.
    pub fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let Rx::Body(decoder) = &mut self.rx else { return Poll::Ready(None) };
        let Some(conn) = self.conn.as_mut() else { return Poll::Ready(None) };
        loop {
            let expected = match decoder.decode(&mut conn.inbox) {
                Ok(Piece::Data(data)) => {
                    if decoder.is_done() {
                        self.rx = Rx::Over;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Piece::Trailers(trailers)) => {
                    self.rx = Rx::Over;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Piece::End) => {
                    self.rx = Rx::Over;
                    return Poll::Ready(None);
                }
                Ok(Piece::More(expected)) => expected,
                Err(error) => {
                    let error = ProxyError::upstream(Reason::UpstreamProtocol).because(error);
                    return Poll::Ready(Some(Err(error)));
                }
            };
            let most = if self.progress < FIRST_PIECE { FIRST_PIECE } else { u64::MAX };
            match ready!(conn.poll_fill(cx, expected.min(most))) {
                Ok(0) if decoder.ends_with_connection() => {
                    self.rx = Rx::Over;
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    let error = ProxyError::upstream(Reason::UpstreamIncomplete);
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(count) => self.progress += count as u64,
                Err(error) => {
                    let error = ProxyError::upstream(Reason::UpstreamReset).because(error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    /// The whole body, where it arrived together with the head: the common small response needs
    /// no body object then.
    pub fn take_whole_body(&mut self) -> Option<Bytes> {
        let Rx::Body(decoder) = &mut self.rx else { return None };
        let inbox = &mut self.conn.as_mut()?.inbox;
        if decoder.remaining()? > inbox.len() as u64 {
            return None;
        }
        match decoder.decode(inbox) {
            Ok(Piece::Data(data)) if decoder.is_done() => {
                self.rx = Rx::Over;
                Some(data)
            }
            _ => None,
        }
    }

    /// Whether the response is complete.
    pub fn is_over(&self) -> bool {
        matches!(self.rx, Rx::Over)
    }

    /// The connection, after a complete exchange that leaves it fit for another.
    pub fn take_reusable(&mut self, now: Moment) -> Option<Box<H1Conn>> {
        if !(self.is_over() && self.keep_alive && self.tx.done) {
            return None;
        }
        let mut conn = self.conn.take()?;
        if !conn.inbox.is_empty() {
            return None; // bytes nobody asked for
        }
        conn.exchanges += 1;
        conn.idle_since = now;
        Some(conn)
    }

    /// The connection itself, after a 101.
    pub fn into_tunnel(self) -> Option<Box<H1Conn>> {
        self.conn
    }

    fn accept(&mut self, parsed: head::Parsed) -> Result<HeadEvent, ProxyError> {
        let status = parsed.head.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // Only what was asked for may be switched to (RFC 9110 §15.2.2).
            if !self.upgrade {
                return Err(ProxyError::upstream(Reason::UpstreamProtocol)
                    .because("101 to a request without an upgrade"));
            }
            // What is left of the request would be taken for the first bytes of the new protocol.
            if !self.tx.done {
                return Err(ProxyError::upstream(Reason::UpstreamProtocol)
                    .because("101 before the request was sent"));
            }
            self.rx = Rx::Over;
            return Ok(HeadEvent::Final(parsed.head));
        }
        if status.is_informational() {
            self.interims += 1;
            if self.interims > MAX_INTERIM {
                return Err(ProxyError::upstream(Reason::UpstreamProtocol)
                    .because("too many interim responses"));
            }
            return Ok(HeadEvent::Interim(parsed.head));
        }
        self.keep_alive = parsed.keep_alive && !self.once;
        self.rx = if parsed.body.is_done() { Rx::Over } else { Rx::Body(parsed.body) };
        Ok(HeadEvent::Final(parsed.head))
    }

    fn ended_before_head(&mut self, error: Option<io::Error>) -> ProxyError {
        let reused = self.conn.as_ref().is_some_and(|conn| conn.exchanges > 0);
        let written = self.tx.written > 0;
        let replay = if reused && !self.read_any {
            Replay::Stale { written }
        } else if !written {
            Replay::Unwritten
        } else if !self.read_any {
            Replay::Unanswered
        } else {
            Replay::Never
        };
        let reason = if self.read_any { Reason::UpstreamIncomplete } else { Reason::UpstreamReset };
        let failed = ProxyError::upstream(reason).replay(replay);
        match self.tx.broken.take().or(error) {
            Some(error) => failed.because(error),
            None => failed.because("connection closed before a response"),
        }
    }

    /// Sends as much as can be sent. An error is the client's; a broken connection is only noted,
    /// because a response may still be waiting in it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        if self.tx.done || self.tx.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        loop {
            let Some(conn) = self.conn.as_mut() else { return Poll::Ready(Ok(())) };
            let loaded = self.tx.load(cx, conn)?;
            match self.tx.poll_flush(cx, conn) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.tx.broken = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => return Poll::Pending,
            }
            match loaded {
                Poll::Ready(()) if self.tx.body.is_none() => {
                    self.tx.done = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<B> Tx<B>
where
    B: Body<Data = Bytes, Error = ProxyError> + Unpin,
{
    /// Puts the next piece of the body behind the outbox; pending while the client has none.
    fn load(&mut self, cx: &mut Context<'_>, conn: &mut H1Conn) -> Result<Poll<()>, ProxyError> {
        if !self.chunk.is_empty() {
            return Ok(Poll::Ready(()));
        }
        let Some(body) = self.body.as_mut() else { return Ok(Poll::Ready(())) };
        let frame = match std::pin::Pin::new(body).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose()?,
        };
        let out = &mut conn.outbox;
        if self.flushed >= out.len() {
            out.clear();
            self.flushed = 0;
        }
        let chunked = self.framing == Framing::Chunked;
        match frame.map(Frame::into_data) {
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                if chunked {
                    out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    self.tail = b"\r\n";
                } else {
                    let length = data.len() as u64;
                    self.owed = self.owed.checked_sub(length).ok_or_else(incomplete)?;
                }
                self.chunk = data;
            }
            Some(Err(frame)) => {
                if chunked && let Ok(trailers) = frame.into_trailers() {
                    out.extend_from_slice(b"0\r\n");
                    for (name, value) in &trailers {
                        field(out, name.as_str().as_bytes(), value.as_bytes());
                    }
                    out.extend_from_slice(b"\r\n");
                    self.body = None;
                }
            }
            None => {
                if chunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                } else if self.owed > 0 {
                    return Err(incomplete());
                }
                self.body = None;
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Writes everything that is queued.
    fn poll_flush(&mut self, cx: &mut Context<'_>, conn: &mut H1Conn) -> Poll<io::Result<()>> {
        loop {
            let head = conn.outbox.get(self.flushed..).unwrap_or_default();
            let queued = head.len() + self.chunk.len() + self.tail.len();
            if queued == 0 {
                return std::pin::Pin::new(&mut conn.io).poll_flush(cx);
            }
            let io = std::pin::Pin::new(&mut conn.io);
            let wrote = if queued == head.len() {
                ready!(io.poll_write(cx, head))?
            } else {
                let slices =
                    [IoSlice::new(head), IoSlice::new(&self.chunk), IoSlice::new(self.tail)];
                ready!(io.poll_write_vectored(cx, &slices))?
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += wrote as u64;
            self.consume(wrote, head.len());
        }
    }

    fn consume(&mut self, wrote: usize, head: usize) {
        let of_head = wrote.min(head);
        self.flushed += of_head;
        let of_chunk = (wrote - of_head).min(self.chunk.len());
        self.chunk.advance(of_chunk);
        let of_tail = wrote - of_head - of_chunk;
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }
}

/// The client's body was not as long as its Content-Length said.
fn incomplete() -> ProxyError {
    ProxyError::client(Reason::BadRequest).because("request body differs from its content-length")
}
