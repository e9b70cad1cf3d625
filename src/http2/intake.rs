//! The bodies that arrive on one connection.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use h2::RecvStream;

use super::received::Arriving;
use super::{Paced, Received};

/// Bytes a connection reads between two rounds.
const PACE: usize = 32 * 1024;
/// What the library may count for small DATA frames that wait on one connection, bytes: it counts
/// a frame of n bytes, n < 256, as 256 - n, about the memory that it takes.
///
/// A frame waits for two rounds at most. In that time come twice `PACE` bytes and twice what one
/// read may bring beyond (64 KiB), in frames of at least 10 bytes: fewer than 20,000, counted less
/// than 5 MB. So whatever a peer sends, this is not reached as long as rounds are made; where it
/// is, the library ends the connection (ENHANCE_YOUR_CALM).
pub const DATA_FRAME_BUDGET: usize = 8 * 1024 * 1024;

/// The bodies that arrive on one connection, and how much it has read.
///
/// Its task calls [`Intake::catch_up`] before it polls the connection. Every `PACE` bytes that
/// makes a round: what has arrived of bodies that nobody takes now goes into one buffer each. A
/// window is given back only as a body is taken, so a buffer has no more bytes than a window, and
/// those of a connection no more than its window (twice that with what a growing buffer has in
/// reserve).
#[derive(Default)]
pub struct Intake {
    read: Cell<usize>,
    bodies: RefCell<Vec<Weak<Arriving>>>,
}

impl Intake {
    /// Of a connection without bodies.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The connection's byte stream, which is read no further than to the next round.
    pub fn paced<T>(self: &Rc<Self>, io: T) -> Paced<T> {
        Paced::new(io, self.clone())
    }

    /// The body that arrives on `stream`.
    pub fn receive(&self, stream: RecvStream) -> Received {
        let (received, arriving) = Received::new(stream);
        let mut bodies = self.bodies.borrow_mut();
        if bodies.len() == bodies.capacity() {
            bodies.retain(|body| body.strong_count() > 0);
            // Room for as many again: the next search is as far away as this one was.
            let more = bodies.len().max(4);
            bodies.reserve(more);
        }
        bodies.push(arriving);
        received
    }

    /// Makes a round where one is due.
    pub fn catch_up(&self) {
        if !self.is_due() {
            return;
        }
        self.read.set(0);
        self.bodies.borrow_mut().retain(|body| {
            let Some(body) = body.upgrade() else { return false };
            body.read_ahead();
            true
        });
    }

    /// Whether the connection must not be read before the next round.
    pub(super) fn is_due(&self) -> bool {
        self.read.get() >= PACE
    }

    pub(super) fn note_read(&self, count: usize) {
        self.read.set(self.read.get().saturating_add(count));
    }
}
