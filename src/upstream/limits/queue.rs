//! The requests of one worker that wait for places, and their order.
//!
//! In turn while the queue empties now and then; the last to come first once it has not been
//! empty for a while, because under overload the oldest request is the one whose client has most
//! likely given up ("Fail at Scale", Maurer, ACM Queue 2015: adaptive LIFO).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use foldhash::fast::FixedState;

use super::turnstile::{Full, Turnstile};
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;

/// A queue that has not been empty for so long is served from its end.
const OVERLOADED_AFTER: Duration = Duration::from_millis(100);

/// A place at a turnstile; goes back when it goes.
#[derive(Debug)]
pub struct Place(Arc<Turnstile>);

impl Place {
    /// A place that is free and that nobody waits for.
    #[inline]
    pub fn take(turnstile: &Arc<Turnstile>) -> Option<Self> {
        turnstile.try_take().then(|| Self(turnstile.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// All queues of one worker.
#[derive(Debug)]
pub struct Queues {
    worker: WorkerId,
    queues: RefCell<HashMap<usize, Rc<Queue>, FixedState>>,
}

impl Queues {
    /// The queues of `worker`, where nobody waits yet.
    pub fn new(worker: WorkerId) -> Self {
        Self { worker, queues: RefCell::default() }
    }

    /// Waits for a place at `turnstile`, on a worker's own runtime. The caller sets the deadline.
    pub fn wait(self: &Rc<Self>, turnstile: &Arc<Turnstile>, now: Moment) -> Result<Wait, Full> {
        if turnstile.join(self.worker)? {
            let place = Some(Place(turnstile.clone()));
            return Ok(Wait { place, queued: None });
        }
        let queue = self.queue(turnstile);
        let waiter = queue.push(now);
        if !queue.driven.replace(true) {
            tokio::task::spawn_local(drive(self.clone(), queue.clone()));
        }
        Ok(Wait { place: None, queued: Some((queue, waiter)) })
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.borrow().is_empty()
    }

    fn queue(&self, turnstile: &Arc<Turnstile>) -> Rc<Queue> {
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry(Arc::as_ptr(turnstile).addr());
        queue.or_insert_with(|| Rc::new(Queue::new(turnstile.clone(), self.worker))).clone()
    }
}

/// Hands out what the worker is granted, for as long as anybody waits.
async fn drive(queues: Rc<Queues>, queue: Rc<Queue>) {
    poll_fn(|cx| {
        queue.turnstile.register(queue.worker, cx.waker());
        queue.distribute(Moment::now());
        if queue.waiters.borrow().is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    queue.driven.set(false);
    queues.queues.borrow_mut().remove(&Arc::as_ptr(&queue.turnstile).addr());
}

/// The requests of one worker that wait at one turnstile.
#[derive(Debug)]
struct Queue {
    turnstile: Arc<Turnstile>,
    worker: WorkerId,
    /// As many as the turnstile counts as wishes and grants of this worker.
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
    /// Since when somebody has been waiting without a break.
    busy_since: Cell<Moment>,
    driven: Cell<bool>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    fn new(turnstile: Arc<Turnstile>, worker: WorkerId) -> Self {
        let (busy_since, driven) = (Cell::new(Moment::default()), Cell::new(false));
        Self { turnstile, worker, waiters: RefCell::default(), busy_since, driven }
    }

    fn push(&self, now: Moment) -> Rc<Waiter> {
        let mut waiters = self.waiters.borrow_mut();
        if waiters.is_empty() {
            self.busy_since.set(now);
        }
        let waiter = Rc::new(Waiter::default());
        waiters.push_back(waiter.clone());
        waiter
    }

    /// Gives the places that were granted to those whose turn it is.
    fn distribute(&self, now: Moment) {
        let overloaded = now.since(self.busy_since.get()) > OVERLOADED_AFTER;
        for _ in 0..self.turnstile.collect(self.worker) {
            let mut waiters = self.waiters.borrow_mut();
            let next = if overloaded { waiters.pop_back() } else { waiters.pop_front() };
            drop(waiters);
            // Never without one: see `Turnstile::leave`.
            let Some(waiter) = next else { return self.turnstile.release() };
            waiter.granted.set(true);
            if let Some(waker) = waiter.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Somebody who was not granted a place does not wait any more.
    fn leave(&self, waiter: &Rc<Waiter>) {
        let mut waiters = self.waiters.borrow_mut();
        if let Some(index) = waiters.iter().position(|other| Rc::ptr_eq(other, waiter)) {
            waiters.remove(index);
        }
        let empty = waiters.is_empty();
        drop(waiters);
        self.turnstile.leave(self.worker);
        if empty {
            self.turnstile.wake(self.worker); // its driver ends
        }
    }
}

/// The wait for a place; dropping it gives the wait up.
#[derive(Debug)]
pub struct Wait {
    place: Option<Place>,
    queued: Option<(Rc<Queue>, Rc<Waiter>)>,
}

impl Future for Wait {
    type Output = Place;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Place> {
        if let Some(place) = self.place.take() {
            return Poll::Ready(place);
        }
        let Some((queue, waiter)) = &self.queued else { return Poll::Pending };
        if !waiter.granted.get() {
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let place = Place(queue.turnstile.clone());
        self.queued = None;
        Poll::Ready(place)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some((queue, waiter)) = self.queued.take() else { return };
        match waiter.granted.get() {
            true => queue.turnstile.release(),
            false => queue.leave(&waiter),
        }
    }
}
