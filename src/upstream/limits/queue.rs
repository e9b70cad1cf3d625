//! The requests of one worker that wait for places.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;

use super::turns::Turns;
use super::turnstile::{Full, Turnstile};
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;

/// A place at a turnstile; goes back when it goes.
#[derive(Debug)]
pub struct Place(Arc<Turnstile>);

impl Place {
    /// A place that is free and that nobody waits for.
    #[inline]
    pub fn take(turnstile: &Arc<Turnstile>) -> Option<Self> {
        turnstile.try_take().then(|| Self(turnstile.clone()))
    }

    /// Where it is a place.
    pub fn turnstile(&self) -> &Arc<Turnstile> {
        &self.0
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
        let waiter = Rc::new(Waiter::default());
        queue.waiters.push(waiter.clone(), now);
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
        queue.distribute();
        if queue.waiters.is_empty() { Poll::Ready(()) } else { Poll::Pending }
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
    waiters: Turns<Waiter>,
    driven: Cell<bool>,
}

#[derive(Debug, Default)]
struct Waiter {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    fn new(turnstile: Arc<Turnstile>, worker: WorkerId) -> Self {
        Self { turnstile, worker, waiters: Turns::default(), driven: Cell::new(false) }
    }

    /// Gives the places that were granted to those whose turn it is.
    fn distribute(&self) {
        for _ in 0..self.turnstile.collect(self.worker) {
            // Never without one: see `Turnstile::leave`.
            let Some(waiter) = self.waiters.next(|_| true) else {
                return self.turnstile.release();
            };
            waiter.granted.set(true);
            if let Some(waker) = waiter.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Somebody who was not granted a place does not wait any more.
    fn leave(&self, waiter: &Rc<Waiter>) {
        let empty = self.waiters.leave(waiter);
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
