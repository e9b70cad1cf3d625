//! Weighted round robin by static strides.
//!
//! After gRPC's weighted round robin (gRFC A58, "static stride scheduler"): generation after
//! generation passes over all entries, and an entry is picked in that share of the generations
//! that its weight is of the greatest. Nothing but two counters moves, one pair for each worker.
//! Two things differ. Shares are fractions of 2³², which wrap by themselves, instead of 16-bit
//! weights and a division. And a heavy endpoint has several entries, so that none weighs more
//! than the mean: a turn looks at two entries on average at most, however uneven the weights.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::WorkerId;
use crate::util::random::Random;

/// An endless order of turns.
pub struct Stride {
    entries: Box<[Entry]>,
    turns: Box<[Turn]>,
}

/// A share of the turns of one index.
struct Entry {
    index: u32,
    /// The share of the generations in which it is picked, less 2⁻³²: `u32::MAX` is all.
    share: u32,
}

/// Where one worker is, alone on its cache line: the generation above, the entry below. Only its
/// worker writes it.
#[repr(align(128))]
struct Turn(AtomicU64);

impl Stride {
    /// Turns by `weights` for `workers` workers. Weight 0 never gets one. Workers begin far from
    /// each other, and at a place that depends on `seed`, or all would hit the same endpoint at
    /// the same time.
    pub fn new(weights: &[u32], workers: usize, seed: u64) -> Self {
        let entries = entries(weights);
        let (count, workers) = (entries.len(), workers.max(1));
        let mut random = Random::new(seed);
        let start = random.below(count);
        let turns = (0..workers).map(|worker| {
            let entry = (start + count * worker / workers) % count.max(1);
            Turn(AtomicU64::new(random.draw() << 32 | entry as u64))
        });
        Self { turns: turns.collect(), entries }
    }

    /// The index whose turn it is; `None` where no weight is above 0.
    #[inline]
    pub fn next(&self, worker: WorkerId) -> Option<usize> {
        let turn = &self.turns.get(worker.0 % self.turns.len().max(1))?.0;
        let now = turn.load(Ordering::Relaxed);
        let (mut generation, mut position) = ((now >> 32) as u32, now as u32 as usize);
        // The heaviest entry is picked in every generation, so one round is enough.
        for _ in 0..=self.entries.len() {
            let Some(entry) = self.entries.get(position) else {
                (generation, position) = (generation.wrapping_add(1), 0);
                continue;
            };
            position += 1;
            // Entries of the same weight take their turns in different generations.
            let phase = (position as u32).wrapping_mul(GOLDEN);
            if entry.share.wrapping_add(1).wrapping_mul(generation).wrapping_add(phase)
                <= entry.share
            {
                let next = u64::from(generation) << 32 | position as u64;
                turn.store(next, Ordering::Relaxed);
                return Some(entry.index as usize);
            }
        }
        None
    }
}

/// 2³² divided by the golden ratio: multiples of it, wrapped, are spread evenly.
const GOLDEN: u32 = 0x9e37_79b9;

/// Entries of at most the mean weight, those of one index far apart.
fn entries(weights: &[u32]) -> Box<[Entry]> {
    let sum: u64 = weights.iter().copied().map(u64::from).sum();
    let count = weights.iter().filter(|weight| **weight > 0).count() as u64;
    let mut placed = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0) {
        // ⌈weight ÷ mean⌉, in which the mean is the sum by the count.
        let copies = (u64::from(weight) * count).div_ceil(sum.max(1));
        let part = f64::from(weight) / copies as f64;
        let place = |copy| (copy as f64 + 0.5) / copies as f64;
        placed.extend((0..copies).map(|copy| (place(copy), index as u32, part)));
    }
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let most = placed.iter().map(|(_, _, part)| *part).fold(0.0, f64::max);
    let share = |part: f64| (part / most * 2f64.powi(32)).round().max(1.0) as u64;
    placed
        .into_iter()
        .map(|(_, index, part)| Entry { index, share: (share(part) - 1) as u32 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORKER: WorkerId = WorkerId(0);

    fn picks(weights: &[u32], count: usize, seed: u64) -> Vec<usize> {
        let stride = Stride::new(weights, 1, seed);
        (0..count).map_while(|_| stride.next(WORKER)).collect()
    }

    #[test]
    fn equal_weights_take_turns_in_order() {
        let order = picks(&[7, 7, 7], 6, 1);
        for pair in order.windows(2) {
            assert_eq!(pair[1], (pair[0] + 1) % 3, "{order:?}");
        }
    }

    #[test]
    fn a_heavy_endpoint_is_not_picked_in_bursts() {
        let order = picks(&[5, 1, 1], 700, 2);
        let longest = order.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(7), "{order:?}");
        let order = picks(&[2, 1, 1], 400, 2);
        let longest = order.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
        assert!(longest <= Some(2), "{order:?}");
    }

    #[test]
    fn workers_start_at_different_endpoints() {
        let stride = Stride::new(&[1; 8], 4, 3);
        let mut firsts: Vec<_> = (0..4).map(|worker| stride.next(WorkerId(worker))).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 4);
    }

    #[test]
    fn nothing_is_picked_where_every_weight_is_0() {
        assert!(picks(&[], 1, 1).is_empty());
        assert!(picks(&[0, 0], 1, 1).is_empty());
    }

    #[test]
    fn few_entries_are_looked_at_however_uneven_the_weights() {
        let mut weights = vec![1; 999];
        weights.push(1_000_000);
        let entries = entries(&weights);
        assert!(entries.len() <= 2 * weights.len());
        let shares: f64 =
            entries.iter().map(|entry| (f64::from(entry.share) + 1.0) / 2f64.powi(32)).sum();
        assert!(entries.len() as f64 / shares <= 2.0, "{} entries, {shares}", entries.len());
    }

    proptest! {
        #[test]
        fn every_index_gets_its_share_of_the_turns(
            weights in prop::collection::vec(0u32..50, 1..12),
            seed: u64,
        ) {
            let sum: u32 = weights.iter().sum();
            let turns = 100 * sum as usize;
            let picks = picks(&weights, turns, seed);
            prop_assert_eq!(picks.len(), turns);
            for (index, weight) in weights.iter().enumerate() {
                let got = picks.iter().filter(|pick| **pick == index).count() as f64;
                // Each of the index's entries may be a turn ahead or behind at either end.
                let slack = 2.0 + 2.0 * f64::from(*weight) * weights.len() as f64 / f64::from(sum.max(1));
                let want = f64::from(*weight) * 100.0;
                prop_assert!((got - want).abs() <= slack, "{index}: {got} for {want} ± {slack}");
            }
        }

        #[test]
        fn huge_weights_keep_their_proportions(a in 1u32.., b in 1u32.., seed: u64) {
            let all = picks(&[a, b], 100_000, seed);
            let got = all.iter().filter(|pick| **pick == 0).count() as f64 / all.len() as f64;
            let want = f64::from(a) / (f64::from(a) + f64::from(b));
            prop_assert!((got - want).abs() < 0.001, "{got} for {want}");
        }
    }
}
