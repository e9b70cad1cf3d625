//! Ejection as those who watch it see it, in virtual time.

mod model;
mod property;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ir::{self, FailurePercentage, Name, Origin, Permille};
use crate::telemetry::{EjectionCause, Metrics, Reason};
use crate::upstream::{
    EjectionReason, Environment, Observation, Registry, Target, Transport, Upstream,
};

const OK: Verdict = Verdict::Responded(200);
const ERROR: Verdict = Verdict::Responded(500);
const GATEWAY: Verdict = Verdict::Responded(503);
const REFUSED: Verdict = Verdict::Failed(Reason::ConnectFailed);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many seconds after the start of the world.
fn at(time: u64) -> Moment {
    Moment(1).after(seconds(time))
}

fn member(port: u16) -> Member {
    let metrics = Metrics::new(1);
    let address = ([127, 0, 0, 1], port).into();
    let metrics = metrics.endpoint(&Name::from("app"), &port.to_string());
    Member {
        endpoint: Arc::new(Endpoint::new(address, None, metrics, Arc::default(), Moment(1))),
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    }
}

/// A group of endpoints under a policy.
struct World {
    policy: Option<Outlier>,
    panic: Permille,
    detector: Detector,
    members: Vec<Member>,
}

impl World {
    fn new(members: usize, policy: Outlier) -> Self {
        let detector = Detector::new(Some(&policy), at(0));
        let members = (0..members).map(|port| member(port as u16)).collect();
        Self { policy: Some(policy), panic: Permille(0), detector, members }
    }

    /// `count` attempts at `endpoint` that end so.
    fn see(&self, endpoint: usize, verdict: Verdict, count: usize) {
        let policy = self.policy.as_ref().expect("observed by policy only");
        for _ in 0..count {
            self.detector.observe(policy, &self.members[endpoint].endpoint, verdict);
        }
    }

    fn upkeep(&self, now: Moment) -> Option<Findings> {
        self.detector.upkeep(self.policy.as_ref(), self.panic, &self.members, now)
    }

    /// Those ejected after an upkeep at `time`.
    fn ejected(&self, time: u64) -> Vec<usize> {
        self.upkeep(at(time));
        self.out()
    }

    fn out(&self) -> Vec<usize> {
        let out = |index: &usize| self.members[*index].endpoint.ejection().is_some();
        (0..self.members.len()).filter(out).collect()
    }

    fn ejection(&self, endpoint: usize) -> Ejection {
        self.members[endpoint].endpoint.ejection().expect("it is ejected")
    }

    fn set_healthy(&self, endpoint: usize, healthy: bool, time: u64) {
        self.members[endpoint].endpoint.availability.set_healthy(healthy, at(time));
        self.detector.attend();
    }
}

#[test]
fn five_server_errors_in_a_row_eject_for_ten_seconds() {
    let world = World::new(3, Outlier::default());
    world.see(1, ERROR, 4);
    world.see(1, OK, 1);
    world.see(1, ERROR, 4);
    assert!(world.ejected(1).is_empty(), "a success begins the row anew");
    world.see(1, ERROR, 1);
    assert_eq!(world.ejected(2), [1]);
    let ejection = world.ejection(1);
    assert_eq!((ejection.since, ejection.until, ejection.times), (at(2), at(12), 1));
    assert_eq!(ejection.reason.to_string(), "5 consecutive 5xx");
    assert!(!world.members[1].endpoint.availability.is_available());
    assert_eq!(world.ejected(11), [1]);
    assert!(world.ejected(32).is_empty());
    let availability = &world.members[1].endpoint.availability;
    assert!(availability.is_available() && availability.is_recovered());
    assert_eq!(availability.since(), at(32));
}

#[test]
fn a_suspicion_outlives_a_success_that_comes_before_it_is_looked_at() {
    let world = World::new(3, Outlier::default());
    world.see(0, ERROR, 5);
    world.see(0, OK, 1);
    assert_eq!(world.ejected(1), [0]);
}

#[test]
fn each_kind_of_failure_has_its_row() {
    let policy = Outlier {
        consecutive_5xx: 9,
        consecutive_gateway: 6,
        consecutive_local: 3,
        ..Outlier::default()
    };
    let cause = |verdicts: &[(Verdict, usize)]| {
        let world = World::new(2, policy.clone());
        verdicts.iter().for_each(|(verdict, count)| world.see(0, *verdict, *count));
        world.ejected(1).first().map(|index| match world.ejection(*index).reason {
            EjectionReason::Consecutive { cause, count } => (cause, count),
            other => panic!("{other}"),
        })
    };
    assert_eq!(cause(&[(REFUSED, 3)]), Some((EjectionCause::ConsecutiveLocal, 3)));
    assert_eq!(cause(&[(REFUSED, 2), (GATEWAY, 1), (REFUSED, 2)]), None);
    assert_eq!(
        cause(&[(REFUSED, 2), (GATEWAY, 4)]),
        Some((EjectionCause::ConsecutiveGateway, 6)),
        "local failures are gateway errors"
    );
    assert_eq!(cause(&[(GATEWAY, 5), (ERROR, 1), (GATEWAY, 2)]), None);
    assert_eq!(
        cause(&[(GATEWAY, 5), (ERROR, 2), (REFUSED, 2)]),
        Some((EjectionCause::Consecutive5xx, 9)),
        "all of them are 5xx"
    );
    assert_eq!(cause(&[(Verdict::Responded(499), 99), (Verdict::Responded(429), 99)]), None);
}

#[test]
fn what_nobody_waited_for_or_a_client_may_have_done_says_nothing() {
    let world = World::new(2, Outlier::default());
    let stalled = Verdict::Failed(Reason::UpstreamIdleTimeout);
    for _ in 0..2 {
        world.see(0, REFUSED, 2);
        world.see(0, Verdict::Abandoned, 50);
        world.see(0, stalled, 50);
    }
    assert!(world.ejected(1).is_empty());
    world.see(0, REFUSED, 1);
    assert_eq!(world.ejected(1), [0], "nor does it begin the row anew");
}

#[test]
fn ejections_in_a_row_grow_to_a_limit_and_are_forgiven_one_by_one() {
    let (ejection, max_ejection) = (seconds(30), seconds(70));
    let policy = Outlier { ejection, max_ejection, ..Outlier::default() };
    let world = World::new(2, policy);
    let mut now = 1;
    for (length, times) in [(30, 1), (60, 2), (70, 3), (70, 3)] {
        world.see(0, ERROR, 5);
        assert_eq!(world.ejected(now), [0]);
        let ejection = world.ejection(0);
        assert_eq!((ejection.length(), ejection.times), (seconds(length), times));
        now += length;
        assert!(world.ejected(now).is_empty());
    }
    // The sweep that comes with the return does not count: it was out for that interval.
    for passed in [10, 20] {
        assert!(world.ejected(now + passed).is_empty());
    }
    world.see(0, ERROR, 5);
    assert_eq!(world.ejected(now + 21), [0]);
    assert_eq!(world.ejection(0).times, 2, "two intervals, two forgiven");
}

#[test]
fn half_of_them_may_go_and_the_last_one_stays() {
    for (members, most) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (10, 5)] {
        let world = World::new(members, Outlier::default());
        (0..members).for_each(|index| world.see(index, REFUSED, 5));
        assert_eq!(world.ejected(1).len(), most, "of {members}");
        (0..members).for_each(|index| world.see(index, REFUSED, 50));
        assert_eq!(world.ejected(2).len(), most, "of {members}, later");
    }
    for (share, most) in [(0, 0), (1, 1), (100, 1), (101, 2), (1000, 9)] {
        let policy = Outlier { max_ejected: Permille(share), ..Outlier::default() };
        let world = World::new(10, policy);
        (0..10).for_each(|index| world.see(index, REFUSED, 5));
        assert_eq!(world.ejected(1).len(), most, "{share} ‰ of 10");
    }
}

#[test]
fn nobody_goes_whose_ejection_would_set_off_panic() {
    for (members, unhealthy, most) in [(2, 0, 1), (3, 0, 1), (5, 0, 2), (10, 0, 5), (10, 3, 2)] {
        let mut world = World::new(members, Outlier::default());
        world.panic = Permille(500);
        (0..unhealthy).for_each(|index| world.set_healthy(index, false, 0));
        (unhealthy..members).for_each(|index| world.see(index, REFUSED, 5));
        assert_eq!(world.ejected(1).len(), most, "of {members}, {unhealthy} unhealthy");
    }
    // New ones that wait for their first check are not looked at either way.
    let mut world = World::new(6, Outlier::default());
    world.panic = Permille(500);
    for member in &world.members[4..] {
        member.endpoint.availability.set_unproven();
    }
    (0..4).for_each(|index| world.see(index, REFUSED, 5));
    assert_eq!(world.ejected(1), [0, 1]);
}

#[test]
fn endpoints_that_checks_found_unhealthy_and_draining_ones_do_not_count_as_left() {
    let all = Outlier { max_ejected: Permille(1000), ..Outlier::default() };
    let mut world = World::new(4, all);
    world.members[2].draining = true;
    world.set_healthy(3, false, 1);
    (0..3).for_each(|index| world.see(index, ERROR, 5));
    assert_eq!(world.ejected(1), [0, 2], "1 is the last that is healthy and stays");
    world.set_healthy(1, false, 2);
    assert_eq!(world.ejected(2), [2], "0 is brought back when 1 fails its check");
    world.see(0, ERROR, 5);
    assert_eq!(world.ejected(3), [2], "and now is the last");
    world.set_healthy(0, false, 4);
    assert!(world.ejected(4).is_empty(), "one that is going away is better than none");
}

#[test]
fn when_the_others_leave_the_ejected_come_back_the_first_first() {
    let mut world = World::new(6, Outlier::default());
    for index in [2, 0, 1] {
        world.see(index, ERROR, 5);
        world.upkeep(at(index as u64 * 2 + 1));
    }
    assert_eq!(world.out(), [0, 1, 2]);
    world.members.truncate(4);
    world.detector.attend();
    assert_eq!(world.ejected(6), [1, 2], "of four only two may be out; 0 was nearest to its end");
}

#[test]
fn without_a_policy_everyone_is_back() {
    let mut world = World::new(2, Outlier::default());
    world.see(0, ERROR, 5);
    assert_eq!(world.ejected(1), [0]);
    world.policy = None;
    world.detector = Detector::new(None, at(2));
    assert!(world.ejected(2).is_empty());
    assert!(world.upkeep(at(1000)).is_none(), "and nothing is looked at any more");
}

#[test]
fn a_low_success_rate_ejects_but_noise_does_not() {
    let rates = |failures: [usize; 6], requests: usize| {
        let off = Outlier { consecutive_5xx: 0, consecutive_local: 0, ..Outlier::default() };
        let world = World::new(6, off);
        for (index, failures) in failures.into_iter().enumerate() {
            world.see(index, ERROR, failures);
            world.see(index, OK, requests - failures);
        }
        assert!(world.ejected(9).is_empty(), "not before the interval is over");
        world.ejected(10).first().map(|index| (*index, world.ejection(*index).reason.to_string()))
    };
    let (index, reason) = rates([2, 0, 40, 1, 2, 0], 100).expect("one is ejected");
    assert_eq!((index, reason.as_str()), (2, "success rate 60.0 %, below 64.8 %"));
    assert_eq!(rates([0, 0, 1, 0, 0, 0], 100), None, "one of a hundred is no outlier");
    assert_eq!(rates([2, 0, 40, 1, 2, 0], 99), None, "too few requests");
    assert_eq!(rates([50, 50, 50, 50, 50, 50], 100), None, "all alike");
}

#[test]
fn a_large_share_of_failures_ejects_the_worst_first() {
    let policy = Outlier {
        consecutive_5xx: 0,
        success_rate: None,
        failure_percentage: Some(FailurePercentage::default()),
        ejection: seconds(30),
        ..Outlier::default()
    };
    let world = World::new(6, policy);
    for (index, failures) in [0, 86, 85, 100, 84, 99].into_iter().enumerate() {
        world.see(index, OK, 100 - failures);
        world.see(index, ERROR, failures);
    }
    assert_eq!(world.ejected(10), [1, 3, 5], "half of them, the worst");
    assert_eq!(world.ejection(3).reason.to_string(), "100 of 100 requests failed");
    world.see(2, ERROR, 100);
    assert_eq!(world.ejected(20), [1, 3, 5], "too few endpoints with traffic");
}

#[test]
fn what_failed_before_an_ejection_is_not_held_against_it_afterwards() {
    let world = World::new(2, Outlier::default());
    world.see(0, ERROR, 5);
    assert_eq!(world.ejected(1), [0]);
    world.see(0, ERROR, 4); // were on their way
    assert!(world.ejected(31).is_empty());
    world.see(0, ERROR, 4);
    assert!(world.ejected(32).is_empty());
    world.see(0, ERROR, 1);
    assert_eq!(world.ejected(33), [0]);
}

/// An upstream with `ports` as its endpoints, as the data path meets it.
fn upstream(registry: &Registry, outlier: Option<Outlier>, ports: &[u16]) -> Arc<Upstream> {
    let spec = ir::Upstream {
        origin: Origin::default(),
        endpoints: Vec::new(),
        discovered: false,
        balance: ir::BalancePolicy { panic_threshold: Permille(0), ..Default::default() }.into(),
        health: None,
        outlier: outlier.map(Arc::new),
        limits: Arc::default(),
        protocol: ir::UpstreamProtocol::Http1,
        tls: None,
        pool: ir::PoolOptions::default(),
    };
    let target = |port: &u16| Target {
        address: ([127, 0, 0, 1], *port).into(),
        host: None,
        weight: 1,
        priority: 0,
        zone: None,
        draining: false,
    };
    let targets: Vec<_> = ports.iter().map(target).collect();
    let transport = Transport { protocol: spec.protocol, tls: None, pool: spec.pool.clone() };
    registry.obtain(&Name::from("app"), &Arc::new(spec), transport, &targets, at(0))
}

#[test]
fn an_upstream_ejects_what_it_observes_and_says_so() {
    let metrics = Metrics::new(1);
    let registry = Registry::new(metrics.clone(), Environment::new(1, 1));
    let live = upstream(&registry, Some(Outlier::default()), &[1, 2, 3]);
    let failing = live.endpoints().members()[0].endpoint.clone();
    let fail = |live: &Upstream| {
        let observation = Observation { latency: seconds(1), in_flight: 1, verdict: REFUSED };
        (0..5).for_each(|_| live.observe(&failing, observation, at(1)));
    };
    fail(&live);
    registry.upkeep(at(1));
    assert!(failing.ejection().is_some());
    let page = metrics.encode();
    for line in [
        r#"portcullis_upstream_ejections_total{upstream="app",reason="consecutive_local"} 1"#,
        r#"portcullis_upstream_ejected{upstream="app"} 1"#,
        r#"portcullis_endpoint_up{upstream="app",endpoint="127.0.0.1:1"} 0"#,
        r#"portcullis_endpoint_up{upstream="app",endpoint="127.0.0.1:2"} 1"#,
    ] {
        assert!(page.contains(line), "{line} in\n{page}");
    }

    // It survives another configuration of the upstream, and ends on time all the same.
    let stricter = Outlier { consecutive_5xx: 3, ..Outlier::default() };
    let live = upstream(&registry, Some(stricter), &[1, 2, 3]);
    registry.upkeep(at(10));
    assert!(failing.ejection().is_some());
    registry.upkeep(at(11));
    assert!(failing.ejection().is_none());
    let page = metrics.encode();
    assert!(page.contains(r#"portcullis_upstream_ejected{upstream="app"} 0"#), "{page}");
    assert!(page.contains(r#"portcullis_endpoint_up{upstream="app",endpoint="127.0.0.1:1"} 1"#));

    // Where the others leave, it is not left alone outside.
    fail(&live);
    registry.upkeep(at(40));
    assert!(failing.ejection().is_some());
    upstream(&registry, Some(Outlier { consecutive_5xx: 3, ..Outlier::default() }), &[1]);
    assert!(failing.ejection().is_none());
}
