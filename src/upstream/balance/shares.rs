//! Drawing at random by weight.
//!
//! Walker's alias method as Vose lays it out (1991): a column for each index, filled up by one
//! other, so a draw is one column and one comparison whatever the weights.

use crate::util::random::Random;

/// Indices and the shares in which they are drawn.
#[derive(Debug)]
pub struct Shares {
    /// Empty where all shares are equal.
    columns: Box<[Column]>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// The column's own share of itself, in 2⁻³².
    own: u32,
    /// Whose the rest is.
    other: u32,
}

impl Shares {
    /// Shares by `weights`. Weight 0 is never drawn, unless all are 0.
    pub fn new(weights: &[u32]) -> Self {
        let count = weights.len();
        let equal = weights.iter().all(|weight| Some(weight) == weights.first());
        Self { columns: if equal { Box::default() } else { columns(weights) }, count }
    }

    /// How many indices there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// An index; 0 where there is none.
    #[inline]
    pub fn draw(&self, random: &mut Random) -> usize {
        if self.columns.is_empty() {
            return random.below(self.count);
        }
        // The upper half of one number chooses the column, the lower half its owner.
        let number = random.draw();
        let index = (((number >> 32) * self.count as u64) >> 32) as usize;
        match self.columns.get(index) {
            Some(column) if number as u32 >= column.own => column.other as usize,
            _ => index,
        }
    }
}

fn columns(weights: &[u32]) -> Box<[Column]> {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    let scale = weights.len() as f64 / sum;
    let mut shares: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) * scale).collect();
    let whole = |index: usize| Column { own: u32::MAX, other: index as u32 };
    let mut columns: Vec<Column> = (0..weights.len()).map(whole).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) =
        (0..weights.len()).partition(|index| shares.get(*index).is_some_and(|share| *share < 1.0));
    while let (Some(poor), Some(rich)) = (small.pop(), large.pop()) {
        let share = shares.get(poor).copied().unwrap_or(1.0);
        if let Some(column) = columns.get_mut(poor) {
            *column = Column { own: (share * 2f64.powi(32)) as u32, other: rich as u32 };
        }
        if let Some(left) = shares.get_mut(rich) {
            *left -= 1.0 - share;
            if *left < 1.0 { small.push(rich) } else { large.push(rich) }
        }
    }
    columns.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(weights: &[u32], draws: usize, seed: u64) -> Vec<usize> {
        let shares = Shares::new(weights);
        let mut random = Random::new(seed);
        let mut counts = vec![0; weights.len()];
        (0..draws).for_each(|_| counts[shares.draw(&mut random)] += 1);
        counts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_index_is_drawn_by_its_weight(
            weights in prop::collection::vec(0u32..1000, 1..20),
            seed: u64,
        ) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let draws = 40_000.0;
            for (index, got) in counts(&weights, draws as usize, seed).into_iter().enumerate() {
                let share = f64::from(weights[index]) / f64::from(sum);
                // Six standard deviations.
                let slack = 6.0 * (draws * share * (1.0 - share)).sqrt();
                let off = (got as f64 - draws * share).abs();
                prop_assert!(off <= slack, "{index}: {got} for {}", draws * share);
            }
        }
    }

    #[test]
    fn weights_of_0_only_are_drawn_alike() {
        assert!(counts(&[0, 0], 1000, 1).iter().all(|count| *count > 400));
    }
}
