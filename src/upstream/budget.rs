//! How much more than it was asked to do an upstream is made to do: retries, and second attempts
//! of slow requests, as a share of the requests of the last ten seconds.
//!
//! After the retry budget of Finagle and tower (10 s in 10 slots, 20 % and 10 a second), counted
//! rather than leaked. Requests are counted by each worker for itself, so that a request costs no
//! shared cache line; the rare withdrawal adds the workers up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ir::Permille;
use crate::telemetry::WorkerId;
use crate::util::moment::Moment;

/// Slots of the window.
const SLOTS: u64 = 10;
/// The length of a slot, nanoseconds.
const SLOT: u64 = 1_000_000_000;
/// One attempt, in the thousandths that the balance is kept in.
const ATTEMPT: u64 = 1_000;

/// A budget of further attempts, shared by all workers.
#[derive(Debug)]
pub struct Budget {
    /// What each request of the window adds, in thousandths of an attempt.
    ratio: u64,
    /// What is there without any request, in thousandths of an attempt.
    reserve: u64,
    /// Of each worker that ever sent a request: most upstreams of a large cluster are idle.
    requests: Box<[OnceLock<Box<Window>>]>,
    withdrawn: OnceLock<Box<Window>>,
}

/// Counts of the last slots: each packs the number of its slot and a count. Two cache lines,
/// because the adjacent-line prefetcher fetches pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Window([AtomicU64; SLOTS as usize]);

impl Budget {
    /// A budget of `ratio` of the requests of ten seconds, and of `min_per_second`
    /// attempts a second beside, taken over the same ten seconds.
    pub fn new(ratio: Permille, min_per_second: u32, workers: usize) -> Self {
        let requests = (0..workers).map(|_| OnceLock::new()).collect();
        let reserve = u64::from(min_per_second) * SLOTS * ATTEMPT;
        Self { ratio: u64::from(ratio.0), reserve, requests, withdrawn: OnceLock::new() }
    }

    /// Counts a request.
    #[inline]
    pub fn deposit(&self, worker: WorkerId, now: Moment) {
        if let Some(window) = self.requests.get(worker.0) {
            window.get_or_init(Box::default).add(slot_of(now));
        }
    }

    /// How many further attempts were made in the window, and how many more it allows now; for
    /// status pages.
    pub fn spent_and_left(&self, now: Moment) -> (u64, u64) {
        let slot = slot_of(now);
        let spent = self.withdrawn.get().map_or(0, |withdrawn| withdrawn.sum(slot));
        (spent, self.most(slot).saturating_sub(spent.saturating_mul(ATTEMPT)) / ATTEMPT)
    }

    /// What the window up to `slot` allows in all, in thousandths of an attempt.
    fn most(&self, slot: u32) -> u64 {
        let windows = self.requests.iter().filter_map(OnceLock::get);
        let requests: u64 = windows.map(|window| window.sum(slot)).sum();
        self.reserve.saturating_add(self.ratio.saturating_mul(requests))
    }

    /// Takes one further attempt out; `false` where the budget is used up.
    pub fn withdraw(&self, now: Moment) -> bool {
        let slot = slot_of(now);
        let most = self.most(slot);
        let withdrawn = self.withdrawn.get_or_init(Box::default);
        let Some(cell) = withdrawn.cell(slot) else { return false };
        let mut before = cell.load(Ordering::Acquire);
        loop {
            let spent = withdrawn.sum(slot).saturating_add(1).saturating_mul(ATTEMPT);
            if spent > most {
                return false;
            }
            let after = counted(before, slot);
            match cell.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => before = now,
            }
        }
    }
}

impl Window {
    fn cell(&self, slot: u32) -> Option<&AtomicU64> {
        self.0.get((u64::from(slot) % SLOTS) as usize)
    }

    /// Adds one; only one thread may.
    #[inline]
    fn add(&self, slot: u32) {
        if let Some(cell) = self.cell(slot) {
            cell.store(counted(cell.load(Ordering::Relaxed), slot), Ordering::Relaxed);
        }
    }

    /// What was counted in the window that ends with `slot`.
    fn sum(&self, slot: u32) -> u64 {
        let cells = self.0.iter().map(|cell| unpack(cell.load(Ordering::Acquire)));
        let recent = cells.filter(|(of, _)| u64::from(*of) + SLOTS > u64::from(slot));
        recent.map(|(_, count)| u64::from(count)).sum()
    }
}

/// `cell` with one more counted in `slot`. What a thread counts a little late goes where its
/// cell has moved on to.
#[inline]
fn counted(cell: u64, slot: u32) -> u64 {
    let (of, count) = unpack(cell);
    if of >= slot { pack(of, count.saturating_add(1)) } else { pack(slot, 1) }
}

#[inline]
fn pack(slot: u32, count: u32) -> u64 {
    u64::from(slot) << 32 | u64::from(count)
}

#[inline]
fn unpack(cell: u64) -> (u32, u32) {
    ((cell >> 32) as u32, cell as u32)
}

/// The number of the slot; 32 bits of seconds are 136 years.
#[inline]
fn slot_of(now: Moment) -> u32 {
    (now.0 / SLOT) as u32
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Request(usize),
        Pass(u64),
        Retry,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0usize..3).prop_map(Step::Request),
            4 => Just(Step::Retry),
            2 => (0u64..1_500).prop_map(Step::Pass),
            1 => (5_000u64..25_000).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a model that remembers when everything happened.
        #[test]
        fn retries_are_a_share_of_the_requests_of_ten_seconds_and_a_floor(
            ratio in 0u32..=1_500,
            min in 0u32..3,
            steps in prop::collection::vec(step(), 1..400),
        ) {
            let budget = Budget::new(Permille(ratio), min, 3);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let mut now = 1_000u64;
            for step in steps {
                match step {
                    Step::Pass(millis) => now += millis,
                    Step::Request(worker) => {
                        budget.deposit(WorkerId(worker), at(now));
                        requests.push(now / 1_000);
                    }
                    Step::Retry => {
                        let recent = |times: &[u64]| {
                            times.iter().filter(|time| **time + 10 > now / 1_000).count() as u64
                        };
                        let most = u64::from(min) * 10_000 + u64::from(ratio) * recent(&requests);
                        let left = most.saturating_sub(recent(&retries) * 1_000) / 1_000;
                        let spent = recent(&retries);
                        prop_assert_eq!(budget.spent_and_left(at(now)), (spent, left));
                        let allowed = (recent(&retries) + 1) * 1_000 <= most;
                        prop_assert_eq!(budget.withdraw(at(now)), allowed);
                        if allowed {
                            retries.push(now / 1_000);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_upstream_that_fails_every_request_sees_a_fifth_more() {
        let budget = Budget::new(Permille(200), 10, 2);
        let mut attempts = 0u32;
        // 1,000 requests a second for a minute, each of which would be repeated twice.
        for request in 0..60_000u64 {
            let now = Moment::default().after(Duration::from_micros(1_000_000 + request * 1_000));
            budget.deposit(WorkerId((request % 2) as usize), now);
            attempts += 1;
            for _ in 0..2 {
                attempts += u32::from(budget.withdraw(now));
            }
        }
        assert!(attempts <= 72_000 + 7 * 100, "{attempts}");
        assert!(attempts >= 71_000, "the budget is there to be used: {attempts}");
    }

    #[test]
    fn workers_together_never_take_more_than_there_is() {
        let budget = Budget::new(Permille(500), 0, 4);
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (budget, taken) = (&budget, &taken);
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        budget.deposit(WorkerId(worker), at(5_000));
                        for _ in 0..3 {
                            taken.fetch_add(
                                usize::from(budget.withdraw(at(5_000))),
                                Ordering::Relaxed,
                            );
                        }
                    }
                });
            }
        });
        let taken = taken.into_inner();
        assert!(taken <= 2_000, "{taken}");
        assert!(!budget.withdraw(at(5_000)) || taken < 2_000);
    }
}
