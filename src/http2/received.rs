//! A message body as it arrives on a stream.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;

/// The largest piece of what was read ahead. The window opens again piece by piece, so that the
/// peer sends on meanwhile.
const PIECE: usize = 16 * 1024;

/// A body that is being received. Its window opens again as it is taken, which is the
/// back-pressure; dropping it before its end leaves the rest to be thrown away.
pub struct Received {
    body: Rc<Arriving>,
}

/// What the taker of a body and the task of its connection share.
pub(super) struct Arriving(RefCell<State>);

struct State {
    stream: RecvStream,
    /// Read ahead; its window has not been given back.
    ahead: BytesMut,
    /// What follows it, where that is an error.
    failed: Option<h2::Error>,
    /// Bytes handed out whose window has not been given back.
    owed: usize,
    data_over: bool,
    /// Whether all there was has been taken since the last round.
    drained: bool,
    /// Who waits for more.
    waiting: Option<Waker>,
}

impl Received {
    pub(super) fn new(stream: RecvStream) -> (Self, Weak<Arriving>) {
        let state = State {
            stream,
            ahead: BytesMut::new(),
            failed: None,
            owed: 0,
            data_over: false,
            drained: false,
            waiting: None,
        };
        let body = Rc::new(Arriving(RefCell::new(state)));
        let arriving = Rc::downgrade(&body);
        (Self { body }, arriving)
    }

    /// Waits for the next piece; `None` is the end of the data. Asking for the next piece gives
    /// the window of the one before it back.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        self.body.0.borrow_mut().poll_data(cx)
    }

    /// Waits for the trailer section, after the end of the data.
    pub fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, h2::Error>> {
        self.body.0.borrow_mut().stream.poll_trailers(cx)
    }

    /// Waits for the next piece or the trailer section; `None` is the end.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.poll_data(cx)) {
            return Poll::Ready(Some(data.map(Frame::data)));
        }
        let trailers = ready!(self.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    /// Whether the stream has ended and everything is taken.
    pub fn is_over(&self) -> bool {
        self.body.0.borrow().is_over()
    }
}

impl Arriving {
    /// Takes what nobody takes now out of the library.
    pub(super) fn read_ahead(&self) {
        self.0.borrow_mut().read_ahead();
    }
}

impl State {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if self.owed > 0 {
            let owed = std::mem::take(&mut self.owed);
            let _ = self.stream.flow_control().release_capacity(owed);
        }
        if !self.ahead.is_empty() {
            let piece = self.ahead.split_to(self.ahead.len().min(PIECE)).freeze();
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
            self.owed = piece.len();
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.data_over {
            return Poll::Ready(None);
        }
        let Poll::Ready(polled) = self.stream.poll_data(cx) else {
            self.drained = true;
            if !self.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                self.waiting = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        match &polled {
            Some(Ok(data)) => self.owed = data.len(),
            Some(Err(_)) => {}
            None => self.data_over = true,
        }
        Poll::Ready(polled)
    }

    /// A taker that asked again and again since the last round needs no help.
    fn read_ahead(&mut self) {
        if std::mem::take(&mut self.drained) || self.data_over || self.failed.is_some() {
            return;
        }
        // The library knows one waker of a stream; whoever waits for more must remain it.
        let mut cx = Context::from_waker(self.waiting.as_ref().unwrap_or(Waker::noop()));
        while let Poll::Ready(polled) = self.stream.poll_data(&mut cx) {
            match polled {
                Some(Ok(data)) => self.ahead.extend_from_slice(&data),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return;
                }
                None => {
                    self.data_over = true;
                    return;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.failed.is_none() && self.stream.is_end_stream()
    }
}
