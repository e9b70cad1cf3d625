//! Least utilisation: of two endpoints the one that is less busy, by what it reports (ORCA).
//!
//! Two distinct endpoints are drawn by weight. Where both have a report that counts, the lower
//! estimate of what they must be by now is picked (`Load::estimate`);
//! estimates that are about equal, and pairs without two reports, are settled by the requests in
//! flight per weight, and by chance where neither has any: reports come with responses, and an
//! endpoint that is never asked never reports. Never more than two are compared: with reports that
//! are late all would go to the same one.

use std::cmp::Ordering;
use std::time::Duration;

use super::choices::Choices;
use super::{Member, Pick, reciprocals};
use crate::ir::OrcaPolicy;
use crate::util::moment::Moment;

/// Least utilisation over one group of endpoints.
#[derive(Debug)]
pub struct LeastUtilization {
    choices: Choices,
    /// 1 / weight; empty where all are equal.
    reciprocals: Box<[f32]>,
    interval: Duration,
}

/// Estimates that differ by less are equal.
const EQUAL: f64 = 0.01;

struct Candidate {
    index: usize,
    estimate: Option<f64>,
    in_flight: u32,
    weight: f32,
}

impl Candidate {
    /// The lesser one is the better one; equal ones are as good as each other.
    fn compare(&self, other: &Self) -> Ordering {
        match (self.estimate, other.estimate) {
            (Some(one), Some(two)) if (one - two).abs() >= EQUAL => one.total_cmp(&two),
            // Where neither has anything to do the heavier would get all there is.
            _ if self.in_flight == 0 && other.in_flight == 0 => Ordering::Equal,
            _ => self.load().total_cmp(&other.load()),
        }
    }

    fn load(&self) -> f32 {
        (self.in_flight + 1) as f32 / self.weight
    }
}

impl LeastUtilization {
    /// Draws by `weights`.
    pub fn new(policy: &OrcaPolicy, weights: &[u32]) -> Self {
        let choices = Choices::new(weights, 2, 2);
        Self { choices, reciprocals: reciprocals(weights), interval: policy.interval }
    }

    /// How many members a pick compares.
    pub fn compared(&self) -> usize {
        self.choices.count()
    }

    /// How busy all members must be by now; infinitely where they report nothing.
    pub fn costs(&self, members: &[Member], now: Moment) -> Vec<f64> {
        let estimate = |member: &Member| {
            let endpoint = &member.endpoint;
            endpoint.load.estimate(endpoint.in_flight(), self.interval, now)
        };
        members.iter().map(|member| estimate(member).unwrap_or(f64::INFINITY)).collect()
    }

    /// The less busy member of two that were not tried.
    #[inline]
    pub fn pick(&self, members: &[Member], pick: &mut Pick<'_>) -> Option<usize> {
        let now = pick.now;
        // Those that are drawn come by weight already; where both are all there are they do not.
        let all = self.choices.is_all();
        let mut best: Option<Candidate> = None;
        self.choices.each(members, pick, |index, member, random| {
            let in_flight = member.endpoint.in_flight();
            let estimate = member.endpoint.load.estimate(in_flight, self.interval, now);
            let weight = 1.0 / self.reciprocals.get(index).copied().unwrap_or(1.0);
            let candidate = Candidate { index, estimate, in_flight, weight };
            let wins = best.as_ref().is_none_or(|best| match candidate.compare(best) {
                Ordering::Less => true,
                Ordering::Equal if all => (random.unit() as f32) * (best.weight + weight) < weight,
                Ordering::Equal | Ordering::Greater => false,
            });
            if wins {
                best = Some(candidate);
            }
        });
        best.map(|best| best.index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::members;
    use super::*;
    use crate::telemetry::WorkerId;
    use crate::upstream::orca::LoadReport;
    use crate::upstream::{EndpointId, InFlight};
    use crate::util::moment::Moment;
    use crate::util::random::Random;

    const NOW: Moment = Moment(1_000_000_000);

    fn reports(member: &Member, utilization: f64) {
        let report = LoadReport { utilization, ..LoadReport::default() };
        member.endpoint.load.record(&report, OrcaPolicy::default().interval, NOW);
    }

    fn counts(members: &[Member], now: Moment) -> Vec<usize> {
        let weights: Vec<_> = members.iter().map(|member| member.weight).collect();
        let balancer = LeastUtilization::new(&OrcaPolicy::default(), &weights);
        let mut counts = vec![0; members.len()];
        for seed in 0..3000 {
            let tried: &[EndpointId] = &[];
            let (worker, random) = (WorkerId(0), Random::new(seed));
            let mut pick = Pick { worker, now, tried, key: None, session: None, random };
            counts[balancer.pick(members, &mut pick).expect("a member")] += 1;
        }
        counts
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let members = members(&[1, 1, 1]);
        for (member, utilization) in members.iter().zip([0.2, 0.5, 0.8]) {
            reports(member, utilization);
        }
        let counts = counts(&members, NOW);
        // Every pair but one has the least busy, and the busiest never wins.
        assert!((1900..2100).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
    }

    #[test]
    fn what_is_in_flight_settles_between_those_about_equally_busy() {
        let members = members(&[1, 1, 1]);
        for (member, utilization) in members.iter().zip([0.0, 0.001, 0.9]) {
            reports(member, utilization);
        }
        let _busy = InFlight::new(members[0].endpoint.clone(), NOW);
        let counts = counts(&members, NOW);
        assert!((1900..2100).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn idle_endpoints_that_say_nothing_or_the_same_are_asked_by_weight() {
        for weights in [[1, 1], [3, 1]] {
            let members = members(&weights);
            let share = 3000 * weights[0] as usize / (weights[0] + weights[1]) as usize;
            for reporting in 0..=2 {
                members.iter().take(reporting).for_each(|member| reports(member, 0.3));
                let counts = counts(&members, NOW);
                assert!(counts[0].abs_diff(share) < 150, "{counts:?}: {weights:?}, {reporting}");
            }
        }
    }

    #[test]
    fn where_a_report_is_missing_the_requests_in_flight_decide() {
        let members = members(&[1, 1]);
        reports(&members[0], 0.9);
        let _busy = InFlight::new(members[1].endpoint.clone(), NOW);
        assert_eq!(counts(&members, NOW), [3000, 0]);
        reports(&members[1], 0.1);
        assert_eq!(counts(&members, NOW), [0, 3000]);
        let later = NOW.after(Duration::from_secs(31));
        assert_eq!(counts(&members, later), [3000, 0], "reports are too old");
    }
}
