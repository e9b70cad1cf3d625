//! Time as the live state of upstreams sees it: passed in, never read, so that simulations run
//! the same code.

use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since some moment of this process's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment. The clock is read as a number: `Instant` checks and borrows at every
    /// subtraction, which a request pays for half a dozen times.
    pub fn now() -> Self {
        static START: OnceLock<u64> = OnceLock::new();
        let now = clock_gettime(ClockId::Monotonic);
        let now = (now.tv_sec as u64).saturating_mul(SECOND).saturating_add(now.tv_nsec as u64);
        // Never 0, which stands for "never" in packed state.
        let start = *START.get_or_init(|| now.saturating_sub(SECOND));
        Self(now.saturating_sub(start).max(1))
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
