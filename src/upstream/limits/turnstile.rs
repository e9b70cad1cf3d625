//! A number of places that all workers share, and how a place that comes free reaches a request
//! that waits, whichever worker it waits on.
//!
//! The requests themselves wait in their worker's queue; here is only what the
//! workers know of each other: how many places are taken, and per worker how many requests wait
//! and how many places it was granted and has not handed out yet. A place that is given back while
//! requests wait stays taken and becomes a grant to one worker. A grant and the wish it answers
//! change hands in one compare-and-swap, so that neither can be lost.
//!
//! Places may be held by what is not in use, such as idle connections. Then a request that has to
//! wait has the workers that hold such places told, and they give them up.
//!
//! No lock. The counts are sequentially consistent: a request announces itself before it looks at
//! the places for the last time, and whoever gives a place back looks for requests only
//! afterwards, so one of them sees the other.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::telemetry::WorkerId;

/// Places shared by all workers. A clone of the handle is the same turnstile.
#[derive(Debug)]
pub struct Turnstile {
    taken: Padded,
    limit: AtomicU32,
    /// Requests that wait, over all workers; never less than the lines tell.
    waiting: AtomicU32,
    most_waiting: AtomicU32,
    /// Requests that were turned away although places were held by idle connections.
    missed: AtomicU32,
    /// Counts grants: where the search for the next begins.
    turn: AtomicU32,
    lines: Box<[Line]>,
}

/// Two cache lines of its own, because the adjacent-line prefetcher fetches pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU32);

/// What one worker's requests want and got.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line {
    /// Requests that wait for a grant, and grants that wait for their worker; 32 bits each.
    counts: AtomicU64,
    /// Wakes the worker's queue.
    waker: AtomicWaker,
    /// Whether some of its places are held by what is not in use now.
    idle: AtomicBool,
    /// Has the worker give up such places.
    keeper: OnceLock<Arc<Notify>>,
}

/// Why a request cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Turnstile {
    /// The limit that is none.
    pub const UNLIMITED: u32 = u32::MAX;

    /// `limit` places, for which at most `most_waiting` requests wait.
    pub fn new(limit: u32, most_waiting: u32, workers: usize) -> Self {
        Self {
            taken: Padded::default(),
            limit: AtomicU32::new(limit),
            waiting: AtomicU32::new(0),
            most_waiting: AtomicU32::new(most_waiting),
            missed: AtomicU32::new(0),
            turn: AtomicU32::new(0),
            lines: (0..workers).map(|_| Line::default()).collect(),
        }
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        self.taken.0.load(Ordering::SeqCst)
    }

    /// How many places there are.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::SeqCst)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Changes how many places there are. Places beyond a smaller limit stay taken until they
    /// are given back, which those that are not in use are soon; new ones go to those who wait.
    pub fn set_limit(&self, limit: u32) {
        let before = self.limit.swap(limit, Ordering::SeqCst);
        match before.cmp(&limit) {
            std::cmp::Ordering::Less => self.hand_out(),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => self.call_idle(),
        }
    }

    /// Changes how many requests may wait. Those who do go on waiting.
    pub fn set_most_waiting(&self, most: u32) {
        self.most_waiting.store(most, Ordering::SeqCst);
    }

    /// Takes a place that is free and that nobody waits for; [`Turnstile::release`] gives it back.
    #[inline]
    pub fn try_take(&self) -> bool {
        self.waiting() == 0 && self.take()
    }

    /// Gives a place back.
    #[inline]
    pub fn release(&self) {
        self.taken.0.fetch_sub(1, Ordering::SeqCst);
        self.hand_out();
    }

    /// Announces a request of `worker` that waits. Each ends with a grant or with
    /// [`Turnstile::leave`]. `Ok(true)`: a place came free meanwhile and is taken; it does not
    /// wait at all.
    pub(super) fn join(&self, worker: WorkerId) -> Result<bool, Full> {
        let line = self.lines.get(worker.0).ok_or(Full)?;
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= self.most_waiting.load(Ordering::SeqCst) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            if self.lines.iter().any(Line::is_idle) {
                self.missed.fetch_add(1, Ordering::SeqCst);
                self.call_idle();
            }
            return Err(Full);
        }
        line.counts.fetch_add(WISH, Ordering::SeqCst);
        if self.take() {
            self.leave(worker);
            return Ok(true);
        }
        self.call_idle();
        Ok(false)
    }

    /// Takes back that a request of `worker` waits. Where all wishes of the worker are granted
    /// already, so is this one, and its place goes to somebody else.
    pub(super) fn leave(&self, worker: WorkerId) {
        let Some(line) = self.lines.get(worker.0) else { return };
        let left = line.counts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |counts| {
            Some(if counts >= WISH { counts - WISH } else { counts.saturating_sub(GRANT) })
        });
        if left.is_ok_and(|before| before >= WISH) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        } else {
            self.release();
        }
    }

    /// The grants of `worker` since it last asked: so many of its requests have a place.
    pub(super) fn collect(&self, worker: WorkerId) -> u32 {
        let Some(line) = self.lines.get(worker.0) else { return 0 };
        if line.counts.load(Ordering::SeqCst) as u32 == 0 {
            return 0;
        }
        line.counts.fetch_and(!GRANTS, Ordering::SeqCst) as u32
    }

    /// Has `waker` woken by the next grant to `worker`.
    pub(super) fn register(&self, worker: WorkerId, waker: &Waker) {
        if let Some(line) = self.lines.get(worker.0) {
            line.waker.register(waker);
        }
    }

    /// Wakes the queue of `worker`.
    pub(super) fn wake(&self, worker: WorkerId) {
        if let Some(line) = self.lines.get(worker.0) {
            line.waker.wake();
        }
    }

    /// Whether places that are held and not in use are wanted back.
    pub fn is_short(&self) -> bool {
        self.waiting() > 0 || self.taken() > self.limit()
    }

    /// How many requests were turned away since this was last asked although some places were not
    /// in use.
    pub fn take_missed(&self) -> u32 {
        self.missed.swap(0, Ordering::SeqCst)
    }

    /// Says that some places of `worker` are held by what is not in use now; `keeper` is told when
    /// they are wanted back.
    #[inline]
    pub fn note_idle(&self, worker: WorkerId, keeper: &Arc<Notify>) {
        let Some(line) = self.lines.get(worker.0) else { return };
        if !line.is_idle() {
            line.keeper.get_or_init(|| keeper.clone());
            line.idle.store(true, Ordering::SeqCst);
            // Whoever came to wait before could not know.
            if self.is_short() {
                keeper.notify_one();
            }
        }
    }

    /// Whether some places of `worker` may be held by what is not in use.
    pub fn has_idle(&self, worker: WorkerId) -> bool {
        self.lines.get(worker.0).is_some_and(Line::is_idle)
    }

    /// Says that all places of `worker` are in use.
    pub fn note_busy(&self, worker: WorkerId) {
        if let Some(line) = self.lines.get(worker.0) {
            line.idle.store(false, Ordering::SeqCst);
        }
    }

    /// Has workers give up places that are not in use.
    fn call_idle(&self) {
        let idle = self.lines.iter().filter(|line| line.is_idle());
        idle.filter_map(|line| line.keeper.get()).for_each(|keeper| keeper.notify_one());
    }

    fn take(&self) -> bool {
        let limit = self.limit();
        let more = |taken: u32| (taken < limit).then_some(taken + 1);
        self.taken.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Grants free places to those who wait, for as long as there are both.
    #[inline]
    fn hand_out(&self) {
        if self.waiting() != 0 {
            self.grant_free_places();
        }
    }

    #[cold]
    fn grant_free_places(&self) {
        while self.lines.iter().any(|line| line.wishes() > 0) && self.take() {
            match self.grant() {
                Some(line) => line.waker.wake(),
                // Nobody was left; whoever came while the place was held sees it free, or is
                // seen by the next round.
                None => drop(self.taken.0.fetch_sub(1, Ordering::SeqCst)),
            }
        }
    }

    /// Turns one wish into a grant: each worker's share is that of the requests that wait on it.
    fn grant(&self) -> Option<&Line> {
        // Multiplication by the golden ratio spreads successive numbers evenly (Knuth, TAOCP 3,
        // 6.4).
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
        let all: u64 = self.lines.iter().map(Line::wishes).sum();
        let mut ahead = (u64::from(turn) * all) >> 32;
        let chosen = self.lines.iter().find(|line| {
            let here = ahead < line.wishes();
            ahead = ahead.saturating_sub(line.wishes());
            here
        });
        let granted =
            chosen.filter(|line| line.grant()).or_else(|| self.lines.iter().find(|l| l.grant()));
        if granted.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        granted
    }
}

/// One request that waits.
const WISH: u64 = 1 << 32;
/// One grant.
const GRANT: u64 = 1;
/// All grants.
const GRANTS: u64 = WISH - 1;

impl Line {
    fn is_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst)
    }

    fn wishes(&self) -> u64 {
        self.counts.load(Ordering::SeqCst) / WISH
    }

    fn grant(&self) -> bool {
        let grant = |counts: u64| (counts >= WISH).then(|| counts - WISH + GRANT);
        self.counts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, grant).is_ok()
    }
}
