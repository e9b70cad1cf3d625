use proptest::prelude::*;

use super::*;
use crate::ir::{HashInput, Permille};
use crate::telemetry::WorkerId;
use crate::upstream::balance::test_support::members;
use crate::upstream::{EndpointId, InFlight};
use crate::util::moment::Moment;
use crate::util::random::Random;

fn policy(table: HashTable, bounded_load: Option<Permille>) -> HashPolicy {
    HashPolicy { on: vec![HashInput::ClientIp], table, bounded_load }
}

fn pick<'a>(key: Option<u64>, tried: &'a [EndpointId]) -> Pick<'a> {
    let (worker, now, random) = (WorkerId(0), Moment(1), Random::new(1));
    Pick { worker, now, tried, key, session: None, random }
}

fn tables() -> impl Strategy<Value = HashTable> {
    prop_oneof![Just(HashTable::Maglev(None)), Just(HashTable::Ring(160))]
}

#[test]
fn a_request_without_a_key_is_left_to_another_algorithm() {
    let members = members(&[1, 1]);
    let hash = ConsistentHash::new(&policy(HashTable::default(), None), &members, members.len());
    assert_eq!(hash.pick(&members, &pick(None, &[])), None);
}

#[test]
fn the_same_key_meets_the_same_endpoint_after_a_restart() {
    let first = members(&[1; 7]);
    let again = members(&[1; 7]);
    for table in [HashTable::default(), HashTable::Ring(160)] {
        let policy = policy(table, None);
        let (a, b) =
            (ConsistentHash::new(&policy, &first, 7), ConsistentHash::new(&policy, &again, 7));
        for key in (0..1000).map(|key| stable(key, 5)) {
            assert_eq!(
                a.pick(&first, &pick(Some(key), &[])),
                b.pick(&again, &pick(Some(key), &[]))
            );
        }
    }
}

proptest! {
    #[test]
    fn what_was_tried_is_not_picked_again(
        weights in prop::collection::vec(1u32..5, 1..12),
        tried in prop::collection::vec(any::<bool>(), 12),
        key in any::<u64>(),
        table in tables(),
    ) {
        let members = members(&weights);
        let hash = ConsistentHash::new(&policy(table, None), &members, members.len());
        let been: Vec<EndpointId> = members.iter().zip(&tried)
            .filter_map(|(member, tried)| tried.then_some(member.endpoint.id)).collect();
        let picked = hash.pick(&members, &pick(Some(key), &been));
        prop_assert_eq!(picked.is_some(), been.len() < members.len());
        if let Some(index) = picked {
            prop_assert!(!been.contains(&members[index].endpoint.id));
        }
    }

    #[test]
    fn no_endpoint_is_given_more_than_its_bound(
        weights in prop::collection::vec(1u32..5, 2..12),
        factor in 1000u32..2000,
        keys in prop::collection::vec((0u64..5, any::<bool>()), 1..300),
        table in tables(),
    ) {
        let members = members(&weights);
        let hash = ConsistentHash::new(&policy(table, Some(Permille(factor))), &members, members.len());
        let sum: u32 = weights.iter().sum();
        let mut in_flight: Vec<InFlight> = Vec::new();
        for (key, leave) in keys {
            if leave && !in_flight.is_empty() {
                in_flight.swap_remove(key as usize % in_flight.len());
            }
            let index = hash.pick(&members, &pick(Some(stable(key, 0)), &[])).unwrap();
            in_flight.push(InFlight::new(members[index].endpoint.clone(), Moment(1)));
            let share = u64::from(factor) * in_flight.len() as u64 * u64::from(weights[index]);
            let bound = share.div_ceil(1000 * u64::from(sum));
            prop_assert!(u64::from(members[index].endpoint.in_flight()) <= bound);
        }
    }
}
