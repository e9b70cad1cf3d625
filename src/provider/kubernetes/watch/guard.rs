//! Doubts about lists that say that much is gone.
//!
//! What is deleted one by one is told by a watch, and believed. A list that suddenly lacks much of
//! what was there may be the truth, or an API server that came up without its data. Serving what
//! may be gone beats refusing everything, so such a list has to say the same for a while.

use std::time::{Duration, Instant};

/// Decides which lists to believe.
#[derive(Debug)]
pub struct Guard {
    /// For how long a list must go on saying so.
    patience: Duration,
    doubted_since: Option<Instant>,
}

impl Guard {
    /// A guard that doubts for `patience`.
    pub fn new(patience: Duration) -> Self {
        Self { patience, doubted_since: None }
    }

    /// Whether a list is to be believed that lacks `lost` of the `known` objects.
    pub fn believes(&mut self, known: usize, lost: usize, now: Instant) -> bool {
        let everything = lost > 0 && lost == known;
        let most = known >= 10 && lost * 2 > known;
        if !everything && !most {
            self.doubted_since = None;
            return true;
        }
        let since = *self.doubted_since.get_or_insert(now);
        let believed = now.saturating_duration_since(since) >= self.patience;
        if believed {
            self.doubted_since = None;
        }
        believed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_lacks_nearly_everything_must_say_so_for_a_while() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut guard = Guard::new(Duration::from_secs(30));
        assert!(guard.believes(0, 0, start), "nothing was there");
        assert!(guard.believes(3, 2, start), "few were there");
        assert!(guard.believes(100, 50, start));
        assert!(!guard.believes(1, 1, start));
        assert!(!guard.believes(1, 1, after(29)));
        assert!(guard.believes(1, 0, after(29)), "it came back");
        assert!(!guard.believes(100, 51, after(30)), "the doubt begins anew");
        assert!(guard.believes(100, 51, after(60)));
        assert!(!guard.believes(100, 100, after(61)));
    }
}
