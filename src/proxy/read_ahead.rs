//! A response body that is read ahead of its client, so that a slow one does not hold up the endpoint:
//! once all of it is here, the endpoint's connection is free for others.
//!
//! A task of its own reads from the endpoint, because nobody asks for a body while its client takes
//! nothing. Nothing waits for it: what is here goes to the client as soon as that asks.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::task::AbortHandle;

use super::Context;
use super::backlog::{Backlog, Next};
use super::exchange::ExchangeBody;
use super::farewell::Farewell;
use super::share::Share;
use crate::error::ProxyError;
use crate::telemetry::Reason;
use crate::util::moment::Moment;

type Polled = Poll<Option<Result<Frame<Bytes>, ProxyError>>>;

/// The client's end of it.
pub(super) struct ReadAhead {
    /// The body, until it turns out to be more than is here when the client first asks.
    body: Option<Box<ExchangeBody>>,
    size: u64,
    running: Option<Running>,
}

impl ReadAhead {
    /// Up to `size` bytes of `body` will be read ahead.
    pub fn new(body: Box<ExchangeBody>, size: u64) -> Self {
        Self { body: Some(body), size, running: None }
    }

    /// The body, where no task reads it.
    pub fn body(&mut self) -> Option<&mut ExchangeBody> {
        self.body.as_deref_mut()
    }

    /// Waits for the next frame.
    pub fn poll_frame(&mut self, cx: &mut TaskContext<'_>) -> Polled {
        if let Some(running) = &mut self.running {
            return running.poll_frame(cx);
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let first = body.poll_frame(cx);
        if body.is_over() || matches!(first, Poll::Ready(None | Some(Err(_)))) {
            return first;
        }
        self.running = self.body.take().map(|body| Running::start(body, self.size));
        match &mut self.running {
            Some(running) if first.is_pending() => running.poll_frame(cx),
            _ => first,
        }
    }

    /// Whether the endpoint is still at it.
    pub fn is_under_way(&self) -> bool {
        match &self.running {
            Some(running) => !running.shared.borrow().backlog.has_ended(),
            None => self.body.as_ref().is_some_and(|body| !body.is_over()),
        }
    }

    /// Whether the client has all of it.
    pub fn is_over(&self) -> bool {
        match &self.running {
            Some(running) => running.shared.borrow().backlog.is_over(),
            None => self.body.as_ref().is_none_or(|body| body.is_over()),
        }
    }

    /// The length still to come, where it is known.
    pub fn remaining(&self) -> Option<u64> {
        match &self.running {
            Some(running) => running.shared.borrow().remaining(),
            None => self.body.as_ref().and_then(|body| body.remaining()),
        }
    }
}

/// What the client's end shares with the task.
struct Shared {
    backlog: Backlog,
    /// What the endpoint still owes, where that is known.
    owed: Option<u64>,
    /// Who waits for more.
    client: Option<Waker>,
    /// Who waits for room.
    reader: Option<Waker>,
}

impl Shared {
    fn remaining(&self) -> Option<u64> {
        self.owed.map(|owed| owed.saturating_add(self.backlog.length()))
    }

    fn put(&mut self, frame: Frame<Bytes>, owed: Option<u64>) {
        self.backlog.put(frame);
        self.owed = owed;
        self.wake_client();
    }

    fn end(&mut self, error: Option<ProxyError>) {
        self.owed = error.is_none().then_some(0);
        self.backlog.end(error);
        self.wake_client();
    }

    fn wake_client(&mut self) {
        if let Some(client) = self.client.take() {
            client.wake();
        }
    }
}

/// A body that a task reads.
struct Running {
    shared: Rc<RefCell<Shared>>,
    context: Rc<Context>,
    /// When the time of the whole request has passed.
    due: Option<Moment>,
    farewell: Farewell,
    task: AbortHandle,
}

impl Running {
    fn start(mut body: Box<ExchangeBody>, size: u64) -> Self {
        body.detach();
        let (context, due) = (body.context().clone(), body.due());
        let shared = Rc::new(RefCell::new(Shared {
            backlog: Backlog::new(size, Share::of(&context.worker.ahead_bytes)),
            owed: body.remaining(),
            client: None,
            reader: None,
        }));
        let reader = Reader { body, shared: shared.clone() };
        let task = tokio::task::spawn_local(reader).abort_handle();
        Self { shared, context, due, farewell: Farewell::default(), task }
    }

    fn poll_frame(&mut self, cx: &mut TaskContext<'_>) -> Polled {
        if self.due.is_some_and(|due| Moment::now() >= due) {
            return Poll::Ready(Some(Err(ProxyError::proxy(Reason::RequestTimeout))));
        }
        let mut shared = self.shared.borrow_mut();
        match shared.backlog.next() {
            Next::Frame(frame) => {
                if let Some(reader) = shared.reader.take() {
                    reader.wake();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Next::Over => Poll::Ready(None),
            Next::Broken => {
                ready!(self.farewell.poll(cx, &*self.context.link));
                Poll::Ready(shared.backlog.take_error().map(Err))
            }
            Next::Nothing => {
                shared.client = Some(cx.waker().clone());
                let closed = self.context.link.poll_closed(cx);
                closed.map(|()| Some(Err(ProxyError::client(Reason::ClientClosed))))
            }
        }
    }
}

/// Nobody wants the rest.
impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task.
struct Reader {
    body: Box<ExchangeBody>,
    shared: Rc<RefCell<Shared>>,
}

impl Future for Reader {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Self { body, shared } = &mut *self;
        loop {
            {
                let mut shared = shared.borrow_mut();
                if !shared.backlog.has_room() {
                    shared.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let frame = ready!(body.poll_frame(cx));
            let mut shared = shared.borrow_mut();
            let over = match frame {
                Some(Ok(frame)) => {
                    shared.put(frame, body.remaining());
                    // The end often is there with the last piece.
                    body.is_over().then_some(None)
                }
                Some(Err(error)) => Some(Some(error)),
                None => Some(None),
            };
            if let Some(error) = over {
                shared.end(error);
                body.context().leave();
                return Poll::Ready(());
            }
        }
    }
}

/// A task that ends before its body does so by no will of the client.
impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.shared.borrow_mut();
        if !shared.backlog.has_ended() {
            shared.end(Some(ProxyError::proxy(Reason::Internal)));
        }
    }
}
