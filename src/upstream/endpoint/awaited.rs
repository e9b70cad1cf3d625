//! How long an endpoint has owed an answer without giving any.
//!
//! A latency is known only once an answer came; an endpoint that hangs would go on looking fast
//! until the first client gives up. While answers are owed, the time since the last one, or since
//! the first was owed, is a lower bound of the latency to expect.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::util::moment::Moment;

/// Answers that one endpoint owes. Response bodies and tunnels are not owed any more.
#[derive(Debug, Default)]
pub struct Awaited {
    count: AtomicU32,
    /// The millisecond of the last answer, or of the attempt that came when none was owed.
    since: AtomicU32,
}

impl Awaited {
    /// An attempt begins.
    #[inline]
    pub(super) fn begin(&self, now: Moment) {
        if self.count.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(milliseconds(now), Ordering::Relaxed);
        }
    }

    /// An answer, or a failure, came.
    #[inline]
    pub(super) fn answered(&self, now: Moment) {
        self.since.store(milliseconds(now), Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Nobody waits for an attempt any more: it tells nothing of those that others wait for.
    #[inline]
    pub(super) fn dropped(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// For how many milliseconds nothing has come although something is owed.
    #[inline]
    pub fn silence(&self, now: Moment) -> u32 {
        if self.count.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let silence = milliseconds(now).wrapping_sub(self.since.load(Ordering::Relaxed));
        // Workers' clocks may be a little behind each other.
        if silence > u32::MAX / 2 { 0 } else { silence }
    }
}

fn milliseconds(moment: Moment) -> u32 {
    (moment.0 / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment(milliseconds * 1_000_000)
    }

    #[test]
    fn silence_lasts_from_the_last_answer_while_something_is_owed() {
        let awaited = Awaited::default();
        assert_eq!(awaited.silence(at(50)), 0, "nothing is owed");
        awaited.begin(at(100));
        awaited.begin(at(110));
        assert_eq!(awaited.silence(at(150)), 50);
        awaited.answered(at(160));
        assert_eq!(awaited.silence(at(200)), 40);
        awaited.dropped();
        assert_eq!(awaited.silence(at(500)), 0);
        awaited.begin(at(600));
        assert_eq!(awaited.silence(at(601)), 1, "what was before counts no more");
    }
}
