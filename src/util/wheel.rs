//! A worker's timers: a hashed wheel with coarse ticks, for deadlines that are set for every
//! request and almost never reached.
//!
//! Arming or moving a deadline is a store in the common case: an entry stays in the slot it is in
//! and is put where it belongs when that slot comes round. A deadline may be noticed up to one
//! tick late, never early. Single-threaded: it belongs to one worker and holds no lock.
//!
//! Algorithm: scheme 6 of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987),
//! with lazy re-insertion.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::util::alarm::Alarm;
use crate::util::moment::Moment;

/// The length of a tick.
const TICK: Duration = Duration::from_millis(10);
const TICK_NANOS: u64 = TICK.as_nanos() as u64;
/// Slots of the wheel; one round is `SLOTS * TICK`.
const SLOTS: usize = 512;
const NEVER: u64 = u64::MAX;

/// All timers of one worker.
pub struct Wheel {
    /// Its first tick.
    start: Moment,
    inner: RefCell<Inner>,
    /// Timers that are not in use but keep their entry, so that the next request finds one that
    /// already stands in a slot.
    spare: RefCell<Vec<usize>>,
    /// Those that do not wait for a tick, in their order.
    prompt: RefCell<BTreeMap<(Moment, u64), Waker>>,
    prompts: Cell<u64>,
    driver: RefCell<Option<Waker>>,
    /// The moment the driver sleeps until; a nearer deadline has to wake it.
    sleeping_until: Cell<u64>,
}

struct Inner {
    slots: Vec<Vec<usize>>,
    occupied: [u64; SLOTS / 64],
    entries: Vec<Entry>,
    free: Vec<usize>,
    /// The last tick that was processed.
    now: u64,
}

struct Entry {
    /// When the timer is due; `NEVER` while it is not armed.
    due: u64,
    /// The tick of the slot that holds this entry; `NEVER` when none does.
    scheduled: u64,
    waker: Option<Waker>,
}

impl Wheel {
    /// An empty wheel that starts now.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            start: Moment::now(),
            inner: RefCell::new(Inner {
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                occupied: [0; SLOTS / 64],
                entries: Vec::new(),
                free: Vec::new(),
                now: 0,
            }),
            spare: RefCell::new(Vec::new()),
            prompt: RefCell::default(),
            prompts: Cell::new(0),
            driver: RefCell::new(None),
            sleeping_until: Cell::new(NEVER),
        })
    }

    /// A timer that is not armed.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let key = self.spare.borrow_mut().pop().unwrap_or_else(|| self.inner.borrow_mut().insert());
        Timer { wheel: self.clone(), key }
    }

    /// Fires due timers as time goes by, woken by `alarm`; runs as long as the worker does.
    ///
    /// # Errors
    /// Those of the alarm.
    pub async fn drive(self: Rc<Self>, alarm: Alarm) -> io::Result<()> {
        loop {
            let now = Moment::now();
            self.advance(now);
            let next = self.next_due();
            self.sleeping_until.set(next);
            if next != NEVER {
                alarm.set(Moment(next).since(now))?;
            }
            std::future::poll_fn(|cx| self.poll_awake(&alarm, next, cx)).await?;
        }
    }

    /// Ready when `next` has come, or something is due before.
    fn poll_awake(&self, alarm: &Alarm, next: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sleeping_until.get() < next {
            return Poll::Ready(Ok(()));
        }
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
        alarm.poll_rung(cx)
    }

    /// Waits for so long, to the tick.
    pub async fn sleep(self: &Rc<Self>, pause: Duration) {
        let mut timer = self.timer();
        timer.arm(pause);
        std::future::poll_fn(|cx| timer.poll_due(cx)).await;
    }

    /// `future`, given up after `limit`, which is kept to the millisecond and not to the tick. It
    /// costs more than [`timeout`].
    pub async fn promptly<F: Future>(
        &self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = std::pin::pin!(future);
        let mut prompt = Prompt { wheel: self, key: None };
        let due = Moment::now().after(limit);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if Moment::now() >= due {
                return Poll::Ready(Err(Elapsed));
            }
            prompt.wait(due, cx);
            Poll::Pending
        })
        .await
    }

    /// Fires everything due at `now`.
    fn advance(&self, now: Moment) {
        let tick = self.floor(now);
        let mut woken = Vec::new();
        self.inner.borrow_mut().advance(tick, &mut woken);
        let mut prompt = self.prompt.borrow_mut();
        while let Some(first) = prompt.first_entry()
            && first.key().0 <= now
        {
            woken.push(first.remove());
        }
        drop(prompt);
        // Wakers run foreign code: never under the borrow.
        for waker in woken {
            waker.wake();
        }
    }

    /// When something is due next, in nanoseconds of a [`Moment`]; `NEVER` where nothing is.
    fn next_due(&self) -> u64 {
        let tick = self.inner.borrow().next_occupied().map(|tick| self.moment_of(tick));
        let prompt = self.prompt.borrow().keys().next().map(|(at, _)| *at);
        tick.into_iter().chain(prompt).min().map_or(NEVER, |at| at.0)
    }

    fn moment_of(&self, tick: u64) -> Moment {
        self.start.after(since_start(tick))
    }

    fn floor(&self, at: Moment) -> u64 {
        at.0.saturating_sub(self.start.0) / TICK_NANOS
    }

    fn wake_driver_for(&self, due: Moment) {
        if due.0 < self.sleeping_until.get() {
            self.sleeping_until.set(due.0);
            if let Some(waker) = self.driver.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A wait of [`Wheel::promptly`].
struct Prompt<'a> {
    wheel: &'a Wheel,
    key: Option<(Moment, u64)>,
}

impl Prompt<'_> {
    fn wait(&mut self, due: Moment, cx: &Context<'_>) {
        let number = &self.wheel.prompts;
        let key = *self.key.get_or_insert_with(|| {
            number.set(number.get() + 1);
            (due, number.get())
        });
        self.wheel.prompt.borrow_mut().insert(key, cx.waker().clone());
        self.wheel.wake_driver_for(due);
    }
}

impl Drop for Prompt<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.wheel.prompt.borrow_mut().remove(&key);
        }
    }
}

impl Inner {
    fn insert(&mut self) -> usize {
        let entry = Entry { due: NEVER, scheduled: NEVER, waker: None };
        match self.free.pop() {
            Some(key) => {
                if let Some(slot) = self.entries.get_mut(key) {
                    *slot = entry;
                }
                key
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    fn schedule(&mut self, key: usize, tick: u64) {
        // A tick that is over is processed at the next one.
        let tick = tick.max(self.now + 1);
        let slot = slot_of(tick);
        if let (Some(entry), Some(keys)) = (self.entries.get_mut(key), self.slots.get_mut(slot)) {
            entry.scheduled = tick;
            keys.push(key);
            if let Some(word) = self.occupied.get_mut(slot / 64) {
                *word |= 1 << (slot % 64);
            }
        }
    }

    fn advance(&mut self, tick: u64, woken: &mut Vec<Waker>) {
        if tick <= self.now {
            return;
        }
        let from = self.now + 1;
        self.now = tick;
        // After a long sleep every slot has come round once.
        let last = tick.min(from + SLOTS as u64 - 1);
        for t in from..=last {
            self.visit(slot_of(t), woken);
        }
    }

    fn visit(&mut self, slot: usize, woken: &mut Vec<Waker>) {
        let Some(keys) = self.slots.get_mut(slot) else { return };
        if keys.is_empty() {
            return;
        }
        let mut keys = std::mem::take(keys);
        if let Some(word) = self.occupied.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
        let mut kept = Vec::new();
        for key in keys.drain(..) {
            let now = self.now;
            let Some(entry) = self.entries.get_mut(key) else { continue };
            if entry.scheduled == NEVER || slot_of(entry.scheduled) != slot {
                continue; // left behind by an entry that moved or was freed
            }
            if entry.scheduled > now {
                kept.push(key); // a later round
            } else if entry.due <= now {
                entry.scheduled = NEVER;
                woken.extend(entry.waker.take());
            } else if entry.due == NEVER {
                entry.scheduled = NEVER;
            } else {
                let due = entry.due;
                self.schedule(key, due);
            }
        }
        if let Some(slots) = self.slots.get_mut(slot) {
            if slots.is_empty() {
                keys.append(&mut kept);
                *slots = keys; // keeps the allocation
            } else {
                slots.append(&mut kept);
            }
            if !slots.is_empty()
                && let Some(word) = self.occupied.get_mut(slot / 64)
            {
                *word |= 1 << (slot % 64);
            }
        }
    }

    /// The next tick whose slot holds anything.
    fn next_occupied(&self) -> Option<u64> {
        let first = self.now + 1;
        let (start_word, start_bit) = (slot_of(first) / 64, slot_of(first) % 64);
        let words = self.occupied.len();
        for step in 0..=words {
            let index = (start_word + step) % words;
            let mut word = *self.occupied.get(index)?;
            if step == 0 {
                word &= !0 << start_bit;
            } else if step == words {
                word &= !(!0 << start_bit);
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - slot_of(first)) % SLOTS;
                return Some(first + ahead as u64);
            }
        }
        None
    }
}

/// When `tick` comes. In 64 bits: 32 would end after 497 days.
fn since_start(tick: u64) -> Duration {
    Duration::from_millis(tick.saturating_mul(TICK.as_millis() as u64))
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

/// One deadline, moved as often as wanted. Dropping it disarms it.
pub struct Timer {
    wheel: Rc<Wheel>,
    key: usize,
}

impl Timer {
    /// Sets the deadline to `after` from now.
    pub fn arm(&mut self, after: Duration) {
        self.arm_at(Moment::now().after(after));
    }

    /// Sets the deadline to `at`.
    pub fn arm_at(&mut self, at: Moment) {
        let due = self.wheel.floor(at) + 1; // never early
        let mut inner = self.wheel.inner.borrow_mut();
        let Some(entry) = inner.entries.get_mut(self.key) else { return };
        entry.due = due;
        if entry.scheduled > due {
            inner.schedule(self.key, due);
            drop(inner);
            self.wheel.wake_driver_for(self.wheel.moment_of(due));
        }
    }

    /// Takes the deadline away.
    pub fn disarm(&mut self) {
        if let Some(entry) = self.wheel.inner.borrow_mut().entries.get_mut(self.key) {
            entry.due = NEVER;
            entry.waker = None;
        }
    }

    /// Whether a deadline is set.
    pub fn is_armed(&self) -> bool {
        self.wheel.inner.borrow().entries.get(self.key).is_some_and(|e| e.due != NEVER)
    }

    /// Ready once the deadline has passed; pending for ever while none is set.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.wheel.inner.borrow_mut();
        let now = inner.now;
        let Some(entry) = inner.entries.get_mut(self.key) else { return Poll::Pending };
        if entry.due <= now {
            return Poll::Ready(());
        }
        if !entry.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        const SPARE: usize = 4096;
        self.disarm();
        let mut spare = self.wheel.spare.borrow_mut();
        if spare.len() < SPARE {
            spare.push(self.key);
            return;
        }
        let mut inner = self.wheel.inner.borrow_mut();
        if let Some(entry) = inner.entries.get_mut(self.key) {
            entry.scheduled = NEVER;
        }
        inner.free.push(self.key);
    }
}

/// The deadline passed before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

pin_project! {
    /// A future with an optional deadline; see [`timeout`].
    pub struct Timeout<F> {
        #[pin]
        future: F,
        wheel: Rc<Wheel>,
        limit: Option<Duration>,
        timer: Option<Timer>,
    }
}

/// `future`, given up after `limit`. The timer is taken from the wheel only once the future is
/// found pending.
pub fn timeout<F: Future>(wheel: &Rc<Wheel>, limit: Option<Duration>, future: F) -> Timeout<F> {
    Timeout { future, wheel: wheel.clone(), limit, timer: None }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let Some(limit) = *this.limit else { return Poll::Pending };
        let timer = this.timer.get_or_insert_with(|| {
            let mut timer = this.wheel.timer();
            timer.arm(limit);
            timer
        });
        timer.poll_due(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fired(timer: &mut Timer) -> bool {
        timer.poll_due(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn ticks_come_when_they_are_due_after_more_than_497_days() {
        let tick = u64::from(u32::MAX) + 100;
        assert_eq!(since_start(tick) - since_start(tick - 1), TICK);
    }

    proptest! {
        /// Against a model that only remembers each timer's deadline.
        #[test]
        fn a_timer_is_due_at_its_last_deadline_and_never_before(
            steps in prop::collection::vec((0usize..4, 0u64..20_000, 0u64..3_000), 1..60)
        ) {
            let wheel = Wheel::new();
            let mut timers: Vec<Timer> = (0..4).map(|_| wheel.timer()).collect();
            let mut model: Vec<Option<u64>> = vec![None; 4];
            let mut now = 0u64;
            for (which, delay, pass) in steps {
                timers[which].arm_at(wheel.start.after(Duration::from_millis(now + delay)));
                model[which] = Some(now + delay);
                for timer in &mut timers {
                    fired(timer); // registers a waker, as a task would
                }
                now += pass;
                wheel.advance(wheel.start.after(Duration::from_millis(now)));
                for (timer, due) in timers.iter_mut().zip(&model) {
                    let due = due.map(|ms| ms / 10 + 1);
                    prop_assert_eq!(fired(timer), due.is_some_and(|tick| tick <= now / 10));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_pending_future_is_given_up_after_its_limit() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let wheel = Wheel::new();
                let driver = tokio::task::spawn_local(wheel.clone().drive(Alarm::new().unwrap()));
                let limit = Some(Duration::from_millis(100));
                let given_up = timeout(&wheel, limit, std::future::pending::<()>());
                assert_eq!(given_up.await, Err(Elapsed));
                assert_eq!(timeout(&wheel, limit, async { 7 }).await, Ok(7));
                // Before the next tick, beside one that sleeps for long.
                let (began, limit) = (Moment::now(), Duration::from_millis(3));
                let prompt = wheel.promptly(limit, wheel.sleep(Duration::from_secs(3600)));
                assert_eq!(prompt.await, Err(Elapsed));
                assert!(began.elapsed() >= limit);
                assert_eq!(wheel.promptly(limit, async { 7 }).await, Ok(7));
                assert!(wheel.prompt.borrow().is_empty(), "what is over is forgotten");
                driver.abort();
            })
            .await;
    }
}
