//! Smooth weighted round robin as a precomputed sequence.
//!
//! nginx's smooth algorithm (each turn every peer gains its weight, the richest is picked and
//! pays the total) is periodic with the sum of the weights. The period is laid out once when the
//! set is made, so a turn is one counter step: no floats, no lock, no scan. Each worker counts
//! by itself from a different start, or workers would hit the same endpoint at the same time.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::telemetry::WorkerId;

/// The longest period laid out; heavier weights are scaled down to fit.
const MAX_PERIOD: u64 = 16 * 1024;

/// A repeating order of picks.
pub struct Sequence {
    /// Indices in order of picks; empty with equal weights, where the order is 0, 1, 2, …
    order: Box<[u32]>,
    /// How many picks until the order repeats.
    period: u32,
    turns: Box<[Turn]>,
}

/// One worker's counter, alone on its cache line. Only its worker writes it.
#[repr(align(128))]
struct Turn(AtomicU32);

impl Sequence {
    /// A sequence over `weights` for `workers` workers. Weight 0 is never picked.
    pub fn new(weights: &[u32], workers: usize) -> Self {
        let first = weights.first().copied().unwrap_or(0);
        let equal = first > 0 && weights.iter().all(|weight| *weight == first);
        let order = if equal { Box::default() } else { smooth_order(&scaled(weights)) };
        let period = if equal { weights.len() } else { order.len() };
        let period = u32::try_from(period).unwrap_or(u32::MAX);
        let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
        let start = |worker: u32| u64::from(period) * u64::from(worker) / u64::from(workers);
        let turns = (0..workers)
            .map(|worker| Turn(AtomicU32::new(u32::try_from(start(worker)).unwrap_or(0))))
            .collect();
        Self { order, period, turns }
    }

    /// The next index; `None` when no weight is above 0.
    pub fn next(&self, worker: WorkerId) -> Option<usize> {
        if self.period == 0 {
            return None;
        }
        let turn = &self.turns.get(worker.0 % self.turns.len().max(1))?.0;
        let now = turn.load(Ordering::Relaxed);
        let next = if now + 1 >= self.period { 0 } else { now + 1 };
        turn.store(next, Ordering::Relaxed);
        if self.order.is_empty() {
            return Some(now as usize);
        }
        self.order.get(now as usize).map(|index| *index as usize)
    }
}

/// The same proportions with a sum that fits a period; no positive weight becomes 0.
fn scaled(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let weights: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor).collect();
    let sum: u64 = weights.iter().sum();
    if sum <= MAX_PERIOD {
        return weights;
    }
    let scale = |weight: u64| (weight * MAX_PERIOD).div_ceil(sum.max(1));
    weights.into_iter().map(|weight| if weight == 0 { 0 } else { scale(weight).max(1) }).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn smooth_order(weights: &[u64]) -> Box<[u32]> {
    let total: i64 = weights.iter().map(|weight| *weight as i64).sum();
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut best = 0;
            let mut most = i64::MIN;
            for (index, (credit, weight)) in current.iter_mut().zip(weights).enumerate() {
                *credit += *weight as i64;
                if *weight > 0 && *credit > most {
                    (best, most) = (index, *credit);
                }
            }
            if let Some(credit) = current.get_mut(best) {
                *credit -= total;
            }
            best as u32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picks(weights: &[u32], count: usize) -> Vec<usize> {
        let sequence = Sequence::new(weights, 1);
        (0..count).map_while(|_| sequence.next(WorkerId(0))).collect()
    }

    #[test]
    fn five_one_one_is_spread_as_nginx_spreads_it() {
        assert_eq!(picks(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn workers_start_at_different_endpoints() {
        let sequence = Sequence::new(&[1, 1, 1, 1], 2);
        assert_eq!(sequence.next(WorkerId(0)), Some(0));
        assert_eq!(sequence.next(WorkerId(1)), Some(2));
    }

    proptest! {
        #[test]
        fn each_period_gives_every_endpoint_its_share(
            weights in prop::collection::vec(0u32..20, 0..8)
        ) {
            let divisor = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1) as u32;
            let sum: u32 = weights.iter().sum();
            let count = picks(&weights, (sum / divisor) as usize);
            for (index, weight) in weights.iter().enumerate() {
                let got = count.iter().filter(|pick| **pick == index).count();
                prop_assert_eq!(got as u32, weight / divisor);
            }
        }

        #[test]
        fn huge_weights_keep_their_proportions(a in 1u32.., b in 1u32..) {
            let all = picks(&[a, b], 4 * MAX_PERIOD as usize);
            let got = all.iter().filter(|pick| **pick == 0).count() as f64 / all.len() as f64;
            let want = f64::from(a) / (f64::from(a) + f64::from(b));
            prop_assert!((got - want).abs() < 0.001, "{got} for {want}");
        }
    }
}
