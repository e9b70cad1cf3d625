//! The wire gate: a sans-io checker of HTTP/1 request framing on the byte stream below the parser.
//!
//! The parser above is lenient where an edge must not be: it takes bare LF, several or no Host,
//! `Content-Length` beside `Transfer-Encoding`, and hides some of it from the service. The gate
//! sees the same bytes first and lets through only what has one reading (RFC 9112); everything
//! else is a [`Reject`] for the connection to answer and close. It owns no IO, no timer and no
//! response, and knows nothing of routes.
//!
//! Invariants:
//! - Bytes are judged in order and the first offending byte decides, so how the stream was cut
//!   into reads never changes a decision.
//! - Of a request found bad in a call, no byte of that call passes.
//! - The end of a head passes only when the whole head is good.
//! - Nothing is copied or allocated while a head lies in one piece; a token cut by a read is kept
//!   until its other half comes, bounded by the head's limit.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chunked;
mod class;
mod cursor;
mod field;
mod head;
mod host;
mod message;
mod reject;
mod target;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;

use std::fmt;

pub use reject::{GateReason, Reject};

use chunked::Chunked;
use head::{Body, Head};

/// How large a request head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateLimits {
    /// Bytes from the request line to the empty line, both included; more answers 431.
    pub head_size: usize,
    /// Field lines; more answers 431.
    pub header_count: usize,
    /// Bytes of the request target; more answers 414. Never above 65,534, the most the parser
    /// above takes.
    pub target_size: usize,
}

impl Default for GateLimits {
    /// 32 KiB of head, 100 field lines, 8 KiB of target.
    fn default() -> Self {
        Self { head_size: 32 * 1024, header_count: 100, target_size: 8 * 1024 }
    }
}

/// Where in the stream a gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A request that asks for another protocol is complete; nothing passes until the answer.
    AwaitingUpgrade,
    /// Inside a request body.
    Body,
    /// Inside a request head.
    Head,
    /// Between requests: nothing of the next head came yet, empty lines aside.
    Idle,
    /// A request was rejected; nothing passes any more.
    Rejected,
    /// The protocol was switched; everything passes.
    Tunnel,
}

/// What to do with the bytes just looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many of the bytes may go on to the parser.
    pub pass: usize,
    /// What of the others.
    pub then: Then,
}

/// What follows the bytes that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// An upgrade request is complete. The bytes that did not pass wait, to be inspected again
    /// after [`Gate::resume_http`] or [`Gate::enter_tunnel`].
    Hold,
    /// Everything passed.
    More,
    /// Nothing passes from here on. Requests that passed before keep their answers.
    Reject(Reject),
}

/// The checker of one client connection.
pub struct Gate {
    limits: GateLimits,
    state: State,
    head: Head,
    /// The request under way asks for another protocol.
    upgrade: bool,
    heads: u64,
}

enum State {
    AwaitingUpgrade,
    Chunked(Chunked),
    Head,
    /// Bytes of a body with `Content-Length` still to come.
    Length(u64),
    Rejected(Reject),
    Tunnel,
}

impl Gate {
    /// A gate before the first byte of a connection.
    pub fn new(limits: GateLimits) -> Self {
        let limits = GateLimits { target_size: limits.target_size.min(65_534), ..limits };
        Self { limits, state: State::Head, head: Head::default(), upgrade: false, heads: 0 }
    }

    /// Looks at the next bytes off the wire. Bytes that passed must not be shown again; bytes
    /// that did not must be, once [`Then::Hold`] is over.
    pub fn inspect(&mut self, bytes: &[u8]) -> Verdict {
        let mut pass = 0;
        // Where the request under way begins in `bytes`, and how many heads passed before it.
        let mut start = 0;
        let mut heads = self.heads;
        loop {
            let rest = bytes.get(pass..).unwrap_or_default();
            match self.advance(rest) {
                Err(reason) => {
                    let mid_body = matches!(self.state, State::Length(_) | State::Chunked(_))
                        && self.heads == heads;
                    self.heads = heads;
                    let reject = Reject { reason, mid_body };
                    self.state = State::Rejected(reject);
                    return Verdict { pass: start, then: Then::Reject(reject) };
                }
                Ok(Advance::Stopped(then)) => return Verdict { pass, then },
                Ok(Advance::Within(used)) => pass += used,
                Ok(Advance::Ended(used)) => {
                    pass += used;
                    start = pass;
                    heads = self.heads;
                }
            }
        }
    }

    /// Where in the stream the gate stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::AwaitingUpgrade => Phase::AwaitingUpgrade,
            State::Chunked(_) | State::Length(_) => Phase::Body,
            State::Head if self.head.begun() => Phase::Head,
            State::Head => Phase::Idle,
            State::Rejected(_) => Phase::Rejected,
            State::Tunnel => Phase::Tunnel,
        }
    }

    /// The service kept to HTTP: what was held is the next request. Within the body of a request
    /// that asks for another protocol it was answered early, and nothing will be held behind it.
    pub fn resume_http(&mut self) {
        self.upgrade = false;
        if matches!(self.state, State::AwaitingUpgrade) {
            self.state = State::Head;
        }
    }

    /// The service switched protocols (101 is on its way): everything passes from here on.
    /// Without effect in any phase but [`Phase::AwaitingUpgrade`], so that a switch nobody
    /// asked for never opens the gate.
    pub fn enter_tunnel(&mut self) {
        if matches!(self.state, State::AwaitingUpgrade) {
            self.state = State::Tunnel;
        }
    }

    /// How many complete heads have passed.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// One step: the rest of a head, of a length, or of a chunked body.
    fn advance(&mut self, rest: &[u8]) -> Result<Advance, GateReason> {
        match &mut self.state {
            State::AwaitingUpgrade => Ok(Advance::Stopped(Then::Hold)),
            State::Rejected(reject) => Ok(Advance::Stopped(Then::Reject(*reject))),
            _ if rest.is_empty() => Ok(Advance::Stopped(Then::More)),
            State::Tunnel => Ok(Advance::Within(rest.len())),
            State::Head => {
                let (used, framing) = self.head.read(rest, &self.limits)?;
                let Some(framing) = framing else { return Ok(Advance::Within(used)) };
                self.heads += 1;
                self.upgrade = framing.upgrade;
                match framing.body {
                    Body::None => return Ok(self.end(used)),
                    Body::Length(length) => self.state = State::Length(length),
                    Body::Chunked => self.state = State::Chunked(Chunked::default()),
                }
                Ok(Advance::Within(used))
            }
            State::Length(left) => {
                let used = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                *left -= used as u64;
                let ended = *left == 0;
                Ok(if ended { self.end(used) } else { Advance::Within(used) })
            }
            State::Chunked(chunked) => {
                let (used, ended) = chunked.read(rest)?;
                Ok(if ended { self.end(used) } else { Advance::Within(used) })
            }
        }
    }

    fn end(&mut self, used: usize) -> Advance {
        let upgrade = std::mem::take(&mut self.upgrade);
        self.state = if upgrade { State::AwaitingUpgrade } else { State::Head };
        Advance::Ended(used)
    }
}

impl fmt::Debug for Gate {
    /// Phase and count only: what the gate keeps of a split head may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("phase", &self.phase())
            .field("heads", &self.heads)
            .finish_non_exhaustive()
    }
}

/// How far one step came.
enum Advance {
    /// So many bytes, and the request is complete.
    Ended(usize),
    /// No further in this call.
    Stopped(Then),
    /// So many bytes, all of the request under way.
    Within(usize),
}
