//! A simulated server: slots, a queue, and what can go wrong with it.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis::util::moment::Moment;
use portcullis::util::random::Random;

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Answers 503 after so long, whatever the load.
    FailFast(Duration),
    /// Takes requests in and begins none, as while a garbage collector stops the world.
    Pause,
    /// Refuses connections.
    Refuse,
    /// Works.
    Serve,
    /// Answers 200 after exactly so long, whatever the load.
    Stuck(Duration),
}

/// A server.
pub struct Server {
    /// What it does now.
    pub behaviour: Behaviour,
    /// The mean time one request takes when nothing is in its way.
    pub mean: Duration,
    /// How much slower it is now: 1 is as usual.
    pub slowdown: f64,
    /// Requests it works on at once.
    pub slots: usize,
    /// Attempts that wait for a slot.
    pub queue: VecDeque<u64>,
    /// Slots in use.
    pub busy: usize,
    /// What it says of its load.
    pub meter: Meter,
}

/// A server's own view of its load, averaged over about a second.
#[derive(Default)]
pub struct Meter {
    at: Moment,
    utilization: f64,
    qps: f64,
    eps: f64,
}

impl Meter {
    /// The time up to `now` has passed with this share of the server in use.
    pub fn pass(&mut self, used: f64, now: Moment) {
        let kept = (-now.since(self.at).as_secs_f64()).exp();
        self.at = now;
        self.utilization = self.utilization * kept + used * (1.0 - kept);
        self.qps *= kept;
        self.eps *= kept;
    }

    /// Another request is answered.
    pub fn answer(&mut self, failed: bool) {
        self.qps += 1.0;
        self.eps += f64::from(u8::from(failed));
    }

    /// The report that goes with an answer.
    pub fn report(&self) -> String {
        let Self { utilization, qps, eps, .. } = self;
        format!("TEXT cpu_utilization={utilization:.4},rps_fractional={qps:.3},eps={eps:.3}")
    }
}

impl Server {
    /// A server that works.
    pub fn new(mean: Duration, slots: usize) -> Self {
        Self {
            behaviour: Behaviour::Serve,
            mean,
            slowdown: 1.0,
            slots,
            queue: VecDeque::new(),
            busy: 0,
            meter: Meter::default(),
        }
    }

    /// Whether it begins another of the requests it has taken in: one that refuses or fails new
    /// ones still does.
    pub fn has_room(&self) -> bool {
        self.behaviour != Behaviour::Pause && self.busy < self.slots
    }

    /// Takes or frees slots at `now`.
    pub fn occupy(&mut self, busy: usize, now: Moment) {
        self.meter.pass(self.busy as f64 / self.slots as f64, now);
        self.busy = busy;
    }

    /// How long the next request takes it: half of the mean fixed, half exponential, so that no
    /// answer is instant and the tail is long.
    pub fn work(&self, random: &mut Random) -> Duration {
        let exponential = -(1.0 - random.unit()).ln();
        self.mean.mul_f64((0.5 + 0.5 * exponential) * self.slowdown)
    }
}
