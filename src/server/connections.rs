//! The client connections of one worker: how many there are, and how they learn of a shutdown.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

/// All connections of a worker.
pub struct Connections {
    places: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    closing: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    /// This worker's count, readable by the others.
    open: Arc<AtomicUsize>,
}

impl Connections {
    /// None yet; `open` is the count that other workers look at.
    pub fn new(open: Arc<AtomicUsize>) -> Rc<Self> {
        Rc::new(Self {
            places: RefCell::default(),
            free: RefCell::default(),
            closing: Cell::new(false),
            waiting: RefCell::new(None),
            open,
        })
    }

    /// Counts a connection in.
    pub fn enter(self: &Rc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        let key = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut places = self.places.borrow_mut();
            places.push(None);
            places.len() - 1
        });
        Place { connections: self.clone(), key, watched: Cell::new(false) }
    }

    /// Tells every connection to look at the state of the worker again.
    pub fn wake_all(&self) {
        let wakers: Vec<Waker> = self.places.borrow().iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Tells every connection to close as soon as it is idle.
    pub fn close(&self) {
        self.closing.set(true);
        self.wake_all();
    }

    /// Ready once there is no connection left.
    pub fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.open.load(Ordering::Relaxed) == 0 {
            return Poll::Ready(());
        }
        *self.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A connection's place among the others.
pub struct Place {
    connections: Rc<Connections>,
    key: usize,
    watched: Cell<bool>,
}

impl Place {
    /// Has the task woken when the worker's state changes. A connection's task does not change,
    /// so only the first call does anything.
    pub fn watch(&self, cx: &mut Context<'_>) {
        if self.watched.replace(true) {
            return;
        }
        if let Some(place) = self.connections.places.borrow_mut().get_mut(self.key) {
            *place = Some(cx.waker().clone());
        }
    }

    /// Whether connections are to close as soon as they are idle.
    pub fn is_closing(&self) -> bool {
        self.connections.closing.get()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(place) = self.connections.places.borrow_mut().get_mut(self.key) {
            *place = None;
        }
        self.connections.free.borrow_mut().push(self.key);
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(waiting) = self.connections.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }
}
