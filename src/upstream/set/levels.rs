//! Which endpoints may be picked at all, and how load is shared between priority levels.
//!
//! Levels and panic as Envoy has them: a level carries the share of the load that it is healthy,
//! overprovisioned by 1.4, and what it cannot carry goes to the next. Where all levels together
//! cannot carry it, a level with too few available endpoints is used as a whole, available or
//! not: what is left of it would drown.

use std::collections::BTreeMap;

use super::Member;
use crate::ir::BalancePolicy;

/// One priority level.
pub(super) struct Level<'a> {
    /// All that count, available or not.
    pub(super) all: Vec<&'a Member>,
    /// Those that may be picked, in declaration order; never empty.
    pub(super) members: Vec<Member>,
    /// Its share of the load; 0 only stands in for others.
    pub(super) share: f64,
    /// Whether availability is ignored.
    pub(super) panic: bool,
}

/// The levels that may be picked from, first priority first. Their shares add up to 1.
pub(super) fn levels<'a>(policy: &BalancePolicy, members: &'a [Member]) -> Vec<Level<'a>> {
    let mut levels: BTreeMap<u32, Vec<&'a Member>> = BTreeMap::new();
    let draining = only_draining(members);
    // Those that wait for their first health check do not count yet: a group that grows to twice
    // its size must not panic over it.
    let counts = |member: &&Member| {
        member.draining == draining && !member.endpoint.availability.is_unproven()
    };
    for member in members.iter().filter(counts) {
        levels.entry(member.priority).or_default().push(member);
    }
    let counts: Vec<Count> = levels.values().map(|level| Count::of(level)).collect();
    let loads = loads(policy, &counts);
    let levels = levels.into_values().zip(loads).map(|(all, load)| {
        let usable = all.iter().copied().filter(|member| load.panic || is_available(member));
        let (members, Load { share, panic }) = (usable.cloned().collect(), load);
        Level { all, members, share, panic }
    });
    levels.filter(|level| !level.members.is_empty()).collect()
}

/// Whether those that drain are used: while none of the others is available, and one of them is
/// (KEP-1669: with no ready endpoint left, those that terminate but still serve).
fn only_draining(members: &[Member]) -> bool {
    let mut lasting = members.iter().filter(|member| !member.draining).peekable();
    let none_lasts = lasting.peek().is_none();
    let draining = |member: &Member| member.draining && is_available(member);
    none_lasts || (!lasting.any(is_available) && members.iter().any(draining))
}

pub(super) fn is_available(member: &Member) -> bool {
    member.endpoint.availability.is_available()
}

/// The endpoints of a level.
#[derive(Clone, Copy, Debug)]
struct Count {
    available: usize,
    all: usize,
}

impl Count {
    fn of(level: &[&Member]) -> Self {
        let available = level.iter().filter(|member| is_available(member)).count();
        Self { available, all: level.len() }
    }

    fn availability(self) -> f64 {
        self.available as f64 / self.all.max(1) as f64
    }
}

/// What a level is given.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Load {
    share: f64,
    panic: bool,
}

fn loads(policy: &BalancePolicy, levels: &[Count]) -> Vec<Load> {
    let overprovision = policy.overprovision.factor().max(1.0);
    let health = |level: &Count| (overprovision * level.availability()).min(1.0);
    let total = levels.iter().map(health).sum::<f64>().min(1.0);
    let threshold = policy.panic_threshold.factor();
    let panics = |level: &Count| total < 1.0 && level.availability() < threshold;
    let mut left = 1.0;
    let carry = |level: &Count| {
        let share = if total > 0.0 { (health(level) / total).min(left) } else { 0.0 };
        left -= share;
        Load { share, panic: panics(level) }
    };
    let mut loads: Vec<Load> = levels.iter().map(carry).collect();
    // Where all panic health says nothing any more; where none of them has anything available
    // those in panic are all there is.
    if levels.iter().all(panics) || total == 0.0 {
        let counts = |load: &Load, level: &Count| if load.panic { level.all as f64 } else { 0.0 };
        let sum: f64 = loads.iter().zip(levels).map(|(load, level)| counts(load, level)).sum();
        for (load, level) in loads.iter_mut().zip(levels) {
            load.share = counts(load, level) / sum.max(1.0);
        }
    }
    loads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Permille;
    use proptest::prelude::*;

    fn shares(levels: &[(usize, usize)]) -> Vec<(f64, bool)> {
        let levels: Vec<Count> =
            levels.iter().map(|&(available, all)| Count { available, all }).collect();
        let loads = loads(&BalancePolicy::default(), &levels);
        loads.iter().map(|load| ((load.share * 1000.0).round() / 1000.0, load.panic)).collect()
    }

    #[test]
    fn a_level_carries_everything_down_to_five_of_seven() {
        assert_eq!(shares(&[(7, 7), (7, 7)]), [(1.0, false), (0.0, false)]);
        assert_eq!(shares(&[(5, 7), (7, 7)]), [(1.0, false), (0.0, false)]);
        assert_eq!(shares(&[(5, 10), (10, 10)]), [(0.7, false), (0.3, false)]);
        assert_eq!(shares(&[(0, 10), (10, 10)]), [(0.0, false), (1.0, false)]);
    }

    #[test]
    fn nobody_panics_while_the_levels_together_carry_the_load() {
        assert_eq!(shares(&[(4, 10), (5, 10)]), [(0.56, false), (0.44, false)]);
        assert_eq!(shares(&[(1, 10), (8, 10)]), [(0.14, false), (0.86, false)]);
    }

    #[test]
    fn what_cannot_carry_the_load_panics_and_shares_by_health() {
        // 14 % and 70 % healthy: the load is 1/6 and 5/6 of it.
        assert_eq!(shares(&[(1, 10), (5, 10)]), [(0.167, true), (0.833, false)]);
        assert_eq!(shares(&[(6, 10)]), [(1.0, false)]);
        assert_eq!(shares(&[(4, 10)]), [(1.0, true)]);
    }

    #[test]
    fn where_all_panic_the_load_goes_by_the_number_of_endpoints() {
        assert_eq!(shares(&[(1, 10), (4, 30)]), [(0.25, true), (0.75, true)]);
        assert_eq!(shares(&[(0, 1)]), [(1.0, true)]);
    }

    #[test]
    fn without_a_threshold_nobody_panics() {
        let policy = BalancePolicy { panic_threshold: Permille(0), ..BalancePolicy::default() };
        let loads = loads(&policy, &[Count { available: 0, all: 3 }]);
        assert_eq!(loads, [Load { share: 0.0, panic: false }]);
    }

    proptest! {
        /// Envoy's own integer arithmetic, in percent, as the oracle.
        #[test]
        fn loads_are_those_of_envoy(
            levels in prop::collection::vec((1usize..40).prop_flat_map(|all| (0..=all, Just(all))), 1..5)
        ) {
            let health: Vec<usize> =
                levels.iter().map(|(available, all)| (140 * available / all).min(100)).collect();
            let total = health.iter().sum::<usize>().min(100);
            prop_assume!(total > 0);
            let got = shares(&levels);
            let panics: Vec<bool> =
                levels.iter().map(|(up, all)| total < 100 && 2 * up < *all).collect();
            // At the rounding of the total to whole percents panic is decided the other way.
            let exact: f64 =
                levels.iter().map(|&(up, all)| (1.4 * up as f64 / all as f64).min(1.0)).sum();
            prop_assume!(exact >= 1.0 || total < 99);
            prop_assume!(exact < 1.0 || total == 100);
            prop_assert_eq!(&panics, &got.iter().map(|load| load.1).collect::<Vec<_>>());
            if panics.iter().all(|panic| *panic) {
                return Ok(());
            }
            let mut left = 100;
            for (health, (share, _)) in health.iter().zip(got) {
                let load = (health * 100 / total).min(left);
                left -= load;
                prop_assert!((share * 100.0 - load as f64).abs() <= 4.0, "{share} for {load} %");
            }
        }
    }
}
