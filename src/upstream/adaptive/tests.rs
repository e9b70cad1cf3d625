//! The limit against a simulated server in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::util::random::Random;

/// A server with `cores` that each take `service` for a request (more or less, by up to a fifth),
/// behind a queue without end, and a limit before it that sheds.
struct Simulation {
    adaptive: Adaptive,
    random: Random,
    now: u64,
    /// Nanoseconds a request takes of a core.
    service: u64,
    /// When each core is free.
    cores: Vec<u64>,
    /// When requests end, and when they came.
    running: BinaryHeap<Reverse<(u64, u64)>>,
    served: u64,
    shed: u64,
}

impl Simulation {
    fn new(spec: AdaptiveConcurrency, cores: usize, service: Duration) -> Self {
        Self {
            adaptive: Adaptive::new(spec),
            random: Random::new(7),
            now: 1,
            service: service.as_nanos() as u64,
            cores: vec![0; cores],
            running: BinaryHeap::new(),
            served: 0,
            shed: 0,
        }
    }

    /// Lets requests come at `rate` a second for `time`.
    fn run(&mut self, rate: f64, time: Duration) {
        (self.served, self.shed) = (0, 0);
        let end = self.now + time.as_nanos() as u64;
        loop {
            // Poisson arrivals.
            let pause = -(1.0 - self.random.unit()).ln() / rate * 1e9;
            let arrival = self.now + pause as u64;
            if arrival > end {
                break;
            }
            self.finish_until(arrival);
            self.now = arrival;
            self.arrive();
        }
        self.finish_until(end);
        self.now = end;
    }

    fn finish_until(&mut self, until: u64) {
        while let Some(Reverse((end, came))) = self.running.peek().copied()
            && end <= until
        {
            let in_flight = self.running.len() as u32;
            self.running.pop();
            let latency = Duration::from_nanos(end - came);
            let seen = Observation { in_flight: 0, latency, verdict: Verdict::Responded(200) };
            self.adaptive.observe(seen, in_flight, Moment(end));
            self.served += 1;
        }
    }

    fn arrive(&mut self) {
        if self.running.len() >= self.adaptive.limit() as usize {
            self.shed += 1;
            return;
        }
        let core = self.cores.iter_mut().min().expect("there are cores");
        let spread = 0.8 + 0.4 * self.random.unit();
        let end = (*core).max(self.now) + (self.service as f64 * spread) as u64;
        *core = end;
        self.running.push(Reverse((end, self.now)));
    }

    fn limit(&self) -> u32 {
        self.adaptive.limit()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn under_overload_the_limit_settles_near_what_the_server_can_do_at_once() {
    // 20 at a time for 50 ms each: 400 a second, and by Little's law 20 in flight.
    let mut server = Simulation::new(AdaptiveConcurrency::default(), 20, Duration::from_millis(50));
    server.run(200.0, MINUTE);
    server.run(1_200.0, 2 * MINUTE);
    let limit = server.limit();
    assert!((20..=45).contains(&limit), "20 would be ideal, tolerance 1.5 allows 30: {limit}");
    let rate = server.served as f64 / 120.0;
    assert!(rate > 390.0, "the server stays busy: {rate}");
    assert!(server.shed as f64 > 0.6 * 1_200.0 * 120.0, "the rest is shed: {}", server.shed);
}

#[test]
fn under_lasting_overload_the_limit_does_not_learn_its_own_queue() {
    let mut server = Simulation::new(AdaptiveConcurrency::default(), 20, Duration::from_millis(50));
    server.run(200.0, MINUTE);
    server.run(1_200.0, 2 * MINUTE);
    let early = server.limit();
    server.run(1_200.0, 8 * MINUTE);
    let late = server.limit();
    assert!(late < early * 2, "after ten minutes {late}, after two {early}");
}

#[test]
fn below_its_capacity_nothing_is_shed_and_the_limit_makes_room() {
    let spec = AdaptiveConcurrency { initial: 4, ..AdaptiveConcurrency::default() };
    let mut server = Simulation::new(spec, 100, Duration::from_millis(50));
    server.run(1_000.0, MINUTE);
    server.run(1_000.0, MINUTE);
    assert_eq!(server.shed, 0, "limit {}", server.limit());
    assert!(server.limit() >= 50, "{}", server.limit());
}

#[test]
fn a_server_that_slows_down_is_given_less_and_then_as_much_as_before() {
    let mut server = Simulation::new(AdaptiveConcurrency::default(), 40, Duration::from_millis(20));
    server.run(1_500.0, MINUTE);
    let before = server.limit();
    // Three quarters of it fail: a quarter of the rate is left.
    server.cores.truncate(10);
    server.run(1_500.0, MINUTE);
    let during = server.limit();
    assert!(during < before / 2 && during >= 10, "{before}, then {during}");
    server.cores.resize(40, server.now);
    server.run(1_500.0, MINUTE);
    server.run(1_500.0, MINUTE);
    let share = server.shed as f64 / (server.served + server.shed) as f64;
    assert!(share < 0.01, "recovered: {share} shed at limit {}", server.limit());
}

#[test]
fn the_limit_stays_within_its_bounds() {
    let spec = AdaptiveConcurrency { initial: 1, min: 8, max: 12, ..Default::default() };
    let mut server = Simulation::new(spec, 1, Duration::from_millis(10));
    assert_eq!(server.limit(), 8);
    server.run(50.0, MINUTE);
    server.run(1_000.0, MINUTE);
    assert_eq!(server.limit(), 8, "overloaded");
    let spec = AdaptiveConcurrency { initial: 100, min: 8, max: 12, ..Default::default() };
    let mut server = Simulation::new(spec, 1_000, Duration::from_millis(10));
    assert_eq!(server.limit(), 12);
    server.run(5_000.0, MINUTE);
    assert_eq!(server.limit(), 12, "bored");
}

#[test]
fn quick_errors_do_not_make_room() {
    let adaptive = Adaptive::new(AdaptiveConcurrency::default());
    for number in 0..10_000u64 {
        let verdict = match number % 3 {
            0 => Verdict::Responded(503),
            1 => Verdict::Failed(Reason::UpstreamReset),
            _ => Verdict::Abandoned,
        };
        let seen = Observation { in_flight: 20, latency: Duration::from_micros(100), verdict };
        adaptive.observe(seen, 20, Moment(number * 1_000_000));
    }
    assert_eq!(adaptive.limit(), 20);
}
