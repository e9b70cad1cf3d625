//! How long to wait before something that failed is tried again.

use std::time::Duration;

use crate::util::random::Random;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);

/// Pauses that double up to the longest, each a little shorter by chance, so that those who failed
/// together do not come back together.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    random: Random,
}

impl Backoff {
    /// No failure yet.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: Random::new(seed) }
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// It failed: how long to wait, no longer than `longest`.
    pub fn next(&mut self, longest: Duration) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        pause.mul_f64(0.5 + self.random.unit() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_again() {
        let mut backoff = Backoff::new(7);
        let longest = Duration::from_secs(1);
        let pauses: Vec<_> = (0..40).map(|_| backoff.next(longest)).collect();
        assert!(pauses.iter().all(|pause| *pause <= longest && *pause >= FIRST / 2));
        assert!(pauses[39] >= longest / 2, "{:?}", pauses[39]);
        assert!(pauses.windows(2).any(|two| two[0] != two[1]), "chance has a part in it");
        backoff.reset();
        assert!(backoff.next(longest) <= FIRST);
    }
}
