//! Requests that found neither a connection to their endpoint nor a place for a new one, and wait
//! for what others on their worker leave. They wait for a place at the turnstile as well.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Connection, Pools, Wish};
use crate::telemetry::WorkerId;
use crate::upstream::h1::H1Conn;
use crate::upstream::limits::{Place, Turns, Turnstile};
use crate::upstream::{Endpoint, Transport};
use crate::util::moment::Moment;

/// How long a connection goes from one request to the next on its worker although others wait for
/// its place, to another endpoint or on another worker: making connections costs them all.
const SHIFT: Duration = Duration::from_millis(50);

/// Those on one worker who wait for a connection to one endpoint.
#[derive(Debug)]
pub struct Waitlist {
    worker: WorkerId,
    keeper: Arc<Notify>,
    turns: Turns<Seat>,
    /// Those who were made an offer and have not looked at it: they wait no more, which the
    /// turnstile will hear from them.
    called: Cell<usize>,
}

/// One who waits.
#[derive(Debug, Default)]
struct Seat {
    /// Whether a shared connection is good for it.
    shares: bool,
    server_name: Option<Arc<str>>,
    offer: RefCell<Option<Offer>>,
    waker: RefCell<Option<Waker>>,
}

enum Offer {
    /// This connection.
    Connection(Box<H1Conn>),
    /// A look into the pool: a shared connection has room.
    Look,
}

impl Waitlist {
    /// Nobody waits on `worker`. `keeper` is told when idle connections have to go.
    pub fn new(worker: WorkerId, keeper: Arc<Notify>) -> Self {
        Self { worker, keeper, turns: Turns::default(), called: Cell::new(0) }
    }

    /// Whether a connection made at `created` that has `place` is to be closed: others need the
    /// place more than those who wait here.
    pub fn comes_after_others(&self, place: &Place, created: Moment) -> bool {
        let turnstile = place.turnstile();
        let here = self.turns.len() + self.called.get();
        let elsewhere = || turnstile.waiting() as usize > here;
        turnstile.taken() > turnstile.limit() || elsewhere() && created.elapsed() >= SHIFT
    }

    /// Says that a connection that has its place at `turnstile` is not in use.
    pub fn note_idle(&self, turnstile: &Turnstile) {
        turnstile.note_idle(self.worker, &self.keeper);
    }

    /// Has the next one look for a shared connection made with `server_name`. Whether there is
    /// one.
    pub fn call_one(&self, server_name: Option<&Arc<str>>) -> bool {
        let fits = |seat: &Seat| seat.shares && seat.server_name.as_ref() == server_name;
        let next = self.turns.next(fits);
        next.inspect(|seat| self.offer(seat, Offer::Look)).is_some()
    }

    /// Has all look for a shared connection made with `server_name`.
    pub(super) fn call_all(&self, server_name: Option<&Arc<str>>) {
        while self.call_one(server_name) {}
    }

    /// Gives `conn` to the next one it is good for; drops it where there is none.
    pub(super) fn give(&self, conn: Box<H1Conn>) {
        let fits = |seat: &Seat| seat.server_name == conn.server_name;
        if let Some(seat) = self.turns.next(fits) {
            self.offer(&seat, Offer::Connection(conn));
        }
    }

    /// Whether somebody was called and has not looked yet.
    pub(super) fn has_called(&self) -> bool {
        self.called.get() > 0
    }

    fn offer(&self, seat: &Seat, offer: Offer) {
        self.called.set(self.called.get() + 1);
        seat.offer.replace(Some(offer));
        if let Some(waker) = seat.waker.take() {
            waker.wake();
        }
    }

    /// Somebody who was called has looked, or gave up.
    fn looked(&self) {
        self.called.set(self.called.get().saturating_sub(1));
    }
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connection(_) => "Connection",
            Self::Look => "Look",
        })
    }
}

impl Pools {
    /// Waits for a connection to `endpoint` that comes free on this worker. It was in use until then,
    /// so it is as good as a fresh one.
    pub fn hope(
        self: &Rc<Self>,
        endpoint: &Arc<Endpoint>,
        transport: &Transport,
        server_name: Option<&Arc<str>>,
        wish: Wish,
    ) -> Hope {
        let waitlist = self.with_pool(endpoint, transport, |pool| pool.waitlist.clone());
        let (shares, server_name) = (!wish.h1_only, server_name.cloned());
        let seat = Rc::new(Seat { shares, server_name, ..Seat::default() });
        waitlist.turns.push(seat.clone(), Moment::now());
        let wish = Wish { fresh: false, ..wish };
        Hope { pools: self.clone(), endpoint: endpoint.clone(), wish, waitlist, seat }
    }
}

/// The wait for a connection that others leave; dropping it gives the wait up.
pub struct Hope {
    pools: Rc<Pools>,
    endpoint: Arc<Endpoint>,
    wish: Wish,
    waitlist: Rc<Waitlist>,
    seat: Rc<Seat>,
}

impl Hope {
    fn accept(&self, offer: Offer) -> Option<Connection> {
        match offer {
            Offer::Connection(mut conn) => {
                conn.is_alive(self.wish.certain).then_some(Connection::H1(conn))
            }
            Offer::Look => {
                let server_name = self.seat.server_name.as_deref();
                self.pools.checkout(&self.endpoint, server_name, self.wish)
            }
        }
    }
}

impl Future for Hope {
    type Output = Connection;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Connection> {
        let offer = self.seat.offer.take();
        if let Some(offer) = offer {
            self.waitlist.looked();
            if let Some(connection) = self.accept(offer) {
                return Poll::Ready(connection);
            }
            self.waitlist.turns.put_back(self.seat.clone());
        }
        self.seat.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Hope {
    fn drop(&mut self) {
        self.waitlist.turns.leave(&self.seat);
        let Some(offer) = self.seat.offer.take() else { return };
        match offer {
            Offer::Connection(conn) => self.pools.give_back(conn),
            Offer::Look => {
                let passed_on = self.waitlist.call_one(self.seat.server_name.as_ref());
                if !passed_on && let Some(turnstile) = self.endpoint.common.connections.limited() {
                    self.waitlist.note_idle(turnstile);
                }
            }
        }
        // Not before: until now this one counts as waiting.
        self.waitlist.looked();
    }
}
