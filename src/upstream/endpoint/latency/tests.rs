//! The average, failures, and what fades.

use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn at(milliseconds: u64) -> Moment {
    Moment(milliseconds * 1_000_000)
}

fn rule() -> LatencyRule {
    LatencyRule::new(&PeakEwma::default())
}

fn answered(latency: &Latency, took: Duration, now: Moment) {
    let verdict = Verdict::Responded(200);
    latency.observe(&rule(), Observation { in_flight: 0, latency: took, verdict }, now);
}

fn expected(latency: &Latency, now: Moment) -> f64 {
    latency.expected(&rule(), now).map_or(0.0, |nanos| f64::from(nanos) / 1e6)
}

#[test]
fn a_peak_is_believed_at_once_and_forgotten_slowly() {
    let latency = Latency::new();
    assert_eq!(latency.expected(&rule(), at(1000)), None);
    answered(&latency, MS * 10, at(1000));
    answered(&latency, MS * 500, at(1001));
    assert_eq!(expected(&latency, at(1001)).round(), 500.0);
    answered(&latency, MS * 10, at(11_001));
    let after = 500.0 * (-1f64).exp() + 10.0 * (1.0 - (-1f64).exp());
    assert!((expected(&latency, at(11_001)) - after).abs() < 1.0);
}

#[test]
fn who_has_answered_in_time_since_a_peak_is_believed_before_it_has_faded() {
    let latency = Latency::new();
    answered(&latency, MS * 500, at(1000));
    (1..=100).for_each(|n| answered(&latency, MS * 10, at(1000 + n)));
    // 31/32 of the rest remains each time.
    let after = 10.0 + 490.0 * (31.0f64 / 32.0).powi(100);
    assert!((expected(&latency, at(1100)) - after).abs() < 0.1);
}

#[test]
fn what_is_not_asked_fades() {
    let latency = Latency::new();
    answered(&latency, MS * 1000, at(1000));
    assert!((expected(&latency, at(11_000)) - 1000.0 * (-1f64).exp()).abs() < 2.0);
    assert_eq!(expected(&latency, at(1_001_000)), 0.0);
    assert!(latency.expected(&rule(), at(1_001_000)).is_some());
    assert_eq!(latency.average(), Some(Duration::from_secs(1)));
}

#[test]
fn a_clock_a_little_behind_makes_nothing_old() {
    let latency = Latency::new();
    answered(&latency, MS * 10, at(1000));
    assert_eq!(expected(&latency, at(990)).round(), 10.0);
    answered(&latency, MS * 5, at(990));
    assert_eq!(expected(&latency, at(1000)).round(), 10.0);
}

fn failed(latency: &Latency, took: Duration, now: Moment) {
    let verdict = Verdict::Responded(503);
    latency.observe(&rule(), Observation { in_flight: 0, latency: took, verdict }, now);
}

#[test]
fn an_endpoint_that_only_ever_failed_is_slow_however_fast_it_did() {
    for verdict in [
        Verdict::Responded(503),
        Verdict::Responded(429),
        Verdict::Failed(crate::telemetry::Reason::ConnectFailed),
    ] {
        let latency = Latency::new();
        latency.observe(&rule(), Observation { in_flight: 0, latency: MS, verdict }, at(1000));
        assert_eq!(expected(&latency, at(1000)).round(), 5000.0, "{verdict:?}");
    }
}

#[test]
fn one_that_goes_on_failing_is_slow_soon_and_comes_back_slowly() {
    let latency = Latency::new();
    (0..1000).for_each(|n| answered(&latency, MS * 20, at(1000 + n)));
    (0..100).for_each(|n| failed(&latency, MS, at(2000 + n)));
    assert!((60.0..80.0).contains(&expected(&latency, at(2100))), "a hundredth of the time");
    (100..5000).for_each(|n| failed(&latency, MS, at(2000 + n)));
    assert!(expected(&latency, at(7000)) > 1900.0);
    let later = expected(&latency, at(17_000));
    assert!((600.0..850.0).contains(&later), "{later}");
}

#[test]
fn requests_that_fail_now_and_then_cost_their_share() {
    let latency = Latency::new();
    for n in 0..60_000 {
        match n % 100 {
            0 => failed(&latency, MS * 20, at(1000 + n)),
            _ => answered(&latency, MS * 20, at(1000 + n)),
        }
    }
    let now = expected(&latency, at(61_000));
    // A hundredth of five seconds on top.
    assert!((68.0..72.0).contains(&now), "{now}");
    (0..300).for_each(|n| answered(&latency, MS * 20, at(61_000 + 1000 * n)));
    assert_eq!(expected(&latency, at(360_000)).round(), 20.0);
    assert_eq!(latency.failing.get(), (0.0, 0), "nothing is left to come round");
}

#[test]
fn a_failure_that_took_longer_than_usual_is_a_peak_too() {
    let latency = Latency::new();
    answered(&latency, MS * 20, at(1000));
    failed(&latency, MS * 900, at(1001));
    assert!(expected(&latency, at(1001)) >= 900.0);
}

#[test]
fn an_abandoned_attempt_says_only_that_it_took_longer() {
    let abandoned = |latency: &Latency, took| {
        let observation = Observation { in_flight: 0, latency: took, verdict: Verdict::Abandoned };
        latency.observe(&rule(), observation, at(1000));
    };
    let latency = Latency::new();
    abandoned(&latency, MS * 5);
    assert_eq!(latency.average(), None, "less than is assumed");
    abandoned(&latency, MS * 700);
    assert_eq!(expected(&latency, at(1000)).round(), 700.0);
    abandoned(&latency, MS * 5);
    assert_eq!(expected(&latency, at(1000)).round(), 700.0);
}

#[test]
fn what_was_before_a_recovery_is_forgotten_and_what_came_after_is_not() {
    let latency = Latency::new();
    answered(&latency, MS * 10, at(1000));
    latency.forget_before(at(1000));
    assert!(latency.average().is_some());
    failed(&latency, MS, at(1005));
    latency.forget_before(at(1001));
    assert!(expected(&latency, at(1005)) > 10.0, "it has failed since then");
    latency.forget_before(at(1006));
    assert_eq!(latency.expected(&rule(), at(1006)), None);
}

#[test]
fn fading_is_exponential() {
    for milliseconds in (0..46_000).step_by(100) {
        let exact = (-f64::from(milliseconds) / 10_000.0).exp();
        let got = f64::from(rule().faded(milliseconds));
        assert!((got / exact - 1.0).abs() < 0.04, "{milliseconds}: {got} for {exact}");
    }
    assert_eq!(rule().faded(u32::MAX), 0.0);
}

proptest! {
    /// The formula in double precision as the oracle.
    #[test]
    fn samples_make_the_average_of_the_formula(
        samples in prop::collection::vec((1u64..2000, 1u32..2000), 1..50)
    ) {
        let latency = Latency::new();
        let (mut now, mut average, mut before) = (1000, 0.0, 1000);
        for (wait, took) in samples {
            now += wait;
            answered(&latency, MS * took, at(now));
            let sample = f64::from(took);
            let faded = (-((now - before) as f64) / 10_000.0).exp().min(31.0 / 32.0);
            average = if sample >= average {
                sample
            } else {
                average * faded + sample * (1.0 - faded)
            };
            before = now;
            let got = expected(&latency, at(now));
            prop_assert!((got - average).abs() <= 0.001 * average, "{got} for {average}");
        }
    }
}
