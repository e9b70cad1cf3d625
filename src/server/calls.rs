//! The requests that a worker's connections have under way.
//!
//! The future of a request is large and lives for a short time. It stands in a box of its own,
//! and boxes go from request to request: a connection without a request holds no space for one,
//! and what a request needs is still in the cache from the one before it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// How many boxes are kept for the next requests.
const SPARE: usize = 256;

/// A place for one future.
type Place<F> = Pin<Box<Option<F>>>;

/// The boxes of one worker.
pub struct Calls<F> {
    spare: RefCell<Vec<Place<F>>>,
}

impl<F> Calls<F> {
    /// None yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { spare: RefCell::default() })
    }

    /// Puts what `make` returns into a box.
    pub fn start(self: &Rc<Self>, make: impl FnOnce() -> F) -> Call<F> {
        let spare = self.spare.borrow_mut().pop();
        let mut place = spare.unwrap_or_else(|| Box::pin(None));
        place.set(Some(make()));
        Call { place: Some(place), calls: self.clone() }
    }
}

/// A future in a box that is given back once the future is done or dropped.
pub struct Call<F> {
    place: Option<Place<F>>,
    calls: Rc<Calls<F>>,
}

impl<F> Call<F> {
    fn end(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        // Dropping the future may start or end another one: not under the borrow.
        place.set(None);
        let mut spare = self.calls.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(place);
        }
    }
}

impl<F: Future> Future for Call<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let place = this.place.as_mut();
        let Some(future) = place.and_then(|place| place.as_mut().as_pin_mut()) else {
            return Poll::Pending; // polled after its end
        };
        let output = ready!(future.poll(cx));
        this.end();
        Poll::Ready(output)
    }
}

impl<F> Drop for Call<F> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    fn poll<F: Future>(call: &mut Call<F>) -> Poll<F::Output> {
        Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_box_serves_one_request_after_the_other() {
        let calls = Calls::new();
        let mut call = calls.start(|| ready(1));
        let first = std::ptr::from_ref(&**call.place.as_ref().expect("a box"));
        assert_eq!(poll(&mut call), Poll::Ready(1));
        assert_eq!(poll(&mut call), Poll::Pending);
        let mut call = calls.start(|| ready(2));
        assert_eq!(std::ptr::from_ref(&**call.place.as_ref().expect("a box")), first);
        assert_eq!(poll(&mut call), Poll::Ready(2));
    }

    #[test]
    fn a_request_that_is_given_up_is_dropped_and_its_box_kept() {
        let calls = Calls::new();
        let story = Rc::new(());
        let held = story.clone();
        let mut call = calls.start(|| async move {
            let _held = held;
            pending::<()>().await;
        });
        assert!(poll(&mut call).is_pending());
        drop(call);
        assert_eq!(Rc::strong_count(&story), 1);
        assert_eq!(calls.spare.borrow().len(), 1);
    }

    #[test]
    fn only_so_many_boxes_are_kept() {
        let calls = Calls::new();
        let many: Vec<_> = (0..SPARE + 10).map(|_| calls.start(|| ready(()))).collect();
        drop(many);
        assert_eq!(calls.spare.borrow().len(), SPARE);
    }
}
