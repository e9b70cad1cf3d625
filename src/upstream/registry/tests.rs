use super::*;
use crate::ir::{Location, Origin, Outlier};
use crate::telemetry::WorkerId;
use crate::upstream::balance::Pick;
use crate::util::random::Random;

const SECOND: u64 = 1_000_000_000;

fn spec(line: u32, max_idle: u32) -> ir::Upstream {
    let location = Location { file: "a.yaml".into(), line, column: 1 };
    ir::Upstream {
        origin: Origin { location: Some(location), ..Origin::default() },
        endpoints: Vec::new(),
        discovered: false,
        balance: Arc::default(),
        health: None,
        outlier: None,
        limits: Arc::default(),
        protocol: ir::UpstreamProtocol::Http1,
        tls: None,
        pool: ir::PoolOptions { max_idle, ..ir::PoolOptions::default() },
    }
}

fn registry() -> Registry {
    Registry::new(Metrics::new(1), Environment::new(1, 1))
}

fn obtain(registry: &Registry, name: &str, spec: ir::Upstream, ports: &[u16]) -> Arc<Upstream> {
    let transport = Transport { protocol: spec.protocol, tls: None, pool: spec.pool.clone() };
    let targets: Vec<_> = ports.iter().map(|port| target(*port)).collect();
    registry.obtain(&Name::from(name), &Arc::new(spec), transport, &targets, Moment(SECOND))
}

fn target(port: u16) -> Target {
    let address = ([127, 0, 0, 1], port).into();
    Target { address, host: None, weight: 1, priority: 0, zone: None, draining: false }
}

fn names(names: &[&str]) -> HashSet<Name> {
    names.iter().map(|name| Name::from(*name)).collect()
}

fn pick(upstream: &Upstream) {
    let (worker, now, random) = (WorkerId(0), Moment(SECOND), Random::new(1));
    upstream.pick(&mut Pick { worker, now, tried: &[], key: None, session: None, random });
}

#[test]
fn an_upstream_that_only_moved_within_its_file_stays_the_same() {
    let registry = registry();
    let first = obtain(&registry, "app", spec(3, 1), &[]);
    let moved = obtain(&registry, "app", spec(4, 1), &[]);
    assert!(Arc::ptr_eq(&first, &moved), "a comment above it");
    let other = obtain(&registry, "app", spec(3, 2), &[]);
    assert!(!Arc::ptr_eq(&first, &other), "another setting");
}

#[test]
fn an_upstream_is_looked_at_while_it_is_used_and_a_little_longer() {
    let registry = registry();
    let watched = |at: u64| {
        registry.upkeep(Moment(at * SECOND));
        let names = registry.environment.attention.take();
        names.iter().for_each(|name| registry.environment.attention.ask(name));
        names
    };
    let outlier = Some(Arc::new(Outlier::default()));
    let judged = obtain(&registry, "judged", ir::Upstream { outlier, ..spec(1, 1) }, &[1, 2]);
    let plain = obtain(&registry, "plain", spec(1, 1), &[3]);
    let new = registry.environment.attention.take();
    assert_eq!(new, names(&["judged", "plain"]), "new ones");
    new.iter().for_each(|name| registry.environment.attention.ask(name));
    assert_eq!(watched(1), names(&[]), "nothing goes on");
    pick(&plain);
    pick(&judged);
    assert_eq!(watched(31), names(&["judged", "plain"]));
    assert_eq!(watched(33), names(&["judged"]), "its rates are looked at once more");
    pick(&judged);
    assert_eq!(watched(40), names(&["judged"]));
    assert_eq!(watched(59), names(&["judged"]));
    // What its set was built from changed.
    assert_eq!(watched(80), names(&[]));
    plain.mark_stale();
    assert_eq!(watched(81), names(&["plain"]));
    registry.update_endpoints(&Name::from("judged"), &[target(2)], Moment(90 * SECOND));
    assert_eq!(watched(90), names(&["judged"]));
}

#[test]
fn those_who_follow_upstreams_hear_of_the_ones_that_changed() {
    let registry = registry();
    let app = obtain(&registry, "app", spec(1, 1), &[1]);
    obtain(&registry, "other", spec(1, 1), &[2]);
    assert_eq!(registry.take_changed(), names(&["app", "other"]));
    assert_eq!(registry.take_changed(), names(&[]));
    registry.update_endpoints(&Name::from("app"), &[target(3)], Moment(SECOND));
    assert_eq!(registry.take_changed(), names(&["app"]));
    // The other one is used by nobody, and this one is not to be used any more.
    registry.forget_unused(|name| name.as_str() == "other");
    assert_eq!(registry.take_changed(), names(&["app", "other"]));
    assert!(app.endpoints().members().iter().all(|member| member.endpoint.is_retired()));
    assert!(registry.upstreams().is_empty());
}

#[test]
fn what_left_is_forgotten_when_nothing_uses_it_any_more() {
    let registry = registry();
    let sizes = || {
        let known = registry.lock();
        (known.endpoints.len(), known.commons.len(), known.leaving.len() + known.left.len())
    };
    let app = obtain(&registry, "app", spec(1, 1), &[1, 2]);
    let busy = app.endpoints().members()[0].endpoint.clone();
    registry.update_endpoints(&app.name, &[target(2)], Moment(SECOND));
    registry.tidy();
    assert_eq!(sizes(), (2, 1, 1), "a request is still on its way to it");
    // It comes back as another one, in the place of the one that left.
    registry.update_endpoints(&app.name, &[target(1), target(2)], Moment(SECOND));
    registry.tidy();
    assert_eq!(sizes(), (2, 1, 0));
    drop(busy);
    registry.tidy();
    assert_eq!(sizes(), (2, 1, 0));
    registry.forget_unused(|_| false);
    assert_eq!(sizes(), (2, 1, 3), "the snapshot before is still used");
    // One that comes back with what its endpoints share is none of those that left.
    let again = obtain(&registry, "app", spec(1, 1), &[3]);
    registry.tidy();
    assert_eq!(sizes(), (3, 1, 2));
    drop(app);
    registry.tidy();
    assert_eq!(sizes(), (1, 1, 0));
    registry.forget_unused(|_| false);
    drop(again);
    registry.tidy();
    assert_eq!(sizes(), (0, 0, 0));
}
