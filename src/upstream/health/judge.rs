//! From single checks to whether an endpoint is healthy.

use crate::ir::HealthCheck;

/// Counts checks in a row.
#[derive(Clone, Debug)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    /// What was decided; `None` before the first check.
    healthy: Option<bool>,
    last: bool,
    row: u32,
}

impl Judge {
    /// A judge who goes on from `healthy`, where that was decided before.
    pub fn new(spec: &HealthCheck, healthy: Option<bool>) -> Self {
        let (rise, fall) = (spec.rise.max(1), spec.fall.max(1));
        Self { rise, fall, healthy, last: healthy.unwrap_or(false), row: 0 }
    }

    /// Takes in a check. Returns whether the endpoint is healthy now.
    pub fn take(&mut self, passed: bool) -> bool {
        if passed != self.last {
            self.row = 0;
        }
        self.last = passed;
        self.row = self.row.saturating_add(1);
        let limit = if passed { self.rise } else { self.fall };
        let before = self.healthy.unwrap_or(passed);
        let healthy = if self.row >= limit { passed } else { before };
        self.healthy = Some(healthy);
        healthy
    }

    /// How many checks in a row ended like the last one.
    pub fn row(&self) -> u32 {
        self.row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ir::Probe;

    fn judge(rise: u32, fall: u32) -> Judge {
        Judge::new(&HealthCheck { rise, fall, ..HealthCheck::new(Probe::Tcp) }, None)
    }

    #[test]
    fn the_first_check_decides_alone_and_the_others_in_rows() {
        let mut good = judge(2, 3);
        let said: Vec<_> = "+--+---+-++".chars().map(|check| good.take(check == '+')).collect();
        // Healthy until the third failure in a row, back with the second success in a row.
        let wanted = [true, true, true, true, true, true, false, false, false, false, true];
        assert_eq!(said, wanted);
        assert!(!judge(9, 9).take(false));
    }

    proptest! {
        #[test]
        fn it_says_what_reading_the_whole_history_says(
            rise in 0..5u32,
            fall in 0..5u32,
            checks in prop::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut judge = judge(rise, fall);
            for end in 1..=checks.len() {
                let history = &checks[..end];
                // The last moment at which a row was long enough decides, else the first check.
                let decided = (1..=end).rev().find_map(|end| {
                    let last = history[end - 1];
                    let row = history[..end].iter().rev().take_while(|check| **check == last);
                    let limit = if last { rise } else { fall }.max(1);
                    (row.count() >= limit as usize).then_some(last)
                });
                prop_assert_eq!(judge.take(history[end - 1]), decided.unwrap_or(history[0]));
                let last = history[end - 1];
                let row = history.iter().rev().take_while(|check| **check == last).count();
                prop_assert_eq!(judge.row() as usize, row);
            }
        }
    }
}
