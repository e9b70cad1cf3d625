//! Random lives of a group against the model.

use proptest::prelude::*;

use super::model::{Model, Modelled};
use super::*;
use crate::ir::SuccessRate;

#[derive(Clone, Debug)]
enum Step {
    /// So many attempts in a row end so.
    Attempts(usize, Verdict, usize),
    /// Checks find an endpoint healthy or not.
    Health(usize, bool),
    /// Time passes, in milliseconds.
    Pass(u64),
    /// The control side looks.
    Upkeep,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(OK),
        3 => Just(ERROR),
        2 => Just(GATEWAY),
        3 => Just(REFUSED),
        1 => Just(Verdict::Failed(Reason::RequestTimeout)),
        1 => Just(Verdict::Responded(429)),
        1 => Just(Verdict::Abandoned),
        1 => Just(Verdict::Failed(Reason::UpstreamIdleTimeout)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let endpoint = 0..8usize;
    prop_oneof![
        8 => (endpoint.clone(), verdict(), 1..40usize)
            .prop_map(|(endpoint, verdict, count)| Step::Attempts(endpoint, verdict, count)),
        1 => (endpoint, any::<bool>()).prop_map(|(endpoint, healthy)| Step::Health(endpoint, healthy)),
        3 => (1..9_000u64).prop_map(Step::Pass),
        5 => Just(Step::Upkeep),
    ]
}

fn policy() -> impl Strategy<Value = Outlier> {
    let rows = (0..7u32, 0..7u32, 0..7u32);
    let times = (1..12u64, 1..30u64, 1..100u64);
    let success = prop::option::of((1..5u32, 1..30u32, 0..2500u32));
    let failures = prop::option::of((0..1001u32, 1..5u32, 1..30u32));
    (rows, times, 0..1001u32, success, failures).prop_map(
        |(rows, times, most, success, failures)| Outlier {
            consecutive_5xx: rows.0,
            consecutive_gateway: rows.1,
            consecutive_local: rows.2,
            interval: seconds(times.0),
            ejection: seconds(times.1),
            max_ejection: seconds(times.2),
            max_ejected: Permille(most),
            success_rate: success.map(|(min_endpoints, min_requests, factor)| SuccessRate {
                min_endpoints,
                min_requests,
                factor: Permille(factor),
            }),
            failure_percentage: failures.map(|(threshold, min_endpoints, min_requests)| {
                FailurePercentage { threshold: Permille(threshold), min_endpoints, min_requests }
            }),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn ejection_is_as_the_model_has_it_and_keeps_its_promises(
        policy in policy(),
        panic in prop_oneof![Just(0), Just(500), 0..1001u32].prop_map(Permille),
        draining in prop::collection::vec(prop::bool::weighted(0.2), 1..8),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(draining.len(), policy.clone());
        world.panic = panic;
        for (member, draining) in world.members.iter_mut().zip(&draining) {
            member.draining = *draining;
        }
        let modelled = draining.iter().map(|draining| Modelled::new(*draining)).collect();
        let mut model = Model::new(policy, panic, modelled, at(0));
        let mut now = at(0);
        for step in steps {
            match step {
                Step::Attempts(endpoint, verdict, count) => {
                    let endpoint = endpoint % draining.len();
                    world.see(endpoint, verdict, count);
                    (0..count).for_each(|_| model.see(endpoint, verdict));
                }
                Step::Health(endpoint, healthy) => {
                    let endpoint = endpoint % draining.len();
                    let availability = &world.members[endpoint].endpoint.availability;
                    availability.set_healthy(healthy, now);
                    world.detector.attend();
                    model.endpoints[endpoint].healthy = healthy;
                }
                Step::Pass(millis) => now = now.after(Duration::from_millis(millis)),
                Step::Upkeep => {
                    world.upkeep(now);
                    model.upkeep(now);
                    compare(&world, &model, now)?;
                }
            }
        }
    }
}

fn compare(world: &World, model: &Model, now: Moment) -> Result<(), TestCaseError> {
    for (member, modelled) in world.members.iter().zip(&model.endpoints) {
        let ejection = member.endpoint.ejection();
        let found = ejection.map(|ejection| (ejection.reason, ejection.until));
        prop_assert_eq!(found, modelled.ejected);
        prop_assert_eq!(member.endpoint.availability.ejected_until(), found.map(|found| found.1));
        if let Some(ejection) = ejection {
            prop_assert_eq!(ejection.times, modelled.times);
            prop_assert!(ejection.until > now, "over but not ended");
        }
    }
    prop_assert!(world.out().len() <= model.most(), "more than may be");
    let healthy = |member: &Member| member.endpoint.availability.is_healthy();
    let available = |member: &Member| member.endpoint.availability.is_available();
    if world.members.iter().any(healthy) {
        prop_assert!(world.members.iter().any(available), "the last one was ejected");
    }
    Ok(())
}
