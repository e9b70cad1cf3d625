//! Quantiles out of a histogram's buckets.

/// Cumulative counts by upper bound, seconds; the last bound is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(Vec<(f64, f64)>);

/// A quantile as far as buckets tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quantile {
    /// About this many seconds.
    About(f64),
    /// More than the last finite bound, seconds.
    Above(f64),
    /// Nothing was counted.
    None,
}

impl Histogram {
    /// Adds a bucket: its `le` label and its cumulative count.
    pub(super) fn bucket(&mut self, bound: &str, count: f64) {
        let Ok(bound) = bound.replace("+Inf", "inf").parse::<f64>() else { return };
        match self.0.iter_mut().find(|(other, _)| *other == bound) {
            Some((_, sum)) => *sum += count,
            None => {
                self.0.push((bound, count));
                self.0.sort_by(|a, b| a.0.total_cmp(&b.0));
            }
        }
    }

    /// What was counted since `before`; all of it where counting began anew.
    pub(super) fn since(&self, before: &Self) -> Self {
        let total = |histogram: &Self| histogram.0.last().map_or(0.0, |(_, count)| *count);
        if total(before) > total(self) {
            return self.clone();
        }
        let old = |bound: f64| before.0.iter().find(|(b, _)| *b == bound).map_or(0.0, |(_, c)| *c);
        Self(self.0.iter().map(|(bound, count)| (*bound, (count - old(*bound)).max(0.0))).collect())
    }

    /// The quantile `q` between 0 and 1, as if values were spread evenly within each bucket (as
    /// Prometheus' `histogram_quantile` has it).
    pub(super) fn quantile(&self, q: f64) -> Quantile {
        let Some((_, total)) = self.0.last().copied().filter(|(_, total)| *total > 0.0) else {
            return Quantile::None;
        };
        let rank = q * total;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                if bound.is_infinite() {
                    return Quantile::Above(lower);
                }
                let share = if count > &below { (rank - below) / (count - below) } else { 1.0 };
                return Quantile::About(lower + (bound - lower) * share);
            }
            (lower, below) = (*bound, *count);
        }
        Quantile::None
    }
}

impl std::fmt::Display for Quantile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::About(seconds) if *seconds < 1.0 => write!(f, "{:.1} ms", seconds * 1e3),
            Self::About(seconds) => write!(f, "{seconds:.2} s"),
            Self::Above(seconds) => write!(f, "> {seconds:.0} s"),
            Self::None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(&str, f64)]) -> Histogram {
        let mut histogram = Histogram::default();
        buckets.iter().for_each(|(bound, count)| histogram.bucket(bound, *count));
        histogram
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = histogram(&[("0.1", 50.0), ("0.2", 100.0), ("+Inf", 100.0)]);
        assert_eq!(histogram.quantile(0.5), Quantile::About(0.1));
        assert_eq!(histogram.quantile(0.75).to_string(), "150.0 ms");
        assert_eq!(histogram.quantile(0.25).to_string(), "50.0 ms");
    }

    #[test]
    fn beyond_the_last_bound_only_that_is_known() {
        let histogram = histogram(&[("10", 0.0), ("+Inf", 3.0)]);
        assert_eq!(histogram.quantile(0.5).to_string(), "> 10 s");
        assert_eq!(Histogram::default().quantile(0.5).to_string(), "-");
    }

    #[test]
    fn only_what_came_since_counts_unless_counting_began_anew() {
        let before = histogram(&[("1", 10.0), ("+Inf", 10.0)]);
        let now = histogram(&[("1", 10.0), ("+Inf", 12.0)]);
        assert_eq!(now.since(&before).quantile(0.5), Quantile::Above(1.0));
        let restarted = histogram(&[("1", 2.0), ("+Inf", 2.0)]);
        assert_eq!(restarted.since(&now), restarted);
    }
}
