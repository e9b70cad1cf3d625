//! Time as the live state of upstreams sees it: passed in, never read, so that simulations run
//! the same code.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Nanoseconds since some moment of this process's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self::of(Instant::now())
    }

    /// The moment of an instant; what lies before the first call counts as 0.
    pub fn of(instant: Instant) -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        // Never 0, which stands for "never" in packed state.
        let start =
            *START.get_or_init(|| instant.checked_sub(Duration::from_secs(1)).unwrap_or(instant));
        Self(nanoseconds(instant.saturating_duration_since(start)))
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after `earlier` it is; zero where it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
