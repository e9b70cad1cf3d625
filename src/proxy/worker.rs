//! What all requests of one worker share.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

use super::Verifier;
use super::answers::Answers;
use crate::snapshot::{ListenerId, SnapshotHandle};
use crate::telemetry::{AccessLogger, WorkerId};
use crate::upstream::limits::Queues;
use crate::upstream::pool::Pools;
use crate::util::random::Random;
use crate::util::wheel::Wheel;

// The inner count is shared with other workers and moves once a generation; the outer one is this
// worker's own and moves with every request.
#[allow(clippy::redundant_allocation)]
mod shared {
    use std::rc::Rc;
    use std::sync::Arc;

    use crate::snapshot::Snapshot;

    /// A snapshot as the requests of one worker share it.
    pub type WorkerSnapshot = Rc<Arc<Snapshot>>;
}

pub use shared::WorkerSnapshot;

/// A worker's own state; never leaves its thread.
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Its timers.
    pub wheel: Rc<Wheel>,
    /// Its connections to endpoints.
    pub pools: Rc<Pools>,
    /// Its requests that wait for a place.
    pub queues: Rc<Queues>,
    /// Bytes of memory that request bodies take that are kept to be sent again.
    pub kept_bytes: Rc<Cell<u64>>,
    /// What authentication services answered.
    pub answers: Answers,
    /// Bytes of memory that responses take that are read ahead of their clients.
    pub ahead_bytes: Rc<Cell<u64>>,
    /// What checks passwords, for all workers.
    pub verifier: Arc<Verifier>,
    /// The access log.
    pub access_log: AccessLogger,
    handle: Arc<SnapshotHandle>,
    current: RefCell<Option<WorkerSnapshot>>,
    /// The one before, for a moment.
    before: RefCell<Option<WorkerSnapshot>>,
    generation: Cell<u64>,
    draining: Cell<bool>,
    random: Cell<Random>,
}

impl Worker {
    /// A worker that serves what `handle` publishes.
    pub fn new(
        id: WorkerId,
        handle: Arc<SnapshotHandle>,
        access_log: AccessLogger,
        verifier: Arc<Verifier>,
    ) -> Rc<Self> {
        let wheel = Wheel::new();
        Rc::new(Self {
            id,
            pools: Rc::new(Pools::new(id, wheel.clone())),
            wheel,
            queues: Rc::new(Queues::new(id)),
            kept_bytes: Rc::default(),
            answers: Answers::default(),
            ahead_bytes: Rc::default(),
            verifier,
            access_log,
            handle,
            current: RefCell::new(None),
            before: RefCell::new(None),
            generation: Cell::new(0),
            draining: Cell::new(false),
            random: Cell::new(Random::new(RandomState::new().hash_one(id.0))),
        })
    }

    /// The snapshot of this moment. A request takes it once and keeps it. The count shared with
    /// other workers moves only when the generation does.
    pub fn snapshot(&self) -> Option<WorkerSnapshot> {
        let generation = self.handle.generation();
        if generation != self.generation.get() {
            self.generation.set(generation);
            let before = self.current.replace(self.handle.load().map(Rc::new));
            *self.before.borrow_mut() = before;
        }
        self.current.borrow().clone()
    }

    /// The generation of the newest snapshot.
    pub fn generation(&self) -> u64 {
        self.handle.generation()
    }

    /// The newest snapshot that knows `listener`, as far as it is still at hand: a connection
    /// that waited in the queue of a listener that was taken out is to get an answer.
    pub fn snapshot_with(&self, listener: ListenerId) -> Option<WorkerSnapshot> {
        let knows = |snapshot: &WorkerSnapshot| snapshot.listener(listener).is_some();
        let current = self.snapshot().filter(knows);
        current.or_else(|| self.before.borrow().clone().filter(knows))
    }

    /// Lets go of snapshots that are not in use any more; called now and then.
    pub fn tidy(&self) {
        self.before.take();
        let _ = self.snapshot();
    }

    /// Whether the process is shutting down: connections are not kept.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Starts the shutdown.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// A number nobody can guess from outside well enough to matter: for request ids and jitter,
    /// not for secrets.
    pub fn random(&self) -> u64 {
        let mut random = self.random.get();
        let number = random.draw();
        self.random.set(random);
        number
    }

    /// A fresh request id: 32 hexadecimal digits.
    pub fn request_id(&self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 32];
        for half in text.chunks_exact_mut(16) {
            let mut number = self.random();
            for digit in half {
                *digit = DIGITS.get(number as usize & 15).copied().unwrap_or(b'0');
                number >>= 4;
            }
        }
        text
    }
}
