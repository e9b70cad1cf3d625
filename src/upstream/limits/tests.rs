//! Places and queues: a model, and many threads at once.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Notify;

use super::*;
use crate::telemetry::WorkerId;
use crate::util::random::Random;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request of this worker wants a place, and waits where there is none.
    Come(usize),
    /// One that waits on this worker gives up.
    GiveUp(usize),
    /// One that has a place gives it back.
    Finish,
    /// This worker looks what it was granted.
    Look(usize),
    Limit(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3).prop_map(Step::Come),
        2 => (0usize..3).prop_map(Step::GiveUp),
        4 => Just(Step::Finish),
        3 => (0usize..3).prop_map(Step::Look),
        1 => (1u32..6).prop_map(Step::Limit),
    ]
}

proptest! {
    /// A model that counts: no place stays free while somebody waits, none is given twice, none
    /// is lost.
    #[test]
    fn a_free_place_goes_to_somebody_who_waits(
        limit in 1u32..5,
        most in 0u32..6,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let turnstile = Turnstile::new(limit, most, 3);
        // Who waits (granted or not, as far as the worker knows), and who has a place.
        let (mut waiting, mut holding) = ([0u32; 3], 0u32);
        for step in steps {
            match step {
                Step::Come(worker) => {
                    if turnstile.try_take() {
                        holding += 1;
                    } else {
                        match turnstile.join(WorkerId(worker)) {
                            Ok(true) => holding += 1,
                            Ok(false) => waiting[worker] += 1,
                            Err(Full) => prop_assert!(turnstile.waiting() >= most),
                        }
                    }
                }
                Step::GiveUp(worker) if waiting[worker] > 0 => {
                    turnstile.leave(WorkerId(worker));
                    waiting[worker] -= 1;
                }
                Step::Finish if holding > 0 => {
                    holding -= 1;
                    turnstile.release();
                }
                Step::Look(worker) => {
                    let granted = turnstile.collect(WorkerId(worker));
                    prop_assert!(granted <= waiting[worker]);
                    waiting[worker] -= granted;
                    holding += granted;
                }
                Step::Limit(limit) => turnstile.set_limit(limit),
                Step::GiveUp(_) | Step::Finish => {}
            }
            prop_assert!(turnstile.waiting() == 0 || turnstile.taken() >= turnstile.limit());
            // Granted and not looked at yet is taken as well.
            let granted = waiting.iter().sum::<u32>() - turnstile.waiting();
            prop_assert_eq!(turnstile.taken(), holding + granted);
        }
    }
}

/// What the threads of a stress test share.
struct Stress {
    turnstile: Arc<Turnstile>,
    inside: AtomicU32,
    most: AtomicU32,
    served: AtomicUsize,
    given_up: AtomicUsize,
    refused: AtomicUsize,
}

async fn one_request(shared: &Stress, queues: &Rc<Queues>, random: &RefCell<Random>) {
    let below = |limit: usize| random.borrow_mut().below(limit);
    let place = match Place::take(&shared.turnstile) {
        Some(place) => place,
        None => match queues.wait(&shared.turnstile, Moment::now()) {
            Err(Full) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(wait) if below(4) == 0 => {
                let patience = Duration::from_micros(below(300) as u64);
                match tokio::time::timeout(patience, wait).await {
                    Ok(place) => place,
                    Err(_) => {
                        shared.given_up.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                }
            }
            Ok(wait) => wait.await,
        },
    };
    let inside = shared.inside.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most.fetch_max(inside, Ordering::SeqCst);
    for _ in 0..below(4) {
        tokio::task::yield_now().await;
    }
    shared.inside.fetch_sub(1, Ordering::SeqCst);
    drop(place);
    shared.served.fetch_add(1, Ordering::Relaxed);
}

fn stress(limit: u32, pending: u32, tasks: usize, rounds: usize, seed: u64) {
    const WORKERS: usize = 4;
    let shared = Arc::new(Stress {
        turnstile: Arc::new(Turnstile::new(limit, pending, WORKERS)),
        inside: AtomicU32::new(0),
        most: AtomicU32::new(0),
        served: AtomicUsize::new(0),
        given_up: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
    });
    let threads: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let runtime = runtime.expect("a runtime");
                let local = tokio::task::LocalSet::new();
                let queues = Rc::new(Queues::new(WorkerId(worker)));
                let random = Rc::new(RefCell::new(Random::new(seed ^ worker as u64)));
                local.block_on(&runtime, async move {
                    let running: Vec<_> = (0..tasks)
                        .map(|_| {
                            let (shared, queues) = (shared.clone(), queues.clone());
                            let random = random.clone();
                            tokio::task::spawn_local(async move {
                                for _ in 0..rounds {
                                    one_request(&shared, &queues, &random).await;
                                    tokio::task::yield_now().await;
                                }
                            })
                        })
                        .collect();
                    for task in running {
                        let done = tokio::time::timeout(Duration::from_secs(60), task).await;
                        done.expect("no wake-up is lost").expect("no panic");
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap_or_else(|_| panic!("seed {seed}, limit {limit}"));
    }
    let (turnstile, served) = (&shared.turnstile, shared.served.load(Ordering::Relaxed));
    assert_eq!((turnstile.taken(), turnstile.waiting()), (0, 0), "seed {seed}");
    assert!(shared.most.load(Ordering::Relaxed) <= limit, "seed {seed}");
    let lost = shared.given_up.load(Ordering::Relaxed) + shared.refused.load(Ordering::Relaxed);
    assert_eq!(served + lost, WORKERS * tasks * rounds, "seed {seed}");
    assert!(served > 0);
}

#[test]
fn many_threads_share_places_and_nobody_waits_for_ever() {
    for (seed, (limit, pending)) in
        [(1, 1_000), (2, 1_000), (3, 8), (7, 1_000), (1, 3), (30, 1_000)].into_iter().enumerate()
    {
        stress(limit, pending, 12, 150, seed as u64);
    }
}

fn on_a_worker<F: Future<Output = ()>>(test: impl FnOnce(Rc<Queues>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime"), test(Rc::new(Queues::new(WorkerId(0)))));
}

/// The order in which three requests that came one after the other get their places, when the
/// first one is free `after` they came.
fn order(after: Duration) -> Vec<usize> {
    let order = Rc::new(RefCell::new(Vec::new()));
    on_a_worker(async |queues| {
        let turnstile = Arc::new(Turnstile::new(1, 10, 1));
        let held = Place::take(&turnstile);
        let came = Moment(Moment::now().0.saturating_sub(after.as_nanos() as u64));
        let waits: Vec<_> = (0..3)
            .map(|number| {
                let wait = queues.wait(&turnstile, came).expect("there is room");
                let order = order.clone();
                tokio::task::spawn_local(async move {
                    let _place = wait.await;
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        for wait in waits {
            wait.await.expect("no panic");
        }
    });
    order.take()
}

#[test]
fn the_first_to_come_is_the_first_served_until_the_queue_stays_full() {
    assert_eq!(order(Duration::ZERO), [0, 1, 2]);
    assert_eq!(order(Duration::from_secs(1)), [2, 1, 0]);
}

#[test]
fn a_queue_goes_when_nobody_waits_in_it() {
    on_a_worker(async |queues| {
        let turnstile = Arc::new(Turnstile::new(1, 10, 1));
        let held = Place::take(&turnstile);
        let wait = queues.wait(&turnstile, Moment::now()).expect("there is room");
        tokio::task::yield_now().await;
        drop(wait);
        while !queues.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!((turnstile.waiting(), Arc::strong_count(&turnstile)), (0, 2));
        drop(held);
    });
}

fn connections(limit: Option<u32>) -> UpstreamLimits {
    UpstreamLimits { connections: limit, ..UpstreamLimits::default() }
}

#[test]
fn places_of_connections_stay_taken_whatever_the_limit_is() {
    let places = ConnectionPlaces::default();
    assert!(places.settle(&connections(None), 1).is_none() && places.limited().is_none());
    let first = places.settle(&connections(Some(2)), 1).expect("a limit");
    let held = Place::take(&first);
    assert!(places.settle(&connections(None), 1).is_none() && places.limited().is_none());
    let second = places.settle(&connections(Some(1)), 1).expect("a limit");
    assert_eq!((second.taken(), second.limit()), (1, 1));
    assert!(Arc::ptr_eq(places.limited().expect("a limit"), &second));
    assert!(Place::take(&second).is_none());
    drop(held);
    assert!(Place::take(&second).is_some());
}

/// Two workers that ask for the only place in turn, each while the other keeps it without a use for
/// it.
struct Keepers {
    turnstile: Arc<Turnstile>,
    turns: [Notify; 2],
}

impl Keepers {
    /// Gives up what `worker` keeps in `idle` when the other wants it.
    async fn give_up(&self, worker: WorkerId, idle: &RefCell<Vec<Place>>, keeper: &Notify) {
        loop {
            keeper.notified().await;
            let mut missed = self.turnstile.take_missed();
            while missed > 0 || self.turnstile.is_short() {
                missed = missed.saturating_sub(1);
                if idle.borrow_mut().pop().is_none() {
                    self.turnstile.note_busy(worker);
                    break;
                }
            }
        }
    }

    async fn ask(&self, worker: WorkerId, idle: &RefCell<Vec<Place>>, keeper: &Arc<Notify>) {
        let queues = Rc::new(Queues::new(worker));
        for _ in 0..1_000 {
            self.turns[worker.0].notified().await;
            let mut place = idle.borrow_mut().pop().or_else(|| Place::take(&self.turnstile));
            while place.is_none() {
                match queues.wait(&self.turnstile, Moment::now()) {
                    Ok(wait) => place = Some(wait.await),
                    // The next one finds what this one had the other worker asked for.
                    Err(Full) => tokio::task::yield_now().await,
                }
                place = place.or_else(|| Place::take(&self.turnstile));
            }
            self.turns[1 - worker.0].notify_one();
            if self.turnstile.waiting() == 0 {
                idle.borrow_mut().extend(place);
                self.turnstile.note_idle(worker, keeper);
            }
        }
    }

    async fn work(&self, worker: WorkerId) {
        let (idle, keeper) = (RefCell::default(), Arc::default());
        let asked = self.ask(worker, &idle, &keeper);
        let given_up = self.give_up(worker, &idle, &keeper);
        tokio::select! {
            () = asked => {}
            () = given_up => {}
        }
    }
}

#[test]
fn whoever_waits_gets_the_place_that_another_worker_keeps_and_does_not_use() {
    for pending in [10, 0] {
        let turnstile = Arc::new(Turnstile::new(1, pending, 2));
        let shared = Arc::new(Keepers { turnstile, turns: Default::default() });
        shared.turns[0].notify_one();
        let workers = [0, 1].map(|worker| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                let local = tokio::task::LocalSet::new();
                let work = shared.work(WorkerId(worker));
                local.block_on(&runtime.expect("a runtime"), async {
                    let done = tokio::time::timeout(Duration::from_secs(60), work).await;
                    done.expect("no call for the place is lost");
                });
            })
        });
        for worker in workers {
            worker.join().unwrap_or_else(|_| panic!("{pending} may wait"));
        }
        assert_eq!((shared.turnstile.taken(), shared.turnstile.waiting()), (0, 0));
    }
}

fn of(spec: &UpstreamLimits) -> Limits {
    Limits::new(spec, 1, &ConnectionPlaces::default())
}

#[test]
fn the_places_of_requests_are_the_least_that_any_limit_allows() {
    let spec = UpstreamLimits {
        requests: Some(10),
        requests_per_endpoint: Some(3),
        ..UpstreamLimits::default()
    };
    let limits = of(&spec);
    assert_eq!(limits.concurrency(), Some(10), "no endpoint is another matter");
    limits.set_endpoints(2);
    assert_eq!(limits.concurrency(), Some(6));
    limits.set_endpoints(5);
    assert_eq!(limits.concurrency(), Some(10));
    assert!(of(&UpstreamLimits::default()).requests.is_none());
}

#[test]
fn retries_beyond_their_limit_are_refused() {
    let spec = UpstreamLimits { retries: Some(1), ..UpstreamLimits::default() };
    let limits = of(&spec);
    let first = limits.retry().expect("one may");
    assert!(limits.retry().is_err());
    drop(first);
    assert!(limits.retry().is_ok());
}
