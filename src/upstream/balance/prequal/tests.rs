//! The hot-cold rule, and what becomes of probes.

use proptest::prelude::*;

use super::super::test_support::members;
use super::seen::{REMEMBERED, Seen};
use super::*;
use crate::ir::Permille;
use crate::telemetry::WorkerId;
use crate::upstream::{EndpointId, InFlight, Observation, Verdict};
use crate::util::moment::Moment;

const NOW: Moment = Moment(1_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn prequal(policy: &PrequalPolicy, members: &[Member]) -> Prequal {
    let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
    Prequal::new(policy, members, &weights, 1)
}

fn pick(tried: &[EndpointId], seed: u64, now: Moment) -> Pick<'_> {
    let random = Random::new(seed);
    Pick { worker: WorkerId(0), now, tried, key: None, session: None, random }
}

fn counts(prequal: &Prequal, members: &[Member], picks: u64) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    for seed in 0..picks {
        let picked = prequal.pick(members, &mut pick(&[], seed, NOW));
        counts[picked.expect("a member")] += 1;
    }
    counts
}

fn answered(member: &Member, status: u16, took: Duration, in_flight: u32) {
    let verdict = Verdict::Responded(status);
    let samples = member.endpoint.samples().expect("kept");
    for _ in 0..5 {
        samples.observe(Observation { in_flight, latency: took, verdict }, NOW);
    }
}

fn busy(member: &Member, requests: usize) -> Vec<InFlight> {
    (0..requests).map(|_| InFlight::new(member.endpoint.clone(), NOW)).collect()
}

/// Ten endpoints that have one request in flight and take 20 ms.
fn ten(policy: &PrequalPolicy) -> (Vec<Member>, Prequal, Vec<InFlight>) {
    let members = members(&[1; 10]);
    let prequal = prequal(policy, &members);
    let flying = members.iter().flat_map(|member| busy(member, 1)).collect();
    members.iter().for_each(|member| answered(member, 200, MS * 20, 1));
    (members, prequal, flying)
}

#[test]
fn of_the_cold_ones_the_fastest_is_picked() {
    let (members, prequal, _flying) = ten(&PrequalPolicy::default());
    members.iter().take(1).for_each(|fast| (0..2).for_each(|_| answered(fast, 200, MS * 5, 1)));
    let counts = counts(&prequal, &members, 100);
    let most = counts[1..].iter().max().expect("others");
    // Whenever it was probed, that is: three times of ten, once each until it is hot.
    assert!(counts[0] >= 25 && 2 * counts[0] > 3 * most, "{counts:?}");
}

#[test]
fn a_hot_one_is_not_picked_however_fast_it_was() {
    let (members, prequal, _flying) = ten(&PrequalPolicy::default());
    let _more = busy(&members[0], 20);
    answered(&members[0], 200, MS, 21);
    let counts = counts(&prequal, &members, 1000);
    // Until the first probes have told what is hot, and where nothing else is there.
    assert!(counts[0] < 20, "{counts:?}");
}

#[test]
fn where_all_are_hot_the_one_with_the_fewest_requests_is_picked() {
    let policy = PrequalPolicy { hot: Permille(0), ..PrequalPolicy::default() };
    let members = members(&[1; 4]);
    let prequal = prequal(&policy, &members);
    let _flying: Vec<_> =
        members.iter().zip([8, 6, 2, 4]).flat_map(|(member, n)| busy(member, n)).collect();
    members.iter().for_each(|member| answered(member, 200, MS * 20, 4));
    answered(&members[0], 200, MS, 8);
    let pool = &prequal.pools[0];
    pool.seen.hot_above.set(1);
    (0..4).for_each(|index| put(pool, &members, index, 20, 9, NOW));
    assert_eq!(next(pool, &members), Some(2));
    let other = |member: &Member| member.endpoint.id != members[2].endpoint.id;
    assert_eq!(pool.best(&members, other).map(|place| pool.use_up(place)), Some(3));
}

/// Puts in a probe of an endpoint as it is now.
fn put(pool: &Pool, members: &[Member], index: usize, latency: u32, uses: u32, now: Moment) {
    let in_flight = members[index].endpoint.in_flight();
    pool.put(index, Probe { in_flight, latency, failing: false }, in_flight, uses, now);
}

fn next(pool: &Pool, members: &[Member]) -> Option<usize> {
    pool.best(members, |_| true).map(|place| pool.use_up(place))
}

#[test]
fn of_those_about_as_fast_as_the_fastest_the_one_with_the_fewest_requests_is_picked() {
    let members = members(&[1; 4]);
    let _flying: Vec<_> =
        members.iter().zip([3, 2, 1, 0]).flat_map(|(member, n)| busy(member, n)).collect();
    let pool = Pool::new(4);
    pool.seen.hot_above.set(5);
    for (index, latency) in [100, 150, 151, 900].into_iter().enumerate() {
        put(&pool, &members, index, latency, 9, NOW);
    }
    assert_eq!(next(&pool, &members), Some(1));
}

#[test]
fn endpoints_that_fail_fast_or_do_not_answer_are_not_picked() {
    let (members, prequal, _flying) = ten(&PrequalPolicy::default());
    answered(&members[0], 503, MS, 0);
    answered(&members[1], 200, Duration::from_secs(1), 0);
    answered(&members[0], 503, MS, 1);
    answered(&members[1], 200, Duration::from_secs(1), 1);
    let counts = counts(&prequal, &members, 2000);
    assert!(counts[0] + counts[1] < 20, "{counts:?}");
}

#[test]
fn what_was_sent_and_came_back_since_a_probe_counts_in_it_at_once() {
    let members = members(&[1; 2]);
    let pool = Pool::new(4);
    pool.seen.hot_above.set(1);
    put(&pool, &members, 0, 10, 9, NOW);
    put(&pool, &members, 1, 20, 9, NOW);
    let mut flying = Vec::new();
    let mut send = || {
        let picked = next(&pool, &members);
        flying.extend(picked.map(|index| busy(&members[index], 1)));
        (picked, flying.len())
    };
    // The faster one until it is hot, then the other one, then whichever has fewer.
    let sent: Vec<_> = (0..5).map(|_| send().0).collect();
    assert_eq!(sent, [Some(0), Some(0), Some(1), Some(1), Some(0)]);
    flying.clear();
    assert_eq!(next(&pool, &members), Some(0));
}

#[test]
fn what_the_endpoint_told_counts_with_what_was_sent_since() {
    let members = members(&[1; 2]);
    let pool = Pool::new(4);
    pool.seen.hot_above.set(9);
    for (index, in_flight) in [(0, 4), (1, 5)] {
        pool.put(index, Probe { in_flight, latency: 10, failing: false }, 0, 9, NOW);
    }
    assert_eq!(next(&pool, &members), Some(0));
    let _two = busy(&members[0], 2);
    assert_eq!(next(&pool, &members), Some(1));
}

#[test]
fn probes_age_are_used_up_and_go_the_oldest_and_the_worst_in_turn() {
    let members = members(&[1; 4]);
    let _flying: Vec<_> =
        members.iter().zip([1, 9, 2, 7]).flat_map(|(member, n)| busy(member, n)).collect();
    let pool = Pool::new(4);
    pool.seen.hot_above.set(5);
    (0..4).for_each(|n| put(&pool, &members, n, 10, 2, Moment(NOW.0 + n as u64)));
    let kept = || {
        let mut kept: Vec<_> = pool.entries().map(|(_, entry)| entry.index.get()).collect();
        kept.sort_unstable();
        kept
    };
    pool.remove_one(&members);
    assert_eq!(kept(), [1, 2, 3], "the oldest");
    pool.remove_one(&members);
    assert_eq!(kept(), [2, 3], "the hottest");
    assert_eq!((next(&pool, &members), kept()), (Some(2), vec![2, 3]));
    assert_eq!((next(&pool, &members), kept()), (Some(2), vec![3]), "used up");
    pool.expire(Duration::from_secs(1), NOW.after(Duration::from_secs(2)));
    assert!(kept().is_empty());
}

#[test]
fn reuse_follows_the_papers_formula() {
    let reuse = |count: usize, pool: u32, probes: u32| {
        let policy = PrequalPolicy { pool, probes: Permille(probes), ..PrequalPolicy::default() };
        prequal(&policy, &members(&vec![1; count])).reuse
    };
    assert!((reuse(100, 16, 3000) - 2.0 / (0.84 * 3.0 - 1.0)).abs() < 1e-9);
    assert_eq!(reuse(100, 16, 9000), 1.0, "at least once");
    assert_eq!(reuse(10, 16, 3000), f64::INFINITY, "all are kept");
}

proptest! {
    /// The pool against a plain list of what it should keep.
    #[test]
    fn the_pool_keeps_one_probe_of_each_endpoint_and_never_more_than_it_may(
        kept in 2usize..8,
        steps in prop::collection::vec((0usize..12, 0u32..20, 1u32..4, 0u8..4), 1..200),
    ) {
        let members = members(&[1; 12]);
        let pool = Pool::new(kept);
        for (step, (index, latency, uses, what)) in steps.into_iter().enumerate() {
            match what {
                0 | 1 => put(&pool, &members, index, latency, uses, Moment(NOW.0 + step as u64)),
                2 => pool.remove_one(&members),
                _ => {
                    let empty = pool.len() == 0;
                    prop_assert_eq!(next(&pool, &members).is_none(), empty);
                }
            }
            let mut indices: Vec<_> = pool.entries().map(|(_, e)| e.index.get()).collect();
            indices.sort_unstable();
            indices.dedup();
            prop_assert_eq!(indices.len(), pool.len());
            prop_assert!(pool.len() <= kept);
            prop_assert!(pool.entries().all(|(_, entry)| entry.uses.get() > 0));
        }
    }

    #[test]
    fn the_quantile_is_that_of_a_sorted_list(
        seen in prop::collection::vec(0u32..50, 1..200),
        hot in 0u32..=1000,
    ) {
        let all = Seen::default();
        let hot = f64::from(hot) / 1000.0;
        seen.iter().for_each(|number| all.note(*number, 1, hot));
        // It was computed last when the count was a multiple of 16, and always at first.
        let last = if seen.len() <= 16 { seen.len() } else { (seen.len() - 1) / 16 * 16 + 1 };
        let mut recent: Vec<_> = seen[..last].iter().rev().take(REMEMBERED).copied().collect();
        recent.sort_unstable();
        let place = ((recent.len() - 1) as f64 * hot).floor() as usize;
        prop_assert_eq!(all.hot_above.get(), recent[place]);
    }
}
