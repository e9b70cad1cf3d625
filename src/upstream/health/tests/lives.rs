//! Groups of endpoints under checks: who is available when, and who is checked at all.

use std::net::SocketAddr;

use super::servers::{Script, Scripted, answer};
use super::*;
use crate::upstream::health::{HealthChecks, first_delay};
use crate::util::random::Random;

struct World {
    metrics: Metrics,
    registry: Registry,
    checks: HealthChecks,
}

fn target(address: SocketAddr) -> Target {
    let (host, zone) = (None, None);
    Target { address, host, weight: 1, priority: 0, zone, draining: false }
}

fn fast() -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(20),
        unhealthy_interval: Some(Duration::from_millis(10)),
        timeout: LIMIT,
        jitter: Permille(100),
        ..HealthCheck::new(Probe::Http(http("/")))
    }
}

impl World {
    fn new() -> Self {
        let metrics = Metrics::new(1);
        let registry = Registry::new(metrics.clone(), Environment::new(1, 1));
        Self { metrics, registry, checks: HealthChecks::new(5) }
    }

    /// The upstream `app` as the configuration has it now.
    fn obtain(&self, health: Option<HealthCheck>, targets: &[Target]) -> Arc<Upstream> {
        self.obtain_with(health, ir::BalancePolicy::default(), targets)
    }

    fn obtain_with(
        &self,
        health: Option<HealthCheck>,
        balance: ir::BalancePolicy,
        targets: &[Target],
    ) -> Arc<Upstream> {
        let spec = ir::Upstream {
            origin: Origin::default(),
            endpoints: Vec::new(),
            discovered: false,
            balance: balance.into(),
            health: health.map(Box::new),
            outlier: None,
            limits: Arc::default(),
            protocol: UpstreamProtocol::Http1,
            tls: None,
            pool: ir::PoolOptions::default(),
        };
        let transport = plain(UpstreamProtocol::Http1);
        self.registry.obtain(&Name::from("app"), &Arc::new(spec), transport, targets, Moment::now())
    }

    /// The control side's turn.
    fn upkeep(&mut self) {
        let changed = self.registry.take_changed();
        self.checks.follow(&self.registry, &changed, Moment::now());
        self.registry.upkeep(Moment::now());
    }

    /// Takes turns until `check` holds.
    async fn until(&mut self, what: &str, mut check: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            self.upkeep();
            if check() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{what}: not within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn endpoint(upstream: &Upstream, index: usize) -> Arc<Endpoint> {
    upstream.endpoints().members()[index].endpoint.clone()
}

fn available(upstream: &Upstream) -> Vec<bool> {
    let set = upstream.endpoints();
    set.members().iter().map(|member| member.endpoint.availability.is_available()).collect()
}

#[tokio::test]
async fn an_endpoint_goes_after_three_failures_and_comes_back_after_two_successes() {
    let mut world = World::new();
    let (good, flaky) = (Scripted::answering(200, "").await, Scripted::answering(200, "").await);
    let live = world.obtain(Some(fast()), &[target(good.address), target(flaky.address)]);
    assert_eq!(available(&live), [true, true], "before the first check");
    let second = endpoint(&live, 1);
    let row = |endpoint: &Endpoint| endpoint.last_check().map_or(0, |check| check.row);
    world.until("checks pass", || row(&second) >= 2).await;
    let check = second.last_check().expect("checked");
    assert_eq!((check.result, &*check.text), (CheckResult::Success, "status 200"));

    flaky.set(answer(500, ""));
    let seen = flaky.connections();
    world.until("it is found unhealthy", || available(&live) == [true, false]).await;
    assert!(flaky.connections() >= seen + 3, "not before the third failure");
    assert_eq!(second.last_check().expect("checked").result, CheckResult::Status);
    let page = world.metrics.encode();
    let label = format!(r#"upstream="app",endpoint="{}""#, flaky.address);
    assert!(page.contains(&format!("portcullis_endpoint_up{{{label}}} 0")), "{page}");
    let counted = format!(r#"portcullis_health_checks_total{{{label},result="status"}}"#);
    assert!(page.contains(&counted), "{page}");

    flaky.set(answer(200, ""));
    let seen = flaky.connections();
    world.until("it is healthy again", || available(&live) == [true, true]).await;
    assert!(flaky.connections() >= seen + 2, "not before the second success");
    assert!(second.availability.is_recovered(), "it comes back slowly");
}

#[tokio::test]
async fn the_very_first_check_decides_alone() {
    let mut world = World::new();
    let (good, bad) = (Scripted::answering(200, "").await, Scripted::new(Script::Hang).await);
    let patient = HealthCheck { rise: 100, fall: 100, ..fast() };
    let live = world.obtain(Some(patient), &[target(good.address), target(bad.address)]);
    world.until("one is found unhealthy", || available(&live) == [true, false]).await;
    world.until("more checks", || bad.connections() > 20 && good.connections() > 20).await;
    assert_eq!(available(&live), [true, false]);
}

#[tokio::test]
async fn a_new_endpoint_among_checked_ones_waits_for_its_first_check() {
    let mut world = World::new();
    let first = Scripted::answering(200, "").await;
    let slow = Scripted::new(Script::Stall).await;
    let live = world.obtain(Some(fast()), &[target(first.address)]);
    let old = endpoint(&live, 0);
    world.until("the first is checked", || old.last_check().is_some()).await;

    let two = [target(first.address), target(slow.address)];
    let live = world.obtain(Some(fast()), &two);
    assert_eq!(available(&live), [true, false]);
    let new = endpoint(&live, 1);
    world.until("it is being checked", || slow.connections() > 0).await;
    assert!(new.availability.is_unproven() && new.last_check().is_none());
    // The check under way ends badly; the next one is answered.
    slow.set(answer(200, ""));
    let stricter = HealthCheck { fall: 9, ..fast() };
    let live = world.obtain(Some(stricter), &two);
    world.until("it has passed", || available(&live) == [true, true]).await;
    assert!(!new.availability.is_recovered(), "it is new, not back");

    // With nobody else left it would not have waited.
    let third = Scripted::new(Script::Stall).await;
    let live = world.obtain(Some(fast()), &[target(first.address), target(third.address)]);
    assert_eq!(available(&live), [true, false]);
    let live = world.obtain(Some(fast()), &[target(third.address)]);
    assert_eq!(available(&live), [true]);
}

#[tokio::test]
async fn checks_are_per_endpoint_whatever_the_number_of_configurations() {
    let mut world = World::new();
    let server = Scripted::answering(200, "").await;
    let mut lives = vec![world.obtain(Some(fast()), &[target(server.address)])];
    world.until("a check", || server.connections() > 0).await;
    for share in 0..20 {
        // Other settings make other upstreams around the same endpoint.
        let panic_threshold = Permille(share);
        let balance = ir::BalancePolicy { panic_threshold, ..ir::BalancePolicy::default() };
        lives.push(world.obtain_with(Some(fast()), balance, &[target(server.address)]));
        world.upkeep();
    }
    assert_eq!(world.checks.len(), 1);
    let (seen, started) = (server.connections(), tokio::time::Instant::now());
    world.until("ten checks", || server.connections() >= seen + 10).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(150), "ten checks 20 ms apart took {took:?}");

    // The last configuration is the one that hears of it.
    server.set(Script::Hang);
    let last = lives.pop().expect("one");
    world.until("it is found out", || available(&last) == [false]).await;
}

#[tokio::test]
async fn draining_endpoints_are_checked_and_removed_ones_are_not() {
    let mut world = World::new();
    let (a, b) = (Scripted::answering(200, "").await, Scripted::answering(200, "").await);
    let draining = Target { draining: true, ..target(b.address) };
    let live = world.obtain(Some(fast()), &[target(a.address), draining]);
    world.until("both are checked", || a.connections() > 2 && b.connections() > 2).await;
    b.set(Script::Hang);
    world.until("the draining one is found out", || available(&live) == [true, false]).await;

    let live = world.obtain(Some(fast()), &[target(a.address)]);
    world.upkeep();
    assert_eq!(world.checks.len(), 1);
    let (left, other) = (b.connections(), a.connections());
    world.until("others are checked", || a.connections() > other + 5).await;
    assert!(b.connections() <= left + 1, "one check may have been on its way");

    drop(live);
    world.registry.forget_unused(|_| false);
    world.upkeep();
    assert!(world.checks.is_empty());
}

#[tokio::test]
async fn without_checks_in_the_configuration_what_they_said_is_forgotten() {
    let mut world = World::new();
    let (good, bad) = (Scripted::answering(200, "").await, Scripted::new(Script::Hang).await);
    let both = [target(good.address), target(bad.address)];
    let live = world.obtain(Some(fast()), &both);
    world.until("one is unhealthy", || available(&live) == [true, false]).await;
    let live = world.obtain(None, &both);
    world.until("both are trusted", || available(&live) == [true, true]).await;
    assert!(endpoint(&live, 1).last_check().is_none());
    assert!(world.checks.is_empty());
}

#[test]
fn first_checks_are_spread_over_the_interval_where_there_are_many() {
    let mut random = Random::new(3);
    let interval = Duration::from_secs(5);
    let mut tenths = [0; 10];
    for _ in 0..5_000 {
        let delay = first_delay(interval, 5_000, &mut random);
        tenths[(10.0 * delay.as_secs_f64() / interval.as_secs_f64()) as usize] += 1;
    }
    assert!(tenths.iter().all(|count| (400..600).contains(count)), "{tenths:?}");
    assert_eq!(first_delay(interval, 1, &mut random), Duration::ZERO);
    assert!(first_delay(interval, 11, &mut random) <= Duration::from_millis(10));
    assert!(first_delay(Duration::from_millis(1), 5_000, &mut random) <= Duration::from_millis(1));
}

#[tokio::test]
async fn so_many_dead_endpoints_do_not_hold_up_the_living() {
    let mut world = World::new();
    let alive = Scripted::answering(200, "").await;
    let dead = Scripted::new(Script::Stall).await;
    // One server under many names.
    let mut targets = vec![target(alive.address)];
    targets.extend((0..400).map(|number| {
        let host = Some(format!("dead-{number}.test").into());
        Target { host, ..target(dead.address) }
    }));
    let spec = HealthCheck { timeout: Duration::from_millis(300), ..fast() };
    let live = world.obtain(Some(spec), &targets);
    world
        .until("the dead are found out", || {
            let out = available(&live).into_iter().filter(|available| !available).count();
            out == 400
        })
        .await;
    let (seen, started) = (alive.connections(), tokio::time::Instant::now());
    world.until("ten checks of the living", || alive.connections() >= seen + 10).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
