//! A simulated server: slots, a queue, and what can go wrong with it.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis::util::random::Random;

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Answers 503 after so long, whatever the load.
    FailFast(Duration),
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
        }
    }

    /// How long the next request takes it: half of the mean fixed, half exponential, so that no
    /// answer is instant and the tail is long.
    pub fn work(&self, random: &mut Random) -> Duration {
        let exponential = -(1.0 - random.unit()).ln();
        self.mean.mul_f64((0.5 + 0.5 * exponential) * self.slowdown)
    }
}
