//! What one body may hold of the memory that all bodies of its kind share on a worker.

use std::cell::Cell;
use std::rc::Rc;

/// How many bytes of memory the request bodies take at most that one worker keeps; and as many those
/// responses that it has read ahead, so that slow readers do not take repeats away.
const MOST_PER_WORKER: u64 = 64 * 1024 * 1024;

/// A body's share of what its worker keeps; given back when it goes.
pub(super) struct Share {
    all: Rc<Cell<u64>>,
    own: u64,
}

impl Share {
    /// Nothing yet, of `all` that the worker keeps.
    pub fn of(all: &Rc<Cell<u64>>) -> Self {
        Self { all: all.clone(), own: 0 }
    }

    /// Whether it may grow: it has less than is left. So many large bodies come to equal shares,
    /// and there is room for small ones.
    pub fn may_grow(&self) -> bool {
        self.own < MOST_PER_WORKER.saturating_sub(self.all.get())
    }

    /// Room for `size` in all; false where there is none.
    pub fn resize(&mut self, size: u64) -> bool {
        let all = self.all.get().saturating_sub(self.own).saturating_add(size);
        if size > self.own && all > MOST_PER_WORKER {
            return false;
        }
        self.set(size);
        true
    }

    /// Counts `size` in all, which is kept in any case.
    pub fn set(&mut self, size: u64) {
        self.all.set(self.all.get().saturating_sub(self.own).saturating_add(size));
        self.own = size;
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        self.set(0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}
