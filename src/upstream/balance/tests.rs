use std::time::Duration;

use proptest::prelude::*;

use super::test_support::members;
use super::*;
use crate::upstream::{InFlight, LatencyRule, Observation, Verdict};

const NOW: Moment = Moment(1_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn balancer(algorithm: &Balance, members: &[Member]) -> Balancer {
    let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
    let around = Circumstances { workers: 1, zone: None, seed: 1, now: NOW };
    Balancer::new(algorithm, members, &weights, members.len(), around)
}

fn pick(tried: &[EndpointId], seed: u64) -> Pick<'_> {
    let random = Random::new(seed);
    Pick { worker: WorkerId(0), now: NOW, tried, key: None, session: None, random }
}

fn counts(balancer: &Balancer, members: &[Member], picks: u64) -> Vec<usize> {
    let mut counts = vec![0; members.len()];
    for seed in 0..picks {
        counts[balancer.pick(members, &mut pick(&[], seed)).expect("a member")] += 1;
    }
    counts
}

fn answered(member: &Member, took: Duration) {
    let rule = LatencyRule::new(&ir::PeakEwma::default());
    let observation = Observation { in_flight: 0, latency: took, verdict: Verdict::Responded(200) };
    member.endpoint.latency.observe(&rule, observation, NOW);
}

fn busy(member: &Member, requests: usize) -> Vec<InFlight> {
    (0..requests).map(|_| InFlight::new(member.endpoint.clone(), NOW)).collect()
}

fn least_request() -> Balance {
    Balance::LeastRequest(ir::LeastRequest::default())
}

fn algorithms() -> impl Strategy<Value = Balance> {
    let sampled = ir::LeastRequest { choices: 3, full_scan: 0 };
    prop_oneof![
        Just(Balance::default()),
        Just(least_request()),
        Just(Balance::LeastRequest(sampled)),
        Just(Balance::Random),
        Just(Balance::RoundRobin),
        Just(Balance::LeastUtilization(ir::OrcaPolicy::default())),
        Just(Balance::Prequal(ir::PrequalPolicy::default())),
        Just(Balance::WeightedByLoad(ir::WeightedByLoad::default())),
    ]
}

proptest! {
    #[test]
    fn every_untried_endpoint_is_found_and_no_tried_one(
        weights in prop::collection::vec(prop_oneof![1u32..4, 1u32..100_000], 1..12),
        load in prop::collection::vec((0usize..4, 0u64..100), 12),
        algorithm in algorithms(),
        seed: u64,
    ) {
        let members = members(&weights);
        let mut flying = Vec::new();
        for (member, (requests, took)) in members.iter().zip(&load) {
            flying.extend(busy(member, *requests));
            if *took > 0 {
                answered(member, MS * *took as u32);
            }
        }
        let balancer = balancer(&algorithm, &members);
        let mut tried = Vec::new();
        for left in (0..members.len()).rev() {
            let picked = balancer.pick(&members, &mut pick(&tried, seed ^ left as u64));
            let id = members[picked.expect("an untried member")].endpoint.id;
            prop_assert!(!tried.contains(&id));
            tried.push(id);
        }
        prop_assert_eq!(balancer.pick(&members, &mut pick(&tried, seed)), None);
    }

    /// The oracle: the lowest (in flight + 1) / weight, in whole numbers.
    #[test]
    fn least_request_picks_the_least_of_a_small_group(
        kinds in prop::collection::vec((1u32..10, 0usize..6), 2..=4),
        seed: u64,
    ) {
        let weights: Vec<u32> = kinds.iter().map(|kind| kind.0).collect();
        let members = members(&weights);
        let _flying: Vec<_> =
            members.iter().zip(&kinds).flat_map(|(member, kind)| busy(member, kind.1)).collect();
        prop_assume!(kinds.iter().any(|kind| kind.1 > 0));
        let picked = balancer(&least_request(), &members).pick(&members, &mut pick(&[], seed));
        let (weight, load) = kinds[picked.expect("a member")];
        for (other, other_load) in &kinds {
            let (mine, theirs) =
                ((load + 1) * *other as usize, (other_load + 1) * weight as usize);
            prop_assert!(mine <= theirs);
        }
    }
}

#[test]
fn idle_endpoints_are_picked_by_their_weights() {
    for algorithm in [least_request(), Balance::Random, Balance::RoundRobin] {
        for weights in [&[5, 1, 1][..], &[1; 3], &[1; 10], &[9, 1, 1, 1, 1, 1, 1, 1, 1, 1]] {
            let members = members(weights);
            let picks = 20_000;
            let counts = counts(&balancer(&algorithm, &members), &members, picks);
            let sum: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let share = f64::from(*weight) / f64::from(sum);
                let off = *count as f64 / picks as f64 - share;
                assert!(off.abs() < 0.02, "{algorithm:?} {weights:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn the_busier_of_two_is_never_picked() {
    let members = members(&[1; 2]);
    let _flying = busy(&members[0], 1);
    let sampled = Balance::LeastRequest(ir::LeastRequest { choices: 2, full_scan: 0 });
    for algorithm in [sampled, Balance::default()] {
        assert_eq!(counts(&balancer(&algorithm, &members), &members, 1000), [0, 1000]);
    }
}

#[test]
fn ties_are_broken_by_chance() {
    let members = members(&[1; 4]);
    let _flying: Vec<_> = members.iter().skip(1).flat_map(|member| busy(member, 1)).collect();
    let _more = busy(&members[0], 2);
    let counts = counts(&balancer(&least_request(), &members), &members, 9000);
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|count| count.abs_diff(3000) < 300), "{counts:?}");
}

#[test]
fn the_default_prefers_the_fast_until_they_are_busy() {
    let members = members(&[1; 3]);
    members.iter().zip([10, 20, 80]).for_each(|(member, took)| answered(member, MS * took));
    let balancer = balancer(&Balance::default(), &members);
    let mut flying = Vec::new();
    let mut order = Vec::new();
    for seed in 0..10 {
        let index = balancer.pick(&members, &mut pick(&[], seed)).expect("a member");
        order.push(index);
        flying.push(InFlight::new(members[index].endpoint.clone(), NOW));
    }
    // 10, then 20 or 20, …: by latency × (in flight + 1).
    assert_eq!(order[0], 0);
    assert_eq!(order.iter().filter(|index| **index == 0).count(), 7, "{order:?}");
    assert_eq!(order.iter().filter(|index| **index == 1).count(), 3, "{order:?}");
}

#[test]
fn weights_count_where_latencies_are_equal() {
    let members = members(&[3, 1]);
    members.iter().for_each(|member| answered(member, MS * 10));
    let balancer = balancer(&Balance::default(), &members);
    let mut flying = Vec::new();
    for seed in 0..40 {
        let index = balancer.pick(&members, &mut pick(&[], seed)).expect("a member");
        flying.push(InFlight::new(members[index].endpoint.clone(), NOW));
    }
    assert!(members[0].endpoint.in_flight().abs_diff(30) <= 1);
}

#[test]
fn one_request_at_a_time_finds_out_about_a_new_endpoint() {
    let members = members(&[1; 2]);
    answered(&members[0], MS * 2);
    let _flying = busy(&members[0], 1);
    let balancer = balancer(&Balance::default(), &members);
    assert_eq!(counts(&balancer, &members, 100), [0, 100], "fast as it is, the other is busy");
    let _probe = busy(&members[1], 1);
    assert_eq!(counts(&balancer, &members, 100), [100, 0], "the new one has its request");
    let _more = busy(&members[0], 1000);
    assert_eq!(counts(&balancer, &members, 100), [100, 0], "whatever the others have");
}

#[test]
fn where_nothing_is_known_the_least_busy_is_picked() {
    let members = members(&[1; 3]);
    let _flying = [busy(&members[0], 3), busy(&members[1], 1), busy(&members[2], 2)];
    assert_eq!(counts(&balancer(&Balance::default(), &members), &members, 100), [0, 100, 0]);
}
