//! What one body may hold of the memory that all bodies of a worker share.

use std::cell::Cell;
use std::rc::Rc;

/// How many bytes of memory the bodies take at most that one worker keeps.
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

    /// Room for `size` in all; false where there is none.
    pub fn resize(&mut self, size: u64) -> bool {
        let all = self.all.get().saturating_sub(self.own).saturating_add(size);
        if size > self.own && all > MOST_PER_WORKER {
            return false;
        }
        self.all.set(all);
        self.own = size;
        true
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        self.resize(0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}
