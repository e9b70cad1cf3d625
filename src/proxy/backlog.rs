//! What of a response is here and has not gone to its client: what comes in, what goes out, and whether
//! there is room for more. It knows neither who reads nor who writes.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::pieces::Pieces;
use super::share::Share;
use crate::error::ProxyError;

/// The part of a body between its endpoint and its client.
pub(super) struct Backlog {
    pieces: Pieces,
    trailers: Option<HeaderMap>,
    limit: u64,
    share: Share,
    end: End,
}

enum End {
    /// More may come.
    Open,
    Whole,
    /// It broke off; the client has not been told.
    Broken(ProxyError),
}

/// What comes next for the client.
pub(super) enum Next {
    Frame(Frame<Bytes>),
    /// Nothing yet.
    Nothing,
    /// Everything that was here has gone, and what follows is an error.
    Broken,
    /// Everything has gone.
    Over,
}

impl Backlog {
    /// Nothing yet, and room for about `limit` bytes as long as `share` of the memory may grow.
    pub fn new(limit: u64, share: Share) -> Self {
        Self { pieces: Pieces::default(), trailers: None, limit, share, end: End::Open }
    }

    /// Whether another piece may be put. The first may be in any case, so that the body goes on; how
    /// large a piece is nobody knows before it is here.
    pub fn has_room(&self) -> bool {
        let length = self.pieces.length();
        length == 0 || length < self.limit && self.share.may_grow()
    }

    /// Adds what came.
    pub fn put(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.pieces.push(&data);
                self.share.set(self.pieces.cost());
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }

    /// Nothing more comes, because of `error` or as it should be.
    pub fn end(&mut self, error: Option<ProxyError>) {
        self.end = error.map_or(End::Whole, End::Broken);
    }

    /// Takes out what is next.
    pub fn next(&mut self) -> Next {
        if let Some(data) = self.pieces.take() {
            self.share.set(self.pieces.cost());
            return Next::Frame(Frame::data(data));
        }
        if let Some(trailers) = self.trailers.take() {
            return Next::Frame(Frame::trailers(trailers));
        }
        match self.end {
            End::Open => Next::Nothing,
            End::Whole => Next::Over,
            End::Broken(_) => Next::Broken,
        }
    }

    /// The error that follows, once.
    pub fn take_error(&mut self) -> Option<ProxyError> {
        match std::mem::replace(&mut self.end, End::Whole) {
            End::Broken(error) => Some(error),
            end => {
                self.end = end;
                None
            }
        }
    }

    /// How many bytes are here.
    pub fn length(&self) -> u64 {
        self.pieces.length()
    }

    /// Whether nothing more comes in.
    pub fn has_ended(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// Whether the client has everything.
    pub fn is_over(&self) -> bool {
        let gone = self.pieces.length() == 0 && self.trailers.is_none();
        gone && matches!(self.end, End::Whole)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Reason;

    const LIMIT: u64 = 64 * 1024;
    const PIECE: usize = 20 * 1024;

    /// What an endpoint or a client does next.
    #[derive(Clone, Debug)]
    enum Step {
        Put(usize),
        Take,
    }

    #[derive(Clone, Copy, Debug)]
    enum Ending {
        Plain,
        Trailers,
        Error,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = prop_oneof![1usize..4, 1..200usize, 1..PIECE];
        vec(prop_oneof![3 => size.prop_map(Step::Put), 2 => Just(Step::Take)], 0..300)
    }

    fn ending() -> impl Strategy<Value = Ending> {
        prop_oneof![Just(Ending::Plain), Just(Ending::Trailers), Just(Ending::Error)]
    }

    /// The bytes so far, and how they went on.
    fn drain(backlog: &mut Backlog, taken: &mut Vec<u8>) -> Vec<&'static str> {
        let mut rest = Vec::new();
        loop {
            match backlog.next() {
                Next::Frame(frame) => match frame.into_data() {
                    Ok(data) => {
                        assert!(rest.is_empty(), "data after trailers");
                        assert!(!data.is_empty());
                        taken.extend_from_slice(&data);
                    }
                    Err(_) => rest.push("trailers"),
                },
                Next::Nothing => rest.push("nothing"),
                Next::Broken => {
                    rest.push("broken");
                    assert!(!backlog.is_over());
                    assert!(backlog.take_error().is_some() && backlog.take_error().is_none());
                }
                Next::Over => {
                    rest.push("over");
                    assert!(backlog.is_over());
                }
            }
            if !matches!(rest.last(), None | Some(&"trailers" | &"broken")) {
                return rest;
            }
        }
    }

    proptest! {
        #[test]
        fn a_client_gets_what_came_in_order_and_the_end_last_in_bounded_memory(
            steps in steps(),
            ending in ending(),
        ) {
            let all = Rc::new(Cell::new(0));
            let mut backlog = Backlog::new(LIMIT, Share::of(&all));
            let (mut put, mut taken) = (Vec::new(), Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(size) if backlog.has_room() => {
                        let data = vec![number as u8; size];
                        put.extend_from_slice(&data);
                        backlog.put(Frame::data(data.into()));
                    }
                    // It is full: there is much to take.
                    Step::Put(_) => prop_assert!(backlog.length() >= LIMIT),
                    Step::Take => match backlog.next() {
                        Next::Frame(frame) => {
                            taken.extend_from_slice(&frame.into_data().unwrap());
                        }
                        Next::Nothing => prop_assert!(backlog.has_room()),
                        Next::Broken | Next::Over => prop_assert!(false, "it has not ended"),
                    },
                }
                prop_assert_eq!(backlog.length() as usize, put.len() - taken.len());
                // One piece beyond the limit; blocks grow by doubling.
                let most = 2 * (LIMIT + PIECE as u64) + 300 * 256;
                prop_assert!(all.get() <= most, "{}", all.get());
                prop_assert!(!backlog.has_ended() && !backlog.is_over());
            }
            let wanted = match ending {
                Ending::Plain => vec!["over"],
                Ending::Trailers => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-sum", HeaderValue::from_static("1"));
                    backlog.put(Frame::trailers(trailers));
                    vec!["trailers", "over"]
                }
                Ending::Error => vec!["broken", "over"],
            };
            let error = matches!(ending, Ending::Error);
            backlog.end(error.then(|| ProxyError::upstream(Reason::UpstreamReset)));
            prop_assert!(backlog.has_ended());
            prop_assert_eq!(drain(&mut backlog, &mut taken), wanted);
            prop_assert!(taken == put);
            prop_assert_eq!(all.get(), 0);
        }
    }

    #[test]
    fn where_others_have_taken_the_room_there_is_one_piece_at_a_time() {
        let all = Rc::new(Cell::new(u64::MAX / 2));
        let mut backlog = Backlog::new(LIMIT, Share::of(&all));
        for _ in 0..2 {
            assert!(backlog.has_room());
            backlog.put(Frame::data(Bytes::from_static(b"piece")));
            assert!(!backlog.has_room());
            assert!(matches!(backlog.next(), Next::Frame(_)));
        }
    }

    #[test]
    fn many_that_want_much_come_to_equal_shares_and_leave_room_for_others() {
        let all = Rc::new(Cell::new(0));
        let mut many: Vec<_> = (0..100).map(|_| Backlog::new(1 << 30, Share::of(&all))).collect();
        let piece = Bytes::from(vec![b'x'; PIECE]);
        while many.iter().any(Backlog::has_room) {
            for backlog in many.iter_mut().filter(|backlog| backlog.has_room()) {
                backlog.put(Frame::data(piece.clone()));
            }
        }
        let (least, most) = many
            .iter()
            .map(Backlog::length)
            .fold((u64::MAX, 0), |found, length| (found.0.min(length), found.1.max(length)));
        assert!(least > 400 << 10 && most - least <= PIECE as u64, "{least} to {most}");
        let mut small = Backlog::new(LIMIT, Share::of(&all));
        small.put(Frame::data(piece.slice(..10)));
        assert!(small.has_room());
    }
}
