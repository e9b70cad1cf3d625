//! Which upstreams the control side has to look at: those that are in use, and those of which something
//! changed. The others cost nothing, however many there are.
//!
//! An upstream rests until a worker picks from it or something else touches it; that puts its name on
//! the list. It comes off when it was looked at and nothing is going on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ir::Name;

/// The upstreams that are to be looked at.
#[derive(Debug, Default)]
pub struct Attention {
    lists: Mutex<Lists>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Lists {
    all: HashSet<Name>,
    urgent: HashSet<Name>,
}

impl Attention {
    /// The upstream `name` is to be looked at from the next time on.
    pub fn ask(&self, name: &Name) {
        self.lock().all.insert(name.clone());
    }

    /// The upstream `name` is to be looked at now.
    pub fn urge(&self, name: &Name) {
        self.lock().urgent.insert(name.clone());
        self.wake.notify_one();
    }

    /// Something else is to be done now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ready when something is to be done now.
    pub async fn urged(&self) {
        self.wake.notified().await;
    }

    /// Those that are to be looked at. Who is to be looked at again has to be asked for again.
    pub fn take(&self) -> HashSet<Name> {
        let mut lists = self.lock();
        lists.urgent.clear();
        std::mem::take(&mut lists.all)
    }

    /// Those that are to be looked at now.
    pub fn take_urgent(&self) -> HashSet<Name> {
        std::mem::take(&mut self.lock().urgent)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an upstream is on the list. A new one is put there by who makes it.
#[derive(Debug)]
pub struct Watched(AtomicU8);

impl Default for Watched {
    fn default() -> Self {
        Self(AtomicU8::new(Self::SEEN))
    }
}

impl Watched {
    /// It is not.
    const RESTS: u8 = 0;
    /// It is, and was not touched since it was looked at.
    const SEEN: u8 = 1;
    const TOUCHED: u8 = 2;

    /// Something is going on. Returns whether it has to be put on the list. Called by workers with
    /// every request: all but the first after a look find that it was said.
    #[inline]
    pub fn touch(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::TOUCHED
            && self.0.swap(Self::TOUCHED, Ordering::AcqRel) == Self::RESTS
    }

    /// It is being looked at. Returns whether it was touched since the last time.
    pub fn look(&self) -> bool {
        let touched = Self::TOUCHED;
        self.0.compare_exchange(touched, Self::SEEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Nothing is going on. Returns whether it may come off the list: not where it was touched
    /// meanwhile.
    pub fn rest(&self) -> bool {
        let (seen, rests) = (Self::SEEN, Self::RESTS);
        let before = self.0.compare_exchange(seen, rests, Ordering::AcqRel, Ordering::Relaxed);
        before.unwrap_or_else(|before| before) != Self::TOUCHED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_between_look_and_rest_stays_on_the_list() {
        let watched = Watched::default();
        assert!(!watched.touch(), "a new one is on the list");
        assert!(watched.look());
        assert!(!watched.look(), "nothing happened since");
        assert!(!watched.touch());
        assert!(!watched.rest(), "touched meanwhile");
        assert!(watched.look() && watched.rest());
        assert!(watched.touch(), "it came off");
    }
}
