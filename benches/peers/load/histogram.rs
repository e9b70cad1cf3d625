//! A log-linear histogram of durations: 64 steps for every power of two, so at most 1.6 % off.

use std::time::Duration;

const STEPS: u64 = 64;

/// Counts of durations, in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { counts: vec![0; 60 * STEPS as usize], total: 0 }
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[index(nanos)] += 1;
        self.total += 1;
    }

    /// The duration that `share` (0 to 1) of those counted do not exceed.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(index, count)| {
            seen += count;
            (seen >= rank).then(|| Duration::from_nanos(value(index as u64)))
        })
    }
}

fn index(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = u64::from(nanos.ilog2()) - 6;
    ((power + 1) * STEPS + (nanos >> power) - STEPS) as usize
}

fn value(index: u64) -> u64 {
    let (block, step) = (index / STEPS, index % STEPS);
    if block == 0 { step } else { (STEPS + step) << (block - 1) }
}
