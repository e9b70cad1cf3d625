use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::ir::{Balance, Name, Permille, SlowStart};
use crate::telemetry::{Metrics, WorkerId};
use crate::upstream::{Common, EndpointId};
use crate::util::random::Random;

const SECOND: Duration = Duration::from_secs(1);
/// When endpoints came to be.
const BIRTH: Moment = Moment(1_000_000_000);

fn around(zone: Option<&str>, now: Moment) -> Circumstances<'_> {
    Circumstances { workers: 1, zone, seed: 7, now }
}

/// Round robin or random, without recovery's slow start.
fn policy(algorithm: Balance) -> BalancePolicy {
    let slow_start = SlowStart { recovery: Duration::ZERO, ..SlowStart::default() };
    BalancePolicy { algorithm, slow_start, ..BalancePolicy::default() }
}

fn members(count: usize) -> Vec<Member> {
    let metrics = Metrics::new(1);
    let common = Arc::<Common>::default();
    let member = |n: usize| {
        let address = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
        let counters = metrics.endpoint(&Name::from("test"), &address.to_string());
        let endpoint = Arc::new(Endpoint::new(address, None, counters, common.clone(), BIRTH));
        Member { endpoint, weight: 1, priority: 0, zone: None, draining: false }
    };
    (0..count).map(member).collect()
}

fn break_down(member: &Member) {
    member.endpoint.availability.set_healthy(false, BIRTH);
}

fn recover(member: &Member, now: Moment) {
    member.endpoint.availability.set_healthy(true, now);
}

/// How often each member is picked first.
fn shares(set: &EndpointSet, picks: usize) -> Vec<f64> {
    let mut counts = BTreeMap::<EndpointId, usize>::new();
    for number in 0..picks {
        let mut pick = pick(&[], number as u64);
        let endpoint = set.pick(&mut pick).expect("an endpoint");
        *counts.entry(endpoint.id).or_default() += 1;
    }
    let share = |member: &Member| {
        counts.get(&member.endpoint.id).copied().unwrap_or(0) as f64 / picks as f64
    };
    set.members().iter().map(share).collect()
}

/// Where a request goes that fails everywhere, in order; as positions in the declaration.
fn walk(set: &EndpointSet, seed: u64) -> Vec<usize> {
    let mut tried = Vec::new();
    while let Some(endpoint) = set.pick(&mut pick(&tried, seed)) {
        assert!(!tried.contains(&endpoint.id), "a tried endpoint was picked");
        tried.push(endpoint.id);
    }
    let position = |id| set.members().iter().position(|member| member.endpoint.id == id);
    tried.into_iter().filter_map(position).collect()
}

fn walked(set: &EndpointSet) -> BTreeSet<usize> {
    walk(set, 1).into_iter().collect()
}

fn pick(tried: &[EndpointId], seed: u64) -> Pick<'_> {
    let random = Random::new(seed);
    Pick { worker: WorkerId(0), now: BIRTH, tried, key: None, session: None, random }
}

fn build(policy: &BalancePolicy, members: &[Member]) -> EndpointSet {
    EndpointSet::build(policy, members.to_vec(), around(None, BIRTH))
}

#[track_caller]
fn assert_shares(set: &EndpointSet, expected: &[f64]) {
    let shares = shares(set, 20_000);
    let close = shares.iter().zip(expected).all(|(got, want)| (got - want).abs() < 0.015);
    assert!(close && shares.len() == expected.len(), "{shares:?}, not {expected:?}");
}

#[test]
fn an_endpoint_that_drains_is_left_alone_while_others_live() {
    let mut all = members(3);
    all[0].draining = true;
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [1, 2].into());
}

#[test]
fn where_all_drain_they_are_used() {
    let mut all = members(2);
    all.iter_mut().for_each(|member| member.draining = true);
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [0, 1].into());
}

#[test]
fn endpoints_that_drain_are_used_before_unhealthy_ones() {
    let mut all = members(3);
    all[0].draining = true;
    break_down(&all[1]);
    break_down(&all[2]);
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [0].into());
}

#[test]
fn a_draining_level_hands_over_to_the_next() {
    let mut all = members(2);
    all[0].draining = true;
    all[1].priority = 1;
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [1].into());
}

#[test]
fn the_only_endpoint_is_used_even_where_it_is_unhealthy() {
    let all = members(1);
    break_down(&all[0]);
    assert_eq!(walked(&build(&policy(Balance::default()), &all)), [0].into());
}

#[test]
fn a_set_without_endpoints_gives_none() {
    assert!(build(&policy(Balance::default()), &[]).pick(&mut pick(&[], 1)).is_none());
}

#[test]
fn unavailable_endpoints_are_not_picked_until_too_few_are_left() {
    let all = members(4);
    break_down(&all[0]);
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [1, 2, 3].into());
    break_down(&all[1]);
    assert_eq!(walked(&build(&policy(Balance::Random), &all)), [2, 3].into());
    break_down(&all[2]);
    let set = build(&policy(Balance::Random), &all);
    assert_eq!(walked(&set), [0, 1, 2, 3].into());
    assert_shares(&set, &[0.25; 4]);
}

#[test]
fn without_panic_nothing_is_picked_where_nothing_is_available() {
    let all = members(2);
    all.iter().for_each(break_down);
    let policy = BalancePolicy { panic_threshold: Permille(0), ..policy(Balance::Random) };
    assert_eq!(walked(&build(&policy, &all)), [].into());
}

#[test]
fn load_spills_over_to_the_next_level_as_far_as_the_first_fails() {
    let mut all = members(20);
    all[10..].iter_mut().for_each(|member| member.priority = 1);
    all[..5].iter().for_each(break_down);
    let set = build(&policy(Balance::RoundRobin), &all);
    let expected: Vec<f64> =
        (0..20).map(|n| [0.0, 0.7 / 5.0, 0.3 / 10.0, 0.3 / 10.0][n / 5]).collect();
    assert_shares(&set, &expected);
}

#[test]
fn a_request_that_failed_on_the_whole_first_level_goes_to_the_next() {
    let mut all = members(4);
    all[0].priority = 1;
    all[1].priority = 1;
    for algorithm in [Balance::default(), Balance::Random, Balance::RoundRobin] {
        for seed in 0..20 {
            let order = walk(&build(&policy(algorithm.clone()), &all), seed);
            assert_eq!(order[..2].iter().collect::<BTreeSet<_>>(), [2, 3].iter().collect());
            assert_eq!(order[2..].iter().collect::<BTreeSet<_>>(), [0, 1].iter().collect());
        }
    }
}

fn in_zones(zones: &[&str]) -> Vec<Member> {
    let mut all = members(zones.len());
    for (member, zone) in all.iter_mut().zip(zones) {
        member.zone = (!zone.is_empty()).then(|| Arc::from(*zone));
    }
    all
}

fn in_zone(zone: Option<&str>, policy: &BalancePolicy, members: &[Member]) -> EndpointSet {
    EndpointSet::build(policy, members.to_vec(), around(zone, BIRTH))
}

#[test]
fn a_zone_with_its_fair_share_of_endpoints_keeps_its_load() {
    let all = in_zones(&["a", "a", "b", "b", "b"]);
    let policy = policy(Balance::Random);
    // 2 of 5 endpoints for half of the load are 80 %; the rest is in `b`.
    let elsewhere = 0.2 / 3.0;
    assert_shares(&in_zone(Some("a"), &policy, &all), &[0.4, 0.4, elsewhere, elsewhere, elsewhere]);
    let third = 1.0 / 3.0;
    assert_shares(&in_zone(Some("b"), &policy, &all), &[0.0, 0.0, third, third, third]);
    // Of another zone, and of none, all are alike.
    assert_shares(&in_zone(Some("c"), &policy, &all), &[0.2; 5]);
    assert_shares(&in_zone(None, &policy, &all), &[0.2; 5]);
    let off = BalancePolicy { zone_aware: false, ..policy };
    assert_shares(&in_zone(Some("b"), &off, &all), &[0.2; 5]);
}

#[test]
fn load_leaves_the_zone_as_its_endpoints_fail() {
    let all = in_zones(&["a", "a", "a", "a", "b", "b", "b", "b"]);
    let policy = policy(Balance::Random);
    break_down(&all[0]);
    let third = 1.0 / 3.0;
    assert_shares(
        &in_zone(Some("a"), &policy, &all),
        &[0.0, third, third, third, 0.0, 0.0, 0.0, 0.0],
    );
    break_down(&all[1]);
    let spilled = 0.3 / 4.0;
    assert_shares(
        &in_zone(Some("a"), &policy, &all),
        &[0.0, 0.0, 0.35, 0.35, spilled, spilled, spilled, spilled],
    );
}

#[test]
fn what_spills_goes_where_there_is_room_and_elsewhere_only_after_that() {
    let all = in_zones(&["a", "b", "b", "c", "c", "c"]);
    let set = in_zone(Some("a"), &policy(Balance::Random), &all);
    // Each zone sends a third: `a` takes half of its own, only `c` has more than it needs.
    assert_shares(&set, &[0.5, 0.0, 0.0, 0.5 / 3.0, 0.5 / 3.0, 0.5 / 3.0]);
    assert_eq!(walked(&set).len(), 6);
}

#[test]
fn in_panic_zones_do_not_count() {
    let all = in_zones(&["a", "a", "b", "b", "b"]);
    all[1..4].iter().for_each(break_down);
    assert_shares(&in_zone(Some("a"), &policy(Balance::Random), &all), &[0.2; 5]);
}

fn weights_after(policy: SlowStart, members: &[Member], age: Duration) -> Vec<u32> {
    slow_start::weights(&policy, members, BIRTH.after(age)).weights
}

#[test]
fn a_new_endpoint_grows_into_its_share() {
    let window = SlowStart { window: SECOND * 10, ..SlowStart::default() };
    let mut all = members(3);
    all[0].weight = 4;
    let born = |member: &mut Member, at: Moment| {
        let before = &member.endpoint;
        let counters = before.metrics.clone();
        let common = before.common.clone();
        member.endpoint = Arc::new(Endpoint::new(before.address, None, counters, common, at));
    };
    born(&mut all[0], BIRTH.after(SECOND * 100));
    let at = |seconds: u32| weights_after(window, &all, SECOND * (100 + seconds));
    assert_eq!(at(0), [400, 1000, 1000]);
    assert_eq!(at(1), [400, 1000, 1000]);
    assert_eq!(at(5), [2000, 1000, 1000]);
    assert_eq!(at(9), [3600, 1000, 1000]);
    assert_eq!(at(10), [4, 1, 1]);
    let fast = SlowStart { aggression: Permille(2000), ..window };
    let weights = weights_after(fast, &all, SECOND * 105);
    assert_eq!(weights, [(4000.0 * 0.5f64.sqrt()).round() as u32, 1000, 1000]);
}

#[test]
fn nobody_is_spared_where_most_are_new() {
    let policy = SlowStart { window: SECOND * 10, ..SlowStart::default() };
    assert_eq!(weights_after(policy, &members(3), SECOND), [1, 1, 1]);
}

#[test]
fn a_recovered_endpoint_starts_slowly_by_default_and_the_set_wants_to_be_refreshed() {
    let all = members(4);
    break_down(&all[0]);
    let back = BIRTH.after(SECOND * 60);
    recover(&all[0], back);
    let policy = BalancePolicy { algorithm: Balance::RoundRobin, ..BalancePolicy::default() };
    let at =
        |after: Duration| EndpointSet::build(&policy, all.clone(), around(None, back.after(after)));
    assert_shares(&at(SECOND), &[0.1 / 3.1, 1.0 / 3.1, 1.0 / 3.1, 1.0 / 3.1]);
    assert_shares(&at(SECOND * 5), &[0.5 / 3.5, 1.0 / 3.5, 1.0 / 3.5, 1.0 / 3.5]);
    assert_eq!(at(SECOND).refresh_at(), Some(back.after(SECOND + Duration::from_millis(200))));
    assert_eq!(at(SECOND * 10).refresh_at(), None);
    assert_shares(&at(SECOND * 10), &[0.25; 4]);
}

fn subset_of(members: &[Member], count: u32) -> BTreeSet<SocketAddr> {
    let policy = BalancePolicy { subset: Some(count), ..policy(Balance::Random) };
    let set = build(&policy, members);
    walk(&set, 1).into_iter().map(|index| set.members()[index].endpoint.address).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_subset_changes_by_one_at_most_when_an_endpoint_comes_goes_or_breaks(
        count in 2usize..60,
        subset in 1u32..20,
        which: prop::sample::Index,
        breaks: bool,
    ) {
        let mut all = members(count);
        let before = subset_of(&all, subset);
        prop_assert_eq!(before.len(), count.min(subset as usize));
        let which = which.index(count);
        // Only one is lost, so that nothing panics.
        if breaks && count > 4 {
            break_down(&all[which]);
        } else {
            all.remove(which);
        }
        let after = subset_of(&all, subset);
        prop_assert!(before.difference(&after).count() <= 1);
        prop_assert!(after.difference(&before).count() <= 1);
        prop_assert_eq!(after.len(), (count - 1).min(subset as usize));
    }

    /// Whatever happens to be where: each endpoint that the rules allow is found once.
    #[test]
    fn a_request_finds_every_endpoint_it_may_go_to_exactly_once(
        kinds in prop::collection::vec((0u32..3, 0usize..4, any::<bool>(), any::<bool>()), 0..12),
        zone in prop::option::of(0usize..3),
        seed: u64,
        algorithm in prop_oneof![
            Just(Balance::default()),
            Just(Balance::Random),
            Just(Balance::RoundRobin),
            Just(Balance::LeastRequest(Default::default())),
        ],
    ) {
        const ZONES: [&str; 4] = ["a", "b", "c", ""];
        let zones: Vec<&str> = kinds.iter().map(|kind| ZONES[kind.1]).collect();
        let mut all = in_zones(&zones);
        for (member, (priority, _, draining, up)) in all.iter_mut().zip(&kinds) {
            (member.priority, member.draining) = (*priority, *draining);
            if !up {
                break_down(member);
            }
        }
        let set = in_zone(zone.map(|zone| ZONES[zone]), &policy(algorithm), &all);
        let order = walk(&set, seed);
        let found: BTreeSet<usize> = order.iter().copied().collect();
        prop_assert_eq!(found.len(), order.len());
        let up = |n: &usize| all[*n].endpoint.availability.is_available();
        let lasting: BTreeSet<usize> = (0..all.len()).filter(|n| !all[*n].draining).collect();
        let draining: BTreeSet<usize> = (0..all.len()).filter(|n| all[*n].draining).collect();
        let usable = |of: &BTreeSet<usize>| of.iter().copied().filter(up).collect::<BTreeSet<_>>();
        let pool = match (usable(&lasting).is_empty(), usable(&draining).is_empty()) {
            (false, _) => &lasting,
            (true, false) => &draining,
            (true, true) if lasting.is_empty() => &draining,
            (true, true) => &lasting,
        };
        // Everything available in the pool is found, and nothing from outside of it.
        prop_assert!(usable(pool).is_subset(&found), "{order:?}");
        prop_assert!(found.is_subset(pool), "{order:?}");
        prop_assert_eq!(found.is_empty(), all.is_empty());
    }
}

#[test]
fn keys_stay_where_they_are_when_an_endpoint_breaks_down_or_comes_back() {
    use crate::ir::{HashInput, HashPolicy, HashTable};
    // 33 is the least number of endpoints for the second size of table.
    let members = members(33);
    let on = vec![HashInput::ClientIp];
    let hash = HashPolicy { on, table: HashTable::default(), bounded_load: None };
    let policy = policy(Balance::Hash(hash));
    let owners = || {
        let set = EndpointSet::build(&policy, members.clone(), around(None, BIRTH));
        let owner = |key| {
            let key = Some(stable(key, 1));
            set.pick(&mut Pick { key, ..pick(&[], 1) }).map(|endpoint| endpoint.id)
        };
        (0..10_000).map(owner).collect::<Vec<_>>()
    };
    let before = owners();
    break_down(&members[7]);
    let moved = before.iter().zip(owners()).filter(|(was, is)| *was != is).count();
    assert!(moved * 33 <= 2 * before.len(), "{moved} keys moved");
    recover(&members[7], BIRTH);
    assert_eq!(before, owners());
}
