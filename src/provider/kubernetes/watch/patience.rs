//! When to raise the voice about what may pass by itself: an API server that starts refuses for a
//! moment what it allows afterwards.

use std::time::{Duration, Instant};

/// How long something must last before it is insisted on.
const LASTS: Duration = Duration::from_secs(10);

/// What is to be said of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// That it is there, and may pass.
    Calmly,
    /// That it is there to stay, and what to do.
    Loudly,
    /// Nothing that was not said.
    Nothing,
}

/// What goes wrong, from the first time until it does not any more.
#[derive(Debug, Default)]
pub struct Patience {
    since: Option<Instant>,
    /// Whether it was insisted on.
    over: bool,
}

impl Patience {
    /// It failed, at `now`.
    pub fn failed(&mut self, now: Instant) -> Say {
        let Some(since) = self.since else {
            self.since = Some(now);
            return Say::Calmly;
        };
        if self.over || now.saturating_duration_since(since) < LASTS {
            return Say::Nothing;
        }
        self.over = true;
        Say::Loudly
    }

    /// Whether it fails, and was not insisted on yet.
    pub fn lasts(&self) -> bool {
        self.since.is_some() && !self.over
    }

    /// It went well.
    pub fn passed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_twice_and_what_passes_once() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut after = |seconds| patience.failed(start + Duration::from_secs(seconds));
        assert_eq!((after(0), after(9)), (Say::Calmly, Say::Nothing));
        assert_eq!((after(10), after(30)), (Say::Loudly, Say::Nothing));
        patience.passed();
        assert!(!patience.lasts());
        assert_eq!(patience.failed(start + Duration::from_secs(40)), Say::Calmly);
        assert!(patience.lasts());
    }
}
