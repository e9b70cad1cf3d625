//! Whose turn it is among those who wait on one worker.
//!
//! In turn while the queue empties now and then; the last to come first once it has not been
//! empty for a while, because under overload the oldest request is the one whose client has most
//! likely given up ("Fail at Scale", Maurer, ACM Queue 2015: adaptive LIFO).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::util::moment::Moment;

/// A queue that has not been empty for so long is served from its end.
const OVERLOADED_AFTER: Duration = Duration::from_millis(100);

/// Those who wait, in the order in which they came.
#[derive(Debug)]
pub struct Turns<T> {
    waiting: RefCell<VecDeque<Rc<T>>>,
    /// Since when somebody has been waiting without a break.
    busy_since: Cell<Moment>,
}

impl<T> Default for Turns<T> {
    /// Nobody waits.
    fn default() -> Self {
        Self { waiting: RefCell::default(), busy_since: Cell::default() }
    }
}

impl<T> Turns<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// `who` came at `now`.
    pub fn push(&self, who: Rc<T>, now: Moment) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.busy_since.set(now);
        }
        waiting.push_back(who);
    }

    /// `who` was called for nothing and keeps its turn.
    pub fn put_back(&self, who: Rc<T>) {
        self.waiting.borrow_mut().push_front(who);
    }

    /// Whose turn it is among those who are `fit`; does not wait any more.
    pub fn next(&self, fit: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return None; // without a look at the clock
        }
        let index = match Moment::now().since(self.busy_since.get()) > OVERLOADED_AFTER {
            true => waiting.iter().rposition(|who| fit(who)),
            false => waiting.iter().position(|who| fit(who)),
        };
        waiting.remove(index?)
    }

    /// `who` does not wait any more. Whether nobody else does either.
    pub fn leave(&self, who: &Rc<T>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(index) = waiting.iter().position(|other| Rc::ptr_eq(other, who)) {
            waiting.remove(index);
        }
        waiting.is_empty()
    }
}
