//! A request body that is kept while it is first sent, so that it can be sent again.
//!
//! Pieces are kept by reference, not copied, up to a limit of the route and one of the worker;
//! beyond either everything is let go of and the body can only be sent once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::request_body::LiveBody;
use crate::error::ProxyError;

/// How many bytes of request bodies one worker keeps at most.
const MOST_PER_WORKER: u64 = 64 * 1024 * 1024;

/// A body and what of it is kept.
pub(super) struct Kept {
    live: LiveBody,
    pieces: Vec<Piece>,
    stage: Stage,
    limit: u64,
    share: Share,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
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

/// A body's share of what its worker keeps.
struct Share {
    all: Rc<Cell<u64>>,
    own: u64,
}

impl Share {
    /// Room for `more`; false where there is none.
    fn grow(&mut self, more: u64) -> bool {
        let all = self.all.get().saturating_add(more);
        if all > MOST_PER_WORKER {
            return false;
        }
        self.all.set(all);
        self.own += more;
        true
    }

    fn give_back(&mut self) {
        self.all.set(self.all.get().saturating_sub(std::mem::take(&mut self.own)));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Kept {
    /// A reader of `live`, of which up to `limit` bytes are kept.
    pub fn reader(live: LiveBody, limit: u64) -> Reader {
        let share = Share { all: live.context().worker.kept_bytes.clone(), own: 0 };
        let kept = Self { live, pieces: Vec::new(), stage: Stage::Filling, limit, share };
        Reader { kept: Rc::new(RefCell::new(kept)), next: 0 }
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
        let (piece, size) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => (Piece::Data(data.clone()), data.len() as u64),
            (_, Some(trailers)) => (Piece::Trailers(trailers.clone()), 0),
            _ => return,
        };
        if self.share.own + size > self.limit || !self.share.grow(size) {
            return self.lose();
        }
        self.pieces.push(piece);
    }

    fn lose(&mut self) {
        self.stage = Stage::Lost;
        self.pieces = Vec::new();
        self.share.give_back();
    }
}

/// Reads a kept body from its beginning. Of several readers one at a time reads on from the
/// client.
pub(super) struct Reader {
    kept: Rc<RefCell<Kept>>,
    /// The piece that is read next.
    next: usize,
}

impl Reader {
    /// Another reader from the beginning; `None` where that is not kept any more.
    pub fn again(&self) -> Option<Self> {
        let lost = self.kept.borrow().stage == Stage::Lost;
        (!lost).then(|| Self { kept: self.kept.clone(), next: 0 })
    }

    /// Whether everything is kept.
    pub fn is_whole(&self) -> bool {
        self.kept.borrow().stage == Stage::Whole
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut kept = self.kept.borrow_mut();
        if let Some(piece) = kept.pieces.get(self.next).cloned() {
            self.next += 1;
            return Poll::Ready(Some(Ok(match piece {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if kept.stage == Stage::Whole {
            return Poll::Ready(None);
        }
        // Nobody is left who could want it again: its attempt was answered.
        if kept.stage == Stage::Filling && Rc::strong_count(&self.kept) == 1 {
            kept.lose();
        }
        let frame = ready!(kept.poll_live(cx));
        self.next = kept.pieces.len();
        Poll::Ready(frame)
    }
}
