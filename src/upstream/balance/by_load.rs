//! Weights out of the load that endpoints report: gRFC A58.
//!
//! Computed when a set is built, which is once every [`WeightedByLoad::update`]; between that it
//! is round robin by these weights.

use std::time::Duration;

use super::Member;
use crate::ir::WeightedByLoad;
use crate::util::moment::Moment;

/// Weights are not computed more often.
const SHORTEST: Duration = Duration::from_millis(100);
/// No weight is more than this times the mean.
const MOST: f64 = 10.0;
/// No weight is less than this part of the mean.
const LEAST: f64 = 0.01;
/// What the mean becomes: the greatest weight is 65,535 at most, as in gRPC's scheduler.
const MEAN: f64 = 6553.0;

/// How long weights hold.
pub fn lifetime(policy: &WeightedByLoad) -> Duration {
    policy.update.max(SHORTEST)
}

/// The weights of `members` at `now`. An endpoint whose weight is not known gets the mean of
/// those known; where fewer than two are known all are equal. Declared weights do not count,
/// what slow start makes of them (`weights`, which may be scaled) does.
pub fn weights(
    policy: &WeightedByLoad,
    members: &[Member],
    weights: &[u32],
    now: Moment,
) -> Vec<u32> {
    let known: Vec<Option<f64>> = members.iter().map(|member| known(policy, member, now)).collect();
    let count = known.iter().flatten().count();
    let mean = known.iter().flatten().sum::<f64>() / count.max(1) as f64;
    let part = |weight: Option<f64>| match weight {
        Some(weight) if count >= 2 => (weight / mean).clamp(LEAST, MOST),
        _ => 1.0,
    };
    let starting = members.iter().zip(weights);
    let starting = starting.map(|(member, now)| f64::from(*now) / f64::from(member.weight.max(1)));
    let most = starting.clone().fold(0.0, f64::max);
    let scaled = known.into_iter().zip(starting).map(|(weight, starting)| {
        let share = if most > 0.0 { starting / most } else { 1.0 };
        (part(weight) * share * MEAN).round().max(1.0) as u32
    });
    scaled.collect()
}

/// Such weights as multiples of the mean.
pub fn relative(weights: &[u32]) -> Box<[f32]> {
    weights.iter().map(|weight| (f64::from(*weight) / MEAN) as f32).collect()
}

fn known(policy: &WeightedByLoad, member: &Member, now: Moment) -> Option<f64> {
    let endpoint = &member.endpoint;
    let known = endpoint.reported_weight.get(policy, endpoint.availability.since(), now);
    known.filter(|weight| weight.is_finite() && *weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::test_support::members;
    use super::*;
    use crate::upstream::orca::LoadReport;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn reports(member: &Member, utilization: f64, qps: f64) {
        let report = LoadReport { utilization, qps, eps: 0.0 };
        member.endpoint.reported_weight.record(&report, &WeightedByLoad::default(), at(1));
    }

    fn computed(members: &[Member], now: &[u32]) -> Vec<u32> {
        weights(&WeightedByLoad::default(), members, now, at(11))
    }

    #[test]
    fn who_does_more_with_less_gets_more_and_strangers_get_the_mean() {
        let members = members(&[1, 9, 1]);
        reports(&members[0], 0.5, 100.0);
        reports(&members[1], 0.5, 300.0);
        // 200 and 600, whose mean is 400, whatever is declared.
        let got = computed(&members, &[1, 9, 1]);
        let mean = MEAN as u32;
        assert_eq!(got, [mean.div_ceil(2), (1.5 * MEAN).round() as u32, mean]);
    }

    #[test]
    fn with_fewer_than_two_weights_known_all_are_equal() {
        let members = members(&[1, 9, 1]);
        reports(&members[0], 0.5, 100.0);
        let got = computed(&members, &[1, 9, 1]);
        assert!(got.iter().all(|weight| *weight == got[0]), "{got:?}");
    }

    #[test]
    fn slow_start_still_counts() {
        let members = members(&[2, 2]);
        members.iter().for_each(|member| reports(member, 0.5, 100.0));
        assert_eq!(computed(&members, &[2000, 500]), [MEAN as u32, (MEAN / 4.0).round() as u32]);
    }

    #[test]
    fn no_weight_is_out_of_all_proportion() {
        let members = members(&[1; 30]);
        members.iter().for_each(|member| reports(member, 1.0, 1.0));
        reports(&members[0], 0.000_001, 1000.0);
        let got = computed(&members, &[1; 30]);
        assert_eq!((got[0], got[1]), (10 * MEAN as u32, (MEAN / 100.0).round() as u32));
    }
}
