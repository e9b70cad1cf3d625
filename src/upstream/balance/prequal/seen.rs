//! What recent probes saw, and what is hot or strange beside that.

use super::Number;

/// What recent probes saw, and what follows for the next ones.
pub(super) struct Seen {
    count: Number,
    in_flight: [Number; REMEMBERED],
    latency: [Number; REMEMBERED],
    /// More requests in flight are hot.
    pub(super) hot_above: Number,
    /// A longer latency is out of all proportion.
    pub(super) strange_above: Number,
}

pub(super) const REMEMBERED: usize = 64;
/// After how many probes the bounds are computed again.
const RECOMPUTE: u32 = 16;
/// How many times the median a latency may be.
const PROPORTION: u32 = 8;

impl Default for Seen {
    fn default() -> Self {
        let none = || std::array::from_fn(|_| Number::default());
        let strange_above = Number::default();
        strange_above.set(u32::MAX);
        let (count, hot_above) = (Number::default(), Number::default());
        Self { count, in_flight: none(), latency: none(), hot_above, strange_above }
    }
}

impl Seen {
    /// Takes in what a probe saw; `hot` is the quantile above which an endpoint is hot.
    pub(super) fn note(&self, in_flight: u32, latency: u32, hot: f64) {
        let count = self.count.get();
        let place = count as usize % REMEMBERED;
        if let (Some(one), Some(two)) = (self.in_flight.get(place), self.latency.get(place)) {
            one.set(in_flight);
            two.set(latency);
        }
        self.count.set(count.checked_add(1).unwrap_or(REMEMBERED as u32));
        if count < RECOMPUTE || count.is_multiple_of(RECOMPUTE) {
            let known = REMEMBERED.min(self.count.get() as usize);
            self.hot_above.set(quantile(&self.in_flight, known, hot));
            let median = quantile(&self.latency, known, 0.5);
            let strange = if median == 0 { u32::MAX } else { median.saturating_mul(PROPORTION) };
            self.strange_above.set(strange);
        }
    }
}

fn quantile(numbers: &[Number; REMEMBERED], known: usize, quantile: f64) -> u32 {
    let mut copy = [0; REMEMBERED];
    copy.iter_mut().zip(numbers).for_each(|(copy, number)| *copy = number.get());
    let Some(known) = copy.get_mut(..known) else { return 0 };
    let place = (known.len().saturating_sub(1) as f64 * quantile).floor() as usize;
    if place >= known.len() {
        return 0;
    }
    let (_, number, _) = known.select_nth_unstable(place);
    *number
}
