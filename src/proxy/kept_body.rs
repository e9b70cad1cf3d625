//! A request body that is kept while it is first sent, so that it can be sent again, or read before
//! it is sent at all.
//!
//! It is kept up to a limit of the route and one of the worker; beyond either everything is let go
//! of and the body can only be sent once.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::pieces::{Pieces, Place};
use super::request_body::LiveBody;
use super::share::Share;
use crate::error::ProxyError;

/// A body and what of it is kept.
pub(super) struct Kept {
    live: LiveBody,
    pieces: Pieces,
    trailers: Option<HeaderMap>,
    stage: Stage,
    limit: u64,
    share: Share,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Everything so far is kept.
    Filling,
    /// It was too much, or the client broke off.
    Lost,
    /// Everything is kept.
    Whole,
}

impl Kept {
    /// A reader of `live`, of which up to `limit` bytes are kept.
    pub fn reader(live: LiveBody, limit: u64) -> Reader {
        let kept = Self {
            share: Share::of(&live.context().worker.kept_bytes),
            live,
            pieces: Pieces::default(),
            trailers: None,
            stage: Stage::Filling,
            limit,
        };
        Reader { kept: Rc::new(RefCell::new(kept)), place: Place::default(), is_over: false }
    }

    fn poll_live(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let frame = ready!(self.live.poll_frame(cx));
        if self.stage == Stage::Filling {
            match &frame {
                None => self.stage = Stage::Whole,
                Some(Err(_)) => self.lose(),
                Some(Ok(frame)) => self.keep(frame),
            }
        }
        Poll::Ready(frame)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.put(frame);
        if self.pieces.length() > self.limit || !self.share.resize(self.pieces.cost()) {
            self.lose();
        }
    }

    /// Reads before anybody wants it, until there is as much as may be kept. The last piece stays
    /// even where it is too much: it cannot be put back.
    fn poll_fill(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), ProxyError>> {
        while self.stage == Stage::Filling
            && self.pieces.length() < self.limit
            && self.share.may_grow()
        {
            match ready!(self.live.poll_frame(cx)).transpose()? {
                None => self.stage = Stage::Whole,
                Some(frame) => {
                    self.put(&frame);
                    self.share.set(self.pieces.cost());
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn put(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.pieces.push(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }

    fn lose(&mut self) {
        self.stage = Stage::Lost;
        self.pieces = Pieces::default();
        self.trailers = None;
        self.share.give_back();
    }
}

/// Reads a kept body from its beginning. Of several readers one at a time reads on from the
/// client.
pub(super) struct Reader {
    kept: Rc<RefCell<Kept>>,
    /// Where it reads next.
    place: Place,
    /// Whether it had the trailers, which are the last there is.
    is_over: bool,
}

impl Reader {
    /// Another reader from the beginning; `None` where that is not kept any more.
    pub fn again(&self) -> Option<Self> {
        let lost = self.kept.borrow().stage == Stage::Lost;
        let place = Place::default();
        (!lost).then(|| Self { kept: self.kept.clone(), place, is_over: false })
    }

    /// Whether everything is kept.
    pub fn is_whole(&self) -> bool {
        self.kept.borrow().stage == Stage::Whole
    }

    /// The same reader, with up to `limit` bytes kept where it was less.
    pub fn keeping(self, limit: u64) -> Self {
        let mut kept = self.kept.borrow_mut();
        kept.limit = kept.limit.max(limit);
        drop(kept);
        self
    }

    /// Reads ahead, as much as may be kept.
    pub fn poll_fill(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), ProxyError>> {
        self.kept.borrow_mut().poll_fill(cx)
    }

    /// The length of a body that is kept to its end and has no trailers.
    pub fn length(&self) -> Option<u64> {
        self.whole_length().filter(|_| self.kept.borrow().trailers.is_none())
    }

    /// The length of a body that is kept to its end, trailers aside.
    pub fn whole_length(&self) -> Option<u64> {
        let kept = self.kept.borrow();
        (kept.stage == Stage::Whole).then(|| kept.pieces.length())
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut kept = self.kept.borrow_mut();
        if let Some(data) = kept.pieces.read(&mut self.place) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = kept.trailers.as_ref().filter(|_| !self.is_over) {
            self.is_over = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))));
        }
        if kept.stage == Stage::Whole {
            return Poll::Ready(None);
        }
        // Nobody is left who could want it again: its attempt was answered.
        if kept.stage == Stage::Filling && Rc::strong_count(&self.kept) == 1 {
            kept.lose();
        }
        let frame = ready!(kept.poll_live(cx));
        self.place = kept.pieces.end();
        self.is_over |= matches!(&frame, Some(Ok(frame)) if frame.is_trailers());
        Poll::Ready(frame)
    }
}
